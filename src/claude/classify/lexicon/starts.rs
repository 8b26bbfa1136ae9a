//! Where phrases may start, found with few branches that no processor can foresee: the starts of words of a block of text
//! as bits, the first bytes of phrases as numbers, and a filter of such starts. Whether a phrase is really there is not
//! known here.

/// How many bytes are searched for starts of words at once: a bit each.
pub(super) const BLOCK: usize = 64;

/// A bit for each byte of an ASCII block that may start a phrase: marks, and letters and digits that stand after neither.
/// Says also whether the last byte is a letter or digit.
#[must_use]
pub(super) fn starts_of_words(block: &[u8], inside: bool) -> (u64, bool) {
    let mut padded = [b' '; BLOCK];
    padded[..block.len()].copy_from_slice(block);
    let letters = bits(&padded.map(|byte| u8::from(byte.is_ascii_alphanumeric())));
    let spaces = bits(&padded.map(|byte| u8::from(byte == b' ')));
    let starts = !spaces & !(letters & (letters << 1 | u64::from(inside)));
    (starts, letters >> (block.len() - 1) & 1 == 1)
}

/// One bit for each byte, which is 0 or 1.
fn bits(bytes: &[u8; BLOCK]) -> u64 {
    let (eights, _) = bytes.as_chunks::<8>();
    eights
        .iter()
        .rev()
        .fold(0, |all, &eight| all << 8 | u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56)
}

/// What stands after the end of a text. Neither this byte nor [`WORD`] is ever in one.
const PADDING: u8 = 0xfe;

/// The last byte of the key of a short word.
const WORD: u8 = 0xff;

/// Eight bytes of a text, with padding after its end.
#[must_use]
pub(in super::super) fn window(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    if let Some(eight) = rest.first_chunk::<8>() {
        return u64::from_le_bytes(*eight);
    }
    rest.iter().rev().fold(u64::from_le_bytes([PADDING; 8]), |all, &byte| all << 8 | u64::from(byte))
}

/// The letters and digits that a window starts with, marked as a whole word, and how many they are. Eight are no short
/// word and give a key that no word has.
#[must_use]
pub(super) const fn short_word(window: u64) -> (u64, usize) {
    let letters = at_least(window, b'a') & !at_least(window, b'z' + 1)
        | at_least(window, b'0') & !at_least(window, b'9' + 1);
    let others = !(letters & !window) & TOPS;
    let length = (others.trailing_zeros() / 8) as usize;
    let word = window & ((others & others.wrapping_neg()).wrapping_sub(1) >> 7);
    (if others == 0 { 0 } else { word | (WORD as u64) << 56 }, length)
}

/// How many lower-case letters a window starts with.
#[must_use]
pub(in super::super) const fn letters(window: u64) -> usize {
    let letters = at_least(window, b'a') & !at_least(window, b'z' + 1) & !window;
    ((!letters & TOPS).trailing_zeros() / 8) as usize
}

/// The top bits of the bytes of a window.
const TOPS: u64 = 0x8080_8080_8080_8080;

/// The top bit of each ASCII byte that is at least this one.
const fn at_least(window: u64, byte: u8) -> u64 {
    (window & !TOPS) + (0x80 - byte as u64) * (TOPS >> 7)
}

/// The lengths of starts that are told apart.
pub(super) const LENGTHS: [usize; 4] = [2, 4, 6, 8];

/// The first bytes of a window.
#[must_use]
pub(super) const fn start(window: u64, length: usize) -> u64 {
    let rest = 64 - 8 * length;
    window << rest >> rest
}

/// The starts of a phrase that is no short word: as many of its bytes as the greatest of [`LENGTHS`] that it has. A single
/// byte counts only where no ASCII letter or digit follows.
#[must_use]
pub(super) fn starts_of(phrase: &[u8]) -> Vec<u64> {
    if let &[only] = phrase {
        let ends = (0..=u8::MAX).filter(|next| !next.is_ascii_alphanumeric());
        return ends.map(|next| start(window(&[only, next], 0), 2)).collect();
    }
    let length = LENGTHS.into_iter().rfind(|&length| length <= phrase.len());
    length.map(|length| start(window(phrase, 0), length)).into_iter().collect()
}

/// A Bloom filter of starts: in one byte a bit for each of [`LENGTHS`].
#[derive(Debug, Clone)]
pub(super) struct Sieve(Vec<u8>);

impl Sieve {
    /// The logarithm of the number of bytes. A fifteenth are marked for the most frequent length; twice as many cost more
    /// in the processor's cache than they spare.
    const LOG_BYTES: u32 = 16;

    /// A filter that nothing passes.
    #[must_use]
    pub(super) fn new() -> Self {
        Self(vec![0; 1 << Self::LOG_BYTES])
    }

    /// Lets a start pass.
    pub(super) fn add(&mut self, key: u64) {
        let length = (71 - key.leading_zeros() as usize) / 8;
        let bit = LENGTHS.into_iter().position(|known| length <= known);
        if let (Some(bit), Some(byte)) = (bit, self.0.get_mut(scatter(key, 64 - Self::LOG_BYTES))) {
            *byte |= 1 << bit;
        }
    }

    /// A bit for each of [`LENGTHS`] of which a phrase may start here.
    #[must_use]
    pub(super) fn passes(&self, window: u64) -> u8 {
        LENGTHS.into_iter().enumerate().fold(0, |found, (bit, length)| {
            let place = scatter(start(window, length), 64 - Self::LOG_BYTES);
            found | self.0.get(place).map_or(0, |byte| byte & 1 << bit)
        })
    }
}

/// The upper bits of a product with the golden ratio.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "at most 32 bits are left")]
pub(super) const fn scatter(key: u64, shift: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use super::{Sieve, letters, short_word, starts_of, starts_of_words, window};

    #[test]
    fn words_start_after_what_is_no_letter() {
        let text = b"it's a  3rd-rate day";

        let (starts, inside) = starts_of_words(text, false);
        let (continued, _) = starts_of_words(text, true);

        let places: Vec<usize> = (0..64).filter(|place| starts >> place & 1 == 1).collect();
        assert_eq!(places, [0, 2, 3, 5, 8, 11, 12, 17]);
        assert_eq!(continued, starts & !1);
        assert!(inside);
    }

    #[test]
    fn short_words_end_where_their_letters_end() {
        let word = |text: &str| short_word(window(text.as_bytes(), 0));

        assert_eq!(word("the cat"), word("the, dog"));
        assert_eq!(word("seven11"), (word("seven11!").0, 7));
        assert_ne!(word("the").0, word("they").0);
        assert_eq!(word("progress").0, 0);
        assert_eq!(word("caf\u{e9}").1, 3);
        assert_eq!(letters(window(b"ab1", 0)), 2);
        assert_eq!(letters(window(b"abcdefghi", 0)), 8);
    }

    #[test]
    fn phrases_pass_the_sieve() {
        let mut sieve = Sieve::new();
        for phrase in ["?", "ok!", "i am", "what if", "thank you so"] {
            starts_of(phrase.as_bytes()).into_iter().for_each(|start| sieve.add(start));
        }

        let passes = |text: &str| sieve.passes(window(text.as_bytes(), 0));
        assert_eq!(["? ", "?", "ok!", "i am", "what if", "thank you"].map(passes), [1, 1, 1, 2, 4, 8]);
        assert_eq!(["thanks", "what now", "", "?a"].map(passes), [0; 4]);
    }
}
