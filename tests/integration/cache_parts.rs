//! What is less than the whole, made from whole entries: heads, parts and confirmations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::support::{
    app::Setup,
    backend::{Backend, Step, answer, send, text},
    client::{get, get_with, raw, request_text},
    spawn, until, until_async,
};

const TAGGED: &[&str] = &["ETag: \"one\"", "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT", "X-Mine: 1"];

#[tokio::test]
async fn a_head_is_the_head_of_the_get_whatever_it_asks_for() {
    let backend = Backend::start(|request| match request.target() {
        "/cached/chunked" => send(
            "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nX-Mine: 1\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        ),
        _ => answer("200 OK", TAGGED, "0123456789"),
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    for path in ["/cached/a", "/cached/chunked"] {
        get(proxy.address, path).await;
        let whole = get(proxy.address, path).await;
        for (field, status) in [
            ("X-A: 1", 200),
            ("Range: bytes=0-1", 200),
            ("If-Range: \"one\"", 200),
            ("If-None-Match: \"two\"", 200),
            ("If-None-Match: W/\"one\"", 304),
        ] {
            let head = raw(proxy.address, request_text("HEAD", path, &[field], "")).await;

            assert_eq!((head.status, head.cache()), (status, "hit"), "{path} {field}");
            assert_eq!((head.field("etag"), head.fields("age").len()), ("\"one\"", 1), "{path} {field}");
            assert!(head.fields("content-range").is_empty() && head.fields("transfer-encoding").is_empty());
            if status == 200 {
                for name in ["content-length", "x-mine", "last-modified", "date", "content-type"] {
                    assert_eq!(head.field(name), whole.field(name), "{path} {field} {name}");
                }
            }
        }
    }
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn pages_of_other_origins_may_read_parts_and_confirmations_too() {
    let backend = Backend::start(|_| {
        let fields =
            ["ETag: \"one\"", "Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: X-A"];
        answer("200 OK", &fields, "0123456789")
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    get(proxy.address, "/cached/a").await;

    for (field, status) in
        [("If-None-Match: \"one\"", 304), ("Range: bytes=0-1", 206), ("Range: bytes=99-", 416)]
    {
        let answer = get_with(proxy.address, "/cached/a", &[field]).await;

        assert_eq!((answer.status, answer.cache()), (status, "hit"), "{field}");
        assert_eq!(answer.field("access-control-allow-origin"), "*", "{field}");
        assert_eq!(answer.field("access-control-expose-headers"), "X-A", "{field}");
    }
}

#[tokio::test]
async fn the_last_bytes_of_nothing_are_nothing() {
    let backend = Backend::start(|_| answer("200 OK", TAGGED, "")).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    get(proxy.address, "/cached/a").await;

    for (range, status) in [("Range: bytes=-5", 200), ("Range: bytes=0-", 416), ("Range: bytes=-0", 416)] {
        let answer = get_with(proxy.address, "/cached/a", &[range]).await;

        assert_eq!((answer.status, answer.cache(), answer.body.len()), (status, "hit", 0), "{range}");
        assert_eq!(answer.field("content-length"), "0", "{range}");
    }
}

#[tokio::test]
async fn a_stale_copy_is_cut_like_a_fresh_one_and_a_confirmed_one_too() {
    let backend = Backend::start(|request| match request.field("if-none-match") {
        Some(_) => vec![
            Step::Wait(Duration::from_millis(20)),
            Step::Send(b"HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\n\r\n".to_vec()),
        ],
        None => answer("200 OK", &["ETag: \"one\""], "0123456789"),
    })
    .await;
    let proxy = Setup::before(&backend)
        .routes(
            "{ path: /swr, cache: { ttl: 100ms, stale_while_revalidate: 1m } }, \
             { path: /plain, cache: { ttl: 100ms } }",
        )
        .start();

    for (path, outcome) in [("/swr", "stale"), ("/plain", "revalidated")] {
        get(proxy.address, path).await;
        until_async(outcome, || async {
            let part = get_with(proxy.address, path, &["Range: bytes=2-3"]).await;
            assert_eq!((part.status, part.text().as_str()), (206, "23"), "{path}");
            assert_eq!(part.field("content-range"), "bytes 2-3/10");
            part.cache() == outcome
        })
        .await;
    }
    assert!(backend.requests().iter().all(|request| request.field("range").is_none()));
}

#[tokio::test]
async fn a_part_that_is_not_in_the_cache_is_asked_for_as_it_is_and_nobody_waits_for_it() {
    let gate = Arc::new(Semaphore::new(0));
    let (opened, parts) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let asked = Arc::clone(&parts);
    let backend = Backend::start(move |request| match request.field("range") {
        Some(_) => {
            asked.fetch_add(1, SeqCst);
            let part = text("206 Partial Content", &["Content-Range: bytes 0-1/10"], "01");
            vec![Step::Gate(Arc::clone(&opened)), Step::Send(part.into_bytes())]
        }
        None => answer("200 OK", TAGGED, "0123456789"),
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    let address = proxy.address;
    let part = spawn(async move { get_with(address, "/cached/a", &["Range: bytes=0-1"]).await });
    until("the part is asked for", || parts.load(SeqCst) == 1).await;

    let whole = get(proxy.address, "/cached/a").await;
    gate.add_permits(1);
    let part = part.await.unwrap();

    assert_eq!((whole.cache(), whole.text().as_str()), ("miss", "0123456789"));
    assert_eq!((part.status, part.cache(), part.text().as_str()), (206, "miss", "01"));
    assert!(part.detail().ends_with("detail=range"), "{}", part.detail());
    assert_eq!(get(proxy.address, "/cached/a").await.text(), "0123456789");
    assert_eq!(backend.count(), 2);
}
