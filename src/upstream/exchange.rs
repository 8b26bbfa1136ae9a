//! One request and its answer on one connection, in the task that asked for them.
//!
//! There is no task per connection and no channel: the request's own task writes and reads the socket. Dropping the
//! future, or the body it returns, drops the connection, and that is how a client that left cancels its call.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, header};
use tokio::time::Instant;

use super::{
    Error,
    client::{Head, Places},
    pool::{Connection, Pool},
};
use crate::net::{
    Body, BodyError, Chunks, InterimSink,
    h1::{
        Limits,
        chunk::{Decoded, Decoder, write_size_line},
        framing::{self, Framing},
        head::{self, ResponseHead},
        write,
    },
    headers::strip_hop_by_hop,
    wire::Io,
};
use crate::telemetry::UpstreamStats;

/// What an exchange needs beside its connection.
pub(super) struct Terms<'a> {
    pub(super) limits: &'a Arc<Limits>,
    pub(super) first_byte: Duration,
    pub(super) interim: Option<&'a Arc<dyn InterimSink>>,
    pub(super) stats: &'a UpstreamStats,
}

/// An answer's head, and the connection its body is still on.
pub(super) struct Answered {
    pub(super) head: ResponseHead,
    pub(super) framing: Framing,
    pub(super) connection: Box<Connection>,
    pub(super) upload: Upload,
}

/// A request body on its way out.
pub(super) struct Upload {
    body: Body,
    framing: Framing,
    /// Octets still owed under `Framing::Length`: one more would be read as the next request.
    owed: u64,
    is_done: bool,
    /// A chunk too large to copy was queued; its line end must follow it.
    owes_line_end: bool,
    has_moved: bool,
}

/// Why an upload stopped before its end.
enum UploadError {
    /// The upstream takes no more. It may have answered all the same.
    Upstream,
    /// The client's body failed.
    Client(BodyError),
}

impl Upload {
    /// Sends on, and tells whether that excuses the server for being silent.
    fn poll_noting(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Progress {
        let moved_before = std::mem::take(&mut self.has_moved);
        let polled = self.poll(connection, cx);
        let waits_for_client = !self.is_done && connection.wire.pending() == 0;
        let excuses_server = self.has_moved || waits_for_client;
        self.has_moved |= moved_before;
        Progress { polled, excuses_server }
    }

    fn new(body: Body) -> Self {
        let framing = match body.exact_len() {
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let is_done = framing == Framing::None;
        let owed = if let Framing::Length(length) = framing { length } else { 0 };
        Self { body, framing, owed, is_done, owes_line_end: false, has_moved: false }
    }

    /// Sends on as far as the body and the socket allow; ready when all is sent.
    fn poll(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        let wire = &mut connection.wire;
        loop {
            if self.is_done || self.owes_line_end || wire.must_flush() {
                ready!(wire.poll_flush(cx, &mut self.has_moved)).map_err(|_| UploadError::Upstream)?;
                if std::mem::take(&mut self.owes_line_end) {
                    wire.out().extend_from_slice(b"\r\n");
                }
                if self.is_done {
                    return Poll::Ready(Ok(()));
                }
            }
            match self.body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    let is_chunked = self.framing == Framing::Chunked;
                    if !is_chunked {
                        let Some(owed) = self.owed.checked_sub(data.len() as u64) else {
                            return Poll::Ready(Err(UploadError::Client(BodyError::Malformed)));
                        };
                        self.owed = owed;
                    }
                    if is_chunked {
                        write_size_line(wire.out(), data.len());
                    }
                    wire.queue(data);
                    if is_chunked {
                        if wire.must_flush() {
                            self.owes_line_end = true;
                        } else {
                            wire.out().extend_from_slice(b"\r\n");
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(UploadError::Client(error))),
                Poll::Ready(None) if self.owed > 0 => {
                    return Poll::Ready(Err(UploadError::Client(BodyError::ClientGone)));
                }
                Poll::Ready(None) => {
                    if self.framing == Framing::Chunked {
                        wire.out().extend_from_slice(b"0\r\n\r\n");
                    }
                    self.is_done = true;
                }
                Poll::Pending => {
                    ready!(wire.poll_flush(cx, &mut self.has_moved)).map_err(|_| UploadError::Upstream)?;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// How far one poll of an upload came.
struct Progress {
    polled: Poll<Result<(), UploadError>>,
    /// Bytes moved, or the client is waited for: either way the server is not late.
    excuses_server: bool,
}

/// Sends a request and waits for the head of its answer. Interim answers go to `terms.interim` on the way.
pub(super) async fn exchange(
    mut connection: Box<Connection>,
    request: Head<'_>,
    body: Body,
    terms: Terms<'_>,
) -> Result<Answered, Error> {
    let mut upload = Upload::new(body);
    let out = connection.wire.out();
    write::request_fields(out, request.method, request.uri, request.headers);
    if let Some(introduction) = request.introduction {
        introduction.introduce(request.headers, out);
    }
    write::request_end(out, request.method, upload.framing, request.headers.contains_key(header::UPGRADE));
    connection.deadline.set(Instant::now() + terms.first_byte);
    let mut waiting =
        Waiting { connection: &mut connection, upload: &mut upload, upload_failed: false, interims: 0 };
    let head = poll_fn(|cx| waiting.poll(request, &terms, cx)).await?;
    connection.deadline.clear();
    let framing = framing::of_response(request.method, head.status, head.version, &head.headers)
        .map_err(|framing::Ambiguous| Error::BadResponse)?;
    Ok(Answered { head, framing, connection, upload })
}

/// An exchange that waits for the head of its answer.
struct Waiting<'a> {
    connection: &'a mut Connection,
    upload: &'a mut Upload,
    /// The server takes no more of the request. It may have answered all the same, so the answer is still waited for.
    upload_failed: bool,
    interims: u32,
}

impl Waiting<'_> {
    fn poll(
        &mut self,
        request: Head<'_>,
        terms: &Terms<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Error>> {
        if !self.upload_failed && (!self.upload.is_done || self.connection.wire.pending() > 0) {
            let progress = self.upload.poll_noting(self.connection, cx);
            match progress.polled {
                Poll::Ready(Err(UploadError::Client(error))) => {
                    return Poll::Ready(Err(Error::RequestBody(error)));
                }
                Poll::Ready(Err(UploadError::Upstream)) => self.upload_failed = true,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if progress.excuses_server {
                self.connection.deadline.set(Instant::now() + terms.first_byte);
            }
        }
        loop {
            if let Some(head) = self.take_head(request, terms)? {
                return Poll::Ready(Ok(head));
            }
            match self.connection.wire.poll_fill(cx, 0) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Err(self.closed())),
                Poll::Pending => return self.connection.deadline.poll(cx).map(|()| Err(Error::Timeout)),
            }
        }
    }

    /// The final head, if it is there; interim ones are passed on.
    fn take_head(&mut self, request: Head<'_>, terms: &Terms<'_>) -> Result<Option<ResponseHead>, Error> {
        while !self.connection.wire.buffer.is_empty() {
            let taken = head::take_response(&mut self.connection.wire.buffer, terms.limits);
            let Some(mut head) = taken.map_err(|_| Error::BadResponse)? else { return Ok(None) };
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                let is_wanted =
                    request.headers.contains_key(header::UPGRADE) && head.version == Version::HTTP_11;
                return if is_wanted { Ok(Some(head)) } else { Err(Error::BadResponse) };
            }
            if !head.status.is_informational() {
                return Ok(Some(head));
            }
            self.interims += 1;
            if self.interims > terms.limits.interim {
                return Err(Error::BadResponse);
            }
            match terms.interim {
                Some(sink) => {
                    strip_hop_by_hop(&mut head.headers);
                    sink.interim(head.status, &head.headers);
                }
                None => terms.stats.interim_dropped.increment(),
            }
        }
        Ok(None)
    }

    fn closed(&self) -> Error {
        Error::Closed {
            is_reused: self.connection.is_reused,
            is_silent: self.connection.wire.buffer.is_empty() && self.interims == 0,
            is_unsent: !self.upload.has_moved,
        }
    }
}

/// Where an answer's body stands.
enum Left {
    Length(u64),
    Chunked(Decoder),
    Close,
    Nothing,
}

/// The body of an answer, read as fast as it is polled. At its clean end the connection goes back to the pool.
pub(super) struct Download {
    connection: Option<Box<Connection>>,
    pool: Arc<Pool>,
    upload: Upload,
    left: Left,
    keeps: bool,
    upload_failed: bool,
    limits: Arc<Limits>,
    /// Free as soon as the server is done, however slowly the client reads.
    places: Option<Places>,
}

impl Answered {
    /// True when the connection may serve again after this answer.
    fn keeps(&self) -> bool {
        let says_close = self.head.headers.get_all(header::CONNECTION).iter().any(|line| {
            line.as_bytes()
                .split(|byte| *byte == b',')
                .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"close"))
        });
        // A body announced for an answer that has none might be sent all the same.
        let is_honest = self.head.status != StatusCode::NO_CONTENT
            || !(self.head.headers.contains_key(header::TRANSFER_ENCODING)
                || self.head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0"));
        self.head.version == Version::HTTP_11 && !says_close && is_honest && self.framing != Framing::Close
    }

    /// The answer's fields and body. A body that was received whole is bytes at hand, and its connection is free at once.
    pub(super) fn into_parts(
        mut self,
        pool: &Arc<Pool>,
        limits: &Arc<Limits>,
        places: Places,
    ) -> (HeaderMap, Body) {
        let keeps = self.keeps();
        let headers = std::mem::take(&mut self.head.headers);
        let whole = match self.framing {
            Framing::None => Some(0),
            Framing::Length(length) => {
                usize::try_from(length).ok().filter(|length| *length <= self.connection.wire.buffer.len())
            }
            Framing::Chunked | Framing::Close => None,
        };
        if let Some(length) = whole
            && self.upload.is_done
            && self.connection.wire.pending() == 0
        {
            let data = self.connection.wire.buffer.split_to(length).freeze();
            if keeps {
                pool.put(self.connection);
            }
            return (headers, Body::full(data));
        }
        let left = match self.framing {
            Framing::None => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Decoder::new(limits)),
            Framing::Close => Left::Close,
        };
        let download = Download {
            connection: Some(self.connection),
            pool: Arc::clone(pool),
            upload: self.upload,
            left,
            keeps,
            upload_failed: false,
            limits: Arc::clone(limits),
            places: Some(places),
        };
        (headers, Body::of(download))
    }
}

impl Download {
    /// Ends the body. The connection is kept only when both directions are done and nothing more was received.
    fn finish(&mut self) {
        self.left = Left::Nothing;
        self.places = None;
        if let Some(connection) = self.connection.take()
            && self.keeps
            && self.upload.is_done
            && connection.wire.pending() == 0
        {
            self.pool.put(connection);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(connection) = self.connection.as_mut() else { return Poll::Ready(None) };
            if !self.upload_failed && (!self.upload.is_done || connection.wire.pending() > 0) {
                let progress = self.upload.poll_noting(connection, cx);
                if let Poll::Ready(Err(_)) = progress.polled {
                    // The answer is already on its way: what is left of the request no longer matters.
                    self.keeps = false;
                    self.upload_failed = true;
                }
                if progress.excuses_server {
                    connection.deadline.clear();
                }
            }
            let buffer = &mut connection.wire.buffer;
            let step = match &mut self.left {
                Left::Nothing => Decoded::End,
                Left::Length(left) => take_length(left, buffer),
                Left::Chunked(decoder) => match decoder.decode(buffer, &self.limits) {
                    Ok(step) => step,
                    Err(_) => return self.fail(BodyError::UpstreamMalformed),
                },
                Left::Close if buffer.is_empty() => Decoded::More(64 * 1024),
                Left::Close => Decoded::Data(buffer.split().freeze()),
            };
            match step {
                Decoded::Data(data) => {
                    connection.deadline.clear();
                    if matches!(self.left, Left::Length(0)) {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Decoded::End => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Decoded::More(expected) => match connection.wire.poll_fill(cx, expected) {
                    Poll::Ready(Ok(read)) if read > 0 => {}
                    Poll::Ready(Ok(_)) if matches!(self.left, Left::Close) => {
                        self.finish();
                        return Poll::Ready(None);
                    }
                    Poll::Ready(_) => return self.fail(BodyError::UpstreamCut),
                    Poll::Pending => {
                        if !connection.deadline.is_set() {
                            connection.deadline.set(Instant::now() + self.limits.body_idle);
                        }
                        ready!(connection.deadline.poll(cx));
                        return self.fail(BodyError::UpstreamIdle);
                    }
                },
            }
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.connection = None;
        self.places = None;
        Poll::Ready(Some(Err(error)))
    }
}

fn take_length(left: &mut u64, buffer: &mut bytes::BytesMut) -> Decoded {
    if *left == 0 {
        return Decoded::End;
    }
    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    if take == 0 {
        return Decoded::More(*left);
    }
    *left -= take as u64;
    Decoded::Data(buffer.split_to(take).freeze())
}

impl Chunks for Download {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.poll(cx)
    }

    fn exact_len(&self) -> Option<u64> {
        match self.left {
            Left::Length(left) => Some(left),
            Left::Nothing => Some(0),
            Left::Chunked(_) | Left::Close => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.connection.is_none() || matches!(self.left, Left::Nothing)
    }
}

/// A stream after a 101, with what was read behind it.
pub(super) fn into_tunnel(connection: Box<Connection>) -> (Box<dyn Io>, bytes::BytesMut) {
    let (stream, ahead) = connection.wire.into_parts();
    (Box::new(stream), ahead)
}
