//! One route in detail, and what the dashboard draws beside the numbers of a window: minutes, histograms, last requests.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    hub::Telemetry,
    latency::{Merged, Summary},
    record::Reason,
    routes::{Active, Lane},
    snapshot::RouteWindow,
    tail::Finished,
    windows::Window,
};

/// Minutes that are told apart: those of the chart.
pub const MINUTES: usize = 15;

/// The most bars of a histogram.
const BARS: usize = 40;

/// What is known of one method of one route beside the latencies of a window.
#[derive(Clone, Debug, Default)]
pub struct RouteDetails {
    /// Requests of the window by the most microseconds that they took.
    pub histogram: Vec<(u32, u64)>,
    /// Answers since the start by status, the most frequent first. A status below 10 is a class.
    pub statuses: Vec<(u16, u64)>,
    /// Why answers of the route were no hits, since the start, the most frequent first.
    pub reasons: Vec<(Reason, u64)>,
    /// The last requests of the route with this method, the newest first.
    pub recent: Vec<Finished>,
    /// Body bytes received by the route since the start.
    pub bytes_in: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
}

impl Telemetry {
    /// P95 in milliseconds of each of the last 15 minutes, oldest first; none for minutes without requests.
    #[must_use]
    pub fn route_minutes(&self, route: &RouteWindow, now: Instant) -> Vec<Option<f64>> {
        let mut minutes = vec![Merged::default(); MINUTES];
        for lane in lanes_of(route) {
            lane.latency.add_minutes(&mut minutes, self.tick(now));
        }
        minutes
            .iter()
            .map(Merged::summary)
            .map(|summary| (summary.count > 0).then(|| summary.p95_ms()))
            .collect()
    }

    /// Why the answers of a route were mostly no hits, since the start.
    #[must_use]
    pub fn main_reason(&self, route: &RouteWindow) -> Option<Reason> {
        route.route.active().map(reasons).unwrap_or_default().first().map(|(reason, _)| *reason)
    }

    /// All that is known of a route.
    #[must_use]
    pub fn route_details(&self, route: &RouteWindow, window: Window, now: Instant) -> RouteDetails {
        let Some(active) = route.route.active() else { return RouteDetails::default() };
        let is_own = |method| route.method.is_none_or(|own| own == method);
        let mut merged = Merged::default();
        for lane in lanes_of(route) {
            lane.latency.add_to(&mut merged, window, self.tick(now));
        }
        let mut statuses: Vec<(u16, u64)> = Vec::new();
        for cell in active.cells().filter(|cell| is_own(cell.key.method) && cell.key.kind == route.kind) {
            let count = cell.durations.count();
            match statuses.iter_mut().find(|(status, _)| *status == cell.key.status) {
                Some((_, sum)) => *sum += count,
                None => statuses.push((cell.key.status, count)),
            }
        }
        statuses.sort_by_key(|(status, count)| (std::cmp::Reverse(*count), *status));
        let recent = active.recent().into_iter().filter(|request| is_own(request.method)).collect();
        RouteDetails {
            histogram: merged.histogram(BARS),
            statuses,
            reasons: reasons(active),
            recent,
            bytes_in: active.bytes_in.get(),
            bytes_out: active.bytes_out.get(),
        }
    }

    /// Times of calls to Claude in a window: whole calls, and first bytes of streams. None without a plane for them.
    #[must_use]
    pub fn call_times(&self, window: Window, now: Instant) -> Option<[Summary; 2]> {
        self.claude().map(|stats| stats.times(window, self.tick(now)))
    }
}

/// The lanes whose latencies a row of the table adds up.
pub(super) fn lanes_of(route: &RouteWindow) -> Vec<Arc<Lane>> {
    let mut lanes = route.route.active().map(Active::lanes).unwrap_or_default();
    lanes.retain(|lane| lane.kind == route.kind && route.method.is_none_or(|method| method == lane.method));
    lanes
}

fn reasons(active: &Active) -> Vec<(Reason, u64)> {
    let counted = Reason::ALL.into_iter().zip(&active.reasons).map(|(reason, count)| (reason, count.get()));
    let mut reasons: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
    reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), reason.index()));
    reasons
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use crate::{
        config,
        telemetry::{Facts, Method, Record, Telemetry, Window},
    };

    #[test]
    fn the_details_of_a_route_add_up() {
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        let route = telemetry.route("/a/{id}", Duration::from_secs(2));
        let send = |method, status, us| {
            let record = Record::new(route.clone(), method, Instant::now() - Duration::from_micros(us));
            telemetry.finish(Record { status, ..record }, us, us);
        };
        for us in 1..=30 {
            send(Method::Get, 200, us * 1000);
        }
        send(Method::Get, 503, 5_000_000);
        send(Method::Post, 201, 10);

        let now = Instant::now();
        let windows = telemetry.route_windows(Window::OneHour, now);
        let get = windows.iter().find(|window| window.key == "GET /a/{id}").unwrap();
        let details = telemetry.route_details(get, Window::OneHour, now);

        assert_eq!(details.histogram.iter().map(|(_, count)| count).sum::<u64>(), 31);
        assert!(
            details.histogram.is_sorted_by_key(|(bound, _)| *bound) && details.histogram.len() <= super::BARS
        );
        assert!(details.histogram.first().is_some_and(|(bound, count)| *bound >= 1000 && *count > 0));
        assert_eq!(details.statuses, [(200, 30), (503, 1)]);
        assert_eq!(details.recent.len(), 19);
        assert_eq!(details.recent.first().map(|request| request.status), Some(503));
        let minutes = telemetry.route_minutes(get, now);
        assert_eq!((minutes.len(), minutes.last().copied().flatten().is_some()), (15, true));
        assert!(minutes[..14].iter().all(Option::is_none));
    }
}
