//! Warming: what `cache.warm` lists is in the cache before a client asks, and again after it was purged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use crate::support::{
    app::Setup,
    backend::{Backend, Step, answer, ok, text},
    client::{get, get_with, request},
    fault::{Faults, Mode},
    until,
};

const ROUTE: &str = "{ path: \"/warm/{rest*}\", methods: [GET], cache: { ttl: 1m, public: true, \
                     tags: [\"{rest}\"], key: { query: { only: [x] } } } }, \
                     { path: /change, methods: [POST], invalidates: [\"a*\"] }";

fn warming(setup: Setup, paths: &str) -> Setup {
    setup.ingress("hosts", "[coach.example]").top("cache", &format!("{{ warm: [{paths}] }}")).routes(ROUTE)
}

/// How often each target was asked for.
fn times(backend: &Backend, target: &str) -> usize {
    backend.requests().iter().filter(|request| request.target() == target).count()
}

#[tokio::test]
async fn the_first_client_finds_what_was_warmed() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let proxy = warming(Setup::before(&backend), "/warm/a, \"/warm/b?x=1\"").start();
    until("both are fetched", || backend.count() == 2).await;

    for target in ["/warm/a", "/warm/b?x=1", "/warm/b?y=2&x=1"] {
        let hit = get_with(proxy.address, target, &["Cookie: a=b", "Authorization: Bearer x"]).await;
        let expected = if target == "/warm/a" { "/warm/a" } else { "/warm/b?x=1" };
        // The last byte of a fetch comes a moment before its entry is in place; then this client waited for it.
        assert_eq!((hit.cache(), hit.text().as_str()), ("hit", expected), "{target}");
    }
    let other = get(proxy.address, "/warm/c").await;

    assert_eq!(other.cache(), "miss");
    assert_eq!(backend.count(), 3);
    let seen = backend.requests();
    assert_eq!(seen[0].field("host"), Some("coach.example"));
    assert_eq!(seen[0].field("x-forwarded-for"), None, "there is no client");
    assert_eq!(seen[0].field("accept-encoding"), Some("br, gzip"));
    assert_eq!(proxy.records_of(4).await.len(), 4, "no request of ours is in the log");
}

#[tokio::test]
async fn what_a_purge_ended_is_fetched_again_once_and_the_rest_is_left_alone() {
    let count = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start(move |_| ok(&format!("answer {}", count.fetch_add(1, SeqCst)))).await;
    let proxy = warming(Setup::before(&backend), "/warm/a, /warm/b").start();
    until("both are fetched", || backend.count() == 2).await;

    // A burst of purges by every way there is.
    assert_eq!(proxy.post("/cache/purge", "{\"tag\":\"a\"}").await.status, 200);
    assert_eq!(proxy.post("/cache/purge", "{\"url\":\"/warm/a\"}").await.status, 200);
    assert_eq!(request(proxy.address, "POST", "/change", "x").await.status, 200);
    until("it is fetched again", || times(&backend, "/warm/a") == 2).await;
    assert_eq!(get(proxy.address, "/warm/a").await.cache(), "hit");
    assert_eq!(times(&backend, "/warm/b"), 1);

    assert_eq!(proxy.post("/performance/cache/clear", "").await.status, 200);
    until("both are fetched again", || times(&backend, "/warm/a") == 3 && times(&backend, "/warm/b") == 2)
        .await;
    assert_eq!(proxy.post("/cache/purge", "{\"tag\":\"b\",\"soft\":true}").await.status, 200);
    until("a stale one is renewed", || times(&backend, "/warm/b") == 3).await;
    assert_eq!(get(proxy.address, "/warm/b").await.cache(), "hit");
    assert_eq!(times(&backend, "/warm/a"), 3);
}

#[tokio::test]
async fn two_are_fetched_at_a_time_and_a_client_waits_for_them() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    let backend = Backend::start(move |request| {
        counted.fetch_add(1, SeqCst);
        vec![Step::Gate(Arc::clone(&opened)), Step::Send(text("200 OK", &[], request.target()).into_bytes())]
    })
    .await;
    let proxy = warming(Setup::before(&backend), "/warm/a, /warm/b, /warm/c, /warm/d").start();
    until("two are begun", || begun.load(SeqCst) == 2).await;

    let address = proxy.address;
    let waiting = crate::support::spawn(async move { get(address, "/warm/a").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(begun.load(SeqCst), 2, "more than two at a time, or the client fetched itself");
    gate.add_permits(4);

    let answer = waiting.await.unwrap();
    assert_eq!((answer.cache(), answer.text().as_str()), ("hit", "/warm/a"));
    until("all are fetched", || begun.load(SeqCst) == 4).await;
}

#[tokio::test]
async fn a_backend_that_comes_late_or_fails_at_first_is_asked_again() {
    let backend = Backend::start({
        let count = AtomicUsize::new(0);
        move |_| {
            if count.fetch_add(1, SeqCst) < 2 { answer("503 Service Unavailable", &[], "") } else { ok("up") }
        }
    })
    .await;
    let faults = Faults::before(backend.address).await;
    faults.set(Mode::Refuse).await;
    let setup = Setup::at(faults.address).upstream("connect: 200ms");
    let proxy = warming(setup, "/warm/a").start();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(backend.count(), 0);

    faults.set(Mode::Pass).await;
    until("the third try succeeds", || backend.count() == 3).await;

    let hit = get(proxy.address, "/warm/a").await;
    assert_eq!((hit.cache(), hit.text().as_str()), ("hit", "up"));
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn what_may_not_be_kept_is_tried_with_longer_and_longer_pauses() {
    let backend = Backend::start(|_| answer("200 OK", &["Cache-Control: no-store"], "never")).await;
    let proxy = warming(Setup::before(&backend), "/warm/a").start();
    until("it is fetched", || backend.count() == 1).await;
    let start = Instant::now();

    // Purges by the dozen make no load of it.
    while start.elapsed() < Duration::from_millis(3_200) {
        assert_eq!(proxy.post("/cache/purge", "{\"url\":\"/x\"}").await.status, 200);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    assert!((2..=3).contains(&backend.count()), "{} fetches", backend.count());
}

#[tokio::test]
async fn nothing_is_warmed_where_the_cache_does_not_act() {
    for mode in ["off", "observe"] {
        let backend = Backend::start(|_| ok("x")).await;
        let proxy = Setup::before(&backend)
            .ingress("hosts", "[coach.example]")
            .top("cache", &format!("{{ mode: {mode}, warm: [/warm/a, /served] }}"))
            .routes(&format!("{ROUTE}, {{ path: /served, cache: {{ mode: serve, ttl: 1m, public: true }} }}"))
            .start();

        until("the other one is fetched", || backend.count() >= 1).await;
        assert_eq!(get(proxy.address, "/served").await.cache(), "hit");
        assert_eq!((times(&backend, "/warm/a"), backend.count()), (0, 1), "{mode}");
    }
}

#[tokio::test]
async fn hosts_and_schemes_are_those_of_the_address() {
    let backend = Backend::start(|request| {
        ok(&format!(
            "{} {}",
            request.field("host").unwrap_or("-"),
            request.field("x-forwarded-proto").unwrap_or("-")
        ))
    })
    .await;
    let proxy = Setup::before(&backend)
        .ingress("trusted_proxies", "[127.0.0.0/8]")
        .top("cache", "{ warm: [\"https://coach.example/warm/a\", \"http://coach.example:8080/warm/a\"] }")
        .routes(ROUTE)
        .start();
    until("both are fetched", || backend.count() == 2).await;

    let https = get_with(proxy.address, "/warm/a", &["X-Forwarded-Proto: https"]).await;
    let http = get(proxy.address, "/warm/a").await;

    assert_eq!((https.cache(), https.text().as_str()), ("hit", "coach.example https"));
    assert_eq!(http.cache(), "miss");
}

#[tokio::test]
async fn the_drain_does_not_wait_for_warming() {
    let backend = Backend::start(|_| vec![Step::Hang]).await;
    let mut proxy =
        warming(Setup::before(&backend).top("drain", "{ delay: 0s, timeout: 8s }"), "/warm/a").start();
    until("the fetch hangs", || backend.accepted() >= 2).await;

    let start = Instant::now();
    let stopping = proxy.stop();
    until("the proxy has stopped", || stopping.is_finished()).await;

    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
