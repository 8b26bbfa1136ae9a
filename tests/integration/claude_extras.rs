//! What the Claude plane does where it is asked to: kept and shared answers, the judge, another tier for an overloaded
//! model, limits of models from the API. And what it must do with everything that is no call: let it through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::Instant,
};

use crate::support::{
    app::Setup,
    backend::{Backend, Step, answer, ok, read_head, text},
    claude::{
        Call, ECONOMY, Fake, HAIKU, OPUS, PREMIUM, Plane, SERIOUS, SONNET, STANDARD, Settings, before,
        fake::Behaviour, long_text, model_of, said, with,
    },
    client::{Answer, Client, raw},
    process::Process,
    spawn, until, within,
};

/// Far below what an answer would take, on a busy machine too. The figure itself is held by `tests/e2e/test_claude_faults.py`.
const SOON: Duration = Duration::from_secs(1);
const KEPT: &str = "response_cache: { enabled: true }";
const SHARED: &str = "response_cache: { single_flight: true }";

fn slow() -> Behaviour {
    Behaviour { head_delay_ms: 400, times: Some(0), ..Behaviour::default() }
}

fn answer_of(plane: &Plane, call: &Call) -> tokio::task::JoinHandle<Answer> {
    spawn(raw(plane.proxy.claude, call.bytes()))
}

// Kept answers.

#[tokio::test]
async fn an_identical_call_gets_the_kept_answer_for_nothing() {
    let plane = Plane::start(KEPT).await;
    let call = Call::said(SONNET, STANDARD);

    let (first, made) = plane.recorded(&call).await;
    let (again, kept) = plane.recorded(&call).await;

    assert_eq!((first.status, first.field("x-cache-status")), (200, ""));
    assert_eq!((again.status, again.field("x-cache-status")), (200, "hit"));
    assert_eq!((&again.body, again.field("content-type")), (&first.body, "application/json"));
    assert_eq!(again.field("request-id"), first.field("request-id"));
    assert!(again.fields("anthropic-ratelimit-requests-remaining").is_empty(), "it tells of another moment");
    assert_eq!(again.field("x-touchline-model"), SONNET);
    assert_eq!(plane.seen().len(), 1);
    assert_eq!((&kept["kept"], &kept["input_tokens"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(kept["cost_usd"].as_f64(), Some(0.0));
    assert!(made["cost_usd"].as_f64().unwrap() > 0.0 && made["kept"].is_null());
    let performance = plane.performance().await;
    assert_eq!(performance["usage_unknown_calls"], 0);
    assert_eq!(performance["total"]["calls"], 2);
    for (result, count) in [("hit", 1.0), ("miss", 1.0), ("stored", 1.0)] {
        let label = format!("result=\"{result}\"");
        assert_eq!(
            plane.proxy.metric("touchline_claude_response_cache_total", &label).await,
            count,
            "{result}"
        );
    }
}

#[tokio::test]
async fn a_call_that_moves_is_kept_under_the_model_that_answered() {
    let plane = Plane::start(KEPT).await;
    let system = long_text(8_000);
    let call = Call::of(&with(said(SONNET, ECONOMY), &json!({"system": system})));

    plane.call(&call).await;
    let again = plane.call(&call).await;

    assert_eq!(again.field("x-cache-status"), "hit");
    assert_eq!(again.field("x-touchline-model"), model_of(&plane.last()));
    assert_eq!(plane.seen().len(), 1);
}

#[tokio::test]
async fn no_other_call_gets_a_kept_answer() {
    let plane = Plane::start(KEPT).await;
    let body = said(SONNET, STANDARD);
    plane.call(&Call::of(&body)).await;
    let others = [
        ("key", Call::of(&body).key("sk-test-2")),
        ("version", Call::of(&body).version("2023-06-01")),
        ("beta", Call::of(&body).field("anthropic-beta: some-beta-2026-01-01")),
        ("coding", Call::of(&body).field("accept-encoding: gzip")),
        ("user", Call::of(&with(body.clone(), &json!({"metadata": {"user_id": "u-1"}})))),
        (
            "words",
            Call::said(SONNET, "How do I ask my colleague out for tea without making it weird at work?"),
        ),
        ("spaces", Call::new(serde_json::to_string_pretty(&body).unwrap())),
        ("query", Call::of(&body).to("/v1/messages?beta=true")),
    ];
    for (what, call) in others {
        let answer = plane.call(&call).await;

        assert_eq!(answer.field("x-cache-status"), "", "{what}");
    }
    assert_eq!(plane.seen().len(), 9);
}

#[tokio::test]
async fn what_is_not_a_finished_answer_of_an_ordinary_call_is_not_kept() {
    let script = |behaviour: Value| Behaviour::from_json(with(json!({"times": 0}), &behaviour)).unwrap();
    let tools = json!({"tools": [{"name": "look", "input_schema": {"type": "object"}}]});
    let plain = || Call::said(SONNET, STANDARD);
    let table = [
        ("a stream", script(json!({})), Call::streamed(SONNET, STANDARD)),
        ("tools", script(json!({})), Call::of(&with(said(SONNET, STANDARD), &tools))),
        ("a serious turn", script(json!({})), Call::said(SONNET, SERIOUS)),
        ("a refusal", script(json!({"stop_reason": "refusal"})), plain()),
        ("max_tokens", script(json!({"stop_reason": "max_tokens"})), plain()),
        ("an error", script(json!({"status": 500})), plain().by_sdk()),
        ("a cut answer", script(json!({"close_after": 40})), plain().by_sdk()),
        ("more than a MiB", script(json!({"text": "x".repeat(1 << 20)})), plain()),
    ];
    for (what, behaviour, call) in table {
        let plane = Plane::start(KEPT).await;
        plane.fake.script(behaviour);

        plane.call(&call).await;
        let again = plane.call(&call).await;

        assert!(again.fields("x-cache-status").is_empty(), "{what}");
        assert_eq!(plane.seen().len(), 2, "{what}");
    }
}

#[tokio::test]
async fn nothing_is_kept_where_calls_are_not_routed_or_nobody_asked_for_it() {
    for keys in ["", "mode: observe, response_cache: { enabled: true, single_flight: true }", SHARED] {
        let plane = Plane::start(keys).await;
        let call = Call::said(SONNET, STANDARD);

        plane.call(&call).await;
        plane.call(&call).await;

        assert_eq!(plane.seen().len(), 2, "{keys}");
    }
}

#[tokio::test]
async fn a_kept_answer_ends() {
    let plane = Plane::start("response_cache: { enabled: true, ttl: 1s }").await;
    let call = Call::said(SONNET, STANDARD);
    plane.call(&call).await;
    assert_eq!(plane.call(&call).await.field("x-cache-status"), "hit");

    tokio::time::sleep(Duration::from_millis(1100)).await;

    assert_eq!(plane.call(&call).await.field("x-cache-status"), "");
}

// Answers on their way.

#[tokio::test]
async fn identical_calls_in_flight_share_one() {
    let plane = Plane::start(SHARED).await;
    plane.fake.script(slow());
    let call = Call::said(SONNET, STANDARD);

    let asked: Vec<_> = (0..5).map(|_| answer_of(&plane, &call)).collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(within("an answer", answer).await.unwrap());
    }

    assert_eq!(plane.seen().len(), 1);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    let joined = answers.iter().filter(|answer| answer.fields("x-cache-status") == ["joined"]).count();
    assert_eq!(joined, 4);
    let records = plane.proxy.records_of(5).await;
    let paid = records.iter().filter(|record| record["cost_usd"].as_f64() > Some(0.0)).count();
    assert_eq!(paid, 1, "{records:#?}");
    // It was not kept: the next one is a call of its own.
    plane.call(&call).await;
    assert_eq!(plane.seen().len(), 2);
}

#[tokio::test]
async fn the_first_client_may_leave_without_taking_the_answer_away() {
    let plane = Plane::start(SHARED).await;
    plane.fake.script(slow());
    let call = Call::said(SONNET, STANDARD);
    let first = plane.open(&call).await;
    until("the call is at the API", || plane.seen().len() == 1).await;
    let second = answer_of(&plane, &call);
    tokio::time::sleep(Duration::from_millis(100)).await;

    drop(first);
    let answer = within("an answer", second).await.unwrap();

    assert_eq!((answer.status, answer.field("x-cache-status")), (200, "joined"));
    assert_eq!((plane.seen().len(), plane.last().gone), (1, None));
    let records = plane.proxy.records_of(2).await;
    let left = records.iter().find(|record| record["outcome"] == "client_abort").unwrap();
    assert!(left["cost_usd"].as_f64() > Some(0.0), "who left has the bill: {left}");
}

#[tokio::test]
async fn a_shared_call_ends_when_all_have_left() {
    let plane = Plane::start(SHARED).await;
    plane.fake.script(Behaviour { head_delay_ms: 5_000, ..Behaviour::default() });
    let call = Call::said(SONNET, STANDARD);
    let first = plane.open(&call).await;
    until("the call is at the API", || plane.seen().len() == 1).await;
    let second = plane.open(&call).await;
    tokio::time::sleep(Duration::from_millis(100)).await;

    drop(first);
    drop(second);
    let since = Instant::now();

    until("the API is left", || plane.last().gone.is_some()).await;
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
}

#[tokio::test]
async fn the_failure_of_a_shared_call_is_nobody_elses() {
    for fault in
        [json!({"status": 500}), json!({"close_before_head": true}), json!({"stop_reason": "refusal"})]
    {
        let plane = Plane::start(SHARED).await;
        let fault = with(json!({"head_delay_ms": 400}), &fault);
        plane.fake.script(Behaviour::from_json(fault.clone()).unwrap());
        let call = Call::said(SONNET, STANDARD).by_sdk();

        let first = answer_of(&plane, &call);
        until("the call is at the API", || plane.seen().len() == 1).await;
        let others = [answer_of(&plane, &call), answer_of(&plane, &call)];

        let first = first.await.unwrap();
        for other in others {
            let answer = within("an answer", other).await.unwrap();
            assert_eq!((answer.status, answer.fields("x-cache-status").len()), (200, 0), "{fault}");
            assert_ne!(answer.body, first.body, "{fault}");
        }
        assert_eq!(plane.seen().len(), 3, "{fault}");
    }
}

// The judge.

/// What is economy by all signs, but no bare greeting.
const CHAT: &str = "Tell me a joke about penguins";

/// The classifier is never sure of economy.
const UNSURE: &str = "router: { economy: { threshold: 100% }, judge: { model: claude-haiku-5-5, deadline: 2s, max_share: 100% } }";

fn judged(word: &str) -> Behaviour {
    Behaviour { text: Some(word.to_owned()), path: Some("/v1/messages".to_owned()), ..Behaviour::default() }
}

#[tokio::test]
async fn the_judge_decides_where_the_signals_disagree() {
    for (word, model, reason) in
        [("small_talk", HAIKU, "judge"), ("Coaching.", SONNET, "judge"), ("serious", SONNET, "serious")]
    {
        let plane = Plane::start(UNSURE).await;
        plane.fake.script(judged(word));

        let answer = plane.call(&Call::said(SONNET, CHAT).version("2023-06-01")).await;

        let records = plane.proxy.records_of(2).await;
        let seen = plane.seen();
        assert_eq!(answer.status, 200, "{word}");
        assert_eq!(plane.models(), [HAIKU, model], "{word}");
        assert_eq!(answer.field("x-touchline-model"), model, "{word}");
        assert!(answer.field("x-touchline-reason").starts_with(reason), "{word}: {}", answer.head);
        let judge =
            records.iter().find(|record| record["output_tokens"] == seen_output(&records, 0)).unwrap();
        assert_eq!((&judge["model"], &judge["reason"]), (&HAIKU.into(), &"judge".into()), "{word}");
        assert!(judge["saved_usd"].as_f64() < Some(0.0), "nobody asked for it: {judge}");
        assert_eq!(seen[0].header("x-api-key"), seen[1].header("x-api-key"));
        assert_eq!(seen[0].header("anthropic-version"), Some("2023-06-01"));
        assert_eq!(seen[0].json()["system"][0]["cache_control"]["type"], "ephemeral");
        assert!(seen[0].json()["messages"][0]["content"].as_str().unwrap().contains(CHAT));
    }
}

fn seen_output(records: &[Value], place: usize) -> Value {
    records[place]["output_tokens"].clone()
}

#[tokio::test]
async fn a_turn_is_judged_once() {
    let plane = Plane::start(UNSURE).await;
    plane.fake.script(judged("small_talk"));
    let call = Call::said(SONNET, CHAT);

    plane.call(&call).await;
    let again = plane.call(&call).await;

    assert_eq!(plane.models(), [HAIKU, HAIKU, HAIKU], "one judge and two answers");
    assert_eq!(again.field("x-touchline-reason"), "same_turn");
}

#[tokio::test]
async fn without_a_verdict_the_turn_is_standard() {
    let strict = UNSURE.replace("deadline: 2s", "deadline: 100ms");
    let table = [
        ("another word", UNSURE, json!({"text": "I would rather not say."})),
        ("an error", UNSURE, json!({"status": 529})),
        ("no answer in time", &strict, json!({"head_delay_ms": 1000})),
        ("a cut", UNSURE, json!({"close_after": 10})),
    ];
    for (what, keys, behaviour) in table {
        let plane = Plane::start(keys).await;
        plane.fake.script(Behaviour::from_json(behaviour).unwrap());

        let answer = plane.call(&Call::said(SONNET, CHAT)).await;

        assert_eq!((answer.status, answer.field("x-touchline-model")), (200, SONNET), "{what}");
        assert_ne!(answer.field("x-touchline-reason"), "judge", "{what}");
        assert_eq!(plane.models(), [HAIKU, SONNET], "{what}");
        until("both records", || plane.proxy.records().len() == 2).await;
    }
}

#[tokio::test]
async fn the_judge_is_not_asked_where_it_may_not_be() {
    let few = UNSURE.replace("100% } }", "20% } }");
    let spent = format!(
        "{UNSURE}, budgets: [{{ name: judge, window: 1d, limit: 0.000001usd, by: tier, tier: economy }}]"
    );
    let table = [
        ("observed", format!("{UNSURE}, mode: observe"), Call::said(SONNET, CHAT)),
        ("off", format!("{UNSURE}, mode: off"), Call::said(SONNET, CHAT)),
        ("serious", UNSURE.to_owned(), Call::said(SONNET, SERIOUS)),
        ("named", UNSURE.to_owned(), Call::said(SONNET, CHAT).field("x-touchline-tier: standard")),
        ("asked of nobody", UNSURE.replace("claude-haiku-5-5", "\"\""), Call::said(SONNET, CHAT)),
        ("more than its share", few, Call::said(SONNET, CHAT)),
    ];
    for (what, keys, call) in table {
        let plane = Plane::start(&keys).await;

        plane.call(&call).await;

        assert_eq!(plane.models(), [SONNET], "{what}");
    }
    let plane = Plane::start(&spent).await;
    plane.fake.script(judged("coaching"));
    plane.call(&Call::said(SONNET, CHAT)).await;
    plane.call(&Call::said(SONNET, "Tell me a joke about owls")).await;
    assert_eq!(plane.models(), [HAIKU, SONNET, SONNET], "the budget was used up by the first question");
}

// An overloaded model.

const LEAVES: &str = "rewrite: { overload_fallback: true }";

fn overloaded(model: &str) -> Behaviour {
    Behaviour { model: Some(model.to_owned()), status: Some(529), times: Some(0), ..Behaviour::default() }
}

#[tokio::test]
async fn an_overloaded_model_gives_way_to_a_neighbouring_tier() {
    let table = [
        ("standard has no cheaper neighbour without both signals", SONNET, STANDARD, SONNET, OPUS),
        ("nor a serious turn", SONNET, SERIOUS, SONNET, OPUS),
        ("premium", SONNET, PREMIUM, OPUS, SONNET),
        ("economy", SONNET, ECONOMY, HAIKU, SONNET),
    ];
    for (what, requested, words, full, model) in table {
        let plane = Plane::start(LEAVES).await;
        plane.fake.script(overloaded(full));

        let (answer, record) = plane.recorded(&Call::said(requested, words).by_sdk()).await;

        assert_eq!(answer.status, 200, "{what}");
        assert_eq!(plane.models(), [full, model], "{what}");
        assert_eq!(answer.field("x-touchline-model"), model, "{what}");
        assert!(answer.field("x-touchline-reason").starts_with("overload"), "{what}");
        assert_eq!((&record["model"], &record["reason"]), (&model.into(), &"overload".into()), "{what}");
        assert!(record["cost_usd"].as_f64() > Some(0.0), "{what}");
        assert_eq!(plane.proxy.metric("touchline_claude_fallbacks_total", "overloaded").await, 1.0, "{what}");
    }
}

#[tokio::test]
async fn where_no_neighbour_answers_the_client_hears_what_its_model_said() {
    let call = Call::said(SONNET, STANDARD).by_sdk();
    for (what, keys, faults) in [
        ("nobody asked for it", "", vec![overloaded(SONNET)]),
        ("named by the client", LEAVES, vec![overloaded(SONNET)]),
        ("all are full", LEAVES, vec![overloaded(SONNET), overloaded(OPUS)]),
        (
            "the neighbour refuses",
            LEAVES,
            vec![overloaded(SONNET), Behaviour { status: Some(400), ..overloaded(OPUS) }],
        ),
    ] {
        let plane = Plane::start(keys).await;
        faults.into_iter().for_each(|fault| plane.fake.script(fault));
        let call = if what.starts_with("named") {
            call.clone().field("x-touchline-tier: standard")
        } else {
            call.clone()
        };

        let (answer, record) = plane.recorded(&call).await;

        assert_eq!((answer.status, answer.field("x-touchline-model")), (529, SONNET), "{what}");
        assert_eq!(
            (&record["http.response.status_code"], &record["model"]),
            (&529.into(), &SONNET.into()),
            "{what}"
        );
    }
}

#[tokio::test]
async fn breakpoints_that_are_refused_are_not_tried_again() {
    let plane = Plane::start("").await;
    let system = long_text(20_000);
    let call = |words: &str| Call::of(&with(said(SONNET, words), &json!({"system": system})));
    plane.fake.script(Behaviour { status: Some(400), ..Behaviour::default() });

    let first = plane.call(&call(STANDARD)).await;
    let second = plane.call(&call("And how do I ask her friend to join us for lunch?")).await;

    assert_eq!((first.status, second.status), (200, 200));
    let marked: Vec<_> = plane.seen().iter().map(|seen| seen.json().get("cache_control").is_some()).collect();
    assert_eq!(marked, [true, false, false]);
}

// The limits of models.

#[tokio::test]
async fn limits_are_read_from_the_api_with_the_operators_key() {
    let asked = AtomicUsize::new(0);
    let backend = Backend::start(move |request| {
        let page = |model: &str, limit: u32, more: bool| {
            let body = json!({
                "data": [{"id": model, "max_input_tokens": 1_000_000, "max_tokens": limit, "new": {}}],
                "has_more": more, "last_id": model,
            });
            answer("200 OK", &["Content-Type: application/json"], &body.to_string())
        };
        match request.target() {
            "/v1/models?limit=1000" if asked.fetch_add(1, SeqCst) == 0 => {
                answer("500 Internal Server Error", &[], "no")
            }
            "/v1/models?limit=1000" => page(SONNET, 128_000, true),
            "/v1/models?limit=1000&after_id=claude-sonnet-5-5" => page(HAIKU, 100, false),
            _ => ok("{}"),
        }
    })
    .await;
    let proxy = before(
        backend.address,
        "capabilities: { api_key: sk-operator }, tiers: { economy: [claude-haiku-5-5] }",
    );
    // Nothing waits for it.
    let early = raw(proxy.claude, Call::said(SONNET, ECONOMY).bytes()).await;
    assert_eq!(early.field("x-touchline-model"), HAIKU);

    until("the list was read", || backend.requests().iter().any(|seen| seen.target().contains("after_id")))
        .await;
    let mut late = early;
    let deadline = Instant::now() + Duration::from_secs(5);
    while !late.field("x-touchline-reason").starts_with("max_tokens") && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
        // A conversation of its own each time.
        let key = format!("sk-{}", (deadline - Instant::now()).as_micros());
        late = raw(proxy.claude, Call::said(SONNET, ECONOMY).key(&key).bytes()).await;
    }

    assert!(late.field("x-touchline-reason").starts_with("max_tokens"), "{}", late.head);
    let lists = backend.requests().into_iter().filter(|seen| seen.target().starts_with("/v1/models"));
    for list in lists {
        assert_eq!(list.field("x-api-key"), Some("sk-operator"), "never a client's");
    }
}

#[tokio::test]
async fn the_operators_key_takes_the_place_of_the_clients() {
    let plane = Plane::start("api_key: sk-operator").await;

    plane.call(&Call::said(SONNET, STANDARD).field("authorization: Bearer theirs")).await;

    let seen = plane.last();
    assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (Some("sk-operator"), None));
}

// Everything else.

#[tokio::test]
async fn other_methods_and_paths_pass() {
    let backend = Backend::start(|request| {
        let mut body = format!("{} {}", request.method(), request.target());
        if request.method() == "HEAD" {
            body.clear();
        }
        answer("200 OK", &["X-Here: yes", "Allow: GET"], &body)
    })
    .await;
    let proxy = before(backend.address, "");
    for (method, target) in [
        ("GET", "/v1/models"),
        ("HEAD", "/v1/models"),
        ("OPTIONS", "/v1/messages"),
        ("GET", "/v1/messages"),
        ("DELETE", "/v1/files/file_1?beta=true"),
        ("POST", "/v1/complete"),
        ("POST", "/v1/messages/batches"),
        ("PUT", "/v9/whatever/%41?x=%2F"),
        ("PATCH", "/"),
    ] {
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\nContent-Length: 0\r\n\r\n");

        let answer = raw(proxy.claude, request).await;

        assert_eq!((answer.status, answer.field("x-here")), (200, "yes"), "{method} {target}");
        if method != "HEAD" {
            assert_eq!(answer.text(), format!("{method} {target}"));
        }
    }
}

#[tokio::test]
async fn a_client_that_expects_a_word_first_gets_it() {
    let plane = Plane::start("").await;
    for target in ["/v1/messages", "/v1/files", "/v1/messages/count_tokens"] {
        let body = if target == "/v1/messages" {
            said(SONNET, STANDARD).to_string()
        } else {
            with(json!({"model": SONNET}), &json!({"messages": [{"role": "user", "content": "hi"}]}))
                .to_string()
        };
        let mut client = Client::connect(plane.proxy.claude).await;
        let fields = "x-api-key: k\r\nanthropic-version: 2026-10-21\r\ncontent-type: application/json";
        client
            .send(format!(
                "POST {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ))
            .await;

        let interim = client.head().await.unwrap();
        client.send(&body).await;
        let answer = client.answer().await;

        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
        assert_eq!((answer.status, answer.interim.len()), (200, 0), "{target}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_to_read_passes_and_its_usage_is_counted() {
    let plane = Plane::start("inspect: { body: 64KiB }").await;
    let call = Call::said(SONNET, &"word ".repeat(40_000));

    let (answer, record) = plane.recorded(&call).await;

    assert_eq!((answer.status, answer.field("x-touchline-reason")), (200, "too_large"));
    assert_eq!(plane.last().body, call.body);
    assert_eq!((&record["reason"], &record["model"]), (&"too_large".into(), &SONNET.into()));
    assert!(record["input_tokens"].as_u64().unwrap() > 10_000 && record["cost_usd"].as_f64() > Some(0.0));
}

#[tokio::test]
async fn a_spent_budget_holds_for_what_is_not_read_too() {
    let budget = "inspect: { body: 64KiB }, budgets: [{ name: day, window: 1d, limit: 0.000001usd }]";
    let plane = Plane::start(budget).await;
    let call = Call::said(SONNET, &"word ".repeat(40_000));
    plane.recorded(&call).await;

    let answer = plane.call(&call).await;

    assert_eq!((answer.status, answer.field("x-should-retry")), (429, "false"));
    assert_eq!(plane.seen().len(), 1);
}

const SIZE: usize = 100 << 20;

#[tokio::test]
async fn a_hundred_megabytes_pass_in_bounded_memory() {
    for (target, framing) in [
        ("/v1/files", "length"),
        ("/v1/files", "chunks"),
        ("/v1/messages", "length"),
        ("/v1/messages", "chunks"),
    ] {
        let backend = Backend::raw(|mut stream, _| async move {
            let mut buffer = Vec::new();
            let Some(head) = read_head(&mut stream, &mut buffer).await else { return };
            let (mut read, mut piece) = (buffer.len(), vec![0; 512 * 1024]);
            let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding");
            let mut is_over = !head.starts_with("POST");
            while !is_over {
                let Ok(count) = stream.read(&mut piece).await else { return };
                if count == 0 {
                    return;
                }
                read += count;
                is_over = if is_chunked { piece[..count].ends_with(b"0\r\n\r\n") } else { read == SIZE };
                if read % 16 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            let _ = stream.write_all(text("200 OK", &["Connection: close"], "{}").as_bytes()).await;
            let _ = stream.read(&mut piece).await;
        })
        .await;
        let section = format!("{{ listen: \"127.0.0.1:0\", upstream: \"http://{}\" }}", backend.address);
        let process = Process::start(&Setup::before(&backend).top("claude", &section).yaml());
        let up: Value = process
            .log()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line.to_string().contains("touchline is up"))
            .unwrap();
        let address =
            up["claude"].as_str().or_else(|| up["fields"]["claude"].as_str()).unwrap().parse().unwrap();
        raw(address, "GET /warm HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let before = process.memory();

        let mut client = Client::connect(address).await;
        let (line, piece) = match framing {
            "length" => (format!("Content-Length: {SIZE}"), vec![b'x'; 1 << 20]),
            _ => {
                let mut piece = b"100000\r\n".to_vec();
                piece.resize(piece.len() + (1 << 20), b'x');
                piece.extend_from_slice(b"\r\n");
                ("Transfer-Encoding: chunked".to_owned(), piece)
            }
        };
        client.send(format!("POST {target} HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\n{line}\r\n\r\n")).await;
        let mut most = 0;
        for _ in 0..SIZE >> 20 {
            client.send(&piece).await;
            most = most.max(process.memory());
        }
        if framing == "chunks" {
            client.send("0\r\n\r\n").await;
        }
        let answer = client.answer().await;

        assert_eq!(answer.status, 200, "{target} {framing}");
        // What is read of a call before it is known to be too long, twice for a buffer that grows, and buffers.
        let bound = if target == "/v1/messages" { 16 << 20 } else { 4 << 20 };
        assert!(most < before + bound, "{target} {framing}: {before} grew to {most}");
    }
}

// Clients that leave, and the end.

#[tokio::test]
async fn a_client_that_leaves_takes_its_call_with_it() {
    let streaming = || Behaviour { event_delay_ms: Some(50), ..Behaviour::default() };
    let waiting = || Behaviour { head_delay_ms: 5_000, ..Behaviour::default() };
    for (what, behaviour, call) in [
        ("while it waits", waiting(), Call::said(SONNET, STANDARD)),
        ("while it waits for a stream", waiting(), Call::streamed(SONNET, STANDARD)),
        ("in the middle of a stream", streaming(), Call::streamed(SONNET, STANDARD)),
    ] {
        let plane = Plane::start("").await;
        plane.fake.script(behaviour);
        let mut client = plane.open(&call).await;
        until("the call is at the API", || plane.seen().len() == 1).await;
        if what.starts_with("in the middle") {
            client.head().await.unwrap();
            client.chunk().await.unwrap();
        }

        drop(client);
        let since = Instant::now();

        until("the API is left", || plane.last().gone.is_some()).await;
        assert!(since.elapsed() < SOON, "{what}: {:?}", since.elapsed());
        assert_eq!(plane.proxy.record().await["outcome"], "client_abort", "{what}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_a_body_that_passes_takes_it_along() {
    for (target, fields) in [("/v1/files", ""), ("/v1/messages", "content-encoding: gzip\r\n")] {
        let plane = Plane::start("").await;
        let mut client = Client::connect(plane.proxy.claude).await;
        client
            .send(format!("POST {target} HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\n{fields}Content-Length: 9000\r\n\r\nbegun"))
            .await;
        until("the request is at the API", || plane.seen().len() == 1).await;

        drop(client);
        let since = Instant::now();

        until("the API is left", || plane.last().gone.is_some()).await;
        assert!(since.elapsed() < SOON, "{target}: {:?}", since.elapsed());
        assert!(!plane.last().is_complete);
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_a_body_that_is_read_makes_no_call() {
    let plane = Plane::start("").await;
    let mut client = Client::connect(plane.proxy.claude).await;
    client.send("POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n{\"model\":").await;
    tokio::time::sleep(Duration::from_millis(20)).await;

    drop(client);

    assert_eq!(plane.proxy.record().await["outcome"], "client_abort");
    assert_eq!(plane.seen().len(), 0);
}

#[tokio::test]
async fn calls_are_taken_and_streams_finish_while_the_process_drains() {
    let fake_pace = Behaviour { event_delay_ms: Some(60), ..Behaviour::default() };
    let mut plane = Plane::start("").await;
    plane.fake.script(fake_pace);
    let mut streaming = plane.open(&Call::streamed(SONNET, STANDARD)).await;
    streaming.head().await.unwrap();

    assert!(plane.proxy.post("/drain", "").await.status < 300);
    let during = plane.call(&Call::said(SONNET, STANDARD)).await;
    let ended = plane.proxy.stop();
    let mut events = Vec::new();
    while let Some(chunk) = streaming.chunk().await.filter(|chunk| !chunk.is_empty()) {
        events.extend(chunk);
    }

    assert_eq!(during.status, 200);
    assert!(String::from_utf8_lossy(&events).contains("event: message_stop"));
    tokio::task::spawn_blocking(move || ended.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn the_backend_may_call_until_its_last_request_is_answered() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let backend = Backend::start(move |_| [vec![Step::Gate(Arc::clone(&open))], ok("late")].concat()).await;
    let fake = Fake::start(Settings::default()).await.unwrap();
    let section = format!("{{ listen: \"127.0.0.1:0\", upstream: \"http://{}\" }}", fake.addr);
    let mut proxy = Setup::before(&backend).top("claude", &section).start();
    let mut waiting = Client::connect(proxy.address).await;
    waiting.ask("/slow").await;
    until("the request is at the backend", || backend.count() == 1).await;
    let mut kept = Client::connect(proxy.claude).await;
    let call = Call::said(SONNET, STANDARD);
    kept.send(call.bytes()).await;
    assert_eq!(kept.answer().await.status, 200);

    let (address, claude) = (proxy.address, proxy.claude);
    let ended = proxy.stop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "the ingress stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let anew = raw(claude, call.bytes()).await;
    kept.send(call.bytes()).await;
    let again = kept.answer().await;
    gate.add_permits(1);

    assert_eq!((anew.status, again.status), (200, 200));
    assert_eq!(waiting.answer().await.text(), "late");
    within("the end", tokio::task::spawn_blocking(move || ended.join().unwrap())).await.unwrap();
    assert!(TcpStream::connect(claude).await.is_err());
}
