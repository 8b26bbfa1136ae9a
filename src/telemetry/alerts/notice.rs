//! What is said of one alert, and what is said together.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::reading::Labels;
use crate::config::AlertSeverity;

/// The state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Over its limit, but not for long enough.
    Pending,
    /// It fires.
    Firing,
    /// It fired when there was last a reading.
    NoData,
    /// It is over.
    Resolved,
}

impl Status {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Firing, Self::NoData, Self::Resolved];

    /// The word in answers and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::NoData => "no_data",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert as it is told. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    pub(super) id: Arc<str>,
    pub(super) rule: Arc<str>,
    pub(super) severity: AlertSeverity,
    pub(super) labels: Labels,
    pub(super) status: Status,
    pub(super) text: String,
    pub(super) value: String,
    pub(super) threshold: String,
    /// Its first bad reading.
    pub(super) since_ms: u64,
    pub(super) fired_ms: Option<u64>,
    pub(super) resolved_ms: Option<u64>,
    /// Why it is over, where no good reading says so.
    pub(super) reason: Option<&'static str>,
    pub(super) is_flapping: bool,
}

impl Notice {
    pub(super) fn is_resolved(&self) -> bool {
        self.status == Status::Resolved
    }
}

/// What is told to one receiver at once: alerts of one rule, or all of an Alertmanager.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// The rule; none where all are together.
    pub(super) rule: Option<Arc<str>>,
    /// What fires, then what is over.
    pub(super) notices: Vec<Arc<Notice>>,
}

/// A time.
pub(super) fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
