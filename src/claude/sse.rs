//! Server-sent events, taken out of a stream that flows by in pieces of any size (WHATWG HTML section 9.2.6).
//!
//! The stream itself goes on its way untouched: the parser borrows each piece and keeps only what belongs to an event
//! that has not ended. Whatever it meets, it goes on: an event that is too large ends the counting, not the stream, and
//! even then it is known whether the stream stands between two events.

use memchr::memchr2;

/// Bytes of one event that are kept.
pub const MAX_EVENT: usize = 256 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event that has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name, empty if it has none.
    pub name: &'a [u8],
    /// Its data, lines joined by line feeds.
    pub data: &'a [u8],
}

/// Finds the events of one stream.
#[derive(Default)]
pub struct Parser {
    /// The line that has not ended, as far as it is kept.
    line: Vec<u8>,
    /// Whether bytes of a line have come, kept or not.
    is_in_line: bool,
    /// Whether the line is a comment, of which nothing is kept.
    is_comment: bool,
    /// Whether the last byte was a carriage return, which a line feed may follow.
    after_return: bool,
    /// Whether the first line has ended, before which a byte order mark may stand.
    is_started: bool,
    /// Whether a field of an event has come that has not ended.
    is_in_event: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    has_overflowed: bool,
}

impl Parser {
    /// A parser at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the stream and hands each event that ends in it to `on_event`.
    pub fn feed(&mut self, piece: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        if piece.is_empty() {
            return;
        }
        let mut rest = piece;
        if std::mem::take(&mut self.after_return) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\r', b'\n', rest) {
            let (line, tail) = rest.split_at(end);
            let (ending, tail) = tail.split_at(1);
            rest = tail;
            if ending == b"\r" {
                self.after_return = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            self.end_line(line, &mut on_event);
        }
        if !rest.is_empty() {
            self.keep(rest);
        }
    }

    /// Whether the stream stands between two events, so that another one may be put in here.
    #[must_use]
    pub const fn is_at_border(&self) -> bool {
        !self.is_in_line && !self.is_in_event
    }

    /// Whether an event was too large. No event is told from then on.
    #[must_use]
    pub const fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, bytes: &[u8]) {
        if !self.is_in_line {
            self.is_comment = self.is_started && bytes.first() == Some(&b':');
        }
        self.is_in_line = true;
        if !self.is_comment && self.has_room(bytes.len()) {
            self.line.extend_from_slice(bytes);
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        if self.line.len() + self.data.len() + self.name.len() + bytes > MAX_EVENT {
            self.has_overflowed = true;
            (self.line, self.data, self.name) = (Vec::new(), Vec::new(), Vec::new());
        }
        !self.has_overflowed
    }

    fn end_line(&mut self, end: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        if std::mem::take(&mut self.is_comment) {
            self.is_in_line = false;
            return;
        }
        if !self.is_in_line {
            self.whole_line(end, on_event);
            return;
        }
        self.keep(end);
        self.is_in_line = false;
        if self.has_overflowed {
            // What the line was is not known any more, only that it was not empty.
            self.is_in_event = true;
            return;
        }
        let line = std::mem::take(&mut self.line);
        self.whole_line(&line, on_event);
        self.line = line;
        self.line.clear();
    }

    fn whole_line(&mut self, line: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        let line = if std::mem::replace(&mut self.is_started, true) {
            line
        } else {
            line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
        };
        if line.is_empty() {
            self.end_event(on_event);
            return;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        if field.is_empty() {
            return;
        }
        self.is_in_event = true;
        let value = value.get(1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if !self.has_room(value.len() + 1) {
            return;
        }
        if field == b"data" {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        } else if field == b"event" {
            self.name.clear();
            self.name.extend_from_slice(value);
        }
    }

    fn end_event(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        self.is_in_event = false;
        if std::mem::take(&mut self.has_data) && !self.has_overflowed {
            on_event(Event { name: &self.name, data: &self.data });
        }
        self.name.clear();
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Event, MAX_EVENT, Parser};

    type Found = Vec<(String, String)>;

    fn note(found: &mut Found, event: Event<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        found.push((text(event.name), text(event.data)));
    }

    fn events(stream: &[u8], step: usize) -> Found {
        let (mut parser, mut found) = (Parser::new(), Vec::new());
        for piece in stream.chunks(step) {
            parser.feed(piece, |event| note(&mut found, event));
        }
        found
    }

    fn pairs(found: &[(&str, &str)]) -> Found {
        found.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
    }

    #[test]
    fn reads_events_at_every_split() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("event: ping\ndata: {}\n\n", &[("ping", "{}")]),
            ("event:ping\r\ndata:{}\r\n\r\nevent: a\r\ndata: b\r\n\r\n", &[("ping", "{}"), ("a", "b")]),
            ("event: ping\rdata: {}\r\rdata: x\r\r", &[("ping", "{}"), ("", "x")]),
            ("\u{feff}event: a\ndata: 1\n\n", &[("a", "1")]),
            ("\u{feff}: hello\n\ndata: 1\n\n", &[("", "1")]),
            (": comment\n\n:\n\ndata: 1\n\n", &[("", "1")]),
            ("data: one\ndata: two\ndata\ndata:  three\n\n", &[("", "one\ntwo\n\n three")]),
            ("event: lost\n\ndata: 1\n\n", &[("", "1")]),
            ("data\n\nid: 7\nretry: 9\nfuture: x\ndata: 1\n\n", &[("", ""), ("", "1")]),
            ("event: a\nevent: b\ndata: é😀\n\n", &[("b", "é😀")]),
            ("data: unfinished\n", &[]),
            ("\n\r\n\r\r\n", &[]),
        ];
        for (stream, expected) in table {
            for step in 1..=stream.len() {
                assert_eq!(events(stream.as_bytes(), step), pairs(expected), "{stream:?} by {step}");
            }
        }
    }

    #[test]
    fn an_empty_piece_between_carriage_return_and_line_feed_changes_nothing() {
        let (mut parser, mut found) = (Parser::new(), Vec::new());
        for piece in [b"data: 1\r".as_slice(), b"", b"\ndata: 2\r", b"", b"\n\r\n"] {
            parser.feed(piece, |event| note(&mut found, event));
        }

        assert_eq!(found, pairs(&[("", "1\n2")]));
    }

    #[test]
    fn knows_where_another_event_may_be_put_in() {
        let stream = b"event: a\r\ndata: 1\r\n\r\n: comment\n\ndata: 2\n\n";
        let mut parser = Parser::new();
        let mut borders = vec![];

        assert!(parser.is_at_border());
        for (at, byte) in stream.iter().enumerate() {
            parser.feed(&[*byte], |_| {});
            if parser.is_at_border() {
                borders.push(at + 1);
            }
        }

        assert_eq!(borders, [20, 21, 31, 32, 41]);
    }

    #[test]
    fn an_event_that_is_too_large_ends_the_counting_but_not_the_borders() {
        let large = format!("data: {}\n\ndata: later\n\n", "x".repeat(MAX_EVENT));
        for step in [1000, MAX_EVENT * 2] {
            let (mut parser, mut found) = (Parser::new(), Vec::new());
            for piece in format!("data: before\n\n{large}").as_bytes().chunks(step) {
                parser.feed(piece, |event| note(&mut found, event));
            }
            assert_eq!(found, pairs(&[("", "before")]));
            assert!(parser.has_overflowed() && parser.is_at_border());
            parser.feed(b"data: x\n", |_| {});
            assert!(!parser.is_at_border());
            parser.feed(b"\n", |_| {});
            assert!(parser.is_at_border());
        }
    }

    #[test]
    fn many_small_lines_of_one_event_are_bounded_too() {
        let mut parser = Parser::new();
        for _ in 0..MAX_EVENT {
            parser.feed(b"data: 12\n", |_| {});
        }

        assert!(parser.has_overflowed() && parser.data.capacity() == 0);
    }

    #[test]
    fn comments_are_not_kept() {
        let mut parser = Parser::new();
        parser.feed(b"\n:", |_| {});
        for _ in 0..1000 {
            parser.feed(&[b'x'; 1000], |_| {});
        }

        assert!(!parser.has_overflowed() && parser.line.is_empty() && !parser.is_at_border());
    }

    proptest! {
        #[test]
        fn any_split_of_any_stream_gives_the_same_events(
            pieces in prop::collection::vec(prop::sample::select(vec!["data: ", "data", "event: a", ":", "\r", "\n", "\r\n", "\n\n", "é", "\u{feff}", " ", "x"]), 0..40),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let stream = pieces.concat().into_bytes();
            let whole = events(&stream, stream.len().max(1));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut parser, mut found, mut at) = (Parser::new(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([stream.len()]) {
                parser.feed(&stream[at..cut], |event| note(&mut found, event));
                at = cut;
            }
            let mut other = Parser::new();
            other.feed(&stream, |_| {});

            prop_assert_eq!(found, whole);
            prop_assert_eq!(parser.is_at_border(), other.is_at_border());
        }

        #[test]
        fn any_bytes_are_taken(stream in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..20) {
            let _ = events(&stream, step);
        }
    }
}
