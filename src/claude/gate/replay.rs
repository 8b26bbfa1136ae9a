//! Conversations replayed under several policies, with seeded chances: does the gate lose, and what does caching win?
//!
//! The traffic is assumed, not measured: five mixes of messages, three lengths of system prompt, three lengths of
//! conversation, replies after about a minute or about seven: 90 settings. Every policy gets the better lifetime of
//! the cache in each. Nothing thinks. Prices, cache and gate are the real ones.

use std::collections::BTreeMap;

use super::{Direction, Gate, Move, Traffic};
use crate::{
    claude::{
        catalog::{Catalog, Model},
        cost::{Mark, Prompt, Simulated, Terms, Ttl, cost},
        money::{MicroUsd, PicoUsd},
    },
    config::Models,
};

/// 2026-11-23, in seconds since 1970.
const NOW: u64 = 1_795_392_000;
/// The shipped settings.
const GATE: Gate = Gate { min_saving_ppm: 50_000, max_extra: MicroUsd::new(250_000) };
/// Conversations of each setting.
const CONVERSATIONS: u64 = 20;
/// Percent of messages that are small talk, and that are assessments.
const MIXES: [(u64, u64); 5] = [(20, 2), (35, 2), (30, 5), (45, 5), (30, 10)];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Policy {
    Sonnet,
    SonnetCached,
    TwoTiersCached,
    TwoTiersGated,
    ThreeTiers,
    ThreeTiersCached,
}

impl Policy {
    const ALL: [Self; 6] = [
        Self::Sonnet,
        Self::SonnetCached,
        Self::TwoTiersCached,
        Self::TwoTiersGated,
        Self::ThreeTiers,
        Self::ThreeTiersCached,
    ];

    fn is_cached(self) -> bool {
        !matches!(self, Self::Sonnet | Self::ThreeTiers)
    }
}

/// What the next answer has to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    SmallTalk,
    Coaching,
    Assessment,
}

#[derive(Clone, Copy)]
struct Setting {
    mix: (u64, u64),
    system: u64,
    turns: usize,
    mean_gap_s: u64,
}

/// A small generator (splitmix64), so that every run sees the same chances.
struct Chances(u64);

impl Chances {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A gap of exponential distribution, in seconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    fn gap_s(&mut self, mean_s: u64) -> u64 {
        let uniform = (self.below(1_000_000) + 1) as f64 / 1_000_001.0;
        (-uniform.ln() * mean_s as f64).round() as u64
    }
}

struct Turn {
    kind: Kind,
    gap_s: u64,
    asked: u64,
    answered: u64,
}

fn turns(setting: Setting, chances: &mut Chances) -> Vec<Turn> {
    (0..setting.turns)
        .map(|_| {
            let (small, assessments) = setting.mix;
            let kind = match chances.below(100) {
                chance if chance < small => Kind::SmallTalk,
                chance if chance >= 100 - assessments => Kind::Assessment,
                _ => Kind::Coaching,
            };
            let answered = match kind {
                Kind::SmallTalk => 60,
                Kind::Coaching => 350,
                Kind::Assessment => 900,
            };
            Turn { kind, gap_s: chances.gap_s(setting.mean_gap_s), asked: 20 + chances.below(60), answered }
        })
        .collect()
}

/// One conversation under one policy.
struct Replay<'a> {
    catalog: &'a Catalog,
    policy: Policy,
    ttl: Ttl,
    setting: Setting,
    cache: Simulated,
    /// Prefixes so far, with their tokens.
    boundaries: Vec<(u128, u64)>,
    /// The end of the last prefix that Sonnet has cached, and when it used it.
    warm: Option<(u64, u64)>,
}

impl Replay<'_> {
    fn model(&self, name: &str) -> &Model {
        self.catalog.find(name).unwrap()
    }

    fn run(&mut self, turns: &[Turn]) -> PicoUsd {
        let mut now_s = NOW;
        let mut spent = PicoUsd::ZERO;
        self.boundaries.push((0, self.setting.system));
        for turn in turns {
            now_s += turn.gap_s;
            self.grow(turn.asked);
            spent += self.call(turn, now_s);
            self.grow(turn.answered);
        }
        spent
    }

    fn grow(&mut self, tokens: u64) {
        let (last, whole) = *self.boundaries.last().unwrap();
        self.boundaries.push((last + 1, whole + tokens));
    }

    fn call(&mut self, turn: &Turn, now_s: u64) -> PicoUsd {
        let whole = self.boundaries.last().unwrap().1;
        let name = match (self.policy, turn.kind) {
            (Policy::Sonnet | Policy::SonnetCached, _) | (_, Kind::Coaching) => "claude-sonnet-5-5",
            (Policy::TwoTiersGated, Kind::SmallTalk) if !self.pays(turn, now_s) => "claude-sonnet-5-5",
            (_, Kind::SmallTalk) => "claude-haiku-5-5",
            (Policy::TwoTiersCached | Policy::TwoTiersGated, Kind::Assessment) => "claude-sonnet-5-5",
            (_, Kind::Assessment) => "claude-opus-5-5",
        };
        // A visit to the economy tier has no breakpoint.
        let is_marked = self.policy.is_cached() && name != "claude-haiku-5-5";
        let ttl = self.ttl;
        let marks = [0, self.boundaries.len() - 1].map(|boundary| Mark { boundary, ttl });
        let marks = if is_marked { &marks[..] } else { &[] };
        let prompt = Prompt { boundaries: &self.boundaries, marks, tokens: whole, output: turn.answered };
        let model = self.catalog.find(name).unwrap();
        let tokens = self.cache.charge(model, &prompt, now_s);
        if name == "claude-sonnet-5-5" {
            self.warm = Some((whole, now_s));
        }
        cost(model.price_at(now_s).unwrap(), &tokens, Terms::default()).unwrap()
    }

    /// What the gate says about small talk on Haiku.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a million")]
    fn pays(&self, turn: &Turn, now_s: u64) -> bool {
        let whole = self.boundaries.last().unwrap().1;
        let life_s = self.ttl.seconds();
        let elapsed_s = self.warm.map_or(u64::MAX, |(_, used_s)| now_s - used_s);
        let within = |seconds: u64| 1.0 - (-(seconds as f64) / self.setting.mean_gap_s as f64).exp();
        let lost = within(life_s) - within(life_s.saturating_sub(elapsed_s));
        let prefix = self.warm.map_or(0, |(tokens, _)| tokens);
        let traffic = Traffic {
            prefix,
            is_warm: elapsed_s < life_s,
            fresh: whole - prefix,
            output: turn.answered,
            target_warm: 0,
            stay_ttl: Some(self.ttl),
            target_ttl: None,
            return_ppm: 1_000_000,
            expiry_ppm: (lost * 1e6) as u32,
        };
        let (stay, target) = (self.model("claude-sonnet-5-5"), self.model("claude-haiku-5-5"));
        GATE.decide(&Move { stay, target, direction: Direction::Down, now_s, traffic }).unwrap().moves
    }
}

/// What each policy costs in a setting, with the better lifetime.
fn costs(catalog: &Catalog, setting: Setting, seed: u64) -> BTreeMap<Policy, i128> {
    let conversations: Vec<Vec<Turn>> =
        (0..CONVERSATIONS).map(|number| turns(setting, &mut Chances(seed * 1_000 + number))).collect();
    let of = |policy, ttl| {
        let spent = conversations.iter().map(|turns| {
            let (cache, boundaries) = (Simulated::new(1_000), Vec::new());
            Replay { catalog, policy, ttl, setting, cache, boundaries, warm: None }.run(turns)
        });
        spent.sum::<PicoUsd>().picos()
    };
    Policy::ALL
        .into_iter()
        .map(|policy| (policy, of(policy, Ttl::FiveMinutes).min(of(policy, Ttl::OneHour))))
        .collect()
}

fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for mix in MIXES {
        for system in [1_000, 2_500, 8_000] {
            for turns in [6, 16, 40] {
                settings.extend([60, 420].map(|mean_gap_s| Setting { mix, system, turns, mean_gap_s }));
            }
        }
    }
    settings
}

/// What one policy costs against another in each setting, per thousand.
fn shares(all: &[BTreeMap<Policy, i128>], of: Policy, against: Policy) -> Vec<i128> {
    let mut shares: Vec<i128> = all.iter().map(|costs| costs[&of] * 1_000 / costs[&against]).collect();
    shares.sort_unstable();
    shares
}

#[test]
fn breakpoints_matter_more_than_tiers_and_the_gate_never_loses() {
    let catalog = Catalog::compile(&Models::new()).unwrap();
    let all: Vec<BTreeMap<Policy, i128>> =
        settings().into_iter().zip(1..).map(|(setting, seed)| costs(&catalog, setting, seed)).collect();
    let median = |of| shares(&all, of, Policy::Sonnet)[all.len() / 2];
    let mean = |of, against| shares(&all, of, against).iter().sum::<i128>() / 90;

    let by_cost = [
        Policy::TwoTiersGated,
        Policy::SonnetCached,
        Policy::ThreeTiersCached,
        Policy::ThreeTiers,
        Policy::Sonnet,
    ];
    assert_eq!(all.len(), 90);
    let medians = by_cost.map(median);
    assert!(medians.is_sorted(), "{medians:?}");
    assert!(median(Policy::TwoTiersGated) < 400, "a router that prices the cache saves more than 60 %");
    let against_three = shares(&all, Policy::SonnetCached, Policy::ThreeTiersCached);
    assert!(against_three.iter().filter(|share| **share < 1_000).count() >= 80, "{against_three:?}");
    let gated = shares(&all, Policy::TwoTiersGated, Policy::SonnetCached);
    assert!(gated.iter().all(|share| *share <= 1_000), "moves that pay lose in no setting: {gated:?}");
    let ungated = shares(&all, Policy::TwoTiersCached, Policy::SonnetCached);
    assert!(ungated.iter().any(|share| *share > 1_010), "moves at any price lose in some: {ungated:?}");
    assert!(mean(Policy::TwoTiersGated, Policy::TwoTiersCached) <= 1_000);
}
