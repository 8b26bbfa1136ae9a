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
    /// What is changed in a call where another model would refuse it as it is: `drop_sampling` takes out `temperature`,
    /// `top_p` and `top_k`, `budget_to_effort` puts adaptive thinking with an effort in the place of a budget of thinking
    /// tokens. Only what the move needs is done, and the answer names it. Default: [].
    pub transforms: Vec<Transform>,
    /// Whether a call that meets an overloaded model (529) is tried once on a neighbouring tier, the cheaper one first,
    /// economy only for light turns. Default: false.
    pub overload_fallback: bool,
    /// `POST /v1/messages/batches`: `pass` leaves them alone, `route` gives each of their calls the model that it would get by
    /// itself. What a batch costs is not counted either way. Default: pass.
    pub batches: Batches,
}

impl Default for Rewrite {
    fn default() -> Self {
        Self {
            thinking: RewriteThinking::Keep,
            transforms: Vec::new(),
            overload_fallback: false,
            batches: Batches::Pass,
        }
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

/// What happens to batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Batches {
    /// They pass as they are.
    Pass,
    /// Each call of them is routed.
    Route,
}

/// A change that makes a call fit for another model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// `temperature`, `top_p` and `top_k` are taken out.
    DropSampling,
    /// Thinking with a budget becomes adaptive thinking, with an effort for the budget.
    BudgetToEffort,
}

impl Transform {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::DropSampling, Self::BudgetToEffort];

    /// The word in the file, in answers and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropSampling => "drop_sampling",
            Self::BudgetToEffort => "budget_to_effort",
        }
    }
}

/// A set of transforms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transforms(u8);

impl Transforms {
    /// The set without members.
    pub const NONE: Self = Self(0);

    /// The set of a list.
    #[must_use]
    pub fn of(list: &[Transform]) -> Self {
        list.iter().fold(Self::NONE, |set, transform| set.with(*transform))
    }

    /// The same set with one more.
    #[must_use]
    pub const fn with(self, transform: Transform) -> Self {
        Self(self.0 | 1 << transform as u8)
    }

    /// Whether one is in the set.
    #[must_use]
    pub const fn has(self, transform: Transform) -> bool {
        self.0 & 1 << transform as u8 != 0
    }

    /// Whether there is none in it.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The members.
    pub fn iter(self) -> impl Iterator<Item = Transform> {
        Transform::ALL.into_iter().filter(move |transform| self.has(*transform))
    }
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
    /// What happens when a call that was moved to a cheaper tier meets a refusal (`stop_reason: refusal`): `pass` shows it,
    /// `escalate` asks the client's own model once, before the client has seen a word, and charges both calls. Streams of
    /// such calls are held until their first words, at most for `claude.timeouts.idle`. Default: pass.
    pub on_refusal: OnRefusal,
}

impl Default for Answers {
    fn default() -> Self {
        Self { headers: AnswerHeaders::Auto, echo_model: false, on_refusal: OnRefusal::Pass }
    }
}

/// What happens when a cheaper model refuses to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRefusal {
    /// The client gets the refusal.
    Pass,
    /// The client's own model is asked.
    Escalate,
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
