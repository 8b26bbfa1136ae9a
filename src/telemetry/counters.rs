//! The smallest parts of recording: counters, gauges, duration histograms with the bounds that Prometheus gets.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Upper bounds of every latency histogram, in microseconds. One and two seconds are bounds, so that "over 2 s" is an
/// exact count.
pub(super) const BOUNDS_US: [u32; 25] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 250_000,
    350_000, 500_000, 750_000, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 5_000_000, 10_000_000, 30_000_000,
    60_000_000,
];

const REASONS: usize = 64;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Counts `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Counts one and says how many there were before.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A duration histogram with the bounds of every latency metric.
#[derive(Debug)]
pub struct Durations {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Default for Durations {
    fn default() -> Self {
        Self { buckets: [const { Counter::new() }; BOUNDS_US.len() + 1], sum_us: AtomicU64::new(0) }
    }
}

impl Durations {
    /// Counts one duration.
    pub fn record(&self, us: u64) {
        let in_range = u32::try_from(us).unwrap_or(u32::MAX);
        // Counting the bounds below is faster than a search: no branch, and the compiler makes vectors of it.
        let over: u32 = BOUNDS_US.iter().map(|bound| u32::from(in_range > *bound)).sum();
        if let Some(bucket) = self.buckets.get(over as usize) {
            bucket.increment();
        }
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    pub(super) fn add_to(&self, sums: &mut DurationSums) {
        sums.buckets.iter_mut().zip(&self.buckets).for_each(|(sum, bucket)| *sum += bucket.get());
        sums.sum_us += self.sum_us.load(Relaxed);
    }
}

/// Duration histograms added up; the last bucket holds what is over every bound.
#[derive(Clone, Debug, Default)]
pub(super) struct DurationSums {
    pub(super) buckets: [u64; BOUNDS_US.len() + 1],
    pub(super) sum_us: u64,
}

/// Counters by words of a closed set that a higher module owns. The set is bounded here too: what comes after 64
/// different words counts as `other`. Meant for faults, not for every request: it takes a lock.
#[derive(Debug, Default)]
pub struct ReasonCounters(Mutex<Vec<(&'static str, u64)>>);

impl ReasonCounters {
    /// Counts one.
    pub fn increment(&self, reason: &'static str) {
        let mut counts = self.0.lock();
        let known = |counts: &[(&str, u64)], word| counts.iter().position(|(known, _)| *known == word);
        let word = if counts.len() < REASONS || known(&counts, reason).is_some() { reason } else { "other" };
        match known(&counts, word).and_then(|at| counts.get_mut(at)) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }

    /// The counts so far, in the order of first use.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{BOUNDS_US, DurationSums, Durations, ReasonCounters};

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let durations = Durations::default();
        for us in [0, 50, 51, 2_000_000, 2_000_001, u64::MAX / 2] {
            durations.record(us);
        }

        let mut sums = DurationSums::default();
        durations.add_to(&mut sums);

        let at = BOUNDS_US.iter().position(|bound| *bound == 2_000_000).unwrap();
        assert_eq!(sums.buckets[..2], [2, 1]);
        assert_eq!(sums.buckets[at..at + 2], [1, 1]);
        assert_eq!(sums.buckets[BOUNDS_US.len()], 1);
        assert_eq!(durations.count(), 6);
    }

    #[test]
    fn reasons_are_bounded() {
        let counters = ReasonCounters::default();
        for at in 0..200 {
            counters.increment(Box::leak(format!("reason_{at}").into_boxed_str()));
        }
        counters.increment("reason_3");

        let all = counters.all();
        assert_eq!(all.len(), 65);
        assert!(all.contains(&("reason_3", 2)) && all.contains(&("other", 136)));
    }
}
