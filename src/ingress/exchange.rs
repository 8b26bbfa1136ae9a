//! One request on its way through the stages: what was received, which route it took, and its record.
//!
//! What speaks of one connection, and what only a trusted proxy may say, is settled here once. After that every stage,
//! the cache key and the backend see the same request.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request};

use super::{
    Core, Ingress,
    identity::{Asking, Identity},
    journal::Journal,
    posted::Posted,
    respond::Told,
    routes::Route,
};
use crate::{
    cache::{Key, KeyRule, Scheme, Target, observe::Question, rfc9111::RequestHead},
    config::CacheMode,
    net::{Body, Context, InterimSink, Lines as _, headers},
    telemetry::{self, RouteStats, Trace},
    upstream::Introduce,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How long the lease of a fetch lasts beyond the time for its head: for the body.
const LEASE_REST: Duration = Duration::from_secs(5);

/// The longest `X-Request-Id` of a client that is kept.
const MAX_REQUEST_ID: usize = 128;

/// A request and all that the stages learn about it.
pub(super) struct Exchange {
    pub(super) core: Arc<Core>,
    pub(super) journal: Journal,
    pub(super) route: Arc<Route>,
    /// The request's head, target in origin-form, without fields of the connection or untrusted claims.
    pub(super) parts: request::Parts,
    pub(super) body: Body,
    /// The body of a POST that is answered from the cache by it.
    pub(super) posted: Option<Arc<Posted>>,
    /// The host that was asked for.
    pub(super) host: HeaderValue,
    /// The scheme that the client used, as far as a trusted proxy told.
    pub(super) scheme: Scheme,
    /// Whose request it is, behind trusted proxies.
    pub(super) client: Option<IpAddr>,
    /// Whether the peer is a trusted proxy.
    is_trusted: bool,
    /// Whose answer is asked for, once that is known and where it matters.
    pub(super) identity: Option<Identity>,
    /// True when the client asked for a WebSocket.
    pub(super) is_upgrade: bool,
    pub(super) interim: Option<Arc<dyn InterimSink>>,
    pub(super) trace: Trace,
    /// The client's own id for its request.
    pub(super) request_id: Option<HeaderValue>,
    /// What is told if nothing better comes of it.
    pub(super) told: Told,
    /// What the observing cache asks its answer.
    pub(super) question: Option<Box<Question>>,
}

impl Exchange {
    pub(super) fn begin(core: &Arc<Core>, request: http::Request<Body>, context: Context) -> Self {
        Self::with(core, request, context, Journal::begin)
    }

    /// An exchange of which nothing is recorded: for a request that is looked at and not served.
    pub(super) fn silent(core: &Arc<Core>, request: http::Request<Body>, context: Context) -> Self {
        Self::with(core, request, context, |core, _, _, _| Journal::silent(core))
    }

    fn with(
        core: &Arc<Core>,
        request: http::Request<Body>,
        context: Context,
        journal: impl FnOnce(&Arc<Core>, &Context, telemetry::Method, Arc<RouteStats>) -> Journal,
    ) -> Self {
        let (mut parts, body) = request.into_parts();
        let ingress = &core.ingress;
        let trusted = &ingress.settings().trusted;
        let is_trusted = !trusted.is_empty() && headers::is_trusted(context.peer, trusted);
        let client = headers::client_address(&parts.headers, context.peer, trusted);
        let scheme = if is_trusted { told_scheme(&parts) } else { Scheme::Http };
        let is_upgrade = parts.method == Method::GET
            && parts.version == Version::HTTP_11
            && body.is_empty()
            && headers::is_websocket_upgrade(&parts.headers);
        if is_trusted {
            headers::strip_hop_by_hop(&mut parts.headers);
            headers::strip_rewritten(&mut parts.headers);
        } else {
            headers::strip_untrusted(&mut parts.headers);
        }
        // HTTP/1.0 may leave the host out; the key and the backend may not.
        let host = match parts.headers.get(header::HOST) {
            Some(host) => host.clone(),
            None => {
                let host = core.client.upstream().authority().clone();
                parts.headers.insert(header::HOST, host.clone());
                host
            }
        };
        let route = Arc::clone(ingress.table.find(&parts.method, host.as_bytes(), parts.uri.path()));
        // Both are written anew on the way out.
        let trace = parts.headers.remove(TRACEPARENT).and_then(|value| Trace::parse(value.as_bytes()));
        let told = trace;
        let trace = told.map_or_else(|| core.ingress.telemetry.fresh_trace(), Trace::next_hop);
        let stats = ingress.stats_of(&route, &parts.method, parts.uri.path());
        let mut journal = journal(core, &context, telemetry::Method::from_name(parts.method.as_str()), stats);
        journal.note(|record| {
            record.trace = trace.id;
            record.span = trace.span_below(told.as_ref());
            record.path = parts.uri.path_and_query().cloned();
        });
        let request_id = parts.headers.remove(X_REQUEST_ID).filter(is_plain_id);
        journal.inner().request_id.clone_from(&request_id);
        Self {
            core: Arc::clone(core),
            journal,
            route,
            body,
            posted: None,
            host,
            scheme,
            client,
            is_trusted,
            identity: None,
            is_upgrade,
            interim: context.interim,
            trace,
            request_id,
            told: Told::refused(),
            question: None,
            parts,
        }
    }

    /// The same request again, for a fetch that no client waits for.
    pub(super) fn background(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            journal: Journal::silent(&self.core),
            route: Arc::clone(&self.route),
            parts: self.parts.clone(),
            body: self.posted.as_ref().map_or(Body::Empty, |posted| posted.body()),
            posted: self.posted.clone(),
            host: self.host.clone(),
            scheme: self.scheme,
            client: self.client,
            is_trusted: self.is_trusted,
            identity: self.identity,
            is_upgrade: false,
            interim: None,
            trace: self.trace,
            request_id: self.request_id.clone(),
            told: self.told,
            question: None,
        }
    }

    /// A GET that no client asked for, with the fields of a browser that has no wishes.
    pub(super) fn unasked(core: &Arc<Core>, scheme: Scheme, host: &HeaderValue, uri: &Uri) -> Self {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.uri = uri.clone();
        parts.headers.insert(header::HOST, host.clone());
        parts.headers.insert(header::USER_AGENT, HeaderValue::from_static("touchline"));
        parts.headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
        let route = Arc::clone(core.ingress.table.find(&Method::GET, host.as_bytes(), uri.path()));
        Self {
            core: Arc::clone(core),
            journal: Journal::silent(core),
            route,
            parts,
            body: Body::Empty,
            host: host.clone(),
            scheme,
            client: None,
            is_trusted: false,
            identity: None,
            posted: None,
            question: None,
            is_upgrade: false,
            interim: None,
            trace: Trace::fresh(),
            request_id: None,
            told: Told::refused(),
        }
    }

    pub(super) fn ingress(&self) -> &Ingress {
        &self.core.ingress
    }

    pub(super) fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// The request as cache decisions see it.
    pub(super) fn head(&self) -> RequestHead<'_> {
        let target = self.target().as_bytes();
        let head = RequestHead::new(&self.parts.method, self.host.as_bytes(), target, &self.parts.headers);
        let head = if self.is_upgrade { head.with_upgrade() } else { head };
        let head = if self.reads_by_body() {
            head.with_keyed_body()
        } else if self.body.is_empty() {
            head
        } else {
            head.with_body()
        };
        self.identified(head)
    }

    /// Finds out whose request it is, where its route gives every user answers of their own.
    pub(super) fn identify(&mut self) {
        let Some(identifier) = &self.route.identity else { return };
        let is_asking = matches!(self.parts.method, Method::GET | Method::HEAD) || self.reads_by_body();
        if !is_asking || self.route.policy.mode == CacheMode::Off {
            return;
        }
        let ingress = self.ingress();
        let now_s = ingress.clock.wall_s();
        let asking = Asking { headers: &self.parts.headers, is_trusted: self.is_trusted, now_s };
        match identifier.identify(asking, &ingress.cache) {
            Ok(identity) => self.identity = Some(identity),
            Err(why) => {
                tracing::debug!(why = why.as_str(), route = %self.route.name, "whose request this is cannot be told");
            }
        }
    }

    /// The field that says whose request it is, where that is known.
    pub(super) fn own_field(&self) -> Option<&HeaderName> {
        self.identity?;
        self.route.identity.as_ref().map(|identifier| identifier.field())
    }

    /// A head of this request, with the knowledge of whose it is.
    pub(super) fn identified<'a>(&'a self, head: RequestHead<'a>) -> RequestHead<'a> {
        match self.own_field() {
            Some(field) => head.identified(field),
            None => head,
        }
    }

    /// True for a POST that only reads, as its route has it, so that its body tells its answer from others.
    pub(super) fn reads_by_body(&self) -> bool {
        self.route.key.body.is_some() && self.parts.method == Method::POST
    }

    /// The key of the request.
    pub(super) fn key(&self) -> Key {
        self.key_by(&self.route.key)
    }

    /// The key that another rule would give it.
    pub(super) fn key_by(&self, rule: &KeyRule) -> Key {
        let uri = &self.parts.uri;
        let target = Target {
            scheme: self.scheme,
            authority: self.host.as_bytes(),
            path: uri.path().as_bytes(),
            query: uri.query().map(str::as_bytes),
        };
        let identity = self.identity.as_ref().map(|identity| &identity.tag);
        let cache = &self.ingress().cache;
        let key = cache.key_of(rule, &target, &self.parts.headers, identity);
        match &self.posted {
            Some(posted) => cache.posted(&key, posted.part()),
            None => key,
        }
    }

    /// How long the other replicas leave a fetch of this request to us.
    pub(super) fn lease_life(&self) -> Duration {
        self.route.first_byte.unwrap_or(self.ingress().settings().first_byte) + LEASE_REST
    }

    /// What the backend is told about the client and the trace.
    pub(super) fn introduction(&self) -> Introduction<'_> {
        Introduction {
            client: self.client,
            scheme: self.scheme.as_str(),
            host: &self.host,
            trace: self.trace,
            request_id: self.request_id.as_ref(),
        }
    }
}

/// Who asks, for the backend. Written straight into the outgoing head.
pub(super) struct Introduction<'a> {
    client: Option<IpAddr>,
    scheme: &'static str,
    host: &'a HeaderValue,
    trace: Trace,
    request_id: Option<&'a HeaderValue>,
}

impl Introduce for Introduction<'_> {
    fn introduce(&self, headers: &HeaderMap, lines: &mut BytesMut) {
        headers::write_forwarding(lines, headers, self.client, self.scheme, self.host);
        lines.line(TRACEPARENT.as_str(), self.trace.header().as_bytes());
        match self.request_id {
            Some(id) => lines.line(X_REQUEST_ID.as_str(), id.as_bytes()),
            None => lines.line(X_REQUEST_ID.as_str(), self.trace.id.digits().as_bytes()),
        }
    }
}

/// The scheme that a trusted proxy says the client used.
fn told_scheme(parts: &request::Parts) -> Scheme {
    let mut lines = parts.headers.get_all(X_FORWARDED_PROTO).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) if line.as_bytes().eq_ignore_ascii_case(b"https") => Scheme::Https,
        _ => Scheme::Http,
    }
}

/// True for an id of plain characters that is not too long to pass on and log.
fn is_plain_id(value: &HeaderValue) -> bool {
    let id = value.as_bytes();
    !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.iter().all(u8::is_ascii_graphic)
}
