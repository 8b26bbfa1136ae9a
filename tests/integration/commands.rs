//! Commands for operators, through the executable: what they print where, and how they end.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::support::{
    app::Setup,
    backend::{Backend, ok},
    process::{configuration, run, touchline},
};

/// Runs the executable with a text on standard input.
fn run_with(input: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut child = touchline()
        .args(arguments)
        .env("TTL", "7m")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), out, err)
}

const GOOD: &str = "version: 1\ningress:\n  backend: http://127.0.0.1:9\n  routes:\n    - { path: /a, cache: { ttl: \"${TTL:-1m}\" } }\n";

#[test]
fn check_reads_a_file_or_standard_input_and_says_where_values_come_from() {
    let (_folder, path) = configuration(GOOD);
    let path = path.display().to_string();

    for arguments in [&["check", &path][..], &["check", "-c", &path], &["check", "-"]] {
        let (code, out, err) = run_with(GOOD, arguments);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(out.contains(" is valid\n"), "{out}");
    }
    let (code, out, _) = run_with(GOOD, &["check", "-", "--effective"]);
    assert_eq!(code, Some(0));
    for line in [
        "  backend: http://127.0.0.1:9  # stdin:3\n",
        "        ttl: 7m  # environment TTL\n",
        "  http2: true  # default\n",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert_eq!(run_with(&out, &["check", "-"]).0, Some(0), "what it prints is a configuration");
    for arguments in [
        &["check", "a", "-c", "b"][..],
        &["check", "--output", "xml"],
        &["check", "-", "--effective", "-o", "json"],
    ] {
        assert_eq!(run_with("", arguments).0, Some(2), "{arguments:?}");
    }
}

#[test]
fn problems_are_told_to_programs_and_to_workflows() {
    let bad = GOOD.replace("ttl", "tll");

    let (code, out, err) = run_with(&bad, &["check", "-", "-o", "json"]);
    let problems: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let problem = &problems[0];
    assert_eq!(
        (&problem["file"], &problem["line"], &problem["column"]),
        (&"stdin".into(), &5.into(), &28.into())
    );
    assert_eq!(
        (&problem["path"], &problem["severity"]),
        (&"ingress.routes[0].cache".into(), &"error".into())
    );
    assert_eq!(problem["hint"], "did you mean `ttl`?");

    let (code, out, _) = run_with(&bad, &["check", "-", "--output", "github"]);
    assert_eq!(code, Some(1));
    assert!(out.starts_with("::error file=stdin,line=5,col=28::unknown key `tll`"), "{out}");
}

#[test]
fn diff_says_what_a_change_needs() {
    let (_folder, path) = configuration(GOOD);
    let path = path.display().to_string();
    let live = GOOD.replace(":9\n", ":10\n");
    let restart = format!("{live}runtime: {{ workers: 2 }}\n");

    for (new, expected) in [(GOOD, 0), (live.as_str(), 0), (restart.as_str(), 3), ("version: 2\n", 1)] {
        let (code, out, err) = run_with(new, &["diff", &path, "-"]);
        assert_eq!(code, Some(expected), "{out}{err}");
        if expected == 3 {
            assert!(
                out.contains("applied live\n  ~ ingress.backend")
                    && out.contains("needs a restart\n  + runtime.workers"),
                "{out}"
            );
        }
    }
    assert_eq!(run(&["diff", &path]).0, Some(2));
}

#[test]
fn routes_are_tried_without_a_backend() {
    let (folder, path) = configuration(GOOD);
    let path = path.display().to_string();
    let expected = folder.path().join("expected.yaml");
    std::fs::write(&expected, "- { request: GET /a, route: /a, cache: lookup, ttl: 1m }\n").unwrap();

    let start = Instant::now();
    let (code, out, _) = run(&["routes", "test", "GET", "/a", "-c", &path]);
    assert_eq!(code, Some(0));
    assert!(out.contains("kept for 1m") && out.contains("Limits"), "{out}");
    assert!(start.elapsed() < Duration::from_secs(5));

    let expected = expected.display().to_string();
    assert_eq!(run(&["routes", "test", "--expect", &expected, "-c", &path]).0, Some(0));
    std::fs::write(&expected, "- { request: GET /a, cache: authorization }\n").unwrap();
    let (code, out, _) = run(&["routes", "test", "--expect", &expected, "-c", &path]);
    assert_eq!(code, Some(1));
    assert!(out.contains("cache: expected authorization, found lookup"), "{out}");
    for arguments in
        [&["routes", "test", "GET"][..], &["routes", "test", "GET", "/a", "--expect", "x"], &["routes"]]
    {
        assert_eq!(run(arguments).0, Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn probe_asks_the_pages_that_kubernetes_asks() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).start();
    let ask = async |arguments: Vec<String>| {
        let run = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    let pages = [format!("http://{}/a", proxy.address), format!("http://{}/livez", proxy.admin)];

    for url in pages {
        let outcome = ask(vec!["probe".into(), url.clone()]).await;
        assert_eq!(outcome, (Some(0), format!("{url} answers 200\n"), String::new()));
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, out, err) =
        ask(vec!["probe".into(), "--wait".into(), "300ms".into(), format!("http://{closed}/")]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, format!("touchline: http://{closed}/ refuses the connection, still after 300ms\n"));
    assert_eq!(ask(vec!["probe".into(), "https://a/".into()]).await.0, Some(2));
}

#[test]
fn keys_are_explained_without_a_configuration() {
    let (code, out, err) = run(&["explain", "cache.memory.size", "-c", "/nowhere"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("cache.memory.size\n") && out.contains("with a restart"), "{out}");
    let (code, _, err) = run(&["explain", "cache.memory.sise"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("did you mean `cache.memory.size`?"), "{err}");
}

#[test]
fn shells_and_man_are_served() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, out, err) = run(&["completions", shell]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{shell}");
        assert!(out.contains("touchline") && out.contains("purge"), "{shell}");
    }
    assert_eq!(run(&["completions", "cmd"]).0, Some(2));
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("pages").display().to_string();
    assert_eq!(run(&["man", "--dir", &dir]), (Some(0), String::new(), String::new()));
    assert!(std::fs::read_dir(&dir).unwrap().count() > 15);
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, _, err) = run(&["man", "--dir", &file.display().to_string()]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
}
