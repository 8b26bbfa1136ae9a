//! Validation.

use super::{Merge, make_conditional};
use crate::{
    cache::rfc9111::{
        Meta, Source,
        fixture::{Copy, Lines, NOW, NOW_MS, default, headers, rfc, ruled},
        format_date,
    },
    telemetry::record::Reason,
};

const TAGGED: Lines<'_> =
    &[("cache-control", "max-age=2"), ("date", "@0"), ("etag", "\"a\""), ("last-modified", "@-100")];

fn updated(merge: Merge) -> (http::HeaderMap, Meta) {
    match merge {
        Merge::Updated { head, storable } => (head, storable.meta),
        other => panic!("not updated: {other:?}"),
    }
}

#[test]
fn a_validating_request_asks_with_the_copys_validators_and_not_the_clients() {
    let mut request = headers(&[
        ("if-none-match", "\"x\""),
        ("if-none-match", "\"y\""),
        ("if-modified-since", "@-5"),
        ("if-match", "\"x\""),
        ("if-unmodified-since", "@-5"),
        ("if-range", "\"x\""),
        ("range", "bytes=0-1"),
        ("accept-language", "de"),
    ]);

    make_conditional(&mut request, &Copy::of(TAGGED, &default()).stored());

    let expected = [("if-none-match", "\"a\""), ("if-modified-since", "@-100"), ("accept-language", "de")];
    assert_eq!(request, headers(&expected));
}

#[test]
fn only_validators_that_the_backend_knows_are_sent() {
    let asked = |copy: &Copy| {
        let mut request = headers(&[]);
        make_conditional(&mut request, &copy.stored());
        request
    };
    let fresh = ("cache-control", "max-age=2");

    assert_eq!(
        asked(&Copy::of(&[fresh, ("etag", "W/\"a\"")], &default())),
        headers(&[("if-none-match", "W/\"a\"")])
    );
    assert_eq!(asked(&Copy::of(&[fresh, ("etag", "a")], &default())), headers(&[]));
    assert_eq!(asked(&Copy::of(&[fresh, ("last-modified", "gibberish")], &default())), headers(&[]));
    let mut ours = Copy::of(&[fresh, ("etag", "\"a\"")], &default());
    ours.meta.generated_etag = true;
    assert_eq!(asked(&ours), headers(&[]));
}

#[test]
fn a_304_lets_the_copy_live_anew() {
    let copy = Copy::of(&[TAGGED, &[("x-old", "1"), ("x-both", "1")]].concat(), &default());

    let (head, meta) = updated(copy.merge(
        &[],
        &[("etag", "\"a\""), ("date", "@10"), ("x-both", "2"), ("age", "1")],
        &default(),
    ));

    assert_eq!(head.get("x-old").unwrap(), "1");
    assert_eq!(head.get("x-both").unwrap(), "2");
    assert_eq!(head.get("date").unwrap(), &format_date(NOW + 10));
    assert!(!head.contains_key("age"));
    assert_eq!(meta.ttl_s(NOW_MS + 10_000), 1);
    assert_eq!(meta.age_s(NOW_MS + 10_000), 1);
}

#[test]
fn a_304_without_a_date_is_as_young_as_its_receipt() {
    let (head, meta) = updated(Copy::of(TAGGED, &default()).merge(&[], &[], &default()));

    assert_eq!(head.get("date").unwrap(), &format_date(NOW + 10));
    assert_eq!(meta.ttl_s(NOW_MS + 10_000), 2);
}

#[test]
fn a_304_may_change_how_long_the_copy_lives() {
    let copy = Copy::of(TAGGED, &default());

    let (_, meta) =
        updated(copy.merge(&[], &[("cache-control", "max-age=3600"), ("date", "@10")], &default()));

    assert_eq!(meta.ttl_s(NOW_MS + 10_000), 3600);
}

#[test]
fn a_304_about_something_else_is_not_believed() {
    let copy = Copy::of(TAGGED, &default());
    let dated = Copy::of(&[("cache-control", "max-age=2"), ("last-modified", "@-100")], &default());

    for lines in [
        &[("etag", "\"b\"")][..],
        &[("last-modified", "@-50")],
        &[("etag", "\"b\""), ("last-modified", "@-100")],
    ] {
        assert_eq!(copy.merge(&[], lines, &default()), Merge::Refetch, "{lines:?}");
    }
    assert_eq!(dated.merge(&[], &[("etag", "\"a\"")], &default()), Merge::Refetch);
    for lines in [
        &[("etag", "W/\"a\"")][..],
        &[("etag", "\"a\""), ("last-modified", "@-50")],
        &[("last-modified", "@-100")],
    ] {
        assert!(matches!(copy.merge(&[], lines, &default()), Merge::Updated { .. }), "{lines:?}");
    }
}

#[test]
fn a_copy_that_may_no_longer_be_stored_answers_once_and_goes() {
    for (line, reason) in [
        (("cache-control", "no-store"), Reason::NoStore),
        (("cache-control", "private, max-age=60"), Reason::Private),
        (("vary", "*"), Reason::VaryStar),
    ] {
        match Copy::of(TAGGED, &default()).merge(&[], &[line, ("age", "3")], &default()) {
            Merge::Drop { head, reason: found } => {
                assert_eq!(found, reason);
                assert_eq!(head.get("etag").unwrap(), "\"a\"");
                assert!(!head.contains_key("age"));
            }
            other => panic!("{line:?} does not end the copy: {other:?}"),
        }
    }
}

#[test]
fn cookies_of_a_304_are_merged_in_the_plain_standard_only() {
    let with_cookie = &[("etag", "\"a\""), ("set-cookie", "a=1")];

    let (safe, _) = updated(Copy::of(TAGGED, &default()).merge(&[], with_cookie, &default()));
    let (plain, _) = updated(Copy::of(TAGGED, &rfc()).merge(&[], with_cookie, &rfc()));

    assert!(!safe.contains_key("set-cookie"));
    assert!(plain.contains_key("set-cookie"));
}

#[test]
fn a_changed_vary_takes_the_selecting_values_of_the_validating_request() {
    let merged = Copy::of(TAGGED, &default()).merge(
        &[("x-a", "1"), ("range", "bytes=0-1")],
        &[("vary", "x-a")],
        &default(),
    );

    let Merge::Updated { storable, .. } = merged else { panic!("not updated") };
    assert!(storable.selection.matches(&headers(&[("x-a", "1")])));
    assert!(!storable.selection.matches(&headers(&[("x-a", "2")])));
}

#[test]
fn a_tag_of_our_own_stays_ours() {
    let mut copy = Copy::of(&[("last-modified", "@-100")], &ruled());
    copy.head.insert("etag", "\"ours\"".parse().unwrap());
    copy.meta.generated_etag = true;

    let (head, meta) = updated(copy.merge(&[], &[], &ruled()));

    assert_eq!(head.get("etag").unwrap(), "\"ours\"");
    assert!(meta.generated_etag && meta.validator);
    assert_eq!(meta.source, Source::Rule);
    assert_eq!(copy.merge(&[], &[("etag", "\"theirs\"")], &ruled()), Merge::Refetch);
}
