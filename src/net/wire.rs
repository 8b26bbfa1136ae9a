//! A socket with its read buffer: fills, vectored writes, and nothing about protocols.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::buffers::Buffers;

/// Reads go through a buffer on the stack of this size and only what arrived is kept, so that an idle connection holds
/// no read buffer at all.
const SCRATCH: usize = 16 * 1024;

/// The most that one read for a large body takes in.
const LARGE_READ: usize = 64 * 1024;

/// Chunks up to this size are copied behind the head, so that one plain write carries both; larger ones are handed to
/// the kernel where they lie.
const COPY_UP_TO: usize = 16 * 1024;

/// Queued bytes beyond which the socket is written to before more is asked for.
const ENOUGH: usize = 64 * 1024;

/// A byte stream that a connection can run over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the close that follows a reset, where the stream can tell the two apart.
    fn abort(&self) {}

    /// True when the kernel holds bytes of the peer, whether or not an event has told of them yet.
    fn has_unread(&self) -> bool {
        false
    }
}

impl Io for TcpStream {
    fn abort(&self) {
        // A socket that cannot be set so is closed in the usual way.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn has_unread(&self) -> bool {
        // The socket does not block, so neither does this.
        matches!(SockRef::from(self).peek(&mut [MaybeUninit::uninit(); 1]), Ok(1..))
    }
}

impl Io for UnixStream {}

impl Io for tokio::io::DuplexStream {}

impl Io for Box<dyn Io> {
    fn abort(&self) {
        (**self).abort();
    }

    fn has_unread(&self) -> bool {
        (**self).has_unread()
    }
}

/// A byte stream with the bytes read ahead and the bytes not yet written.
pub struct Wire<I> {
    io: I,
    /// Bytes received and not yet consumed.
    pub buffer: BytesMut,
    out: BytesMut,
    /// How much of `out` is written.
    written: usize,
    tail: Bytes,
    closed: bool,
    is_flowing: bool,
    buffers: Arc<Buffers>,
}

impl<I: Io> Wire<I> {
    /// A wire over `io`, with bytes that were already read from it. Its write buffers come from `buffers`.
    pub fn new(io: I, buffer: BytesMut, buffers: Arc<Buffers>) -> Self {
        Self {
            io,
            buffer,
            out: BytesMut::new(),
            written: 0,
            tail: Bytes::new(),
            closed: false,
            is_flowing: false,
            buffers,
        }
    }

    /// Gives the stream back with what was read ahead.
    pub fn into_parts(self) -> (I, BytesMut) {
        (self.io, self.buffer)
    }

    /// True once the peer has closed its direction.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads what is there; `Ok(0)` is the peer's orderly close. `expected` is how many more bytes the caller knows will
    /// come: many of them are read straight into the buffer.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, expected: u64) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Ok(0));
        }
        let read = if expected > SCRATCH as u64 && self.is_flowing {
            let want = usize::try_from(expected).unwrap_or(LARGE_READ).min(LARGE_READ);
            self.buffer.reserve(want);
            ready!(pin!(self.io.read_buf(&mut self.buffer)).poll(cx))?
        } else {
            let mut scratch = [const { MaybeUninit::<u8>::uninit() }; SCRATCH];
            let mut read = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            self.buffer.extend_from_slice(read.filled());
            read.filled().len()
        };
        // Room for a large read is made only where the last read filled the small one.
        self.is_flowing = read >= SCRATCH;
        if read == 0 {
            self.closed = true;
        }
        Poll::Ready(Ok(read))
    }

    /// The buffer for bytes to be written; nothing leaves before a flush.
    pub fn out(&mut self) -> &mut BytesMut {
        debug_assert!(self.tail.is_empty(), "bytes would overtake the tail");
        if self.out.capacity() == 0 {
            self.out = self.buffers.take();
        }
        &mut self.out
    }

    /// Bytes that wait to be written.
    pub fn pending(&self) -> usize {
        self.out.len() - self.written + self.tail.len()
    }

    /// True when nothing may be queued before a flush: a tail is waiting, or enough is queued for one write.
    pub fn must_flush(&self) -> bool {
        !self.tail.is_empty() || self.out.len() >= ENOUGH
    }

    /// Queues body bytes behind what is queued. What is too large to copy becomes the tail.
    pub fn queue(&mut self, data: Bytes) {
        if !self.tail.is_empty() {
            // Callers flush a tail first; one that did not must still not lose or reorder bytes.
            let tail = std::mem::take(&mut self.tail);
            self.out().extend_from_slice(&tail);
        }
        if data.len() <= COPY_UP_TO {
            self.out().extend_from_slice(&data);
        } else {
            self.tail = data;
        }
    }

    /// Writes all that is queued; `Ready(Ok(()))` when nothing is left. Progress is told by `progressed`.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, progressed: &mut bool) -> Poll<io::Result<()>> {
        while self.pending() > 0 {
            let io = Pin::new(&mut self.io);
            let out = self.out.get(self.written..).unwrap_or_default();
            let sent = if self.tail.is_empty() {
                ready!(io.poll_write(cx, out))?
            } else if out.is_empty() {
                ready!(io.poll_write(cx, &self.tail))?
            } else {
                let parts = [IoSlice::new(out), IoSlice::new(&self.tail)];
                ready!(io.poll_write_vectored(cx, &parts))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progressed = true;
            let of_out = sent.min(out.len());
            self.written += of_out;
            self.tail.advance(sent - of_out);
        }
        if self.out.capacity() > 0 {
            self.out.clear();
            self.written = 0;
            self.buffers.put(std::mem::take(&mut self.out));
        }
        // A socket has nothing to flush; TLS may still hold what it took.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Gives back the memory of an empty read buffer: called when a connection goes idle.
    pub fn release(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
        }
    }

    /// The stream itself.
    pub const fn io(&self) -> &I {
        &self.io
    }

    /// Makes the close that follows a reset.
    pub fn abort(&self) {
        self.io.abort();
    }

    /// Closes our direction.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
