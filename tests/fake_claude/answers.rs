//! The answers: the events and their order, texts, usage, thinking, the other endpoints.

use serde_json::{Value, json};

use crate::{
    claude::Behaviour,
    wire::{Answer, HAIKU, NEW, OLD, OPUS, SONNET, fields, post, request, send, start},
};

#[tokio::test]
async fn a_stream_has_the_api_s_events_in_their_order() {
    let fake = start().await;
    fake.script(Behaviour { unknown_event: Some(true), shows_thinking: Some(true), ..Behaviour::default() });
    let tools = json!([{"name": "look", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}]);
    let messages = json!([{"role": "user", "content": "please look"}]);
    let body = request(SONNET, &json!({"tools": tools, "messages": messages, "stream": true}));

    let answer = post(&fake, NEW, &body).await;

    assert!(answer.is_complete && answer.head.contains("text/event-stream"));
    let mut names: Vec<_> = answer
        .events()
        .iter()
        .map(|(name, data)| {
            assert_eq!(data["type"], *name);
            data["delta"]["type"].as_str().unwrap_or(name).to_owned()
        })
        .collect();
    names.dedup();
    let expected = [
        "message_start",
        "content_block_start",
        "ping",
        "thinking_delta",
        "content_block_note",
        "thinking_delta",
        "signature_delta",
        "content_block_stop",
        "content_block_start",
        "text_delta",
        "content_block_stop",
        "content_block_start",
        "input_json_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
    let events = answer.events();
    let usage = &events[0].1["message"]["usage"];
    assert_eq!(usage["output_tokens"], 1);
    assert_eq!(usage["cache_creation"]["ephemeral_1h_input_tokens"], 0);
    let delta = &events[events.len() - 2].1;
    assert_eq!(delta["delta"]["stop_reason"], "tool_use");
    assert!(delta["usage"]["output_tokens"].as_u64().unwrap() > 200);
    let joined: String =
        events.iter().filter_map(|(_, data)| data["delta"]["partial_json"].as_str()).collect();
    assert!(serde_json::from_str::<Value>(&joined).unwrap()["q"].is_string());
}

#[tokio::test]
async fn stream_and_whole_answer_say_the_same_on_every_run() {
    let (one, two) = (start().await, start().await);
    let text = |answer: &Answer| answer.json()["content"].as_array().unwrap().last().unwrap()["text"].clone();

    let whole = post(&one, NEW, &request(HAIKU, &json!({}))).await;
    let again = post(&two, NEW, &request(SONNET, &json!({}))).await;
    let stream = post(&two, NEW, &request(HAIKU, &json!({"stream": true}))).await;

    assert_eq!(text(&whole), text(&again));
    let streamed: String = stream
        .events()
        .iter()
        .filter_map(|(_, data)| data["delta"]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text(&whole), streamed);
    assert!(streamed.len() > streamed.chars().count(), "there are characters of several bytes");
}

#[tokio::test]
async fn thinking_comes_back_unchanged_or_not_at_all() {
    let fake = start().await;
    fake.script(Behaviour { shows_thinking: Some(true), ..Behaviour::default() });
    let ask = json!({"role": "user", "content": "one"});
    let first = post(&fake, NEW, &request(OPUS, &json!({"messages": [ask]}))).await;
    let assistant = turn_of(&first);
    let next = json!({"role": "user", "content": "two"});
    let body = |model: &str, turn: &Value, system: &str| {
        request(model, &json!({"messages": [ask, turn, next], "system": system}))
    };
    let mut changed = assistant.clone();
    changed["content"][0]["thinking"] = json!("other");
    let mut marked = body(OPUS, &assistant, "");
    marked["cache_control"] = json!({"type": "ephemeral"});

    assert_eq!(post(&fake, NEW, &body(OPUS, &assistant, "")).await.status, 200);
    assert_eq!(post(&fake, NEW, &marked).await.status, 200, "cache_control is no edit");
    let answer = post(&fake, NEW, &body(OPUS, &assistant, "edited")).await;
    assert!(answer.message().contains("messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation"));
    let answer = post(&fake, NEW, &body(SONNET, &changed, "")).await;
    assert_eq!((answer.status, answer.message().contains("Invalid `signature`")), (400, true));
    let count = async |model: &str, turn: &Value| {
        let mut body = body(model, turn, "");
        body.as_object_mut().unwrap().remove("max_tokens");
        let answer =
            send(&fake, "POST", "/v1/messages/count_tokens", &fields(NEW), body.to_string().as_bytes()).await;
        answer.json()["input_tokens"].as_u64().unwrap()
    };
    let (kept, dropped) = (count(OPUS, &assistant).await, count(SONNET, &assistant).await);
    assert!(kept > dropped, "a model that cannot read the block does not count it");
    assert_eq!(count("claude-fable-5-2", &assistant).await, kept, "a model that can read it does");
}

#[tokio::test]
async fn usage_refusals_and_small_limits_come_as_scripted() {
    let fake = start().await;
    let stream = json!({"stream": true});
    let deltas = vec![
        json!({"input_tokens": 10_682, "output_tokens": 300}),
        json!({"input_tokens": null, "output_tokens": 510}),
    ];
    let start = Some(json!({"input_tokens": 2679}));
    fake.script(Behaviour { usage_start: start, usage_deltas: deltas, ..Behaviour::default() });
    let grown = post(&fake, NEW, &request(SONNET, &stream)).await.events();
    fake.script(Behaviour { stop_reason: Some("refusal".to_owned()), ..Behaviour::default() });
    let refused = post(&fake, NEW, &request(HAIKU, &json!({}))).await;
    let eaten = post(&fake, NEW, &request(SONNET, &json!({"max_tokens": 100}))).await.json();
    fake.script(Behaviour { output_tokens: Some(50), thinking: Some(false), ..Behaviour::default() });
    let exact = post(&fake, NEW, &request(HAIKU, &json!({}))).await.json();

    assert_eq!(grown[0].1["message"]["usage"]["input_tokens"], 2679);
    let ends: Vec<_> = grown.iter().filter(|(name, _)| name == "message_delta").collect();
    assert_eq!(ends[0].1["delta"]["stop_reason"], Value::Null);
    assert_eq!(ends[1].1["usage"], json!({"input_tokens": null, "output_tokens": 510}));
    assert_eq!((refused.status, refused.json()["stop_reason"].as_str()), (200, Some("refusal")));
    assert_eq!(eaten["stop_reason"], "max_tokens");
    assert_eq!(eaten["content"].as_array().unwrap().len(), 1, "thinking ate it all");
    assert_eq!(
        (&exact["usage"]["output_tokens"], &exact["content"][0]["type"]),
        (&json!(50), &json!("text"))
    );
}

#[tokio::test]
async fn the_other_endpoints_answer() {
    let fake = start().await;
    let get = async |path: &str| send(&fake, "GET", path, &fields(NEW), b"").await;
    let put =
        async |path: &str, body: &str| send(&fake, "POST", path, &fields(OLD), body.as_bytes()).await.json();

    assert_eq!(get("/v1/models").await.json()["data"][0]["id"], HAIKU);
    assert_eq!(get("/v1/models/claude-opus-5-5").await.json()["max_tokens"], 128_000);
    assert_eq!(get("/v1/models/claude-x").await.status, 404);
    assert_eq!(get("/v1/messages").await.status, 405);
    let batch = json!({"requests": [{"custom_id": "a", "params": request(HAIKU, &json!({}))}]});
    assert_eq!(put("/v1/messages/batches", &batch.to_string()).await["processing_status"], "in_progress");
    let old =
        json!({"model": "claude-2.1", "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 9});
    assert_eq!(put("/v1/complete", &old.to_string()).await["type"], "completion");
    let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(put("/v1/files", "abc").await["sha256"], sha);
}

/// The answer's content as an assistant turn.
fn turn_of(answer: &Answer) -> Value {
    json!({"role": "assistant", "content": answer.json()["content"]})
}
