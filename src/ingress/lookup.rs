//! Is there an answer already? Looks into the cache, waits for another request's fetch of the same answer, or says what
//! has to be fetched.

use std::sync::Arc;

use http::{Method, Response, StatusCode, header};
use tokio::time::Instant;

use super::{
    exchange::Exchange,
    fetch::{self, Plan},
    observe, posted,
    respond::{Ready, Told, stored},
};
use crate::{
    cache::{
        Entry, Landed, Lookup, Turn,
        rfc9111::{
            Admission, Failure, Policy, RequestHead, Reuse, admit, is_near_end, may_reuse,
            may_serve_on_failure, on_absent,
        },
    },
    config::CacheMode,
    net::{Body, Refusal},
    telemetry::{Fwd, HitSource, Operation, Reason, Tier},
};

/// What a lookup led to.
pub(super) enum Looked {
    /// An answer.
    Ready(Ready),
    /// A fetch.
    Fetch(Plan),
    /// The request's body failed before there could be an answer.
    Refused(Refusal),
}

/// Looks for an answer to the request.
pub(super) async fn look(exchange: &mut Exchange) -> Looked {
    exchange.identify();
    if exchange.reads_by_body()
        && let Some(elsewhere) = posted::read(exchange).await
    {
        return elsewhere;
    }
    let head = exchange.head();
    let policy = &exchange.route.policy;
    let admission = admit(&head, policy);
    if policy.mode == CacheMode::Observe {
        return Looked::Fetch(observe::ask(exchange, admission));
    }
    match admission {
        Admission::Lookup => {}
        Admission::Bypass(reason) => return Looked::Fetch(Plan::bypass(reason)),
        Admission::Method => return Looked::Fetch(Plan::method()),
    }
    let ingress = exchange.ingress();
    let start = Instant::now();
    let now_ms = ingress.clock.at(start);
    let query = exchange.parts.uri.query().map(str::as_bytes);
    if exchange.route.key.query.is_refresh(query) {
        // Such a request fills the entry anew; it neither looks nor waits for a fetch that was made without it.
        let found = ingress.cache.lookup(exchange.key(), &exchange.parts.headers, now_ms);
        return Looked::Fetch(Plan::lookup(found, None, Reason::ClientNoCache));
    }
    let mut found = ingress.cache.lookup(exchange.key(), &exchange.parts.headers, now_ms);
    let mut verdict = judge(&head, &found, now_ms, policy);
    let took = ingress.telemetry.timed_operation(Tier::Memory, Operation::Lookup, start);
    let mut redis_us = 0;
    if ingress.cache.redis().is_some() && needs_more(verdict) {
        let start = Instant::now();
        found = ingress.cache.look_further(found, &exchange.parts.headers).await;
        verdict = judge(&head, &found, ingress.clock.now_ms(), policy);
        redis_us = ingress.telemetry.timed_operation(Tier::Redis, Operation::Lookup, start);
    }
    let ready = match (verdict, &found.entry) {
        (Reuse::Fresh, Some(entry)) => {
            if is_near_end(entry.meta(), entry.fetch_ms(), now_ms) {
                fetch::refresh_early(exchange, &found, now_ms);
            }
            stored(exchange, &head, entry, now_ms, Told::hit(found.source))
        }
        (Reuse::Stale(reason), Some(entry)) => {
            if reason == Reason::Swr {
                fetch::refresh(exchange, &found);
            }
            stored(exchange, &head, entry, now_ms, Told::stale(reason))
        }
        (Reuse::OnlyIfCached, _) => gateway_timeout(policy.has_rule()),
        (Reuse::Validate(reason), Some(_)) => {
            let base = found.entry.clone();
            note_redis(exchange, redis_us);
            return wait_or_fetch(exchange, Plan::lookup(found, base, reason)).await;
        }
        (Reuse::Miss(reason) | Reuse::Validate(reason), _) => {
            note_redis(exchange, redis_us);
            return wait_or_fetch(exchange, Plan::lookup(found, None, reason)).await;
        }
        (Reuse::Fresh | Reuse::Stale(_), None) => {
            return wait_or_fetch(exchange, Plan::lookup(found, None, Reason::Absent)).await;
        }
    };
    if let Some(parts) = exchange.journal.parts() {
        parts.cache_us = u32::try_from(took).unwrap_or(u32::MAX);
    }
    note_redis(exchange, redis_us);
    Looked::Ready(ready)
}

/// What the rules say about what was found.
fn judge(head: &RequestHead<'_>, found: &Lookup, now_ms: u64, policy: &Policy) -> Reuse {
    match &found.entry {
        Some(entry) => {
            let meta = if found.is_stale { &entry.meta().expired(now_ms) } else { entry.meta() };
            may_reuse(head, meta, now_ms, policy)
        }
        None => match on_absent(head) {
            Reuse::Miss(_) => Reuse::Miss(found.absence),
            other => other,
        },
    }
}

/// Whether another replica may have something better. What the client itself does not want is not looked for.
const fn needs_more(verdict: Reuse) -> bool {
    match verdict {
        Reuse::Fresh | Reuse::Stale(_) | Reuse::Validate(Reason::ClientNoCache | Reason::NoCache) => false,
        Reuse::Validate(_) | Reuse::Miss(_) | Reuse::OnlyIfCached => true,
    }
}

fn note_redis(exchange: &mut Exchange, us: u64) {
    if let Some(parts) = exchange.journal.parts() {
        parts.redis_us += u32::try_from(us).unwrap_or(u32::MAX);
    }
}

/// Takes a place in the fetch of this answer: alone, as its leader, or behind one.
async fn wait_or_fetch(exchange: &mut Exchange, mut plan: Plan) -> Looked {
    // Waiting for another request makes sense only where its answer may be shared: by a rule, or as it was once fresh.
    // What must be validated for each request may be somebody's own.
    let is_shared =
        exchange.route.policy.has_rule() || plan.base.as_ref().is_some_and(|entry| was_shared(entry));
    let Some(lookup) = plan.lookup.as_ref().filter(|_| is_shared && exchange.parts.method != Method::HEAD)
    else {
        return Looked::Fetch(plan);
    };
    let ingress = exchange.ingress();
    match ingress.cache.join(lookup, &exchange.parts.headers, ingress.clock.now_ms()) {
        // A request for a part brings nothing that others could wait for, unless the whole is fetched to validate a copy.
        Turn::Lead(lead) if plan.base.is_none() && exchange.parts.headers.contains_key(header::RANGE) => {
            drop(lead);
        }
        Turn::Lead(mut lead) => {
            let life = exchange.lease_life();
            if plan.reason != Some(Reason::ClientNoCache)
                && let Some(entry) =
                    ingress.cache.lease(&mut lead, lookup, &exchange.parts.headers, life).await
            {
                lead.publish(Arc::clone(&entry));
                if let Some(ready) = share(exchange, &entry, lookup, HitSource::Redis) {
                    return Looked::Ready(ready);
                }
            } else {
                plan.lead = Some(lead);
            }
        }
        Turn::Found(entry) => {
            if let Some(ready) = share(exchange, &entry, lookup, HitSource::Memory) {
                return Looked::Ready(ready);
            }
        }
        Turn::Alone(None) => {}
        Turn::Alone(Some(reason)) => plan.reason = Some(reason),
        Turn::Follow(mut waiter) => {
            let start = Instant::now();
            let follow = ingress.cache.follow(&mut waiter, &exchange.parts.headers);
            let landed = tokio::time::timeout(ingress.settings().follower_wait, follow).await;
            let waited = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
            let shared = match landed {
                Ok(Landed::Entry(entry)) => share(exchange, &entry, lookup, HitSource::Collapsed),
                Ok(Landed::Lead(lead)) => {
                    plan.lead = Some(lead);
                    None
                }
                Ok(Landed::Go) | Err(_) => None,
            };
            if let Some(parts) = exchange.journal.parts() {
                parts.collapsed_us = waited;
            }
            if let Some(ready) = shared {
                return Looked::Ready(ready);
            }
        }
    }
    Looked::Fetch(plan)
}

/// The answer from an entry that another request brought, if it may answer this one too: it is fresh, or it is the stale
/// copy that the leader fell back to and that a failed fetch permits.
fn share(exchange: &Exchange, entry: &Arc<Entry>, lookup: &Lookup, source: HitSource) -> Option<Ready> {
    let now_ms = exchange.ingress().clock.now_ms();
    if entry.may_be_shared(now_ms) {
        return Some(stored(exchange, &exchange.head(), entry, now_ms, Told::hit(source)));
    }
    let is_fallback = lookup.entry.as_ref().is_some_and(|known| Arc::ptr_eq(known, entry));
    let reason = may_serve_on_failure(entry.meta(), now_ms, Failure::Disconnect).filter(|_| is_fallback)?;
    let told = Told { fwd: Some(Fwd::Stale), ..Told::stale(reason) };
    Some(stored(exchange, &exchange.head(), entry, now_ms, told))
}

/// True for an entry that was fresh for anybody at some time.
fn was_shared(entry: &Entry) -> bool {
    !entry.meta().no_cache && entry.meta().expires_ms > entry.meta().born_ms
}

/// RFC 9111 section 5.2.1.7: a client that wants a stored answer or none gets 504.
fn gateway_timeout(is_cacheable: bool) -> Ready {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let told = Told { is_cacheable, ..Told::miss(Fwd::Request, Reason::OnlyIfCached) };
    Ready { response, encoded: None, told }
}

impl Told {
    pub(super) const fn hit(source: HitSource) -> Self {
        Self { source: Some(source), ..Self::new(crate::telemetry::CacheStatus::Hit) }
    }

    pub(super) const fn stale(reason: Reason) -> Self {
        Self {
            source: Some(HitSource::Stale),
            reason: Some(reason),
            ..Self::new(crate::telemetry::CacheStatus::Stale)
        }
    }

    pub(super) const fn miss(fwd: Fwd, reason: Reason) -> Self {
        Self { fwd: Some(fwd), reason: Some(reason), ..Self::new(crate::telemetry::CacheStatus::Miss) }
    }
}
