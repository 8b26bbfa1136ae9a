//! Conditions and ranges on stored answers.

use http::{Method, StatusCode};

use super::{Condition, condition};
use crate::cache::rfc9111::{
    RequestHead,
    fixture::{Copy, Lines, NOW, default, get, headers},
};

const TAGGED: Lines<'_> =
    &[("cache-control", "max-age=60"), ("date", "@0"), ("etag", "\"a\""), ("last-modified", "@-100")];
const WEAK: Lines<'_> = &[("cache-control", "max-age=60"), ("etag", "W/\"a\"")];
const BARE: Lines<'_> = &[("cache-control", "max-age=60"), ("date", "@0")];

/// What a GET with these fields gets of a stored answer of ten bytes.
fn answer(stored: Lines<'_>, request: Lines<'_>) -> Condition {
    condition(&get(&headers(request)), &Copy::of(stored, &default()).stored(), 10, NOW)
}

fn bytes(start: u64, end: u64) -> Condition {
    Condition::Range { start, end }
}

#[test]
fn a_tag_that_the_client_has_is_not_sent_again() {
    for (stored, tag, has) in [
        (TAGGED, "\"a\"", true),
        (TAGGED, "W/\"a\"", true),
        (TAGGED, "\"x\", \"a\", \"y\"", true),
        (TAGGED, "*", true),
        (TAGGED, "\"b\"", false),
        (TAGGED, "a", false),
        (WEAK, "\"a\"", true),
        (WEAK, "W/\"a\"", true),
        (WEAK, "w/\"a\"", false),
        (BARE, "*", true),
        (BARE, "\"a\"", false),
        (&[("cache-control", "max-age=60"), ("etag", "a")], "a", false),
        (&[("cache-control", "max-age=60"), ("etag", "a")], "\"a\"", false),
        (&[("cache-control", "max-age=60"), ("etag", "\"\u{fc}\"")], "\"\u{fc}\"", true),
    ] {
        let expected = if has { Condition::NotModified } else { Condition::Full };
        assert_eq!(answer(stored, &[("if-none-match", tag)]), expected, "{stored:?} {tag}");
    }
    assert_eq!(
        answer(TAGGED, &[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")]),
        Condition::NotModified
    );
}

#[test]
fn a_date_since_which_nothing_changed_is_not_sent_again() {
    for (stored, date, is_unmodified) in [
        (TAGGED, "@-100", true),
        (TAGGED, "@-50", true),
        (TAGGED, "@-101", false),
        (TAGGED, "gibberish", false),
        (BARE, "@0", true),
        (BARE, "@-1", false),
    ] {
        let expected = if is_unmodified { Condition::NotModified } else { Condition::Full };
        assert_eq!(answer(stored, &[("if-modified-since", date)]), expected, "{stored:?} {date}");
    }
    assert_eq!(
        answer(TAGGED, &[("if-modified-since", "Friday, 15-Jan-27 08:00:00 GMT")]),
        Condition::NotModified
    );
    assert_eq!(answer(TAGGED, &[("if-modified-since", "@0"), ("if-modified-since", "@0")]), Condition::Full);
}

#[test]
fn a_tag_speaks_before_a_date() {
    assert_eq!(
        answer(TAGGED, &[("if-none-match", "\"a\""), ("if-modified-since", "@-999")]),
        Condition::NotModified
    );
    assert_eq!(answer(TAGGED, &[("if-none-match", "\"b\""), ("if-modified-since", "@0")]), Condition::Full);
    assert_eq!(answer(TAGGED, &[("if-none-match", "\"a\""), ("range", "bytes=0-1")]), Condition::NotModified);
    assert_eq!(answer(TAGGED, &[("if-none-match", "\"b\""), ("range", "bytes=0-1")]), bytes(0, 1));
}

#[test]
fn one_range_of_bytes_is_cut_from_the_whole() {
    for (range, expected) in [
        ("bytes=0-1", bytes(0, 1)),
        ("Bytes=0-1", bytes(0, 1)),
        ("bytes=1-", bytes(1, 9)),
        ("bytes=9-9", bytes(9, 9)),
        ("bytes=5-99999999999999999999999", bytes(5, 9)),
        ("bytes=-1", bytes(9, 9)),
        ("bytes=-99", bytes(0, 9)),
        ("bytes=10-", Condition::Unsatisfiable),
        ("bytes=10-11", Condition::Unsatisfiable),
        ("bytes=-0", Condition::Unsatisfiable),
        ("bytes=99999999999999999999999-", Condition::Unsatisfiable),
        ("bytes=2-1", Condition::Full),
        ("bytes=0-1,3-4", Condition::Full),
        ("bytes=0-1,", Condition::Full),
        ("bytes=-", Condition::Full),
        ("bytes=", Condition::Full),
        ("bytes", Condition::Full),
        ("bytes=a-b", Condition::Full),
        ("bytes=0x1-2", Condition::Full),
        ("bytes=+0-1", Condition::Full),
        ("bytes=0-1-2", Condition::Full),
        ("items=0-1", Condition::Full),
    ] {
        assert_eq!(answer(TAGGED, &[("range", range)]), expected, "{range}");
    }
    assert_eq!(answer(TAGGED, &[("range", "bytes=0-1"), ("range", "bytes=3-4")]), Condition::Full);
    for (range, expected) in [
        ("bytes=0-", Condition::Unsatisfiable),
        ("bytes=-0", Condition::Unsatisfiable),
        ("bytes=-5", Condition::Full),
    ] {
        let request = headers(&[("range", range)]);
        let copy = Copy::of(TAGGED, &default());
        assert_eq!(condition(&get(&request), &copy.stored(), 0, NOW), expected, "{range} of nothing");
    }
}

#[test]
fn a_range_of_what_the_client_does_not_have_is_the_whole() {
    let unsure: Lines<'_> = &[("cache-control", "max-age=60"), ("date", "@-100"), ("last-modified", "@-100")];
    for (stored, validator, is_meant) in [
        (TAGGED, "\"a\"", true),
        (TAGGED, "W/\"a\"", false),
        (TAGGED, "\"b\"", false),
        (TAGGED, "@-100", true),
        (TAGGED, "@-99", false),
        (TAGGED, "@-101", false),
        (TAGGED, "gibberish", false),
        (WEAK, "W/\"a\"", false),
        (BARE, "@0", false),
        (unsure, "@-100", false),
    ] {
        let expected = if is_meant { bytes(0, 1) } else { Condition::Full };
        assert_eq!(
            answer(stored, &[("range", "bytes=0-1"), ("if-range", validator)]),
            expected,
            "{stored:?} {validator}"
        );
    }
}

#[test]
fn only_a_200_has_conditions_and_only_a_get_has_ranges() {
    let copy = Copy { status: StatusCode::NOT_FOUND, ..Copy::of(TAGGED, &default()) };
    let asked = headers(&[("if-none-match", "\"a\""), ("range", "bytes=0-1")]);
    let range = headers(&[("range", "bytes=0-1")]);
    let head = RequestHead::new(&Method::HEAD, b"example.org", b"/", &range);

    assert_eq!(condition(&get(&asked), &copy.stored(), 10, NOW), Condition::Full);
    assert_eq!(condition(&head, &Copy::of(TAGGED, &default()).stored(), 10, NOW), Condition::Full);
}
