//! Statistics per route: the handle that a route table keeps, and how one record is counted under it.
//!
//! A **cell** counts one combination of method, status, cache word and kind, with its own duration histogram; the
//! exported series are sums of cells. A **lane** holds the sliding latency windows of one method and kind. Cells are
//! found by scanning an append-only array of packed keys, most routes have fewer than ten: no lock, no hashing of
//! labels. New cells are paid for from the series budget; when it is spent the record counts under the route `other`.

use std::sync::{
    Arc, OnceLock,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use std::time::Duration;

use parking_lot::Mutex;

use super::{
    counters::{Counter, Durations},
    latency::Latency,
    record::{CacheStatus, Fwd, HitSource, Kind, Method, Outcome, Reason, Record},
    tail::{Finished, Recent},
    tally::Tally,
};

/// The template of requests that match no route.
pub const UNMATCHED: &str = "unmatched";
pub(super) const OTHER: &str = "other";

const CELLS_PER_BLOCK: usize = 16;
/// More combinations than this in one route come only from a backend that makes up statuses.
const CELLS_PER_ROUTE: usize = 256;
/// Series of one histogram in the text format: 25 bounds, `+Inf`, sum and count.
const SERIES_PER_HISTOGRAM: u64 = 28;

/// Indexes into a route's cache tally: hits by source, misses by `fwd`, revalidated by `fwd`, bypass. What could be no hit
/// counts as bypass, whatever its answer says.
pub(super) const MISSES: usize = HitSource::COUNT;
pub(super) const REVALIDATED: usize = MISSES + Fwd::COUNT;
pub(super) const BYPASS: usize = REVALIDATED + Fwd::COUNT;
pub(super) const CACHE_EVENTS: usize = BYPASS + 1;

/// How many series may exist.
#[derive(Debug)]
pub(super) struct Budget {
    max: AtomicU64,
    used: AtomicU64,
    pub(super) dropped: Counter,
}

impl Budget {
    pub(super) fn new(max: u64) -> Self {
        Self { max: AtomicU64::new(max), used: AtomicU64::new(0), dropped: Counter::new() }
    }

    pub(super) fn set_max(&self, max: u64) {
        self.max.store(max, Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    fn has_room(&self) -> bool {
        self.used() < self.max.load(Relaxed)
    }

    fn charge(&self, series: u64) {
        self.used.fetch_add(series, Relaxed);
    }
}

/// The statistics of one route template. Kept by route tables and handed back in each record; the same template
/// always gives the same statistics, so they survive a reload.
#[derive(Debug)]
pub struct RouteStats {
    template: Box<str>,
    limits_us: [AtomicU32; Method::COUNT],
    // Most templates of a large application are never called: they cost only their name.
    active: OnceLock<Box<Active>>,
}

impl RouteStats {
    pub(super) fn new(template: &str, slow_after: Duration) -> Self {
        let route = Self {
            template: template.into(),
            limits_us: [const { AtomicU32::new(u32::MAX) }; Method::COUNT],
            active: OnceLock::new(),
        };
        route.set_slow_after(slow_after);
        route
    }

    /// The template, which is the `route` label.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    /// Sets the time after which a request of this route is slow, for every method.
    pub fn set_slow_after(&self, slow_after: Duration) {
        for limit in &self.limits_us {
            limit.store(micros(slow_after), Relaxed);
        }
    }

    /// Sets the time after which a request of one method is slow.
    pub fn set_slow_after_for(&self, method: Method, slow_after: Duration) {
        if let Some(limit) = self.limits_us.get(method.index()) {
            limit.store(micros(slow_after), Relaxed);
        }
    }

    /// The time after which a request is slow, in microseconds.
    #[must_use]
    pub fn slow_after_us(&self, method: Method) -> u32 {
        self.limits_us.get(method.index()).map_or(u32::MAX, |limit| limit.load(Relaxed))
    }

    /// Counts a record; false when the series budget has no room for it.
    pub(super) fn count(&self, record: &Record, times: &Times, budget: &Budget) -> bool {
        let key = Key::of(record);
        let active = match self.active.get() {
            Some(active) => active,
            None if budget.has_room() => self.active.get_or_init(|| Box::new(Active::new(budget))),
            None => return false,
        };
        let Some(cell) = active.find(key).or_else(|| active.add(key, &self.template, budget)) else {
            return false;
        };
        active.record(cell, record, times, budget);
        true
    }

    /// Counts a record of a route that has no room, under this one, with few labels: `_OTHER` and the status class.
    pub(super) fn count_folded(&self, record: &Record, times: &Times, budget: &Budget) {
        let key = Key { method: Method::Other, status: record.status / 100, ..Key::of(record) };
        let active = self.active.get_or_init(|| Box::new(Active::new(budget)));
        if let Some(cell) = active.find(key).or_else(|| active.add(key, &self.template, budget)) {
            active.record(cell, record, times, budget);
        }
    }

    pub(super) fn active(&self) -> Option<&Active> {
        self.active.get().map(Box::as_ref)
    }
}

/// When a record is counted and what was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) tick: u32,
    pub(super) head_us: u64,
    pub(super) total_us: u64,
    /// The one of the two that the kind is judged by.
    pub(super) basis_us: u32,
}

/// The labels of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) method: Method,
    /// Below 10 it is a status class.
    pub(super) status: u16,
    pub(super) cache: CacheStatus,
    pub(super) kind: Kind,
}

impl Key {
    const fn of(record: &Record) -> Self {
        Self { method: record.method, status: record.status, cache: record.cache, kind: record.kind }
    }

    /// One word to compare; zero is no key.
    const fn packed(self) -> u32 {
        let small = (self.method as u32) << 8 | (self.cache as u32) << 4 | self.kind as u32;
        1 << 31 | (self.status as u32) << 12 | small
    }
}

/// The numbers of one combination of labels. Its count is that of its durations.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) key: Key,
    pub(super) durations: Durations,
    lane: Arc<Lane>,
}

/// The latencies of one method and kind.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) method: Method,
    pub(super) kind: Kind,
    pub(super) latency: Latency,
    pub(super) first_byte: Durations,
}

#[derive(Debug, Default)]
struct Block {
    keys: [AtomicU32; CELLS_PER_BLOCK],
    cells: [OnceLock<Box<Cell>>; CELLS_PER_BLOCK],
    next: OnceLock<Box<Block>>,
}

/// What a route that was called holds.
#[derive(Debug)]
pub(super) struct Active {
    first: Block,
    /// Taken to add a cell or a lane and to read the lanes, never to record.
    lanes: Mutex<Vec<Arc<Lane>>>,
    pub(super) cache: Tally<CACHE_EVENTS>,
    pub(super) reasons: [Counter; Reason::COUNT],
    pub(super) would_hits: Counter,
    recent: Recent,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
}

impl Active {
    fn new(budget: &Budget) -> Self {
        budget.charge(2);
        Self {
            first: Block::default(),
            lanes: Mutex::new(Vec::new()),
            cache: Tally::new(6),
            reasons: [const { Counter::new() }; Reason::COUNT],
            would_hits: Counter::new(),
            recent: Recent::default(),
            bytes_in: Counter::new(),
            bytes_out: Counter::new(),
        }
    }

    fn record(&self, cell: &Cell, record: &Record, times: &Times, budget: &Budget) {
        cell.durations.record(times.total_us);
        cell.lane.first_byte.record(times.head_us);
        cell.lane.latency.record(times.tick, times.basis_us, record.status >= 500);
        self.cache.count(times.tick, cache_event(record));
        self.recent.push(record, times);
        if let Some(counter) = record.reason.and_then(|reason| self.reasons.get(reason.index()))
            && counter.next() == 0
        {
            budget.charge(1);
        }
        // What the client did not wait for might not have been a hit either.
        if record.would_hits > 0 && record.outcome == Outcome::Done {
            if self.would_hits.get() == 0 {
                budget.charge(1);
            }
            self.would_hits.add(record.would_hits);
        }
        if record.bytes_in > 0 {
            self.bytes_in.add(record.bytes_in);
        }
        if record.bytes_out > 0 {
            self.bytes_out.add(record.bytes_out);
        }
    }

    fn find(&self, key: Key) -> Option<&Cell> {
        let packed = key.packed();
        let mut block = &self.first;
        loop {
            for (known, cell) in block.keys.iter().zip(&block.cells) {
                let known = known.load(Acquire);
                if known == packed {
                    return cell.get().map(Box::as_ref);
                }
                if known == 0 {
                    return None;
                }
            }
            block = block.next.get()?;
        }
    }

    #[cold]
    fn add(&self, key: Key, template: &str, budget: &Budget) -> Option<&Cell> {
        let has_room = || template == OTHER || (budget.has_room() && self.cells().count() < CELLS_PER_ROUTE);
        if !has_room() {
            return None;
        }
        let mut lanes = self.lanes.lock();
        if let Some(cell) = self.find(key) {
            return Some(cell);
        }
        let known =
            lanes.iter().find(|lane| lane.method == key.method && lane.kind == key.kind).map(Arc::clone);
        let lane = known.unwrap_or_else(|| {
            let lane = Arc::new(Lane::new(key));
            lanes.push(Arc::clone(&lane));
            budget.charge(SERIES_PER_HISTOGRAM + 1);
            lane
        });
        // A new status class in a known lane is a new duration histogram.
        let class = |status: u16| if status < 10 { status } else { status / 100 };
        let same =
            |cell: &Cell| Arc::ptr_eq(&cell.lane, &lane) && class(cell.key.status) == class(key.status);
        budget.charge(1 + if self.cells().any(same) { 0 } else { SERIES_PER_HISTOGRAM });
        self.append(Box::new(Cell { key, durations: Durations::default(), lane }))
    }

    fn append(&self, cell: Box<Cell>) -> Option<&Cell> {
        let mut block = &self.first;
        loop {
            for (known, slot) in block.keys.iter().zip(&block.cells) {
                if known.load(Relaxed) == 0 {
                    let packed = cell.key.packed();
                    let cell = slot.get_or_init(|| cell);
                    known.store(packed, Release);
                    return Some(cell);
                }
            }
            block = block.next.get_or_init(Box::default);
        }
    }

    /// The cells, in the order of first use.
    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        let blocks = std::iter::successors(Some(&self.first), |block| block.next.get().map(Box::as_ref));
        blocks.flat_map(|block| &block.cells).map_while(|cell| cell.get().map(Box::as_ref))
    }

    /// The last requests, the newest first.
    pub(super) fn recent(&self) -> Vec<Finished> {
        self.recent.all()
    }

    /// The lanes, in the order of first use.
    pub(super) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.lock().clone()
    }
}

impl Lane {
    fn new(key: Key) -> Self {
        Self { method: key.method, kind: key.kind, latency: Latency::new(), first_byte: Durations::default() }
    }
}

/// Where a record counts in the cache tally. A plane that leaves the source or the `fwd` word out still adds up.
const fn cache_event(record: &Record) -> usize {
    if matches!(record.cache, CacheStatus::Miss) && !record.is_cacheable {
        return BYPASS;
    }
    let fwd = match record.fwd {
        Some(fwd) => fwd.index(),
        None => Fwd::Miss.index(),
    };
    match (record.cache, record.source) {
        (CacheStatus::Hit, None) => HitSource::Memory.index(),
        (CacheStatus::Stale, _) => HitSource::Stale.index(),
        (CacheStatus::Hit, Some(source)) => source.index(),
        (CacheStatus::Miss, _) => MISSES + fwd,
        (CacheStatus::Revalidated, _) => REVALIDATED + fwd,
        (CacheStatus::Bypass, _) => BYPASS,
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
