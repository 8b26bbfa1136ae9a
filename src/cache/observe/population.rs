//! A bounded set of keys that stays a fair sample of all of them. A key is held if its hash ends in as many zero bits as the
//! set's level asks for, so whether it is depends on nothing that it does. What a held key does stands for as many keys as
//! are left out (Wegman's adaptive sampling; Flajolet, "On adaptive sampling", Computing 43, 1990). Dropping the keys used
//! least recently would instead forget just those that a long lifetime helps.

use std::collections::HashMap;

use crate::cache::to_u64;

/// A key that nobody has asked for in so long could not be a hit at any lifetime that is tried.
const FORGET_MS: u64 = 24 * 3600 * 1000;

/// What is held by key.
pub(super) trait Dated {
    /// When the key was asked for last.
    fn last_ms(&self) -> u64;
}

/// The keys held.
#[derive(Debug)]
pub(super) struct Population<T> {
    held: HashMap<u64, T, foldhash::fast::RandomState>,
    level: u32,
    /// Keys that were forgotten, scaled up.
    forgotten: u64,
}

impl<T> Default for Population<T> {
    fn default() -> Self {
        Self { held: HashMap::default(), level: 0, forgotten: 0 }
    }
}

impl<T: Dated> Population<T> {
    /// How many keys a held one stands for.
    pub(super) const fn weight(&self) -> u64 {
        1 << self.level
    }

    /// Whether the key is one of those that are held.
    pub(super) const fn takes(&self, key: u64) -> bool {
        key.trailing_zeros() >= self.level
    }

    /// Keys held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// An estimate of all keys; exact while none is left out.
    pub(super) fn distinct(&self) -> u64 {
        let held = to_u64(self.held.len());
        held.saturating_mul(self.weight()).saturating_add(self.forgotten)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        self.held.get_mut(&key)
    }

    pub(super) fn insert(&mut self, key: u64, value: T) {
        if self.takes(key) {
            self.held.insert(key, value);
        }
    }

    /// Gives up keys: those that are of no use any more, or about half of all.
    pub(super) fn shrink(&mut self, now_ms: u64) {
        let before = self.held.len();
        self.held.retain(|_, value| value.last_ms().saturating_add(FORGET_MS) > now_ms);
        let gone = to_u64(before - self.held.len());
        self.forgotten = self.forgotten.saturating_add(gone.saturating_mul(self.weight()));
        if gone > 0 && self.held.len() <= before - before / 8 {
            return;
        }
        if self.level < 63 {
            self.level += 1;
        }
        let level = self.level;
        self.held.retain(|key, _| key.trailing_zeros() >= level);
        self.held.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::{Dated, FORGET_MS, Population};

    impl Dated for u64 {
        fn last_ms(&self) -> u64 {
            *self
        }
    }

    fn hashes() -> impl Iterator<Item = u64> {
        let seed = foldhash::quality::FixedState::with_seed(7);
        (0_u64..).map(move |n| seed.hash_one(n))
    }

    #[test]
    fn a_flood_of_keys_is_counted_without_being_held() {
        let mut keys: Population<u64> = Population::default();
        for key in hashes().take(100_000) {
            if keys.takes(key) && keys.get_mut(key).is_none() {
                while keys.len() >= 1000 {
                    keys.shrink(1);
                }
                keys.insert(key, 1);
            }
        }

        assert!(keys.len() <= 1000);
        assert!((90_000..110_000).contains(&keys.distinct()), "{}", keys.distinct());
        assert!(keys.weight() >= 128);
    }

    #[test]
    fn what_nobody_asks_for_goes_first_and_stays_counted() {
        let mut keys: Population<u64> = Population::default();
        for (at, key) in hashes().take(100).enumerate() {
            keys.insert(key, if at < 40 { 0 } else { FORGET_MS });
        }

        keys.shrink(FORGET_MS + 1);

        assert_eq!((keys.len(), keys.distinct(), keys.weight()), (60, 100, 1));
        keys.shrink(FORGET_MS + 2);
        assert_eq!(keys.weight(), 2);
    }
}
