//! What the tests share: a scripted backend, clients, the proxy itself, a fault proxy, and waiting with a deadline.

pub(crate) mod app;
pub(crate) mod backend;
pub(crate) mod claude;
pub(crate) mod client;
pub(crate) mod fault;
pub(crate) mod h2c;
pub(crate) mod process;

use std::{future::Future, time::Duration};

use tokio::{task::JoinHandle, time::Instant};
use touchline::net::drain::Drain;

/// The longest that anything is waited for; far above what a working proxy needs on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Spawns on the test's runtime.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Drain::new().spawn(future)
}

/// Polls a condition until it holds; the test fails when it never does.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Polls an asynchronous condition until it holds; the test fails when it never does.
pub(crate) async fn until_async<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The future's output; the test fails when it does not come.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
