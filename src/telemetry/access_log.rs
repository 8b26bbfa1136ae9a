//! The access log: one JSON line per request, written by a thread of its own.
//!
//! Workers hand the record over through a bounded channel and never wait: when the writer cannot follow, lines are
//! dropped and counted. Failures and slow requests are always offered. Of the rest the first `per_second` of each
//! second are, and above that one in N, where N is a power of two that follows the rate; `sample_rate` on the line is
//! N, so that sums over lines stay right. Lines hold no bodies, no query and no credentials; control characters are
//! escaped and a field is at most 1 KiB, so that no request can forge or flood a line.

use std::{
    fmt::{self, Write as _},
    io::Write,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use crate::config::{AccessLog as Config, PathDetail};

mod call;

use super::{
    claude::Call,
    counters::Counter,
    record::{Fwd, HitSource, Kind, Outcome, Reason, Record},
    routes::Times,
};

/// About 100 KiB of records: a burst of a few milliseconds.
const QUEUE: usize = 512;
const FIELD_BYTES: usize = 1024;
const BUFFER_BYTES: usize = 8 * 1024;

/// Where the lines go.
pub type Sink = Box<dyn Write + Send>;

/// The workers' side of the access log.
#[derive(Debug)]
pub(super) struct AccessLog {
    enabled: AtomicBool,
    tx: OnceLock<SyncSender<Message>>,
    writer: Mutex<Writer>,
    sampler: Sampler,
    full_paths: AtomicBool,
    pub(super) written: Arc<Counter>,
    pub(super) dropped: Counter,
}

/// The other side, before and after its thread was started.
enum Writer {
    None,
    Waiting(Sink),
    Running(Receiver<()>),
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Waiting(_) => "Waiting",
            Self::Running(_) => "Running",
        })
    }
}

#[derive(Debug)]
enum Message {
    Line(Box<Line>),
    Call(Box<Call>, SystemTime, u32),
    Flush(SyncSender<()>),
}

#[derive(Debug)]
struct Line {
    record: Record,
    at: SystemTime,
    total_us: u64,
    head_us: u64,
    is_slow: bool,
    sample_rate: u32,
    full_path: bool,
}

impl AccessLog {
    /// Without a sink nothing is ever logged; with one the writer thread starts as soon as the log is switched on.
    pub(super) fn new(config: &Config, sink: Option<Sink>) -> Self {
        let log = Self {
            enabled: AtomicBool::new(false),
            tx: OnceLock::new(),
            writer: Mutex::new(sink.map_or(Writer::None, Writer::Waiting)),
            sampler: Sampler::new(config.per_second),
            full_paths: AtomicBool::new(false),
            written: Arc::new(Counter::new()),
            dropped: Counter::new(),
        };
        log.apply(config);
        log
    }

    /// Takes over a configuration, at the start or later.
    pub(super) fn apply(&self, config: &Config) {
        self.sampler.per_second.store(config.per_second, Relaxed);
        self.full_paths.store(config.paths == PathDetail::Full, Relaxed);
        if config.enabled {
            self.start_writer();
        }
        self.enabled.store(config.enabled, Relaxed);
    }

    fn start_writer(&self) {
        let mut writer = self.writer.lock();
        match std::mem::replace(&mut *writer, Writer::None) {
            Writer::Waiting(sink) => {
                if let Some((tx, ended)) = spawn_writer(sink, Arc::clone(&self.written)) {
                    let _ = self.tx.set(tx);
                    *writer = Writer::Running(ended);
                }
            }
            other => *writer = other,
        }
    }

    /// Hands the record to the writer if it is to be logged.
    pub(super) fn offer(&self, record: Record, times: &Times, second: u32, is_slow: bool) {
        let Some(tx) = self.tx.get().filter(|_| self.enabled.load(Relaxed)) else { return };
        let sample_rate = if is_slow || record.is_error() { 1 } else { self.sampler.take(second) };
        if sample_rate == 0 {
            return;
        }
        let line = Line {
            record,
            at: SystemTime::now(),
            total_us: times.total_us,
            head_us: times.head_us,
            is_slow,
            sample_rate,
            full_path: self.full_paths.load(Relaxed),
        };
        if tx.try_send(Message::Line(Box::new(line))).is_err() {
            self.dropped.increment();
        }
    }

    /// Hands the record of a call to the writer if it is to be logged.
    pub(super) fn offer_call(&self, call: Call, second: u32) {
        let Some(tx) = self.tx.get().filter(|_| self.enabled.load(Relaxed)) else { return };
        let is_error = call.status >= 400 || call.outcome.is_failure();
        let sample_rate = if is_error { 1 } else { self.sampler.take(second) };
        if sample_rate == 0 {
            return;
        }
        if tx.try_send(Message::Call(Box::new(call), SystemTime::now(), sample_rate)).is_err() {
            self.dropped.increment();
        }
    }

    /// Waits until every line offered so far is written, at most `wait`. Blocks: for shutdown and tests.
    pub(super) fn flush(&self, wait: Duration) -> bool {
        let Some(tx) = self.tx.get() else { return true };
        let (done, flushed) = sync_channel(1);
        // A full queue is tried again, as a blocking send has no deadline.
        for _ in 0..wait.as_millis().max(1) {
            if tx.try_send(Message::Flush(done.clone())).is_ok() {
                return flushed.recv_timeout(wait).is_ok();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        drop(self.tx.take());
        if let Writer::Running(ended) = self.writer.get_mut() {
            // A reader of our output that has stopped must not keep the process from ending.
            let _ = ended.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// Decides which ordinary requests are logged.
#[derive(Debug)]
struct Sampler {
    per_second: AtomicU32,
    second: AtomicU32,
    seen: AtomicU32,
    /// One in this many from the start of the second, by the rate of the one before; a power of two.
    floor: AtomicU32,
}

impl Sampler {
    fn new(per_second: u32) -> Self {
        Self {
            per_second: AtomicU32::new(per_second),
            second: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            floor: AtomicU32::new(1),
        }
    }

    /// How many requests this one stands for; 0 when it is not logged.
    fn take(&self, second: u32) -> u32 {
        let per_second = self.per_second.load(Relaxed);
        if per_second == 0 {
            return 0;
        }
        if second > self.second.load(Relaxed) && self.second.swap(second, Relaxed) != second {
            let rate = self.seen.swap(0, Relaxed);
            self.floor.store(rate.div_ceil(per_second).clamp(1, 1 << 30).next_power_of_two(), Relaxed);
        }
        let seen = self.seen.fetch_add(1, Relaxed);
        let floor = self.floor.load(Relaxed);
        if seen & (floor - 1) != 0 {
            return 0;
        }
        if seen / floor < per_second {
            return floor;
        }
        // The rate is rising: thin out further, twice with every doubling, until the next second knows better.
        let rate = (seen / per_second + 1).min(1 << 30).next_power_of_two();
        if seen & (rate - 1) == 0 { rate } else { 0 }
    }
}

fn spawn_writer(sink: Sink, written: Arc<Counter>) -> Option<(SyncSender<Message>, Receiver<()>)> {
    let (tx, rx) = sync_channel(QUEUE);
    let (end, ended) = sync_channel(1);
    let thread = std::thread::Builder::new().name("access-log".to_owned()).stack_size(128 * 1024);
    let spawned = thread.spawn(move || {
        write_lines(&rx, sink, &written);
        let _ = end.send(());
    });
    match spawned {
        Ok(_) => Some((tx, ended)),
        Err(error) => {
            tracing::error!(%error, "the access log has no thread and stays empty");
            None
        }
    }
}

/// Writes lines until the other side is gone; flushes whenever there is nothing to write.
fn write_lines(rx: &Receiver<Message>, mut sink: Sink, written: &Counter) {
    let mut buffer = String::with_capacity(BUFFER_BYTES);
    loop {
        let message = match rx.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                write_out(&mut sink, &mut buffer);
                let Ok(message) = rx.recv() else { break };
                message
            }
        };
        match message {
            Message::Line(line) => {
                line.write_to(&mut buffer);
                written.increment();
            }
            Message::Call(call, at, sample_rate) => {
                call::write_to(&mut buffer, &call, at, sample_rate);
                written.increment();
            }
            Message::Flush(done) => {
                write_out(&mut sink, &mut buffer);
                let _ = done.send(());
            }
        }
        if buffer.len() >= BUFFER_BYTES / 2 {
            write_out(&mut sink, &mut buffer);
        }
    }
    write_out(&mut sink, &mut buffer);
}

/// A sink that fails has no one to tell: telemetry never fails a request, and the log is where it would be said.
fn write_out(sink: &mut Sink, buffer: &mut String) {
    if !buffer.is_empty() {
        let _ = sink.write_all(buffer.as_bytes()).and_then(|()| sink.flush());
        buffer.clear();
    }
}

impl Line {
    fn write_to(&self, out: &mut String) {
        let record = &self.record;
        out.push_str("{\"ts\":\"");
        write_timestamp(out, self.at);
        out.push_str("\",\"http.request.method\":\"");
        out.push_str(record.method.as_str());
        out.push_str("\",\"http.route\":");
        write_string(out, record.route.template().as_bytes());
        if let Some(path) = record.path.as_ref().filter(|_| self.full_path) {
            let without_query = path.path().as_bytes();
            out.push_str(",\"url.path\":");
            write_string(out, without_query);
        }
        let _ = write!(out, ",\"http.response.status_code\":{}", record.status);
        let words = [
            ("cache", Some(record.cache.as_str())),
            ("source", record.source.map(HitSource::as_str)),
            ("fwd", record.fwd.map(Fwd::as_str)),
            ("reason", record.reason.map(Reason::as_str)),
            ("kind", Some(record.kind.as_str()).filter(|_| record.kind != Kind::Plain)),
            ("outcome", Some(record.outcome.as_str()).filter(|_| record.outcome != Outcome::Done)),
        ];
        for (name, word) in words.into_iter().filter_map(|(name, word)| Some((name, word?))) {
            let _ = write!(out, ",\"{name}\":\"{word}\"");
        }
        if let Outcome::Error(reason) = record.outcome {
            let _ = write!(out, ",\"error\":\"{reason}\"");
        }
        for (name, us) in [("ms", self.total_us), ("head_ms", self.head_us)] {
            let _ = write!(out, ",\"{name}\":{}.{:03}", us / 1000, us % 1000);
        }
        let _ = write!(out, ",\"bytes_in\":{},\"bytes_out\":{}", record.bytes_in, record.bytes_out);
        if self.is_slow {
            out.push_str(",\"slow\":true");
        }
        if !record.trace.is_none() {
            let _ = write!(out, ",\"trace_id\":\"{}\"", record.trace);
        }
        let _ = writeln!(out, ",\"sample_rate\":{}}}", self.sample_rate);
    }
}

/// A JSON string of at most 1 KiB of input. Besides what JSON demands, every control and line-separating character is
/// escaped; bytes that are no UTF-8 become the replacement character.
fn write_string(out: &mut String, bytes: &[u8]) {
    let kept = bytes.get(..FIELD_BYTES).unwrap_or(bytes);
    out.push('"');
    for char in String::from_utf8_lossy(kept).chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            char if char.is_control()
                || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    if kept.len() < bytes.len() {
        out.push('…');
    }
    out.push('"');
}

/// RFC 3339 with milliseconds, in UTC.
pub(super) fn write_timestamp(out: &mut String, at: SystemTime) {
    let at = time::OffsetDateTime::from(at);
    let (date, clock) = (at.date(), at.time());
    let _ = write!(out, "{:04}-{:02}-{:02}T", date.year(), u8::from(date.month()), date.day());
    let _ = write!(out, "{:02}:{:02}:{:02}", clock.hour(), clock.minute(), clock.second());
    let _ = write!(out, ".{:03}Z", clock.millisecond());
}

#[cfg(test)]
mod tests;
