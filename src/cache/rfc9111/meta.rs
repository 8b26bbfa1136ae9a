//! The numbers of a stored copy, computed once when it is stored so that a hit compares and does not parse.

use std::time::Duration;

/// Who declared how long a copy lives. The two words are never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The backend's own fields, or the heuristic that RFC 9111 section 4.2.2 derives from them.
    Origin,
    /// The operator's rule for a route whose answers say nothing.
    Rule,
}

impl Source {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Rule => "rule",
        }
    }
}

/// Age, expiry and what a stale copy is still good for. Moments are monotonic milliseconds, signed because a
/// copy may be older than the clock's zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Whose word the lifetime is.
    pub source: Source,
    /// When the copy's age was zero: the moment of receipt less its age then (RFC 9111 section 4.2.3).
    pub born_ms: i64,
    /// When it becomes stale.
    pub expires_ms: i64,
    /// How long after expiry it may be served while one request refreshes it (RFC 5861 section 3).
    pub swr_ms: i64,
    /// How long after expiry it may replace an error (RFC 5861 section 4).
    pub sie_ms: i64,
    /// How long after expiry it may be served when the backend cannot be reached (RFC 9111 section 4.2.4).
    pub disconnect_ms: i64,
    /// The answer asks for validation before every use (RFC 9111 section 5.2.2.4).
    pub no_cache: bool,
    /// A client's `max-stale` may be obeyed.
    pub max_stale: bool,
    /// A validating request can be made: the answer has a well-formed `ETag` or `Last-Modified`.
    pub validator: bool,
    /// The stored `ETag` was made here and is unknown to the backend, so it is never sent there.
    pub generated_etag: bool,
    /// The stored `Date` in Unix seconds; of several copies that match, the newest is used (RFC 9111 section
    /// 4).
    pub date: i64,
    /// `Last-Modified` in Unix seconds, where there is a valid one.
    pub last_modified: Option<i64>,
}

impl Meta {
    /// The copy's age in whole seconds, which is the value of `Age` (RFC 9111 section 5.1).
    #[must_use]
    pub fn age_s(&self, now_ms: u64) -> u64 {
        u64::try_from(self.age_ms(now_ms) / 1000).unwrap_or(0)
    }

    /// Seconds of freshness left, negative once it is stale: the `ttl` of `Cache-Status` (RFC 9211 section
    /// 2.4).
    #[must_use]
    pub fn ttl_s(&self, now_ms: u64) -> i64 {
        self.expires_ms.saturating_sub(moment(now_ms)).div_euclid(1000)
    }

    /// Whether its lifetime is greater than its age.
    #[must_use]
    pub fn is_fresh(&self, now_ms: u64) -> bool {
        moment(now_ms) < self.expires_ms
    }

    /// The moment after which the copy can serve nothing at all and may be thrown away. A copy with a
    /// validator is kept for another `validate_for`, as a 304 is cheaper than a body.
    #[must_use]
    pub fn useless_after_ms(&self, validate_for: Duration) -> u64 {
        let validate_ms = if self.validator { whole_ms(validate_for) } else { 0 };
        let window_ms = self.swr_ms.max(self.sie_ms).max(self.disconnect_ms).max(validate_ms);
        u64::try_from(self.expires_ms.saturating_add(window_ms)).unwrap_or(0)
    }

    /// The same copy, stale from now on: after a soft purge, or a HEAD that contradicts it. Stale windows
    /// begin now.
    #[must_use]
    pub fn expired(mut self, now_ms: u64) -> Self {
        self.expires_ms = self.expires_ms.min(moment(now_ms));
        self
    }

    /// The same copy, good for nothing from `end_ms` on, whatever its lifetime and windows.
    #[must_use]
    pub fn ended_by(mut self, end_ms: u64) -> Self {
        let end_ms = moment(end_ms);
        self.expires_ms = self.expires_ms.min(end_ms);
        let left_ms = end_ms.saturating_sub(self.expires_ms);
        self.swr_ms = self.swr_ms.min(left_ms);
        self.sie_ms = self.sie_ms.min(left_ms);
        self.disconnect_ms = self.disconnect_ms.min(left_ms);
        self.max_stale = false;
        self
    }

    pub(super) fn age_ms(&self, now_ms: u64) -> i64 {
        moment(now_ms).saturating_sub(self.born_ms).max(0)
    }

    /// Milliseconds since expiry, negative while it is fresh.
    pub(super) fn staleness_ms(&self, now_ms: u64) -> i64 {
        moment(now_ms).saturating_sub(self.expires_ms)
    }

    /// Whether a stale copy is still within a window that starts at its expiry.
    pub(super) fn is_within(&self, window_ms: i64, now_ms: u64) -> bool {
        self.staleness_ms(now_ms) < window_ms
    }
}

/// A monotonic moment as a signed number.
pub(super) fn moment(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// A span in whole milliseconds.
pub(super) fn whole_ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Seconds, as fields give them, in milliseconds.
pub(super) fn seconds_ms(seconds: u32) -> i64 {
    i64::from(seconds) * 1000
}
