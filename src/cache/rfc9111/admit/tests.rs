//! Which requests ask the store.

use std::time::Duration;

use http::Method;

use super::{Admission, admit};
use crate::{
    cache::rfc9111::{
        BypassWhen, Policy, RequestHead, Rule,
        fixture::{Lines, default, get, headers, ruled, ruled_by},
    },
    config::{self, CacheMode},
    telemetry::record::Reason,
};

fn admission(lines: Lines<'_>, policy: &Policy) -> Admission {
    admit(&get(&headers(lines)), policy)
}

#[test]
fn a_plain_get_or_head_is_looked_up_with_and_without_a_rule() {
    for policy in [default(), ruled()] {
        for method in [Method::GET, Method::HEAD] {
            let none = headers(&[("accept", "*/*"), ("content-length", "0"), ("upgrade", "h2c")]);
            assert_eq!(admit(&RequestHead::new(&method, b"a", b"/", &none), &policy), Admission::Lookup);
        }
    }
}

#[test]
fn other_methods_are_none_of_the_lookups_business() {
    let none = headers(&[]);
    for method in ["POST", "PUT", "OPTIONS", "TRACE", "QUERY", "M-SEARCH", "get"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(
            admit(&RequestHead::new(&method, b"a", b"/", &none), &default()),
            Admission::Method,
            "{method}"
        );
    }
}

#[test]
fn what_no_stored_answer_can_serve_goes_past_the_store() {
    for (line, reason) in [
        (("upgrade", "websocket"), Reason::Upgrade),
        (("content-length", "3"), Reason::Body),
        (("transfer-encoding", "chunked"), Reason::Body),
        (("if-match", "\"a\""), Reason::Conditional),
        (("if-unmodified-since", "@0"), Reason::Conditional),
    ] {
        assert_eq!(admission(&[line], &default()), Admission::Bypass(reason), "{line:?}");
    }
    let none = headers(&[]);
    assert_eq!(admit(&get(&none).with_body(), &default()), Admission::Bypass(Reason::Body));
    for line in [
        ("range", "bytes=0-1"),
        ("if-none-match", "\"a\""),
        ("if-modified-since", "@0"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(admission(&[line], &default()), Admission::Lookup, "{line:?}");
    }
}

#[test]
fn credentials_keep_a_request_away_from_a_rule_unless_the_route_is_public() {
    let public = ruled_by(Rule { public: true, ..ruled().rule.unwrap() });
    let custom = Policy { credentials: vec!["x-session".parse().unwrap()], ..ruled() };
    for (line, reason) in [
        (("authorization", "Bearer x"), Reason::Authorization),
        (("proxy-authorization", "Basic x"), Reason::Credential),
        (("x-api-key", "x"), Reason::Credential),
        (("cookie", "a=b"), Reason::Cookie),
    ] {
        assert_eq!(admission(&[line], &ruled()), Admission::Bypass(reason), "{line:?}");
        assert_eq!(admission(&[line], &public), Admission::Lookup, "{line:?}");
        assert_eq!(admission(&[line], &default()), Admission::Lookup, "{line:?}");
    }
    assert_eq!(admission(&[("x-session", "1")], &custom), Admission::Bypass(Reason::Credential));
    assert_eq!(admission(&[("x-session", "1")], &ruled()), Admission::Lookup);
}

#[test]
fn cookies_pass_where_those_that_matter_are_keyed() {
    let keyed = ruled_by(Rule { cookies_keyed: true, ..ruled().rule.unwrap() });

    assert_eq!(admission(&[("cookie", "a=b")], &keyed), Admission::Lookup);
    assert_eq!(
        admission(&[("cookie", "a=b"), ("authorization", "x")], &keyed),
        Admission::Bypass(Reason::Authorization)
    );
}

#[test]
fn a_path_that_can_be_read_in_two_ways_keeps_away_from_a_rule() {
    let none = headers(&[]);
    for (target, is_plain) in
        [("/a/b?x=%2F..//;", true), ("/a//b", false), ("/a/%2e%2e/b", false), ("/a;b?c", false)]
    {
        let request = RequestHead::new(&Method::GET, b"example.org", target.as_bytes(), &none);
        let expected = if is_plain { Admission::Lookup } else { Admission::Bypass(Reason::Path) };

        assert_eq!(admit(&request, &ruled()), expected, "{target}");
        assert_eq!(admit(&request, &default()), Admission::Lookup, "{target}");
    }
}

#[test]
fn without_a_word_from_anyone_nothing_is_looked_up() {
    let deaf = Policy { origin: false, ..default() };
    let windows_only = ruled_by(Rule { stale_if_error: Duration::from_secs(9), ..Rule::default() });

    assert_eq!(admission(&[], &Policy { mode: CacheMode::Off, ..default() }), Admission::Bypass(Reason::Off));
    assert_eq!(admission(&[], &deaf), Admission::Bypass(Reason::NotListed));
    assert_eq!(admission(&[], &Policy { origin: false, ..ruled() }), Admission::Lookup);
    assert_eq!(
        admission(&[], &Policy { origin: false, ..windows_only.clone() }),
        Admission::Bypass(Reason::NotListed)
    );
    assert_eq!(
        admission(&[("cookie", "a=b")], &windows_only),
        Admission::Lookup,
        "such a rule gives no life"
    );
}

#[test]
fn where_users_have_answers_of_their_own_only_a_known_one_asks_the_store() {
    let own = http::header::AUTHORIZATION;
    let personal = |ttl: Option<u64>| {
        ruled_by(Rule { ttl: ttl.map(Duration::from_secs), identity: true, ..Rule::default() })
    };
    let known = |lines: Lines<'_>, policy: &Policy| admit(&get(&headers(lines)).identified(&own), policy);
    let table: &[(Lines<'_>, Admission)] = &[
        (&[("authorization", "Bearer x")], Admission::Lookup),
        (&[("authorization", "Bearer x"), ("cookie", "a=b")], Admission::Lookup),
        (&[("authorization", "Bearer x"), ("x-api-key", "k")], Admission::Bypass(Reason::Credential)),
        (&[("authorization", "Bearer x"), ("api-key", "k")], Admission::Bypass(Reason::Credential)),
        (&[("authorization", "Bearer x"), ("if-match", "\"a\"")], Admission::Bypass(Reason::Conditional)),
    ];

    for policy in [personal(Some(60)), personal(None)] {
        for lines in [&[][..], &[("authorization", "Bearer x")], &[("cookie", "a=b")], &[("x-api-key", "k")]]
        {
            assert_eq!(admission(lines, &policy), Admission::Bypass(Reason::Identity), "{lines:?}");
        }
        for (lines, admission) in table {
            assert_eq!(known(lines, &policy), *admission, "{lines:?}");
        }
    }
    let deaf = Policy { origin: false, ..personal(None) };
    assert_eq!(known(&[("authorization", "Bearer x")], &deaf), Admission::Bypass(Reason::NotListed));
    let sessions = Policy { credentials: vec!["x-session".parse().unwrap()], ..personal(Some(60)) };
    assert_eq!(known(&[("x-session", "1")], &sessions), Admission::Bypass(Reason::Credential));
    let (session, lines) = ("x-session".parse().unwrap(), headers(&[("x-session", "1")]));
    assert_eq!(admit(&get(&lines).identified(&session), &sessions), Admission::Lookup);
}

#[test]
fn a_name_from_a_proxy_or_a_cookie_excuses_no_other_credential() {
    let policy = ruled_by(Rule { identity: true, ..ruled().rule.unwrap() });
    let lines = headers(&[("authorization", "Bearer x"), ("cookie", "token=y"), ("x-user", "7")]);
    for own in ["cookie", "x-user"] {
        let own = own.parse().unwrap();
        assert_eq!(admit(&get(&lines).identified(&own), &policy), Admission::Bypass(Reason::Authorization));
    }
    let lines = headers(&[("x-api-key", "k"), ("cookie", "a=b")]);
    let own = "x-api-key".parse().unwrap();
    assert_eq!(admit(&get(&lines).identified(&own), &policy), Admission::Lookup);
}

#[test]
fn what_the_operator_keeps_away_goes_past_the_store_with_and_without_a_lifetime() {
    let written = config::BypassWhen {
        headers: [("X-Preview".to_owned(), "1".to_owned())].into(),
        ..config::BypassWhen::default()
    };
    let bypass_when = Some(BypassWhen::from_config(&written));
    for rule in [ruled().rule.unwrap(), Rule::default()] {
        let policy = ruled_by(Rule { bypass_when: bypass_when.clone(), ..rule });

        assert_eq!(admission(&[("x-preview", "1")], &policy), Admission::Bypass(Reason::BypassWhen));
        assert_eq!(admission(&[("x-preview", "0")], &policy), Admission::Lookup);
    }
}

#[test]
fn a_post_whose_body_is_in_the_key_is_looked_up_like_a_get_without_conditions() {
    let asked = |lines: Lines<'_>, policy: &Policy| {
        let lines = headers(lines);
        admit(&RequestHead::new(&Method::POST, b"a", b"/", &lines).with_keyed_body(), policy)
    };

    for policy in [default(), ruled()] {
        assert_eq!(asked(&[("content-length", "3")], &policy), Admission::Lookup);
        assert_eq!(asked(&[("transfer-encoding", "chunked")], &policy), Admission::Lookup);
        for (line, reason) in [
            (("range", "bytes=0-1"), Reason::Range),
            (("if-none-match", "\"a\""), Reason::Conditional),
            (("if-modified-since", "@0"), Reason::Conditional),
            (("if-match", "\"a\""), Reason::Conditional),
        ] {
            assert_eq!(asked(&[line], &policy), Admission::Bypass(reason), "{line:?}");
        }
    }
    assert_eq!(asked(&[("authorization", "x")], &ruled()), Admission::Bypass(Reason::Authorization));
    let off = Policy { mode: CacheMode::Off, ..ruled() };
    assert_eq!(asked(&[], &off), Admission::Bypass(Reason::Off));
}
