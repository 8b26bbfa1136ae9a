//! Bodies between hyper and the service, in both directions, and the count of their bytes.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::net::{Body, BodyError, Chunks, Done, End, Sent, deadline::Deadline};

/// How many bytes of a request's body were read; clones share the count. A request without a body has none.
#[derive(Clone, Default)]
pub(super) struct Received(Option<Arc<AtomicU64>>);

impl Received {
    /// A count that can be added to.
    pub(super) fn counting() -> Self {
        Self(Some(Arc::default()))
    }

    fn add(&self, bytes: usize) {
        if let Some(count) = &self.0 {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.as_ref().map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// A request body from hyper, held to the idle limit.
pub(super) struct Inbound {
    incoming: Incoming,
    received: Received,
    idle: Duration,
    deadline: Deadline,
}

impl Inbound {
    /// A body whose bytes are added to `received` as they are read.
    pub(super) fn new(incoming: Incoming, received: Received, idle: Duration) -> Self {
        Self { incoming, received, idle, deadline: Deadline::default() }
    }
}

impl Chunks for Inbound {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(BodyError::ClientGone))),
                Poll::Ready(Some(Ok(frame))) => {
                    self.deadline.clear();
                    // Trailers are dropped.
                    if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
                        self.received.add(data.len());
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Pending => {
                    if !self.deadline.is_set() {
                        let at = Instant::now() + self.idle;
                        self.deadline.set(at);
                    }
                    ready!(self.deadline.poll(cx));
                    return Poll::Ready(Some(Err(BodyError::TooSlow)));
                }
            }
        }
    }

    fn exact_len(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    fn is_empty(&self) -> bool {
        self.incoming.is_end_stream()
    }
}

/// An answer's body that tells [`Done`] how its sending ended; hyper drops it when the stream is over.
pub(super) struct Reported<D: Done> {
    body: Body,
    done: Option<D>,
    bytes: u64,
    received: Received,
    end: End,
}

impl<D: Done> Reported<D> {
    /// A body to be sent in answer to a request whose body is counted by `received`.
    pub(super) const fn new(body: Body, done: D, received: Received) -> Self {
        Self { body, done: Some(done), bytes: 0, received, end: End::Client }
    }
}

impl<D: Done> HttpBody for Reported<D> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| this.body.poll_chunk(cx)))
            .unwrap_or(Poll::Ready(Some(Err(BodyError::UpstreamCut))));
        let chunk = ready!(polled);
        match &chunk {
            Some(Ok(data)) => {
                this.bytes += data.len() as u64;
                if this.body.is_empty() {
                    this.end = End::Complete;
                }
            }
            Some(Err(_)) => this.end = End::Body,
            None => this.end = End::Complete,
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}

impl<D: Done> Drop for Reported<D> {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            // An empty body is never polled: hyper ends the stream with its head.
            let end = if self.bytes == 0 && self.body.is_empty() { End::Complete } else { self.end };
            done.sent(Sent { bytes: self.bytes, received: self.received.get(), end });
        }
    }
}
