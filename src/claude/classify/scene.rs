//! An exchange, read once: normalised turns with their tokens, the lists of words they hit and what can be counted.

use std::borrow::Cow;

use super::lexicon::{Hits, Lexicon, is_hangul, is_unspaced, letters, window};
use super::normalise::normalise;
use super::{Exchange, Role};

/// How many user turns before the last one the model reads, and how many of the coach's before its last.
pub(super) const EARLIER: usize = 3;

/// The most user turns before the last one that are searched for serious words.
const MOST_EARLIER: usize = 20;

/// The most bytes of a turn that the model reads; the middle of a longer one is left out.
const LAST_BYTES: usize = 1400;
const COACH_BYTES: usize = 400;
const EARLIER_BYTES: usize = 240;
const SYSTEM_BYTES: usize = 700;

/// One turn.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// The normalised text, or its head and tail.
    pub(super) text: String,
    /// One hash a word, number, emoji or mark; each character of a script without spaces.
    pub(super) tokens: Vec<u32>,
    /// The lists of words that the turn hits.
    pub(super) hits: Hits,
    /// What can be counted.
    pub(super) counts: Counts,
}

/// What can be counted in a turn.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    /// Words; six characters of a script without spaces count as four.
    pub(super) words: usize,
    /// Bytes before anything was left out.
    pub(super) bytes: usize,
    /// Numbers.
    pub(super) numbers: usize,
    /// Numbers with a slash or colon between them.
    pub(super) ratios: usize,
    /// Question marks.
    pub(super) questions: usize,
    /// Line breaks.
    pub(super) lines: usize,
    /// Characters that are neither letters, digits, marks nor spaces.
    pub(super) symbols: usize,
    /// The script of most letters.
    pub(super) script: Script,
    /// Whether it ends with a question mark.
    pub(super) ends_asking: bool,
    /// Double quotes.
    pub(super) quotes: usize,
}

/// Scripts that are told apart.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// Latin, or no letters.
    #[default]
    Latin,
    /// Cyrillic.
    Cyrillic,
    /// Arabic.
    Arabic,
    /// Devanagari.
    Devanagari,
    /// Chinese or Japanese.
    Han,
    /// Korean.
    Hangul,
    /// Another one.
    Other,
}

/// An exchange, read.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// The last user turn.
    pub(super) last: Segment,
    /// The coach's turn before it.
    pub(super) coach: Segment,
    /// User turns before the last one, the newest first.
    pub(super) earlier: Vec<Segment>,
    /// The lists that the coach's turns before that hit.
    pub(super) coach_before: Hits,
    /// The system prompt.
    pub(super) system: Segment,
    /// Whether there is a system prompt.
    pub(super) has_system: bool,
    /// How many turns there are.
    pub(super) turns: usize,
    /// Words before the last user turn, about.
    pub(super) history_words: usize,
}

impl Scene {
    /// Reads an exchange, with at least `earlier` user turns before the last one; takes the texts of `strip` out of the
    /// user's turns.
    #[must_use]
    pub(super) fn read(exchange: &Exchange<'_>, lexicon: &Lexicon, strip: &[String], earlier: usize) -> Self {
        let turns = exchange.turns;
        let at = turns.iter().rposition(|turn| turn.role == Role::User);
        let (before, last) = at.map_or((turns, None), |at| (&turns[..at], turns.get(at)));
        let coach = before.last().filter(|turn| turn.role == Role::Assistant);
        let clean = |text: &str| {
            let mut text = text.to_owned();
            for part in strip.iter().filter(|part| !part.is_empty()) {
                text = text.replace(part.as_str(), " ");
            }
            text
        };
        let user = |text: &str, most: usize| {
            let text = if strip.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(clean(text)) };
            Segment::read_whole(&text, most, lexicon)
        };
        Self {
            last: last.map(|turn| user(&turn.text, LAST_BYTES)).unwrap_or_default(),
            coach: coach.map(|turn| Segment::read(&turn.text, COACH_BYTES, lexicon)).unwrap_or_default(),
            earlier: before
                .iter()
                .rev()
                .filter(|turn| turn.role == Role::User)
                .take(earlier.clamp(EARLIER, MOST_EARLIER))
                .map(|turn| user(&turn.text, EARLIER_BYTES))
                .collect(),
            coach_before: before
                .iter()
                .rev()
                .skip(1)
                .filter(|turn| turn.role == Role::Assistant)
                .take(EARLIER)
                .map(|turn| lexicon.hits(&normalise(&shorten(&turn.text, EARLIER_BYTES))))
                .fold(Hits::default(), Hits::with),
            system: exchange
                .system
                .map(|text| Segment::read(text, SYSTEM_BYTES, lexicon))
                .unwrap_or_default(),
            has_system: exchange.system.is_some_and(|text| !text.trim().is_empty()),
            turns: turns.len(),
            history_words: before.iter().map(|turn| turn.text.len() / 6).sum(),
        }
    }
}

impl Segment {
    /// Reads head and tail of a turn.
    #[must_use]
    pub(super) fn read(text: &str, most: usize, lexicon: &Lexicon) -> Self {
        let shown = normalise(&shorten(text, most));
        let hits = lexicon.hits(&shown);
        Self::of(text, shown, hits)
    }

    /// Reads a turn and looks for words in all of it; of a long one the model sees head and tail.
    #[must_use]
    fn read_whole(text: &str, most: usize, lexicon: &Lexicon) -> Self {
        let whole = normalise(text);
        let hits = lexicon.hits(&whole);
        let shown = match shorten(&whole, most) {
            Cow::Borrowed(_) => whole,
            Cow::Owned(short) => short,
        };
        Self::of(text, shown, hits)
    }

    fn of(text: &str, shown: String, hits: Hits) -> Self {
        let mut segment = Self { hits, ..Self::default() };
        segment.scan(&shown);
        segment.counts.bytes = text.len();
        let start = text.as_bytes().get(..shown.len()).unwrap_or(text.as_bytes());
        segment.counts.lines = start.iter().filter(|&&byte| byte == b'\n').count();
        if text.len() > shown.len() * 2 {
            segment.counts.words = segment.counts.words * text.len() / shown.len().max(1);
        }
        segment.text = shown;
        segment
    }

    fn scan(&mut self, text: &str) {
        let mut hash = Hash::new();
        let mut scripts = [0_usize; 7];
        let mut unspaced = 0;
        let mut previous = ' ';
        let mut in_number = false;
        let mut rest = text;
        self.tokens.reserve(text.len() / 4);
        while let Some(character) = rest.chars().next() {
            if character.is_ascii_lowercase() && hash.is_empty() {
                in_number = false;
                let window = window(rest.as_bytes(), 0);
                let length = letters(window);
                let word = Hash::of_letters(window, length);
                scripts[0] += length;
                previous = char::from(rest.as_bytes()[length - 1]);
                rest = &rest[length..];
                if let Some(after) = rest.strip_prefix(' ') {
                    self.tokens.push(word);
                    previous = ' ';
                    rest = after;
                } else {
                    hash = Hash(Some(word));
                }
                continue;
            }
            rest = &rest[character.len_utf8()..];
            let apostrophe = character == '\'' && previous.is_alphanumeric();
            if character.is_ascii_digit() || (character.is_numeric() && !is_unspaced(character)) {
                if !in_number {
                    self.end(&mut hash);
                    self.counts.numbers += 1;
                    in_number = true;
                    if matches!(previous, '/' | ':') {
                        self.counts.ratios += 1;
                    }
                }
                hash.add('0');
            } else {
                if in_number {
                    self.end(&mut hash);
                    in_number = false;
                }
                if is_unspaced(character) {
                    self.end(&mut hash);
                    hash.add(character);
                    self.end(&mut hash);
                    unspaced += 1;
                    scripts[4] += 1;
                } else if character.is_alphabetic() || apostrophe || is_mark(character) {
                    hash.add(character);
                    scripts[script(character)] += 1;
                } else {
                    self.end(&mut hash);
                    self.mark(character, &mut hash);
                }
            }
            previous = character;
        }
        self.end(&mut hash);
        self.counts.ends_asking = text.trim_end_matches([' ', '"', ')']).ends_with(['?', '？', '؟']);
        self.counts.words = self.tokens.len().saturating_sub(unspaced) + unspaced * 2 / 3;
        let most = scripts.iter().enumerate().max_by_key(|&(place, &count)| (count, usize::MAX - place));
        self.counts.script = most.map_or(Script::Latin, |(place, _)| SCRIPTS[place]);
    }

    fn end(&mut self, hash: &mut Hash) {
        if let Some(token) = hash.take() {
            self.tokens.push(token);
        }
    }

    /// A mark or a symbol; question marks, exclamation marks and pictures are tokens.
    fn mark(&mut self, character: char, hash: &mut Hash) {
        match character {
            '?' | '？' | '؟' => {
                self.counts.questions += 1;
                hash.add('?');
                self.end(hash);
            }
            '!' => {
                hash.add('!');
                self.end(hash);
            }
            '"' => self.counts.quotes += 1,
            '{' | '}' | '[' | ']' | '_' | '=' | '|' | '<' | '>' | '#' => self.counts.symbols += 1,
            _ if u32::from(character) >= 0x2190 && !character.is_whitespace() => {
                hash.add(character);
                self.end(hash);
            }
            _ => {}
        }
    }
}

/// Head and tail of a long text.
fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let head = text.floor_char_boundary(most * 3 / 5);
    let tail = text.ceil_char_boundary(text.len() - most * 2 / 5);
    Cow::Owned(format!("{} {}", &text[..head], &text[tail..]))
}

const SCRIPTS: [Script; 7] = [
    Script::Latin,
    Script::Cyrillic,
    Script::Arabic,
    Script::Devanagari,
    Script::Han,
    Script::Hangul,
    Script::Other,
];

fn script(character: char) -> usize {
    match u32::from(character) {
        0..=0x24f | 0x1e00..=0x1eff => 0,
        0x400..=0x52f => 1,
        0x600..=0x77f => 2,
        0x900..=0x97f => 3,
        _ if is_hangul(character) => 5,
        _ => 6,
    }
}

/// Vowel signs and the like, which are no letters but parts of words.
fn is_mark(character: char) -> bool {
    matches!(u32::from(character), 0x300..=0x36f | 0x610..=0x61a | 0x64b..=0x65f | 0x900..=0x903 | 0x93a..=0x94f)
}

/// A running hash of a token.
struct Hash(Option<u32>);

impl Hash {
    const START: u32 = 0x9e37_79b9;

    const fn new() -> Self {
        Self(None)
    }

    fn add(&mut self, character: char) {
        self.0 = Some(mix(self.0.unwrap_or(Self::START), u32::from(character)));
    }

    const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The hash of the first letters of eight, with one branch on how many they are. It begins anew, so that the processor
    /// works on several words at once.
    fn of_letters(window: u64, length: usize) -> u32 {
        let bytes = window.to_le_bytes();
        let mut value = Self::START;
        for (half, letters) in bytes.as_chunks::<4>().0.iter().enumerate() {
            if length <= half * 4 {
                break;
            }
            for (place, &letter) in letters.iter().enumerate() {
                let mixed = mix(value, u32::from(letter));
                value = if half * 4 + place < length { mixed } else { value };
            }
        }
        value
    }

    const fn take(&mut self) -> Option<u32> {
        self.0.take()
    }
}

/// Mixes a value into a hash: one round of the 32-bit finaliser of `MurmurHash3`.
#[must_use]
pub(super) const fn mix(hash: u32, value: u32) -> u32 {
    let mut mixed = (hash.rotate_left(5) ^ value).wrapping_mul(0x85eb_ca6b);
    mixed ^= mixed >> 13;
    mixed = mixed.wrapping_mul(0xc2b2_ae35);
    mixed ^ mixed >> 16
}
