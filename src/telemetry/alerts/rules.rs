//! The rules as they are judged: one for each level, built from the configuration and what is built in.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};

use super::reading::{Labels, Reading, Span, window_of};
use crate::config::{
    self, AlertMetric, AlertRule, AlertSeverity, AlertUnit, AlertWindow, OwnRule, RuleChange, Threshold,
};

/// When a value is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    AtLeast,
    Above,
    Below,
}

/// What a value is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    Fixed(f64),
    /// So many times the route's own limit.
    OfLimit(f64),
}

/// One level of a rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) severity: AlertSeverity,
    pub(super) metric: AlertMetric,
    pub(super) span: Span,
    filter: Vec<(String, String)>,
    test: Test,
    bound: Bound,
    samples: u64,
    /// For how long it has to be so.
    pub(super) hold_ms: u64,
    /// The other rules of this name that matter more, by their place.
    pub(super) louder: Vec<usize>,
}

/// What a rule says of a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) is_bad: bool,
    pub(super) threshold: f64,
}

impl Rule {
    /// What it says of a reading; none when the reading is not meant, or says too little.
    pub(super) fn judge(&self, reading: &Reading) -> Option<Verdict> {
        let is_meant = reading.metric == self.metric && reading.span == self.span;
        let has = |(name, wanted): &(String, String)| {
            reading.labels.get(name.as_str()).is_some_and(|value| value == wanted)
        };
        if !is_meant || !self.filter.iter().all(has) {
            return None;
        }
        if reading.samples < self.samples || reading.value.is_nan() {
            return None;
        }
        let threshold = match self.bound {
            Bound::Fixed(value) => value,
            Bound::OfLimit(share) => reading.limit? * share,
        };
        let is_bad = match self.test {
            Test::AtLeast => reading.value >= threshold,
            Test::Above => reading.value > threshold,
            Test::Below => reading.value < threshold,
        };
        Some(Verdict { is_bad, threshold })
    }

    /// What tells its alerts apart from all others, on every pod and after every restart.
    pub(super) fn fingerprint(&self, labels: &Labels) -> Arc<str> {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(text);
            hash.update([0]);
        };
        part(&self.name);
        part(self.severity.as_str());
        for (name, value) in labels {
            part(name);
            part(value);
        }
        let hex = hash.finalize().iter().take(8).fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Arc::from(hex)
    }

    /// What is wrong, in words.
    pub(super) fn text(&self, reading: &Reading, threshold: f64) -> String {
        let label = |name: &str| reading.labels.get(name).map_or("", String::as_str);
        let mut text = match self.metric {
            AlertMetric::BackendDown => format!("{} is down", label("upstream")),
            AlertMetric::RedisDown => "Redis does not answer".to_owned(),
            AlertMetric::ConfigRejected => {
                "the newest configuration was rejected; the one before it is in force".to_owned()
            }
            metric => {
                let word = match self.test {
                    Test::AtLeast => "at or over",
                    Test::Above => "over",
                    Test::Below => "under",
                };
                let subject = subject(metric, label("kind") == "stream");
                format!("{subject} {word} {}", shown(metric, threshold))
            }
        };
        let of = match (label("method"), label("route")) {
            ("", "") => label("budget"),
            ("", route) => route,
            (method, route) => &format!("{method} {route}"),
        };
        if !of.is_empty() {
            let _ = write!(text, ": {of}");
        }
        if let Some(note) = &reading.note {
            let _ = write!(text, ": {note}");
        }
        text
    }
}

/// All rules of a configuration.
pub(super) fn compile(config: &config::Telemetry) -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in AlertRule::ALL {
        let unchanged = RuleChange::default();
        let change = match config.alerts.rules.get(&rule) {
            None => &unchanged,
            Some(config::Switch::On(change)) => change,
            Some(config::Switch::Off) => continue,
        };
        built_in(rule, change, config, &mut rules);
    }
    rules.extend(config.alerts.own.iter().filter_map(own));
    let same: Vec<_> = rules.iter().map(|rule| (Arc::clone(&rule.name), rule.severity)).collect();
    for rule in &mut rules {
        let louder = same.iter().enumerate();
        let louder = louder.filter(|(_, (name, severity))| *name == rule.name && *severity > rule.severity);
        rule.louder = louder.map(|(index, _)| index).collect();
    }
    rules
}

/// What has to be read for the rules.
pub(super) fn needs(rules: &[Rule]) -> BTreeSet<(AlertMetric, Span)> {
    rules.iter().map(|rule| (rule.metric, rule.span)).collect()
}

fn built_in(rule: AlertRule, change: &RuleChange, config: &config::Telemetry, rules: &mut Vec<Rule>) {
    let built_in = rule.built_in();
    let metric = built_in.metric;
    let span = match (change.window.unwrap_or(built_in.window.0), built_in.window.1) {
        _ if metric.is_instant() => Span::Now,
        (long, Some(short)) => Span::Both(window_of(long), window_of(short)),
        (window, None) => Span::One(window_of(window)),
    };
    for severity in AlertSeverity::ALL.into_iter().rev() {
        let known = built_in.levels.iter().find(|(level, ..)| *level == severity);
        let (limit, hold) = change.level(severity);
        let usual = known.and_then(|(_, limit, _)| *limit).map(|limit| match rule {
            AlertRule::CacheHitRate => Threshold::percent(u64::from(config.cache_hit_target)),
            _ => limit,
        });
        let bound = match limit.or(usual) {
            Some(Threshold::Off) => continue,
            Some(limit) => bound_of(metric, limit),
            None if known.is_some() => Some(Bound::Fixed(1.0)),
            None => continue,
        };
        let Some(bound) = bound else { continue };
        let test = match rule {
            AlertRule::CacheHitRate => Test::Below,
            AlertRule::BurnFast | AlertRule::BurnSlow | AlertRule::ClaudeRefused => Test::Above,
            AlertRule::RouteP95
            | AlertRule::Errors5xx
            | AlertRule::SlowBurst
            | AlertRule::BackendDown
            | AlertRule::RedisDown
            | AlertRule::ClaudeBudget
            | AlertRule::ClaudeUsage
            | AlertRule::ConfigRejected => Test::AtLeast,
        };
        rules.push(Rule {
            name: Arc::from(rule.as_str()),
            severity,
            metric,
            span,
            filter: Vec::new(),
            test,
            bound,
            samples: u64::from(change.samples.unwrap_or(built_in.samples)),
            hold_ms: ms(hold.or(known.map(|(.., hold)| *hold)).unwrap_or_default()),
            louder: Vec::new(),
        });
    }
}

fn own(rule: &OwnRule) -> Option<Rule> {
    let metric = rule.metric;
    let window = window_of(rule.window.unwrap_or(AlertWindow::FiveMinutes));
    let (test, bound) = match (rule.above, rule.below) {
        _ if metric.unit() == AlertUnit::Flag => (Test::AtLeast, Bound::Fixed(1.0)),
        (Some(limit), _) => (Test::Above, bound_of(metric, limit)?),
        (None, Some(limit)) => (Test::Below, bound_of(metric, limit)?),
        (None, None) => return None,
    };
    Some(Rule {
        name: Arc::from(rule.name.as_str()),
        severity: rule.severity,
        metric,
        span: if metric.is_instant() { Span::Now } else { Span::One(window) },
        filter: rule.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        test,
        bound,
        samples: u64::from(rule.samples.unwrap_or(metric.usual_samples())),
        hold_ms: ms(rule.hold),
        louder: Vec::new(),
    })
}

fn bound_of(metric: AlertMetric, limit: Threshold) -> Option<Bound> {
    let value = limit.value()?;
    let is_share = metric.unit() == AlertUnit::TimeOfLimit && matches!(limit, Threshold::Percent(_));
    Some(if is_share { Bound::OfLimit(value / 100.0) } else { Bound::Fixed(value) })
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const fn subject(metric: AlertMetric, is_stream: bool) -> &'static str {
    match metric {
        AlertMetric::RouteP50 if is_stream => "first byte P50",
        AlertMetric::RouteP95 if is_stream => "first byte P95",
        AlertMetric::RouteP99 if is_stream => "first byte P99",
        AlertMetric::RouteP50 => "P50",
        AlertMetric::RouteP95 => "P95",
        AlertMetric::RouteP99 => "P99",
        AlertMetric::RouteErrors => "share of 5xx",
        AlertMetric::RouteRequests | AlertMetric::Requests => "requests",
        AlertMetric::P95 => "P95 of all plain requests",
        AlertMetric::Errors => "share of 5xx in all requests",
        AlertMetric::SlowRequests => "slow requests",
        AlertMetric::Burn => "spending of the error budget",
        AlertMetric::CacheHitRate | AlertMetric::RouteHitRate => "cache hit rate",
        AlertMetric::BackendDown => "backend down",
        AlertMetric::UpstreamQueued => "waiting requests",
        AlertMetric::RedisDown => "Redis down",
        AlertMetric::ClaudeCalls => "calls to Claude",
        AlertMetric::ClaudeRefused => "calls refused by Claude (429, 529)",
        AlertMetric::ClaudeSpend => "spending on Claude",
        AlertMetric::ClaudeBudget => "spent share of the budget",
        AlertMetric::ClaudeUsage => "calls to Claude with unknown price or usage",
        AlertMetric::ConfigRejected => "configuration rejected",
    }
}

/// A value with its unit.
pub(super) fn shown(metric: AlertMetric, value: f64) -> String {
    let number = |value: f64| {
        let text = format!("{value:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
        if text == "-0" { "0".to_owned() } else { text }
    };
    match metric.unit() {
        AlertUnit::Time | AlertUnit::TimeOfLimit if value < 1.0 => format!("{} ms", number(value * 1000.0)),
        AlertUnit::Time | AlertUnit::TimeOfLimit => format!("{} s", number(value)),
        AlertUnit::Percent => format!("{} %", number(value)),
        AlertUnit::Number => number(value),
        AlertUnit::Rate => format!("{} a second", number(value)),
        AlertUnit::Factor => format!("{}x", number(value)),
        AlertUnit::Money => format!("{} USD", number(value)),
        AlertUnit::Flag => if value >= 1.0 { "yes" } else { "no" }.to_owned(),
    }
}
