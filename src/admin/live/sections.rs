//! The sections of a snapshot: everything that the dashboard and the terminal show, as it is now.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
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
    Code, HealthScore, Summary, Window,
    snapshot::{CacheWindow, RouteWindow},
};

mod joined;

pub(super) use joined::ChartPart;

/// A word of a closed set: ours, or as another replica wrote it.
pub(super) type Word = Cow<'static, str>;

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
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    service: String,
    pub(super) pod: String,
    version: Word,
    config_hash: String,
    config_loaded: String,
    config_rejected_since: Option<String>,
    started_at: String,
    uptime_s: u64,
    draining: bool,
    window: Word,
    pub(super) covered_s: f64,
    scope: Word,
    can_merge: bool,
    peers: Option<Peers>,
}

/// Who was asked when pods are merged, this one included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peers {
    pub(super) asked: usize,
    pub(super) answered: usize,
    pub(super) silent: Vec<Silent>,
}

/// A pod without an answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Silent {
    pub(super) pod: String,
    pub(super) error: String,
}

/// The verdict.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Health {
    score: u8,
    status: Word,
    headline: String,
    reasons: Vec<Reason>,
    fine: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Reason {
    code: Word,
    points: u8,
    text: String,
    since: String,
}

/// The numbers at the top.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tiles {
    requests_per_s: Option<f64>,
    errors_5xx_percent: Option<f64>,
    p95_ms: Option<f64>,
    without_backend_percent: Option<f64>,
}

/// The counts that the numbers at the top are made from.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Counted {
    requests: u64,
    errors_5xx: u64,
    hits: u64,
    /// Hits, misses and what was not looked up.
    outcomes: u64,
}

/// The last quarter of an hour.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Chart {
    slot_s: u32,
    slots: Vec<Slot>,
    marks: Vec<Mark>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Slot {
    at: String,
    hit: u32,
    miss: u32,
    bypass: u32,
    error: u32,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    at: String,
    kind: Word,
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

    pub(super) fn meta(&self) -> Meta {
        let telemetry = &self.admin.telemetry;
        let (facts, config) = (telemetry.facts(), telemetry.config_state());
        Meta {
            service: facts.service.clone(),
            pod: facts.pod.clone(),
            version: facts.version.into(),
            config_hash: config.hash,
            config_loaded: at(config.loaded),
            config_rejected_since: config.rejected_since.map(at),
            started_at: at(telemetry.started_at()),
            uptime_s: telemetry.uptime(self.now).as_secs(),
            draining: self.admin.drain.is_draining(),
            window: self.window.as_str().into(),
            covered_s: thousandths(telemetry.covered(self.window, self.now).as_secs_f64()),
            scope: "pod".into(),
            can_merge: self.admin.terms().sources.peers.is_some(),
            peers: None,
        }
    }

    pub(super) fn health(&self) -> Health {
        let reason = |deduction: &crate::telemetry::Deduction| Reason {
            code: deduction.code.as_str().into(),
            points: deduction.points,
            text: deduction.text.clone(),
            since: at(deduction.since),
        };
        Health {
            score: self.verdict.score,
            status: self.verdict.status().as_str().into(),
            headline: self.admin.headline(&self.verdict),
            reasons: self.verdict.reasons.iter().map(reason).collect(),
            fine: self.fine(),
        }
    }

    /// What was looked at and is well.
    fn fine(&self) -> Vec<String> {
        let telemetry = &self.admin.telemetry;
        let is_named = |code: Code| self.verdict.reasons.iter().any(|reason| reason.code == code);
        let mut fine = Vec::new();
        if self.admin.terms().sources.health.ready().is_ok() {
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
        if let Some(rate) = hit_rate.filter(|rate| *rate >= f64::from(self.admin.terms().cache_hit_target)) {
            fine.push(format!("{rate:.1} % of lookups are hits"));
        }
        if let Some(burn) = telemetry.burn_view(self.now).burn_1h.filter(|burn| *burn <= 1.0) {
            fine.push(format!("the error budget lasts (burn {burn:.1}x)"));
        }
        fine
    }

    pub(super) fn counted(&self) -> Counted {
        let hits = self.cache.hits();
        Counted {
            requests: self.routes.iter().map(|route| route.summary.count).sum(),
            errors_5xx: self.routes.iter().map(|route| route.errors_5xx).sum(),
            hits,
            outcomes: hits + self.cache.misses() + self.cache.bypass,
        }
    }

    fn tiles(&self) -> Tiles {
        let (counted, plain) = (self.counted(), self.admin.telemetry.overall(self.window, self.now));
        Tiles::new(counted.per_s(self.seconds()), counted, &plain)
    }

    fn chart(&self) -> Chart {
        let slots = self.admin.telemetry.chart(self.now);
        let began = slots.first().map(|slot| slot.at);
        Chart {
            slot_s: 10,
            marks: self.marks(began),
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

    /// What changed since the chart began, oldest first.
    pub(super) fn marks(&self, began: Option<std::time::SystemTime>) -> Vec<Mark> {
        let marks = self.admin.telemetry.marks().into_iter();
        let shown = marks.filter(|mark| began.is_none_or(|began| mark.at >= began));
        shown.map(|mark| Mark { at: at(mark.at), kind: mark.kind.as_str().into(), text: mark.text }).collect()
    }
}

impl Counted {
    #[expect(clippy::cast_precision_loss, reason = "counts of one hour")]
    pub(super) fn per_s(&self, seconds: f64) -> f64 {
        self.requests as f64 / seconds
    }
}

impl Tiles {
    /// `plain` are the latencies of requests that are no streams.
    fn new(per_s: f64, counted: Counted, plain: &Summary) -> Self {
        let Counted { requests, errors_5xx, hits, outcomes } = counted;
        Self {
            requests_per_s: Some(thousandths(per_s)),
            errors_5xx_percent: (requests > 0).then(|| percent(errors_5xx, requests)),
            p95_ms: (plain.count > 0).then(|| thousandths(plain.p95_ms())),
            without_backend_percent: (outcomes > 0).then(|| percent(hits, outcomes)),
        }
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

/// A text of one pod among several.
pub(super) fn podded(pod: &str, text: &str) -> String {
    format!("{pod}: {text}")
}

/// A rate in percent with two decimals.
pub(super) fn rate(value: Option<f64>) -> Option<f64> {
    value.map(hundredths)
}
