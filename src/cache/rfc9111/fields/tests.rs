//! Which fields are kept, replaced and sent.

use crate::cache::rfc9111::{
    fields::{not_modified_head, partial_content_head, stored_fields, unsatisfiable_head, updated_fields},
    fixture::{Copy, Lines, NOW, default, headers, rfc, store_plain},
    format_date,
};

#[test]
fn every_field_is_kept_as_it_came_but_those_of_one_hop_and_ours() {
    let kept: Lines<'_> = &[
        ("x-b", "2"),
        ("x-a", " 1 "),
        ("x-b", "3"),
        ("content-range", "nonsense"),
        ("clear-site-data", "\"cookies\""),
        ("set-cookie2", "a=b"),
        ("set-cookie", "a=b"),
        ("content-length", "7"),
        ("cache-status", "backend; hit"),
        ("warning", "old"),
    ];
    let dropped: Lines<'_> = &[
        ("connection", "x-hop, , X-Other"),
        ("connection", "keep-alive"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("proxy-authenticate", "x"),
        ("proxy-authentication-info", "x"),
        ("proxy-connection", "x"),
        ("age", "7"),
        ("x-cache-status", "hit"),
        ("x-response-time", "1ms"),
        ("x-request-id", "1"),
    ];

    assert_eq!(stored_fields(&headers(&[kept, dropped].concat()), &[], None), headers(kept));
}

#[test]
fn fields_that_the_answer_withholds_are_not_stored() {
    let lines: Lines<'_> =
        &[("cache-control", "max-age=60, no-cache=\"a\", private=\"B\""), ("a", "1"), ("b", "2"), ("c", "3")];

    let head = store_plain(lines, &default()).unwrap().head(&headers(lines));

    assert!(!head.contains_key("a") && !head.contains_key("b"));
    assert_eq!(head.get("c").unwrap(), "3");
}

#[test]
fn a_date_that_is_missing_or_unreadable_is_the_time_of_receipt() {
    for lines in
        [&[("cache-control", "max-age=60")][..], &[("cache-control", "max-age=60"), ("date", "gibberish")]]
    {
        let head = store_plain(lines, &default()).unwrap().head(&headers(lines));

        assert_eq!(head.get("date").unwrap(), &format_date(NOW), "{lines:?}");
    }
    let lines: Lines<'_> = &[("cache-control", "max-age=60"), ("date", "@-5")];
    assert_eq!(store_plain(lines, &default()).unwrap().head(&headers(lines)), headers(lines));
}

#[test]
fn a_304_replaces_every_field_but_those_of_the_body_and_the_hop() {
    let stored = headers(&[
        ("etag", "\"a\""),
        ("x-old", "1"),
        ("x-both", "1"),
        ("x-both", "2"),
        ("content-length", "9"),
        ("content-encoding", "gzip"),
        ("set-cookie", "a=1"),
    ]);
    let fresh = headers(&[
        ("x-both", "3"),
        ("x-both", "4"),
        ("x-both", "5"),
        ("x-new", "1"),
        ("content-length", "0"),
        ("content-encoding", "br"),
        ("content-range", "x"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("age", "4"),
        ("set-cookie", "a=2"),
    ]);
    let without_cookies = [
        ("etag", "\"a\""),
        ("x-old", "1"),
        ("content-length", "9"),
        ("content-encoding", "gzip"),
        ("x-both", "3"),
        ("x-both", "4"),
        ("x-both", "5"),
        ("x-new", "1"),
    ];

    assert_eq!(
        updated_fields(&stored, &fresh, true),
        headers(&[&without_cookies[..], &[("set-cookie", "a=2")]].concat())
    );
    assert_eq!(
        updated_fields(&stored, &fresh, false),
        headers(&[&without_cookies[..], &[("set-cookie", "a=1")]].concat())
    );
}

#[test]
fn a_304_from_the_store_has_what_a_client_needs_to_update_its_copy() {
    let lines: Lines<'_> = &[
        ("cache-control", "max-age=60"),
        ("date", "@0"),
        ("etag", "\"a\""),
        ("expires", "@60"),
        ("vary", "a"),
        ("vary", "b"),
        ("content-location", "/x"),
        ("access-control-allow-origin", "*"),
        ("access-control-expose-headers", "x-a"),
        ("cross-origin-resource-policy", "cross-origin"),
    ];
    let more: Lines<'_> =
        &[("content-type", "text/plain"), ("content-length", "3"), ("x-a", "1"), ("last-modified", "@-9")];
    let copy = Copy::of(&[lines, more].concat(), &rfc());

    assert_eq!(not_modified_head(&copy.head), headers(lines));
}

#[test]
fn a_416_from_the_store_says_how_long_the_body_is_and_who_may_read_that() {
    let permission = ("access-control-allow-origin", "https://a.example");
    let stored = headers(&[("etag", "\"a\""), ("vary", "Origin"), permission, ("content-length", "10")]);

    assert_eq!(
        unsatisfiable_head(&stored, 10),
        headers(&[("vary", "Origin"), permission, ("content-range", "bytes */10")])
    );
}

#[test]
fn a_206_from_the_store_has_the_stored_fields_and_its_own_length() {
    let stored =
        headers(&[("etag", "\"a\""), ("content-length", "10"), ("content-range", "nonsense"), ("x-a", "1")]);

    assert_eq!(
        partial_content_head(&stored, 2, 4, 10),
        headers(&[
            ("etag", "\"a\""),
            ("content-length", "3"),
            ("content-range", "bytes 2-4/10"),
            ("x-a", "1")
        ])
    );
}
