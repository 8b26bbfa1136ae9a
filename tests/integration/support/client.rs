//! A small HTTP/1 client that shows everything: interim answers, every field line, and whether a body was whole.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    backend::{find, read_head},
    within,
};

/// An answer as the client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// False when the connection ended before the body did.
    pub(crate) is_whole: bool,
    /// Heads of interim answers before this one.
    pub(crate) interim: Vec<String>,
}

impl Answer {
    /// The values of all fields with this name.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    /// The one value of a field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        match self.fields(name).as_slice() {
            [] => "",
            [one] => one,
            many => panic!("{name} {many:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `reason` of a problem document.
    pub(crate) fn reason(&self) -> String {
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        document["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and reason of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.reason())
    }

    /// What the cache did.
    pub(crate) fn cache(&self) -> &str {
        self.field("x-cache-status")
    }

    /// The last member of `Cache-Status`.
    pub(crate) fn detail(&self) -> &str {
        self.fields("cache-status").last().copied().unwrap_or_default()
    }
}

/// The values of all fields with this name in a head.
pub(crate) fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

/// One connection to the proxy.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends bytes as they are, to a peer that may be gone.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("sending", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Sends a GET.
    pub(crate) async fn ask(&mut self, target: &str) {
        self.send(get_text(target, &[])).await;
    }

    /// Sends a GET and reads its answer.
    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.ask(target).await;
        self.answer().await
    }

    /// Reads the answer to anything but a HEAD.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer(false).await.expect("an answer")
    }

    /// Reads the answer to a HEAD.
    pub(crate) async fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).await.expect("an answer")
    }

    /// Reads an answer; none when the connection ends before a head.
    pub(crate) async fn try_answer(&mut self, is_head: bool) -> Option<Answer> {
        let mut interim = Vec::new();
        let (status, head) = loop {
            let head = self.head().await?;
            let status: u16 = head.get(9..12).and_then(|text| text.parse().ok()).unwrap();
            if !(100..200).contains(&status) || status == 101 {
                break (status, head);
            }
            interim.push(head);
        };
        let mut answer = Answer { status, head, body: Vec::new(), is_whole: true, interim };
        if is_head || matches!(status, 101 | 204 | 304) {
            return Some(answer);
        }
        if let [length] = answer.fields("content-length").as_slice() {
            let mut left: usize = length.parse().unwrap();
            while left > 0 {
                if self.buffer.is_empty() && !self.fill().await {
                    break;
                }
                let take = left.min(self.buffer.len());
                answer.body.extend(self.buffer.drain(..take));
                left -= take;
            }
            answer.is_whole = left == 0;
        } else if answer.fields("transfer-encoding").is_empty() {
            while self.fill().await {}
            answer.body.append(&mut self.buffer);
        } else {
            answer.is_whole = false;
            while let Some(chunk) = self.chunk().await {
                if chunk.is_empty() {
                    answer.is_whole = true;
                    break;
                }
                answer.body.extend(chunk);
            }
        }
        Some(answer)
    }

    /// Reads one head; none when the connection ends first.
    pub(crate) async fn head(&mut self) -> Option<String> {
        within("a head", read_head(&mut self.stream, &mut self.buffer)).await
    }

    /// Reads one chunk; an empty one is the last, none is a cut.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            match find(&self.buffer, b"\r\n") {
                Some(end) => break end,
                None if !self.fill().await => return None,
                None => {}
            }
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
        while self.buffer.len() < size + 2 {
            if !self.fill().await {
                return None;
            }
        }
        let data = self.buffer.drain(..size).collect();
        self.buffer.drain(..2);
        Some(data)
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill().await, "the connection ended early: {:?}", self.buffer);
        }
        self.buffer.drain(..count).collect()
    }

    /// Reads to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads once; false at the end of the connection.
    pub(crate) async fn fill(&mut self) -> bool {
        matches!(within("bytes", self.stream.read_buf(&mut self.buffer)).await, Ok(read) if read > 0)
    }
}

/// The text of a GET with more field lines.
pub(crate) fn get_text(target: &str, fields: &[&str]) -> String {
    request_text("GET", target, fields, "")
}

/// The text of a request.
pub(crate) fn request_text(method: &str, target: &str, fields: &[&str], body: &str) -> String {
    let mut lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    if !body.is_empty() {
        lines.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    format!("{method} {target} HTTP/1.1\r\nHost: coach.example\r\n{lines}\r\n{body}")
}

/// One GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    Client::connect(address).await.get(target).await
}

/// One GET with more field lines on a connection of its own.
pub(crate) async fn get_with(address: SocketAddr, target: &str, fields: &[&str]) -> Answer {
    raw(address, get_text(target, fields)).await
}

/// One request on a connection of its own.
pub(crate) async fn request(address: SocketAddr, method: &str, target: &str, body: &str) -> Answer {
    raw(address, request_text(method, target, &[], body)).await
}

/// Literal bytes on a connection of their own, and the answer to them.
pub(crate) async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(&bytes).await;
    let is_head = bytes.as_ref().starts_with(b"HEAD ");
    client.try_answer(is_head).await.expect("an answer")
}
