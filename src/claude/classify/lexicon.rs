//! The words of the router: named lists of phrases, found in one pass. The lists are the text files beside this one;
//! `[name]` starts a list, phrases stand between commas, `stem*` matches the start of a word.
//!
//! Phrases start where words start (at each character in scripts without spaces). There a hash table is asked for the word,
//! and for the first bytes if a filter has them; a few phrases are left to compare. A walk along a trie of all phrases took
//! twice the time, an Aho-Corasick automaton, which also tries what may begin inside words, three times.

mod starts;

use std::collections::BTreeMap;

use self::starts::{BLOCK, LENGTHS, Sieve, scatter, short_word, start, starts_of, starts_of_words};
pub(super) use self::starts::{letters, window};
use super::error::CompileError;
use super::normalise::normalise;

/// The shipped lists.
pub(super) const FILES: [&str; 5] = [
    include_str!("lexicon/acts.txt"),
    include_str!("lexicon/topics.txt"),
    include_str!("lexicon/jobs.txt"),
    include_str!("lexicon/serious.txt"),
    include_str!("lexicon/finer.txt"),
];

/// The most lists: bits of [`Hits`].
const MOST_LISTS: usize = 120;

/// The lists that a text hit, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hits(u128);

impl Hits {
    /// Whether this list was hit.
    #[must_use]
    pub(super) const fn has(self, list: usize) -> bool {
        self.0 >> list & 1 == 1
    }

    /// The lists that were hit.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let list = (rest != 0).then(|| rest.trailing_zeros() as usize);
            rest &= rest.wrapping_sub(1);
            list
        })
    }

    /// Both together.
    #[must_use]
    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// With one more list.
    #[must_use]
    pub(super) fn and(mut self, list: usize) -> Self {
        self.set(list);
        self
    }

    /// Whether all lists are among those of the other.
    #[must_use]
    pub(super) const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether both have a list in common.
    #[must_use]
    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn set(&mut self, list: usize) {
        self.0 |= 1 << list;
    }

    const fn clear(&mut self, list: usize) {
        self.0 &= !(1 << list);
    }
}

/// One phrase: where its bytes are, its list, and whether it must end at the edge of a word.
#[derive(Debug, Clone, Copy)]
struct Phrase {
    from: u32,
    length: u16,
    list: u8,
    right: bool,
}

/// The phrases by their starts, in an open hash table of at least twice their number.
#[derive(Debug, Clone, Default)]
struct Phrases {
    slots: Vec<Slot>,
    phrases: Vec<Phrase>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    start: u64,
    from: u32,
    count: u32,
}

/// All lists, compiled.
#[derive(Debug, Clone)]
pub(super) struct Lexicon {
    names: Vec<String>,
    sieve: Sieve,
    phrases: Phrases,
    serious: usize,
    figure: usize,
}

impl Lexicon {
    /// The shipped lists with changes: words to add to a list, or to put in its place.
    ///
    /// # Errors
    /// When a change names a list that does not exist, or there are too many words.
    pub(super) fn compile(changes: &[(&str, &[String], bool)]) -> Result<Self, CompileError> {
        let mut lists = parse();
        for (name, words, replace) in changes {
            let (_, list) = lists
                .iter_mut()
                .find(|(known, _)| known == name)
                .ok_or_else(|| CompileError::List((*name).to_owned()))?;
            if *replace {
                list.clear();
            }
            list.extend(words.iter().cloned());
        }
        Self::build(&lists)
    }

    fn build(lists: &[(String, Vec<String>)]) -> Result<Self, CompileError> {
        if lists.len() > MOST_LISTS {
            return Err(CompileError::Lists);
        }
        let mut sieve = Sieve::new();
        let (mut bytes, mut by_start) = (Vec::new(), BTreeMap::<u64, Vec<Phrase>>::new());
        for (list, (_, words)) in lists.iter().enumerate() {
            let list = u8::try_from(list).map_err(|_| CompileError::Lists)?;
            for word in words {
                let word = normalise(word);
                let stem = word.strip_suffix('*').unwrap_or(&word).trim();
                let (Ok(from), Ok(length)) = (u32::try_from(bytes.len()), u16::try_from(stem.len())) else {
                    return Err(CompileError::Lists);
                };
                let right = ends_at_edge(stem) && !word.ends_with('*');
                let phrase = Phrase { from, length, list, right };
                bytes.extend_from_slice(stem.as_bytes());
                if right && stem.len() < 8 && stem.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    let (start, _) = short_word(window(stem.as_bytes(), 0));
                    by_start.entry(start).or_default().push(phrase);
                } else {
                    for start in starts_of(stem.as_bytes()) {
                        sieve.add(start);
                        by_start.entry(start).or_default().push(phrase);
                    }
                }
            }
        }
        let phrases = Phrases::of(by_start, bytes).ok_or(CompileError::Lists)?;
        let names: Vec<String> = lists.iter().map(|(name, _)| name.clone()).collect();
        let find = |wanted: &str| {
            names.iter().position(|name| name == wanted).ok_or_else(|| CompileError::List(wanted.to_owned()))
        };
        let (serious, figure) = (find("serious")?, find("figure")?);
        Ok(Self { sieve, phrases, serious, figure, names })
    }

    /// The place of a list.
    #[must_use]
    pub(super) fn list(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// The names of the lists, by place.
    #[must_use]
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The lists that a normalised text hits. A serious word inside a figure of speech does not count.
    #[must_use]
    pub(super) fn hits(&self, text: &str) -> Hits {
        let mut hits = Hits::default();
        let mut serious: Vec<(usize, usize)> = Vec::new();
        let mut figures: Vec<(usize, usize)> = Vec::new();
        self.each(text, |list, start, end| {
            hits.set(list);
            if list == self.serious {
                serious.push((start, end));
            } else if list == self.figure {
                figures.push((start, end));
            }
        });
        let inside =
            |&(start, end): &(usize, usize)| figures.iter().any(|&(from, to)| from <= start && end <= to);
        if !figures.is_empty() && serious.iter().all(inside) {
            hits.clear(self.serious);
        }
        hits
    }

    /// The words of one list in a normalised text, for explanations only.
    #[must_use]
    pub(super) fn words(&self, text: &str, list: usize) -> Vec<String> {
        let mut found = Vec::new();
        self.each(text, |hit, start, end| {
            if hit == list {
                found.push((start, end));
            }
        });
        found.sort_unstable();
        found.into_iter().map(|(start, end)| text[start..end].to_owned()).collect()
    }

    fn each(&self, text: &str, mut visit: impl FnMut(usize, usize, usize)) {
        let bytes = text.as_bytes();
        let mut inside = false;
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + BLOCK);
            let block = bytes.get(at..end).unwrap_or_default();
            if block.is_ascii() {
                let mut starts;
                (starts, inside) = starts_of_words(block, inside);
                while starts != 0 {
                    self.visit_at(text, at + starts.trailing_zeros() as usize, &mut visit);
                    starts &= starts - 1;
                }
                at = end;
                continue;
            }
            for character in text.get(at..).unwrap_or_default().chars() {
                let (letter, unspaced) = (character.is_alphanumeric(), is_unspaced(character));
                if (!inside || !letter || unspaced) && character != ' ' {
                    self.visit_at(text, at, &mut visit);
                }
                inside = letter && !unspaced;
                at += character.len_utf8();
                if at >= end {
                    break;
                }
            }
        }
    }

    /// Visits the phrases that start here.
    fn visit_at(&self, text: &str, at: usize, visit: &mut impl FnMut(usize, usize, usize)) {
        let window = window(text.as_bytes(), at);
        let (word, length) = short_word(window);
        let words = self.phrases.of_start(word);
        if !words.is_empty() && !joins_right(text, at + length) {
            words.iter().for_each(|phrase| visit(usize::from(phrase.list), at, at + length));
        }
        let passing = self.sieve.passes(window);
        if passing == 0 {
            return;
        }
        let rest = text.as_bytes().get(at..).unwrap_or_default();
        for (bit, length) in LENGTHS.into_iter().enumerate() {
            if passing >> bit & 1 == 0 {
                continue;
            }
            for phrase in self.phrases.of_start(start(window, length)) {
                let end = at + usize::from(phrase.length);
                if rest.starts_with(self.phrases.bytes_of(phrase))
                    && !(phrase.right && joins_right(text, end))
                {
                    visit(usize::from(phrase.list), at, end);
                }
            }
        }
    }
}

impl Phrases {
    fn of(by_start: BTreeMap<u64, Vec<Phrase>>, bytes: Vec<u8>) -> Option<Self> {
        let slots = vec![Slot::default(); (by_start.len() * 2 + 1).next_power_of_two()];
        let mut table = Self { slots, phrases: Vec::new(), bytes };
        for (start, phrases) in by_start {
            let mut place = table.first(start);
            while table.slots.get(place)?.start != 0 {
                place = (place + 1) & (table.slots.len() - 1);
            }
            let (from, count) =
                (u32::try_from(table.phrases.len()).ok()?, u32::try_from(phrases.len()).ok()?);
            *table.slots.get_mut(place)? = Slot { start, from, count };
            table.phrases.extend(phrases);
        }
        Some(table)
    }

    /// The phrases with this start.
    fn of_start(&self, start: u64) -> &[Phrase] {
        let mut place = self.first(start);
        while let Some(slot) = self.slots.get(place).filter(|slot| slot.start != 0) {
            if slot.start == start {
                let from = slot.from as usize;
                return self.phrases.get(from..from + slot.count as usize).unwrap_or_default();
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
        &[]
    }

    fn first(&self, start: u64) -> usize {
        scatter(start, 32) & (self.slots.len() - 1)
    }

    fn bytes_of(&self, phrase: &Phrase) -> &[u8] {
        let from = phrase.from as usize;
        self.bytes.get(from..from + usize::from(phrase.length)).unwrap_or_default()
    }
}

fn parse() -> Vec<(String, Vec<String>)> {
    let mut lists: Vec<(String, Vec<String>)> = Vec::new();
    for line in FILES.iter().flat_map(|file| file.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with("# ") {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            lists.push((name.to_owned(), Vec::new()));
        } else if let Some((_, words)) = lists.last_mut() {
            words.extend(line.split(", ").map(|word| word.trim().trim_end_matches(',').to_owned()));
        }
    }
    lists
}

/// Whether a phrase must end at the edge of a word. Scripts without spaces have no edges; Korean puts its particles after
/// the word.
fn ends_at_edge(stem: &str) -> bool {
    let Some(last) = stem.chars().last() else { return false };
    last.is_alphanumeric() && !is_unspaced(last) && (!is_hangul(last) || stem.chars().count() == 1)
}

fn joins_right(text: &str, at: usize) -> bool {
    if let Some(byte) = text.as_bytes().get(at).filter(|byte| byte.is_ascii()) {
        return byte.is_ascii_alphanumeric();
    }
    text[at..].chars().next().is_some_and(|c| c.is_alphanumeric() && !is_unspaced(c))
}

/// Letters of scripts that are written without spaces: Han, Kana, Thai.
#[must_use]
pub(super) const fn is_unspaced(character: char) -> bool {
    matches!(character, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Korean syllables and letters.
#[must_use]
pub(super) const fn is_hangul(character: char) -> bool {
    matches!(character, '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7af}')
}

#[cfg(test)]
mod tests {
    use super::Lexicon;

    #[test]
    fn finds_whole_words_and_stems() {
        let lexicon = Lexicon::compile(&[]).unwrap();
        let hit = |text: &str, list: &str| lexicon.hits(text).has(lexicon.list(list).unwrap());

        assert!(hit("can you score it", "assess_word"));
        assert!(!hit("underscored", "assess_word"));
        assert!(hit("he is stalking me", "serious"));
        assert!(hit("結果はどうですか", "assess_word"));
        assert!(!hit("", "serious"));
    }

    #[test]
    fn figures_of_speech_are_not_serious() {
        let lexicon = Lexicon::compile(&[]).unwrap();
        let serious = lexicon.list("serious").unwrap();

        for text in ["i was dying laughing", "my legs are killing me", "stalked his insta for an hour"] {
            assert!(!lexicon.hits(text).has(serious), "{text}");
        }
        assert!(lexicon.hits("he stalked his insta and now he is stalking me").has(serious));
    }

    #[test]
    fn words_of_the_operator_count() {
        let words = vec!["zzyzx".to_owned()];
        let added = Lexicon::compile(&[("serious", &words, false)]).unwrap();
        let replaced = Lexicon::compile(&[("serious", &words, true)]).unwrap();
        let serious = added.list("serious").unwrap();

        assert!(added.hits("zzyzx").has(serious) && added.hits("suicide").has(serious));
        assert!(replaced.hits("zzyzx").has(serious) && !replaced.hits("suicide").has(serious));
        assert!(Lexicon::compile(&[("nothing", &words, false)]).is_err());
    }
}
