//! When a stored copy answers.

use std::time::Duration;

use http::StatusCode;

use super::{Failure, Reuse, may_reuse, may_serve_on_failure, on_absent};
use crate::{
    cache::rfc9111::{
        Policy, Rule,
        fixture::{Lines, NOW_MS, default, get, headers, reuse, rfc, ruled, ruled_by, store_plain},
    },
    telemetry::record::Reason,
};

const A_MINUTE: Lines<'_> = &[("cache-control", "max-age=60")];

/// Why a copy may stand in for a failed fetch, so many seconds after its receipt.
fn on_failure(response: Lines<'_>, after_s: u64, failure: Failure) -> Option<Reason> {
    let meta = store_plain(response, &default()).unwrap().meta;
    may_serve_on_failure(&meta, NOW_MS + after_s * 1000, failure)
}

fn status(status: u16) -> Failure {
    Failure::Status(StatusCode::from_u16(status).unwrap())
}

#[test]
fn a_copy_is_fresh_while_its_lifetime_is_greater_than_its_age() {
    assert_eq!(reuse(A_MINUTE, 0, &[], &default()), Reuse::Fresh);
    assert_eq!(reuse(A_MINUTE, 59, &[], &default()), Reuse::Fresh);
    assert_eq!(reuse(A_MINUTE, 60, &[], &default()), Reuse::Validate(Reason::Expired));
    let aged = &[("cache-control", "max-age=60"), ("age", "50")];
    assert_eq!(reuse(aged, 9, &[], &default()), Reuse::Fresh);
    assert_eq!(reuse(aged, 10, &[], &default()), Reuse::Validate(Reason::Expired));
}

#[test]
fn a_no_cache_answer_is_validated_every_time() {
    let answer = &[("cache-control", "no-cache, max-age=60"), ("etag", "\"a\"")];

    assert_eq!(reuse(answer, 0, &[], &default()), Reuse::Validate(Reason::NoCache));
    assert_eq!(
        reuse(answer, 0, &[("cache-control", "max-stale")], &default()),
        Reuse::Validate(Reason::NoCache)
    );
}

#[test]
fn a_client_may_ask_for_something_younger() {
    let validate = Reuse::Validate(Reason::ClientNoCache);
    for (line, after_s, verdict) in [
        (("cache-control", "no-cache"), 0, validate),
        (("cache-control", "max-age=0"), 0, validate),
        (("pragma", "no-cache"), 0, validate),
        (("pragma", "x"), 0, Reuse::Fresh),
        (("cache-control", "x"), 0, Reuse::Fresh),
        (("cache-control", "max-age=5"), 5, Reuse::Fresh),
        (("cache-control", "max-age=5"), 6, validate),
        (("cache-control", "min-fresh=50"), 10, Reuse::Fresh),
        (("cache-control", "min-fresh=50"), 11, validate),
        (("cache-control", "no-store"), 0, Reuse::Fresh),
        (("cache-control", "only-if-cached"), 0, Reuse::Fresh),
    ] {
        assert_eq!(reuse(A_MINUTE, after_s, &[line], &default()), verdict, "{line:?} {after_s}");
    }
    assert_eq!(
        reuse(A_MINUTE, 0, &[("pragma", "no-cache"), ("cache-control", "x")], &default()),
        Reuse::Fresh
    );
}

#[test]
fn a_client_may_put_up_with_something_stale_where_the_answer_lets_it() {
    let asks = |answer: &str, after_s, asked: &str| {
        reuse(
            &[("cache-control", answer), ("etag", "\"a\"")],
            after_s,
            &[("cache-control", asked)],
            &default(),
        )
    };
    let stale = Reuse::Stale(Reason::MaxStale);
    let expired = Reuse::Validate(Reason::Expired);

    assert_eq!(asks("max-age=60", 69, "max-stale"), stale);
    assert_eq!(asks("max-age=60", 69, "max-stale=10"), stale);
    assert_eq!(asks("max-age=60", 70, "max-stale=10"), expired);
    assert_eq!(asks("max-age=60", 69, "max-stale=x"), expired);
    assert_eq!(asks("max-age=60, must-revalidate", 69, "max-stale"), expired);
    assert_eq!(asks("max-age=60, proxy-revalidate", 69, "max-stale"), expired);
    assert_eq!(asks("s-maxage=60", 69, "max-stale"), expired);
    assert_eq!(asks("max-age=0", 1, "max-stale"), expired, "what was never fresh is not served unasked");
    assert_eq!(asks("max-age=60", 69, "max-stale, max-age=5"), Reuse::Validate(Reason::ClientNoCache));
}

#[test]
fn only_if_cached_never_reaches_the_backend() {
    let only = ("cache-control", "only-if-cached");

    assert_eq!(reuse(A_MINUTE, 61, &[only], &default()), Reuse::OnlyIfCached);
    assert_eq!(reuse(A_MINUTE, 0, &[only, ("cache-control", "no-cache")], &default()), Reuse::OnlyIfCached);
    assert_eq!(on_absent(&get(&headers(&[only]))), Reuse::OnlyIfCached);
    assert_eq!(on_absent(&get(&headers(&[]))), Reuse::Miss(Reason::Absent));
}

#[test]
fn under_a_rule_a_reload_loop_does_not_reach_the_backend() {
    let open = ruled_by(Rule { client_reload: true, ..ruled().rule.unwrap() });
    let plain_standard = Policy { profile: rfc().profile, ..ruled() };
    for line in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "min-fresh=99"),
        ("pragma", "no-cache"),
    ] {
        assert_eq!(reuse(&[], 1, &[line], &ruled()), Reuse::Fresh, "{line:?}");
        assert_eq!(reuse(A_MINUTE, 1, &[line], &ruled()), Reuse::Validate(Reason::ClientNoCache), "{line:?}");
        assert_eq!(reuse(&[], 1, &[line], &open), Reuse::Validate(Reason::ClientNoCache), "{line:?}");
        assert_eq!(
            reuse(&[], 1, &[line], &plain_standard),
            Reuse::Validate(Reason::ClientNoCache),
            "{line:?}"
        );
    }
    assert_eq!(reuse(&[], 61, &[("cache-control", "max-stale")], &ruled()), Reuse::Validate(Reason::Expired));
    assert_eq!(reuse(&[], 61, &[("cache-control", "only-if-cached")], &ruled()), Reuse::OnlyIfCached);
}

#[test]
fn a_copy_whose_word_no_longer_counts_is_not_used() {
    let by_rule = store_plain(&[], &ruled()).unwrap().meta;
    let by_origin = store_plain(A_MINUTE, &default()).unwrap().meta;
    let none = headers(&[]);

    assert_eq!(may_reuse(&get(&none), &by_rule, NOW_MS, &default()), Reuse::Miss(Reason::Absent));
    let deaf = Policy { origin: false, ..ruled() };
    assert_eq!(may_reuse(&get(&none), &by_origin, NOW_MS, &deaf), Reuse::Miss(Reason::Absent));
    assert_eq!(may_reuse(&get(&none), &by_rule, NOW_MS, &deaf), Reuse::Fresh);
}

#[test]
fn a_stale_copy_is_served_while_it_is_refreshed_until_the_window_ends() {
    let swr = |answer: &str, after_s| {
        reuse(&[("cache-control", answer), ("etag", "\"a\"")], after_s, &[], &default())
    };
    let stale = Reuse::Stale(Reason::Swr);

    assert_eq!(swr("max-age=60, stale-while-revalidate=10", 69), stale);
    assert_eq!(swr("max-age=60, stale-while-revalidate=10", 70), Reuse::Validate(Reason::Expired));
    assert_eq!(swr("max-age=0, stale-while-revalidate=10", 5), stale);
    assert_eq!(
        swr("s-maxage=60, stale-while-revalidate=10", 65),
        stale,
        "an explicit window beside it stands"
    );
    for strict in ["must-revalidate", "proxy-revalidate"] {
        let answer = format!("max-age=60, stale-while-revalidate=10, {strict}");
        assert_eq!(swr(&answer, 65), Reuse::Validate(Reason::Expired), "{strict}");
    }
    let answer = &[("cache-control", "max-age=60, stale-while-revalidate=99")];
    for asked in ["no-cache", "max-age=60", "min-fresh=1"] {
        let verdict = reuse(answer, 65, &[("cache-control", asked)], &default());
        assert_eq!(verdict, Reuse::Validate(Reason::ClientNoCache), "{asked}");
    }
}

#[test]
fn the_windows_of_a_rule_hold_where_the_answer_names_none() {
    let seconds = Duration::from_secs;
    let rule =
        Rule { stale_while_revalidate: seconds(10), stale_if_error: seconds(20), ..ruled().rule.unwrap() };
    let policy = ruled_by(rule);
    let windows = |lines: Lines<'_>| {
        let meta = store_plain(lines, &policy).unwrap().meta;
        (meta.swr_ms / 1000, meta.sie_ms / 1000, meta.disconnect_ms / 1000)
    };

    assert_eq!(windows(&[]), (10, 20, 3600));
    assert_eq!(windows(&[("cache-control", "max-age=60")]), (10, 20, 3600));
    assert_eq!(windows(&[("cache-control", "max-age=60, stale-if-error=5")]), (10, 5, 3600));
    assert_eq!(windows(&[("cache-control", "max-age=60, stale-if-error=0")]), (10, 0, 3600));
    assert_eq!(windows(&[("cache-control", "s-maxage=60")]), (0, 0, 0));
    assert_eq!(windows(&[("cache-control", "s-maxage=60, stale-if-error=5")]), (0, 5, 0));
    assert_eq!(windows(&[("cache-control", "must-revalidate")]), (0, 0, 0));
}

#[test]
fn after_an_error_only_the_window_for_errors_counts() {
    let sie = &[("cache-control", "max-age=60, stale-if-error=10")];
    for code in [500, 502, 503, 504] {
        assert_eq!(on_failure(sie, 65, status(code)), Some(Reason::Sie), "{code}");
        assert_eq!(on_failure(sie, 70, status(code)), None, "{code}");
        assert_eq!(on_failure(A_MINUTE, 65, status(code)), None, "{code}");
    }
    for code in [200, 304, 404, 429, 501, 505] {
        assert_eq!(on_failure(sie, 65, status(code)), None, "{code}");
    }
    assert_eq!(on_failure(sie, 65, Failure::Disconnect), Some(Reason::Sie));
    assert_eq!(on_failure(sie, 75, Failure::Disconnect), Some(Reason::Disconnect));
}

#[test]
fn cut_off_from_the_backend_a_stale_copy_is_served_for_an_hour_unless_the_answer_forbids_it() {
    let cut = |answer: &str, after_s| {
        on_failure(&[("cache-control", answer), ("etag", "\"a\"")], after_s, Failure::Disconnect)
    };

    assert_eq!(cut("max-age=60", 3659), Some(Reason::Disconnect));
    assert_eq!(cut("max-age=60", 3660), None);
    assert_eq!(cut("max-age=60", 0), Some(Reason::Disconnect), "fresh, but a client wanted it validated");
    for forbids in ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=60"] {
        assert_eq!(cut(&format!("max-age=60, {forbids}"), 65), None, "{forbids}");
    }
    assert_eq!(cut("no-cache", 0), None);
    assert_eq!(cut("max-age=0", 1), None);
}

#[test]
fn a_soft_purge_makes_a_copy_stale_and_starts_its_windows() {
    let meta =
        store_plain(&[("cache-control", "max-age=60, stale-while-revalidate=5")], &default()).unwrap().meta;
    let purged = meta.expired(NOW_MS + 10_000);
    let none = headers(&[]);
    let verdict = |after_ms| may_reuse(&get(&none), &purged, NOW_MS + after_ms, &default());

    assert_eq!(verdict(10_000), Reuse::Stale(Reason::Swr));
    assert_eq!(verdict(15_000), Reuse::Validate(Reason::Expired));
    assert_eq!(meta.expired(NOW_MS + 99_000), meta);
}

#[test]
fn age_and_what_is_left_are_whole_seconds() {
    let meta = store_plain(&[("cache-control", "max-age=60"), ("age", "7")], &default()).unwrap().meta;

    assert_eq!((meta.age_s(NOW_MS), meta.ttl_s(NOW_MS)), (7, 53));
    assert_eq!((meta.age_s(NOW_MS + 1_999), meta.ttl_s(NOW_MS + 1_999)), (8, 51));
    assert_eq!((meta.age_s(NOW_MS + 53_001), meta.ttl_s(NOW_MS + 53_001)), (60, -1));
    assert_eq!(meta.useless_after_ms(Duration::from_secs(9)), NOW_MS + 53_000 + 3_600_000);
}
