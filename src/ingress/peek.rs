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

/// Room for bodies. Clones share it.
#[derive(Clone)]
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
    use std::{
        collections::VecDeque,
        sync::Arc,
        task::{Context, Poll},
    };

    use bytes::{Bytes, BytesMut};
    use parking_lot::Mutex;
    use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};

    use super::{Copied, Copy, MEMORY, MOST, Peek, Room};
    use crate::net::{Body, BodyError, Chunks};

    /// A body whose chunks are known beforehand.
    struct Script(VecDeque<Result<Bytes, BodyError>>);

    impl Chunks for Script {
        fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    /// Sends the first `reads` chunks of a body that is copied; the copy, and what was sent.
    fn send(chunks: Vec<Result<Bytes, BodyError>>, reads: usize) -> (Option<Bytes>, Vec<u8>) {
        let room = Room::default().take(None).unwrap();
        let copy = Copy { bytes: BytesMut::new(), is_whole: false, _room: room };
        let copy = Arc::new(Mutex::new(copy));
        let mut body = Copied { body: Body::of(Script(chunks.into())), copy: Some(Arc::clone(&copy)) };
        let (mut cx, mut sent) = (Context::from_waker(std::task::Waker::noop()), Vec::new());
        for _ in 0..reads {
            if let Poll::Ready(Some(Ok(data))) = body.poll_chunk(&mut cx) {
                sent.extend_from_slice(&data);
            }
        }
        (Peek::Sent(copy).whole(), sent)
    }

    #[test]
    fn only_a_body_that_was_sent_to_its_end_and_is_not_too_long_is_known() {
        let whole = |chunks: Vec<_>, reads| send(chunks, reads).0.map(|bytes| bytes.len());
        let chunk = |length| Ok(Bytes::from(vec![b'x'; length]));

        assert_eq!(whole(vec![chunk(3), chunk(4)], 3), Some(7));
        assert_eq!(whole(vec![chunk(3), chunk(4)], 2), None);
        assert_eq!(whole(vec![], 1), Some(0));
        assert_eq!(whole(vec![], 0), None);
        assert_eq!(whole(vec![chunk(MOST)], 2), Some(MOST));
        assert_eq!(whole(vec![chunk(MOST), chunk(1)], 3), None);
        assert_eq!(whole(vec![chunk(3), Err(BodyError::ClientGone)], 3), None);
    }

    proptest! {
        #[test]
        fn the_copy_and_what_is_sent_are_the_body(chunks in vec(vec(any::<u8>(), 1..50), 0..8)) {
            let body = chunks.concat();
            let reads = chunks.len() + 1;

            let (copy, sent) = send(chunks.into_iter().map(|chunk| Ok(chunk.into())).collect(), reads);

            prop_assert_eq!(copy.as_deref(), Some(body.as_slice()));
            prop_assert_eq!(sent, body);
        }
    }

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
