//! Bytes both ways after a 101: they are passed on as they are, and everything is bounded. Only the borders of frames are
//! followed, so that both sides can be told when the process leaves.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{
    End, Sent,
    deadline::Deadline,
    h1::Limits,
    websocket::{Frames, GOING_AWAY, GOING_AWAY_MASKED},
    wire::{Io, Wire},
};

/// The far side of an upgraded connection, carried in the extensions of a 101 answer.
pub struct Tunnel {
    /// The stream to the upstream, with what it sent behind its 101.
    pub far: Wire<Box<dyn Io>>,
    /// Counts the tunnel while it is open.
    pub permit: Box<dyn Send + Sync>,
}

impl Tunnel {
    /// A tunnel over `io`; `ahead` was read from it already.
    pub fn new(io: Box<dyn Io>, ahead: BytesMut, permit: Box<dyn Send + Sync>) -> Self {
        // A tunnel lasts, so it has buffers of its own.
        Self { far: Wire::new(io, ahead, Arc::default()), permit }
    }
}

/// Extensions must be cloneable; a tunnel is taken out once instead.
#[derive(Clone)]
pub struct TunnelSlot(Arc<parking_lot::Mutex<Option<Tunnel>>>);

impl TunnelSlot {
    /// Puts a tunnel in a slot.
    #[must_use]
    pub fn new(tunnel: Tunnel) -> Self {
        Self(Arc::new(parking_lot::Mutex::new(Some(tunnel))))
    }

    /// Takes the tunnel out.
    #[must_use]
    pub fn take(&self) -> Option<Tunnel> {
        self.0.lock().take()
    }
}

/// The state of one running tunnel.
pub(super) struct Relay {
    tunnel: Tunnel,
    idle: Deadline,
    up: Way,
    down: Way,
}

/// One direction of a tunnel.
#[derive(Default)]
struct Way {
    moved: u64,
    is_shut: bool,
    frames: Frames,
    /// What ends it when we leave.
    last: &'static [u8],
    /// True once it has been told that we leave, or can be told no more.
    has_parted: bool,
}

impl Relay {
    pub(super) fn new(tunnel: Tunnel, limits: &Limits) -> Self {
        let mut idle = Deadline::default();
        idle.set(Instant::now() + limits.tunnel_idle);
        let way = |last| Way { last, ..Way::default() };
        Self { tunnel, idle, up: way(GOING_AWAY_MASKED), down: way(GOING_AWAY) }
    }

    /// Moves bytes until both sides can be told that the process leaves (RFC 6455 section 7.4.1, 1001), and tells them.
    /// Within a message, where a further frame would destroy it, a side is told at its next border.
    pub(super) fn poll_leave<I: Io>(
        &mut self,
        near: &mut Wire<I>,
        limits: &Limits,
        cx: &mut Context<'_>,
    ) -> Poll<Sent> {
        let far = &mut self.tunnel.far;
        let down = self.down.poll_part(far, near, limits.tunnel_buffer, cx);
        let up = self.up.poll_part(near, far, limits.tunnel_buffer, cx);
        if down.is_pending() || up.is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Sent { bytes: self.down.moved, received: self.up.moved, end: End::Complete })
    }

    /// Moves bytes until both sides have closed, one has failed, or nothing moved for too long.
    pub(super) fn poll<I: Io>(
        &mut self,
        near: &mut Wire<I>,
        limits: &Limits,
        cx: &mut Context<'_>,
    ) -> Poll<Sent> {
        let far = &mut self.tunnel.far;
        let up = self.up.poll(near, far, limits.tunnel_buffer, cx);
        let down = self.down.poll(far, near, limits.tunnel_buffer, cx);
        let end = match (up, down) {
            (Moved::Closed, Moved::Closed) => End::Complete,
            (Moved::Failed, _) | (_, Moved::Failed) => End::Client,
            (up, down) => {
                if up == Moved::Some || down == Moved::Some {
                    self.idle.set(Instant::now() + limits.tunnel_idle);
                }
                match self.idle.poll(cx) {
                    Poll::Ready(()) => End::Body,
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        Poll::Ready(Sent { bytes: self.down.moved, received: self.up.moved, end })
    }
}

/// What became of one direction in one poll.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Nothing,
    Some,
    Closed,
    Failed,
}

impl Way {
    /// Moves on to the border of a frame, puts the last one there, and sends all of it.
    fn poll_part<A: Io, B: Io>(
        &mut self,
        from: &mut Wire<A>,
        to: &mut Wire<B>,
        bound: usize,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if !self.has_parted {
            let moved = self.poll(from, to, bound, cx);
            let is_over = matches!(moved, Moved::Closed | Moved::Failed) || !self.frames.may_end();
            if !is_over && !self.frames.is_between() {
                return Poll::Pending;
            }
            self.has_parted = true;
            if !is_over {
                to.queue(Bytes::from_static(self.last));
            }
        }
        // Who cannot be reached any more has nothing to be told.
        to.poll_flush(cx, &mut false).map(|_| ())
    }

    fn poll<A: Io, B: Io>(
        &mut self,
        from: &mut Wire<A>,
        to: &mut Wire<B>,
        bound: usize,
        cx: &mut Context<'_>,
    ) -> Moved {
        if self.is_shut {
            return Moved::Closed;
        }
        let mut moved = Moved::Nothing;
        loop {
            if to.pending() == 0 && !from.buffer.is_empty() {
                let data = from.buffer.split().freeze();
                self.moved += data.len() as u64;
                self.frames.follow(&data);
                to.queue(data);
                moved = Moved::Some;
            }
            match to.poll_flush(cx, &mut false) {
                Poll::Ready(Err(_)) => return Moved::Failed,
                Poll::Ready(Ok(())) if from.is_closed() && from.buffer.is_empty() => {
                    return match to.poll_shutdown(cx) {
                        Poll::Ready(_) => {
                            self.is_shut = true;
                            Moved::Closed
                        }
                        Poll::Pending => moved,
                    };
                }
                // What was read ahead waited for room behind the head.
                Poll::Ready(Ok(())) if !from.buffer.is_empty() => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if from.is_closed() || from.buffer.len() >= bound {
                if to.pending() > 0 {
                    return moved;
                }
                continue;
            }
            match from.poll_fill(cx, bound as u64 - from.buffer.len() as u64) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Moved::Failed,
                Poll::Pending => return moved,
            }
        }
    }
}
