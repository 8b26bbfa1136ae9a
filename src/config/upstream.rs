//! `ingress.upstream`: connections and requests to the backend.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{self, ByteSize, Time, TimeOrZero};

/// Connections and requests to the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// How long each try to connect may take; then 504. A refused connection is 502. Default: 1s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub connect: Duration,
    /// How long the backend may take from the end of the request to the head of its answer; then 504. A route may set
    /// its own. Default: 30s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub first_byte: Duration,
    /// Longest pause between two parts of the answer's body; then the client sees an abort. Default: 30s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub body_idle: Duration,
    /// How long an idle connection is kept for reuse. Stay below the keep-alive of the backend, 5s for uvicorn, or
    /// requests meet connections that are just being closed. Default: 4s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub idle: Duration,
    /// How long a connection is used in all. Default: 5m.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub lifetime: Duration,
    /// All header fields of an answer together; beyond it 502. Default: 32KiB.
    pub headers_size: ByteSize,
    /// Number of header fields of an answer; beyond it 502. Default: 100.
    #[schemars(range(min = 1, max = 1000))]
    pub headers: u32,
    /// Interim (1xx) answers before the final one; beyond it 502. Default: 16.
    pub interim: u32,
    /// Requests at the backend at once; more wait in the queue. A route may set its own. Default: 256.
    #[schemars(range(min = 1))]
    pub in_flight: u32,
    /// Requests that wait for a place; beyond it 503 with `Retry-After`. `0` never lets one wait. Default: 128.
    pub queue: u32,
    /// How long a request waits for a place; then 503. Default: 1s.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub wait: Duration,
    /// Repeats of a request that failed before a byte of its answer and may safely be repeated. Default: 1.
    #[schemars(range(max = 5))]
    pub retries: u32,
    /// Repeats as a share of the requests, in percent. Ten more are allowed at the start, and at most fifty are saved
    /// up. Default: 20.
    #[schemars(range(max = 100))]
    pub retry_budget_percent: u8,
    /// Idle connections kept for reuse; `0` opens a new one for each request. Default: 256.
    pub pool: u32,
    /// When the backend is left alone for a while.
    pub breaker: Breaker,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(30),
            body_idle: Duration::from_secs(30),
            idle: Duration::from_secs(4),
            lifetime: Duration::from_secs(300),
            headers_size: ByteSize::kib(32),
            headers: 100,
            interim: 16,
            in_flight: 256,
            queue: 128,
            wait: Duration::from_secs(1),
            retries: 1,
            retry_budget_percent: 20,
            pool: 256,
            breaker: Breaker::default(),
        }
    }
}

/// When the backend is left alone for a while. Connections that are refused, reset or time out count; statuses do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Whether there is a breaker at all. Default: true.
    pub enabled: bool,
    /// Failed connections within `window` that open it; repeats count too. Default: 5.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// The window that failures are counted in. Default: 1s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub window: Duration,
    /// How long it stays open the first time; doubled after each probe that fails. Default: 1s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub open: Duration,
    /// Longest time it stays open. Default: 30s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub open_max: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5,
            window: Duration::from_secs(1),
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
        }
    }
}
