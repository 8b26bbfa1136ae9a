//! What a refusal of the API teaches: a model does not take a feature, for an hour.
//!
//! The table may be wrong or out of date; after a 400 on a call that was changed, the pair is not tried again until the
//! hour is over. What it holds is bounded by the models that are asked about and the closed set of features.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// How long a refusal is remembered.
const REMEMBERED_S: u64 = 3_600;
/// Models that are remembered at most. There are as many as tiers have candidates, which is far fewer.
const MOST_MODELS: usize = 64;

/// What a call may have that a model may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// The model itself: any call.
    Model,
    /// A breakpoint of ours.
    Breakpoint,
    /// `temperature`, `top_p` or `top_k`.
    Sampling,
    /// A last message of the assistant's.
    Prefill,
    /// The parameter `thinking`.
    Thinking,
    /// Thinking blocks in the history.
    ThinkingHistory,
    /// `output_config.effort`.
    Effort,
    /// A `tool_choice` that forces a tool.
    ForcedTools,
    /// Tools of any kind.
    Tools,
    /// Strict tools.
    StrictTools,
    /// Server tools.
    ServerTools,
    /// Images.
    Images,
    /// Documents.
    Documents,
    /// Citations.
    Citations,
    /// A set format of the answer.
    StructuredOutput,
    /// Words of `anthropic-beta`.
    Betas,
    /// `service_tier`.
    ServiceTier,
    /// `inference_geo`.
    Geo,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Model,
        Self::Breakpoint,
        Self::Sampling,
        Self::Prefill,
        Self::Thinking,
        Self::ThinkingHistory,
        Self::Effort,
        Self::ForcedTools,
        Self::Tools,
        Self::StrictTools,
        Self::ServerTools,
        Self::Images,
        Self::Documents,
        Self::Citations,
        Self::StructuredOutput,
        Self::Betas,
        Self::ServiceTier,
        Self::Geo,
    ];

    /// The word in logs and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Breakpoint => "breakpoint",
            Self::Sampling => "sampling",
            Self::Prefill => "prefill",
            Self::Thinking => "thinking",
            Self::ThinkingHistory => "thinking_history",
            Self::Effort => "effort",
            Self::ForcedTools => "forced_tools",
            Self::Tools => "tools",
            Self::StrictTools => "strict_tools",
            Self::ServerTools => "server_tools",
            Self::Images => "images",
            Self::Documents => "documents",
            Self::Citations => "citations",
            Self::StructuredOutput => "structured_output",
            Self::Betas => "betas",
            Self::ServiceTier => "service_tier",
            Self::Geo => "geo",
        }
    }
}

/// A set of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u32);

impl Features {
    /// The set without members.
    pub const NONE: Self = Self(0);

    /// The same set with one more.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    /// The same set with one more, where a condition holds.
    #[must_use]
    pub const fn with_if(self, feature: Feature, holds: bool) -> Self {
        if holds { self.with(feature) } else { self }
    }

    /// Whether one is in the set.
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    /// The members.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }
}

/// Pairs of model and feature that the API refused. Times are seconds since 1970.
#[derive(Debug, Default)]
pub struct Learned {
    /// The end of each refusal, by model and feature.
    until_s: Mutex<BTreeMap<String, [u64; Feature::ALL.len()]>>,
}

impl Learned {
    /// Remembers that a model refused a call with these features; without any, that it refuses every call. Which one of
    /// several was at fault is not known, so that all of them are remembered.
    pub fn refuse(&self, model: &str, features: Features, now_s: u64) {
        let features = if features == Features::NONE { features.with(Feature::Model) } else { features };
        let mut models = self.until_s.lock();
        if models.len() >= MOST_MODELS && !models.contains_key(model) {
            models.retain(|_, ends| ends.iter().any(|end| *end > now_s));
            if models.len() >= MOST_MODELS {
                models.pop_first();
            }
        }
        let ends = models.entry(model.to_owned()).or_insert([0; Feature::ALL.len()]);
        for (feature, end) in Feature::ALL.into_iter().zip(ends) {
            if features.has(feature) {
                *end = now_s.saturating_add(REMEMBERED_S);
            }
        }
    }

    /// The first of these features that a model is remembered to refuse.
    #[must_use]
    pub fn refused(&self, model: &str, features: Features, now_s: u64) -> Option<Feature> {
        let models = self.until_s.lock();
        let ends = models.get(model)?;
        let features = features.with(Feature::Model);
        let mut known = Feature::ALL.into_iter().zip(ends);
        known.find(|(feature, end)| features.has(*feature) && **end > now_s).map(|(feature, _)| feature)
    }
}
