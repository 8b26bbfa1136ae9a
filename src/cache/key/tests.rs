//! Tests of the key: what shares one, and that nothing else does.

use http::{HeaderMap, HeaderName};
use proptest::{
    collection::vec, option, prelude::any, prop_assert_eq, proptest, sample::select, strategy::Strategy,
};

use super::{BodyPart, Key, KeyMaker, KeyRule, Scheme, Target, cookie_values, without_default_port};
use crate::{
    cache::{identity::IdentityTag, query::QueryRule, samples::fields},
    config::BodyKey,
};

const PLAIN: Target<'_> = Target { scheme: Scheme::Http, authority: b"a.example", path: b"/x", query: None };

fn make(maker: &KeyMaker, target: Target<'_>) -> Key {
    maker.key(&KeyRule::default(), &target, &HeaderMap::new())
}

#[test]
fn gives_its_parts_back() {
    let maker = KeyMaker::default();

    let key =
        make(&maker, Target { authority: b"A.Example:80", path: b"/X/%41", query: Some(b"b=1&a"), ..PLAIN });

    assert_eq!(key.authority(), b"a.example");
    assert_eq!(key.path(), b"/X/%41");
    assert_eq!(key.query(), Some(b"b=1&a".as_slice()));
    assert_eq!(make(&maker, PLAIN).query(), None);
}

#[test]
fn one_allocation_of_the_exact_size_holds_a_key() {
    let rule = KeyRule {
        headers: vec![HeaderName::from_static("x-lang")],
        cookies: vec!["s".into(), "none".into()],
        origin: true,
        ..KeyRule::default()
    };
    let request =
        fields(&[("x-lang", "de"), ("cookie", "s=1; t=2"), ("cookie", "s=3"), ("origin", "http://o")]);
    let target = Target { query: Some(b"a=1"), ..PLAIN };

    let key = KeyMaker::default().key(&rule, &target, &request);

    let written = key.parts.len();
    let counted = 4 + (4 + 9) + (4 + 2) + (1 + 4 + 3) + super::selected_size(&rule, &request);
    assert_eq!(written, counted);
}

#[test]
fn an_identity_has_keys_of_its_own() {
    let maker = KeyMaker::default();
    let rule = KeyRule::default();
    let target = Target { query: Some(b"a=1"), ..PLAIN };
    let of = |tag: Option<IdentityTag>| maker.key_of(&rule, &target, &HeaderMap::new(), tag.as_ref());
    let tag =
        |identity: u8, subject: u8| Some(IdentityTag { identity: [identity; 32], subject: [subject; 32] });

    let (nobody, one, other) = (of(None), of(tag(1, 9)), of(tag(2, 9)));

    assert!(nobody != one && one != other && one == of(tag(1, 9)));
    for key in [&one, &other] {
        assert_eq!(
            (key.authority(), key.path(), key.query()),
            (&b"a.example"[..], &b"/x"[..], Some(&b"a=1"[..]))
        );
        assert_eq!(key.subject(), Some(&[9; 32]));
    }
    assert!(one.is_identity() && maker.variant(&one, &[1; 32]).is_identity());
    assert!(!nobody.is_identity() && nobody.subject().is_none());
    assert_eq!(one.size(), nobody.size() + 64);
}

#[test]
fn hosts_differ_only_by_what_counts() {
    let maker = KeyMaker::default();
    let plain = make(&maker, PLAIN);
    let with = |scheme, authority| make(&maker, Target { scheme, authority, ..PLAIN });

    assert!(plain == with(Scheme::Http, b"A.EXAMPLE:80"));
    assert!(plain == with(Scheme::Http, b"a.example:"));
    assert!(plain != with(Scheme::Http, b"a.example:443"));
    assert!(plain != with(Scheme::Https, b"a.example"));
    assert!(with(Scheme::Https, b"a.example:443") == with(Scheme::Https, b"a.example"));
    assert_eq!(without_default_port(Scheme::Https, b"[::1]:443"), b"[::1]");
}

#[test]
fn the_absence_of_origin_is_a_key_of_its_own_on_routes_with_a_rule() {
    let maker = KeyMaker::default();
    let with = |origin: bool, request: &HeaderMap| {
        maker.key(&KeyRule { origin, ..KeyRule::default() }, &PLAIN, request)
    };
    let (none, one, other) =
        (fields(&[]), fields(&[("origin", "http://1")]), fields(&[("origin", "http://2")]));

    assert!(with(true, &none) != with(true, &one));
    assert!(with(true, &one) != with(true, &other));
    assert!(with(true, &fields(&[("origin", "")])) != with(true, &none));
    assert!(with(false, &none) == with(false, &one));
}

#[test]
fn chosen_fields_and_cookies_count_with_all_their_values() {
    let maker = KeyMaker::default();
    let rule = KeyRule {
        headers: vec![HeaderName::from_static("x-a")],
        cookies: vec!["s".into()],
        ..KeyRule::default()
    };
    let with = |list: &[(&'static str, &str)]| maker.key(&rule, &PLAIN, &fields(list));
    let plain = with(&[("x-a", "1"), ("cookie", "s=1")]);

    assert!(plain == with(&[("x-a", "1"), ("cookie", "t=2;  s = 1 ;u"), ("x-b", "2")]));
    assert!(plain != with(&[("x-a", "1"), ("cookie", "s=1; s=2")]));
    assert!(plain != with(&[("x-a", "1"), ("x-a", ""), ("cookie", "s=1")]));
    assert!(plain != with(&[("x-a", "1")]));
    assert!(with(&[("x-a", "")]) != with(&[]));
}

#[test]
fn finds_cookies_over_lines() {
    let request = fields(&[("cookie", "a=1; ab=2;a=3"), ("cookie", "=4;a;a=\"5\"")]);

    let values: Vec<_> = cookie_values(&request, "a").collect();

    assert_eq!(values, [b"1".as_slice(), b"3", b"\"5\""]);
}

#[test]
fn variants_have_keys_of_their_own() {
    let maker = KeyMaker::default();
    let key = make(&maker, PLAIN);

    let (one, two) = (maker.variant(&key, &[1; 32]), maker.variant(&key, &[2; 32]));

    assert!(one != key && one != two && one == maker.variant(&key, &[1; 32]));
    assert_eq!(one.path(), b"/x");
}

#[test]
fn a_post_shares_no_key_with_a_get_or_another_body_and_has_the_same_target() {
    let maker = KeyMaker::default();
    let get = make(&maker, Target { query: Some(b"a=1"), ..PLAIN });
    let json = fields(&[("content-type", "application/json")]);
    let with =
        |kind, body: &str| maker.posted(&get, &BodyPart::of(kind, &json, None, body.as_bytes()).unwrap());

    let one = with(BodyKey::Json, r#"{"a":1}"#);

    assert!(one != get && one == with(BodyKey::Json, r#" {"a": 1}"#));
    assert!(one != with(BodyKey::Json, r#"{"a":2}"#));
    assert!(one != with(BodyKey::Raw, r#"{"a":1}"#));
    assert!(maker.variant(&one, &[1; 32]) != maker.variant(&get, &[1; 32]));
    assert_eq!((one.authority(), one.path(), one.query()), (get.authority(), get.path(), get.query()));
}

#[test]
fn the_name_is_the_same_in_every_process_and_the_hash_is_not() {
    let (one, two) = (make(&KeyMaker::default(), PLAIN), make(&KeyMaker::default(), PLAIN));

    assert_eq!(one.name(), two.name());
    assert_eq!(one.name(), "6a39962d317504034c5be9e594a51e5567a3df91013f1b8048e7e970be09878e");
    assert_eq!(one.parts(), two.parts());
    assert_ne!(one.hash(), two.hash());
}

#[test]
fn debug_shows_no_more_than_the_path() {
    let target = Target { query: Some(b"token=secret"), ..PLAIN };

    assert_eq!(format!("{:?}", make(&KeyMaker::default(), target)), "Key(/x)");
}

/// What a key is made of, in an owned form; equal exactly if the keys must be.
#[derive(Clone, Debug, PartialEq)]
struct Parts {
    is_https: bool,
    authority: String,
    path: String,
    query: Option<String>,
    fields: Vec<Vec<String>>,
}

/// Few letters and separators, so that equal and nearly equal parts come up often.
fn text() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "/", "&", "=", "", "b", ";", "\u{1}"]), 0..4).prop_map(|parts| parts.concat())
}

fn parts() -> impl Strategy<Value = Parts> {
    let visible = vec(select(vec!["a", "/", "b", "="]), 0..3).prop_map(|parts| parts.concat());
    let values = vec(vec(visible, 0..3), 3);
    (any::<bool>(), text(), text(), option::of(text()), values).prop_map(
        |(is_https, authority, path, query, fields)| Parts { is_https, authority, path, query, fields },
    )
}

fn key_of(maker: &KeyMaker, parts: &Parts) -> Key {
    let rule = KeyRule {
        headers: vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")],
        cookies: Vec::new(),
        origin: true,
        query: QueryRule::all(),
        body: None,
    };
    let mut list = Vec::new();
    for (name, values) in ["origin", "x-a", "x-b"].into_iter().zip(&parts.fields) {
        list.extend(values.iter().map(|value| (name, value.as_str())));
    }
    let target = Target {
        scheme: if parts.is_https { Scheme::Https } else { Scheme::Http },
        authority: parts.authority.as_bytes(),
        path: parts.path.as_bytes(),
        query: parts.query.as_ref().map(String::as_bytes),
    };
    maker.key(&rule, &target, &fields(&list))
}

proptest! {
    #[test]
    fn keys_are_equal_exactly_if_their_parts_are(one in parts(), two in parts(), swap in any::<bool>()) {
        let maker = KeyMaker::default();
        // Half of the pairs differ by at most one part, as those are the ones that could collide.
        let two = if swap { Parts { path: two.path, ..one.clone() } } else { two };

        let (left, right) = (key_of(&maker, &one), key_of(&maker, &two));

        prop_assert_eq!(left == right, one == two);
        prop_assert_eq!(left.name() == right.name(), one == two);
        prop_assert_eq!(left.hash() == right.hash(), one == two);
    }

    #[test]
    fn moving_a_border_between_parts_changes_the_key(bytes in "[a-z/]{2,12}", cut in 1_usize..11) {
        let maker = KeyMaker::default();
        let cut = cut.min(bytes.len() - 1);
        let at = |cut: usize| {
            let (authority, path) = bytes.split_at(cut);
            make(&maker, Target { authority: authority.as_bytes(), path: path.as_bytes(), ..PLAIN })
        };

        prop_assert_eq!(at(cut) == at(cut - 1), false);
    }

    #[test]
    fn parts_are_read_back_as_they_were_written(one in parts()) {
        let key = key_of(&KeyMaker::default(), &one);

        prop_assert_eq!(key.path(), one.path.as_bytes());
        prop_assert_eq!(key.query(), one.query.as_ref().map(String::as_bytes));
        prop_assert_eq!(key.authority(), one.authority.as_bytes());
    }

    #[test]
    fn any_bytes_of_a_key_are_read_without_a_panic(parts in vec(any::<u8>(), 0..40)) {
        let key = KeyMaker::default().finish(parts);

        let _ = (key.authority(), key.path(), key.query(), key.is_identity(), key.subject());
    }
}
