//! The endpoints besides messages: models, batches, files, the old completions.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    api::{Call, Content, object},
    delivery::Payload,
    failure::Failure,
    models::Model,
    state::State,
    text::{Dice, hex, sha256},
};

/// Fields of the old completions.
const COMPLETION: &[&str] = &[
    "model",
    "prompt",
    "max_tokens_to_sample",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "stream",
];

/// Answers everything but messages and their tokens.
pub(crate) fn answer(state: &State, call: &Call<'_>) -> Result<Content, Failure> {
    let path = call.request.path();
    match (call.request.method.as_str(), path) {
        ("POST", "/v1/messages/batches") => batch(state, call),
        ("GET", "/v1/models") => Ok(models(state)),
        ("POST", "/v1/complete") => completion(state, call),
        ("POST", "/v1/files") => Ok(file(state, call)),
        ("GET", _) if path.starts_with("/v1/models/") => {
            let id = path.trim_start_matches("/v1/models/");
            let found = state.models.iter().find(|model| model.id == id);
            found
                .map(|model| Content::json(&model.info()))
                .ok_or_else(|| Failure::new(404, format!("model: {id}")))
        }
        _ => Err(Failure::new(404, "Not Found")),
    }
}

/// `Wed, 25 Nov 2026 12:00:00 GMT`
pub(crate) fn http_date(now: OffsetDateTime) -> String {
    let day = now.weekday().to_string();
    let month = now.month().to_string();
    let short = |word: &str| word.chars().take(3).collect::<String>();
    let (hour, minute, second) = now.to_hms();
    format!(
        "{}, {:02} {} {} {hour:02}:{minute:02}:{second:02} GMT",
        short(&day),
        now.day(),
        short(&month),
        now.year()
    )
}

fn dice(state: &State, call: &Call<'_>) -> Dice {
    Dice::new(state.settings.seed, &[&call.request.body, &call.nth.to_le_bytes()])
}

fn models(state: &State) -> Content {
    let id = |model: Option<&Model>| model.map(|model| model.id);
    Content::json(&json!({
        "data": state.models.iter().map(Model::info).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": id(state.models.first()),
        "last_id": id(state.models.last()),
    }))
}

fn batch(state: &State, call: &Call<'_>) -> Result<Content, Failure> {
    let body = object(call.request)?;
    if let Some(name) = body.keys().find(|name| *name != "requests") {
        return Err(Failure::extra(name));
    }
    let Some(requests) = body.get("requests").and_then(Value::as_array).filter(|list| !list.is_empty())
    else {
        return Err(Failure::invalid("requests: Field required"));
    };
    for (i, item) in requests.iter().enumerate() {
        if !item.get("custom_id").is_some_and(Value::is_string) {
            return Err(Failure::invalid(format!("requests.{i}.custom_id: Field required")));
        }
        if !item.get("params").is_some_and(Value::is_object) {
            return Err(Failure::invalid(format!("requests.{i}.params: Field required")));
        }
    }
    Ok(Content::json(&json!({
        "id": dice(state, call).id("msgbatch_"),
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {
            "processing": requests.len(), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0,
        },
        "ended_at": null,
        "created_at": "2026-11-23T12:00:00Z",
        "expires_at": "2026-11-24T12:00:00Z",
        "archived_at": null,
        "cancel_initiated_at": null,
        "results_url": null,
    })))
}

fn file(state: &State, call: &Call<'_>) -> Content {
    let body = &call.request.body;
    Content::json(&json!({
        "id": dice(state, call).id("file_"),
        "type": "file",
        "filename": "upload",
        "mime_type": call.request.header("content-type").unwrap_or("application/octet-stream"),
        "size_bytes": body.len(),
        "sha256": hex(&sha256(body)),
        "created_at": "2026-11-23T12:00:00Z",
        "downloadable": false,
    }))
}

fn completion(state: &State, call: &Call<'_>) -> Result<Content, Failure> {
    let body = object(call.request)?;
    if let Some(name) = body.keys().find(|name| !COMPLETION.contains(&name.as_str())) {
        return Err(Failure::extra(name));
    }
    for name in ["model", "prompt", "max_tokens_to_sample"] {
        if !body.contains_key(name) {
            return Err(Failure::invalid(format!("{name}: Field required")));
        }
    }
    let prompt = body.get("prompt").and_then(Value::as_str).unwrap_or_default();
    if !prompt.contains("\n\nHuman:") {
        return Err(Failure::invalid("prompt must start with \"\n\nHuman:\" turn"));
    }
    let mut dice = dice(state, call);
    let (id, text) = (dice.id("compl_"), format!(" {}", dice.prose(80)));
    let part = |text: &str, reason: Value| {
        json!({
            "type": "completion", "id": id, "completion": text, "stop_reason": reason, "stop": null,
            "model": body.get("model"), "log_id": id,
        })
    };
    if body.get("stream") != Some(&json!(true)) {
        return Ok(Content::json(&part(&text, json!("stop_sequence"))));
    }
    let event = |value: &Value| format!("event: completion\ndata: {value}\n\n");
    let mut events: Vec<_> = text.split_inclusive(' ').map(|word| event(&part(word, Value::Null))).collect();
    events.push(event(&part("", json!("stop_sequence"))));
    Ok(Content { payload: Payload::Events(events), spent: None })
}
