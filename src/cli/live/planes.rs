//! The parts beside the routes, and the alerts, a few words each. A part that is not configured has no words.

use super::{
    figures,
    line::{Line, Paint},
    snapshot::{Alert, Alerts, Backend, Cache, Claude, Redis, Snapshot},
};

/// Firing alerts that have a line of their own.
const FIRING: usize = 3;

/// The parts, each as a text to be put beside the others.
pub(super) fn planes(snapshot: &Snapshot) -> Vec<Line> {
    let now = snapshot.at.as_deref();
    let mut parts = Vec::new();
    parts.extend(snapshot.backend.as_ref().map(|plane| backend(plane, now)));
    parts.extend(snapshot.cache.as_ref().and_then(cache));
    parts.extend(snapshot.redis.as_ref().map(|plane| redis(plane, now)));
    if let Some(plane) = &snapshot.claude {
        parts.extend(claude(plane, now));
    }
    parts
}

fn named(name: &str) -> Line {
    Line::of(name, Paint::Strong).with(" ", Paint::Plain)
}

fn backend(plane: &Backend, now: Option<&str>) -> Line {
    let mut line = named("backend");
    match plane.up {
        Some(true) => {
            line.push("up", Paint::Good);
            if plane.probe_ms.is_some() {
                line.push(&format!(" {}", figures::time(plane.probe_ms)), Paint::Plain);
            }
        }
        Some(false) => {
            line.push(&format!("DOWN since {}", figures::since(plane.since.as_deref(), now)), Paint::Bad);
        }
        None => line.push("not asked yet", Paint::Soft),
    }
    match plane.breaker.as_deref() {
        None | Some("closed") => {}
        Some(state) => {
            let since = figures::since(plane.breaker_since.as_deref(), now);
            line.push(&format!(", breaker {state} since {since}"), Paint::Bad);
        }
    }
    if let (Some(in_flight), Some(places)) = (plane.in_flight, plane.places) {
        let paint = if in_flight >= places { Paint::Warn } else { Paint::Plain };
        line.push(&format!(", {in_flight} of {places} in flight"), paint);
    }
    if let Some(queued) = plane.queued.filter(|queued| *queued > 0) {
        line.push(&format!(", {queued} wait"), Paint::Warn);
    }
    line
}

fn cache(plane: &Cache) -> Option<Line> {
    let mut line = named("cache");
    match plane.mode.as_deref() {
        Some("off") => return None,
        Some("observe") if plane.hit_percent.is_none() => line.push("observes, ", Paint::Warn),
        Some("observe") => line.push("observes, would hit ", Paint::Warn),
        _ if plane.hit_percent.is_none() => {}
        _ => line.push("hits ", Paint::Plain),
    }
    match plane.hit_percent {
        None => line.push("no lookups", Paint::Soft),
        Some(percent) => {
            let is_below = plane.target_percent.is_some_and(|target| percent < target);
            let paint = if is_below { Paint::Warn } else { Paint::Good };
            line.push(&format!("{} %", figures::percent(Some(percent))), paint);
            if let Some(target) = plane.target_percent.filter(|_| is_below) {
                line.push(&format!(" (target {})", figures::percent(Some(target))), Paint::Soft);
            }
        }
    }
    if plane.entries.is_some() {
        line.push(&format!(", {} entries", figures::count(plane.entries)), Paint::Plain);
    }
    if plane.bytes.is_some() {
        let most =
            plane.bytes_max.map_or_else(String::new, |most| format!(" of {}", figures::bytes(Some(most))));
        line.push(&format!(", {}{most}", figures::bytes(plane.bytes)), Paint::Plain);
    }
    if let Some(evictions) = plane.evictions.filter(|evictions| *evictions > 0) {
        line.push(&format!(", {} evicted", figures::count(Some(evictions))), Paint::Warn);
    }
    Some(line)
}

fn redis(plane: &Redis, now: Option<&str>) -> Line {
    let mut line = named("redis");
    match plane.up {
        Some(true) => {
            line.push("up", Paint::Good);
            if plane.ping_ms.is_some() {
                line.push(&format!(" {}", figures::time(plane.ping_ms)), Paint::Plain);
            }
        }
        Some(false) => {
            line.push(&format!("DOWN since {}", figures::since(plane.since.as_deref(), now)), Paint::Bad);
            if let Some(error) = &plane.error {
                line.push(&format!(": {error}"), Paint::Bad);
            }
        }
        None => line.push("not asked yet", Paint::Soft),
    }
    for (count, what) in [(plane.pending_writes, "writes"), (plane.pending_purges, "purges")] {
        if let Some(count) = count.filter(|count| *count > 0) {
            line.push(&format!(", {} {what} pending", figures::count(Some(count))), Paint::Warn);
        }
    }
    line
}

/// What calls cost since the start, whatever the window is, and each budget.
fn claude(plane: &Claude, now: Option<&str>) -> Vec<Line> {
    if plane.mode.as_deref() == Some("off") {
        return Vec::new();
    }
    let mut line = named("claude");
    line.push(&figures::dollars(plane.cost_usd), Paint::Plain);
    if plane.calls.is_some() {
        line.push(&format!(" for {} calls", figures::count(plane.calls)), Paint::Plain);
    }
    line.push(&format!(" since {}", figures::since(plane.since.as_deref(), now)), Paint::Soft);
    if plane.would_save_usd.is_some() {
        line.push(&format!(", would save {}", figures::dollars(plane.would_save_usd)), Paint::Warn);
    } else if let Some(saved) = plane.saved_vs_requested_usd {
        let paint = if saved < 0.0 { Paint::Warn } else { Paint::Good };
        line.push(&format!(", saved {}", figures::dollars(Some(saved))), paint);
    }
    if plane.first_token_p95_ms.is_some() {
        line.push(&format!(", first token P95 {}", figures::time(plane.first_token_p95_ms)), Paint::Plain);
    }
    let refused = plane.refused_429.unwrap_or(0).saturating_add(plane.refused_529.unwrap_or(0));
    if refused > 0 {
        line.push(&format!(", {} refused", figures::count(Some(refused))), Paint::Warn);
    }
    let mut lines = vec![line];
    for budget in &plane.budgets {
        let name = budget.name.as_deref().unwrap_or(figures::UNKNOWN);
        let mut line = named(&format!("budget {name}"));
        let is_near = match (budget.spent_usd, budget.limit_usd) {
            (Some(spent), Some(limit)) => spent >= limit * 0.9,
            _ => false,
        };
        let paint = if is_near { Paint::Warn } else { Paint::Plain };
        line.push(
            &format!("{} of {}", figures::dollars(budget.spent_usd), figures::dollars(budget.limit_usd)),
            paint,
        );
        if let Some(refused) = budget.refused.filter(|refused| *refused > 0) {
            line.push(&format!(", {} refused", figures::count(Some(refused))), Paint::Bad);
        }
        lines.push(line);
    }
    lines
}

/// The alerts: those that fire, then how many wait, then who cannot be told.
pub(super) fn alerts(plane: &Alerts, now: Option<&str>) -> Vec<Line> {
    if plane.enabled == Some(false) {
        return vec![named("alerts").with("off", Paint::Soft)];
    }
    let firing: Vec<&Alert> =
        plane.items.iter().filter(|alert| alert.state.as_deref() == Some("firing")).collect();
    let count = plane.firing.unwrap_or(firing.len() as u64);
    let mut head = named("alerts");
    if count == 0 {
        head.push("none firing", Paint::Good);
    } else {
        head.push(&format!("{count} firing"), Paint::Bad);
    }
    if let Some(pending) = plane.pending.filter(|pending| *pending > 0) {
        head.push(&format!(", {pending} pending"), Paint::Warn);
    }
    for channel in plane.channels.iter().filter(|channel| channel.state.as_deref() == Some("failing")) {
        let name = channel.name.as_deref().unwrap_or(figures::UNKNOWN);
        let error = channel.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        head.push(&format!(", {name} is not told{error}"), Paint::Bad);
    }
    let lines = firing.into_iter().take(FIRING).map(|alert| fires(alert, now));
    std::iter::once(head).chain(lines).collect()
}

fn fires(alert: &Alert, now: Option<&str>) -> Line {
    let severity = alert.severity.as_deref().unwrap_or(figures::UNKNOWN);
    let paint = if severity == "critical" { Paint::Bad } else { Paint::Warn };
    let mut line = Line::of(&format!("  {severity:<8}  "), paint);
    line.push(&format!("since {}  ", figures::since(alert.since.as_deref(), now)), Paint::Soft);
    line.push(alert.text.as_deref().or(alert.rule.as_deref()).unwrap_or(figures::UNKNOWN), Paint::Plain);
    if let Some(value) = &alert.value {
        line.push(&format!(", now {value}"), Paint::Plain);
    }
    line
}
