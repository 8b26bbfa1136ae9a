//! Alerts end to end: from requests of clients to real receivers, also to one that is away for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
};

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, answer, ok},
    claude::{Fake, Settings, fake::Tls},
    client::get,
    spawn, until, until_async,
};

/// A proxy in front of `backend` that looks at its rules often and tells the receivers at once.
fn proxy(backend: &Backend, rules: &str, receivers: &str) -> Proxy {
    let alerts = format!(
        "{{ service: coach, access_log: {{ enabled: false }}, alerts: {{ interval: 100ms, group_wait: 0s, \
         rules: {{ {rules} }}, notify: [{receivers}] }} }}"
    );
    Setup::before(backend).top("telemetry", &alerts).start()
}

fn bodies(receiver: &Backend) -> Vec<Value> {
    receiver.requests().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

#[tokio::test]
async fn errors_reach_every_kind_of_receiver_and_so_does_their_end() {
    let failing = Arc::new(AtomicUsize::new(1));
    let fails = Arc::clone(&failing);
    let backend = Backend::start(move |_| {
        if fails.load(SeqCst) > 0 { answer("500 Internal Server Error", &[], "bad") } else { ok("good") }
    })
    .await;
    let receivers = [
        Backend::start(|_| ok("ok")).await,
        Backend::start(|_| ok("ok")).await,
        Backend::start(|_| ok("")).await,
    ];
    let [slack, webhook, alertmanager] = receivers.each_ref().map(|receiver| receiver.address);
    let proxy = proxy(
        &backend,
        "errors_5xx: { critical: 90%, warning: off }, burn_fast: off, burn_slow: off",
        &format!(
            "{{ slack: {{ url: \"http://{slack}/services/T0/canary\" }} }}, \
             {{ webhook: {{ url: \"http://{webhook}/hook?key=canary\", authorization: Bearer canary }} }}, \
             {{ alertmanager: {{ url: \"http://{alertmanager}/am\" }} }}"
        ),
    );

    for _ in 0..25 {
        get(proxy.address, "/a").await;
    }
    until("all were told", || receivers.iter().all(|receiver| receiver.count() > 0)).await;
    failing.store(0, SeqCst);
    for _ in 0..25 {
        get(proxy.address, "/a").await;
    }
    until("all were told of the end", || receivers.iter().all(|receiver| receiver.count() > 1)).await;

    let [slack, webhook, alertmanager] = &receivers;
    let said = bodies(slack);
    assert_eq!(said[0]["text"], "[FIRING:1] errors_5xx (coach)");
    assert_eq!(said[0]["attachments"][0]["fields"][0]["value"], "100 %");
    assert_eq!(said[1]["text"], "[RESOLVED:1] errors_5xx (coach)");
    let said = bodies(webhook);
    assert_eq!((&said[0]["status"], &said[1]["status"]), (&"firing".into(), &"resolved".into()));
    assert_eq!(said[0]["alerts"][0]["fingerprint"], said[1]["alerts"][0]["fingerprint"]);
    let request = &webhook.requests()[0];
    assert_eq!((request.method(), request.target()), ("POST", "/hook?key=canary"));
    assert_eq!(request.field("Authorization"), Some("Bearer canary"));
    assert_eq!(request.field("Content-Type"), Some("application/json"));
    let said = bodies(alertmanager);
    assert_eq!(alertmanager.requests()[0].target(), "/am/api/v2/alerts");
    assert_eq!(said[0][0]["labels"]["alertname"], "errors_5xx");
    assert!(said[0][0]["endsAt"].as_str() > said[0][0]["startsAt"].as_str());
    until_async("the delivery is counted", || async {
        proxy.metric("touchline_telemetry_notifications_total", "outcome=\"delivered\"").await >= 6.0
    })
    .await;
    for path in ["/metrics", "/", "/performance/metrics", "/performance/health"] {
        assert!(!proxy.page(path).await.text().contains("canary"), "{path}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_down_for_a_while_gets_every_message_once() {
    let backend = Backend::start(|_| answer("500 Internal Server Error", &[], "bad")).await;
    // The port is ours, and nobody listens there yet.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let proxy = proxy(
        &backend,
        "errors_5xx: { critical: 90%, warning: off }, burn_fast: { critical_for: 0s, samples: 20 }, burn_slow: off",
        &format!("{{ webhook: {{ url: \"http://{address}/hook\" }} }}"),
    );
    for _ in 0..25 {
        get(proxy.address, "/a").await;
    }
    until_async("two tries failed", || async {
        proxy.metric("touchline_telemetry_notifications_total", "outcome=\"retried\"").await >= 2.0
    })
    .await;
    assert!(proxy.metric("touchline_telemetry_notifications_pending", "webhook").await >= 2.0);

    let seen = receive(socket.listen(16).unwrap());
    until_async("both were told", || async {
        proxy.metric("touchline_telemetry_notifications_pending", "webhook").await == 0.0
    })
    .await;

    let mut rules: Vec<_> =
        seen.lock().iter().map(|body| body["groupLabels"]["alertname"].to_string()).collect();
    rules.sort();
    assert_eq!(rules, ["\"burn_fast\"", "\"errors_5xx\""]);
    assert!(
        proxy.metric("touchline_telemetry_alerts", "severity=\"critical\",state=\"firing\"").await >= 2.0
    );
}

/// Takes messages at a listener.
fn receive(listener: TcpListener) -> Arc<parking_lot::Mutex<Vec<Value>>> {
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            spawn(async move {
                let mut text = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    text.extend_from_slice(&buffer[..read]);
                    let whole = String::from_utf8_lossy(&text).into_owned();
                    let body = whole.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                    if let Ok(body) = serde_json::from_str(body) {
                        all.lock().push(body);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                        return;
                    }
                    if read == 0 {
                        return;
                    }
                }
            });
        }
    });
    seen
}

#[tokio::test]
async fn a_receiver_over_tls_is_told_only_where_its_certificate_is_vouched_for() {
    const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/claude/localhost.pem");
    let backend = Backend::start(|_| answer("500 Internal Server Error", &[], "bad")).await;
    let settings = Settings { tls: Some(Tls::localhost()), ..Settings::default() };
    let receiver = Fake::start(settings).await.unwrap();
    let url = format!("https://{}/hook", receiver.addr);
    let proxy = proxy(
        &backend,
        "errors_5xx: { critical: 90%, warning: off }, burn_fast: off, burn_slow: off",
        &format!(
            "{{ webhook: {{ url: {url:?}, name: trusting, ca: {CA:?} }} }}, {{ webhook: {{ url: {url:?}, name: wary }} }}"
        ),
    );
    for _ in 0..25 {
        get(proxy.address, "/a").await;
    }

    // It is no receiver and says 404: what counts is that it was reached.
    let metric = "touchline_telemetry_notifications_total";
    until_async("one reached it and one did not", || async {
        proxy.metric(metric, "channel=\"trusting\",outcome=\"refused\"").await >= 1.0
            && proxy.metric(metric, "channel=\"wary\",outcome=\"retried\"").await >= 1.0
    })
    .await;
    assert_eq!(proxy.metric(metric, "channel=\"wary\",outcome=\"refused\"").await, 0.0);
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_neither_the_others_nor_the_end() {
    let backend = Backend::start(|_| answer("500 Internal Server Error", &[], "bad")).await;
    let hanging = Backend::start(|_| vec![crate::support::backend::Step::Hang]).await;
    let good = Backend::start(|_| ok("ok")).await;
    let mut proxy = proxy(
        &backend,
        "errors_5xx: { critical: 90%, warning: off }, burn_fast: off, burn_slow: off",
        &format!(
            "{{ webhook: {{ url: \"http://{}/\", name: hanging }} }}, {{ webhook: {{ url: \"http://{}/\" }} }}",
            hanging.address, good.address
        ),
    );
    for _ in 0..25 {
        get(proxy.address, "/a").await;
    }
    until("the good one was told", || good.count() == 1 && hanging.count() == 1).await;

    let start = tokio::time::Instant::now();
    let stopping = proxy.stop();
    until("it has ended", || stopping.is_finished()).await;
    stopping.join().unwrap();

    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_keeps_a_message_from_a_receiver_is_told_in_a_word() {
    const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/claude/localhost.pem");
    let backend = Backend::start(|_| answer("500 Internal Server Error", &[], "bad")).await;
    let tls = Fake::start(Settings { tls: Some(Tls::localhost()), ..Settings::default() }).await.unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_at = plain.local_addr().unwrap();
    spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut buffer).await;
        }
    });
    // The port is ours, and nobody listens there.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = socket.local_addr().unwrap();
    let receivers = [
        ("lost", "http://nobody.invalid/canary".to_owned(), "no answer: dns_failed"),
        ("closed", format!("http://{silent}/canary"), "no answer: connection_refused"),
        ("wary", format!("https://{}/canary", tls.addr), "no answer: certificate_not_trusted"),
        ("plain", format!("https://{plain_at}/canary"), "no answer: tls_failed"),
    ];
    let written: Vec<_> = receivers
        .iter()
        .map(|(name, url, _)| {
            let ca = if *name == "plain" { format!(", ca: {CA:?}") } else { String::new() };
            format!("{{ webhook: {{ url: {url:?}, name: {name}{ca} }} }}")
        })
        .collect();
    let proxy = proxy(
        &backend,
        "errors_5xx: { critical: 90%, warning: off }, burn_fast: off, burn_slow: off",
        &written.join(", "),
    );
    for _ in 0..25 {
        get(proxy.address, "/a").await;
    }

    for (name, _, expected) in receivers {
        let told = async || {
            let snapshot = proxy.json("/api/v1/snapshot").await;
            let channels = snapshot["alerts"]["channels"].as_array().unwrap().clone();
            channels.into_iter().find(|channel| channel["name"] == name).unwrap()["last_error"].clone()
        };
        until_async("a try has failed", async || told().await != Value::Null).await;
        assert_eq!(told().await, expected, "{name}");
    }
    assert!(!proxy.page("/api/v1/snapshot").await.text().contains("canary"));
}
