//! The sections of the parts, over several pods: counts are added, of states the worst is told with the pod that has it.

use std::cmp::Reverse;

use super::{Backend, Budget, Cache, Claude, Decided, Key, Miss, REASONS, Redis, Source, Tier};
use crate::admin::{
    cache::TOP_KEYS,
    live::sections::podded,
    shapes::{percent, thousandths},
};
use crate::telemetry::{Exact, Summary};

impl Cache {
    /// The caches of several pods. Each pod has entries and room of its own.
    pub(in crate::admin::live) fn joined<'a>(parts: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut sum = parts.cloned().reduce(Self::and)?;
        sum.hit_percent = (sum.lookups > 0).then(|| percent(sum.hits, sum.lookups));
        sum.top_keys.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.key.cmp(&b.key)));
        sum.top_keys.truncate(TOP_KEYS);
        Some(sum)
    }

    fn and(mut self, other: Self) -> Self {
        add(&mut self.lookups, other.lookups);
        add(&mut self.hits, other.hits);
        add(&mut self.misses, other.misses);
        add(&mut self.bypass, other.bypass);
        add(&mut self.revalidated, other.revalidated);
        add(&mut self.entries, other.entries);
        add(&mut self.bytes, other.bytes);
        add(&mut self.bytes_max, other.bytes_max);
        add(&mut self.evictions, other.evictions);
        let same = |a: &Source, b: &Source| a.source == b.source;
        fold(&mut self.by_source, other.by_source, same, |sum, part| add(&mut sum.count, part.count));
        let same = |a: &Miss, b: &Miss| a.reason == b.reason;
        fold(&mut self.by_miss, other.by_miss, same, |sum, part| add(&mut sum.count, part.count));
        let same = |a: &Key, b: &Key| a.key == b.key;
        fold(&mut self.top_keys, other.top_keys, same, |sum, part| {
            add(&mut sum.hits, part.hits);
            sum.bytes = sum.bytes.max(part.bytes);
            sum.ttl_s = sum.ttl_s.max(part.ttl_s);
        });
        self
    }
}

impl Redis {
    /// The worst state among several pods, each with its name, and the sums of what was lost and what waits.
    pub(in crate::admin::live) fn joined(parts: &[(&str, &Self)]) -> Option<Self> {
        let rank = |redis: &Self| (redis.up, redis.breaker == "closed");
        let (pod, worst) = parts.iter().min_by(|(_, a), (_, b)| {
            let slower = b.ping_ms.unwrap_or(0.0).total_cmp(&a.ping_ms.unwrap_or(0.0));
            rank(a).cmp(&rank(b)).then(slower)
        })?;
        let sum = |count: fn(&Self) -> i64| {
            parts.iter().fold(0_i64, |sum, (_, part)| sum.saturating_add(count(part)))
        };
        let total = |count: fn(&Self) -> u64| {
            parts.iter().fold(0_u64, |sum, (_, part)| sum.saturating_add(count(part)))
        };
        Some(Self {
            error: worst.error.as_ref().map(|error| podded(pod, error)),
            losses: total(|part| part.losses),
            pending_writes: sum(|part| part.pending_writes),
            pending_purges: sum(|part| part.pending_purges),
            dropped_writes: total(|part| part.dropped_writes),
            pod: Some((*pod).to_owned()),
            ..(*worst).clone()
        })
    }
}

impl Backend {
    /// The worst state among several pods, each with its name and a backend of its own, and the sums of what is on its way.
    pub(in crate::admin::live) fn joined(parts: &[(&str, &Self)]) -> Option<Self> {
        let rank = |backend: &Self| match (backend.up, backend.breaker == "closed") {
            (Some(false), _) => 0,
            (_, false) => 1,
            (None, true) => 2,
            (Some(true), true) => 3,
        };
        let (pod, worst) = parts.iter().min_by(|(_, a), (_, b)| {
            let slower = b.probe_ms.unwrap_or(0.0).total_cmp(&a.probe_ms.unwrap_or(0.0));
            rank(a).cmp(&rank(b)).then(slower)
        })?;
        let sum = |count: fn(&Self) -> i64| {
            parts.iter().fold(0_i64, |sum, (_, part)| sum.saturating_add(count(part)))
        };
        Some(Self {
            in_flight: sum(|part| part.in_flight),
            places: parts.iter().fold(0, |sum, (_, part)| part.places.saturating_add(sum)),
            queued: sum(|part| part.queued),
            pod: Some((*pod).to_owned()),
            ..(*worst).clone()
        })
    }
}

impl Claude {
    /// The calls of several pods, with the times of each: whole calls, and first bytes of streams.
    pub(in crate::admin::live) fn joined<'a>(
        parts: impl Iterator<Item = (&'a Self, Option<&'a [Exact; 2]>)> + Clone,
    ) -> Option<Self> {
        let mut sum = parts.clone().map(|(part, _)| part.clone()).reduce(Self::and)?;
        let times = parts.filter_map(|(_, times)| times);
        let p95 = |(summary, _): (Summary, u64)| (summary.count > 0).then(|| thousandths(summary.p95_ms()));
        sum.call_p95_ms = p95(Exact::total(times.clone().map(|[whole, _]| whole)));
        sum.first_token_p95_ms = p95(Exact::total(times.map(|[_, first]| first)));
        sum.top_reasons.sort_by_key(|decided| Reverse(decided.count));
        sum.top_reasons.truncate(REASONS);
        Some(sum)
    }

    fn and(mut self, other: Self) -> Self {
        if other.since < self.since {
            self.since = other.since;
        }
        add(&mut self.calls, other.calls);
        add(&mut self.refused_429, other.refused_429);
        add(&mut self.refused_529, other.refused_529);
        add(&mut self.retries, other.retries);
        add(&mut self.estimated_calls, other.estimated_calls);
        add(&mut self.unknown_usage, other.unknown_usage);
        add_usd(&mut self.cost_usd, other.cost_usd);
        add_usd(&mut self.saved_vs_requested_usd, other.saved_vs_requested_usd);
        add_usd(&mut self.saved_vs_premium_usd, other.saved_vs_premium_usd);
        match (&mut self.would_save_usd, other.would_save_usd) {
            (Some(sum), Some(usd)) => add_usd(sum, usd),
            (none, usd) => *none = none.or(usd),
        }
        fold(&mut self.tiers, other.tiers, |a, b| a.tier == b.tier, |sum, part| sum.take(&part));
        // Replicas that share a Redis have one budget, and others each their own: the one that is spent most is told.
        fold(
            &mut self.budgets,
            other.budgets,
            |a, b| a.name == b.name,
            |sum: &mut Budget, part: Budget| {
                if part.spent_usd > sum.spent_usd {
                    (sum.spent_usd, sum.limit_usd) = (part.spent_usd, part.limit_usd);
                }
                add(&mut sum.refused, part.refused);
            },
        );
        let same = |a: &Decided, b: &Decided| a.reason == b.reason;
        fold(&mut self.top_reasons, other.top_reasons, same, |sum, part| add(&mut sum.count, part.count));
        self
    }
}

impl Tier {
    fn take(&mut self, other: &Self) {
        add(&mut self.calls, other.calls);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.cache_read_tokens, other.cache_read_tokens);
        add_usd(&mut self.cost_usd, other.cost_usd);
    }
}

fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

/// Dollars that were whole pico-dollars are such again after the addition.
fn add_usd(sum: &mut f64, usd: f64) {
    *sum = ((*sum + usd) * 1e12).round() / 1e12;
}

/// Adds each part to the one of `sums` that is the same, or puts it at the end.
fn fold<T>(sums: &mut Vec<T>, parts: Vec<T>, same: impl Fn(&T, &T) -> bool, mut join: impl FnMut(&mut T, T)) {
    for part in parts {
        match sums.iter_mut().find(|sum| same(sum, &part)) {
            Some(sum) => join(sum, part),
            None => sums.push(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json, to_value};

    use super::{Backend, Claude, Exact, Redis};

    #[test]
    fn the_worst_redis_and_backend_are_told_with_their_pods() {
        let redis = |up: bool, ping: Value, error: Value| -> Redis {
            from_value(
                json!({"up": up, "address": "redis:6379", "error": error, "since": null, "breaker": "closed",
                "ping_ms": ping, "ping_minutes": [], "losses": 1, "pending_writes": 2, "pending_purges": 0,
                "dropped_writes": 3}),
            )
            .unwrap()
        };
        let backend = |up: Value, breaker: &str| -> Backend {
            from_value(
                json!({"up": up, "since": null, "probe_ms": 3.0, "breaker": breaker, "breaker_since": null,
                "address": "http://127.0.0.1:8000", "in_flight": 2, "places": 64, "queued": 1}),
            )
            .unwrap()
        };
        let (well, slow, gone) = (
            redis(true, 0.4.into(), Value::Null),
            redis(true, 9.0.into(), Value::Null),
            redis(false, Value::Null, "connection refused".into()),
        );

        let all = to_value(Redis::joined(&[("a", &well), ("b", &gone), ("c", &slow)])).unwrap();
        let up = to_value(Redis::joined(&[("a", &well), ("c", &slow)])).unwrap();

        assert_eq!((&all["up"], &all["error"]), (&false.into(), &"b: connection refused".into()));
        assert_eq!(
            (&all["pod"], &all["losses"], &all["dropped_writes"]),
            (&"b".into(), &3.into(), &9.into())
        );
        assert_eq!((&up["pod"], &up["ping_ms"]), (&"c".into(), &9.0.into()));
        let (well, open, down) =
            (backend(true.into(), "closed"), backend(true.into(), "open"), backend(false.into(), "closed"));
        let pod = |parts: &[(&'static str, &Backend)]| {
            let joined = to_value(Backend::joined(parts)).unwrap();
            (joined["pod"].as_str().unwrap().to_owned(), joined["in_flight"].as_i64().unwrap())
        };
        assert_eq!(pod(&[("a", &well), ("b", &open), ("c", &down)]), ("c".to_owned(), 6));
        assert_eq!(pod(&[("a", &well), ("b", &open)]), ("b".to_owned(), 4));
    }

    #[test]
    fn calls_and_dollars_are_added_and_a_shared_budget_is_not() {
        let claude = |since: &str, cost: f64, tier: &str, spent: f64| -> Claude {
            from_value(json!({"mode": "route", "since": since, "calls": 10, "cost_usd": cost,
                "saved_vs_requested_usd": -0.1, "saved_vs_premium_usd": 1.0, "would_save_usd": null,
                "tiers": [{"tier": tier, "calls": 10, "input_tokens": 5, "output_tokens": 6, "cache_read_tokens": 7,
                    "cost_usd": cost}],
                "first_token_p95_ms": 1.0, "call_p95_ms": 2.0, "refused_429": 1, "refused_529": 0, "retries": 2,
                "estimated_calls": 0, "unknown_usage": 0,
                "budgets": [{"name": "daily", "spent_usd": spent, "limit_usd": 250.0, "refused": 1}],
                "top_reasons": [{"reason": "two_signals", "count": 3}, {"reason": tier, "count": 4}]}))
            .unwrap()
        };
        let (a, b) = (claude("2026-02", 0.1, "economy", 148.0), claude("2026-01", 0.2, "premium", 150.0));
        let times = |bucket: u16| {
            let own = Exact { sum_us: 20, max_us: 20, buckets: vec![(bucket, 1)], ..Exact::default() };
            [own, Exact::default()]
        };
        let (few, many) = (times(3), times(20));

        let sum = to_value(Claude::joined([(&a, Some(&few)), (&b, Some(&many))].into_iter())).unwrap();

        assert_eq!(
            (&sum["calls"], &sum["cost_usd"], &sum["since"]),
            (&20.into(), &0.3.into(), &"2026-01".into())
        );
        assert_eq!(sum["saved_vs_requested_usd"], -0.2);
        assert_eq!(sum["tiers"].as_array().unwrap().len(), 2);
        assert_eq!(
            sum["budgets"],
            json!([{"name": "daily", "spent_usd": 150.0, "limit_usd": 250.0, "refused": 2}])
        );
        assert_eq!(sum["top_reasons"][0], json!({"reason": "two_signals", "count": 6}));
        assert_eq!((&sum["call_p95_ms"], &sum["first_token_p95_ms"]), (&0.02.into(), &Value::Null));
    }
}
