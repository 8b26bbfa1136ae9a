//! Counters that need both a total since start and numbers per window: one relaxed addition per event.
//!
//! The live slot counts; the first event of a new tick of 10 s drains it into the closed slots and the totals, under
//! a lock that readers take too, so that a total never runs backwards.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use parking_lot::Mutex;

use super::windows::{Slot, Slots, Window};

/// `N` counters.
#[derive(Debug)]
pub(super) struct Tally<const N: usize> {
    tick: AtomicU32,
    live: [AtomicU32; N],
    closed: Mutex<History<N>>,
}

#[derive(Debug)]
struct History<const N: usize> {
    totals: [u64; N],
    slots: Slots<Counts<N>>,
}

#[derive(Clone, Copy, Debug)]
struct Counts<const N: usize>([u32; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Slot for Counts<N> {
    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum = sum.saturating_add(count));
    }
}

impl<const N: usize> Tally<N> {
    /// `keep_tens` slots of 10 s stay readable one by one.
    pub(super) fn new(keep_tens: u32) -> Self {
        Self {
            tick: AtomicU32::new(0),
            live: [const { AtomicU32::new(0) }; N],
            closed: Mutex::new(History { totals: [0; N], slots: Slots::with_tens(keep_tens) }),
        }
    }

    /// The same, which answers for six hours too.
    pub(super) fn for_six_hours(self) -> Self {
        let Self { tick, live, closed } = self;
        let History { totals, slots } = closed.into_inner();
        Self { tick, live, closed: Mutex::new(History { totals, slots: slots.for_six_hours() }) }
    }

    pub(super) fn count(&self, tick: u32, index: usize) {
        if tick > self.tick.load(Relaxed) {
            self.close_slot(tick);
        }
        if let Some(counter) = self.live.get(index) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Everything since start.
    pub(super) fn totals(&self) -> [u64; N] {
        let closed = self.closed.lock();
        let mut totals = closed.totals;
        add(&mut totals, &self.live_counts());
        totals
    }

    /// The counts of a window.
    pub(super) fn window(&self, window: Window, now: u32) -> [u64; N] {
        let now = self.read_at(now);
        let closed = self.closed.lock();
        let mut sums = [0; N];
        closed.slots.of(window, now).for_each(|slot| add(&mut sums, slot));
        if self.tick.load(Acquire) == now {
            add(&mut sums, &self.live_counts());
        }
        sums
    }

    /// The counts of each slot of 10 s that has any, oldest first, with its tick.
    pub(super) fn tens(&self, now: u32) -> Vec<(u32, [u32; N])> {
        self.read_at(now);
        let closed = self.closed.lock();
        let mut tens: Vec<_> = closed.slots.tens().map(|closed| (closed.tick, closed.slot.0)).collect();
        tens.push((self.tick.load(Acquire), self.live_counts().0));
        tens
    }

    fn live_counts(&self) -> Counts<N> {
        Counts(std::array::from_fn(|index| self.live.get(index).map_or(0, |counter| counter.load(Relaxed))))
    }

    fn read_at(&self, now: u32) -> u32 {
        let now = now.max(self.tick.load(Acquire));
        self.closed.lock().slots.forget(now);
        if now > self.tick.load(Acquire) {
            self.close_slot(now);
        }
        now
    }

    #[cold]
    fn close_slot(&self, now: u32) {
        let Some(mut closed) = self.closed.try_lock() else { return };
        let old = self.tick.load(Relaxed);
        if now <= old {
            return;
        }
        let mut slot = Counts::default();
        slot.0.iter_mut().zip(&self.live).for_each(|(count, live)| *count = live.swap(0, Relaxed));
        self.tick.store(now, Release);
        add(&mut closed.totals, &slot);
        if slot.0.iter().any(|count| *count != 0) {
            closed.slots.push(old, slot, now);
        } else {
            closed.slots.forget(now);
        }
    }
}

fn add<const N: usize>(sums: &mut [u64; N], counts: &Counts<N>) {
    sums.iter_mut().zip(counts.0).for_each(|(sum, count)| *sum += u64::from(count));
}

#[cfg(test)]
mod tests {
    use super::{Tally, Window};

    #[test]
    fn totals_keep_what_windows_forget() {
        let tally = Tally::<2>::new(90);
        tally.count(1, 0);
        tally.count(1, 1);
        tally.count(40, 1);

        assert_eq!(tally.window(Window::OneMinute, 40), [0, 1]);
        assert_eq!(tally.window(Window::OneHour, 40), [1, 2]);
        assert_eq!(tally.tens(41), [(1, [1, 1]), (40, [0, 1]), (41, [0, 0])]);
        assert_eq!(tally.tens(91), [(40, [0, 1]), (91, [0, 0])]);
        assert_eq!(tally.window(Window::OneHour, 1000), [0, 0]);
        assert_eq!(tally.totals(), [1, 2]);
    }

    #[test]
    fn totals_never_run_backwards_while_two_threads_count() {
        let tally = Tally::<1>::new(6);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..100_000).for_each(|at| tally.count(at / 500, 0)));
            }
            let mut last = 0;
            while last < 200_000 {
                let [total] = tally.totals();
                assert!(total >= last);
                last = total;
            }
        });
    }
}
