//! Requests by POST that only read, answered from the cache by their body; and what bodies say about which entries end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, answer, text},
    client::{Answer, Client, get, get_with, raw, request, request_text},
    fault::{Faults, Mode},
    h2c::H2,
    spawn, until, until_async,
};

const JSON: &str = "Content-Type: application/json";

/// A route that is read by POST, under `/search`.
fn searching(backend: &Backend, rule: &str) -> Setup {
    Setup::before(backend).routes(&search_route(rule))
}

fn search_route(rule: &str) -> String {
    format!("{{ path: /search, methods: [POST], cache: {{ {rule} }} }}")
}

/// A backend that says how many answers there were before, and repeats the body.
async fn counting(fields: &'static [&'static str]) -> Backend {
    let count = AtomicUsize::new(0);
    Backend::start(move |request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        answer("200 OK", fields, &format!("{} {body}", count.fetch_add(1, SeqCst)))
    })
    .await
}

async fn post(proxy: &Proxy, target: &str, body: &str) -> Answer {
    raw(proxy.address, request_text("POST", target, &[JSON], body)).await
}

fn told(answer: &Answer) -> (&str, &str) {
    (answer.cache(), answer.detail())
}

const BYPASS_BODY: (&str, &str) = ("bypass", "touchline; fwd=bypass; detail=body");

#[tokio::test]
async fn the_same_question_in_another_spelling_is_a_hit() {
    let backend = counting(&[]).await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").start();
    let asked = "{ \"b\": [1, 2.0],\n \"a\": \"\\u0041\" }";

    let miss = post(&proxy, "/search", asked).await;
    let hit = post(&proxy, "/search", r#"{"a":"A","b":[1,2.0]}"#).await;
    let other = post(&proxy, "/search", r#"{"a":"A","b":[1,2]}"#).await;
    let elsewhere = post(&proxy, "/search?page=2", asked).await;

    assert_eq!(told(&miss), ("miss", "touchline; fwd=uri-miss; fwd-status=200; stored"));
    assert_eq!((hit.cache(), hit.text()), ("hit", miss.text()));
    assert_eq!(hit.field("age"), "0");
    assert_eq!((miss.fields("etag").len(), hit.fields("etag").len()), (0, 0));
    assert_eq!((other.cache(), elsewhere.cache()), ("miss", "miss"));
    let requests = backend.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!((requests[0].method(), requests[0].body.as_slice()), ("POST", asked.as_bytes()));
    assert_eq!(requests[0].field("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_get_and_a_head_never_see_the_answer_to_a_post() {
    let backend = counting(&[]).await;
    let route = "{ path: /search, methods: [GET, POST], cache: { ttl: 1m, key: { body: raw } } }";
    let proxy = Setup::before(&backend).routes(route).start();

    let read = raw(proxy.address, request_text("POST", "/search", &[], "")).await;
    let got = get(proxy.address, "/search").await;
    let head = raw(proxy.address, request_text("HEAD", "/search", &[], "")).await;
    let again = raw(proxy.address, request_text("POST", "/search", &["Content-Length: 0"], "")).await;

    assert_eq!((read.cache(), got.cache(), head.cache(), again.cache()), ("miss", "miss", "hit", "hit"));
    assert_eq!((read.text().as_str(), got.text().as_str(), again.text().as_str()), ("0 ", "1 ", "0 "));
}

#[tokio::test]
async fn a_read_by_post_ends_no_copy_and_a_write_to_its_url_ends_both() {
    let backend = counting(&[]).await;
    let get_route = "{ path: /search, methods: [GET], cache: { ttl: 1m } }";
    let key = "ttl: 1m, key: { body: json, query: { only: [page] } }";
    let proxy = Setup::before(&backend).routes(&format!("{get_route}, {}", search_route(key))).start();

    get(proxy.address, "/search?x=1").await;
    assert_eq!(post(&proxy, "/search?x=1", "{}").await.cache(), "miss");
    assert_eq!(get(proxy.address, "/search?x=1").await.cache(), "hit");
    assert_eq!(post(&proxy, "/search?x=1", "not json").await.cache(), "bypass");
    assert_eq!(
        post(&proxy, "/search?x=1", "{}").await.cache(),
        "hit",
        "an unreadable body is no write either"
    );
    request(proxy.address, "PUT", "/search?x=1", "x").await;

    assert_eq!(get(proxy.address, "/search?x=1").await.cache(), "miss");
    assert_eq!(post(&proxy, "/search?x=1", "{}").await.cache(), "miss");
}

#[tokio::test]
async fn every_kind_of_purge_ends_the_answers_to_posts() {
    let backend = counting(&["Surrogate-Key: named"]).await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }, tags: [\"kind:{body.kind}\"]").start();
    let question = r#"{"kind":"hills"}"#;

    for purge in [
        r#"{"url":"/search"}"#,
        r#"{"prefix":"/sea"}"#,
        r#"{"tag":"kind:hills"}"#,
        r#"{"tag":"named"}"#,
        r#"{"route":"/search"}"#,
        r#"{"all":true}"#,
    ] {
        assert_eq!(post(&proxy, "/search", question).await.cache(), "miss", "before {purge}");
        assert_eq!(post(&proxy, "/search", question).await.cache(), "hit", "before {purge}");

        assert_eq!(proxy.post("/cache/purge", purge).await.status, 200);
    }
    assert_eq!(post(&proxy, "/search", question).await.cache(), "miss");
    proxy.post("/cache/purge", r#"{"tag":"kind:lakes"}"#).await;
    assert_eq!(post(&proxy, "/search", question).await.cache(), "hit");
}

#[tokio::test]
async fn what_cannot_be_a_part_of_the_key_goes_past_the_cache_as_it_is() {
    let backend = counting(&[]).await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").start();
    let cases: [(&[&str], &str, &str); 10] = [
        (&[JSON], "{\"a\":1,\"a\":2}", "body"),
        (&[JSON], "{\"a\":", "body"),
        (&[JSON], "", "body"),
        (&["Content-Type: text/plain"], "{}", "body"),
        (&[JSON, JSON], "{}", "body"),
        (&[JSON, "Content-Encoding: gzip"], "{}", "body"),
        (&[JSON, "Range: bytes=0-1"], "{}", "range"),
        (&[JSON, "If-None-Match: \"a\""], "{}", "conditional"),
        (&[JSON, "Authorization: Bearer x"], "{}", "authorization"),
        (&[JSON, "Cookie: a=b"], "{}", "cookie"),
    ];

    for (round, (fields, body, reason)) in cases.into_iter().enumerate() {
        let answer = raw(proxy.address, request_text("POST", "/search", fields, body)).await;

        let detail = format!("touchline; fwd=bypass; detail={reason}");
        assert_eq!(told(&answer), ("bypass", detail.as_str()), "{fields:?} {body}");
        assert_eq!(answer.text(), format!("{round} {body}"));
        let seen = backend.requests().pop().unwrap();
        for field in fields.iter().skip(1).filter(|field| **field != JSON) {
            let (name, value) = field.split_once(": ").unwrap();
            assert_eq!(seen.field(name), Some(value));
        }
    }
    assert_eq!(backend.count(), 10);
}

#[tokio::test]
async fn bodies_count_to_64_kib_and_longer_ones_lose_no_byte() {
    let backend = counting(&[]).await;
    let proxy = searching(&backend, "ttl: 1m, max_body: 1MiB, key: { body: raw }").start();
    let chunked = |body: &str| {
        let chunks: String = body
            .as_bytes()
            .chunks(10_000)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
            .collect();
        format!(
            "POST /search HTTP/1.1\r\nHost: coach.example\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        )
    };
    let body = |length: usize| -> String { (b'a'..=b'w').cycle().take(length).map(char::from).collect() };

    let (most, over, far) = (body(64 * 1024), body(64 * 1024 + 1), body(1_000_000));
    assert_eq!(request(proxy.address, "POST", "/search", &most).await.cache(), "miss");
    assert_eq!(request(proxy.address, "POST", "/search", &most).await.cache(), "hit");
    assert_eq!(raw(proxy.address, chunked(&most)).await.cache(), "hit", "framing is not in the key");
    for body in [&over, &far] {
        for text in [request_text("POST", "/search", &[], body), chunked(body)] {
            let answer = raw(proxy.address, text).await;

            assert_eq!((told(&answer), answer.status), (BYPASS_BODY, 200));
            assert_eq!(backend.requests().pop().unwrap().body, body.as_bytes());
        }
    }
    assert_eq!(backend.count(), 5);
}

#[tokio::test]
async fn a_small_body_in_chunks_over_time_is_read_with_100_continue() {
    let backend = counting(&[]).await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").start();
    assert_eq!(post(&proxy, "/search", "{\"a\":1}").await.cache(), "miss");

    let mut client = Client::connect(proxy.address).await;
    client
        .send(format!(
            "POST /search HTTP/1.1\r\nHost: coach.example\r\n{JSON}\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
    let go_on = client.head().await.unwrap();
    for piece in ["3\r\n{\"a", "\r\n1\r\n\"\r\n", "3\r\n:1}\r\n", "0\r\n\r\n"] {
        client.send(piece).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let hit = client.answer().await;

    assert!(go_on.starts_with("HTTP/1.1 100 "), "{go_on}");
    assert_eq!((hit.cache(), hit.text().as_str()), ("hit", "0 {\"a\":1}"));
    client.send(request_text("POST", "/search", &[JSON], "{\"a\":1}")).await;
    assert_eq!(client.answer().await.cache(), "hit", "the connection was kept");
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn http2_bodies_are_read_too_and_share_entries_with_http1() {
    let backend = counting(&[]).await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: raw }").start();
    let h2 = H2::connect(proxy.address).await;
    let cache = |answer: &crate::support::h2c::H2Answer| {
        answer.headers["x-cache-status"].to_str().unwrap().to_owned()
    };
    let long = vec![b'x'; 300_000];

    let miss = h2.post("/search", b"question".to_vec()).await.unwrap();
    let hit = h2.post("/search", b"question".to_vec()).await.unwrap();
    let over_http1 = request(proxy.address, "POST", "/search", "question").await;
    let past = h2.post("/search", long.clone()).await.unwrap();

    assert_eq!((cache(&miss), cache(&hit), over_http1.cache()), ("miss".into(), "hit".into(), "hit"));
    assert_eq!((hit.body, over_http1.body), (miss.body.clone(), miss.body));
    // A stream that is reset in the middle of its body.
    let (response, mut stream) = h2.begin_post("/search").await.unwrap();
    stream.send_data("half".into(), false).unwrap();
    stream.send_reset(h2::Reason::CANCEL);
    assert!(response.await.is_err());
    assert_eq!(cache(&past), "bypass");
    assert_eq!(backend.requests().pop().unwrap().body, long);
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn a_client_that_sends_too_slowly_costs_only_its_own_request() {
    let backend = counting(&[]).await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").limits("body_idle: 150ms").start();

    for framing in ["Content-Length: 10\r\n\r\n{\"a", "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n"] {
        let mut client = Client::connect(proxy.address).await;
        let start = Instant::now();
        client.send(format!("POST /search HTTP/1.1\r\nHost: x\r\n{JSON}\r\n{framing}")).await;
        let answer = client.answer().await;

        assert_eq!(answer.refusal(), (408, "request_timeout".to_owned()), "{framing:?}");
        assert_eq!(answer.field("connection"), "close");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(backend.count(), 0);
    assert_eq!(post(&proxy, "/search", "{\"a\":1}").await.cache(), "miss");
}

#[tokio::test]
async fn a_body_that_is_cut_or_malformed_never_reaches_the_backend() {
    let backend = counting(&[]).await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: raw }").start();
    let head = "POST /search HTTP/1.1\r\nHost: x\r\n";

    let mut cut = Client::connect(proxy.address).await;
    cut.send(format!("{head}Content-Length: 10\r\n\r\nabc")).await;
    drop(cut);
    let malformed = raw(proxy.address, format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n")).await;

    assert_eq!(malformed.status, 400);
    let records = proxy.records_of(2).await;
    assert!(records.iter().any(|record| record["outcome"] == "client_abort"), "{records:#?}");
    assert_eq!((backend.count(), backend.used()), (0, 0));
}

#[tokio::test]
async fn the_limit_of_the_route_holds_for_bodies_of_unknown_length() {
    let backend = counting(&[]).await;
    let route = "{ path: /search, methods: [POST], body: 10B, cache: { ttl: 1m, key: { body: raw } } }";
    let proxy = Setup::before(&backend).routes(route).start();
    let chunked = |body: &str| {
        let size = body.len();
        format!(
            "POST /search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };

    assert_eq!(raw(proxy.address, chunked("0123456789")).await.cache(), "miss");
    let over = raw(proxy.address, chunked("0123456789a")).await;

    assert_eq!(over.refusal(), (413, "body_too_large".to_owned()));
    assert_eq!(backend.count(), 1);
}

/// A backend that answers when the test lets it.
async fn gated() -> (Backend, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let backend = Backend::start(move |_| {
        vec![Step::Gate(Arc::clone(&waits)), Step::Send(text("200 OK", &[], "shared").into_bytes())]
    })
    .await;
    (backend, gate)
}

async fn followers(proxy: &Proxy, count: u32) {
    until_async("all wait for one fetch", || async {
        proxy.metric("touchline_cache_flight_waiters", "").await == f64::from(count)
    })
    .await;
}

#[tokio::test]
async fn equal_questions_at_once_are_one_fetch_and_others_do_not_wait() {
    let (backend, gate) = gated().await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").start();
    let address = proxy.address;
    let ask = |body: String| {
        spawn(async move { raw(address, request_text("POST", "/search", &[JSON], &body)).await })
    };

    let all: Vec<_> = (0..20).map(|n| ask(format!("{}{{\"a\":1}}", " ".repeat(n)))).collect();
    followers(&proxy, 19).await;
    let other = ask("{\"a\":2}".to_owned());
    until("the other question is asked", || backend.count() == 2).await;
    gate.add_permits(2);

    let mut statuses = Vec::new();
    for one in all {
        let answer = one.await.unwrap();
        assert_eq!(answer.text(), "shared");
        statuses.push(answer.cache().to_owned());
    }
    assert_eq!(statuses.iter().filter(|status| *status == "miss").count(), 1);
    assert_eq!(other.await.unwrap().cache(), "miss");
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_takes_nobody_with_it() {
    let (backend, gate) = gated().await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").start();
    let question = request_text("POST", "/search", &[JSON], "{}");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(proxy.address).await;
        client.send(&question).await;
        clients.push(client);
    }
    followers(&proxy, 2).await;
    until("one leads", || backend.count() == 1).await;

    let mut last = clients.pop().unwrap();
    let follower = clients.pop().unwrap();
    drop(follower);
    followers(&proxy, 1).await;
    // The first to come leads.
    drop(clients);
    until("another leads", || backend.count() == 2).await;
    gate.add_permits(2);

    let answer = last.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "shared"));
    assert_eq!(post(&proxy, "/search", "{}").await.cache(), "hit");
}

#[tokio::test]
async fn a_stale_answer_is_refreshed_behind_it_with_the_same_body() {
    let backend = counting(&[]).await;
    let proxy = searching(&backend, "ttl: 200ms, stale_while_revalidate: 1m, key: { body: json }").start();
    let question = "{ \"a\" : 1 }";
    post(&proxy, "/search", question).await;

    until_async("a stale answer is served", || async {
        let answer = post(&proxy, "/search", "{\"a\":1}").await;
        assert!(answer.text().starts_with("0 ") || backend.count() > 1, "{}", answer.text());
        answer.cache() == "stale"
    })
    .await;
    until("it is refreshed", || backend.count() >= 2).await;

    let refreshed = backend.requests().swap_remove(1);
    assert_eq!((refreshed.method(), refreshed.target()), ("POST", "/search"));
    assert_eq!(
        (refreshed.body.as_slice(), refreshed.field("content-type")),
        (&b"{\"a\":1}"[..], Some("application/json"))
    );
    assert_eq!((refreshed.field("if-none-match"), refreshed.field("content-length")), (None, Some("7")));
}

#[tokio::test]
async fn an_expired_answer_is_fetched_without_conditions_and_serves_when_the_backend_fails() {
    let backend = counting(&["ETag: \"one\"", "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"]).await;
    let faults = Faults::before(backend.address).await;
    let proxy = Setup::at(faults.address).routes(&search_route("ttl: 100ms, key: { body: json }")).start();
    assert_eq!(post(&proxy, "/search", "{}").await.cache(), "miss");
    until_async("it is out of date", || async { post(&proxy, "/search", "{}").await.cache() == "miss" })
        .await;

    assert!(backend.requests().iter().all(|request| request.field("if-none-match").is_none()));
    assert!(backend.requests().iter().all(|request| request.field("if-modified-since").is_none()));
    faults.set(Mode::Refuse).await;
    until_async("the copy stands in for the backend", || async {
        post(&proxy, "/search", "{}").await.cache() == "stale"
    })
    .await;
    assert_eq!(post(&proxy, "/search", "{\"other\":1}").await.status, 502);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let backend = Backend::start(|request| match request.nth {
        0 => answer("200 OK", &[], "first"),
        _ => vec![Step::Close],
    })
    .await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").upstream("retries: 1").start();

    assert_eq!(post(&proxy, "/search", "{\"a\":1}").await.status, 200);
    // The second comes over the same connection, which the backend then closes: it may have read the request.
    let failed = post(&proxy, "/search", "{\"a\":2}").await;

    assert_eq!(failed.refusal(), (502, "upstream_closed".to_owned()));
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn what_is_not_stored_lets_the_next_go_without_waiting() {
    let backend = counting(&["Cache-Control: no-store"]).await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").start();

    let first = post(&proxy, "/search", "{}").await;
    let second = post(&proxy, "/search", "{}").await;
    let other = post(&proxy, "/search", "{\"a\":1}").await;

    assert_eq!(first.detail(), "touchline; fwd=uri-miss; fwd-status=200; detail=no_store");
    assert_eq!(told(&second), ("bypass", "touchline; fwd=bypass; fwd-status=200; detail=hit_for_miss"));
    assert_eq!(other.cache(), "miss");
}

#[tokio::test]
async fn variants_of_answers_to_posts_are_kept_apart() {
    let backend = Backend::start(|request| {
        answer("200 OK", &["Vary: Accept-Language"], request.field("accept-language").unwrap_or("-"))
    })
    .await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: json }").start();

    for round in ["miss", "hit"] {
        for language in ["de", "en"] {
            let field = format!("Accept-Language: {language}");
            let answer = raw(proxy.address, request_text("POST", "/search", &[JSON, &field], "{}")).await;
            assert_eq!((answer.text().as_str(), answer.cache()), (language, round));
        }
    }
}

#[tokio::test]
async fn where_the_cache_only_observes_or_is_off_no_body_is_read_ahead() {
    for mode in ["observe", "off"] {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let backend = Backend::raw(move |mut stream, _| {
            let count = Arc::clone(&count);
            async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let mut buffer = Vec::new();
                while crate::support::backend::read_head(&mut stream, &mut buffer).await.is_some() {
                    count.fetch_add(1, SeqCst);
                    while !buffer.ends_with(b"end") {
                        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    buffer.clear();
                    let _ = stream.write_all(text("200 OK", &[], "done").as_bytes()).await;
                }
            }
        })
        .await;
        let proxy = searching(&backend, &format!("mode: {mode}, ttl: 1m, key: {{ body: raw }}")).start();

        let mut client = Client::connect(proxy.address).await;
        client.send("POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhello").await;
        until("the head is at the backend before the end of the body", || seen.load(SeqCst) == 1).await;
        client.send("end").await;

        let detail = format!("touchline; fwd=bypass; detail={mode}");
        assert_eq!(told(&client.answer().await), ("bypass", detail.as_str()));
    }
}

#[tokio::test]
async fn a_body_that_proves_too_long_is_streamed_on_before_its_end() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let backend = Backend::raw(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut buffer = Vec::new();
            if crate::support::backend::read_head(&mut stream, &mut buffer).await.is_none() {
                return;
            }
            while !buffer.ends_with(b"0\r\n\r\n") {
                count.store(buffer.len(), SeqCst);
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let _ = stream.write_all(text("200 OK", &[], "done").as_bytes()).await;
        }
    })
    .await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: raw }").start();

    let mut client = Client::connect(proxy.address).await;
    client.send("POST /search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send(format!("11170\r\n{}\r\n", "x".repeat(70_000))).await;
    until("what was read ahead is at the backend", || seen.load(SeqCst) >= 70_000).await;
    client.send("3\r\nend\r\n0\r\n\r\n").await;

    assert_eq!(told(&client.answer().await), BYPASS_BODY);
}

/// A backend that answers GraphQL requests with a count, and with errors to those that ask for them.
async fn graphql() -> Backend {
    let count = AtomicUsize::new(0);
    Backend::start(move |request| {
        let count = count.fetch_add(1, SeqCst);
        let body = if String::from_utf8_lossy(&request.body).contains("broken") {
            format!("{{\"data\":{{\"n\":{count}}},\"errors\":[{{\"message\":\"no\"}}]}}")
        } else {
            format!("{{\"data\":{{\"n\":{count}}}}}")
        };
        answer("200 OK", &["Content-Type: application/json"], &body)
    })
    .await
}

#[tokio::test]
async fn graphql_queries_are_answered_from_the_cache_until_a_mutation() {
    let backend = graphql().await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: graphql }").start();
    let query = r#"{"query":"query A($x: Int) { a(x: $x) }","variables":{"x":1},"operationName":"A"}"#;
    let permuted = r#"{"operationName":"A", "variables":{"x": 1}, "query":"query A($x: Int) { a(x: $x) }"}"#;

    assert_eq!(post(&proxy, "/search", query).await.cache(), "miss");
    assert_eq!(post(&proxy, "/search", permuted).await.cache(), "hit");
    assert_eq!(post(&proxy, "/search", &query.replace("\"x\":1", "\"x\":2")).await.cache(), "miss");
    // A query that goes past the cache is a read all the same.
    let private =
        raw(proxy.address, request_text("POST", "/search", &[JSON, "Authorization: x"], query)).await;
    assert_eq!(private.cache(), "bypass");
    assert_eq!(post(&proxy, "/search", query).await.cache(), "hit");
    for write in [
        r#"{"query":"mutation { a }"}"#,
        r#"[{"query":"{ a }"},{"query":"{ b }"}]"#,
        r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"}}}"#,
        r#"{"query":"query A { a } mutation B { b }","operationName":"B"}"#,
    ] {
        let answer = post(&proxy, "/search", write).await;
        assert_eq!(told(&answer), BYPASS_BODY, "{write}");
        assert_eq!(post(&proxy, "/search", query).await.cache(), "miss", "after {write}");
        assert_eq!(post(&proxy, "/search", query).await.cache(), "hit", "after {write}");
    }
    // One with credentials is not read ahead, and found out on its way.
    raw(
        proxy.address,
        request_text("POST", "/search", &[JSON, "Authorization: x"], r#"{"query":"mutation { a }"}"#),
    )
    .await;
    assert_eq!(post(&proxy, "/search", query).await.cache(), "miss");
}

#[tokio::test]
async fn a_graphql_answer_with_errors_is_not_stored() {
    let backend = graphql().await;
    let proxy = searching(&backend, "ttl: 1m, key: { body: graphql }").start();
    let query = r#"{"query":"{ broken }"}"#;

    let first = post(&proxy, "/search", query).await;
    let second = post(&proxy, "/search", query).await;

    assert_eq!(
        (first.status, first.detail()),
        (200, "touchline; fwd=uri-miss; fwd-status=200; detail=graphql_errors")
    );
    assert_ne!(second.cache(), "hit");
    assert_eq!(backend.count(), 2);
}

/// Routes whose entries carry a user's tag, and writes that name the user in their body.
fn of_users(backend: &Backend) -> Setup {
    Setup::before(backend).routes(
        "{ path: \"/users/{id}\", cache: { ttl: 1m, tags: [\"user:{id}\"] } }, \
         { path: /pages, cache: { ttl: 1m, tags: [pages] } }, \
         { path: \"/files/{id}\", cache: { ttl: 1m } }, \
         { path: /save, methods: [POST], invalidates: [\"user:{body.user_id}\"] }, \
         { path: /upload, methods: [POST], invalidates: [\"/files/{body.file}\"] }",
    )
}

async fn fill(proxy: &Proxy, paths: &[&str]) {
    for path in paths {
        get(proxy.address, path).await;
        assert_eq!(get(proxy.address, path).await.cache(), "hit", "{path}");
    }
}

/// Which of the paths are still answered from the cache.
async fn alive<'a>(proxy: &Proxy, paths: &[&'a str]) -> Vec<&'a str> {
    let mut alive = Vec::new();
    for path in paths {
        // What is looked for must not be stored by looking for it.
        let answer = get_with(proxy.address, path, &["Cache-Control: only-if-cached"]).await;
        if answer.status == 200 {
            alive.push(*path);
        }
    }
    alive
}

#[tokio::test]
async fn a_member_of_the_body_says_whose_entries_end() {
    let backend = counting(&[]).await;
    let proxy = of_users(&backend).start();
    let paths = ["/users/7", "/users/8", "/users/a%20b", "/pages"];
    let long = format!("{{\"user_id\":7,\"text\":\"{}\"}}", "x".repeat(65 * 1024));
    let cases = [
        (r#"{"user_id":"7"}"#, vec!["/users/8", "/users/a%20b", "/pages"]),
        (r#"{"name":"x","user_id":7}"#, vec!["/users/8", "/users/a%20b", "/pages"]),
        (r#"{"user_id":"a b"}"#, vec!["/users/7", "/users/8", "/pages"]),
        (r#"{"user_id":"9"}"#, vec!["/users/7", "/users/8", "/users/a%20b", "/pages"]),
        // Who it is cannot be told: then all users' entries end.
        (r#"{"user":"7"}"#, vec!["/pages"]),
        (r#"{"user_id":null}"#, vec!["/pages"]),
        (r#"{"user_id":{"id":7}}"#, vec!["/pages"]),
        (r#"{"user_id":7,"user_id":8}"#, vec!["/pages"]),
        ("user_id=7", vec!["/pages"]),
        ("", vec!["/pages"]),
        (long.as_str(), vec!["/pages"]),
    ];

    for (body, left) in cases {
        fill(&proxy, &paths).await;

        let answer = request(proxy.address, "POST", "/save", body).await;

        assert_eq!(answer.status, 200);
        assert_eq!(backend.requests().pop().unwrap().body, body.as_bytes());
        let shown = body.get(..40).unwrap_or(body);
        assert_eq!(alive(&proxy, &paths).await, left, "{shown}");
    }
}

#[tokio::test]
async fn a_body_in_chunks_is_copied_as_it_is_sent_and_a_failed_write_ends_nothing() {
    let backend = Backend::start(|request| match request.target() {
        "/save?fail" => answer("409 Conflict", &[], ""),
        target => answer("200 OK", &[], target),
    })
    .await;
    let proxy = of_users(&backend).start();
    let paths = ["/users/7", "/users/8"];
    fill(&proxy, &paths).await;

    request(proxy.address, "POST", "/save?fail", r#"{"user_id":"7"}"#).await;
    assert_eq!(alive(&proxy, &paths).await, paths);
    let head = "POST /save HTTP/1.1\r\nHost: coach.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{head}9\r\n{{\"user_id\r\n")).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.send("6\r\n\":\"7\"}\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);

    assert_eq!(alive(&proxy, &paths).await, ["/users/8"]);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_ends_all_that_it_may_be_about() {
    let backend = Backend::raw(|mut stream, _| async move {
        use tokio::io::AsyncWriteExt as _;
        let mut buffer = Vec::new();
        while let Some(head) = crate::support::backend::read_head(&mut stream, &mut buffer).await {
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = text("200 OK", &[], &target);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let proxy = of_users(&backend).start();
    let paths = ["/users/7", "/users/8", "/pages"];
    fill(&proxy, &paths).await;

    let mut client = Client::connect(proxy.address).await;
    client
        .send("POST /save HTTP/1.1\r\nHost: coach.example\r\nContent-Length: 100\r\n\r\n{\"user_id\":\"7\",")
        .await;
    assert_eq!(client.answer().await.status, 200);

    assert_eq!(alive(&proxy, &paths).await, ["/pages"]);
}

#[tokio::test]
async fn a_url_from_a_body_is_ended_where_it_can_be_told() {
    let backend = counting(&[]).await;
    let proxy = of_users(&backend).start();
    let paths = ["/files/a-1", "/files/b", "/pages"];

    fill(&proxy, &paths).await;
    request(proxy.address, "POST", "/upload", r#"{"file":"a-1"}"#).await;
    assert_eq!(alive(&proxy, &paths).await, ["/files/b", "/pages"]);
    fill(&proxy, &paths).await;
    request(proxy.address, "POST", "/upload", r#"{"file":"ä b"}"#).await;
    assert_eq!(alive(&proxy, &paths).await, ["/pages"]);
}

#[tokio::test]
async fn a_read_by_post_may_end_entries_of_others_when_it_reaches_the_backend() {
    let backend = counting(&[]).await;
    let routes = "{ path: \"/users/{id}\", cache: { ttl: 1m, tags: [\"user:{id}\"] } }, \
                  { path: /search, methods: [POST], invalidates: [\"user:{body.user_id}\"], \
                    cache: { ttl: 1m, key: { body: json } } }";
    let proxy = Setup::before(&backend).routes(routes).start();
    let paths = ["/users/7", "/users/8"];
    fill(&proxy, &paths).await;

    assert_eq!(post(&proxy, "/search", r#"{"user_id":7}"#).await.cache(), "miss");
    assert_eq!(alive(&proxy, &paths).await, ["/users/8"]);
    fill(&proxy, &paths).await;
    assert_eq!(post(&proxy, "/search", r#"{"user_id": 7}"#).await.cache(), "hit");
    assert_eq!(alive(&proxy, &paths).await, paths);
}
