//! The golden cases of prices, and the simulated cache against the published rules.

use proptest::prelude::*;

use super::*;
use crate::{
    claude::{
        catalog::{Catalog, Model},
        money::MicroUsd,
    },
    config::Models,
};

/// 2026-11-23 and 2026-10-06, in seconds since 1970.
const NOW: u64 = 1_795_392_000;
const BEFORE: u64 = 1_791_331_199;
const HAIKU: &str = "claude-haiku-5-5";
const SONNET: &str = "claude-sonnet-5-5";
const OPUS: &str = "claude-opus-5-5";
/// 12 in, 20 out, 100 written for 5 minutes, 2,048 read.
const PLAIN: Tokens =
    Tokens { input: 12, output: 20, cache_read: 2_048, cache_write_5m: 100, cache_write_1h: 0 };
const NO_TERMS: Terms = Terms { is_batch: false, is_geo_us: false, is_fast: false };

fn catalog() -> Catalog {
    Catalog::compile(&Models::new()).unwrap()
}

fn model(id: &str) -> Model {
    catalog().find(id).unwrap().clone()
}

fn cost_of(id: &str, now_s: u64, tokens: &Tokens, terms: Terms) -> Option<PicoUsd> {
    cost(model(id).price_at(now_s).unwrap(), tokens, terms)
}

#[test]
fn the_golden_cases_are_exact() {
    let writes =
        |cache_write_5m, cache_write_1h| Tokens { cache_read: 0, cache_write_5m, cache_write_1h, ..PLAIN };
    let tools = Tokens { input: 10_682, output: 510, ..Tokens::default() };
    let band = |input| Tokens { input, cache_read: 99_999, output: 10, ..Tokens::default() };
    let geo = Terms { is_geo_us: true, ..NO_TERMS };
    let batch = Terms { is_batch: true, ..NO_TERMS };
    // Amounts in nano-dollars, which all of them are whole numbers of.
    for (case, id, now_s, tokens, terms, nanos) in [
        ("plain", SONNET, NOW, PLAIN, NO_TERMS, 678_800),
        ("plain", HAIKU, NOW, PLAIN, NO_TERMS, 44_180),
        ("plain", OPUS, NOW, PLAIN, NO_TERMS, 1_357_600),
        ("before 2026-10-07", SONNET, BEFORE, PLAIN, NO_TERMS, 883_600),
        ("server tools", SONNET, NOW, tools, NO_TERMS, 26_464_000),
        ("1h write", SONNET, NOW, writes(0, 1_000), NO_TERMS, 4_224_000),
        ("mixed writes", SONNET, NOW, writes(400, 600), NO_TERMS, 3_624_000),
        ("at the band", HAIKU, NOW, band(1), NO_TERMS, 1_005_090),
        ("over the band", HAIKU, NOW, band(2), NO_TERMS, 5_025_950),
        ("geo us", SONNET, NOW, PLAIN, geo, 746_680),
        ("batch", SONNET, NOW, PLAIN, batch, 339_400),
        ("batch in us", SONNET, NOW, PLAIN, Terms { is_geo_us: true, ..batch }, 373_340),
        ("nothing used", SONNET, NOW, Tokens::default(), NO_TERMS, 0),
    ] {
        let cost = cost_of(id, now_s, &tokens, terms).unwrap();

        assert_eq!(cost.picos(), nanos * 1_000, "{case} on {id}");
    }
}

#[test]
fn writes_count_for_the_band_and_the_band_for_the_answer() {
    let tokens = |cache_write_1h| Tokens { cache_write_1h, output: 1_000_000, ..Tokens::default() };

    let at = cost_of(HAIKU, NOW, &tokens(100_000), NO_TERMS).unwrap();
    let over = cost_of(HAIKU, NOW, &tokens(100_001), NO_TERMS).unwrap();

    assert_eq!(at.to_micros(), MicroUsd::new(500_000 + 20_000));
    assert_eq!(over.to_micros(), MicroUsd::new(2_500_000 + 100_001));
}

#[test]
fn a_fast_call_costs_more_where_it_has_a_price_and_has_none_elsewhere() {
    let terms = Terms { is_fast: true, ..NO_TERMS };
    let tokens = Tokens { input: 1_000, output: 100, ..Tokens::default() };

    assert_eq!(cost_of(OPUS, NOW, &tokens, terms).unwrap().to_micros(), MicroUsd::new(8_000 + 4_000));
    assert_eq!(cost_of(SONNET, NOW, &tokens, terms), None);
}

proptest! {
    #[test]
    fn no_cost_is_negative_or_overflows(counts: [u64; 5], is_batch: bool, is_geo_us: bool) {
        let [input, output, cache_read, cache_write_5m, cache_write_1h] = counts;
        let tokens = Tokens { input, output, cache_read, cache_write_5m, cache_write_1h };
        for model in catalog().models() {
            let price = model.price_at(NOW).unwrap();
            let cost = cost(price, &tokens, Terms { is_batch, is_geo_us, is_fast: false }).unwrap();
            prop_assert!(cost >= PicoUsd::ZERO && cost.picos() < i128::MAX / 1_000);
        }
    }

    #[test]
    fn what_is_charged_is_always_the_whole_prompt(
        calls in prop::collection::vec((0_u64..600, 0_usize..40, any::<[u8; 5]>(), any::<u64>()), 1..30),
    ) {
        let mut cache = Simulated::new(8);
        let mut now_s = NOW;
        for (wait, length, marks, tokens) in calls {
            now_s += wait;
            let boundaries: Vec<(u128, u64)> = (0..length).map(|i| (i as u128 % 7, marks[i % 5].into())).collect();
            let marks = marks.map(|byte| Mark {
                boundary: usize::from(byte % 41),
                ttl: if byte % 2 == 0 { Ttl::FiveMinutes } else { Ttl::OneHour },
            });
            let prompt = Prompt { boundaries: &boundaries, marks: &marks, tokens, output: 1 };
            let charged = cache.charge(&model(SONNET), &prompt, now_s);
            prop_assert_eq!(charged.prompt(), tokens);
            prop_assert!(cache.len() <= 8 && cache.by_end_len() == cache.len());
        }
    }
}

/// Prefixes of 1,000 tokens each, the first of them after a number.
fn prefixes(count: usize) -> Vec<(u128, u64)> {
    (1..=count as u64).map(|index| (u128::from(index), index * 1_000)).collect()
}

fn mark(boundary: usize, ttl: Ttl) -> Mark {
    Mark { boundary, ttl }
}

#[test]
fn the_simulated_cache_writes_at_breakpoints_and_reads_until_its_end() {
    let (sonnet, opus) = (model(SONNET), model(OPUS));
    let mut cache = Simulated::new(100);
    let boundaries = prefixes(5);
    let mut charge = |model: &Model, length: usize, now_s: u64| {
        let marks = [mark(length - 1, Ttl::FiveMinutes)];
        let boundaries = &boundaries[..length];
        let prompt = Prompt { boundaries, marks: &marks, tokens: length as u64 * 1_000, output: 7 };
        let charged = cache.charge(model, &prompt, now_s);
        assert_eq!((charged.output, charged.input, charged.cache_write_1h), (7, 0, 0));
        (charged.cache_read, charged.cache_write_5m)
    };

    assert_eq!(charge(&sonnet, 2, NOW), (0, 2_000), "a cold cache is written");
    assert_eq!(charge(&sonnet, 3, NOW + 299), (2_000, 1_000), "the prefix is read, the rest written");
    assert_eq!(charge(&sonnet, 2, NOW + 598), (2_000, 0), "the read renewed it");
    assert_eq!(charge(&opus, 3, NOW + 598), (0, 3_000), "another model has a cache of its own");
    assert_eq!(charge(&sonnet, 3, NOW + 599), (2_000, 1_000), "what was not read has ended");
    assert_eq!(charge(&sonnet, 5, NOW + 1_000), (0, 5_000), "all of it has ended");
}

#[test]
fn the_simulated_cache_knows_both_lifetimes_and_the_20_boundaries() {
    let sonnet = model(SONNET);
    let mut cache = Simulated::new(100);
    let boundaries = prefixes(40);
    let mut charge = |length: usize, marks: &[Mark], now_s: u64| {
        let boundaries = &boundaries[..length];
        let prompt = Prompt { boundaries, marks, tokens: length as u64 * 1_000, output: 0 };
        let charged = cache.charge(&sonnet, &prompt, now_s);
        (charged.cache_read, charged.cache_write_1h, charged.cache_write_5m, charged.input)
    };

    let both = [mark(1, Ttl::OneHour), mark(3, Ttl::FiveMinutes)];
    assert_eq!(charge(6, &both, NOW), (0, 2_000, 2_000, 2_000));
    assert_eq!(charge(6, &both, NOW + 301), (2_000, 0, 2_000, 2_000), "the shorter one has ended");
    assert_eq!(charge(25, &[mark(24, Ttl::FiveMinutes)], NOW + 302), (0, 0, 25_000, 0), "21 before");
    assert_eq!(charge(24, &[mark(23, Ttl::FiveMinutes)], NOW + 302), (4_000, 0, 20_000, 0), "20 before");
    assert_eq!(charge(40, &[], NOW + 303), (0, 0, 0, 40_000), "without a breakpoint nothing is read");
}

#[test]
fn estimates_are_scaled_and_too_short_prompts_are_silently_not_cached() {
    let (sonnet, older) = (model(SONNET), model("claude-haiku-4-5"));
    let boundaries = [(1, 30), (2, 40)];
    let marks = [mark(0, Ttl::FiveMinutes)];
    let mut cache = Simulated::new(10);
    let mut charge = |model: &Model, tokens| {
        let prompt = Prompt { boundaries: &boundaries, marks: &marks, tokens, output: 0 };
        let charged = cache.charge(model, &prompt, NOW);
        (charged.cache_write_5m, charged.input)
    };

    assert_eq!(charge(&sonnet, 680), (0, 680), "510 of 512");
    assert_eq!(charge(&sonnet, 4_000), (3_000, 1_000));
    assert_eq!(charge(&older, 4_000), (0, 4_000), "3,000 of 4,096");
}

#[test]
fn savings_are_zero_untouched_and_signed_otherwise() {
    let (haiku, sonnet, opus) = (model(HAIKU), model(SONNET), model(OPUS));
    let boundaries = prefixes(2);
    let marks = [mark(1, Ttl::FiveMinutes)];
    let mut baselines = Baselines::new(100);
    let mut price = |used: &Model, tokens: Tokens, is_untouched: bool, now_s: u64| {
        let (requested, boundaries) = (&sonnet, boundaries.as_slice());
        let asked =
            Asked { requested, used, boundaries, marks: &marks, tokens, terms: NO_TERMS, is_untouched };
        let spent = cost(used.price_at(now_s).unwrap(), &tokens, NO_TERMS).unwrap();
        let savings = baselines.price(&asked, &opus, now_s);
        let micros = |saved: Option<PicoUsd>| saved.unwrap().to_micros().micros();
        (micros(savings.vs_requested(spent)), micros(savings.vs_premium(spent)))
    };
    let written = Tokens { cache_write_5m: 2_000, output: 100, ..Tokens::default() };
    let unread = Tokens { input: 2_000, output: 100, ..Tokens::default() };

    assert_eq!(price(&sonnet, written, true, NOW), (0, 6_000));
    // Haiku: 2,000 at .10 and 100 at .50 against Sonnet's read of 2,000 at .10 and 100 at 10.
    assert_eq!(price(&haiku, unread, false, NOW + 100), (1_200 - 250, 2_400 - 250));
    // Had all stayed on Sonnet, its entry would have been renewed; so it was written again, which the move cost.
    assert_eq!(price(&sonnet, written, false, NOW + 350), (1_200 - 6_000, 2_400 - 6_000));
}

#[test]
fn baselines_convert_tokens_between_tokenizers() {
    let (older, sonnet, opus) = (model("claude-haiku-4-5"), model(SONNET), model(OPUS));
    let tokens = Tokens { input: 1_000, output: 100, ..Tokens::default() };
    let asked = Asked {
        requested: &sonnet,
        used: &older,
        boundaries: &[],
        marks: &[],
        tokens,
        terms: NO_TERMS,
        is_untouched: false,
    };

    let savings = Baselines::new(1).price(&asked, &opus, NOW);

    assert_eq!(savings.requested.unwrap().to_micros(), MicroUsd::new(1_300 * 2 + 130 * 10));
    assert_eq!(savings.premium.unwrap().to_micros(), MicroUsd::new(1_300 * 4 + 130 * 20));
}
