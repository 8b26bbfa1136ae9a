//! The Claude plane: the backend on one side, the Claude API on the other. It picks the tier of each call, adds
//! breakpoints for the provider's prompt cache, counts tokens and money, keeps budgets, and changes nothing else.
//!
//! `pipeline` shows the way of a call on one screen; each stage has a file of its own. What decides (`message`,
//! `classify`, `decide`, `guard`, `gate`, `cost`) is pure. What all workers share is in [`Claude`]; a [`Worker`] adds the
//! connections of one worker and is what the listener serves.

pub mod catalog;
pub mod classify;
pub mod cost;
pub mod decode;
pub mod gate;
pub mod guard;
pub mod message;
pub mod money;
pub mod splice;
pub mod sse;
pub mod trim;
pub mod usage;

mod answers;
mod asked;
mod batch;
mod books;
mod budget;
mod conversation;
mod decide;
mod echo;
mod error;
mod escalate;
mod explain;
mod fit;
mod held;
mod judge;
mod learn;
mod outgoing;
mod outputs;
mod pipeline;
mod plan;
mod relay;
mod rhythm;
mod rules;
mod send;
mod shared;
#[cfg(test)]
mod simulation;
mod transform;

use std::sync::{Arc, atomic::AtomicBool};

use arc_swap::ArcSwap;
use http::Request;
use parking_lot::Mutex;

use self::{
    answers::Answers,
    books::Journal,
    budget::{Budgets, Reserved},
    conversation::{Conversations, Warmth},
    cost::Baselines,
    judge::Quota,
    outputs::Outputs,
    rhythm::Rhythms,
    rules::Rules,
};
use crate::{
    config,
    net::{Answer, Body, Context, Refusal, Service, drain::Drain, h1},
    telemetry::{Listener, ListenerStats, Telemetry, claude::ClaudeStats},
    upstream::{Client, Upstream, retry::Budget as RetryBudget},
};

pub use budget::{Adding, SharedSums};
pub use explain::{Alternative, ExplainError, Explained, Prices, explain};
pub use rules::{RulesError, classifier_settings};
pub use shared::{Reading, SharedStates, Writing};

/// Prefixes that the simulated caches of the baselines hold.
const SIMULATED: usize = 20_000;

/// All header fields of a request together; the SDKs send less than two.
const HEAD: config::ByteSize = config::ByteSize::kib(32);

/// What the plane is built from.
pub struct Parts {
    /// Where records go.
    pub telemetry: Arc<Telemetry>,
    /// The API.
    pub upstream: Arc<Upstream>,
    /// The process's shutdown.
    pub drain: Drain,
    /// What names are hashed with: the operator's secret, or one of this process.
    pub key: [u8; 32],
    /// Sums that replicas share; none where each counts for itself.
    pub sums: Option<Arc<dyn SharedSums>>,
    /// States of conversations that replicas share; none where each has its own.
    pub states: Option<Arc<dyn SharedStates>>,
    /// What is left to chance: uniform numbers.
    pub chance: fn() -> u64,
}

/// The plane, shared by all workers.
pub struct Claude {
    telemetry: Arc<Telemetry>,
    listener: Arc<ListenerStats>,
    stats: Arc<ClaudeStats>,
    rules: ArcSwap<Rules>,
    upstream: ArcSwap<Upstream>,
    drain: Drain,
    key: [u8; 32],
    conversations: Conversations,
    states: Option<Arc<dyn SharedStates>>,
    warmth: Warmth,
    rhythms: Rhythms,
    baselines: Mutex<Baselines>,
    budgets: Arc<Budgets>,
    outputs: Outputs,
    retry_budget: RetryBudget,
    answers: Arc<Answers>,
    judged: Quota,
    /// Whether a worker reads the limits of models.
    is_learning: AtomicBool,
    chance: fn() -> u64,
}

impl Claude {
    /// Builds the plane.
    ///
    /// # Errors
    /// When the section cannot be compiled; the configuration's own checks find this first.
    pub fn new(config: &config::Claude, parts: Parts) -> Result<Arc<Self>, RulesError> {
        let stats = Arc::new(ClaudeStats::new(config.mode == config::ClaudeMode::Route));
        parts.telemetry.watch_claude(Arc::clone(&stats));
        let rules = Rules::compile(config.clone())?;
        let conversations = &config.conversations;
        Ok(Arc::new(Self {
            listener: parts.telemetry.listener(Listener::Claude),
            conversations: Conversations::new(conversations.max, conversations.idle, Arc::clone(&stats)),
            states: parts.states,
            warmth: Warmth::new(conversations.max),
            rhythms: Rhythms::new(),
            baselines: Mutex::new(Baselines::new(SIMULATED)),
            budgets: Arc::new(Budgets::new(&config.budgets, parts.sums, Arc::clone(&stats))),
            outputs: Outputs::new(&config.router.types),
            retry_budget: RetryBudget::new(retry_percent(config)),
            answers: Answers::new(&config.response_cache, Arc::clone(&stats)),
            judged: Quota::default(),
            is_learning: AtomicBool::new(false),
            rules: ArcSwap::from_pointee(rules),
            telemetry: parts.telemetry,
            upstream: ArcSwap::new(parts.upstream),
            drain: parts.drain,
            key: parts.key,
            chance: parts.chance,
            stats,
        }))
    }

    /// What another configuration of the section comes to, to be put in force by [`Claude::apply`].
    ///
    /// # Errors
    /// When the section cannot be compiled; the configuration's own checks find this first.
    pub fn prepare(&self, config: &config::Claude, upstream: Arc<Upstream>) -> Result<Prepared, RulesError> {
        let mut rules = Rules::compile(config.clone())?;
        // What was learned of the models stays: which models there are does not change while the process runs.
        rules.catalog = self.rules.load().catalog.clone();
        Ok(Prepared { rules, upstream })
    }

    /// Goes on by another configuration. Calls that have begun end as they began; conversations, counts and what is spent stay.
    pub fn apply(&self, Prepared { rules, upstream }: Prepared) {
        let config = &rules.config;
        self.stats.set_routing(config.mode == config::ClaudeMode::Route);
        self.budgets.apply(&config.budgets);
        self.retry_budget.set_percent(retry_percent(config));
        self.upstream.store(upstream);
        self.rules.store(Arc::new(rules));
    }

    /// The API as it is called now.
    #[must_use]
    pub fn upstream(&self) -> Arc<Upstream> {
        self.upstream.load_full()
    }

    /// The limits of a connection of this listener. Bodies are the API's business: it takes 32 MB.
    #[must_use]
    pub fn connection_limits() -> Arc<h1::Limits> {
        let limits = config::Limits { headers_size: HEAD, ..config::Limits::default() };
        Arc::new(h1::Limits::downstream(&limits, config::Underscores::Forward))
    }

    /// How the API is called.
    #[must_use]
    pub fn upstream_settings(config: &config::Claude) -> config::Upstream {
        config::Upstream {
            connect: config.timeouts.connect,
            first_byte: config.timeouts.total,
            body_idle: config.timeouts.idle,
            idle: std::time::Duration::from_secs(60),
            lifetime: std::time::Duration::from_secs(600),
            headers_size: config::ByteSize::kib(64),
            in_flight: config.in_flight,
            queue: 0,
            // Which calls may be sent again is decided here, not by their method.
            retries: 0,
            ..config::Upstream::default()
        }
    }

    /// Puts what a call did cost in the place of its estimate, where there are budgets.
    fn settle(&self, reserved: Reserved, cost: u64) {
        if self.budgets.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let budgets = Arc::clone(&self.budgets);
        self.drain.spawn(async move { budgets.settle(reserved, cost).await });
    }
}

/// Retries per hundred calls.
fn retry_percent(config: &config::Claude) -> u8 {
    u8::try_from(config.retries.budget.millionths() / 10_000).unwrap_or(100)
}

/// A configuration that is compiled and not yet in force.
pub struct Prepared {
    rules: Rules,
    upstream: Arc<Upstream>,
}

/// One worker's share of the plane.
pub struct Worker {
    core: ArcSwap<Core>,
}

/// What a call holds on to: the plane and this worker's connections.
struct Core {
    claude: Arc<Claude>,
    client: Client,
}

impl Core {
    fn new(claude: Arc<Claude>) -> Arc<Self> {
        let client = Client::new(claude.upstream());
        client.spawn_pruning(&claude.drain);
        Arc::new(Self { claude, client })
    }
}

impl Worker {
    /// A worker without connections. Must be called on the worker's own runtime.
    #[must_use]
    pub fn new(claude: Arc<Claude>) -> Self {
        let core = Core::new(claude);
        learn::spawn(&core);
        Self { core: ArcSwap::new(core) }
    }

    /// What the next call holds on to: connections to where the API is now.
    fn core(&self) -> Arc<Core> {
        let core = self.core.load_full();
        if Arc::ptr_eq(core.client.upstream(), &core.claude.upstream.load()) {
            return core;
        }
        let core = Core::new(Arc::clone(&core.claude));
        self.core.store(Arc::clone(&core));
        core
    }
}

impl Service for Worker {
    type Done = Journal;

    async fn call(&self, request: Request<Body>, context: Context) -> Answer<Journal> {
        pipeline::serve(&self.core(), request, context).await
    }

    fn refuse(&self, refusal: Refusal, _: Context) -> Answer<Journal> {
        pipeline::refuse(&self.core(), refusal)
    }

    fn underscore_dropped(&self) {
        self.core.load().claude.listener.underscores_dropped.increment();
    }
}
