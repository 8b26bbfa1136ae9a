//! `claude.rewrite` and `claude.answers`: what may be changed in a call, and what in its answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a call may lose when its model is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// Thinking blocks that the other model cannot read: `keep` forbids the move, `allow_loss` accepts that the API
    /// drops them. Default: keep.
    pub thinking: RewriteThinking,
    /// Whether a call that meets an overloaded model (529) is tried once on a neighbouring tier, the cheaper one first,
    /// economy only for light turns. Default: false.
    pub overload_fallback: bool,
}

impl Default for Rewrite {
    fn default() -> Self {
        Self { thinking: RewriteThinking::Keep, overload_fallback: false }
    }
}

/// What happens to thinking blocks that another model cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewriteThinking {
    /// The call does not move.
    Keep,
    /// The call moves, and the API drops them.
    AllowLoss,
}

/// What is added to answers, and changed in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// Whether answers name tier, model and reason: `auto` does in `claude.mode: route`. Default: auto.
    pub headers: AnswerHeaders,
    /// Whether the answer to a call that was moved names the model that the client asked for, in its body or in the
    /// `message_start` of its stream, for clients that compare. What is counted and told elsewhere keeps the true one. Such
    /// an answer reaches the client without a content coding. Default: false.
    pub echo_model: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self { headers: AnswerHeaders::Auto, echo_model: false }
    }
}

/// Whether answers name tier, model and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerHeaders {
    /// Where calls are routed.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}
