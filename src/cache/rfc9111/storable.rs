//! May this answer be stored (RFC 9111 section 3), by whose word, and what is computed once for all its hits?

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::{
    admit::rule_bar,
    coding::{is_encodable, vary_by_coding},
    directives::RequestDirectives,
    fields::stored_fields,
    freshness::{Said, remaining_ms},
    head::{RequestHead, ResponseHead, Times, ask},
    invalidate::is_own_location,
    media::essence,
    meta::{Meta, Source, moment, seconds_ms, whole_ms},
    overrule::overrule,
    policy::{Policy, Rule},
    vary::{Selection, Told, varies_by},
};
use crate::{config::SetCookie, telemetry::record::Reason};

/// Fields that tell users apart. A rule does not store answers that vary by them, as nobody has said that
/// they are shared.
const TELLS_USERS_APART: [&str; 9] = [
    "cookie",
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-access-token",
    "user-agent",
    "referer",
];

/// What is to be kept beside the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storable {
    /// The numbers for later decisions.
    pub meta: Meta,
    /// Which requests the copy fits.
    pub selection: Selection,
    /// Once the body is complete the copy should get a strong `ETag` of its own, so that pollers can be
    /// answered with 304.
    pub wants_etag: bool,
    /// The copy may be coded here, so it differs by `Accept-Encoding`.
    pub is_encodable: bool,
    withheld: Vec<HeaderName>,
    date: Option<i64>,
}

impl Storable {
    /// The fields to store: every line in order and byte for byte, without those that belong to one
    /// connection (RFC 9111 section 3.1), `Age`, those that we write ourselves and those that the answer
    /// withholds from caches. With `Vary` where the copy may be coded here.
    #[must_use]
    pub fn head(&self, received: &HeaderMap) -> HeaderMap {
        let mut head = stored_fields(received, &self.withheld, self.date);
        if self.is_encodable {
            vary_by_coding(&mut head);
        }
        head
    }
}

/// Decides on an answer's head. Whether its body then ends cleanly and within bounds is for the caller to see
/// to.
///
/// `request` is the request as sent upstream, so after [`super::make_conditional`] it is
/// [`RequestHead::for_whole`]. An answer to a POST that may be stored ([`super::Policy`] in profile `rfc`) is
/// stored for later GETs of the same URI.
///
/// # Errors
///
/// The first reason that forbids it.
pub fn may_store(
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
    times: Times,
    policy: &Policy,
) -> Result<Storable, Reason> {
    refuse_request(request)?;
    let mut said = Said::of(response, times, policy);
    let is_overruled = overrule(&mut said, policy);
    refuse_method(request, response, &said, policy)?;
    refuse_answer(response, &said, policy)?;
    let (source, lifetime_ms) = lifetime(&said, policy, is_overruled)?;
    if source == Source::Rule || policy.is_personal() {
        refuse_under_rule(request, response, policy)?;
    } else {
        let directives = &said.directives;
        let is_shared = directives.public || directives.must_revalidate || directives.s_maxage.is_some();
        if request.asks(ask::AUTHORIZATION) && !is_shared {
            return Err(Reason::Authorization);
        }
    }
    if !policy.is_rfc() && names_one_origin(response.headers, policy) {
        return Err(Reason::Cors);
    }
    let told = Told { fields: policy.vary(), languages: policy.languages() };
    let mut selection = Selection::told(request.headers, response.headers, told)?;
    if policy.compress && !response.headers.contains_key(header::CONTENT_ENCODING) {
        // The backend was asked for the plain body, whatever the client accepts, and everybody may have that.
        selection = selection.without(&header::ACCEPT_ENCODING);
    }
    let meta = meta(source, lifetime_ms, &said, times, policy);
    let window_ms = meta.swr_ms.max(meta.sie_ms).max(meta.disconnect_ms);
    let left_ms = meta.expires_ms.saturating_sub(moment(times.received_ms));
    let is_useful = meta.validator || left_ms.saturating_add(window_ms) > 0;
    if !is_useful {
        return Err(Reason::StaleOnArrival);
    }
    // Conditions are for GET and HEAD.
    let wants_etag = source == Source::Rule
        && !request.asks(ask::KEYED_BODY)
        && !policy.is_rfc()
        && response.status == StatusCode::OK
        && !response.headers.contains_key(header::ETAG);
    let date = said.is_date_ours.then_some(said.date);
    let is_encodable = policy.compress && is_encodable(response.status, response.headers);
    let mut withheld = said.directives.withheld;
    if policy.set_cookie() == SetCookie::Strip {
        withheld.push(header::SET_COOKIE);
    }
    Ok(Storable { meta, selection, wants_etag, is_encodable, withheld, date })
}

fn refuse_request(request: &RequestHead<'_>) -> Result<(), Reason> {
    if request.asks(ask::CACHE_CONTROL) && RequestDirectives::of(request).no_store {
        return Err(Reason::RequestNoStore);
    }
    if request.asks(ask::RANGE) {
        return Err(Reason::Range);
    }
    Ok(())
}

/// GET, a POST whose body is part of the key, and in profile `rfc` a POST whose answer says that it is what a GET of the same URI would bring (RFC
/// 9110 section 9.3.3), which only a success can say (section 8.7).
fn refuse_method(
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
    said: &Said,
    policy: &Policy,
) -> Result<(), Reason> {
    if request.asks(ask::KEYED_BODY) {
        return Ok(());
    }
    if *request.method == Method::GET {
        return if request.asks(ask::BODY) { Err(Reason::Body) } else { Ok(()) };
    }
    let is_explicit = said.lifetime_ms.is_some();
    if *request.method == Method::POST
        && policy.stores_post()
        && response.status.is_success()
        && is_explicit
        && is_own_location(request, response.headers)
    {
        return Ok(());
    }
    Err(Reason::Method)
}

/// What the answer forbids whoever gives the lifetime.
fn refuse_answer(response: &ResponseHead<'_>, said: &Said, policy: &Policy) -> Result<(), Reason> {
    if matches!(said.status, 0..=199 | 206 | 304) {
        return Err(Reason::Status);
    }
    let directives = &said.directives;
    if directives.must_understand && !is_understood(said.status) {
        return Err(Reason::MustUnderstand);
    }
    if directives.no_store && !directives.must_understand {
        return Err(Reason::NoStore);
    }
    if directives.private {
        return Err(Reason::Private);
    }
    if response.headers.contains_key(header::SET_COOKIE) && policy.set_cookie() == SetCookie::Refuse {
        return Err(Reason::SetCookie);
    }
    if is_stream(response.headers) {
        return Err(Reason::Streaming);
    }
    if directives.no_cache && !said.has_validator {
        return Err(Reason::NoCache);
    }
    let announced = response
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > policy.max_body_bytes) {
        return Err(Reason::TooLarge);
    }
    Ok(())
}

/// The lifetime and whose word it is. A rule speaks only where the answer is silent, or where the operator overrules it:
/// then what else the answer says of its life still bounds it.
fn lifetime(said: &Said, policy: &Policy, is_overruled: bool) -> Result<(Source, i64), Reason> {
    let stated = said.lifetime_ms.or(said.directives.no_cache.then_some(0));
    let ruled = policy.rule.as_ref().and_then(|rule| rule.lifetime(said.status)).map(whole_ms);
    if let Some(ruled_ms) = ruled.filter(|_| is_overruled) {
        return Ok((Source::Rule, stated.map_or(ruled_ms, |stated_ms| stated_ms.min(ruled_ms))));
    }
    if let Some(lifetime_ms) = stated {
        if !policy.origin {
            return Err(Reason::NoFreshness);
        }
        let is_capped = said.status >= 400 && !policy.is_rfc();
        let cap_ms = if is_capped { whole_ms(policy.error_max_ttl) } else { i64::MAX };
        return Ok((Source::Origin, lifetime_ms.min(cap_ms)));
    }
    if policy.has_rule() {
        return ruled.filter(|ttl_ms| *ttl_ms > 0).map(|ttl_ms| (Source::Rule, ttl_ms)).ok_or(Reason::Status);
    }
    if !policy.origin {
        return Err(Reason::NoFreshness);
    }
    let guessed = if policy.is_rfc() { said.heuristic_ms() } else { None };
    // A window for stale copies is a permission to store, even if no lifetime stands beside it.
    let directives = &said.directives;
    let has_window = directives.stale_while_revalidate.max(directives.stale_if_error) > Some(0);
    let lifetime_ms = guessed.or(has_window.then_some(0)).ok_or(Reason::NoFreshness)?;
    Ok((Source::Origin, lifetime_ms))
}

/// What only an answer that declares itself shared may have.
fn refuse_under_rule(
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
    policy: &Policy,
) -> Result<(), Reason> {
    if let Some(bar) = rule_bar(request, policy) {
        return Err(bar);
    }
    // By the credential of the identity an answer may vary: then it fits no other token of the same user.
    let credentials = policy.credentials.iter().map(HeaderName::as_str);
    let mut foreign = TELLS_USERS_APART.into_iter().chain(credentials).filter(|name| !request.owns(name));
    if foreign.any(|name| varies_by(response.headers, name)) {
        return Err(Reason::VaryCredential);
    }
    let media_types = policy.rule.as_ref().map(|rule| rule.media_types.as_slice()).unwrap_or_default();
    let is_of_rule = |essence: &[u8]| media_types.iter().any(|range| range.has(essence));
    if !media_types.is_empty() && !essence(response.headers).is_some_and(is_of_rule) {
        return Err(Reason::MediaType);
    }
    Ok(())
}

/// A permission for one origin that neither the key nor `Vary` tells from others would be handed to all of
/// them.
fn names_one_origin(headers: &HeaderMap, policy: &Policy) -> bool {
    let is_keyed = policy.has_rule() && policy.rule.as_ref().is_some_and(|rule| rule.origin_keyed);
    let allowed = headers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    !is_keyed && allowed.iter().any(|origin| origin.as_bytes() != b"*") && !varies_by(headers, "origin")
}

fn meta(source: Source, lifetime_ms: i64, said: &Said, times: Times, policy: &Policy) -> Meta {
    let received_ms = moment(times.received_ms);
    let directives = &said.directives;
    let is_strict = directives.must_revalidate || directives.proxy_revalidate || directives.no_cache;
    let is_s_maxage = directives.s_maxage.is_some();
    // What was never fresh may be one user's answer that merely lacks the word `private`: it is validated or
    // not used.
    let is_ever_fresh = lifetime_ms > 0;
    // Errors are not worth keeping beyond the life that they are granted.
    let is_error = said.status >= 400 && (source == Source::Rule || !policy.is_rfc());
    let window = |stated: Option<u32>, of_rule: fn(&Rule) -> std::time::Duration| {
        if is_strict || is_error {
            return 0;
        }
        let ruled = policy.rule.as_ref().filter(|_| !is_s_maxage).map_or(0, |rule| whole_ms(of_rule(rule)));
        stated.map_or(ruled, seconds_ms).min(whole_ms(policy.max_ttl))
    };
    Meta {
        source,
        born_ms: received_ms.saturating_sub(said.age_ms),
        expires_ms: received_ms.saturating_add(remaining_ms(lifetime_ms, said.age_ms, policy)),
        swr_ms: window(directives.stale_while_revalidate, |rule| rule.stale_while_revalidate),
        sie_ms: window(directives.stale_if_error, |rule| rule.stale_if_error),
        disconnect_ms: if is_strict || is_error || is_s_maxage || !is_ever_fresh {
            0
        } else {
            whole_ms(policy.stale_on_disconnect)
        },
        no_cache: directives.no_cache,
        max_stale: !is_strict && !is_s_maxage && is_ever_fresh,
        validator: said.has_validator,
        generated_etag: false,
        date: said.date,
        last_modified: said.last_modified,
    }
}

/// The final statuses of RFC 9110 section 15.
const fn is_understood(status: u16) -> bool {
    matches!(status, 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

/// Media types whose body is a conversation rather than a document.
fn is_stream(headers: &HeaderMap) -> bool {
    let Some(essence) = essence(headers) else { return false };
    let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
    let is_grpc = essence.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"));
    is_grpc
        || is("text/event-stream")
        || is("application/ndjson")
        || is("application/x-ndjson")
        || is("application/jsonl")
        || is("application/json-seq")
        || is("application/stream+json")
        || is("multipart/x-mixed-replace")
}

#[cfg(test)]
mod tests;
