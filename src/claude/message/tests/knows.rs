//! The same history has the same hashes, another one has others.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::{MAX_HASHED, Prefixes},
    read,
};

const KEY: [u8; 32] = [7; 32];

fn prefixes(body: &str) -> Prefixes {
    read(body).prefixes(&KEY)
}

fn request(messages: &Value) -> Value {
    json!({"model": "m", "tools": [{"name": "a", "input_schema": {"type": "object"}}], "system": "s", "messages": messages})
}

#[test]
fn space_and_order_of_the_top_do_not_count() {
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]);
    let whole = request(&messages);
    let expected = prefixes(&whole.to_string());
    let mut turned = serde_json::Map::new();
    for (key, value) in whole.as_object().unwrap().iter().rev() {
        turned.insert(key.clone(), value.clone());
    }

    assert_eq!(expected.turns.len(), 2);
    assert_eq!(prefixes(&serde_json::to_string_pretty(&whole).unwrap()), expected);
    assert_eq!(prefixes(&Value::Object(turned).to_string()), expected);
}

#[test]
fn marks_for_the_cache_do_not_count_wherever_they_stand() {
    let bare = r#"{"model":"m","tools":[{"name":"a"}],"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#;
    let marked = [
        r#"{"model":"m","tools":[{"name":"a","cache_control":{"type":"ephemeral"}}],"system":[{"cache_control":{"type":"ephemeral","ttl":"1h"},"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#,
        r#"{"cache_control":{"type":"ephemeral"},"model":"m","tools":[{"cache_control":null,"name":"a"}],"system":"s","messages":[{"role":"user","content":[{"type":"text", "cache_control" : {"a":[{}]} , "text":"a"}]}]}"#,
        r#"{"model":"m","tools":[{"name":"a"}],"system":"s","messages":[{"role":"user","content":"a"}]}"#,
    ];
    for body in marked {
        assert_eq!(prefixes(body), prefixes(bare), "{body}");
    }
}

#[test]
fn a_longer_request_begins_with_the_hashes_of_the_shorter_one() {
    let turns = json!([
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]);
    let shorter = prefixes(&request(&json!([turns[0]])).to_string());
    let longer = prefixes(&request(&turns).to_string());

    assert_eq!(longer.turns[0], shorter.turns[0]);
    assert_eq!(longer.tools_system, shorter.tools_system);
    assert!(longer.turns.is_sorted_by(|one, next| one.bytes < next.bytes && one.hash != next.hash));
}

#[test]
fn whatever_counts_changes_the_hash() {
    let base = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let expected = prefixes(&request(&base).to_string());
    let others = [
        json!([{"role": "user", "content": "A"}, {"role": "assistant", "content": "b"}]),
        json!([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]),
        json!([{"role": "user", "content": "a b"}, {"role": "assistant", "content": "b"}]),
        json!([{"role": "user", "content": [{"type": "tool_use", "input": {"cache_control": {}}}]}, {"role": "assistant", "content": "b"}]),
    ];
    for other in others {
        let other = prefixes(&request(&other).to_string());
        assert_eq!(other.tools_system, expected.tools_system);
        assert_ne!(other.turns[0].hash, expected.turns[0].hash);
        assert_ne!(other.turns[1].hash, expected.turns[1].hash);
    }
    let mut other = request(&base);
    other["system"] = json!("t");
    assert_ne!(prefixes(&other.to_string()).system, expected.system);
    let mut other = request(&base);
    other["tools"] = json!([]);
    let other = prefixes(&other.to_string());
    assert_eq!(other.system, expected.system);
    assert_ne!(other.tools_system.hash, expected.tools_system.hash);
    assert_ne!(read(&request(&base).to_string()).prefixes(&[8; 32]).turns, expected.turns);
}

#[test]
fn a_bounded_number_of_messages_is_hashed() {
    let messages = vec![json!({"role": "user", "content": "a"}); MAX_HASHED + 5];

    let message = read(&request(&Value::Array(messages)).to_string());

    assert_eq!(message.turns.len(), MAX_HASHED + 5);
    assert_eq!(message.prefixes(&KEY).turns.len(), MAX_HASHED);
}

#[test]
fn what_was_said_is_not_printed() {
    let message = read(r#"{"model":"m","system":"canary","messages":[{"role":"user","content":"canary"}]}"#);

    assert!(!format!("{message:?}").contains("canary"));
}

#[test]
fn a_forgotten_history_has_no_hashes() {
    let mut message = read(r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#);

    message.forget_history();

    assert!(message.prefixes(&KEY).turns.is_empty());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c é\"\\\\]{0,3}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop::sample::select(&["type", "text", "content", "cache_control", "source", "x"][..]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4).prop_map(|members| members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

/// What the hash may leave out, taken out of a value: the marks of blocks.
fn without_marks(block: &Value) -> Value {
    let Some(members) = block.as_object() else { return block.clone() };
    let keep = |(key, value): (&String, &Value)| match key.as_str() {
        "cache_control" => None,
        "content" if value.is_array() => Some((key.clone(), blocks(value))),
        "source" if value["content"].is_array() => {
            let mut source = value.clone();
            source["content"] = blocks(&value["content"]);
            Some((key.clone(), source))
        }
        _ => Some((key.clone(), value.clone())),
    };
    members.iter().filter_map(keep).collect()
}

fn blocks(content: &Value) -> Value {
    content.as_array().unwrap().iter().map(without_marks).collect()
}

proptest! {
    #[test]
    fn two_histories_have_one_hash_only_if_they_differ_by_marks_and_space(
        one in prop::collection::vec(value(), 0..4),
        other in prop::collection::vec(value(), 0..4),
    ) {
        let (one, other) = (Value::from(one), Value::from(other));
        let body = |content: &Value| request(&json!([{"role": "user", "content": content}]));
        let hash = |content: &Value| prefixes(&body(content).to_string()).turns[0].hash;

        prop_assert_eq!(hash(&one), hash(&blocks(&one)));
        prop_assert_eq!(hash(&one), prefixes(&serde_json::to_string_pretty(&body(&one)).unwrap()).turns[0].hash);
        prop_assert_eq!(hash(&one) == hash(&other), blocks(&one) == blocks(&other));
    }
}
