//! Puts the planes together: the one place that names all of them. Builds everything from one configuration, opens the
//! listeners, starts the workers, and takes it all down again in order.

mod claude;
mod explain;
mod leaving;
mod notify;
mod peers;
mod plugs;
mod reload;
mod running;
mod sockets;
mod workers;

use std::{
    sync::{Arc, mpsc::sync_channel},
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    watch,
};
use tracing::info;

use self::{
    explain::Entries,
    leaving::Outlasting,
    notify::Renewal,
    peers::Replicas,
    plugs::{Advising, Backend, CacheSizesOf, Ending, IngressPaths, MostUsed, Probes, Purging},
    reload::{Asking, Reloader},
    sockets::{Claim, Opening, Sockets},
    workers::{Beats, Pace},
};
use crate::{
    admin::{Admin, AdminService, ControlService, Health, IngressPart, Sources},
    cache::{Cache, Clock, Settings, observe::Observer},
    claude::{Claude, Worker as ClaudeWorker},
    config::{self, Config, Fingerprint, Loaded, RuntimeMode, Watched},
    ingress::{self, Ingress, Taken},
    net::{
        Service,
        drain::Drain,
        h1,
        listener::Gate,
        serve::{self, Serving, Terms},
    },
    telemetry::{self, CacheSource, Facts, Listener, Sink, Telemetry, alerts::Watch, log::LevelHandle},
    upstream::{Upstream, health},
};

pub use self::{explain::explainer, running::Running};

/// Connections to the admin and the control listener: enough for probes, scrapers and people, whatever the ingress does.
const OPERATOR_CONNECTIONS: u32 = 64;

/// How long an operator's client may take for a request head.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(5);

/// Starts the process's planes.
pub struct App;

/// What a process serves with beside its configuration.
#[derive(Default)]
pub struct Surroundings {
    /// Where the access log goes.
    pub access_log: Option<Sink>,
    /// Sets the level of the program's own log.
    pub level: Option<LevelHandle>,
    /// The file of the configuration, to be looked at for changes, and what it held before it was read.
    pub file: Option<(Watched, Fingerprint)>,
}

/// Everything that the threads need, built before any of them runs.
struct Plan {
    /// What goes on by one configuration, and changes with it.
    present: Mutex<Present>,
    drain: Drain,
    /// The end of the listeners that the backend calls out through: it comes after its last request.
    egress: Drain,
    pace: Arc<Pace>,
    outlasting: Outlasting,
    /// Says true when the listeners take connections.
    opened: watch::Receiver<bool>,
    health: Arc<dyn Health>,
    telemetry: Arc<Telemetry>,
    level: Option<LevelHandle>,
    beats: Arc<Beats>,
    clock: Clock,
    observer: Arc<Observer>,
    ingress: Option<IngressPlane>,
    /// The plane for calls to Claude, and the gate that all its workers share.
    claude: Option<(Arc<Claude>, Arc<Gate>)>,
    cache: Arc<Cache>,
    admin: Arc<Admin>,
    /// Looks at the rules for alerts, once it is spawned.
    watch: Mutex<Option<Watch>>,
    /// Takes watches of other configurations to where the present one is.
    renewals: UnboundedSender<Renewal>,
    renewed: Mutex<Option<UnboundedReceiver<Renewal>>>,
    asking: Asking,
    /// Kept alive here, as telemetry holds it weakly.
    _sizes: Arc<dyn CacheSource>,
}

/// What goes on by one configuration.
struct Present {
    config: Arc<Config>,
    /// What is done beside requests, until another configuration is in force.
    term: Drain,
}

/// The ingress plane, and what all its workers share.
struct IngressPlane {
    live: Arc<ingress::Live>,
    upstream: Arc<ArcSwap<Upstream>>,
    gate: Arc<Gate>,
    terms: Arc<ArcSwap<Terms>>,
}

impl App {
    /// Builds and starts everything. Returns when every listener accepts connections.
    ///
    /// # Errors
    /// When an address cannot be bound or a thread cannot be started.
    pub fn start(loaded: Loaded, surroundings: Surroundings) -> anyhow::Result<Running> {
        Self::begin(loaded, surroundings, Claim::Alone)
    }

    /// Builds and starts everything beside another process of the same user that serves the same addresses. No listener
    /// takes a connection before [`Running::open`].
    ///
    /// # Errors
    /// When an address cannot be shared or a thread cannot be started.
    pub fn start_beside(loaded: Loaded, surroundings: Surroundings) -> anyhow::Result<Running> {
        Self::begin(loaded, surroundings, Claim::Beside)
    }

    fn begin(loaded: Loaded, surroundings: Surroundings, claim: Claim) -> anyhow::Result<Running> {
        let Surroundings { access_log, level, file } = surroundings;
        let workers = workers::count(&loaded.config.runtime);
        let shares = shares(&loaded.config, workers);
        let mut sockets = Sockets::bind(&loaded.config, shares, claim)?;
        let (addresses, opening) = (sockets.addresses()?, Opening::new(&sockets, claim)?);
        let (asking, asked) = reload::asking();
        let reloader = file.map(|file| Reloader::new(file, &loaded, asked));
        let plan = Plan::build(loaded, (access_log, level), opening.opened(), asking.clone())?;
        let config = plan.config();
        let plan = Arc::new(plan);
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
            plan: Arc::clone(&plan),
            asking,
        };
        let (ready_tx, ready_rx) = sync_channel(workers + 2);
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
        let started = running.threads.len() + 1;
        running.spawn("operators", move || {
            let runtime = workers::operator_runtime();
            workers::run(runtime, ready_tx, &plan.pace, &plan.drain, || {
                plan.serve_operators(sockets)?;
                if let Some(reloader) = reloader {
                    reloader.spawn(&plan);
                }
                Ok(())
            });
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

/// The parts that the sources of the admin plane are made of, whatever the configuration.
struct Lasting<'a> {
    drain: &'a Drain,
    egress: &'a Drain,
    pace: &'a Arc<Pace>,
    telemetry: &'a Arc<Telemetry>,
    beats: &'a Arc<Beats>,
    clock: Clock,
    observer: &'a Arc<Observer>,
    cache: &'a Arc<Cache>,
    asking: &'a Asking,
}

impl Lasting<'_> {
    /// The answers of the probes, by one configuration.
    fn health(&self, config: &Config, upstream: Option<&Arc<Upstream>>) -> Arc<dyn Health> {
        Arc::new(Probes {
            drain: self.drain.clone(),
            pace: Arc::clone(self.pace),
            upstream: upstream.cloned(),
            readiness: config.admin.on().map(|admin| admin.readiness.clone()).unwrap_or_default(),
            beats: Arc::clone(self.beats),
        })
    }

    /// What the admin plane asks, by one configuration.
    fn sources(
        &self,
        config: &Config,
        upstream: Option<&Arc<Upstream>>,
        entries: Option<Arc<Entries>>,
        health: Arc<dyn Health>,
    ) -> Sources {
        let (cache, clock) = (self.cache, self.clock);
        Sources {
            purge: Arc::new(Purging {
                cache: Arc::clone(cache),
                clock,
                telemetry: Arc::clone(self.telemetry),
            }),
            health,
            backend: upstream.map(|upstream| Arc::new(Backend::new(Arc::clone(upstream))) as _),
            cache: Some(Arc::new(MostUsed {
                cache: Arc::clone(cache),
                clock,
                paths: config.admin.on().map(|admin| admin.paths).unwrap_or_default(),
            })),
            entries: entries.map(|entries| entries as _),
            advisor: config
                .ingress
                .as_ref()
                .map(|_| Arc::new(Advising { observer: Arc::clone(self.observer), clock }) as _),
            draining: Arc::new(Ending::new(self.drain, self.egress, self.pace)),
            peers: Replicas::new(config, self.drain).map(|replicas| Arc::new(replicas) as _),
            reloading: Arc::new(self.asking.clone()),
        }
    }
}

impl Plan {
    fn build(
        loaded: Loaded,
        (sink, level): (Option<Sink>, Option<LevelHandle>),
        opened: watch::Receiver<bool>,
        asking: Asking,
    ) -> anyhow::Result<Self> {
        let Loaded { config, hash, .. } = loaded;
        let config = Arc::new(config);
        let (drain, egress) = (Drain::new(), Drain::new());
        let pace = Arc::new(Pace::default());
        let telemetry = Telemetry::new(&config.telemetry, facts(&config, hash.clone()), sink);
        let clock = Clock::system();
        let cache = Cache::new(&Settings::from(&config.cache)).shared(&config.cache, clock);
        let cache = Arc::new(cache.context("reading the certificates of cache.redis")?);
        cache.redis().into_iter().for_each(|stats| telemetry.watch_redis(Arc::clone(stats)));
        let observer = Arc::new(Observer::new(&config.cache));
        let sizes: Arc<dyn CacheSource> = Arc::new(CacheSizesOf(Arc::clone(&cache)));
        telemetry.watch_cache(Arc::downgrade(&sizes));
        let beats = Arc::new(Beats::new(workers::count(&config.runtime)));
        let upstream = config.ingress.as_ref().map(|ingress| backend(ingress, &telemetry));
        let entries = config.ingress.as_ref().map(|_| Entries::new(&config, &hash));
        let lasting = Lasting {
            drain: &drain,
            egress: &egress,
            pace: &pace,
            telemetry: &telemetry,
            beats: &beats,
            clock,
            observer: &observer,
            cache: &cache,
            asking: &asking,
        };
        let health = lasting.health(&config, upstream.as_ref());
        let sources = lasting.sources(&config, upstream.as_ref(), entries.clone(), Arc::clone(&health));
        let admin = Arc::new(Admin::new(&config, Arc::clone(&telemetry), sources, drain.clone()));
        let ingress = match (&config.ingress, upstream) {
            (Some(section), Some(upstream)) => {
                let parts = ingress::Parts {
                    telemetry: Arc::clone(&telemetry),
                    cache: Arc::clone(&cache),
                    observer: Arc::clone(&observer),
                    clock,
                    upstream: Arc::clone(&upstream),
                    taken: taken(&config, &admin),
                    drain: drain.clone(),
                    chance: telemetry::random,
                };
                let stats = telemetry.listener(Listener::Ingress);
                let gate = Gate::new(section.limits.connections, section.limits.per_ip, stats);
                let ingress = Ingress::new(&config, section, parts)?;
                if let Some(entries) = &entries {
                    entries.show(&ingress);
                }
                let (limits, http2) = ingress_terms(section);
                let live = ingress::Live::new(ingress);
                let terms = Terms::shared(limits, http2);
                Some(IngressPlane { live, upstream: Arc::new(ArcSwap::new(upstream)), gate, terms })
            }
            _ => None,
        };
        let claude = claude::plane(&config, &telemetry, &cache, &drain)?;
        let (renewals, renewed) = unbounded_channel();
        Ok(Self {
            watch: Mutex::new(notify::watch(&config, &telemetry, &cache)?),
            renewals,
            renewed: Mutex::new(Some(renewed)),
            outlasting: Outlasting::new(&config.drain, ingress.as_ref().map(|plane| &plane.upstream), &pace),
            present: Mutex::new(Present { config, term: drain.with_term() }),
            drain,
            egress,
            pace,
            opened,
            health,
            telemetry,
            level,
            beats,
            clock,
            observer,
            ingress,
            claude,
            cache,
            admin,
            asking,
            _sizes: sizes,
        })
    }

    /// The configuration in force.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.present.lock().config)
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
            terms: Terms::shared(Claude::connection_limits(), None),
            buffers: Arc::default(),
            drain: self.egress.clone(),
        };
        self.listen("claude", socket, serving)?;
        let config = self.config();
        let shares = shares(&config, workers::count(&config.runtime));
        let own = shares + self.redis_tasks();
        self.outlasting.clone().spawn_egress(&self.drain, own, self.egress.clone(), shares);
        Ok(())
    }

    fn serve_ingress(&self, socket: std::net::TcpListener) -> anyhow::Result<()> {
        let Some(plane) = &self.ingress else { return Ok(()) };
        let serving = Serving {
            service: Arc::new(ingress::Worker::new(Arc::clone(&plane.live))),
            gate: Arc::clone(&plane.gate),
            terms: Arc::clone(&plane.terms),
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
        if let Some((stats, name)) = self.telemetry.claude().zip(claude::keeping::note_name(&self.config())) {
            claude::keeping::spawn(&self.cache, stats, name, own, &self.drain);
        }
    }

    /// How many tasks [`Self::keep_redis`] spawns, which end after all others.
    fn redis_tasks(&self) -> usize {
        let counts = usize::from(claude::keeping::note_name(&self.config()).is_some());
        self.cache.redis().map_or(0, |_| self.cache.writers() + 1 + counts)
    }

    /// Runs on the operators' thread: the admin and control listeners, and what is done beside requests.
    fn serve_operators(&self, sockets: Sockets) -> anyhow::Result<()> {
        let limits = config::Limits { header_timeout: OPERATOR_PATIENCE, ..config::Limits::default() };
        let limits = Arc::new(h1::Limits::downstream(&limits, config::Underscores::Drop));
        let terms = Terms::shared(limits, None);
        let gate = |listener| Gate::new(OPERATOR_CONNECTIONS, 0, self.telemetry.listener(listener));
        if let Some(socket) = sockets.admin {
            let serving = Serving {
                service: Arc::new(AdminService::new(Arc::clone(&self.admin))),
                gate: gate(Listener::Admin),
                terms: Arc::clone(&terms),
                buffers: Arc::default(),
                drain: self.drain.clone(),
            };
            self.listen("admin", socket, serving)?;
        }
        if let Some(socket) = sockets.control {
            let serving = Serving {
                service: Arc::new(ControlService::new(Arc::clone(&self.admin))),
                gate: gate(Listener::Control),
                terms,
                buffers: Arc::default(),
                drain: self.drain.clone(),
            };
            self.listen("control", socket, serving)?;
        }
        workers::spawn_looking_around(Arc::clone(&self.telemetry), &self.drain);
        if let Some(renewed) = self.renewed.lock().take() {
            notify::spawn(self.watch.lock().take(), renewed, &self.drain);
        }
        let config = self.config();
        if let Some(exporter) = notify::exporter(&config, &self.telemetry)? {
            notify::spawn_export(exporter, &self.drain);
        }
        let term = self.present.lock().term.clone();
        self.look_after_ingress(&config, &term);
        Ok(())
    }

    /// Spawns what is done beside requests by one configuration, until its term is over.
    fn look_after_ingress(&self, config: &Config, term: &Drain) {
        let (Some(plane), Some(section)) = (&self.ingress, &config.ingress) else { return };
        let (ingress, upstream) = (plane.live.current(), plane.upstream.load_full());
        let path = config.admin.on().and_then(|admin| admin.readiness.path.clone());
        health::spawn(Arc::clone(&upstream), path, term);
        workers::spawn_refreshing(upstream, term);
        ingress::spawn_watching_keys(Arc::clone(&ingress), term);
        if let Some(path) = section.openapi.clone() {
            ingress::spawn_learning(Arc::clone(&ingress), section.slow_after, path, term);
        }
        ingress::spawn_warming(&ingress, &config.cache, section, term);
    }
}

/// The backend as a configuration describes it.
fn backend(ingress: &config::Ingress, telemetry: &Telemetry) -> Arc<Upstream> {
    let stats = telemetry.upstream("backend");
    Upstream::new(ingress.backend.clone(), &ingress.upstream, &ingress.limits, stats)
}

/// The paths that the admin plane answers on the ingress listener; none where it answers none.
fn taken(config: &Config, admin: &Arc<Admin>) -> Option<Arc<dyn Taken>> {
    let on_ingress = config.admin.on().map(|admin| admin.on_ingress.as_slice()).unwrap_or_default();
    let part = IngressPart::new(Arc::clone(admin), on_ingress);
    part.map(|part| Arc::new(IngressPaths(part)) as Arc<dyn Taken>)
}

/// What holds for new connections of clients.
fn ingress_terms(section: &config::Ingress) -> (Arc<h1::Limits>, Option<Arc<config::Http2Limits>>) {
    let http2 = section.http2.then(|| Arc::new(section.limits.http2.clone()));
    (Ingress::connection_limits(section), http2)
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
