//! The API that breaks off, falls silent or cannot be reached; the client that leaves; and what is tried again.

use std::time::Duration;

use serde_json::Value;
use tokio::{net::TcpListener, time::Instant};

use crate::support::{
    backend::{Backend, Script, Step, answer},
    claude::{Call, ECONOMY, HAIKU, Plane, SONNET, STANDARD, before, fake::Behaviour, fake::script::Place},
    client::{Answer, Client, raw},
    until,
};

/// How soon the API has to be left, on a busy machine too. The figure itself is held by `tests/e2e/test_claude_faults.py`.
const SOON: Duration = Duration::from_secs(1);

fn error_of(answer: &Answer) -> (u16, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["type"], "error");
    assert_eq!(body["request_id"], answer.field("request-id"));
    assert!(answer.field("request-id").starts_with("req_touchline_"), "{}", answer.head);
    assert_eq!(answer.field("content-type"), "application/json");
    assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    (answer.status, body["error"]["type"].as_str().unwrap().to_owned())
}

fn scripted(status: u16) -> Behaviour {
    Behaviour { status: Some(status), times: Some(0), ..Behaviour::default() }
}

fn with_field(behaviour: Behaviour, name: &str, value: &str) -> Behaviour {
    Behaviour { headers: [(name.to_owned(), value.to_owned())].into(), ..behaviour }
}

#[tokio::test]
async fn a_stream_cut_between_two_events_ends_with_an_error_event() {
    for count in 1..8 {
        for reset in [false, true] {
            let plane = Plane::start("").await;
            plane.fake.script(Behaviour {
                close_after_events: Some(count),
                unknown_event: Some(false),
                reset,
                ..Behaviour::default()
            });

            let (answer, record) = plane.recorded(&Call::streamed(SONNET, STANDARD)).await;

            if reset && answer.text().matches("event: error").count() == 0 {
                // A reset may take bytes with it that were already sent, and the border with them.
                assert!(!answer.is_whole);
                continue;
            }
            let text = answer.text();
            assert!(answer.is_whole, "{count}");
            assert_eq!(text.matches("event: error\n").count(), 1, "{text}");
            assert_eq!(text.matches("\n\n").count(), count + 1, "{text}");
            let last = text.trim_end().rsplit("data: ").next().unwrap();
            let error: Value = serde_json::from_str(last).unwrap();
            assert_eq!((&error["type"], &error["error"]["type"]), (&"error".into(), &"api_error".into()));
            assert_eq!(record["outcome"], "upstream_abort");
            assert_eq!(plane.seen().len(), 1, "never again after the first byte");
        }
    }
}

#[tokio::test]
async fn a_stream_cut_inside_an_event_is_cut_for_the_client_too() {
    let cuts = [
        Behaviour { close_at: Some(Place::Char), ..Behaviour::default() },
        Behaviour { close_at: Some(Place::Event), ..Behaviour::default() },
        Behaviour { close_after: Some(5), ..Behaviour::default() },
        Behaviour { close_after: Some(400), ..Behaviour::default() },
        Behaviour { close_at: Some(Place::Event), reset: true, ..Behaviour::default() },
    ];
    for cut in cuts {
        let plane = Plane::start("").await;
        plane.fake.script(Behaviour { text: Some("é 😀".to_owned()), ..cut.clone() });

        let (answer, record) = plane.recorded(&Call::streamed(SONNET, STANDARD)).await;

        assert!(!answer.is_whole, "{cut:?}: {}", answer.text());
        assert!(!answer.text().contains("event: error"), "{cut:?}");
        assert_eq!((&record["outcome"], plane.seen().len()), (&"upstream_abort".into(), 1), "{cut:?}");
    }
}

#[tokio::test]
async fn a_stream_whose_length_was_told_is_never_made_longer() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\n";
    let script = vec![Step::Send(format!("{head}event: ping\ndata: {{}}\n\n").into_bytes()), Step::Close];
    let backend = Backend::start(move |_| script.clone()).await;
    let proxy = before(backend.address, "");

    let answer = raw(proxy.claude, Call::streamed(SONNET, STANDARD).bytes()).await;

    assert_eq!((answer.is_whole, answer.text().as_str()), (false, "event: ping\ndata: {}\n\n"));
}

#[tokio::test]
async fn a_stream_cut_behind_its_last_event_is_whole() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { close_after_events: Some(10_000), ..Behaviour::default() });

    let (answer, record) = plane.recorded(&Call::streamed(SONNET, STANDARD)).await;

    assert!(answer.is_whole && !answer.text().contains("event: error"), "{}", answer.text());
    assert_eq!((&record["outcome"], &record["estimated"]), (&Value::Null, &Value::Null));
    assert_ne!(record["cost_usd"], Value::Null);
}

#[tokio::test]
async fn a_whole_answer_that_is_cut_is_cut_for_the_client_too() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { close_after: Some(50), ..Behaviour::default() });

    let (answer, record) = plane.recorded(&Call::said(SONNET, STANDARD)).await;

    assert_eq!((answer.is_whole, answer.body.len()), (false, 50));
    assert_eq!(record["outcome"], "upstream_abort");
}

#[tokio::test]
async fn an_api_that_breaks_off_before_its_answer_is_a_502_in_its_own_shape() {
    let cuts = [
        Behaviour { close_before_head: true, ..Behaviour::default() },
        Behaviour { close_before_head: true, reset: true, ..Behaviour::default() },
        Behaviour { close_in_head: Some(5), ..Behaviour::default() },
        Behaviour { close_at: Some(Place::Head), ..Behaviour::default() },
    ];
    for cut in cuts {
        for call in [Call::streamed(SONNET, ECONOMY), Call::said(SONNET, STANDARD)] {
            let plane = Plane::start("").await;
            plane.fake.script(Behaviour { times: Some(0), ..cut.clone() });

            let (answer, record) = plane.recorded(&call.by_sdk()).await;

            assert_eq!(error_of(&answer), (502, "api_error".to_owned()), "{cut:?}");
            assert_eq!(answer.field("x-should-retry"), "", "an SDK decides by the status");
            assert_eq!(
                (&record["outcome"], &record["error"]),
                (&"error".into(), &"unreachable".into()),
                "{cut:?}"
            );
            assert_eq!(plane.seen().len(), 1, "{cut:?}");
        }
    }
}

#[tokio::test]
async fn an_api_that_nobody_listens_at_is_a_502() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = before(address, "");
    for target in ["/v1/messages", "/v1/messages/count_tokens", "/v1/models"] {
        let answer = raw(proxy.claude, Call::said(SONNET, STANDARD).by_sdk().to(target).bytes()).await;

        assert_eq!(error_of(&answer), (502, "api_error".to_owned()), "{target}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_502() {
    let backend =
        Backend::start(|_| vec![Step::Send(b"220 mail.example\r\n\r\n".to_vec()), Step::Close]).await;
    let proxy = before(backend.address, "");

    let answer = raw(proxy.claude, Call::said(SONNET, STANDARD).by_sdk().bytes()).await;

    assert_eq!(error_of(&answer), (502, "api_error".to_owned()));
}

#[tokio::test]
async fn an_api_that_does_not_answer_in_time_is_a_504() {
    let table = [
        ("timeouts: { first_byte: 150ms }", Call::streamed(SONNET, STANDARD)),
        ("timeouts: { total: 150ms }", Call::said(SONNET, STANDARD)),
    ];
    for (keys, call) in table {
        let plane = Plane::start(keys).await;
        plane.fake.script(Behaviour { head_delay_ms: 60_000, times: Some(0), ..Behaviour::default() });

        let (answer, record) = plane.recorded(&call).await;

        assert_eq!(error_of(&answer), (504, "timeout_error".to_owned()), "{keys}");
        assert_eq!((&record["error"], plane.seen().len()), (&"timed_out".into(), 1), "{keys}");
        until("the API is left", || plane.last().gone.is_some()).await;
    }
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_ended_after_the_idle_time() {
    let plane = Plane::start("timeouts: { idle: 150ms }").await;
    plane.fake.script(Behaviour {
        silence_after: Some(4),
        unknown_event: Some(false),
        ..Behaviour::default()
    });

    let (answer, record) = plane.recorded(&Call::streamed(SONNET, STANDARD)).await;

    assert!(answer.is_whole && answer.text().contains("event: error\n"), "{}", answer.text());
    assert_eq!(record["outcome"], "upstream_abort");
    assert_eq!(record["estimated"], true, "{record}");
    until("the API is left", || plane.last().gone.is_some()).await;
}

#[tokio::test]
async fn pings_keep_a_slow_stream_alive() {
    let plane = Plane::start("timeouts: { idle: 150ms }").await;
    plane.fake.script(Behaviour { event_delay_ms: Some(20), pings: 20, ..Behaviour::default() });

    let (answer, record) = plane.recorded(&Call::streamed(SONNET, STANDARD)).await;

    assert!(answer.is_whole && answer.text().contains("message_stop"));
    assert_eq!(record["outcome"], Value::Null);
}

/// Leaves, and waits until the API notices; at most as long as allowed.
async fn api_is_left_soon(plane: &Plane, client: Client, how: &str) {
    if how == "reset" {
        client.stream.set_zero_linger().unwrap();
    }
    drop(client);
    let since = Instant::now();
    until("the API is left", || plane.last().gone.is_some()).await;
    let took = (plane.started + plane.last().gone.unwrap()).saturating_duration_since(since);
    assert!(took < SOON, "{how}: {took:?}");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_takes_its_call_with_it() {
    for how in ["close", "reset"] {
        for call in [Call::streamed(SONNET, ECONOMY), Call::said(SONNET, STANDARD)] {
            let plane = Plane::start("").await;
            plane.fake.script(Behaviour { head_delay_ms: 60_000, ..Behaviour::default() });
            let client = plane.open(&call).await;
            until("the call is at the API", || plane.seen().iter().any(|seen| seen.status.is_some())).await;

            api_is_left_soon(&plane, client, how).await;

            let record = plane.proxy.record().await;
            assert_eq!(
                (&record["outcome"], &record["http.response.status_code"]),
                (&"client_abort".into(), &499.into()),
                "{how}"
            );
            assert_eq!(record["cost_usd"], Value::Null, "nobody knows what it cost");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_takes_its_call_with_it() {
    for how in ["close", "reset"] {
        let plane = Plane::start("").await;
        plane.fake.script(Behaviour {
            silence_after: Some(8),
            thinking: Some(false),
            text: Some("word ".repeat(100)),
            ..Behaviour::default()
        });
        let mut client = plane.open(&Call::streamed(SONNET, STANDARD)).await;
        client.head().await.unwrap();
        let mut body = String::new();
        while body.matches("text_delta").count() < 2 {
            body.push_str(&String::from_utf8(client.chunk().await.unwrap()).unwrap());
        }

        api_is_left_soon(&plane, client, how).await;

        let record = plane.proxy.record().await;
        assert_eq!(record["outcome"], "client_abort", "{how}: {record}");
        assert_eq!(record["estimated"], true, "{how}: {record}");
        assert!(record["input_tokens"].as_u64().unwrap() > 5, "{record}");
        assert_ne!(record["cost_usd"], Value::Null);
        assert_eq!(plane.performance().await["estimated_calls"], 1);
    }
}

/// A backend that answers the first request of each connection, and does `next` with all others.
async fn backend_that_goes_stale(next: Script) -> Backend {
    let body =
        r#"{"type":"message","model":"claude-sonnet-5-5","usage":{"input_tokens":1,"output_tokens":1}}"#;
    Backend::start(move |request| {
        if request.nth == 0 {
            answer("200 OK", &["Content-Type: application/json"], body)
        } else {
            next.clone()
        }
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_nobody_his_answer() {
    for end in [Step::Close, Step::Reset] {
        for call in [Call::said(SONNET, STANDARD), Call::said(SONNET, STANDARD).by_sdk()] {
            let backend = backend_that_goes_stale(vec![end.clone()]).await;
            let proxy = before(backend.address, "");

            let first = raw(proxy.claude, call.bytes()).await;
            let second = raw(proxy.claude, call.clone().key("another").bytes()).await;

            assert_eq!((first.status, second.status), (200, 200), "{end:?}");
            assert_eq!(backend.count(), 3, "one, its failure on the kept connection, and one more");
            let records = proxy.records_of(2).await;
            assert_eq!(records[1]["outcome"], Value::Null);
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_breaks_within_an_answer_is_not_tried_again() {
    let backend = backend_that_goes_stale(vec![Step::Send(b"HTTP/1.1 200 O".to_vec()), Step::Close]).await;
    let proxy = before(backend.address, "");

    raw(proxy.claude, Call::said(SONNET, STANDARD).bytes()).await;
    let second = raw(proxy.claude, Call::said(SONNET, STANDARD).key("another").bytes()).await;

    assert_eq!((second.status, backend.count()), (502, 2));
}

#[tokio::test]
async fn failures_of_the_api_are_tried_once_more_for_clients_that_do_not_themselves() {
    for status in [500, 502, 503, 504, 529] {
        let plane = Plane::start("").await;
        plane.fake.script(scripted(status));

        let (answer, record) = plane.recorded(&Call::said(SONNET, STANDARD)).await;

        assert_eq!((answer.status, plane.seen().len()), (status, 2), "{status}");
        assert!(!answer.field("request-id").contains("touchline"), "the answer is the API's");
        assert_eq!(record["retries"], 1, "{status}");
        assert_eq!(plane.proxy.metric("touchline_claude_retries_total", &status.to_string()).await, 1.0);
    }
}

#[tokio::test]
async fn a_second_try_that_succeeds_is_all_that_the_client_sees() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { status: Some(529), ..Behaviour::default() });

    let (answer, record) = plane.recorded(&Call::streamed(SONNET, ECONOMY)).await;

    assert!(answer.status == 200 && answer.text().contains("message_stop"), "{}", answer.text());
    assert_eq!(plane.models(), [HAIKU, HAIKU], "the decision is made once");
    assert_eq!(plane.seen()[0].body, plane.seen()[1].body);
    assert_eq!((&record["retries"], &record["http.response.status_code"]), (&1.into(), &200.into()));
}

#[tokio::test]
async fn nothing_is_tried_again_for_an_sdk() {
    for status in [408, 409, 429, 500, 502, 503, 504, 529] {
        let plane = Plane::start("").await;
        plane.fake.script(with_field(scripted(status), "retry-after", "1"));

        let (answer, record) = plane.recorded(&Call::said(SONNET, STANDARD).by_sdk()).await;

        assert_eq!((answer.status, plane.seen().len()), (status, 1));
        assert_eq!(record["retries"], Value::Null);
    }
}

#[tokio::test]
async fn what_the_api_says_not_to_repeat_is_not_repeated() {
    for status in [500, 529, 429] {
        let plane = Plane::start("").await;
        plane.fake.script(with_field(scripted(status), "x-should-retry", "false"));

        plane.call(&Call::said(SONNET, STANDARD)).await;

        assert_eq!(plane.seen().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_429_is_tried_again_after_a_short_rest_only() {
    let table = [
        ("retry-after", "1", 2),
        ("retry-after-ms", "20", 2),
        ("retry-after", "3", 1),
        ("retry-after", "Wed, 25 Nov 2026 12:00:00 GMT", 1),
        ("x-none", "1", 1),
    ];
    for (name, value, count) in table {
        let plane = Plane::start("").await;
        plane.fake.script(with_field(Behaviour { status: Some(429), ..Behaviour::default() }, name, value));

        let answer = plane.call(&Call::said(SONNET, STANDARD)).await;

        let status = if count == 2 { 200 } else { 429 };
        assert_eq!((answer.status, plane.seen().len()), (status, count), "{name}: {value}");
    }
}

#[tokio::test]
async fn other_refusals_are_never_tried_again() {
    for status in [401, 402, 403, 405, 408, 409, 413, 422] {
        let plane = Plane::start("").await;
        plane.fake.script(scripted(status));

        let answer = plane.call(&Call::said(SONNET, ECONOMY)).await;

        assert_eq!((answer.status, plane.seen().len()), (status, 1));
    }
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let plane = Plane::start("retries: { max: 1, budget: 0% }").await;
    plane.fake.script(scripted(500));

    plane.call(&Call::said(SONNET, STANDARD)).await;

    assert_eq!(plane.seen().len(), 1);
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_tried_once_more() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = before(address, "");

    let answer = raw(proxy.claude, Call::said(SONNET, STANDARD).bytes()).await;

    assert_eq!(error_of(&answer), (502, "api_error".to_owned()));
    assert_eq!(proxy.metric("touchline_claude_retries_total", "connect").await, 1.0);
}

#[tokio::test]
async fn a_call_that_is_no_message_is_never_tried_again() {
    let plane = Plane::start("").await;
    plane.fake.script(scripted(500));

    for target in ["/v1/messages/count_tokens", "/v1/messages/batches", "/v1/models"] {
        let before = plane.seen().len();
        plane.call(&Call::said(SONNET, STANDARD).to(target)).await;

        assert_eq!(plane.seen().len(), before + 1, "{target}");
    }
}
