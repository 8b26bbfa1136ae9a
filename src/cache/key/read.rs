//! A key read back into its parts, for people: what is hashed is what is shown, not what somebody thinks is in it.

use super::{Key, KeyDigest, LENGTH, part};

/// The parts of a key, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// The class of methods that share it.
    pub class: char,
    /// The scheme; empty for one that this build does not know.
    pub scheme: &'static str,
    /// Whether it is one user's own.
    pub is_identity: bool,
    /// The authority in its canonical spelling.
    pub authority: &'a [u8],
    /// The path.
    pub path: &'a [u8],
    /// What is left of the query; none is the same as no query.
    pub query: Option<&'a [u8]>,
    /// The values of `Origin`, where it is in the key at all.
    pub origin: Option<Vec<&'a [u8]>>,
    /// The chosen request fields with the digests of their values.
    pub headers: Vec<(&'a [u8], Vec<&'a [u8]>)>,
    /// The chosen cookies with the digests of their values.
    pub cookies: Vec<(&'a [u8], Vec<&'a [u8]>)>,
    /// Bytes behind all that: parts that have no place of their own here.
    pub rest: &'a [u8],
}

impl Key {
    /// The parts of the key.
    #[must_use]
    pub fn read(&self) -> KeyParts<'_> {
        let byte = |at: usize| self.parts.get(at).copied().unwrap_or_default();
        let mut reader = Reader { bytes: &self.parts, at: self.authority_at() };
        KeyParts {
            class: char::from(byte(1)),
            scheme: match byte(2) {
                b'h' => "http",
                b's' => "https",
                _ => "",
            },
            is_identity: self.is_identity(),
            authority: reader.text(),
            path: reader.text(),
            query: reader.flag().then(|| reader.text()),
            origin: reader.flag().then(|| reader.values()),
            headers: reader.named(),
            cookies: reader.named(),
            rest: self.parts.get(reader.at..).unwrap_or_default(),
        }
    }
}

/// A place in the parts. Past the end everything is empty.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn text(&mut self) -> &'a [u8] {
        let (text, next) = part(self.bytes, self.at);
        self.at = next;
        text
    }

    fn flag(&mut self) -> bool {
        let flag = self.bytes.get(self.at) == Some(&1);
        self.at = self.at.saturating_add(1);
        flag
    }

    fn count(&mut self) -> usize {
        let number = self.bytes.get(self.at..).and_then(<[u8]>::split_first_chunk::<LENGTH>);
        self.at = self.at.saturating_add(LENGTH);
        let count = number.map_or(0, |(number, _)| u32::from_be_bytes(*number));
        usize::try_from(count).unwrap_or_default()
    }

    fn values(&mut self) -> Vec<&'a [u8]> {
        (0..self.count()).map_while(|_| self.within(Self::text)).collect()
    }

    fn digests(&mut self) -> Vec<&'a [u8]> {
        (0..self.count()).map_while(|_| self.within(Self::digest)).collect()
    }

    fn digest(&mut self) -> &'a [u8] {
        let end = self.at.saturating_add(size_of::<KeyDigest>()).min(self.bytes.len());
        let digest = self.bytes.get(self.at..end).unwrap_or_default();
        self.at = end;
        digest
    }

    fn named(&mut self) -> Vec<(&'a [u8], Vec<&'a [u8]>)> {
        (0..self.count()).map_while(|_| self.within(|reader| (reader.text(), reader.digests()))).collect()
    }

    /// What is read here, unless the end is reached: a count in a foreign layout may be anything.
    fn within<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.at < self.bytes.len()).then(|| read(self))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, header};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::Key;
    use crate::cache::{
        key::{KeyMaker, KeyRule, Scheme, Target},
        query::QueryRule,
    };

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let rule = KeyRule {
            query: QueryRule::only(["a"]),
            headers: vec![header::ACCEPT_LANGUAGE, HeaderName::from_static("x-none")],
            cookies: vec!["s".into()],
            origin: true,
            body: None,
        };
        let request =
            fields(&[("accept-language", "de"), ("cookie", "s=1; t=2; s=3"), ("origin", "https://x")]);
        let target =
            Target { scheme: Scheme::Https, authority: b"Ex.Org:443", path: b"/p", query: Some(b"b=2&a=1") };

        let key = KeyMaker::default().key(&rule, &target, &request);
        let read = key.read();

        assert_eq!((read.class, read.scheme), ('G', "https"));
        assert_eq!((read.authority, read.path, read.query), (&b"ex.org"[..], &b"/p"[..], Some(&b"a=1"[..])));
        assert_eq!(read.origin, Some(vec![&b"https://x"[..]]));
        let digest = |value: &[u8]| Sha256::digest(value).to_vec();
        let (de, one, three) = (digest(b"de"), digest(b"1"), digest(b"3"));
        assert_eq!(read.headers, [(&b"accept-language"[..], vec![&*de]), (&b"x-none"[..], vec![])]);
        assert_eq!(read.cookies, [(&b"s"[..], vec![&*one, &*three])]);
        assert!(read.rest.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_was_keyed_is_read_back(
            authority in "[a-z]{0,8}", path in "/[ -~]{0,12}", query in proptest::option::of("[ -~]{0,12}"),
            values in proptest::collection::vec("[!-~]{0,9}", 0..4), origin: bool,
        ) {
            let name = HeaderName::from_static("x-keyed");
            let mut request = HeaderMap::new();
            for value in &values {
                request.append(&name, HeaderValue::from_str(value).unwrap());
            }
            let rule = KeyRule { headers: vec![name], origin, ..KeyRule::default() };
            let (path, query_bytes) = (path.as_bytes(), query.as_ref().map(String::as_bytes));
            let target = Target { scheme: Scheme::Http, authority: authority.as_bytes(), path, query: query_bytes };

            let key = KeyMaker::default().key(&rule, &target, &request);
            let read = key.read();

            let digests: Vec<_> = values.iter().map(|value| Sha256::digest(value.as_bytes())).collect();
            let expected: Vec<&[u8]> = digests.iter().map(|digest| &digest[..]).collect();
            prop_assert_eq!((read.authority, read.path, read.query), (authority.as_bytes(), path, query_bytes));
            prop_assert_eq!(&read.headers, &vec![(&b"x-keyed"[..], expected)]);
            prop_assert_eq!(read.origin.is_some(), origin);
            prop_assert!(read.cookies.is_empty() && read.rest.is_empty());
        }

        #[test]
        fn foreign_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let key = Key { hash: 0, parts: bytes.into() };

            let read = key.read();

            prop_assert!(read.headers.len() <= 80 && read.cookies.len() <= 80);
        }
    }
}
