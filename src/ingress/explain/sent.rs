//! The key of a request, part by part, and what of the request does not reach the backend. Both are read from what the
//! stages made, never worked out anew.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    cache::{Key, KeyParts},
    ingress::{exchange::Exchange, outbound::Outbound},
    upstream::Introduce as _,
};

/// Bytes of a digest that stand for a value.
const SHORT: usize = 4;

/// A key as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyShown {
    /// Its name in stores outside this process.
    pub name: String,
    /// Its parts.
    pub parts: Vec<KeyPart>,
}

/// A part of a key. Values of fields and cookies are shown as the beginning of their SHA-256: they may be credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyPart {
    /// What it is.
    pub name: String,
    /// Its value; none where the request has none, which is a value too.
    pub value: Option<String>,
}

/// The request to the backend, and what it lacks of the client's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Path and query.
    pub target: String,
    /// True when its answer may be kept, so that only what is in the key may shape it.
    pub fills: bool,
    /// Query parameters that are left out.
    pub query: Vec<String>,
    /// Cookies that are left out.
    pub cookies: Vec<String>,
    /// Fields that are left out.
    pub fields: Vec<String>,
    /// Fields that go out with another value.
    pub changed: Vec<Changed>,
    /// Fields that touchline writes itself.
    pub written: Vec<String>,
}

/// A field that goes out with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// What the client sent.
    pub from: String,
    /// What the backend gets.
    pub to: String,
}

impl KeyShown {
    pub(super) fn of(key: &Key) -> Self {
        let KeyParts { class, scheme, is_identity, authority, path, query, origin, headers, cookies, rest } =
            key.read();
        let mut parts = Vec::new();
        let mut add =
            |name: &str, value: Option<String>| parts.push(KeyPart { name: name.to_owned(), value });
        add("method", Some(if class == 'G' { "GET, HEAD".to_owned() } else { class.to_string() }));
        add("scheme", Some(scheme.to_owned()));
        if is_identity {
            add("identity", Some("that of a verified user".to_owned()));
        }
        add("authority", Some(text(authority)));
        add("path", Some(text(path)));
        add("query", query.map(text));
        if let Some(values) = origin {
            add("origin", joined(&values, text));
        }
        for (kind, list) in [("header", headers), ("cookie", cookies)] {
            for (name, values) in list {
                add(&format!("{kind} {}", text(name)), joined(&values, beginning));
            }
        }
        if !rest.is_empty() {
            add("further parts", Some(short(rest)));
        }
        Self { name: key.name(), parts }
    }
}

impl Sent {
    /// What goes out by this plan; `received` are the client's fields as they came.
    pub(super) fn of(exchange: &Exchange, outbound: &Outbound, received: &HeaderMap) -> Self {
        let introduction = exchange.introduction();
        let mut lines = BytesMut::new();
        introduction.introduce(&outbound.headers, &mut lines);
        let written: Vec<String> = String::from_utf8_lossy(&lines)
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        let head = outbound.head(exchange, &introduction);
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let is_left_out = |name: &&HeaderName| {
            !outbound.headers.contains_key(*name)
                && **name != header::COOKIE
                && !written.iter().any(|own| own == name.as_str())
        };
        Self {
            query: left_out(&parameters(exchange.parts.uri.query()), &parameters(head.uri.query())),
            cookies: left_out(&cookies(received), &cookies(&outbound.headers)),
            fields: received.keys().filter(is_left_out).map(ToString::to_string).collect(),
            changed: changed(received, &outbound.headers),
            fills: outbound.may_fill,
            target,
            written,
        }
    }
}

/// Fields with other values than the client sent. Of cookies only names are told, elsewhere.
fn changed(received: &HeaderMap, sent: &HeaderMap) -> Vec<Changed> {
    let values = |map: &HeaderMap, name: &HeaderName| {
        map.get_all(name).iter().map(|value| text(value.as_bytes())).collect::<Vec<_>>().join(", ")
    };
    let names = received.keys().filter(|name| **name != header::COOKIE && sent.contains_key(*name));
    let pairs = names.map(|name| (name, values(received, name), values(sent, name)));
    let differ = pairs.filter(|(_, from, to)| from != to);
    differ.map(|(name, from, to)| Changed { name: name.to_string(), from, to }).collect()
}

/// Names of which the second list has fewer than the first, each once.
fn left_out(before: &[String], after: &[String]) -> Vec<String> {
    let count = |list: &[String], name: &String| list.iter().filter(|known| *known == name).count();
    let mut names: Vec<String> =
        before.iter().filter(|name| count(after, name) < count(before, name)).cloned().collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn parameters(query: Option<&str>) -> Vec<String> {
    let pairs = query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split('=').next().unwrap_or(pair).to_owned()).collect()
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let names = pairs.map(|pair| pair.split(|byte| *byte == b'=').next().unwrap_or(pair).trim_ascii());
    names.filter(|name| !name.is_empty()).map(text).collect()
}

fn joined(values: &[&[u8]], show: impl Fn(&[u8]) -> String) -> Option<String> {
    (!values.is_empty()).then(|| values.iter().map(|value| show(value)).collect::<Vec<_>>().join(", "))
}

/// The beginning of a value's digest: enough to see whether two are the same.
pub(super) fn short(value: &[u8]) -> String {
    beginning(&Sha256::digest(value))
}

/// The beginning of a digest.
fn beginning(digest: &[u8]) -> String {
    let digits = digest.iter().take(SHORT).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("#{digits}")
}

/// Bytes as text that cannot move a terminal's cursor.
pub(super) fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{cookies, left_out, parameters, short, text};

    #[test]
    fn what_is_left_out_is_named_once() {
        let list = |text: &str| parameters(Some(text));
        let table = [
            ("a=1&b=2&a=3", "b=2", &["a"][..]),
            ("a=1&a=2", "a=1", &["a"]),
            ("a&&b", "a&b", &[]),
            ("", "", &[]),
            ("x=1", "", &["x"]),
        ];
        for (before, after, expected) in table {
            assert_eq!(left_out(&list(before), &list(after)), expected, "{before} {after}");
        }
    }

    #[test]
    fn cookies_are_told_by_name_alone() {
        let mut map = HeaderMap::new();
        map.append("cookie", "session=secret; theme=dark".parse().unwrap());
        map.append("cookie", " ;odd".parse().unwrap());

        assert_eq!(cookies(&map), ["session", "theme", "odd"]);
    }

    #[test]
    fn values_are_told_by_their_digest_and_text_is_harmless() {
        assert_eq!(short(b"de"), short(b"de"));
        assert_ne!(short(b"de"), short(b"fr"));
        assert_eq!(short(b"").len(), 9);
        assert_eq!(text(b"a\x1b[2Jb\xff"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
