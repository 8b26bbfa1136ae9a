//! Which kind of purge ended an entry, or made it stale: for people who ask. The request path has its own, shorter way.

use super::{Mark, Marks, Name};
use crate::cache::{entry::Entry, tags::Tag};

/// The purge that an entry fell to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// What the purge named: `all`, `url`, `prefix`, `route` or `tag`; `all` also for an entry from before the oldest
    /// marks that are kept.
    pub scope: &'static str,
    /// True when it only made the entry stale.
    pub is_soft: bool,
    /// Its generation.
    pub generation: u64,
}

impl Marks {
    /// The purge that the entry fell to; of several the hardest, then the newest.
    pub(in crate::cache) fn culprit(&self, entry: &Entry) -> Option<Culprit> {
        let table = self.table.read();
        let since = entry.generation().0;
        let (key, tags) = (entry.key(), entry.tags());
        let (authority, path, query) = (key.authority(), key.path(), key.query());
        let mark_of = |name: &Name<'_>| table.names.get(&self.hash(name)).copied().unwrap_or_default();
        let mut marks = vec![
            ("all", table.all),
            ("url", mark_of(&Name::Url { authority: Some(authority), path, query })),
            ("url", mark_of(&Name::Url { authority: None, path, query })),
            ("prefix", table.paths.newest(authority, path)),
        ];
        marks.extend(entry.route().map(|route| ("route", mark_of(&Name::Route(route)))));
        for tag in tags.iter().map(Tag::as_str) {
            marks.push(("tag", mark_of(&Name::Tag(tag))));
            marks.push(("tag", table.tags.newest(&[], tag.as_bytes())));
        }
        let newest = |generation: fn(Mark) -> u64| {
            let after = marks.iter().map(|(scope, mark)| (generation(*mark), *scope));
            after.filter(|(generation, _)| *generation > since).max_by_key(|(generation, _)| *generation)
        };
        let found = |(generation, scope), is_soft| Culprit { scope, is_soft, generation };
        if let Some(hard) = newest(|mark| mark.hard) {
            return Some(found(hard, false));
        }
        if since < table.floor {
            return Some(found((table.floor, "all"), false));
        }
        newest(|mark| mark.soft).map(|soft| found(soft, true))
    }
}

#[cfg(test)]
mod tests {
    use super::Culprit;
    use crate::cache::{
        entry::Entry,
        key::KeyMaker,
        purge::{Marks, Verdict},
        samples::{key, tagged},
        scope::Scope,
    };

    /// Purges, each with whether it is soft, and the scope, softness and generation of the one that counts.
    type Row = (&'static [fn() -> (Scope, bool)], Option<(&'static str, bool, u64)>);

    #[test]
    fn the_purge_that_counts_is_named() {
        let table: [Row; 9] = [
            (&[], None),
            (&[|| (Scope::tag("other"), false), || (Scope::Route("/b".into()), false)], None),
            (&[|| (Scope::tag("t"), false)], Some(("tag", false, 1))),
            (&[|| (Scope::tag("*"), true)], Some(("tag", true, 1))),
            (&[|| (Scope::Route("/a".into()), false)], Some(("route", false, 1))),
            (&[|| (Scope::url("/a?b").unwrap(), false)], Some(("url", false, 1))),
            (
                &[|| (Scope::prefix("/").unwrap(), false), || (Scope::tag("t"), true)],
                Some(("prefix", false, 1)),
            ),
            (&[|| (Scope::All, true), || (Scope::tag("t"), true)], Some(("tag", true, 2))),
            (&[|| (Scope::All, false)], Some(("all", false, 1))),
        ];
        for (purges, expected) in table {
            let maker = KeyMaker::default();
            let marks = Marks::new(maker.clone(), 1_000_000);
            let entry = Entry::new(tagged(&key(&maker, "/a?b"), &["t"], Some("/a")));

            let purges: Vec<(Scope, bool)> = purges.iter().map(|purge| purge()).collect();
            for (scope, soft) in &purges {
                let _ = marks.purge(scope, *soft, 0);
            }

            let found = marks.culprit(&entry);
            let expected =
                expected.map(|(scope, is_soft, generation)| Culprit { scope, is_soft, generation });
            assert_eq!(found, expected, "{purges:?}");
            // It never says something else than the verdict that requests get.
            let verdict = match found {
                None => Verdict::Alive,
                Some(Culprit { is_soft: true, .. }) => Verdict::Stale,
                Some(_) => Verdict::Dead,
            };
            assert_eq!(marks.verdict(&entry), verdict, "{purges:?}");
        }
    }
}
