//! A socket with its read buffer: fills, vectored writes, and nothing about protocols.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Reads go through a buffer on the stack of this size and only what arrived is kept, so that an idle connection holds
/// no read buffer at all.
const SCRATCH: usize = 8 * 1024;

/// The most that one read for a large body takes in.
const LARGE_READ: usize = 64 * 1024;

/// Chunks up to this size are copied behind the head, so that one plain write carries both; larger ones are handed to
/// the kernel where they lie.
const COPY_UP_TO: usize = 16 * 1024;

/// Any byte stream that a connection can run over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// A byte stream with the bytes read ahead and the bytes not yet written.
pub struct Wire<I> {
    io: I,
    /// Bytes received and not yet consumed.
    pub buffer: BytesMut,
    out: BytesMut,
    tail: Bytes,
    closed: bool,
}

impl<I: Io> Wire<I> {
    /// A wire over `io`, with bytes that were already read from it.
    pub fn new(io: I, buffer: BytesMut) -> Self {
        Self { io, buffer, out: BytesMut::new(), tail: Bytes::new(), closed: false }
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
        let read = if expected > SCRATCH as u64 {
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
        if read == 0 {
            self.closed = true;
        }
        Poll::Ready(Ok(read))
    }

    /// The buffer for bytes to be written; nothing leaves before a flush.
    pub fn out(&mut self) -> &mut BytesMut {
        debug_assert!(self.tail.is_empty(), "bytes would overtake the tail");
        &mut self.out
    }

    /// Bytes that wait to be written.
    pub fn pending(&self) -> usize {
        self.out.len() + self.tail.len()
    }

    /// Queues body bytes behind what is queued. Returns true when they were too many to copy, so that a flush has to
    /// come before anything else is queued.
    pub fn queue(&mut self, data: Bytes) -> bool {
        debug_assert!(self.tail.is_empty(), "flush before queueing more");
        if data.len() <= COPY_UP_TO {
            self.out.extend_from_slice(&data);
            false
        } else {
            self.tail = data;
            true
        }
    }

    /// Writes all that is queued; `Ready(Ok(()))` when nothing is left. Progress is told by `progressed`.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, progressed: &mut bool) -> Poll<io::Result<()>> {
        while self.pending() > 0 {
            let io = Pin::new(&mut self.io);
            let written = if self.tail.is_empty() {
                ready!(io.poll_write(cx, &self.out))?
            } else if self.out.is_empty() {
                ready!(io.poll_write(cx, &self.tail))?
            } else {
                let parts = [IoSlice::new(&self.out), IoSlice::new(&self.tail)];
                ready!(io.poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progressed = true;
            let head = written.min(self.out.len());
            self.out.advance(head);
            self.tail.advance(written - head);
        }
        // A drained buffer keeps its allocation while the connection is busy; `release` gives it back.
        self.out.clear();
        Poll::Ready(Ok(()))
    }

    /// Gives back the memory of empty buffers: called when a connection goes idle.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
    }

    /// Closes our direction.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
