//! The state machine by tables and by properties.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{Change, Engine, MAX_ALERTS, SHOWN_RESOLVED};
use crate::{
    config::{self, AlertMetric, AlertRule, AlertSeverity, Alerts, OwnRule, Switch, Threshold},
    telemetry::alerts::{
        notice::Status,
        reading::{Reading, Span},
        rules,
    },
};

const STEP_MS: u64 = 10_000;

/// Only rules over waiting requests: `waiting` above 10 with a severity, for so many seconds.
fn engine(levels: &[(AlertSeverity, u64)]) -> Engine {
    let own = |(severity, seconds): &(AlertSeverity, u64)| OwnRule {
        name: "waiting".to_owned(),
        metric: AlertMetric::UpstreamQueued,
        above: Some(Threshold::Number(10_000_000)),
        hold: Duration::from_secs(*seconds),
        severity: *severity,
        ..OwnRule::default()
    };
    let alerts = Alerts {
        rules: AlertRule::ALL.into_iter().map(|rule| (rule, Switch::Off)).collect(),
        own: levels.iter().map(own).collect(),
        ..Alerts::default()
    };
    let config = config::Telemetry { alerts, ..config::Telemetry::default() };
    Engine::new(rules::compile(&config), STEP_MS)
}

fn reading(upstream: &str, value: f64) -> Reading {
    Reading::new(AlertMetric::UpstreamQueued, Span::Now, value).label("upstream", upstream)
}

/// Plays `b`ad, `g`ood and missing (`_`) readings; returns when it fired (`+`) and was over (`-`), by the step.
fn play(engine: &mut Engine, script: &str) -> Vec<(usize, char)> {
    let mut found = Vec::new();
    for (step, word) in script.chars().enumerate() {
        let readings = match word {
            'b' => vec![reading("backend", 20.0)],
            'g' => vec![reading("backend", 3.0)],
            _ => Vec::new(),
        };
        let at = u64::try_from(step).unwrap() * STEP_MS;
        let sign = |change: Change| if change.is_firing { '+' } else { '-' };
        found.extend(engine.tick(at, &readings).into_iter().map(|change| (step, sign(change))));
    }
    found
}

/// When an alert fires (`+`) and is over (`-`), by the step.
type Changes = &'static [(usize, char)];

#[test]
fn an_alert_waits_fires_and_is_over_as_its_readings_say() {
    let hour = "_".repeat(361);
    let table: [(&str, u64, &str, Changes); 13] = [
        ("nothing bad", 30, "gggg__gg", &[]),
        ("at once without `for`", 0, "ggb", &[(2, '+')]),
        ("not before its time", 30, "bbb", &[]),
        ("when its time has come", 30, "bbbb", &[(3, '+')]),
        ("one good reading while it waits", 30, "bbbgbbb", &[]),
        ("missing readings do not count for it", 30, "bb___b__", &[]),
        ("and those after them do", 30, "bb___bb", &[(6, '+')]),
        ("one good reading is not the end", 0, "bgbgb", &[(0, '+')]),
        ("two are", 0, "bgg", &[(0, '+'), (2, '-')]),
        ("missing readings are no good ones", 0, "b_____g__", &[(0, '+')]),
        ("and bad ones between good ones count", 0, "bg_bg", &[(0, '+')]),
        ("good ones after them are", 0, "b_____ggg", &[(0, '+'), (7, '-')]),
        ("an hour without data", 0, &format!("b{hour}g"), &[(0, '+'), (360, '-')]),
    ];

    for (what, seconds, script, expected) in table {
        assert_eq!(play(&mut engine(&[(AlertSeverity::Warning, seconds)]), script), expected, "{what}");
    }
}

#[test]
fn what_is_closed_without_data_says_so() {
    let mut engine = engine(&[(AlertSeverity::Warning, 0)]);
    play(&mut engine, &format!("b{}", "_".repeat(100)));
    assert_eq!(engine.notices()[0].status, Status::NoData);

    let mut closed = self::engine(&[(AlertSeverity::Warning, 0)]);
    play(&mut closed, &format!("b{}", "_".repeat(365)));

    let notices = closed.notices();
    assert_eq!((notices.len(), notices[0].status), (1, Status::Resolved));
    assert!(notices[0].reason.unwrap().contains("without data"));
}

#[test]
fn a_process_that_was_stopped_does_not_take_the_pause_for_a_bad_one() {
    let mut engine = engine(&[(AlertSeverity::Warning, 60)]);
    assert!(engine.tick(0, &[reading("backend", 20.0)]).is_empty());

    assert!(engine.tick(3_600_000, &[reading("backend", 20.0)]).is_empty());
}

#[test]
fn each_series_has_a_state_of_its_own() {
    let mut engine = engine(&[(AlertSeverity::Warning, 0)]);
    engine.tick(0, &[reading("a", 20.0), reading("b", 3.0)]);

    let changes = engine.tick(STEP_MS, &[reading("a", 20.0), reading("b", 30.0)]);

    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].notice.labels["upstream"], "b");
    assert_eq!((changes[0].notice.value.as_str(), changes[0].notice.threshold.as_str()), ("30", "10"));
    assert_eq!(engine.firing().len(), 2);
}

#[test]
fn the_critical_level_mutes_the_warning_of_the_same_series_alone() {
    let mut engine = engine(&[(AlertSeverity::Warning, 0), (AlertSeverity::Critical, 10)]);
    engine.tick(0, &[reading("a", 20.0)]);
    assert_eq!(engine.firing()[0].severity, AlertSeverity::Warning);

    let changes = engine.tick(STEP_MS, &[reading("a", 20.0), reading("b", 20.0)]);

    assert_eq!(changes.len(), 2, "{changes:?}");
    let firing = engine.firing();
    let of = |upstream: &str| -> Vec<_> {
        let mine = firing.iter().filter(|notice| notice.labels["upstream"] == upstream);
        mine.map(|notice| notice.severity).collect()
    };
    assert_eq!((of("a"), of("b")), (vec![AlertSeverity::Critical], vec![AlertSeverity::Warning]));
}

#[test]
fn alerts_and_their_memory_are_bounded() {
    let mut engine = engine(&[(AlertSeverity::Warning, 0)]);
    let all = |value| -> Vec<_> {
        (0..MAX_ALERTS + 50).map(|index| reading(&format!("upstream-{index}"), value)).collect()
    };

    engine.tick(0, &all(20.0));
    assert_eq!((engine.firing().len(), engine.dropped), (MAX_ALERTS, 50));

    engine.tick(STEP_MS, &all(1.0));
    engine.tick(2 * STEP_MS, &all(1.0));
    assert_eq!((engine.firing().len(), engine.notices().len()), (0, SHOWN_RESOLVED));
}

#[test]
fn a_fingerprint_is_the_same_everywhere_and_always() {
    let engine = engine(&[(AlertSeverity::Warning, 0), (AlertSeverity::Critical, 0)]);
    let id = |rule: usize, upstream: &str| engine.rules()[rule].fingerprint(&reading(upstream, 1.0).labels);

    assert_eq!(id(0, "backend"), id(0, "backend"));
    assert_ne!(id(0, "backend"), id(1, "backend"));
    assert_ne!(id(0, "backend"), id(0, "other"));
    // Receivers know alerts by it: it must not change with a version.
    assert_eq!(&*id(0, "backend"), FINGERPRINT);
}

const FINGERPRINT: &str = "d8b249de0b76244b";

/// A reading in a hundred words of it.
fn words() -> impl Strategy<Value = Vec<char>> {
    let word = prop_oneof![3 => Just('b'), 2 => Just('g'), 1 => Just('_')];
    proptest::collection::vec(word, 0..120)
}

proptest! {
    #[test]
    fn it_fires_on_bad_readings_ends_on_good_ones_and_never_on_missing_ones(
        words in words(),
        hold in 0_usize..6,
    ) {
        let script: String = words.iter().collect();
        let seconds = u64::try_from(hold).unwrap() * 10;
        let changes = play(&mut engine(&[(AlertSeverity::Warning, seconds)]), &script);

        let mut firing = false;
        for (step, sign) in changes {
            let before: Vec<_> = words[..=step].iter().rev().copied().filter(|word| *word != '_').collect();
            match sign {
                '+' => {
                    prop_assert!(!firing && words[step] == 'b');
                    // As many bad ones in a row as its time needs, and the first one.
                    prop_assert!(before.iter().take(hold + 1).all(|word| *word == 'b'));
                    prop_assert!(before.len() > hold);
                }
                _ => {
                    prop_assert!(firing && words[step] == 'g');
                    prop_assert_eq!(&before[..2], &['g', 'g']);
                }
            }
            firing = sign == '+';
        }
    }

    #[test]
    fn without_missing_readings_it_fires_exactly_when_it_was_bad_for_long_enough(
        words in proptest::collection::vec(prop_oneof![Just('b'), Just('g')], 0..80),
        hold in 0_usize..5,
    ) {
        let script: String = words.iter().collect();
        let seconds = u64::try_from(hold).unwrap() * 10;
        let found = play(&mut engine(&[(AlertSeverity::Warning, seconds)]), &script);

        // The model: runs of bad and good readings, nothing else.
        let (mut expected, mut firing, mut bad, mut good) = (Vec::new(), false, 0, 0);
        for (step, word) in words.iter().enumerate() {
            if *word == 'b' { bad += 1; good = 0; } else { good += 1; bad = 0; }
            if !firing && bad > hold {
                firing = true;
                expected.push((step, '+'));
            } else if firing && good >= 2 {
                firing = false;
                expected.push((step, '-'));
            }
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn notices_are_shared_not_copied_for_those_who_are_told() {
    let mut engine = engine(&[(AlertSeverity::Warning, 0)]);
    let changes = engine.tick(0, &[reading("a", 20.0)]);

    assert_eq!(Arc::strong_count(&changes[0].notice), 1);
    assert_eq!(*changes[0].notice, *engine.notices()[0]);
}
