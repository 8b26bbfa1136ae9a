//! Which part of a query counts for the key, and which goes to the backend. Both are the same bytes, so that what is
//! not in the key cannot shape the stored answer. Names are compared as they are written, never decoded: a name in
//! another spelling is another name, in the key and for the backend alike.

use std::borrow::Cow;

/// Which query parameters count.
#[derive(Clone, Debug, Default)]
pub struct QueryRule {
    keep: Keep,
    refresh: Vec<(String, String)>,
}

/// The chosen parameters.
#[derive(Clone, Debug, Default)]
enum Keep {
    /// The query as it stands.
    #[default]
    All,
    /// These alone.
    Only(Vec<String>),
    /// All but these.
    Ignore(Vec<String>),
}

impl QueryRule {
    /// The whole query, in its order.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only the named parameters.
    #[must_use]
    pub fn only(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { keep: Keep::Only(names.into_iter().map(Into::into).collect()), refresh: Vec::new() }
    }

    /// All but the named parameters.
    #[must_use]
    pub fn ignore(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { keep: Keep::Ignore(names.into_iter().map(Into::into).collect()), refresh: Vec::new() }
    }

    /// Adds a parameter that, with this value, asks for a fresh fetch. It is never in the key.
    #[must_use]
    pub fn refresh_on(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.refresh.push((name.into(), value.into()));
        self
    }

    /// Whether the request asks for a fresh fetch that fills the entry again.
    #[must_use]
    pub fn is_refresh(&self, query: Option<&[u8]>) -> bool {
        !self.refresh.is_empty()
            && query.is_some_and(|query| pairs(query).any(|pair| self.asks_refresh(pair)))
    }

    /// The query to send on a fetch that fills: what is in the key, and a parameter that asks for a fresh answer with
    /// just the configured value. None: no `?` either.
    #[must_use]
    pub fn for_backend<'a>(&self, query: Option<&'a [u8]>) -> Option<Cow<'a, [u8]>> {
        let query = query?;
        if self.keeps_everything() {
            return Some(Cow::Borrowed(query));
        }
        let mut kept = Vec::with_capacity(query.len());
        let any = append(query, &mut kept, |pair| self.keeps(pair) || self.asks_refresh(pair));
        any.then_some(Cow::Owned(kept))
    }

    /// The part that is in the key. None: nothing of the query is.
    #[must_use]
    pub fn for_key<'a>(&self, query: Option<&'a [u8]>) -> Option<Cow<'a, [u8]>> {
        let query = query?;
        if self.keeps_everything() {
            return Some(Cow::Borrowed(query));
        }
        let mut kept = Vec::with_capacity(query.len());
        append(query, &mut kept, |pair| self.keeps(pair)).then_some(Cow::Owned(kept))
    }

    /// Appends the part that counts; false when nothing of the query does.
    pub(crate) fn append_to(&self, query: &[u8], parts: &mut Vec<u8>) -> bool {
        if self.keeps_everything() {
            parts.extend_from_slice(query);
            return true;
        }
        append(query, parts, |pair| self.keeps(pair))
    }

    fn keeps_everything(&self) -> bool {
        self.refresh.is_empty() && matches!(self.keep, Keep::All)
    }

    fn keeps(&self, pair: &[u8]) -> bool {
        let name = split(pair).0;
        let is_named = |names: &[String]| names.iter().any(|known| known.as_bytes() == name);
        if self.refresh.iter().any(|(known, _)| known.as_bytes() == name) {
            return false;
        }
        match &self.keep {
            Keep::All => true,
            Keep::Only(names) => is_named(names),
            Keep::Ignore(names) => !is_named(names),
        }
    }

    fn asks_refresh(&self, pair: &[u8]) -> bool {
        let (name, value) = split(pair);
        self.refresh.iter().any(|(known, wanted)| known.as_bytes() == name && wanted.as_bytes() == value)
    }
}

/// The value of the first parameter of that name, as it is written.
#[must_use]
pub fn parameter<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pairs(query).map(split).find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
}

fn pairs(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.split(|byte| *byte == b'&')
}

fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default())
}

fn append(query: &[u8], out: &mut Vec<u8>, keeps: impl Fn(&[u8]) -> bool) -> bool {
    let mut any = false;
    for pair in pairs(query).filter(|pair| keeps(pair)) {
        if any {
            out.push(b'&');
        }
        out.extend_from_slice(pair);
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::{QueryRule, parameter};

    fn key_part(rule: &QueryRule, query: &str) -> Option<String> {
        let mut out = Vec::new();
        rule.append_to(query.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    fn backend_part(rule: &QueryRule, query: &str) -> Option<String> {
        rule.for_backend(Some(query.as_bytes())).map(|kept| String::from_utf8(kept.into_owned()).unwrap())
    }

    #[test]
    fn keeps_what_the_rule_names_in_the_order_of_the_request() {
        let only = QueryRule::only(["difficulty", "page"]);
        let ignore = QueryRule::ignore(["utm"]);
        let table = [
            (&only, "page=2&difficulty=easy", Some("page=2&difficulty=easy")),
            (&only, "x=1&difficulty=easy&difficulty=hard&y", Some("difficulty=easy&difficulty=hard")),
            (&only, "x=1&y", None),
            (&only, "difficulty", Some("difficulty")),
            (&only, "%64ifficulty=easy", None),
            (&only, "", None),
            (&ignore, "utm=1&a=2&&b", Some("a=2&&b")),
            (&ignore, "utm=1", None),
            (&ignore, "%75tm=1", Some("%75tm=1")),
            (&QueryRule::all(), "", Some("")),
            (&QueryRule::all(), "b&a=1&&", Some("b&a=1&&")),
        ];

        for (rule, query, kept) in table {
            assert_eq!(key_part(rule, query).as_deref(), kept, "{query}");
            assert_eq!(backend_part(rule, query).as_deref(), kept, "{query}");
        }
    }

    #[test]
    fn a_refresh_parameter_is_never_in_the_key_and_reaches_the_backend_only_with_its_value() {
        let rule = QueryRule::all().refresh_on("use_cache", "false");

        assert_eq!(key_part(&rule, "use_cache=false&a=1").as_deref(), Some("a=1"));
        assert_eq!(key_part(&rule, "use_cache=true"), None);
        assert_eq!(backend_part(&rule, "use_cache=false&a=1").as_deref(), Some("use_cache=false&a=1"));
        assert_eq!(backend_part(&rule, "use_cache=true&a=1").as_deref(), Some("a=1"));
        assert!(rule.is_refresh(Some(b"a=1&use_cache=false")));
        assert!(!rule.is_refresh(Some(b"use_cache=true")));
        assert!(!rule.is_refresh(None));
    }

    #[test]
    fn finds_the_first_value_of_a_parameter() {
        assert_eq!(parameter(b"a=1&b=2&b=3", "b"), Some(b"2".as_slice()));
        assert_eq!(parameter(b"ab=1&a", "a"), Some(b"".as_slice()));
        assert_eq!(parameter(b"ab=1", "a"), None);
    }
}
