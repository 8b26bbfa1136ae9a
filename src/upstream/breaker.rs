//! A circuit breaker: after a burst of failed connections the upstream is left alone for a moment, and then tried with
//! one request before all of them.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    config,
    telemetry::{BreakerState as State, UpstreamStats},
};

/// One upstream's breaker. Its state lies with the upstream's numbers; while it is closed and nothing fails, asking it
/// costs one atomic load.
pub struct Breaker {
    settings: config::Breaker,
    stats: Arc<UpstreamStats>,
    inner: Mutex<Inner>,
}

struct Inner {
    failures: u32,
    window_start: Instant,
    reopens_at: Instant,
    open_for: Duration,
}

impl Breaker {
    /// A closed breaker that tells `stats` of its changes.
    #[must_use]
    pub fn new(stats: Arc<UpstreamStats>, settings: &config::Breaker) -> Self {
        let now = Instant::now();
        Self {
            settings: settings.clone(),
            stats,
            inner: Mutex::new(Inner {
                failures: 0,
                window_start: now,
                reopens_at: now,
                open_for: settings.open,
            }),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.stats.breaker()
    }

    /// True when a call may go out. In the open state the first call after the pause becomes the probe.
    pub fn allows(&self) -> bool {
        match self.state() {
            State::Closed => true,
            State::HalfOpen => {
                // A probe whose client left never reports; the next one may go after another pause.
                let mut inner = self.inner.lock();
                let now = Instant::now();
                if now < inner.reopens_at {
                    return false;
                }
                inner.reopens_at = now + inner.open_for;
                true
            }
            State::Open => {
                let mut inner = self.inner.lock();
                let now = Instant::now();
                if now < inner.reopens_at || self.state() != State::Open {
                    return false;
                }
                inner.reopens_at = now + inner.open_for;
                self.stats.set_breaker(State::HalfOpen);
                true
            }
        }
    }

    /// Reports a call that reached the upstream.
    pub fn succeeded(&self) {
        if self.state() != State::HalfOpen {
            return;
        }
        let mut inner = self.inner.lock();
        if self.state() != State::HalfOpen {
            return;
        }
        inner.failures = 0;
        inner.open_for = self.settings.open;
        self.stats.set_breaker(State::Closed);
        info!(upstream = self.stats.name(), "the breaker is closed: the upstream answers again");
    }

    /// Reports a failed connection.
    pub fn failed(&self) {
        if !self.settings.enabled {
            return;
        }
        let mut inner = self.inner.lock();
        let now = Instant::now();
        if now - inner.window_start > self.settings.window {
            inner.window_start = now;
            inner.failures = 0;
        }
        inner.failures += 1;
        match self.state() {
            State::Closed if inner.failures >= self.settings.failures => {
                inner.open_for = self.settings.open;
                self.open(&mut inner, now);
                warn!(
                    upstream = self.stats.name(),
                    failures = inner.failures,
                    "the breaker is open: connections to the upstream fail"
                );
            }
            State::HalfOpen => {
                inner.open_for = (inner.open_for * 2).min(self.settings.open_max);
                self.open(&mut inner, now);
            }
            State::Closed | State::Open => {}
        }
    }

    fn open(&self, inner: &mut Inner, now: Instant) {
        inner.reopens_at = now + jittered(inner.open_for);
        self.stats.set_breaker(State::Open);
    }
}

/// Up to a fifth more than `time`, so that replicas do not probe in step.
fn jittered(time: Duration) -> Duration {
    // Each `RandomState` is seeded anew, so its hash of nothing is a random number.
    let noise = RandomState::new().hash_one(()) % 200;
    time + time * u32::try_from(noise).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::sync::Arc;

    use super::{Breaker, State};
    use crate::{
        config,
        telemetry::{Facts, Telemetry},
    };

    fn breaker() -> Breaker {
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        Breaker::new(Arc::clone(&telemetry.upstream("backend")), &config::Breaker::default())
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_a_burst_and_lets_one_probe_through() {
        let breaker = breaker();
        for _ in 0..4 {
            breaker.failed();
        }
        assert!(breaker.allows());

        breaker.failed();
        assert_eq!(breaker.state(), State::Open);
        assert!(!breaker.allows());
        pass(2).await;

        assert!(breaker.allows());
        assert!(!breaker.allows());
        breaker.succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_doubles_the_pause() {
        let breaker = breaker();
        for _ in 0..5 {
            breaker.failed();
        }
        pass(2).await;
        assert!(breaker.allows());
        breaker.failed();

        tokio::time::advance(Duration::from_millis(1900)).await;
        assert!(!breaker.allows());
        pass(1).await;
        assert!(breaker.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_far_apart_do_not_add_up() {
        let breaker = breaker();
        for _ in 0..20 {
            breaker.failed();
            pass(2).await;
        }

        assert_eq!(breaker.state(), State::Closed);
    }
}
