//! The tier in memory: entries under their keys, bounded by bytes. Which entries are worth their room is moka's
//! decision (an LFU with a small window); when they are fresh is not decided here at all.
//!
//! moka evicts behind the insertions, in batches of up to hundreds: with large bodies that alone could take many times
//! the configured size. So insertions are counted, and before those not yet settled exceed an eighth of the size, the
//! eviction is run. As no entry is larger than an eighth either, the tier never holds more than nine eighths.
//!
//! moka also frees what it has removed late, when no thread can be reading it any more: up to 62 values for each
//! thread. So it is given places, and a place is emptied as soon as moka says that it has removed it.
//!
//! An entry that gains a coded body is put in once more at its new weight. Both of moka's values then speak of the same
//! place, which is emptied when the last of them has gone.
//!
//! To clear the tier a new shelf is put in the place of the old one: taking a million entries out one by one would hold
//! up whoever asks for it, and whoever stores meanwhile, for seconds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::HeaderMap;
use moka::{notification::RemovalCause, sync::Cache};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{
    coded::Coded,
    entry::Entry,
    key::{Key, KeyHash, KeyMaker},
    rfc9111::{Coding, Selection},
    to_u64,
    variants::{Variant, Variants},
};
use crate::telemetry::record::Reason;

/// The share of the size that one entry may take, and that may wait for eviction: 1 / 8.
const SHARE: u64 = 8;

/// Runs of the eviction in one go. One settles everything but a burst from other threads.
const RUNS: usize = 8;

/// The tier in memory.
#[derive(Debug)]
pub(super) struct MemoryTier {
    shelf: ArcSwap<Shelf>,
    maker: KeyMaker,
    size: u64,
    max_variants: usize,
    /// Bytes inserted since the eviction was last run. Insertions take turns by it.
    unsettled: Mutex<u64>,
    evictions: Arc<AtomicU64>,
}

/// What a cleared tier held. Dropping it frees the memory, which takes some microseconds for each entry: do that where
/// nobody waits.
#[derive(Debug)]
pub struct Retired(#[expect(dead_code, reason = "it is there to be dropped")] Arc<Shelf>);

/// What a look into the tier finds.
#[derive(Debug)]
pub(super) enum Found {
    /// An entry.
    Entry(Arc<Entry>),
    /// Nothing under this key.
    Nothing,
    /// Variants, none of which fits.
    NoVariant(Arc<Variants>),
}

/// What is held between one clearing and the next.
#[derive(Debug)]
struct Shelf {
    cache: Cache<Key, Held, KeyHash>,
    /// Lists of variants among moka's entries.
    lists: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Held {
    slot: Slot,
    size: usize,
    /// How long moka keeps it: memory is given back then. The lookup judges by the entry's own times.
    keep: Duration,
}

#[derive(Clone, Debug)]
enum Slot {
    /// A place for an entry; empty once moka has removed it.
    Entry(Arc<Place>),
    Variants(Arc<Variants>),
}

/// Where an entry lies, with the number of moka's values that speak of it.
#[derive(Debug)]
struct Place {
    entry: ArcSwapOption<Entry>,
    holds: AtomicUsize,
}

/// Tells moka how long each entry is kept.
struct Keep;

impl MemoryTier {
    /// A tier of so many bytes, with at most `max_variants` variants of one resource.
    #[must_use]
    pub(super) fn new(size: u64, max_variants: usize, maker: KeyMaker) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let shelf = ArcSwap::from_pointee(Shelf::new(size, Arc::clone(&evictions)));
        Self { shelf, maker, size, max_variants, unsettled: Mutex::new(0), evictions }
    }

    /// Looks for the entry of a resource that fits a request.
    pub(super) fn find(&self, resource: &Key, request: &HeaderMap) -> Found {
        let shelf = self.shelf.load();
        let variants = match shelf.cache.get(resource).map(|held| held.slot) {
            Some(Slot::Entry(place)) => return place.entry.load_full().map_or(Found::Nothing, Found::Entry),
            Some(Slot::Variants(variants)) => variants,
            None => return Found::Nothing,
        };
        let entry = variants.find(request).and_then(|key| shelf.cache.get(key)?.entry());
        entry.map_or(Found::NoVariant(variants), Found::Entry)
    }

    /// The variants that a resource is known to have; none where its answers fit every request.
    pub(super) fn variants(&self, resource: &Key) -> Variants {
        self.shelf.load().known_variants(resource)
    }

    /// Puts an entry in. The error says why there is no place for it. A tier without any size takes everything and keeps
    /// nothing.
    pub(super) fn put(&self, entry: &Arc<Entry>, now_ms: u64) -> Result<(), Reason> {
        if self.size == 0 {
            return Ok(());
        }
        if to_u64(entry.size()) > self.size / SHARE {
            return Err(Reason::TooLarge);
        }
        let mut unsettled = self.unsettled.lock();
        let shelf = self.shelf.load();
        let held = Held::of_entry(entry, now_ms);
        if entry.selection().is_any() {
            self.insert(&shelf, &mut unsettled, entry.key().clone(), held);
            return Ok(());
        }
        let variant = Variant {
            selection: entry.selection().clone(),
            key: self.variant_key(entry.key(), entry.selection()),
            date: entry.meta().date,
            useless_after_ms: entry.useless_after_ms(),
        };
        let mut variants = shelf.known_variants(entry.key());
        if variants.len() >= self.max_variants && !variants.has(&variant.key) {
            variants.retain(|known| known.useless_after_ms > now_ms && shelf.cache.contains_key(&known.key));
            if variants.len() >= self.max_variants {
                return Err(Reason::Variants);
            }
        }
        let key = variant.key.clone();
        variants.put(variant);
        self.insert(&shelf, &mut unsettled, key, held);
        let list = Held::of_variants(variants, entry.key(), now_ms);
        self.insert(&shelf, &mut unsettled, entry.key().clone(), list);
        Ok(())
    }

    /// Takes an entry out, if it still lies there.
    pub(super) fn remove(&self, entry: &Arc<Entry>) {
        let key = self.variant_key(entry.key(), entry.selection());
        let _turn = self.unsettled.lock();
        let shelf = self.shelf.load();
        let there = shelf.cache.get(&key).and_then(|held| held.entry());
        if there.is_some_and(|there| Arc::ptr_eq(&there, entry)) {
            shelf.cache.invalidate(&key);
        }
    }

    /// Takes out what lies under a key, as another replica has put something else in its place.
    pub(super) fn forget(&self, key: &Key) {
        let _turn = self.unsettled.lock();
        self.shelf.load().cache.invalidate(key);
    }

    /// Whether the entry still lies here.
    pub(super) fn holds(&self, entry: &Arc<Entry>) -> bool {
        let key = self.variant_key(entry.key(), entry.selection());
        let there = self.shelf.load().cache.get(&key).and_then(|held| held.entry());
        there.is_some_and(|there| Arc::ptr_eq(&there, entry))
    }

    /// Gives an entry that still lies here a coded body, and weighs it anew. False where there is no room or no entry.
    pub(super) fn add_coded(&self, entry: &Arc<Entry>, coding: Coding, body: Bytes, now_ms: u64) -> bool {
        let key = self.variant_key(entry.key(), entry.selection());
        let coded = Coded::new(entry, coding, body);
        let mut unsettled = self.unsettled.lock();
        let shelf = self.shelf.load();
        let Some(Slot::Entry(place)) = shelf.cache.get(&key).map(|held| held.slot) else { return false };
        let is_there = place.entry.load().as_ref().is_some_and(|there| Arc::ptr_eq(there, entry));
        if !is_there || to_u64(entry.size() + coded.size()) > self.size / SHARE || !place.hold() {
            return false;
        }
        entry.set_coded(coding, Some(coded));
        let held = Held { slot: Slot::Entry(place), size: entry.size(), keep: keep_for(entry, now_ms) };
        self.insert(&shelf, &mut unsettled, key, held);
        true
    }

    /// Takes out the entry under a key, if there is one and no list of variants.
    pub(super) fn forget_entry(&self, key: &Key) {
        let _turn = self.unsettled.lock();
        let shelf = self.shelf.load();
        if matches!(shelf.cache.get(key).map(|held| held.slot), Some(Slot::Entry(_))) {
            shelf.cache.invalidate(key);
        }
    }

    /// Takes everything out, and says how many entries that were.
    pub(super) fn clear(&self) -> (u64, Retired) {
        let mut unsettled = self.unsettled.lock();
        self.settle(&self.shelf.load(), &mut unsettled);
        let retired = self.shelf.swap(Arc::new(Shelf::new(self.size, Arc::clone(&self.evictions))));
        (retired.entries(), Retired(retired))
    }

    /// Entries held, as of the last eviction run.
    #[must_use]
    pub(super) fn entries(&self) -> u64 {
        self.shelf.load().entries()
    }

    /// Bytes held, as of the last eviction run.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.shelf.load().cache.weighted_size()
    }

    /// Bytes that may be held.
    #[must_use]
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Entries pushed out for room since the start.
    #[must_use]
    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Runs the eviction, so that the numbers are those of now.
    pub(super) fn tidy(&self) {
        let mut unsettled = self.unsettled.lock();
        self.settle(&self.shelf.load(), &mut unsettled);
    }

    /// The key of the variant with these selecting values; that of the resource where there are none.
    pub(super) fn variant_key(&self, resource: &Key, selection: &Selection) -> Key {
        if selection.is_any() {
            return resource.clone();
        }
        self.maker.variant(resource, &Sha256::digest(selection.canonical()).into())
    }

    fn insert(&self, shelf: &Shelf, unsettled: &mut u64, key: Key, held: Held) {
        let size = to_u64(held.size);
        if unsettled.saturating_add(size) > self.size / SHARE {
            self.settle(shelf, unsettled);
        }
        *unsettled += size;
        if matches!(held.slot, Slot::Variants(_)) {
            shelf.lists.fetch_add(1, Ordering::Relaxed);
        }
        shelf.cache.insert(key, held);
    }

    fn settle(&self, shelf: &Shelf, unsettled: &mut u64) {
        for _ in 0..RUNS {
            shelf.cache.run_pending_tasks();
            if shelf.cache.weighted_size() <= self.size {
                break;
            }
        }
        *unsettled = 0;
    }
}

impl Shelf {
    fn new(size: u64, evictions: Arc<AtomicU64>) -> Self {
        let lists = Arc::new(AtomicU64::new(0));
        let lists_held = Arc::clone(&lists);
        let on_removal = move |_, held: Held, cause| match held.slot {
            Slot::Variants(_) => {
                lists_held.fetch_sub(1, Ordering::Relaxed);
            }
            Slot::Entry(place) => {
                place.release();
                evictions.fetch_add(u64::from(cause == RemovalCause::Size), Ordering::Relaxed);
            }
        };
        let cache = Cache::builder()
            .max_capacity(size)
            .weigher(|_, held: &Held| u32::try_from(held.size).unwrap_or(u32::MAX))
            .expire_after(Keep)
            .eviction_listener(on_removal)
            .build_with_hasher(KeyHash::default());
        Self { cache, lists }
    }

    fn entries(&self) -> u64 {
        self.cache.entry_count().saturating_sub(self.lists.load(Ordering::Relaxed))
    }

    fn known_variants(&self, resource: &Key) -> Variants {
        match self.cache.get(resource).map(|held| held.slot) {
            Some(Slot::Variants(variants)) => (*variants).clone(),
            Some(Slot::Entry(_)) | None => Variants::default(),
        }
    }
}

impl Place {
    fn of(entry: &Arc<Entry>) -> Self {
        Self { entry: Some(Arc::clone(entry)).into(), holds: AtomicUsize::new(1) }
    }

    /// Counts one more value of moka's; false once there is none any more.
    fn hold(&self) -> bool {
        let more = |holds: usize| (holds > 0).then_some(holds + 1);
        self.holds.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Counts one less; with the last the entry goes.
    fn release(&self) {
        if self.holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.entry.store(None);
        }
    }
}

impl Held {
    fn of_entry(entry: &Arc<Entry>, now_ms: u64) -> Self {
        Self {
            slot: Slot::Entry(Arc::new(Place::of(entry))),
            size: entry.size(),
            keep: keep_for(entry, now_ms),
        }
    }

    fn of_variants(variants: Variants, key: &Key, now_ms: u64) -> Self {
        let keep = Duration::from_millis(variants.useless_after_ms().saturating_sub(now_ms));
        let size = variants.size() + key.size();
        Self { slot: Slot::Variants(Arc::new(variants)), size, keep }
    }

    fn entry(&self) -> Option<Arc<Entry>> {
        match &self.slot {
            Slot::Entry(place) => place.entry.load_full(),
            Slot::Variants(_) => None,
        }
    }
}

#[expect(clippy::disallowed_types, reason = "moka's trait names it; the moment is not used")]
impl moka::Expiry<Key, Held> for Keep {
    fn expire_after_create(&self, _: &Key, held: &Held, _: std::time::Instant) -> Option<Duration> {
        Some(held.keep)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        held: &Held,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(held.keep)
    }
}

/// How long moka is to keep an entry.
fn keep_for(entry: &Entry, now_ms: u64) -> Duration {
    Duration::from_millis(entry.useless_after_ms().saturating_sub(now_ms))
}

#[cfg(test)]
mod tests;
