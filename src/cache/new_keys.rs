//! How many keys a route may add within a minute: a flood of made-up queries would else push out what is in use. Counted in
//! one number for each route, whatever the keys are, and only where an answer is about to be stored that has no copy yet:
//! a hit never comes here.

use std::sync::atomic::{AtomicU64, Ordering};

/// The span that is counted over.
const SPAN_MS: u64 = 60_000;

/// Bits of the count; the span's number is above them.
const COUNT_BITS: u32 = 32;

/// The new keys of one route.
#[derive(Debug)]
pub struct NewKeys {
    most: u32,
    window: AtomicU64,
}

impl NewKeys {
    /// At most so many in a minute.
    #[must_use]
    pub const fn new(most: u32) -> Self {
        Self { most, window: AtomicU64::new(0) }
    }

    /// Takes note of a new key. False: this minute has had its share.
    #[must_use]
    pub fn take(&self, now_ms: u64) -> bool {
        let now = now_ms / SPAN_MS;
        let next = |window: u64| {
            let (at, count) = (window >> COUNT_BITS, window & u64::from(u32::MAX));
            // A thread that read the clock before a border and comes after it does not begin the old minute anew.
            let (at, count) = if now > at { (now, 0) } else { (at, count) };
            (count < u64::from(self.most)).then_some(at << COUNT_BITS | (count + 1))
        };
        self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{NewKeys, SPAN_MS};

    #[test]
    fn a_minute_has_its_share_and_the_next_one_another() {
        let keys = NewKeys::new(2);

        let taken: Vec<bool> =
            [0, 1, SPAN_MS - 1, SPAN_MS, SPAN_MS, SPAN_MS, 9 * SPAN_MS].map(|at| keys.take(at)).into();

        assert_eq!(taken, [true, true, false, true, true, false, true]);
    }

    #[test]
    fn a_late_thread_does_not_begin_the_old_minute_anew() {
        let keys = NewKeys::new(1);

        assert!(keys.take(SPAN_MS));
        assert!(!keys.take(SPAN_MS - 1));
        assert!(!keys.take(SPAN_MS));
    }

    #[test]
    fn the_share_holds_over_threads() {
        let keys = NewKeys::new(1_000);
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1_000).filter(|_| keys.take(5)).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });

        assert_eq!(taken, 1_000);
    }
}
