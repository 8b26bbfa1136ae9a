//! The head of every answer: how long it took, what the cache did, and whose it is.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::{
    exchange::{Exchange, host_of},
    journal::Journal,
};
use crate::{
    cache::{
        Entry,
        rfc9111::{Condition, condition, not_modified_head, partial_content_head},
    },
    net::{Answer, Body, Refusal, problem},
    telemetry::{CacheStatus, Fwd, HitSource, Kind, Reason},
};

const X_RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");
const X_CACHE_STATUS: HeaderName = HeaderName::from_static("x-cache-status");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// What `ingress.expose_headers` lets pages of other origins read.
const EXPOSED: &str = "X-Response-Time, X-Cache-Status, Cache-Status, Server-Timing, X-Request-Id";

/// What is told about an answer: by its head and by its record.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub(super) status: CacheStatus,
    pub(super) source: Option<HitSource>,
    pub(super) fwd: Option<Fwd>,
    pub(super) reason: Option<Reason>,
    /// Seconds of freshness left.
    pub(super) ttl_s: Option<i64>,
    /// The status with which the backend answered.
    pub(super) fwd_status: Option<u16>,
    pub(super) is_stored: bool,
}

impl Told {
    pub(super) const fn new(status: CacheStatus) -> Self {
        Self {
            status,
            source: None,
            fwd: None,
            reason: None,
            ttl_s: None,
            fwd_status: None,
            is_stored: false,
        }
    }

    /// The member of `Cache-Status` (RFC 9211).
    fn member(&self) -> HeaderValue {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(64);
        text.push_str("touchline");
        // Writing to a string cannot fail.
        let _ = match (self.source, self.fwd) {
            (Some(HitSource::Collapsed), _) => text.write_str("; fwd=uri-miss; collapsed"),
            (Some(_), None) => text.write_str("; hit"),
            (_, Some(fwd)) => write!(text, "; fwd={}", fwd.as_str()),
            (None, None) => Ok(()),
        };
        let is_plain_hit =
            self.source.is_some() && self.source != Some(HitSource::Collapsed) && self.fwd.is_none();
        if let Some(ttl_s) = self.ttl_s.filter(|_| is_plain_hit) {
            let _ = write!(text, "; ttl={ttl_s}");
        }
        if let Some(status) = self.fwd_status {
            let _ = write!(text, "; fwd-status={status}");
        }
        if self.is_stored {
            text.push_str("; stored");
        } else if let Some(reason) = self.reason.filter(|reason| !self.is_said_by_fwd(*reason)) {
            let _ = write!(text, "; detail={}", reason.as_str());
        }
        HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("touchline"))
    }

    /// True for reasons that say no more than the `fwd` word does.
    fn is_said_by_fwd(&self, reason: Reason) -> bool {
        matches!(
            (self.fwd, reason),
            (Some(Fwd::UriMiss), Reason::Absent)
                | (Some(Fwd::VaryMiss), Reason::Vary)
                | (Some(Fwd::Stale), Reason::Expired)
                | (Some(Fwd::Method), Reason::Method)
        )
    }
}

/// Finishes the answer of a stage.
pub(super) fn answer(mut exchange: Exchange, mut response: Response<Body>, told: Told) -> Answer<Journal> {
    let kind = kind_of(&response);
    note(&mut exchange.journal, &told);
    let path =
        exchange.parts.uri.path_and_query().map(|target| Bytes::copy_from_slice(target.as_str().as_bytes()));
    exchange.journal.note(|record| record.path = path);
    let head_us = exchange.journal.head(response.status().as_u16(), kind);
    let settings = &exchange.core.ingress.settings;
    let headers = response.headers_mut();
    if settings.server_timing {
        server_timing(headers, &exchange.journal, head_us);
    }
    if settings.expose_headers {
        headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.insert(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    headers.insert(X_REQUEST_ID, exchange.request_id);
    tell(headers, &told, head_us);
    if exchange.core.ingress.settings.debug {
        name_key(headers, &exchange.parts);
    }
    Answer { response, done: exchange.journal }
}

/// Adds the `key` parameter of RFC 9211 section 2.7 to our member of `Cache-Status`.
fn name_key(headers: &mut HeaderMap, request: &http::request::Parts) {
    let Some(member) = headers.get_all(CACHE_STATUS).iter().next_back().and_then(|value| value.to_str().ok())
    else {
        return;
    };
    let host = String::from_utf8_lossy(host_of(request)).to_ascii_lowercase();
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
    // A quoted string of structured fields: backslash and quote are escaped, and neither host nor target holds others.
    let key = format!("{host}{target}").replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = HeaderValue::try_from(format!("{member}; key=\"{key}\"")) {
        let mut all: Vec<HeaderValue> = headers.get_all(CACHE_STATUS).iter().cloned().collect();
        all.pop();
        headers.remove(CACHE_STATUS);
        for earlier in all.into_iter().chain([value]) {
            headers.append(CACHE_STATUS, earlier);
        }
    }
}

/// An error of our own for a request that is under way.
pub(super) fn refusal(exchange: Exchange, refusal: Refusal) -> Answer<Journal> {
    let told = exchange.told;
    let mut journal = exchange.journal;
    note(&mut journal, &told);
    let mut answer = refused(journal, refusal, Some(told));
    answer.response.headers_mut().insert(X_REQUEST_ID, exchange.request_id);
    answer
}

/// An error of our own, with what is known about its request.
pub(super) fn refused(mut journal: Journal, refusal: Refusal, told: Option<Told>) -> Answer<Journal> {
    let mut response = problem::response(refusal);
    journal.refused(refusal);
    let head_us = journal.head(response.status().as_u16(), Kind::Plain);
    let told = told.unwrap_or(Told {
        reason: Some(Reason::Refused),
        fwd: Some(Fwd::Bypass),
        ..Told::new(CacheStatus::Bypass)
    });
    tell(response.headers_mut(), &told, head_us);
    Answer { response, done: journal }
}

/// The answer to a path that is answered here in the backend's place.
pub(super) fn own(mut journal: Journal, mut response: Response<Body>) -> Answer<Journal> {
    let head_us = journal.head(response.status().as_u16(), Kind::Plain);
    tell(
        response.headers_mut(),
        &Told { reason: Some(Reason::Refused), ..Told::new(CacheStatus::Bypass) },
        head_us,
    );
    Answer { response, done: journal }
}

/// The answer from an entry, as far as the client's conditions and range ask for it.
pub(super) fn stored(exchange: &Exchange, entry: &Arc<Entry>, now_ms: u64) -> Response<Body> {
    let length = entry.body().len();
    let wanted =
        condition(&exchange.head(), &entry.stored(), length as u64, exchange.ingress().clock.wall_s());
    let mut response = Response::new(Body::Empty);
    match wanted {
        Condition::Full => {
            *response.status_mut() = entry.status();
            *response.headers_mut() = entry.headers().clone();
            if exchange.parts.method == Method::HEAD {
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            } else {
                *response.body_mut() = Body::full(entry.body().clone());
            }
        }
        Condition::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.headers_mut() = not_modified_head(entry.headers());
        }
        Condition::Range { start, end } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            *response.headers_mut() = partial_content_head(entry.headers(), start, end, length as u64);
            let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(length);
            *response.body_mut() = Body::full(entry.body().slice(bound(start)..bound(end.saturating_add(1))));
        }
        Condition::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            if let Ok(range) = HeaderValue::try_from(format!("bytes */{length}")) {
                response.headers_mut().insert(header::CONTENT_RANGE, range);
            }
        }
    }
    response.headers_mut().insert(header::AGE, HeaderValue::from(entry.meta().age_s(now_ms)));
    response
}

fn note(journal: &mut Journal, told: &Told) {
    journal.note(|record| {
        record.cache = told.status;
        record.source = told.source;
        record.fwd = told.fwd;
        record.reason = told.reason;
    });
}

fn tell(headers: &mut HeaderMap, told: &Told, head_us: u64) {
    headers.insert(X_RESPONSE_TIME, response_time(head_us));
    headers.insert(X_CACHE_STATUS, HeaderValue::from_static(told.status.as_str()));
    headers.append(CACHE_STATUS, told.member());
}

/// Milliseconds with two decimals and the unit glued on: `11.19ms`.
fn response_time(us: u64) -> HeaderValue {
    let hundredths = us.saturating_add(5) / 10;
    let mut text = Vec::with_capacity(16);
    text.extend_from_slice(itoa::Buffer::new().format(hundredths / 100).as_bytes());
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or(0);
    text.extend_from_slice(&[b'.', digit(hundredths / 10), digit(hundredths), b'm', b's']);
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("0.00ms"))
}

/// Streams are measured by their first byte, as their length says nothing about speed.
fn kind_of(response: &Response<Body>) -> Kind {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Kind::Upgrade;
    }
    if response.body().exact_len().is_some() {
        return Kind::Plain;
    }
    let media = response.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_stream = [
        &b"text/event-stream"[..],
        b"application/x-ndjson",
        b"application/grpc",
        b"multipart/x-mixed-replace",
    ]
    .iter()
    .any(|stream| media.get(..stream.len()).is_some_and(|start| start.eq_ignore_ascii_case(stream)));
    if is_stream { Kind::Stream } else { Kind::Plain }
}

/// The parts of the time, for a person with a browser's network panel.
fn server_timing(headers: &mut HeaderMap, journal: &Journal, head_us: u64) {
    use std::fmt::Write as _;
    let app = headers
        .get(X_RESPONSE_TIME)
        .and_then(|value| value.to_str().ok()?.strip_suffix("ms")?.parse::<f64>().ok());
    let Some(record) = journal.record() else { return };
    let parts = &record.parts;
    let mut text = format!("total;dur={:.2}", micros_to_ms(head_us));
    let named = [
        ("queue", parts.queue_us),
        ("cache", parts.cache_us),
        ("redis", parts.redis_us),
        ("collapsed", parts.collapsed_us),
        ("connect", parts.connect_us),
        ("backend", parts.backend_us),
    ];
    for (name, us) in named.into_iter().filter(|(_, us)| *us > 0) {
        let _ = write!(text, ", {name};dur={:.2}", micros_to_ms(u64::from(us)));
    }
    if let Some(app) = app {
        let _ = write!(text, ", app;dur={app:.2}");
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(SERVER_TIMING, value);
    }
}

fn micros_to_ms(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::{Told, response_time};
    use crate::telemetry::{CacheStatus, Fwd, HitSource, Reason};

    #[test]
    fn the_response_time_has_two_decimals_and_a_glued_unit() {
        let table = [
            (0, "0.00ms"),
            (4, "0.00ms"),
            (5, "0.01ms"),
            (210, "0.21ms"),
            (11_190, "11.19ms"),
            (2_000_004, "2000.00ms"),
        ];
        for (us, text) in table {
            assert_eq!(response_time(us), text, "{us}");
        }
    }

    #[test]
    fn cache_status_says_what_happened_in_the_words_of_rfc_9211() {
        let hit = Told { ttl_s: Some(1312), ..Told::hit(HitSource::Memory) };
        let swr = Told { ttl_s: Some(-12), ..Told::stale(Reason::Swr) };
        let stored =
            Told { fwd_status: Some(200), is_stored: true, ..Told::miss(Fwd::UriMiss, Reason::Absent) };
        let refused = Told { fwd_status: Some(200), ..Told::miss(Fwd::UriMiss, Reason::NoStore) };
        let validated =
            Told { fwd: Some(Fwd::Stale), fwd_status: Some(304), ..Told::new(CacheStatus::Revalidated) };
        let failed = Told { fwd: Some(Fwd::Stale), fwd_status: Some(503), ..Told::stale(Reason::Sie) };
        let bypass = Told {
            fwd: Some(Fwd::Bypass),
            reason: Some(Reason::Authorization),
            ..Told::new(CacheStatus::Bypass)
        };
        let method =
            Told { fwd: Some(Fwd::Method), reason: Some(Reason::Method), ..Told::new(CacheStatus::Bypass) };
        let table = [
            (hit, "touchline; hit; ttl=1312"),
            (swr, "touchline; hit; ttl=-12; detail=swr"),
            (Told::hit(HitSource::Collapsed), "touchline; fwd=uri-miss; collapsed"),
            (stored, "touchline; fwd=uri-miss; fwd-status=200; stored"),
            (refused, "touchline; fwd=uri-miss; fwd-status=200; detail=no_store"),
            (validated, "touchline; fwd=stale; fwd-status=304"),
            (failed, "touchline; fwd=stale; fwd-status=503; detail=sie"),
            (bypass, "touchline; fwd=bypass; detail=authorization"),
            (method, "touchline; fwd=method"),
        ];
        for (told, expected) in table {
            assert_eq!(told.member(), expected);
        }
    }
}
