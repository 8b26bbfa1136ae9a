//! What the reader finds in the bodies that clients send.

use super::{
    super::{BlockSet, CacheMark, Given, Part, Role, System},
    Message, read,
};
use crate::claude::cost::Ttl;

/// The same request as six clients write it.
const SHAPES: [&str; 6] = [
    // Compact, the model first.
    r#"{"model":"claude-sonnet-5-5","max_tokens":1024,"system":"Coach café \"x\"","messages":[{"role":"user","content":"Hé 😀"},{"role":"assistant","content":[{"type":"text","text":"Hello"}]},{"role":"user","content":"Bye"}]}"#,
    // Python 0.34.2: spaces after separators, escapes, the model after the messages.
    r#"{"max_tokens": 1024, "messages": [{"role": "user", "content": "H\u00e9 \ud83d\ude00"}, {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}, {"role": "user", "content": "Bye"}], "model": "claude-sonnet-5-5", "system": "Coach caf\u00e9 \"x\""}"#,
    // Python 0.125.0 and 2.12.0: compact, raw UTF-8, the model after the messages.
    r#"{"max_tokens":1024,"messages":[{"role":"user","content":"Hé 😀"},{"role":"assistant","content":[{"type":"text","text":"Hello"}]},{"role":"user","content":"Bye"}],"model":"claude-sonnet-5-5","system":"Coach café \"x\""}"#,
    // TypeScript 0.27.3: pretty-printed.
    "{\n  \"model\": \"claude-sonnet-5-5\",\n  \"max_tokens\": 1024,\n  \"system\": \"Coach café \\\"x\\\"\",\n  \"messages\": [\n    {\n      \"role\": \"user\",\n      \"content\": \"Hé 😀\"\n    },\n    {\n      \"role\": \"assistant\",\n      \"content\": [\n        {\n          \"type\": \"text\",\n          \"text\": \"Hello\"\n        }\n      ]\n    },\n    {\n      \"role\": \"user\",\n      \"content\": \"Bye\"\n    }\n  ]\n}",
    // The type of a block behind its text, the role behind the content, escaped keys.
    r#"{"messages":[{"content":"Hé 😀","role":"user"},{"content":[{"text":"Hello","type":"text"}],"role":"assistant"},{"content":"Bye","role":"user"}],"syst\u0065m":"Coach café \"x\"","max_tokens":1024,"\u006d\u006fdel":"claude-sonnet-5-\u0035"}"#,
    // Line ends of Windows, and white space round the whole.
    "\r\n\t{ \"model\" :\r\n\"claude-sonnet-5-5\" , \"max_tokens\":1024,\"system\" : \"Coach café \\u0022x\\u0022\",\"messages\" : [ { \"role\":\"user\" , \"content\" :\t\"Hé 😀\" } ,{\"role\":\"assistant\",\"content\":[ {\"type\":\"text\",\"text\":\"Hello\"} ]}, {\"role\":\"user\",\"content\":\"Bye\"}]}\r\n",
];

#[test]
fn every_client_says_the_same() {
    for body in SHAPES {
        let bytes = body.as_bytes();
        let message = read(body);

        assert_eq!(message.model, "claude-sonnet-5-5", "{body}");
        assert!(
            body[message.model_span.clone()].starts_with('"')
                && body[message.model_span.clone()].ends_with('"')
        );
        assert!(body[..message.after_open].ends_with('{'));
        assert_eq!(message.system.text(bytes), "Coach café \"x\"", "{body}");
        assert_eq!(message.parameters.max_tokens, Some(1024));
        let turns: Vec<_> = message.turns.iter().map(|turn| (turn.role, turn.text.decode(bytes))).collect();
        let expected =
            [(Role::User, "Hé 😀".into()), (Role::Assistant, "Hello".into()), (Role::User, "Bye".into())];
        assert_eq!(turns, expected, "{body}");
        for turn in &message.turns {
            serde_json::from_str::<serde_json::Value>(&body[turn.span.clone()]).unwrap();
        }
        assert_eq!(message.parameters.unknown_count, 0);
        assert!(!message.has_repeated_keys && !message.has_cache_control());
    }
}

/// A body with a model and `members`.
fn with(members: &str) -> Message {
    read(&format!(r#"{{"model":"m",{members}}}"#))
}

#[test]
fn texts_without_escapes_are_borrowed() {
    let body = r#"{"model":"m","system":"plain","messages":[{"role":"user","content":"a\nb"}]}"#;
    let message = read(body);

    assert!(matches!(message.system.text(body.as_bytes()), std::borrow::Cow::Borrowed("plain")));
    assert_eq!(message.turns[0].text.decode(body.as_bytes()), "a\nb");
}

#[test]
fn system_blocks_are_joined_and_the_last_one_is_placed() {
    let body =
        r#"{"model":"m","system":[{"type":"text","text":"one"}, { "text":"two\u0021","type":"text"}]}"#;

    let message = read(body);

    let System::Blocks { span, last: Some(last), .. } = &message.system else { panic!("no blocks") };
    assert_eq!(message.system.text(body.as_bytes()), "one\ntwo!");
    assert!(body[span.clone()].starts_with("[{") && body[span.clone()].ends_with("}]"));
    assert!(body[last.after_open..].starts_with(r#" "text":"two"#));
    assert!(!last.is_empty && last.can_be_marked);
    let table = [
        ("[]", None),
        ("[{}]", Some((true, false))),
        (r#"[{"type":"text","text":""}]"#, Some((false, false))),
    ];
    for (system, expected) in table {
        let System::Blocks { last, .. } = with(&format!(r#""system":{system}"#)).system else {
            panic!("no blocks")
        };
        assert_eq!(last.map(|last| (last.is_empty, last.can_be_marked)), expected, "{system}");
    }
}

#[test]
fn results_of_tools_are_not_the_words_of_the_user() {
    let body = r#"{"model":"m","messages":[
        {"role":"user","content":"weather?"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"I look"},{"type":"tool_use","id":"t1","name":"get","input":{"type":"image","cache_control":{"ttl":"1h"},"text":"no"}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"rain"},{"type":"image","source":{}}]},{"type":"text","text":"and?"}]}]}"#;

    let message = read(body);

    let [first, asked, answered] = message.turns.as_slice() else { panic!("three turns") };
    assert!(first.blocks.has(BlockSet::TEXT));
    assert_eq!(asked.text.decode(body.as_bytes()), "I look");
    assert!(asked.blocks.has(BlockSet::THINKING) && asked.blocks.has(BlockSet::TOOL_USE));
    assert!(!asked.blocks.has(BlockSet::IMAGE));
    assert_eq!(answered.text.decode(body.as_bytes()), "and?");
    assert!(answered.blocks.has(BlockSet::TOOL_RESULT) && answered.blocks.has(BlockSet::IMAGE));
    assert_eq!(&body[asked.tool_uses[0].clone()], "t1");
    assert_eq!(&body[answered.tool_results[0].clone()], "t1");
    assert!(message.is_tool_loop() && !message.is_prefill() && !message.has_cache_control());
}

#[test]
fn kinds_of_blocks_are_told_apart() {
    let table = [
        ("image", BlockSet::IMAGE),
        ("document", BlockSet::DOCUMENT),
        ("redacted_thinking", BlockSet::REDACTED_THINKING),
        ("server_tool_use", BlockSet::SERVER_TOOL),
        ("web_search_tool_result", BlockSet::SERVER_TOOL),
        ("compaction", BlockSet::COMPACTION),
        ("search_result", BlockSet::SEARCH_RESULT),
        ("tool_change", BlockSet::CHANGE),
        ("hologram", BlockSet::OTHER),
    ];
    for (word, expected) in table {
        let message = with(&format!(r#""messages":[{{"role":"user","content":[{{"type":"{word}"}}]}}]"#));
        assert_eq!(message.turns[0].blocks, expected, "{word}");
        assert_eq!(message.has_changes(), expected == BlockSet::CHANGE, "{word}");
    }
    assert!(with(r#""messages":[{"role":"system","content":"x"}]"#).has_changes());
    assert!(with(r#""messages":[{"role":"user","content":"x","tools":[]}]"#).has_changes());
    assert!(
        with(r#""messages":[{"role":"user","content":"x"},{"role":"assistant","content":"{"}]"#).is_prefill()
    );
}

#[test]
fn marks_are_counted_where_they_mean_the_cache() {
    let mark = r#""cache_control":{"type":"ephemeral"}"#;
    let hour = r#""cache_control":{"ttl":"1h","type":"ephemeral"}"#;
    let five = |part| CacheMark { part, ttl: Ttl::FiveMinutes };
    let one = |part| CacheMark { part, ttl: Ttl::OneHour };
    let table = [
        (mark.to_owned(), vec![five(Part::Top)]),
        (format!(r#""tools":[{{"name":"a",{hour}}},{{{mark}}}]"#), vec![one(Part::Tools), five(Part::Tools)]),
        (format!(r#""system":[{{"type":"text",{hour}}}]"#), vec![one(Part::System)]),
        (format!(r#""messages":[{{"content":[{{{mark},"type":"text"}}]}}]"#), vec![five(Part::Messages)]),
        (format!(r#""messages":[{{"content":[{{"content":[{{{hour}}}]}}]}}]"#), vec![one(Part::Messages)]),
        (
            format!(r#""messages":[{{"content":[{{"source":{{"content":[{{{hour}}}]}}}}]}}]"#),
            vec![one(Part::Messages)],
        ),
        (r#""cache_control":null"#.to_owned(), vec![]),
        (format!(r#""metadata":{{{mark}}}"#), vec![]),
        (format!(r#""tools":[{{"input_schema":{{"properties":{{{mark}}}}}}}]"#), vec![]),
        (format!(r#""messages":[{{"content":[{{"input":{{{mark}}}}}]}}]"#), vec![]),
    ];
    for (members, expected) in table {
        let message = with(&members);
        assert_eq!(message.marks, expected, "{members}");
        assert_eq!(message.mark_count, expected.len());
    }
}

#[test]
fn parameters_are_found() {
    let message = with(
        r#""temperature":1,"top_p":0.99,"top_k":null,"stream":true,"thinking":{"type":"between_tools","budget_tokens":400},
        "output_config":{"effort":"high","format":{"type":"json_schema"}},"tool_choice":{"type":"any"},
        "tools":[{"name":"a","strict":true},{"type":"custom","name":"b"},{"type":"web_search_20260209"},{"type":"web_search_20260209"}],
        "stop_sequences":["x"],"speed":"fast","service_tier":"auto","inference_geo":"us","fallbacks":[],"container":"c",
        "context_management":{"edits":[{"type":"compact_20260112"}]},"mcp_servers":[],"metadata":{"user_id":"u\u0031"},
        "thread_id":"t","future":1,"messages":[{"role":"user","content":[{"type":"document","citations":{"enabled":true}}]}]"#,
    );

    let found = &message.parameters;
    assert_eq!((found.temperature, found.top_p), (Some(Given::Number(1.0)), Some(Given::Number(0.99))));
    assert_eq!(found.top_k, Some(Given::Null));
    let thinking = found.thinking.as_ref().unwrap();
    assert_eq!((thinking.kind.as_str(), thinking.budget_tokens), ("between_tools", Some(400)));
    assert_eq!(found.effort.as_ref().unwrap(), &"high");
    assert_eq!(found.tool_choice.as_ref().unwrap(), &"any");
    assert_eq!(found.tool_count, 4);
    assert_eq!(
        found.tool_types.iter().map(super::super::Word::as_str).collect::<Vec<_>>(),
        ["web_search_20260209"]
    );
    assert_eq!(found.speed.as_ref().unwrap(), &"fast");
    assert_eq!(found.service_tier.as_ref().unwrap(), &"auto");
    assert_eq!(found.inference_geo.as_ref().unwrap(), &"us");
    assert!(found.is_stream && found.has_output_format && found.has_strict_tools && found.has_stop_sequences);
    assert!(found.has_fallbacks && found.has_container && found.has_mcp_servers && found.has_thread);
    assert!(found.has_context_management && found.has_compaction_edit && found.has_citations);
    assert_eq!(found.unknown_count, 1);
    let body = br#"{"model":"m","metadata":{"user_id":"u\u0031"}}"#;
    assert_eq!(Message::read(body, 9).unwrap().parameters.user_id(body).unwrap(), "u1");
}

#[test]
fn members_of_the_wrong_type_are_passed_over() {
    let message = with(
        r#""messages":{"a":[]},"system":7,"tools":"x","thinking":true,"stream":"yes","max_tokens":1.5,"effort":3,
        "temperature":"hot","metadata":[],"cache_control":7"#,
    );

    assert!(message.turns.is_empty() && message.system == System::None);
    assert_eq!(message.parameters.max_tokens, None);
    assert_eq!(message.parameters.temperature, Some(Given::Other));
    assert_eq!(message.mark_count, 1);
    assert_eq!(with(r#""messages":[7,"x",[],{"content":[7,[{}]]}]"#).turns.len(), 1);
}

#[test]
fn repeated_members_are_told() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]}"#;

    let message = read(body);

    assert!(message.has_repeated_keys);
    assert_eq!(message.turns.len(), 1);
    assert_eq!(message.turns[0].text.decode(body.as_bytes()), "b");
    assert!(with(r#""messages":[{"role":"user","role":"assistant"}]"#).has_repeated_keys);
    assert!(!with(r#""future":1,"future":2"#).has_repeated_keys);
}

#[test]
fn types_of_tools_have_a_bound() {
    let tools: Vec<String> = (0..100).map(|number| format!(r#"{{"type":"t{number}"}}"#)).collect();

    let message = with(&format!(r#""tools":[{}]"#, tools.join(",")));

    assert_eq!(message.parameters.tool_types.len(), 33);
    assert_eq!(message.parameters.tool_types.last().unwrap(), &"too_many");
}
