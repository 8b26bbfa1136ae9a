//! Purge marks: what was purged, and when. An entry is not looked for and removed; it is found dead when it is next
//! looked up, because a mark that matches it is newer than the generation its fetch began in. So a purge costs the
//! same for one entry and for a million, and ends what is still being fetched as well.
//!
//! A mark is a generation number under a seeded hash of what it names. Two names may share a hash: then one purge ends
//! too much, which is harmless. Once an entry has been found alive it remembers up to which generation, so that until
//! the next purge its check is one comparison.

mod why;

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::RwLock;

use super::{
    entry::Entry,
    identity::NAME,
    key::{Key, KeyHash, KeyMaker},
    prefixes::Prefixes,
    scope::Scope,
    tags::Tag,
};

pub use why::Culprit;

/// Marks on single names that are held. Beyond it the older half goes, and with it what was fetched before them.
/// A table of this many takes about 8 MB; a day of one invalidated URL a second stays below it.
const MAX_MARKS: usize = 1 << 17;

/// How often in the life of a mark its age is noted.
const NOTES: u64 = 64;

/// Counts purges. An entry carries the one that was current before its fetch began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

/// What the marks say about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No mark is newer.
    Alive,
    /// A soft purge made it stale.
    Stale,
    /// A purge ended it.
    Dead,
}

/// All marks of this process.
#[derive(Debug)]
pub(super) struct Marks {
    /// The newest generation; changed only with the table locked, after its mark is in place.
    newest: AtomicU64,
    table: RwLock<Table>,
    maker: KeyMaker,
    keep_ms: u64,
}

/// The newest generation of a hard and of a soft purge of one name; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) hard: u64,
    pub(super) soft: u64,
}

#[derive(Debug, Default)]
struct Table {
    newest: u64,
    /// What is older than this generation is dead.
    floor: u64,
    all: Mark,
    names: HashMap<u64, Mark, KeyHash>,
    tags: Prefixes,
    paths: Prefixes,
    /// Moments, each with the generation that was newest then.
    notes: VecDeque<(u64, u64)>,
}

/// The names under which a mark is put; hashed.
#[derive(Hash)]
enum Name<'a> {
    Tag(&'a str),
    Route(&'a str),
    Identity(&'a [u8; NAME]),
    Url { authority: Option<&'a [u8]>, path: &'a [u8], query: Option<&'a [u8]> },
}

impl Generation {
    /// This generation as an entry notes it, with whether a soft purge has made the entry stale.
    pub(super) const fn checked(self, is_stale: bool) -> u64 {
        self.0 << 1 | is_stale as u64
    }

    /// The plain number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The generation with a number.
    pub(super) const fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// The generation before this one.
    pub(super) const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Marks {
    /// No marks yet. They are kept for `keep_ms`, which is to be the longest life of an entry.
    #[must_use]
    pub(super) fn new(maker: KeyMaker, keep_ms: u64) -> Self {
        Self { newest: AtomicU64::new(0), table: RwLock::default(), maker, keep_ms }
    }

    /// The generation of now; read before a fetch begins.
    #[must_use]
    pub(super) fn generation(&self) -> Generation {
        Generation(self.newest.load(Ordering::Acquire))
    }

    /// Adds a mark. From the return on, no entry that it matches is found alive.
    pub(super) fn purge(&self, scope: &Scope, soft: bool, now_ms: u64) -> Generation {
        let mut table = self.table.write();
        table.newest += 1;
        let mark = Mark::at(table.newest, soft);
        match scope {
            Scope::All if soft => table.all.raise(mark),
            Scope::All => table.end_all(),
            Scope::Tag(tag) => table.put(self.hash(&Name::Tag(tag)), mark),
            Scope::TagPrefix(prefix) => table.tags.put(None, prefix.as_bytes(), mark),
            Scope::Route(route) => table.put(self.hash(&Name::Route(route)), mark),
            Scope::Identity(subject) => table.put(self.hash(&Name::Identity(subject)), mark),
            Scope::Url { authority, path, query } => {
                let name = Name::Url { authority: authority.as_deref(), path, query: query.as_deref() };
                table.put(self.hash(&name), mark);
            }
            Scope::Prefix { authority, path } => table.paths.put(authority.as_deref(), path, mark),
        }
        self.close(&mut table, now_ms)
    }

    /// Ends all copies of a target because a newer one, that came by `route`, takes their place; returns the generation
    /// from which the newer one lives. None, and no mark, when it was ended itself since its fetch began.
    #[must_use]
    pub(super) fn supersede(
        &self,
        key: &Key,
        route: &str,
        since: Generation,
        now_ms: u64,
    ) -> Option<Generation> {
        let mut table = self.table.write();
        let mark = self.newest_mark(&table, key, Some(route), &[]);
        if mark.newest() > since.0 || since.0 < table.floor {
            return None;
        }
        table.newest += 1;
        let own = Name::Url { authority: Some(key.authority()), path: key.path(), query: key.query() };
        let mark = Mark::at(table.newest, false);
        table.put(self.hash(&own), mark);
        Some(self.close(&mut table, now_ms))
    }

    /// What the marks say about an entry.
    #[must_use]
    pub(super) fn verdict(&self, entry: &Entry) -> Verdict {
        let checked = entry.checked();
        if checked >> 1 >= self.newest.load(Ordering::Acquire) {
            return if checked & 1 == 1 { Verdict::Stale } else { Verdict::Alive };
        }
        let table = self.table.read();
        let mark = self.newest_mark(&table, entry.key(), entry.route(), entry.tags());
        let since = entry.generation().0;
        if mark.hard > since || since < table.floor {
            return Verdict::Dead;
        }
        let is_stale = mark.soft > since;
        entry.set_checked(Generation(table.newest).checked(is_stale));
        if is_stale { Verdict::Stale } else { Verdict::Alive }
    }

    /// Marks held now.
    #[must_use]
    pub(super) fn count(&self) -> usize {
        let table = self.table.read();
        table.names.len() + table.tags.len() + table.paths.len()
    }

    /// Makes the newest mark of a locked table known.
    fn close(&self, table: &mut Table, now_ms: u64) -> Generation {
        table.forget(now_ms, self.keep_ms);
        self.newest.store(table.newest, Ordering::Release);
        Generation(table.newest)
    }

    fn newest_mark(&self, table: &Table, key: &Key, route: Option<&str>, tags: &[Tag]) -> Mark {
        let mut newest = table.all;
        let (authority, path, query) = (key.authority(), key.path(), key.query());
        if !table.names.is_empty() {
            let mut look = |name: &Name<'_>| {
                if let Some(mark) = table.names.get(&self.hash(name)) {
                    newest.raise(*mark);
                }
            };
            look(&Name::Url { authority: Some(authority), path, query });
            look(&Name::Url { authority: None, path, query });
            if let Some(route) = route {
                look(&Name::Route(route));
            }
            if let Some(subject) = key.subject() {
                look(&Name::Identity(subject));
            }
            for tag in tags {
                look(&Name::Tag(tag.as_str()));
            }
        }
        newest.raise(table.paths.newest(authority, path));
        // A beginning of a tag says nothing about groups, whose names are digests.
        for tag in tags.iter().filter(|tag| !tag.is_group()) {
            newest.raise(table.tags.newest(&[], tag.as_str().as_bytes()));
        }
        newest
    }

    fn hash(&self, name: &Name<'_>) -> u64 {
        self.maker.hash_of(name)
    }
}

impl Mark {
    const fn at(generation: u64, soft: bool) -> Self {
        if soft { Self { hard: 0, soft: generation } } else { Self { hard: generation, soft: 0 } }
    }

    /// Takes over what is newer in the other.
    pub(super) fn raise(&mut self, other: Self) {
        self.hard = self.hard.max(other.hard);
        self.soft = self.soft.max(other.soft);
    }

    pub(super) fn newest(self) -> u64 {
        self.hard.max(self.soft)
    }
}

impl Table {
    fn put(&mut self, name: u64, mark: Mark) {
        if self.names.len() >= MAX_MARKS && !self.names.contains_key(&name) {
            self.drop_older_half();
        }
        self.names.entry(name).or_default().raise(mark);
    }

    /// Every mark so far is covered by one line: what is older than the newest generation is dead.
    fn end_all(&mut self) {
        *self = Self { newest: self.newest, floor: self.newest, ..Self::default() };
    }

    fn drop_older_half(&mut self) {
        let mut generations: Vec<u64> = self.names.values().map(|mark| mark.newest()).collect();
        let middle = generations.len() / 2;
        let (_, cut, _) = generations.select_nth_unstable(middle);
        self.drop_until(*cut);
    }

    /// Drops the marks up to a generation; what was fetched before it counts as dead, whatever they said.
    fn drop_until(&mut self, cut: u64) {
        self.floor = self.floor.max(cut);
        self.names.retain(|_, mark| mark.newest() > cut);
        self.tags.drop_until(cut);
        self.paths.drop_until(cut);
    }

    /// Drops marks that are older than any entry can be.
    fn forget(&mut self, now_ms: u64, keep_ms: u64) {
        let newest = self.newest;
        if self.notes.back().is_none_or(|(at, _)| now_ms.saturating_sub(*at) >= keep_ms / NOTES) {
            self.notes.push_back((now_ms, newest));
        }
        let mut cut = None;
        while let Some((at, generation)) = self.notes.front().copied() {
            if now_ms.saturating_sub(at) <= keep_ms {
                break;
            }
            cut = Some(generation);
            self.notes.pop_front();
        }
        if let Some(cut) = cut {
            self.drop_until(cut);
        }
    }
}

#[cfg(test)]
mod tests;
