//! The way of a call to the API and back, until the head of an answer that the client may see: repeats of what failed,
//! and the client's own bytes where a change of ours was refused.
//!
//! <https://docs.claude.com/en/api/errors>

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header, request, response};

use super::{
    Core,
    asked::Asked,
    books::Books,
    error::CallError,
    escalate, learn,
    outgoing::Changes,
    pipeline::Begun,
    plan::{self, Plan},
    relay::Relay,
    rules::Rules,
};
use crate::{
    net::{Body, InterimSink, headers},
    upstream::{self, Call, Reply, Timing},
};

/// The status of an overloaded model, which has no name in the registry.
const OVERLOADED: u16 = 529;

/// The shortest and the longest rest before a repeat.
const REST_MS: (u64, u64) = (100, 400);

/// The longest `retry-after` of a 429 that is waited for here.
const PATIENCE: Duration = Duration::from_secs(2);

/// A decided call. It is shared with the task that makes it for several.
pub(super) struct Ready {
    pub(super) core: Arc<Core>,
    pub(super) rules: Arc<Rules>,
    pub(super) begun: Begun,
    pub(super) asked: Box<Asked>,
    pub(super) plan: Plan,
    pub(super) books: Books,
}

/// A call that may be sent more than once.
pub(super) struct Outgoing<'a> {
    pub(super) parts: &'a request::Parts,
    /// Whether the client repeats failed calls by itself.
    pub(super) retries_itself: bool,
    /// The bytes to send.
    pub(super) body: Bytes,
    /// The client's own bytes, where these are others.
    pub(super) own: Option<Bytes>,
    /// Makes the same call for a neighbouring tier, where an overloaded model may be left.
    pub(super) neighbour: Option<&'a (dyn Fn() -> Bytes + Send + Sync)>,
    pub(super) is_stream: bool,
    pub(super) interim: Option<Arc<dyn InterimSink>>,
}

/// An answer, and what it took.
pub(super) struct Sent {
    pub(super) reply: Reply,
    pub(super) retries: u8,
    /// Why the client's own bytes were sent in the end.
    pub(super) fell_back: Option<&'static str>,
    /// Whether the answer is the neighbouring tier's.
    pub(super) by_neighbour: bool,
}

/// Makes a decided call, and learns from how it went. The answer is watched on its way.
///
/// # Errors
/// When there is no answer.
pub(super) async fn fetch(
    ready: &Ready,
    interim: Option<Arc<dyn InterimSink>>,
) -> Result<Response<Body>, CallError> {
    let Ready { core, rules, begun, asked, plan, books } = ready;
    let changes = &plan.changes;
    let body = if changes.is_none() { asked.body.clone() } else { changes.apply(rules, asked) };
    let for_neighbour = || {
        let requested = rules.index(&asked.message.model);
        let neighbour = plan.neighbour.filter(|(neighbour, _)| Some(*neighbour) != requested);
        let (model, transforms) = neighbour.unzip();
        let transforms = transforms.unwrap_or_default();
        let changes = Changes { model, transforms, breakpoints: None, cut: changes.cut.clone() };
        if changes.is_none() { asked.body.clone() } else { changes.apply(rules, asked) }
    };
    let outgoing = Outgoing {
        parts: &begun.parts,
        retries_itself: begun.head.retries_itself,
        body,
        own: (!changes.is_none()).then(|| asked.body.clone()),
        neighbour: plan.neighbour.is_some().then_some(&for_neighbour as _),
        is_stream: asked.message.parameters.is_stream,
        interim,
    };
    core.claude.retry_budget.earn();
    let sent = send(core, rules, &outgoing).await?;
    books.note(|call| call.retries = sent.retries);
    if let Some(why) = sent.fell_back {
        learn::from_fallback(ready, sent.reply.response.status(), why);
    }
    if sent.by_neighbour {
        learn::from_neighbour(ready);
    }
    if sent.fell_back.is_none() && !sent.by_neighbour && plan::may_escalate(ready) {
        return Ok(escalate::answer(ready, sent).await);
    }
    Ok(answer(books, sent.reply))
}

/// The API's answer as the client gets it: its head as it is but for what speaks of our connection to the API.
pub(super) fn answer(books: &Books, reply: Reply) -> Response<Body> {
    let (parts, relay) = head(books, reply);
    Response::from_parts(parts, Body::of(relay))
}

/// The two parts of such an answer.
pub(super) fn head(books: &Books, reply: Reply) -> (response::Parts, Relay) {
    let (mut parts, body) = reply.response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    books.note(|call| call.status = parts.status.as_u16());
    let relay = Relay::new(body, &parts.headers, books.clone());
    (parts, relay)
}

/// Sends a call whose body is at hand.
///
/// # Errors
/// When there is no answer.
pub(super) async fn send(core: &Core, rules: &Rules, out: &Outgoing<'_>) -> Result<Sent, CallError> {
    let mut body = out.body.clone();
    let mut sent = Tries::default();
    loop {
        let result = ask(core, rules, out, body.clone(), sent.is_fresh).await;
        let is_overloaded = result.as_ref().is_ok_and(|reply| reply.response.status().as_u16() == OVERLOADED);
        if is_overloaded && let Some(reply) = ask_neighbour(core, rules, out, &mut sent).await {
            return Ok(Sent { reply, retries: sent.retries, fell_back: None, by_neighbour: true });
        }
        let again = match &result {
            Err(error) if !sent.was_stale && is_stale(error) => {
                sent.was_stale = true;
                Some(Again::Fresh)
            }
            Err(error) => repeats(core, rules, out, &sent, (error_word(error), None)).map(Again::After),
            Ok(reply) => after_answer(core, rules, out, &sent, reply),
        };
        match again {
            Some(Again::Fresh) => sent.is_fresh = true,
            Some(Again::After(rest)) => {
                sent.retries += 1;
                drop(result);
                tokio::time::sleep(rest).await;
            }
            Some(Again::Own(why)) => {
                sent.fell_back = Some(why);
                body = out.own.clone().unwrap_or_default();
                core.claude.stats.note(|totals| *totals.fallbacks.entry(why).or_default() += 1);
            }
            None => {
                let Tries { retries, fell_back, .. } = sent;
                let reply = result.map_err(|error| CallError::from(&error))?;
                return Ok(Sent { reply, retries, fell_back, by_neighbour: false });
            }
        }
    }
}

/// The neighbouring tier's answer in the place of "overloaded", tried once. Where it has none that is good, what the
/// client is told is what its own model said.
async fn ask_neighbour(core: &Core, rules: &Rules, out: &Outgoing<'_>, sent: &mut Tries) -> Option<Reply> {
    let may_leave = !sent.has_left && sent.fell_back.is_none();
    let neighbour = out.neighbour.filter(|_| may_leave)?;
    sent.has_left = true;
    let reply = ask(core, rules, out, neighbour(), false).await.ok()?;
    if !reply.response.status().is_success() {
        return None;
    }
    core.claude.stats.note(|totals| *totals.fallbacks.entry("overloaded").or_default() += 1);
    Some(reply)
}

/// What was tried.
#[derive(Default)]
struct Tries {
    retries: u8,
    was_stale: bool,
    is_fresh: bool,
    fell_back: Option<&'static str>,
    /// Whether the neighbouring tier was asked.
    has_left: bool,
}

/// What is tried next.
enum Again {
    /// The same on a new connection.
    Fresh,
    /// The same after a rest.
    After(Duration),
    /// The client's own bytes, and why.
    Own(&'static str),
}

async fn ask(
    core: &Core,
    rules: &Rules,
    out: &Outgoing<'_>,
    body: Bytes,
    is_fresh: bool,
) -> Result<Reply, upstream::Error> {
    let timeouts = &rules.config.timeouts;
    let first_byte = if out.is_stream { timeouts.first_byte } else { timeouts.total };
    let call = Call {
        body: Body::full(body),
        interim: out.interim.clone(),
        first_byte: Some(first_byte),
        bulkhead: None,
        is_fresh,
    };
    core.client.call(upstream::Head::of(out.parts), call, &mut Timing::default()).await
}

/// Whether a kept connection was closed while it was idle: nothing of the call was seen by anybody.
const fn is_stale(error: &upstream::Error) -> bool {
    matches!(error, upstream::Error::Closed { is_reused: true, is_silent: true, .. }) || error.is_unsent()
}

const fn error_word(error: &upstream::Error) -> Option<&'static str> {
    match error {
        upstream::Error::Connect(_) | upstream::Error::ConnectTimeout => Some("connect"),
        upstream::Error::Closed { is_silent: true, .. } => Some("closed"),
        upstream::Error::Closed { .. }
        | upstream::Error::BadResponse
        | upstream::Error::Timeout
        | upstream::Error::Overload
        | upstream::Error::BreakerOpen
        | upstream::Error::TooManyUpgrades
        | upstream::Error::RequestBody(_) => None,
    }
}

/// What an answer asks for instead of being shown.
fn after_answer(
    core: &Core,
    rules: &Rules,
    out: &Outgoing<'_>,
    sent: &Tries,
    reply: &Reply,
) -> Option<Again> {
    let status = reply.response.status();
    let may_fall_back = out.own.is_some() && sent.fell_back.is_none();
    let word = match status.as_u16() {
        400 if may_fall_back => return Some(Again::Own("bad_request")),
        404 if may_fall_back => return Some(Again::Own("not_found")),
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        529 => "529",
        _ => return None,
    };
    repeats(core, rules, out, sent, (Some(word), Some(reply))).map(Again::After)
}

/// The rest before a repeat, if there may be one: never for clients that repeat by themselves, and within the budget.
fn repeats(
    core: &Core,
    rules: &Rules,
    out: &Outgoing<'_>,
    sent: &Tries,
    (word, reply): (Option<&'static str>, Option<&Reply>),
) -> Option<Duration> {
    let word = word?;
    if out.retries_itself || sent.retries >= rules.config.retries.max {
        return None;
    }
    let rest = match reply {
        Some(reply) if reply.response.status() == StatusCode::TOO_MANY_REQUESTS => {
            patience(reply.response.headers())?
        }
        Some(reply) if says_no(reply.response.headers()) => return None,
        _ => jitter((core.claude.chance)()),
    };
    if !core.claude.retry_budget.spend() {
        return None;
    }
    core.claude.stats.note(|totals| *totals.retries.entry(word).or_default() += 1);
    Some(rest)
}

/// The rest that a 429 asks for, where it is short.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    if says_no(headers) {
        return None;
    }
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let rest = number("retry-after-ms").map(Duration::from_millis);
    let rest = rest.or_else(|| number(header::RETRY_AFTER.as_str()).map(Duration::from_secs))?;
    (rest <= PATIENCE).then_some(rest)
}

fn says_no(headers: &HeaderMap) -> bool {
    headers.get("x-should-retry").is_some_and(|value| value == "false")
}

const fn jitter(chance: u64) -> Duration {
    Duration::from_millis(REST_MS.0 + chance % (REST_MS.1 - REST_MS.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::{jitter, patience};

    #[test]
    fn only_a_short_rest_is_waited_for() {
        let headers = |lines: &[(&'static str, &'static str)]| -> HeaderMap {
            let line = |(name, value): &(&'static str, &'static str)| {
                (name.parse().unwrap(), HeaderValue::from_static(value))
            };
            lines.iter().map(line).collect()
        };

        assert_eq!(patience(&headers(&[("retry-after", "2")])), Some(Duration::from_secs(2)));
        assert_eq!(patience(&headers(&[("retry-after", "3")])), None);
        assert_eq!(
            patience(&headers(&[("retry-after-ms", "150"), ("retry-after", "9")])),
            Some(Duration::from_millis(150))
        );
        assert_eq!(patience(&headers(&[])), None, "a spend limit has none and is never repeated");
        assert_eq!(patience(&headers(&[("retry-after", "1"), ("x-should-retry", "false")])), None);
    }

    #[test]
    fn rests_are_spread() {
        assert_eq!(jitter(0), Duration::from_millis(100));
        assert_eq!(jitter(299), Duration::from_millis(399));
    }
}
