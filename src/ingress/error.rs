//! Why the plane could not be built.

/// A route that cannot be compiled. The configuration's own checks find such routes first, with line and column; this
/// is what remains when a table is built from a configuration that was made by hand.
#[derive(Debug, thiserror::Error)]
#[error("compiling the route {route}: {cause}")]
pub struct CompileError {
    route: String,
    cause: String,
}

impl CompileError {
    pub(super) fn new(route: &str, cause: &dyn std::error::Error) -> Self {
        Self { route: route.to_owned(), cause: cause.to_string() }
    }
}
