//! The prompt cache: exact prefixes per credential and model, written at breakpoints, read up to 20 blocks back.

use std::{collections::HashMap, time::Duration};

use super::{
    prompt::{Ttl, Unit},
    text::Digest,
};

/// How many blocks a breakpoint looks back over, itself included.
const LOOK_BACK: usize = 20;

/// So many entries are kept before the expired ones are thrown out.
const MANY: usize = 50_000;

/// How the tokens of one prompt divide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// Neither read nor written.
    pub(crate) input: u64,
    /// Read from the cache.
    pub(crate) read: u64,
    /// Written for five minutes.
    pub(crate) write_5m: u64,
    /// Written for one hour.
    pub(crate) write_1h: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ttl: Ttl,
    expires: Duration,
}

/// Everything that is cached. An entry keeps the lifetime it was written with; each read renews it.
#[derive(Debug, Default)]
pub(crate) struct PromptCache {
    entries: HashMap<(String, Digest), Entry>,
}

impl PromptCache {
    /// Serves one prompt at a time: what is read, what is written. `owner` names the credential and the model.
    pub(crate) fn serve(&mut self, owner: &str, units: &[Unit], min_tokens: u64, now: Duration) -> Split {
        let total = units.last().map_or(0, |unit| unit.upto);
        let marked = |(i, unit): (usize, &Unit)| unit.mark.map(|ttl| (i, ttl, unit.upto));
        let breakpoints: Vec<_> =
            units.iter().enumerate().filter_map(marked).filter(|(_, _, upto)| *upto >= min_tokens).collect();
        let hit = breakpoints.iter().rev().filter_map(|(i, _, _)| self.find(owner, units, *i, now)).max();
        let read = hit.and_then(|i| units.get(i)).map_or(0, |unit| unit.upto);
        let mut split = Split { read, ..Split::default() };
        let mut covered = read;
        for (i, ttl, upto) in breakpoints {
            let written = upto.saturating_sub(covered);
            covered = covered.max(upto);
            match ttl {
                Ttl::Short => split.write_5m += written,
                Ttl::Long => split.write_1h += written,
            }
            self.renew(owner, units.get(i), ttl, now);
        }
        if let Some(unit) = hit.and_then(|i| units.get(i)) {
            self.renew(owner, Some(unit), Ttl::Short, now);
        }
        split.input = total.saturating_sub(covered);
        split
    }

    fn find(&self, owner: &str, units: &[Unit], breakpoint: usize, now: Duration) -> Option<usize> {
        let first = (breakpoint + 1).saturating_sub(LOOK_BACK);
        (first..=breakpoint).rev().find(|i| {
            let entry = units.get(*i).and_then(|unit| self.entries.get(&(owner.to_owned(), unit.chain)));
            entry.is_some_and(|entry| entry.expires > now)
        })
    }

    /// Renews a live entry with its own lifetime, or writes a new one.
    fn renew(&mut self, owner: &str, unit: Option<&Unit>, ttl: Ttl, now: Duration) {
        let Some(unit) = unit else { return };
        if self.entries.len() >= MANY {
            self.entries.retain(|_, entry| entry.expires > now);
        }
        let key = (owner.to_owned(), unit.chain);
        let live = self.entries.get(&key).filter(|entry| entry.expires > now).map(|entry| entry.ttl);
        let ttl = live.unwrap_or(ttl);
        let lifetime = match ttl {
            Ttl::Short => Duration::from_secs(300),
            Ttl::Long => Duration::from_secs(3600),
        };
        self.entries.insert(key, Entry { ttl, expires: now + lifetime });
    }
}
