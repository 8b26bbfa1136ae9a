//! What the pretended backend answers, asked through its own service.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header::AUTHORIZATION};
use serde_json::Value;
use tokio::time::Instant;

use super::{Backend, Operation, TEMPLATES};
use crate::net::Body;

async fn ask(backend: &Backend, request: Request<Body>) -> (Response<()>, Value) {
    let (head, body) = backend.answer(request).await.into_parts();
    let bytes = body.collect(1 << 20).await.unwrap();
    (Response::from_parts(head, ()), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn request(method: Method, path: &str, body: &'static str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::full(body)).unwrap()
}

#[test]
fn each_template_has_the_place_its_operation_says() {
    for (place, template) in TEMPLATES.iter().enumerate() {
        let path = template.replace("{user_id}", "amara").replace("{session_id}", "s1");

        assert_eq!(Operation::of(&path).map(|operation| operation.place()), Some(place), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn takes_as_long_as_a_database_would() {
    let backend = Backend::new(7);

    for (path, low, high) in [("/api/challenges", 60, 91), ("/api/user/reputation/amara", 100, 181)] {
        let started = Instant::now();
        let (head, _) = ask(&backend, request(Method::GET, path, "")).await;
        let spent = started.elapsed();

        assert_eq!(head.status(), StatusCode::OK);
        assert!(
            spent >= Duration::from_millis(low) && spent <= Duration::from_millis(high),
            "{path} {spent:?}"
        );
    }
    assert!(backend.mean("/api/challenges").is_some());
    assert!(backend.mean("/health").is_none());
}

#[tokio::test(start_paused = true)]
async fn refuses_in_the_form_that_fastapi_gives_an_error() {
    let backend = Backend::new(7);
    let cases = [
        (Method::GET, "/nope", "", StatusCode::NOT_FOUND),
        (Method::GET, "/api/session/s1", "", StatusCode::UNAUTHORIZED),
        (Method::DELETE, "/api/challenges", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/coach/chat", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/api/challenges?difficulty=impossible", "", StatusCode::BAD_REQUEST),
        (Method::POST, "/coach/chat", "no json", StatusCode::UNPROCESSABLE_ENTITY),
        (Method::POST, "/coach/chat", "{\"user_id\":\"amara\"}", StatusCode::UNPROCESSABLE_ENTITY),
    ];

    for (method, path, body, expected) in cases {
        let (head, answer) = ask(&backend, request(method.clone(), path, body)).await;

        assert_eq!(head.status(), expected, "{method} {path}");
        assert!(answer.get("detail").is_some(), "{method} {path}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bearer_token_opens_a_session() {
    let backend = Backend::new(7);
    let mut call = request(Method::GET, "/api/session/s1", "");
    call.headers_mut().insert(AUTHORIZATION, "Bearer demo".parse().unwrap());

    let (head, answer) = ask(&backend, call).await;

    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(answer["id"], "s1");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_events_whose_words_make_the_answer() {
    let backend = Backend::new(7);
    let body = "{\"message\":\"I am nervous\",\"user_id\":\"amara\"}";

    let (_, chat) = ask(&backend, request(Method::POST, "/coach/chat", body)).await;
    let stream = backend.answer(request(Method::POST, "/coach/chat/stream", body)).await;
    let bytes = stream.into_body().collect(1 << 20).await.unwrap();

    let text: String = std::str::from_utf8(&bytes)
        .unwrap()
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str::<Value>(event.strip_prefix("data: ").unwrap()).unwrap())
        .filter_map(|event| event.get("text").and_then(Value::as_str).map(str::to_owned))
        .collect();
    assert_eq!(chat["response"], text.as_str());
}
