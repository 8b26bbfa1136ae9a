//! Observing: the request goes on as it is and so does its answer; the cache only looks on. What it makes of what it sees is
//! decided in `cache::observe`. Whatever happens there, the exchange does not notice.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use tokio::time::Instant;

use super::{exchange::Exchange, fetch::Plan, fill::Fetched, outbound::Outbound};
use crate::{
    cache::{
        Clock, KeyRule,
        observe::{Answered, Observer, Question, Watch},
        rfc9111::{
            Admission, Policy, RequestHead, ResponseHead, Reuse, Rule, Selection, Source, Storable, Times,
            may_reuse, may_store,
        },
    },
    config::CacheMode,
    net::{Body, BodyError, Chunks},
    telemetry::{self, Reason, UNMATCHED, observed::Named},
};

/// The longest lifetime that is tried.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What the request is to be told by, and what will be asked of its answer.
pub(super) fn ask(exchange: &mut Exchange, admission: Admission) -> Plan {
    let plan = match admission {
        Admission::Lookup => Plan::bypass(Reason::Observe),
        Admission::Bypass(reason) => Plan::bypass(reason),
        Admission::Method => Plan::method(),
    };
    let is_followed = match admission {
        Admission::Lookup => true,
        // A rule could be written that lets these in.
        Admission::Bypass(reason) => {
            matches!(reason, Reason::Authorization | Reason::Cookie | Reason::Credential | Reason::NotListed)
        }
        Admission::Method => false,
    };
    exchange.question = question(exchange, is_followed, admission == Admission::Lookup).map(Box::new);
    plan
}

/// Looks at the answer, and follows its body on its way to the client.
pub(super) fn answered(exchange: &mut Exchange, outbound: &Outbound, fetched: &mut Fetched) {
    let Some(question) = exchange.question.take() else { return };
    let observer = Arc::clone(&exchange.ingress().observer);
    let response = &fetched.reply.response;
    let status = response.status();
    if matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE)
        || status.is_informational()
        || fetched.reply.is_close_delimited
    {
        // Of a part nobody can say whether the whole has changed, and an end that was not announced proves nothing.
        return observer.incomparable(&question.route, question.named);
    }
    let clock = exchange.ingress().clock;
    let received_ms = clock.at(Instant::now());
    let times = Times { sent_ms: question.asked_ms, received_ms, received_unix: clock.wall_s() };
    let head = ResponseHead { status, headers: response.headers() };
    let request = outbound.as_sent(exchange);
    let judged = judge(&observer, &question, &Exchanged { exchange, request: &request, head: &head, times });
    let would_hit = judged.would_hit;
    let (limit, known) = (exchange.route.policy.max_body_bytes, response.body().exact_len());
    if known.is_some_and(|length| length > limit) {
        return observer.incomparable(&question.route, question.named);
    }
    let Some(mut watch) = observer.follow(*question, judged) else { return };
    if status != StatusCode::NOT_MODIFIED {
        watch = watch.with_body(&head, limit);
    }
    exchange.journal.note(|record| record.would_hits = would_hit);
    let body = fetched.reply.response.body_mut();
    match std::mem::take(body) {
        Body::Empty => watch.complete(received_ms),
        Body::Full(data) => {
            if watch.push(&data) {
                watch.complete(received_ms);
            }
            *body = Body::Full(data);
        }
        Body::Stream(stream) => {
            *body = Body::of(Watched { body: Body::Stream(stream), watch: Some(Box::new(watch)), clock });
        }
    }
}

/// What is to be known of the request; none for one that is not followed, which is only counted.
fn question(exchange: &Exchange, is_followed: bool, is_looked_up: bool) -> Option<Question> {
    let ingress = exchange.ingress();
    let (parts, route) = (&exchange.parts, &exchange.route);
    let (name, named) = name(exchange);
    if parts.method != Method::GET {
        let method = telemetry::Method::from_name(parts.method.as_str());
        ingress.observer.passed(&name, named, method);
        return None;
    }
    if !is_followed || parts.headers.contains_key(header::RANGE) {
        ingress.observer.incomparable(&name, named);
        return None;
    }
    let asked = Instant::now();
    let own = exchange.key();
    let key = if route.policy.rule.is_some() {
        own.clone()
    } else {
        exchange.key_by(&KeyRule { origin: true, ..KeyRule::default() })
    };
    Some(Question {
        route: name,
        named,
        key,
        lookup: is_looked_up.then_some(own),
        credentials: ingress.observer.credentials(&parts.headers, &route.policy),
        is_refresh: route.key.query.is_refresh(parts.uri.query().map(str::as_bytes)),
        asked,
        asked_ms: ingress.clock.at(asked),
    })
}

/// The name under which the request is observed: that of its route, the backend's template for it, or a guess.
fn name(exchange: &Exchange) -> (Arc<str>, Named) {
    let (route, parts) = (&exchange.route, &exchange.parts);
    if !route.is_unmatched() {
        return (Arc::clone(&route.name), Named::Configured);
    }
    let path = parts.uri.path();
    let stats = exchange.ingress().stats_of(route, &parts.method, path);
    if stats.template() != UNMATCHED {
        return (Arc::from(stats.template()), Named::Learned);
    }
    let guess = exchange.ingress().observer.guess(path);
    guess.map_or_else(|| (Arc::from(UNMATCHED), Named::Unnamed), |guess| (guess, Named::Guessed))
}

/// A request, its answer and their times.
struct Exchanged<'a> {
    exchange: &'a Exchange,
    request: &'a RequestHead<'a>,
    head: &'a ResponseHead<'a>,
    times: Times,
}

/// Takes every decision that the cache would take, as it is configured and under a rule with a long lifetime.
fn judge(observer: &Observer, question: &Question, exchanged: &Exchanged<'_>) -> Answered {
    let Exchanged { exchange, request, head, times } = exchanged;
    let policy = &exchange.route.policy;
    // A vary of `*` fits nobody, so it does not matter where such an answer lies.
    let selection = Selection::of(request.headers, head.headers).unwrap_or_default();
    let is_unchanged = head.status == StatusCode::NOT_MODIFIED;
    let (life, is_declared) = if is_unchanged {
        (Ok(0), false)
    } else {
        match may_store(request, head, *times, &trial(policy)) {
            Ok(storable) if storable.meta.source == Source::Rule => (Ok(life_ms(&storable, *times)), false),
            Ok(_) => (Ok(0), true),
            Err(reason) => (Err(reason), false),
        }
    };
    let (mut kept, mut would_hit) = (None, 0);
    if let Some(key) = &question.lookup {
        let place = observer.place(key, &selection);
        if !question.is_refresh {
            let serves = |reuse| matches!(reuse, Reuse::Fresh | Reuse::Stale(_));
            would_hit = observer.would_hit(question, place, |meta| {
                serves(may_reuse(request, meta, question.asked_ms, policy))
            });
        }
        let own = may_store(request, head, *times, &Policy { mode: CacheMode::Serve, ..policy.clone() });
        kept = own.ok().map(|storable| (place, storable.meta));
    }
    Answered {
        status: head.status,
        place: observer.place(&question.key, &selection),
        kept,
        life,
        is_declared,
        sets_cookie: head.headers.contains_key(header::SET_COOKIE),
        vary: selection.names().cloned().collect(),
        validator: observer.validator(head.headers),
        would_hit,
        fetch_us: u64::try_from(question.asked.elapsed().as_micros()).unwrap_or(u64::MAX),
    }
}

/// The policy of a route as it would be with the longest lifetime. Credentials do not stand in its way: what they mean for
/// the advice is seen by comparing users.
fn trial(policy: &Policy) -> Policy {
    let own = policy.rule.as_ref();
    // What the route says of a single status stands, but the status that matters is tried with every lifetime.
    let by_status = own.into_iter().flat_map(|rule| &rule.ttl_by_status);
    let rule = Rule {
        ttl: Some(LONGEST),
        ttl_by_status: by_status.filter(|(status, _)| *status != 200).copied().collect(),
        public: true,
        cookies_keyed: own.is_some_and(|rule| rule.cookies_keyed),
        ..Rule::default()
    };
    Policy { mode: CacheMode::Serve, rule: Some(rule), ..policy.clone() }
}

/// How long a rule may keep an answer.
fn life_ms(storable: &Storable, times: Times) -> u64 {
    let received_ms = i64::try_from(times.received_ms).unwrap_or(i64::MAX);
    u64::try_from(storable.meta.expires_ms.saturating_sub(received_ms)).unwrap_or(0)
}

/// A body that is looked at on its way to the client. What does not come to its clean end is forgotten.
struct Watched {
    body: Body,
    watch: Option<Box<Watch>>,
    clock: Clock,
}

impl Watched {
    fn complete(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.complete(self.clock.now_ms());
        }
    }
}

impl Chunks for Watched {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = ready!(self.body.poll_chunk(cx));
        match &chunk {
            Some(Ok(data)) => {
                self.watch.take_if(|watch| !watch.push(data));
                // Who knows the length does not ask for the end.
                if self.body.is_empty() {
                    self.complete();
                }
            }
            Some(Err(_)) => self.watch = None,
            None => self.complete(),
        }
        Poll::Ready(chunk)
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}
