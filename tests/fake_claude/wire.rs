//! A client by hand that reads answers as they are on the wire, and the requests that the tests start from.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::claude::{Fake, Settings};

pub(crate) const HAIKU: &str = "claude-haiku-5-5";
pub(crate) const SONNET: &str = "claude-sonnet-5-5";
pub(crate) const OPUS: &str = "claude-opus-5-5";
pub(crate) const OLD_HAIKU: &str = "claude-haiku-4-5";
pub(crate) const OLD_SONNET: &str = "claude-sonnet-4-6";

pub(crate) const OLD: &str = "2023-06-01";
pub(crate) const NEW: &str = "2026-10-21";

/// An answer as read from the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the framing came to its end.
    pub(crate) is_complete: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Name and data of each event.
    pub(crate) fn events(&self) -> Vec<(String, Value)> {
        let text = String::from_utf8(self.body.clone()).unwrap().replace("\r\n", "\n").replace('\r', "\n");
        let blocks = text.split("\n\n").filter(|block| !block.is_empty());
        let read = |block: &str| {
            let (name, data) = block.split_once('\n').unwrap();
            let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            (name.strip_prefix("event: ").unwrap().to_owned(), data)
        };
        blocks.map(read).collect()
    }
}

/// Sends one request on its own connection; `fields` are header lines.
pub(crate) async fn send(fake: &Fake, method: &str, path: &str, fields: &[String], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(fake.addr).await.unwrap();
    exchange(&mut stream, method, path, fields, body).await
}

pub(crate) async fn exchange<S>(
    stream: &mut S,
    method: &str,
    path: &str,
    fields: &[String],
    body: &[u8],
) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: fake\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut bytes = Vec::new();
    // A reset is one of the faults under test.
    let _ = stream.read_to_end(&mut bytes).await;
    read_answer(&bytes)
}

pub(crate) fn read_answer(bytes: &[u8]) -> Answer {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        let head = String::from_utf8_lossy(bytes).into_owned();
        return Answer { status: 0, head, body: Vec::new(), is_complete: false };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut rest = &bytes[end + 4..];
    if let Some((_, length)) = head.split_once("Content-Length: ") {
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        return Answer { status, head, body: rest.to_vec(), is_complete: rest.len() == length };
    }
    let (mut body, mut is_complete) = (Vec::new(), false);
    while let Some(line) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        is_complete = size == 0;
        let chunk = &rest[line + 2..];
        body.extend_from_slice(&chunk[..size.min(chunk.len())]);
        rest = chunk.get(size + 2..).unwrap_or_default();
    }
    Answer { status, head, body, is_complete }
}

pub(crate) fn fields(version: &str) -> Vec<String> {
    vec!["X-Api-Key: sk-one".to_owned(), format!("anthropic-version: {version}")]
}

pub(crate) async fn post(fake: &Fake, version: &str, body: &Value) -> Answer {
    send(fake, "POST", "/v1/messages", &fields(version), body.to_string().as_bytes()).await
}

/// A plain request with some fields replaced.
pub(crate) fn request(model: &str, patch: &Value) -> Value {
    let mut body =
        json!({"model": model, "max_tokens": 2000, "messages": [{"role": "user", "content": "Hello é"}]});
    for (name, value) in patch.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(crate) async fn start() -> Fake {
    Fake::start(Settings::default()).await.unwrap()
}
