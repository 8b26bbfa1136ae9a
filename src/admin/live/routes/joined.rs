//! The table of routes over several pods. Rows are the same where route, method and shape are; what the cache did is
//! counted by template, and is added by template too.

use std::{cmp::Reverse, collections::HashMap};

use serde::{Deserialize, Serialize};

use super::{Measured, Named, ROUTES, Route, RouteCached, Routes};
use crate::admin::{
    live::sections::{Moment, Word},
    shapes::percent,
};
use crate::telemetry::{
    Exact,
    details::MINUTES,
    snapshot::{RouteCache, RouteWindow},
};

/// The most routes of a part: replicas need not have the same ones as their busiest.
const PARTS: usize = 2 * ROUTES;

/// The table of one pod in exact form.
#[derive(Serialize, Deserialize)]
pub(in crate::admin::live) struct TablePart {
    rows: Vec<RowPart>,
    cached: Vec<CachedPart>,
}

#[derive(Serialize, Deserialize)]
struct RowPart {
    route: Named,
    window: Exact,
    /// The last quarter of an hour, oldest first.
    minutes: Vec<Exact>,
    /// Why the cache did nothing for it.
    why: Option<Word>,
}

/// What the cache did for one template.
#[derive(Clone, Default, Serialize, Deserialize)]
struct CachedPart {
    template: String,
    hits: u64,
    misses: u64,
    bypass: u64,
}

/// One row of one pod, with the seconds that its window spans.
type Found<'a> = (f64, &'a RowPart);

impl TablePart {
    pub(in crate::admin::live) fn new(moment: &Moment<'_>) -> Self {
        let telemetry = &moment.admin.telemetry;
        let row = |route: &RouteWindow| {
            let (window, minutes) = telemetry.exact_route(route, moment.window, moment.now);
            RowPart { route: Named::of(route), window, minutes, why: RouteCached::new(moment, route).why }
        };
        let cached = |cached: &RouteCache| CachedPart {
            template: cached.route.template().to_owned(),
            hits: cached.hits,
            misses: cached.misses,
            bypass: cached.bypass,
        };
        Self {
            rows: moment.routes.iter().take(PARTS).map(row).collect(),
            cached: moment.cache.by_route.iter().map(cached).collect(),
        }
    }
}

impl Routes {
    /// The tables of several pods, each with the seconds that its window spans.
    pub(in crate::admin::live) fn joined(parts: &[(f64, &TablePart)]) -> Self {
        let mut cached: HashMap<&str, CachedPart> = HashMap::new();
        for part in parts.iter().flat_map(|(_, table)| &table.cached) {
            cached.entry(&part.template).or_default().add(part);
        }
        let mut by_route: HashMap<(&str, Option<&str>), Vec<Found<'_>>> = HashMap::new();
        for (seconds, table) in parts {
            for row in &table.rows {
                let named = (row.route.template.as_str(), row.route.method.as_deref());
                by_route.entry(named).or_default().push((*seconds, row));
            }
        }
        let mut rows: Vec<_> =
            by_route.into_values().flat_map(|found| Route::joined(found, &cached)).collect();
        rows.sort_by(|a, b| {
            let rank = |row: &Route| (row.method.is_none(), Reverse(row.count));
            rank(a).cmp(&rank(b)).then_with(|| a.key.cmp(&b.key))
        });
        rows.truncate(ROUTES);
        Self(rows)
    }
}

impl CachedPart {
    fn add(&mut self, other: &Self) {
        self.hits = self.hits.saturating_add(other.hits);
        self.misses = self.misses.saturating_add(other.misses);
        self.bypass = self.bypass.saturating_add(other.bypass);
    }
}

impl Route {
    /// The rows of one method of one route, one for each shape.
    fn joined(mut found: Vec<Found<'_>>, cached: &HashMap<&str, CachedPart>) -> Vec<Self> {
        found.sort_by_key(|(_, row)| row.route.rank());
        let same = |a: &Found<'_>, b: &Found<'_>| a.1.route.kind == b.1.route.kind;
        let shapes = found.chunk_by(same).enumerate();
        shapes.filter_map(|(place, parts)| Self::of_shape(place, parts, cached)).collect()
    }

    /// The sum of a row's parts; `place` is that of its shape among those of the route. What is not counted is that of
    /// the first.
    #[expect(clippy::cast_precision_loss, reason = "counts of one hour")]
    fn of_shape(place: usize, parts: &[Found<'_>], cached: &HashMap<&str, CachedPart>) -> Option<Self> {
        let (_, first) = parts.first()?;
        let (summary, errors_5xx) = Exact::total(parts.iter().map(|(_, row)| &row.window));
        let minute = |at: usize| {
            let (minute, _) = Exact::total(parts.iter().filter_map(|(_, row)| row.minutes.get(at)));
            (minute.count > 0).then(|| minute.p95_ms())
        };
        let measured = Measured {
            summary,
            errors_5xx,
            per_s: parts.iter().map(|(seconds, row)| row.window.count() as f64 / seconds).sum(),
            p95_minutes: (0..MINUTES).map(minute).collect(),
        };
        let mut route = first.route.clone();
        // A pod that has seen one shape only gives it the bare key, which belongs to the first of all pods.
        let is_marked = place > 0 || parts.iter().any(|(_, row)| row.route.key != row.route.bare_key());
        route.key = route.bare_key();
        if is_marked {
            route.key = format!("{} ({})", route.key, route.kind);
        }
        let why = parts.iter().find_map(|(_, row)| row.why.clone());
        let is_read = matches!(route.method.as_deref(), Some("GET" | "HEAD") | None);
        let cached = cached.get(route.template.as_str()).filter(|_| is_read).cloned().unwrap_or_default();
        Some(Self::new(route, measured, RouteCached::joined(&cached, why)))
    }
}

impl Named {
    fn bare_key(&self) -> String {
        self.method
            .as_ref()
            .map_or_else(|| self.template.clone(), |method| format!("{method} {}", self.template))
    }

    /// The place among the shapes of a route, as one pod has it: plain answers of a route that streams are the odd ones.
    fn rank(&self) -> u8 {
        let kind = match &*self.kind {
            "plain" => 2,
            "stream" => 1,
            _ => 0,
        };
        if self.method.is_none() { 2 - kind } else { kind }
    }
}

impl RouteCached {
    fn joined(cached: &CachedPart, why: Option<Word>) -> Self {
        let CachedPart { hits, misses, bypass, .. } = *cached;
        let lookups = hits.saturating_add(misses);
        let hit_percent = (lookups > 0).then(|| percent(hits, lookups));
        Self { hits, misses, bypass, hit_percent, why: why.filter(|_| hit_percent.is_none()) }
    }
}
