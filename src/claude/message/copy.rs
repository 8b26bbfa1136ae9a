//! The reader's second hand: it copies the history as it is read, without what does not count, and passes quickly over
//! values of no interest, such as the schemas of tools.

use std::ops::Range;

use super::{
    Unreadable,
    canonical::Region,
    read::{Reader, Scalar},
    shape::{Field, Place},
};

/// Whether what is read is being copied. Depths are those of the stack when the value has ended.
#[derive(Clone, Copy)]
pub(super) enum Copying {
    Off,
    On {
        until: usize,
    },
    /// A mark for the cache is passed over.
    Muted {
        at: usize,
        until: usize,
    },
}

impl Reader<'_> {
    /// Copies the comma and the key of a value, and begins to copy where a part of the history begins.
    pub(super) fn copy_before(&mut self, field: Field, key: Option<Range<usize>>) {
        let depth = self.stack.len();
        let Some(frame) = self.stack.last_mut() else { return };
        let canonical = &mut self.message.canonical;
        match self.copying {
            Copying::Muted { .. } => {}
            Copying::On { until } if field == Field::CacheControl => {
                self.copying = Copying::Muted { at: depth, until };
            }
            Copying::On { .. } => {
                if std::mem::replace(&mut frame.has_copied, true) {
                    canonical.push(b',');
                }
                if let Some(key) = key {
                    canonical.extend(self.lexer.text(key));
                    canonical.push(b':');
                }
            }
            Copying::Off => {
                let region = match (frame.place, field) {
                    (Place::Top, Field::Tools) => Region::Tools,
                    (Place::Top, Field::System) => Region::System,
                    (Place::Messages, _) if !canonical.is_full() => Region::Turn,
                    _ => return,
                };
                let is_object = self.lexer.peek() == Some(b'{');
                let is_null = self.lexer.peek() == Some(b'n');
                if (region == Region::Turn && !is_object) || is_null {
                    return;
                }
                canonical.begin(region);
                self.copying = Copying::On { until: depth };
            }
        }
    }

    pub(super) fn copy_byte(&mut self, byte: u8) {
        if let Copying::On { .. } = self.copying {
            self.message.canonical.push(byte);
        }
    }

    pub(super) fn copy_scalar(&mut self, place: Place, field: Field, scalar: &Scalar) {
        let Copying::On { .. } = self.copying else { return };
        let canonical = &mut self.message.canonical;
        match scalar {
            Scalar::Text(piece) if is_prose(place, field) => {
                canonical.extend(br#"[{"type":"text","text":"#);
                canonical.extend(self.lexer.text(piece.quoted()));
                canonical.extend(b"}]");
            }
            Scalar::Text(piece) => canonical.extend(self.lexer.text(piece.quoted())),
            Scalar::Number(span) => canonical.extend(self.lexer.text(span.clone())),
            Scalar::True => canonical.extend(b"true"),
            Scalar::False => canonical.extend(b"false"),
            Scalar::Null => canonical.extend(b"null"),
        }
    }

    pub(super) fn value_ended(&mut self) {
        let depth = self.stack.len();
        match self.copying {
            Copying::On { until } if until == depth => {
                self.message.canonical.end();
                self.copying = Copying::Off;
            }
            Copying::Muted { at, until } if at == depth => self.copying = Copying::On { until },
            Copying::Off | Copying::On { .. } | Copying::Muted { .. } => {}
        }
    }

    /// Reads a container of no interest whose opening bracket has been taken, up to and with `close`. It has no marks
    /// for the cache, so that its text is copied in long runs, from one white space to the next.
    pub(super) fn skip(&mut self, close: u8) -> Result<(), Unreadable> {
        let mut run = self.lexer.at();
        let mut is_first = true;
        self.nest(close)?;
        while let Some(close) = self.nest.last().copied() {
            match self.peek(&mut run) {
                Some(byte) if byte == close => {
                    self.lexer.take();
                    self.nest.pop();
                    is_first = false;
                    continue;
                }
                Some(b',') if !is_first => self.lexer.take(),
                Some(_) if is_first => {}
                _ => return Err(Unreadable::NotJson),
            }
            if close == b'}' {
                if self.peek(&mut run) != Some(b'"') {
                    return Err(Unreadable::NotJson);
                }
                self.lexer.string()?;
                if self.peek(&mut run) != Some(b':') {
                    return Err(Unreadable::NotJson);
                }
                self.lexer.take();
            }
            is_first = false;
            match self.peek(&mut run).ok_or(Unreadable::NotJson)? {
                b'"' => _ = self.lexer.string()?,
                opening @ (b'{' | b'[') => {
                    self.lexer.take();
                    // In ASCII each closing bracket stands two places behind its opening one.
                    self.nest(opening + 2)?;
                    is_first = true;
                }
                b't' => _ = self.lexer.literal(b"true")?,
                b'f' => _ = self.lexer.literal(b"false")?,
                b'n' => _ = self.lexer.literal(b"null")?,
                _ => _ = self.lexer.number()?,
            }
        }
        self.copy(run..self.lexer.at());
        Ok(())
    }

    fn nest(&mut self, close: u8) -> Result<(), Unreadable> {
        if self.stack.len() + self.nest.len() >= self.depth {
            return Err(Unreadable::TooDeep);
        }
        self.nest.push(close);
        Ok(())
    }

    /// The next byte that is not white space; where there is some, the run before it is copied.
    fn peek(&mut self, run: &mut usize) -> Option<u8> {
        let end = self.lexer.at();
        let byte = self.lexer.peek();
        if self.lexer.at() != end {
            self.copy(*run..end);
            *run = self.lexer.at();
        }
        byte
    }

    fn copy(&mut self, span: Range<usize>) {
        if let Copying::On { .. } = self.copying {
            self.message.canonical.extend(self.lexer.text(span));
        }
    }
}

/// Whether a string here stands for one text block.
const fn is_prose(place: Place, field: Field) -> bool {
    matches!((place, field), (Place::Top, Field::System) | (Place::Turn, Field::Content))
}
