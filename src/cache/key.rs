//! The cache key: canonical parts with their lengths in one buffer, and a seeded hash of them for the memory tier.
//! What belongs into the key of a route is a `KeyRule`; how a query is filtered lives in `query`.
//!
//! Two requests share an entry only if their parts are equal byte for byte: the hash merely finds the place. Each
//! part carries its length, so that no two different requests give the same buffer (a plain concatenation of
//! authority and path would let `a` + `b/c` meet `ab` + `/c`).
//!
//! Layout: version, method class, scheme; a byte that says whether there is an identity, and if so its name and that of
//! its subject, 32 bytes each; then authority, path, query (after a byte that says whether there is
//! one), `Origin` (after a byte that says whether it is keyed), the chosen headers and the chosen cookies (each after
//! its name); these three as the number of values, zero if absent, and the values, those of headers and cookies as their
//! SHA-256. A length is four bytes, big-endian. The key of a POST is that of a GET in a class of its own, with its body
//! (`body`) behind. The key of a variant is that of its resource, a `V` and the digest of the selecting values.

mod read;

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::{
    body::BodyPart,
    identity::{IdentityTag, NAME},
    query::QueryRule,
};
use crate::config;

pub use read::KeyParts;

/// Version of the layout; a change of it makes every older key unequal.
const LAYOUT: u8 = 2;

/// GET and HEAD share entries.
const CLASS_GET: u8 = b'G';

/// POST, with the body in the key.
const CLASS_POST: u8 = b'P';

/// The place of the method class.
const CLASS: usize = 1;

/// Marks the digest of a variant behind the parts of its resource.
const VARIANT: u8 = b'V';

/// Bytes before the one that says whether there is an identity.
const HEAD: usize = 3;

/// Bytes of the names of an identity.
const IDENTITY: usize = 2 * NAME;

/// Bytes of a length.
const LENGTH: usize = 4;

/// Digest of a key.
pub(super) type KeyDigest = [u8; 32];

/// Digest of the selecting values of a variant.
pub(super) type VariantDigest = [u8; 32];

/// The key of an entry. A clone costs a reference count.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    hash: u64,
    parts: Bytes,
}

/// The scheme part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// What a request is aimed at: the exact bytes that go upstream.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The scheme.
    pub scheme: Scheme,
    /// The authority, in any case, with or without the default port.
    pub authority: &'a [u8],
    /// The path as it stands in the request, never decoded.
    pub path: &'a [u8],
    /// What follows the `?`, if there is one.
    pub query: Option<&'a [u8]>,
}

/// What a route puts into its keys. The default is that of paths without a rule: the whole query, nothing else.
#[derive(Clone, Debug, Default)]
pub struct KeyRule {
    /// Which part of the query counts.
    pub query: QueryRule,
    /// Request header fields in the key, lower case by nature.
    pub headers: Vec<HeaderName>,
    /// Cookies in the key, by name.
    pub cookies: Vec<String>,
    /// Whether `Origin`, or its absence, is in the key. On for routes with a rule, because frameworks name `Origin`
    /// in `Vary` only when the request had one: a copy filled without it has no `Access-Control-Allow-Origin`.
    pub origin: bool,
    /// How the body of a POST is told apart; none where a POST is a write.
    pub body: Option<config::BodyKey>,
}

/// Makes keys. Holds the seed of their hashes, so keys of different makers are never equal by hash.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyMaker {
    seed: foldhash::quality::RandomState,
}

/// Takes the hash that a key already carries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHash(u64);

impl KeyRule {
    /// The keys of a route with a rule. The error names a header field that is none.
    pub fn of_route(rule: &config::RouteCache) -> Result<Self, http::header::InvalidHeaderName> {
        let mut query = match &rule.key.query {
            config::QueryKey::All => QueryRule::all(),
            config::QueryKey::Only(names) => QueryRule::only(names),
            config::QueryKey::Ignore(names) => QueryRule::ignore(names),
        };
        for (name, value) in rule.refresh_on.iter().flat_map(|refresh| &refresh.query) {
            query = query.refresh_on(name, value);
        }
        let headers = rule.key.headers.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        Ok(Self { query, headers, cookies: rule.key.cookies.clone(), origin: true, body: rule.key.body })
    }
}

impl Key {
    /// The seeded hash of the parts. Different in each process: never written anywhere.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The canonical parts, as they are stored beside a value and compared on read.
    #[must_use]
    pub fn parts(&self) -> &[u8] {
        &self.parts
    }

    /// The name for stores outside this process: SHA-256 of the parts in hexadecimal digits.
    #[must_use]
    pub fn name(&self) -> String {
        hex(&self.digest())
    }

    /// SHA-256 of the parts: what stands for the key outside this process.
    pub(super) fn digest(&self) -> KeyDigest {
        Sha256::digest(&self.parts).into()
    }

    /// Bytes of the parts.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parts.len()
    }

    /// The authority part.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        part(&self.parts, self.authority_at()).0
    }

    /// The path part.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        part(&self.parts, part(&self.parts, self.authority_at()).1).0
    }

    /// The query part: what the rule left of it.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        let at = part(&self.parts, part(&self.parts, self.authority_at()).1).1;
        (self.parts.get(at) == Some(&1)).then(|| part(&self.parts, at + 1).0)
    }

    /// Whether the entry is one user's own. Where the secret of the names is this process's alone, such entries must
    /// not leave it.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.parts.get(HEAD) == Some(&1)
    }

    /// The name of the user whose own the entry is, as purges have it.
    pub(super) fn subject(&self) -> Option<&[u8; NAME]> {
        let names = self.parts.get(HEAD + 1..).filter(|_| self.is_identity())?;
        names.get(NAME..)?.first_chunk()
    }

    fn authority_at(&self) -> usize {
        HEAD + 1 + if self.is_identity() { IDENTITY } else { 0 }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Key {
    /// Shows the path alone: the other parts may name a user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", String::from_utf8_lossy(self.path()))
    }
}

impl KeyMaker {
    /// The key of a request that is nobody's own.
    #[cfg(test)]
    pub(super) fn key(&self, rule: &KeyRule, target: &Target<'_>, request: &HeaderMap) -> Key {
        self.key_of(rule, target, request, None)
    }

    /// The key of a request, and of whose it is. One allocation, of the exact size unless the rule shortens the query.
    #[must_use]
    pub(super) fn key_of(
        &self,
        rule: &KeyRule,
        target: &Target<'_>,
        request: &HeaderMap,
        identity: Option<&IdentityTag>,
    ) -> Key {
        let authority = without_default_port(target.scheme, target.authority);
        let query_bytes = target.query.map_or(0, |query| LENGTH + query.len());
        let mut parts = Vec::with_capacity(
            HEAD + 1
                + identity.map_or(0, |_| IDENTITY)
                + 2 * LENGTH
                + authority.len()
                + target.path.len()
                + 1
                + query_bytes
                + selected_size(rule, request),
        );
        parts.extend_from_slice(&[LAYOUT, CLASS_GET, target.scheme.byte()]);
        parts.push(u8::from(identity.is_some()));
        if let Some(tag) = identity {
            parts.extend_from_slice(&tag.identity);
            parts.extend_from_slice(&tag.subject);
        }
        push_length(&mut parts, authority.len());
        parts.extend(authority.iter().map(u8::to_ascii_lowercase));
        push(&mut parts, target.path);
        push_query(&mut parts, &rule.query, target.query);
        push_selected(&mut parts, rule, request);
        self.finish(parts)
    }

    /// The key of a POST with this body, from that of a GET of the same target.
    #[must_use]
    pub(super) fn posted(&self, get: &Key, body: &BodyPart) -> Key {
        let mut parts = get.parts.to_vec();
        if let Some(class) = parts.get_mut(CLASS) {
            *class = CLASS_POST;
        }
        body.append_to(&mut parts);
        self.finish(parts)
    }

    /// The key of one variant of a resource.
    #[must_use]
    pub(super) fn variant(&self, resource: &Key, digest: &VariantDigest) -> Key {
        let mut parts = Vec::with_capacity(resource.size() + 1 + digest.len());
        parts.extend_from_slice(&resource.parts);
        parts.push(VARIANT);
        parts.extend_from_slice(digest);
        self.finish(parts)
    }

    /// The key with these parts, as another process made it.
    pub(super) fn of_parts(&self, parts: &[u8]) -> Key {
        self.finish(parts.to_vec())
    }

    /// The resource of a variant with these parts; none where they are no variant's. For other keys it may be of a resource
    /// that there is not.
    pub(super) fn of_variant(&self, parts: &[u8]) -> Option<Key> {
        let (resource, digest) =
            parts.split_at_checked(parts.len().checked_sub(size_of::<VariantDigest>() + 1)?)?;
        (digest.first() == Some(&VARIANT)).then(|| self.of_parts(resource))
    }

    /// A seeded hash of anything, for tables beside the entries.
    pub(crate) fn hash_of(&self, value: impl Hash) -> u64 {
        self.seed.hash_one(value)
    }

    fn finish(&self, parts: Vec<u8>) -> Key {
        let mut hasher = self.seed.build_hasher();
        hasher.write(&parts);
        Key { hash: hasher.finish(), parts: parts.into() }
    }
}

impl Scheme {
    /// The scheme as written in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Http => b'h',
            Self::Https => b's',
        }
    }
}

impl Hasher for KeyHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys call `write_u64` alone; this keeps the hasher right for anything else.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl BuildHasher for KeyHash {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

/// The authority without a port that its scheme implies (RFC 9110, 4.2.3).
#[must_use]
pub(super) fn without_default_port(scheme: Scheme, authority: &[u8]) -> &[u8] {
    let port: &[u8] = match scheme {
        Scheme::Http => b":80",
        Scheme::Https => b":443",
    };
    let bare = authority.strip_suffix(port).unwrap_or(authority);
    bare.strip_suffix(b":").unwrap_or(bare)
}

/// The authority as it stands in keys: lower case, without the default port.
#[must_use]
pub fn canonical_authority(scheme: Scheme, authority: &[u8]) -> Vec<u8> {
    without_default_port(scheme, authority).to_ascii_lowercase()
}

/// The values of a cookie over all `Cookie` lines, spaces around them off. All of them are keyed: which of two the
/// backend would believe is not ours to guess.
pub fn cookie_values<'a>(request: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs =
        request.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = pair.split_at_checked(at)?;
        (found.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

fn push_query(parts: &mut Vec<u8>, rule: &QueryRule, query: Option<&[u8]>) {
    let Some(query) = query else {
        parts.push(0);
        return;
    };
    let flag = parts.len();
    parts.push(1);
    let length_at = parts.len();
    push_length(parts, query.len());
    let start = parts.len();
    if rule.append_to(query, parts) {
        let length = to_length(parts.len() - start).to_be_bytes();
        if let Some(place) = parts.get_mut(length_at..start) {
            place.copy_from_slice(&length);
        }
    } else {
        // Nothing is left of the query: the same as a request without one, and sent upstream so.
        parts.truncate(flag);
        parts.push(0);
    }
}

fn push_selected(parts: &mut Vec<u8>, rule: &KeyRule, request: &HeaderMap) {
    parts.push(u8::from(rule.origin));
    if rule.origin {
        push_values(parts, || field_values(request, &header::ORIGIN));
    }
    push_length(parts, rule.headers.len());
    for name in &rule.headers {
        push(parts, name.as_str().as_bytes());
        push_digests(parts, || field_values(request, name));
    }
    push_length(parts, rule.cookies.len());
    for name in &rule.cookies {
        push(parts, name.as_bytes());
        push_digests(parts, || cookie_values(request, name));
    }
}

/// The number of values, then each; absent is zero values.
fn push_values<'a, I: Iterator<Item = &'a [u8]>>(parts: &mut Vec<u8>, values: impl Fn() -> I) {
    push_length(parts, values().count());
    for value in values() {
        push(parts, value);
    }
}

/// The same with a digest of each value: a session that tells entries apart is nobody's business who reads a key.
fn push_digests<'a, I: Iterator<Item = &'a [u8]>>(parts: &mut Vec<u8>, values: impl Fn() -> I) {
    push_length(parts, values().count());
    for value in values() {
        parts.extend_from_slice(&Sha256::digest(value));
    }
}

/// Bytes that `push_selected` will add.
fn selected_size(rule: &KeyRule, request: &HeaderMap) -> usize {
    let origin = if rule.origin { values_size(field_values(request, &header::ORIGIN)) } else { 0 };
    let digests = |values: usize| LENGTH + values * size_of::<KeyDigest>();
    let header =
        |name: &HeaderName| LENGTH + name.as_str().len() + digests(field_values(request, name).count());
    let cookie = |name: &String| LENGTH + name.len() + digests(cookie_values(request, name).count());
    1 + origin
        + 2 * LENGTH
        + rule.headers.iter().map(header).sum::<usize>()
        + rule.cookies.iter().map(cookie).sum::<usize>()
}

fn values_size<'a>(values: impl Iterator<Item = &'a [u8]>) -> usize {
    LENGTH + values.map(|value| LENGTH + value.len()).sum::<usize>()
}

fn field_values<'a>(request: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    request.get_all(name).iter().map(HeaderValue::as_bytes)
}

fn push(parts: &mut Vec<u8>, bytes: &[u8]) {
    push_length(parts, bytes.len());
    parts.extend_from_slice(bytes);
}

fn push_length(parts: &mut Vec<u8>, length: usize) {
    parts.extend_from_slice(&to_length(length).to_be_bytes());
}

/// A length in four bytes. Heads are bounded far below 4 GiB, so the clamp is never met.
fn to_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The part whose length stands at `at`, and where the next one begins.
fn part(parts: &[u8], at: usize) -> (&[u8], usize) {
    let Some((length, rest)) = parts.get(at..).and_then(<[u8]>::split_first_chunk::<LENGTH>) else {
        return (&[], parts.len());
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    (rest.get(..length).unwrap_or_default(), at.saturating_add(LENGTH).saturating_add(length))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests;
