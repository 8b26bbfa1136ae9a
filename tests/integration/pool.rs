//! Connections to the backend: used again, found stale, repeated safely or not at all.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    app::Setup,
    backend::{Backend, Step, ok, read_head, text},
    client::{Client, get, request},
    spawn, until, until_async,
};

#[tokio::test]
async fn connections_to_the_backend_are_used_again() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();

    for _ in 0..20 {
        assert_eq!(get(proxy.address, "/").await.status, 200);
    }

    assert_eq!(backend.used(), 1);
    assert_eq!(proxy.metric("touchline_upstream_reused_total", "").await, 19.0);
}

#[tokio::test]
async fn an_answer_that_says_close_costs_its_connection() {
    let backend = Backend::start(|_| {
        vec![
            Step::Send(text("200 OK", &["Connection: close"], "hi").into_bytes()),
            Step::Wait(Duration::from_secs(1)),
        ]
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;

    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "hi");
    }

    assert_eq!(backend.used(), 3);
}

#[tokio::test]
async fn idle_connections_are_closed_before_the_backend_would() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).upstream("idle: 150ms").start();

    get(proxy.address, "/").await;
    until("the idle connection is closed", || backend.open() == 0).await;
    get(proxy.address, "/").await;

    assert_eq!(backend.used(), 2);
}

/// Serves a connection for a few milliseconds between requests and then closes it, as backends do that are in a hurry.
async fn closing_backend() -> Backend {
    Backend::raw(|mut stream, connection| async move {
        let mut buffer = Vec::new();
        let mut patience = Duration::from_secs(10);
        loop {
            let head = tokio::time::timeout(patience, read_head(&mut stream, &mut buffer)).await;
            if !matches!(head, Ok(Some(_)))
                || stream.write_all(text("200 OK", &[], "hi").as_bytes()).await.is_err()
            {
                return;
            }
            patience = Duration::from_micros(500 + 700 * (connection as u64 % 7));
        }
    })
    .await
}

#[tokio::test]
async fn a_backend_that_closes_idle_connections_costs_no_request() {
    let backend = closing_backend().await;
    let proxy = Setup::before(&backend).start();

    let clients = (0..4).map(|index| {
        let address = proxy.address;
        spawn(async move {
            let mut client = Client::connect(address).await;
            let mut failed = Vec::new();
            for round in 0..2500_u64 {
                let answer = client.get("/").await;
                if answer.status != 200 || answer.text() != "hi" {
                    failed.push(answer.text());
                }
                if round % 8 == index {
                    tokio::time::sleep(Duration::from_micros(round % 23 * 300)).await;
                }
            }
            failed
        })
    });
    let mut failed = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        failed.extend(client.await.unwrap());
    }

    assert_eq!(failed, Vec::<String>::new(), "of 10,000");
    assert!(backend.accepted() > 20, "{} connections: nothing was closed", backend.accepted());
}

/// A backend whose connections all die with their second request, before a byte of an answer.
async fn forgetful_backend() -> Backend {
    Backend::start(|request| if request.nth == 0 { ok("hi") } else { vec![Step::Close] }).await
}

/// Puts `count` connections into the pool.
async fn fill_pool(proxy: &crate::support::app::Proxy, backend: &Backend, count: usize) {
    let requests: Vec<_> = (0..count)
        .map(|_| {
            let address = proxy.address;
            spawn(async move { get(address, "/slow").await.status })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(backend.used(), count);
}

#[tokio::test]
async fn a_stale_connection_is_repeated_on_a_new_one() {
    let backend = Backend::start(|request| match (request.nth, request.target()) {
        (0, "/slow") => {
            vec![Step::Wait(Duration::from_millis(100)), Step::Send(text("200 OK", &[], "").into_bytes())]
        }
        (0, _) => ok("hi"),
        _ => vec![Step::Close],
    })
    .await;
    let proxy = Setup::before(&backend).start();
    fill_pool(&proxy, &backend, 4).await;

    // All connections in the pool are stale, so a repetition on one of them would fail too.
    let answer = get(proxy.address, "/").await;

    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
    assert_eq!(proxy.metric("touchline_upstream_retries_total", "").await, 1.0);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let backend = forgetful_backend().await;
    let proxy = Setup::before(&backend).start();

    get(proxy.address, "/").await;
    let answer = request(proxy.address, "POST", "/order", "one").await;

    assert_eq!(answer.refusal(), (502, "upstream_closed".to_owned()));
    let orders = backend.requests().iter().filter(|request| request.method() == "POST").count();
    assert_eq!(orders, 1);
    assert_eq!(proxy.metric("touchline_upstream_retries_total", "").await, 0.0);
}

#[tokio::test]
async fn posts_beside_a_closing_backend_arrive_at_most_once() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let orders = Arc::clone(&seen);
    let backend = Backend::raw(move |mut stream, _| {
        let orders = Arc::clone(&orders);
        async move {
            let mut buffer = Vec::new();
            let mut patience = Duration::from_secs(10);
            loop {
                let head = tokio::time::timeout(patience, read_head(&mut stream, &mut buffer)).await;
                let Ok(Some(head)) = head else { return };
                while buffer.is_empty() && stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {}
                buffer.clear();
                patience = Duration::from_millis(2);
                orders.lock().push(head.lines().next().unwrap().to_owned());
                if stream.write_all(text("200 OK", &[], "hi").as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let proxy = Setup::before(&backend).upstream("breaker: { enabled: false }").start();
    let mut client = Client::connect(proxy.address).await;

    let mut served = 0;
    for order in 0..600_u64 {
        let text = crate::support::client::request_text("POST", &format!("/{order}"), &[], "x");
        client.send(text).await;
        served += usize::from(client.answer().await.status == 200);
        tokio::time::sleep(Duration::from_micros(order % 5 * 600)).await;
    }

    let seen = seen.lock().clone();
    let distinct: HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "an order arrived twice");
    assert!(seen.len() >= served && served >= 500, "{served} served");
}

#[tokio::test]
async fn a_held_body_may_be_repeated_with_a_method_that_allows_it() {
    let backend = forgetful_backend().await;
    let proxy = Setup::before(&backend).start();

    get(proxy.address, "/").await;
    let empty = request(proxy.address, "DELETE", "/a", "").await;

    assert_eq!(empty.status, 200);
    let lines: Vec<String> = backend.requests().iter().map(|request| request.line().to_owned()).collect();
    assert_eq!(lines, ["GET / HTTP/1.1", "DELETE /a HTTP/1.1", "DELETE /a HTTP/1.1"]);
}

#[tokio::test]
async fn repetitions_stay_within_their_budget() {
    // Every other request meets a connection that has just died.
    let backend = forgetful_backend().await;
    let proxy =
        Setup::before(&backend).upstream("retry_budget_percent: 20, breaker: { enabled: false }").start();
    let mut client = Client::connect(proxy.address).await;

    let mut failed = 0;
    for _ in 0..200 {
        failed += usize::from(client.get("/").await.status == 502);
    }

    let retries = proxy.metric("touchline_upstream_retries_total", "").await;
    let denied = proxy.metric("touchline_upstream_retries_denied_total", "").await;
    assert!((40.0..=50.0).contains(&retries), "{retries}");
    assert!(denied >= 40.0 && denied == f64::from(u32::try_from(failed).unwrap()), "{denied} {failed}");
}

#[tokio::test]
async fn connections_live_no_longer_than_allowed() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).upstream("idle: 50ms, lifetime: 100ms").start();

    until_async("a second connection", || async {
        get(proxy.address, "/").await;
        backend.used() > 1
    })
    .await;
}
