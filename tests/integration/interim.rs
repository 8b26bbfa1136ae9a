//! Interim (1xx) answers and `Expect: 100-continue`.

use std::{sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt, sync::Semaphore};

use crate::support::{
    app::Setup,
    backend::{Backend, Step, ok, read_head, send, text},
    client::{self, Client, get},
    h2c::H2,
    until,
};

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";

#[tokio::test]
async fn early_hints_come_ahead_of_the_answer() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let backend = Backend::start(move |_| {
        vec![
            Step::Send(HINT.into()),
            Step::Gate(Arc::clone(&waits)),
            Step::Send(text("200 OK", &[], "done").into_bytes()),
        ]
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.ask("/").await;
    let hint = client.head().await.unwrap();
    gate.add_permits(1);
    let answer = client.answer().await;

    assert!(hint.starts_with("HTTP/1.1 103 "), "{hint}");
    assert_eq!(client::fields(&hint, "link"), ["</a.css>; rel=preload"]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
}

#[tokio::test]
async fn early_hints_are_dropped_where_they_cannot_be_understood() {
    let backend = Backend::start(|_| send(format!("{HINT}{}", text("200 OK", &[], "done")))).await;
    let proxy = Setup::before(&backend).start();

    let mut old = Client::connect(proxy.address).await;
    old.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
    let old = old.answer().await;
    let new = H2::connect(proxy.address).await.get("/").await.unwrap();

    assert_eq!((old.status, old.interim.len(), old.text().as_str()), (200, 0, "done"));
    assert_eq!((new.status.as_u16(), new.body.as_slice()), (200, &b"done"[..]));
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_a_502() {
    let backend = Backend::start(|request| {
        let count: usize = request.target()[1..].parse().unwrap();
        send(format!("{}{}", HINT.repeat(count), text("200 OK", &[], "done")))
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let flood = get(proxy.address, "/17").await;
    let most = get(proxy.address, "/16").await;

    assert_eq!(flood.refusal(), (502, "bad_upstream_response".to_owned()));
    assert_eq!((most.status, most.interim.len()), (200, 16));
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_a_502() {
    let backend = Backend::start(|_| {
        send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nsecret")
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    let answer = client.get("/").await;

    assert_eq!(answer.refusal(), (502, "bad_upstream_response".to_owned()));
    assert!(!answer.text().contains("secret"));
}

#[tokio::test]
async fn a_client_is_told_to_go_on_when_the_backend_takes_its_body() {
    let backend = Backend::start(|request| ok(&format!("got {}", request.body.len()))).await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let go_on = client.head().await.unwrap();
    client.send("hello").await;
    let answer = client.answer().await;

    assert!(go_on.starts_with("HTTP/1.1 100 "), "{go_on}");
    assert_eq!((answer.status, answer.text().as_str()), (200, "got 5"));
    assert_eq!(backend.request().field("expect"), None);
    assert_eq!(client.get("/").await.status, 200, "the connection was kept");
}

#[tokio::test]
async fn a_client_is_not_told_to_go_on_when_its_body_is_not_wanted() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("body: 10B").start();

    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n").await;
    let answer = client.answer().await;

    assert_eq!((answer.refusal(), answer.interim.len()), ((413, "body_too_large".to_owned()), 0));
    assert_eq!(answer.field("connection"), "close");
    assert_eq!(client.rest().await, b"");
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn the_backends_own_100_is_not_passed_on_twice() {
    let backend = Backend::raw(|mut stream, _| async move {
        let mut buffer = Vec::new();
        while read_head(&mut stream, &mut buffer).await.is_some() {
            let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            buffer.clear();
            let _ = stream.write_all(text("200 OK", &[], "done").as_bytes()).await;
        }
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let go_on = client.head().await.unwrap();
    client.send("hello").await;
    let answer = client.answer().await;

    assert!(go_on.starts_with("HTTP/1.1 100 "), "{go_on}");
    assert_eq!((answer.interim.len(), answer.text().as_str()), (0, "done"));
}

#[tokio::test]
async fn an_early_answer_ends_an_upload_that_nobody_reads() {
    let backend = Backend::raw(|mut stream, _| async move {
        let mut buffer = Vec::new();
        if read_head(&mut stream, &mut buffer).await.is_some() {
            let _ = stream.write_all(text("401 Unauthorized", &["Connection: close"], "no").as_bytes()).await;
            // Reads nothing more, as a server that has made up its mind does.
            std::future::pending::<()>().await;
        }
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 9 << 20)).await;
    let answer = client.answer().await;

    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
    assert_eq!(answer.field("connection"), "close", "9 MiB are not read away to keep a connection");
    drop(client);
    until("the record", || proxy.records().len() == 1).await;
}

#[tokio::test]
async fn a_client_is_not_told_to_go_on_towards_a_denied_path() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).routes("{ path: /denied, deny: true }").start();

    let mut client = Client::connect(proxy.address).await;
    client
        .send("POST /denied HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    let answer = client.answer().await;

    // Whether the body still comes cannot be known, so the connection ends here.
    assert_eq!((answer.status, answer.interim.len(), answer.field("connection")), (403, 0, "close"));
}
