//! Keeping answers: copies that are made while the client is served, entries renewed by a 304, and bounds on bodies.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::{
    Core,
    exchange::Exchange,
    fetch::sent_head,
    pipeline::Outcome,
    respond::{Told, stored},
};
use crate::{
    cache::{
        Entry, Fill, Generation, Key, Lead, Lookup, NewEntry, Tag, TagValues,
        rfc9111::{Merge, ResponseHead, Source, Storable, Times, may_store},
    },
    net::{Body, BodyError},
    telemetry::{Operation, Reason, Tier},
    upstream::Reply,
};

/// An answer that has just come.
pub(super) struct Fetched {
    pub(super) reply: Reply,
    pub(super) times: Times,
    /// The purge generation before the fetch.
    pub(super) generation: Generation,
    pub(super) told: Told,
    /// Whether its head allows a copy.
    pub(super) storable: Result<Storable, Reason>,
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
    tags: Vec<Tag>,
    generation: Generation,
    fetch_ms: u32,
}

/// Decides whether the answer is kept, and keeps it: at once when its body is at hand, else while it is sent.
pub(super) fn keep(
    exchange: &Exchange,
    lookup: Option<Lookup>,
    lead: Option<Lead>,
    fetched: Fetched,
) -> Outcome {
    let Fetched { reply, times, generation, mut told, storable } = fetched;
    let mut response = reply.response;
    let Some(lookup) = lookup.filter(|_| exchange.parts.method == Method::GET) else {
        return (response, told);
    };
    let ingress = exchange.ingress();
    let begun = storable.and_then(|storable| {
        let fill = ingress.cache.fill(exchange.route.policy.max_body_bytes, response.body().exact_len())?;
        Ok((storable, fill))
    });
    let (storable, fill) = match begun {
        Ok(begun) => begun,
        Err(reason) => {
            told.reason = Some(reason);
            if let Some(lead) = lead {
                ingress.cache.release(lead, times.received_ms);
            }
            return (response, told);
        }
    };
    let pending = Pending {
        core: Arc::clone(&exchange.core),
        lead,
        key: lookup.key().clone(),
        route: Arc::clone(&exchange.route.name),
        status: response.status(),
        headers: storable.head(response.headers()),
        storable,
        tags: tags_of(exchange),
        generation,
        fetch_ms: u32::try_from(times.received_ms.saturating_sub(times.sent_ms)).unwrap_or(u32::MAX),
    };
    told.is_stored = true;
    let body = std::mem::take(response.body_mut());
    let whole = match body {
        Body::Empty => Bytes::new(),
        Body::Full(data) => data,
        Body::Stream(_) => {
            let filling = Filling { body, copy: Some((fill, pending)) };
            *response.body_mut() = Body::from_body(filling);
            return (response, told);
        }
    };
    drop(fill);
    match pending.store(whole.clone()) {
        Ok(entry) => (answer_from(exchange, &entry, response, whole), told),
        Err(reason) => {
            *response.body_mut() = Body::full(whole);
            (response, Told { is_stored: false, reason: Some(reason), ..told })
        }
    }
}

/// The client's answer to a fetch that filled: the backend's own, or what the client's conditions make of it.
fn answer_from(
    exchange: &Exchange,
    entry: &Arc<Entry>,
    mut response: Response<Body>,
    whole: Bytes,
) -> Response<Body> {
    let has_condition = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::RANGE]
        .iter()
        .any(|name| exchange.parts.headers.contains_key(name));
    if has_condition && exchange.route.policy.has_rule() {
        return stored(exchange, entry, exchange.ingress().clock.now_ms());
    }
    if let Some(etag) =
        entry.headers().get(header::ETAG).filter(|_| !response.headers().contains_key(header::ETAG))
    {
        response.headers_mut().insert(header::ETAG, etag.clone());
    }
    *response.body_mut() = Body::full(whole);
    response
}

/// Whether the head of an answer to the request as it was sent allows a copy.
pub(super) fn storable(exchange: &Exchange, reply: &Reply, times: Times) -> Result<Storable, Reason> {
    let head = ResponseHead { status: reply.response.status(), headers: reply.response.headers() };
    let storable = may_store(&sent_head(exchange), &head, times, &exchange.route.policy)?;
    // Only an announced end proves that the body is whole, and nobody but a rule said that this one may be kept.
    if reply.is_close_delimited && storable.meta.source == Source::Rule {
        Err(Reason::Incomplete)
    } else {
        Ok(storable)
    }
}

fn tags_of(exchange: &Exchange) -> Vec<Tag> {
    if exchange.route.tags.is_empty() {
        return Vec::new();
    }
    let parameters = exchange.route.parameters(exchange.parts.uri.path());
    let values =
        TagValues { path: &parameters, query: exchange.parts.uri.query().map(str::as_bytes), body: &[] };
    exchange.route.tags.iter().map(|template| template.tag(&values)).collect()
}

impl Pending {
    /// Stores the answer with its whole body and frees those who wait for it.
    fn store(self, body: Bytes) -> Result<Arc<Entry>, Reason> {
        let ingress = &self.core.ingress;
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
        let ended = Instant::now();
        let took = u64::try_from((ended - start).as_micros()).unwrap_or(u64::MAX);
        ingress.telemetry.cache_operation(Tier::Memory, Operation::Store, ended, took);
        match (&stored, self.lead) {
            (Ok(entry), Some(lead)) => lead.publish(Arc::clone(entry)),
            (Err(_), Some(lead)) => ingress.cache.release(lead, now_ms),
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
                let is_over = self.copy.as_mut().is_some_and(|(fill, _)| fill.push(data).is_err());
                if is_over {
                    self.give_up();
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

    /// The answer is larger than a copy may be: whoever waits for it has to fetch.
    fn give_up(&mut self) {
        if let Some((_, pending)) = self.copy.take()
            && let Some(lead) = pending.lead
        {
            let ingress = &pending.core.ingress;
            ingress.cache.release(lead, ingress.clock.now_ms());
        }
    }
}

impl HttpBody for Filling {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let Some(copy) = self.copy.take() else { return };
        if std::thread::panicking() {
            return;
        }
        let mut rest = Filling { body: std::mem::take(&mut self.body), copy: Some(copy) };
        let drain = rest.copy.as_ref().map(|(_, pending)| pending.core.ingress.drain.clone());
        if let Some(drain) = drain {
            drain.spawn(async move {
                while rest.copy.is_some() {
                    let chunk = std::future::poll_fn(|cx| rest.poll(cx)).await;
                    if !matches!(chunk, Some(Ok(_))) {
                        rest.copy = None;
                    }
                }
            });
        }
    }
}

/// A copy that a 304 has confirmed.
pub(super) struct Revalidated {
    pub(super) entry: Arc<Entry>,
    /// Why it is not kept, if it is not.
    pub(super) reason: Option<Reason>,
}

/// Renews an entry with the 304 that confirmed it.
pub(super) fn revalidated(
    exchange: &Exchange,
    entry: &Arc<Entry>,
    merged: Merge,
    generation: Generation,
    lead: Option<Lead>,
) -> Revalidated {
    let ingress = exchange.ingress();
    let now_ms = ingress.clock.now_ms();
    match merged {
        Merge::Updated { head, storable } => {
            let new = NewEntry {
                headers: head,
                meta: storable.meta,
                selection: storable.selection,
                wants_etag: storable.wants_etag,
                generation,
                ..copy_of(entry)
            };
            match ingress.cache.store(new, now_ms) {
                Ok(fresh) => {
                    if let Some(lead) = lead {
                        lead.publish(Arc::clone(&fresh));
                    }
                    Revalidated { entry: fresh, reason: None }
                }
                Err(reason) => Revalidated { entry: Arc::clone(entry), reason: Some(reason) },
            }
        }
        Merge::Drop { head, reason } => {
            ingress.cache.remove(entry);
            if let Some(lead) = lead {
                ingress.cache.release(lead, now_ms);
            }
            let once = Entry::new(NewEntry { headers: head, ..copy_of(entry) });
            Revalidated { entry: Arc::new(once), reason: Some(reason) }
        }
        Merge::Refetch => Revalidated { entry: Arc::clone(entry), reason: None },
    }
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

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let chunk = ready!(this.body.poll_chunk(cx));
        Poll::Ready(chunk.map(|chunk| {
            let data = chunk?;
            this.left = this.left.checked_sub(data.len() as u64).ok_or(BodyError::TooLarge)?;
            Ok(Frame::data(data))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}
