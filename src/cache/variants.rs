//! The variants of one resource, when its answers depend on request fields: which there are, and which of them fits a
//! request. The entries themselves lie under keys of their own, so that each is evicted on its own.

use http::HeaderMap;

use super::{key::Key, rfc9111::Selection};

/// Bytes counted for a list, and for each variant in it beside its key.
const LIST: usize = 160;
const VARIANT: usize = 256;

/// The known variants of a resource, newest `Date` first.
#[derive(Clone, Debug, Default)]
pub(super) struct Variants {
    list: Vec<Variant>,
}

/// One variant.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    /// The request fields it depends on, with their values.
    pub(super) selection: Selection,
    /// Where its entry lies.
    pub(super) key: Key,
    /// The `Date` of its entry, as far as the backend gave one.
    pub(super) date: i64,
    /// When its entry is good for nothing.
    pub(super) useless_after_ms: u64,
}

impl Variants {
    /// Where the entry lies that fits the request. Of several, the one with the newest `Date` counts (RFC 9111, 4.1).
    pub(super) fn find(&self, request: &HeaderMap) -> Option<&Key> {
        self.list.iter().find(|variant| variant.selection.matches(request)).map(|variant| &variant.key)
    }

    /// The fields that the newest variant depends on, with the values of this request.
    pub(super) fn selection_of(&self, request: &HeaderMap) -> Option<Selection> {
        self.list.first().map(|newest| newest.selection.of_request(request))
    }

    /// Puts a variant in, in the place of the one with the same selecting values.
    pub(super) fn put(&mut self, new: Variant) {
        self.list.retain(|known| known.key != new.key);
        let at = self.list.partition_point(|known| known.date > new.date);
        self.list.insert(at, new);
    }

    /// Keeps those that are still of use.
    pub(super) fn retain(&mut self, is_alive: impl Fn(&Variant) -> bool) {
        self.list.retain(is_alive);
    }

    /// The keys of all entries.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.list.iter().map(|variant| &variant.key)
    }

    /// Whether there is one under this key.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys().any(|known| known == key)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// When the last of them is good for nothing.
    pub(super) fn useless_after_ms(&self) -> u64 {
        self.list.iter().map(|variant| variant.useless_after_ms).max().unwrap_or(0)
    }

    /// Bytes counted for the list.
    pub(super) fn size(&self) -> usize {
        LIST + self.list.iter().map(|variant| VARIANT + variant.key.size()).sum::<usize>()
    }
}
