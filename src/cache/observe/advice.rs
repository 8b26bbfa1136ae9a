//! From what was observed to a lifetime, or to the reason why there is none.

use std::time::Duration;

use crate::telemetry::observed::{Advice, ObservedRoute, TTLS, Verdict, View};

/// Below these nothing is said.
pub(super) const MIN_REQUESTS: u64 = 50;
pub(super) const MIN_REPEATS: u64 = 10;

/// Fewer would-be hits say nothing about a lifetime, fewer pairs nothing about users.
const MIN_HITS: u64 = 10;
const MIN_PAIRS: u64 = 10;

/// Of this many would-be hits, and pairs of users, one may be wrong.
const ONE_WRONG_IN: u64 = 100;

/// What a view says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Not enough was seen.
    TooFew,
    /// Enough was seen, but for no lifetime.
    Unmeasured,
    /// The shortest lifetime that was measured is too long.
    Wrong,
    /// The longest lifetime such that no measured one up to it is wrong too often.
    Ttl(usize),
}

/// What follows for a route. `max_ttl` is the longest lifetime that the configuration permits.
pub(super) fn advise(route: &ObservedRoute, max_ttl: Duration) -> Advice {
    let found = |view| longest(view, route.watched.min(max_ttl));
    let (anonymous, own, shared) = (found(&route.anonymous), found(&route.per_user), found(&route.shared));
    let View { compared, differing, .. } = route.shared;
    let is_compared = compared >= MIN_PAIRS;
    let is_different = is_compared && differing * ONE_WRONG_IN > compared;
    let per_user = match own {
        Found::Ttl(at) if is_different => Some(at),
        _ => None,
    };
    let most_refused = route.refused.iter().max_by_key(|(_, count)| *count);
    let refused =
        most_refused.filter(|(_, count)| *count > route.counts.requests / 2).map(|(reason, _)| *reason);
    let any = |wanted| [anonymous, own, shared].contains(&wanted);
    let verdict = match (anonymous, shared, own) {
        (Found::TooFew, _, Found::TooFew) => Verdict::TooFew,
        _ if route.counts.declared > route.counts.requests / 2 => Verdict::Declared,
        _ if refused.is_some() => refused.map_or(Verdict::TooFew, Verdict::Refused),
        (Found::Ttl(at), ..) => Verdict::Ttl(at),
        (_, Found::Ttl(at), _) if is_compared && !is_different => Verdict::SameForAll(at),
        (.., Found::Ttl(at)) => Verdict::PerUser(at),
        _ if any(Found::Wrong) => Verdict::Changes,
        _ => Verdict::TooBrief,
    };
    Advice { verdict, per_user }
}

/// Judges the lifetimes from the shortest on. One that is longer than the time that was watched was not measured: nothing
/// was ever that old.
fn longest(view: &View, most: Duration) -> Found {
    if view.sampled < MIN_REQUESTS || view.sampled_repeats < MIN_REPEATS {
        return Found::TooFew;
    }
    let mut found = Found::Unmeasured;
    for (index, (ttl, at)) in TTLS.into_iter().zip(&view.ttls).enumerate() {
        if ttl > most {
            break;
        }
        if at.sampled_hits < MIN_HITS {
            continue;
        }
        if at.wrong.saturating_mul(ONE_WRONG_IN) > at.hits {
            return if found == Found::Unmeasured { Found::Wrong } else { found };
        }
        found = Found::Ttl(index);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Found, advise, longest};
    use crate::telemetry::{
        Reason,
        observed::{Advice, AtTtl, Counts, Named, ObservedRoute, TTLS, Verdict, View},
    };

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn view(wrong: [u64; TTLS.len()]) -> View {
        let at = |wrong| AtTtl { sampled_hits: 900, hits: 900, wrong, saved_us: 9 };
        View {
            keys: 3,
            sampled: 1000,
            sampled_repeats: 997,
            requests: 1000,
            repeats: 997,
            same: 990,
            ttls: wrong.map(at),
            ..View::default()
        }
    }

    fn route(anonymous: View, per_user: View, shared: View) -> ObservedRoute {
        ObservedRoute {
            route: "/a".to_owned(),
            named: Named::Learned,
            watched: DAY,
            counts: Counts {
                requests: anonymous.requests + per_user.requests,
                with_credentials: per_user.requests,
                authorization: per_user.requests,
                ..Counts::default()
            },
            methods: Vec::new(),
            statuses: Vec::new(),
            refused: Vec::new(),
            vary: Vec::new(),
            anonymous,
            per_user,
            shared,
            advice: Advice { verdict: Verdict::TooFew, per_user: None },
        }
    }

    #[test]
    fn the_longest_lifetime_with_at_most_one_wrong_in_a_hundred_wins() {
        let table = [
            (view([0; 8]), DAY, Found::Ttl(7)),
            (view([0; 8]), Duration::from_secs(3599), Found::Ttl(5)),
            (view([0; 8]), Duration::from_secs(4), Found::Unmeasured),
            (view([0, 0, 9, 10, 0, 0, 0, 0]), DAY, Found::Ttl(2)),
            (view([10, 0, 0, 0, 0, 0, 0, 0]), DAY, Found::Wrong),
            (View { sampled: 49, ..view([0; 8]) }, DAY, Found::TooFew),
            (View { sampled_repeats: 9, ..view([0; 8]) }, DAY, Found::TooFew),
            (View { ttls: [AtTtl::default(); 8], ..view([0; 8]) }, DAY, Found::Unmeasured),
        ];
        for (view, most, expected) in table {
            assert_eq!(longest(&view, most), expected, "{view:?}");
        }
    }

    #[test]
    fn lifetimes_with_too_few_hits_neither_pass_nor_fail() {
        let mut rare = view([0; 8]);
        for at in &mut rare.ttls[..3] {
            *at = AtTtl { sampled_hits: 9, hits: 9, wrong: 9, saved_us: 0 };
        }

        assert_eq!(longest(&rare, DAY), Found::Ttl(7));
    }

    #[test]
    fn users_that_differ_get_entries_of_their_own_and_are_never_put_together() {
        let (none, good, bad) = (View::default(), view([0; 8]), view([500; 8]));
        let pairs = |view, compared, differing| View { compared, differing, ..view };
        let verdict = |anonymous, own, shared| advise(&route(anonymous, own, shared), DAY);
        let only = |verdict| Advice { verdict, per_user: None };

        assert_eq!(verdict(good, none, none), only(Verdict::Ttl(7)));
        assert_eq!(verdict(bad, none, none), only(Verdict::Changes));
        assert_eq!(verdict(none, good, pairs(good, 100, 0)), only(Verdict::SameForAll(7)));
        assert_eq!(verdict(none, good, pairs(good, 9, 0)), only(Verdict::PerUser(7)), "too few pairs");
        let apart = Advice { verdict: Verdict::PerUser(7), per_user: Some(7) };
        assert_eq!(verdict(none, good, pairs(bad, 100, 50)), apart);
        assert_eq!(verdict(none, good, pairs(good, 100, 2)), apart, "two in a hundred are too many");
        let both = Advice { verdict: Verdict::Ttl(7), per_user: Some(7) };
        assert_eq!(verdict(good, good, pairs(bad, 100, 50)), both);
        assert_eq!(verdict(none, bad, pairs(bad, 100, 50)), only(Verdict::Changes));
        assert_eq!(verdict(none, none, none), only(Verdict::TooFew));
    }

    #[test]
    fn what_the_backend_says_comes_before_what_was_measured() {
        let good = route(view([0; 8]), View::default(), View::default());
        let declared = ObservedRoute { counts: Counts { declared: 501, ..good.counts }, ..good.clone() };
        let refused =
            ObservedRoute { refused: vec![(Reason::Cors, 3), (Reason::NoStore, 501)], ..good.clone() };
        let seldom = ObservedRoute { refused: vec![(Reason::SetCookie, 500)], ..good };

        assert_eq!(advise(&declared, DAY).verdict, Verdict::Declared);
        assert_eq!(advise(&refused, DAY).verdict, Verdict::Refused(Reason::NoStore));
        assert_eq!(advise(&seldom, DAY).verdict, Verdict::Ttl(7));
    }
}
