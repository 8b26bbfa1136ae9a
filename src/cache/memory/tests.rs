//! Tests of the tier in memory: its bound, its variants, what is taken out.

use std::{
    sync::{Arc, Weak},
    thread,
};

use http::HeaderMap;

use super::{Found, MemoryTier, to_u64};
use crate::cache::{
    entry::{Entry, NewEntry},
    key::{Key, KeyMaker},
    rfc9111::Coding,
    samples::{answer, fields, key, meta, varied},
};
use crate::telemetry::record::Reason;

const KIB: u64 = 1024;

struct Fixture {
    maker: KeyMaker,
    tier: MemoryTier,
}

fn tier(size: u64, max_variants: usize) -> Fixture {
    let maker = KeyMaker::default();
    Fixture { tier: MemoryTier::new(size, max_variants, maker.clone()), maker }
}

impl Fixture {
    fn put(&self, new: NewEntry) -> Result<Arc<Entry>, Reason> {
        let entry = Arc::new(Entry::new(new));
        self.tier.put(&entry, 0).map(|()| entry)
    }

    fn get(&self, key: &Key, request: &HeaderMap) -> Option<Arc<Entry>> {
        match self.tier.find(key, request) {
            Found::Entry(entry) => Some(entry),
            Found::Nothing | Found::NoVariant(_) => None,
        }
    }
}

/// Bytes of the entries that anybody still holds.
fn live_bytes(entries: &[Weak<Entry>]) -> u64 {
    entries.iter().filter_map(Weak::upgrade).map(|entry| u64::try_from(entry.size()).unwrap()).sum()
}

#[test]
fn a_burst_of_fills_never_takes_a_fifth_more_than_the_size() {
    for body in [100, 5_000, 100_000] {
        let size = 1024 * KIB;
        let fixture = tier(size, 32);
        let mut entries = Vec::new();
        let mut peak = 0;

        for n in 0..(8 * size / (u64::try_from(body).unwrap() + 500)).min(20_000) {
            let entry = fixture.put(answer(&key(&fixture.maker, &format!("/{n}")), body)).unwrap();
            entries.push(Arc::downgrade(&entry));
            drop(entry);
            if n % 50 == 0 || body > 10_000 {
                peak = peak.max(live_bytes(&entries));
            }
        }

        assert!(peak <= size * 6 / 5, "{body}: {peak} of {size}");
        assert!(peak >= size / 2, "{body}: {peak} of {size} is hardly used");
        fixture.tier.tidy();
        assert!(fixture.tier.bytes() <= size);
        assert!(fixture.tier.evictions() > 0);
    }
}

#[test]
fn a_burst_from_several_threads_is_bounded_too() {
    let size = 2048 * KIB;
    let fixture = tier(size, 32);
    let entries = parking_lot::Mutex::new(Vec::new());
    let peak = parking_lot::Mutex::new(0);

    thread::scope(|scope| {
        for worker in 0..4 {
            let (fixture, entries, peak) = (&fixture, &entries, &peak);
            scope.spawn(move || {
                for n in 0..100 {
                    let new = answer(&key(&fixture.maker, &format!("/{worker}/{n}")), 150_000);
                    let entry = fixture.put(new).unwrap();
                    let mut entries = entries.lock();
                    entries.push(Arc::downgrade(&entry));
                    drop(entry);
                    let mut peak = peak.lock();
                    *peak = live_bytes(&entries).max(*peak);
                }
            });
        }
    });

    // An entry that a thread has made but not yet handed over is its own, not the tier's.
    let in_hand = 4 * 150_600;
    let peak = peak.into_inner();
    assert!(peak <= size * 6 / 5 + in_hand, "{peak} of {size}");
}

#[test]
fn refuses_an_entry_larger_than_an_eighth() {
    let fixture = tier(64 * KIB, 32);
    let key = key(&fixture.maker, "/");

    assert_eq!(fixture.put(answer(&key, 8 * 1024)).unwrap_err(), Reason::TooLarge);
    fixture.put(answer(&key, 7 * 1024)).unwrap();
}

#[test]
fn a_variant_is_found_by_its_selecting_values() {
    let fixture = tier(1024 * KIB, 32);
    let resource = key(&fixture.maker, "/");
    let (de, en, none) = (fields(&[("x-lang", "de")]), fields(&[("x-lang", "en")]), fields(&[]));

    let stored_de = fixture.put(varied(&resource, &["x-lang"], &de)).unwrap();
    let stored_none = fixture.put(varied(&resource, &["x-lang"], &none)).unwrap();

    assert!(Arc::ptr_eq(&fixture.get(&resource, &de).unwrap(), &stored_de));
    assert!(Arc::ptr_eq(&fixture.get(&resource, &none).unwrap(), &stored_none));
    let Found::NoVariant(variants) = fixture.tier.find(&resource, &en) else { panic!("no variant fits") };
    let wanted = variants.selection_of(&en).unwrap();
    assert!(wanted.matches(&en) && !wanted.matches(&de));
    fixture.tier.tidy();
    assert_eq!(fixture.tier.entries(), 2, "the list of variants is no entry");
}

#[test]
fn a_variant_replaces_the_one_with_the_same_values_and_the_newest_date_wins() {
    let fixture = tier(1024 * KIB, 32);
    let resource = key(&fixture.maker, "/");
    let request = fields(&[("x-a", "1"), ("x-b", "1")]);
    let dated = |names: &[&str], date| NewEntry {
        meta: crate::cache::rfc9111::Meta { date, ..meta(60_000) },
        ..varied(&resource, names, &request)
    };

    fixture.put(dated(&["x-a"], 5)).unwrap();
    let newer = fixture.put(dated(&["x-b"], 9)).unwrap();
    assert!(Arc::ptr_eq(&fixture.get(&resource, &request).unwrap(), &newer));
    let newest = fixture.put(dated(&["x-a"], 11)).unwrap();

    assert!(Arc::ptr_eq(&fixture.get(&resource, &request).unwrap(), &newest));
    fixture.tier.tidy();
    assert_eq!(fixture.tier.entries(), 2);
}

#[test]
fn no_more_variants_than_allowed_until_one_is_of_no_more_use() {
    let fixture = tier(1024 * KIB, 3);
    let resource = key(&fixture.maker, "/");
    let nth = |n: usize| fields(&[("x-n", &n.to_string())]);
    let stored: Vec<_> = (0..3).map(|n| fixture.put(varied(&resource, &["x-n"], &nth(n))).unwrap()).collect();

    assert_eq!(fixture.put(varied(&resource, &["x-n"], &nth(3))).unwrap_err(), Reason::Variants);
    fixture.put(varied(&resource, &["x-n"], &nth(1))).unwrap();
    fixture.tier.remove(&stored[0]);
    fixture.put(varied(&resource, &["x-n"], &nth(3))).unwrap();

    assert!(fixture.get(&resource, &nth(0)).is_none());
    assert!(fixture.get(&resource, &nth(3)).is_some());
}

#[test]
fn removes_an_entry_only_as_long_as_it_lies_there() {
    let fixture = tier(1024 * KIB, 32);
    let key = key(&fixture.maker, "/");
    let old = fixture.put(answer(&key, 1)).unwrap();
    let new = fixture.put(answer(&key, 2)).unwrap();

    fixture.tier.remove(&old);
    assert!(Arc::ptr_eq(&fixture.get(&key, &fields(&[])).unwrap(), &new));
    fixture.tier.remove(&new);
    assert!(fixture.get(&key, &fields(&[])).is_none());
}

#[test]
fn coded_bodies_are_weighed_and_go_with_their_entries() {
    let size = 1024 * KIB;
    let fixture = tier(size, 32);
    let mut entries = Vec::new();
    let mut peak = 0;

    for n in 0..400 {
        let entry = fixture.put(answer(&key(&fixture.maker, &format!("/{n}")), 10_000)).unwrap();
        for coding in Coding::ALL {
            // A new entry may be turned away at once where the tier is full of others.
            let is_added = fixture.tier.add_coded(&entry, coding, vec![b'z'; 9_000].into(), 0);
            assert_eq!(is_added, entry.coded(coding).is_some());
            entries.push((Arc::downgrade(&entry), coding));
        }
        drop(entry);
        let weak: Vec<_> = entries.iter().step_by(2).map(|(entry, _)| entry.clone()).collect();
        peak = peak.max(live_bytes(&weak));
    }

    assert!(peak <= size * 6 / 5, "{peak} of {size}");
    assert!(peak >= size / 2, "{peak} of {size} is hardly used");
    let live: Vec<_> =
        entries.iter().filter_map(|(entry, coding)| Some((entry.upgrade()?, *coding))).collect();
    let is_coded = |(entry, coding): &&(Arc<Entry>, Coding)| entry.coded(*coding).is_some();
    assert!(live.iter().filter(is_coded).count() > live.len() / 2, "codings hardly ever stay");
    fixture.tier.tidy();
    assert!(fixture.tier.bytes() <= size);
    drop(live);
    drop(fixture.tier.clear());
    // The table frees what was removed once no other thread is in it: other tests may hold that up for a moment.
    let outlives = || entries.iter().any(|(entry, _)| entry.upgrade().is_some());
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while outlives() && tokio::time::Instant::now() < deadline {
        fixture.tier.tidy();
        std::thread::yield_now();
    }
    assert!(!outlives(), "something outlived its tier");
}

#[test]
fn the_weight_of_an_entry_grows_by_its_coded_bodies() {
    let fixture = tier(1024 * KIB, 32);
    let key = key(&fixture.maker, "/");
    let entry = fixture.put(answer(&key, 10_000)).unwrap();
    fixture.tier.tidy();
    let before = fixture.tier.bytes();

    assert!(fixture.tier.add_coded(&entry, Coding::Gzip, vec![b'z'; 5_000].into(), 0));

    assert!(Arc::ptr_eq(&fixture.get(&key, &fields(&[])).unwrap(), &entry), "it was lost for a moment");
    fixture.tier.tidy();
    assert_eq!(fixture.tier.entries(), 1);
    assert_eq!(fixture.tier.bytes(), u64::try_from(entry.size()).unwrap());
    assert!(fixture.tier.bytes() > before + 5_000);
    assert_eq!(fixture.tier.evictions(), 0);
    fixture.tier.remove(&entry);
    assert!(fixture.get(&key, &fields(&[])).is_none());
}

#[test]
fn only_an_entry_that_lies_there_gets_a_coded_body_that_fits() {
    let fixture = tier(64 * KIB, 32);
    let key = key(&fixture.maker, "/");
    let old = fixture.put(answer(&key, 5_000)).unwrap();
    let new = fixture.put(answer(&key, 5_000)).unwrap();

    assert!(!fixture.tier.holds(&old) && fixture.tier.holds(&new));
    assert!(!fixture.tier.add_coded(&old, Coding::Gzip, vec![b'z'; 10].into(), 0));
    assert!(!fixture.tier.add_coded(&new, Coding::Gzip, vec![b'z'; 4_000].into(), 0), "over an eighth");
    assert!(fixture.tier.add_coded(&new, Coding::Brotli, vec![b'z'; 10].into(), 0));
    assert!(old.coded(Coding::Gzip).is_none() && new.coded(Coding::Gzip).is_none());
}

#[test]
fn clear_takes_everything_out_and_frees_the_memory() {
    let fixture = tier(4096 * KIB, 32);
    let mut entries = Vec::new();
    for n in 0..1000 {
        entries
            .push(Arc::downgrade(&fixture.put(answer(&key(&fixture.maker, &format!("/{n}")), 100)).unwrap()));
    }
    let varies = key(&fixture.maker, "/varies");
    for n in 0..4 {
        let request = fields(&[("x-n", &n.to_string())]);
        entries.push(Arc::downgrade(&fixture.put(varied(&varies, &["x-n"], &request)).unwrap()));
    }

    let (cleared, retired) = fixture.tier.clear();
    drop(retired);

    assert_eq!(cleared, 1004);
    assert_eq!((fixture.tier.entries(), fixture.tier.bytes()), (0, 0));
    assert!(fixture.get(&key(&fixture.maker, "/5"), &fields(&[])).is_none());
    assert_eq!(live_bytes(&entries), 0);
    fixture.put(answer(&key(&fixture.maker, "/5"), 100)).unwrap();
    assert!(fixture.get(&key(&fixture.maker, "/5"), &fields(&[])).is_some());
}

/// Numbers of a Zipf distribution over `ranks` things, by its cumulated weights; the numbers come from a fixed seed.
struct Zipf {
    sums: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new(ranks: u32, exponent: f64) -> Self {
        let weights = (1..=ranks).map(|rank| f64::from(rank).powf(-exponent));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect(), state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn next(&mut self) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let share = (self.state >> 11) as f64 / (1_u64 << 53) as f64;
        let wanted = share * self.sums.last().copied().unwrap_or_default();
        self.sums.partition_point(|sum| *sum < wanted)
    }
}

/// The simplest of caches with the same bound: what was used longest ago goes first.
#[derive(Default)]
struct Lru {
    used: std::collections::HashMap<usize, (u64, u64)>,
    order: std::collections::BTreeMap<u64, usize>,
    bytes: u64,
    clock: u64,
}

impl Lru {
    fn get(&mut self, thing: usize, size: u64, bound: u64) -> bool {
        self.clock += 1;
        let known = self.used.insert(thing, (self.clock, size));
        self.order.insert(self.clock, thing);
        if let Some((at, _)) = known {
            self.order.remove(&at);
            return true;
        }
        self.bytes += size;
        while self.bytes > bound {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.bytes -= self.used.remove(&oldest).map_or(0, |(_, size)| size);
        }
        false
    }
}

#[test]
fn on_popular_things_it_hits_at_least_as_often_as_an_lru_of_its_size() {
    const SIZE: u64 = 4 << 20;
    const REQUESTS: usize = 120_000;
    let (maker, request) = (KeyMaker::default(), HeaderMap::new());
    for exponent in [0.7, 0.9, 1.1] {
        let tier = MemoryTier::new(SIZE, 32, maker.clone());
        let (mut zipf, mut lru) = (Zipf::new(20_000, exponent), Lru::default());
        let (mut hits, mut lru_hits) = (0_u32, 0_u32);
        for _ in 0..REQUESTS {
            let thing = zipf.next();
            let key = key(&maker, &format!("/{thing}"));
            // Bodies of many sizes, always the same for the same thing.
            let entry = Arc::new(Entry::new(answer(&key, 100 + thing * 37 % 4000)));
            lru_hits += u32::from(lru.get(thing, to_u64(entry.size()), SIZE));
            if matches!(tier.find(&key, &request), Found::Entry(_)) {
                hits += 1;
            } else {
                tier.put(&entry, 0).unwrap();
            }
        }
        assert!(hits >= lru_hits, "exponent {exponent}: {hits} hits, an LRU has {lru_hits}");
    }
}
