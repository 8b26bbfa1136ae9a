//! Numbers of one upstream: its connections, faults, retries, waits, and whether it is up.

use std::{
    sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed},
    time::SystemTime,
};

use parking_lot::Mutex;

use super::{
    counters::{Counter, Durations, Gauge, ReasonCounters},
    labels::labels,
};

labels! {
    /// The states of a breaker. The index is the value of the metric.
    pub enum BreakerState {
        /// Requests pass.
        Closed = "closed",
        /// One request is let through to see whether the upstream is back.
        HalfOpen = "half_open",
        /// Requests are refused.
        Open = "open",
    }
}

/// The numbers of one upstream.
#[derive(Debug)]
pub struct UpstreamStats {
    name: Box<str>,
    /// Connections made.
    pub connects: Counter,
    /// Requests sent over a pooled connection.
    pub reused: Counter,
    /// Faults by reason: failed connects, timeouts, malformed answers, refusals for want of a free place.
    pub errors: ReasonCounters,
    /// Requests sent a second time.
    pub retries: Counter,
    /// Retries that the budget did not allow.
    pub retries_denied: Counter,
    /// Interim answers of the upstream that were not passed on.
    pub interim_dropped: Counter,
    /// Requests at the upstream now.
    pub in_flight: Gauge,
    /// Requests waiting for a free place now.
    pub queued: Gauge,
    /// Idle connections in the pool now.
    pub idle: Gauge,
    /// How long connecting took.
    pub connect_time: Durations,
    /// How long requests waited for a free place; those that did not wait are not in it.
    pub queue_wait: Durations,
    failed_probes: AtomicU32,
    breaker: AtomicU8,
    breaker_opened: Counter,
    state: Mutex<UpState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct UpState {
    up: Option<bool>,
    last_ms: Option<f64>,
    down_since: Option<SystemTime>,
    breaker_since: Option<SystemTime>,
}

impl UpstreamStats {
    /// Numbers of an upstream that is not among those of [`Telemetry`](super::Telemetry): not in metrics, not in the health
    /// score. Those are made by [`Telemetry::upstream`](super::Telemetry::upstream).
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            connects: Counter::new(),
            reused: Counter::new(),
            errors: ReasonCounters::default(),
            retries: Counter::new(),
            retries_denied: Counter::new(),
            interim_dropped: Counter::new(),
            in_flight: Gauge::default(),
            queued: Gauge::default(),
            idle: Gauge::default(),
            connect_time: Durations::default(),
            queue_wait: Durations::default(),
            failed_probes: AtomicU32::new(0),
            breaker: AtomicU8::new(0),
            breaker_opened: Counter::new(),
            state: Mutex::new(UpState::default()),
        }
    }

    /// The `upstream` label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells the verdict of the health probes, and how long the last one took if it was answered.
    pub fn set_up(&self, up: bool, probe_ms: Option<f64>) {
        let mut state = self.state.lock();
        if up {
            state.down_since = None;
        } else if state.up != Some(false) {
            state.down_since = Some(SystemTime::now());
        }
        state.up = Some(up);
        state.last_ms = probe_ms;
    }

    /// Tells how many probes in a row have failed.
    pub fn set_failed_probes(&self, count: u32) {
        self.failed_probes.store(count, Relaxed);
    }

    /// How many probes in a row have failed.
    #[must_use]
    pub fn failed_probes(&self) -> u32 {
        self.failed_probes.load(Relaxed)
    }

    /// The verdict of the probes; none before the first.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        self.state.lock().up
    }

    /// How long the last probe took.
    #[must_use]
    pub fn probe_ms(&self) -> Option<f64> {
        self.state.lock().last_ms
    }

    /// Tells a change of the breaker.
    pub fn set_breaker(&self, breaker: BreakerState) {
        let old = self.breaker.swap(breaker as u8, Relaxed);
        let mut state = self.state.lock();
        match breaker {
            BreakerState::Closed => state.breaker_since = None,
            BreakerState::Open if old != breaker as u8 => {
                self.breaker_opened.increment();
                state.breaker_since.get_or_insert_with(SystemTime::now);
            }
            BreakerState::Open | BreakerState::HalfOpen => {}
        }
    }

    /// The breaker's state.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        BreakerState::ALL
            .get(usize::from(self.breaker.load(Relaxed)))
            .copied()
            .unwrap_or(BreakerState::Closed)
    }

    /// How often the breaker opened.
    #[must_use]
    pub fn breaker_opened(&self) -> u64 {
        self.breaker_opened.get()
    }

    /// Since when the probes fail.
    #[must_use]
    pub fn down_since(&self) -> Option<SystemTime> {
        self.state.lock().down_since
    }

    /// Since when the breaker has not been closed.
    #[must_use]
    pub fn breaker_since(&self) -> Option<SystemTime> {
        self.state.lock().breaker_since
    }
}

#[cfg(test)]
mod tests {
    use super::{BreakerState, UpstreamStats};

    #[test]
    fn a_breaker_that_opens_again_keeps_its_first_time() {
        let stats = UpstreamStats::new("backend");
        stats.set_breaker(BreakerState::Open);
        let since = stats.breaker_since();

        stats.set_breaker(BreakerState::HalfOpen);
        stats.set_breaker(BreakerState::Open);

        assert_eq!((stats.breaker(), stats.breaker_opened()), (BreakerState::Open, 2));
        assert!(since.is_some() && stats.breaker_since() == since);
        stats.set_breaker(BreakerState::Closed);
        assert_eq!(stats.breaker_since(), None);
    }

    #[test]
    fn an_upstream_is_neither_up_nor_down_before_the_first_probe() {
        let stats = UpstreamStats::new("backend");
        assert_eq!(stats.is_up(), None);

        stats.set_up(false, None);

        assert_eq!(stats.is_up(), Some(false));
        assert!(stats.down_since().is_some());
        stats.set_up(true, Some(1.5));
        assert_eq!((stats.down_since(), stats.probe_ms()), (None, Some(1.5)));
    }
}
