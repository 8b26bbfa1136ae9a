//! The commands against a listener in this process, which says what a test has written down.

use std::{
    io::{self, Read as _, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use clap::Parser;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::{
    demo::Terminal,
    live::{self, StatArguments, TapArguments, TopArguments, fixtures},
};

const BARE: Terminal = Terminal { interactive: false, colour: false };

/// A listener that answers its connections one after the other, the last answer again and again.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            let mut next = 0;
            while let Ok((stream, _)) = listener.accept() {
                let answer = answers[next.min(answers.len() - 1)].clone();
                next += 1;
                let seen = Arc::clone(&seen);
                thread::spawn(move || answer_one(stream, &answer, &seen));
            }
        });
        Self { address, heads }
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads a head, writes an answer, and closes; one that ends in `...` stays open.
fn answer_one(mut stream: TcpStream, answer: &[u8], seen: &Mutex<Vec<String>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.extend(byte);
    }
    seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    let (answer, stays) = match answer.strip_suffix(b"...") {
        Some(answer) => (answer, true),
        None => (answer, false),
    };
    // In pieces, as a network cuts them.
    for piece in answer.chunks(997) {
        if stream.write_all(piece).is_err() {
            return;
        }
    }
    if stays {
        let _ = stream.read(&mut byte);
    }
    let _ = stream.shutdown(Shutdown::Both);
}

pub(crate) fn document(status: u16, kind: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// A stream of events in chunks of odd sizes.
pub(crate) fn events(events: &[(&str, &Value)], end: &str) -> Vec<u8> {
    let mut text = ": hello\n\n".to_owned();
    for (name, data) in events {
        text.push_str(&format!("event: {name}\ndata: {data}\n\n"));
    }
    let mut out =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in text.as_bytes().chunks(1013) {
        out.extend(format!("{:x}\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(end.bytes());
    out
}

#[derive(Parser)]
struct StatLine {
    #[command(flatten)]
    arguments: StatArguments,
}

#[derive(Parser)]
struct TapLine {
    #[command(flatten)]
    arguments: TapArguments,
}

#[derive(Parser)]
struct TopLine {
    #[command(flatten)]
    arguments: TopArguments,
}

/// What a command has come to: its exit code, and what it wrote.
type Outcome = (u8, String, String);

fn number(code: ExitCode) -> u8 {
    (0..=2).find(|number| format!("{:?}", ExitCode::from(*number)) == format!("{code:?}")).unwrap()
}

fn run(command: &str, address: SocketAddr, words: &str, env: &dyn Fn(&str) -> Option<String>) -> Outcome {
    let admin = address.to_string();
    let line = ["x", "--admin", &admin].into_iter().chain(words.split_whitespace());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = match command {
        "stat" => live::stat(&StatLine::parse_from(line).arguments, BARE, env, (&mut out, &mut err)),
        "tap" => live::tap(&TapLine::parse_from(line).arguments, BARE, env, (&mut out, &mut err)),
        _ => live::top(&TopLine::parse_from(line).arguments, BARE, env, (&mut out, &mut err)),
    };
    (number(code), String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn with_score(score: u64) -> Vec<u8> {
    let mut state = fixtures::state("busy");
    state["health"]["score"] = json!(score);
    document(200, "application/json", &state.to_string())
}

#[test]
fn stat_asks_for_what_it_is_told_to_and_prints_it() {
    let server = Server::start(vec![with_score(70)]);
    let token = |name: &str| (name == "TOUCHLINE_ADMIN_TOKEN").then(|| "s3cret".to_owned());

    let (code, out, err) = run("stat", server.address, "--window 1h --merged", &token);

    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("/api/user/reputation/{user_id}") && !out.contains('\u{1b}'), "{out}");
    let head = &server.heads()[0];
    assert!(head.starts_with("GET /api/v1/snapshot?window=1h&scope=merged HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nHost: {}\r\n", server.address)), "{head}");
    assert!(head.contains("\r\nAuthorization: Bearer s3cret\r\n"), "{head}");
}

#[test]
fn stat_prints_json_as_it_came_and_says_health_in_its_exit_code() {
    for (score, words, code) in [(70, "--exit-code", 0), (69, "--exit-code -o json", 1), (0, "-o json", 0)] {
        let server = Server::start(vec![with_score(score)]);

        let (ended, out, err) = run("stat", server.address, words, &no_env);

        assert_eq!((ended, err.as_str()), (code, ""), "{score} {words}");
        if words.contains("json") {
            let mut state = fixtures::state("busy");
            state["health"]["score"] = json!(score);
            assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), state);
        }
    }
    let mut state = fixtures::state("busy");
    state["health"] = Value::Null;
    let server = Server::start(vec![document(200, "application/json", &state.to_string())]);
    assert_eq!(run("stat", server.address, "--exit-code", &no_env).0, 2);
}

#[test]
fn top_prints_one_frame_where_nobody_watches() {
    let server = Server::start(vec![with_score(70)]);
    let env = |name: &str| (name == "COLUMNS").then(|| "90".to_owned());

    let (code, out, err) = run("top", server.address, "--filter chat --sort p95", &env);

    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("/coach/chat") && !out.contains("/api/challenges"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 90) && !out.contains('\u{1b}'), "{out}");
}

#[test]
fn whoever_cannot_be_asked_is_told_in_one_sentence() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let detail = document(503, "application/json", r#"{"detail": "32 viewers are\u001b[2J there"}"#);
    let cases: Vec<(Option<Vec<u8>>, &str)> = vec![
        (None, "nothing listens on"),
        (Some(document(401, "application/json", "{}")), "wants a token: give --token-file"),
        (
            Some(document(404, "text/html", "<h1>no</h1>")),
            "is no admin listener of a touchline, or one of an older version",
        ),
        (Some(detail), "refuses with 503: 32 viewers are"),
        (Some(document(200, "text/html", "<h1>hello</h1>")), "not as the admin listener of a touchline"),
        (
            Some(document(200, "application/json", "{\"status\": \"ok\"}")),
            "not as the admin listener of a touchline",
        ),
        (Some(document(200, "application/json", "[")), "not as the admin listener of a touchline"),
        (Some(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "does not speak HTTP"),
        (Some(Vec::new()), "closes the connection without an answer"),
        (
            Some(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{".to_vec(),
            ),
            "was cut",
        ),
    ];
    for (answer, said) in cases {
        let server = answer.map(|answer| Server::start(vec![answer]));
        let address = server.as_ref().map_or(free, |server| server.address);
        for command in ["stat", "top"] {
            let (code, out, err) = run(command, address, "", &no_env);

            assert_eq!((code, out.as_str()), (2, ""), "{command} {said}: {err}");
            assert!(err.starts_with("touchline: ") && err.contains(said), "{command} {said}: {err}");
            assert_eq!(err.lines().count(), 1, "{err}");
            assert!(!err.contains('\u{1b}'), "{err:?}");
        }
    }
    let server = Server::start(vec![document(401, "application/json", "{}")]);
    let (code, _, err) = run("tap", server.address, "", &|_| Some("wrong".to_owned()));
    assert_eq!(
        (code, err.as_str()),
        (2, format!("touchline: {} refuses the token\n", server.address).as_str())
    );
}

#[test]
fn tap_goes_on_after_a_stream_is_lost_and_tells_what_was_dropped() {
    let tails = fixtures::tails();
    let dropped = json!({"count": 120});
    let first = events(&[("line", &tails[0]), ("dropped", &dropped)], "");
    let second = events(&[("line", &tails[1]), ("later", &tails[0]), ("line", &tails[2])], "...");
    let server = Server::start(vec![first, second]);

    let (code, out, err) = run(
        "tap",
        server.address,
        "--max 3 --path /api/* --status 5XX --slower-than 1500ms --cache miss",
        &no_env,
    );

    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(lines[0].contains("/api/challenges") && lines[1].starts_with("120 more"), "{out}");
    assert!(
        err.contains("the connection was closed, retrying") && err.contains("3 printed, 120 more"),
        "{err}"
    );
    let heads = server.heads();
    assert_eq!(heads.len(), 2);
    let asked = "GET /api/v1/tail?path=/api/*&status=5xx&cache=miss&slower_than=1500ms HTTP/1.1\r\n";
    assert!(heads.iter().all(|head| head.starts_with(asked)), "{heads:?}");
}

#[test]
fn tap_ends_in_time_and_prints_json_as_it_came() {
    let tails = fixtures::tails();
    let server = Server::start(vec![events(&[("line", &tails[0]), ("line", &tails[1])], "...")]);
    let start = Instant::now();

    let (code, out, err) = run("tap", server.address, "--for 300ms -o json", &no_env);

    assert_eq!((code, err.as_str()), (0, ""));
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&start.elapsed()));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [tails[0].clone(), tails[1].clone()]);
}

/// A pipe whose reader has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let server = Server::start(vec![events(&[("line", &fixtures::tails()[0])], "...")]);
    let line = ["x", "--admin", &server.address.to_string()].map(str::to_owned);
    let mut err = Vec::new();

    let code = live::tap(&TapLine::parse_from(line).arguments, BARE, &no_env, (&mut Gone, &mut err));

    assert_eq!((number(code), err.as_slice()), (0, b"".as_slice()));
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_asked() {
    for words in
        ["--status 6xx", "--cache maybe", "--outcome gone", "--slower-than 5", "--max 0", "--admin https://a"]
    {
        let line = ["x"].into_iter().chain(words.split_whitespace());
        assert!(TapLine::try_parse_from(line).is_err(), "{words}");
    }
    assert!(StatLine::try_parse_from(["x", "--window", "2m"]).is_err());
}
