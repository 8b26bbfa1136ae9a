//! What a successful request ends in the cache: its own target after an unsafe method (RFC 9111 section 4.4), the groups
//! that its answer names (RFC 9875 section 3), and what its route says. A POST that only reads, as its route has it, ends
//! no target.
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

use super::{Core, Ingress, exchange::Exchange, peek::Peek, respond::Ready, routes::Route};
use crate::{
    cache::{
        Scheme, Scope, Tag, TagTemplate, TagValues, Target, body_members, is_query, is_readable,
        rfc9111::{invalidated_groups, invalidated_targets, invalidates},
    },
    config::BodyKey,
    net::{Body, BodyError, Chunks, Refusal},
    telemetry::{Operation, Tier},
};

/// What is to be ended once the request has been answered.
pub(super) struct Invalidation {
    core: Arc<Core>,
    route: Arc<Route>,
    write: Write,
    /// The request's own target.
    own: Vec<Scope>,
    /// What its answer names, and what its route says.
    further: Vec<Scope>,
    /// The request's body, as long as what depends on it is not worked out.
    due: Option<Peek>,
    method: Method,
    scheme: Scheme,
    host: Vec<u8>,
    target: String,
    is_armed: bool,
}

/// Whether the request changes its own target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    Yes,
    No,
    /// Unless its body proves to be a GraphQL query.
    UnlessQuery,
}

impl Invalidation {
    /// What a request would end; none for requests that end nothing.
    pub(super) fn begin(exchange: &mut Exchange) -> Option<Self> {
        let write = write_of(exchange);
        let templates = &exchange.route.invalidates;
        if write == Write::No && templates.is_empty() {
            return None;
        }
        let needs_body =
            write == Write::UnlessQuery || templates.iter().any(|tag| tag.body_members().next().is_some());
        let due = if needs_body && is_readable(&exchange.parts.headers) {
            Peek::begin(exchange)
        } else {
            Peek::default()
        };
        Some(Self {
            core: Arc::clone(&exchange.core),
            route: Arc::clone(&exchange.route),
            write,
            own: if write == Write::No { Vec::new() } else { own_scopes(exchange) },
            further: Vec::new(),
            due: Some(due),
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
        this.settle();
        if ready.told.is_stored && this.method == Method::POST {
            // The answer to a POST that was kept: the older copies of its target ended before it took their place.
            this.own.clear();
        }
        if this.write == Write::Yes && invalidates(&this.method, status) {
            let map = http::HeaderMap::new();
            let head = crate::cache::rfc9111::RequestHead::new(
                &this.method,
                &this.host,
                this.target.as_bytes(),
                &map,
            );
            for target in invalidated_targets(&head, ready.response.headers()) {
                let target = String::from_utf8_lossy(&target);
                this.further.push(target_scope(&this.core.ingress, this.scheme, &this.host, &target));
            }
            let groups = invalidated_groups(ready.response.headers());
            let tags = groups.iter().map(|group| Tag::of_group(this.scheme, &this.host, group));
            this.further.extend(tags.map(|tag| tag.scope()));
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

    /// Works out what depends on the request's body. It has been sent by now, or what was sent of it tells too little:
    /// then the request counts as a write, and a value that is missing ends all tags that begin so.
    fn settle(&mut self) {
        let Some(peek) = self.due.take() else { return };
        let body = peek.whole().unwrap_or_default();
        let (path, query) =
            self.target.split_once('?').map_or((&*self.target, None), |(path, query)| (path, Some(query)));
        let query = query.map(str::as_bytes);
        if self.write == Write::UnlessQuery {
            self.write = if is_query(&body, query) { Write::No } else { Write::Yes };
        }
        if self.write == Write::No {
            self.own.clear();
        }
        let templates = &self.route.invalidates;
        let members = body_members(&body, templates.iter().flat_map(TagTemplate::body_members));
        let members: Vec<(&str, &str)> = members.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let parameters = self.route.parameters(path);
        let values = TagValues { path: &parameters, query, body: &members };
        self.further.extend(templates.iter().map(|template| template.scope(&values)));
    }

    fn purge(&mut self) {
        self.settle();
        let ingress = &self.core.ingress;
        let start = Instant::now();
        for scope in self.own.iter().chain(&self.further) {
            ingress.cache.purge(scope, false, ingress.clock.at(start));
        }
        ingress.telemetry.timed_operation(Tier::Memory, Operation::Purge, start);
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
    let table = &ingress.table;
    let keyed = table.find(&Method::GET, host, path).key.query.for_key(query.map(str::as_bytes));
    Scope::of_request(&Target { scheme, authority: host, path: path.as_bytes(), query: keyed.as_deref() })
}

/// Whether the request changes its own target. What is read by its body may still be a mutation, with GraphQL: only its
/// body tells.
fn write_of(exchange: &Exchange) -> Write {
    let is_safe = matches!(exchange.parts.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY");
    if is_safe || exchange.posted.is_some() {
        return Write::No;
    }
    match exchange.route.key.body.filter(|_| exchange.reads_by_body()) {
        Some(BodyKey::Json | BodyKey::Raw) => Write::No,
        Some(BodyKey::Graphql) => Write::UnlessQuery,
        None => Write::Yes,
    }
}

/// All variants of the request's path and query on this host, under the keys of the routes that a GET of it takes, and a
/// POST that only reads.
fn own_scopes(exchange: &Exchange) -> Vec<Scope> {
    let (host, uri) = (exchange.host.as_bytes(), &exchange.parts.uri);
    let table = &exchange.ingress().table;
    let of_route = |route: &Route| {
        let query = route.key.query.for_key(uri.query().map(str::as_bytes));
        let path = uri.path().as_bytes();
        Scope::of_request(&Target { scheme: exchange.scheme, authority: host, path, query: query.as_deref() })
    };
    let mut scopes = vec![of_route(table.find(&Method::GET, host, uri.path()))];
    let of_post = table.find(&Method::POST, host, uri.path());
    if of_post.key.body.is_some() {
        let scope = of_route(of_post);
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
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
