//! Targeted cache-control fields (RFC 9213) as strict structured-field dictionaries (RFC 9651): one error and
//! the whole field does not exist. And lists of strings, which are read by the same grammar.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::directives::{ResponseDirectives, delta_seconds, field_names};

/// The directives of the first valid field of `targeted`, if there is one. Such a field replaces
/// `Cache-Control` and `Expires` altogether: it may forbid what they allow and allow what they forbid.
pub(super) fn targeted_directives(
    headers: &HeaderMap,
    targeted: &[HeaderName],
) -> Option<ResponseDirectives> {
    targeted.iter().find_map(|name| parse(&joined(headers, name)?))
}

/// The strings of a list (RFC 9651 sections 3.1 and 3.3.3), whatever their parameters. None where the field is missing, is
/// no list, or has a member that is no string.
pub(super) fn string_list(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<Vec<u8>>> {
    let text = joined(headers, name)?;
    let mut input = Input(&text);
    input.skip(b" ");
    let mut strings = Vec::new();
    while !input.0.is_empty() {
        let Item::String(string) = input.item_or_list()? else { return None };
        input.parameters()?;
        strings.push(string);
        input.next_member()?;
    }
    Some(strings)
}

/// All lines of a field as one.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let mut text = Cow::Borrowed(lines.next()?.as_bytes());
    for line in lines {
        let text = text.to_mut();
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    Some(text)
}

/// Reads one field's value. An empty dictionary says nothing and counts as absent.
fn parse(text: &[u8]) -> Option<ResponseDirectives> {
    let mut input = Input(text);
    input.skip(b" ");
    let mut members = Members::default();
    let mut count = 0;
    while !input.0.is_empty() {
        let key = input.key()?;
        let value = if input.take(b'=') { input.item_or_list()? } else { Item::Boolean(true) };
        input.parameters()?;
        members.keep(key, value);
        count += 1;
        input.next_member()?;
    }
    if count == 0 { None } else { members.directives() }
}

/// The members we know; of one that comes twice the last counts (RFC 9651 section 4.2.2).
#[derive(Default)]
struct Members {
    max_age: Option<Item>,
    s_maxage: Option<Item>,
    stale_while_revalidate: Option<Item>,
    stale_if_error: Option<Item>,
    no_store: Option<Item>,
    no_cache: Option<Item>,
    private: Option<Item>,
    public: Option<Item>,
    must_revalidate: Option<Item>,
    proxy_revalidate: Option<Item>,
    must_understand: Option<Item>,
}

impl Members {
    fn keep(&mut self, key: &[u8], value: Item) {
        let slot = match key {
            b"max-age" => &mut self.max_age,
            b"s-maxage" => &mut self.s_maxage,
            b"stale-while-revalidate" => &mut self.stale_while_revalidate,
            b"stale-if-error" => &mut self.stale_if_error,
            b"no-store" => &mut self.no_store,
            b"no-cache" => &mut self.no_cache,
            b"private" => &mut self.private,
            b"public" => &mut self.public,
            b"must-revalidate" => &mut self.must_revalidate,
            b"proxy-revalidate" => &mut self.proxy_revalidate,
            b"must-understand" => &mut self.must_understand,
            _ => return,
        };
        *slot = Some(value);
    }

    /// Nothing, if a known member has a type that it cannot have.
    fn directives(self) -> Option<ResponseDirectives> {
        let mut withheld = Vec::new();
        let no_cache = scope(self.no_cache, &mut withheld)?;
        let private = scope(self.private, &mut withheld)?;
        Some(ResponseDirectives {
            no_store: flag(self.no_store.as_ref())?,
            no_cache,
            private,
            public: flag(self.public.as_ref())?,
            must_revalidate: flag(self.must_revalidate.as_ref())?,
            proxy_revalidate: flag(self.proxy_revalidate.as_ref())?,
            must_understand: flag(self.must_understand.as_ref())?,
            max_age: seconds(self.max_age.as_ref())?,
            s_maxage: seconds(self.s_maxage.as_ref())?,
            stale_while_revalidate: seconds(self.stale_while_revalidate.as_ref())?,
            stale_if_error: seconds(self.stale_if_error.as_ref())?,
            is_broken: false,
            withheld,
        })
    }
}

fn flag(item: Option<&Item>) -> Option<bool> {
    match item {
        None => Some(false),
        Some(Item::Boolean(is_set)) => Some(*is_set),
        Some(_) => None,
    }
}

fn seconds(item: Option<&Item>) -> Option<Option<u32>> {
    match item {
        None => Some(None),
        Some(Item::Integer(digits)) => Some(Some(delta_seconds(digits).unwrap_or(0))),
        Some(_) => None,
    }
}

/// `no-cache` and `private`: the whole answer, or the fields that a string names.
fn scope(item: Option<Item>, withheld: &mut Vec<HeaderName>) -> Option<bool> {
    match item {
        None => Some(false),
        Some(Item::Boolean(is_set)) => Some(is_set),
        Some(Item::String(list)) => {
            let Some(names) = field_names(&list) else { return Some(true) };
            withheld.extend(names);
            Some(false)
        }
        Some(_) => None,
    }
}

/// A member's value as far as any directive needs it.
enum Item {
    /// The sign and the digits; a negative number is not made of digits alone and so becomes 0 seconds.
    Integer(Vec<u8>),
    Boolean(bool),
    String(Vec<u8>),
    /// A valid value of a type that no directive has.
    Other,
}

/// What is left of the field's text (RFC 9651 section 4.2).
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn skip(&mut self, set: &[u8]) {
        self.take_while(|byte| set.contains(&byte));
    }

    fn take(&mut self, expected: u8) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        if *first == expected {
            self.0 = rest;
        }
        *first == expected
    }

    /// Goes on to the next member, or to the end. A comma with nothing behind it is an error.
    fn next_member(&mut self) -> Option<()> {
        self.skip(b" \t");
        if self.0.is_empty() {
            return Some(());
        }
        if !self.take(b',') {
            return None;
        }
        self.skip(b" \t");
        (!self.0.is_empty()).then_some(())
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take_while(&mut self, test: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().take_while(|byte| test(**byte)).count();
        let (taken, rest) = self.0.split_at_checked(length).unwrap_or_default();
        self.0 = rest;
        taken
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = self.0.first()?;
        if !first.is_ascii_lowercase() && *first != b'*' {
            return None;
        }
        Some(self.take_while(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.' | b'*')
        }))
    }

    fn item_or_list(&mut self) -> Option<Item> {
        if !self.take(b'(') {
            return self.bare_item();
        }
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Some(Item::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.0.first()?, b' ' | b')') {
                return None;
            }
        }
    }

    /// Read for their syntax only.
    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn bare_item(&mut self) -> Option<Item> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Some(Item::Other)
            }
            b':' => {
                self.next()?;
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.take(b':').then_some(Item::Other)
            }
            b'?' => {
                self.next()?;
                let digit = self.next()?;
                matches!(digit, b'0' | b'1').then_some(Item::Boolean(digit == b'1'))
            }
            b'@' => {
                self.next()?;
                matches!(self.number()?, Item::Integer(_)).then_some(Item::Other)
            }
            b'%' => self.display_string(),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Item> {
        let is_negative = self.take(b'-');
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if whole.is_empty() {
            return None;
        }
        if self.take(b'.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            return (whole.len() <= 12 && (1..=3).contains(&fraction.len())).then_some(Item::Other);
        }
        let sign = if is_negative { b"-".as_slice() } else { b"" };
        (whole.len() <= 15).then(|| Item::Integer([sign, whole].concat()))
    }

    fn string(&mut self) -> Option<Item> {
        self.next()?;
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(Item::String(text)),
                b'\\' => text.push(self.next().filter(|byte| matches!(byte, b'"' | b'\\'))?),
                byte @ 0x20..=0x7e => text.push(byte),
                _ => return None,
            }
        }
    }

    fn display_string(&mut self) -> Option<Item> {
        self.next()?;
        if !self.take(b'"') {
            return None;
        }
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return std::str::from_utf8(&text).is_ok().then_some(Item::Other),
                b'%' => {
                    let [high, low] = [self.lower_hex()?, self.lower_hex()?];
                    text.push(high * 16 + low);
                }
                byte @ 0x20..=0x7e => text.push(byte),
                _ => return None,
            }
        }
    }

    fn lower_hex(&mut self) -> Option<u8> {
        match self.next()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            letter @ b'a'..=b'f' => Some(letter - b'a' + 10),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
