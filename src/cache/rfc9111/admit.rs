//! Does this request ask the store at all? Taken before the key is made.

use http::Method;

use super::{
    head::{RequestHead, ask},
    path::is_plain_path,
    policy::Policy,
};
use crate::{config::CacheMode, telemetry::record::Reason};

/// Whether a request has anything to do with the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Look it up; what is fetched may be stored.
    Lookup,
    /// Not looked up, not stored, never shared with another request.
    Bypass(Reason),
    /// Not GET or HEAD, nor a POST that only reads: never looked up, and its answer may invalidate.
    Method,
}

/// Decides on the request alone.
///
/// On a route with a rule nobody has said that answers are shared, so credentials and ambiguous paths keep
/// the whole request away from the store, unless the operator declared the route public. On a route with identities a
/// request of which nobody knows whose it is stays away, whoever gives the lifetime: there is no answer for nobody.
#[must_use]
pub fn admit(request: &RequestHead<'_>, policy: &Policy) -> Admission {
    if policy.mode == CacheMode::Off {
        return Admission::Bypass(Reason::Off);
    }
    if request.asks(ask::UPGRADE) {
        return Admission::Bypass(Reason::Upgrade);
    }
    let has_keyed_body = request.asks(ask::KEYED_BODY);
    if *request.method != Method::GET && *request.method != Method::HEAD && !has_keyed_body {
        return Admission::Method;
    }
    let bypass_when = policy.rule.as_ref().and_then(|rule| rule.bypass_when.as_ref());
    if bypass_when.is_some_and(|conditions| conditions.is_met_by(request)) {
        return Admission::Bypass(Reason::BypassWhen);
    }
    // What a condition or a range means for such a request is for the backend to say (RFC 9110, 13.1.2 and 14.2).
    if has_keyed_body && request.asks(ask::IF_NONE_MATCH | ask::IF_MODIFIED_SINCE) {
        return Admission::Bypass(Reason::Conditional);
    }
    if has_keyed_body && request.asks(ask::RANGE) {
        return Admission::Bypass(Reason::Range);
    }
    if request.asks(ask::BODY) {
        return Admission::Bypass(Reason::Body);
    }
    if request.asks(ask::PRECONDITION) {
        return Admission::Bypass(Reason::Conditional);
    }
    let bar = if policy.has_rule() || policy.is_personal() { rule_bar(request, policy) } else { None };
    let bar = bar.or((!policy.has_rule() && !policy.origin).then_some(Reason::NotListed));
    bar.map_or(Admission::Lookup, Admission::Bypass)
}

/// What keeps a request away from a rule, if anything does. Asked again before storing.
pub(super) fn rule_bar(request: &RequestHead<'_>, policy: &Policy) -> Option<Reason> {
    if policy.is_personal() && !request.asks(ask::IDENTIFIED) {
        return Some(Reason::Identity);
    }
    let rule = policy.rule.as_ref();
    if !rule.is_some_and(|rule| rule.public) {
        if request.asks(ask::AUTHORIZATION) {
            return Some(Reason::Authorization);
        }
        if request.asks(ask::CREDENTIAL)
            || policy
                .credentials
                .iter()
                .any(|name| request.headers.contains_key(name) && !request.owns(name.as_str()))
        {
            return Some(Reason::Credential);
        }
        if request.asks(ask::COOKIE) && !rule.is_some_and(|rule| rule.cookies_keyed) {
            return Some(Reason::Cookie);
        }
    }
    (!is_plain_path(request.path())).then_some(Reason::Path)
}

#[cfg(test)]
mod tests;
