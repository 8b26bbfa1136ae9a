//! A POST that only reads, as its route has it: its body is read before the lookup and becomes a part of the key.
//!
//! The bytes that were received are what goes to the backend, whatever the key makes of them. What cannot be a part of
//! the key goes past the cache and is streamed on, what was read of it first.

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    exchange::Exchange,
    fetch::{self, Plan},
    fill::Limited,
    lookup::Looked,
    peek::MOST,
};
use crate::{
    cache::{
        BodyPart,
        rfc9111::{Admission, admit},
    },
    config::{BodyKey, CacheMode},
    net::{Body, BodyError, Chunks},
    telemetry::Reason,
    upstream::Error,
};

/// A body that is a part of the key.
pub(super) struct Posted {
    bytes: Bytes,
    part: BodyPart,
    _room: OwnedSemaphorePermit,
}

impl Posted {
    /// The bytes as they were received.
    pub(super) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its part of the key.
    pub(super) const fn part(&self) -> &BodyPart {
        &self.part
    }

    /// The body to send.
    pub(super) fn body(&self) -> Body {
        Body::full(self.bytes.clone())
    }
}

/// Reads the body of a request that the cache could answer. Returns where the request goes instead, if it cannot.
///
/// The client is waited for no longer than its connection allows. Dropping the future drops the request.
pub(super) async fn read(exchange: &mut Exchange) -> Option<Looked> {
    let kind = exchange.route.key.body?;
    let policy = &exchange.route.policy;
    if policy.mode != CacheMode::Serve || admit(&exchange.head(), policy) != Admission::Lookup {
        // The lookup says why, and needs no body for that.
        return None;
    }
    let past_the_cache = || Some(Looked::Fetch(Plan::bypass(Reason::Body)));
    let length = exchange.body.exact_len();
    let Some(mut room) = exchange.ingress().bodies.take(length) else { return past_the_cache() };
    let mut body = std::mem::take(&mut exchange.body);
    if length.is_none() {
        body = Body::of(Limited::new(body, exchange.route.body));
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.chunk().await {
        match chunk {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(error) => return Some(Looked::Refused(fetch::refuse(&Error::RequestBody(error)).await)),
        }
        if bytes.len() > MOST {
            exchange.body = Body::of(Resumed { first: Some((bytes.freeze(), room)), rest: body });
            return past_the_cache();
        }
    }
    let bytes = bytes.freeze();
    // A body of unknown length took room for the longest.
    drop(room.split(room.num_permits().saturating_sub(bytes.len())));
    let Some(part) = part_of(exchange, kind, &bytes) else {
        if !bytes.is_empty() {
            exchange.body = Body::of(Resumed { first: Some((bytes, room)), rest: Body::Empty });
        }
        return past_the_cache();
    };
    let posted = Arc::new(Posted { bytes, part, _room: room });
    exchange.body = posted.body();
    exchange.posted = Some(posted);
    None
}

fn part_of(exchange: &Exchange, kind: BodyKey, bytes: &[u8]) -> Option<BodyPart> {
    let query = exchange.parts.uri.query().map(str::as_bytes);
    // Only on a route with a rule are parameters taken off on the way to the backend.
    let sent = if exchange.route.policy.has_rule() {
        exchange.route.key.query.for_backend(query)
    } else {
        query.map(Cow::Borrowed)
    };
    BodyPart::of(kind, &exchange.parts.headers, sent.as_deref(), bytes)
}

/// A body that was begun to be read: what was read, which keeps its room until it is sent, and the rest.
struct Resumed {
    first: Option<(Bytes, OwnedSemaphorePermit)>,
    rest: Body,
}

impl Chunks for Resumed {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.first.take() {
            Some((first, _)) => Poll::Ready(Some(Ok(first))),
            None => self.rest.poll_chunk(cx),
        }
    }

    fn exact_len(&self) -> Option<u64> {
        let first = self.first.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64);
        Some(self.rest.exact_len()? + first)
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}
