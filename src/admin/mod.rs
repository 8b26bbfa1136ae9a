//! The admin plane: what operators, monitors and probes read, and the control listener through which they write.
//!
//! The plane imports no other plane. Numbers come from telemetry's snapshots; what the cache, the backend and the drain
//! have to say comes through the small traits of `sources`, which `app.rs` plugs in. The admin listener only reads and
//! may stand on the pod's address; the control listener writes and stays on loopback unless it has a token.

mod advise;
mod answer;
mod assets;
mod cache;
mod claude;
mod config_state;
mod control;
mod entry;
#[cfg(test)]
mod fakes;
mod guard;
mod health;
mod listener;
mod live;
mod merge;
mod page;
mod performance;
mod purge;
mod query;
mod shapes;
mod sources;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{CacheMode, ClaudeMode, Config, Route, ShownPaths};
use crate::net::drain::Drain;
use crate::telemetry::{Telemetry, random};

pub use control::ControlService;
pub use entry::{EntryAsked, EntryFound, EntryView, PurgedBy, StoredEntry};
pub use listener::{AdminService, IngressPart};
pub use sources::{
    Advisor, BackendAnswer, BackendDown, BackendHealth, Boxed, CacheView, Draining, Health, PeerAnswer,
    Peers, Purge, Purged, Reloaded, Reloading, Scope, Sources, TopKey,
};

/// What both listeners and the part on ingress share: the numbers, what paces writes, and what the configuration says.
pub struct Admin {
    telemetry: Arc<Telemetry>,
    pace: purge::Pace,
    backend: merge::SharedFetch,
    boards: live::Boards,
    /// The name of this process, by which it knows itself among the pods that it asks.
    instance: String,
    assets: assets::Assets,
    drain: Drain,
    terms: ArcSwap<Terms>,
}

/// What the configuration says: tokens and their wrong guesses, names, and what is plugged in.
struct Terms {
    sources: Sources,
    hosts: guard::Hosts,
    reads: guard::Token,
    writes: guard::Token,
    cache_hit_target: u8,
    /// The routes as they are configured, which advice keeps to.
    routes: Vec<Route>,
    is_observing: bool,
    cache_mode: CacheMode,
    claude_mode: Option<ClaudeMode>,
    /// Where the backend is, and how many requests may be there at once.
    backend_facts: Option<(String, u32)>,
    /// How much of a path is shown.
    paths: ShownPaths,
}

impl Admin {
    /// The plane as `config` wants it. A listener that is off still has its guards: the other one uses them.
    #[must_use]
    pub fn new(config: &Config, telemetry: Arc<Telemetry>, sources: Sources, drain: Drain) -> Self {
        Self {
            telemetry,
            pace: purge::Pace::new(),
            backend: merge::SharedFetch::new(),
            boards: live::Boards::default(),
            instance: format!("{:016x}{:016x}", random(), random()),
            assets: assets::Assets::default(),
            drain,
            terms: ArcSwap::from_pointee(Terms::new(config, sources)),
        }
    }

    /// Goes on as another configuration wants it. Who watches a page goes on watching.
    pub fn apply(&self, config: &Config, sources: Sources) {
        self.terms.store(Arc::new(Terms::new(config, sources)));
    }

    fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }
}

impl Terms {
    fn new(config: &Config, sources: Sources) -> Self {
        let (admin, control) = (config.admin.on(), config.control.on());
        let routes = config.ingress.as_ref().map(|ingress| ingress.routes.clone()).unwrap_or_default();
        let observes =
            |route: &Route| route.cache.as_ref().is_some_and(|cache| cache.mode == Some(CacheMode::Observe));
        Self {
            sources,
            hosts: guard::Hosts::new(admin.map_or(&[], |admin| &admin.hosts)),
            reads: guard::Token::new(admin.and_then(|admin| admin.token.as_ref())),
            writes: guard::Token::new(control.and_then(|control| control.token.as_ref())),
            cache_hit_target: config.telemetry.cache_hit_target,
            is_observing: config.cache.mode == CacheMode::Observe || routes.iter().any(observes),
            routes,
            cache_mode: config.cache.mode,
            claude_mode: config.claude.as_ref().map(|claude| claude.mode),
            backend_facts: config
                .ingress
                .as_ref()
                .map(|ingress| (ingress.backend.to_string(), ingress.upstream.in_flight)),
            paths: admin.map(|admin| admin.paths).unwrap_or_default(),
        }
    }
}
