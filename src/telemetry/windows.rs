//! Time slots that add up to the windows of 1 minute, 5 minutes and 1 hour.
//!
//! The running 10 s slot belongs to whoever records; this file keeps the closed ones. A closed slot is added to the
//! running minute, so a window is: the closed slots of 10 s (1 m), or the closed minutes and the running one (5 m,
//! 1 h), plus the recorder's live slot. There is no clock and no background job here: times come in as ticks of
//! 10 s, and old slots fall off when somebody records or reads.

use std::{collections::VecDeque, time::Duration};

/// The length of a tick.
pub(super) const TICK_SECONDS: u32 = 10;
const TICKS_PER_MINUTE: u32 = 6;

/// A time window that ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Window {
    /// One minute: the running slot of 10 s and the five before it.
    OneMinute,
    /// Five minutes: the running minute and the four before it.
    FiveMinutes,
    /// One hour: the running minute and the 59 before it.
    #[default]
    OneHour,
}

impl Window {
    /// The word in queries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneMinute => "1m",
            Self::FiveMinutes => "5m",
            Self::OneHour => "1h",
        }
    }

    /// The window of a query word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::OneMinute, Self::FiveMinutes, Self::OneHour].into_iter().find(|window| window.as_str() == name)
    }

    /// Its nominal length.
    #[must_use]
    pub const fn length(self) -> Duration {
        match self {
            Self::OneMinute => Duration::from_secs(60),
            Self::FiveMinutes => Duration::from_secs(300),
            Self::OneHour => Duration::from_secs(3600),
        }
    }

    /// The time its slots really span after `uptime`: the running slot is seldom full, and the process may be young.
    /// Rates divide by this.
    #[must_use]
    pub fn covered(self, uptime: Duration) -> Duration {
        let slot = match self {
            Self::OneMinute => TICK_SECONDS,
            Self::FiveMinutes | Self::OneHour => TICK_SECONDS * TICKS_PER_MINUTE,
        };
        let running = uptime.as_millis() % (u128::from(slot) * 1000);
        let closed = self.length().saturating_sub(Duration::from_secs(u64::from(slot)));
        let running = Duration::from_millis(u64::try_from(running).unwrap_or(0));
        uptime.min(closed + running)
    }

    const fn holds(self, slot_tick: u32, now: u32) -> bool {
        match self {
            Self::OneMinute => slot_tick + TICKS_PER_MINUTE > now,
            Self::FiveMinutes => slot_tick / TICKS_PER_MINUTE + 5 > now / TICKS_PER_MINUTE,
            Self::OneHour => slot_tick / TICKS_PER_MINUTE + 60 > now / TICKS_PER_MINUTE,
        }
    }
}

/// What can be kept per slot.
pub(super) trait Slot: Default {
    /// Adds another slot's numbers to this one's.
    fn add(&mut self, other: &Self);
}

/// One closed slot and the tick at which it began.
#[derive(Debug)]
pub(super) struct Closed<S> {
    pub(super) tick: u32,
    pub(super) slot: S,
}

/// The closed slots of one series.
#[derive(Debug)]
pub(super) struct Slots<S> {
    keep_tens: u32,
    tens: VecDeque<Closed<S>>,
    running_minute: Option<Closed<S>>,
    minutes: VecDeque<Closed<S>>,
}

impl<S: Slot> Slots<S> {
    /// Keeps an hour: the last minute in slots of 10 s and the rest in minutes.
    pub(super) const fn an_hour() -> Self {
        Self::with_tens(TICKS_PER_MINUTE)
    }

    /// Keeps the last `keep_tens` slots of 10 s, the running one included; the windows over a minute stay right.
    pub(super) const fn with_tens(keep_tens: u32) -> Self {
        Self { keep_tens, tens: VecDeque::new(), running_minute: None, minutes: VecDeque::new() }
    }

    /// Closes a slot that began at `tick`; `now` is the running tick.
    pub(super) fn push(&mut self, tick: u32, slot: S, now: u32) {
        self.forget(tick);
        let minute = self.running_minute.get_or_insert_with(|| Closed { tick, slot: S::default() });
        minute.slot.add(&slot);
        self.tens.push_back(Closed { tick, slot });
        self.forget(now);
    }

    /// Drops what no window holds any more.
    pub(super) fn forget(&mut self, now: u32) {
        while self.tens.front().is_some_and(|closed| closed.tick + self.keep_tens <= now) {
            self.tens.pop_front();
        }
        let over = |closed: &mut Closed<S>| closed.tick / TICKS_PER_MINUTE < now / TICKS_PER_MINUTE;
        if let Some(minute) = self.running_minute.take_if(over) {
            self.minutes.push_back(minute);
        }
        while self.minutes.front().is_some_and(|closed| !Window::OneHour.holds(closed.tick, now)) {
            self.minutes.pop_front();
        }
    }

    /// The closed slots of a window.
    pub(super) fn of(&self, window: Window, now: u32) -> impl Iterator<Item = &S> {
        let tens = (window == Window::OneMinute).then_some(&self.tens).into_iter().flatten();
        let minutes = (window != Window::OneMinute).then_some(&self.minutes).into_iter().flatten();
        let running = self.running_minute.iter().filter(move |_| window != Window::OneMinute);
        let held = move |closed: &&Closed<S>| window.holds(closed.tick, now);
        tens.chain(minutes).chain(running).filter(held).map(|closed| &closed.slot)
    }

    /// The closed slots of 10 s, oldest first.
    pub(super) fn tens(&self) -> impl Iterator<Item = &Closed<S>> {
        self.tens.iter()
    }

    /// The closed minutes and the running one, oldest first. Their ticks are those of their first slots.
    pub(super) fn minutes(&self) -> impl Iterator<Item = &Closed<S>> {
        self.minutes.iter().chain(&self.running_minute)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Slot, Slots, Window};

    impl Slot for u64 {
        fn add(&mut self, other: &Self) {
            *self += other;
        }
    }

    fn sum(slots: &Slots<u64>, window: Window, now: u32) -> u64 {
        slots.of(window, now).sum()
    }

    #[test]
    fn each_window_holds_its_slots_and_no_older_ones() {
        let mut slots = Slots::an_hour();
        for tick in 0..1000 {
            slots.push(tick, 1, tick + 1);
        }

        // Tick 1000 runs: minute 166 began at tick 996.
        assert_eq!(sum(&slots, Window::OneMinute, 1000), 5);
        assert_eq!(sum(&slots, Window::FiveMinutes, 1000), 4 * 6 + 4);
        assert_eq!(sum(&slots, Window::OneHour, 1000), 59 * 6 + 4);
    }

    #[test]
    fn windows_forget_without_further_records() {
        let mut slots = Slots::an_hour();
        slots.push(3, 7, 4);

        assert_eq!(sum(&slots, Window::OneMinute, 8), 7);
        assert_eq!(sum(&slots, Window::OneMinute, 9), 0);
        assert_eq!(sum(&slots, Window::FiveMinutes, 29), 7);
        assert_eq!(sum(&slots, Window::FiveMinutes, 30), 0);
        assert_eq!(sum(&slots, Window::OneHour, 359), 7);
        assert_eq!(sum(&slots, Window::OneHour, 360), 0);
        slots.forget(360);
        assert_eq!(slots.minutes().count() + slots.tens().count(), 0);
    }

    #[test]
    fn the_covered_time_is_the_uptime_at_first_and_then_the_slots() {
        let covered = |window: Window, seconds| window.covered(Duration::from_secs(seconds)).as_secs();

        assert_eq!(covered(Window::OneMinute, 0), 0);
        assert_eq!(covered(Window::OneMinute, 42), 42);
        assert_eq!(covered(Window::OneMinute, 60), 50);
        assert_eq!(covered(Window::OneMinute, 1009), 59);
        assert_eq!(covered(Window::FiveMinutes, 200), 200);
        assert_eq!(covered(Window::OneHour, 86_430), 3570);
    }
}
