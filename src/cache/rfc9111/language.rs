//! `Accept-Language` as an order of preference (RFC 9110 section 12.5.4), so that spelling alone does not
//! make variants.

use std::sync::Arc;

use http::{HeaderMap, header};

/// A longer list is compared as it is written.
const MAX_RANGES: usize = 32;

/// The languages that a backend has, in the operator's order. A clone costs a reference count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Languages(Arc<[Box<str>]>);

impl Languages {
    /// Nothing for an empty list.
    #[must_use]
    pub fn new(tags: &[String]) -> Option<Self> {
        (!tags.is_empty()).then(|| Self(tags.iter().map(|tag| tag.as_str().into()).collect()))
    }

    /// The tags, in the operator's order.
    pub(in crate::cache) fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|tag| &**tag)
    }

    /// The language that a request wants most of these; of those it wants alike the first. None where it wants none of
    /// them, says nothing, or cannot be read.
    #[must_use]
    pub fn best(&self, request: &HeaderMap) -> Option<&str> {
        let ranges = LanguageRanges::of(request)?;
        let weighed = self.0.iter().map(|language| (ranges.weight_of(language), language));
        let best = weighed.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.filter(|(weight, _)| *weight > 0).map(|(_, language)| &**language)
    }
}

/// Language ranges in lower case, the most wanted first, those wanted alike by name.
#[derive(Debug)]
pub(super) struct LanguageRanges(Vec<(u16, Vec<u8>)>);

impl LanguageRanges {
    /// Nothing if the field cannot be read as a list of ranges with weights.
    pub(super) fn of(request: &HeaderMap) -> Option<Self> {
        let mut ranges = Vec::new();
        for line in request.get_all(header::ACCEPT_LANGUAGE) {
            for member in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if member.is_empty() {
                    continue;
                }
                ranges.push(range(member)?);
                if ranges.len() > MAX_RANGES {
                    return None;
                }
            }
        }
        ranges.sort_unstable_by(|(weight, name), (other_weight, other_name)| {
            other_weight.cmp(weight).then_with(|| name.cmp(other_name))
        });
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    /// The order as text: `,` between ranges wanted alike, `>` before those wanted less, `!` before those
    /// refused.
    pub(super) fn order(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut above = None;
        for (weight, name) in &self.0 {
            if *weight == 0 {
                text.push(b'!');
            } else if let Some(above) = above {
                text.push(if above == *weight { b',' } else { b'>' });
            }
            above = Some(*weight);
            text.extend_from_slice(name);
        }
        text
    }
}

impl LanguageRanges {
    /// How much a language is wanted. `de` stands for `de-CH` (RFC 4647 section 3.3.1), and `de-CH` is content with `de`
    /// (section 3.4); `*` stands for what no other range names. Who refuses a language by its name does not get it.
    fn weight_of(&self, language: &str) -> u16 {
        let language = language.to_ascii_lowercase().into_bytes();
        let is_below = |long: &[u8], short: &[u8]| {
            long.strip_prefix(short).is_some_and(|rest| rest.first() == Some(&b'-'))
        };
        let named = |(_, name): &&(u16, Vec<u8>)| *name == language;
        if self.0.iter().any(|range| named(&range) && range.0 == 0) {
            return 0;
        }
        let fits = |(_, name): &&(u16, Vec<u8>)| {
            *name == language || is_below(&language, name) || is_below(name, &language)
        };
        let any = || self.0.iter().filter(|(_, name)| name == b"*").map(|(weight, _)| *weight).max();
        self.0.iter().filter(fits).map(|(weight, _)| *weight).max().or_else(any).unwrap_or(0)
    }
}

/// Whether an answer in language `content` is what the request wants above all else.
pub(super) fn is_first_choice(ranges: &LanguageRanges, content: &[u8]) -> bool {
    let mut ranges = ranges.0.iter();
    let Some((weight, name)) = ranges.next() else { return false };
    let is_sole = ranges.next().is_none_or(|(next, _)| next < weight);
    *weight > 0 && is_sole && content.trim_ascii().eq_ignore_ascii_case(name)
}

/// `de-CH;q=0.5`: the weight in thousandths and the range in lower case.
fn range(member: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next()?;
    let is_name = !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*'));
    let weight = match parts.next() {
        Some(parameter) => weight(parameter)?,
        None => 1000,
    };
    (is_name && parts.next().is_none()).then(|| (weight, name.to_ascii_lowercase()))
}

/// `q=0.5` in thousandths.
fn weight(parameter: &[u8]) -> Option<u16> {
    let (b'q' | b'Q', text) = parameter.split_first()? else { return None };
    let (whole, decimals) = text.strip_prefix(b"=")?.split_first()?;
    let decimals = if decimals.is_empty() { decimals } else { decimals.strip_prefix(b".")? };
    if decimals.len() > 3 || !matches!(whole, b'0' | b'1') {
        return None;
    }
    let mut value = u16::from(whole - b'0');
    for at in 0..3 {
        let digit = decimals.get(at).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u16::from(digit - b'0');
    }
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{LanguageRanges, Languages, is_first_choice};

    fn ranges(lines: &[&str]) -> Option<LanguageRanges> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT_LANGUAGE, HeaderValue::from_str(line).unwrap());
        }
        LanguageRanges::of(&headers)
    }

    #[test]
    fn the_order_depends_on_preference_alone() {
        for (lines, order) in [
            (&["de, en"][..], "de,en"),
            (&["eN , DE"], "de,en"),
            (&["en", "de"], "de,en"),
            (&["en;q=0.9, de"], "de>en"),
            (&["de;q=0.5, en;q=0.05"], "de>en"),
            (&["de, en;q=0"], "de!en"),
            (&["en-US,en;q=0.5,*;q=0.1"], "en-us>en>*"),
            (&[", de,"], "de"),
        ] {
            assert_eq!(ranges(lines).unwrap().order(), order.as_bytes(), "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_ranges_is_not_reordered() {
        for line in [
            "",
            "de;q=2",
            "de;q=1.001",
            "de;q=0.1234",
            "de;x=1",
            "de;q=0.5;q=0.5",
            "d e",
            "de;q=.5",
            "de;q=",
            "\u{e9}",
        ] {
            assert!(ranges(&[line]).is_none(), "{line}");
        }
        assert!(ranges(&["a,".repeat(40).as_str()]).is_none());
    }

    #[test]
    fn only_an_unrivalled_range_is_the_first_choice() {
        for (line, content, is_first) in [
            ("de", "de", true),
            ("fr;q=0.5, de", "DE", true),
            ("en, de", "de", false),
            ("fr, de;q=0.5", "de", false),
            ("de;q=0", "de", false),
            ("de", "de-CH", false),
        ] {
            assert_eq!(
                is_first_choice(&ranges(&[line]).unwrap(), content.as_bytes()),
                is_first,
                "{line} {content}"
            );
        }
    }

    #[test]
    fn the_best_of_what_the_backend_speaks_is_what_is_wanted_most() {
        let languages = ["en", "de", "pt-BR"].map(str::to_owned);
        let languages = Languages::new(&languages).unwrap();
        for (line, best) in [
            ("de", Some("de")),
            ("DE-ch", Some("de")),
            ("de-CH, en;q=0.8", Some("de")),
            ("de-CH;q=0.5, en;q=0.8", Some("en")),
            ("en-US,en;q=0.9,de;q=0.8", Some("en")),
            ("fr, de;q=0.3, en;q=0.2", Some("de")),
            ("de, en", Some("en")),
            ("pt", Some("pt-BR")),
            ("pt-br", Some("pt-BR")),
            ("pt-PT", None),
            ("*", Some("en")),
            ("en;q=0, *", Some("de")),
            ("en;q=0, en-US", None),
            ("*;q=0.1, de;q=0.5", Some("de")),
            ("fr, *;q=0.1", Some("en")),
            ("fr", None),
            ("english", None),
            ("*;q=0", None),
            ("de;q=x", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, line.parse().unwrap())]);
            assert_eq!(languages.best(&headers), best, "{line}");
        }
        assert_eq!(languages.best(&HeaderMap::new()), None);
        assert_eq!(Languages::new(&[]), None);
    }
}
