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

    /// Keeps the features that move the sums most: those with the largest squares of weights, each by how much the feature
    /// takes part.
    pub(super) fn prune(&mut self, mass: &[f32], most: usize) {
        let squares = |row: &[f32; LANES]| row.iter().map(|weight| weight * weight).sum::<f32>();
        let mut order: Vec<(f32, usize)> =
            self.rows.iter().zip(mass).map(|(row, mass)| squares(row) * mass).zip(0..).collect();
        order.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        order.truncate(most);
        order.sort_unstable_by_key(|&(_, place)| place);
        self.features = order.iter().map(|&(_, place)| self.features[place]).collect();
        self.rows = order.iter().map(|&(_, place)| self.rows[place]).collect();
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
const MAGIC: &[u8; 8] = b"TLROUTE3";
const HEADER: usize = 8 + 32 + 4 + 2 * 4 * LANES;

/// Slots of a bucket: their fingerprints fill one word and are compared at once.
const BUCKET: usize = 4;

/// The most features that a file holds.
pub(super) const MOST_FEATURES: usize = 160_000;

/// Places that are tried for a feature before the table is made larger.
const MOST_MOVES: usize = 500;

impl Weights {
    /// The bytes of these weights: a header, then a cuckoo hash table of fingerprints of features, then its rows. A feature
    /// is in one of two buckets, so that every lookup takes the same few steps, found or not, and many can be under way at once.
    #[must_use]
    pub(super) fn to_bytes(&self, data_hash: [u8; 32]) -> Vec<u8> {
        let scales: [f32; LANES] = std::array::from_fn(|lane| {
            let top = self.rows.iter().map(|row| row[lane].abs()).fold(0.0_f32, f32::max);
            if top == 0.0 { 1.0 } else { top / 127.0 }
        });
        let mut buckets = self.features.len() * 17 / (16 * BUCKET) + 1;
        let table = loop {
            if let Some(table) = self.table(buckets) {
                break table;
            }
            buckets += buckets / 32 + 1;
        };
        let mut bytes = Vec::with_capacity(HEADER + table.len() * (2 + LANES));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&data_hash);
        bytes.extend_from_slice(&u32::try_from(buckets).unwrap_or(0).to_le_bytes());
        for number in scales.iter().chain(&self.bias) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let print = |place: &Option<usize>| place.map_or(0, |place| fingerprint(self.features[place]));
        bytes.extend(table.iter().flat_map(|place| print(place).to_le_bytes()));
        for place in table {
            let row = place.map_or([0.0; LANES], |place| self.rows[place]);
            bytes.extend((0..LANES).map(|lane| byte_of(row[lane] / scales[lane])));
        }
        bytes
    }

    /// The places of features in their slots, if there is room for all.
    fn table(&self, buckets: usize) -> Option<Vec<Option<usize>>> {
        let mut table = vec![None; buckets * BUCKET];
        for start in 0..self.features.len() {
            let mut homeless = start;
            let mut bucket = buckets_of(self.features[start], buckets)[0];
            let mut moves = 0;
            loop {
                let both = buckets_of(self.features[homeless], buckets);
                let free = both.into_iter().flat_map(slots).find(|&slot| table[slot].is_none());
                if let Some(slot) = free {
                    table[slot] = Some(homeless);
                    break;
                }
                if moves == MOST_MOVES {
                    return None;
                }
                // Whoever has to go is tried in the other one of its own buckets.
                let slot = bucket * BUCKET + moves % BUCKET;
                let displaced = table[slot].replace(homeless)?;
                let [first, second] = buckets_of(self.features[displaced], buckets);
                bucket = if bucket == first { second } else { first };
                homeless = displaced;
                moves += 1;
            }
        }
        Some(table)
    }
}

fn slots(bucket: usize) -> std::ops::Range<usize> {
    bucket * BUCKET..(bucket + 1) * BUCKET
}

fn byte_of(number: f32) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "the number is clamped first")]
    let byte = number.round().clamp(-127.0, 127.0) as i8;
    byte.to_le_bytes()[0]
}

/// The two buckets that a feature may be in.
fn buckets_of(feature: u32, buckets: usize) -> [usize; 2] {
    let part = |hash: u32| usize::try_from((u64::from(hash) * buckets as u64) >> 32).unwrap_or(0);
    [part(feature), part(mix(feature, 0xb2))]
}

/// Fifteen bits that are not those of the buckets, and one that keeps it from being zero: so an empty slot is marked.
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
    buckets: usize,
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
        let buckets = number()? as usize;
        let slots =
            buckets.checked_mul(BUCKET).filter(|&slots| slots <= bytes.len()).ok_or(wrong("another size"))?;
        let (mut scales, mut bias) = ([0.0; LANES], [0.0; LANES]);
        for slot in scales.iter_mut().chain(bias.iter_mut()) {
            *slot = f32::from_bits(number()?);
        }
        if buckets == 0 || bytes.len() != HEADER + slots * (2 + LANES) {
            return Err(wrong("another size"));
        }
        let middle = HEADER + slots * 2;
        let (prints, rows) = match bytes {
            Cow::Borrowed(all) => (Cow::Borrowed(&all[HEADER..middle]), Cow::Borrowed(&all[middle..])),
            Cow::Owned(all) => (Cow::Owned(all[HEADER..middle].to_vec()), Cow::Owned(all[middle..].to_vec())),
        };
        Ok(Self { data_hash, scales, bias, prints, rows, buckets })
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
        let mut places = [0; AT_ONCE];
        for (group, hashes) in features.groups.iter().enumerate() {
            let mut total = [0_i32; LANES];
            for some in hashes.chunks(AT_ONCE) {
                let count = self.find(some, &mut places);
                let part = self.sum(&places[..count]);
                for (total, part) in total.iter_mut().zip(part) {
                    *total += i32::from(part);
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

    /// Finds the slots of the features that are known, and says how many. There is no branch on what was found, which
    /// cannot be guessed: the processor reads the next buckets while it waits for these.
    fn find(&self, hashes: &[u32], places: &mut [usize; AT_ONCE]) -> usize {
        let (prints, _) = self.prints.as_chunks::<{ BUCKET * 2 }>();
        let mut count = 0;
        for &hash in hashes.iter().take(AT_ONCE) {
            let wanted = u64::from(fingerprint(hash)) * LOWEST;
            let [first, second] = buckets_of(hash, self.buckets);
            let (Some(in_first), Some(in_second)) = (prints.get(first), prints.get(second)) else { continue };
            let in_first = equal(u64::from_le_bytes(*in_first), wanted);
            let in_second = equal(u64::from_le_bytes(*in_second), wanted);
            let (bucket, found) = if in_first == 0 { (second, in_second) } else { (first, in_first) };
            places[count % AT_ONCE] = bucket * BUCKET + (found.trailing_zeros() as usize / 16) % BUCKET;
            count += usize::from(found != 0);
        }
        count
    }

    /// The sum of so few rows that it fits.
    fn sum(&self, places: &[usize]) -> [i16; LANES] {
        let (rows, _) = self.rows.as_chunks::<LANES>();
        let mut sum = [0_i16; LANES];
        for row in places.iter().filter_map(|&place| rows.get(place)) {
            for (sum, &weight) in sum.iter_mut().zip(row) {
                *sum += i16::from(weight.cast_signed());
            }
        }
        sum
    }
}

/// Rows that are summed in sixteen bits: 256 times 127 fits.
const AT_ONCE: usize = 256;

/// The lowest bit of each fingerprint of a bucket.
const LOWEST: u64 = 0x0001_0001_0001_0001;

/// A word whose lowest bit is in the first fingerprint of a bucket that is the wanted one; zero where there is none.
const fn equal(bucket: u64, wanted: u64) -> u64 {
    let differs = bucket ^ wanted;
    // A borrow out of a zero can mark what lies above it, and only that.
    differs.wrapping_sub(LOWEST) & !differs & (LOWEST << 15)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{AT_ONCE, BUCKET, LANES, Model, Scores, Weights, mix};
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
    fn every_feature_of_a_full_table_is_found_in_one_of_two_buckets() {
        let features: Vec<u32> = (0..20_000_u32).map(|number| mix(number, 5)).collect();
        let mut sorted = features.clone();
        sorted.sort_unstable();
        let mut weights = Weights::zero(sorted);
        weights.rows.iter_mut().for_each(|row| row[0] = 1.0);

        let model = Model::read(Cow::Owned(weights.to_bytes([0; 32]))).unwrap();

        let found = |hashes: &[u32]| -> usize {
            hashes.chunks(AT_ONCE).map(|some| model.find(some, &mut [0; AT_ONCE])).sum()
        };
        assert_eq!(found(&features), features.len());
        let others: Vec<u32> = (20_000..40_000_u32).map(|number| mix(number, 5)).collect();
        assert!(found(&others) < 20, "fifteen bits of eight fingerprints: one in four thousand");
        assert!(model.buckets * BUCKET < features.len() * 9 / 8, "and few slots are empty");
    }

    #[test]
    fn what_moves_the_sums_least_is_left_out() {
        let mut weights = Weights::zero(vec![10, 20, 30]);
        (weights.rows[0][3], weights.rows[1][3], weights.rows[2][3]) = (-2.0, 0.5, 1.0);

        weights.prune(&[1.0, 100.0, 1.0], 2);

        assert_eq!(weights.features, [10, 20]);
        assert_eq!([weights.rows[0][3], weights.rows[1][3]], [-2.0, 0.5]);
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
