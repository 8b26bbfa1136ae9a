//! The samples of the Claude plane.

use super::{Samples, Text, float, signed};
use crate::{
    config::ModelTier,
    telemetry::{
        claude::{Breakpoint, ClaudeStats, RoutingReason, Sum, Totals},
        metrics::{Family, claude as metrics},
    },
};

/// The label of models outside the tiers.
const OTHER: &str = "other";

/// Pico-dollars in a dollar.
const PICO: f64 = 1e12;

pub(super) fn write(stats: &ClaudeStats, text: &mut Text) {
    let totals = stats.totals();
    calls(&totals, text);
    text.family(&metrics::CALL_DURATION, |samples| {
        stats.durations().for_each(|(tier, whole, _)| durations_if_any(samples, tier, whole));
    });
    text.family(&metrics::FIRST_TOKEN, |samples| {
        stats.durations().for_each(|(tier, _, first)| durations_if_any(samples, tier, first));
    });
    text.family(&metrics::OVERHEAD, |samples| samples.durations(&[], &stats.overhead));
    money(&totals, text);
    events(&totals, text);
    text.family(&metrics::BUDGET_USED, |samples| {
        for (name, budget) in stats.budgets() {
            samples.value(&[&name], float(budget.spent) / float(budget.limit.max(1)));
        }
    });
    text.family(&metrics::BUDGET_REFUSED, |samples| {
        stats.budgets().iter().for_each(|(name, budget)| samples.count(&[name], budget.refused));
    });
    text.gauge(&metrics::CONVERSATIONS, signed(stats.conversations.get()));
    text.count(&metrics::EVICTIONS, stats.evictions.get());
}

fn calls(totals: &Totals, text: &mut Text) {
    text.family(&metrics::CALLS, |samples| {
        for (((tier, model), status), count) in &totals.statuses {
            samples.count(&[word(*tier), model, &status.to_string()], *count);
        }
    });
    text.family(&metrics::DECISIONS, |samples| {
        for ((wanted, tier, reason), count) in &totals.decisions {
            let reason = RoutingReason::ALL.get(*reason).map_or(OTHER, |reason| reason.as_str());
            samples.count(&[word(*wanted), word(*tier), reason], *count);
        }
    });
}

fn money(totals: &Totals, text: &mut Text) {
    text.family(&metrics::TOKENS, |samples| {
        for (tier, sum) in by_tier(totals) {
            for (kind, count) in sum.tokens.by_kind() {
                samples.count_if_any(&[tier, kind], count);
            }
        }
    });
    text.family(&metrics::COST, |samples| {
        for ((tier, model), sum) in &totals.models {
            samples.value(&[word(*tier), model], float(sum.cost) / PICO);
        }
    });
    text.family(&metrics::BASELINE_COST, |samples| {
        samples.value(&["requested"], float(totals.all.baseline_requested) / PICO);
        samples.value(&["premium"], float(totals.all.baseline_premium) / PICO);
    });
    text.family(&metrics::ROUTE_COST, |samples| {
        for (route, sum) in &totals.routes {
            samples.value(&[route], float(sum.cost) / PICO);
        }
    });
}

fn events(totals: &Totals, text: &mut Text) {
    for (family, counts) in [
        (&metrics::RETRIES, &totals.retries),
        (&metrics::FALLBACKS, &totals.fallbacks),
        (&metrics::TRANSFORMS, &totals.transforms),
        (&metrics::BATCH_ITEMS, &totals.batch_items),
        (&metrics::SHARED, &totals.shared),
        (&metrics::RESPONSE_CACHE, &totals.response_cache),
    ] {
        text.family(family, |samples| {
            counts.iter().for_each(|(what, count)| samples.count(&[what], *count));
        });
    }
    text.family(&metrics::BREAKPOINTS, |samples| {
        for (ttl, counts) in ["5m", "1h"].into_iter().zip(&totals.breakpoints) {
            for (result, count) in Breakpoint::ALL.into_iter().zip(counts) {
                samples.count_if_any(&[ttl, result.as_str()], *count);
            }
        }
    });
    text.family(&metrics::REFUSALS, |samples| {
        for (tier, count) in ModelTier::ALL.into_iter().zip(totals.refusals) {
            samples.count(&[tier.as_str()], count);
        }
    });
    text.gauge(&metrics::WOULD_SAVE, signed(totals.would_save) / PICO);
    let counts: [(&'static Family, u64); 6] = [
        (&metrics::USAGE_UNKNOWN, totals.usage_unknown),
        (&metrics::NOT_COUNTED, totals.not_counted),
        (&metrics::ESTIMATED, totals.estimated),
        (&metrics::TRIMMED, totals.trimmed),
        (&metrics::NEAR_WINDOW, totals.near_window),
        (&metrics::BAD_OVERRIDES, totals.bad_overrides),
    ];
    for (family, count) in counts {
        text.count(family, count);
    }
}

/// The sums of the tiers; what belongs to none comes last.
fn by_tier(totals: &Totals) -> impl Iterator<Item = (&'static str, Sum)> {
    let mut rest = Sum::default();
    for ((tier, _), sum) in &totals.models {
        if tier.is_none() {
            rest.join(sum);
        }
    }
    ModelTier::ALL.into_iter().map(ModelTier::as_str).zip(totals.tiers).chain([(OTHER, rest)])
}

fn word(tier: Option<ModelTier>) -> &'static str {
    tier.map_or(OTHER, ModelTier::as_str)
}

fn durations_if_any(samples: &mut Samples, tier: &str, durations: &super::Durations) {
    if durations.count() > 0 {
        samples.durations(&[tier], durations);
    }
}
