//! What is done with a call: the decision with everything it is made from, the changes that follow, what is reserved for
//! it, and what is remembered at once.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Core,
    answers::{self, Key},
    asked::Asked,
    books::{Books, unix_now},
    budget::{Charged, Reserved},
    catalog::{Feature, Features, Model},
    classify::Verdict,
    conversation::{ALL_MOVES, Found, ModelIndex, State},
    decide::{self, Decision, Known},
    error::CallError,
    judge,
    outgoing::{self, Changes},
    pipeline::Begun,
    rules::{Route, Rules},
    send::Ready,
    shared,
};
use crate::{
    config::{ClaudeMode, ModelTier, OnRefusal, Transforms},
    telemetry::claude::RoutingReason,
};

/// What a decision looks at.
pub(super) struct Case<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) rules: &'a Arc<Rules>,
    pub(super) begun: &'a Begun,
    pub(super) asked: &'a Asked,
}

impl Case<'_> {
    pub(super) fn route(&self) -> &Route {
        self.rules.route_at(self.begun.route)
    }

    /// Whether what is decided is done.
    pub(super) fn acts(&self) -> bool {
        self.route().mode == ClaudeMode::Route
    }
}

/// What is done with a call.
pub(super) struct Plan {
    pub(super) changes: Changes,
    /// The model to ask where the wanted one is overloaded.
    pub(super) neighbour: Option<Neighbour>,
    pub(super) decision: Decision,
    found: Found,
    /// The call's name among identical ones, where it may have an answer of theirs.
    pub(super) key: Option<Key>,
    /// How long the judge was waited for.
    pub(super) judged: Duration,
}

/// A model that is asked in the place of an overloaded one, and what is changed in the call for it.
pub(super) type Neighbour = (ModelIndex, Transforms);

/// Decides a call and notes what was decided.
pub(super) async fn plan(case: &Case<'_>, books: &Books) -> Plan {
    let Case { core, rules, asked, .. } = *case;
    shared::adopt(case).await;
    let mut decided = decide_call(case, None);
    let since = Instant::now();
    if case.acts() {
        core.claude.judged.count();
        if let Some(unsure) = decided.unsure(case) {
            let (verdict, has_spoken) = judge::judge(case, &unsure).await;
            decided = decide_call(case, Some(verdict));
            // What came after the content, such as a price, keeps its own word.
            let is_by_content = decided.decision.reason.as_str() == verdict.reason.as_str();
            if has_spoken && is_by_content && !verdict.bars_economy {
                decided.decision.reason = RoutingReason::Judge;
            }
        }
    }
    let judged = since.elapsed();
    let Decided { mut decision, found, verdict, neighbour, breakpoints } = decided;
    if !case.acts() {
        note_what_would_be(books, &decision);
        (decision.model, decision.transforms) = (None, Transforms::NONE);
        decision.tier = rules.tier_of(&asked.message.model);
    }
    let changes = changes(case, &decision, &found, breakpoints);
    let key = key(case, &decision, verdict.as_ref(), &changes);
    let used = changes.model.or_else(|| rules.index(&asked.message.model));
    books.note(|call| {
        call.model = Arc::clone(rules.label(used));
        call.requested = Arc::clone(rules.label(rules.index(&asked.message.model)));
        call.tier = decision.tier;
        call.wanted = call.wanted.or(decision.wanted);
        call.reason = decision.reason;
        call.transforms = changes.transforms;
        call.is_stream = asked.message.parameters.is_stream;
        call.identity = Some(short(asked.identity));
        call.trimmed =
            changes.cut.as_ref().map_or(0, |cut| u32::try_from(cut.turns.len()).unwrap_or(u32::MAX));
    });
    let neighbour = neighbour.filter(|_| case.acts() && rules.config.rewrite.overload_fallback);
    Plan { changes, neighbour, decision, found, key, judged }
}

/// What is changed in a call that may be given breakpoints, which say whether they last an hour.
fn changes(case: &Case<'_>, decision: &Decision, found: &Found, breakpoints: Option<bool>) -> Changes {
    if !case.acts() {
        return Changes::default();
    }
    let Case { core, rules, asked, .. } = *case;
    let used = decision.model.or_else(|| rules.index(&asked.message.model));
    let refuses = |model: &Model| {
        let feature = Features::NONE.with(Feature::Breakpoint);
        rules.catalog.learned().refused(&model.id, feature, unix_now()).is_some()
    };
    let has_failed = match found {
        Found::Parent(state) | Found::Same(state) => state.no_route,
        Found::New => false,
    };
    // The same turn again gets what it got before.
    let had_none = matches!(found, Found::Same(state) if decision.model.is_some() && state.is_hour.is_none());
    let is_barred = has_failed || had_none || used.and_then(|used| rules.model(used)).is_some_and(refuses);
    Changes {
        model: decision.model,
        transforms: decision.transforms,
        breakpoints: breakpoints.filter(|_| !is_barred && outgoing::is_lasting(found, decision.model)),
        cut: core
            .claude
            .window(case.route(), outgoing::Decided { rules, asked, found, decision })
            .filter(|_| !has_failed),
    }
}

/// The name of a call that may have another one's answer.
fn key(case: &Case<'_>, decision: &Decision, verdict: Option<&Verdict>, changes: &Changes) -> Option<Key> {
    let Case { core, rules, begun, asked } = *case;
    let settings = &rules.config.response_cache;
    let is_on = case.acts() && (settings.enabled || settings.single_flight);
    if !is_on || decision.is_serious || !answers::is_shareable(asked) {
        return None;
    }
    // Where the content was not asked in deciding, it is asked here.
    let is_serious = match verdict {
        Some(verdict) => verdict.bars_economy,
        None => asked.classified(|exchange| rules.classifier.classify(exchange)).bars_economy,
    };
    if is_serious {
        return None;
    }
    let model = changes.model.and_then(|index| rules.model(index));
    let model = model.map_or(asked.message.model.as_str(), |model| model.id.as_str());
    Some(answers::key_of(&core.claude.key, &begun.head, &begun.parts, asked, (model, changes)))
}

/// Reserves what a call will cost.
pub(super) async fn reserve(ready: &Ready) -> Result<(), CallError> {
    let Ready { core, rules, asked, plan, .. } = ready;
    let claude = &core.claude;
    if claude.budgets.is_empty() {
        settle(ready, Reserved::default());
        return Ok(());
    }
    let used = plan.changes.model.or_else(|| rules.index(&asked.message.model));
    let charged = charged(ready, used, plan.decision.tier);
    let reserved = claude.budgets.reserve(charged, unix_now()).await?;
    settle(ready, reserved);
    Ok(())
}

/// What a call is charged with by estimate, on a model.
fn charged(ready: &Ready, used: Option<ModelIndex>, tier: Option<ModelTier>) -> Charged {
    let Ready { core, rules, asked, plan, .. } = ready;
    let claude = &core.claude;
    let warm =
        used.and_then(|used| claude.warmth.find(asked.credential, used, &asked.beginnings, Instant::now()));
    let model = used.and_then(|used| rules.model(used));
    let tokens = decide::prompt_tokens(asked, &plan.found);
    let output = claude.outputs.expected(plan.decision.kind);
    Charged {
        identity: asked.identity,
        tier,
        is_serious: plan.decision.is_serious,
        estimate: outgoing::estimate(model, tokens, output, warm, unix_now()),
    }
}

/// Notes what is settled when the answer is known, and remembers the turn.
pub(super) fn settle(ready: &Ready, reserved: Reserved) {
    settle_with(ready, &ready.plan.changes, reserved, |_| {});
}

fn settle_with(ready: &Ready, changes: &Changes, reserved: Reserved, change: impl FnOnce(&mut State)) {
    let Ready { core, rules, asked, plan: Plan { decision, found, .. }, books, .. } = ready;
    let decided = outgoing::Decided { rules, asked, found, decision };
    books.settle_at_end(outgoing::turn(decided, changes), reserved);
    let state = outgoing::state_after(decided, changes, Instant::now());
    if let (Some(whole), Some(mut state)) = (asked.conversation.last(), state) {
        change(&mut state);
        core.claude.conversations.remember(*whole, state);
    }
}

/// Whether a refusal sends the call to the client's own model: where it was moved to a cheaper tier, by nobody who named
/// that tier, between two turns, and no budget is nearly used up.
pub(super) fn may_escalate(ready: &Ready) -> bool {
    let Ready { core, rules, begun, asked, plan, .. } = ready;
    let own = rules.tier_of(&asked.message.model);
    let used = plan.changes.model.and_then(|model| rules.tier_at(model));
    rules.config.answers.on_refusal == OnRefusal::Escalate
        && used.is_some_and(|used| Some(used) < own)
        && begun.head.tier.is_none()
        && !asked.message.is_tool_loop()
        && !core.claude.budgets.is_soft(&charged(ready, rules.index(&asked.message.model), own), unix_now())
}

/// What is changed in a call that goes to the client's own model after all.
pub(super) fn home(ready: &Ready) -> Changes {
    let Ready { core, rules, begun, asked, plan, .. } = ready;
    let case = Case { core, rules, begun, asked };
    let decision = Decision { model: None, transforms: Transforms::NONE, ..plan.decision.clone() };
    let breakpoints = core.claude.breakpoints(rules, asked, &plan.found, Instant::now());
    changes(&case, &decision, &plan.found, breakpoints)
}

/// Reserves what a call will cost on the client's own model. None where a budget is used up.
pub(super) async fn reserve_home(ready: &Ready) -> Option<Reserved> {
    let Ready { core, rules, asked, .. } = ready;
    let budgets = &core.claude.budgets;
    if budgets.is_empty() {
        return Some(Reserved::default());
    }
    let own = rules.index(&asked.message.model);
    let charged = charged(ready, own, rules.tier_of(&asked.message.model));
    budgets.reserve(charged, unix_now()).await.ok()
}

/// Notes what is settled when the answer of the client's own model is known, and remembers the turn. What was refused is
/// in the conversation from now on: it does not move again soon.
pub(super) fn settle_home(ready: &Ready, home: &Changes, reserved: Reserved) {
    settle_with(ready, home, reserved, |state| state.moves = ALL_MOVES);
}

/// A decision, and what it was made from.
pub(super) struct Decided {
    pub(super) decision: Decision,
    found: Found,
    /// What the content says, where it was asked.
    verdict: Option<Verdict>,
    neighbour: Option<Neighbour>,
    /// Whether the call may be given breakpoints, and whether they last an hour.
    breakpoints: Option<bool>,
}

impl Decided {
    /// The verdict that the judge is to be asked about.
    fn unsure(&self, case: &Case<'_>) -> Option<Verdict> {
        let verdict = self.verdict.as_ref().filter(|verdict| judge::is_unsure(verdict))?;
        let is_barred = verdict.bars_economy || self.decision.is_serious;
        let is_named = case.begun.head.tier.is_some() || case.route().tier.is_some();
        let has_judge = !case.rules.config.router.judge.model.is_empty();
        (has_judge && !is_barred && !is_named).then_some(*verdict)
    }
}

/// Decides a call; with what the judge says in the place of what the classifier does.
pub(super) fn decide_call(case: &Case<'_>, judged: Option<Verdict>) -> Decided {
    let Case { core, rules, begun, asked } = *case;
    let (claude, route) = (&core.claude, case.route());
    let (now, unix_s) = (Instant::now(), unix_now());
    let found = claude.conversations.find(&asked.conversation, asked.settings, now);
    if route.mode == ClaudeMode::Off {
        let decision = Decision::kept(rules.tier_of(&asked.message.model), RoutingReason::Off);
        return Decided { decision, found, verdict: None, neighbour: None, breakpoints: None };
    }
    let breakpoints = claude.breakpoints(rules, asked, &found, now);
    let known = Known {
        rules,
        route,
        head: &begun.head,
        asked,
        found,
        rhythm: claude.rhythms.of(asked.system),
        warm: &|model| claude.warmth.find(asked.credential, model, &asked.beginnings, now),
        breakpoints: asked.message.has_cache_control().then_some(false).or(breakpoints),
        output: &|kind| claude.outputs.expected(kind),
        is_soft: &|tier| {
            let charged = Charged { identity: asked.identity, tier, is_serious: false, estimate: 0 };
            claude.budgets.is_soft(&charged, unix_s)
        },
        now,
        unix_s,
    };
    let mut verdict = None;
    let classify = || {
        let said = judged.unwrap_or_else(|| asked.classified(|exchange| rules.classifier.classify(exchange)));
        *verdict.insert(said)
    };
    let decision = decide::decide(&known, classify);
    let is_wanted = rules.config.rewrite.overload_fallback && route.mode == ClaudeMode::Route;
    let neighbour = is_wanted.then(|| decide::neighbour(&known, &decision, verdict.as_ref())).flatten();
    let neighbour = neighbour.map(|model| (model, decide::transforms(&known, Some(model))));
    Decided { decision, found, verdict, neighbour, breakpoints }
}

/// What `observe` would have saved, as the prices of the decision have it.
fn note_what_would_be(books: &Books, decision: &Decision) {
    let Some(target) = decision.model else { return };
    let gain = decision.priced.iter().find(|(index, _)| *index == target).map(|(_, priced)| priced.gain);
    books.note(|call| {
        call.would_save = gain.map_or(0, |gain| i64::try_from(gain.picos()).unwrap_or(i64::MAX));
        call.wanted = decision.tier;
    });
}

/// The part of an identity that records tell.
pub(super) fn short(identity: u64) -> u32 {
    u32::try_from(identity >> 32).unwrap_or_default()
}
