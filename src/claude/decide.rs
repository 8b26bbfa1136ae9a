//! The decision: which model answers a call, and why. A pure function of the call, what is remembered of its
//! conversation, the compiled rules and the time.
//!
//! The steps run in the order of the functions below; the last one that changed the result gives the reason.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    asked::{Asked, Head, Override},
    classify::{self, Verdict},
    conversation::{Found, ModelIndex, State, Warm},
    cost::Ttl,
    fit::Fit,
    gate::{Direction, Move, Priced, Traffic},
    message::BlockSet,
    rhythm::{FIVE_MINUTES, Rhythm},
    rules::{Route, Rules},
};
use crate::{
    config::{MessageType, ModelTier, Preference, Transforms},
    telemetry::claude::RoutingReason as Reason,
};

/// What going back to a cheaper model must gain to be allowed before its time, as a share of a hundred of staying.
const EARLY_GAIN_PERCENT: u32 = 25;

/// An entry of the cache that ends by a move with more than this probability is priced as if it did, in millionths. On
/// average such moves would pay, but single conversations would cost more than they had without routing. Found by
/// replaying conversations (`simulation`): from half a percent on some do.
const MOST_RISK_PPM: u32 = 2_000;

/// Bytes of a body for a thousand tokens, until an answer has told.
pub(super) const BYTES_PER_KILOTOKEN: u32 = 3_200;

/// What is known when a call is decided.
pub(super) struct Known<'a> {
    pub(super) rules: &'a Rules,
    pub(super) route: &'a Route,
    pub(super) head: &'a Head,
    pub(super) asked: &'a Asked,
    pub(super) found: Found,
    pub(super) rhythm: Rhythm,
    /// How the cache of a model stands to this call: its longest warm beginning.
    pub(super) warm: &'a dyn Fn(ModelIndex) -> Option<Warm>,
    /// Whether the call will have breakpoints, and whether they last an hour.
    pub(super) breakpoints: Option<bool>,
    /// Tokens of an answer to a message of a type, as expected.
    pub(super) output: &'a dyn Fn(MessageType) -> u64,
    /// Whether a soft budget is used up.
    pub(super) is_soft: &'a dyn Fn(Option<ModelTier>) -> bool,
    pub(super) now: Instant,
    pub(super) unix_s: u64,
}

/// What was decided.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    /// The model that answers; none where it is the client's, byte for byte.
    pub(super) model: Option<ModelIndex>,
    /// What is changed in the call so that this model takes it.
    pub(super) transforms: Transforms,
    /// The tier of the model that answers.
    pub(super) tier: Option<ModelTier>,
    /// The tier that was wanted before guards and prices were asked.
    pub(super) wanted: Option<ModelTier>,
    pub(super) reason: Reason,
    pub(super) kind: MessageType,
    /// Whether the last user turn is serious, or one shortly before.
    pub(super) is_serious: bool,
    /// Whether the last user turn itself is.
    pub(super) is_serious_now: bool,
    /// The priced alternatives, where prices were asked.
    pub(super) priced: Vec<(ModelIndex, Priced)>,
    /// Why models of the wanted tier could not take the call.
    pub(super) refused: Vec<(ModelIndex, Reason)>,
}

impl Decision {
    /// A call that keeps its model.
    pub(super) const fn kept(tier: Option<ModelTier>, reason: Reason) -> Self {
        Self {
            model: None,
            transforms: Transforms::NONE,
            tier,
            wanted: tier,
            reason,
            kind: MessageType::Unknown,
            is_serious: false,
            is_serious_now: false,
            priced: Vec::new(),
            refused: Vec::new(),
        }
    }
}

/// Decides a call. The classifier is asked only where its verdict matters.
pub(super) fn decide(known: &Known<'_>, classify: impl FnOnce() -> Verdict) -> Decision {
    let mut decision = decide_model(known, classify);
    decision.transforms = transforms(known, decision.model);
    decision
}

/// What is changed in a call so that a model takes it which may take it.
pub(super) fn transforms(known: &Known<'_>, model: Option<ModelIndex>) -> Transforms {
    let has_any = !known.rules.config.rewrite.transforms.is_empty();
    model.filter(|_| has_any).and_then(|model| allows(known, model).ok()).unwrap_or_default()
}

fn decide_model(known: &Known<'_>, classify: impl FnOnce() -> Verdict) -> Decision {
    let requested = &known.asked.message.model;
    let own = known.rules.tier_of(requested);
    if known.head.tier == Some(Override::Off) {
        return Decision::kept(own, Reason::Override);
    }
    let Some(own) = own else { return Decision::kept(None, Reason::NotOurs) };
    if let Some(reason) = bound(known) {
        return Decision::kept(Some(own), reason);
    }
    let is_named = matches!(known.head.tier, Some(Override::Tier(_)));
    if let Some(decision) =
        remembered(known, own).filter(|decision| !is_named || decision.reason == Reason::ToolLoop)
    {
        return decision;
    }
    let verdict = classify();
    let mut decision = wanted(known, own, &verdict);
    let wish = decision.wanted.unwrap_or(own);
    place(known, &mut decision, own, wish);
    soften(known, &mut decision, own, &verdict);
    decision
}

/// Step 3: what binds a call to its model.
fn bound(known: &Known<'_>) -> Option<Reason> {
    let message = &known.asked.message;
    let parameters = &message.parameters;
    if parameters.has_thread {
        return Some(Reason::Thread);
    }
    let is_bound = parameters.has_fallbacks
        || parameters.has_container
        || message.has_blocks(BlockSet::COMPACTION)
        || parameters.has_compaction_edit
        || parameters.speed.as_ref().is_some_and(|speed| *speed != "standard")
        || message.has_changes()
        || message.has_repeated_keys;
    is_bound.then_some(Reason::Feature)
}

/// Step 4: the same turn again, and a conversation in the middle of a tool's work or one that may not move.
fn remembered(known: &Known<'_>, own: ModelTier) -> Option<Decision> {
    let (state, reason) = match known.found {
        Found::Same(state) => (state, Reason::SameTurn),
        Found::Parent(state) if known.asked.message.is_tool_loop() => (state, Reason::ToolLoop),
        Found::Parent(state) if state.no_route => (state, Reason::NoRoute),
        Found::New if known.asked.message.is_tool_loop() => {
            return Some(Decision::kept(Some(own), Reason::ToolLoop));
        }
        Found::Parent(_) | Found::New => return None,
    };
    let mut decision = Decision::kept(Some(own), reason);
    decision.is_serious = state.serious_left > 0;
    let is_other = known.rules.index(&known.asked.message.model) != Some(state.model);
    if !state.no_route && is_other && allows(known, state.model).is_ok() {
        decision.model = Some(state.model);
        decision.tier = known.rules.tier_at(state.model);
        decision.wanted = decision.tier;
    }
    Some(decision)
}

/// Steps 5 to 10: the tier that the content wants.
fn wanted(known: &Known<'_>, own: ModelTier, verdict: &Verdict) -> Decision {
    let is_serious = verdict.bars_economy
        || matches!(known.found, Found::Parent(State { serious_left, .. }) if serious_left > 0);
    let mut decision = Decision {
        kind: verdict.kind,
        is_serious,
        // What is not about an earlier turn is about this one.
        is_serious_now: verdict.bars_economy && verdict.signals.serious_turn.is_none_or(|turn| turn == 0),
        ..Decision::kept(Some(own), reason_of(verdict))
    };
    let mut tier = verdict.tier;
    if let Some(route) = known.route.tier {
        (tier, decision.reason) = (route, Reason::RouteRule);
    }
    if let Some(Override::Tier(named)) = known.head.tier {
        (tier, decision.reason) = (named, Reason::Override);
    }
    if is_serious && tier == ModelTier::Economy {
        (tier, decision.reason) = (ModelTier::Standard, Reason::Serious);
    }
    if decision.reason != Reason::Override {
        let user = known.asked.message.parameters.user_id(&known.asked.body);
        let preferred = match known.rules.preference(user.as_deref()) {
            Preference::PremiumUser => tier.max(ModelTier::Standard),
            Preference::CostConscious => tier.min(ModelTier::Standard),
            Preference::None => tier,
        };
        if preferred != tier {
            (tier, decision.reason) = (preferred, Reason::Preference);
        }
        if !known.rules.may_move(own, tier) {
            (tier, decision.reason) = (own, Reason::Moves);
        }
    }
    decision.wanted = Some(tier);
    decision
}

/// The reason of the classifier's verdict.
const fn reason_of(verdict: &Verdict) -> Reason {
    match verdict.reason {
        classify::Reason::SystemRule => Reason::SystemRule,
        classify::Reason::Serious => Reason::Serious,
        classify::Reason::Assessment => Reason::Assessment,
        classify::Reason::TwoSignals => Reason::TwoSignals,
        classify::Reason::Unknown => Reason::Unknown,
        classify::Reason::Type(kind) => match kind {
            MessageType::Greeting => Reason::Greeting,
            MessageType::SmallTalk => Reason::SmallTalk,
            MessageType::Confirmation => Reason::Confirmation,
            MessageType::Logistics => Reason::Logistics,
            MessageType::Coaching => Reason::Coaching,
            MessageType::ChallengeGuidance => Reason::ChallengeGuidance,
            MessageType::GoalSetting => Reason::GoalSetting,
            MessageType::EmotionalSupport => Reason::EmotionalSupport,
            MessageType::Assessment => Reason::Assessment,
            MessageType::Unknown => Reason::Unknown,
        },
    }
}

/// Steps 11 and 12: the model of a tier that may take the call, if the move is worth its price.
fn place(known: &Known<'_>, decision: &mut Decision, own: ModelTier, tier: ModelTier) {
    let rules = known.rules;
    let requested = rules.index(&known.asked.message.model);
    let present = match known.found {
        // A cheaper tier is visited, each turn anew: it is priced against the model that the conversation comes back to,
        // whose cache is not renewed meanwhile.
        Found::Parent(state) if tier >= own && rules.tier_at(state.model).is_some() => Some(state.model),
        _ => requested,
    };
    (decision.model, decision.tier) = (None, Some(own));
    // In the requested model's tier the client's own model is the candidate, byte for byte.
    let target = if tier == own { Ok(requested) } else { candidate(known, decision, tier).map(Some) };
    let target = match target {
        Ok(target) => target,
        Err(reason) => {
            decision.reason = reason;
            return;
        }
    };
    let moves = present.zip(target).filter(|(present, target)| present != target);
    if let Some((present, target)) = moves
        && decision.reason != Reason::Override
        && let Some(reason) = held(known, decision, present, target)
        // Staying must be possible, and serious content never stays on the economy tier.
        && allows(known, present).is_ok()
        && !(decision.is_serious && rules.tier_at(present) == Some(ModelTier::Economy))
    {
        decision.reason = reason;
        settle_on(known, decision, Some(present));
        return;
    }
    settle_on(known, decision, target);
}

/// Notes the model that answers; the client's own is left alone.
fn settle_on(known: &Known<'_>, decision: &mut Decision, model: Option<ModelIndex>) {
    let requested = known.rules.index(&known.asked.message.model);
    let Some(model) = model.filter(|model| Some(*model) != requested) else { return };
    decision.model = Some(model);
    decision.tier = known.rules.tier_at(model);
}

/// The first model of a tier that may take the call; one that takes it as it is before one that does not.
fn candidate(known: &Known<'_>, decision: &mut Decision, tier: ModelTier) -> Result<ModelIndex, Reason> {
    let requested = known.rules.catalog.find(&known.asked.message.model);
    let (mut first, mut changed) = (None, None);
    for index in known.rules.candidates(tier, requested) {
        match allows(known, index) {
            Ok(made) if made.is_none() => return Ok(index),
            Ok(_) => _ = changed.get_or_insert(index),
            Err(reason) => {
                decision.refused.push((index, reason));
                first.get_or_insert(reason);
            }
        }
    }
    changed.ok_or(first.unwrap_or(Reason::Capability))
}

/// Whether a model may take the call in the requested one's place, and what has to be changed for that.
fn allows(known: &Known<'_>, index: ModelIndex) -> Result<Transforms, Reason> {
    let rules = known.rules;
    let requested = rules.catalog.find(&known.asked.message.model).ok_or(Reason::Capability)?;
    let target = rules.model(index).ok_or(Reason::Capability)?;
    if target.id == requested.id {
        return Ok(Transforms::NONE);
    }
    let thinking_by = match known.found {
        Found::Parent(state) | Found::Same(state) => state.thinking_by,
        Found::New => None,
    };
    let thinking_by = thinking_by.and_then(|by| rules.model(by)).map(|model| model.id.as_str());
    let fit = Fit::new(rules, known.asked, known.head, thinking_by, tokens(known));
    fit.may_take(rules, target, requested, known.unix_s)
}

/// Why a conversation stays on its present model, if it does.
fn held(
    known: &Known<'_>,
    decision: &mut Decision,
    present: ModelIndex,
    target: ModelIndex,
) -> Option<Reason> {
    let rules = known.rules;
    let (from, to) = (rules.tier_at(present)?, rules.tier_at(target)?);
    let state = match known.found {
        Found::Parent(state) => Some(state),
        Found::Same(_) | Found::New => None,
    };
    let priced = price(known, decision.kind, present, target);
    if let Some(priced) = priced {
        decision.priced.push((target, priced));
    }
    if to > from {
        // Quality is never held back but where the price of a single visit is out of proportion.
        let is_too_dear = to == ModelTier::Premium && priced.is_some_and(|priced| !priced.moves);
        return is_too_dear.then_some(Reason::Gate);
    }
    let goes_home = rules.index(&known.asked.message.model) == Some(target);
    if let Some(state) = state {
        if !goes_home
            && target != state.model
            && state.moves.count_ones() >= u32::from(rules.config.hold.moves_per_10_turns)
        {
            return Some(Reason::Hold);
        }
        let gains = |priced: Priced| priced.gain >= priced.stay.times(EARLY_GAIN_PERCENT, 100);
        if state.dearer_left > 0 && !priced.is_some_and(gains) {
            return Some(Reason::Hold);
        }
    }
    // What is written at home is read from then on, so that a dearer turn there still saves. Anywhere else there is no proof
    // that the move saves without a price.
    (!goes_home && !priced.is_some_and(|priced| priced.moves)).then_some(Reason::Gate)
}

/// Prices a move between two models.
fn price(known: &Known<'_>, kind: MessageType, present: ModelIndex, target: ModelIndex) -> Option<Priced> {
    let rules = known.rules;
    let (stay, go) = (rules.model(present)?, rules.model(target)?);
    let direction =
        if rules.tier_at(target)? > rules.tier_at(present)? { Direction::Up } else { Direction::Down };
    let total = tokens(known);
    let own = (known.warm)(present);
    let ttl = known.breakpoints.map(Ttl::of_hour);
    let life = own.map_or(FIVE_MINUTES, |warm| warm.life());
    let elapsed = own.map_or(Duration::ZERO, |warm| known.now.saturating_duration_since(warm.at));
    let prefix = own.map_or(0, |warm| warm.tokens.min(total));
    // It is the requested model that a conversation comes back to; from anywhere else it only goes home.
    let requested = rules.index(&known.asked.message.model);
    let returns = requested == Some(present);
    // A visit has no breakpoint and so reads none either: the next turn likely goes back.
    let is_lasting = requested == Some(target) || known.found.is_on(target);
    let expiry = known.rhythm.lost_by_skipping(life, elapsed);
    let traffic = Traffic {
        prefix,
        is_warm: own.is_some(),
        fresh: total - prefix,
        output: (known.output)(kind),
        target_warm: (known.warm)(target).filter(|_| is_lasting).map_or(0, |warm| warm.tokens),
        stay_ttl: ttl,
        target_ttl: ttl.filter(|_| is_lasting),
        return_ppm: if returns && ttl.is_some() {
            rules.config.gate.return_probability.millionths()
        } else {
            0
        },
        expiry_ppm: if expiry > MOST_RISK_PPM { 1_000_000 } else { expiry },
    };
    rules.gate.decide(&Move { stay, target: go, direction, now_s: known.unix_s, traffic })
}

/// Step 13: a soft budget takes the call one tier down, never a serious one, and into economy only with both signals.
fn soften(known: &Known<'_>, decision: &mut Decision, own: ModelTier, verdict: &Verdict) {
    let Some(lower) = decision.tier.and_then(ModelTier::cheaper) else { return };
    let may_be_economy = verdict.tier == ModelTier::Economy && !verdict.bars_economy;
    let is_barred = decision.is_serious
        || decision.reason == Reason::Override
        || (lower == ModelTier::Economy && !may_be_economy)
        || !known.rules.may_move(own, lower);
    if is_barred || !(known.is_soft)(decision.tier) {
        return;
    }
    let target = if lower == own {
        known.rules.index(&known.asked.message.model).ok_or(Reason::Capability)
    } else {
        candidate(known, decision, lower)
    };
    if let Ok(target) = target {
        (decision.model, decision.tier) = (None, Some(own));
        settle_on(known, decision, Some(target));
        decision.reason = Reason::Budget;
    }
}

/// The model that may answer a call whose own one is overloaded: of the cheaper tier, else of the dearer one. Never of
/// economy for a serious turn or without both signals, nor where something else than content and prices has decided.
pub(super) fn neighbour(
    known: &Known<'_>,
    decision: &Decision,
    verdict: Option<&Verdict>,
) -> Option<ModelIndex> {
    let is_free = match decision.reason {
        Reason::Off
        | Reason::TooLarge
        | Reason::Unreadable
        | Reason::Signed
        | Reason::Override
        | Reason::NotOurs
        | Reason::Thread
        | Reason::Feature
        | Reason::ToolLoop
        | Reason::RouteRule
        | Reason::NoRoute => false,
        _ => !known.asked.message.is_tool_loop(),
    };
    let tier = decision.tier.filter(|_| is_free)?;
    let own = known.rules.tier_of(&known.asked.message.model)?;
    let user = known.asked.message.parameters.user_id(&known.asked.body);
    let preference = known.rules.preference(user.as_deref());
    let is_light = verdict.is_some_and(|verdict| verdict.tier == ModelTier::Economy && !verdict.bars_economy);
    let may_take = |other: ModelTier| match other {
        ModelTier::Economy => is_light && !decision.is_serious && preference != Preference::PremiumUser,
        ModelTier::Standard => true,
        ModelTier::Premium => preference != Preference::CostConscious && !(known.is_soft)(Some(other)),
    };
    let around = [tier.cheaper(), ModelTier::ALL.get(tier.index() + 1).copied()];
    around
        .into_iter()
        .flatten()
        .filter(|other| known.rules.may_move(own, *other) && may_take(*other))
        .find_map(|other| {
            if other == own {
                return known.rules.index(&known.asked.message.model);
            }
            let requested = known.rules.catalog.find(&known.asked.message.model);
            let candidates = known.rules.candidates(other, requested);
            candidates.into_iter().find(|index| allows(known, *index).is_ok())
        })
}

/// Tokens of the prompt by estimate.
fn tokens(known: &Known<'_>) -> u64 {
    prompt_tokens(known.asked, &known.found)
}

/// Tokens of a prompt by estimate: by its bytes, and by what the last answer has told of this conversation.
pub(super) fn prompt_tokens(asked: &Asked, found: &Found) -> u64 {
    let bytes = asked.lengths.last().copied().unwrap_or_default() as u64;
    let per = match found {
        Found::Parent(state) | Found::Same(state) => state.bytes_per_kilotoken,
        Found::New => BYTES_PER_KILOTOKEN,
    };
    tokens_of(bytes, per)
}

/// Tokens of so many bytes.
pub(super) fn tokens_of(bytes: u64, bytes_per_kilotoken: u32) -> u64 {
    bytes.saturating_mul(1000) / u64::from(bytes_per_kilotoken.max(1))
}

/// What a call would cost with a model, and whether the model may take it.
pub(super) struct Alternative {
    pub(super) model: ModelIndex,
    pub(super) tier: ModelTier,
    /// Why it may not take the call.
    pub(super) refused: Option<Reason>,
    /// What would be changed in the call for it.
    pub(super) transforms: Transforms,
    /// The move from the present model; none where it is that model, or has no price.
    pub(super) priced: Option<Priced>,
}

/// Every model of every tier, for those who ask why. `kind` is the type of the message.
pub(super) fn alternatives(known: &Known<'_>, kind: MessageType) -> Vec<Alternative> {
    let rules = known.rules;
    let requested = rules.index(&known.asked.message.model);
    let present = match known.found {
        Found::Parent(state) | Found::Same(state) => Some(state.model),
        Found::New => requested,
    };
    let of_tier = |tier| {
        let models = rules.candidates(tier, requested.and_then(|index| rules.model(index)));
        models.into_iter().map(move |model| (tier, model))
    };
    let all = ModelTier::ALL.into_iter().flat_map(of_tier);
    all.map(|(tier, model)| Alternative {
        model,
        tier,
        refused: allows(known, model).err(),
        transforms: allows(known, model).unwrap_or_default(),
        priced: present
            .filter(|present| *present != model)
            .and_then(|present| price(known, kind, present, model)),
    })
    .collect()
}

#[cfg(test)]
mod tests;
