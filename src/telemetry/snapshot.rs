//! Plain views of the statistics, made when somebody asks: for the admin plane and the dashboard. Windows are merged
//! from slots here; percentiles are never averaged.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::cache_stats::Operation;
use super::{
    hub::{CHART_SLOTS, Telemetry},
    latency::{Merged, MinuteSum, Summary},
    record::{Basis, Fwd, HitSource, Kind, Method},
    routes::{Active, BYPASS, CACHE_EVENTS, Lane, MISSES, OTHER, REVALIDATED, RouteStats, UNMATCHED},
    slow::SlowRequest,
    windows::{TICK_SECONDS, Window},
};

/// The latencies of one method of one route in a window.
#[derive(Clone, Debug)]
pub struct RouteWindow {
    /// `METHOD template`, or `unmatched` for all requests without a route. Plain answers of a route that streams say so
    /// in brackets, as the two cannot be added.
    pub key: String,
    /// The route.
    pub route: Arc<RouteStats>,
    /// The method; none where all are taken together.
    pub method: Option<Method>,
    /// The shape of the exchanges.
    pub kind: Kind,
    /// What the latencies span.
    pub basis: Basis,
    /// The time after which a request is slow.
    pub limit_us: u32,
    /// Answers with a status of 500 and above.
    pub errors_5xx: u64,
    /// The latencies.
    pub summary: Summary,
}

/// What the cache did in a window.
#[derive(Clone, Debug, Default)]
pub struct CacheWindow {
    /// Hits by source. Their sum is [`CacheWindow::hits`].
    pub by_source: Vec<(HitSource, u64)>,
    /// Misses by the reason to go to the backend, revalidated ones included. Their sum is [`CacheWindow::misses`].
    pub by_fwd: Vec<(Fwd, u64)>,
    /// Those of the misses for which the backend said 304.
    pub revalidated: u64,
    /// Requests that were not looked up, and lookups of what neither a rule nor the backend lets be kept.
    pub bypass: u64,
    /// The routes that had any, the busiest first. They add up to the numbers above.
    pub by_route: Vec<RouteCache>,
}

impl CacheWindow {
    /// Answers `hit` and `stale`.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.by_source.iter().map(|(_, count)| count).sum()
    }

    /// Answers `miss` and `revalidated`.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.by_fwd.iter().map(|(_, count)| count).sum()
    }

    /// The share of hits in lookups, in percent; none without lookups.
    #[must_use]
    pub fn hit_rate_percent(&self) -> Option<f64> {
        hit_rate_percent(self.hits(), self.misses())
    }
}

/// What the cache did for one route in a window.
#[derive(Clone, Debug)]
pub struct RouteCache {
    /// The route.
    pub route: Arc<RouteStats>,
    /// Answers `hit` and `stale`.
    pub hits: u64,
    /// Answers `miss` and `revalidated`.
    pub misses: u64,
    /// Requests that were not looked up, and lookups of what neither a rule nor the backend lets be kept.
    pub bypass: u64,
}

impl RouteCache {
    /// The share of hits in lookups, in percent; none without lookups.
    #[must_use]
    pub fn hit_rate_percent(&self) -> Option<f64> {
        hit_rate_percent(self.hits, self.misses)
    }
}

/// The last minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Realtime {
    /// Requests that ended in it.
    pub requests: u64,
    /// Cache operations in it.
    pub cache_operations: u64,
    /// The latencies of the requests, streams by their first byte.
    pub latency: Summary,
}

/// Ten seconds of the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChartSlot {
    /// When it began.
    pub at: SystemTime,
    /// Requests answered from the cache.
    pub hit: u32,
    /// Requests looked up and fetched.
    pub miss: u32,
    /// Requests not looked up, and lookups of what neither a rule nor the backend lets be kept.
    pub bypass: u32,
    /// Requests that failed: a status of 500 and above, or an answer that broke off.
    pub error: u32,
}

/// One minute of all routes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinuteTotals {
    /// How many minutes ago it began to run; 0 is the running one.
    pub ago: u32,
    /// Requests.
    pub requests: u64,
    /// Answers with a status of 500 and above.
    pub errors_5xx: u64,
    /// The mean latency; 0 without requests.
    pub avg_ms: f64,
}

impl Telemetry {
    /// The latencies of each method of each route that had requests in the window, the busiest first.
    #[must_use]
    pub fn route_windows(&self, window: Window, now: Instant) -> Vec<RouteWindow> {
        let tick = self.tick(now);
        let mut windows = Vec::new();
        for route in self.active_routes() {
            let taken_together = matches!(route.template(), UNMATCHED | OTHER);
            let mut lanes = route.active().map(Active::lanes).unwrap_or_default();
            // What stands first gets the bare key: on a route that streams, plain answers are the odd ones, such as errors.
            let rank = |kind: Kind| if taken_together { kind.index() } else { Kind::COUNT - kind.index() };
            lanes.sort_by_key(|lane| (rank(lane.kind), lane.method.index()));
            let same =
                |a: &Arc<Lane>, b: &Arc<Lane>| a.kind == b.kind && (taken_together || a.method == b.method);
            let lanes = lanes.chunk_by(same);
            let mut of_route: Vec<_> =
                lanes.filter_map(|lanes| route_window(&route, lanes, window, tick)).collect();
            // Keys are settled before empty windows go, so that they do not depend on what happened last.
            mark_kinds(&mut of_route);
            windows.extend(of_route.into_iter().filter(|window| window.summary.count > 0));
        }
        windows.sort_by(|a, b| b.summary.count.cmp(&a.summary.count).then_with(|| a.key.cmp(&b.key)));
        windows
    }

    /// The latencies of all plain requests in a window: streams are left out.
    #[must_use]
    pub fn overall(&self, window: Window, now: Instant) -> Summary {
        self.merge_lanes(window, now, |_, lane| lane.kind == Kind::Plain).summary()
    }

    /// The slots of a window as counted, the time they span: rates divide by this.
    #[must_use]
    pub fn covered(&self, window: Window, now: Instant) -> Duration {
        window.covered(self.uptime(now))
    }

    /// What the cache did in a window.
    #[must_use]
    pub fn cache_window(&self, window: Window, now: Instant) -> CacheWindow {
        let tick = self.tick(now);
        let mut sums = [0; CACHE_EVENTS];
        let mut by_route = Vec::new();
        for route in self.active_routes() {
            let Some(active) = route.active() else { continue };
            let counts = active.cache.window(window, tick);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            let events = CacheEvents::of(&counts);
            let (hits, misses, bypass) = (events.hits(), events.misses(), events.bypass);
            if hits + misses + bypass > 0 {
                by_route.push(RouteCache { route, hits, misses, bypass });
            }
        }
        by_route.sort_by(|a, b| {
            let lookups = |route: &RouteCache| route.hits + route.misses;
            lookups(b).cmp(&lookups(a)).then_with(|| a.route.template().cmp(b.route.template()))
        });
        let events = CacheEvents::of(&sums);
        CacheWindow {
            by_source: HitSource::ALL.into_iter().zip(events.sources).collect(),
            by_fwd: Fwd::ALL.into_iter().zip(events.fwd).filter(|(_, count)| *count > 0).collect(),
            revalidated: events.revalidated,
            bypass: events.bypass,
            by_route,
        }
    }

    /// The durations of cache operations in a window, all tiers taken together; only those that happened.
    #[must_use]
    pub fn operation_windows(&self, window: Window, now: Instant) -> Vec<(Operation, Summary)> {
        let tick = self.tick(now);
        let summaries = Operation::ALL.into_iter().map(|operation| {
            let mut merged = Merged::default();
            for (_, _, stats) in self.operations.all().filter(|(_, known, _)| *known == operation) {
                stats.latency.add_to(&mut merged, window, tick);
            }
            (operation, merged.summary())
        });
        summaries.filter(|(_, summary)| summary.count > 0).collect()
    }

    /// The last minute; none when nothing happened in it.
    #[must_use]
    pub fn realtime(&self, now: Instant) -> Option<Realtime> {
        let latency = self.merge_lanes(Window::OneMinute, now, |_, _| true).summary();
        let operations = self.operation_windows(Window::OneMinute, now);
        let cache_operations = operations.iter().map(|(_, summary)| summary.count).sum();
        let realtime = Realtime { requests: latency.count, cache_operations, latency };
        (realtime.requests + realtime.cache_operations > 0).then_some(realtime)
    }

    /// The last 15 minutes by outcome in slots of 10 s, oldest first, empty ones included; none from before the start.
    #[must_use]
    pub fn chart(&self, now: Instant) -> Vec<ChartSlot> {
        let tick = self.tick(now);
        let counted = self.chart.tens(tick);
        let first = (tick + 1).saturating_sub(CHART_SLOTS);
        let slot = |at: u32| {
            let mut sums = [0; 4];
            for (_, counts) in counted.iter().filter(|(counted, _)| *counted == at) {
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            let [hit, miss, bypass, error] = sums;
            let began = Duration::from_secs(u64::from(at) * u64::from(TICK_SECONDS));
            ChartSlot { at: self.started_at() + began, hit, miss, bypass, error }
        };
        (first..=tick).map(slot).collect()
    }

    /// The totals of each of the last 60 minutes that had requests, oldest first.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sums below 2^53 us")]
    pub fn minutes(&self, now: Instant) -> Vec<MinuteTotals> {
        let tick = self.tick(now);
        let mut sums = [MinuteSum::default(); 60];
        for route in self.active_routes() {
            for lane in route.active().map(Active::lanes).unwrap_or_default() {
                lane.latency.minutes(tick, |minute, sum| {
                    let ago = (tick / 6).saturating_sub(minute) as usize;
                    if let Some(total) = sums.get_mut(ago) {
                        total.count += sum.count;
                        total.errors += sum.errors;
                        total.sum_us += sum.sum_us;
                    }
                });
            }
        }
        let minutes = (0_u32..).zip(sums).filter(|(_, sum)| sum.count > 0).map(|(ago, sum)| MinuteTotals {
            ago,
            requests: sum.count,
            errors_5xx: sum.errors,
            avg_ms: sum.sum_us as f64 / sum.count as f64 / 1000.0,
        });
        minutes.collect::<Vec<_>>().into_iter().rev().collect()
    }

    /// The last 200 slow requests, newest first.
    #[must_use]
    pub fn slow_requests(&self) -> Vec<SlowRequest> {
        self.slow.all()
    }

    pub(super) fn active_routes(&self) -> Vec<Arc<RouteStats>> {
        let routes = self.routes.read();
        let mut active: Vec<_> =
            routes.values().filter(|route| route.active().is_some()).map(Arc::clone).collect();
        active.sort_by(|a, b| a.template().cmp(b.template()));
        active
    }

    pub(super) fn merge_lanes(
        &self,
        window: Window,
        now: Instant,
        wanted: impl Fn(&RouteStats, &Lane) -> bool,
    ) -> Merged {
        let tick = self.tick(now);
        let mut merged = Merged::default();
        for route in self.active_routes() {
            let lanes = route.active().map(Active::lanes).unwrap_or_default();
            for lane in lanes.iter().filter(|lane| wanted(&route, lane)) {
                lane.latency.add_to(&mut merged, window, tick);
            }
        }
        merged
    }
}

/// A route's cache tally by its meaning.
pub(super) struct CacheEvents {
    pub(super) sources: [u64; HitSource::COUNT],
    fwd: [u64; Fwd::COUNT],
    pub(super) missed: u64,
    pub(super) revalidated: u64,
    pub(super) bypass: u64,
}

impl CacheEvents {
    pub(super) fn of(counts: &[u64; CACHE_EVENTS]) -> Self {
        let at = |index: usize| counts.get(index).copied().unwrap_or(0);
        Self {
            sources: std::array::from_fn(at),
            fwd: std::array::from_fn(|fwd| at(MISSES + fwd) + at(REVALIDATED + fwd)),
            missed: (MISSES..REVALIDATED).map(at).sum(),
            revalidated: (REVALIDATED..BYPASS).map(at).sum(),
            bypass: at(BYPASS),
        }
    }

    pub(super) fn hits(&self) -> u64 {
        self.sources.iter().sum()
    }

    /// Those of the hits that were past their lifetime.
    pub(super) fn stale(&self) -> u64 {
        self.sources.get(HitSource::Stale.index()).copied().unwrap_or(0)
    }

    pub(super) fn misses(&self) -> u64 {
        self.fwd.iter().sum()
    }
}

fn route_window(
    route: &Arc<RouteStats>,
    lanes: &[Arc<Lane>],
    window: Window,
    tick: u32,
) -> Option<RouteWindow> {
    let first = lanes.first()?;
    let mut merged = Merged::default();
    for lane in lanes {
        lane.latency.add_to(&mut merged, window, tick);
    }
    let taken_together = matches!(route.template(), UNMATCHED | OTHER);
    let (key, method) = if taken_together {
        (route.template().to_owned(), None)
    } else {
        (format!("{} {}", first.method.as_str(), route.template()), Some(first.method))
    };
    Some(RouteWindow {
        key,
        route: Arc::clone(route),
        method,
        kind: first.kind,
        basis: first.kind.basis(),
        limit_us: route.slow_after_us(first.method),
        errors_5xx: merged.errors(),
        summary: merged.summary(),
    })
}

/// Makes keys unique where a route answers in several shapes: the first keeps the bare key.
fn mark_kinds(windows: &mut [RouteWindow]) {
    for at in 1..windows.len() {
        let (before, rest) = windows.split_at_mut(at);
        let Some(window) = rest.first_mut() else { continue };
        if before.iter().any(|other| other.key == window.key) {
            window.key = format!("{} ({})", window.key, window.kind.as_str());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one hour")]
fn hit_rate_percent(hits: u64, misses: u64) -> Option<f64> {
    let lookups = hits + misses;
    (lookups > 0).then(|| hits as f64 * 100.0 / lookups as f64)
}

#[cfg(test)]
mod tests;
