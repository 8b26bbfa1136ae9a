//! Reads the numbers that rules judge. What is not known is left out: a missing reading is no zero.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::reading::{Reading, Span};
use crate::{
    config::AlertMetric,
    telemetry::{
        Kind, Telemetry, UpstreamStats,
        claude::ClaudeStats,
        hub::Slo,
        snapshot::{CacheWindow, RouteWindow},
        upstream::BreakerState,
        windows::Window,
    },
};

/// So many failed probes in a row are a backend that is down.
const FAILED_PROBES: u32 = 3;
/// For so long after the start and after a purge the cache has to fill first.
const FILLING: Duration = Duration::from_secs(600);
/// Pico-dollars in a dollar.
const PICO: f64 = 1e12;

/// Everything that is asked for and known.
pub(super) fn readings(
    telemetry: &Telemetry,
    objective: f64,
    needs: &BTreeSet<(AlertMetric, Span)>,
    (now, unix_s): (Instant, u64),
) -> Vec<Reading> {
    let mut collector = Collector {
        telemetry,
        objective,
        now,
        unix_s,
        routes: BTreeMap::new(),
        caches: BTreeMap::new(),
        all: Vec::new(),
    };
    for (metric, span) in needs {
        collector.read(*metric, *span);
    }
    collector.all
}

/// How many times too fast the error budget is spent in a window, and of how many requests; none without requests.
pub(super) fn burn(slo: Slo, objective: f64) -> Option<f64> {
    let share = slo.bad_share()?;
    (objective < 1.0).then(|| share / (1.0 - objective))
}

struct Collector<'a> {
    telemetry: &'a Telemetry,
    objective: f64,
    now: Instant,
    unix_s: u64,
    routes: BTreeMap<Window, Arc<Vec<RouteWindow>>>,
    caches: BTreeMap<Window, Arc<CacheWindow>>,
    all: Vec<Reading>,
}

impl Collector<'_> {
    fn read(&mut self, metric: AlertMetric, span: Span) {
        match metric {
            AlertMetric::RouteP50
            | AlertMetric::RouteP95
            | AlertMetric::RouteP99
            | AlertMetric::RouteErrors
            | AlertMetric::RouteRequests => self.of_routes(metric, span),
            AlertMetric::P95 | AlertMetric::Errors | AlertMetric::Requests | AlertMetric::SlowRequests => {
                self.of_requests(metric, span);
            }
            AlertMetric::Burn => self.burn(span),
            AlertMetric::CacheHitRate | AlertMetric::RouteHitRate => self.of_cache(metric, span),
            AlertMetric::BackendDown | AlertMetric::UpstreamQueued => self.of_upstreams(metric),
            AlertMetric::RedisDown => self.redis(),
            AlertMetric::ClaudeCalls
            | AlertMetric::ClaudeRefused
            | AlertMetric::ClaudeSpend
            | AlertMetric::ClaudeUsage => self.of_calls(metric, span),
            AlertMetric::ClaudeBudget => self.budgets(),
            AlertMetric::ConfigRejected => {
                let is_rejected = self.telemetry.config_state().rejected_since.is_some();
                self.all.push(Reading::new(metric, Span::Now, flag(is_rejected)));
            }
        }
    }

    fn of_routes(&mut self, metric: AlertMetric, span: Span) {
        let Span::One(window) = span else { return };
        let (telemetry, now) = (self.telemetry, self.now);
        let routes =
            self.routes.entry(window).or_insert_with(|| Arc::new(telemetry.route_windows(window, now)));
        for route in Arc::clone(routes).iter().filter(|route| route.kind != Kind::Upgrade) {
            let count = route.summary.count;
            let value = match metric {
                AlertMetric::RouteP50 => route.summary.p50_us / 1e6,
                AlertMetric::RouteP95 => route.summary.p95_us / 1e6,
                AlertMetric::RouteP99 => route.summary.p99_us / 1e6,
                AlertMetric::RouteErrors => percent(route.errors_5xx, count),
                _ => match self.rate(count, window) {
                    Some(rate) => rate,
                    None => continue,
                },
            };
            let mut reading = Reading::new(metric, span, value)
                .of(count)
                .label("route", route.route.template())
                .label("kind", route.kind.as_str());
            if let Some(method) = route.method {
                reading = reading.label("method", method.as_str());
            }
            reading.limit = Some(f64::from(route.limit_us) / 1e6);
            self.all.push(reading);
        }
    }

    fn of_requests(&mut self, metric: AlertMetric, span: Span) {
        let Span::One(window) = span else { return };
        let slo = self.telemetry.slo_window(window, self.now);
        let reading = match metric {
            AlertMetric::P95 => {
                let summary = self.telemetry.overall(window, self.now);
                if summary.count == 0 {
                    return;
                }
                Reading::new(metric, span, summary.p95_us / 1e6).of(summary.count)
            }
            AlertMetric::Errors => match slo.bad_share() {
                Some(share) => Reading::new(metric, span, share * 100.0).of(slo.requests()),
                None => return,
            },
            AlertMetric::SlowRequests => Reading::new(metric, span, float(slo.slow)).of(slo.requests()),
            _ => match self.rate(slo.requests(), window) {
                Some(rate) => Reading::new(metric, span, rate).of(slo.requests()),
                None => return,
            },
        };
        self.all.push(reading);
    }

    /// So many a second; none before half of the window has passed.
    fn rate(&self, count: u64, window: Window) -> Option<f64> {
        let covered = self.telemetry.covered(window, self.now);
        (covered * 2 >= window.length()).then(|| float(count) / covered.as_secs_f64())
    }

    fn burn(&mut self, span: Span) {
        let of = |window| {
            let slo = self.telemetry.slo_window(window, self.now);
            burn(slo, self.objective).map(|burn| (burn, slo.requests()))
        };
        let found = match span {
            Span::Now => None,
            Span::One(window) => of(window),
            // A short window without requests burns nothing.
            Span::Both(long, short) => {
                of(long).map(|(burn, count)| (burn.min(of(short).map_or(0.0, |(burn, _)| burn)), count))
            }
        };
        if let Some((value, count)) = found {
            self.all.push(Reading::new(AlertMetric::Burn, span, value).of(count));
        }
    }

    fn of_cache(&mut self, metric: AlertMetric, span: Span) {
        let Span::One(window) = span else { return };
        let (telemetry, now) = (self.telemetry, self.now);
        let since_purge = telemetry.since_purge(now).unwrap_or(Duration::MAX);
        if telemetry.uptime(now).min(since_purge) < FILLING {
            return;
        }
        let cache =
            self.caches.entry(window).or_insert_with(|| Arc::new(telemetry.cache_window(window, now)));
        let cache = Arc::clone(cache);
        if metric == AlertMetric::CacheHitRate {
            if let Some(rate) = cache.hit_rate_percent() {
                self.all.push(Reading::new(metric, span, rate).of(cache.hits() + cache.misses()));
            }
            return;
        }
        for route in &cache.by_route {
            if let Some(rate) = route.hit_rate_percent() {
                let reading = Reading::new(metric, span, rate).of(route.hits + route.misses);
                self.all.push(reading.label("route", route.route.template()));
            }
        }
    }

    fn of_upstreams(&mut self, metric: AlertMetric) {
        let upstreams = self.telemetry.upstreams.read().clone();
        for stats in &upstreams {
            let reading = if metric == AlertMetric::UpstreamQueued {
                Reading::new(metric, Span::Now, float(u64::try_from(stats.queued.get()).unwrap_or(0)))
            } else {
                let note = why_down(stats);
                Reading { note: note.clone(), ..Reading::new(metric, Span::Now, flag(note.is_some())) }
            };
            self.all.push(reading.label("upstream", stats.name()));
        }
    }

    fn redis(&mut self) {
        let Some(stats) = self.telemetry.redis() else { return };
        let reading = Reading::new(AlertMetric::RedisDown, Span::Now, flag(!stats.is_up()));
        self.all.push(Reading { note: stats.error(), ..reading });
    }

    fn of_calls(&mut self, metric: AlertMetric, span: Span) {
        let Span::One(window) = span else { return };
        if self.telemetry.claude().is_none() {
            return;
        }
        let calls = self.telemetry.call_window(window, self.now);
        let value = match metric {
            AlertMetric::ClaudeRefused => match calls.refused_percent() {
                Some(percent) => percent,
                None => return,
            },
            AlertMetric::ClaudeSpend => float(calls.cost) / PICO,
            AlertMetric::ClaudeUsage => float(calls.unknown),
            _ => float(calls.calls),
        };
        self.all.push(Reading::new(metric, span, value).of(calls.calls));
    }

    fn budgets(&mut self) {
        let Some(claude) = self.telemetry.claude() else { return };
        for (name, percent) in budgets_spent(&claude, self.unix_s) {
            let reading = Reading::new(AlertMetric::ClaudeBudget, Span::Now, percent);
            self.all.push(reading.label("budget", &name));
        }
    }
}

/// What is spent of each budget in its running window, in percent.
pub(in crate::telemetry) fn budgets_spent(claude: &ClaudeStats, unix_s: u64) -> Vec<(Arc<str>, f64)> {
    let spent = claude.budgets().into_iter().filter(|(_, state)| state.limit > 0);
    spent.map(|(name, state)| (name, percent(state.spent_at(unix_s), state.limit))).collect()
}

/// Why an upstream counts as down; none while it does not.
fn why_down(stats: &UpstreamStats) -> Option<String> {
    match stats.breaker() {
        BreakerState::Open | BreakerState::HalfOpen => {
            Some(format!("its breaker is {}", stats.breaker().as_str().replace('_', " ")))
        }
        BreakerState::Closed => {
            let failed = stats.failed_probes();
            (failed >= FAILED_PROBES).then(|| "it does not answer its probes".to_owned())
        }
    }
}

const fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn percent(part: u64, whole: u64) -> f64 {
    float(part) * 100.0 / float(whole.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts of hours and pico-dollars of budgets")]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
