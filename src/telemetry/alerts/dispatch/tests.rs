//! Who is told what and when, minute by minute.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::{Addressee, Dispatcher, Moment, Terms};
use crate::{
    config::{AlertSeverity, ReceiverKind},
    telemetry::alerts::{
        engine::Change,
        notice::{Message, Notice, Status},
    },
};

const STEP_MS: u64 = 10_000;

/// A dispatcher with the alerts that fire.
struct Desk {
    dispatcher: Dispatcher,
    now_ms: u64,
    firing: Vec<Arc<Notice>>,
    elsewhere: HashSet<Arc<str>>,
    queued: Vec<usize>,
}

/// An alert of a rule; its id is the rule and a number.
fn notice(rule: &str, number: u32, severity: AlertSeverity) -> Notice {
    Notice {
        id: Arc::from(format!("{rule}-{number}")),
        rule: Arc::from(rule),
        severity,
        labels: [("route", format!("/{number}"))].into(),
        status: Status::Firing,
        text: format!("{rule} {number}"),
        value: "3 s".to_owned(),
        threshold: "2 s".to_owned(),
        since_ms: 0,
        fired_ms: Some(0),
        resolved_ms: None,
        reason: None,
        is_flapping: false,
    }
}

fn warning(rule: &str, number: u32) -> Notice {
    notice(rule, number, AlertSeverity::Warning)
}

impl Desk {
    fn new(kinds: &[(ReceiverKind, AlertSeverity)]) -> Self {
        let addressees: Vec<_> =
            kinds.iter().map(|(kind, least)| Addressee { kind: *kind, least: *least }).collect();
        let terms = Terms { group_wait_ms: 10_000, end_wait_ms: 10_000, repeat_ms: 4 * 3_600_000 };
        Self {
            dispatcher: Dispatcher::new(terms, &addressees),
            now_ms: 0,
            firing: Vec::new(),
            elsewhere: HashSet::new(),
            queued: vec![0; kinds.len()],
        }
    }

    fn webhook() -> Self {
        Self::new(&[(ReceiverKind::Webhook, AlertSeverity::Info)])
    }

    /// Ten seconds later, with alerts that begin to fire and others that are over.
    fn step(&mut self, fires: &[Notice], over: &[Notice]) -> Vec<(usize, Message)> {
        self.now_ms += STEP_MS;
        let mut changes = Vec::new();
        for notice in fires {
            let notice = Arc::new(notice.clone());
            self.firing.push(Arc::clone(&notice));
            changes.push(Change { notice, is_firing: true });
        }
        for notice in over {
            self.firing.retain(|known| known.id != notice.id);
            let notice =
                Notice { status: Status::Resolved, resolved_ms: Some(self.now_ms), ..notice.clone() };
            changes.push(Change { notice: Arc::new(notice), is_firing: false });
        }
        self.dispatcher.tick(&Moment {
            now_ms: self.now_ms,
            firing: &self.firing,
            changes: &changes,
            elsewhere: &self.elsewhere,
            queued: &self.queued,
        })
    }

    /// The messages of so many steps without a change.
    fn rest(&mut self, steps: usize) -> Vec<(usize, Message)> {
        (0..steps).flat_map(|_| self.step(&[], &[])).collect()
    }
}

/// `+` fires, `-` is over, `~` flaps.
fn words(messages: &[(usize, Message)]) -> Vec<Vec<String>> {
    let word = |notice: &Arc<Notice>| {
        let sign = match notice.status {
            Status::Resolved => '-',
            _ if notice.is_flapping => '~',
            _ => '+',
        };
        format!("{sign}{}", notice.id)
    };
    messages.iter().map(|(_, message)| message.notices.iter().map(word).collect()).collect()
}

#[test]
fn changes_of_a_rule_within_the_wait_are_one_message() {
    let mut desk = Desk::webhook();

    assert!(desk.step(&[warning("p95", 1)], &[]).is_empty());
    let messages = desk.step(&[warning("p95", 2), warning("redis", 1)], &[]);

    assert_eq!(words(&messages), [["+p95-1", "+p95-2"]]);
    assert_eq!(words(&desk.step(&[], &[])), [["+redis-1"]]);
    assert!(desk.rest(100).is_empty());
}

#[test]
fn what_still_fires_is_said_again_after_the_repeat() {
    let mut desk = Desk::webhook();
    desk.step(&[warning("p95", 1)], &[]);
    desk.rest(1);

    assert!(desk.rest(4 * 360 - 1).is_empty());
    assert_eq!(words(&desk.rest(1)), [["+p95-1"]]);
    assert!(desk.rest(4 * 360 - 1).is_empty());
}

#[test]
fn resolved_goes_to_whoever_got_firing() {
    let all = (ReceiverKind::Webhook, AlertSeverity::Info);
    let mut desk = Desk::new(&[all, (ReceiverKind::Slack, AlertSeverity::Critical)]);
    let both = [warning("p95", 1), notice("p95", 2, AlertSeverity::Critical)];
    desk.step(&both, &[]);
    let told = desk.rest(1);
    assert_eq!(words(&told), [vec!["+p95-1", "+p95-2"], vec!["+p95-2"]]);

    desk.step(&[], &both);
    let over = desk.rest(1);

    assert_eq!(words(&over), [vec!["-p95-1", "-p95-2"], vec!["-p95-2"]]);
    assert!(desk.rest(3000).is_empty());
    assert!(desk.dispatcher.desks.iter().all(|desk| desk.told.is_empty()));
    assert!(desk.dispatcher.history.is_empty());
}

#[test]
fn what_is_over_before_it_was_told_is_not_told() {
    let mut desk = Desk::new(&[(ReceiverKind::Webhook, AlertSeverity::Info)]);
    desk.dispatcher.terms.group_wait_ms = 60_000;
    desk.step(&[warning("p95", 1)], &[]);
    desk.step(&[], &[warning("p95", 1)]);

    assert!(desk.rest(20).is_empty());
}

#[test]
fn what_fires_again_before_its_end_was_told_is_not_told_to_be_over() {
    let mut desk = Desk::webhook();
    desk.dispatcher.terms.group_wait_ms = 30_000;
    desk.dispatcher.terms.end_wait_ms = 30_000;
    desk.step(&[warning("p95", 1)], &[]);
    assert_eq!(desk.rest(3).len(), 1);

    desk.step(&[], &[warning("p95", 1)]);
    desk.step(&[warning("p95", 1)], &[]);

    assert_eq!(words(&desk.rest(5)), [["+p95-1"]]);
}

#[test]
fn what_flaps_is_told_once_and_again_when_it_is_calm() {
    let mut desk = Desk::webhook();
    let mut said = Vec::new();
    for _ in 0..10 {
        said.extend(words(&desk.step(&[warning("p95", 1)], &[])));
        said.extend(words(&desk.rest(2)));
        said.extend(words(&desk.step(&[], &[warning("p95", 1)])));
        said.extend(words(&desk.rest(2)));
    }
    assert_eq!(said, [["+p95-1"], ["-p95-1"], ["+p95-1"], ["~p95-1"]]);

    // It is over, and calm after a quarter of an hour but for one change.
    let calm = words(&desk.rest(92));
    assert_eq!(calm, [["-p95-1"]]);
    desk.step(&[warning("p95", 1)], &[]);
    assert_eq!(words(&desk.rest(1)), [["+p95-1"]]);
}

#[test]
fn what_flapped_and_fires_when_it_is_calm_needs_no_further_word() {
    let mut desk = Desk::webhook();
    let mut said = Vec::new();
    for _ in 0..4 {
        said.extend(words(&desk.step(&[], &[warning("p95", 1)])));
        said.extend(words(&desk.step(&[warning("p95", 1)], &[])));
    }
    said.extend(words(&desk.rest(100)));
    assert_eq!(said.concat().iter().filter(|word| word.starts_with('~')).count(), 1, "{said:?}");

    desk.step(&[], &[warning("p95", 1)]);
    assert_eq!(words(&desk.rest(1)), [["-p95-1"]]);
}

#[test]
fn an_alertmanager_hears_everything_every_minute_and_news_at_once() {
    let mut desk = Desk::new(&[(ReceiverKind::Alertmanager, AlertSeverity::Info)]);

    assert_eq!(words(&desk.step(&[warning("p95", 1)], &[])), [["+p95-1"]]);
    assert!(desk.rest(5).is_empty());
    assert_eq!(words(&desk.rest(1)), [["+p95-1"]]);
    assert_eq!(words(&desk.step(&[warning("redis", 1)], &[])), [["+p95-1", "+redis-1"]]);
    desk.step(&[], &[warning("p95", 1)]);
    assert_eq!(words(&desk.rest(1)), [["+redis-1", "-p95-1"]]);

    // While it does not answer, repetitions do not pile up.
    desk.queued = vec![1];
    assert!(desk.rest(100).is_empty());
    assert_eq!(desk.step(&[warning("redis", 2)], &[]).len(), 1);
    desk.queued = vec![0];
    desk.step(&[], &[warning("redis", 1), warning("redis", 2)]);
    assert_eq!(words(&desk.rest(1)), [["-redis-1", "-redis-2"]]);
    assert!(desk.rest(100).is_empty());
}

#[test]
fn an_end_that_has_to_wait_for_other_replicas_holds_up_nothing_else() {
    let mut desk = Desk::webhook();
    desk.dispatcher.terms.end_wait_ms = 20_000;
    desk.step(&[warning("p95", 1)], &[]);
    desk.rest(1);

    desk.step(&[warning("p95", 2)], &[]);
    assert_eq!(words(&desk.step(&[], &[warning("p95", 1)])), [["+p95-2"]]);
    assert!(desk.step(&[warning("p95", 3)], &[]).is_empty());
    assert_eq!(words(&desk.step(&[], &[])), [["+p95-2", "+p95-3", "-p95-1"]]);
    assert!(desk.rest(100).is_empty());
}

#[test]
fn another_replica_speaks_and_this_one_takes_over() {
    let mut desk = Desk::webhook();
    desk.elsewhere.insert(Arc::from("p95-1"));

    desk.step(&[warning("p95", 1)], &[]);
    assert!(desk.rest(100).is_empty());
    assert!(desk.dispatcher.is_told(&Arc::from("p95-1")));

    desk.elsewhere.clear();
    assert!(desk.rest(10).is_empty(), "it was told already");
    desk.step(&[], &[warning("p95", 1)]);
    assert_eq!(words(&desk.rest(1)), [["-p95-1"]]);
}

/// What happens to one of three alerts in a step.
fn stories() -> impl Strategy<Value = Vec<(usize, u32)>> {
    proptest::collection::vec((0_usize..3, 0_u32..40), 0..60)
}

proptest! {
    #[test]
    fn every_receiver_hears_a_beginning_before_each_end_and_an_end_after_all(stories in stories()) {
        let all = [
            notice("p95", 1, AlertSeverity::Critical),
            notice("p95", 2, AlertSeverity::Warning),
            notice("redis", 1, AlertSeverity::Info),
        ];
        let least = [AlertSeverity::Info, AlertSeverity::Warning, AlertSeverity::Critical];
        let mut desk = Desk::new(&[
            (ReceiverKind::Webhook, least[0]),
            (ReceiverKind::Slack, least[1]),
            (ReceiverKind::Alertmanager, least[2]),
        ]);
        let mut messages = Vec::new();
        for (which, rest) in stories {
            let alert = std::slice::from_ref(&all[which]);
            let fires = desk.firing.iter().any(|known| known.id == all[which].id);
            messages.extend(if fires { desk.step(&[], alert) } else { desk.step(alert, &[]) });
            messages.extend(desk.rest(usize::try_from(rest).unwrap()));
        }
        let left: Vec<_> = desk.firing.iter().map(|notice| (**notice).clone()).collect();
        messages.extend(desk.step(&[], &left));
        messages.extend(desk.rest(200));

        let mut open: HashMap<(usize, Arc<str>), bool> = HashMap::new();
        for (index, message) in &messages {
            for notice in &message.notices {
                prop_assert!(notice.severity >= least[*index]);
                let is_open = open.entry((*index, Arc::clone(&notice.id))).or_default();
                prop_assert!(*is_open || !notice.is_resolved(), "an end without a beginning");
                *is_open = !notice.is_resolved();
            }
        }
        prop_assert!(open.values().all(|is_open| !is_open), "no end");
        prop_assert!(desk.dispatcher.history.is_empty());
        prop_assert!(desk.dispatcher.desks.iter().all(|desk| desk.told.is_empty()));
    }
}
