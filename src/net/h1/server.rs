//! A client's HTTP/1 connection: heads in, answers out, one request at a time.
//!
//! Everything runs in the connection's own task: the service is polled here, its answer's body is polled here, and while
//! either makes the client wait the socket is watched, so that a client that leaves takes its request with it at once.

use std::{
    future::poll_fn,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use http::{Method, Request, Version, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Limits,
    framing::{self, Framing},
    head::{self, RequestHead},
    incoming::{BodyState, Incoming, Shared},
    send::{Head, Sender},
};
use crate::net::{
    Answer, Body, Context, Done, End, InterimSink, Refusal, Sent, Service,
    buffers::Buffers,
    deadline::Deadline,
    drain::{Drain, Phase},
    request,
    tunnel::{Relay, TunnelSlot},
    wire::Io,
};

/// The connection preface of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many bytes of later requests are read ahead while one is served.
const READ_AHEAD: usize = 16 * 1024;

/// How much of an unread body is read away so that the connection can be kept, and at most how long after the last answer
/// a closing connection is read, so that the answer is not lost to a reset.
const DRAIN_BYTES: u64 = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// What a connection is served with.
pub struct Settings<S> {
    /// Who answers.
    pub service: Arc<S>,
    /// The limits.
    pub limits: Arc<Limits>,
    /// True when a client may speak HTTP/2 with prior knowledge on the same port.
    pub http2: bool,
    /// The worker's spare write buffers.
    pub buffers: Arc<Buffers>,
    /// The process's shutdown.
    pub drain: Drain,
    /// The peer.
    pub peer: Option<SocketAddr>,
}

/// Serves one connection to its end. Gives the stream back, with the bytes already read, when the client speaks HTTP/2.
pub async fn serve<I: Io, S: Service>(io: I, settings: Settings<S>) -> Option<(I, BytesMut)> {
    let limits = Arc::clone(&settings.limits);
    let closing = settings.drain.reached(Phase::Closing);
    let shared = Arc::new(Mutex::new(Shared::new(io, limits, Arc::clone(&settings.buffers))));
    let mut connection = Connection {
        settings,
        shared,
        deadline: Deadline::default(),
        served: 0,
        closing,
        is_registered: false,
    };
    let is_http2 = connection.run().await;
    if !is_http2 {
        return None;
    }
    let shared = Arc::into_inner(connection.shared)?;
    Some(shared.into_inner().wire.into_parts())
}

/// What came next on a connection.
enum Next {
    Head(Box<RequestHead>),
    Refused(Refusal),
    Http2,
    Closed,
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// It serves the next request.
    Keep,
    /// It closes.
    Close,
    /// It is reset, so that nobody takes a cut answer for a whole one.
    Abort,
}

/// How a call of the service ended.
enum Called<D> {
    Answer(Answer<D>),
    Panicked,
    ClientGone,
}

struct Connection<I, S> {
    settings: Settings<S>,
    shared: Arc<Mutex<Shared<I>>>,
    deadline: Deadline,
    served: u32,
    /// Wakes this task when the process stops waiting for idle connections; polled once.
    closing: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    is_registered: bool,
}

impl<I: Io, S: Service> Connection<I, S> {
    /// Returns true when the client speaks HTTP/2.
    async fn run(&mut self) -> bool {
        loop {
            let (next, started) = self.next().await;
            let after = match next {
                Next::Closed => return false,
                Next::Http2 => return true,
                Next::Refused(refusal) => self.refuse(refusal, started).await,
                Next::Head(head) => self.exchange(*head, started).await,
            };
            match after {
                After::Keep => {}
                After::Close => {
                    self.linger().await;
                    return false;
                }
                After::Abort => {
                    self.shared.lock().wire.abort();
                    return false;
                }
            }
        }
    }

    /// Waits for the next request head. The time is that of its first byte.
    async fn next(&mut self) -> (Next, Instant) {
        let limits = Arc::clone(&self.settings.limits);
        let idle_since = Instant::now();
        let (mut started, mut examined) = (None, 0);
        let next = poll_fn(|cx| {
            let mut shared = self.shared.lock();
            loop {
                let length = shared.wire.buffer.len();
                if length == 0 {
                    // An empty line that was skipped is not the beginning of a request.
                    (started, examined) = (None, 0);
                }
                if length > 0 {
                    let first_byte = *started.get_or_insert_with(Instant::now);
                    if self.settings.http2 && self.served == 0 && is_preface(&shared.wire.buffer) {
                        if length >= PREFACE.len() {
                            return Poll::Ready(Next::Http2);
                        }
                    } else if is_worth_parsing(&shared.wire.buffer, examined) {
                        match head::take_request(&mut shared.wire.buffer, &limits) {
                            Ok(Some(head)) => return Poll::Ready(Next::Head(Box::new(head))),
                            Ok(None) => examined = shared.wire.buffer.len(),
                            Err(refusal) => return Poll::Ready(Next::Refused(refusal)),
                        }
                    }
                    self.deadline.set(first_byte + limits.header_timeout);
                } else {
                    shared.wire.release();
                    let patience = if self.served == 0 { limits.header_timeout } else { limits.keep_alive };
                    self.deadline.set(idle_since + patience);
                }
                match shared.wire.poll_fill(cx, 0) {
                    Poll::Ready(Ok(read)) if read > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(Next::Closed),
                    Poll::Pending => break,
                }
            }
            if !self.is_registered {
                self.is_registered = true;
                let _ = self.closing.as_mut().poll(cx);
            }
            let is_begun = !shared.wire.buffer.is_empty();
            // A request that has arrived unheard of is served: to close now would be a reset in its face.
            if !is_begun && self.settings.drain.is_closing() && !shared.wire.io().has_unread() {
                return Poll::Ready(Next::Closed);
            }
            self.deadline
                .poll(cx)
                .map(|()| if is_begun { Next::Refused(Refusal::RequestTimeout) } else { Next::Closed })
        })
        .await;
        (next, started.unwrap_or(idle_since))
    }

    fn context(&self, started: Instant, with_interim: bool) -> Context {
        let interim = with_interim.then(|| Arc::clone(&self.shared) as Arc<dyn InterimSink>);
        Context { peer: self.settings.peer, started, interim, draining: self.settings.drain.is_draining() }
    }

    /// Answers what never became a request; the connection closes behind it.
    async fn refuse(&mut self, refusal: Refusal, started: Instant) -> After {
        self.shared.lock().begin(Framing::None, false);
        let answer = self.settings.service.refuse(refusal, self.context(started, false));
        self.respond(answer, &Method::GET, Version::HTTP_11, true).await
    }

    /// Serves one request.
    async fn exchange(&mut self, mut head: RequestHead, started: Instant) -> After {
        self.served += 1;
        for _ in 0..head.underscores {
            self.settings.service.underscore_dropped();
        }
        let checked = framing::of_request(head.version, &head.headers)
            .and_then(|framing| Ok((framing, request::check_http1(&mut head, framing)?)));
        let (framing, traits) = match checked {
            Ok(checked) => checked,
            Err(refusal) => return self.refuse(refusal, started).await,
        };
        self.shared.lock().begin(framing, traits.expects_continue);
        let (method, version) = (head.method.clone(), head.version);
        let wants_close =
            traits.wants_close || self.served >= self.settings.limits.requests || version == Version::HTTP_10;
        let request = self.request(head, framing);
        let answer = match self.call(request, self.context(started, version == Version::HTTP_11)).await {
            Called::Answer(answer) => answer,
            Called::Panicked => self.settings.service.refuse(Refusal::Internal, self.context(started, false)),
            Called::ClientGone => return After::Close,
        };
        if let Some(slot) = answer.response.extensions().get::<TunnelSlot>().cloned() {
            return self.tunnel(answer, &slot).await;
        }
        self.respond(answer, &method, version, wants_close).await
    }

    fn request(&self, head: RequestHead, framing: Framing) -> Request<Body> {
        let length = match framing {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked | Framing::Close => None,
        };
        let body = if framing == Framing::None {
            Body::Empty
        } else {
            Body::of(Incoming { shared: Arc::clone(&self.shared), length })
        };
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers;
        request
    }

    /// Runs the service and watches the client. A panic of the service costs this request only.
    async fn call(&self, request: Request<Body>, context: Context) -> Called<S::Done> {
        let mut call = pin!(self.settings.service.call(request, context));
        poll_fn(|cx| {
            // The body says anew in each turn whether it watches the socket.
            self.shared.lock().is_reading = false;
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
                Ok(Poll::Ready(answer)) => return Poll::Ready(Called::Answer(answer)),
                Err(_) => return Poll::Ready(Called::Panicked),
                Ok(Poll::Pending) => {}
            }
            self.shared.lock().poll_gone(cx, READ_AHEAD).map(|()| Called::ClientGone)
        })
        .await
    }

    /// Sends an answer.
    async fn respond(
        &mut self,
        answer: Answer<S::Done>,
        method: &Method,
        version: Version,
        wants_close: bool,
    ) -> After {
        let says_close =
            answer.response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        self.deadline.clear();
        let close = wants_close
            || says_close
            || self.settings.drain.is_draining()
            || !self.shared.lock().can_be_kept(DRAIN_BYTES);
        // Behind a final head nothing asks for the body any more.
        self.shared.lock().expects_continue = false;
        let Answer { response, encoded, mut done } = answer;
        let (parts, body) = response.into_parts();
        let mut sender = Sender::new(body, method, parts.status, version);
        let head = Head { parts: &parts, encoded: encoded.as_ref(), close };
        sender.queue_head(&mut self.shared.lock(), &head, &mut done);
        drop((parts, encoded));
        let end = poll_fn(|cx| {
            self.shared.lock().is_reading = false;
            let polled = sender.poll(&self.shared, &mut self.deadline, cx);
            if polled.is_pending() && self.shared.lock().poll_gone(cx, READ_AHEAD).is_ready() {
                return Poll::Ready(End::Client);
            }
            polled
        })
        .await;
        self.deadline.clear();
        let received = self.shared.lock().received;
        let (bytes, is_close_delimited) = (sender.sent(), sender.is_close_delimited());
        // The body goes first: it may hold the upstream's connection or the rest of this client's body.
        drop(sender);
        done.sent(Sent { bytes, received, end });
        match end {
            // Nothing but a reset tells an answer that the close should have ended from one that was cut.
            End::Body if is_close_delimited => return After::Abort,
            // The missing last chunk or byte tells; what was sent before is left for the client to read.
            End::Body => return After::Close,
            End::Client => return After::Abort,
            End::Complete => {}
        }
        if !close && self.read_away().await { After::Keep } else { After::Close }
    }

    /// Reads what is left of a small request body, so that its bytes are never taken for the next request.
    async fn read_away(&self) -> bool {
        if matches!(self.shared.lock().body, BodyState::Done) {
            return true;
        }
        let mut left = DRAIN_BYTES;
        loop {
            match poll_fn(|cx| self.shared.lock().poll_body(cx)).await {
                None => return true,
                Some(Ok(data)) => match left.checked_sub(data.len() as u64) {
                    Some(rest) => left = rest,
                    None => return false,
                },
                Some(Err(_)) => return false,
            }
        }
    }

    /// Passes bytes both ways behind a 101.
    async fn tunnel(&mut self, answer: Answer<S::Done>, slot: &TunnelSlot) -> After {
        let Some(tunnel) = slot.take() else { return After::Close };
        let limits = Arc::clone(&self.settings.limits);
        let Answer { response, mut done, .. } = answer;
        let (parts, _) = response.into_parts();
        let mut sender = Sender::new(Body::Empty, &Method::GET, parts.status, Version::HTTP_11);
        let head = Head { parts: &parts, encoded: None, close: false };
        sender.queue_head(&mut self.shared.lock(), &head, &mut done);
        let mut relay = Relay::new(tunnel, &limits);
        let mut cutting = self.settings.drain.reached(Phase::Cutting);
        let mut is_leaving = false;
        let sent = poll_fn(|cx| {
            is_leaving = is_leaving || cutting.as_mut().poll(cx).is_ready();
            let mut shared = self.shared.lock();
            if is_leaving {
                relay.poll_leave(&mut shared.wire, &limits, cx)
            } else {
                relay.poll(&mut shared.wire, &limits, cx)
            }
        })
        .await;
        drop(relay);
        done.sent(sent);
        After::Close
    }

    /// Closes our direction and reads for a moment: a close with unread bytes would be a reset, and a reset can destroy
    /// the answer before the client has read it.
    async fn linger(&mut self) {
        self.deadline.set(Instant::now() + LINGER);
        let mut left = DRAIN_BYTES * 16;
        let mut is_shut = false;
        poll_fn(|cx| {
            let mut shared = self.shared.lock();
            if !is_shut {
                match shared.wire.poll_flush(cx, &mut false) {
                    Poll::Ready(Ok(())) => match shared.wire.poll_shutdown(cx) {
                        Poll::Ready(Ok(())) => is_shut = true,
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => {}
                    },
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            loop {
                shared.wire.buffer.clear();
                match shared.wire.poll_fill(cx, 0) {
                    Poll::Ready(Ok(read)) if read > 0 && left > 0 => left = left.saturating_sub(read as u64),
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            self.deadline.poll(cx)
        })
        .await;
    }
}

fn is_preface(buffer: &[u8]) -> bool {
    // Four bytes tell `PRI ` from every method that is served.
    let shown = buffer.len().min(PREFACE.len());
    shown >= 4 && buffer.get(..shown) == PREFACE.get(..shown)
}

/// A head that arrives byte by byte is looked at when a line ends or it has doubled, not at every byte.
fn is_worth_parsing(buffer: &[u8], examined: usize) -> bool {
    examined == 0
        || buffer.len() >= examined.saturating_mul(2)
        || buffer.get(examined..).is_some_and(|fresh| memchr::memchr(b'\n', fresh).is_some())
}
