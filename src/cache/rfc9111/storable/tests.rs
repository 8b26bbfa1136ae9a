//! What may be stored.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::{
    cache::rfc9111::{
        Languages, MediaRange, Policy, RequestHead, ResponseHead, Rule, Source,
        fixture::{AT_NOW, Lines, NOW_MS, default, get, headers, rfc, ruled, ruled_by, store, store_plain},
        may_store,
    },
    config::{Override, SetCookie},
    telemetry::record::Reason,
};

const A_MINUTE: (&str, &str) = ("cache-control", "max-age=60");
const ETAG: (&str, &str) = ("etag", "\"a\"");

/// Whose word, and how many seconds are left at receipt.
fn life(status: u16, response: Lines<'_>, policy: &Policy) -> Result<(Source, i64), Reason> {
    store(&[], status, response, policy).map(|storable| (storable.meta.source, storable.meta.ttl_s(NOW_MS)))
}

#[test]
fn the_answers_own_word_beats_a_rule_and_silence_leaves_it_to_the_rule() {
    let origin = |seconds| Ok((Source::Origin, seconds));
    let rule = |seconds| Ok((Source::Rule, seconds));
    for (lines, without_rule, with_rule) in [
        (&[][..], Err(Reason::NoFreshness), rule(60)),
        (&[ETAG], Err(Reason::NoFreshness), rule(60)),
        (&[("cache-control", "public")], Err(Reason::NoFreshness), rule(60)),
        (&[("cache-control", "must-revalidate")], Err(Reason::NoFreshness), rule(60)),
        (&[("pragma", "no-cache")], Err(Reason::NoFreshness), rule(60)),
        (&[("cache-control", "no-cache=\"a\"")], Err(Reason::NoFreshness), rule(60)),
        (&[("cache-control", "stale-if-error=30")], origin(0), rule(60)),
        (&[("cache-control", "stale-if-error=0")], Err(Reason::NoFreshness), rule(60)),
        (&[("cache-control", "max-age=30")], origin(30), origin(30)),
        (&[("expires", "@30")], origin(30), origin(30)),
        (&[("cdn-cache-control", "max-age=30"), ("cache-control", "no-store")], origin(30), origin(30)),
        (&[("cdn-cache-control", "x"), ("cache-control", "max-age=30")], Err(Reason::NoFreshness), rule(60)),
        (&[("cache-control", "max-age=0")], Err(Reason::StaleOnArrival), Err(Reason::StaleOnArrival)),
        (&[("cache-control", "max-age=oops")], Err(Reason::StaleOnArrival), Err(Reason::StaleOnArrival)),
        (&[("expires", "0")], Err(Reason::StaleOnArrival), Err(Reason::StaleOnArrival)),
        (&[("cache-control", "max-age=0"), ETAG], origin(0), origin(0)),
        (&[("cache-control", "no-cache"), ETAG], origin(0), origin(0)),
        (&[("cache-control", "no-cache, max-age=60")], Err(Reason::NoCache), Err(Reason::NoCache)),
        (&[("cache-control", "no-store")], Err(Reason::NoStore), Err(Reason::NoStore)),
        (&[("cache-control", "private")], Err(Reason::Private), Err(Reason::Private)),
        (&[("cdn-cache-control", "private"), A_MINUTE], Err(Reason::Private), Err(Reason::Private)),
        (&[("cdn-cache-control", "no-store"), A_MINUTE], Err(Reason::NoStore), Err(Reason::NoStore)),
        (&[("cdn-cache-control", "no-cache"), A_MINUTE], Err(Reason::NoCache), Err(Reason::NoCache)),
        (&[("set-cookie", "a=b"), A_MINUTE], Err(Reason::SetCookie), Err(Reason::SetCookie)),
        (&[("set-cookie", "a=b")], Err(Reason::SetCookie), Err(Reason::SetCookie)),
        (&[("vary", "*"), A_MINUTE], Err(Reason::VaryStar), Err(Reason::VaryStar)),
    ] {
        assert_eq!(life(200, lines, &default()), without_rule, "{lines:?}");
        assert_eq!(life(200, lines, &ruled()), with_rule, "{lines:?} with a rule");
    }
}

#[test]
fn every_final_status_may_be_declared_fresh_in_the_plain_standard() {
    for status in [
        200, 201, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599,
        999,
    ] {
        assert_eq!(life(status, &[A_MINUTE], &rfc()), Ok((Source::Origin, 60)), "{status}");
        let seconds = if status >= 400 { 10 } else { 60 };
        assert_eq!(
            life(status, &[A_MINUTE], &default()),
            Ok((Source::Origin, seconds)),
            "{status} in production"
        );
    }
    for status in [100, 101, 103, 206, 304] {
        assert_eq!(life(status, &[A_MINUTE], &rfc()), Err(Reason::Status), "{status}");
    }
}

#[test]
fn must_understand_lifts_no_store_for_known_statuses_and_forbids_the_others() {
    let demanding = [("cache-control", "max-age=60, no-store, must-understand")];
    for status in [200, 204, 301, 404, 503] {
        assert!(life(status, &demanding, &rfc()).is_ok(), "{status}");
    }
    for status in [299, 418, 499, 599] {
        assert_eq!(life(status, &demanding, &rfc()), Err(Reason::MustUnderstand), "{status}");
        let lines = [("cache-control", "max-age=60, must-understand")];
        assert_eq!(life(status, &lines, &rfc()), Err(Reason::MustUnderstand), "{status}");
    }
}

#[test]
fn a_life_may_be_guessed_in_the_plain_standard_only() {
    let changed_a_day_ago = &[("last-modified", "@-86400"), ("date", "@0")];

    assert_eq!(life(200, changed_a_day_ago, &rfc()), Ok((Source::Origin, 8640)));
    assert_eq!(life(201, changed_a_day_ago, &rfc()), Err(Reason::NoFreshness));
    assert_eq!(life(200, changed_a_day_ago, &default()), Err(Reason::NoFreshness));
    let in_doubt = &[("last-modified", "@-86400"), ("cache-control", "no-cache")];
    assert_eq!(life(200, in_doubt, &rfc()), Ok((Source::Origin, 0)));
}

#[test]
fn an_answer_to_someone_known_is_stored_only_if_it_says_that_it_is_shared() {
    let known = &[("authorization", "Bearer x")];
    for (control, is_stored) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("max-age=60, must-revalidate", true),
        ("s-maxage=60", true),
        ("max-age=60, proxy-revalidate", false),
        ("max-age=60, public=yes", false),
    ] {
        let stored = store(known, 200, &[("cache-control", control)], &default());
        assert_eq!(stored.err(), (!is_stored).then_some(Reason::Authorization), "{control}");
    }
    assert!(store(&[("cookie", "a=b")], 200, &[A_MINUTE], &default()).is_ok());
}

#[test]
fn a_request_may_forbid_storage() {
    assert_eq!(
        store(&[("cache-control", "no-store")], 200, &[A_MINUTE], &default()).err(),
        Some(Reason::RequestNoStore)
    );
    assert_eq!(
        store(&[("cache-control", "no-store")], 200, &[], &ruled()).err(),
        Some(Reason::RequestNoStore)
    );
    assert_eq!(store(&[("range", "bytes=0-1")], 200, &[A_MINUTE], &default()).err(), Some(Reason::Range));
    assert_eq!(store(&[("content-length", "1")], 200, &[A_MINUTE], &default()).err(), Some(Reason::Body));
    let ranged = headers(&[("range", "bytes=0-1")]);
    let answer = headers(&[A_MINUTE]);
    let answer = ResponseHead { status: StatusCode::OK, headers: &answer };
    assert!(may_store(&get(&ranged).for_whole(), &answer, AT_NOW, &default()).is_ok());
}

/// Rules for credentials, cookies and paths hold for storing as they do for looking up, whatever the caller
/// did before.
#[test]
fn under_a_rule_nothing_personal_is_stored() {
    let public = ruled_by(Rule { public: true, ..ruled().rule.unwrap() });
    for (line, reason) in [
        (("authorization", "Bearer x"), Reason::Authorization),
        (("x-api-key", "x"), Reason::Credential),
        (("proxy-authorization", "x"), Reason::Credential),
        (("cookie", "a=b"), Reason::Cookie),
    ] {
        assert_eq!(store(&[line], 200, &[], &ruled()).err(), Some(reason), "{line:?}");
        assert!(store(&[line], 200, &[], &public).is_ok(), "{line:?}");
    }
    for field in ["Cookie", "authorization", "X-Api-Key", "User-Agent", "Referer", "accept, cookie"] {
        assert_eq!(store_plain(&[("vary", field)], &public).err(), Some(Reason::VaryCredential), "{field}");
        assert!(store_plain(&[("vary", field), A_MINUTE], &public).is_ok(), "{field}");
    }
    assert!(store_plain(&[("vary", "accept")], &ruled()).is_ok());
    let none = headers(&[]);
    let odd_path = RequestHead::new(&Method::GET, b"example.org", b"/a;b", &none);
    let answer = ResponseHead { status: StatusCode::OK, headers: &none };
    assert_eq!(may_store(&odd_path, &answer, AT_NOW, &ruled()).err(), Some(Reason::Path));
}

#[test]
fn errors_and_detours_live_under_a_rule_only_for_moments_or_not_at_all() {
    for (status, expected) in [
        (200, Ok(60)),
        (308, Ok(60)),
        (404, Ok(5)),
        (410, Ok(5)),
        (302, Err(Reason::Status)),
        (401, Err(Reason::Status)),
        (429, Err(Reason::Status)),
        (500, Err(Reason::Status)),
        (503, Err(Reason::Status)),
    ] {
        assert_eq!(life(status, &[], &ruled()).map(|(_, seconds)| seconds), expected, "{status}");
    }
    let never = Rule { ttl_by_status: vec![(404, Duration::ZERO)], ..ruled().rule.unwrap() };
    assert_eq!(life(404, &[], &ruled_by(never)), Err(Reason::Status));
    let windows = Rule { stale_while_revalidate: Duration::from_secs(99), ..ruled().rule.unwrap() };
    let gone = store(&[], 404, &[], &ruled_by(windows)).unwrap().meta;
    assert_eq!((gone.swr_ms, gone.disconnect_ms), (0, 0), "an error is not worth keeping beyond its life");
}

#[test]
fn a_permission_for_one_origin_is_not_handed_to_others() {
    let one = ("access-control-allow-origin", "https://a.example");
    let any = ("access-control-allow-origin", "*");
    let unkeyed = ruled_by(Rule { origin_keyed: false, ..ruled().rule.unwrap() });

    assert_eq!(store_plain(&[A_MINUTE, one], &default()).err(), Some(Reason::Cors));
    assert_eq!(store_plain(&[one], &unkeyed).err(), Some(Reason::Cors));
    assert_eq!(
        store_plain(&[A_MINUTE, ("access-control-allow-origin", "null")], &default()).err(),
        Some(Reason::Cors)
    );
    assert!(store_plain(&[A_MINUTE, any], &default()).is_ok());
    assert!(store_plain(&[A_MINUTE, one, ("vary", "accept, Origin")], &default()).is_ok());
    assert!(store_plain(&[one], &ruled()).is_ok(), "the origin is in the key");
    assert!(store_plain(&[A_MINUTE, one], &rfc()).is_ok());
}

#[test]
fn streams_are_never_stored() {
    for media in [
        "text/event-stream",
        "Text/Event-Stream; charset=utf-8",
        "application/grpc",
        "application/grpc-web+proto",
        "application/ndjson",
        "application/x-ndjson",
        "multipart/x-mixed-replace; boundary=x",
    ] {
        for policy in [default(), rfc(), ruled()] {
            assert_eq!(
                store_plain(&[A_MINUTE, ("content-type", media)], &policy).err(),
                Some(Reason::Streaming),
                "{media}"
            );
        }
    }
    for media in ["application/json", "text/html", "multipart/mixed", ""] {
        assert!(store_plain(&[A_MINUTE, ("content-type", media)], &default()).is_ok(), "{media}");
    }
}

#[test]
fn a_body_that_is_announced_as_too_long_is_not_begun() {
    let policy = Policy { max_body_bytes: 10, ..default() };

    assert!(store_plain(&[A_MINUTE, ("content-length", "10")], &policy).is_ok());
    assert_eq!(store_plain(&[A_MINUTE, ("content-length", "11")], &policy).err(), Some(Reason::TooLarge));
}

#[test]
fn cookies_of_an_answer_are_stored_in_the_plain_standard_only() {
    let lines = &[A_MINUTE, ("set-cookie", "a=b")];

    assert_eq!(store_plain(lines, &default()).err(), Some(Reason::SetCookie));
    assert_eq!(store_plain(lines, &rfc()).unwrap().head(&headers(lines)).get("set-cookie").unwrap(), "a=b");
}

#[test]
fn what_is_stale_on_arrival_is_stored_only_if_it_is_still_good_for_something() {
    for (control, age, is_stored) in [
        ("max-age=60", "50", true),
        ("max-age=60", "3000", true),
        ("max-age=60", "3660", false),
        ("max-age=60, must-revalidate", "60", false),
        ("s-maxage=60", "60", false),
        ("max-age=0, stale-while-revalidate=60", "30", true),
        ("max-age=0, stale-while-revalidate=60", "60", false),
        ("max-age=0, stale-if-error=60", "0", true),
        ("max-age=60", "2147483648", false),
    ] {
        let stored = store_plain(&[("cache-control", control), ("age", age)], &default());
        assert_eq!(stored.err(), (!is_stored).then_some(Reason::StaleOnArrival), "{control} {age}");
        assert!(
            store_plain(&[("cache-control", control), ("age", age), ETAG], &default()).is_ok(),
            "{control} {age}"
        );
    }
}

#[test]
fn no_copy_outlives_the_operators_bound_however_old_it_came() {
    let policy = Policy { max_ttl: Duration::from_secs(100), ..default() };

    let left = |lines: Lines<'_>| life(200, lines, &policy).unwrap().1;

    assert_eq!(left(&[("cache-control", "max-age=60")]), 60);
    assert_eq!(left(&[("cache-control", "max-age=9999")]), 100);
    assert_eq!(left(&[("cache-control", "max-age=9999"), ("age", "500")]), 100);
    assert_eq!(left(&[("cache-control", "max-age=9999"), ("age", "9950")]), 49);
}

#[test]
fn an_answer_to_a_post_about_its_own_uri_is_stored_in_the_plain_standard_only() {
    let request = headers(&[("content-length", "5")]);
    let own = ("content-location", "http://example.org/a?b=c");
    let stored = |lines: Lines<'_>, policy: &Policy| {
        let request = RequestHead::new(&Method::POST, b"example.org", b"/a?b=c", &request);
        let answer = headers(lines);
        may_store(&request, &ResponseHead { status: StatusCode::OK, headers: &answer }, AT_NOW, policy).err()
    };

    assert_eq!(stored(&[A_MINUTE, own], &rfc()), None);
    assert_eq!(stored(&[A_MINUTE, own], &default()), Some(Reason::Method));
    assert_eq!(stored(&[A_MINUTE], &rfc()), Some(Reason::Method));
    assert_eq!(stored(&[own, ("last-modified", "@-9999")], &rfc()), Some(Reason::Method));
    assert_eq!(
        stored(&[A_MINUTE, own], &Policy { rule: Some(Rule::default()), ..rfc() }),
        Some(Reason::Method)
    );
    let post = RequestHead::new(&Method::POST, b"example.org", b"/a?b=c", &request);
    let whole = headers(&[A_MINUTE, own]);
    for (status, reason) in [(201, None), (303, Some(Reason::Method)), (404, Some(Reason::Method))] {
        let answer = ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: &whole };
        assert_eq!(may_store(&post, &answer, AT_NOW, &rfc()).err(), reason, "{status}");
    }
    let none = headers(&[A_MINUTE, own]);
    for method in [Method::HEAD, Method::PUT, Method::OPTIONS] {
        let request = RequestHead::new(&method, b"example.org", b"/a?b=c", &request);
        let answer = ResponseHead { status: StatusCode::OK, headers: &none };
        assert_eq!(may_store(&request, &answer, AT_NOW, &rfc()).err(), Some(Reason::Method), "{method}");
    }
}

#[test]
fn a_silent_200_under_a_rule_wants_a_tag_of_its_own() {
    assert!(store_plain(&[], &ruled()).unwrap().wants_etag);
    assert!(!store_plain(&[ETAG], &ruled()).unwrap().wants_etag);
    assert!(!store_plain(&[A_MINUTE], &ruled()).unwrap().wants_etag);
    assert!(!store(&[], 404, &[], &ruled()).unwrap().wants_etag);
    assert!(!store_plain(&[], &Policy { profile: rfc().profile, ..ruled() }).unwrap().wants_etag);
}

#[test]
fn a_backend_that_is_not_to_be_heard_gives_no_life() {
    let deaf = Policy { origin: false, ..ruled() };

    assert_eq!(life(200, &[A_MINUTE], &deaf), Err(Reason::NoFreshness));
    assert_eq!(life(200, &[], &deaf), Ok((Source::Rule, 60)));
}

#[test]
fn one_users_own_answer_is_stored_for_a_known_user_alone() {
    let own = http::header::AUTHORIZATION;
    let request = headers(&[("authorization", "Bearer x"), ("cookie", "a=b")]);
    let stored = |known: bool, lines: Lines<'_>, policy: &Policy| {
        let head = if known { get(&request).identified(&own) } else { get(&request) };
        let answer = headers(lines);
        let answer = ResponseHead { status: StatusCode::OK, headers: &answer };
        may_store(&head, &answer, AT_NOW, policy).map(|storable| storable.meta.source)
    };
    let personal = |ttl: Option<u64>| {
        ruled_by(Rule { ttl: ttl.map(Duration::from_secs), identity: true, ..Rule::default() })
    };
    let table: &[(Lines<'_>, Result<Source, Reason>)] = &[
        (&[A_MINUTE], Ok(Source::Origin)),
        (&[A_MINUTE, ("vary", "authorization")], Ok(Source::Origin)),
        (&[A_MINUTE, ("vary", "cookie")], Err(Reason::VaryCredential)),
        (&[A_MINUTE, ("vary", "x-api-key")], Err(Reason::VaryCredential)),
        (&[("cache-control", "private, max-age=60")], Err(Reason::Private)),
        (&[("cache-control", "no-store")], Err(Reason::NoStore)),
        (&[A_MINUTE, ("set-cookie", "a=b")], Err(Reason::SetCookie)),
    ];

    for (lines, outcome) in table {
        for policy in [personal(Some(60)), personal(None)] {
            assert_eq!(stored(true, lines, &policy), *outcome, "{lines:?}");
            assert!(stored(false, lines, &policy).is_err(), "{lines:?}");
        }
    }
    assert_eq!(stored(false, &[A_MINUTE], &personal(None)), Err(Reason::Identity));
    assert_eq!(stored(true, &[], &personal(Some(60))), Ok(Source::Rule));
    assert_eq!(stored(true, &[], &personal(None)), Err(Reason::NoFreshness));
}

#[test]
fn a_rule_overrules_only_the_words_that_it_names() {
    use Override::{MaxAge, NoCache, NoStore, Private};
    let all = [NoStore, Private, NoCache, MaxAge];
    let rule = |seconds| Ok((Source::Rule, seconds));
    let origin = |seconds| Ok((Source::Origin, seconds));
    for (control, words, expected) in [
        ("no-store", &[][..], Err(Reason::NoStore)),
        ("no-store", &[NoStore], rule(60)),
        ("no-store", &[Private, NoCache, MaxAge], Err(Reason::NoStore)),
        ("private", &[Private], rule(60)),
        ("private", &[NoStore, NoCache, MaxAge], Err(Reason::Private)),
        ("private, no-store", &[Private], Err(Reason::NoStore)),
        ("private, no-store", &[Private, NoStore], rule(60)),
        ("no-cache", &[NoCache], rule(60)),
        ("no-cache", &[NoStore, Private, MaxAge], Err(Reason::NoCache)),
        ("max-age=0", &[MaxAge], rule(60)),
        ("max-age=x", &[MaxAge], rule(60)),
        ("s-maxage=0", &[MaxAge], rule(60)),
        ("max-age=0", &[NoStore, Private, NoCache], Err(Reason::StaleOnArrival)),
        // What is not overruled still bounds the life.
        ("private, max-age=30", &[Private], rule(30)),
        ("private, max-age=300", &[Private], rule(60)),
        ("private, max-age=0", &[Private], Err(Reason::StaleOnArrival)),
        ("private, max-age=0", &[Private, MaxAge], rule(60)),
        ("no-cache, max-age=0", &[MaxAge], Err(Reason::NoCache)),
        ("no-cache, no-store, must-revalidate, max-age=0", &all, rule(60)),
        // Behind a quote that does not end there may be any other word.
        ("x=\", private", &all, Err(Reason::NoStore)),
        // Nothing to overrule: the answer's own word stands.
        ("max-age=30", &all, origin(30)),
        ("public", &all, rule(60)),
    ] {
        let policy = ruled_by(Rule { overrides: words.to_vec(), ..ruled().rule.unwrap() });
        assert_eq!(life(200, &[("cache-control", control)], &policy), expected, "{control} {words:?}");
    }
    let policy = ruled_by(Rule { overrides: all.to_vec(), ..ruled().rule.unwrap() });
    assert_eq!(life(200, &[("expires", "0")], &policy), rule(60));
    assert_eq!(life(200, &[("cdn-cache-control", "no-store"), A_MINUTE], &policy), rule(60));
    assert_eq!(life(404, &[("cache-control", "no-store")], &policy), rule(5));
    assert_eq!(
        life(200, &[("set-cookie", "a=b"), ("cache-control", "private")], &policy),
        Err(Reason::SetCookie)
    );
    assert_eq!(life(200, &[("vary", "*"), ("cache-control", "private")], &policy), Err(Reason::VaryStar));
}

/// An overruled answer is a rule's copy: credentials bar it, and a status without a life under the rule is not made the
/// backend's own word by what was taken off it.
#[test]
fn an_overruled_answer_is_held_to_the_rules_for_rules() {
    let overrides = vec![Override::Private, Override::NoStore, Override::NoCache, Override::MaxAge];
    let policy = ruled_by(Rule { overrides: overrides.clone(), ..ruled().rule.unwrap() });
    let private = ("cache-control", "private, max-age=30");

    for (line, reason) in [
        (("authorization", "Bearer x"), Reason::Authorization),
        (("cookie", "a=b"), Reason::Cookie),
        (("x-api-key", "x"), Reason::Credential),
    ] {
        assert_eq!(store(&[line], 200, &[private], &policy).err(), Some(reason), "{line:?}");
    }
    assert_eq!(store_plain(&[private, ("vary", "cookie")], &policy).err(), Some(Reason::VaryCredential));
    for status in [201, 302, 303, 307, 401, 403, 429, 500, 503] {
        assert_eq!(life(status, &[private], &policy), Err(Reason::Private), "{status}");
    }
    assert_eq!(life(206, &[private], &policy), Err(Reason::Status));
    let without_ttl = ruled_by(Rule { overrides, ..Rule::default() });
    assert_eq!(life(200, &[private], &without_ttl), Err(Reason::Private));
}

#[test]
fn an_answer_that_sets_a_cookie_is_refused_stripped_or_stored_as_the_route_says() {
    let lines = &[("set-cookie", "a=b"), ("set-cookie", "c=d"), ("x-a", "1")];
    let rule = |set_cookie| Rule { set_cookie, ..ruled().rule.unwrap() };
    let overruled = Rule { overrides: vec![Override::SetCookie], ..ruled().rule.unwrap() };
    let overruled_and_stored = Rule { set_cookie: SetCookie::Store, ..overruled.clone() };
    let cookies = |policy: &Policy, lines: Lines<'_>| {
        let storable = store_plain(lines, policy)?;
        let head = storable.head(&headers(lines));
        assert_eq!(head.get("x-a").unwrap(), "1");
        Ok(head.get_all("set-cookie").iter().count())
    };

    for (rule, expected) in [
        (rule(SetCookie::Refuse), Err(Reason::SetCookie)),
        (rule(SetCookie::Strip), Ok(0)),
        (rule(SetCookie::Store), Ok(2)),
        (overruled, Ok(0)),
        (overruled_and_stored, Ok(2)),
    ] {
        let policy = ruled_by(rule.clone());
        assert_eq!(cookies(&policy, lines), expected, "{rule:?}");
        let declared = &[lines[0], lines[1], lines[2], A_MINUTE];
        assert_eq!(cookies(&policy, declared), expected, "declared: {rule:?}");
        let plain = Policy { profile: rfc().profile, ..policy };
        let in_rfc = if expected == Err(Reason::SetCookie) { Ok(2) } else { expected };
        assert_eq!(cookies(&plain, lines), in_rfc, "in the plain standard: {rule:?}");
    }
}

#[test]
fn a_rule_stores_only_the_media_types_that_it_names() {
    let media_types = ["application/json", "text/*"].map(|text| MediaRange::parse(text).unwrap()).to_vec();
    let policy = ruled_by(Rule { media_types, ..ruled().rule.unwrap() });

    for (media, is_stored) in
        [("application/json; charset=utf-8", true), ("text/html", true), ("image/png", false), ("", false)]
    {
        let lines = &[("content-type", media)];
        assert_eq!(store_plain(lines, &policy).err(), (!is_stored).then_some(Reason::MediaType), "{media}");
        assert!(store_plain(&[lines[0], A_MINUTE], &policy).is_ok(), "the backend's own word: {media}");
    }
    assert_eq!(store_plain(&[], &policy).err(), Some(Reason::MediaType));
    assert_eq!(store_plain(&[("content-type", "text/event-stream")], &policy).err(), Some(Reason::Streaming));
}

#[test]
fn a_route_may_name_fields_that_tell_answers_apart() {
    let rule = Rule { vary: vec!["x-device".parse().unwrap()], ..ruled().rule.unwrap() };
    let phone = &[("x-device", "phone")];
    for lines in [&[][..], &[A_MINUTE], &[("vary", "X-Device, accept")]] {
        let selection = store(phone, 200, lines, &ruled_by(rule.clone())).unwrap().selection;

        assert!(selection.matches(&headers(phone)), "{lines:?}");
        assert!(!selection.matches(&headers(&[("x-device", "desk")])), "{lines:?}");
        assert!(!selection.matches(&headers(&[])), "{lines:?}");
    }
    assert_eq!(store_plain(&[("vary", "*")], &ruled_by(rule)).err(), Some(Reason::VaryStar));
}

#[test]
fn with_known_languages_copies_are_told_apart_by_the_best_one() {
    let languages = Languages::new(&["en".to_owned(), "de".to_owned()]);
    let policy = ruled_by(Rule { languages, ..ruled().rule.unwrap() });
    let vary = &[("vary", "accept-language"), ("content-language", "de")];
    let want = |value| headers(&[("accept-language", value)]);

    let german = store(&[("accept-language", "de")], 200, vary, &policy).unwrap().selection;
    let other = store(&[], 200, vary, &policy).unwrap().selection;
    let plain = store(&[("accept-language", "de")], 200, &[], &policy).unwrap().selection;

    for wanted in ["de", "de-CH, fr;q=0.9", "fr, de;q=0.1"] {
        assert!(german.matches(&want(wanted)) && !other.matches(&want(wanted)), "{wanted}");
        assert_eq!(german.of_request(&want(wanted)).canonical(), german.canonical(), "{wanted}");
    }
    for wanted in ["en, de", "fr", "x y"] {
        assert!(!german.matches(&want(wanted)), "{wanted}");
    }
    assert!(!german.matches(&headers(&[])));
    for request in [want("fr"), want("de;q=0"), headers(&[])] {
        assert!(other.matches(&request), "{request:?}");
        assert_eq!(other.of_request(&request).canonical(), other.canonical(), "{request:?}");
    }
    assert_ne!(german.canonical(), other.canonical());
    assert!(plain.is_any(), "languages alone tell nothing apart");
}

#[test]
fn an_answer_that_varies_by_a_credential_is_not_stored_by_a_rule() {
    let policy = Policy { credentials: vec!["x-session-token".parse().unwrap()], ..ruled() };
    for field in ["X-Session-Token", "accept, x-session-token", "Api-Key", "X-Auth-Token", "X-Access-Token"] {
        assert_eq!(store_plain(&[("vary", field)], &policy).err(), Some(Reason::VaryCredential), "{field}");
        assert!(store_plain(&[("vary", field), A_MINUTE], &policy).is_ok(), "{field}");
    }
}

#[test]
fn the_life_of_what_is_gone_is_the_routes_to_say() {
    let policy = |negative_ttl| ruled_by(Rule { negative_ttl, ..ruled().rule.unwrap() });

    for status in [404, 410] {
        assert_eq!(life(status, &[], &policy(Duration::from_secs(30))), Ok((Source::Rule, 30)), "{status}");
        assert_eq!(life(status, &[], &policy(Duration::from_secs(90))), Ok((Source::Rule, 60)), "{status}");
        assert_eq!(life(status, &[], &policy(Duration::ZERO)), Err(Reason::Status), "{status}");
    }
    assert_eq!(life(200, &[], &policy(Duration::ZERO)), Ok((Source::Rule, 60)));
}

#[test]
fn the_answer_to_a_post_whose_body_is_in_the_key_is_stored_like_that_to_a_get() {
    let lines = headers(&[("content-length", "3")]);
    let post = RequestHead::new(&Method::POST, b"example.org", b"/a", &lines);
    let judged = |request: &RequestHead<'_>, answer: Lines<'_>| {
        let answer = headers(answer);
        let response = ResponseHead { status: StatusCode::OK, headers: &answer };
        may_store(request, &response, AT_NOW, &ruled())
    };

    let storable = judged(&post.with_keyed_body(), &[]).unwrap();

    assert_eq!((storable.meta.source, storable.wants_etag), (Source::Rule, false));
    assert_eq!(judged(&post.with_keyed_body(), &[A_MINUTE]).unwrap().meta.source, Source::Origin);
    assert_eq!(judged(&post.with_keyed_body(), &[("cache-control", "no-store")]), Err(Reason::NoStore));
    assert_eq!(judged(&post, &[A_MINUTE]), Err(Reason::Method));
}
