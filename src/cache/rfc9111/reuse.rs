//! May a stored copy answer this request (RFC 9111 section 4), and what may a stale one still do?

use http::StatusCode;

use super::{
    directives::RequestDirectives,
    head::{RequestHead, ask},
    meta::{Meta, Source, seconds_ms},
    policy::Policy,
};
use crate::telemetry::record::Reason;

/// What to do with a stored copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Serve it.
    Fresh,
    /// Serve it although it is stale. With [`Reason::Swr`] one request in the background refreshes it.
    Stale(Reason),
    /// Ask the backend first, with conditions if the copy has a validator.
    Validate(Reason),
    /// It must not be used, not even to validate.
    Miss(Reason),
    /// Answer 504: the client forbids asking the backend (RFC 9111 section 5.2.1.7).
    OnlyIfCached,
}

/// Why a validating fetch did not bring an answer worth having.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The backend answered with this status.
    Status(StatusCode),
    /// No status line came: refused, reset, closed, or out of time.
    Disconnect,
}

/// Judges a copy that matches the request's key and selecting fields. Purge marks are the store's business
/// and come first.
#[must_use]
pub fn may_reuse(request: &RequestHead<'_>, meta: &Meta, now_ms: u64, policy: &Policy) -> Reuse {
    let barred = match meta.source {
        Source::Origin => !policy.origin,
        Source::Rule => !policy.has_rule(),
    };
    if barred {
        return on_absent(request);
    }
    if !request.asks(ask::CACHE_CONTROL | ask::PRAGMA) {
        return judge(meta, now_ms);
    }
    let directives = RequestDirectives::of(request);
    let verdict = if is_guarded(meta, policy) {
        judge(meta, now_ms)
    } else {
        judge_for_client(&directives, meta, now_ms)
    };
    match verdict {
        Reuse::Validate(_) | Reuse::Miss(_) if directives.only_if_cached => Reuse::OnlyIfCached,
        verdict => verdict,
    }
}

/// What a request gets for which there is no copy.
#[must_use]
pub fn on_absent(request: &RequestHead<'_>) -> Reuse {
    if request.asks(ask::CACHE_CONTROL) && RequestDirectives::of(request).only_if_cached {
        return Reuse::OnlyIfCached;
    }
    Reuse::Miss(Reason::Absent)
}

/// May the copy be served after a fetch that was meant to validate or replace it failed? A copy that is still
/// fresh, and was only to be validated for the client's sake, may be.
#[must_use]
pub fn may_serve_on_failure(meta: &Meta, now_ms: u64, failure: Failure) -> Option<Reason> {
    if meta.no_cache {
        return None;
    }
    let is_error = match failure {
        Failure::Status(status) => matches!(status.as_u16(), 500 | 502 | 503 | 504),
        Failure::Disconnect => true,
    };
    if is_error && meta.sie_ms > 0 && meta.is_within(meta.sie_ms, now_ms) {
        return Some(Reason::Sie);
    }
    let is_served = meta.is_fresh(now_ms) || meta.is_within(meta.disconnect_ms, now_ms);
    (failure == Failure::Disconnect && is_served).then_some(Reason::Disconnect)
}

/// The verdict when the client says nothing that counts.
fn judge(meta: &Meta, now_ms: u64) -> Reuse {
    if meta.no_cache {
        return Reuse::Validate(Reason::NoCache);
    }
    if meta.is_fresh(now_ms) {
        return Reuse::Fresh;
    }
    if meta.is_within(meta.swr_ms, now_ms) {
        return Reuse::Stale(Reason::Swr);
    }
    Reuse::Validate(Reason::Expired)
}

/// The verdict under the client's directives (RFC 9111 section 5.2.1).
fn judge_for_client(asked: &RequestDirectives, meta: &Meta, now_ms: u64) -> Reuse {
    let age_ms = meta.age_ms(now_ms);
    let is_too_old = asked.max_age.is_some_and(|max| max == 0 || age_ms > seconds_ms(max));
    let left_ms = meta.staleness_ms(now_ms).saturating_neg();
    let is_too_stale = asked.min_fresh.is_some_and(|min| left_ms < seconds_ms(min));
    if asked.no_cache || is_too_old || is_too_stale {
        return Reuse::Validate(Reason::ClientNoCache);
    }
    let verdict = judge(meta, now_ms);
    let is_tolerated = asked.max_stale.is_some_and(|max| meta.is_within(seconds_ms(max), now_ms));
    if verdict == Reuse::Validate(Reason::Expired) && is_tolerated && meta.max_stale {
        return Reuse::Stale(Reason::MaxStale);
    }
    verdict
}

/// Under a rule a client's wish to reload, to have it younger or to have it stale counts only if the rule
/// says so: nothing that a browser sends may turn a shield into a pass-through.
fn is_guarded(meta: &Meta, policy: &Policy) -> bool {
    meta.source == Source::Rule
        && !policy.is_rfc()
        && policy.rule.as_ref().is_some_and(|rule| !rule.client_reload)
}

#[cfg(test)]
mod tests;
