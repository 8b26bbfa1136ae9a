//! `touchline explain` says what the proxy does: it is asked about the requests that the proxy has just answered.

use std::fs;

use serde_json::Value;
use touchline::{
    app::explainer,
    cache::Clock,
    config,
    ingress::{Explanation, Question},
};

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Request, Script, Step, answer, send},
    client::{Answer, get, get_with, raw, request_text},
    process::run,
    until, within,
};

/// What explain says of a request by the configuration of `setup`.
async fn explained(setup: &Setup, method: &str, target: &str, fields: &[&str]) -> Explanation {
    let config = config::load_str("test.yaml", &setup.yaml(), &|_| None).unwrap().config;
    let fields: Vec<(String, String)> = fields
        .iter()
        .filter_map(|field| field.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let url = format!("http://coach.example{target}");
    let question = Question::new(method, &url, &fields, None).unwrap();
    explainer(&config, Clock::system()).unwrap().explain(&question, true).await
}

/// What an answer says became of it, in the words of explain.
fn told(answer: &Answer) -> String {
    let member = answer.detail();
    let detail = member.split("; ").find_map(|part| part.strip_prefix("detail="));
    match detail {
        Some("refused") => format!("refused {}", answer.reason()),
        Some(detail) => format!("{} {detail}", answer.cache()),
        None if member.ends_with("stored") => "stored".to_owned(),
        None if member.ends_with("fwd=method") => "bypass method".to_owned(),
        None => panic!("{}", answer.head),
    }
}

/// The same of an explanation.
fn found(told: &Explanation) -> String {
    if let Some(refused) = &told.refused {
        return format!("refused {}", refused.reason);
    }
    let admitted = told.admission.as_ref().unwrap();
    if let Some(why) = &admitted.why {
        return format!("bypass {}", why.reason);
    }
    let answer = told.answer.as_ref().unwrap_or_else(|| panic!("{:?}", told.no_answer));
    match (&answer.stored, &answer.not_stored) {
        (Some(_), None) => "stored".to_owned(),
        (None, Some(why)) => format!("miss {}", why.reason),
        both => panic!("{both:?}"),
    }
}

const ROUTES: &str = "{ path: \"/rule/{rest*}\", cache: { ttl: 1m, max_body: 1KiB } }, \
     { path: \"/public/{rest*}\", cache: { ttl: 1m, public: true, key: { query: { only: [q] }, cookies: [plan] } } }, \
     { path: \"/off\", cache: { ttl: 1m, mode: off } }, { path: \"/observe\", cache: { ttl: 1m, mode: observe } }, \
     { path: \"/denied/{rest*}\", deny: true }";

#[tokio::test]
async fn explain_and_the_proxy_agree() {
    let table: [(&str, &str, &[&str], &[&str]); 33] = [
        ("GET", "/rule/a", &[], &[]),
        ("GET", "/rule/a", &[], &["Cache-Control: no-store"]),
        ("GET", "/rule/a", &[], &["Cache-Control: private"]),
        ("GET", "/rule/a", &[], &["Cache-Control: no-cache"]),
        ("GET", "/rule/a", &[], &["Cache-Control: no-cache", "ETag: \"a\""]),
        ("GET", "/rule/a", &[], &["Set-Cookie: a=1"]),
        ("GET", "/rule/a", &[], &["Vary: *"]),
        ("GET", "/rule/a", &[], &["Vary: Cookie"]),
        ("GET", "/rule/a", &[], &["Vary: Accept-Encoding"]),
        (
            "GET",
            "/rule/a",
            &["Accept-Encoding: gzip, br"],
            &["Vary: Accept-Encoding", "Content-Encoding: br"],
        ),
        ("GET", "/rule/a", &["Accept-Language: de"], &["Vary: Accept-Language"]),
        ("GET", "/rule/a", &[], &["Content-Type: text/event-stream"]),
        ("GET", "/rule/long", &[], &[]),
        ("GET", "/rule/tags", &[], &[]),
        ("GET", "/rule/cut", &[], &[]),
        ("GET", "/rule/close", &[], &[]),
        ("GET", "/rule/a", &["Authorization: Bearer x"], &[]),
        ("GET", "/rule/a", &["Cookie: a=1"], &[]),
        ("GET", "/rule/a", &["X-API-Key: a"], &[]),
        ("GET", "/rule/a", &["Range: bytes=0-1"], &[]),
        ("GET", "/rule/a", &["If-Match: \"a\""], &[]),
        ("GET", "/rule/a", &["Cache-Control: no-store"], &[]),
        ("GET", "/rule//a", &[], &[]),
        ("HEAD", "/rule/a", &[], &[]),
        ("POST", "/rule/a", &[], &[]),
        ("GET", "/public/a?q=1&r=2", &["Authorization: Bearer x", "Cookie: plan=1; s=2"], &[]),
        ("GET", "/off", &[], &[]),
        ("GET", "/observe", &[], &[]),
        ("GET", "/denied/x", &[], &[]),
        ("GET", "/%64enied/x", &[], &[]),
        ("GET", "/other", &[], &[]),
        ("GET", "/other", &[], &["Cache-Control: max-age=60"]),
        ("GET", "/other", &["Authorization: Bearer x"], &["Cache-Control: max-age=60"]),
    ];
    for (method, target, request, response) in table {
        let fields: Vec<String> = response.iter().map(|field| (*field).to_owned()).collect();
        let backend = Backend::start(move |request| script(request, &fields)).await;
        let setup = Setup::before(&backend).routes(ROUTES);
        let proxy = setup.start();

        let answered = raw(proxy.address, request_text(method, target, request, "")).await;
        let explanation = explained(&setup, method, target, request).await;

        // A body that breaks off does so after the head that told of it: the head said `stored`.
        let expected = match target {
            "/rule/cut" => "miss incomplete".to_owned(),
            _ => told(&answered),
        };
        assert_eq!(
            found(&explanation),
            expected,
            "{method} {target} {request:?} {response:?}: {}",
            answered.head
        );
        sent_alike(&backend, &explanation);
    }
}

/// An answer with these fields, or the odd one that the target asks for.
fn script(request: &Request, fields: &[String]) -> Script {
    let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let tags = format!("Surrogate-Key: {}", "t ".repeat(70));
    let closing = |text: &str| vec![Step::Send(text.into()), Step::Close];
    match request.target() {
        "/rule/cut" => closing("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        "/rule/close" => closing("HTTP/1.1 200 OK\r\n\r\nabc"),
        "/rule/long" => answer("200 OK", &[], &"x".repeat(2000)),
        "/rule/tags" => {
            fields.push(&tags);
            answer("200 OK", &fields, "body")
        }
        _ if request.method() == "HEAD" => send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
        _ => answer("200 OK", &fields, "body"),
    }
}

/// The backend got the same request from both, but for what differs between any two requests.
fn sent_alike(backend: &Backend, explanation: &Explanation) {
    let requests = backend.requests();
    let [first, second] = requests.as_slice() else {
        assert!(explanation.answer.is_none() && requests.len() < 2, "{requests:?}");
        return;
    };
    let plain = |head: &str| -> Vec<String> {
        let is_own = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !["traceparent", "x-request-id"].contains(&name.as_str())
        };
        let mut lines: Vec<String> = head.lines().filter(is_own).map(str::to_ascii_lowercase).collect();
        lines.sort();
        lines
    };
    assert_eq!(plain(&first.head), plain(&second.head));
    let sent = explanation.sent.as_ref().unwrap();
    assert_eq!(second.target(), sent.target);
    for name in &sent.fields {
        assert_eq!(second.fields(name), Vec::<&str>::new(), "{name}");
    }
    for name in &sent.written {
        assert_eq!(second.fields(name).len(), 1, "{name}");
    }
}

#[tokio::test]
async fn what_is_left_out_is_named() {
    let backend = Backend::start(|_| answer("200 OK", &[], "body")).await;
    let setup = Setup::before(&backend).routes(ROUTES);
    let fields = [
        "Cookie: plan=1; s=2",
        "X-Real-IP: 1.1.1.1",
        "If-None-Match: \"a\"",
        "Accept-Encoding: gzip, deflate",
    ];

    let told = explained(&setup, "GET", "/public/a?q=1&r=2&r=3", &fields).await;

    let sent = told.sent.unwrap();
    assert_eq!((sent.query, sent.cookies), (vec!["r".to_owned()], vec!["s".to_owned()]));
    assert_eq!(sent.fields, ["x-real-ip", "if-none-match"]);
    assert_eq!(sent.changed.len(), 1, "{:?}", sent.changed);
    assert_eq!((sent.target.as_str(), sent.fills), ("/public/a?q=1", true));
    let seen = backend.request();
    assert_eq!((seen.target(), seen.field("cookie")), ("/public/a?q=1", Some("plan=1")));
}

#[tokio::test]
async fn an_endless_body_is_given_up() {
    let backend = Backend::start(|_| {
        vec![
            Step::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into()),
            Step::Endless(format!("400\r\n{}\r\n", "x".repeat(1024)).into()),
        ]
    })
    .await;
    let setup = Setup::before(&backend).routes(ROUTES);

    let told = within("the explanation", Box::pin(explained(&setup, "GET", "/rule/endless", &[]))).await;

    assert_eq!(found(&told), "miss too_large");
    until("the connection is closed", || !backend.left().is_empty()).await;
}

/// Asks the control listener what is stored.
async fn entry(proxy: &Proxy, target: &str, fields: &[(&str, &str)]) -> Value {
    // In a spelling that `post` does not take for a host of its own.
    let body = serde_json::json!({ "url": format!("http://Coach.Example{target}"), "headers": fields });
    let answer = proxy.post("/api/v1/cache/entry", &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn a_running_process_tells_what_it_has_stored() {
    let backend =
        Backend::start(|_| answer("200 OK", &["Vary: X-Plan", "Surrogate-Key: daily"], "body")).await;
    let proxy = Setup::before(&backend)
        .routes("{ path: \"/cached/{id}\", name: cached, cache: { ttl: 1m, tags: [\"id:{id}\"] } }")
        .start();

    let before = entry(&proxy, "/cached/a", &[]).await;
    assert_eq!((&before["absence"], &before["entry"]), (&"absent".into(), &Value::Null));
    get_with(proxy.address, "/cached/a", &["X-Plan: 1"]).await;
    get_with(proxy.address, "/cached/a", &["X-Plan: 1"]).await;
    let records = proxy.records_of(2).await.len();

    let stored = entry(&proxy, "/cached/a", &[("X-Plan", "1")]).await;
    assert_eq!(
        (&stored["route"], &stored["absence"], &stored["variants"]),
        (&"cached".into(), &Value::Null, &1.into())
    );
    let found = &stored["entry"];
    assert_eq!(
        (&found["status"], &found["source"], &found["body_bytes"]),
        (&200.into(), &"rule".into(), &4.into())
    );
    assert_eq!(
        (&found["vary"][0], &found["tags"]),
        (&"x-plan".into(), &serde_json::json!(["id:a", "daily"]))
    );
    assert!((55..=60).contains(&found["ttl_s"].as_i64().unwrap()), "{found}");
    assert_eq!(entry(&proxy, "/cached/a", &[("X-Plan", "2")]).await["absence"], "vary");
    assert_eq!(entry(&proxy, "/cached/a", &[("Authorization", "x")]).await["bypass"], "authorization");

    proxy.post("/cache/purge", r#"{"tag":"id:*"}"#).await;
    let purged = entry(&proxy, "/cached/a", &[("X-Plan", "1")]).await;
    assert_eq!((&purged["absence"], &purged["purged"]["scope"]), (&"purged".into(), &"tag".into()));
    assert_eq!((records, backend.count()), (2, 1));
    assert_eq!(proxy.records().len(), 2, "a look is no request");
}

#[tokio::test]
async fn a_question_that_no_client_could_ask_is_refused() {
    let backend = Backend::start(|_| answer("200 OK", &[], "body")).await;
    let proxy = Setup::before(&backend).routes(ROUTES).start();
    let table = [
        (r#"{"url":"/denied/x"}"#, "denied"),
        (r#"{"url":"nowhere"}"#, "neither a path"),
        (r#"{"url":"/a","headers":[["Host","a"],["Host","b"]]}"#, "bad_host"),
        (r#"{"url":"/a","headers":[["A","b\r\nC: d"]]}"#, "a value that no field may have"),
    ];
    for (body, word) in table {
        let answer = proxy.post("/api/v1/cache/entry", body).await;

        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(word), "{body}: {}", answer.text());
    }
    let admin = raw(
        proxy.admin,
        request_text("POST", "/api/v1/cache/entry", &["Content-Type: text/plain"], "{}")
            .replace("coach.example", "localhost"),
    )
    .await;
    assert_eq!(admin.status, 404, "keys are told on the control listener alone");
}

#[tokio::test]
async fn the_command_explains_and_asks_the_running_process() {
    let backend = Backend::start(|_| answer("200 OK", &[], "body")).await;
    let setup = Setup::before(&backend).routes(ROUTES);
    let proxy = setup.start();
    get(proxy.address, "/rule/a").await;
    get(proxy.address, "/rule/a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.yaml");
    let running = Setup::before(&backend)
        .routes(ROUTES)
        .top("control", &format!("{{ listen: \"{}\" }}", proxy.control));
    fs::write(&file, running.yaml()).unwrap();
    let path = file.display().to_string();
    let command = |arguments: &[&str]| {
        let arguments: Vec<String> =
            ["explain", "-c", &path].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        // The backend must go on answering meanwhile.
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(&arguments)
        })
    };

    let (code, out, err) = command(&["http://coach.example/rule/a"]).await.unwrap();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for line in [
        "verdict                 cached for 1m, on the word of the rule",
        "right now               a hit: in memory, fresh for",
        "matched                 /rule/{rest*}",
        "hits                    ",
        "it runs with another configuration",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert!(!out.contains('\x1b'), "no colour where nobody watches");

    let (code, out, _) = command(&["-o", "json", "-H", "Authorization: Bearer x", "/rule/a"]).await.unwrap();
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["admission"]["why"]["reason"]), (Some(0), &"authorization".into()));
    assert_eq!(value["stored_now"]["bypass"], "authorization");

    for (arguments, word) in [
        (&["ftp://nowhere/"][..], "neither a path"),
        (&["nowhere"], "unknown key `nowhere`"),
        (&["-H", "Cookie", "/a"], "Name: value"),
        (&["--peer", "here", "/a"], "--peer"),
    ] {
        let (code, _, err) = command(arguments).await.unwrap();
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(err.contains(word), "{err}");
    }
}
