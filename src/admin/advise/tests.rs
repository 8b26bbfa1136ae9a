//! What the advice looks like, and that what it proposes loads.

use std::{env, fs, sync::Arc, time::Duration};

use http::header;

use super::yaml;
use crate::{
    admin::{
        AdminService,
        fakes::{Fake, admin, ask},
    },
    config::{self, Config},
    telemetry::{
        Reason,
        observed::{Advice, AtTtl, Counts, Named, Observed, ObservedRoute, TTLS, Verdict, View},
    },
};

const GOLDEN: &str = "tests/golden/advise.yaml";

fn view(requests: u64, keys: u64) -> View {
    let mut view = View {
        keys,
        sampled: requests,
        sampled_repeats: requests - keys,
        requests,
        repeats: requests - keys,
        same: (requests - keys) * 99 / 100,
        ..View::default()
    };
    for (at, found) in view.ttls.iter_mut().enumerate() {
        let at = u64::try_from(at).unwrap();
        let hits = (requests - keys) * (at + 1) / 8;
        *found = AtTtl { sampled_hits: hits, hits, wrong: hits * at / 500, saved_us: hits * 125_000 };
    }
    view
}

fn counts() -> Counts {
    Counts { requests: 1204, ..Counts::default() }
}

fn route(name: &str, named: Named, verdict: Verdict) -> ObservedRoute {
    ObservedRoute {
        route: name.to_owned(),
        named,
        watched: Duration::from_secs(3 * 86400 + 7300),
        counts: counts(),
        methods: vec![("GET", 1204)],
        statuses: vec![(200, 1204)],
        refused: Vec::new(),
        vary: Vec::new(),
        anonymous: view(1204, 4),
        per_user: View::default(),
        shared: View::default(),
        advice: Advice { verdict, per_user: None },
    }
}

/// The same route, asked for by users.
fn by_users(route: ObservedRoute, differing: u64) -> ObservedRoute {
    ObservedRoute {
        counts: Counts {
            with_credentials: 1204,
            authorization: 1200,
            cookie: 30,
            credential: 4,
            ..route.counts
        },
        anonymous: View::default(),
        per_user: view(1204, 40),
        shared: View { compared: 900, differing, ..view(1204, 4) },
        ..route
    }
}

/// A route of every sort.
fn observed() -> Observed {
    use Named::{Configured, Guessed, Learned, Unnamed};
    let routes = vec![
        route("challenges", Configured, Verdict::Ttl(5)),
        ObservedRoute {
            counts: Counts { with_credentials: 12, authorization: 12, ..counts() },
            advice: Advice { verdict: Verdict::Ttl(2), per_user: Some(1) },
            shared: View { compared: 11, differing: 9, ..View::default() },
            ..route("/all", Configured, Verdict::Ttl(2))
        },
        by_users(
            ObservedRoute {
                advice: Advice { verdict: Verdict::PerUser(3), per_user: Some(3) },
                ..route("/api/session/{session_id}", Learned, Verdict::TooFew)
            },
            700,
        ),
        by_users(route("/config/features", Learned, Verdict::SameForAll(3)), 0),
        route("/api/v1/items/{id}", Guessed, Verdict::Ttl(7)),
        route("/api/v1/items/{item}", Learned, Verdict::Ttl(6)),
        ObservedRoute {
            counts: Counts { set_cookie: 3, declared: 700, ..counts() },
            vary: vec!["accept-encoding".to_owned(), "origin".to_owned()],
            statuses: vec![(200, 1190), (404, 14)],
            ..route("/feed", Learned, Verdict::Declared)
        },
        ObservedRoute {
            refused: vec![(Reason::SetCookie, 1100), (Reason::Cors, 2)],
            counts: Counts { set_cookie: 1100, incomparable: 4, ..counts() },
            methods: vec![("GET", 1204), ("HEAD", 2), ("POST", 12)],
            ..route("/login", Learned, Verdict::Refused(Reason::SetCookie))
        },
        route("/now", Learned, Verdict::Changes),
        route("/soon", Learned, Verdict::TooBrief),
        ObservedRoute {
            counts: Counts { requests: 12, ..counts() },
            anonymous: view(12, 9),
            ..route("/rare/{id}", Learned, Verdict::TooFew)
        },
        route("unmatched", Unnamed, Verdict::Ttl(4)),
        route("/odd/$HOME/\"x\"/#", Guessed, Verdict::Ttl(0)),
        route("/odd/$HOME/'x'/${Y", Guessed, Verdict::Ttl(0)),
        route("/odd/$$/'x'", Guessed, Verdict::Ttl(0)),
    ];
    Observed { watched: Duration::from_secs(4 * 86400), keys: 90, keys_max: 10_000, overlooked: 0, routes }
}

const HEAD: &str = "version: 1\ningress:\n  backend: http://127.0.0.1:8000\n  routes:\n";

fn load(text: &str) -> Config {
    let loaded = config::load_str("advice.yaml", text, &|_| None);
    loaded.unwrap_or_else(|problems| panic!("{problems}\n{text}")).config
}

/// Routes as an operator may have them.
fn written() -> Config {
    let routes = "    - { path: /api/challenges, name: challenges, slow_after: 2s, cache: { mode: observe, ttl: 1m, public: true, tags: [challenges], ttl_by_status: { 404: 5s }, key: { query: { only: [difficulty] }, cookies: [lang] } } }\n    - { path: /all, host: a.example, cache: { public: true } }\n    - { path: /all, host: b.example, methods: [GET, POST] }\n    - { path: /all, methods: [PUT], host: c.example }\n";
    load(&format!("{HEAD}{routes}"))
}

fn text() -> String {
    yaml::text(&observed(), &written().ingress.unwrap().routes, true, 3)
}

#[test]
fn the_text_is_as_it_was_read_in_review() {
    let text = text();
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(GOLDEN, &text).unwrap();
    }

    assert_eq!(
        text,
        fs::read_to_string(GOLDEN).unwrap_or_default(),
        "{GOLDEN}: UPDATE_GOLDEN=1 writes it anew"
    );
}

#[test]
fn what_is_proposed_loads_and_keeps_what_was_configured() {
    let routes = load(&format!("{HEAD}{}", text())).ingress.unwrap().routes;

    let written = written().ingress.unwrap().routes;
    let ttl = |at: usize| Some(TTLS[at]);
    let challenges = &routes[0];
    let cache = challenges.cache.as_ref().unwrap();
    assert_eq!((cache.ttl, cache.mode, cache.public), (ttl(5), None, true));
    let mut expected = written[0].clone();
    if let Some(cache) = &mut expected.cache {
        (cache.ttl, cache.mode) = (ttl(5), None);
    }
    assert_eq!(challenges, &expected);
    let paths: Vec<_> = routes.iter().map(|route| (route.path.as_str(), route.host.as_deref())).collect();
    assert_eq!(
        paths,
        [
            ("/api/challenges", None),
            ("/all", Some("a.example")),
            ("/all", Some("b.example")),
            ("/api/v1/items/{id}", None),
            ("/odd/$$/'x'", None),
        ]
    );
    for route in &routes[1..] {
        assert!(!route.cache.as_ref().unwrap().public, "{}", route.path);
    }
    assert_eq!(routes[3].methods, ["GET"]);
}

#[test]
fn nobody_is_told_to_share_what_users_asked_for() {
    let mut observed = observed();
    observed.routes.retain(|route| route.counts.with_credentials > 0);
    assert_eq!(observed.routes.len(), 3);

    let text = yaml::text(&observed, &written().ingress.unwrap().routes, true, 0);

    assert!(!text.contains("public: true"), "{text}");
    assert!(text.contains("# identity:") && text.contains("#     identity:"), "{text}");
}

#[test]
fn without_anything_to_say_it_still_loads() {
    let mut observed = observed();
    observed.routes.retain(|route| route.advice.verdict.ttl().is_none());
    for observed in [observed, Observed::default()] {
        for is_observing in [true, false] {
            let text = yaml::text(&observed, &[], is_observing, 0);

            assert_eq!(load(&format!("{HEAD}{text}")).ingress.unwrap().routes, []);
            assert_eq!(text.contains("Nothing is observed"), !is_observing);
        }
    }
}

#[test]
fn the_proposal_for_each_user_can_be_taken_out_of_its_comments() {
    let mut observed = observed();
    observed.routes.retain(|route| matches!(route.advice.verdict, Verdict::PerUser(_)));
    let text = yaml::text(&observed, &[], true, 0);
    let is_proposal = |line: &&str| ["    # - ", "    #   "].iter().any(|start| line.starts_with(start));
    let taken: String = text
        .lines()
        .filter(is_proposal)
        .filter(|line| !line.contains("identity"))
        .map(|line| format!("{}\n", line.replacen("# ", "", 1)))
        .collect();

    let routes = load(&format!("{HEAD}{taken}")).ingress.unwrap().routes;

    assert_eq!(routes[0].path, "/api/session/{session_id}");
    assert_eq!(routes[0].cache.as_ref().unwrap().ttl, Some(TTLS[3]));
}

#[tokio::test]
async fn the_listener_answers_in_the_form_that_is_asked_for() {
    let fake = Arc::new(Fake::default());
    *fake.observed.lock() = observed();
    fake.observed.lock().routes.push(ObservedRoute {
        counts: Counts { requests: 49, ..counts() },
        ..route("/user/alice", Named::Guessed, Verdict::TooFew)
    });
    let service = AdminService::new(Arc::new(admin(&fake, None, None)));
    let yaml = "application/yaml";
    let table = [
        ("", "*/*", "application/json"),
        ("", "application/json, Application/YAML;q=0.5", yaml),
        ("?format=yaml", "application/json", yaml),
        ("?format=json", yaml, "application/json"),
    ];
    for (query, accept, kind) in table {
        let seen = ask(&service, &format!("GET /api/v1/advise{query}"), &[("accept", accept)], "").await;

        assert_eq!(
            (seen.status, seen.headers[header::CONTENT_TYPE].to_str().unwrap()),
            (200, kind),
            "{query}"
        );
        assert!(!seen.text.contains("alice"), "a name in a path is shown");
    }
    for target in ["/api/v1/advise?format=xml", "/api/v1/advise?x=1"] {
        assert_eq!(ask(&service, &format!("GET {target}"), &[], "").await.status, 400, "{target}");
    }
    assert_eq!(ask(&service, "POST /api/v1/advise", &[], "").await.status, 405);
    let json = ask(&service, "GET /api/v1/advise", &[], "").await.json();
    assert_eq!(json["routes_not_shown"], 1);
    let first = &json["routes"][0];
    assert_eq!((first["verdict"].as_str(), first["ttl"].as_str()), (Some("ttl"), Some("30m")));
    assert_eq!(first["anonymous"]["ttls"][5]["would_hits"], 900);
    assert_eq!(json["routes"][7]["reason"], "set_cookie");
}

#[tokio::test]
async fn advice_is_behind_the_read_token() {
    let fake = Arc::new(Fake::default());
    let service = AdminService::new(Arc::new(admin(&fake, Some("s3cret"), None)));
    let token = ("authorization", "Bearer s3cret");

    assert_eq!(ask(&service, "GET /api/v1/advise", &[], "").await.status, 401);
    assert_eq!(ask(&service, "GET /api/v1/advise", &[token], "").await.status, 200);
}
