//! A client that leaves takes its request with it, at every stage, within a tenth of a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, ok, read_head},
    client::{Client, get_text},
    h2c::H2,
    until,
};

const SOON: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
enum Leave {
    Close,
    Reset,
}

fn leave(client: Client, how: Leave) -> Instant {
    if matches!(how, Leave::Reset) {
        client.stream.set_zero_linger().unwrap();
    }
    drop(client);
    Instant::now()
}

async fn backend_is_left_soon(backend: &Backend, since: Instant, what: &str) {
    until("the backend is left", || !backend.left().is_empty()).await;
    let took = backend.left()[0].saturating_duration_since(since);
    assert!(took < SOON, "{what}: {took:?}");
}

async fn is_client_abort(proxy: &Proxy, what: &str) {
    let record = proxy.record().await;
    assert_eq!(record["outcome"], "client_abort", "{what}: {record}");
}

#[tokio::test]
async fn a_client_that_leaves_within_its_head_is_no_request() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();

    for how in [Leave::Close, Leave::Reset] {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.1\r\nHo").await;
        leave(client, how);
    }

    until("the connections are gone", || true).await;
    assert_eq!((backend.count(), proxy.records().len()), (0, 0));
}

#[tokio::test]
async fn a_client_that_leaves_while_waiting_cancels_its_request() {
    for how in [Leave::Close, Leave::Reset] {
        let backend = Backend::start(|_| vec![Step::Hang]).await;
        let proxy = Setup::before(&backend).start();
        let mut client = Client::connect(proxy.address).await;
        client.ask("/").await;
        until("the request is at the backend", || backend.count() == 1).await;

        let since = leave(client, how);

        backend_is_left_soon(&backend, since, &format!("{how:?}")).await;
        is_client_abort(&proxy, &format!("{how:?}")).await;
        assert_eq!(proxy.records()[0]["http.response.status_code"], 499);
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_queue_gives_its_place_up() {
    let backend = Backend::start(|_| vec![Step::Hang]).await;
    let proxy = Setup::before(&backend).upstream("in_flight: 1, queue: 1, wait: 10s").start();
    let mut first = Client::connect(proxy.address).await;
    first.ask("/").await;
    until("the first is at the backend", || backend.count() == 1).await;
    let mut second = Client::connect(proxy.address).await;
    second.ask("/").await;

    crate::support::until_async("the second waits", || async {
        proxy.metric("touchline_upstream_requests_queued", "").await == 1.0
    })
    .await;
    leave(second, Leave::Close);

    is_client_abort(&proxy, "in the queue").await;
    assert_eq!(backend.count(), 1);
}

/// A backend that reads uploads and counts what it gets; it notes when the connection ends.
async fn reading_backend() -> (Backend, Arc<AtomicUsize>, Arc<Mutex<Vec<(Instant, bool)>>>) {
    let got = Arc::new(AtomicUsize::new(0));
    let ends = Arc::new(Mutex::new(Vec::new()));
    let (count, log) = (Arc::clone(&got), Arc::clone(&ends));
    let backend = Backend::raw(move |mut stream, _| {
        let (got, ends) = (Arc::clone(&count), Arc::clone(&log));
        async move {
            let mut buffer = Vec::new();
            if read_head(&mut stream, &mut buffer).await.is_none() {
                return;
            }
            let mut body = buffer.clone();
            got.fetch_add(body.len(), SeqCst);
            loop {
                let mut piece = vec![0; 4096];
                let Ok(read) = stream.read(&mut piece).await else { break };
                if read == 0 {
                    break;
                }
                body.extend_from_slice(&piece[..read]);
                got.fetch_add(read, SeqCst);
            }
            let is_complete = body.ends_with(b"0\r\n\r\n");
            ends.lock().push((Instant::now(), is_complete));
        }
    })
    .await;
    (backend, got, ends)
}

#[tokio::test]
async fn a_client_that_leaves_mid_upload_never_completes_its_request() {
    let uploads =
        ["Content-Length: 1000\r\n\r\nsome of it", "Transfer-Encoding: chunked\r\n\r\n5\r\nsome \r\n"];
    for (upload, how) in
        uploads.into_iter().flat_map(|upload| [(upload, Leave::Close), (upload, Leave::Reset)])
    {
        let (backend, got, ends) = reading_backend().await;
        let proxy = Setup::before(&backend).start();
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{upload}")).await;
        until("the body is at the backend", || got.load(SeqCst) > 4).await;

        let since = leave(client, how);

        until("the backend is left", || !ends.lock().is_empty()).await;
        let (at, is_complete) = ends.lock()[0];
        assert!(at.saturating_duration_since(since) < SOON, "{upload:?} {how:?}");
        assert!(!is_complete, "a cut upload was completed");
        is_client_abort(&proxy, &format!("{upload:?} {how:?}")).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_mid_download_cancels_it() {
    for how in [Leave::Close, Leave::Reset] {
        let backend = Backend::start(|_| {
            vec![
                Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n".to_vec()),
                Step::Endless(vec![b'x'; 16 * 1024]),
            ]
        })
        .await;
        let proxy = Setup::before(&backend).start();
        let mut client = Client::connect(proxy.address).await;
        client.ask("/").await;
        client.head().await.unwrap();
        client.bytes(100_000).await;

        let since = leave(client, how);

        backend_is_left_soon(&backend, since, &format!("{how:?}")).await;
        is_client_abort(&proxy, &format!("{how:?}")).await;
        assert!(proxy.records()[0]["bytes_out"].as_u64().unwrap() >= 100_000);
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_silent_stream_cancels_it() {
    let backend = Backend::start(|_| {
        vec![
            Step::Send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    .to_vec(),
            ),
            Step::Send(b"9\r\ndata: a\n\n\r\n".to_vec()),
            Step::Hang,
        ]
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;
    client.ask("/").await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"data: a\n\n");

    let since = leave(client, Leave::Close);

    backend_is_left_soon(&backend, since, "a stream").await;
    is_client_abort(&proxy, "a stream").await;
}

#[tokio::test]
async fn a_stream_that_is_reset_in_http_2_cancels_its_request_alone() {
    let backend =
        Backend::start(|request| if request.target() == "/hang" { vec![Step::Hang] } else { ok("hi") }).await;
    let proxy = Setup::before(&backend).start();
    let client = H2::connect(proxy.address).await;
    let request = http::Request::get("http://coach.example/hang").body(()).unwrap();
    let response = client.send(request).await.unwrap();
    until("the request is at the backend", || backend.count() == 1).await;

    drop(response);
    let since = Instant::now();

    backend_is_left_soon(&backend, since, "RST_STREAM").await;
    is_client_abort(&proxy, "RST_STREAM").await;
    assert_eq!(client.get("/").await.unwrap().body, b"hi");
}

#[tokio::test]
async fn a_pipelined_request_behind_the_one_in_work_is_not_a_departure() {
    let backend = Backend::start(|request| {
        vec![
            Step::Wait(Duration::from_millis(30)),
            Step::Send(crate::support::backend::text("200 OK", &[], request.target()).into_bytes()),
        ]
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;

    let pipeline: String = (0..10).map(|index| get_text(&format!("/{index}"), &[])).collect();
    client.stream.write_all(pipeline.as_bytes()).await.unwrap();

    for index in 0..10 {
        assert_eq!(client.answer().await.text(), format!("/{index}"));
    }
    let seen: Vec<String> = backend.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(seen, (0..10).map(|index| format!("/{index}")).collect::<Vec<_>>());
}
