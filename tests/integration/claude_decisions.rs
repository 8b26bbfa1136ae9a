//! Which model answers, and why: by content, by the client's word, by the operator's, and by the conversation.

use serde_json::{Value, json};

use crate::support::claude::{
    Call, ECONOMY, HAIKU, OLD_HAIKU, OPUS, PREMIUM, Plane, SERIOUS, SONNET, STANDARD, Talk, fake::Behaviour,
    said, with,
};

/// The model that answers one call, and the reason.
async fn decided(plane: &Plane, call: &Call) -> (String, String) {
    let (answer, record) = plane.recorded(call).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = plane.last().json()["model"].as_str().unwrap().to_owned();
    let told = record["model"].as_str().unwrap();
    assert!(asked == told || told == "other", "{asked} {told}");
    (asked, record["reason"].as_str().unwrap().to_owned())
}

/// Calls of as many accounts, so that no conversation is known twice.
async fn all_decided(keys: &str, table: &[(Call, &str, &str)]) {
    let plane = Plane::start(keys).await;
    for (nth, (call, model, reason)) in table.iter().enumerate() {
        let call = call.clone().key(&format!("account-{nth}"));

        let (asked, why) = decided(&plane, &call).await;

        let what = format!("{keys}: {}", String::from_utf8_lossy(&call.body));
        assert_eq!(asked, *model, "{why} {what}");
        assert!(reason.is_empty() || why == *reason, "{why}, not {reason}: {what}");
    }
}

#[tokio::test]
async fn the_content_wants_a_tier_and_gets_it() {
    let call = Call::said;
    all_decided(
        "",
        &[
            (call(SONNET, ECONOMY), HAIKU, ""),
            (call(SONNET, STANDARD), SONNET, ""),
            (call(SONNET, PREMIUM), OPUS, "assessment"),
            (call(SONNET, SERIOUS), SONNET, ""),
            (call(HAIKU, ECONOMY), HAIKU, ""),
            (call(HAIKU, STANDARD), SONNET, ""),
            (call(HAIKU, PREMIUM), OPUS, "assessment"),
            (call(HAIKU, SERIOUS), SONNET, ""),
            (call(OPUS, ECONOMY), HAIKU, ""),
            (call(OPUS, STANDARD), SONNET, ""),
            (call(OPUS, PREMIUM), OPUS, "assessment"),
            (call(OPUS, SERIOUS), SONNET, ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn directions_that_are_forbidden_are_not_taken() {
    let call = Call::said;
    all_decided(
        "moves: down",
        &[
            (call(SONNET, ECONOMY), HAIKU, ""),
            (call(SONNET, PREMIUM), SONNET, "moves"),
            (call(HAIKU, STANDARD), HAIKU, "moves"),
        ],
    )
    .await;
    all_decided(
        "moves: up",
        &[
            (call(SONNET, ECONOMY), SONNET, "moves"),
            (call(SONNET, PREMIUM), OPUS, "assessment"),
            (call(HAIKU, STANDARD), SONNET, ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_client_may_name_the_tier_of_one_call() {
    let named = |text: &str, tier: &str| Call::said(SONNET, text).field(&format!("x-touchline-tier: {tier}"));
    all_decided(
        "",
        &[
            (named(STANDARD, "economy"), HAIKU, "override"),
            (named(ECONOMY, "standard"), SONNET, "override"),
            (named(ECONOMY, "premium"), OPUS, "override"),
            (named(ECONOMY, "off"), SONNET, "override"),
            (named(PREMIUM, "off"), SONNET, "override"),
            (named(SERIOUS, "economy"), SONNET, "serious"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_word_of_a_client_beats_prices_and_directions_but_no_guard() {
    all_decided(
        "moves: down, gate: { premium_max_extra: 0usd }",
        &[
            (Call::said(SONNET, STANDARD).field("x-touchline-tier: premium"), OPUS, "override"),
            (
                Call::of(&with(said(SONNET, STANDARD), &json!({"thinking": {"type": "between_tools"}})))
                    .field("x-touchline-tier: premium"),
                SONNET,
                "capability",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_word_that_is_no_tier_is_ignored_counted_and_taken_off() {
    let plane = Plane::start("").await;

    for (nth, word) in ["gold", "Economy", "economy, premium", "1"].into_iter().enumerate() {
        let call =
            Call::said(SONNET, ECONOMY).field(&format!("x-touchline-tier: {word}")).key(&nth.to_string());

        assert_eq!(decided(&plane, &call).await.0, HAIKU, "{word}");
        assert_eq!(plane.last().header("x-touchline-tier"), None);
    }

    assert_eq!(plane.proxy.metric("touchline_claude_bad_overrides_total", "").await, 4.0);
    decided(&plane, &Call::said(SONNET, ECONOMY).field("x-touchline-tier: premium").key("x")).await;
    assert_eq!(plane.last().header("x-touchline-tier"), None);
}

#[tokio::test]
async fn models_that_are_passed_or_in_no_tier_are_never_moved() {
    all_decided("", &[(Call::said("claude-fable-5-2", ECONOMY), "claude-fable-5-2", "not_ours")]).await;
    all_decided(
        "pass: [\"*sonnet*\"]",
        &[
            (Call::said(SONNET, PREMIUM), SONNET, "not_ours"),
            (Call::said(SONNET, ECONOMY).field("x-touchline-tier: premium"), SONNET, ""),
        ],
    )
    .await;

    let plane = Plane::start("").await;
    let (answer, record) = plane.recorded(&Call::said("gpt-7", ECONOMY)).await;

    assert_eq!((answer.status, &record["reason"], plane.seen().len()), (404, &"not_ours".into(), 1));
    assert_eq!((&record["model"], &record["tier"]), (&"other".into(), &Value::Null));
}

#[tokio::test]
async fn what_binds_a_call_to_its_model_keeps_it_there() {
    let bound = |more: Value| Call::of(&with(said(SONNET, ECONOMY), &more));
    let plane = Plane::start("").await;
    let table = [
        (bound(json!({"thread": {"id": "t"}})).field("anthropic-beta: threads"), "thread"),
        (bound(json!({"fallbacks": [HAIKU]})).field("anthropic-beta: fallbacks"), "feature"),
        (bound(json!({"container": "c"})), "feature"),
        (Call::of(&with(said(OPUS, ECONOMY), &json!({"speed": "fast"}))), "feature"),
        (bound(json!({"service_tier": "priority"})), "capability"),
        (bound(json!({"mcp_servers": []})).field("anthropic-beta: mcp"), "capability"),
        (bound(json!({})).field("anthropic-beta: computer-use-2026-01-01"), "beta"),
        (bound(json!({"max_tokens": 128_001})), "max_tokens"),
        (bound(json!({"max_tokens": 0})), "max_tokens"),
    ];
    for (nth, (call, reason)) in table.into_iter().enumerate() {
        let (_, record) = plane.recorded(&call.key(&nth.to_string())).await;

        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(record["model"], record["requested_model"]);
        assert_eq!(plane.seen().len(), nth + 1, "{reason}");
    }
}

#[tokio::test]
async fn the_same_turn_again_meets_the_same_model() {
    let plane = Plane::start("").await;
    for (key, text, model) in [("a", ECONOMY, HAIKU), ("b", PREMIUM, OPUS), ("c", STANDARD, SONNET)] {
        let call = Call::said(SONNET, text).key(key);
        assert_eq!(decided(&plane, &call).await.0, model);

        for again in [call.clone(), call.clone().field("x-stainless-retry-count: 1"), call.clone().by_sdk()] {
            let decided = decided(&plane, &again).await;

            assert_eq!(decided, (model.to_owned(), "same_turn".to_owned()), "{text}");
        }
    }
}

#[tokio::test]
async fn a_turn_that_is_sent_again_while_the_first_is_in_flight_meets_the_same_model() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { head_delay_ms: 60_000, ..Behaviour::default() });
    let call = Call::said(SONNET, ECONOMY);
    let _held = plane.open(&call).await;
    crate::support::until("the first is at the API", || plane.seen().len() == 1).await;

    let decided = decided(&plane, &call).await;

    assert_eq!(decided, (HAIKU.to_owned(), "same_turn".to_owned()));
}

#[tokio::test]
async fn the_same_turn_of_another_account_user_version_or_setting_is_another_turn() {
    let plane = Plane::start("").await;
    let call = Call::said(SONNET, ECONOMY);
    decided(&plane, &call).await;
    let user = json!({"metadata": {"user_id": "u"}});

    for other in [
        call.clone().key("b"),
        call.clone().version("2023-06-01"),
        call.clone().field("anthropic-beta: token-counting-2024-11-01"),
        Call::of(&with(said(SONNET, ECONOMY), &user)),
        Call::of(&with(said(SONNET, ECONOMY), &json!({"max_tokens": 4096}))),
        Call::said(OPUS, ECONOMY),
    ] {
        assert_ne!(
            decided(&plane, &other).await.1,
            "same_turn",
            "{}",
            String::from_utf8_lossy(&other.bytes())
        );
    }
}

#[tokio::test]
async fn a_turn_that_answers_a_tool_stays_with_the_model_that_asked() {
    for (text, model) in [(ECONOMY, HAIKU), (PREMIUM, OPUS), (STANDARD, SONNET)] {
        let plane = Plane::start("").await;
        let tools = json!([{"name": "look_up", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}]);
        let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"tools": tools}));
        plane.fake.script(Behaviour {
            stop_reason: Some("tool_use".to_owned()),
            times: Some(3),
            ..Behaviour::default()
        });
        talk.push(json!({"role": "user", "content": text}));
        let mut taken = talk.send().await;
        assert_eq!(taken.model(), model);

        for said in [STANDARD, ECONOMY, PREMIUM] {
            // The whole answer goes back, thinking and all, and then the result of its tool.
            let answer: Value = serde_json::from_slice(&taken.answer.body).unwrap();
            let id = answer["content"]
                .as_array()
                .unwrap()
                .iter()
                .find_map(|block| block["id"].as_str())
                .unwrap()
                .to_owned();
            talk.push(json!({"role": "assistant", "content": answer["content"]}));
            let result = json!({"type": "tool_result", "tool_use_id": id, "content": said});
            talk.push(json!({"role": "user", "content": [result]}));
            taken = talk.send().await;

            assert_eq!(taken.answer.status, 200, "{}", taken.answer.text());
            assert_eq!((taken.model().as_str(), taken.reason()), (model, "tool_loop"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_tools_answer_in_a_conversation_that_nobody_knows_keeps_the_clients_model() {
    let plane = Plane::start("").await;
    let messages = json!([
        {"role": "user", "content": ECONOMY},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "hi"}]},
    ]);
    let tools = json!([{"name": "look_up", "input_schema": {"type": "object"}}]);
    let call = Call::of(&json!({"model": SONNET, "max_tokens": 2048, "messages": messages, "tools": tools}));

    assert_eq!(decided(&plane, &call).await, (SONNET.to_owned(), "tool_loop".to_owned()));
}

#[tokio::test]
async fn serious_content_bars_the_economy_tier_for_some_turns_after_it() {
    for before in
        [&[SERIOUS][..], &[SERIOUS, SERIOUS, SERIOUS, SERIOUS], &[ECONOMY, SERIOUS], &[SERIOUS, STANDARD]]
    {
        let plane = Plane::start("").await;
        let mut talk = Talk::new(&plane, HAIKU, "a");
        for text in before {
            talk.say(text).await;
        }
        let left = if before.last() == Some(&STANDARD) { 2 } else { 3 };

        for nth in 0..left {
            let taken = talk.say(ECONOMY).await;

            assert_ne!(taken.model(), HAIKU, "{before:?}, turn {nth} after: {}", taken.record);
        }
    }
}

#[tokio::test]
async fn the_steps_of_a_tool_do_not_end_the_time_after_serious_content() {
    let plane = Plane::start("").await;
    let tools = json!([{"name": "look_up", "input_schema": {"type": "object"}}]);
    let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"tools": tools}));
    talk.push(json!({"role": "user", "content": SERIOUS}));
    for nth in 0..4 {
        talk.send().await;
        let id = format!("toolu_{nth}");
        talk.push(json!({"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "look_up", "input": {}}]}));
        talk.push(
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "x"}]}),
        );
    }
    talk.send().await;
    talk.push(json!({"role": "assistant", "content": "I am here."}));

    let taken = talk.say(ECONOMY).await;

    assert_ne!(taken.model(), HAIKU, "{}", taken.record);
}

#[tokio::test]
async fn serious_content_is_kept_off_the_economy_tier_whatever_else_wants_it_there() {
    let user = json!({"metadata": {"user_id": "cheap"}});
    let keys = "preferences: { users: { cheap: cost_conscious } }, routes: [{ path: /cheap, tier: economy }], \
                budgets: [{ name: day, limit: 0.000001usd, soft: 0% }]";
    let unlimited = keys.replace("0.000001usd", "100usd");
    all_decided(
        &unlimited,
        &[
            (Call::said(SONNET, SERIOUS).to("/cheap/v1/messages"), SONNET, ""),
            (Call::of(&with(said(SONNET, SERIOUS), &user)), SONNET, ""),
            (Call::said(SONNET, SERIOUS).field("x-touchline-tier: economy"), SONNET, "serious"),
            (Call::said(SONNET, SERIOUS), SONNET, ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn preferences_lift_and_lower() {
    let user =
        |id: &str, text: &str| Call::of(&with(said(SONNET, text), &json!({"metadata": {"user_id": id}})));
    all_decided(
        "preferences: { default: cost_conscious, users: { vip: premium_user, plain: none } }",
        &[
            (user("vip", ECONOMY), SONNET, "preference"),
            (user("vip", PREMIUM), OPUS, "assessment"),
            (user("plain", ECONOMY), HAIKU, ""),
            (user("plain", PREMIUM), OPUS, ""),
            (user("somebody", PREMIUM), SONNET, "preference"),
            (Call::said(SONNET, PREMIUM), SONNET, "preference"),
            (user("vip", ECONOMY).field("x-touchline-tier: economy"), HAIKU, "override"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_path_of_its_own_has_rules_of_its_own() {
    let keys = "routes: [{ path: /reports, tier: premium }, { path: /titles/, tier: economy }, \
                { path: /watch, mode: observe }, { path: /off, mode: off }]";
    let to = |path: &str, text: &str| Call::said(SONNET, text).to(&format!("{path}/v1/messages?beta=true"));
    all_decided(
        keys,
        &[
            (to("/reports", ECONOMY), OPUS, "route_rule"),
            (to("/titles", STANDARD), HAIKU, "route_rule"),
            (to("/watch", ECONOMY), SONNET, ""),
            (to("/off", ECONOMY), SONNET, "off"),
            (to("", ECONOMY), HAIKU, ""),
        ],
    )
    .await;

    let plane = Plane::start(keys).await;
    let (_, record) = plane.recorded(&to("/reports", ECONOMY)).await;

    assert_eq!(
        (plane.last().target.as_str(), &record["route"]),
        ("/v1/messages?beta=true", &"/reports".into())
    );
    let performance = plane.performance().await;
    assert_eq!(performance["by_route"]["/reports"]["calls"], 1, "{performance}");
}

#[tokio::test]
async fn observing_changes_nothing_and_tells_what_it_would_have_done() {
    let plane = Plane::start("mode: observe").await;
    for (nth, (text, wanted)) in
        [(ECONOMY, "economy"), (PREMIUM, "premium"), (STANDARD, "")].into_iter().enumerate()
    {
        let system = "You are a coach. ".repeat(400);
        let call = Call::of(&with(said(SONNET, text), &json!({"system": system}))).key(&nth.to_string());

        let (answer, record) = plane.recorded(&call).await;

        assert_eq!((answer.status, &plane.last().body), (200, &call.body));
        assert_eq!(record["wanted"].as_str().unwrap_or_default(), wanted, "{record}");
        assert_eq!((&record["model"], &record["tier"]), (&SONNET.into(), &"standard".into()));
        assert_eq!(record["breakpoints"], Value::Null);
    }
    assert_eq!(plane.performance().await["routing"], false);
}

#[tokio::test]
async fn observing_tells_what_would_be_saved() {
    let plane = Plane::start("mode: observe").await;

    plane.recorded(&Call::said(SONNET, ECONOMY)).await;

    let would = plane.proxy.metric("touchline_claude_would_save_usd", "").await;
    assert!((0.0001..0.01).contains(&would), "{would}");
}

#[tokio::test]
async fn a_plane_that_is_off_counts_and_decides_nothing() {
    let plane = Plane::start("mode: off").await;

    let (answer, record) = plane.recorded(&Call::said(SONNET, ECONOMY)).await;

    assert_eq!((answer.status, &record["reason"], &record["wanted"]), (200, &"off".into(), &Value::Null));
    assert_ne!(record["cost_usd"], Value::Null);
    assert_eq!(plane.models(), [SONNET]);
}

fn counted(body: &Value) -> Call {
    let mut body = body.clone();
    body.as_object_mut().unwrap().shift_remove("max_tokens");
    Call::of(&body).to("/v1/messages/count_tokens")
}

#[tokio::test]
async fn tokens_are_counted_on_the_model_that_the_call_would_get() {
    for (text, model) in [(ECONOMY, HAIKU), (STANDARD, SONNET), (PREMIUM, OPUS)] {
        let plane = Plane::start("").await;

        let answer = plane.call(&counted(&said(SONNET, text))).await;

        assert_eq!((answer.status, plane.models()), (200, vec![model.to_owned()]), "{text}");
        let performance = plane.performance().await;
        assert_eq!((&performance["total"]["calls"], &performance["conversations"]), (&0.into(), &0.into()));
        assert!(plane.proxy.records().is_empty(), "a count is no call");
    }
}

#[tokio::test]
async fn counting_tokens_follows_the_conversation_and_leaves_no_trace_in_it() {
    let plane = Plane::start("").await;
    let mut talk = Talk::new(&plane, SONNET, "sk-test-1");
    plane.fake.script(Behaviour { status: Some(400), model: Some(HAIKU.to_owned()), ..Behaviour::default() });
    talk.say(ECONOMY).await;
    talk.push(json!({"role": "user", "content": ECONOMY}));

    plane.call(&counted(&talk.body)).await;
    let counted_on = plane.last().json()["model"].clone();
    let taken = talk.send().await;

    assert_eq!((counted_on, taken.model().as_str(), taken.reason()), (SONNET.into(), SONNET, "no_route"));
}

#[tokio::test]
async fn counting_is_not_rewritten_where_calls_are_not() {
    for keys in ["mode: observe", "mode: off"] {
        let plane = Plane::start(keys).await;
        let call = counted(&said(SONNET, ECONOMY));

        plane.call(&call).await;

        assert_eq!(plane.last().body, call.body, "{keys}");
    }
}

#[tokio::test]
async fn old_models_move_among_themselves_first() {
    let sampled =
        |more: Value| Call::of(&with(said("claude-sonnet-4-6", ECONOMY), &more)).version("2023-06-01");
    all_decided(
        "",
        &[
            (sampled(json!({})), OLD_HAIKU, ""),
            (sampled(json!({"temperature": 0.7})), OLD_HAIKU, ""),
            (sampled(json!({"top_k": 40})), OLD_HAIKU, ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_model_that_would_spend_a_short_answer_on_thinking_is_not_taken() {
    let short = |model: &str, text: &str| Call::of(&with(said(model, text), &json!({"max_tokens": 200})));
    all_decided(
        "tiers: { economy: [claude-haiku-5-5] }",
        &[
            (short("claude-sonnet-4-6", ECONOMY), "claude-sonnet-4-6", "max_tokens"),
            (short(SONNET, ECONOMY), HAIKU, ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn thinking_in_the_history_is_never_lost() {
    let plane = Plane::start("").await;
    let mut talk = Talk::new(&plane, SONNET, "a");
    talk.push(json!({"role": "user", "content": STANDARD}));
    let first = talk.send().await;
    let answer: Value = serde_json::from_slice(&first.answer.body).unwrap();
    assert_eq!(answer["content"][0]["type"], "thinking");
    talk.push(json!({"role": "assistant", "content": answer["content"]}));
    talk.push(json!({"role": "user", "content": PREMIUM}));

    let second = talk.send().await;

    assert_eq!((second.model().as_str(), second.reason()), (SONNET, "thinking"));
    assert_eq!(second.sent.json()["messages"], talk.body["messages"]);
}

#[tokio::test]
async fn a_move_that_costs_too_much_is_not_made() {
    all_decided("gate: { premium_max_extra: 0usd }", &[(Call::said(SONNET, PREMIUM), SONNET, "gate")]).await;
    all_decided("gate: { min_saving: 100% }", &[(Call::said(SONNET, ECONOMY), SONNET, "gate")]).await;
}
