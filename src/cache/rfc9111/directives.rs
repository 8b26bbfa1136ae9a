//! `Cache-Control` of answers and requests (RFC 9111 section 5.2), read so that every doubt restricts.

use http::{HeaderMap, HeaderName, header};

use super::head::{RequestHead, ask};

/// Numbers are clamped here, as RFC 9111 section 1.2.2 asks.
const MAX_SECONDS: u32 = 1 << 31;

/// What an answer says about its storage, from `Cache-Control` or from a targeted field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseDirectives {
    pub(super) no_store: bool,
    /// Without field names.
    pub(super) no_cache: bool,
    /// Without field names.
    pub(super) private: bool,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) max_age: Option<u32>,
    pub(super) s_maxage: Option<u32>,
    pub(super) stale_while_revalidate: Option<u32>,
    pub(super) stale_if_error: Option<u32>,
    /// The field cannot be read to its end, so that nobody knows what else it forbids. Counts as `no-store`.
    pub(super) is_broken: bool,
    /// Fields that `no-cache="..."` and `private="..."` keep out of the stored copy.
    pub(super) withheld: Vec<HeaderName>,
}

/// What a request asks of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestDirectives {
    pub(super) no_cache: bool,
    pub(super) no_store: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<u32>,
    pub(super) min_fresh: Option<u32>,
    /// Without a number: as stale as can be.
    pub(super) max_stale: Option<u32>,
}

impl ResponseDirectives {
    /// Reads every line of `Cache-Control`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            for member in Members(line.as_bytes()) {
                match member {
                    Member::Directive(name, value) => read.take(name, value),
                    Member::Broken => (read.no_store, read.is_broken) = (true, true),
                }
            }
        }
        read
    }

    fn take(&mut self, name: &[u8], value: Value<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            keep_number(&mut self.max_age, value);
        } else if is("s-maxage") {
            keep_number(&mut self.s_maxage, value);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache |= !value.collect_names(&mut self.withheld);
        } else if is("private") {
            self.private |= !value.collect_names(&mut self.withheld);
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("stale-while-revalidate") {
            keep_number(&mut self.stale_while_revalidate, value);
        } else if is("stale-if-error") {
            keep_number(&mut self.stale_if_error, value);
        } else if value == Value::None {
            // These two permit, so they count only as the standard writes them.
            self.public |= is("public");
            self.must_understand |= is("must-understand");
        }
    }
}

impl RequestDirectives {
    /// Reads `Cache-Control`, and `Pragma: no-cache` where there is no `Cache-Control` (RFC 9111 section
    /// 5.4).
    pub(super) fn of(request: &RequestHead<'_>) -> Self {
        let mut read = Self::default();
        if request.asks(ask::CACHE_CONTROL) {
            for line in request.headers.get_all(header::CACHE_CONTROL) {
                for member in Members(line.as_bytes()) {
                    match member {
                        Member::Directive(name, value) => read.take(name, value),
                        Member::Broken => read.no_store = true,
                    }
                }
            }
        } else if request.asks(ask::PRAGMA) {
            let pragma = request.headers.get_all(header::PRAGMA);
            read.no_cache = pragma.iter().flat_map(|line| Members(line.as_bytes())).any(|member| {
                matches!(member, Member::Directive(name, _) if name.eq_ignore_ascii_case(b"no-cache"))
            });
        }
        read
    }

    fn take(&mut self, name: &[u8], value: Value<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            let number = value.number().unwrap_or(0);
            self.max_age = Some(self.max_age.map_or(number, |other| other.min(number)));
        } else if is("min-fresh") {
            let number = value.number().unwrap_or(MAX_SECONDS);
            self.min_fresh = Some(self.min_fresh.map_or(number, |other| other.max(number)));
        } else if is("max-stale") {
            let number = if value == Value::None { MAX_SECONDS } else { value.number().unwrap_or(0) };
            self.max_stale = Some(self.max_stale.map_or(number, |other| other.min(number)));
        }
    }
}

/// Keeps a number that restricts a copy's life. One that cannot be read is 0, and so are two that differ.
fn keep_number(kept: &mut Option<u32>, value: Value<'_>) {
    let number = value.number().unwrap_or(0);
    *kept = Some(if kept.is_some_and(|other| other != number) { 0 } else { number });
}

/// Digits alone, clamped.
pub(super) fn delta_seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value.saturating_mul(10).saturating_add(u32::from(byte - b'0')).min(MAX_SECONDS))
    })
}

/// The field names of a comma-separated list, or nothing where one of them is no field name or there is none
/// at all.
pub(super) fn field_names(list: &[u8]) -> Option<Vec<HeaderName>> {
    let names: Option<Vec<HeaderName>> = list
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    names.filter(|names| !names.is_empty())
}

/// The argument of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// No `=`.
    None,
    /// Everything after `=`.
    Bare(&'a [u8]),
    /// What stands between the quotes, escapes included.
    Quoted(&'a [u8]),
    /// A quoted string with something after it.
    Malformed,
}

impl Value<'_> {
    fn number(self) -> Option<u32> {
        match self {
            Self::Bare(digits) => delta_seconds(digits),
            Self::Quoted(text) if text.contains(&b'\\') => delta_seconds(&unescape(text)),
            Self::Quoted(digits) => delta_seconds(digits),
            Self::None | Self::Malformed => None,
        }
    }

    /// Adds the field names of the argument, or says that there is no proper list, so that the directive is
    /// about the whole answer.
    fn collect_names(self, names: &mut Vec<HeaderName>) -> bool {
        let read = match self {
            Self::Bare(name) => field_names(name),
            Self::Quoted(list) => field_names(&unescape(list)),
            Self::None | Self::Malformed => None,
        };
        let Some(read) = read else { return false };
        names.extend(read);
        true
    }
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { bytes.next().copied().unwrap_or(b'\\') } else { *byte });
    }
    plain
}

/// One member of a directive list.
pub(super) enum Member<'a> {
    /// A name, which is empty where a space stands beside the `=`, and its argument.
    Directive(&'a [u8], Value<'a>),
    /// A quote that does not end, or one where none may be. What follows cannot be told from text.
    Broken,
}

/// The members of one line.
pub(super) struct Members<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let skipped = self.0.iter().take_while(|byte| matches!(byte, b',' | b' ' | b'\t')).count();
        let text = self.0.get(skipped..).filter(|text| !text.is_empty())?;
        let end_of_name =
            text.iter().position(|byte| matches!(byte, b',' | b'=' | b'"')).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end_of_name)?;
        match rest.first() {
            Some(b'=') => self.with_argument(name, rest.get(1..).unwrap_or_default()),
            Some(b'"') => Some(self.broken()),
            _ => {
                self.0 = rest;
                Some(Member::Directive(name.trim_ascii_end(), Value::None))
            }
        }
    }
}

impl<'a> Members<'a> {
    fn with_argument(&mut self, name: &'a [u8], rest: &'a [u8]) -> Option<Member<'a>> {
        let is_spaced = name.last().is_some_and(u8::is_ascii_whitespace)
            || rest.first().is_some_and(u8::is_ascii_whitespace);
        let name = if is_spaced { b"".as_slice() } else { name };
        let (quoted, rest) = match rest.trim_ascii_start().split_first() {
            Some((b'"', text)) => {
                let Some(length) = quoted_length(text) else { return Some(self.broken()) };
                (text.get(..length), text.get(length + 1..).unwrap_or_default())
            }
            _ => (None, rest),
        };
        let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
        let (tail, rest) = rest.split_at_checked(end)?;
        if tail.contains(&b'"') {
            return Some(self.broken());
        }
        self.0 = rest;
        let tail = tail.trim_ascii_end();
        let value = match quoted {
            Some(text) if tail.is_empty() => Value::Quoted(text),
            Some(_) => Value::Malformed,
            None => Value::Bare(tail),
        };
        Some(Member::Directive(name, value))
    }

    fn broken(&mut self) -> Member<'a> {
        self.0 = b"";
        Member::Broken
    }
}

/// How far it is to the closing quote.
fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    })
}

#[cfg(test)]
mod tests;
