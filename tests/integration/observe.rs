//! `cache.mode: observe`: nothing changes but our own fields, and what the cache would have done is counted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, answer, ok, send},
    client::{Client, get, get_with, request},
    until, until_async,
};

const ADVISE: &str = "/api/v1/advise";

/// A proxy that observes everything, with one rule.
fn observing(backend: &Backend) -> Setup {
    Setup::before(backend).top("cache", "{ mode: observe }").cached("ttl: 1m")
}

/// What was found of a route; null if nothing.
async fn route(proxy: &Proxy, name: &str) -> Value {
    let advice = proxy.json(ADVISE).await;
    let routes = advice["routes"].as_array().unwrap();
    routes.iter().find(|route| route["route"] == name).cloned().unwrap_or_default()
}

async fn becomes(proxy: &Proxy, name: &str, member: &str, count: u64) {
    until_async(&format!("{name} has {count} {member}"), || async {
        route(proxy, name).await[member] == count
    })
    .await;
}

#[tokio::test]
async fn every_request_goes_on_and_every_answer_comes_back_as_it_is() {
    let body: String = (0..200_000).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
    let sent = body.clone();
    let fields =
        ["ETag: \"own\"", "Vary: Accept", "X-Cache-Status: theirs", "Content-Type: application/json"];
    let backend = Backend::start(move |_| answer("200 OK", &fields, &sent)).await;
    let proxy = observing(&backend).start();

    for _ in 0..3 {
        let seen = get_with(
            proxy.address,
            "/cached/a?x=1&y",
            &["If-None-Match: \"own\"", "Cookie: a=1", "X-Forwarded-Foo: 1"],
        )
        .await;

        assert_eq!((seen.status, seen.cache(), seen.text() == body), (200, "bypass", true));
        assert_eq!((seen.field("etag"), seen.fields("age").len()), ("\"own\"", 0));
    }
    let plain = get(proxy.address, "/cached/a").await;
    assert_eq!((plain.cache(), plain.detail()), ("bypass", "touchline; fwd=bypass; detail=observe"));
    assert_eq!(backend.count(), 4);
    for request in &backend.requests()[..3] {
        assert_eq!(request.target(), "/cached/a?x=1&y");
        assert_eq!((request.field("if-none-match"), request.field("cookie")), (Some("\"own\""), Some("a=1")));
    }
}

#[tokio::test]
async fn what_the_configuration_would_have_answered_is_counted() {
    let backend = Backend::start(|request| match request.target() {
        "/declared" => answer("200 OK", &["Cache-Control: max-age=60"], "hi"),
        "/cached/no" => answer("200 OK", &["Cache-Control: no-store"], "hi"),
        _ => ok("hi"),
    })
    .await;
    let proxy = observing(&backend).start();
    let hits = async |label: &str| proxy.metric("touchline_cache_would_hits_total", label).await;

    for target in ["/cached/a", "/cached/a", "/cached/b", "/cached/a", "/cached/no", "/cached/no"] {
        get(proxy.address, target).await;
    }
    for field in ["Authorization: Bearer x", "Cookie: a=1", "Range: bytes=0-0"] {
        get_with(proxy.address, "/cached/a", &[field]).await;
    }
    for _ in 0..3 {
        get(proxy.address, "/declared").await;
        get(proxy.address, "/silent").await;
    }
    request(proxy.address, "POST", "/cached/a", "x").await;
    proxy.records_of(16).await;

    assert_eq!(hits("route=\"/cached/{rest*}\"").await, 2.0);
    assert_eq!(hits("route=\"unmatched\"").await, 2.0, "what the backend declares counts without a rule");
    let found = route(&proxy, "/cached/{rest*}").await;
    assert_eq!(
        (&found["would_hits"], &found["requests"], &found["with_credentials"]),
        (&2.into(), &8.into(), &2.into())
    );
    assert_eq!((&found["methods"]["POST"], &found["refused"]["no_store"]), (&1.into(), &2.into()));
    assert_eq!((&found["named_by"], &found["incomparable"]), (&"configuration".into(), &1.into()));
    assert_eq!((&found["anonymous"]["keys"], &found["anonymous"]["repeats"]), (&3.into(), &3.into()));
    assert_eq!(proxy.metric("touchline_cache_hits_total", "").await, 0.0);
    assert_eq!(proxy.metric("touchline_cache_entries", "").await, 0.0);
}

#[tokio::test]
async fn wrong_answers_are_told_from_right_ones_by_what_they_say() {
    let count = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start(move |request| {
        let n = count.fetch_add(1, SeqCst);
        let json = "Content-Type: application/json";
        match request.target() {
            "/same" => answer("200 OK", &[json], &format!("{{\"a\":1,\"timestamp\":{n}}}")),
            "/other" => answer("200 OK", &[json], &format!("{{\"a\":{n},\"timestamp\":1}}")),
            _ => answer("200 OK", &["Content-Type: text/plain"], &format!("{{\"a\":1,\"timestamp\":{n}}}")),
        }
    })
    .await;
    let proxy = Setup::before(&backend).top("cache", "{ mode: observe }").start();

    for target in ["/same", "/other", "/text"] {
        for _ in 0..20 {
            get(proxy.address, target).await;
        }
    }

    let advice = proxy.json(ADVISE).await;
    assert_eq!((&advice["is_observing"], &advice["routes_not_shown"]), (&true.into(), &3.into()), "{advice}");
    for _ in 20..60 {
        for target in ["/same", "/other", "/text"] {
            get(proxy.address, target).await;
        }
    }
    for (target, wrong) in [("/same", 0), ("/other", 59), ("/text", 59)] {
        let found = route(&proxy, target).await;
        let day = &found["anonymous"]["ttls"][7];
        assert_eq!((&day["would_hits"], &day["wrong"]), (&59.into(), &wrong.into()), "{found}");
        assert_eq!((&found["named_by"], &found["would_hits"]), (&"guess".into(), &0.into()));
    }
}

#[tokio::test]
async fn users_are_told_apart_and_never_named() {
    let backend = Backend::start(|request| ok(request.field("authorization").unwrap_or("nobody"))).await;
    let proxy = observing(&backend).start();

    for n in 0..60 {
        let token = format!("Authorization: Bearer secret-{}", n % 3);
        get_with(proxy.address, "/cached/mine", &[&token]).await;
    }

    let advice = proxy.page(ADVISE).await.text() + &proxy.page(&format!("{ADVISE}?format=yaml")).await.text();
    assert!(!advice.contains("secret"), "{advice}");
    let found = route(&proxy, "/cached/{rest*}").await;
    assert_eq!((&found["per_user"]["keys"], &found["shared"]["keys"]), (&3.into(), &1.into()), "{found}");
    assert_eq!(found["per_user"]["identical_percent"], 100.0);
    assert_eq!(
        (&found["shared"]["users_compared"], &found["shared"]["users_differing"]),
        (&59.into(), &59.into())
    );
}

#[tokio::test]
async fn a_stream_passes_as_it_comes_and_is_counted_at_its_end() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let backend = Backend::start(move |_| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        let rest = "6\r\nsecond\r\n0\r\n\r\n";
        vec![Step::Send(head.into()), Step::Gate(Arc::clone(&waits)), Step::Send(rest.into())]
    })
    .await;
    let proxy = observing(&backend).start();
    let mut client = Client::connect(proxy.address).await;

    client.ask("/cached/a").await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"first", "it waits for nothing");
    assert_eq!(route(&proxy, "/cached/{rest*}").await, Value::Null);
    gate.add_permits(1);
    assert_eq!(client.chunk().await.unwrap(), b"second");
    assert_eq!(client.chunk().await.unwrap(), b"");

    becomes(&proxy, "/cached/{rest*}", "requests", 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_and_a_backend_that_cuts_leave_no_trace() {
    let backend = Backend::start(|request| match request.target() {
        "/cached/cut" => {
            vec![Step::Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".into()), Step::Close]
        }
        "/cached/slow" => {
            vec![Step::Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".into()), Step::Hang]
        }
        "/cached/open" => {
            vec![Step::Send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall".into()), Step::Close]
        }
        "/cached/error" => answer("500 Internal Server Error", &[], "no"),
        _ => ok("hi"),
    })
    .await;
    let proxy = observing(&backend).start();

    get(proxy.address, "/cached/ok").await;
    assert!(!get(proxy.address, "/cached/cut").await.is_whole);
    let mut client = Client::connect(proxy.address).await;
    client.ask("/cached/slow").await;
    client.head().await.unwrap();
    assert_eq!(client.bytes(4).await, b"half");
    drop(client);
    until("the backend notices", || backend.left().len() == 1).await;
    get(proxy.address, "/cached/open").await;
    for _ in 0..2 {
        get(proxy.address, "/cached/error").await;
    }

    becomes(&proxy, "/cached/{rest*}", "requests", 3).await;
    let found = route(&proxy, "/cached/{rest*}").await;
    assert_eq!((&found["anonymous"]["requests"], &found["incomparable"]), (&1.into(), &3.into()), "{found}");
    assert_eq!(found["statuses"], serde_json::json!({ "200": 1, "500": 2 }));
    assert_eq!(proxy.metric("touchline_cache_would_hits_total", "").await, 0.0);
}

#[tokio::test]
async fn a_confirmed_answer_counts_as_the_same() {
    let backend = Backend::start(|request| match request.field("if-none-match") {
        Some("\"one\"") => send("HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\n\r\n"),
        _ => answer("200 OK", &["ETag: \"one\""], "hi"),
    })
    .await;
    let proxy = observing(&backend).start();

    get(proxy.address, "/cached/a").await;
    for _ in 0..2 {
        let unchanged = get_with(proxy.address, "/cached/a", &["If-None-Match: \"one\""]).await;
        assert_eq!((unchanged.status, unchanged.cache()), (304, "bypass"));
    }

    let found = route(&proxy, "/cached/{rest*}").await;
    assert_eq!((&found["anonymous"]["repeats"], &found["would_hits"]), (&2.into(), &2.into()), "{found}");
    assert_eq!(found["anonymous"]["identical_percent"], 100.0);
}

#[tokio::test]
async fn one_route_may_observe_while_the_others_serve() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend)
        .routes(
            "{ path: /served, cache: { ttl: 1m } }, { path: /watched, cache: { ttl: 1m, mode: observe } }",
        )
        .start();

    for _ in 0..2 {
        get(proxy.address, "/served").await;
        get(proxy.address, "/watched").await;
    }

    assert_eq!(backend.count(), 3);
    assert_eq!(route(&proxy, "/watched").await["would_hits"], 1);
    assert_eq!(route(&proxy, "/served").await, Value::Null, "nothing is counted where nothing is observed");
    let yaml = proxy.page(&format!("{ADVISE}?format=yaml")).await.text();
    assert!(yaml.contains("# \"/watched\": not enough seen yet: 2 requests"), "{yaml}");
}

#[tokio::test]
async fn paths_without_a_route_are_observed_under_the_backends_own_templates() {
    let document = r#"{"openapi":"3.1.0","paths":{"/learned/{id}":{"get":{}}}}"#;
    let backend = Backend::start(
        move |request| if request.target() == "/openapi.json" { ok(document) } else { ok("hi") },
    )
    .await;
    let proxy =
        Setup::before(&backend).top("cache", "{ mode: observe }").ingress("openapi", "/openapi.json").start();

    until_async("the template is known", async || {
        get(proxy.address, "/learned/abc").await;
        route(&proxy, "/learned/{id}").await["named_by"] == "openapi"
    })
    .await;
}
