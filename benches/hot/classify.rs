//! The router of the Claude plane: a verdict on a long conversation, and on a single line.

use std::borrow::Cow;

use divan::Bencher;
use touchline::{
    claude::classify::{Classifier, Exchange, Role, Settings, Turn},
    config::ModelTier,
};

/// What the turns are made of.
const SENTENCE: &str = "So yesterday I went to the office party and talked to three people from marketing, and honestly \
    it was not as bad as I feared, but then he said something odd about my shoes. ";

/// A system prompt and thirteen turns, 10.4 kB together.
#[divan::bench(sample_size = 8)]
fn classify_10kb_exchange(bencher: Bencher<'_, '_>) {
    let classifier = Classifier::compile(Settings::default()).unwrap();
    let (system, text) = (SENTENCE.repeat(8), SENTENCE.repeat(4));
    let turns: Vec<Turn<'_>> = (0..13).map(|place| turn(place % 2 == 0, &text)).collect();
    let exchange = Exchange { system: Some(&system), turns: &turns };
    assert_eq!(system.len() + turns.len() * text.len(), 10_440);

    bencher.bench_local(|| classifier.classify(divan::black_box(&exchange)));
}

/// A first message that asks for something practical.
#[divan::bench(sample_size = 64)]
fn classify_one_line(bencher: Bencher<'_, '_>) {
    let classifier = Classifier::compile(Settings::default()).unwrap();
    let turns = [turn(true, "thanks, that helps! can we move my call to tuesday?")];
    let exchange = Exchange { system: None, turns: &turns };
    assert_eq!(classifier.classify(&exchange).tier, ModelTier::Economy);

    bencher.bench_local(|| classifier.classify(divan::black_box(&exchange)));
}

fn turn(user: bool, text: &str) -> Turn<'_> {
    Turn { role: if user { Role::User } else { Role::Assistant }, text: Cow::Borrowed(text) }
}
