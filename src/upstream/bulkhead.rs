//! A bound on what is in flight to an upstream or from a route, with a short bounded queue before it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::Error;

/// A bound on calls in flight.
pub struct Bulkhead {
    places: Arc<Semaphore>,
    size: usize,
    waiting: AtomicUsize,
    queue: usize,
    wait: Duration,
}

/// A place in the bulkhead; dropping it frees the place.
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Bulkhead {
    /// `size` calls in flight, `queue` more waiting for at most `wait`.
    #[must_use]
    pub fn new(size: u32, queue: u32, wait: Duration) -> Self {
        let size = size as usize;
        Self {
            places: Arc::new(Semaphore::new(size)),
            size,
            waiting: AtomicUsize::new(0),
            queue: queue as usize,
            wait,
        }
    }

    /// Takes a place that is free now.
    ///
    /// # Errors
    /// [`Error::Overload`] when none is.
    pub fn try_enter(&self) -> Result<Place, Error> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Overload)?;
        Ok(Place { _permit: permit })
    }

    /// Takes a place, waiting in the queue if it must. The time of the wait is added to `waited`.
    ///
    /// # Errors
    /// [`Error::Overload`] when the queue is full or the wait too long.
    pub async fn enter(&self, waited: &mut Duration) -> Result<Place, Error> {
        if let Ok(place) = self.try_enter() {
            return Ok(place);
        }
        let start = Instant::now();
        let entered = self.queue_up().await;
        *waited += start.elapsed();
        entered
    }

    async fn queue_up(&self) -> Result<Place, Error> {
        let _waiting = Waiting::join(&self.waiting, self.queue).ok_or(Error::Overload)?;
        match tokio::time::timeout(self.wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(Error::Overload),
        }
    }

    /// Calls in flight now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.size - self.places.available_permits()
    }

    /// Calls waiting for a place now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts a waiter while it waits, also when its future is dropped.
struct Waiting<'a> {
    waiting: &'a AtomicUsize,
}

impl<'a> Waiting<'a> {
    fn join(waiting: &'a AtomicUsize, bound: usize) -> Option<Self> {
        let joined = Self { waiting };
        // The guard exists already, so a refusal also takes the count back.
        if waiting.fetch_add(1, Ordering::AcqRel) >= bound { None } else { Some(joined) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{Bulkhead, Error};
    use crate::net::drain::Drain;

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let bulkhead = Arc::new(Bulkhead::new(1, 1, Duration::from_secs(1)));
        let place = bulkhead.enter(&mut Duration::default()).await.unwrap();
        let first = Drain::new().spawn({
            let bulkhead = Arc::clone(&bulkhead);
            async move { bulkhead.enter(&mut Duration::default()).await.is_ok() }
        });
        tokio::task::yield_now().await;

        assert!(matches!(bulkhead.enter(&mut Duration::default()).await, Err(Error::Overload)));
        assert_eq!(bulkhead.waiting(), 1);
        drop(place);
        assert!(first.await.unwrap());

        let _place = bulkhead.enter(&mut Duration::default()).await.unwrap();
        assert!(matches!(bulkhead.enter(&mut Duration::default()).await, Err(Error::Overload)));
        assert_eq!((bulkhead.waiting(), bulkhead.in_flight()), (0, 1));
    }
}
