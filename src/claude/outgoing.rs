//! From a decision to bytes: which edits a call gets, and what is settled once its answer is known.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Claude,
    asked::Asked,
    books::Turn,
    catalog::Model,
    conversation::{ALL_MOVES, Found, ModelIndex, State, Warm},
    cost::{Mark, Ttl},
    decide::{BYTES_PER_KILOTOKEN, Decision, prompt_tokens, tokens_of},
    gate::{Gaps, choose_ttl},
    message::{Part, System},
    rules::{Route, Rules},
    splice::{self, Edits, SystemMark},
    trim::{self, Wish},
};
use crate::config::{ContextMode, PromptCacheMode, Transforms};

/// The share of a window from which on a conversation is near its end, in percent.
const NEAR_PERCENT: u64 = 80;

/// A call that is decided, and what it was decided by.
#[derive(Clone, Copy)]
pub(super) struct Decided<'a> {
    pub(super) rules: &'a Rules,
    pub(super) asked: &'a Asked,
    pub(super) found: &'a Found,
    pub(super) decision: &'a Decision,
}

/// What is changed in a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) model: Option<ModelIndex>,
    /// What is changed so that this model takes the call.
    pub(super) transforms: Transforms,
    /// Whether breakpoints are added, and whether they last an hour.
    pub(super) breakpoints: Option<bool>,
    /// Messages that are left out: how many, and where they are in the body.
    pub(super) cut: Option<trim::Cut>,
}

impl Changes {
    /// Whether anything is.
    pub(super) const fn is_none(&self) -> bool {
        self.model.is_none() && self.breakpoints.is_none() && self.cut.is_none()
    }

    /// The changed body.
    pub(super) fn apply(&self, rules: &Rules, asked: &Asked) -> Bytes {
        let model = self.model.and_then(|index| rules.model(index)).map(|model| model.id.as_str());
        let ttl = self.breakpoints.map(Ttl::of_hour);
        let edits = Edits {
            model,
            mark: ttl,
            mark_system: ttl.map(|ttl| SystemMark { ttl, wrap: rules.config.prompt_cache.wrap_system }),
            cut: self.cut.as_ref().map(|cut| cut.span.clone()),
            transforms: self.transforms,
        };
        splice::join(&splice::splice(&asked.body, &asked.message, &edits))
    }
}

impl Claude {
    /// Whether a call of a conversation would be given breakpoints on the requested model, and whether they would last an
    /// hour. The life is chosen with the first turn, and anew only where nothing of the conversation is warm any more: all
    /// of it is then written again whatever the life.
    pub(super) fn breakpoints(
        &self,
        rules: &Rules,
        asked: &Asked,
        found: &Found,
        now: Instant,
    ) -> Option<bool> {
        let settings = &rules.config.prompt_cache;
        if settings.mode == PromptCacheMode::Off
            || asked.message.has_cache_control()
            || asked.message.has_repeated_keys
            || self.rhythms.of(rhythm_key(asked, found)).is_stopped(now)
        {
            return None;
        }
        let model = rules.catalog.find(&asked.message.model)?;
        let total = tokens_of(asked.lengths.last().copied().unwrap_or_default() as u64, BYTES_PER_KILOTOKEN);
        if total < model.min_cacheable {
            return None;
        }
        match found {
            Found::Same(State { is_hour: Some(is_hour), .. }) => return Some(*is_hour),
            Found::Parent(State { is_hour: Some(is_hour), .. }) => {
                let requested = rules.index(&asked.message.model)?;
                let own = asked.beginnings.get(1..).unwrap_or_default();
                if self.warmth.find(asked.credential, requested, own, now).is_some() {
                    return Some(*is_hour);
                }
            }
            Found::Parent(_) | Found::Same(_) | Found::New => {}
        }
        let rates = model.price_at(super::books::unix_now())?.rates(total);
        let choose = |within_5m_ppm, within_1h_ppm, was_hour| {
            let gaps = Gaps { within_5m_ppm, within_1h_ppm };
            choose_ttl(rates, [total, total / 20], gaps, Some(Ttl::of_hour(was_hour))).ttl == Ttl::OneHour
        };
        Some(self.rhythms.is_hour(asked.system, settings.ttl, choose))
    }

    /// Whether a conversation is near the end of a model's window, and what may be left out of it.
    pub(super) fn window(&self, route: &Route, decided: Decided<'_>) -> Option<trim::Cut> {
        let Decided { rules, asked, found, decision } = decided;
        let known_tokens = prompt_tokens(asked, found);
        let context = &route.context;
        let model = decision.model.and_then(|index| rules.model(index));
        let model = model.or_else(|| rules.catalog.find(&asked.message.model))?;
        if context.mode == ContextMode::Off || known_tokens * 100 < model.context * NEAR_PERCENT {
            return None;
        }
        self.stats.note(|totals| totals.near_window += 1);
        if context.mode != ContextMode::Trim || decision.is_serious {
            return None;
        }
        let body = &asked.body;
        let target = context.target.of(model.context).saturating_mul(body.len() as u64) / known_tokens.max(1);
        let target = usize::try_from(target).unwrap_or(usize::MAX);
        let keep_turns = usize::try_from(context.keep_turns).unwrap_or(usize::MAX);
        let earlier = match found {
            Found::Parent(State { cut: Some((from, to)), .. })
            | Found::Same(State { cut: Some((from, to)), .. }) => {
                trim::repeat(&asked.message, body, (*from as usize)..(*to as usize), target).ok()
            }
            _ => None,
        };
        // The cut of an earlier turn is kept as long as it is enough: one that moves would miss the cache each turn.
        if let Some(cut) = earlier.filter(|cut| cut.is_enough) {
            return Some(cut);
        }
        match trim::plan(&asked.message, body, Wish { target, keep_first: context.keep_first, keep_turns }) {
            Ok(cut) if asked.is_serious_in(&rules.classifier, &cut.turns) => None,
            Ok(cut) => Some(cut),
            Err(refusal) => {
                tracing::debug!(
                    reason = refusal.as_str(),
                    "a conversation near the end of its window stays whole"
                );
                None
            }
        }
    }
}

/// What is remembered of a turn at once, so that the same turn meets the same model.
pub(super) fn state_after(decided: Decided<'_>, changes: &Changes, now: Instant) -> Option<State> {
    let Decided { rules, asked, found, decision } = decided;
    let requested = rules.index(&asked.message.model)?;
    let model = changes.model.unwrap_or(requested);
    let before = match found {
        Found::Parent(state) | Found::Same(state) => Some(*state),
        Found::New => None,
    };
    let is_retry = matches!(found, Found::Same(_));
    let tier = |index: ModelIndex| rules.tier_at(index);
    let was = before.map_or(requested, |state| state.model);
    let has_moved = was != model;
    // Going home is no move, from whichever side.
    let has_moved = has_moved && model != requested;
    let is_dearer = has_moved && tier(model) > tier(was);
    let hold = &rules.config.hold;
    // The steps of a tool are no turns of the user.
    let is_turn = !is_retry && !asked.message.is_tool_loop();
    let count = |left: u8| if is_turn { left.saturating_sub(1) } else { left };
    let moves = before.map_or(0, |state| state.moves);
    Some(State {
        model,
        requested,
        serious_left: if decision.is_serious_now {
            hold.after_serious
        } else {
            before.map_or(0, |state| count(state.serious_left))
        },
        dearer_left: if is_dearer {
            hold.dearer_turns
        } else {
            before.map_or(0, |state| count(state.dearer_left))
        },
        moves: if is_retry { moves } else { (moves << 1 | u16::from(has_moved)) & ALL_MOVES },
        no_route: before.is_some_and(|state| state.no_route),
        thinking_by: before.and_then(|state| state.thinking_by),
        settings: asked.settings,
        bytes_per_kilotoken: before.map_or(BYTES_PER_KILOTOKEN, |state| state.bytes_per_kilotoken),
        cut: changes
            .cut
            .as_ref()
            .and_then(|cut| Some((u32::try_from(cut.turns.start).ok()?, u32::try_from(cut.turns.end).ok()?))),
        is_hour: changes.breakpoints.or_else(|| before.and_then(|state| state.is_hour)),
        at: now,
    })
}

/// What is settled when the answer is known.
pub(super) fn turn(decided: Decided<'_>, changes: &Changes) -> Turn {
    let Decided { rules, asked, found, decision } = decided;
    let boundaries: Vec<_> = asked.beginnings.iter().copied().zip(asked.lengths.iter().copied()).collect();
    let last = boundaries.len().saturating_sub(1);
    let marks = asked.message.marks.iter().map(|mark| {
        // Which message a mark stands on is not kept: clients mark the end of what they send.
        let boundary = match mark.part {
            Part::Tools | Part::System => 0,
            Part::Top | Part::Messages => last,
        };
        Mark { boundary, ttl: mark.ttl }
    });
    let marks: Vec<_> = marks.collect();
    let requested = rules.index(&asked.message.model);
    let of_system = |mark: &&Mark| mark.boundary == 0;
    let marked_system = match changes.breakpoints {
        Some(is_hour) => is_system_marked(rules, asked).then_some(is_hour),
        None => marks.iter().find(of_system).map(|mark| mark.ttl == Ttl::OneHour),
    };
    let now = Instant::now();
    let (gap, was_changed) = match found {
        Found::Parent(state) => (
            Some(now.saturating_duration_since(state.at)),
            Some(state.model) != requested || state.is_hour.is_some(),
        ),
        Found::Same(_) | Found::New => (None, false),
    };
    let names = &asked.conversation;
    Turn {
        whole: names.last().copied(),
        first: names.first().copied(),
        own_breakpoints: (!marks.is_empty()).then(|| marks.iter().any(|mark| mark.ttl == Ttl::OneHour)),
        boundaries,
        marks,
        marked_system,
        requested,
        used: changes.model.or(requested),
        kind: decision.kind,
        rhythm: rhythm_key(asked, found),
        is_lost: is_lost(asked, found),
        credential: asked.credential,
        breakpoints: changes.breakpoints,
        gap,
        is_on_same: changes.model.or(requested).is_some_and(|used| found.is_on(used)),
        is_geo_us: asked.message.parameters.inference_geo.as_ref().is_some_and(|geo| *geo == "us"),
        is_untouched: changes.is_none() && !was_changed,
        bytes: asked.lengths.last().copied().unwrap_or_default() as u64,
    }
}

/// Whether a call has a history that nobody knows. A prompt with a clock at its beginning is a new one with every turn.
fn is_lost(asked: &Asked, found: &Found) -> bool {
    matches!(found, Found::New) && asked.message.turns.len() >= 3 && !asked.message.is_tool_loop()
}

/// Under what it is counted what became of the breakpoints of a call: its system prompt, or, as that of a lost call is
/// none that will come again, its credential.
fn rhythm_key(asked: &Asked, found: &Found) -> u64 {
    if is_lost(asked, found) { !asked.credential } else { asked.system }
}

/// Whether a call on a model that is not the requested one may write breakpoints: only where the conversation was on it
/// before, as a single visit would write what nobody reads.
pub(super) fn is_lasting(found: &Found, model: Option<ModelIndex>) -> bool {
    model.is_none_or(|model| found.is_on(model))
}

/// Whether a mark of ours on a call is also put on its system prompt, for other conversations to share.
fn is_system_marked(rules: &Rules, asked: &Asked) -> bool {
    match &asked.message.system {
        System::Blocks { last: Some(last), .. } => last.can_be_marked,
        System::Text(piece) => rules.config.prompt_cache.wrap_system && !piece.span.is_empty(),
        System::Blocks { .. } | System::None => false,
    }
}

/// What a call will cost by estimate, in pico-dollars.
pub(super) fn estimate(
    model: Option<&Model>,
    tokens: u64,
    output: u64,
    warm: Option<Warm>,
    unix_s: u64,
) -> u64 {
    let Some(rates) = model.and_then(|model| model.price_at(unix_s)).map(|price| *price.rates(tokens)) else {
        return 0;
    };
    let read = warm.map_or(0, |warm| warm.tokens.min(tokens));
    let fresh = tokens - read;
    read.saturating_mul(rates.cache_read)
        .saturating_add(fresh.saturating_mul(rates.input))
        .saturating_add(output.saturating_mul(rates.output))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use tokio::time::Instant;

    use super::{Changes, Decided, State, state_after};
    use crate::{
        claude::{
            asked::{Asked, Head},
            conversation::Found,
            decide::Decision,
            message::Message,
            rules::Rules,
        },
        config,
        telemetry::claude::RoutingReason,
    };

    const KEY: [u8; 32] = [7; 32];
    const SAID: &str = r#"{"model":"claude-sonnet-5-5","messages":[{"role":"user","content":"a"}]}"#;
    const TOOL: &str = r#"{"model":"claude-sonnet-5-5","messages":[
        {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}]}"#;

    fn after(body: &'static str, found: &Found, is_serious_now: bool) -> State {
        let rules = Rules::compile(config::Claude::default()).unwrap();
        let body = Bytes::from_static(body.as_bytes());
        let message = Message::read(&body, 64).unwrap();
        let asked = Asked::new(body, message, &Head::take(&mut HeaderMap::new(), &KEY), &KEY);
        let decision = Decision { is_serious_now, ..Decision::kept(None, RoutingReason::Coaching) };
        let decided = Decided { rules: &rules, asked: &asked, found, decision: &decision };
        state_after(decided, &Changes::default(), Instant::now()).unwrap()
    }

    #[test]
    fn the_time_after_serious_turns_begins_anew_with_each_of_them() {
        let first = after(SAID, &Found::New, true);
        let second = after(SAID, &Found::Parent(first), false);
        let third = after(SAID, &Found::Parent(second), true);
        let left = [first, second, third, after(SAID, &Found::Parent(third), false)];

        assert_eq!(left.map(|state| state.serious_left), [3, 2, 3, 2]);
    }

    #[test]
    fn the_same_turn_again_and_the_steps_of_a_tool_count_for_nothing() {
        let serious = State { dearer_left: 2, ..after(SAID, &Found::New, true) };

        for state in [
            after(SAID, &Found::Same(serious), false),
            after(TOOL, &Found::Parent(serious), false),
            after(TOOL, &Found::Same(serious), false),
        ] {
            assert_eq!((state.serious_left, state.dearer_left), (3, 2));
        }
    }
}
