//! `GET /performance/cache/stats`: hits and misses of a window with their causes, and the memory tier as it is now.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::admin::{
    Admin,
    answer::Reply,
    shapes::{Ordered, RedisStats, hundredths},
};
use crate::telemetry::{Fwd, HitSource, Operation, Window};

/// Keys that are shown.
pub(super) const TOP_KEYS: usize = 10;

/// The answer.
#[derive(Serialize)]
struct CacheStats<'a> {
    cache_hit_rate_percent: f64,
    total_cache_operations: u64,
    cache_hits: u64,
    cache_misses: u64,
    redis_stats: RedisStats,
    fallback_cache_size: u64,
    performance_targets: Targets,
    window_s: u64,
    bypass: u64,
    bytes: u64,
    bytes_max: u64,
    evictions: u64,
    stores: u64,
    purges: u64,
    by_source: Ordered<u64>,
    miss_reasons: Ordered<u64>,
    revalidated: u64,
    by_route: Vec<Route<'a>>,
    top_keys: Vec<Key>,
}

#[derive(Serialize)]
struct Targets {
    target_hit_rate: u8,
    current_status: &'static str,
}

#[derive(Serialize)]
struct Route<'a> {
    route: &'a str,
    hits: u64,
    misses: u64,
    bypass: u64,
    hit_rate_percent: Option<f64>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) key: String,
    pub(super) hits: u64,
    pub(super) bytes: u64,
    pub(super) ttl_s: i64,
}

impl Admin {
    /// The cache statistics of a window.
    pub(super) fn cache_stats(&self, window: Window) -> Reply {
        let now = Instant::now();
        let counted = self.telemetry.cache_window(window, now);
        let sizes = self.telemetry.cache_sizes().unwrap_or_default();
        let operations = self.telemetry.operation_windows(window, now);
        let count = |wanted| {
            operations
                .iter()
                .filter(|(operation, _)| *operation == wanted)
                .map(|(_, summary)| summary.count)
                .sum()
        };
        let rate = counted.hit_rate_percent();
        let on_target = rate.is_none_or(|rate| rate >= f64::from(self.terms().cache_hit_target));
        let answer = CacheStats {
            cache_hit_rate_percent: hundredths(rate.unwrap_or(0.0)),
            total_cache_operations: counted.hits() + counted.misses(),
            cache_hits: counted.hits(),
            cache_misses: counted.misses(),
            redis_stats: RedisStats::new(self.telemetry.redis().as_deref(), sizes.entries),
            fallback_cache_size: sizes.entries,
            performance_targets: Targets {
                target_hit_rate: self.terms().cache_hit_target,
                current_status: if on_target { "healthy" } else { "needs_improvement" },
            },
            window_s: window.length().as_secs(),
            bypass: counted.bypass,
            bytes: sizes.bytes,
            bytes_max: sizes.bytes_max,
            evictions: sizes.evictions,
            stores: count(Operation::Store),
            purges: count(Operation::Purge),
            by_source: Ordered(words(&counted.by_source, HitSource::as_str)),
            miss_reasons: Ordered(words(&counted.by_fwd, Fwd::as_str)),
            revalidated: counted.revalidated,
            by_route: counted
                .by_route
                .iter()
                .map(|route| Route {
                    route: route.route.template(),
                    hits: route.hits,
                    misses: route.misses,
                    bypass: route.bypass,
                    hit_rate_percent: route.hit_rate_percent().map(hundredths),
                })
                .collect(),
            top_keys: top_keys(self),
        };
        Reply::json(StatusCode::OK, &answer)
    }
}

/// The most used entries.
pub(super) fn top_keys(admin: &Admin) -> Vec<Key> {
    let keys = admin.terms().sources.cache.as_ref().map(|cache| cache.top_keys(TOP_KEYS)).unwrap_or_default();
    let key = keys.into_iter().take(TOP_KEYS);
    key.map(|key| Key { key: key.key, hits: key.hits, bytes: key.bytes, ttl_s: key.ttl_s }).collect()
}

fn words<T: Copy>(counts: &[(T, u64)], word: impl Fn(T) -> &'static str) -> Vec<(String, u64)> {
    counts.iter().map(|(value, count)| (word(*value).to_owned(), *count)).collect()
}
