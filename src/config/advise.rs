//! `cache.advise`: how answers are compared where the cache observes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How answers are compared where the cache observes, for `touchline advise`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Advise {
    /// Members of JSON answers that do not count when two answers are compared, such as the time at which they were
    /// made. A name stands for a member of the outermost object, `meta.timestamp` for one of an object within it; nothing
    /// is looked for in lists. At most 32, at most 4 deep. Default: [timestamp, cached].
    #[schemars(extend("x-items" = "text"))]
    pub ignore: Vec<String>,
}

impl Advise {
    /// The most members that may be named.
    pub const MAX_IGNORED: usize = 32;

    /// How deep a named member may lie.
    pub const MAX_DEPTH: usize = 4;
}

impl Default for Advise {
    fn default() -> Self {
        Self { ignore: vec!["timestamp".to_owned(), "cached".to_owned()] }
    }
}
