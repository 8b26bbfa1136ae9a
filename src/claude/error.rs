//! Errors of our own, in the shape of the API's: SDKs read the type, the status and whether to try again.
//!
//! <https://docs.claude.com/en/api/errors>

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::budget::Exhausted;
use crate::{
    net::{Body, Refusal},
    telemetry::{Digits, Trace},
    upstream,
};

/// A call that is answered here with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// The API cannot be reached, or its answer makes no sense.
    Unreachable,
    /// The API did not answer in time.
    TimedOut,
    /// Too many calls are in flight.
    Overloaded,
    /// A budget is used up; with it the seconds until its window ends.
    Budget {
        /// The budget's name, which the operator chose for being read.
        name: std::sync::Arc<str>,
        /// Seconds until its window ends.
        retry_after_s: u64,
    },
    /// The request breaks a rule of HTTP.
    Refused(Refusal),
}

impl CallError {
    /// The status of the answer.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            // The API's own status for "overloaded", which has no name in the registry.
            Self::Overloaded => match StatusCode::from_u16(529) {
                Ok(status) => status,
                Err(_) => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Budget { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Refused(refusal) => refusal.status(),
        }
    }

    /// The word in logs and counts.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Overloaded => "overloaded",
            Self::Budget { .. } => "budget",
            Self::Refused(refusal) => refusal.as_str(),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable => "api_error",
            Self::TimedOut => "timeout_error",
            Self::Overloaded => "overloaded_error",
            Self::Budget { .. } => "rate_limit_error",
            Self::Refused(refusal) => match refusal {
                Refusal::BodyTooLarge => "request_too_large",
                Refusal::RequestTimeout => "timeout_error",
                Refusal::Internal => "api_error",
                _ => "invalid_request_error",
            },
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Unreachable => "touchline could not reach the API.".to_owned(),
            Self::TimedOut => "The API did not answer in time.".to_owned(),
            Self::Overloaded => "Too many calls are in flight in this proxy.".to_owned(),
            Self::Budget { name, .. } => format!("The budget `{name}` is used up."),
            Self::Refused(refusal) => refusal.detail().to_owned(),
        }
    }

    /// The whole answer.
    pub(super) fn response(&self) -> Response<Body> {
        let id = request_id();
        let mut response =
            Response::new(Body::full(Bytes::from(document(self.kind(), &self.message(), &id))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert("request-id", id);
        }
        match self {
            Self::Budget { retry_after_s, .. } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_after_s));
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            Self::Overloaded => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Refused(refusal) if refusal.closes() => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            Self::Unreachable | Self::TimedOut | Self::Refused(_) => {}
        }
        response
    }
}

impl From<Exhausted> for CallError {
    fn from(exhausted: Exhausted) -> Self {
        Self::Budget { name: exhausted.name, retry_after_s: exhausted.retry_after_s }
    }
}

impl From<&upstream::Error> for CallError {
    fn from(error: &upstream::Error) -> Self {
        match error {
            upstream::Error::Timeout => Self::TimedOut,
            upstream::Error::Overload | upstream::Error::TooManyUpgrades => Self::Overloaded,
            upstream::Error::Connect(_)
            | upstream::Error::BreakerOpen
            | upstream::Error::ConnectTimeout
            | upstream::Error::Closed { .. }
            | upstream::Error::BadResponse => Self::Unreachable,
            upstream::Error::RequestBody(_) => Self::Refused(error.refusal()),
        }
    }
}

/// The event that ends a stream which the API has cut at the border of two events.
pub(super) fn cut_event() -> Bytes {
    let document = document("api_error", "The connection to the API was lost.", &request_id());
    Bytes::from(format!("event: error\ndata: {document}\n\n"))
}

/// The texts are our own, so that nothing in them needs escapes but the name of a budget.
fn document(kind: &str, message: &str, id: &str) -> String {
    let message = serde_json::Value::from(message);
    format!(r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}},"request_id":"{id}"}}"#)
}

fn request_id() -> String {
    let digits: Digits<32> = Trace::fresh().id.digits();
    format!("req_touchline_{}", digits.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::{CallError, cut_event};
    use crate::net::Refusal;

    #[tokio::test]
    async fn errors_have_the_shape_of_the_api() {
        let budget = CallError::Budget { name: Arc::from("a \"day\""), retry_after_s: 30 };
        let table = [
            (CallError::Unreachable, 502, "api_error"),
            (CallError::TimedOut, 504, "timeout_error"),
            (CallError::Overloaded, 529, "overloaded_error"),
            (budget, 429, "rate_limit_error"),
            (CallError::Refused(Refusal::BadFraming), 400, "invalid_request_error"),
            (CallError::Refused(Refusal::BodyTooLarge), 413, "request_too_large"),
        ];
        for (error, status, kind) in table {
            let response = error.response();
            assert_eq!(response.status(), status, "{error:?}");
            let id = response.headers()["request-id"].to_str().unwrap().to_owned();
            let body = response.into_body().collect(4096).await.unwrap();
            let document: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(document["type"], "error");
            assert_eq!(document["error"]["type"], kind);
            assert_eq!(document["request_id"], id);
            assert!(id.starts_with("req_touchline_"));
        }
    }

    #[test]
    fn a_used_up_budget_tells_sdks_not_to_try_again() {
        let response = CallError::Budget { name: Arc::from("day"), retry_after_s: 30 }.response();

        assert_eq!(response.headers()["retry-after"], "30");
        assert_eq!(response.headers()["x-should-retry"], "false");
    }

    #[test]
    fn the_event_of_a_cut_is_one_whole_event() {
        let event = cut_event();
        let text = str::from_utf8(&event).unwrap();

        assert!(text.starts_with("event: error\ndata: {") && text.ends_with("}\n\n"));
        assert_eq!(text.matches('\n').count(), 3);
    }
}
