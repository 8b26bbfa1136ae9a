//! What is said about objects: what became of them, what somebody should know, and what is wrong.

use std::fmt;

/// Something that is wrong in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) path: String,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn at(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What became of an object.
    Done,
    /// What somebody should know.
    Remark,
    /// Nothing is written because of it.
    Problem,
}

/// A line about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// The object, or the place in the text.
    pub about: String,
    /// What is said.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Done => write!(f, "{}: {}", self.about, self.text),
            Level::Remark => write!(f, "{}: note: {}", self.about, self.text),
            Level::Problem => write!(f, "error: {}: {}", self.about, self.text),
        }
    }
}
