//! The entries used most. Each entry counts its own hits; a short board holds those with the highest counts, so that
//! telling them needs no walk over a million entries.
//!
//! An entry asks for a place each time its count has grown by about an eighth, if that is more than the lowest count on
//! the board: a hit costs one addition, and the board's lock is seldom taken. The price is that an entry may come on the
//! board an eighth later than it could.

use std::{
    cmp::Reverse,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::entry::Entry;

/// Places on the board: some more than are ever shown, as entries leave it by being replaced or evicted.
const PLACES: usize = 64;

/// The board.
#[derive(Debug, Default)]
pub(super) struct Hot {
    /// Weak, so that nothing is kept for being counted.
    board: Mutex<Vec<Weak<Entry>>>,
    /// The lowest count on a full board; zero while there is room.
    least: AtomicU64,
}

impl Hot {
    /// Counts a hit.
    pub(super) fn count(&self, entry: &Arc<Entry>) {
        let hits = entry.add_hit();
        let step = 1 << hits.ilog2().saturating_sub(3);
        if hits.is_multiple_of(step) && hits > self.least.load(Relaxed) {
            self.admit(entry);
        }
    }

    /// The entries on the board, most used first.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.settle(&mut self.board.lock())
    }

    /// Gives the places of entries that are gone to others.
    pub(super) fn tidy(&self) {
        self.entries();
    }

    fn admit(&self, entry: &Arc<Entry>) {
        let mut board = self.board.lock();
        if !board.iter().any(|place| std::ptr::eq(place.as_ptr(), Arc::as_ptr(entry))) {
            board.push(Arc::downgrade(entry));
            self.settle(&mut board);
        }
    }

    /// Leaves the living on the board, at most as many as there are places, and returns them, most used first.
    fn settle(&self, board: &mut Vec<Weak<Entry>>) -> Vec<Arc<Entry>> {
        let mut living: Vec<(u64, Arc<Entry>)> =
            board.iter().filter_map(Weak::upgrade).map(|entry| (entry.hits(), entry)).collect();
        living.sort_by_key(|(hits, _)| Reverse(*hits));
        living.truncate(PLACES);
        let least = living.get(PLACES - 1).map_or(0, |(hits, _)| *hits);
        self.least.store(least, Relaxed);
        let living: Vec<Arc<Entry>> = living.into_iter().map(|(_, entry)| entry).collect();
        *board = living.iter().map(Arc::downgrade).collect();
        living
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{
        key::KeyMaker,
        samples::{answer, key},
    };

    fn entries(count: usize) -> Vec<Arc<Entry>> {
        let maker = KeyMaker::default();
        (0..count)
            .map(|number| Arc::new(Entry::new(answer(&key(&maker, &format!("/{number}")), 1))))
            .collect()
    }

    fn hit(hot: &Hot, entry: &Arc<Entry>, times: u64) {
        for _ in 0..times {
            hot.count(entry);
        }
    }

    #[test]
    fn the_most_used_come_first_and_each_once() {
        let (hot, entries) = (Hot::default(), entries(3));
        for (entry, times) in entries.iter().zip([5, 700, 31]) {
            hit(&hot, entry, times);
        }

        let counts: Vec<u64> = hot.entries().iter().map(|entry| entry.hits()).collect();

        assert_eq!(counts, [700, 31, 5]);
    }

    #[test]
    fn a_full_board_gives_the_places_to_those_used_more() {
        let (hot, entries) = (Hot::default(), entries(1000));
        for (number, entry) in (1..).zip(&entries) {
            hit(&hot, entry, number);
        }

        let found = hot.entries();

        assert_eq!(found.len(), PLACES);
        assert_eq!(found.first().map(|entry| entry.hits()), Some(1000));
        let exact = 1000 - PLACES as u64;
        let least = found.last().map(|entry| entry.hits()).unwrap_or_default();
        assert!(least > exact - exact / 8, "{least}");
    }

    #[test]
    fn what_is_gone_holds_neither_memory_nor_a_place() {
        let (hot, mut old) = (Hot::default(), entries(PLACES));
        for entry in &old {
            hit(&hot, entry, 100);
        }
        let watched = Arc::downgrade(&old[0]);
        old.clear();
        assert!(watched.upgrade().is_none());
        assert!(hot.entries().is_empty());

        let new = entries(1);
        hit(&hot, &new[0], 1);

        assert_eq!(hot.entries().len(), 1);
    }
}
