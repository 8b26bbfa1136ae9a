//! The reader accepts what `serde_json` accepts, and nothing hurts it.

use std::fmt;

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{super::MAX_TURNS, DEPTH, Message, Unreadable, refusal};

/// The members of an object, also those that come twice.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// The model, if `serde_json` reads one object with one string of that name.
fn oracle(body: &[u8]) -> Option<String> {
    let Members(members) = serde_json::from_slice(body).ok()?;
    let mut models = members.into_iter().filter(|(key, _)| key == "model");
    let (_, Value::String(model)) = models.next()? else { return None };
    models.next().is_none().then_some(model)
}

fn ours(body: &[u8]) -> Option<String> {
    let message = Message::read(body, DEPTH).ok()?;
    let raw = body.get(message.model_span.clone()).unwrap();
    assert_eq!(serde_json::from_slice::<String>(raw).unwrap(), message.model);
    Some(message.model)
}

/// Text within quotes. Half of the bodies are free of faults, so that both answers are common.
fn word(is_odd: bool) -> impl Strategy<Value = String> {
    let known = [
        "model",
        "messages",
        "system",
        "tools",
        "cache_control",
        "ttl",
        "role",
        "content",
        "type",
        "text",
        "user",
        "metadata",
        "thinking",
        "stream",
        "x",
    ];
    let escapes = [
        r"\u006dodel",
        r"\n",
        r"\u00e9",
        r"\ud83d\ude00",
        r"\u0000",
        r"\/",
        "é",
        "日本",
        "😀",
        "\u{7f}",
        r#"\""#,
        r"\\",
        "long enough to need more than one step of eight",
    ];
    let faults = [
        r"\ud83d",
        r"\ude00",
        r"\ud83dx",
        r"\ud83d\u0041",
        r"\ud83d\",
        r"\u12",
        r"\u12g4",
        r"\x",
        "\\",
        "\u{1}",
        "\t",
        "\"",
    ];
    let piece = move || {
        prop_oneof![
            60 => prop::sample::select(known.to_vec()),
            10 => prop::sample::select(escapes.to_vec()),
            u32::from(is_odd) => prop::sample::select(faults.to_vec()),
        ]
    };
    prop_oneof![
        9 => piece().prop_map(str::to_owned),
        1 => prop::collection::vec(piece(), 0..4).prop_map(|pieces| pieces.concat()),
    ]
}

fn scalar(is_odd: bool) -> impl Strategy<Value = String> {
    let plain = [
        "0",
        "-0",
        "1",
        "12.5",
        "1e5",
        "-1.5E+10",
        "1e-7",
        "true",
        "false",
        "null",
        "18446744073709551616",
        "1e308",
        "1e-999",
        "0e999",
    ];
    let odd =
        ["1e309", "1e999", "01", "1.", ".5", "+1", "-", "1e", "1e+", "tru", "nul", "NaN", "", "\u{feff}1"];
    prop_oneof![
        80 => word(is_odd).prop_map(|text| format!("\"{text}\"")),
        80 => prop::sample::select(plain.to_vec()).prop_map(str::to_owned),
        u32::from(is_odd) * 3 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        3 => (1..if is_odd { 420_usize } else { 308 }).prop_map(|digits| "9".repeat(digits)),
    ]
}

fn space(is_odd: bool) -> impl Strategy<Value = &'static str> {
    let odd = u32::from(is_odd);
    prop_oneof![60 => Just(""), 15 => Just(" "), 8 => Just("\r\n\t "), odd => Just("\u{a0}"), odd => Just(",")]
}

fn json(is_odd: bool) -> impl Strategy<Value = String> {
    scalar(is_odd).prop_recursive(5, 60, 6, move |inner| {
        let member = (word(is_odd), inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..6), any::<bool>())
                .prop_map(|(items, spaced)| format!("[{}]", items.join(if spaced { " ,\n" } else { "," }))),
            (prop::collection::vec(member, 0..6), any::<bool>())
                .prop_map(|(items, spaced)| format!("{{{}}}", items.join(if spaced { " , " } else { "," }))),
        ]
    })
}

fn body() -> impl Strategy<Value = String> {
    any::<bool>().prop_flat_map(|is_odd| {
        let member = (word(is_odd), json(is_odd), space(is_odd))
            .prop_map(|(key, value, space)| format!("{space}\"{key}\"{space}:{value}"));
        let members = prop::collection::vec(member, 0..8);
        (members, 0_usize..12, space(is_odd), word(is_odd)).prop_map(|(mut members, at, tail, model)| {
            if at <= members.len() + 3 {
                members.insert(at.min(members.len()), format!("\"model\":\"{model}\""));
            }
            format!("{{{}}}{tail}", members.join(","))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn accepts_what_serde_json_accepts(body in body()) {
        prop_assert_eq!(ours(body.as_bytes()), oracle(body.as_bytes()));
    }

    #[test]
    fn accepts_what_serde_json_accepts_after_damage(
        body in body(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut body = body.into_bytes();
        for (at, byte, kind) in damage {
            let at = at.index(body.len());
            match kind {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => _ = body.remove(at),
            }
            if body.is_empty() {
                break;
            }
        }
        prop_assert_eq!(ours(&body), oracle(&body));
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(ours(&body), oracle(&body));
    }

    #[test]
    fn strings_are_decoded_as_serde_json_decodes_them(text in prop::collection::vec(word(true), 0..6)) {
        let quoted = format!("\"{}\"", text.concat());
        let body = format!(r#"{{"model":"m","system":{quoted}}}"#);

        match serde_json::from_str::<String>(&quoted) {
            Ok(plain) => prop_assert_eq!(super::read(&body).system.text(body.as_bytes()), plain),
            Err(_) => prop_assert_eq!(refusal(body.as_bytes()), Some(Unreadable::NotJson)),
        }
    }
}

#[test]
fn refuses_what_two_readers_might_read_in_two_ways() {
    let table: &[(&str, Unreadable)] = &[
        ("", Unreadable::NotJson),
        (" ", Unreadable::NotJson),
        ("null", Unreadable::NotJson),
        ("[]", Unreadable::NotJson),
        (r#""model""#, Unreadable::NotJson),
        ("{}", Unreadable::NoModel),
        (r#"{"messages":[{"model":"m"}]}"#, Unreadable::NoModel),
        (r#"{"model":null}"#, Unreadable::ModelNotString),
        (r#"{"model":["m"]}"#, Unreadable::ModelNotString),
        (r#"{"model":"a","model":"a"}"#, Unreadable::ModelTwice),
        (r#"{"model":"a","\u006dodel":"b"}"#, Unreadable::ModelTwice),
        ("\u{feff}{\"model\":\"m\"}", Unreadable::NotJson),
        (r#"{"model":"m"}{"model":"m"}"#, Unreadable::NotJson),
        (r#"{"model":"m"},"#, Unreadable::NotJson),
        (r#"{"model":"m",}"#, Unreadable::NotJson),
        (r#"{,"model":"m"}"#, Unreadable::NotJson),
        (r#"{"model":"m" "a":1}"#, Unreadable::NotJson),
        (r#"{"model":"m","a":[1,]}"#, Unreadable::NotJson),
        (r#"{"model":"m","a":[1}"#, Unreadable::NotJson),
        (r#"{"model":"m","a":"\ud800"}"#, Unreadable::NotJson),
        (r#"{"model":"m","a":"\udc00"}"#, Unreadable::NotJson),
        ("{\"model\":\"m\",\"a\":\"\0\"}", Unreadable::NotJson),
        ("{\"model\":\"m\"}\0", Unreadable::NotJson),
        (r#"{"model":"m","a":1e999}"#, Unreadable::NotJson),
        (r#"{"model":"m"#, Unreadable::NotJson),
        (r#"{"model""#, Unreadable::NotJson),
    ];
    for (body, expected) in table {
        assert_eq!(refusal(body.as_bytes()), Some(*expected), "{body}");
        assert_eq!(oracle(body.as_bytes()), None, "{body}");
    }
    assert_eq!(refusal(b"{\"model\":\"m\",\"a\":\"\xff\"}"), Some(Unreadable::NotJson));
}

#[test]
fn depth_is_counted_and_not_recursed() {
    let nested = |depth: usize| format!(r#"{{"model":"m","a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));

    assert_eq!(refusal(nested(DEPTH - 1).as_bytes()), None);
    assert_eq!(refusal(nested(DEPTH).as_bytes()), Some(Unreadable::TooDeep));
    assert_eq!(refusal("[".repeat(1_000_000).as_bytes()), Some(Unreadable::NotJson));
    assert_eq!(refusal(nested(1_000_000).as_bytes()), Some(Unreadable::TooDeep));
    assert_eq!(refusal(r#"{"a":"#.repeat(1_000_000).as_bytes()), Some(Unreadable::TooDeep));
    assert!(Message::read(nested(100_000).as_bytes(), usize::MAX).is_ok());
}

#[test]
fn large_bodies_are_read() {
    let long = "x".repeat(4 << 20);
    let escaped = r"\u00e9".repeat(700_000);
    let digits = "1".repeat(300);
    let body = format!(
        r#"{{"a":"{long}","b":"{escaped}","c":{digits},"messages":[{{"content":"{long}"}}],"model":"m"}}"#
    );

    let message = super::read(&body);

    assert_eq!(message.turns[0].text.decode(body.as_bytes()).len(), 4 << 20);
    assert_eq!(message.turns[0].text.raw_bytes(), 4 << 20);
}

#[test]
fn messages_have_a_bound() {
    let body = |count: usize| format!(r#"{{"model":"m","messages":[{}{{}}]}}"#, "{},".repeat(count - 1));

    assert_eq!(super::read(&body(MAX_TURNS)).turns.len(), MAX_TURNS);
    assert_eq!(refusal(body(MAX_TURNS + 1).as_bytes()), Some(Unreadable::TooManyTurns));
}
