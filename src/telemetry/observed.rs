//! What an observing cache found, in numbers: plain values that the estimator fills and the admin plane shows.

use std::time::Duration;

use super::{labels::labels, reason::Reason};

/// The lifetimes that are tried at once, shortest first.
pub const TTLS: [Duration; 8] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(24 * 3600),
];

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// From the first observed request to now.
    pub watched: Duration,
    /// Keys held now.
    pub keys: u64,
    /// The most keys that are held.
    pub keys_max: u64,
    /// Answers passed on without a look, as too many were looked at, or too many routes seen.
    pub overlooked: u64,
    /// What was found by route, most requests first.
    pub routes: Vec<ObservedRoute>,
}

/// What was counted on one route.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Whole answers to GET.
    pub requests: u64,
    /// Requests that the configuration as it is would have answered from the cache.
    pub would_hits: u64,
    /// Answers that could not be compared: parts, unknown 304s, faults, and bodies over the bound.
    pub incomparable: u64,
    /// Whole answers to GET whose request carried a credential of any kind.
    pub with_credentials: u64,
    /// Requests with `Authorization`.
    pub authorization: u64,
    /// Requests with a cookie that is not in the key.
    pub cookie: u64,
    /// Requests with an API key or another credential.
    pub credential: u64,
    /// Answers that state their own lifetime, so that a rule has no say.
    pub declared: u64,
    /// Answers that set a cookie.
    pub set_cookie: u64,
}

/// What was found on one route.
#[derive(Clone, Debug)]
pub struct ObservedRoute {
    /// Its name in the configuration, else a path template.
    pub route: String,
    /// Where the name comes from.
    pub named: Named,
    /// From its first request to its last.
    pub watched: Duration,
    /// How often what was seen.
    pub counts: Counts,
    /// Requests by method.
    pub methods: Vec<(&'static str, u64)>,
    /// Answers by status.
    pub statuses: Vec<(u16, u64)>,
    /// Answers that no rule may store, by reason.
    pub refused: Vec<(Reason, u64)>,
    /// Fields that answers varied by.
    pub vary: Vec<String>,
    /// Requests without credentials.
    pub anonymous: View,
    /// Requests with credentials, as if each user had entries of their own.
    pub per_user: View,
    /// Requests with credentials, as if all of them shared entries.
    pub shared: View,
    /// What follows.
    pub advice: Advice,
}

/// What a cache would have done for one sort of requests. Where keys are sampled, counts are scaled up to all keys; those
/// named `sampled` are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Distinct keys.
    pub keys: u64,
    /// Requests that were looked at.
    pub sampled: u64,
    /// Those of them whose key was known already.
    pub sampled_repeats: u64,
    /// Requests.
    pub requests: u64,
    /// Requests whose key was known already.
    pub repeats: u64,
    /// Repeats with the same answer as the request before.
    pub same: u64,
    /// Pairs of successive requests for one key by different users.
    pub compared: u64,
    /// Pairs whose answers differed.
    pub differing: u64,
    /// What each lifetime of [`TTLS`] would have brought.
    pub ttls: [AtTtl; TTLS.len()],
}

/// What one lifetime would have brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtTtl {
    /// Would-be hits that were looked at.
    pub sampled_hits: u64,
    /// Would-be hits.
    pub hits: u64,
    /// Would-be hits whose stored answer was not the true one any more.
    pub wrong: u64,
    /// Time of the backend that hits would have saved, in microseconds.
    pub saved_us: u64,
}

labels! {
    /// Where the name of an observed route comes from.
    pub enum Named {
        /// The configuration.
        Configured = "configuration",
        /// The backend's OpenAPI document.
        Learned = "openapi",
        /// The look of the paths.
        Guessed = "guess",
        /// It has none: all paths that could not be told apart.
        Unnamed = "none",
    }
}

/// What follows for a route. Lifetimes are places in [`TTLS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The conclusion.
    pub verdict: Verdict,
    /// A lifetime for entries of each user, where answers differ between users.
    pub per_user: Option<usize>,
}

/// A conclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too few requests or repeats for any.
    TooFew,
    /// No lifetime could be measured: not watched for long enough, or no repeat in time.
    TooBrief,
    /// The backend states lifetimes itself.
    Declared,
    /// Most answers may not be stored.
    Refused(Reason),
    /// At every lifetime too many would-be hits were wrong.
    Changes,
    /// A lifetime for requests without credentials.
    Ttl(usize),
    /// All requests carry credentials; with entries of their own this lifetime would do.
    PerUser(usize),
    /// All requests carry credentials, and all users got the same.
    SameForAll(usize),
}

impl Verdict {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooFew => "too_few",
            Self::TooBrief => "too_brief",
            Self::Declared => "declared",
            Self::Refused(_) => "refused",
            Self::Changes => "changes",
            Self::Ttl(_) => "ttl",
            Self::PerUser(_) => "per_user",
            Self::SameForAll(_) => "same_for_all",
        }
    }

    /// Why most answers may not be stored, if that is it.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::TooFew
            | Self::TooBrief
            | Self::Declared
            | Self::Changes
            | Self::Ttl(_)
            | Self::PerUser(_)
            | Self::SameForAll(_) => None,
        }
    }

    /// The lifetime, where there is one.
    #[must_use]
    pub const fn ttl(self) -> Option<usize> {
        match self {
            Self::Ttl(at) | Self::PerUser(at) | Self::SameForAll(at) => Some(at),
            Self::TooFew | Self::TooBrief | Self::Declared | Self::Refused(_) | Self::Changes => None,
        }
    }
}
