//! Heads, times and policies for the tests of this module.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{
    Merge, Meta, Policy, RequestHead, ResponseHead, Reuse, Rule, Storable, Stored, Times, format_date,
    may_reuse, may_store, merge,
};
use crate::{
    config::{Cache, Profile},
    telemetry::record::Reason,
};

/// The moment of receipt in every test: Unix seconds and monotonic milliseconds.
pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const NOW_MS: u64 = 10_000_000;

/// Received at [`NOW`] without delay.
pub(super) const AT_NOW: Times = Times { sent_ms: NOW_MS, received_ms: NOW_MS, received_unix: NOW };

/// Field lines as they stand on the wire.
pub(super) type Lines<'a> = &'a [(&'a str, &'a str)];

/// Makes a head. A value such as `@-60` becomes the date so many seconds from [`NOW`].
pub(super) fn headers(lines: Lines<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = match value.strip_prefix('@') {
            Some(offset) => format_date(NOW + offset.parse::<i64>().unwrap()),
            None => (*value).to_owned(),
        };
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

pub(super) fn get(headers: &HeaderMap) -> RequestHead<'_> {
    RequestHead::new(&Method::GET, b"example.org", b"/a?b=c", headers)
}

/// Production: the safe profile, no rule.
pub(super) fn default() -> Policy {
    Policy::from_config(&Cache::default(), None)
}

/// The plain standard.
pub(super) fn rfc() -> Policy {
    Policy::from_config(&Cache { profile: Profile::Rfc, ..Cache::default() }, None)
}

/// Production with a rule of a minute.
pub(super) fn ruled() -> Policy {
    ruled_by(Rule { ttl: Some(Duration::from_secs(60)), ..Rule::default() })
}

/// The same for a route whose copies are coded here.
pub(super) fn compressing() -> Policy {
    Policy { compress: true, ..ruled() }
}

pub(super) fn ruled_by(rule: Rule) -> Policy {
    Policy { rule: Some(rule), ..default() }
}

/// Whether a GET's answer may be stored when it arrives at [`NOW`].
pub(super) fn store(
    request: Lines<'_>,
    status: u16,
    response: Lines<'_>,
    policy: &Policy,
) -> Result<Storable, Reason> {
    let (request, response) = (headers(request), headers(response));
    let response = ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: &response };
    may_store(&get(&request), &response, AT_NOW, policy)
}

/// The same for a 200 to a request without fields.
pub(super) fn store_plain(response: Lines<'_>, policy: &Policy) -> Result<Storable, Reason> {
    store(&[], 200, response, policy)
}

/// What becomes of a GET with these fields, so many seconds after a 200 with those fields was received.
pub(super) fn reuse(response: Lines<'_>, after_s: u64, request: Lines<'_>, policy: &Policy) -> Reuse {
    let meta = store_plain(response, policy).unwrap().meta;
    may_reuse(&get(&headers(request)), &meta, NOW_MS + after_s * 1000, policy)
}

/// A stored copy that owns its head.
pub(super) struct Copy {
    pub(super) status: StatusCode,
    pub(super) head: HeaderMap,
    pub(super) meta: Meta,
}

impl Copy {
    pub(super) fn of(response: Lines<'_>, policy: &Policy) -> Self {
        let storable = store_plain(response, policy).unwrap();
        Self { status: StatusCode::OK, head: storable.head(&headers(response)), meta: storable.meta }
    }

    pub(super) fn stored(&self) -> Stored<'_> {
        Stored { status: self.status, headers: &self.head, meta: &self.meta }
    }

    /// Validated by this 304 ten seconds after it was stored.
    pub(super) fn merge(&self, request: Lines<'_>, not_modified: Lines<'_>, policy: &Policy) -> Merge {
        let later = Times { sent_ms: NOW_MS + 10_000, received_ms: NOW_MS + 10_000, received_unix: NOW + 10 };
        merge(&get(&headers(request)), &self.stored(), &headers(not_modified), later, policy)
    }
}
