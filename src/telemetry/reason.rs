//! The closed set of reasons of the cache: why a request was not looked up, not found, not stored, or answered stale.

use super::labels::labels;

labels! {
    /// Why the cache did what it did. One set for headers, labels and log lines.
    pub enum Reason {
        /// The cache is switched off, here or for the route.
        Off = "off",
        /// No rule covers the route and the backend gave no word of its own.
        NotListed = "not_listed",
        /// The cache only counts what it would have done.
        Observe = "observe",
        /// The method is never answered from the cache.
        Method = "method",
        /// Answered by the proxy itself, such as a denied path.
        Refused = "refused",
        /// The request carries `Authorization`.
        Authorization = "authorization",
        /// The request carries `Cookie`.
        Cookie = "cookie",
        /// The request carries another credential.
        Credential = "credential",
        /// Whose answer this is cannot be told.
        Identity = "identity",
        /// The request has a body, or one that cannot be part of the key.
        Body = "body",
        /// The request asks for a range of what is not stored.
        Range = "range",
        /// The request has a condition that only the backend can judge.
        Conditional = "conditional",
        /// The path can be read in more than one way.
        Path = "path",
        /// The request meets a `bypass_when` of its route.
        BypassWhen = "bypass_when",
        /// The key has as many variants as are allowed.
        Variants = "variants",
        /// The last answer for this key could not be stored.
        HitForMiss = "hit_for_miss",
        /// The request asks for another protocol.
        Upgrade = "upgrade",
        /// Nothing is stored for the key.
        Absent = "absent",
        /// What is stored is past its lifetime.
        Expired = "expired",
        /// No stored variant fits the request.
        Vary = "vary",
        /// The client asked for a fresh answer.
        ClientNoCache = "client_no_cache",
        /// What was stored has been purged.
        Purged = "purged",
        /// The client wanted a stored answer or none.
        OnlyIfCached = "only_if_cached",
        /// The answer says `no-store`.
        NoStore = "no_store",
        /// The answer says `private`.
        Private = "private",
        /// The answer says `no-cache` and has no validator.
        NoCache = "no_cache",
        /// The answer sets a cookie.
        SetCookie = "set_cookie",
        /// The answer says `Vary: *`.
        VaryStar = "vary_star",
        /// The answer varies by a field that tells users apart.
        VaryCredential = "vary_credential",
        /// The status is not stored.
        Status = "status",
        /// Neither the answer nor a rule gives a lifetime.
        NoFreshness = "no_freshness",
        /// The answer was past its lifetime when it came.
        StaleOnArrival = "stale_on_arrival",
        /// The answer demands an understanding of its status that is not there.
        MustUnderstand = "must_understand",
        /// The request says `no-store`.
        RequestNoStore = "request_no_store",
        /// The answer names one origin without varying by it.
        Cors = "cors",
        /// The answer is a stream.
        Streaming = "streaming",
        /// The answer is of a media type that the route does not store.
        MediaType = "media_type",
        /// The answer to a GraphQL query has errors, or cannot be read to tell.
        GraphqlErrors = "graphql_errors",
        /// The answer is over the size limit.
        TooLarge = "too_large",
        /// Too many answers are being copied at once.
        FillLimit = "fill_limit",
        /// The route made too many new keys.
        TooManyKeys = "too_many_keys",
        /// The answer ended before its end.
        Incomplete = "incomplete",
        /// Stale while another request revalidates.
        Swr = "swr",
        /// Stale because the backend answered with an error.
        Sie = "sie",
        /// Stale because the backend cannot be reached.
        Disconnect = "disconnect",
        /// Stale because the client allows it.
        MaxStale = "max_stale",
    }
}
