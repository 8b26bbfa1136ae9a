//! One answer on its way out: head, framing and body, as fast as the client reads and no faster.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, StatusCode, Version, response::Parts};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    chunk,
    framing::Framing,
    incoming::{BodyState, Shared},
    write::{self, ResponseLine},
};
use crate::net::{Body, BodyError, Done, Encoded, End, deadline::Deadline, wire::Io};

/// What is written before a body.
pub(super) struct Head<'a> {
    pub(super) parts: &'a Parts,
    pub(super) encoded: Option<&'a Encoded>,
    /// True when the connection closes after the answer.
    pub(super) close: bool,
}

/// Sends one answer.
pub(super) struct Sender {
    body: Body,
    framing: Framing,
    /// The length of a body that is at hand and not sent, as the request was a HEAD.
    described: Option<u64>,
    keeps_length: bool,
    /// Octets still owed under `Framing::Length`.
    owed: u64,
    sent: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// More of the body may come.
    Body,
    /// Enough is queued for one write; a chunk's line end must follow it.
    Tail,
    /// Everything is queued.
    Flush(End),
}

impl Sender {
    pub(super) fn new(body: Body, method: &Method, status: StatusCode, version: Version) -> Self {
        let has_no_body = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || *method == Method::HEAD;
        let length = body.exact_len();
        let framing = match length {
            _ if has_no_body => Framing::None,
            Some(length) => Framing::Length(length),
            None if version == Version::HTTP_10 => Framing::Close,
            None => Framing::Chunked,
        };
        let owed = if let Framing::Length(length) = framing { length } else { 0 };
        let state = if has_no_body || framing == Framing::Length(0) {
            State::Flush(End::Complete)
        } else {
            State::Body
        };
        let described = length.filter(|length| *method == Method::HEAD && *length > 0);
        let keeps_length = status == StatusCode::NOT_MODIFIED || *method == Method::HEAD;
        Self { body, framing, described, keeps_length, owed, sent: 0, state }
    }

    /// Queues the head, and with it a body that is at hand.
    pub(super) fn queue_head<I: Io>(
        &mut self,
        shared: &mut Shared<I>,
        head: &Head<'_>,
        done: &mut impl Done,
    ) {
        let line = ResponseLine {
            status: head.parts.status,
            framing: self.described.map_or(self.framing, Framing::Length),
            keeps_length: self.keeps_length && self.described.is_none(),
            close: head.close || self.framing == Framing::Close,
        };
        let out = shared.wire.out();
        write::response_fields(out, line, &head.parts.headers, head.encoded);
        done.fields(out);
        write::response_end(out, line);
        if self.state == State::Body && matches!(self.body, Body::Full(_)) {
            let Body::Full(data) = std::mem::take(&mut self.body) else { return };
            self.sent = data.len() as u64;
            self.owed = 0;
            shared.wire.queue(data);
            self.state = State::Flush(End::Complete);
        }
    }

    /// True when only the close ends the body.
    pub(super) fn is_close_delimited(&self) -> bool {
        self.framing == Framing::Close
    }

    /// Body bytes queued so far.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends on. The lock is not held while the body is polled, as the body may read the same connection.
    pub(super) fn poll<I: Io>(
        &mut self,
        shared: &Mutex<Shared<I>>,
        stall: &mut Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        loop {
            if self.state != State::Body {
                match poll_flush(&mut shared.lock(), stall, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(())) => return Poll::Ready(End::Client),
                    Poll::Pending => return Poll::Pending,
                }
                match self.state {
                    State::Flush(end) => return Poll::Ready(end),
                    State::Tail => {
                        if self.framing == Framing::Chunked {
                            shared.lock().wire.out().extend_from_slice(b"\r\n");
                        }
                        self.state = State::Body;
                    }
                    State::Body => {}
                }
            }
            let body = &mut self.body;
            let polled = catch_unwind(AssertUnwindSafe(|| body.poll_chunk(cx)))
                .unwrap_or(Poll::Ready(Some(Err(BodyError::UpstreamCut))));
            match polled {
                Poll::Ready(chunk) => self.queue(&mut shared.lock(), chunk),
                Poll::Pending => {
                    // Everything that is there goes out before waiting: an event stream lives from that.
                    return match poll_flush(&mut shared.lock(), stall, cx) {
                        Poll::Ready(Err(())) => Poll::Ready(End::Client),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn queue<I: Io>(&mut self, shared: &mut Shared<I>, chunk: Option<Result<Bytes, BodyError>>) {
        match chunk {
            Some(Ok(data)) => {
                let length = data.len() as u64;
                if let Framing::Length(_) = self.framing {
                    let Some(owed) = self.owed.checked_sub(length) else {
                        self.state = State::Flush(End::Body);
                        return;
                    };
                    self.owed = owed;
                }
                self.sent += length;
                if self.framing == Framing::Chunked {
                    chunk::write_size_line(shared.wire.out(), data.len());
                }
                shared.wire.queue(data);
                if shared.wire.must_flush() {
                    self.state = State::Tail;
                } else if self.framing == Framing::Chunked {
                    shared.wire.out().extend_from_slice(b"\r\n");
                }
            }
            Some(Err(_)) => self.state = State::Flush(End::Body),
            None if self.owed > 0 => self.state = State::Flush(End::Body),
            None => {
                if self.framing == Framing::Chunked {
                    shared.wire.out().extend_from_slice(b"0\r\n\r\n");
                }
                self.state = State::Flush(End::Complete);
            }
        }
    }
}

/// Writes what is queued; an error also when the client takes nothing for `write_stall`.
fn poll_flush<I: Io>(
    shared: &mut Shared<I>,
    stall: &mut Deadline,
    cx: &mut Context<'_>,
) -> Poll<Result<(), ()>> {
    let mut progressed = false;
    match shared.wire.poll_flush(cx, &mut progressed) {
        Poll::Ready(result) => {
            stall.clear();
            Poll::Ready(result.map_err(|_| ()))
        }
        Poll::Pending => {
            if progressed || !stall.is_set() {
                stall.set(Instant::now() + shared.limits.write_stall);
            }
            stall.poll(cx).map(|()| Err(()))
        }
    }
}

impl<I: Io> Shared<I> {
    /// Ready when the client has left. Bytes of later requests are read ahead, up to `bound`.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, bound: usize) -> Poll<()> {
        if self.wire.pending() > 0 && self.poll_flush(cx).is_err() {
            return Poll::Ready(());
        }
        // The body is waiting for the same socket, and will find out itself.
        if self.is_reading {
            return Poll::Pending;
        }
        while self.wire.buffer.len() < bound {
            match self.wire.poll_fill(cx, 0) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                Poll::Ready(_) => {
                    if !matches!(self.body, BodyState::Done) {
                        self.fail(BodyError::ClientGone);
                    }
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// True when the rest of the request's body is small enough to be read away, so that the connection can be kept.
    pub(super) const fn can_be_kept(&self, bound: u64) -> bool {
        match self.body {
            BodyState::Done => true,
            BodyState::Length(left) => left <= bound && !self.expects_continue,
            BodyState::Chunked(_) => !self.expects_continue,
            BodyState::Failed(_) => false,
        }
    }
}
