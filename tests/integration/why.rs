//! What an answer says about itself: each situation with its `X-Cache-Status` and its member of `Cache-Status`, to the
//! letter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Script, Step, answer, ok, text},
    client::{Answer, get, get_with, raw, request, request_text},
    fault::{Faults, Mode},
    spawn, until, until_async,
};

/// Compares both fields; `#` in the expected text stands for a number.
fn says(answer: &Answer, status: &str, member: &str) {
    let found = answer.detail();
    let mut plain = String::new();
    let mut parts = member.split('#');
    let mut rest = found;
    if let Some(first) = parts.next() {
        plain.push_str(first);
        rest = rest.strip_prefix(first).unwrap_or("\0");
    }
    for part in parts {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        rest = rest.strip_prefix(part).unwrap_or("\0");
    }
    assert!(rest.is_empty(), "expected {member:?}, found {found:?}");
    assert_eq!(answer.cache(), status, "{found}");
}

/// A backend that answers in this way to all.
async fn always(status: &'static str, fields: &'static [&'static str]) -> Backend {
    Backend::start(move |_| answer(status, fields, "0123456789")).await
}

#[tokio::test]
async fn a_fresh_entry_is_a_hit_whole_in_part_or_unchanged() {
    let backend = always("200 OK", &["ETag: \"one\""]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    says(&get(proxy.address, "/cached/a").await, "miss", "touchline; fwd=uri-miss; fwd-status=200; stored");

    for (field, status) in [
        ("X-Any: 1", 200),
        ("Range: bytes=0-1", 206),
        ("Range: bytes=99-", 416),
        ("If-None-Match: \"one\"", 304),
    ] {
        let hit = get_with(proxy.address, "/cached/a", &[field]).await;
        assert_eq!(hit.status, status, "{field}");
        says(&hit, "hit", "touchline; hit; ttl=#");
    }
    let head = raw(proxy.address, request_text("HEAD", "/cached/a", &[], "")).await;
    says(&head, "hit", "touchline; hit; ttl=#");
}

#[tokio::test]
async fn who_gets_the_fetch_of_another_is_told_so() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let backend = Backend::start(move |_| {
        vec![Step::Gate(Arc::clone(&opened)), Step::Send(text("200 OK", &[], "body").into())]
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    let address = proxy.address;

    let leader = spawn(async move { get(address, "/cached/a").await });
    until("the leader's fetch has begun", || backend.count() == 1).await;
    let follower = spawn(async move { get(address, "/cached/a").await });
    until_async("the follower waits", || async {
        proxy.metric("touchline_cache_flight_waiters", "").await > 0.0
    })
    .await;
    gate.add_permits(1);

    says(&leader.await.unwrap(), "miss", "touchline; fwd=uri-miss; fwd-status=200; stored");
    says(&follower.await.unwrap(), "hit", "touchline; fwd=uri-miss; collapsed");
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn what_is_missing_is_told_apart() {
    let fields = &["Cache-Control: max-age=60", "Vary: X-Plan"];
    let backend = always("200 OK", fields).await;
    let proxy = Setup::before(&backend).start();

    let first = get_with(proxy.address, "/a", &["X-Plan: 1"]).await;
    let other = get_with(proxy.address, "/a", &["X-Plan: 2"]).await;
    proxy.post("/cache/purge", r#"{"url":"/a"}"#).await;
    let purged = get_with(proxy.address, "/a", &["X-Plan: 1"]).await;

    says(&first, "miss", "touchline; fwd=uri-miss; fwd-status=200; stored");
    says(&other, "miss", "touchline; fwd=vary-miss; fwd-status=200; stored");
    says(&purged, "miss", "touchline; fwd=miss; fwd-status=200; stored");
}

#[tokio::test]
async fn an_answer_that_is_not_kept_says_why() {
    let table: [(&str, &str, &[&str], &str); 13] = [
        ("/plain/a", "200 OK", &[], "no_freshness"),
        ("/cached/a", "200 OK", &["Cache-Control: no-store"], "no_store"),
        ("/cached/a", "200 OK", &["Cache-Control: private"], "private"),
        ("/cached/a", "200 OK", &["Cache-Control: no-cache"], "no_cache"),
        ("/cached/a", "200 OK", &["Set-Cookie: a=1"], "set_cookie"),
        ("/cached/a", "200 OK", &["Vary: *"], "vary_star"),
        ("/cached/a", "200 OK", &["Vary: Cookie"], "vary_credential"),
        ("/cached/a", "500 Oops", &[], "status"),
        ("/plain/a", "200 OK", &["Cache-Control: max-age=0"], "stale_on_arrival"),
        ("/plain/a", "299 Odd", &["Cache-Control: max-age=60, must-understand"], "must_understand"),
        (
            "/plain/a",
            "200 OK",
            &["Cache-Control: max-age=60", "Access-Control-Allow-Origin: https://a"],
            "cors",
        ),
        ("/cached/a", "200 OK", &["Content-Type: text/event-stream"], "streaming"),
        ("/cached/a", "200 OK", &["X-Long: 1"], "too_large"),
    ];
    for (target, status, fields, reason) in table {
        let (status, fields) =
            (status.to_owned(), fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>());
        let code = status.split(' ').next().unwrap_or_default().to_owned();
        let backend = Backend::start(move |_| {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let body = if fields.contains(&"X-Long: 1") { "x".repeat(2000) } else { "body".to_owned() };
            answer(&status, &fields, &body)
        })
        .await;
        let proxy = Setup::before(&backend).cached("ttl: 1m, max_body: 1KiB").start();

        let found = get(proxy.address, target).await;

        says(&found, "miss", &format!("touchline; fwd=uri-miss; fwd-status={code}; detail={reason}"));
    }
}

#[tokio::test]
async fn a_request_that_keeps_its_answer_out_says_why() {
    let backend = always("200 OK", &["Cache-Control: max-age=60"]).await;
    let proxy = Setup::before(&backend).start();
    let table = [
        ("Cache-Control: no-store", "request_no_store"),
        ("Authorization: Bearer x", "authorization"),
        ("Range: bytes=0-1", "range"),
    ];
    for (index, (field, reason)) in table.into_iter().enumerate() {
        let found = get_with(proxy.address, &format!("/{index}"), &[field]).await;

        says(&found, "miss", &format!("touchline; fwd=uri-miss; fwd-status=200; detail={reason}"));
    }
    let head = raw(proxy.address, request_text("HEAD", "/h", &[], "")).await;
    says(&head, "miss", "touchline; fwd=uri-miss; fwd-status=200; detail=method");
}

#[tokio::test]
async fn a_request_for_something_fresh_is_told_so() {
    let backend = always("200 OK", &["Cache-Control: max-age=60"]).await;
    let proxy = Setup::before(&backend).start();
    get(proxy.address, "/a").await;

    let kept = get_with(proxy.address, "/a", &["Cache-Control: no-cache"]).await;
    let not_kept = get_with(proxy.address, "/a", &["Cache-Control: no-cache, no-store"]).await;
    let only = get_with(proxy.address, "/b", &["Cache-Control: only-if-cached"]).await;

    says(&kept, "miss", "touchline; fwd=request; fwd-status=200; stored");
    says(&not_kept, "miss", "touchline; fwd=request; fwd-status=200; detail=request_no_store");
    says(&only, "miss", "touchline; fwd=request; detail=only_if_cached");
    assert_eq!(only.status, 504);
}

#[tokio::test]
async fn an_unsafe_method_is_a_bypass() {
    let backend = always("200 OK", &[]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    for method in ["POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH"] {
        says(&request(proxy.address, method, "/cached/a", "").await, "bypass", "touchline; fwd=method");
    }
}

#[tokio::test]
async fn a_stale_entry_is_confirmed_or_replaced() {
    let count = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start(move |request| {
        let fields = &["Cache-Control: max-age=0", "ETag: \"one\""];
        match (count.fetch_add(1, SeqCst), request.field("if-none-match")) {
            (1, Some(_)) => answer("304 Not Modified", fields, ""),
            _ => answer("200 OK", fields, "body"),
        }
    })
    .await;
    let proxy = Setup::before(&backend).start();

    says(&get(proxy.address, "/a").await, "miss", "touchline; fwd=uri-miss; fwd-status=200; stored");
    says(&get(proxy.address, "/a").await, "revalidated", "touchline; fwd=stale; fwd-status=304");
    says(&get(proxy.address, "/a").await, "miss", "touchline; fwd=stale; fwd-status=200; stored");
}

/// A proxy with an entry that has just gone stale, and the backend's answers from then on.
async fn stale(fields: &'static [&'static str], then: fn() -> Script) -> (Backend, Proxy) {
    let count = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start(move |_| {
        if count.fetch_add(1, SeqCst) == 0 { answer("200 OK", fields, "old") } else { then() }
    })
    .await;
    let proxy = Setup::before(&backend).start();
    get(proxy.address, "/a").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    (backend, proxy)
}

#[tokio::test]
async fn stale_answers_say_what_permits_them() {
    let failed = || answer("503 Service Unavailable", &[], "");

    let (_, proxy) = stale(&["Cache-Control: max-age=1, stale-while-revalidate=60"], || ok("new")).await;
    says(&get(proxy.address, "/a").await, "stale", "touchline; hit; ttl=-#; detail=swr");

    let (_, proxy) = stale(&["Cache-Control: max-age=1, stale-if-error=60"], failed).await;
    says(&get(proxy.address, "/a").await, "stale", "touchline; fwd=stale; fwd-status=503; detail=sie");

    let (_, proxy) = stale(&["Cache-Control: max-age=1"], || vec![Step::Close]).await;
    says(&get(proxy.address, "/a").await, "stale", "touchline; fwd=stale; detail=disconnect");

    let (_, proxy) = stale(&["Cache-Control: max-age=1"], || ok("new")).await;
    let allowed = get_with(proxy.address, "/a", &["Cache-Control: max-stale=60"]).await;
    says(&allowed, "stale", "touchline; hit; ttl=-#; detail=max_stale");
}

#[tokio::test]
async fn what_is_not_looked_up_says_why() {
    let backend = always("200 OK", &[]).await;
    let table: [(&str, &str, &[&str], &str); 10] = [
        ("ttl: 1m, mode: off", "/cached/a", &[], "off"),
        ("ttl: 1m, mode: observe", "/cached/a", &[], "observe"),
        ("ttl: 1m", "/cached/a", &["Authorization: Bearer x"], "authorization"),
        ("ttl: 1m", "/cached/a", &["Cookie: a=1"], "cookie"),
        ("ttl: 1m", "/cached/a", &["X-API-Key: x"], "credential"),
        ("ttl: 1m", "/cached/a", &["If-Match: \"x\""], "conditional"),
        ("ttl: 1m", "/cached//a", &[], "path"),
        ("ttl: 1m", "/cached/a%2fb", &[], "path"),
        ("ttl: 1m", "/cached/a", &["Content-Length: 1"], "body"),
        ("ttl: 1m", "/cached/a", &["Upgrade: websocket", "Connection: Upgrade"], "upgrade"),
    ];
    for (rule, target, fields, reason) in table {
        let proxy = Setup::before(&backend).cached(rule).start();
        let body = if reason == "body" { "x" } else { "" };
        let text = format!("{}{body}", request_text("GET", target, fields, ""));

        let found = raw(proxy.address, text).await;

        says(&found, "bypass", &format!("touchline; fwd=bypass; detail={reason}"));
    }
    let proxy = Setup::before(&backend).top("cache", "{ origin: false }").start();
    says(&get(proxy.address, "/a").await, "bypass", "touchline; fwd=bypass; detail=not_listed");
}

#[tokio::test]
async fn who_passes_by_the_queue_of_an_answer_that_is_not_kept_is_told_so() {
    let backend = always("200 OK", &["Cache-Control: no-store"]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    says(
        &get(proxy.address, "/cached/a").await,
        "miss",
        "touchline; fwd=uri-miss; fwd-status=200; detail=no_store",
    );
    let second = get(proxy.address, "/cached/a").await;

    says(&second, "bypass", "touchline; fwd=bypass; fwd-status=200; detail=hit_for_miss");
}

#[tokio::test]
async fn too_many_variants_are_told() {
    let backend = always("200 OK", &["Cache-Control: max-age=60", "Vary: X-Plan"]).await;
    let proxy = Setup::before(&backend).top("cache", "{ max_variants: 1 }").start();
    get_with(proxy.address, "/a", &["X-Plan: 1"]).await;

    let over = get_with(proxy.address, "/a", &["X-Plan: 2"]).await;

    says(&over, "miss", "touchline; fwd=vary-miss; fwd-status=200; detail=variants");
}

#[tokio::test]
async fn a_failure_is_told_with_what_it_was_asked_for() {
    let backend = always("200 OK", &[]).await;
    let faults = Faults::before(backend.address).await;
    faults.set(Mode::Refuse).await;
    let proxy = Setup::at(faults.address).cached("ttl: 1m").start();

    let failed = get(proxy.address, "/cached/a").await;

    assert_eq!(failed.status, 502);
    says(&failed, "miss", "touchline; fwd=uri-miss");
}

#[tokio::test]
async fn our_member_comes_after_those_of_caches_behind_us_and_has_a_key_only_where_wanted() {
    let backend = always("200 OK", &["Cache-Status: Origin; hit", "X-Cache-Status: THEIRS"]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").top("cache", "{ debug: true }").start();

    let miss = get(proxy.address, "/cached/a?b=1").await;

    let members = miss.fields("cache-status");
    assert_eq!(members.first(), Some(&"Origin; hit"), "{members:?}");
    says(
        &miss,
        "miss",
        "touchline; fwd=uri-miss; fwd-status=200; stored; key=\"coach.example/cached/a?b=1\"",
    );
}
