//! The configuration as it is written in `proxy.yaml`: one struct per section, read strictly and checked as a whole.
//!
//! Planes compile what they need from these values; nothing here knows how a request is served. This is also the only
//! module that reads the environment. The way of a file: `tree` parses it into nodes that know their place,
//! `substitute` fills in `${NAME}`, `check` compares the nodes with the schema that the structs below derive, and
//! `validate` holds the rules across fields. Each step reports every problem it finds, so that one run shows all.

mod address;
mod admin;
mod advise;
mod alert_rules;
mod alerts;
mod api_address;
mod budget;
mod cache;
mod changes;
mod check;
mod claude;
mod effective;
mod error;
mod flow;
mod host;
mod identity;
mod ingress;
mod jwks;
mod key;
mod limits;
mod load;
mod models;
mod otlp;
mod path;
mod problem;
mod redis;
mod reference;
mod restart;
mod rewrite;
mod route;
mod router;
mod runtime;
mod schema;
mod secret;
mod share;
mod substitute;
mod switch;
mod syntax;
mod telemetry;
mod template;
mod threshold;
mod tier;
mod tree;
mod units;
mod upstream;
mod usd;
mod validate;
mod warm;
mod watched;

#[cfg(test)]
pub(crate) use self::{models::SHIPPED as SHIPPED_MODELS, watched::Folder};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    address::{BackendAddress, Cidr, split_peer},
    admin::{Admin, Control, OnIngress, Readiness, ShownPaths},
    advise::Advise,
    alert_rules::{AlertMetric, AlertRule, AlertSeverity, AlertUnit, AlertWindow, BuiltIn},
    alerts::{
        Alertmanager, Alerts, Hook, OwnRule, Receiver, ReceiverKind, ReceiverView, RuleChange, Slo, WebUrl,
    },
    api_address::ApiAddress,
    budget::{Budget, BudgetBy},
    cache::{Cache, CacheMode, MemoryTier, Profile},
    changes::{Change, changes},
    claude::{
        Capabilities, Claude, ClaudeMode, ClaudeRetries, ClaudeRoute, ClaudeTimeouts, ContextMode,
        ContextWindow, Conversations, Gate, Hold, Inspect, Moves, Preference, Preferences, PromptCache,
        PromptCacheMode, PromptCacheTtl, ResponseCache, Tiers,
    },
    effective::{Written, brief_yaml, effective_yaml},
    error::ValueError,
    flow::flow_yaml,
    host::{cpu_quota, host_name, is_in_kubernetes, notify_socket},
    identity::{Algorithm, Credential, Identity, KeysFile},
    ingress::{Ingress, Underscores},
    jwks::{Jwks, VerifyingKey},
    key::{KeyDoc, KeyLine, KeyWord, describe_key},
    limits::{Http2Limits, Limits, UpgradeLimits},
    load::{Loaded, load_file, load_for_elsewhere, load_str, read_file, read_input, variable},
    models::{
        Date, Effort, FastPrice, Generation, ModelEntry, Models, OverPrice, PriceRow, Sampling, ThinkingType,
    },
    otlp::Otlp,
    problem::{Problem, Problems, Severity},
    redis::{Redis, RedisEncrypt, RedisMode, RedisNode, RedisUrl},
    reference::reference_markdown,
    restart::{PLANES, RESTART_KEYS, keep_restart_keys, needs_restart},
    rewrite::{AnswerHeaders, Answers, Batches, OnRefusal, Rewrite, RewriteThinking, Transform, Transforms},
    route::{
        BodyKey, BypassWhen, ClientReload, Override, QueryKey, RefreshOn, Route, RouteCache, RouteKey,
        SetCookie,
    },
    router::{Economy, Judge, Router, SystemRule, Types, UserText, WordList, Words},
    runtime::{Drain, Reload, Runtime, RuntimeMode},
    schema::json_schema,
    secret::Secret,
    share::Share,
    switch::Switch,
    telemetry::{AccessLog, Log, LogFormat, LogLevel, PathDetail, Telemetry},
    template::{PathSegment, PathTemplate, TagPart, TagTemplate},
    threshold::Threshold,
    tier::{MessageType, ModelTier},
    units::{ByteSize, format_duration, parse_duration},
    upstream::{Breaker, Upstream},
    usd::{Usd, UsdPerMillion},
    warm::WarmAddress,
    watched::{Fingerprint, Reading, Watched},
};

/// The one version of the file's layout that this build reads.
pub const VERSION: u32 = 1;

/// Everything that `proxy.yaml` may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "touchline", extend("required" = ["version"]))]
pub struct Config {
    /// Version of the layout of this file; always 1. Required.
    #[schemars(extend("const" = 1))]
    pub version: u32,
    /// Threads of the proxy.
    pub runtime: Runtime,
    /// What happens between SIGTERM and the end of the process.
    pub drain: Drain,
    /// How a change of this file is noticed.
    pub reload: Reload,
    /// The plane between clients and the backend. Without this section it is not started. Default: none.
    pub ingress: Option<Ingress>,
    /// The cache as a whole; what is cached on which path stands with the routes.
    pub cache: Cache,
    /// The plane between the backend and the Claude API. Without this section it is not started. Default: none.
    pub claude: Option<Claude>,
    /// Logs and metrics.
    pub telemetry: Telemetry,
    /// The listener for probes, metrics and pages. It only reads. `off` switches it off.
    pub admin: Switch<Admin>,
    /// The listener that changes things: purge, reload and drain. `off` switches it off.
    pub control: Switch<Control>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: VERSION,
            runtime: Runtime::default(),
            drain: Drain::default(),
            reload: Reload::default(),
            ingress: None,
            cache: Cache::default(),
            claude: None,
            telemetry: Telemetry::default(),
            admin: Switch::default(),
            control: Switch::default(),
        }
    }
}
