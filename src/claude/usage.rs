//! What an answer of Claude says about itself: its usage, how it ended, whether words have come. It is read from a copy
//! of the bytes as they pass; nothing is held back and nothing that comes can do harm.
//!
//! In a stream the last value of each field that is not null counts: `message_delta` replaces what `message_start` said,
//! as its numbers are totals and not steps. A whole answer is kept up to [`MAX_WHOLE`] and read at its end.

mod answer;

use std::str;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    decode::{Coding, Decoder},
    message::Word,
    sse::{Event, Parser},
};
use answer::Whole;

/// Bytes of a whole answer that are kept.
pub const MAX_WHOLE: usize = 4 << 20;

/// What a call used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that were neither read from the cache nor written to it.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Tokens read from the cache.
    pub cache_read: u64,
    /// Tokens written for five minutes; all that were written, if [`Self::split_known`] is false.
    pub cache_write_5m: u64,
    /// Tokens written for an hour.
    pub cache_write_1h: u64,
    /// Whether the answer says which writes are for how long, or has none.
    pub split_known: bool,
    /// Searches that the API made.
    pub web_searches: u64,
    /// Pages that the API fetched.
    pub web_fetches: u64,
    /// Whether the API went through several passes of its own (`iterations`), so that the numbers may leave some out.
    pub has_iterations: bool,
    /// `service_tier`, such as `standard`, `priority`, `batch`.
    pub service_tier: Option<Word>,
    /// `inference_geo`.
    pub geo: Option<Word>,
    /// `speed`.
    pub speed: Option<Word>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// It was finished.
    EndTurn,
    /// `max_tokens` was reached.
    MaxTokens,
    /// One of `stop_sequences` came.
    StopSequence,
    /// A tool is to be run.
    ToolUse,
    /// The API pauses and wants to be asked again.
    PauseTurn,
    /// The model declined.
    Refusal,
    /// The window is full.
    ContextWindow,
    /// A word that is not known here.
    Other,
}

impl StopReason {
    fn of(word: &str) -> Self {
        match word {
            "end_turn" => Self::EndTurn,
            "max_tokens" => Self::MaxTokens,
            "stop_sequence" => Self::StopSequence,
            "tool_use" => Self::ToolUse,
            "pause_turn" => Self::PauseTurn,
            "refusal" => Self::Refusal,
            "model_context_window_exceeded" => Self::ContextWindow,
            _ => Self::Other,
        }
    }
}

/// What was seen of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its usage; none if none was told. Not the last word if [`Self::is_lost`] or not [`Self::is_ended`].
    pub usage: Option<Usage>,
    /// The model that answered.
    pub model: Option<Word>,
    /// Why it ended.
    pub stop_reason: Option<StopReason>,
    /// The type of the error that it is, or that came in its stream.
    pub error: Option<Word>,
    /// Whether the answer began: a message, and not an error.
    pub is_started: bool,
    /// Whether it came to its end.
    pub is_ended: bool,
    /// Whether the stream stands between two events, so that one more may be put in.
    pub is_at_border: bool,
    /// Whether it could not be followed: too large, or a coding that was damaged or is not known.
    pub is_lost: bool,
    /// Whether words or calls of tools have come.
    pub has_content: bool,
    /// Whether it has thinking blocks.
    pub has_thinking: bool,
    /// Bytes of words for the reader.
    pub text_bytes: u64,
    /// Bytes of all that was put out: words, thinking, input of tools. Good for an estimate of a stream that broke off.
    pub output_bytes: u64,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// One JSON document.
    Whole,
    /// Server-sent events.
    Stream,
}

/// Watches one answer as it passes.
pub struct Watcher {
    decoder: Decoder,
    is_coded: bool,
    form: Form,
    state: State,
}

enum Form {
    Whole(Vec<u8>),
    Stream(Parser),
}

/// What has been told so far.
#[derive(Default)]
struct State {
    seen: Seen,
    counts: Option<Counts>,
}

/// The fields of a usage as they came.
#[derive(Default)]
struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    web_searches: Option<u64>,
    web_fetches: Option<u64>,
    has_iterations: bool,
    service_tier: Option<Word>,
    geo: Option<Word>,
    speed: Option<Word>,
}

impl Watcher {
    /// A watcher at the start of an answer.
    #[must_use]
    pub fn new(kind: AnswerKind, coding: Coding) -> Self {
        let form = match kind {
            AnswerKind::Whole => Form::Whole(Vec::new()),
            AnswerKind::Stream => Form::Stream(Parser::new()),
        };
        let is_coded = coding != Coding::Identity;
        Self { decoder: Decoder::new(coding), is_coded, form, state: State::default() }
    }

    /// Takes the next piece of the answer.
    pub fn feed(&mut self, piece: &[u8]) {
        let Self { decoder, form, state, .. } = self;
        if state.seen.is_lost && matches!(form, Form::Whole(_)) {
            return;
        }
        let decoded = decoder.feed(piece, |bytes| match form {
            Form::Whole(kept) => {
                if kept.len() + bytes.len() > MAX_WHOLE {
                    state.seen.is_lost = true;
                    *kept = Vec::new();
                } else if !state.seen.is_lost {
                    kept.extend_from_slice(bytes);
                }
            }
            Form::Stream(parser) => {
                parser.feed(bytes, |event| state.event(event));
                state.seen.is_lost |= parser.has_overflowed();
            }
        });
        self.state.seen.is_lost |= decoded.is_err();
    }

    /// Whether an event may be put into the stream here. Never in a whole answer or in a coded one.
    #[must_use]
    pub fn is_at_border(&self) -> bool {
        match &self.form {
            Form::Stream(parser) => parser.is_at_border() && !self.is_coded,
            Form::Whole(_) => false,
        }
    }

    /// Whether words or calls of tools have come in the stream.
    #[must_use]
    pub const fn has_content(&self) -> bool {
        self.state.seen.has_content
    }

    /// Whether the answer cannot be followed.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.state.seen.is_lost
    }

    /// Whether the stream came to its end, by `message_stop` or an error.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.state.seen.is_ended
    }

    /// What was seen, at the end of the answer or where it broke off.
    #[must_use]
    pub fn finish(self) -> Seen {
        let is_at_border = self.is_at_border();
        let Self { form, mut state, .. } = self;
        if let Form::Whole(kept) = form
            && !state.seen.is_lost
        {
            state.whole(&kept);
        }
        state.seen.is_at_border = is_at_border;
        state.seen.usage = state.counts.as_ref().and_then(Counts::total);
        state.seen
    }
}

/// The part of an event that is read. Members of the wrong type are passed over.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl State {
    fn event(&mut self, event: Event<'_>) {
        if event.name == b"ping" {
            return;
        }
        let Ok(data) = serde_json::from_slice::<Data<'_>>(event.data) else { return };
        let kind = data.kind.and_then(answer::string);
        let name = if event.name.is_empty() { kind.as_deref() } else { str::from_utf8(event.name).ok() };
        match name {
            Some("message_start") => self.start(data.message),
            Some("message_delta") => self.end(&data),
            Some("message_stop") => self.seen.is_ended = true,
            Some("content_block_start") => {
                if let Some(block) = data.content_block.and_then(answer::block) {
                    self.seen.has_thinking |= block.is_thinking();
                    self.seen.has_content |= block.is_content() && !block.is_text();
                    self.count(block.text_bytes(), block.output_bytes());
                }
            }
            Some("content_block_delta") => {
                if let Some(delta) = data.delta.and_then(answer::block) {
                    self.count(delta.text_bytes(), delta.output_bytes());
                }
            }
            Some("error") => {
                self.seen.error = Some(data.error.map(answer::error_type).unwrap_or_default());
                self.seen.is_ended = true;
            }
            _ => {}
        }
    }

    fn start(&mut self, message: Option<&RawValue>) {
        self.seen.is_started = true;
        let Some(whole) = message.and_then(|message| serde_json::from_str::<Whole<'_>>(message.get()).ok())
        else {
            return;
        };
        self.seen.model = whole.model.and_then(answer::string).map(|model| Word::new(&model));
        self.merge(whole.usage);
        self.stop(whole.stop_reason);
    }

    fn end(&mut self, data: &Data<'_>) {
        let delta = data.delta.and_then(|delta| serde_json::from_str::<Whole<'_>>(delta.get()).ok());
        self.stop(delta.and_then(|delta| delta.stop_reason));
        self.merge(data.usage);
    }

    fn stop(&mut self, reason: Option<&RawValue>) {
        if let Some(word) = reason.and_then(answer::string) {
            self.seen.stop_reason = Some(StopReason::of(&word));
        }
    }

    fn count(&mut self, text: usize, output: usize) {
        self.seen.has_content |= text > 0;
        self.seen.text_bytes = self.seen.text_bytes.saturating_add(text as u64);
        self.seen.output_bytes = self.seen.output_bytes.saturating_add(output as u64);
    }

    fn merge(&mut self, usage: Option<&RawValue>) {
        let Some(Ok(Value::Object(usage))) = usage.map(|usage| serde_json::from_str(usage.get())) else {
            return;
        };
        self.counts.get_or_insert_default().merge(&Value::Object(usage));
    }

    fn whole(&mut self, body: &[u8]) {
        let Ok(whole) = serde_json::from_slice::<Whole<'_>>(body) else { return };
        self.seen.is_ended = true;
        match whole.kind.and_then(answer::string).as_deref() {
            Some("message") => self.seen.is_started = true,
            Some("error") => self.seen.error = Some(whole.error.map(answer::error_type).unwrap_or_default()),
            _ => {}
        }
        if !self.seen.is_started {
            return;
        }
        self.seen.model = whole.model.and_then(answer::string).map(|model| Word::new(&model));
        self.merge(whole.usage);
        self.stop(whole.stop_reason);
        for block in whole.content.map(answer::blocks).unwrap_or_default() {
            self.seen.has_thinking |= block.is_thinking();
            self.seen.has_content |= block.is_content() && !block.is_text();
            self.count(block.text_bytes(), block.output_bytes());
        }
    }
}

impl Counts {
    /// Takes every value that is not null.
    fn merge(&mut self, usage: &Value) {
        let number = |at: &mut Option<u64>, value: &Value| *at = value.as_u64().or(*at);
        number(&mut self.input, &usage["input_tokens"]);
        number(&mut self.output, &usage["output_tokens"]);
        number(&mut self.cache_read, &usage["cache_read_input_tokens"]);
        number(&mut self.cache_write, &usage["cache_creation_input_tokens"]);
        number(&mut self.cache_write_5m, &usage["cache_creation"]["ephemeral_5m_input_tokens"]);
        number(&mut self.cache_write_1h, &usage["cache_creation"]["ephemeral_1h_input_tokens"]);
        number(&mut self.web_searches, &usage["server_tool_use"]["web_search_requests"]);
        number(&mut self.web_fetches, &usage["server_tool_use"]["web_fetch_requests"]);
        self.has_iterations |= usage["iterations"].as_array().is_some_and(|passes| passes.len() > 1);
        let word = |at: &mut Option<Word>, value: &Value| {
            if let Some(text) = value.as_str() {
                *at = Some(Word::new(text));
            }
        };
        word(&mut self.service_tier, &usage["service_tier"]);
        word(&mut self.geo, &usage["inference_geo"]);
        word(&mut self.speed, &usage["speed"]);
    }

    /// The usage, if tokens are among what was told.
    fn total(&self) -> Option<Usage> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let (five, hour) = (self.cache_write_5m.unwrap_or(0), self.cache_write_1h.unwrap_or(0));
        let split = five.saturating_add(hour);
        // More written than the split knows of: the rest is for a time that nobody told.
        let rest = self.cache_write.unwrap_or(split).saturating_sub(split);
        Some(Usage {
            input: self.input.unwrap_or(0),
            output: self.output.unwrap_or(0),
            cache_read: self.cache_read.unwrap_or(0),
            cache_write_5m: five.saturating_add(rest),
            cache_write_1h: hour,
            split_known: rest == 0,
            web_searches: self.web_searches.unwrap_or(0),
            web_fetches: self.web_fetches.unwrap_or(0),
            has_iterations: self.has_iterations,
            service_tier: self.service_tier.clone(),
            geo: self.geo.clone(),
            speed: self.speed.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
