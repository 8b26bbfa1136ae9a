//! What a purge is about, and how it is read from text.

use super::{
    identity::NAME,
    key::{Scheme, Target, without_default_port},
    tags::cut,
};

/// What a purge ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every entry.
    All,
    /// Entries with this tag.
    Tag(String),
    /// Entries with a tag that begins so.
    TagPrefix(String),
    /// Entries that came by this route.
    Route(String),
    /// Entries that are one user's own, by the name that [`super::Cache::identity_scope`] gives the user.
    Identity([u8; NAME]),
    /// All variants of one target.
    Url {
        /// The host in lower case; none holds for all.
        authority: Option<Vec<u8>>,
        /// The path as it stands in a request.
        path: Vec<u8>,
        /// The query as far as it is in the key.
        query: Option<Vec<u8>>,
    },
    /// All targets whose path begins so.
    Prefix {
        /// The host in lower case; none holds for all.
        authority: Option<Vec<u8>>,
        /// The beginning of the path.
        path: Vec<u8>,
    },
}

impl Scope {
    /// The word in labels and log lines.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Tag(_) | Self::TagPrefix(_) => "tag",
            Self::Route(_) => "route",
            Self::Identity(_) => "identity",
            Self::Url { .. } => "url",
            Self::Prefix { .. } => "prefix",
        }
    }

    /// A tag; a trailing `*` stands for any ending.
    #[must_use]
    pub fn tag(text: &str) -> Self {
        text.strip_suffix('*').map_or_else(
            || Self::Tag(cut(text).to_owned()),
            |beginning| Self::TagPrefix(cut(beginning).to_owned()),
        )
    }

    /// A URL with scheme and host, or from its path on. A path alone holds for every host. None: it is neither.
    #[must_use]
    pub fn url(text: &str) -> Option<Self> {
        let (authority, target) = split(text)?;
        Some(Self::of_target(authority, target))
    }

    /// The URL of a path with its query, on one host or on all.
    #[must_use]
    pub fn of_target(authority: Option<Vec<u8>>, target: &str) -> Self {
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Self::Url { authority, path: path.into(), query: query.map(Into::into) }
    }

    /// What a request is aimed at, with the host as the keys have it.
    #[must_use]
    pub fn of_request(target: &Target<'_>) -> Self {
        Self::Url {
            authority: Some(without_default_port(target.scheme, target.authority).to_ascii_lowercase()),
            path: target.path.into(),
            query: target.query.map(Into::into),
        }
    }

    /// The beginning of a path, with or without scheme and host. None: it is neither.
    #[must_use]
    pub fn prefix(text: &str) -> Option<Self> {
        let (authority, path) = split(text)?;
        Some(Self::Prefix { authority, path: path.into() })
    }
}

/// Authority and the rest from the path on.
fn split(text: &str) -> Option<(Option<Vec<u8>>, &str)> {
    if text.starts_with('/') {
        return Some((None, text));
    }
    let (scheme, rest) = text.split_once("://")?;
    let scheme = [Scheme::Http, Scheme::Https]
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(scheme))?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(at)?;
    let authority = without_default_port(scheme, authority.as_bytes()).to_ascii_lowercase();
    if authority.is_empty() || authority.contains(&b'@') {
        return None;
    }
    // An empty path is the same as `/` (RFC 9110, 4.2.3); one with a query alone is too rare to rewrite.
    let target = if target.is_empty() { "/" } else { target };
    target.starts_with('/').then_some((Some(authority), target))
}

#[cfg(test)]
mod tests {
    use super::Scope;
    use crate::cache::key::{Scheme, Target};

    fn url(authority: Option<&str>, path: &str, query: Option<&str>) -> Scope {
        Scope::Url { authority: authority.map(Into::into), path: path.into(), query: query.map(Into::into) }
    }

    #[test]
    fn reads_urls() {
        let table = [
            ("/a/b?c=1#d", Some(url(None, "/a/b", Some("c=1")))),
            ("/", Some(url(None, "/", None))),
            ("/a?", Some(url(None, "/a", Some("")))),
            ("HTTP://Ex.Org:80/A", Some(url(Some("ex.org"), "/A", None))),
            ("https://ex.org:8443", Some(url(Some("ex.org:8443"), "/", None))),
            ("http://ex.org:443/", Some(url(Some("ex.org:443"), "/", None))),
            ("http://user@ex.org/", None),
            ("http:///a", None),
            ("ftp://ex.org/", None),
            ("a/b", None),
            ("", None),
        ];

        for (text, scope) in table {
            assert_eq!(Scope::url(text), scope, "{text}");
        }
    }

    #[test]
    fn the_target_of_a_request_has_the_host_of_its_key() {
        let target =
            Target { scheme: Scheme::Https, authority: b"Ex.Org:443", path: b"/a", query: Some(b"b") };

        assert_eq!(Scope::of_request(&target), url(Some("ex.org"), "/a", Some("b")));
    }

    #[test]
    fn reads_tags_and_prefixes() {
        let long = "x".repeat(200);

        assert_eq!(Scope::tag("a:b"), Scope::Tag("a:b".into()));
        assert_eq!(Scope::tag("a:*"), Scope::TagPrefix("a:".into()));
        assert_eq!(Scope::tag("*"), Scope::TagPrefix(String::new()));
        assert_eq!(Scope::tag(&long), Scope::Tag(long[..128].into()));
        assert_eq!(Scope::prefix("/api/"), Some(Scope::Prefix { authority: None, path: "/api/".into() }));
        assert_eq!(Scope::prefix("api"), None);
    }
}
