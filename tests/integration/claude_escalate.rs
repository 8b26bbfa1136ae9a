//! `answers.on_refusal: escalate`: a refusal of a cheaper model is answered by the client's own, once, and both are paid.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    claude::{
        Call, ECONOMY, HAIKU, OPUS, PREMIUM, Plane, SONNET, STANDARD, Talk, fake::Behaviour, long_text, said,
        with,
    },
    client::{Answer, Client},
    until, until_async,
};

const ESCALATES: &str = "answers: { on_refusal: escalate }";

fn refusal() -> Behaviour {
    Behaviour {
        model: Some(HAIKU.to_owned()),
        stop_reason: Some("refusal".to_owned()),
        times: Some(0),
        ..Behaviour::default()
    }
}

/// Light talk of an account of its own, whole and as a stream.
fn light() -> [Call; 2] {
    [Call::said(SONNET, ECONOMY).key("a").by_sdk(), Call::streamed(SONNET, ECONOMY).key("b").by_sdk()]
}

fn starts(answer: &Answer) -> usize {
    answer.text().matches("event: message_start").count()
}

#[tokio::test]
async fn the_clients_own_model_answers_what_a_cheaper_one_refuses() {
    for call in light() {
        let plane = Plane::start(ESCALATES).await;
        plane.fake.script(refusal());

        let answer = plane.call(&call).await;
        let records = plane.proxy.records_of(2).await;

        assert_eq!((answer.status, answer.is_whole), (200, true));
        assert!(
            answer.text().contains("end_turn") && !answer.text().contains("refusal"),
            "{}",
            answer.text()
        );
        assert!(starts(&answer) <= 1 && answer.text().contains(SONNET) && !answer.text().contains(HAIKU));
        assert_eq!(plane.models(), [HAIKU, SONNET]);
        assert_eq!(plane.last().body, call.body, "the client's own bytes");
        assert_eq!(answer.field("x-touchline-model"), SONNET);
        assert_eq!(answer.field("x-touchline-reason"), "escalated; wanted=economy");

        let (first, second) = if records[0]["model"] == HAIKU { (0, 1) } else { (1, 0) };
        let (first, second) = (&records[first], &records[second]);
        assert_eq!((&first["refused"], &first["tier"]), (&json!(true), &"economy".into()), "{first}");
        assert_eq!((&second["refused"], &second["tier"]), (&Value::Null, &"standard".into()), "{second}");
        assert_eq!((&first["outcome"], &second["outcome"]), (&Value::Null, &Value::Null));
        assert_eq!(second["reason"], "escalated");
        assert!(first["cost_usd"].as_f64() > Some(0.0) && first["saved_usd"].as_f64() < Some(0.0), "{first}");
        assert_eq!((&first["estimated"], &second["estimated"]), (&Value::Null, &Value::Null));
        assert_eq!(second["saved_usd"].as_f64(), Some(0.0), "it is what was asked for: {second}");
        let total = plane.performance().await["total"]["cost_usd"].as_f64().unwrap();
        let sum = first["cost_usd"].as_f64().unwrap() + second["cost_usd"].as_f64().unwrap();
        assert!((total - sum).abs() < 1e-8, "{total} {sum}");
        assert_eq!(plane.proxy.metric("touchline_claude_fallbacks_total", "refusal").await, 1.0);
        assert_eq!(plane.proxy.metric("touchline_claude_refusals_total", "economy").await, 1.0);
        assert_eq!(plane.proxy.metric("touchline_claude_refusals_total", "standard").await, 0.0);
    }
}

#[tokio::test]
async fn a_refusal_is_passed_where_it_may_not_be_escalated() {
    let spent = "budgets: [{ name: day, window: 1d, limit: 1usd, soft: 0% }]";
    let own = |model: &str| Behaviour { model: Some(model.to_owned()), ..refusal() };
    let named = Call::said(SONNET, ECONOMY).field("x-touchline-tier: economy");
    let table = [
        ("nobody asked for it", String::new(), Call::said(SONNET, ECONOMY), refusal(), HAIKU),
        ("the client's own model", ESCALATES.to_owned(), Call::said(SONNET, STANDARD), own(SONNET), SONNET),
        ("a dearer model", ESCALATES.to_owned(), Call::said(SONNET, PREMIUM), own(OPUS), OPUS),
        ("a tier that the client names", ESCALATES.to_owned(), named, refusal(), HAIKU),
        ("a budget", format!("{ESCALATES}, {spent}"), Call::said(SONNET, ECONOMY), refusal(), HAIKU),
    ];
    for (what, keys, call, behaviour, model) in table {
        let plane = Plane::start(&keys).await;
        plane.fake.script(behaviour);

        let (answer, record) = plane.recorded(&call.by_sdk()).await;

        assert_eq!((answer.status, plane.models()), (200, vec![model.to_owned()]), "{what}");
        assert!(answer.is_whole && answer.text().contains("refusal"), "{what}");
        assert_eq!((&record["refused"], &record["model"]), (&json!(true), &model.into()), "{what}");
    }
}

#[tokio::test]
async fn what_has_words_is_escalated_as_a_whole_and_passed_as_a_stream() {
    for (call, models) in light().into_iter().zip([vec![HAIKU, SONNET], vec![HAIKU]]) {
        let plane = Plane::start(ESCALATES).await;
        plane.fake.script(Behaviour { text: Some("Well, I would rather".to_owned()), ..refusal() });

        let answer = plane.call(&call).await;

        assert_eq!((answer.status, plane.models()), (200, models.iter().map(|m| (*m).to_owned()).collect()));
        assert_eq!(answer.text().contains("refusal"), models.len() == 1);
    }
}

#[tokio::test]
async fn it_is_done_once() {
    for call in light() {
        let plane = Plane::start(ESCALATES).await;
        plane.fake.script(Behaviour { model: None, ..refusal() });

        let answer = plane.call(&call).await;

        assert_eq!(plane.models(), [HAIKU, SONNET]);
        assert!(answer.is_whole && answer.text().contains("refusal") && answer.text().contains(SONNET));
        let records = plane.proxy.records_of(2).await;
        assert!(records.iter().all(|record| record["refused"] == true), "{records:#?}");
    }
}

#[tokio::test]
async fn where_the_second_call_fails_the_client_gets_the_refusal() {
    let faults = [
        json!({"status": 529}),
        json!({"status": 500}),
        json!({"status": 400}),
        json!({"close_before_head": true}),
        json!({"close_in_head": 20}),
    ];
    for fault in faults {
        for call in light() {
            let plane =
                Plane::start(&format!("{ESCALATES}, budgets: [{{ name: day, window: 1d, limit: 1usd }}]"))
                    .await;
            plane.fake.script(refusal());
            plane
                .fake
                .script(Behaviour::from_json(with(json!({"model": SONNET, "times": 0}), &fault)).unwrap());

            let (answer, record) = plane.recorded(&call).await;

            assert_eq!((answer.status, answer.is_whole), (200, true), "{fault}");
            assert!(answer.text().contains("refusal") && answer.text().contains(HAIKU), "{fault}");
            assert_eq!((&record["model"], &record["refused"]), (&HAIKU.into(), &json!(true)), "{fault}");
            assert_eq!(record["estimated"], Value::Null, "{fault}: {record}");
            let cost = record["cost_usd"].as_f64().unwrap();
            // What was reserved for the second call is given back.
            until_async("the budget is settled", || async {
                (plane.proxy.metric("touchline_claude_budget_used_ratio", "day").await - cost).abs() < 1e-6
            })
            .await;
        }
    }
}

#[tokio::test]
async fn other_answers_pass_byte_for_byte_and_faults_as_they_are() {
    let behaviours = [
        json!({}),
        json!({"text": "é – 你好 😀", "pings": 3, "unknown_event": true, "cut": {"each": "char"}}),
        json!({"encoding": "gzip"}),
        json!({"stop_reason": "max_tokens"}),
        json!({"headers": {"content-encoding": "rot13"}}),
        json!({"close_after_events": 2}),
        json!({"close_after": 30}),
        json!({"error_after": 2}),
        json!({"status": 429}),
    ];
    for behaviour in behaviours {
        for call in light() {
            let (plain, escalating) = (Plane::start("").await, Plane::start(ESCALATES).await);
            let call = call.field("accept-encoding: gzip");
            for plane in [&plain, &escalating] {
                plane.fake.script(Behaviour::from_json(behaviour.clone()).unwrap());
            }

            let (expected, expected_record) = plain.recorded(&call).await;
            let (answer, record) = escalating.recorded(&call).await;

            let stable = |body: &[u8]| {
                let text = String::from_utf8_lossy(body).into_owned();
                text.split("req_touchline_").next().unwrap_or_default().to_owned()
            };
            assert_eq!((answer.status, answer.is_whole), (expected.status, expected.is_whole), "{behaviour}");
            assert_eq!(stable(&answer.body), stable(&expected.body), "{behaviour}");
            for name in ["model", "tier", "outcome", "output_tokens", "cost_usd", "estimated", "saved_usd"] {
                assert_eq!(record[name], expected_record[name], "{behaviour} {name}");
            }
            assert_eq!(escalating.models(), [HAIKU], "{behaviour}");
        }
    }
}

#[tokio::test]
async fn the_words_of_a_stream_are_not_held_back() {
    let plane = Plane::start(ESCALATES).await;
    plane.fake.script(Behaviour {
        text: Some("Hello there, friend of mine. ".repeat(20)),
        thinking: Some(true),
        event_delay_ms: Some(50),
        ..Behaviour::default()
    });
    let mut client = plane.open(&Call::streamed(SONNET, ECONOMY)).await;
    let since = Instant::now();

    let seen = read_until(&mut client, "text_delta").await;

    assert!(
        seen.contains("message_start") && since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(plane.models(), [HAIKU]);
}

#[tokio::test]
async fn a_stream_without_words_is_held_no_longer_than_a_pause_may_be() {
    let plane = Plane::start(&format!("{ESCALATES}, timeouts: {{ idle: 500ms }}")).await;
    plane.fake.script(Behaviour {
        thinking: Some(true),
        shows_thinking: Some(true),
        event_delay_ms: Some(200),
        ..Behaviour::default()
    });
    let mut client = plane.open(&Call::streamed(SONNET, ECONOMY)).await;
    let since = Instant::now();

    let seen = read_until(&mut client, "message_start").await;

    assert!(!seen.contains("text_delta"));
    let held = since.elapsed();
    assert!(held >= Duration::from_millis(400) && held < Duration::from_secs(2), "{held:?}");
}

async fn read_until(client: &mut Client, what: &str) -> String {
    client.head().await.unwrap();
    let mut seen = String::new();
    while !seen.contains(what) {
        seen.push_str(&String::from_utf8(client.chunk().await.unwrap()).unwrap());
    }
    seen
}

#[tokio::test]
async fn a_client_that_leaves_ends_both_calls() {
    let plane = Plane::start(ESCALATES).await;
    plane.fake.script(refusal());
    plane.fake.script(Behaviour {
        model: Some(SONNET.to_owned()),
        head_delay_ms: 5_000,
        ..Behaviour::default()
    });
    let client = plane.open(&Call::streamed(SONNET, ECONOMY)).await;
    until("the second call is at the API", || plane.seen().len() == 2).await;

    drop(client);

    until("it is left", || plane.last().gone.is_some()).await;
    let record = plane.proxy.record().await;
    assert_eq!((&record["model"], &record["outcome"]), (&HAIKU.into(), &"client_abort".into()));
    assert!(record["cost_usd"].as_f64() > Some(0.0), "the refusal has used something: {record}");
}

#[tokio::test]
async fn a_conversation_with_a_refusal_stays_on_its_own_model() {
    let plane = Plane::start(ESCALATES).await;
    plane.fake.script(Behaviour { times: Some(1), ..refusal() });
    let call = Call::of(&with(said(SONNET, ECONOMY), &json!({"metadata": {"user_id": "u"}})));
    plane.call(&call).await;

    let again = plane.call(&call).await;

    assert_eq!(again.field("x-touchline-reason").split(';').next(), Some("same_turn"));
    assert_eq!(plane.models(), [HAIKU, SONNET, SONNET]);

    let plane = Plane::start(ESCALATES).await;
    let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"system": long_text(200)}));
    plane.fake.script(Behaviour { times: Some(1), ..refusal() });
    talk.push(json!({"role": "user", "content": ECONOMY}));
    plane.call(&Call::of(&talk.body).key("a")).await;
    plane.proxy.records_of(2).await;
    talk.push(json!({"role": "assistant", "content": "Hello! How are you?"}));
    talk.push(json!({"role": "user", "content": "thanks, bye!"}));

    let taken = talk.send().await;

    assert_eq!((taken.model().as_str(), taken.reason()), (SONNET, "hold"));
}
