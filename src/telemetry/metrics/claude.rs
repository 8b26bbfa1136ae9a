//! The metrics of the Claude plane.

use super::{
    Family,
    Type::{Counter, Gauge, Histogram},
    family,
};

pub(in crate::telemetry) const CALLS: Family = family(
    "touchline_claude_calls_total",
    Counter,
    &["tier", "model", "status"],
    "Calls by the tier and the model that was called, and by exact status.",
);
pub(in crate::telemetry) const CALL_DURATION: Family = family(
    "touchline_claude_call_duration_seconds",
    Histogram,
    &["tier"],
    "Time from the first byte of a call to the last byte of its answer.",
);
pub(in crate::telemetry) const FIRST_TOKEN: Family = family(
    "touchline_claude_first_token_seconds",
    Histogram,
    &["tier"],
    "Time from the first byte of a call to the first byte of its answer's body.",
);
pub(in crate::telemetry) const OVERHEAD: Family = family(
    "touchline_claude_overhead_seconds",
    Histogram,
    &[],
    "Time that calls waited for the proxy's own work before they went on.",
);
pub(in crate::telemetry) const DECISIONS: Family = family(
    "touchline_claude_decisions_total",
    Counter,
    &["wanted", "tier", "reason"],
    "Decisions by the tier that was wanted, the one that was taken, and what decided.",
);
pub(in crate::telemetry) const TOKENS: Family = family(
    "touchline_claude_tokens_total",
    Counter,
    &["tier", "direction"],
    "Tokens by kind: input, output, cache_read, cache_write_5m, cache_write_1h.",
);
pub(in crate::telemetry) const COST: Family =
    family("touchline_claude_cost_usd_total", Counter, &["tier", "model"], "What calls cost, in US dollars.");
pub(in crate::telemetry) const BASELINE_COST: Family = family(
    "touchline_claude_baseline_cost_usd_total",
    Counter,
    &["baseline"],
    "What the same calls would have cost, in US dollars: with the requested models and the clients' own breakpoints, or on the premium tier; the same length of answers is assumed.",
);
pub(in crate::telemetry) const ROUTE_COST: Family = family(
    "touchline_claude_route_cost_usd_total",
    Counter,
    &["route"],
    "What the calls of a route cost, in US dollars.",
);
pub(in crate::telemetry) const WOULD_SAVE: Family = family(
    "touchline_claude_would_save_usd",
    Gauge,
    &[],
    "What calls that were only observed would have saved so far, in US dollars, as their moves were priced.",
);
pub(in crate::telemetry) const RETRIES: Family = family(
    "touchline_claude_retries_total",
    Counter,
    &["reason"],
    "Calls sent again before a byte of their answer, by what had failed.",
);
pub(in crate::telemetry) const FALLBACKS: Family = family(
    "touchline_claude_fallbacks_total",
    Counter,
    &["reason"],
    "Calls sent again with the client's own bytes after a change of ours was refused, by what was refused.",
);
pub(in crate::telemetry) const TRANSFORMS: Family = family(
    "touchline_claude_transforms_total",
    Counter,
    &["transform"],
    "Calls that were changed so that another model takes them, by what was done.",
);
pub(in crate::telemetry) const BREAKPOINTS: Family = family(
    "touchline_claude_breakpoints_total",
    Counter,
    &["ttl", "result"],
    "Calls that were given breakpoints for the prompt cache, by how long they last and what came of them.",
);
pub(in crate::telemetry) const USAGE_UNKNOWN: Family = family(
    "touchline_claude_usage_unknown_total",
    Counter,
    &[],
    "Answered calls whose tokens or price are not known; they are in no sum of money.",
);
pub(in crate::telemetry) const NOT_COUNTED: Family = family(
    "touchline_claude_not_counted_total",
    Counter,
    &[],
    "Batches. What they use and cost is in no sum, as their results pass unread.",
);
pub(in crate::telemetry) const BATCH_ITEMS: Family = family(
    "touchline_claude_batch_items_total",
    Counter,
    &["result"],
    "Calls of batches that were routed: moved to another model, kept on their own, or unread.",
);
pub(in crate::telemetry) const ESTIMATED: Family = family(
    "touchline_claude_estimated_total",
    Counter,
    &[],
    "Calls whose tokens are in part an estimate, as their answer was cut.",
);
pub(in crate::telemetry) const BUDGET_USED: Family = family(
    "touchline_claude_budget_used_ratio",
    Gauge,
    &["budget"],
    "What is used of a budget in the running window, as a share of its limit.",
);
pub(in crate::telemetry) const BUDGET_REFUSED: Family = family(
    "touchline_claude_budget_refused_total",
    Counter,
    &["budget"],
    "Calls turned away because a budget was used up.",
);
pub(in crate::telemetry) const CONVERSATIONS: Family =
    family("touchline_claude_conversations", Gauge, &[], "Conversations that are remembered.");
pub(in crate::telemetry) const EVICTIONS: Family = family(
    "touchline_claude_conversation_evictions_total",
    Counter,
    &[],
    "Conversations that made room for others.",
);
pub(in crate::telemetry) const SHARED: Family = family(
    "touchline_claude_shared_conversations_total",
    Counter,
    &["result"],
    "Conversations that were looked for at other replicas: found, missing, or unanswered in time.",
);
pub(in crate::telemetry) const REFUSALS: Family =
    family("touchline_claude_refusals_total", Counter, &["tier"], "Answers in which the model refused.");
pub(in crate::telemetry) const TRIMMED: Family = family(
    "touchline_claude_trimmed_turns_total",
    Counter,
    &[],
    "Turns dropped from conversations that neared the end of the window.",
);
pub(in crate::telemetry) const NEAR_WINDOW: Family = family(
    "touchline_claude_near_window_total",
    Counter,
    &[],
    "Calls that fill more than 80 % of their model's window, by estimate.",
);
pub(in crate::telemetry) const RESPONSE_CACHE: Family = family(
    "touchline_claude_response_cache_total",
    Counter,
    &["result"],
    "Lookups in the response cache, by result.",
);
pub(in crate::telemetry) const BAD_OVERRIDES: Family = family(
    "touchline_claude_bad_overrides_total",
    Counter,
    &[],
    "Values of X-Touchline-Tier that name no tier; they were ignored.",
);

/// All of them, in the order of the documentation.
pub(super) const ALL: [Family; 28] = [
    CALLS,
    CALL_DURATION,
    FIRST_TOKEN,
    OVERHEAD,
    DECISIONS,
    TOKENS,
    COST,
    BASELINE_COST,
    ROUTE_COST,
    WOULD_SAVE,
    RETRIES,
    FALLBACKS,
    TRANSFORMS,
    BREAKPOINTS,
    USAGE_UNKNOWN,
    NOT_COUNTED,
    BATCH_ITEMS,
    ESTIMATED,
    BUDGET_USED,
    BUDGET_REFUSED,
    CONVERSATIONS,
    EVICTIONS,
    SHARED,
    REFUSALS,
    TRIMMED,
    NEAR_WINDOW,
    RESPONSE_CACHE,
    BAD_OVERRIDES,
];
