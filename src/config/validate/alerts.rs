//! Rules for `telemetry.alerts` and `telemetry.otlp`: limits are in the unit of what is read, names are distinct, and addresses can be called.

use std::{collections::HashSet, time::Duration};

use super::Finding;
use crate::config::{
    AlertMetric, AlertRule, AlertSeverity, AlertUnit, AlertWindow, Alerts, BuiltIn, Config, OwnRule,
    RuleChange, Share, Threshold, WebUrl, path::YamlPath,
};

/// Objectives below this are no objectives; the burn factors could never be reached.
const LEAST_OBJECTIVE: Share = Share::percent(50);

pub(super) fn check(config: &Config, findings: &mut Vec<Finding>) {
    let (alerts, at) = (&config.telemetry.alerts, YamlPath::at("telemetry.alerts"));
    objective(alerts, &at, findings);
    for (rule, change) in &alerts.rules {
        if let Some(change) = change.on() {
            built_in(*rule, change, &at.key("rules").key(rule.as_str()), findings);
        }
    }
    let own_at = at.key("own");
    most(alerts.own.len(), Alerts::MAX_OWN, "rules", &own_at, findings);
    let mut names = HashSet::new();
    for (index, rule) in alerts.own.iter().enumerate() {
        let path = own_at.index(index);
        name(&rule.name, &path, &mut names, findings);
        let mut found = Vec::new();
        own(rule, &path, &mut found);
        // What is no metric has no unit and no labels.
        findings.extend(found.into_iter().map(|finding| finding.reads(path.key("metric"))));
    }
    receivers(alerts, &at.key("notify"), findings);
    if let Some(otlp) = &config.telemetry.otlp {
        let place = YamlPath::at("telemetry.otlp").key("endpoint");
        if let Err(error) = WebUrl::parse(&otlp.endpoint) {
            let hint = error.hint;
            findings.push(Finding { hint, ..Finding::error(place, error.message) });
        } else if otlp.endpoint.contains("/v1/") {
            findings.push(
                Finding::error(place, "the paths of the protocol are added by themselves")
                    .hint("end the address before /v1/traces, such as http://collector:4318"),
            );
        }
    }
}

fn objective(alerts: &Alerts, at: &YamlPath, findings: &mut Vec<Finding>) {
    let objective = alerts.slo.objective;
    if objective == Share::ALL {
        findings.push(
            Finding::error(at.key("slo").key("objective"), "an objective of 100% leaves no error budget")
                .hint("write less, such as 99.9%"),
        );
    } else if objective < LEAST_OBJECTIVE {
        let message = format!("an objective of {objective} is below {LEAST_OBJECTIVE}");
        findings.push(
            Finding::error(at.key("slo").key("objective"), message)
                .hint("it is the share of requests that shall not fail, such as 99.9%"),
        );
    }
}

fn most(count: usize, most: usize, what: &str, at: &YamlPath, findings: &mut Vec<Finding>) {
    if count > most {
        findings.push(Finding::error(at.clone(), format!("{count} {what} are more than the {most} allowed")));
    }
}

fn built_in(rule: AlertRule, change: &RuleChange, at: &YamlPath, findings: &mut Vec<Finding>) {
    let BuiltIn { metric, window: (_, second), levels, .. } = rule.built_in();
    for severity in AlertSeverity::ALL {
        let (limit, hold) = change.level(severity);
        let key = severity.as_str();
        if let Some(limit) = limit {
            in_unit(metric, limit, at.key(key), findings);
        }
        let is_known = levels.iter().any(|(level, ..)| *level == severity);
        if hold.is_some() && limit.is_none() && !is_known {
            let message = format!("`{}` has no {key} level to wait for", rule.as_str());
            // What is yes or no takes no limit, so that no level can be added.
            let hint = match levels.first().filter(|_| metric.unit() == AlertUnit::Flag) {
                Some((level, ..)) => {
                    let level = level.as_str();
                    format!("its only level is {level}: write `{level}_for`, or take this out")
                }
                None => format!("give it a limit with `{key}`, or take this out"),
            };
            findings.push(Finding::error(at.key(&format!("{key}_for")), message).hint(hint));
        }
    }
    if let Some(window) = change.window {
        let path = at.key("window");
        if second.is_some() {
            findings.push(
                Finding::error(path, "the two windows of a burn rule belong to its factor")
                    .hint("write a rule of your own with `metric: burn`"),
            );
        } else {
            in_window(metric, window, path, findings);
        }
    }
}

fn in_unit(metric: AlertMetric, limit: Threshold, path: YamlPath, findings: &mut Vec<Finding>) {
    let unit = metric.unit();
    if unit == AlertUnit::Flag && limit != Threshold::Off {
        let message = format!("`{}` is yes or no and has no limit", metric.as_str());
        findings.push(Finding::error(path, message).hint("take it out, or write `off`"));
    } else if !unit.takes(limit) {
        let message = format!("`{limit}` is no limit for `{}`", metric.as_str());
        findings.push(Finding::error(path, message).hint(format!("write {}", unit.example())));
    }
}

fn in_window(metric: AlertMetric, window: AlertWindow, path: YamlPath, findings: &mut Vec<Finding>) {
    if metric.is_instant() {
        let message = format!("`{}` is what it is now and has no window", metric.as_str());
        findings.push(Finding::error(path, message).hint("say with `for` how long it has to be so"));
    } else if !metric.has_window(window) {
        let message = format!("`{}` is kept for an hour", metric.as_str());
        findings.push(Finding::error(path, message).hint("windows are 1m, 5m, 15m, 30m and 1h"));
    }
}

fn name(name: &str, at: &YamlPath, seen: &mut HashSet<String>, findings: &mut Vec<Finding>) {
    let path = at.key("name");
    let is_word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_word {
        findings.push(
            Finding::error(path, format!("`{name}` is not a name for a rule"))
                .hint("use letters, digits and `_`, such as candidates_slow"),
        );
    } else if AlertRule::from_name(name).is_some() {
        findings.push(
            Finding::error(path, format!("`{name}` is a built-in rule"))
                .hint("change that one under `rules`, or take another name"),
        );
    } else if !seen.insert(name.to_owned()) {
        findings.push(Finding::error(path, format!("two rules are called `{name}`")));
    }
}

fn own(rule: &OwnRule, at: &YamlPath, findings: &mut Vec<Finding>) {
    let (metric, known) = (rule.metric, rule.metric.labels());
    let limits = [("above", rule.above), ("below", rule.below)];
    let written: Vec<_> = limits.into_iter().filter_map(|(key, limit)| Some((key, limit?))).collect();
    for (key, limit) in &written {
        in_unit(metric, *limit, at.key(key), findings);
        if *limit == Threshold::Off && metric.unit() != AlertUnit::Flag {
            findings.push(
                Finding::error(at.key(key), "a rule of your own is switched off by taking it out")
                    .hint(format!("write {}", metric.unit().example())),
            );
        }
    }
    match written.len() {
        0 if metric.unit() != AlertUnit::Flag => findings.push(
            Finding::error(at.clone(), format!("when does `{}` fire?", rule.name))
                .hint(format!("give it `above` or `below`: {}", metric.unit().example()))
                .reads(at.key("above"))
                .reads(at.key("below")),
        ),
        2 => findings.push(
            Finding::error(at.key("below"), "a rule fires above or below its limit, not both")
                .hint("write two rules")
                .reads(at.key("above")),
        ),
        _ => {}
    }
    if let Some(window) = rule.window {
        in_window(metric, window, at.key("window"), findings);
    }
    for label in rule.labels.keys().filter(|label| !known.contains(&label.as_str())) {
        let message = format!("`{}` has no label `{label}`", metric.as_str());
        let hint = match known {
            [] => "it is one series without labels".to_owned(),
            known => format!("its labels are {}", known.join(", ")),
        };
        findings.push(Finding::error(at.key("labels").key(label), message).hint(hint));
    }
}

fn receivers(alerts: &Alerts, at: &YamlPath, findings: &mut Vec<Finding>) {
    most(alerts.notify.len(), Alerts::MAX_RECEIVERS, "receivers", at, findings);
    let mut names = HashSet::new();
    for (index, receiver) in alerts.notify.iter().enumerate() {
        let path = at.index(index);
        let Some(view) = receiver.view() else {
            findings.push(
                Finding::error(path, "nobody is named here")
                    .hint("write slack: { url: .. }, webhook: { url: .. } or alertmanager: { url: .. }"),
            );
            continue;
        };
        let place = path.key(view.kind.as_str());
        if let Err(error) = WebUrl::parse(view.url) {
            let hint = error.hint;
            findings.push(Finding { hint, ..Finding::error(place.key("url"), error.message) });
        } else if view.url.trim_end_matches('/').ends_with("/api/v2/alerts") {
            findings.push(
                Finding::error(place.key("url"), "the path of the API is added by itself")
                    .hint("end the address before /api/v2/alerts"),
            );
        }
        if !names.insert(view.name) {
            let message = format!("two receivers are called `{}`", view.name);
            findings.push(Finding::error(place, message).hint("give one of them a `name`"));
        }
    }
    if alerts.repeat < alerts.group_wait.max(Duration::from_secs(60)) {
        let message = "what still fires is repeated before changes are collected";
        findings.push(
            Finding::error(YamlPath::at("telemetry.alerts.repeat"), message)
                .hint("`repeat` is longer than `group_wait`")
                .reads(YamlPath::at("telemetry.alerts.group_wait")),
        );
    }
}
