//! Which codings are wanted and allowed, and what becomes of heads and tags.

use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    prop_assert, proptest,
    sample::select,
};

use super::{Accepted, Coding, add_plain_tags, coded_head, is_encodable, known_tag, vary_by_coding};
use crate::{
    cache::rfc9111::{
        Merge, Policy, Selection, Storable,
        fixture::{Copy, Lines, compressing, headers, ruled, store},
        normal_encoding,
    },
    config::{Cache, RouteCache},
};

fn accepting(value: &str) -> HeaderMap {
    headers(&[("accept-encoding", value)])
}

fn wanted(value: &str) -> Vec<&'static str> {
    Accepted::of(&accepting(value)).wanted().map(Coding::as_str).collect()
}

#[test]
fn codings_are_wanted_by_weight_and_brotli_comes_first_among_equals() {
    for (value, order) in [
        ("gzip, deflate, br, zstd", &["br", "gzip"][..]),
        ("br;q=0.5, gzip", &["gzip", "br"]),
        ("br;q=0.5, gzip;q=0.49", &["br", "gzip"]),
        ("br;q=0.123,gzip;q=0.124", &["gzip", "br"]),
        ("GZIP ; q=1.000", &["gzip"]),
        ("x-gzip", &["gzip"]),
        ("br;q=0, *", &["gzip"]),
        ("*", &["br", "gzip"]),
        ("*;q=0, gzip;q=0.1", &["gzip"]),
        ("identity, gzip;q=0.9", &[]),
        ("identity;q=0.5, gzip;q=0.5, br;q=0.4", &["gzip"]),
        ("identity;q=0, br", &["br"]),
        ("br;q=0.000, gzip;q=0.", &[]),
        ("br;q=, gzip;q=wrong", &["gzip"]),
        ("identity", &[]),
        ("deflate", &[]),
        ("", &[]),
        (",,;q=1,", &[]),
    ] {
        assert_eq!(wanted(value), order, "{value}");
    }
    assert_eq!(Accepted::of(&HeaderMap::new()).wanted().count(), 0);
    let lines = headers(&[("accept-encoding", "gzip"), ("accept-encoding", "br")]);
    assert_eq!(Accepted::of(&lines).class(), Some("br, gzip"));
}

#[test]
fn only_text_that_may_be_changed_and_has_no_coding_is_coded() {
    let json = ("content-type", "application/json");
    let yes: &[Lines<'_>] = &[
        &[json],
        &[json, ("content-length", "1025")],
        &[("content-type", "Text/HTML; charset=utf-8")],
        &[("content-type", "application/problem+json")],
        &[("content-type", "image/svg+xml")],
        &[json, ("cache-control", "max-age=60, no-transformation")],
    ];
    let no: &[Lines<'_>] = &[
        &[],
        &[json, ("content-length", "1024")],
        &[json, ("content-encoding", "gzip")],
        &[json, ("content-encoding", "identity")],
        &[json, ("content-range", "bytes 0-1/2")],
        &[json, ("cache-control", "max-age=60, No-Transform")],
        &[json, ("cache-control", "max-age=60"), ("cache-control", "no-transform")],
        &[("content-type", "image/png")],
        &[("content-type", "application/jsonlike")],
    ];
    for lines in yes {
        assert!(is_encodable(StatusCode::OK, &headers(lines)), "{lines:?}");
    }
    for lines in no {
        assert!(!is_encodable(StatusCode::OK, &headers(lines)), "{lines:?}");
    }
    assert!(!is_encodable(StatusCode::NOT_FOUND, &headers(&[json])));
}

#[test]
fn a_coded_head_speaks_of_the_coded_body() {
    let plain = headers(&[
        ("content-type", "text/plain"),
        ("etag", "\"abc\""),
        ("content-length", "5000"),
        ("accept-ranges", "bytes"),
        ("content-digest", "sha-256=:x:"),
        ("repr-digest", "sha-256=:x:"),
        ("vary", "Accept-Encoding"),
        ("x-a", "1"),
    ]);

    assert_eq!(
        coded_head(&plain, Coding::Gzip, 700),
        headers(&[
            ("content-type", "text/plain"),
            ("etag", "\"abc-gz\""),
            ("content-length", "700"),
            ("vary", "Accept-Encoding"),
            ("x-a", "1"),
            ("content-encoding", "gzip"),
        ])
    );
    for (tag, coded) in [
        ("\"abc\"", Some("\"abc-br\"")),
        ("\"\"", Some("\"-br\"")),
        ("W/\"abc\"", Some("W/\"abc\"")),
        ("abc", None),
    ] {
        let head = coded_head(&headers(&[("etag", tag)]), Coding::Brotli, 1);
        assert_eq!(head.get("etag").map(HeaderValue::as_bytes), coded.map(str::as_bytes), "{tag}");
    }
}

#[test]
fn a_known_tag_is_that_of_a_representation_which_the_client_accepts() {
    let plain = headers(&[("etag", "\"a\"")]);
    let known = |list: &str, codings: &[Coding]| {
        let tag = known_tag(&headers(&[("if-none-match", list)]), &plain, codings.iter().copied())
            .unwrap_or_else(|| HeaderValue::from_static("-"));
        tag.to_str().unwrap().to_owned()
    };
    let all = &Coding::ALL[..];

    assert_eq!(known("\"a-br\"", all), "\"a-br\"");
    assert_eq!(known("W/\"a-gz\"", all), "\"a-gz\"");
    assert_eq!(known("\"a\"", all), "\"a\"");
    assert_eq!(known("\"a\", \"a-gz\", \"a-br\"", all), "\"a-br\"");
    assert_eq!(known("\"a-br\"", &[Coding::Gzip]), "-");
    assert_eq!(known("\"a-br\"", &[]), "-");
    assert_eq!(known("\"a-br-br\"", all), "-");
    assert_eq!(known("\"b\"", all), "-");
    assert_eq!(known("*", all), "-");
    assert_eq!(known_tag(&HeaderMap::new(), &plain, Coding::ALL.into_iter()), None);
    let list = headers(&[("if-none-match", "\"a-br\"")]);
    assert_eq!(known_tag(&list, &HeaderMap::new(), Coding::ALL.into_iter()), None);
}

#[test]
fn the_backend_is_told_its_own_tags() {
    for (list, sent) in [
        ("\"a\"", "\"a\""),
        ("*", "*"),
        ("\"a-br\"", "\"a-br\", \"a\""),
        ("\"a\", \"b-gz\",\"c-br\"", "\"a\", \"b-gz\",\"c-br\", \"b\", \"c\""),
        ("gibberish-br\"", "gibberish-br\""),
    ] {
        let mut request = headers(&[("if-match", list)]);
        add_plain_tags(&mut request);
        assert_eq!(request, headers(&[("if-match", sent)]), "{list}");
    }
}

#[test]
fn that_an_answer_varies_is_said_once() {
    for (before, after) in [
        (&[][..], &[("vary", "Accept-Encoding")][..]),
        (&[("vary", "Origin")], &[("vary", "Origin"), ("vary", "Accept-Encoding")]),
        (&[("vary", "origin, accept-encoding")], &[("vary", "origin, accept-encoding")]),
    ] {
        let mut head = headers(before);
        vary_by_coding(&mut head);
        assert_eq!(head, headers(after));
    }
}

#[test]
fn where_copies_are_coded_one_plain_copy_fits_everybody_and_says_that_it_varies() {
    let json = ("content-type", "application/json");
    let asked = &[("accept-encoding", "identity")];
    let kept = |lines: Lines<'_>, policy: &Policy| store(asked, 200, lines, policy).unwrap();
    let names = |storable: &Storable| -> Vec<String> {
        storable.selection.names().map(|name| name.as_str().to_owned()).collect()
    };
    let lines: Lines<'_> = &[json, ("vary", "Origin, Accept-Encoding")];

    let plain = kept(lines, &compressing());
    let coded = kept(&[json, ("vary", "accept-encoding"), ("content-encoding", "br")], &compressing());
    let silent = kept(&[json], &compressing());
    let small = kept(&[json, ("content-length", "9")], &compressing());

    assert_eq!(names(&plain), ["origin"]);
    assert_eq!(names(&coded), ["accept-encoding"], "what the backend coded is not for everybody");
    assert_eq!(names(&kept(lines, &ruled())), ["origin", "accept-encoding"]);
    assert!(plain.is_encodable && silent.is_encodable && !coded.is_encodable && !small.is_encodable);
    assert_eq!(plain.head(&headers(lines)).get_all("vary").iter().count(), 1);
    assert_eq!(silent.head(&headers(&[json])).get("vary").unwrap(), "Accept-Encoding");
    assert!(!small.head(&headers(&[json])).contains_key("vary"));
    assert!(silent.selection.is_any());
}

#[test]
fn a_confirmed_copy_says_still_that_it_varies() {
    let copy = Copy::of(&[("content-type", "text/css"), ("etag", "\"a\"")], &compressing());

    let merged = copy.merge(&[], &[("vary", "origin")], &compressing());

    let Merge::Updated { head, storable } = merged else { panic!("{merged:?}") };
    let vary: Vec<_> = head.get_all("vary").iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(vary, ["origin", "Accept-Encoding"]);
    assert_eq!(storable.selection.names().count(), 1);
}

#[test]
fn only_what_is_the_same_for_everybody_is_coded() {
    for (compress, public, expected) in [(true, true, true), (true, false, false), (false, true, false)] {
        let route = RouteCache { compress, public, ..RouteCache::default() };
        assert_eq!(Policy::from_config(&Cache::default(), Some(&route)).compress, expected);
    }
    assert!(!Policy::from_config(&Cache::default(), None).compress);
}

/// `Accept-Encoding` as clients might write it.
fn field() -> impl Strategy<Value = Option<String>> {
    let name = select(vec!["br", "gzip", "x-gzip", "GZip", "deflate", "zstd", "identity", "*"]);
    let weight = select(vec!["", ";q=0", ";q=0.0", ";q=0.3", ";q=0.301", ";q=1", "; q=0.9", ";q=x"]);
    let members = vec((name, weight), 0..5).prop_map(|members| {
        members.into_iter().map(|(name, weight)| format!("{name}{weight}")).collect::<Vec<_>>().join(", ")
    });
    (any::<bool>(), members).prop_map(|(is_there, members)| is_there.then_some(members))
}

/// Whether the standard lets a client with this field have an answer in this coding.
fn accepts(field: Option<&str>, coding: &str) -> bool {
    let Some(field) = field else { return coding == "identity" };
    let members = field.split(", ").filter(|member| !member.is_empty());
    let weights: Vec<(String, bool)> = members
        .map(|member| {
            let (name, weight) = member.split_once(';').unwrap_or((member, ""));
            let name = name.to_ascii_lowercase().replace("x-gzip", "gzip");
            (name, !matches!(weight.trim(), "q=0" | "q=0.0"))
        })
        .collect();
    let named = |wanted: &str| weights.iter().rev().find(|(name, _)| name == wanted).map(|(_, is)| *is);
    named(coding).or_else(|| named("*").filter(|_| coding != "identity")).unwrap_or(coding == "identity")
}

proptest! {
    #[test]
    fn a_coded_copy_fits_only_those_who_accept_its_coding(
        (made_for, asks) in (field(), field()),
        coding in select(vec!["identity", "gzip", "br", "zstd", "deflate"]),
        is_normalised in any::<bool>(),
    ) {
        let request = |field: &Option<String>| field.as_deref().map_or_else(HeaderMap::new, accepting);
        let mut sent = request(&made_for);
        if is_normalised && let Some(normal) = normal_encoding(&sent) {
            sent.insert("accept-encoding", HeaderValue::from_static(normal));
        }
        let sent_field = sent.get("accept-encoding").map(|value| value.to_str().unwrap().to_owned());
        // A backend that answers in a coding which it was not asked for is beyond repair.
        let is_sound = accepts(sent_field.as_deref(), coding) && accepts(made_for.as_deref(), coding);
        proptest::prop_assume!(is_sound);
        let mut response = headers(&[("vary", "accept-encoding")]);
        if coding != "identity" {
            response.insert("content-encoding", HeaderValue::from_static(coding));
        }

        let selection = Selection::of(&sent, &response).unwrap();

        let fits = selection.matches(&request(&asks));
        prop_assert!(!fits || accepts(asks.as_deref(), coding), "{sent_field:?} {asks:?}");
        prop_assert!(coding == "zstd" || coding == "deflate" || selection.matches(&request(&made_for)));
    }

    #[test]
    fn what_is_sent_for_a_class_is_of_that_class(field in field()) {
        let request = field.as_deref().map_or_else(HeaderMap::new, accepting);
        if let Some(class) = Accepted::of(&request).class() {
            prop_assert!(Accepted::of(&accepting(class)).class() == Some(class));
            prop_assert!(Accepted::CLASSES.contains(&class));
        }
        for coding in Accepted::of(&request).wanted() {
            prop_assert!(accepts(field.as_deref(), coding.as_str()));
        }
    }
}
