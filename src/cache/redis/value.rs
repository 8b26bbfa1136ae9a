//! What lies in Redis under a key: one value with everything of an answer, or the names of the fields it varies by.
//! Pure: bytes in, parts out.
//!
//! Redis is a trust boundary: others write to it, versions of this program differ, memory fails. So a value is believed
//! only if it begins right, was made for the very key that is asked for, has lengths that add up, and ends in the right
//! checksum, which is keyed where the replicas share a secret. Anything else is a miss.
//!
//! Layout, numbers big-endian: `TLCE`, version, kind, flags (2), created (8, Unix milliseconds), the generation known
//! before the fetch (8 + 8, the id of a purge mark), nonce (12), length of the key (4), length of the rest (4); the digest
//! of the key, as keys may hold what is nobody's business;
//! the rest; 16 bytes of checksum over all before. The rest of an answer, sealed or not: status (2), age and remaining
//! life (8 + 8), windows (8 + 8 + 8), date and last modification (8 + 8), time of the fetch (4), then what it varies by,
//! route, tags and fields as lists of texts with their lengths, then the body. The rest of a list of names is what the
//! answers vary by.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    constant_time, digest, hmac,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::position::MarkId;
use crate::{
    cache::{
        entry::Entry,
        rfc9111::{Languages, Meta, Selection, Source},
        tags::Tag,
    },
    telemetry::ValueFault,
};

const MAGIC: &[u8; 4] = b"TLCE";
const VERSION: u8 = 1;
const ANSWER: u8 = 1;
const NAMES: u8 = 2;

/// Bytes before the key.
pub(super) const HEAD: usize = 4 + 1 + 1 + 2 + 8 + 8 + 8 + NONCE_LEN + 4 + 4;

/// Bytes of the checksum, and of the seal.
const SUM: usize = 16;

/// A value may be this much younger than our clock says it can be.
const SKEW_MS: u64 = 5_000;

const SEALED: u16 = 1;
const RULE: u16 = 1 << 1;
const NO_CACHE: u16 = 1 << 2;
const MAX_STALE: u16 = 1 << 3;
const VALIDATOR: u16 = 1 << 4;
const GENERATED_ETAG: u16 = 1 << 5;
const HAS_LAST_MODIFIED: u16 = 1 << 6;
const HAS_ROUTE: u16 = 1 << 7;

/// The keys that values are checked and sealed with.
pub(super) struct Keys {
    sum: Option<hmac::Key>,
    seal: Option<LessSafeKey>,
}

/// The moments of now that times are converted by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Monotonic milliseconds.
    pub(super) ms: u64,
    /// Unix milliseconds.
    pub(super) unix_ms: u64,
}

/// A value that was believed.
#[derive(Debug)]
pub(super) enum Value {
    /// An answer.
    Answer(Box<Answer>),
    /// What the answers of this key vary by.
    Names(Varying),
}

/// The parts of a stored answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) route: Option<String>,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) meta: Meta,
    pub(super) varying: Varying,
    pub(super) tags: Vec<Tag>,
    pub(super) fetch_ms: u32,
    /// The newest purge mark that was known before its fetch.
    pub(super) known: MarkId,
}

/// What answers vary by: request fields, and the languages of the backend where those tell them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Varying {
    pub(super) names: Vec<HeaderName>,
    pub(super) languages: Option<Languages>,
}

/// Why a value is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is from another version of the layout, as happens while replicas are upgraded.
    Version,
    /// It is not to be believed.
    Fault(ValueFault),
}

impl Keys {
    /// Keys derived from the secret that the replicas share; without one, values have a plain checksum.
    pub(super) fn new(secret: Option<&[u8]>) -> Self {
        let Some(secret) = secret else { return Self { sum: None, seal: None } };
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let sum = hmac::sign(&root, b"touchline redis checksum 1");
        let seal = hmac::sign(&root, b"touchline redis seal 1");
        Self {
            sum: Some(hmac::Key::new(hmac::HMAC_SHA256, sum.as_ref())),
            seal: UnboundKey::new(&AES_256_GCM, seal.as_ref()).ok().map(LessSafeKey::new),
        }
    }

    /// The value of an entry, for the key under which it is stored.
    pub(super) fn answer(&self, entry: &Entry, key: &[u8], frame: &Frame) -> Vec<u8> {
        let (meta, now) = (entry.meta(), frame.now);
        let mut rest = Vec::with_capacity(256 + entry.size());
        let mut out = Writer(&mut rest);
        let moment = i64::try_from(now.ms).unwrap_or(i64::MAX);
        out.number(entry.status().as_u16());
        for span in [
            moment.saturating_sub(meta.born_ms),
            meta.expires_ms.saturating_sub(moment),
            meta.swr_ms,
            meta.sie_ms,
            meta.disconnect_ms,
            meta.date,
            meta.last_modified.unwrap_or_default(),
        ] {
            out.0.extend_from_slice(&span.to_be_bytes());
        }
        out.0.extend_from_slice(&entry.fetch_ms().to_be_bytes());
        out.selection(entry.selection());
        out.text(entry.route().unwrap_or_default().as_bytes());
        out.count(entry.tags().len());
        entry.tags().iter().for_each(|tag| out.text(tag.as_str().as_bytes()));
        out.count(entry.headers().len());
        for (name, value) in entry.headers() {
            out.text(name.as_str().as_bytes());
            out.text(value.as_bytes());
        }
        out.0.extend_from_slice(entry.body());
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        let flags = flag(meta.source == Source::Rule, RULE)
            | flag(meta.no_cache, NO_CACHE)
            | flag(meta.max_stale, MAX_STALE)
            | flag(meta.validator, VALIDATOR)
            | flag(meta.generated_etag, GENERATED_ETAG)
            | flag(meta.last_modified.is_some(), HAS_LAST_MODIFIED)
            | flag(entry.route().is_some(), HAS_ROUTE);
        self.finish(Frame { flags: frame.flags | flags, ..*frame }, key, rest)
    }

    /// The value that names what the answers of a key vary by.
    pub(super) fn names(&self, selection: &Selection, key: &[u8], now: Now) -> Vec<u8> {
        let mut rest = Vec::new();
        Writer(&mut rest).selection(selection);
        self.finish(Frame { kind: NAMES, flags: 0, known: MarkId::default(), now }, key, rest)
    }

    /// Reads a value that was found under a key.
    pub(super) fn read(&self, value: &[u8], key: &[u8], now: Now) -> Result<Value, Refused> {
        let fault = |fault| Refused::Fault(fault);
        if value.len() < HEAD + SUM || value.get(..4) != Some(MAGIC) {
            return Err(fault(ValueFault::Magic));
        }
        let short = || fault(ValueFault::Length);
        let (whole, sum) = value.split_last_chunk::<SUM>().ok_or_else(short)?;
        let mut head = Reader(whole.get(4..HEAD).unwrap_or_default());
        if head.byte().ok_or_else(short)? != VERSION {
            return Err(Refused::Version);
        }
        if constant_time::verify_slices_are_equal(&self.sum(whole), sum).is_err() {
            return Err(fault(ValueFault::Checksum));
        }
        let frame = Frame::read(&mut head).ok_or_else(short)?;
        let nonce = head.take::<NONCE_LEN>().ok_or_else(short)?;
        let (key_length, rest_length) = (head.length().ok_or_else(short)?, head.length().ok_or_else(short)?);
        let (echo, rest) =
            whole.get(HEAD..).unwrap_or_default().split_at_checked(key_length).ok_or_else(short)?;
        if rest.len() != rest_length {
            return Err(short());
        }
        if echo != key {
            return Err(fault(ValueFault::Key));
        }
        if frame.now.unix_ms > now.unix_ms.saturating_add(SKEW_MS) {
            return Err(fault(ValueFault::Skew));
        }
        if frame.flags & SEALED == 0 {
            return parse(&frame, rest, now).ok_or_else(short);
        }
        let aad = whole.get(..HEAD + key_length).unwrap_or_default();
        let seal = self.seal.as_ref().ok_or(fault(ValueFault::Sealed))?;
        let mut sealed = rest.to_vec();
        let opened = seal
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed)
            .map_err(|_| fault(ValueFault::Sealed))?;
        parse(&frame, opened, now).ok_or_else(short)
    }

    fn finish(&self, mut frame: Frame, key: &[u8], mut rest: Vec<u8>) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        // Without a key or randomness the value goes out unsealed only if it was not to be sealed: the caller asks for a
        // seal only where there is a key, and an unreadable value is a miss.
        let is_random = frame.flags & SEALED == 0 || getrandom::fill(&mut nonce).is_ok();
        let seal = self.seal.as_ref().filter(|_| frame.flags & SEALED != 0 && is_random);
        if seal.is_none() && frame.flags & SEALED != 0 {
            rest.clear();
            frame.kind = 0;
        }
        let sealed_length = rest.len() + if seal.is_some() { SUM } else { 0 };
        let mut value = Vec::with_capacity(HEAD + key.len() + sealed_length + SUM);
        frame.write(&mut value);
        value.extend_from_slice(&nonce);
        value.extend_from_slice(&to_u32(key.len()).to_be_bytes());
        value.extend_from_slice(&to_u32(sealed_length).to_be_bytes());
        value.extend_from_slice(key);
        if let Some(seal) = seal {
            let aad = Aad::from(value.clone());
            if seal.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut rest).is_err() {
                rest.clear();
            }
        }
        value.extend_from_slice(&rest);
        let sum = self.sum(&value);
        value.extend_from_slice(&sum);
        value
    }

    fn sum(&self, bytes: &[u8]) -> [u8; SUM] {
        let mut sum = [0; SUM];
        let copy = |sum: &mut [u8; SUM], whole: &[u8]| {
            sum.iter_mut().zip(whole).for_each(|(to, from)| *to = *from);
        };
        match &self.sum {
            Some(key) => copy(&mut sum, hmac::sign(key, bytes).as_ref()),
            None => copy(&mut sum, digest::digest(&digest::SHA256, bytes).as_ref()),
        }
        sum
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// Whether what begins so is a list of what answers vary by.
pub(super) fn is_list(head: &[u8]) -> bool {
    head.get(5) == Some(&NAMES)
}

/// What stands before the key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    kind: u8,
    flags: u16,
    known: MarkId,
    now: Now,
}

impl Frame {
    /// That of an answer whose fetch began when the marks up to `known` were known.
    pub(super) fn answer(known: MarkId, now: Now, is_sealed: bool) -> Self {
        Self { kind: ANSWER, flags: if is_sealed { SEALED } else { 0 }, known, now }
    }

    fn write(&self, value: &mut Vec<u8>) {
        value.extend_from_slice(MAGIC);
        value.extend_from_slice(&[VERSION, self.kind]);
        value.extend_from_slice(&self.flags.to_be_bytes());
        for number in [self.now.unix_ms, self.known.ms, self.known.seq] {
            value.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn read(head: &mut Reader<'_>) -> Option<Self> {
        let kind = head.byte()?;
        let flags = u16::from_be_bytes(head.take()?);
        let unix_ms = u64::from_be_bytes(head.take()?);
        let known = MarkId { ms: u64::from_be_bytes(head.take()?), seq: u64::from_be_bytes(head.take()?) };
        Some(Self { kind, flags, known, now: Now { ms: 0, unix_ms } })
    }
}

fn parse(frame: &Frame, rest: &[u8], now: Now) -> Option<Value> {
    let mut rest = Reader(rest);
    match frame.kind {
        ANSWER => answer(frame, &mut rest, now).map(Box::new).map(Value::Answer),
        NAMES => {
            let varying = rest.varying()?;
            rest.0.is_empty().then_some(Value::Names(varying))
        }
        _ => None,
    }
}

fn answer(frame: &Frame, rest: &mut Reader<'_>, now: Now) -> Option<Answer> {
    let status = StatusCode::from_u16(u16::from_be_bytes(rest.take()?)).ok().filter(is_storable)?;
    let [age_ms, left_ms, swr_ms, sie_ms, disconnect_ms, date, last_modified] =
        [rest.span()?, rest.span()?, rest.span()?, rest.span()?, rest.span()?, rest.span()?, rest.span()?];
    let fetch_ms = u32::from_be_bytes(rest.take()?);
    let varying = rest.varying()?;
    let route = std::str::from_utf8(rest.text()?).ok()?;
    let tags = (0..rest.count()?).map(|_| std::str::from_utf8(rest.text()?).ok().map(Tag::new));
    let tags = tags.collect::<Option<Vec<_>>>()?;
    let mut headers = HeaderMap::new();
    for _ in 0..rest.count()? {
        let name = HeaderName::from_bytes(rest.text()?).ok()?;
        // A map has a bound of its own.
        headers.try_append(name, HeaderValue::from_bytes(rest.text()?).ok()?).ok()?;
    }
    let has = |flag: u16| frame.flags & flag != 0;
    // What the clocks of two hosts disagree by counts as age, never as youth.
    let since_ms = i64::try_from(now.unix_ms.saturating_sub(frame.now.unix_ms)).unwrap_or(i64::MAX);
    let created_ms = i64::try_from(now.ms).unwrap_or(i64::MAX).saturating_sub(since_ms);
    let meta = Meta {
        source: if has(RULE) { Source::Rule } else { Source::Origin },
        born_ms: created_ms.saturating_sub(age_ms),
        expires_ms: created_ms.saturating_add(left_ms),
        swr_ms,
        sie_ms,
        disconnect_ms,
        no_cache: has(NO_CACHE),
        max_stale: has(MAX_STALE),
        validator: has(VALIDATOR),
        generated_etag: has(GENERATED_ETAG),
        date,
        last_modified: has(HAS_LAST_MODIFIED).then_some(last_modified),
    };
    Some(Answer {
        route: has(HAS_ROUTE).then(|| route.to_owned()),
        status,
        headers,
        body: Bytes::copy_from_slice(rest.0),
        meta,
        varying,
        tags,
        fetch_ms,
        known: frame.known,
    })
}

/// False for statuses that no stored answer has: they would be read as an answer that is still to come, or as a part of one.
fn is_storable(status: &StatusCode) -> bool {
    !status.is_informational()
        && *status != StatusCode::PARTIAL_CONTENT
        && *status != StatusCode::NOT_MODIFIED
}

/// Writes numbers and texts.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn number(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(u16::try_from(count).unwrap_or(u16::MAX));
    }

    fn selection(&mut self, selection: &Selection) {
        self.count(selection.names().count());
        selection.names().for_each(|name| self.text(name.as_str().as_bytes()));
        let languages = selection.languages();
        self.count(languages.map_or(0, |languages| languages.tags().len()));
        languages.iter().flat_map(|languages| languages.tags()).for_each(|tag| self.text(tag.as_bytes()));
    }

    fn text(&mut self, text: &[u8]) {
        self.0.extend_from_slice(&to_u32(text.len()).to_be_bytes());
        self.0.extend_from_slice(text);
    }
}

/// Reads numbers and texts; none where the bytes end too soon.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn span(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn count(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.take()?)).ok()
    }

    fn varying(&mut self) -> Option<Varying> {
        let names = (0..self.count()?).map(|_| HeaderName::from_bytes(self.text()?).ok());
        let names = names.collect::<Option<Vec<_>>>()?;
        let tags = (0..self.count()?).map(|_| std::str::from_utf8(self.text()?).ok().map(str::to_owned));
        let tags = tags.collect::<Option<Vec<_>>>()?;
        Some(Varying { names, languages: Languages::new(&tags) })
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}

/// A length in four bytes. What is stored is bounded far below 4 GiB, so the clamp is never met.
fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
