//! What must go.

use http::{Method, StatusCode};

use super::{head_contradicts, invalidated_targets, invalidates, is_own_location};
use crate::cache::rfc9111::{
    RequestHead, ResponseHead,
    fixture::{Copy, Lines, default, get, headers},
};

#[test]
fn answers_without_error_to_unsafe_and_unknown_methods_invalidate() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "M-SEARCH", "PROPFIND", "get"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for (status, invalid) in
            [(200, true), (204, true), (303, true), (304, true), (400, false), (404, false), (500, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidates(&method, status), invalid, "{method} {status}");
        }
    }
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert!(!invalidates(&method, StatusCode::OK), "{method}");
    }
}

#[test]
fn locations_of_the_same_authority_go_with_the_target() {
    let none = headers(&[]);
    let request = RequestHead::new(&Method::POST, b"example.org", b"/items?x", &none);
    let response = headers(&[
        ("location", "/items/1"),
        ("content-location", "http://EXAMPLE.org/items/1#x"),
        ("content-location", "/items?x"),
        ("location", "https://example.com/items/2"),
        ("content-location", "list"),
    ]);

    assert_eq!(invalidated_targets(&request, &response), [b"/items/1".to_vec(), b"/list".to_vec()]);
}

#[test]
fn an_answer_names_its_own_location_only_if_it_is_the_one_that_was_asked() {
    let none = headers(&[]);
    for (lines, is_own) in [
        (&[("content-location", "/a?b=c")][..], true),
        (&[("content-location", "http://example.org/a?b=c")], true),
        (&[("content-location", "a?b=c")], true),
        (&[("content-location", "/a")], false),
        (&[("content-location", "http://example.com/a?b=c")], false),
        (&[("content-location", "/a?b=c"), ("content-location", "/a?b=c")], false),
        (&[], false),
    ] {
        assert_eq!(is_own_location(&get(&none), &headers(lines)), is_own, "{lines:?}");
    }
}

#[test]
fn a_head_with_another_length_tag_or_date_contradicts_the_stored_answer() {
    let stored: Lines<'_> = &[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("last-modified", "@-60"),
        ("content-length", "3"),
    ];
    let copy = Copy::of(stored, &default());
    for (status, lines, contradicts) in [
        (200, &[][..], false),
        (200, stored, false),
        (200, &[("x-a", "new")], false),
        (200, &[("etag", "\"b\"")], true),
        (200, &[("last-modified", "@-50")], true),
        (200, &[("content-length", "4")], true),
        (404, &[("etag", "\"b\"")], false),
    ] {
        let head = headers(lines);
        let answer = ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: &head };
        assert_eq!(head_contradicts(&copy.stored(), &answer), contradicts, "{status} {lines:?}");
    }
}
