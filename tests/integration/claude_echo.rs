//! `answers.echo_model`: the client sees the model that it asked for, and everybody else the one that answered.

use serde_json::{Value, json};

use crate::support::{
    claude::{
        Call, ECONOMY, HAIKU, Plane, SONNET, STANDARD,
        fake::Behaviour,
        fake::script::{Cut, LineEnd, Place},
        said, with,
    },
    client::Answer,
};

const ECHO: &str = "answers: { echo_model: true }";

/// The models that an answer names, in its body or in the start of its stream.
fn named(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    let documents: Vec<Value> = if text.starts_with('{') {
        vec![json!({"message": serde_json::from_str::<Value>(&text).unwrap()})]
    } else {
        let data = text.split(['\r', '\n']).filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    };
    documents.iter().filter_map(|document| document["message"]["model"].as_str()).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_client_sees_its_own_name_and_the_books_the_true_one() {
    let plane = Plane::start(ECHO).await;
    for (nth, call) in [Call::said(SONNET, ECONOMY), Call::streamed(SONNET, ECONOMY)].iter().enumerate() {
        let call = call.clone().key(&format!("account-{nth}"));

        let (answer, record) = plane.recorded(&call).await;

        assert_eq!((answer.status, answer.is_whole), (200, true));
        assert_eq!(named(&answer), [SONNET], "{}", answer.text());
        assert_eq!(plane.models().last().map(String::as_str), Some(HAIKU));
        assert_eq!(answer.field("x-touchline-model"), HAIKU);
        assert_eq!(answer.field("x-touchline-requested-model"), SONNET);
        assert_eq!((&record["model"], &record["outcome"]), (&HAIKU.into(), &Value::Null));
        assert!(record["cost_usd"].as_f64() > Some(0.0) && record["saved_usd"].as_f64() > Some(0.0));
    }
}

#[tokio::test]
async fn nothing_but_the_name_differs_wherever_a_stream_is_cut() {
    for line_end in [LineEnd::Lf, LineEnd::Crlf, LineEnd::Cr] {
        for cut in [Cut::Each(Place::Char), Cut::Each(Place::Event), Cut::Each(Place::LineEnd), Cut::Every(7)]
        {
            let behaviour = Behaviour {
                cut: Some(cut.clone()),
                line_end,
                unknown_event: Some(true),
                pings: 2,
                text: Some("é – 你好 😀".to_owned()),
                ..Behaviour::default()
            };
            let (plain, echoing) = (Plane::start("").await, Plane::start(ECHO).await);
            plain.fake.script(behaviour.clone());
            echoing.fake.script(behaviour);
            let call = Call::streamed(SONNET, ECONOMY);

            let expected = plain.call(&call).await.text().replacen(HAIKU, SONNET, 1);

            assert_eq!(echoing.call(&call).await.text(), expected, "{line_end:?} {cut:?}");
        }
    }
}

#[tokio::test]
async fn a_coded_answer_of_another_model_comes_without_its_coding() {
    let plane = Plane::start(ECHO).await;
    for (nth, coding) in ["gzip", "br", "deflate", "zstd"].into_iter().enumerate() {
        for call in [Call::said(SONNET, ECONOMY), Call::streamed(SONNET, ECONOMY)] {
            plane.fake.script(Behaviour { encoding: Some(coding.to_owned()), ..Behaviour::default() });
            let call = call.field("accept-encoding: gzip, deflate, br, zstd");
            let (answer, record) = plane.recorded(&call.key(&format!("account-{nth}-{coding}"))).await;

            assert_eq!((answer.status, answer.is_whole), (200, true), "{coding}");
            assert_eq!(answer.field("content-encoding"), "", "{coding}");
            assert_eq!(named(&answer), [SONNET], "{coding}");
            assert_eq!(plane.last().header("accept-encoding"), Some("gzip, deflate, br, zstd"), "{coding}");
            assert!(record["output_tokens"].as_u64() > Some(0), "{coding}: {record}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_the_clients_own_model_passes_byte_for_byte() {
    let coded = || Behaviour { encoding: Some("gzip".to_owned()), ..Behaviour::default() };
    let refused = || Behaviour { model: Some(HAIKU.to_owned()), status: Some(400), ..Behaviour::default() };
    let table = [
        ("not moved", ECHO.to_owned(), Call::said(SONNET, STANDARD), vec![coded()]),
        ("observed", format!("{ECHO}, mode: observe"), Call::streamed(SONNET, ECONOMY), vec![coded()]),
        ("moved in vain", ECHO.to_owned(), Call::said(SONNET, ECONOMY), vec![refused(), coded()]),
    ];
    for (what, keys, call, script) in table {
        let plane = Plane::start(&keys).await;
        script.into_iter().for_each(|behaviour| plane.fake.script(behaviour));

        let answer = plane.call(&call.field("accept-encoding: gzip")).await;

        assert_eq!((answer.status, answer.field("content-encoding")), (200, "gzip"), "{what}");
        assert_eq!(plane.models().last().map(String::as_str), Some(SONNET), "{what}");
        assert_eq!(answer.body[..2], [0x1f, 0x8b], "{what}");
    }
}

#[tokio::test]
async fn errors_and_cuts_pass_as_they_are() {
    let sdk = || Call::streamed(SONNET, ECONOMY).by_sdk();
    let plane = Plane::start(ECHO).await;
    plane.fake.script(Behaviour { status: Some(529), ..Behaviour::default() });
    let answer = plane.call(&sdk()).await;
    assert_eq!((answer.status, answer.field("x-touchline-model")), (529, HAIKU));
    assert!(answer.text().contains("overloaded_error"));

    let plane = Plane::start(ECHO).await;
    plane.fake.script(Behaviour { close_after: Some(60), ..Behaviour::default() });
    let answer = plane.call(&sdk()).await;
    assert_eq!((answer.status, answer.is_whole, answer.body.len()), (200, false, 60));

    let plane = Plane::start(ECHO).await;
    plane.fake.script(Behaviour { close_after_events: Some(3), ..Behaviour::default() });
    let answer = plane.call(&sdk()).await;
    assert_eq!(named(&answer), [SONNET]);
    assert!(answer.is_whole && answer.text().contains("event: error"), "{}", answer.text());
}

#[tokio::test]
async fn a_kept_answer_keeps_the_true_name() {
    let plane =
        Plane::start(&format!("{ECHO}, response_cache: {{ enabled: true, single_flight: true }}")).await;
    let call = Call::of(&with(said(SONNET, ECONOMY), &json!({"metadata": {"user_id": "u-1"}})));

    let first = plane.call(&call).await;
    let again = plane.call(&call).await;

    assert_eq!((named(&first), named(&again)), (vec![SONNET.to_owned()], vec![SONNET.to_owned()]));
    assert_eq!((again.field("x-cache-status"), again.field("x-touchline-model")), ("hit", HAIKU));
    assert_eq!(again.body, first.body);
    assert_eq!(plane.seen().len(), 1);
}
