//! What a successful request ends in the cache: its own target after an unsafe method (RFC 9111 section 4.4), the groups
//! that its answer names (RFC 9875 section 3), and what its route says.
//!
//! It is done before the head goes out, so that a client that reads its own write reads no old copy, and again when a
//! streamed answer ends, as the backend may write at its end. A request that was sent and never answered may have
//! written too: then it is done on drop.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Method;
use tokio::time::Instant;

use super::{Core, Ingress, exchange::Exchange, respond::Ready};
use crate::{
    cache::{
        Scheme, Scope, Tag, TagValues, Target,
        rfc9111::{invalidated_groups, invalidated_targets, invalidates},
    },
    net::{Body, BodyError, Chunks, Refusal},
    telemetry::Operation,
};

/// What is to be ended once the request has been answered.
pub(super) struct Invalidation {
    core: Arc<Core>,
    scopes: Vec<Scope>,
    method: Method,
    scheme: Scheme,
    host: Vec<u8>,
    target: String,
    is_armed: bool,
}

impl Invalidation {
    /// What a request would end; none for requests that end nothing.
    pub(super) fn begin(exchange: &Exchange) -> Option<Self> {
        let is_safe =
            matches!(exchange.parts.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY");
        if is_safe && exchange.route.invalidates.is_empty() {
            return None;
        }
        let mut scopes = Vec::new();
        if !is_safe {
            let host = exchange.host.as_bytes();
            scopes.push(target_scope(exchange.ingress(), exchange.scheme, host, exchange.target()));
        }
        let parameters = exchange.route.parameters(exchange.parts.uri.path());
        let query = exchange.parts.uri.query().map(str::as_bytes);
        let values = TagValues { path: &parameters, query, body: &[] };
        scopes.extend(exchange.route.invalidates.iter().map(|template| template.scope(&values)));
        Some(Self {
            core: Arc::clone(&exchange.core),
            scopes,
            method: exchange.parts.method.clone(),
            scheme: exchange.scheme,
            host: exchange.host.as_bytes().to_vec(),
            target: exchange.target().to_owned(),
            is_armed: true,
        })
    }

    /// Ends what an answer makes out of date, now and at the end of a body that is still to come.
    /// Other replicas hear of it first, as far as Redis answers in time.
    pub(super) async fn answered(this: Option<Self>, mut ready: Ready) -> Ready {
        let Some(mut this) = this else { return ready };
        let status = ready.response.status();
        if !(status.is_success() || status.is_redirection()) {
            this.is_armed = false;
            return ready;
        }
        if ready.told.is_stored && this.method == Method::POST {
            // The answer to a POST that was kept: the older copies of its target ended before it took their place.
            this.scopes.remove(0);
        }
        if invalidates(&this.method, status) {
            let map = http::HeaderMap::new();
            let head = crate::cache::rfc9111::RequestHead::new(
                &this.method,
                &this.host,
                this.target.as_bytes(),
                &map,
            );
            for target in invalidated_targets(&head, ready.response.headers()) {
                let target = String::from_utf8_lossy(&target);
                this.scopes.push(target_scope(&this.core.ingress, this.scheme, &this.host, &target));
            }
            let groups = invalidated_groups(ready.response.headers());
            let tags = groups.iter().map(|group| Tag::of_group(this.scheme, &this.host, group));
            this.scopes.extend(tags.map(|tag| tag.scope()));
        }
        this.purge();
        this.core.ingress.cache.announced().await;
        if ready.response.body().exact_len().is_some() {
            this.is_armed = false;
        } else {
            let body = std::mem::take(ready.response.body_mut());
            *ready.response.body_mut() = Body::of(Ending { body, _invalidation: this });
        }
        ready
    }

    /// Takes note that there was no answer. What never reached the backend wrote nothing there.
    pub(super) fn failed(this: Option<Self>, refusal: Refusal) {
        if let Some(mut this) = this {
            this.is_armed = !matches!(
                refusal,
                Refusal::ConnectFailed | Refusal::ConnectTimeout | Refusal::Overload | Refusal::BreakerOpen
            );
        }
    }

    fn purge(&self) {
        let ingress = &self.core.ingress;
        let start = Instant::now();
        for scope in &self.scopes {
            ingress.cache.purge(scope, false, ingress.clock.at(start));
        }
        ingress.telemetry.memory_operation(Operation::Purge, start);
    }
}

impl Drop for Invalidation {
    fn drop(&mut self) {
        if self.is_armed {
            self.purge();
        }
    }
}

/// All variants of one path and query of a host, under the key of the route that a GET of it takes.
fn target_scope(ingress: &Ingress, scheme: Scheme, host: &[u8], target: &str) -> Scope {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let table = ingress.table.load();
    let keyed = table.find(&Method::GET, host, path).key.query.for_key(query.map(str::as_bytes));
    Scope::of_request(&Target { scheme, authority: host, path: path.as_bytes(), query: keyed.as_deref() })
}

/// A streamed body that invalidates once more when it has ended, or is dropped.
struct Ending {
    body: Body,
    _invalidation: Invalidation,
}

impl Chunks for Ending {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.body.poll_chunk(cx)
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}
