//! The way to the backend and back: what the request looks like out there, and what its answer means for the cache.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery};

use super::{
    exchange::Exchange,
    fill::{self, Limited},
    journal::Journal,
    lookup::serve,
    pipeline::Outcome,
    respond::Told,
};
use crate::{
    cache::{
        Entry, Lead, Lookup, Turn, cookie_values,
        rfc9111::{
            Failure, Merge, RequestHead, Times, head_contradicts, make_conditional, make_unconditional,
            may_serve_on_failure, merge, normal_encoding,
        },
    },
    net::{Body, Refusal, headers},
    telemetry::{CacheStatus, Fwd, Reason},
    upstream::{Call, Error, Reply, Timing},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a fetch is for.
pub(super) struct Plan {
    /// What the cache has on it; none when the cache takes no part.
    pub(super) lookup: Option<Lookup>,
    /// The duty towards those who wait for the same answer.
    pub(super) lead: Option<Lead>,
    pub(super) reason: Option<Reason>,
    status: CacheStatus,
    fwd: Fwd,
}

impl Plan {
    pub(super) const fn bypass(reason: Reason) -> Self {
        Self { lookup: None, lead: None, reason: Some(reason), status: CacheStatus::Bypass, fwd: Fwd::Bypass }
    }

    pub(super) const fn method() -> Self {
        Self {
            lookup: None,
            lead: None,
            reason: Some(Reason::Method),
            status: CacheStatus::Bypass,
            fwd: Fwd::Method,
        }
    }

    pub(super) const fn lookup(found: Lookup, reason: Reason) -> Self {
        let fwd = match reason {
            Reason::Absent => Fwd::UriMiss,
            Reason::Vary => Fwd::VaryMiss,
            Reason::ClientNoCache => Fwd::Request,
            Reason::Expired | Reason::NoCache => Fwd::Stale,
            _ => Fwd::Miss,
        };
        Self { lookup: Some(found), lead: None, reason: Some(reason), status: CacheStatus::Miss, fwd }
    }

    pub(super) fn entry(&self) -> Option<&Arc<Entry>> {
        self.lookup.as_ref().and_then(|lookup| lookup.entry.as_ref())
    }

    fn told(&self) -> Told {
        if self.reason == Some(Reason::HitForMiss) {
            return Told { fwd: Some(Fwd::Bypass), reason: self.reason, ..Told::new(CacheStatus::Bypass) };
        }
        Told { fwd: Some(self.fwd), reason: self.reason, ..Told::new(self.status) }
    }
}

/// Fetches the answer. What may be kept of it is kept on its way to the client.
pub(super) async fn fetch(exchange: &mut Exchange, mut plan: Plan) -> Result<Outcome, Refusal> {
    exchange.told = plan.told();
    let entry = plan.entry().filter(|_| plan.reason != Some(Reason::ClientNoCache)).cloned();
    // The client's own fields are needed again where an answer from the store may come of this.
    let is_kept = plan.lookup.is_some() && (entry.is_some() || exchange.route.policy.has_rule());
    let original = is_kept.then(|| (exchange.parts.headers.clone(), exchange.parts.uri.clone()));
    prepare(exchange, plan.lookup.is_some(), entry.as_deref());
    let generation = exchange.ingress().cache.generation();
    let sent_ms = exchange.ingress().clock.now_ms();
    let mut result = call(exchange).await;
    let mut times = times(exchange, sent_ms);
    if let (Some(entry), Ok(reply)) = (&entry, &result)
        && reply.response.status() == StatusCode::NOT_MODIFIED
    {
        let sent = sent_head(exchange);
        match merge(&sent, &entry.stored(), reply.response.headers(), times, &exchange.route.policy) {
            Merge::Refetch => {
                make_unconditional(&mut exchange.parts.headers);
                result = call(exchange).await;
                times = self::times(exchange, times.received_ms);
            }
            merged => {
                let fresh = fill::revalidated(exchange, entry, merged, generation, plan.lead.take());
                restore(exchange, original);
                return Ok(validated(exchange, &fresh));
            }
        }
    }
    let failure = match &result {
        Ok(reply) => Some(Failure::Status(reply.response.status())),
        Err(error) => error.is_disconnect().then_some(Failure::Disconnect),
    };
    if let (Some(entry), Some(failure)) = (&entry, failure)
        && let Some(reason) = may_serve_on_failure(entry.meta(), times.received_ms, failure)
    {
        restore(exchange, original);
        let fwd_status = result.ok().map(|reply| reply.response.status().as_u16());
        let told = Told { fwd: Some(Fwd::Stale), fwd_status, ..Told::stale(reason) };
        return Ok(serve(exchange, entry, told));
    }
    let reply = match result {
        Ok(reply) => reply,
        Err(error) => return Err(refusal_of(&error)),
    };
    if let Some(entry) = &entry {
        judge_head(exchange, entry, &reply, times.received_ms);
    }
    let fwd_status = plan.lookup.is_some().then(|| reply.response.status().as_u16());
    let told = Told { fwd_status, ..exchange.told };
    let storable = fill::storable(exchange, &reply, times);
    restore(exchange, original);
    let fetched = fill::Fetched { reply, times, generation, told, storable };
    let (mut response, told) = fill::keep(exchange, plan.lookup, plan.lead, fetched);
    let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    headers::strip_hop_by_hop(response.headers_mut());
    if is_tunnel {
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok((response, told))
}

/// Refreshes an entry behind the answer that was served from it. At most one request does so at a time.
pub(super) fn refresh(exchange: &Exchange, found: &Lookup) {
    let ingress = &exchange.core.ingress;
    let now_ms = ingress.clock.now_ms();
    let Turn::Lead(lead) = ingress.cache.join(found, &exchange.parts.headers, now_ms) else { return };
    let mut background = Exchange {
        core: Arc::clone(&exchange.core),
        journal: Journal::silent(&exchange.core),
        route: Arc::clone(&exchange.route),
        parts: exchange.parts.clone(),
        body: Body::Empty,
        client: exchange.client,
        is_trusted_peer: exchange.is_trusted_peer,
        interim: None,
        trace: exchange.trace,
        request_id: exchange.request_id.clone(),
        told: exchange.told,
    };
    background.parts.method = Method::GET;
    let found = ingress.cache.lookup(super::lookup::key_of(&background), &background.parts.headers, now_ms);
    ingress.drain.spawn(async move {
        let plan = Plan { lead: Some(lead), ..Plan::lookup(found, Reason::Expired) };
        if let Ok((response, _)) = fetch(&mut background, plan).await {
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.chunk().await {}
        }
    });
}

async fn call(exchange: &mut Exchange) -> Result<Reply, Error> {
    let body = match std::mem::take(&mut exchange.body) {
        body if body.exact_len().is_some() => body,
        body => Body::from_body(Limited::new(body, exchange.route.body)),
    };
    let call = Call {
        body,
        interim: exchange.interim.clone(),
        first_byte: exchange.route.first_byte,
        bulkhead: exchange.route.bulkhead.clone(),
    };
    let mut timing = Timing::default();
    let result = exchange.core.client.call(&exchange.parts, call, &mut timing).await;
    if let Some(parts) = exchange.journal.parts() {
        let micros = |time: std::time::Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        parts.queue_us += micros(timing.queue);
        parts.connect_us += micros(timing.connect);
        parts.backend_us += micros(timing.backend);
    }
    result
}

/// Turns the request as received into the request as it goes out.
fn prepare(exchange: &mut Exchange, may_fill: bool, entry: Option<&Entry>) {
    let has_rule = exchange.route.policy.has_rule();
    let map = &mut exchange.parts.headers;
    let is_upgrade = headers::is_websocket_upgrade(map)
        && exchange.parts.method == Method::GET
        && exchange.parts.version == http::Version::HTTP_11
        && exchange.body.is_empty();
    if exchange.is_trusted_peer && !(may_fill && has_rule) {
        headers::strip_hop_by_hop(map);
    } else {
        headers::strip_untrusted(map);
    }
    if !map.contains_key(header::HOST) {
        // HTTP/1.0 may leave it out; what we speak to the backend may not.
        map.insert(header::HOST, exchange.core.client.upstream().authority().clone());
    }
    headers::set_forwarding(map, exchange.client, exchange.is_trusted_peer);
    if let Ok(trace) = HeaderValue::from_bytes(exchange.trace.next_hop().header().as_bytes()) {
        map.insert(TRACEPARENT, trace);
    }
    map.insert(X_REQUEST_ID, exchange.request_id.clone());
    if is_upgrade {
        map.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    match entry {
        Some(entry) => make_conditional(map, &entry.stored()),
        None if may_fill && has_rule && !map.contains_key(header::RANGE) => make_unconditional(map),
        None => {}
    }
    if may_fill && has_rule {
        keep_keyed_only(exchange);
    }
}

/// What is not in the key does not reach the backend on a fetch that fills: it could shape the copy that others get.
fn keep_keyed_only(exchange: &mut Exchange) {
    let rule = &exchange.route.key;
    let map = &mut exchange.parts.headers;
    let is_public = exchange.route.policy.rule.as_ref().is_some_and(|rule| rule.public);
    if map.contains_key(header::COOKIE) {
        let kept: Vec<Vec<u8>> = rule
            .cookies
            .iter()
            .flat_map(|name| {
                cookie_values(map, name)
                    .map(|value| [name.as_bytes(), b"=", value].concat())
                    .collect::<Vec<_>>()
            })
            .collect();
        map.remove(header::COOKIE);
        if !kept.is_empty()
            && let Ok(cookie) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
        {
            map.insert(header::COOKIE, cookie);
        }
    }
    if is_public {
        map.remove(header::AUTHORIZATION);
    }
    if let Some(encoding) = normal_encoding(map) {
        map.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
    }
    let uri = &exchange.parts.uri;
    let query = uri.query().map(str::as_bytes);
    let kept = rule.query.for_backend(query);
    if kept.as_deref() != query {
        let target = match kept {
            Some(kept) => [uri.path().as_bytes(), b"?", &kept].concat(),
            None => uri.path().as_bytes().to_vec(),
        };
        if let Ok(target) = PathAndQuery::from_maybe_shared(Bytes::from(target)) {
            exchange.parts.uri = Uri::from(target);
        }
    }
}

fn restore(exchange: &mut Exchange, original: Option<(HeaderMap, Uri)>) {
    if let Some((headers, uri)) = original {
        exchange.parts.headers = headers;
        exchange.parts.uri = uri;
    }
}

/// The request as it was sent: whole, under conditions of ours.
pub(super) fn sent_head(exchange: &Exchange) -> RequestHead<'_> {
    let head = exchange.head();
    if exchange.route.policy.has_rule() { head.for_whole() } else { head }
}

fn times(exchange: &Exchange, sent_ms: u64) -> Times {
    let clock = &exchange.ingress().clock;
    Times { sent_ms, received_ms: clock.now_ms(), received_unix: clock.wall_s() }
}

/// The answer from a copy that the backend has just confirmed.
fn validated(exchange: &Exchange, fresh: &fill::Revalidated) -> Outcome {
    let told = Told {
        fwd: Some(Fwd::Stale),
        fwd_status: Some(304),
        reason: fresh.reason,
        ..Told::new(CacheStatus::Revalidated)
    };
    serve(exchange, &fresh.entry, told)
}

/// RFC 9111 section 4.3.5: a HEAD whose fields differ from the stored ones shows that the copy is out of date.
fn judge_head(exchange: &Exchange, entry: &Arc<Entry>, reply: &Reply, now_ms: u64) {
    if exchange.parts.method == Method::HEAD {
        let response = crate::cache::rfc9111::ResponseHead {
            status: reply.response.status(),
            headers: reply.response.headers(),
        };
        if head_contradicts(&entry.stored(), &response) {
            fill::expire(exchange, entry, now_ms);
        }
    }
}

fn refusal_of(error: &Error) -> Refusal {
    tracing::debug!(%error, "no answer from the backend");
    error.refusal()
}
