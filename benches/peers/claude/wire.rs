//! Both ends of the bench: `wire fake` is a Claude API that answers at once and always the same, `wire load` is what calls it, directly or
//! through a proxy. Standard library alone, a blocking thread per connection, so that little of what is measured is its own:
//! `rustc --edition 2024 -O wire.rs`. It judges no proxy: `run` does.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Where a body holds the call's number, so that no call repeats one before it.
const MARK: &[u8] = b"@@@@@@@@@@@@";

/// Events of text in a stream.
const DELTAS: usize = 24;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((word, rest)) if word == "fake" => fake(rest),
        Some((word, rest)) if word == "load" => load(rest),
        _ => Err(io::Error::other(
            "usage: wire fake PORT PACE_US | wire load PORT PATH BODIES CONNECTIONS SECONDS [NAME: VALUE]...",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A message as it was read: its first line, and its body.
struct Message {
    first: String,
    body: Vec<u8>,
    is_last: bool,
}

/// One side of a connection, with what was read beyond the last message.
struct Wire {
    stream: TcpStream,
    data: Vec<u8>,
    read: usize,
}

impl Wire {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, data: Vec::with_capacity(1 << 16), read: 0 })
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.read == self.data.len() {
            self.data.clear();
            self.read = 0;
        }
        let mut part = [0; 65536];
        let count = self.stream.read(&mut part)?;
        self.data.extend_from_slice(&part[..count]);
        Ok(count > 0)
    }

    fn need(&mut self) -> io::Result<()> {
        if self.fill()? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut from = self.read;
        loop {
            if let Some(at) = self.data[from..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.data[self.read..from + at]).trim_end().to_owned();
                self.read = from + at + 1;
                return Ok(line);
            }
            from = self.data.len() - self.read;
            self.need()?;
            from += self.read;
        }
    }

    /// Moves `count` bytes into `body`, telling each arrival.
    fn take(
        &mut self,
        mut count: usize,
        body: &mut Vec<u8>,
        arrived: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        while count > 0 {
            if self.read == self.data.len() {
                self.need()?;
            }
            let now = count.min(self.data.len() - self.read);
            body.extend_from_slice(&self.data[self.read..self.read + now]);
            self.read += now;
            count -= now;
            arrived(body);
        }
        Ok(())
    }

    /// Reads one message, or nothing where the other side has closed before it.
    fn message(&mut self, is_answer: bool, mut arrived: impl FnMut(&[u8])) -> io::Result<Option<Message>> {
        if self.read == self.data.len() && !self.fill()? {
            return Ok(None);
        }
        let first = self.line()?;
        let (mut length, mut is_chunked, mut is_last) = (None, false, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                None if line.is_empty() => break,
                Some(("content-length", value)) => length = value.trim().parse::<usize>().ok(),
                Some(("transfer-encoding", _)) => is_chunked = true,
                Some(("connection", value)) => is_last = value.trim() == "close",
                Some(("expect", _)) => self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
                _ => {}
            }
        }
        let mut body = Vec::with_capacity(length.unwrap_or(4096));
        if is_chunked {
            loop {
                let size =
                    usize::from_str_radix(self.line()?.split(';').next().unwrap_or_default().trim(), 16);
                let size = size.map_err(io::Error::other)?;
                self.take(size, &mut body, &mut arrived)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = length {
            self.take(length, &mut body, &mut arrived)?;
        } else if is_answer {
            is_last = true;
            while self.read < self.data.len() || self.fill()? {
                self.take(self.data.len() - self.read, &mut body, &mut arrived)?;
            }
        }
        Ok(Some(Message { first, body, is_last }))
    }
}

fn word<T: std::str::FromStr>(words: &[String], index: usize) -> io::Result<T> {
    words
        .get(index)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::other(format!("bad argument {}", index + 1)))
}

/// The API. `GET` anything answers how many calls it has answered.
fn fake(words: &[String]) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", word(words, 0)?))?;
    let pace = Duration::from_micros(word(words, 1)?);
    let answers = Arc::new(Answers::new());
    for stream in listener.incoming() {
        let answers = Arc::clone(&answers);
        let wire = Wire::new(stream?)?;
        thread::Builder::new().stack_size(256 << 10).spawn(move || {
            // A client that leaves is no fault.
            let _ = answers.serve(wire, pace);
        })?;
    }
    Ok(())
}

struct Answers {
    whole: Vec<u8>,
    events: Vec<Vec<u8>>,
    served: AtomicU64,
}

impl Answers {
    const FIELDS: &str = "request-id: req_011CVxBench0000000000000\r\nanthropic-organization-id: 00000000-0000-0000-0000-000000000000\r\n\
        anthropic-ratelimit-requests-limit: 4000\r\nanthropic-ratelimit-requests-remaining: 3999\r\n\
        anthropic-ratelimit-requests-reset: 2026-11-25T12:00:00Z\r\nanthropic-ratelimit-tokens-limit: 400000\r\n\
        anthropic-ratelimit-tokens-remaining: 399000\r\nanthropic-ratelimit-tokens-reset: 2026-11-25T12:00:00Z\r\n";

    fn new() -> Self {
        let text = "That sounds like a step worth being proud of. What made it possible this time, and what would you like to try next? ";
        let usage = r#""usage":{"input_tokens":2600,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":"#;
        let head = r#"{"id":"msg_01BenchBenchBenchBench","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":["#;
        let body = format!(
            r#"{head}{{"type":"text","text":"{}"}}],"stop_reason":"end_turn","stop_sequence":null,{usage}180}}}}"#,
            text.repeat(6)
        );
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\r\n{body}",
            Self::FIELDS,
            body.len()
        );
        let chunk = |name: &str, data: String| {
            let event = format!("event: {name}\ndata: {data}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
        };
        let mut events = vec![
            chunk(
                "message_start",
                format!(
                    r#"{{"type":"message_start","message":{head}],"stop_reason":null,"stop_sequence":null,{usage}1}}}}}}"#
                ),
            ),
            chunk(
                "content_block_start",
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#
                    .to_owned(),
            ),
            chunk("ping", r#"{"type":"ping"}"#.to_owned()),
        ];
        for index in 0..DELTAS {
            let part = &text[index * 4..index * 4 + 24];
            events.push(chunk(
                "content_block_delta",
                format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{part}"}}}}"#),
            ));
        }
        events.push(chunk("content_block_stop", r#"{"type":"content_block_stop","index":0}"#.to_owned()));
        events.push(chunk(
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":180}}"#.to_owned(),
        ));
        let mut last = chunk("message_stop", r#"{"type":"message_stop"}"#.to_owned());
        last.extend_from_slice(b"0\r\n\r\n");
        events.push(last);
        let mut first = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n{}transfer-encoding: chunked\r\n\r\n", Self::FIELDS).into_bytes();
        first.append(&mut events[0]);
        events[0] = first;
        Self { whole: whole.into_bytes(), events, served: AtomicU64::new(0) }
    }

    fn serve(&self, mut wire: Wire, pace: Duration) -> io::Result<()> {
        while let Some(request) = wire.message(false, |_| {})? {
            if request.first.starts_with("POST ") {
                self.served.fetch_add(1, Relaxed);
                let is_stream = contains(&request.body, b"\"stream\":true")
                    || contains(&request.body, b"\"stream\": true");
                if is_stream {
                    self.stream(&mut wire, pace)?;
                } else {
                    wire.stream.write_all(&self.whole)?;
                }
            } else {
                let count = self.served.load(Relaxed).to_string();
                write!(wire.stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{count}", count.len())?;
            }
        }
        Ok(())
    }

    /// The events, each in a write of its own.
    fn stream(&self, wire: &mut Wire, pace: Duration) -> io::Result<()> {
        for (index, event) in self.events.iter().enumerate() {
            if index > 0 && !pace.is_zero() {
                thread::sleep(pace);
            }
            wire.stream.write_all(event)?;
        }
        Ok(())
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What one connection saw, in nanoseconds.
#[derive(Default)]
struct Seen {
    first: Vec<u64>,
    total: Vec<u64>,
    errors: u64,
    opened: u64,
    example: String,
}

struct Plan {
    port: u16,
    head: String,
    bodies: Vec<(Vec<u8>, Vec<usize>)>,
    numbers: AtomicU64,
    end: Instant,
}

/// Calls for some seconds and prints what it saw as JSON.
fn load(words: &[String]) -> io::Result<()> {
    let (port, path): (u16, String) = (word(words, 0)?, word(words, 1)?);
    let bodies: String = word(words, 2)?;
    let (connections, seconds): (usize, f64) = (word(words, 3)?, word(words, 4)?);
    let fields: String = words.iter().skip(5).map(|field| format!("{field}\r\n")).collect();
    let lines = fs::read(&bodies)?;
    let marks = |line: &[u8]| (0..line.len()).filter(|at| line[*at..].starts_with(MARK)).collect();
    let lines = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| (line.to_vec(), marks(line)))
        .collect();
    let began = Instant::now();
    let plan = Arc::new(Plan {
        port,
        head: format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{fields}"
        ),
        bodies: lines,
        // Never the numbers of a run before.
        numbers: AtomicU64::new(
            std::time::UNIX_EPOCH.elapsed().map_err(io::Error::other)?.as_micros() as u64 % 1_000_000_000_000,
        ),
        end: began + Duration::from_secs_f64(seconds),
    });
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let plan = Arc::clone(&plan);
            thread::spawn(move || plan.connection())
        })
        .collect();
    let mut all = Seen::default();
    for thread in threads {
        let seen = thread.join().map_err(|_| io::Error::other("a connection panicked"))?;
        all.first.extend(seen.first);
        all.total.extend(seen.total);
        all.errors += seen.errors;
        all.opened += seen.opened;
        if all.example.is_empty() {
            all.example = seen.example;
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    all.first.sort_unstable();
    all.total.sort_unstable();
    let at = |sorted: &[u64], share: f64| {
        sorted
            .get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1)))
            .map_or(0.0, |ns| *ns as f64 / 1000.0)
    };
    let example: String =
        all.example.chars().filter(|c| !c.is_control() && *c != '"' && *c != '\\').take(300).collect();
    println!(
        r#"{{"requests":{},"errors":{},"opened":{},"seconds":{elapsed:.6},"first_p50_us":{:.1},"first_p99_us":{:.1},"p50_us":{:.1},"p99_us":{:.1},"example":"{example}"}}"#,
        all.total.len(),
        all.errors,
        all.opened,
        at(&all.first, 0.5),
        at(&all.first, 0.99),
        at(&all.total, 0.5),
        at(&all.total, 0.99),
    );
    Ok(())
}

impl Plan {
    fn connection(&self) -> Seen {
        let mut seen = Seen::default();
        while Instant::now() < self.end && seen.errors < 20 {
            let fault = match self.calls(&mut seen) {
                Ok(()) => continue,
                Err(error) => error.to_string(),
            };
            seen.errors += 1;
            seen.example = fault;
        }
        seen
    }

    /// Calls over one connection until it or the time ends.
    fn calls(&self, seen: &mut Seen) -> io::Result<()> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut wire = Wire::new(stream)?;
        seen.opened += 1;
        let mut request = Vec::new();
        while Instant::now() < self.end {
            let number = self.numbers.fetch_add(1, Relaxed);
            let (body, marks) = &self.bodies[number as usize % self.bodies.len()];
            request.clear();
            write!(request, "{}content-length: {}\r\n\r\n", self.head, body.len())?;
            let start = request.len();
            request.extend_from_slice(body);
            for at in marks {
                write!(&mut request[start + at..start + at + MARK.len()], "{number:012}")?;
            }
            let (began, mut first) = (Instant::now(), None);
            wire.stream.write_all(&request)?;
            let answer = wire.message(true, |body| {
                // An event is there when its empty line is.
                if first.is_none() && contains(body, b"\n\n") {
                    first = Some(began.elapsed());
                }
            })?;
            let total = began.elapsed();
            let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
            let is_whole =
                contains(&answer.body, b"\"stop_reason\"") || contains(&answer.body, b"\"stop_reason\": ");
            let is_complete =
                if first.is_some() { contains(&answer.body, b"message_stop") } else { is_whole };
            if !answer.first.contains(" 200") || !is_complete {
                return Err(io::Error::other(format!(
                    "{} {}",
                    answer.first,
                    String::from_utf8_lossy(&answer.body)
                )));
            }
            seen.first.extend(first.map(|time| time.as_nanos() as u64));
            seen.total.push(total.as_nanos() as u64);
            if answer.is_last {
                return Ok(());
            }
        }
        Ok(())
    }
}
