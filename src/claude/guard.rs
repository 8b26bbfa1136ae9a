//! Which models may take a call as it is: the parameter table, limits, thinking blocks, and what refusals have taught.
//!
//! A call is never repaired unless the operator asks for it, and then only what the requested model takes and the other one
//! does not. What a model is not known to take refuses the move, and so does what this build does not know: the client's own
//! model then answers, and if it refuses the call, that answer is the client's own.

use super::{
    catalog::{Catalog, Feature, Features, Model},
    transform::effort_of,
};
use crate::config::{Effort, Sampling, ThinkingType, Transform, Transforms};

/// The versions of the API that are known, the older one with sampling parameters.
const WITH_SAMPLING: &str = "2023-06-01";
const WITHOUT_SAMPLING: &str = "2026-10-21";
/// The smallest budget of thinking that the API takes.
const MIN_BUDGET: u64 = 1_024;
/// The ways to write the values that models take as defaults.
const TEMPERATURE_DEFAULT: [&str; 2] = ["1", "1.0"];
const TOP_P_DEFAULT: [&str; 1] = ["0.99"];
/// Values that every model is known to take.
const SERVICE_TIERS: [&str; 2] = ["auto", "standard_only"];
const GEOS: [&str; 2] = ["us", "global"];

/// Why a model may not take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It does not take a parameter or a kind of content.
    Capability,
    /// It does not give answers so long, or might spend all of a short one on thinking.
    MaxTokens,
    /// The prompt and its answer do not fit.
    Context,
    /// It cannot read the thinking of another model.
    Thinking,
    /// It does not take a beta or a tool of the server.
    Beta,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Capability, Self::MaxTokens, Self::Context, Self::Thinking, Self::Beta];

    /// The word in reasons and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capability => "capability",
            Self::MaxTokens => "max_tokens",
            Self::Context => "context",
            Self::Thinking => "thinking",
            Self::Beta => "beta",
        }
    }
}

/// What `thinking` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thinking {
    /// Nothing.
    #[default]
    Absent,
    /// A known type, and its budget.
    Known(ThinkingType, Option<u64>),
    /// Something else.
    Other,
}

/// What `tool_choice` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// Nothing, `auto` or `none`.
    #[default]
    Free,
    /// `any`, or one tool.
    Forced,
    /// Something else.
    Other,
}

/// What `output_config.effort` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskedEffort {
    /// Nothing.
    #[default]
    Absent,
    /// A known word.
    Known(Effort),
    /// Something else.
    Other,
}

/// What of a call decides who may take it. The default is a call with nothing but text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// `anthropic-version`, as written.
    pub version: &'a str,
    /// The words of `anthropic-beta`.
    pub betas: &'a [&'a str],
    /// `temperature`, as written.
    pub temperature: Option<&'a str>,
    /// `top_p`, as written.
    pub top_p: Option<&'a str>,
    /// `top_k`, as written.
    pub top_k: Option<&'a str>,
    /// `thinking`.
    pub thinking: Thinking,
    /// `output_config.effort`.
    pub effort: AskedEffort,
    /// Whether no effort can be put into the call, as there is something else in its place.
    pub has_odd_effort: bool,
    /// `tool_choice`.
    pub tool_choice: ToolChoice,
    /// Whether the last message is the assistant's.
    pub is_prefilled: bool,
    /// `max_tokens`. None where it is missing or no number.
    pub max_tokens: Option<u64>,
    /// Tokens of the prompt, estimated as the requested model counts them.
    pub prompt_tokens: u64,
    /// What the history and the tools hold.
    pub content: Content<'a>,
    /// `speed`, as written.
    pub speed: Option<&'a str>,
    /// `service_tier`, as written.
    pub service_tier: Option<&'a str>,
    /// `inference_geo`, as written.
    pub geo: Option<&'a str>,
    /// Whether there are top-level members, kinds of blocks or of `output_config` that this build does not know.
    pub has_unknown: bool,
    /// What the operator has set.
    pub settings: Settings,
}

/// What the messages and the tools of a call hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content<'a> {
    /// The models whose thinking blocks are in the history.
    pub thinking_of: &'a [&'a str],
    /// Whether there are thinking blocks of nobody knows which model.
    pub has_foreign_thinking: bool,
    /// Whether a use of a tool is being answered.
    pub is_tool_loop: bool,
    /// Images anywhere.
    pub has_images: bool,
    /// Documents anywhere.
    pub has_documents: bool,
    /// Citations, asked for or in the history.
    pub has_citations: bool,
    /// A set format of the answer.
    pub has_structured_output: bool,
    /// Tools with `strict: true`.
    pub has_strict_tools: bool,
    /// Tools of the client's.
    pub has_tools: bool,
    /// Types of the tools that are not plain client tools.
    pub server_tools: &'a [&'a str],
}

/// What the operator has set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// `gate.min_max_tokens`.
    pub min_max_tokens: u64,
    /// `rewrite.thinking: allow_loss`.
    pub is_loss_allowed: bool,
    /// `rewrite.transforms`.
    pub transforms: Transforms,
}

/// Whether `target` may take a call that names `requested`, at a time in seconds since 1970, and what has to be changed in
/// it for that.
pub fn may_take(
    catalog: &Catalog,
    target: &Model,
    requested: &Model,
    ask: &Ask<'_>,
    now_s: u64,
) -> Result<Transforms, Refusal> {
    if target.id == requested.id {
        return Ok(Transforms::NONE);
    }
    let made = needed(target, requested, ask);
    let ask = &ask.after(made);
    takes_parameters(target, ask)?;
    takes_content(target, ask)?;
    takes_betas(target, ask)?;
    reads_history(catalog, target, ask)?;
    has_room(target, requested, ask)?;
    match catalog.learned().refused(&target.id, ask.features(), now_s) {
        Some(Feature::ThinkingHistory) => Err(Refusal::Thinking),
        Some(Feature::Betas | Feature::ServerTools) => Err(Refusal::Beta),
        Some(_) => Err(Refusal::Capability),
        None => Ok(made),
    }
}

/// The transforms that the target needs, of those that are allowed. What the requested model refuses too is not made good:
/// the API tells the client so.
fn needed(target: &Model, requested: &Model, ask: &Ask<'_>) -> Transforms {
    let allowed = ask.settings.transforms;
    let mut made = Transforms::NONE;
    if allowed.has(Transform::DropSampling) && !takes_sampling(target, ask) && takes_sampling(requested, ask)
    {
        made = made.with(Transform::DropSampling);
    }
    let has_budget = matches!(ask.thinking, Thinking::Known(ThinkingType::Enabled, Some(_)));
    let kinds = &target.takes.thinking;
    let takes_another = !kinds.contains(&ThinkingType::Enabled)
        && kinds.contains(&ThinkingType::Adaptive)
        && !ask.has_odd_effort;
    if allowed.has(Transform::BudgetToEffort) && has_budget && takes_another && takes_thinking(requested, ask)
    {
        made = made.with(Transform::BudgetToEffort);
    }
    made
}

fn takes_parameters(target: &Model, ask: &Ask<'_>) -> Result<(), Refusal> {
    let takes_choice = match ask.tool_choice {
        ToolChoice::Free => true,
        // A model that is forced to use a tool does not think, and refuses to be asked for both.
        ToolChoice::Forced => target.takes.forced_tools && !ask.asks_for_thinking(),
        ToolChoice::Other => false,
    };
    let has_known = |value: Option<&str>, known: &[&str]| value.is_none_or(|value| known.contains(&value));
    let holds = !ask.has_unknown
        && matches!(ask.version, WITH_SAMPLING | WITHOUT_SAMPLING)
        && takes_sampling(target, ask)
        && takes_effort(target, ask)
        && takes_thinking(target, ask)
        && takes_choice
        && (!ask.is_prefilled || target.takes.prefill)
        && ask.speed.is_none()
        && has_known(ask.service_tier, &SERVICE_TIERS)
        && (ask.geo.is_none() || target.takes.geo && has_known(ask.geo, &GEOS));
    if holds { Ok(()) } else { Err(Refusal::Capability) }
}

/// Sampling parameters: none in the later version, in the older one those that the table names, as they are written.
fn takes_sampling(target: &Model, ask: &Ask<'_>) -> bool {
    let is_default = |value: Option<&str>, known: &[&str]| value.is_some_and(|value| known.contains(&value));
    let (temperature, top_p, top_k) = (ask.temperature, ask.top_p, ask.top_k);
    if temperature.is_none() && top_p.is_none() && top_k.is_none() {
        return true;
    }
    let is_temperature = is_default(temperature, &TEMPERATURE_DEFAULT) && top_p.is_none() && top_k.is_none();
    let is_top_p = is_default(top_p, &TOP_P_DEFAULT) && temperature.is_none() && top_k.is_none();
    ask.version == WITH_SAMPLING
        && match target.takes.sampling {
            Sampling::None => false,
            Sampling::DefaultOnly => is_temperature,
            Sampling::LoneDefault => is_temperature || is_top_p,
            // Models of generation 4 refuse both at once, and most values where they think.
            Sampling::Any => (temperature.is_none() || top_p.is_none()) && !ask.asks_for_thinking(),
        }
}

fn takes_effort(target: &Model, ask: &Ask<'_>) -> bool {
    match ask.effort {
        AskedEffort::Absent => true,
        AskedEffort::Known(effort) => target.takes.efforts.contains(&effort),
        AskedEffort::Other => false,
    }
}

fn takes_thinking(target: &Model, ask: &Ask<'_>) -> bool {
    let (kind, budget) = match ask.thinking {
        Thinking::Absent => return true,
        Thinking::Known(kind, budget) => (kind, budget),
        Thinking::Other => return false,
    };
    let effort = match ask.effort {
        AskedEffort::Known(effort) => Some(effort),
        AskedEffort::Absent | AskedEffort::Other => target.takes.effort,
    };
    let may_think_less = effort.is_none_or(|effort| effort <= target.takes.less_thinking_up_to);
    target.takes.thinking.contains(&kind)
        && match (kind, budget) {
            (ThinkingType::Adaptive, None) => true,
            (ThinkingType::BetweenTools | ThinkingType::Disabled, None) => may_think_less,
            (ThinkingType::Enabled, Some(budget)) => {
                budget >= MIN_BUDGET && ask.max_tokens.is_some_and(|most| budget < most)
            }
            _ => false,
        }
}

fn takes_content(target: &Model, ask: &Ask<'_>) -> Result<(), Refusal> {
    let (content, takes) = (&ask.content, &target.takes);
    let holds = (!content.has_images || takes.images)
        && (!content.has_documents || takes.documents)
        && (!content.has_citations || takes.citations)
        && (!content.has_structured_output || takes.structured_output)
        && (!content.has_strict_tools || takes.strict_tools);
    if holds { Ok(()) } else { Err(Refusal::Capability) }
}

fn takes_betas(target: &Model, ask: &Ask<'_>) -> Result<(), Refusal> {
    let all_known =
        |asked: &[&str], known: &[String]| asked.iter().all(|asked| known.iter().any(|known| known == asked));
    let holds = all_known(ask.betas, &target.takes.betas)
        && all_known(ask.content.server_tools, &target.takes.server_tools);
    if holds { Ok(()) } else { Err(Refusal::Beta) }
}

fn reads_history(catalog: &Catalog, target: &Model, ask: &Ask<'_>) -> Result<(), Refusal> {
    let content = &ask.content;
    let is_readable = !content.has_foreign_thinking
        && content.thinking_of.iter().all(|model| target.reads_thinking_of(catalog, model));
    // What is dropped between a use of a tool and its result cannot be made up for.
    let may_be_lost = ask.settings.is_loss_allowed && !content.is_tool_loop;
    if is_readable || may_be_lost { Ok(()) } else { Err(Refusal::Thinking) }
}

fn has_room(target: &Model, requested: &Model, ask: &Ask<'_>) -> Result<(), Refusal> {
    let Some(max_tokens) = ask.max_tokens.filter(|most| (1..=target.max_output).contains(most)) else {
        return Err(Refusal::MaxTokens);
    };
    let is_short = max_tokens < ask.settings.min_max_tokens;
    if is_short && ask.makes_think(target) && !ask.makes_think(requested) {
        return Err(Refusal::MaxTokens);
    }
    let prompt = target.tokens_of(ask.prompt_tokens, requested);
    if prompt.saturating_add(max_tokens) > target.context { Err(Refusal::Context) } else { Ok(()) }
}

impl Ask<'_> {
    /// The same call after transforms.
    #[must_use]
    pub fn after(mut self, made: Transforms) -> Self {
        if made.has(Transform::DropSampling) {
            (self.temperature, self.top_p, self.top_k) = (None, None, None);
        }
        if made.has(Transform::BudgetToEffort)
            && let Thinking::Known(ThinkingType::Enabled, Some(budget)) = self.thinking
        {
            self.thinking = Thinking::Known(ThinkingType::Adaptive, None);
            if self.effort == AskedEffort::Absent {
                self.effort = AskedEffort::Known(effort_of(budget));
            }
        }
        self
    }

    /// What a refusal of this call may be about.
    #[must_use]
    pub fn features(&self) -> Features {
        let content = &self.content;
        let has_sampling = self.temperature.is_some() || self.top_p.is_some() || self.top_k.is_some();
        let has_history = content.has_foreign_thinking || !content.thinking_of.is_empty();
        [
            (Feature::Sampling, has_sampling),
            (Feature::Prefill, self.is_prefilled),
            (Feature::Thinking, self.thinking != Thinking::Absent),
            (Feature::ThinkingHistory, has_history),
            (Feature::Effort, self.effort != AskedEffort::Absent),
            (Feature::ForcedTools, self.tool_choice != ToolChoice::Free),
            (Feature::Tools, content.has_tools),
            (Feature::StrictTools, content.has_strict_tools),
            (Feature::ServerTools, !content.server_tools.is_empty()),
            (Feature::Images, content.has_images),
            (Feature::Documents, content.has_documents),
            (Feature::Citations, content.has_citations),
            (Feature::StructuredOutput, content.has_structured_output),
            (Feature::Betas, !self.betas.is_empty()),
            (Feature::ServiceTier, self.service_tier.is_some()),
            (Feature::Geo, self.geo.is_some()),
        ]
        .into_iter()
        .fold(Features::NONE, |features, (feature, holds)| features.with_if(feature, holds))
    }

    /// Whether it asks for thinking in words.
    fn asks_for_thinking(&self) -> bool {
        !matches!(self.thinking, Thinking::Absent | Thinking::Known(ThinkingType::Disabled, _))
    }

    /// Whether a model would think about it.
    fn makes_think(&self, model: &Model) -> bool {
        match self.thinking {
            Thinking::Absent => model.takes.thinks_by_default && self.tool_choice != ToolChoice::Forced,
            Thinking::Known(ThinkingType::Disabled, _) => false,
            Thinking::Known(..) | Thinking::Other => true,
        }
    }
}

#[cfg(test)]
mod tests;
