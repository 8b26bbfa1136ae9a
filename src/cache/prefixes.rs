//! Purge marks on beginnings: of paths, and of tags. There are few, so they are compared one by one; when there are
//! too many, the two that have most in common become one, which purges more than asked but never less.

use super::purge::Mark;

/// Beginnings that are held at once.
const MAX_PREFIXES: usize = 256;

/// Marks by beginning.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Sorted by text, so that those with most in common are neighbours.
    list: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    text: Box<[u8]>,
    /// The host it is bound to; none holds for all.
    authority: Option<Box<[u8]>>,
    mark: Mark,
}

impl Prefixes {
    /// Puts a mark on a beginning.
    pub(super) fn put(&mut self, authority: Option<&[u8]>, text: &[u8], mark: Mark) {
        let known = self
            .list
            .iter_mut()
            .find(|known| *known.text == *text && known.authority.as_deref() == authority);
        if let Some(known) = known {
            known.mark.raise(mark);
            return;
        }
        let at = self.list.partition_point(|known| *known.text < *text);
        self.list.insert(at, Prefix { text: text.into(), authority: authority.map(Into::into), mark });
        if self.list.len() > MAX_PREFIXES {
            self.join_neighbours();
        }
    }

    /// The newest marks over all beginnings of a text.
    pub(super) fn newest(&self, authority: &[u8], text: &[u8]) -> Mark {
        let mut newest = Mark::default();
        for prefix in &self.list {
            let fits = prefix.authority.as_deref().is_none_or(|bound| bound == authority);
            if fits && text.starts_with(&prefix.text) {
                newest.raise(prefix.mark);
            }
        }
        newest
    }

    /// Drops the marks up to a generation.
    pub(super) fn drop_until(&mut self, cut: u64) {
        self.list.retain(|prefix| prefix.mark.newest() > cut);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Makes one of the two neighbours with the longest common beginning.
    fn join_neighbours(&mut self) {
        let pairs = self.list.iter().zip(self.list.iter().skip(1));
        let nearest =
            pairs.map(|(left, right)| common(&left.text, &right.text)).enumerate().max_by_key(|pair| pair.1);
        let Some((at, length)) = nearest else { return };
        let right = self.list.remove(at + 1);
        let left = self.list.remove(at);
        let mut mark = left.mark;
        mark.raise(right.mark);
        let authority = if left.authority == right.authority { left.authority } else { None };
        self.put(authority.as_deref(), left.text.get(..length).unwrap_or_default(), mark);
    }
}

fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::{MAX_PREFIXES, Prefixes};
    use crate::cache::purge::Mark;

    fn hard(generation: u64) -> Mark {
        Mark { hard: generation, soft: 0 }
    }

    #[test]
    fn the_newest_fitting_beginning_counts() {
        let mut prefixes = Prefixes::default();
        prefixes.put(None, b"/api/", hard(1));
        prefixes.put(None, b"/api/users/", hard(3));
        prefixes.put(Some(b"a.example"), b"/api/users", hard(5));
        prefixes.put(None, b"/api/", hard(2));

        assert_eq!(prefixes.newest(b"b.example", b"/api/users/7").hard, 3);
        assert_eq!(prefixes.newest(b"a.example", b"/api/users/7").hard, 5);
        assert_eq!(prefixes.newest(b"b.example", b"/api/x").hard, 2);
        assert_eq!(prefixes.newest(b"b.example", b"/apx").hard, 0);
        assert_eq!(prefixes.len(), 3);
    }

    #[test]
    fn too_many_beginnings_are_joined_and_still_cover_all_they_did() {
        let mut prefixes = Prefixes::default();
        let texts: Vec<String> = (0..1000).map(|n| format!("/p{}/{n}/", n % 7)).collect();

        for (generation, text) in (1..).zip(&texts) {
            prefixes.put(None, text.as_bytes(), hard(generation));
        }

        assert!(prefixes.len() <= MAX_PREFIXES);
        for (generation, text) in (1..).zip(&texts) {
            assert!(prefixes.newest(b"", format!("{text}x").as_bytes()).hard >= generation, "{text}");
        }
        assert_eq!(prefixes.newest(b"", b"/other").hard, 0);
    }

    #[test]
    fn joining_over_hosts_holds_for_all_hosts() {
        let mut prefixes = Prefixes::default();
        for n in 0..=MAX_PREFIXES {
            prefixes.put(Some(format!("h{n}").as_bytes()), b"/same", hard(1));
        }

        assert!(prefixes.len() <= MAX_PREFIXES);
        for n in 0..=MAX_PREFIXES {
            assert_eq!(prefixes.newest(format!("h{n}").as_bytes(), b"/same/x").hard, 1);
        }
    }
}
