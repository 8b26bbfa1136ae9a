//! The ingress plane: clients on one side, the backend on the other, and the cache between them.
//!
//! `pipeline` shows the way of a request on one screen; each stage has a file of its own. What all workers share is in
//! [`Ingress`]; a [`Worker`] adds the connections of one worker and is what the listener serves.

mod deny;
mod encode;
mod error;
mod exchange;
mod explain;
mod fetch;
mod fill;
mod identity;
mod invalidate;
mod journal;
mod learn;
mod live;
mod lookup;
mod observe;
mod outbound;
mod peek;
mod pipeline;
mod posted;
mod respond;
mod routes;
mod warm;

use std::{collections::HashSet, future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::{Method, Request, Response};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::{
    journal::Journal,
    peek::Room,
    routes::{Learned, Route},
};
use crate::{
    cache::{Cache, Clock, observe::Observer},
    config,
    net::{Body, drain::Drain, h1},
    telemetry::{Listener, ListenerStats, RouteStats, Telemetry},
    upstream::{Client, Upstream},
};

pub use error::{CompileError, QuestionError};
pub use explain::{
    Admitted, Answered, Asked, Changed, Explainer, Explanation, Inspected, KeyPart, KeyShown, Line, Near,
    Question, Refused, RouteShown, Said, Sent, Setting, StoredShown, Why,
};
pub use identity::spawn_watching_keys;
pub use learn::spawn as spawn_learning;
pub use live::{Live, Worker};
pub use routes::RouteTable;
pub use warm::spawn as spawn_warming;

/// Paths that touchline answers itself on this listener. Asked before the route table.
pub trait Taken: Send + Sync + 'static {
    /// True when the path is answered by [`Taken::answer`].
    fn takes(&self, path: &str) -> bool;

    /// Answers a request for a taken path; `client` is whose it is, behind trusted proxies.
    fn answer(&self, request: Request<Body>, client: Option<IpAddr>) -> BoxedAnswer<'_>;
}

/// The answer of [`Taken`], behind a pointer so that the trait can be used as an object.
pub type BoxedAnswer<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// What the plane is built from.
pub struct Parts {
    /// Where records go.
    pub telemetry: Arc<Telemetry>,
    /// The cache.
    pub cache: Arc<Cache>,
    /// What sees the answers that an observing cache would keep.
    pub observer: Arc<Observer>,
    /// The cache's clocks.
    pub clock: Clock,
    /// The backend.
    pub upstream: Arc<Upstream>,
    /// Paths answered here in the backend's place.
    pub taken: Option<Arc<dyn Taken>>,
    /// The process's shutdown, which waits for background fetches.
    pub drain: Drain,
    /// What is left to chance: uniform numbers.
    pub chance: fn() -> u64,
}

/// The plane by one configuration, shared by all workers. A request ends on the one that it began on.
pub struct Ingress {
    telemetry: Arc<Telemetry>,
    listener: Arc<ListenerStats>,
    cache: Arc<Cache>,
    observer: Arc<Observer>,
    clock: Clock,
    upstream: Arc<Upstream>,
    taken: Option<Arc<dyn Taken>>,
    drain: Drain,
    table: RouteTable,
    learned: Arc<LearnedRoutes>,
    /// Places for codings that are being made.
    encoders: Arc<Semaphore>,
    bodies: Room,
    settings: Settings,
    chance: fn() -> u64,
    /// Which configuration since the start this is of.
    generation: u64,
}

/// What the backend told of its routes, whatever the configuration.
#[derive(Default)]
struct LearnedRoutes {
    current: ArcSwapOption<Learned>,
    names: Mutex<HashSet<String>>,
}

/// What the stages need of the configuration, compiled.
struct Settings {
    hosts: Vec<String>,
    trusted: Vec<config::Cidr>,
    server_timing: bool,
    expose_headers: bool,
    debug: bool,
    follower_wait: Duration,
    /// The most time to the head of the backend's answer.
    first_byte: Duration,
}

impl Ingress {
    /// Builds the plane.
    ///
    /// # Errors
    /// When the routes cannot be compiled; the configuration's own checks find this first.
    pub fn new(
        config: &config::Config,
        ingress: &config::Ingress,
        parts: Parts,
    ) -> Result<Arc<Self>, CompileError> {
        parts.telemetry.set_default_slow_after(ingress.slow_after);
        Ok(Arc::new(Self {
            table: RouteTable::compile(config, ingress, &parts.telemetry)?,
            settings: Settings::of(config, ingress),
            listener: parts.telemetry.listener(Listener::Ingress),
            telemetry: parts.telemetry,
            cache: parts.cache,
            observer: parts.observer,
            clock: parts.clock,
            upstream: parts.upstream,
            taken: parts.taken,
            drain: parts.drain,
            learned: Arc::default(),
            encoders: Arc::new(Semaphore::new(encode::AT_ONCE)),
            bodies: Room::default(),
            chance: parts.chance,
            generation: 0,
        }))
    }

    /// The plane by another configuration: what is counted, kept and bounded over all requests goes on.
    ///
    /// # Errors
    /// When the routes cannot be compiled; the configuration's own checks find this first.
    pub fn renewed(
        &self,
        config: &config::Config,
        ingress: &config::Ingress,
        upstream: Arc<Upstream>,
        taken: Option<Arc<dyn Taken>>,
    ) -> Result<Arc<Self>, CompileError> {
        let table = RouteTable::compile(config, ingress, &self.telemetry)?;
        self.telemetry.set_default_slow_after(ingress.slow_after);
        Ok(Arc::new(Self {
            table,
            settings: Settings::of(config, ingress),
            listener: Arc::clone(&self.listener),
            telemetry: Arc::clone(&self.telemetry),
            cache: Arc::clone(&self.cache),
            observer: Arc::clone(&self.observer),
            clock: self.clock,
            upstream,
            taken,
            drain: self.drain.clone(),
            learned: Arc::clone(&self.learned),
            encoders: Arc::clone(&self.encoders),
            bodies: self.bodies.clone(),
            chance: self.chance,
            generation: self.generation + 1,
        }))
    }

    /// The statistics of a request: those of its route, else of the template that the backend told for its path.
    fn stats_of(&self, route: &Route, method: &Method, path: &str) -> Arc<RouteStats> {
        if route.is_unmatched()
            && let Some(learned) = self.learned.current.load().as_ref()
            && let Some(stats) = learned.find(method, b"", path)
        {
            return Arc::clone(stats);
        }
        Arc::clone(&route.stats)
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The limits of a connection of this listener.
    #[must_use]
    pub fn connection_limits(ingress: &config::Ingress) -> Arc<h1::Limits> {
        Arc::new(h1::Limits::downstream(&ingress.limits, ingress.underscores))
    }
}

impl Settings {
    fn of(config: &config::Config, ingress: &config::Ingress) -> Self {
        Self {
            hosts: ingress.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            trusted: ingress.trusted_proxies.clone(),
            server_timing: ingress.server_timing,
            expose_headers: ingress.expose_headers,
            debug: config.cache.debug,
            follower_wait: config.cache.follower_wait,
            first_byte: ingress.upstream.first_byte,
        }
    }
}

/// What a request holds on to: the plane and its worker's connections.
struct Core {
    ingress: Arc<Ingress>,
    client: Client,
}

impl Core {
    /// Without connections. Must be called on the worker's own runtime.
    fn new(ingress: Arc<Ingress>) -> Arc<Self> {
        let client = Client::new(Arc::clone(&ingress.upstream));
        client.spawn_pruning(&ingress.drain);
        Arc::new(Self { ingress, client })
    }
}
