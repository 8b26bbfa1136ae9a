//! What can be wrong with the router's settings or its weights.

use thiserror::Error;

/// Why a classifier cannot be built.
#[derive(Debug, Error)]
pub enum CompileError {
    /// A change names a list of words that does not exist.
    #[error("there is no list of words named {0}")]
    List(String),
    /// There are more lists or words than there is room for.
    #[error("there are too many lists or words")]
    Lists,
    /// A pattern does not compile.
    #[error("compiling the pattern of a system rule")]
    Pattern(#[from] regex::Error),
    /// The embedded weights are not in the format of this version.
    #[error("reading the router's weights: {0}")]
    Weights(&'static str),
    /// A line of labelled data is not in the format.
    #[error("line {line} of the labelled data: {problem}")]
    Item {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}
