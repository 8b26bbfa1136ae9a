//! `runtime`, `drain` and `reload`: threads, how the process ends, and how a change of the file comes into force.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{self, Time, TimeOrZero};

/// Threads of the proxy. The defaults fit a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// Worker threads. Without it: the CPU quota of the container rounded up, or two at most where there is no quota.
    /// Default: none.
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<u16>,
    /// How the workers share connections. Default: `per_core`.
    pub mode: RuntimeMode,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { workers: None, mode: RuntimeMode::PerCore }
    }
}

/// How the workers share connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeMode {
    /// One event loop per worker, each with its own connections: the least CPU per request.
    PerCore,
    /// One pool of workers for all connections: the steadier latency when a few connections carry most of the load.
    Shared,
}

impl RuntimeMode {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerCore => "per_core",
            Self::Shared => "shared",
        }
    }
}

/// What happens between SIGTERM and the end of the process. `POST /drain` on the control listener begins the delay, and
/// ends nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long new connections are still accepted after `/readyz` has turned to 503, so that load balancers can
    /// notice. Default: 5s.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub delay: Duration,
    /// How long requests in flight may take after that; streams and WebSocket tunnels are closed at its end. Delay and
    /// timeout together must stay below the pod's `terminationGracePeriodSeconds`. Default: 25s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub timeout: Duration,
    /// Whether to stay, within `timeout`, until the backend's port is closed: then what it calls out for while it ends is
    /// served to the last. For a backend that is told to end at the same moment as touchline; one that outlives it would be
    /// waited for in vain. Without it: only in a pod of Kubernetes. Default: none.
    pub outlast_backend: Option<bool>,
}

/// How a change of this file is noticed: by its content, which is read again and again, as neither a `ConfigMap` nor an editor
/// can be trusted to say so. SIGHUP and `POST /reload` on the control listener look at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// How often this file, and the files of secrets and certificates that it names, are read; `0s` reads them on SIGHUP and
    /// `POST /reload` alone. Default: 2s.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero", extend("x-max" = "1h"))]
    pub interval: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self { interval: Duration::from_secs(2) }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), timeout: Duration::from_secs(25), outlast_backend: None }
    }
}
