//! A changed call that the API refuses is made again as the client sent it, and the refusal is remembered.

use serde_json::{Value, json};

use crate::support::claude::{
    Call, ECONOMY, HAIKU, OLD_HAIKU, PREMIUM, Plane, SONNET, STANDARD, Talk, fake::Behaviour, long_text,
    said, with,
};

/// Refuses all calls for a model from here on.
fn refuses(model: &str, status: u16) -> Behaviour {
    Behaviour { status: Some(status), model: Some(model.to_owned()), times: Some(0), ..Behaviour::default() }
}

#[tokio::test]
async fn a_moved_call_that_is_refused_is_made_again_with_the_clients_own_bytes() {
    for status in [400, 404] {
        for call in [Call::said(SONNET, ECONOMY), Call::streamed(SONNET, ECONOMY).by_sdk()] {
            let plane = Plane::start("").await;
            plane.fake.script(refuses(HAIKU, status));

            let (answer, record) = plane.recorded(&call).await;

            assert!(answer.status == 200 && answer.is_whole, "{}", answer.text());
            assert!(
                answer.text().contains(SONNET) && !answer.text().contains("scripted"),
                "{}",
                answer.text()
            );
            assert_eq!(plane.models(), [HAIKU, SONNET]);
            assert_eq!(plane.last().body, call.body);
            assert_eq!(answer.field("x-touchline-model"), SONNET);
            assert_eq!((&record["fell_back"], &record["model"]), (&true.into(), &SONNET.into()));
            assert_eq!(record["retries"], Value::Null, "a fallback is no retry");
            let why = if status == 400 { "bad_request" } else { "not_found" };
            assert_eq!(plane.proxy.metric("touchline_claude_fallbacks_total", why).await, 1.0);
        }
    }
}

#[tokio::test]
async fn later_turns_of_a_refused_conversation_keep_their_model() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { times: Some(1), ..refuses(HAIKU, 400) });
    let mut talk = Talk::new(&plane, SONNET, "a");
    assert_eq!(talk.say(ECONOMY).await.record["fell_back"], true);

    for text in ["hello", PREMIUM, ECONOMY] {
        let taken = talk.say(text).await;

        assert_eq!((taken.model().as_str(), taken.reason()), (SONNET, "no_route"), "{text}");
        assert_eq!(taken.sent.json(), {
            let mut sent = talk.body.clone();
            sent["messages"].as_array_mut().unwrap().pop();
            sent
        });
    }
}

#[tokio::test]
async fn the_same_turn_of_a_refused_conversation_keeps_its_model() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { times: Some(1), ..refuses(HAIKU, 400) });
    let call = Call::said(SONNET, ECONOMY);

    plane.recorded(&call).await;
    let (_, record) = plane.recorded(&call.clone().field("x-stainless-retry-count: 1")).await;

    assert_eq!(plane.models(), [HAIKU, SONNET, SONNET]);
    assert_eq!((&record["reason"], &record["fell_back"]), (&"same_turn".into(), &Value::Null));
}

#[tokio::test]
async fn the_model_and_the_feature_are_remembered_for_other_conversations() {
    let tools = json!({"tools": [{"name": "look_up", "input_schema": {"type": "object"}}]});
    let with_tools = |text: &str| Call::of(&with(said(SONNET, text), &tools));
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { times: Some(1), ..refuses(HAIKU, 400) });
    plane.recorded(&with_tools(ECONOMY)).await;

    let (_, with) = plane.recorded(&with_tools("hello").key("b")).await;
    let (_, without) = plane.recorded(&Call::said(SONNET, ECONOMY).key("c")).await;

    assert_ne!(with["model"], HAIKU, "{with}");
    assert_eq!(without["model"], HAIKU, "another feature is not the one that was refused");
}

#[tokio::test]
async fn a_refusal_of_a_plain_call_is_about_the_model() {
    let plane = Plane::start("tiers: { economy: [claude-haiku-5-5] }").await;
    plane.fake.script(Behaviour { times: Some(1), ..refuses(HAIKU, 404) });
    plane.recorded(&Call::said(SONNET, ECONOMY)).await;

    let (_, record) = plane.recorded(&Call::said(SONNET, ECONOMY).key("b")).await;

    assert_eq!((&record["model"], &record["reason"]), (&SONNET.into(), &"capability".into()));
    assert_eq!(plane.models(), [HAIKU, SONNET, SONNET]);
}

#[tokio::test]
async fn the_next_candidate_is_taken_where_one_is_known_to_refuse() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { times: Some(1), ..refuses(HAIKU, 400) });
    plane.recorded(&Call::said(SONNET, ECONOMY)).await;

    let (answer, _) = plane.recorded(&Call::said(SONNET, ECONOMY).key("b")).await;

    assert_eq!((answer.status, plane.models()[2].as_str()), (200, OLD_HAIKU));
}

#[tokio::test]
async fn nothing_is_learned_from_a_call_that_is_refused_as_it_was_sent_too() {
    for status in [400, 404] {
        let plane = Plane::start("").await;
        plane.fake.script(Behaviour {
            status: Some(status),
            times: Some(2),
            message: Some("yours".to_owned()),
            ..Behaviour::default()
        });

        let (answer, record) = plane.recorded(&Call::said(SONNET, ECONOMY)).await;
        let (_, other) = plane.recorded(&Call::said(SONNET, ECONOMY).key("b")).await;

        assert!(answer.status == status && answer.text().contains("yours"));
        assert_eq!((&record["model"], &record["cost_usd"]), (&SONNET.into(), &Value::Null));
        assert_eq!(other["model"], HAIKU);
        assert_eq!(plane.models(), [HAIKU, SONNET, HAIKU]);
    }
}

#[tokio::test]
async fn a_call_as_it_was_sent_is_never_made_again() {
    for status in [400, 404] {
        let plane = Plane::start("").await;
        plane.fake.script(refuses(SONNET, status));

        let (answer, record) = plane.recorded(&Call::said(SONNET, STANDARD)).await;

        assert_eq!((answer.status, plane.seen().len()), (status, 1));
        assert_eq!(record["fell_back"], Value::Null);
    }
}

#[tokio::test]
async fn a_refused_breakpoint_is_left_out_and_stays_out_of_its_conversation() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { times: Some(1), ..refuses(SONNET, 400) });
    let mut talk = Talk::new(&plane, SONNET, "a").with(&json!({"system": long_text(6000)}));

    let first = talk.say(STANDARD).await;
    let second = talk.say("And what do I say when she asks why?").await;

    assert_eq!((first.answer.status, &first.record["fell_back"]), (200, &true.into()));
    let marks: Vec<_> = plane.seen().iter().map(|seen| seen.json()["cache_control"].is_object()).collect();
    assert_eq!(marks, [true, false, false], "{}", second.record);
    assert_eq!((&first.record["breakpoints"], &second.record["breakpoints"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_fallback_costs_what_the_second_answer_costs() {
    let plane = Plane::start("").await;
    plane.fake.script(Behaviour { times: Some(1), ..refuses(HAIKU, 400) });
    let (_, fallen) = plane.recorded(&Call::said(SONNET, ECONOMY)).await;

    let plain = Plane::start("mode: off").await;
    let (_, plain) = plain.recorded(&Call::said(SONNET, ECONOMY)).await;

    assert_eq!((&fallen["cost_usd"], &fallen["saved_usd"]), (&plain["cost_usd"], &json!(0.0)));
}
