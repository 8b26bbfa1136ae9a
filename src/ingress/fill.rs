//! Keeping answers: copies that are made while the client is served, entries renewed by a 304, and bounds on bodies.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use tokio::time::Instant;

use super::{
    Core, Ingress,
    exchange::Exchange,
    fetch::Plan,
    identity,
    outbound::Outbound,
    respond::{Ready, Told, stored},
    routes::Route,
};
use crate::{
    cache::{
        Entry, Fill, Generation, Key, Lead, MAX_TAGS, NewEntry, Tag, TagTemplate, TagValues, body_members,
        is_clean_answer,
        rfc9111::{
            Merge, ResponseHead, Source, Storable, Times, cache_groups, is_encodable, jittered, make_private,
            may_store, vary_by_coding,
        },
    },
    config::{BodyKey, CacheMode},
    net::{Body, BodyError, Chunks},
    telemetry::{CacheStatus, Fwd, Operation, Reason, Tier},
    upstream::Reply,
};

/// How long a fetch or a copy that no client waits for may take.
pub(super) const BACKGROUND: Duration = Duration::from_secs(60);

/// An answer that has just come.
pub(super) struct Fetched {
    pub(super) reply: Reply,
    pub(super) times: Times,
    /// The purge generation before the fetch.
    pub(super) generation: Generation,
    pub(super) told: Told,
}

impl Fetched {
    pub(super) fn status(&self) -> u16 {
        self.reply.response.status().as_u16()
    }
}

/// What is needed to store an answer once its body has ended.
struct Pending {
    core: Arc<Core>,
    lead: Option<Lead>,
    key: Key,
    route: Arc<str>,
    status: StatusCode,
    headers: HeaderMap,
    storable: Storable,
    /// The body is to be looked through for errors that the status does not tell.
    is_graphql: bool,
    tags: Vec<Tag>,
    generation: Generation,
    fetch_ms: u32,
}

/// Decides whether the answer is kept, and keeps it: at once when its body is at hand, else while it is sent.
pub(super) fn keep(exchange: &Exchange, outbound: &Outbound, plan: Plan, fetched: Fetched) -> Ready {
    let Some(key) = key_for(exchange, &plan) else {
        return Ready { response: fetched.reply.response, encoded: None, told: fetched.told };
    };
    let is_known = plan.lookup.as_ref().is_some_and(|lookup| lookup.entry.is_some());
    let begun = begin(exchange, outbound, &fetched, is_known);
    let Fetched { reply, times, generation, mut told } = fetched;
    let mut response = reply.response;
    let ingress = exchange.ingress();
    let begun = begun.and_then(|(storable, fill)| {
        if exchange.parts.method == Method::GET || exchange.posted.is_some() {
            return Ok((storable, fill, generation));
        }
        // A write ends the older copies of its target; its own answer takes their place.
        let now_ms = ingress.clock.now_ms();
        let generation = ingress.cache.supersede(&key, &exchange.route.name, generation, now_ms);
        generation.map(|generation| (storable, fill, generation)).ok_or(Reason::Purged)
    });
    let (storable, mut fill, generation) = match begun {
        Ok(begun) => begun,
        Err(reason) => {
            if exchange.parts.method == Method::HEAD
                && exchange.route.policy.compress
                && is_encodable(response.status(), response.headers())
            {
                // The head of a GET would say so.
                vary_by_coding(response.headers_mut());
            }
            told.is_cacheable |= is_accident(reason);
            // Who passed by the queue is told so: what kept the answer from being stored was told to the one before.
            told.reason = told.reason.filter(|reason| *reason == Reason::HitForMiss).or(Some(reason));
            match plan.lead {
                Some(lead) => free(ingress, lead, reason, response.status()),
                // Nobody waits for it, and for a while nobody asks the other replicas for it either.
                None if ingress.cache.redis().is_some() && !is_passing(reason, response.status()) => {
                    ingress.cache.passed(&key, ingress.clock.now_ms());
                }
                None => {}
            }
            return Ready { response, encoded: None, told };
        }
    };
    if storable.is_encodable {
        // This answer goes out plain, but caches behind us must not keep it for those who would get a coded one.
        vary_by_coding(response.headers_mut());
    }
    let pending = Pending {
        core: Arc::clone(&exchange.core),
        lead: plan.lead,
        key,
        route: Arc::clone(&exchange.route.name),
        status: response.status(),
        headers: storable.head(response.headers()),
        is_graphql: exchange.posted.is_some()
            && exchange.route.key.body == Some(BodyKey::Graphql)
            && storable.meta.source == Source::Rule,
        storable,
        tags: tags_of(exchange, response.headers()),
        generation,
        fetch_ms: u32::try_from(times.received_ms.saturating_sub(times.sent_ms)).unwrap_or(u32::MAX),
    };
    (told.is_stored, told.is_cacheable) = (true, true);
    if exchange.identity.is_some() {
        make_private(response.headers_mut(), &exchange.route.policy.targeted);
    }
    let whole = match std::mem::take(response.body_mut()) {
        Body::Empty => Bytes::new(),
        Body::Full(data) => data,
        Body::Stream(stream) => {
            let filling = Filling { body: Body::Stream(stream), copy: Some((fill, pending)) };
            *response.body_mut() = Body::of(filling);
            return Ready { response, encoded: None, told };
        }
    };
    // A copy of its exact size: the received bytes may lie in a larger read buffer.
    let stored = fill.push(&whole).and_then(|()| pending.store(fill.finish()));
    match stored {
        Ok(entry) => answer_from(exchange, &entry, response, told),
        Err(reason) => {
            *response.body_mut() = Body::full(whole);
            Ready { response, encoded: None, told: Told { is_stored: false, reason: Some(reason), ..told } }
        }
    }
}

/// The key under which the answer may be kept: that of the lookup, or that of a GET of the same target for the answer to
/// a POST. None when the cache takes no part.
fn key_for(exchange: &Exchange, plan: &Plan) -> Option<Key> {
    if let Some(lookup) = &plan.lookup {
        return Some(lookup.key().clone());
    }
    let may_store = |route: &Route| route.policy.mode == CacheMode::Serve && route.policy.stores_post();
    if exchange.parts.method != Method::POST
        || plan.reason != Some(Reason::Method)
        || !may_store(&exchange.route)
    {
        return None;
    }
    // A GET may take another route, with keys of its own.
    let table = &exchange.ingress().table;
    let of_get = table.find(&Method::GET, exchange.host.as_bytes(), exchange.parts.uri.path());
    may_store(of_get).then(|| exchange.key())
}

/// Whether a copy may be made, by the head of the answer and the room there is. `is_known`: there is a copy that it would
/// replace.
fn begin(
    exchange: &Exchange,
    outbound: &Outbound,
    fetched: &Fetched,
    is_known: bool,
) -> Result<(Storable, Fill), Reason> {
    if exchange.parts.method == Method::HEAD {
        return Err(Reason::Method);
    }
    let response = &fetched.reply.response;
    let head = ResponseHead { status: response.status(), headers: response.headers() };
    let policy = &exchange.route.policy;
    let mut storable = may_store(&outbound.as_sent(exchange), &head, fetched.times, policy)?;
    storable.meta = identity::bound(exchange, storable.meta).ok_or(Reason::StaleOnArrival)?;
    // Only an announced end proves that the body is whole, and nobody but a rule said that this one may be kept.
    if fetched.reply.is_close_delimited && storable.meta.source == Source::Rule {
        return Err(Reason::Incomplete);
    }
    let fill = exchange.ingress().cache.fill(policy.max_body_bytes, response.body().exact_len())?;
    let received_ms = fetched.times.received_ms;
    if !is_known && !exchange.route.new_keys.take(exchange.ingress().clock.now_ms()) {
        return Err(Reason::TooManyKeys);
    }
    storable.meta = jittered(storable.meta, received_ms, (exchange.ingress().chance)(), policy);
    Ok((storable, fill))
}

/// Frees those who wait for an answer that is not kept. Where the next answer may well be kept, one of them leads; else
/// all go, and for a while nobody waits.
fn free(ingress: &Ingress, lead: Lead, reason: Reason, status: StatusCode) {
    if is_passing(reason, status) {
        drop(lead);
    } else {
        ingress.cache.release(lead, ingress.clock.now_ms());
    }
}

/// Whether the backend let the answer be kept, and something of ours or an accident came in between.
const fn is_accident(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Purged | Reason::FillLimit | Reason::TooManyKeys | Reason::TooLarge | Reason::Incomplete
    )
}

/// Whether the next answer for the same key may well be kept.
const fn is_passing(reason: Reason, status: StatusCode) -> bool {
    let is_of_moment = matches!(
        reason,
        Reason::Purged
            | Reason::FillLimit
            | Reason::TooManyKeys
            | Reason::RequestNoStore
            | Reason::Range
            | Reason::Method
    );
    is_of_moment || status.as_u16() >= 500
}

/// The client's answer to a fetch that filled: the backend's own, or what the client's conditions make of it.
fn answer_from(exchange: &Exchange, entry: &Arc<Entry>, mut response: Response<Body>, told: Told) -> Ready {
    let head = exchange.head();
    if head.has_condition() && exchange.route.policy.has_rule() {
        let ready = stored(exchange, &head, entry, exchange.ingress().clock.now_ms(), told);
        return Ready { told, ..ready };
    }
    if let Some(etag) =
        entry.headers().get(header::ETAG).filter(|_| !response.headers().contains_key(header::ETAG))
    {
        response.headers_mut().insert(header::ETAG, etag.clone());
    }
    *response.body_mut() = Body::full(entry.body().clone());
    Ready { response, encoded: None, told }
}

/// The tags of the route, and those that the answer names. One more than an entry may have is enough to refuse them all.
pub(super) fn tags_of(exchange: &Exchange, headers: &HeaderMap) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::new();
    if !exchange.route.tags.is_empty() {
        let parameters = exchange.route.parameters(exchange.parts.uri.path());
        let names = exchange.route.tags.iter().flat_map(TagTemplate::body_members);
        let members = exchange.posted.as_ref().map(|posted| body_members(posted.bytes(), names));
        let members = members.unwrap_or_default();
        let members: Vec<(&str, &str)> = members.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let query = exchange.parts.uri.query().map(str::as_bytes);
        let values = TagValues { path: &parameters, query, body: &members };
        tags.extend(exchange.route.tags.iter().map(|template| template.tag(&values)));
    }
    let named = Tag::named_by(headers).chain(groups_of(exchange, headers));
    tags.extend(named.take(MAX_TAGS + 1 - tags.len()));
    tags
}

/// The tags of the groups that an answer belongs to.
fn groups_of(exchange: &Exchange, headers: &HeaderMap) -> impl Iterator<Item = Tag> {
    let groups = cache_groups(headers).into_iter();
    groups.map(|group| Tag::of_group(exchange.scheme, exchange.host.as_bytes(), &group))
}

/// The tags of a copy that a 304 has renewed: those that the 304 names, or else its own, and the groups of its new head.
fn renewed_tags(exchange: &Exchange, base: &Entry, head: &HeaderMap, not_modified: &HeaderMap) -> Vec<Tag> {
    let is_named = Tag::named_by(not_modified).next().is_some();
    let mut tags = if is_named { tags_of(exchange, not_modified) } else { base.tags().to_vec() };
    tags.retain(|tag| !tag.is_group());
    tags.extend(groups_of(exchange, head).take(MAX_TAGS + 1 - tags.len().min(MAX_TAGS)));
    tags
}

impl Pending {
    /// Stores the answer with its whole body and frees those who wait for it.
    fn store(self, body: Bytes) -> Result<Arc<Entry>, Reason> {
        let ingress = &self.core.ingress;
        if self.is_graphql && !is_clean_answer(&self.headers, &body) {
            if let Some(lead) = self.lead {
                free(ingress, lead, Reason::GraphqlErrors, self.status);
            }
            return Err(Reason::GraphqlErrors);
        }
        let start = Instant::now();
        let now_ms = ingress.clock.at(start);
        let stored = ingress.cache.store(
            NewEntry {
                key: self.key,
                route: Some(self.route),
                status: self.status,
                headers: self.headers,
                body,
                meta: self.storable.meta,
                selection: self.storable.selection,
                tags: self.tags,
                wants_etag: self.storable.wants_etag,
                generation: self.generation,
                fetch_ms: self.fetch_ms,
            },
            now_ms,
        );
        ingress.telemetry.timed_operation(Tier::Memory, Operation::Store, start);
        match (&stored, self.lead) {
            (Ok(entry), Some(lead)) if entry.may_be_shared(now_ms) => lead.publish(Arc::clone(entry)),
            (Ok(_), Some(lead)) => ingress.cache.release(lead, now_ms),
            (Err(reason), Some(lead)) => free(ingress, lead, *reason, self.status),
            (_, None) => {}
        }
        stored
    }
}

/// A body that is copied on its way to the client. A client that leaves does not stop the copy: the rest is fetched in the
/// background, within the bounds of a copy.
struct Filling {
    body: Body,
    copy: Option<(Fill, Pending)>,
}

impl Filling {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = ready!(self.body.poll_chunk(cx));
        match &chunk {
            Some(Ok(data)) => {
                let pushed = self.copy.as_mut().map_or(Ok(()), |(fill, _)| fill.push(data));
                if let Err(reason) = pushed {
                    self.give_up(reason);
                } else if self.body.is_empty() {
                    self.complete();
                }
            }
            Some(Err(_)) => self.copy = None,
            None => self.complete(),
        }
        Poll::Ready(chunk)
    }

    fn complete(&mut self) {
        if let Some((fill, pending)) = self.copy.take() {
            // The client has its answer either way; a copy that could not be kept is counted by the cache.
            let _ = pending.store(fill.finish());
        }
    }

    /// There will be no copy: whoever waits for it has to fetch.
    fn give_up(&mut self, reason: Reason) {
        if let Some((_, pending)) = self.copy.take()
            && let Some(lead) = pending.lead
        {
            free(&pending.core.ingress, lead, reason, pending.status);
        }
    }
}

impl Chunks for Filling {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.poll(cx)
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let Some((fill, pending)) = self.copy.take() else { return };
        let drain = pending.core.ingress.drain.clone();
        if std::thread::panicking() || drain.is_closing() {
            return;
        }
        drain.spawn(tokio::time::timeout(BACKGROUND, finish(std::mem::take(&mut self.body), fill, pending)));
    }
}

/// Copies the rest of a body whose client has left.
async fn finish(mut body: Body, mut fill: Fill, pending: Pending) {
    while let Some(chunk) = body.chunk().await {
        let Ok(data) = chunk else { return };
        if let Err(reason) = fill.push(&data) {
            if let Some(lead) = pending.lead {
                free(&pending.core.ingress, lead, reason, pending.status);
            }
            return;
        }
    }
    // Nobody is left to be told when there is no copy.
    let _ = pending.store(fill.finish());
}

/// The answer from a copy that the backend has just confirmed with a 304. The copy lives anew.
pub(super) fn revalidated(
    exchange: &Exchange,
    base: &Arc<Entry>,
    merged: Merge,
    fetched: &Fetched,
    lead: Option<Lead>,
) -> Ready {
    let ingress = exchange.ingress();
    let now_ms = ingress.clock.now_ms();
    let (entry, reason) = match merged {
        Merge::Updated { head, storable } => {
            let stored = identity::bound(exchange, storable.meta).ok_or(Reason::StaleOnArrival);
            let tags = renewed_tags(exchange, base, &head, fetched.reply.response.headers());
            let new = |meta| NewEntry {
                tags,
                headers: head,
                meta: jittered(meta, now_ms, (ingress.chance)(), &exchange.route.policy),
                selection: storable.selection,
                wants_etag: storable.wants_etag,
                generation: fetched.generation,
                ..copy_of(base)
            };
            match stored.and_then(|meta| ingress.cache.renew(new(meta), Some(base), now_ms)) {
                Ok(fresh) => (fresh, None),
                Err(reason) => (Arc::clone(base), Some(reason)),
            }
        }
        Merge::Drop { head, reason } => {
            // A reason that lies in this request says nothing about the copy.
            let is_of_request = matches!(
                reason,
                Reason::RequestNoStore
                    | Reason::Authorization
                    | Reason::Credential
                    | Reason::Cookie
                    | Reason::Range
            );
            if !is_of_request {
                ingress.cache.remove(base);
            }
            (Arc::new(Entry::new(NewEntry { headers: head, ..copy_of(base) })), Some(reason))
        }
        Merge::Refetch => (Arc::clone(base), Some(Reason::Expired)),
    };
    match (lead, reason) {
        (Some(lead), None) if entry.may_be_shared(now_ms) => lead.publish(Arc::clone(&entry)),
        (Some(lead), Some(reason)) => free(ingress, lead, reason, entry.status()),
        (Some(lead), None) => ingress.cache.release(lead, now_ms),
        (None, _) => {}
    }
    let told =
        Told { fwd: Some(Fwd::Stale), fwd_status: Some(304), reason, ..Told::new(CacheStatus::Revalidated) };
    stored(exchange, &exchange.head(), &entry, now_ms, told)
}

/// Marks an entry as past its lifetime.
pub(super) fn expire(exchange: &Exchange, entry: &Arc<Entry>, now_ms: u64) {
    let new = NewEntry { meta: entry.meta().expired(now_ms), ..copy_of(entry) };
    // If it cannot be stored anew it is gone, which serves the same end.
    if exchange.ingress().cache.store(new, now_ms).is_err() {
        exchange.ingress().cache.remove(entry);
    }
}

fn copy_of(entry: &Entry) -> NewEntry {
    NewEntry {
        key: entry.key().clone(),
        route: entry.route().map(Arc::from),
        status: entry.status(),
        headers: entry.headers().clone(),
        body: entry.body().clone(),
        meta: *entry.meta(),
        selection: entry.selection().clone(),
        tags: entry.tags().to_vec(),
        wants_etag: false,
        generation: entry.generation(),
        fetch_ms: entry.fetch_ms(),
    }
}

/// A request body that may not be longer than its route allows.
pub(super) struct Limited {
    body: Body,
    left: u64,
}

impl Limited {
    pub(super) const fn new(body: Body, limit: u64) -> Self {
        Self { body, left: limit }
    }
}

impl Chunks for Limited {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = ready!(self.body.poll_chunk(cx));
        Poll::Ready(chunk.map(|chunk| {
            let data = chunk?;
            self.left = self.left.checked_sub(data.len() as u64).ok_or(BodyError::TooLarge)?;
            Ok(data)
        }))
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}
