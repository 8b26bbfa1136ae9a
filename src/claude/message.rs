//! The body of a `POST /v1/messages`, read in one pass: the model, the texts, what has been asked for, and the hashes by
//! which its conversation is known again.
//!
//! Nothing is built from it and nothing written back: everything is a place in the body or a small value, so that a
//! [`Message`] can be kept beside its bytes. One JSON object is accepted exactly when `serde_json` accepts it, but for
//! the depth, which is the caller's, and [`MAX_TURNS`]. Wrong types are no fault here: the API answers them better.

mod canonical;
mod copy;
mod lexer;
mod parameters;
mod read;
mod shape;

use std::{borrow::Cow, ops::Range};

use thiserror::Error;

use canonical::Canonical;

use super::cost::Ttl;

pub use canonical::{MAX_HASHED, Prefix, PrefixHash, Prefixes};
pub use lexer::Piece;
pub use parameters::{Given, Parameters, Places, Thinking, Word};

/// Messages of one request; the API takes 100,000, but no conversation has so many.
pub const MAX_TURNS: usize = 20_000;

/// Marks that are kept one by one; the API takes four.
pub const MAX_MARKS: usize = 64;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// It is not one JSON object.
    #[error("the body is not one JSON object")]
    NotJson,
    /// It is nested too deep.
    #[error("the body is nested too deep")]
    TooDeep,
    /// It has more messages than are looked at.
    #[error("the body has too many messages")]
    TooManyTurns,
    /// It names no model.
    #[error("the body names no model")]
    NoModel,
    /// It names more than one model, so that two readers may read two.
    #[error("the body names its model twice")]
    ModelTwice,
    /// Its model is not a string.
    #[error("the model is not a string")]
    ModelNotString,
}

/// What a body says.
#[derive(Clone, Debug)]
pub struct Message {
    /// The model that is asked for.
    pub model: String,
    /// The place of its name, with the quotes.
    pub model_span: Range<usize>,
    /// The place just behind the opening brace.
    pub after_open: usize,
    /// The system prompt.
    pub system: System,
    /// The messages.
    pub turns: Vec<Turn>,
    /// The marks for the prompt cache that the client has set, the first [`MAX_MARKS`] of them.
    pub marks: Vec<CacheMark>,
    /// How many marks there are.
    pub mark_count: usize,
    /// What else was asked for.
    pub parameters: Parameters,
    /// Whether a member that matters stands twice in its object, so that two readers may read two requests.
    pub has_repeated_keys: bool,
    canonical: Canonical,
}

/// The system prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum System {
    /// There is none, or it is of the wrong type.
    #[default]
    None,
    /// A string.
    Text(Piece),
    /// An array of blocks.
    Blocks {
        /// The place of the array.
        span: Range<usize>,
        /// The texts of its blocks.
        text: Text,
        /// Its last block.
        last: Option<LastBlock>,
    },
}

/// The last block of a system prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBlock {
    /// The place just behind its opening brace.
    pub after_open: usize,
    /// Whether it has no member, so that no comma may follow what is inserted.
    pub is_empty: bool,
    /// Whether it is a text block with some text: the API refuses marks on others.
    pub can_be_marked: bool,
}

/// Texts that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pieces: Vec<Piece>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose it is.
    pub role: Role,
    /// The place of its object in the body.
    pub span: Range<usize>,
    /// Its content, if that is a string, or its text blocks. What tools gave back is not among them.
    pub text: Text,
    /// The kinds of its blocks.
    pub blocks: BlockSet,
    /// The places of the ids of its `tool_use` blocks, without quotes.
    pub tool_uses: Vec<Range<usize>>,
    /// The places of the ids that its `tool_result` blocks answer.
    pub tool_results: Vec<Range<usize>>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The user, or a tool.
    User,
    /// Claude.
    Assistant,
    /// The operator, in the middle of a conversation.
    System,
    /// A word that is not known, or none.
    #[default]
    Other,
}

/// Kinds of content blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockSet(u16);

impl BlockSet {
    /// `text`, or content that is a string.
    pub const TEXT: Self = Self(1);
    /// `image`, also in the result of a tool.
    pub const IMAGE: Self = Self(1 << 1);
    /// `document`, also in the result of a tool.
    pub const DOCUMENT: Self = Self(1 << 2);
    /// `tool_use`: the client runs a tool.
    pub const TOOL_USE: Self = Self(1 << 3);
    /// `tool_result`.
    pub const TOOL_RESULT: Self = Self(1 << 4);
    /// `thinking`.
    pub const THINKING: Self = Self(1 << 5);
    /// `redacted_thinking`.
    pub const REDACTED_THINKING: Self = Self(1 << 6);
    /// Tools that the API runs, and their results.
    pub const SERVER_TOOL: Self = Self(1 << 7);
    /// `compaction`: a summary that the API made of what came before.
    pub const COMPACTION: Self = Self(1 << 8);
    /// `search_result`.
    pub const SEARCH_RESULT: Self = Self(1 << 9);
    /// A change of tools or of the system prompt in the middle of a conversation.
    pub const CHANGE: Self = Self(1 << 10);
    /// Anything else.
    pub const OTHER: Self = Self(1 << 11);

    /// Whether one of `kinds` is among them.
    #[must_use]
    pub const fn has(self, kinds: Self) -> bool {
        self.0 & kinds.0 != 0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, kinds: Self) -> Self {
        Self(self.0 | kinds.0)
    }

    /// The kind that the `type` of a block names.
    fn of(word: &str) -> Self {
        match word {
            "text" => Self::TEXT,
            "image" => Self::IMAGE,
            "document" => Self::DOCUMENT,
            "tool_use" => Self::TOOL_USE,
            "tool_result" => Self::TOOL_RESULT,
            "thinking" => Self::THINKING,
            "redacted_thinking" => Self::REDACTED_THINKING,
            "server_tool_use" | "mcp_tool_use" => Self::SERVER_TOOL,
            "compaction" => Self::COMPACTION,
            "search_result" => Self::SEARCH_RESULT,
            "system" => Self::CHANGE,
            _ if word.ends_with("_tool_result") => Self::SERVER_TOOL,
            _ if word.starts_with("tool_") && word != "tool_reference" => Self::CHANGE,
            _ => Self::OTHER,
        }
    }
}

/// A `cache_control` of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheMark {
    /// In which part of the request.
    pub part: Part,
    /// How long it asks to keep; an unknown word counts as five minutes.
    pub ttl: Ttl,
}

/// The part of the request that a mark stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// At the top: the API puts it on the last block.
    Top,
    /// On a tool.
    Tools,
    /// On a block of the system prompt.
    System,
    /// On a block of a message, or on one within such a block.
    Messages,
}

impl Message {
    /// Reads a body that is nested at most `depth` deep.
    ///
    /// # Errors
    /// When it is not one JSON object with one model, or is over a limit.
    pub fn read(body: &[u8], depth: usize) -> Result<Self, Unreadable> {
        read::Reader::new(body, depth).run()
    }

    /// The hashes of the conversation under `key`. The key is a secret of this process or group, so that nobody can aim
    /// at the entry of someone else.
    #[must_use]
    pub fn prefixes(&self, key: &[u8; 32]) -> Prefixes {
        self.canonical.hashes(key)
    }

    /// Gives up what [`Self::prefixes`] needs, which is about as large as the body.
    pub fn forget_history(&mut self) {
        self.canonical = Canonical::default();
    }

    /// Whether the client marks prompts for the cache itself.
    #[must_use]
    pub const fn has_cache_control(&self) -> bool {
        self.mark_count > 0
    }

    /// Whether any message has a block of one of `kinds`.
    #[must_use]
    pub fn has_blocks(&self, kinds: BlockSet) -> bool {
        self.turns.iter().any(|turn| turn.blocks.has(kinds))
    }

    /// Whether the answer is to go on from words that the client wrote for Claude.
    #[must_use]
    pub fn is_prefill(&self) -> bool {
        self.turns.last().is_some_and(|turn| turn.role == Role::Assistant)
    }

    /// Whether the last message brings what tools gave that Claude has just asked for.
    #[must_use]
    pub fn is_tool_loop(&self) -> bool {
        let [.., asked, answered] = self.turns.as_slice() else { return false };
        asked.role == Role::Assistant
            && asked.blocks.has(BlockSet::TOOL_USE)
            && answered.role == Role::User
            && answered.blocks.has(BlockSet::TOOL_RESULT)
    }

    /// Whether tools or the system prompt change within the conversation.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        let is_odd = |turn: &Turn| matches!(turn.role, Role::System | Role::Other);
        self.turns.iter().any(|turn| is_odd(turn) || turn.blocks.has(BlockSet::CHANGE))
    }
}

impl System {
    /// Its place in the body; nothing at the beginning where there is none.
    pub(super) fn span(&self) -> Range<usize> {
        match self {
            Self::None => 0..0,
            Self::Text(piece) => piece.span.clone(),
            Self::Blocks { span, .. } => span.clone(),
        }
    }

    /// Its words.
    #[must_use]
    pub fn text<'a>(&self, body: &'a [u8]) -> Cow<'a, str> {
        match self {
            Self::None => Cow::Borrowed(""),
            Self::Text(piece) => piece.decode(body),
            Self::Blocks { text, .. } => text.decode(body),
        }
    }
}

impl Text {
    /// The words, joined by line ends; nothing is copied where there is one text without escapes.
    #[must_use]
    pub fn decode<'a>(&self, body: &'a [u8]) -> Cow<'a, str> {
        match self.pieces.as_slice() {
            [] => Cow::Borrowed(""),
            [piece] => piece.decode(body),
            pieces => {
                let mut joined = String::new();
                for (at, piece) in pieces.iter().enumerate() {
                    if at > 0 {
                        joined.push('\n');
                    }
                    joined.push_str(&piece.decode(body));
                }
                Cow::Owned(joined)
            }
        }
    }

    /// How long it is in the body.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.span.len()).sum()
    }

    fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }
}

#[cfg(test)]
mod tests;
