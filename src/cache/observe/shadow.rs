//! Pretended caches, one for each lifetime: what they would have answered, and whether that was still true. As the true
//! answer is always fetched, each pretended hit is judged.
//!
//! Each lifetime runs its own course: after a pretended hit its entry stays as it was, after a miss it becomes the answer
//! that was fetched. Requests that overlap count as hits, as the second would have waited for the fetch of the first.
//! Purges are not pretended, so entries look wrong more often than they would be: the advice errs on the short side.

use super::{
    digest::Digest,
    population::{Dated, Population},
};
use crate::telemetry::observed::{AtTtl, TTLS, View};

/// An answer as the estimator takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// When it was asked for.
    pub(super) asked_ms: u64,
    /// When it was there as a whole.
    pub(super) ended_ms: u64,
    pub(super) proof: Proof,
    /// How long it may be kept at most; zero: not at all.
    pub(super) life_ms: u64,
    /// What a hit would have saved.
    pub(super) fetch_us: u64,
    /// A hash that stands for the user; zero for none.
    pub(super) who: u64,
    /// The request wanted a fresh answer, and a cache would have fetched one too.
    pub(super) is_refresh: bool,
}

/// What is known of the answer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// All of it, and a hash of its validator (zero: it has none).
    Whole { digest: Digest, validator: u64 },
    /// It is the one with this validator: the backend said 304.
    Unchanged(u64),
}

/// What is pretended for one key.
#[derive(Debug)]
struct Shadow {
    last_ms: u64,
    last: Digest,
    validator: u64,
    life_ms: u64,
    who: u64,
    entries: [Pretended; TTLS.len()],
}

/// A pretended entry. One that may not be kept expires before all time.
#[derive(Clone, Copy, Debug)]
struct Pretended {
    digest: Digest,
    expires_ms: u64,
}

/// The pretended caches for one sort of requests.
#[derive(Debug, Default)]
pub(super) struct Shadows {
    keys: Population<Shadow>,
    view: View,
}

impl Dated for Shadow {
    fn last_ms(&self) -> u64 {
        self.last_ms
    }
}

impl Shadows {
    /// Keys held.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Gives up keys.
    pub(super) fn shrink(&mut self, now_ms: u64) {
        self.keys.shrink(now_ms);
    }

    /// What came of it so far.
    pub(super) fn view(&self) -> View {
        View { keys: self.keys.distinct(), ..self.view }
    }

    /// Takes an answer; false when it could not be compared with what is known.
    pub(super) fn see(&mut self, key: u64, seen: &Seen) -> bool {
        let weight = self.keys.weight();
        if !self.keys.takes(key) {
            return true;
        }
        let Some(shadow) = self.keys.get_mut(key) else {
            let Proof::Whole { digest, validator } = seen.proof else { return false };
            self.view.sampled += 1;
            self.view.requests += weight;
            self.keys.insert(key, Shadow::new(digest, validator, seen));
            return true;
        };
        let (digest, validator, life_ms) = match seen.proof {
            Proof::Whole { digest, validator } => (digest, validator, seen.life_ms),
            Proof::Unchanged(validator) if validator == shadow.validator => {
                (shadow.last, validator, shadow.life_ms)
            }
            Proof::Unchanged(_) => return false,
        };
        let view = &mut self.view;
        view.sampled += 1;
        view.requests += weight;
        view.sampled_repeats += 1;
        view.repeats += weight;
        let is_same = digest == shadow.last;
        view.same += if is_same { weight } else { 0 };
        if seen.who != shadow.who {
            view.compared += 1;
            view.differing += u64::from(!is_same);
        }
        for ((entry, ttl), at) in shadow.entries.iter_mut().zip(TTLS).zip(&mut view.ttls) {
            if seen.asked_ms < entry.expires_ms && !seen.is_refresh {
                at.hit(entry.digest != digest, seen.fetch_us, weight);
            } else {
                *entry = Pretended::new(digest, seen.ended_ms, millis(ttl).min(life_ms));
            }
        }
        shadow.last_ms = shadow.last_ms.max(seen.asked_ms);
        (shadow.last, shadow.validator, shadow.life_ms, shadow.who) = (digest, validator, life_ms, seen.who);
        true
    }
}

impl Shadow {
    fn new(digest: Digest, validator: u64, seen: &Seen) -> Self {
        let entries = TTLS.map(|ttl| Pretended::new(digest, seen.ended_ms, millis(ttl).min(seen.life_ms)));
        Self {
            last_ms: seen.asked_ms,
            last: digest,
            validator,
            life_ms: seen.life_ms,
            who: seen.who,
            entries,
        }
    }
}

impl Pretended {
    fn new(digest: Digest, now_ms: u64, life_ms: u64) -> Self {
        let expires_ms = if life_ms == 0 { 0 } else { now_ms.saturating_add(life_ms) };
        Self { digest, expires_ms }
    }
}

impl AtTtl {
    fn hit(&mut self, is_wrong: bool, fetch_us: u64, weight: u64) {
        self.sampled_hits += 1;
        self.hits += weight;
        self.wrong += if is_wrong { weight } else { 0 };
        self.saved_us = self.saved_us.saturating_add(fetch_us.saturating_mul(weight));
    }
}

fn millis(ttl: std::time::Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
