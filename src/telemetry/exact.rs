//! Latencies in the form in which replicas exchange them: what slots hold, and not what is shown of it. Forms of several
//! replicas are added bucket by bucket, and the percentiles of the sum are those that one recorder of all samples has.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    details::{MINUTES, lanes_of},
    hub::Telemetry,
    latency::{Merged, Summary},
    record::Kind,
    snapshot::RouteWindow,
    windows::Window,
};

/// The latencies of one series in one window, to be added to those of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exact {
    /// Samples that were counted as failures.
    pub errors: u64,
    /// The sum of the samples.
    pub sum_us: u64,
    /// The smallest; meaningless without samples.
    pub min_us: u32,
    /// The largest.
    pub max_us: u32,
    /// The number and the samples of each bucket that has any, in rising order.
    pub buckets: Vec<(u16, u32)>,
}

impl Exact {
    pub(super) fn of(merged: &Merged) -> Self {
        let (errors, summary) = (merged.errors(), merged.bounds());
        Self {
            errors,
            sum_us: summary.sum_us,
            min_us: summary.min_us,
            max_us: summary.max_us,
            buckets: merged.filled().collect(),
        }
    }

    /// How many samples.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The numbers that are shown of a sum, and the failures in it. What no recorder of ours could have written counts as
    /// nothing.
    #[must_use]
    pub fn total<'a>(parts: impl IntoIterator<Item = &'a Self>) -> (Summary, u64) {
        let mut merged = Merged::default();
        for part in parts.into_iter().filter(|part| !part.buckets.is_empty()) {
            merged.add_exact(part);
        }
        (merged.summary(), merged.errors())
    }
}

impl Telemetry {
    /// The latencies of all plain requests in a window.
    #[must_use]
    pub fn exact_overall(&self, window: Window, now: Instant) -> Exact {
        Exact::of(&self.merge_lanes(window, now, |_, lane| lane.kind == Kind::Plain))
    }

    /// The latencies of a route in a window, and in each of the last 15 minutes, oldest first.
    #[must_use]
    pub fn exact_route(&self, route: &RouteWindow, window: Window, now: Instant) -> (Exact, Vec<Exact>) {
        let mut whole = Merged::default();
        let mut minutes = vec![Merged::default(); MINUTES];
        for lane in lanes_of(route) {
            lane.latency.add_to(&mut whole, window, self.tick(now));
            lane.latency.add_minutes(&mut minutes, self.tick(now));
        }
        (Exact::of(&whole), minutes.iter().map(Exact::of).collect())
    }

    /// Times of calls to Claude in a window: whole calls, and first bytes of streams. None without a plane for them.
    #[must_use]
    pub fn exact_calls(&self, window: Window, now: Instant) -> Option<[Exact; 2]> {
        let merged = self.claude()?.merged_times(window, self.tick(now));
        Some([&merged[0], &merged[1]].map(Exact::of))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Exact, Merged, Window};
    use crate::telemetry::latency::Latency;

    fn recorded(samples: &[(u32, bool)]) -> Merged {
        let latency = Latency::new();
        for (us, is_error) in samples {
            latency.record(0, *us, *is_error);
        }
        let mut merged = Merged::default();
        latency.add_to(&mut merged, Window::OneHour, 0);
        merged
    }

    proptest! {
        #[test]
        fn parts_of_a_split_set_add_up_to_the_whole(
            samples in proptest::collection::vec((0_u32..=u32::MAX, any::<bool>(), 0_usize..4), 0..400),
            shift in 0_u32..32,
        ) {
            let sample = |(us, is_error, _): &(u32, bool, usize)| (us >> shift, *is_error);
            let whole: Vec<_> = samples.iter().map(sample).collect();
            let whole = recorded(&whole);
            let parts: Vec<Exact> = (0..4)
                .map(|pod| {
                    let own: Vec<_> = samples.iter().filter(|(.., at)| *at == pod).map(sample).collect();
                    let written = serde_json::to_string(&Exact::of(&recorded(&own))).unwrap();
                    serde_json::from_str(&written).unwrap()
                })
                .collect();

            let (summary, errors) = Exact::total(&parts);

            prop_assert_eq!((summary, errors), (whole.summary(), whole.errors()));
            prop_assert_eq!(parts.iter().map(Exact::count).sum::<u64>(), summary.count);
        }

        #[test]
        fn whatever_a_peer_writes_gives_numbers(
            buckets in proptest::collection::vec(any::<(u16, u32)>(), 0..50),
            sum_us: u64, min_us: u32, max_us: u32, errors: u64,
        ) {
            let strange = Exact { errors, sum_us, min_us, max_us, buckets };
            let (summary, _) = Exact::total([&strange, &strange]);

            prop_assert!(summary.p50_us.is_finite() && summary.p99_us.is_finite());
        }
    }
}
