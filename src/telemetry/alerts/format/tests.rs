//! The three formats as whole documents. `UPDATE_GOLDEN=1` rewrites them, which is read in review.

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;

use super::{MOST_SHOWN, Sender, render};
use crate::{
    config::{AlertSeverity, ReceiverKind},
    telemetry::alerts::notice::{Message, Notice, Status},
};

/// 2026-11-23T14:05:53.066Z
const NOW_MS: u64 = 1_795_442_753_066;

fn sender() -> Sender {
    Sender {
        service: "coach-api".to_owned(),
        pod: "coach-api-7d9f8-x2k4q".to_owned(),
        version: "0.4.0",
        page: "http://localhost:9090".to_owned(),
        is_alone: false,
    }
}

fn notice() -> Notice {
    Notice {
        id: Arc::from("9f3c0a1b2c3d4e5f"),
        rule: Arc::from("route_p95"),
        severity: AlertSeverity::Critical,
        labels: [
            ("method", "GET".to_owned()),
            ("route", "/api/matches/<id>&\"candidates\"".to_owned()),
            ("kind", "plain".to_owned()),
        ]
        .into(),
        status: Status::Firing,
        text: "P95 at or over 2 s: GET /api/matches/<id>&\"candidates\"".to_owned(),
        value: "2.31 s".to_owned(),
        threshold: "2 s".to_owned(),
        since_ms: NOW_MS - 180_000,
        fired_ms: Some(NOW_MS - 60_000),
        resolved_ms: None,
        reason: None,
        is_flapping: false,
    }
}

fn message() -> Message {
    let other = ("route", "/api/challenges".to_owned());
    let over = Notice {
        id: Arc::from("0123456789abcdef"),
        severity: AlertSeverity::Warning,
        labels: [("method", "GET".to_owned()), ("kind", "plain".to_owned()), other].into(),
        status: Status::Resolved,
        text: "P95 at or over 1 s: GET /api/challenges".to_owned(),
        value: "412 ms".to_owned(),
        threshold: "1 s".to_owned(),
        resolved_ms: Some(NOW_MS),
        reason: Some("closed after an hour without data"),
        ..notice()
    };
    let flapping = Notice { is_flapping: true, severity: AlertSeverity::Info, ..notice() };
    let notices = [notice(), flapping, over].map(Arc::new).to_vec();
    Message { rule: Some(Arc::from("route_p95")), notices }
}

fn document(kind: ReceiverKind, message: &Message, sender: &Sender) -> Value {
    serde_json::from_slice(&render(kind, "team", message, sender, NOW_MS)).unwrap()
}

fn is_golden(name: &str, value: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/alerts").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(value).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{}", path.display());
}

#[test]
fn slack_gets_attachments() {
    is_golden("slack.json", &document(ReceiverKind::Slack, &message(), &sender()));
}

#[test]
fn a_webhook_gets_what_alertmanager_sends() {
    is_golden("webhook.json", &document(ReceiverKind::Webhook, &message(), &sender()));
}

#[test]
fn an_alertmanager_gets_alerts_that_end_by_themselves() {
    let all = Message { rule: None, ..message() };
    is_golden("alertmanager.json", &document(ReceiverKind::Alertmanager, &all, &sender()));
}

#[test]
fn a_pod_that_speaks_for_itself_is_a_label() {
    let alone = Sender { is_alone: true, ..sender() };
    let value = document(ReceiverKind::Alertmanager, &message(), &alone);

    assert_eq!(value[0]["labels"]["pod"], "coach-api-7d9f8-x2k4q");
    assert!(value[0]["annotations"].get("pod").is_none());
}

#[test]
fn long_messages_are_cut_and_say_so() {
    let count = MOST_SHOWN + 7;
    let message = Message {
        rule: Some(Arc::from("route_p95")),
        notices: (0..count).map(|_| Arc::new(notice())).collect(),
    };

    let slack = document(ReceiverKind::Slack, &message, &sender());
    let webhook = document(ReceiverKind::Webhook, &message, &sender());

    assert_eq!(slack["attachments"].as_array().unwrap().len(), MOST_SHOWN);
    assert_eq!(slack["text"], "[FIRING:27] route_p95 (coach-api), 7 more not shown");
    assert_eq!(
        (webhook["alerts"].as_array().unwrap().len(), &webhook["truncatedAlerts"]),
        (MOST_SHOWN, &7.into())
    );
    let all = document(ReceiverKind::Alertmanager, &message, &sender());
    assert_eq!(all.as_array().unwrap().len(), count);
}
