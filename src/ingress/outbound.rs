//! The request as it goes out: what the client sent, less what is not the backend's business, plus who asks.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header, uri::PathAndQuery};

use super::{
    exchange::{Exchange, Introduction},
    fetch::Plan,
};
use crate::{
    cache::{
        cookie_values,
        rfc9111::{
            Languages, RequestHead, add_plain_tags, make_conditional, make_unconditional, normal_encoding,
        },
    },
    net::headers,
    upstream::{Head, Introduce},
};

/// A request for the backend. The client's own head stays with the exchange where it is needed again.
pub(super) struct Outbound {
    pub(super) headers: HeaderMap,
    /// True when the cache takes part, so that the answer may be stored.
    pub(super) may_fill: bool,
    /// A target that differs from the client's.
    uri: Option<Uri>,
}

impl Outbound {
    /// The request for a fetch by this plan. Without a cache in play the client's fields are moved, not copied.
    pub(super) fn new(exchange: &mut Exchange, plan: &Plan) -> Self {
        let may_fill = plan.lookup.is_some();
        let map = if may_fill {
            exchange.parts.headers.clone()
        } else {
            std::mem::take(&mut exchange.parts.headers)
        };
        let mut outbound = Self { headers: map, may_fill, uri: None };
        if may_fill {
            outbound.strip_claims(exchange);
        }
        if exchange.is_upgrade {
            outbound.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        let has_rule = may_fill && exchange.route.policy.has_rule();
        // A POST is never made conditional: the backend would take a condition for one on its write (RFC 9110, 13.1.2).
        match plan.base.as_ref().filter(|_| exchange.posted.is_none()) {
            Some(entry) => make_conditional(&mut outbound.headers, &entry.stored()),
            None if has_rule && !outbound.headers.contains_key(header::RANGE) => {
                make_unconditional(&mut outbound.headers);
            }
            None => {}
        }
        if has_rule || (may_fill && exchange.identity.is_some()) {
            outbound.keep_keyed_only(exchange);
        }
        if may_fill && exchange.route.policy.compress {
            // One plain copy serves all clients; what they want is made of it here.
            outbound.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if outbound.headers.contains_key(header::IF_MATCH) && is_compressed_here(exchange) {
            add_plain_tags(&mut outbound.headers);
        }
        if may_fill && let Some(languages) = exchange.route.policy.languages() {
            outbound.ask_for_one_of(languages);
        }
        outbound
    }

    /// Leaves the backend no choice but the language by which copies are told apart.
    fn ask_for_one_of(&mut self, languages: &Languages) {
        let best = languages.best(&self.headers).and_then(|best| HeaderValue::from_str(best).ok());
        match best {
            Some(best) => drop(self.headers.insert(header::ACCEPT_LANGUAGE, best)),
            None => drop(self.headers.remove(header::ACCEPT_LANGUAGE)),
        }
    }

    /// Asks for the whole answer, whatever the store has.
    pub(super) fn make_unconditional(&mut self) {
        make_unconditional(&mut self.headers);
    }

    /// The head for the wire.
    pub(super) fn head<'a>(&'a self, exchange: &'a Exchange, introduction: &'a Introduction<'a>) -> Head<'a> {
        let uri = self.uri.as_ref().unwrap_or(&exchange.parts.uri);
        let introduction = Some(introduction as &dyn Introduce);
        Head { method: &exchange.parts.method, uri, headers: &self.headers, introduction }
    }

    /// The head for decisions on the answer.
    pub(super) fn as_sent<'a>(&'a self, exchange: &'a Exchange) -> RequestHead<'a> {
        let target = exchange.target().as_bytes();
        let head = RequestHead::new(&exchange.parts.method, exchange.host.as_bytes(), target, &self.headers);
        let head = exchange.identified(head);
        let head = if exchange.posted.is_some() { head.with_keyed_body() } else { head };
        // Conditions of our own are no wish of the client for less than the whole.
        if self.headers.contains_key(header::RANGE) { head } else { head.for_whole() }
    }

    /// Takes off the claims of forwarding, but for the one that says whose request this is.
    fn strip_claims(&mut self, exchange: &Exchange) {
        let own = exchange.own_field();
        let lines: Vec<HeaderValue> =
            own.into_iter().flat_map(|name| self.headers.get_all(name)).cloned().collect();
        headers::strip_claims(&mut self.headers);
        let Some(name) = own.filter(|name| !self.headers.contains_key(*name)) else { return };
        for line in lines {
            self.headers.append(name, line);
        }
    }

    /// What is not in the key does not reach the backend on a fetch that fills: it could shape the copy that others get.
    /// Credentials stay: with them a request gets here only where the operator has said that the answer is the same for
    /// all, or where they are those of the identity in the key.
    fn keep_keyed_only(&mut self, exchange: &Exchange) {
        let rule = &exchange.route.key;
        let map = &mut self.headers;
        let own = exchange.route.identity.as_ref().filter(|_| exchange.identity.is_some());
        let own = own.and_then(|identifier| identifier.cookie());
        let names = rule.cookies.iter().map(String::as_str).chain(own);
        let kept: Vec<Vec<u8>> = names
            .flat_map(|name| {
                let values = cookie_values(map, name);
                values.map(|value| [name.as_bytes(), b"=", value].concat()).collect::<Vec<_>>()
            })
            .collect();
        map.remove(header::COOKIE);
        if !kept.is_empty()
            && let Ok(cookie) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
        {
            map.insert(header::COOKIE, cookie);
        }
        if let Some(encoding) = normal_encoding(map) {
            map.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        }
        // The host in the spelling of the key: an application may write it into links.
        let host = crate::cache::canonical_authority(exchange.scheme, exchange.host.as_bytes());
        if host != exchange.host.as_bytes()
            && let Ok(host) = HeaderValue::from_bytes(&host)
        {
            map.insert(header::HOST, host);
        }
        self.uri = filtered(exchange);
    }
}

/// Whether a GET of the same target may have given the client an entity tag of a coded copy.
fn is_compressed_here(exchange: &Exchange) -> bool {
    let table = &exchange.ingress().table;
    table.find(&Method::GET, exchange.host.as_bytes(), exchange.parts.uri.path()).policy.compress
}

/// The target without the parameters that are not in the key; `None` when it stays as it is.
fn filtered(exchange: &Exchange) -> Option<Uri> {
    let uri = &exchange.parts.uri;
    let query = uri.query().map(str::as_bytes);
    let kept = exchange.route.key.query.for_backend(query);
    if kept.as_deref() == query {
        return None;
    }
    let target = match kept {
        Some(kept) => [uri.path().as_bytes(), b"?", &kept].concat(),
        None => uri.path().as_bytes().to_vec(),
    };
    PathAndQuery::from_maybe_shared(Bytes::from(target)).ok().map(Uri::from)
}
