//! Scripted errors and faults, encodings, records, protocols.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    claude::{
        Behaviour, Fake, Settings, Tls,
        script::{Cut, Drip, LineEnd, Place},
    },
    wire::{Answer, HAIKU, NEW, SONNET, exchange, fields, post, read_answer, request, send, start},
};

#[tokio::test]
async fn errors_carry_status_headers_and_body() {
    let fake = start().await;
    let headers = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let limit = Behaviour { status: Some(429), headers: headers("retry-after", "2"), ..Behaviour::default() };
    let spend = Behaviour {
        status: Some(429),
        details: Some(json!({"error_code": "enforced_spend_limit_reached"})),
        ..Behaviour::default()
    };
    let named = Behaviour {
        status: Some(400),
        model: Some(HAIKU.to_owned()),
        times: Some(0),
        ..Behaviour::default()
    };
    fake.script(limit);
    fake.script(spend);
    fake.script(named);
    let haiku = request(HAIKU, &json!({}));

    let limited = post(&fake, NEW, &haiku).await;
    let spent = post(&fake, NEW, &haiku).await;
    let mut scripted = fields(NEW);
    scripted.push(r#"X-Fake-Script: {"status": 529, "headers": {"x-should-retry": "false"}}"#.to_owned());
    let overloaded = send(&fake, "POST", "/v1/messages", &scripted, haiku.to_string().as_bytes()).await;

    assert_eq!((limited.status, limited.json()["error"]["type"].as_str()), (429, Some("rate_limit_error")));
    assert!(limited.head.contains("\r\nretry-after: 2\r\n"));
    assert_eq!(spent.json()["error"]["details"]["error_code"], "enforced_spend_limit_reached");
    assert!(spent.head.contains("\r\nx-should-retry: false\r\n") && !spent.head.contains("retry-after"));
    assert_eq!(
        (overloaded.status, overloaded.json()["error"]["type"].as_str()),
        (529, Some("overloaded_error"))
    );
    for _ in 0..2 {
        assert_eq!(post(&fake, NEW, &haiku).await.status, 400);
        assert_eq!(post(&fake, NEW, &request(SONNET, &json!({}))).await.status, 200);
    }
}

#[tokio::test]
async fn faults_strike_where_they_are_told_to() {
    let fake = start().await;
    let body = request(HAIKU, &json!({"stream": true}));
    let strike = async |behaviour: Behaviour| {
        fake.script(behaviour);
        post(&fake, NEW, &body).await
    };
    let whole = strike(Behaviour { unknown_event: Some(false), ..Behaviour::default() }).await;

    let failed = strike(Behaviour { error_after: Some(3), ..Behaviour::default() }).await;
    let names: Vec<_> = failed.events().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["message_start", "content_block_start", "ping", "error"]);
    assert!(failed.is_complete);

    let cut =
        strike(Behaviour { close_at: Some(Place::Char), unknown_event: Some(false), ..Behaviour::default() })
            .await;
    assert!(
        !cut.is_complete && std::str::from_utf8(&cut.body).is_err() && whole.body.starts_with(&cut.body[..1])
    );
    let cut = strike(Behaviour { close_after: Some(5), reset: true, ..Behaviour::default() }).await;
    assert!(!cut.is_complete && cut.body.len() <= 5);
    let cut = strike(Behaviour { close_at: Some(Place::Head), ..Behaviour::default() }).await;
    assert_eq!((cut.status, cut.head.as_str()), (0, "HTTP/1.1 200 OK\r\nDa"));
    let cut = strike(Behaviour { close_before_head: true, ..Behaviour::default() }).await;
    assert_eq!((cut.status, cut.head.as_str()), (0, ""));

    for cut in [Cut::Each(Place::Char), Cut::Each(Place::Event), Cut::Every(37), Cut::At(vec![3, 1])] {
        let pieces =
            strike(Behaviour { cut: Some(cut), unknown_event: Some(false), ..Behaviour::default() }).await;
        let texts = |answer: &Answer| {
            answer.events().iter().map(|(_, data)| data["delta"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(texts(&pieces), texts(&whole));
    }
    let lines = strike(Behaviour {
        line_end: LineEnd::Crlf,
        cut: Some(Cut::Each(Place::LineEnd)),
        ..Behaviour::default()
    })
    .await;
    assert!(lines.events().len() > 5 && lines.body.ends_with(b"\r\n\r\n"));
}

#[tokio::test]
async fn answers_are_encoded_as_asked() {
    use std::io::Read as _;
    let fake = start().await;
    let body = request(HAIKU, &json!({"stream": true}));
    for coding in ["gzip", "deflate", "br"] {
        let encoding = Some(coding.to_owned());
        fake.script(Behaviour { encoding, unknown_event: Some(false), ..Behaviour::default() });

        let answer = post(&fake, NEW, &body).await;

        let mut text = String::new();
        match coding {
            "gzip" => flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap(),
            "deflate" => {
                flate2::read::ZlibDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap()
            }
            _ => brotli::Decompressor::new(answer.body.as_slice(), 4096).read_to_string(&mut text).unwrap(),
        };
        assert!(answer.head.contains(&format!("Content-Encoding: {coding}")));
        assert!(text.starts_with("event: message_start\n") && text.contains("event: message_stop\n"));
    }
}

#[tokio::test]
async fn rests_are_kept_and_connections_go_on_until_told_to_end() {
    let fake = start().await;
    let body = request(HAIKU, &json!({})).to_string();
    let mut stream = TcpStream::connect(fake.addr).await.unwrap();
    fake.script(Behaviour { head_delay_ms: 60, ..Behaviour::default() });
    let drip = Some(Drip { bytes: 100, every_ms: 10 });
    fake.script(Behaviour { drip, close_connection: true, ..Behaviour::default() });
    let began = Instant::now();

    for _ in 0..2 {
        let lines = fields(NEW).join("\r\n");
        let head = format!("POST /v1/messages HTTP/1.1\r\n{lines}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();

    assert!(began.elapsed() >= Duration::from_millis(100));
    let text = String::from_utf8(bytes).unwrap();
    let (first, second) = text.split_at(text.rfind("HTTP/1.1 200 OK").unwrap());
    assert!(read_answer(first.as_bytes()).is_complete && first.contains("Connection: keep-alive"));
    assert!(read_answer(second.as_bytes()).is_complete && second.contains("Connection: close"));
    assert_eq!(fake.requests().iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0]);
}

#[tokio::test]
async fn requests_are_recorded_as_they_came_and_clients_that_leave_are_seen() {
    let fake = start().await;
    let body = request(HAIKU, &json!({"stream": true})).to_string();
    fake.script(Behaviour { silence_after: Some(2), ..Behaviour::default() });
    let mut stream = TcpStream::connect(fake.addr).await.unwrap();
    let head = format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\nHost: h\r\nX-API-Key: k\r\nanthropic-Version: {NEW}\r\nx-api-key: second\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 400]).await.unwrap();
    assert_eq!(fake.requests()[0].gone, None);

    drop(stream);
    is_left(&fake).await;

    let seen = &fake.requests()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str(), seen.path()),
        ("POST", "/v1/messages?beta=true", "/v1/messages")
    );
    let names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Host", "X-API-Key", "anthropic-Version", "x-api-key", "Transfer-Encoding"]);
    assert_eq!(seen.body, body.as_bytes());
    assert!(seen.is_complete && seen.status == Some(200) && seen.finished.is_none());
    let listed = send(&fake, "GET", "/__requests", &[], b"").await.json();
    assert_eq!((listed.as_array().unwrap().len(), listed[0]["body"].as_str()), (1, Some(body.as_str())));
    fake.reset();
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn http2_works_with_prior_knowledge_and_over_tls() {
    let plain = start().await;
    let secure = Fake::start(Settings { tls: Some(Tls::localhost()), ..Settings::default() }).await.unwrap();
    let tcp = TcpStream::connect(plain.addr).await.unwrap();
    let over_tls = async |protocol: &[u8]| {
        let pem = Tls::localhost().certificate;
        let mut roots = rustls::RootCertStore::empty();
        let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap();
        roots.add(certificate).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let tcp = TcpStream::connect(secure.addr).await.unwrap();
        connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
    };

    let body = request(HAIKU, &json!({"stream": true})).to_string();
    assert_eq!(over_h2(tcp, &body).await, 200);
    assert_eq!(over_h2(over_tls(b"h2").await, &body).await, 200);
    let mut stream = over_tls(b"http/1.1").await;
    let answer = exchange(&mut stream, "POST", "/v1/messages", &fields(NEW), body.as_bytes()).await;
    assert!(answer.is_complete && answer.status == 200);
    let seen: Vec<_> = secure.requests().iter().map(|request| request.protocol).collect();
    assert_eq!(seen, ["HTTP/2", "HTTP/1.1"]);
    assert_eq!(plain.requests()[0].body, body.as_bytes());
}

#[tokio::test]
async fn http2_clients_that_leave_are_seen_too() {
    let fake = start().await;
    let body = request(HAIKU, &json!({"stream": true})).to_string();
    for leaves_by_reset in [true, false] {
        fake.reset();
        fake.script(Behaviour { silence_after: Some(2), ..Behaviour::default() });
        let tcp = TcpStream::connect(fake.addr).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(connection);
        let request = http::Request::post("http://localhost/v1/messages").header("x-api-key", "k");
        let request = request.header("anthropic-version", NEW).body(()).unwrap();
        let (response, mut upload) = client.send_request(request, false).unwrap();
        upload.send_data(bytes::Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        let mut incoming = response.await.unwrap().into_body();
        assert!(incoming.data().await.unwrap().is_ok());
        assert_eq!(fake.requests()[0].gone, None);

        if leaves_by_reset {
            upload.send_reset(h2::Reason::CANCEL);
        } else {
            tasks.shutdown().await;
        }

        is_left(&fake).await;
    }
}

/// Waits until the fake has seen that the client of its first request is gone.
async fn is_left(fake: &Fake) {
    let seen = async {
        while fake.requests()[0].gone.is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), seen).await.unwrap();
}

/// Sends a request over HTTP/2, reads the stream to its end and returns the status.
async fn over_h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, body: &str) -> u16 {
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = http::Request::post("https://localhost/v1/messages").header("x-api-key", "k");
    let request = request.header("anthropic-version", NEW).body(()).unwrap();
    let (response, mut upload) = client.send_request(request, false).unwrap();
    upload.send_data(bytes::Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    let (mut incoming, mut text) = (response.into_body(), Vec::new());
    while let Some(part) = incoming.data().await {
        text.extend_from_slice(&part.unwrap());
    }
    assert!(String::from_utf8(text).unwrap().contains("event: message_stop\n"));
    status
}
