//! The request that is asked about, brought to the same shape and through the same checks as one from a socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::{
    config,
    ingress::QuestionError,
    net::{
        Body, Context, Refusal,
        h1::{Limits, framing, head::take_request},
        request::check_http1,
    },
};

const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Bytes of all fields together that are looked at; beyond every configurable limit.
const MAX_FIELDS: usize = 256 * 1024;

/// A request to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    method: Method,
    target: String,
    fields: Vec<(HeaderName, HeaderValue)>,
    peer: Option<IpAddr>,
}

/// The same as a request that has come in.
pub(super) struct Received {
    pub(super) request: Request<Body>,
    pub(super) context: Context,
    /// What was assumed, as the question did not say it.
    pub(super) assumed: Vec<String>,
}

impl Question {
    /// Takes a question as a person writes it. `url` is a URL, or a path with or without a query; `fields` are names
    /// with values; `peer` is the address that the connection comes from.
    ///
    /// # Errors
    /// What about it cannot be a request.
    pub fn new(
        method: &str,
        url: &str,
        fields: &[(String, String)],
        peer: Option<IpAddr>,
    ) -> Result<Self, QuestionError> {
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|_| QuestionError::Method(method.to_owned()))?;
        let (scheme, authority, target) = split(url).ok_or_else(|| QuestionError::Url(url.to_owned()))?;
        if !target.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) {
            return Err(QuestionError::Bytes(url.to_owned()));
        }
        if fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_FIELDS {
            return Err(QuestionError::TooLarge);
        }
        let mut read =
            fields.iter().map(|(name, value)| field(name, value)).collect::<Result<Vec<_>, _>>()?;
        if let Some(authority) = authority {
            let told = read.iter().find(|(name, _)| *name == header::HOST).map(|(_, host)| host.clone());
            match told {
                Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
                    return Err(QuestionError::Host(authority.to_owned()));
                }
                Some(_) => {}
                None => read.push(field("host", authority)?),
            }
        }
        if scheme == Some("https") && !read.iter().any(|(name, _)| name.as_str() == X_FORWARDED_PROTO) {
            read.push(field(X_FORWARDED_PROTO, "https")?);
        }
        Ok(Self { method, target, fields: read, peer })
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The URL as far as it is known without a configuration.
    #[must_use]
    pub fn url(&self) -> String {
        let host = self.fields.iter().find(|(name, _)| *name == header::HOST);
        let host = host.and_then(|(_, host)| host.to_str().ok());
        host.map_or_else(|| self.target.clone(), |host| format!("http://{host}{}", self.target))
    }

    /// The fields as text, for a question to another process.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        self.fields.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
    }

    /// The address that the connection comes from, if the question says so.
    #[must_use]
    pub const fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// The request that a client would have sent, read by the code that reads those of clients.
    pub(super) fn receive(&self, ingress: &config::Ingress) -> Result<Received, Refusal> {
        let mut assumed = Vec::new();
        let mut text = BytesMut::new();
        for part in [self.method.as_str(), " ", &self.target, " HTTP/1.1\r\n"] {
            text.extend_from_slice(part.as_bytes());
        }
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                text.extend_from_slice(part);
            }
        };
        if !self.fields.iter().any(|(name, _)| *name == header::HOST) {
            let host = ingress.hosts.first().map_or("localhost", String::as_str);
            assumed
                .push(format!("the host {host}; it is part of the key, so give the whole URL to be exact"));
            line("host", host.as_bytes());
        }
        for (name, value) in &self.fields {
            line(name.as_str(), value.as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        let limits = Limits::downstream(&ingress.limits, ingress.underscores);
        let mut head = take_request(&mut text, &limits)?.ok_or(Refusal::BadRequest)?;
        let framing = framing::of_request(head.version, &head.headers)?;
        check_http1(&mut head, framing)?;
        let peer = self.peer_of(ingress, &mut assumed);
        let mut request = Request::new(Body::Empty);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.headers_mut() = head.headers;
        let context = Context { peer: Some(SocketAddr::new(peer, 0)), ..Context::internal() };
        Ok(Received { request, context, assumed })
    }

    /// Who asks. A client that speaks `https` does so with a proxy in front, so where one is trusted it is that.
    fn peer_of(&self, ingress: &config::Ingress, assumed: &mut Vec<String>) -> IpAddr {
        if let Some(peer) = self.peer {
            return peer;
        }
        let is_https = self.fields.iter().any(|(name, value)| {
            name.as_str() == X_FORWARDED_PROTO && value.as_bytes().eq_ignore_ascii_case(b"https")
        });
        match ingress.trusted_proxies.first().filter(|_| is_https) {
            Some(proxy) => {
                assumed.push(format!("a connection from {proxy}, which `ingress.trusted_proxies` names"));
                proxy.first()
            }
            None if is_https => {
                assumed.push(
                    "nothing about the scheme: no proxy is trusted (`ingress.trusted_proxies`), so every request \
                     counts as http"
                        .to_owned(),
                );
                Ipv4Addr::LOCALHOST.into()
            }
            None => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// Scheme, authority and target of a URL, or the target alone.
fn split(url: &str) -> Option<(Option<&'static str>, Option<&str>, String)> {
    let url = url.split('#').next().unwrap_or_default();
    if url.starts_with('/') || url.parse::<Uri>().is_ok_and(|uri| uri.path() == "*") {
        return Some((None, None, url.to_owned()));
    }
    let (scheme, rest) = url.split_once("://")?;
    let scheme = ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(at)?;
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    Some((Some(scheme), Some(authority), format!("{slash}{target}")))
}

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), QuestionError> {
    let wrong = || QuestionError::Field(name.to_owned());
    let read = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    Ok((read, HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::Question;
    use crate::{config, ingress::QuestionError, net::Refusal};

    fn question(url: &str, fields: &[(&str, &str)]) -> Result<Question, QuestionError> {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Question::new("GET", url, &fields, None)
    }

    #[test]
    fn a_url_is_split_into_host_scheme_and_target() {
        let table: &[(&str, &str, &str, Option<&str>)] = &[
            ("/a?b#c", "/a?b", "localhost", None),
            ("http://x", "/", "x", None),
            ("HTTP://x:81?q", "/?q", "x:81", None),
            ("https://x/a", "/a", "x", Some("https")),
        ];
        for (url, target, host, proto) in table {
            let received = question(url, &[]).unwrap().receive(&config::Ingress::default()).unwrap();
            let headers = received.request.headers();

            assert_eq!(received.request.uri(), target, "{url}");
            assert_eq!(headers["host"], host, "{url}");
            assert_eq!(
                headers.get("x-forwarded-proto").map(|value| value.to_str().unwrap()),
                *proto,
                "{url}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_request_is_said_to_be_so() {
        for url in ["a", "ftp://x/", "http://", "http://u@x/", ""] {
            assert!(matches!(question(url, &[]), Err(QuestionError::Url(_))), "{url:?}");
        }
        assert!(matches!(question("/a b", &[]), Err(QuestionError::Bytes(_))));
        assert!(matches!(question("/é", &[]), Err(QuestionError::Bytes(_))));
        assert!(matches!(question("http://x/", &[("Host", "y")]), Err(QuestionError::Host(_))));
        assert!(question("http://x/", &[("Host", "X")]).is_ok());
        for (name, value) in [("a b", "1"), ("", "1"), ("a", "1\r\nb: 2"), ("a", "1\n")] {
            let found = question("/", &[(name, value)]);
            assert_eq!(found.is_err(), value != "1\n", "{name:?} {value:?}");
        }
        assert!(Question::new("G T", "/", &[], None).is_err());
        let many = "x".repeat(300 * 1024);
        assert!(matches!(question("/", &[("a", &many)]), Err(QuestionError::TooLarge)));
    }

    #[test]
    fn the_door_is_the_same_as_that_of_clients() {
        let ingress = config::Ingress::default();
        let refused = |url: &str, fields: &[(&str, &str)]| {
            question(url, fields).unwrap().receive(&ingress).err().unwrap()
        };

        assert_eq!(refused("http://x:0/", &[]), Refusal::BadHost);
        assert_eq!(refused("/", &[("host", "a"), ("host", "b")]), Refusal::BadHost);
        assert_eq!(refused("/", &[("connection", "cookie")]), Refusal::BadConnection);
        assert_eq!(refused(&format!("/{}", "a".repeat(1 << 20)), &[]), Refusal::TargetTooLong);
        let trace = Question::new("TRACE", "/", &[], None).unwrap();
        assert_eq!(trace.receive(&ingress).err(), Some(Refusal::MethodNotAllowed));
    }

    #[test]
    fn https_comes_through_a_trusted_proxy_where_there_is_one() {
        let trusted = config::Ingress {
            trusted_proxies: vec![config::Cidr::parse("10.0.0.0/8").unwrap()],
            hosts: vec!["coach.example".to_owned()],
            ..config::Ingress::default()
        };
        let peer = |url: &str| {
            let received = question(url, &[]).unwrap().receive(&trusted).unwrap();
            received.context.peer.unwrap().ip().to_string()
        };

        assert_eq!(peer("https://coach.example/"), "10.0.0.0");
        assert_eq!(peer("http://coach.example/"), "127.0.0.1");
        let received = question("/a", &[]).unwrap().receive(&trusted).unwrap();
        assert_eq!(received.request.headers()["host"], "coach.example");
        assert_eq!(received.assumed.len(), 1);
    }
}
