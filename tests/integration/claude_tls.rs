//! The API behind TLS: its certificate is checked, and everything else is as it is without.

use serde_json::Value;
use tokio::time::Instant;

use crate::support::{
    app::{Proxy, Setup},
    claude::{Call, ECONOMY, Fake, HAIKU, SONNET, STANDARD, Settings, fake::Behaviour, fake::Tls, said},
    client::{Client, raw},
    until,
};

/// What vouches for the fake's certificate: itself.
const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/claude/localhost.pem");

async fn fake() -> Fake {
    Fake::start(Settings { tls: Some(Tls::localhost()), ..Settings::default() }).await.unwrap()
}

fn before(fake: &Fake, keys: &str) -> Proxy {
    let section = format!("{{ listen: \"127.0.0.1:0\", upstream: \"https://{}\"{keys} }}", fake.addr);
    Setup::new("http://127.0.0.1:9").top("claude", &section).start()
}

fn trusting() -> String {
    format!(", ca: {CA:?}")
}

#[tokio::test]
async fn calls_share_a_kept_connection_and_keep_their_bytes() {
    let fake = fake().await;
    let proxy = before(&fake, &trusting());
    let body = serde_json::to_string_pretty(&said(SONNET, ECONOMY)).unwrap();

    for nth in 0..5 {
        let call =
            Call::new(body.clone()).key(&nth.to_string()).field("anthropic-beta: token-counting-2024-11-01");

        let answer = raw(proxy.claude, call.bytes()).await;

        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    let seen = fake.requests();
    assert!(seen.iter().all(|one| one.connection == seen[0].connection));
    assert!(seen.iter().all(|seen| seen.body == body.replace(SONNET, HAIKU).as_bytes()));
    assert_eq!(seen[0].header("anthropic-beta"), Some("token-counting-2024-11-01"));
}

#[tokio::test]
async fn streams_pass_byte_for_byte() {
    let plain = Fake::start(Settings::default()).await.unwrap();
    let call = Call::streamed(SONNET, STANDARD);
    let expected = raw(plain.addr, call.bytes()).await;
    let fake = fake().await;
    let proxy = before(&fake, &trusting());

    let answer = raw(proxy.claude, call.bytes()).await;

    assert_eq!((answer.status, answer.is_whole), (200, true));
    assert!(answer.body == expected.body, "{}\n{}", answer.text(), expected.text());
    assert_ne!(proxy.record().await["cost_usd"], Value::Null);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_a_502() {
    let fake = fake().await;
    let proxy = before(&fake, "");

    let answer = raw(proxy.claude, Call::said(SONNET, STANDARD).by_sdk().bytes()).await;

    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body["error"]["type"]), (502, &"api_error".into()));
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream_and_no_other() {
    let fake = fake().await;
    let started = Instant::now();
    let proxy = before(&fake, &trusting());
    fake.script(Behaviour { silence_after: Some(4), times: Some(2), ..Behaviour::default() });
    let mut clients = Vec::new();
    for key in ["a", "b"] {
        let mut client = Client::connect(proxy.claude).await;
        client.send(Call::streamed(SONNET, STANDARD).key(key).bytes()).await;
        client.head().await.unwrap();
        client.chunk().await.unwrap();
        clients.push(client);
    }

    drop(clients.pop());
    let since = Instant::now();
    until("one is gone", || fake.requests().iter().any(|seen| seen.gone.is_some())).await;

    let gone: Vec<_> = fake.requests().into_iter().filter_map(|seen| seen.gone).collect();
    assert_eq!(gone.len(), 1);
    let took = (started + gone[0]).saturating_duration_since(since);
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
    let record = proxy.record().await;
    assert_eq!(
        (&record["outcome"], &record["estimated"]),
        (&"client_abort".into(), &true.into()),
        "{record}"
    );
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_told_as_one() {
    for (behaviour, is_told) in [
        (Behaviour { close_after_events: Some(4), ..Behaviour::default() }, true),
        (Behaviour { close_after: Some(30), ..Behaviour::default() }, false),
    ] {
        let fake = fake().await;
        let proxy = before(&fake, &trusting());
        fake.script(Behaviour { unknown_event: Some(false), ..behaviour });

        let answer = raw(proxy.claude, Call::streamed(SONNET, STANDARD).bytes()).await;

        let told = answer.text().matches("event: error\n").count();
        assert_eq!((answer.is_whole, told), (is_told, usize::from(is_told)), "{}", answer.text());
        assert_eq!(proxy.record().await["outcome"], "upstream_abort");
        assert_eq!(fake.requests().len(), 1);
    }
}
