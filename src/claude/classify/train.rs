//! How the weights are made: stochastic gradient descent with `AdaGrad`, one thread, a fixed seed, a fixed order of all
//! arithmetic. The same items give the same bytes.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::classifier::Classifier;
use super::error::CompileError;
use super::evaluate::{Report, Share};
use super::features::Features;
use super::items::{Item, Split};
use super::lexicon::{Hits, Lexicon};
use super::model::{CLASSES, LANES, MOST_FEATURES, Model, Weights, group_value, softmax};
use super::normalise::normalise;
use super::scene::Scene;
use super::settings::Settings;

/// An item, ready to train on.
#[derive(Debug, Clone)]
pub(super) struct Example {
    /// What the model sees.
    pub(super) features: Features,
    /// Its place in [`CLASSES`].
    pub(super) class: usize,
    /// Its tier's place.
    pub(super) tier: usize,
    /// Whether it is serious.
    pub(super) serious: bool,
    /// How much it counts.
    pub(super) weight: f32,
}

impl Example {
    /// Reads an item.
    #[must_use]
    pub(super) fn of(item: &Item, lexicon: &Lexicon) -> Self {
        let scene = item.with_exchange(|exchange| Scene::read(exchange, lexicon, &[], 0));
        Self {
            features: Features::of(&scene, lexicon),
            class: class_of(item),
            tier: item.tier.index(),
            serious: item.serious,
            weight: 1.0,
        }
    }
}

/// The class of an item.
#[must_use]
pub(super) fn class_of(item: &Item) -> usize {
    CLASSES
        .iter()
        .position(|&(kind, tier)| kind == item.kind && tier == item.tier)
        .or_else(|| CLASSES.iter().position(|&(kind, _)| kind == item.kind))
        .unwrap_or(CLASSES.len() - 1)
}

/// How long and how fast to learn, found by cross-validation.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Passes over the data.
    pub epochs: usize,
    /// Step size.
    pub rate: f32,
    /// Decay of weights towards zero, by step.
    pub decay: f32,
    /// How many examples must have a feature.
    pub least: usize,
    /// The share of features of each example that a pass leaves out, in 256ths.
    pub dropout: usize,
    /// The share of whole groups that a pass leaves out, in 256ths.
    pub group_dropout: usize,
    /// The seed of the order of items.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { epochs: 12, rate: 0.2, decay: 1.5e-4, least: 3, dropout: 80, group_dropout: 40, seed: 0x5eed }
    }
}

/// A small generator of pseudo-random numbers (xorshift64*), for the order of items.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// From a seed that is not zero.
    #[must_use]
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below a bound.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap_or(0) % bound.max(1)
    }

    /// A list in random order.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// The first authors, by the letters of their ids: they wrote before any model existed, and a part of their items is held
/// back. The items of all others are trained on whole.
const FIRST: [&str; 7] = ["t", "a", "b_", "c", "d", "e", "f"];

/// How much an item of one of the first authors counts.
const FIRST_WEIGHT: f32 = 2.0;

fn is_whole(item: &Item) -> bool {
    !FIRST.contains(&item.author())
}

/// The items to train on: not those held back, nor what ends with the same message as one of those.
fn kept(items: &[Item]) -> Vec<&Item> {
    let last = |item: &Item| item.messages.last().map(|message| normalise(&message.content));
    let held: BTreeSet<_> =
        items.iter().filter(|item| item.is_in(Split::Dev) && !is_whole(item)).map(last).collect();
    items
        .iter()
        .filter(|item| item.is_in(Split::Train) || (is_whole(item) && !held.contains(&last(item))))
        .collect()
}

/// The bytes of the weights for some items. What is held back is never trained on.
///
/// # Errors
/// When the shipped lists of words do not compile.
pub fn weights_of(items: &[Item], recipe: Recipe, data_hash: [u8; 32]) -> Result<Vec<u8>, CompileError> {
    let lexicon = Lexicon::compile(&[])?;
    let kept = kept(items);
    let whole = kept.iter().enumerate().map(|(at, item)| (at, Example::of(item, &lexicon)));
    let examples: Vec<Example> = whole
        .chain(variants(&kept, &lexicon))
        .map(|(at, mut example)| {
            example.weight *= if is_whole(kept[at]) { 1.0 } else { FIRST_WEIGHT };
            example
        })
        .collect();
    let examples: Vec<&Example> = examples.iter().collect();
    let mut weights = fit_often(&examples, recipe);
    weights.prune(&mass(&weights, &examples), MOST_FEATURES);
    Ok(weights.to_bytes(data_hash))
}

/// Judges the recipe on authors whom it has not seen: each of the first authors is left out of training in turn, and
/// judged by what comes of the others. `done` hears of each one. What is held back is neither trained on nor judged.
///
/// # Errors
/// When the shipped lists of words do not compile.
pub fn authors_left_out(
    items: &[Item],
    recipe: Recipe,
    mut done: impl FnMut(&str, Share),
) -> Result<Report, CompileError> {
    let mut report = Report::default();
    for author in FIRST {
        let (own, others): (Vec<_>, Vec<_>) = items.iter().cloned().partition(|item| item.author() == author);
        let weights = weights_of(&others, recipe, [0; 32])?;
        let classifier = Classifier::with_model(Settings::default(), Model::read(Cow::Owned(weights))?)?;
        let mut right = Share::default();
        for item in own.iter().filter(|item| item.is_in(Split::Train)) {
            let verdict = item.with_exchange(|exchange| classifier.classify(exchange));
            report.add(item, verdict.kind, verdict.tier);
            right.count(verdict.tier == item.tier);
        }
        done(author, right);
    }
    Ok(report)
}

/// How much a variant of an item counts.
const VARIANT_WEIGHT: f32 = 0.5;

/// Variants of items with the same label and the place of the item: under the system prompt of another one where
/// prompts say nothing about the job of the call, and with a shorter history where nothing serious is in it. They keep the
/// model from learning authors' prompts.
#[must_use]
pub(super) fn variants(items: &[&Item], lexicon: &Lexicon) -> Vec<(usize, Example)> {
    let jobs = lexicon
        .names()
        .iter()
        .enumerate()
        .filter(|(_, name)| name.starts_with("job_") && !NEUTRAL_JOBS.contains(&name.as_str()))
        .chain(lexicon.names().iter().enumerate().filter(|(_, name)| *name == "system_memory"))
        .fold(Hits::default(), |all, (list, _)| all.and(list));
    let neutral: Vec<usize> = (0..items.len())
        .filter(|&at| {
            items[at].system.as_ref().is_none_or(|text| !lexicon.hits(&normalise(text)).meets(jobs))
        })
        .collect();
    let mut random = Random::new(4242);
    let mut variants = Vec::new();
    let mut add = |at: usize, item: &Item| {
        let mut example = Example::of(item, lexicon);
        example.weight = VARIANT_WEIGHT;
        variants.push((at, example));
    };
    for &at in &neutral {
        let mut item = items[at].clone();
        item.system.clone_from(&items[neutral[random.below(neutral.len())]].system);
        add(at, &item);
    }
    for (at, item) in items.iter().enumerate().filter(|(_, item)| item.messages.len() >= 5 && !item.serious) {
        let mut item = (*item).clone();
        item.messages.drain(..item.messages.len() - 3);
        add(at, &item);
    }
    variants
}

/// Lists of system prompts that say who speaks rather than what the call is for.
const NEUTRAL_JOBS: [&str; 5] = ["job_career", "job_dating", "job_support", "job_data", "job_coach"];

/// The features that at least `least` examples have, in order.
#[must_use]
pub(super) fn frequent(examples: &[&Example], least: usize) -> Vec<u32> {
    let mut all: Vec<u32> = Vec::new();
    for example in examples {
        let mut own: Vec<u32> = example.features.groups.iter().flatten().copied().collect();
        own.sort_unstable();
        own.dedup();
        all.append(&mut own);
    }
    all.sort_unstable();
    all.chunk_by(|left, right| left == right).filter(|run| run.len() >= least).map(|run| run[0]).collect()
}

/// How much each feature takes part in the examples: the sum of the squares of its values.
fn mass(weights: &Weights, examples: &[&Example]) -> Vec<f32> {
    let mut mass = vec![0.0; weights.features.len()];
    for example in examples {
        for (group, hashes) in example.features.groups.iter().enumerate() {
            let value = group_value(group, hashes.len());
            for place in hashes.iter().filter_map(|&hash| weights.place(hash)) {
                mass[place] += value * value;
            }
        }
    }
    mass
}

/// An example with features by place.
struct Row {
    groups: Vec<(f32, Vec<usize>)>,
}

impl Row {
    /// The row without some of its features, the rest counting for more: the model learns not to lean on few of them.
    fn thinned(&self, recipe: Recipe, random: &mut Random) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let more = 256.0 / (256 - recipe.dropout) as f32;
        let groups = self
            .groups
            .iter()
            .map(|(value, places)| {
                if random.below(256) < recipe.group_dropout {
                    return (0.0, Vec::new());
                }
                let kept = places.iter().copied().filter(|_| random.below(256) >= recipe.dropout).collect();
                (value * more, kept)
            })
            .collect();
        Self { groups }
    }
}

/// How many fits are averaged; they differ in the order of items and in what is left out.
const FITS: u64 = 3;

/// The mean of some fits, which errs less than any one of them and costs the proxy no more.
#[must_use]
pub(super) fn fit_often(examples: &[&Example], recipe: Recipe) -> Weights {
    let mut mean = fit(examples, recipe);
    let mut fits = 1.0;
    for more in 1..FITS {
        add(&mut mean, &fit(examples, Recipe { seed: recipe.seed + more, ..recipe }));
        fits += 1.0;
    }
    scale(&mut mean, 1.0 / fits);
    mean
}

/// Fits the weights. The result is the mean of the weights after each pass of the second half.
#[must_use]
pub(super) fn fit(examples: &[&Example], recipe: Recipe) -> Weights {
    let mut weights = Weights::zero(frequent(examples, recipe.least));
    let rows: Vec<Row> = examples
        .iter()
        .map(|example| Row {
            groups: example
                .features
                .groups
                .iter()
                .enumerate()
                .map(|(group, hashes)| {
                    let places = hashes.iter().filter_map(|&hash| weights.place(hash)).collect();
                    (group_value(group, hashes.len()), places)
                })
                .collect(),
        })
        .collect();
    let mut squares = vec![[1e-3_f32; LANES]; weights.rows.len()];
    let mut bias_squares = [1e-3_f32; LANES];
    let mut mean = Weights::zero(weights.features.clone());
    let mut taken = 0.0_f32;
    let mut order: Vec<usize> = (0..examples.len()).collect();
    let mut random = Random::new(recipe.seed);
    for epoch in 0..recipe.epochs {
        random.shuffle(&mut order);
        for &at in &order {
            let row = rows[at].thinned(recipe, &mut random);
            let gradient = gradient(&weights, examples[at], &row);
            for lane in 0..LANES {
                bias_squares[lane] += gradient[lane] * gradient[lane];
                weights.bias[lane] -= 0.3 * recipe.rate * gradient[lane] / bias_squares[lane].sqrt();
            }
            for (value, places) in &row.groups {
                for &place in places {
                    let row = &mut weights.rows[place];
                    let square = &mut squares[place];
                    for lane in 0..LANES {
                        let slope = gradient[lane] * value + recipe.decay * row[lane];
                        square[lane] += slope * slope;
                        row[lane] -= recipe.rate * slope / square[lane].sqrt();
                    }
                }
            }
        }
        if epoch * 2 >= recipe.epochs {
            taken += 1.0;
            add(&mut mean, &weights);
        }
    }
    scale(&mut mean, 1.0 / taken);
    mean
}

fn scale(weights: &mut Weights, factor: f32) {
    for weight in weights.rows.iter_mut().flatten().chain(&mut weights.bias) {
        *weight *= factor;
    }
}

fn add(mean: &mut Weights, weights: &Weights) {
    for (to, from) in mean.rows.iter_mut().zip(&weights.rows) {
        for (slot, weight) in to.iter_mut().zip(from) {
            *slot += weight;
        }
    }
    for (slot, weight) in mean.bias.iter_mut().zip(&weights.bias) {
        *slot += weight;
    }
}

fn gradient(weights: &Weights, example: &Example, row: &Row) -> [f32; LANES] {
    let mut sums = weights.bias;
    for (value, places) in &row.groups {
        for &place in places {
            for (sum, weight) in sums.iter_mut().zip(&weights.rows[place]) {
                *sum += value * weight;
            }
        }
    }
    let mut gradient = [0.0; LANES];
    softmax(&sums[..11], &mut gradient[..11]);
    softmax(&sums[11..14], &mut gradient[11..14]);
    gradient[14] = 1.0 / (1.0 + (-sums[14]).exp());
    gradient[example.class] -= 1.0;
    gradient[11 + example.tier] -= 1.0;
    if example.serious {
        gradient[14] -= 1.0;
    }
    for slope in &mut gradient {
        *slope *= example.weight;
    }
    gradient
}
