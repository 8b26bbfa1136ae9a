//! The sections of a snapshot: everything that the dashboard and the terminal show, as it is now.

use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    alerts::Alerts,
    planes::{Backend, Cache, Claude, Redis},
    routes::{Routes, Slow},
};
use crate::admin::{
    Admin,
    shapes::{hundredths, percent, thousandths, timestamp},
};
use crate::telemetry::{
    Code, HealthScore, Status, Window,
    snapshot::{CacheWindow, RouteWindow},
};

/// What the sections of one moment are made from.
pub(super) struct Moment<'a> {
    pub(super) admin: &'a Admin,
    pub(super) window: Window,
    pub(super) now: Instant,
    /// By rate, what matches no route last.
    pub(super) routes: Vec<RouteWindow>,
    pub(super) cache: CacheWindow,
    pub(super) verdict: HealthScore,
}

/// Who speaks.
#[derive(Serialize)]
struct Meta<'a> {
    service: &'a str,
    pod: &'a str,
    version: &'static str,
    config_hash: String,
    config_loaded: String,
    config_rejected_since: Option<String>,
    started_at: String,
    uptime_s: u64,
    draining: bool,
    window: &'static str,
    covered_s: f64,
    scope: &'static str,
    can_merge: bool,
    peers: Option<()>,
}

#[derive(Serialize)]
struct Health {
    score: u8,
    status: &'static str,
    headline: String,
    reasons: Vec<Reason>,
    fine: Vec<String>,
}

#[derive(Serialize)]
struct Reason {
    code: &'static str,
    points: u8,
    text: String,
    since: String,
}

#[derive(Serialize)]
struct Tiles {
    requests_per_s: Option<f64>,
    errors_5xx_percent: Option<f64>,
    p95_ms: Option<f64>,
    without_backend_percent: Option<f64>,
}

#[derive(Serialize)]
struct Chart {
    slot_s: u32,
    slots: Vec<Slot>,
    marks: Vec<Mark>,
}

#[derive(Serialize)]
struct Slot {
    at: String,
    hit: u32,
    miss: u32,
    bypass: u32,
    error: u32,
}

#[derive(Serialize)]
struct Mark {
    at: String,
    kind: &'static str,
    text: String,
}

impl<'a> Moment<'a> {
    pub(super) fn new(admin: &'a Admin, window: Window) -> Self {
        let now = Instant::now();
        let telemetry = &admin.telemetry;
        let mut routes = telemetry.route_windows(window, now);
        // Stable, so the busiest stay first.
        routes.sort_by_key(|route| route.method.is_none());
        let (cache, verdict) = (telemetry.cache_window(window, now), telemetry.health_score(now));
        Self { admin, window, now, routes, cache, verdict }
    }

    /// All sections in order, each as JSON.
    pub(super) fn sections(&self) -> Vec<(&'static str, String)> {
        vec![
            ("meta", json(&self.meta())),
            ("health", json(&self.health())),
            ("tiles", json(&self.tiles())),
            ("chart", json(&self.chart())),
            ("routes", json(&Routes::new(self))),
            ("cache", json(&Cache::new(self))),
            ("redis", json(&Redis::new(self))),
            ("backend", json(&Backend::new(self))),
            ("claude", json(&Claude::new(self))),
            ("slow", json(&Slow::new(self))),
            ("alerts", json(&Alerts::new(self))),
        ]
    }

    /// The seconds that the window spans, never none.
    pub(super) fn seconds(&self) -> f64 {
        self.admin.telemetry.covered(self.window, self.now).as_secs_f64().max(1.0)
    }

    fn meta(&self) -> Meta<'_> {
        let telemetry = &self.admin.telemetry;
        let (facts, config) = (telemetry.facts(), telemetry.config_state());
        Meta {
            service: &facts.service,
            pod: &facts.pod,
            version: facts.version,
            config_hash: config.hash,
            config_loaded: at(config.loaded),
            config_rejected_since: config.rejected_since.map(at),
            started_at: at(telemetry.started_at()),
            uptime_s: telemetry.uptime(self.now).as_secs(),
            draining: self.admin.drain.is_draining(),
            window: self.window.as_str(),
            covered_s: thousandths(telemetry.covered(self.window, self.now).as_secs_f64()),
            scope: "pod",
            can_merge: false,
            peers: None,
        }
    }

    fn health(&self) -> Health {
        let reason = |deduction: &crate::telemetry::Deduction| Reason {
            code: deduction.code.as_str(),
            points: deduction.points,
            text: deduction.text.clone(),
            since: at(deduction.since),
        };
        Health {
            score: self.verdict.score,
            status: self.verdict.status().as_str(),
            headline: match self.admin.sources.health.ready() {
                Ok(()) => headline(&self.verdict),
                Err(why) => {
                    format!("Not ready, traffic is sent elsewhere: {why}. {}", headline(&self.verdict))
                }
            },
            reasons: self.verdict.reasons.iter().map(reason).collect(),
            fine: self.fine(),
        }
    }

    /// What was looked at and is well.
    fn fine(&self) -> Vec<String> {
        let telemetry = &self.admin.telemetry;
        let is_named = |code: Code| self.verdict.reasons.iter().any(|reason| reason.code == code);
        let mut fine = Vec::new();
        if self.admin.sources.health.ready().is_ok() {
            fine.push("ready for traffic".to_owned());
        }
        for stats in telemetry.upstreams().iter().filter(|_| !is_named(Code::BackendDown)) {
            if let Some(ms) = stats.probe_ms() {
                fine.push(format!("{} answers its checks in {ms:.1} ms", stats.name()));
            }
        }
        if let Some(ms) = telemetry.redis().filter(|redis| redis.is_up()).and_then(|redis| redis.ping_ms()) {
            fine.push(format!("Redis answers in {ms:.2} ms"));
        }
        let hit_rate = self.cache.hit_rate_percent();
        if let Some(rate) = hit_rate.filter(|rate| *rate >= f64::from(self.admin.cache_hit_target)) {
            fine.push(format!("{rate:.1} % of lookups are hits"));
        }
        if let Some(burn) = telemetry.alerts_view(self.now).burn.burn_1h.filter(|burn| *burn <= 1.0) {
            fine.push(format!("the error budget lasts (burn {burn:.1}x)"));
        }
        fine
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one hour")]
    fn tiles(&self) -> Tiles {
        let requests: u64 = self.routes.iter().map(|route| route.summary.count).sum();
        let errors: u64 = self.routes.iter().map(|route| route.errors_5xx).sum();
        let plain = self.admin.telemetry.overall(self.window, self.now);
        let hits = self.cache.hits();
        let all = hits + self.cache.misses() + self.cache.bypass;
        Tiles {
            requests_per_s: Some(thousandths(requests as f64 / self.seconds())),
            errors_5xx_percent: (requests > 0).then(|| percent(errors, requests)),
            p95_ms: (plain.count > 0).then(|| thousandths(plain.p95_ms())),
            without_backend_percent: (all > 0).then(|| percent(hits, all)),
        }
    }

    fn chart(&self) -> Chart {
        let telemetry = &self.admin.telemetry;
        let slots = telemetry.chart(self.now);
        let began = slots.first().map(|slot| slot.at);
        let changes = telemetry.marks().into_iter().map(|mark| (mark.at, mark.kind.as_str(), mark.text));
        let alerts = telemetry.alert_marks().into_iter();
        let alerts =
            alerts.map(|mark| (mark.at, if mark.is_firing { "alert" } else { "resolved" }, mark.text));
        let mut marks: Vec<_> =
            changes.chain(alerts).filter(|(at, ..)| began.is_none_or(|began| *at >= began)).collect();
        marks.sort_by_key(|(at, ..)| *at);
        Chart {
            slot_s: 10,
            marks: marks.into_iter().map(|(time, kind, text)| Mark { at: at(time), kind, text }).collect(),
            slots: slots
                .into_iter()
                .map(|slot| Slot {
                    at: at(slot.at),
                    hit: slot.hit,
                    miss: slot.miss,
                    bypass: slot.bypass,
                    error: slot.error,
                })
                .collect(),
        }
    }
}

/// One sentence: how bad it is, and of what kind.
pub(super) fn headline(verdict: &HealthScore) -> String {
    let status = match verdict.status() {
        Status::Healthy => "Healthy",
        Status::Degraded => "Degraded",
        Status::Unhealthy => "Unhealthy",
    };
    let mut causes: Vec<&'static str> = Vec::new();
    for reason in &verdict.reasons {
        let cause = cause(reason.code);
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    let causes = match causes.as_slice() {
        [] => return format!("{status}: nothing is wrong."),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    };
    format!("{status}: {causes}.")
}

const fn cause(code: Code) -> &'static str {
    match code {
        Code::BackendDown => "the backend is down",
        Code::Latency => "responses are slow",
        Code::RouteSlow => "routes are over their limits",
        Code::Errors => "too many requests fail",
        Code::Redis => "Redis does not answer",
        Code::ConfigRejected => "a new configuration was rejected",
        Code::ClaudeRefused => "Claude refuses calls",
        Code::ClaudeBudget => "a budget for Claude is spent",
    }
}

/// A time as all answers show it.
pub(super) fn at(time: std::time::SystemTime) -> String {
    timestamp(OffsetDateTime::from(time))
}

pub(super) fn json(value: &impl Serialize) -> String {
    // Our structs have text keys and finite numbers, so a failure is out of reach; a reader still gets JSON.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// A rate in percent with two decimals.
pub(super) fn rate(value: Option<f64>) -> Option<f64> {
    value.map(hundredths)
}
