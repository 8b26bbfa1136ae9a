//! Puts the planes together: the one place that names all of them. Builds everything from one configuration, opens the
//! listeners, starts the workers, and takes it all down again in order.

mod claude;
mod explain;
mod leaving;
mod notify;
mod peers;
mod plugs;
mod running;
mod sockets;
mod workers;

use std::{
    sync::{Arc, mpsc::sync_channel},
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::info;

use self::{
    explain::Entries,
    leaving::Outlasting,
    peers::Replicas,
    plugs::{Advising, Backend, CacheSizesOf, Ending, IngressPaths, MostUsed, Probes, Purging},
    sockets::{Claim, Opening, Sockets},
    workers::{Beats, Pace},
};
use crate::{
    admin::{Admin, AdminService, ControlService, Health, IngressPart, Sources},
    cache::{Cache, Clock, Settings, observe::Observer},
    claude::{Claude, Worker as ClaudeWorker},
    config::{self, Config, Loaded, RuntimeMode},
    ingress::{self, Ingress, Taken},
    net::{
        Service,
        drain::Drain,
        h1,
        listener::Gate,
        serve::{self, Serving},
    },
    telemetry::{self, CacheSource, Facts, Listener, Sink, Telemetry, alerts::Watch},
    upstream::{Upstream, health},
};

pub use self::{explain::explainer, running::Running};

/// Connections to the admin and the control listener: enough for probes, scrapers and people, whatever the ingress does.
const OPERATOR_CONNECTIONS: u32 = 64;

/// How long an operator's client may take for a request head.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(5);

/// Starts the process's planes.
pub struct App;

/// Everything that the threads need, built before any of them runs.
struct Plan {
    config: Arc<Config>,
    drain: Drain,
    /// The end of the listeners that the backend calls out through: it comes after its last request.
    egress: Drain,
    pace: Arc<Pace>,
    outlasting: Outlasting,
    /// Says true when the listeners take connections.
    opened: watch::Receiver<bool>,
    health: Arc<dyn Health>,
    telemetry: Arc<Telemetry>,
    beats: Arc<Beats>,
    /// The plane, and the gate that all its workers share.
    ingress: Option<(Arc<Ingress>, Arc<Gate>)>,
    upstream: Option<Arc<Upstream>>,
    /// The plane for calls to Claude, and the gate that all its workers share.
    claude: Option<(Arc<Claude>, Arc<Gate>)>,
    cache: Arc<Cache>,
    admin: Arc<Admin>,
    /// Looks at the rules for alerts, once it is spawned.
    watch: Mutex<Option<Watch>>,
    /// Kept alive here, as telemetry holds it weakly.
    _sizes: Arc<dyn CacheSource>,
}

impl App {
    /// Builds and starts everything. The access log goes to `sink`. Returns when every listener accepts connections.
    ///
    /// # Errors
    /// When an address cannot be bound or a thread cannot be started.
    pub fn start(loaded: Loaded, sink: Option<Sink>) -> anyhow::Result<Running> {
        Self::begin(loaded, sink, Claim::Alone)
    }

    /// Builds and starts everything beside another process of the same user that serves the same addresses. No listener
    /// takes a connection before [`Running::open`].
    ///
    /// # Errors
    /// When an address cannot be shared or a thread cannot be started.
    pub fn start_beside(loaded: Loaded, sink: Option<Sink>) -> anyhow::Result<Running> {
        Self::begin(loaded, sink, Claim::Beside)
    }

    fn begin(loaded: Loaded, sink: Option<Sink>, claim: Claim) -> anyhow::Result<Running> {
        let Loaded { config, hash, .. } = loaded;
        let (workers, config) = (workers::count(&config.runtime), Arc::new(config));
        let shares = shares(&config, workers);
        let mut sockets = Sockets::bind(&config, shares, claim)?;
        let (addresses, opening) = (sockets.addresses()?, Opening::new(&sockets, claim)?);
        let plan = Plan::build(Arc::clone(&config), hash, sink, opening.opened())?;
        let mut running = Running {
            drain: plan.drain.clone(),
            egress: plan.egress.clone(),
            pace: Arc::clone(&plan.pace),
            telemetry: Arc::clone(&plan.telemetry),
            health: Arc::clone(&plan.health),
            threads: Vec::new(),
            addresses,
            opening,
            outlasting: plan.outlasting.clone(),
            pacing: config.drain.clone(),
        };
        let (ready_tx, ready_rx) = sync_channel(workers + 2);
        let plan = Arc::new(plan);
        for index in 0..shares {
            let (plan, ready) = (Arc::clone(&plan), ready_tx.clone());
            let sockets = (sockets.ingress.pop(), sockets.claude.pop());
            let runtime = workers::ingress_runtime(config.runtime.mode, workers);
            running.spawn(&format!("ingress-{index}"), move || {
                workers::run(runtime, ready, &plan.pace, &plan.drain, || plan.serve_clients(sockets, index));
            })?;
        }
        if plan.cache.redis().is_some() {
            let (plan, ready) = (Arc::clone(&plan), ready_tx.clone());
            running.spawn("redis", move || {
                let runtime = workers::operator_runtime();
                workers::run(runtime, ready, &plan.pace, &plan.drain, || {
                    plan.keep_redis();
                    Ok(())
                });
            })?;
        }
        let operator_plan = Arc::clone(&plan);
        let started = running.threads.len() + 1;
        running.spawn("operators", move || {
            let plan = operator_plan;
            let runtime = workers::operator_runtime();
            workers::run(runtime, ready_tx, &plan.pace, &plan.drain, || plan.serve_operators(sockets));
        })?;
        running.wait_until_ready(&ready_rx, started)?;
        info!(
            version = env!("CARGO_PKG_VERSION"),
            workers,
            mode = config.runtime.mode.as_str(),
            ingress = addresses.ingress.map(tracing::field::display),
            backend = config.ingress.as_ref().map(|ingress| tracing::field::display(&ingress.backend)),
            claude = addresses.claude.map(tracing::field::display),
            admin = addresses.admin.map(tracing::field::display),
            control = addresses.control.map(tracing::field::display),
            "touchline is up"
        );
        Ok(running)
    }
}

impl Plan {
    fn build(
        config: Arc<Config>,
        hash: String,
        sink: Option<Sink>,
        opened: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let (drain, egress) = (Drain::new(), Drain::new());
        let pace = Arc::new(Pace::default());
        let workers = workers::count(&config.runtime);
        let entries = Entries::new(&config, &hash);
        let telemetry = Telemetry::new(&config.telemetry, facts(&config, hash), sink);
        let clock = Clock::system();
        let cache = Cache::new(&Settings::from(&config.cache)).shared(&config.cache, clock);
        let cache = Arc::new(cache.context("reading the certificates of cache.redis")?);
        cache.redis().into_iter().for_each(|stats| telemetry.watch_redis(Arc::clone(stats)));
        let observer = Arc::new(Observer::new(&config.cache));
        let sizes: Arc<dyn CacheSource> = Arc::new(CacheSizesOf(Arc::clone(&cache)));
        telemetry.watch_cache(Arc::downgrade(&sizes));
        let beats = Arc::new(Beats::new(workers));
        let upstream = backend(&config, &telemetry);
        let readiness = config.admin.on().map(|admin| admin.readiness.clone()).unwrap_or_default();
        let health: Arc<dyn Health> = Arc::new(Probes {
            drain: drain.clone(),
            pace: Arc::clone(&pace),
            upstream: upstream.clone(),
            readiness,
            beats: Arc::clone(&beats),
        });
        let sources = Sources {
            purge: Arc::new(Purging { cache: Arc::clone(&cache), clock, telemetry: Arc::clone(&telemetry) }),
            health: Arc::clone(&health),
            backend: upstream.clone().map(|upstream| Arc::new(Backend::new(upstream)) as _),
            cache: Some(Arc::new(MostUsed {
                cache: Arc::clone(&cache),
                clock,
                paths: config.admin.on().map(|admin| admin.paths).unwrap_or_default(),
            })),
            entries: config.ingress.is_some().then(|| Arc::clone(&entries) as _),
            advisor: config
                .ingress
                .as_ref()
                .map(|_| Arc::new(Advising { observer: Arc::clone(&observer), clock }) as _),
            draining: Arc::new(Ending::new(&drain, &egress, &pace)),
            peers: Replicas::new(&config, &drain).map(|replicas| Arc::new(replicas) as _),
        };
        let admin = Arc::new(Admin::new(&config, Arc::clone(&telemetry), sources, drain.clone()));
        let taken = taken(&config, &admin);
        let ingress = match (&config.ingress, &upstream) {
            (Some(section), Some(upstream)) => {
                let parts = ingress::Parts {
                    telemetry: Arc::clone(&telemetry),
                    cache: Arc::clone(&cache),
                    observer,
                    clock,
                    upstream: Arc::clone(upstream),
                    taken,
                    drain: drain.clone(),
                    chance: telemetry::random,
                };
                let stats = telemetry.listener(Listener::Ingress);
                let gate = Gate::new(section.limits.connections, section.limits.per_ip, stats);
                let ingress = Ingress::new(&config, section, parts)?;
                // Set once, as the plan is built once.
                let _ = entries.plane.set(Arc::downgrade(&ingress));
                Some((ingress, gate))
            }
            _ => None,
        };
        let claude = claude::plane(&config, &telemetry, &cache, &drain)?;
        Ok(Self {
            watch: Mutex::new(notify::watch(&config, &telemetry, &cache)?),
            outlasting: Outlasting::new(&config.drain, upstream.as_ref(), &pace),
            config,
            drain,
            egress,
            pace,
            opened,
            health,
            telemetry,
            beats,
            ingress,
            upstream,
            claude,
            cache,
            admin,
            _sizes: sizes,
        })
    }

    /// Runs on a worker: accepts and serves clients, and the backend where it is one.
    fn serve_clients(
        &self,
        (ingress, claude): (Option<std::net::TcpListener>, Option<std::net::TcpListener>),
        index: usize,
    ) -> anyhow::Result<()> {
        self.beats.spawn(index, &self.drain);
        if let Some(socket) = ingress {
            self.serve_ingress(socket)?;
        }
        let (Some(socket), Some((claude, gate))) = (claude, &self.claude) else { return Ok(()) };
        let serving = Serving {
            service: Arc::new(ClaudeWorker::new(Arc::clone(claude))),
            gate: Arc::clone(gate),
            limits: Claude::connection_limits(),
            http2: None,
            buffers: Arc::default(),
            drain: self.egress.clone(),
        };
        self.listen("claude", socket, serving)?;
        let shares = shares(&self.config, workers::count(&self.config.runtime));
        let own = shares + self.redis_tasks();
        self.outlasting.clone().spawn_egress(&self.drain, own, self.egress.clone(), shares);
        Ok(())
    }

    fn serve_ingress(&self, socket: std::net::TcpListener) -> anyhow::Result<()> {
        let (Some((ingress, gate)), Some(section)) = (&self.ingress, &self.config.ingress) else {
            return Ok(());
        };
        let serving = Serving {
            service: Arc::new(ingress::Worker::new(Arc::clone(ingress))),
            gate: Arc::clone(gate),
            limits: Ingress::connection_limits(section),
            http2: section.http2.then(|| Arc::new(section.limits.http2.clone())),
            buffers: Arc::default(),
            drain: self.drain.clone(),
        };
        self.listen("ingress", socket, serving)
    }

    /// Serves a listener from now on, or from when it is opened.
    fn listen<S: Service>(
        &self,
        name: &str,
        socket: std::net::TcpListener,
        serving: Serving<S>,
    ) -> anyhow::Result<()> {
        let mut opened = self.opened.clone();
        if *opened.borrow_and_update() {
            return serve::spawn(socket, serving).with_context(|| format!("registering the {name} listener"));
        }
        let opened = async move { opened.wait_for(|is_open| *is_open).await.is_ok() };
        serve::spawn_later(socket, opened, serving);
        Ok(())
    }

    /// Runs on a thread of its own, so that neither a large value nor a slow scrape holds up what requests ask of Redis.
    fn keep_redis(&self) {
        // What the last requests have to say to other replicas is said before the end.
        let own = self.cache.writers() + 1;
        let is_done = || {
            let cache = Arc::clone(&self.cache);
            move || cache.has_told_all()
        };
        let cache = Arc::clone(&self.cache);
        workers::spawn_until_last(&self.drain, own, is_done(), async move { cache.keep().await });
        for index in 0..self.cache.writers() {
            let cache = Arc::clone(&self.cache);
            workers::spawn_until_last(&self.drain, own, is_done(), async move { cache.write(index).await });
        }
        if let Some((stats, name)) = self.telemetry.claude().zip(claude::keeping::note_name(&self.config)) {
            claude::keeping::spawn(&self.cache, stats, name, own, &self.drain);
        }
    }

    /// How many tasks [`Self::keep_redis`] spawns, which end after all others.
    fn redis_tasks(&self) -> usize {
        let counts = usize::from(claude::keeping::note_name(&self.config).is_some());
        self.cache.redis().map_or(0, |_| self.cache.writers() + 1 + counts)
    }

    /// Runs on the operators' thread: the admin and control listeners, and what is done beside requests.
    fn serve_operators(&self, sockets: Sockets) -> anyhow::Result<()> {
        let limits = config::Limits { header_timeout: OPERATOR_PATIENCE, ..config::Limits::default() };
        let limits = Arc::new(h1::Limits::downstream(&limits, config::Underscores::Drop));
        let gate = |listener| Gate::new(OPERATOR_CONNECTIONS, 0, self.telemetry.listener(listener));
        if let Some(socket) = sockets.admin {
            let service = Arc::new(AdminService::new(Arc::clone(&self.admin)));
            let (limits, drain) = (Arc::clone(&limits), self.drain.clone());
            let serving = Serving {
                service,
                gate: gate(Listener::Admin),
                limits,
                http2: None,
                buffers: Arc::default(),
                drain,
            };
            self.listen("admin", socket, serving)?;
        }
        if let Some(socket) = sockets.control {
            let service = Arc::new(ControlService::new(Arc::clone(&self.admin)));
            let serving = Serving {
                service,
                gate: gate(Listener::Control),
                limits,
                http2: None,
                buffers: Arc::default(),
                drain: self.drain.clone(),
            };
            self.listen("control", socket, serving)?;
        }
        workers::spawn_looking_around(Arc::clone(&self.telemetry), &self.drain);
        if let (Some(upstream), Some((ingress, _)), Some(section)) =
            (&self.upstream, &self.ingress, &self.config.ingress)
        {
            let path = self.config.admin.on().and_then(|admin| admin.readiness.path.clone());
            health::spawn(Arc::clone(upstream), path, &self.drain);
            workers::spawn_refreshing(Arc::clone(upstream), &self.drain);
            ingress::spawn_watching_keys(Arc::clone(ingress), &self.drain);
            if let Some(path) = section.openapi.clone() {
                ingress::spawn_learning(Arc::clone(ingress), section.slow_after, path, &self.drain);
            }
            ingress::spawn_warming(ingress, &self.config.cache, section, &self.drain);
        }
        if let Some(watch) = self.watch.lock().take() {
            notify::spawn(watch, &self.drain);
        }
        if let Some(exporter) = notify::exporter(&self.config, &self.telemetry)? {
            notify::spawn_export(exporter, &self.drain);
        }
        Ok(())
    }
}

/// The way to the backend; none without an ingress plane.
fn backend(config: &Config, telemetry: &Telemetry) -> Option<Arc<Upstream>> {
    config.ingress.as_ref().map(|ingress| {
        let stats = telemetry.upstream("backend");
        Upstream::new(ingress.backend.clone(), &ingress.upstream, &ingress.limits, stats)
    })
}

/// The paths of the admin plane that the ingress answers.
fn taken(config: &Config, admin: &Arc<Admin>) -> Option<Arc<dyn Taken>> {
    let on_ingress = config.admin.on().map(|admin| admin.on_ingress.as_slice()).unwrap_or_default();
    let part = IngressPart::new(Arc::clone(admin), on_ingress);
    part.map(|part| Arc::new(IngressPaths(part)) as Arc<dyn Taken>)
}

/// How many threads serve clients, each with listeners of its own.
fn shares(config: &Config, workers: usize) -> usize {
    if config.runtime.mode == RuntimeMode::PerCore { workers } else { 1 }
}

/// What this process is.
fn facts(config: &Config, config_hash: String) -> Facts {
    let service = config.telemetry.service.clone().unwrap_or_else(|| "touchline".to_owned());
    Facts { service, version: env!("CARGO_PKG_VERSION"), pod: config::host_name(), config_hash }
}
