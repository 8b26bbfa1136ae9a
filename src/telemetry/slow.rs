//! Slow requests: the last 200 of them with the parts of their time, and one warning line each that says in words
//! where the time went. None is sampled away.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tracing::warn;

use super::{
    RouteStats, TraceId,
    parts::{Breakdown, Parts},
    record::{Basis, CacheStatus, Method, Reason, Record},
    routes::Times,
};

const KEPT: usize = 200;

/// One request that took longer than its route allows.
#[derive(Clone, Debug)]
pub struct SlowRequest {
    /// When it ended.
    pub at: SystemTime,
    /// Its route.
    pub route: Arc<RouteStats>,
    /// Its method.
    pub method: Method,
    /// The status of its answer.
    pub status: u16,
    /// Its path without the query; a copy, as the request's own buffer is large.
    pub path: Option<Box<str>>,
    /// What the cache did.
    pub cache: CacheStatus,
    /// Why.
    pub reason: Option<Reason>,
    /// What was measured: the whole exchange, or the time to the head of a stream.
    pub basis: Basis,
    /// The time over the limit and its parts.
    pub breakdown: Breakdown,
    /// The limit.
    pub limit_us: u32,
    /// Its trace.
    pub trace: TraceId,
}

impl SlowRequest {
    /// `claude` is the time of the backend's calls to Claude for this request, as far as they are proven.
    pub(super) fn new(record: &Record, times: &Times, limit_us: u32, claude: Duration) -> Self {
        let basis = record.kind.basis();
        // The body of a stream comes after what is measured here.
        let body_us = if basis == Basis::Whole { record.parts.body_us } else { 0 };
        let claude_us = u32::try_from(claude.as_micros()).unwrap_or(u32::MAX).min(record.parts.backend_us);
        let backend_us = record.parts.backend_us - claude_us;
        let parts = Parts { body_us, backend_us, claude_us, ..record.parts };
        Self {
            at: SystemTime::now(),
            route: Arc::clone(&record.route),
            method: record.method,
            status: record.status,
            path: record.path.as_ref().map(|path| path.path().into()),
            cache: record.cache,
            reason: record.reason,
            basis,
            breakdown: Breakdown::new(times.basis_us, &parts),
            limit_us,
            trace: record.trace,
        }
    }

    /// One sentence: what was slow, by how much, and what took the time.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (part, share) = self.breakdown.dominant();
        let subject = match self.basis {
            Basis::Whole => "took",
            Basis::FirstByte => "sent its first byte after",
        };
        format!(
            "{} {} {subject} {} ms, over its limit of {} ms; {share} % of it went into {}",
            self.method.as_str(),
            self.route.template(),
            self.breakdown.total_us() / 1000,
            self.limit_us / 1000,
            part.in_words(),
        )
    }

    /// The parts as `backend=2240.0ms own=1.2ms`, without those that took nothing.
    fn parts_in_words(&self) -> String {
        let parts = self.breakdown.parts().filter(|(_, us)| *us > 0);
        let words = parts.map(|(part, us)| format!("{}={:.1}ms", part.as_str(), f64::from(us) / 1000.0));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The last slow requests.
#[derive(Debug, Default)]
pub(super) struct SlowRing(Mutex<VecDeque<SlowRequest>>);

impl SlowRing {
    pub(super) fn push(&self, slow: SlowRequest) {
        warn!(
            route = slow.route.template(),
            method = slow.method.as_str(),
            status = slow.status,
            cache = slow.cache.as_str(),
            reason = slow.reason.map(Reason::as_str),
            parts = slow.parts_in_words(),
            trace_id = %slow.trace,
            "{}",
            slow.sentence()
        );
        let mut ring = self.0.lock();
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(slow);
    }

    /// Newest first.
    pub(super) fn all(&self) -> Vec<SlowRequest> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::Instant;
    use tracing::subscriber::with_default;

    use super::{CacheStatus, Method, Parts, Record, RouteStats, SlowRequest, SlowRing, Times};
    use crate::{
        config::Log,
        telemetry::{Capture, log::subscriber},
    };

    #[test]
    fn one_warning_line_says_where_the_time_went() {
        let capture = Capture::default();
        let route = Arc::new(RouteStats::new("/users/{id}", Duration::from_secs(2)));
        let parts = Parts { connect_us: 2_000_000, backend_us: 500_000, ..Parts::default() };
        let record = Record::new(route, Method::Get, Instant::now());
        let record = Record { status: 200, cache: CacheStatus::Miss, parts, ..record };
        let times = Times { tick: 0, head_us: 2_500_300, total_us: 2_500_300, basis_us: 2_500_300 };

        with_default(subscriber(&Log::default(), capture.clone()).0, || {
            SlowRing::default().push(SlowRequest::new(&record, &times, 2_000_000, Duration::ZERO));
        });

        let text = capture.text();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["route"]), (&"WARN".into(), &"/users/{id}".into()));
        assert_eq!(
            line["message"],
            "GET /users/{id} took 2500 ms, over its limit of 2000 ms; 79 % of it went into connecting to the backend"
        );
        assert_eq!(line["parts"], "connect=2000.0ms backend=500.0ms own=0.3ms");
    }
}
