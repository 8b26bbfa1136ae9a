//! Latencies of one series: a log-linear histogram in sliding windows, with exact count, sum, minimum and maximum.
//!
//! Values are microseconds from 0 to 2^30 (18 minutes; longer ones count as that). Up to 32 us each value has its own
//! bucket, above that every octave has 32, so that a bucket's midpoint is at most 1/64 = 1.6 % from any value in it.
//! Recording is two relaxed additions and two comparisons. The first record in a new tick of 10 s closes the old slot:
//! it drains the counters with swaps into a packed slot, so that no sample is ever lost or counted twice; a sample
//! that arrives during the change may count in the neighbouring slot. Readers merge slots; nothing runs in between.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use parking_lot::Mutex;

use super::{
    exact::Exact,
    packed::Packed,
    windows::{Slot, Slots, Window},
};

const SUB_BUCKETS: u32 = 32;
const OCTAVES: u32 = 30;
/// 32 buckets of one microsecond, then 25 octaves of 32.
const BUCKETS: usize = 832;
const LARGEST_US: u32 = (1 << OCTAVES) - 1;

/// The latencies of one series.
#[derive(Debug)]
pub(super) struct Latency {
    tick: AtomicU32,
    min_us: AtomicU32,
    max_us: AtomicU32,
    errors: AtomicU32,
    sum_us: AtomicU64,
    live: Box<[AtomicU32]>,
    closed: Mutex<Slots<Sparse>>,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    pub(super) fn new() -> Self {
        Self {
            tick: AtomicU32::new(0),
            min_us: AtomicU32::new(u32::MAX),
            max_us: AtomicU32::new(0),
            errors: AtomicU32::new(0),
            sum_us: AtomicU64::new(0),
            live: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            closed: Mutex::new(Slots::an_hour()),
        }
    }

    /// Counts one sample.
    pub(super) fn record(&self, tick: u32, us: u32, is_error: bool) {
        if tick > self.tick.load(Relaxed) {
            self.close_slot(tick);
        }
        let us = us.min(LARGEST_US);
        if let Some(bucket) = self.live.get(bucket_of(us)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(u64::from(us), Relaxed);
        if us < self.min_us.load(Relaxed) {
            self.min_us.fetch_min(us, Relaxed);
        }
        if us > self.max_us.load(Relaxed) {
            self.max_us.fetch_max(us, Relaxed);
        }
        if is_error {
            self.errors.fetch_add(1, Relaxed);
        }
    }

    /// Adds the samples of a window to `merged`.
    pub(super) fn add_to(&self, merged: &mut Merged, window: Window, now: u32) {
        let now = self.read_at(now);
        let closed = self.closed.lock();
        for slot in closed.of(window, now) {
            merged.add_sparse(slot);
        }
        // Under the lock, so that no slot is closed in between and counted twice.
        if self.tick.load(Acquire) == now {
            merged.add_live(self);
        }
    }

    /// Count, failures and sum of each minute that holds samples, oldest first, by the minute's number since start.
    pub(super) fn minutes(&self, now: u32, mut each: impl FnMut(u32, MinuteSum)) {
        let now = self.read_at(now);
        let closed = self.closed.lock();
        for minute in closed.minutes() {
            let sums = &minute.slot.sums;
            each(minute.tick / 6, MinuteSum { count: sums.count, errors: sums.errors, sum_us: sums.sum_us });
        }
        if self.tick.load(Acquire) == now {
            let mut live = Merged::default();
            live.add_live(self);
            let sums = &live.sums;
            each(now / 6, MinuteSum { count: sums.count, errors: sums.errors, sum_us: sums.sum_us });
        }
    }

    /// Adds the samples of each of the last minutes to the one of `minutes` that is as many from its end as they are ago.
    pub(super) fn add_minutes(&self, minutes: &mut [Merged], now: u32) {
        let now = self.read_at(now);
        let closed = self.closed.lock();
        let last = minutes.len().saturating_sub(1);
        for minute in closed.minutes() {
            let ago = (now / 6).saturating_sub(minute.tick / 6) as usize;
            if let Some(merged) = last.checked_sub(ago).and_then(|place| minutes.get_mut(place)) {
                merged.add_sparse(&minute.slot);
            }
        }
        if self.tick.load(Acquire) == now
            && let Some(merged) = minutes.last_mut()
        {
            merged.add_live(self);
        }
    }

    /// Closes a slot that is over, so that a silent series forgets too, and says at which tick to read.
    fn read_at(&self, now: u32) -> u32 {
        let now = now.max(self.tick.load(Acquire));
        self.closed.lock().forget(now);
        if now > self.tick.load(Acquire) {
            self.close_slot(now);
        }
        now
    }

    #[cold]
    fn close_slot(&self, now: u32) {
        // Whoever comes second goes on and records: nobody waits here on the request path.
        let Some(mut closed) = self.closed.try_lock() else { return };
        let old = self.tick.load(Relaxed);
        if now <= old {
            return;
        }
        let slot = self.drain();
        self.tick.store(now, Release);
        if slot.is_empty() {
            closed.forget(now);
        } else {
            closed.push(old, slot, now);
        }
    }

    fn drain(&self) -> Sparse {
        let mut slot = Merged::default();
        for (count, live) in slot.buckets.iter_mut().zip(&self.live) {
            if live.load(Relaxed) != 0 {
                *count = live.swap(0, Relaxed);
                slot.sums.count += u64::from(*count);
            }
        }
        slot.sums.sum_us = self.sum_us.swap(0, Relaxed);
        slot.sums.min_us = self.min_us.swap(u32::MAX, Relaxed);
        slot.sums.max_us = self.max_us.swap(0, Relaxed);
        slot.sums.errors = u64::from(self.errors.swap(0, Relaxed));
        slot.pack()
    }
}

/// The totals of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MinuteSum {
    pub(super) count: u64,
    pub(super) errors: u64,
    pub(super) sum_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sums {
    count: u64,
    errors: u64,
    sum_us: u64,
    min_us: u32,
    max_us: u32,
}

impl Default for Sums {
    fn default() -> Self {
        Self { count: 0, errors: 0, sum_us: 0, min_us: u32::MAX, max_us: 0 }
    }
}

impl Sums {
    fn add(&mut self, other: &Self) {
        // Numbers of other replicas are not ours to trust.
        self.count = self.count.saturating_add(other.count);
        self.errors = self.errors.saturating_add(other.errors);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.min_us = self.min_us.min(other.min_us);
        self.max_us = self.max_us.max(other.max_us);
    }
}

/// A closed slot.
#[derive(Debug, Default)]
struct Sparse {
    sums: Sums,
    buckets: Packed,
}

impl Sparse {
    const fn is_empty(&self) -> bool {
        self.sums.count == 0 && self.sums.sum_us == 0 && self.sums.errors == 0
    }
}

impl Slot for Sparse {
    fn add(&mut self, other: &Self) {
        let mut dense = Merged::default();
        dense.add_sparse(self);
        dense.add_sparse(other);
        *self = dense.pack();
    }
}

/// Slots added up.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    sums: Sums,
    buckets: Vec<u32>,
}

impl Default for Merged {
    fn default() -> Self {
        Self { sums: Sums::default(), buckets: vec![0; BUCKETS] }
    }
}

impl Merged {
    /// The numbers that are shown.
    pub(super) fn summary(&self) -> Summary {
        let Sums { count, sum_us, min_us, max_us, .. } = self.sums;
        if count == 0 {
            return Summary::default();
        }
        let [p50_us, p95_us, p99_us] = [50, 95, 99].map(|percent| self.percentile(percent));
        Summary { count, sum_us, min_us: min_us.min(max_us), max_us, p50_us, p95_us, p99_us }
    }

    /// Samples that were counted as failures.
    pub(super) const fn errors(&self) -> u64 {
        self.sums.errors
    }

    /// The sum, the smallest and the largest, without percentiles.
    pub(super) fn bounds(&self) -> Summary {
        let Sums { count, sum_us, min_us, max_us, .. } = self.sums;
        Summary { count, sum_us, min_us: min_us.min(max_us), max_us, ..Summary::default() }
    }

    /// The buckets that hold samples, in order.
    pub(super) fn filled(&self) -> impl Iterator<Item = (u16, u32)> {
        (0_u16..).zip(&self.buckets).filter(|(_, count)| **count > 0).map(|(at, count)| (at, *count))
    }

    /// Adds samples that another recorder took. Buckets that there are not are left out.
    pub(super) fn add_exact(&mut self, exact: &Exact) {
        let mut sums = Sums {
            count: 0,
            errors: exact.errors,
            sum_us: exact.sum_us,
            min_us: exact.min_us.min(exact.max_us),
            max_us: exact.max_us,
        };
        for (at, count) in &exact.buckets {
            if let Some(bucket) = self.buckets.get_mut(usize::from(*at)) {
                // What a full bucket cannot take is not counted, so that the count stays the sum of the buckets.
                let taken = (*count).min(u32::MAX - *bucket);
                *bucket += taken;
                sums.count += u64::from(taken);
            }
        }
        self.sums.add(&sums);
    }

    /// Counts by upper bound in microseconds, from the first to the last that is not empty, in steps of half an octave or,
    /// where these would be more than `most`, of an octave.
    pub(super) fn histogram(&self, most: usize) -> Vec<(u32, u64)> {
        let of = |step: usize| {
            let counts =
                self.buckets.chunks(step).map(|chunk| chunk.iter().map(|count| u64::from(*count)).sum());
            let counts: Vec<u64> = counts.collect();
            let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
            let last = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
            let bound = |at: usize| lowest_us((at + 1) * step).saturating_sub(1);
            let bars = counts.into_iter().enumerate().take(last).skip(first);
            bars.map(|(at, count)| (bound(at), count)).collect::<Vec<_>>()
        };
        let half = of(SUB_BUCKETS as usize / 2);
        if half.len() > most { of(SUB_BUCKETS as usize) } else { half }
    }

    /// The value at the nearest rank, taken as the midpoint of its bucket and never outside what was seen.
    fn percentile(&self, percent: u64) -> f64 {
        let rank = (self.sums.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        let (low, high) = (f64::from(self.sums.min_us), f64::from(self.sums.max_us));
        bucket.map_or(high, midpoint_us).max(low).min(high)
    }

    fn add_sparse(&mut self, slot: &Sparse) {
        self.sums.add(&slot.sums);
        slot.buckets.add_to(&mut self.buckets);
    }

    fn add_live(&mut self, latency: &Latency) {
        let mut sums = Sums {
            count: 0,
            errors: u64::from(latency.errors.load(Relaxed)),
            sum_us: latency.sum_us.load(Relaxed),
            min_us: latency.min_us.load(Relaxed),
            max_us: latency.max_us.load(Relaxed),
        };
        for (bucket, live) in self.buckets.iter_mut().zip(&latency.live) {
            let count = live.load(Relaxed);
            *bucket = bucket.saturating_add(count);
            sums.count += u64::from(count);
        }
        self.sums.add(&sums);
    }

    fn pack(&self) -> Sparse {
        Sparse { sums: self.sums, buckets: Packed::new(&self.buckets) }
    }
}

/// Latencies of one series in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Samples. The other fields mean nothing while this is 0.
    pub count: u64,
    /// Their sum.
    pub sum_us: u64,
    /// The smallest, exactly.
    pub min_us: u32,
    /// The largest, exactly.
    pub max_us: u32,
    /// The median, within 1.6 %.
    pub p50_us: f64,
    /// The 95th percentile, within 1.6 %.
    pub p95_us: f64,
    /// The 99th percentile, within 1.6 %.
    pub p99_us: f64,
}

impl Summary {
    /// Below this many samples percentiles say little.
    pub const FEW: u64 = 20;

    /// True when there are too few samples for percentiles.
    #[must_use]
    pub const fn is_few(&self) -> bool {
        self.count < Self::FEW
    }

    /// The mean in milliseconds; 0 without samples.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sums below 2^53 us, which is 285 years")]
    pub fn avg_ms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_us as f64 / self.count as f64 / 1000.0 }
    }

    /// The smallest in milliseconds.
    #[must_use]
    pub fn min_ms(&self) -> f64 {
        f64::from(self.min_us) / 1000.0
    }

    /// The largest in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        f64::from(self.max_us) / 1000.0
    }

    /// The median in milliseconds.
    #[must_use]
    pub fn p50_ms(&self) -> f64 {
        self.p50_us / 1000.0
    }

    /// The 95th percentile in milliseconds.
    #[must_use]
    pub fn p95_ms(&self) -> f64 {
        self.p95_us / 1000.0
    }

    /// The 99th percentile in milliseconds.
    #[must_use]
    pub fn p99_ms(&self) -> f64 {
        self.p99_us / 1000.0
    }
}

/// The bucket of a value below 2^30: the value itself below 32, else the octave's 32 steps by the five bits after the
/// leading one.
const fn bucket_of(us: u32) -> usize {
    if us < SUB_BUCKETS {
        return us as usize;
    }
    let shift = us.ilog2() - SUB_BUCKETS.ilog2();
    (shift * SUB_BUCKETS + (us >> shift)) as usize
}

/// The smallest value of a bucket.
fn lowest_us(bucket: usize) -> u32 {
    let bucket = u32::try_from(bucket).unwrap_or(0);
    if bucket < SUB_BUCKETS {
        return bucket;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    (bucket - shift * SUB_BUCKETS) << shift
}

/// The middle of a bucket.
fn midpoint_us(bucket: usize) -> f64 {
    let width = 1_u32 << (bucket / SUB_BUCKETS as usize).saturating_sub(1);
    f64::from(lowest_us(bucket)) + f64::from(width - 1) / 2.0
}

#[cfg(test)]
mod tests;
