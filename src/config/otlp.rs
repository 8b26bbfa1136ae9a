//! `telemetry.otlp`: spans and metrics to an OpenTelemetry collector.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    secret::Secret,
    share::Share,
    units::{self, Time},
};

/// Export to an OpenTelemetry collector by OTLP over HTTP, in JSON. Off unless it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["endpoint"]))]
pub struct Otlp {
    /// Where the collector is, without `/v1/traces`. Restart. Required.
    #[schemars(extend("x-kind" = "url"))]
    pub endpoint: String,
    /// Whether a span is sent for each request and each call to Claude that is sampled. Restart. Default: true.
    pub traces: bool,
    /// The share of requests without a `traceparent` that are sampled; the others follow its flag. Restart. Default: 10%.
    pub sample: Share,
    /// Whether metrics are sent. Restart. Default: true.
    pub metrics: bool,
    /// How often metrics are sent. Spans go every 5 s. Restart. Default: 1m.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time", extend("x-min" = "1s", "x-max" = "1h"))]
    pub interval: Duration,
    /// The value of `Authorization` in every message. Default: none.
    pub authorization: Option<Secret>,
    /// A file with the certificates that the collector's own must lead to, in PEM; else those that the system trusts.
    /// Default: none.
    #[schemars(extend("x-kind" = "file"))]
    pub ca: Option<String>,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            traces: true,
            sample: Share::percent(10),
            metrics: true,
            interval: Duration::from_secs(60),
            authorization: None,
            ca: None,
        }
    }
}
