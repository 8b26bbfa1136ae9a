//! The state of every rule for every set of labels: readings go in, changes come out. No clock and no I/O.
//!
//! An alert exists from its first bad reading until it is resolved. What it was bad for is counted reading by reading, so
//! that missing data neither fires nor resolves: a reading that is not there adds to nothing. A step of time counts for at
//! most two intervals, so that a process that was stopped does not take the pause for a bad one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    notice::{Notice, Status},
    reading::{Labels, Reading},
    rules::{Rule, Verdict, shown},
};

/// Alerts that exist at once.
pub(super) const MAX_ALERTS: usize = 1000;
/// Resolved alerts that are remembered to be shown.
const SHOWN_RESOLVED: usize = 20;
/// After so long without data a firing alert is closed and a pending one forgotten.
const NO_DATA_MS: u64 = 3_600_000;
/// The longest that a firing alert waits for further good readings.
const LONGEST_KEEP_MS: u64 = 300_000;

/// Why an alert is over although nobody saw a good reading.
const WITHOUT_DATA: &str = "closed after an hour without data";
const WITHOUT_RULE: &str = "closed as its rule is configured no longer";

/// What became of an alert.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) notice: Arc<Notice>,
    pub(super) is_firing: bool,
}

/// The states of all alerts.
#[derive(Debug)]
pub(super) struct Engine {
    rules: Vec<Rule>,
    interval_ms: u64,
    keep_ms: u64,
    alerts: Vec<HashMap<Labels, Alert>>,
    last_ms: Option<u64>,
    resolved: VecDeque<Arc<Notice>>,
    /// Alerts that fired under rules of a configuration before, to be closed.
    orphans: Vec<Notice>,
    /// Alerts that did not fit.
    pub(super) dropped: u64,
}

#[derive(Debug)]
struct Alert {
    notice: Notice,
    is_firing: bool,
    /// For how long it has been bad, while it is pending.
    bad_ms: u64,
    /// For how long it has been good, while it is firing.
    good_ms: u64,
    /// For how long there has been no data.
    absent_ms: u64,
}

#[derive(Clone, Copy)]
enum Step {
    Nothing,
    Fires,
    Ends(Option<&'static str>),
    Forgets,
}

impl Engine {
    pub(super) fn new(rules: Vec<Rule>, interval_ms: u64) -> Self {
        let alerts = rules.iter().map(|_| HashMap::new()).collect();
        let keep_ms = interval_ms.saturating_mul(2).min(LONGEST_KEEP_MS);
        Self {
            rules,
            interval_ms,
            keep_ms,
            alerts,
            last_ms: None,
            resolved: VecDeque::new(),
            orphans: Vec::new(),
            dropped: 0,
        }
    }

    /// Goes on from where one with other rules stands: an alert stays what it is where its rule is still there.
    pub(super) fn succeed(&mut self, old: Self) {
        let is_same = |a: &Rule, b: &Rule| (&a.name, a.severity, a.metric) == (&b.name, b.severity, b.metric);
        for (rule, alerts) in old.rules.iter().zip(old.alerts) {
            let place = self.rules.iter().position(|new| is_same(new, rule));
            match place.and_then(|place| self.alerts.get_mut(place)) {
                Some(place) => *place = alerts,
                None => {
                    let fired = alerts.into_values().filter(|alert| alert.is_firing);
                    self.orphans.extend(fired.map(|alert| alert.notice));
                }
            }
        }
        self.orphans.extend(old.orphans);
        (self.last_ms, self.resolved, self.dropped) = (old.last_ms, old.resolved, old.dropped);
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Judges the readings of a moment. Returns what fires and what is over since the last one.
    pub(super) fn tick(&mut self, now_ms: u64, readings: &[Reading]) -> Vec<Change> {
        let since = self.last_ms.map_or(0, |last| now_ms.saturating_sub(last));
        let step_ms = since.min(self.interval_ms.saturating_mul(2));
        self.last_ms = Some(now_ms);
        let mut changes: Vec<_> =
            self.orphans.drain(..).map(|notice| over(notice, now_ms, Some(WITHOUT_RULE))).collect();
        let mut count = self.alerts.iter().map(HashMap::len).sum::<usize>();
        for (rule, alerts) in self.rules.iter().zip(&mut self.alerts) {
            let mut seen = HashSet::new();
            for reading in readings {
                let Some(verdict) = rule.judge(reading) else { continue };
                if !seen.insert(&reading.labels) {
                    continue;
                }
                let is_known = alerts.contains_key(&reading.labels);
                if !is_known && (!verdict.is_bad || count >= MAX_ALERTS) {
                    self.dropped += u64::from(verdict.is_bad);
                    continue;
                }
                count += usize::from(!is_known);
                let alert = alerts
                    .entry(reading.labels.clone())
                    .or_insert_with(|| Alert::new(rule, reading, verdict, now_ms));
                let step_ms = if is_known { step_ms } else { 0 };
                let step = alert.judge(rule, reading, verdict, (step_ms, self.keep_ms));
                apply(step, alerts, &reading.labels, now_ms, &mut changes);
            }
            let absent: Vec<_> = alerts.keys().filter(|labels| !seen.contains(labels)).cloned().collect();
            for labels in absent {
                let step = alerts.get_mut(&labels).map_or(Step::Nothing, |alert| alert.miss(step_ms));
                apply(step, alerts, &labels, now_ms, &mut changes);
            }
        }
        self.remember(&changes);
        changes
    }

    /// Everything that is to be shown: firing first, then pending, then what was resolved last.
    pub(super) fn notices(&self) -> Vec<Arc<Notice>> {
        let mut all: Vec<_> = self.alive().map(|(_, alert)| Arc::new(alert.notice.clone())).collect();
        all.sort_by(|a, b| {
            let rank = |notice: &Notice| {
                (notice.status == Status::Pending, std::cmp::Reverse((notice.severity, notice.since_ms)))
            };
            rank(a).cmp(&rank(b)).then_with(|| a.id.cmp(&b.id))
        });
        all.extend(self.resolved.iter().rev().cloned());
        all
    }

    /// What fires now, also without data, that nothing louder says already.
    pub(super) fn firing(&self) -> Vec<Arc<Notice>> {
        let firing = self.alive().filter(|(_, alert)| alert.is_firing);
        firing.map(|(_, alert)| Arc::new(alert.notice.clone())).collect()
    }

    /// All alerts but those that a louder level of the same rule mutes; those are marked so.
    fn alive(&self) -> impl Iterator<Item = (usize, &Alert)> {
        let all = self.alerts.iter().enumerate();
        all.flat_map(|(rule, alerts)| alerts.iter().map(move |(labels, alert)| (rule, labels, alert)))
            .filter(|(rule, labels, _)| !self.is_muted(*rule, labels))
            .map(|(rule, _, alert)| (rule, alert))
    }

    fn is_muted(&self, rule: usize, labels: &Labels) -> bool {
        let louder = self.rules.get(rule).map(|rule| rule.louder.as_slice()).unwrap_or_default();
        let fires = |rule: &usize| {
            self.alerts.get(*rule).and_then(|alerts| alerts.get(labels)).is_some_and(|alert| alert.is_firing)
        };
        louder.iter().any(fires)
    }

    fn remember(&mut self, changes: &[Change]) {
        for change in changes {
            self.resolved.retain(|known| known.id != change.notice.id);
            if !change.is_firing {
                self.resolved.push_back(Arc::clone(&change.notice));
            }
        }
        while self.resolved.len() > SHOWN_RESOLVED {
            self.resolved.pop_front();
        }
    }
}

fn over(notice: Notice, now_ms: u64, reason: Option<&'static str>) -> Change {
    let notice = Notice { status: Status::Resolved, resolved_ms: Some(now_ms), reason, ..notice };
    Change { notice: Arc::new(notice), is_firing: false }
}

fn apply(
    step: Step,
    alerts: &mut HashMap<Labels, Alert>,
    labels: &Labels,
    now_ms: u64,
    changes: &mut Vec<Change>,
) {
    match step {
        Step::Nothing => {}
        Step::Forgets => {
            alerts.remove(labels);
        }
        Step::Fires => {
            if let Some(alert) = alerts.get_mut(labels) {
                alert.is_firing = true;
                alert.notice.status = Status::Firing;
                alert.notice.fired_ms = Some(now_ms);
                changes.push(Change { notice: Arc::new(alert.notice.clone()), is_firing: true });
            }
        }
        Step::Ends(reason) => {
            if let Some(Alert { notice, .. }) = alerts.remove(labels) {
                changes.push(over(notice, now_ms, reason));
            }
        }
    }
}

impl Alert {
    fn new(rule: &Rule, reading: &Reading, verdict: Verdict, now_ms: u64) -> Self {
        let notice = Notice {
            id: rule.fingerprint(&reading.labels),
            rule: Arc::clone(&rule.name),
            severity: rule.severity,
            labels: reading.labels.clone(),
            status: Status::Pending,
            text: rule.text(reading, verdict.threshold),
            value: String::new(),
            threshold: shown(rule.metric, verdict.threshold),
            since_ms: now_ms,
            fired_ms: None,
            resolved_ms: None,
            reason: None,
            is_flapping: false,
        };
        Self { notice, is_firing: false, bad_ms: 0, good_ms: 0, absent_ms: 0 }
    }

    /// Takes a reading.
    fn judge(
        &mut self,
        rule: &Rule,
        reading: &Reading,
        verdict: Verdict,
        (step_ms, keep_ms): (u64, u64),
    ) -> Step {
        self.absent_ms = 0;
        self.notice.value = shown(rule.metric, reading.value);
        if self.is_firing {
            self.notice.status = Status::Firing;
        }
        match (verdict.is_bad, self.is_firing) {
            (true, true) => {
                self.good_ms = 0;
                self.notice.text = rule.text(reading, verdict.threshold);
                self.notice.threshold = shown(rule.metric, verdict.threshold);
                Step::Nothing
            }
            (true, false) => {
                self.bad_ms = self.bad_ms.saturating_add(step_ms);
                self.notice.text = rule.text(reading, verdict.threshold);
                if self.bad_ms >= rule.hold_ms { Step::Fires } else { Step::Nothing }
            }
            (false, false) => Step::Forgets,
            (false, true) => {
                self.good_ms = self.good_ms.saturating_add(step_ms);
                if self.good_ms >= keep_ms { Step::Ends(None) } else { Step::Nothing }
            }
        }
    }

    /// Takes that there is no reading.
    fn miss(&mut self, step_ms: u64) -> Step {
        self.absent_ms = self.absent_ms.saturating_add(step_ms.max(1));
        if self.is_firing {
            self.notice.status = Status::NoData;
        }
        match (self.absent_ms >= NO_DATA_MS, self.is_firing) {
            (false, _) => Step::Nothing,
            (true, true) => Step::Ends(Some(WITHOUT_DATA)),
            (true, false) => Step::Forgets,
        }
    }
}

#[cfg(test)]
mod tests;
