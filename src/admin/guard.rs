//! Who may ask: the `Host` check against DNS rebinding, the refusal of other sites' pages, and tokens that are
//! compared in constant time with a limit on wrong ones.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::warn;

use crate::admin::answer::Reply;
use crate::config::Secret;

/// Wrong tokens that one peer may send in a minute.
const FAILURES: u32 = 10;
/// How long wrong tokens of a peer are remembered.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Peers remembered at once. Past it the oldest makes room, so an attacker with many addresses costs no memory.
const PEERS: usize = 1024;

/// Names under which a listener may be called, besides IP literals, `localhost` and names of the cluster.
#[derive(Debug)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// Names from configuration, compared without case.
    pub(crate) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect())
    }

    /// Refuses a request that was sent to a name which is not ours: a page of a foreign site whose name was made
    /// to resolve to this address still says its own name in `Host`.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Reply> {
        let mut fields = request.headers().get_all(header::HOST).iter();
        let named = match (fields.next(), fields.next()) {
            (Some(host), None) => host.to_str().is_ok_and(|host| self.knows(host)),
            (None, _) => request.uri().authority().is_some_and(|host| self.knows(host.as_str())),
            (Some(_), Some(_)) => false,
        };
        // An absolute target overrules Host (RFC 9112 section 3.2.2), so it has to be ours too.
        let target = request.uri().authority().is_none_or(|host| self.knows(host.as_str()));
        if named && target {
            return Ok(());
        }
        Err(Reply::detail(
            StatusCode::MISDIRECTED_REQUEST,
            "this listener is not known by that Host; use an IP address or add the name to admin.hosts",
        ))
    }

    fn knows(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        if name.starts_with('[') {
            let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            return inner.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        }
        if name.parse::<Ipv4Addr>().is_ok() {
            return true;
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        is_name(&name)
            && (name == "localhost"
                || self.0.contains(&name)
                || [".svc", ".svc.cluster.local"]
                    .iter()
                    .any(|end| name.strip_suffix(end).is_some_and(is_name)))
    }
}

/// The host without `:port`; none if the port is not a number.
fn without_port(host: &str) -> Option<&str> {
    let name_end =
        if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (name, port) = host.split_at_checked(name_end)?;
    match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(name),
        None => port.is_empty().then_some(name),
    }
}

fn is_name(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    })
}

/// Refuses reads that a page of another site makes in the user's browser. Going to `/` by a link is fine.
pub(crate) fn check_site(headers: &HeaderMap, path: &str) -> Result<(), Reply> {
    let is =
        |name: &str, value: &str| headers.get(name).is_some_and(|field| field.as_bytes() == value.as_bytes());
    if !is("sec-fetch-site", "cross-site") || (path == "/" && is("sec-fetch-mode", "navigate")) {
        return Ok(());
    }
    Err(Reply::detail(StatusCode::FORBIDDEN, "requests from pages of other sites are refused"))
}

/// Refuses writes that come from any web page: none of ours writes, and browsers put `Origin` on every POST to
/// another origin, also on plain http where they leave `Sec-Fetch-Site` out.
pub(crate) fn check_no_page(headers: &HeaderMap) -> Result<(), Reply> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Reply::detail(StatusCode::FORBIDDEN, "requests from web pages are refused"));
    }
    Ok(())
}

/// A token, if one is set, and the wrong ones seen lately.
#[derive(Debug)]
pub(crate) struct Token {
    /// The digest, not the token: comparing digests takes the same time whatever the length of the guess.
    digest: Option<[u8; 32]>,
    failures: Failures,
}

impl Token {
    /// A guard for `secret`; without one everything passes `check`.
    pub(crate) fn new(secret: Option<&Secret>) -> Self {
        Self {
            digest: secret.map(|secret| digest(secret.expose().as_bytes())),
            failures: Failures::default(),
        }
    }

    /// Whether a token is set.
    pub(crate) const fn is_set(&self) -> bool {
        self.digest.is_some()
    }

    /// Lets the request pass if no token is set or it carries the right one as `Authorization: Bearer`.
    pub(crate) fn check(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), Reply> {
        let Some(expected) = self.digest else { return Ok(()) };
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), network);
        let now = Instant::now();
        if let Some(wait) = self.failures.wait(peer, now) {
            return Err(Reply::detail(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens; wait a minute")
                .with(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1))));
        }
        let Some(given) = bearer(headers) else {
            return Err(unauthorized("this needs a token: Authorization: Bearer TOKEN"));
        };
        if is_equal(&expected, &digest(given)) {
            return Ok(());
        }
        self.failures.count(peer, now);
        Err(unauthorized("wrong token"))
    }
}

fn unauthorized(detail: &str) -> Reply {
    Reply::detail(StatusCode::UNAUTHORIZED, detail)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Looks at every byte whatever the first difference is, so that the time says nothing about it.
fn is_equal(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let difference = left.iter().zip(right).fold(0u8, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// The one bearer token of the request (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, token) = field.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Whom a failure counts against: an IPv6 user owns a whole /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

/// Wrong tokens by peer: when the window began, and how many since.
#[derive(Debug, Default)]
struct Failures(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Failures {
    /// How long the peer has to wait, if it has used up its wrong tokens.
    fn wait(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let (since, count) = *self.0.lock().get(&peer)?;
        let age = now.saturating_duration_since(since);
        (count >= FAILURES && age < FAILURE_WINDOW).then(|| FAILURE_WINDOW - age)
    }

    fn count(&self, peer: IpAddr, now: Instant) {
        let mut peers = self.0.lock();
        if peers.len() >= PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, (since, _)| now.saturating_duration_since(*since) < FAILURE_WINDOW);
            let oldest = peers.iter().min_by_key(|(_, (since, _))| *since).map(|(peer, _)| *peer);
            if peers.len() >= PEERS
                && let Some(oldest) = oldest
            {
                peers.remove(&oldest);
            }
        }
        let entry = peers.entry(peer).or_insert((now, 0));
        if now.saturating_duration_since(entry.0) >= FAILURE_WINDOW {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        if entry.1 == FAILURES {
            warn!(%peer, "too many wrong tokens, the peer is refused for a minute");
        }
    }
}

#[cfg(test)]
mod tests;
