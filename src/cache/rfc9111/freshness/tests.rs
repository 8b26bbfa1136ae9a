//! Lifetimes and ages.

use http::StatusCode;

use super::Said;
use crate::cache::rfc9111::{
    ResponseHead, Times,
    fixture::{AT_NOW, Lines, NOW, headers, rfc},
};

fn said(lines: Lines<'_>, times: Times) -> Said {
    Said::of(&ResponseHead { status: StatusCode::OK, headers: &headers(lines) }, times, &rfc())
}

/// Seconds of life that may be guessed.
fn guess(lines: Lines<'_>, status: u16) -> Option<i64> {
    let status = StatusCode::from_u16(status).unwrap();
    let said = Said::of(&ResponseHead { status, headers: &headers(lines) }, AT_NOW, &rfc());
    said.heuristic_ms().map(|guess_ms| guess_ms / 1000)
}

fn lifetime_s(lines: Lines<'_>) -> Option<i64> {
    said(lines, AT_NOW).lifetime_ms.map(|lifetime_ms| lifetime_ms / 1000)
}

fn age_s(lines: Lines<'_>) -> i64 {
    said(lines, AT_NOW).age_ms / 1000
}

#[test]
fn the_most_specific_statement_gives_the_lifetime() {
    let cdn = ("cdn-cache-control", "max-age=10");
    for (lines, lifetime) in [
        (&[][..], None),
        (&[("expires", "@100")], Some(100)),
        (&[("expires", "@100"), ("date", "@40")], Some(60)),
        (&[("expires", "@100"), ("date", "@400")], Some(0)),
        (&[("expires", "@100"), ("date", "gibberish")], Some(100)),
        (&[("expires", "@100"), ("cache-control", "max-age=5")], Some(5)),
        (&[("expires", "@100"), ("cache-control", "max-age=0")], Some(0)),
        (&[("expires", "@100"), ("cache-control", "public")], Some(100)),
        (&[("cache-control", "max-age=5, s-maxage=6")], Some(6)),
        (&[("cache-control", "s-maxage=0"), ("cache-control", "max-age=5")], Some(0)),
        (&[cdn, ("cache-control", "s-maxage=5"), ("expires", "@100")], Some(10)),
        (&[("cdn-cache-control", "max-age=1, s-maxage=2"), ("cache-control", "max-age=5")], Some(2)),
        (&[("cdn-cache-control", "public"), ("cache-control", "max-age=5"), ("expires", "@100")], None),
        (&[("cdn-cache-control", "max-age=\"1\""), ("cache-control", "max-age=5")], Some(5)),
    ] {
        assert_eq!(lifetime_s(lines), lifetime, "{lines:?}");
    }
}

#[test]
fn an_expires_that_cannot_be_read_has_passed() {
    for lines in [
        &[("expires", "0")][..],
        &[("expires", "-1")],
        &[("expires", "@100"), ("expires", "@100")],
        &[("expires", "")],
    ] {
        assert_eq!(lifetime_s(lines), Some(0), "{lines:?}");
    }
}

#[test]
fn age_is_read_from_the_first_member_of_the_first_line() {
    for (lines, age) in [
        (&[("age", "30")][..], 30),
        (&[("age", "030")], 30),
        (&[("age", "30, 0")], 30),
        (&[("age", "0, 30")], 0),
        (&[("age", "30"), ("age", "0")], 30),
        (&[("age", "0"), ("age", "30")], 0),
        (&[("age", "30;x=1")], 30),
        (&[("age", "abc")], 0),
        (&[("age", "-30")], 0),
        (&[("age", "30.0")], 0),
        (&[("age", "")], 0),
        (&[("age", "99999999999")], 1 << 31),
    ] {
        assert_eq!(age_s(lines), age, "{lines:?}");
    }
}

#[test]
fn the_greater_of_clock_and_statement_is_the_age() {
    assert_eq!(age_s(&[("date", "@-40"), ("age", "30")]), 40);
    assert_eq!(age_s(&[("date", "@-20"), ("age", "30")]), 30);
    assert_eq!(age_s(&[("date", "@500")]), 0);
    assert_eq!(age_s(&[("date", "gibberish")]), 0);
    assert_eq!(age_s(&[("date", "@-40"), ("date", "@0")]), 0);
}

#[test]
fn the_time_that_the_answer_took_is_part_of_its_age() {
    let slow = Times { sent_ms: 1_000, received_ms: 6_500, received_unix: NOW };

    assert_eq!(said(&[("age", "30")], slow).age_ms, 35_500);
    assert_eq!(said(&[("date", "@0")], slow).age_ms, 5_500);
    assert_eq!(said(&[("date", "@-60")], slow).age_ms, 60_000);
}

#[test]
fn a_guess_is_a_tenth_of_the_time_without_change_and_at_most_a_day() {
    let day_ago = &[("last-modified", "@-86400"), ("date", "@0")];

    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(guess(day_ago, status), Some(8640), "{status}");
    }
    for status in [201, 202, 302, 303, 307, 403, 500, 502, 503, 504, 599] {
        assert_eq!(guess(day_ago, status), None, "{status}");
    }
    assert_eq!(guess(&[("last-modified", "@-86400"), ("cache-control", "public")], 599), Some(8640));
    assert_eq!(guess(&[("last-modified", "@-86400000")], 200), Some(86_400));
    assert_eq!(guess(&[("last-modified", "@60")], 200), None);
    assert_eq!(guess(&[("last-modified", "gibberish")], 200), None);
    assert_eq!(guess(&[], 200), None);
}
