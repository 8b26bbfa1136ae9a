//! The client's own name of the model, put back into the answer of another one: in the body of a whole answer, or in the
//! `message_start` of a stream. Not a byte besides is changed, and where the name is not found none is.
//!
//! It is the last thing that happens to an answer, so that all before it knows the true model: the watcher and the books,
//! what is kept for identical calls, and the fields that are added. The client's `accept-encoding` goes to the API as it
//! is; a coded answer is decoded here and reaches the client, which is on the same machine, without its coding. A whole
//! answer that cannot be decoded passes as it came. Of a stream, whose head has gone before, the rest is lost: it is
//! aborted, as the client could not have read it either.

use std::{
    ops::Range,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, response};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    asked::SIGNATURES,
    decode::{Coding, Decoder},
    held::{self, Rest},
    relay::is_event_stream,
    splice::{place_in, quote},
    sse::MAX_EVENT,
    usage::MAX_WHOLE,
};
use crate::net::{Body, BodyError, Chunks};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Names `requested` as the model of an answer.
pub(super) async fn rename(response: Response<Body>, requested: &str) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let mut codings = parts.headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    let coding = match (codings.next(), codings.next()) {
        (coding, None) => Coding::of(coding),
        (_, Some(_)) => Coding::Other,
    };
    let is_signed = SIGNATURES.iter().any(|name| parts.headers.contains_key(*name));
    if parts.status != StatusCode::OK || coding == Coding::Other || is_signed {
        return Response::from_parts(parts, body);
    }
    if !is_event_stream(&parts.headers) {
        return rename_whole((parts, body), coding, requested).await;
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_ENCODING);
    let decoder = (coding != Coding::Identity).then(|| Decoder::new(coding));
    let start = Some(Start::new(requested));
    Response::from_parts(parts, Body::of(Renaming { body, decoder, start, end: None }))
}

/// A whole answer is held until its end, which is when the API has all of it.
async fn rename_whole(
    (mut parts, body): (response::Parts, Body),
    coding: Coding,
    requested: &str,
) -> Response<Body> {
    let (all, rest) = held::hold(body, MAX_WHOLE).await;
    let renamed = match rest {
        Rest::End => plain(&all, coding).and_then(|plain| renamed_whole(&plain, requested)),
        Rest::More(_) | Rest::Broken(_) => None,
    };
    let Some(renamed) = renamed else { return Response::from_parts(parts, held::join(all, rest)) };
    parts.headers.remove(header::CONTENT_ENCODING);
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(renamed.len()));
    }
    Response::from_parts(parts, Body::full(renamed))
}

/// The bytes without their coding.
fn plain(bytes: &Bytes, coding: Coding) -> Option<Bytes> {
    if coding == Coding::Identity {
        return Some(bytes.clone());
    }
    let mut plain = Bytes::new();
    Decoder::new(coding).feed(bytes, |decoded| plain = Bytes::copy_from_slice(decoded)).ok()?;
    Some(plain)
}

/// What is read of a whole answer, of an event, and of the message in it.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

impl<'a> Named<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        // A list would be read as an object's members in their order.
        let is_object = text.trim_ascii_start().starts_with(b"{");
        serde_json::from_slice(text).ok().filter(|_| is_object)
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|value| value.get() == kind)
    }

    /// The place of the model's name, with its quotes, in the text that this was read from.
    fn place(&self, text: &[u8]) -> Option<Range<usize>> {
        let name = self.model?.get();
        place_in(text, name).filter(|_| name.starts_with('"'))
    }
}

fn renamed_whole(body: &[u8], requested: &str) -> Option<Bytes> {
    let named = Named::read(body)?;
    let place = named.place(body).filter(|_| named.is(r#""message""#))?;
    Some(replaced(body, place, &quote(requested)).into())
}

fn replaced(text: &[u8], place: Range<usize>, name: &str) -> Vec<u8> {
    let (before, after) = (text.get(..place.start), text.get(place.end..));
    [before.unwrap_or_default(), name.as_bytes(), after.unwrap_or_default()].concat()
}

/// A stream whose start is renamed.
struct Renaming {
    body: Body,
    decoder: Option<Decoder>,
    /// None once the start has passed.
    start: Option<Start>,
    /// What comes after the bytes that were held back: the error, or the clean end.
    end: Option<Option<BodyError>>,
}

impl Renaming {
    fn next(&mut self, bytes: Bytes) -> Result<Bytes, BodyError> {
        let plain = match &mut self.decoder {
            None => bytes,
            Some(decoder) => {
                let mut plain = Bytes::new();
                let decoded = decoder.feed(&bytes, |bytes| plain = Bytes::copy_from_slice(bytes));
                decoded.map_err(|_| BodyError::UpstreamMalformed)?;
                plain
            }
        };
        let Some(start) = &mut self.start else { return Ok(plain) };
        let passed = start.feed(&plain);
        if start.is_over {
            self.start = None;
        }
        Ok(passed.into())
    }

    /// The end of the stream, once what is held back of it has passed.
    fn ends(&mut self, end: Option<BodyError>) -> Option<Result<Bytes, BodyError>> {
        let held = self.start.take().map(|start| start.event).unwrap_or_default();
        if held.is_empty() {
            return end.map(Err);
        }
        self.end = Some(end);
        Some(Ok(held.into()))
    }
}

impl Chunks for Renaming {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(end) = self.end {
            return Poll::Ready(end.map(Err));
        }
        loop {
            let next = match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(bytes)) => self.next(bytes),
                Some(Err(error)) => return Poll::Ready(self.ends(Some(error))),
                None => return Poll::Ready(self.ends(None)),
            };
            match next {
                Ok(bytes) if bytes.is_empty() => {}
                next => return Poll::Ready(Some(next)),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

/// The start of a stream: events are held until they end, and `message_start` is changed.
struct Start {
    /// The name to put in, with quotes.
    name: String,
    /// The bytes of the event that has not ended.
    event: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    /// Whether the last byte was a carriage return, which a line feed may follow.
    after_return: bool,
    /// Whether nothing is looked for any more.
    is_over: bool,
}

impl Start {
    fn new(requested: &str) -> Self {
        Self { name: quote(requested), event: Vec::new(), line: 0, after_return: false, is_over: false }
    }

    /// Takes the next piece and returns what may pass.
    fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(piece.len());
        for (at, byte) in piece.iter().enumerate() {
            let ends_return = std::mem::take(&mut self.after_return) && *byte == b'\n';
            if ends_return && self.event.is_empty() {
                passed.push(*byte);
                continue;
            }
            self.event.push(*byte);
            if ends_return {
                self.line = self.event.len();
            } else if matches!(byte, b'\r' | b'\n') {
                self.after_return = *byte == b'\r';
                self.end_line(&mut passed);
            }
            self.is_over |= self.event.len() > MAX_EVENT;
            if self.is_over {
                passed.append(&mut self.event);
                passed.extend_from_slice(piece.get(at + 1..).unwrap_or_default());
                break;
            }
        }
        passed
    }

    fn end_line(&mut self, passed: &mut Vec<u8>) {
        let is_blank = self.event.len() == self.line + 1;
        self.line = self.event.len();
        if !is_blank {
            return;
        }
        let event = std::mem::take(&mut self.event);
        self.line = 0;
        match renamed_event(&event, &self.name) {
            Some(renamed) => {
                self.is_over = true;
                passed.extend_from_slice(&renamed);
            }
            None => passed.extend_from_slice(&event),
        }
    }
}

/// The event with another name of its model, if it is `message_start`.
fn renamed_event(event: &[u8], name: &str) -> Option<Vec<u8>> {
    let (mut data, mut lines) = (Vec::new(), Vec::new());
    for line in lines_of(event) {
        let text = event.get(line.clone()).unwrap_or_default();
        let value = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let Some(value) = value.strip_prefix(b"data:") else { continue };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if !lines.is_empty() {
            data.push(b'\n');
        }
        lines.push((data.len(), line.end - value.len()));
        data.extend_from_slice(value);
    }
    let told = Named::read(&data)?;
    let message = Named::read(told.message?.get().as_bytes())?;
    let place = message.place(&data).filter(|_| told.is(r#""message_start""#))?;
    // A string has no line end in it, so that it lies in one line.
    let (of_data, of_event) = lines.into_iter().rfind(|(of_data, _)| *of_data <= place.start)?;
    let start = place.start - of_data + of_event;
    Some(replaced(event, start..start + place.len(), name))
}

/// The lines of an event, without their ends.
fn lines_of(event: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = event.get(at..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let line = at..at + length;
        let is_pair = rest.get(length..length + 2) == Some(b"\r\n".as_slice());
        at = line.end + if is_pair { 2 } else { 1 };
        Some(line)
    })
}

#[cfg(test)]
mod tests;
