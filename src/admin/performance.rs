//! `GET /performance/metrics`: latencies by route and cache operation in a window, what they mean, and the state of the
//! planes beside.

use http::StatusCode;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::admin::{
    Admin,
    answer::Reply,
    claude::ModelRouting,
    shapes::{Metric, Nothing, Ordered, RealTime, RedisStats, RouteFacts, timestamp},
};
use crate::telemetry::{
    Breakdown, Part, SlowRequest, Window,
    snapshot::{CacheWindow, RouteWindow},
};

/// The answer.
#[derive(Serialize)]
struct PerformanceMetrics<'a> {
    timestamp: String,
    performance_summary: Summary,
    redis_stats: RedisStats,
    database_stats: Nothing,
    model_routing_stats: ModelRouting,
    real_time_metrics: RealTime,
    system_health: SystemHealth,
    touchline: Touchline<'a>,
}

#[derive(Serialize)]
struct Summary {
    time_window_hours: Hours,
    total_metrics: u64,
    metric_types: MetricTypes,
    performance_insights: Vec<Insight>,
}

/// 1 for the hour, a fraction for less.
struct Hours(Window);

#[derive(Serialize)]
struct MetricTypes {
    request: Metrics,
    cache: Metrics,
    database: Metrics,
}

#[derive(Serialize)]
struct Metrics {
    count: u64,
    metrics: Ordered<Metric>,
}

#[derive(Serialize)]
struct Insight {
    r#type: &'static str,
    metric: String,
    message: String,
    threshold: String,
    suggestion: String,
}

#[derive(Serialize)]
struct SystemHealth {
    redis_available: bool,
    connection_pooling: bool,
    metrics_collection: bool,
    cost_optimization: bool,
}

#[derive(Serialize)]
struct Touchline<'a> {
    version: &'a str,
    pod: &'a str,
    scope: &'static str,
    window_s: u64,
    uptime_s: u64,
    config_hash: String,
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Window::OneHour => serializer.serialize_u64(1),
            Window::OneMinute
            | Window::FiveMinutes
            | Window::FifteenMinutes
            | Window::HalfHour
            | Window::SixHours => serializer.serialize_f64(self.0.length().as_secs_f64() / 3600.0),
        }
    }
}

impl Admin {
    /// The performance metrics of a window.
    pub(super) fn performance_metrics(&self, window: Window) -> Reply {
        let now = Instant::now();
        let at = OffsetDateTime::now_utc();
        let facts = self.telemetry.facts();
        let redis = self.telemetry.redis();
        let claude = self.telemetry.claude();
        let answer = PerformanceMetrics {
            timestamp: timestamp(at),
            performance_summary: self.summary(window, now),
            redis_stats: RedisStats::new(
                redis.as_deref(),
                self.telemetry.cache_sizes().unwrap_or_default().entries,
            ),
            database_stats: Nothing {},
            model_routing_stats: ModelRouting::new(claude.as_deref()),
            real_time_metrics: RealTime::new(at, self.telemetry.realtime(now)),
            system_health: SystemHealth {
                redis_available: redis.is_some_and(|redis| redis.is_up()),
                connection_pooling: false,
                metrics_collection: true,
                cost_optimization: claude.is_some_and(|stats| stats.is_routing()),
            },
            touchline: Touchline {
                version: facts.version,
                pod: &facts.pod,
                scope: "pod",
                window_s: window.length().as_secs(),
                uptime_s: self.telemetry.uptime(now).as_secs(),
                config_hash: self.telemetry.config_state().hash,
            },
        };
        Reply::json(StatusCode::OK, &answer)
    }

    fn summary(&self, window: Window, now: Instant) -> Summary {
        let routes = self.telemetry.route_windows(window, now);
        let operations = self.telemetry.operation_windows(window, now);
        let requests = Metrics::new(routes.iter().map(|route| (route.key.clone(), request_metric(route))));
        let cache = Metrics::new(
            operations
                .iter()
                .map(|(operation, summary)| (operation.as_str().to_owned(), Metric::new(summary, None))),
        );
        let database = Metrics::new(std::iter::empty());
        Summary {
            time_window_hours: Hours(window),
            total_metrics: requests.count + cache.count + database.count,
            metric_types: MetricTypes { request: requests, cache, database },
            performance_insights: self.insights(&routes, window, now),
        }
    }

    fn insights(&self, routes: &[RouteWindow], window: Window, now: Instant) -> Vec<Insight> {
        let over = |route: &&RouteWindow| route.summary.p95_us * 2.0 > f64::from(route.limit_us);
        let mut routes: Vec<_> = routes.iter().filter(over).collect();
        if routes.is_empty() {
            return Vec::new();
        }
        let excess = |route: &RouteWindow| route.summary.p95_us / f64::from(route.limit_us.max(1));
        routes.sort_by(|a, b| excess(b).total_cmp(&excess(a)));
        let cache = self.telemetry.cache_window(window, now);
        let slow = self.telemetry.slow_requests();
        routes.into_iter().map(|route| insight(route, &cache, &slow)).collect()
    }
}

impl Metrics {
    fn new(metrics: impl Iterator<Item = (String, Metric)>) -> Self {
        let metrics: Vec<_> = metrics.collect();
        Self { count: metrics.iter().map(|(_, metric)| metric.count()).sum(), metrics: Ordered(metrics) }
    }
}

fn request_metric(route: &RouteWindow) -> Metric {
    let facts = RouteFacts {
        basis: route.basis.as_str(),
        limit_ms: u64::from(route.limit_us.div_ceil(1000)),
        errors_5xx: route.errors_5xx,
    };
    Metric::new(&route.summary, Some(facts))
}

/// What a P95 over the limit, or over half of it, means.
fn insight(route: &RouteWindow, cache: &CacheWindow, slow: &[SlowRequest]) -> Insight {
    let is_over = route.summary.p95_us > f64::from(route.limit_us);
    let (kind, word, threshold_us) = if is_over {
        ("critical", "High", route.limit_us)
    } else {
        ("warning", "Elevated", route.limit_us / 2)
    };
    Insight {
        r#type: kind,
        metric: format!("request.{}", route.key),
        message: format!("{word} P95 latency: {:.0}ms", route.summary.p95_ms()),
        threshold: format!("{}ms", threshold_us.div_ceil(1000)),
        suggestion: suggestion(route, cache, slow),
    }
}

fn suggestion(route: &RouteWindow, cache: &CacheWindow, slow: &[SlowRequest]) -> String {
    let mut parts = Vec::new();
    if route.summary.is_few() {
        let (count, many) = (route.summary.count, if route.summary.count == 1 { "" } else { "s" });
        parts.push(format!("only {count} request{many} in this window"));
    }
    if let Some((part, share)) = dominant(route, slow) {
        parts.push(format!("{share}% of the time of its slow requests went into {}", part.in_words()));
    }
    let lookups = cache.by_route.iter().find(|known| known.route.template() == route.route.template());
    parts.push(match lookups.map(|known| (known.hits + known.misses, known.hit_rate_percent())) {
        Some((1.., Some(rate))) => format!("{rate:.0}% of its lookups were hits"),
        _ => "the cache takes no part in it".to_owned(),
    });
    parts.join("; ")
}

/// The part that took most of the time of the route's slow requests, with its share in percent.
fn dominant(route: &RouteWindow, slow: &[SlowRequest]) -> Option<(Part, u64)> {
    let is_ours = |request: &&SlowRequest| {
        request.route.template() == route.route.template()
            && route.method.is_none_or(|method| method == request.method)
            && request.basis == route.basis
    };
    let ours: Vec<&Breakdown> = slow.iter().filter(is_ours).map(|request| &request.breakdown).collect();
    let total: u64 = ours.iter().map(|breakdown| u64::from(breakdown.total_us())).sum();
    let spent = |part: Part| -> u64 {
        let all = ours.iter().flat_map(|breakdown| breakdown.parts());
        all.filter(|(known, _)| *known == part).map(|(_, us)| u64::from(us)).sum()
    };
    let (us, part) = Part::ALL.into_iter().map(|part| (spent(part), part)).max_by_key(|(us, _)| *us)?;
    (total > 0).then(|| (part, us * 100 / total))
}
