//! Why a call to an upstream gave no answer.

use std::io;

use crate::net::{BodyError, Refusal};

/// The failures of a call, before a head was received. Every one has a [`Refusal`]: what the client is told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("connecting to the upstream")]
    Connect(#[source] io::Error),
    /// No connection could be made within `connect`.
    #[error("connecting to the upstream took too long")]
    ConnectTimeout,
    /// The connection ended before a whole head. `is_reused` tells whether it had served before.
    #[error("the upstream closed the connection before its answer")]
    Closed {
        /// True for a connection from the pool: it may have been closed while it was idle.
        is_reused: bool,
        /// True when not one byte of an answer was received.
        is_silent: bool,
        /// True when not one byte of the request was accepted by the socket.
        is_unsent: bool,
    },
    /// The answer breaks the grammar or a limit.
    #[error("the upstream's answer is malformed or over a limit")]
    BadResponse,
    /// No head came within `first_byte`.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// The bulkhead and its queue are full, or the wait in the queue was too long.
    #[error("too many requests are waiting for the upstream")]
    Overload,
    /// The breaker is open.
    #[error("the breaker of the upstream is open")]
    BreakerOpen,
    /// As many tunnels are open as may be.
    #[error("too many tunnels to the upstream are open")]
    TooManyUpgrades,
    /// The client's own body failed.
    #[error("reading the request body")]
    RequestBody(#[source] BodyError),
}

/// On whose side a failure arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The server's behind us.
    Upstream,
    /// Ours.
    Ours,
}

impl Error {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Connect(_) => Refusal::ConnectFailed,
            Self::ConnectTimeout => Refusal::ConnectTimeout,
            Self::Closed { .. } => Refusal::UpstreamClosed,
            Self::BadResponse => Refusal::BadUpstreamResponse,
            Self::Timeout => Refusal::UpstreamTimeout,
            Self::Overload => Refusal::Overload,
            Self::BreakerOpen => Refusal::BreakerOpen,
            Self::TooManyUpgrades => Refusal::TooManyUpgrades,
            Self::RequestBody(BodyError::TooLarge) => Refusal::BodyTooLarge,
            Self::RequestBody(BodyError::TooSlow) => Refusal::RequestTimeout,
            Self::RequestBody(
                BodyError::ClientGone
                | BodyError::Malformed
                | BodyError::UpstreamCut
                | BodyError::UpstreamMalformed
                | BodyError::UpstreamIdle,
            ) => Refusal::BadFraming,
        }
    }

    /// On whose side it arose.
    #[must_use]
    pub const fn source_side(&self) -> Side {
        match self {
            Self::Connect(_)
            | Self::ConnectTimeout
            | Self::Closed { .. }
            | Self::BadResponse
            | Self::Timeout => Side::Upstream,
            Self::Overload | Self::BreakerOpen | Self::TooManyUpgrades => Side::Ours,
            Self::RequestBody(_) => Side::Downstream,
        }
    }

    /// True when nothing of an answer was received, so that the same request may be sent once more if its method and
    /// body allow it.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectTimeout => true,
            Self::Closed { is_reused, is_silent, .. } => *is_reused && *is_silent,
            Self::BadResponse
            | Self::Timeout
            | Self::Overload
            | Self::BreakerOpen
            | Self::TooManyUpgrades
            | Self::RequestBody(_) => false,
        }
    }

    /// True when the upstream saw no byte of the request, so that any method may be sent once more.
    #[must_use]
    pub const fn is_unsent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectTimeout => true,
            Self::Closed { is_unsent, .. } => *is_unsent,
            Self::BadResponse
            | Self::Timeout
            | Self::Overload
            | Self::BreakerOpen
            | Self::TooManyUpgrades
            | Self::RequestBody(_) => false,
        }
    }

    /// True when there was no answer at all because the server could not be reached or broke the connection off: the
    /// failures that open the breaker and that permit stale answers on disconnect (RFC 9111 section 4.2.4).
    #[must_use]
    pub const fn is_disconnect(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectTimeout | Self::Closed { .. } => true,
            Self::Timeout | Self::BreakerOpen => true,
            Self::BadResponse | Self::Overload | Self::TooManyUpgrades | Self::RequestBody(_) => false,
        }
    }

    /// True when it counts against the breaker: refused, reset and timed-out connections, not slow or bad answers, as
    /// one bad route must not close the rest.
    #[must_use]
    pub const fn trips_breaker(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectTimeout => true,
            Self::Closed { is_reused, .. } => !*is_reused,
            Self::Timeout
            | Self::BreakerOpen
            | Self::TooManyUpgrades
            | Self::BadResponse
            | Self::Overload
            | Self::RequestBody(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Error, Side};
    use crate::net::{BodyError, Refusal};

    #[test]
    fn every_failure_answers_the_same_questions() {
        let stale = Error::Closed { is_reused: true, is_silent: true, is_unsent: false };
        let fresh = Error::Closed { is_reused: false, is_silent: true, is_unsent: false };
        let table = [
            (
                Error::Connect(io::ErrorKind::ConnectionRefused.into()),
                Refusal::ConnectFailed,
                Side::Upstream,
                true,
            ),
            (Error::ConnectTimeout, Refusal::ConnectTimeout, Side::Upstream, true),
            (stale, Refusal::UpstreamClosed, Side::Upstream, true),
            (fresh, Refusal::UpstreamClosed, Side::Upstream, false),
            (Error::BadResponse, Refusal::BadUpstreamResponse, Side::Upstream, false),
            (Error::Timeout, Refusal::UpstreamTimeout, Side::Upstream, false),
            (Error::Overload, Refusal::Overload, Side::Ours, false),
            (Error::BreakerOpen, Refusal::BreakerOpen, Side::Ours, false),
            (Error::TooManyUpgrades, Refusal::TooManyUpgrades, Side::Ours, false),
            (Error::RequestBody(BodyError::TooLarge), Refusal::BodyTooLarge, Side::Downstream, false),
            (Error::RequestBody(BodyError::TooSlow), Refusal::RequestTimeout, Side::Downstream, false),
        ];
        for (error, refusal, side, retryable) in table {
            assert_eq!(
                (error.refusal(), error.source_side(), error.is_retryable()),
                (refusal, side, retryable),
                "{error}"
            );
        }
    }
}
