//! A tiny HTTP/1.1 client with one kept-alive connection, for the demo's pretended users and for orders to the control
//! listener. What reads streams has the heads of their answers read here.
//!
//! It speaks real HTTP over a real socket, so that the demo shows what any client would see. It knows the framing that
//! the proxy writes (RFC 9112, section 6: a length, chunks, or the close) and nothing else.

use std::{
    fmt::Display,
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::{Instant, timeout},
};

/// The whole exchange; the slowest route of the demo's backend, a stream, takes about five seconds.
const DEADLINE: Duration = Duration::from_secs(15);
const MAX_LINE: u64 = 16 * 1024;
const MAX_FIELDS: usize = 100;
const MAX_INTERIM: usize = 16;
const MAX_BODY: usize = 1024 * 1024;

/// One request.
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) bearer: Option<String>,
    /// Further fields, in wire form.
    pub(super) fields: &'static str,
    pub(super) body: Option<String>,
}

impl Call {
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), bearer: None, fields: "", body: None }
    }

    pub(super) fn post(target: impl Into<String>, body: String) -> Self {
        Self { method: "POST", target: target.into(), bearer: None, fields: "", body: Some(body) }
    }

    pub(super) fn with_bearer(self, token: impl Into<String>) -> Self {
        Self { bearer: Some(token.into()), ..self }
    }

    /// The same with further fields, each with its line end.
    pub(super) fn with_fields(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    fn head(&self, authority: &dyn Display) -> String {
        let authorization = self.bearer.as_ref();
        let authorization =
            authorization.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let content = self.body.as_ref().map_or_else(String::new, |body| {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        });
        format!(
            "{} {} HTTP/1.1\r\nHost: {authority}\r\n{authorization}{}{content}\r\n",
            self.method, self.target, self.fields
        )
    }
}

/// One answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// From the first byte sent to the whole head received.
    pub(super) head_after: Duration,
}

/// Sends calls to one address, one after the other. A failed call closes the connection; the next one opens another.
pub(super) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Opens the connection that the next call goes over.
    pub(super) async fn connect(&mut self) -> Result<()> {
        self.connection =
            Some(timeout(DEADLINE, open(self.address)).await.map_err(|_| ErrorKind::TimedOut)??);
        Ok(())
    }

    /// Sends `call` and reads the whole answer, within a deadline.
    pub(super) async fn send(&mut self, call: &Call) -> Result<Reply> {
        let kept = self.connection.take();
        let deadline = timeout(DEADLINE, exchange(kept, self.address, call)).await;
        let (connection, reply) = deadline.map_err(|_| ErrorKind::TimedOut)??;
        if keeps_alive(&reply.headers) {
            self.connection = Some(connection);
        }
        Ok(reply)
    }
}

/// Sends `call` to a host by its name, on a connection of its own, and reads the status of the answer. The rest of it is
/// left unread. Whoever calls this sets a deadline.
pub(super) async fn ask_status((host, port): (&str, u16), authority: &str, call: &Call) -> Result<u16> {
    let mut connection = BufReader::new(TcpStream::connect((host, port)).await?);
    connection.write_all(call.head(&authority).as_bytes()).await?;
    for _ in 0..MAX_INTERIM {
        let status = read_status(&mut connection).await?;
        if !(100..200).contains(&status) {
            return Ok(status);
        }
        read_fields(&mut connection).await?;
    }
    Err(malformed("interim answers"))
}

async fn open(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

async fn exchange(
    kept: Option<BufReader<TcpStream>>,
    address: SocketAddr,
    call: &Call,
) -> Result<(BufReader<TcpStream>, Reply)> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => open(address).await?,
    };
    let started = Instant::now();
    let mut bytes = call.head(&address);
    bytes.push_str(call.body.as_deref().unwrap_or_default());
    connection.write_all(bytes.as_bytes()).await?;

    let status = read_status(&mut connection).await?;
    let headers = read_fields(&mut connection).await?;
    let head_after = started.elapsed();
    let body = read_body(&mut connection, status, &headers).await?;
    Ok((connection, Reply { status, headers, body, head_after }))
}

/// Reads the first line of an answer and returns its status.
pub(super) async fn read_status(connection: &mut BufReader<TcpStream>) -> Result<u16> {
    let line = read_line(connection).await?;
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let code = rest.and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).ok_or_else(|| malformed("status line"))
}

/// Reads the fields of an answer, to the empty line behind them.
pub(super) async fn read_fields(connection: &mut BufReader<TcpStream>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for _ in 0..=MAX_FIELDS {
        let line = read_line(connection).await?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("header field"))?;
        let name = HeaderName::try_from(name).map_err(|_| malformed("header name"))?;
        let value = HeaderValue::try_from(value.trim()).map_err(|_| malformed("header value"))?;
        headers.append(name, value);
    }
    Err(malformed("head"))
}

async fn read_body(
    connection: &mut BufReader<TcpStream>,
    status: u16,
    headers: &HeaderMap,
) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if matches!(status, 204 | 304) {
        return Ok(body);
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        loop {
            let line = read_line(connection).await?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| malformed("chunk size"))?;
            read_exactly(connection, size, &mut body).await?;
            if !read_line(connection).await?.is_empty() {
                return Err(malformed("chunk end"));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }
    match headers.get(header::CONTENT_LENGTH) {
        Some(length) => {
            let length = length.to_str().ok().and_then(|text| text.parse().ok());
            read_exactly(connection, length.ok_or_else(|| malformed("length"))?, &mut body).await?;
        }
        None => {
            connection.take(MAX_BODY as u64).read_to_end(&mut body).await?;
        }
    }
    Ok(body)
}

async fn read_exactly(connection: &mut BufReader<TcpStream>, size: usize, body: &mut Vec<u8>) -> Result<()> {
    if body.len().saturating_add(size) > MAX_BODY {
        return Err(malformed("body over its limit"));
    }
    let read = connection.take(size as u64).read_to_end(body).await?;
    if read == size { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

async fn read_line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    connection.take(MAX_LINE).read_line(&mut line).await?;
    match line.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        None if line.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
        None => Err(malformed("line end")),
    }
}

fn keeps_alive(headers: &HeaderMap) -> bool {
    let closes =
        headers.get(header::CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let delimited =
        headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    delimited && !closes
}

fn malformed(part: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("malformed answer: {part}"))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::{Call, Client};

    /// Answers the connections it accepts with the given bytes, each after one read.
    async fn scripted(answers: &'static [&'static [&'static str]]) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = async move {
            for connection in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                for answer in *connection {
                    let mut request = [0; 4096];
                    assert!(stream.read(&mut request).await.unwrap() > 0);
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        };
        tokio::task::spawn_local(script);
        address
    }

    async fn local(test: impl Future<Output = ()>) {
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn reads_a_length_then_chunks_on_one_connection() {
        local(async {
            let address = scripted(&[&[
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Cache-Status: hit\r\n\r\nhi",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            ]])
            .await;
            let mut client = Client::new(address);

            let first = client.send(&Call::get("/a")).await.unwrap();
            let second = client.send(&Call::get("/b")).await.unwrap();

            assert_eq!((first.status, first.body.as_slice()), (200, b"hi".as_slice()));
            assert_eq!(first.headers["x-cache-status"], "hit");
            assert_eq!(second.body, b"abcd");
        })
        .await;
    }

    #[tokio::test]
    async fn a_cut_answer_is_an_error_and_the_next_call_opens_a_new_connection() {
        local(async {
            let address = scripted(&[
                &["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"],
                &["HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"],
            ])
            .await;
            let mut client = Client::new(address);

            let first = client.send(&Call::get("/a")).await;
            let second = client.send(&Call::get("/b")).await.unwrap();

            assert!(first.is_err());
            assert_eq!(second.status, 204);
        })
        .await;
    }
}
