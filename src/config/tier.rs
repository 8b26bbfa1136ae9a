//! The words of the Claude plane that the file, the code, metrics and answers share: tiers of models and types of
//! messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How capable, and how dear, the model of a call is. Ordered from cheap to dear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelTier {
    /// Small talk, greetings, confirmations, practical questions.
    Economy,
    /// Coaching, and everything that is not known to be something else.
    Standard,
    /// Assessments.
    Premium,
}

impl ModelTier {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All tiers, the cheapest first.
    pub const ALL: [Self; 3] = [Self::Economy, Self::Standard, Self::Premium];

    /// The word in the file, in labels and in headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Economy => "economy",
            Self::Standard => "standard",
            Self::Premium => "premium",
        }
    }

    /// The tier of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == word)
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The next cheaper one.
    #[must_use]
    pub const fn cheaper(self) -> Option<Self> {
        match self {
            Self::Economy => None,
            Self::Standard => Some(Self::Economy),
            Self::Premium => Some(Self::Standard),
        }
    }
}

/// What the next answer has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// Say hello back.
    Greeting,
    /// Chat: jokes, weather, sport, pets.
    SmallTalk,
    /// Close a settled point.
    Confirmation,
    /// Answer something practical: times, settings, billing.
    Logistics,
    /// Advise on dating, texting, social life, work.
    Coaching,
    /// Help before, during or after a practice challenge.
    ChallengeGuidance,
    /// Choose, shrink, stretch, word or break down a goal.
    GoalSetting,
    /// Listen or comfort.
    EmotionalSupport,
    /// Score, interpret or compare results, or plan from them.
    Assessment,
    /// Anything else, and whatever the signals do not agree on.
    Unknown,
}

impl MessageType {
    /// All types.
    pub const ALL: [Self; 10] = [
        Self::Greeting,
        Self::SmallTalk,
        Self::Confirmation,
        Self::Logistics,
        Self::Coaching,
        Self::ChallengeGuidance,
        Self::GoalSetting,
        Self::EmotionalSupport,
        Self::Assessment,
        Self::Unknown,
    ];

    /// The word in the file, in labels and in headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::SmallTalk => "small_talk",
            Self::Confirmation => "confirmation",
            Self::Logistics => "logistics",
            Self::Coaching => "coaching",
            Self::ChallengeGuidance => "challenge_guidance",
            Self::GoalSetting => "goal_setting",
            Self::EmotionalSupport => "emotional_support",
            Self::Assessment => "assessment",
            Self::Unknown => "unknown",
        }
    }

    /// The type of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::{MessageType, ModelTier};

    #[test]
    fn every_word_is_read_back() {
        for tier in ModelTier::ALL {
            assert_eq!(ModelTier::from_word(tier.as_str()), Some(tier));
            assert_eq!(ModelTier::ALL[tier.index()], tier);
            assert_eq!(serde_json::to_value(tier).unwrap(), tier.as_str());
        }
        for kind in MessageType::ALL {
            assert_eq!(MessageType::from_word(kind.as_str()), Some(kind));
            assert_eq!(MessageType::ALL[kind.index()], kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(ModelTier::from_word("gold"), None);
    }
}
