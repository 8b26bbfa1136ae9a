//! Tests of a whole connection: hyper behind the gate, a client of raw frames before it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

use super::serve;
use crate::{
    config::{self, Http2Limits},
    net::{
        Answer, Body, Context, Done, Refusal, Sent, Service,
        drain::{Drain, Phase},
        h1,
        listener::Gate,
        serve::{Serving, Terms},
    },
    telemetry::ListenerStats,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// Answers `/r` after reading the body, `/e` at once without, and `/w` never.
#[derive(Default)]
struct Echo {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    sent: Vec<Sent>,
    waiting: usize,
    dropped: usize,
}

struct Report(Arc<Mutex<Seen>>);

impl Done for Report {
    fn sent(self, sent: Sent) {
        self.0.lock().sent.push(sent);
    }
}

struct Waiting(Arc<Mutex<Seen>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().dropped += 1;
    }
}

impl Service for Echo {
    type Done = Report;

    async fn call(&self, request: Request<Body>, _: Context) -> Answer<Report> {
        let (parts, body) = request.into_parts();
        match parts.uri.path() {
            "/r" => drop(body.collect(1024).await),
            "/w" => {
                self.seen.lock().waiting += 1;
                let _waiting = Waiting(Arc::clone(&self.seen));
                std::future::pending::<()>().await;
            }
            _ => drop(body),
        }
        Answer::new(Response::new(Body::full("hello")), Report(Arc::clone(&self.seen)))
    }

    fn refuse(&self, refusal: Refusal, _: Context) -> Answer<Report> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = refusal.status();
        Answer::new(response, Report(Arc::clone(&self.seen)))
    }
}

/// The client's end.
struct Client {
    io: DuplexStream,
    seen: Arc<Mutex<Seen>>,
    served: JoinHandle<()>,
    drain: Drain,
}

/// A frame as it was read: kind, stream, payload.
type Read = (u8, u32, Vec<u8>);

impl Client {
    async fn connect(limits: Http2Limits) -> Self {
        let (mut io, theirs) = tokio::io::duplex(256 * 1024);
        let (service, drain) = (Arc::new(Echo::default()), Drain::new());
        let seen = Arc::clone(&service.seen);
        let bounds = h1::Limits::downstream(&config::Limits::default(), config::Underscores::Drop);
        let bounds = Arc::new(bounds);
        let serving = Serving {
            service,
            gate: Gate::new(1, 0, Arc::new(ListenerStats::default())),
            terms: Terms::shared(Arc::clone(&bounds), None),
            buffers: Arc::default(),
            drain: drain.clone(),
        };
        let served = drain.spawn(async move {
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            serve(theirs, BytesMut::from(PREFACE), peer, &serving, (&bounds, &limits)).await;
        });
        io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { io, seen, served, drain }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// Reads one frame; `None` is the end.
    async fn read(&mut self) -> Option<Read> {
        let mut head = [0; 9];
        tokio::time::timeout(Duration::from_secs(5), self.io.read_exact(&mut head)).await.unwrap().ok()?;
        let [l2, l1, l0, kind, _, s3, s2, s1, s0] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l2, l1, l0]) as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        if kind == PING && head[4] == 0 {
            // The server may be gone already.
            let _ = self.io.write_all(&frame(PING, 1, 0, &payload)).await;
        }
        Some((kind, u32::from_be_bytes([s3, s2, s1, s0]), payload))
    }

    /// Reads to the end.
    async fn rest(&mut self) -> Vec<Read> {
        let mut all = Vec::new();
        while let Some(frame) = self.read().await {
            all.push(frame);
        }
        all
    }

    /// Reads until an answer's body has come for `stream`.
    async fn answer(&mut self, stream: u32) {
        loop {
            let (kind, id, payload) = self.read().await.unwrap();
            assert_ne!(kind, GOAWAY);
            if kind == DATA && id == stream && payload == b"hello" {
                return;
            }
        }
    }

    /// Polls until `is_true`.
    async fn until(&self, is_true: impl Fn(&Seen) -> bool) {
        let waited = async {
            while !is_true(&self.seen.lock()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), waited).await.unwrap();
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l2, l1, l0] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[l2, l1, l0, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// A request's head: POST (index 3 of HPACK's static table) or GET (2), http (6), `:path` (4) and `:authority` (1) as
/// literals.
fn head(method: u8, path: &str, flags: u8, stream: u32) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    let block = [&[0x80 | method, 0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'a']].concat();
    frame(HEADERS, 4 | flags, stream, &block)
}

fn get(path: &str, stream: u32) -> Vec<u8> {
    head(2, path, 1, stream)
}

/// The codes and last streams of the GOAWAY frames among `frames`.
fn goaways(frames: &[Read]) -> Vec<(u32, u32)> {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    frames.iter().filter(|(kind, ..)| *kind == GOAWAY).map(|(.., p)| (word(p), word(&p[4..]))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_told_why_and_its_requests_are_cancelled() {
    let mut client = Client::connect(Http2Limits::default()).await;
    client.write(&get("/w", 1)).await;
    client.until(|seen| seen.waiting == 1).await;

    client.write(&frame(PING, 0, 0, &[7; 8]).repeat(101)).await;

    let frames = client.rest().await;
    assert_eq!(goaways(&frames), [(1, 11)]);
    client.until(|seen| seen.dropped == 1).await;
    client.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flood_that_does_not_read_holds_its_connection_for_a_moment_only() {
    let mut client = Client::connect(Http2Limits::default()).await;
    let began = tokio::time::Instant::now();

    client.write(&frame(SETTINGS, 0, 0, &[]).repeat(200)).await;

    client.served.await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn streams_that_the_client_provokes_into_resets_are_a_flood() {
    let mut client = Client::connect(Http2Limits { resets: 10, ..Http2Limits::default() }).await;
    for i in 0..40 {
        // A window over 2^31-1 is an error of its stream (RFC 9113 section 6.9.1).
        let _ = client
            .io
            .write_all(&[get("/w", 2 * i + 1), frame(8, 0, 2 * i + 1, &[0x7f, 255, 255, 255])].concat())
            .await;
        tokio::task::yield_now().await;
    }

    let frames = client.rest().await;

    assert_eq!(goaways(&frames).last().map(|(_, code)| *code), Some(11));
    let resets = frames.iter().filter(|(kind, ..)| *kind == RST_STREAM).count();
    assert!((11..40).contains(&resets), "{resets}");
}

#[tokio::test(start_paused = true)]
async fn uploads_that_are_answered_early_never_close_a_connection() {
    let mut client = Client::connect(Http2Limits { resets: 3, ..Http2Limits::default() }).await;

    for i in 0..50 {
        let stream = 2 * i + 1;
        client.write(&[head(3, "/e", 0, stream), frame(DATA, 0, stream, b"part")].concat()).await;
        client.answer(stream).await;
    }

    assert_eq!(client.seen.lock().sent.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_had_all_its_streams_answers_them_and_ends_in_order() {
    let mut client = Client::connect(Http2Limits { total: 5, ..Http2Limits::default() }).await;
    let requests: Vec<_> = (0..7).flat_map(|i| get("/r", 2 * i + 1)).collect();

    client.write(&requests).await;

    let frames = client.rest().await;
    let answers = frames.iter().filter(|(kind, _, payload)| *kind == DATA && payload == b"hello").count();
    assert_eq!(answers, 7, "what was on its way is served as well");
    let goaways = goaways(&frames);
    assert_eq!(goaways.last(), Some(&(13, 0)), "{goaways:?}");
    client.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_asks_an_open_connection_to_leave() {
    let mut client = Client::connect(Http2Limits::default()).await;
    client.write(&get("/r", 1)).await;
    client.answer(1).await;

    client.drain.advance(Phase::Draining);

    assert_eq!(goaways(&client.rest().await).last(), Some(&(1, 0)));
    client.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_that_looks_away_does_not_hold_up_the_end() {
    let mut client = Client::connect(Http2Limits::default()).await;
    client.write(&get("/r", 1)).await;
    client.answer(1).await;
    let began = tokio::time::Instant::now();

    client.drain.advance(Phase::Closing);
    client.drain.finished().await;

    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(goaways(&client.rest().await).last(), Some(&(1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_is_waited_for_while_connections_close() {
    let mut client = Client::connect(Http2Limits::default()).await;
    client.write(&head(3, "/r", 0, 1)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.drain.advance(Phase::Closing);
    tokio::time::sleep(Duration::from_secs(5)).await;

    client.write(&frame(DATA, 1, 1, b"end")).await;

    let frames = client.rest().await;
    assert!(frames.contains(&(DATA, 1, b"hello".to_vec())), "{frames:?}");
    assert_eq!(goaways(&frames).last(), Some(&(1, 0)));
    client.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_a_request_body_are_reported() {
    let mut client = Client::connect(Http2Limits::default()).await;
    let upload = [head(3, "/r", 0, 1), frame(DATA, 0, 1, b"hello "), frame(DATA, 1, 1, b"you")].concat();

    client.write(&[upload, get("/r", 3)].concat()).await;
    client.until(|seen| seen.sent.len() == 2).await;

    let mut received: Vec<_> =
        client.seen.lock().sent.iter().map(|sent| (sent.received, sent.bytes)).collect();
    received.sort_unstable();
    assert_eq!(received, [(0, 5), (9, 5)]);
}
