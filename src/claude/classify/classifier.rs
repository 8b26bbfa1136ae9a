//! The classifier: settings and weights, compiled once, and the call that the proxy makes for each request.

use super::decide::{Lists, Verdict, decide};
use super::error::CompileError;
use super::evaluate::Report;
use super::features::Features;
use super::items::{Item, Split};
use super::lexicon::Lexicon;
use super::model::Model;
use super::scene::Scene;
use super::settings::{CompiledRule, Settings, SystemDecision};
use super::{Exchange, Role};

/// The router, ready to use.
#[derive(Debug, Clone)]
pub struct Classifier {
    settings: Settings,
    lexicon: Lexicon,
    lists: Lists,
    rules: Vec<CompiledRule>,
    model: Model,
}

/// Words of one list in one turn, for explanations only: they quote the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListHit {
    /// `system`, or the place of the turn.
    pub place: String,
    /// The name of the list.
    pub list: String,
    /// The words.
    pub words: Vec<String>,
}

/// A verdict with the words behind it. Never kept and never logged.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// The words that were found.
    pub hits: Vec<ListHit>,
}

impl Classifier {
    /// Compiles settings.
    ///
    /// # Errors
    /// When a pattern does not compile or the embedded weights are damaged.
    pub fn compile(settings: Settings) -> Result<Self, CompileError> {
        Self::with_model(settings, Model::embedded()?)
    }

    /// Compiles settings for other weights.
    ///
    /// # Errors
    /// When a pattern does not compile.
    pub(super) fn with_model(settings: Settings, model: Model) -> Result<Self, CompileError> {
        let lexicon = Lexicon::compile(&[
            ("chat_topic", &settings.small_talk.words, settings.small_talk.replace),
            ("serious", &settings.serious.words, settings.serious.replace),
        ])?;
        let lists = Lists::find(&lexicon);
        let rules = settings.systems.iter().map(CompiledRule::compile).collect::<Result<_, _>>()?;
        Ok(Self { settings, lexicon, lists, rules, model })
    }

    /// The verdict on an exchange. Bounded in time and memory whatever the exchange is.
    #[must_use]
    pub fn classify(&self, exchange: &Exchange<'_>) -> Verdict {
        let scene = Scene::read(exchange, &self.lexicon, &self.settings.strip, self.settings.after_serious);
        let scores = self.model.scores(&Features::of(&scene, &self.lexicon));
        decide(&scene, scores, self.lists, &self.settings, self.rule(exchange.system))
    }

    /// The verdict with the words behind it.
    #[must_use]
    pub fn explain(&self, exchange: &Exchange<'_>) -> Explanation {
        let mut hits = Vec::new();
        let mut find = |place: String, text: &str| {
            let text = super::normalise(text);
            for list in self.lexicon.hits(&text).iter() {
                let name = self.lexicon.names().get(list).cloned().unwrap_or_default();
                hits.push(ListHit {
                    place: place.clone(),
                    list: name,
                    words: self.lexicon.words(&text, list),
                });
            }
        };
        if let Some(system) = exchange.system {
            find("system".to_owned(), system);
        }
        let from = exchange.turns.len().saturating_sub(8);
        for (place, turn) in exchange.turns.iter().enumerate().skip(from) {
            let speaker = if turn.role == Role::User { "user" } else { "assistant" };
            find(format!("{speaker} {place}"), &turn.text);
        }
        Explanation { verdict: self.classify(exchange), hits }
    }

    /// Judges labelled items of a part of the data.
    #[must_use]
    pub fn evaluate(&self, items: &[Item], split: Split) -> Report {
        let mut report = Report::default();
        for item in items.iter().filter(|item| item.is_in(split)) {
            let verdict = item.with_exchange(|exchange| self.classify(exchange));
            report.add(item, verdict.kind, verdict.tier);
        }
        report
    }

    /// The hash of the data that the weights were made from.
    #[must_use]
    pub const fn data_hash(&self) -> [u8; 32] {
        self.model.data_hash()
    }

    fn rule(&self, system: Option<&str>) -> Option<(usize, SystemDecision)> {
        let system = system?;
        let (place, rule) = self.rules.iter().enumerate().find(|(_, rule)| rule.matches(system))?;
        Some((place, rule.decision))
    }
}
