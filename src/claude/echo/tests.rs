//! Names put back at every split, in every coding, and left alone where there is none to change.

use std::{
    io::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Response, StatusCode, header};
use proptest::prelude::*;

use super::{MAX_EVENT, MAX_WHOLE, Start, rename};
use crate::net::{Body, BodyError};

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-haiku-5-5","usage":{"input_tokens":1}}}"#;
const REST: &str = "event: content_block_delta\ndata: {\"model\":\"claude-haiku-5-5\"}\n\n";

fn stream(before: &str, start: &str) -> String {
    format!("{before}event: message_start\ndata: {start}\n\n{REST}event: message_stop\ndata: {{}}\n\n")
}

fn echoed(start: &str) -> String {
    start.replacen("claude-haiku-5-5", "my \\\"sonnet\\\"", 1)
}

/// What passes, and what is held back in the end.
fn passed(stream: &[u8], step: usize) -> Vec<u8> {
    let (mut start, mut passed) = (Start::new("my \"sonnet\""), Vec::new());
    for piece in stream.chunks(step.max(1)) {
        if start.is_over {
            passed.extend_from_slice(piece);
        } else {
            passed.extend(start.feed(piece));
        }
    }
    passed.extend(start.event);
    passed
}

#[test]
fn the_start_of_a_stream_is_renamed_at_every_split() {
    let spaced = START.replace(':', " : ").replace(',', " ,\t");
    let befores = [
        "",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        ": hello\n\n\n",
        "\u{feff}event: new\ndata: 1\n\n",
    ];
    for before in befores {
        for json in [START, &spaced] {
            for end in ["\n", "\r\n", "\r"] {
                let given = stream(before, json).replace('\n', end);
                let wanted = stream(before, &echoed(json)).replace('\n', end);
                for step in (1..40).chain([given.len()]) {
                    let passed = passed(given.as_bytes(), step);
                    assert_eq!(String::from_utf8(passed).unwrap(), wanted, "by {step}");
                }
            }
        }
    }
}

#[test]
fn a_start_in_several_lines_or_without_a_name_is_found_too() {
    let lines =
        START.replace("\"message\":", "\"message\":\ndata:").replace(",\"usage\"", "\ndata: ,\"usage\"");
    for given in [format!("data: {lines}\n\n{REST}"), format!("\u{feff}data:{START}\r\r{REST}")] {
        for step in 1..given.len() {
            assert_eq!(
                String::from_utf8(passed(given.as_bytes(), step)).unwrap(),
                echoed(&given),
                "by {step}"
            );
        }
    }
}

#[test]
fn a_stream_without_a_name_to_change_passes_as_it_is() {
    let twice = START.replace("\"id\":\"msg_1\"", "\"model\":\"a\"");
    let large = format!("{{\"pad\":\"{}\",{}", "x".repeat(MAX_EVENT), &START[1..]);
    let starts = [
        START.replace("\"claude-haiku-5-5\"", "5"),
        START.replace("message_start", "message_started"),
        START.replace("\"message\"", "\"massage\""),
        START.replace("}}", "}"),
        START.replace("\"claude-haiku-5-5\"", "null"),
        "é".to_owned(),
        twice,
        large,
    ];
    for start in &starts {
        let given = stream("", start);
        for step in [1, 7, 1000, given.len()] {
            assert_eq!(String::from_utf8(passed(given.as_bytes(), step)).unwrap(), given, "by {step}");
        }
    }
}

#[test]
fn what_has_ended_is_not_held_back() {
    let mut start = Start::new("m");
    for event in ["event: ping\ndata: {}\n\n", ": comment\n\n", "event: new\r\rdata: 1\r\r"] {
        assert_eq!(start.feed(event.as_bytes()), event.as_bytes());
    }
    let event = format!("event: message_start\ndata: {START}\n\n");
    assert!(start.feed(event.trim_end().as_bytes()).is_empty());
    assert!(start.feed(b"\n").is_empty());
    assert!(!start.feed(b"\n").is_empty() && start.is_over);
}

struct Pieces(std::vec::IntoIter<Result<Bytes, BodyError>>);

impl futures_core::Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next())
    }
}

fn answer(kind: &'static str, coding: &'static str, pieces: Vec<Result<Bytes, BodyError>>) -> Response<Body> {
    let mut response = Response::new(Body::stream(Pieces(pieces.into_iter())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if !coding.is_empty() {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    response
}

fn pieces(bytes: &[u8], step: usize) -> Vec<Result<Bytes, BodyError>> {
    bytes.chunks(step).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

async fn read(response: Response<Body>) -> (Vec<u8>, Option<BodyError>) {
    let (mut body, mut all) = (response.into_body(), Vec::new());
    loop {
        match body.chunk().await {
            Some(Ok(bytes)) => {
                assert!(!bytes.is_empty(), "a chunk is never empty");
                all.extend_from_slice(&bytes);
            }
            Some(Err(error)) => return (all, Some(error)),
            None => return (all, None),
        }
    }
}

#[tokio::test]
async fn a_coded_stream_reaches_the_client_without_its_coding() {
    let given = stream("", START);
    let coded = gzip(&given);
    for step in [1, 5, coded.len()] {
        let response =
            rename(answer("text/event-stream", "gzip", pieces(&coded, step)), "my \"sonnet\"").await;

        assert!(response.headers().get(header::CONTENT_ENCODING).is_none());
        assert_eq!(read(response).await, (echoed(&given).into_bytes(), None), "by {step}");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_loses_nothing_that_had_come() {
    let given = stream("", START);
    for length in [0, 10, 100, given.len() - 3] {
        let mut all = pieces(&given.as_bytes()[..length], 8);
        all.push(Err(BodyError::UpstreamCut));
        let response = rename(answer("text/event-stream; charset=utf-8", "", all), "my \"sonnet\"").await;

        let (body, error) = read(response).await;

        let wanted = echoed(&given);
        let wanted = if length > 200 { &wanted[..wanted.len() - 3] } else { &given[..length] };
        assert_eq!(
            (String::from_utf8(body).unwrap().as_str(), error),
            (wanted, Some(BodyError::UpstreamCut))
        );
    }
}

#[tokio::test]
async fn a_coded_stream_that_is_damaged_is_aborted() {
    let mut coded = gzip(&stream("", START));
    coded[40..].fill(0xff);
    let response = rename(answer("text/event-stream", "gzip", pieces(&coded, 16)), "m").await;

    assert_eq!(read(response).await.1, Some(BodyError::UpstreamMalformed));
}

const WHOLE: &str = r#" { "content":[{"type":"tool_use","input":{"model":"claude-haiku-5-5"}}], "model" : "claude-haiku-5-5","type":"message"} "#;

#[tokio::test]
async fn only_the_name_of_a_whole_answer_is_changed() {
    let wanted = WHOLE.replace("\"model\" : \"claude-haiku-5-5\"", "\"model\" : \"mine\"");
    for (coding, bytes) in [("", WHOLE.as_bytes().to_vec()), ("gzip", gzip(WHOLE))] {
        let mut given = answer("application/json", coding, pieces(&bytes, 9));
        given.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));

        let response = rename(given, "mine").await;

        assert!(response.headers().get(header::CONTENT_ENCODING).is_none());
        assert_eq!(response.headers()[header::CONTENT_LENGTH], wanted.len().to_string());
        assert_eq!(response.body().exact_len(), Some(wanted.len() as u64));
        assert_eq!(read(response).await, (wanted.clone().into_bytes(), None), "{coding}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_renamed_passes_as_it_came() {
    let error = r#"{"type":"error","model":"claude-haiku-5-5"}"#;
    let twice = r#"{"type":"message","model":"a","model":"b"}"#;
    let deep =
        format!(r#"{{"type":"message","content":{}{},"model":5}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let large = format!(r#"{{"type":"message","model":"a","x":"{}"}}"#, "x".repeat(MAX_WHOLE));
    for text in
        [error, twice, "", "nothing", "{}", r#"["message","a"]"#, &deep, &large, &WHOLE[..WHOLE.len() - 3]]
    {
        let response = rename(answer("application/json", "", pieces(text.as_bytes(), 1 << 16)), "mine").await;

        assert!(read(response).await == (text.as_bytes().to_vec(), None), "{}", &text[..text.len().min(60)]);
    }
    for (coding, bytes) in
        [("gzip", WHOLE.as_bytes().to_vec()), ("rot13", gzip(WHOLE)), ("gzip, br", gzip(WHOLE))]
    {
        let response = rename(answer("application/json", coding, pieces(&bytes, 11)), "mine").await;

        assert_eq!(response.headers()[header::CONTENT_ENCODING], coding);
        assert_eq!(read(response).await, (bytes, None), "{coding}");
    }
    let mut signed = answer("application/json", "", pieces(WHOLE.as_bytes(), 11));
    signed.headers_mut().insert("content-digest", HeaderValue::from_static("sha-256=:x:"));
    assert_eq!(read(rename(signed, "mine").await).await.0, WHOLE.as_bytes());
    let mut refused = answer("application/json", "", pieces(WHOLE.as_bytes(), 11));
    *refused.status_mut() = StatusCode::BAD_REQUEST;
    assert_eq!(read(rename(refused, "mine").await).await.0, WHOLE.as_bytes());
    let mut cut = pieces(WHOLE.as_bytes(), 11);
    cut.push(Err(BodyError::UpstreamCut));
    let response = rename(answer("application/json", "", cut), "mine").await;
    assert_eq!(read(response).await, (WHOLE.as_bytes().to_vec(), Some(BodyError::UpstreamCut)));
}

proptest! {
    #[test]
    fn any_split_of_any_stream_gives_the_same_bytes(
        pieces in prop::collection::vec(
            prop::sample::select(vec!["data: ", "data:", "event: a", ":", "\r", "\n", "\r\n", "\n\n", "é", "\u{feff}", START, "{"]),
            0..30,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let stream = pieces.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = passed(&stream, stream.len());
        let (mut start, mut all, mut at) = (Start::new("my \"sonnet\""), Vec::new(), 0);
        for cut in cuts.into_iter().chain([stream.len()]) {
            let piece = &stream[at..cut];
            if start.is_over { all.extend_from_slice(piece) } else { all.extend(start.feed(piece)) }
            at = cut;
        }
        all.extend(start.event);

        prop_assert_eq!(&all, &whole);
        let back = String::from_utf8(whole).unwrap().replacen("my \\\"sonnet\\\"", "claude-haiku-5-5", 1);
        prop_assert_eq!(back.into_bytes(), stream);
    }

    #[test]
    fn any_bytes_pass(stream in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..20) {
        prop_assert_eq!(passed(&stream, step), stream);
    }
}
