//! Tests of the entry: its head, its own entity tag, its size.

use bytes::Bytes;
use http::{HeaderValue, header};

use super::{Entry, NewEntry, OVERHEAD, strong_etag};
use crate::cache::{
    key::KeyMaker,
    samples::{answer, fields, key, tagged},
};

#[test]
fn keeps_every_line_in_order_in_one_block_of_its_own() {
    let buffer = Bytes::from(vec![b'v'; 16 * 1024]);
    let mut headers = fields(&[("x-a", "1"), ("x-b", ""), ("x-a", "2")]);
    headers.append("x-big", HeaderValue::from_maybe_shared(buffer.slice(100..110)).unwrap());
    let key = key(&KeyMaker::default(), "/");

    let entry = Entry::new(NewEntry { headers: headers.clone(), ..answer(&key, 0) });
    drop(headers);

    let lines: Vec<_> = entry.headers().get_all("x-a").iter().collect();
    assert_eq!(lines, ["1", "2"]);
    assert_eq!(entry.headers()["x-b"], "");
    assert_eq!(entry.headers()["x-big"], "vvvvvvvvvv");
    assert!(buffer.is_unique(), "the entry must not hold the read buffer");
}

#[test]
fn sensitive_values_stay_sensitive() {
    let mut secret = HeaderValue::from_static("s");
    secret.set_sensitive(true);
    let mut headers = fields(&[]);
    headers.insert("x-s", secret);

    let entry = Entry::new(NewEntry { headers, ..answer(&key(&KeyMaker::default(), "/"), 0) });

    assert!(entry.headers()["x-s"].is_sensitive());
}

#[test]
fn gets_a_strong_tag_of_its_own_only_where_asked_and_none_is_there() {
    let key = key(&KeyMaker::default(), "/");
    let with = |wants_etag, list: &[(&'static str, &str)]| {
        Entry::new(NewEntry { wants_etag, headers: fields(list), ..answer(&key, 3) })
    };

    let own = with(true, &[]);
    assert_eq!(own.headers()[header::ETAG], strong_etag(b"xxx"));
    assert!(own.meta().generated_etag);
    let theirs = with(true, &[("etag", "\"1\"")]);
    assert_eq!(theirs.headers()[header::ETAG], "\"1\"");
    assert!(!theirs.meta().generated_etag);
    assert!(!with(false, &[]).headers().contains_key(header::ETAG));
}

#[test]
fn equal_bodies_have_equal_tags() {
    let empty = strong_etag(b"");

    assert_eq!(empty, "\"e3b0c44298fc1c149afbf4c8996fb924\"");
    assert_eq!(empty, strong_etag(b""));
    assert_ne!(empty, strong_etag(b"a"));
}

#[test]
fn counts_key_head_body_tags_and_overhead() {
    let key = key(&KeyMaker::default(), "/");

    let bare = Entry::new(NewEntry { headers: fields(&[]), ..answer(&key, 0) }).size();
    let with_body = Entry::new(NewEntry { headers: fields(&[]), ..answer(&key, 1000) }).size();
    let with_head = Entry::new(NewEntry { headers: fields(&[("x-a", "12345")]), ..answer(&key, 0) }).size();
    let with_tag = Entry::new(NewEntry { headers: fields(&[]), ..tagged(&key, &["abc"], None) }).size();

    assert!(bare >= OVERHEAD + key.size());
    assert_eq!(with_body - bare, 1000);
    assert!(with_head - bare >= 5 + 3);
    assert!(with_tag - bare >= 10 + 3);
}
