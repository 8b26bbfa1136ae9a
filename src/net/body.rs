//! The one body type of all planes, in both directions.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// A message body: nothing, bytes at hand, or a stream of chunks. Trailers are never carried.
#[derive(Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes at hand.
    Full(Bytes),
    /// Bytes that arrive over time; back-pressure is the reader's pace of polling.
    Stream(Box<dyn Chunks>),
}

/// Where the bytes of a streamed body come from.
pub trait Chunks: Send {
    /// Polls for the next chunk, which is never empty; `None` is the clean end. Not polled again after an end or an error.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// The number of bytes to come, where it is known exactly.
    fn exact_len(&self) -> Option<u64> {
        None
    }

    /// True when it is known that no byte will come.
    fn is_empty(&self) -> bool {
        false
    }
}

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client closed the connection or reset the stream before the end of its body.
    #[error("the client left before the end of its body")]
    ClientGone,
    /// The client's body broke a rule of its framing.
    #[error("the client's body is malformed")]
    Malformed,
    /// The client's body is larger than the route allows.
    #[error("the client's body is over its limit")]
    TooLarge,
    /// The client sent its body too slowly.
    #[error("the client's body came too slowly")]
    TooSlow,
    /// The upstream closed before the end that it had announced.
    #[error("the upstream cut its body short")]
    UpstreamCut,
    /// The upstream's chunked framing is malformed.
    #[error("the upstream's body is malformed")]
    UpstreamMalformed,
    /// The upstream sent nothing for too long.
    #[error("the upstream stopped in the middle of its body")]
    UpstreamIdle,
}

impl Body {
    /// A body without bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Empty
    }

    /// A body of bytes at hand.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }

    /// A body from a stream of chunks, of unknown length.
    pub fn stream(chunks: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self::of(Streamed(Box::pin(chunks)))
    }

    /// A body of chunks.
    pub fn of(chunks: impl Chunks + 'static) -> Self {
        Self::Stream(Box::new(chunks))
    }

    /// The number of bytes to come, where it is known exactly.
    #[must_use]
    pub fn exact_len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(chunks) => chunks.exact_len(),
        }
    }

    /// True when no byte will come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(chunks) => chunks.is_empty(),
        }
    }

    /// Polls for the next chunk; `None` is the clean end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => {
                let Self::Full(bytes) = std::mem::take(self) else { return Poll::Ready(None) };
                Poll::Ready(Some(Ok(bytes)))
            }
            Self::Stream(chunks) => chunks.poll_chunk(cx),
        }
    }

    /// The next chunk; `None` is the clean end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Reads the body to its end, at most `limit` bytes.
    ///
    /// # Errors
    /// The body's own error, or [`BodyError::TooLarge`] over the limit.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let Some(first) = self.chunk().await.transpose()? else { return Ok(Bytes::new()) };
        let mut all = BytesMut::new();
        let mut chunk = Some(first);
        while let Some(data) = chunk {
            if all.len() + data.len() > limit {
                return Err(BodyError::TooLarge);
            }
            let next = self.chunk().await.transpose()?;
            if all.is_empty() && next.is_none() {
                return Ok(data);
            }
            all.extend_from_slice(&data);
            chunk = next;
        }
        Ok(all.freeze())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll_chunk(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact_len().map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exact_len() {
            Some(length) => write!(f, "Body({length} bytes)"),
            None => f.write_str("Body(stream)"),
        }
    }
}

/// A stream as a source of chunks.
struct Streamed<S>(Pin<Box<S>>);

impl<S: Stream<Item = Result<Bytes, BodyError>> + Send> Chunks for Streamed<S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match ready!(self.0.as_mut().poll_next(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                chunk => return Poll::Ready(chunk),
            }
        }
    }
}
