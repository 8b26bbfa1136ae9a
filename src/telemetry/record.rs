//! The record that a plane hands over once per request, and the closed sets its fields come from. Each set is a metric
//! label, a log field and in part a header word, so that no value from a client ever becomes a label.

use std::sync::Arc;

use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::{Parts, RouteStats, SpanIds, TraceId, labels::labels};

pub use super::reason::Reason;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was sent, whatever its status.
    Done,
    /// The client left before the end.
    ClientAbort,
    /// The backend broke its answer off after the head.
    UpstreamAbort,
    /// The answer is an error of our own. The reason comes from a closed set.
    Error(&'static str),
    /// The code that served it panicked.
    Panic,
}

impl Outcome {
    /// Every word of [`Self::as_str`].
    pub const WORDS: [&'static str; 5] = ["done", "client_abort", "upstream_abort", "error", "panic"];

    /// The word in log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientAbort => "client_abort",
            Self::UpstreamAbort => "upstream_abort",
            Self::Error(_) => "error",
            Self::Panic => "panic",
        }
    }

    /// True when something failed on our side or the backend's.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::UpstreamAbort | Self::Panic)
    }
}

/// What is told about one request, once, when it is over.
#[derive(Clone, Debug)]
pub struct Record {
    /// The statistics of the route that matched.
    pub route: Arc<RouteStats>,
    /// The request's method.
    pub method: Method,
    /// The status of the answer; 499 when the client left before there was one.
    pub status: u16,
    /// The word of `X-Cache-Status`.
    pub cache: CacheStatus,
    /// Why it was not a hit, was not stored, or was stale.
    pub reason: Option<Reason>,
    /// Where a hit came from.
    pub source: Option<HitSource>,
    /// Why it went to the backend.
    pub fwd: Option<Fwd>,
    /// False where neither a rule nor the backend's word lets the answer be kept: a miss that no cache could have been a hit
    /// for. It is not counted as a lookup.
    pub is_cacheable: bool,
    /// For how many requests it stands that an observing cache would have answered; zero: it would not.
    pub would_hits: u64,
    /// The shape of the exchange.
    pub kind: Kind,
    /// How it ended.
    pub outcome: Outcome,
    /// When its first byte was read.
    pub started: Instant,
    /// Where the time went, as far as it was measured.
    pub parts: Parts,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Its span in the trace.
    pub span: SpanIds,
    /// The request target. Its query is never shown, and its ids only where the configuration wants full paths.
    pub path: Option<PathAndQuery>,
}

impl Record {
    /// A record with the least that is known at the first byte: a plain request that was not looked up.
    #[must_use]
    pub fn new(route: Arc<RouteStats>, method: Method, started: Instant) -> Self {
        Self {
            route,
            method,
            status: 499,
            cache: CacheStatus::Bypass,
            reason: None,
            source: None,
            fwd: None,
            is_cacheable: true,
            would_hits: 0,
            kind: Kind::Plain,
            outcome: Outcome::Done,
            started,
            parts: Parts::default(),
            bytes_in: 0,
            bytes_out: 0,
            trace: TraceId::default(),
            span: SpanIds::default(),
            path: None,
        }
    }

    /// True when the access log must have it: a failure, or a status of 500 and above.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        self.status >= 500 || self.outcome.is_failure()
    }
}

labels! {
    /// A request method as a label: the nine registered ones, or `_OTHER`.
    pub enum Method {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// DELETE.
        Delete = "DELETE",
        /// CONNECT.
        Connect = "CONNECT",
        /// OPTIONS.
        Options = "OPTIONS",
        /// TRACE.
        Trace = "TRACE",
        /// PATCH.
        Patch = "PATCH",
        /// Any other token.
        Other = "_OTHER",
    }
}

impl Method {
    /// The label of a method by its name. Methods are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|method| method.as_str() == name).unwrap_or(Self::Other)
    }
}

labels! {
    /// What `X-Cache-Status` says.
    pub enum CacheStatus {
        /// Answered from a fresh entry or by another request's fetch.
        Hit = "hit",
        /// Looked up and fetched.
        Miss = "miss",
        /// Answered from an entry past its lifetime.
        Stale = "stale",
        /// The backend said 304 for the stored entry.
        Revalidated = "revalidated",
        /// Not looked up.
        Bypass = "bypass",
    }
}

impl CacheStatus {
    /// True for the answers that count as hits in the cache statistics: `hit` and `stale`.
    #[must_use]
    pub const fn is_hit(self) -> bool {
        matches!(self, Self::Hit | Self::Stale)
    }
}

labels! {
    /// Where a hit came from.
    pub enum HitSource {
        /// The memory tier.
        Memory = "memory",
        /// The Redis tier.
        Redis = "redis",
        /// The fetch of another request for the same key.
        Collapsed = "collapsed",
        /// An entry past its lifetime.
        Stale = "stale",
    }
}

labels! {
    /// Why a request went to the backend: the `fwd` words of RFC 9211 section 2.2.
    pub enum Fwd {
        /// No entry for the key.
        UriMiss = "uri-miss",
        /// Entries for the key, but no matching variant.
        VaryMiss = "vary-miss",
        /// No usable entry, and it is not known which of the two.
        Miss = "miss",
        /// An entry was there, but past its lifetime.
        Stale = "stale",
        /// A directive of the request forbade the entry.
        Request = "request",
        /// The method is never answered from the cache.
        Method = "method",
        /// The cache was told not to look.
        Bypass = "bypass",
    }
}

labels! {
    /// The shape of an exchange.
    pub enum Kind {
        /// A request and an answer of known or short length.
        Plain = "plain",
        /// An answer that goes on, such as server-sent events.
        Stream = "stream",
        /// A connection that became a tunnel.
        Upgrade = "upgrade",
    }
}

impl Kind {
    /// What the latency of this kind is measured by: a stream lasts as long as its reader stays, so its length says
    /// nothing about speed.
    #[must_use]
    pub const fn basis(self) -> Basis {
        match self {
            Self::Plain => Basis::Whole,
            Self::Stream | Self::Upgrade => Basis::FirstByte,
        }
    }
}

labels! {
    /// What a latency spans.
    pub enum Basis {
        /// First byte of the request to last byte of the answer.
        Whole = "whole",
        /// First byte of the request to the head of the answer.
        FirstByte = "first_byte",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{CacheStatus, Fwd, HitSource, Kind, Method, Reason};

    #[test]
    fn unknown_methods_share_one_label() {
        assert_eq!(Method::from_name("GET"), Method::Get);
        assert_eq!(Method::from_name("get"), Method::Other);
        assert_eq!(Method::from_name("PROPFIND").as_str(), "_OTHER");
    }

    #[test]
    fn every_value_has_its_own_word_and_index() {
        let words = |all: Vec<(usize, &'static str)>| {
            let distinct: HashSet<_> = all.iter().map(|(_, word)| *word).collect();
            assert_eq!(distinct.len(), all.len());
            assert!(all.iter().enumerate().all(|(at, (index, _))| at == *index));
        };

        words(Method::ALL.iter().map(|value| (value.index(), value.as_str())).collect());
        words(CacheStatus::ALL.iter().map(|value| (value.index(), value.as_str())).collect());
        words(HitSource::ALL.iter().map(|value| (value.index(), value.as_str())).collect());
        words(Fwd::ALL.iter().map(|value| (value.index(), value.as_str())).collect());
        words(Kind::ALL.iter().map(|value| (value.index(), value.as_str())).collect());
        words(Reason::ALL.iter().map(|value| (value.index(), value.as_str())).collect());
    }
}
