//! How long answers are: a running mean by type of message, for prices before the answer is known.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::{MessageType, ModelTier, Types};

/// What is assumed of a tier's answers until some were seen, in tokens.
const ASSUMED: [u64; ModelTier::COUNT] = [60, 350, 900];

/// An answer counts for one part in this many.
const WEIGHT: u64 = 16;

/// The means, in sixteenths of a token.
pub(super) struct Outputs([AtomicU64; MessageType::ALL.len()]);

impl Outputs {
    pub(super) fn new(types: &Types) -> Self {
        let assumed = |kind| ASSUMED.get(types.of(kind).index()).copied().unwrap_or(350);
        Self(MessageType::ALL.map(|kind| AtomicU64::new(assumed(kind) * WEIGHT)))
    }

    /// Tokens of an answer to a message of a type.
    pub(super) fn expected(&self, kind: MessageType) -> u64 {
        self.0.get(kind.index()).map_or(350, |mean| mean.load(Relaxed) / WEIGHT)
    }

    /// Counts an answer. Of two at the same moment one may be lost: it is a mean.
    pub(super) fn learn(&self, kind: MessageType, tokens: u64) {
        if let Some(mean) = self.0.get(kind.index()) {
            let before = mean.load(Relaxed);
            mean.store(before - before / WEIGHT + tokens.min(1_000_000), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outputs;
    use crate::config::{MessageType, Types};

    #[test]
    fn the_mean_follows_what_is_seen() {
        let outputs = Outputs::new(&Types::default());
        assert_eq!(outputs.expected(MessageType::SmallTalk), 60);
        assert_eq!(outputs.expected(MessageType::Assessment), 900);

        for _ in 0..200 {
            outputs.learn(MessageType::SmallTalk, 200);
        }

        assert!((195..=200).contains(&outputs.expected(MessageType::SmallTalk)));
        assert_eq!(outputs.expected(MessageType::Coaching), 350);
    }
}
