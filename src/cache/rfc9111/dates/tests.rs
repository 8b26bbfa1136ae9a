//! Which texts are dates.

use super::{format_date, parse_date};

/// 2026-11-25 00:00:00.
const NOW: i64 = 1_795_564_800;

#[test]
fn the_three_forms_mean_the_same_moment() {
    for text in
        ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
    {
        assert_eq!(parse_date(text.as_bytes(), NOW), Some(784_111_777), "{text}");
    }
}

#[test]
fn case_and_a_wrong_weekday_are_forgiven() {
    for text in [
        "SUN, 06 NOV 1994 08:49:37 gmt",
        "mon, 06 nov 1994 08:49:37 Gmt",
        "SATURDAY, 06-noV-94 08:49:37 gMT",
        "tue nov  6 08:49:37 1994",
    ] {
        assert_eq!(parse_date(text.as_bytes(), NOW), Some(784_111_777), "{text}");
    }
}

#[test]
fn what_is_only_nearly_a_date_is_none() {
    for text in [
        "",
        "0",
        "-1",
        "now",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 06 Non 1994 08:49:37 GMT",
        "Sxn, 06 Nov 1994 08:49:37 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov 06 08:49:37 94",
        "Sun Nov  6 08:49:37 1994 GMT",
    ] {
        assert_eq!(parse_date(text.as_bytes(), NOW), None, "{text:?}");
    }
}

#[test]
fn a_two_digit_year_is_at_most_fifty_years_ahead() {
    for (text, fixed) in [
        ("Thursday, 18-Aug-50 02:01:18 GMT", "Thu, 18 Aug 2050 02:01:18 GMT"),
        ("Tuesday, 18-Aug-76 02:01:18 GMT", "Tue, 18 Aug 2076 02:01:18 GMT"),
        ("Thursday, 18-Aug-77 02:01:18 GMT", "Thu, 18 Aug 1977 02:01:18 GMT"),
        ("Wednesday, 18-Aug-99 02:01:18 GMT", "Wed, 18 Aug 1999 02:01:18 GMT"),
    ] {
        assert_eq!(parse_date(text.as_bytes(), NOW), parse_date(fixed.as_bytes(), NOW), "{text}");
    }
}

#[test]
fn a_leap_second_is_the_second_before_it() {
    let leap = parse_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW);

    assert_eq!(leap, parse_date(b"Sat, 31 Dec 2016 23:59:59 GMT", NOW));
}

#[test]
fn what_is_written_is_read_back() {
    for unix in [0, 1, 951_782_400, 951_868_799, 784_111_777, NOW, 4_107_542_400, 253_402_300_799] {
        assert_eq!(parse_date(format_date(unix).as_bytes(), NOW), Some(unix), "{}", format_date(unix));
    }
    assert_eq!(format_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(format_date(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(format_date(-1), "Thu, 01 Jan 1970 00:00:00 GMT");
}
