//! The shipped table: prices and capabilities as of 2026-11-23, in the form in which `claude.models` writes them.
//!
//! From platform.claude.com: models/{haiku,sonnet,opus}-5-5, api/migration-2026-10-21 and build-with-claude. Where the
//! pages say nothing, the value is the one that refuses.

use std::collections::BTreeMap;

use time::{Date as Day, Month};

use crate::config::{
    Date, Effort, FastPrice, Generation, ModelEntry, Models, OverPrice, PriceRow, Sampling, ThinkingType,
    UsdPerMillion,
};

/// Tokens of a context window of a million.
const MILLION: u32 = 1_000_000;
/// The efforts that every model with a default one is known to take.
const EFFORTS: [Effort; 3] = [Effort::Low, Effort::Medium, Effort::High];
/// Betas that no longer change anything, which old SDKs still send.
const BETAS: [&str; 3] =
    ["prompt-caching-2024-07-31", "extended-cache-ttl-2025-04-11", "token-counting-2024-11-01"];

/// Every shipped model by its id.
pub(super) fn table() -> Models {
    BTreeMap::from([
        ("claude-haiku-5-5".to_owned(), haiku_5_5()),
        ("claude-sonnet-5-5".to_owned(), sonnet_5_5()),
        ("claude-opus-5-5".to_owned(), opus_5_5()),
        ("claude-haiku-4-5".to_owned(), haiku_4_5()),
        ("claude-sonnet-4-6".to_owned(), sonnet_4_6()),
    ])
}

fn haiku_5_5() -> ModelEntry {
    let row = PriceRow {
        over: Some(OverPrice {
            tokens: 100_000,
            input: price(500_000),
            output: price(2_500_000),
            cache_write_5m: Some(price(625_000)),
            cache_write_1h: Some(price(1_000_000)),
            cache_read: price(50_000),
        }),
        ..row([100_000, 500_000, 125_000, 200_000, 10_000])
    };
    ModelEntry {
        thinking: Some(vec![ThinkingType::Adaptive, ThinkingType::Disabled]),
        effort: Some(Effort::Medium),
        forced_tools: Some(true),
        sampling: Some(Sampling::LoneDefault),
        structured_output: Some(true),
        ..of_5_5(vec![row])
    }
}

fn sonnet_5_5() -> ModelEntry {
    let from = Day::from_calendar_date(2026, Month::October, 7).ok().map(Date::new);
    let at_first = row([2_000_000, 10_000_000, 2_500_000, 4_000_000, 200_000]);
    let now = PriceRow { from, cache_read: price(100_000), ..at_first.clone() };
    ModelEntry {
        thinking: Some(vec![ThinkingType::Adaptive, ThinkingType::BetweenTools]),
        effort: Some(Effort::High),
        sampling: Some(Sampling::DefaultOnly),
        ..of_5_5(vec![at_first, now])
    }
}

fn opus_5_5() -> ModelEntry {
    let fast = FastPrice { input: price(8_000_000), output: price(40_000_000) };
    let row = PriceRow { fast: Some(fast), ..row([4_000_000, 20_000_000, 5_000_000, 8_000_000, 200_000]) };
    ModelEntry {
        thinking: Some(vec![ThinkingType::Adaptive]),
        effort: Some(Effort::Medium),
        sampling: Some(Sampling::DefaultOnly),
        ..of_5_5(vec![row])
    }
}

/// What the three models of generation 5.5 share.
fn of_5_5(prices: Vec<PriceRow>) -> ModelEntry {
    ModelEntry {
        also: Some(Vec::new()),
        generation: Some(Generation::new(5, 5)),
        prices,
        context: Some(MILLION),
        max_output: Some(128_000),
        min_cacheable: Some(512),
        efforts: Some(EFFORTS.to_vec()),
        thinks_by_default: Some(true),
        geo: Some(true),
        ..every()
    }
}

fn haiku_4_5() -> ModelEntry {
    ModelEntry {
        also: Some(vec!["claude-haiku-4-5-20251001".to_owned()]),
        generation: Some(Generation::new(4, 5)),
        prices: vec![row([1_000_000, 5_000_000, 1_250_000, 2_000_000, 100_000])],
        context: Some(200_000),
        max_output: Some(64_000),
        min_cacheable: Some(4_096),
        efforts: Some(Vec::new()),
        thinking: Some(vec![ThinkingType::Enabled]),
        thinks_by_default: Some(false),
        forced_tools: Some(true),
        prefill: Some(true),
        sampling: Some(Sampling::Any),
        structured_output: Some(true),
        strict_tools: Some(true),
        geo: Some(false),
        ..every()
    }
}

fn sonnet_4_6() -> ModelEntry {
    ModelEntry {
        also: Some(Vec::new()),
        generation: Some(Generation::new(4, 6)),
        prices: vec![row([3_000_000, 15_000_000, 3_750_000, 6_000_000, 300_000])],
        context: Some(MILLION),
        max_output: Some(64_000),
        min_cacheable: Some(1_024),
        efforts: Some(EFFORTS.to_vec()),
        effort: Some(Effort::High),
        thinking: Some(vec![ThinkingType::Adaptive, ThinkingType::Enabled]),
        thinks_by_default: Some(false),
        forced_tools: Some(true),
        sampling: Some(Sampling::Any),
        structured_output: Some(true),
        strict_tools: Some(true),
        geo: Some(true),
        ..every()
    }
}

/// What all of them share.
fn every() -> ModelEntry {
    ModelEntry {
        less_thinking_up_to: Some(Effort::High),
        reads_thinking_of: Some(Vec::new()),
        images: Some(true),
        documents: Some(true),
        citations: Some(true),
        server_tools: Some(Vec::new()),
        betas: Some(BETAS.iter().map(|beta| (*beta).to_owned()).collect()),
        ..ModelEntry::default()
    }
}

/// A row of input, output, write for 5 minutes, write for an hour and read, in millionths of a dollar.
fn row([input, output, write_5m, write_1h, read]: [u64; 5]) -> PriceRow {
    PriceRow {
        input: price(input),
        output: price(output),
        cache_write_5m: Some(price(write_5m)),
        cache_write_1h: Some(price(write_1h)),
        cache_read: price(read),
        ..PriceRow::default()
    }
}

const fn price(micros_per_million: u64) -> UsdPerMillion {
    UsdPerMillion::from_picos_per_token(micros_per_million)
}
