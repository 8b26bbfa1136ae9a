//! Which messages may be left out of a request that is about to outgrow its window: whole exchanges, the oldest first,
//! or none. Whether trimming is wanted, and whether the words in the cut are too serious to lose, is decided elsewhere.
//!
//! An exchange is what the user says, with all that follows up to the next words of the user: calls of tools and their
//! results stay together. What is cut is one run of messages, so that the cut is one range of bytes: from the start of
//! one message to the start of a later one, with the commas in between. The JSON around it stays as it is.

use std::{collections::HashSet, ops::Range};

use thiserror::Error;

use super::message::{BlockSet, Message, Role, Turn};

/// How much to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Bytes that the body is to have at most.
    pub target: usize,
    /// Whether the first exchange stays.
    pub keep_first: bool,
    /// How many exchanges at the end stay; at least the last one does.
    pub keep_turns: usize,
}

/// What may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The messages, by number.
    pub turns: Range<usize>,
    /// Their place in the body, for [`Edits::cut`](super::splice::Edits::cut).
    pub span: Range<usize>,
    /// Bytes that the body has without them.
    pub left: usize,
    /// Whether that is little enough. Otherwise all is cut that may be.
    pub is_enough: bool,
}

/// Why nothing may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The history has thinking blocks: the API refuses what was changed before them.
    #[error("the history has thinking blocks")]
    Thinking,
    /// The client marks its prompt for the cache, which a cut would miss.
    #[error("the client marks its prompt for the cache")]
    CacheControl,
    /// The client has the API manage the context.
    #[error("the client manages its context")]
    ContextManagement,
    /// The conversation is kept by the API.
    #[error("the conversation is kept by the API")]
    Thread,
    /// User and assistant do not take turns, or two readers may read two requests.
    #[error("user and assistant do not take turns")]
    Alternation,
    /// A result would stay whose call is cut.
    #[error("the result of a tool would lose its call")]
    ToolResult,
    /// The body is small enough, or all of it is to stay.
    #[error("there is nothing to cut")]
    Nothing,
}

impl Refusal {
    /// The word in metrics and reasons.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thinking => "thinking",
            Self::CacheControl => "cache_control",
            Self::ContextManagement => "context_management",
            Self::Thread => "thread",
            Self::Alternation => "alternation",
            Self::ToolResult => "tool_result",
            Self::Nothing => "nothing",
        }
    }
}

/// The fewest oldest exchanges that make `body` small enough.
///
/// # Errors
/// When nothing may be left out.
pub fn plan(message: &Message, body: &[u8], wish: Wish) -> Result<Cut, Refusal> {
    check(message)?;
    let starts = exchanges(&message.turns);
    let first = usize::from(wish.keep_first);
    let last = starts.len().saturating_sub(wish.keep_turns.max(1));
    if body.len() <= wish.target {
        return Err(Refusal::Nothing);
    }
    let from = *starts.get(first).ok_or(Refusal::Nothing)?;
    let ends = starts.get(first + 1..=last).unwrap_or_default();
    let mut plan = Err(Refusal::Nothing);
    for end in ends {
        let cut = cut(message, body, from..*end, wish.target)?;
        let is_enough = cut.is_enough;
        plan = Ok(cut);
        if is_enough {
            break;
        }
    }
    let plan = plan?;
    keeps_calls(message, body, &plan.turns)?;
    Ok(plan)
}

/// The cut of an earlier request of the same conversation once more: a cut that moves would miss the prompt cache each
/// turn. `target` only says whether it is still enough.
///
/// # Errors
/// When it may not be made in this request.
pub fn repeat(message: &Message, body: &[u8], turns: Range<usize>, target: usize) -> Result<Cut, Refusal> {
    check(message)?;
    let starts = exchanges(&message.turns);
    let is_start = |turn: &usize| starts.binary_search(turn).is_ok();
    if turns.is_empty() || !is_start(&turns.start) || !is_start(&turns.end) {
        return Err(Refusal::Alternation);
    }
    keeps_calls(message, body, &turns)?;
    cut(message, body, turns, target)
}

/// What forbids any cut.
fn check(message: &Message) -> Result<(), Refusal> {
    let parameters = &message.parameters;
    let is_in_turn = |(at, turn): (usize, &Turn)| {
        turn.role == if at % 2 == 0 { Role::User } else { Role::Assistant }
            && !turn.blocks.has(BlockSet::CHANGE)
    };
    if message.has_blocks(BlockSet::THINKING.with(BlockSet::REDACTED_THINKING)) {
        Err(Refusal::Thinking)
    } else if message.has_cache_control() {
        Err(Refusal::CacheControl)
    } else if parameters.has_context_management || message.has_blocks(BlockSet::COMPACTION) {
        Err(Refusal::ContextManagement)
    } else if parameters.has_thread {
        Err(Refusal::Thread)
    } else if message.has_repeated_keys || !message.turns.iter().enumerate().all(is_in_turn) {
        Err(Refusal::Alternation)
    } else {
        Ok(())
    }
}

/// Where exchanges begin: with the user, but not with what a tool gave back.
fn exchanges(turns: &[Turn]) -> Vec<usize> {
    let begins = |turn: &Turn| turn.role == Role::User && !turn.blocks.has(BlockSet::TOOL_RESULT);
    turns.iter().enumerate().filter(|(_, turn)| begins(turn)).map(|(at, _)| at).collect()
}

fn cut(message: &Message, body: &[u8], turns: Range<usize>, target: usize) -> Result<Cut, Refusal> {
    let start = |turn: usize| message.turns.get(turn).map(|turn| turn.span.start).ok_or(Refusal::Nothing);
    let span = start(turns.start)?..start(turns.end)?;
    let left = body.len().saturating_sub(span.len());
    Ok(Cut { turns, span, left, is_enough: left <= target })
}

/// Whether no result stays whose call is cut. Ids are compared as they stand in the body: a client writes them one way.
fn keeps_calls(message: &Message, body: &[u8], turns: &Range<usize>) -> Result<(), Refusal> {
    let id = |span: &Range<usize>| body.get(span.clone()).unwrap_or_default();
    let inside = message.turns.get(turns.clone()).unwrap_or_default();
    let calls: HashSet<&[u8]> = inside.iter().flat_map(|turn| &turn.tool_uses).map(id).collect();
    let kept = |at: usize| !turns.contains(&at);
    let mut results = message.turns.iter().enumerate().filter(|(at, _)| kept(*at));
    if results.any(|(_, turn)| turn.tool_results.iter().any(|result| calls.contains(id(result)))) {
        return Err(Refusal::ToolResult);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
