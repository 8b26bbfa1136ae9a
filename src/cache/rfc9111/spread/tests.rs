//! Chance with given numbers, and many of them.

use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest};

use super::{REACH, is_near_end, is_refresh_due, jittered};
use crate::cache::rfc9111::{
    Meta, Source,
    fixture::{NOW_MS, default, rfc, ruled, store_plain},
};

/// A copy of [`ruled`] with a minute to live.
fn copy() -> Meta {
    store_plain(&[], &ruled()).unwrap().meta
}

/// A number of which the high half decides: the `u` that is `part` of 1.
fn uniform(part: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number between 0 and 2^32"
    )]
    let high = (part * 4_294_967_296.0 - 1.0).max(0.0) as u64;
    high << 32
}

/// A generator with a seed, for statistics that are the same in every run.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn jitter_takes_up_to_a_twentieth_off_a_rules_life() {
    for (random, left_ms) in
        [(0, 60_000), (1 << 63, 58_500), (1 << 62, 59_250), (u64::MAX, 57_001), (u64::MAX / 20, 59_851)]
    {
        let jittered = jittered(copy(), NOW_MS, random, &ruled());
        assert_eq!(jittered.expires_ms - i64::try_from(NOW_MS).unwrap(), left_ms, "{random}");
    }
}

#[test]
fn only_a_rules_life_is_jittered_and_not_in_the_plain_standard() {
    let declared = store_plain(&[("cache-control", "max-age=60")], &default()).unwrap().meta;
    let plain = crate::cache::rfc9111::Policy { profile: rfc().profile, ..ruled() };

    assert_eq!(jittered(declared, NOW_MS, u64::MAX, &ruled()), declared);
    assert_eq!(jittered(copy(), NOW_MS, u64::MAX, &plain), copy());
    assert_eq!(jittered(copy(), NOW_MS + 70_000, u64::MAX, &ruled()), copy(), "past its end");
}

#[test]
fn early_refresh_follows_the_formula() {
    // A fetch of 100 ms: -100 * ln(u) against what is left.
    for (left_ms, part, is_due) in [
        (0, 1.0, true),
        (1, 1.0, false),
        (69, 0.5, true),
        (70, 0.5, false),
        (230, 0.1, true),
        (231, 0.1, false),
        (690, 0.001, true),
        (691, 0.001, false),
        (2_218, 0.0, true),
        (2_219, 0.0, false),
    ] {
        let now_ms = NOW_MS + 60_000 - left_ms;
        assert_eq!(is_refresh_due(&copy(), 100, now_ms, uniform(part), &ruled()), is_due, "{left_ms} {part}");
        assert!(is_near_end(&copy(), 100, now_ms), "{left_ms}");
    }
}

#[test]
fn a_copy_of_the_backends_own_word_or_of_no_cost_is_never_refreshed_early() {
    let declared = store_plain(&[("cache-control", "max-age=60")], &default()).unwrap().meta;
    let plain = crate::cache::rfc9111::Policy { profile: rfc().profile, ..ruled() };
    let just_before = NOW_MS + 59_999;

    assert_eq!((declared.source, copy().source), (Source::Origin, Source::Rule));
    assert!(is_refresh_due(&copy(), 100, just_before, 0, &ruled()));
    assert!(!is_refresh_due(&declared, 100, just_before, 0, &ruled()));
    assert!(!is_refresh_due(&copy(), 100, just_before, 0, &plain));
    assert!(!is_refresh_due(&copy(), 0, just_before, 0, &ruled()));
    assert!(!is_near_end(&copy(), 0, just_before));
}

/// Of many requests at one distance from the end, the share that refreshes is `exp(-left / d)`.
#[test]
fn the_share_of_requests_that_refresh_is_that_of_the_paper() {
    let mut next = numbers(7);
    for left_ms in [50_u32, 100, 200, 400] {
        let now_ms = NOW_MS + 60_000 - u64::from(left_ms);
        let due = (0..100_000).filter(|_| is_refresh_due(&copy(), 100, now_ms, next(), &ruled())).count();

        let expected = (-f64::from(left_ms) / 100.0).exp();
        let share = f64::from(u32::try_from(due).unwrap()) / 100_000.0;
        assert!((share - expected).abs() < 0.006, "{left_ms}: {share} instead of {expected}");
    }
}

/// A hundred requests a second, fetches of 100 ms: nearly every copy is refreshed before its end, and hardly ever by more
/// than ten fetches too early. One request in ten seconds: nearly no copy is.
#[test]
fn copies_in_demand_are_refreshed_in_time_and_others_are_left_to_end() {
    let mut next = numbers(11);
    let mut first_due = |every_ms: u64| {
        (0..60_000)
            .step_by(usize::try_from(every_ms).unwrap())
            .map(|at: u64| NOW_MS + at)
            .find(|now_ms| is_refresh_due(&copy(), 100, *now_ms, next(), &ruled()))
    };

    let busy: Vec<_> = (0..500).map(|_| first_due(10)).collect();
    let idle = (0..500).filter(|_| first_due(10_000).is_some()).count();

    let in_time = busy.iter().flatten().count();
    let too_early = busy.iter().flatten().filter(|at| **at < NOW_MS + 59_000).count();
    assert!(in_time >= 499, "{in_time} of 500");
    assert!(too_early <= 5, "{too_early} of 500");
    assert!(idle <= 5, "{idle} of 500");
}

proptest! {
    #[test]
    fn a_life_is_never_longer_than_it_was_and_at_most_a_twentieth_shorter(
        expires_ms in any::<i64>(), now_ms in any::<u64>(), random in any::<u64>(),
    ) {
        let meta = Meta { expires_ms, ..copy() };

        let after = jittered(meta, now_ms, random, &ruled());

        let left = i128::from(expires_ms) - i128::from(i64::try_from(now_ms).unwrap_or(i64::MAX));
        let off = i128::from(expires_ms) - i128::from(after.expires_ms);
        prop_assert!(off >= 0 && off * 20 <= left.max(0), "{} of {}", off, left);
        prop_assert_eq!(Meta { expires_ms, ..after }, meta);
    }

    /// The one comparison of a hit never keeps back a refresh that chance would have made.
    #[test]
    fn what_is_due_is_near_its_end(
        left_ms in -10_i64..5_000_000, fetch_ms in 0_u32..100_000, random in any::<u64>(),
    ) {
        let expires_ms = i64::try_from(NOW_MS).unwrap() + left_ms;
        let meta = Meta { expires_ms, ..copy() };

        if is_refresh_due(&meta, fetch_ms, NOW_MS, random, &ruled()) && left_ms > 0 {
            prop_assert!(is_near_end(&meta, fetch_ms, NOW_MS), "{} {} {}", left_ms, fetch_ms, REACH);
        }
    }
}
