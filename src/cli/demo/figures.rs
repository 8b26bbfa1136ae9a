//! The numbers of the status line: counts from the proxy's own statistics, latencies as the pretended users saw them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;

use super::backend::Backend;

/// Latencies kept per kind; about ten minutes of the demo's traffic.
const SAMPLES: usize = 2_000;

/// What the status line shows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) requests: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) hit_p95: Option<Duration>,
    pub(super) miss_p95: Option<Duration>,
    /// What the hits would have cost the backend, at its mean time per route.
    pub(super) saved: Duration,
}

/// What the pretended users saw, shared by all of them.
#[derive(Default)]
pub(super) struct Observed {
    latencies: Mutex<Latencies>,
}

#[derive(Default)]
struct Latencies {
    hits: VecDeque<Duration>,
    misses: VecDeque<Duration>,
}

impl Observed {
    /// Notes how long a head took, by the cache status that it carries. Other statuses say nothing about the cache.
    pub(super) fn note(&self, headers: &HeaderMap, head_after: Duration) {
        let mut latencies = self.latencies.lock();
        // Who waited for another user's fetch has a hit, but tells nothing about the speed of the cache.
        let collapsed =
            headers.get("cache-status").is_some_and(|value| value.as_bytes().ends_with(b"collapsed"));
        let samples = match headers.get("x-cache-status").map(http::HeaderValue::as_bytes) {
            Some(b"hit") if collapsed => return,
            Some(b"hit") => &mut latencies.hits,
            Some(b"miss") => &mut latencies.misses,
            _ => return,
        };
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(head_after);
    }

    fn p95(&self) -> (Option<Duration>, Option<Duration>) {
        let latencies = self.latencies.lock();
        (nearest_rank(&latencies.hits, 95), nearest_rank(&latencies.misses, 95))
    }
}

/// Reads `GET /performance/cache/stats` of the admin listener. Absent members count as nothing.
pub(super) fn combine(statistics: &Value, observed: &Observed, backend: &Arc<Backend>) -> Figures {
    let (hits, misses) = (number(statistics, "cache_hits"), number(statistics, "cache_misses"));
    let routes = statistics.get("by_route").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let saved = routes.iter().map(|route| {
        let template = route.get("route").and_then(Value::as_str).unwrap_or_default();
        let hits = u32::try_from(number(route, "hits")).unwrap_or(u32::MAX);
        backend.mean(template).unwrap_or_default().saturating_mul(hits)
    });
    let (hit_p95, miss_p95) = observed.p95();
    Figures {
        requests: hits + misses + number(statistics, "bypass"),
        hits,
        misses,
        hit_p95,
        miss_p95,
        saved: saved.sum(),
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// The percentile by the nearest-rank method; `None` without samples.
fn nearest_rank(samples: &VecDeque<Duration>, percent: usize) -> Option<Duration> {
    let mut sorted: Vec<Duration> = samples.iter().copied().collect();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc, time::Duration};

    use http::{HeaderMap, Request};
    use serde_json::json;

    use super::{Backend, Figures, Observed, SAMPLES, combine, nearest_rank};
    use crate::net::{Body, Context, Service as _};

    #[test]
    fn the_nearest_rank_is_exact() {
        let samples: VecDeque<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        let one = VecDeque::from([Duration::from_millis(7)]);

        assert_eq!(nearest_rank(&samples, 95), Some(Duration::from_millis(95)));
        assert_eq!(nearest_rank(&one, 95), Some(Duration::from_millis(7)));
        assert_eq!(nearest_rank(&VecDeque::new(), 95), None);
    }

    #[test]
    fn only_hits_and_misses_are_noted_and_no_more_than_the_bound() {
        let observed = Observed::default();
        for status in ["hit", "miss", "bypass"] {
            let headers =
                HeaderMap::from_iter([("x-cache-status".parse().unwrap(), status.parse().unwrap())]);
            for _ in 0..SAMPLES + 10 {
                observed.note(&headers, Duration::from_millis(1));
            }
        }

        let latencies = observed.latencies.lock();
        assert_eq!((latencies.hits.len(), latencies.misses.len()), (SAMPLES, SAMPLES));
    }

    #[test]
    fn absent_statistics_are_zero_and_never_an_error() {
        let backend = Arc::new(Backend::new(1));

        let figures = combine(&json!({ "cache_hits": "many" }), &Observed::default(), &backend);

        assert_eq!(figures, Figures::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hit_saves_what_the_backend_needs_for_that_route() {
        let backend = Arc::new(Backend::new(1));
        let request = Request::get("/api/challenges").body(Body::empty()).unwrap();
        backend.call(request, Context::internal()).await;
        let mean = backend.mean("/api/challenges").unwrap();
        let statistics = json!({ "cache_hits": 10, "cache_misses": 1, "bypass": 2,
            "by_route": [{ "route": "/api/challenges", "hits": 10 }, { "route": "unmatched", "hits": 3 }] });

        let figures = combine(&statistics, &Observed::default(), &backend);

        assert_eq!(figures.requests, 13);
        assert_eq!(figures.saved, mean * 10);
    }
}
