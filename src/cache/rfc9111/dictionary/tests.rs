//! Which targeted fields are valid, and what they say.

use http::{HeaderMap, HeaderName};

use super::{parse, targeted_directives};
use crate::cache::rfc9111::{directives::ResponseDirectives, fixture::headers};

fn targeted(lines: &[(&str, &str)]) -> Option<ResponseDirectives> {
    let names = ["a-cache-control", "b-cache-control"].map(HeaderName::from_static);
    let head: HeaderMap = headers(lines);
    targeted_directives(&head, &names)
}

#[test]
fn valid_members_are_read_and_unknown_ones_skipped() {
    let read = parse(b"  max-age=60;a=b;c, s-maxage=7 \t,\tpublic, foo, bar=(1 \"a\";x tok);y, no-store=?0 ")
        .unwrap();

    assert_eq!((read.max_age, read.s_maxage), (Some(60), Some(7)));
    assert!(read.public && !read.no_store);
}

#[test]
fn every_type_of_the_standard_is_understood_where_it_does_not_matter() {
    for value in [
        "1",
        "-1",
        "999999999999999",
        "1.5",
        "-123456789012.125",
        "\"a \\\" \\\\\"",
        "tok/en:x",
        "*",
        ":aGk=:",
        "::",
        "?1",
        "@1659578233",
        "@-1",
        "%\"f%c3%bc\"",
        "%\"\"",
        "()",
        "( 1  2 )",
        "(a;b=1 (c)",
        "1;a=?0;*b",
        "(1);x=2",
    ] {
        let is_valid = value != "(a;b=1 (c)";
        assert_eq!(parse(format!("x={value}, max-age=1").as_bytes()).is_some(), is_valid, "{value}");
    }
}

#[test]
fn one_error_and_the_field_does_not_exist() {
    for text in [
        "",
        " ",
        "max-age=60,",
        "max-age=60, &&&&&",
        "max-age=60 public",
        "max-age =60",
        "max-age= 60",
        "Max-Age=60",
        ",max-age=60",
        "max-age=60,,public",
        "max-age=60;",
        "max-age=60;A",
        "max-age=",
        "=60",
        "\tmax-age=60",
        "max-age=60\t",
        "x=1000000000000000",
        "x=1.",
        "x=1.2345",
        "x=1234567890123.1",
        "x=-",
        "x=--1",
        "x=\"a",
        "x=\"\\a\"",
        "x=\"\u{e9}\"",
        "x=:a",
        "x=:a b:",
        "x=?2",
        "x=?",
        "x=@1.5",
        "x=@",
        "x=%a",
        "x=%\"%C3\"",
        "x=%\"%ff\"",
        "x=%\"a",
        "x=(1",
        "x=(1,2)",
        "x=(1\t2)",
        "x='a'",
        "x={}",
    ] {
        let is_allowed_end = text == "max-age=60\t";
        assert_eq!(parse(text.as_bytes()).is_some(), is_allowed_end, "{text:?}");
    }
}

#[test]
fn a_known_member_of_the_wrong_type_voids_the_field() {
    for text in [
        "max-age=\"60\"",
        "max-age",
        "max-age=1.0",
        "max-age=?1",
        "max-age=a",
        "max-age=(1)",
        "s-maxage=\"1\"",
        "no-store=1",
        "no-cache=a",
        "private=1",
        "public=\"x\"",
        "must-revalidate=a",
        "stale-if-error",
        "must-understand=0",
        "max-age=1, stale-while-revalidate=1.5",
    ] {
        assert!(parse(text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn of_a_member_that_comes_twice_the_last_counts() {
    assert_eq!(parse(b"max-age=1, max-age=2").unwrap().max_age, Some(2));
    assert_eq!(parse(b"max-age=\"1\", max-age=2").unwrap().max_age, Some(2));
    assert!(!parse(b"no-store, no-store=?0").unwrap().no_store);
}

#[test]
fn numbers_are_clamped_and_negative_ones_are_no_time_at_all() {
    assert_eq!(parse(b"max-age=99999999999").unwrap().max_age, Some(1 << 31));
    assert_eq!(parse(b"max-age=-1").unwrap().max_age, Some(0));
}

#[test]
fn strings_narrow_no_cache_and_private_to_fields() {
    let read = parse(b"no-cache=\"a\", private=\"b, c\", max-age=1").unwrap();

    assert!(!read.no_cache && !read.private);
    assert_eq!(read.withheld.len(), 3);
    assert!(parse(b"private=\"\"").unwrap().private);
}

#[test]
fn the_first_valid_field_wins_over_all_its_lines() {
    let a = |text| ("a-cache-control", text);
    let b = |text| ("b-cache-control", text);

    assert_eq!(targeted(&[]), None);
    assert_eq!(targeted(&[b("max-age=2")]).unwrap().max_age, Some(2));
    assert_eq!(targeted(&[b("max-age=2"), a("max-age=1")]).unwrap().max_age, Some(1));
    assert_eq!(targeted(&[a("&"), b("max-age=2")]).unwrap().max_age, Some(2));
    assert_eq!(targeted(&[a(""), b("max-age=2")]).unwrap().max_age, Some(2));
    assert_eq!(
        targeted(&[a("max-age=1"), a("no-store")]).map(|read| (read.max_age, read.no_store)),
        Some((Some(1), true))
    );
    assert_eq!(targeted(&[a("max-age=1"), a("&")]), None);
}
