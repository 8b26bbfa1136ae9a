//! Shutdown in phases, and the only place that spawns tasks.
//!
//! `Running` -> `Draining` (every answer asks the client to leave, new connections are still taken) -> `Closing` (accept
//! has stopped, idle connections close, what is in flight may finish) -> `Cutting` (what is left says goodbye) -> the
//! process ends. A process that another one takes over from goes through `Shut` before `Closing`: accept has stopped, but
//! open connections are still asked to leave. Tasks are counted, so that the end can wait for them.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, task::JoinHandle};

/// How far shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Serving.
    Running = 0,
    /// Serving, and asking clients to leave.
    Draining = 1,
    /// Serving the connections that are open, and asking their clients to leave: new ones go to another process.
    Shut = 2,
    /// Finishing what is in flight.
    Closing = 3,
    /// Waiting for nothing but the last word to a client.
    Cutting = 4,
}

/// A handle on the shutdown of the process; clones share it.
#[derive(Clone, Default)]
pub struct Drain {
    shared: Arc<Shared>,
    /// The end of what belongs to one configuration, where this is a handle of such.
    term: Option<Arc<Term>>,
}

#[derive(Default)]
struct Term {
    is_over: AtomicBool,
    over: Notify,
}

#[derive(Default)]
struct Shared {
    phase: AtomicU8,
    /// One for each phase, so that who waits for the second is not used up by the first.
    draining: Notify,
    shut: Notify,
    closing: Notify,
    cutting: Notify,
    tasks: AtomicUsize,
    /// Tasks that were ever spawned.
    begun: AtomicU64,
    finished: Notify,
}

impl Drain {
    /// A drain in phase `Running`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle for tasks that may have to end before the process does: with [`Drain::end_term`] every phase is reached for
    /// those that wait for one by this handle. The phase itself stays that of the process.
    #[must_use]
    pub fn with_term(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), term: Some(Arc::default()) }
    }

    /// Ends the tasks of a handle from [`Drain::with_term`].
    pub fn end_term(&self) {
        if let Some(term) = &self.term {
            term.is_over.store(true, Ordering::Release);
            term.over.notify_waiters();
        }
    }

    /// Spawns a task that shutdown waits for. Dropping the handle does not stop the task.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let counted = Counted::new(Arc::clone(&self.shared));
        // Boxed: an async block that awaits what it captured has room for it twice, and connections are tasks.
        let future = Box::pin(future);
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        tokio::spawn(async move {
            let _counted = counted;
            future.await
        })
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// True once shutdown has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Running
    }

    /// True once only requests in flight are finished.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase() >= Phase::Closing
    }

    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.shared.phase.fetch_max(phase as u8, Ordering::AcqRel);
        let phases = [Phase::Draining, Phase::Shut, Phase::Closing, Phase::Cutting];
        for reached in phases.into_iter().filter(|reached| *reached <= phase) {
            self.shared.notify(reached).notify_waiters();
        }
    }

    /// Ready once `phase` is reached. The future may be polled once and then left alone: its task is woken.
    pub fn reached(&self, phase: Phase) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        let drain = self.clone();
        Box::pin(async move {
            match &drain.term {
                None => drain.shared.reached(phase).await,
                Some(term) => tokio::select! {
                    () = drain.shared.reached(phase) => {}
                    () = term.ended() => {}
                },
            }
        })
    }

    /// How many spawned tasks are alive.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.shared.tasks.load(Ordering::Acquire)
    }

    /// How many tasks were spawned so far. It tells of those, too, that came and went between two looks.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.shared.begun.load(Ordering::Acquire)
    }

    /// Ready once no spawned task is alive.
    pub async fn finished(&self) {
        until(&self.shared.finished, || self.tasks() == 0).await;
    }
}

impl Shared {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            2 => Phase::Shut,
            3 => Phase::Closing,
            _ => Phase::Cutting,
        }
    }

    async fn reached(&self, phase: Phase) {
        until(self.notify(phase), || self.phase() >= phase).await;
    }

    const fn notify(&self, phase: Phase) -> &Notify {
        match phase {
            Phase::Running | Phase::Draining => &self.draining,
            Phase::Shut => &self.shut,
            Phase::Closing => &self.closing,
            Phase::Cutting => &self.cutting,
        }
    }
}

impl Term {
    async fn ended(&self) {
        until(&self.over, || self.is_over.load(Ordering::Acquire)).await;
    }
}

/// Waits until something is so, which each change of it tells.
async fn until(changes: &Notify, is_so: impl Fn() -> bool) {
    loop {
        let mut changed = std::pin::pin!(changes.notified());
        changed.as_mut().enable();
        if is_so() {
            return;
        }
        changed.await;
    }
}

/// Counts a task while it lives, also when it panics or is dropped unrun.
struct Counted {
    shared: Arc<Shared>,
}

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.tasks.fetch_add(1, Ordering::AcqRel);
        shared.begun.fetch_add(1, Ordering::AcqRel);
        Self { shared }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.shared.tasks.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.finished.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Drain, Phase};

    #[tokio::test]
    async fn shutdown_waits_for_spawned_tasks_even_when_they_panic() {
        let drain = Drain::new();
        let (tx, rx) = tokio::sync::oneshot::channel::<()>();
        let good = drain.spawn(async move { rx.await.is_ok() });
        let bad = drain.spawn(async { panic!("on purpose") });

        assert!(bad.await.is_err());
        assert_eq!(drain.tasks(), 1);
        tx.send(()).unwrap();
        drain.finished().await;

        assert!(good.await.unwrap());
        assert_eq!(drain.begun(), 2, "also of those that are gone");
    }

    #[tokio::test]
    async fn phases_only_move_on_and_wake_who_waits() {
        let drain = Drain::new();
        let closing = drain.spawn(drain.reached(Phase::Closing));

        drain.advance(Phase::Closing);
        drain.advance(Phase::Draining);
        closing.await.unwrap();

        assert!(drain.is_closing());
    }

    #[tokio::test]
    async fn a_term_ends_its_own_tasks_and_nothing_else() {
        let drain = Drain::new();
        let term = drain.with_term();
        let lasting = drain.spawn(drain.reached(Phase::Closing));
        let passing = term.spawn(term.reached(Phase::Closing));
        assert_eq!(drain.tasks(), 2);

        term.end_term();
        passing.await.unwrap();

        assert!(!drain.is_draining() && !term.is_draining() && !lasting.is_finished());
        term.reached(Phase::Closing).await;
        drain.advance(Phase::Closing);
        lasting.await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_is_shut_still_serves_and_one_that_closes_is_shut_too() {
        let (handed_over, ended) = (Drain::new(), Drain::new());

        handed_over.advance(Phase::Shut);
        ended.advance(Phase::Closing);

        handed_over.reached(Phase::Shut).await;
        ended.reached(Phase::Shut).await;
        assert!(handed_over.is_draining() && !handed_over.is_closing());
    }
}
