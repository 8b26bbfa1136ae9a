//! The sections of the parts: the cache with its Redis tier, the backend, and the calls to Claude. What is not configured is
//! `null`.

use serde::{Deserialize, Serialize};

use super::sections::{Moment, Word, at, rate};
use crate::admin::{
    cache::{Key, top_keys},
    claude::dollars,
    shapes::{breaker_of, thousandths},
};
use crate::config::{CacheMode, ModelTier};
use crate::telemetry::{
    RedisDrop, Summary, UpstreamStats,
    claude::{RoutingReason, Sum, Totals},
};

mod joined;

/// Reasons of routing that are shown: the most frequent.
const REASONS: usize = 5;

/// The cache.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Cache {
    mode: Word,
    hit_percent: Option<f64>,
    target_percent: u8,
    lookups: u64,
    hits: u64,
    misses: u64,
    bypass: u64,
    revalidated: u64,
    by_source: Vec<Source>,
    by_miss: Vec<Miss>,
    top_keys: Vec<Key>,
    entries: u64,
    bytes: u64,
    bytes_max: u64,
    evictions: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Source {
    source: Word,
    count: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Miss {
    reason: Word,
    count: u64,
}

impl Cache {
    /// None without an ingress plane.
    pub(super) fn new(moment: &Moment<'_>) -> Option<Self> {
        let admin = moment.admin;
        admin.terms().sources.backend.as_ref()?;
        let (counted, sizes) = (&moment.cache, admin.telemetry.cache_sizes().unwrap_or_default());
        let is = |mode| admin.terms().cache_mode == mode;
        Some(Self {
            mode: if is(CacheMode::Off) {
                "off".into()
            } else if is(CacheMode::Observe) {
                "observe".into()
            } else {
                "serve".into()
            },
            hit_percent: rate(counted.hit_rate_percent()),
            target_percent: admin.terms().cache_hit_target,
            lookups: counted.hits() + counted.misses(),
            hits: counted.hits(),
            misses: counted.misses(),
            bypass: counted.bypass,
            revalidated: counted.revalidated,
            by_source: counted
                .by_source
                .iter()
                .map(|(source, count)| Source { source: source.as_str().into(), count: *count })
                .collect(),
            by_miss: counted
                .by_fwd
                .iter()
                .map(|(fwd, count)| Miss { reason: fwd.as_str().into(), count: *count })
                .collect(),
            top_keys: top_keys(admin),
            entries: sizes.entries,
            bytes: sizes.bytes,
            bytes_max: sizes.bytes_max,
            evictions: sizes.evictions,
        })
    }
}

/// The Redis tier.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Redis {
    up: bool,
    address: String,
    error: Option<String>,
    since: Option<String>,
    breaker: Word,
    ping_ms: Option<f64>,
    ping_minutes: Vec<Option<f64>>,
    losses: u64,
    pending_writes: i64,
    pending_purges: i64,
    dropped_writes: u64,
    /// Whose state it is, where several pods were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
}

impl Redis {
    pub(super) fn new(moment: &Moment<'_>) -> Option<Self> {
        let telemetry = &moment.admin.telemetry;
        let stats = telemetry.redis()?;
        let drops: [(RedisDrop, u64); RedisDrop::COUNT] = {
            let mut all = stats.drops();
            std::array::from_fn(|place| all.next().unwrap_or((RedisDrop::ALL[place], 0)))
        };
        let minutes = telemetry.redis_minutes(moment.now);
        Some(Self {
            up: stats.is_up(),
            address: stats.address().to_owned(),
            error: stats.error(),
            since: stats.down_since().or_else(|| stats.changed()).map(at),
            breaker: breaker_of(&stats).into(),
            ping_ms: stats.ping_ms().filter(|_| stats.is_up()).map(thousandths),
            ping_minutes: minutes.into_iter().map(|ms| ms.map(thousandths)).collect(),
            losses: stats.losses(),
            pending_writes: stats.pending.get(),
            pending_purges: stats.pending_purges.get(),
            dropped_writes: drops.iter().map(|(_, count)| count).sum(),
            pod: None,
        })
    }
}

/// The backend.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Backend {
    up: Option<bool>,
    since: Option<String>,
    probe_ms: Option<f64>,
    breaker: Word,
    breaker_since: Option<String>,
    address: String,
    in_flight: i64,
    places: u32,
    queued: i64,
    /// Whose state it is, where several pods were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
}

impl Backend {
    pub(super) fn new(moment: &Moment<'_>) -> Option<Self> {
        let (address, places) = moment.admin.terms().backend_facts.clone()?;
        let upstreams = moment.admin.telemetry.upstreams();
        let stats: &UpstreamStats = upstreams.iter().find(|stats| stats.name() == "backend")?;
        Some(Self {
            up: stats.is_up(),
            since: stats.down_since().map(at),
            probe_ms: stats.probe_ms().map(thousandths),
            breaker: stats.breaker().as_str().into(),
            breaker_since: stats.breaker_since().map(at),
            address,
            in_flight: stats.in_flight.get(),
            places,
            queued: stats.queued.get(),
            pod: None,
        })
    }
}

/// The calls to Claude.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Claude {
    mode: Word,
    since: String,
    calls: u64,
    cost_usd: f64,
    saved_vs_requested_usd: f64,
    saved_vs_premium_usd: f64,
    would_save_usd: Option<f64>,
    tiers: Vec<Tier>,
    first_token_p95_ms: Option<f64>,
    call_p95_ms: Option<f64>,
    refused_429: u64,
    refused_529: u64,
    retries: u64,
    estimated_calls: u64,
    unknown_usage: u64,
    budgets: Vec<Budget>,
    top_reasons: Vec<Decided>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Tier {
    tier: Word,
    calls: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    cost_usd: f64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Budget {
    name: String,
    spent_usd: f64,
    limit_usd: f64,
    refused: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Decided {
    reason: Word,
    count: u64,
}

impl Claude {
    /// The calls of this pod.
    pub(super) fn new(moment: &Moment<'_>) -> Option<Self> {
        let mut claude = Self::part(moment)?;
        claude.top_reasons.truncate(REASONS);
        Some(claude)
    }

    /// The calls of this pod. What is to be added to that of others needs all reasons.
    pub(super) fn part(moment: &Moment<'_>) -> Option<Self> {
        let telemetry = &moment.admin.telemetry;
        let (stats, mode) = (telemetry.claude()?, moment.admin.terms().claude_mode?);
        let totals = stats.totals();
        let [whole, first] = telemetry.call_times(moment.window, moment.now)?;
        let p95 = |summary: Summary| (summary.count > 0).then(|| thousandths(summary.p95_ms()));
        let with_status = |wanted: u16| {
            totals.statuses.iter().filter(|((_, status), _)| *status == wanted).map(|(_, count)| count).sum()
        };
        let budgets = stats.budgets();
        let budget = |(name, state): (&std::sync::Arc<str>, &crate::telemetry::claude::BudgetState)| Budget {
            name: name.to_string(),
            spent_usd: dollars(i128::from(state.spent)),
            limit_usd: dollars(i128::from(state.limit)),
            refused: state.refused,
        };
        Some(Self {
            mode: mode.as_str().into(),
            since: at(telemetry.started_at()),
            calls: totals.all.calls,
            cost_usd: dollars(i128::from(totals.all.cost)),
            saved_vs_requested_usd: dollars(totals.all.saved_vs_requested()),
            saved_vs_premium_usd: dollars(totals.all.saved_vs_premium()),
            would_save_usd: (!stats.is_routing()).then(|| dollars(i128::from(totals.would_save))),
            tiers: tiers(&totals),
            first_token_p95_ms: p95(first),
            call_p95_ms: p95(whole),
            refused_429: with_status(429),
            refused_529: with_status(529),
            retries: totals.retries.values().sum(),
            estimated_calls: totals.estimated,
            unknown_usage: totals.usage_unknown,
            budgets: budgets.iter().map(budget).collect(),
            top_reasons: top_reasons(&totals),
        })
    }
}

/// Calls by tier. What belongs to none comes last, and only if there is any.
fn tiers(totals: &Totals) -> Vec<Tier> {
    let tier = |tier: &'static str, sum: &Sum| Tier {
        tier: tier.into(),
        calls: sum.calls,
        input_tokens: sum.tokens.input,
        output_tokens: sum.tokens.output,
        cache_read_tokens: sum.tokens.cache_read,
        cost_usd: dollars(i128::from(sum.cost)),
    };
    let mut tiers: Vec<_> =
        ModelTier::ALL.into_iter().zip(&totals.tiers).map(|(name, sum)| tier(name.as_str(), sum)).collect();
    let mut none = Sum::default();
    for ((_, _), sum) in totals.models.iter().filter(|((tier, _), _)| tier.is_none()) {
        none.join(sum);
    }
    if none.calls > 0 {
        tiers.push(tier("none", &none));
    }
    tiers
}

fn top_reasons(totals: &Totals) -> Vec<Decided> {
    let mut counts = [0; RoutingReason::COUNT];
    for ((_, _, reason), count) in &totals.decisions {
        if let Some(sum) = counts.get_mut(*reason) {
            *sum += count;
        }
    }
    let mut all: Vec<_> = RoutingReason::ALL
        .into_iter()
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| Decided { reason: reason.as_str().into(), count })
        .collect();
    all.sort_by_key(|decided| std::cmp::Reverse(decided.count));
    all
}
