//! The way of one call: breaker, bulkhead, connection, exchange, and at most one retry.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Error,
    breaker::Breaker,
    bulkhead::{Bulkhead, Place},
    exchange::{Answered, Terms, exchange, into_tunnel},
    health::Health,
    pool::{Connection, Pool},
    retry::Budget,
    stream::Stream,
    tls::Tls,
};
use crate::{
    config::{self, BackendAddress},
    net::{
        Body, InterimSink,
        drain::{Drain, Phase},
        h1::{Limits, framing::Framing},
        tunnel::{Tunnel, TunnelSlot},
    },
    telemetry::UpstreamStats,
};

/// What all workers share about one server.
pub struct Upstream {
    address: BackendAddress,
    tls: Option<Tls>,
    authority: HeaderValue,
    settings: config::Upstream,
    limits: Arc<Limits>,
    bulkhead: Bulkhead,
    tunnels: Bulkhead,
    /// The pools of all workers, to count what is idle in them.
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Opens when connections fail in a burst.
    pub breaker: Breaker,
    stats: Arc<UpstreamStats>,
    /// Whether it answers, as seen by probes.
    pub health: Health,
    budget: Budget,
}

impl Upstream {
    /// The upstream at `address`, which counts into `stats`.
    #[must_use]
    pub fn new(
        address: BackendAddress,
        settings: &config::Upstream,
        limits: &config::Limits,
        stats: Arc<UpstreamStats>,
    ) -> Arc<Self> {
        Self::at((address, None), settings, limits, stats)
    }

    /// The upstream at an address that is reached over TLS where there is a [`Tls`].
    #[must_use]
    pub fn at(
        (address, tls): (BackendAddress, Option<Tls>),
        settings: &config::Upstream,
        limits: &config::Limits,
        stats: Arc<UpstreamStats>,
    ) -> Arc<Self> {
        let authority = match &address {
            BackendAddress::Tcp { host, port } => HeaderValue::try_from(format!("{host}:{port}")).ok(),
            BackendAddress::Unix(_) => None,
        };
        Arc::new(Self {
            authority: authority.unwrap_or(HeaderValue::from_static("localhost")),
            address,
            tls,
            limits: Arc::new(Limits::upstream(limits, settings)),
            bulkhead: Bulkhead::new(settings.in_flight, settings.queue, settings.wait),
            tunnels: Bulkhead::new(limits.upgrade.connections, 0, Duration::ZERO),
            pools: Mutex::default(),
            breaker: Breaker::new(Arc::clone(&stats), &settings.breaker),
            stats,
            health: Health::default(),
            budget: Budget::new(settings.retry_budget_percent),
            settings: settings.clone(),
        })
    }

    /// The same under another `Host`, before anyone else holds it.
    #[must_use]
    pub fn named(mut self: Arc<Self>, authority: &str) -> Arc<Self> {
        if let (Some(upstream), Ok(authority)) = (Arc::get_mut(&mut self), HeaderValue::from_str(authority)) {
            upstream.authority = authority;
        }
        self
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> &BackendAddress {
        &self.address
    }

    pub(super) const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Its `Host`, for requests that name none.
    #[must_use]
    pub const fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// What is counted about it.
    #[must_use]
    pub fn stats(&self) -> &UpstreamStats {
        &self.stats
    }

    /// Brings the numbers that are read, not counted, up to date.
    pub fn refresh_stats(&self) {
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.stats.in_flight.set(count(self.bulkhead.in_flight()));
        self.stats.queued.set(count(self.bulkhead.waiting()));
        let pools = self.pools.lock();
        self.stats.idle.set(count(pools.iter().filter_map(Weak::upgrade).map(|pool| pool.len()).sum()));
    }

    pub(super) const fn connect_limit(&self) -> Duration {
        self.settings.connect
    }
}

/// The head of a call: hop-by-hop fields are off it, `Host` is on it.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target; its path and query are sent.
    pub uri: &'a Uri,
    /// The fields.
    pub headers: &'a HeaderMap,
    /// Adds fields straight to the outgoing head.
    pub introduction: Option<&'a dyn Introduce>,
}

/// Adds fields to a head on its way out, without a place in a map first.
pub trait Introduce: Sync {
    /// Writes the fields; `headers` are those that are written already.
    fn introduce(&self, headers: &HeaderMap, lines: &mut BytesMut);
}

impl<'a> Head<'a> {
    /// The head of a request made here.
    #[must_use]
    pub const fn of(parts: &'a Parts) -> Self {
        Self { method: &parts.method, uri: &parts.uri, headers: &parts.headers, introduction: None }
    }
}

/// What goes with the head of a call.
pub struct Call {
    /// The request's body.
    pub body: Body,
    /// Where interim answers go.
    pub interim: Option<Arc<dyn InterimSink>>,
    /// A limit of its own for the time to the head.
    pub first_byte: Option<Duration>,
    /// A bound of its own on what is in flight.
    pub bulkhead: Option<Arc<Bulkhead>>,
    /// Whether only a new connection will do.
    pub is_fresh: bool,
}

/// The answer to a call.
pub struct Reply {
    /// Head and body. A 101 carries a [`TunnelSlot`] in its extensions.
    pub response: Response<Body>,
    /// True when only the server's close ends the body, so that its end proves nothing.
    pub is_close_delimited: bool,
}

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Waiting for a place in the bulkhead.
    pub queue: Duration,
    /// Opening connections.
    pub connect: Duration,
    /// From the request to the head of the answer.
    pub backend: Duration,
}

/// One worker's way to an upstream. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    upstream: Arc<Upstream>,
    pool: Arc<Pool>,
}

impl Client {
    /// A client without connections.
    #[must_use]
    pub fn new(upstream: Arc<Upstream>) -> Self {
        let settings = &upstream.settings;
        let pool = Arc::new(Pool::new(settings.pool as usize, settings.idle, settings.lifetime));
        let mut pools = upstream.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        drop(pools);
        Self { upstream, pool }
    }

    /// The server behind this client.
    #[must_use]
    pub const fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Closes connections that were idle for too long, until shutdown or until nobody has this client any more.
    pub fn spawn_pruning(&self, drain: &Drain) {
        let (pool, pause) =
            (Arc::downgrade(&self.pool), self.upstream.settings.idle.max(Duration::from_millis(100)));
        let mut closing = drain.reached(Phase::Closing);
        drain.spawn(async move {
            loop {
                tokio::select! {
                    () = &mut closing => return,
                    () = tokio::time::sleep(pause) => match pool.upgrade() {
                        Some(pool) => pool.prune(),
                        None => return,
                    },
                }
            }
        });
    }

    /// Makes a call. `timing` is filled also when it fails.
    ///
    /// Dropping the future closes the connection that is in use, which cancels the call at the server.
    ///
    /// # Errors
    /// [`Error`], when there is no answer to pass on.
    pub async fn call(&self, head: Head<'_>, call: Call, timing: &mut Timing) -> Result<Reply, Error> {
        let result = self.call_within(head, call, timing).await;
        if let Err(error) = &result {
            self.upstream.stats.errors.increment(error.refusal().as_str());
        }
        result
    }

    async fn call_within(&self, head: Head<'_>, call: Call, timing: &mut Timing) -> Result<Reply, Error> {
        let upstream = &*self.upstream;
        if !upstream.breaker.allows() {
            return Err(Error::BreakerOpen);
        }
        // A tunnel lasts: it has a bound of its own, asked before the server is made to switch.
        let is_upgrade = head.headers.contains_key(header::UPGRADE);
        let tunnel = is_upgrade.then(|| upstream.tunnels.try_enter()).transpose();
        let tunnel = tunnel.map_err(|_| Error::TooManyUpgrades)?;
        let place = self.enter(call.bulkhead.as_deref(), timing).await?;
        upstream.budget.earn();
        // A body that is at hand may be sent twice; a stream that was begun may not.
        let held = match &call.body {
            Body::Empty => Some(Bytes::new()),
            Body::Full(data) => Some(data.clone()),
            Body::Stream(_) => None,
        };
        let mut next_body = Some(call.body);
        let mut retries = 0;
        loop {
            let may_reuse = retries == 0 && !call.is_fresh;
            let result = match self.connection(may_reuse, timing).await {
                Err(error) => Err(error),
                Ok(connection) => {
                    let body =
                        next_body.take().unwrap_or_else(|| Body::full(held.clone().unwrap_or_default()));
                    let terms = Terms {
                        limits: &upstream.limits,
                        first_byte: call.first_byte.unwrap_or(upstream.settings.first_byte),
                        interim: call.interim.as_ref(),
                        stats: &upstream.stats,
                    };
                    timed(&mut timing.backend, exchange(connection, head, body, terms)).await
                }
            };
            let error = match result {
                Ok(answered) => {
                    upstream.breaker.succeeded();
                    return Ok(self.reply(answered, place, tunnel));
                }
                Err(error) => error,
            };
            match &error {
                error if error.trips_breaker() => upstream.breaker.failed(),
                // It answered, if badly or late: its connections are sound.
                Error::BadResponse | Error::Timeout => upstream.breaker.succeeded(),
                _ => {}
            }
            let is_whole = next_body.is_some() || held.is_some();
            let is_safe = error.is_unsent() || (error.is_retryable() && is_idempotent(head.method));
            if retries >= upstream.settings.retries || !is_whole || !is_safe {
                return Err(error);
            }
            if !upstream.budget.spend() {
                upstream.stats.retries_denied.increment();
                return Err(error);
            }
            retries += 1;
            upstream.stats.retries.increment();
        }
    }

    async fn enter(&self, own: Option<&Bulkhead>, timing: &mut Timing) -> Result<Places, Error> {
        let own = match own {
            None => None,
            Some(bulkhead) => Some(bulkhead.enter(&mut timing.queue).await?),
        };
        let shared = self.upstream.bulkhead.enter(&mut timing.queue).await?;
        if !timing.queue.is_zero() {
            self.upstream.stats.queue_wait.record(micros(timing.queue));
        }
        Ok(Places { _shared: shared, _own: own })
    }

    /// A connection from the pool for the first try; a retry takes a new one, as what else is idle may be stale too.
    async fn connection(&self, may_reuse: bool, timing: &mut Timing) -> Result<Box<Connection>, Error> {
        let upstream = &*self.upstream;
        if may_reuse && let Some(connection) = self.pool.take().await {
            upstream.stats.reused.increment();
            return Ok(connection);
        }
        let start = Instant::now();
        let connected = Stream::connect(&upstream.address, upstream.tls(), upstream.settings.connect).await;
        let took = start.elapsed();
        timing.connect += took;
        let stream = connected?;
        upstream.stats.connects.increment();
        upstream.stats.connect_time.record(micros(took));
        Ok(self.pool.adopt(stream))
    }

    fn reply(&self, answered: Answered, places: Places, tunnel: Option<Place>) -> Reply {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = answered.head.status;
        let is_close_delimited = answered.framing == Framing::Close;
        if answered.head.status == StatusCode::SWITCHING_PROTOCOLS {
            // It leaves its place among the requests to others.
            *response.headers_mut() = answered.head.headers;
            let (io, ahead) = into_tunnel(answered.connection);
            response.extensions_mut().insert(TunnelSlot::new(Tunnel::new(io, ahead, Box::new(tunnel))));
        } else {
            let (headers, body) = answered.into_parts(&self.pool, &self.upstream.limits, places);
            *response.headers_mut() = headers;
            *response.body_mut() = body;
        }
        Reply { response, is_close_delimited }
    }
}

/// What a call holds while it is in flight.
pub(super) struct Places {
    _shared: Place,
    _own: Option<Place>,
}

/// Adds the time that a future takes to `total`.
async fn timed<F: Future>(total: &mut Duration, future: F) -> F::Output {
    let start = Instant::now();
    let output = future.await;
    *total += start.elapsed();
    output
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Methods that may be sent twice (RFC 9110 section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}
