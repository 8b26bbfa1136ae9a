//! `claude.router`: how the tier of a call is chosen.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    share::Share,
    tier::{MessageType, ModelTier},
    units::{self, Time},
};

/// How the tier of a call is chosen: what the next answer has to do gives a type, and the type a tier.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Router {
    /// The tier of each type of message.
    pub types: Types,
    /// Words that are added to the shipped lists.
    pub words: Words,
    /// A model that is asked where the signals disagree.
    pub judge: Judge,
    /// When the economy tier is taken.
    pub economy: Economy,
    /// Rules for system prompts; the first that matches wins. Default: [].
    pub systems: Vec<SystemRule>,
    /// The text of users as the backend sends it.
    pub user_text: UserText,
}

/// The tier of each type of message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Types {
    /// Say hello back. Default: economy.
    pub greeting: ModelTier,
    /// Chat: jokes, weather, sport, pets. Default: economy.
    pub small_talk: ModelTier,
    /// Close a settled point. Default: economy.
    pub confirmation: ModelTier,
    /// Answer something practical: times, settings, billing. Default: economy.
    pub logistics: ModelTier,
    /// Advise. Default: standard.
    pub coaching: ModelTier,
    /// Help with a practice challenge. Default: standard.
    pub challenge_guidance: ModelTier,
    /// Choose, word or break down a goal. Default: standard.
    pub goal_setting: ModelTier,
    /// Listen or comfort. Default: standard.
    pub emotional_support: ModelTier,
    /// Anything else. Never means economy by itself. Default: standard.
    pub unknown: ModelTier,
    /// Score, interpret or compare results, or plan from them. Default: premium.
    pub assessment: ModelTier,
}

impl Types {
    /// The tier of a type.
    #[must_use]
    pub const fn of(&self, kind: MessageType) -> ModelTier {
        match kind {
            MessageType::Greeting => self.greeting,
            MessageType::SmallTalk => self.small_talk,
            MessageType::Confirmation => self.confirmation,
            MessageType::Logistics => self.logistics,
            MessageType::Coaching => self.coaching,
            MessageType::ChallengeGuidance => self.challenge_guidance,
            MessageType::GoalSetting => self.goal_setting,
            MessageType::EmotionalSupport => self.emotional_support,
            MessageType::Assessment => self.assessment,
            MessageType::Unknown => self.unknown,
        }
    }
}

impl Default for Types {
    fn default() -> Self {
        let (economy, standard) = (ModelTier::Economy, ModelTier::Standard);
        Self {
            greeting: economy,
            small_talk: economy,
            confirmation: economy,
            logistics: economy,
            coaching: standard,
            challenge_guidance: standard,
            goal_setting: standard,
            emotional_support: standard,
            unknown: standard,
            assessment: ModelTier::Premium,
        }
    }
}

/// Words that are added to the shipped lists, or take their place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Words {
    /// Words and phrases of small talk. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub small_talk: Vec<String>,
    /// Words and phrases that bar the economy tier. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub serious: Vec<String>,
    /// The lists that replace the shipped ones instead of adding to them. Default: [].
    pub replace: Vec<WordList>,
}

/// A list of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WordList {
    /// `small_talk`.
    SmallTalk,
    /// `serious`.
    Serious,
}

/// When the economy tier is taken: a rule and the embedded classifier must both say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Economy {
    /// The least probability that the classifier gives the economy tier. Default: 56%.
    pub threshold: Share,
    /// The longest user turn, in words. Default: 120.
    pub max_words: u32,
    /// The longest history, in words. Default: 4000.
    pub max_history_words: u32,
}

impl Default for Economy {
    fn default() -> Self {
        Self { threshold: Share::percent(56), max_words: 120, max_history_words: 4000 }
    }
}

/// A rule for calls whose system prompt contains a text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SystemRule {
    /// A text that the system prompt contains, upper and lower case alike. Default: none.
    #[schemars(extend("x-kind" = "text"))]
    pub contains: Option<String>,
    /// A regular expression that the system prompt matches; it runs in linear time. Default: none.
    #[schemars(extend("x-kind" = "text"))]
    pub regex: Option<String>,
    /// The tier of such calls. Serious turns are still kept out of the economy tier. Default: none.
    pub tier: Option<ModelTier>,
    /// The type of such calls, whose tier `types` has. Default: none.
    #[serde(rename = "type")]
    pub kind: Option<MessageType>,
}

/// The text of users as the backend sends it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserText {
    /// Texts that the backend puts round the words of its users; they are ignored in deciding. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub strip: Vec<String>,
}

/// A model that is asked for the type of a turn where the signals disagree, with the client's own credential. Its tokens
/// are in the books. It is not asked about serious turns, nor in `claude.mode: observe` and `off`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Judge {
    /// The model, such as `claude-haiku-5-5`. Empty: none is asked. Default: empty.
    pub model: String,
    /// How long its verdict is waited for; then the call is standard. Default: 800ms.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub deadline: Duration,
    /// The largest share of calls that it is asked about. Default: 20%.
    pub max_share: Share,
}

impl Default for Judge {
    fn default() -> Self {
        Self { model: String::new(), deadline: Duration::from_millis(800), max_share: Share::percent(20) }
    }
}
