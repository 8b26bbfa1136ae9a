//! Tests of trimming: what may go, what must stay, and that the JSON stays whole.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Cut, Refusal, Wish, plan, repeat};
use crate::claude::{
    message::Message,
    splice::{Edits, join, splice},
};

fn read(body: &str) -> Message {
    Message::read(body.as_bytes(), 512).unwrap()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": [{"type": "text", "text": text}]})
}

fn call(id: &str) -> Value {
    json!({"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "n", "input": {}}]})
}

fn result(id: &str) -> Value {
    json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "r"}]})
}

fn talk(exchanges: usize) -> Vec<Value> {
    let mut turns = Vec::new();
    for number in 0..exchanges {
        turns.extend([user(&format!("u{number}")), assistant(&format!("a{number}"))]);
    }
    turns.push(user("now"));
    turns
}

fn request(messages: &[Value]) -> String {
    json!({"model": "m", "system": "s", "messages": messages, "max_tokens": 9}).to_string()
}

fn planned(body: &str, wish: Wish) -> Result<Cut, Refusal> {
    plan(&read(body), body.as_bytes(), wish)
}

fn without(body: &str, cut: &Cut) -> String {
    let bytes = Bytes::from(body.to_owned());
    let edits = Edits { cut: Some(cut.span.clone()), ..Edits::default() };
    String::from_utf8(join(&splice(&bytes, &read(body), &edits)).to_vec()).unwrap()
}

/// All that may go.
const ALL: Wish = Wish { target: 0, keep_first: false, keep_turns: 1 };

#[test]
fn the_oldest_exchanges_go_first_and_no_more_than_needed() {
    let body = request(&talk(5));
    let small = planned(&body, Wish { target: body.len() - 1, ..ALL }).unwrap();
    assert_eq!((small.turns.clone(), small.is_enough), (0..2, true));
    assert_eq!(without(&body, &small).len(), small.left);

    let table = [
        (ALL, Some(0..10)),
        (Wish { keep_first: true, ..ALL }, Some(2..10)),
        (Wish { keep_turns: 3, ..ALL }, Some(0..6)),
        (Wish { keep_first: true, keep_turns: 5, ..ALL }, None),
        (Wish { keep_turns: 4, keep_first: true, ..ALL }, Some(2..4)),
        (Wish { keep_turns: 0, ..ALL }, Some(0..10)),
        (Wish { keep_turns: 6, ..ALL }, None),
        (Wish { keep_turns: usize::MAX, ..ALL }, None),
        (Wish { target: body.len(), ..ALL }, None),
    ];
    for (wish, expected) in table {
        let found = planned(&body, wish);
        assert_eq!(found.as_ref().map(|cut| cut.turns.clone()).ok(), expected, "{wish:?}");
        match found {
            Ok(cut) => {
                let mut messages = talk(5);
                messages.drain(cut.turns.clone());
                assert_eq!(without(&body, &cut), request(&messages));
                assert!(!cut.is_enough);
            }
            Err(refusal) => assert_eq!(refusal, Refusal::Nothing),
        }
    }
}

#[test]
fn calls_stay_with_their_results() {
    let messages = [
        user("a"),
        call("1"),
        result("1"),
        call("2"),
        result("2"),
        assistant("b"),
        user("c"),
        assistant("d"),
        user("e"),
    ];
    let body = request(&messages);

    let cut = planned(&body, Wish { target: body.len() - 1, ..ALL }).unwrap();

    assert_eq!(cut.turns, 0..6);
    let loops = [user("a"), assistant("b"), user("c"), call("1"), result("1")];
    assert_eq!(planned(&request(&loops), ALL).unwrap().turns, 0..2);
    let crossed = [user("a"), call("1"), user("b"), call("2"), result("1")];
    assert_eq!(planned(&request(&crossed), ALL), Err(Refusal::ToolResult));
}

#[test]
fn some_histories_are_never_cut() {
    let with = |block: Value| {
        let mut messages = talk(3);
        messages[3]["content"] = json!([block]);
        request(&messages)
    };
    let plus = |members: &str| request(&talk(3)).replacen('{', &format!("{{{members},"), 1);
    let swapped = |at: usize, role: &str| {
        let mut messages = talk(3);
        messages[at]["role"] = json!(role);
        request(&messages)
    };
    let table = [
        (with(json!({"type": "thinking", "thinking": "t", "signature": "s"})), Refusal::Thinking),
        (with(json!({"type": "redacted_thinking", "data": "t"})), Refusal::Thinking),
        (
            with(json!({"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}})),
            Refusal::CacheControl,
        ),
        (with(json!({"type": "compaction", "content": "t"})), Refusal::ContextManagement),
        (with(json!({"type": "tool_change"})), Refusal::Alternation),
        (plus(r#""cache_control":{"type":"ephemeral"}"#), Refusal::CacheControl),
        (plus(r#""context_management":{"edits":[]}"#), Refusal::ContextManagement),
        (plus(r#""thread_id":"t""#), Refusal::Thread),
        (plus(r#""messages":[]"#), Refusal::Alternation),
        (swapped(1, "user"), Refusal::Alternation),
        (swapped(0, "assistant"), Refusal::Alternation),
        (swapped(2, "system"), Refusal::Alternation),
        (request(&[]), Refusal::Nothing),
        (request(&talk(0)), Refusal::Nothing),
    ];
    for (body, expected) in table {
        assert_eq!(planned(&body, ALL), Err(expected), "{body}");
    }
}

#[test]
fn an_earlier_cut_is_made_again() {
    let body = request(&talk(4));
    let again = |turns| repeat(&read(&body), body.as_bytes(), turns, 0);

    assert_eq!(again(2..6), planned(&body, Wish { keep_first: true, keep_turns: 2, target: 0 }));
    for odd in [1..3, 2..5, 2..2, 2..10, 20..30] {
        assert_eq!(again(odd.clone()), Err(Refusal::Alternation), "{odd:?}");
    }
}

fn message(at: usize) -> impl Strategy<Value = (bool, String)> {
    let space = prop::sample::select(vec!["", " ", "\n  "]);
    let text = prop::sample::select(vec!["a", r"\u00e9]", r#"}, {\""#, "日本", "[{", ""]);
    (space, text, any::<bool>()).prop_map(move |(space, text, is_tool)| {
        let role = if at.is_multiple_of(2) { "user" } else { "assistant" };
        let object = if is_tool && at > 0 {
            let (kind, id) =
                if at.is_multiple_of(2) { ("tool_result", "tool_use_id") } else { ("tool_use", "id") };
            let id = format!(r#""{id}":{space}"t{}""#, (at - 1) / 2);
            format!(r#"{{"content":[{{{id},"type":"{kind}"}}],{space}"role":"{role}"}}"#)
        } else {
            format!(r#"{{{space}"role" :"{role}","content":{space}"{text}"}}"#)
        };
        (is_tool, format!("{space}{object}{space}"))
    })
}

proptest! {
    #[test]
    fn a_cut_takes_out_whole_messages_and_nothing_else(
        messages in (1_usize..14).prop_flat_map(|count| (0..count).map(message).collect::<Vec<_>>()),
        target in 0_usize..900,
        keep_first in any::<bool>(),
        keep_turns in 0_usize..4,
    ) {
        let texts: Vec<&str> = messages.iter().map(|(_, text)| text.as_str()).collect();
        let body = format!("{{ \"messages\" : [{}],\n\"model\":\"m\", \"future\":[1.50, {{}}]}}", texts.join(","));
        let wish = Wish { target, keep_first, keep_turns };
        let Ok(cut) = planned(&body, wish) else { return Ok(()) };

        let out = without(&body, &cut);

        let mut expected: Value = serde_json::from_str(&body).unwrap();
        expected["messages"].as_array_mut().unwrap().drain(cut.turns.clone());
        prop_assert_eq!(&serde_json::from_str::<Value>(&out).unwrap(), &expected);
        prop_assert_eq!(out.len(), cut.left);
        prop_assert_eq!(cut.is_enough, cut.left <= target);
        prop_assert!(cut.turns.len() % 2 == 0 && cut.turns.start == 2 * usize::from(keep_first && cut.turns.start > 0) || keep_first);
        let left = read(&out);
        for pair in left.turns.windows(2) {
            prop_assert_ne!(pair[0].role, pair[1].role);
        }
        prop_assert_eq!(repeat(&read(&body), body.as_bytes(), cut.turns.clone(), target), Ok(cut));
    }
}
