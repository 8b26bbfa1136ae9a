//! One request on its way through the stages: what was received, which route it took, and its record.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, header, request};

use super::{Core, Ingress, journal::Journal, respond::Told, routes::Route};
use crate::{
    cache::rfc9111::RequestHead,
    net::{Body, Context, InterimSink, headers},
    telemetry::{self, CacheStatus, Fwd, Reason, Trace},
};

/// The longest `X-Request-Id` of a client that is kept.
const MAX_REQUEST_ID: usize = 128;

/// A request and all that the stages learn about it.
pub(super) struct Exchange {
    pub(super) core: Arc<Core>,
    pub(super) journal: Journal,
    pub(super) route: Arc<Route>,
    /// The request's head as received, target in origin-form.
    pub(super) parts: request::Parts,
    pub(super) body: Body,
    /// Whose request it is, behind trusted proxies.
    pub(super) client: Option<IpAddr>,
    pub(super) is_trusted_peer: bool,
    pub(super) interim: Option<Arc<dyn InterimSink>>,
    pub(super) trace: Trace,
    pub(super) request_id: HeaderValue,
    /// What is told if nothing better comes of it.
    pub(super) told: Told,
}

impl Exchange {
    pub(super) fn begin(core: &Arc<Core>, request: http::Request<Body>, context: Context) -> Self {
        let (parts, body) = request.into_parts();
        let ingress = &core.ingress;
        let route = find_route(ingress, &parts);
        let stats = match ingress.learned.load().as_ref() {
            Some(learned) if Arc::ptr_eq(&route.stats, &ingress.telemetry.unmatched()) => {
                Arc::clone(learned.stats(&parts.method, parts.uri.path()).unwrap_or(&route.stats))
            }
            _ => Arc::clone(&route.stats),
        };
        let method = telemetry::Method::from_name(parts.method.as_str());
        let mut journal = Journal::begin(core, &context, method, stats);
        let trace = parts.headers.get("traceparent").and_then(|value| Trace::parse(value.as_bytes()));
        let trace = trace.unwrap_or_else(Trace::fresh);
        journal.note(|record| record.trace = trace.id);
        let request_id = request_id(&parts, &trace);
        let trusted = &ingress.settings.trusted;
        Self {
            client: headers::client_address(&parts.headers, context.peer, trusted),
            is_trusted_peer: !trusted.is_empty() && headers::is_trusted(context.peer, trusted),
            core: Arc::clone(core),
            interim: context.interim,
            journal,
            route,
            parts,
            body,
            trace,
            request_id,
            told: Told {
                fwd: Some(Fwd::Bypass),
                reason: Some(Reason::Refused),
                ..Told::new(CacheStatus::Bypass)
            },
        }
    }

    pub(super) fn ingress(&self) -> &Ingress {
        &self.core.ingress
    }

    pub(super) fn host(&self) -> &[u8] {
        host_of(&self.parts)
    }

    /// The request as cache decisions see it.
    pub(super) fn head(&self) -> RequestHead<'_> {
        let target = self.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let head = RequestHead::new(&self.parts.method, self.host(), target.as_bytes(), &self.parts.headers);
        if self.body.is_empty() { head } else { head.with_body() }
    }

    /// True for methods that are answered from the cache.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.parts.method, Method::GET | Method::HEAD)
    }
}

fn find_route(ingress: &Ingress, parts: &request::Parts) -> Arc<Route> {
    Arc::clone(ingress.table.load().find(&parts.method, host_of(parts), parts.uri.path()))
}

pub(super) fn host_of(parts: &request::Parts) -> &[u8] {
    parts.headers.get(header::HOST).map_or(b"", HeaderValue::as_bytes)
}

/// The client's own id, if it is one line of plain characters, else the digits of the trace.
fn request_id(parts: &request::Parts, trace: &Trace) -> HeaderValue {
    let own = parts.headers.get("x-request-id").filter(|value| {
        let id = value.as_bytes();
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.iter().all(u8::is_ascii_graphic)
    });
    own.cloned()
        .or_else(|| HeaderValue::from_bytes(trace.id.digits().as_bytes()).ok())
        .unwrap_or(HeaderValue::from_static("-"))
}
