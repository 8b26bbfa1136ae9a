//! A stored answer: its head ready to send, its body, and what is needed to judge, purge and count it.
//!
//! Nothing in an entry points into a buffer of the connection it came over: the values of all fields are copied into
//! one block, so that 200 bytes of head do not pin 16 KiB that were read at once.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use super::{
    coded::{Codings, Representation},
    key::{Key, hex},
    purge::Generation,
    rfc9111::{Meta, Selection, Stored},
    tags::Tag,
};

/// Bytes counted for an entry beyond key, head and body: what moka keeps for it, its places in queues and timers, and
/// the rounding of the allocator. Found by counting allocations over 39,000 entries of 200 bytes, so that the
/// configured size is what the process really takes.
pub(super) const OVERHEAD: usize = 384;

/// Bytes that a field costs in the map beside its value: name, value handle, links and its share of the index.
const FIELD: usize = 112;

/// Bytes of the body's digest that make an entity tag.
const ETAG_BYTES: usize = 16;

/// How long an entry with a validator is kept beyond its lifetime, since a 304 is cheaper than a body.
const VALIDATE: Duration = Duration::from_secs(3600);

/// What an entry is made of.
#[derive(Debug)]
pub struct NewEntry {
    /// The key of the resource, without any selecting values.
    pub key: Key,
    /// The route it came by, if one matched.
    pub route: Option<Arc<str>>,
    /// The status.
    pub status: StatusCode,
    /// The fields to keep.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Lifetime, age and windows.
    pub meta: Meta,
    /// The request fields it depends on, with their values.
    pub selection: Selection,
    /// The names it can be purged by.
    pub tags: Vec<Tag>,
    /// Give a strong entity tag of our own to an answer without one.
    pub wants_etag: bool,
    /// The purge generation before its fetch began.
    pub generation: Generation,
    /// How long its fetch took.
    pub fetch_ms: u32,
}

/// A stored answer.
#[derive(Debug)]
pub struct Entry {
    key: Key,
    route: Option<Arc<str>>,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    meta: Meta,
    selection: Selection,
    tags: Box<[Tag]>,
    generation: Generation,
    fetch_ms: u32,
    useless_after_ms: u64,
    size: usize,
    /// What `Marks` last found out about this entry.
    checked: AtomicU64,
    /// When it was put here, in monotonic milliseconds.
    stored_ms: u64,
    /// Requests answered from it.
    hits: AtomicU64,
    /// The head as it is sent.
    sendable: OnceLock<Bytes>,
    /// Coded bodies, where some were asked for.
    codings: OnceLock<Box<Codings>>,
}

impl Entry {
    /// Makes an entry.
    #[must_use]
    pub fn new(new: NewEntry) -> Self {
        let (mut headers, mut meta) = (new.headers, new.meta);
        if new.wants_etag && !headers.contains_key(header::ETAG) {
            headers.insert(header::ETAG, strong_etag(&new.body));
            meta.generated_etag = true;
        }
        let headers = compact(&headers);
        let tag_bytes: usize = new.tags.iter().map(|tag| size_of::<Tag>() + tag.as_str().len()).sum();
        let head = head_size(&headers);
        let size = size_of::<Self>() + OVERHEAD + new.key.size() + head + new.body.len() + tag_bytes;
        Self {
            key: new.key,
            route: new.route,
            status: new.status,
            headers,
            body: new.body,
            meta,
            selection: new.selection,
            tags: new.tags.into(),
            generation: new.generation,
            fetch_ms: new.fetch_ms,
            useless_after_ms: meta.useless_after_ms(VALIDATE),
            size,
            checked: AtomicU64::new(new.generation.checked(false)),
            stored_ms: 0,
            hits: AtomicU64::new(0),
            sendable: OnceLock::new(),
            codings: OnceLock::new(),
        }
    }

    /// The same entry, put here at a moment.
    pub(super) const fn stored_at(mut self, now_ms: u64) -> Self {
        self.stored_ms = now_ms;
        self
    }

    pub(super) const fn stored_ms(&self) -> u64 {
        self.stored_ms
    }

    /// The key of its resource.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Whether it is one user's own answer. Such an answer is never compressed: whoever can put text of their own beside
    /// a user's secret would learn it from the length.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.key.is_identity()
    }

    /// The route it came by.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields, without `Age`, which depends on the moment.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The answer as it was stored.
    #[must_use]
    pub const fn plain(&self) -> Representation<'_> {
        Representation::new(&self.headers, &self.body, &self.sendable)
    }

    /// The body.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Lifetime, age and windows.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The request fields it depends on, with their values.
    #[must_use]
    pub const fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The names it can be purged by.
    #[must_use]
    pub const fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The purge generation before its fetch began.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// How long its fetch took: what a hit saves.
    #[must_use]
    pub const fn fetch_ms(&self) -> u32 {
        self.fetch_ms
    }

    /// Bytes counted for it: key, head, body, tags, coded bodies so far, and overhead.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size + self.codings().map_or(0, Codings::size)
    }

    /// The view that decisions take.
    #[must_use]
    pub const fn stored(&self) -> Stored<'_> {
        Stored { status: self.status, headers: &self.headers, meta: &self.meta }
    }

    /// Whether it may answer a request with these fields, as far as `Vary` is concerned.
    #[must_use]
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.selection.matches(request)
    }

    /// Whether it may answer requests that it was not fetched for, without asking anybody: it is fresh, and needs no
    /// validation for each use.
    #[must_use]
    pub fn may_be_shared(&self, now_ms: u64) -> bool {
        !self.meta.no_cache && self.meta.is_fresh(now_ms)
    }

    /// The moment after which it is good for nothing.
    #[must_use]
    pub const fn useless_after_ms(&self) -> u64 {
        self.useless_after_ms
    }

    /// Requests answered from it so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(super) fn codings(&self) -> Option<&Codings> {
        self.codings.get().map(Box::as_ref)
    }

    pub(super) fn codings_or_new(&self) -> &Codings {
        self.codings.get_or_init(Box::default)
    }

    pub(super) fn add_hit(&self) -> u64 {
        self.hits.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    pub(super) fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    pub(super) fn set_checked(&self, checked: u64) {
        self.checked.store(checked, Ordering::Relaxed);
    }
}

/// Bytes counted for a head: its text twice, once as fields, once as it is sent.
pub(super) fn head_size(headers: &HeaderMap) -> usize {
    head_bytes(headers) + text_bytes(headers)
}

/// Bytes of a head in wire form.
fn text_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// A strong entity tag (RFC 9110, 8.8.3) from the bytes of a body: equal bytes keep their tag over refetches, so that
/// clients that poll get their 304.
#[must_use]
pub fn strong_etag(body: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(body);
    let text = format!("\"{}\"", hex(digest.get(..ETAG_BYTES).unwrap_or_default()));
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// The same fields with all values in one block of their own.
fn compact(headers: &HeaderMap) -> HeaderMap {
    let mut block = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    for value in headers.values() {
        block.extend_from_slice(value.as_bytes());
    }
    let mut block = block.freeze();
    let mut compacted = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let own = block.split_to(value.len().min(block.len()));
        // The bytes are those of a valid value, so the fallback is never taken.
        let mut own = HeaderValue::from_maybe_shared(own).unwrap_or_else(|_| value.clone());
        own.set_sensitive(value.is_sensitive());
        compacted.append(name.clone(), own);
    }
    // A copy has room for just its fields, where a map that grew or was made for a number of them has up to twice that.
    compacted.clone()
}

fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| FIELD + name.as_str().len() + value.len()).sum()
}

#[cfg(test)]
mod tests;
