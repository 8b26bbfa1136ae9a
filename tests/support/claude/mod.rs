//! A strict fake of the Claude API, in process, on a port of its own. It restates the API from its documentation and
//! knows nothing of the proxy, so that tests of the proxy have an independent judge.
//!
//! A request passes through these files: `listen` and `http1` or `http2` read it, `state` records it, `api` checks it
//! (`fields`, `turns`, `limits`, `thinking`) and counts it (`prompt`, `cache`), `answer` and `events` make the answer,
//! `script` and `delivery` say how it is sent.

mod answer;
mod api;
mod cache;
mod control;
mod delivery;
mod events;
mod failure;
mod fields;
mod http1;
mod http2;
mod limits;
mod listen;
mod models;
mod others;
mod prompt;
pub(crate) mod script;
mod state;
mod text;
mod thinking;
mod turns;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, runtime::Handle, task::AbortHandle};

use self::state::State;
pub(crate) use self::{script::Behaviour, state::Recorded};

/// A certificate chain and its key, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// The chain.
    pub(crate) certificate: Vec<u8>,
    /// The key.
    pub(crate) key: Vec<u8>,
}

impl Tls {
    /// A self-signed certificate for `localhost` and 127.0.0.1 that is good for a hundred years.
    pub(crate) fn localhost() -> Self {
        let both = include_bytes!("localhost.pem").to_vec();
        Self { certificate: both.clone(), key: both }
    }
}

/// How a fake behaves where no script says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Serves TLS, and HTTP/2 where the client offers it.
    pub(crate) tls: Option<Tls>,
    /// The seed of all texts.
    pub(crate) seed: u64,
    /// Streams at about the pace of a real model.
    pub(crate) real_speed: bool,
    /// The credentials that exist; empty: all.
    pub(crate) keys: Vec<String>,
    /// How many requests are remembered; the oldest are forgotten.
    pub(crate) keep: usize,
    /// Refuses edits before a kept thinking block, as accounts created from 2026-08-31 do.
    pub(crate) checks_prefix: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            seed: 1,
            real_speed: false,
            keys: Vec::new(),
            keep: 10_000,
            checks_prefix: true,
        }
    }
}

/// A running fake; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

impl Fake {
    /// Starts on the caller's runtime.
    pub(crate) async fn start(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let addr = listener.local_addr()?;
        let tls = settings.tls.as_ref().map(listen::acceptor).transpose()?;
        let state = Arc::new(State::new(settings));
        let task = Handle::current().spawn(listen::accept(listener, Arc::clone(&state), tls)).abort_handle();
        Ok(Self { addr, state, task })
    }

    /// What came in so far, oldest first.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.state.requests()
    }

    /// Queues a behaviour for the next request that it fits.
    pub(crate) fn script(&self, behaviour: Behaviour) {
        self.state.script(behaviour);
    }

    /// Moves the clock of the prompt cache on.
    pub(crate) fn advance(&self, by: Duration) {
        self.state.advance(by);
    }

    /// Forgets requests, scripts and the prompt cache.
    pub(crate) fn reset(&self) {
        self.state.reset();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Names what includers use in different parts, so that none of it counts as dead where another part is used.
const _: () = {
    let _: fn(&Fake) -> Vec<Recorded> = Fake::requests;
    let _: fn(&Fake, Behaviour) = Fake::script;
    let _: fn(&Fake, Duration) = Fake::advance;
    let _: fn(&Fake) = Fake::reset;
    let _: fn() -> Tls = Tls::localhost;
};
