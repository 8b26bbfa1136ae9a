//! Answers of an admin listener, whole or as a stream of server-sent events (WHATWG HTML section 9.2.6).
//!
//! Reading an event may be dropped at any await and begun anew: what has arrived stays. The parser of the Claude plane
//! serves calls, whose events are small; a snapshot of many routes is not.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use http::header;
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::endpoint::{Address, Endpoint};
use crate::cli::client::{read_fields, read_status};

/// From the first byte sent to the head of the answer, and for the whole of an answer that is no stream.
const DEADLINE: Duration = Duration::from_secs(5);

/// A stream that is silent for so long is dead: the listener sends something every second, or every 5 s in a tail.
const SILENCE: Duration = Duration::from_secs(40);

/// Bytes of an answer or of one event. A snapshot of 5,000 routes has some 4 MiB.
const MAX_BODY: usize = 16 << 20;

/// Longest line of chunked framing.
const MAX_LINE: usize = 256;

/// An event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: String,
}

/// Events of one answer, as they come.
pub(super) struct Events {
    body: Body,
    parser: Parser,
    ready: VecDeque<Event>,
}

impl Events {
    /// Asks for a stream.
    pub(super) async fn open(endpoint: &Endpoint, target: &str) -> anyhow::Result<Self> {
        let body = ask(endpoint, target, "text/event-stream").await?;
        Ok(Self { body, parser: Parser::default(), ready: VecDeque::new() })
    }

    /// The next event; none when the stream has ended.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let piece = timeout(SILENCE, self.body.piece()).await;
            let piece = piece.map_err(|_| anyhow!("nothing came for {} s", SILENCE.as_secs()))?;
            match piece.map_err(|error| anyhow!(lost(&error)))? {
                Some(piece) => self.parser.feed(&piece, &mut self.ready)?,
                None => return Ok(None),
            }
        }
    }
}

/// Asks for a JSON object.
pub(super) async fn object(
    endpoint: &Endpoint,
    target: &str,
) -> anyhow::Result<(Map<String, Value>, Vec<u8>)> {
    let mut body = ask(endpoint, target, "application/json").await?;
    let bytes = whole(&mut body, &endpoint.address).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok((members, bytes)),
        _ => bail!("{} answers, but not as the admin listener of a touchline", endpoint.address),
    }
}

async fn whole(body: &mut Body, address: &Address) -> anyhow::Result<Vec<u8>> {
    let read = async {
        let mut bytes = Vec::new();
        while let Some(piece) = body.piece().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_BODY {
                return Err(io::Error::new(ErrorKind::InvalidData, "the answer is over its limit"));
            }
        }
        Ok(bytes)
    };
    let read = timeout(DEADLINE, read).await;
    let read =
        read.with_context(|| format!("the answer of {address} takes longer than {} s", DEADLINE.as_secs()))?;
    read.map_err(|error| anyhow!("the answer of {address} was cut: {}", lost(&error)))
}

/// Sends a request and reads the head of the answer. Whatever is wrong is said in one sentence.
async fn ask(endpoint: &Endpoint, target: &str, wanted: &str) -> anyhow::Result<Body> {
    let address = &endpoint.address;
    let exchange = timeout(DEADLINE, exchange(endpoint, target, wanted)).await;
    let exchange =
        exchange.map_err(|_| anyhow!("{address} does not answer within {} s", DEADLINE.as_secs()))?;
    let (status, kind, mut body) = exchange?;
    match status {
        200 if kind.starts_with(wanted) => Ok(body),
        200 => bail!("{address} answers, but not as the admin listener of a touchline"),
        401 if endpoint.token.is_none() => bail!(
            "{address} wants a token: give --token-file, a configuration that has it, or TOUCHLINE_ADMIN_TOKEN"
        ),
        401 => bail!("{address} refuses the token"),
        404 | 405 => {
            let path = target.split('?').next().unwrap_or(target);
            bail!(
                "{address} is no admin listener of a touchline, or one of an older version: it has no {path}"
            )
        }
        status => {
            let answer = whole(&mut body, address).await.unwrap_or_default();
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            let detail = answer.get("detail").and_then(Value::as_str).unwrap_or("no reason given");
            bail!("{address} refuses with {status}: {detail}")
        }
    }
}

async fn exchange(endpoint: &Endpoint, target: &str, wanted: &str) -> anyhow::Result<(u16, String, Body)> {
    let address = &endpoint.address;
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
    let stream = stream.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => {
            anyhow!("nothing listens on {address}: does touchline run there, and is its port forwarded?")
        }
        _ => anyhow!("connecting to {address}: {error}"),
    })?;
    let authorization = endpoint.token.as_ref();
    let authorization =
        authorization.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nAccept: {wanted}\r\n{authorization}\r\n");
    let answer = async {
        let mut connection = BufReader::new(stream);
        connection.write_all(head.as_bytes()).await?;
        let status = read_status(&mut connection).await?;
        let fields = read_fields(&mut connection).await?;
        io::Result::Ok((status, fields, connection))
    };
    let (status, fields, connection) = answer.await.map_err(|error| match error.kind() {
        ErrorKind::InvalidData => anyhow!("what listens on {address} does not speak HTTP"),
        // A port that is forwarded is open here whether anything listens behind it or not.
        _ => anyhow!("{address} closes the connection without an answer: does touchline run behind it?"),
    })?;
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let framing = if matches!(status, 204 | 304) {
        Framing::Done
    } else if fields.contains_key(header::TRANSFER_ENCODING) {
        Framing::Chunks(Chunk::Size(Vec::new()))
    } else {
        text(header::CONTENT_LENGTH).parse().map_or(Framing::UntilClose, Framing::Length)
    };
    let kind = text(header::CONTENT_TYPE).to_ascii_lowercase();
    Ok((status, kind, Body { connection, framing }))
}

/// Why a stream broke, in the words that follow "no data since 14:05:53, retrying:".
fn lost(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => "the connection was closed".to_owned(),
        _ => error.to_string(),
    }
}

/// The body of an answer, as it comes.
struct Body {
    connection: BufReader<TcpStream>,
    framing: Framing,
}

/// How the end of a body is known (RFC 9112 section 6).
#[derive(Debug)]
enum Framing {
    Length(u64),
    Chunks(Chunk),
    UntilClose,
    Done,
}

/// Where in a chunked body one is.
#[derive(Debug)]
enum Chunk {
    /// In the line with the size, as far as it has come.
    Size(Vec<u8>),
    /// So many bytes of data are left.
    Data(u64),
    /// In the line end behind the data.
    End,
    /// In the fields behind the last chunk; whether the line has anything in it.
    Trailer(bool),
}

impl Body {
    /// The next bytes; none at the end.
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if matches!(self.framing, Framing::Done | Framing::Length(0)) {
                return Ok(None);
            }
            let arrived = self.connection.fill_buf().await?;
            if arrived.is_empty() {
                return match self.framing {
                    Framing::UntilClose => Ok(None),
                    _ => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
            let mut data = Vec::new();
            let used = self.framing.take(arrived, &mut data)?;
            self.connection.consume(used);
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

impl Framing {
    /// Takes what belongs to the body out of what has arrived, and returns how much of it was used.
    fn take(&mut self, arrived: &[u8], data: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Done => Ok(0),
            Self::UntilClose => {
                data.extend_from_slice(arrived);
                Ok(arrived.len())
            }
            Self::Length(left) => {
                let used = take_data(left, arrived, data);
                Ok(used)
            }
            Self::Chunks(_) => self.take_chunks(arrived, data),
        }
    }

    fn take_chunks(&mut self, arrived: &[u8], data: &mut Vec<u8>) -> io::Result<usize> {
        let mut used = 0;
        while let (Self::Chunks(chunk), Some(rest)) = (&mut *self, arrived.get(used..)) {
            let Some(&first) = rest.first() else { break };
            match chunk {
                Chunk::Data(0) => *chunk = Chunk::End,
                Chunk::Data(left) => {
                    used += take_data(left, rest, data);
                    continue;
                }
                Chunk::Size(line) if first == b'\n' => {
                    let size = chunk_size(line)?;
                    *chunk = if size == 0 { Chunk::Trailer(false) } else { Chunk::Data(size) };
                    used += 1;
                }
                Chunk::Size(line) if line.len() < MAX_LINE => {
                    line.push(first);
                    used += 1;
                }
                Chunk::Size(_) => return Err(malformed()),
                Chunk::End if first == b'\n' => {
                    *chunk = Chunk::Size(Vec::new());
                    used += 1;
                }
                Chunk::End if first == b'\r' => used += 1,
                Chunk::End => return Err(malformed()),
                Chunk::Trailer(false) if first == b'\n' => {
                    *self = Self::Done;
                    used += 1;
                }
                Chunk::Trailer(has_text) => {
                    *has_text = match first {
                        b'\n' => false,
                        b'\r' => *has_text,
                        _ => true,
                    };
                    used += 1;
                }
            }
        }
        Ok(used)
    }
}

fn take_data(left: &mut u64, arrived: &[u8], data: &mut Vec<u8>) -> usize {
    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
    data.extend(arrived.iter().take(most));
    *left = left.saturating_sub(most as u64);
    most
}

/// The size in the line before a chunk, without its extensions.
fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(line).map_err(|_| malformed())?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(malformed());
    }
    u64::from_str_radix(digits, 16).map_err(|_| malformed())
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is malformed")
}

/// Finds events in the pieces of a stream.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    after_return: bool,
    name: String,
    data: String,
    has_data: bool,
}

impl Parser {
    fn feed(&mut self, piece: &[u8], ready: &mut VecDeque<Event>) -> anyhow::Result<()> {
        for &byte in piece {
            let follows_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&String::from_utf8_lossy(&line), ready);
                    self.line = line;
                    self.line.clear();
                }
                byte => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > MAX_BODY {
                bail!("an event is over {} MiB", MAX_BODY >> 20);
            }
        }
        Ok(())
    }

    fn end_line(&mut self, line: &str, ready: &mut VecDeque<Event>) {
        if line.is_empty() {
            let event = Event { name: std::mem::take(&mut self.name), data: std::mem::take(&mut self.data) };
            if std::mem::take(&mut self.has_data) {
                ready.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // Comments keep the connection open; `id` is not sent back, as the listener begins anew with a whole state.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::{Chunk, Event, Framing, Parser};

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
        for piece in pieces {
            parser.feed(piece, &mut ready).unwrap();
        }
        ready.into_iter().map(|Event { name, data }| (name, data)).collect()
    }

    #[test]
    fn events_are_found_however_they_are_cut() {
        let stream = ": hello\n\nid: 7\nevent: snapshot\ndata: {\"a\":\ndata: \"\u{fc}\"}\n\r\nevent:change\r\ndata:x\r\rdata\n\nevent: lonely\n\n".as_bytes();
        let expected = [
            ("snapshot".to_owned(), "{\"a\":\n\"\u{fc}\"}".to_owned()),
            ("change".to_owned(), "x".to_owned()),
            (String::new(), String::new()),
        ];

        assert_eq!(events(&[stream]), expected);
        for at in 0..stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(events(&[head, tail]), expected, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&bytes), expected);
    }

    #[test]
    fn chunks_are_joined_however_they_are_cut() {
        let wire = b"5;x=\"1\"\r\nhello\r\n1\r\n \r\n0a\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nnext";
        let whole = |pieces: &[&[u8]]| {
            let mut framing = Framing::Chunks(Chunk::Size(Vec::new()));
            let (mut data, mut used) = (Vec::new(), 0);
            for piece in pieces {
                used += framing.take(piece, &mut data).unwrap();
            }
            assert!(matches!(framing, Framing::Done), "{framing:?}");
            (data, used)
        };
        let expected = (b"hello 0123456789".to_vec(), wire.len() - 4);

        assert_eq!(whole(&[wire]), expected);
        for at in 0..wire.len() {
            let (head, tail) = wire.split_at(at);
            assert_eq!(whole(&[head, tail]), expected, "cut at {at}");
        }
    }

    #[test]
    fn broken_chunks_are_errors() {
        for wire in
            [&b"x\r\n"[..], b"\r\n", b"5\r\nhello!", b"-1\r\n", b"10000000000000000\r\n", &[b'1'; 1000]]
        {
            let mut framing = Framing::Chunks(Chunk::Size(Vec::new()));

            assert!(framing.take(wire, &mut Vec::new()).is_err(), "{wire:?}");
        }
    }
}
