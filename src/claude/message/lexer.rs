//! The tokens of JSON text, as `serde_json` takes them: strings, numbers, literals, white space. What they mean is not
//! decided here.
//!
//! The text must be known to be UTF-8. Then a string that ends at a quote is UTF-8 too, and only control characters,
//! escapes and surrogates are left to check.

use std::{borrow::Cow, ops::Range};

use super::Unreadable;

/// A number of at most this many bytes with an exponent of at most two digits is below 10^300 and so finite.
const PLAIN_NUMBER: usize = 200;

/// A string of the body: its place without the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it stands, without the quotes.
    pub span: Range<usize>,
    /// Whether it has escapes.
    pub is_escaped: bool,
}

impl Piece {
    /// The string, free of escapes; nothing is copied where it had none.
    #[must_use]
    pub fn decode<'a>(&self, body: &'a [u8]) -> Cow<'a, str> {
        let raw =
            body.get(self.span.clone()).and_then(|raw| std::str::from_utf8(raw).ok()).unwrap_or_default();
        if !self.is_escaped {
            return Cow::Borrowed(raw);
        }
        let mut plain = String::with_capacity(raw.len());
        unescape(raw, &mut plain);
        Cow::Owned(plain)
    }

    /// The place with the quotes.
    #[must_use]
    pub fn quoted(&self) -> Range<usize> {
        self.span.start.saturating_sub(1)..self.span.end + 1
    }
}

/// Appends a string whose escapes have been checked.
pub(super) fn unescape(raw: &str, plain: &mut String) {
    let mut rest = raw;
    while let Some((before, escaped)) = rest.split_once('\\') {
        plain.push_str(before);
        let Some(kind) = escaped.chars().next() else { return };
        rest = escaped.get(kind.len_utf8()..).unwrap_or_default();
        plain.push(match kind {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (character, length) = unicode_escape(rest);
                rest = rest.get(length..).unwrap_or_default();
                character
            }
            other => other,
        });
    }
    plain.push_str(rest);
}

/// The character of four hexadecimal digits, or of the two escapes of a surrogate pair after the first `\u`, and the length of
/// that.
fn unicode_escape(text: &str) -> (char, usize) {
    let unit = |from: usize| text.get(from..from + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let Some(first) = unit(0) else { return (char::REPLACEMENT_CHARACTER, text.len()) };
    if let Some(character) = char::from_u32(first) {
        return (character, 4);
    }
    let pair = unit(6).map(|second| 0x1_0000 + ((first & 0x3ff) << 10 | second & 0x3ff));
    (pair.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
}

/// Reads tokens from the front.
pub(super) struct Lexer<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) fn text(&self, span: Range<usize>) -> &'a [u8] {
        self.body.get(span).unwrap_or_default()
    }

    /// The next byte that is not white space, without taking it.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.body.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Takes the byte that was just seen.
    #[inline]
    pub(super) const fn take(&mut self) {
        self.at += 1;
    }

    /// Takes `expected`, which may stand behind white space.
    #[inline]
    pub(super) fn expect(&mut self, expected: u8) -> Result<(), Unreadable> {
        if self.peek() != Some(expected) {
            return Err(Unreadable::NotJson);
        }
        self.take();
        Ok(())
    }

    /// Takes a string whose opening quote is the present byte.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Piece, Unreadable> {
        self.take();
        let start = self.at;
        let mut is_escaped = false;
        loop {
            self.at += plain_length(self.body.get(self.at..).unwrap_or_default());
            match self.body.get(self.at) {
                Some(b'"') => {
                    let span = start..self.at;
                    self.take();
                    return Ok(Piece { span, is_escaped });
                }
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                _ => return Err(Unreadable::NotJson),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Unreadable> {
        let kind = self.body.get(self.at + 1).copied();
        self.at += 2;
        match kind {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => match self.unit()? {
                0xdc00..=0xdfff => Err(Unreadable::NotJson),
                0xd800..=0xdbff => {
                    if self.body.get(self.at..self.at + 2) != Some(b"\\u") {
                        return Err(Unreadable::NotJson);
                    }
                    self.at += 2;
                    if matches!(self.unit()?, 0xdc00..=0xdfff) { Ok(()) } else { Err(Unreadable::NotJson) }
                }
                _ => Ok(()),
            },
            _ => Err(Unreadable::NotJson),
        }
    }

    fn unit(&mut self) -> Result<u32, Unreadable> {
        let digits = self.body.get(self.at..self.at + 4).ok_or(Unreadable::NotJson)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(Unreadable::NotJson)?;
            Ok(unit << 4 | digit)
        })
    }

    /// Takes a number whose first byte is the present one.
    pub(super) fn number(&mut self) -> Result<Range<usize>, Unreadable> {
        let start = self.at;
        if self.body.get(self.at) == Some(&b'-') {
            self.take();
        }
        match self.body.get(self.at) {
            Some(b'0') => self.take(),
            Some(b'1'..=b'9') => _ = self.digits(),
            _ => return Err(Unreadable::NotJson),
        }
        if self.body.get(self.at) == Some(&b'.') {
            self.take();
            if self.digits() == 0 {
                return Err(Unreadable::NotJson);
            }
        }
        let mut exponent = 0;
        if let Some(b'e' | b'E') = self.body.get(self.at) {
            self.take();
            if let Some(b'+' | b'-') = self.body.get(self.at) {
                self.take();
            }
            exponent = self.digits();
            if exponent == 0 {
                return Err(Unreadable::NotJson);
            }
        }
        let span = start..self.at;
        let is_plain = span.len() <= PLAIN_NUMBER && exponent <= 2;
        if is_plain || serde_json::from_slice::<f64>(self.text(span.clone())).is_ok() {
            Ok(span)
        } else {
            Err(Unreadable::NotJson)
        }
    }

    fn digits(&mut self) -> usize {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// Takes `word`.
    pub(super) fn literal(&mut self, word: &[u8]) -> Result<Range<usize>, Unreadable> {
        let span = self.at..self.at + word.len();
        if self.body.get(span.clone()) != Some(word) {
            return Err(Unreadable::NotJson);
        }
        self.at = span.end;
        Ok(span)
    }
}

/// How many bytes there are before a quote, a backslash or a control character. Eight are looked at in one step: a
/// subtraction borrows into the top bit of exactly the lowest byte that is sought, and `trailing_zeros` finds that one.
#[inline]
fn plain_length(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let mut length = 0;
    let mut words = text.chunks_exact(8);
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        let word = u64::from_le_bytes(bytes);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = word ^ (ONES * 0x22);
        let quote = quote.wrapping_sub(ONES) & !quote;
        let backslash = word ^ (ONES * 0x5c);
        let backslash = backslash.wrapping_sub(ONES) & !backslash;
        let found = (control | quote | backslash) & TOPS;
        if found != 0 {
            return length + (found.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    let is_end = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    let tail = words.remainder();
    length + tail.iter().position(is_end).unwrap_or(tail.len())
}
