//! The operators' listeners beside a living proxy: readiness, drain, and what every answer carries.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, ok, text},
    client::{Answer, Client, get, get_text, get_with, raw, request, request_text},
    fault::{Faults, Mode},
    until, until_async, within,
};

async fn becomes(proxy: &Proxy, status: u16) {
    until_async(&format!("/readyz says {status}"), || async { proxy.page("/readyz").await.status == status })
        .await;
}

#[tokio::test]
async fn readiness_follows_the_backend() {
    let backend = Backend::start(|_| ok("hi")).await;
    let faults = Faults::before(backend.address).await;
    faults.set(Mode::Refuse).await;
    let proxy = Setup::at(faults.address)
        .top("admin", "{ listen: \"127.0.0.1:0\", readiness: { failures: 1 } }")
        .start();

    becomes(&proxy, 503).await;
    assert_eq!(proxy.page("/livez").await.status, 200);
    faults.set(Mode::Pass).await;
    becomes(&proxy, 200).await;
    faults.set(Mode::Refuse).await;
    becomes(&proxy, 503).await;
}

#[tokio::test]
async fn readiness_without_the_backend_is_the_proxys_own() {
    let address = crate::support::backend::listen("127.0.0.1:0".parse().unwrap()).local_addr().unwrap();
    let proxy =
        Setup::at(address).top("admin", "{ listen: \"127.0.0.1:0\", readiness: { backend: false } }").start();

    assert_eq!(proxy.page("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_drain_finishes_requests_and_sends_clients_away() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let waits = std::sync::Arc::clone(&gate);
    let backend = Backend::start(move |request| {
        let answer = Step::Send(text("200 OK", &[], "whole").into_bytes());
        if request.target() == "/slow" {
            vec![Step::Gate(std::sync::Arc::clone(&waits)), answer]
        } else {
            vec![answer]
        }
    })
    .await;
    let mut proxy = Setup::before(&backend).top("drain", "{ delay: 300ms, timeout: 5s }").start();
    becomes(&proxy, 200).await;
    let mut slow = Client::connect(proxy.address).await;
    slow.ask("/slow").await;
    let mut idle = Client::connect(proxy.address).await;
    idle.get("/").await;
    let mut busy = Client::connect(proxy.address).await;
    busy.get("/").await;
    until("the slow one is at the backend", || backend.count() == 3).await;

    assert_eq!(proxy.post("/drain", "").await.status, 200);
    assert_eq!(proxy.page("/readyz").await.status, 503);
    let stopping = proxy.stop();
    let late = get(proxy.address, "/").await;
    let last = busy.get("/").await;

    assert_eq!((late.status, late.field("connection")), (200, "close"), "new connections are still served");
    assert_eq!((last.status, last.field("connection")), (200, "close"));
    assert_eq!(idle.rest().await, b"", "idle connections close");
    gate.add_permits(1);
    assert_eq!(slow.answer().await.text(), "whole");
    within("the end", tokio::task::spawn_blocking(move || stopping.join())).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(proxy.address).await.is_err());
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_end_in_time() {
    let backend = Backend::start(|_| vec![Step::Hang]).await;
    let mut proxy = Setup::before(&backend).top("drain", "{ delay: 0s, timeout: 200ms }").start();
    let mut client = Client::connect(proxy.address).await;
    client.ask("/").await;
    until("the request is at the backend", || backend.count() == 1).await;

    let start = tokio::time::Instant::now();
    let stopping = proxy.stop();
    within("the end", tokio::task::spawn_blocking(move || stopping.join())).await.unwrap().unwrap();

    assert!(start.elapsed() >= Duration::from_millis(190) && start.elapsed() < Duration::from_secs(3));
    assert!(client.try_answer(false).await.is_none());
}

fn carries_its_marks(what: &str, answer: &Answer) {
    let time = answer.field("x-response-time");
    let number = time.strip_suffix("ms").unwrap_or_else(|| panic!("{what}: {}", answer.head));
    assert!(number.parse::<f64>().is_ok() && number.split_once('.').unwrap().1.len() == 2, "{what}: {time}");
    let status = answer.cache();
    assert!(["hit", "miss", "stale", "revalidated", "bypass"].contains(&status), "{what}: {}", answer.head);
    assert!(answer.detail().starts_with("touchline"), "{what}: {}", answer.head);
    assert_eq!(answer.fields("date").len(), 1, "{what}: {}", answer.head);
}

#[tokio::test]
async fn every_answer_carries_its_time_and_what_the_cache_did() {
    let backend = Backend::start(|request| match request.target() {
        "/close" => vec![Step::Close],
        "/garbage" => crate::support::backend::send("nonsense\r\n\r\n"),
        "/own" => {
            crate::support::backend::answer("200 OK", &["X-Response-Time: 5ms", "X-Cache-Status: HIT"], "hi")
        }
        _ => ok("hi"),
    })
    .await;
    let proxy = Setup::before(&backend)
        .limits("body: 10B, header_timeout: 200ms")
        .upstream("breaker: { enabled: false }")
        .top("admin", "{ listen: \"127.0.0.1:0\", on_ingress: [performance] }")
        .routes("{ path: /denied, deny: true }, { path: /cached, cache: { ttl: 1m } }")
        .start();
    let address = proxy.address;

    for target in [
        "/",
        "/own",
        "/close",
        "/garbage",
        "/denied",
        "/cached",
        "/cached",
        "/performance/metrics",
        "/performance/health",
    ] {
        carries_its_marks(target, &get(address, target).await);
    }
    carries_its_marks("head", &raw(address, request_text("HEAD", "/cached", &[], "")).await);
    carries_its_marks("304", &get_with(address, "/cached", &["If-None-Match: *"]).await);
    carries_its_marks("post", &request(address, "POST", "/", "x").await);
    carries_its_marks("413", &request(address, "POST", "/", "more than ten").await);
    for bytes in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET / HT",
    ] {
        carries_its_marks(bytes, &raw(address, bytes).await);
    }
    assert_eq!(get(address, "/own").await.cache(), "miss", "the backend's own mark is replaced");
}

#[tokio::test]
async fn the_operators_paths_belong_to_the_backend_on_the_ingress_port() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let proxy = Setup::before(&backend).start();

    for path in
        ["/metrics", "/readyz", "/performance/metrics", "/performance/cache/clear", "/cache/purge", "/drain"]
    {
        assert_eq!(get(proxy.address, path).await.text(), path);
    }
}

#[tokio::test]
async fn operators_are_served_while_the_ingress_is_full() {
    let backend = Backend::start(|_| vec![Step::Hang]).await;
    let proxy = Setup::before(&backend)
        .limits("connections: 10, per_ip: 0")
        .upstream("in_flight: 5, queue: 0")
        .start();
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(proxy.address).await;
        client.ask("/").await;
        held.push(client);
    }
    until("the backend is full", || backend.count() == 5).await;

    for path in
        ["/livez", "/metrics", "/performance/metrics", "/performance/cache/stats", "/performance/health", "/"]
    {
        assert_eq!(proxy.page(path).await.status, 200, "{path}");
    }
    assert_eq!(proxy.metric("touchline_net_requests_in_flight", "ingress").await, 5.0);
}

#[tokio::test]
async fn writes_from_the_admin_side_need_the_control_token() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend)
        .top("control", "{ listen: \"127.0.0.1:0\", token: hunter2 }")
        .cached("ttl: 1m")
        .start();
    get(proxy.address, "/cached/a").await;
    let clear = |token: &str| {
        let line = format!("Authorization: Bearer {token}");
        request_text("POST", "/performance/cache/clear", &[&line, "Content-Length: 0"], "")
            .replace("coach.example", "localhost")
    };

    assert_eq!(raw(proxy.admin, clear("wrong")).await.status, 403);
    assert_eq!(proxy.post("/performance/cache/clear", "").await.status, 401);
    assert_eq!(get(proxy.address, "/cached/a").await.cache(), "hit");
    assert_eq!(raw(proxy.control, clear("hunter2")).await.status, 200);
    assert_eq!(get(proxy.address, "/cached/a").await.cache(), "miss");
    assert_eq!(raw(proxy.control, get_text("/drain", &[])).await.status, 421, "a foreign name");
}

#[tokio::test]
async fn the_most_used_keys_are_told_without_naming_users() {
    let backend = Backend::start(|_| ok("hi")).await;
    let routes = "{ path: \"/user/{id}\", cache: { ttl: 1m } }, { path: /all, cache: { ttl: 1m } }";
    let keys = async |proxy: &Proxy| {
        let stats = proxy.json("/performance/cache/stats").await;
        let keys = stats["top_keys"].as_array().unwrap().clone();
        for key in &keys {
            assert!(key["bytes"].as_u64().unwrap() > 2 && key["ttl_s"].as_i64().unwrap() > 50, "{key}");
        }
        let pair = |key: &Value| (key["key"].as_str().unwrap().to_owned(), key["hits"].as_u64().unwrap());
        keys.iter().map(pair).collect::<Vec<_>>()
    };
    for (paths, user) in [("template", "/user/{id}"), ("masked", "/user/7f3a…"), ("full", "/user/7f3a9c0142")]
    {
        let admin = format!("{{ listen: \"127.0.0.1:0\", paths: {paths} }}");
        let proxy = Setup::before(&backend).routes(routes).top("admin", &admin).start();
        for (target, times) in [("/user/7f3a9c0142", 3), ("/all?token=x", 6), ("/never", 4)] {
            for _ in 0..times {
                get(proxy.address, target).await;
            }
        }
        assert_eq!(keys(&proxy).await, [("/all?…".to_owned(), 5), (user.to_owned(), 2)]);

        proxy.post("/cache/purge", "{\"url\":\"/user/7f3a9c0142\"}").await;
        assert_eq!(keys(&proxy).await, [("/all?…".to_owned(), 5)]);
        proxy.post("/performance/cache/clear", "").await;
        assert_eq!(keys(&proxy).await, []);
    }
}
