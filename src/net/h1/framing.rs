//! How long a message body is (RFC 9112 section 6.3), with every ambiguity refused.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use crate::net::Refusal;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// After this many octets.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection; answers only.
    Close,
}

/// The framing of a request.
///
/// # Errors
/// The refusal when two servers could read the length in two ways.
pub fn of_request(version: Version, headers: &HeaderMap) -> Result<Framing, Refusal> {
    // Most requests have no body: one pass over the names is cheaper than two searches.
    if !headers.keys().any(|name| *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING) {
        return Ok(Framing::None);
    }
    let length = content_length(headers).map_err(|Ambiguous| Refusal::BadFraming)?;
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(match length {
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        });
    };
    if codings.next().is_some() || length.is_some() || version == Version::HTTP_10 {
        return Err(Refusal::BadFraming);
    }
    if coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        Ok(Framing::Chunked)
    } else if is_another_coding(coding) {
        Err(Refusal::UnsupportedCoding)
    } else {
        Err(Refusal::BadFraming)
    }
}

/// The framing of an answer to a request with `method`.
///
/// A transfer coding that we do not speak is read to the close, as RFC 9112 section 6.3 asks; its connection is then not
/// used again.
///
/// # Errors
/// When the answer's length is ambiguous.
pub fn of_response(
    method: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<Framing, Ambiguous> {
    let length = content_length(headers)?;
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if coding.is_some() && (length.is_some() || version == Version::HTTP_10) {
        return Err(Ambiguous);
    }
    if *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ok(Framing::None);
    }
    match (coding, length) {
        (Some(_), _) if codings.next().is_some() => Err(Ambiguous),
        (Some(coding), _) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(coding), _) if ends_with_connection(coding) => Ok(Framing::Close),
        (Some(_), _) => Err(Ambiguous),
        (None, Some(0)) => Ok(Framing::None),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None) => Ok(Framing::Close),
    }
}

/// `Content-Length`: one line of 1 to 18 plain digits, or none.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Ambiguous> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let digits = line.as_bytes();
    if lines.next().is_some()
        || digits.is_empty()
        || digits.len() > 18
        || !digits.iter().all(u8::is_ascii_digit)
    {
        return Err(Ambiguous);
    }
    Ok(Some(digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))))
}

/// An answer whose length could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// True for a list of codings in which `chunked` stands at most once and last: a message that is well formed, in a coding
/// that we do not speak. Everything else is an attempt to be read in two ways.
fn is_another_coding(line: &HeaderValue) -> bool {
    let Ok(text) = line.to_str() else { return false };
    let mut members = text.split(',').map(str::trim).rev();
    let last = members.next().unwrap_or_default();
    let is_coding = |member: &str| {
        let name = member.split(';').next().unwrap_or_default().trim_end();
        matches!(
            name.to_ascii_lowercase().as_str(),
            "gzip" | "x-gzip" | "deflate" | "compress" | "x-compress" | "br" | "zstd"
        )
    };
    (last.eq_ignore_ascii_case("chunked") || is_coding(last)) && members.all(is_coding)
}

/// True for a well-formed list of codings, known or not, without `chunked`: such a body can only end with the connection.
/// `chunked` beside another coding is an attempt to be read in two ways.
fn ends_with_connection(line: &HeaderValue) -> bool {
    line.as_bytes().split(|byte| *byte == b',').all(|member| {
        let name = member.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        // Field names are tokens too.
        HeaderName::from_bytes(name).is_ok() && !name.eq_ignore_ascii_case(b"chunked")
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, Method, StatusCode, Version};

    use super::{Ambiguous, Framing, of_request, of_response};
    use crate::net::Refusal;

    type Line<'a> = (&'a str, &'a str);

    fn headers(lines: &[Line<'_>]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_request_has_one_length_or_is_refused() {
        let cl = |value| vec![("content-length", value)];
        let te = |value| vec![("transfer-encoding", value)];
        let table: Vec<(Vec<Line<'_>>, Result<Framing, Refusal>)> = vec![
            (vec![], Ok(Framing::None)),
            (cl("0"), Ok(Framing::None)),
            (cl("5"), Ok(Framing::Length(5))),
            (cl("0005"), Ok(Framing::Length(5))),
            (cl("+5"), Err(Refusal::BadFraming)),
            (cl("0x5"), Err(Refusal::BadFraming)),
            (cl("5_0"), Err(Refusal::BadFraming)),
            (cl("5.0"), Err(Refusal::BadFraming)),
            (cl("5, 5"), Err(Refusal::BadFraming)),
            (cl(""), Err(Refusal::BadFraming)),
            (cl("1234567890123456789"), Err(Refusal::BadFraming)),
            (vec![("content-length", "5"), ("content-length", "5")], Err(Refusal::BadFraming)),
            (te("chunked"), Ok(Framing::Chunked)),
            (te("Chunked"), Ok(Framing::Chunked)),
            (te("gzip, chunked"), Err(Refusal::UnsupportedCoding)),
            (te("chunked, chunked"), Err(Refusal::BadFraming)),
            (te("identity"), Err(Refusal::BadFraming)),
            (te("xchunked"), Err(Refusal::BadFraming)),
            (te("\"chunked\""), Err(Refusal::BadFraming)),
            (vec![("transfer-encoding", "chunked"), ("content-length", "5")], Err(Refusal::BadFraming)),
            (
                vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Err(Refusal::BadFraming),
            ),
        ];
        for (lines, expected) in table {
            assert_eq!(of_request(Version::HTTP_11, &headers(&lines)), expected, "{lines:?}");
        }
        assert_eq!(of_request(Version::HTTP_10, &headers(&te("chunked"))), Err(Refusal::BadFraming));
    }

    #[test]
    fn an_answer_ends_as_rfc_9112_section_6_3_says() {
        type Case<'a> = (Method, u16, Vec<Line<'a>>, Result<Framing, Ambiguous>);
        let table: Vec<Case<'_>> = vec![
            (Method::GET, 200, vec![], Ok(Framing::Close)),
            (Method::GET, 200, vec![("content-length", "7")], Ok(Framing::Length(7))),
            (Method::HEAD, 200, vec![("content-length", "7")], Ok(Framing::None)),
            (Method::GET, 204, vec![("content-length", "7")], Ok(Framing::None)),
            (Method::GET, 304, vec![("transfer-encoding", "chunked")], Ok(Framing::None)),
            (Method::GET, 200, vec![("transfer-encoding", "chunked")], Ok(Framing::Chunked)),
            (Method::GET, 200, vec![("transfer-encoding", "gzip")], Ok(Framing::Close)),
            (Method::GET, 200, vec![("transfer-encoding", "x-unheard-of;a=b , GZIP")], Ok(Framing::Close)),
            (Method::GET, 200, vec![("transfer-encoding", "gzip, chunked")], Err(Ambiguous)),
            (Method::GET, 200, vec![("transfer-encoding", "chunked, x-unheard-of")], Err(Ambiguous)),
            (Method::GET, 200, vec![("transfer-encoding", "chunked;a=b")], Err(Ambiguous)),
            (Method::GET, 200, vec![("transfer-encoding", "\"chunked\"")], Err(Ambiguous)),
            (Method::GET, 200, vec![("transfer-encoding", "x-unheard-of,")], Err(Ambiguous)),
            (Method::GET, 200, vec![("transfer-encoding", "")], Err(Ambiguous)),
            (
                Method::GET,
                200,
                vec![("transfer-encoding", "x-unheard-of"), ("content-length", "7")],
                Err(Ambiguous),
            ),
            (
                Method::GET,
                200,
                vec![("transfer-encoding", "chunked"), ("content-length", "7")],
                Err(Ambiguous),
            ),
            (Method::GET, 200, vec![("content-length", "7"), ("content-length", "7")], Err(Ambiguous)),
            (Method::GET, 200, vec![("content-length", "-7")], Err(Ambiguous)),
        ];
        for (method, status, lines, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                of_response(&method, status, Version::HTTP_11, &headers(&lines)),
                expected,
                "{lines:?}"
            );
        }
    }
}
