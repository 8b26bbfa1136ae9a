//! What a client may send and how long it may take; every limit is driven over its edge.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    app::Setup,
    backend::{Backend, ok},
    client::{Client, get, raw},
    within,
};

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_a_408() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("header_timeout: 200ms").start();

    let start = Instant::now();
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\nX-").await;
    // A byte now and then does not buy more time.
    let dripping = async {
        while client.try_send("a").await && start.elapsed() < Duration::from_millis(190) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client.answer().await
    };
    let answer = dripping.await;

    assert_eq!(answer.refusal(), (408, "request_timeout".to_owned()));
    assert_eq!(answer.field("connection"), "close");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(backend.count(), 0);
    assert_eq!(proxy.record().await["error"], "request_timeout");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("header_timeout: 100ms").start();

    let mut client = Client::connect(proxy.address).await;

    assert_eq!(client.rest().await, b"");
    assert!(proxy.records().is_empty());
}

#[tokio::test]
async fn a_body_that_stops_is_a_408() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("body_idle: 150ms").start();

    for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut client = Client::connect(proxy.address).await;
        let start = Instant::now();
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}")).await;
        let answer = client.answer().await;

        assert_eq!(answer.refusal(), (408, "request_timeout".to_owned()), "{framing:?}");
        assert_eq!(answer.field("connection"), "close");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_body_that_drips_is_a_408() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("body_rate: 1KiB, body_rate_after: 200ms").start();

    let start = Instant::now();
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").await;
    while start.elapsed() < Duration::from_millis(600) && client.try_send("a").await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = client.answer().await;

    assert_eq!(answer.refusal(), (408, "request_timeout".to_owned()));
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_slow_backend_is_not_held_against_an_uploading_client() {
    let backend = Backend::start(|request| ok(&request.body.len().to_string())).await;
    let proxy =
        Setup::before(&backend).limits("body_rate: 1KiB, body_rate_after: 100ms, body_idle: 2s").start();

    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n").await;
    for _ in 0..6 {
        client.send([b'a'; 100]).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    assert_eq!(client.answer().await.text(), "600");
}

#[tokio::test]
async fn a_body_over_its_limit_is_a_413_before_a_byte_of_it_is_read() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend)
        .limits("body: 10B")
        .routes("{ path: /big, body: 20B }, { path: /none, body: 0B }")
        .start();

    for (target, length, status) in
        [("/", 11, 413), ("/", 10, 200), ("/big", 21, 413), ("/big", 20, 200), ("/none", 1, 413)]
    {
        let answer = raw(
            proxy.address,
            format!(
                "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{}",
                "a".repeat(length)
            ),
        )
        .await;

        assert_eq!(answer.status, status, "{target} {length}");
    }
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn a_chunked_body_over_its_limit_is_a_413_and_a_close() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("body: 10B").start();

    let mut client = Client::connect(proxy.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n")
        .await;
    let answer = client.answer().await;

    assert_eq!(answer.refusal(), (413, "body_too_large".to_owned()));
    assert_eq!(answer.field("connection"), "close");
    assert_eq!(client.rest().await, b"");
    assert_eq!(backend.count(), 0, "a cut request was taken for a whole one");
}

#[tokio::test]
async fn a_client_that_is_still_sending_can_read_its_413() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("body: 64KiB").start();
    let piece = vec![b'x'; 16 * 1024];

    for framing in ["Content-Length: 4194304", "Transfer-Encoding: chunked"] {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")).await;
        for _ in 0..256 {
            let sent = if framing.starts_with('C') {
                client.try_send(&piece).await
            } else {
                client.try_send([b"4000\r\n", piece.as_slice(), b"\r\n"].concat()).await
            };
            if !sent {
                break;
            }
        }
        let answer = client.try_answer(false).await.expect("the answer was lost to a reset");

        assert_eq!(answer.refusal(), (413, "body_too_large".to_owned()), "{framing}");
    }
}

#[tokio::test]
async fn a_long_request_line_is_a_414() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();

    let long = get(proxy.address, &format!("/{}", "a".repeat(8192))).await;
    let fits = get(proxy.address, &format!("/{}", "a".repeat(8000))).await;

    assert_eq!(long.refusal(), (414, "target_too_long".to_owned()));
    assert_eq!(fits.status, 200);
}

#[tokio::test]
async fn too_many_or_too_large_fields_are_a_431() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();
    let field = |count: usize, size: usize| {
        (0..count).map(|index| format!("X-{index}: {}\r\n", "a".repeat(size))).collect::<String>()
    };

    for (fields, status) in [
        (field(1, 16 * 1024), 431),
        (field(3, 12 * 1024), 431),
        (field(100, 10), 431),
        (field(1, 15 * 1024), 200),
        (field(99, 10), 200),
    ] {
        let answer = raw(proxy.address, format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).await;

        assert_eq!(answer.status, status, "{} bytes", fields.len());
    }
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn an_endless_head_is_refused_at_once() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();

    for (head, status) in [("GET /", 414), ("GET / HTTP/1.1\r\nHost: x\r\nX: ", 431), ("GGGG", 400)] {
        let byte = if head.len() == 4 { "G" } else { "a" };
        // In small pieces, and in one that is over every limit at once.
        for piece in [1024, 65_536] {
            let mut client = Client::connect(proxy.address).await;
            client.send(head).await;
            for _ in 0..65_536 / piece {
                if !client.try_send(byte.repeat(piece)).await {
                    break;
                }
            }
            let answer = client.answer().await;

            assert_eq!(answer.status, status, "{head:?} in pieces of {piece}");
        }
    }
}

#[tokio::test]
async fn trailers_and_chunk_framing_are_bounded() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();
    let many: String = (0..17).map(|index| format!("X-{index}: a\r\n")).collect();
    let cases = [
        format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(300)),
        format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(200)),
        format!("0\r\n{many}\r\n"),
        format!("0\r\nX: {}\r\n\r\n", "a".repeat(5000)),
        "0\r\nX : a\r\n\r\n".to_owned(),
    ];
    for (case, chunks) in cases.iter().enumerate() {
        let text = format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let answer = raw(proxy.address, text).await;

        assert_eq!(answer.refusal(), (400, "bad_framing".to_owned()), "case {case}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let backend = Backend::start(|_| {
        vec![
            crate::support::backend::Step::Send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n".to_vec(),
            ),
            crate::support::backend::Step::Endless(vec![b'x'; 64 * 1024]),
        ]
    })
    .await;
    let proxy = Setup::before(&backend).limits("write_stall: 200ms").start();

    let mut client = Client::connect(proxy.address).await;
    client.ask("/").await;
    crate::support::until("the backend is left", || !backend.left().is_empty()).await;

    assert_eq!(proxy.record().await["outcome"], "client_abort");
    assert!(within("the end", client.answer()).await.body.len() < 100_000_000);
}
