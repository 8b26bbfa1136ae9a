//! The prompt cache of the API, simulated: what of a prompt would have been read, written, or neither.
//!
//! The rules are those of the provider's prompt-caching page: an exact prefix, written only at breakpoints, per model,
//! found again up to 20 boundaries before a breakpoint, renewed by a read, and silently nothing below the smallest
//! cacheable prompt. A prefix is known by its hash alone. Lengths of prefixes are estimates, scaled so that the whole
//! prompt has the tokens that the API counted. Memory is bounded: beyond it the entry that ends first is dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::{Tokens, Ttl};
use crate::claude::catalog::Model;

/// Boundaries before a breakpoint at which a prefix is looked for, itself not counted.
const LOOK_BACK: usize = 20;
/// Breakpoints that a call may have.
const MOST_MARKS: usize = 4;
/// Models that are told apart; calls to others are simulated without a cache.
const MOST_MODELS: usize = 64;

/// A breakpoint of the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The place in [`Prompt::boundaries`] of the prefix that ends with it.
    pub boundary: usize,
    /// How long it is written for.
    pub ttl: Ttl,
}

/// What is charged.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// Hash and estimated tokens of each prefix, from the shortest to the whole prompt.
    pub boundaries: &'a [(u128, u64)],
    /// The breakpoints, in the order of the prompt.
    pub marks: &'a [Mark],
    /// Tokens of the whole prompt.
    pub tokens: u64,
    /// Tokens of the answer.
    pub output: u64,
}

/// A prefix in the cache of a model.
type Key = (usize, u128);

/// A simulated prompt cache of every model. Times are seconds since 1970.
#[derive(Debug, Clone)]
pub struct Simulated {
    most: usize,
    models: Vec<String>,
    entries: BTreeMap<Key, Entry>,
    by_end: BTreeSet<(u64, Key)>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    end_s: u64,
    ttl: Ttl,
}

impl Simulated {
    /// An empty cache that holds so many prefixes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, models: Vec::new(), entries: BTreeMap::new(), by_end: BTreeSet::new() }
    }

    /// How many prefixes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many ends of prefixes it keeps: as many as prefixes.
    #[cfg(test)]
    pub(super) fn by_end_len(&self) -> usize {
        self.by_end.len()
    }

    /// What a call to a model reads and writes, which is then in the cache.
    pub fn charge(&mut self, model: &Model, prompt: &Prompt<'_>, now_s: u64) -> Tokens {
        let uncached = Tokens { input: prompt.tokens, output: prompt.output, ..Tokens::default() };
        let Some(place) = self.place(&model.id) else { return uncached };
        let marks: Vec<(Mark, u128, u64)> = prompt
            .marks
            .iter()
            .filter_map(|mark| {
                let (hash, estimate) = prompt.boundaries.get(mark.boundary)?;
                Some((*mark, *hash, prompt.scaled(*estimate)))
            })
            .filter(|(_, _, tokens)| *tokens >= model.min_cacheable)
            .take(MOST_MARKS)
            .collect();
        let read = marks.iter().filter_map(|(mark, ..)| self.find(place, prompt, mark, now_s)).max();
        let cache_read = read.map_or(0, |(tokens, _)| tokens);
        let end_of = |kind: Option<Ttl>| {
            let of_kind = marks.iter().filter(|(mark, ..)| kind.is_none_or(|kind| mark.ttl == kind));
            of_kind.map(|(_, _, tokens)| *tokens).max().unwrap_or(0).max(cache_read)
        };
        let (hour_end, end) = (end_of(Some(Ttl::OneHour)), end_of(None));
        if let Some((_, hash)) = read {
            self.keep((place, hash), None, now_s);
        }
        for (mark, hash, _) in &marks {
            self.keep((place, *hash), Some(mark.ttl), now_s);
        }
        Tokens {
            input: prompt.tokens - end,
            cache_read,
            cache_write_5m: end - hour_end,
            cache_write_1h: hour_end - cache_read,
            ..uncached
        }
    }

    /// The longest live prefix that a breakpoint finds: its tokens and its hash.
    fn find(&self, place: usize, prompt: &Prompt<'_>, mark: &Mark, now_s: u64) -> Option<(u64, u128)> {
        let reach = prompt.boundaries.get(mark.boundary.saturating_sub(LOOK_BACK)..=mark.boundary)?;
        let is_live = |hash: u128| self.entries.get(&(place, hash)).is_some_and(|entry| entry.end_s > now_s);
        let found = reach.iter().rev().find(|(hash, _)| is_live(*hash));
        found.map(|(hash, estimate)| (prompt.scaled(*estimate), *hash))
    }

    /// Renews an entry with its own lifetime, or writes it with the given one.
    fn keep(&mut self, key: Key, ttl: Option<Ttl>, now_s: u64) {
        let known = self.entries.get(&key).copied();
        if let Some(known) = known {
            self.by_end.remove(&(known.end_s, key));
        }
        let live = known.filter(|known| known.end_s > now_s).map(|known| known.ttl);
        let Some(ttl) = live.or(ttl) else {
            self.entries.remove(&key);
            return;
        };
        let end_s = now_s.saturating_add(ttl.seconds());
        self.entries.insert(key, Entry { end_s, ttl });
        self.by_end.insert((end_s, key));
        while self.entries.len() > self.most {
            let Some((_, first)) = self.by_end.pop_first() else { break };
            self.entries.remove(&first);
        }
    }

    /// The number that stands for a model in the keys.
    fn place(&mut self, id: &str) -> Option<usize> {
        let known = self.models.iter().position(|known| known == id);
        known.or_else(|| {
            (self.models.len() < MOST_MODELS).then(|| {
                self.models.push(id.to_owned());
                self.models.len() - 1
            })
        })
    }
}

impl Prompt<'_> {
    /// An estimate in the tokens that the API counted, rounded down and never more than the whole prompt.
    fn scaled(&self, estimate: u64) -> u64 {
        let whole = self.boundaries.last().map_or(0, |(_, whole)| *whole);
        if estimate >= whole {
            return self.tokens;
        }
        let scaled = u128::from(estimate) * u128::from(self.tokens) / u128::from(whole);
        u64::try_from(scaled).unwrap_or(self.tokens)
    }
}
