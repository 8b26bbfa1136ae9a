//! Changes to a body that leave every other byte as it is: another model, marks for the prompt cache, messages cut out,
//! what another model would refuse.
//! Whether to make them is decided elsewhere.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{
    cost::Ttl,
    message::{Message, System},
    transform,
};
use crate::config::Transforms;

/// What is to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// The model to ask for.
    pub model: Option<&'a str>,
    /// A mark at the top, which the API puts on the last block.
    pub mark: Option<Ttl>,
    /// A mark on the system prompt.
    pub mark_system: Option<SystemMark>,
    /// Messages to leave out: from the start of one message to the start of a later one.
    pub cut: Option<Range<usize>>,
    /// What is changed so that another model takes the call.
    pub transforms: Transforms,
}

/// A mark on the system prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemMark {
    /// How long it is to be kept.
    pub ttl: Ttl,
    /// Whether a string is made into a block, which can be marked. Otherwise it stays as it is.
    pub wrap: bool,
}

/// The body with `edits`, in parts that share its memory.
#[must_use]
pub fn splice(body: &Bytes, message: &Message, edits: &Edits<'_>) -> Vec<Bytes> {
    let mut changes = Changes { body, parts: Vec::with_capacity(9), found: Vec::with_capacity(5) };
    changes.found.extend(transform::edits(body, message, edits.transforms));
    if let Some(model) = edits.model {
        changes.found.push((message.model_span.clone(), Bytes::from(quote(model))));
    }
    if let Some(ttl) = edits.mark {
        changes.found.push(insertion(message.after_open, ttl, false));
    }
    if let Some(mark) = edits.mark_system {
        changes.mark_system(&message.system, mark);
    }
    if let Some(cut) = edits.cut.clone() {
        changes.found.push((cut, Bytes::new()));
    }
    changes.apply()
}

/// The parts in one piece.
#[must_use]
pub fn join(parts: &[Bytes]) -> Bytes {
    if let [whole] = parts {
        return whole.clone();
    }
    let mut joined = BytesMut::with_capacity(length(parts));
    for part in parts {
        joined.extend_from_slice(part);
    }
    joined.freeze()
}

/// How many bytes the parts have.
#[must_use]
pub fn length(parts: &[Bytes]) -> usize {
    parts.iter().map(Bytes::len).sum()
}

/// Changes to one body, each a place and what comes there.
struct Changes<'a> {
    body: &'a Bytes,
    parts: Vec<Bytes>,
    found: Vec<(Range<usize>, Bytes)>,
}

impl Changes<'_> {
    fn mark_system(&mut self, system: &System, mark: SystemMark) {
        match system {
            System::Blocks { last: Some(last), .. } if last.can_be_marked => {
                self.found.push(insertion(last.after_open, mark.ttl, last.is_empty));
            }
            System::Text(piece) if mark.wrap && !piece.span.is_empty() => {
                let span = piece.quoted();
                let before = Bytes::from_static(br#"[{"type":"text","text":"#);
                let after = Bytes::from(format!(",{}}}]", control(mark.ttl)));
                self.found.push((span.start..span.start, before));
                self.found.push((span.end..span.end, after));
            }
            System::Blocks { .. } | System::Text(_) | System::None => {}
        }
    }

    fn apply(mut self) -> Vec<Bytes> {
        self.found.sort_by_key(|(span, _)| (span.start, span.end));
        let mut at = 0;
        for (span, text) in std::mem::take(&mut self.found) {
            if span.start < at || span.end < span.start || span.end > self.body.len() {
                continue;
            }
            self.push(self.body.slice(at..span.start));
            self.push(text);
            at = span.end;
        }
        self.push(self.body.slice(at..));
        self.parts
    }

    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.parts.push(part);
        }
    }
}

fn insertion(at: usize, ttl: Ttl, is_empty: bool) -> (Range<usize>, Bytes) {
    let comma = if is_empty { "" } else { "," };
    (at..at, Bytes::from(format!("{}{comma}", control(ttl))))
}

const fn control(ttl: Ttl) -> &'static str {
    match ttl {
        Ttl::FiveMinutes => r#""cache_control":{"type":"ephemeral"}"#,
        Ttl::OneHour => r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#,
    }
}

/// The place in a text of a part that was borrowed from it.
pub(super) fn place_in(text: &[u8], part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let place = start..start.checked_add(part.len())?;
    (text.get(place.clone()) == Some(part.as_bytes())).then_some(place)
}

/// A JSON string.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
