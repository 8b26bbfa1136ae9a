//! What the model sees of an exchange: hashed n-grams of each segment, lists of words that were hit, counts, and pairs of
//! them. The trainer and the proxy use this same code.
//!
//! A feature is a hash of 32 bits; the model knows the frequent ones. Features come in groups; the features of a group share a fixed sum of squares, so
//! that a long turn does not outweigh a short one.

use super::lexicon::{Hits, Lexicon};
use super::scene::{EARLIER, Scene, Segment, mix};

/// Groups of features.
pub(super) const GROUPS: usize = 9;

const LAST_WORDS: usize = 0;
const LAST_LETTERS: usize = 1;
const COACH_WORDS: usize = 2;
const EARLIER_WORDS: usize = 3;
const SYSTEM_WORDS: usize = 4;
const MARKERS: usize = 5;
const PAIRS: usize = 6;
const SHORT_ANSWER: usize = 7;
const FIRST_WORDS: usize = 8;

/// Tells runs of letters apart from words that have the same hash.
const LETTERS: u32 = 0x1e77_e125;

/// The weight of each group, found by cross-validation on the train split.
pub(super) const SCALES: [f32; GROUPS] = [1.0, 1.0, 0.5, 0.4, 0.25, 1.5, 1.2, 0.5, 0.3];

/// The features of one exchange.
#[derive(Debug, Clone)]
pub(super) struct Features {
    /// Hashes by group.
    pub(super) groups: [Vec<u32>; GROUPS],
}

impl Features {
    /// The features of a scene.
    #[must_use]
    pub(super) fn of(scene: &Scene, lexicon: &Lexicon) -> Self {
        let mut features = Self { groups: std::array::from_fn(|_| Vec::with_capacity(512)) };
        features.words(LAST_WORDS, &scene.last, 240);
        features.letters(&scene.last.text);
        features.words(COACH_WORDS, &scene.coach, 80);
        for (place, segment) in scene.earlier.iter().enumerate().take(EARLIER) {
            features.words_as(EARLIER_WORDS, if place == 0 { 100 } else { 101 }, segment, 50);
        }
        features.words(SYSTEM_WORDS, &scene.system, 150);
        features.markers(scene);
        features.pairs(scene);
        features.answers(scene, lexicon);
        features.openings(scene);
        features
    }

    fn add(&mut self, group: usize, hash: u32) {
        if let Some(list) = self.groups.get_mut(group) {
            list.push(mix(hash, 0x51ed));
        }
    }

    fn words(&mut self, group: usize, segment: &Segment, most: usize) {
        let salt = u32::try_from(group).unwrap_or(0);
        self.words_as(group, salt, segment, most);
    }

    /// Single tokens and pairs; of a long segment the head and the tail.
    fn words_as(&mut self, group: usize, salt: u32, segment: &Segment, most: usize) {
        let tokens = &segment.tokens;
        let (head, tail) = if tokens.len() > most {
            (&tokens[..most / 2], &tokens[tokens.len() - most / 2..])
        } else {
            (&tokens[..], &tokens[..0])
        };
        for part in [head, tail] {
            let mut previous = 1;
            for &token in part {
                self.add(group, mix(token, salt));
                self.add(group, mix(mix(previous, token), salt + 50));
                previous = token;
            }
        }
    }

    /// Runs of three to five characters inside words.
    fn letters(&mut self, text: &str) {
        let mut window = [0_u32; 5];
        let mut filled = 0;
        let head = text.floor_char_boundary(360);
        let tail = text.ceil_char_boundary(text.len().saturating_sub(180).max(head));
        for part in [&text[..head], &text[tail..]] {
            for character in part.chars() {
                let edge = !character.is_alphanumeric();
                let value = if edge { 32 } else { u32::from(character) };
                if edge && filled > 0 && window[4] == 32 {
                    continue;
                }
                let [_, rest @ ..] = window;
                window = [rest[0], rest[1], rest[2], rest[3], value];
                filled = (filled + 1).min(5);
                let mut hash = value;
                for back in 1..filled {
                    let earlier = window[4 - back];
                    hash = mix(hash, earlier);
                    if back >= 2 {
                        self.add(LAST_LETTERS, hash ^ LETTERS);
                    }
                    if earlier == 32 {
                        break;
                    }
                }
                if edge {
                    window = [0, 0, 0, 0, 32];
                    filled = 1;
                }
            }
        }
    }

    fn markers(&mut self, scene: &Scene) {
        for (place, hits) in segments(scene) {
            for list in hits.iter() {
                self.add(MARKERS, key(place, list));
            }
        }
        let last = &scene.last.counts;
        let facts = [
            bucket(last.words),
            bucket(last.bytes / 6),
            last.numbers.min(6),
            last.ratios.min(4),
            last.questions.min(2),
            bucket(last.lines),
            bucket(last.symbols),
            last.script as usize,
            usize::from(last.ends_asking),
            last.quotes.min(3),
            scene.turns.min(9),
            bucket(scene.coach.counts.words),
            scene.coach.counts.questions.min(2),
            usize::from(scene.coach.counts.ends_asking),
            scene.coach.counts.numbers.min(4),
            usize::from(scene.has_system),
            bucket(scene.system.counts.words),
            bucket(scene.history_words),
            scene.system.counts.numbers.min(5),
            last.words.min(8),
            scene.earlier.first().map_or(9, |turn| turn.counts.questions.min(2)),
            scene.earlier.first().map_or(19, |turn| bucket(turn.counts.words)),
        ];
        for (place, value) in facts.into_iter().enumerate() {
            self.add(MARKERS, key(20 + place, value));
        }
        let shape = usize::from(last.ends_asking) * 2 + usize::from(scene.coach.counts.ends_asking);
        self.add(MARKERS, key(60, shape * 16 + bucket(last.words)));
        self.add(MARKERS, key(61, last.numbers.min(3) * 8 + last.ratios.min(2) * 2));
        self.add(MARKERS, key(62, scene.turns.min(4) * 32 + bucket(last.words)));
    }

    /// Pairs of lists: the last turn's with the coach's, the system prompt's, and its own.
    fn pairs(&mut self, scene: &Scene) {
        let size = bucket(scene.last.counts.words).min(5);
        let last = scene.last.hits;
        for list in last.iter() {
            self.add(PAIRS, key(80 + size, list));
            for other in scene.coach.hits.iter() {
                self.add(PAIRS, key(200 + list, other));
            }
            for other in scene.system.hits.iter() {
                self.add(PAIRS, key(300 + list, other));
            }
            for other in last.iter().take_while(|&other| other < list) {
                self.add(PAIRS, key(400 + list, other));
            }
        }
        for list in scene.coach.hits.iter() {
            self.add(PAIRS, key(100 + size, list));
            for other in scene.earlier.first().map(|turn| turn.hits).unwrap_or_default().iter() {
                self.add(PAIRS, key(500 + list, other));
            }
        }
        for list in scene.system.hits.iter() {
            self.add(PAIRS, key(120 + size, list));
            self.add(PAIRS, key(140 + scene.last.counts.numbers.min(3), list));
            self.add(PAIRS, key(160 + scene.turns.min(5), list));
        }
    }

    /// A short answer takes its sense from what it answers: the words of the coach's turn once more.
    fn answers(&mut self, scene: &Scene, lexicon: &Lexicon) {
        let size = scene.last.counts.words;
        if size > 6 || scene.coach.tokens.is_empty() {
            return;
        }
        let hit = |name| lexicon.list(name).is_some_and(|list| scene.last.hits.has(list));
        let kind = if hit("decline") {
            600
        } else if hit("accept") {
            601
        } else if hit("thanks") || hit("done") || hit("bye") {
            602
        } else {
            603
        };
        let from = scene.coach.tokens.len().saturating_sub(40);
        let mut previous = 1;
        for &token in &scene.coach.tokens[from..] {
            self.add(SHORT_ANSWER, mix(token, kind));
            self.add(SHORT_ANSWER, mix(mix(previous, token), kind + 10));
            previous = token;
        }
        for list in scene.coach.hits.iter() {
            self.add(SHORT_ANSWER, mix(key(620, list), kind));
        }
    }

    fn openings(&mut self, scene: &Scene) {
        for (place, segment) in [&scene.last, &scene.coach].into_iter().enumerate() {
            let salt = 700 + u32::try_from(place).unwrap_or(0) * 10;
            let tokens = &segment.tokens;
            for (order, &token) in tokens.iter().take(2).enumerate() {
                self.add(FIRST_WORDS, mix(mix(token, salt), u32::try_from(order).unwrap_or(0)));
            }
            for &token in tokens.iter().rev().take(3) {
                self.add(FIRST_WORDS, mix(token, salt + 5));
            }
        }
    }
}

/// The places whose lists count, with their hits.
fn segments(scene: &Scene) -> [(usize, Hits); 6] {
    let first = scene.earlier.first().map(|turn| turn.hits).unwrap_or_default();
    let rest =
        scene.earlier.iter().take(EARLIER).skip(1).map(|turn| turn.hits).fold(Hits::default(), Hits::with);
    [
        (0, scene.last.hits),
        (1, scene.coach.hits),
        (2, first),
        (3, rest),
        (4, scene.system.hits),
        (5, scene.coach_before),
    ]
}

/// The hash of a marker.
fn key(kind: usize, value: usize) -> u32 {
    let part = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    mix(mix(part(kind), 0xfea7), part(value))
}

/// A length on a coarse scale of logarithms.
const fn bucket(count: usize) -> usize {
    match count {
        0 => 0,
        1 => 1,
        2..=3 => 2,
        4..=6 => 3,
        7..=11 => 4,
        12..=19 => 5,
        20..=34 => 6,
        35..=60 => 7,
        61..=120 => 8,
        _ => 9,
    }
}
