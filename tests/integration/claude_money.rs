//! What calls cost: the tokens that the API told, times the table of prices, to the last digit; and the budgets.

use serde_json::{Value, json};

use crate::support::{
    backend::{Backend, answer as answered},
    claude::{
        Call, ECONOMY, HAIKU, OLD_HAIKU, OLD_SONNET, OPUS, PREMIUM, Plane, SERIOUS, SONNET, STANDARD, Talk,
        before, fake::Behaviour, long_text, said, with,
    },
    client::{Answer, raw},
    until_async,
};

/// Input, output, write for 5 minutes, write for an hour, read: pico-dollars a token.
fn prices(model: &str, prompt: u64) -> [u64; 5] {
    match model {
        HAIKU if prompt > 100_000 => [500_000, 2_500_000, 625_000, 1_000_000, 50_000],
        HAIKU => [100_000, 500_000, 125_000, 200_000, 10_000],
        SONNET => [2_000_000, 10_000_000, 2_500_000, 4_000_000, 100_000],
        OPUS => [4_000_000, 20_000_000, 5_000_000, 8_000_000, 200_000],
        OLD_HAIKU | "claude-haiku-4-5-20251001" => [1_000_000, 5_000_000, 1_250_000, 2_000_000, 100_000],
        OLD_SONNET => [3_000_000, 15_000_000, 3_750_000, 6_000_000, 300_000],
        other => panic!("no price of {other}"),
    }
}

/// The cost of a usage in nano-dollars.
fn cost(model: &str, usage: &Value) -> u64 {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let written = count(&usage["cache_creation_input_tokens"]);
    let hour = count(&usage["cache_creation"]["ephemeral_1h_input_tokens"]);
    let tokens = [
        count(&usage["input_tokens"]),
        count(&usage["output_tokens"]),
        written - hour,
        hour,
        count(&usage["cache_read_input_tokens"]),
    ];
    let prompt = tokens[0] + written + tokens[4];
    let picos: u64 = tokens.iter().zip(prices(model, prompt)).map(|(count, price)| count * price).sum();
    let (times, by) = if usage["inference_geo"] == "us" { (11, 10) } else { (1, 1) };
    picos * times / by / 1000
}

/// The usage that an answer told: the last value of each field that is not null.
fn usage_of(answer: &Answer) -> (String, Value) {
    let text = answer.text();
    let mut model = String::new();
    let mut usage = json!({});
    let documents: Vec<Value> = if text.starts_with('{') {
        vec![json!({"message": serde_json::from_str::<Value>(&text).unwrap()})]
    } else {
        text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
    };
    for document in documents {
        if let Some(name) = document["message"]["model"].as_str() {
            name.clone_into(&mut model);
        }
        for told in [&document["message"]["usage"], &document["usage"]] {
            for (name, value) in told.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null())
            {
                usage[name] = value.clone();
            }
        }
    }
    (model, usage)
}

/// Dollars as nano-dollars.
#[expect(clippy::cast_possible_truncation, reason = "small amounts")]
fn nanos(value: &Value) -> i64 {
    (value.as_f64().unwrap_or_else(|| panic!("no amount: {value}")) * 1e9).round() as i64
}

fn signed(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap()
}

#[tokio::test]
async fn the_golden_cases_cost_what_they_cost() {
    let plain = json!({
        "input_tokens": 12, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2048,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
    });
    let split = |five: u64, hour: u64| {
        json!({
            "input_tokens": 12, "cache_creation_input_tokens": five + hour, "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        })
    };
    let band = |input: u64| json!({"input_tokens": input, "cache_read_input_tokens": 99_999});
    let us = with(plain.clone(), &json!({"inference_geo": "us"}));
    let out = |count: u64| vec![json!({"output_tokens": count})];
    let nulls = vec![
        json!({"output_tokens": 3, "input_tokens": null, "brand_new": {"tokens": 7}}),
        json!({"output_tokens": 20, "cache_read_input_tokens": null, "cache_creation": null}),
    ];
    let grown = vec![json!({"input_tokens": 10_682, "output_tokens": 510})];
    let table: Vec<(&str, &str, Value, Vec<Value>, i64)> = vec![
        ("plain", SONNET, plain.clone(), out(20), 678_800),
        ("plain", HAIKU, plain.clone(), out(20), 44_180),
        ("plain", OPUS, plain.clone(), out(20), 1_357_600),
        ("nulls and unknown fields", SONNET, plain.clone(), nulls, 678_800),
        ("the input grows", SONNET, json!({"input_tokens": 2_679}), grown, 26_464_000),
        ("written for an hour", SONNET, split(0, 1000), out(20), 4_224_000),
        ("written for both", SONNET, split(400, 600), out(20), 3_624_000),
        ("below the band", HAIKU, band(1), out(10), 1_005_090),
        ("in the band", HAIKU, band(2), out(10), 5_025_950),
        ("in the USA", SONNET, us, out(20), 746_680),
    ];
    for (what, model, start, deltas, expected) in table {
        let tier = if model == HAIKU {
            "economy"
        } else if model == OPUS {
            "premium"
        } else {
            "standard"
        };
        for call in [Call::streamed(model, STANDARD), Call::said(model, STANDARD)] {
            let plane = Plane::start("").await;
            plane.fake.script(Behaviour {
                usage_start: Some(start.clone()),
                usage_deltas: deltas.clone(),
                ..Behaviour::default()
            });

            let (_, record) = plane.recorded(&call.field(&format!("x-touchline-tier: {tier}"))).await;

            assert_eq!(nanos(&record["cost_usd"]), expected, "{what} {model}: {record}");
            assert_eq!(
                (&record["model"], &record["estimated"]),
                (&model.into(), &Value::Null),
                "{what}: {record}"
            );
            let performance = plane.performance().await;
            assert_eq!(nanos(&performance["total"]["cost_usd"]), expected, "{what}");
            assert_eq!(nanos(&performance["by_model"][model]["cost_usd"]), expected, "{what}");
        }
    }
}

#[tokio::test]
async fn every_answer_costs_what_its_usage_says() {
    let behaviours = [
        Behaviour::default(),
        Behaviour { server_tools: true, ..Behaviour::default() },
        Behaviour { stop_reason: Some("refusal".to_owned()), ..Behaviour::default() },
        Behaviour { thinking: Some(true), output_tokens: Some(777), ..Behaviour::default() },
        Behaviour { encoding: Some("gzip".to_owned()), output_tokens: Some(31), ..Behaviour::default() },
        Behaviour { error_after: None, pings: 9, unknown_event: Some(true), ..Behaviour::default() },
    ];
    for behaviour in behaviours {
        let plane = Plane::start("").await;
        let mut expected = 0;
        for (nth, model) in
            [HAIKU, SONNET, OPUS, OLD_HAIKU, "claude-haiku-4-5-20251001", OLD_SONNET].into_iter().enumerate()
        {
            for text in [ECONOMY, STANDARD, PREMIUM] {
                for is_stream in [false, true] {
                    let system = long_text(8000 * (nth % 3));
                    let more = if system.is_empty() { json!({}) } else { json!({"system": system}) };
                    let body = with(with(said(model, text), &more), &json!({"stream": is_stream}));
                    // Uncompressed for reading it here; what is compressed has a usage that is known.
                    plane.fake.script(behaviour.clone());
                    let (answer, record) =
                        plane.recorded(&Call::of(&body).key(&format!("{nth}{text}"))).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let plain = decoded(&answer);
                    let (by, usage) = usage_of(&plain);
                    let cost = cost(&by, &usage);

                    assert_eq!(nanos(&record["cost_usd"]), signed(cost), "{behaviour:?} {usage} {record}");
                    assert_eq!(record["input_tokens"], usage["input_tokens"]);
                    assert_eq!(record["output_tokens"], usage["output_tokens"]);
                    assert_eq!(record["cache_read_tokens"], usage["cache_read_input_tokens"]);
                    assert_eq!(record["refused"] == json!(true), behaviour.stop_reason.is_some());
                    expected += cost;
                }
            }
        }
        let performance = plane.performance().await;
        let off = nanos(&performance["total"]["cost_usd"]) - signed(expected);
        assert!(off.abs() <= 36, "a sum of amounts that were cut at a nano-dollar each: {off}");
        let stats = &plane.proxy.json("/performance/metrics").await["model_routing_stats"];
        assert_eq!(nanos(&stats["cost_usd"]), nanos(&performance["total"]["cost_usd"]));
        let metric = json!(plane.proxy.metric("touchline_claude_cost_usd_total", "").await);
        assert!((nanos(&metric) - nanos(&stats["cost_usd"])).abs() <= 1);
    }
}

fn decoded(answer: &Answer) -> Answer {
    use std::io::Read as _;
    let mut plain = answer.clone();
    if answer.field("content-encoding") == "gzip" {
        plain.body.clear();
        flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_end(&mut plain.body).unwrap();
    }
    plain
}

#[tokio::test]
async fn refused_calls_cost_nothing() {
    let plane = Plane::start("").await;
    for (nth, status) in [400, 401, 403, 404, 413, 429, 500, 529].into_iter().enumerate() {
        plane.fake.script(Behaviour { status: Some(status), ..Behaviour::default() });

        let call = Call::said(SONNET, STANDARD).by_sdk().key(&nth.to_string());
        let (_, record) = plane.recorded(&call).await;

        assert_eq!((&record["cost_usd"], &record["input_tokens"]), (&Value::Null, &Value::Null), "{status}");
    }
    let performance = plane.performance().await;
    assert_eq!((&performance["total"]["calls"], nanos(&performance["total"]["cost_usd"])), (&8.into(), 0));
    assert_eq!(performance["usage_unknown_calls"], 0, "it is known: nothing");
}

#[tokio::test]
async fn a_model_without_a_price_is_counted_and_never_guessed() {
    let plane = Plane::start("").await;

    let (answer, record) = plane.recorded(&Call::said("claude-fable-5-2", STANDARD)).await;

    assert_eq!(answer.status, 200);
    assert!(record["input_tokens"].as_u64().unwrap() > 10, "{record}");
    assert_eq!((&record["cost_usd"], &record["model"]), (&Value::Null, &"other".into()));
    let performance = plane.performance().await;
    assert_eq!(
        (&performance["usage_unknown_calls"], nanos(&performance["total"]["cost_usd"])),
        (&1.into(), 0)
    );
}

#[tokio::test]
async fn an_answer_that_tells_no_usage_is_counted_and_never_guessed() {
    let backend = Backend::start(|_| {
        answered(
            "200 OK",
            &["Content-Type: application/json"],
            r#"{"type":"message","model":"claude-sonnet-5-5"}"#,
        )
    })
    .await;
    let proxy = before(backend.address, "");

    raw(proxy.claude, Call::said(SONNET, STANDARD).bytes()).await;

    assert_eq!(proxy.record().await["cost_usd"], Value::Null);
    assert_eq!(proxy.json("/performance/claude").await["usage_unknown_calls"], 1);
}

#[tokio::test]
async fn writes_without_a_split_go_by_the_marks_that_were_sent() {
    let start = json!({
        "input_tokens": 12, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 0, "cache_creation": null,
    });
    let hour = json!({"cache_control": {"type": "ephemeral", "ttl": "1h"}});
    let own = Call::of(&with(said(SONNET, STANDARD), &hour));
    let long = Call::of(&with(said(SONNET, STANDARD), &json!({"system": long_text(6000)})));
    let table = [
        ("", Call::said(SONNET, STANDARD), 2_724_000),
        ("", own, 4_224_000),
        ("prompt_cache: { ttl: 1h }", long.clone(), 4_224_000),
        ("prompt_cache: { ttl: 5m }", long, 2_724_000),
    ];
    for (keys, call, expected) in table {
        let plane = Plane::start(keys).await;
        let usage_deltas = vec![json!({"output_tokens": 20})];
        plane.fake.script(Behaviour {
            usage_start: Some(start.clone()),
            usage_deltas,
            ..Behaviour::default()
        });

        let (_, record) = plane.recorded(&call).await;

        assert_eq!(nanos(&record["cost_usd"]), expected, "{keys} {record}");
        assert_eq!(record["estimated"], true);
    }
}

#[tokio::test]
async fn a_moved_call_saves_the_difference_and_one_that_stays_nothing() {
    let plane = Plane::start("").await;

    let (answer, moved) = plane.recorded(&Call::said(SONNET, ECONOMY)).await;
    let (_, stayed) = plane.recorded(&Call::said(SONNET, STANDARD).key("b")).await;
    let (lifted_answer, lifted) = plane.recorded(&Call::said(SONNET, PREMIUM).key("c")).await;

    let (_, usage) = usage_of(&answer);
    let expected = signed(cost(SONNET, &usage)) - signed(cost(HAIKU, &usage));
    assert_eq!(nanos(&moved["saved_usd"]), expected, "{moved}");
    assert_eq!(nanos(&stayed["saved_usd"]), 0);
    let (_, usage) = usage_of(&lifted_answer);
    let expected = signed(cost(SONNET, &usage)) - signed(cost(OPUS, &usage));
    assert_eq!(nanos(&lifted["saved_usd"]), expected, "a loss is told as one");
}

#[tokio::test]
async fn a_conversation_that_is_never_moved_saves_what_its_marks_save() {
    let plane = Plane::start("moves: up").await;
    let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"system": long_text(20_000)}));
    let (mut spent, mut without) = (0, 0);
    for text in [
        STANDARD,
        "And what do I say when she asks why?",
        "What if she says no?",
        "How do I calm down before?",
    ] {
        let taken = talk.say(text).await;
        let (model, mut usage) = usage_of(&taken.answer);
        spent += cost(&model, &usage);
        let prompt = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
        usage["input_tokens"] = prompt.map(|name| usage[name].as_u64().unwrap()).iter().sum::<u64>().into();
        usage["cache_creation_input_tokens"] = 0.into();
        usage["cache_creation"] = Value::Null;
        usage["cache_read_input_tokens"] = 0.into();
        without += cost(&model, &usage);
    }

    let total = plane.performance().await["total"].clone();

    assert_eq!(nanos(&total["cost_usd"]), signed(spent));
    let saved = nanos(&total["saved_usd_vs_requested"]);
    let expected = signed(without) - signed(spent);
    assert!((saved - expected).abs() <= 4, "{saved} {expected}");
}

async fn is_spent(plane: &Plane, budget: &str, nano: i64) {
    until_async("the budget is settled", || async {
        let performance = plane.performance().await;
        (nanos(&performance["budgets"][budget]["spent_usd"]) - nano).abs() <= 1
    })
    .await;
}

#[tokio::test]
async fn a_spent_budget_is_a_429_in_the_apis_shape_without_a_call() {
    let plane = Plane::start("budgets: [{ name: day, limit: 0.001usd }]").await;
    plane.fake.script(Behaviour { output_tokens: Some(400), times: Some(0), ..Behaviour::default() });
    let (_, first) = plane.recorded(&Call::said(SONNET, STANDARD)).await;
    is_spent(&plane, "day", nanos(&first["cost_usd"])).await;

    let (answer, record) = plane.recorded(&Call::streamed(SONNET, ECONOMY).key("b")).await;

    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body["error"]["type"]), (429, &"rate_limit_error".into()));
    assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &answer.field("request-id").into()));
    assert_eq!((answer.field("x-should-retry"), answer.field("content-type")), ("false", "application/json"));
    let rest: u64 = answer.field("retry-after").parse().unwrap();
    assert!((1..=86_400).contains(&rest), "{rest}");
    assert_eq!((&record["reason"], &record["error"]), (&"budget".into(), &"budget".into()));
    assert_eq!(plane.seen().len(), 1, "no call was made");
    let performance = plane.performance().await;
    assert_eq!(
        (&performance["budgets"]["day"]["refused"], nanos(&performance["budgets"]["day"]["spent_usd"])),
        (&1.into(), nanos(&first["cost_usd"]))
    );
}

#[tokio::test]
async fn what_a_call_reserved_and_did_not_spend_is_given_back() {
    let plane = Plane::start("budgets: [{ name: day, limit: 1usd }]").await;
    let mut spent = 0;
    for (nth, status) in [None, Some(400), Some(529), None].into_iter().enumerate() {
        plane.fake.script(Behaviour { status, times: Some(1), ..Behaviour::default() });
        let (_, record) = plane.recorded(&Call::said(SONNET, STANDARD).by_sdk().key(&nth.to_string())).await;
        if status.is_none() {
            spent += nanos(&record["cost_usd"]);
        }

        is_spent(&plane, "day", spent).await;
    }
    plane.fake.script(Behaviour { head_delay_ms: 60_000, ..Behaviour::default() });
    let client = plane.open(&Call::said(SONNET, STANDARD).key("gone")).await;
    crate::support::until("the call is at the API", || plane.seen().len() == 5).await;
    drop(client);

    is_spent(&plane, "day", spent).await;
}

#[tokio::test]
async fn a_budget_that_is_nearly_spent_takes_calls_one_tier_down() {
    let plane = Plane::start("budgets: [{ name: day, limit: 100usd, soft: 0.001% }]").await;
    plane.fake.script(Behaviour { output_tokens: Some(2000), times: Some(1), ..Behaviour::default() });
    let (_, first) = plane.recorded(&Call::said(SONNET, STANDARD)).await;
    is_spent(&plane, "day", nanos(&first["cost_usd"])).await;

    let table = [
        (SONNET, PREMIUM, SONNET, "budget"),
        (OPUS, PREMIUM, SONNET, "budget"),
        (SONNET, STANDARD, SONNET, ""),
        (SONNET, SERIOUS, SONNET, ""),
        (SONNET, ECONOMY, HAIKU, ""),
    ];
    for (nth, (requested, text, model, reason)) in table.into_iter().enumerate() {
        let (_, record) = plane.recorded(&Call::said(requested, text).key(&nth.to_string())).await;

        assert_eq!(record["model"], model, "{text}: {record}");
        assert!(reason.is_empty() || record["reason"] == reason, "{record}");
    }
}

#[tokio::test]
async fn budgets_of_identities_and_tiers_are_apart() {
    let user =
        |id: &str, text: &str| Call::of(&with(said(SONNET, text), &json!({"metadata": {"user_id": id}})));
    let keys = "budgets: [{ name: each, limit: 0.001usd, by: identity }, { name: top, limit: 0.001usd, by: tier, tier: premium }]";
    let plane = Plane::start(keys).await;
    plane.fake.script(Behaviour { output_tokens: Some(400), times: Some(0), ..Behaviour::default() });

    let mut statuses = Vec::new();
    for call in [
        user("a", STANDARD),
        user("a", "And then?"),
        user("b", PREMIUM),
        user("c", STANDARD).field("x-touchline-tier: premium"),
        user("d", PREMIUM),
    ] {
        // What is settled after a call is far below its estimate or far above the limit: either way it decides the same.
        statuses.push(plane.recorded(&call).await.0.status);
    }

    // The last one is softened to the standard tier, whose calls are not counted by the tier's budget.
    assert_eq!(statuses, [200, 429, 200, 429, 200]);
    assert_eq!(plane.models(), [SONNET, OPUS, SONNET]);
}

#[tokio::test]
async fn serious_turns_may_be_let_through() {
    let keys = "budgets: [{ name: day, limit: 0.001usd, serious_exempt: true }]";
    let plane = Plane::start(keys).await;
    plane.fake.script(Behaviour { output_tokens: Some(400), times: Some(0), ..Behaviour::default() });
    let (_, first) = plane.recorded(&Call::said(SONNET, STANDARD)).await;
    is_spent(&plane, "day", nanos(&first["cost_usd"])).await;

    let serious = plane.call(&Call::said(SONNET, SERIOUS).key("b")).await;
    let other = plane.call(&Call::said(SONNET, STANDARD).key("c")).await;

    assert_eq!((serious.status, other.status), (200, 429));
}
