//! WebSocket tunnels: opened by a 101 that was asked for, and bounded.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    app::Setup,
    backend::{Backend, ok, read_head, text},
    client::{Client, get, get_text},
    until, until_async,
};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";

fn handshake() -> String {
    get_text("/ws", &["Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: a2V5"])
}

/// A backend that switches and sends back what it gets.
async fn echo() -> Backend {
    Backend::raw(|mut stream, _| async move {
        let mut buffer = Vec::new();
        let Some(head) = read_head(&mut stream, &mut buffer).await else { return };
        if !head.to_ascii_lowercase().contains("upgrade: websocket") {
            let _ = stream.write_all(text("200 OK", &[], "plain").as_bytes()).await;
            return;
        }
        assert!(head.to_ascii_lowercase().contains("connection: upgrade"), "{head}");
        // What follows the 101 at once is already part of the tunnel.
        let _ = stream.write_all(format!("{SWITCH}welcome").as_bytes()).await;
        let _ = stream.write_all(&buffer).await;
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

#[tokio::test]
async fn bytes_pass_both_ways_behind_a_101() {
    let backend = echo().await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.send(handshake()).await;
    let head = client.answer().await;
    assert_eq!((head.status, head.field("upgrade")), (101, "websocket"));
    assert_eq!(head.field("sec-websocket-accept"), "x");
    assert_eq!(client.bytes(7).await, b"welcome");

    for size in [1, 1000, 200_000] {
        let data: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let (mut read, mut write) = client.stream.split();
        let mut back = vec![0; size];
        let (sent, got) = tokio::join!(write.write_all(&data), read.read_exact(&mut back));
        sent.unwrap();
        got.unwrap();
        assert!(back == data, "{size} bytes");
    }
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"");
    let record = proxy.record().await;
    assert_eq!((&record["kind"], &record["http.response.status_code"]), (&"upgrade".into(), &101.into()));
    assert_eq!(record["bytes_out"], 201_008);
}

#[tokio::test]
async fn bytes_ahead_of_the_101_are_the_next_request_and_not_the_tunnel() {
    let backend = Backend::raw(|mut stream, _| async move {
        let mut buffer = Vec::new();
        while let Some(head) = read_head(&mut stream, &mut buffer).await {
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert_eq!(buffer, b"", "bytes leaked ahead of an answer to {head}");
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let _ = stream.write_all(text("200 OK", &[], &target).as_bytes()).await;
        }
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{}{}", handshake(), get_text("/next", &[]))).await;
    let refused = client.answer().await;
    let next = client.answer().await;

    assert_eq!((refused.status, refused.text().as_str()), (200, "/ws"));
    assert_eq!(next.text(), "/next");
}

#[tokio::test]
async fn only_a_websocket_handshake_is_passed_on() {
    let backend = Backend::start(|request| ok(request.field("upgrade").unwrap_or("none"))).await;
    let proxy = Setup::before(&backend).start();
    let cases = [
        get_text("/", &["Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAA"]),
        get_text("/", &["Connection: Upgrade", "Upgrade: websocket, h2c"]),
        get_text("/", &["Upgrade: websocket"]),
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
    ];
    for case in cases {
        assert_eq!(crate::support::client::raw(proxy.address, &case).await.text(), "none", "{case}");
    }
}

#[tokio::test]
async fn a_handshake_with_a_body_is_refused() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();

    let text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc";
    let answer = crate::support::client::raw(proxy.address, text).await;

    assert_eq!((answer.status, backend.count()), (400, 0));
}

#[tokio::test]
async fn an_idle_tunnel_is_closed() {
    let backend = echo().await;
    let proxy = Setup::before(&backend).limits("upgrade: { idle: 200ms }").start();
    let mut client = Client::connect(proxy.address).await;
    client.send(handshake()).await;
    client.answer().await;
    client.bytes(7).await;

    // Traffic keeps it open beyond its limit.
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        client.send("ping").await;
        assert_eq!(client.bytes(4).await, b"ping");
    }
    let rest = client.rest().await;

    assert_eq!(rest, b"");
    crate::support::until("the backend is left", || backend.open() == 0).await;
}

#[tokio::test]
async fn tunnels_have_a_bound_of_their_own() {
    let backend = echo().await;
    let proxy = Setup::before(&backend)
        .limits("upgrade: { connections: 1 }")
        .upstream("in_flight: 1, queue: 0, wait: 0s")
        .start();
    let mut first = Client::connect(proxy.address).await;
    first.send(handshake()).await;
    first.answer().await;
    first.bytes(7).await;

    let mut second = Client::connect(proxy.address).await;
    second.send(handshake()).await;
    let refused = second.answer().await;

    assert_eq!(refused.refusal(), (503, "too_many_upgrades".to_owned()));
    assert_ne!(refused.field("retry-after"), "");
    assert_eq!(get(proxy.address, "/").await.text(), "plain", "a tunnel took the place of a request");
    drop(first);
    until_async("a place is free", || async {
        let mut client = Client::connect(proxy.address).await;
        client.send(handshake()).await;
        client.answer().await.status == 101
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_ends_when_either_side_leaves() {
    let backend = echo().await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;
    client.send(handshake()).await;
    client.answer().await;

    client.stream.set_zero_linger().unwrap();
    drop(client);

    crate::support::until("the backend is left", || backend.open() == 0).await;
    proxy.record().await;
}

/// What a server and what a client says with a close frame of status 1001 (RFC 6455 section 5.5.1); the mask is zero.
const GOING_AWAY: &[u8] = &[0x88, 0x02, 0x03, 0xE9];
const GOING_AWAY_MASKED: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9];

/// A backend that switches, says `said`, and keeps what it hears.
async fn talker(said: &'static [u8]) -> (Backend, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&heard);
    let backend = Backend::raw(move |mut stream, _| {
        let heard = Arc::clone(&keep);
        async move {
            let mut buffer = Vec::new();
            if read_head(&mut stream, &mut buffer).await.is_none() {
                return;
            }
            let _ = stream.write_all(SWITCH.as_bytes()).await;
            let _ = stream.write_all(said).await;
            let mut piece = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut piece).await {
                heard.lock().extend_from_slice(&piece[..read]);
            }
        }
    })
    .await;
    (backend, heard)
}

/// What both sides have heard when the process has ended: the client, and the backend.
async fn farewell(said: &'static [u8], sent: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (backend, heard) = talker(said).await;
    let mut proxy = Setup::before(&backend).top("drain", "{ delay: 0s, timeout: 300ms }").start();
    let mut client = Client::connect(proxy.address).await;
    client.send(handshake()).await;
    assert_eq!(client.answer().await.status, 101);
    client.stream.write_all(sent).await.unwrap();
    until("the backend has heard the client", || heard.lock().len() >= sent.len()).await;

    let stopping = proxy.stop();
    let rest = client.rest().await;
    tokio::task::spawn_blocking(move || stopping.join()).await.unwrap().unwrap();

    let heard = heard.lock().clone();
    (rest, heard)
}

#[tokio::test]
async fn between_two_frames_both_sides_are_told_that_the_process_leaves() {
    let (hello, masked): (&[u8], &[u8]) = (b"\x81\x02hi", b"\x81\x82\x01\x02\x03\x04ik");

    let (client, backend) = farewell(hello, masked).await;

    assert_eq!(client, [hello, GOING_AWAY].concat());
    assert_eq!(backend, [masked, GOING_AWAY_MASKED].concat());
}

#[tokio::test]
async fn nothing_is_put_into_the_middle_of_a_frame_or_behind_the_last_one() {
    let (cut, closed): (&[u8], &[u8]) = (b"\x82\x7dten bytes!", b"\x88\x80\x01\x02\x03\x04");

    let (client, backend) = farewell(cut, closed).await;

    assert_eq!(client, cut);
    assert_eq!(backend, closed);
}
