//! An answer that is held back until it is known what becomes of it: its beginning, and what is to follow.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::net::{Body, BodyError, Chunks};

/// What follows what was held.
pub(super) enum Rest {
    /// Nothing: all of it is there.
    End,
    /// More than may be held.
    More(Body),
    /// It broke off.
    Broken(BodyError),
}

/// Reads a body to its end, or until more than `most` bytes have come.
pub(super) async fn hold(mut body: Body, most: usize) -> (Bytes, Rest) {
    let mut all = BytesMut::new();
    loop {
        match body.chunk().await {
            Some(Ok(bytes)) => all.extend_from_slice(&bytes),
            Some(Err(error)) => return (all.freeze(), Rest::Broken(error)),
            None => return (all.freeze(), Rest::End),
        }
        if all.len() > most {
            return (all.freeze(), Rest::More(body));
        }
    }
}

/// The body as it came.
pub(super) fn join(part: Bytes, rest: Rest) -> Body {
    match rest {
        Rest::End => Body::full(part),
        Rest::More(body) => Body::of(Joined { part: Some(part), rest: Ok(body) }),
        Rest::Broken(error) => Body::of(Joined { part: Some(part), rest: Err(error) }),
    }
}

/// A body whose beginning was read: more may follow, or what broke it off.
struct Joined {
    part: Option<Bytes>,
    rest: Result<Body, BodyError>,
}

impl Chunks for Joined {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(part) = self.part.take().filter(|part| !part.is_empty()) {
            return Poll::Ready(Some(Ok(part)));
        }
        match &mut self.rest {
            Ok(rest) => rest.poll_chunk(cx),
            Err(error) => Poll::Ready(Some(Err(*error))),
        }
    }

    fn exact_len(&self) -> Option<u64> {
        let part = self.part.as_ref().map_or(0, |part| part.len() as u64);
        self.rest.as_ref().ok()?.exact_len().map(|rest| rest + part)
    }
}
