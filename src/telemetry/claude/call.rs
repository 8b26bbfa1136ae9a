//! The record of one call to Claude. Nothing here can hold a text of a prompt, an answer or a user: names are the
//! configuration's own, everything else is a number or from a closed set.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    config::{ModelTier, Transforms},
    telemetry::{SpanIds, TraceId, labels::labels, record::Outcome},
};

labels! {
    /// What decided the model of a call.
    pub enum RoutingReason {
        /// The mode is `off`.
        Off = "off",
        /// The body is larger than what is read.
        TooLarge = "too_large",
        /// The body is not one JSON object with one model, or it is compressed.
        Unreadable = "unreadable",
        /// The body is signed.
        Signed = "signed",
        /// The client named a tier, or `off`.
        Override = "override",
        /// The requested model belongs to no tier, or is never routed.
        NotOurs = "not_ours",
        /// The call belongs to a thread that the API keeps.
        Thread = "thread",
        /// The call uses a feature that binds it to its model.
        Feature = "feature",
        /// The same turn was decided before.
        SameTurn = "same_turn",
        /// The call answers a tool that the last model asked for.
        ToolLoop = "tool_loop",
        /// A rule for a path of calls.
        RouteRule = "route_rule",
        /// A rule for a system prompt.
        SystemRule = "system_rule",
        /// Serious content, now or shortly before.
        Serious = "serious",
        /// Results are to be scored, interpreted or planned from.
        Assessment = "assessment",
        /// A rule and the classifier both found something light.
        TwoSignals = "two_signals",
        /// A greeting, by the tier of its type.
        Greeting = "greeting",
        /// Small talk, by the tier of its type.
        SmallTalk = "small_talk",
        /// A confirmation, by the tier of its type.
        Confirmation = "confirmation",
        /// A practical question, by the tier of its type.
        Logistics = "logistics",
        /// Advice.
        Coaching = "coaching",
        /// A practice challenge.
        ChallengeGuidance = "challenge_guidance",
        /// A goal.
        GoalSetting = "goal_setting",
        /// Somebody to be listened to.
        EmotionalSupport = "emotional_support",
        /// No type that the signals agree on.
        Unknown = "unknown",
        /// The verdict of the judge.
        Judge = "judge",
        /// The preference of the user.
        Preference = "preference",
        /// `claude.moves` forbids the direction.
        Moves = "moves",
        /// The other model refuses a parameter of the call.
        Capability = "capability",
        /// `max_tokens` does not fit the other model.
        MaxTokens = "max_tokens",
        /// The prompt does not fit the other model's window.
        Context = "context",
        /// The other model cannot read the thinking in the conversation.
        Thinking = "thinking",
        /// A beta that the other model may not have.
        Beta = "beta",
        /// The move would cost more than it saves.
        Gate = "gate",
        /// The conversation has moved too often, or just now.
        Hold = "hold",
        /// A call of this conversation was refused after a move.
        NoRoute = "no_route",
        /// A budget is nearly used up.
        Budget = "budget",
        /// The model was overloaded, and one of a neighbouring tier answered.
        Overload = "overload",
        /// The model of a cheaper tier refused, and the requested one answered.
        Escalated = "escalated",
    }
}

labels! {
    /// How the provider's prompt cache met a call that was given breakpoints.
    pub enum Breakpoint {
        /// Something was read.
        Read = "read",
        /// Something was written and nothing read.
        Written = "written",
        /// Neither.
        Nothing = "nothing",
        /// The system prompt gets none any more.
        Stopped = "stopped",
    }
}

/// Tokens by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Prompt tokens at full price.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to it for five minutes.
    pub cache_write_5m: u64,
    /// Prompt tokens written to it for an hour.
    pub cache_write_1h: u64,
}

impl Tokens {
    /// Tokens of the whole prompt, which are all but the answer and decide the band of prices.
    #[must_use]
    pub const fn prompt(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write_5m)
            .saturating_add(self.cache_write_1h)
    }

    /// The kinds with their labels.
    #[must_use]
    pub const fn by_kind(&self) -> [(&'static str, u64); 5] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cache_read", self.cache_read),
            ("cache_write_5m", self.cache_write_5m),
            ("cache_write_1h", self.cache_write_1h),
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
        self.cache_write_5m += other.cache_write_5m;
        self.cache_write_1h += other.cache_write_1h;
    }
}

/// What is told about one call, once, when it is over.
#[derive(Clone, Debug)]
pub struct Call {
    /// The rule whose path the call came under; `default` for all others.
    pub route: Arc<str>,
    /// The model that was called, from the price table, or `other`.
    pub model: Arc<str>,
    /// The model that was asked for, likewise.
    pub requested: Arc<str>,
    /// The tier of the model that was called.
    pub tier: Option<ModelTier>,
    /// The tier that was wanted before prices and guards were asked.
    pub wanted: Option<ModelTier>,
    /// What decided.
    pub reason: RoutingReason,
    /// What was changed in the call so that the model takes it.
    pub transforms: Transforms,
    /// The status of the answer; 499 when the client left before there was one.
    pub status: u16,
    /// How the call ended.
    pub outcome: Outcome,
    /// Whether the answer was a stream.
    pub is_stream: bool,
    /// What was used; none where the answer did not say.
    pub tokens: Option<Tokens>,
    /// Whether a part of the tokens is an estimate.
    pub is_estimated: bool,
    /// What it cost, in pico-dollars; none without a price.
    pub cost: Option<u64>,
    /// What the requested model would have cost with the client's own breakpoints, in pico-dollars.
    pub baseline_requested: u64,
    /// What the premium tier would have cost likewise, in pico-dollars.
    pub baseline_premium: u64,
    /// What the call would have saved where calls are only observed, in pico-dollars.
    pub would_save: i64,
    /// What happened to the breakpoints that were added; with it whether they last an hour.
    pub breakpoint: Option<(Breakpoint, bool)>,
    /// Repeats of the call.
    pub retries: u8,
    /// Whether the answer is that of a second call with the client's own bytes.
    pub fell_back: bool,
    /// Whether the model refused to answer.
    pub refused: bool,
    /// Whether the answer is one that was kept, or that of an identical call in flight: it used and cost nothing.
    pub is_kept: bool,
    /// Turns that were dropped from the conversation.
    pub trimmed: u32,
    /// Whose call it was: the beginning of a keyed hash.
    pub identity: Option<u32>,
    /// When its first byte was read.
    pub started: Instant,
    /// Time until the call went on, less the wait for the client's own bytes, in microseconds.
    pub overhead_us: u64,
    /// Time to the first byte of the answer, in microseconds.
    pub first_byte_us: Option<u64>,
    /// Time of all of it, in microseconds.
    pub total_us: u64,
    /// Its span in the trace.
    pub span: SpanIds,
    /// The trace it belongs to.
    pub trace: TraceId,
}

#[cfg(test)]
impl Call {
    /// A call with something of everything.
    pub(in crate::telemetry) fn example() -> Self {
        Self {
            route: Arc::from("default"),
            model: Arc::from("claude-haiku-5-5"),
            requested: Arc::from("claude-sonnet-5-5"),
            tier: Some(ModelTier::Economy),
            wanted: Some(ModelTier::Economy),
            reason: RoutingReason::TwoSignals,
            transforms: Transforms::NONE,
            status: 200,
            outcome: Outcome::Done,
            is_stream: false,
            tokens: Some(Tokens { input: 10, output: 5, ..Tokens::default() }),
            is_estimated: false,
            cost: Some(20),
            baseline_requested: 30,
            baseline_premium: 50,
            would_save: 0,
            breakpoint: Some((Breakpoint::Read, false)),
            retries: 0,
            fell_back: false,
            refused: false,
            is_kept: false,
            trimmed: 0,
            identity: Some(1),
            started: Instant::now(),
            overhead_us: 40,
            first_byte_us: Some(400),
            total_us: 900,
            span: SpanIds::default(),
            trace: TraceId::default(),
        }
    }
}
