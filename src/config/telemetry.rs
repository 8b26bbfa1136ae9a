//! `telemetry`: logs, metrics and what is counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{alerts::Alerts, otlp::Otlp};

/// Logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// The log of the proxy itself.
    pub log: Log,
    /// One line per request.
    pub access_log: AccessLog,
    /// Cache hit rate in percent below which `/performance/cache/stats` says `needs_improvement`. Default: 85.
    #[schemars(range(max = 100))]
    pub cache_hit_target: u8,
    /// Time series that `/metrics` may hold; beyond it further routes are counted together. Default: 20000.
    #[schemars(range(min = 100))]
    pub max_series: u32,
    /// Name of the service, shown on pages and in logs. Default: none.
    #[schemars(extend("x-kind" = "name"))]
    pub service: Option<String>,
    /// Rules over these numbers, and who is told.
    pub alerts: Alerts,
    /// Export to an OpenTelemetry collector. Default: none.
    pub otlp: Option<Otlp>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: Log::default(),
            access_log: AccessLog::default(),
            cache_hit_target: 85,
            max_series: 20_000,
            service: None,
            alerts: Alerts::default(),
            otlp: None,
        }
    }
}

/// The log of the proxy itself, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least severe level that is written. Default: info.
    pub level: LogLevel,
    /// The form of a line. Default: json.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Json }
    }
}

/// The least severe level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// Something is degraded.
    Warn,
    /// Starts, stops and changes of state.
    Info,
    /// What single requests met.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for a terminal.
    Text,
}

impl LogFormat {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// One line per request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Whether there is one. Default: true.
    pub enabled: bool,
    /// Lines a second that are all written; beyond it one in N is, and says so in its `sample_rate`. Errors and slow
    /// requests are always written. Default: 50.
    #[schemars(range(min = 1))]
    pub per_second: u32,
    /// Whether a line shows the route template or the path itself, which may hold ids of users. Default: template.
    pub paths: PathDetail,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { enabled: true, per_second: 50, paths: PathDetail::Template }
    }
}

/// How much of a path the access log shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathDetail {
    /// The route template.
    Template,
    /// The path as sent, without its query.
    Full,
}

impl PathDetail {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Full => "full",
        }
    }
}
