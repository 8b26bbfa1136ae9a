//! The latency engine against exact ranks, across slots, and under two threads.

use std::sync::Arc;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use super::{BUCKETS, LARGEST_US, Latency, Merged, Window, bucket_of, midpoint_us};

fn summary(latency: &Latency, window: Window, now: u32) -> super::Summary {
    let mut merged = Merged::default();
    latency.add_to(&mut merged, window, now);
    merged.summary()
}

fn exact(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    f64::from(sorted[rank - 1])
}

fn worst_error(mut values: Vec<u32>) -> f64 {
    let latency = Latency::new();
    for us in &values {
        latency.record(1, *us, false);
    }
    values.sort_unstable();

    let found = summary(&latency, Window::OneMinute, 1);

    [(50, found.p50_us), (95, found.p95_us), (99, found.p99_us)]
        .into_iter()
        .map(|(percent, us)| (us - exact(&values, percent)).abs() / exact(&values, percent).max(1.0))
        .fold(0.0, f64::max)
}

/// A small generator, so that the distributions are the same in every run.
fn uniform(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    f64::from(u32::try_from(*seed >> 32).unwrap()) / f64::from(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and far below the limit"
)]
fn drawn(count: usize, draw: impl Fn(&mut u64) -> f64) -> Vec<u32> {
    let mut seed = 42;
    (0..count).map(|_| draw(&mut seed).max(0.0) as u32).collect()
}

#[test]
fn buckets_are_contiguous_and_midpoints_lie_inside() {
    let mut last = 0;
    for us in (0..100_000).chain((100_000..LARGEST_US).step_by(9973)).chain([LARGEST_US]) {
        let bucket = bucket_of(us);
        assert!(bucket < BUCKETS && bucket >= last, "{us}");
        let error = (midpoint_us(bucket) - f64::from(us)).abs() / f64::from(us.max(1));
        assert!(error <= 1.0 / 64.0, "{us}: {error}");
        last = bucket;
    }
    assert_eq!(bucket_of(LARGEST_US), BUCKETS - 1);
}

#[test]
fn percentiles_are_within_their_bound_of_the_exact_rank() {
    let lognormal = |median: f64, sigma: f64| {
        move |seed: &mut u64| {
            let normal =
                (-2.0 * uniform(seed).max(1e-9).ln()).sqrt() * (std::f64::consts::TAU * uniform(seed)).cos();
            median * (sigma * normal).exp()
        }
    };
    let hit_mix = move |seed: &mut u64| {
        if uniform(seed) < 0.7 { lognormal(180.0, 0.3)(seed) } else { lognormal(40_000.0, 0.8)(seed) }
    };
    for count in [600, 200_000] {
        for (name, values) in [
            ("hits and misses", drawn(count, hit_mix)),
            ("backend", drawn(count, lognormal(40_000.0, 0.8))),
            ("model answers", drawn(count, lognormal(1_700_000.0, 0.5))),
            ("uniform", drawn(count, |seed| uniform(seed) * 5e6)),
            ("exponential", drawn(count, |seed| -uniform(seed).max(1e-9).ln() * 20_000.0)),
            ("constant", drawn(count, |_| 4242.0)),
        ] {
            let error = worst_error(values);

            assert!(error <= 0.016, "{name}, n = {count}: {error}");
        }
    }
}

#[test]
fn windows_forget() {
    let latency = Latency::new();
    latency.record(6, 1000, true);
    latency.record(7, 3000, false);

    let counts = |now| {
        [Window::OneMinute, Window::FiveMinutes, Window::OneHour]
            .map(|window| summary(&latency, window, now).count)
    };
    assert_eq!(counts(7), [2, 2, 2]);
    assert_eq!(counts(12), [1, 2, 2]);
    assert_eq!(counts(13), [0, 2, 2]);
    assert_eq!(counts(36), [0, 0, 2]);
    assert_eq!(counts(366), [0, 0, 0]);
}

#[test]
fn sums_minimum_maximum_and_failures_are_exact_over_closed_and_live_slots() {
    let latency = Latency::new();
    for (tick, us) in [(1, 17), (2, 90_001), (9, 333), (9, 2_000_003)] {
        latency.record(tick, us, us > 1000);
    }

    let found = summary(&latency, Window::OneHour, 9);

    assert_eq!((found.count, found.sum_us), (4, 17 + 90_001 + 333 + 2_000_003));
    assert_eq!((found.min_us, found.max_us), (17, 2_000_003));
    let mut merged = Merged::default();
    latency.add_to(&mut merged, Window::OneHour, 9);
    assert_eq!(merged.errors(), 2);
    let mut minutes = Vec::new();
    latency.minutes(9, |minute, sum| minutes.push((minute, sum.count, sum.errors)));
    assert_eq!(minutes, [(0, 2, 1), (1, 2, 1)]);
}

#[test]
fn two_threads_and_a_reader_lose_no_sample() {
    let latency = Arc::new(Latency::new());
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let latency = Arc::clone(&latency);
            std::thread::spawn(move || {
                for at in 0..200_000_u32 {
                    latency.record(at / 1000, at % 5000, false);
                }
            })
        })
        .collect();
    while threads.iter().any(|thread| !thread.is_finished()) {
        summary(&latency, Window::OneHour, 0);
    }
    for thread in threads {
        thread.join().unwrap();
    }

    let found = summary(&latency, Window::OneHour, 200);

    assert_eq!(found.count, 400_000);
    assert_eq!(found.sum_us, 2 * (0..200_000_u64).map(|at| at % 5000).sum::<u64>());
}

#[test]
fn values_over_the_range_count_as_the_largest() {
    let latency = Latency::new();
    latency.record(0, u32::MAX, false);

    let found = summary(&latency, Window::OneMinute, 0);

    assert_eq!((found.count, found.max_us), (1, LARGEST_US));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_samples_give_ranks_within_the_bound(values in prop::collection::vec(1..LARGEST_US, 1..400)) {
        prop_assert!(worst_error(values) <= 0.016);
    }

    #[test]
    fn a_window_holds_exactly_its_samples(
        ticks in prop::collection::vec(0..800_u32, 1..100), ahead in 0..400_u32, us in any::<u16>()
    ) {
        let mut ticks = ticks;
        ticks.sort_unstable();
        let latency = Latency::new();
        for tick in &ticks {
            latency.record(*tick, u32::from(us), false);
        }
        let now = ticks.last().unwrap() + ahead;

        let windows = [
            Window::OneMinute,
            Window::FiveMinutes,
            Window::FifteenMinutes,
            Window::HalfHour,
            Window::OneHour,
            Window::SixHours,
        ];
        for window in windows {
            let inside = ticks.iter().filter(|tick| match window {
                Window::OneMinute => **tick + 6 > now,
                Window::FiveMinutes => **tick / 6 + 5 > now / 6,
                Window::FifteenMinutes => **tick / 6 + 15 > now / 6,
                Window::HalfHour => **tick / 6 + 30 > now / 6,
                // Latencies are kept for an hour.
                Window::OneHour | Window::SixHours => **tick / 6 + 60 > now / 6,
            });
            prop_assert_eq!(summary(&latency, window, now).count, inside.count() as u64);
        }
    }
}
