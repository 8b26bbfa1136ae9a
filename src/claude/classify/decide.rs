//! From signals to a verdict: steps 5 to 9 of the decision. A pure function of the scene, the model's scores and the
//! settings. Whenever signals disagree the answer is standard.

use super::lexicon::{Hits, Lexicon};
use super::model::{CLASSES, EMOTIONAL_SUPPORT, Scores};
use super::scene::Scene;
use super::settings::{Settings, SystemDecision};
use crate::config::{MessageType, ModelTier};

/// From this probability of the serious flag on economy is barred, for the turns that follow as well. Chosen together with
/// the threshold on cross-validation by author: the fewest serious items in economy at a precision of 95 %.
const SERIOUS_BAR: f32 = 0.2;

/// From this probability on the premium tier is worth its price. At even odds one visit in eleven is for nothing, and the
/// visit reads the whole conversation at twice the price.
const PREMIUM_BAR: f32 = 0.5;

/// From this score on the model is believed where a rule speaks against economy: then the rule is wrong more often.
const SURE: f32 = 0.6;

/// Why a verdict is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A rule for the system prompt.
    SystemRule,
    /// It would be economy but for a serious turn.
    Serious,
    /// The next answer works on the user's own results.
    Assessment,
    /// A rule and the model agree on economy.
    TwoSignals,
    /// The type decides.
    Type(MessageType),
    /// The signals disagree.
    Unknown,
}

impl Reason {
    /// The word in labels and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SystemRule => "system_rule",
            Self::Serious => "serious",
            Self::Assessment => "assessment",
            Self::TwoSignals => "two_signals",
            Self::Type(kind) => kind.as_str(),
            Self::Unknown => "unknown",
        }
    }
}

/// What says that an exchange is serious.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriousBy {
    /// A serious word of the user.
    Words,
    /// The coach has spoken of danger or loss.
    Coach,
    /// The system prompt remembers something serious.
    Memory,
    /// The model.
    Model,
}

impl SeriousBy {
    /// The word in explanations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Coach => "coach",
            Self::Memory => "memory",
            Self::Model => "model",
        }
    }
}

/// What came of the question whether the turn may go to economy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Economy {
    /// It may.
    Agreed,
    /// A serious turn bars it.
    Barred,
    /// The last user turn is too long.
    LongTurn,
    /// The history is too long.
    LongHistory,
    /// The type is not one of economy.
    OtherType,
    /// The probability is below the threshold.
    Unlikely,
    /// A rule speaks against it.
    RuleObjects,
}

impl Economy {
    /// The word in explanations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Barred => "barred",
            Self::LongTurn => "long_turn",
            Self::LongHistory => "long_history",
            Self::OtherType => "other_type",
            Self::Unlikely => "unlikely",
            Self::RuleObjects => "rule_objects",
        }
    }
}

/// What led to a verdict; nothing in it quotes the exchange.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signals {
    /// What the model says.
    pub scores: Scores,
    /// What says that the exchange is serious.
    pub serious_by: Option<SeriousBy>,
    /// In which user turn a serious word stands, counted back from the last one.
    pub serious_turn: Option<usize>,
    /// What came of the question of economy.
    pub economy: Economy,
    /// Whether the turn is a short acceptance of something the coach offered.
    pub accepts_offer: bool,
    /// Words of the last user turn, about.
    pub last_words: usize,
    /// Words before it, about.
    pub history_words: usize,
    /// Turns.
    pub turns: usize,
    /// The place of the system rule that decided.
    pub system_rule: Option<usize>,
}

/// What the router says of an exchange.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// What the next answer has to do.
    pub kind: MessageType,
    /// The tier for it.
    pub tier: ModelTier,
    /// Why.
    pub reason: Reason,
    /// Whether economy is barred, now and for the turns that follow.
    pub bars_economy: bool,
    /// What led to it.
    pub signals: Signals,
}

/// The lists that the rules read, as sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lists {
    serious: Hits,
    crisis: Hits,
    memory: Hits,
    accept: Hits,
    decline: Hits,
    offer: Hits,
    results: Hits,
    reading: Hits,
    sorrow: Hits,
    closed: Hits,
}

impl Lists {
    /// Finds them.
    #[must_use]
    pub(super) fn find(lexicon: &Lexicon) -> Self {
        let set = |names: &[&str]| {
            names.iter().filter_map(|name| lexicon.list(name)).fold(Hits::default(), Hits::and)
        };
        Self {
            serious: set(&["serious"]),
            crisis: set(&["coach_crisis", "serious"]),
            memory: set(&["system_memory"]),
            accept: set(&["accept"]),
            decline: set(&["decline"]),
            offer: set(&["shall_offer"]),
            results: set(&["assess_word", "type_name", "plan_word", "trait"]),
            reading: set(&["ask_meaning", "verdict", "type_name", "trait"]),
            sorrow: set(&["emotion", "sadness"]),
            closed: set(&[
                "accept",
                "thanks",
                "bye",
                "hello",
                "laugh",
                "done",
                "positive",
                "home_life",
                "verdict",
            ]),
        }
    }
}

/// Decides.
#[must_use]
pub(super) fn decide(
    scene: &Scene,
    scores: Scores,
    lists: Lists,
    settings: &Settings,
    rule: Option<(usize, SystemDecision)>,
) -> Verdict {
    let (serious_by, serious_turn) = serious(scene, &scores, lists, settings.after_serious);
    let barred = serious_by.is_some();
    let tiers = tier_scores(&scores);
    let best = scores.class();
    let accepts_offer = accepts(scene, lists);
    let economy = if barred { Economy::Barred } else { economy(scene, &scores, settings, lists) };
    let mut signals = Signals {
        scores,
        serious_by,
        serious_turn,
        economy,
        accepts_offer,
        last_words: scene.last.counts.words,
        history_words: scene.history_words,
        turns: scene.turns,
        system_rule: None,
    };
    let verdict = |kind, tier, reason, signals| Verdict { kind, tier, reason, bars_economy: barred, signals };
    if let Some((place, decision)) = rule {
        signals.system_rule = Some(place);
        let (kind, tier) = match decision {
            SystemDecision::Tier(tier) => (kind_of(&scores, settings, tier), tier),
            SystemDecision::Type(kind) => (kind, settings.types[kind.index()]),
        };
        return if barred && tier == ModelTier::Economy {
            verdict(kind, ModelTier::Standard, Reason::Serious, signals)
        } else {
            verdict(kind, tier, Reason::SystemRule, signals)
        };
    }
    if tiers[2] >= PREMIUM_BAR {
        let kind = MessageType::Assessment;
        let tier = settings.types[kind.index()];
        let tier = if barred { tier.max(ModelTier::Standard) } else { tier };
        return verdict(kind, tier, Reason::Assessment, signals);
    }
    if economy == Economy::Agreed {
        let kind = kind_of(&scores, settings, ModelTier::Economy);
        return verdict(kind, ModelTier::Economy, Reason::TwoSignals, signals);
    }
    let kind = kind_of(&scores, settings, ModelTier::Standard);
    let (top, _) = CLASSES[best];
    let tier = settings.types[kind.index()].max(ModelTier::Standard);
    let reason = if economy == Economy::Barred && tiers[0] > tiers[1] {
        Reason::Serious
    } else if top == kind && kind != MessageType::Unknown {
        Reason::Type(kind)
    } else {
        Reason::Unknown
    };
    verdict(kind, tier, reason, signals)
}

/// The likeliest type of a tier.
fn kind_of(scores: &Scores, settings: &Settings, tier: ModelTier) -> MessageType {
    let mut best: Option<(f32, MessageType)> = None;
    for (&score, &(kind, class_tier)) in scores.classes.iter().zip(&CLASSES) {
        let mapped = if kind == MessageType::Unknown { class_tier } else { settings.types[kind.index()] };
        if mapped == tier && best.is_none_or(|(top, _)| score > top) {
            best = Some((score, kind));
        }
    }
    best.map_or(MessageType::Unknown, |(_, kind)| kind)
}

/// The model's probability of each tier: the mean of the tier head and of the type head's classes.
#[must_use]
pub fn tier_scores(scores: &Scores) -> [f32; 3] {
    let mut tiers = scores.tiers;
    for (score, (_, tier)) in scores.classes.iter().zip(&CLASSES) {
        tiers[tier.index()] += score;
    }
    tiers.map(|sum| sum / 2.0)
}

/// How far the model is for economy: the probability of the tier, of no need of comfort and of nothing serious, which
/// counts twice.
fn economy_score(scores: &Scores) -> f32 {
    let harmless = 1.0 - scores.serious;
    tier_scores(scores)[0] * harmless * harmless * (1.0 - scores.classes[EMOTIONAL_SUPPORT])
}

/// Whether the exchange is serious, and which user turn says so.
fn serious(
    scene: &Scene,
    scores: &Scores,
    lists: Lists,
    after_serious: usize,
) -> (Option<SeriousBy>, Option<usize>) {
    if scene.last.hits.meets(lists.serious) {
        return (Some(SeriousBy::Words), Some(0));
    }
    let earlier = scene.earlier.iter().take(after_serious).position(|turn| turn.hits.meets(lists.serious));
    if let Some(place) = earlier {
        return (Some(SeriousBy::Words), Some(place + 1));
    }
    if scene.coach.hits.with(scene.coach_before).meets(lists.crisis) {
        return (Some(SeriousBy::Coach), None);
    }
    if scene.system.hits.meets(lists.serious) && scene.system.hits.meets(lists.memory) {
        return (Some(SeriousBy::Memory), None);
    }
    let by_model = (scores.serious >= SERIOUS_BAR).then_some(SeriousBy::Model);
    (by_model, None)
}

/// Whether the two signals agree on economy.
fn economy(scene: &Scene, scores: &Scores, settings: &Settings, lists: Lists) -> Economy {
    let (kind, class_tier) = CLASSES[scores.class()];
    let mapped = if kind == MessageType::Unknown { class_tier } else { settings.types[kind.index()] };
    let score = economy_score(scores);
    if scene.last.tokens.is_empty() {
        Economy::RuleObjects
    } else if scene.last.counts.words > settings.max_words
        || scene.last.counts.bytes > settings.max_words * 16
    {
        Economy::LongTurn
    } else if scene.history_words > settings.max_history_words {
        Economy::LongHistory
    } else if mapped != ModelTier::Economy {
        Economy::OtherType
    } else if is_bare(scene, lists) {
        Economy::Agreed
    } else if score < settings.threshold {
        Economy::Unlikely
    } else if score < SURE && objects(scene, kind, lists) {
        Economy::RuleObjects
    } else {
        Economy::Agreed
    }
}

/// Whether there is nothing but a greeting, a thank-you or an "ok", and nothing before it.
fn is_bare(scene: &Scene, lists: Lists) -> bool {
    let last = &scene.last;
    scene.turns == 1
        && last.counts.words <= 3
        && last.hits.meets(lists.closed)
        && last.hits.within(lists.closed)
}

/// What speaks against economy where the model is not sure: a short answer to an offer to work on results, talk of what results
/// mean, or small talk with a sad word in it.
fn objects(scene: &Scene, kind: MessageType, lists: Lists) -> bool {
    let (last, coach) = (scene.last.hits, scene.coach.hits);
    let practical = kind == MessageType::Logistics;
    let declines = last.meets(lists.decline);
    let offered = coach.meets(lists.offer) && coach.meets(lists.results) && scene.last.counts.words <= 12;
    let about_results = last.with(coach).meets(lists.results) && last.meets(lists.reading);
    (offered && !practical && !declines)
        || (about_results && !practical)
        || (kind == MessageType::SmallTalk && last.meets(lists.sorrow))
}

/// Whether the last turn is a short acceptance of something that the coach has offered.
fn accepts(scene: &Scene, lists: Lists) -> bool {
    let (last, coach) = (scene.last.hits, scene.coach.hits);
    scene.last.counts.words <= 6
        && last.meets(lists.accept)
        && !last.meets(lists.decline)
        && coach.meets(lists.offer)
        && scene.coach.counts.ends_asking
}
