//! The entry of the module: [`Telemetry`], which owns all statistics, gives out handles and takes records.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::config;

use super::{
    access_log::{AccessLog, Sink},
    alerts::Board,
    cache_stats::{CacheSizes, CacheSource, Operation, Operations, Tier},
    claude::{Call, ClaudeStats},
    counters::Counter,
    health_score::Since,
    listener::{Listener, ListenerStats},
    marks::{MarkKind, Marks},
    otlp::{Counts as ExportCounts, Span, Spans},
    recent_calls::{CallWindow, RecentCalls, TracedCalls},
    record::{Basis, CacheStatus, Record},
    redis::RedisStats,
    routes::{Budget, OTHER, RouteStats, Times, UNMATCHED},
    slow::{SlowRequest, SlowRing},
    tail::{Filter, Tail, Watching},
    tally::Tally,
    upstream::UpstreamStats,
    windows::{TICK_SECONDS, Window},
};

/// 90 slots of 10 s: the quarter of an hour that the chart shows.
pub(super) const CHART_SLOTS: u32 = 90;
/// The colours of the chart: hit, miss, bypass, error.
pub(super) const CHART_OUTCOMES: usize = 4;
/// What counts for the objective: good answers, bad ones (5xx), and slow ones beside both.
const SLO_OUTCOMES: usize = 3;
const DEFAULT_SLOW_AFTER: Duration = Duration::from_secs(2);

/// What the process is.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name shown for the backend's service.
    pub service: String,
    /// The version of this program.
    pub version: &'static str,
    /// The pod or host.
    pub pod: String,
    /// The hash of the configuration it starts with.
    pub config_hash: String,
}

/// The state of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigState {
    /// The hash of the configuration in force.
    pub hash: String,
    /// When it was taken into force.
    pub loaded: SystemTime,
    /// Since when a newer file has been rejected.
    pub rejected_since: Option<SystemTime>,
    /// Why it was.
    pub rejected_for: Option<String>,
    /// The keys of the file in force that wait for a restart.
    pub needs_restart: Vec<&'static str>,
}

impl ConfigState {
    fn new(hash: &str, loaded: SystemTime) -> Self {
        let needs_restart = Vec::new();
        Self { hash: hash.to_owned(), loaded, rejected_since: None, rejected_for: None, needs_restart }
    }
}

/// Requests of a window as the objective counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slo {
    /// Answers below 500.
    pub(super) good: u64,
    /// Answers with a status of 500 and above.
    pub(super) bad: u64,
    /// Requests over their route's limit, good or bad.
    pub(super) slow: u64,
}

impl Slo {
    /// All of them.
    pub(super) const fn requests(&self) -> u64 {
        self.good + self.bad
    }

    /// The share of bad ones; none without requests.
    #[expect(clippy::cast_precision_loss, reason = "counts of six hours")]
    pub(super) fn bad_share(&self) -> Option<f64> {
        (self.requests() > 0).then(|| self.bad as f64 / self.requests() as f64)
    }
}

/// All statistics of the process. Cheap to share; nothing in it is global, so tests make their own.
pub struct Telemetry {
    facts: Facts,
    started: Instant,
    started_at: SystemTime,
    pub(super) budget: Budget,
    pub(super) routes: RwLock<HashMap<Box<str>, Arc<RouteStats>>>,
    other: Arc<RouteStats>,
    unmatched: Arc<RouteStats>,
    default_slow_after: Mutex<Duration>,
    pub(super) chart: Tally<CHART_OUTCOMES>,
    slo: Tally<SLO_OUTCOMES>,
    recent_calls: RecentCalls,
    purged: Mutex<Option<Instant>>,
    pub(super) alerts: Board,
    pub(super) operations: Operations,
    cache_source: RwLock<Option<Weak<dyn CacheSource>>>,
    redis: RwLock<Option<Arc<RedisStats>>>,
    claude: RwLock<Option<Arc<ClaudeStats>>>,
    listeners: [Arc<ListenerStats>; Listener::ALL.len()],
    pub(super) upstreams: RwLock<Vec<Arc<UpstreamStats>>>,
    config: Mutex<ConfigState>,
    pub(super) reloads_accepted: Counter,
    pub(super) reloads_rejected: Counter,
    pub(super) slow: SlowRing,
    pub(super) slow_total: Counter,
    pub(super) access_log: AccessLog,
    tail: Tail,
    pub(super) spans: OnceLock<Spans>,
    pub(super) exports: OnceLock<Arc<ExportCounts>>,
    calls: TracedCalls,
    pub(super) marks: Marks,
    pub(super) health_since: Mutex<Since>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// New, empty statistics. The access log goes to `sink`; without one there is none.
    #[must_use]
    pub fn new(config: &config::Telemetry, facts: Facts, sink: Option<Sink>) -> Arc<Self> {
        let started_at = SystemTime::now();
        let route = |template| Arc::new(RouteStats::new(template, DEFAULT_SLOW_AFTER));
        let (other, unmatched) = (route(OTHER), route(UNMATCHED));
        let known = [&other, &unmatched].map(|route| (Box::from(route.template()), Arc::clone(route)));
        let config_state = ConfigState::new(&facts.config_hash, started_at);
        let telemetry = Arc::new(Self {
            facts,
            started: Instant::now(),
            started_at,
            budget: Budget::new(u64::from(config.max_series)),
            routes: RwLock::new(HashMap::from(known)),
            other,
            unmatched,
            default_slow_after: Mutex::new(DEFAULT_SLOW_AFTER),
            chart: Tally::new(CHART_SLOTS),
            slo: Tally::new(6).for_six_hours(),
            recent_calls: RecentCalls::default(),
            purged: Mutex::default(),
            alerts: Board::default(),
            operations: Operations::default(),
            cache_source: RwLock::new(None),
            redis: RwLock::new(None),
            claude: RwLock::new(None),
            listeners: std::array::from_fn(|_| Arc::default()),
            upstreams: RwLock::new(Vec::new()),
            config: Mutex::new(config_state),
            reloads_accepted: Counter::new(),
            reloads_rejected: Counter::new(),
            slow: SlowRing::default(),
            slow_total: Counter::new(),
            access_log: AccessLog::new(&config.access_log, sink),
            tail: Tail::default(),
            spans: OnceLock::new(),
            exports: OnceLock::new(),
            calls: TracedCalls::default(),
            marks: Marks::default(),
            health_since: Mutex::default(),
        });
        telemetry.mark(MarkKind::Start, "started");
        telemetry
    }

    /// Takes over what may change while the process runs: the series budget and the access log.
    pub fn apply(&self, config: &config::Telemetry) {
        self.budget.set_max(u64::from(config.max_series));
        self.access_log.apply(&config.access_log);
    }

    /// The statistics of a route, for the route table to keep. The same template gives the same statistics; only new
    /// ones take the limit, as other routes with the template may have limits for their methods.
    pub fn route(&self, template: &str, slow_after: Duration) -> Arc<RouteStats> {
        let mut routes = self.routes.write();
        let known = routes.get(template).map(Arc::clone);
        known.unwrap_or_else(|| {
            let route = Arc::new(RouteStats::new(template, slow_after));
            routes.insert(template.into(), Arc::clone(&route));
            route
        })
    }

    /// The statistics of requests that match no route.
    #[must_use]
    pub fn unmatched(&self) -> Arc<RouteStats> {
        Arc::clone(&self.unmatched)
    }

    /// Tells the limit of routes that have none of their own. A route with another one is judged by that alone and
    /// does not enter the latency of the whole.
    pub fn set_default_slow_after(&self, slow_after: Duration) {
        *self.default_slow_after.lock() = slow_after;
        self.unmatched.set_slow_after(slow_after);
        self.other.set_slow_after(slow_after);
    }

    /// The limit of routes that have none of their own.
    #[must_use]
    pub fn default_slow_after(&self) -> Duration {
        *self.default_slow_after.lock()
    }

    /// Takes the record of a request that is over: `head_us` after its first byte the answer's head was written,
    /// `total_us` after it everything was. The one call per request.
    pub fn finish(&self, record: Record, head_us: u64, total_us: u64) {
        let second = self.second(record.started + Duration::from_micros(total_us));
        let basis_us = saturate(match record.kind.basis() {
            Basis::Whole => total_us,
            Basis::FirstByte => head_us,
        });
        let times = Times { tick: second / TICK_SECONDS, head_us, total_us, basis_us };
        if !record.route.count(&record, &times, &self.budget) {
            self.budget.dropped.increment();
            self.other.count_folded(&record, &times, &self.budget);
        }
        self.chart.count(times.tick, chart_outcome(&record));
        let limit_us = record.route.slow_after_us(record.method);
        let is_slow = basis_us > limit_us;
        self.slo.count(times.tick, usize::from(record.status >= 500));
        if is_slow {
            self.slo.count(times.tick, 2);
            self.slow_total.increment();
            let until = record.started + Duration::from_micros(head_us);
            let claude = self.calls.time_of(record.trace, record.started, until);
            self.slow.push(SlowRequest::new(&record, &times, limit_us, claude));
        }
        self.tail.offer(&record, &times, second);
        if let Some(spans) = self.spans.get().filter(|_| record.span.is_sampled) {
            spans.offer(Span::of_request(&record, &times));
        }
        self.access_log.offer(record, &times, second, is_slow);
    }

    /// Takes a cache operation that began at `started` and has just ended. Returns how long it took, in microseconds.
    pub fn timed_operation(&self, tier: Tier, operation: Operation, started: Instant) -> u64 {
        let ended = Instant::now();
        let us = u64::try_from(ended.saturating_duration_since(started).as_micros()).unwrap_or(u64::MAX);
        self.cache_operation(tier, operation, ended, us);
        us
    }

    /// Takes the duration of a cache operation that ended at `ended`.
    pub fn cache_operation(&self, tier: Tier, operation: Operation, ended: Instant, us: u64) {
        self.operations.record(tier, operation, self.tick(ended), us);
    }

    /// Tells which cache to ask for its sizes. It is held weakly, as caches hold telemetry.
    pub fn watch_cache(&self, source: Weak<dyn CacheSource>) {
        *self.cache_source.write() = Some(source);
    }

    /// The cache's sizes; none without a cache.
    #[must_use]
    pub fn cache_sizes(&self) -> Option<CacheSizes> {
        let source = self.cache_source.read().as_ref().and_then(Weak::upgrade);
        source.map(|source| source.sizes())
    }

    /// Tells that there is a Redis tier, and its numbers.
    pub fn watch_redis(&self, stats: Arc<RedisStats>) {
        *self.redis.write() = Some(stats);
    }

    /// The numbers of the Redis tier; none where there is none.
    #[must_use]
    pub fn redis(&self) -> Option<Arc<RedisStats>> {
        self.redis.read().clone()
    }

    /// Tells that there is a Claude plane, and its numbers.
    pub fn watch_claude(&self, stats: Arc<ClaudeStats>) {
        *self.claude.write() = Some(stats);
    }

    /// The numbers of the Claude plane; none where there is none.
    #[must_use]
    pub fn claude(&self) -> Option<Arc<ClaudeStats>> {
        self.claude.read().clone()
    }

    /// Takes the record of a call to Claude that is over. The one call per call.
    pub fn finish_call(&self, stats: &ClaudeStats, call: Call) {
        let second = self.second(call.started + Duration::from_micros(call.total_us));
        stats.record(&call, second / TICK_SECONDS);
        self.recent_calls.record(&call, second / TICK_SECONDS);
        self.calls.note(&call);
        self.tail.offer_call(&call, second);
        if let Some(spans) = self.spans.get().filter(|_| call.span.is_sampled) {
            spans.offer(Span::of_call(&call));
        }
        self.access_log.offer_call(call, second);
    }

    /// What the calls to Claude of a window, at most an hour, came to.
    #[must_use]
    pub fn call_window(&self, window: Window, now: Instant) -> CallWindow {
        self.recent_calls.window(window, self.tick(now))
    }

    /// The requests of a window as the objective counts them.
    pub(super) fn slo_window(&self, window: Window, now: Instant) -> Slo {
        let [good, bad, slow] = self.slo.window(window, self.tick(now));
        Slo { good, bad, slow }
    }

    /// Tells that an operator has ended entries of the cache: it has to fill again before its hit rate says anything.
    pub fn note_purge(&self) {
        *self.purged.lock() = Some(Instant::now());
    }

    /// How long ago an operator last ended entries of the cache.
    pub(super) fn since_purge(&self, now: Instant) -> Option<Duration> {
        self.purged.lock().map(|purged| now.saturating_duration_since(purged))
    }

    /// The numbers of a listener.
    #[must_use]
    pub fn listener(&self, listener: Listener) -> Arc<ListenerStats> {
        let [ingress, admin, control, claude] = &self.listeners;
        Arc::clone(match listener {
            Listener::Ingress => ingress,
            Listener::Admin => admin,
            Listener::Control => control,
            Listener::Claude => claude,
        })
    }

    /// The numbers of an upstream. The same name gives the same numbers.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamStats> {
        let mut upstreams = self.upstreams.write();
        if let Some(known) = upstreams.iter().find(|upstream| upstream.name() == name) {
            return Arc::clone(known);
        }
        let upstream = Arc::new(UpstreamStats::new(name));
        upstreams.push(Arc::clone(&upstream));
        upstream
    }

    /// The numbers of all upstreams.
    #[must_use]
    pub fn upstreams(&self) -> Vec<Arc<UpstreamStats>> {
        self.upstreams.read().clone()
    }

    /// Requests over the limits of their routes since the start.
    #[must_use]
    pub fn slow_count(&self) -> u64 {
        self.slow_total.get()
    }

    /// Tells that a configuration was taken into force after a reload.
    pub fn config_accepted(&self, hash: &str, needs_restart: &[&'static str]) {
        self.reloads_accepted.increment();
        let needs_restart = needs_restart.to_vec();
        *self.config.lock() = ConfigState { needs_restart, ..ConfigState::new(hash, SystemTime::now()) };
        self.mark(MarkKind::Reload, format!("configuration {hash} in force"));
    }

    /// Tells that a reloaded configuration was rejected and the old one stays in force.
    pub fn config_rejected(&self, why: &str) {
        self.reloads_rejected.increment();
        let mut config = self.config.lock();
        config.rejected_since.get_or_insert_with(SystemTime::now);
        config.rejected_for = Some(why.to_owned());
        drop(config);
        self.mark(MarkKind::ReloadRejected, "a new configuration was rejected");
    }

    /// The state of the configuration.
    #[must_use]
    pub fn config_state(&self) -> ConfigState {
        self.config.lock().clone()
    }

    /// What the process is.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How long the process has been running.
    #[must_use]
    pub fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// When the process started.
    #[must_use]
    pub const fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// Begins to watch what ends from now on; none when too many do.
    #[must_use]
    pub fn watch_tail(&self, filter: Filter) -> Option<Watching> {
        self.tail.watch(filter)
    }

    /// The wall clock's time of an instant.
    #[must_use]
    pub fn wall(&self, instant: Instant) -> SystemTime {
        self.started_at + instant.saturating_duration_since(self.started)
    }

    /// Waits until the access log is written as far as it was offered, at most `wait`. Blocks: for shutdown and tests.
    pub fn flush_access_log(&self, wait: Duration) -> bool {
        self.access_log.flush(wait)
    }

    pub(super) fn tick(&self, now: Instant) -> u32 {
        self.second(now) / TICK_SECONDS
    }

    fn second(&self, now: Instant) -> u32 {
        u32::try_from(self.uptime(now).as_secs()).unwrap_or(u32::MAX)
    }
}

/// The index of a record in the chart: hit, miss, bypass, error.
const fn chart_outcome(record: &Record) -> usize {
    if record.is_error() {
        return 3;
    }
    match record.cache {
        CacheStatus::Hit | CacheStatus::Stale => 0,
        CacheStatus::Miss if !record.is_cacheable => 2,
        CacheStatus::Miss | CacheStatus::Revalidated => 1,
        CacheStatus::Bypass => 2,
    }
}

fn saturate(us: u64) -> u32 {
    u32::try_from(us).unwrap_or(u32::MAX)
}
