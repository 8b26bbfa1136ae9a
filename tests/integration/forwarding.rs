//! What of a request and of an answer is passed on, and what is written anew.

use crate::support::{
    app::Setup,
    backend::{Backend, answer, ok, start_unix},
    client::{self, Client, get, get_text, get_with, raw, request},
};

#[tokio::test]
async fn hop_by_hop_fields_do_not_reach_the_backend() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();

    let lines = [
        "Connection: close, X-Mine",
        "X-Mine: 1",
        "Keep-Alive: 5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eA==",
        "Proxy: evil",
        "TE: trailers",
        "Trailer: X-T",
        "Upgrade: h2c",
        "HTTP2-Settings: AAA",
        "Accept: text/plain",
    ];
    let answer = get_with(proxy.address, "/a?b=%20c", &lines).await;

    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
    let seen = backend.request();
    assert_eq!(seen.line(), "GET /a?b=%20c HTTP/1.1");
    for line in lines.iter().filter(|line| !line.starts_with("Accept")) {
        let name = line.split(':').next().unwrap();
        assert_eq!(seen.fields(name), Vec::<&str>::new(), "{name}");
    }
    assert_eq!(seen.field("accept"), Some("text/plain"));
    assert_eq!(seen.field("host"), Some("coach.example"));
}

#[tokio::test]
async fn claims_of_forwarding_by_strangers_are_replaced() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).start();

    let claims = [
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 1",
        "Forwarded: for=1.2.3.4",
        "X-Real-IP: 1.2.3.4",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X-HTTP-Method-Override: DELETE",
    ];
    get_with(proxy.address, "/", &claims).await;

    let seen = backend.request();
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-host"), Some("coach.example"));
    for name in ["forwarded", "x-real-ip", "x-forwarded-port", "x-original-url", "x-http-method-override"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn claims_of_trusted_proxies_are_believed_and_the_client_comes_first() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).ingress("trusted_proxies", "[127.0.0.0/8, 10.0.0.0/8]").start();

    let claims = ["X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.1.1", "X-Forwarded-Proto: https"];
    get_with(proxy.address, "/", &claims).await;

    let seen = backend.request();
    assert!(seen.field("x-forwarded-for").unwrap().starts_with("203.0.113.9"), "{}", seen.head);
    assert!(!seen.head.contains("6.6.6.6"), "{}", seen.head);
    assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn a_request_carries_its_trace_and_id_on() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).start();

    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = get_with(proxy.address, "/", &[trace, "X-Request-Id: mine-1"]).await;

    let seen = backend.request();
    assert!(seen.field("traceparent").unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!((seen.field("x-request-id"), answer.field("x-request-id")), (Some("mine-1"), "mine-1"));
}

#[tokio::test]
async fn bodies_arrive_whole_in_either_framing() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).start();

    request(proxy.address, "POST", "/a", "hello").await;
    let chunked = "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n";
    raw(proxy.address, chunked).await;
    request(proxy.address, "POST", "/c", "").await;

    let [plain, chunked, empty] = <[_; 3]>::try_from(backend.requests()).unwrap();
    assert_eq!((plain.field("content-length"), plain.body.as_slice()), (Some("5"), &b"hello"[..]));
    assert_eq!(
        (chunked.field("transfer-encoding"), chunked.body.as_slice()),
        (Some("chunked"), &b"hello"[..])
    );
    assert_eq!(chunked.field("x-trailer"), None);
    assert_eq!(empty.field("content-length"), Some("0"));
}

#[tokio::test]
async fn hop_by_hop_fields_of_the_backend_do_not_reach_the_client() {
    let fields =
        ["Connection: X-Secret, keep-alive", "X-Secret: 1", "Keep-Alive: timeout=5", "Server: uvicorn"];
    let backend = Backend::start(move |_| answer("200 Fine By Me", &fields, "hi")).await;
    let proxy = Setup::before(&backend).start();

    let answer = get(proxy.address, "/").await;

    assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
    for name in ["x-secret", "keep-alive", "connection"] {
        assert_eq!(answer.field(name), "", "{name}");
    }
    assert_eq!((answer.field("server"), answer.field("content-length")), ("uvicorn", "2"));
}

#[tokio::test]
async fn chunked_answers_lose_their_trailers_and_nothing_else() {
    let backend = Backend::start(|_| {
        crate::support::backend::send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        )
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;

    for _ in 0..2 {
        let answer = client.get("/").await;

        assert_eq!((answer.text().as_str(), answer.is_whole), ("abcde", true));
        assert!(!answer.head.to_ascii_lowercase().contains("x-t"), "{}", answer.head);
    }
    assert_eq!(backend.used(), 1, "the connection was kept");
}

#[tokio::test]
async fn a_head_request_has_the_length_and_no_body() {
    let backend = Backend::start(|request| {
        assert_eq!(request.method(), "HEAD");
        crate::support::backend::send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;

    for _ in 0..2 {
        client.send(client::request_text("HEAD", "/", &[], "")).await;
        let answer = client.answer_to_head().await;

        assert_eq!((answer.status, answer.field("content-length")), (200, "1234"));
    }
}

#[tokio::test]
async fn http_1_0_gets_an_answer_it_understands_and_a_close() {
    let backend = Backend::start(|_| {
        crate::support::backend::send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let text = String::from_utf8(client.rest().await).unwrap();

    assert!(text.ends_with("\r\n\r\nabc"), "{text}");
    assert!(!text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    let authority = backend.address.to_string();
    assert_eq!(backend.request().field("host"), Some(authority.as_str()));
    assert_eq!(backend.request().line(), "GET / HTTP/1.1");
}

#[tokio::test]
async fn an_absolute_target_becomes_origin_form() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).start();

    let refused = raw(proxy.address, "GET http://other/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let good = raw(proxy.address, "GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n").await;

    assert_eq!((refused.status, good.status), (400, 200));
    assert_eq!(backend.request().line(), "GET /a?b HTTP/1.1");
}

#[tokio::test]
async fn hosts_that_are_not_served_are_refused() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).ingress("hosts", "[coach.example]").start();

    let foreign = raw(proxy.address, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    let ours = get(proxy.address, "/").await;

    assert_eq!(foreign.refusal(), (421, "misdirected_request".to_owned()));
    assert_eq!(foreign.field("connection"), "close");
    assert_eq!((ours.status, backend.count()), (200, 1));
}

#[tokio::test]
async fn denied_paths_never_reach_the_backend() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).routes("{ path: \"/internal/{rest*}\", deny: true }").start();

    for path in ["/internal/x", "/%69nternal/x", "//internal/x", "/a/..;/internal/x"] {
        assert_eq!(get(proxy.address, path).await.refusal(), (403, "denied".to_owned()), "{path}");
    }

    assert_eq!(get(proxy.address, "/internally").await.status, 200);
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn fields_with_underscores_are_dropped_or_forwarded_or_refused() {
    for (word, status, seen) in [("drop", 200, false), ("forward", 200, true), ("reject", 400, false)] {
        let backend = Backend::start(|_| ok("")).await;
        let proxy = Setup::before(&backend).ingress("underscores", word).start();

        let answer = get_with(proxy.address, "/", &["X_Real_IP: 1"]).await;

        assert_eq!(answer.status, status, "{word}");
        let arrived = backend.requests().iter().any(|request| request.field("x_real_ip").is_some());
        assert_eq!(arrived, seen, "{word}");
    }
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_their_connection_closes() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let cases = [
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\n folded: 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: x\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: Cookie\r\n\r\n", 400),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 405),
        ("GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: tea\r\n\r\na", 417),
    ];
    for (text, status) in cases {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{text}{smuggled}")).await;
        let answer = client.answer().await;

        assert_eq!(answer.status, status, "{text:?}");
        assert_eq!(client.rest().await, b"", "{text:?}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn malformed_chunks_abort_the_request_upstream() {
    let backend = Backend::start(|_| ok("")).await;
    let proxy = Setup::before(&backend).start();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in
        ["0x3\r\nabc\r\n0\r\n\r\n", "3\r\nabcX\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "+3\r\nabc\r\n0\r\n\r\n"]
    {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{head}{chunks}{}", get_text("/smuggled", &[]))).await;
        let answer = client.answer().await;

        assert_eq!(answer.refusal(), (400, "bad_framing".to_owned()), "{chunks:?}");
        assert_eq!(client.rest().await, b"", "{chunks:?}");
    }
    assert_eq!(backend.count(), 0, "a cut request was taken for a whole one");
}

#[tokio::test]
async fn a_backend_on_a_unix_socket_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    start_unix(&path, |request| ok(request.target()));
    let proxy = Setup::new(&format!("unix:{}", path.display())).start();
    let mut client = Client::connect(proxy.address).await;

    for target in ["/a", "/b"] {
        assert_eq!(client.get(target).await.text(), target);
    }
}
