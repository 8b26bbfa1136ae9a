//! Request and status lines and header fields, read in one strict way (RFC 9112 sections 2 to 5).
//!
//! A head is parsed once it is whole. Until then `check_partial` looks for what no more bytes could mend, so that a
//! malformed head is refused at once and not when a timer runs out.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use memchr::{memchr, memchr_iter};

use super::Limits;
use crate::{config::Underscores, net::Refusal};

/// Fields that a map has room for in its smallest size.
const USUAL_FIELDS: usize = 6;

/// A request head as it stood on the wire, fields in order.
#[derive(Debug)]
pub struct RequestHead {
    /// The method; tokens that are no registered method pass.
    pub method: Method,
    /// The target, byte for byte.
    pub uri: Uri,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// How many fields were dropped because of an underscore in their name.
    pub underscores: u32,
}

/// A response head as it stood on the wire; the reason phrase is dropped.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
}

/// Why a response head is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// It breaks the grammar.
    Malformed,
    /// It is over a limit.
    TooLarge,
}

/// Takes a whole request head off the front of `buffer`; `None` while it is not whole.
///
/// # Errors
/// The refusal to answer with; the connection then closes.
pub fn take_request(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<RequestHead>, Refusal> {
    skip_empty_line(buffer)?;
    let Some(end) = limits.head_end.find(buffer) else {
        check_partial(buffer, limits)?;
        return Ok(None);
    };
    if end + 4 > limits.headers_size.saturating_add(limits.request_line) {
        check_request_line_length(buffer, limits)?;
        return Err(Refusal::HeadersTooLarge);
    }
    let head = buffer.split_to(end + 4).freeze();
    let line_end = line_end(&head, 0).ok_or(Refusal::BadRequest)?;
    if line_end > limits.request_line {
        return Err(over_length(&head, limits));
    }
    let (method, uri, version) = parse_request_line(&head, line_end, limits)?;
    let (headers, underscores) =
        parse_fields(&head, line_end + 2, limits, limits.underscores).map_err(|error| match error {
            HeadError::Malformed => Refusal::BadRequest,
            HeadError::TooLarge => Refusal::HeadersTooLarge,
        })?;
    Ok(Some(RequestHead { method, uri, version, headers, underscores }))
}

/// Takes a whole response head off the front of `buffer`; `None` while it is not whole.
///
/// # Errors
/// When the answer cannot be passed on.
pub fn take_response(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<ResponseHead>, HeadError> {
    let Some(end) = limits.head_end.find(buffer) else {
        check_partial_response(buffer, limits)?;
        return Ok(None);
    };
    if end + 4 > limits.headers_size {
        return Err(HeadError::TooLarge);
    }
    let head = buffer.split_to(end + 4).freeze();
    let line_end = line_end(&head, 0).ok_or(HeadError::Malformed)?;
    let (version, status) = parse_status_line(head.get(..line_end).ok_or(HeadError::Malformed)?)?;
    let (headers, _) = parse_fields(&head, line_end + 2, limits, Underscores::Forward)?;
    Ok(Some(ResponseHead { status, version, headers }))
}

/// RFC 9112 section 2.2 lets a server ignore one empty line before a request line.
fn skip_empty_line(buffer: &mut BytesMut) -> Result<(), Refusal> {
    match buffer.as_ref() {
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(Refusal::BadRequest),
        [b'\r', b'\n', ..] => {
            let _ = buffer.split_to(2);
            Ok(())
        }
        [b'\r', second, ..] if *second != b'\n' => Err(Refusal::BadRequest),
        _ => Ok(()),
    }
}

/// Looks at a head that is not whole for faults and limits that more bytes cannot mend.
fn check_partial(buffer: &[u8], limits: &Limits) -> Result<(), Refusal> {
    if buffer.is_empty() || buffer == b"\r" {
        return Ok(());
    }
    check_request_line_length(buffer, limits)?;
    let shown = memchr(b' ', buffer).unwrap_or(buffer.len());
    if !is_method(buffer.get(..shown).unwrap_or_default(), limits) {
        return Err(Refusal::BadRequest);
    }
    if has_stray_bytes(buffer) {
        return Err(Refusal::BadRequest);
    }
    if let Some(end) = line_end(buffer, 0) {
        // A request line without a version is HTTP/0.9: nothing would follow it.
        let line = buffer.get(..end).unwrap_or_default();
        parse_version(line.rsplit(|byte| *byte == b' ').next().unwrap_or_default())?;
    }
    if is_over_field_limits(buffer, limits, limits.headers_size.saturating_add(limits.request_line)) {
        return Err(Refusal::HeadersTooLarge);
    }
    Ok(())
}

fn check_partial_response(buffer: &[u8], limits: &Limits) -> Result<(), HeadError> {
    const START: &[u8] = b"HTTP/1.";
    let shown = buffer.len().min(START.len());
    if buffer.get(..shown) != START.get(..shown) || has_stray_bytes(buffer) {
        return Err(HeadError::Malformed);
    }
    if is_over_field_limits(buffer, limits, limits.headers_size) {
        return Err(HeadError::TooLarge);
    }
    Ok(())
}

fn check_request_line_length(buffer: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let line = memchr(b'\n', buffer).unwrap_or(buffer.len());
    if line > limits.request_line + 1 { Err(over_length(buffer, limits)) } else { Ok(()) }
}

/// A request line that is too long because its method is, is refused for its method, in however many pieces it came.
fn over_length(buffer: &[u8], limits: &Limits) -> Refusal {
    let method = memchr(b' ', buffer).unwrap_or(buffer.len());
    if method > limits.method { Refusal::BadRequest } else { Refusal::TargetTooLong }
}

fn is_method(bytes: &[u8], limits: &Limits) -> bool {
    !bytes.is_empty() && bytes.len() <= limits.method && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// A line end that is not CRLF, or a control byte that stands nowhere in a head.
fn has_stray_bytes(buffer: &[u8]) -> bool {
    let mut previous = 0;
    for (at, byte) in buffer.iter().enumerate() {
        let stray = match byte {
            b'\n' => previous != b'\r',
            b'\r' | b'\t' => false,
            0..=0x1f | 0x7f => true,
            _ => false,
        };
        if stray || (previous == b'\r' && *byte != b'\n' && at > 0) {
            return true;
        }
        previous = *byte;
    }
    false
}

fn is_over_field_limits(buffer: &[u8], limits: &Limits, whole: usize) -> bool {
    let first_field = memchr(b'\n', buffer).map_or(buffer.len(), |end| end + 1);
    let fields = buffer.get(first_field..).unwrap_or_default();
    buffer.len() > whole
        || fields.len() > limits.headers_size
        || fields.split(|byte| *byte == b'\n').any(|line| line.len() > limits.header_size + 1)
        || memchr_iter(b'\n', fields).count() > limits.headers
}

/// The end of the line that starts at `from`: the position of its CR. `None` when its LF stands without one.
fn line_end(head: &[u8], from: usize) -> Option<usize> {
    let length = memchr(b'\n', head.get(from..)?)?;
    let end = (from + length).checked_sub(1)?;
    (head.get(end) == Some(&b'\r') && end >= from).then_some(end)
}

fn parse_request_line(head: &Bytes, end: usize, limits: &Limits) -> Result<(Method, Uri, Version), Refusal> {
    let line = head.get(..end).unwrap_or_default();
    let method_end = memchr(b' ', line).ok_or(Refusal::BadRequest)?;
    let method = line.get(..method_end).unwrap_or_default();
    if !is_method(method, limits) {
        return Err(Refusal::BadRequest);
    }
    let target_start = method_end + 1;
    let rest = line.get(target_start..).unwrap_or_default();
    let target_length = memchr(b' ', rest).ok_or(Refusal::BadRequest)?;
    let target = rest.get(..target_length).unwrap_or_default();
    let version = parse_version(rest.get(target_length + 1..).unwrap_or_default())?;
    if target.is_empty() {
        return Err(Refusal::BadRequest);
    }
    if !target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#') {
        return Err(Refusal::BadTarget);
    }
    let method = Method::from_bytes(method).map_err(|_| Refusal::BadRequest)?;
    let uri = Uri::from_maybe_shared(head.slice(target_start..target_start + target_length))
        .map_err(|_| Refusal::BadTarget)?;
    Ok((method, uri, version))
}

fn parse_version(text: &[u8]) -> Result<Version, Refusal> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            if *major == b'0' {
                Err(Refusal::BadRequest)
            } else {
                Err(Refusal::UnsupportedVersion)
            }
        }
        _ => Err(Refusal::BadRequest),
    }
}

fn parse_status_line(line: &[u8]) -> Result<(Version, StatusCode), HeadError> {
    let (version, rest) = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', rest @ ..] => (Version::HTTP_11, rest),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b' ', rest @ ..] => (Version::HTTP_10, rest),
        _ => return Err(HeadError::Malformed),
    };
    let (code, phrase) = rest.split_at_checked(3).ok_or(HeadError::Malformed)?;
    // The space behind the code is required, but servers that send no phrase often leave it out; nothing reads the
    // line in another way for that.
    let is_phrase = match phrase {
        [] => true,
        [b' ', text @ ..] => text.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()),
        _ => false,
    };
    if !is_phrase || !code.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Malformed);
    }
    let status = StatusCode::from_bytes(code).map_err(|_| HeadError::Malformed)?;
    Ok((version, status))
}

fn parse_fields(
    head: &Bytes,
    from: usize,
    limits: &Limits,
    underscores: Underscores,
) -> Result<(HeaderMap, u32), HeadError> {
    if head.len() - from > limits.headers_size {
        return Err(HeadError::TooLarge);
    }
    // Room for just the lines there are: a map of a dozen fields is too large for the allocator's fast path, and one that
    // fits exactly would grow with the first field that is added on the way.
    let lines = memchr_iter(b'\n', head.get(from..).unwrap_or_default()).count();
    let mut headers = HeaderMap::with_capacity(lines.clamp(USUAL_FIELDS, limits.headers.max(USUAL_FIELDS)));
    let (mut at, mut seen, mut dropped) = (from, 0, 0);
    loop {
        let end = line_end(head, at).ok_or(HeadError::Malformed)?;
        let line = head.get(at..end).unwrap_or_default();
        if line.is_empty() {
            // The head ends at its first empty line; a head with bytes behind that was split in the wrong place.
            return if end + 2 == head.len() { Ok((headers, dropped)) } else { Err(HeadError::Malformed) };
        }
        seen += 1;
        if line.len() > limits.header_size || seen > limits.headers {
            return Err(HeadError::TooLarge);
        }
        let colon = memchr(b':', line).ok_or(HeadError::Malformed)?;
        let raw_name = line.get(..colon).unwrap_or_default();
        let name = HeaderName::from_bytes(raw_name).map_err(|_| HeadError::Malformed)?;
        let (start, stop) = trimmed(line, colon + 1);
        let value = HeaderValue::from_maybe_shared(head.slice(at + start..at + stop))
            .map_err(|_| HeadError::Malformed)?;
        if underscores != Underscores::Forward && raw_name.contains(&b'_') {
            if underscores == Underscores::Reject {
                return Err(HeadError::Malformed);
            }
            dropped += 1;
        } else {
            headers.try_append(name, value).map_err(|_| HeadError::TooLarge)?;
        }
        at = end + 2;
    }
}

/// The bounds of `line[from..]` without spaces and tabs at its ends.
fn trimmed(line: &[u8], from: usize) -> (usize, usize) {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let value = line.get(from..).unwrap_or_default();
    let lead = value.iter().take_while(|byte| is_space(byte)).count();
    let trail = value.iter().skip(lead).rev().take_while(|byte| is_space(byte)).count();
    (from + lead, line.len() - trail)
}

/// The characters of a token (RFC 9110 section 5.6.2).
pub const fn is_token_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}
