//! Whole pages against `tests/golden/explain`, with a backend in this process and clocks that stand.
//!
//! `UPDATE_GOLDEN=1 cargo test --lib cli::explain` rewrites them, to be read in review.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    thread,
};

use super::{Look, parse_field, silence, text, words::Store, write_json};
use crate::{
    admin::{EntryFound, PurgedBy, StoredEntry},
    app,
    cache::Clock,
    config,
    ingress::{Explanation, Question},
};

const NOON: u64 = 1_700_000_000;
const DATE: &str = "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n";
const HASH: &str = "0a1b2c3d4e5f";

const ROUTES: &str = r#"
    - { path: /api/challenges, cache: { ttl: 30m, stale_while_revalidate: 5m, public: true, tags: [challenges], key: { query: { only: [difficulty] }, headers: [accept-language], cookies: [plan] } } }
    - { path: /api/challenges, methods: [POST], invalidates: [challenges] }
    - { path: "/api/session/{session_id}", cache: { ttl: 24h, tags: ["session:{session_id}"] } }
    - { path: "/api/session/{session_id}/", cache: { ttl: 1m, mode: observe } }
    - { path: "/internal/{rest*}", deny: true }
    - { path: /missing, cache: { ttl_by_status: { 404: 1m } } }
    - { path: /fresh, cache: { ttl: 1m, refresh_on: { query: { use_cache: "false" } } } }
"#;

/// A request, and what the backend says to it.
struct Case {
    name: &'static str,
    method: &'static str,
    url: &'static str,
    fields: &'static [(&'static str, &'static str)],
    answer: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "kept_by_a_rule",
        method: "GET",
        url: "http://Coach.Example:80/api/challenges?difficulty=easy&utm_source=mail&utm_source=x",
        fields: &[
            ("accept-language", "de"),
            ("accept-encoding", "gzip, deflate, br"),
            ("cookie", "plan=pro; session=secret; theme=dark"),
            ("authorization", "Bearer secret"),
            ("x-real-ip", "10.0.0.1"),
            ("if-none-match", "\"x\""),
        ],
        answer: "200 OK\r\nContent-Type: application/json\r\nSurrogate-Key: daily",
    },
    Case {
        name: "kept_by_the_origin",
        method: "GET",
        url: "http://coach.example/about",
        fields: &[("accept-language", "de, en;q=0.5")],
        answer: "200 OK\r\nCache-Control: max-age=600, stale-while-revalidate=60\r\nETag: \"v1\"\r\n\
                 Age: 30\r\nVary: Accept-Language, X-Plan",
    },
    Case {
        name: "bypass_authorization",
        method: "GET",
        url: "http://coach.example/api/session/42",
        fields: &[("authorization", "Bearer secret")],
        answer: "200 OK\r\nCache-Control: private",
    },
    Case {
        name: "answer_says_no_store",
        method: "GET",
        url: "/API/challenges",
        fields: &[],
        answer: "200 OK\r\nCache-Control: no-store\r\nSet-Cookie: session=secret; Path=/",
    },
    Case {
        name: "no_lifetime",
        method: "GET",
        url: "http://coach.example/config/features",
        fields: &[],
        answer: "200 OK",
    },
    Case {
        name: "status",
        method: "GET",
        url: "http://coach.example/missing",
        fields: &[],
        answer: "410 Gone",
    },
    Case {
        name: "refresh",
        method: "GET",
        url: "http://coach.example/fresh?use_cache=false&a=1",
        fields: &[],
        answer: "200 OK",
    },
    Case {
        name: "observe",
        method: "GET",
        url: "http://coach.example/api/session/42/",
        fields: &[],
        answer: "200 OK",
    },
    Case {
        name: "denied",
        method: "GET",
        url: "http://coach.example/x/../%69nternal/keys",
        fields: &[],
        answer: "200 OK",
    },
    Case {
        name: "write",
        method: "POST",
        url: "http://coach.example/api/challenges",
        fields: &[],
        answer: "200 OK",
    },
    Case {
        name: "refused_at_the_door",
        method: "GET",
        url: "http://coach.example:0/",
        fields: &[],
        answer: "200 OK",
    },
];

/// Answers every connection in the same way, on a thread that ends with the process.
fn backend(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            let body = r#"{"id":1}"#;
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {answer}\r\n{DATE}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
    port
}

fn explain(case: &Case, port: u16, fetches: bool) -> Explanation {
    let yaml = format!("version: 1\ningress:\n  backend: http://127.0.0.1:{port}\n  routes:{ROUTES}");
    let config =
        config::load_str("proxy.yaml", &yaml, &|_| None).unwrap_or_else(|error| panic!("{error}")).config;
    let fields: Vec<_> =
        case.fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let question = Question::new(case.method, case.url, &fields, None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut told = runtime.block_on(async {
        let explainer = app::explainer(&config, Clock::starting_at(NOON)).unwrap();
        explainer.explain(&question, fetches).await
    });
    if let Some(answer) = &mut told.answer {
        answer.took_ms = 12.3;
    }
    told
}

fn page(told: &Explanation, store: Option<&Store>, columns: usize) -> String {
    text(told, store, HASH, Look { columns, has_colour: false })
}

fn is_golden(name: &str, found: &str, stale: &mut Vec<String>) {
    let path = Path::new("tests/golden/explain").join(name).with_extension("txt");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    } else if fs::read_to_string(&path).unwrap_or_default() != found {
        stale.push(format!("{}:\n{found}", path.display()));
    }
}

/// A person reads this in a terminal: no line is wider than it, unless it is one word; none ends in spaces.
fn is_readable(text: &str, columns: usize) {
    for line in text.lines() {
        let is_one_word = !line.trim().contains(' ') || line.contains("http://");
        assert!(line.chars().count() <= columns || is_one_word, "{line:?}");
        assert_eq!(line, line.trim_end(), "{text}");
    }
}

#[test]
fn every_page_reads_as_it_should() {
    let mut stale = Vec::new();
    for case in CASES {
        let port = backend(case.answer);
        let told = explain(case, port, true);
        for columns in [80, 120] {
            let found = page(&told, None, columns).replace(&format!("127.0.0.1:{port}"), "127.0.0.1:8000");

            is_readable(&found, columns);
            assert!(!found.contains("secret"), "a credential in\n{found}");
            assert!(!serde_json::to_string(&told).unwrap().contains("secret"), "{}", case.name);
            if columns == 80 {
                is_golden(case.name, &found, &mut stale);
            } else if case.name == "kept_by_a_rule" {
                is_golden("kept_by_a_rule_wide", &found, &mut stale);
            }
        }
    }
    assert!(stale.is_empty(), "run with UPDATE_GOLDEN=1 if these are right:\n{}", stale.join("\n"));
}

#[test]
fn what_a_running_process_has_stored_comes_last() {
    let told = explain(&CASES[0], backend(CASES[0].answer), false);
    let key = told.key.as_ref().unwrap().name.clone();
    let entry = StoredEntry {
        status: 200,
        source: "rule".to_owned(),
        age_s: 488,
        ttl_s: 1312,
        hits: 702,
        body_bytes: 9000,
        bytes: 9318,
        fetch_ms: 140,
        generation: 3,
        vary: vec!["accept-encoding".to_owned()],
        tags: vec!["challenges".to_owned(), "daily".to_owned()],
        ..StoredEntry::default()
    };
    let fresh = EntryFound {
        config_hash: HASH.to_owned(),
        route: "/api/challenges".to_owned(),
        key: key.clone(),
        entry: Some(entry.clone()),
        variants: 2,
        ..EntryFound::default()
    };
    let purged = EntryFound {
        config_hash: "ffffffffffff".to_owned(),
        absence: Some("purged".to_owned()),
        entry: Some(StoredEntry { ttl_s: -75, ..entry }),
        purged: Some(PurgedBy { scope: "tag".to_owned(), soft: false, generation: 4 }),
        key: "00".repeat(32),
        hit_for_miss: true,
        ..fresh.clone()
    };
    let refused = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    let silent = silence(&refused.context("asking"), "127.0.0.1:9091".parse().unwrap());
    let mut stale = Vec::new();
    for (name, store) in [
        ("stored_now", Store::Found(Box::new(fresh))),
        ("stored_now_purged", Store::Found(Box::new(purged))),
        ("stored_now_unknown", Store::Silent(silent)),
    ] {
        let found = page(&told, Some(&store), 80);

        is_readable(&found, 80);
        // The page above it has a golden text of its own.
        let end = found.find("\nStored now").unwrap();
        let head: String = found.lines().take(6).map(|line| format!("{line}\n")).collect();
        is_golden(name, &format!("{head}...\n{}", &found[end..]), &mut stale);
    }
    assert!(stale.is_empty(), "run with UPDATE_GOLDEN=1 if these are right:\n{}", stale.join("\n"));
}

#[test]
fn a_backend_that_is_not_there_is_said_to_be_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);

    let told = explain(&CASES[1], port, true);

    let why = told.no_answer.as_deref().unwrap();
    assert!(
        why.starts_with(&format!("no answer from http://127.0.0.1:{port}: connecting to the upstream")),
        "{why}"
    );
    assert!(told.key.is_some() && told.sent.is_some() && told.answer.is_none());
    assert!(page(&told, None, 80).contains("no answer from"));
}

#[test]
fn programs_get_json() {
    let told = explain(&CASES[3], backend(CASES[3].answer), true);
    let mut out = Vec::new();

    write_json(&told, Some(&Store::Silent("no".to_owned())), HASH, &mut out).unwrap();

    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["answer"]["not_stored"]["reason"], "no_store");
    assert_eq!(value["answer"]["stored"], serde_json::Value::Null);
    assert_eq!(value["route"]["near"][0]["why"], "letters in another case");
    assert_eq!((&value["config_hash"], &value["stored_now_unknown"]), (&HASH.into(), &"no".into()));
    assert_eq!(value["key"]["name"].as_str().unwrap().len(), 64);
}

#[test]
fn fields_are_written_as_for_curl() {
    let field = |text: &str| parse_field(text).ok();
    let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));

    assert_eq!(field("Cookie: a=1; b=2"), pair("Cookie", "a=1; b=2"));
    assert_eq!(field("X-Empty:"), pair("X-Empty", ""));
    assert_eq!(field("a:b:c"), pair("a", "b:c"));
    for wrong in ["Cookie", ": x", "Cookie : x", ""] {
        assert_eq!(field(wrong), None, "{wrong}");
    }
}

#[test]
fn the_width_is_what_the_shell_says() {
    let look = |columns: Option<&str>| {
        let columns = columns.map(str::to_owned);
        Look::of(false, &|name| columns.clone().filter(|_| name == "COLUMNS")).columns
    };

    assert_eq!((look(None), look(Some("120")), look(Some("wide"))), (80, 120, 80));
}
