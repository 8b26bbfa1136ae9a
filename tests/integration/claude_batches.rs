//! Batches: they pass as they are, or each of their calls gets the model that it would get by itself. Nothing else changes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    claude::{
        Call, ECONOMY, HAIKU, OLD, OLD_SONNET, OPUS, PREMIUM, Plane, SERIOUS, SONNET, STANDARD, Talk,
        fake::Behaviour, long_text, said, with,
    },
    client::Answer,
};

const ROUTES: &str = "rewrite: { batches: route, transforms: [drop_sampling] }";
const PATH: &str = "/v1/messages/batches";

fn batch(body: impl Into<Vec<u8>>) -> Call {
    Call::new(body).to(PATH)
}

fn of(calls: &[Value]) -> Call {
    let items: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(nth, call)| json!({"custom_id": format!("item-{nth}"), "params": call}))
        .collect();
    batch(json!({"requests": items}).to_string())
}

/// The models that the API was asked for, call by call.
fn models(plane: &Plane) -> Vec<String> {
    let body = plane.last().json();
    let items = body["requests"].as_array().unwrap();
    items.iter().map(|item| item["params"]["model"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn passes(plane: &Plane, call: &Call) -> Answer {
    let answer = plane.call(call).await;
    assert!(plane.last().body == call.body, "{}", String::from_utf8_lossy(&plane.last().body));
    answer
}

async fn items(plane: &Plane, result: &str) -> f64 {
    plane.proxy.metric("touchline_claude_batch_items_total", &format!("result=\"{result}\"")).await
}

#[tokio::test]
async fn batches_pass_unless_they_are_to_be_routed() {
    let body = json!([said(SONNET, ECONOMY), said(SONNET, PREMIUM)]);
    for keys in [
        "",
        "rewrite: { batches: pass }",
        "mode: observe, rewrite: { batches: route }",
        "mode: off, rewrite: { batches: route }",
    ] {
        let plane = Plane::start(keys).await;

        let answer = passes(&plane, &of(body.as_array().unwrap())).await;

        assert_eq!((answer.status, answer.fields("x-touchline-reason").len()), (200, 0), "{keys}");
        assert_eq!(plane.proxy.metric("touchline_claude_not_counted_total", "").await, 1.0, "{keys}");
        assert_eq!(items(&plane, "").await, 0.0, "{keys}");
    }
}

#[tokio::test]
async fn each_call_of_a_batch_gets_the_model_that_it_would_get_by_itself() {
    let plane = Plane::start(ROUTES).await;
    let calls = [
        said(SONNET, ECONOMY),
        said(SONNET, STANDARD),
        said(SONNET, PREMIUM),
        said(OPUS, SERIOUS),
        said("claude-fable-5-2", ECONOMY),
        with(said(SONNET, ECONOMY), &json!({"system": [{"type": "text", "text": long_text(9_000)}]})),
        with(said(HAIKU, STANDARD), &json!({"stop_sequences": ["é"]})),
    ];
    let batch = of(&calls);

    let answer = plane.call(&batch).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(models(&plane), [HAIKU, SONNET, OPUS, SONNET, "claude-fable-5-2", HAIKU, SONNET]);
    // The names apart, the API got the client's own bytes.
    let mut wanted: Value = serde_json::from_slice(&batch.body).unwrap();
    for (item, model) in wanted["requests"].as_array_mut().unwrap().iter_mut().zip(models(&plane)) {
        item["params"]["model"] = model.into();
    }
    assert_eq!(String::from_utf8(plane.last().body).unwrap(), wanted.to_string());
    assert_eq!(plane.last().header("content-length"), Some(wanted.to_string().len().to_string().as_str()));
    assert_eq!((items(&plane, "moved").await, items(&plane, "kept").await), (5.0, 2.0));
    assert_eq!(plane.proxy.metric("touchline_claude_conversations", "").await, 0.0);
    assert!(plane.proxy.records().is_empty(), "what a batch costs is not counted");
    let performance = plane.performance().await;
    assert_eq!((&performance["total"]["calls"], &performance["usage_unknown_calls"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn not_a_byte_besides_the_name_is_touched() {
    let plane = Plane::start(ROUTES).await;
    let light = |model: &str| {
        format!(
            "{{ \"max_tokens\" :2048,\n\"messages\":[ {{\"content\":\"hello!\",\"role\":\"\\u0075ser\"}}],\t\"mod\\u0065l\" : \"{model}\" }}"
        )
    };
    let body = |model: &str| {
        format!(
            "\n{{ \"requests\" : [ {{\"params\":{} , \"custom_id\":\"é\\ud83d\\ude00\" }},\r\n{{ \"custom_id\":\"b\",\"params\" : {} }} ] }}\n",
            light(model),
            light(model)
        )
    };

    let answer = plane.call(&batch(body(SONNET))).await;

    assert_eq!((answer.status, plane.last().body), (200, body(HAIKU).into_bytes()), "{}", answer.text());
}

#[tokio::test]
async fn what_cannot_be_read_passes_as_it_is() {
    let light = said(SONNET, ECONOMY).to_string();
    let twice = light.replace("\"model\"", "\"model\":\"x\",\"model\"");
    let items = format!(
        "{{\"requests\":[{{\"custom_id\":\"a\",\"params\":{twice}}},{{\"custom_id\":\"b\",\"params\":[]}},{{\"custom_id\":\"c\"}},\
         {{\"custom_id\":\"d\",\"params\":{light},\"params\":{light}}}]}}"
    );
    let plane = Plane::start(ROUTES).await;
    passes(&plane, &batch(items.clone())).await;
    assert_eq!(self::items(&plane, "unread").await, 4.0);
    let one = format!("{{\"custom_id\":\"e\",\"params\":{light}}}");
    for body in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        format!("{{\"requests\":[{one}],\"requests\":[]}}"),
        format!("{{\"requests\":[{one}]}} x"),
        format!("{{\"requests\":{one}}}"),
    ] {
        passes(&plane, &batch(body)).await;
    }
    let routed = |call: Value| of(&[call]);
    passes(&plane, &routed(said(SONNET, ECONOMY)).field("content-digest: sha-256=:x:")).await;
    passes(&plane, &routed(said(SONNET, ECONOMY)).field("content-encoding: gzip")).await;
    let small = Plane::start(&format!("{ROUTES}, inspect: {{ body: 4KiB }}")).await;
    passes(&small, &routed(with(said(SONNET, ECONOMY), &json!({"system": long_text(5_000)})))).await;
}

#[tokio::test]
async fn guards_rules_and_the_clients_word_hold_for_each_call() {
    let plane = Plane::start(ROUTES).await;
    let hot = with(said(OLD_SONNET, PREMIUM), &json!({"temperature": 0.7}));
    let bound = with(said(SONNET, ECONOMY), &json!({"speed": "fast"}));
    let short = with(said(OLD_SONNET, PREMIUM), &json!({"max_tokens": 10}));

    plane.call(&of(&[hot.clone(), bound, short]).version(OLD)).await;

    assert_eq!(models(&plane), [OPUS, SONNET, OLD_SONNET]);
    assert_eq!(plane.last().json()["requests"][0]["params"]["temperature"], Value::Null);
    plane
        .call(&of(&[said(SONNET, STANDARD), said(SONNET, SERIOUS)]).field("x-touchline-tier: economy"))
        .await;
    assert_eq!(models(&plane), [HAIKU, SONNET]);
    assert_eq!(plane.last().header("x-touchline-tier"), None);
    passes(&plane, &of(&[said(SONNET, ECONOMY)]).field("x-touchline-tier: off")).await;
}

#[tokio::test]
async fn a_known_conversation_keeps_its_model_in_a_batch() {
    let plane = Plane::start(ROUTES).await;
    let mut talk = Talk::new(&plane, SONNET, "sk-test-1");
    talk.push(json!({"role": "user", "content": PREMIUM}));
    assert_eq!(talk.send().await.model(), OPUS);

    plane.call(&of(&[talk.body.clone()])).await;

    assert_eq!(models(&plane), [OPUS]);
}

#[tokio::test]
async fn a_batch_that_is_refused_is_sent_as_it_came_and_no_failure_is_repeated() {
    let call = of(&[said(SONNET, ECONOMY)]);
    for (status, requests) in [(400, 2), (404, 2), (500, 1), (529, 1), (429, 1)] {
        let plane = Plane::start(ROUTES).await;
        plane.fake.script(Behaviour { status: Some(status), ..Behaviour::default() });

        let answer = plane.call(&call).await;

        assert_eq!(plane.seen().len(), requests, "{status}");
        assert_eq!(answer.status, if requests == 2 { 200 } else { status }, "{status}");
        assert_eq!(plane.last().body == call.body, requests == 2, "{status}");
    }
}

#[tokio::test]
async fn a_long_batch_holds_nobody_up() {
    let plane = Plane::start(ROUTES).await;
    let calls: Vec<_> = (0..800).map(|nth| said(SONNET, &format!("hello! number {nth}"))).collect();
    let long = crate::support::spawn(crate::support::client::raw(plane.proxy.claude, of(&calls).bytes()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let since = Instant::now();

    plane.call(&Call::said(SONNET, STANDARD)).await;

    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(long.await.unwrap().status, 200);
}
