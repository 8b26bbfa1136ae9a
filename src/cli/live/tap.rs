//! `touchline tap`: a line per request, as they end. For people in columns, for programs as the JSON that came.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum, builder::PossibleValuesParser};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    ended,
    endpoint::{Endpoint, Source, encoded},
    figures::{self, UNKNOWN},
    line::{self, Line, Paint},
    snapshot::Tail,
    stream::{Event, Events},
};
use crate::{
    cli::demo::Terminal,
    config::{self, format_duration},
    net::signal::Signals,
};

/// The pause before a lost stream is opened again, and for how long that is tried: what is written to a file unwatched
/// must not wait for ever for a pod that has gone.
const RETRY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Further than any `--for` goes.
const FOREVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// Columns of a path: as wide as the widest so far, within these.
const NARROW_PATH: usize = 24;
const WIDE_PATH: usize = 48;

/// Arguments of `touchline tap`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline tap --status 5xx                     errors, as they happen
  touchline tap --slower-than 500ms --path '/coach/*'
  touchline tap --cache miss --method GET        what the cache lets through
  touchline tap -o json --for 30s | jq -r '[.status, .ms, .path // .template] | @tsv'
  touchline tap -o json --max 1000 | jq -s 'group_by(.template) | map({route: .[0].template, n: length})'

Exit codes: 0, or 2 if it cannot be asked.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Only paths or routes that begin so; a * may stand at the end
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Only requests of this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Only answers of this status, such as 404, or of a class, such as 5xx
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    status: Option<String>,
    /// Only requests that ended so
    #[arg(long, value_name = "OUTCOME", value_parser = PossibleValuesParser::new(["done", "client_abort", "upstream_abort", "error", "panic"]))]
    outcome: Option<String>,
    /// Only requests for which the cache did this
    #[arg(long, value_name = "STATUS", value_parser = PossibleValuesParser::new(["hit", "miss", "stale", "revalidated", "bypass"]))]
    cache: Option<String>,
    /// Only requests that took longer, such as 250ms
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    slower_than: Option<Duration>,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "text")]
    output: Form,
    /// End after so many requests
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// End after this time, such as 30s
    #[arg(long = "for", value_name = "TIME", value_parser = config::parse_duration)]
    duration: Option<Duration>,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Columns, for people.
    Text,
    /// A JSON object a line, for programs.
    Json,
}

/// Prints requests until it is told to end.
pub(crate) fn tap(
    arguments: &Arguments,
    terminal: Terminal,
    env: &dyn Fn(&str) -> Option<String>,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> ExitCode {
    let result = arguments.source.endpoint(env).and_then(|endpoint| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut printer = Printer {
            form: arguments.output,
            has_colour: terminal.colour,
            path: NARROW_PATH,
            printed: 0,
            dropped: 0,
        };
        let result = runtime.block_on(follow(arguments, &endpoint, &mut printer, (&mut *out, &mut *err)));
        if printer.dropped > 0 {
            let _ = writeln!(err, "touchline: {}", printer.account());
        }
        result.map(|()| ExitCode::SUCCESS)
    });
    ended(result, err)
}

async fn follow(
    arguments: &Arguments,
    endpoint: &Endpoint,
    printer: &mut Printer,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<()> {
    let target = arguments.target();
    let mut signals = Signals::listen().context("listening for signals")?;
    let end = Instant::now() + arguments.duration.unwrap_or(FOREVER);
    let mut events = tokio::select! {
        _ = signals.next() => return Ok(()),
        events = Events::open(endpoint, &target) => events?,
    };
    loop {
        let event = tokio::select! {
            biased;
            _ = signals.next() => return Ok(()),
            () = sleep_until(end) => return Ok(()),
            event = events.next() => event,
        };
        match event {
            Ok(Some(event)) => {
                printer.event(&event, out)?;
                if arguments.max.is_some_and(|max| printer.printed >= max) {
                    return Ok(());
                }
            }
            lost => {
                let why =
                    lost.map_or_else(|error| format!("{error:#}"), |_| "the stream has ended".to_owned());
                writeln!(err, "touchline: {}, retrying", line::harmless(&why))?;
                events = tokio::select! {
                    _ = signals.next() => return Ok(()),
                    () = sleep_until(end) => return Ok(()),
                    events = reopened(endpoint, &target) => events?,
                };
            }
        }
    }
}

async fn reopened(endpoint: &Endpoint, target: &str) -> anyhow::Result<Events> {
    let end = Instant::now() + PATIENCE;
    loop {
        sleep(RETRY).await;
        match Events::open(endpoint, target).await {
            Err(_) if Instant::now() < end => {}
            opened => return opened,
        }
    }
}

impl Arguments {
    fn target(&self) -> String {
        let slower_than = self.slower_than.map(format_duration);
        let filters = [
            ("path", &self.path),
            ("method", &self.method),
            ("status", &self.status),
            ("outcome", &self.outcome),
            ("cache", &self.cache),
            ("slower_than", &slower_than),
        ];
        let pairs: Vec<String> = filters
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))))
            .collect();
        if pairs.is_empty() { "/api/v1/tail".to_owned() } else { format!("/api/v1/tail?{}", pairs.join("&")) }
    }
}

/// `404`, or `5xx`.
fn parse_status(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let is_class = matches!(lower.as_bytes(), [b'1'..=b'5', b'x', b'x']);
    let is_status = lower.parse::<u16>().is_ok_and(|status| (100..600).contains(&status));
    if is_class || is_status { Ok(lower) } else { Err("a status is 404, or a class such as 5xx".to_owned()) }
}

struct Printer {
    form: Form,
    has_colour: bool,
    /// Columns of the widest path so far.
    path: usize,
    printed: u64,
    dropped: u64,
}

impl Printer {
    fn event(&mut self, event: &Event, out: &mut dyn Write) -> anyhow::Result<()> {
        match event.name.as_str() {
            "line" => {
                self.printed += 1;
                match self.form {
                    Form::Json => writeln!(out, "{}", line::harmless_json(&event.data.replace('\n', " ")))?,
                    Form::Text => {
                        let tail: Tail = serde_json::from_str(&event.data).unwrap_or_default();
                        self.path = self.path.max(path_width([&tail].into_iter()));
                        writeln!(out, "{}", line(&tail, self.path).ansi(self.has_colour))?;
                    }
                }
            }
            "dropped" => {
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                let count = data.get("count").and_then(Value::as_u64).unwrap_or(0);
                self.dropped = self.dropped.saturating_add(count);
                if self.form == Form::Text && count > 0 {
                    let text = format!("{} more, faster than lines are sent", figures::count(Some(count)));
                    writeln!(out, "{}", Line::of(&text, Paint::Warn).ansi(self.has_colour))?;
                }
            }
            _ => {}
        }
        Ok(out.flush()?)
    }

    fn account(&self) -> String {
        let (printed, dropped) = (figures::count(Some(self.printed)), figures::count(Some(self.dropped)));
        format!(
            "{printed} printed, {dropped} more were not sent, as at most 50 a second are: a filter leaves fewer"
        )
    }
}

/// Columns that the paths of these lines take, within bounds.
pub(super) fn path_width<'a>(tails: impl Iterator<Item = &'a Tail>) -> usize {
    let widest = tails.map(|tail| line::columns(&line::harmless(path_of(tail)))).max().unwrap_or(0);
    widest.clamp(NARROW_PATH, WIDE_PATH)
}

fn path_of(tail: &Tail) -> &str {
    tail.path.as_deref().or(tail.template.as_deref()).unwrap_or(UNKNOWN)
}

/// How a status is painted.
pub(super) const fn status_paint(status: u64) -> Paint {
    match status {
        500.. => Paint::Bad,
        400..500 => Paint::Warn,
        300..400 => Paint::Code,
        _ => Paint::Good,
    }
}

/// A request as a line.
pub(super) fn line(tail: &Tail, path: usize) -> Line {
    let mut line = Line::of(&figures::clock_ms(tail.at.as_deref()), Paint::Soft);
    line.push("  ", Paint::Plain);
    match tail.status {
        Some(status) => line.push(&line::right(&status.to_string(), 3), status_paint(status)),
        None => line.push("  -", Paint::Soft),
    }
    line.push(&line::right(&figures::time(tail.ms), 9), Paint::Strong);
    line.push("  ", Paint::Plain);
    let is_claude = tail.plane.as_deref() == Some("claude");
    let (word, paint) = match tail.cache.as_deref() {
        _ if is_claude => ("claude", Paint::Code),
        None => (UNKNOWN, Paint::Soft),
        Some(word @ ("hit" | "revalidated")) => (word, Paint::Good),
        Some(word @ "stale") => (word, Paint::Warn),
        Some(word @ "bypass") => (word, Paint::Soft),
        Some(word) => (word, Paint::Plain),
    };
    line.push(&line::left(word, 12), paint);
    line.push(&line::left(tail.method.as_deref().unwrap_or(UNKNOWN), 8), Paint::Plain);
    let shown = path_of(tail);
    let mut named = Line::of(shown, Paint::Plain);
    named.pad(path);
    line.append(named);
    for (text, paint) in notes(tail, is_claude) {
        line.push("  ", Paint::Plain);
        line.push(&text, paint);
    }
    line
}

/// What else is worth a word: an end that is none, then why the cache did what it did, or who answered.
fn notes(tail: &Tail, is_claude: bool) -> Vec<(String, Paint)> {
    let mut notes = Vec::new();
    if let Some(outcome) = tail.outcome.as_deref().filter(|outcome| *outcome != "done") {
        notes.push((outcome.to_owned(), Paint::Bad));
    }
    if is_claude {
        let words = [&tail.model, &tail.tier, &tail.routing_reason];
        notes.extend(words.into_iter().flatten().map(|word| (word.clone(), Paint::Soft)));
        return notes;
    }
    let why = if tail.cache.as_deref() == Some("hit") { &tail.source } else { &tail.reason };
    notes.extend(why.iter().map(|why| (why.clone(), Paint::Soft)));
    if let Some(kind) = tail.kind.as_deref().filter(|kind| *kind != "plain") {
        notes.push((kind.to_owned(), Paint::Soft));
    }
    if let Some(size) = tail.bytes_out {
        notes.push((figures::bytes(Some(size)), Paint::Soft));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::{Form, Paint, Printer, line, parse_status, status_paint};
    use crate::cli::live::{fixtures, snapshot::Tail, stream::Event};

    fn printer(form: Form) -> Printer {
        Printer { form, has_colour: false, path: 24, printed: 0, dropped: 0 }
    }

    fn printed(printer: &mut Printer, name: &str, data: &str) -> String {
        let mut out = Vec::new();
        printer.event(&Event { name: name.to_owned(), data: data.to_owned() }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_stand_in_columns() {
        let tails: Vec<Tail> = serde_json::from_value(fixtures::tails()).unwrap();
        let lines: Vec<String> = tails.iter().map(|tail| line(tail, 40).plain()).collect();

        let at = |text: &str, word: &str| text.find(word).unwrap_or_else(|| panic!("{text}: {word}"));
        let begins = at(&lines[0], "/");
        let mut paths = lines.iter().filter(|line| !line.contains("claude"));
        assert!(paths.all(|line| at(line, "/") == begins), "{lines:#?}");
        assert_eq!(
            lines[0],
            "14:05:53.114  200   0.41ms  hit         GET     /api/challenges                           memory  812 B"
        );
        assert!(lines.iter().any(|line| line.contains("client_abort")));
        // Of a call there is the name of its route.
        let call = lines.iter().find(|line| line.contains("claude-haiku-5-5")).unwrap();
        assert_eq!(at(call, "default"), begins);
    }

    #[test]
    fn json_is_what_came_on_one_line_and_what_was_dropped_is_apart() {
        let mut printer = printer(Form::Json);

        assert_eq!(printed(&mut printer, "line", "{\"a\":\n1}"), "{\"a\": 1}\n");
        assert_eq!(printed(&mut printer, "dropped", "{\"count\": 120}"), "");
        assert_eq!(printed(&mut printer, "later", "{}"), "");
        assert_eq!((printer.printed, printer.dropped), (1, 120));
        assert!(printer.account().starts_with("1 printed, 120 more"));
    }

    #[test]
    fn a_hostile_path_and_a_broken_line_do_no_harm() {
        let mut text = printer(Form::Text);
        let hostile =
            r#"{"at":"x","method":"G\u001b[2J","path":"/\u001b]0;owned\u0007\u202e","status":null,"ms":-1}"#;

        let line = printed(&mut text, "line", hostile);
        assert!(line.trim_end_matches('\n').chars().all(|c| !c.is_control()), "{line:?}");
        assert_eq!(printed(&mut text, "line", "nonsense").lines().count(), 1);
        assert!(printed(&mut text, "dropped", "{\"count\": 1200}").starts_with("1,200 more"));
        let raw = printed(&mut printer(Form::Json), "line", "\u{1b}[2J\u{9b}");
        assert_eq!(raw, "\\u001b[2J\\u009b\n");
    }

    #[test]
    fn a_status_is_a_number_or_a_class() {
        for (text, read) in [("404", "404"), ("5XX", "5xx"), ("2xx", "2xx")] {
            assert_eq!(parse_status(text).as_deref(), Ok(read));
        }
        for wrong in ["", "6xx", "40", "999", "4x", "5xxx", "abc", "+500"] {
            assert_eq!(parse_status(wrong).is_ok(), wrong == "+500", "{wrong}");
        }
        let paints = [200, 204, 304, 404, 503].map(status_paint);
        assert_eq!(paints, [Paint::Good, Paint::Good, Paint::Code, Paint::Warn, Paint::Bad]);
    }
}
