//! How much is taken: calls at once, heads, bodies; and what breaks a rule of HTTP.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    backend::{Backend, find, read_head, text},
    claude::{Call, ECONOMY, Plane, SONNET, STANDARD, before, fake::Behaviour, said, with},
    client::{Answer, Client, raw},
    until,
};

fn error_of(answer: &Answer) -> (u16, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()));
    assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &answer.field("request-id").into()));
    (answer.status, body["error"]["type"].as_str().unwrap().to_owned())
}

async fn fills_up(keys: &str, most: usize) {
    let plane = Plane::start(keys).await;
    plane.fake.script(Behaviour { head_delay_ms: 120_000, times: Some(0), ..Behaviour::default() });
    let mut held = Vec::new();
    for nth in 0..most {
        held.push(plane.open(&Call::said(SONNET, STANDARD).key(&nth.to_string())).await);
    }
    until("all calls are at the API", || plane.seen().len() == most).await;

    let (answer, record) = plane.recorded(&Call::said(SONNET, ECONOMY)).await;

    assert_eq!(error_of(&answer), (529, "overloaded_error".to_owned()));
    assert_eq!(answer.field("retry-after"), "1", "an SDK tries again by itself");
    assert_eq!((&record["outcome"], &record["error"]), (&"error".into(), &"overloaded".into()));
    assert_eq!(plane.seen().len(), most);
    held.pop();
    until("one is gone", || plane.seen().iter().any(|seen| seen.gone.is_some())).await;
    let _next = plane.open(&Call::said(SONNET, STANDARD).key("next")).await;
    until("the next one is let in", || plane.seen().len() == most + 1).await;
}

#[tokio::test]
async fn one_call_too_many_is_a_529_which_sdks_repeat() {
    fills_up("in_flight: 5", 5).await;
}

#[tokio::test]
async fn a_thousand_and_twenty_four_calls_are_in_flight_at_once() {
    fills_up("", 1024).await;
}

#[tokio::test]
async fn a_head_of_32_kib_is_taken_and_a_longer_one_is_refused() {
    let plane = Plane::start("").await;
    let long = |bytes: usize| {
        let line = format!("x-long: {}", "a".repeat(1 << 10));
        (0..bytes >> 10).fold(Call::said(SONNET, STANDARD), |call, _| call.field(&line))
    };

    let taken = plane.call(&long(30 << 10)).await;
    let refused = plane.call(&long(33 << 10)).await;

    assert_eq!(taken.status, 200);
    assert_eq!(error_of(&refused), (431, "invalid_request_error".to_owned()));
    assert_eq!(refused.field("x-should-retry"), "false");
    assert_eq!(plane.seen().len(), 1);
}

#[tokio::test]
async fn what_breaks_a_rule_of_http_is_refused_here() {
    let plane = Plane::start("").await;
    let heads = [
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ];
    for head in heads {
        let answer = raw(plane.proxy.claude, head).await;

        assert_eq!(error_of(&answer), (400, "invalid_request_error".to_owned()), "{head:?}");
    }
    assert!(plane.seen().iter().all(|seen| !seen.is_complete), "nothing of it is a request at the API");
}

#[tokio::test]
async fn a_body_of_4_mib_is_read_and_a_longer_one_streams_through_unread() {
    let plane = Plane::start("").await;
    for (bytes, reason) in [((4 << 20) - 300, "two_signals"), (5 << 20, "too_large")] {
        let body = with(said(SONNET, ECONOMY), &serde_json::json!({"system": "word ".repeat(bytes / 5)}));
        let call = Call::of(&body).key(reason);

        let (answer, record) = plane.recorded(&call).await;

        // A prompt of more than a million tokens is the API's to refuse.
        assert!([200, 400].contains(&answer.status), "{}", answer.text());
        if reason == "too_large" {
            assert_eq!((&record["reason"], plane.last().body == call.body), (&reason.into(), true));
        } else {
            assert_ne!(record["reason"], "too_large");
        }
    }
}

#[tokio::test]
async fn a_long_chunked_body_streams_through_as_it_comes() {
    let got = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&got);
    let backend = Backend::raw(move |mut stream, _| {
        let got = Arc::clone(&count);
        async move {
            let mut buffer = Vec::new();
            if read_head(&mut stream, &mut buffer).await.is_none() {
                return;
            }
            let mut end = buffer.clone();
            got.fetch_add(buffer.len(), SeqCst);
            let mut piece = vec![0; 1 << 16];
            while find(&end, b"\r\n0\r\n\r\n").is_none() {
                let Ok(read @ 1..) = stream.read(&mut piece).await else { return };
                got.fetch_add(read, SeqCst);
                end.extend_from_slice(&piece[..read]);
                end.drain(..end.len().saturating_sub(16));
            }
            let _ =
                stream.write_all(text("200 OK", &["Content-Type: application/json"], "{}").as_bytes()).await;
        }
    })
    .await;
    let proxy = before(backend.address, "");
    let mut client = Client::connect(proxy.claude).await;
    let chunk = [b"10000\r\n".as_slice(), &vec![b'a'; 1 << 16], b"\r\n"].concat();

    client
        .send("POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..80 {
        client.send(&chunk).await;
    }
    until("what was sent is at the API", || got.load(SeqCst) >= 5 << 20).await;
    for _ in 0..16 {
        client.send(&chunk).await;
    }
    until("and what came after it", || got.load(SeqCst) >= 6 << 20).await;
    client.send("0\r\n\r\n").await;

    assert_eq!((client.answer().await.status, &proxy.record().await["reason"]), (200, &"too_large".into()));
}

#[tokio::test]
async fn a_conversation_of_thousands_of_turns_is_read_and_known_again() {
    let plane = Plane::start("").await;
    let turn = |nth: usize| {
        let role = if nth.is_multiple_of(2) { "user" } else { "assistant" };
        serde_json::json!({"role": role, "content": format!("word {nth}")})
    };
    let call = |turns: usize| {
        let mut messages: Vec<Value> = (0..turns).map(turn).collect();
        messages.push(serde_json::json!({"role": "user", "content": STANDARD}));
        Call::of(&with(said(SONNET, STANDARD), &serde_json::json!({"messages": messages})))
    };

    let (first, _) = plane.recorded(&call(5_000)).await;
    let (_, again) = plane.recorded(&call(5_000)).await;
    let (next, _) = plane.recorded(&call(5_002)).await;

    assert_eq!((first.status, next.status, &again["reason"]), (200, 200, &"same_turn".into()));
}
