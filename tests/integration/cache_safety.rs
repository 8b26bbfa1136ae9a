//! What must never be stored, never be shared, and never be sent on with a request that fills.

use std::time::Duration;

use crate::support::{
    app::Setup,
    backend::{Backend, Step, answer, ok, text},
    client::{Client, get, get_with, raw},
    until, until_async,
};

#[tokio::test]
async fn answers_that_forbid_it_are_not_stored_even_by_a_rule() {
    let cases: &'static [(&str, &[&str], &str)] = &[
        ("200 OK", &["Cache-Control: no-store"], "no_store"),
        ("200 OK", &["Cache-Control: private"], "private"),
        ("200 OK", &["Cache-Control: private, max-age=60"], "private"),
        ("200 OK", &["Cache-Control: max-age=\"60"], "no_store"),
        ("200 OK", &["Set-Cookie: session=1"], "set_cookie"),
        ("200 OK", &["Set-Cookie: session=1", "Cache-Control: max-age=60"], "set_cookie"),
        ("200 OK", &["Vary: *"], "vary_star"),
        ("200 OK", &["Vary: Accept, *"], "vary_star"),
        ("200 OK", &["Vary: Cookie"], "vary_credential"),
        ("200 OK", &["Vary: Authorization"], "vary_credential"),
        ("200 OK", &["Content-Type: text/event-stream"], "streaming"),
        ("500 Internal Server Error", &[], "status"),
        ("401 Unauthorized", &[], "status"),
        ("302 Found", &["Location: /x"], "status"),
    ];
    let backend = Backend::start(move |request| {
        let (status, fields, _) = cases[request.target()["/cached/".len()..].parse::<usize>().unwrap()];
        answer(status, fields, "mine")
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m, public: true").start();

    for (case, (status, fields, reason)) in cases.iter().enumerate() {
        let path = format!("/cached/{case}");
        let first = get(proxy.address, &path).await;
        let second = get(proxy.address, &path).await;

        let detail = format!("detail={reason}");
        assert!(first.detail().ends_with(&detail), "{status} {fields:?}: {}", first.detail());
        assert_ne!(second.cache(), "hit", "{status} {fields:?}");
    }
    assert_eq!(backend.count(), cases.len() * 2);
}

#[tokio::test]
async fn an_answer_for_one_origin_is_not_stored_where_origins_are_not_told_apart() {
    let backend = Backend::start(|_| {
        answer(
            "200 OK",
            &["Access-Control-Allow-Origin: https://a.example", "Cache-Control: max-age=60"],
            "mine",
        )
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    for _ in 0..2 {
        let plain = get(proxy.address, "/plain").await;
        assert!(plain.detail().ends_with("detail=cors"), "{}", plain.detail());
    }
    for (origin, cache) in
        [("https://a.example", "miss"), ("https://b.example", "miss"), ("https://a.example", "hit")]
    {
        let answer = get_with(proxy.address, "/cached/a", &[&format!("Origin: {origin}")]).await;
        assert_eq!(answer.cache(), cache, "{origin}");
    }
}

#[tokio::test]
async fn requests_with_credentials_are_not_answered_from_a_rule_and_do_not_fill_it() {
    let backend = Backend::start(|request| {
        ok(request.field("authorization").or(request.field("cookie")).unwrap_or("nobody"))
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    for (field, value, reason) in [
        ("Authorization", "Bearer a", "authorization"),
        ("Cookie", "session=1", "cookie"),
        ("X-API-Key", "k", "credential"),
    ] {
        for _ in 0..2 {
            let mine = get_with(proxy.address, "/cached/a", &[&format!("{field}: {value}")]).await;

            assert_eq!(mine.cache(), "bypass", "{field}");
            assert!(mine.detail().ends_with(&format!("detail={reason}")), "{}", mine.detail());
        }
    }
    let anonymous = get(proxy.address, "/cached/a").await;
    assert_eq!((anonymous.cache(), anonymous.text().as_str()), ("miss", "nobody"));
    let mine = get_with(proxy.address, "/cached/a", &["Cookie: session=2"]).await;
    assert_eq!((mine.cache(), mine.text().as_str()), ("bypass", "session=2"));
}

#[tokio::test]
async fn a_public_route_is_shared_and_sends_no_cookies_or_conditions_on() {
    let backend = Backend::start(|_| ok("for all")).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m, public: true").start();

    let filling = ["Authorization: Bearer a", "Cookie: session=1", "If-None-Match: \"x\""];
    assert_eq!(get_with(proxy.address, "/cached/a", &filling).await.cache(), "miss");
    assert_eq!(get(proxy.address, "/cached/a").await.cache(), "hit");

    let seen = backend.request();
    for name in ["cookie", "if-none-match"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn what_is_not_in_the_key_does_not_reach_the_backend() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let proxy = Setup::before(&backend)
        .ingress("trusted_proxies", "[127.0.0.1]")
        .cached("ttl: 1m, public: true, key: { query: { only: [difficulty] }, cookies: [lang] }")
        .start();

    let lines = ["Cookie: lang=de; session=1", "X-Forwarded-Host: evil.example", "X-Original-URL: /evil"];
    let first = get_with(proxy.address, "/cached/a?utm=1&difficulty=easy&x=1", &lines).await;
    let second =
        get_with(proxy.address, "/cached/a?difficulty=easy&utm=2", &["Cookie: lang=de; session=2"]).await;
    let third = get_with(proxy.address, "/cached/a?difficulty=easy", &["Cookie: lang=en"]).await;

    assert_eq!((first.cache(), second.cache(), third.cache()), ("miss", "hit", "miss"), "{}", first.detail());
    let seen = &backend.requests()[0];
    assert_eq!((seen.target(), seen.field("cookie")), ("/cached/a?difficulty=easy", Some("lang=de")));
    assert_eq!((seen.field("x-forwarded-host"), seen.field("x-original-url")), (Some("coach.example"), None));
}

#[tokio::test]
async fn paths_that_can_be_read_in_two_ways_are_not_stored_by_a_rule() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    for path in [
        "/cached/a%2Fb",
        "/cached/../x",
        "/cached//a",
        "/cached/a;x",
        "/cached/a%00",
        "/cached/%5Ca",
        "/cached/%zz",
    ] {
        for _ in 0..2 {
            let answer = get(proxy.address, path).await;

            assert_eq!(answer.cache(), "bypass", "{path}");
            assert!(answer.detail().ends_with("detail=path"), "{path}: {}", answer.detail());
        }
    }
}

#[tokio::test]
async fn hosts_do_not_share_entries() {
    let backend = Backend::start(|request| ok(request.field("host").unwrap())).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    let ask = async |host: &str| {
        raw(proxy.address, format!("GET /cached/a HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
    };

    for (host, cache) in
        [("a.example", "miss"), ("b.example", "miss"), ("a.example", "hit"), ("b.example", "hit")]
    {
        let answer = ask(host).await;

        assert_eq!((answer.text().as_str(), answer.cache()), (host, cache));
    }
    assert_eq!(ask("A.Example:80").await.cache(), "hit", "the same authority");
}

#[tokio::test]
async fn a_get_with_a_body_and_a_range_never_fill() {
    let backend = Backend::start(|request| match request.field("range") {
        Some(_) => {
            answer("206 Partial Content", &["Content-Range: bytes 0-1/4", "Cache-Control: max-age=60"], "bo")
        }
        None => ok("body"),
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    let with_body =
        raw(proxy.address, "GET /cached/a HTTP/1.1\r\nHost: coach.example\r\nContent-Length: 1\r\n\r\nx")
            .await;
    let range = get_with(proxy.address, "/cached/a", &["Range: bytes=0-1"]).await;
    let whole = get(proxy.address, "/cached/a").await;

    assert_eq!((with_body.cache(), range.status, whole.cache()), ("bypass", 206, "miss"));
    assert_eq!(whole.text(), "body");
}

#[tokio::test]
async fn a_body_over_the_limit_is_streamed_and_not_stored() {
    let big = "x".repeat(200_000);
    let sent = big.clone();
    let backend = Backend::start(move |request| match request.target() {
        "/cached/declared" => answer("200 OK", &[], &sent),
        _ => crate::support::backend::send(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{sent}\r\n0\r\n\r\n",
            sent.len()
        )),
    })
    .await;
    let proxy = Setup::before(&backend).top("cache", "{ max_body: 64KiB }").cached("ttl: 1m").start();

    for path in ["/cached/declared", "/cached/chunked"] {
        for _ in 0..2 {
            let answer = get(proxy.address, path).await;

            assert!(answer.is_whole && answer.text() == big, "{path}");
            assert_ne!(answer.cache(), "hit", "{path}");
        }
    }
    assert_eq!(proxy.metric("touchline_cache_entries", "").await, 0.0);
    assert_eq!(proxy.metric("touchline_cache_fills", "").await, 0.0);
}

#[tokio::test]
async fn a_client_that_leaves_mid_fill_still_fills() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let waits = std::sync::Arc::clone(&gate);
    let backend = Backend::start(move |_| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec()),
            Step::Gate(std::sync::Arc::clone(&waits)),
            Step::Send(b"half".to_vec()),
        ]
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    let mut client = Client::connect(proxy.address).await;
    client.ask("/cached/a").await;
    client.head().await.unwrap();
    assert_eq!(client.bytes(4).await, b"half");
    drop(client);
    assert_eq!(proxy.record().await["outcome"], "client_abort");
    gate.add_permits(1);

    until_async("the copy is there", || async { proxy.metric("touchline_cache_entries", "").await == 1.0 })
        .await;
    let hit = get(proxy.address, "/cached/a").await;
    assert_eq!((hit.cache(), hit.text().as_str()), ("hit", "halfhalf"));
    assert_eq!((backend.count(), backend.left().len()), (1, 0));
}

#[tokio::test]
async fn a_fill_that_is_cut_behind_a_client_that_left_stores_nothing() {
    let backend = Backend::start(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec()),
            Step::Wait(Duration::from_millis(100)),
            Step::Close,
        ]
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    let mut client = Client::connect(proxy.address).await;
    client.ask("/cached/a").await;
    client.head().await.unwrap();
    drop(client);
    until("the backend has closed", || backend.open() == 0 && backend.count() == 1).await;
    let next = get(proxy.address, "/cached/a").await;

    assert_eq!((next.cache(), next.is_whole), ("miss", false));
    assert_eq!(proxy.metric("touchline_cache_entries", "").await, 0.0);
}

#[tokio::test]
async fn a_purge_during_a_fetch_ends_the_copy_in_flight() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let waits = std::sync::Arc::clone(&gate);
    let backend = Backend::start(move |request| {
        let whole = text("200 OK", &[], "old").into_bytes();
        if request.target() == "/cached/streamed" {
            let (head, tail) = whole.split_at(whole.len() - 1);
            vec![
                Step::Send(head.to_vec()),
                Step::Gate(std::sync::Arc::clone(&waits)),
                Step::Send(tail.to_vec()),
            ]
        } else {
            vec![Step::Gate(std::sync::Arc::clone(&waits)), Step::Send(whole)]
        }
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    for path in ["/cached/waiting", "/cached/streamed"] {
        let before = backend.count();
        let mut client = Client::connect(proxy.address).await;
        client.ask(path).await;
        until("the request is at the backend", || backend.count() == before + 1).await;
        if path == "/cached/streamed" {
            client.fill().await;
        }
        assert_eq!(proxy.post("/cache/purge", "{\"all\":true}").await.status, 200);
        gate.add_permits(1);
        assert_eq!(client.answer().await.text(), "old");
        gate.add_permits(1);

        assert_ne!(get(proxy.address, path).await.cache(), "hit", "{path}: a purged copy was served");
        gate.forget_permits(10);
    }
}

#[tokio::test]
async fn the_backends_own_claims_about_the_cache_are_replaced() {
    let backend = Backend::start(|_| {
        answer("200 OK", &["X-Cache-Status: HIT", "Cache-Status: origin; hit", "Surrogate-Key: a b"], "hi")
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let answer = get(proxy.address, "/").await;

    assert_eq!(answer.cache(), "miss");
    assert!(answer.fields("surrogate-key").is_empty(), "the names of the backend's tags went out");
    let members: Vec<&str> = answer.fields("cache-status").iter().flat_map(|line| line.split(", ")).collect();
    assert_eq!(members.len(), 2, "{members:?}");
    assert!(members[0] == "origin; hit" && members[1].starts_with("touchline; fwd="), "{members:?}");
}

#[tokio::test]
async fn the_cache_can_be_off_or_only_watch() {
    for (mode, reason) in [("off", "off"), ("observe", "observe")] {
        let backend = Backend::start(|_| answer("200 OK", &["Cache-Control: max-age=60"], "hi")).await;
        let proxy = Setup::before(&backend).top("cache", &format!("{{ mode: {mode} }}")).start();

        for _ in 0..2 {
            let answer = get(proxy.address, "/").await;

            assert_eq!(answer.cache(), "bypass", "{mode}");
            assert_eq!(answer.detail(), format!("touchline; fwd=bypass; detail={reason}"));
        }
        assert_eq!(backend.count(), 2);
    }
}
