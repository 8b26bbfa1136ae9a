//! Answers for identical calls: those that are kept, and those that are shared while they are still on their way. Both
//! are off unless the configuration asks for them.
//!
//! Identical means the same credential, version, betas and bytes; nothing is ever matched by likeness, as that can hand
//! one person's answer to another. What is kept or shared is a whole answer that came to its own end: no stream, no tool,
//! no refusal, no error, and nothing about a serious turn.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use moka::sync::Cache;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};

use super::{
    asked::{Asked, Head},
    books::Books,
    decode::Coding,
    held::{self, Rest},
    outgoing::Changes,
    usage::{AnswerKind, StopReason, Watcher},
};
use crate::{
    config::{self, ModelTier},
    net::{Body, BodyError, Chunks},
    telemetry::claude::ClaudeStats,
};

/// The largest answer that is kept or shared.
const MOST_BYTES: usize = 1 << 20;

/// What an entry costs besides its bytes.
const ENTRY_BYTES: usize = 1024;

/// What the cache did, on the answer.
const CACHE_STATUS: HeaderName = HeaderName::from_static("x-cache-status");

/// The name of a call among identical ones.
pub(super) type Key = [u8; 32];

/// An answer that several calls can have.
#[derive(Clone)]
pub(super) struct Kept {
    headers: HeaderMap,
    body: Bytes,
    /// The model that gave it, as a label, and its tier.
    pub(super) model: Arc<str>,
    pub(super) tier: Option<ModelTier>,
}

/// The kept answers, and those on their way.
pub(super) struct Answers {
    kept: Cache<Key, Arc<Kept>>,
    flights: Mutex<HashMap<Key, Arc<Flight>>>,
    stats: Arc<ClaudeStats>,
}

/// An answer on its way, and those who wait for it.
struct Flight {
    outcome: watch::Sender<Outcome>,
    /// Counted under the lock of the table, so that nobody joins a flight that has just been given up.
    waiting: AtomicUsize,
    left: Notify,
}

/// What came of a flight.
#[derive(Clone)]
enum Outcome {
    Open,
    Shared(Arc<Kept>),
    /// It failed, or is nobody else's: who waited goes alone.
    Alone,
}

/// What a call is among identical ones.
pub(super) enum Place {
    /// The first: it makes the call for all.
    Leads(Lead, Waiting),
    /// One of those who wait.
    Follows(Waiting),
}

/// The duty to end a flight; dropping it sends all who wait their own way.
pub(super) struct Lead {
    answers: Arc<Answers>,
    key: Key,
    flight: Arc<Flight>,
}

/// A wait for a flight; dropping it is leaving.
pub(super) struct Waiting {
    answers: Arc<Answers>,
    key: Key,
    flight: Arc<Flight>,
}

impl Answers {
    pub(super) fn new(settings: &config::ResponseCache, stats: Arc<ClaudeStats>) -> Arc<Self> {
        let weight = |_: &Key, kept: &Arc<Kept>| u32::try_from(kept.weight()).unwrap_or(u32::MAX);
        let kept = Cache::builder()
            .max_capacity(settings.size.bytes())
            .weigher(weight)
            .time_to_live(settings.ttl)
            .build();
        Arc::new(Self { kept, flights: Mutex::default(), stats })
    }

    /// The kept answer to a call.
    pub(super) fn find(&self, key: &Key) -> Option<Arc<Kept>> {
        let found = self.kept.get(key);
        self.count(if found.is_some() { "hit" } else { "miss" });
        found
    }

    pub(super) fn keep(&self, key: Key, kept: Arc<Kept>) {
        self.kept.insert(key, kept);
        self.count("stored");
    }

    /// Takes a place among the identical calls in flight.
    pub(super) fn join(self: &Arc<Self>, key: Key) -> Place {
        let mut flights = self.flights.lock();
        let known = flights.get(&key).cloned();
        let is_first = known.is_none();
        let flight = known.unwrap_or_else(|| {
            let flight = Arc::new(Flight {
                outcome: watch::channel(Outcome::Open).0,
                waiting: AtomicUsize::new(0),
                left: Notify::new(),
            });
            flights.insert(key, Arc::clone(&flight));
            flight
        });
        flight.waiting.fetch_add(1, Relaxed);
        drop(flights);
        let waiting = Waiting { answers: Arc::clone(self), key, flight: Arc::clone(&flight) };
        if is_first {
            Place::Leads(Lead { answers: Arc::clone(self), key, flight }, waiting)
        } else {
            Place::Follows(waiting)
        }
    }

    fn count(&self, what: &'static str) {
        self.stats.note(|totals| *totals.response_cache.entry(what).or_default() += 1);
    }

    fn forget(flights: &mut HashMap<Key, Arc<Flight>>, key: &Key, flight: &Arc<Flight>) {
        if flights.get(key).is_some_and(|known| Arc::ptr_eq(known, flight)) {
            flights.remove(key);
        }
    }
}

impl Lead {
    /// Ready when nobody waits any more.
    pub(super) async fn deserted(&self) {
        self.flight.left.notified().await;
    }

    /// Gives the answer to all who wait.
    pub(super) fn share(self, kept: Arc<Kept>) {
        self.flight.outcome.send_replace(Outcome::Shared(kept));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        Answers::forget(&mut self.answers.flights.lock(), &self.key, &self.flight);
        self.flight.outcome.send_if_modified(|outcome| {
            let is_open = matches!(outcome, Outcome::Open);
            if is_open {
                *outcome = Outcome::Alone;
            }
            is_open
        });
    }
}

impl Waiting {
    /// The shared answer; none where the first call failed or took too long.
    pub(super) async fn shared(&self, patience: Duration) -> Option<Arc<Kept>> {
        let mut outcome = self.flight.outcome.subscribe();
        let over = outcome.wait_for(|outcome| !matches!(outcome, Outcome::Open));
        let Ok(Ok(outcome)) = tokio::time::timeout(patience, over).await else { return None };
        let Outcome::Shared(kept) = &*outcome else { return None };
        self.answers.count("joined");
        Some(Arc::clone(kept))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut flights = self.answers.flights.lock();
        if self.flight.waiting.fetch_sub(1, Relaxed) == 1 {
            Answers::forget(&mut flights, &self.key, &self.flight);
            self.flight.left.notify_one();
        }
    }
}

impl Kept {
    /// The answer as one more client gets it.
    pub(super) fn response(&self, status: &'static str) -> Response<Body> {
        let mut response = Response::new(Body::full(self.body.clone()));
        *response.headers_mut() = self.headers.clone();
        response.headers_mut().insert(CACHE_STATUS, HeaderValue::from_static(status));
        response
    }

    fn weight(&self) -> usize {
        let fields = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
        self.body.len() + fields.sum::<usize>() + ENTRY_BYTES
    }
}

/// Whether a call may have the answer of another one, as far as its body tells. Whether the turn is serious is asked
/// apart.
pub(super) fn is_shareable(asked: &Asked) -> bool {
    let parameters = &asked.message.parameters;
    !parameters.is_stream
        && parameters.tool_count == 0
        && !parameters.has_mcp_servers
        && !parameters.has_container
        && !parameters.has_thread
}

/// The name of a call. Breakpoints of ours are no part of it, as they change what an answer costs and not what it says;
/// all else that is sent is.
pub(super) fn key_of(
    secret: &[u8; 32],
    head: &Head,
    parts: &http::request::Parts,
    asked: &Asked,
    (model, changes): (&str, &Changes),
) -> Key {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(b"answer");
    add(secret);
    add(&head.credential.to_le_bytes());
    add(head.version.as_bytes());
    add(head.betas.join(",").as_bytes());
    add(parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str).as_bytes());
    // The codings that are taken, and what else the API may read.
    let says =
        |name: &HeaderName| *name == header::ACCEPT_ENCODING || name.as_str().starts_with("anthropic-");
    let mut fields: Vec<_> = parts.headers.iter().filter(|(name, _)| says(name)).collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in fields {
        add(name.as_str().as_bytes());
        add(value.as_bytes());
    }
    add(model.as_bytes());
    let cut = changes.cut.as_ref().map_or(0..0, |cut| cut.span.clone());
    add(&cut.start.to_le_bytes());
    add(&cut.end.to_le_bytes());
    changes.transforms.iter().for_each(|transform| add(transform.as_str().as_bytes()));
    add(&asked.body);
    hash.finalize().into()
}

/// Reads an answer to its end, as far as it may be shared: the answer for the one who asked, and for others.
pub(super) async fn take_whole(response: Response<Body>, books: &Books) -> (Response<Body>, Option<Kept>) {
    let (parts, body) = response.into_parts();
    if parts.status != StatusCode::OK {
        return (Response::from_parts(parts, body), None);
    }
    let (bytes, rest) = held::hold(body, MOST_BYTES).await;
    let kept = if let Rest::End = rest { kept(&parts.headers, &bytes, books) } else { None };
    (Response::from_parts(parts, held::join(bytes, rest)), kept)
}

/// An answer that others may have, if it is one.
fn kept(headers: &HeaderMap, body: &[u8], books: &Books) -> Option<Kept> {
    if !is_finished(headers, body) {
        return None;
    }
    let is_of_the_moment = |name: &HeaderName| {
        let name = name.as_str();
        matches!(name, "date" | "set-cookie" | "content-length" | "retry-after" | "age")
            || ["anthropic-ratelimit-", "anthropic-priority-", "anthropic-fast-", "x-touchline-"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
    };
    // Copied, as what came over a connection may hold the whole of a larger buffer.
    let lasting = headers.iter().filter(|(name, _)| !is_of_the_moment(name));
    let copied = lasting
        .filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?)));
    let headers: HeaderMap = copied.collect();
    let mut by = None;
    books.note(|call| by = Some((Arc::clone(&call.model), call.tier)));
    let (model, tier) = by?;
    Some(Kept { headers, body: Bytes::copy_from_slice(body), model, tier })
}

/// Whether an answer came to the end that its model chose.
fn is_finished(headers: &HeaderMap, body: &[u8]) -> bool {
    if super::relay::is_event_stream(headers) {
        return false;
    }
    let coding = Coding::of(headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes));
    let mut watcher = Watcher::new(AnswerKind::Whole, coding);
    watcher.feed(body);
    let seen = watcher.finish();
    seen.is_started
        && seen.is_ended
        && !seen.is_lost
        && seen.error.is_none()
        && seen.stop_reason == Some(StopReason::EndTurn)
}

/// Keeps a copy of an answer while it passes, and stores it at its end if it may be.
pub(super) fn keeping(
    answers: &Arc<Answers>,
    key: Key,
    response: Response<Body>,
    books: &Books,
) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let is_large = body.exact_len().is_some_and(|length| length > MOST_BYTES as u64);
    if parts.status != StatusCode::OK || is_large || super::relay::is_event_stream(&parts.headers) {
        return Response::from_parts(parts, body);
    }
    let copy = Some(Copy {
        answers: Arc::clone(answers),
        key,
        headers: parts.headers.clone(),
        all: BytesMut::new(),
    });
    let length = body.exact_len();
    Response::from_parts(parts, Body::of(Copying { body, copy, length, books: books.clone() }))
}

struct Copying {
    body: Body,
    copy: Option<Copy>,
    /// The length, where it is told: the last byte is then the end, and whoever has it may ask again at once.
    length: Option<u64>,
    books: Books,
}

struct Copy {
    answers: Arc<Answers>,
    key: Key,
    headers: HeaderMap,
    all: BytesMut,
}

impl Copying {
    fn store(&mut self) {
        if let Some(Copy { answers, key, headers, all }) = self.copy.take()
            && let Some(kept) = kept(&headers, &all.freeze(), &self.books)
        {
            answers.keep(key, Arc::new(kept));
        }
    }
}

impl Chunks for Copying {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = ready!(self.body.poll_chunk(cx));
        match &chunk {
            Some(Ok(bytes)) => {
                self.copy = self.copy.take().filter(|copy| copy.all.len() + bytes.len() <= MOST_BYTES);
                if let Some(copy) = &mut self.copy {
                    copy.all.extend_from_slice(bytes);
                }
            }
            Some(Err(_)) => self.copy = None,
            None => {}
        }
        let has_all = |copy: &Copy| self.length.is_some_and(|length| length == copy.all.len() as u64);
        if chunk.is_none() || self.copy.as_ref().is_some_and(has_all) {
            self.store();
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::{Answers, Kept, Key, Place, is_finished};
    use crate::{
        config::{ByteSize, ResponseCache},
        telemetry::claude::ClaudeStats,
    };

    const KEY: Key = [1; 32];
    const PATIENCE: Duration = Duration::from_secs(5);

    fn answers(size: ByteSize) -> Arc<Answers> {
        Answers::new(&ResponseCache { size, ..ResponseCache::default() }, Arc::new(ClaudeStats::new(true)))
    }

    fn kept(bytes: usize) -> Arc<Kept> {
        let body = Bytes::from(vec![b'x'; bytes]);
        Arc::new(Kept { headers: HeaderMap::new(), body, model: Arc::from("m"), tier: None })
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let answers = answers(ByteSize::kib(64));
        for key in 0..100 {
            answers.keep([key; 32], kept(8 << 10));
        }
        answers.kept.run_pending_tasks();

        assert!(answers.kept.weighted_size() <= 64 << 10);
        assert!(answers.kept.entry_count() <= 7);
    }

    #[tokio::test]
    async fn those_who_wait_get_the_first_ones_answer() {
        let answers = answers(ByteSize::mib(1));
        let Place::Leads(lead, _leader) = answers.join(KEY) else { panic!("nobody was there before") };
        let Place::Follows(follower) = answers.join(KEY) else { panic!("the first one leads") };
        let Place::Leads(..) = answers.join([2; 32]) else { panic!("another call is another flight") };

        lead.share(kept(10));

        assert_eq!(follower.shared(PATIENCE).await.unwrap().body.len(), 10);
        assert!(matches!(answers.join(KEY), Place::Leads(..)), "a flight that ended takes nobody");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_or_a_long_wait_sends_everybody_his_own_way() {
        let answers = answers(ByteSize::mib(1));
        let Place::Leads(lead, _leader) = answers.join(KEY) else { panic!("nobody was there before") };
        let Place::Follows(follower) = answers.join(KEY) else { panic!("the first one leads") };
        assert!(follower.shared(PATIENCE).await.is_none());

        drop(lead);

        assert!(follower.shared(PATIENCE).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_is_deserted_when_the_last_one_leaves_and_not_before() {
        let answers = answers(ByteSize::mib(1));
        let Place::Leads(lead, leader) = answers.join(KEY) else { panic!("nobody was there before") };
        let Place::Follows(follower) = answers.join(KEY) else { panic!("the first one leads") };
        drop(leader);
        assert!(tokio::time::timeout(PATIENCE, lead.deserted()).await.is_err());

        drop(follower);

        assert!(tokio::time::timeout(PATIENCE, lead.deserted()).await.is_ok());
        assert!(matches!(answers.join(KEY), Place::Leads(..)), "a deserted flight takes nobody");
        drop(lead);
        assert!(answers.flights.lock().is_empty());
    }

    #[test]
    fn only_an_answer_that_came_to_its_own_end_is_finished() {
        let answer =
            |stop: &str| format!(r#"{{"type":"message","content":[],"stop_reason":"{stop}","usage":{{}}}}"#);
        let (plain, mut stream) = (HeaderMap::new(), HeaderMap::new());
        stream.insert("content-type", HeaderValue::from_static("text/event-stream; charset=utf-8"));

        assert!(is_finished(&plain, answer("end_turn").as_bytes()));
        for stop in ["max_tokens", "refusal", "tool_use", "pause_turn", "stop_sequence", "new"] {
            assert!(!is_finished(&plain, answer(stop).as_bytes()), "{stop}");
        }
        assert!(!is_finished(&stream, answer("end_turn").as_bytes()));
        assert!(!is_finished(&plain, &answer("end_turn").as_bytes()[..40]));
        assert!(!is_finished(&plain, br#"{"type":"error","error":{"type":"api_error"}}"#));
    }
}
