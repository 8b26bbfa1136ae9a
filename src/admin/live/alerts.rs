//! The section of alerts: what fires, who was told, and how fast the error budget is spent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sections::{Moment, Word, at};
use crate::admin::shapes::thousandths;
use crate::telemetry::alerts::{AlertItem, ChannelView};

/// Alerts that are over and are told, of several pods together.
const RESOLVED: usize = 20;

/// Alerts, receivers and the error budget.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Alerts {
    enabled: bool,
    firing: usize,
    pending: usize,
    items: Vec<Item>,
    channels: Vec<Receiver>,
    burn: Burn,
}

#[derive(Clone, Serialize, Deserialize)]
struct Item {
    id: String,
    rule: String,
    severity: Word,
    state: Word,
    text: String,
    value: String,
    threshold: String,
    since: String,
    resolved_at: Option<String>,
    notified_at: Option<String>,
    /// Why it is over, where no good reading said so.
    #[serde(default)]
    reason: Option<Word>,
    /// Whether it comes and goes too often to be told each time.
    #[serde(default)]
    is_flapping: bool,
    labels: BTreeMap<Word, String>,
    /// The pods that have it, where several were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pods: Option<Vec<String>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Receiver {
    name: String,
    kind: Word,
    state: Word,
    last_success: Option<String>,
    last_error: Option<String>,
    queued: usize,
    delivered: u64,
    lost: u64,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Burn {
    objective_percent: Option<f64>,
    burn_1h: Option<f64>,
    burn_6h: Option<f64>,
    budget_left_percent: Option<f64>,
}

impl Burn {
    /// The faster of two: the rates of pods with different traffic cannot be added.
    fn or_worse(self, other: Self) -> Self {
        let most = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        Self {
            objective_percent: self.objective_percent.or(other.objective_percent),
            burn_1h: most(self.burn_1h, other.burn_1h),
            burn_6h: most(self.burn_6h, other.burn_6h),
            budget_left_percent: self
                .budget_left_percent
                .into_iter()
                .chain(other.budget_left_percent)
                .reduce(f64::min),
        }
    }
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

impl Alerts {
    /// The alerts of several pods, each with its name: one rule and one set of labels is one alert, wherever it fires.
    pub(super) fn joined<'a>(parts: impl Iterator<Item = (&'a str, &'a Self)> + Clone) -> Self {
        let mut items: Vec<Item> = Vec::new();
        for (pod, part) in parts.clone() {
            for item in &part.items {
                let item = Item { pods: Some(vec![pod.to_owned()]), ..item.clone() };
                match items.iter_mut().find(|known| known.id == item.id) {
                    Some(known) => known.join(item),
                    None => items.push(item),
                }
            }
        }
        items.sort_by(|a, b| a.rank().cmp(&b.rank()).then_with(|| b.since.cmp(&a.since)));
        let over = |item: &&Item| item.state == "resolved";
        let rest = items.len() - items.iter().filter(over).count();
        items.truncate(rest + RESOLVED);
        let with = |state: &str| items.iter().filter(|item| item.state == state).count();
        let (firing, pending) = (with("firing"), with("pending"));
        let mut channels: Vec<Receiver> = Vec::new();
        for channel in parts.clone().flat_map(|(_, part)| &part.channels) {
            match channels.iter_mut().find(|known| known.name == channel.name) {
                Some(known) => known.join(channel),
                None => channels.push(channel.clone()),
            }
        }
        let enabled = parts.clone().any(|(_, part)| part.enabled);
        let burn = parts.map(|(_, part)| part.burn).reduce(Burn::or_worse).unwrap_or_default();
        Self { enabled, firing, pending, items, channels, burn }
    }
}

impl Item {
    /// What is worse comes first.
    fn rank(&self) -> u8 {
        match &*self.state {
            "firing" => 0,
            "pending" => 1,
            "no_data" => 2,
            _ => 3,
        }
    }

    /// Takes what another pod says of the same alert: the worse state, of equal ones the older.
    fn join(&mut self, mut other: Self) {
        if (other.rank(), &other.since) < (self.rank(), &self.since) {
            std::mem::swap(self, &mut other);
        }
        // Those that have it in the state that is told.
        if other.state == self.state
            && let (Some(pods), Some(more)) = (&mut self.pods, other.pods)
        {
            pods.extend(more);
        }
        self.notified_at = self.notified_at.take().max(other.notified_at);
        self.is_flapping |= other.is_flapping;
    }

    fn of(item: AlertItem) -> Self {
        Self {
            id: item.id.to_string(),
            rule: item.rule.to_string(),
            severity: item.severity.as_str().into(),
            state: item.state.as_str().into(),
            text: item.text,
            value: item.value,
            threshold: item.threshold,
            since: at(item.since),
            resolved_at: item.resolved_at.map(at),
            notified_at: item.notified_at.map(at),
            reason: item.reason.map(Word::from),
            is_flapping: item.is_flapping,
            labels: item.labels.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            pods: None,
        }
    }
}

impl Receiver {
    /// Takes what another pod says of the same receiver: the worse state, the sums of messages.
    fn join(&mut self, other: &Self) {
        let rank = |state: &str| ["failing", "ok", "idle"].iter().position(|known| *known == state);
        if rank(&other.state) < rank(&self.state) {
            (self.state, self.last_error) = (other.state.clone(), other.last_error.clone());
        }
        self.last_success = self.last_success.take().max(other.last_success.clone());
        self.queued = self.queued.saturating_add(other.queued);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.lost = self.lost.saturating_add(other.lost);
    }

    fn of(channel: ChannelView) -> Self {
        Self {
            name: channel.name.to_string(),
            kind: channel.kind.as_str().into(),
            state: channel.state.as_str().into(),
            last_success: channel.last_success.map(at),
            last_error: channel.last_error,
            queued: channel.queued,
            delivered: channel.delivered,
            lost: channel.lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json, to_value};

    use super::Alerts;

    #[test]
    fn an_alert_of_several_pods_is_one() {
        let item = |id: &str, state: &str, since: &str| {
            json!({"id": id, "rule": "redis_down", "severity": "critical", "state": state, "text": "t", "value": since,
                "threshold": "", "since": since, "resolved_at": null, "notified_at": null, "labels": {"route": "/a"}})
        };
        let alerts = |items: Value, state: &str, burn: f64| -> Alerts {
            from_value(json!({"enabled": true, "firing": 9, "pending": 9, "items": items, "channels": [{"name": "slack",
                "kind": "slack", "state": state, "last_success": null, "last_error": state, "queued": 1,
                "delivered": 2, "lost": 0}], "burn": {"objective_percent": 99.9, "burn_1h": burn, "burn_6h": null,
                "budget_left_percent": burn}}))
            .unwrap()
        };
        let flapping = |mut item: Value| {
            (item["is_flapping"], item["reason"]) = (true.into(), "closed".into());
            item
        };
        let a = alerts(json!([flapping(item("1", "pending", "2")), item("2", "firing", "3")]), "ok", 0.5);
        let b = alerts(json!([item("1", "firing", "4"), item("2", "firing", "1")]), "failing", 2.0);

        let sum = to_value(Alerts::joined([("a", &a), ("b", &b)].into_iter())).unwrap();

        assert_eq!((&sum["firing"], &sum["pending"]), (&2.into(), &0.into()));
        let told = |at: usize| {
            let item = &sum["items"][at];
            (item["id"].clone(), item["since"].clone(), item["pods"].clone())
        };
        assert_eq!(told(0), ("1".into(), "4".into(), json!(["b"])));
        assert_eq!(told(1), ("2".into(), "1".into(), json!(["b", "a"])));
        let flaps = |at: usize| (sum["items"][at]["is_flapping"].clone(), sum["items"][at]["reason"].clone());
        assert_eq!((flaps(0), flaps(1)), ((true.into(), Value::Null), (false.into(), Value::Null)));
        assert_eq!(sum["channels"][0]["last_error"], "failing");
        assert_eq!(sum["channels"][0]["delivered"], 4);
        assert_eq!(
            sum["burn"],
            json!({"objective_percent": 99.9, "burn_1h": 2.0, "burn_6h": null,
            "budget_left_percent": 0.5})
        );
    }
}
