//! Copies of request bodies: how many there may be, and one that is made on the body's way to the backend.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::exchange::Exchange;
use crate::net::{Body, BodyError, Chunks};

/// The longest body that is copied or read ahead.
pub(super) const MOST: usize = 64 * 1024;

/// Bytes of bodies that are held at once. Without room a request is served as if its body could not be read.
const MEMORY: usize = 32 * 1024 * 1024;

/// Room for bodies.
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MEMORY)))
    }
}

impl Room {
    /// Room for a body of this length, or of an unknown one; none for one that is too long, or while there is none.
    pub(super) fn take(&self, length: Option<u64>) -> Option<OwnedSemaphorePermit> {
        let length = match length {
            Some(length) => usize::try_from(length).ok().filter(|length| *length <= MOST)?,
            None => MOST,
        };
        Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(length).ok()?).ok()
    }
}

/// What is known of a request body: nothing, all of it, or what has been sent so far.
#[derive(Default)]
pub(super) enum Peek {
    #[default]
    Nothing,
    Whole(Bytes),
    Sent(Arc<Mutex<Copy>>),
}

/// A copy in the making.
pub(super) struct Copy {
    bytes: BytesMut,
    is_whole: bool,
    _room: OwnedSemaphorePermit,
}

impl Peek {
    /// Looks into the body of a request. A body that is still to come is copied as it is sent: nothing waits for it.
    pub(super) fn begin(exchange: &mut Exchange) -> Self {
        if let Some(posted) = &exchange.posted {
            return Self::Whole(posted.bytes().clone());
        }
        match &exchange.body {
            Body::Empty => return Self::Nothing,
            Body::Full(data) if data.len() <= MOST => return Self::Whole(data.clone()),
            Body::Full(_) => return Self::Nothing,
            Body::Stream(_) => {}
        }
        let Some(room) = exchange.ingress().bodies.take(exchange.body.exact_len()) else {
            return Self::Nothing;
        };
        let copy = Copy { bytes: BytesMut::new(), is_whole: exchange.body.is_empty(), _room: room };
        let copy = Arc::new(Mutex::new(copy));
        let body = std::mem::take(&mut exchange.body);
        exchange.body = Body::of(Copied { body, copy: Some(Arc::clone(&copy)) });
        Self::Sent(copy)
    }

    /// The body, if it is known to its end.
    pub(super) fn whole(self) -> Option<Bytes> {
        match self {
            Self::Nothing => None,
            Self::Whole(bytes) => Some(bytes),
            Self::Sent(copy) => {
                let mut copy = copy.lock();
                copy.is_whole.then(|| std::mem::take(&mut copy.bytes).freeze())
            }
        }
    }
}

/// A body that is copied as it is read.
struct Copied {
    body: Body,
    /// None once there can be no copy.
    copy: Option<Arc<Mutex<Copy>>>,
}

impl Chunks for Copied {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = ready!(self.body.poll_chunk(cx));
        let Some(copy) = &self.copy else { return Poll::Ready(chunk) };
        let mut copy = copy.lock();
        match &chunk {
            Some(Ok(data)) if copy.bytes.len() + data.len() <= MOST => {
                copy.bytes.extend_from_slice(data);
                copy.is_whole = self.body.is_empty();
            }
            Some(_) => {
                copy.bytes = BytesMut::new();
                drop(copy);
                self.copy = None;
            }
            None => copy.is_whole = true,
        }
        Poll::Ready(chunk)
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{MEMORY, MOST, Room};

    #[test]
    fn room_is_bounded_and_comes_back() {
        let room = Room::default();
        let most = u64::try_from(MOST).unwrap();

        assert!(room.take(Some(most + 1)).is_none());
        assert!(room.take(Some(u64::MAX)).is_none());
        let mut taken: Vec<_> = (0..MEMORY / MOST).map(|_| room.take(None).unwrap()).collect();
        assert!(room.take(None).is_none());
        assert!(room.take(Some(1)).is_none());
        assert!(room.take(Some(0)).is_some());
        taken.pop();

        assert!(room.take(Some(most)).is_some());
    }
}
