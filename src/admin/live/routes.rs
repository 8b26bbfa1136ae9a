//! The sections of single routes and requests: the table, and the slow ones.

use serde::Serialize;

use super::{
    sections::{Moment, at, rate},
    tail::trace,
};
use crate::admin::shapes::{percent, thousandths};
use crate::telemetry::{
    Kind, Method, Part, Reason, SlowRequest,
    snapshot::{RouteCache, RouteWindow},
};

/// How many slow requests are sent.
const SLOW: usize = 50;
/// How many routes are sent: the busiest.
const ROUTES: usize = 200;

/// The table of routes.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Routes<'a>(Vec<Route<'a>>);

#[derive(Serialize)]
struct Route<'a> {
    key: &'a str,
    method: Option<&'static str>,
    template: &'a str,
    kind: &'static str,
    basis: &'static str,
    count: u64,
    per_s: f64,
    errors_5xx: u64,
    error_percent: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    few: bool,
    limit_ms: f64,
    over_limit: bool,
    p95_minutes: Vec<Option<f64>>,
    cache: RouteCached,
}

#[derive(Serialize)]
struct RouteCached {
    hits: u64,
    misses: u64,
    bypass: u64,
    hit_percent: Option<f64>,
    why: Option<&'static str>,
}

/// The slow requests.
#[derive(Serialize)]
pub(super) struct Slow {
    /// Since the start.
    total: u64,
    items: Vec<SlowItem>,
}

#[derive(Serialize)]
struct SlowItem {
    at: String,
    method: &'static str,
    template: String,
    path: Option<String>,
    status: u16,
    cache: &'static str,
    reason: Option<&'static str>,
    basis: &'static str,
    total_ms: f64,
    limit_ms: f64,
    parts: Parts,
    sentence: String,
    trace_id: Option<String>,
}

/// The parts of a request's time in whole microseconds. They add up to the total.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Parts(serde_json::Map<String, serde_json::Value>);

impl Parts {
    pub(super) fn new(parts: impl Iterator<Item = (Part, u32)>) -> Self {
        Self(parts.map(|(part, us)| (format!("{}_us", part.as_str()), us.into())).collect())
    }
}

impl<'a> Routes<'a> {
    pub(super) fn new(moment: &'a Moment<'_>) -> Self {
        Self(moment.routes.iter().take(ROUTES).map(|route| Route::new(moment, route)).collect())
    }
}

impl<'a> Route<'a> {
    #[expect(clippy::cast_precision_loss, reason = "counts of one hour")]
    fn new(moment: &Moment<'_>, route: &'a RouteWindow) -> Self {
        let summary = &route.summary;
        let telemetry = &moment.admin.telemetry;
        let minutes = telemetry.route_minutes(route, moment.now);
        Self {
            key: &route.key,
            method: route.method.map(Method::as_str),
            template: route.route.template(),
            kind: route.kind.as_str(),
            basis: route.basis.as_str(),
            count: summary.count,
            per_s: thousandths(summary.count as f64 / moment.seconds()),
            errors_5xx: route.errors_5xx,
            error_percent: percent(route.errors_5xx, summary.count),
            p50_ms: thousandths(summary.p50_ms()),
            p95_ms: thousandths(summary.p95_ms()),
            p99_ms: thousandths(summary.p99_ms()),
            max_ms: thousandths(summary.max_ms()),
            few: summary.is_few(),
            limit_ms: f64::from(route.limit_us) / 1000.0,
            over_limit: !summary.is_few() && summary.p95_us > f64::from(route.limit_us),
            p95_minutes: minutes.into_iter().map(|ms| ms.map(thousandths)).collect(),
            cache: RouteCached::new(moment, route),
        }
    }
}

impl RouteCached {
    /// What the cache did for the template of a row: it is counted by template, not by method.
    fn new(moment: &Moment<'_>, route: &RouteWindow) -> Self {
        let is_same = |cached: &&RouteCache| cached.route.template() == route.route.template();
        let is_read = matches!(route.method, Some(Method::Get | Method::Head) | None);
        let found = moment.cache.by_route.iter().find(is_same).filter(|_| is_read);
        let (hits, misses, bypass) =
            found.map_or((0, 0, 0), |cached| (cached.hits, cached.misses, cached.bypass));
        let hit_percent = rate(found.and_then(RouteCache::hit_rate_percent));
        let why = || match route.kind {
            Kind::Stream => "stream",
            Kind::Upgrade => "upgrade",
            Kind::Plain if !is_read => "write",
            Kind::Plain => word(moment.admin.telemetry.main_reason(route)),
        };
        Self { hits, misses, bypass, hit_percent, why: hit_percent.is_none().then(why) }
    }
}

/// Why a route has no hits, in a word or two.
const fn word(reason: Option<Reason>) -> &'static str {
    match reason {
        None | Some(Reason::NotListed) => "not listed",
        Some(Reason::Authorization | Reason::Credential | Reason::Identity) => "auth",
        Some(Reason::NoStore) => "no-store",
        Some(Reason::SetCookie) => "set-cookie",
        Some(Reason::Method) => "write",
        Some(Reason::Streaming) => "stream",
        Some(reason) => reason.as_str(),
    }
}

impl Slow {
    pub(super) fn new(moment: &Moment<'_>) -> Self {
        let telemetry = &moment.admin.telemetry;
        let requests = telemetry.slow_requests();
        let items = requests.iter().take(SLOW).map(|slow| SlowItem::new(moment, slow)).collect();
        Self { total: telemetry.slow_count(), items }
    }
}

impl SlowItem {
    fn new(moment: &Moment<'_>, slow: &SlowRequest) -> Self {
        let path = slow.path.as_ref().and_then(|path| moment.admin.shown_path(path, &slow.route));
        Self {
            at: at(slow.at),
            method: slow.method.as_str(),
            template: slow.route.template().to_owned(),
            path,
            status: slow.status,
            cache: slow.cache.as_str(),
            reason: slow.reason.map(Reason::as_str),
            basis: slow.basis.as_str(),
            total_ms: f64::from(slow.breakdown.total_us()) / 1000.0,
            limit_ms: f64::from(slow.limit_us) / 1000.0,
            parts: Parts::new(slow.breakdown.parts()),
            sentence: slow.sentence(),
            trace_id: trace(slow.trace),
        }
    }
}
