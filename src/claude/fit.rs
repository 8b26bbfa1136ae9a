//! From a call as it was read to what the guard asks about it.

use super::{
    asked::{Asked, Head},
    catalog::{Features, Model},
    guard::{self, Ask, AskedEffort, Content, Refusal, Settings, Thinking, ToolChoice},
    message::{BlockSet, Given, Word},
    rules::Rules,
};
use crate::{
    config::{Effort, RewriteThinking, ThinkingType, Transforms},
    telemetry::claude::RoutingReason,
};

/// A call, in the guard's terms.
pub(super) struct Fit<'a> {
    asked: &'a Asked,
    head: &'a Head,
    betas: Vec<&'a str>,
    tools: Vec<&'a str>,
    thinking_of: Vec<&'a str>,
    prompt_tokens: u64,
    settings: Settings,
}

impl<'a> Fit<'a> {
    /// `thinking_by` is the model whose thinking is in the history, as far as that is known.
    pub(super) fn new(
        rules: &Rules,
        asked: &'a Asked,
        head: &'a Head,
        thinking_by: Option<&'a str>,
        prompt_tokens: u64,
    ) -> Self {
        Self {
            betas: head.betas.iter().map(String::as_str).collect(),
            tools: asked.message.parameters.tool_types.iter().map(Word::as_str).collect(),
            thinking_of: thinking_by.into_iter().collect(),
            prompt_tokens,
            settings: Settings {
                min_max_tokens: u64::from(rules.config.gate.min_max_tokens),
                is_loss_allowed: rules.config.rewrite.thinking == RewriteThinking::AllowLoss,
                transforms: Transforms::of(&rules.config.rewrite.transforms),
            },
            asked,
            head,
        }
    }

    /// Whether a model may take the call in the requested one's place, and what has to be changed for that.
    pub(super) fn may_take(
        &self,
        rules: &Rules,
        target: &Model,
        requested: &Model,
        unix_s: u64,
    ) -> Result<Transforms, RoutingReason> {
        guard::may_take(&rules.catalog, target, requested, &self.ask(), unix_s).map_err(reason)
    }

    /// What a refusal of the call, as it was changed, by a model would teach.
    pub(super) fn features(&self, made: Transforms) -> Features {
        self.ask().after(made).features()
    }

    fn ask(&self) -> Ask<'_> {
        let parameters = &self.asked.message.parameters;
        Ask {
            version: &self.head.version,
            betas: &self.betas,
            temperature: parameters.temperature.map(written),
            top_p: parameters.top_p.map(written),
            top_k: parameters.top_k.map(written),
            thinking: match &parameters.thinking {
                None => Thinking::Absent,
                Some(thinking) => ThinkingType::from_word(thinking.kind.as_str())
                    .map_or(Thinking::Other, |kind| Thinking::Known(kind, thinking.budget_tokens)),
            },
            effort: match &parameters.effort {
                None => AskedEffort::Absent,
                Some(effort) => {
                    Effort::from_word(effort.as_str()).map_or(AskedEffort::Other, AskedEffort::Known)
                }
            },
            has_odd_effort: parameters.places.has_odd_effort,
            tool_choice: match parameters.tool_choice.as_ref().map(Word::as_str) {
                None | Some("auto" | "none") => ToolChoice::Free,
                Some("any" | "tool") => ToolChoice::Forced,
                Some(_) => ToolChoice::Other,
            },
            is_prefilled: self.asked.message.is_prefill(),
            // A count of tokens has none, and a call without it is refused by every model alike.
            max_tokens: parameters.max_tokens.or(Some(self.settings.min_max_tokens.max(1))),
            prompt_tokens: self.prompt_tokens,
            content: self.content(),
            speed: parameters.speed.as_ref().map(Word::as_str),
            service_tier: parameters.service_tier.as_ref().map(Word::as_str),
            geo: parameters.inference_geo.as_ref().map(Word::as_str),
            has_unknown: parameters.unknown_count > 0
                || parameters.has_mcp_servers
                || parameters.has_context_management
                || self.asked.message.has_blocks(BlockSet::OTHER),
            settings: self.settings,
        }
    }

    fn content(&self) -> Content<'_> {
        let message = &self.asked.message;
        let has_thinking = message.has_blocks(BlockSet::THINKING.with(BlockSet::REDACTED_THINKING));
        Content {
            thinking_of: if has_thinking { &self.thinking_of } else { &[] },
            has_foreign_thinking: has_thinking && self.thinking_of.is_empty(),
            is_tool_loop: message.is_tool_loop(),
            has_images: message.has_blocks(BlockSet::IMAGE),
            has_documents: message.has_blocks(BlockSet::DOCUMENT),
            has_citations: message.parameters.has_citations || message.has_blocks(BlockSet::SEARCH_RESULT),
            has_structured_output: message.parameters.has_output_format,
            has_strict_tools: message.parameters.has_strict_tools,
            has_tools: message.parameters.tool_count > 0,
            server_tools: &self.tools,
        }
    }
}

/// A sampling parameter as the table of defaults has it. Values that no table has are told apart from none only.
fn written(given: Given) -> &'static str {
    match given {
        Given::Number(number) if (number - 1.0).abs() < f64::EPSILON => "1",
        Given::Number(number) if (number - 0.99).abs() < f64::EPSILON => "0.99",
        Given::Null | Given::Number(_) | Given::Other => "other",
    }
}

const fn reason(refusal: Refusal) -> RoutingReason {
    match refusal {
        Refusal::Capability => RoutingReason::Capability,
        Refusal::MaxTokens => RoutingReason::MaxTokens,
        Refusal::Context => RoutingReason::Context,
        Refusal::Thinking => RoutingReason::Thinking,
        Refusal::Beta => RoutingReason::Beta,
    }
}
