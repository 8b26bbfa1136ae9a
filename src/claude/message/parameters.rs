//! What a request asks for beside its texts: whatever decides which model can take it.

use std::{borrow::Cow, ops::Range};

use super::lexer::Piece;

/// Bytes of a word that are kept; longer ones are nobody's and are cut.
const MAX_WORD: usize = 64;

/// Different types of tools that are kept.
const MAX_TOOL_TYPES: usize = 32;

/// The members that matter to the choice of a model. A member that is `null` counts as absent, but for sampling.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// `temperature`.
    pub temperature: Option<Given>,
    /// `top_p`.
    pub top_p: Option<Given>,
    /// `top_k`.
    pub top_k: Option<Given>,
    /// `max_tokens`, if it is a whole number.
    pub max_tokens: Option<u64>,
    /// `stream`.
    pub is_stream: bool,
    /// `thinking`.
    pub thinking: Option<Thinking>,
    /// `output_config.effort`, or `effort` at the top.
    pub effort: Option<Word>,
    /// `output_config.format` or `output_format`: the answer must fit a schema.
    pub has_output_format: bool,
    /// `tool_choice.type`.
    pub tool_choice: Option<Word>,
    /// How many tools there are.
    pub tool_count: usize,
    /// The types of tools that are not the client's own, each once. `too_many` stands for those that are not kept.
    pub tool_types: Vec<Word>,
    /// Whether a tool is `strict`.
    pub has_strict_tools: bool,
    /// `stop_sequences`.
    pub has_stop_sequences: bool,
    /// `speed`.
    pub speed: Option<Word>,
    /// `service_tier`.
    pub service_tier: Option<Word>,
    /// `inference_geo`.
    pub inference_geo: Option<Word>,
    /// `fallbacks`.
    pub has_fallbacks: bool,
    /// `container`.
    pub has_container: bool,
    /// `context_management`.
    pub has_context_management: bool,
    /// Whether `context_management` asks for compaction.
    pub has_compaction_edit: bool,
    /// `mcp_servers`.
    pub has_mcp_servers: bool,
    /// `thread` or another name of a conversation that the API keeps.
    pub has_thread: bool,
    /// Whether a block asks for citations.
    pub has_citations: bool,
    /// Members at the top that are not known here.
    pub unknown_count: usize,
    /// `metadata.user_id`, as a place in the body.
    pub user_id: Option<Piece>,
    /// Where that stands which may be changed for the sake of another model.
    pub places: Places,
}

/// Places in the body of what may be changed for the sake of another model.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `temperature`, `top_p` and `top_k`, each with its key.
    pub sampling: [Option<Range<usize>>; 3],
    /// The value of `thinking.type`, with its quotes.
    pub thinking_type: Option<Range<usize>>,
    /// `thinking.budget_tokens`, with its key.
    pub budget: Option<Range<usize>>,
    /// The place just behind the opening brace of `output_config`.
    pub output_config: Option<usize>,
    /// Whether `output_config` or its `effort` is there and is none, such as `null`: no other can be put in.
    pub has_odd_effort: bool,
}

/// A sampling parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Given {
    /// `null`.
    Null,
    /// A number.
    Number(f64),
    /// Something else.
    Other,
}

/// `thinking`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    /// Its type: `enabled`, `disabled`, `adaptive`, `between_tools`.
    pub kind: Word,
    /// `budget_tokens`.
    pub budget_tokens: Option<u64>,
}

/// A word of the API. Text that is too long to be one is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Word(Box<str>);

impl Word {
    /// The word of a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.get(..text.floor_char_boundary(MAX_WORD)).unwrap_or_default().into())
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq<&str> for Word {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl Parameters {
    /// The user that the client names.
    #[must_use]
    pub fn user_id<'a>(&self, body: &'a [u8]) -> Option<Cow<'a, str>> {
        self.user_id.as_ref().map(|piece| piece.decode(body))
    }

    pub(super) fn note_tool_type(&mut self, word: &str) {
        if word == "custom" || self.tool_types.iter().any(|known| known == &word) {
            return;
        }
        match self.tool_types.len() {
            length if length < MAX_TOOL_TYPES => self.tool_types.push(Word::new(word)),
            MAX_TOOL_TYPES => self.tool_types.push(Word::new("too_many")),
            _ => {}
        }
    }
}
