//! Idle connections of one worker to one upstream.
//!
//! The one used last is taken first: it is the least likely to have been closed meanwhile, and the surplus of a burst
//! ages out at the other end.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::stream::Stream;
use crate::net::{buffers::Buffers, deadline::Deadline, wire::Wire};

/// A connection that was idle for less than this is not asked whether it is still open.
const BUSY: Duration = Duration::from_micros(300);

/// A connection that may serve again. Handed on behind a pointer: it changes hands several times in a call.
pub struct Connection {
    pub(super) wire: Wire<Stream>,
    /// Kept with the connection, as moving it is cheaper than arming a new one for each request.
    pub(super) deadline: Deadline,
    opened: Instant,
    idle_since: Instant,
    pub(super) is_reused: bool,
}

impl Connection {
    fn new(stream: Stream, buffers: Arc<Buffers>) -> Self {
        let now = Instant::now();
        Self {
            wire: Wire::new(stream, BytesMut::new(), buffers),
            deadline: Deadline::default(),
            opened: now,
            idle_since: now,
            is_reused: false,
        }
    }

    /// True while the server has neither closed nor said anything that nobody asked for.
    ///
    /// The runtime knows what the kernel told it in its last turn. A connection that rested for longer than that is asked
    /// about itself, which costs a call to the kernel that busy connections never pay.
    async fn is_quiet(&mut self, now: Instant) -> bool {
        let is_quiet = poll_fn(|cx| Poll::Ready(self.wire.poll_fill(cx, 0).is_pending())).await;
        is_quiet && (now - self.idle_since < BUSY || self.wire.io().is_quiet())
    }
}

/// The idle connections.
pub struct Pool {
    idle: Mutex<VecDeque<Box<Connection>>>,
    size: usize,
    idle_limit: Duration,
    lifetime: Duration,
    buffers: Arc<Buffers>,
}

impl Pool {
    /// A pool that keeps at most `size` connections, each idle for at most `idle_limit` and used for at most `lifetime`.
    #[must_use]
    pub fn new(size: usize, idle_limit: Duration, lifetime: Duration) -> Self {
        Self { idle: Mutex::new(VecDeque::new()), size, idle_limit, lifetime, buffers: Arc::default() }
    }

    /// A connection over a socket that was just opened; it comes to the pool when it is put there.
    pub fn adopt(&self, stream: Stream) -> Box<Connection> {
        Box::new(Connection::new(stream, Arc::clone(&self.buffers)))
    }

    /// Takes a connection that is still open, as far as can be told without asking.
    pub async fn take(&self) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.idle.lock().pop_back()?;
            let now = Instant::now();
            if self.is_fresh(&connection, now) && connection.is_quiet(now).await {
                connection.is_reused = true;
                return Some(connection);
            }
        }
    }

    /// Puts a connection back whose answer has ended cleanly.
    pub fn put(&self, mut connection: Box<Connection>) {
        connection.idle_since = Instant::now();
        connection.deadline.clear();
        if connection.idle_since - connection.opened >= self.lifetime || !connection.wire.buffer.is_empty() {
            return;
        }
        connection.wire.release();
        let mut idle = self.idle.lock();
        if idle.len() < self.size {
            idle.push_back(connection);
        }
    }

    /// Closes what has been idle for too long.
    pub fn prune(&self) {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        while idle.front().is_some_and(|connection| !self.is_fresh(connection, now)) {
            idle.pop_front();
        }
    }

    /// How many connections are idle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.idle.lock().len()
    }

    /// True when none is idle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_fresh(&self, connection: &Connection, now: Instant) -> bool {
        now - connection.idle_since < self.idle_limit && now - connection.opened < self.lifetime
    }
}
