//! Who talks to whom, when and about what: conversations made of the labelled messages, with seeded chances.

use std::path::Path;

use serde::Deserialize;

/// What a coach says at length; it is no offer, no question and no work on results.
const ADVICE: [&str; 8] = [
    "Small steps count more than big plans, and the one from this morning counts too.",
    "Most people feel like that in a room full of strangers, whatever their faces show.",
    "Keep your shoulders loose, look up, and let the first sentence be an easy one.",
    "It helps to notice one thing in the room and to say it out loud, as plainly as you can.",
    "A pause is no failure; it gives the other person the time to come closer.",
    "Practise it first where nothing depends on it, with the barista or the neighbour.",
    "What went well last week shows that the direction is right, so stay with it for now.",
    "Write it down tonight in two lines, and leave it alone until the morning.",
];

/// What the backend tells the coach to be.
const MANNERS: [&str; 6] = [
    "Be warm and concrete, and keep to plain words.",
    "Answer in the language of the user, and keep the tone of a good friend.",
    "Prefer one small step to a long list, and say why it may help.",
    "Never make up facts about the user, and never promise what the app cannot do.",
    "Use no headings, no tables and no emojis, and end without a summary.",
    "Mention the app's own lessons only where they fit what was said.",
];

/// A setting: the mix, the system prompt, the length, the speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Setting {
    /// Percent of small talk, and of assessments.
    pub(super) mix: (u64, u64),
    /// Tokens of the system prompt.
    pub(super) system: u64,
    pub(super) turns: usize,
    /// The mean time to a reply.
    pub(super) mean_gap_s: u64,
}

/// A third of the 90 settings of the model, in which every value of each meets every value of the others.
pub(super) fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for (system, first) in [1_000, 2_500, 8_000].into_iter().zip(0..) {
        for (mean_gap_s, second) in [60, 420].into_iter().zip(0..) {
            for (mix, third) in [(20, 2), (35, 2), (30, 5), (45, 5), (30, 10)].into_iter().zip(0..) {
                let turns = [6, 16, 40][(first + second + third) % 3];
                settings.push(Setting { mix, system, turns, mean_gap_s });
            }
        }
    }
    settings
}

/// A small generator (splitmix64), so that every run sees the same chances.
pub(super) struct Chances(pub(super) u64);

impl Chances {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// A time of exponential distribution, in milliseconds; nobody answers in less than three seconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    fn gap_ms(&mut self, mean_s: u64) -> u64 {
        let uniform = (self.below(1_000_000) + 1) as f64 / 1_000_001.0;
        (-uniform.ln() * mean_s as f64 * 1_000.0).round().max(3_000.0) as u64
    }
}

#[derive(Deserialize)]
struct Item {
    messages: Vec<Said>,
    #[serde(rename = "type")]
    kind: String,
    tier: String,
    serious: bool,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

/// The labelled messages by what the next answer has to do.
pub(super) struct Data {
    light: Vec<Item>,
    advice: Vec<Item>,
    serious: Vec<Item>,
    assessments: Vec<Item>,
}

impl Data {
    pub(super) fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/router/train.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        let mut data =
            Self { light: Vec::new(), advice: Vec::new(), serious: Vec::new(), assessments: Vec::new() };
        for line in text.lines() {
            let item: Item = serde_json::from_str(line).unwrap();
            // Jobs of a backend are no part of a conversation.
            if item.kind == "other" || item.messages.last().is_none_or(|said| said.role != "user") {
                continue;
            }
            match (item.tier.as_str(), item.serious) {
                ("economy", _) => data.light.push(item),
                ("premium", _) => data.assessments.push(item),
                (_, true) => data.serious.push(item),
                (_, false) => data.advice.push(item),
            }
        }
        data
    }
}

/// One turn of a conversation.
pub(super) struct Turn {
    /// Since the answer before it.
    pub(super) gap_ms: u64,
    /// What the coach says last before it, where that matters.
    pub(super) coach: Option<String>,
    pub(super) user: String,
    /// Tokens of the answer.
    pub(super) answered: u64,
}

/// A conversation before anybody answers it.
pub(super) struct Talk {
    pub(super) setting: Setting,
    pub(super) number: usize,
    pub(super) start_ms: u64,
    /// Whether the system prompt is sent as a block, which can be marked.
    pub(super) has_blocks: bool,
    pub(super) turns: Vec<Turn>,
}

impl Talk {
    pub(super) fn new(data: &Data, setting: Setting, number: usize) -> Self {
        let mut chances = Chances(number as u64 * 7_919 + 11);
        let turns = (0..setting.turns).map(|_| turn(data, setting, &mut chances)).collect();
        // Starts are spread over two hours.
        let start_ms = chances.below(7_200_000);
        Self { setting, number, start_ms, has_blocks: number % 2 == 1, turns }
    }
}

fn turn(data: &Data, setting: Setting, chances: &mut Chances) -> Turn {
    let (light, assessments) = setting.mix;
    let (items, answered) = match chances.below(100) {
        chance if chance < light => (&data.light, 60),
        chance if chance >= 100 - assessments => (&data.assessments, 900),
        // Three in a hundred are serious.
        chance if chance >= 97 - assessments => (&data.serious, 350),
        _ => (&data.advice, 350),
    };
    let item = chances.one_of(items);
    let coach = item.messages.iter().rev().nth(1).filter(|said| said.role == "assistant");
    Turn {
        gap_ms: chances.gap_ms(setting.mean_gap_s),
        coach: coach.map(|said| said.content.clone()),
        user: item.messages.last().unwrap().content.clone(),
        answered: answered * (80 + chances.below(41)) / 100,
    }
}

/// A system prompt of so many tokens.
pub(super) fn system(tokens: u64) -> String {
    let mut text = "You are the coach inside a confidence app.".to_owned();
    for (number, manner) in (1..).zip(MANNERS.iter().cycle()) {
        if tokens_of(&text) >= tokens {
            break;
        }
        text.push_str(&format!(" {number}. {manner}"));
    }
    text
}

/// An answer of so many tokens, with what the coach says last.
pub(super) fn answer(tokens: u64, number: usize, coach: Option<&str>) -> String {
    let coach = coach.unwrap_or_default();
    let mut text = String::new();
    for advice in ADVICE.iter().cycle().skip(number % ADVICE.len()) {
        if tokens_of(&text) + tokens_of(coach) >= tokens {
            break;
        }
        text.push_str(advice);
        text.push(' ');
    }
    text.push_str(coach);
    text.trim_end().to_owned()
}

/// Tokens of a text as the provider counts them. The plane does not know this and learns it from usage.
pub(super) fn tokens_of(text: &str) -> u64 {
    let plain = text.bytes().filter(u8::is_ascii).count();
    let others = text.len() - plain;
    (plain * 10 / 37 + others * 10 / 22) as u64
}
