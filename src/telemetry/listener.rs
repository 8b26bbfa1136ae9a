//! Numbers of the listeners: connections, requests in flight, and what was refused before it became a request.

use std::sync::Arc;

use super::{
    counters::{Counter, Gauge, ReasonCounters},
    labels::labels,
};

labels! {
    /// The listeners of the process.
    pub enum Listener {
        /// In front of the backend.
        Ingress = "ingress",
        /// Metrics, health and the dashboard.
        Admin = "admin",
        /// Commands.
        Control = "control",
        /// Calls to Claude.
        Claude = "claude",
    }
}

/// The numbers of one listener.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Connections accepted since start.
    pub accepted: Counter,
    /// Connections closed at once because a limit on connections was reached.
    pub turned_away: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Requests being served now.
    pub in_flight: Gauge,
    /// Tunnels open now.
    pub upgrades: Gauge,
    /// Requests answered with an error of our own, by reason.
    pub refusals: ReasonCounters,
    /// Header fields dropped because of an underscore in the name.
    pub underscores_dropped: Counter,
}

impl ListenerStats {
    /// Counts an accepted connection, and that it is open until the guard is dropped.
    pub fn connection(self: &Arc<Self>) -> Held {
        self.accepted.increment();
        Held::new(self, |stats| &stats.connections)
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> Held {
        Held::new(self, |stats| &stats.in_flight)
    }

    /// Counts a tunnel as open until the guard is dropped.
    pub fn upgrade(self: &Arc<Self>) -> Held {
        Held::new(self, |stats| &stats.upgrades)
    }
}

/// Holds a gauge up by one while it lives.
#[must_use = "the gauge falls again when this is dropped"]
#[derive(Debug)]
pub struct Held {
    stats: Arc<ListenerStats>,
    gauge: fn(&ListenerStats) -> &Gauge,
}

impl Held {
    fn new(stats: &Arc<ListenerStats>, gauge: fn(&ListenerStats) -> &Gauge) -> Self {
        gauge(stats).increment();
        Self { stats: Arc::clone(stats), gauge }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.gauge)(&self.stats).decrement();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::ListenerStats;

    #[test]
    fn a_guard_counts_while_it_lives() {
        let stats = Arc::new(ListenerStats::default());
        let first = stats.connection();
        let second = stats.connection();
        assert_eq!((stats.connections.get(), stats.accepted.get()), (2, 2));

        drop(first);

        assert_eq!((stats.connections.get(), stats.accepted.get()), (1, 2));
        drop(second);
        assert_eq!(stats.connections.get(), 0);
    }
}
