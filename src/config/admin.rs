//! `admin` and `control`: the listeners for operators.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{address::Listen, secret::Secret};

/// The listener for probes, metrics and pages. It only reads. `admin: off` switches it off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port. Default: 0.0.0.0:9090.
    #[schemars(with = "Listen")]
    pub listen: SocketAddr,
    /// What the ingress listener answers too, before its routes: `performance` for `/performance/*`, `health` for
    /// `/health`. Default: [].
    pub on_ingress: Vec<OnIngress>,
    /// Bearer token that everything but the probes asks for. Without it the listener is open to all who reach it.
    /// Default: none.
    pub token: Option<Secret>,
    /// Host names by which the listener may be called; addresses and `localhost` always may. It keeps web pages from
    /// reaching it through a name of their own. Default: [].
    #[schemars(extend("x-items" = "host"))]
    pub hosts: Vec<String>,
    /// Other replicas, for answers over all of them (`scope=merged`): `NAME:PORT` or `ADDRESS:PORT` of their admin
    /// listeners. A name stands for all its addresses, such as those of a headless Service. They are asked with the
    /// `token` of this one, and only while somebody looks. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub peers: Vec<String>,
    /// How much of the paths of requests and entries is shown: `template` only, `masked` with all but the beginning of
    /// ids cut, or `full`. Queries are never shown. Default: masked.
    pub paths: ShownPaths,
    /// When `/readyz` says ready.
    pub readiness: Readiness,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9090)),
            on_ingress: Vec::new(),
            token: None,
            hosts: Vec::new(),
            peers: Vec::new(),
            paths: ShownPaths::Masked,
            readiness: Readiness::default(),
        }
    }
}

/// How much of a path operators see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShownPaths {
    /// The route template.
    Template,
    /// The path, with all but the beginning of what may name a user cut.
    #[default]
    Masked,
    /// The path as sent, without its query.
    Full,
}

impl ShownPaths {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Masked => "masked",
            Self::Full => "full",
        }
    }
}

/// Pages that the ingress listener answers too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnIngress {
    /// `/performance/*`.
    Performance,
    /// `/health`.
    Health,
}

impl OnIngress {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Performance => "performance",
            Self::Health => "health",
        }
    }
}

/// When `/readyz` says ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Readiness {
    /// Whether the backend has to be reachable: it must have answered once since the start, and be answering now.
    /// Default: true.
    pub backend: bool,
    /// Checks that fail in a row before the pod is not ready. Default: 2.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// Path of the backend that has to answer within 2 s and without a 5xx. Without it a connection is enough.
    /// Default: none.
    #[schemars(extend("x-kind" = "path"))]
    pub path: Option<String>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { backend: true, failures: 2, path: None }
    }
}

/// The listener that changes things: purge and drain. `control: off` switches it off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Address and port. Outside the loopback a token is required. Default: 127.0.0.1:9091.
    #[schemars(with = "Listen")]
    pub listen: SocketAddr,
    /// Bearer token that every request needs. Default: none.
    pub token: Option<Secret>,
}

impl Default for Control {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9091)), token: None }
    }
}
