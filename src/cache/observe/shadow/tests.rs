//! Pretended caches by hand-made sequences, and what holds for all of them.

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{Proof, Seen, Shadows};
use crate::telemetry::observed::{AtTtl, TTLS};

/// An answer `body` of unlimited life, there at once.
fn seen(second: u64, body: u8) -> Seen {
    Seen {
        asked_ms: second * 1000,
        ended_ms: second * 1000,
        proof: Proof::Whole { digest: [body; 16], validator: u64::from(body) + 1 },
        life_ms: u64::MAX,
        fetch_us: 10,
        who: 0,
        is_refresh: false,
    }
}

fn at(shadows: &Shadows, ttl: usize) -> (u64, u64) {
    let AtTtl { hits, wrong, .. } = shadows.view().ttls[ttl];
    (hits, wrong)
}

#[test]
fn each_lifetime_keeps_its_own_entry() {
    let mut shadows = Shadows::default();
    // The body changes at 20 s; with 5 s the entries are those of 0, 20, 29 and 59 s,
    // with 30 s those of 0 and 30 s.
    for (second, body) in [(0, 1), (4, 1), (20, 2), (29, 2), (30, 2), (59, 2)] {
        assert!(shadows.see(7, &seen(second, body)));
    }

    assert_eq!(at(&shadows, 0), (2, 0), "5s");
    assert_eq!(at(&shadows, 1), (4, 2), "30s");
    assert_eq!(at(&shadows, 2), (5, 4), "1m");
    let view = shadows.view();
    assert_eq!((view.keys, view.requests, view.repeats, view.same), (1, 6, 5, 4));
    assert_eq!(view.ttls[1].saved_us, 40);
}

#[test]
fn what_may_not_be_kept_is_a_miss_each_time_and_a_short_life_ends_early() {
    let mut shadows = Shadows::default();
    for second in 0..10 {
        shadows.see(1, &Seen { life_ms: 0, ..seen(second, 1) });
        shadows.see(2, &Seen { life_ms: 2000, ..seen(second, 1) });
    }

    assert_eq!(at(&shadows, 7), (5, 0), "every other request of the second key");
}

#[test]
fn a_refresh_fills_and_an_overlapping_request_hits() {
    let mut shadows = Shadows::default();
    shadows.see(1, &seen(0, 1));
    shadows.see(1, &Seen { is_refresh: true, ..seen(1, 2) });
    shadows.see(1, &seen(2, 2));
    assert_eq!(at(&shadows, 0), (1, 0), "the refresh is no hit, and what follows gets its answer");

    // Asked before the first fetch had ended.
    shadows.see(2, &Seen { ended_ms: 3000, ..seen(0, 1) });
    shadows.see(2, &Seen { ended_ms: 4000, ..seen(1, 1) });
    assert_eq!(at(&shadows, 0), (2, 0));
}

#[test]
fn a_304_stands_for_the_answer_that_it_confirms() {
    let mut shadows = Shadows::default();
    let confirms = |second, validator| Seen { proof: Proof::Unchanged(validator), ..seen(second, 0) };

    assert!(!shadows.see(1, &confirms(0, 2)), "nothing is known yet");
    assert!(shadows.see(1, &seen(1, 1)));
    assert!(shadows.see(1, &confirms(2, 2)));
    assert!(!shadows.see(1, &confirms(3, 9)), "another answer than the known one");

    let view = shadows.view();
    assert_eq!((view.requests, view.repeats, view.same), (2, 1, 1));
    assert_eq!(at(&shadows, 0), (1, 0));
}

#[test]
fn users_are_compared_where_they_follow_one_another() {
    let mut shadows = Shadows::default();
    for (second, (who, body)) in [(1, 1), (1, 2), (2, 2), (2, 2), (1, 3)].into_iter().enumerate() {
        shadows.see(1, &Seen { who, ..seen(second as u64, body) });
    }

    assert_eq!((shadows.view().compared, shadows.view().differing), (2, 1));
}

proptest! {
    #[test]
    fn counts_are_consistent(
        requests in prop::collection::vec((0..4000_u64, 0..3_u64, 0..3_u8, any::<bool>()), 0..300),
    ) {
        let mut shadows = Shadows::default();
        let mut second = 0;
        for (after, key, body, _) in &requests {
            second += after;
            shadows.see(*key, &seen(second, *body));
        }
        let view = shadows.view();

        prop_assert_eq!(view.requests, requests.len() as u64);
        prop_assert_eq!(view.requests, view.repeats + view.keys);
        prop_assert!(view.same <= view.repeats);
        let mut shorter = 0;
        for found in &view.ttls {
            prop_assert!(found.wrong <= found.hits && found.hits <= view.repeats);
            prop_assert_eq!(found.saved_us, found.hits * 10);
            prop_assert!(found.hits >= shorter, "a longer lifetime never hits less");
            shorter = found.hits;
        }
    }

    #[test]
    fn what_never_changes_is_never_wrong(
        requests in prop::collection::vec((0..10_000_u64, 0..5_u64), 0..300),
    ) {
        let mut shadows = Shadows::default();
        let mut second = 0;
        for (after, key) in requests {
            second += after;
            shadows.see(key, &seen(second, u8::try_from(key).unwrap()));
        }
        let view = shadows.view();

        prop_assert_eq!(view.same, view.repeats);
        prop_assert!(view.ttls.iter().all(|found| found.wrong == 0));
    }

    #[test]
    fn what_always_changes_is_always_wrong(gaps in prop::collection::vec(0..100_000_u64, 0..200)) {
        let mut shadows = Shadows::default();
        let mut second = 0;
        for (body, after) in (0..=255).cycle().zip(gaps) {
            second += after;
            shadows.see(1, &seen(second, body));
        }

        for (found, ttl) in shadows.view().ttls.iter().zip(TTLS) {
            prop_assert_eq!(found.wrong, found.hits, "{:?}", ttl);
        }
    }
}
