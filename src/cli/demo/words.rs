//! A body that arrives piece by piece, as a language model writes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::net::BodyError;

/// About twenty words a second: fast enough to read along, slow enough to see each one arrive.
const PACE: Duration = Duration::from_millis(50);

/// Yields one piece per tick, the first at once. Dropping it ends the stream; nothing runs in the background.
pub(super) struct Words {
    pieces: std::vec::IntoIter<String>,
    pace: Interval,
}

impl Words {
    pub(super) fn new(pieces: Vec<String>) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { pieces: pieces.into_iter(), pace }
    }
}

impl Stream for Words {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pieces.as_slice().is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.pace.poll_tick(context));
        Poll::Ready(self.pieces.next().map(|piece| Ok(Bytes::from(piece))))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, time::Duration};

    use futures_core::Stream as _;
    use tokio::time::Instant;

    use super::{PACE, Words};

    #[tokio::test(start_paused = true)]
    async fn the_first_piece_comes_at_once_and_the_rest_at_the_pace() {
        let started = Instant::now();
        let mut words = Words::new(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]);

        let mut arrivals = Vec::new();
        while poll_fn(|context| Pin::new(&mut words).poll_next(context)).await.is_some() {
            arrivals.push(started.elapsed());
        }

        assert_eq!(arrivals, [Duration::ZERO, PACE, PACE * 2]);
    }
}
