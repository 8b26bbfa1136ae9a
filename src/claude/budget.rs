//! Limits on what is spent: an estimate is reserved before a call and settled after it.
//!
//! Windows are fixed: a window of a day begins at midnight UTC. What is spent is counted in this process at all times;
//! where replicas share a store, the store's count is believed instead, and while it does not answer our own goes on.

use std::{
    collections::HashMap,
    future::Future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::{
    config::{self, BudgetBy, ModelTier, Share},
    telemetry::claude::{BudgetState, ClaudeStats},
};

/// Pico-dollars in a micro-dollar.
const PICOS: u64 = 1_000_000;

/// Counts of one budget that are kept apart: identities of a window.
const MOST_COUNTS: usize = 50_000;

/// A sum that replicas share, in pico-dollars.
pub trait SharedSums: Send + Sync + 'static {
    /// Adds to a sum, which ends by itself after `life`, and returns the new one; `None` when the store does not answer in
    /// time.
    fn add<'a>(&'a self, name: &'a str, amount: i64, life: Duration) -> Adding<'a>;
}

/// The future of [`SharedSums::add`], behind a pointer so that the trait can be used as an object.
pub type Adding<'a> = Pin<Box<dyn Future<Output = Option<i64>> + Send + 'a>>;

/// The budgets of the plane.
pub(super) struct Budgets {
    rules: ArcSwap<Vec<Rule>>,
    shared: Option<Arc<dyn SharedSums>>,
    stats: Arc<ClaudeStats>,
    /// What is spent.
    spent: Mutex<HashMap<Count, u64>>,
}

/// A count: of which budget, in which window, of which identity.
type Count = (u64, u64, u64);

struct Rule {
    name: Arc<str>,
    /// Stands for the name, so that a budget goes on when the file is read anew.
    id: u64,
    window_s: u64,
    limit: u64,
    soft: Share,
    by: BudgetBy,
    tier: Option<ModelTier>,
    serious_exempt: bool,
}

/// Whom a call is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charged {
    /// The keyed hash of the identity.
    pub(super) identity: u64,
    /// The tier of the model, as far as it has one.
    pub(super) tier: Option<ModelTier>,
    /// Whether the turn is serious.
    pub(super) is_serious: bool,
    /// What the call will cost by estimate, in pico-dollars.
    pub(super) estimate: u64,
}

/// What a call holds of the budgets until it is settled.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    sums: Vec<Count>,
    estimate: u64,
}

/// Why a call may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    /// The budget.
    pub(super) name: Arc<str>,
    /// Seconds until its window ends.
    pub(super) retry_after_s: u64,
}

impl Budgets {
    pub(super) fn new(
        written: &[config::Budget],
        shared: Option<Arc<dyn SharedSums>>,
        stats: Arc<ClaudeStats>,
    ) -> Self {
        let budgets = Self { rules: ArcSwap::default(), shared, stats, spent: Mutex::default() };
        budgets.apply(written);
        budgets
    }

    /// Takes other limits over. What is spent under a name stays spent.
    pub(super) fn apply(&self, written: &[config::Budget]) {
        let rules: Vec<_> = written.iter().map(Rule::new).collect();
        let known = self.stats.budgets();
        self.stats.keep_budgets(|name| rules.iter().any(|rule| rule.name == *name));
        for rule in &rules {
            let before = known.get(&rule.name).copied().unwrap_or_default();
            self.stats.set_budget(&rule.name, BudgetState { limit: rule.limit, ..before });
        }
        self.rules.store(Arc::new(rules));
    }

    /// Whether a budget that a call falls under is past its soft limit, as far as this process knows.
    pub(super) fn is_soft(&self, charged: &Charged, unix_s: u64) -> bool {
        let spent = self.spent.lock();
        self.rules.load().iter().any(|rule| {
            rule.covers(charged)
                && spent.get(&rule.key(charged, unix_s)).copied().unwrap_or(0) >= rule.soft.of(rule.limit)
        })
    }

    /// Reserves the estimate of a call in all budgets that it falls under.
    ///
    /// # Errors
    /// The first budget that is used up; then nothing is reserved.
    pub(super) async fn reserve(&self, charged: Charged, unix_s: u64) -> Result<Reserved, Exhausted> {
        let mut reserved = Reserved { sums: Vec::new(), estimate: charged.estimate };
        let rules = self.rules.load_full();
        for rule in rules.iter().filter(|rule| rule.covers(&charged)) {
            let key = rule.key(&charged, unix_s);
            let amount = i64::try_from(charged.estimate).unwrap_or(i64::MAX);
            let spent = self.add(rule, key, amount).await;
            reserved.sums.push(key);
            // What was spent before decides, so that one large call near the end is not starved.
            let before = spent.saturating_sub(charged.estimate);
            if before >= rule.limit && !(rule.serious_exempt && charged.is_serious) {
                self.note_refusal(rule);
                self.settle(reserved, 0).await;
                return Err(Exhausted { name: Arc::clone(&rule.name), retry_after_s: rule.rest(unix_s) });
            }
        }
        Ok(reserved)
    }

    /// Puts what a call did cost in the place of its estimate.
    pub(super) async fn settle(&self, reserved: Reserved, cost: u64) {
        let difference = i128::from(cost) - i128::from(reserved.estimate);
        let difference = i64::try_from(difference).unwrap_or(0);
        let rules = self.rules.load_full();
        for key in reserved.sums {
            if let Some(rule) = rules.iter().find(|rule| rule.id == key.0).filter(|_| difference != 0) {
                self.add(rule, key, difference).await;
            }
        }
    }

    /// Whether there is a budget at all.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.load().is_empty()
    }

    async fn add(&self, rule: &Rule, key: Count, amount: i64) -> u64 {
        let own = self.add_here(rule, key, amount);
        let Some(shared) = &self.shared else { return own };
        let name = format!("{}:{}:{:x}", rule.name, key.1, key.2);
        let life = Duration::from_secs(rule.window_s.saturating_mul(2));
        let Some(sum) = shared.add(&name, amount, life).await else { return own };
        let sum = u64::try_from(sum).unwrap_or(0);
        // Others spend too: what this process believes until the store is gone is the store's count.
        self.spent.lock().insert(key, sum);
        self.tell(rule, key.1, sum);
        sum
    }

    fn add_here(&self, rule: &Rule, key: Count, amount: i64) -> u64 {
        let mut spent = self.spent.lock();
        if spent.len() >= MOST_COUNTS {
            spent.retain(|(id, window, _), _| *id != key.0 || *window == key.1);
        }
        let sum = spent.entry(key).or_default();
        *sum = sum.saturating_add_signed(amount);
        let sum = *sum;
        drop(spent);
        self.tell(rule, key.1, sum);
        sum
    }

    fn tell(&self, rule: &Rule, window: u64, spent: u64) {
        let before = self.stats.budgets().get(&rule.name).copied().unwrap_or_default();
        let ends_s = (window + 1).saturating_mul(rule.window_s);
        self.stats.set_budget(&rule.name, BudgetState { spent, limit: rule.limit, ends_s, ..before });
    }

    fn note_refusal(&self, rule: &Rule) {
        let before = self.stats.budgets().get(&rule.name).copied().unwrap_or_default();
        self.stats.set_budget(&rule.name, BudgetState { refused: before.refused + 1, ..before });
    }
}

impl Rule {
    fn new(budget: &config::Budget) -> Self {
        let window_s = budget.window.as_secs().max(1);
        // Counts of windows of another length, or of identities apart, are other counts.
        let mut hash = DefaultHasher::new();
        (&budget.name, window_s, budget.by == BudgetBy::Identity).hash(&mut hash);
        Self {
            name: Arc::from(budget.name.as_str()),
            id: hash.finish(),
            window_s,
            limit: budget.limit.micros().saturating_mul(PICOS),
            soft: budget.soft,
            by: budget.by,
            tier: budget.tier,
            serious_exempt: budget.serious_exempt,
        }
    }

    fn covers(&self, charged: &Charged) -> bool {
        self.by != BudgetBy::Tier || (self.tier.is_some() && self.tier == charged.tier)
    }

    fn key(&self, charged: &Charged, unix_s: u64) -> Count {
        let identity = if self.by == BudgetBy::Identity { charged.identity } else { 0 };
        (self.id, unix_s / self.window_s, identity)
    }

    /// Seconds until the running window ends.
    const fn rest(&self, unix_s: u64) -> u64 {
        self.window_s - unix_s % self.window_s
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
        },
        time::Duration,
    };

    use super::{Adding, Budgets, Charged, SharedSums};
    use crate::{
        config::{self, BudgetBy, ModelTier, Share, Usd},
        telemetry::claude::ClaudeStats,
    };

    const DAY: u64 = 86_400;

    fn budget(by: BudgetBy) -> config::Budget {
        config::Budget {
            name: "day".to_owned(),
            limit: Usd::from_micros(100),
            soft: Share::percent(80),
            by,
            tier: (by == BudgetBy::Tier).then_some(ModelTier::Premium),
            ..config::Budget::default()
        }
    }

    fn budgets(written: config::Budget, shared: Option<Arc<dyn SharedSums>>) -> Budgets {
        Budgets::new(&[written], shared, Arc::new(ClaudeStats::new(true)))
    }

    fn charged(micros: u64) -> Charged {
        Charged {
            identity: 1,
            tier: Some(ModelTier::Standard),
            is_serious: false,
            estimate: micros * super::PICOS,
        }
    }

    #[tokio::test]
    async fn a_spent_budget_refuses_until_its_window_ends() {
        let budgets = budgets(budget(BudgetBy::All), None);
        let first = budgets.reserve(charged(60), DAY + 10).await.unwrap();
        budgets.settle(first, 100 * super::PICOS).await;

        let refused = budgets.reserve(charged(1), DAY + 20).await.unwrap_err();

        assert_eq!((refused.name.as_ref(), refused.retry_after_s), ("day", DAY - 20));
        assert!(budgets.reserve(charged(1), 2 * DAY).await.is_ok(), "a new window");
        assert_eq!(budgets.stats.budgets()["day"].refused, 1);
    }

    #[tokio::test]
    async fn what_is_reserved_counts_before_it_is_settled() {
        let budgets = budgets(budget(BudgetBy::All), None);
        let _held = budgets.reserve(charged(100), 0).await.unwrap();

        assert!(budgets.is_soft(&charged(1), 0));
        assert!(budgets.reserve(charged(1), 0).await.is_err());
    }

    #[tokio::test]
    async fn a_refused_call_gives_back_what_it_had_reserved() {
        let budgets = budgets(budget(BudgetBy::All), None);
        let held = budgets.reserve(charged(100), 0).await.unwrap();
        assert!(budgets.reserve(charged(50), 0).await.is_err());
        budgets.settle(held, 0).await;

        assert!(!budgets.is_soft(&charged(1), 0));
        assert!(budgets.reserve(charged(1), 0).await.is_ok());
    }

    #[tokio::test]
    async fn identities_and_tiers_are_counted_apart() {
        let by_identity = budgets(budget(BudgetBy::Identity), None);
        let _held = by_identity.reserve(charged(100), 0).await.unwrap();
        assert!(by_identity.reserve(charged(1), 0).await.is_err());
        assert!(by_identity.reserve(Charged { identity: 2, ..charged(1) }, 0).await.is_ok());

        let by_tier = budgets(budget(BudgetBy::Tier), None);
        let premium = |micros| Charged { tier: Some(ModelTier::Premium), ..charged(micros) };
        let _held = by_tier.reserve(premium(100), 0).await.unwrap();
        assert!(by_tier.reserve(premium(1), 0).await.is_err());
        assert!(by_tier.reserve(charged(1), 0).await.is_ok());
    }

    #[tokio::test]
    async fn serious_turns_may_be_exempt() {
        let budgets = budgets(config::Budget { serious_exempt: true, ..budget(BudgetBy::All) }, None);
        let _held = budgets.reserve(charged(100), 0).await.unwrap();

        assert!(budgets.reserve(Charged { is_serious: true, ..charged(1) }, 0).await.is_ok());
        assert!(budgets.reserve(charged(1), 0).await.is_err());
    }

    #[tokio::test]
    async fn another_limit_counts_what_was_spent_before() {
        let budgets = budgets(budget(BudgetBy::All), None);
        let held = budgets.reserve(charged(60), 0).await.unwrap();

        let raised = config::Budget { limit: Usd::from_micros(200), ..budget(BudgetBy::All) };
        let other = config::Budget { name: "other".to_owned(), ..budget(BudgetBy::All) };
        budgets.apply(&[other, raised]);
        // A call that began before the change is settled in its own budget, though that stands elsewhere now.
        budgets.settle(held, 90 * super::PICOS).await;
        assert!(budgets.reserve(charged(1), 0).await.is_ok());
        assert_eq!(budgets.stats.budgets()["day"].spent, 91 * super::PICOS);

        budgets.apply(&[config::Budget { limit: Usd::from_micros(50), ..budget(BudgetBy::All) }]);
        assert_eq!(budgets.reserve(charged(1), 0).await.unwrap_err().name.as_ref(), "day");
        assert_eq!(budgets.stats.budgets().len(), 1, "a budget that is gone is shown no longer");
    }

    #[derive(Default)]
    struct Store {
        sum: AtomicI64,
        is_down: AtomicBool,
    }

    impl SharedSums for Store {
        fn add<'a>(&'a self, _: &'a str, amount: i64, _: Duration) -> Adding<'a> {
            Box::pin(async move {
                (!self.is_down.load(Relaxed)).then(|| self.sum.fetch_add(amount, Relaxed) + amount)
            })
        }
    }

    #[tokio::test]
    async fn replicas_share_a_budget_and_go_on_alone_while_the_store_is_down() {
        let store = Arc::new(Store::default());
        let replica = || budgets(budget(BudgetBy::All), Some(Arc::clone(&store) as Arc<dyn SharedSums>));
        let (a, b) = (replica(), replica());
        let held = a.reserve(charged(100), 0).await.unwrap();
        assert!(b.reserve(charged(1), 0).await.is_err(), "the other replica spent it");
        a.settle(held, 90 * super::PICOS).await;
        assert!(b.reserve(charged(1), 0).await.is_ok());

        store.is_down.store(true, Relaxed);

        assert!(b.reserve(charged(50), 0).await.is_ok());
        assert!(b.reserve(charged(1), 0).await.is_err(), "its own count goes on from the shared one");
    }
}
