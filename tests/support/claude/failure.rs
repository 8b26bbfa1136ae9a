//! The API's errors: kind, status and body. Which request deserves which is decided elsewhere.

use serde_json::{Value, json};

/// A refused request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// The status line's number.
    pub(crate) status: u16,
    /// `error.type`.
    pub(crate) kind: String,
    /// `error.message`.
    pub(crate) message: String,
    /// `error.details`, if any.
    pub(crate) details: Option<Box<Value>>,
}

impl Failure {
    /// An error with the kind that belongs to its status.
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, kind: kind_of(status).to_owned(), message: message.into(), details: None }
    }

    /// A 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// A field that the API does not know.
    pub(crate) fn extra(path: &str) -> Self {
        Self::invalid(format!("{path}: Extra inputs are not permitted"))
    }

    /// The JSON body.
    pub(crate) fn body(&self, request_id: &str) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        if let (Some(details), Some(fields)) = (&self.details, error.as_object_mut()) {
            fields.insert("details".to_owned(), details.as_ref().clone());
        }
        json!({"type": "error", "error": error, "request_id": request_id})
    }
}

/// `error.type` of a status.
pub(crate) fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500..=599 => "api_error",
        _ => "invalid_request_error",
    }
}
