//! `cache`: settings of the cache as a whole; what is cached on which path stands with the routes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    advise::Advise,
    redis::Redis,
    secret::Secret,
    units::{self, ByteSize, SizeOrZero, Time, TimeOrZero},
};

/// The cache as a whole; what is cached on which path stands with the routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Whether the cache answers requests, only counts what it would do, or is off. A route may set its own.
    /// Default: serve.
    pub mode: CacheMode,
    /// Which rules hold for what may be stored. Default: default.
    pub profile: Profile,
    /// Whether `Cache-Control` and `Expires` of the backend are honoured on every path, with a rule or without.
    /// Default: true.
    pub origin: bool,
    /// The tier in memory.
    pub memory: MemoryTier,
    /// The tier that replicas share. Without a `url` there is only memory.
    pub redis: Redis,
    /// How much longer entries in memory are served while Redis cannot be heard, as what was purged elsewhere is not
    /// known then. Default: 1m.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub blind_ttl: Duration,
    /// Largest body that is stored. A route may set its own. Default: 1MiB.
    pub max_body: ByteSize,
    /// Memory for copies that are still being received, all together. Default: 32MiB.
    pub fill_memory: ByteSize,
    /// Longest lifetime of any entry, whoever asked for more. Default: 24h.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub max_ttl: Duration,
    /// Longest lifetime of a 4xx or 5xx answer that the backend declared fresh. Default: 10s.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub error_max_ttl: Duration,
    /// Variants of one URL (`Vary`); beyond it requests pass by the cache. Default: 32.
    #[schemars(range(min = 1))]
    pub max_variants: u32,
    /// Keys that a route may add within a minute; beyond it answers with new keys are not stored, so that a flood of made-up
    /// queries does not wash out what is in use. Default: 10000.
    #[schemars(range(min = 1))]
    pub max_new_keys: u32,
    /// Request fields that are credentials on your site, beside `Authorization`, `X-API-Key` and their kin: requests that
    /// have one are neither answered from a rule nor stored by one, unless the route is `public`. Default: [].
    #[schemars(extend("x-items" = "field"))]
    pub credentials: Vec<String>,
    /// How long after its end an entry may still be served while the backend gives no answer at all: it cannot be
    /// reached, is silent for `upstream.first_byte`, or its breaker is open. `0s` switches it off. Default: 1h.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub stale_on_disconnect: Duration,
    /// Targeted fields (RFC 9213) that come before `Cache-Control`; the first valid one wins.
    /// Default: [CDN-Cache-Control].
    #[schemars(extend("x-items" = "field"))]
    pub targeted: Vec<String>,
    /// Requests that wait for one fetch of the same entry; more go to the backend themselves. As many as there may be
    /// connections, since a request that waits costs little beside its connection. Default: 10000.
    pub followers: u32,
    /// How long such a request waits before it goes itself. Default: 5s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub follower_wait: Duration,
    /// Secret that the names of users are hashed with before they become part of a key, the same for all replicas: at
    /// least 16 characters, such as `openssl rand -hex 32` prints. Without it each process makes one of its own, and
    /// entries of routes with `identity` stay in its memory. Default: none.
    pub identity_secret: Option<Secret>,
    /// Addresses that are fetched before a client asks: once the backend answers, and again after a purge that ended
    /// them, two at a time. `/path?query` is fetched for each of `ingress.hosts`, with the key of plain http; a full
    /// address such as `https://coach.example/path` names host and scheme, for clients that come by a trusted proxy.
    /// Only paths of routes that are `public`, and only in mode `serve`. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub warm: Vec<String>,
    /// Whether `Cache-Status` names the key of the entry. Not for a public port. Default: false.
    pub debug: bool,
    /// How answers are compared where the cache observes, for `touchline advise`.
    pub advise: Advise,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            mode: CacheMode::Serve,
            profile: Profile::Default,
            origin: true,
            memory: MemoryTier::default(),
            redis: Redis::default(),
            blind_ttl: Duration::from_secs(60),
            max_body: ByteSize::mib(1),
            fill_memory: ByteSize::mib(32),
            max_ttl: Duration::from_secs(24 * 3600),
            error_max_ttl: Duration::from_secs(10),
            max_variants: 32,
            max_new_keys: 10_000,
            credentials: Vec::new(),
            stale_on_disconnect: Duration::from_secs(3600),
            targeted: vec!["CDN-Cache-Control".to_owned()],
            followers: 10_000,
            follower_wait: Duration::from_secs(5),
            identity_secret: None,
            warm: Vec::new(),
            debug: false,
            advise: Advise::default(),
        }
    }
}

/// Whether the cache acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// Every request goes to the backend.
    Off,
    /// Every request goes to the backend; those that the cache would have looked up carry the reason `observe`. What it
    /// would have done is counted, and `touchline advise` says what is worth caching for how long.
    Observe,
    /// The cache answers what it may.
    Serve,
}

impl CacheMode {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Serve => "serve",
        }
    }
}

/// Which rules hold for what may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// RFC 9111 with what is safe beside a backend that says little: no `Set-Cookie`, no guessed lifetimes.
    Default,
    /// RFC 9111 as written.
    Rfc,
}

impl Profile {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Rfc => "rfc",
        }
    }
}

/// The tier in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryTier {
    /// Size of all entries with their keys and heads. Stay well below the memory limit of the container: where
    /// `TOUCHLINE_MEMORY_LIMIT` is set, more than 60 % of it is a warning and more than 80 % an error. `0B` switches the
    /// tier off, which only makes sense beside `cache.redis`; otherwise it has at least 64KiB. Default: 64MiB.
    #[schemars(with = "SizeOrZero")]
    pub size: ByteSize,
}

impl Default for MemoryTier {
    fn default() -> Self {
        Self { size: ByteSize::mib(64) }
    }
}
