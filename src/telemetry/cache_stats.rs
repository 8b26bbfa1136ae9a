//! Cache numbers that do not come with a request: how long operations take, and the sizes a cache reports when asked.

use std::sync::OnceLock;

use super::{counters::Durations, labels::labels, latency::Latency};

labels! {
    /// A tier of the cache.
    pub enum Tier {
        /// Inside the process.
        Memory = "memory",
        /// Shared by the replicas.
        Redis = "redis",
    }
}

labels! {
    /// A cache operation with a duration of its own.
    pub enum Operation {
        /// Looking for a usable entry.
        Lookup = "lookup",
        /// Storing an answer.
        Store = "store",
        /// Ending entries.
        Purge = "purge",
    }
}

/// What a cache says about itself when asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheSizes {
    /// Entries of the memory tier.
    pub entries: u64,
    /// Bytes of the memory tier.
    pub bytes: u64,
    /// The most bytes it may hold.
    pub bytes_max: u64,
    /// Entries dropped from the memory tier for want of room, since start.
    pub evictions: u64,
    /// Answers being copied now.
    pub fills: u64,
    /// Requests waiting for another one's fetch now.
    pub followers: u64,
}

/// A cache that can be asked for its sizes. Asked whenever metrics or statistics are read, so it must be cheap.
pub trait CacheSource: Send + Sync {
    /// The sizes now.
    fn sizes(&self) -> CacheSizes;
}

/// The durations of one operation in one tier.
#[derive(Debug)]
pub(super) struct OperationStats {
    pub(super) latency: Latency,
    pub(super) durations: Durations,
}

/// Durations of cache operations. A combination that never happens costs nothing.
#[derive(Debug, Default)]
pub(super) struct Operations([[OnceLock<Box<OperationStats>>; Operation::COUNT]; Tier::COUNT]);

impl Operations {
    pub(super) fn record(&self, tier: Tier, operation: Operation, tick: u32, us: u64) {
        let Some(stats) = self.0.get(tier.index()).and_then(|tier| tier.get(operation.index())) else {
            return;
        };
        let stats = stats.get_or_init(|| {
            Box::new(OperationStats { latency: Latency::new(), durations: Durations::default() })
        });
        stats.latency.record(tick, u32::try_from(us).unwrap_or(u32::MAX), false);
        stats.durations.record(us);
    }

    /// The combinations that happened.
    pub(super) fn all(&self) -> impl Iterator<Item = (Tier, Operation, &OperationStats)> {
        Tier::ALL.into_iter().zip(&self.0).flat_map(|(tier, operations)| {
            let known = Operation::ALL.into_iter().zip(operations);
            known.filter_map(move |(operation, stats)| Some((tier, operation, stats.get()?.as_ref())))
        })
    }
}
