//! The representations of an entry: its plain body, and the coded ones that are made of it on demand. Each coding is
//! begun at most once, lives and dies with its entry, and is counted in the entry's size. Which one a request gets is
//! not decided here, and neither is who makes it.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::HeaderMap;

use super::{
    entry::{Entry, head_size},
    rfc9111::{Coding, coded_head},
    to_u64,
};

/// The coded representations of one entry.
#[derive(Debug, Default)]
pub(super) struct Codings {
    brotli: Slot,
    gzip: Slot,
    /// Bytes of all heads and bodies.
    size: AtomicUsize,
}

/// One coding of an entry. Empty until it is made; made and without a representation where it is of no use.
#[derive(Debug, Default)]
struct Slot {
    is_begun: AtomicBool,
    made: OnceLock<Option<Box<Coded>>>,
}

/// A coded representation.
#[derive(Debug)]
pub(super) struct Coded {
    headers: HeaderMap,
    body: Bytes,
    sendable: OnceLock<Bytes>,
}

/// One representation of a stored answer.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    headers: &'a HeaderMap,
    body: &'a Bytes,
    sendable: &'a OnceLock<Bytes>,
}

impl<'a> Representation<'a> {
    pub(super) const fn new(headers: &'a HeaderMap, body: &'a Bytes, sendable: &'a OnceLock<Bytes>) -> Self {
        Self { headers, body, sendable }
    }

    /// The fields, without `Age`, which depends on the moment.
    #[must_use]
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The body.
    #[must_use]
    pub const fn body(&self) -> &'a Bytes {
        self.body
    }

    /// The head in the form in which it is sent. Made once, by the first caller.
    pub fn sendable(&self, make: impl FnOnce(&HeaderMap) -> Bytes) -> Bytes {
        self.sendable.get_or_init(|| make(self.headers)).clone()
    }
}

impl Coded {
    pub(super) fn new(entry: &Entry, coding: Coding, body: Bytes) -> Self {
        let headers = coded_head(entry.headers(), coding, to_u64(body.len()));
        Self { headers, body, sendable: OnceLock::new() }
    }

    /// Bytes counted for it.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + head_size(&self.headers) + self.body.len()
    }
}

impl Codings {
    const fn slot(&self, coding: Coding) -> &Slot {
        match coding {
            Coding::Brotli => &self.brotli,
            Coding::Gzip => &self.gzip,
        }
    }

    /// Bytes counted for all of them.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.size.load(Ordering::Relaxed)
    }
}

impl Entry {
    /// The representation in a coding, once it is made.
    #[must_use]
    pub fn coded(&self, coding: Coding) -> Option<Representation<'_>> {
        let coded = self.codings()?.slot(coding).made.get()?.as_ref()?;
        Some(Representation::new(&coded.headers, &coded.body, &coded.sendable))
    }

    /// Whether a coding was tried and is of no use: it is no smaller than the plain body, or has no place.
    #[must_use]
    pub fn is_useless(&self, coding: Coding) -> bool {
        self.codings().is_some_and(|codings| matches!(codings.slot(coding).made.get(), Some(None)))
    }

    /// Whether somebody makes this coding or has made it.
    #[must_use]
    pub fn is_begun(&self, coding: Coding) -> bool {
        self.codings().is_some_and(|codings| codings.slot(coding).is_begun.load(Ordering::Relaxed))
    }

    /// True for the one caller that is to make this coding.
    #[must_use]
    pub fn begin_coding(&self, coding: Coding) -> bool {
        !self.codings_or_new().slot(coding).is_begun.swap(true, Ordering::Relaxed)
    }

    /// Sets what became of a coding; only the first time counts.
    pub(super) fn set_coded(&self, coding: Coding, coded: Option<Coded>) {
        let codings = self.codings_or_new();
        let size = coded.as_ref().map_or(0, Coded::size);
        let slot = codings.slot(coding);
        slot.is_begun.store(true, Ordering::Relaxed);
        if slot.made.set(coded.map(Box::new)).is_ok() {
            codings.size.fetch_add(size, Ordering::Relaxed);
        }
    }

    /// Takes over the coded bodies of the entry in whose place this one comes, if it has the same bytes.
    pub(super) fn inherit_codings(&self, base: &Self) {
        let is_same = self.body().as_ptr() == base.body().as_ptr() && self.body().len() == base.body().len();
        let Some(codings) = base.codings().filter(|_| is_same) else { return };
        for coding in Coding::ALL {
            if let Some(made) = codings.slot(coding).made.get() {
                let body = made.as_ref().map(|coded| coded.body.clone());
                self.set_coded(coding, body.map(|body| Coded::new(self, coding, body)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{
        entry::NewEntry,
        key::KeyMaker,
        samples::{answer, fields, key},
    };

    fn entry() -> Entry {
        let key = key(&KeyMaker::default(), "/");
        Entry::new(NewEntry { headers: fields(&[("etag", "\"a\"")]), ..answer(&key, 100) })
    }

    fn set(entry: &Entry, coding: Coding, body: &'static [u8]) {
        entry.set_coded(coding, Some(Coded::new(entry, coding, Bytes::from_static(body))));
    }

    #[test]
    fn a_coding_is_begun_once_and_counted_with_its_entry() {
        let entry = entry();
        let plain = entry.size();
        assert!(!entry.is_begun(Coding::Gzip) && entry.coded(Coding::Gzip).is_none());

        assert!(entry.begin_coding(Coding::Gzip));
        assert!(!entry.begin_coding(Coding::Gzip));
        assert!(entry.begin_coding(Coding::Brotli));
        set(&entry, Coding::Gzip, b"zipped");
        set(&entry, Coding::Gzip, b"zipped twice");
        entry.set_coded(Coding::Brotli, None);

        let coded = entry.coded(Coding::Gzip).unwrap();
        assert_eq!(coded.body().as_ref(), b"zipped");
        assert_eq!(coded.headers()["etag"], "\"a-gz\"");
        assert!(entry.is_useless(Coding::Brotli) && !entry.is_useless(Coding::Gzip));
        let counted = entry.size() - plain;
        assert!((6 + 100..2000).contains(&counted), "{counted}");
    }

    #[test]
    fn a_confirmed_entry_keeps_the_coded_bodies_under_its_new_head() {
        let base = entry();
        set(&base, Coding::Brotli, b"br");
        base.set_coded(Coding::Gzip, None);
        let renewed = |body| {
            let headers = fields(&[("etag", "\"b\"")]);
            let entry = Entry::new(NewEntry { headers, body, ..answer(base.key(), 0) });
            entry.inherit_codings(&base);
            entry
        };

        let same = renewed(base.body().clone());
        let other = renewed(Bytes::from(vec![b'x'; 100]));

        assert_eq!(same.coded(Coding::Brotli).unwrap().headers()["etag"], "\"b-br\"");
        assert!(same.is_useless(Coding::Gzip) && !same.begin_coding(Coding::Brotli));
        assert!(other.coded(Coding::Brotli).is_none() && !other.is_begun(Coding::Gzip));
    }
}
