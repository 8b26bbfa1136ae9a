//! Questions and expectations against one small configuration.

use std::{fs, process::ExitCode};

use clap::Parser;

use super::{Arguments, routes};
use crate::cli::explain::Look;

const CONFIG: &str = r#"
version: 1
cache: { origin: false }
ingress:
  backend: http://127.0.0.1:9
  hosts: [coach.example]
  limits: { body: 2MiB }
  routes:
    - { path: /api/challenges, cache: { ttl: 30m, stale_while_revalidate: 5m, tags: ["challenges", "level:{query.difficulty}"], key: { query: { only: [difficulty] } } } }
    - { path: "/api/session/{id}", first_byte: 5s, in_flight: 4, cache: { ttl: 24h } }
    - { path: /fresh, cache: { ttl: 1m, refresh_on: { query: { use_cache: "false" } } } }
    - { path: "/internal/{rest*}", deny: true }
"#;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn run(config: &str, words: &[&str]) -> (ExitCode, String, String) {
    let line = Line::try_parse_from([&["routes", "test", "-c", "-"], words].concat()).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let look = Look { columns: 100, has_colour: false };
    let code = routes(&line.arguments, look, (&mut config.as_bytes(), &mut out, &mut err)).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn json(words: &[&str]) -> serde_json::Value {
    let (code, out, err) = run(CONFIG, &[words, &["-o", "json"]].concat());
    assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
    serde_json::from_str(&out).unwrap()
}

#[test]
fn the_decision_of_each_kind_of_request_is_told() {
    for (words, route, cache) in [
        (&["GET", "/api/challenges"][..], "/api/challenges", "lookup"),
        (&["GET", "http://coach.example/api/session/1"], "/api/session/{id}", "lookup"),
        (&["GET", "/api/session/1", "-H", "Authorization: Bearer x"], "/api/session/{id}", "authorization"),
        (&["POST", "/api/challenges"], "/api/challenges", "method"),
        (&["GET", "/fresh?use_cache=false"], "/fresh", "refresh"),
        (&["GET", "/elsewhere"], "unmatched", "not_listed"),
    ] {
        let told = json(words);
        assert_eq!(told["route"]["path"], route, "{words:?}: {told}");
        assert_eq!(told["cache"], cache, "{words:?}: {told}");
        assert_eq!(told["bypass"].is_null(), matches!(cache, "lookup" | "refresh"), "{words:?}: {told}");
    }
}

#[test]
fn a_denied_path_names_the_route_and_how_it_was_read() {
    let told = json(&["GET", "/x/..;/%69nternal/keys"]);

    assert_eq!(told["cache"], "refused");
    assert_eq!((&told["refused"]["reason"], &told["refused"]["status"]), (&"denied".into(), &403.into()));
    assert_eq!(told["refused"]["denied_by"], "ingress.routes[3]");
    let readings = told["refused"]["readings"].as_array().unwrap();
    assert!(readings.contains(&"/internal/keys".into()), "{told}");
    let (_, page, _) = run(CONFIG, &["GET", "/x/..;/%69nternal/keys"]);
    assert!(page.contains("refused with 403 (denied)") && page.contains("read as"), "{page}");
    let other_host = json(&["GET", "http://evil.example/"]);
    assert_eq!(other_host["refused"]["status"], 421);
}

#[test]
fn the_page_shows_settings_tags_key_and_limits() {
    let (code, page, _) = run(CONFIG, &["GET", "/api/challenges?difficulty=easy&x=1"]);

    assert_eq!(code, ExitCode::SUCCESS);
    for words in [
        "the cache is asked; an answer is kept for 30m",
        "stale_while_revalidate",
        "tags of this request",
        "challenges, level:easy",
        "difficulty=easy",
        "limits.body",
        "ingress.limits.body",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
    assert!(!page.contains("no-fetch") && !page.contains("not fetched"), "{page}");
    let (_, page, _) = run(CONFIG, &["GET", "/api/session/1"]);
    assert!(
        page.contains("ingress.routes[1].first_byte") && page.contains("ingress.routes[1].in_flight"),
        "{page}"
    );
}

fn expect(text: &str) -> (ExitCode, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("expected.yaml");
    fs::write(&file, text).unwrap();
    run(CONFIG, &["--expect", &file.display().to_string()])
}

const EXPECTED: &str = r#"
- request: GET /api/challenges?difficulty=easy
  headers: { Accept-Language: de }
  route: /api/challenges
  cache: lookup
  refused: none
  ttl: 1800s
  stale_while_revalidate: 5m
  stale_if_error: 0s
  tags: [challenges, "level:easy"]
  key: { query: difficulty=easy, path: /api/challenges }
  settings: { public: false, limits.body: 2MiB, negative_ttl: 5s }
- { request: GET /api/session/1, headers: { Authorization: Bearer x }, cache: authorization, settings: { in_flight: 4 } }
- { request: GET /internal/keys, refused: denied, cache: refused }
- { request: GET /elsewhere, route: unmatched, cache: not_listed, tags: [] }
"#;

#[test]
fn expectations_that_are_met_are_counted() {
    assert_eq!(expect(EXPECTED), (ExitCode::SUCCESS, "4 requests as expected\n".to_owned(), String::new()));
}

#[test]
fn what_differs_is_named_with_both_values() {
    let text = EXPECTED
        .replace("ttl: 1800s", "ttl: 31m")
        .replace("path: /api/challenges }", "path: /api/other }")
        .replace("cache: not_listed", "cache: lookup");

    let (code, out, err) = expect(&text);

    assert_eq!((code, err.as_str()), (ExitCode::from(1), ""));
    assert_eq!(
        out,
        "GET /api/challenges?difficulty=easy (request 1)\n  ttl: expected 31m, found 30m\n  key path: expected /api/other, \
         found /api/challenges\nGET /elsewhere (request 4)\n  cache: expected lookup, found not_listed\n2 of 4 requests are \
         not as expected\n"
    );
}

#[test]
fn a_file_of_expectations_that_cannot_be_read_is_refused() {
    for (text, said) in [
        ("- { request: GET /, cahce: lookup }", "cahce"),
        ("- { request: /api }", "request 1: `/api` is no request"),
        ("- { request: GET nowhere }", "request 1"),
        ("[]", "it expects nothing"),
        ("", ""),
    ] {
        let (code, out, err) = expect(text);
        assert_eq!((code, out.as_str()), (ExitCode::from(1), ""), "{text}");
        assert!(
            err.starts_with("error: ") && err.contains("expected.yaml: ") && err.contains(said),
            "{text}: {err}"
        );
    }
}

#[test]
fn a_bad_file_and_a_bad_question_have_exit_codes_of_their_own() {
    let (code, _, err) = run("version: 2\n", &["GET", "/"]);
    assert_eq!(code, ExitCode::from(1), "{err}");
    let (code, _, err) = run(CONFIG, &["GET", "nowhere"]);
    assert_eq!((code, err.lines().count()), (ExitCode::from(2), 1), "{err}");
}
