//! Breakpoints for the provider's prompt cache: set where they help and the client has none, and nowhere else.

use serde_json::{Value, json};

use crate::support::claude::{
    Call, ECONOMY, HAIKU, OLD_HAIKU, OLD_SONNET, OPUS, Plane, SONNET, STANDARD, Talk, long_text, said, with,
};

const SHORT: &str = r#""cache_control":{"type":"ephemeral"},"#;
const LONG: &str = r#""cache_control":{"type":"ephemeral","ttl":"1h"},"#;

/// A call whose prompt is worth caching.
fn long_call(model: &str) -> Value {
    with(said(model, STANDARD), &json!({"system": long_text(6000)}))
}

/// What the API got for a call.
async fn sent(plane: &Plane, call: &Call) -> String {
    let answer = plane.call(call).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    String::from_utf8(plane.last().body).unwrap()
}

fn marked_at_the_top(body: &str, mark: &str) -> String {
    body.replacen('{', &format!("{{{mark}"), 1)
}

#[tokio::test]
async fn a_mark_is_set_behind_the_first_brace_and_nothing_else_moves() {
    for (ttl, mark) in [("adaptive", SHORT), ("5m", SHORT), ("1h", LONG)] {
        let plane = Plane::start(&format!("prompt_cache: {{ ttl: {ttl} }}")).await;
        for body in [long_call(SONNET).to_string(), serde_json::to_string_pretty(&long_call(SONNET)).unwrap()]
        {
            assert_eq!(sent(&plane, &Call::new(body.clone())).await, marked_at_the_top(&body, mark), "{ttl}");
        }
    }
}

#[tokio::test]
async fn the_last_block_of_the_system_prompt_gets_the_same_mark() {
    for (ttl, mark) in [("5m", SHORT), ("1h", LONG)] {
        let plane = Plane::start(&format!("prompt_cache: {{ ttl: {ttl} }}")).await;
        let system = json!([{"type": "text", "text": long_text(3000)}, {"type": "text", "text": "Be kind."}]);
        let body = with(said(SONNET, STANDARD), &json!({"system": system})).to_string();

        let sent = sent(&plane, &Call::new(body.clone())).await;

        let last = r#"{"type":"text","text":"Be kind."}"#;
        let expected = marked_at_the_top(&body, mark).replace(last, &marked_at_the_top(last, mark));
        assert_eq!(sent, expected);
    }
}

#[tokio::test]
async fn a_system_prompt_that_is_a_string_is_wrapped_only_where_that_is_wanted() {
    let plane = Plane::start("prompt_cache: { wrap_system: true }").await;
    let body = long_call(SONNET);

    let sent = sent(&plane, &Call::of(&body)).await;

    let system = body["system"].to_string();
    let wrapped = format!(r#"[{{"type":"text","text":{system},"cache_control":{{"type":"ephemeral"}}}}]"#);
    assert_eq!(sent, marked_at_the_top(&body.to_string(), SHORT).replace(&system, &wrapped));
}

#[tokio::test]
async fn conversations_share_a_wrapped_system_prompt() {
    let plane = Plane::start("prompt_cache: { wrap_system: true }").await;
    let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"system": long_text(6000)}));
    talk.say(STANDARD).await;

    let other =
        with(said(SONNET, "How can I be less nervous before a date?"), &json!({"system": long_text(6000)}));
    let (_, record) = plane.recorded(&Call::of(&other).key("a")).await;

    assert!(record["cache_read_tokens"].as_u64().unwrap() > 1000, "{record}");
}

#[tokio::test]
async fn prompts_below_the_smallest_cacheable_one_get_no_mark() {
    let table = [
        (SONNET, 600, false),
        (SONNET, 6000, true),
        (HAIKU, 600, false),
        (OPUS, 600, false),
        (OLD_SONNET, 2500, false),
        (OLD_SONNET, 6000, true),
        (OLD_HAIKU, 6000, false),
        (OLD_HAIKU, 20_000, true),
    ];
    for (model, bytes, is_marked) in table {
        let plane = Plane::start("").await;
        // The tier of each model itself, so that no call moves.
        let tier = if model.contains("haiku") {
            "economy"
        } else if model.contains("opus") {
            "premium"
        } else {
            "standard"
        };
        let body = with(said(model, STANDARD), &json!({"system": long_text(bytes)})).to_string();
        let call = Call::new(body.clone()).field(&format!("x-touchline-tier: {tier}"));

        let sent = sent(&plane, &call).await;

        assert_eq!(sent, if is_marked { marked_at_the_top(&body, SHORT) } else { body }, "{model} {bytes}");
    }
}

#[tokio::test]
async fn the_clients_own_marks_are_the_only_ones() {
    let mark = json!({"type": "ephemeral"});
    let text = long_text(6000);
    let tools = json!([{"name": "look_up", "input_schema": {"type": "object"}}]);
    let mut marked_tools = tools.clone();
    marked_tools[0]["cache_control"] = mark.clone();
    let block = json!({"type": "text", "text": text, "cache_control": mark});
    let nested = json!([
        {"role": "user", "content": STANDARD},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look_up", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [block]}]},
    ]);
    let long = json!({"role": "user", "content": [block]});
    let bodies = [
        with(long_call(SONNET), &json!({"cache_control": mark})),
        with(long_call(SONNET), &json!({"cache_control": {"type": "ephemeral", "ttl": "1h"}})),
        with(long_call(SONNET), &json!({"tools": marked_tools})),
        with(said(SONNET, STANDARD), &json!({"system": [block]})),
        with(
            said(SONNET, STANDARD),
            &json!({"messages": [long, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": STANDARD}]}),
        ),
        with(long_call(SONNET), &json!({"messages": nested, "tools": tools})),
    ];
    for body in bodies {
        let plane = Plane::start("").await;

        let (answer, record) = plane.recorded(&Call::of(&body)).await;

        assert_eq!((answer.status, plane.last().body), (200, body.to_string().into_bytes()), "{record}");
        assert_eq!(record["breakpoints"], Value::Null);
    }
}

#[tokio::test]
async fn a_client_with_marks_of_its_own_is_moved_without_losing_them() {
    let plane = Plane::start("").await;
    let body = with(said(SONNET, ECONOMY), &json!({"cache_control": {"type": "ephemeral"}})).to_string();

    assert_eq!(sent(&plane, &Call::new(body.clone())).await, body.replace(SONNET, HAIKU));
}

#[tokio::test]
async fn marks_can_be_switched_off() {
    for keys in ["prompt_cache: { mode: off }", "mode: observe", "mode: off"] {
        let plane = Plane::start(keys).await;
        let body = long_call(SONNET).to_string();

        assert_eq!(sent(&plane, &Call::new(body.clone())).await, body, "{keys}");
    }
}

#[tokio::test]
async fn a_conversation_reads_what_it_wrote() {
    let plane = Plane::start("").await;
    let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"system": long_text(6000)}));

    let first = talk.say(STANDARD).await.record;
    let second = talk.say("And what do I say when she asks why?").await.record;
    let third = talk.say("What if she says no?").await.record;

    let tokens = |record: &Value, name: &str| record[name].as_u64().unwrap();
    assert_eq!(first["breakpoints"], "written");
    assert!(tokens(&first, "cache_write_5m_tokens") > 1800, "{first}");
    for (before, record) in [(&first, &second), (&second, &third)] {
        assert_eq!(record["breakpoints"], "read", "{record}");
        let held = tokens(before, "cache_read_tokens") + tokens(before, "cache_write_5m_tokens");
        assert_eq!(tokens(record, "cache_read_tokens"), held);
    }
    let performance = plane.performance().await;
    assert_eq!(
        (&performance["breakpoints"]["written"], &performance["breakpoints"]["read"]),
        (&1.into(), &2.into())
    );
    assert!(performance["total"]["saved_usd_vs_requested"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn marks_stand_on_no_thinking_and_change_nothing_before_it() {
    let plane = Plane::start("prompt_cache: { wrap_system: true }").await;
    let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"system": long_text(6000)}));
    for text in [STANDARD, "And what do I say when she asks why?", "What if she says no?"] {
        talk.push(json!({"role": "user", "content": text}));
        let taken = talk.send().await;
        let answer: Value = serde_json::from_slice(&taken.answer.body).unwrap();

        assert_eq!(taken.answer.status, 200, "the fake refuses a changed prefix: {}", taken.answer.text());
        assert_eq!(answer["content"][0]["type"], "thinking");
        let sent = taken.sent.json();
        assert_eq!(sent["messages"], talk.body["messages"], "not a message was changed");
        assert_eq!(sent.to_string().matches("cache_control").count(), 2);
        talk.push(json!({"role": "assistant", "content": answer["content"]}));
    }
    assert_eq!(plane.seen().len(), 3, "no call was refused");
}

#[tokio::test]
async fn a_single_visit_to_another_model_writes_nothing() {
    let plane = Plane::start("").await;
    let body = with(said(SONNET, ECONOMY), &json!({"system": long_text(6000)})).to_string();

    assert_eq!(sent(&plane, &Call::new(body.clone())).await, body.replace(SONNET, HAIKU));
}

#[tokio::test]
async fn the_life_of_marks_is_fixed_with_the_conversation() {
    let plane = Plane::start("prompt_cache: { ttl: 1h }").await;
    let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"system": long_text(6000)}));

    for text in [STANDARD, "And what do I say when she asks why?"] {
        let taken = talk.say(text).await;

        assert!(String::from_utf8(taken.sent.body).unwrap().starts_with(&format!("{{{LONG}")));
    }
    let performance = plane.performance().await;
    assert!(performance["total"]["cache_write_1h_tokens"].as_u64().unwrap() > 1000, "{performance}");
    assert_eq!(performance["total"]["cache_write_5m_tokens"], 0);
}

#[tokio::test]
async fn writes_that_are_never_read_end_the_marks_of_a_system_prompt() {
    let plane = Plane::start("").await;
    let system = json!({"system": long_text(6000)});
    let mut talk = Talk::new(&plane, SONNET, "a").with(&system);
    let mut marked = Vec::new();
    for _ in 0..8 {
        let taken = talk.say(STANDARD).await;
        marked.push(taken.record["breakpoints"].as_str().unwrap_or("none").to_owned());
        // What was written is gone before the next turn.
        plane.fake.advance(std::time::Duration::from_secs(400));
    }

    let stopped = marked.iter().position(|what| what == "stopped").expect("an end of the marks");
    assert!((2..=3).contains(&stopped), "{marked:?}");
    assert!(marked[..stopped].iter().all(|what| what == "written"), "{marked:?}");
    assert!(marked[stopped + 1..].iter().all(|what| what == "none"), "{marked:?}");
    let mut other = Talk::new(&plane, SONNET, "b").with(&system);
    assert_eq!(other.say(STANDARD).await.record["breakpoints"], Value::Null, "for all conversations");
    let mut unlike = Talk::new(&plane, SONNET, "b").with(&json!({"system": long_text(7000)}));
    assert_eq!(unlike.say(STANDARD).await.record["breakpoints"], "written", "for this system prompt alone");
}

#[tokio::test]
async fn new_conversations_in_a_row_do_not_end_the_marks() {
    // A first turn can read nothing; on a busy day several of them follow one another.
    let plane = Plane::start("").await;
    let system = json!({"system": long_text(6000)});
    let mut first = Talk::new(&plane, SONNET, "a").with(&system);
    first.say(STANDARD).await;
    for nth in 0..6 {
        let mut talk = Talk::new(&plane, SONNET, &format!("user-{nth}")).with(&system);
        talk.say(STANDARD).await;
    }

    let second = first.say("And what do I say when she asks why?").await;

    assert_eq!(second.record["breakpoints"], "read", "{}", second.record);
}

#[tokio::test]
async fn a_clock_in_the_system_prompt_ends_the_marks_that_nobody_ever_reads() {
    let plane = Plane::start("").await;
    let mut talk = Talk::new(&plane, SONNET, "a");
    let mut marked = Vec::new();
    for turn in 0..7 {
        talk = talk.with(&json!({"system": format!("It is 12:0{turn}. {}", long_text(6000))}));
        let taken = talk.say(STANDARD).await;
        marked.push(taken.record["breakpoints"].as_str().unwrap_or("none").to_owned());
    }

    assert_eq!(marked, ["written", "written", "written", "stopped", "none", "none", "none"]);
    let mut steady = Talk::new(&plane, SONNET, "a").with(&json!({"system": long_text(7000)}));
    for expected in ["written", "read", "read"] {
        assert_eq!(
            steady.say(STANDARD).await.record["breakpoints"],
            expected,
            "others of the same key go on"
        );
    }
}
