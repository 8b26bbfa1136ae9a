//! The pretended Claude API: it answers `POST /v1/messages` as the real one does, whole or as a stream, faster with the
//! smaller models, and says what was used. It remembers nothing and checks little.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    answers,
    dice::{Dice, fingerprint},
    words::Words,
};
use crate::net::{Answer, Body, Context, Refusal, Service, problem};

/// The longest request.
const MAX_BODY: usize = 1024 * 1024;

/// Bytes of text for ten tokens.
const BYTES_PER_TEN_TOKENS: usize = 32;

/// The API.
pub(super) struct Claude {
    dice: Dice,
}

impl Claude {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed) }
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST || head.uri.path() != "/v1/messages" {
            return error(StatusCode::NOT_FOUND, "not_found_error", "There is only POST /v1/messages here.");
        }
        let Ok(body) = body.collect(MAX_BODY).await else {
            return error(StatusCode::BAD_REQUEST, "invalid_request_error", "The body cannot be read.");
        };
        let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
            return error(StatusCode::BAD_REQUEST, "invalid_request_error", "The body is not JSON.");
        };
        let model = asked.get("model").and_then(Value::as_str).unwrap_or_default();
        let message = last_message(&asked);
        let (low, high) = milliseconds(model);
        sleep(Duration::from_millis(self.dice.between(low, high))).await;
        let reply = Reply {
            id: format!("msg_{:016x}", fingerprint(&message) ^ self.dice.between(0, u64::MAX - 1)),
            model,
            text: answers::advice(&message),
            input: tokens(body.len()),
        };
        if asked.get("stream").and_then(Value::as_bool) == Some(true) {
            reply.stream()
        } else {
            reply.whole()
        }
    }
}

impl Service for Claude {
    type Done = ();

    async fn call(&self, request: Request<Body>, _context: Context) -> Answer<()> {
        Answer::new(self.answer(request).await, ())
    }

    fn refuse(&self, refusal: Refusal, _context: Context) -> Answer<()> {
        Answer::new(problem::response(refusal), ())
    }
}

/// One answer.
struct Reply<'a> {
    id: String,
    model: &'a str,
    text: &'static str,
    input: usize,
}

impl Reply<'_> {
    fn message(&self, content: &Value, output: usize) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": if output > 1 { json!("end_turn") } else { Value::Null },
            "stop_sequence": null,
            "usage": {
                "input_tokens": self.input,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output,
            },
        })
    }

    fn whole(&self) -> Response<Body> {
        let content = json!([{ "type": "text", "text": self.text }]);
        let body = self.message(&content, tokens(self.text.len())).to_string();
        let mut response = Response::new(Body::full(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn stream(&self) -> Response<Body> {
        let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
        let block = json!({ "type": "text", "text": "" });
        let mut events = vec![
            event(
                "message_start",
                json!({ "type": "message_start", "message": self.message(&json!([]), 1) }),
            ),
            event(
                "content_block_start",
                json!({ "type": "content_block_start", "index": 0, "content_block": block }),
            ),
        ];
        events.extend(self.text.split_inclusive(' ').map(|word| {
            let delta = json!({ "type": "text_delta", "text": word });
            event("content_block_delta", json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
        }));
        let usage = json!({ "output_tokens": tokens(self.text.len()) });
        let delta = json!({ "stop_reason": "end_turn", "stop_sequence": null });
        events.push(event("content_block_stop", json!({ "type": "content_block_stop", "index": 0 })));
        events
            .push(event("message_delta", json!({ "type": "message_delta", "delta": delta, "usage": usage })));
        events.push(event("message_stop", json!({ "type": "message_stop" })));
        let mut response = Response::new(Body::stream(Words::new(events)));
        let media_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        response
    }
}

/// How long a model thinks.
fn milliseconds(model: &str) -> (u64, u64) {
    match model {
        model if model.contains("haiku") => (150, 350),
        model if model.contains("opus") => (1_500, 2_500),
        _ => (600, 1_200),
    }
}

fn last_message(asked: &Value) -> String {
    let messages = asked.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let content = messages.last().and_then(|message| message.get("content"));
    content.and_then(Value::as_str).unwrap_or_default().to_owned()
}

const fn tokens(bytes: usize) -> usize {
    bytes * 10 / BYTES_PER_TEN_TOKENS
}

fn error(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    let document = json!({ "type": "error", "error": { "type": kind, "message": message } });
    let mut response = Response::new(Body::full(document.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::Value;

    use super::Claude;
    use crate::net::{Body, Context, Service as _};

    async fn ask(body: &str) -> (u16, String) {
        let request = Request::post("/v1/messages").body(Body::full(body.to_owned())).unwrap();
        let answer = Claude::new(1).call(request, Context::internal()).await;
        let status = answer.response.status().as_u16();
        let body = answer.response.into_body().collect(1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_answer_names_its_model_and_its_tokens() {
        let (status, body) =
            ask(r#"{"model":"claude-haiku-5-5","messages":[{"role":"user","content":"hi"}]}"#).await;

        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body["model"].as_str()), (200, Some("claude-haiku-5-5")));
        assert!(body["usage"]["output_tokens"].as_u64().unwrap() > 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_has_the_events_of_the_api_in_their_order() {
        let (_, body) = ask(r#"{"model":"m","stream":true,"messages":[]}"#).await;

        let names: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(names.first(), Some(&"message_start"));
        assert_eq!(&names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_call_is_an_error_in_the_shape_of_the_api() {
        let (status, body) = ask("nothing").await;

        assert_eq!(status, 400);
        assert!(body.contains("invalid_request_error"));
    }
}
