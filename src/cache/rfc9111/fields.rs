//! Which fields of an answer are kept, and which a 304 or 206 from the store carries.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::dates::format_date;

/// The fields that a 304 must carry if the 200 would have (RFC 9110 section 15.4.5); `Age` is added by
/// whoever sends it.
const NOT_MODIFIED: [HeaderName; 6] = [
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::VARY,
];

/// The fields of a 304 made from a stored head. Those that let a page of another origin read it are among them: a
/// script that asks under a condition of its own sees the 304 itself.
#[must_use]
pub fn not_modified_head(stored: &HeaderMap) -> HeaderMap {
    let mut head = HeaderMap::with_capacity(NOT_MODIFIED.len() + 2);
    for name in NOT_MODIFIED {
        for value in stored.get_all(&name) {
            head.append(&name, value.clone());
        }
    }
    append_permissions(&mut head, stored);
    head
}

/// The fields of a 416 for a range that a stored body of `length` bytes does not have (RFC 9110 section 15.5.17).
#[must_use]
pub fn unsatisfiable_head(stored: &HeaderMap, length: u64) -> HeaderMap {
    let mut head = HeaderMap::with_capacity(4);
    for value in stored.get_all(header::VARY) {
        head.append(header::VARY, value.clone());
    }
    append_permissions(&mut head, stored);
    if let Ok(range) = HeaderValue::try_from(format!("bytes */{length}")) {
        head.insert(header::CONTENT_RANGE, range);
    }
    head
}

/// The fields of a 206 with the bytes `start..=end` of a stored body of `length` bytes: the stored ones, with
/// the range in place of the whole (RFC 9110 section 15.3.7).
#[must_use]
pub fn partial_content_head(stored: &HeaderMap, start: u64, end: u64, length: u64) -> HeaderMap {
    let mut head = stored.clone();
    head.remove(header::CONTENT_RANGE);
    if let Ok(range) = HeaderValue::try_from(format!("bytes {start}-{end}/{length}")) {
        head.insert(header::CONTENT_RANGE, range);
    }
    head.insert(header::CONTENT_LENGTH, HeaderValue::from((end + 1).saturating_sub(start)));
    head
}

/// Adds what says which pages may read an answer (the Fetch standard, sections 3.3 and 3.7).
fn append_permissions(head: &mut HeaderMap, stored: &HeaderMap) {
    for (name, value) in stored {
        if name.as_str().starts_with("access-control-") || name.as_str() == "cross-origin-resource-policy" {
            head.append(name, value.clone());
        }
    }
}

/// The stored copy of a received head.
pub(super) fn stored_fields(received: &HeaderMap, withheld: &[HeaderName], date: Option<i64>) -> HeaderMap {
    let listed = connection_options(received);
    let mut head = HeaderMap::with_capacity(received.keys_len() + 1);
    for (name, value) in received {
        if is_kept(name) && !listed.contains(name) && !withheld.contains(name) {
            head.append(name, value.clone());
        }
    }
    if let Some(date) = date.and_then(|date| HeaderValue::try_from(format_date(date)).ok()) {
        head.insert(header::DATE, date);
    }
    head
}

/// The stored head after a 304: every field that the 304 carries replaces all its stored lines, except those
/// that describe the stored body or the connection (RFC 9111 section 3.2).
pub(super) fn updated_fields(stored: &HeaderMap, fresh: &HeaderMap, with_cookies: bool) -> HeaderMap {
    let listed = connection_options(fresh);
    let mut head = stored.clone();
    for name in fresh.keys() {
        let is_of_body = *name == header::CONTENT_LENGTH
            || *name == header::CONTENT_ENCODING
            || *name == header::CONTENT_RANGE;
        let is_cookie = *name == header::SET_COOKIE && !with_cookies;
        if is_of_body || is_cookie || !is_kept(name) || listed.contains(name) {
            continue;
        }
        head.remove(name);
        for value in fresh.get_all(name) {
            head.append(name, value.clone());
        }
    }
    head
}

/// Everything but the fields of one hop (RFC 9110 section 7.6.1), `Age`, those that are written anew on every
/// answer, and those that name tags for caches.
fn is_kept(name: &HeaderName) -> bool {
    let name = name.as_str();
    !name.starts_with("proxy-")
        && !matches!(
            name,
            "connection"
                | "keep-alive"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "age"
                | "x-cache-status"
                | "x-response-time"
                | "x-request-id"
                | "surrogate-key"
                | "cache-tag"
                | "xkey"
        )
}

/// The fields that `Connection` names.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION);
    lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .collect()
}

#[cfg(test)]
mod tests;
