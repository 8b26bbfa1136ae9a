//! What is written behind the answers: entries, deletions, leases given back. Each connection has a queue with a bound on
//! its length and on the bytes of its entries; what does not fit is dropped and counted. The operations on one resource
//! always take the same queue, so they keep their order.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{
    server::Conn,
    tier::{Failed, MAX_VALUE, RedisTier, shard_of},
};
use crate::{
    cache::{entry::Entry, key::Key},
    telemetry::RedisDrop,
};

/// Bytes of a value beside what an entry counts: more than its frame takes.
const ROOM: usize = 4096;

/// Deletes a lease if it is still the caller's.
pub(super) const RELEASE: &str =
    "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

/// Jobs that wait for one connection.
pub(super) struct Queue {
    sender: Sender<Job>,
    receiver: Mutex<Option<Receiver<Job>>>,
    bytes: Arc<AtomicU64>,
    max_bytes: u64,
}

enum Job {
    /// An entry, with the key it has in the memory tiers and the bytes it was counted with: it may gain coded bodies
    /// while it waits.
    Store(Arc<Entry>, Key, u64),
    /// A name, and the key in the memory tiers of what lay there.
    Delete(String, Option<Key>),
    Release(String, [u8; 16]),
}

impl Queue {
    pub(super) fn new(length: u32, max_bytes: u64) -> Self {
        let (sender, receiver) = channel(usize::try_from(length).unwrap_or(1).max(1));
        Self { sender, receiver: Mutex::new(Some(receiver)), bytes: Arc::default(), max_bytes }
    }
}

impl RedisTier {
    /// Queues an entry. `held` is its key in the memory tiers: that of the resource, or of the variant.
    pub(in crate::cache) fn put(&self, entry: &Arc<Entry>, held: Key) {
        if !self.is_up() {
            self.stats.dropped(RedisDrop::Down);
            return;
        }
        if !self.takes(entry) {
            // Whatever lies there is of an older answer.
            self.end(entry, held);
            return;
        }
        let Some(queue) = self.queues.get(shard_of(entry.key(), self.queues.len())) else { return };
        let size = u64::try_from(entry.size()).unwrap_or(u64::MAX);
        if queue.bytes.load(Ordering::Relaxed).saturating_add(size) > queue.max_bytes {
            self.stats.dropped(RedisDrop::Full);
            return;
        }
        queue.bytes.fetch_add(size, Ordering::Relaxed);
        if !self.push(queue, Job::Store(Arc::clone(entry), held, size)) {
            queue.bytes.fetch_sub(size, Ordering::Relaxed);
        }
    }

    /// Whether an entry is not too large for the tier, and the tier is there.
    pub(in crate::cache) fn takes(&self, entry: &Entry) -> bool {
        self.is_up() && entry.size() + ROOM <= MAX_VALUE
    }

    /// Queues the end of an entry; the other replicas hear of it.
    pub(in crate::cache) fn end(&self, entry: &Entry, held: Key) {
        if let Some(queue) =
            self.queues.get(shard_of(entry.key(), self.queues.len())).filter(|_| self.is_up())
        {
            self.push(queue, Job::Delete(self.name_of(entry), Some(held)));
        }
    }

    /// Queues the end of a value that nobody believes.
    pub(super) fn delete(&self, name: String, shard: usize) {
        if let Some(queue) = self.queues.get(shard) {
            self.push(queue, Job::Delete(name, None));
        }
    }

    pub(super) fn release(&self, name: String, token: [u8; 16], shard: usize) {
        if let Some(queue) = self.queues.get(shard) {
            self.push(queue, Job::Release(name, token));
        }
    }

    /// Writes what is queued for one connection, until the tier is dropped.
    pub(in crate::cache) async fn write(&self, shard: usize) {
        let Some(queue) = self.queues.get(shard) else { return };
        let Some(mut jobs) = queue.receiver.lock().take() else { return };
        while let Some(job) = jobs.recv().await {
            if let Job::Store(_, _, size) = &job {
                queue.bytes.fetch_sub(*size, Ordering::Relaxed);
            }
            match self.connection(shard) {
                // A failure is counted where it is seen; the answer has been sent long ago.
                Some(mut connection) => drop(self.perform(&mut connection, job).await),
                None => self.stats.dropped(RedisDrop::Down),
            }
            self.stats.pending.decrement();
        }
    }

    fn push(&self, queue: &Queue, job: Job) -> bool {
        self.stats.pending.increment();
        let is_queued = queue.sender.try_send(job).is_ok();
        if !is_queued {
            self.stats.pending.decrement();
            self.stats.dropped(RedisDrop::Full);
        }
        is_queued
    }

    async fn perform(&self, connection: &mut Conn, job: Job) -> Result<(), Failed> {
        let patience = self.server.patience();
        match job {
            Job::Store(entry, held, _) => self.store(connection, &entry, &held).await,
            Job::Delete(name, held) => {
                self.within(patience, redis::cmd("UNLINK").arg(name).query_async::<()>(connection)).await?;
                match held {
                    Some(held) => self.tell_replaced(connection, &held).await,
                    None => Ok(()),
                }
            }
            Job::Release(name, token) => {
                let mut script = redis::cmd("EVAL");
                script.arg(RELEASE).arg(1).arg(name).arg(&token);
                self.within(patience, script.query_async(connection)).await
            }
        }
    }

    async fn store(&self, connection: &mut Conn, entry: &Entry, held: &Key) -> Result<(), Failed> {
        let left_ms = entry.useless_after_ms().saturating_sub(self.clock.now_ms());
        if left_ms == 0 {
            let mut unlink = redis::cmd("UNLINK");
            unlink.arg(self.name_of(entry));
            self.within(self.server.patience(), unlink.query_async::<()>(connection)).await?;
            return self.tell_replaced(connection, held).await;
        }
        let stored = self.values(entry);
        let mut commands = redis::pipe();
        let mut set = |name: &str, value: &[u8]| {
            self.stats.bytes_written.add(u64::try_from(value.len()).unwrap_or(0));
            commands.cmd("SET").arg(name).arg(value).arg("PX").arg(left_ms).ignore();
        };
        if let Some((name, value)) = &stored.variant {
            set(name, value);
        }
        set(&stored.name, &stored.value);
        self.within(self.server.patience(), commands.query_async::<()>(connection)).await?;
        self.tell_replaced(connection, held).await
    }

    /// Tells the other replicas that what they have under a key, if anything, is an older answer.
    async fn tell_replaced(&self, connection: &mut Conn, held: &Key) -> Result<(), Failed> {
        let news = [b"r".as_slice(), &self.replica, held.parts()].concat();
        self.tell(connection, &news).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering};

    use bytes::Bytes;
    use tokio::time::{Duration, timeout};

    use super::RedisTier;
    use crate::{
        cache::{
            clock::Clock,
            coded::Coded,
            entry::Entry,
            key::KeyMaker,
            rfc9111::Coding,
            samples::{answer, key},
        },
        config,
        telemetry::RedisStats,
    };

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_grows_in_the_queue_leaves_as_many_bytes_as_it_brought() {
        let stats = Arc::new(RedisStats::new("redis://test"));
        let tier = RedisTier::new(&config::Redis::default(), None, 1 << 20, Clock::system(), stats).unwrap();
        tier.found(Vec::new());
        let entry = Arc::new(Entry::new(answer(&key(&KeyMaker::default(), "/"), 100)));
        tier.put(&entry, entry.key().clone());
        let queued =
            || tier.queues.iter().map(|queue| queue.bytes.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!(queued().iter().sum::<u64>(), u64::try_from(entry.size()).unwrap());

        entry.set_coded(Coding::Gzip, Some(Coded::new(&entry, Coding::Gzip, Bytes::from_static(b"zipped"))));
        for shard in 0..tier.writers() {
            assert!(timeout(Duration::from_secs(1), tier.write(shard)).await.is_err());
        }

        assert_eq!(queued(), vec![0; tier.writers()]);
    }
}
