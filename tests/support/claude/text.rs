//! Deterministic words, identifiers and digests: the same seed and request give the same answer. No API rules.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Words of several scripts, so that every cut through an answer may fall inside a character.
const WORDS: &[&str] = &[
    "growth",
    "small",
    "steps",
    "café",
    "listen",
    "naïve",
    "Übung",
    "today",
    "目標",
    "honest",
    "pause",
    "über",
    "mañana",
    "🙂",
    "—",
    "practice",
    "feedback",
    "smörgås",
    "trust",
    "вопрос",
    "curious",
    "notice",
    "week",
    "façade",
    "💡",
    "habit",
    "reflect",
    "brave",
    "plan",
    "next",
];

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A SHA-256 digest.
pub(crate) type Digest = [u8; 32];

/// The SHA-256 of parts that are kept apart by their lengths.
pub(crate) fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The SHA-256 of plain bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().chain(&[0, 0]).take(3).fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        for (i, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let symbol = BASE64.get(group >> shift & 63).map_or('A', |byte| char::from(*byte));
            text.push(if i <= chunk.len() { symbol } else { '=' });
        }
    }
    text
}

/// Reads base64 with padding; `None` if it is not that.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let symbols = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - symbols.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for symbol in symbols {
        let value = BASE64.iter().position(|known| known == symbol)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// A small generator (splitmix64), seeded by a digest.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeds from the seed of the instance and anything that tells requests apart.
    pub(crate) fn new(seed: u64, parts: &[&[u8]]) -> Self {
        let digest = digest(parts);
        let mixed = digest.iter().take(8).fold(seed, |sum, byte| sum.rotate_left(8) ^ u64::from(*byte));
        Self(mixed)
    }

    /// The next number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// An identifier as the API makes them, for example `msg_01...`.
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        let mut id = format!("{prefix}01");
        for _ in 0..22 {
            let symbol = ALPHABET.get(self.below(ALPHABET.len())).copied().unwrap_or(b'1');
            id.push(char::from(symbol));
        }
        id
    }

    /// About `bytes` bytes of words, and never more: it stops at a character.
    pub(crate) fn prose(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            if !text.is_empty() {
                text.push_str(if self.below(9) == 0 { ". " } else { " " });
            }
            text.push_str(WORDS.get(self.below(WORDS.len())).copied().unwrap_or("word"));
        }
        let mut end = bytes;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }
}
