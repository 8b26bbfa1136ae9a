//! Fakes of the plugged-in sources, and helpers to ask a service in tests.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use parking_lot::Mutex;

use crate::admin::{
    Admin, Advisor, BackendAnswer, BackendDown, BackendHealth, Boxed, CacheView, Draining, EntryAsked,
    EntryFound, EntryView, Health, Peers, Purge, Purged, Reloaded, Reloading, Scope, Sources, TopKey,
};
use crate::config;
use crate::net::{Body, Context, Service, drain::Drain};
use crate::telemetry::{
    CacheSizes, CacheSource, CacheStatus, Facts, Fwd, HitSource, Kind, Method, Operation, Parts, Record,
    Telemetry, Tier, observed::Observed,
};

/// One fake in every role; it remembers what was asked of it.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) purges: Mutex<Vec<(Scope, bool)>>,
    pub(crate) drains: AtomicUsize,
    pub(crate) is_unready: AtomicBool,
    pub(crate) is_down: AtomicBool,
    pub(crate) is_pending: AtomicBool,
    pub(crate) is_handed_over: AtomicBool,
    pub(crate) observed: Mutex<Observed>,
    pub(crate) reloaded: Mutex<Option<Reloaded>>,
}

impl Fake {
    /// The sources of an admin plane that are all this fake.
    pub(crate) fn sources(self: &Arc<Self>) -> Sources {
        Sources {
            purge: self.clone(),
            health: self.clone(),
            backend: Some(self.clone()),
            cache: Some(self.clone()),
            entries: Some(self.clone()),
            advisor: Some(self.clone()),
            draining: self.clone(),
            reloading: self.clone(),
            peers: None,
        }
    }
}

impl Purge for Fake {
    fn purge<'a>(&'a self, scope: &'a Scope, soft: bool) -> Boxed<'a, Result<Purged, Cow<'static, str>>> {
        Box::pin(async move {
            if *scope == Scope::Url("http://user@coach.example/".to_owned()) {
                return Err("this is no url".into());
            }
            self.purges.lock().push((scope.clone(), soft));
            let memory = (*scope == Scope::All).then_some(412);
            Ok(Purged { memory, pending: self.is_pending.load(Ordering::SeqCst) })
        })
    }
}

impl Health for Fake {
    fn live(&self) -> Result<(), Cow<'static, str>> {
        Ok(())
    }

    fn ready(&self) -> Result<(), Cow<'static, str>> {
        if self.is_unready.load(Ordering::SeqCst) { Err("draining".into()) } else { Ok(()) }
    }
}

impl BackendHealth for Fake {
    fn fetch(&self) -> Boxed<'_, Result<BackendAnswer, BackendDown>> {
        let answer = if self.is_down.load(Ordering::SeqCst) {
            Err(BackendDown("does not accept connections".into()))
        } else {
            Ok(BackendAnswer {
                status: StatusCode::OK,
                content_type: Some(HeaderValue::from_static("application/json")),
                body: Bytes::from_static(include_str!("fixtures/health.json").as_bytes()),
                took: Duration::from_millis(9),
            })
        };
        Box::pin(std::future::ready(answer))
    }
}

impl CacheView for Fake {
    fn top_keys(&self, _: usize) -> Vec<TopKey> {
        vec![TopKey { key: "/api/challenges".to_owned(), hits: 702, bytes: 9318, ttl_s: 1312 }]
    }
}

impl EntryView for Fake {
    fn entry(&self, asked: &EntryAsked) -> Result<EntryFound, Cow<'static, str>> {
        if !asked.url.starts_with('/') {
            return Err("this is no url".into());
        }
        let fields: String = asked.headers.iter().map(|(name, value)| format!(" {name}: {value}")).collect();
        Ok(EntryFound { route: format!("{} {}{fields}", asked.method, asked.url), ..EntryFound::default() })
    }
}

impl Advisor for Fake {
    fn observed(&self) -> Observed {
        self.observed.lock().clone()
    }
}

impl CacheSource for Fake {
    fn sizes(&self) -> CacheSizes {
        CacheSizes { entries: 412, bytes: 1_184_022, bytes_max: 67_108_864, ..CacheSizes::default() }
    }
}

impl Reloading for Fake {
    fn reload(&self) -> Boxed<'_, Option<Reloaded>> {
        let reloaded = self.reloaded.lock().clone();
        Box::pin(std::future::ready(reloaded))
    }
}

impl Draining for Fake {
    fn begin(&self) {
        self.drains.fetch_add(1, Ordering::SeqCst);
    }

    fn hand_over(&self) -> bool {
        !self.is_handed_over.swap(true, Ordering::SeqCst)
    }
}

/// A configuration with these tokens.
fn config(read: Option<&str>, write: Option<&str>) -> config::Config {
    let admin = config::Admin { token: read.map(config::Secret::new), ..config::Admin::default() };
    let control = config::Control { token: write.map(config::Secret::new), ..config::Control::default() };
    config::Config {
        admin: config::Switch::On(admin),
        control: config::Switch::On(control),
        ..config::Config::default()
    }
}

/// Statistics without traffic.
pub(crate) fn telemetry() -> Arc<Telemetry> {
    let facts = Facts {
        service: "coach-api".to_owned(),
        version: "0.1.0",
        pod: "coach-api-7d9f8-x2k4q".to_owned(),
        config_hash: "3f9c1ab".to_owned(),
    };
    Telemetry::new(&config::Telemetry::default(), facts, None)
}

/// An admin plane over the fake, with these tokens and without traffic.
pub(crate) fn admin(fake: &Arc<Fake>, read: Option<&str>, write: Option<&str>) -> Admin {
    Admin::new(&config(read, write), telemetry(), fake.sources(), Drain::new())
}

/// An admin plane over the fake and these statistics, which asks these replicas.
pub(crate) fn admin_over(
    fake: &Arc<Fake>,
    telemetry: Arc<Telemetry>,
    peers: Option<Arc<dyn Peers>>,
) -> Admin {
    let sources = Sources { peers, ..fake.sources() };
    Admin::new(&config(None, None), telemetry, sources, Drain::new())
}

/// An admin plane over the fake that has seen requests of every sort.
pub(crate) fn admin_with_traffic(fake: &Arc<Fake>) -> Admin {
    let telemetry = telemetry();
    let source: std::sync::Weak<Fake> = Arc::downgrade(fake);
    telemetry.watch_cache(source);
    let second = Duration::from_secs(1);
    let request = |template: &str, method, ms: u64, change: &dyn Fn(&mut Record)| {
        let mut record =
            Record::new(telemetry.route(template, 2 * second), method, tokio::time::Instant::now());
        record.status = 200;
        change(&mut record);
        telemetry.finish(record, ms * 1000, ms * 1000);
    };
    for at in 0..40 {
        request("/api/challenges", Method::Get, 1, &|record| {
            record.cache = CacheStatus::Hit;
            record.source = Some(HitSource::Memory);
        });
        request("/api/user/reputation/{user_id}", Method::Get, 90, &|record| {
            record.cache = CacheStatus::Miss;
            record.fwd = Some(Fwd::UriMiss);
        });
        request("/api/matches/candidates/{user_id}", Method::Get, 2300 + at, &|record| {
            record.parts = Parts { backend_us: 2_250_000, ..Parts::default() };
        });
    }
    request("/coach/chat/stream", Method::Post, 700, &|record| record.kind = Kind::Stream);
    request("/coach/chat", Method::Post, 1200, &|record| record.status = 502);
    request("<img src=x onerror=alert(1)>/{a}", Method::Get, 5, &|_| ());
    let unmatched = Record::new(telemetry.unmatched(), Method::Post, tokio::time::Instant::now());
    telemetry.finish(Record { status: 404, ..unmatched }, 3000, 3000);
    for operation in [Operation::Lookup, Operation::Store] {
        telemetry.cache_operation(Tier::Memory, operation, tokio::time::Instant::now(), 20);
    }
    Admin::new(&config(None, None), telemetry, fake.sources(), Drain::new())
}

/// An answer as a client sees it.
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Seen {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The `detail` member of an error.
    pub(crate) fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

/// Sends `METHOD target` with headers and a body from 10.0.0.1 to a service.
pub(crate) async fn ask<S: Service>(service: &S, line: &str, headers: &[(&str, &str)], body: &str) -> Seen {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header(header::HOST, "10.0.0.9:9090");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::full(body.to_owned())).unwrap();
    let peer: SocketAddr = "10.0.0.1:50000".parse().unwrap();
    seen(service.call(request, Context { peer: Some(peer), ..Context::internal() }).await.response).await
}

/// Posts a body that stops in its middle.
pub(crate) async fn ask_endless<S: Service>(service: &S, path: &str) -> Seen {
    let body = Body::stream(Stalled);
    let request =
        Request::builder().method("POST").uri(path).header(header::HOST, "localhost").body(body).unwrap();
    seen(service.call(request, Context::internal()).await.response).await
}

/// A body that never comes.
struct Stalled;

impl futures_core::Stream for Stalled {
    type Item = Result<Bytes, crate::net::BodyError>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

/// Reads a response to its end.
pub(crate) async fn seen(response: http::Response<Body>) -> Seen {
    let (head, body) = response.into_parts();
    let body = body.collect(1 << 22).await.unwrap();
    Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}
