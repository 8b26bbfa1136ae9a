//! The small traits of the admin and ingress planes and of telemetry, implemented over the parts that those may not import.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use http::{Request, Response, header};
use tokio::time::Instant;

use super::workers::{Beats, Pace};
use crate::{
    admin::{
        self, Advisor, BackendAnswer, BackendDown, BackendHealth, Boxed, CacheView, Draining, Health,
        IngressPart, Purge, Purged, TopKey,
    },
    cache::{Cache, Clock, Entry, Scope, observe::Observer},
    config::{Readiness, ShownPaths},
    ingress::{BoxedAnswer, Taken},
    net::{Body, drain::Drain},
    telemetry::{
        CacheSizes, CacheSource, MarkKind, Operation, Telemetry, Tier, UNMATCHED, masked, observed::Observed,
    },
    upstream::{Call, Client, Head, Timing, Upstream},
};

/// The path and the bounds of the question for the backend's own health.
const HEALTH_PATH: &str = "/health";
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
const HEALTH_BYTES: usize = 256 * 1024;

/// The cache's sizes, for telemetry.
pub(super) struct CacheSizesOf(pub(super) Arc<Cache>);

impl CacheSource for CacheSizesOf {
    fn sizes(&self) -> CacheSizes {
        let stats = self.0.stats();
        CacheSizes {
            entries: stats.entries,
            bytes: stats.bytes,
            bytes_max: stats.bytes_max,
            evictions: stats.evictions,
            fills: stats.fills,
            followers: stats.waiting,
        }
    }
}

/// Purges, for the control listener.
pub(super) struct Purging {
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Clock,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Purge for Purging {
    fn purge<'a>(
        &'a self,
        scope: &'a admin::Scope,
        soft: bool,
    ) -> Boxed<'a, Result<Purged, Cow<'static, str>>> {
        Box::pin(self.end(scope, soft))
    }
}

impl Purging {
    async fn end(&self, scope: &admin::Scope, soft: bool) -> Result<Purged, Cow<'static, str>> {
        let named = scope.as_str();
        let scope = match scope {
            admin::Scope::All => Scope::All,
            admin::Scope::Tag(tag) => Scope::tag(tag),
            admin::Scope::Route(route) => Scope::Route(route.clone()),
            admin::Scope::Identity(subject) => {
                self.cache.identity_scope(subject).ok_or("identities cannot be told apart here")?
            }
            admin::Scope::Url(url) => Scope::url(url).ok_or("url is neither a path nor an http URL")?,
            admin::Scope::Prefix(prefix) => {
                Scope::prefix(prefix).ok_or("prefix is neither a path nor an http URL")?
            }
        };
        self.telemetry.mark(MarkKind::Purge, format!("purge of {named}"));
        let start = Instant::now();
        let outcome = self.cache.purge(&scope, soft, self.clock.at(start));
        self.telemetry.timed_operation(Tier::Memory, Operation::Purge, start);
        self.telemetry.note_purge();
        let memory = outcome.cleared;
        // What was taken out is freed after the answer.
        let retired = outcome.retired;
        let pending = !self.cache.announced().await;
        drop(retired);
        Ok(Purged { memory, pending })
    }
}

/// The most used entries, for the admin listener.
pub(super) struct MostUsed {
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Clock,
    /// How much of a path may be shown.
    pub(super) paths: ShownPaths,
}

impl CacheView for MostUsed {
    fn top_keys(&self, most: usize) -> Vec<TopKey> {
        let now_ms = self.clock.now_ms();
        let entries = self.cache.most_used(most, now_ms);
        let top = |entry: &Arc<Entry>| TopKey {
            key: self.shown(entry),
            hits: entry.hits(),
            bytes: u64::try_from(entry.size()).unwrap_or(u64::MAX),
            ttl_s: entry.meta().ttl_s(now_ms),
        };
        entries.iter().map(top).collect()
    }
}

impl MostUsed {
    /// The path of an entry; a query may hold anything and is told by its mark alone.
    fn shown(&self, entry: &Entry) -> String {
        let path = String::from_utf8_lossy(entry.key().path());
        let mut text = match self.paths {
            ShownPaths::Full => path.into_owned(),
            ShownPaths::Masked => masked(&path, entry.route()),
            ShownPaths::Template => entry.route().unwrap_or(UNMATCHED).to_owned(),
        };
        if entry.key().query().is_some() {
            text.push_str("?…");
        }
        text
    }
}

/// What was observed, for the admin listener.
pub(super) struct Advising {
    pub(super) observer: Arc<Observer>,
    pub(super) clock: Clock,
}

impl Advisor for Advising {
    fn observed(&self) -> Observed {
        self.observer.report(self.clock.now_ms())
    }
}

/// The answers of the probes.
pub(super) struct Probes {
    pub(super) drain: Drain,
    pub(super) pace: Arc<Pace>,
    pub(super) upstream: Option<Arc<Upstream>>,
    pub(super) readiness: Readiness,
    pub(super) beats: Arc<Beats>,
}

impl Health for Probes {
    fn live(&self) -> Result<(), Cow<'static, str>> {
        if self.beats.are_regular() { Ok(()) } else { Err("a worker has not moved for ten seconds".into()) }
    }

    fn ready(&self) -> Result<(), Cow<'static, str>> {
        self.live()?;
        // Who was taken over from sends nobody away: whoever asks here next asks the process that took over.
        if self.drain.is_draining() && !self.pace.is_handed_over() {
            return Err("draining".into());
        }
        let Some(upstream) = self.upstream.as_ref().filter(|_| self.readiness.backend) else { return Ok(()) };
        if !upstream.health.has_answered() {
            return Err("the backend has not answered yet".into());
        }
        let is_down = upstream.health.failures() >= self.readiness.failures.max(1);
        if is_down { Err("the backend does not answer".into()) } else { Ok(()) }
    }
}

/// The backend's own health answer.
pub(super) struct Backend {
    client: Client,
}

impl Backend {
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        Self { client: Client::new(upstream) }
    }

    async fn ask(&self) -> Result<BackendAnswer, BackendDown> {
        let start = Instant::now();
        let mut request = Request::new(());
        *request.uri_mut() = http::Uri::from_static(HEALTH_PATH);
        request.headers_mut().insert(header::HOST, self.client.upstream().authority().clone());
        let (parts, ()) = request.into_parts();
        let call = Call {
            body: Body::Empty,
            interim: None,
            first_byte: Some(HEALTH_PATIENCE),
            bulkhead: None,
            is_fresh: false,
        };
        let down = |why: &'static str| BackendDown(why.into());
        let reply = self.client.call(Head::of(&parts), call, &mut Timing::default()).await;
        let reply = reply.map_err(|error| down(error.refusal().as_str()))?;
        let (head, body) = reply.response.into_parts();
        let body = tokio::time::timeout(HEALTH_PATIENCE, body.collect(HEALTH_BYTES)).await;
        let body = body.map_err(|_| down("upstream_timeout"))?.map_err(|_| down("bad_upstream_response"))?;
        let content_type = head.headers.get(header::CONTENT_TYPE).cloned();
        Ok(BackendAnswer { status: head.status, content_type, body, took: start.elapsed() })
    }
}

impl BackendHealth for Backend {
    fn fetch(&self) -> Boxed<'_, Result<BackendAnswer, BackendDown>> {
        Box::pin(self.ask())
    }
}

/// Begins the drain.
pub(super) struct Ending {
    drain: Drain,
    egress: Drain,
    pace: Arc<Pace>,
}

impl Ending {
    /// `egress` is the end of the listeners that the backend calls out through.
    pub(super) fn new(drain: &Drain, egress: &Drain, pace: &Arc<Pace>) -> Self {
        Self { drain: drain.clone(), egress: egress.clone(), pace: Arc::clone(pace) }
    }
}

impl Draining for Ending {
    fn begin(&self) {
        self.pace.begin(&self.drain);
    }

    fn hand_over(&self) -> bool {
        self.pace.hand_over(&self.drain, &self.egress)
    }
}

/// The paths that the admin plane answers on the ingress listener.
pub(super) struct IngressPaths(pub(super) IngressPart);

impl Taken for IngressPaths {
    fn takes(&self, path: &str) -> bool {
        self.0.takes(path)
    }

    fn answer(&self, request: Request<Body>, client: Option<IpAddr>) -> BoxedAnswer<'_> {
        Box::pin(async move {
            let response: Response<Body> = self.0.answer(request, client).await;
            response
        })
    }
}
