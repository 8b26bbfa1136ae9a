//! The way of a call, on one screen.
//!
//! ```text
//! begin -> read? -> decide -> kept? -> budget -> change -> send -> relay -> echo? -> books
//!            |                                               ^
//!            +-- unread, or no call of a model --------------+
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, request, uri::PathAndQuery};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Core,
    answers::{self, Kept, Lead, Place, Waiting},
    asked::{self, Endpoint, Head, Read},
    batch,
    books::{Books, Journal, unix_now},
    budget::{Charged, Reserved},
    echo,
    error::CallError,
    outgoing::Changes,
    plan::{Case, decide_call, plan, reserve, settle},
    rules::{Route, Rules},
    send::{self, Outgoing, Ready},
    shared,
};
use crate::{
    config::{AnswerHeaders, ClaudeMode, ModelTier, Transforms},
    net::{Answer, Body, BodyError, Context, InterimSink, Refusal, headers},
    telemetry::{
        SpanIds, Trace,
        claude::{Call, RoutingReason},
        record::Outcome,
    },
    upstream::{self, Timing},
};

/// One call on its way.
pub(super) struct Begun {
    pub(super) parts: request::Parts,
    pub(super) head: Head,
    pub(super) route: usize,
    started: Instant,
    interim: Option<Arc<dyn InterimSink>>,
}

/// Serves one request of the backend.
pub(super) async fn serve(core: &Arc<Core>, request: Request<Body>, context: Context) -> Answer<Journal> {
    let rules = core.claude.rules.load_full();
    let (begun, body) = begin(core, &rules, request, context);
    match Endpoint::of(&begun.parts.method, begun.parts.uri.path()) {
        Endpoint::Other => pass(core, &begun, body).await,
        Endpoint::Batches => batch::serve(core, &rules, &begun, body).await,
        Endpoint::CountTokens => count_tokens(core, &rules, begun, body).await,
        Endpoint::Messages => call(core, &rules, begun, body).await,
    }
}

/// Answers what never became a request.
pub(super) fn refuse(core: &Core, refusal: Refusal) -> Answer<Journal> {
    core.claude.listener.refusals.increment(refusal.as_str());
    Answer::new(CallError::Refused(refusal).response(), Journal::new(core, None))
}

/// Takes off what speaks of one connection and what is ours, and finds the route.
pub(super) fn begin(core: &Core, rules: &Rules, request: Request<Body>, context: Context) -> (Begun, Body) {
    let (mut parts, body) = request.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    let head = Head::take(&mut parts.headers, &core.claude.key);
    if head.has_bad_override {
        core.claude.stats.note(|totals| totals.bad_overrides += 1);
    }
    let (route, rest) = rules.route(parts.uri.path());
    if rest.len() != parts.uri.path().len() {
        let target = parts.uri.query().map_or_else(|| rest.to_owned(), |query| format!("{rest}?{query}"));
        // A path that was valid stays so from one of its slashes on.
        parts.uri = PathAndQuery::from_maybe_shared(Bytes::from(target)).map_or(parts.uri, Uri::from);
    }
    parts.headers.insert(header::HOST, core.client.upstream().authority().clone());
    if let Some(key) = &rules.api_key {
        parts.headers.remove(header::AUTHORIZATION);
        parts.headers.insert("x-api-key", key.clone());
    }
    (Begun { parts, head, route, started: context.started, interim: context.interim }, body)
}

/// A request that is no call of a model: it streams through.
async fn pass(core: &Arc<Core>, begun: &Begun, body: Body) -> Answer<Journal> {
    let journal = Journal::new(core, None);
    match send_once(core, begun, body).await {
        Ok(response) => Answer::new(response, journal),
        Err(error) => refused(core, &error, journal),
    }
}

/// A count of tokens, asked of the model that a call would get.
async fn count_tokens(core: &Arc<Core>, rules: &Arc<Rules>, begun: Begun, body: Body) -> Answer<Journal> {
    let journal = Journal::new(core, None);
    let read = match asked::read(body, &begun.head, &rules.config.inspect, &core.claude.key).await {
        Ok(read) => read,
        Err(error) => return refused(core, &received(error).await, journal),
    };
    let counted = match read {
        Read::Unread(body, _) => send_once(core, &begun, body).await,
        Read::Asked(asked) => {
            let case = Case { core, rules, begun: &begun, asked: &asked };
            shared::adopt(&case).await;
            let decision = decide_call(&case, None).decision;
            let (model, transforms) = (decision.model, decision.transforms);
            let changes = Changes { model, transforms, ..Changes::default() };
            let changes = if case.acts() { changes } else { Changes::default() };
            if changes.is_none() {
                send_once(core, &begun, Body::full(asked.body.clone())).await
            } else {
                let (body, own) = (changes.apply(rules, &asked), asked.body.clone());
                send_changed(core, rules, &begun, Changed { body, own, is_repeated: true }).await
            }
        }
    };
    match counted {
        Ok(response) => Answer::new(response, journal),
        Err(error) => refused(core, &error, journal),
    }
}

/// A body that was changed, of what is no call of a model.
pub(super) struct Changed {
    pub(super) body: Bytes,
    /// The client's own.
    pub(super) own: Bytes,
    /// Whether it may be sent again where there was no answer or a failure.
    pub(super) is_repeated: bool,
}

/// Sends what was changed, and the client's own bytes where the API refuses the change.
pub(super) async fn send_changed(
    core: &Core,
    rules: &Rules,
    begun: &Begun,
    Changed { body, own, is_repeated }: Changed,
) -> Result<Response<Body>, CallError> {
    let outgoing = Outgoing {
        parts: &begun.parts,
        retries_itself: begun.head.retries_itself || !is_repeated,
        body,
        own: Some(own),
        neighbour: None,
        is_stream: false,
        interim: begun.interim.clone(),
    };
    let mut response = send::send(core, rules, &outgoing).await?.reply.response;
    headers::strip_hop_by_hop(response.headers_mut());
    Ok(response)
}

/// A call of a model.
async fn call(core: &Arc<Core>, rules: &Arc<Rules>, mut begun: Begun, body: Body) -> Answer<Journal> {
    let route = rules.route_at(begun.route);
    let books = Books::open(core, rules, record(rules, route, &begun));
    let journal = Journal::new(core, Some(books.clone()));
    let read = match asked::read(body, &begun.head, &rules.config.inspect, &core.claude.key).await {
        Ok(read) => read,
        Err(error) => return lost(core, &books, &received(error).await, journal),
    };
    let asked = match read {
        Read::Asked(asked) => asked,
        Read::Unread(body, reason) => {
            return unread(core, rules, &begun, (body, reason), (books, journal)).await;
        }
    };
    let working = Instant::now();
    let case = Case { core, rules, begun: &begun, asked: &asked };
    let plan = plan(&case, &books).await;
    books.note(|call| call.overhead_us = micros(working.elapsed().saturating_sub(plan.judged)));
    let interim = begun.interim.take();
    let (core, rules, names) = (Arc::clone(core), Arc::clone(rules), names_decisions(rules, route));
    let ready = Arc::new(Ready { core, rules, begun, asked, plan, books });
    match answer_to(&ready, interim).await {
        Ok(response) => {
            let mut response = match renamed(&ready) {
                Some(requested) => echo::rename(response, requested).await,
                None => response,
            };
            if names {
                tell(&mut response, &ready.books, Some(&ready.asked.message.model));
            }
            Answer::new(response, journal)
        }
        Err(error) => lost(&ready.core, &ready.books, &error, journal),
    }
}

/// The name to put back into the answer, where another model gave it and the client is not to see that.
fn renamed(ready: &Ready) -> Option<&str> {
    let mut is_moved = false;
    ready.books.note(|call| is_moved = call.model != call.requested);
    (is_moved && ready.rules.config.answers.echo_model).then_some(&ready.asked.message.model)
}

/// The answer to a decided call: a kept one, that of an identical call in flight, or its own.
async fn answer_to(
    ready: &Arc<Ready>,
    interim: Option<Arc<dyn InterimSink>>,
) -> Result<Response<Body>, CallError> {
    let Some(key) = ready.plan.key else { return alone(ready, interim).await };
    let answers = &ready.core.claude.answers;
    let settings = &ready.rules.config.response_cache;
    if settings.enabled
        && let Some(kept) = answers.find(&key)
    {
        return Ok(given(ready, &kept, "hit"));
    }
    if settings.single_flight {
        match answers.join(key) {
            Place::Leads(lead, waiting) => return for_all(ready, lead, waiting).await,
            Place::Follows(waiting) => {
                if let Some(kept) = waiting.shared(ready.rules.config.timeouts.total).await {
                    return Ok(given(ready, &kept, "joined"));
                }
            }
        }
    }
    let response = alone(ready, interim).await?;
    if !settings.enabled {
        return Ok(response);
    }
    Ok(answers::keeping(answers, key, response, &ready.books))
}

/// Makes a call for itself.
async fn alone(ready: &Ready, interim: Option<Arc<dyn InterimSink>>) -> Result<Response<Body>, CallError> {
    reserve(ready).await?;
    send::fetch(ready, interim).await
}

/// Makes a call for all who wait for its answer, in a task of its own: whoever leaves takes it away from nobody. When all
/// have left, it ends.
async fn for_all(ready: &Arc<Ready>, lead: Lead, waiting: Waiting) -> Result<Response<Body>, CallError> {
    reserve(ready).await?;
    let (tx, rx) = oneshot::channel();
    let ready = Arc::clone(ready);
    let drain = ready.core.claude.drain.clone();
    drain.spawn(async move {
        let fetching = async {
            match send::fetch(&ready, None).await {
                Ok(response) => {
                    let (response, kept) = answers::take_whole(response, &ready.books).await;
                    (Ok(response), kept)
                }
                Err(error) => (Err(error), None),
            }
        };
        let (response, kept) = tokio::select! {
            fetched = fetching => fetched,
            () = lead.deserted() => return,
        };
        match kept.map(Arc::new) {
            Some(kept) => {
                if let Some(key) = ready.plan.key.filter(|_| ready.rules.config.response_cache.enabled) {
                    ready.core.claude.answers.keep(key, Arc::clone(&kept));
                }
                lead.share(kept);
            }
            None => drop(lead),
        }
        // Its own client may have left.
        let _ = tx.send(response);
    });
    let response = rx.await;
    drop(waiting);
    response.unwrap_or(Err(CallError::Unreachable))
}

/// Another call's answer. It used nothing and cost nothing.
fn given(ready: &Ready, kept: &Kept, status: &'static str) -> Response<Body> {
    settle(ready, Reserved::default());
    ready.books.note(|call| {
        call.status = 200;
        call.is_kept = true;
        call.cost = Some(0);
        call.model = Arc::clone(&kept.model);
        call.tier = kept.tier;
    });
    ready.books.first_byte();
    kept.response(status)
}

/// A call that passes as it is: what it used is counted all the same.
async fn unread(
    core: &Arc<Core>,
    rules: &Rules,
    begun: &Begun,
    (body, reason): (Body, RoutingReason),
    (books, journal): (Books, Journal),
) -> Answer<Journal> {
    books.note(|call| call.reason = reason);
    // What it will cost is not known, but whether there is anything left to spend.
    let charged = Charged { identity: begun.head.credential, tier: None, is_serious: false, estimate: 0 };
    match core.claude.budgets.reserve(charged, unix_now()).await {
        Ok(reserved) => books.hold(reserved),
        Err(exhausted) => return lost(core, &books, &exhausted.into(), journal),
    }
    let call = upstream::Call {
        body,
        interim: begun.interim.clone(),
        first_byte: None,
        bulkhead: None,
        is_fresh: false,
    };
    match core.client.call(upstream::Head::of(&begun.parts), call, &mut Timing::default()).await {
        Ok(reply) => {
            let mut response = send::answer(&books, reply);
            if names_decisions(rules, rules.route_at(begun.route)) {
                tell(&mut response, &books, None);
            }
            Answer::new(response, journal)
        }
        Err(error) => lost(core, &books, &CallError::from(&error), journal),
    }
}

/// The record of a call at its beginning.
pub(super) fn record(rules: &Rules, route: &Route, begun: &Begun) -> Call {
    let trace = begun.parts.headers.get("traceparent").and_then(|value| Trace::parse(value.as_bytes()));
    let other = Arc::clone(rules.label(None));
    Call {
        route: Arc::clone(&route.name),
        model: Arc::clone(&other),
        requested: other,
        tier: None,
        wanted: None,
        reason: RoutingReason::Off,
        transforms: Transforms::NONE,
        status: 499,
        outcome: Outcome::ClientAbort,
        is_stream: false,
        tokens: None,
        is_estimated: false,
        cost: None,
        baseline_requested: 0,
        baseline_premium: 0,
        would_save: 0,
        breakpoint: None,
        retries: 0,
        fell_back: false,
        refused: false,
        is_kept: false,
        trimmed: 0,
        identity: None,
        started: begun.started,
        overhead_us: 0,
        first_byte_us: None,
        total_us: 0,
        trace: trace.map(|trace| trace.id).unwrap_or_default(),
        span: trace.as_ref().map(SpanIds::below).unwrap_or_default(),
    }
}

/// Sends a request that is not repeated.
pub(super) async fn send_once(core: &Core, begun: &Begun, body: Body) -> Result<Response<Body>, CallError> {
    let call = upstream::Call {
        body,
        interim: begun.interim.clone(),
        first_byte: None,
        bulkhead: None,
        is_fresh: false,
    };
    let reply = core.client.call(upstream::Head::of(&begun.parts), call, &mut Timing::default()).await;
    let mut response = reply.map_err(|error| CallError::from(&error))?.response;
    headers::strip_hop_by_hop(response.headers_mut());
    Ok(response)
}

/// Whether answers name the decision.
fn names_decisions(rules: &Rules, route: &Route) -> bool {
    match rules.config.answers.headers {
        AnswerHeaders::Auto => route.mode == ClaudeMode::Route,
        AnswerHeaders::On => true,
        AnswerHeaders::Off => false,
    }
}

/// Names tier, model and reason; of a call that was not read, only the reason.
fn tell(response: &mut Response<Body>, books: &Books, requested: Option<&str>) {
    let mut add = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    books.note(|call| {
        let word = |tier: Option<ModelTier>| tier.map(ModelTier::as_str);
        if let Some(tier) = word(call.tier) {
            add("x-touchline-tier", tier);
        }
        if let Some(requested) = requested {
            add("x-touchline-model", &call.model);
            add("x-touchline-requested-model", requested);
        }
        let mut reason = call.reason.as_str().to_owned();
        if let Some(wanted) = word(call.wanted).filter(|_| call.wanted != call.tier) {
            reason.push_str("; wanted=");
            reason.push_str(wanted);
        }
        for transform in call.transforms.iter() {
            reason.push_str("; transform=");
            reason.push_str(transform.as_str());
        }
        add("x-touchline-reason", &reason);
    });
}

/// An error of our own in the place of a call's answer.
fn lost(core: &Core, books: &Books, error: &CallError, journal: Journal) -> Answer<Journal> {
    books.note(|call| {
        call.status = error.status().as_u16();
        call.outcome = Outcome::Error(error.reason());
        if matches!(error, CallError::Budget { .. }) {
            call.reason = RoutingReason::Budget;
        }
    });
    refused(core, error, journal)
}

pub(super) fn refused(core: &Core, error: &CallError, journal: Journal) -> Answer<Journal> {
    core.claude.listener.refusals.increment(error.reason());
    Answer::new(error.response(), journal)
}

/// What the client is told when its own body failed. To one that left there is nothing to tell: its connection notices,
/// and drops this call.
pub(super) async fn received(error: BodyError) -> CallError {
    if error == BodyError::ClientGone {
        std::future::pending::<()>().await;
    }
    CallError::Refused(match error {
        BodyError::TooLarge => Refusal::BodyTooLarge,
        BodyError::TooSlow => Refusal::RequestTimeout,
        _ => Refusal::BadFraming,
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
