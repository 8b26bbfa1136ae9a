//! The record of one call in the making. It is closed once, whatever happens: when the last of those who hold it lets
//! go, which are the answer's body and the one who sends it.
//!
//! Closing also teaches: what the conversation, the provider's cache and the budgets are told comes from what the answer
//! said was used.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Core,
    budget::Reserved,
    catalog::Model,
    conversation::{ModelIndex, Warm},
    cost::{self, Mark, Terms},
    decide::tokens_of,
    message::Word,
    rhythm::{FIVE_MINUTES, Met, ONE_HOUR},
    rules::Rules,
    shared,
    usage::{Seen, StopReason, Usage},
};
use crate::{
    config::MessageType,
    net::{Done, End, Sent},
    telemetry::{
        Held,
        claude::{Breakpoint, Call, RoutingReason, Tokens},
        record::Outcome,
    },
};

/// Bytes of text for a thousand tokens of an answer that broke off.
const BYTES_PER_KILOTOKEN: u32 = 3_200;

/// A hold on the record of a call.
#[derive(Clone)]
pub(super) struct Books(Arc<Entry>);

struct Entry {
    core: Arc<Core>,
    rules: Arc<Rules>,
    open: Mutex<Option<Box<Open>>>,
}

/// What is known so far.
struct Open {
    call: Call,
    seen: Option<Seen>,
    turn: Option<Turn>,
    reserved: Reserved,
    /// Whether nobody has asked for this call, so that what it costs comes off what is saved.
    is_extra: bool,
}

/// What is to be settled with the tables once the answer is known.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// What the conversation is remembered by; none where it is not.
    pub(super) whole: Option<u128>,
    /// The first of the names of its earlier turns, which all of them have in common.
    pub(super) first: Option<u128>,
    /// Hash and bytes of each beginning of the prompt.
    pub(super) boundaries: Vec<(u128, usize)>,
    /// The client's own breakpoints.
    pub(super) marks: Vec<Mark>,
    /// Whether the mark on tools and system lasts an hour, where there is one.
    pub(super) marked_system: Option<bool>,
    pub(super) requested: Option<ModelIndex>,
    pub(super) used: Option<ModelIndex>,
    pub(super) kind: MessageType,
    /// Under what it is counted what becomes of breakpoints.
    pub(super) rhythm: u64,
    /// Whether the call has a history that nobody knows.
    pub(super) is_lost: bool,
    pub(super) credential: u64,
    /// Whether breakpoints of ours were sent, and whether they last an hour.
    pub(super) breakpoints: Option<bool>,
    /// Whether the client's own breakpoints last an hour, where it has some.
    pub(super) own_breakpoints: Option<bool>,
    /// The time since the turn before.
    pub(super) gap: Option<Duration>,
    /// Whether that turn was on the same model: of another one's cache nothing can be read.
    pub(super) is_on_same: bool,
    pub(super) is_geo_us: bool,
    /// Whether not a byte of this call, nor of its conversation, was changed.
    pub(super) is_untouched: bool,
    pub(super) bytes: u64,
}

impl Books {
    pub(super) fn open(core: &Arc<Core>, rules: &Arc<Rules>, call: Call) -> Self {
        let is_extra = call.reason == RoutingReason::Judge;
        let open = Open { call, seen: None, turn: None, reserved: Reserved::default(), is_extra };
        let (core, rules) = (Arc::clone(core), Arc::clone(rules));
        Self(Arc::new(Entry { core, rules, open: Mutex::new(Some(Box::new(open))) }))
    }

    /// Changes the record.
    pub(super) fn note(&self, change: impl FnOnce(&mut Call)) {
        if let Some(open) = self.0.open.lock().as_mut() {
            change(&mut open.call);
        }
    }

    /// Notes what is to be settled at the end.
    pub(super) fn settle_at_end(&self, turn: Turn, reserved: Reserved) {
        if let Some(open) = self.0.open.lock().as_mut() {
            open.turn = Some(turn);
            open.reserved = reserved;
        }
    }

    /// Notes what is reserved for a call whose answer settles nothing else.
    pub(super) fn hold(&self, reserved: Reserved) {
        if let Some(open) = self.0.open.lock().as_mut() {
            open.reserved = reserved;
        }
    }

    /// Puts what was used so far into a record of its own, with what was reserved for it. This one goes on with another
    /// call for the same client.
    pub(super) fn split(&self, call: Call, seen: Seen) {
        let reserved = self.0.open.lock().as_mut().map(|open| {
            open.seen = None;
            std::mem::take(&mut open.reserved)
        });
        let Some(reserved) = reserved else { return };
        let open = Open { call, seen: Some(seen), turn: None, reserved, is_extra: true };
        close(&self.0.core, &self.0.rules, open);
    }

    /// Changes what is to be settled.
    pub(super) fn amend(&self, change: impl FnOnce(&mut Turn)) {
        if let Some(turn) = self.0.open.lock().as_mut().and_then(|open| open.turn.as_mut()) {
            change(turn);
        }
    }

    /// Notes the first byte of the answer's body.
    pub(super) fn first_byte(&self) {
        self.note(|call| {
            if call.first_byte_us.is_none() {
                call.first_byte_us = Some(micros_since(call.started));
            }
        });
    }

    /// Notes what was seen of the answer.
    pub(super) fn seen(&self, seen: Seen) {
        if let Some(open) = self.0.open.lock().as_mut() {
            open.seen = Some(seen);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(open) = self.open.get_mut().take() {
            close(&self.core, &self.rules, *open);
        }
    }
}

fn close(core: &Arc<Core>, rules: &Rules, open: Open) {
    let Open { mut call, seen, turn, reserved, is_extra } = open;
    call.total_us = micros_since(call.started);
    if std::thread::panicking() {
        call.outcome = Outcome::Panic;
    }
    let is_answered = (200..300).contains(&call.status);
    let seen = seen.filter(|_| is_answered).unwrap_or_default();
    // The answer names the model that gave it, whatever was asked for.
    let named = seen.model.as_ref().map(Word::as_str).and_then(|name| rules.index(name));
    let used = named.or_else(|| turn.as_ref().and_then(|turn| turn.used));
    if turn.is_none() {
        call.model = Arc::clone(rules.label(used));
        call.tier = used.and_then(|used| rules.tier_at(used));
    }
    if seen.error.is_some() && call.outcome == Outcome::Done {
        call.outcome = Outcome::UpstreamAbort;
    }
    let tokens = tokens_used(&seen, &mut call);
    call.tokens = tokens;
    call.refused = seen.stop_reason == Some(StopReason::Refusal);
    let unix_s = unix_now();
    if let (Some(tokens), Some(model)) = (tokens, used.and_then(|used| rules.model(used))) {
        let turn = turn.as_ref();
        price(core, rules, &mut call, &Priced { seen: &seen, turn, model, tokens, unix_s, is_extra });
    }
    let cost = call.cost.unwrap_or(0);
    if let Some(turn) = &turn {
        teach(core, &mut call, turn, &seen, used);
        shared::publish(core, rules, turn, used);
    }
    core.claude.settle(reserved, cost);
    core.claude.telemetry.finish_call(&core.claude.stats, call);
}

/// The tokens of an answer. Of one that broke off, the output is an estimate by what had come.
fn tokens_used(seen: &Seen, call: &mut Call) -> Option<Tokens> {
    let usage = seen.usage.as_ref().filter(|_| !seen.is_lost)?;
    let mut tokens = of_usage(usage);
    call.is_estimated = !usage.split_known;
    // An error inside a stream ends it, and says nothing of what was used until then.
    if !seen.is_ended || seen.error.is_some() {
        tokens.output = tokens.output.max(tokens_of(seen.output_bytes, BYTES_PER_KILOTOKEN));
        call.is_estimated = true;
    }
    Some(tokens)
}

const fn of_usage(usage: &Usage) -> Tokens {
    Tokens {
        input: usage.input,
        output: usage.output,
        cache_read: usage.cache_read,
        cache_write_5m: usage.cache_write_5m,
        cache_write_1h: usage.cache_write_1h,
    }
}

/// What a call is priced by.
struct Priced<'a> {
    seen: &'a Seen,
    turn: Option<&'a Turn>,
    model: &'a Model,
    tokens: Tokens,
    unix_s: u64,
    is_extra: bool,
}

/// What the call cost, and what it would have cost otherwise.
fn price(core: &Core, rules: &Rules, call: &mut Call, priced: &Priced<'_>) {
    let Priced { seen, turn, model, mut tokens, unix_s, is_extra } = *priced;
    let usage = seen.usage.as_ref();
    let is = |word: Option<&Word>, name: &str| word.is_some_and(|word| word.as_str() == name);
    let terms = Terms {
        is_batch: is(usage.and_then(|usage| usage.service_tier.as_ref()), "batch"),
        is_geo_us: is(usage.and_then(|usage| usage.geo.as_ref()), "us")
            || turn.is_some_and(|turn| turn.is_geo_us),
        is_fast: is(usage.and_then(|usage| usage.speed.as_ref()), "fast"),
    };
    // Without a split of the writes, they lasted as long as the breakpoints that were sent.
    let is_hour = turn.and_then(|turn| turn.breakpoints.or(turn.own_breakpoints)) == Some(true);
    if usage.is_some_and(|usage| !usage.split_known) && is_hour {
        (tokens.cache_write_5m, tokens.cache_write_1h) = (0, tokens.cache_write_5m);
        call.tokens = Some(tokens);
    }
    let Some(price) = model.price_at(unix_s) else { return };
    let Some(cost) = cost::cost(price, &tokens, terms) else { return };
    call.cost = Some(picos(cost));
    let Some(turn) = turn else {
        let asked_for = if is_extra { 0 } else { picos(cost) };
        (call.baseline_requested, call.baseline_premium) = (asked_for, asked_for);
        return;
    };
    (call.baseline_requested, call.baseline_premium) = (picos(cost), picos(cost));
    let Some(requested) = turn.requested.and_then(|requested| rules.model(requested)) else { return };
    let per = per_kilotoken(turn.bytes, tokens.prompt());
    let boundaries: Vec<_> =
        turn.boundaries.iter().map(|(hash, bytes)| (*hash, tokens_of(*bytes as u64, per))).collect();
    let asked = cost::Asked {
        requested,
        used: model,
        boundaries: &boundaries,
        marks: &turn.marks,
        tokens,
        terms,
        is_untouched: turn.is_untouched,
    };
    let premium = rules.premium().unwrap_or(requested);
    let savings = core.claude.baselines.lock().price(&asked, premium, unix_s);
    call.baseline_requested = savings.requested.map_or(picos(cost), picos);
    call.baseline_premium = savings.premium.map_or(picos(cost), picos);
}

/// Tells the tables what the answer has shown.
fn teach(core: &Core, call: &mut Call, turn: &Turn, seen: &Seen, used: Option<ModelIndex>) {
    let claude = &core.claude;
    let now = Instant::now();
    let Some(tokens) = call.tokens else { return };
    let prompt = tokens.prompt();
    if let Some(whole) = turn.whole {
        claude.conversations.amend(whole, |state| {
            state.at = now;
            state.bytes_per_kilotoken = per_kilotoken(turn.bytes, prompt);
            if seen.has_thinking {
                state.thinking_by = used;
            }
        });
    }
    if seen.is_ended && tokens.output > 0 {
        claude.outputs.learn(turn.kind, tokens.output);
    }
    let written = tokens.cache_write_5m + tokens.cache_write_1h;
    let tokens_read = tokens.cache_read;
    let held = tokens_read + written;
    if let (Some(used), Some((hash, _))) = (used, turn.boundaries.last())
        && held > 0
    {
        let is_hour = turn.breakpoints.or(turn.own_breakpoints).unwrap_or(tokens.cache_write_1h > 0);
        // An entry lives from the beginning of the call that wrote or read it.
        let at = call.started;
        claude.warmth.note(turn.credential, used, *hash, Warm { tokens: held, is_hour, at });
        // Other conversations share tools and system where these have a mark of their own.
        if let Some((hash, bytes)) = turn.boundaries.first() {
            let tokens = tokens_of(*bytes as u64, per_kilotoken(turn.bytes, prompt));
            // A first turn can only have read what others have written.
            let has_read = turn.gap.is_none() && tokens_read > 0;
            let is_hour = turn.marked_system.or_else(|| has_read.then_some(is_hour));
            if let Some(is_hour) = is_hour
                && smallest_cacheable(core, used).is_some_and(|smallest| tokens >= smallest)
            {
                claude.warmth.note(turn.credential, used, *hash, Warm { tokens, is_hour, at });
            }
        }
    }
    if let Some(gap) = turn.gap {
        claude.rhythms.change(turn.rhythm, |rhythm| rhythm.saw(gap));
    }
    if let Some(is_hour) = turn.breakpoints {
        let stop_after = call_stop_after(core);
        let read = tokens.cache_read;
        let life = if is_hour { ONE_HOUR } else { FIVE_MINUTES };
        let is_due = turn.is_lost || (turn.is_on_same && turn.gap.is_some_and(|gap| gap < life));
        let met = Met { read, written, is_due };
        let stopped = claude.rhythms.change(turn.rhythm, |rhythm| rhythm.met(met, stop_after, now));
        let what = match (read, written) {
            _ if stopped => Breakpoint::Stopped,
            (1.., _) => Breakpoint::Read,
            (0, 1..) => Breakpoint::Written,
            (0, 0) => Breakpoint::Nothing,
        };
        if stopped {
            tracing::info!(
                route = %call.route,
                "prompts change at their beginning from turn to turn: no breakpoints for them for an hour"
            );
        }
        call.breakpoint = Some((what, is_hour));
    }
}

fn smallest_cacheable(core: &Core, used: ModelIndex) -> Option<u64> {
    core.claude.rules.load().model(used).map(|model| model.min_cacheable)
}

fn call_stop_after(core: &Core) -> u8 {
    core.claude.rules.load().config.prompt_cache.stop_after
}

/// Bytes of a body for a thousand tokens of its prompt, held to what can be.
fn per_kilotoken(bytes: u64, tokens: u64) -> u32 {
    let per = bytes.saturating_mul(1000) / tokens.max(1);
    u32::try_from(per).unwrap_or(u32::MAX).clamp(500, 50_000)
}

fn picos(cost: super::money::PicoUsd) -> u64 {
    u64::try_from(cost.picos().max(0)).unwrap_or(u64::MAX)
}

/// The wall clock, in seconds since 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// The sender's hold on a call: it hears how the sending ended.
pub struct Journal {
    books: Option<Books>,
    _in_flight: Held,
}

impl Journal {
    /// A journal of a call, or of a request that is none.
    pub(super) fn new(core: &Core, books: Option<Books>) -> Self {
        Self { books, _in_flight: core.claude.listener.request() }
    }
}

impl Done for Journal {
    fn sent(mut self, sent: Sent) {
        let Some(books) = self.books.take() else { return };
        books.note(|call| {
            // What the relay or an error of ours has said before stands.
            if call.outcome == Outcome::ClientAbort {
                call.outcome = match sent.end {
                    End::Complete => Outcome::Done,
                    End::Client => Outcome::ClientAbort,
                    End::Body => Outcome::UpstreamAbort,
                };
            }
        });
    }
}
