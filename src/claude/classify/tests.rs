//! The router as a whole: the guidelines' examples, the data, hostile input, the weights.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

use super::evaluate::Report;
use super::items::{Item, Split, data_hash};
use super::train::{Recipe, authors_left_out, weights_of};
use super::{
    Classifier, Exchange, Reason, Role, Settings, SystemDecision, SystemPattern, SystemRule, Turn, Words,
};
use crate::config::{MessageType, ModelTier};

fn classifier() -> Classifier {
    Classifier::compile(Settings::default()).unwrap()
}

/// The tier of a conversation; turns alternate and end with the user's.
fn tier(classifier: &Classifier, system: Option<&str>, turns: &[&str]) -> ModelTier {
    let last = turns.len() - 1;
    let turns: Vec<Turn<'_>> = turns
        .iter()
        .enumerate()
        .map(|(place, text)| Turn {
            role: if (last - place).is_multiple_of(2) { Role::User } else { Role::Assistant },
            text: Cow::Borrowed(*text),
        })
        .collect();
    classifier.classify(&Exchange { system, turns: &turns }).tier
}

fn data() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/router");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            files.push((name, std::fs::read_to_string(path).unwrap()));
        }
    }
    files
}

fn items() -> Vec<Item> {
    data().iter().flat_map(|(_, content)| Item::parse_all(content).unwrap()).collect()
}

#[test]
fn follows_the_guidelines_examples() {
    use ModelTier::{Economy, Premium, Standard};
    let classifier = classifier();
    let coach = Some("You are a warm dating coach.");

    for (system, turns, expected) in [
        (None, &["hi"][..], Economy),
        (None, &["ok thanks"], Economy),
        (coach, &["thanks, bye!"], Economy),
        (coach, &["can you move my call to tuesday?"], Economy),
        (coach, &["how do i cancel my subscription"], Economy),
        (coach, &["my cat fell off the sofa lol"], Economy),
        (coach, &["she left me on read for two days, what should i text her?"], Standard),
        (coach, &["i want a smaller goal for this week, can you help me choose one"], Standard),
        (coach, &["i feel so lonely tonight, nobody called"], Standard),
        (coach, &["what does my confidence score of 42 mean, is it low?"], Premium),
        (coach, &["score my questionnaire: 1:4 2:5 3:1 4:2 5:5 6:3"], Premium),
        (coach, &["done", "All 20 answers are in. Shall I score them now?", "yes"], Premium),
        (coach, &["i feel like there's no point anymore"], Standard),
        (coach, &["i want to kill myself lol"], Standard),
    ] {
        assert_eq!(tier(&classifier, system, turns), expected, "{turns:?}");
    }
}

#[test]
fn a_serious_turn_bars_economy_for_the_turns_after_it() {
    let classifier = classifier();
    let turns = ["i want to die", "I'm here.", "ok", "How are you now?", "fine", "Good.", "thanks, bye"];

    assert_eq!(tier(&classifier, None, &turns), ModelTier::Standard);
    assert_eq!(tier(&classifier, None, &turns[6..]), ModelTier::Economy);
}

#[test]
fn no_serious_item_of_the_train_part_goes_to_economy() {
    let report: Report = classifier().evaluate(&items(), Split::Train);

    assert!(report.items() > 2000);
    assert_eq!(report.serious_to_economy, Vec::<String>::new());
}

#[test]
fn the_weights_are_those_of_the_data() {
    assert_eq!(
        classifier().data_hash(),
        data_hash(&data()),
        "stale weights: run `cargo run --release --example train_router`"
    );
}

#[test]
fn training_gives_the_same_bytes_again() {
    let items: Vec<Item> = items().into_iter().take(60).collect();
    let recipe = Recipe { epochs: 2, ..Recipe::default() };

    let first = weights_of(&items, recipe, [7; 32]).unwrap();

    assert_eq!(first, weights_of(&items, recipe, [7; 32]).unwrap());
}

#[test]
fn every_first_author_is_judged_by_what_comes_of_the_others_and_never_by_what_is_held_back() {
    let items: Vec<Item> = items().into_iter().step_by(150).collect();
    let recipe = Recipe { epochs: 2, ..Recipe::default() };

    let mut authors = Vec::new();
    let report =
        authors_left_out(&items, recipe, |author, share| authors.push((author.to_owned(), share.items)))
            .unwrap();

    assert_eq!(authors.len(), 7);
    for (author, judged) in &authors {
        let own = items.iter().filter(|item| item.author() == author && item.is_in(Split::Train)).count();
        assert_eq!(*judged, own, "{author}");
    }
    assert_eq!(report.items(), authors.iter().map(|(_, judged)| judged).sum::<usize>());
    assert!(report.items() > 10);
}

#[test]
fn hostile_input_costs_bounded_time_and_never_goes_to_economy_when_long() {
    let classifier = classifier();
    let mut lines = String::new();
    for number in 0..50_000 {
        writeln!(lines, "ok {number}\u{0}").unwrap();
    }

    for text in [
        "x".repeat(4 << 20),
        "a ".repeat(2 << 20),
        "\u{200b}".repeat(1 << 20),
        "死".repeat(1 << 20),
        "\u{1f600}".repeat(1 << 18),
        "\u{301}".repeat(1 << 18),
        "\u{fdfa}".repeat(1 << 18),
        lines,
    ] {
        assert_ne!(tier(&classifier, Some(&text), &[&text, &text, &text]), ModelTier::Economy);
    }
    for text in ["", " ", "\u{0}", "\u{1}\u{2}\u{7f}", "\u{200b}\u{200d}", "\u{feff}", "￾"] {
        let _ = tier(&classifier, Some(text), &[text]);
    }
}

#[test]
fn reads_any_order_and_number_of_turns() {
    let classifier = classifier();
    let turn = |role| Turn { role, text: Cow::Borrowed("ok") };
    let many: Vec<Turn<'_>> =
        (0..1000).map(|place| turn(if place % 3 == 0 { Role::Assistant } else { Role::User })).collect();

    let _ = classifier.classify(&Exchange { system: None, turns: &many });
    let _ = classifier.classify(&Exchange { system: None, turns: &[turn(Role::Assistant)] });
    let nothing = classifier.classify(&Exchange { system: None, turns: &[] });

    assert_ne!(nothing.tier, ModelTier::Economy);
}

#[test]
fn system_rules_decide_but_never_send_a_serious_turn_to_economy() {
    let rule = |pattern, decision| SystemRule { pattern, decision };
    let settings = Settings {
        systems: vec![
            rule(SystemPattern::Contains("Short Title".to_owned()), SystemDecision::Tier(ModelTier::Economy)),
            rule(
                SystemPattern::Regex("scor(e|ing)".to_owned()),
                SystemDecision::Type(MessageType::Assessment),
            ),
        ],
        ..Settings::default()
    };
    let classifier = Classifier::compile(settings).unwrap();
    let title = Some("Write a short title.");

    assert_eq!(tier(&classifier, title, &["how do i ask her out"]), ModelTier::Economy);
    assert_eq!(tier(&classifier, title, &["i want to kill myself"]), ModelTier::Standard);
    assert_eq!(tier(&classifier, Some("You are SCORING answers"), &["hi"]), ModelTier::Premium);
    let broken = Settings {
        systems: vec![rule(SystemPattern::Regex("(".to_owned()), SystemDecision::Tier(ModelTier::Economy))],
        ..Settings::default()
    };
    assert!(Classifier::compile(broken).is_err());
}

#[test]
fn settings_change_types_words_and_limits() {
    let mut settings = Settings { max_words: 3, ..Settings::default() };
    settings.types[MessageType::Greeting.index()] = ModelTier::Standard;
    settings.serious = Words { words: vec!["zzyzx".to_owned()], replace: false };
    settings.strip = vec!["<user>".to_owned(), "</user>".to_owned()];
    let classifier = Classifier::compile(settings).unwrap();

    assert_eq!(tier(&classifier, None, &["hello"]), ModelTier::Standard);
    assert_eq!(tier(&classifier, None, &["ok thanks"]), ModelTier::Economy);
    assert_eq!(tier(&classifier, None, &["<user>ok thanks</user>"]), ModelTier::Economy);
    assert_eq!(tier(&classifier, None, &["ok thanks zzyzx"]), ModelTier::Standard);
    assert_eq!(tier(&classifier, None, &["ok thanks a lot for that"]), ModelTier::Standard);
}

#[test]
fn an_explanation_names_lists_and_the_verdict_quotes_nothing() {
    let classifier = classifier();
    let turns = [Turn { role: Role::User, text: Cow::Borrowed("i am thinking of suicide") }];

    let explanation = classifier.explain(&Exchange { system: None, turns: &turns });

    assert!(explanation.verdict.bars_economy);
    assert!(
        explanation
            .hits
            .iter()
            .any(|hit| hit.list == "serious" && hit.words.iter().all(|word| word.starts_with("suicid")))
    );
    assert!(!format!("{:?}", explanation.verdict).contains("suicid"));
    assert_ne!(explanation.verdict.reason, Reason::TwoSignals);
}
