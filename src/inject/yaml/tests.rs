//! Reading, printing and editing YAML that is awkward.

use proptest::prelude::*;

use super::{
    chunks,
    scalar::{Scalar, Style},
    *,
};

fn document(text: &str) -> Document {
    Document::parse(text).unwrap_or_else(|error| panic!("{error:?} in {text:?}"))
}

fn value(text: &str) -> Value {
    document(text).value().cloned().unwrap()
}

/// Changes a text into the value of another, and says how it looks.
fn changed(old: &str, new: &str) -> (bool, String) {
    match change(&document(old), &value(new)).unwrap() {
        Changed::InPlace(text) => (true, text),
        Changed::Anew(text) => (false, text),
    }
}

/// A text, a value, and the text with that value.
const CHANGES: &[(&str, &str, &str)] = &[
    // Keys: at the end, in the middle, in front; comments stay with what they were written for.
    ("a: 1 # one\n# end\n", "{a: 1, b: 2}", "a: 1 # one\nb: 2\n# end\n"),
    ("a:\n  b: 1\n\n  # last\n  d: 1\n", "a: {b: 1, c: 2, d: 1}", "a:\n  b: 1\n  c: 2\n\n  # last\n  d: 1\n"),
    (
        "a: # here\n    # of b\n    b: 1\n",
        "a: {c: {x: 1}, b: 1}",
        "a: # here\n    c:\n        x: 1\n    # of b\n    b: 1\n",
    ),
    ("- name: b\n", "[{a: 2, name: b}]", "- name: b\n  a: 2\n"),
    // Items: of lists in both indentations.
    (
        "a:\n- name: x\nb: 1\n",
        "{a: [{name: x}, {name: y, z: [1]}], b: 1}",
        "a:\n- name: x\n- name: y\n  z:\n  - 1\nb: 1\n",
    ),
    ("a:\n  # x\n  - name: x\n", "a: [{name: w}, {name: x}]", "a:\n  - name: w\n  # x\n  - name: x\n"),
    (
        "a:\n-   name: x\n",
        "a: [{name: x, y: 1}, {name: z, y: 1}]",
        "a:\n-   name: x\n    y: 1\n-   name: z\n    y: 1\n",
    ),
    (
        "a:\n-\n  name: x\n- name: z\n",
        "a: [{name: x}, {name: y}, {name: z}]",
        "a:\n-\n  name: x\n- name: y\n- name: z\n",
    ),
    // Values: only their own characters change.
    ("a:   30   # why\nb: x\n", "{a: 60, b: x}", "a:   60   # why\nb: x\n"),
    ("a: 'x'\n", "a: 60", "a: 60\n"),
    ("a:\nb: 1\n", "{a: 5, b: 1}", "a: 5\nb: 1\n"),
    // Empty collections open up.
    ("a: {} # none\nb: 1\n", "{a: {x: 1}, b: 1}", "a: # none\n  x: 1\nb: 1\n"),
    ("a:\nb: 1\n", "{a: [1], b: 1}", "a:\n- 1\nb: 1\n"),
    ("a: ~\n", "a: {x: 1}", "a:\n  x: 1\n"),
    // Braces and brackets.
    ("a: { x: 1 }\n", "a: {x: 1, y: {z: [1, k: 2]}}", "a: { x: 1, y: {z: [1, {k: 2}]} }\n"),
    ("a: [1, 2] # c\n", "a: [0, 1, 2, 3]", "a: [0, 1, 2, 3] # c\n"),
    ("{\"a\": [1],\n \"b\": 2}", "{a: [1, {x: z}], b: 2}", "{\"a\": [1, {\"x\":\"z\"}],\n \"b\": 2}"),
    ("{\n    \"a\": 1\n}\n", "{a: 1, b: [1]}", "{\n    \"a\": 1,\n    \"b\": [\n        1\n    ]\n}\n"),
    // Texts of many lines, before and after.
    ("a: |\n  x\n\n# c\n", "{a: \"x\\n\", b: 1}", "a: |\n  x\nb: 1\n\n# c\n"),
    ("a: |+\n  x\n\n", "{a: \"x\\n\\n\", b: 1}", "a: |+\n  x\n\nb: 1\n"),
    ("a: |\n  x\nb: 1\n", "{a: \"y\\nz\\n\", b: 1}", "a: |\n  y\n  z\nb: 1\n"),
    ("a: >-\n  x\n  y\n", "{a: x y, b: 1}", "a: >-\n  x\n  y\nb: 1\n"),
    ("a: x\n  y\n", "{a: x y, b: 1}", "a: x\n  y\nb: 1\n"),
    // Ends of lines and of files.
    ("a: 1", "{a: 1, b: 2, c: 3}", "a: 1\nb: 2\nc: 3"),
    ("a: 1\r\n", "{a: 1, b: \"x\\ny\\n\"}", "a: 1\r\nb: |\r\n  x\r\n  y\r\n"),
    ("\u{feff}a: 1\n", "{a: 1, b: 2}", "\u{feff}a: 1\nb: 2\n"),
    ("%YAML 1.1\n---\na: 1\n...\n", "{a: 1, b: 2}", "%YAML 1.1\n---\na: 1\nb: 2\n...\n"),
    // Merge keys are overridden, and anchors nobody refers to are no hindrance.
    (
        "x: &x {a: 1}\ny:\n  <<: *x\n  b: 1\n",
        "{x: {a: 1}, y: {a: 2, b: 1}}",
        "x: &x {a: 1}\ny:\n  a: 2\n  <<: *x\n  b: 1\n",
    ),
    ("x: &x\n  a: 1\n", "x: {a: 1, b: 2}", "x: &x\n  a: 1\n  b: 2\n"),
    ("? a\n: b: 1\nc: 1\n", "{a: {b: 1}, c: 2}", "? a\n: b: 1\nc: 2\n"),
];

#[test]
fn changes_come_in_where_they_belong_and_go_out_without_a_trace() {
    for &(old, new, expected) in CHANGES {
        let (is_in_place, text) = changed(old, new);
        assert!(is_in_place, "{old:?} was written anew: {text}");
        if !old.contains("<<") {
            assert_eq!(text, expected, "{old:?}");
        }
        let Changed::InPlace(back) = change(&document(&text), &value(old)).unwrap() else {
            panic!("not taken back in place: {text}")
        };
        if !old.contains("<<") {
            assert_eq!(back, old, "from {text:?}");
        }
    }
}

#[test]
fn what_cannot_be_changed_in_place_is_written_anew_with_the_same_meaning() {
    for (old, new, expected) in [
        ("# top\na: &x\n  b: 1 # lost\nc: *x\n", "{a: {b: 1}, c: {b: 2}}", "# top\na:\n  b: 1\nc:\n  b: 2\n"),
        ("--- {a: &x [1], b: *x}\n", "{a: [1], b: [2]}", "---\na:\n- 1\nb:\n- 2\n"),
        ("a: &x {b: 0644, c: 'yes', d: yes}\nf: *x\n", "{a: {b: 0644, c: 'yes', d: yes}, f: 1}", "f: 1"),
    ] {
        let (is_in_place, text) = changed(old, new);
        assert!(text.contains(expected), "{text}");
        assert!(same(&value(&text), &value(new)), "{text}");
        assert!(!is_in_place || !old.starts_with('#'), "{text}");
    }
}

#[test]
fn a_document_with_tags_that_cannot_be_kept_is_not_written_anew() {
    let old = document("a: &x !thing {b: 1}\nc: *x\n");
    assert_eq!(change(&old, &value("{a: {b: 1}, c: {b: 2}}")), None);
}

#[test]
fn scalars_mean_what_kubectl_makes_of_them() {
    for (text, meaning) in [
        ("0644", Meaning::Int(420)),
        ("0o644", Meaning::Int(420)),
        ("0x1F", Meaning::Int(31)),
        ("-12", Meaning::Int(-12)),
        ("1_000", Meaning::Int(1000)),
        ("089", Meaning::Float(89.0)),
        ("1e3", Meaning::Float(1000.0)),
        (".5", Meaning::Float(0.5)),
        ("y", Meaning::Bool(true)),
        ("Off", Meaning::Bool(false)),
        ("~", Meaning::Null),
        ("1.2.3", Meaning::Text("1.2.3")),
        ("12:30", Meaning::Text("12:30")),
        ("2001-01-01", Meaning::Text("2001-01-01")),
        ("-", Meaning::Text("-")),
        ("+x", Meaning::Text("+x")),
        ("100m", Meaning::Text("100m")),
    ] {
        assert_eq!(Scalar::plain(text).meaning(), meaning, "{text}");
    }
    assert_eq!(Scalar { text: "12".into(), style: Style::Single, tag: None }.meaning(), Meaning::Text("12"));
}

#[test]
fn texts_are_quoted_wherever_a_reader_might_err() {
    for plain in [
        "backend",
        "/etc/touchline",
        "http://127.0.0.1:8081",
        "15s",
        "32Mi",
        "a.b/c-d",
        "metadata.name",
        "--config",
        "-c",
    ] {
        assert_eq!(Scalar::text(plain).on_one_line(false), plain);
    }
    for quoted in [
        "",
        "y",
        "Yes",
        "on",
        "null",
        "~",
        "12",
        "0644",
        "1e3",
        "1_0",
        "12:30",
        "2001-01-01",
        ".5",
        "1.5",
        "-1",
        "-",
        "--",
        "a: b",
        "a #b",
        " a",
        "a ",
        "a:",
        "{{ x }}",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "=",
        "<<",
        "[a",
        "a,b",
        "ü",
        "0.1.0",
        ".inf",
    ] {
        let written = Scalar::text(quoted).on_one_line(false);
        assert!(written.starts_with(['"', '\'']), "{written}");
        assert_eq!(value(&written), Value::Scalar(Scalar::text(quoted)), "{written}");
    }
    assert_eq!(Scalar::text("{\"a\":\"it's\"}").on_one_line(false), "'{\"a\":\"it''s\"}'");
    assert_eq!(Scalar::text("a\u{85}\u{2028}\n").on_one_line(false), "\"a\\u0085\\u2028\\n\"");
}

#[test]
fn a_stream_is_cut_between_its_documents() {
    for (text, parts) in [
        ("a: 1\n---\nb: 1\n", &["a: 1\n", "---\nb: 1\n"][..]),
        ("# c\n---\na: 1\n--- # d\nb: 1", &["# c\n---\na: 1\n", "--- # d\nb: 1"]),
        (
            "%YAML 1.1\n---\na: 1\n...\n%YAML 1.1\n---\nb: 1\n",
            &["%YAML 1.1\n---\na: 1\n...\n", "%YAML 1.1\n---\nb: 1\n"],
        ),
        ("---\n---\n\n---\na: 1\n", &["---\n", "---\n\n", "---\na: 1\n"]),
        ("a: |\n  ---\n ...\n----\n", &["a: |\n  ---\n ...\n----\n"]),
        ("{\"a\": 1}\n{\"b\": 2} \n", &["{\"a\": 1}\n", "{\"b\": 2} \n"]),
        ("a: 1\r\n---\r\nb: 1\r\n", &["a: 1\r\n", "---\r\nb: 1\r\n"]),
        ("", &[]),
    ] {
        assert_eq!(chunks(text), parts, "{text:?}");
        assert_eq!(chunks(text).concat(), text);
    }
}

#[test]
fn keys_that_are_there_twice_are_found_and_bombs_are_not_opened() {
    assert_eq!(document("a:\n- b: {c: 1, c: 2}\n").doubled_key().as_deref(), Some("a[0].b.c"));
    assert_eq!(document("x: &x {a: 1}\ny: {<<: *x, a: 2}\n").doubled_key(), None);
    let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(Document::parse(&bomb).unwrap_err().message.contains("too large"));
    assert!(Document::parse("a: &a [*a]").is_err());
    assert!(Document::parse(&"[".repeat(500)).is_err());
}

/// A value of any shape, with texts that are awkward.
fn any_value() -> impl Strategy<Value = Value> {
    let awkward = prop::sample::select(vec![
        "",
        "a",
        "y",
        "0644",
        "1e3",
        "12:30",
        "~",
        "null",
        " x",
        "x ",
        "a: b",
        "# c",
        "- d",
        "x\ny\n",
        "\n",
        "\n\nx",
        "x\n\n",
        "  x\n y",
        "'",
        "\"",
        "\\",
        "\t",
        "ü",
        "\u{85}",
        "{{ .Values.x }}",
        "%",
        "---",
        "...",
        "|",
        "a\r\nb",
        "*",
        "&x",
        "!",
        "🎾",
    ]);
    let texts = prop_oneof![awkward.prop_map(str::to_owned), "[ -~\\n]{0,12}"];
    let leaf = prop_oneof![
        texts.prop_map(Value::text),
        any::<i32>().prop_map(|number| Value::Scalar(Scalar::plain(number.to_string()))),
        any::<bool>().prop_map(|flag| Value::Scalar(Scalar::plain(flag.to_string()))),
        Just(Value::Scalar(Scalar::plain(""))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let keys = prop::sample::select(vec!["name", "a", "b c", "on", "1", "x: y", "", "#"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec((keys, inner), 0..4).prop_map(|entries| {
                let mut map = Map::default();
                entries.into_iter().for_each(|(key, value)| map.set(key, value));
                Value::Map(map)
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(value in any_value()) {
        let text = manifest(&value);
        let again = document(&text);
        prop_assert!(again.value().is_none_or(|again| same(again, &value)), "{text}");
        prop_assert!(again.value().is_some() || value.as_scalar().is_some_and(Scalar::is_null), "{text}");
    }

    #[test]
    fn any_text_becomes_any_value(old in any_value(), new in any_value(), is_crlf in any::<bool>()) {
        let text = manifest(&old);
        let text = if is_crlf { text.replace('\n', "\r\n") } else { text };
        let before = document(&text);
        if before.value().is_some() {
            let text = match change(&before, &new) {
                Some(Changed::InPlace(text) | Changed::Anew(text)) => text,
                None => String::new(),
            };
            prop_assert!(document(&text).value().is_none_or(|value| same(value, &new)), "{text}");
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,120}|[-a: {}\\[\\]&*!|>'\"#%\\n ]{0,80}") {
        for part in chunks(&text) {
            let _ = Document::parse(part);
        }
    }
}
