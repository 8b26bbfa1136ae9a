//! Hits, ages, conditions, ranges, variants and staleness of the cache in front of a real backend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::{
    app::Setup,
    backend::{Backend, Request, Step, answer, ok, send, text},
    client::{get, get_with, raw, request, request_text},
    fault::{Faults, Mode},
    until, until_async,
};

/// A backend whose answers say how many there were before; `fields` are theirs.
async fn counting(fields: &'static [&'static str]) -> Backend {
    let count = Arc::new(AtomicUsize::new(0));
    Backend::start(move |_| answer("200 OK", fields, &format!("answer {}", count.fetch_add(1, SeqCst)))).await
}

#[tokio::test]
async fn the_first_request_is_a_miss_and_the_second_a_hit() {
    let backend = counting(&["Content-Type: text/plain", "X-Mine: 1"]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    let miss = get(proxy.address, "/cached/a").await;
    let hit = get(proxy.address, "/cached/a").await;

    assert_eq!((miss.cache(), miss.detail()), ("miss", "touchline; fwd=uri-miss; fwd-status=200; stored"));
    assert_eq!(hit.cache(), "hit");
    assert!(hit.detail().starts_with("touchline; hit; ttl="), "{}", hit.detail());
    assert_eq!((hit.body.as_slice(), hit.status), (miss.body.as_slice(), 200));
    assert_eq!((hit.field("content-type"), hit.field("x-mine"), hit.field("age")), ("text/plain", "1", "0"));
    assert_eq!(miss.field("etag"), hit.field("etag"));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn what_the_backend_declares_fresh_is_kept_without_a_rule() {
    let backend = counting(&["Cache-Control: max-age=60", "Age: 7"]).await;
    let proxy = Setup::before(&backend).start();

    get(proxy.address, "/any").await;
    let hit = get(proxy.address, "/any").await;
    let other = get(proxy.address, "/any?x").await;

    assert_eq!((hit.cache(), other.cache()), ("hit", "miss"));
    assert!(["7", "8"].contains(&hit.field("age")), "{}", hit.field("age"));
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn an_entry_ends_with_its_lifetime() {
    let backend = counting(&[]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1s").start();

    get(proxy.address, "/cached/a").await;
    assert_eq!(get(proxy.address, "/cached/a").await.cache(), "hit");
    until_async("the entry is out of date", || async {
        get(proxy.address, "/cached/a").await.cache() == "miss"
    })
    .await;

    // More than two where answers are slow: then a hit may refresh the entry before its end.
    assert!(backend.count() >= 2);
}

#[tokio::test]
async fn conditions_are_answered_from_the_cache() {
    let backend = counting(&["ETag: \"one\"", "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    get(proxy.address, "/cached/a").await;

    let cases = [
        ("If-None-Match: \"one\"", 304),
        ("If-None-Match: W/\"one\", \"two\"", 304),
        ("If-None-Match: \"two\"", 200),
        ("If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT", 304),
        ("If-Modified-Since: Tue, 31 Dec 2019 00:00:00 GMT", 200),
    ];
    for (field, status) in cases {
        let answer = get_with(proxy.address, "/cached/a", &[field]).await;

        assert_eq!((answer.status, answer.cache()), (status, "hit"), "{field}");
        assert_eq!(answer.body.is_empty(), status == 304, "{field}");
        assert_eq!((answer.field("etag"), answer.fields("age").len()), ("\"one\"", 1), "{field}");
    }
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn a_rule_gives_an_answer_without_a_tag_one_of_ours() {
    let backend = counting(&[]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    let etag = get(proxy.address, "/cached/a").await.field("etag").to_owned();
    let again = get_with(proxy.address, "/cached/a", &[&format!("If-None-Match: {etag}")]).await;

    assert!(etag.starts_with('"'), "{etag}");
    assert_eq!((again.status, again.cache()), (304, "hit"));
}

#[tokio::test]
async fn heads_and_ranges_are_answered_from_the_cache() {
    let backend = Backend::start(|_| answer("200 OK", &["ETag: \"one\""], "0123456789")).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    get(proxy.address, "/cached/a").await;

    let head = raw(proxy.address, request_text("HEAD", "/cached/a", &[], "")).await;
    assert_eq!((head.cache(), head.field("content-length")), ("hit", "10"));
    let cases = [
        ("Range: bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("Range: bytes=7-", 206, "789", "bytes 7-9/10"),
        ("Range: bytes=-3", 206, "789", "bytes 7-9/10"),
        ("Range: bytes=10-", 416, "", "bytes */10"),
        ("Range: bytes=0-1,3-4", 200, "0123456789", ""),
    ];
    for (field, status, body, range) in cases {
        let answer = get_with(proxy.address, "/cached/a", &[field]).await;

        assert_eq!(
            (answer.status, answer.text().as_str(), answer.field("content-range")),
            (status, body, range),
            "{field}"
        );
        assert_eq!(answer.cache(), "hit", "{field}");
    }
    let stale_part = get_with(proxy.address, "/cached/a", &["Range: bytes=0-1", "If-Range: \"two\""]).await;
    assert_eq!((stale_part.status, stale_part.text().as_str()), (200, "0123456789"));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn a_head_that_misses_does_not_fill() {
    let backend = Backend::start(|request| match request.method() {
        "HEAD" => crate::support::backend::send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
        _ => ok("body"),
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    raw(proxy.address, request_text("HEAD", "/cached/a", &[], "")).await;
    let get = get(proxy.address, "/cached/a").await;

    assert_eq!((get.cache(), get.text().as_str()), ("miss", "body"));
}

#[tokio::test]
async fn variants_are_kept_apart() {
    let backend = Backend::start(|request| {
        answer(
            "200 OK",
            &["Vary: Accept-Language", "Cache-Control: max-age=60"],
            request.field("accept-language").unwrap_or("-"),
        )
    })
    .await;
    let proxy = Setup::before(&backend).start();

    for round in ["miss", "hit"] {
        for language in ["de", "en"] {
            let answer = get_with(proxy.address, "/a", &[&format!("Accept-Language: {language}")]).await;
            assert_eq!((answer.text().as_str(), answer.cache()), (language, round));
        }
    }
    let none = get(proxy.address, "/a").await;
    assert_eq!((none.text().as_str(), none.cache()), ("-", "miss"));
}

#[tokio::test]
async fn a_304_of_the_backend_renews_the_entry() {
    let backend = Backend::start(|request| match request.field("if-none-match") {
        Some("\"one\"") => {
            crate::support::backend::send("HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\nX-Round: 2\r\n\r\n")
        }
        _ => answer("200 OK", &["ETag: \"one\"", "X-Round: 1"], "body"),
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1s").start();

    assert_eq!(get(proxy.address, "/cached/a").await.cache(), "miss");
    until_async("the entry is validated", || async {
        let answer = get(proxy.address, "/cached/a").await;
        assert_eq!(answer.text(), "body");
        match answer.cache() {
            "hit" => false,
            "revalidated" => {
                assert_eq!(answer.detail(), "touchline; fwd=stale; fwd-status=304");
                assert_eq!(answer.field("x-round"), "2");
                true
            }
            other => panic!("{other}"),
        }
    })
    .await;
    assert_eq!(get(proxy.address, "/cached/a").await.cache(), "hit");
    assert!(backend.count() >= 2);
}

#[tokio::test]
async fn a_stale_answer_is_served_while_one_request_renews_it() {
    let count = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start(move |_| {
        let body = format!("answer {}", count.fetch_add(1, SeqCst));
        // The backend's own word: by a rule a copy in demand would be fetched anew before its end.
        let fresh = &["Cache-Control: max-age=1, stale-while-revalidate=60"];
        vec![Step::Wait(Duration::from_millis(20)), Step::Send(text("200 OK", fresh, &body).into_bytes())]
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    get(proxy.address, "/cached/a").await;
    until_async("the entry is stale", || async { get(proxy.address, "/cached/a").await.cache() == "stale" })
        .await;

    for _ in 0..20 {
        let answer = get(proxy.address, "/cached/a").await;
        if answer.cache() != "stale" {
            break;
        }
        assert_eq!(answer.text(), "answer 0");
        assert!(answer.detail().contains("detail=swr"), "{}", answer.detail());
    }

    until_async("the entry is new", || async { get(proxy.address, "/cached/a").await.text() == "answer 1" })
        .await;
    assert_eq!(backend.count(), 2, "more than one request renewed it");
}

#[tokio::test]
async fn a_stale_answer_is_better_than_none() {
    let backend = counting(&[]).await;
    let faults = Faults::before(backend.address).await;
    let proxy = Setup::at(faults.address).upstream("first_byte: 200ms").cached("ttl: 100ms").start();
    get(proxy.address, "/cached/a").await;

    for mode in [Mode::Refuse, Mode::Hang] {
        faults.set(mode).await;
        until_async("the entry is stale", || async {
            get(proxy.address, "/cached/a").await.cache() == "stale"
        })
        .await;
        let answer = get(proxy.address, "/cached/a").await;
        let other = get(proxy.address, "/cached/b").await;

        assert_eq!(
            (answer.status, answer.text().as_str(), answer.cache()),
            (200, "answer 0", "stale"),
            "{mode:?}"
        );
        assert!(answer.detail().contains("detail=disconnect"), "{}", answer.detail());
        assert!(other.status >= 502, "{}", other.status);
    }
}

#[tokio::test]
async fn a_stale_answer_covers_an_error_where_the_route_says_so() {
    let is_broken = Arc::new(AtomicUsize::new(0));
    let broken = Arc::clone(&is_broken);
    let backend = Backend::start(move |_| {
        if broken.load(SeqCst) == 0 { ok("good") } else { answer("503 Service Unavailable", &[], "bad") }
    })
    .await;
    let proxy = Setup::before(&backend)
        .routes("{ path: /covered, cache: { ttl: 100ms, stale_if_error: 1m } }, { path: /plain, cache: { ttl: 100ms } }")
        .start();
    get(proxy.address, "/covered").await;
    get(proxy.address, "/plain").await;
    is_broken.store(1, SeqCst);

    until_async("the plain one is out of date", || async {
        get(proxy.address, "/plain").await.status == 503
    })
    .await;
    let covered = get(proxy.address, "/covered").await;

    assert_eq!((covered.status, covered.text().as_str(), covered.cache()), (200, "good", "stale"));
    assert_eq!(covered.detail(), "touchline; fwd=stale; fwd-status=503; detail=sie");
}

#[tokio::test]
async fn a_write_ends_the_copy_of_its_target() {
    let backend = counting(&["Cache-Control: max-age=60"]).await;
    let proxy = Setup::before(&backend).start();

    get(proxy.address, "/a").await;
    get(proxy.address, "/b").await;
    assert_eq!(get(proxy.address, "/a").await.cache(), "hit");
    assert_eq!(request(proxy.address, "POST", "/a", "x").await.cache(), "bypass");

    assert_eq!(get(proxy.address, "/a").await.cache(), "miss");
    assert_eq!(get(proxy.address, "/b").await.cache(), "hit");
}

#[tokio::test]
async fn in_the_plain_standard_an_answer_to_a_post_may_be_the_new_copy_of_its_target() {
    let fields = |request: &Request| match request.target() {
        "/own" => ["Cache-Control: max-age=60", "Content-Location: /own"],
        "/chunked" => ["Cache-Control: max-age=60", "Content-Location: /chunked"],
        _ => ["Cache-Control: max-age=60", "Content-Location: /elsewhere"],
    };
    for (profile, target, is_kept) in [
        ("rfc", "/own", true),
        ("rfc", "/chunked", true),
        ("rfc", "/other", false),
        ("default", "/own", false),
    ] {
        let backend = Backend::start(move |request| {
            let body = format!("{} {}", request.method(), request.nth);
            if request.target() == "/chunked" && request.method() == "POST" {
                let head = fields(request).join("\r\n");
                let size = body.len();
                return send(format!(
                    "HTTP/1.1 200 OK\r\n{head}\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
                ));
            }
            answer("200 OK", &fields(request), &body)
        })
        .await;
        let proxy = Setup::before(&backend).top("cache", &format!("{{ profile: {profile} }}")).start();
        get(proxy.address, target).await;

        let posted = request(proxy.address, "POST", target, "x").await;
        let got = get(proxy.address, target).await;

        assert_eq!(posted.cache(), "bypass", "{profile} {target}");
        assert_eq!(got.cache(), if is_kept { "hit" } else { "miss" }, "{profile} {target}");
        assert_eq!(got.body == posted.body, is_kept, "{profile} {target}");
        request(proxy.address, "PUT", target, "x").await;
        assert_eq!(get(proxy.address, target).await.cache(), "miss", "{profile} {target}");
    }
}

#[tokio::test]
async fn a_post_ends_the_copies_of_a_route_whose_keys_are_not_its_own() {
    let backend = Backend::start(|request| {
        let own = format!("Content-Location: {}", request.target());
        match request.method() {
            "POST" => answer("200 OK", &["Cache-Control: max-age=60", &own], "posted"),
            _ => answer("200 OK", &[], "got"),
        }
    })
    .await;
    let proxy = Setup::before(&backend)
        .top("cache", "{ profile: rfc }")
        .routes("{ path: /a, methods: [GET], cache: { ttl: 1m, key: { query: { only: [x] } } } }")
        .start();
    get(proxy.address, "/a?x=1&y=1").await;
    assert_eq!(get(proxy.address, "/a?x=1&y=2").await.cache(), "hit");

    request(proxy.address, "POST", "/a?x=1&y=3", "x").await;

    for target in ["/a?x=1&y=1", "/a?x=1&y=3"] {
        let got = get(proxy.address, target).await;
        assert_eq!(got.text(), "got", "{target}");
    }
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn a_body_in_an_unknown_transfer_coding_ends_with_its_connection_and_is_kept_without_the_field() {
    let backend = Backend::start(|request| {
        let coding = if request.target() == "/two" { "x-unheard-of, chunked" } else { "x-unheard-of" };
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: {coding}");
        vec![Step::Send(format!("{head}\r\n\r\nwhole").into()), Step::Close]
    })
    .await;
    let proxy = Setup::before(&backend).start();

    for outcome in ["miss", "hit"] {
        let got = get(proxy.address, "/one").await;

        assert_eq!((got.status, got.text().as_str(), got.cache()), (200, "whole", outcome));
        assert!(!got.fields("transfer-encoding").contains(&"x-unheard-of"), "{}", got.head);
    }
    assert_eq!(get(proxy.address, "/two").await.refusal(), (502, "bad_upstream_response".to_owned()));
}

#[tokio::test]
async fn a_write_that_failed_ends_nothing() {
    let backend = Backend::start(|request| match request.method() {
        "POST" => answer("409 Conflict", &[], "no"),
        _ => answer("200 OK", &["Cache-Control: max-age=60"], "yes"),
    })
    .await;
    let proxy = Setup::before(&backend).start();

    get(proxy.address, "/a").await;
    request(proxy.address, "POST", "/a", "x").await;

    assert_eq!(get(proxy.address, "/a").await.cache(), "hit");
}

#[tokio::test]
async fn a_route_ends_entries_by_their_tags_before_its_answer() {
    let backend = counting(&[]).await;
    let proxy = Setup::before(&backend)
        .routes(
            "{ path: \"/user/{id}\", methods: [GET], cache: { ttl: 1m, tags: [\"user:{id}\"] } }, \
             { path: \"/user/{id}/rename\", methods: [POST], invalidates: [\"user:{id}\"] }, \
             { path: /reset, methods: [POST], invalidates: [\"user:*\"] }",
        )
        .start();
    let statuses = async || {
        [
            get(proxy.address, "/user/1").await.cache().to_owned(),
            get(proxy.address, "/user/2").await.cache().to_owned(),
        ]
    };
    assert_eq!(statuses().await, ["miss", "miss"]);

    request(proxy.address, "POST", "/user/1/rename", "x").await;
    assert_eq!(statuses().await, ["miss", "hit"]);
    request(proxy.address, "POST", "/reset", "x").await;
    assert_eq!(statuses().await, ["miss", "miss"]);
}

#[tokio::test]
async fn entries_are_ended_by_the_tags_that_their_answers_name() {
    let many: Vec<String> = (0..65).map(|number| format!("t{number}")).collect();
    let crowded = format!("Surrogate-Key: {}", many.join(" "));
    let backend = Backend::start(move |seen| {
        let line = match seen.target() {
            "/cached/fastly" => "Surrogate-Key: a shared",
            "/cached/varnish" => "xkey: b shared",
            "/cached/cloudflare" => "Cache-Tag: c, shared",
            "/cached/crowded" => crowded.as_str(),
            _ => "X-Nothing: 1",
        };
        answer("200 OK", &[line], "hi")
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    let paths =
        ["/cached/fastly", "/cached/varnish", "/cached/cloudflare", "/cached/none", "/cached/crowded"];
    let statuses = async || {
        let mut statuses = Vec::new();
        for path in paths {
            let answer = get(proxy.address, path).await;
            for name in ["surrogate-key", "xkey", "cache-tag"] {
                assert!(answer.fields(name).is_empty(), "{path}: {name} went out");
            }
            statuses.push(answer.cache().to_owned());
        }
        statuses
    };
    assert_eq!(statuses().await, ["miss"; 5]);
    assert_eq!(statuses().await, ["hit", "hit", "hit", "hit", "bypass"], "too many tags to keep");

    assert_eq!(proxy.post("/cache/purge", "{\"tag\":\"b\"}").await.status, 200);
    assert_eq!(statuses().await, ["hit", "miss", "hit", "hit", "bypass"]);
    assert_eq!(proxy.post("/cache/purge", "{\"tag\":\"sha*\"}").await.status, 200);
    assert_eq!(statuses().await, ["miss", "miss", "miss", "hit", "bypass"]);
}

#[tokio::test]
async fn the_control_listener_clears_and_purges() {
    let backend = counting(&[]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    let fill = async || {
        get(proxy.address, "/cached/a").await;
        get(proxy.address, "/cached/b").await;
    };
    let hits = async || {
        let mut hits = Vec::new();
        for path in ["/cached/a", "/cached/b"] {
            hits.push(get(proxy.address, path).await.cache() == "hit");
        }
        hits
    };

    fill().await;
    let cleared = proxy.post("/performance/cache/clear", "").await;
    assert_eq!(cleared.status, 200, "{}", cleared.text());
    assert_eq!(hits().await, [false, false]);
    assert_eq!(proxy.post("/cache/purge", "{\"url\":\"/cached/a\"}").await.status, 200);
    assert_eq!(hits().await, [false, true]);
    assert_eq!(proxy.post("/cache/purge", "{\"prefix\":\"/cached/\"}").await.status, 200);
    assert_eq!(hits().await, [false, false]);
    assert_eq!(proxy.post("/cache/purge", "{\"all\":true}").await.status, 200);
    assert_eq!(hits().await, [false, false]);
    assert_eq!(proxy.post("/cache/purge", "").await.status, 400, "an empty purge purges nothing");
    assert_eq!(hits().await, [true, true]);
    until("records", || proxy.records().len() >= 12).await;
}

#[tokio::test]
async fn a_refresh_parameter_fetches_anew_and_is_no_part_of_the_key() {
    let backend = counting(&[]).await;
    let proxy =
        Setup::before(&backend).cached("ttl: 1m, refresh_on: { query: { use_cache: \"false\" } }").start();

    get(proxy.address, "/cached/a").await;
    let fresh = get(proxy.address, "/cached/a?use_cache=false").await;
    let hit = get(proxy.address, "/cached/a").await;

    assert_eq!((fresh.text().as_str(), fresh.cache()), ("answer 1", "miss"));
    assert_eq!((hit.text().as_str(), hit.cache()), ("answer 1", "hit"));
}
