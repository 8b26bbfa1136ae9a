//! A request body on its way in: framing, limits and pace, read from the socket only as fast as it is polled.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Limits,
    chunk::{Decoded, Decoder},
    framing::Framing,
    write,
};
use crate::net::{
    BodyError, Chunks, InterimSink,
    buffers::Buffers,
    deadline::Deadline,
    wire::{Io, Wire},
};

/// A client's connection as the request's body and the connection's own task share it. Both run in one task, so the lock
/// is never contended; it is there because the body may be handed to another task.
pub(super) struct Shared<I> {
    pub(super) wire: Wire<I>,
    pub(super) body: BodyState,
    /// Body octets received for the current request.
    pub(super) received: u64,
    /// True while the body waits for the socket: the connection then need not watch it.
    pub(super) is_reading: bool,
    /// True when the client waits for `100 Continue` before it sends its body.
    pub(super) expects_continue: bool,
    /// Interim answers still allowed for the current request.
    pub(super) interim_left: u32,
    pace: Pace,
    pub(super) limits: Arc<Limits>,
}

/// Where in the current request's body the connection stands.
#[derive(Debug)]
pub(super) enum BodyState {
    /// Before, between or behind bodies.
    Done,
    /// This many octets are left.
    Length(u64),
    /// Chunks are left.
    Chunked(Decoder),
    /// It ended before its end; the connection cannot be used again.
    Failed(BodyError),
}

/// How long the body was waited for, so that a slow reader of ours is not held against the client.
#[derive(Default)]
struct Pace {
    waited: std::time::Duration,
    since: Option<Instant>,
    deadline: Deadline,
}

impl<I: Io> Shared<I> {
    pub(super) fn new(io: I, limits: Arc<Limits>, buffers: Arc<Buffers>) -> Self {
        Self {
            wire: Wire::new(io, BytesMut::new(), buffers),
            body: BodyState::Done,
            received: 0,
            is_reading: false,
            expects_continue: false,
            interim_left: 0,
            pace: Pace::default(),
            limits,
        }
    }

    /// Begins the body of a new request.
    pub(super) fn begin(&mut self, framing: Framing, expects_continue: bool) {
        self.body = match framing {
            Framing::None | Framing::Close => BodyState::Done,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::Chunked(Decoder::new(&self.limits)),
        };
        self.received = 0;
        self.is_reading = false;
        self.expects_continue = expects_continue && !matches!(self.body, BodyState::Done);
        self.interim_left = self.limits.interim;
        self.pace.waited = std::time::Duration::ZERO;
        self.pace.since = None;
        self.pace.deadline.clear();
    }

    /// Polls for the next piece of the current body; `None` is its clean end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let step = match &mut self.body {
                BodyState::Done => return Poll::Ready(None),
                BodyState::Failed(error) => return Poll::Ready(Some(Err(*error))),
                BodyState::Length(left) => {
                    let ready = usize::try_from(*left).unwrap_or(usize::MAX).min(self.wire.buffer.len());
                    if ready == 0 {
                        Decoded::More(*left)
                    } else {
                        *left -= ready as u64;
                        let data = self.wire.buffer.split_to(ready).freeze();
                        if *left == 0 {
                            self.body = BodyState::Done;
                        }
                        Decoded::Data(data)
                    }
                }
                BodyState::Chunked(decoder) => match decoder.decode(&mut self.wire.buffer, &self.limits) {
                    Ok(step) => step,
                    Err(_) => return Poll::Ready(Some(Err(self.fail(BodyError::Malformed)))),
                },
            };
            match step {
                Decoded::Data(data) => {
                    self.received += data.len() as u64;
                    self.settle();
                    return Poll::Ready(Some(Ok(data)));
                }
                Decoded::End => {
                    self.body = BodyState::Done;
                    self.settle();
                    return Poll::Ready(None);
                }
                Decoded::More(expected) => {
                    if let Err(error) = ready!(self.poll_more(cx, expected)) {
                        return Poll::Ready(Some(Err(self.fail(error))));
                    }
                }
            }
        }
    }

    /// Waits for more bytes of the body, no longer than its limits allow.
    fn poll_more(&mut self, cx: &mut Context<'_>, expected: u64) -> Poll<Result<(), BodyError>> {
        if std::mem::take(&mut self.expects_continue) {
            self.wire.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if self.wire.pending() > 0 && self.poll_flush(cx).is_err() {
            return Poll::Ready(Err(BodyError::ClientGone));
        }
        match self.wire.poll_fill(cx, expected) {
            Poll::Ready(Ok(read)) if read > 0 => {
                self.is_reading = false;
                if let Some(since) = self.pace.since.take() {
                    self.pace.waited += since.elapsed();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => Poll::Ready(Err(BodyError::ClientGone)),
            Poll::Pending => {
                self.is_reading = true;
                let now = Instant::now();
                if self.pace.since.is_none() {
                    self.pace.since = Some(now);
                    self.pace.deadline.set(now + self.patience());
                }
                self.pace.deadline.poll(cx).map(|()| Err(BodyError::TooSlow))
            }
        }
    }

    /// How long the next byte is waited for: the idle limit, or less when the rate is then under its limit.
    fn patience(&self) -> std::time::Duration {
        let allowed = self.received.checked_div(self.limits.body_rate).map(std::time::Duration::from_secs);
        let by_rate =
            allowed.map(|time| time.max(self.limits.body_rate_after).saturating_sub(self.pace.waited));
        by_rate.map_or(self.limits.body_idle, |time| time.min(self.limits.body_idle))
    }

    fn settle(&mut self) {
        self.is_reading = false;
        self.pace.deadline.clear();
    }

    pub(super) fn fail(&mut self, error: BodyError) -> BodyError {
        self.settle();
        self.body = BodyState::Failed(error);
        error
    }

    /// Writes what is queued as far as the socket takes it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.wire.poll_flush(cx, &mut false) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }
}

impl<I: Io> InterimSink for Mutex<Shared<I>> {
    fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        let mut shared = self.lock();
        // `100 Continue` is ours to say, and only to a client that asked for it.
        if status == StatusCode::CONTINUE || shared.interim_left == 0 {
            return;
        }
        shared.interim_left -= 1;
        write::interim_head(shared.wire.out(), status, headers);
    }
}

/// The body of the request that a connection is serving.
pub(super) struct Incoming<I> {
    pub(super) shared: Arc<Mutex<Shared<I>>>,
    pub(super) length: Option<u64>,
}

impl<I: Io> Chunks for Incoming<I> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.shared.lock().poll_body(cx)
    }

    fn exact_len(&self) -> Option<u64> {
        self.length
    }

    fn is_empty(&self) -> bool {
        matches!(self.shared.lock().body, BodyState::Done)
    }
}
