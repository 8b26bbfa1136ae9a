//! Media types of answers, and the ranges of them that a rule stores (RFC 9110 sections 8.3.1 and 12.5.1).

use http::{HeaderMap, header};

/// One type, or all subtypes of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    kind: Box<str>,
    /// None stands for any.
    subtype: Option<Box<str>>,
}

impl MediaRange {
    /// Reads `application/json` or `text/*`; nothing else is a range.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, subtype) = text.split_once('/')?;
        let is_whole = !kind.is_empty() && !kind.contains('*') && !subtype.is_empty();
        let subtype = if subtype == "*" { None } else { Some(subtype) };
        let is_range = is_whole && subtype.is_none_or(|subtype| !subtype.contains(['*', '/', ';']));
        is_range.then(|| Self { kind: kind.into(), subtype: subtype.map(Into::into) })
    }

    /// Whether a type without parameters is in the range.
    pub(super) fn has(&self, essence: &[u8]) -> bool {
        let Some(slash) = essence.iter().position(|byte| *byte == b'/') else { return false };
        let kind = essence.get(..slash).unwrap_or_default();
        let subtype = essence.get(slash + 1..).unwrap_or_default();
        kind.eq_ignore_ascii_case(self.kind.as_bytes())
            && self
                .subtype
                .as_ref()
                .map_or(!subtype.is_empty(), |wanted| subtype.eq_ignore_ascii_case(wanted.as_bytes()))
    }
}

/// The answer's type without parameters, if it names one.
pub(super) fn essence(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
    Some(value.split(|byte| matches!(byte, b';' | b',')).next().unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::{MediaRange, essence};
    use crate::cache::rfc9111::fixture::headers;

    #[test]
    fn a_range_is_a_type_or_all_subtypes_of_one() {
        for (text, is_range) in [
            ("application/json", true),
            ("text/*", true),
            ("application/vnd.api+json", true),
            ("*/*", false),
            ("*", false),
            ("json", false),
            ("text/", false),
            ("/html", false),
            ("text/h*", false),
            ("text/html;q=1", false),
            ("a/b/c", false),
            ("", false),
        ] {
            assert_eq!(MediaRange::parse(text).is_some(), is_range, "{text}");
        }
    }

    #[test]
    fn types_are_compared_without_parameters_and_in_any_case() {
        let ranges = ["application/json", "text/*"].map(|text| MediaRange::parse(text).unwrap());
        for (value, is_in) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json, text/html", true),
            ("text/html", true),
            ("TEXT/plain", true),
            ("text/", false),
            ("text", false),
            ("textual/html", false),
            ("application/json5", false),
            ("image/png", false),
            ("", false),
        ] {
            let head = headers(&[("content-type", value)]);
            let found = essence(&head).is_some_and(|essence| ranges.iter().any(|range| range.has(essence)));
            assert_eq!(found, is_in, "{value}");
        }
        assert_eq!(essence(&headers(&[])), None);
    }
}
