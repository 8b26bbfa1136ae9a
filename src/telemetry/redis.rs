//! Numbers of the Redis tier: whether it is there, what went wrong with it, and what waits for it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::SystemTime,
};

use parking_lot::Mutex;

use super::{
    counters::{Counter, Gauge},
    labels::labels,
};

labels! {
    /// What went wrong with an operation.
    pub enum RedisFault {
        /// No answer in time.
        Timeout = "timeout",
        /// The connection could not be made, or broke.
        Connection = "connection",
        /// The server refuses our name or password, or what we may do.
        Auth = "auth",
        /// The server has no memory left.
        Oom = "oom",
        /// The server only reads: it is, or has become, a replica.
        Readonly = "readonly",
        /// The server is still loading its data, or its cluster is down.
        Loading = "loading",
        /// Any other error that the server reported.
        Server = "server",
        /// An answer that makes no sense.
        Protocol = "protocol",
    }
}

labels! {
    /// Why a stored value was not believed.
    pub enum ValueFault {
        /// It does not begin as values do.
        Magic = "magic",
        /// It was stored for another key.
        Key = "key",
        /// Its lengths do not add up.
        Length = "length",
        /// Its checksum is wrong.
        Checksum = "checksum",
        /// It claims to be from the future.
        Skew = "skew",
        /// It cannot be opened with our key.
        Sealed = "sealed",
    }
}

labels! {
    /// Why a write behind an answer was not made.
    pub enum RedisDrop {
        /// Too many waited already.
        Full = "full",
        /// Redis was not there.
        Down = "down",
    }
}

/// The numbers of the Redis tier.
#[derive(Debug)]
pub struct RedisStats {
    address: Box<str>,
    errors: [Counter; RedisFault::COUNT],
    rejected: [Counter; ValueFault::COUNT],
    dropped: [Counter; RedisDrop::COUNT],
    /// Writes that wait.
    pub pending: Gauge,
    /// Purges that other replicas have not heard of yet.
    pub pending_purges: Gauge,
    /// Bytes of values read and written.
    pub bytes_read: Counter,
    /// Bytes of values written.
    pub bytes_written: Counter,
    up: AtomicBool,
    opened: Counter,
    ping_us: AtomicU64,
    state: Mutex<Since>,
}

#[derive(Debug, Default)]
struct Since {
    changed: Option<SystemTime>,
    checked: Option<SystemTime>,
    error: Option<String>,
    info: RedisInfo,
}

/// What Redis says of itself: one server, or all servers of a cluster that take writes, added up. What is not known is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisInfo {
    /// The version; of servers that differ all of them.
    pub version: Option<String>,
    /// Connections of clients, ours among them.
    pub clients: Option<u64>,
    /// The memory in use, as Redis writes it: `1.10M`.
    pub memory: Option<String>,
    /// Commands since it started.
    pub commands: Option<u64>,
}

impl RedisStats {
    /// Numbers of a tier at an address, which is not there yet.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self {
            address: address.into(),
            errors: [const { Counter::new() }; RedisFault::COUNT],
            rejected: [const { Counter::new() }; ValueFault::COUNT],
            dropped: [const { Counter::new() }; RedisDrop::COUNT],
            pending: Gauge::default(),
            pending_purges: Gauge::default(),
            bytes_read: Counter::new(),
            bytes_written: Counter::new(),
            up: AtomicBool::new(false),
            opened: Counter::new(),
            ping_us: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Where it is, without a password.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Counts a failed operation.
    pub fn failed(&self, fault: RedisFault) {
        if let Some(counter) = self.errors.get(fault.index()) {
            counter.increment();
        }
    }

    /// Counts a value that was not believed.
    pub fn rejected(&self, fault: ValueFault) {
        if let Some(counter) = self.rejected.get(fault.index()) {
            counter.increment();
        }
    }

    /// Counts a write that was not made.
    pub fn dropped(&self, why: RedisDrop) {
        if let Some(counter) = self.dropped.get(why.index()) {
            counter.increment();
        }
    }

    /// Tells a change. `error` says why it is not there, in words that may be shown.
    pub fn set_up(&self, up: bool, error: Option<String>) {
        if self.up.swap(up, Relaxed) && !up {
            self.opened.increment();
        }
        let mut state = self.state.lock();
        let was_down = state.error.is_some();
        if up || !was_down {
            state.changed = Some(SystemTime::now());
        }
        state.error = error;
        if !up {
            state.info = RedisInfo::default();
        }
    }

    /// Tells what it says of itself. What is heard of one that is lost meanwhile is not kept.
    pub fn set_info(&self, info: RedisInfo) {
        let mut state = self.state.lock();
        if self.is_up() {
            state.info = info;
        }
    }

    /// Tells how long an empty operation took.
    pub fn set_ping(&self, us: u64) {
        self.ping_us.store(us, Relaxed);
        self.state.lock().checked = Some(SystemTime::now());
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// How long an empty operation took last, in milliseconds.
    #[must_use]
    pub fn ping_ms(&self) -> Option<f64> {
        let us = self.ping_us.load(Relaxed);
        (us > 0).then(|| std::time::Duration::from_micros(us).as_secs_f64() * 1000.0)
    }

    /// When it last came or went.
    #[must_use]
    pub fn changed(&self) -> Option<SystemTime> {
        self.state.lock().changed
    }

    /// Since when it is not there.
    #[must_use]
    pub fn down_since(&self) -> Option<SystemTime> {
        if self.is_up() { None } else { self.changed() }
    }

    /// When it was last asked whether it is there, and answered.
    #[must_use]
    pub fn checked(&self) -> Option<SystemTime> {
        self.state.lock().checked
    }

    /// Why it is not there.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.state.lock().error.clone()
    }

    /// What it says of itself; nothing while it is not there.
    #[must_use]
    pub fn info(&self) -> RedisInfo {
        self.state.lock().info.clone()
    }

    /// How often it was lost.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.opened.get()
    }

    /// Failed operations by fault.
    pub fn errors(&self) -> impl Iterator<Item = (RedisFault, u64)> {
        RedisFault::ALL.into_iter().zip(self.errors.iter().map(Counter::get))
    }

    /// Values that were not believed, by fault.
    pub fn rejections(&self) -> impl Iterator<Item = (ValueFault, u64)> {
        ValueFault::ALL.into_iter().zip(self.rejected.iter().map(Counter::get))
    }

    /// Writes that were not made.
    pub fn drops(&self) -> impl Iterator<Item = (RedisDrop, u64)> {
        RedisDrop::ALL.into_iter().zip(self.dropped.iter().map(Counter::get))
    }
}

#[cfg(test)]
mod tests {
    use super::{RedisInfo, RedisStats};

    #[test]
    fn what_a_lost_redis_said_is_not_shown_and_does_not_come_late() {
        let stats = RedisStats::new("redis:6379");
        let info = RedisInfo { clients: Some(7), ..RedisInfo::default() };

        stats.set_info(info.clone());
        assert_eq!(stats.info(), RedisInfo::default(), "it is not there yet");
        stats.set_up(true, None);
        stats.set_info(info.clone());
        assert_eq!(stats.info(), info);
        stats.set_up(false, Some("connection refused".to_owned()));
        stats.set_info(info);
        assert_eq!(stats.info(), RedisInfo::default());
        stats.set_up(true, None);
        assert_eq!(stats.info(), RedisInfo::default(), "it has not been asked yet");
    }
}
