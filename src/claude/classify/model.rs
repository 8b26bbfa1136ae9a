//! The model: linear over hashed features, with three heads: type, tier, serious. Weights are bytes; a feature's sixteen
//! weights lie side by side, so that one exchange costs one cache line a feature.

use std::borrow::Cow;

use super::error::CompileError;
use super::features::{Features, SCALES};
use super::scene::mix;
use crate::config::{MessageType, ModelTier};

/// The classes of the type head. `other` is one class for each tier it comes in.
pub const CLASSES: [(MessageType, ModelTier); 11] = [
    (MessageType::Greeting, ModelTier::Economy),
    (MessageType::SmallTalk, ModelTier::Economy),
    (MessageType::Confirmation, ModelTier::Economy),
    (MessageType::Logistics, ModelTier::Economy),
    (MessageType::Coaching, ModelTier::Standard),
    (MessageType::ChallengeGuidance, ModelTier::Standard),
    (MessageType::GoalSetting, ModelTier::Standard),
    (MessageType::EmotionalSupport, ModelTier::Standard),
    (MessageType::Assessment, ModelTier::Premium),
    (MessageType::Unknown, ModelTier::Economy),
    (MessageType::Unknown, ModelTier::Standard),
];

/// The place of emotional support in [`CLASSES`].
pub(super) const EMOTIONAL_SUPPORT: usize = 7;

/// Weights of one feature: eleven classes, three tiers, serious, one unused.
pub(super) const LANES: usize = 16;
const TIERS: usize = 11;
const SERIOUS: usize = 14;

/// What the model says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores {
    /// Probability of each of [`CLASSES`].
    pub classes: [f32; 11],
    /// Probability of each tier.
    pub tiers: [f32; 3],
    /// Probability of the serious flag.
    pub serious: f32,
}

impl Scores {
    /// From sums of weights.
    #[must_use]
    pub(super) fn from_sums(sums: &[f32; LANES]) -> Self {
        let mut scores = Self::default();
        softmax(&sums[..TIERS], &mut scores.classes);
        softmax(&sums[TIERS..SERIOUS], &mut scores.tiers);
        scores.serious = 1.0 / (1.0 + (-sums[SERIOUS]).exp());
        scores
    }

    /// The likeliest class.
    #[must_use]
    pub(super) fn class(&self) -> usize {
        let mut best = 0;
        for (place, score) in self.classes.iter().enumerate() {
            if *score > self.classes[best] {
                best = place;
            }
        }
        best
    }
}

/// Exponentials that add up to one.
pub(super) fn softmax(sums: &[f32], out: &mut [f32]) {
    let top = sums.iter().copied().fold(f32::MIN, f32::max);
    let mut total = 0.0;
    for (slot, sum) in out.iter_mut().zip(sums) {
        *slot = (sum - top).exp();
        total += *slot;
    }
    for slot in out.iter_mut() {
        *slot /= total;
    }
}

/// How much each feature of a group counts.
#[must_use]
pub(super) fn group_value(group: usize, count: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let root = (count.max(1) as f32).sqrt();
    SCALES.get(group).copied().unwrap_or(0.0) / root
}

/// Weights as the trainer makes them.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    /// The features that have weights, in order.
    pub(super) features: Vec<u32>,
    /// Sixteen weights a feature.
    pub(super) rows: Vec<[f32; LANES]>,
    /// The constant of each lane.
    pub(super) bias: [f32; LANES],
}

impl Weights {
    /// All zero, for some features in order.
    #[must_use]
    pub(super) fn zero(features: Vec<u32>) -> Self {
        Self { rows: vec![[0.0; LANES]; features.len()], features, bias: [0.0; LANES] }
    }

    /// The place of a feature.
    #[must_use]
    pub(super) fn place(&self, feature: u32) -> Option<usize> {
        self.features.binary_search(&feature).ok()
    }

    /// The sums of weights for some features.
    #[cfg(test)]
    #[must_use]
    pub(super) fn sums(&self, features: &Features) -> [f32; LANES] {
        let mut sums = self.bias;
        for (group, hashes) in features.groups.iter().enumerate() {
            let value = group_value(group, hashes.len());
            for place in hashes.iter().filter_map(|&hash| self.place(hash)) {
                for (sum, weight) in sums.iter_mut().zip(&self.rows[place]) {
                    *sum += value * weight;
                }
            }
        }
        sums
    }
}

/// The first bytes of a file of weights.
const MAGIC: &[u8; 8] = b"TLROUTE2";
const HEADER: usize = 8 + 32 + 4 + 2 * 4 * LANES;

/// Slots of a bucket: their fingerprints are compared at once. Most lookups find nothing, and end in the first bucket that
/// is not full.
const BUCKET: usize = 8;

/// The most features that a file holds: a table of 262,144 slots, 4.7 MB.
pub(super) const MOST_FEATURES: usize = 216_000;

impl Weights {
    /// The bytes of these weights: a header, then a hash table of fingerprints of features in buckets that are filled from
    /// their beginning and go over into the next one, then its rows.
    #[must_use]
    pub(super) fn to_bytes(&self, data_hash: [u8; 32]) -> Vec<u8> {
        let slots = (self.features.len() * 6 / 5).next_power_of_two().max(64);
        let scales: [f32; LANES] = std::array::from_fn(|lane| {
            let top = self.rows.iter().map(|row| row[lane].abs()).fold(0.0_f32, f32::max);
            if top == 0.0 { 1.0 } else { top / 127.0 }
        });
        let (mut prints, mut rows) = (vec![0_u16; slots], vec![[0_u8; LANES]; slots]);
        for (&feature, row) in self.features.iter().zip(&self.rows) {
            let mut slot = first_bucket(feature, slots / BUCKET) * BUCKET;
            while prints[slot] != 0 {
                slot = (slot + 1) & (slots - 1);
            }
            prints[slot] = fingerprint(feature);
            rows[slot] = std::array::from_fn(|lane| byte_of(row[lane] / scales[lane]));
        }
        let mut bytes = Vec::with_capacity(HEADER + slots * (2 + LANES));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&data_hash);
        bytes.extend_from_slice(&u32::try_from(slots).unwrap_or(0).to_le_bytes());
        for number in scales.iter().chain(&self.bias) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend(prints.iter().flat_map(|print| print.to_le_bytes()));
        bytes.extend(rows.iter().flatten());
        bytes
    }
}

fn byte_of(number: f32) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "the number is clamped first")]
    let byte = number.round().clamp(-127.0, 127.0) as i8;
    byte.to_le_bytes()[0]
}

const fn first_bucket(feature: u32, buckets: usize) -> usize {
    feature as usize & (buckets - 1)
}

/// Fifteen bits that are not those of the bucket; never zero.
const fn fingerprint(feature: u32) -> u16 {
    let [_, _, low, high] = mix(feature, 0xf1).to_le_bytes();
    u16::from_le_bytes([low, high]) | 1
}

/// Weights as the proxy reads them.
#[derive(Debug, Clone)]
pub(super) struct Model {
    data_hash: [u8; 32],
    scales: [f32; LANES],
    bias: [f32; LANES],
    prints: Cow<'static, [u8]>,
    rows: Cow<'static, [u8]>,
    slots: usize,
}

impl Model {
    /// The embedded weights.
    ///
    /// # Errors
    /// When they are not in the format.
    pub(super) fn embedded() -> Result<Self, CompileError> {
        Self::read(Cow::Borrowed(include_bytes!("weights.bin")))
    }

    /// Reads weights.
    ///
    /// # Errors
    /// When they are not in the format.
    pub(super) fn read(bytes: Cow<'static, [u8]>) -> Result<Self, CompileError> {
        let wrong = CompileError::Weights;
        let mut reader = bytes.get(..HEADER).ok_or(wrong("too short"))?;
        let mut take = |count: usize| {
            let (head, tail) = reader.split_at_checked(count)?;
            reader = tail;
            Some(head)
        };
        if take(8) != Some(&MAGIC[..]) {
            return Err(wrong("another format"));
        }
        let data_hash = take(32).and_then(|part| part.try_into().ok()).ok_or(wrong("no hash"))?;
        let mut number = || {
            take(4).and_then(|part| part.try_into().ok()).map(u32::from_le_bytes).ok_or(wrong("too short"))
        };
        let slots = number()? as usize;
        let (mut scales, mut bias) = ([0.0; LANES], [0.0; LANES]);
        for slot in scales.iter_mut().chain(bias.iter_mut()) {
            *slot = f32::from_bits(number()?);
        }
        if !slots.is_power_of_two() || bytes.len() != HEADER + slots * (2 + LANES) {
            return Err(wrong("another size"));
        }
        let middle = HEADER + slots * 2;
        let (prints, rows) = match bytes {
            Cow::Borrowed(all) => (Cow::Borrowed(&all[HEADER..middle]), Cow::Borrowed(&all[middle..])),
            Cow::Owned(all) => (Cow::Owned(all[HEADER..middle].to_vec()), Cow::Owned(all[middle..].to_vec())),
        };
        Ok(Self { data_hash, scales, bias, prints, rows, slots })
    }

    /// The hash of the data that the weights were made from.
    #[must_use]
    pub(super) const fn data_hash(&self) -> [u8; 32] {
        self.data_hash
    }

    /// The scores of some features.
    #[must_use]
    pub(super) fn scores(&self, features: &Features) -> Scores {
        let mut sums = self.bias;
        for (group, hashes) in features.groups.iter().enumerate() {
            let mut total = [0_i32; LANES];
            for &hash in hashes {
                if let Some(row) = self.row(hash) {
                    for (sum, &weight) in total.iter_mut().zip(row) {
                        *sum += i32::from(weight.cast_signed());
                    }
                }
            }
            let value = group_value(group, hashes.len());
            for lane in 0..LANES {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "sums of some thousand bytes are exact in f32"
                )]
                let sum = total[lane] as f32;
                sums[lane] += value * self.scales[lane] * sum;
            }
        }
        Scores::from_sums(&sums)
    }

    fn row(&self, hash: u32) -> Option<&[u8]> {
        let wanted = fingerprint(hash);
        let buckets = self.slots / BUCKET;
        let mut bucket = first_bucket(hash, buckets);
        loop {
            let prints = self.prints.get(bucket * BUCKET * 2..)?.first_chunk::<{ BUCKET * 2 }>()?;
            let prints: [u16; BUCKET] =
                std::array::from_fn(|slot| u16::from_le_bytes([prints[slot * 2], prints[slot * 2 + 1]]));
            // Without a branch for each slot: which one it is cannot be guessed.
            let found =
                (0..BUCKET).fold(0_u32, |found, slot| found | u32::from(prints[slot] == wanted) << slot);
            if found != 0 {
                let slot = bucket * BUCKET + found.trailing_zeros() as usize;
                return self.rows.get(slot * LANES..(slot + 1) * LANES);
            }
            if prints[BUCKET - 1] == 0 {
                return None;
            }
            bucket = (bucket + 1) & (buckets - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{LANES, Model, Scores, Weights};
    use crate::config::ModelTier;

    #[test]
    fn bytes_give_nearly_the_scores_of_the_weights() {
        let features: Vec<u32> = (0..500_u32).map(|number| number * 8_300_001 + 7).collect();
        let mut weights = Weights::zero(features.clone());
        for (place, row) in weights.rows.iter_mut().enumerate() {
            for (lane, weight) in row.iter_mut().enumerate() {
                *weight = ((place * 31 + lane * 17) % 41) as f32 / 20.0 - 1.0;
            }
        }
        weights.bias = [0.25; LANES];
        let mut seen = super::Features { groups: std::array::from_fn(|_| Vec::new()) };
        seen.groups[0] = features[..40].to_vec();
        seen.groups[3] = vec![features[77], 12345, 999];

        let model = Model::read(Cow::Owned(weights.to_bytes([3; 32]))).unwrap();
        let (exact, read) = (Scores::from_sums(&weights.sums(&seen)), model.scores(&seen));

        assert_eq!(model.data_hash(), [3; 32]);
        assert!((exact.serious - read.serious).abs() < 0.02);
        for (left, right) in exact.classes.iter().zip(read.classes) {
            assert!((left - right).abs() < 0.02);
        }
        assert!((exact.tiers.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        assert_eq!(exact.tiers.len(), ModelTier::COUNT);
    }

    #[test]
    fn damaged_weights_are_refused() {
        let bytes = Weights::zero(vec![1, 2, 3]).to_bytes([0; 32]);

        for damaged in
            [Vec::new(), bytes[..20].to_vec(), bytes[..bytes.len() - 1].to_vec(), vec![0; bytes.len()]]
        {
            assert!(Model::read(Cow::Owned(damaged)).is_err());
        }
        assert!(Model::embedded().is_ok());
    }
}
