//! What a test may ask of the next answers. How it is carried out is in `answer`, `delivery` and the servers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// One scripted behaviour. Every field is optional; an empty one is an ordinary answer. In JSON the names are the same,
/// for example `{"status": 429, "headers": {"retry-after": "1"}}`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Behaviour {
    /// Only for requests for this model.
    pub(crate) model: Option<String>,
    /// Only for requests whose path is this.
    pub(crate) path: Option<String>,
    /// For how many requests: absent is 1, 0 is all.
    pub(crate) times: Option<u32>,

    /// Answers with this status and an error body.
    pub(crate) status: Option<u16>,
    /// `error.type`; absent: the one that belongs to the status.
    pub(crate) error: Option<String>,
    /// `error.message`
    pub(crate) message: Option<String>,
    /// `error.details`, for example `{"error_code": "enforced_spend_limit_reached"}`.
    pub(crate) details: Option<Value>,
    /// A body in place of the JSON one.
    pub(crate) body: Option<String>,
    /// Fields that are added to the head; an empty value removes the field.
    pub(crate) headers: BTreeMap<String, String>,

    /// The stop reason.
    pub(crate) stop_reason: Option<String>,
    /// The number of output tokens, thinking included.
    pub(crate) output_tokens: Option<u64>,
    /// Thinking on or off, whatever the request says.
    pub(crate) thinking: Option<bool>,
    /// Shows the text of the thinking, whatever the request says.
    pub(crate) shows_thinking: Option<bool>,
    /// The text of the answer.
    pub(crate) text: Option<String>,
    /// A web search by the server, which lets the input grow in `message_delta`.
    pub(crate) server_tools: bool,
    /// Replaces fields of the usage in `message_start`.
    pub(crate) usage_start: Option<Value>,
    /// One `message_delta` each, with exactly this usage.
    pub(crate) usage_deltas: Vec<Value>,
    /// An event of an unknown type; absent: now and then.
    pub(crate) unknown_event: Option<bool>,
    /// Further pings, one after each delta.
    pub(crate) pings: usize,

    /// Rests before the head.
    pub(crate) head_delay_ms: u64,
    /// Rests before each event.
    pub(crate) event_delay_ms: Option<u64>,
    /// After so many events nothing more, with the connection open.
    pub(crate) silence_after: Option<usize>,
    /// After so many events an `error` event (`error`, `message`), then the end.
    pub(crate) error_after: Option<usize>,
    /// After so many events the connection is cut.
    pub(crate) close_after_events: Option<usize>,
    /// After so many bytes of the body the connection is cut.
    pub(crate) close_after: Option<usize>,
    /// The connection is cut at the first such place.
    pub(crate) close_at: Option<Place>,
    /// The connection is cut before anything is sent.
    pub(crate) close_before_head: bool,
    /// After so many bytes of the head the connection is cut.
    pub(crate) close_in_head: Option<usize>,
    /// Cuts with a reset instead of an end.
    pub(crate) reset: bool,
    /// Ends the connection after this answer.
    pub(crate) close_connection: bool,
    /// `gzip`, `br`, `deflate`, `zstd`, or `auto`: gzip if the request accepts it.
    pub(crate) encoding: Option<String>,
    /// Sends in small pieces with a rest after each.
    pub(crate) drip: Option<Drip>,
    /// Where the body is cut into separate writes.
    pub(crate) cut: Option<Cut>,
    /// The line ends of the stream.
    pub(crate) line_end: LineEnd,
}

/// Small pieces with rests.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drip {
    /// Bytes of a piece.
    pub(crate) bytes: usize,
    /// The rest after each.
    pub(crate) every_ms: u64,
}

/// A kind of place in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// Inside a character of several bytes.
    Char,
    /// Inside an event.
    Event,
    /// Between CR and LF, or else right after a line end.
    LineEnd,
    /// Inside a line of the head; as a cut it means nothing.
    Head,
}

/// Where the writes end.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cut {
    /// At all places of a kind.
    Each(Place),
    /// After every so many bytes.
    Every(usize),
    /// At these offsets in the body.
    At(Vec<usize>),
}

/// The line ends of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LineEnd {
    /// As the API sends it.
    #[default]
    Lf,
    /// Legal in event streams.
    Crlf,
    /// Legal in event streams.
    Cr,
}

impl LineEnd {
    /// The bytes.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::Crlf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

impl Behaviour {
    /// Reads a behaviour from JSON; the error says which field is wrong.
    pub(crate) fn from_json(value: Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|error| format!("script: {error}"))
    }

    /// Whether it is meant for such a request.
    pub(crate) fn applies(&self, path: &str, model: Option<&str>) -> bool {
        self.path.as_deref().is_none_or(|wanted| wanted == path)
            && self.model.as_deref().is_none_or(|wanted| Some(wanted) == model)
    }
}
