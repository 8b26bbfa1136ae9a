//! Heads on their way out: written anew from parsed parts, never relayed.

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Uri, header};

use super::framing::Framing;
use crate::net::encoded::{Encoded, Lines as _, is_of_connection};

/// What stands in an answer's head beside its own fields.
#[derive(Clone, Copy, Debug)]
pub struct ResponseLine {
    /// The status.
    pub status: StatusCode,
    /// How the body will end.
    pub framing: Framing,
    /// True for an answer whose `Content-Length` describes a body that is not sent: to HEAD, and 304.
    pub keeps_length: bool,
    /// True when the connection closes after the answer.
    pub close: bool,
}

/// Writes the status line and the answer's own fields.
pub fn response_fields(
    out: &mut BytesMut,
    line: ResponseLine,
    headers: &HeaderMap,
    encoded: Option<&Encoded>,
) {
    status_line(out, line.status);
    let mut has_date = encoded.is_some_and(Encoded::has_date);
    if let Some(encoded) = encoded {
        out.extend_from_slice(encoded.as_bytes());
    }
    for (name, value) in headers {
        if is_of_connection(name) && !(line.keeps_length && *name == header::CONTENT_LENGTH) {
            continue;
        }
        has_date |= *name == header::DATE;
        out.line(name.as_str(), value.as_bytes());
    }
    if !has_date {
        out.line("date", date_now().as_bytes());
    }
}

/// Writes the fields of the connection and ends the head.
pub fn response_end(out: &mut BytesMut, line: ResponseLine) {
    if line.status == StatusCode::SWITCHING_PROTOCOLS {
        out.extend_from_slice(b"connection: upgrade\r\n\r\n");
        return;
    }
    // An empty body is said to be empty, unless the status says so already or the length speaks of another body.
    if line.framing != Framing::None {
        framing(out, line.framing);
    } else if !line.keeps_length && !matches!(line.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        framing(out, Framing::Length(0));
    }
    out.extend_from_slice(if line.close { &b"connection: close\r\n\r\n"[..] } else { b"\r\n" });
}

/// Writes the head of an interim answer (RFC 9110 section 15.2), which has no body.
pub fn interim_head(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    status_line(out, status);
    for (name, value) in headers {
        if !is_of_connection(name) {
            out.line(name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line and the fields of a request to an upstream. The target is the URI's path and query, byte for byte.
pub fn request_fields(out: &mut BytesMut, method: &Method, uri: &Uri, headers: &HeaderMap) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        if !is_of_connection(name) {
            out.line(name.as_str(), value.as_bytes());
        }
    }
}

/// Writes the fields of the connection and ends the head of a request.
pub fn request_end(out: &mut BytesMut, method: &Method, body: Framing, is_upgrade: bool) {
    match body {
        Framing::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Framing::None | Framing::Close => {}
        Framing::Length(_) | Framing::Chunked => framing(out, body),
    }
    out.extend_from_slice(if is_upgrade { &b"connection: upgrade\r\n\r\n"[..] } else { b"\r\n" });
}

fn status_line(out: &mut BytesMut, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn framing(out: &mut BytesMut, framing: Framing) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None | Framing::Close => {}
    }
}

/// The current time as an IMF-fixdate (RFC 9110 section 5.6.7).
fn date_now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let weekday = now.weekday().to_string();
    let month = now.month().to_string();
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        weekday.get(..3).unwrap_or_default(),
        now.day(),
        month.get(..3).unwrap_or_default(),
        now.year(),
        now.hour(),
        now.minute(),
        now.second()
    )
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use http::{HeaderMap, HeaderValue, StatusCode, header};

    use super::{Framing, ResponseLine, response_end, response_fields};

    #[test]
    fn the_length_of_a_missing_body_is_kept_only_where_it_describes_one() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        headers.insert(header::DATE, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
        let line =
            ResponseLine { status: StatusCode::OK, framing: Framing::None, keeps_length: true, close: false };
        let (mut head, mut get) = (BytesMut::new(), BytesMut::new());

        response_fields(&mut head, line, &headers, None);
        response_end(&mut head, line);
        let line = ResponseLine { framing: Framing::Length(3), keeps_length: false, ..line };
        response_fields(&mut get, line, &headers, None);
        response_end(&mut get, line);

        assert!(head.ends_with(b"content-length: 7\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"));
        assert!(get.ends_with(b"content-length: 3\r\n\r\n"));
    }
}
