//! `claude.models`: what models cost and what they take, where the shipped table is out of date or knows nothing.
//!
//! The shipped values themselves are in `claude::catalog`, which lays these entries over them.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::Month;

use super::{error::ValueError, usd::UsdPerMillion};

/// The models of the shipped table with their other ids. What they cost and take is in `claude::catalog`, whose test
/// holds the two together.
pub(crate) const SHIPPED: [&str; 6] = [
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-haiku-4-5",
    "claude-haiku-4-5-20251001",
    "claude-sonnet-4-6",
];

/// Whether the shipped table has a model of that id.
pub(super) fn is_shipped(id: &str) -> bool {
    SHIPPED.contains(&id)
}

/// `claude.models`: entries by model id.
pub type Models = BTreeMap<String, ModelEntry>;

/// What a model costs and takes. A model of the shipped table keeps its values where a key is absent; another one needs
/// `generation`, `prices`, `context` and `max_output`, and takes nothing else that is not written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelEntry {
    /// Other ids of the same model, such as one with a date. Absent: those of the shipped table, else []. Default:
    /// none.
    #[schemars(extend("x-items" = "text"))]
    pub also: Option<Vec<String>>,
    /// Generation, such as `4.6` or `5.5`. From 4.7 on the same text counts as about 30 % more tokens, so that money
    /// is compared after that factor. A conversation prefers to stay within the whole number. Absent: that of the
    /// shipped table. Default: none.
    pub generation: Option<Generation>,
    /// What a million tokens cost, from which day on. The row with the latest day that has begun counts. Replaces the
    /// shipped rows. Default: [].
    pub prices: Vec<PriceRow>,
    /// Tokens that a prompt and its answer may have together. Absent: those of the shipped table. Default: none.
    #[schemars(range(min = 1))]
    pub context: Option<u32>,
    /// Tokens that an answer may have. Absent: those of the shipped table. Default: none.
    #[schemars(range(min = 1))]
    pub max_output: Option<u32>,
    /// Tokens of the smallest prompt that the prompt cache takes. Absent: those of the shipped table, else 4096.
    /// Default: none.
    pub min_cacheable: Option<u32>,
    /// Words of `output_config.effort` that are taken. Absent: those of the shipped table, else []. Default: none.
    pub efforts: Option<Vec<Effort>>,
    /// The effort of a call that names none. Absent: that of the shipped table, else none. Default: none.
    pub effort: Option<Effort>,
    /// Types of `thinking` that are taken. Absent: those of the shipped table, else []. Default: none.
    pub thinking: Option<Vec<ThinkingType>>,
    /// Whether a call that says nothing about thinking gets it. Absent: that of the shipped table, else true.
    /// Default: none.
    pub thinks_by_default: Option<bool>,
    /// The greatest effort at which thinking may be `disabled` or held `between_tools`. Absent: that of the shipped
    /// table, else `high`. Default: none.
    pub less_thinking_up_to: Option<Effort>,
    /// Other models whose thinking blocks this one reads. Absent: those of the shipped table, else []. Default: none.
    #[schemars(extend("x-items" = "text"))]
    pub reads_thinking_of: Option<Vec<String>>,
    /// Whether `tool_choice` may force a tool. Absent: that of the shipped table, else false. Default: none.
    pub forced_tools: Option<bool>,
    /// Whether the last message may be the assistant's. Absent: that of the shipped table, else false. Default: none.
    pub prefill: Option<bool>,
    /// Which of `temperature`, `top_p` and `top_k` are taken in version 2023-06-01. Absent: those of the shipped
    /// table, else `none`. Default: none.
    pub sampling: Option<Sampling>,
    /// Whether images are taken. Absent: that of the shipped table, else false. Default: none.
    pub images: Option<bool>,
    /// Whether documents are taken. Absent: that of the shipped table, else false. Default: none.
    pub documents: Option<bool>,
    /// Whether citations are taken. Absent: that of the shipped table, else false. Default: none.
    pub citations: Option<bool>,
    /// Whether `output_config.format` is taken. Absent: that of the shipped table, else false. Default: none.
    pub structured_output: Option<bool>,
    /// Whether tools may be `strict`. Absent: that of the shipped table, else false. Default: none.
    pub strict_tools: Option<bool>,
    /// Whether `inference_geo` is taken. Absent: that of the shipped table, else false. Default: none.
    pub geo: Option<bool>,
    /// Types of server tools that are taken, such as `web_search_20250305`. Absent: those of the shipped table,
    /// else []. Default: none.
    #[schemars(extend("x-items" = "text"))]
    pub server_tools: Option<Vec<String>>,
    /// Words of `anthropic-beta` that are taken. Absent: those of the shipped table, else []. Default: none.
    #[schemars(extend("x-items" = "text"))]
    pub betas: Option<Vec<String>>,
}

/// What a million tokens cost from a day on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["input", "output", "cache_read"]))]
pub struct PriceRow {
    /// The first day, in UTC: `2026-10-07`. Without it: from the beginning. Default: none.
    pub from: Option<Date>,
    /// A million tokens of prompt that the cache has no part in. Required.
    pub input: UsdPerMillion,
    /// A million tokens of answer. Required.
    pub output: UsdPerMillion,
    /// A million tokens written to the cache for 5 minutes. Absent: 1.25 times `input`. Default: none.
    pub cache_write_5m: Option<UsdPerMillion>,
    /// A million tokens written to the cache for an hour. Absent: twice `input`. Default: none.
    pub cache_write_1h: Option<UsdPerMillion>,
    /// A million tokens read from the cache. Required.
    pub cache_read: UsdPerMillion,
    /// Other prices for every token of a call with a long prompt. Default: none.
    pub over: Option<OverPrice>,
    /// Other prices with `speed: fast`. Without them such a call has no price. Default: none.
    pub fast: Option<FastPrice>,
}

/// What a million tokens cost in calls whose prompt is longer than a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["tokens", "input", "output", "cache_read"]))]
pub struct OverPrice {
    /// Tokens of prompt, cached ones too, above which these prices count. Required.
    #[schemars(range(min = 1))]
    pub tokens: u32,
    /// A million tokens of prompt that the cache has no part in. Required.
    pub input: UsdPerMillion,
    /// A million tokens of answer. Required.
    pub output: UsdPerMillion,
    /// A million tokens written to the cache for 5 minutes. Absent: 1.25 times `input`. Default: none.
    pub cache_write_5m: Option<UsdPerMillion>,
    /// A million tokens written to the cache for an hour. Absent: twice `input`. Default: none.
    pub cache_write_1h: Option<UsdPerMillion>,
    /// A million tokens read from the cache. Required.
    pub cache_read: UsdPerMillion,
}

/// What a million tokens cost with `speed: fast`. The cache costs as much more as `input` does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["input", "output"]))]
pub struct FastPrice {
    /// A million tokens of prompt that the cache has no part in. Required.
    pub input: UsdPerMillion,
    /// A million tokens of answer. Required.
    pub output: UsdPerMillion,
}

/// How much work a model puts into an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// The least.
    Low,
    /// In between.
    Medium,
    /// Much.
    High,
    /// Very much.
    Xhigh,
    /// The most.
    Max,
}

impl Effort {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::Low, Self::Medium, Self::High, Self::Xhigh, Self::Max];

    /// The word in the file and in a call.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.as_str() == word)
    }
}

/// What a call may say in `thinking.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingType {
    /// As much as the question needs.
    Adaptive,
    /// Up to a budget of tokens.
    Enabled,
    /// Only between the uses of tools.
    BetweenTools,
    /// None.
    Disabled,
}

impl ThinkingType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Adaptive, Self::Enabled, Self::BetweenTools, Self::Disabled];

    /// The word in the file and in a call.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Enabled => "enabled",
            Self::BetweenTools => "between_tools",
            Self::Disabled => "disabled",
        }
    }

    /// The type of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Which of `temperature`, `top_p` and `top_k` a model takes in version 2023-06-01. Later versions take none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// None of them.
    None,
    /// `temperature: 1`, alone.
    DefaultOnly,
    /// `temperature: 1` or `top_p: 0.99`, one of them alone.
    LoneDefault,
    /// `temperature` or `top_p`, not both; and `top_k`.
    Any,
}

/// The generation of a model: `5`, `4.6`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    major: u8,
    minor: u8,
}

impl Generation {
    /// A generation from its two numbers.
    #[must_use]
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// The whole number: models that share it take about the same parameters.
    #[must_use]
    pub const fn major(self) -> u8 {
        self.major
    }

    /// Reads a generation such as `4.6`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let number = |digits: &str| {
            let is_plain = digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u8>().ok().filter(|_| is_plain)
        };
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        match (number(major), number(minor)) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(ValueError::new(format!("`{text}` is not a generation of models"))
                .hint("write one or two numbers with a point between them, such as 4.6")),
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Generation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for Generation {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Generation".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^[0-9]{1,2}([.][0-9]{1,2})?$";
        // A number is text to the checker, but not to an editor.
        json_schema!({ "type": ["string", "number"], "x-kind": "generation", "pattern": pattern })
    }
}

/// A day in UTC: `2026-10-07`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(time::Date);

impl Date {
    /// A day of the calendar.
    #[must_use]
    pub const fn new(day: time::Date) -> Self {
        Self(day)
    }

    /// Reads a day such as `2026-10-07`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let number = |digits: Option<&str>, width: usize| {
            let is_plain =
                |digits: &&str| digits.len() == width && digits.bytes().all(|b| b.is_ascii_digit());
            digits.filter(is_plain).and_then(|digits| digits.parse::<u16>().ok())
        };
        let mut parts = text.split('-');
        let year = number(parts.next(), 4).filter(|year| *year >= 1970);
        let (month, day) = (number(parts.next(), 2), number(parts.next(), 2));
        let (Some(year), Some(month), Some(day), None) = (year, month, day, parts.next()) else {
            return Err(ValueError::new(format!("`{text}` is not a day"))
                .hint("write year, month and day, such as 2026-10-07"));
        };
        let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok());
        let date = month
            .zip(u8::try_from(day).ok())
            .and_then(|(month, day)| time::Date::from_calendar_date(i32::from(year), month, day).ok());
        date.map(Self).ok_or_else(|| ValueError::new(format!("day `{text}` is not in the calendar")))
    }

    /// The seconds from 1970 to the beginning of the day.
    #[must_use]
    pub fn unix_s(self) -> u64 {
        u64::try_from(self.0.midnight().assume_utc().unix_timestamp()).unwrap_or(0)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for Date {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Date".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_print_as_they_are_written() {
        for (text, unix_s) in
            [("1970-01-01", 0), ("2026-10-07", 1_791_331_200), ("2028-02-29", 1_835_395_200)]
        {
            let date = Date::parse(text).unwrap();

            assert_eq!((date.unix_s(), date.to_string().as_str()), (unix_s, text));
        }
        for text in
            ["2026-10-7", "2026/10/07", "07.10.2026", "1969-12-31", "2026-10-07T00:00", "", "+026-10-07"]
        {
            assert_eq!(Date::parse(text).unwrap_err().message, format!("`{text}` is not a day"));
        }
        for text in ["2026-02-29", "2026-13-01", "2026-00-01", "2026-01-00", "2026-04-31"] {
            assert_eq!(
                Date::parse(text).unwrap_err().message,
                format!("day `{text}` is not in the calendar")
            );
        }
    }

    #[test]
    fn generations_are_ordered_by_both_numbers() {
        let of = |text| Generation::parse(text).unwrap();

        assert!(of("4.6") < of("4.7") && of("4.9") < of("5") && of("4.9") < of("4.10"));
        assert_eq!((of("5").to_string(), of("4.6").major()), ("5.0".to_owned(), 4));
        for text in ["", "4.", ".5", "4.6.1", "v4", "256", "+4", "4.-1"] {
            assert!(Generation::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_word_is_read_back() {
        for effort in Effort::ALL {
            assert_eq!(Effort::from_word(effort.as_str()), Some(effort));
            assert_eq!(serde_json::to_value(effort).unwrap(), effort.as_str());
        }
        for kind in ThinkingType::ALL {
            assert_eq!(ThinkingType::from_word(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn an_entry_survives_being_written_and_read() {
        let text = r#"{ "claude-new-6": { "generation": "6", "context": 1000000, "max_output": 64000, "prices": [
            { "from": "2026-10-07", "input": "2usd", "output": "10usd", "cache_read": "0.1usd",
              "over": { "tokens": 100000, "input": "4usd", "output": "20usd", "cache_read": "0.2usd" },
              "fast": { "input": "8usd", "output": "40usd" } } ],
            "thinking": ["adaptive", "between_tools"], "sampling": "default_only", "efforts": ["low", "xhigh"] } }"#;

        let models: Models = serde_json::from_str(text).unwrap();
        let entry = models.get("claude-new-6").unwrap();

        assert_eq!(entry.prices[0].over.as_ref().unwrap().input.picos_per_token(), 4_000_000);
        assert_eq!(entry.prefill, None);
        let written = serde_json::to_string(&models).unwrap();
        assert_eq!(serde_json::from_str::<Models>(&written).unwrap(), models);
        let error = serde_json::from_str::<Models>(r#"{ "m": { "price": [] } }"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `price`"), "{error}");
    }
}
