//! The observer as a whole, with traffic that is pretended too: its advice, its bounds, and whom it tells apart.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;

use super::{
    Answered, Credentials, MAX_KEYS, MAX_ROUTES, MAX_WATCHED, Observer, Question,
    shadow::{Proof, Seen},
};
use crate::{
    cache::{
        key::KeyMaker,
        rfc9111::{Policy, ResponseHead, Rule},
        samples::key,
    },
    config,
    telemetry::{
        Method, Reason,
        observed::{Named, ObservedRoute, Verdict},
    },
};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    /// Uniform in (0, 1].
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (f64::from(u32::try_from(self.0 >> 32).unwrap()) + 1.0) / 4_294_967_296.0
    }

    /// The milliseconds to the next of requests that come at random, so many seconds apart on average.
    fn pause_ms(&mut self, mean_s: f64) -> u64 {
        Duration::from_secs_f64(-self.roll().ln() * mean_s).as_millis().try_into().unwrap()
    }
}

fn observer() -> Arc<Observer> {
    Arc::new(Observer::new(&config::Cache::default()))
}

fn question(route: &str, asked_ms: u64, who: u64) -> Question {
    Question {
        route: Arc::from(route),
        named: Named::Learned,
        key: key(&KeyMaker::default(), "/a"),
        lookup: None,
        credentials: Credentials { authorization: who != 0, who, ..Credentials::default() },
        is_refresh: false,
        asked: Instant::now(),
        asked_ms,
    }
}

fn answered(place: u64, life: Result<u64, Reason>) -> Answered {
    Answered {
        status: StatusCode::OK,
        place,
        kept: None,
        life,
        is_declared: false,
        sets_cookie: false,
        vary: Vec::new(),
        validator: 0,
        would_hit: 0,
        fetch_us: 1000,
    }
}

/// A request for `place` by `who` at a moment, and its answer.
fn request(observer: &Observer, route: &str, (place, who): (u64, u64), at_ms: u64, body: u64) {
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&body.to_be_bytes());
    let seen = Seen {
        asked_ms: at_ms,
        ended_ms: at_ms,
        proof: Proof::Whole { digest, validator: 0 },
        life_ms: u64::MAX,
        fetch_us: 1000,
        who,
        is_refresh: false,
    };
    observer.see(&question(route, at_ms, who), &answered(place, Ok(u64::MAX)), &seen);
}

fn found(observer: &Observer, route: &str) -> ObservedRoute {
    observer.report(0).routes.into_iter().find(|found| found.route == route).unwrap()
}

#[test]
fn the_advised_lifetime_follows_how_often_the_answer_changes() {
    // A request in `every` seconds on average, for `days`; the body changes every `changes` seconds. Of hits on an entry of
    // age up to `ttl` the share `ttl / (2 * changes)` is wrong.
    let table = [
        (2.0, 4 * DAY, 600, Verdict::Ttl(0)),
        (10.0, 20 * DAY, HOUR, Verdict::Ttl(2)),
        (300.0, 600 * DAY, 36 * HOUR, Verdict::Ttl(5)),
        (1.0, DAY / 4, 60, Verdict::Changes),
        (60.0, 3 * DAY, u64::MAX, Verdict::Ttl(7)),
        (10.0, 2 * HOUR, u64::MAX, Verdict::Ttl(6)),
        (600.0, 3 * DAY, u64::MAX, Verdict::Ttl(7)),
    ];
    for (every, span, changes, verdict) in table {
        let (observer, mut dice, mut now_ms) = (observer(), Dice(7), 0);
        while now_ms < span * 1000 {
            request(&observer, "/a", (1, 0), now_ms, now_ms / 1000 / changes);
            now_ms += dice.pause_ms(every);
        }

        let route = found(&observer, "/a");

        assert_eq!(route.advice.verdict, verdict, "{every} {span} {changes}: {:?}", route.anonymous);
    }
}

#[test]
fn nothing_is_said_of_little() {
    let observer = observer();
    for at in 0..49 {
        request(&observer, "/few", (1, 0), at * 60_000, 0);
    }
    for at in 0..60 {
        request(&observer, "/seldom", (at, 0), at * 60_000, 0);
    }

    assert_eq!(found(&observer, "/few").advice.verdict, Verdict::TooFew);
    assert_eq!(found(&observer, "/seldom").advice.verdict, Verdict::TooFew);
    request(&observer, "/few", (1, 0), 3_600_000, 0);
    assert_eq!(found(&observer, "/few").advice.verdict, Verdict::Ttl(6));
}

#[test]
fn users_with_answers_of_their_own_are_not_put_together() {
    let (observer, mut dice, mut now_ms) = (observer(), Dice(3), 0);
    for _ in 0..2000 {
        let who = if dice.roll() < 0.5 { 11 } else { 22 };
        request(&observer, "/mine", (1, who), now_ms, who);
        request(&observer, "/ours", (1, who), now_ms, 5);
        now_ms += dice.pause_ms(60.0);
    }

    let mine = found(&observer, "/mine");
    assert!(matches!(mine.advice.verdict, Verdict::PerUser(_)), "{mine:?}");
    assert!(mine.advice.per_user.is_some() && mine.shared.differing > 500);
    assert_eq!((mine.per_user.keys, mine.shared.keys, mine.anonymous.keys), (2, 1, 0));
    let ours = found(&observer, "/ours");
    assert!(matches!(ours.advice.verdict, Verdict::SameForAll(_)), "{ours:?}");
    assert_eq!((ours.advice.per_user, ours.shared.differing), (None, 0));
}

#[test]
fn a_flood_of_keys_is_sampled_fairly_and_pushes_no_other_route_out() {
    let observer = observer();
    let seed = foldhash::quality::FixedState::with_seed(5);
    let place = |n: u64| std::hash::BuildHasher::hash_one(&seed, n);
    // Each key is asked for three times within a minute, a thousand keys at a time.
    for block in 0..60_u64 {
        for round in 0..3 {
            let at_ms = (block * 3 + round) * 1000;
            for n in 0..1000 {
                request(&observer, "/many", (place(block * 1000 + n), 0), at_ms, 0);
            }
            request(&observer, "/one", (place(u64::MAX), 0), at_ms, 0);
        }
        assert!(observer.state.lock().keys <= MAX_KEYS);
    }

    let (many, one) = (found(&observer, "/many").anonymous, found(&observer, "/one").anonymous);
    let about = |found: u64, true_count: u64| found.abs_diff(true_count) * 20 < true_count;
    assert!(about(many.keys, 60_000) && about(many.requests, 180_000), "{many:?}");
    assert!(about(many.repeats, 120_000) && about(many.ttls[7].hits, 120_000), "{many:?}");
    assert!(many.sampled < many.requests && many.ttls[0].hits > 0);
    assert_eq!((one.keys, one.sampled, one.requests, one.repeats), (1, 180, 180, 179));
    assert_eq!(observer.report(0).keys, observer.state.lock().keys as u64);
}

#[test]
fn routes_without_number_end_at_a_bound() {
    let observer = observer();
    for n in 0..MAX_ROUTES + 5 {
        observer.passed(&Arc::from(format!("/{n}")), Named::Guessed, Method::Post);
    }

    let report = observer.report(0);
    assert_eq!((report.routes.len(), report.overlooked), (MAX_ROUTES, 5));
    assert_eq!(report.routes[0].methods, [("POST", 1)]);
}

#[test]
fn an_answer_that_is_dropped_leaves_no_trace_and_gives_its_place_back() {
    let observer = observer();
    let headers = HeaderMap::new();
    let head = ResponseHead { status: StatusCode::OK, headers: &headers };
    let watch = || observer.follow(question("/a", 0, 0), answered(1, Ok(1000)));
    let mut held: Vec<_> = (0..MAX_WATCHED).map(|_| watch().unwrap().with_body(&head, 100)).collect();

    assert!(watch().is_none(), "no more at once");
    for watch in &mut held {
        assert!(watch.push(b"half of a bo"));
    }
    drop(held);
    assert!(observer.report(0).routes.is_empty());

    let mut whole = watch().unwrap().with_body(&head, 100);
    assert!(whole.push(b"a body"));
    whole.complete(5);
    assert_eq!(found(&observer, "/a").counts.requests, 1);
    let mut long = watch().unwrap().with_body(&head, 100);
    assert!(!long.push(&[0; 101]) && !long.push(b"more"));
    long.complete(5);
    let route = found(&observer, "/a");
    assert_eq!((route.counts.requests, route.counts.incomparable), (1, 1));
    assert_eq!(observer.watched.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn refusals_and_declarations_are_counted() {
    let observer = observer();
    for at in 0..100 {
        let life = if at % 3 == 0 { Ok(0) } else { Err(Reason::NoStore) };
        let answered = Answered { is_declared: at % 3 == 0, sets_cookie: at < 7, ..answered(1, life) };
        let proof = Proof::Whole { digest: [0; 16], validator: 0 };
        let seen =
            Seen { asked_ms: at, ended_ms: at, proof, life_ms: 0, fetch_us: 1, who: 0, is_refresh: false };
        observer.see(&question("/a", at, 0), &answered, &seen);
    }

    let route = found(&observer, "/a");
    assert_eq!((route.counts.declared, route.counts.set_cookie, route.counts.requests), (34, 7, 100));
    assert_eq!(route.refused, [(Reason::NoStore, 66)]);
    assert_eq!(route.advice.verdict, Verdict::Refused(Reason::NoStore));
    assert_eq!(route.anonymous.ttls[7].hits, 0);
}

#[test]
fn credentials_are_told_apart_without_being_kept() {
    let observer = observer();
    let policy = Policy::default();
    let of = |fields: &[(&str, &str)], policy: &Policy| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        observer.credentials(&headers, policy)
    };
    let kinds = |fields: &[(&str, &str)]| {
        let Credentials { authorization, cookie, other, who } = of(fields, &policy);
        (authorization, cookie, other, who != 0)
    };

    assert_eq!(kinds(&[("accept", "*/*")]), (false, false, false, false));
    assert_eq!(kinds(&[("authorization", "Bearer a")]), (true, false, false, true));
    assert_eq!(kinds(&[("cookie", "s=1")]), (false, true, false, true));
    assert_eq!(kinds(&[("x-api-key", "k")]), (false, false, true, true));
    assert_eq!(
        kinds(&[("authorization", "x"), ("api-key", "k"), ("cookie", "c=1")]),
        (true, true, true, true)
    );
    let who = |fields: &[(&str, &str)]| of(fields, &policy).who;
    assert_eq!(
        who(&[("authorization", "Bearer a")]),
        who(&[("authorization", "Bearer a"), ("cookie", "ga=7")])
    );
    assert_ne!(who(&[("authorization", "Bearer a")]), who(&[("authorization", "Bearer b")]));
    assert_ne!(who(&[("authorization", "a")]), who(&[("x-api-key", "a")]));
    assert_ne!(who(&[("cookie", "a"), ("cookie", "b")]), who(&[("cookie", "ab")]));
    let other = Observer::new(&config::Cache::default());
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer a".parse().unwrap());
    assert_ne!(other.credentials(&headers, &policy).who, who(&[("authorization", "Bearer a")]));
    let keyed = Policy { rule: Some(Rule { cookies_keyed: true, ..Rule::default() }), ..Policy::default() };
    assert_eq!(of(&[("cookie", "s=1")], &keyed), Credentials::default());
}
