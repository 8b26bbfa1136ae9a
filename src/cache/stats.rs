//! The numbers of the cache as a whole, for those who ask. What belongs to a request is told in its record.

use std::sync::atomic::{AtomicU64, Ordering};

/// The cache as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Entries in memory.
    pub entries: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub bytes_max: u64,
    /// Entries pushed out for room since the start.
    pub evictions: u64,
    /// Lookups since the start that found no entry at all. Those that did are not counted here: a counter that all
    /// workers share would cost a hit more than its lookup does.
    pub absences: u64,
    /// Answers stored since the start.
    pub stores: u64,
    /// Purges since the start.
    pub purges: u64,
    /// Purge marks that are held.
    pub marks: u64,
    /// Bodies that are being copied.
    pub fills: u64,
    /// Bytes of those copies.
    pub fill_bytes: u64,
    /// Fetches under way that others may wait for.
    pub flights: u64,
    /// Requests that wait for them.
    pub waiting: u64,
}

/// Counts what happens off the path of a hit.
#[derive(Debug, Default)]
pub(super) struct Counters {
    absences: Counter,
    stores: Counter,
    purges: Counter,
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counters {
    /// A lookup found nothing.
    pub(super) fn absence(&self) {
        self.absences.add();
    }

    /// An answer was stored.
    pub(super) fn store(&self) {
        self.stores.add();
    }

    /// Something was purged.
    pub(super) fn purge(&self) {
        self.purges.add();
    }

    /// Writes the counts so far into `stats`.
    pub(super) fn write_to(&self, stats: &mut CacheStats) {
        stats.absences = self.absences.value();
        stats.stores = self.stores.value();
        stats.purges = self.purges.value();
    }
}

impl Counter {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
