//! What clients see when the backend is down, slow, broken or lying.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::Instant,
};

use crate::support::{
    app::Setup,
    backend::{Backend, Script, Step, listen, ok, send, text},
    client::{Client, get, request},
    fault::{Faults, Mode},
};

fn closed_port() -> SocketAddr {
    listen("127.0.0.1:0".parse().unwrap()).local_addr().unwrap()
}

#[tokio::test]
async fn a_backend_that_is_down_is_a_502_at_once() {
    let proxy = Setup::at(closed_port()).start();

    let start = Instant::now();
    let answer = get(proxy.address, "/").await;

    assert_eq!(answer.refusal(), (502, "connect_failed".to_owned()));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(answer.field("content-type"), "application/problem+json");
    assert_eq!(answer.field("cache-control"), "no-store");
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
}

#[tokio::test]
async fn a_backend_that_does_not_accept_is_a_504_at_the_deadline() {
    // A full queue of connections makes the kernel drop further ones.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        held.push(stream);
    }
    let proxy = Setup::at(address).upstream("connect: 150ms, retries: 0").start();

    let start = Instant::now();
    let answer = get(proxy.address, "/").await;

    assert_eq!(answer.refusal(), (504, "connect_timeout".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_slow_backend_is_a_504_at_the_deadline_and_is_left() {
    let backend = Backend::start(|_| vec![Step::Hang]).await;
    let proxy = Setup::before(&backend)
        .upstream("first_byte: 150ms")
        .routes("{ path: /patient, first_byte: 400ms }")
        .start();

    let start = Instant::now();
    let answer = get(proxy.address, "/").await;
    let took = start.elapsed();
    let start = Instant::now();
    get(proxy.address, "/patient").await;

    assert_eq!(answer.refusal(), (504, "upstream_timeout".to_owned()));
    assert!(took >= Duration::from_millis(150) && took < Duration::from_millis(390), "{took:?}");
    assert!(start.elapsed() >= Duration::from_millis(400));
    crate::support::until("the backend is left", || backend.left().len() == 2).await;
    assert_eq!(backend.count(), 2, "a slow answer was asked for again");
}

#[tokio::test]
async fn answers_that_break_the_grammar_are_a_502_and_cost_their_connection() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(64 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "A: b\r\n".repeat(101));
    let cases: Vec<String> = [
        "garbage\r\n\r\n",
        "\0\u{1}\u{2}",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Header: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        long.as_str(),
        many.as_str(),
    ]
    .map(str::to_owned)
    .into();
    let count = cases.len();
    let backend =
        Backend::start(move |request| send(cases[request.target()[1..].parse::<usize>().unwrap()].clone()))
            .await;
    let proxy = Setup::before(&backend).upstream("breaker: { enabled: false }, first_byte: 2s").start();
    let mut client = Client::connect(proxy.address).await;

    for case in 0..count {
        let answer = client.get(&format!("/{case}")).await;

        assert_eq!(answer.refusal(), (502, "bad_upstream_response".to_owned()), "case {case}");
    }
    assert_eq!(backend.used(), count, "a connection was used again");
}

#[tokio::test]
async fn a_connection_that_ends_before_a_head_is_a_502() {
    let scripts: [Script; 4] = [
        vec![Step::Close],
        vec![Step::Reset],
        vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Step::Close],
        vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Step::Reset],
    ];
    let backend =
        Backend::start(move |request| scripts[request.target()[1..].parse::<usize>().unwrap()].clone()).await;
    let proxy = Setup::before(&backend).upstream("breaker: { enabled: false }").start();

    for case in 0..4 {
        let answer = get(proxy.address, &format!("/{case}")).await;

        assert_eq!(answer.refusal(), (502, "upstream_closed".to_owned()), "case {case}");
    }
    assert_eq!(backend.count(), 4, "a request was sent twice on a fresh connection");
}

#[tokio::test]
async fn a_body_that_is_cut_shows_as_a_cut_and_is_not_cached() {
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
    let cut = [
        format!("{head}Content-Length: 10\r\n\r\nabc"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nabc"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
    ];
    let backend = Backend::start(move |request| {
        let (case, end) = request.target()[1..].split_once('-').unwrap();
        let end = if end == "reset" { Step::Reset } else { Step::Close };
        let first = cut[case.parse::<usize>().unwrap()].clone();
        // The head goes first, so that a reset cannot overtake it.
        vec![Step::Send(first.into_bytes()), Step::Wait(Duration::from_millis(30)), end]
    })
    .await;
    let proxy = Setup::before(&backend).upstream("breaker: { enabled: false }").start();

    for case in 0..4 {
        for end in ["close", "reset"] {
            for round in 0..2 {
                let mut client = Client::connect(proxy.address).await;
                let answer = client.get(&format!("/{case}-{end}")).await;

                assert_eq!((answer.status, answer.is_whole), (200, false), "{case} {end} {round}");
                assert_eq!(answer.cache(), "miss", "{case} {end} {round}");
                assert_eq!(client.rest().await, b"", "{case} {end}");
            }
        }
    }
    assert_eq!(backend.count(), 16);
    let records = proxy.records_of(16).await;
    assert!(records.iter().all(|record| record["outcome"] == "upstream_abort"), "{records:#?}");
}

#[tokio::test]
async fn malformed_chunks_of_the_backend_show_as_a_cut() {
    let backend = Backend::start(|request| {
        let head =
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        let bad = ["0x1\r\na\r\n0\r\n\r\n", "1\r\nab\r\n0\r\n\r\n", "-1\r\n\r\n", "zz\r\n"];
        send(format!("{head}{}", bad[request.target()[1..].parse::<usize>().unwrap()]))
    })
    .await;
    let proxy = Setup::before(&backend).start();

    for case in 0..4 {
        for _ in 0..2 {
            let answer = get(proxy.address, &format!("/{case}")).await;

            assert_eq!((answer.status, answer.is_whole, answer.cache()), (200, false, "miss"), "case {case}");
        }
    }
}

#[tokio::test]
async fn bytes_after_an_answer_never_become_part_of_the_next_one() {
    let evil = text("200 OK", &[], "evil");
    let backend = Backend::start(move |request| match request.target() {
        "/longer" => send(format!("{}{evil}", text("200 OK", &[], "abc"))),
        "/204" => send(format!("HTTP/1.1 204 No Content\r\n\r\n{evil}")),
        "/304" => send(format!("HTTP/1.1 304 Not Modified\r\n\r\n{evil}")),
        "/chunked" => send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}")),
        _ => ok("good"),
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;

    for target in ["/longer", "/204", "/304", "/chunked"] {
        client.ask(target).await;
        let first = client.answer().await;
        let second = client.get("/good").await;

        assert!(first.is_whole && !first.text().contains("evil"), "{target}");
        assert_eq!(second.text(), "good", "{target}");
    }
}

#[tokio::test]
async fn a_close_delimited_answer_is_passed_on_whole() {
    let backend =
        Backend::start(|_| vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec()), Step::Close])
            .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    for status in ["miss", "bypass"] {
        let answer = get(proxy.address, "/cached/a").await;

        assert_eq!((answer.text().as_str(), answer.is_whole, answer.cache()), ("to the end", true, status));
    }
}

#[tokio::test]
async fn a_backend_that_stops_in_its_body_is_given_up() {
    let backend = Backend::start(|_| {
        vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()), Step::Hang]
    })
    .await;
    let proxy = Setup::before(&backend).upstream("body_idle: 150ms").start();

    let start = Instant::now();
    let answer = get(proxy.address, "/").await;

    assert_eq!((answer.text().as_str(), answer.is_whole), ("abc", false));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(proxy.record().await["outcome"], "upstream_abort");
}

#[tokio::test]
async fn an_answer_that_trickles_in_is_whole() {
    let backend = Backend::start(|_| {
        vec![Step::Trickle(text("200 OK", &[], "slow but sure").into_bytes(), Duration::from_millis(1))]
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let answer = get(proxy.address, "/").await;

    assert_eq!((answer.text().as_str(), answer.is_whole), ("slow but sure", true));
}

#[tokio::test]
async fn the_proxy_recovers_when_the_network_does() {
    let backend = Backend::start(|_| ok(&"x".repeat(2000))).await;
    let faults = Faults::before(backend.address).await;
    let proxy = Setup::at(faults.address)
        .upstream("first_byte: 200ms, body_idle: 200ms, breaker: { enabled: false }")
        .start();
    let modes = [
        (Mode::Refuse, Some(502)),
        (Mode::Hang, Some(504)),
        (Mode::Cut(20), Some(502)),
        (Mode::Reset(20), Some(502)),
        (Mode::Cut(1000), None),
        (Mode::Reset(1000), None),
    ];
    for (mode, status) in modes {
        faults.set(mode).await;
        let failed = get(proxy.address, "/").await;
        faults.set(Mode::Pass).await;
        let good = get(proxy.address, "/").await;

        assert_eq!(failed.status, status.unwrap_or(200), "{mode:?}");
        assert_eq!(failed.is_whole, status.is_some(), "{mode:?}");
        assert_eq!((good.status, good.is_whole, good.body.len()), (200, true, 2000), "{mode:?}");
    }
    let patient = Setup::at(faults.address).start();
    for mode in [Mode::Latency(Duration::from_millis(20)), Mode::Trickle(Duration::from_micros(10))] {
        faults.set(mode).await;

        assert_eq!(request(patient.address, "POST", "/", "body").await.body.len(), 2000, "{mode:?}");
    }
}
