//! The answer on its way to the client: byte for byte as it comes, watched on the side.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, header};

use super::{
    books::Books,
    decode::Coding,
    error,
    usage::{AnswerKind, Seen, Watcher},
};
use crate::{
    net::{Body, BodyError, Chunks},
    telemetry::record::Outcome,
};

/// A body that passes. Dropping it, whether it ended or not, tells the books what was seen.
pub(super) struct Relay {
    body: Body,
    watcher: Option<Watcher>,
    books: Books,
    is_stream: bool,
    is_over: bool,
}

impl Relay {
    pub(super) fn new(body: Body, headers: &HeaderMap, books: Books) -> Self {
        let is_stream = is_event_stream(headers);
        let kind = if is_stream { AnswerKind::Stream } else { AnswerKind::Whole };
        let coding = Coding::of(headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes));
        let watcher = Some(Watcher::new(kind, coding));
        Self { body, watcher, books, is_stream, is_over: false }
    }

    /// Whether words or calls of tools have come in the stream.
    pub(super) fn has_content(&self) -> bool {
        self.watcher.as_ref().is_some_and(Watcher::has_content)
    }

    /// Whether the answer cannot be followed.
    pub(super) fn is_lost(&self) -> bool {
        self.watcher.as_ref().is_none_or(Watcher::is_lost)
    }

    /// Whether the stream came to its end.
    pub(super) fn is_ended(&self) -> bool {
        self.watcher.as_ref().is_some_and(Watcher::is_ended)
    }

    /// What was seen of an answer that is not read any further. It is for the caller to tell the books.
    pub(super) fn close(mut self) -> Seen {
        self.watcher.take().map(Watcher::finish).unwrap_or_default()
    }

    /// The end of an answer that the API has cut. Between two events a stream can still say so itself; anywhere else only
    /// an abort is honest.
    fn cut(&mut self, error: BodyError) -> Option<Result<Bytes, BodyError>> {
        self.is_over = true;
        let watcher = self.watcher.as_ref();
        if watcher.is_some_and(Watcher::is_ended) {
            return None;
        }
        self.books.note(|call| call.outcome = Outcome::UpstreamAbort);
        let may_speak =
            self.is_stream && self.body.exact_len().is_none() && watcher.is_some_and(Watcher::is_at_border);
        Some(if may_speak { Ok(error::cut_event()) } else { Err(error) })
    }
}

impl Chunks for Relay {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        Poll::Ready(match std::task::ready!(self.body.poll_chunk(cx)) {
            Some(Ok(bytes)) => {
                self.books.first_byte();
                if let Some(watcher) = &mut self.watcher {
                    watcher.feed(&bytes);
                }
                Some(Ok(bytes))
            }
            Some(Err(error)) => self.cut(error),
            None => {
                self.is_over = true;
                None
            }
        })
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            self.books.seen(watcher.finish());
        }
    }
}

/// Whether an answer is a stream of events.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&[][..], http::HeaderValue::as_bytes);
    kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}
