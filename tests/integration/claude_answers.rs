//! What of an answer reaches the client: all of it, byte for byte, as it comes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    backend::{Backend, Step},
    claude::{
        Call, ECONOMY, Fake, HAIKU, Plane, SONNET, STANDARD, Settings, before,
        fake::Behaviour,
        fake::script::{Cut, Drip, LineEnd, Place},
        long_text, said, with,
    },
    client::{Answer, Client, raw},
};

/// The fields of an answer that are its own: neither those of one connection, nor ours, nor the time of day.
fn fields(answer: &Answer) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in answer.head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        let name = name.to_ascii_lowercase();
        let is_of_connection = ["connection", "transfer-encoding", "date"].contains(&name.as_str());
        if !is_of_connection && !name.starts_with("x-touchline-") && !name.ends_with("-reset") {
            all.entry(name).or_default().push(value.trim().to_owned());
        }
    }
    all
}

/// Two fakes of the same seed, one of them behind the proxy. As long as both get the same requests, they give the same
/// answers.
struct Pair {
    direct: Fake,
    plane: Plane,
}

impl Pair {
    async fn start() -> Self {
        let direct = Fake::start(Settings::default()).await.unwrap();
        Self { direct, plane: Plane::start("").await }
    }

    /// Makes a call both ways; its record.
    async fn passes(&self, what: &str, behaviour: Behaviour, call: &Call) -> Value {
        self.direct.script(behaviour.clone());
        self.plane.fake.script(behaviour);
        let expected = raw(self.direct.addr, call.bytes()).await;
        let (answer, record) = self.plane.recorded(call).await;

        assert_eq!((answer.status, answer.is_whole), (expected.status, expected.is_whole), "{what}");
        assert_eq!(fields(&answer), fields(&expected), "{what}");
        assert!(answer.body == expected.body, "{what}: {}\n{}", answer.text(), expected.text());
        record
    }
}

#[tokio::test]
async fn streams_pass_byte_for_byte_wherever_they_are_cut() {
    let pair = Pair::start().await;
    let cuts = [
        None,
        Some(Cut::Each(Place::Char)),
        Some(Cut::Each(Place::Event)),
        Some(Cut::Each(Place::LineEnd)),
        Some(Cut::Every(37)),
        Some(Cut::Every(1000)),
    ];
    for line_end in [LineEnd::Lf, LineEnd::Crlf, LineEnd::Cr] {
        for cut in &cuts {
            let behaviour = Behaviour {
                cut: cut.clone(),
                line_end,
                unknown_event: Some(true),
                pings: 3,
                text: Some("é – 你好 😀, \u{2028} and so on. ".repeat(5)),
                ..Behaviour::default()
            };
            let what = format!("{line_end:?} {cut:?}");

            let record = pair.passes(&what, behaviour, &Call::streamed(SONNET, STANDARD)).await;

            assert_eq!((&record["kind"], &record["outcome"]), (&"stream".into(), &Value::Null), "{what}");
            assert!(record["output_tokens"].as_u64().unwrap() > 20, "{what}: {record}");
            assert_eq!(record["estimated"], Value::Null, "{what}");
        }
    }
}

#[tokio::test]
async fn a_stream_in_single_bytes_passes() {
    let pair = Pair::start().await;
    let behaviour = Behaviour {
        drip: Some(Drip { bytes: 1, every_ms: 0 }),
        thinking: Some(false),
        text: Some("é 😀".to_owned()),
        ..Behaviour::default()
    };

    pair.passes("a drip", behaviour, &Call::streamed(SONNET, STANDARD)).await;
}

#[tokio::test]
async fn encoded_answers_pass_as_they_are_and_are_counted() {
    let pair = Pair::start().await;
    for coding in ["gzip", "br", "deflate", "zstd"] {
        for call in [Call::streamed(SONNET, STANDARD), Call::said(SONNET, STANDARD)] {
            let behaviour = Behaviour { encoding: Some(coding.to_owned()), ..Behaviour::default() };
            let call = call.field("accept-encoding: gzip, deflate, br, zstd");

            let record = pair.passes(coding, behaviour, &call).await;

            assert!(record["input_tokens"].as_u64().unwrap() > 10, "{coding}: {record}");
            assert_ne!(record["cost_usd"], Value::Null, "{coding}");
        }
    }
}

#[tokio::test]
async fn an_encoding_that_nobody_knows_passes_uncounted() {
    let pair = Pair::start().await;
    let headers = [("content-encoding".to_owned(), "rot13".to_owned())].into();
    let behaviour = Behaviour { headers, ..Behaviour::default() };

    let record = pair.passes("rot13", behaviour, &Call::said(SONNET, STANDARD)).await;

    assert_eq!((&record["cost_usd"], &record["input_tokens"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn an_answer_that_claims_an_encoding_it_has_not_passes_uncounted() {
    let plane = Plane::start("").await;
    let headers = [("content-encoding".to_owned(), "gzip".to_owned())].into();
    plane.fake.script(Behaviour { headers, ..Behaviour::default() });

    let (answer, record) = plane.recorded(&Call::said(SONNET, STANDARD)).await;

    assert!(answer.is_whole && answer.text().starts_with(r#"{"model":"#), "{}", answer.text());
    assert_eq!((&record["cost_usd"], &record["outcome"]), (&Value::Null, &Value::Null));
    assert_eq!(plane.performance().await["usage_unknown_calls"], 1);
}

#[tokio::test]
async fn whole_answers_pass_with_every_stop_reason() {
    let pair = Pair::start().await;
    let tools = json!([{"name": "look_up", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}]);
    let call = Call::of(&with(said(SONNET, STANDARD), &json!({"tools": tools})));
    for reason in [
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
        "something_new",
    ] {
        let behaviour = Behaviour { stop_reason: Some(reason.to_owned()), ..Behaviour::default() };

        let record = pair.passes(reason, behaviour, &call).await;

        assert_eq!(record["refused"] == json!(true), reason == "refusal", "{reason}");
    }
}

#[tokio::test]
async fn errors_pass_with_their_status_their_body_and_all_their_fields() {
    let pair = Pair::start().await;
    let statuses =
        [400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 429, 451, 500, 501, 502, 503, 504, 520, 529];
    for status in statuses {
        let headers = [
            ("retry-after", "7"),
            ("x-should-retry", "true"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-priority-input-tokens-limit", "5"),
            ("x-new", "a"),
        ];
        let behaviour = Behaviour {
            status: Some(status),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            details: Some(json!({"error_code": "enforced_spend_limit_reached"})),
            message: Some("é \u{1f600} <&>".to_owned()),
            ..Behaviour::default()
        };
        let call = Call::said(SONNET, STANDARD).by_sdk();

        let record = pair.passes(&status.to_string(), behaviour, &call).await;

        assert_eq!(record["http.response.status_code"], status);
        assert_eq!((&record["cost_usd"], &record["retries"]), (&Value::Null, &Value::Null), "{status}");
    }
}

#[tokio::test]
async fn an_error_with_a_body_that_is_no_json_passes() {
    let pair = Pair::start().await;
    let body = Some("<html>502 Bad Gateway</html>".to_owned());
    let behaviour = Behaviour { status: Some(502), body, ..Behaviour::default() };

    pair.passes("html", behaviour, &Call::said(SONNET, STANDARD).by_sdk()).await;
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_passes() {
    let pair = Pair::start().await;
    let behaviour = Behaviour { error_after: Some(5), ..Behaviour::default() };

    let record = pair.passes("an error event", behaviour, &Call::streamed(SONNET, STANDARD)).await;

    assert_eq!(record["http.response.status_code"], 200);
}

#[tokio::test]
async fn events_arrive_before_those_that_follow_them_exist() {
    // The fake falls silent for ever: whatever was held back until the end would never come.
    for encoding in [None, Some("gzip".to_owned())] {
        for count in [1, 3, 6] {
            let plane = Plane::start("").await;
            plane.fake.script(Behaviour {
                silence_after: Some(count),
                unknown_event: Some(false),
                encoding: encoding.clone(),
                ..Behaviour::default()
            });

            let mut client = plane.open(&Call::streamed(SONNET, STANDARD)).await;

            assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 "));
            let mut body = Vec::new();
            while events_in(&body, encoding.is_some()) < count {
                body.extend(client.chunk().await.expect("an event"));
            }
            assert_eq!(events_in(&body, encoding.is_some()), count);
        }
    }
}

fn events_in(body: &[u8], is_gzip: bool) -> usize {
    use std::io::Read as _;
    let mut text = body.to_vec();
    if is_gzip {
        text.clear();
        // The end is missing, so that reading ends with an error after all that is there.
        let _ = flate2::read::GzDecoder::new(body).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).matches("\n\n").count()
}

#[tokio::test]
async fn a_long_answer_passes_whole_though_the_watcher_reads_only_part_of_it() {
    let pair = Pair::start().await;
    let behaviour = |bytes: usize| Behaviour { text: Some(long_text(bytes)), ..Behaviour::default() };

    pair.passes("a whole one", behaviour(1 << 20), &Call::said(SONNET, STANDARD)).await;
    pair.passes("a stream", behaviour(300 << 10), &Call::streamed(SONNET, STANDARD)).await;
}

#[tokio::test]
async fn interim_answers_pass() {
    let script = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let backend = Backend::start(move |_| vec![Step::Send(script.into())]).await;
    let proxy = before(backend.address, "");

    let answer = raw(proxy.claude, Call::said(SONNET, STANDARD).bytes()).await;

    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    let statuses: Vec<_> = answer.interim.iter().map(|head| &head[9..12]).collect();
    assert_eq!(statuses, ["103", "102"]);
}

#[tokio::test]
async fn redirects_are_shown_not_followed() {
    let script =
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n";
    let backend = Backend::start(move |_| vec![Step::Send(script.into())]).await;
    let proxy = before(backend.address, "");

    let answer = raw(proxy.claude, Call::said(SONNET, ECONOMY).bytes()).await;

    assert_eq!((answer.status, answer.field("location")), (307, "http://127.0.0.1:9/"));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn answers_tell_the_decision_when_they_are_to() {
    let table = [
        ("", true),
        ("answers: { headers: off }", false),
        ("mode: observe", false),
        ("mode: observe, answers: { headers: on }", true),
        ("mode: off", false),
    ];
    for (keys, tells) in table {
        let plane = Plane::start(keys).await;
        let is_route = !keys.contains("mode");

        let answer = plane.call(&Call::said(SONNET, ECONOMY)).await;

        let model = if is_route { HAIKU } else { SONNET };
        let expected = if tells { [model, SONNET] } else { ["", ""] };
        let told = [answer.field("x-touchline-model"), answer.field("x-touchline-requested-model")];
        assert_eq!(told, expected, "{keys}");
        assert_eq!(answer.field("x-touchline-reason").is_empty(), !tells, "{keys}");
        assert_eq!(answer.field("x-touchline-tier").is_empty(), !tells, "{keys}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["model"], model, "the truth stays in the body");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_a_stream_too() {
    let plane = Plane::start("").await;
    let call = Call::streamed(SONNET, STANDARD);
    let text = String::from_utf8(call.bytes()).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    let mut client = Client::connect(plane.proxy.claude).await;

    client.send(text).await;
    let answer = client.answer().await;

    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("event: message_stop\n") && answer.text().ends_with("\n\n"),
        "{}",
        answer.text()
    );
}
