//! What a request has to be beyond its grammar, whichever protocol carried it: method, target, host, expectation and the
//! fields named by `Connection` (RFC 9110 sections 7.2, 7.6.1, 9.3 and 10.1.1; RFC 9112 section 3.2).

use http::{
    HeaderMap, Method, Uri, Version, header,
    uri::{Authority, PathAndQuery},
};

use super::{
    Refusal,
    h1::{framing::Framing, head::RequestHead},
    headers::is_websocket_upgrade,
};

/// Fields that a client may not have removed by naming them in `Connection`: the backend decides by them.
const PROTECTED: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "authorization", "cookie", "cache-control"];

/// What the connection's own code has to know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
    /// The client closes after the answer.
    pub wants_close: bool,
}

/// Which of the fields that need a look are there: one pass over a head instead of a search for each.
#[derive(Default)]
struct Seen {
    hosts: usize,
    has_connection: bool,
    has_expect: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.iter().map(|(name, _)| name) {
            seen.hosts += usize::from(*name == header::HOST);
            seen.has_connection |= *name == header::CONNECTION;
            seen.has_expect |= *name == header::EXPECT;
        }
        seen
    }
}

/// Checks an HTTP/1 request and brings its target into origin-form.
///
/// # Errors
/// The refusal to answer with.
pub fn check_http1(head: &mut RequestHead, framing: Framing) -> Result<Traits, Refusal> {
    check_method(&head.method)?;
    let seen = Seen::of(&head.headers);
    let host = match (seen.hosts, head.headers.get(header::HOST)) {
        (1, Some(host)) => Some(host.as_bytes()),
        (0, _) if head.version == Version::HTTP_10 => None,
        _ => return Err(Refusal::BadHost),
    };
    host.map_or(Ok(()), check_host)?;
    if let Some(origin) = origin_form(&head.method, &head.uri, host)? {
        head.uri = origin;
    }
    let wants_close = seen.has_connection && check_connection(&head.headers)?;
    if framing != Framing::None && seen.has_connection && is_websocket_upgrade(&head.headers) {
        // Two servers could disagree on whether these bytes are a body or already the tunnel (CVE-2026-58055).
        return Err(Refusal::BadRequest);
    }
    let mut expects_continue = false;
    if seen.has_expect {
        expects_continue = check_expect(&head.headers)? && head.version == Version::HTTP_11;
        head.headers.remove(header::EXPECT);
    }
    Ok(Traits { expects_continue: expects_continue && framing != Framing::None, wants_close })
}

/// Checks an HTTP/2 request (RFC 9113 section 8.3), brings its target into origin-form and gives it a `Host`.
///
/// # Errors
/// The refusal to answer with.
pub fn check_http2(method: &Method, uri: &mut Uri, headers: &mut HeaderMap) -> Result<(), Refusal> {
    check_method(method)?;
    if headers.contains_key(header::TRANSFER_ENCODING)
        || headers.contains_key(header::CONNECTION)
        || headers.contains_key("keep-alive")
        || headers.contains_key("proxy-connection")
        || headers.contains_key(header::UPGRADE)
        || headers.get_all(header::TE).iter().any(|value| value != "trailers")
    {
        return Err(Refusal::BadRequest);
    }
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Refusal::BadTarget);
    }
    check_target_bytes(uri)?;
    check_expect(headers)?;
    headers.remove(header::EXPECT);
    let hosts = headers.get_all(header::HOST).iter().count();
    match uri.authority().cloned() {
        Some(authority) => {
            if hosts > 1
                || headers.get(header::HOST).is_some_and(|host| !is_same_host(host.as_bytes(), &authority))
            {
                return Err(Refusal::BadHost);
            }
            check_host(authority.as_str().as_bytes())?;
            let host = authority.as_str().parse().map_err(|_| Refusal::BadHost)?;
            headers.insert(header::HOST, host);
        }
        None => {
            single_host(headers, Version::HTTP_11)?;
        }
    }
    if uri.path() == "*" && *method != Method::OPTIONS {
        return Err(Refusal::BadTarget);
    }
    let target = uri.path_and_query().cloned().ok_or(Refusal::BadTarget)?;
    if uri.path() != "*" && !target.as_str().starts_with('/') {
        return Err(Refusal::BadTarget);
    }
    *uri = Uri::from(target);
    Ok(())
}

fn check_method(method: &Method) -> Result<(), Refusal> {
    if matches!(*method, Method::CONNECT | Method::TRACE) { Err(Refusal::MethodNotAllowed) } else { Ok(()) }
}

/// hyper checks less of an HTTP/2 `:path` than our own parser does of an HTTP/1 target.
fn check_target_bytes(uri: &Uri) -> Result<(), Refusal> {
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'#') {
        Ok(())
    } else {
        Err(Refusal::BadTarget)
    }
}

/// The one `Host` field; only HTTP/1.0 may lack it.
fn single_host(headers: &HeaderMap, version: Version) -> Result<Option<&[u8]>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            check_host(host.as_bytes())?;
            Ok(Some(host.as_bytes()))
        }
        (None, None) if version == Version::HTTP_10 => Ok(None),
        _ => Err(Refusal::BadHost),
    }
}

/// A host name, an IPv4 address or a bracketed IPv6 address, and a port from 1 to 65535 if there is one.
///
/// Percent-encoding and the delimiters that a registered name may hold by RFC 3986 are refused: no host in use has them,
/// and servers differ in how they read them.
fn check_host(host: &[u8]) -> Result<(), Refusal> {
    let (is_valid_name, port) = if let Some(rest) = host.strip_prefix(b"[") {
        let end = rest.iter().position(|byte| *byte == b']').ok_or(Refusal::BadHost)?;
        let (address, port) = rest.split_at(end);
        let text = std::str::from_utf8(address).map_err(|_| Refusal::BadHost)?;
        (text.parse::<std::net::Ipv6Addr>().is_ok(), port.get(1..).unwrap_or_default())
    } else {
        let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
        let (name, port) = host.split_at(end);
        let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!name.is_empty() && name.len() <= 255 && name.iter().all(is_name_byte), port)
    };
    let is_valid_port = match port {
        [] => true,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    if is_valid_name && is_valid_port { Ok(()) } else { Err(Refusal::BadHost) }
}

fn is_port(digits: &[u8]) -> bool {
    let number =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|text| text.parse::<u16>().ok()).is_some_and(|port| port > 0)
}

/// The target in origin-form where it is not in it already (RFC 9112 section 3.2).
fn origin_form(method: &Method, uri: &Uri, host: Option<&[u8]>) -> Result<Option<Uri>, Refusal> {
    let Some(scheme) = uri.scheme_str() else {
        let path = uri.path();
        let is_asterisk = path == "*" && *method == Method::OPTIONS;
        let is_origin = uri.authority().is_none() && path.starts_with('/');
        return if is_origin || is_asterisk { Ok(None) } else { Err(Refusal::BadTarget) };
    };
    let authority = uri.authority().ok_or(Refusal::BadTarget)?;
    if !matches!(scheme, "http" | "https") || authority.as_str().contains('@') {
        return Err(Refusal::BadTarget);
    }
    check_host(authority.as_str().as_bytes())?;
    if host.is_some_and(|host| !is_same_host(host, authority)) {
        return Err(Refusal::BadHost);
    }
    let target = match uri.path_and_query().map(PathAndQuery::as_str) {
        None | Some("") => PathAndQuery::from_static("/"),
        Some(target) if target.starts_with('/') => uri.path_and_query().cloned().ok_or(Refusal::BadTarget)?,
        Some(target) => PathAndQuery::try_from(format!("/{target}")).map_err(|_| Refusal::BadTarget)?,
    };
    Ok(Some(Uri::from(target)))
}

fn is_same_host(host: &[u8], authority: &Authority) -> bool {
    host.eq_ignore_ascii_case(authority.as_str().as_bytes())
}

/// Refuses a `Connection` that names what may not be removed. Returns true when it says `close`.
fn check_connection(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut wants_close = false;
    for line in headers.get_all(header::CONNECTION) {
        for member in line.as_bytes().split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.eq_ignore_ascii_case(b"close") {
                wants_close = true;
                continue;
            }
            let is_forwarding =
                member.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"));
            if is_forwarding || PROTECTED.iter().any(|name| member.eq_ignore_ascii_case(name.as_bytes())) {
                return Err(Refusal::BadConnection);
            }
        }
    }
    Ok(wants_close)
}

/// Returns true when the client waits for `100 Continue`.
fn check_expect(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut lines = headers.get_all(header::EXPECT).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(false),
        (Some(line), None) if line.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Refusal::ExpectationFailed),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use http::{HeaderMap, Method, Uri};

    use super::{Traits, check_http1, check_http2};
    use crate::{
        config,
        net::{
            Refusal,
            h1::{Limits, framing::Framing, head::take_request},
        },
    };

    fn check(text: &str) -> Result<(String, Traits), Refusal> {
        let limits = Limits::downstream(&config::Limits::default(), config::Underscores::Drop);
        let mut head = take_request(&mut BytesMut::from(text), &limits)?.expect("a whole head");
        let traits = check_http1(&mut head, Framing::None)?;
        Ok((head.uri.to_string(), traits))
    }

    #[test]
    fn targets_become_origin_form_or_are_refused() {
        let table = [
            ("GET /a?b=c HTTP/1.1", "x", Ok("/a?b=c")),
            ("GET http://x/a HTTP/1.1", "x", Ok("/a")),
            ("GET http://X:80 HTTP/1.1", "x:80", Ok("/")),
            ("GET http://x?a=b HTTP/1.1", "x", Ok("/?a=b")),
            ("GET http://y/a HTTP/1.1", "x", Err(Refusal::BadHost)),
            ("GET http://u@x/a HTTP/1.1", "x", Err(Refusal::BadTarget)),
            ("GET ftp://x/a HTTP/1.1", "x", Err(Refusal::BadTarget)),
            ("GET x:80 HTTP/1.1", "x:80", Err(Refusal::BadTarget)),
            ("GET a HTTP/1.1", "x", Err(Refusal::BadTarget)),
            ("GET /a#b HTTP/1.1", "x", Err(Refusal::BadTarget)),
            ("GET /a\u{e9} HTTP/1.1", "x", Err(Refusal::BadTarget)),
            ("GET * HTTP/1.1", "x", Err(Refusal::BadTarget)),
            ("OPTIONS * HTTP/1.1", "x", Ok("*")),
            ("CONNECT x:80 HTTP/1.1", "x:80", Err(Refusal::MethodNotAllowed)),
            ("TRACE / HTTP/1.1", "x", Err(Refusal::MethodNotAllowed)),
            ("GET  / HTTP/1.1", "x", Err(Refusal::BadRequest)),
            ("GET / HTTP/1.1 ", "x", Err(Refusal::BadRequest)),
            ("GET / http/1.1", "x", Err(Refusal::BadRequest)),
            ("GET / HTTP/1.10", "x", Err(Refusal::BadRequest)),
            ("GET / HTTP/2.0", "x", Err(Refusal::UnsupportedVersion)),
            ("G\u{1}T / HTTP/1.1", "x", Err(Refusal::BadRequest)),
        ];
        for (line, host, expected) in table {
            let result = check(&format!("{line}\r\nHost: {host}\r\n\r\n")).map(|(target, _)| target);

            assert_eq!(result, expected.map(str::to_owned), "{line}");
        }
    }

    #[test]
    fn a_host_is_one_name_and_a_port() {
        let good = ["x", "x.example:8080", "[::1]", "[::1]:80", "127.0.0.1:1", "coach_api.svc"];
        let bad = [
            "", " ", "a b", "a/b", "a\\b", "a#b", "u@x", "a,b", "x:", "x:0", "x:65536", "x:8a", "[::1",
            "[zz]", "x:+1",
        ];
        for host in good {
            assert!(check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).is_ok(), "{host}");
        }
        for host in bad {
            assert_eq!(
                check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
                Err(Refusal::BadHost),
                "{host}"
            );
        }
        assert_eq!(check("GET / HTTP/1.1\r\n\r\n"), Err(Refusal::BadHost));
        assert_eq!(check("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"), Err(Refusal::BadHost));
        assert!(check("GET / HTTP/1.0\r\n\r\n").is_ok());
    }

    #[test]
    fn connection_may_not_name_what_the_backend_decides_by() {
        for name in ["Host", "content-length", "Cookie", "authorization", "Cache-Control", "X-Forwarded-For"]
        {
            let text = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close, {name}\r\n\r\n");

            assert_eq!(check(&text), Err(Refusal::BadConnection), "{name}");
        }
        let (_, traits) = check("GET / HTTP/1.1\r\nHost: x\r\nConnection: X-Mine , Close\r\n\r\n").unwrap();
        assert!(traits.wants_close);
    }

    #[test]
    fn the_only_expectation_is_100_continue() {
        assert_eq!(
            check("PUT / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n"),
            Err(Refusal::ExpectationFailed)
        );
        assert!(check("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\n\r\n").is_ok());
    }

    #[test]
    fn http2_requests_obey_the_same_rules() {
        type Line<'a> = (&'a str, &'a str);
        let table: &[(&str, &[Line<'_>], Result<(), Refusal>)] = &[
            ("http://x/a", &[], Ok(())),
            ("http://x/a", &[("host", "x")], Ok(())),
            ("http://x/a", &[("host", "y")], Err(Refusal::BadHost)),
            ("http://u@x/a", &[], Err(Refusal::BadHost)),
            ("http://x/a", &[("te", "trailers")], Ok(())),
            ("http://x/a", &[("te", "gzip")], Err(Refusal::BadRequest)),
            ("http://x/a", &[("connection", "close")], Err(Refusal::BadRequest)),
            ("http://x/a", &[("transfer-encoding", "chunked")], Err(Refusal::BadRequest)),
            ("/a", &[("host", "x")], Ok(())),
            ("/a", &[], Err(Refusal::BadHost)),
        ];
        for (target, lines, expected) in table {
            let mut uri: Uri = target.parse().unwrap();
            let mut headers: HeaderMap =
                lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();

            assert_eq!(check_http2(&Method::GET, &mut uri, &mut headers), *expected, "{target} {lines:?}");
        }
    }
}
