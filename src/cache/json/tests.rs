//! Tests of the canonical form: what shares one, and that nothing else does.

use proptest::{
    collection::{btree_map, vec},
    prelude::{BoxedStrategy, Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    sample::select,
};

use super::{MAX_DEPTH, Value};

fn form(text: &str) -> Option<String> {
    Value::parse(text.as_bytes()).map(|value| String::from_utf8(value.canonical()).unwrap())
}

#[test]
fn order_and_white_space_and_escapes_that_mean_nothing_are_gone() {
    let table = [
        ("{}", "{}"),
        (" [ ] ", "[]"),
        (r#"{ "b" : 1 , "a" : [ true , false , null ] }"#, r#"{"a":[true,false,null],"b":1}"#),
        ("{\"b\":{\"d\":2,\"c\":1},\r\n\t\"a\":\"\"}", r#"{"a":"","b":{"c":1,"d":2}}"#),
        (r#""\u0041\u00e9\/\b\f\n\r\t\"\\""#, r#""Aé/\u0008\u000c\u000a\u000d\u0009\"\\""#),
        (r#""\ud83d\ude00""#, "\"\u{1f600}\""),
        (r#"{"\u0061":1}"#, r#"{"a":1}"#),
        // Numbers stay as they are.
        ("[0,-0,1.0,1e5,1E+5,-12.50e-3]", "[0,-0,1.0,1e5,1E+5,-12.50e-3]"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("\"\u{7f}\u{2028}\"", "\"\u{7f}\u{2028}\""),
    ];

    for (text, expected) in table {
        assert_eq!(form(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn what_readers_disagree_on_is_not_read() {
    for text in [
        "",
        " ",
        "{",
        "[1",
        "[1,]",
        "[,1]",
        r#"{"a":1,}"#,
        r#"{"a"}"#,
        r#"{"a":}"#,
        "{a:1}",
        "{'a':1}",
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"b":{"a":1,"c":2,"a":3}}]"#,
        "1 2",
        "{}{}",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "nul",
        "True",
        "truex",
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#""\ud800\ud800""#,
        r#""\u+041""#,
        r#""\u00g0""#,
        r#""\u00"#,
        r#""\x41""#,
        "\"\n\"",
        "\"a",
        "\"\\",
        "\u{feff}{}",
        "// c\n{}",
        "{} // c",
        "\u{a0}{}",
    ] {
        assert_eq!(form(text), None, "{text:?}");
    }
    assert_eq!(Value::parse(b"\"\xff\""), None);
    assert_eq!(Value::parse("\"\u{e9}\"".as_bytes()), Some(Value::Text("é".into())));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let maps = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));

    assert!(form(&nested(MAX_DEPTH)).is_some());
    assert!(form(&maps(MAX_DEPTH)).is_some());
    assert!(form(&nested(MAX_DEPTH + 1)).is_none());
    assert!(form(&maps(MAX_DEPTH + 1)).is_none());
    assert!(form(&"[".repeat(64 * 1024)).is_none());
}

#[test]
fn members_and_their_texts_are_found() {
    let text = r#"{"s":"a\u002f","n":1.50,"t":true,"f":false,"z":null,"l":[1],"m":{"s":1},"":"e"}"#;
    let value = Value::parse(text.as_bytes()).unwrap();

    let text = |name: &str| value.member(name).and_then(Value::text);

    assert_eq!(
        [text("s"), text("n"), text("t"), text("f"), text("")],
        [Some("a/"), Some("1.50"), Some("true"), Some("false"), Some("e")]
    );
    assert_eq!([text("z"), text("l"), text("m"), text("x")], [None; 4]);
    assert_eq!(Value::parse(b"[1]").unwrap().member("s"), None);
}

/// A JSON value of the test's own.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Word(&'static str),
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Map(std::collections::BTreeMap<String, Tree>),
}

fn text() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "\"", "\\", "/", "\n", "\u{0}", "é", "\u{1f600}", " ", ","]), 0..4)
        .prop_map(|parts| parts.concat())
}

fn tree() -> BoxedStrategy<Tree> {
    let leaf = prop_oneof![
        select(vec!["null", "true", "false"]).prop_map(Tree::Word),
        select(vec!["0", "-0", "1", "1.0", "10", "1e1", "1E1"])
            .prop_map(|text| Tree::Number(text.to_owned())),
        text().prop_map(Tree::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Tree::List),
            btree_map(text(), inner, 0..4).prop_map(Tree::Map),
        ]
    })
    .boxed()
}

/// Writes a tree in one of its many spellings, chosen by the dice.
fn spell(tree: &Tree, dice: &mut impl FnMut(usize) -> usize, out: &mut String) {
    let space = |dice: &mut dyn FnMut(usize) -> usize, out: &mut String| {
        out.push_str(["", "", " ", "\n\t", "\r\n"][dice(5)]);
    };
    space(dice, out);
    match tree {
        Tree::Word(word) => out.push_str(word),
        Tree::Number(text) => out.push_str(text),
        Tree::Text(text) => quote(text, dice, out),
        Tree::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                spell(item, dice, out);
            }
            space(dice, out);
            out.push(']');
        }
        Tree::Map(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for index in (1..members.len()).rev() {
                members.swap(index, dice(index + 1));
            }
            out.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                space(dice, out);
                quote(name, dice, out);
                space(dice, out);
                out.push(':');
                spell(value, dice, out);
            }
            space(dice, out);
            out.push('}');
        }
    }
    space(dice, out);
}

fn quote(text: &str, dice: &mut impl FnMut(usize) -> usize, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        if dice(3) == 0 || letter.is_control() || matches!(letter, '"' | '\\') {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        } else {
            out.push(letter);
        }
    }
    out.push('"');
}

fn spelling(tree: &Tree, seeds: &[usize]) -> String {
    let (mut out, mut at) = (String::new(), 0);
    let mut dice = |sides: usize| {
        at += 1;
        seeds.get(at % seeds.len().max(1)).map_or(0, |seed| seed.wrapping_mul(at) % sides)
    };
    spell(tree, &mut dice, &mut out);
    out
}

proptest! {
    #[test]
    fn forms_are_equal_exactly_if_the_values_are(
        one in tree(),
        two in prop_oneof![tree(), Just(Tree::Word("null"))],
        is_same in any::<bool>(),
        seeds in vec(any::<usize>(), 2..24),
        others in vec(any::<usize>(), 2..24),
    ) {
        let two = if is_same { one.clone() } else { two };

        let left = form(&spelling(&one, &seeds)).unwrap();
        let right = form(&spelling(&two, &others)).unwrap();

        prop_assert_eq!(left == right, one == two);
    }

    #[test]
    fn the_form_is_its_own_form_and_means_the_same(one in tree(), seeds in vec(any::<usize>(), 2..24)) {
        let text = spelling(&one, &seeds);

        let canonical = form(&text).unwrap();

        let again = form(&canonical);
        prop_assert_eq!(again.as_ref(), Some(&canonical));
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&text).unwrap(), serde_json::from_str(&canonical).unwrap());
        prop_assert_eq!(before, after);
    }

    #[test]
    fn no_bytes_make_it_panic_and_what_it_reads_others_read(bytes in vec(any::<u8>(), 0..64)) {
        if Value::parse(&bytes).is_some() {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok());
        }
    }

    #[test]
    fn texts_with_a_change_are_read_as_others_read_them(
        one in tree(),
        seeds in vec(any::<usize>(), 2..24),
        at in any::<proptest::sample::Index>(),
        piece in select(vec!["", "\"", "\\", "{", "}", "[", "]", ":", ",", "0", "-", "e", "\\u", "d8", "t", "\u{0}"]),
    ) {
        let mut letters: Vec<char> = spelling(&one, &seeds).chars().collect();
        let at = at.index(letters.len());
        letters.splice(at..=at, piece.chars());
        let text: String = letters.into_iter().collect();

        if form(&text).is_some() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text:?}");
        }
    }
}
