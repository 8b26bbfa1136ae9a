//! Tags: the names by which entries are purged, and how the templates of a route become tags and purges.
//!
//! `reputation:{user_id}` takes a parameter of the path, `{query.NAME}` one of the query, `{body.NAME}` a member of the
//! request's JSON body. An absent value leaves the place empty in a tag that is stored; in what is purged it cuts the text
//! there and ends every entry that begins so, because too much may be purged but never too little. A template that begins
//! with `/` is a URL to purge. The grammar of templates is that of `config`.
//!
//! A cache group (RFC 9875) is a tag of a space of its own: it begins with NUL, which is taken off the beginning of all
//! others, and goes on with the digest of origin and group.

use std::borrow::Cow;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{
    error::TagError,
    key::{Scheme, canonical_authority, hex},
    query::parameter,
    scope::Scope,
};
use crate::config::{self, TagPart};

/// Tags that one entry may carry.
pub const MAX_TAGS: usize = 64;

/// Bytes of a tag. Longer ones are cut, when stored and when purged alike: then the purge hits too much, never too
/// little.
pub const MAX_TAG_BYTES: usize = 128;

/// Begins the tags of groups, and no other.
const GROUP: char = '\0';

/// A tag of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

/// A tag, or a URL to purge, with places for values of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagTemplate(config::TagTemplate);

/// The values of a request for the places of templates.
#[derive(Clone, Copy, Debug, Default)]
pub struct TagValues<'a> {
    /// The parameters of the path, as they stand in it.
    pub path: &'a [(&'a str, &'a str)],
    /// The query, as it stands in the request.
    pub query: Option<&'a [u8]>,
    /// The members of the request's body, with their own texts, which have no percent escapes.
    pub body: &'a [(&'a str, &'a str)],
}

impl Tag {
    /// A tag, cut to the size that is kept.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(cut(text).into())
    }

    /// The tags that an answer names itself: `Surrogate-Key` (Fastly) and `xkey` (Varnish) divide them by spaces,
    /// `Cache-Tag` (Cloudflare) by commas.
    pub fn named_by(headers: &HeaderMap) -> impl Iterator<Item = Self> {
        let lists = [("surrogate-key", b' '), ("xkey", b' '), ("cache-tag", b',')];
        lists
            .into_iter()
            .flat_map(|(name, divider)| headers.get_all(name).iter().map(move |line| (line, divider)))
            .flat_map(|(line, divider)| line.as_bytes().split(move |byte| *byte == divider || *byte == b'\t'))
            .map(<[u8]>::trim_ascii)
            .filter(|tag| !tag.is_empty())
            .map(|tag| Self::new(&String::from_utf8_lossy(tag)))
    }

    /// The tag of a cache group of one origin (RFC 9875 section 2.1).
    #[must_use]
    pub fn of_group(scheme: Scheme, authority: &[u8], group: &[u8]) -> Self {
        let authority = canonical_authority(scheme, authority);
        let mut digest = Sha256::new();
        for part in [scheme.as_str().as_bytes(), &authority, group] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(format!("{GROUP}{}", hex(&digest.finalize())).into())
    }

    /// Whether it stands for a cache group.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.0.starts_with(GROUP)
    }

    /// What ends every entry with this tag.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::Tag(self.as_str().to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TagTemplate {
    /// Compiles a template. `parameters` are the names in the path of the route.
    pub fn compile(text: &str, parameters: &[&str]) -> Result<Self, TagError> {
        let template = config::TagTemplate::parse(text)?;
        if let Some(name) = template.parameters().find(|name| !parameters.contains(name)) {
            return Err(TagError::Unknown { text: text.to_owned(), name: name.to_owned() });
        }
        Ok(Self(template))
    }

    /// Compiles the tags of a route.
    pub fn compile_all(texts: &[String], parameters: &[&str]) -> Result<Vec<Self>, TagError> {
        if texts.len() > MAX_TAGS {
            return Err(TagError::TooMany { count: texts.len(), most: MAX_TAGS });
        }
        texts.iter().map(|text| Self::compile(text, parameters)).collect()
    }

    /// Names of the members of the body it uses.
    pub fn body_members(&self) -> impl Iterator<Item = &str> {
        self.0.body_members()
    }

    /// The tag to store with an entry; absent values leave their place empty.
    #[must_use]
    pub fn tag(&self, values: &TagValues<'_>) -> Tag {
        let mut text = String::new();
        for part in &self.0.parts {
            text.push_str(&values.get(part, Form::Decoded).unwrap_or_default());
        }
        Tag::new(&text)
    }

    /// What it purges: a tag, a URL on any host, or all that begins as the text does up to the first absent value.
    #[must_use]
    pub fn scope(&self, values: &TagValues<'_>) -> Scope {
        let is_url = matches!(self.0.parts.first(), Some(TagPart::Literal(text)) if text.starts_with('/'));
        let form = if is_url { Form::AsWritten } else { Form::Decoded };
        let mut text = String::new();
        let mut is_beginning = self.0.is_prefix;
        for part in &self.0.parts {
            let Some(value) = values.get(part, form) else {
                is_beginning = true;
                break;
            };
            text.push_str(&value);
        }
        match (is_url, is_beginning) {
            (false, false) => Scope::Tag(cut(&text).to_owned()),
            (false, true) => Scope::TagPrefix(cut(&text).to_owned()),
            (true, false) => Scope::of_target(None, &text),
            (true, true) => {
                let path = text.split(['?', '#']).next().unwrap_or_default();
                Scope::Prefix { authority: None, path: path.into() }
            }
        }
    }
}

/// How a value goes into the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// With its percent escapes decoded, so that one user has one tag in the path and in the query. What does not
    /// decode to UTF-8 stays as it is.
    Decoded,
    /// As it stands in the request.
    AsWritten,
}

impl<'a> TagValues<'a> {
    fn get(&self, part: &'a TagPart, form: Form) -> Option<Cow<'a, str>> {
        let value = match part {
            TagPart::Literal(text) => return Some(Cow::Borrowed(text)),
            TagPart::Parameter(name) => {
                self.path.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_bytes())?
            }
            TagPart::Query(name) => parameter(self.query?, name)?,
            TagPart::Body(name) => {
                let text = self.body.iter().find(|(known, _)| known == name).map(|(_, text)| *text)?;
                // In a URL other characters may be escaped or not, as its author likes: then it counts as absent.
                let is_sure = form == Form::Decoded || text.bytes().all(is_unreserved);
                return is_sure.then_some(Cow::Borrowed(text));
            }
        };
        Some(if form == Form::Decoded { decoded(value) } else { String::from_utf8_lossy(value) })
    }
}

/// The part of a text that is kept of a tag.
pub(crate) fn cut(text: &str) -> &str {
    let text = text.trim_start_matches(GROUP);
    text.get(..text.floor_char_boundary(MAX_TAG_BYTES)).unwrap_or(text)
}

/// Characters that nobody escapes in a URL (RFC 3986 section 2.3).
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn decoded(value: &[u8]) -> Cow<'_, str> {
    if !value.contains(&b'%') {
        return String::from_utf8_lossy(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        let escape = if *first == b'%' { after.split_first_chunk::<2>() } else { None };
        let octet = escape.and_then(|(digits, tail)| Some((octet(*digits)?, tail)));
        let (byte, tail) = octet.unwrap_or((*first, after));
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(value), Cow::Owned)
}

fn octet([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{MAX_TAG_BYTES, Tag, TagError, TagTemplate, TagValues};
    use crate::cache::{key::Scheme, scope::Scope};

    const VALUES: TagValues<'_> = TagValues {
        path: &[("user_id", "u%2F7"), ("bad", "%zz%e2")],
        query: Some(b"user_id=9&empty=&user_id=10&star=*"),
        body: &[("id", "b-7"), ("spaced", "a b"), ("escaped", "u%2F7"), ("nothing", "")],
    };

    fn template(text: &str) -> TagTemplate {
        TagTemplate::compile(text, &["user_id", "bad", "gone"]).unwrap()
    }

    #[test]
    fn fills_the_places_of_a_stored_tag() {
        let table = [
            ("challenges", "challenges"),
            ("reputation:{user_id}", "reputation:u/7"),
            ("a:{bad}:{user_id}", "a:%zz%e2:u/7"),
            ("coach:{query.user_id}", "coach:9"),
            ("coach:{query.none}:x", "coach::x"),
            ("{query.empty}{gone}", ""),
            ("x:{body.id}:{body.spaced}:{body.none}", "x:b-7:a b:"),
            ("{body.escaped}", "u%2F7"),
        ];

        for (text, tag) in table {
            assert_eq!(template(text).tag(&VALUES).as_str(), tag, "{text}");
        }
    }

    #[test]
    fn reads_the_tags_that_an_answer_names() {
        let mut headers = HeaderMap::new();
        let lines: &[(&'static str, &[u8])] = &[
            ("surrogate-key", b"user:7  group,1\tall"),
            ("surrogate-key", b""),
            ("cache-tag", b"blog, post 9 ,,x"),
            ("xkey", b"\xffa"),
            ("xkey", b"b"),
        ];
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }

        let tags: Vec<Tag> = Tag::named_by(&headers).collect();

        let expected = ["user:7", "group,1", "all", "\u{fffd}a", "b", "blog", "post 9", "x"];
        assert_eq!(tags, expected.map(Tag::new));
    }

    #[test]
    fn an_absent_value_purges_all_that_begins_so() {
        let tag = |text: &str| Scope::Tag(text.into());
        let beginning = |text: &str| Scope::TagPrefix(text.into());
        let table = [
            ("challenges", tag("challenges")),
            ("reputation:*", beginning("reputation:")),
            ("coach:{query.none}:x", beginning("coach:")),
            ("coach:{query.empty}", tag("coach:")),
            // A star that a client sends is a character like any other.
            ("coach:{query.star}", tag("coach:*")),
            ("coach:{body.id}", tag("coach:b-7")),
            ("coach:{body.spaced}", tag("coach:a b")),
            ("coach:{body.nothing}", tag("coach:")),
            ("coach:{body.none}", beginning("coach:")),
            ("{body.none}", beginning("")),
        ];

        for (text, scope) in table {
            assert_eq!(template(text).scope(&VALUES), scope, "{text}");
        }
    }

    #[test]
    fn a_url_is_purged_as_it_would_be_written() {
        let url = |path: &str, query: Option<&str>| Scope::Url {
            authority: None,
            path: path.into(),
            query: query.map(Into::into),
        };
        let beginning = |path: &str| Scope::Prefix { authority: None, path: path.into() };
        let table = [
            ("/users/{user_id}", url("/users/u%2F7", None)),
            ("/users?id={query.user_id}", url("/users", Some("id=9"))),
            ("/users/{gone}/x", beginning("/users/")),
            ("/users?id={query.none}", beginning("/users")),
            ("/users/*", beginning("/users/")),
            ("/users/{body.id}/x", url("/users/b-7/x", None)),
            ("/users?id={body.id}", url("/users", Some("id=b-7"))),
            ("/users/{body.spaced}/x", beginning("/users/")),
            ("/users/{body.none}", beginning("/users/")),
        ];

        for (text, scope) in table {
            assert_eq!(template(text).scope(&VALUES), scope, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_tags() {
        let unknown = TagError::Unknown { text: "a:{other}".into(), name: "other".into() };
        let many = vec![String::from("a"); 65];

        assert_eq!(TagTemplate::compile("a:{other}", &["user_id"]), Err(unknown));
        assert!(matches!(TagTemplate::compile("a:{user_id", &["user_id"]), Err(TagError::Template(_))));
        assert_eq!(TagTemplate::compile_all(&many, &[]), Err(TagError::TooMany { count: 65, most: 64 }));
    }

    #[test]
    fn cuts_long_tags_at_a_character() {
        let long = format!("{}é", "a".repeat(MAX_TAG_BYTES - 1));

        assert_eq!(super::cut(&long), "a".repeat(MAX_TAG_BYTES - 1));
        assert_eq!(super::cut("é"), "é");
    }

    #[test]
    fn a_group_is_a_tag_of_its_origin_that_no_text_can_be() {
        let of = |scheme, authority: &str, group: &str| {
            Tag::of_group(scheme, authority.as_bytes(), group.as_bytes())
        };
        let group = of(Scheme::Http, "a.example", "scripts");

        assert_eq!(of(Scheme::Http, "A.Example:80", "scripts"), group, "the same origin");
        for other in [
            of(Scheme::Https, "a.example", "scripts"),
            of(Scheme::Http, "b.example", "scripts"),
            of(Scheme::Http, "a.example:8080", "scripts"),
            of(Scheme::Http, "a.example", "Scripts"),
            of(Scheme::Http, "a.examples", "cripts"),
            Tag::new("scripts"),
            Tag::new(group.as_str()),
            Tag::new(&format!("\0{}", group.as_str())),
        ] {
            assert_ne!(other, group, "{other:?}");
        }
        assert!(group.is_group() && group.as_str().len() <= MAX_TAG_BYTES);
        assert!(!Tag::new(group.as_str()).is_group());
        assert_ne!(Scope::tag(group.as_str()), group.scope());
        let forged = TagTemplate::compile("{query.x}", &[]).unwrap();
        let query = format!("x={}", group.as_str().replace('\0', "%00"));
        let values = TagValues { query: Some(query.as_bytes()), ..TagValues::default() };
        assert!(!forged.tag(&values).is_group());
        assert_ne!(forged.scope(&values), group.scope());
    }
}
