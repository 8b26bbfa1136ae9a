//! Tests of watching answers: golden usages, streams at every split, and what goes wrong.

use std::io::Write;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{AnswerKind, MAX_WHOLE, Seen, StopReason, Usage, Watcher};
use crate::claude::{decode::Coding, message::Word};

fn watch(kind: AnswerKind, bytes: &[u8], step: usize) -> Seen {
    let mut watcher = Watcher::new(kind, Coding::Identity);
    for piece in bytes.chunks(step) {
        watcher.feed(piece);
    }
    watcher.finish()
}

fn whole(answer: &Value) -> Seen {
    watch(AnswerKind::Whole, answer.to_string().as_bytes(), 100)
}

fn stream(events: &[Value]) -> String {
    let line = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(line).collect()
}

fn watch_events(events: &[Value]) -> Seen {
    watch(AnswerKind::Stream, stream(events).as_bytes(), 1 << 20)
}

fn plain() -> Usage {
    Usage {
        input: 12,
        output: 20,
        cache_read: 2048,
        cache_write_5m: 100,
        split_known: true,
        ..Usage::default()
    }
}

/// An answer with everything that the API sends.
fn events() -> Vec<Value> {
    vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5",
            "content": [], "stop_reason": null, "usage": {"input_tokens": 12, "cache_creation_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0}, "cache_read_input_tokens": 2048,
            "output_tokens": 1, "service_tier": "standard"}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "abcdef"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hé 😀\n"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "hologram", "usage": {"output_tokens": 99}}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"a\""}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": 20, "input_tokens": null, "future": {"x": 1}}}),
        json!({"type": "message_stop"}),
    ]
}

#[test]
fn a_stream_is_read_at_every_split_and_line_end() {
    let expected = Seen {
        usage: Some(Usage { service_tier: Some(Word::new("standard")), ..plain() }),
        model: Some(Word::new("claude-sonnet-5-5")),
        stop_reason: Some(StopReason::ToolUse),
        is_started: true,
        is_ended: true,
        is_at_border: true,
        has_content: true,
        has_thinking: true,
        text_bytes: 9,
        output_bytes: 15,
        ..Seen::default()
    };
    let text = stream(&events());
    for text in [
        text.clone(),
        text.replace('\n', "\r\n"),
        text.replace('\n', "\r"),
        format!("\u{feff}: hi\n\n{text}"),
    ] {
        for step in (1..100).chain([text.len()]) {
            assert_eq!(watch(AnswerKind::Stream, text.as_bytes(), step), expected, "{step}");
        }
    }
}

#[test]
fn a_delta_replaces_and_null_keeps() {
    let start = json!({"type": "message_start", "message": {"usage": {"input_tokens": 2679, "output_tokens": 3, "cache_read_input_tokens": 0}}});
    let delta = |usage: Value| json!({"type": "message_delta", "delta": {}, "usage": usage});
    let table = [
        (vec![], (2679, 3)),
        (vec![delta(json!({"output_tokens": 510}))], (2679, 510)),
        (vec![delta(json!({"input_tokens": 10682, "output_tokens": 510}))], (10682, 510)),
        (
            vec![
                delta(json!({"output_tokens": 5})),
                delta(json!({"output_tokens": 9, "input_tokens": null})),
            ],
            (2679, 9),
        ),
        (
            vec![
                delta(json!(null)),
                delta(json!("x")),
                delta(json!({"output_tokens": "7", "input_tokens": -1})),
            ],
            (2679, 3),
        ),
        (vec![delta(json!({"output_tokens": 0}))], (2679, 0)),
    ];
    for (deltas, expected) in table {
        let events: Vec<Value> = [start.clone()].into_iter().chain(deltas).collect();
        let usage = watch_events(&events).usage.unwrap();
        assert_eq!((usage.input, usage.output), expected, "{events:?}");
    }
}

#[test]
fn writes_are_split_by_how_long_they_last() {
    let table = [
        (
            json!({"cache_creation_input_tokens": 1000, "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600}}),
            (400, 600, true),
        ),
        (
            json!({"cache_creation_input_tokens": 1000, "cache_creation": {"ephemeral_1h_input_tokens": 1000}}),
            (0, 1000, true),
        ),
        (json!({"cache_creation_input_tokens": 1000}), (1000, 0, false)),
        (json!({"cache_creation_input_tokens": 1000, "cache_creation": null}), (1000, 0, false)),
        (
            json!({"cache_creation_input_tokens": 1000, "cache_creation": {"ephemeral_1h_input_tokens": 300}}),
            (700, 300, false),
        ),
        (json!({"cache_creation": {"ephemeral_5m_input_tokens": 5}}), (5, 0, true)),
        (json!({"cache_creation_input_tokens": 0}), (0, 0, true)),
        (json!({}), (0, 0, true)),
    ];
    for (mut usage, expected) in table {
        usage["input_tokens"] = json!(1);
        let found = whole(&json!({"type": "message", "usage": usage})).usage.unwrap();
        assert_eq!((found.cache_write_5m, found.cache_write_1h, found.split_known), expected, "{usage}");
    }
}

#[test]
fn a_whole_answer_is_read() {
    let seen = whole(&json!({"type": "message", "model": "claude-haiku-5-5", "stop_reason": "refusal",
        "content": [{"type": "thinking", "thinking": "abc"}, {"type": "text", "text": "hé\n"}, 7, {"type": "tool_use", "input": {"a": 1}}],
        "usage": {"input_tokens": 12, "output_tokens": 20, "cache_read_input_tokens": 2048, "cache_creation_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 100}, "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
            "service_tier": "batch", "inference_geo": "us", "speed": "fast", "iterations": [{}, {}]}}));

    let usage = Usage {
        web_searches: 2,
        web_fetches: 1,
        has_iterations: true,
        service_tier: Some(Word::new("batch")),
        geo: Some(Word::new("us")),
        speed: Some(Word::new("fast")),
        ..plain()
    };
    assert_eq!(seen.usage, Some(usage));
    assert_eq!(seen.stop_reason, Some(StopReason::Refusal));
    assert_eq!(seen.model, Some(Word::new("claude-haiku-5-5")));
    assert!(seen.is_started && seen.is_ended && seen.has_thinking && seen.has_content && !seen.is_at_border);
    assert_eq!((seen.text_bytes, seen.output_bytes), (4, 12));
}

#[test]
fn errors_are_told_apart() {
    let error =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "r"});
    let seen = whole(&error);
    assert_eq!(seen.error, Some(Word::new("overloaded_error")));
    assert!(!seen.is_started && seen.is_ended && seen.usage.is_none());

    let mut started = events();
    started.truncate(8);
    started.push(error);
    let seen = watch_events(&started);
    assert_eq!(seen.error, Some(Word::new("overloaded_error")));
    assert!(seen.is_started && seen.is_ended && seen.stop_reason.is_none());
    assert_eq!(seen.usage.unwrap().output, 1);
}

#[test]
fn a_stream_that_breaks_off_is_told() {
    let text = stream(&events()[..8]);

    let cut = watch(AnswerKind::Stream, &text.as_bytes()[..text.len() - 3], 7);
    assert!(!cut.is_ended && !cut.is_at_border && !cut.has_content && cut.has_thinking);
    let between = watch(AnswerKind::Stream, text.as_bytes(), 7);
    assert!(!between.is_ended && between.is_at_border && between.has_content);
    assert_eq!((between.text_bytes, between.output_bytes), (9, 11));
}

#[test]
fn what_cannot_be_followed_is_lost_and_does_no_harm() {
    let mut watcher = Watcher::new(AnswerKind::Whole, Coding::Identity);
    for _ in 0..=MAX_WHOLE / 1000 {
        watcher.feed(&[b' '; 1000]);
    }
    assert!(watcher.finish().is_lost);

    let mut watcher = Watcher::new(AnswerKind::Stream, Coding::Other);
    watcher.feed(b"data: {}\n\n");
    assert!(!watcher.is_at_border() && watcher.finish().is_lost);

    let large = format!("{}data: {}\n\n", stream(&events()[..1]), "x".repeat(300 << 10));
    let seen = watch(AnswerKind::Stream, large.as_bytes(), 4096);
    assert!(seen.is_lost && seen.is_at_border && seen.usage.is_some());

    for odd in [
        "",
        "[]",
        "null",
        "{}",
        r#"{"type":7,"usage":[],"content":{},"model":1,"stop_reason":[]}"#,
        "{\"usage\":{\"input_tokens\":1e9}}",
    ] {
        let seen = watch(AnswerKind::Whole, odd.as_bytes(), 3);
        assert_eq!((seen.usage, seen.is_lost), (None, false), "{odd}");
    }
    for event in ["message_start", "message_delta", "content_block_start", "content_block_delta", "error"] {
        for data in ["{}", "7", "[", r#"{"message":1,"delta":2,"usage":3,"content_block":4,"error":5}"#] {
            let text = format!("event: {event}\ndata: {data}\n\n");
            assert_eq!(watch(AnswerKind::Stream, text.as_bytes(), 5).usage, None, "{text}");
        }
    }
}

#[test]
fn a_compressed_stream_is_read_as_it_comes() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut watcher = Watcher::new(AnswerKind::Stream, Coding::Gzip);
    let feed = |watcher: &mut Watcher, encoder: &mut flate2::write::GzEncoder<Vec<u8>>, events: &[Value]| {
        encoder.write_all(stream(events).as_bytes()).unwrap();
        encoder.flush().unwrap();
        watcher.feed(&std::mem::take(encoder.get_mut()));
    };

    feed(&mut watcher, &mut encoder, &events()[..7]);
    assert!(!watcher.has_content());
    feed(&mut watcher, &mut encoder, &events()[7..8]);
    assert!(watcher.has_content() && !watcher.is_ended());
    feed(&mut watcher, &mut encoder, &events()[8..]);
    assert!(watcher.is_ended() && !watcher.is_at_border());
    assert_eq!(watcher.finish().usage.unwrap().output, 20);
}

proptest! {
    #[test]
    fn any_split_gives_the_same(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8), ending in prop::sample::select(vec!["\n", "\r\n", "\r"])) {
        let text = stream(&events()).replace('\n', ending).into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut watcher, mut at) = (Watcher::new(AnswerKind::Stream, Coding::Identity), 0);
        for cut in cuts.into_iter().chain([text.len()]) {
            watcher.feed(&text[at..cut]);
            at = cut;
        }

        prop_assert_eq!(watcher.finish(), watch(AnswerKind::Stream, &text, text.len()));
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..40) {
        for kind in [AnswerKind::Whole, AnswerKind::Stream] {
            let _ = watch(kind, &bytes, step);
        }
    }
}
