//! From accepted sockets to served requests: one accept loop per worker, one task per connection.

use std::{future::Future, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tracing::error;

use super::{
    Service,
    buffers::Buffers,
    drain::{Drain, Phase},
    h1::{self, server::Settings},
    h2,
    listener::{self, Gate, Place},
};
use crate::config::Http2Limits;

/// What the connections of one listener are served with.
pub struct Serving<S> {
    /// Who answers.
    pub service: Arc<S>,
    /// Bounds on connections.
    pub gate: Arc<Gate>,
    /// What holds for new connections, now.
    pub terms: Arc<ArcSwap<Terms>>,
    /// The worker's spare write buffers.
    pub buffers: Arc<Buffers>,
    /// The process's shutdown.
    pub drain: Drain,
}

/// What holds for a connection from its beginning to its end.
#[derive(Debug)]
pub struct Terms {
    /// Limits of one connection.
    pub limits: Arc<h1::Limits>,
    /// HTTP/2 with prior knowledge on the same port; `None` refuses it.
    pub http2: Option<Arc<Http2Limits>>,
}

impl Terms {
    /// Terms that may be changed for the connections to come.
    #[must_use]
    pub fn shared(limits: Arc<h1::Limits>, http2: Option<Arc<Http2Limits>>) -> Arc<ArcSwap<Self>> {
        Arc::new(ArcSwap::from_pointee(Self { limits, http2 }))
    }
}

impl<S> Clone for Serving<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            gate: Arc::clone(&self.gate),
            terms: Arc::clone(&self.terms),
            buffers: Arc::clone(&self.buffers),
            drain: self.drain.clone(),
        }
    }
}

/// Serves a listener on the calling runtime until shutdown. Returns an error only when the socket cannot be registered.
///
/// # Errors
/// The runtime's own.
pub fn spawn<S: Service>(socket: std::net::TcpListener, serving: Serving<S>) -> std::io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let drain = serving.drain.clone();
    let gate = Arc::clone(&serving.gate);
    let accepting = listener::accept(listener, gate, drain.clone(), move |stream, peer, place| {
        serving.drain.spawn(serve(stream, peer, place, serving.clone()));
    });
    drain.spawn(accepting);
    Ok(())
}

/// Serves a listener from the moment when `opened` says true, which is when its socket listens; when it says false, never.
pub fn spawn_later<S: Service>(
    socket: std::net::TcpListener,
    opened: impl Future<Output = bool> + Send + 'static,
    serving: Serving<S>,
) {
    let drain = serving.drain.clone();
    drain.clone().spawn(async move {
        let is_opened = tokio::select! {
            is_opened = opened => is_opened,
            () = drain.reached(Phase::Closing) => false,
        };
        if !is_opened {
            return;
        }
        if let Err(error) = spawn(socket, serving) {
            error!(%error, "a listener cannot be served");
        }
    });
}

async fn serve<S: Service>(stream: TcpStream, peer: SocketAddr, place: Place, serving: Serving<S>) {
    let terms = serving.terms.load_full();
    let settings = Settings {
        service: Arc::clone(&serving.service),
        limits: Arc::clone(&terms.limits),
        http2: terms.http2.is_some(),
        buffers: Arc::clone(&serving.buffers),
        drain: serving.drain.clone(),
        peer: Some(peer),
    };
    let handed_over = h1::server::serve(stream, settings).await;
    if let (Some((stream, ahead)), Some(http2)) = (handed_over, &terms.http2) {
        // Boxed, so that the many HTTP/1 connections do not carry the room for an HTTP/2 one.
        Box::pin(h2::serve(stream, ahead, peer, &serving, (&terms.limits, http2))).await;
    }
    drop(place);
}
