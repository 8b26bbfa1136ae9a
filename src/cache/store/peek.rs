//! A look at what is stored under a key, for people: it counts nothing, takes nothing out and joins no flight.

use std::sync::Arc;

use http::HeaderMap;

use super::Cache;
use crate::{
    cache::{
        entry::Entry,
        key::Key,
        memory::Found,
        purge::{Culprit, Verdict},
    },
    telemetry::Reason,
};

/// What lies under a key now.
#[derive(Clone, Debug)]
pub struct Peek {
    /// The entry that fits the request, also one that a purge has ended and nobody has looked up since.
    pub entry: Option<Arc<Entry>>,
    /// Why a request would get nothing; none where it gets the entry, fresh or not.
    pub absence: Option<Reason>,
    /// The purge that ended the entry, or made it stale.
    pub purged: Option<Culprit>,
    /// Variants of the resource; none where its answers fit every request.
    pub variants: usize,
    /// The last answer for the key could not be stored.
    pub is_hit_for_miss: bool,
}

impl Cache {
    /// Looks at what is stored under a key for a request with these fields.
    #[must_use]
    pub fn peek(&self, key: &Key, request: &HeaderMap, now_ms: u64) -> Peek {
        let (entry, absence) = match self.memory.find(key, request) {
            Found::Entry(entry) => (Some(entry), None),
            Found::Nothing => (None, Some(Reason::Absent)),
            Found::NoVariant(_) => (None, Some(Reason::Vary)),
        };
        // Past this moment it is only memory that nobody has given back yet.
        let entry = entry.filter(|entry| now_ms < entry.useless_after_ms());
        let verdict = entry.as_ref().map(|entry| self.marks.verdict(entry));
        let absence = match verdict {
            None => absence.or(Some(Reason::Absent)),
            Some(Verdict::Dead) => Some(Reason::Purged),
            Some(Verdict::Alive | Verdict::Stale) => None,
        };
        let selection = entry.as_ref().map(|entry| self.memory.variant_key(key, entry.selection()));
        let flight = selection.as_ref().unwrap_or(key);
        Peek {
            absence,
            purged: entry.as_ref().and_then(|entry| self.marks.culprit(entry)),
            variants: self.memory.variants(key).len(),
            is_hit_for_miss: self.hit_for_miss.is_remembered(flight, now_ms),
            entry,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use crate::{
        cache::{
            key::{Key, KeyRule, Scheme, Target},
            samples::{answer, fields, tagged, varied},
            scope::Scope,
            store::{Cache, Settings},
        },
        config,
        telemetry::Reason,
    };

    fn cache() -> Cache {
        Cache::new(&Settings::from(&config::Cache::default()))
    }

    fn key(cache: &Cache) -> Key {
        let target = Target { scheme: Scheme::Http, authority: b"a.example", path: b"/a", query: None };
        cache.key(&KeyRule::default(), &target, &HeaderMap::new())
    }

    #[test]
    fn a_look_changes_nothing() {
        let cache = cache();
        let key = key(&cache);
        let none = HeaderMap::new();
        assert_eq!(cache.peek(&key, &none, 0).absence, Some(Reason::Absent));

        let entry = cache.store(tagged(&key, &["t"], None), 0).unwrap();
        let before = cache.stats();
        let found = cache.peek(&key, &none, 0);

        assert!(found.entry.is_some_and(|found| std::sync::Arc::ptr_eq(&found, &entry)));
        assert_eq!((found.absence, found.purged, found.variants), (None, None, 0));
        assert_eq!((entry.hits(), cache.stats().absences), (0, before.absences));
    }

    #[test]
    fn what_a_purge_ended_is_still_seen_until_somebody_asks_for_it() {
        let cache = cache();
        let key = key(&cache);
        cache.store(tagged(&key, &["t"], None), 0).unwrap();
        cache.purge(&Scope::tag("t"), false, 0);

        let found = cache.peek(&key, &HeaderMap::new(), 0);
        assert_eq!(
            (found.absence, found.purged.map(|found| found.scope)),
            (Some(Reason::Purged), Some("tag"))
        );
        assert!(found.entry.is_some());

        let _ = cache.lookup(key.clone(), &HeaderMap::new(), 0);
        let found = cache.peek(&key, &HeaderMap::new(), 0);
        assert_eq!((found.absence, found.entry.is_some()), (Some(Reason::Absent), false));
    }

    #[test]
    fn variants_are_counted_and_the_one_that_fits_is_found() {
        let cache = cache();
        let key = key(&cache);
        for language in ["de", "fr"] {
            let request = fields(&[("accept-language", language)]);
            cache.store(varied(&key, &["accept-language"], &request), 0).unwrap();
        }

        let german = cache.peek(&key, &fields(&[("accept-language", "de")]), 0);
        let english = cache.peek(&key, &fields(&[("accept-language", "en")]), 0);

        assert_eq!((german.variants, german.absence, german.entry.is_some()), (2, None, true));
        assert_eq!(
            (english.variants, english.absence, english.entry.is_some()),
            (2, Some(Reason::Vary), false)
        );
    }

    #[test]
    fn an_entry_that_is_good_for_nothing_is_absent() {
        let cache = cache();
        let key = key(&cache);
        cache.store(answer(&key, 10), 0).unwrap();

        assert_eq!(cache.peek(&key, &HeaderMap::new(), 60_000).absence, Some(Reason::Absent));
    }
}
