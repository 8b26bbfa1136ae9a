//! What can be wrong with the tags of a route.

use thiserror::Error;

use crate::config::ValueError;

/// Why the tags of a route do not compile.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TagError {
    /// The text is not a template.
    #[error(transparent)]
    Template(#[from] ValueError),
    /// It names a parameter that the path of the route does not have.
    #[error("reading tag {text:?}: the path has no parameter {name:?}")]
    Unknown {
        /// The template.
        text: String,
        /// The name.
        name: String,
    },
    /// There are too many.
    #[error("reading {count} tags: at most {most} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}
