//! What alert rules can read, and the rules that are built in: their names, levels, windows and numbers.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::threshold::Threshold;

/// How much an alert matters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AlertSeverity {
    /// Worth to know.
    Info,
    /// Look at it during the day.
    #[default]
    Warning,
    /// Act now.
    Critical,
}

impl AlertSeverity {
    /// Every severity, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The word in the file, in labels and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The time that a reading spans, up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AlertWindow {
    /// One minute.
    #[serde(rename = "1m")]
    OneMinute,
    /// Five minutes.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// A quarter of an hour.
    #[serde(rename = "15m")]
    FifteenMinutes,
    /// Half an hour.
    #[serde(rename = "30m")]
    HalfHour,
    /// An hour.
    #[serde(rename = "1h")]
    OneHour,
    /// Six hours.
    #[serde(rename = "6h")]
    SixHours,
}

/// In what a metric is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertUnit {
    /// Seconds.
    Time,
    /// Seconds, judged by themselves or by the limit of their route.
    TimeOfLimit,
    /// Percent.
    Percent,
    /// A number.
    Number,
    /// A number a second.
    Rate,
    /// A multiple.
    Factor,
    /// Dollars.
    Money,
    /// Yes or no.
    Flag,
}

impl AlertUnit {
    /// Whether a limit is in this unit.
    #[must_use]
    pub const fn takes(self, threshold: Threshold) -> bool {
        match threshold {
            Threshold::Off => true,
            Threshold::Time(_) => matches!(self, Self::Time | Self::TimeOfLimit),
            Threshold::Percent(_) => matches!(self, Self::Percent | Self::TimeOfLimit),
            Threshold::Number(_) => matches!(self, Self::Number | Self::Rate | Self::Factor),
            Threshold::Factor(_) => matches!(self, Self::Factor),
            Threshold::Money(_) => matches!(self, Self::Money),
        }
    }

    /// What to write, for messages.
    #[must_use]
    pub const fn example(self) -> &'static str {
        match self {
            Self::Time => "a time such as 2s",
            Self::TimeOfLimit => "a time such as 2s, or a share of the route's limit such as 80%",
            Self::Percent => "a percentage such as 5%",
            Self::Number => "a number such as 5",
            Self::Rate => "a number a second such as 0.5",
            Self::Factor => "a multiple such as 14.4x",
            Self::Money => "an amount such as 5usd",
            Self::Flag => "nothing, as it is yes or no",
        }
    }
}

/// A number that touchline reads of itself for alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertMetric {
    /// The median of one route.
    RouteP50,
    /// The 95th percentile of one route.
    RouteP95,
    /// The 99th percentile of one route.
    RouteP99,
    /// The share of a route's answers with 5xx.
    RouteErrors,
    /// Requests of one route a second.
    RouteRequests,
    /// The 95th percentile of all plain requests.
    P95,
    /// The share of requests that end in 5xx.
    Errors,
    /// Requests a second.
    Requests,
    /// Requests that were slower than their limit.
    SlowRequests,
    /// How many times too fast the error budget is spent.
    Burn,
    /// The share of hits in lookups.
    CacheHitRate,
    /// The share of hits in the lookups of one route.
    RouteHitRate,
    /// Whether an upstream fails its probes, or its breaker is not closed.
    BackendDown,
    /// Requests that wait for a free place at an upstream.
    UpstreamQueued,
    /// Whether Redis is configured and does not answer.
    RedisDown,
    /// Calls to Claude.
    ClaudeCalls,
    /// The share of calls that Claude answered with 429 or 529.
    ClaudeRefused,
    /// What calls cost.
    ClaudeSpend,
    /// The share of a budget that is spent.
    ClaudeBudget,
    /// Calls of models without a price, or that do not report what they used.
    ClaudeUsage,
    /// Whether a newer configuration was rejected.
    ConfigRejected,
}

impl AlertMetric {
    /// Every metric.
    pub const ALL: [Self; 21] = [
        Self::RouteP50,
        Self::RouteP95,
        Self::RouteP99,
        Self::RouteErrors,
        Self::RouteRequests,
        Self::P95,
        Self::Errors,
        Self::Requests,
        Self::SlowRequests,
        Self::Burn,
        Self::CacheHitRate,
        Self::RouteHitRate,
        Self::BackendDown,
        Self::UpstreamQueued,
        Self::RedisDown,
        Self::ClaudeCalls,
        Self::ClaudeRefused,
        Self::ClaudeSpend,
        Self::ClaudeBudget,
        Self::ClaudeUsage,
        Self::ConfigRejected,
    ];

    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RouteP50 => "route_p50",
            Self::RouteP95 => "route_p95",
            Self::RouteP99 => "route_p99",
            Self::RouteErrors => "route_errors",
            Self::RouteRequests => "route_requests",
            Self::P95 => "p95",
            Self::Errors => "errors",
            Self::Requests => "requests",
            Self::SlowRequests => "slow_requests",
            Self::Burn => "burn",
            Self::CacheHitRate => "cache_hit_rate",
            Self::RouteHitRate => "route_hit_rate",
            Self::BackendDown => "backend_down",
            Self::UpstreamQueued => "upstream_queued",
            Self::RedisDown => "redis_down",
            Self::ClaudeCalls => "claude_calls",
            Self::ClaudeRefused => "claude_refused",
            Self::ClaudeSpend => "claude_spend",
            Self::ClaudeBudget => "claude_budget",
            Self::ClaudeUsage => "claude_usage",
            Self::ConfigRejected => "config_rejected",
        }
    }

    /// Its unit.
    #[must_use]
    pub const fn unit(self) -> AlertUnit {
        match self {
            Self::RouteP50 | Self::RouteP95 | Self::RouteP99 => AlertUnit::TimeOfLimit,
            Self::P95 => AlertUnit::Time,
            Self::RouteErrors
            | Self::Errors
            | Self::CacheHitRate
            | Self::RouteHitRate
            | Self::ClaudeRefused
            | Self::ClaudeBudget => AlertUnit::Percent,
            Self::RouteRequests | Self::Requests => AlertUnit::Rate,
            Self::SlowRequests | Self::UpstreamQueued | Self::ClaudeCalls | Self::ClaudeUsage => {
                AlertUnit::Number
            }
            Self::Burn => AlertUnit::Factor,
            Self::ClaudeSpend => AlertUnit::Money,
            Self::BackendDown | Self::RedisDown | Self::ConfigRejected => AlertUnit::Flag,
        }
    }

    /// The labels that its series differ by.
    #[must_use]
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::RouteP50 | Self::RouteP95 | Self::RouteP99 | Self::RouteErrors | Self::RouteRequests => {
                &["route", "method", "kind"]
            }
            Self::RouteHitRate => &["route"],
            Self::BackendDown | Self::UpstreamQueued => &["upstream"],
            Self::ClaudeBudget => &["budget"],
            Self::P95
            | Self::Errors
            | Self::Requests
            | Self::SlowRequests
            | Self::Burn
            | Self::CacheHitRate
            | Self::RedisDown
            | Self::ClaudeCalls
            | Self::ClaudeRefused
            | Self::ClaudeSpend
            | Self::ClaudeUsage
            | Self::ConfigRejected => &[],
        }
    }

    /// Whether it is what it is now, without a window.
    #[must_use]
    pub const fn is_instant(self) -> bool {
        match self {
            Self::BackendDown
            | Self::UpstreamQueued
            | Self::RedisDown
            | Self::ClaudeBudget
            | Self::ConfigRejected => true,
            Self::RouteP50
            | Self::RouteP95
            | Self::RouteP99
            | Self::RouteErrors
            | Self::RouteRequests
            | Self::P95
            | Self::Errors
            | Self::Requests
            | Self::SlowRequests
            | Self::Burn
            | Self::CacheHitRate
            | Self::RouteHitRate
            | Self::ClaudeCalls
            | Self::ClaudeRefused
            | Self::ClaudeSpend
            | Self::ClaudeUsage => false,
        }
    }

    /// Whether it is kept for so long.
    #[must_use]
    pub const fn has_window(self, window: AlertWindow) -> bool {
        !matches!(window, AlertWindow::SixHours) || matches!(self, Self::Errors | Self::Requests | Self::Burn)
    }

    /// How many samples a rule wants that does not say: percentiles and shares of few say little.
    #[must_use]
    pub const fn usual_samples(self) -> u32 {
        match self.unit() {
            AlertUnit::Time | AlertUnit::TimeOfLimit | AlertUnit::Percent | AlertUnit::Factor => {
                if self.is_instant() { 0 } else { 20 }
            }
            AlertUnit::Number | AlertUnit::Rate | AlertUnit::Money | AlertUnit::Flag => 0,
        }
    }
}

/// The built-in rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertRule {
    /// The P95 of a route reaches its limit, or half of it.
    RouteP95,
    /// Requests end in 5xx.
    #[serde(rename = "errors_5xx")]
    Errors5xx,
    /// Several slow requests in a minute.
    SlowBurst,
    /// The error budget is spent much too fast.
    BurnFast,
    /// The error budget is spent too fast for hours.
    BurnSlow,
    /// The backend is down.
    BackendDown,
    /// Redis is down.
    RedisDown,
    /// The cache answers too little.
    CacheHitRate,
    /// Claude refuses calls.
    ClaudeRefused,
    /// A budget for Claude is spent.
    ClaudeBudget,
    /// What calls to Claude use is not known.
    ClaudeUsage,
    /// A newer configuration was rejected.
    ConfigRejected,
}

/// What a built-in rule does unless it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// What it reads.
    pub metric: AlertMetric,
    /// Over which window; a burn rule also over the second, shorter one.
    pub window: (AlertWindow, Option<AlertWindow>),
    /// From how many samples on.
    pub samples: u32,
    /// Its levels: severity, limit, and for how long. A limit of none is that of yes or no.
    pub levels: &'static [(AlertSeverity, Option<Threshold>, Duration)],
}

impl AlertRule {
    /// Every built-in rule, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::RouteP95,
        Self::Errors5xx,
        Self::SlowBurst,
        Self::BurnFast,
        Self::BurnSlow,
        Self::BackendDown,
        Self::RedisDown,
        Self::CacheHitRate,
        Self::ClaudeRefused,
        Self::ClaudeBudget,
        Self::ClaudeUsage,
        Self::ConfigRejected,
    ];

    /// The word in the file, in labels and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RouteP95 => "route_p95",
            Self::Errors5xx => "errors_5xx",
            Self::SlowBurst => "slow_burst",
            Self::BurnFast => "burn_fast",
            Self::BurnSlow => "burn_slow",
            Self::BackendDown => "backend_down",
            Self::RedisDown => "redis_down",
            Self::CacheHitRate => "cache_hit_rate",
            Self::ClaudeRefused => "claude_refused",
            Self::ClaudeBudget => "claude_budget",
            Self::ClaudeUsage => "claude_usage",
            Self::ConfigRejected => "config_rejected",
        }
    }

    /// The rule of a word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }

    /// What it does unless it is changed. The level of the hit rate is `telemetry.cache_hit_target`.
    #[must_use]
    pub const fn built_in(self) -> BuiltIn {
        use AlertMetric as M;
        use AlertWindow::{FifteenMinutes, FiveMinutes, HalfHour, OneHour, OneMinute, SixHours};
        let (metric, window, samples): (_, (AlertWindow, Option<AlertWindow>), _) = match self {
            Self::RouteP95 => (M::RouteP95, (FiveMinutes, None), 20),
            Self::Errors5xx => (M::Errors, (FiveMinutes, None), 20),
            Self::SlowBurst => (M::SlowRequests, (OneMinute, None), 0),
            Self::BurnFast => (M::Burn, (OneHour, Some(FiveMinutes)), 100),
            Self::BurnSlow => (M::Burn, (SixHours, Some(HalfHour)), 100),
            Self::BackendDown => (M::BackendDown, (FiveMinutes, None), 0),
            Self::RedisDown => (M::RedisDown, (FiveMinutes, None), 0),
            Self::CacheHitRate => (M::CacheHitRate, (FifteenMinutes, None), 1000),
            Self::ClaudeRefused => (M::ClaudeRefused, (FiveMinutes, None), 20),
            Self::ClaudeBudget => (M::ClaudeBudget, (FiveMinutes, None), 0),
            Self::ClaudeUsage => (M::ClaudeUsage, (FifteenMinutes, None), 0),
            Self::ConfigRejected => (M::ConfigRejected, (FiveMinutes, None), 0),
        };
        BuiltIn { metric, window, samples, levels: self.levels() }
    }

    const fn levels(self) -> &'static [(AlertSeverity, Option<Threshold>, Duration)] {
        use AlertSeverity::{Critical, Info, Warning};
        const NOW: Duration = Duration::ZERO;
        match self {
            Self::RouteP95 => {
                const {
                    &[
                        (Critical, Some(Threshold::percent(100)), Duration::from_secs(120)),
                        (Warning, Some(Threshold::percent(50)), Duration::from_secs(300)),
                    ]
                }
            }
            Self::Errors5xx => {
                const {
                    &[
                        (Critical, Some(Threshold::percent(10)), NOW),
                        (Warning, Some(Threshold::percent(5)), NOW),
                    ]
                }
            }
            Self::SlowBurst => const { &[(Info, Some(Threshold::Number(5_000_000)), NOW)] },
            Self::BurnFast => {
                const { &[(Critical, Some(Threshold::Factor(14_400_000)), Duration::from_secs(120))] }
            }
            Self::BurnSlow => {
                const { &[(Warning, Some(Threshold::Factor(6_000_000)), Duration::from_secs(900))] }
            }
            Self::BackendDown => const { &[(Critical, None, NOW)] },
            Self::RedisDown => const { &[(Warning, None, Duration::from_secs(30))] },
            Self::CacheHitRate => const { &[(Warning, Some(Threshold::percent(85)), NOW)] },
            Self::ClaudeRefused => {
                const { &[(Warning, Some(Threshold::percent(5)), Duration::from_secs(120))] }
            }
            Self::ClaudeBudget => const { &[(Warning, Some(Threshold::percent(100)), NOW)] },
            Self::ClaudeUsage => const { &[(Warning, Some(Threshold::Number(1_000_000)), NOW)] },
            Self::ConfigRejected => const { &[(Warning, None, NOW)] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AlertMetric, AlertRule, AlertSeverity, AlertUnit, AlertWindow};
    use crate::config::format_duration;

    /// The beginning of the row of a rule in the documentation.
    fn row(rule: AlertRule) -> String {
        let built_in = rule.built_in();
        let level = |severity| {
            let level = built_in.levels.iter().find(|(level, ..)| *level == severity);
            level.map_or("-".to_owned(), |(_, limit, hold)| {
                let limit = limit.map_or("yes".to_owned(), |limit| limit.to_string());
                if hold.is_zero() { limit } else { format!("{limit} for {}", format_duration(*hold)) }
            })
        };
        let word = |window: AlertWindow| serde_json::to_value(window).unwrap().as_str().unwrap().to_owned();
        let (window, samples) = match built_in.window {
            _ if built_in.metric.is_instant() => ("-".to_owned(), "-".to_owned()),
            (long, Some(short)) => {
                (format!("{} and {}", word(long), word(short)), built_in.samples.to_string())
            }
            (window, None) => (word(window), built_in.samples.to_string()),
        };
        let levels = AlertSeverity::ALL.map(level);
        let [info, warning, critical] = levels;
        format!("| `{}` | {critical} | {warning} | {info} | {window} | {samples} | ", rule.as_str())
    }

    #[test]
    fn the_documentation_says_what_is_built_in() {
        let text = include_str!("../../docs/alerts.md");
        for rule in AlertRule::ALL {
            assert!(text.contains(&row(rule)), "docs/alerts.md has no row\n{}", row(rule));
        }
        for metric in AlertMetric::ALL {
            assert!(text.contains(&format!("`{}`", metric.as_str())), "{metric:?}");
            for label in metric.labels() {
                assert!(text.contains(&format!("`{label}`")), "{label}");
            }
        }
    }

    #[test]
    fn words_are_those_of_the_file() {
        for metric in AlertMetric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.as_str());
        }
        for rule in AlertRule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.as_str());
            assert_eq!(AlertRule::from_name(rule.as_str()), Some(rule));
        }
    }

    #[test]
    fn the_built_in_limits_are_in_the_units_of_what_is_read() {
        for rule in AlertRule::ALL {
            let built_in = rule.built_in();
            let unit = built_in.metric.unit();
            assert!(!built_in.levels.is_empty());
            for (_, limit, _) in built_in.levels {
                assert_eq!(limit.is_none(), unit == AlertUnit::Flag, "{rule:?}");
                assert!(limit.is_none_or(|limit| unit.takes(limit)), "{rule:?}");
            }
            assert!(built_in.metric.has_window(built_in.window.0), "{rule:?}");
        }
    }
}
