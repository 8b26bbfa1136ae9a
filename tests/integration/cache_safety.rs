//! What must never be stored, never be shared, and never be sent on with a request that fills.
//!
//! The safety rules of the cache, and the tests that hold it to them (here unless a file is named):
//!
//! | rule | tests |
//! |---|---|
//! | no key without scheme and authority, compared on read | `hosts_do_not_share_entries`, `schemes_do_not_share_entries`; `cache::key` |
//! | one path: matched, keyed and sent bytes are the same | `paths_that_can_be_read_in_two_ways_are_not_stored_by_a_rule` |
//! | no claims of others reach the backend on a fetch that fills | `claims_of_a_trusted_proxy_do_not_shape_what_others_get` |
//! | one origin's permission is not another's; no body on a GET | `an_answer_for_one_origin_is_not_stored_where_origins_are_not_told_apart`, `a_get_with_a_body_and_a_range_never_fill` |
//! | cookies of answers are not stored, replayed or merged | `answers_that_forbid_it_are_not_stored_even_by_a_rule`, `a_cookie_of_a_304_reaches_nobody_else` |
//! | cookies of requests bar a rule unless they are keyed | `requests_with_credentials_are_not_answered_from_a_rule_and_do_not_fill_it`, `what_is_not_in_the_key_does_not_reach_the_backend` |
//! | credentials bar lookup and store | the first of these two, `cache_rules`: `fields_that_the_operator_calls_credentials_are_credentials` |
//! | errors briefly, parts and interim answers never, detours only by the backend's word | `errors_parts_and_detours_are_stored_only_by_the_backends_word_and_errors_briefly` |
//! | HEAD never fills GET, methods share nothing | `methods_do_not_share_entries`; `cache`: `a_head_that_misses_does_not_fill` |
//! | clean ends only | `a_fill_that_is_cut_behind_a_client_that_left_stores_nothing`; `backend_faults` |
//! | purge and clear are guarded | `admin`; `admin::guard`, `admin::control` |
//! | caps on all that grows | `a_body_over_the_limit_is_streamed_and_not_stored`; `cache_rules`: `a_flood_of_new_keys_is_not_stored_and_does_not_touch_what_is`; `cache_flight`; `cache::memory`, `cache::fill` |
//! | badly framed requests reach no lookup, a pending body is no request | `badly_framed_requests_never_get_a_hit` |
//! | what goes out: no tags, no foreign status, right age, the backend's date | `the_backends_own_claims_about_the_cache_are_replaced`, `a_hit_has_the_date_of_its_answer_and_one_age` |
//! | the wall clock ends nothing in memory | `cache::clock` |

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

#[tokio::test]
async fn schemes_do_not_share_entries() {
    let backend = Backend::start(|request| ok(request.field("x-forwarded-proto").unwrap())).await;
    let proxy = Setup::before(&backend).ingress("trusted_proxies", "[127.0.0.1]").cached("ttl: 1m").start();

    for round in ["miss", "hit"] {
        for scheme in ["http", "https"] {
            let line = format!("X-Forwarded-Proto: {scheme}");
            let answer = get_with(proxy.address, "/cached/a", &[&line]).await;

            assert_eq!((answer.text().as_str(), answer.cache()), (scheme, round));
        }
    }
}

#[tokio::test]
async fn claims_of_a_trusted_proxy_do_not_shape_what_others_get() {
    let claims = [
        "Forwarded: host=evil.example",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: evil",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-Server: evil.example",
        "X-Host: evil.example",
        "X-Original-URL: /evil",
        "X-Rewrite-URL: /evil",
        "X-Original-Host: evil.example",
        "X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Method-Override: DELETE",
        "Front-End-Https: on",
    ];
    let backend = Backend::start(|_| ok("hi")).await;
    for trusted in ["[127.0.0.1]", "[]"] {
        let proxy = Setup::before(&backend).ingress("trusted_proxies", trusted).cached("ttl: 1m").start();

        assert_eq!(get_with(proxy.address, "/cached/a", &claims).await.cache(), "miss");

        let seen = backend.requests().pop().unwrap().head.to_ascii_lowercase();
        for word in ["evil", "delete", "front-end-https"] {
            assert!(!seen.contains(word), "{trusted}: {word} in {seen}");
        }
    }
}

#[tokio::test]
async fn a_cookie_of_a_304_reaches_nobody_else() {
    let backend = Backend::start(|request| match request.field("if-none-match") {
        Some(_) => crate::support::backend::send(
            "HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\nSet-Cookie: session=1\r\nCache-Control: max-age=60\r\n\r\n",
        ),
        None => answer("200 OK", &["ETag: \"one\"", "Cache-Control: max-age=60"], "body"),
    })
    .await;
    let proxy = Setup::before(&backend).start();

    get(proxy.address, "/a").await;
    let renewed = get_with(proxy.address, "/a", &["Cache-Control: no-cache"]).await;
    let hit = get(proxy.address, "/a").await;

    assert_eq!((renewed.cache(), hit.cache()), ("revalidated", "hit"));
    assert_eq!(hit.field("set-cookie"), "");
}

#[tokio::test]
async fn errors_parts_and_detours_are_stored_only_by_the_backends_word_and_errors_briefly() {
    let cases: &'static [(&str, &[&str], Option<i64>)] = &[
        ("302 Found", &["Location: /x"], None),
        ("303 See Other", &["Location: /x"], None),
        ("307 Temporary Redirect", &["Location: /x"], None),
        ("302 Found", &["Location: /x", "Cache-Control: max-age=60"], Some(60)),
        ("303 See Other", &["Location: /x", "Cache-Control: max-age=60"], Some(60)),
        ("307 Temporary Redirect", &["Location: /x", "Cache-Control: max-age=60"], Some(60)),
        ("206 Partial Content", &["Content-Range: bytes 0-3/9", "Cache-Control: max-age=60"], None),
        ("401 Unauthorized", &[], None),
        ("403 Forbidden", &[], None),
        ("429 Too Many Requests", &[], None),
        ("500 Internal Server Error", &[], None),
        ("503 Service Unavailable", &[], None),
        ("403 Forbidden", &["Cache-Control: max-age=60"], Some(10)),
        ("503 Service Unavailable", &["Cache-Control: max-age=60"], Some(10)),
        ("404 Not Found", &[], Some(5)),
        ("410 Gone", &[], Some(5)),
        ("301 Moved Permanently", &["Location: /x"], Some(60)),
    ];
    let backend = Backend::start(move |request| {
        let (status, fields, _) = cases[request.target()["/cached/".len()..].parse::<usize>().unwrap()];
        answer(status, fields, "body")
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    for (case, (status, fields, most_s)) in cases.iter().enumerate() {
        let path = format!("/cached/{case}");
        get(proxy.address, &path).await;
        let second = get(proxy.address, &path).await;

        assert_eq!(second.cache() == "hit", most_s.is_some(), "{status} {fields:?}: {}", second.detail());
        if let Some(most_s) = most_s {
            let ttl = second.detail().split("ttl=").nth(1).unwrap().parse::<i64>().unwrap();
            assert!(ttl <= *most_s && ttl >= most_s * 9 / 10 - 1, "{status} {fields:?}: {ttl}");
        }
    }
}

#[tokio::test]
async fn methods_do_not_share_entries() {
    let backend =
        Backend::start(|request| answer("200 OK", &["Cache-Control: max-age=60"], request.method())).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    let ask = async |method: &str| {
        raw(
            proxy.address,
            format!("{method} /cached/a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n"),
        )
        .await
    };

    for method in ["OPTIONS", "QUERY", "POST", "PUT", "DELETE", "M-SEARCH"] {
        assert_eq!(ask("GET").await.text(), "GET", "{method}");
        for _ in 0..2 {
            let answer = ask(method).await;
            assert_eq!((answer.text().as_str(), answer.cache()), (method, "bypass"));
        }
    }
}

#[tokio::test]
async fn badly_framed_requests_never_get_a_hit() {
    let backend = Backend::start(|request| ok(&format!("{} {}", request.target(), request.body.len()))).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    get(proxy.address, "/cached/a").await;
    assert_eq!(get(proxy.address, "/cached/a").await.cache(), "hit");

    for framing in [
        "Content-Length: 0\r\nContent-Length: 1",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: +0",
        "Content-Length: 0, 1",
        "Content-Length : 0",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\u{b}chunked",
        " Content-Length: 0",
        "Host: b.example",
    ] {
        let text = format!("GET /cached/a HTTP/1.1\r\nHost: coach.example\r\n{framing}\r\n\r\n");
        let answer = raw(proxy.address, text).await;

        assert!((400..=501).contains(&answer.status), "{framing:?}: {}", answer.head);
        assert_ne!(answer.cache(), "hit", "{framing:?}");
    }
    assert_eq!(backend.count(), 1, "nothing of them reached the backend");

    // A body on a GET passes by the cache with its request; it never becomes a request of its own.
    let smuggled = "GET /cached/smuggled HTTP/1.1\r\nHost: coach.example\r\n\r\n";
    let mut client = Client::connect(proxy.address).await;
    let head =
        format!("GET /cached/a HTTP/1.1\r\nHost: coach.example\r\nContent-Length: {}\r\n", smuggled.len());
    client.send(format!("{head}\r\n{smuggled}")).await;
    let with_body = client.answer().await;
    let next = client.get("/cached/a").await;

    assert_eq!((with_body.cache(), with_body.text()), ("bypass", format!("/cached/a {}", smuggled.len())));
    assert_eq!((next.cache(), next.text().as_str()), ("hit", "/cached/a 0"));
    assert!(backend.requests().iter().all(|request| request.target() == "/cached/a"));
}

#[tokio::test]
async fn a_hit_has_the_date_of_its_answer_and_one_age() {
    let date = "Wed, 01 Jan 2020 00:00:00 GMT";
    let backend = Backend::start(move |_| {
        let date = format!("Date: {date}");
        answer(
            "200 OK",
            &[&date, "Age: 3", "Cache-Control: max-age=999999999", "Keep-Alive: timeout=5"],
            "hi",
        )
    })
    .await;
    let proxy = Setup::before(&backend).start();

    get(proxy.address, "/a").await;
    let hit = get(proxy.address, "/a").await;

    assert_eq!((hit.cache(), hit.field("date"), hit.field("keep-alive")), ("hit", date, ""));
    let age: u64 = hit.field("age").parse().unwrap();
    assert!(age > 150_000_000, "{age}");
}
