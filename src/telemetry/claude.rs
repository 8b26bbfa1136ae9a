//! Calls to Claude in numbers: one record per call goes in, counts of tokens, money and decisions come out.
//!
//! Calls are few beside requests, so one lock around all counts costs less than the care that many atomics need. Money
//! is whole pico-dollars.

mod call;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

pub use self::call::{Breakpoint, Call, RoutingReason, Tokens};
use super::{
    counters::{Counter, Durations, Gauge},
    latency::{Latency, Merged, Summary},
    windows::Window,
};
use crate::config::ModelTier;

/// Identities whose spending is told apart; what comes after is counted in the sums only.
const IDENTITIES: usize = 10_000;

/// Counts of calls that have something in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Calls.
    pub calls: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// What they cost, in pico-dollars.
    pub cost: u64,
    /// What the requested models would have cost, in pico-dollars.
    pub baseline_requested: u64,
    /// What the premium tier would have cost, in pico-dollars.
    pub baseline_premium: u64,
}

impl Sum {
    fn add(&mut self, call: &Call) {
        self.calls += 1;
        if let Some(tokens) = &call.tokens {
            self.tokens.add(tokens);
        }
        if let Some(cost) = call.cost {
            self.cost += cost;
            self.baseline_requested += call.baseline_requested;
            self.baseline_premium += call.baseline_premium;
        }
    }

    /// Adds another sum.
    pub(crate) fn join(&mut self, other: &Self) {
        self.calls += other.calls;
        self.tokens.add(&other.tokens);
        self.cost += other.cost;
        self.baseline_requested += other.baseline_requested;
        self.baseline_premium += other.baseline_premium;
    }

    /// What was saved against the requested models, in pico-dollars; negative where more was spent.
    #[must_use]
    pub fn saved_vs_requested(&self) -> i128 {
        i128::from(self.baseline_requested) - i128::from(self.cost)
    }

    /// What was saved against the premium tier, in pico-dollars.
    #[must_use]
    pub fn saved_vs_premium(&self) -> i128 {
        i128::from(self.baseline_premium) - i128::from(self.cost)
    }
}

/// What the calls of a model came to.
pub type ModelKey = (Option<ModelTier>, Arc<str>);

/// All counts.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// All calls.
    pub all: Sum,
    /// By tier; calls of models outside the tiers are in `all` only.
    pub tiers: [Sum; ModelTier::COUNT],
    /// By model and its tier.
    pub models: BTreeMap<ModelKey, Sum>,
    /// By route.
    pub routes: BTreeMap<Arc<str>, Sum>,
    /// By tier, model and status.
    pub statuses: BTreeMap<(ModelKey, u16), u64>,
    /// By the tier that was wanted, the one that was taken, and the reason.
    pub decisions: BTreeMap<(Option<ModelTier>, Option<ModelTier>, usize), u64>,
    /// Calls whose tokens are in part an estimate.
    pub estimated: u64,
    /// Calls whose tokens or price are not known.
    pub usage_unknown: u64,
    /// Calls repeated, by what failed.
    pub retries: BTreeMap<&'static str, u64>,
    /// Calls made again with the client's own bytes, by why.
    pub fallbacks: BTreeMap<&'static str, u64>,
    /// Calls that were changed so that another model takes them, by the transform.
    pub transforms: BTreeMap<&'static str, u64>,
    /// Batches, whose tokens and cost are not counted.
    pub not_counted: u64,
    /// Calls of batches by what became of them.
    pub batch_items: BTreeMap<&'static str, u64>,
    /// Conversations that were looked for at other replicas, by what came of it.
    pub shared: BTreeMap<&'static str, u64>,
    /// Refusals by tier.
    pub refusals: [u64; ModelTier::COUNT],
    /// Calls with breakpoints that were added, by whether they last an hour and by what came of them.
    pub breakpoints: [[u64; Breakpoint::COUNT]; 2],
    /// What observed calls would have saved, in pico-dollars.
    pub would_save: i64,
    /// Turns dropped from conversations.
    pub trimmed: u64,
    /// Calls that are near the end of their model's window.
    pub near_window: u64,
    /// Answers from the response cache, by what came of the lookup.
    pub response_cache: BTreeMap<&'static str, u64>,
    /// Values of the override header that are none.
    pub bad_overrides: u64,
}

/// The numbers of the Claude plane.
#[derive(Debug, Default)]
pub struct ClaudeStats {
    totals: Mutex<Totals>,
    identities: Mutex<HashMap<u32, Sum>>,
    /// Time of calls by tier; the last place is for models outside the tiers.
    durations: [Durations; ModelTier::COUNT + 1],
    first_bytes: [Durations; ModelTier::COUNT + 1],
    /// The same of all calls together, in windows.
    whole: Latency,
    first: Latency,
    /// Time that a call waits for our own work before it goes on.
    pub overhead: Durations,
    /// Conversations that are remembered.
    pub conversations: Gauge,
    /// Conversations that made room for others.
    pub evictions: Counter,
    budgets: Mutex<BTreeMap<Arc<str>, BudgetState>>,
    /// Whether calls are routed.
    routes: std::sync::atomic::AtomicBool,
}

/// What is used of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetState {
    /// Spent in the running window, in pico-dollars; of a budget by identity, by the one that spent most.
    pub spent: u64,
    /// The limit, in pico-dollars.
    pub limit: u64,
    /// Calls that were turned away.
    pub refused: u64,
    /// When the running window ends, in seconds since 1970; 0 before the first call.
    pub ends_s: u64,
}

impl BudgetState {
    /// What is spent in the window of a time: nothing yet, once the one that was told of is over.
    #[must_use]
    pub const fn spent_at(&self, unix_s: u64) -> u64 {
        if unix_s < self.ends_s { self.spent } else { 0 }
    }
}

impl ClaudeStats {
    /// Numbers of a plane that routes, or only watches.
    #[must_use]
    pub fn new(routes: bool) -> Self {
        Self { routes: routes.into(), ..Self::default() }
    }

    /// Whether calls are routed.
    #[must_use]
    pub fn is_routing(&self) -> bool {
        self.routes.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Takes the record of a call that is over.
    pub(super) fn record(&self, call: &Call, tick: u32) {
        let place = call.tier.map_or(ModelTier::COUNT, ModelTier::index);
        if let Some(durations) = self.durations.get(place) {
            durations.record(call.total_us);
        }
        if let (Some(durations), Some(us)) = (self.first_bytes.get(place), call.first_byte_us) {
            durations.record(us);
        }
        let saturated = |us: u64| u32::try_from(us).unwrap_or(u32::MAX);
        self.whole.record(tick, saturated(call.total_us), call.status >= 500);
        if let Some(us) = call.first_byte_us.filter(|_| call.is_stream) {
            self.first.record(tick, saturated(us), false);
        }
        self.overhead.record(call.overhead_us);
        self.totals.lock().add(call);
        if let Some(identity) = call.identity {
            let mut identities = self.identities.lock();
            if identities.len() < IDENTITIES || identities.contains_key(&identity) {
                identities.entry(identity).or_default().add(call);
            }
        }
    }

    /// Times of calls in a window, at a tick: whole calls, and first bytes of streams.
    pub(super) fn times(&self, window: Window, tick: u32) -> [Summary; 2] {
        self.merged_times(window, tick).map(|merged| merged.summary())
    }

    pub(super) fn merged_times(&self, window: Window, tick: u32) -> [Merged; 2] {
        [&self.whole, &self.first].map(|latency| {
            let mut merged = Merged::default();
            latency.add_to(&mut merged, window, tick);
            merged
        })
    }

    /// Changes counts that belong to no finished call.
    pub fn note(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.totals.lock());
    }

    /// All counts as they are now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals.lock().clone()
    }

    /// The identities that spent most, at most `count`, the dearest first.
    #[must_use]
    pub fn dearest(&self, count: usize) -> Vec<(u32, Sum)> {
        let mut all: Vec<_> = self.identities.lock().iter().map(|(id, sum)| (*id, *sum)).collect();
        all.sort_by_key(|(id, sum)| (std::cmp::Reverse(sum.cost), *id));
        all.truncate(count);
        all
    }

    /// Tells whether calls are routed from now on.
    pub fn set_routing(&self, routes: bool) {
        self.routes.store(routes, std::sync::atomic::Ordering::Relaxed);
    }

    /// Forgets the budgets that are no longer configured.
    pub fn keep_budgets(&self, is_configured: impl Fn(&Arc<str>) -> bool) {
        self.budgets.lock().retain(|name, _| is_configured(name));
    }

    /// Tells the state of a budget.
    pub fn set_budget(&self, name: &Arc<str>, state: BudgetState) {
        self.budgets.lock().insert(Arc::clone(name), state);
    }

    /// The budgets by name.
    #[must_use]
    pub fn budgets(&self) -> BTreeMap<Arc<str>, BudgetState> {
        self.budgets.lock().clone()
    }

    /// Time of calls by tier, with the label of each.
    pub(super) fn durations(&self) -> impl Iterator<Item = (&'static str, &Durations, &Durations)> {
        let labels = ModelTier::ALL.into_iter().map(ModelTier::as_str).chain(["other"]);
        let times = self.durations.iter().zip(&self.first_bytes);
        labels.zip(times).map(|(label, (whole, first))| (label, whole, first))
    }
}

impl Totals {
    fn add(&mut self, call: &Call) {
        let model = (call.tier, Arc::clone(&call.model));
        self.all.add(call);
        if let Some(tier) = call.tier {
            if let Some(sum) = self.tiers.get_mut(tier.index()) {
                sum.add(call);
            }
            if let Some(count) = self.refusals.get_mut(tier.index()) {
                *count += u64::from(call.refused);
            }
        }
        self.models.entry(model.clone()).or_default().add(call);
        self.routes.entry(Arc::clone(&call.route)).or_default().add(call);
        *self.statuses.entry((model, call.status)).or_default() += 1;
        *self.decisions.entry((call.wanted, call.tier, call.reason.index())).or_default() += 1;
        for transform in call.transforms.iter() {
            *self.transforms.entry(transform.as_str()).or_default() += 1;
        }
        self.estimated += u64::from(call.is_estimated);
        let is_answered = (200..300).contains(&call.status);
        let is_unknown = !call.is_kept && (call.tokens.is_none() || call.cost.is_none());
        self.usage_unknown += u64::from(is_answered && is_unknown);
        self.would_save = self.would_save.saturating_add(call.would_save);
        self.trimmed += u64::from(call.trimmed);
        if let Some((what, is_hour)) = call.breakpoint
            && let Some(count) =
                self.breakpoints.get_mut(usize::from(is_hour)).and_then(|all| all.get_mut(what.index()))
        {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, ClaudeStats, IDENTITIES};
    use crate::config::ModelTier;

    fn call(tier: Option<ModelTier>, cost: Option<u64>, identity: u32) -> Call {
        Call { tier, wanted: tier, cost, identity: Some(identity), ..Call::example() }
    }

    #[test]
    fn the_sums_by_tier_model_and_route_add_up() {
        let stats = ClaudeStats::new(true);
        stats.record(&call(Some(ModelTier::Economy), Some(20), 1), 0);
        stats.record(&call(Some(ModelTier::Economy), Some(40), 2), 0);
        stats.record(&call(None, None, 1), 0);

        let totals = stats.totals();
        assert_eq!((totals.all.calls, totals.all.cost, totals.all.tokens.input), (3, 60, 30));
        assert_eq!(totals.tiers[0].calls, 2);
        assert_eq!(totals.models.values().map(|sum| sum.calls).sum::<u64>(), 3);
        assert_eq!(totals.routes.values().map(|sum| sum.cost).sum::<u64>(), 60);
        assert_eq!(totals.usage_unknown, 1);
        assert_eq!((totals.all.saved_vs_requested(), totals.all.saved_vs_premium()), (0, 40));
        assert_eq!(stats.dearest(1), [(2, totals_of(&stats, 2))]);
    }

    #[test]
    fn a_kept_answer_is_a_call_that_cost_and_saved_nothing() {
        let stats = ClaudeStats::new(true);
        let kept = Call {
            is_kept: true,
            tokens: None,
            cost: Some(0),
            baseline_requested: 0,
            baseline_premium: 0,
            ..call(Some(ModelTier::Standard), None, 1)
        };
        stats.record(&kept, 0);

        let totals = stats.totals();
        assert_eq!((totals.all.calls, totals.all.cost, totals.usage_unknown), (1, 0, 0));
        assert_eq!((totals.all.saved_vs_requested(), totals.all.saved_vs_premium()), (0, 0));
    }

    fn totals_of(stats: &ClaudeStats, identity: u32) -> super::Sum {
        stats.dearest(10).into_iter().find(|(id, _)| *id == identity).unwrap().1
    }

    #[test]
    fn identities_are_bounded() {
        let stats = ClaudeStats::new(true);
        for identity in 0..u32::try_from(IDENTITIES).unwrap() + 5 {
            stats.record(&call(None, Some(1), identity), 0);
        }

        assert_eq!(stats.dearest(usize::MAX).len(), IDENTITIES);
    }
}
