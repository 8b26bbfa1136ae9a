//! Answers of the admin and control listeners: JSON, text and pages with the security headers that all of them
//! carry. What is in the JSON is decided elsewhere.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use crate::net::Body;

/// Nothing but the page's own script, style sheet and data may load, and nobody may frame or re-target it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `application/json`.
    Json,
    /// `application/yaml` (RFC 9512).
    Yaml,
    /// Plain text for people and probes.
    Text,
    /// The Prometheus text format, version 0.0.4.
    Prometheus,
    /// A page.
    Html,
    /// A style sheet.
    Css,
    /// A script.
    Script,
    /// Server-sent events.
    Events,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Text => "text/plain; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Css => "text/css; charset=utf-8",
            Self::Script => "text/javascript; charset=utf-8",
            Self::Events => "text/event-stream",
        }
    }
}

/// A finished answer before it meets the method: a HEAD gets the same head as a GET, without the bytes.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    content_type: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
}

/// FastAPI's error shape, which clients of these paths already parse.
#[derive(Serialize)]
struct Detail<'a> {
    detail: &'a str,
}

impl Reply {
    /// An answer of `kind` with `body` as it stands.
    pub(crate) fn new(status: StatusCode, kind: Kind, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: HeaderValue::from_static(kind.as_str()),
            headers: Vec::new(),
            body: Body::full(body),
        }
    }

    /// An answer that goes on.
    pub(crate) fn stream(kind: Kind, body: Body) -> Self {
        let content_type = HeaderValue::from_static(kind.as_str());
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), body }
    }

    /// `value` as compact JSON.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::new(status, Kind::Json, body),
            // Our structs have text keys and finite numbers, so this is out of reach; a reader still gets JSON.
            Err(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Kind::Json,
                r#"{"detail":"the answer could not be written as JSON"}"#,
            ),
        }
    }

    /// An error: `{"detail": "..."}`.
    pub(crate) fn detail(status: StatusCode, detail: &str) -> Self {
        Self::json(status, &Detail { detail })
    }

    /// Bytes of somebody else (the backend) under the content type that they came with.
    pub(crate) fn relayed(status: StatusCode, content_type: Option<HeaderValue>, body: Bytes) -> Self {
        let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        Self { status, content_type, headers: Vec::new(), body: Body::full(body) }
    }

    /// 405 with the methods that would have been right.
    pub(crate) fn not_allowed(allow: &'static str) -> Self {
        Self::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
            .with(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status so far.
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The HTTP response to a request with `method`.
    pub(crate) fn into_response(self, method: &Method) -> Response<Body> {
        let length = self.body.exact_len();
        let body = if method == Method::HEAD { Body::empty() } else { self.body };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, self.content_type);
        if let Some(length) = length {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
        for (name, value) in self.headers {
            if name == header::CACHE_CONTROL {
                fields.insert(name, value);
            } else {
                fields.append(name, value);
            }
        }
        response
    }
}
