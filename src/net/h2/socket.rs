//! The byte stream between hyper and the client, with the gate on it. hyper owns one handle and the serving task another,
//! so that the task can say the last words after hyper is gone.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};

use super::gate::{FrameGate, Standing};
use crate::{config::Http2Limits, net::wire::Io};

/// How long, and how much, a closed connection is still read: a close with unread bytes would be a reset, and a reset
/// can destroy what the client has not read yet. Idle clients that do not look at their connection make a shutdown wait
/// for all of it.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1024 * 1024;

/// A handle on a gated stream. The lock is never contended: both handles live in one task.
pub(super) struct Socket<I>(Arc<Mutex<Gated<I>>>);

struct Gated<I> {
    /// Bytes to be read before those of the stream: what was read to recognise the protocol.
    ahead: Bytes,
    io: I,
    gate: FrameGate,
}

impl<I: Io> Socket<I> {
    pub(super) fn new(io: I, ahead: BytesMut, limits: &Http2Limits) -> Self {
        Self(Arc::new(Mutex::new(Gated { ahead: ahead.freeze(), io, gate: FrameGate::new(limits) })))
    }

    pub(super) fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    pub(super) fn standing(&self) -> Standing {
        self.0.lock().gate.standing()
    }

    /// Answers the PING of a graceful shutdown in the client's place, so that hyper need not wait for a client that does
    /// not look at its connection. Returns true when there is an answer to be read.
    pub(super) fn answer_for_client(&self) -> bool {
        let mut gated = self.0.lock();
        if gated.ahead.is_empty()
            && let Some(answer) = gated.gate.owed_answer()
        {
            gated.ahead = Bytes::copy_from_slice(&answer);
        }
        !gated.ahead.is_empty()
    }

    /// Ends the connection, after every other handle is gone: tells a flooding client why, closes our direction, and
    /// reads on for a moment.
    pub(super) async fn close(self) {
        let Some(gated) = Arc::into_inner(self.0) else { return };
        let Gated { mut io, gate, .. } = gated.into_inner();
        let closing = async move {
            if let Some(words) = gate.last_words() {
                io.write_all(&words).await?;
                io.flush().await?;
            }
            io.shutdown().await?;
            let mut scratch = vec![0; 8 * 1024];
            let mut left = LINGER_BYTES;
            loop {
                match io.read(&mut scratch).await? {
                    0 => return io::Result::Ok(()),
                    read if read > left => return Ok(()),
                    read => left -= read,
                }
            }
        };
        // A client that is gone needs no last words, and one that stays has had its moment.
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

impl<I: Io> Gated<I> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        } else {
            let take = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(take));
        }
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.gate.receive(fresh, Instant::now()).map_err(|_| flooded()))
    }

    /// Refuses to write on after a flood, so that the last words can follow.
    fn check(&self) -> io::Result<()> {
        if matches!(self.gate.standing(), Standing::Flooded(_)) { Err(flooded()) } else { Ok(()) }
    }

    /// Shows the gate what was written. A flood that shows only now is found by the serving task.
    fn wrote(&mut self, parts: &[IoSlice<'_>], mut written: usize) {
        let now = Instant::now();
        for part in parts {
            let shown = part.len().min(written);
            let _ = self.gate.send(part.get(..shown).unwrap_or_default(), now);
            written -= shown;
        }
    }
}

fn flooded() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl<I: Io> AsyncRead for Socket<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.lock().poll_read(cx, buffer)
    }
}

impl<I: Io> AsyncWrite for Socket<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut gated = self.0.lock();
        gated.check()?;
        let written = ready!(Pin::new(&mut gated.io).poll_write(cx, data))?;
        gated.wrote(&[IoSlice::new(data)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gated = self.0.lock();
        gated.check()?;
        Pin::new(&mut gated.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gated = self.0.lock();
        gated.check()?;
        let written = ready!(Pin::new(&mut gated.io).poll_write_vectored(cx, parts))?;
        gated.wrote(parts, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().io.is_write_vectored()
    }
}
