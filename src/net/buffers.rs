//! Spare write buffers of one worker.
//!
//! A head and a small body are written to a buffer, sent in one call, and the buffer is empty again. With a buffer per
//! connection, a thousand idle connections would hold a thousand empty buffers; without one, every answer would pay for
//! an allocation that is too large for the allocator's fast path. So the buffers go round: a connection holds one only
//! from the first byte queued to the last one sent.

use bytes::BytesMut;
use parking_lot::Mutex;

/// The size of a new buffer: a head and a body of the size that is copied behind it.
const SIZE: usize = 20 * 1024;

/// Buffers that grew beyond this are not kept.
const MOST: usize = 128 * 1024;

/// How many spare buffers are kept.
const SPARE: usize = 8;

/// The spare buffers.
#[derive(Default)]
pub struct Buffers {
    spare: Mutex<Vec<BytesMut>>,
}

impl Buffers {
    /// An empty buffer.
    pub fn take(&self) -> BytesMut {
        self.spare.lock().pop().unwrap_or_else(|| BytesMut::with_capacity(SIZE))
    }

    /// Takes a buffer back once it is empty.
    pub fn put(&self, buffer: BytesMut) {
        if buffer.is_empty() && (SIZE / 2..=MOST).contains(&buffer.capacity()) {
            let mut spare = self.spare.lock();
            if spare.len() < SPARE {
                spare.push(buffer);
            }
        }
    }
}
