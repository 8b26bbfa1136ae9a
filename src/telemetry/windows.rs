//! Time slots that add up to windows of 1 minute to 6 hours.
//!
//! The running 10 s slot belongs to whoever records; this file keeps the closed ones. A closed slot is added to the
//! running minute, and where six hours are kept a closed minute to the running five minutes. So a window is: the closed
//! slots of 10 s (1 m), or the closed minutes and the running one (5 m to 1 h), or the closed five minutes, the running
//! ones and the running minute (6 h), plus the recorder's live slot. There is no clock and no background job here: times
//! come in as ticks of 10 s, and old slots fall off when somebody records or reads.

use std::{collections::VecDeque, time::Duration};

/// The length of a tick.
pub(super) const TICK_SECONDS: u32 = 10;
const TICKS_PER_MINUTE: u32 = 6;
/// The slots of six hours are 72 of five minutes.
const TICKS_PER_FIVE: u32 = 5 * TICKS_PER_MINUTE;
const FIVES: u32 = 72;

/// A time window that ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Window {
    /// One minute: the running slot of 10 s and the five before it.
    OneMinute,
    /// Five minutes: the running minute and the four before it.
    FiveMinutes,
    /// A quarter of an hour: the running minute and the 14 before it.
    FifteenMinutes,
    /// Half an hour: the running minute and the 29 before it.
    HalfHour,
    /// One hour: the running minute and the 59 before it.
    #[default]
    OneHour,
    /// Six hours: the running five minutes and the 71 before them. Only what keeps six hours has it; else it is one hour.
    SixHours,
}

impl Window {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneMinute => "1m",
            Self::FiveMinutes => "5m",
            Self::FifteenMinutes => "15m",
            Self::HalfHour => "30m",
            Self::OneHour => "1h",
            Self::SixHours => "6h",
        }
    }

    /// The window of a query word. Queries know three.
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
            Self::FifteenMinutes => Duration::from_secs(900),
            Self::HalfHour => Duration::from_secs(1800),
            Self::OneHour => Duration::from_secs(3600),
            Self::SixHours => Duration::from_secs(6 * 3600),
        }
    }

    /// The time its slots really span after `uptime`: the running slot is seldom full, and the process may be young.
    /// Rates divide by this.
    #[must_use]
    pub fn covered(self, uptime: Duration) -> Duration {
        let slot = match self {
            Self::OneMinute => TICK_SECONDS,
            Self::FiveMinutes | Self::FifteenMinutes | Self::HalfHour | Self::OneHour => {
                TICK_SECONDS * TICKS_PER_MINUTE
            }
            Self::SixHours => TICK_SECONDS * TICKS_PER_FIVE,
        };
        let running = uptime.as_millis() % (u128::from(slot) * 1000);
        let closed = self.length().saturating_sub(Duration::from_secs(u64::from(slot)));
        let running = Duration::from_millis(u64::try_from(running).unwrap_or(0));
        uptime.min(closed + running)
    }

    const fn holds(self, slot_tick: u32, now: u32) -> bool {
        let minutes = match self {
            Self::OneMinute => return slot_tick + TICKS_PER_MINUTE > now,
            Self::SixHours => return slot_tick / TICKS_PER_FIVE + FIVES > now / TICKS_PER_FIVE,
            Self::FiveMinutes => 5,
            Self::FifteenMinutes => 15,
            Self::HalfHour => 30,
            Self::OneHour => 60,
        };
        slot_tick / TICKS_PER_MINUTE + minutes > now / TICKS_PER_MINUTE
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
    keeps_six_hours: bool,
    running_five: Option<Closed<S>>,
    fives: VecDeque<Closed<S>>,
}

impl<S: Slot> Slots<S> {
    /// Keeps an hour: the last minute in slots of 10 s and the rest in minutes.
    pub(super) const fn an_hour() -> Self {
        Self::with_tens(TICKS_PER_MINUTE)
    }

    /// Keeps the last `keep_tens` slots of 10 s, the running one included; the windows over a minute stay right.
    pub(super) const fn with_tens(keep_tens: u32) -> Self {
        Self {
            keep_tens,
            tens: VecDeque::new(),
            running_minute: None,
            minutes: VecDeque::new(),
            keeps_six_hours: false,
            running_five: None,
            fives: VecDeque::new(),
        }
    }

    /// The same, which keeps six hours too.
    pub(super) const fn for_six_hours(mut self) -> Self {
        self.keeps_six_hours = true;
        self
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
            self.add_to_five(&minute);
            self.minutes.push_back(minute);
        }
        self.forget_fives(now);
        while self.minutes.front().is_some_and(|closed| !Window::OneHour.holds(closed.tick, now)) {
            self.minutes.pop_front();
        }
    }

    fn add_to_five(&mut self, minute: &Closed<S>) {
        if !self.keeps_six_hours {
            return;
        }
        let over = |five: &mut Closed<S>| five.tick / TICKS_PER_FIVE < minute.tick / TICKS_PER_FIVE;
        if let Some(five) = self.running_five.take_if(over) {
            self.fives.push_back(five);
        }
        let five = self.running_five.get_or_insert_with(|| Closed { tick: minute.tick, slot: S::default() });
        five.slot.add(&minute.slot);
    }

    fn forget_fives(&mut self, now: u32) {
        if let Some(five) =
            self.running_five.take_if(|five| five.tick / TICKS_PER_FIVE < now / TICKS_PER_FIVE)
        {
            self.fives.push_back(five);
        }
        while self.fives.front().is_some_and(|closed| !Window::SixHours.holds(closed.tick, now)) {
            self.fives.pop_front();
        }
    }

    /// The closed slots of a window.
    pub(super) fn of(&self, window: Window, now: u32) -> impl Iterator<Item = &S> {
        let of_fives = window == Window::SixHours && self.keeps_six_hours;
        let of_minutes = window != Window::OneMinute && !of_fives;
        let tens = (window == Window::OneMinute).then_some(&self.tens).into_iter().flatten();
        let minutes = of_minutes.then_some(&self.minutes).into_iter().flatten();
        let fives = of_fives.then(|| self.fives.iter().chain(&self.running_five)).into_iter().flatten();
        let running = self.running_minute.iter().filter(move |_| window != Window::OneMinute);
        let held = move |closed: &&Closed<S>| window.holds(closed.tick, now);
        tens.chain(minutes).chain(fives).chain(running).filter(held).map(|closed| &closed.slot)
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
    fn six_hours_are_kept_where_they_are_wanted() {
        let mut slots = Slots::an_hour().for_six_hours();
        let mut short = Slots::an_hour();
        for tick in 0..5000 {
            slots.push(tick, 1, tick + 1);
            short.push(tick, 1, tick + 1);
        }

        // Tick 5000 runs: minute 833 began at tick 4998, the five minutes at 4980. Before them are 71 fives of 30 ticks.
        assert_eq!(sum(&slots, Window::SixHours, 5000), 71 * 30 + 20);
        assert_eq!(sum(&slots, Window::OneHour, 5000), sum(&short, Window::OneHour, 5000));
        assert_eq!(sum(&slots, Window::HalfHour, 5000), 29 * 6 + 2);
        assert_eq!(sum(&slots, Window::FifteenMinutes, 5000), 14 * 6 + 2);
        assert_eq!(sum(&short, Window::SixHours, 5000), sum(&short, Window::OneHour, 5000));
        assert!(slots.fives.len() <= 72 && slots.minutes.len() <= 60);
        slots.forget(5000 + 3 * 2160);
        assert_eq!(sum(&slots, Window::SixHours, 5000 + 3 * 2160), 0);
        assert_eq!(slots.fives.len(), 0);
    }

    #[test]
    fn a_pause_loses_nothing_of_six_hours() {
        let mut slots = Slots::an_hour().for_six_hours();
        slots.push(3, 7, 4);
        slots.push(400, 5, 401);

        assert_eq!(sum(&slots, Window::SixHours, 401), 12);
        assert_eq!(sum(&slots, Window::OneHour, 401), 5);
        assert_eq!(sum(&slots, Window::SixHours, 2159), 12);
        assert_eq!(sum(&slots, Window::SixHours, 2160), 5);
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
