//! Calls to Claude by windows of time, for alerts and the health score. Calls are few: one lock around them is enough.

use parking_lot::Mutex;

use super::{
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

#[cfg(test)]
mod tests {
    use super::{Call, CallWindow, Outcome, RecentCalls, Window};

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
}
