//! The table of routes: which columns fit, in which order the routes stand, which of them are shown.

use std::cmp::Ordering;

use clap::ValueEnum;

use super::{
    figures::{self, Glyphs, UNKNOWN},
    line::{self, Line, Paint},
    snapshot::Route,
};

/// The key of requests that no route takes.
const UNMATCHED: &str = "unmatched";

/// Columns before the first one: a mark for the route that keys act on, and one for a route over its limit.
const MARKS: usize = 2;

/// The least width of a route's name before a further column is shown.
const NAME: usize = 22;

/// Names up to this width are shown whole before a column beyond the essential ones is.
const WANTED_NAME: usize = 38;

/// So many columns come before whole names.
const ESSENTIAL: usize = 4;

/// Names wider than this leave the room to nothing.
const WIDEST_NAME: usize = 90;

/// Behind the name of a route whose times end there.
const FIRST_BYTE: &str = " (first byte)";

/// Samples below which only the greatest is told.
const VERY_FEW: u64 = 5;

/// What routes are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Requests a second, most first.
    Rate,
    /// The 95th percentile, slowest first.
    P95,
    /// The share of 5xx, most first.
    Errors,
    /// The hit rate, lowest first.
    Hits,
    /// The path.
    Name,
}

impl Sort {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::P95 => "P95",
            Self::Errors => "errors",
            Self::Hits => "hit rate",
            Self::Name => "name",
        }
    }
}

/// A column beside the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Rate,
    Errors,
    P50,
    P95,
    P99,
    Limit,
    Hits,
    Trend,
    Count,
    Max,
    Lookups,
    Bypass,
}

/// All of them in the order they stand in.
const ORDER: [Column; 12] = [
    Column::Rate,
    Column::Count,
    Column::Errors,
    Column::P50,
    Column::P95,
    Column::P99,
    Column::Max,
    Column::Limit,
    Column::Hits,
    Column::Lookups,
    Column::Bypass,
    Column::Trend,
];

/// All of them in the order they are given room in.
const WORTH: [Column; 12] = [
    Column::Rate,
    Column::P95,
    Column::Errors,
    Column::Hits,
    Column::P50,
    Column::P99,
    Column::Limit,
    Column::Trend,
    Column::Count,
    Column::Max,
    Column::Lookups,
    Column::Bypass,
];

/// The columns of `touchline stat`, and of its wide form.
pub(super) const PRINTED: [Column; 7] =
    [Column::Rate, Column::Errors, Column::P50, Column::P95, Column::P99, Column::Limit, Column::Hits];
pub(super) const PRINTED_WIDE: [Column; 11] = [
    Column::Rate,
    Column::Count,
    Column::Errors,
    Column::P50,
    Column::P95,
    Column::P99,
    Column::Max,
    Column::Limit,
    Column::Hits,
    Column::Lookups,
    Column::Bypass,
];

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::Rate => "RATE/S",
            Self::Errors => "5XX%",
            Self::P50 => "P50",
            Self::P95 => "P95",
            Self::P99 => "P99",
            Self::Limit => "LIMIT",
            Self::Hits => "HIT%",
            Self::Trend => "P95, 15 MIN",
            Self::Count => "COUNT",
            Self::Max => "MAX",
            Self::Lookups => "LOOKUPS",
            Self::Bypass => "BYPASS",
        }
    }

    /// Columns of the terminal, with the gap before it.
    const fn width(self) -> usize {
        match self {
            Self::Rate | Self::P50 | Self::P95 | Self::P99 | Self::Limit | Self::Max => 8,
            Self::Errors => 6,
            Self::Trend => 17,
            Self::Hits | Self::Count | Self::Lookups | Self::Bypass => 11,
        }
    }

    const fn sort(self) -> Option<Sort> {
        match self {
            Self::Rate => Some(Sort::Rate),
            Self::P95 => Some(Sort::P95),
            Self::Errors => Some(Sort::Errors),
            Self::Hits => Some(Sort::Hits),
            _ => None,
        }
    }

    fn cell(self, route: &Route, glyphs: Glyphs) -> (String, Paint) {
        let count = route.count.unwrap_or(0);
        let (is_few, is_very_few) = (route.few == Some(true), count < VERY_FEW);
        match self {
            Self::Rate => (figures::rate(route.per_s), Paint::Plain),
            Self::Errors => {
                let bad = route.errors_5xx.unwrap_or(0) > 0 || route.error_percent.unwrap_or(0.0) > 0.0;
                (figures::percent(route.error_percent), if bad { Paint::Bad } else { Paint::Plain })
            }
            Self::P50 if is_very_few => (UNKNOWN.to_owned(), Paint::Soft),
            Self::P50 => (figures::time(route.p50_ms), Paint::Plain),
            // Of so few the greatest is all that can be said.
            Self::P95 if is_very_few && route.max_ms.is_some() => {
                (format!("<{}", figures::time(route.max_ms)), Paint::Soft)
            }
            Self::P95 => {
                let paint = if route.over_limit == Some(true) { Paint::Bad } else { Paint::Strong };
                (figures::time(route.p95_ms), paint)
            }
            Self::P99 if is_few || is_very_few => (format!("n={count}"), Paint::Soft),
            Self::P99 => (figures::time(route.p99_ms), Paint::Plain),
            Self::Limit => (figures::time(route.limit_ms), Paint::Soft),
            Self::Hits => hits(route),
            Self::Trend => {
                let from = route.p95_minutes.len().saturating_sub(15);
                let minutes = route.p95_minutes.get(from..).unwrap_or_default();
                (figures::sparkline(minutes, glyphs), Paint::Code)
            }
            Self::Count => (figures::count(route.count), Paint::Plain),
            Self::Max => (figures::time(route.max_ms), Paint::Plain),
            Self::Lookups => {
                let cache = route.cache.as_ref();
                let lookups = cache.and_then(|cache| cache.hits?.checked_add(cache.misses?));
                (figures::count(lookups), Paint::Plain)
            }
            Self::Bypass => {
                (figures::count(route.cache.as_ref().and_then(|cache| cache.bypass)), Paint::Plain)
            }
        }
    }
}

/// The hit rate, or why there is none.
fn hits(route: &Route) -> (String, Paint) {
    let Some(cache) = &route.cache else { return (UNKNOWN.to_owned(), Paint::Soft) };
    match (cache.hit_percent, &cache.why) {
        (Some(percent), _) => (figures::percent(Some(percent)), Paint::Good),
        (None, Some(why)) => (why.clone(), Paint::Soft),
        (None, None) => (UNKNOWN.to_owned(), Paint::Soft),
    }
}

/// The routes that a filter leaves, in their order. `unmatched` stands last, however it is sorted.
pub(super) fn chosen<'a>(routes: &'a [Route], filter: &str, sort: Sort, is_reversed: bool) -> Vec<&'a Route> {
    let wanted = filter.to_lowercase();
    let mut chosen: Vec<&Route> = routes
        .iter()
        .filter(|route| wanted.is_empty() || route.key.to_lowercase().contains(&wanted))
        .collect();
    chosen.sort_by(|a, b| {
        let order = compare(a, b, sort);
        let order = if is_reversed { order.reverse() } else { order };
        let last = |route: &Route| route.key == UNMATCHED;
        last(a).cmp(&last(b)).then(order).then_with(|| a.key.cmp(&b.key))
    });
    chosen
}

fn compare(a: &Route, b: &Route, sort: Sort) -> Ordering {
    // What is not known stands behind what is.
    let most = |value: Option<f64>| value.unwrap_or(-1.0);
    match sort {
        Sort::Rate => most(b.per_s).total_cmp(&most(a.per_s)),
        Sort::P95 => most(b.p95_ms).total_cmp(&most(a.p95_ms)),
        Sort::Errors => most(b.error_percent)
            .total_cmp(&most(a.error_percent))
            .then_with(|| b.errors_5xx.cmp(&a.errors_5xx)),
        Sort::Hits => {
            let least =
                |route: &Route| route.cache.as_ref().and_then(|cache| cache.hit_percent).unwrap_or(101.0);
            least(a).total_cmp(&least(b))
        }
        Sort::Name => a.template.cmp(&b.template).then_with(|| a.method.cmp(&b.method)),
    }
}

/// The columns that fit beside names of that width, in the order they stand in, and the width that is left to the names.
/// Long names are worth more than the last columns, up to a point.
fn fitting(width: usize, longest: usize) -> (Vec<Column>, usize) {
    let wanted = longest.clamp(NAME, WANTED_NAME);
    let mut left = width.saturating_sub(MARKS);
    let mut given = Vec::new();
    for column in WORTH {
        let Some(rest) = left.checked_sub(column.width()) else { break };
        if rest < if given.len() < ESSENTIAL { NAME } else { wanted } {
            break;
        }
        left = rest;
        given.push(column);
    }
    (ORDER.into_iter().filter(|column| given.contains(column)).collect(), left.min(WIDEST_NAME))
}

/// How the table is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) width: usize,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) selected: Option<&'a str>,
    pub(super) glyphs: Glyphs,
}

/// The table in a given width, with its head.
pub(super) fn fitted(routes: &[&Route], shown: &Shown<'_>) -> Vec<Line> {
    let longest = longest(routes);
    let (columns, most) = fitting(shown.width, longest);
    let name = longest.clamp(NAME, most.max(NAME));
    let mut lines = vec![head(&columns, name, Some(shown)).fit(shown.width)];
    for route in routes {
        let is_selected = shown.selected == Some(route.key.as_str());
        let line = row(route, &columns, name, shown.glyphs, is_selected).fit(shown.width);
        lines.push(if is_selected { line.selected() } else { line });
    }
    lines
}

/// The table in whatever width it takes, for programs and files.
pub(super) fn printed(routes: &[&Route], columns: &[Column], glyphs: Glyphs) -> Vec<Line> {
    let name = longest(routes).max(NAME);
    let rows = routes.iter().map(|route| row(route, columns, name, glyphs, false));
    std::iter::once(head(columns, name, None)).chain(rows).collect()
}

fn head(columns: &[Column], name: usize, sorted: Option<&Shown<'_>>) -> Line {
    let arrow = |sort: Sort| match sorted {
        Some(shown) if shown.sort == sort => shown.glyphs.arrow(shown.is_reversed),
        _ => "",
    };
    let mut head =
        Line::of(&line::left(&format!("  ROUTE{}", arrow(Sort::Name)), MARKS + name), Paint::Strong);
    for column in columns {
        let title = format!("{}{}", column.title(), column.sort().map_or("", arrow));
        let text = match column {
            Column::Trend => format!("  {}", line::left(&title, column.width() - 2)),
            column => line::right(&title, column.width()),
        };
        head.push(&text, Paint::Strong);
    }
    head
}

fn row(route: &Route, columns: &[Column], name: usize, glyphs: Glyphs, is_selected: bool) -> Line {
    let is_over = route.over_limit == Some(true);
    let mut row = Line::of(if is_selected { ">" } else { " " }, Paint::Strong);
    row.push(if is_over { "!" } else { " " }, Paint::Bad);
    let mut named = painted_name(route);
    if is_first_byte(route) && named.width() + FIRST_BYTE.len() < name {
        named.push(FIRST_BYTE, Paint::Soft);
    }
    let mut named = named.fit(name.saturating_sub(1));
    named.pad(name);
    row.append(named);
    for column in columns {
        let (text, paint) = column.cell(route, glyphs);
        match column {
            Column::Trend => row.push(&format!("  {}", line::left(&text, column.width() - 2)), paint),
            column => row.push(&format!(" {}", line::right(&text, column.width() - 1)), paint),
        }
    }
    row
}

/// Columns of the longest name, with the gap behind it.
fn longest(routes: &[&Route]) -> usize {
    let width = |route: &&Route| {
        let note = if is_first_byte(route) { FIRST_BYTE.len() } else { 0 };
        line::columns(&line::harmless(&route.key)) + note + 1
    };
    routes.iter().map(width).max().unwrap_or(0)
}

fn is_first_byte(route: &Route) -> bool {
    route.basis.as_deref() == Some("first_byte")
}

/// Method and template, with the parameters of the template in a colour of their own.
fn painted_name(route: &Route) -> Line {
    let mut line = Line::default();
    let mut rest = route.key.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((parameter, after)) = after.split_once('}') else { break };
        line.push(before, Paint::Plain);
        line.push(&format!("{{{parameter}}}"), Paint::Code);
        rest = after;
    }
    line.push(rest, Paint::Plain);
    line
}

#[cfg(test)]
mod tests {
    use super::{NAME, Route, Sort, chosen, fitting};

    fn route(key: &str, per_s: f64, p95_ms: Option<f64>) -> Route {
        Route {
            key: key.to_owned(),
            template: Some(key.to_owned()),
            per_s: Some(per_s),
            p95_ms,
            ..Route::default()
        }
    }

    #[test]
    fn sorting_keeps_what_is_unknown_and_unmatched_behind() {
        let routes = [
            route("unmatched", 99.0, Some(9_000.0)),
            route("/b", 1.0, None),
            route("/a", 5.0, Some(2.0)),
            route("/c", 5.0, Some(80.0)),
        ];
        let keys = |sort, is_reversed| -> Vec<&str> {
            chosen(&routes, "", sort, is_reversed).iter().map(|route| route.key.as_str()).collect()
        };

        assert_eq!(keys(Sort::Rate, false), ["/a", "/c", "/b", "unmatched"]);
        assert_eq!(keys(Sort::P95, false), ["/c", "/a", "/b", "unmatched"]);
        assert_eq!(keys(Sort::Name, true), ["/c", "/b", "/a", "unmatched"]);
        let found = chosen(&routes, "/B", Sort::Rate, false);
        assert_eq!(found.iter().map(|route| route.key.as_str()).collect::<Vec<_>>(), ["/b"]);
    }

    #[test]
    fn columns_are_added_as_they_find_room() {
        for width in 0..300 {
            let (columns, name) = fitting(width, width % 60);
            let taken: usize = columns.iter().map(|column| column.width()).sum();
            assert!(
                columns.is_empty() || (taken + name + 2 <= width && name >= NAME),
                "{width}: {columns:?} {name}"
            );
        }
        assert_eq!((fitting(80, 20).0.len(), fitting(80, 70).0.len()), (6, 4));
        assert_eq!(fitting(250, 70).0.len(), 12);
    }
}
