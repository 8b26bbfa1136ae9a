//! The way to the backend and back: ask; not modified? failed? else keep what may be kept.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode, header};

use super::{
    exchange::Exchange,
    fill::{self, Fetched, Limited},
    observe,
    outbound::Outbound,
    respond::{self, Ready, Told, stored},
};
use crate::{
    cache::{
        Entry, Generation, Lead, Lookup, Turn,
        rfc9111::{
            Failure, Merge, RequestHead, ResponseHead, Times, head_contradicts, is_refresh_due,
            make_unconditional, may_serve_on_failure, merge,
        },
    },
    net::{Body, BodyError, Refusal},
    telemetry::{CacheStatus, Fwd, Reason},
    upstream::{Call, Error, Timing},
};

/// How long a connection may take to notice that its client has left.
const NOTICE: Duration = Duration::from_secs(1);

/// What a fetch is for.
pub(super) struct Plan {
    /// What the cache has on it; none when the cache takes no part.
    pub(super) lookup: Option<Lookup>,
    /// The copy that the backend is asked to confirm.
    pub(super) base: Option<Arc<Entry>>,
    /// The duty towards those who wait for the same answer.
    pub(super) lead: Option<Lead>,
    pub(super) reason: Option<Reason>,
    status: CacheStatus,
    fwd: Fwd,
}

impl Plan {
    pub(super) const fn bypass(reason: Reason) -> Self {
        let (status, fwd) = (CacheStatus::Bypass, Fwd::Bypass);
        Self { lookup: None, base: None, lead: None, reason: Some(reason), status, fwd }
    }

    pub(super) const fn method() -> Self {
        let (status, fwd) = (CacheStatus::Bypass, Fwd::Method);
        Self { lookup: None, base: None, lead: None, reason: Some(Reason::Method), status, fwd }
    }

    pub(super) const fn lookup(found: Lookup, base: Option<Arc<Entry>>, reason: Reason) -> Self {
        let fwd = match reason {
            Reason::Absent => Fwd::UriMiss,
            Reason::Vary => Fwd::VaryMiss,
            Reason::ClientNoCache => Fwd::Request,
            Reason::Expired | Reason::NoCache => Fwd::Stale,
            _ => Fwd::Miss,
        };
        Self { lookup: Some(found), base, lead: None, reason: Some(reason), status: CacheStatus::Miss, fwd }
    }

    /// Whether an answer has been kept before, which without a rule was the backend's wish.
    fn is_known(&self) -> bool {
        self.lookup.as_ref().is_some_and(|lookup| lookup.entry.is_some())
            || matches!(self.reason, Some(Reason::Vary | Reason::Purged | Reason::Expired))
    }

    fn told(&self) -> Told {
        if self.reason == Some(Reason::HitForMiss) {
            return Told { fwd: Some(Fwd::Bypass), reason: self.reason, ..Told::new(CacheStatus::Bypass) };
        }
        Told { fwd: Some(self.fwd), reason: self.reason, ..Told::new(self.status) }
    }
}

/// Fetches the answer. What may be kept of it is kept on its way to the client.
pub(super) async fn fetch(exchange: &mut Exchange, mut plan: Plan) -> Result<Ready, Refusal> {
    let is_cacheable = exchange.route.policy.has_rule() || plan.is_known();
    exchange.told = Told { is_cacheable, ..plan.told() };
    let mut outbound = Outbound::new(exchange, &plan);
    let generation = exchange.ingress().cache.generation();
    let mut result = ask(exchange, &outbound, generation).await;
    if let (Some(base), Ok(fetched)) = (&plan.base, &result)
        && fetched.reply.response.status() == StatusCode::NOT_MODIFIED
        && exchange.posted.is_none()
    {
        match confirm(exchange, &outbound, base, fetched) {
            Merge::Refetch => {
                outbound.make_unconditional();
                result = ask(exchange, &outbound, generation).await;
            }
            merged => return Ok(fill::revalidated(exchange, base, merged, fetched, plan.lead.take())),
        }
    }
    if let Some(ready) = stale_instead(exchange, &mut plan, &result) {
        return Ok(ready);
    }
    let mut fetched = match result {
        Ok(fetched) => fetched,
        Err(error) => {
            let refusal = refuse(&error).await;
            return Err(if exchange.ingress().drain.is_draining() { on_leaving(refusal) } else { refusal });
        }
    };
    observe::answered(exchange, &outbound, &mut fetched);
    judge_head(exchange, &plan, &fetched);
    fetched.told = Told { fwd_status: plan.lookup.as_ref().map(|_| fetched.status()), ..exchange.told };
    let mut ready = fill::keep(exchange, &outbound, plan, fetched);
    respond::clean(exchange, &mut ready.response);
    if ready.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        ready.response.headers_mut().insert(header::UPGRADE, http::HeaderValue::from_static("websocket"));
    }
    Ok(ready)
}

/// Refreshes an entry that is still fresh, if chance will have it so: the more requests it serves, the sooner before its
/// end one of them does.
pub(super) fn refresh_early(exchange: &Exchange, found: &Lookup, now_ms: u64) {
    let policy = &exchange.route.policy;
    let is_due = |entry: &Arc<Entry>| {
        is_refresh_due(entry.meta(), entry.fetch_ms(), now_ms, (exchange.ingress().chance)(), policy)
    };
    if found.entry.as_ref().is_some_and(is_due) {
        refresh(exchange, found);
    }
}

/// Refreshes an entry behind the answer that was served from it. At most one request does so at a time.
pub(super) fn refresh(exchange: &Exchange, found: &Lookup) {
    let ingress = exchange.ingress();
    let now_ms = ingress.clock.now_ms();
    let Turn::Lead(mut lead) = ingress.cache.join(found, &exchange.parts.headers, now_ms) else { return };
    let mut background = exchange.background();
    if exchange.posted.is_none() {
        background.parts.method = Method::GET;
    }
    // What this client wished of its own answer says nothing about the copy.
    make_unconditional(&mut background.parts.headers);
    background.parts.headers.remove(header::CACHE_CONTROL);
    background.parts.headers.remove(header::PRAGMA);
    let (found, core, life) = (found.clone(), Arc::clone(&exchange.core), exchange.lease_life());
    ingress.drain.spawn(async move {
        let headers = background.parts.headers.clone();
        if let Some(entry) = core.ingress.cache.lease(&mut lead, &found, &headers, life).await {
            lead.publish(entry);
            return;
        }
        let base = found.entry.clone();
        let plan = Plan { lead: Some(lead), ..Plan::lookup(found, base, Reason::Expired) };
        if let Ok(ready) = fetch(&mut background, plan).await {
            // The copy is made as the body is read.
            let mut body = ready.response.into_body();
            let reading = async { while let Some(Ok(_)) = body.chunk().await {} };
            let _ = tokio::time::timeout(fill::BACKGROUND, reading).await;
        }
    });
}

pub(super) async fn ask(
    exchange: &mut Exchange,
    outbound: &Outbound,
    generation: Generation,
) -> Result<Fetched, Error> {
    let body = match std::mem::take(&mut exchange.body) {
        body if body.exact_len().is_some() => body,
        body => Body::of(Limited::new(body, exchange.route.body)),
    };
    let call = Call {
        body,
        interim: exchange.interim.clone(),
        first_byte: exchange.route.first_byte,
        bulkhead: exchange.route.bulkhead.clone(),
        is_fresh: false,
    };
    let clock = exchange.ingress().clock;
    let mut timing = Timing::default();
    // Times matter only to what may be stored.
    let sent_ms = if outbound.may_fill { clock.now_ms() } else { 0 };
    let introduction = exchange.introduction();
    let result = exchange.core.client.call(outbound.head(exchange, &introduction), call, &mut timing).await;
    if let Some(parts) = exchange.journal.parts() {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        parts.queue_us += micros(timing.queue);
        parts.connect_us += micros(timing.connect);
        parts.backend_us += micros(timing.backend);
    }
    let times = if outbound.may_fill {
        Times { sent_ms, received_ms: clock.now_ms(), received_unix: clock.wall_s() }
    } else {
        Times { sent_ms, received_ms: sent_ms, received_unix: 0 }
    };
    result.map(|reply| Fetched { reply, times, generation, told: exchange.told })
}

/// What the client is told of a failure. To one that left in the middle of its body there is nothing to tell: its
/// connection notices, and drops this request.
pub(super) async fn refuse(error: &Error) -> Refusal {
    tracing::debug!(%error, "no answer from the backend");
    if matches!(error, Error::RequestBody(BodyError::ClientGone)) {
        tokio::time::sleep(NOTICE).await;
    }
    error.refusal()
}

/// What the client is told while the process leaves: a backend that has gone before it is no fault, and another replica
/// has one. The request was not sent, so any method may be tried there.
const fn on_leaving(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::ConnectFailed | Refusal::ConnectTimeout | Refusal::BreakerOpen => Refusal::Draining,
        other => other,
    }
}

/// What a 304 makes of the copy. A HEAD confirms the copy of the GET as well (RFC 9111 section 4.3.5).
fn confirm(exchange: &Exchange, outbound: &Outbound, base: &Arc<Entry>, fetched: &Fetched) -> Merge {
    let sent = outbound.as_sent(exchange);
    let as_get = RequestHead::new(&Method::GET, sent.authority, sent.target, sent.headers);
    let as_get = exchange.identified(as_get);
    merge(&as_get, &base.stored(), fetched.reply.response.headers(), fetched.times, &exchange.route.policy)
}

/// The stale copy in place of a failure, where that is permitted (RFC 9111 section 4.2.4, RFC 5861 section 4). Those who
/// wait for the same answer get it too.
fn stale_instead(exchange: &Exchange, plan: &mut Plan, result: &Result<Fetched, Error>) -> Option<Ready> {
    let base = plan.base.as_ref()?;
    let failure = match result {
        Ok(fetched) => Failure::Status(fetched.reply.response.status()),
        Err(error) => error.is_disconnect().then_some(Failure::Disconnect)?,
    };
    let now_ms = exchange.ingress().clock.now_ms();
    let reason = may_serve_on_failure(base.meta(), now_ms, failure)?;
    if let Some(lead) = plan.lead.take() {
        lead.publish(Arc::clone(base));
    }
    let fwd_status = result.as_ref().ok().map(Fetched::status);
    let told = Told { fwd: Some(Fwd::Stale), fwd_status, ..Told::stale(reason) };
    Some(stored(exchange, &exchange.head(), base, now_ms, told))
}

/// RFC 9111 section 4.3.5: a HEAD whose fields differ from the stored ones shows that the copy is out of date.
fn judge_head(exchange: &Exchange, plan: &Plan, fetched: &Fetched) {
    let entry = plan.lookup.as_ref().and_then(|lookup| lookup.entry.as_ref());
    if let Some(entry) = entry.filter(|_| exchange.parts.method == Method::HEAD) {
        let response = &fetched.reply.response;
        let head = ResponseHead { status: response.status(), headers: response.headers() };
        if head_contradicts(&entry.stored(), &head) {
            fill::expire(exchange, entry, fetched.times.received_ms);
        }
    }
}
