//! All about one route: what opens over the table when Enter is pressed.

use super::{
    figures::{self, Glyphs},
    line::{Line, Paint},
    snapshot::{Bucket, Detail, Route},
    tap,
};

/// Cells of the longest bar of the histogram, and the columns before it.
const BAR: usize = 40;
const BAR_AT: usize = 26;

/// Lines of a rule that are shown; a rule of a configuration has some ten.
const RULE: usize = 60;

/// What is known of the route that was opened.
#[derive(Debug, Default)]
pub(super) enum State {
    /// It was asked for.
    #[default]
    Waiting,
    /// What was answered.
    Known(Box<Detail>),
    /// Why there is no answer.
    Failed(String),
}

/// The lines about a route, as many as they are. A route that is in no snapshot any more has no figures.
pub(super) fn lines(key: &str, route: Option<&Route>, state: &State, look: (usize, Glyphs)) -> Vec<Line> {
    let mut lines = vec![Line::of(key, Paint::Strong)];
    match route {
        Some(route) => lines.extend(figures_of(route, look.1)),
        None => lines.push(Line::of("no requests in this window", Paint::Soft)),
    }
    match state {
        State::Waiting => lines.push(Line::of("asking for more ...", Paint::Soft)),
        State::Failed(why) => lines.push(Line::of(why, Paint::Warn)),
        State::Known(detail) => lines.extend(details(detail, look)),
    }
    lines
}

fn figures_of(route: &Route, glyphs: Glyphs) -> Vec<Line> {
    let mut first = Line::of(
        &format!("{}/s, {} requests, ", figures::rate(route.per_s), figures::count(route.count)),
        Paint::Plain,
    );
    let errors = format!(
        "{} with 5xx ({} %)",
        figures::count(route.errors_5xx),
        figures::percent(route.error_percent)
    );
    first.push(&errors, if route.errors_5xx.unwrap_or(0) > 0 { Paint::Bad } else { Paint::Plain });

    let basis = if route.basis.as_deref() == Some("first_byte") { "to the first byte: " } else { "" };
    let mut times = Line::of(&format!("{basis}P50 {}  ", figures::time(route.p50_ms)), Paint::Plain);
    let is_over = route.over_limit == Some(true);
    times.push(
        &format!("P95 {}", figures::time(route.p95_ms)),
        if is_over { Paint::Bad } else { Paint::Strong },
    );
    let p99 = if route.few == Some(true) { None } else { route.p99_ms };
    times.push(&format!("  P99 {}  max {}", figures::time(p99), figures::time(route.max_ms)), Paint::Plain);
    times.push(&format!("  limit {}", figures::time(route.limit_ms)), Paint::Soft);
    if is_over {
        times.push("  OVER ITS LIMIT", Paint::Bad);
    }
    if route.p95_minutes.iter().any(Option::is_some) {
        times.push("  15 m ", Paint::Soft);
        times.push(&figures::sparkline(&route.p95_minutes, glyphs), Paint::Code);
    }
    let mut lines = vec![first, times];
    if let Some(cache) = &route.cache {
        let mut line = Line::of(
            &format!(
                "cache: {} hits, {} misses, {} bypass",
                figures::count(cache.hits),
                figures::count(cache.misses),
                figures::count(cache.bypass)
            ),
            Paint::Plain,
        );
        match (cache.hit_percent, &cache.why) {
            (Some(percent), _) => {
                line.push(&format!(", {} % hits", figures::percent(Some(percent))), Paint::Good);
            }
            (None, Some(why)) => line.push(&format!(", not cached: {why}"), Paint::Warn),
            (None, None) => {}
        }
        lines.push(line);
    }
    lines
}

fn details(detail: &Detail, (width, glyphs): (usize, Glyphs)) -> Vec<Line> {
    let mut lines = Vec::new();
    let heading = |lines: &mut Vec<Line>, text: &str| {
        lines.push(Line::default());
        lines.push(Line::of(text, Paint::Strong));
    };
    heading(&mut lines, "rule in force");
    match &detail.rule {
        None => lines.push(Line::of("  none: passed on, not cached", Paint::Soft)),
        Some(rule) => {
            lines.extend(rule.lines().take(RULE).map(|text| Line::of(&format!("  {text}"), Paint::Code)));
        }
    }
    if !detail.histogram.is_empty() {
        heading(&mut lines, "how long they took");
        lines.extend(histogram(detail, width, glyphs));
    }
    heading(&mut lines, "how they ended");
    let mut ends = Line::of("  ", Paint::Plain);
    for counted in &detail.statuses {
        let status = counted.status.unwrap_or(0);
        ends.push(&format!("{status}"), tap::status_paint(status));
        ends.push(&format!(" x {}   ", figures::count(counted.count)), Paint::Plain);
    }
    ends.push(
        &format!("{} in, {} out", figures::bytes(detail.bytes_in), figures::bytes(detail.bytes_out)),
        Paint::Soft,
    );
    lines.push(ends);
    if !detail.reasons.is_empty() {
        heading(&mut lines, "what the cache said");
        for counted in &detail.reasons {
            let reason = counted.reason.as_deref().unwrap_or(figures::UNKNOWN);
            lines.push(Line::of(&format!("  {:>11}  {reason}", figures::count(counted.count)), Paint::Plain));
        }
    }
    if !detail.recent.is_empty() {
        heading(&mut lines, "the last requests");
        let path = tap::path_width(detail.recent.iter());
        for tail in &detail.recent {
            let mut line = Line::of("  ", Paint::Plain);
            line.append(tap::line(tail, path));
            lines.push(line);
        }
    }
    lines
}

fn histogram(detail: &Detail, width: usize, glyphs: Glyphs) -> Vec<Line> {
    let most = detail.histogram.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    let room = width.saturating_sub(BAR_AT).min(BAR);
    let row = |bucket: &Bucket| {
        let cells = u128::from(bucket.count) * room as u128 / u128::from(most);
        let cells = usize::try_from(cells).unwrap_or(0).max(usize::from(bucket.count > 0)).min(room);
        let bar: String = std::iter::repeat_n(glyphs.full(), cells).collect();
        let upto = match bucket.le_ms {
            Some(_) => format!("up to {}", figures::time(bucket.le_ms)),
            None => "longer".to_owned(),
        };
        Line::of(&format!("  {upto:<14}{:>9} ", figures::count(Some(bucket.count))), Paint::Plain)
            .with(&bar, Paint::Code)
    };
    detail.histogram.iter().map(row).collect()
}
