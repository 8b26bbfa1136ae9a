//! The parts of an answer's JSON that are read, each by itself, so that one of the wrong type spoils no other.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::claude::message::Word;

/// An answer, the message of `message_start`, or the delta of `message_delta`.
#[derive(Deserialize)]
pub(super) struct Whole<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// A content block or a step of one.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_json: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

impl Block<'_> {
    pub(super) fn is_thinking(&self) -> bool {
        matches!(&*self.kind, "thinking" | "redacted_thinking")
    }

    pub(super) fn is_text(&self) -> bool {
        self.kind == "text"
    }

    /// Whether it is for the reader, once it has some text.
    pub(super) fn is_content(&self) -> bool {
        !self.is_thinking()
    }

    pub(super) fn text_bytes(&self) -> usize {
        length(self.text)
    }

    /// `input` is empty where a stream starts a block; its parts come as `partial_json`.
    pub(super) fn output_bytes(&self) -> usize {
        let input = self.input.map_or(0, |input| input.get().len()).saturating_sub("{}".len());
        self.text_bytes() + length(self.thinking) + length(self.partial_json) + input
    }
}

/// How long a string is when decoded.
fn length(value: Option<&RawValue>) -> usize {
    value.and_then(string).map_or(0, |text| text.len())
}

/// A string.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

/// A block, if it is one.
pub(super) fn block(value: &RawValue) -> Option<Block<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// The blocks of a content.
pub(super) fn blocks(value: &RawValue) -> Vec<Block<'_>> {
    let values: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
    values.into_iter().filter_map(block).collect()
}

/// The type of an error; empty if it has none.
pub(super) fn error_type(error: &RawValue) -> Word {
    #[derive(Deserialize)]
    struct Error<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }

    serde_json::from_str::<Error<'_>>(error.get()).map(|error| Word::new(&error.kind)).unwrap_or_default()
}
