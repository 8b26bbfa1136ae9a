//! Coded answers: one plain copy for all clients, coded on demand; and copies that the backend coded itself.

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Request, Script, answer, send},
    client::{Answer, Client, get, get_text, get_with, raw, request_text},
    h2c::H2,
    spawn, until_async,
};

const BROTLI: &str = "Accept-Encoding: gzip, deflate, br";
const GZIP: &str = "Accept-Encoding: gzip";

/// A rule for everything under `/cached`.
const RULE: &str = "ttl: 1m, public: true, compress: true";

/// A JSON body of some kilobytes.
fn body() -> String {
    format!("[{}]", vec!["{\"challenge\":\"be kind\",\"difficulty\":3}"; 200].join(","))
}

fn decoded(answer: &Answer) -> String {
    let mut text = String::new();
    match answer.field("content-encoding") {
        "" => return answer.text(),
        "br" => {
            let mut plain = Vec::new();
            brotli::BrotliDecompress(&mut answer.body.as_slice(), &mut plain).unwrap();
            text = String::from_utf8(plain).unwrap();
        }
        "gzip" => {
            flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
        }
        other => panic!("{other}"),
    }
    text
}

/// A backend that answers `body()` as JSON with these fields.
async fn json(fields: &'static [&'static str]) -> Backend {
    Backend::start(move |_| {
        answer("200 OK", &[&["Content-Type: application/json"], fields].concat(), &body())
    })
    .await
}

/// Asks until the answer comes in this coding.
async fn coded(proxy: &Proxy, field: &str, coding: &str) -> Answer {
    until_async(&format!("the answer comes in {coding}"), || async {
        get_with(proxy.address, "/cached/a", &[field]).await.field("content-encoding") == coding
    })
    .await;
    get_with(proxy.address, "/cached/a", &[field]).await
}

#[tokio::test]
async fn one_plain_copy_is_coded_behind_the_first_hits_for_those_who_want_that() {
    let backend = json(&["ETag: \"abc\"", "Vary: Accept-Encoding", "Accept-Ranges: bytes"]).await;
    let proxy = Setup::before(&backend).cached(RULE).start();

    let miss = get_with(proxy.address, "/cached/a", &[BROTLI]).await;
    let first = get_with(proxy.address, "/cached/a", &[BROTLI]).await;
    let brotli = coded(&proxy, BROTLI, "br").await;
    let gzip = coded(&proxy, GZIP, "gzip").await;
    let plain = get(proxy.address, "/cached/a").await;
    let preferred = get_with(proxy.address, "/cached/a", &["Accept-Encoding: br;q=0.1, gzip"]).await;
    let refused = get_with(proxy.address, "/cached/a", &["Accept-Encoding: identity, br;q=0.5"]).await;

    assert_eq!((miss.cache(), miss.field("content-encoding")), ("miss", ""));
    assert_eq!((first.cache(), first.field("content-encoding")), ("hit", ""), "nobody waits for a coding");
    for (answer, tag) in [
        (&miss, "\"abc\""),
        (&first, "\"abc\""),
        (&brotli, "\"abc-br\""),
        (&gzip, "\"abc-gz\""),
        (&plain, "\"abc\""),
        (&preferred, "\"abc-gz\""),
        (&refused, "\"abc\""),
    ] {
        assert_eq!(answer.field("etag"), tag);
        assert_eq!(answer.field("vary"), "Accept-Encoding", "said once");
        assert_eq!(answer.field("content-length"), answer.body.len().to_string());
        assert_eq!(decoded(answer), body());
        assert_eq!(answer.field("content-type"), "application/json");
        assert_eq!(answer.field("accept-ranges").is_empty(), tag != "\"abc\"");
    }
    assert!(brotli.body.len() < body().len() / 10 && gzip.body.len() < body().len() / 10);
    assert_eq!(brotli.fields("age").len(), 1);
    assert_eq!(backend.request().field("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn that_an_answer_could_be_coded_is_said_even_where_it_is_plain() {
    let backend = Backend::start(|request| {
        let json = "Content-Type: application/json";
        match request.target() {
            "/cached/whole" => answer("200 OK", &[json], &body()),
            "/cached/chunked" => send(format!(
                "HTTP/1.1 200 OK\r\n{json}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                body().len(),
                body()
            )),
            "/cached/small" => answer("200 OK", &[json], "{}"),
            "/cached/picture" => answer("200 OK", &["Content-Type: image/png"], &body()),
            "/cached/fixed" => answer("200 OK", &[json, "Cache-Control: no-transform"], &body()),
            "/cached/coded" => answer("200 OK", &[json, "Content-Encoding: br"], &body()),
            _ => answer("404 Not Found", &[json], &body()),
        }
    })
    .await;
    let proxy = Setup::before(&backend).cached(RULE).start();

    for (path, vary) in [
        ("/cached/whole", "Accept-Encoding"),
        ("/cached/chunked", "Accept-Encoding"),
        ("/cached/small", ""),
        ("/cached/picture", ""),
        ("/cached/fixed", ""),
        ("/cached/coded", ""),
        ("/cached/missing", ""),
    ] {
        for outcome in ["miss", "hit"] {
            let answer = get_with(proxy.address, path, &["Accept-Encoding: identity"]).await;
            assert_eq!((answer.cache(), answer.field("vary")), (outcome, vary), "{path}");
        }
    }
    // What may not be coded never is, however often it is wanted.
    for path in ["/cached/small", "/cached/picture", "/cached/fixed", "/cached/coded", "/cached/missing"] {
        for _ in 0..20 {
            let answer = get_with(proxy.address, path, &[GZIP]).await;
            assert_eq!(answer.cache(), "hit", "{path}");
            let coding = if path == "/cached/coded" { "br" } else { "" };
            assert_eq!(answer.field("content-encoding"), coding, "{path}");
        }
    }
}

#[tokio::test]
async fn conditions_are_held_against_the_representation_that_the_client_has() {
    let backend = json(&["ETag: \"abc\""]).await;
    let proxy = Setup::before(&backend).cached(RULE).start();
    get(proxy.address, "/cached/a").await;
    let ask = async |accept: &'static str, tag: &str| {
        let answer = get_with(proxy.address, "/cached/a", &[accept, &format!("If-None-Match: {tag}")]).await;
        assert_eq!(answer.cache(), "hit");
        assert_eq!(answer.field("vary"), "Accept-Encoding");
        assert_eq!(answer.body.is_empty(), answer.status == 304);
        (answer.status, answer.field("etag").to_owned())
    };
    let (same, plain) = (|tag: &str| (304, tag.to_owned()), (200, "\"abc\"".to_owned()));

    // Also before the coding is made: a client that has it from before a restart need not fetch it again.
    assert_eq!(ask(BROTLI, "\"abc-br\"").await, same("\"abc-br\""));
    coded(&proxy, BROTLI, "br").await;
    coded(&proxy, GZIP, "gzip").await;

    assert_eq!(ask(BROTLI, "\"abc-br\"").await, same("\"abc-br\""));
    assert_eq!(ask(BROTLI, "W/\"abc-br\", \"x\"").await, same("\"abc-br\""));
    assert_eq!(ask(BROTLI, "\"abc\"").await, same("\"abc\""), "the plain one is as good as ever");
    assert_eq!(ask(BROTLI, "*").await, same("\"abc-br\""));
    assert_eq!(ask(GZIP, "\"abc-gz\", \"abc-br\"").await, same("\"abc-gz\""));
    assert_eq!(ask(GZIP, "\"abc-br\"").await, (200, "\"abc-gz\"".to_owned()), "it could not be read");
    assert_eq!(ask("X-A: 1", "\"abc-br\"").await, plain);
    assert_eq!(ask("X-A: 1", "\"abc\"").await, same("\"abc\""));
    assert_eq!(ask(BROTLI, "\"old-br\"").await, (200, "\"abc-br\"".to_owned()));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn a_weak_tag_stays_and_a_tag_of_ours_gets_its_suffix() {
    for (fields, tag, coded_tag) in [
        (&["ETag: W/\"abc\""][..], "W/\"abc\"", "W/\"abc\""),
        (&["ETag: \"abc\""], "\"abc\"", "\"abc-gz\""),
        (&["ETag: bare"], "bare", ""),
    ] {
        let backend = json(fields).await;
        let proxy = Setup::before(&backend).cached(RULE).start();
        let plain = get(proxy.address, "/cached/a").await;
        let coded = coded(&proxy, GZIP, "gzip").await;

        assert_eq!((plain.field("etag"), coded.field("etag")), (tag, coded_tag));
    }
    let backend = json(&[]).await;
    let proxy = Setup::before(&backend).cached(RULE).start();
    get(proxy.address, "/cached/a").await;
    let plain = get(proxy.address, "/cached/a").await.field("etag").trim_matches('"').to_owned();
    let coded = coded(&proxy, GZIP, "gzip").await;
    assert_eq!((plain.len(), coded.field("etag")), (32, format!("\"{plain}-gz\"").as_str()));
}

#[tokio::test]
async fn a_head_mirrors_the_get_and_a_range_is_cut_from_the_plain_body() {
    let dated = "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT";
    let backend = json(&["ETag: \"abc\"", "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"]).await;
    let proxy = Setup::before(&backend).cached(RULE).start();
    get(proxy.address, "/cached/a").await;
    let get = coded(&proxy, BROTLI, "br").await;

    let head = raw(proxy.address, request_text("HEAD", "/cached/a", &[BROTLI], "")).await;
    for name in
        ["content-encoding", "content-length", "etag", "vary", "content-type", "cache-control", "date"]
    {
        assert_eq!(head.field(name), get.field(name), "{name}");
    }
    assert_eq!((head.status, head.cache(), head.body.len()), (200, "hit", 0));
    let part = get_with(proxy.address, "/cached/a", &[BROTLI, "Range: bytes=1-13"]).await;
    assert_eq!((part.status, part.text().as_str()), (206, &body()[1..14]));
    assert_eq!((part.field("etag"), part.field("content-encoding")), ("\"abc\"", ""));
    assert_eq!(
        (part.field("content-range"), part.field("vary")),
        (format!("bytes 1-13/{}", body().len()).as_str(), "Accept-Encoding")
    );
    let date = dated.replace("Last-Modified", "If-Range");
    for (validator, accept, status) in [
        ("If-Range: \"abc\"", BROTLI, 206),
        ("If-Range: \"abc-br\"", BROTLI, 200),
        (date.as_str(), "X-A: 1", 206),
        (date.as_str(), "Accept-Encoding: identity", 206),
        // The first part may be of another representation with the same date.
        (date.as_str(), BROTLI, 200),
    ] {
        let part = get_with(proxy.address, "/cached/a", &[accept, "Range: bytes=1-13", validator]).await;
        assert_eq!(part.status, status, "{validator} {accept}");
        assert_eq!(decoded(&part).len(), if status == 206 { 13 } else { body().len() });
    }
    let beyond = get_with(proxy.address, "/cached/a", &[BROTLI, "Range: bytes=99999-"]).await;
    assert_eq!((beyond.status, beyond.field("vary")), (416, "Accept-Encoding"));
    assert_eq!(beyond.field("content-range"), format!("bytes */{}", body().len()));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn a_head_that_misses_says_that_the_get_would_vary_and_no_transform_of_a_client_is_obeyed() {
    let backend = json(&["ETag: \"abc\""]).await;
    let proxy = Setup::before(&backend).cached(RULE).start();

    let head = raw(proxy.address, request_text("HEAD", "/cached/b", &[BROTLI], "")).await;
    get(proxy.address, "/cached/a").await;
    coded(&proxy, BROTLI, "br").await;
    let plain = get_with(proxy.address, "/cached/a", &[BROTLI, "Cache-Control: no-transform"]).await;

    assert_eq!(
        (head.cache(), head.field("vary"), head.field("content-encoding")),
        ("miss", "Accept-Encoding", "")
    );
    assert_eq!((plain.cache(), plain.field("content-encoding"), plain.field("etag")), ("hit", "", "\"abc\""));
}

#[tokio::test]
async fn a_coding_ends_with_its_entry_and_outlives_a_validation() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let backend = Backend::start(move |request| {
        let version = now.load(SeqCst);
        let tag = format!("ETag: \"v{version}\"");
        match request.field("if-none-match") {
            Some(known) if tag.ends_with(known) => {
                send(format!("HTTP/1.1 304 Not Modified\r\n{tag}\r\nVary: Origin\r\nX-Round: 2\r\n\r\n"))
            }
            _ => answer(
                "200 OK",
                &["Content-Type: application/json", &tag, "Vary: Origin"],
                &body().replace('3', &version.to_string()),
            ),
        }
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 300ms, public: true, compress: true").start();
    get(proxy.address, "/cached/a").await;
    coded(&proxy, GZIP, "gzip").await;

    until_async("the entry is confirmed", || async {
        let answer = get_with(proxy.address, "/cached/a", &[GZIP]).await;
        assert_eq!(decoded(&answer), body().replace('3', "1"));
        assert_eq!(answer.fields("vary"), ["Origin", "Accept-Encoding"]);
        if answer.cache() == "revalidated" {
            assert_eq!(answer.field("x-round"), "2");
            assert_eq!(answer.field("content-encoding"), "gzip", "the coded body was made again");
        }
        answer.cache() == "revalidated"
    })
    .await;
    version.store(2, SeqCst);
    proxy.post("/cache/purge", "{\"url\":\"/cached/a\"}").await;
    let fresh = get_with(proxy.address, "/cached/a", &[GZIP]).await;
    assert_eq!(
        (fresh.cache(), fresh.field("etag"), decoded(&fresh)),
        ("miss", "\"v2\"", body().replace('3', "2"))
    );
    until_async("the new entry is coded", || async {
        let answer = get_with(proxy.address, "/cached/a", &[GZIP]).await;
        assert_eq!(decoded(&answer), body().replace('3', "2"));
        answer.field("content-encoding") == "gzip"
    })
    .await;
}

#[tokio::test]
async fn a_client_of_http_2_gets_the_same() {
    let backend = json(&["ETag: \"abc\""]).await;
    let proxy = Setup::before(&backend).cached(RULE).start();
    get(proxy.address, "/cached/a").await;
    let over_http1 = coded(&proxy, BROTLI, "br").await;

    let client = H2::connect(proxy.address).await;
    let over_http2 = client.get_with("/cached/a", &[("accept-encoding", "br")]).await.unwrap();

    assert_eq!(over_http2.headers["content-encoding"], "br");
    assert_eq!(over_http2.headers["etag"], "\"abc-br\"");
    assert_eq!(over_http2.headers["vary"], "Accept-Encoding");
    assert_eq!(over_http2.headers["content-length"], over_http1.body.len().to_string());
    assert_eq!(over_http2.body, over_http1.body);
}

#[tokio::test]
async fn a_write_under_the_tag_of_a_coded_copy_reaches_the_backend_with_its_own_tag() {
    let backend = json(&["ETag: \"abc\""]).await;
    let proxy = Setup::before(&backend)
        .routes(&format!("{{ path: /coded, methods: [GET], cache: {{ {RULE} }} }}"))
        .start();

    for path in ["/coded", "/plain"] {
        raw(proxy.address, request_text("PUT", path, &["If-Match: \"abc-br\""], "x")).await;
    }

    let sent: Vec<_> = backend
        .requests()
        .iter()
        .map(|request| request.field("if-match").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(sent, ["\"abc-br\", \"abc\"", "\"abc-br\""]);
}

#[tokio::test]
async fn many_clients_at_once_have_a_body_coded_once_and_none_of_them_waits() {
    let long = Arc::new(vec![body(); 60].join(","));
    let sent = Arc::clone(&long);
    let backend = Backend::start(move |_| answer("200 OK", &["Content-Type: application/json"], &sent)).await;
    let proxy = Setup::before(&backend).limits("per_ip: 0").cached(RULE).start();
    get(proxy.address, "/cached/a").await;

    let asking: Vec<_> = (0..50)
        .map(|number| {
            let (address, long) = (proxy.address, Arc::clone(&long));
            spawn(async move {
                let mut client = Client::connect(address).await;
                let accept = if number % 2 == 0 { GZIP } else { BROTLI };
                for _ in 0..20 {
                    client.send(get_text("/cached/a", &[accept])).await;
                    let answer = client.answer().await;
                    assert_eq!(answer.cache(), "hit");
                    assert_eq!(decoded(&answer), *long);
                }
            })
        })
        .collect();
    for task in asking {
        task.await.unwrap();
    }

    coded(&proxy, BROTLI, "br").await;
    let bytes = proxy.metric("touchline_cache_bytes", "").await;
    let plain = long.len() as f64;
    assert!(bytes > plain && bytes < plain * 1.5, "{bytes} for {plain}");
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn the_backend_that_only_knows_gzip_compresses_for_browsers_on_cached_routes() {
    // As Starlette's GZipMiddleware does it.
    let gzip_only = |request: &Request| -> Script {
        let accepts = request.field("accept-encoding").unwrap_or_default();
        if !accepts.contains("gzip") {
            return answer("200 OK", &["Vary: Accept-Encoding"], "plain");
        }
        answer("200 OK", &["Vary: Accept-Encoding", "Content-Encoding: gzip"], "zipped")
    };
    let backend = Backend::start(gzip_only).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    let ask = async |accept: &str| {
        let answer = get_with(proxy.address, "/cached/a", &[accept]).await;
        (answer.cache().to_owned(), answer.text())
    };
    let seen = |cache: &str, text: &str| (cache.to_owned(), text.to_owned());

    assert_eq!(ask("Accept-Encoding: gzip, deflate, br, zstd").await, seen("miss", "zipped"));
    assert_eq!(ask("Accept-Encoding: br;q=0.9,gzip;q=0.8").await, seen("hit", "zipped"));
    assert_eq!(ask("Accept-Encoding: gzip").await, seen("miss", "zipped"));
    assert_eq!(ask("Accept-Encoding: br").await, seen("miss", "plain"));
    assert_eq!(ask("Accept-Encoding: identity").await, seen("miss", "plain"));
    assert_eq!(ask("X-A: 1").await, seen("hit", "plain"));
    assert_eq!(ask("Accept-Encoding: gzip;q=0, br;q=0").await, seen("hit", "plain"));
    let asked: Vec<String> = backend
        .requests()
        .iter()
        .map(|seen| seen.field("accept-encoding").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(asked, ["br, gzip", "gzip", "br", "identity"]);
}
