//! The router: which tier of model the next answer needs. The label law is `data/router/GUIDELINES.md`: what counts is what
//! the next answer must do, not which words the last message holds.
//!
//! One exchange is read once (`scene`): its turns in normal form ([`normalise`]), the lists of words that they hit
//! (`lexicon`), counts. From that come the model's features (`features`) and its scores (`model`); `decide` makes
//! the verdict from scores, lists and settings. Economy needs two signals that agree; a serious turn bars it. Whatever the
//! signals do not agree on is standard.
//!
//! [`train`] makes the weights from labelled [`items`], [`evaluate`] judges them. Nothing here reads the clock, files,
//! the network or a conversation's state.

mod classifier;
mod decide;
mod error;
pub mod evaluate;
mod features;
pub mod items;
mod lexicon;
mod model;
mod normalise;
mod scene;
mod settings;
#[cfg(test)]
mod tests;
pub mod train;

use std::borrow::Cow;

pub use classifier::{Classifier, Explanation, ListHit};
pub use decide::{Economy, Reason, SeriousBy, Signals, Verdict, tier_scores};
pub use error::CompileError;
pub use model::{CLASSES, Scores};
pub use normalise::normalise;
pub use settings::{Settings, SystemDecision, SystemPattern, SystemRule, Words};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The user.
    User,
    /// The model, as the coach.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Turn<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: Cow<'a, str>,
}

/// What a call asks the model to answer.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The system prompt.
    pub system: Option<&'a str>,
    /// The turns in order; the last one is usually the user's.
    pub turns: &'a [Turn<'a>],
}
