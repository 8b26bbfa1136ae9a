//! The plane in force, and the workers that serve by it. Another configuration is another [`Ingress`] in the place of the
//! present one: requests that have begun end on the old one, those that come are served by the new one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use http::Request;

use super::{Core, Ingress, Journal, pipeline};
use crate::net::{Answer, Body, Context, Refusal, Service};

/// The plane in force.
pub struct Live {
    current: ArcSwap<Ingress>,
    /// That of `current`, where each request looks at it: it is only read, so it stays in every core's cache.
    generation: AtomicU64,
}

impl Live {
    /// Puts the first one in force.
    #[must_use]
    pub fn new(ingress: Arc<Ingress>) -> Arc<Self> {
        let generation = AtomicU64::new(ingress.generation);
        Arc::new(Self { current: ArcSwap::new(ingress), generation })
    }

    /// The one in force.
    #[must_use]
    pub fn current(&self) -> Arc<Ingress> {
        self.current.load_full()
    }

    /// Puts one in force that was made by [`Ingress::renewed`] of the present one.
    pub fn put(&self, ingress: Arc<Ingress>) {
        let generation = ingress.generation;
        self.current.store(ingress);
        self.generation.store(generation, Ordering::Release);
    }
}

/// One worker's share of the plane. Clones of its core stay on their worker, so counting them costs no traffic between
/// cores.
pub struct Worker {
    live: Arc<Live>,
    core: ArcSwap<Core>,
}

impl Worker {
    /// A worker without connections. Must be called on the worker's own runtime.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Self {
        let core = ArcSwap::new(Core::new(live.current()));
        Self { live, core }
    }

    /// What the next request holds on to.
    fn core(&self) -> Arc<Core> {
        let core = self.core.load_full();
        if core.ingress.generation == self.live.generation.load(Ordering::Acquire) {
            core
        } else {
            self.renewed(&core)
        }
    }

    /// The core of the plane that has come into force. The connections go on where they lead to the same place.
    #[cold]
    fn renewed(&self, old: &Core) -> Arc<Core> {
        let ingress = self.live.current();
        let core = if Arc::ptr_eq(old.client.upstream(), &ingress.upstream) {
            Arc::new(Core { ingress, client: old.client.clone() })
        } else {
            Core::new(ingress)
        };
        self.core.store(Arc::clone(&core));
        core
    }
}

impl Service for Worker {
    type Done = Journal;

    async fn call(&self, request: Request<Body>, context: Context) -> Answer<Journal> {
        pipeline::serve(&self.core(), request, context).await
    }

    fn refuse(&self, refusal: Refusal, context: Context) -> Answer<Journal> {
        pipeline::refuse(&self.core(), refusal, &context)
    }

    fn flooded(&self, limit: &'static str) {
        self.core.load().ingress.listener.refusals.increment(limit);
    }

    fn underscore_dropped(&self) {
        self.core.load().ingress.listener.underscores_dropped.increment();
    }
}
