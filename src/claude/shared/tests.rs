//! States as they are written and read, and two planes that share them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Reading, SharedStates, Times, Writing, decode, encode};
use crate::{
    claude::{
        Claude, Core, Parts,
        asked::{self, Asked, Read},
        books::Books,
        conversation::{State, Warm},
        pipeline,
        plan::{self, Case},
        relay::Relay,
        rules::Rules,
        send::Ready,
    },
    config::{self, BackendAddress},
    net::{Body, Context, drain::Drain},
    telemetry::{Facts, Telemetry},
    upstream::{Client, Upstream},
};

fn rules() -> Rules {
    Rules::compile(config::Claude::default()).unwrap()
}

fn times() -> Times {
    Times { now: Instant::now() + Duration::from_secs(100_000), wall_ms: 1_795_000_000_000 }
}

fn state(rules: &Rules, times: Times) -> State {
    State {
        model: rules.index("claude-haiku-5-5").unwrap(),
        requested: rules.index("claude-sonnet-5-5").unwrap(),
        serious_left: 2,
        dearer_left: 1,
        moves: 0b101,
        no_route: true,
        thinking_by: rules.index("claude-opus-5-5"),
        settings: u64::MAX,
        bytes_per_kilotoken: 2_800,
        cut: Some((1, 7)),
        is_hour: Some(true),
        at: times.now - Duration::from_secs(70),
    }
}

#[test]
fn a_state_comes_back_as_it_was() {
    let (rules, times) = (rules(), times());
    let state = state(&rules, times);
    let warm = Warm { tokens: 9_000, is_hour: true, at: times.now - Duration::from_secs(71) };

    let value = encode(&rules, &state, Some((state.model, warm)), times);
    let read = decode(&rules, &value, times).unwrap();

    assert_eq!((read.state, read.warm), (state, Some((state.model, warm))));
    assert!(value.len() < 1024, "{}", value.len());
}

#[test]
fn the_time_passes_on_the_wall() {
    let (rules, written) = (rules(), times());
    let value = encode(&rules, &state(&rules, written), None, written);
    let other = |wall_ms| Times { now: written.now + Duration::from_secs(5), wall_ms };

    let later = decode(&rules, &value, other(written.wall_ms + 60_000)).unwrap();
    let behind = decode(&rules, &value, other(written.wall_ms - 600_000)).unwrap();

    assert_eq!(later.state.at, written.now + Duration::from_secs(5) - Duration::from_secs(130));
    assert_eq!(behind.state.at, written.now + Duration::from_secs(5), "no time lies ahead");
}

#[test]
fn what_makes_no_sense_is_nothing_or_bounded() {
    let (rules, times) = (rules(), times());
    let value = encode(&rules, &state(&rules, times), None, times);
    let text = String::from_utf8(value).unwrap();
    let but = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        decode(&rules, text.replace(from, to).as_bytes(), times)
    };

    assert!(but("\"version\":1", "\"version\":2").is_none());
    assert!(but("claude-haiku-5-5", "claude-new-9").is_none());
    assert!(but("claude-sonnet-5-5", "").is_none());
    assert!(but("\"at_ms\":1794999930000", "\"at_ms\":-1").is_none());
    assert!(but("\"moves\":5", "\"moves\":70000").is_none());
    assert!(but("claude-opus-5-5", "claude-new-9").unwrap().state.thinking_by.is_none());
    let wild = but(
        "\"serious_left\":2,\"dearer_left\":1,\"moves\":5",
        "\"serious_left\":255,\"dearer_left\":99,\"moves\":65535",
    );
    let wild = wild.unwrap().state;
    assert_eq!((wild.serious_left, wild.dearer_left, wild.moves), (15, 15, 0x3ff));
    assert_eq!(
        but("\"bytes_per_kilotoken\":2800", "\"bytes_per_kilotoken\":0").unwrap().state.bytes_per_kilotoken,
        500
    );
    assert!(but("{", "{\"new\":[1],").is_some(), "another version may know more");
    for end in 0..text.len() {
        assert!(decode(&rules, &text.as_bytes()[..end], times).is_none());
    }
}

#[test]
fn any_bytes_are_taken() {
    let rules = rules();
    proptest!(|(value in prop::collection::vec(any::<u8>(), 0..200))| {
        let _ = decode(&rules, &value, times());
    });
}

/// What all planes see.
#[derive(Default)]
struct Store {
    values: Mutex<HashMap<(String, String), Vec<u8>>>,
    /// How many names were asked for, question by question.
    questions: Mutex<Vec<usize>>,
    is_down: AtomicBool,
}

impl SharedStates for Store {
    fn read<'a>(&'a self, tag: &'a str, names: &'a [String]) -> Reading<'a> {
        Box::pin(async move {
            self.questions.lock().push(names.len());
            let values = self.values.lock();
            let value =
                |name: &String| values.get(&(tag.to_owned(), name.clone())).cloned().unwrap_or_default();
            (!self.is_down.load(Relaxed)).then(|| names.iter().map(value).collect())
        })
    }

    fn write<'a>(&'a self, tag: &'a str, name: &'a str, value: &'a [u8], _: Duration) -> Writing<'a> {
        Box::pin(async move {
            if !self.is_down.load(Relaxed) {
                self.values.lock().insert((tag.to_owned(), name.to_owned()), value.to_vec());
            }
        })
    }
}

fn plane(store: &Arc<Store>, is_shared: bool) -> Arc<Core> {
    let mut config = config::Claude::default();
    config.conversations.shared = is_shared;
    let facts =
        Facts { service: String::new(), version: "0", pod: String::new(), config_hash: String::new() };
    let telemetry = Telemetry::new(&config::Telemetry::default(), facts, None);
    let upstream = Upstream::new(
        BackendAddress::Tcp { host: "localhost".to_owned(), port: 1 },
        &Claude::upstream_settings(&config),
        &config::Limits::default(),
        telemetry.upstream("claude"),
    );
    let parts = Parts {
        telemetry,
        upstream: Arc::clone(&upstream),
        drain: Drain::new(),
        key: [7; 32],
        sums: None,
        states: Some(Arc::clone(store) as _),
        chance: || 0,
    };
    let claude = Claude::new(&config, parts).unwrap();
    Arc::new(Core { claude, client: Client::new(upstream) })
}

const SYSTEM: &str = "You are a patient coach who listens first and asks before giving advice. ";
const SCORES: &str = "Here are my questionnaire scores: openness 4, warmth 9, initiative 2. Score my confidence \
                      assessment and interpret the results.";

fn body(turns: &[&str]) -> String {
    let roles = ["user", "assistant"].into_iter().cycle();
    let messages: Vec<Value> =
        roles.zip(turns).map(|(role, text)| json!({"role": role, "content": text})).collect();
    json!({"model": "claude-sonnet-5-5", "max_tokens": 2048, "system": SYSTEM.repeat(60), "messages": messages}).to_string()
}

/// A call with its answer, up to the end of it; the model that was decided, and what is known of the call.
async fn call(core: &Arc<Core>, turns: &[&str], key: &str) -> (String, Asked) {
    let rules = core.claude.rules.load_full();
    let request =
        Request::post("/v1/messages").header("x-api-key", key).header("anthropic-version", "2026-10-21");
    let request = request.body(Body::full(Bytes::from(body(turns)))).unwrap();
    let (begun, body) = pipeline::begin(core, &rules, request, Context::internal());
    let books = Books::open(core, &rules, pipeline::record(&rules, rules.route_at(usize::MAX), &begun));
    let read = asked::read(body, &begun.head, &rules.config.inspect, &core.claude.key).await.unwrap();
    let Read::Asked(asked) = read else { panic!("a call passes unread") };
    let plan = plan::plan(&Case { core, rules: &rules, begun: &begun, asked: &asked }, &books).await;
    let used = plan.changes.model.or_else(|| rules.index("claude-sonnet-5-5"));
    let model = rules.label(used).to_string();
    let ready = Ready { core: Arc::clone(core), rules, begun, asked, plan, books };
    plan::reserve(&ready).await.unwrap();
    ready.books.note(|call| call.status = 200);
    let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 1500, "output_tokens": 20});
    let answer =
        json!({"type": "message", "model": model, "content": [], "stop_reason": "end_turn", "usage": usage});
    let answer = Body::full(Bytes::from(answer.to_string()));
    let mut answer = Body::of(Relay::new(answer, &HeaderMap::new(), ready.books.clone()));
    while answer.chunk().await.is_some() {}
    drop(answer);
    let Ready { asked, books, .. } = ready;
    drop(books);
    // What is written behind the call.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    (model, *asked)
}

fn known(core: &Core, asked: &Asked) -> Option<State> {
    core.claude.conversations.state(*asked.conversation.last().unwrap())
}

fn results(core: &Core) -> Vec<(&'static str, u64)> {
    core.claude.stats.totals().shared.into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn another_plane_goes_on_with_what_the_first_one_knows() {
    let store = Arc::new(Store::default());
    let (a, b) = (plane(&store, true), plane(&store, true));
    let (model, first) = call(&a, &[SCORES], "k").await;
    assert_eq!(model, "claude-opus-5-5");
    let state = known(&a, &first).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;

    let (_, second) = call(&b, &[SCORES, "A 6.", "thanks"], "k").await;

    let taken = known(&b, &first).unwrap();
    assert_eq!(
        (taken.model, taken.requested, taken.bytes_per_kilotoken),
        (state.model, state.requested, state.bytes_per_kilotoken)
    );
    assert_eq!(
        (taken.dearer_left, taken.moves, taken.settings),
        (state.dearer_left, state.moves, state.settings)
    );
    assert_eq!(results(&b), [("found", 1)]);
    let warm = b.claude.warmth.of(first.credential, state.model, *first.beginnings.last().unwrap());
    assert_eq!(warm.map(|warm| warm.tokens), Some(1500), "what lies in the provider's cache is known too");
    // Where it goes on it needs nobody, and back at the first one only the turn in between is missing.
    call(&b, &[SCORES, "A 6.", "thanks", "Gladly.", "bye"], "k").await;
    assert_eq!(*store.questions.lock(), [2]);
    call(&a, &[SCORES, "A 6.", "thanks", "Gladly.", "bye", "Bye!", "hello!"], "k").await;
    assert_eq!(
        (known(&a, &second).is_none(), results(&a)),
        (true, vec![("found", 1)]),
        "the last turn is enough"
    );
    assert_eq!(*store.questions.lock(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_first_turn_and_a_plane_that_does_not_share_ask_nobody() {
    let store = Arc::new(Store::default());
    let (a, off) = (plane(&store, true), plane(&store, false));

    call(&a, &["hello!"], "k").await;
    call(&off, &["hello!", "Hi.", "thanks"], "k").await;

    assert!(store.questions.lock().is_empty());
    assert_eq!(store.values.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_turn_elsewhere_gets_the_same_model() {
    let store = Arc::new(Store::default());
    let (a, b) = (plane(&store, true), plane(&store, true));
    let turns = ["hello!", "Hi. What brings you here?", SCORES];
    let (model, asked) = call(&a, &turns, "k").await;
    assert_eq!(model, "claude-opus-5-5");

    assert_eq!(call(&b, &turns, "k").await.0, model);

    assert_eq!(results(&b), [("found", 1)]);
    assert!(known(&b, &asked).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_silent_or_anothers_makes_a_new_conversation() {
    let store = Arc::new(Store::default());
    let (a, b) = (plane(&store, true), plane(&store, true));
    let (_, first) = call(&a, &[SCORES], "k").await;
    let next = [SCORES, "A 6.", "thanks"];

    call(&b, &next, "another key").await;
    assert_eq!((results(&b), known(&b, &first)), (vec![("missing", 1)], None));
    store.is_down.store(true, Relaxed);
    call(&b, &next, "k").await;
    assert_eq!((results(&b), known(&b, &first)), (vec![("missing", 1), ("unanswered", 1)], None));
    store.is_down.store(false, Relaxed);
    store.values.lock().values_mut().for_each(|value| value.truncate(20));
    let c = plane(&store, true);
    call(&c, &next, "k").await;
    assert_eq!((results(&c), known(&c, &first)), (vec![("missing", 1)], None));
}
