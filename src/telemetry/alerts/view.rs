//! What is shown of alerts: the board that the watch writes to, and plain views of it.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use parking_lot::RwLock;
use tokio::time::Instant;

use super::{
    channel::{Channel, ChannelView},
    collect,
    notice::{Notice, Status, at},
};
use crate::{
    config::AlertSeverity,
    telemetry::{Counter, Telemetry, Window},
};

/// What the watch tells and readers read.
#[derive(Default)]
pub(in crate::telemetry) struct Board {
    items: RwLock<Vec<Item>>,
    channels: RwLock<Vec<Arc<Channel>>>,
    /// The objective, once a watch runs.
    objective: RwLock<Option<f64>>,
    pub(in crate::telemetry) dropped: Counter,
}

struct Item {
    notice: Arc<Notice>,
    /// When a receiver was first told of its present state.
    notified_ms: Option<u64>,
}

/// Everything about alerts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertsView {
    /// Whether rules are watched.
    pub enabled: bool,
    /// How many alerts fire, those without data included.
    pub firing: usize,
    /// How many wait for their time.
    pub pending: usize,
    /// The alerts: firing first, then pending, then the last that were resolved.
    pub items: Vec<AlertItem>,
    /// The receivers in the order of the configuration.
    pub channels: Vec<ChannelView>,
    /// How fast the error budget is spent.
    pub burn: BurnView,
}

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertItem {
    /// The same on every pod and after every restart.
    pub id: Arc<str>,
    /// The rule.
    pub rule: Arc<str>,
    /// How much it matters.
    pub severity: AlertSeverity,
    /// Its state.
    pub state: Status,
    /// What is wrong, in words.
    pub text: String,
    /// The last reading with its unit.
    pub value: String,
    /// The limit with its unit.
    pub threshold: String,
    /// Its first bad reading.
    pub since: SystemTime,
    /// When it was over.
    pub resolved_at: Option<SystemTime>,
    /// When its present state was first handed to a receiver; none where nobody is told.
    pub notified_at: Option<SystemTime>,
    /// Why it is over, where no good reading said so.
    pub reason: Option<&'static str>,
    /// Whether it comes and goes too often to be told.
    pub is_flapping: bool,
    /// What tells it apart from others of its rule.
    pub labels: BTreeMap<&'static str, String>,
}

/// How fast this process spends its error budget.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BurnView {
    /// The objective in percent; none when no rules are watched.
    pub objective_percent: Option<f64>,
    /// How many times too fast over the last hour; none without requests.
    pub burn_1h: Option<f64>,
    /// How many times too fast over the last six hours; none without requests.
    pub burn_6h: Option<f64>,
    /// What is left of the budget of the last six hours, in percent; none without requests.
    pub budget_left_percent: Option<f64>,
}

impl Board {
    pub(super) fn open(&self, channels: &[Arc<Channel>], objective: f64) {
        *self.channels.write() = channels.to_vec();
        *self.objective.write() = Some(objective);
    }

    /// Forgets everything: alerts are off from now on.
    pub(super) fn close(&self) {
        self.channels.write().clear();
        *self.objective.write() = None;
        self.items.write().clear();
    }

    /// Takes the state of a moment. `told` are the alerts that a receiver was just told of.
    pub(super) fn publish(&self, now_ms: u64, notices: Vec<Arc<Notice>>, told: &[Arc<Notice>]) {
        let mut items = self.items.write();
        let known: BTreeMap<_, _> = items
            .iter()
            .filter_map(|item| {
                Some(((Arc::clone(&item.notice.id), item.notice.is_resolved()), item.notified_ms?))
            })
            .collect();
        let item = |notice: Arc<Notice>| {
            let is_told =
                told.iter().any(|told| told.id == notice.id && told.is_resolved() == notice.is_resolved());
            let is_pending = notice.status == Status::Pending;
            let before = known.get(&(Arc::clone(&notice.id), notice.is_resolved())).copied();
            let notified_ms = before.filter(|_| !is_pending).or_else(|| is_told.then_some(now_ms));
            Item { notice, notified_ms }
        };
        *items = notices.into_iter().map(item).collect();
    }

    /// How many alerts there are by severity and state.
    pub(in crate::telemetry) fn counts(&self) -> Vec<(AlertSeverity, Status, u64)> {
        let items = self.items.read();
        let states = [Status::Pending, Status::Firing, Status::NoData];
        let pairs = AlertSeverity::ALL.into_iter().flat_map(|severity| states.map(|state| (severity, state)));
        let count = |(severity, state)| {
            let is_it = |item: &&Item| item.notice.severity == severity && item.notice.status == state;
            (severity, state, u64::try_from(items.iter().filter(is_it).count()).unwrap_or(u64::MAX))
        };
        pairs.map(count).collect()
    }

    /// The ways to the receivers.
    pub(in crate::telemetry) fn channels(&self) -> Vec<Arc<Channel>> {
        self.channels.read().clone()
    }

    /// Whether a watch runs.
    pub(in crate::telemetry) fn is_open(&self) -> bool {
        self.objective.read().is_some()
    }
}

impl Telemetry {
    /// Everything about alerts, as it is shown.
    #[must_use]
    pub fn alerts_view(&self, now: Instant) -> AlertsView {
        let board = &self.alerts;
        let items: Vec<_> = board.items.read().iter().map(AlertItem::of).collect();
        let count = |states: &[Status]| items.iter().filter(|item| states.contains(&item.state)).count();
        AlertsView {
            enabled: board.is_open(),
            firing: count(&[Status::Firing, Status::NoData]),
            pending: count(&[Status::Pending]),
            items,
            channels: board.channels.read().iter().map(|channel| channel.view()).collect(),
            burn: self.burn_view(now),
        }
    }

    /// How fast this process spends its error budget.
    #[must_use]
    pub fn burn_view(&self, now: Instant) -> BurnView {
        let Some(objective) = *self.alerts.objective.read() else { return BurnView::default() };
        let burn = |window| collect::burn(self.slo_window(window, now), objective);
        let burn_6h = burn(Window::SixHours);
        BurnView {
            objective_percent: Some(objective * 100.0),
            burn_1h: burn(Window::OneHour),
            burn_6h,
            budget_left_percent: burn_6h.map(|burn| (100.0 * (1.0 - burn)).max(0.0)),
        }
    }
}

impl AlertItem {
    fn of(item: &Item) -> Self {
        let notice = &item.notice;
        Self {
            id: Arc::clone(&notice.id),
            rule: Arc::clone(&notice.rule),
            severity: notice.severity,
            state: notice.status,
            text: notice.text.clone(),
            value: notice.value.clone(),
            threshold: notice.threshold.clone(),
            since: at(notice.since_ms),
            resolved_at: notice.resolved_ms.map(at),
            notified_at: item.notified_ms.map(at),
            reason: notice.reason,
            is_flapping: notice.is_flapping,
            labels: notice.labels.clone(),
        }
    }
}
