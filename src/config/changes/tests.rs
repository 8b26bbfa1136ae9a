//! What is told of two configurations, and what is not.

use std::{fs, path::Path};

use serde_json::json;

use super::{Change, ROUTES, changes, labels};
use crate::config::{Config, load_file, load_str};

fn config(text: &str) -> Config {
    load_str("proxy.yaml", text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")).config
}

/// What differs, one line each: `path: old -> new`, with `!` where it needs a restart.
fn told(old: &str, new: &str) -> Vec<String> {
    let found = changes(&config(old), &config(new));
    let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let line = |change: &Change| {
        let restart = if change.needs_restart { "! " } else { "" };
        format!("{restart}{}: {} -> {}", change.path, side(&change.old), side(&change.new))
    };
    found.iter().map(line).collect()
}

fn routes(routes: &str) -> String {
    format!("version: 1\ningress:\n  backend: http://127.0.0.1:8000\n  routes: [{routes}]\n")
}

#[test]
fn each_key_that_differs_is_told_with_both_values() {
    let text = |more: &str| format!("version: 1\ningress: {{ backend: \"http://127.0.0.1:8000\" }}\n{more}");

    let found = told(
        &text("cache: { max_ttl: 1h, memory: { size: 32MiB } }\ndrain: { timeout: 25s }\n"),
        &text("cache: { max_ttl: 2h, memory: { size: 64MiB }, mode: off }\nruntime: { workers: 2 }\n"),
    );

    assert_eq!(
        found,
        [
            "! runtime.workers: none -> 2".replace("none", "-"),
            "cache.mode: serve -> off".to_owned(),
            "! cache.memory.size: 32MiB -> 64MiB".to_owned(),
            "cache.max_ttl: 1h -> 2h".to_owned(),
        ]
    );
    assert!(told(&text(""), &text("# only a comment\ndrain: {}\n")).is_empty());
}

#[test]
fn a_route_that_is_put_in_between_is_one_change() {
    let (a, b) = ("{ path: /a, cache: { ttl: 1m } }", "{ path: /b, deny: true }");

    let added = told(
        &routes(&format!("{a}, {b}")),
        &routes(&format!("{{ path: /new, cache: {{ ttl: 5m, tags: [x] }} }}, {a}, {b}")),
    );
    let removed = told(&routes(&format!("{a}, {b}")), &routes(b));

    assert_eq!(added, ["ingress.routes[/new]: - -> { path: /new, cache: { ttl: 5m, tags: [x] } }"]);
    assert_eq!(removed, ["ingress.routes[/a]: { path: /a, cache: { ttl: 1m } } -> -"]);
}

#[test]
fn routes_are_found_again_by_what_they_match_then_by_name_then_by_path() {
    let old = routes(
        "{ path: /a, methods: [GET], slow_after: 1s }, { path: /a, methods: [POST], slow_after: 1s }, \
         { path: /b, name: b, slow_after: 1s }, { path: /c, slow_after: 1s }, { path: /d }, { path: /d, host: x }",
    );
    let new = routes(
        "{ path: /a, methods: [POST], slow_after: 2s }, { path: /a, methods: [GET], slow_after: 3s }, \
         { path: /bb, name: b, slow_after: 4s }, { path: /c, methods: [GET], slow_after: 5s }, { path: /d, host: y }",
    );

    let found = told(&old, &new);

    assert_eq!(
        found,
        [
            "ingress.routes[/d]: { path: /d } -> -",
            "ingress.routes[x/d]: { path: /d, host: x } -> -",
            "ingress.routes[POST /a].slow_after: 1s -> 2s",
            "ingress.routes[GET /a].slow_after: 1s -> 3s",
            "ingress.routes[/bb].path: /b -> /bb",
            "ingress.routes[/bb].slow_after: 1s -> 4s",
            "ingress.routes[GET /c].methods: [] -> [GET]",
            "ingress.routes[GET /c].slow_after: 1s -> 5s",
            "ingress.routes[y/d]: - -> { path: /d, host: y }",
            "ingress.routes: in the order GET /a, POST /a, /b, /c -> in the order POST /a, GET /a, /b, /c",
        ]
    );
}

#[test]
fn a_plane_that_comes_or_goes_is_one_change_that_needs_a_restart() {
    let ingress = "version: 1\ningress: { backend: \"http://127.0.0.1:8000\" }\n";
    let both = format!("{ingress}claude: {{ listen: \"127.0.0.1:8081\", mode: observe }}\nadmin: off\n");

    let found = told(ingress, &both);

    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("! claude: - -> ") && found[0].contains("mode: observe"), "{found:?}");
    assert_eq!(found[1], "! admin: on -> off");
    let back = told(&both, ingress);
    assert!(back[0].starts_with("! claude: {") && back[0].ends_with(" -> -"), "{back:?}");
    assert_eq!(back[1], "! admin: off -> on");
}

#[test]
fn a_section_of_a_route_and_members_of_maps_are_told_by_their_keys() {
    let found = told(
        &routes("{ path: /a }, { path: /b, cache: { ttl_by_status: { 404: 5s, 410: 5s } } }"),
        &routes(
            "{ path: /a, cache: { ttl: 1m } }, { path: /b, cache: { ttl_by_status: { 404: 6s, 301: 1m } } }",
        ),
    );

    let place = "ingress.routes[/b].cache.ttl_by_status";
    assert_eq!(
        found,
        [
            "ingress.routes[/a].cache: - -> { ttl: 1m }".to_owned(),
            format!("{place}.404: 5s -> 6s"),
            format!("{place}.410: 5s -> -"),
            format!("{place}.301: - -> 1m"),
        ]
    );
}

#[test]
fn a_changed_secret_is_told_and_not_shown() {
    let text = |token: &str, url: &str, password: &str| {
        format!(
            "version: 1\ningress: {{ backend: \"http://127.0.0.1:8000\" }}\nadmin: {{ token: {token} }}\n\
             cache: {{ redis: {{ url: \"redis://me:{password}@redis:6379\" }} }}\n\
             telemetry: {{ alerts: {{ notify: [{{ slack: {{ url: \"https://hooks.example/{url}\" }} }}] }} }}\n"
        )
    };

    let found = told(&text("hunter1", "canary1", "pass1"), &text("hunter2", "canary2", "pass2"));

    assert_eq!(
        found,
        [
            "! cache.redis.url: redis://redis:6379 -> redis://redis:6379",
            "telemetry.alerts.notify[slack].slack.url: *** -> ***",
            "admin.token: *** -> ***",
        ]
    );
    assert!(told(&text("a", "b", "c"), &text("a", "b", "c")).is_empty());
    let gone = told(
        &text("hunter1", "canary1", "pass1"),
        "version: 1\ningress: { backend: \"http://127.0.0.1:8000\" }\n",
    );
    assert!(!gone.join("\n").contains("hunter") && !gone.join("\n").contains("canary"), "{gone:?}");
}

#[test]
fn other_content_of_a_file_of_the_same_name_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.yaml");
    let text =
        "version: 1\nadmin: { token: { file: token } }\ningress: { backend: \"http://127.0.0.1:8000\" }\n";
    fs::write(&file, text).unwrap();
    let load = |token: &str| {
        fs::write(folder.path().join("token"), token).unwrap();
        load_file(&file).unwrap().config
    };

    let found = changes(&load("first"), &load("second"));

    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].path.as_str(), found[0].new.as_deref()), ("admin.token", Some("***")));
    assert!(changes(&load("same"), &load("same\n")).is_empty());
}

#[test]
fn members_of_lists_go_by_their_names() {
    let text = |severity: &str| {
        format!(
            "version: 1\ningress: {{ backend: \"http://127.0.0.1:8000\" }}\ntelemetry:\n  alerts:\n    notify:\n      \
             - webhook: {{ url: \"https://a.example/\" }}\n      \
             - webhook: {{ url: \"https://b.example/\", name: night, severity: {severity} }}\n"
        )
    };

    let found = told(&text("info"), &text("critical"));

    assert_eq!(found, ["telemetry.alerts.notify[night].webhook.severity: info -> critical"]);
    let items =
        [json!({ "name": "a" }), json!({ "name": "a" }), json!({ "webhook": {} }), json!({ "x": 1, "y": 2 })];
    assert_eq!(labels("claude.budgets", &items), ["a", "a #2", "webhook", "3"]);
    let twice = [json!({ "path": "/a", "methods": [] }), json!({ "path": "/a", "methods": [] })];
    assert_eq!(labels(ROUTES, &twice), ["/a", "/a #2"]);
}

#[test]
fn a_long_value_is_cut() {
    let hosts: Vec<String> = (0..100).map(|index| format!("host-{index}.example")).collect();
    let text = |hosts: &str| {
        format!("version: 1\ningress: {{ backend: \"http://127.0.0.1:8000\", hosts: [{hosts}] }}\n")
    };

    let found = changes(&config(&text("")), &config(&text(&hosts.join(", "))));

    let new = found[0].new.as_deref().unwrap();
    assert!(new.chars().count() == 200 && new.ends_with("..."), "{new}");
    assert_eq!(found[0].old.as_deref(), Some("[]"));
}

#[test]
fn two_files_that_differ_have_a_change_and_each_change_can_be_turned_round() {
    let mut configs =
        vec![Config::default(), config("version: 1\ningress: { backend: \"http://127.0.0.1:8000\" }\n")];
    let folder = Path::new("examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_yaml = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    configs
        .extend(files.filter(is_yaml).filter_map(|path| load_file(&path).ok()).map(|loaded| loaded.config));
    assert!(configs.len() > 3);

    for (i, old) in configs.iter().enumerate() {
        for (j, new) in configs.iter().enumerate() {
            let (there, back) = (changes(old, new), changes(new, old));
            assert_eq!(there.is_empty(), old == new, "{i} {j}");
            // A route that is found again by its path goes by what it matches after the change.
            let key = |change: &Change| change.path.rsplit(']').next().unwrap_or_default().to_owned();
            let turned = |change: &Change| (key(change), change.new.clone(), change.old.clone());
            let mut there: Vec<_> = there.iter().map(turned).collect();
            let mut back: Vec<_> =
                back.iter().map(|change| (key(change), change.old.clone(), change.new.clone())).collect();
            there.sort();
            back.sort();
            assert_eq!(there, back, "{i} {j}");
        }
    }
}
