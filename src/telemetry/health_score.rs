//! The health score: 100 minus the points of what is wrong, each with a reason in words and the time it began.
//!
//! Evaluated when asked, and once a second by whoever keeps the process's time: `since` of the latency and error reasons is
//! the first evaluation that found them.

use std::{collections::HashMap, time::SystemTime};

use tokio::time::Instant;

use super::{
    alerts::budgets_spent,
    hub::Telemetry,
    latency::Summary,
    record::Kind,
    snapshot::RouteWindow,
    upstream::{BreakerState, UpstreamStats},
    windows::Window,
};

const SLOW_ROUTES_COUNTED: usize = 3;
const CLAUDE_REFUSED_OVER_PERCENT: f64 = 5.0;

/// What can cost points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The backend fails its probes, or its breaker is not closed.
    BackendDown,
    /// Plain requests are slow as a whole.
    Latency,
    /// One route is over its own limit.
    RouteSlow,
    /// Too many answers with a status of 500 and above.
    Errors,
    /// Redis is configured and does not answer.
    Redis,
    /// Claude refuses calls.
    ClaudeRefused,
    /// A budget for Claude is spent.
    ClaudeBudget,
    /// A newer configuration was rejected.
    ConfigRejected,
}

impl Code {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackendDown => "backend_down",
            Self::Latency => "latency",
            Self::RouteSlow => "route_slow",
            Self::Errors => "errors",
            Self::Redis => "redis",
            Self::ClaudeRefused => "claude_refused",
            Self::ClaudeBudget => "claude_budget",
            Self::ConfigRejected => "config_rejected",
        }
    }
}

impl Code {
    /// What is wrong, as part of a sentence.
    const fn in_words(self) -> &'static str {
        match self {
            Self::BackendDown => "the backend is down",
            Self::Latency => "responses are slow",
            Self::RouteSlow => "routes are over their limits",
            Self::Errors => "too many requests fail",
            Self::Redis => "Redis does not answer",
            Self::ConfigRejected => "a new configuration was rejected",
            Self::ClaudeRefused => "Claude refuses calls",
            Self::ClaudeBudget => "a budget for Claude is spent",
        }
    }
}

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 90 and above.
    Healthy,
    /// 70 to 89.
    Degraded,
    /// Below 70.
    Unhealthy,
}

impl Status {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One reason for a score below 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduction {
    /// What it is about.
    pub code: Code,
    /// What it costs.
    pub points: u8,
    /// What is wrong, in words.
    pub text: String,
    /// Since when.
    pub since: SystemTime,
}

/// The score and its reasons. The points of the reasons add up to 100 minus the score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthScore {
    /// 0 to 100.
    pub score: u8,
    /// The reasons, the costliest first.
    pub reasons: Vec<Deduction>,
}

impl HealthScore {
    /// The verdict in one word.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self.score {
            90.. => Status::Healthy,
            70..90 => Status::Degraded,
            _ => Status::Unhealthy,
        }
    }

    /// The verdict in one sentence: how bad it is, and of what kind.
    #[must_use]
    pub fn headline(&self) -> String {
        let status = match self.status() {
            Status::Healthy => "Healthy",
            Status::Degraded => "Degraded",
            Status::Unhealthy => "Unhealthy",
        };
        let mut causes: Vec<&'static str> = Vec::new();
        for reason in &self.reasons {
            let cause = reason.code.in_words();
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        // What cost only a few points is named all the same, and not in one breath with good news.
        let joint = if self.status() == Status::Healthy { ", but" } else { ":" };
        let causes = match causes.as_slice() {
            [] => return format!("{status}: nothing is wrong."),
            [one] => (*one).to_owned(),
            [first @ .., last] => format!("{} and {last}", first.join(", ")),
        };
        format!("{status}{joint} {causes}.")
    }
}

/// When the reasons without a time of their own were first seen, by their code and route.
#[derive(Debug, Default)]
pub(super) struct Since(HashMap<(Code, String), SystemTime>);

/// A reason before it has its time.
struct Finding {
    code: Code,
    points: u8,
    text: String,
    subject: String,
    since: Option<SystemTime>,
}

impl Finding {
    const fn new(code: Code, points: u8, text: String) -> Self {
        Self { code, points, text, subject: String::new(), since: None }
    }
}

impl Telemetry {
    /// The health score now.
    #[must_use]
    pub fn health_score(&self, now: Instant) -> HealthScore {
        let routes = self.route_windows(Window::FiveMinutes, now);
        let mut findings: Vec<_> =
            self.upstreams.read().iter().filter_map(|stats| backend_down(stats)).collect();
        let (latency, slow) = (self.overall_latency(now), slow_routes(&routes));
        let points =
            |findings: &[Finding]| findings.iter().map(|finding| u32::from(finding.points)).sum::<u32>();
        // The two have one cause: only the larger counts, and of equals the one that names the route.
        let latency: Vec<_> = latency.into_iter().collect();
        findings.extend(if points(&slow) >= points(&latency) { slow } else { latency });
        findings.extend(errors(&routes));
        findings.extend(self.redis_finding());
        findings.extend(self.claude_findings(now));
        findings.extend(self.config_rejected_finding());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.points));
        self.with_times(findings)
    }

    /// P95 of the last minute over the plain requests of routes with the common limit: a route with a limit of its own
    /// is judged by that alone.
    fn overall_latency(&self, now: Instant) -> Option<Finding> {
        let default_us = self.default_slow_after().as_micros();
        let merged = self.merge_lanes(Window::OneMinute, now, |route, lane| {
            lane.kind == Kind::Plain && u128::from(route.slow_after_us(lane.method)) == default_us
        });
        let summary = merged.summary();
        let (points, word) = match summary.p95_us {
            _ if summary.is_few() => return None,
            us if us > 2_000_000.0 => (30, "High"),
            us if us > 1_000_000.0 => (15, "Elevated"),
            _ => return None,
        };
        Some(Finding::new(Code::Latency, points, format!("{word} response times: {:.0}ms", summary.p95_ms())))
    }

    fn redis_finding(&self) -> Option<Finding> {
        let stats = self.redis().filter(|stats| !stats.is_up())?;
        let text = match stats.error() {
            Some(error) => format!("Redis connection issues: {error}"),
            None => "Redis connection issues: it has not answered yet".to_owned(),
        };
        Some(Finding { since: stats.down_since(), ..Finding::new(Code::Redis, 20, text) })
    }

    /// Refusals of Claude, and the budget that is spent most; both cost once, however many there are.
    fn claude_findings(&self, now: Instant) -> Vec<Finding> {
        let Some(claude) = self.claude() else { return Vec::new() };
        let calls = self.call_window(Window::FiveMinutes, now);
        let percent = calls.refused_percent().filter(|_| calls.calls >= Summary::FEW);
        let refused = percent.filter(|percent| *percent > CLAUDE_REFUSED_OVER_PERCENT).map(|percent| {
            let text = format!("Claude refuses {percent:.1}% of calls (429, 529)");
            Finding::new(Code::ClaudeRefused, 10, text)
        });
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let spent = budgets_spent(&claude, unix.as_secs()).into_iter();
        let spent = spent.filter(|(_, percent)| *percent >= 100.0).max_by(|a, b| a.1.total_cmp(&b.1));
        let budget = spent.map(|(name, _)| {
            let finding = Finding::new(Code::ClaudeBudget, 10, format!("the Claude budget {name} is spent"));
            Finding { subject: name.to_string(), ..finding }
        });
        refused.into_iter().chain(budget).collect()
    }

    fn config_rejected_finding(&self) -> Option<Finding> {
        let since = self.config_state().rejected_since?;
        let text = "the last configuration file was rejected; the one before it is in force".to_owned();
        Some(Finding { since: Some(since), ..Finding::new(Code::ConfigRejected, 5, text) })
    }

    /// Gives each finding its time, forgets the times of what is over, and keeps the sum within 100.
    fn with_times(&self, findings: Vec<Finding>) -> HealthScore {
        let now = SystemTime::now();
        let mut since = self.health_since.lock();
        let mut seen = HashMap::new();
        let mut score = 100_u8;
        let mut reasons = Vec::new();
        for Finding { code, points, text, subject, since: known } in findings {
            let key = (code, subject);
            let began = known.or_else(|| since.0.get(&key).copied()).unwrap_or(now);
            seen.insert(key, began);
            let points = points.min(score);
            score -= points;
            reasons.push(Deduction { code, points, text, since: began });
        }
        since.0 = seen;
        HealthScore { score, reasons }
    }
}

fn backend_down(stats: &UpstreamStats) -> Option<Finding> {
    let (text, since) = if let Some(since) = stats.down_since() {
        (format!("{} does not answer its health probes", stats.name()), since)
    } else {
        let since = stats.breaker_since()?;
        let state = match stats.breaker() {
            BreakerState::HalfOpen => "being tried again after repeated failures",
            BreakerState::Open | BreakerState::Closed => "given time to recover after repeated failures",
        };
        (format!("{} is {state} (breaker {})", stats.name(), stats.breaker().as_str()), since)
    };
    let finding = Finding::new(Code::BackendDown, 50, text);
    Some(Finding { subject: stats.name().to_owned(), since: Some(since), ..finding })
}

/// The routes furthest over their limits.
fn slow_routes(routes: &[RouteWindow]) -> Vec<Finding> {
    let ratio = |route: &RouteWindow| route.summary.p95_us / f64::from(route.limit_us.max(1));
    let mut slow: Vec<_> =
        routes.iter().filter(|route| !route.summary.is_few() && ratio(route) > 1.0).collect();
    slow.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
    let finding = |route: &&RouteWindow| {
        let (p95, limit) = (route.summary.p95_ms(), route.limit_us / 1000);
        let text = format!("{} P95 {p95:.0}ms is over its limit of {limit}ms", route.key);
        Finding { subject: route.key.clone(), ..Finding::new(Code::RouteSlow, 10, text) }
    };
    slow.iter().take(SLOW_ROUTES_COUNTED).map(finding).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of five minutes")]
fn errors(routes: &[RouteWindow]) -> Option<Finding> {
    let requests: u64 = routes.iter().map(|route| route.summary.count).sum();
    let failed: u64 = routes.iter().map(|route| route.errors_5xx).sum();
    let percent = failed as f64 * 100.0 / requests.max(1) as f64;
    let (points, word) = match percent {
        _ if requests < 20 => return None,
        10.0.. => (30, "High"),
        5.0.. => (15, "Elevated"),
        _ => return None,
    };
    // One route that has most of them is where to look.
    let worst = routes.iter().max_by_key(|route| route.errors_5xx);
    let worst = worst.filter(|worst| worst.errors_5xx * 2 > failed);
    let place = worst.map_or_else(String::new, |worst| format!(", most of them on {}", worst.key));
    let text = format!("{word} error rate: {percent:.1}% of requests end in 5xx{place}");
    Some(Finding::new(Code::Errors, points, text))
}

#[cfg(test)]
mod tests;
