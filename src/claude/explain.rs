//! The decision on one call, with everything that led to it, for `touchline explain router`. A conversation that nobody
//! has seen before: nothing is warm, nothing is remembered.

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::{
    asked::{Asked, Head},
    books::unix_now,
    classify::{ListHit, Verdict},
    conversation::Found,
    decide::{self, Known},
    message::{Message, Unreadable},
    outputs::Outputs,
    rhythm::Rhythm,
    rules::{Rules, RulesError},
};
use crate::{
    config::{self, MessageType, ModelTier, PromptCacheMode, Transforms},
    telemetry::claude::RoutingReason,
};

/// Why a call cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The section cannot be compiled.
    #[error("compiling the claude section")]
    Rules(#[from] RulesError),
    /// The request is none.
    #[error("reading the request")]
    Request(#[from] Unreadable),
}

/// What was decided, and why.
#[derive(Debug)]
pub struct Explained {
    /// The model that was asked for.
    pub requested: String,
    /// The model that would answer.
    pub model: String,
    /// Its tier.
    pub tier: Option<ModelTier>,
    /// The tier that was wanted before guards and prices were asked.
    pub wanted: Option<ModelTier>,
    /// The word that decided.
    pub reason: &'static str,
    /// What would be changed in the call so that the model takes it.
    pub transforms: Transforms,
    /// The type of the message.
    pub kind: MessageType,
    /// Whether the economy tier is barred, now and in the turns to come.
    pub is_serious: bool,
    /// What the classifier says; none where it was not asked.
    pub verdict: Option<Verdict>,
    /// The words that it found, by list. They quote the request: for the one who asked, never for a log.
    pub hits: Vec<ListHit>,
    /// Tokens of the prompt, by estimate.
    pub prompt_tokens: u64,
    /// Tokens of the answer, as assumed for its type.
    pub output_tokens: u64,
    /// Every model that is in a tier.
    pub alternatives: Vec<Alternative>,
}

/// One model that might have answered. Money is in pico-dollars.
#[derive(Debug)]
pub struct Alternative {
    /// The model.
    pub model: String,
    /// Its tier.
    pub tier: ModelTier,
    /// Why it may not take the call.
    pub refused: Option<&'static str>,
    /// What would be changed in the call for it.
    pub transforms: Transforms,
    /// What moving to it costs and saves; none for the requested model itself.
    pub priced: Option<Prices>,
}

/// What a move costs. Money is in pico-dollars.
#[derive(Debug, Clone, Copy)]
pub struct Prices {
    /// This turn on the requested model.
    pub stay: i128,
    /// This turn on the other one.
    pub go: i128,
    /// What coming back costs more.
    pub back: i128,
    /// What is gained in all; negative where the move costs.
    pub gain: i128,
    /// Whether the gate lets it pass.
    pub moves: bool,
}

/// Explains a call by its body, in the version of the API that is named.
///
/// # Errors
/// When the configuration or the request cannot be read.
pub fn explain(config: &config::Claude, body: Bytes, version: &str) -> Result<Explained, ExplainError> {
    let rules = Rules::compile(config.clone())?;
    let key = [0; 32];
    let mut headers = HeaderMap::new();
    if let Ok(version) = http::HeaderValue::from_str(version) {
        headers.insert("anthropic-version", version);
    }
    let head = Head::take(&mut headers, &key);
    let depth = usize::try_from(config.inspect.depth).unwrap_or(usize::MAX);
    let message = Message::read(&body, depth)?;
    let asked = Asked::new(body, message, &head, &key);
    let outputs = Outputs::new(&config.router.types);
    let prompt_tokens = decide::prompt_tokens(&asked, &Found::New);
    let requested = rules.catalog.find(&asked.message.model);
    let is_cached = config.prompt_cache.mode == PromptCacheMode::Auto
        && requested.is_some_and(|model| prompt_tokens >= model.min_cacheable);
    let known = Known {
        rules: &rules,
        route: rules.route_at(usize::MAX),
        head: &head,
        asked: &asked,
        found: Found::New,
        rhythm: Rhythm::default(),
        warm: &|_| None,
        breakpoints: (is_cached || asked.message.has_cache_control()).then_some(false),
        output: &|kind| outputs.expected(kind),
        is_soft: &|_| false,
        now: Instant::now(),
        unix_s: unix_now(),
    };
    let mut verdict = None;
    let decision = decide::decide(&known, || {
        let said = asked.classified(|exchange| rules.classifier.classify(exchange));
        verdict = Some(said);
        said
    });
    let hits = asked.classified(|exchange| rules.classifier.explain(exchange)).hits;
    let alternatives = decide::alternatives(&known, decision.kind);
    let model = decision
        .model
        .map_or_else(|| asked.message.model.clone(), |index| rules.label(Some(index)).to_string());
    Ok(Explained {
        model,
        tier: decision.tier,
        wanted: decision.wanted,
        reason: decision.reason.as_str(),
        transforms: decision.transforms,
        kind: decision.kind,
        is_serious: decision.is_serious,
        verdict,
        hits,
        prompt_tokens,
        output_tokens: outputs.expected(decision.kind),
        alternatives: alternatives
            .into_iter()
            .map(|alternative| Alternative {
                model: rules.label(Some(alternative.model)).to_string(),
                tier: alternative.tier,
                refused: alternative.refused.map(RoutingReason::as_str),
                transforms: alternative.transforms,
                priced: alternative.priced.map(|priced| Prices {
                    stay: priced.stay.picos(),
                    go: priced.go.picos(),
                    back: priced.back.picos(),
                    gain: priced.gain.picos(),
                    moves: priced.moves,
                }),
            })
            .collect(),
        requested: asked.message.model.clone(),
    })
}
