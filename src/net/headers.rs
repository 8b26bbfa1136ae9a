//! Header hygiene between client and upstream: hop-by-hop fields and forwarding fields
//! (RFC 9110 section 7.6.1; `X-Forwarded-*` by common practice).

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Lines;
use crate::config::Cidr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What kind of field a name is, as far as hygiene goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Travels end to end.
    EndToEnd,
    /// Speaks of one connection.
    HopByHop,
    /// Claims who the client is or what it asked for; believed from trusted proxies only.
    Forwarding,
}

fn class_of(name: &HeaderName) -> Class {
    match name.as_str() {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "proxy"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings" => Class::HopByHop,
        "forwarded"
        | "x-real-ip"
        | "x-host"
        | "x-original-url"
        | "x-rewrite-url"
        | "x-original-host"
        | "x-http-method"
        | "x-http-method-override"
        | "x-method-override"
        | "front-end-https"
        | "x-client-ip"
        | "x-cluster-client-ip"
        | "true-client-ip"
        | "x-url-scheme"
        | "x-forwarded" => Class::Forwarding,
        other if other.starts_with("x-forwarded-") => Class::Forwarding,
        _ => Class::EndToEnd,
    }
}

/// Removes what speaks of one connection, and every field that `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, |name| class_of(name) == Class::HopByHop);
}

/// Removes from an answer what speaks of one connection, what we say ourselves in every answer, and the tags it has for
/// caches, which often name what a client should not see.
pub fn strip_answer(headers: &mut HeaderMap) {
    strip(headers, |name| matches!(class_of(name), Class::HopByHop) || is_ours(name) || is_tags(name));
}

fn is_ours(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-response-time" | "x-cache-status" | "x-request-id")
}

fn is_tags(name: &HeaderName) -> bool {
    matches!(name.as_str(), "surrogate-key" | "cache-tag" | "xkey")
}

/// Removes hop-by-hop fields and the claims of forwarding that only trusted proxies may make.
pub fn strip_untrusted(headers: &mut HeaderMap) {
    strip(headers, |name| class_of(name) != Class::EndToEnd);
}

fn strip(headers: &mut HeaderMap, is_doomed: impl Fn(&HeaderName) -> bool) {
    // Most heads hold none or one of such fields: the head is looked at once, and what `Connection` names is asked for
    // only where there is a `Connection`.
    let mut doomed: Vec<HeaderName> = headers.keys().filter(|name| is_doomed(name)).cloned().collect();
    if doomed.contains(&header::CONNECTION) {
        doomed.extend(named_by_connection(headers));
    }
    for name in &doomed {
        headers.remove(name);
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION);
    let members = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty() && !is_plain_connection_option(member))
        .filter_map(|member| HeaderName::from_bytes(member).ok())
        .collect()
}

/// The usual options name fields that are removed anyway, so they need no second look.
fn is_plain_connection_option(member: &[u8]) -> bool {
    member.eq_ignore_ascii_case(b"close")
        || member.eq_ignore_ascii_case(b"keep-alive")
        || member.eq_ignore_ascii_case(b"upgrade")
}

/// True for a WebSocket handshake (RFC 6455 section 4.1): the only upgrade that is passed on.
#[must_use]
pub fn is_websocket_upgrade(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(header::UPGRADE).iter();
    let is_websocket = matches!(
        (upgrades.next(), upgrades.next()),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"websocket")
    );
    is_websocket
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// True when `peer` may say who the client is.
#[must_use]
pub fn is_trusted(peer: Option<SocketAddr>, trusted: &[Cidr]) -> bool {
    // A peer on a unix socket is a process of this host that was given the socket.
    peer.is_none_or(|peer| contains(trusted, peer.ip()))
}

fn contains(networks: &[Cidr], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(address))
}

/// The client's address: the first one from the right that no trusted proxy has.
#[must_use]
pub fn client_address(headers: &HeaderMap, peer: Option<SocketAddr>, trusted: &[Cidr]) -> Option<IpAddr> {
    let peer_address = peer.map(|peer| peer.ip().to_canonical());
    if trusted.is_empty() || !is_trusted(peer, trusted) {
        return peer_address;
    }
    let mut nearest = peer_address;
    let lines: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    let hops = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops {
        let Some(address) = parse_hop(hop) else { break };
        nearest = Some(address);
        if !contains(trusted, address) {
            break;
        }
    }
    nearest
}

fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse());
    address.ok().map(|address| address.to_canonical())
}

/// Removes every claim of forwarding, also those of a trusted proxy: on the way to an answer that others will get.
pub fn strip_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &&HeaderName| class_of(name) == Class::Forwarding;
    let claims: Vec<HeaderName> = headers.keys().filter(is_claim).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Takes off what [`write_forwarding`] writes anew.
pub fn strip_rewritten(headers: &mut HeaderMap) {
    headers.remove(X_FORWARDED_FOR);
    headers.remove(X_FORWARDED_PROTO);
}

/// Writes `X-Forwarded-For`, `-Proto` and `-Host` for the backend. `X-Forwarded-For` is the client alone, as backends limit
/// and log by its first hop; the proxies between are not told. A host that a trusted proxy told stays.
pub fn write_forwarding(
    lines: &mut impl Lines,
    headers: &HeaderMap,
    client: Option<IpAddr>,
    scheme: &str,
    host: &HeaderValue,
) {
    match client {
        Some(IpAddr::V4(address)) => {
            // The general formatting is slow enough to show for the most common kind.
            let mut text = Vec::with_capacity(15);
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push(b'.');
                }
                text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
            lines.line(X_FORWARDED_FOR.as_str(), &text);
        }
        Some(address) => lines.line(X_FORWARDED_FOR.as_str(), address.to_string().as_bytes()),
        None => {}
    }
    lines.line(X_FORWARDED_PROTO.as_str(), scheme.as_bytes());
    if !headers.contains_key(X_FORWARDED_HOST) {
        lines.line(X_FORWARDED_HOST.as_str(), host.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::{
        client_address, is_trusted, is_websocket_upgrade, strip_hop_by_hop, strip_untrusted, write_forwarding,
    };

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_connection_names_goes_with_it() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("proxy-authorization", "3"),
            ("te", "trailers"),
            ("accept", "4"),
        ]);

        strip_hop_by_hop(&mut map);

        assert_eq!(map, headers(&[("accept", "4")]));
    }

    #[test]
    fn claims_of_forwarding_are_believed_from_trusted_proxies_only() {
        let trusted = [crate::config::Cidr::parse("10.0.0.0/8").unwrap()];
        let claims = headers(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.1.1.1")]);
        let inside = Some("10.2.2.2:1000".parse().unwrap());
        let outside = Some("198.51.100.7:1000".parse().unwrap());

        assert_eq!(client_address(&claims, inside, &trusted), "203.0.113.9".parse().ok());
        assert_eq!(client_address(&claims, outside, &trusted), "198.51.100.7".parse().ok());
        assert!(is_trusted(inside, &trusted) && !is_trusted(outside, &trusted));
        let mut stripped = claims.clone();
        strip_untrusted(&mut stripped);
        assert!(stripped.is_empty());
    }

    #[test]
    fn the_first_hop_that_the_backend_sees_is_the_client() {
        let mut map = HeaderMap::new();

        let host = "coach.example".parse().unwrap();
        write_forwarding(&mut map, &HeaderMap::new(), "203.0.113.9".parse().ok(), "http", &host);

        assert_eq!(map["x-forwarded-for"], "203.0.113.9");
        assert_eq!(map["x-forwarded-proto"], "http");
        assert_eq!(map["x-forwarded-host"], "coach.example");
    }

    #[test]
    fn only_websocket_is_an_upgrade() {
        assert!(is_websocket_upgrade(&headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket")
        ])));
        assert!(!is_websocket_upgrade(&headers(&[("connection", "upgrade"), ("upgrade", "h2c")])));
        assert!(!is_websocket_upgrade(&headers(&[("connection", "upgrade"), ("upgrade", "h2c, websocket")])));
        assert!(!is_websocket_upgrade(&headers(&[("upgrade", "websocket")])));
    }
}
