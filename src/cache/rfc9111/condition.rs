//! A client's conditions and range, evaluated on a stored answer (RFC 9110 sections 13 and 14, RFC 9111
//! section 4.3.2).

use http::{HeaderMap, Method, StatusCode, header};

use super::{
    dates::parse_date,
    etag::{list_has, stored_etag, strong_match},
    freshness::single_date,
    head::{RequestHead, Stored, ask},
};

/// What of a stored answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of it.
    Full,
    /// A 304: the client has it.
    NotModified,
    /// A 206 with the bytes from `start` to `end`, both included.
    Range {
        /// The first byte.
        start: u64,
        /// The last byte.
        end: u64,
    },
    /// A 416: no byte of the range is there.
    Unsatisfiable,
}

/// Evaluates on a copy that is fresh or has just been validated. Only a 200 has conditions; its body is
/// `length` bytes long.
#[must_use]
pub fn condition(request: &RequestHead<'_>, stored: &Stored<'_>, length: u64, now_unix: i64) -> Condition {
    if !request.asks(ask::IF_NONE_MATCH | ask::IF_MODIFIED_SINCE | ask::RANGE)
        || stored.status != StatusCode::OK
    {
        return Condition::Full;
    }
    if request.asks(ask::IF_NONE_MATCH) {
        if is_listed(request.headers, stored) {
            return Condition::NotModified;
        }
    } else if request.asks(ask::IF_MODIFIED_SINCE) && is_unmodified(request.headers, stored, now_unix) {
        return Condition::NotModified;
    }
    if request.asks(ask::RANGE)
        && *request.method == Method::GET
        && is_range_meant(request.headers, stored, now_unix)
    {
        return range(request.headers, length);
    }
    Condition::Full
}

/// `If-None-Match`: `*`, or a list with a tag that weakly matches.
fn is_listed(request: &HeaderMap, stored: &Stored<'_>) -> bool {
    let etag = stored_etag(stored.headers);
    request.get_all(header::IF_NONE_MATCH).iter().any(|line| {
        let line = line.as_bytes();
        line.trim_ascii() == b"*" || etag.is_some_and(|etag| list_has(line, etag))
    })
}

/// `If-Modified-Since`, against `Last-Modified` or else `Date`. One that cannot be read counts as absent.
fn is_unmodified(request: &HeaderMap, stored: &Stored<'_>, now_unix: i64) -> bool {
    let changed = stored.meta.last_modified.unwrap_or(stored.meta.date);
    single_date(request, &header::IF_MODIFIED_SINCE, now_unix).is_some_and(|since| changed <= since)
}

/// `If-Range`: a strong entity tag, or exactly the `Last-Modified` date where that is older than `Date` and
/// so as good as a strong validator (RFC 9110 section 8.8.2.2).
fn is_range_meant(request: &HeaderMap, stored: &Stored<'_>, now_unix: i64) -> bool {
    let mut lines = request.get_all(header::IF_RANGE).iter();
    let Some(line) = lines.next() else { return true };
    if lines.next().is_some() {
        return false;
    }
    let line = line.as_bytes();
    if stored_etag(stored.headers).is_some_and(|etag| strong_match(etag, line)) {
        return true;
    }
    let date = parse_date(line, now_unix);
    date.is_some() && date == stored.meta.last_modified && date < Some(stored.meta.date)
}

/// One range of bytes. What is no such thing is ignored, and so are several ranges: the whole answer is
/// always right (RFC 9110 section 14.2).
fn range(request: &HeaderMap, length: u64) -> Condition {
    let mut lines = request.get_all(header::RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Condition::Full };
    let Some(spec) = byte_range_spec(line.as_bytes()) else { return Condition::Full };
    let Some(dash) = spec.iter().position(|byte| *byte == b'-') else { return Condition::Full };
    let (Some(first), Some(last)) = (spec.get(..dash), spec.get(dash + 1..)) else { return Condition::Full };
    let (start, end) = match (number(first), number(last)) {
        (Some(start), Some(end)) if start <= end => (start, end),
        (Some(start), None) if last.is_empty() => (start, u64::MAX),
        (None, Some(count)) if first.is_empty() => {
            (if count == 0 { u64::MAX } else { length.saturating_sub(count) }, u64::MAX)
        }
        _ => return Condition::Full,
    };
    if length == 0 && start == 0 && first.is_empty() {
        // The last bytes of an empty body are all of it, which a 206 cannot say (RFC 9110 section 14.1.2).
        return Condition::Full;
    }
    if start >= length {
        return Condition::Unsatisfiable;
    }
    Condition::Range { start, end: end.min(length - 1) }
}

/// What follows `bytes=`, if it is a single member.
fn byte_range_spec(line: &[u8]) -> Option<&[u8]> {
    let (unit, spec) = line.split_at_checked(6)?;
    let spec = spec.trim_ascii();
    (unit.eq_ignore_ascii_case(b"bytes=") && !spec.contains(&b',')).then_some(spec)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        byte.is_ascii_digit().then(|| value.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

#[cfg(test)]
mod tests;
