//! The cache as the ingress plane sees it: keys, lookups, flights, copies, storing, purging. It judges neither
//! freshness nor storability (`rfc9111` does), fetches nothing and spawns nothing.

mod peek;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{
    body::BodyPart,
    entry::{Entry, NewEntry},
    fill::{Fill, FillBudget},
    flight::{Flight, Landed, Lead, Seat, Waiter},
    hit_for_miss::HitForMiss,
    hot::Hot,
    identity::{IdentityTag, Namer, Who},
    key::{Key, KeyMaker, KeyRule, Target},
    memory::{Found, MemoryTier, Retired},
    purge::{Generation, Marks, Verdict},
    replicas::Replicas,
    rfc9111::Coding,
    scope::Scope,
    stats::{CacheStats, Counters},
    tags::MAX_TAGS,
    to_u64,
    variants::Variants,
};
use crate::{
    config,
    telemetry::record::{HitSource, Reason},
};

pub use peek::Peek;

/// Bodies copied at once.
const MAX_FILLS: u64 = 512;

/// Bytes of names and values that a stored head may have.
const MAX_HEAD: usize = 32 * 1024;

/// The bounds of the cache.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of the tier in memory.
    pub memory_bytes: u64,
    /// Bytes of bodies that are being copied, all together.
    pub fill_bytes: u64,
    /// Requests that may wait for one fetch.
    pub followers: usize,
    /// Variants of one resource.
    pub max_variants: usize,
    /// The longest lifetime of an entry together with its widest window, in milliseconds. Purge marks are kept so long;
    /// what is older than the oldest of them counts as purged.
    pub longest_life_ms: u64,
    /// The secret that identities are named with; without it each cache makes one for itself.
    pub identity_secret: Option<config::Secret>,
}

/// The cache of one process.
#[derive(Debug)]
pub struct Cache {
    pub(super) maker: KeyMaker,
    pub(super) namer: Namer,
    pub(super) memory: MemoryTier,
    flight: Flight,
    pub(super) hit_for_miss: HitForMiss,
    pub(super) marks: Marks,
    fills: FillBudget,
    hot: Hot,
    counters: Counters,
    /// The tier that replicas share.
    pub(super) replicas: Option<Replicas>,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The entry that fits key and selecting fields, if there is one that may be used in any way.
    pub entry: Option<Arc<Entry>>,
    /// The entry is to be taken as stale, whatever its lifetime: a soft purge.
    pub is_stale: bool,
    /// Without an entry: why.
    pub absence: Reason,
    /// The tier where the entry was found.
    pub source: HitSource,
    pub(super) key: Key,
    /// The variants of which none fits.
    pub(super) variants: Option<Arc<Variants>>,
    /// The shared tier was asked and gave no answer.
    pub(super) is_unanswered: bool,
}

/// What a request that needs a fetch has to do.
#[derive(Debug)]
pub enum Turn {
    /// Fetch; others may wait for it.
    Lead(Lead),
    /// Wait with [`Cache::follow`].
    Follow(Waiter),
    /// Another request has stored an answer since the lookup.
    Found(Arc<Entry>),
    /// Fetch without sharing. With a reason if the last answer for the key could not be stored.
    Alone(Option<Reason>),
}

/// What a purge did.
#[derive(Debug)]
pub struct PurgeOutcome {
    /// The generation of the purge.
    pub generation: Generation,
    /// Entries taken out of memory. None where counting them would need a scan: they are found dead when looked up.
    pub cleared: Option<u64>,
    /// What was taken out, to be dropped where nobody waits.
    pub retired: Option<Retired>,
}

impl From<&config::Cache> for Settings {
    fn from(config: &config::Cache) -> Self {
        let longest_life = config.max_ttl.saturating_mul(2).saturating_add(config.stale_on_disconnect);
        Self {
            memory_bytes: config.memory.size.bytes(),
            fill_bytes: config.fill_memory.bytes(),
            followers: usize::try_from(config.followers).unwrap_or(usize::MAX),
            max_variants: usize::try_from(config.max_variants).unwrap_or(usize::MAX),
            longest_life_ms: u64::try_from(longest_life.as_millis()).unwrap_or(u64::MAX),
            identity_secret: config.identity_secret.clone(),
        }
    }
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let maker = KeyMaker::default();
        Self {
            memory: MemoryTier::new(settings.memory_bytes, settings.max_variants, maker.clone()),
            flight: Flight::new(settings.followers),
            hit_for_miss: HitForMiss::default(),
            marks: Marks::new(maker.clone(), settings.longest_life_ms),
            fills: FillBudget::new(settings.fill_bytes, MAX_FILLS),
            hot: Hot::default(),
            counters: Counters::default(),
            replicas: None,
            namer: Namer::new(settings.identity_secret.as_ref()),
            maker,
        }
    }

    /// The key of a request.
    #[must_use]
    pub fn key(&self, rule: &KeyRule, target: &Target<'_>, request: &HeaderMap) -> Key {
        self.maker.key_of(rule, target, request, None)
    }

    /// The key of a request that is one user's own.
    #[must_use]
    pub fn key_of(
        &self,
        rule: &KeyRule,
        target: &Target<'_>,
        request: &HeaderMap,
        identity: Option<&IdentityTag>,
    ) -> Key {
        self.maker.key_of(rule, target, request, identity)
    }

    /// The name of a verified identity. None: there is no secret to name it with, so it has no entries.
    #[must_use]
    pub fn identity_tag(&self, who: &Who<'_>) -> Option<IdentityTag> {
        self.namer.tag(who)
    }

    /// What a purge of one user ends: every entry with this subject, whatever its issuer, claims and route.
    #[must_use]
    pub fn identity_scope(&self, subject: &str) -> Option<Scope> {
        self.namer.scope(subject)
    }

    /// Whether other processes give identities the same names. If not, an entry with [`Key::is_identity`] must not leave
    /// this process, and a purge of one user has no meaning elsewhere.
    #[must_use]
    pub const fn shares_identities(&self) -> bool {
        self.namer.is_shared()
    }

    /// The key of a POST with this body, from the key of a GET of the same target.
    #[must_use]
    pub fn posted(&self, get: &Key, body: &BodyPart) -> Key {
        self.maker.posted(get, body)
    }

    /// Looks for an entry that fits the request. Whether it is fresh is for the caller to judge.
    #[must_use]
    pub fn lookup(&self, key: Key, request: &HeaderMap, now_ms: u64) -> Lookup {
        let lookup = self.look(key, request, now_ms);
        if lookup.entry.is_none() {
            self.counters.absence();
        }
        lookup
    }

    /// Counts an answer that was served from this entry.
    pub fn used(&self, entry: &Arc<Entry>) {
        self.hot.count(entry);
    }

    /// At most `most` of the entries used most, most used first.
    #[must_use]
    pub fn most_used(&self, most: usize, now_ms: u64) -> Vec<Arc<Entry>> {
        let mut entries = self.hot.entries();
        entries
            .retain(|entry| now_ms < entry.useless_after_ms() && self.marks.verdict(entry) != Verdict::Dead);
        entries.truncate(most);
        entries
    }

    /// The purge generation of now, to be read before each fetch whose answer may be stored.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.marks.generation()
    }

    /// Takes a place in the fetch for a lookup that found nothing to serve.
    #[must_use]
    pub fn join(&self, lookup: &Lookup, request: &HeaderMap, now_ms: u64) -> Turn {
        let key = self.flight_key(lookup, request);
        if self.hit_for_miss.is_remembered(&key, now_ms) {
            return Turn::Alone(Some(Reason::HitForMiss));
        }
        let lead = match self.flight.join(&key) {
            Seat::Lead(lead) => lead,
            Seat::Follow(waiter) => return Turn::Follow(waiter),
            Seat::Full => return Turn::Alone(None),
        };
        // Between lookup and join another flight may have landed: whoever leads looks again.
        let again = self.look(lookup.key.clone(), request, now_ms);
        match again.entry {
            Some(entry) if !again.is_stale && !lookup.has(&entry) => {
                lead.publish(Arc::clone(&entry));
                Turn::Found(entry)
            }
            Some(_) | None => Turn::Lead(lead),
        }
    }

    /// Waits for the leader. What it brings is returned only if it fits this request and was not purged meanwhile.
    pub async fn follow(&self, waiter: &mut Waiter, request: &HeaderMap) -> Landed {
        match waiter.landed().await {
            Landed::Entry(entry) if !entry.matches(request) => Landed::Go,
            Landed::Entry(entry) if self.marks.verdict(&entry) != Verdict::Alive => Landed::Go,
            landed => landed,
        }
    }

    /// Begins a copy of a body; `length` if the answer declares one.
    pub fn fill(&self, max_body: u64, length: Option<u64>) -> Result<Fill, Reason> {
        self.fills.begin(max_body, length)
    }

    /// Stores an answer. The error says why it was not.
    pub fn store(&self, new: NewEntry, now_ms: u64) -> Result<Arc<Entry>, Reason> {
        self.renew(new, None, now_ms)
    }

    /// Stores an answer in the place of `base`, whose coded bodies it takes over where its own is the same.
    pub fn renew(&self, new: NewEntry, base: Option<&Entry>, now_ms: u64) -> Result<Arc<Entry>, Reason> {
        let head: usize = new.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if head > MAX_HEAD || new.tags.len() > MAX_TAGS {
            return Err(Reason::TooLarge);
        }
        let entry = Arc::new(Entry::new(new).stored_at(now_ms));
        if self.marks.verdict(&entry) == Verdict::Dead {
            return Err(Reason::Purged);
        }
        if let Some(base) = base {
            entry.inherit_codings(base);
        }
        match self.memory.put(&entry, now_ms) {
            // What is too large here may still lie where the replicas share.
            Err(Reason::TooLarge) if self.is_shared_now(&entry) => {}
            placed => placed?,
        }
        self.share(&entry);
        self.hit_for_miss.forget(entry.key());
        if !entry.selection().is_any() {
            self.hit_for_miss.forget(&self.memory.variant_key(entry.key(), entry.selection()));
        }
        self.counters.store();
        Ok(entry)
    }

    /// Whether the entry still lies in memory, so that work on it is not in vain.
    #[must_use]
    pub fn holds(&self, entry: &Arc<Entry>) -> bool {
        self.memory.holds(entry)
    }

    /// Keeps what became of a coding that was begun: its body, or none where it is of no use. The body counts in the
    /// size of the tier; without room for it the entry goes on without.
    pub fn add_coding(&self, entry: &Arc<Entry>, coding: Coding, body: Option<Bytes>, now_ms: u64) {
        let is_kept = body.is_some_and(|body| self.memory.add_coded(entry, coding, body, now_ms));
        if !is_kept {
            entry.set_coded(coding, None);
        }
    }

    /// Ends a flight whose answer cannot be stored, and remembers the key: for a while nobody waits for it again.
    pub fn release(&self, lead: Lead, now_ms: u64) {
        self.hit_for_miss.remember(lead.key(), now_ms);
        lead.release();
    }

    /// Remembers that the last answer for a key could not be stored, where nobody waits for it.
    pub fn passed(&self, key: &Key, now_ms: u64) {
        self.hit_for_miss.remember(key, now_ms);
    }

    /// Takes an entry out, if it still lies there.
    pub fn remove(&self, entry: &Arc<Entry>) {
        self.memory.remove(entry);
        self.end(entry);
    }

    /// Ends what `scope` names; `soft` keeps it as stale. From the return on no purged copy is served here.
    pub fn purge(&self, scope: &Scope, soft: bool, now_ms: u64) -> PurgeOutcome {
        let announcing = self.announcing(scope);
        let generation = self.marks.purge(scope, soft, now_ms);
        if let Some(announcing) = announcing {
            announcing.add(scope, soft, generation);
        }
        self.counters.purge();
        if *scope != Scope::All || soft {
            return PurgeOutcome { generation, cleared: None, retired: None };
        }
        self.hit_for_miss.clear();
        let (cleared, retired) = self.memory.clear();
        PurgeOutcome { generation, cleared: Some(cleared), retired: Some(retired) }
    }

    /// Ends all copies of a target in favour of an answer to a write that is to be stored under `key`; returns the
    /// generation to store it with. None when a purge since `before` ends that answer too.
    #[must_use]
    pub fn supersede(&self, key: &Key, route: &str, before: Generation, now_ms: u64) -> Option<Generation> {
        let (authority, query) = (Some(key.authority().to_vec()), key.query().map(Into::into));
        let scope = Scope::Url { authority, path: key.path().into(), query };
        let announcing = self.announcing(&scope);
        let generation = self.marks.supersede(key, route, before, now_ms)?;
        if let Some(announcing) = announcing {
            announcing.add(&scope, false, generation);
        }
        self.counters.purge();
        Some(generation)
    }

    /// The numbers of now. Settles the tier first, so it is not for every request.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.memory.tidy();
        self.hot.tidy();
        let mut stats = CacheStats {
            entries: self.memory.entries(),
            bytes: self.memory.bytes(),
            bytes_max: self.memory.size(),
            evictions: self.memory.evictions(),
            marks: to_u64(self.marks.count()),
            fills: self.fills.fills(),
            fill_bytes: self.fills.bytes(),
            flights: to_u64(self.flight.flying()),
            waiting: to_u64(self.flight.waiting()),
            ..CacheStats::default()
        };
        self.counters.write_to(&mut stats);
        stats
    }

    fn look(&self, key: Key, request: &HeaderMap, now_ms: u64) -> Lookup {
        let entry = match self.memory.find(&key, request) {
            Found::Entry(entry) => entry,
            Found::Nothing => return Lookup::without(Reason::Absent, key),
            Found::NoVariant(variants) => {
                return Lookup { variants: Some(variants), ..Lookup::without(Reason::Vary, key) };
            }
        };
        if now_ms >= entry.useless_after_ms() {
            return Lookup::without(Reason::Absent, key);
        }
        let verdict = self.marks.verdict(&entry);
        if verdict == Verdict::Dead {
            self.memory.remove(&entry);
            return Lookup::without(Reason::Purged, key);
        }
        let is_stale = verdict == Verdict::Stale || self.is_blind_to(&entry, now_ms);
        Lookup { entry: Some(entry), is_stale, ..Lookup::without(Reason::Absent, key) }
    }

    /// The key under which a fetch is shared: that of the variant, as far as the selecting fields are known already, so
    /// that requests with different values do not wait for one another.
    fn flight_key(&self, lookup: &Lookup, request: &HeaderMap) -> Key {
        let of_request;
        let selection = match (&lookup.entry, &lookup.variants) {
            (Some(entry), _) => Some(entry.selection()),
            (None, Some(variants)) => {
                of_request = variants.selection_of(request);
                of_request.as_ref()
            }
            (None, None) => None,
        };
        selection
            .map_or_else(|| lookup.key.clone(), |selection| self.memory.variant_key(&lookup.key, selection))
    }
}

impl Lookup {
    fn without(absence: Reason, key: Key) -> Self {
        let source = HitSource::Memory;
        Self { entry: None, is_stale: false, absence, source, key, variants: None, is_unanswered: false }
    }

    /// The key of the resource.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    fn has(&self, entry: &Arc<Entry>) -> bool {
        self.entry.as_ref().is_some_and(|known| Arc::ptr_eq(known, entry))
    }
}

#[cfg(test)]
mod tests;
