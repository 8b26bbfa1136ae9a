//! What the API refuses, by model and by version.

use serde_json::{Value, json};

use crate::wire::{HAIKU, NEW, OLD, OLD_HAIKU, OLD_SONNET, OPUS, SONNET, fields, post, request, send, start};

#[tokio::test]
async fn models_and_versions_refuse_what_the_table_says() {
    let fake = start().await;
    let tools = json!([{"name": "look", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}]);
    let any = json!({"tools": tools, "tool_choice": {"type": "any"}});
    let prefill =
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    let budget = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    let off = json!({"thinking": {"type": "disabled"}});
    let off_at_max = json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}});
    let between = json!({"thinking": {"type": "between_tools"}});
    let between_at_max = json!({"thinking": {"type": "between_tools"}, "output_config": {"effort": "xhigh"}});
    let adaptive = json!({"thinking": {"type": "adaptive"}});
    let effort = |word: &str| json!({"output_config": {"effort": word}});
    let (warm, cold, top_p) =
        (json!({"temperature": 1}), json!({"temperature": 0.2}), json!({"top_p": 0.99}));
    let (both, top_k) = (json!({"temperature": 1, "top_p": 0.99}), json!({"top_k": 5}));
    let computer = |kind: &str| json!({"tools": [{"type": kind, "name": "computer"}]});
    let fast = json!({"speed": "fast"});
    let many = |count: u64| json!({"max_tokens": count});
    // Whether each of Haiku 5.5, Sonnet 5.5, Opus 5.5, Haiku 4.5, Sonnet 4.6 accepts it in the old version.
    let table = [
        ("temperature 1", &warm, [true, true, true, true, true]),
        ("temperature 0.2", &cold, [false, false, false, true, true]),
        ("top_p .99", &top_p, [true, true, true, true, true]),
        ("temperature and top_p", &both, [false, true, true, false, false]),
        ("top_k", &top_k, [false, false, false, true, true]),
        ("prefill", &prefill, [false, false, false, true, false]),
        ("a thinking budget", &budget, [false, false, false, true, true]),
        ("disabled thinking", &off, [true, false, false, true, true]),
        ("disabled at max", &off_at_max, [false, false, false, false, true]),
        ("between_tools", &between, [false, true, false, false, false]),
        ("between_tools at xhigh", &between_at_max, [false, false, false, false, false]),
        ("adaptive thinking", &adaptive, [true, true, true, false, true]),
        ("effort low", &effort("low"), [true, true, true, false, true]),
        ("effort xhigh", &effort("xhigh"), [true, true, true, false, false]),
        ("forced tool", &any, [true, false, false, true, true]),
        ("speed fast", &fast, [false, false, true, false, false]),
        ("the old computer tool", &computer("computer_20250124"), [false, false, false, true, false]),
        ("the new computer tool", &computer("computer_toolset_20260801"), [true, true, true, false, false]),
        ("64,001 tokens", &many(64_001), [true, true, true, false, false]),
        ("128,001 tokens", &many(128_001), [false, false, false, false, false]),
    ];

    for (claim, patch, accepted) in table {
        for (model, accepts) in [HAIKU, SONNET, OPUS, OLD_HAIKU, OLD_SONNET].into_iter().zip(accepted) {
            let answer = post(&fake, OLD, &request(model, patch)).await;
            let expected = if accepts { 200 } else { 400 };
            assert_eq!(answer.status, expected, "{claim} on {model}: {answer:?}");
        }
    }
    for patch in [&warm, &top_p, &top_k] {
        let answer = post(&fake, NEW, &request(OLD_HAIKU, patch)).await;
        assert!(answer.message().ends_with(": Extra inputs are not permitted"), "{answer:?}");
    }
}

#[tokio::test]
async fn malformed_requests_get_the_api_s_own_words() {
    let fake = start().await;
    let turn = |role: &str, content: Value| json!({"role": role, "content": content});
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    let call = json!([{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]);
    let result = json!([{"type": "tool_result", "tool_use_id": "t1", "content": "x"}]);
    let marked =
        |ttl: &str| json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": ttl}});
    let messages = |list: Value| json!({ "messages": list });
    let table = [
        (OLD, json!({"messages": []}), "at least one message"),
        (OLD, json!({"max_tokens": 0}), "greater than or equal to 1"),
        (OLD, json!({"stream": "yes"}), "stream: Input should be"),
        (OLD, json!({"metadata": {"name": "x"}}), "metadata.name: Extra inputs"),
        (OLD, json!({"frequency": 1}), "frequency: Extra inputs are not permitted"),
        (OLD, json!({"context_management": {}}), "context_management: Extra inputs"),
        (OLD, messages(json!([turn("assistant", json!("a"))])), "first message must use the \"user\" role"),
        (OLD, messages(json!([turn("tool", json!("a"))])), "messages.0.role"),
        (OLD, messages(json!([turn("user", json!(""))])), "non-empty content"),
        (OLD, messages(json!([turn("user", json!([{"type": "text", "text": ""}]))])), "must be non-empty"),
        (OLD, messages(json!([turn("user", json!([{"type": "smell"}]))])), "Input tag 'smell'"),
        (
            OLD,
            messages(json!([turn("user", text("a")), turn("assistant", call.clone())])),
            "`tool_use` ids were found",
        ),
        (
            OLD,
            messages(json!([turn("user", text("a")), turn("assistant", call), turn("user", text("b"))])),
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1",
        ),
        (OLD, messages(json!([turn("user", result)])), "unexpected `tool_use_id`"),
        (
            OLD,
            json!({"system": [marked("5m"), marked("5m"), marked("5m"), marked("5m")],
            "cache_control": {"type": "ephemeral"}}),
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (OLD, json!({"system": [marked("5m"), marked("1h")]}), "must not come after a ttl='5m'"),
        (
            OLD,
            messages(json!([
                turn("user", text("a")),
                turn(
                    "assistant",
                    json!([{"type": "thinking", "thinking": "x",
            "signature": "y", "cache_control": {"type": "ephemeral"}}])
                ),
                turn("user", text("b"))
            ])),
            "messages.1.content.0.thinking.cache_control: Extra inputs",
        ),
        (
            NEW,
            messages(json!([turn("user", json!([{"type": "text", "text": "a", "citations": [{}]}]))])),
            "citations",
        ),
        (
            NEW,
            messages(json!([
                turn("user", text("a")),
                turn("assistant", json!([{"type": "document", "source": {}}])),
                turn("user", text("b"))
            ])),
            "`document` blocks are not permitted",
        ),
        (OLD, json!({"tool_choice": {"type": "auto"}}), "may only be specified while providing tools"),
    ];

    for (version, patch, message) in table {
        let answer = post(&fake, version, &request(OLD_SONNET, &patch)).await;
        assert_eq!(answer.status, 400, "{patch}: {answer:?}");
        assert!(answer.message().contains(message), "{patch}: {answer:?}");
    }
}

#[tokio::test]
async fn credentials_versions_models_and_paths_are_checked() {
    let fake = start().await;
    let body = request(HAIKU, &json!({})).to_string();
    let unknown = request("claude-haiku-9", &json!({})).to_string();
    let bearer = vec!["Authorization: Bearer t".to_owned(), format!("anthropic-version: {NEW}")];
    let no_version = vec!["x-api-key: a".to_owned()];
    let table: [(&str, Vec<String>, &str, u16, &str); 8] = [
        ("/v1/messages", bearer, &body, 200, ""),
        ("/v1/messages?beta=true", fields(OLD), &body, 200, ""),
        ("/v1/messages", vec![], &body, 401, "authentication_error"),
        ("/v1/messages", no_version, &body, 400, "invalid_request_error"),
        ("/v1/messages", fields("2024-01-01"), &body, 400, "invalid_request_error"),
        ("/v1/messages", fields(OLD), &unknown, 404, "not_found_error"),
        ("/v1/messages", fields(OLD), "{", 400, "invalid_request_error"),
        ("/v1/nothing", fields(OLD), &body, 404, "not_found_error"),
    ];

    for (path, fields, body, status, kind) in table {
        let answer = send(&fake, "POST", path, &fields, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        for name in ["request-id", "anthropic-organization-id", "anthropic-ratelimit-input-tokens-remaining"]
        {
            assert!(answer.head.contains(&format!("\r\n{name}: ")), "{answer:?}");
        }
        if status != 200 {
            let id = answer.json()["request_id"].as_str().unwrap().to_owned();
            assert!(answer.head.contains(&format!("request-id: {id}")));
            assert_eq!(answer.json()["error"]["type"], kind);
        }
    }
    let big = vec![b' '; 32 * 1024 * 1024 + 1];
    assert_eq!(send(&fake, "POST", "/v1/messages", &fields(OLD), &big).await.status, 413);
}
