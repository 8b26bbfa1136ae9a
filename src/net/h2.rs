//! HTTP/2 with prior knowledge (RFC 9113 section 3.3), carried by hyper with every limit set explicitly.

use std::{
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::{
    Answer, Body, BodyError, Context, Done, End, Refusal, Sent, Service,
    drain::{Drain, Phase},
    request,
    serve::Serving,
};
use crate::config::Http2Limits;

/// Serves one HTTP/2 connection to its end. `ahead` holds the preface, which was read to recognise the protocol.
pub async fn serve<S: Service>(
    stream: TcpStream,
    ahead: BytesMut,
    peer: SocketAddr,
    serving: &Serving<S>,
    limits: &Http2Limits,
) {
    let io = TokioIo::new(Rewound { ahead: ahead.freeze(), stream });
    let service = {
        let (service, drain) = (Arc::clone(&serving.service), serving.drain.clone());
        let body_timeout = serving.limits.body_idle;
        service_fn(move |request| {
            let (service, draining) = (Arc::clone(&service), drain.is_draining());
            async move {
                Ok::<_, std::convert::Infallible>(
                    answer(&service, request, peer, draining, body_timeout).await,
                )
            }
        })
    };
    let mut builder = http2::Builder::new(Spawner(serving.drain.clone()));
    let window = |size: crate::config::ByteSize| u32::try_from(size.bytes()).unwrap_or(u32::MAX);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(window(limits.stream_window))
        .initial_connection_window_size(window(limits.connection_window))
        .max_frame_size(window(limits.frame).max(16 * 1024))
        .max_header_list_size(window(limits.header_list))
        .max_pending_accept_reset_streams(limits.resets_pending as usize)
        .max_local_error_reset_streams(limits.resets as usize)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(serving.limits.keep_alive)
        .keep_alive_timeout(serving.limits.header_timeout);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let draining = serving.drain.reached(Phase::Draining);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = draining => connection.as_mut().graceful_shutdown(),
    }
    // A connection that fails here has told its client so itself; there is nobody else to tell.
    let _ = connection.await;
}

/// Answers one stream. A panic of the service costs this stream only.
async fn answer<S: Service>(
    service: &Arc<S>,
    request: Request<Incoming>,
    peer: SocketAddr,
    draining: bool,
    body_idle: std::time::Duration,
) -> Response<Reported<S::Done>> {
    let started = Instant::now();
    let context = || Context { peer: Some(peer), started, interim: None, draining };
    let (mut parts, incoming) = request.into_parts();
    let method = parts.method.clone();
    let checked = request::check_http2(&parts.method, &mut parts.uri, &mut parts.headers);
    let answer = match checked {
        Err(refusal) => service.refuse(refusal, context()),
        Ok(()) => {
            join_cookies(&mut parts.headers);
            let body = if incoming.is_end_stream() {
                Body::Empty
            } else {
                Body::from_body(Inbound::new(incoming, body_idle))
            };
            let call = service.call(Request::from_parts(parts, body), context());
            match (CatchPanic { future: Box::pin(call) }).await {
                Some(answer) => answer,
                None => service.refuse(Refusal::Internal, context()),
            }
        }
    };
    into_response(answer, &method)
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

fn into_response<D: Done>(answer: Answer<D>, method: &Method) -> Response<Reported<D>> {
    let (mut parts, body) = answer.response.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    let has_no_body = *method == Method::HEAD || parts.status == http::StatusCode::NOT_MODIFIED;
    if !has_no_body {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let body = if has_no_body { Body::Empty } else { body };
    Response::from_parts(parts, Reported { body, done: Some(answer.done), bytes: 0, end: End::Client })
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

/// A request body from hyper, held to the idle limit.
struct Inbound {
    incoming: Incoming,
    idle: std::time::Duration,
    deadline: super::deadline::Deadline,
}

impl Inbound {
    fn new(incoming: Incoming, idle: std::time::Duration) -> Self {
        Self { incoming, idle, deadline: super::deadline::Deadline::default() }
    }
}

impl HttpBody for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.deadline.clear();
                Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::ClientGone)))
            }
            Poll::Pending => {
                if !self.deadline.is_set() {
                    let at = Instant::now() + self.idle;
                    self.deadline.set(at);
                }
                ready!(self.deadline.poll(cx));
                Poll::Ready(Some(Err(BodyError::TooSlow)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An answer's body that tells [`Done`] how its sending ended; hyper drops it when the stream is over.
struct Reported<D: Done> {
    body: Body,
    done: Option<D>,
    bytes: u64,
    end: End,
}

impl<D: Done> HttpBody for Reported<D> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| this.body.poll_chunk(cx)))
            .unwrap_or(Poll::Ready(Some(Err(BodyError::UpstreamCut))));
        let chunk = ready!(polled);
        match &chunk {
            Some(Ok(data)) => {
                this.bytes += data.len() as u64;
                if this.body.is_empty() {
                    this.end = End::Complete;
                }
            }
            Some(Err(_)) => this.end = End::Body,
            None => this.end = End::Complete,
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}

impl<D: Done> Drop for Reported<D> {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            // An empty body is never polled: hyper ends the stream with its head.
            let end = if self.bytes == 0 && self.body.is_empty() { End::Complete } else { self.end };
            done.sent(Sent { bytes: self.bytes, received: 0, end });
        }
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

/// A stream whose first bytes were read already.
struct Rewound {
    ahead: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let take = self.ahead.len().min(buffer.remaining());
        let data = self.ahead.split_to(take);
        buffer.put_slice(&data);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
