//! Keys whose last answer could not be stored. For a short while their requests do not wait for one another: the
//! first would keep the others waiting for an answer that none of them can share.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::key::{Key, KeyHash};

/// How long a key is remembered.
const REMEMBER_MS: u64 = 10_000;

/// Keys remembered at once.
const MAX_KEYS: usize = 10_000;

/// Remembers keys by their hash alone: if two share one, the other's requests fetch in parallel for a while.
#[derive(Debug, Default)]
pub(super) struct HitForMiss {
    until_ms: Mutex<HashMap<u64, u64, KeyHash>>,
}

impl HitForMiss {
    /// Remembers a key from now on. When there is no room the key is not remembered.
    pub(super) fn remember(&self, key: &Key, now_ms: u64) {
        let mut until_ms = self.until_ms.lock();
        if until_ms.len() >= MAX_KEYS && !until_ms.contains_key(&key.hash()) {
            until_ms.retain(|_, until_ms| *until_ms > now_ms);
            if until_ms.len() >= MAX_KEYS {
                return;
            }
        }
        until_ms.insert(key.hash(), now_ms.saturating_add(REMEMBER_MS));
    }

    /// Whether the last answer for this key could not be stored.
    #[must_use]
    pub(super) fn is_remembered(&self, key: &Key, now_ms: u64) -> bool {
        let mut until_ms = self.until_ms.lock();
        let Some(until) = until_ms.get(&key.hash()).copied() else { return false };
        if until <= now_ms {
            until_ms.remove(&key.hash());
        }
        until > now_ms
    }

    /// An answer for this key was stored.
    pub(super) fn forget(&self, key: &Key) {
        self.until_ms.lock().remove(&key.hash());
    }

    /// Forgets all keys.
    pub(super) fn clear(&self) {
        *self.until_ms.lock() = HashMap::default();
    }
}

#[cfg(test)]
mod tests {
    use super::{HitForMiss, MAX_KEYS, REMEMBER_MS};
    use crate::cache::key::{Key, KeyMaker, KeyRule, Scheme, Target};

    fn key(maker: &KeyMaker, path: &str) -> Key {
        let target = Target { scheme: Scheme::Http, authority: b"a", path: path.as_bytes(), query: None };
        maker.key(&KeyRule::default(), &target, &http::HeaderMap::new())
    }

    #[test]
    fn remembers_a_key_for_ten_seconds_or_until_an_answer_is_stored() {
        let (memory, maker) = (HitForMiss::default(), KeyMaker::default());
        let (one, two) = (key(&maker, "/1"), key(&maker, "/2"));

        memory.remember(&one, 1_000);
        memory.remember(&two, 1_000);
        memory.forget(&two);

        assert!(memory.is_remembered(&one, 1_000 + REMEMBER_MS - 1));
        assert!(!memory.is_remembered(&two, 1_000));
        assert!(!memory.is_remembered(&one, 1_000 + REMEMBER_MS));
        assert!(!memory.is_remembered(&one, 1_000));
    }

    #[test]
    fn holds_no_more_than_its_bound_and_makes_room_from_what_is_over() {
        let (memory, maker) = (HitForMiss::default(), KeyMaker::default());
        for n in 0..=MAX_KEYS {
            memory.remember(&key(&maker, &format!("/{n}")), 0);
        }

        assert_eq!(memory.until_ms.lock().len(), MAX_KEYS);
        assert!(!memory.is_remembered(&key(&maker, &format!("/{MAX_KEYS}")), 1));
        memory.remember(&key(&maker, "/late"), REMEMBER_MS);
        assert!(memory.is_remembered(&key(&maker, "/late"), REMEMBER_MS + 1));
        assert_eq!(memory.until_ms.lock().len(), 1);
    }
}
