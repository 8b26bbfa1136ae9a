//! How long an answer lives, on whose word, and how old it already is (RFC 9111 section 4.2).

use http::{HeaderMap, header};

use super::{
    dates::parse_date,
    dictionary::targeted_directives,
    directives::{ResponseDirectives, delta_seconds},
    etag::stored_etag,
    head::{ResponseHead, Times},
    meta::{seconds_ms, whole_ms},
    policy::Policy,
};

/// A tenth of the time since the last change, as RFC 9111 section 4.2.2 suggests, but at most a day.
const HEURISTIC_SHARE: i64 = 10;
const HEURISTIC_MAX_MS: i64 = 24 * 3600 * 1000;

/// What the answer itself says about time and storage, read once.
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) directives: ResponseDirectives,
    /// The lifetime that the answer states, if it states one.
    pub(super) lifetime_ms: Option<i64>,
    /// Unix seconds of `Date`, or of the receipt where `Date` is missing or cannot be read.
    pub(super) date: i64,
    /// Whether `Date` had to be made up.
    pub(super) is_date_ours: bool,
    pub(super) last_modified: Option<i64>,
    /// Whether a validating request could be made.
    pub(super) has_validator: bool,
    /// The answer's age at its receipt (RFC 9111 section 4.2.3).
    pub(super) age_ms: i64,
}

impl Said {
    pub(super) fn of(response: &ResponseHead<'_>, times: Times, policy: &Policy) -> Self {
        let headers = response.headers;
        let stated_date = single_date(headers, &header::DATE, times.received_unix);
        let date = stated_date.unwrap_or(times.received_unix);
        let last_modified = single_date(headers, &header::LAST_MODIFIED, times.received_unix);
        let targeted = targeted_directives(headers, &policy.targeted);
        let is_targeted = targeted.is_some();
        let directives = targeted.unwrap_or_else(|| ResponseDirectives::of(headers));
        let stated = directives.s_maxage.or(directives.max_age).map(seconds_ms);
        let expires = || if is_targeted { None } else { expires_ms(headers, date, times.received_unix) };
        Self {
            status: response.status.as_u16(),
            lifetime_ms: stated.or_else(expires),
            directives,
            date,
            is_date_ours: stated_date.is_none(),
            last_modified,
            has_validator: last_modified.is_some() || stored_etag(headers).is_some(),
            age_ms: initial_age_ms(headers, date, times),
        }
    }

    /// The life that the standard lets us guess. Only for statuses that are heuristically cacheable (RFC 9110
    /// section 15.1) or answers marked `public`.
    pub(super) fn heuristic_ms(&self) -> Option<i64> {
        let is_guessable =
            matches!(self.status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
                || self.directives.public;
        let unchanged_s = self.date.saturating_sub(self.last_modified?);
        (is_guessable && unchanged_s >= 0)
            .then(|| (unchanged_s.saturating_mul(1000) / HEURISTIC_SHARE).min(HEURISTIC_MAX_MS))
    }
}

/// What remains of a lifetime after receipt, within the operator's bound.
pub(super) fn remaining_ms(lifetime_ms: i64, age_ms: i64, policy: &Policy) -> i64 {
    lifetime_ms.saturating_sub(age_ms).min(whole_ms(policy.max_ttl))
}

/// A date field that is there exactly once and can be read.
pub(super) fn single_date(headers: &HeaderMap, name: &http::HeaderName, now_unix: i64) -> Option<i64> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse_date(line.as_bytes(), now_unix)
}

/// `Expires` less `Date`. An `Expires` that cannot be read, or that comes twice, has passed (RFC 9111 section
/// 5.3).
fn expires_ms(headers: &HeaderMap, date: i64, now_unix: i64) -> Option<i64> {
    if !headers.contains_key(header::EXPIRES) {
        return None;
    }
    let expires = single_date(headers, &header::EXPIRES, now_unix);
    Some(expires.map_or(0, |expires| expires.saturating_sub(date).max(0).saturating_mul(1000)))
}

/// The greater of what the clocks say and what the caches on the way say.
fn initial_age_ms(headers: &HeaderMap, date: i64, times: Times) -> i64 {
    let apparent_ms = times.received_unix.saturating_sub(date).max(0).saturating_mul(1000);
    let delay_ms = i64::try_from(times.received_ms.saturating_sub(times.sent_ms)).unwrap_or(i64::MAX);
    let stated_ms =
        headers.get(header::AGE).and_then(|line| first_age(line.as_bytes())).map_or(0, seconds_ms);
    apparent_ms.max(stated_ms.saturating_add(delay_ms))
}

/// The first member of `Age`; parameters are cut, and what is not a number counts as absent (RFC 9111 section
/// 5.1).
fn first_age(line: &[u8]) -> Option<u32> {
    let member = line.split(|byte| matches!(byte, b',' | b';')).next()?;
    delta_seconds(member.trim_ascii())
}

#[cfg(test)]
mod tests;
