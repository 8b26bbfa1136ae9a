//! The sections of single routes and requests: the table, and the slow ones.

use serde::{Deserialize, Serialize};

use super::{
    sections::{Moment, Word, at, rate},
    tail::trace,
};
use crate::admin::shapes::{percent, thousandths};
use crate::telemetry::{
    Kind, Method, Part, Reason, SlowRequest, Summary,
    snapshot::{RouteCache, RouteWindow},
};

/// How many slow requests are sent.
const SLOW: usize = 50;
/// How many routes are sent: the busiest.
const ROUTES: usize = 200;

mod joined;

pub(super) use joined::TablePart;

/// The table of routes.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Routes(Vec<Route>);

/// A row.
#[derive(Serialize)]
struct Route {
    key: String,
    method: Option<Word>,
    template: String,
    kind: Word,
    basis: Word,
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

/// What a row is about.
#[derive(Clone, Serialize, Deserialize)]
struct Named {
    key: String,
    method: Option<Word>,
    template: String,
    kind: Word,
    basis: Word,
    limit_us: u32,
}

/// What was measured of it.
struct Measured {
    summary: Summary,
    errors_5xx: u64,
    per_s: f64,
    p95_minutes: Vec<Option<f64>>,
}

/// What the cache did for a row.
#[derive(Serialize)]
struct RouteCached {
    hits: u64,
    misses: u64,
    bypass: u64,
    hit_percent: Option<f64>,
    why: Option<Word>,
}

/// The slow requests.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Slow {
    /// Since the start.
    total: u64,
    items: Vec<SlowItem>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SlowItem {
    at: String,
    method: Word,
    template: String,
    path: Option<String>,
    status: u16,
    cache: Word,
    reason: Option<Word>,
    basis: Word,
    total_ms: f64,
    limit_ms: f64,
    parts: Parts,
    sentence: String,
    trace_id: Option<String>,
    /// Whose it is, where several pods were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
}

/// The parts of a request's time in whole microseconds. They add up to the total.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Parts(serde_json::Map<String, serde_json::Value>);

impl Parts {
    pub(super) fn new(parts: impl Iterator<Item = (Part, u32)>) -> Self {
        Self(parts.map(|(part, us)| (format!("{}_us", part.as_str()), us.into())).collect())
    }
}

impl Routes {
    pub(super) fn new(moment: &Moment<'_>) -> Self {
        Self(moment.routes.iter().take(ROUTES).map(|route| Route::of(moment, route)).collect())
    }
}

impl Named {
    fn of(route: &RouteWindow) -> Self {
        Self {
            key: route.key.clone(),
            method: route.method.map(Method::as_str).map(Word::from),
            template: route.route.template().to_owned(),
            kind: route.kind.as_str().into(),
            basis: route.basis.as_str().into(),
            limit_us: route.limit_us,
        }
    }
}

impl Route {
    #[expect(clippy::cast_precision_loss, reason = "counts of one hour")]
    fn of(moment: &Moment<'_>, route: &RouteWindow) -> Self {
        let measured = Measured {
            summary: route.summary,
            errors_5xx: route.errors_5xx,
            per_s: route.summary.count as f64 / moment.seconds(),
            p95_minutes: moment.admin.telemetry.route_minutes(route, moment.now),
        };
        Self::new(Named::of(route), measured, RouteCached::new(moment, route))
    }

    fn new(route: Named, measured: Measured, cache: RouteCached) -> Self {
        let Measured { summary, errors_5xx, per_s, p95_minutes } = measured;
        Self {
            key: route.key,
            method: route.method,
            template: route.template,
            kind: route.kind,
            basis: route.basis,
            count: summary.count,
            per_s: thousandths(per_s),
            errors_5xx,
            error_percent: percent(errors_5xx, summary.count),
            p50_ms: thousandths(summary.p50_ms()),
            p95_ms: thousandths(summary.p95_ms()),
            p99_ms: thousandths(summary.p99_ms()),
            max_ms: thousandths(summary.max_ms()),
            few: summary.is_few(),
            limit_ms: f64::from(route.limit_us) / 1000.0,
            over_limit: !summary.is_few() && summary.p95_us > f64::from(route.limit_us),
            p95_minutes: p95_minutes.into_iter().map(|ms| ms.map(thousandths)).collect(),
            cache,
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
        Self { hits, misses, bypass, hit_percent, why: hit_percent.is_none().then(why).map(Word::from) }
    }
}

/// Why a route has no hits, in a word or two.
const fn word(reason: Option<Reason>) -> &'static str {
    match reason {
        // Under a rule this would be a miss.
        None | Some(Reason::NotListed | Reason::NoFreshness) => "not listed",
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

    /// Those of several pods, each with its name.
    pub(super) fn joined<'a>(parts: impl Iterator<Item = (&'a str, &'a Self)>) -> Self {
        let mut sum = Self { total: 0, items: Vec::new() };
        for (pod, part) in parts {
            sum.total = sum.total.saturating_add(part.total);
            sum.items
                .extend(part.items.iter().map(|item| SlowItem { pod: Some(pod.to_owned()), ..item.clone() }));
        }
        // Times are written so that later ones are greater.
        sum.items.sort_by(|a, b| b.at.cmp(&a.at));
        sum.items.truncate(SLOW);
        sum
    }
}

impl SlowItem {
    fn new(moment: &Moment<'_>, slow: &SlowRequest) -> Self {
        let path = slow.path.as_ref().and_then(|path| moment.admin.shown_path(path, &slow.route));
        Self {
            at: at(slow.at),
            method: slow.method.as_str().into(),
            template: slow.route.template().to_owned(),
            path,
            status: slow.status,
            cache: slow.cache.as_str().into(),
            reason: slow.reason.map(Reason::as_str).map(Word::from),
            basis: slow.basis.as_str().into(),
            total_ms: f64::from(slow.breakdown.total_us()) / 1000.0,
            limit_ms: f64::from(slow.limit_us) / 1000.0,
            parts: Parts::new(slow.breakdown.parts()),
            sentence: slow.sentence(),
            trace_id: trace(slow.trace),
            pod: None,
        }
    }
}
