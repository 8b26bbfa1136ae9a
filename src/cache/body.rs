//! The request body as a part of the key, for routes whose POST only reads; and the members of a body for tags.

use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::{graphql, json::Value};
use crate::config::BodyKey;

/// What tells one body from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyPart {
    kind: u8,
    /// The media type. A body of other type is another body, whatever its bytes.
    media: Vec<u8>,
    digest: [u8; 32],
}

impl BodyPart {
    /// The part of a body. None: it cannot be told what it says, so the request goes past the cache.
    ///
    /// `query` is what the backend gets to see of the URL's own query.
    #[must_use]
    pub fn of(kind: BodyKey, headers: &HeaderMap, query: Option<&[u8]>, body: &[u8]) -> Option<Self> {
        if headers.contains_key(header::CONTENT_ENCODING) {
            return None;
        }
        let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
        let written = match (lines.next(), lines.next()) {
            (written, None) => written.map_or(&b""[..], HeaderValue::as_bytes).trim_ascii(),
            (_, Some(_)) => return None,
        };
        let (essence, parameters) = split(written);
        if kind == BodyKey::Raw {
            // The parameters may say how the bytes are to be read, as the boundary of a multipart body does.
            let media = [&essence, &b";"[..], parameters].concat();
            return Some(Self { kind: b'r', media, digest: Sha256::digest(body).into() });
        }
        if !is_json(&essence) || !is_utf8(parameters) {
            return None;
        }
        let value = Value::parse(body)?;
        let kind = match kind {
            BodyKey::Graphql if !graphql::is_read(&value, query) => return None,
            BodyKey::Graphql => b'g',
            BodyKey::Json | BodyKey::Raw => b'j',
        };
        Some(Self { kind, media: essence, digest: Sha256::digest(value.canonical()).into() })
    }

    /// Its bytes in a key: what it is, the media type with its length, the digest.
    pub(super) fn append_to(&self, parts: &mut Vec<u8>) {
        let length = u32::try_from(self.media.len()).unwrap_or(u32::MAX);
        parts.push(self.kind);
        parts.extend_from_slice(&length.to_be_bytes());
        parts.extend_from_slice(&self.media);
        parts.extend_from_slice(&self.digest);
    }
}

/// The members at the top of a JSON body that are single values, for tags. None of a body that is no JSON map or can be
/// read in two ways.
#[must_use]
pub fn body_members<'a>(body: &[u8], names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, String)> {
    let Some(value) = Value::parse(body) else { return Vec::new() };
    let member = |name: &'a str| Some((name, value.member(name)?.text()?.to_owned()));
    names.into_iter().filter_map(member).collect()
}

/// Whether the bytes of a body are those of its text in UTF-8, so that its members are what the backend reads.
#[must_use]
pub fn is_readable(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let media = match (lines.next(), lines.next()) {
        (media, None) => media.map_or(&b""[..], HeaderValue::as_bytes),
        (_, Some(_)) => return false,
    };
    let (_, parameters) = split(media);
    let has_charset = parameters.to_ascii_lowercase().windows(7).any(|name| name == b"charset");
    !headers.contains_key(header::CONTENT_ENCODING) && (!has_charset || is_utf8(parameters))
}

/// The essence of a media type in lower case, and its parameters as they are written.
fn split(media: &[u8]) -> (Vec<u8>, &[u8]) {
    let end = media.iter().position(|byte| *byte == b';').unwrap_or(media.len());
    let (essence, parameters) = media.split_at_checked(end).unwrap_or((media, &[]));
    (
        essence.trim_ascii().to_ascii_lowercase(),
        parameters.strip_prefix(b";").unwrap_or_default().trim_ascii(),
    )
}

/// Types whose bodies are JSON to every server. Under others, such as that of a form, white space may count.
fn is_json(essence: &[u8]) -> bool {
    matches!(essence, b"application/json" | b"text/json") || essence.ends_with(b"+json")
}

/// Whether the parameters leave no doubt that the text is UTF-8.
fn is_utf8(parameters: &[u8]) -> bool {
    if parameters.is_empty() {
        return true;
    }
    let Some((name, value)) = parameters.split_at_checked(b"charset=".len()) else { return false };
    let value = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    name.eq_ignore_ascii_case(b"charset=") && value.eq_ignore_ascii_case(b"utf-8")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};

    use super::{BodyPart, body_members, is_readable};
    use crate::{cache::samples::fields, config::BodyKey};

    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

    fn part(kind: BodyKey, lines: &[(&'static str, &str)], body: &str) -> Option<BodyPart> {
        BodyPart::of(kind, &fields(lines), None, body.as_bytes())
    }

    #[test]
    fn json_bodies_share_a_part_when_they_say_the_same() {
        let plain = part(BodyKey::Json, JSON, r#"{"a":1,"b":2}"#);
        assert!(plain.is_some());
        for line in [
            ("content-type", "application/json"),
            ("content-type", "Application/JSON ; charset=UTF-8"),
            ("content-type", "application/json;charset=\"utf-8\""),
        ] {
            assert_eq!(part(BodyKey::Json, &[line], " { \"b\": 2, \"a\": 1 } "), plain, "{line:?}");
        }
        assert_ne!(part(BodyKey::Json, JSON, r#"{"a":1,"b":"2"}"#), plain);
        assert_ne!(part(BodyKey::Json, &[("content-type", "application/x+json")], r#"{"a":1,"b":2}"#), plain);
        assert_ne!(part(BodyKey::Raw, JSON, r#"{"a":1,"b":2}"#), plain);
    }

    #[test]
    fn what_cannot_be_told_has_no_part() {
        for lines in [
            &[][..],
            &[("content-type", "text/plain")],
            &[("content-type", "application/x-www-form-urlencoded")],
            &[("content-type", "application/json; charset=latin1")],
            &[("content-type", "application/json; charset=utf-8; charset=latin1")],
            &[("content-type", "application/json; x=1")],
            &[("content-type", "application/json"), ("content-type", "text/plain")],
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
        ] {
            assert_eq!(part(BodyKey::Json, lines, "{}"), None, "{lines:?}");
        }
        for body in ["", "{", "{\"a\":1,\"a\":2}", "a=1"] {
            assert_eq!(part(BodyKey::Json, JSON, body), None, "{body}");
        }
        assert_eq!(part(BodyKey::Raw, &[("content-encoding", "gzip")], "x"), None);
    }

    #[test]
    fn raw_bodies_count_byte_by_byte_with_their_whole_type() {
        let form = |boundary: &str| {
            let media = format!("multipart/form-data; boundary={boundary}");
            part(BodyKey::Raw, &[("content-type", &media)], "--a--")
        };

        assert_eq!(form("a"), form("a"));
        assert_ne!(form("a"), form("A"));
        assert_ne!(part(BodyKey::Raw, JSON, "{}"), part(BodyKey::Raw, JSON, "{ }"));
        assert!(part(BodyKey::Raw, &[], "").is_some());
        assert_ne!(part(BodyKey::Raw, &[], "x"), part(BodyKey::Raw, JSON, "x"));
    }

    #[test]
    fn of_graphql_requests_only_queries_have_a_part() {
        let query = |text: &str| part(BodyKey::Graphql, JSON, text);

        let one = query(r#"{"query":"{ a }","variables":{"x":1}}"#);

        assert!(one.is_some());
        assert_eq!(query(r#"{"variables":{"x":1}, "query":"{ a }"}"#), one);
        assert_ne!(query(r#"{"query":"{ a }","variables":{"x":2}}"#), one);
        assert_ne!(query(r#"{"query":"{ b }","variables":{"x":1}}"#), one);
        assert_ne!(query(r#"{"query":"{ a }","variables":{"x":1},"extensions":{"y":1}}"#), one);
        assert_eq!(query(r#"{"query":"mutation { a }"}"#), None);
        let in_url =
            BodyPart::of(BodyKey::Graphql, &fields(JSON), Some(b"query={b}"), br#"{"query":"{ a }"}"#);
        assert_eq!(in_url, None);
    }

    #[test]
    fn members_are_given_as_their_texts() {
        let body = br#"{"user_id":"u/7","n":7,"ok":true,"none":null,"list":[1]}"#;

        let found = body_members(body, ["user_id", "n", "ok", "none", "list", "gone"]);

        let expected = [("user_id", "u/7"), ("n", "7"), ("ok", "true")];
        assert_eq!(found, expected.map(|(name, text)| (name, text.to_owned())));
        for body in [&b"user_id=7"[..], b"", b"[1]", br#"{"n":1,"n":2}"#, b"\xff"] {
            assert!(body_members(body, ["n", "user_id"]).is_empty());
        }
    }

    #[test]
    fn bodies_in_other_codings_and_charsets_are_not_read() {
        for (lines, expected) in [
            (&[][..], true),
            (JSON, true),
            (&[("content-type", "application/json; charset=UTF-8")], true),
            (&[("content-type", "text/plain; x=1")], true),
            (&[("content-type", "application/json; Charset=latin1")], false),
            (&[("content-type", "application/json; x=1; charset=utf-8")], false),
            (&[("content-type", "application/json"), ("content-type", "text/plain")], false),
            (&[("content-encoding", "gzip")], false),
        ] {
            assert_eq!(is_readable(&fields(lines)), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in vec(any::<u8>(), 0..64), media in vec(32_u8..127, 0..24)) {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static("content-type"), HeaderValue::from_bytes(&media).unwrap());
            for kind in [BodyKey::Json, BodyKey::Raw, BodyKey::Graphql] {
                let once = BodyPart::of(kind, &headers, None, &body);
                prop_assert_eq!(once, BodyPart::of(kind, &headers, None, &body));
            }
            let _ = (body_members(&body, ["a"]), is_readable(&headers));
        }
    }
}
