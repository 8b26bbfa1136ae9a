//! The paths by which another process looks into the fake: `/__requests`, `/__reset`, `/__script`, `/__advance`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    delivery::{Answer, Payload},
    script::Behaviour,
    state::{Recorded, State},
};

/// Answers a control path; `None` for the API's own paths. Such requests are not recorded.
pub(crate) fn respond(state: &State, request: &Recorded) -> Option<Answer> {
    let result = match (request.method.as_str(), request.path()) {
        ("GET", "/__requests") => Ok(state.report()),
        ("POST", "/__reset") => {
            state.reset();
            Ok(json!({}))
        }
        ("POST", "/__script") => script(state, request.json()),
        ("POST", "/__advance") => advance(state, &request.json()),
        (_, path) if is_control(path) => Err("no such control path".to_owned()),
        _ => return None,
    };
    let (status, body) = match result {
        Ok(value) => (200, value),
        Err(problem) => (400, json!({"error": problem})),
    };
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Some(Answer { status, headers, payload: Payload::Whole(body.to_string().into_bytes()) })
}

/// Whether a path is no part of the API.
pub(crate) fn is_control(path: &str) -> bool {
    path.starts_with("/__")
}

/// One behaviour or a list of them.
fn script(state: &State, body: Value) -> Result<Value, String> {
    let list = match body {
        Value::Array(list) => list,
        other => vec![other],
    };
    let read: Result<Vec<_>, _> = list.into_iter().map(Behaviour::from_json).collect();
    for behaviour in read? {
        state.script(behaviour);
    }
    Ok(json!({}))
}

fn advance(state: &State, body: &Value) -> Result<Value, String> {
    let seconds =
        body.get("seconds").and_then(Value::as_u64).ok_or("a body like {\"seconds\": 300} is needed")?;
    state.advance(Duration::from_secs(seconds));
    Ok(json!({}))
}
