//! The head of every answer: how long it took, what the cache did, and whose it is.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, uri::PathAndQuery};

use super::{
    Settings, encode,
    exchange::Exchange,
    journal::{Inner, Journal},
};
use crate::{
    cache::{
        Entry,
        rfc9111::{
            Condition, RequestHead, make_private, not_modified_head, partial_content_head, unsatisfiable_head,
        },
    },
    net::{Answer, Body, Encoded, Lines, Refusal, headers::strip_answer, problem},
    telemetry::{CacheStatus, Fwd, HitSource, Kind, Reason, Record},
};

/// What `ingress.expose_headers` lets pages of other origins read.
const EXPOSED: &[u8] = b"X-Response-Time, X-Cache-Status, Cache-Status, Server-Timing, X-Request-Id";

/// The answer of a stage.
pub(super) struct Ready {
    pub(super) response: Response<Body>,
    /// The fields of a stored head, as they are sent.
    pub(super) encoded: Option<Encoded>,
    pub(super) told: Told,
}

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
    /// False where neither a rule nor the backend lets the answer be kept.
    pub(super) is_cacheable: bool,
    /// Seconds since the answer was made, where it comes from the store.
    pub(super) age_s: Option<u64>,
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
            is_cacheable: true,
            age_s: None,
        }
    }

    /// An answer of our own, in the backend's place.
    pub(super) const fn refused() -> Self {
        Self { fwd: Some(Fwd::Bypass), reason: Some(Reason::Refused), ..Self::new(CacheStatus::Bypass) }
    }

    /// Writes the member of `Cache-Status` (RFC 9211).
    fn write_member(&self, text: &mut Text) {
        text.put(b"touchline");
        match (self.source, self.fwd) {
            (Some(HitSource::Collapsed), _) => text.put(b"; fwd=uri-miss; collapsed"),
            (Some(_), None) => {
                text.put(b"; hit");
                if let Some(ttl_s) = self.ttl_s {
                    text.put(b"; ttl=");
                    text.put(itoa::Buffer::new().format(ttl_s).as_bytes());
                }
            }
            (_, Some(fwd)) => {
                text.put(b"; fwd=");
                text.put(fwd.as_str().as_bytes());
            }
            (None, None) => {}
        }
        if let Some(status) = self.fwd_status {
            text.put(b"; fwd-status=");
            text.put(itoa::Buffer::new().format(status).as_bytes());
        }
        if self.is_stored {
            text.put(b"; stored");
        } else if let Some(reason) = self.reason.filter(|reason| !self.is_said_by_fwd(*reason)) {
            text.put(b"; detail=");
            text.put(reason.as_str().as_bytes());
        }
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
pub(super) fn answer(mut journal: Journal, exchange: &Asked<'_>, ready: Ready) -> Answer<Journal> {
    let Ready { response, encoded, told } = ready;
    if exchange.settings.debug {
        journal.inner().key = Some(key_text(exchange.host, exchange.target));
    }
    journal.answered(response.status().as_u16(), kind_of(&response), told);
    Answer { response, encoded, done: journal }
}

/// What of a request its answer still needs.
pub(super) struct Asked<'a> {
    pub(super) settings: &'a Settings,
    pub(super) host: &'a HeaderValue,
    pub(super) target: Option<&'a PathAndQuery>,
}

/// Takes off an answer of the backend what we say ourselves and what speaks of its connection.
pub(super) fn clean(exchange: &mut Exchange, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    if exchange.core.ingress.settings().server_timing {
        exchange.journal.inner().app_ms = headers.get("x-response-time").and_then(own_time);
    }
    strip_answer(headers);
}

/// An error of our own for a request that is under way.
pub(super) fn refusal(exchange: Exchange, refusal: Refusal) -> Answer<Journal> {
    refused(exchange.journal, refusal, exchange.told)
}

/// An error of our own, with what is known about its request.
pub(super) fn refused(mut journal: Journal, refusal: Refusal, told: Told) -> Answer<Journal> {
    let mut response = problem::response(refusal);
    if refusal.closes() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    journal.refused(refusal);
    journal.answered(response.status().as_u16(), Kind::Plain, told);
    Answer::new(response, journal)
}

/// The answer to a path that is answered here in the backend's place.
pub(super) fn own(mut journal: Journal, response: Response<Body>) -> Answer<Journal> {
    journal.answered(response.status().as_u16(), Kind::Plain, Told::refused());
    Answer::new(response, journal)
}

/// The fields that every answer carries, written when its head is.
pub(super) fn fields(
    lines: &mut dyn Lines,
    settings: &Settings,
    record: &Record,
    head_us: u64,
    inner: &Inner,
) {
    let told = &inner.told;
    let mut text = Text::default();
    if let Some(age_s) = told.age_s {
        lines.line("age", itoa::Buffer::new().format(age_s).as_bytes());
    }
    write_response_time(&mut text, head_us);
    lines.line("x-response-time", text.take());
    lines.line("x-cache-status", told.status.as_str().as_bytes());
    told.write_member(&mut text);
    if let Some(key) = &inner.key {
        text.put(b"; key=\"");
        text.put(key.as_bytes());
        text.put(b"\"");
    }
    lines.line("cache-status", text.take());
    match &inner.request_id {
        Some(id) => lines.line("x-request-id", id.as_bytes()),
        None => lines.line("x-request-id", record.trace.digits().as_bytes()),
    }
    if settings.server_timing {
        lines.line("server-timing", server_timing(record, head_us, inner.app_ms).as_bytes());
    }
    if settings.expose_headers {
        lines.line("access-control-expose-headers", EXPOSED);
        lines.line("timing-allow-origin", b"*");
    }
}

/// The answer from an entry, as far as the client's conditions and range ask for it.
pub(super) fn stored(
    exchange: &Exchange,
    head: &RequestHead<'_>,
    entry: &Arc<Entry>,
    now_ms: u64,
    told: Told,
) -> Ready {
    if told.source.is_some() {
        exchange.ingress().cache.used(entry);
    }
    let meta = entry.meta();
    let told = Told { ttl_s: Some(meta.ttl_s(now_ms)), age_s: Some(meta.age_s(now_ms)), ..told };
    let shown = encode::choose(exchange, head, entry);
    let (headers, body) = (shown.representation.headers(), shown.representation.body());
    if !head.has_condition() && *head.method != Method::HEAD {
        let mut response = Response::new(Body::full(body.clone()));
        *response.status_mut() = entry.status();
        let lines = shown
            .representation
            .sendable(|headers| Encoded::of(&personal(exchange, entry, headers)).as_bytes().clone());
        let encoded = Encoded::from_lines(lines, headers.contains_key(header::DATE));
        return Ready { response, encoded: Some(encoded), told };
    }
    let length = body.len();
    let wanted = shown.condition(head, entry, exchange.ingress().clock.wall_s());
    let headers = personal(exchange, entry, headers);
    let mut response = Response::new(Body::Empty);
    match wanted {
        Condition::Full => {
            *response.status_mut() = entry.status();
            *response.headers_mut() = headers.into_owned();
            // To a HEAD the length is told and the body is not sent.
            *response.body_mut() = Body::full(body.clone());
        }
        Condition::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.headers_mut() = not_modified_head(&headers);
            if let Some(tag) = shown.known {
                response.headers_mut().insert(header::ETAG, tag);
            }
        }
        Condition::Range { start, end } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            *response.headers_mut() = partial_content_head(&headers, start, end, length as u64);
            let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(length);
            *response.body_mut() = Body::full(body.slice(bound(start)..bound(end.saturating_add(1))));
        }
        Condition::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            *response.headers_mut() = unsatisfiable_head(&headers, length as u64);
        }
    }
    Ready { response, encoded: None, told }
}

/// The fields of an entry as its receiver gets them: of one user's own answer no other cache may keep a copy.
fn personal<'a>(exchange: &Exchange, entry: &Entry, headers: &'a HeaderMap) -> Cow<'a, HeaderMap> {
    if !entry.is_identity() {
        return Cow::Borrowed(headers);
    }
    let mut headers = headers.clone();
    make_private(&mut headers, &exchange.route.policy.targeted);
    Cow::Owned(headers)
}

/// A short text on the stack.
struct Text {
    bytes: [u8; 192],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; 192], length: 0 }
    }
}

impl Text {
    /// Adds bytes; what has no room is left out.
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
    }

    /// The text so far; the next one begins anew.
    fn take(&mut self) -> &[u8] {
        let length = std::mem::take(&mut self.length);
        self.bytes.get(..length).unwrap_or_default()
    }
}

/// Milliseconds with two decimals and the unit glued on: `11.19ms`.
fn write_response_time(text: &mut Text, us: u64) {
    let hundredths = us.saturating_add(5) / 10;
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or(0);
    text.put(itoa::Buffer::new().format(hundredths / 100).as_bytes());
    text.put(&[b'.', digit(hundredths / 10), digit(hundredths), b'm', b's']);
}

/// The time that the backend measured itself, in milliseconds.
fn own_time(value: &HeaderValue) -> Option<f64> {
    value.to_str().ok()?.strip_suffix("ms")?.parse().ok()
}

/// Host and target as the text of a quoted string (RFC 9651 section 3.3.3), for `key` of `Cache-Status`.
fn key_text(host: &HeaderValue, target: Option<&PathAndQuery>) -> String {
    let host = String::from_utf8_lossy(host.as_bytes()).to_ascii_lowercase();
    let target = target.map_or("/", PathAndQuery::as_str);
    format!("{host}{target}").replace('\\', "\\\\").replace('"', "\\\"")
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
fn server_timing(record: &Record, head_us: u64, app_ms: Option<f64>) -> String {
    use std::fmt::Write as _;
    let parts = &record.parts;
    let ms = |us: u64| std::time::Duration::from_micros(us).as_secs_f64() * 1000.0;
    let mut text = format!("total;dur={:.2}", ms(head_us));
    let named = [
        ("queue", parts.queue_us),
        ("cache", parts.cache_us),
        ("redis", parts.redis_us),
        ("collapsed", parts.collapsed_us),
        ("connect", parts.connect_us),
        ("backend", parts.backend_us),
    ];
    for (name, us) in named.into_iter().filter(|(_, us)| *us > 0) {
        let _ = write!(text, ", {name};dur={:.2}", ms(u64::from(us)));
    }
    if let Some(app) = app_ms {
        let _ = write!(text, ", app;dur={app:.2}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Text, Told, write_response_time};
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
            let mut written = Text::default();
            write_response_time(&mut written, us);
            assert_eq!(written.take(), text.as_bytes(), "{us}");
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
            let mut text = Text::default();
            told.write_member(&mut text);
            assert_eq!(String::from_utf8_lossy(text.take()), expected);
        }
    }
}
