//! What a request may ask of the tier: a value, and the lease of a fetch. Each has a deadline; a failure is a miss, and
//! enough of them in a row mean that the tier is not there.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use parking_lot::{Mutex, MutexGuard};
use redis::RedisResult;
use sha2::{Digest, Sha256};
use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use super::{
    fault::{fault_of, words_of},
    mark::{Mark, Replica},
    names::Names,
    position::{MarkId, Position},
    server::{Conn, Server},
    sums::Sums,
    value::{Answer, Frame, Keys, Now, Refused, Value, Varying},
    writer::Queue,
};
use crate::{
    cache::{
        clock::Clock,
        entry::{Entry, NewEntry},
        key::{Key, VariantDigest, hex},
        purge::Generation,
        rfc9111::Selection,
        scope::Scope,
    },
    config::{self, RedisEncrypt},
    telemetry::{RedisFault, RedisStats},
};

/// So many operations that fail within [`WINDOW`] mean that Redis is not there.
const FAILURES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// What is said of an answer that does not come.
pub(super) const LATE: &str = "it does not answer in time";

/// Bytes of the longest value. What is larger takes longer than a request waits, and holds up all that comes behind it.
pub(super) const MAX_VALUE: usize = 5 << 18;

/// The longest text of a URL in a mark. A client chooses the URLs of its writes, and every replica keeps them.
const MAX_TARGET: usize = 1024;

/// Purges that wait for Redis. More become one that ends everything.
const MAX_PENDING: usize = 4096;

/// The tier. All of it works without Redis; then it finds nothing.
pub(in crate::cache) struct RedisTier {
    pub(super) settings: config::Redis,
    pub(super) server: Server,
    pub(super) names: Names,
    pub(super) keys: Keys,
    pub(super) stats: Arc<RedisStats>,
    pub(super) clock: Clock,
    pub(super) replica: Replica,
    pub(super) position: Mutex<Position>,
    /// Purges that are not in the stream yet, in the order in which they came into force.
    pub(super) pending: Mutex<VecDeque<Mark>>,
    /// Held by whoever writes the pending purges.
    pub(super) flushing: tokio::sync::Mutex<()>,
    /// There is a pending purge.
    pub(super) wanted: Notify,
    /// The tier was lost.
    pub(super) lost: Notify,
    links: ArcSwapOption<Vec<Conn>>,
    failures: Mutex<Failures>,
    /// When it was lost, in monotonic milliseconds and one more; zero while it is there.
    down_since: AtomicU64,
    pub(super) queues: Box<[Queue]>,
    pub(super) sums: Sums,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

/// Redis gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) struct Failed;

/// The right to add purges that other replicas have to hear of.
pub(in crate::cache) struct Announcing<'a> {
    tier: &'a RedisTier,
    pending: MutexGuard<'a, VecDeque<Mark>>,
}

impl RedisTier {
    /// A tier that is not there until it is kept.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub(in crate::cache) fn new(
        settings: &config::Redis,
        secret: Option<&[u8]>,
        max_bytes: u64,
        clock: Clock,
        stats: Arc<RedisStats>,
    ) -> std::io::Result<Self> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|_| std::io::Error::other("the system has no randomness"))?;
        let replica = Replica::try_from(hex(&id).as_bytes()).unwrap_or_default();
        let share = max_bytes / u64::from(settings.connections.max(1));
        let queues = (0..settings.connections).map(|_| Queue::new(settings.pending, share)).collect();
        Ok(Self {
            server: Server::new(settings)?,
            names: Names::new(&settings.prefix),
            keys: Keys::new(secret),
            settings: settings.clone(),
            stats,
            clock,
            replica,
            position: Mutex::default(),
            pending: Mutex::default(),
            flushing: tokio::sync::Mutex::default(),
            wanted: Notify::new(),
            lost: Notify::new(),
            links: ArcSwapOption::empty(),
            failures: Mutex::new(Failures { count: 0, since: Instant::now() }),
            down_since: AtomicU64::new(clock.now_ms().saturating_add(1)),
            queues,
            sums: Sums::default(),
        })
    }

    /// Whether it is there.
    pub(in crate::cache) fn is_up(&self) -> bool {
        self.down_since.load(Ordering::Acquire) == 0
    }

    /// Since when it is not there, in monotonic milliseconds.
    pub(in crate::cache) fn down_since_ms(&self) -> Option<u64> {
        self.down_since.load(Ordering::Relaxed).checked_sub(1)
    }

    /// How many writers it needs.
    pub(in crate::cache) const fn writers(&self) -> usize {
        self.queues.len()
    }

    /// Its numbers.
    pub(in crate::cache) const fn stats(&self) -> &Arc<RedisStats> {
        &self.stats
    }

    /// Looks for the answer of a resource that fits a request. `now` is the generation before the question.
    pub(in crate::cache) async fn get(
        &self,
        key: &Key,
        request: &HeaderMap,
        now: Generation,
    ) -> Result<Option<Box<NewEntry>>, Failed> {
        let Some(mut connection) = self.connection(shard_of(key, self.queues.len())) else {
            return Err(Failed);
        };
        let name = self.names.entry(key);
        let both = async {
            let value = self.value_of(&mut connection, &name).await?;
            self.open(&mut connection, (&name, value), Asked { key, request, now }).await
        };
        // A variant takes two questions, and a request has time for one.
        match tokio::time::timeout(self.settings.operation, both).await {
            Ok(found) => found,
            Err(_) => {
                self.failed(RedisFault::Timeout, LATE);
                Err(Failed)
            }
        }
    }

    /// Whether neither a write nor a purge waits.
    pub(in crate::cache) fn has_told_all(&self) -> bool {
        self.stats.pending.get() <= 0 && self.pending.lock().is_empty()
    }

    /// To be taken before a purge that other replicas have to hear of comes into force. So purges are pending in the order
    /// of their numbers, and nobody sees one in force that is neither pending nor in the stream: what Redis had before it
    /// would count as having known it.
    pub(in crate::cache) fn announcing(&self) -> Announcing<'_> {
        Announcing { tier: self, pending: self.pending.lock() }
    }

    /// A connection of those that operations are spread over.
    pub(super) fn connection(&self, shard: usize) -> Option<Conn> {
        self.links.load().as_ref()?.get(shard).cloned()
    }

    /// The tier is there.
    pub(super) fn found(&self, connections: Vec<Conn>) {
        self.failures.lock().count = 0;
        self.links.store(Some(Arc::new(connections)));
        self.down_since.store(0, Ordering::Release);
        self.stats.set_up(true, None);
        info!(address = self.stats.address(), mode = self.settings.mode.as_str(), "redis is up");
    }

    /// The tier is not there any more. Tells the keeper, and the log once.
    pub(super) fn lose(&self, why: &str) {
        let now = self.clock.now_ms().saturating_add(1);
        if self.down_since.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        self.links.store(None);
        self.stats.set_up(false, Some(why.to_owned()));
        warn!(address = self.stats.address(), why, "redis is down; the cache goes on in memory");
        self.lost.notify_one();
    }

    /// Waits for an operation until the deadline of requests.
    pub(super) async fn ask<T>(&self, operation: impl Future<Output = RedisResult<T>>) -> Result<T, Failed> {
        self.within(self.settings.operation, operation).await
    }

    /// Waits for an operation until a deadline.
    pub(super) async fn within<T>(
        &self,
        deadline: Duration,
        operation: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Failed> {
        match tokio::time::timeout(deadline, operation).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.failed(fault_of(&error), &words_of(&error));
                Err(Failed)
            }
            Err(_) => {
                self.failed(RedisFault::Timeout, LATE);
                Err(Failed)
            }
        }
    }

    /// Takes note of a failure.
    pub(super) fn failed(&self, fault: RedisFault, why: &str) {
        self.stats.failed(fault);
        match fault {
            RedisFault::Connection | RedisFault::Auth | RedisFault::Readonly | RedisFault::Loading => {
                self.lose(why);
            }
            // Reading goes on where there is no room to write, and one bad answer says little.
            RedisFault::Oom | RedisFault::Server => {}
            RedisFault::Timeout | RedisFault::Protocol => {
                if self.failures.lock().is_too_many() {
                    self.lose(why);
                }
            }
        }
    }

    /// The time of now, as values need it.
    pub(super) fn now(&self) -> Now {
        Now { ms: self.clock.now_ms(), unix_ms: self.clock.wall_ms() }
    }

    /// The number that stands for having known all marks up to `id`, when `now` was read before the question.
    fn own(&self, id: MarkId, now: Generation) -> Option<Generation> {
        // A purge of ours that is not in the stream yet is known to nobody who wrote to Redis. Looked for first: one that is
        // not pending any more has its step by now.
        let unheard = self.pending.lock().front().map(|mark| mark.at);
        let own = self.position.lock().own(id, now)?;
        Some(unheard.map_or(own, |unheard| own.min(unheard.before())))
    }

    pub(super) async fn open(
        &self,
        connection: &mut Conn,
        (name, value): (&str, Option<Vec<u8>>),
        asked: Asked<'_>,
    ) -> Result<Option<Box<NewEntry>>, Failed> {
        let key = asked.key;
        let names = match self.read(name, value, &key.digest(), key) {
            None => return Ok(None),
            Some(Value::Answer(answer)) => return Ok(self.restore(*answer, asked)),
            Some(Value::Names(names)) => names,
        };
        let digest = names.digest(asked.request);
        let name = self.names.variant(key, &digest);
        let value = self.value_of(connection, &name).await?;
        Ok(match self.read(&name, value, &echo_of(key, &digest), key) {
            Some(Value::Answer(answer)) => self.restore(*answer, asked),
            Some(Value::Names(_)) | None => None,
        })
    }

    /// What lies under a name, as far as we would have written it ourselves: a stranger's value may have any length.
    pub(super) async fn value_of(
        &self,
        connection: &mut Conn,
        name: &str,
    ) -> Result<Option<Vec<u8>>, Failed> {
        let mut get = redis::cmd("GETRANGE");
        get.arg(name).arg(0).arg(MAX_VALUE);
        let value: Vec<u8> = self.ask(get.query_async(connection)).await?;
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    /// Reads a value; one that is not to be believed is deleted.
    fn read(&self, name: &str, value: Option<Vec<u8>>, echo: &[u8], key: &Key) -> Option<Value> {
        let value = value?;
        self.stats.bytes_read.add(u64::try_from(value.len()).unwrap_or(0));
        match self.keys.read(&value, echo, self.now()) {
            Ok(value) => Some(value),
            Err(Refused::Version) => None,
            Err(Refused::Fault(fault)) => {
                self.stats.rejected(fault);
                self.delete(name.to_owned(), shard_of(key, self.queues.len()));
                None
            }
        }
    }

    fn restore(&self, answer: Answer, asked: Asked<'_>) -> Option<Box<NewEntry>> {
        let Varying { names, languages } = answer.varying;
        let selection = Selection::rebuilt(&names, languages.as_ref(), asked.request, &answer.headers);
        Some(Box::new(NewEntry {
            key: asked.key.clone(),
            route: answer.route.map(Arc::from),
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            meta: answer.meta,
            selection,
            tags: answer.tags,
            wants_etag: false,
            generation: self.own(answer.known, asked.now)?,
            fetch_ms: answer.fetch_ms,
        }))
    }

    /// The name under which an entry lies.
    pub(super) fn name_of(&self, entry: &Entry) -> String {
        if entry.selection().is_any() {
            return self.names.entry(entry.key());
        }
        self.names.variant(entry.key(), &Sha256::digest(entry.selection().canonical()).into())
    }

    /// The value of an entry with its name, and the list of names beside it if it is a variant.
    pub(super) fn values(&self, entry: &Entry) -> Stored {
        let known = self.position.lock().shared(entry.generation());
        let (key, now) = (entry.key(), self.now());
        let is_sealed = entry.is_identity() && self.settings.encrypt == RedisEncrypt::Identity;
        let name = self.names.entry(key);
        if entry.selection().is_any() {
            return Stored {
                name,
                value: self.keys.answer(entry, &key.digest(), &Frame::answer(known, now, is_sealed)),
                variant: None,
            };
        }
        let digest: VariantDigest = Sha256::digest(entry.selection().canonical()).into();
        let list = self.keys.names(entry.selection(), &key.digest(), now);
        let value = self.keys.answer(entry, &echo_of(key, &digest), &Frame::answer(known, now, is_sealed));
        Stored { name, value: list, variant: Some((self.names.variant(key, &digest), value)) }
    }
}

/// What is written for one entry.
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) value: Vec<u8>,
    pub(super) variant: Option<(String, Vec<u8>)>,
}

/// What a value is looked for: the resource, the request, and the generation before it.
#[derive(Clone, Copy)]
pub(in crate::cache) struct Asked<'a> {
    pub(in crate::cache) key: &'a Key,
    pub(in crate::cache) request: &'a HeaderMap,
    pub(in crate::cache) now: Generation,
}

impl Varying {
    /// The digest of a request's values of these fields.
    fn digest(&self, request: &HeaderMap) -> VariantDigest {
        let unknown = HeaderMap::new();
        let selection = Selection::rebuilt(&self.names, self.languages.as_ref(), request, &unknown);
        Sha256::digest(selection.canonical()).into()
    }
}

impl Failures {
    fn is_too_many(&mut self) -> bool {
        let now = Instant::now();
        if now.saturating_duration_since(self.since) > WINDOW {
            (self.count, self.since) = (0, now);
        }
        self.count += 1;
        self.count >= FAILURES
    }
}

impl Announcing<'_> {
    /// Adds a purge that has just come into force.
    pub(in crate::cache) fn add(mut self, scope: &Scope, soft: bool, at: Generation) {
        let by = self.tier.replica;
        let scope = &shortened(scope);
        if self.pending.len() < MAX_PENDING {
            self.pending.push_back(Mark { by, at, soft, scope: scope.clone() });
        } else {
            // Two that end everything stand for them all, as the first and as the last: what is read from Redis until then
            // knows none of them.
            let first = self.pending.front().map_or(at, |mark| mark.at);
            self.pending.clear();
            self.pending.extend([first, at].map(|at| Mark { by, at, soft: false, scope: Scope::All }));
        }
        self.tier.stats.pending_purges.set(i64::try_from(self.pending.len()).unwrap_or(i64::MAX));
        drop(self.pending);
        self.tier.wanted.notify_one();
    }
}

impl std::fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisTier({})", self.stats.address())
    }
}

/// The same scope, or for a long URL all that begins as it does.
fn shortened(scope: &Scope) -> Scope {
    let (authority, path, length) = match scope {
        Scope::Url { authority, path, query } => {
            (authority, path, path.len() + query.as_ref().map_or(0, Vec::len))
        }
        Scope::Prefix { authority, path } => (authority, path, path.len()),
        Scope::All | Scope::Tag(_) | Scope::TagPrefix(_) | Scope::Route(_) | Scope::Identity(_) => {
            return scope.clone();
        }
    };
    if length <= MAX_TARGET {
        return scope.clone();
    }
    let beginning = path.get(..MAX_TARGET).unwrap_or(path);
    Scope::Prefix { authority: authority.clone(), path: beginning.to_vec() }
}

/// Which connection the operations on a resource take: always the same one, so that they keep their order.
pub(super) fn shard_of(key: &Key, shards: usize) -> usize {
    usize::try_from(key.hash() % u64::try_from(shards).unwrap_or(1).max(1)).unwrap_or(0)
}

/// What the value of a variant says about the key that it was stored for.
fn echo_of(resource: &Key, digest: &VariantDigest) -> Vec<u8> {
    [resource.digest(), *digest].concat()
}

#[cfg(test)]
mod tests;
