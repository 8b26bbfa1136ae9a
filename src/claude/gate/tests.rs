//! The gate against worked examples, and its properties for any numbers.

use proptest::prelude::*;

use super::*;
use crate::{claude::catalog::Catalog, config::Models};

/// 2026-11-23, in seconds since 1970.
const NOW: u64 = 1_795_392_000;
const HAIKU: &str = "claude-haiku-5-5";
const SONNET: &str = "claude-sonnet-5-5";
const OPUS: &str = "claude-opus-5-5";
/// The shipped settings.
const GATE: Gate = Gate { min_saving_ppm: 50_000, max_extra: MicroUsd::new(250_000) };
/// A single visit that surely comes back.
const TRAFFIC: Traffic = Traffic {
    prefix: 2_500,
    is_warm: true,
    fresh: 150,
    output: 60,
    target_warm: 0,
    stay_ttl: Some(Ttl::FiveMinutes),
    target_ttl: None,
    return_ppm: ONE_PPM,
    expiry_ppm: 0,
};

fn catalog() -> Catalog {
    Catalog::compile(&Models::new()).unwrap()
}

fn decide(gate: Gate, stay: &str, target: &str, traffic: Traffic) -> Priced {
    let catalog = catalog();
    let (stay, target) = (catalog.find(stay).unwrap(), catalog.find(target).unwrap());
    let direction = if target.id == OPUS { Direction::Up } else { Direction::Down };
    gate.decide(&Move { stay, target, direction, now_s: NOW, traffic }).unwrap()
}

fn micros(amount: PicoUsd) -> i64 {
    amount.to_micros().micros()
}

#[test]
fn a_short_prefix_gains_and_a_long_one_that_may_end_loses() {
    let short = decide(GATE, SONNET, HAIKU, TRAFFIC);
    assert_eq!([short.stay, short.go, short.back, short.gain].map(micros), [1_225, 295, 360, 570]);
    assert!(short.moves);

    let long = Traffic { prefix: 10_000, expiry_ppm: 50_000, ..TRAFFIC };
    let priced = decide(GATE, SONNET, HAIKU, long);
    assert_eq!((micros(priced.gain), priced.moves), (-630, false));
}

#[test]
fn a_long_prefix_breaks_even_where_one_entry_in_42_ends() {
    let gain = |expiry_ppm| {
        micros(decide(GATE, SONNET, HAIKU, Traffic { prefix: 10_000, expiry_ppm, ..TRAFFIC }).gain)
    };

    assert!(gain(23_700) > 0 && gain(23_800) < 0, "2.4 %");
    assert_eq!(gain(23_750), 0);
}

#[test]
fn a_visit_to_premium_is_a_matter_of_quality() {
    let traffic = Traffic { prefix: 10_000, output: 350, ..TRAFFIC };
    let priced = decide(GATE, SONNET, OPUS, traffic);
    assert_eq!((micros(priced.gain), priced.moves), (-43_085, true), "within 0.25 dollars");

    let tight =
        |max_extra| decide(Gate { max_extra: MicroUsd::new(max_extra), ..GATE }, SONNET, OPUS, traffic);
    assert!(tight(43_085).moves && !tight(43_084).moves);
}

#[test]
fn a_saving_below_the_share_or_the_floor_is_not_worth_a_move() {
    let gate = |min_saving_ppm| Gate { min_saving_ppm, ..GATE };
    let share_of_stay = 570 * 1_000_000 / 1_225;
    assert!(decide(gate(share_of_stay), SONNET, HAIKU, TRAFFIC).moves);
    assert!(!decide(gate(share_of_stay + 1), SONNET, HAIKU, TRAFFIC).moves);

    // Without a cache a token costs 2 on Sonnet and .10 on Haiku: 5 of them save 9.5 micro-dollars, 6 save 11.4.
    let tiny = |fresh| Traffic { prefix: 0, output: 0, fresh, stay_ttl: None, ..TRAFFIC };
    assert!(!decide(gate(0), SONNET, HAIKU, tiny(5)).moves && decide(gate(0), SONNET, HAIKU, tiny(6)).moves);
}

#[test]
fn a_cold_cache_is_written_now_and_again_on_the_return() {
    let priced = decide(GATE, SONNET, HAIKU, Traffic { is_warm: false, ..TRAFFIC });

    assert_eq!([priced.stay, priced.go, priced.back].map(micros), [2_650 * 5 / 2 + 600, 295, 2_650 * 12 / 5]);
    let hour = decide(GATE, SONNET, HAIKU, Traffic { stay_ttl: Some(Ttl::OneHour), ..TRAFFIC });
    assert_eq!([hour.stay, hour.back].map(micros), [250 + 600 + 600, 150 * 39 / 10]);
}

#[test]
fn a_prompt_too_short_to_be_cached_is_priced_without_a_cache() {
    let priced = decide(GATE, SONNET, HAIKU, Traffic { prefix: 300, fresh: 100, ..TRAFFIC });

    assert_eq!([priced.stay, priced.go, priced.back].map(micros), [800 + 600, 40 + 30, 0]);
}

#[test]
fn what_the_target_has_warm_is_read_and_a_lasting_move_writes() {
    let single = decide(GATE, SONNET, HAIKU, Traffic { target_warm: 1_000, ..TRAFFIC });
    assert_eq!(micros(single.go), 10 + 165 + 30);

    let lasting = Traffic { target_ttl: Some(Ttl::OneHour), return_ppm: 0, ..TRAFFIC };
    let priced = decide(GATE, SONNET, HAIKU, lasting);
    assert_eq!([priced.go, priced.back].map(micros), [2_650 / 5 + 30, 0]);
    let more_than_all = decide(GATE, SONNET, HAIKU, Traffic { target_warm: u64::MAX, ..TRAFFIC });
    assert_eq!(more_than_all.go.picos(), 26_500_000 + 30_000_000);
}

#[test]
fn the_band_and_the_tokenizer_are_priced() {
    let over = Traffic { prefix: 99_950, fresh: 100, output: 100, ..TRAFFIC };
    assert_eq!(micros(decide(GATE, SONNET, HAIKU, over).go), (100_050 + 500) / 2);

    let across = decide(GATE, "claude-sonnet-4-6", HAIKU, Traffic { fresh: 500, output: 100, ..TRAFFIC });
    assert_eq!(micros(across.go), 390 + 65);
}

#[test]
fn no_move_goes_to_the_same_model() {
    let free = Gate { min_saving_ppm: 0, ..GATE };
    assert!(!decide(free, HAIKU, HAIKU, Traffic { stay_ttl: None, target_warm: 2_000, ..TRAFFIC }).moves);
}

/// The gaps of exponentially distributed replies, rounded to millionths.
const MEAN_60_S: Gaps = Gaps { within_5m_ppm: 993_262, within_1h_ppm: 1_000_000 };
const MEAN_7_MIN: Gaps = Gaps { within_5m_ppm: 510_458, within_1h_ppm: 999_811 };

fn sonnet_rates() -> Rates {
    *catalog().find(SONNET).unwrap().price_at(NOW).unwrap().rates(0)
}

#[test]
fn quick_replies_are_cached_for_5_minutes_and_slow_ones_for_an_hour() {
    let choose = |gaps| choose_ttl(&sonnet_rates(), [5_000, 150], gaps, None);

    let quick = choose(MEAN_60_S);
    assert_eq!((micros(quick.cost_5m), micros(quick.cost_1h), quick.ttl), (956, 1_100, Ttl::FiveMinutes));
    let slow = choose(MEAN_7_MIN);
    assert_eq!((slow.cost_5m.picos() / 1_000_000, micros(slow.cost_1h)), (6_749, 1_104));
    assert_eq!(slow.ttl, Ttl::OneHour);
}

#[test]
fn a_lifetime_changes_only_for_5_percent_less() {
    // All is fresh: 5 minutes cost 2.5 and an hour costs 4 a token, and then prices that differ by less.
    let near = |cache_write_1h| Rates { cache_write_1h, ..sonnet_rates() };
    let choose = |rates: &Rates, present| choose_ttl(rates, [0, 1_000], MEAN_60_S, present).ttl;

    assert_eq!(choose(&near(2_499_999), None), Ttl::OneHour);
    assert_eq!(choose(&near(2_400_000), Some(Ttl::FiveMinutes)), Ttl::FiveMinutes);
    assert_eq!(choose(&near(2_375_000), Some(Ttl::FiveMinutes)), Ttl::OneHour);
    assert_eq!(choose(&near(2_600_000), Some(Ttl::OneHour)), Ttl::OneHour);
    assert_eq!(choose(&near(2_640_000), Some(Ttl::OneHour)), Ttl::FiveMinutes);
    assert_eq!(choose(&near(2_500_000), None), Ttl::FiveMinutes);
}

#[test]
fn a_write_pays_if_it_is_read_often_enough() {
    let is_worth =
        |ttl, ppm| is_write_worth(&sonnet_rates(), ttl, Gaps { within_5m_ppm: ppm, within_1h_ppm: ppm });

    assert!(!is_worth(Ttl::FiveMinutes, 208_333) && is_worth(Ttl::FiveMinutes, 210_000));
    assert!(!is_worth(Ttl::OneHour, 512_820) && is_worth(Ttl::OneHour, 514_000));
}

fn any_ttl() -> impl Strategy<Value = Option<Ttl>> {
    prop_oneof![Just(None), Just(Some(Ttl::FiveMinutes)), Just(Some(Ttl::OneHour))]
}

prop_compose! {
    fn any_traffic()(
        tokens: [u64; 4], is_warm: bool, stay_ttl in any_ttl(), target_ttl in any_ttl(), ppm: [u32; 2],
    ) -> Traffic {
        let ([prefix, fresh, output, target_warm], [return_ppm, expiry_ppm]) = (tokens, ppm);
        Traffic { prefix, is_warm, fresh, output, target_warm, stay_ttl, target_ttl, return_ppm, expiry_ppm }
    }
}

proptest! {
    #[test]
    fn no_price_is_negative_or_overflows_and_the_sum_is_exact(
        traffic in any_traffic(), pair in (0_usize..5, 0_usize..5), min_saving_ppm: u32, max_extra: i64,
    ) {
        let catalog = catalog();
        let models: Vec<&Model> = catalog.models().collect();
        let gate = Gate { min_saving_ppm, max_extra: MicroUsd::new(max_extra) };
        for direction in [Direction::Down, Direction::Up] {
            let planned = Move { stay: models[pair.0], target: models[pair.1], direction, now_s: NOW, traffic };
            let priced = gate.decide(&planned).unwrap();
            for amount in [priced.stay, priced.go, priced.back] {
                prop_assert!(amount >= PicoUsd::ZERO && amount.picos() < i128::MAX / 1_000);
            }
            prop_assert_eq!(priced.gain.picos(), priced.stay.picos() - priced.go.picos() - priced.back.picos());
            if priced.moves && direction == Direction::Down {
                prop_assert!(priced.gain >= FLOOR, "a move down saves");
            }
            if priced.moves && direction == Direction::Up {
                prop_assert!(-priced.gain <= MicroUsd::new(max_extra).to_picos());
            }
        }
    }

    #[test]
    fn more_risk_never_makes_a_move(traffic in any_traffic(), more in 0_u32..=1_000_000) {
        let traffic = Traffic { prefix: traffic.prefix >> 40, fresh: traffic.fresh >> 40, ..traffic };
        let before = decide(GATE, SONNET, HAIKU, traffic);
        let riskier = Traffic {
            return_ppm: traffic.return_ppm.saturating_add(more),
            expiry_ppm: traffic.expiry_ppm.saturating_add(more),
            ..traffic
        };
        let after = decide(GATE, SONNET, HAIKU, riskier);
        prop_assert!(after.gain <= before.gain && (before.moves || !after.moves));
    }

    #[test]
    fn lifetimes_are_priced_for_any_numbers(tokens: [u64; 2], ppm: [u32; 2], present in any_ttl()) {
        let gaps = Gaps { within_5m_ppm: ppm[0], within_1h_ppm: ppm[1] };
        let choice = choose_ttl(&sonnet_rates(), tokens, gaps, present);
        prop_assert!(choice.cost_5m >= PicoUsd::ZERO && choice.cost_1h >= PicoUsd::ZERO);
        if present.is_none() {
            let cost = if choice.ttl == Ttl::OneHour { choice.cost_1h } else { choice.cost_5m };
            prop_assert_eq!(cost, choice.cost_5m.min(choice.cost_1h));
        }
    }
}
