//! One number that rules judge: what was read, over which time, of which series.

use std::collections::BTreeMap;

use crate::{
    config::{AlertMetric, AlertWindow},
    telemetry::Window,
};

/// What tells series of a metric apart. The names are those of [`AlertMetric::labels`].
pub(super) type Labels = BTreeMap<&'static str, String>;

/// The time that a reading spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Span {
    /// What it is now.
    Now,
    /// One window.
    One(Window),
    /// The lower of two windows, the longer first: both are over a limit when this is.
    Both(Window, Window),
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) metric: AlertMetric,
    pub(super) span: Span,
    pub(super) labels: Labels,
    /// In the base unit of the metric: seconds, percent, numbers, multiples, dollars; yes is 1.
    pub(super) value: f64,
    /// How many requests, lookups or calls it comes from.
    pub(super) samples: u64,
    /// The limit of the route, for metrics that may be judged by it.
    pub(super) limit: Option<f64>,
    /// What else is known, in words.
    pub(super) note: Option<String>,
}

impl Reading {
    pub(super) const fn new(metric: AlertMetric, span: Span, value: f64) -> Self {
        Self { metric, span, labels: Labels::new(), value, samples: u64::MAX, limit: None, note: None }
    }

    pub(super) fn of(mut self, samples: u64) -> Self {
        self.samples = samples;
        self
    }

    pub(super) fn label(mut self, name: &'static str, value: &str) -> Self {
        self.labels.insert(name, value.to_owned());
        self
    }
}

/// The window that a word of the configuration means.
pub(super) const fn window_of(window: AlertWindow) -> Window {
    match window {
        AlertWindow::OneMinute => Window::OneMinute,
        AlertWindow::FiveMinutes => Window::FiveMinutes,
        AlertWindow::FifteenMinutes => Window::FifteenMinutes,
        AlertWindow::HalfHour => Window::HalfHour,
        AlertWindow::OneHour => Window::OneHour,
        AlertWindow::SixHours => Window::SixHours,
    }
}
