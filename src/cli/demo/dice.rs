//! Small pseudo-random numbers for latencies and for what the pretended users do next. Not for secrets.

use std::sync::atomic::{AtomicU64, Ordering};

/// A `SplitMix64` generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub(super) struct Dice {
    state: AtomicU64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// A number from `low` to `high`, both included; `low` when the range is empty.
    pub(super) fn between(&self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low).saturating_add(1);
        low + self.next() % width
    }

    fn next(&self) -> u64 {
        let state = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        scramble(state.wrapping_add(0x9e37_79b9_7f4a_7c15))
    }
}

/// A number that looks random but is always the same for the same text.
pub(super) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0x5eed, |hash, byte| scramble(hash ^ u64::from(byte)))
}

fn scramble(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Dice, fingerprint};

    #[test]
    fn stays_inside_the_range_and_reaches_both_ends() {
        let dice = Dice::new(1);

        let rolls: Vec<u64> = (0..1_000).map(|_| dice.between(1, 6)).collect();

        assert_eq!(rolls.iter().min(), Some(&1));
        assert_eq!(rolls.iter().max(), Some(&6));
        assert_eq!(dice.between(9, 3), 9);
    }

    #[test]
    fn the_same_text_gives_the_same_fingerprint() {
        assert_eq!(fingerprint("amara"), fingerprint("amara"));
        assert_ne!(fingerprint("amara"), fingerprint("bo"));
    }
}
