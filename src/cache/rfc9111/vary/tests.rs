//! Which requests an answer fits.

use super::{Selection, normal_encoding};
use crate::{
    cache::rfc9111::fixture::{Lines, headers},
    telemetry::record::Reason,
};

/// Whether an answer made for one request fits another.
fn fits(response: Lines<'_>, made_for: Lines<'_>, request: Lines<'_>) -> bool {
    Selection::of(&headers(made_for), &headers(response)).unwrap().matches(&headers(request))
}

#[test]
fn an_answer_without_vary_fits_every_request() {
    assert!(fits(&[], &[("x-a", "1")], &[]));
    assert!(fits(&[("vary", " , ,")], &[("x-a", "1")], &[]));
    assert!(Selection::of(&headers(&[]), &headers(&[])).unwrap().is_any());
}

#[test]
fn a_star_anywhere_fits_nothing() {
    for lines in [
        &[("vary", "*")][..],
        &[("vary", "*, *")],
        &[("vary", ", *")],
        &[("vary", "*, x-a")],
        &[("vary", "x-a , *")],
        &[("vary", ""), ("vary", "*")],
        &[("vary", "x-a"), ("vary", "*")],
        &[("vary", "x a")],
        &[("vary", "\"x-a\"")],
    ] {
        assert_eq!(Selection::of(&headers(&[]), &headers(lines)), Err(Reason::VaryStar), "{lines:?}");
    }
    let many = (0..40).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(",");
    assert_eq!(Selection::of(&headers(&[]), &headers(&[("vary", &many)])), Err(Reason::VaryStar));
}

#[test]
fn every_named_field_must_be_equal_or_absent_in_both() {
    let vary = &[("vary", "X-A"), ("vary", "x-b, x-a")];
    let a = ("x-a", "1");
    let b = ("x-b", "2");

    assert!(fits(vary, &[a, b], &[b, a, ("x-c", "3")]));
    assert!(fits(vary, &[a], &[a]));
    assert!(fits(vary, &[], &[]));
    assert!(!fits(vary, &[a, b], &[a]));
    assert!(!fits(vary, &[a], &[a, b]));
    assert!(!fits(vary, &[a], &[]));
    assert!(!fits(vary, &[], &[a]));
    assert!(!fits(vary, &[a, b], &[a, ("x-b", "3")]));
    assert!(!fits(vary, &[("x-a", "")], &[]));
}

#[test]
fn lines_and_spaces_do_not_matter_but_order_and_case_do() {
    let same = |one: &[&str], other: &[&str]| {
        let [one, other] =
            [one, other].map(|values| values.iter().map(|value| ("x-a", *value)).collect::<Vec<_>>());
        fits(&[("vary", "x-a")], &one, &other)
    };

    assert!(same(&["1, 2"], &["1", "2"]));
    assert!(same(&["1,2"], &[" 1 ,\t2 "]));
    assert!(same(&["1", "2"], &["1", " 2"]));
    assert!(same(&["\"a, b\" , c"], &["\"a, b\",c"]));
    assert!(!same(&["\"a, b\""], &["\"a,b\""]));
    assert!(!same(&["1,2"], &["2,1"]));
    assert!(!same(&["a"], &["A"]));
    assert!(!same(&["a b"], &["ab"]));
    assert!(!same(&["1", "2"], &["1"]));
}

#[test]
fn language_preferences_are_compared_by_order() {
    let vary = &[("vary", "accept-language")];
    let want = |value| [("accept-language", value)];

    assert!(fits(vary, &want("en, de"), &want("de, en")));
    assert!(fits(vary, &want("en, de"), &want("eN ,   De")));
    assert!(fits(vary, &want("de;q=0.9, en;q=0.5"), &want("en;q=0.2,de")));
    assert!(!fits(vary, &want("en, de"), &want("en, de;q=0.5")));
    assert!(!fits(vary, &want("en"), &[]));
    assert!(!fits(vary, &[], &want("en")));
    assert!(fits(vary, &want("en;bad"), &want("en;bad")));
    assert!(!fits(vary, &want("en;bad"), &want("EN;bad")));
}

#[test]
fn an_answer_in_the_language_that_a_request_wants_most_fits_it() {
    let german = &[("vary", "accept-language"), ("content-language", "de")];
    let want = |value| [("accept-language", value)];

    assert!(fits(german, &want("en, de"), &want("fr;q=0.5, de;q=1.0")));
    assert!(!fits(german, &want("en, de"), &want("fr, de;q=0.5")));
    assert!(!fits(german, &want("en, de"), &want("fr, de")));
    let several = &[("vary", "accept-language, x-a"), ("content-language", "de")];
    assert!(!fits(several, &want("en, de"), &[("accept-language", "de"), ("x-a", "1")]));
}

#[test]
fn codings_are_compared_by_the_best_of_those_we_know() {
    let gzipped = &[("vary", "accept-encoding"), ("content-encoding", "gzip")];
    let plain = &[("vary", "accept-encoding")];
    let accept = |value| [("accept-encoding", value)];

    assert!(fits(gzipped, &accept("gzip"), &accept("deflate, gzip;q=0.5")));
    assert!(!fits(gzipped, &accept("gzip"), &accept("gzip;q=0")));
    assert!(!fits(gzipped, &accept("gzip"), &accept("identity")));
    assert!(!fits(gzipped, &accept("gzip"), &[]));
    assert!(!fits(gzipped, &accept("gzip"), &accept("br, gzip")));
    assert!(fits(plain, &accept("identity"), &[]));
    assert!(fits(plain, &[], &accept("deflate")));
    assert!(fits(plain, &accept("br, gzip"), &accept("gzip, deflate, br, zstd")));
    assert!(!fits(plain, &accept("br"), &accept("br, gzip")), "gzip might have been had");
    assert!(fits(gzipped, &accept("br, gzip"), &accept("gzip;q=0.5, br")));
    assert!(!fits(gzipped, &accept("br, gzip"), &accept("br")));
    assert!(!fits(plain, &[], &accept("identity;q=0")));
}

#[test]
fn a_coding_that_not_all_of_a_class_accept_is_compared_as_it_is_written() {
    let accept = |value| [("accept-encoding", value)];
    for coding in ["zstd", "gzip", "gzip, br"] {
        let coded = &[("vary", "accept-encoding"), ("content-encoding", coding)];

        assert!(fits(coded, &accept("gzip, br, zstd"), &accept("gzip,br,zstd")), "{coding}");
        assert!(!fits(coded, &accept("gzip, br, zstd"), &accept("br")), "{coding}");
    }
    let twice = &[("vary", "accept-encoding"), ("content-encoding", "gzip"), ("content-encoding", "zstd")];
    assert!(!fits(twice, &accept("gzip, zstd"), &accept("gzip")));
    let gzipped_unasked = &[("vary", "accept-encoding"), ("content-encoding", "gzip")];
    assert!(fits(gzipped_unasked, &[], &[]));
    assert!(!fits(gzipped_unasked, &[], &accept("identity")));
}

#[test]
fn the_backend_is_asked_for_the_coding_that_copies_are_told_apart_by() {
    for (value, class) in [
        ("gzip, deflate, br", Some("br, gzip")),
        ("br", Some("br")),
        ("gzip;q=0.5, identity", Some("identity")),
        ("GZIP", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("br;q=0, gzip", Some("gzip")),
        ("br;q=0.0, *", Some("gzip")),
        ("*", Some("br, gzip")),
        ("*;q=0", Some("identity")),
        ("deflate", Some("identity")),
        ("", Some("identity")),
        ("identity;q=0, gzip", None),
    ] {
        assert_eq!(normal_encoding(&headers(&[("accept-encoding", value)])), class, "{value}");
    }
    assert_eq!(normal_encoding(&headers(&[])), None);
}

#[test]
fn the_bytes_that_name_a_variant_differ_where_the_selection_does() {
    let name =
        |request| Selection::of(&headers(request), &headers(&[("vary", "x-a, x-b")])).unwrap().canonical();

    assert_eq!(name(&[("x-a", "1,2")]), name(&[("x-a", "1"), ("x-a", "2")]));
    assert_ne!(name(&[("x-a", "1")]), name(&[("x-b", "1")]));
    assert_ne!(name(&[("x-a", "")]), name(&[]));
}
