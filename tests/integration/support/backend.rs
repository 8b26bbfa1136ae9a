//! A backend that records every byte it sees and answers by a script, over raw TCP.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::Instant,
};

use super::spawn;

/// One request as the backend read it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Its place on its connection, counted from 0.
    pub(crate) nth: usize,
    /// The head, byte for byte.
    pub(crate) head: String,
    /// The decoded body.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(crate) fn method(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The values of all fields with this name.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let split = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        split.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The one value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        match self.fields(name).as_slice() {
            [] => None,
            [one] => Some(one),
            many => panic!("{name} {many:?}"),
        }
    }
}

/// What the backend does next on the connection of a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes one by one with a pause.
    Trickle(Vec<u8>, Duration),
    /// Sends these bytes over and over until the other side is gone.
    Endless(Vec<u8>),
    /// Rests.
    Wait(Duration),
    /// Waits for a permit that the test adds.
    Gate(Arc<Semaphore>),
    /// Waits until the other side is gone.
    Hang,
    /// Closes in an orderly way.
    Close,
    /// Closes with a reset.
    Reset,
}

pub(crate) type Script = Vec<Step>;

/// A script of literal bytes after which the connection stays open.
pub(crate) fn send(text: impl Into<Vec<u8>>) -> Script {
    vec![Step::Send(text.into())]
}

/// A whole answer; `fields` are lines without line ends.
pub(crate) fn answer(status: &str, fields: &[&str], body: &str) -> Script {
    send(text(status, fields, body))
}

/// The bytes of a whole answer.
pub(crate) fn text(status: &str, fields: &[&str], body: &str) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A plain answer.
pub(crate) fn ok(body: &str) -> Script {
    answer("200 OK", &[], body)
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<Request>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    left: Mutex<Vec<Instant>>,
}

/// A running backend; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Backend {
    /// Answers every request by what `handler` says of it, once its body was read.
    #[expect(clippy::unused_async, reason = "it spawns, so it may only be called within a runtime")]
    pub(crate) async fn start(handler: impl Fn(&Request) -> Script + Send + Sync + 'static) -> Self {
        let state = Arc::new(State::default());
        let handler = Arc::new(handler);
        let seen = Arc::clone(&state);
        let serve = move |stream: TcpStream, _| {
            let (state, handler) = (Arc::clone(&seen), Arc::clone(&handler));
            async move {
                let mut stream = stream;
                if play(&mut stream, &state, &*handler).await.is_none() {
                    stream.set_zero_linger().unwrap();
                }
            }
        };
        Self::listen(listen("127.0.0.1:0".parse().unwrap()), state, serve)
    }

    /// Hands every connection to `serve`, which does with it what it likes.
    #[expect(clippy::unused_async, reason = "it spawns, so it may only be called within a runtime")]
    pub(crate) async fn raw<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::listen(listen("127.0.0.1:0".parse().unwrap()), Arc::new(State::default()), serve)
    }

    fn listen<F, Fut>(listener: TcpListener, state: Arc<State>, serve: F) -> Self
    where
        F: Fn(TcpStream, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let backend = Self { address: listener.local_addr().unwrap(), state: Arc::clone(&state) };
        spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                stream.set_nodelay(true).unwrap();
                let connection = state.accepted.fetch_add(1, SeqCst);
                state.open.fetch_add(1, SeqCst);
                let serving = serve(stream, connection);
                let state = Arc::clone(&state);
                spawn(async move {
                    serving.await;
                    state.open.fetch_sub(1, SeqCst);
                });
            }
        });
        backend
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().clone()
    }

    /// The one request.
    pub(crate) fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().unwrap()
    }

    /// How many requests came.
    pub(crate) fn count(&self) -> usize {
        self.state.requests.lock().len()
    }

    /// Connections accepted so far, with those of the probe that sends nothing.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(SeqCst)
    }

    /// Connections that a request came on.
    pub(crate) fn used(&self) -> usize {
        self.state.requests.lock().iter().filter(|request| request.nth == 0).count()
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(SeqCst)
    }

    /// When the other side left in the middle of an exchange, one time per case.
    pub(crate) fn left(&self) -> Vec<Instant> {
        self.state.left.lock().clone()
    }
}

/// A listening socket on an address that may have been in use a moment ago.
pub(crate) fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(4096).unwrap()
}

/// Serves one connection by script; `None` asks for a reset.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    state: &State,
    handler: &(dyn Fn(&Request) -> Script + Send + Sync),
) -> Option<()> {
    let mut buffer = Vec::new();
    for nth in 0.. {
        let Some(head) = read_head(stream, &mut buffer).await else { return Some(()) };
        let mut request = Request { nth, head, body: Vec::new() };
        request.body = match read_body(stream, &mut buffer, &request).await {
            Some(body) => body,
            None => {
                state.left.lock().push(Instant::now());
                return Some(());
            }
        };
        let script = handler(&request);
        state.requests.lock().push(request);
        for step in script {
            match step {
                Step::Reset => return None,
                Step::Close => return Some(()),
                step => {
                    if perform(stream, step).await.is_err() {
                        state.left.lock().push(Instant::now());
                        return Some(());
                    }
                }
            }
        }
    }
    Some(())
}

async fn perform<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, step: Step) -> Result<(), ()> {
    match step {
        Step::Send(bytes) => stream.write_all(&bytes).await.map_err(|_| ()),
        Step::Trickle(bytes, pause) => {
            for byte in bytes {
                stream.write_all(&[byte]).await.map_err(|_| ())?;
                tokio::time::sleep(pause).await;
            }
            Ok(())
        }
        Step::Endless(bytes) => loop {
            stream.write_all(&bytes).await.map_err(|_| ())?;
        },
        Step::Wait(time) => tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            _ = stream.read_u8() => Err(()),
        },
        Step::Gate(gate) => tokio::select! {
            permit = gate.acquire() => { permit.unwrap().forget(); Ok(()) }
            _ = stream.read_u8() => Err(()),
        },
        Step::Hang => {
            let _ = stream.read_u8().await;
            Err(())
        }
        Step::Close | Step::Reset => Ok(()),
    }
}

/// Reads one head; `None` when the connection ends before it.
pub(crate) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Some(String::from_utf8_lossy(&head).into_owned());
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    request: &Request,
) -> Option<Vec<u8>> {
    if let Some(length) = request.field("content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        return Some(buffer.drain(..length).collect());
    }
    if request.field("transfer-encoding").is_none() {
        return Some(Vec::new());
    }
    let mut body = Vec::new();
    loop {
        while find(buffer, b"\r\n").is_none() {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        let end = find(buffer, b"\r\n").unwrap();
        let line: Vec<u8> = buffer.drain(..end + 2).collect();
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
        while buffer.len() < size + 2 {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        body.extend(buffer.drain(..size));
        buffer.drain(..2);
        if size == 0 {
            return Some(body);
        }
    }
}

/// Where `wanted` begins.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Serves requests by script on a unix socket.
pub(crate) fn start_unix(
    path: &std::path::Path,
    handler: impl Fn(&Request) -> Script + Send + Sync + 'static,
) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let handler = Arc::new(handler);
    spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let handler = Arc::clone(&handler);
            spawn(async move {
                let _ = play(&mut stream, &State::default(), &*handler).await;
            });
        }
    });
}
