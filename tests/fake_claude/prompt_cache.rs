//! The arithmetic of the prompt cache.

use std::time::Duration;

use serde_json::{Value, json};

use crate::wire::{Answer, HAIKU, NEW, SONNET, fields, post, request, send, start};

#[tokio::test]
async fn the_second_turn_reads_what_the_first_one_wrote() {
    let fake = start().await;
    // 3,200 bytes are 1,000 old tokens and 1,300 new ones; 32 bytes are 10 and 13.
    let (system, said) = ("s".repeat(3200), "u".repeat(32));
    let first = json!([{"role": "user", "content": said}]);
    let second = json!([
        {"role": "user", "content": said},
        {"role": "assistant", "content": said},
        {"role": "user", "content": said},
    ]);
    let auto = |messages: &Value| json!({"system": system, "messages": messages, "cache_control": {"type": "ephemeral"}});

    assert_eq!(split(&post(&fake, NEW, &request(SONNET, &auto(&first))).await), [0, 0, 1313, 0]);
    assert_eq!(split(&post(&fake, NEW, &request(SONNET, &auto(&second))).await), [0, 1313, 26, 0]);
    assert_eq!(split(&post(&fake, NEW, &request(HAIKU, &auto(&second))).await), [0, 0, 1339, 0], "per model");
    fake.advance(Duration::from_secs(299));
    assert_eq!(split(&post(&fake, NEW, &request(SONNET, &auto(&second))).await), [0, 1339, 0, 0], "renewed");
    fake.advance(Duration::from_secs(299));
    assert_eq!(split(&post(&fake, NEW, &request(SONNET, &auto(&second))).await), [0, 1339, 0, 0], "again");
    fake.advance(Duration::from_secs(301));
    assert_eq!(split(&post(&fake, NEW, &request(SONNET, &auto(&second))).await), [0, 0, 1339, 0], "expired");

    let plain = json!({"system": system, "messages": second});
    assert_eq!(
        split(&post(&fake, NEW, &request(SONNET, &plain)).await),
        [1339, 0, 0, 0],
        "no breakpoint, no read"
    );
    let other = fields(NEW).into_iter().skip(1).chain(["x-api-key: sk-two".to_owned()]).collect::<Vec<_>>();
    let body = request(SONNET, &auto(&second)).to_string();
    let answer = send(&fake, "POST", "/v1/messages", &other, body.as_bytes()).await;
    assert_eq!(split(&answer), [0, 0, 1339, 0], "per credential");
}

#[tokio::test]
async fn breakpoints_keep_their_lifetimes_sizes_and_look_back() {
    let fake = start().await;
    let long = json!([{"type": "text", "text": "s".repeat(3200), "cache_control": {"type": "ephemeral", "ttl": "1h"}}]);
    let ask = |text: &str| json!([{"role": "user", "content": text}]);
    let body = |text: &str| {
        request(
            SONNET,
            &json!({"system": long, "messages": ask(text), "cache_control": {"type": "ephemeral"}}),
        )
    };

    assert_eq!(split(&post(&fake, NEW, &body(&"a".repeat(32))).await), [0, 0, 13, 1300]);
    fake.advance(Duration::from_secs(3500));
    assert_eq!(split(&post(&fake, NEW, &body(&"b".repeat(32))).await), [0, 1300, 13, 0]);

    let effort = json!({"system": long, "messages": ask(&"b".repeat(32)), "cache_control": {"type": "ephemeral"},
        "output_config": {"effort": "low"}});
    assert_eq!(
        split(&post(&fake, NEW, &request(SONNET, &effort)).await),
        [0, 1300, 13, 0],
        "effort: messages only"
    );

    let small = json!({"system": "s".repeat(320), "cache_control": {"type": "ephemeral"}});
    assert_eq!(split(&post(&fake, NEW, &request(SONNET, &small)).await)[2], 0, "too short");

    let blocks = |count: usize| -> Value {
        let blocks: Vec<_> =
            (0..count).map(|i| json!({"type": "text", "text": format!("{i:032}")})).collect();
        json!({"system": "t".repeat(3200), "messages": [{"role": "user", "content": blocks}],
            "cache_control": {"type": "ephemeral"}})
    };
    for (count, read) in [(1, 0), (20, 1313), (41, 0)] {
        let answer = post(&fake, NEW, &request(SONNET, &blocks(count))).await;
        assert_eq!(split(&answer)[1], read, "{count} blocks");
    }

    let mut declared = fields(NEW);
    declared.push("x-fake-input-tokens: 100001".to_owned());
    let answer =
        send(&fake, "POST", "/v1/messages", &declared, request(HAIKU, &json!({})).to_string().as_bytes())
            .await;
    assert_eq!(split(&answer)[0], 100_001);
}

/// Fields of a usage: input, read, 5m write, 1h write.
fn split(answer: &Answer) -> [u64; 4] {
    let usage = &answer.json()["usage"];
    let creation = &usage["cache_creation"];
    let number = |value: &Value| value.as_u64().unwrap();
    assert_eq!(
        number(&usage["cache_creation_input_tokens"]),
        number(&creation["ephemeral_5m_input_tokens"]) + number(&creation["ephemeral_1h_input_tokens"])
    );
    [
        number(&usage["input_tokens"]),
        number(&usage["cache_read_input_tokens"]),
        number(&creation["ephemeral_5m_input_tokens"]),
        number(&creation["ephemeral_1h_input_tokens"]),
    ]
}
