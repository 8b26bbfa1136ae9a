//! Breaker and bulkhead: what keeps a backend in trouble from more of it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::Instant};

use crate::support::{
    app::Setup,
    backend::{Backend, Step, ok, text},
    client::{get, request},
    fault::{Faults, Mode},
    spawn, until, until_async,
};

#[tokio::test]
async fn the_breaker_opens_answers_at_once_and_closes_again() {
    let backend = Backend::start(|_| ok("hi")).await;
    let faults = Faults::before(backend.address).await;
    let proxy = Setup::at(faults.address)
        .upstream("retries: 0, breaker: { failures: 3, window: 5s, open: 300ms, open_max: 600ms }")
        .start();
    faults.set(Mode::Refuse).await;

    for _ in 0..3 {
        assert_eq!(get(proxy.address, "/").await.refusal(), (502, "connect_failed".to_owned()));
    }
    let start = Instant::now();
    let open = get(proxy.address, "/").await;

    assert_eq!(open.refusal(), (503, "breaker_open".to_owned()));
    assert_ne!(open.field("retry-after"), "");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(proxy.metric("touchline_upstream_breaker_opened_total", "").await, 1.0);

    faults.set(Mode::Pass).await;
    until_async("the breaker is closed", || async { get(proxy.address, "/").await.status == 200 }).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

#[tokio::test]
async fn statuses_of_the_backend_do_not_open_the_breaker() {
    let backend =
        Backend::start(|_| crate::support::backend::answer("503 Service Unavailable", &[], "busy")).await;
    let proxy = Setup::before(&backend).upstream("breaker: { failures: 2, window: 10s }").start();

    for _ in 0..10 {
        assert_eq!(get(proxy.address, "/").await.text(), "busy");
    }
    assert_eq!(backend.count(), 10);
}

#[tokio::test]
async fn a_half_open_breaker_lets_one_request_through() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let backend = Backend::start(move |_| {
        vec![Step::Gate(Arc::clone(&waits)), Step::Send(text("200 OK", &[], "hi").into_bytes())]
    })
    .await;
    let faults = Faults::before(backend.address).await;
    let proxy = Setup::at(faults.address)
        .upstream("retries: 0, breaker: { failures: 1, window: 5s, open: 200ms, open_max: 5s }")
        .start();
    faults.set(Mode::Refuse).await;
    get(proxy.address, "/").await;
    faults.set(Mode::Pass).await;

    let address = proxy.address;
    let probe = spawn(async move {
        loop {
            let answer = get(address, "/probe").await;
            if answer.status == 200 {
                return answer.text();
            }
        }
    });
    until("the probe is at the backend", || backend.open() > 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let beside = get(proxy.address, "/").await;
    gate.add_permits(100);

    assert_eq!(beside.refusal(), (503, "breaker_open".to_owned()));
    assert_eq!(probe.await.unwrap(), "hi");
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

/// A backend that answers when the test lets it.
async fn gated() -> (Backend, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let backend = Backend::start(move |request| {
        let mut script = vec![Step::Send(text("200 OK", &[], "hi").into_bytes())];
        if request.target() != "/free" {
            script.insert(0, Step::Gate(Arc::clone(&waits)));
        }
        script
    })
    .await;
    (backend, gate)
}

#[tokio::test]
async fn a_full_queue_is_a_503_with_patience() {
    let (backend, gate) = gated().await;
    let proxy = Setup::before(&backend).upstream("in_flight: 2, queue: 2, wait: 5s").start();
    let address = proxy.address;
    let waiting: Vec<_> = (0..4).map(|_| spawn(async move { get(address, "/").await.status })).collect();
    until_async("two wait", || async { proxy.metric("touchline_upstream_requests_queued", "").await == 2.0 })
        .await;

    let start = Instant::now();
    let refused = get(proxy.address, "/").await;
    let took = start.elapsed();
    gate.add_permits(4);

    assert_eq!(refused.refusal(), (503, "overload".to_owned()));
    assert_ne!(refused.field("retry-after"), "");
    assert!(took < Duration::from_millis(100), "{took:?}");
    for request in waiting {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(backend.count(), 4);
}

#[tokio::test]
async fn a_wait_in_the_queue_ends_at_its_deadline() {
    let (backend, gate) = gated().await;
    let proxy = Setup::before(&backend).upstream("in_flight: 1, queue: 10, wait: 100ms").start();
    let address = proxy.address;
    let first = spawn(async move { get(address, "/").await.status });
    until("the first is at the backend", || backend.count() == 1).await;

    let start = Instant::now();
    let second = get(proxy.address, "/").await;
    gate.add_permits(1);

    assert_eq!(second.refusal(), (503, "overload".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert_eq!(first.await.unwrap(), 200);
}

#[tokio::test]
async fn a_slow_route_with_a_bound_of_its_own_leaves_the_others_alone() {
    let (backend, gate) = gated().await;
    let proxy = Setup::before(&backend)
        .upstream("in_flight: 2, queue: 0, wait: 0s")
        .routes("{ path: /slow, in_flight: 1 }")
        .start();
    let address = proxy.address;
    let slow = spawn(async move { get(address, "/slow").await.status });
    until("the slow one is at the backend", || backend.count() == 1).await;

    let second_slow = get(proxy.address, "/slow").await;
    let other = get(proxy.address, "/free").await;
    gate.add_permits(1);

    assert_eq!(second_slow.refusal(), (503, "overload".to_owned()));
    assert_eq!(other.status, 200);
    assert_eq!(slow.await.unwrap(), 200);
}

#[tokio::test]
async fn a_place_at_the_backend_is_free_again_after_every_kind_of_end() {
    let backend = Backend::start(|request| match request.target() {
        "/close" => vec![Step::Close],
        "/cut" => vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()), Step::Close],
        "/hang" => vec![Step::Hang],
        "/garbage" => crate::support::backend::send("nonsense\r\n\r\n"),
        _ => ok("hi"),
    })
    .await;
    let proxy = Setup::before(&backend)
        .upstream("in_flight: 1, queue: 0, wait: 0s, first_byte: 100ms, breaker: { enabled: false }")
        .start();

    for target in ["/close", "/cut", "/hang", "/garbage", "/"] {
        get(proxy.address, target).await;
        let next = request(proxy.address, "POST", "/after", "x").await;

        assert_eq!(next.status, 200, "after {target}");
    }
}
