//! `rewrite.transforms`: what is changed in a call so that another model takes it, and what never is.

use serde_json::{Value, json};

use crate::support::claude::{
    Call, ECONOMY, NEW, OLD, OLD_HAIKU, OLD_SONNET, OPUS, PREMIUM, Plane, SONNET, STANDARD, fake::Behaviour,
    said, with,
};

const DROPS: &str = "rewrite: { transforms: [drop_sampling] }";
const BUDGETS: &str = "rewrite: { transforms: [budget_to_effort] }";

fn old(text: &str, more: &Value) -> Call {
    Call::of(&with(said(OLD_SONNET, text), more)).version(OLD)
}

fn warm() -> Value {
    json!({"temperature": 0.7})
}

#[tokio::test]
async fn sampling_is_dropped_where_the_other_model_would_refuse_it() {
    let plane = Plane::start(DROPS).await;
    let call = old(PREMIUM, &json!({"temperature": 0.7, "top_k": 5}));

    let (answer, record) = plane.recorded(&call).await;

    let sent = plane.last().json();
    assert_eq!((answer.status, sent["model"].as_str()), (200, Some(OPUS)));
    assert_eq!((&sent["temperature"], &sent["top_k"]), (&Value::Null, &Value::Null));
    assert_eq!(sent["messages"], serde_json::from_slice::<Value>(&call.body).unwrap()["messages"]);
    assert_eq!(answer.field("x-touchline-reason"), "assessment; transform=drop_sampling");
    assert_eq!((&record["transforms"], &record["reason"]), (&json!(["drop_sampling"]), &"assessment".into()));
    assert_eq!(plane.proxy.metric("touchline_claude_transforms_total", "drop_sampling").await, 1.0);
}

#[tokio::test]
async fn a_budget_becomes_an_effort_where_the_other_model_has_no_budgets() {
    let plane = Plane::start(BUDGETS).await;
    let thinking = json!({"type": "enabled", "budget_tokens": 5000, "display": "summarized"});
    let call = old(PREMIUM, &json!({"thinking": thinking, "max_tokens": 8192}));

    let (answer, record) = plane.recorded(&call).await;

    let sent = plane.last().json();
    assert_eq!((answer.status, sent["model"].as_str()), (200, Some(OPUS)), "{}", answer.text());
    assert_eq!(sent["thinking"], json!({"type": "adaptive", "display": "summarized"}));
    assert_eq!((&sent["output_config"]["effort"], &sent["max_tokens"]), (&"medium".into(), &json!(8192)));
    assert_eq!(record["transforms"], json!(["budget_to_effort"]));
    assert_eq!(answer.field("x-touchline-reason"), "assessment; transform=budget_to_effort");
}

#[tokio::test]
async fn nothing_is_transformed_that_nobody_asked_for_or_the_requested_model_refuses() {
    let budget = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    let odd = with(budget.clone(), &json!({"output_config": {"effort": null}}));
    let table = [
        ("nobody asked", "", old(PREMIUM, &warm()), OLD_SONNET, 200),
        ("another one", BUDGETS, old(PREMIUM, &warm()), OLD_SONNET, 200),
        ("another one", DROPS, old(PREMIUM, &budget), OLD_SONNET, 200),
        (
            "observed",
            "mode: observe, rewrite: { transforms: [drop_sampling] }",
            old(PREMIUM, &warm()),
            OLD_SONNET,
            200,
        ),
        ("no effort can be put in", BUDGETS, old(PREMIUM, &odd), OLD_SONNET, 200),
        ("refused by its version", DROPS, old(PREMIUM, &warm()).version(NEW), OLD_SONNET, 400),
        (
            "refused by its model",
            DROPS,
            Call::of(&with(said(SONNET, PREMIUM), &warm())).version(OLD),
            SONNET,
            400,
        ),
        ("refused together", DROPS, old(PREMIUM, &json!({"temperature": 1, "top_p": 0.5})), OLD_SONNET, 400),
    ];
    for (what, keys, call, model, status) in table {
        let plane = Plane::start(keys).await;

        let (answer, record) = plane.recorded(&call.by_sdk()).await;

        assert_eq!(
            (answer.status, plane.models()),
            (status, vec![model.to_owned()]),
            "{what}: {}",
            answer.text()
        );
        assert_eq!(record["transforms"], Value::Null, "{what}");
        if !keys.contains("observe") {
            assert!(answer.field("x-touchline-reason").starts_with("capability"), "{what}: {}", answer.head);
        }
    }
}

#[tokio::test]
async fn a_model_that_takes_the_call_as_it_is_comes_first() {
    let plane = Plane::start(
        "rewrite: { transforms: [drop_sampling] }, tiers: { economy: [claude-haiku-5-5, claude-haiku-4-5] }",
    )
    .await;
    let call = old(ECONOMY, &warm());

    let (_, record) = plane.recorded(&call).await;

    let sent = plane.last().json();
    assert_eq!((sent["model"].as_str(), sent["temperature"].as_f64()), (Some(OLD_HAIKU), Some(0.7)));
    assert_eq!(record["transforms"], Value::Null);
}

#[tokio::test]
async fn a_refused_transform_ends_with_the_clients_own_bytes() {
    let plane = Plane::start(DROPS).await;
    plane.fake.script(Behaviour { model: Some(OPUS.to_owned()), status: Some(400), ..Behaviour::default() });
    let call = old(PREMIUM, &warm());

    let (answer, record) = plane.recorded(&call).await;

    assert_eq!((answer.status, plane.models()), (200, vec![OPUS.to_owned(), OLD_SONNET.to_owned()]));
    assert_eq!(plane.last().body, call.body);
    assert_eq!((&record["transforms"], &record["reason"]), (&Value::Null, &"no_route".into()));
    assert_eq!(plane.proxy.metric("touchline_claude_transforms_total", "").await, 0.0);
}

#[tokio::test]
async fn the_neighbour_of_an_overloaded_model_gets_what_it_takes() {
    let plane = Plane::start("rewrite: { transforms: [drop_sampling], overload_fallback: true }").await;
    plane.fake.script(Behaviour {
        model: Some(OLD_SONNET.to_owned()),
        status: Some(529),
        ..Behaviour::default()
    });

    let (answer, record) = plane.recorded(&old(STANDARD, &warm()).by_sdk()).await;

    let sent = plane.last().json();
    assert_eq!((answer.status, sent["model"].as_str()), (200, Some(OPUS)), "{}", answer.text());
    assert_eq!((&sent["temperature"], &record["reason"]), (&Value::Null, &"overload".into()));
    assert_eq!(record["transforms"], json!(["drop_sampling"]));
}

#[tokio::test]
async fn the_same_turn_again_is_transformed_again() {
    let plane = Plane::start(DROPS).await;
    let call = old(PREMIUM, &warm());

    plane.call(&call).await;
    let again = plane.call(&call).await;

    assert_eq!(again.field("x-touchline-reason"), "same_turn; transform=drop_sampling");
    assert_eq!(
        (plane.models(), plane.last().json()["temperature"].as_f64()),
        (vec![OPUS.to_owned(); 2], None)
    );
}
