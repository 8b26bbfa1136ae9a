//! States of conversations that replicas share, so that one which lands on another replica is no new one there.
//!
//! A state is looked for where a call has a history whose last turns this process does not know, and written when a call is
//! over. What is shared is what the table keeps: models by name, counts and times, under keyed hashes, and what the
//! provider's cache holds of it. All of it fails open and is bounded in time; what is lost, late, or of another mind about
//! the time costs a worse estimate, never a wrong answer: whatever a state says, the guards judge the call that is here.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Core,
    books::Turn,
    conversation::{ALL_MOVES, ModelIndex, STEPS, State, Warm},
    plan::Case,
    rules::Rules,
};
use crate::config::ClaudeMode;

/// The version of what is written. Another one has another meaning.
const VERSION: u8 = 1;

/// The most that a count of turns can be.
const MOST_TURNS: u8 = 15;

/// A store of states, which all replicas see.
pub trait SharedStates: Send + Sync + 'static {
    /// What lies under names that belong together, in their order; a missing one is empty. `None` when the store does not
    /// answer in time.
    fn read<'a>(&'a self, tag: &'a str, names: &'a [String]) -> Reading<'a>;

    /// Writes a state, which ends by itself after `life`, if the store is there.
    fn write<'a>(&'a self, tag: &'a str, name: &'a str, value: &'a [u8], life: Duration) -> Writing<'a>;
}

/// The future of [`SharedStates::read`], behind a pointer so that the trait can be used as an object.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Option<Vec<Vec<u8>>>> + Send + 'a>>;

/// The future of [`SharedStates::write`].
pub type Writing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What is written of a turn.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u8,
    model: String,
    requested: String,
    serious_left: u8,
    dearer_left: u8,
    moves: u16,
    no_route: bool,
    thinking_by: Option<String>,
    settings: u64,
    bytes_per_kilotoken: u32,
    cut: Option<(u32, u32)>,
    is_hour: Option<bool>,
    at_ms: u64,
    warm: Option<WarmRecord>,
}

/// What the provider's cache of a model holds of the turn.
#[derive(Debug, Serialize, Deserialize)]
struct WarmRecord {
    model: String,
    tokens: u64,
    is_hour: bool,
    at_ms: u64,
}

/// A state that was read.
struct Read {
    state: State,
    warm: Option<(ModelIndex, Warm)>,
}

/// Takes over what other replicas know of a conversation, where this one knows less.
pub(super) async fn adopt(case: &Case<'_>) {
    let Case { core, rules, asked, .. } = *case;
    let claude = &core.claude;
    let is_wanted = rules.config.conversations.shared && case.route().mode != ClaudeMode::Off;
    let Some(states) = claude.states.as_ref().filter(|_| is_wanted) else { return };
    let hashes = &asked.conversation;
    let Some(first) = hashes.first() else { return };
    let is_unknown = |hash: &&u128| claude.conversations.state(**hash).is_none();
    let unknown: Vec<u128> = hashes.iter().rev().take(STEPS + 1).take_while(is_unknown).copied().collect();
    // A call whose last turn was here, or which has none, needs nobody else.
    if unknown.len() < 2 {
        return;
    }
    let names: Vec<String> = unknown.iter().map(|hash| name_of(*hash)).collect();
    let found = states.read(&name_of(*first), &names).await;
    let word = match &found {
        None => "unanswered",
        Some(found) => {
            let times = Times::now();
            let read = |value: &Vec<u8>| decode(rules, value, times);
            let mut known =
                unknown.iter().zip(found.iter().map(read)).filter_map(|(hash, read)| Some((*hash, read?)));
            // The call itself, if it was made before, and the turn before it.
            let mut taken: Vec<_> = known.by_ref().take(1).collect();
            if taken.first().is_some_and(|(hash, _)| Some(hash) == unknown.first()) {
                taken.extend(known.next());
            }
            let has_any = !taken.is_empty();
            for (hash, read) in taken {
                claude.conversations.remember(hash, read.state);
                if let Some((model, warm)) = read.warm {
                    // The provider knows beginnings, not whose they are.
                    claude.warmth.note(asked.credential, model, hash ^ asked.owner, warm);
                }
            }
            if has_any { "found" } else { "missing" }
        }
    };
    claude.stats.note(|totals| *totals.shared.entry(word).or_default() += 1);
}

/// Tells other replicas what is known of a turn that is over.
pub(super) fn publish(core: &Arc<Core>, rules: &Rules, turn: &Turn, used: Option<ModelIndex>) {
    let claude = &core.claude;
    let Some(states) = claude.states.as_ref().filter(|_| rules.config.conversations.shared) else { return };
    let (Some(first), Some(whole)) = (turn.first, turn.whole) else { return };
    let Some(state) = claude.conversations.state(whole) else { return };
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    let warm = used.zip(turn.boundaries.last()).and_then(|(used, (beginning, _))| {
        Some((used, claude.warmth.of(turn.credential, used, *beginning)?))
    });
    let value = encode(rules, &state, warm, Times::now());
    let (states, life) = (Arc::clone(states), rules.config.conversations.idle);
    claude.drain.spawn(async move { states.write(&name_of(first), &name_of(whole), &value, life).await });
}

fn name_of(hash: u128) -> String {
    format!("{hash:032x}")
}

/// A moment by both clocks: replicas have only the one on the wall in common.
#[derive(Clone, Copy)]
struct Times {
    now: Instant,
    wall_ms: u64,
}

impl Times {
    fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now: Instant::now(), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    fn wall_of(self, at: Instant) -> u64 {
        let age = u64::try_from(self.now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        self.wall_ms.saturating_sub(age)
    }

    /// None for a time before this machine has started. What lies ahead is now.
    fn instant_of(self, wall_ms: u64) -> Option<Instant> {
        self.now.checked_sub(Duration::from_millis(self.wall_ms.saturating_sub(wall_ms)))
    }
}

fn encode(rules: &Rules, state: &State, warm: Option<(ModelIndex, Warm)>, times: Times) -> Vec<u8> {
    let name = |model| rules.label(Some(model)).to_string();
    let record = Record {
        version: VERSION,
        model: name(state.model),
        requested: name(state.requested),
        serious_left: state.serious_left,
        dearer_left: state.dearer_left,
        moves: state.moves,
        no_route: state.no_route,
        thinking_by: state.thinking_by.map(name),
        settings: state.settings,
        bytes_per_kilotoken: state.bytes_per_kilotoken,
        cut: state.cut,
        is_hour: state.is_hour,
        at_ms: times.wall_of(state.at),
        warm: warm.map(|(model, warm)| WarmRecord {
            model: name(model),
            tokens: warm.tokens,
            is_hour: warm.is_hour,
            at_ms: times.wall_of(warm.at),
        }),
    };
    // Nothing in it can fail to be written.
    serde_json::to_vec(&record).unwrap_or_default()
}

/// A state, if it is one, of models that are known here.
fn decode(rules: &Rules, value: &[u8], times: Times) -> Option<Read> {
    let record: Record = serde_json::from_slice(value).ok()?;
    if record.version != VERSION {
        return None;
    }
    let warm = record.warm.and_then(|warm| {
        let at = times.instant_of(warm.at_ms)?;
        Some((rules.index(&warm.model)?, Warm { tokens: warm.tokens, is_hour: warm.is_hour, at }))
    });
    let state = State {
        model: rules.index(&record.model)?,
        requested: rules.index(&record.requested)?,
        serious_left: record.serious_left.min(MOST_TURNS),
        dearer_left: record.dearer_left.min(MOST_TURNS),
        moves: record.moves & ALL_MOVES,
        no_route: record.no_route,
        // Thinking of a model that nobody knows is taken for that of a stranger.
        thinking_by: record.thinking_by.and_then(|name| rules.index(&name)),
        settings: record.settings,
        bytes_per_kilotoken: record.bytes_per_kilotoken.clamp(500, 50_000),
        cut: record.cut,
        is_hour: record.is_hour,
        at: times.instant_of(record.at_ms)?,
    };
    Some(Read { state, warm })
}

#[cfg(test)]
mod tests;
