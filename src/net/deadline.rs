//! A deadline that costs nothing to move into the future.
//!
//! Arming a timer takes a lock on the runtime's wheel. A busy keep-alive connection would do that several times per
//! request for timers that never fire. So one timer per connection is armed once and left alone while its deadline only
//! moves away; when it fires too early it is armed anew for the time that is left.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A movable deadline of one task.
#[derive(Default)]
pub struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Option<Instant>,
}

impl Deadline {
    /// Sets the time at which [`Deadline::poll`] becomes ready.
    pub const fn set(&mut self, at: Instant) {
        self.at = Some(at);
    }

    /// Takes the deadline away.
    pub const fn clear(&mut self) {
        self.at = None;
    }

    /// True while a deadline is set.
    pub const fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Ready once the deadline has passed; pending while none is set.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < sleep.deadline() {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::Instant;

    use super::Deadline;

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_last_time_that_was_set() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(start + Duration::from_secs(5));
        let _ = futures_poll_once(&mut deadline).await;
        deadline.set(start + Duration::from_secs(60));

        poll_fn(|cx| deadline.poll(cx)).await;

        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn fires_early_when_it_is_moved_nearer() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(start + Duration::from_secs(60));
        let _ = futures_poll_once(&mut deadline).await;
        deadline.set(start + Duration::from_secs(5));

        poll_fn(|cx| deadline.poll(cx)).await;

        assert_eq!(start.elapsed().as_secs(), 5);
    }

    async fn futures_poll_once(deadline: &mut Deadline) -> bool {
        poll_fn(|cx| std::task::Poll::Ready(deadline.poll(cx).is_ready())).await
    }
}
