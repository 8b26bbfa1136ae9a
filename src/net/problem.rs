//! Refusals: why a request was not passed on, and the `application/problem+json` answer (RFC 9457) that says so.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::Body;

/// Every reason for which touchline answers in the backend's place with an error. The set is closed: it is a metric
/// label, a log field and the `reason` member of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request's bytes break the grammar of RFC 9112.
    BadRequest,
    /// The request target is not acceptable.
    BadTarget,
    /// `Host` is missing, doubled or malformed.
    BadHost,
    /// `Content-Length`, `Transfer-Encoding` or a chunk is malformed or ambiguous.
    BadFraming,
    /// `Connection` names a field that must reach the backend.
    BadConnection,
    /// The host is none of `ingress.hosts`.
    MisdirectedRequest,
    /// CONNECT and TRACE are never served.
    MethodNotAllowed,
    /// A transfer coding other than `chunked`.
    UnsupportedCoding,
    /// `Expect` other than `100-continue`.
    ExpectationFailed,
    /// An HTTP version other than 1.0, 1.1 and 2.
    UnsupportedVersion,
    /// The request line is over `limits.request_line`.
    TargetTooLong,
    /// A header field or the head is over its limit.
    HeadersTooLarge,
    /// The body is over `limits.body` or the route's `body`.
    BodyTooLarge,
    /// The head or the body came too slowly.
    RequestTimeout,
    /// The route says `deny: true`.
    Denied,
    /// No connection to the backend could be made.
    ConnectFailed,
    /// The backend did not accept a connection within `upstream.connect`.
    ConnectTimeout,
    /// The backend closed the connection before a whole head.
    UpstreamClosed,
    /// The backend's answer breaks the grammar or a limit.
    BadUpstreamResponse,
    /// The backend sent no head within `upstream.first_byte`.
    UpstreamTimeout,
    /// Too many requests are in flight and the queue is full, or the wait in it was over `upstream.wait`.
    Overload,
    /// The breaker for the backend is open.
    BreakerOpen,
    /// `upgrade.connections` tunnels are open.
    TooManyUpgrades,
    /// The process is leaving, and the backend has gone before it.
    Draining,
    /// A fault of our own.
    Internal,
}

impl Refusal {
    /// All refusals, in the order of the documentation.
    pub const ALL: [Self; 25] = [
        Self::BadRequest,
        Self::BadTarget,
        Self::BadHost,
        Self::BadFraming,
        Self::BadConnection,
        Self::MisdirectedRequest,
        Self::MethodNotAllowed,
        Self::UnsupportedCoding,
        Self::ExpectationFailed,
        Self::UnsupportedVersion,
        Self::TargetTooLong,
        Self::HeadersTooLarge,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::Denied,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::UpstreamClosed,
        Self::BadUpstreamResponse,
        Self::UpstreamTimeout,
        Self::Overload,
        Self::BreakerOpen,
        Self::TooManyUpgrades,
        Self::Draining,
        Self::Internal,
    ];

    /// The reason as it stands in labels, logs and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.parts().0
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.parts().1
    }

    /// One sentence for the person who reads the answer.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        self.parts().2
    }

    /// True when the connection must close after this refusal, because the rest of its bytes cannot be trusted or
    /// is not wanted.
    #[must_use]
    pub const fn closes(self) -> bool {
        match self {
            Self::BadRequest
            | Self::BadTarget
            | Self::BadHost
            | Self::BadFraming
            | Self::BadConnection
            | Self::MisdirectedRequest
            | Self::MethodNotAllowed
            | Self::UnsupportedCoding
            | Self::ExpectationFailed
            | Self::UnsupportedVersion
            | Self::TargetTooLong
            | Self::HeadersTooLarge
            | Self::BodyTooLarge
            | Self::RequestTimeout => true,
            Self::Denied
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::UpstreamClosed
            | Self::BadUpstreamResponse
            | Self::UpstreamTimeout
            | Self::Overload
            | Self::BreakerOpen
            | Self::TooManyUpgrades
            | Self::Draining
            | Self::Internal => false,
        }
    }

    /// True when waiting and trying again makes sense, so that the answer carries `Retry-After`.
    #[must_use]
    pub const fn asks_for_patience(self) -> bool {
        matches!(self, Self::Overload | Self::BreakerOpen | Self::TooManyUpgrades | Self::Draining)
    }

    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest => ("bad_request", S::BAD_REQUEST, "The request is malformed."),
            Self::BadTarget => ("bad_target", S::BAD_REQUEST, "The request target is not acceptable."),
            Self::BadHost => {
                ("bad_host", S::BAD_REQUEST, "The Host field is missing, repeated or malformed.")
            }
            Self::BadFraming => {
                ("bad_framing", S::BAD_REQUEST, "The length of the request body is ambiguous or malformed.")
            }
            Self::BadConnection => (
                "bad_connection",
                S::BAD_REQUEST,
                "The Connection field names a field that may not be removed.",
            ),
            Self::MisdirectedRequest => {
                ("misdirected_request", S::MISDIRECTED_REQUEST, "This host is not served here.")
            }
            Self::MethodNotAllowed => {
                ("method_not_allowed", S::METHOD_NOT_ALLOWED, "This method is not served here.")
            }
            Self::UnsupportedCoding => (
                "unsupported_coding",
                S::NOT_IMPLEMENTED,
                "The only transfer coding understood here is chunked.",
            ),
            Self::ExpectationFailed => (
                "expectation_failed",
                S::EXPECTATION_FAILED,
                "The only expectation understood here is 100-continue.",
            ),
            Self::UnsupportedVersion => (
                "unsupported_version",
                S::HTTP_VERSION_NOT_SUPPORTED,
                "This HTTP version is not spoken here.",
            ),
            Self::TargetTooLong => ("target_too_long", S::URI_TOO_LONG, "The request line is too long."),
            Self::HeadersTooLarge => {
                ("headers_too_large", S::REQUEST_HEADER_FIELDS_TOO_LARGE, "The header fields are too large.")
            }
            Self::BodyTooLarge => ("body_too_large", S::PAYLOAD_TOO_LARGE, "The request body is too large."),
            Self::RequestTimeout => ("request_timeout", S::REQUEST_TIMEOUT, "The request came too slowly."),
            Self::Denied => ("denied", S::FORBIDDEN, "This path is not served here."),
            Self::ConnectFailed => {
                ("connect_failed", S::BAD_GATEWAY, "The backend does not accept connections.")
            }
            Self::ConnectTimeout => {
                ("connect_timeout", S::GATEWAY_TIMEOUT, "The backend did not accept a connection in time.")
            }
            Self::UpstreamClosed => {
                ("upstream_closed", S::BAD_GATEWAY, "The backend closed the connection without an answer.")
            }
            Self::BadUpstreamResponse => (
                "bad_upstream_response",
                S::BAD_GATEWAY,
                "The backend's answer is malformed or over a limit.",
            ),
            Self::UpstreamTimeout => {
                ("upstream_timeout", S::GATEWAY_TIMEOUT, "The backend did not answer in time.")
            }
            Self::Overload => {
                ("overload", S::SERVICE_UNAVAILABLE, "Too many requests are waiting for the backend.")
            }
            Self::BreakerOpen => (
                "breaker_open",
                S::SERVICE_UNAVAILABLE,
                "The backend failed repeatedly and is given time to recover.",
            ),
            Self::TooManyUpgrades => {
                ("too_many_upgrades", S::SERVICE_UNAVAILABLE, "Too many upgraded connections are open.")
            }
            Self::Draining => {
                ("draining", S::SERVICE_UNAVAILABLE, "This replica is leaving; another one will answer.")
            }
            Self::Internal => {
                ("internal", S::INTERNAL_SERVER_ERROR, "The proxy failed to handle this request.")
            }
        }
    }
}

/// The problem document for a refusal. It names no address and no internals.
#[must_use]
pub fn response(refusal: Refusal) -> Response<Body> {
    let status = refusal.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let text = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{}","reason":"{}"}}"#,
        status.as_u16(),
        refusal.detail(),
        refusal.as_str()
    );
    let mut response = Response::new(Body::full(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if refusal.asks_for_patience() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if refusal == Refusal::MethodNotAllowed {
        headers
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Refusal, response};

    #[test]
    fn every_refusal_has_its_own_reason_and_an_error_status() {
        let reasons: HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();

        assert_eq!(reasons.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.iter().all(|refusal| refusal.status().as_u16() >= 400));
    }

    #[tokio::test]
    async fn the_problem_document_is_json_with_the_members_of_rfc_9457() {
        for refusal in Refusal::ALL {
            let body = response(refusal).into_body().collect(4096).await.unwrap();

            let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(document["status"], refusal.status().as_u16());
            assert_eq!(document["reason"], refusal.as_str());
            assert!(document["detail"].as_str().unwrap().ends_with('.'));
        }
    }
}
