//! The section of alerts: what fires, who was told, and how fast the error budget is spent.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sections::{Moment, at};
use crate::admin::shapes::thousandths;
use crate::telemetry::alerts::{AlertItem, ChannelView};

/// Alerts, receivers and the error budget.
#[derive(Serialize)]
pub(super) struct Alerts {
    enabled: bool,
    firing: usize,
    pending: usize,
    items: Vec<Item>,
    channels: Vec<Receiver>,
    burn: Burn,
}

#[derive(Serialize)]
struct Item {
    id: String,
    rule: String,
    severity: &'static str,
    state: &'static str,
    text: String,
    value: String,
    threshold: String,
    since: String,
    resolved_at: Option<String>,
    notified_at: Option<String>,
    labels: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Receiver {
    name: String,
    kind: &'static str,
    state: &'static str,
    last_success: Option<String>,
    last_error: Option<String>,
    queued: usize,
    delivered: u64,
    lost: u64,
}

#[derive(Serialize)]
struct Burn {
    objective_percent: Option<f64>,
    burn_1h: Option<f64>,
    burn_6h: Option<f64>,
    budget_left_percent: Option<f64>,
}

impl Alerts {
    pub(super) fn new(moment: &Moment<'_>) -> Self {
        let view = moment.admin.telemetry.alerts_view(moment.now);
        let burn = view.burn;
        Self {
            enabled: view.enabled,
            firing: view.firing,
            pending: view.pending,
            items: view.items.into_iter().map(Item::of).collect(),
            channels: view.channels.into_iter().map(Receiver::of).collect(),
            burn: Burn {
                objective_percent: burn.objective_percent,
                burn_1h: burn.burn_1h.map(thousandths),
                burn_6h: burn.burn_6h.map(thousandths),
                budget_left_percent: burn.budget_left_percent.map(thousandths),
            },
        }
    }
}

impl Item {
    fn of(item: AlertItem) -> Self {
        Self {
            id: item.id.to_string(),
            rule: item.rule.to_string(),
            severity: item.severity.as_str(),
            state: item.state.as_str(),
            text: item.text,
            value: item.value,
            threshold: item.threshold,
            since: at(item.since),
            resolved_at: item.resolved_at.map(at),
            notified_at: item.notified_at.map(at),
            labels: item.labels,
        }
    }
}

impl Receiver {
    fn of(channel: ChannelView) -> Self {
        Self {
            name: channel.name.to_string(),
            kind: channel.kind.as_str(),
            state: channel.state.as_str(),
            last_success: channel.last_success.map(at),
            last_error: channel.last_error,
            queued: channel.queued,
            delivered: channel.delivered,
            lost: channel.lost,
        }
    }
}
