//! `claude`: the plane between the backend and the Claude API.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    address::Listen,
    api_address::ApiAddress,
    budget::Budget,
    models::ModelEntry,
    rewrite::{Answers, Rewrite},
    router::Router,
    secret::Secret,
    share::Share,
    tier::ModelTier,
    units::{self, ByteSize, Time},
    usd::Usd,
};

/// The plane between the backend and the Claude API: it picks the tier of each call, adds prompt-cache breakpoints,
/// counts tokens and money, and keeps budgets. Without this section it is not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claude {
    /// Address and port for the backend, which is pointed at it with `ANTHROPIC_BASE_URL`. Restart.
    /// Default: 127.0.0.1:8081.
    #[schemars(with = "Listen")]
    pub listen: SocketAddr,
    /// The API: `https://HOST`, or `http://HOST:PORT` for a gateway beside the proxy. Restart.
    /// Default: `https://api.anthropic.com`.
    pub upstream: ApiAddress,
    /// PEM file with the certificates that the API's must lead to. Without it: those of the system. Restart.
    /// Default: none.
    #[schemars(extend("x-kind" = "text"))]
    pub ca: Option<String>,
    /// What happens to calls: `off` counts, `observe` also decides and reports, `route` acts. Default: route.
    pub mode: ClaudeMode,
    /// A key that takes the place of the one the backend sends, best as `{ file: PATH }`. Default: none.
    pub api_key: Option<Secret>,
    /// The models of each tier.
    pub tiers: Tiers,
    /// The tier of requested models that no tier names, by pattern; `*` stands for any text, and the longest pattern
    /// wins. Default: {claude-*haiku*: economy, claude-*opus*: premium, claude-*sonnet*: standard}.
    #[schemars(with = "BTreeMap<String, ModelTier>")]
    pub aliases: BTreeMap<String, ModelTier>,
    /// Requested models that are never routed, by pattern. Default: [claude-fable-*, claude-mythos-*].
    #[schemars(extend("x-items" = "text"))]
    pub pass: Vec<String>,
    /// In which direction a call may leave the tier of its requested model. Default: both.
    pub moves: Moves,
    /// How a tier is chosen.
    pub router: Router,
    /// Who gets more, or less, than the router says.
    pub preferences: Preferences,
    /// When a move is worth its price.
    pub gate: Gate,
    /// How often a conversation may move.
    pub hold: Hold,
    /// Breakpoints of the provider's prompt cache, set where the client sets none.
    pub prompt_cache: PromptCache,
    /// What happens when a conversation nears the end of a model's window.
    pub context: ContextWindow,
    /// What a call may lose when its model is changed.
    pub rewrite: Rewrite,
    /// What is added to answers.
    pub answers: Answers,
    /// Where what models can do is learned from.
    pub capabilities: Capabilities,
    /// Repeats of failed calls.
    pub retries: ClaudeRetries,
    /// How long a call may take.
    pub timeouts: ClaudeTimeouts,
    /// How much of a call is read.
    pub inspect: Inspect,
    /// What is remembered of conversations.
    pub conversations: Conversations,
    /// Calls at the API at once; more are answered with 529, which clients repeat. Restart. Default: 1024.
    #[schemars(range(min = 1))]
    pub in_flight: u32,
    /// Limits on what is spent. Default: [].
    pub budgets: Vec<Budget>,
    /// Answers that are kept for identical calls.
    pub response_cache: ResponseCache,
    /// Calls that come under a path of their own, with rules of their own. Default: [].
    pub routes: Vec<ClaudeRoute>,
    /// Prices and capabilities of models: what is written here beats the shipped table, entry by entry. Default: {}.
    #[schemars(with = "BTreeMap<String, ModelEntry>")]
    pub models: BTreeMap<String, ModelEntry>,
}

impl Default for Claude {
    fn default() -> Self {
        let alias = |pattern: &str, tier| (pattern.to_owned(), tier);
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            upstream: ApiAddress::default(),
            ca: None,
            mode: ClaudeMode::Route,
            api_key: None,
            tiers: Tiers::default(),
            aliases: BTreeMap::from([
                alias("claude-*haiku*", ModelTier::Economy),
                alias("claude-*sonnet*", ModelTier::Standard),
                alias("claude-*opus*", ModelTier::Premium),
            ]),
            pass: vec!["claude-fable-*".to_owned(), "claude-mythos-*".to_owned()],
            moves: Moves::Both,
            router: Router::default(),
            preferences: Preferences::default(),
            gate: Gate::default(),
            hold: Hold::default(),
            prompt_cache: PromptCache::default(),
            context: ContextWindow::default(),
            rewrite: Rewrite::default(),
            answers: Answers::default(),
            capabilities: Capabilities::default(),
            retries: ClaudeRetries::default(),
            timeouts: ClaudeTimeouts::default(),
            inspect: Inspect::default(),
            conversations: Conversations::default(),
            in_flight: 1024,
            budgets: Vec::new(),
            response_cache: ResponseCache::default(),
            routes: Vec::new(),
            models: BTreeMap::new(),
        }
    }
}

/// What happens to calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaudeMode {
    /// They are passed on and counted.
    Off,
    /// They are decided and reported as if they were routed; nothing is changed.
    Observe,
    /// They are routed.
    Route,
}

impl ClaudeMode {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Route => "route",
        }
    }
}

/// The models of each tier, the preferred one first. Of several, one of the requested model's generation is taken before
/// the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tiers {
    /// For small talk, greetings, confirmations and practical questions.
    /// Default: [claude-haiku-5-5, claude-haiku-4-5].
    #[schemars(extend("x-items" = "text"))]
    pub economy: Vec<String>,
    /// For coaching and everything else. Default: [claude-sonnet-5-5, claude-sonnet-4-6].
    #[schemars(extend("x-items" = "text"))]
    pub standard: Vec<String>,
    /// For assessments. Default: [claude-opus-5-5].
    #[schemars(extend("x-items" = "text"))]
    pub premium: Vec<String>,
}

impl Tiers {
    /// The models of a tier.
    #[must_use]
    pub fn of(&self, tier: ModelTier) -> &[String] {
        match tier {
            ModelTier::Economy => &self.economy,
            ModelTier::Standard => &self.standard,
            ModelTier::Premium => &self.premium,
        }
    }
}

impl Default for Tiers {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            economy: names(&["claude-haiku-5-5", "claude-haiku-4-5"]),
            standard: names(&["claude-sonnet-5-5", "claude-sonnet-4-6"]),
            premium: names(&["claude-opus-5-5"]),
        }
    }
}

/// In which direction a call may leave the tier of its requested model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Moves {
    /// To cheaper and to dearer tiers.
    Both,
    /// Only to cheaper ones.
    Down,
    /// Only to dearer ones.
    Up,
}

/// Who gets more, or less, than the router says. A user is known by `metadata.user_id` of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preferences {
    /// The preference of users who are not listed. Default: none.
    pub default: Preference,
    /// The preference of single users, by `metadata.user_id`. Default: {}.
    #[schemars(with = "BTreeMap<String, Preference>")]
    pub users: BTreeMap<String, Preference>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { default: Preference::None, users: BTreeMap::new() }
    }
}

/// A preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// What the router says.
    None,
    /// Never the economy tier.
    PremiumUser,
    /// Never the premium tier.
    CostConscious,
}

/// When a move is worth its price. The price counts what the provider's cache holds of the conversation on either model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// The least that a move to a cheaper model saves, as a share of what staying costs. Default: 5%.
    pub min_saving: Share,
    /// How likely the conversation is to come back to its model. Default: 100%.
    pub return_probability: Share,
    /// The most that a single move to the premium tier may cost over staying. Default: 0.25usd.
    pub premium_max_extra: Usd,
    /// Below this `max_tokens` no call moves to a model that thinks by default from one that does not, as thinking would
    /// leave no room for an answer. Default: 1024.
    pub min_max_tokens: u32,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            min_saving: Share::percent(5),
            return_probability: Share::ALL,
            premium_max_extra: Usd::from_micros(250_000),
            min_max_tokens: 1024,
        }
    }
}

/// How often a conversation may move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hold {
    /// Turns that a conversation stays on a dearer model after a move to it, unless coming back gains 25 %. Default: 2.
    #[schemars(range(max = 15))]
    pub dearer_turns: u8,
    /// User turns after a serious one in which the economy tier stays barred. Default: 3.
    #[schemars(range(max = 15))]
    pub after_serious: u8,
    /// Moves in ten turns; a conversation that has had them stays on its model. Default: 3.
    #[schemars(range(max = 10))]
    pub moves_per_10_turns: u8,
}

impl Default for Hold {
    fn default() -> Self {
        Self { dearer_turns: 2, after_serious: 3, moves_per_10_turns: 3 }
    }
}

/// Breakpoints of the provider's prompt cache. A call that has a `cache_control` of its own is never touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptCache {
    /// Whether breakpoints are added. In `claude.mode: observe` and `off` none are. Default: auto.
    pub mode: PromptCacheMode,
    /// How long the provider keeps what was written: `adaptive` takes the cheaper one for the gaps between the turns of
    /// this system prompt. Default: adaptive.
    pub ttl: PromptCacheTtl,
    /// Whether a `system` that is a plain text is wrapped into a block, so that conversations can share it.
    /// Default: false.
    pub wrap_system: bool,
    /// Turns in a row that write to the cache and read nothing from it, after which a system prompt gets no more
    /// breakpoints for an hour. Default: 3.
    #[schemars(range(min = 1, max = 100))]
    pub stop_after: u8,
}

impl Default for PromptCache {
    fn default() -> Self {
        Self { mode: PromptCacheMode::Auto, ttl: PromptCacheTtl::Adaptive, wrap_system: false, stop_after: 3 }
    }
}

/// Whether breakpoints are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptCacheMode {
    /// Never.
    Off,
    /// Where the client sets none and the prompt is long enough.
    Auto,
}

/// How long the provider keeps what was written to its prompt cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PromptCacheTtl {
    /// What is cheaper for the gaps that were seen.
    #[serde(rename = "adaptive")]
    Adaptive,
    /// Five minutes.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// One hour.
    #[serde(rename = "1h")]
    OneHour,
}

/// What happens when a conversation nears the end of a model's window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextWindow {
    /// `report` counts and says so; `trim` drops the oldest turns where the API would not notice. Default: report.
    pub mode: ContextMode,
    /// The share of the window that is left filled after a trim. Default: 60%.
    pub target: Share,
    /// Whether the first user turn is kept. Default: true.
    pub keep_first: bool,
    /// The latest turns that are always kept. Default: 6.
    #[schemars(range(min = 1, max = 1000))]
    pub keep_turns: u32,
}

impl Default for ContextWindow {
    fn default() -> Self {
        Self { mode: ContextMode::Report, target: Share::percent(60), keep_first: true, keep_turns: 6 }
    }
}

/// What happens when a conversation nears the end of a model's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContextMode {
    /// Nothing.
    Off,
    /// It is counted and named.
    Report,
    /// The oldest turns are dropped.
    Trim,
}

/// Where what models can do is learned from, besides the shipped table and the refusals of the API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// A key that `/v1/models` is read with at the start. The clients' own keys are never used for that. Default: none.
    pub api_key: Option<Secret>,
}

/// Repeats of failed calls. Clients that repeat by themselves, as the official SDKs do, get none from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaudeRetries {
    /// Repeats of a call that failed before the first byte of its answer. Default: 1.
    #[schemars(range(max = 5))]
    pub max: u8,
    /// Repeats as a share of all calls. Default: 20%.
    pub budget: Share,
}

impl Default for ClaudeRetries {
    fn default() -> Self {
        Self { max: 1, budget: Share::percent(20) }
    }
}

/// How long a call may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaudeTimeouts {
    /// How long connecting to the API may take; then 502. Default: 5s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub connect: Duration,
    /// How long a stream may take to its first byte; then 504. Default: 1m.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub first_byte: Duration,
    /// Longest pause inside a stream; a ping ends it. Default: 30s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub idle: Duration,
    /// How long a whole answer may take; then 504. Default: 10m.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub total: Duration,
}

impl Default for ClaudeTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
        }
    }
}

/// How much of a call is read. What is larger or deeper passes unrouted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Inspect {
    /// The longest body. Default: 4MiB.
    pub body: ByteSize,
    /// How deep its JSON may be nested. Default: 512.
    #[schemars(range(min = 8, max = 100_000))]
    pub depth: u32,
}

impl Default for Inspect {
    fn default() -> Self {
        Self { body: ByteSize::mib(4), depth: 512 }
    }
}

/// What is remembered of conversations: models, cache state and counts, never a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Conversations {
    /// How many; the longest unused one makes room. Restart. Default: 50000.
    #[schemars(range(min = 100, max = 10_000_000))]
    pub max: u32,
    /// How long an unused one is remembered. Default: 1h.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub idle: Duration,
    /// Whether replicas share it through `cache.redis`, so that a conversation may go on at another one. A call waits at
    /// most 5 ms for that, and only where its last turn was not here. Takes `cache.identity_secret`. Default: false.
    pub shared: bool,
}

impl Default for Conversations {
    fn default() -> Self {
        Self { max: 50_000, idle: Duration::from_secs(3600), shared: false }
    }
}

/// Answers that are kept for identical calls: same credential, version, betas and body. Streams, calls with tools and
/// serious turns never get one, and answers that were cut or refused, or are larger than 1 MiB, are never kept. In
/// `claude.mode: observe` and `off` nothing is kept or shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseCache {
    /// Whether answers are kept. Default: false.
    pub enabled: bool,
    /// How long. Restart. Default: 10m.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub ttl: Duration,
    /// All kept answers together. Restart. Default: 16MiB.
    pub size: ByteSize,
    /// Whether identical calls in flight share one answer. It is made for all: who leaves takes it away from nobody, and
    /// where it fails the others make their own. Default: false.
    pub single_flight: bool,
}

impl Default for ResponseCache {
    fn default() -> Self {
        Self { enabled: false, ttl: Duration::from_secs(600), size: ByteSize::mib(16), single_flight: false }
    }
}

/// Calls that come under a path of their own: a part of the backend that is pointed at
/// `ANTHROPIC_BASE_URL=http://127.0.0.1:8081/reports` has the route with `path: /reports`. The path is taken off before
/// the call goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["path"]))]
pub struct ClaudeRoute {
    /// What the path of the call begins with, such as `/reports`. It names the route in metrics. Required.
    #[schemars(extend("x-kind" = "path"))]
    pub path: String,
    /// Beats `claude.mode`. Default: none.
    pub mode: Option<ClaudeMode>,
    /// The tier of all its calls; serious ones are still kept out of the economy tier. Default: none.
    pub tier: Option<ModelTier>,
    /// Beats `claude.context`. Default: none.
    pub context: Option<ContextWindow>,
}
