//! What an operator may change about the router.

use super::error::CompileError;
use crate::config::{MessageType, ModelTier};
use regex::{Regex, RegexBuilder};

/// Words to add to a shipped list, or to put in its place.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// The words; `stem*` matches the start of a word.
    pub words: Vec<String>,
    /// Whether they replace the shipped list.
    pub replace: bool,
}

/// How a system prompt is recognised.
#[derive(Debug, Clone)]
pub enum SystemPattern {
    /// By a text that it contains, in whatever case.
    Contains(String),
    /// By a regular expression, in whatever case, in linear time.
    Regex(String),
}

/// What a recognised system prompt decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemDecision {
    /// The tier.
    Tier(ModelTier),
    /// The type, and so the tier.
    Type(MessageType),
}

/// One rule for system prompts.
#[derive(Debug, Clone)]
pub struct SystemRule {
    /// Which prompts.
    pub pattern: SystemPattern,
    /// What they decide.
    pub decision: SystemDecision,
}

/// All settings of the router.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tier of each type, by [`MessageType::index`].
    pub types: [ModelTier; MessageType::ALL.len()],
    /// Changes to the words of small talk.
    pub small_talk: Words,
    /// Changes to the serious words.
    pub serious: Words,
    /// How likely economy must be.
    pub threshold: f32,
    /// The most words of a last user turn that may go to economy.
    pub max_words: usize,
    /// The most words before it.
    pub max_history_words: usize,
    /// Rules for system prompts; the first match wins.
    pub systems: Vec<SystemRule>,
    /// Literal text that the backend wraps round the user's words, ignored in deciding.
    pub strip: Vec<String>,
    /// How many user turns after a serious one economy stays barred.
    pub after_serious: usize,
}

impl Default for Settings {
    fn default() -> Self {
        use ModelTier::{Economy, Premium, Standard};
        Self {
            types: [
                Economy, Economy, Economy, Economy, Standard, Standard, Standard, Standard, Premium, Standard,
            ],
            small_talk: Words::default(),
            serious: Words::default(),
            threshold: THRESHOLD,
            max_words: 120,
            max_history_words: 4000,
            systems: Vec::new(),
            strip: Vec::new(),
            after_serious: 3,
        }
    }
}

/// The shipped economy threshold: the lowest that keeps economy precise in cross-validation by author.
const THRESHOLD: f32 = 0.56;

/// A compiled rule for system prompts.
#[derive(Debug, Clone)]
pub(super) struct CompiledRule {
    pattern: Regex,
    /// What the rule decides.
    pub(super) decision: SystemDecision,
}

impl CompiledRule {
    /// Compiles a rule.
    pub(super) fn compile(rule: &SystemRule) -> Result<Self, CompileError> {
        let pattern = match &rule.pattern {
            SystemPattern::Contains(text) => regex::escape(text),
            SystemPattern::Regex(pattern) => pattern.clone(),
        };
        Ok(Self {
            pattern: RegexBuilder::new(&pattern).case_insensitive(true).size_limit(1 << 20).build()?,
            decision: rule.decision,
        })
    }

    /// Whether a system prompt is one of these.
    pub(super) fn matches(&self, system: &str) -> bool {
        self.pattern.is_match(system)
    }
}
