//! The executable itself: what it prints, how it ends, and that its end costs nobody a request.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails where its helpers cannot go on"
)]

#[path = "integration/support/mod.rs"]
#[expect(dead_code, reason = "the helpers are shared with the tests in process, which use all of them")]
mod support;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::Instant;

use support::{
    app::Setup,
    backend::{Backend, Step, text},
    client::{Client, get_text},
    process::{Process, configuration, run},
    spawn, until,
};

#[test]
fn without_arguments_it_says_how_it_is_used() {
    let (code, out, err) = run(&[]);

    assert_eq!(code, Some(2));
    let said = out + &err;
    for word in [
        "run",
        "demo",
        "check",
        "diff",
        "explain",
        "routes",
        "advise",
        "top",
        "tap",
        "stat",
        "purge",
        "reload",
        "drain",
        "inject",
        "uninject",
        "probe",
        "schema",
        "completions",
        "man",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn every_command_explains_itself() {
    for command in [
        &["--help"][..],
        &["run", "--help"],
        &["demo", "--help"],
        &["check", "--help"],
        &["diff", "--help"],
        &["routes", "--help"],
        &["routes", "test", "--help"],
        &["probe", "--help"],
        &["schema", "--help"],
        &["completions", "--help"],
        &["man", "--help"],
        &["explain", "--help"],
        &["advise", "--help"],
        &["top", "--help"],
        &["tap", "--help"],
        &["stat", "--help"],
        &["purge", "--help"],
        &["drain", "--help"],
        &["inject", "--help"],
        &["uninject", "--help"],
    ] {
        let (code, out, err) = run(command);

        assert_eq!((code, err.as_str()), (Some(0), ""), "{command:?}");
        assert!(out.contains("Usage: touchline"), "{command:?}: {out}");
    }
    assert!(run(&["--version"]).1.starts_with("touchline "));
}

#[test]
fn an_unknown_command_is_refused_with_a_suggestion() {
    let (code, _, err) = run(&["chekc"]);

    assert_eq!(code, Some(2));
    assert!(err.contains("check"), "{err}");
}

#[test]
fn the_schema_is_the_one_in_the_repository() {
    let (code, out, _) = run(&["schema"]);

    assert_eq!(code, Some(0));
    assert!(out == std::fs::read_to_string("proxy.schema.json").unwrap(), "proxy.schema.json is stale");
}

#[test]
fn a_bad_configuration_is_refused_with_all_that_is_wrong_with_it() {
    let text = "version: 1\nigress: {}\ningress:\n  backend: http://127.0.0.1:1\n  upstream: { connect: 5 }\n  limits: { headers: 0 }\n";
    let (_folder, path) = configuration(text);
    let path = path.display().to_string();

    for command in ["run", "check"] {
        let (code, out, err) = run(&[command, "-c", &path]);

        assert_eq!((code, out.as_str()), (Some(1), ""), "{command}");
        for word in [
            "did you mean `ingress`?",
            "ingress.upstream.connect",
            "ingress.limits.headers",
            ":2:",
            ":5:",
            ":6:",
            "3 errors",
        ] {
            assert!(err.contains(word), "{command}: {word}: {err}");
        }
    }
}

#[test]
fn a_missing_configuration_is_refused_by_name() {
    let (code, _, err) = run(&["run", "-c", "/nowhere/proxy.yaml"]);

    assert_eq!(code, Some(1));
    assert!(err.contains("/nowhere/proxy.yaml") && err.contains("no such file"), "{err}");
}

#[test]
fn a_good_configuration_is_summed_up() {
    let (code, out, err) = run(&["check", "-c", "proxy.yaml"]);

    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("proxy.yaml is valid"), "{out}");
}

#[test]
fn a_taken_address_ends_the_start_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (listen, key) in
        [("ingress", "ingress.listen"), ("admin", "admin.listen"), ("control", "control.listen")]
    {
        let written = format!("\"{address}\"");
        let setup = Setup::new("http://127.0.0.1:1");
        let setup = match listen {
            "ingress" => setup.ingress("listen", &written),
            other => setup.top(other, &format!("{{ listen: {written} }}")),
        };
        let (_folder, path) = configuration(&setup.yaml());

        let (code, _, err) = run(&["run", "-c", &path.display().to_string()]);

        assert_eq!(code, Some(1), "{key}: {err}");
        assert!(err.contains(key) && err.contains(&address.to_string()), "{key}: {err}");
    }
}

#[tokio::test]
async fn it_is_ready_in_a_moment() {
    let backend = Backend::start(|_| support::backend::ok("hi")).await;
    let yaml = Setup::before(&backend).yaml();

    // The best of three: the machine may be busy, the program may not.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let process = Process::start(&yaml);
        let answer = support::client::get(process.address, "/").await;
        best = best.min(start.elapsed());
        assert_eq!(answer.text(), "hi");
    }

    assert!(best < Duration::from_millis(500), "{best:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_no_request() {
    let backend = Backend::start(|_| {
        vec![Step::Wait(Duration::from_millis(1)), Step::Send(text("200 OK", &[], "hi").into_bytes())]
    })
    .await;
    let yaml = Setup::before(&backend).top("drain", "{ delay: 500ms, timeout: 5s }").yaml();
    let mut process = Process::start(&yaml);
    let address = process.address;
    let (served, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));

    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (served, left, is_over) = (Arc::clone(&served), Arc::clone(&left), Arc::clone(&is_over));
            spawn(async move {
                let mut client = Client::connect(address).await;
                loop {
                    client.ask("/").await;
                    let answer = client.try_answer(false).await.expect("a request failed");
                    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
                    served.fetch_add(1, SeqCst);
                    if answer.field("connection") == "close" {
                        left.fetch_add(1, SeqCst);
                        // A balancer that has heard of the drain goes elsewhere; one that has not comes back.
                        if is_over.load(SeqCst) {
                            return;
                        }
                        client = Client::connect(address).await;
                    }
                }
            })
        })
        .collect();
    until("thousands are served", || served.load(SeqCst) > 3000).await;
    process.signal("TERM");
    let before = served.load(SeqCst);
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_over.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }

    let code = tokio::task::spawn_blocking(move || (process.wait(), process.log())).await.unwrap();
    assert_eq!(code.0, Some(0), "{}", code.1);
    assert!(served.load(SeqCst) > before && left.load(SeqCst) >= 16);
    assert!(code.1.contains("draining") && code.1.contains("touchline has stopped"), "{}", code.1);
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let backend = Backend::start(|_| vec![Step::Hang]).await;
    let yaml = Setup::before(&backend).top("drain", "{ delay: 20s, timeout: 20s }").yaml();
    let mut process = Process::start(&yaml);
    let mut client = Client::connect(process.address).await;
    client.send(get_text("/", &[])).await;
    until("the request is at the backend", || backend.count() == 1).await;

    process.signal("TERM");
    until("it drains", || process.log().contains("draining")).await;
    let start = Instant::now();
    process.signal("TERM");
    let code = tokio::task::spawn_blocking(move || process.wait()).await.unwrap();

    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(code, Some(0));
    assert!(client.try_answer(false).await.is_none());
}

#[tokio::test]
async fn sigint_is_heard_too() {
    let backend = Backend::start(|_| support::backend::ok("hi")).await;
    let mut process = Process::start(&Setup::before(&backend).yaml());

    process.signal("INT");

    assert_eq!(tokio::task::spawn_blocking(move || process.wait()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn the_access_log_goes_to_standard_output_and_the_rest_to_standard_error() {
    let backend = Backend::start(|_| support::backend::ok("hi")).await;
    let (_folder, path) = configuration(&Setup::before(&backend).yaml());
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut child = support::process::touchline()
        .args(["run", "-c"])
        .arg(&path)
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    until("it is up", || read(&err).contains("touchline is up")).await;
    let line: serde_json::Value = read(&err)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|line: &serde_json::Value| line.to_string().contains("touchline is up"))
        .unwrap();
    let address =
        line["ingress"].as_str().or_else(|| line["fields"]["ingress"].as_str()).unwrap().parse().unwrap();

    support::client::get(address, "/").await;
    until("the line is written", || read(&out).contains("http.request.method")).await;
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(read(&out).lines().count(), 1);
    assert!(!read(&err).contains("http.request.method"));
}

/// A configuration whose control listener has an address that is known beforehand.
fn with_control(backend: &Backend, more: &str) -> (String, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let control = format!("{{ listen: \"{address}\"{more} }}");
    let yaml = Setup::before(backend).cached("ttl: 1m, tags: [cached]").top("control", &control).yaml();
    (yaml, address.to_string())
}

/// Runs the executable beside the test's own tasks.
async fn order(arguments: Vec<String>) -> (Option<i32>, String, String) {
    let run = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn words(text: &str, config: &std::path::Path) -> Vec<String> {
    let config = config.display().to_string();
    text.split(' ').map(str::to_owned).chain(["-c".to_owned(), config]).collect()
}

#[tokio::test]
async fn purges_and_drains_are_ordered_from_a_shell() {
    let backend = Backend::start(|_| support::backend::ok("hi")).await;
    let (yaml, _) = with_control(&backend, ", token: s3cret");
    let process = Process::start(&yaml);
    let (_folder, config) = configuration(&yaml);
    let status = async || {
        let answer = support::client::get(process.address, "/cached/a").await;
        (answer.cache().to_owned(), answer.field("connection").to_owned())
    };
    let cases = [
        ("purge --url /cached/a", "purged url /cached/a\n", "miss"),
        ("purge --tag cac*", "purged tag cac*\n", "miss"),
        ("purge --prefix /other", "purged prefix /other\n", "hit"),
        ("purge --route /cached/{rest*} --soft", "purged route /cached/{rest*} (kept as stale)\n", "miss"),
        ("purge --identity nobody", "purged identity nobody\n", "hit"),
        ("purge --all", "purged everything: 1 entry\n", "miss"),
    ];
    status().await;

    for (text, said, then) in cases {
        assert_eq!(status().await.0, "hit", "before {text}");

        let outcome = order(words(text, &config)).await;

        assert_eq!(outcome, (Some(0), said.to_owned(), String::new()), "{text}");
        assert_eq!(status().await.0, then, "after {text}");
    }
    let start = Instant::now();
    let (code, out, err) = order(words("drain --wait 300ms", &config)).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("draining"), "{out}");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(status().await.1, "close", "it still serves, and sends its clients elsewhere");
}

#[tokio::test]
async fn an_order_that_fails_says_why_in_one_sentence() {
    let backend = Backend::start(|_| support::backend::ok("hi")).await;
    let (yaml, address) = with_control(&backend, ", token: s3cret");
    let (_nowhere, unheard) = configuration(&yaml);
    let before = order(words("drain", &unheard)).await;
    let _process = Process::start(&yaml);
    let (_other, wrong) = configuration(&yaml.replace("s3cret", "guessed"));
    let (_off, off) = configuration(&Setup::before(&backend).top("control", "off").yaml());
    let (_bad, bad) = configuration("version: 2\n");
    let path = |path: &std::path::Path| path.display().to_string();

    let refused = order(words("purge --all", &wrong)).await;
    let cases = [
        (before, format!("asking the control listener on {address}: ")),
        (refused, format!("the control listener on {address} refuses with 401: ")),
        (
            order(words("purge --url nothing", &unheard)).await,
            "refuses with 400: url and prefix begin".into(),
        ),
        (order(words("drain", &off)).await, format!("{} switches the control listener off", path(&off))),
        (order(words("purge --all", &bad)).await, format!("`touchline check -c {}` says why", path(&bad))),
    ];
    for ((code, out, err), said) in cases {
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}: {err}");
        assert!(
            err.starts_with("touchline: ") && err.contains(&said) && err.lines().count() == 1,
            "{said}: {err}"
        );
    }
    for text in ["purge", "purge --all --tag a", "drain --wait 5"] {
        assert_eq!(order(words(text, &unheard)).await.0, Some(2), "{text}");
    }
}

#[tokio::test]
async fn advice_is_printed_as_routes_that_load() {
    let backend = Backend::start(|_| support::backend::ok("hi")).await;
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = Setup::before(&backend)
        .cached("ttl: 1m, mode: observe")
        .top("admin", &format!("{{ listen: \"{admin}\", token: s3cret }}"))
        .yaml();
    let (_folder, config) = configuration(&yaml);
    let unheard = order(words("advise", &config)).await;
    let process = Process::start(&yaml);
    for _ in 0..12 {
        support::client::get(process.address, "/cached/a").await;
    }

    let (code, out, err) = order(words("advise", &config)).await;
    let (json_code, json, _) = order(words("advise --json", &config)).await;
    let refused = order(format!("advise --admin {admin}").split(' ').map(str::to_owned).collect()).await;

    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("not enough seen yet: 12 requests"), "{out}");
    let head = "version: 1\ningress:\n  backend: http://127.0.0.1:1\n  routes:\n";
    let loaded = touchline::config::load_str("advice", &format!("{head}{out}"), &|_| None);
    assert_eq!(loaded.unwrap().config.ingress.unwrap().routes, []);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json_code, &json["routes"][0]["would_hits"]), (Some(0), &11.into()), "{json}");
    for ((code, out, err), said) in [(unheard, "asking the admin listener on"), (refused, "refuses with 401")]
    {
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(err.contains(said) && err.lines().count() == 1, "{said}: {err}");
    }
}
