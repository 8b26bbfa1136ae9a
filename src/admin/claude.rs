//! What calls to Claude came to: `model_routing_stats` of `/performance/metrics`, and `GET /performance/claude` with the
//! same by model, route, reason, identity and budget.

use http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;

use crate::admin::{
    Admin,
    answer::Reply,
    shapes::{Ordered, timestamp},
};
use crate::config::ModelTier;
use crate::telemetry::claude::{ClaudeStats, RoutingReason, Sum, Tokens, Totals};

/// What the original measured tiers by: the price of a premium call, and those of the three.
const PREMIUM: f64 = 15.0;
const FACTORS: [f64; ModelTier::COUNT] = [1.0, 3.0, PREMIUM];

/// Identities that are listed.
const LISTED: usize = 20;

/// Calls by tier. Without a plane for them there were none; what they would have cost is not known.
#[derive(Serialize)]
pub(super) struct ModelRouting {
    total_requests: u64,
    economy_usage: u64,
    standard_usage: u64,
    premium_usage: u64,
    cost_savings: f64,
    economy_percentage: f64,
    standard_percentage: f64,
    premium_percentage: f64,
    average_cost_savings: f64,
    input_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cost_usd: Option<f64>,
    saved_usd_vs_requested: Option<f64>,
    saved_usd_vs_premium: Option<f64>,
    estimated_calls: Option<u64>,
}

/// The answer to `/performance/claude`.
#[derive(Serialize)]
struct ClaudePerformance {
    timestamp: String,
    routing: bool,
    total: Spent,
    by_tier: Ordered<Spent>,
    by_model: Ordered<Spent>,
    by_route: Ordered<Spent>,
    by_identity: Ordered<Spent>,
    decisions: Vec<Decided>,
    breakpoints: Breakpoints,
    budgets: Ordered<Budget>,
    conversations: i64,
    estimated_calls: u64,
    usage_unknown_calls: u64,
}

#[derive(Serialize)]
struct Spent {
    calls: u64,
    input_tokens: u64,
    cache_read_tokens: u64,
    cache_write_5m_tokens: u64,
    cache_write_1h_tokens: u64,
    output_tokens: u64,
    cost_usd: f64,
    saved_usd_vs_requested: f64,
    saved_usd_vs_premium: f64,
}

#[derive(Serialize)]
struct Decided {
    wanted: &'static str,
    tier: &'static str,
    reason: &'static str,
    calls: u64,
}

#[derive(Serialize)]
struct Breakpoints {
    read: u64,
    written: u64,
    nothing: u64,
    stopped: u64,
}

#[derive(Serialize)]
struct Budget {
    spent_usd: f64,
    limit_usd: f64,
    refused: u64,
}

impl ModelRouting {
    pub(super) fn new(stats: Option<&ClaudeStats>) -> Self {
        let totals = stats.map(ClaudeStats::totals);
        let counts =
            totals.as_ref().map_or([0; ModelTier::COUNT], |totals| totals.tiers.map(|sum| sum.calls));
        let total: u64 = counts.iter().sum();
        let share = |count: u64| if total == 0 { 0.0 } else { float(count) * 100.0 / float(total) };
        let savings =
            counts.iter().zip(FACTORS).map(|(count, factor)| float(*count) * (PREMIUM - factor)).sum();
        let [economy, standard, premium] = counts;
        let of = |read: fn(&Tokens) -> u64| totals.as_ref().map(|totals| read(&totals.all.tokens));
        let money = |read: fn(&Sum) -> i128| totals.as_ref().map(|totals| dollars(read(&totals.all)));
        Self {
            total_requests: total,
            economy_usage: economy,
            standard_usage: standard,
            premium_usage: premium,
            cost_savings: savings,
            economy_percentage: share(economy),
            standard_percentage: share(standard),
            premium_percentage: share(premium),
            average_cost_savings: if total == 0 { 0.0 } else { savings / float(total) },
            input_tokens: of(|tokens| tokens.input),
            cache_read_tokens: of(|tokens| tokens.cache_read),
            cache_write_tokens: of(|tokens| tokens.cache_write_5m + tokens.cache_write_1h),
            output_tokens: of(|tokens| tokens.output),
            cost_usd: money(|sum| i128::from(sum.cost)),
            saved_usd_vs_requested: money(Sum::saved_vs_requested),
            saved_usd_vs_premium: money(Sum::saved_vs_premium),
            estimated_calls: totals.as_ref().map(|totals| totals.estimated),
        }
    }
}

impl Admin {
    /// What calls to Claude came to, in full.
    pub(super) fn claude_performance(&self) -> Reply {
        let Some(stats) = self.telemetry.claude() else {
            return Reply::detail(StatusCode::NOT_FOUND, "There is no claude section in the configuration");
        };
        let totals = stats.totals();
        let tiers = ModelTier::ALL.into_iter().zip(&totals.tiers);
        let breakpoint = |place: usize| totals.breakpoints.iter().filter_map(|all| all.get(place)).sum();
        let answer = ClaudePerformance {
            timestamp: timestamp(OffsetDateTime::now_utc()),
            routing: stats.is_routing(),
            total: Spent::new(&totals.all),
            by_tier: Ordered(tiers.map(|(tier, sum)| (tier.as_str().to_owned(), Spent::new(sum))).collect()),
            by_model: by_model(&totals),
            by_route: Ordered(
                totals.routes.iter().map(|(route, sum)| (route.to_string(), Spent::new(sum))).collect(),
            ),
            by_identity: Ordered(
                stats
                    .dearest(LISTED)
                    .iter()
                    .map(|(identity, sum)| (format!("{identity:08x}"), Spent::new(sum)))
                    .collect(),
            ),
            decisions: decisions(&totals),
            breakpoints: Breakpoints {
                read: breakpoint(0),
                written: breakpoint(1),
                nothing: breakpoint(2),
                stopped: breakpoint(3),
            },
            budgets: Ordered(
                stats
                    .budgets()
                    .iter()
                    .map(|(name, state)| {
                        let budget = Budget {
                            spent_usd: dollars(i128::from(state.spent)),
                            limit_usd: dollars(i128::from(state.limit)),
                            refused: state.refused,
                        };
                        (name.to_string(), budget)
                    })
                    .collect(),
            ),
            conversations: stats.conversations.get(),
            estimated_calls: totals.estimated,
            usage_unknown_calls: totals.usage_unknown,
        };
        Reply::json(StatusCode::OK, &answer)
    }
}

impl Spent {
    fn new(sum: &Sum) -> Self {
        Self {
            calls: sum.calls,
            input_tokens: sum.tokens.input,
            cache_read_tokens: sum.tokens.cache_read,
            cache_write_5m_tokens: sum.tokens.cache_write_5m,
            cache_write_1h_tokens: sum.tokens.cache_write_1h,
            output_tokens: sum.tokens.output,
            cost_usd: dollars(i128::from(sum.cost)),
            saved_usd_vs_requested: dollars(sum.saved_vs_requested()),
            saved_usd_vs_premium: dollars(sum.saved_vs_premium()),
        }
    }
}

/// By model; one that answers for two tiers is one.
fn by_model(totals: &Totals) -> Ordered<Spent> {
    let mut models: Vec<(String, Sum)> = Vec::new();
    for ((_, model), sum) in &totals.models {
        match models.iter_mut().find(|(name, _)| **name == **model) {
            Some((_, known)) => known.join(sum),
            None => models.push((model.to_string(), *sum)),
        }
    }
    Ordered(models.into_iter().map(|(name, sum)| (name, Spent::new(&sum))).collect())
}

/// Decisions, the most frequent first.
fn decisions(totals: &Totals) -> Vec<Decided> {
    let word = |tier: Option<ModelTier>| tier.map_or("other", ModelTier::as_str);
    let mut all: Vec<_> = totals
        .decisions
        .iter()
        .filter_map(|((wanted, tier, reason), calls)| {
            let reason = RoutingReason::ALL.get(*reason)?.as_str();
            Some(Decided { wanted: word(*wanted), tier: word(*tier), reason, calls: *calls })
        })
        .collect();
    all.sort_by_key(|decided| std::cmp::Reverse(decided.calls));
    all
}

/// Pico-dollars as dollars, to the micro-dollar's millionth.
#[expect(clippy::cast_precision_loss, reason = "JSON knows only floats; sums are kept as whole numbers")]
pub(super) fn dollars(pico: i128) -> f64 {
    pico as f64 / 1e12
}

#[expect(clippy::cast_precision_loss, reason = "JSON knows only floats; sums are kept as whole numbers")]
const fn float(count: u64) -> f64 {
    count as f64
}
