//! The closed set of reasons of the cache: why a request was not looked up, not found, not stored, or answered stale.

/// Why the cache did what it did. One set for headers, labels and log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The cache is switched off, here or for the route.
    Off,
    /// No rule covers the route and the backend gave no word of its own.
    NotListed,
    /// The cache only counts what it would have done.
    Observe,
    /// The method is never answered from the cache.
    Method,
    /// Answered by the proxy itself, such as a denied path.
    Refused,
    /// The request carries `Authorization`.
    Authorization,
    /// The request carries `Cookie`.
    Cookie,
    /// The request carries another credential.
    Credential,
    /// Whose answer this is cannot be told.
    Identity,
    /// The request has a body.
    Body,
    /// The request asks for a range of what is not stored.
    Range,
    /// The request has a condition that only the backend can judge.
    Conditional,
    /// The path can be read in more than one way.
    Path,
    /// The key has as many variants as are allowed.
    Variants,
    /// The last answer for this key could not be stored.
    HitForMiss,
    /// The request asks for another protocol.
    Upgrade,
    /// Nothing is stored for the key.
    Absent,
    /// What is stored is past its lifetime.
    Expired,
    /// No stored variant fits the request.
    Vary,
    /// The client asked for a fresh answer.
    ClientNoCache,
    /// What was stored has been purged.
    Purged,
    /// The client wanted a stored answer or none.
    OnlyIfCached,
    /// The answer says `no-store`.
    NoStore,
    /// The answer says `private`.
    Private,
    /// The answer says `no-cache` and has no validator.
    NoCache,
    /// The answer sets a cookie.
    SetCookie,
    /// The answer says `Vary: *`.
    VaryStar,
    /// The answer varies by a field that tells users apart.
    VaryCredential,
    /// The status is not stored.
    Status,
    /// Neither the answer nor a rule gives a lifetime.
    NoFreshness,
    /// The answer was past its lifetime when it came.
    StaleOnArrival,
    /// The answer demands an understanding of its status that is not there.
    MustUnderstand,
    /// The request says `no-store`.
    RequestNoStore,
    /// The answer names one origin without varying by it.
    Cors,
    /// The answer is a stream.
    Streaming,
    /// The answer is over the size limit.
    TooLarge,
    /// Too many answers are being copied at once.
    FillLimit,
    /// The route made too many new keys.
    TooManyKeys,
    /// The answer ended before its end.
    Incomplete,
    /// Stale while another request revalidates.
    Swr,
    /// Stale because the backend answered with an error.
    Sie,
    /// Stale because the backend cannot be reached.
    Disconnect,
    /// Stale because the client allows it.
    MaxStale,
}

impl Reason {
    /// Every value, in the order of its index.
    pub const ALL: [Self; 43] = [
        Self::Off,
        Self::NotListed,
        Self::Observe,
        Self::Method,
        Self::Refused,
        Self::Authorization,
        Self::Cookie,
        Self::Credential,
        Self::Identity,
        Self::Body,
        Self::Range,
        Self::Conditional,
        Self::Path,
        Self::Variants,
        Self::HitForMiss,
        Self::Upgrade,
        Self::Absent,
        Self::Expired,
        Self::Vary,
        Self::ClientNoCache,
        Self::Purged,
        Self::OnlyIfCached,
        Self::NoStore,
        Self::Private,
        Self::NoCache,
        Self::SetCookie,
        Self::VaryStar,
        Self::VaryCredential,
        Self::Status,
        Self::NoFreshness,
        Self::StaleOnArrival,
        Self::MustUnderstand,
        Self::RequestNoStore,
        Self::Cors,
        Self::Streaming,
        Self::TooLarge,
        Self::FillLimit,
        Self::TooManyKeys,
        Self::Incomplete,
        Self::Swr,
        Self::Sie,
        Self::Disconnect,
        Self::MaxStale,
    ];

    /// How many values there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The place of this value in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word in headers, labels and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NotListed => "not_listed",
            Self::Observe => "observe",
            Self::Method => "method",
            Self::Refused => "refused",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::Credential => "credential",
            Self::Identity => "identity",
            Self::Body => "body",
            Self::Range => "range",
            Self::Conditional => "conditional",
            Self::Path => "path",
            Self::Variants => "variants",
            Self::HitForMiss => "hit_for_miss",
            Self::Upgrade => "upgrade",
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::Vary => "vary",
            Self::ClientNoCache => "client_no_cache",
            Self::Purged => "purged",
            Self::OnlyIfCached => "only_if_cached",
            Self::NoStore => "no_store",
            Self::Private => "private",
            Self::NoCache => "no_cache",
            Self::SetCookie => "set_cookie",
            Self::VaryStar => "vary_star",
            Self::VaryCredential => "vary_credential",
            Self::Status => "status",
            Self::NoFreshness => "no_freshness",
            Self::StaleOnArrival => "stale_on_arrival",
            Self::MustUnderstand => "must_understand",
            Self::RequestNoStore => "request_no_store",
            Self::Cors => "cors",
            Self::Streaming => "streaming",
            Self::TooLarge => "too_large",
            Self::FillLimit => "fill_limit",
            Self::TooManyKeys => "too_many_keys",
            Self::Incomplete => "incomplete",
            Self::Swr => "swr",
            Self::Sie => "sie",
            Self::Disconnect => "disconnect",
            Self::MaxStale => "max_stale",
        }
    }
}
