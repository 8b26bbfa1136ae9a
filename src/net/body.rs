//! The one body type of all planes, in both directions.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
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
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
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
        Self::Stream(Box::pin(Chunks { chunks: Box::pin(chunks) }))
    }

    /// A body from any `http_body` implementation.
    pub fn from_body(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }

    /// The number of bytes to come, where it is known exactly.
    #[must_use]
    pub fn exact_len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(body) => body.size_hint().exact(),
        }
    }

    /// True when no byte will come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
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
            Self::Stream(body) => loop {
                match std::task::ready!(body.as_mut().poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data()
                            && !data.is_empty()
                        {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                }
            },
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
        match self {
            Self::Stream(body) => body.size_hint(),
            _ => self.exact_len().map_or_else(SizeHint::new, SizeHint::with_exact),
        }
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

/// Gives a stream of chunks the shape of a body.
struct Chunks {
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>,
}

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.chunks.as_mut().poll_next(cx).map_ok(Frame::data)
    }
}
