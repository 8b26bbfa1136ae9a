//! `answers.on_refusal: escalate`: a call that a cheaper model refuses to answer is made once more, as the client's own
//! model would have got it, and only that answer is seen.
//!
//! What the client has begun to read cannot be taken back. So the answer of a cheaper model is held: a whole one to its end,
//! a stream until its first words or call of a tool, and no longer than `timeouts.idle`, which is a pause that a stream may
//! have anyway. Where it cannot be followed, or more comes than may be held, it goes on as it is. If the second call fails,
//! or a budget forbids it, the client gets the refusal. Both calls are in the books.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::{
    held::{self, Rest},
    outgoing::Changes,
    pipeline::record,
    plan,
    relay::{Relay, is_event_stream},
    send::{self, Outgoing, Ready, Sent},
    usage::{MAX_WHOLE, Seen, StopReason},
};
use crate::{
    config::Transforms,
    net::{Body, Chunks},
    telemetry::{claude::RoutingReason, record::Outcome},
};

/// The most bytes of a stream that are held: thinking, mostly.
const MOST_HELD: usize = 1 << 20;

/// How long the end of a body is waited for once its stream has said the last word.
const END: Duration = Duration::from_millis(100);

/// The answer to a call that may be escalated: the one that came, or that of the client's own model.
pub(super) async fn answer(ready: &Ready, sent: Sent) -> Response<Body> {
    let retries = sent.retries;
    let (parts, relay) = send::head(&ready.books, sent.reply);
    if parts.status != StatusCode::OK {
        return Response::from_parts(parts, Body::of(relay));
    }
    let is_stream = is_event_stream(&parts.headers);
    match hold(relay, is_stream, ready.rules.config.timeouts.idle).await {
        Held::Passes(bytes, rest) => Response::from_parts(parts, held::join(bytes, rest)),
        Held::Over(bytes, seen) => {
            let is_too_late = is_stream && seen.has_content;
            let escalates = seen.stop_reason == Some(StopReason::Refusal) && !seen.is_lost && !is_too_late;
            // Should the client leave, this is what was used.
            ready.books.seen((*seen).clone());
            let answered = if escalates { again(ready, *seen, retries).await } else { None };
            answered.unwrap_or_else(|| Response::from_parts(parts, Body::full(bytes)))
        }
    }
}

/// What came of an answer that was held.
enum Held {
    /// It goes to the client as it comes.
    Passes(Bytes, Rest),
    /// All of it is here.
    Over(Bytes, Box<Seen>),
}

async fn hold(mut relay: Relay, is_stream: bool, patience: Duration) -> Held {
    let mut deadline = Instant::now() + patience;
    let mut all = BytesMut::new();
    loop {
        let next = std::future::poll_fn(|cx| relay.poll_chunk(cx));
        // A whole answer has no beginning that a client could already read.
        let next = if is_stream { timeout_at(deadline, next).await } else { Ok(next.await) };
        match next {
            Ok(Some(Ok(bytes))) => all.extend_from_slice(&bytes),
            Ok(Some(Err(error))) => return Held::Passes(all.freeze(), Rest::Broken(error)),
            Ok(None) => break,
            Err(_) if relay.is_ended() => break,
            Err(_) => return Held::Passes(all.freeze(), Rest::More(Body::of(relay))),
        }
        let most = if is_stream { MOST_HELD } else { MAX_WHOLE };
        if relay.has_content() || relay.is_lost() || all.len() > most {
            return Held::Passes(all.freeze(), Rest::More(Body::of(relay)));
        }
        if relay.is_ended() {
            deadline = deadline.min(Instant::now() + END);
        }
    }
    Held::Over(all.freeze(), Box::new(relay.close()))
}

/// Makes the call as the client's own model would have got it. None where that gives no good answer.
async fn again(ready: &Ready, seen: Seen, retries: u8) -> Option<Response<Body>> {
    let Ready { core, rules, begun, asked, books, .. } = ready;
    let reserved = plan::reserve_home(ready).await?;
    let home = plan::home(ready);
    let outgoing = Outgoing {
        parts: &begun.parts,
        retries_itself: begun.head.retries_itself,
        body: if home.is_none() { asked.body.clone() } else { home.apply(rules, asked) },
        own: (!home.is_none()).then(|| asked.body.clone()),
        neighbour: None,
        is_stream: asked.message.parameters.is_stream,
        interim: None,
    };
    let sent = send::send(core, rules, &outgoing).await.ok();
    let Some(sent) = sent.filter(|sent| sent.reply.response.status() == StatusCode::OK) else {
        core.claude.settle(reserved, 0);
        return None;
    };
    core.claude.stats.note(|totals| *totals.fallbacks.entry("refusal").or_default() += 1);
    close_first(ready, seen, retries);
    let home = if sent.fell_back.is_some() { Changes::default() } else { home };
    plan::settle_home(ready, &home, reserved);
    books.note(|call| call.retries = sent.retries);
    let (parts, relay) = send::head(books, sent.reply);
    Some(Response::from_parts(parts, Body::of(relay)))
}

/// Puts what the first call has used into a record of its own, and makes the call's that of its second.
fn close_first(ready: &Ready, seen: Seen, retries: u8) {
    let Ready { rules, begun, asked, books, .. } = ready;
    let mut first = record(rules, rules.route_at(begun.route), begun);
    let requested = rules.index(&asked.message.model);
    books.note(|call| {
        first.model = Arc::clone(&call.model);
        first.requested = Arc::clone(&call.requested);
        (first.tier, first.wanted, first.reason) = (call.tier, call.wanted, call.reason);
        (first.status, first.outcome) = (call.status, Outcome::Done);
        (first.transforms, first.is_stream, first.identity) =
            (call.transforms, call.is_stream, call.identity);
        (first.retries, first.overhead_us) = (retries, call.overhead_us);
        first.first_byte_us = call.first_byte_us.take();
        call.model = Arc::clone(rules.label(requested));
        call.tier = rules.tier_of(&asked.message.model);
        call.reason = RoutingReason::Escalated;
        call.transforms = Transforms::NONE;
    });
    books.split(first, seen);
}
