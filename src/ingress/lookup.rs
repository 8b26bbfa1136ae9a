//! Is there an answer already? Looks into the cache, waits for another request's fetch of the same answer, or says what
//! has to be fetched.

use std::sync::Arc;

use http::{Response, StatusCode, header};
use tokio::time::Instant;

use super::{
    exchange::Exchange,
    fetch::{self, Plan},
    pipeline::Outcome,
    respond::{Told, stored},
};
use crate::{
    cache::{
        Entry, Key, Landed, Lookup, Scheme, Target, Turn,
        rfc9111::{Admission, Reuse, admit, may_reuse, on_absent},
    },
    config::CacheMode,
    net::{Body, problem},
    telemetry::{CacheStatus, Fwd, HitSource, Operation, Reason, Tier},
};

/// What a lookup led to.
pub(super) enum Looked {
    /// An answer from the cache.
    Answer(Response<Body>, Told),
    /// A fetch.
    Fetch(Plan),
}

impl From<Outcome> for Looked {
    fn from((response, told): Outcome) -> Self {
        Self::Answer(response, told)
    }
}

/// Looks for an answer to the request.
pub(super) async fn look(exchange: &mut Exchange) -> Looked {
    let head = exchange.head();
    let policy = &exchange.route.policy;
    match admit(&head, policy) {
        Admission::Lookup if policy.mode == CacheMode::Observe => {
            return Looked::Fetch(Plan::bypass(Reason::Observe));
        }
        Admission::Lookup => {}
        Admission::Bypass(reason) => return Looked::Fetch(Plan::bypass(reason)),
        Admission::Method => return Looked::Fetch(Plan::method()),
    }
    let ingress = Arc::clone(&exchange.core.ingress);
    let start = Instant::now();
    let now_ms = ingress.clock.at(start);
    let is_refresh = exchange.route.key.query.is_refresh(exchange.parts.uri.query().map(str::as_bytes));
    let found = ingress.cache.lookup(key_of(exchange), &exchange.parts.headers, now_ms);
    let verdict = match &found.entry {
        _ if is_refresh => Reuse::Miss(Reason::ClientNoCache),
        Some(_) if found.is_stale => Reuse::Validate(Reason::Purged),
        Some(entry) => may_reuse(&head, entry.meta(), now_ms, policy),
        None => match on_absent(&head) {
            Reuse::Miss(_) => Reuse::Miss(found.absence),
            other => other,
        },
    };
    let ended = Instant::now();
    let took = u64::try_from((ended - start).as_micros()).unwrap_or(u64::MAX);
    ingress.telemetry.cache_operation(Tier::Memory, Operation::Lookup, ended, took);
    if let Some(parts) = exchange.journal.parts() {
        parts.cache_us = u32::try_from(took).unwrap_or(u32::MAX);
    }
    match (verdict, &found.entry) {
        (Reuse::Fresh, Some(entry)) => serve(exchange, entry, Told::hit(HitSource::Memory)).into(),
        (Reuse::Stale(reason), Some(entry)) => {
            if reason == Reason::Swr {
                fetch::refresh(exchange, &found);
            }
            serve(exchange, entry, Told::stale(reason)).into()
        }
        (Reuse::OnlyIfCached, _) => {
            Looked::Answer(gateway_timeout(), Told::miss(Fwd::Request, Reason::OnlyIfCached))
        }
        (Reuse::Fresh | Reuse::Stale(_), None) => fetch_or_wait(exchange, found, Reason::Absent).await,
        (Reuse::Validate(reason) | Reuse::Miss(reason), _) => fetch_or_wait(exchange, found, reason).await,
    }
}

/// The key of the request.
pub(super) fn key_of(exchange: &Exchange) -> Key {
    let uri = &exchange.parts.uri;
    let target = Target {
        scheme: Scheme::Http,
        authority: exchange.host(),
        path: uri.path().as_bytes(),
        query: uri.query().map(str::as_bytes),
    };
    exchange.ingress().cache.key(&exchange.route.key, &target, &exchange.parts.headers)
}

/// Takes a place in the fetch of this answer: alone, as its leader, or behind one.
async fn fetch_or_wait(exchange: &mut Exchange, found: Lookup, reason: Reason) -> Looked {
    let ingress = Arc::clone(&exchange.core.ingress);
    let mut plan = Plan::lookup(found, reason);
    // Waiting for another request makes sense only where its answer is likely to be shared: a rule or an entry says so.
    let is_shared = exchange.route.policy.has_rule() || plan.entry().is_some();
    if !is_shared || !exchange.is_read() || exchange.parts.method == http::Method::HEAD {
        return Looked::Fetch(plan);
    }
    let Some(lookup) = plan.lookup.as_ref() else { return Looked::Fetch(plan) };
    match ingress.cache.join(lookup, &exchange.parts.headers, ingress.clock.now_ms()) {
        Turn::Lead(lead) => plan.lead = Some(lead),
        Turn::Found(entry) => return serve(exchange, &entry, Told::hit(HitSource::Memory)).into(),
        Turn::Alone(None) => {}
        Turn::Alone(Some(reason)) => plan.reason = Some(reason),
        Turn::Follow(mut waiter) => {
            let start = Instant::now();
            let follow = ingress.cache.follow(&mut waiter, &exchange.parts.headers);
            let landed = tokio::time::timeout(ingress.settings.follower_wait, follow).await;
            if let Some(parts) = exchange.journal.parts() {
                parts.collapsed_us = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
            }
            match landed {
                Ok(Landed::Entry(entry)) => {
                    return serve(exchange, &entry, Told::hit(HitSource::Collapsed)).into();
                }
                Ok(Landed::Lead(lead)) => plan.lead = Some(lead),
                Ok(Landed::Go) | Err(_) => {}
            }
        }
    }
    Looked::Fetch(plan)
}

/// The answer from an entry, as far as the client's conditions and range ask for it.
pub(super) fn serve(exchange: &Exchange, entry: &Arc<Entry>, told: Told) -> Outcome {
    let now_ms = exchange.ingress().clock.now_ms();
    let response = stored(exchange, entry, now_ms);
    let source_ttl = entry.meta().ttl_s(now_ms);
    (response, Told { ttl_s: Some(source_ttl), ..told })
}

/// RFC 9111 section 5.2.1.7: a client that wants a stored answer or none gets 504.
fn gateway_timeout() -> Response<Body> {
    let mut response = problem::response(crate::net::Refusal::UpstreamTimeout);
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    *response.body_mut() = Body::Empty;
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

impl Told {
    pub(super) const fn hit(source: HitSource) -> Self {
        Self { status: CacheStatus::Hit, source: Some(source), ..Self::new(CacheStatus::Hit) }
    }

    pub(super) const fn stale(reason: Reason) -> Self {
        Self { source: Some(HitSource::Stale), reason: Some(reason), ..Self::new(CacheStatus::Stale) }
    }

    pub(super) const fn miss(fwd: Fwd, reason: Reason) -> Self {
        Self { fwd: Some(fwd), reason: Some(reason), ..Self::new(CacheStatus::Miss) }
    }
}
