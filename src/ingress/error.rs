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

/// What about a question cannot be a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The method is no token.
    #[error("`{0}` is not a method")]
    Method(String),
    /// Neither a URL nor a path.
    #[error(
        "`{0}` is neither a path such as /api/challenges nor a URL such as http://coach.example/api/challenges"
    )]
    Url(String),
    /// Bytes that have no place in a URL.
    #[error("`{0}` has characters that a URL may not have; write them percent-encoded, as clients send them")]
    Bytes(String),
    /// The URL and `Host` name two hosts.
    #[error("the URL is for {0}, and the field `Host` says otherwise")]
    Host(String),
    /// Name or value of a field.
    #[error("the field `{0}` has a name or a value that no field may have")]
    Field(String),
    /// More than any limit lets in.
    #[error("the fields are larger than any limit lets in")]
    TooLarge,
}
