//! `ingress`: the plane between clients and the backend.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    address::{BackendAddress, Cidr, Listen},
    limits::Limits,
    route::Route,
    units::{self, Time},
    upstream::Upstream,
};

/// The plane between clients and the backend. Without this section it is not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["backend"]))]
pub struct Ingress {
    /// Address and port for clients: HTTP/1.1 and, with prior knowledge, HTTP/2. Default: 0.0.0.0:8080.
    #[schemars(with = "Listen")]
    pub listen: SocketAddr,
    /// The application beside the proxy: `http://HOST:PORT` or `unix:/PATH`. Required.
    pub backend: BackendAddress,
    /// Host names that are served; a request for another one is answered with 421. Empty serves every name.
    /// Default: [].
    #[schemars(extend("x-items" = "host"))]
    pub hosts: Vec<String>,
    /// Networks whose `X-Forwarded-*` fields are believed: the load balancer or mesh in front. From everyone else
    /// these fields are dropped. Default: [].
    pub trusted_proxies: Vec<Cidr>,
    /// Whether HTTP/2 with prior knowledge is spoken on the same port. Default: true.
    pub http2: bool,
    /// What happens to request fields with `_` in their name, which some servers confuse with `-`. Default: drop.
    pub underscores: Underscores,
    /// A request that takes longer is logged as slow, with the parts of its time. Default: 2s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub slow_after: Duration,
    /// Whether answers carry `Server-Timing` with the parts of their time, readable by every client. Default: false.
    pub server_timing: bool,
    /// Whether `Access-Control-Expose-Headers` lets scripts in browsers read the timing and cache fields.
    /// Default: false.
    pub expose_headers: bool,
    /// Path of the backend's OpenAPI document, such as `/openapi.json`. Route names of requests without a rule are
    /// learned from it, for labels only. Default: none.
    #[schemars(extend("x-kind" = "path"))]
    pub openapi: Option<String>,
    /// What a client may send, and how long it may take.
    pub limits: Limits,
    /// Connections and requests to the backend.
    pub upstream: Upstream,
    /// Rules for paths; the most specific template wins. Default: [].
    pub routes: Vec<Route>,
}

impl Default for Ingress {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            backend: BackendAddress::Tcp { host: "127.0.0.1".to_owned(), port: 8000 },
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            http2: true,
            underscores: Underscores::Drop,
            slow_after: Duration::from_secs(2),
            server_timing: false,
            expose_headers: false,
            openapi: None,
            limits: Limits::default(),
            upstream: Upstream::default(),
            routes: Vec::new(),
        }
    }
}

/// What happens to a request field with `_` in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Underscores {
    /// The field is taken off and counted.
    Drop,
    /// The field is passed on.
    Forward,
    /// The request is answered with 400.
    Reject,
}

impl Underscores {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Forward => "forward",
            Self::Reject => "reject",
        }
    }
}
