//! Which objects and members of a Messages request are of interest, and where they may stand. Anything else is skipped.

/// What a container of the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Tools,
    Tool,
    System,
    SystemBlock,
    Messages,
    Turn,
    Content,
    Block,
    /// Blocks within a block: the content of a tool's result or of a document.
    Nested,
    NestedBlock,
    /// The source of a document.
    Source,
    CacheControl,
    Citations,
    Thinking,
    OutputConfig,
    ToolChoice,
    Metadata,
    ContextManagement,
    Edits,
    Edit,
    /// Of no interest, with all that it holds.
    Skip,
}

/// A member that is read. The same name means different things in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Model,
    Messages,
    System,
    Tools,
    CacheControl,
    Temperature,
    TopP,
    TopK,
    MaxTokens,
    Stream,
    Thinking,
    OutputConfig,
    OutputFormat,
    Effort,
    ToolChoice,
    StopSequences,
    Speed,
    ServiceTier,
    InferenceGeo,
    Fallbacks,
    Container,
    ContextManagement,
    McpServers,
    Metadata,
    Thread,
    Role,
    Content,
    Type,
    Text,
    Id,
    ToolUseId,
    Source,
    Citations,
    Strict,
    Ttl,
    BudgetTokens,
    Format,
    UserId,
    Edits,
    Enabled,
    /// A member of a turn that changes tools or the system prompt from here on.
    Change,
    Unknown,
}

impl Field {
    /// The member that `key` names in `place`.
    pub(super) fn of(place: Place, key: &[u8]) -> Self {
        match place {
            Place::Top => Self::of_top(key),
            Place::Tool => match key {
                b"cache_control" => Self::CacheControl,
                b"type" => Self::Type,
                b"strict" => Self::Strict,
                _ => Self::Unknown,
            },
            Place::Turn => match key {
                b"role" => Self::Role,
                b"content" => Self::Content,
                b"cache_control" => Self::CacheControl,
                b"tools" | b"system" => Self::Change,
                _ => Self::Unknown,
            },
            Place::SystemBlock | Place::Block | Place::NestedBlock => Self::of_block(key),
            Place::Source if key == b"content" => Self::Content,
            Place::CacheControl if key == b"ttl" => Self::Ttl,
            Place::Citations if key == b"enabled" => Self::Enabled,
            Place::Thinking if key == b"budget_tokens" => Self::BudgetTokens,
            Place::Thinking | Place::ToolChoice | Place::Edit if key == b"type" => Self::Type,
            Place::OutputConfig if key == b"effort" => Self::Effort,
            Place::OutputConfig if key == b"format" => Self::Format,
            Place::Metadata if key == b"user_id" => Self::UserId,
            Place::ContextManagement if key == b"edits" => Self::Edits,
            _ => Self::Unknown,
        }
    }

    fn of_top(key: &[u8]) -> Self {
        match key {
            b"model" => Self::Model,
            b"messages" => Self::Messages,
            b"system" => Self::System,
            b"tools" => Self::Tools,
            b"cache_control" => Self::CacheControl,
            b"temperature" => Self::Temperature,
            b"top_p" => Self::TopP,
            b"top_k" => Self::TopK,
            b"max_tokens" => Self::MaxTokens,
            b"stream" => Self::Stream,
            b"thinking" => Self::Thinking,
            b"output_config" => Self::OutputConfig,
            b"output_format" => Self::OutputFormat,
            b"effort" => Self::Effort,
            b"tool_choice" => Self::ToolChoice,
            b"stop_sequences" => Self::StopSequences,
            b"speed" => Self::Speed,
            b"service_tier" => Self::ServiceTier,
            b"inference_geo" => Self::InferenceGeo,
            b"fallbacks" => Self::Fallbacks,
            b"container" => Self::Container,
            b"context_management" => Self::ContextManagement,
            b"mcp_servers" => Self::McpServers,
            b"metadata" => Self::Metadata,
            b"thread" | b"thread_id" | b"conversation" | b"conversation_id" | b"previous_message_id" => {
                Self::Thread
            }
            _ => Self::Unknown,
        }
    }

    fn of_block(key: &[u8]) -> Self {
        match key {
            b"type" => Self::Type,
            b"text" => Self::Text,
            b"content" => Self::Content,
            b"cache_control" => Self::CacheControl,
            b"id" => Self::Id,
            b"tool_use_id" => Self::ToolUseId,
            b"source" => Self::Source,
            b"citations" => Self::Citations,
            _ => Self::Unknown,
        }
    }
}

impl Place {
    /// What the container is that stands in this place, as the value of `field`.
    pub(super) fn child(self, field: Field, is_object: bool) -> Self {
        match (self, field, is_object) {
            (Self::Top, Field::Messages, false) => Self::Messages,
            (Self::Top, Field::System, false) => Self::System,
            (Self::Top, Field::Tools, false) => Self::Tools,
            (Self::Top, Field::Thinking, true) => Self::Thinking,
            (Self::Top, Field::OutputConfig, true) => Self::OutputConfig,
            (Self::Top, Field::ToolChoice, true) => Self::ToolChoice,
            (Self::Top, Field::Metadata, true) => Self::Metadata,
            (Self::Top, Field::ContextManagement, true) => Self::ContextManagement,
            (Self::ContextManagement, Field::Edits, false) => Self::Edits,
            (Self::Edits, _, true) => Self::Edit,
            (Self::Tools, _, true) => Self::Tool,
            (Self::System, _, true) => Self::SystemBlock,
            (Self::Messages, _, true) => Self::Turn,
            (Self::Turn, Field::Content, false) => Self::Content,
            (Self::Content, _, true) => Self::Block,
            (Self::Block | Self::NestedBlock | Self::Source, Field::Content, false) => Self::Nested,
            (Self::Nested, _, true) => Self::NestedBlock,
            (Self::Block | Self::NestedBlock, Field::Source, true) => Self::Source,
            (Self::Block | Self::NestedBlock, Field::Citations, true) => Self::Citations,
            (_, Field::CacheControl, true) => Self::CacheControl,
            _ => Self::Skip,
        }
    }
}
