//! Requests that the operator keeps away from the cache: by a parameter of the query, a field or a cookie.

use http::HeaderName;

use super::head::RequestHead;
use crate::{cache::cookie_values, config};

/// Conditions of which any one suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BypassWhen {
    query: Vec<(String, Wanted)>,
    headers: Vec<(HeaderName, Wanted)>,
    cookies: Vec<(String, Wanted)>,
}

/// A value that meets a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    Exactly(String),
}

impl BypassWhen {
    /// Compiles the conditions of a route. Names that are no field names were refused when the configuration was
    /// checked; here they are skipped.
    #[must_use]
    pub fn from_config(written: &config::BypassWhen) -> Self {
        let wanted = |(name, value): (&String, &String)| (name.clone(), Wanted::of(value));
        let headers = written.headers.iter();
        Self {
            query: written.query.iter().map(wanted).collect(),
            headers: headers
                .filter_map(|(name, value)| Some((name.parse().ok()?, Wanted::of(value))))
                .collect(),
            cookies: written.cookies.iter().map(wanted).collect(),
        }
    }

    /// Whether a request meets a condition.
    pub(super) fn is_met_by(&self, request: &RequestHead<'_>) -> bool {
        self.is_met_by_query(request.target)
            || self.headers.iter().any(|(name, wanted)| {
                request.headers.get_all(name).iter().any(|value| wanted.is(value.as_bytes()))
            })
            || self
                .cookies
                .iter()
                .any(|(name, wanted)| cookie_values(request.headers, name).any(|value| wanted.is(value)))
    }

    fn is_met_by_query(&self, target: &[u8]) -> bool {
        if self.query.is_empty() {
            return false;
        }
        let Some(at) = target.iter().position(|byte| *byte == b'?') else { return false };
        let query = target.get(at + 1..).unwrap_or_default();
        query.split(|byte| *byte == b'&').any(|pair| {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) =
                (pair.get(..end).unwrap_or_default(), pair.get(end + 1..).unwrap_or_default());
            self.query.iter().any(|(known, wanted)| known.as_bytes() == name && wanted.is(value))
        })
    }
}

impl Wanted {
    fn of(text: &str) -> Self {
        if text == "*" { Self::Any } else { Self::Exactly(text.to_owned()) }
    }

    fn is(&self, value: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted.as_bytes() == value.trim_ascii(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::Method;

    use super::BypassWhen;
    use crate::{
        cache::rfc9111::{RequestHead, fixture::headers},
        config,
    };

    fn conditions() -> BypassWhen {
        let pairs = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        BypassWhen::from_config(&config::BypassWhen {
            query: pairs(&[("use_cache", "false"), ("debug", "*"), ("empty", "")]),
            headers: pairs(&[("X-Preview", "1"), ("no name", "*")]),
            cookies: pairs(&[("preview", "*"), ("beta", "on")]),
        })
    }

    #[test]
    fn any_one_condition_suffices() {
        for (target, lines, is_met) in [
            ("/a", &[][..], false),
            ("/a?use_cache=false", &[], true),
            ("/a?x=1&use_cache=true&use_cache=false", &[], true),
            ("/a?use_cache=true", &[], false),
            ("/a?use_cache", &[], false),
            ("/a?%75se_cache=false", &[], false),
            ("/use_cache=false", &[], false),
            ("/a?debug", &[], true),
            ("/a?debug=1", &[], true),
            ("/a?debugger=1", &[], false),
            ("/a?empty", &[], true),
            ("/a?empty=", &[], true),
            ("/a?empty=1", &[], false),
            ("/a", &[("x-preview", " 1")], true),
            ("/a", &[("x-preview", "0"), ("x-preview", "1")], true),
            ("/a", &[("x-preview", "11")], false),
            ("/a", &[("cookie", "a=b; preview=x")], true),
            ("/a", &[("cookie", "preview=")], true),
            ("/a", &[("cookie", "beta=on")], true),
            ("/a", &[("cookie", "beta=off; nobeta=on")], false),
        ] {
            let map = headers(lines);
            let request = RequestHead::new(&Method::GET, b"a", target.as_bytes(), &map);
            assert_eq!(conditions().is_met_by(&request), is_met, "{target} {lines:?}");
        }
    }

    #[test]
    fn without_conditions_nothing_passes_by() {
        let map = headers(&[("cookie", "a=b")]);
        let request = RequestHead::new(&Method::GET, b"a", b"/a?b=c", &map);

        assert!(!BypassWhen::default().is_met_by(&request));
    }
}
