//! Sockets, HTTP framing and shutdown: everything between a listener and a service.
//!
//! The HTTP/1 engine ([`h1`]) is our own and strict: it reads every byte once, refuses what two servers could read in
//! two ways, and writes heads anew. HTTP/2 is hyper's ([`h2`]). Above this module only `http` types, [`Body`] and the
//! [`Service`] trait are known, so a plane cannot tell which engine carried a request.

pub mod body;
pub mod buffers;
pub mod deadline;
pub mod drain;
pub mod encoded;
pub mod h1;
pub mod h2;
pub mod headers;
pub mod listener;
pub mod problem;
pub mod request;
pub mod serve;
pub mod signal;
pub mod tunnel;
mod websocket;
pub mod wire;

use std::{future::Future, net::SocketAddr, sync::Arc};

use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::Instant;

pub use body::{Body, BodyError, Chunks};
pub use encoded::{Encoded, Lines};
pub use problem::Refusal;

/// What a service is told about a request beside the request itself.
pub struct Context {
    /// The peer of the connection; `None` on a unix socket.
    pub peer: Option<SocketAddr>,
    /// When the first byte of the request was read.
    pub started: Instant,
    /// Where interim (1xx) answers go; `None` where the protocol cannot carry them.
    pub interim: Option<Arc<dyn InterimSink>>,
    /// True when the connection closes after this answer because the process is draining.
    pub draining: bool,
}

impl Context {
    /// A context for calls that come from no connection, such as tests and internal requests.
    #[must_use]
    pub fn internal() -> Self {
        Self { peer: None, started: Instant::now(), interim: None, draining: false }
    }
}

/// Takes interim answers (RFC 9110 section 15.2) on their way to the client, ahead of the final one.
pub trait InterimSink: Send + Sync {
    /// Queues one interim head; it is written before the final head.
    fn interim(&self, status: StatusCode, headers: &HeaderMap);
}

/// What serves requests: the ingress plane, the admin and control listeners, the demo's backend.
pub trait Service: Send + Sync + 'static {
    /// Told once how the answer's way to the client ended. Dropped untold when the client left before a head.
    type Done: Done;

    /// Answers one request. The future is dropped when the client leaves: that must cancel whatever it started.
    fn call(
        &self,
        request: Request<Body>,
        context: Context,
    ) -> impl Future<Output = Answer<Self::Done>> + Send;

    /// Answers a request that never became one: its bytes broke a rule of the protocol or a limit.
    fn refuse(&self, refusal: Refusal, context: Context) -> Answer<Self::Done>;

    /// Called when an HTTP/2 connection was closed because its client was over a limit; `limit` is one of a closed set.
    fn flooded(&self, limit: &'static str) {
        let _ = limit;
    }

    /// Called when a header field was dropped because of an underscore in its name.
    fn underscore_dropped(&self) {}
}

/// A response and the listener that hears how its sending ended.
pub struct Answer<D> {
    /// What to send.
    pub response: Response<Body>,
    /// Fields in wire form that go out with those of the response: a head that is sent often is written once.
    pub encoded: Option<Encoded>,
    /// Who is told when it is sent.
    pub done: D,
}

impl<D> Answer<D> {
    /// An answer whose fields are all in its response.
    pub const fn new(response: Response<Body>, done: D) -> Self {
        Self { response, encoded: None, done }
    }
}

/// Hears how the sending of an answer ended; dropping it untold means that it never began.
pub trait Done: Send + Unpin + 'static {
    /// Adds the fields that are known only at the moment when the head is written.
    fn fields(&mut self, lines: &mut dyn Lines) {
        let _ = lines;
    }

    /// The answer was sent, wholly or in part.
    fn sent(self, sent: Sent);
}

impl Done for () {
    fn sent(self, _: Sent) {}
}

/// How the sending of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Body bytes handed to the socket.
    pub bytes: u64,
    /// Body bytes received from the client for this request.
    pub received: u64,
    /// How it ended.
    pub end: End,
}

/// The ways in which the sending of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every byte was handed to the socket.
    Complete,
    /// The client closed, reset or stopped reading.
    Client,
    /// The body ended in an error, so the client was shown an abort.
    Body,
}
