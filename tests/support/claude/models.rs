//! What each model accepts, restated from the API's pages. Prices are no part of it.

use serde_json::{Value, json};

const ALL_EFFORTS: &[&str] = &["low", "medium", "high", "xhigh", "max"];

/// When `thinking: disabled` passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disabled {
    /// It is a 400.
    Never,
    /// Only up to effort `high`.
    UpToHigh,
    /// Always.
    Always,
}

/// Which sampling parameters pass under `anthropic-version: 2023-06-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampling {
    /// Any, but not `temperature` and `top_p` together.
    Free,
    /// Only the default values.
    Defaults,
    /// `temperature: 1` or `top_p: .99`, and only one of them.
    OneDefault,
}

/// The accepted values of `thinking.type`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thinking {
    /// `adaptive`
    pub(crate) adaptive: bool,
    /// `enabled`, with a budget.
    pub(crate) enabled: bool,
    /// `between_tools`, up to effort `high`.
    pub(crate) between_tools: bool,
    /// `disabled`
    pub(crate) disabled: Disabled,
    /// Thinks when the field is absent.
    pub(crate) by_default: bool,
    /// Returns no text of its thinking unless asked.
    pub(crate) omitted: bool,
    /// Edits before a kept thinking block are a 400.
    pub(crate) bound_to_prefix: bool,
    /// Blocks are read only with the credential that got them.
    pub(crate) bound_to_account: bool,
}

/// One model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Its name.
    pub(crate) id: &'static str,
    /// Its name for people.
    pub(crate) display_name: &'static str,
    /// The model that it is another name of, or its own name: caches and thinking go by this.
    pub(crate) family: &'static str,
    /// Context window in tokens.
    pub(crate) window: u64,
    /// The largest `max_tokens`.
    pub(crate) max_output: u64,
    /// Smallest cacheable prompt in tokens.
    pub(crate) min_cache: u64,
    /// Counts about 30 % more tokens for the same text.
    pub(crate) new_tokenizer: bool,
    /// Accepted efforts; empty: the parameter is a 400.
    pub(crate) efforts: &'static [&'static str],
    /// The effort of a request without one.
    pub(crate) default_effort: &'static str,
    /// The thinking configuration.
    pub(crate) thinking: Thinking,
    /// `tool_choice` any or tool.
    pub(crate) forced_tools: bool,
    /// A last message from the assistant.
    pub(crate) prefill: bool,
    /// Sampling parameters.
    pub(crate) sampling: Sampling,
    /// `speed: fast`
    pub(crate) fast: bool,
    /// `role: system` inside `messages`.
    pub(crate) system_turns: bool,
    /// The version of the computer tool that it knows.
    pub(crate) computer_tool: &'static str,
    /// Other families whose thinking it reads.
    pub(crate) reads: &'static [&'static str],
}

impl Model {
    /// Tokens of a text of this length: bytes / 3.2, and 30 % more with the new tokenizer.
    pub(crate) fn tokens(&self, bytes: usize) -> u64 {
        let plain = u64::try_from(bytes).unwrap_or(u64::MAX / 100).saturating_mul(10).div_ceil(32);
        if self.new_tokenizer { (plain * 13).div_ceil(10) } else { plain }
    }

    /// The most bytes that count as at most so many tokens.
    pub(crate) fn bytes(&self, tokens: u64) -> usize {
        let plain = if self.new_tokenizer { tokens * 10 / 13 } else { tokens };
        usize::try_from(plain * 32 / 10).unwrap_or(usize::MAX)
    }

    /// Whether this model can use a thinking block of that family.
    pub(crate) fn can_read(&self, family: &str) -> bool {
        self.family == family || self.reads.contains(&family)
    }

    /// The entry of `GET /v1/models`.
    pub(crate) fn info(&self) -> Value {
        let can = |supported: bool| json!({"supported": supported});
        let effort = |word: &str| can(self.efforts.contains(&word));
        json!({
            "type": "model",
            "id": self.id,
            "display_name": self.display_name,
            "created_at": "2026-10-01T00:00:00Z",
            "lifecycle": "active",
            "max_input_tokens": self.window,
            "max_tokens": self.max_output,
            "capabilities": {
                "batch": can(true),
                "citations": can(true),
                "image_input": can(true),
                "pdf_input": can(true),
                "structured_outputs": can(true),
                "effort": {
                    "supported": !self.efforts.is_empty(), "low": effort("low"), "medium": effort("medium"),
                    "high": effort("high"), "xhigh": effort("xhigh"), "max": effort("max"),
                },
                "thinking": {"supported": true, "types": {
                    "adaptive": can(self.thinking.adaptive),
                    "enabled": can(self.thinking.enabled),
                    "between_tools": can(self.thinking.between_tools),
                    "disabled": can(self.thinking.disabled != Disabled::Never),
                }},
            },
        })
    }
}

/// The shipped table.
pub(crate) fn all() -> Vec<Model> {
    let haiku = haiku_5_5();
    let old_haiku = haiku_4_5();
    let sonnet = Model {
        id: "claude-sonnet-5-5",
        display_name: "Claude Sonnet 5.5",
        family: "claude-sonnet-5-5",
        default_effort: "high",
        thinking: Thinking { between_tools: true, disabled: Disabled::Never, ..haiku.thinking },
        forced_tools: false,
        sampling: Sampling::Defaults,
        ..haiku.clone()
    };
    let opus = Model {
        id: "claude-opus-5-5",
        display_name: "Claude Opus 5.5",
        family: "claude-opus-5-5",
        default_effort: "medium",
        thinking: Thinking { between_tools: false, bound_to_account: false, ..sonnet.thinking },
        fast: true,
        ..sonnet.clone()
    };
    let fable = Model {
        id: "claude-fable-5-2",
        display_name: "Claude Fable 5.2",
        family: "claude-fable-5-2",
        default_effort: "high",
        fast: false,
        reads: &["claude-opus-5-5"],
        ..opus.clone()
    };
    let dated = Model { id: "claude-haiku-4-5-20251001", ..old_haiku.clone() };
    let old_sonnet = Model {
        id: "claude-sonnet-4-6",
        display_name: "Claude Sonnet 4.6",
        family: "claude-sonnet-4-6",
        window: 1_000_000,
        min_cache: 1024,
        efforts: &["low", "medium", "high", "max"],
        thinking: Thinking { adaptive: true, ..old_haiku.thinking },
        prefill: false,
        computer_tool: "computer_20251124",
        reads: &["claude-haiku-4-5"],
        ..old_haiku.clone()
    };
    vec![haiku, sonnet, opus, old_haiku, dated, old_sonnet, fable]
}

fn haiku_5_5() -> Model {
    Model {
        id: "claude-haiku-5-5",
        display_name: "Claude Haiku 5.5",
        family: "claude-haiku-5-5",
        window: 1_000_000,
        max_output: 128_000,
        min_cache: 512,
        new_tokenizer: true,
        efforts: ALL_EFFORTS,
        default_effort: "medium",
        thinking: Thinking {
            adaptive: true,
            enabled: false,
            between_tools: false,
            disabled: Disabled::UpToHigh,
            by_default: true,
            omitted: true,
            bound_to_prefix: true,
            bound_to_account: true,
        },
        forced_tools: true,
        prefill: false,
        sampling: Sampling::OneDefault,
        fast: false,
        system_turns: true,
        computer_tool: "computer_toolset_20260801",
        reads: &[],
    }
}

fn haiku_4_5() -> Model {
    Model {
        id: "claude-haiku-4-5",
        display_name: "Claude Haiku 4.5",
        family: "claude-haiku-4-5",
        window: 200_000,
        max_output: 64_000,
        min_cache: 4096,
        new_tokenizer: false,
        efforts: &[],
        default_effort: "high",
        thinking: Thinking {
            adaptive: false,
            enabled: true,
            between_tools: false,
            disabled: Disabled::Always,
            by_default: false,
            omitted: false,
            bound_to_prefix: false,
            bound_to_account: false,
        },
        forced_tools: true,
        prefill: true,
        sampling: Sampling::Free,
        fast: false,
        system_turns: false,
        computer_tool: "computer_20250124",
        reads: &["claude-sonnet-4-6"],
    }
}
