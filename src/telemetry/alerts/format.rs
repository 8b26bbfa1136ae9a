//! Messages as receivers want them: Slack's attachments, Alertmanager's webhook, Alertmanager's API. Made when they are
//! sent, as what fires is told to end some time after that.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value, json};

use super::notice::{Message, Notice, at};
use crate::{
    config::{AlertSeverity, ReceiverKind},
    telemetry::access_log::write_timestamp,
};

/// The most alerts in a message for people.
const MOST_SHOWN: usize = 20;
/// For how long an Alertmanager believes what it is told. A short time makes alerts come and go when a message is late.
const ENDS_AFTER: Duration = Duration::from_secs(180);
/// How an end that is not known yet is written.
const NO_END: &str = "0001-01-01T00:00:00Z";

/// Who speaks.
#[derive(Clone, Debug, Default)]
pub(super) struct Sender {
    pub(super) service: String,
    pub(super) pod: String,
    pub(super) version: &'static str,
    /// The admin page as people reach it; empty when it is not known.
    pub(super) page: String,
    /// Whether the pod is a label, as no other pod speaks for this one's alerts.
    pub(super) is_alone: bool,
}

/// The bytes of a message for a receiver of this name, sent at `now_ms`.
pub(super) fn render(
    kind: ReceiverKind,
    receiver: &str,
    message: &Message,
    sender: &Sender,
    now_ms: u64,
) -> Vec<u8> {
    let value = match kind {
        ReceiverKind::Slack => slack(message, sender),
        ReceiverKind::Webhook => webhook(receiver, message, sender),
        ReceiverKind::Alertmanager => alertmanager(message, sender, now_ms),
    };
    value.to_string().into_bytes()
}

fn slack(message: &Message, sender: &Sender) -> Value {
    let shown = message.notices.iter().take(MOST_SHOWN);
    let attachments: Vec<_> = shown.map(|notice| attachment(notice, sender)).collect();
    let mut text = format!("{} ({})", headline(message), escaped(&sender.service));
    let hidden = message.notices.len().saturating_sub(MOST_SHOWN);
    if hidden > 0 {
        text = format!("{text}, {hidden} more not shown");
    }
    json!({ "text": text, "attachments": attachments })
}

/// What a message is about, in a line: `[FIRING:2, RESOLVED:1] route_p95`.
fn headline(message: &Message) -> String {
    let resolved = message.notices.iter().filter(|notice| notice.is_resolved()).count();
    let firing = message.notices.len() - resolved;
    let counts = match (firing, resolved) {
        (0, resolved) => format!("RESOLVED:{resolved}"),
        (firing, 0) => format!("FIRING:{firing}"),
        (firing, resolved) => format!("FIRING:{firing}, RESOLVED:{resolved}"),
    };
    let rule = message.rule.as_deref().unwrap_or("alerts");
    format!("[{counts}] {rule}")
}

fn attachment(notice: &Notice, sender: &Sender) -> Value {
    let color = match notice.severity {
        _ if notice.is_resolved() => "good",
        AlertSeverity::Critical => "danger",
        AlertSeverity::Warning => "warning",
        AlertSeverity::Info => "#439FE0",
    };
    let seconds = notice.resolved_ms.or(notice.fired_ms).unwrap_or(notice.since_ms) / 1000;
    let mut value = json!({
        "color": color,
        "title": format!("{}: {}", state_word(notice), escaped(&notice.rule)),
        "text": escaped(&said(notice)),
        "fields": [
            { "title": "Value", "value": escaped(&notice.value), "short": true },
            { "title": "Threshold", "value": escaped(&notice.threshold), "short": true },
            { "title": "Time", "value": iso(notice.resolved_ms.or(notice.fired_ms).unwrap_or(notice.since_ms)), "short": true },
        ],
        "footer": escaped(&format!("touchline {} on {}", sender.version, sender.pod)),
        "ts": seconds,
    });
    if let (false, Some(value)) = (sender.page.is_empty(), value.as_object_mut()) {
        value.insert("title_link".to_owned(), json!(sender.page));
    }
    value
}

/// Resolved, flapping, or the severity.
fn state_word(notice: &Notice) -> &'static str {
    if notice.is_resolved() {
        "resolved"
    } else if notice.is_flapping {
        "flapping"
    } else {
        notice.severity.as_str()
    }
}

/// The alert in a sentence.
fn said(notice: &Notice) -> String {
    match notice.reason {
        _ if notice.is_flapping => {
            format!("{} (it comes and goes; nothing more is said until it is calm)", notice.text)
        }
        Some(reason) => format!("{} ({reason})", notice.text),
        None => notice.text.clone(),
    }
}

fn webhook(receiver: &str, message: &Message, sender: &Sender) -> Value {
    let shown: Vec<_> = message.notices.iter().take(MOST_SHOWN).collect();
    let alert = |notice: &&Arc<Notice>| {
        json!({
            "status": if notice.is_resolved() { "resolved" } else { "firing" },
            "labels": labels(notice, sender),
            "annotations": annotations(notice, sender),
            "startsAt": iso(starts_ms(notice)),
            "endsAt": notice.resolved_ms.filter(|_| notice.is_resolved()).map_or_else(|| NO_END.to_owned(), iso),
            "generatorURL": sender.page,
            "fingerprint": &*notice.id,
        })
    };
    let common = |of: fn(&Notice, &Sender) -> BTreeMap<&'static str, String>| {
        let mut all = shown.iter().map(|notice| of(notice, sender));
        let mut common = all.next().unwrap_or_default();
        for other in all {
            common.retain(|name, value| other.get(name) == Some(value));
        }
        common
    };
    let rule = message.rule.as_deref().unwrap_or_default();
    let is_firing = message.notices.iter().any(|notice| !notice.is_resolved());
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname={rule:?}}}"),
        "truncatedAlerts": message.notices.len().saturating_sub(MOST_SHOWN),
        "status": if is_firing { "firing" } else { "resolved" },
        "receiver": receiver,
        "groupLabels": { "alertname": rule },
        "commonLabels": common(labels),
        "commonAnnotations": common(annotations),
        "externalURL": sender.page,
        "alerts": shown.iter().map(alert).collect::<Vec<_>>(),
    })
}

fn alertmanager(message: &Message, sender: &Sender, now_ms: u64) -> Value {
    let ends_ms = now_ms.saturating_add(u64::try_from(ENDS_AFTER.as_millis()).unwrap_or(u64::MAX));
    let alert = |notice: &Arc<Notice>| {
        let ends_ms = notice.resolved_ms.filter(|_| notice.is_resolved()).unwrap_or(ends_ms);
        let mut alert = Map::new();
        alert.insert("labels".to_owned(), json!(labels(notice, sender)));
        alert.insert("annotations".to_owned(), json!(annotations(notice, sender)));
        alert.insert("startsAt".to_owned(), json!(iso(starts_ms(notice))));
        alert.insert("endsAt".to_owned(), json!(iso(ends_ms)));
        if !sender.page.is_empty() {
            alert.insert("generatorURL".to_owned(), json!(sender.page));
        }
        Value::Object(alert)
    };
    Value::Array(message.notices.iter().map(alert).collect())
}

/// An alert starts when it fires.
fn starts_ms(notice: &Notice) -> u64 {
    notice.fired_ms.unwrap_or(notice.since_ms)
}

fn labels(notice: &Notice, sender: &Sender) -> BTreeMap<&'static str, String> {
    let mut labels = notice.labels.clone();
    labels.insert("alertname", notice.rule.to_string());
    labels.insert("severity", notice.severity.as_str().to_owned());
    labels.insert("service", sender.service.clone());
    if sender.is_alone {
        labels.insert("pod", sender.pod.clone());
    }
    labels.retain(|_, value| !value.is_empty());
    labels
}

fn annotations(notice: &Notice, sender: &Sender) -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::from([
        ("summary", said(notice)),
        ("value", notice.value.clone()),
        ("threshold", notice.threshold.clone()),
    ]);
    if !sender.is_alone {
        annotations.insert("pod", sender.pod.clone());
    }
    if notice.is_flapping {
        annotations.insert("flapping", "true".to_owned());
    }
    annotations.retain(|_, value| !value.is_empty());
    annotations
}

fn iso(ms: u64) -> String {
    iso_time(at(ms))
}

fn iso_time(at: SystemTime) -> String {
    let mut text = String::new();
    write_timestamp(&mut text, at);
    text
}

/// Text in which Slack finds no mark-up of its own.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
