//! What of a call reaches the API: every byte but those that had to be changed, or all of them.

use serde_json::{Value, json};

use crate::support::{
    claude::{
        Call, ECONOMY, HAIKU, NEW, OLD, Plane, Recorded, SONNET, STANDARD, fake::Behaviour, said, with,
    },
    client::Answer,
};

/// Field lines as names in lower case and values, without those of one connection.
fn lines(request: &Recorded) -> Vec<(String, String)> {
    let own = ["host", "content-length"];
    let all = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    all.filter(|(name, _)| !own.contains(&name.as_str())).collect()
}

fn lines_of(call: &Call) -> Vec<(String, String)> {
    let pair = |line: &String| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    call.fields.iter().map(pair).collect()
}

fn error_of(answer: &Answer) -> (String, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    (text("type"), text("message"))
}

#[tokio::test]
async fn a_moved_call_differs_in_the_value_of_its_model_alone() {
    let compact = said(SONNET, ECONOMY).to_string();
    let bodies = [
        compact.clone(),
        serde_json::to_string_pretty(&said(SONNET, ECONOMY)).unwrap(),
        format!(" \r\n\t{compact}\n "),
        // The model last, after a nested one and one in a text.
        format!(
            r#"{{"max_tokens":2048,"metadata":{{"user_id":"model"}},"messages":[{{"role":"user","content":"{ECONOMY}"}}],"model":"{SONNET}"}}"#
        ),
        // Escapes in keys and values, and a long way of writing.
        format!(r#"{{"m\u006fdel": "claude-\u0073onnet-5-5" , "max_tokens" : 2048e0,"messages":[{{"role":"user","content":"{ECONOMY}"}}]}}"#)
            .replace("2048e0", "2048"),
        format!(
            r#"{{"model":"{SONNET}","max_tokens":2048,"stop_sequences":["\ud83d\ude00 \u00e9 é 😀 \/ \u2028"],"messages":[{{"role":"user","content":"{ECONOMY}"}}]}}"#
        ),
    ];
    for body in bodies {
        let plane = Plane::start("").await;

        let answer = plane.call(&Call::new(body.clone())).await;

        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        let expected = body.replace(SONNET, HAIKU).replace(r"claude-\u0073onnet-5-5", HAIKU);
        assert_ne!(expected, body);
        assert_eq!(String::from_utf8_lossy(&plane.last().body), expected);
        assert_eq!(plane.last().header("content-length"), Some(expected.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn a_call_that_keeps_its_model_keeps_every_byte() {
    let plane = Plane::start("").await;
    let body = serde_json::to_string_pretty(&said(SONNET, STANDARD)).unwrap();

    let answer = plane.call(&Call::new(body.clone())).await;

    assert_eq!(answer.status, 200);
    assert_eq!(plane.last().body, body.as_bytes());
}

#[tokio::test]
async fn fields_pass_with_their_values_and_in_their_order() {
    let fields = [
        "user-agent: Anthropic/Python 2.12.0",
        "x-stainless-lang: python",
        "x-stainless-retry-count: 0",
        "accept: application/json",
        "accept-encoding: gzip, deflate",
        "anthropic-beta: prompt-caching-2024-07-31",
        "anthropic-beta: token-counting-2024-11-01,extended-cache-ttl-2025-04-11",
        "x-unknown: a, b;  c",
        "x_underscore: 1",
        "x-empty:",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x-forwarded-for: 1.2.3.4",
        "cookie: a=b",
    ];
    for text in [ECONOMY, STANDARD] {
        let plane = Plane::start("").await;
        let call = fields.iter().fold(Call::said(SONNET, text), |call, line| call.field(line));

        let answer = plane.call(&call).await;

        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(lines(&plane.last()), lines_of(&call), "{text}");
    }
}

#[tokio::test]
async fn lines_of_one_name_keep_their_order_when_others_are_taken_off() {
    let plane = Plane::start("").await;
    let taken = ["connection: keep-alive, x-hop", "x-touchline-tier: standard", "x-hop: 1", "te: trailers"];
    let kept = ["x-a: 1", "anthropic-beta: prompt-caching-2024-07-31", "x-a: 3", "x-b: 4", "x-a: 5"];
    let mut call = Call::said(SONNET, STANDARD);
    let expected = kept.iter().fold(call.clone(), |call, line| call.field(line));
    for (taken, kept) in taken.iter().zip(kept) {
        call = call.field(taken).field(kept);
    }
    call = call.field(kept[4]);

    plane.call(&call).await;

    // The order of lines with different names means nothing (RFC 9110, section 5.3).
    let by_name = |mut lines: Vec<(String, String)>| {
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        lines
    };
    assert_eq!(by_name(lines(&plane.last())), by_name(lines_of(&expected)));
    let host = plane.fake.addr.to_string();
    assert_eq!(plane.last().header("host"), Some(host.as_str()));
}

#[tokio::test]
async fn values_that_are_no_ascii_pass_as_bytes() {
    let plane = Plane::start("").await;
    let bytes = Call::said(SONNET, ECONOMY).field("x-latin: caf@").field("anthropic-beta: @").bytes();
    let bytes: Vec<u8> = bytes.into_iter().map(|byte| if byte == b'@' { 0xe9 } else { byte }).collect();

    let answer = crate::support::client::raw(plane.proxy.claude, bytes).await;

    assert_eq!(answer.status, 200);
    let head = plane.last().head;
    let has = |line: &[u8]| head.windows(line.len()).any(|part| part == line);
    assert!(has(b"caf\xe9\r\n") && has(b": \xe9\r\n"), "{}", String::from_utf8_lossy(&head));
}

#[tokio::test]
async fn the_target_passes_as_it_is() {
    let plane = Plane::start("").await;
    for target in ["/v1/messages?beta=true", "/v1/messages?a=%20b&c", "/v1/models/claude-haiku-5-5?x=%C3%A9"]
    {
        plane.call(&Call::said(SONNET, STANDARD).to(target)).await;

        assert_eq!(plane.last().target, target);
    }
}

/// The last request, once its answer is there; with the record of the call.
async fn passes(plane: &Plane, call: &Call) -> (Answer, Value) {
    let (answer, record) = plane.recorded(call).await;
    assert_eq!(plane.last().body, call.body, "{record}");
    (answer, record)
}

#[tokio::test]
async fn a_body_that_makes_no_sense_passes_and_is_answered_by_the_api() {
    let plane = Plane::start("").await;
    let valid = said(SONNET, ECONOMY).to_string();
    let twice = valid.replacen('{', &format!(r#"{{"model":"{SONNET}","#), 1);
    let escaped_twice = valid.replacen('{', &format!(r#"{{"mod\u0065l":"{SONNET}","#), 1);
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no JSON", b"hello".to_vec()),
        ("cut", valid.as_bytes()[..valid.len() - 1].to_vec()),
        ("more behind it", format!("{valid}{{}}").into_bytes()),
        ("an array", format!("[{valid}]").into_bytes()),
        ("a BOM", [b"\xef\xbb\xbf", valid.as_bytes()].concat()),
        ("NUL", format!("\0{valid}").into_bytes()),
        ("NUL in a text", valid.replace("hello", "hel\0lo").into_bytes()),
        ("no UTF-8", [&valid.as_bytes()[..20], b"\xff\xfe", &valid.as_bytes()[20..]].concat()),
        ("a lone surrogate", valid.replace("hello!", r"hello! \ud83d").into_bytes()),
        ("the model twice", twice.into_bytes()),
        ("the model twice, once in escapes", escaped_twice.into_bytes()),
        ("no model", valid.replace("model", "modle").into_bytes()),
        ("the model a number", valid.replace(&format!("\"{SONNET}\""), "5").into_bytes()),
        ("the model null", valid.replace(&format!("\"{SONNET}\""), "null").into_bytes()),
        ("nested deeply", format!(r#"{{"x":{}1{},"y":1}}"#, "[".repeat(600), "]".repeat(600)).into_bytes()),
        ("a million brackets", "[".repeat(1_000_000).into_bytes()),
        (
            "a million brackets in a body",
            valid.replacen('{', &format!(r#"{{"x":{}"#, "[".repeat(1_000_000)), 1).into_bytes(),
        ),
    ];
    for (what, body) in bodies {
        let (answer, record) = passes(&plane, &Call::new(body)).await;

        assert_eq!(
            (&record["reason"], &record["requested_model"]),
            (&"unreadable".into(), &"other".into()),
            "{what}"
        );
        assert!(
            answer.status == 400 || what == "the model twice" || what.contains("escapes"),
            "{what} {}",
            answer.status
        );
        if answer.status == 400 {
            assert_eq!(error_of(&answer).0, "invalid_request_error", "{what}");
            assert!(!answer.field("request-id").contains("touchline"), "{what}");
        }
        assert_eq!(answer.field("x-touchline-model"), "", "{what}");
    }
}

#[tokio::test]
async fn a_body_with_members_of_the_same_name_elsewhere_is_never_changed() {
    let plane = Plane::start("").await;
    let body = said(SONNET, ECONOMY).to_string().replacen('{', r#"{"max_tokens":2048,"#, 1);

    let (answer, record) = passes(&plane, &Call::new(body)).await;

    assert_eq!((answer.status, &record["reason"]), (200, &"feature".into()));
}

#[tokio::test]
async fn what_is_bound_to_its_bytes_passes_as_signed() {
    for name in ["content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input"] {
        let plane = Plane::start("").await;
        let line = format!("{name}: x");

        let (answer, record) = passes(&plane, &Call::said(SONNET, ECONOMY).field(&line)).await;

        assert_eq!((answer.status, &record["reason"]), (200, &"signed".into()), "{name}");
        assert_eq!(plane.last().header(name), Some("x"));
    }
}

#[tokio::test]
async fn a_compressed_body_passes_unread() {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(said(SONNET, ECONOMY).to_string().as_bytes()).unwrap();
    let plane = Plane::start("").await;
    let call = Call::new(gzip.finish().unwrap()).field("content-encoding: gzip");

    let (answer, record) = passes(&plane, &call).await;

    assert_eq!((answer.status, &record["reason"]), (400, &"unreadable".into()), "the fake reads no gzip");
    assert_eq!(plane.last().header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn a_call_with_members_that_nobody_knows_is_not_moved() {
    let plane = Plane::start("").await;
    let call = Call::of(&with(said(SONNET, ECONOMY), &json!({"brand_new": {"model": HAIKU}})));

    let (answer, record) = passes(&plane, &call).await;

    assert_eq!(
        (answer.status, &record["reason"]),
        (400, &"capability".into()),
        "the API does not know it either"
    );
    assert_eq!(plane.seen().len(), 1);
}

#[tokio::test]
async fn a_chunked_body_is_read_and_sent_whole() {
    let plane = Plane::start("").await;
    let body = said(SONNET, ECONOMY).to_string();
    let mut request = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\nanthropic-version: {NEW}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    for part in body.as_bytes().chunks(7) {
        request.push_str(&format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)));
    }
    request.push_str("0\r\n\r\n");

    let answer = crate::support::client::raw(plane.proxy.claude, request).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(plane.last().body, body.replace(SONNET, HAIKU).as_bytes());
}

#[tokio::test]
async fn a_client_that_expects_to_be_asked_for_its_body_is_asked() {
    let plane = Plane::start("").await;
    let body = said(SONNET, ECONOMY).to_string();
    let mut client = crate::support::client::Client::connect(plane.proxy.claude).await;

    client
        .send(format!(
            "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\nanthropic-version: {NEW}\r\n\
             Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ))
        .await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 100 "));
    client.send(body).await;

    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn whatever_is_no_call_of_a_model_streams_through() {
    let plane = Plane::start("").await;
    let batch = json!({"requests": [{"custom_id": "a", "params": said(SONNET, ECONOMY)}]});
    let complete =
        json!({"model": "claude-2.1", "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 5});
    for (target, body, status) in [
        ("/v1/messages/batches", batch, 200),
        ("/v1/complete", complete, 200),
        ("/v1/files", json!("anything"), 200),
        ("/v1/unknown", json!(null), 404),
        ("/v1/messages/", said(SONNET, ECONOMY), 404),
    ] {
        let call = Call::of(&body).to(target);

        let answer = plane.call(&call).await;

        assert_eq!((answer.status, &plane.last().body), (status, &call.body), "{target}");
        assert_eq!(answer.field("x-touchline-model"), "", "{target}");
    }
    let models = crate::support::client::get_with(
        plane.proxy.claude,
        "/v1/models",
        &["x-api-key: k", "anthropic-version: 2026-10-21"],
    )
    .await;
    assert_eq!(models.status, 200);
    assert!(plane.proxy.records().is_empty(), "none of them is a call");
}

#[tokio::test]
async fn the_key_of_the_file_takes_the_place_of_the_backends() {
    let plane = Plane::start("api_key: \"sk-of-the-file\"").await;
    let call = Call::said(SONNET, STANDARD).field("authorization: Bearer old");

    let answer = plane.call(&call).await;

    assert_eq!(answer.status, 200);
    assert_eq!(plane.last().header("x-api-key"), Some("sk-of-the-file"));
    assert_eq!(plane.last().header("authorization"), None);
}

#[tokio::test]
async fn both_versions_and_both_credentials_are_moved_alike() {
    for version in [OLD, NEW] {
        let plane = Plane::start("").await;
        let mut bearer = Call::said(SONNET, ECONOMY).version(version);
        bearer.fields.retain(|line| !line.starts_with("x-api-key"));
        let bearer = bearer.field("authorization: Bearer sk-ant");

        plane.call(&Call::said(SONNET, ECONOMY).version(version)).await;
        plane.call(&bearer).await;

        assert_eq!(plane.models(), [HAIKU, HAIKU], "{version}");
        assert_eq!(plane.last().header("authorization"), Some("Bearer sk-ant"));
    }
}

#[tokio::test]
async fn a_refusal_of_the_credential_is_the_apis() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { status: Some(401), ..Behaviour::default() });

    let (answer, record) = plane.recorded(&Call::said(SONNET, ECONOMY)).await;

    assert_eq!((answer.status, error_of(&answer).0.as_str()), (401, "authentication_error"));
    assert_eq!(plane.seen().len(), 1, "not repeated with the client's own bytes");
    assert_eq!(record["cost_usd"], Value::Null);
}

#[tokio::test]
async fn nothing_that_is_said_is_told() {
    let canary = "canary7391";
    let keys = "budgets: [{ name: day, limit: 0.004usd, by: identity }]";
    let plane = Plane::start(keys).await;
    let tools = json!([{"name": format!("tool_{canary}"), "input_schema": {"type": "object"}, "description": canary}]);
    let more = json!({
        "system": canary, "metadata": {"user_id": canary}, "tools": tools, "stop_sequences": [format!("stop {canary}")],
    });
    let mut statuses = Vec::new();
    for (nth, text) in
        [ECONOMY, STANDARD, "I want to die", "Score my results.", ECONOMY].into_iter().enumerate()
    {
        for status in [None, Some(400), Some(529)] {
            plane.fake.script(Behaviour {
                status,
                message: Some(canary.to_owned()),
                text: Some(format!("answer {canary}")),
                output_tokens: Some(100),
                ..Behaviour::default()
            });
            let body = with(said(SONNET, &format!("{text} {canary} {nth}")), &more);
            let body = if nth % 2 == 0 { with(body, &json!({"stream": true})) } else { body };
            let call = Call::of(&body).key(&format!("sk-{canary}-{nth}")).by_sdk();
            let call =
                call.field(&format!("x-touchline-tier: {canary}")).field(&format!("x-other: {canary}"));
            statuses.push(plane.recorded(&call).await.0.status);
        }
    }
    plane.recorded(&Call::new(format!("no JSON {canary}"))).await;
    plane.recorded(&Call::said(&format!("model-{canary}"), canary)).await;
    plane.call(&Call::said(SONNET, canary).to(&format!("/v1/{canary}?{canary}"))).await;

    let mut told = format!("{:?}", plane.proxy.records());
    for page in ["/metrics", "/performance/claude", "/performance/metrics", "/health/detailed"] {
        told.push_str(&plane.proxy.page(page).await.text());
    }

    assert!([200, 429, 529].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    assert!(
        !told.contains(canary),
        "{}",
        told.split(canary).next().unwrap().chars().rev().take(200).collect::<String>()
    );
}
