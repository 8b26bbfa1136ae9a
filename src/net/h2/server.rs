//! A client's HTTP/2 connection: hyper between the gated socket and the service.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::BytesMut;
use http::{Method, Request, Response, header};
use http_body::Body as HttpBody;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tracing::debug;

use super::{
    body::{Inbound, Received, Reported},
    gate::Standing,
    socket::Socket,
};
use crate::{
    config::{ByteSize, Http2Limits},
    net::{
        Answer, Body, Context, Done, Refusal, Service,
        deadline::Deadline,
        drain::{Drain, Phase},
        h1, request,
        serve::Serving,
        wire::Io,
    },
};

/// h2 counts the resets that a client provoked over the life of a connection, also those that are not written yet, which
/// the gate cannot see. It is the second line behind the gate's count in time, and wide enough for a long life.
const RESETS_OF_A_LIFE: u32 = 10;

/// How long a client may take to answer, once connections are closed, that it has seen that it is to leave.
const PATIENCE: Duration = Duration::from_millis(250);

/// Serves one HTTP/2 connection to its end. `ahead` holds the preface, which was read to recognise the protocol.
pub async fn serve<I: Io, S: Service>(
    io: I,
    ahead: BytesMut,
    peer: SocketAddr,
    serving: &Serving<S>,
    (limits, http2): (&Arc<h1::Limits>, &Http2Limits),
) {
    let socket = Socket::new(io, ahead, http2);
    carry(&socket, peer, serving, (limits, http2)).await;
    if let Standing::Flooded(flood) = socket.standing() {
        debug!(%peer, limit = flood.as_str(), "an HTTP/2 client was over a limit and its connection is closed");
        serving.service.flooded(flood.as_str());
    }
    socket.close().await;
}

/// Lets hyper serve the connection until it ends or the client floods it. Whatever is still in flight then is dropped.
async fn carry<I: Io, S: Service>(
    socket: &Socket<I>,
    peer: SocketAddr,
    serving: &Serving<S>,
    (limits, http2): (&Arc<h1::Limits>, &Http2Limits),
) {
    let service = {
        let (service, drain) = (Arc::clone(&serving.service), serving.drain.clone());
        let limits = Arc::clone(limits);
        service_fn(move |request| {
            let (service, draining, limits) =
                (Arc::clone(&service), drain.is_draining(), Arc::clone(&limits));
            async move {
                Ok::<_, std::convert::Infallible>(answer(&service, request, peer, draining, &limits).await)
            }
        })
    };
    let io = TokioIo::new(socket.handle());
    let mut connection = pin!(builder(&serving.drain, limits, http2).serve_connection(io, service));
    let mut leave = Leave::new(&serving.drain);
    poll_fn(|cx| {
        loop {
            if leave.begins(socket.standing(), cx) {
                connection.as_mut().graceful_shutdown();
            }
            if leave.is_overdue(cx) {
                socket.answer_for_client();
            }
            // A connection that fails has told its client so itself; there is nobody else to tell.
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match socket.standing() {
                Standing::Flooded(_) => return Poll::Ready(()),
                Standing::Spent if !leave.has_begun => {}
                Standing::Good | Standing::Spent => return Poll::Pending,
            }
        }
    })
    .await;
}

/// When a connection is to be left: at the drain, or when it has had all its streams.
struct Leave<'a> {
    drain: &'a Drain,
    /// Wake this task when their time has come; polled once.
    phases: [Pin<Box<dyn Future<Output = ()> + Send + Sync>>; 2],
    is_registered: bool,
    has_begun: bool,
    deadline: Deadline,
}

impl<'a> Leave<'a> {
    fn new(drain: &'a Drain) -> Self {
        Self {
            drain,
            phases: [Phase::Draining, Phase::Closing].map(|phase| drain.reached(phase)),
            is_registered: false,
            has_begun: false,
            deadline: Deadline::default(),
        }
    }

    /// True once, when the client is to be asked to leave.
    fn begins(&mut self, standing: Standing, cx: &mut TaskContext<'_>) -> bool {
        if !self.is_registered {
            self.is_registered = true;
            for phase in &mut self.phases {
                let _ = phase.as_mut().poll(cx);
            }
        }
        let begins = !self.has_begun && (standing == Standing::Spent || self.drain.is_draining());
        self.has_begun |= begins;
        begins
    }

    /// True when the process only finishes what is in flight and the client had its time to see that it is to leave.
    fn is_overdue(&mut self, cx: &mut TaskContext<'_>) -> bool {
        if !self.drain.is_closing() {
            return false;
        }
        if !self.deadline.is_set() {
            self.deadline.set(Instant::now() + PATIENCE);
        }
        self.deadline.poll(cx).is_ready()
    }
}

fn builder(drain: &Drain, limits: &h1::Limits, http2: &Http2Limits) -> http2::Builder<Spawner> {
    let window = |size: ByteSize| u32::try_from(size.bytes()).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(Spawner(drain.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(http2.streams)
        .initial_stream_window_size(window(http2.stream_window))
        .initial_connection_window_size(window(http2.connection_window))
        .max_frame_size(window(http2.frame).max(16 * 1024))
        .max_header_list_size(window(http2.header_list))
        .max_pending_accept_reset_streams(http2.resets_pending as usize)
        .max_local_error_reset_streams(http2.resets.saturating_mul(RESETS_OF_A_LIFE) as usize)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.header_timeout);
    builder
}

/// Answers one stream. A panic of the service costs this stream only.
async fn answer<S: Service>(
    service: &Arc<S>,
    request: Request<Incoming>,
    peer: SocketAddr,
    draining: bool,
    limits: &h1::Limits,
) -> Response<Reported<S::Done>> {
    let started = Instant::now();
    let context = || Context { peer: Some(peer), started, interim: None, draining };
    let (mut parts, incoming) = request.into_parts();
    let method = parts.method.clone();
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let checked = if target > limits.request_line {
        Err(Refusal::TargetTooLong)
    } else {
        request::check_http2(&parts.method, &mut parts.uri, &mut parts.headers)
    };
    let mut received = Received::default();
    let answer = match checked {
        Err(refusal) => service.refuse(refusal, context()),
        Ok(()) => {
            join_cookies(&mut parts.headers);
            let body = if incoming.is_end_stream() {
                Body::Empty
            } else {
                received = Received::counting();
                Body::of(Inbound::new(incoming, received.clone(), limits.body_idle))
            };
            let call = service.call(Request::from_parts(parts, body), context());
            match (CatchPanic { future: Box::pin(call) }).await {
                Some(answer) => answer,
                None => service.refuse(Refusal::Internal, context()),
            }
        }
    };
    into_response(answer, &method, received)
}

/// Several `Cookie` fields become one (RFC 9113 section 8.2.3), as HTTP/1 backends expect.
fn join_cookies(headers: &mut http::HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in std::iter::once(second).chain(cookies) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        if let Ok(joined) = http::HeaderValue::from_bytes(&joined) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

fn into_response<D: Done>(answer: Answer<D>, method: &Method, received: Received) -> Response<Reported<D>> {
    let Answer { response, encoded, mut done } = answer;
    let (mut parts, body) = response.into_parts();
    if let Some(encoded) = encoded {
        encoded.append_to(&mut parts.headers);
    }
    done.fields(&mut parts.headers);
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    let has_no_body = *method == Method::HEAD || parts.status == http::StatusCode::NOT_MODIFIED;
    // hyper tells the length of a body that it sends; that of an empty one, or one that is not sent, it leaves to us.
    if !has_no_body {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let is_told =
        parts.headers.contains_key(header::CONTENT_LENGTH) || parts.status == http::StatusCode::NOT_MODIFIED;
    let length = body.exact_len().filter(|length| !is_told && (has_no_body || *length == 0));
    if let Some(length) = length.filter(|_| parts.status != http::StatusCode::NO_CONTENT) {
        parts.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    let body = if has_no_body { Body::Empty } else { body };
    Response::from_parts(parts, Reported::new(body, done, received))
}

/// Resolves to `None` when the future panics.
struct CatchPanic<F> {
    future: Pin<Box<F>>,
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    }
}

/// Spawns hyper's stream tasks where shutdown can see them.
#[derive(Clone)]
struct Spawner(Drain);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests;
