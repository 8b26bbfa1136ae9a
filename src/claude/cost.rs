//! What a call costs, from the tokens that the API says it used.
//!
//! A call is priced by one row of one model; there is no price where the row has none for what was asked, and none is
//! ever made up. What a call would have cost elsewhere is in [`Baselines`], on caches simulated by [`Simulated`].

mod savings;
mod simulated;

use super::{
    catalog::{Price, Rates},
    money::PicoUsd,
};

pub use self::{
    savings::{Asked, Baselines, Savings},
    simulated::{Mark, Prompt, Simulated},
};
pub use crate::telemetry::claude::Tokens;

/// What a call was sent with that changes its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// It is part of a batch: half the price.
    pub is_batch: bool,
    /// `inference_geo: us`: a tenth more.
    pub is_geo_us: bool,
    /// `speed: fast`: other prices.
    pub is_fast: bool,
}

/// How long an entry of the prompt cache lives since its last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ttl {
    /// Five minutes.
    FiveMinutes,
    /// An hour.
    OneHour,
}

impl Ttl {
    /// An hour, or else five minutes.
    #[must_use]
    pub const fn of_hour(is_hour: bool) -> Self {
        if is_hour { Self::OneHour } else { Self::FiveMinutes }
    }

    /// The word in calls, in the file and in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5m",
            Self::OneHour => "1h",
        }
    }

    /// Its length.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::FiveMinutes => 300,
            Self::OneHour => 3_600,
        }
    }

    /// The price of a token written for so long.
    #[must_use]
    pub const fn write_rate(self, rates: &Rates) -> u64 {
        match self {
            Self::FiveMinutes => rates.cache_write_5m,
            Self::OneHour => rates.cache_write_1h,
        }
    }
}

/// What a call costs; nothing where the row has no price for `speed: fast`. Rounded once, at the end.
#[must_use]
pub fn cost(price: &Price, tokens: &Tokens, terms: Terms) -> Option<PicoUsd> {
    let rates = if terms.is_fast { price.fast()? } else { price.rates(tokens.prompt()) };
    let sum: PicoUsd = [
        (tokens.input, rates.input),
        (tokens.output, rates.output),
        (tokens.cache_read, rates.cache_read),
        (tokens.cache_write_5m, rates.cache_write_5m),
        (tokens.cache_write_1h, rates.cache_write_1h),
    ]
    .into_iter()
    .map(|(tokens, rate)| PicoUsd::of_tokens(tokens, rate))
    .sum();
    let (numerator, divisor) = if terms.is_geo_us { (11, 10) } else { (1, 1) };
    Some(sum.times(numerator, if terms.is_batch { divisor * 2 } else { divisor }))
}

#[cfg(test)]
mod tests;
