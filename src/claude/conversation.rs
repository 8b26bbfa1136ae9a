//! What is remembered of conversations and of the provider's cache: models, counts and times under keyed hashes, never a
//! text. Both tables are bounded; what is forgotten costs a worse estimate, never a wrong answer.
//!
//! A conversation is found by the hashes of its beginnings. A call carries all messages so far, so the call before it is
//! one of its beginnings: the longest one that is known is its parent turn.

use std::{hash::Hash, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use moka::{notification::RemovalCause, sync::Cache};
use tokio::time::Instant;

use super::rhythm::{FIVE_MINUTES, ONE_HOUR};
use crate::telemetry::claude::ClaudeStats;

/// Beginnings that are looked up for the parent of a call.
pub(super) const STEPS: usize = 20;

/// How long the same turn gets the same model again.
const SAME_TURN: Duration = Duration::from_secs(600);

/// A move in each of the last ten turns.
pub(super) const ALL_MOVES: u16 = 0x3ff;

/// A place in the list of known models.
pub(super) type ModelIndex = u16;

/// What is remembered of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The model that answered.
    pub(super) model: ModelIndex,
    /// The model that the client asked for.
    pub(super) requested: ModelIndex,
    /// User turns in which the economy tier stays barred.
    pub(super) serious_left: u8,
    /// Turns to stay on a dearer model.
    pub(super) dearer_left: u8,
    /// Moves in the last ten turns: the lowest bit is the last turn.
    pub(super) moves: u16,
    /// Whether a call of this conversation was refused after a move.
    pub(super) no_route: bool,
    /// The model whose thinking is in the conversation.
    pub(super) thinking_by: Option<ModelIndex>,
    /// What else the call said, besides its messages.
    pub(super) settings: u64,
    /// Bytes of the body for a thousand tokens of the prompt, as the last answer told.
    pub(super) bytes_per_kilotoken: u32,
    /// The messages that were left out, by number.
    pub(super) cut: Option<(u32, u32)>,
    /// Whether breakpoints of ours last an hour; none where there are none.
    pub(super) is_hour: Option<bool>,
    /// When the turn ended.
    pub(super) at: Instant,
}

/// What the table knows of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    New,
    /// The turn before it.
    Parent(State),
    /// The very same turn, a short while ago.
    Same(State),
}

impl Found {
    /// Whether the turn before was answered by a model.
    pub(super) fn is_on(&self, model: ModelIndex) -> bool {
        matches!(self, Self::Parent(state) | Self::Same(state) if state.model == model)
    }
}

/// The conversations.
pub(super) struct Conversations {
    states: Cache<u128, State, RandomState>,
    stats: Arc<ClaudeStats>,
}

impl Conversations {
    pub(super) fn new(max: u32, idle: Duration, stats: Arc<ClaudeStats>) -> Self {
        let counted = Arc::clone(&stats);
        let states = Cache::builder()
            .max_capacity(u64::from(max))
            .time_to_idle(idle)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counted.evictions.increment();
                }
            })
            .build_with_hasher(RandomState::default());
        Self { states, stats }
    }

    /// Looks a call up by the hashes of its beginnings, the shortest first. `settings` tells calls apart that say the same
    /// but ask for something else.
    pub(super) fn find(&self, beginnings: &[u128], settings: u64, now: Instant) -> Found {
        let Some((whole, shorter)) = beginnings.split_last() else { return Found::New };
        if let Some(state) = self.states.get(whole)
            && state.settings == settings
            && now.saturating_duration_since(state.at) <= SAME_TURN
        {
            return Found::Same(state);
        }
        let parent = shorter.iter().rev().take(STEPS).find_map(|hash| known(&self.states, hash));
        parent.map_or(Found::New, Found::Parent)
    }

    /// What is known of a turn.
    pub(super) fn state(&self, whole: u128) -> Option<State> {
        self.states.get(&whole)
    }

    /// Remembers a turn under the hash of all its messages.
    pub(super) fn remember(&self, whole: u128, state: State) {
        self.states.insert(whole, state);
        self.stats.conversations.set(i64::try_from(self.states.entry_count()).unwrap_or(i64::MAX));
    }

    /// Changes what is remembered of a turn, if it still is.
    pub(super) fn amend(&self, whole: u128, change: impl FnOnce(&mut State)) {
        if let Some(mut state) = self.states.get(&whole) {
            change(&mut state);
            self.states.insert(whole, state);
        }
    }
}

/// A prefix that the provider's cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Warm {
    /// Its tokens.
    pub(super) tokens: u64,
    /// Whether it lasts an hour.
    pub(super) is_hour: bool,
    /// When it was written or last read.
    pub(super) at: Instant,
}

impl Warm {
    /// How long it lasts from its last use.
    pub(super) const fn life(&self) -> Duration {
        if self.is_hour { ONE_HOUR } else { FIVE_MINUTES }
    }
}

/// What the provider's caches hold, as far as we have seen. Keyed as the provider does: by credential, model and
/// beginning, so that different users share a warm system prompt.
pub(super) struct Warmth(Cache<(u64, ModelIndex, u128), Warm, RandomState>);

impl Warmth {
    pub(super) fn new(max: u32) -> Self {
        let table = Cache::builder().max_capacity(u64::from(max)).time_to_live(ONE_HOUR);
        Self(table.build_with_hasher(RandomState::default()))
    }

    /// The longest warm beginning of a call on a model. The first one, tools and system, may have a mark of its own and is
    /// then found however long the call is.
    pub(super) fn find(
        &self,
        credential: u64,
        model: ModelIndex,
        beginnings: &[u128],
        now: Instant,
    ) -> Option<Warm> {
        let warm = |hash: &u128| known(&self.0, &(credential, model, *hash));
        let is_alive = |warm: &Warm| now.saturating_duration_since(warm.at) < warm.life();
        beginnings.iter().rev().take(STEPS).chain(beginnings.first()).filter_map(warm).find(is_alive)
    }

    /// What is known of one beginning.
    pub(super) fn of(&self, credential: u64, model: ModelIndex, beginning: u128) -> Option<Warm> {
        self.0.get(&(credential, model, beginning))
    }

    /// Notes that a beginning is in the cache.
    pub(super) fn note(&self, credential: u64, model: ModelIndex, beginning: u128, warm: Warm) {
        self.0.insert((credential, model, beginning), warm);
    }
}

/// What is kept under a key, asked in a way that is quick where nothing is: most beginnings of a call are unknown, and
/// `get` counts also those questions, to choose what makes room.
fn known<K, V>(table: &Cache<K, V, RandomState>, key: &K) -> Option<V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    if table.contains_key(key) { table.get(key) } else { None }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::Instant;

    use super::{Conversations, Found, State, Warm, Warmth};
    use crate::telemetry::claude::ClaudeStats;

    fn state(model: u16, at: Instant) -> State {
        State {
            model,
            requested: 1,
            serious_left: 0,
            dearer_left: 0,
            moves: 0,
            no_route: false,
            thinking_by: None,
            settings: 7,
            bytes_per_kilotoken: 3_200,
            cut: None,
            is_hour: None,
            at,
        }
    }

    fn table() -> Conversations {
        Conversations::new(100, Duration::from_secs(3600), Arc::new(ClaudeStats::new(true)))
    }

    #[test]
    fn the_longest_known_beginning_is_the_parent() {
        let (table, now) = (table(), Instant::now());
        table.remember(1, state(10, now));
        table.remember(3, state(30, now));

        assert_eq!(table.find(&[1, 2, 3, 4, 5], 7, now), Found::Parent(state(30, now)));
        assert_eq!(table.find(&[1, 2], 7, now), Found::Parent(state(10, now)));
        assert_eq!(table.find(&[8, 9], 7, now), Found::New);
        assert_eq!(table.find(&[], 7, now), Found::New);
    }

    #[test]
    fn the_same_turn_is_known_again_for_ten_minutes_if_it_asks_for_the_same() {
        let (table, now) = (table(), Instant::now());
        table.remember(3, state(30, now));

        assert_eq!(table.find(&[1, 3], 7, now), Found::Same(state(30, now)));
        assert_eq!(table.find(&[1, 3], 8, now), Found::New);
        assert_eq!(table.find(&[1, 3], 7, now + Duration::from_secs(601)), Found::New);
    }

    #[test]
    fn a_beginning_too_far_back_is_not_looked_for() {
        let (table, now) = (table(), Instant::now());
        table.remember(0, state(1, now));
        let beginnings: Vec<u128> = (0..30).collect();

        assert_eq!(table.find(&beginnings, 7, now), Found::New);
        assert_eq!(table.find(&beginnings[..21], 7, now), Found::Parent(state(1, now)));
    }

    #[test]
    fn a_state_is_small() {
        assert!(size_of::<State>() <= 256);
    }

    #[test]
    fn a_cache_entry_is_warm_for_its_life_and_for_its_model_and_credential_only() {
        let (warmth, now) = (Warmth::new(100), Instant::now());
        let short = Warm { tokens: 2_500, is_hour: false, at: now };
        warmth.note(1, 2, 77, short);

        assert_eq!(warmth.find(1, 2, &[5, 77, 88], now), Some(short));
        assert_eq!(warmth.find(1, 3, &[77], now), None);
        assert_eq!(warmth.find(2, 2, &[77], now), None);
        assert_eq!(warmth.find(1, 2, &[77], now + Duration::from_secs(300)), None);
        warmth.note(1, 2, 77, Warm { is_hour: true, ..short });
        assert!(warmth.find(1, 2, &[77], now + Duration::from_secs(3599)).is_some());
    }
}
