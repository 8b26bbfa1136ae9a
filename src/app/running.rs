//! The running planes as their owner holds them: where they listen, and how they are opened, handed over and taken down.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Arc, mpsc::Receiver},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Plan,
    leaving::Outlasting,
    reload::Asking,
    sockets::{Addresses, Opening},
    workers::Pace,
};
use crate::{
    admin::Health,
    config,
    net::drain::{Drain, Phase},
    telemetry::Telemetry,
};

/// The running planes. Dropping it does not stop them; [`Running::stop`] does.
pub struct Running {
    pub(super) drain: Drain,
    /// The end of the listeners that the backend calls out through.
    pub(super) egress: Drain,
    pub(super) pace: Arc<Pace>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) health: Arc<dyn Health>,
    pub(super) addresses: Addresses,
    pub(super) opening: Opening,
    pub(super) outlasting: Outlasting,
    pub(super) plan: Arc<Plan>,
    pub(super) asking: Asking,
}

impl Running {
    /// Where clients are served.
    #[must_use]
    pub const fn ingress(&self) -> Option<SocketAddr> {
        self.addresses.ingress
    }

    /// Where calls to Claude are taken.
    #[must_use]
    pub const fn claude(&self) -> Option<SocketAddr> {
        self.addresses.claude
    }

    /// Where operators read.
    #[must_use]
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.addresses.admin
    }

    /// Where operators write.
    #[must_use]
    pub const fn control(&self) -> Option<SocketAddr> {
        self.addresses.control
    }

    /// A handle that has the file of the configuration looked at, at once.
    pub fn reload(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let asking = self.asking.clone();
        move || asking.ask()
    }

    /// A handle that ends the process at once: what is in flight is cut.
    pub fn hurry(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let (pace, drain) = (Arc::clone(&self.pace), self.drain.clone());
        move || pace.hurry(&drain)
    }

    /// Whether this process would serve if clients came.
    ///
    /// # Errors
    /// Why not.
    pub fn is_ready(&self) -> Result<(), Cow<'static, str>> {
        self.health.ready()
    }

    /// Has the listeners of [`App::start_beside`](super::App::start_beside) take connections.
    ///
    /// # Errors
    /// When the process beside does not share an address.
    pub fn open(&mut self) -> anyhow::Result<()> {
        self.opening.open()
    }

    /// Leaves the clients to the other process on the same addresses: listeners close at once, and [`Running::stop`] asks
    /// those who are connected to leave. Before [`Running::open`] there are none, and nothing is waited for.
    pub fn give_back(&self) {
        if self.opening.is_open() {
            self.pace.hand_over(&self.drain, &self.egress);
        } else {
            self.pace.hurry(&self.drain);
        }
    }

    /// Ready once another process has taken over. Needs no runtime of this one.
    pub fn handed_over(&self) -> impl Future<Output = ()> + Send + use<> {
        self.drain.reached(Phase::Shut)
    }

    /// Drains and stops: answers ask clients to leave for `drain.delay`, unless that was asked before; a backend that ends
    /// too is waited for; then accept stops and what is in flight gets the rest of `drain.timeout`. Blocks until all threads
    /// have ended.
    ///
    /// # Errors
    /// When a thread panicked.
    pub fn stop(self) -> anyhow::Result<()> {
        let already = self.pace.begin(&self.drain).elapsed();
        let config::Drain { delay, timeout, .. } = self.plan.config().drain.clone();
        let delay = whole_ms(delay.saturating_sub(already));
        info!(delay = %config::format_duration(delay), timeout = %config::format_duration(timeout), "draining");
        self.pace.rest(delay);
        let deadline = Instant::now() + timeout;
        // The other half is for what is in flight then.
        self.outlasting.wait(timeout / 2);
        self.pace.close(deadline);
        self.drain.advance(Phase::Closing);
        let panicked = self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        if !self.telemetry.flush_access_log(Duration::from_secs(1)) {
            warn!("the access log could not be written out in time");
        }
        info!("touchline has stopped");
        if panicked == 0 { Ok(()) } else { Err(anyhow!("{panicked} worker threads panicked")) }
    }

    pub(super) fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let thread =
            std::thread::Builder::new().name(name.to_owned()).spawn(run).context("starting a thread")?;
        self.threads.push(thread);
        Ok(())
    }

    pub(super) fn wait_until_ready(
        &self,
        ready: &Receiver<anyhow::Result<()>>,
        threads: usize,
    ) -> anyhow::Result<()> {
        for _ in 0..threads {
            let started = ready.recv().map_err(|_| anyhow!("a worker thread ended before it was ready"))?;
            if let Err(error) = started {
                self.pace.hurry(&self.drain);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// A time without the microseconds that it took to ask for it.
fn whole_ms(time: Duration) -> Duration {
    const STEP: u64 = 10;
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(ms.saturating_add(STEP - 1) / STEP * STEP)
}
