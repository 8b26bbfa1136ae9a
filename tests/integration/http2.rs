//! HTTP/2 with prior knowledge on the ingress port.

use std::{sync::Arc, time::Duration};

use http::Request;
use tokio::sync::Semaphore;

use crate::support::{
    app::Setup,
    backend::{Backend, Step, ok, text},
    client::Client,
    h2c::{H2, read},
    spawn, until, within,
};

#[tokio::test]
async fn streams_are_served_at_the_same_time() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let backend = Backend::start(move |request| {
        let body = text("200 OK", &[], request.target()).into_bytes();
        vec![Step::Gate(Arc::clone(&waits)), Step::Send(body)]
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let client = H2::connect(proxy.address).await;

    let streams: Vec<_> = (0..50)
        .map(|index| {
            let client = client.clone();
            spawn(async move { (index, client.get(&format!("/{index}")).await.unwrap()) })
        })
        .collect();
    until("all are at the backend", || backend.count() == 50).await;
    gate.add_permits(50);

    for stream in streams {
        let (index, answer) = stream.await.unwrap();
        assert_eq!(answer.body, format!("/{index}").into_bytes());
        assert!(answer.headers.contains_key("x-response-time") && !answer.headers.contains_key("connection"));
    }
}

#[tokio::test]
async fn a_request_reaches_the_backend_as_http_1_1_with_a_host() {
    let backend = Backend::start(|request| ok(&request.body.len().to_string())).await;
    let proxy = Setup::before(&backend).start();
    let client = H2::connect(proxy.address).await;

    client.get_with("/a?b", &[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")]).await.unwrap();
    let posted = client.post("/upload", vec![b'x'; 300_000]).await.unwrap();

    assert_eq!(posted.body, b"300000");
    let seen = backend.requests();
    assert_eq!(seen[0].line(), "GET /a?b HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("coach.example"));
    assert_eq!(seen[0].field("cookie"), Some("a=1; b=2"));
    assert_eq!(seen[0].field("te"), None);
    assert_eq!(seen[0].field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen[1].method(), "POST");
}

#[tokio::test]
async fn connection_specific_fields_are_refused() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("host", "other.example"),
    ] {
        let client = H2::connect(proxy.address).await;
        let answer = client.get_with("/", &[(name, value)]).await;

        let is_refused = answer.as_ref().map_or(true, |answer| answer.status == 400);
        assert!(is_refused, "{name}: {:?}", answer.map(|answer| answer.status));
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_body_unlike_its_content_length_never_completes_upstream() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).upstream("first_byte: 1s").start();
    let client = H2::connect(proxy.address).await;

    let answer = client.get_with("/", &[("content-length", "5")]).await;

    assert!(answer.map_or(true, |answer| answer.status.is_client_error()));
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_drain_says_goaway_and_finishes_what_is_in_flight() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let backend = Backend::start(move |_| {
        vec![Step::Gate(Arc::clone(&waits)), Step::Send(text("200 OK", &[], "late").into_bytes())]
    })
    .await;
    let mut proxy = Setup::before(&backend).top("drain", "{ delay: 100ms, timeout: 5s }").start();
    let client = H2::connect(proxy.address).await;
    let request = Request::get("http://coach.example/").body(()).unwrap();
    let response = client.send(request).await.unwrap();
    until("the request is at the backend", || backend.count() == 1).await;

    let stopping = proxy.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = client.get("/new").await;
    gate.add_permits(10);
    let answer = read(within("the answer", response).await.unwrap()).await.unwrap();

    assert_eq!(answer.body, b"late");
    assert!(refused.is_err(), "a new stream was taken after GOAWAY");
    until("the connection is over", || client.is_over()).await;
    within("the end", tokio::task::spawn_blocking(move || stopping.join())).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_rapid_reset_flood_ends_the_connection() {
    let backend =
        Backend::start(|request| if request.target() == "/ok" { ok("hi") } else { vec![Step::Hang] }).await;
    let proxy = Setup::before(&backend).start();
    let client = H2::connect(proxy.address).await;

    let mut is_over = false;
    for _ in 0..2000 {
        let request = Request::get("http://coach.example/").body(()).unwrap();
        match client.send(request).await {
            Ok(response) => drop(response),
            Err(_) => {
                is_over = true;
                break;
            }
        }
        tokio::task::yield_now().await;
    }

    assert!(is_over || client.is_over(), "2,000 resets were borne");
    assert_eq!(H2::connect(proxy.address).await.get("/ok").await.unwrap().body, b"hi");
}

#[tokio::test]
async fn http_2_is_refused_where_it_is_switched_off() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).ingress("http2", "false").start();

    let mut client = Client::connect(proxy.address).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;

    assert_eq!(client.answer().await.status, 505);
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_head_request_and_a_304_have_no_body() {
    let backend = Backend::start(|request| match request.method() {
        "HEAD" => crate::support::backend::send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        _ => crate::support::backend::send("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let client = H2::connect(proxy.address).await;

    let head = client.send(Request::head("http://coach.example/").body(()).unwrap()).await.unwrap();
    let head = read(within("an answer", head).await.unwrap()).await.unwrap();
    let not_modified = client.get("/").await.unwrap();

    assert_eq!((head.headers["content-length"].to_str().unwrap(), head.body.len()), ("7", 0));
    assert_eq!((not_modified.status.as_u16(), not_modified.body.len()), (304, 0));
}

#[tokio::test]
async fn a_cut_body_resets_its_stream() {
    let backend = Backend::start(|_| {
        vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()), Step::Close]
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let client = H2::connect(proxy.address).await;

    for _ in 0..2 {
        assert!(client.get("/").await.is_err(), "a cut body looked whole");
    }
    assert!(!client.is_over(), "one bad stream cost the connection");
}

#[tokio::test]
async fn records_count_the_bytes_of_both_directions() {
    let backend = Backend::start(|_| ok("four")).await;
    let proxy = Setup::before(&backend).start();

    H2::connect(proxy.address).await.post("/", vec![b'x'; 1000]).await.unwrap();

    let record = proxy.record().await;
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&1000.into(), &4.into()));
}
