//! Clients' connections: kept, limited in number, and idle in great numbers.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    app::Setup,
    backend::{Backend, Step, ok, text},
    client::{Client, get, get_text, request_text},
    until, until_async,
};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|request| ok(&format!("{} {}", request.target(), request.body.len()))).await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;

    let mut all = String::new();
    for index in 0..50 {
        all.push_str(&get_text(&format!("/{index}"), &[]));
        all.push_str(&request_text("POST", &format!("/p{index}"), &[], &"x".repeat(index + 1)));
    }
    client.send(all).await;

    for index in 0..50 {
        assert_eq!(client.answer().await.text(), format!("/{index} 0"));
        assert_eq!(client.answer().await.text(), format!("/p{index} {}", index + 1));
    }
}

#[tokio::test]
async fn a_small_body_that_nobody_read_is_not_taken_for_a_request() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).routes("{ path: /denied, deny: true }").start();
    let mut client = Client::connect(proxy.address).await;

    let smuggled = get_text("/smuggled", &[]);
    client.send(request_text("POST", "/denied", &[], &smuggled)).await;
    let denied = client.answer().await;
    let next = client.get("/next").await;

    assert_eq!((denied.status, next.text().as_str()), (403, "hi"));
    assert_eq!(backend.request().target(), "/next");
}

#[tokio::test]
async fn a_connection_closes_after_its_last_request() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("requests: 3").start();
    let mut client = Client::connect(proxy.address).await;

    client.send(get_text("/", &[]).repeat(5)).await;
    let closes: Vec<String> = [client.answer().await, client.answer().await, client.answer().await]
        .iter()
        .map(|answer| answer.field("connection").to_owned())
        .collect();

    assert_eq!(closes, ["", "", "close"]);
    assert_eq!(client.rest().await, b"");
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_a_while() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("keep_alive: 150ms").start();
    let mut client = Client::connect(proxy.address).await;

    client.get("/").await;
    let start = Instant::now();

    assert_eq!(client.rest().await, b"");
    assert!(start.elapsed() >= Duration::from_millis(140) && start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_client_that_asks_for_a_close_gets_it() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;

    client.send(get_text("/", &["Connection: close"])).await;
    let answer = client.answer().await;

    assert_eq!((answer.text().as_str(), answer.field("connection")), ("hi", "close"));
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_thousand_idle_connections_do_not_keep_a_request_waiting() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("per_ip: 0").start();
    let mut idle = Vec::new();
    for index in 0..1000 {
        let mut client = Client::connect(proxy.address).await;
        // Some have served already, some are within a head, some said nothing.
        match index % 3 {
            0 => assert_eq!(client.get("/").await.status, 200),
            1 => client.send("GET / HTT").await,
            _ => {}
        }
        idle.push(client);
    }
    until_async("all are counted", || async {
        proxy.metric("touchline_net_connections", "ingress").await >= 1000.0
    })
    .await;

    let start = Instant::now();
    let answer = get(proxy.address, "/").await;

    assert_eq!(answer.status, 200);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    for client in idle.iter_mut().skip(1).step_by(3) {
        client.send("P/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("per_ip: 3").start();
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(proxy.address).await;
        client.get("/").await;
        held.push(client);
    }

    let mut fourth = Client::connect(proxy.address).await;
    fourth.try_send(get_text("/", &[])).await;
    assert!(fourth.try_answer(false).await.is_none());
    assert_eq!(proxy.metric("touchline_net_connections_turned_away_total", "ingress").await, 1.0);

    held.pop();
    until_async("a place is free", || async {
        let mut client = Client::connect(proxy.address).await;
        client.try_send(get_text("/", &[])).await && client.try_answer(false).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn all_clients_together_have_only_so_many_connections() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).limits("connections: 2, per_ip: 0").start();
    let mut held = [Client::connect(proxy.address).await, Client::connect(proxy.address).await];
    for client in &mut held {
        client.get("/").await;
    }

    let mut third = Client::connect(proxy.address).await;
    third.try_send(get_text("/", &[])).await;

    assert!(third.try_answer(false).await.is_none());
    assert_eq!(held[0].get("/").await.status, 200);
}

#[tokio::test]
async fn slow_clients_do_not_hold_up_the_others() {
    let backend = Backend::start(|request| match request.target() {
        "/big" => vec![Step::Send(text("200 OK", &[], &"x".repeat(4 << 20)).into_bytes())],
        _ => ok("hi"),
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(proxy.address).await;
        client.ask("/big").await;
        slow.push(client);
    }
    until("all are being served", || backend.count() == 20).await;

    let mut client = Client::connect(proxy.address).await;
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(client.get("/").await.text(), "hi");
    }

    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
