//! How `Cache-Control` is read.

use http::{HeaderMap, HeaderName};

use super::{RequestDirectives, ResponseDirectives};
use crate::cache::rfc9111::fixture::{get, headers};

fn response(lines: &[&str]) -> ResponseDirectives {
    let mut head = HeaderMap::new();
    for line in lines {
        head.append("cache-control", line.parse().unwrap());
    }
    ResponseDirectives::of(&head)
}

fn request(line: &str) -> RequestDirectives {
    RequestDirectives::of(&get(&headers(&[("cache-control", line)])))
}

#[test]
fn seconds_are_digits_alone_bare_or_quoted() {
    for (line, seconds) in [
        ("max-age=3600", 3600),
        ("MAX-Age=3600", 3600),
        ("max-age=0003600", 3600),
        ("max-age=\"3600\"", 3600),
        ("max-age=\"36\\00\"", 3600),
        ("max-age=3600,", 3600),
        ("max-age=2147483647", 2_147_483_647),
        ("max-age=2147483648", 1 << 31),
        ("max-age=99999999999999999999999", 1 << 31),
        ("max-age='3600'", 0),
        ("max-age=3600.5", 0),
        ("max-age=-1", 0),
        ("max-age=+1", 0),
        ("max-age=a1", 0),
        ("max-age=1a", 0),
        ("max-age=1 2", 0),
        ("max-age=\"3600\"x", 0),
        ("max-age=\"\"", 0),
        ("max-age=", 0),
        ("max-age", 0),
    ] {
        assert_eq!(response(&[line]).max_age, Some(seconds), "{line}");
    }
}

#[test]
fn a_space_beside_the_equals_sign_makes_a_member_unknown() {
    for line in ["max-age =3600", "max-age= 3600", "max-age\t=3600", "max-age= \"3600\""] {
        assert_eq!(response(&[line]), ResponseDirectives::default(), "{line}");
    }
}

#[test]
fn two_different_numbers_are_none() {
    for lines in
        [&["max-age=5, max-age=6"][..], &["max-age=6", "max-age=5"], &["max-age=5, max-age=6, max-age=5"]]
    {
        assert_eq!(response(lines).max_age, Some(0), "{lines:?}");
    }
    assert_eq!(response(&["max-age=5, max-age=5"]).max_age, Some(5));
    assert_eq!(response(&["max-age=5", "s-maxage=6"]).max_age, Some(5));
}

#[test]
fn what_is_quoted_is_text() {
    for line in [
        "x=\"max-age=3600\", max-age=1",
        "max-age=1, x=\"max-age=3600\"",
        "max-age=1, x=\"no-store, private\"",
        "x=\"\\\", no-store, \\\"\", max-age=1",
        "x=\"a\\\\\" , max-age=1",
    ] {
        let read = response(&[line]);

        assert_eq!(read.max_age, Some(1), "{line}");
        assert!(!read.no_store && !read.private, "{line}");
    }
}

#[test]
fn a_quote_that_cannot_be_followed_forbids_storage() {
    for line in [
        "x=\"max-age=3600",
        "max-age=60, x=\"",
        "max-age=60, x=\"\\\"",
        "max\"-age=60",
        "x=a\"b\"",
        "x=\"a\"b\"c",
    ] {
        assert!(response(&[line]).no_store, "{line}");
    }
    assert!(response(&["x=\"", "private, y=\""]).no_store, "a quote never hides the next line");
    assert!(response(&["x=\"", "private, y=\""]).private);
}

#[test]
fn restrictions_hold_with_any_argument_and_permissions_only_without() {
    assert!(response(&["no-store=1"]).no_store);
    assert!(response(&["no-store=\"x\""]).no_store);
    assert!(response(&["must-revalidate=x"]).must_revalidate);
    assert!(response(&["proxy-revalidate=x"]).proxy_revalidate);
    assert!(!response(&["public=x"]).public);
    assert!(!response(&["must-understand=x"]).must_understand);
    assert!(response(&["Public, Must-Understand"]).public);
}

#[test]
fn field_names_narrow_no_cache_and_private_to_those_fields() {
    let names: Vec<HeaderName> = ["a", "b"].map(|name| name.parse().unwrap()).to_vec();
    for line in
        ["no-cache=\"a, b\"", "private=\"A,B\"", "no-cache=a, private=b", "no-cache=\"a\", no-cache=\"b\""]
    {
        let read = response(&[line]);

        assert!(!read.no_cache && !read.private, "{line}");
        assert_eq!(read.withheld, names, "{line}");
    }
    for line in [
        "no-cache",
        "no-cache=\"\"",
        "no-cache=\"a b\"",
        "no-cache=",
        "no-cache=\"a\"x",
        "no-cache=\"a\", no-cache",
    ] {
        assert!(response(&[line]).no_cache, "{line}");
    }
    assert!(response(&["private=\" , \""]).private);
}

#[test]
fn several_lines_count_as_one_list() {
    let read = response(&["max-age=60", "", "public,, must-revalidate", "\tno-transform , stale-if-error=9"]);

    assert_eq!((read.max_age, read.stale_if_error), (Some(60), Some(9)));
    assert!(read.public && read.must_revalidate);
}

#[test]
fn a_request_is_read_so_that_it_gets_nothing_older_than_it_asked_for() {
    assert_eq!(request("max-age=5, max-age=3").max_age, Some(3));
    assert_eq!(request("max-age=x").max_age, Some(0));
    assert_eq!(request("min-fresh=5, min-fresh=9").min_fresh, Some(9));
    assert_eq!(request("min-fresh=x").min_fresh, Some(1 << 31));
    assert_eq!(request("max-stale").max_stale, Some(1 << 31));
    assert_eq!(request("max-stale, max-stale=4").max_stale, Some(4));
    assert_eq!(request("max-stale=x").max_stale, Some(0));
    assert!(request("No-Cache").no_cache);
    assert!(request("only-if-cached, no-store").only_if_cached);
    assert!(request("x=\"no-cache\"").max_age.is_none() && !request("x=\"no-cache\"").no_cache);
}

#[test]
fn pragma_counts_only_without_cache_control() {
    for (lines, is_no_cache) in [
        (&[("pragma", "no-cache")][..], true),
        (&[("pragma", "x, No-Cache")], true),
        (&[("pragma", "no-cache"), ("cache-control", "x")], false),
        (&[("pragma", "x")], false),
    ] {
        assert_eq!(RequestDirectives::of(&get(&headers(lines))).no_cache, is_no_cache, "{lines:?}");
    }
}
