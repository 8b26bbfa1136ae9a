//! The heads that decisions are taken on: a request looked at once, an answer, a stored copy, and the times
//! of a fetch.

use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::meta::Meta;

/// A request, with the few facts that decisions need taken from its fields in one pass.
///
/// A plain GET carries none of the fields that matter here, so everything after this pass is a test of bits.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method as received.
    pub method: &'a Method,
    /// The authority the request is for, as received: `Host` or `:authority`.
    pub authority: &'a [u8],
    /// Path and query exactly as they are matched, keyed and forwarded.
    pub target: &'a [u8],
    /// The fields.
    pub headers: &'a HeaderMap,
    asks: u16,
    /// The field with which a verified identity came.
    own: Option<&'a HeaderName>,
}

/// An answer's head as the backend sent it.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// The fields, hop-by-hop ones included.
    pub headers: &'a HeaderMap,
}

/// A stored copy as far as decisions need it.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The stored status.
    pub status: StatusCode,
    /// The stored fields, as [`super::Storable::head`] made them.
    pub headers: &'a HeaderMap,
    /// The numbers computed when it was stored.
    pub meta: &'a Meta,
}

/// When a fetch went out and its head came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Monotonic milliseconds when the request was sent.
    pub sent_ms: u64,
    /// Monotonic milliseconds when the answer's head was received.
    pub received_ms: u64,
    /// Unix seconds when the answer's head was received.
    pub received_unix: i64,
}

/// One bit for each kind of field that a decision may turn on.
pub(super) mod ask {
    pub(in super::super) const CACHE_CONTROL: u16 = 1;
    pub(in super::super) const PRAGMA: u16 = 1 << 1;
    pub(in super::super) const RANGE: u16 = 1 << 2;
    pub(in super::super) const IF_NONE_MATCH: u16 = 1 << 3;
    pub(in super::super) const IF_MODIFIED_SINCE: u16 = 1 << 4;
    pub(in super::super) const PRECONDITION: u16 = 1 << 5;
    pub(in super::super) const AUTHORIZATION: u16 = 1 << 6;
    pub(in super::super) const CREDENTIAL: u16 = 1 << 7;
    pub(in super::super) const COOKIE: u16 = 1 << 8;
    pub(in super::super) const UPGRADE: u16 = 1 << 9;
    pub(in super::super) const BODY: u16 = 1 << 10;
    pub(in super::super) const IDENTIFIED: u16 = 1 << 11;
    pub(in super::super) const KEYED_BODY: u16 = 1 << 12;
}

impl<'a> RequestHead<'a> {
    /// Looks at every field once. `authority` and `target` are the bytes that the key is made of.
    #[must_use]
    pub fn new(method: &'a Method, authority: &'a [u8], target: &'a [u8], headers: &'a HeaderMap) -> Self {
        let asks =
            headers.iter().fold(0, |asks, (name, value)| asks | asks_of(name.as_str(), value.as_bytes()));
        Self { method, authority, target, headers, asks, own: None }
    }

    /// Says that a body follows although no field announces it, as HTTP/2 permits.
    #[must_use]
    pub const fn with_body(mut self) -> Self {
        self.asks |= ask::BODY;
        self
    }

    /// Says that the method only reads, as the operator has it, and that the body is part of the key.
    #[must_use]
    pub const fn with_keyed_body(mut self) -> Self {
        self.asks = (self.asks & !ask::BODY) | ask::KEYED_BODY;
        self
    }

    /// Says that another protocol is asked for, where the fields that say so are off already.
    #[must_use]
    pub const fn with_upgrade(mut self) -> Self {
        self.asks |= ask::UPGRADE;
        self
    }

    /// Says that it is known whose the request is, by what its field `own` holds. That credential no longer stands in
    /// the way, as the key tells its users apart; every other one does. Cookies do not, as those that are not in the key
    /// are kept from the backend.
    #[must_use]
    pub fn identified(mut self, own: &'a HeaderName) -> Self {
        const CREDENTIALS: u16 = ask::AUTHORIZATION | ask::CREDENTIAL;
        let others = self.headers.iter().filter(|(name, _)| *name != own);
        let asks = others.fold(0, |asks, (name, value)| asks | asks_of(name.as_str(), value.as_bytes()));
        self.asks = (self.asks & !(CREDENTIALS | ask::COOKIE)) | (asks & CREDENTIALS) | ask::IDENTIFIED;
        self.own = Some(own);
        self
    }

    /// Whether a field of this name is the one with which a verified identity came.
    pub(super) fn owns(&self, name: &str) -> bool {
        self.own.is_some_and(|own| own.as_str() == name)
    }

    /// The same request as it goes upstream after [`super::make_conditional`] or
    /// [`super::make_unconditional`]: a whole answer is asked for, and the conditions are ours.
    #[must_use]
    pub const fn for_whole(mut self) -> Self {
        self.asks &= !(ask::RANGE | ask::IF_NONE_MATCH | ask::IF_MODIFIED_SINCE);
        self
    }

    /// The path alone, without the query.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.target.split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// True when the client asks under a condition or for a range, so that less than the whole answer may do.
    #[must_use]
    pub const fn has_condition(&self) -> bool {
        self.asks(ask::IF_NONE_MATCH | ask::IF_MODIFIED_SINCE | ask::RANGE)
    }

    pub(super) const fn asks(&self, bits: u16) -> bool {
        self.asks & bits != 0
    }
}

/// What one field asks. Most fields are none of these, and most of those are told by their length alone.
fn asks_of(name: &str, value: &[u8]) -> u16 {
    match name.len() {
        5 if name == "range" => ask::RANGE,
        6 if name == "cookie" => ask::COOKIE,
        6 if name == "pragma" => ask::PRAGMA,
        7 if name == "api-key" => ask::CREDENTIAL,
        // `Upgrade: h2c` is an offer that is never taken up, so it does not stand in the way.
        7 if name == "upgrade" && !value.eq_ignore_ascii_case(b"h2c") => ask::UPGRADE,
        8 if name == "if-match" => ask::PRECONDITION,
        9 if name == "x-api-key" => ask::CREDENTIAL,
        12 if name == "x-auth-token" => ask::CREDENTIAL,
        13 if name == "cache-control" => ask::CACHE_CONTROL,
        13 if name == "if-none-match" => ask::IF_NONE_MATCH,
        13 if name == "authorization" => ask::AUTHORIZATION,
        14 if name == "content-length" && value != b"0" => ask::BODY,
        14 if name == "x-access-token" => ask::CREDENTIAL,
        17 if name == "if-modified-since" => ask::IF_MODIFIED_SINCE,
        17 if name == "transfer-encoding" => ask::BODY,
        19 if name == "if-unmodified-since" => ask::PRECONDITION,
        19 if name == "proxy-authorization" => ask::CREDENTIAL,
        _ => 0,
    }
}
