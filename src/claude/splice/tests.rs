//! Tests of splicing: nothing moves but what was asked for.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::{Edits, SystemMark, join, length, splice};
use crate::claude::{cost::Ttl, message::Message};

const MARK: &str = r#""cache_control":{"type":"ephemeral"}"#;
const HOUR: &str = r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#;

fn spliced(body: &str, edits: &Edits<'_>) -> String {
    let body = Bytes::from(body.to_owned());
    let message = Message::read(&body, 512).unwrap();
    let parts = splice(&body, &message, edits);
    let whole = join(&parts);
    assert_eq!(whole.len(), length(&parts));
    String::from_utf8(whole.to_vec()).unwrap()
}

fn marks(wrap: bool) -> Edits<'static> {
    let mark_system = Some(SystemMark { ttl: Ttl::OneHour, wrap });
    Edits { model: Some("n"), mark: Some(Ttl::FiveMinutes), mark_system, ..Edits::default() }
}

#[test]
fn no_edits_share_the_body() {
    let body = Bytes::from_static(br#"{ "model": "m" }"#);
    let message = Message::read(&body, 512).unwrap();

    let parts = splice(&body, &message, &Edits::default());

    assert_eq!(parts, std::slice::from_ref(&body));
    assert_eq!(join(&parts).as_ptr(), body.as_ptr());
}

#[test]
fn each_edit_comes_where_it_belongs() {
    let table = [
        (r#"{"model":"m"}"#, false, format!(r#"{{{MARK},"model":"n"}}"#)),
        (
            "{ \"a\" : 1,\n\"model\" : \"m\\u0041\" }",
            false,
            format!("{{{MARK}, \"a\" : 1,\n\"model\" : \"n\" }}"),
        ),
        (r#"{"model":"m","system":"s"}"#, false, format!(r#"{{{MARK},"model":"n","system":"s"}}"#)),
        (
            r#"{"system": "s\"" ,"model":"m"}"#,
            true,
            format!(r#"{{{MARK},"system": [{{"type":"text","text":"s\"",{HOUR}}}] ,"model":"n"}}"#),
        ),
        (r#"{"system":"","model":"m"}"#, true, format!(r#"{{{MARK},"system":"","model":"n"}}"#)),
        (
            r#"{"system":[{"type":"text","text":"a"}, { "type":"text","text":"b"}],"model":"m"}"#,
            true,
            format!(
                r#"{{{MARK},"system":[{{"type":"text","text":"a"}}, {{{HOUR}, "type":"text","text":"b"}}],"model":"n"}}"#
            ),
        ),
        (r#"{"system":[{}],"model":"m"}"#, true, format!(r#"{{{MARK},"system":[{{}}],"model":"n"}}"#)),
        (r#"{"system":[],"model":"m"}"#, true, format!(r#"{{{MARK},"system":[],"model":"n"}}"#)),
    ];
    for (body, wrap, expected) in table {
        assert_eq!(spliced(body, &marks(wrap)), expected);
    }
}

#[test]
fn a_model_is_written_as_a_json_string() {
    let body = r#"{"model":"m"}"#;

    let out = spliced(body, &Edits { model: Some("a\"b\\\n\u{e9}"), ..Edits::default() });

    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["model"], "a\"b\\\n\u{e9}");
}

#[test]
fn a_huge_body_is_shared_and_not_copied() {
    let body = Bytes::from(format!(r#"{{"model":"m","a":"{}"}}"#, "x".repeat(8 << 20)));
    let message = Message::read(&body, 512).unwrap();

    let parts = splice(&body, &message, &Edits { model: Some("n"), ..Edits::default() });

    assert_eq!(parts.len(), 3);
    assert_eq!(parts[2].as_ptr(), body[message.model_span.end..].as_ptr());
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["", "", " ", "\n  ", "\r\n\t"][..])
}

fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(
        &["a", "é", "😀", r"\u00e9", r"\n", r#"\""#, r"\\", "{", "]", ":", ",", "model"][..],
    );
    prop::collection::vec(pieces, 1..8).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A value that stays as it is.
fn foreign() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![text(), Just("null".to_owned()), Just("-1.50e+3".to_owned()), Just("1.0".to_owned())];
    leaf.prop_recursive(4, 30, 4, |inner| {
        let member = (space(), text(), space(), inner.clone())
            .prop_map(|(one, key, other, value)| format!("{one}{key}{other}:{one}{value}{other}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(member, 0..4).prop_map(|items| format!("{{{}}}", items.join(","))),
        ]
    })
}

/// The system prompt before and after the edits of [`marks`], with wrapping.
fn system() -> impl Strategy<Value = (String, String)> {
    let block = || {
        (space(), text())
            .prop_map(|(space, text)| format!(r#"{{{space}"type":"text",{space}"text":{text}}}"#))
    };
    prop_oneof![
        text().prop_map(|text| (text.clone(), format!(r#"[{{"type":"text","text":{text},{HOUR}}}]"#))),
        (prop::collection::vec(block(), 0..3), block(), space()).prop_map(|(mut blocks, last, space)| {
            let joined = |blocks: &[String]| format!("[{space}{}{space}]", blocks.join(" ,"));
            blocks.push(last.clone());
            let before = joined(&blocks);
            blocks.pop();
            blocks.push(format!("{{{HOUR},{}", &last[1..]));
            (before, joined(&blocks))
        }),
    ]
}

proptest! {
    #[test]
    fn everything_but_the_edits_stays_as_it_is(
        others in prop::collection::vec((text(), foreign(), space()), 0..6),
        model in text(),
        system in system(),
        places in any::<(prop::sample::Index, prop::sample::Index)>(),
        around in (space(), space(), space()),
    ) {
        let others = others.iter().map(|(key, value, space)| {
            let key = if key == "\"model\"" { "\"x\"" } else { key };
            format!("{space}{key}{space}:{value}")
        });
        let mut before: Vec<String> = others.collect();
        let mut after = before.clone();
        let (at, other) = (places.0.index(before.len() + 1), places.1.index(before.len() + 2));
        before.insert(at, format!("\"model\" :{model}"));
        after.insert(at, "\"model\" :\"n\"".to_owned());
        before.insert(other, format!("\"system\":{}", system.0));
        after.insert(other, format!("\"system\":{}", system.1));
        let whole = |head: &str, members: &[String]| format!("{}{{{head}{}{}}}{}", around.0, around.1, members.join(","), around.2);

        let out = spliced(&whole("", &before), &marks(true));

        prop_assert_eq!(&out, &whole(&format!("{MARK},"), &after));
        let read = serde_json::from_str::<Value>(&out).unwrap();
        prop_assert_eq!(&read["model"], "n");
    }
}
