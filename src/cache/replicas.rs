//! The cache and the tier that replicas share: what is looked for there, whose fetch is whose, and what the others hear.
//!
//! Memory is asked first and Redis only where memory has nothing to serve. All of it fails open: without an answer from
//! Redis things go on as if there were none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::time::{Instant, sleep, timeout};

use super::{
    clock::Clock,
    entry::{Entry, NewEntry},
    flight::{Flight, Landed, Lead, Seat},
    key::Key,
    memory::Found,
    purge::Verdict,
    redis::{Announcing, Asked, Kept, Leased, RedisTier},
    scope::Scope,
    store::{Cache, Lookup},
};
use crate::{
    config,
    telemetry::{HitSource, RedisStats},
};

/// What lies in Redis counts as another answer than ours if it was made so much later: two hosts agree on the moment of one
/// answer no better.
const SAME_MS: i64 = 20;

/// Requests that wait for one question to Redis.
const MAX_WAITING: usize = 10_000;

/// The pause before another look at a fetch of another replica: at first, doubling up to the longest.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LONGEST_LOOK: Duration = Duration::from_millis(25);

/// The shared tier, with what the cache needs to use it.
#[derive(Debug)]
pub(super) struct Replicas {
    pub(super) tier: Arc<RedisTier>,
    clock: Clock,
    /// Questions under way: one answer does for all who ask for the same key.
    questions: Flight,
    operation: Duration,
    lease_wait: Duration,
    blind_ms: u64,
    life_ms: u64,
    /// When a question had no answer last, in monotonic milliseconds and one more; zero for never.
    failed_ms: AtomicU64,
}

impl Cache {
    /// Shares the cache with other replicas through Redis, if the configuration names one.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn shared(mut self, config: &config::Cache, clock: Clock) -> std::io::Result<Self> {
        if config.redis.url.nodes().is_empty() {
            return Ok(self);
        }
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let secret = config.identity_secret.as_ref().map(|secret| secret.expose().as_bytes());
        let stats = Arc::new(RedisStats::new(&config.redis.url.to_string()));
        let tier = RedisTier::new(&config.redis, secret, config.fill_memory.bytes(), clock, stats)?;
        self.replicas = Some(Replicas {
            tier: Arc::new(tier),
            clock,
            questions: Flight::new(MAX_WAITING),
            operation: config.redis.operation,
            lease_wait: config.redis.lease_wait,
            blind_ms: ms(config.blind_ttl),
            life_ms: ms(config.max_ttl.saturating_mul(2).saturating_add(config.stale_on_disconnect)),
            failed_ms: AtomicU64::new(0),
        });
        Ok(self)
    }

    /// The numbers of the shared tier, if there is one.
    #[must_use]
    pub fn redis(&self) -> Option<&Arc<RedisStats>> {
        self.replicas.as_ref().map(|replicas| replicas.tier.stats())
    }

    /// How many writers the shared tier needs.
    #[must_use]
    pub fn writers(&self) -> usize {
        self.replicas.as_ref().map_or(0, |replicas| replicas.tier.writers())
    }

    /// Writes behind the answers, as one of [`Self::writers`], for ever. Dropping the future is safe.
    pub async fn write(&self, index: usize) {
        if let Some(replicas) = &self.replicas {
            replicas.tier.write(index).await;
        }
    }

    /// Whether nothing waits to be written to the shared tier.
    #[must_use]
    pub fn has_told_all(&self) -> bool {
        self.replicas.as_ref().is_none_or(|replicas| replicas.tier.has_told_all())
    }

    /// Keeps the shared tier connected and this replica informed, for ever. Dropping the future is safe.
    pub async fn keep(&self) {
        if let Some(replicas) = &self.replicas {
            replicas.tier.keep(self.kept(replicas)).await;
        }
    }

    /// Looks into the shared tier for what memory did not have, or not fresh. What is found there is in memory from then
    /// on. Without an answer in time the lookup stays as it was.
    pub async fn look_further(&self, lookup: Lookup, request: &HeaderMap) -> Lookup {
        let Some(replicas) = self.replicas_for(&lookup.key).filter(|replicas| replicas.tier.is_up()) else {
            return lookup;
        };
        let asked_ms = replicas.clock.now_ms();
        if self.hit_for_miss.is_remembered(&lookup.key, asked_ms) {
            return lookup;
        }
        let lead = match replicas.questions.join(&lookup.key) {
            Seat::Lead(lead) => Some(lead),
            Seat::Full => None,
            Seat::Follow(mut waiter) => match timeout(replicas.operation, waiter.landed()).await {
                Ok(Landed::Entry(entry)) if entry.matches(request) => return self.adopt(lookup, entry),
                Ok(Landed::Lead(lead)) => Some(lead),
                // Another variant is the only one that was found; ours may be there too.
                Ok(Landed::Entry(_)) => None,
                // There is nothing, or no answer: then it is not waited for once more.
                Ok(Landed::Go) => {
                    let is_unanswered = replicas.failed_ms.load(Ordering::Relaxed) > asked_ms;
                    return Lookup { is_unanswered, ..lookup };
                }
                Err(_) => return Lookup { is_unanswered: true, ..lookup },
            },
        };
        let now = self.marks.generation();
        let found = match replicas.tier.get(&lookup.key, request, now).await {
            Ok(found) => found.and_then(|new| self.take_in(*new, request, replicas.clock.now_ms())),
            Err(_) => {
                replicas.failed_ms.store(replicas.clock.now_ms().saturating_add(1), Ordering::Relaxed);
                // Those who wait would wait in vain as well.
                if let Some(lead) = lead {
                    lead.release();
                }
                return Lookup { is_unanswered: true, ..lookup };
            }
        };
        match (lead, &found) {
            (Some(lead), Some(entry)) => lead.publish(Arc::clone(entry)),
            (Some(lead), None) => lead.release(),
            (None, _) => {}
        }
        match found {
            Some(entry) => self.adopt(lookup, entry),
            None => lookup,
        }
    }

    /// Asks for the duty to fetch towards other replicas, and waits a while for the one that has it. An entry means that
    /// nobody needs to fetch. The duty is then with `lead`, or nobody's because Redis gave no answer or the wait was over.
    pub async fn lease(
        &self,
        lead: &mut Lead,
        lookup: &Lookup,
        request: &HeaderMap,
        life: Duration,
    ) -> Option<Arc<Entry>> {
        let replicas = self.replicas_for(&lookup.key).filter(|replicas| replicas.tier.is_up())?;
        if lookup.is_unanswered {
            return None;
        }
        let deadline = Instant::now() + replicas.lease_wait;
        let (mut pause, mut seen) = (FIRST_LOOK, Vec::new());
        loop {
            let asked = Asked { key: &lookup.key, request, now: self.marks.generation() };
            let asked = replicas.tier.lease(lead.key(), asked, life, &mut seen).await;
            let Ok(Leased { found, lease }) = asked else { return None };
            let now_ms = replicas.clock.now_ms();
            if let Some(new) = found.filter(|new| is_news(lookup, new))
                && let Some(entry) = self.take_in(*new, request, now_ms)
                && entry.may_be_shared(now_ms)
                && self.marks.verdict(&entry) == Verdict::Alive
            {
                return Some(entry);
            }
            if let Some(lease) = lease {
                lead.hold(lease);
                return None;
            }
            if Instant::now() + pause >= deadline {
                return None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Waits until other replicas can hear of all purges so far. False: they cannot yet, and will when Redis is back. True
    /// without a shared tier.
    pub async fn announced(&self) -> bool {
        match &self.replicas {
            Some(replicas) => replicas.tier.flush(self.kept(replicas)).await,
            None => true,
        }
    }

    /// To be taken before a purge comes into force that the other replicas have to hear of.
    pub(super) fn announcing(&self, scope: &Scope) -> Option<Announcing<'_>> {
        // Without a shared secret a user's name means nothing to other replicas, and nothing of the user is theirs.
        let is_own = matches!(scope, Scope::Identity(_)) && !self.namer.is_shared();
        self.replicas.as_ref().filter(|_| !is_own).map(|replicas| replicas.tier.announcing())
    }

    /// An entry ends for all.
    pub(super) fn end(&self, entry: &Entry) {
        if let Some(replicas) = self.replicas_for(entry.key()) {
            replicas.tier.end(entry, self.memory.variant_key(entry.key(), entry.selection()));
        }
    }

    /// Hands an entry to the other replicas.
    pub(super) fn share(&self, entry: &Arc<Entry>) {
        if let Some(replicas) = self.replicas_for(entry.key()) {
            replicas.tier.put(entry, self.memory.variant_key(entry.key(), entry.selection()));
        }
    }

    /// Whether an entry goes to the shared tier now.
    pub(super) fn is_shared_now(&self, entry: &Entry) -> bool {
        self.replicas_for(entry.key()).is_some_and(|replicas| replicas.tier.takes(entry))
    }

    /// Whether an entry has to count as stale because what was purged elsewhere cannot be heard.
    pub(super) fn is_blind_to(&self, entry: &Entry, now_ms: u64) -> bool {
        let Some(replicas) = &self.replicas else { return false };
        let Some(since_ms) = replicas.tier.down_since_ms() else { return false };
        now_ms >= since_ms.max(entry.stored_ms()).saturating_add(replicas.blind_ms)
    }

    /// The shared tier, for what may be shared: not where identities have names that only this process knows.
    fn replicas_for(&self, key: &Key) -> Option<&Replicas> {
        self.replicas.as_ref().filter(|_| !key.is_identity() || self.namer.is_shared())
    }

    fn kept<'a>(&'a self, replicas: &'a Replicas) -> Kept<'a> {
        let life_ms = replicas.life_ms;
        Kept { marks: &self.marks, memory: &self.memory, maker: &self.maker, life_ms }
    }

    /// Takes an entry of another replica into memory, unless a younger one or this very answer has come there since: then it
    /// is that one. None: it was purged, or is good for nothing.
    fn take_in(&self, new: NewEntry, request: &HeaderMap, now_ms: u64) -> Option<Arc<Entry>> {
        let entry = Arc::new(Entry::new(new).stored_at(now_ms));
        if now_ms >= entry.useless_after_ms() || self.marks.verdict(&entry) == Verdict::Dead {
            return None;
        }
        if let Found::Entry(known) = self.memory.find(entry.key(), request)
            && known.meta().expires_ms.saturating_add(SAME_MS) >= entry.meta().expires_ms
            && self.marks.verdict(&known) == Verdict::Alive
        {
            return Some(known);
        }
        // Where there is no room for it, it serves this request alone.
        let _ = self.memory.put(&entry, now_ms);
        Some(entry)
    }

    /// The lookup with what was found in the shared tier, unless memory has the younger one.
    fn adopt(&self, lookup: Lookup, entry: Arc<Entry>) -> Lookup {
        let is_younger =
            lookup.entry.as_ref().is_none_or(|known| entry.meta().expires_ms > known.meta().expires_ms);
        match self.marks.verdict(&entry) {
            Verdict::Dead => lookup,
            _ if !is_younger => lookup,
            verdict => Lookup {
                entry: Some(entry),
                is_stale: verdict == Verdict::Stale,
                source: HitSource::Redis,
                ..lookup
            },
        }
    }
}

/// Whether what was found is not merely the copy that is to be renewed.
fn is_news(lookup: &Lookup, found: &NewEntry) -> bool {
    let known = lookup.entry.as_ref().map(|known| known.meta().born_ms);
    known.is_none_or(|born_ms| found.meta.born_ms > born_ms.saturating_add(SAME_MS))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderMap;

    use crate::cache::{
        Cache, NewEntry, Settings,
        key::KeyMaker,
        memory::Found,
        purge::Generation,
        samples::{answer, key, meta},
        scope::Scope,
    };

    #[test]
    fn what_comes_from_redis_takes_the_place_of_older_copies_alone() {
        let cache = Cache::new(&Settings::from(&crate::config::Cache::default()));
        let (key, nothing) = (key(&KeyMaker::default(), "/a"), HeaderMap::new());
        let of_life = |ms| NewEntry { meta: meta(ms), generation: cache.generation(), ..answer(&key, 10) };
        let held = || match cache.memory.find(&key, &nothing) {
            Found::Entry(entry) => entry.meta().expires_ms,
            other => panic!("{other:?}"),
        };
        let younger = cache.store(of_life(60_000), 0).unwrap();

        let taken = cache.take_in(of_life(30_000), &nothing, 1).unwrap();
        assert!(Arc::ptr_eq(&taken, &younger), "it came while Redis was asked");
        let taken = cache.take_in(of_life(60_001), &nothing, 1).unwrap();
        assert!(Arc::ptr_eq(&taken, &younger), "two clocks agree no better on one answer");
        assert_eq!(held(), 60_000);

        assert!(cache.take_in(of_life(90_000), &nothing, 1).is_some());
        assert_eq!(held(), 90_000);

        cache.purge(&Scope::All, true, 2);
        assert!(cache.take_in(of_life(45_000), &nothing, 3).is_some());
        assert_eq!(held(), 45_000, "the other one is stale since the purge");
        let old = NewEntry { generation: Generation::default(), ..of_life(99_000) };
        cache.purge(&Scope::All, false, 4);
        assert!(cache.take_in(old, &nothing, 5).is_none());
    }
}
