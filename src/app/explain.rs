//! The two ends of `touchline explain`: a plane of its own for the question, and what a running one tells of its store.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{Arc, OnceLock, Weak},
};

use anyhow::Context as _;
use http::{Request, Response, StatusCode};

use crate::{
    admin::{EntryAsked, EntryFound, EntryView, IngressPart, PurgedBy, StoredEntry},
    cache::{Cache, Clock, Entry, Settings, observe::Observer},
    config::{Config, OnIngress},
    ingress::{BoxedAnswer, Explainer, Ingress, Inspected, Parts, Question, Taken},
    net::{Body, drain::Drain},
    telemetry::{Facts, Telemetry},
    upstream::Upstream,
};

/// A plane that answers questions about requests by a configuration. It serves nobody, opens no listener, and keeps
/// nothing but in a cache in memory of its own.
///
/// # Errors
/// When the configuration has no ingress plane.
pub fn explainer(config: &Config, clock: Clock) -> anyhow::Result<Explainer> {
    let section = config
        .ingress
        .as_ref()
        .context("the configuration has no `ingress`, so no request is served by it")?;
    let telemetry = Telemetry::new(&config.telemetry, Facts::default(), None);
    let stats = telemetry.upstream("backend");
    let upstream = Upstream::new(section.backend.clone(), &section.upstream, &section.limits, stats);
    let on_ingress = config.admin.on().map(|admin| admin.on_ingress.clone()).unwrap_or_default();
    let parts = Parts {
        cache: Arc::new(Cache::new(&Settings::from(&config.cache))),
        clock,
        upstream,
        taken: Some(Arc::new(OwnPaths(on_ingress))),
        drain: Drain::new(),
        chance: || 0,
        observer: Arc::new(Observer::new(&config.cache)),
        telemetry,
    };
    Ok(Explainer::new(config, section, parts)?)
}

/// The paths that the admin plane would answer on the ingress listener.
struct OwnPaths(Vec<OnIngress>);

impl Taken for OwnPaths {
    fn takes(&self, path: &str) -> bool {
        IngressPart::would_take(&self.0, path)
    }

    fn answer(&self, _: Request<Body>, _: Option<IpAddr>) -> BoxedAnswer<'_> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NOT_FOUND;
        Box::pin(std::future::ready(response))
    }
}

/// What the running plane has stored. The plane itself is there only after the admin plane, which this is plugged into.
pub(super) struct Entries {
    /// Weak, as the plane holds the admin plane and so this.
    plane: OnceLock<Weak<Ingress>>,
    config: Arc<Config>,
    hash: String,
}

impl EntryView for Entries {
    fn entry(&self, asked: &EntryAsked) -> Result<EntryFound, Cow<'static, str>> {
        let question = Question::new(&asked.method, &asked.url, &asked.headers, asked.peer)
            .map_err(|error| error.to_string())?;
        let plane = self.plane.get().and_then(Weak::upgrade);
        let (Some(plane), Some(section)) = (plane, &self.config.ingress) else {
            return Err("no ingress plane runs, so nothing is stored".into());
        };
        let inspected = plane
            .inspect(section, &question)
            .map_err(|refusal| format!("such a request is refused: {}", refusal.as_str()))?;
        Ok(self.told(inspected))
    }
}

impl Entries {
    pub(super) fn new(config: &Arc<Config>, hash: &str) -> Arc<Self> {
        Arc::new(Self { plane: OnceLock::new(), config: Arc::clone(config), hash: hash.to_owned() })
    }

    /// Tells the plane, once.
    pub(super) fn show(&self, ingress: &Arc<Ingress>) {
        let _ = self.plane.set(Arc::downgrade(ingress));
    }

    fn told(&self, inspected: Inspected) -> EntryFound {
        let Inspected { route, key, bypass, peek, now_ms } = inspected;
        EntryFound {
            config_hash: self.hash.clone(),
            route,
            key,
            bypass: bypass.map(|reason| reason.as_str().to_owned()),
            absence: peek.absence.map(|reason| reason.as_str().to_owned()),
            entry: peek.entry.as_deref().map(|entry| stored(entry, now_ms)),
            purged: peek.purged.map(|culprit| PurgedBy {
                scope: culprit.scope.to_owned(),
                soft: culprit.is_soft,
                generation: culprit.generation,
            }),
            variants: to_u64(peek.variants),
            hit_for_miss: peek.is_hit_for_miss,
        }
    }
}

fn stored(entry: &Entry, now_ms: u64) -> StoredEntry {
    let meta = entry.meta();
    StoredEntry {
        status: entry.status().as_u16(),
        source: meta.source.as_str().to_owned(),
        age_s: meta.age_s(now_ms),
        ttl_s: meta.ttl_s(now_ms),
        while_revalidate_ms: meta.swr_ms,
        if_error_ms: meta.sie_ms,
        on_disconnect_ms: meta.disconnect_ms,
        hits: entry.hits(),
        body_bytes: to_u64(entry.body().len()),
        bytes: to_u64(entry.size()),
        fetch_ms: entry.fetch_ms(),
        generation: entry.generation().number(),
        vary: entry.selection().names().map(ToString::to_string).collect(),
        tags: entry.tags().iter().map(|tag| tag.as_str().to_owned()).collect(),
    }
}

fn to_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
