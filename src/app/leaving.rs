//! The order of the end: whom the listeners wait for before they close.
//!
//! The backend ends on its own time. Where it is told to end at the same moment as this process, as the containers of a pod
//! are, it goes on for a while: what it calls out for meanwhile has to be served, and so have clients that still come. So
//! the process stays until nobody answers at the backend's port. Elsewhere the backend outlives this process, and its port
//! says nothing.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::workers::{self, Pace};
use crate::{
    config::{self, BackendAddress},
    net::drain::{Drain, Phase},
    upstream::{Error, Upstream, stream::Stream},
};

/// How often the backend's port is looked at, and how long a look may take.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(1);

/// How often an egress looks whether it is needed, and how long it has been quiet when it is not.
const STEP: Duration = Duration::from_millis(10);
const QUIET: Duration = Duration::from_millis(200);

/// Whether there is a backend that this process has to outlast.
#[derive(Clone)]
pub(super) struct Outlasting {
    /// The one that is called now.
    backend: Option<Arc<ArcSwap<Upstream>>>,
    pace: Arc<Pace>,
}

impl Outlasting {
    /// As configured, else in a pod of Kubernetes alone.
    pub(super) fn new(
        drain: &config::Drain,
        backend: Option<&Arc<ArcSwap<Upstream>>>,
        pace: &Arc<Pace>,
    ) -> Self {
        let is_asked = drain.outlast_backend.unwrap_or_else(config::is_in_kubernetes);
        Self { backend: backend.filter(|_| is_asked).cloned(), pace: Arc::clone(pace) }
    }

    /// The backend to outlast; none once another process serves it.
    fn backend(&self) -> Option<Arc<Upstream>> {
        self.backend.as_deref().filter(|_| !self.pace.is_handed_over()).map(ArcSwap::load_full)
    }

    /// Blocks while the backend's port is open, for at most `most` and while nobody is in a hurry. Not to be called
    /// within a runtime.
    pub(super) fn wait(&self, most: Duration) {
        if !self.pace.rest(Duration::ZERO) {
            return;
        }
        let (Some(backend), Ok(runtime)) = (self.backend(), workers::operator_runtime()) else { return };
        let end = Instant::now() + most;
        while Instant::now() < end && runtime.block_on(is_open(backend.address())) {
            if !self.pace.rest(LOOK) {
                return;
            }
        }
    }

    /// Keeps the listeners of an egress open until only `own` tasks of the process are left: the backend may call out for
    /// as long as a request of its own is in flight, and one that is to be outlasted until it is gone with all its
    /// connections. Then they close, and what is in flight on them is waited for.
    ///
    /// `listeners` is how many tasks of the egress are there without any connection.
    pub(super) fn spawn_egress(self, drain: &Drain, own: usize, egress: Drain, listeners: usize) {
        let (closing, others) = (drain.reached(Phase::Closing), drain.clone());
        drain.spawn(async move {
            closing.await;
            while others.tasks() > own {
                tokio::time::sleep(STEP).await;
            }
            if self.backend().is_some() {
                self.gone(&egress, listeners).await;
            }
            egress.advance(Phase::Closing);
            egress.finished().await;
        });
    }

    /// Ready once the backend's port is closed and nobody has been connected to the egress for a moment. One who ends
    /// closes its port first and may then still have something to say.
    async fn gone(&self, egress: &Drain, listeners: usize) {
        let (mut quiet_since, mut seen) = (Instant::now(), egress.begun());
        while let Some(backend) = self.backend() {
            // A call on a connection of its own is shorter than the time between two looks.
            let begun = egress.begun();
            if egress.tasks() > listeners || begun != seen {
                (quiet_since, seen) = (Instant::now(), begun);
            }
            if !is_open(backend.address()).await && quiet_since.elapsed() >= QUIET {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// True unless nobody listens there. A backend that cannot be reached for another reason may well be there.
async fn is_open(address: &BackendAddress) -> bool {
    match Stream::connect(address, None, PATIENCE).await {
        Err(Error::Connect(error)) => {
            !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_open;
    use crate::config::BackendAddress;

    #[tokio::test]
    async fn a_port_is_open_while_somebody_listens() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let address = BackendAddress::Tcp { host: "localhost".to_owned(), port };

        assert!(is_open(&address).await);
        drop(socket);

        assert!(!is_open(&address).await);
    }

    #[tokio::test]
    async fn a_unix_socket_is_open_while_somebody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backend.sock");
        let address = BackendAddress::Unix(path.clone());
        assert!(!is_open(&address).await, "it is not there yet");
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();

        assert!(is_open(&address).await);
        drop(socket);

        assert!(!is_open(&address).await, "its file is there and nobody answers");
    }
}
