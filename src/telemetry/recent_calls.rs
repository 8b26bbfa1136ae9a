//! Calls to Claude by windows of time, for alerts and the health score, and by trace, for slow requests. Calls are few: one
//! lock around them is enough.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    TraceId,
    claude::Call,
    record::Outcome,
    windows::{Slot, Slots, Window},
};

/// Statuses with which Claude turns calls away: too many, or overloaded.
const REFUSED: [u16; 2] = [429, 529];

/// What calls of a time came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallWindow {
    /// Calls.
    pub calls: u64,
    /// Those that Claude answered with 429 or 529. Calls that were turned away here are not among them.
    pub refused: u64,
    /// Answered calls whose tokens or price are not known.
    pub unknown: u64,
    /// What they cost, in pico-dollars.
    pub cost: u64,
}

impl CallWindow {
    /// The share that was refused, in percent; none without calls.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of an hour")]
    pub fn refused_percent(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.refused as f64 * 100.0 / self.calls as f64)
    }

    fn of(call: &Call) -> Self {
        let is_theirs = !matches!(call.outcome, Outcome::Error(_));
        let is_unknown = !call.is_kept && (call.tokens.is_none() || call.cost.is_none());
        let is_answered = (200..300).contains(&call.status);
        Self {
            calls: 1,
            refused: u64::from(is_theirs && REFUSED.contains(&call.status)),
            unknown: u64::from(is_answered && is_unknown),
            cost: call.cost.unwrap_or(0),
        }
    }
}

impl Slot for CallWindow {
    fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.refused = self.refused.saturating_add(other.refused);
        self.unknown = self.unknown.saturating_add(other.unknown);
        self.cost = self.cost.saturating_add(other.cost);
    }
}

/// The calls of the last hour.
#[derive(Debug)]
pub(super) struct RecentCalls(Mutex<Recent>);

#[derive(Debug)]
struct Recent {
    tick: u32,
    live: CallWindow,
    closed: Slots<CallWindow>,
}

impl Default for RecentCalls {
    fn default() -> Self {
        Self(Mutex::new(Recent { tick: 0, live: CallWindow::default(), closed: Slots::an_hour() }))
    }
}

impl RecentCalls {
    pub(super) fn record(&self, call: &Call, tick: u32) {
        let mut recent = self.0.lock();
        recent.move_to(tick);
        recent.live.add(&CallWindow::of(call));
    }

    pub(super) fn window(&self, window: Window, tick: u32) -> CallWindow {
        let mut recent = self.0.lock();
        recent.move_to(tick);
        let mut sum = recent.live;
        recent.closed.of(window, recent.tick).for_each(|slot| sum.add(slot));
        sum
    }
}

impl Recent {
    fn move_to(&mut self, tick: u32) {
        if tick > self.tick {
            let slot = std::mem::take(&mut self.live);
            if slot.calls > 0 {
                self.closed.push(self.tick, slot, tick);
            } else {
                self.closed.forget(tick);
            }
            self.tick = tick;
        }
    }
}

/// Calls that a request waits for are told from others by their trace: that many are remembered.
const TRACED: usize = 512;

/// The last calls that name a trace.
#[derive(Debug, Default)]
pub(super) struct TracedCalls(Mutex<VecDeque<(TraceId, Instant, Instant)>>);

impl TracedCalls {
    pub(super) fn note(&self, call: &Call) {
        if call.trace.is_none() {
            return;
        }
        let mut calls = self.0.lock();
        if calls.len() == TRACED {
            calls.pop_front();
        }
        calls.push_back((call.trace, call.started, call.started + Duration::from_micros(call.total_us)));
    }

    /// How long calls with a trace were on their way between two times; what overlaps counts once.
    pub(super) fn time_of(&self, trace: TraceId, from: Instant, until: Instant) -> Duration {
        if trace.is_none() {
            return Duration::ZERO;
        }
        let calls = self.0.lock();
        let own = calls.iter().filter(|(id, ..)| *id == trace);
        let mut spans: Vec<_> = own.map(|(_, start, end)| ((*start).max(from), (*end).min(until))).collect();
        drop(calls);
        spans.sort();
        let mut sum = Duration::ZERO;
        let mut covered = from;
        for (start, end) in spans {
            sum += end.saturating_duration_since(start.max(covered));
            covered = covered.max(end);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Call, CallWindow, Outcome, RecentCalls, TraceId, TracedCalls, Window};

    #[test]
    fn refusals_of_our_own_are_not_claudes() {
        let recent = RecentCalls::default();
        recent.record(&Call { status: 529, cost: None, ..Call::example() }, 3);
        recent.record(&Call { status: 429, outcome: Outcome::Error("budget"), ..Call::example() }, 3);
        recent.record(&Call { tokens: None, ..Call::example() }, 40);

        let hour = recent.window(Window::OneHour, 41);
        assert_eq!(hour, CallWindow { calls: 3, refused: 1, unknown: 1, cost: 40 });
        assert_eq!(recent.window(Window::OneMinute, 41).calls, 1);
        assert_eq!(recent.window(Window::OneMinute, 46).calls, 0);
        assert_eq!(recent.window(Window::OneHour, 1000), CallWindow::default());
    }

    #[test]
    fn the_time_of_a_requests_calls_counts_overlaps_once() {
        let calls = TracedCalls::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let trace = crate::telemetry::Trace::fresh().id;
        for (from, ms, trace) in
            [(10, 100, trace), (60, 100, trace), (300, 500, trace), (0, 900, TraceId::default())]
        {
            calls.note(&Call { started: at(from), total_us: ms * 1000, trace, ..Call::example() });
        }

        let time = |from, until| calls.time_of(trace, at(from), at(until)).as_millis();

        assert_eq!(time(0, 1000), 150 + 500);
        assert_eq!(time(0, 400), 150 + 100);
        assert_eq!(time(200, 250), 0);
        assert_eq!(calls.time_of(TraceId::default(), at(0), at(1000)), Duration::ZERO);
    }
}
