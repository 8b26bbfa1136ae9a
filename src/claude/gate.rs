//! Whether a move to another model pays, with what it does to the prompt cache; and which lifetime of it does.
//!
//! Everything is counted in whole numbers: pico-dollars, tokens, and probabilities in millionths. Where a fraction is
//! left it is rounded against the move. What is a guess in here (the length of the answer, the chance of coming back)
//! is handed in; nothing is kept.

use super::{
    catalog::{Model, Rates},
    cost::Ttl,
    money::{MicroUsd, PicoUsd},
};

/// A probability or a share of one, in millionths.
const ONE_PPM: u32 = 1_000_000;
/// The least saving that is worth a move: 10 micro-dollars.
const FLOOR: PicoUsd = PicoUsd::new(10_000_000);
/// Another lifetime has to cost at most so many percent of the present one.
const TTL_MARGIN_PERCENT: u32 = 95;

/// `claude.gate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// `min_saving`: the share of what staying costs that a move down has to save, in millionths.
    pub min_saving_ppm: u32,
    /// `premium_max_extra`: what a move up may cost beyond staying.
    pub max_extra: MicroUsd,
}

/// Which way a move goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To a cheaper tier: it has to save.
    Down,
    /// To a dearer tier: it may cost so much and no more.
    Up,
}

/// One move to be priced.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// The present model.
    pub stay: &'a Model,
    /// The model that it would move to.
    pub target: &'a Model,
    /// Which way that is.
    pub direction: Direction,
    /// The time, in seconds since 1970.
    pub now_s: u64,
    /// The prompt, its answer and its caches.
    pub traffic: Traffic,
}

/// The prompt, its answer, and what the caches hold of it. Tokens are those of the present model but for `target_warm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Tokens that the present model has, or had, in its cache: P.
    pub prefix: u64,
    /// Whether it has them still.
    pub is_warm: bool,
    /// Tokens after them: n.
    pub fresh: u64,
    /// Tokens of the answer, as expected: o.
    pub output: u64,
    /// Tokens that the target has in its cache, as it counts them: K.
    pub target_warm: u64,
    /// How long the present model's cache is written for: w. None where it is not used.
    pub stay_ttl: Option<Ttl>,
    /// How long the target's is written for, in a lasting move: u. None for a single visit, which has no breakpoint.
    pub target_ttl: Option<Ttl>,
    /// The probability of coming back: R.
    pub return_ppm: u32,
    /// The probability that the present model's entry ends because this turn does not renew it: e.
    pub expiry_ppm: u32,
}

/// What the alternatives cost, for the decision and for those who ask about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priced {
    /// This turn on the present model.
    pub stay: PicoUsd,
    /// This turn on the target.
    pub go: PicoUsd,
    /// What coming back will cost more, for having gone.
    pub back: PicoUsd,
    /// `stay - go - back`; negative where the move costs.
    pub gain: PicoUsd,
    /// Whether it may be made.
    pub moves: bool,
}

impl Gate {
    /// Prices a move. None where one of the models has no price at this time: then there is none.
    #[must_use]
    pub fn decide(&self, planned: &Move<'_>) -> Option<Priced> {
        let Move { stay: present, target, traffic, .. } = planned;
        let prompt = traffic.prefix.saturating_add(traffic.fresh);
        let rates = present.price_at(planned.now_s)?.rates(prompt);
        // Below the smallest cacheable prompt nothing is cached, whatever the call says.
        let ttl = traffic.stay_ttl.filter(|_| prompt >= present.min_cacheable);
        let stay = traffic.cost_of_staying(rates, ttl);
        let go = planned.cost_of_going(prompt)?;
        let back = ttl.map_or(PicoUsd::ZERO, |ttl| traffic.cost_of_return(rates, ttl));
        let gain = stay - go - back;
        let moves = match planned.direction {
            Direction::Down => gain >= share(stay, self.min_saving_ppm).max(FLOOR),
            Direction::Up => -gain <= self.max_extra.to_picos(),
        };
        let is_same = present.id == target.id;
        Some(Priced { stay, go, back, gain, moves: moves && !is_same })
    }
}

impl Move<'_> {
    /// `K*r_t*b_t + (P+n-K)*u*b_t + o*c_t`, in the tokens that the target counts.
    fn cost_of_going(&self, prompt: u64) -> Option<PicoUsd> {
        let prompt = self.target.tokens_of(prompt, self.stay);
        let output = self.target.tokens_of(self.traffic.output, self.stay);
        let rates = self.target.price_at(self.now_s)?.rates(prompt);
        let warm = self.traffic.target_warm.min(prompt);
        let ttl = self.traffic.target_ttl.filter(|_| prompt >= self.target.min_cacheable);
        Some(
            PicoUsd::of_tokens(warm, rates.cache_read)
                + PicoUsd::of_tokens(prompt - warm, write_rate(rates, ttl))
                + PicoUsd::of_tokens(output, rates.output),
        )
    }
}

impl Traffic {
    /// `P*r_s*b_s + n*w*b_s + o*c_s`, and with a cold cache `(P+n)*w*b_s + o*c_s`.
    fn cost_of_staying(&self, rates: &Rates, ttl: Option<Ttl>) -> PicoUsd {
        let write = write_rate(rates, ttl);
        let read = if self.is_warm && ttl.is_some() { rates.cache_read } else { write };
        PicoUsd::of_tokens(self.prefix, read)
            + PicoUsd::of_tokens(self.fresh, write)
            + PicoUsd::of_tokens(self.output, rates.output)
    }

    /// `R * (n + e*P) * (w - r_s) * b_s`. A cold entry stays cold without this turn, so that e is then 1.
    fn cost_of_return(&self, rates: &Rates, ttl: Ttl) -> PicoUsd {
        let one = u128::from(ONE_PPM);
        let expiry = if self.is_warm { u128::from(self.expiry_ppm.min(ONE_PPM)) } else { one };
        let returns = u128::from(self.return_ppm.min(ONE_PPM));
        let dearer = u128::from(ttl.write_rate(rates).saturating_sub(rates.cache_read));
        // At most 2^64 tokens * 2 * 10^6 * 10^6, then again the price of 10^12 by 10^6: neither product overflows.
        let micro_tokens = (u128::from(self.fresh) * one + expiry * u128::from(self.prefix)) * returns;
        let picos = micro_tokens.div_ceil(one).saturating_mul(dearer).div_ceil(one);
        PicoUsd::new(i128::try_from(picos).unwrap_or(i128::MAX))
    }
}

/// What a token of prompt costs that is not read: the price of a write, or of input where nothing is written.
fn write_rate(rates: &Rates, ttl: Option<Ttl>) -> u64 {
    ttl.map_or(rates.input, |ttl| ttl.write_rate(rates))
}

/// A share of an amount.
fn share(amount: PicoUsd, ppm: u32) -> PicoUsd {
    amount.times(ppm.min(ONE_PPM), ONE_PPM)
}

/// How soon replies come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    /// The probability of a reply within 5 minutes, in millionths.
    pub within_5m_ppm: u32,
    /// The probability of a reply within an hour.
    pub within_1h_ppm: u32,
}

/// What the prompt of a turn costs with either lifetime, and which one is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlChoice {
    /// With 5 minutes.
    pub cost_5m: PicoUsd,
    /// With an hour.
    pub cost_1h: PicoUsd,
    /// The one that is chosen.
    pub ttl: Ttl,
}

/// Chooses the lifetime of a cache for prompts of `prefix` tokens and `fresh` ones after them: the cheaper one, but a
/// present one only changes for 5 % less.
#[must_use]
pub fn choose_ttl(rates: &Rates, [prefix, fresh]: [u64; 2], gaps: Gaps, present: Option<Ttl>) -> TtlChoice {
    let cost = |ttl: Ttl| {
        let rate = per_million(rates, ttl, gaps);
        let picos = (u128::from(prefix) * rate).div_ceil(u128::from(ONE_PPM));
        PicoUsd::new(i128::try_from(picos).unwrap_or(i128::MAX))
            + PicoUsd::of_tokens(fresh, ttl.write_rate(rates))
    };
    let (cost_5m, cost_1h) = (cost(Ttl::FiveMinutes), cost(Ttl::OneHour));
    let worth = |cost: PicoUsd| cost.times(TTL_MARGIN_PERCENT, 100);
    let is_hour = match present {
        None => cost_1h < cost_5m,
        Some(Ttl::FiveMinutes) => cost_1h <= worth(cost_5m) && cost_1h < cost_5m,
        Some(Ttl::OneHour) => !(cost_5m <= worth(cost_1h) && cost_5m < cost_1h),
    };
    TtlChoice { cost_5m, cost_1h, ttl: Ttl::of_hour(is_hour) }
}

/// Whether writing a prefix each time it is not found costs less than never caching it.
#[must_use]
pub fn is_write_worth(rates: &Rates, ttl: Ttl, gaps: Gaps) -> bool {
    per_million(rates, ttl, gaps) < u128::from(rates.input) * u128::from(ONE_PPM)
}

/// A million times what a token of prefix costs on average: read with the probability of a reply in time, else written.
fn per_million(rates: &Rates, ttl: Ttl, gaps: Gaps) -> u128 {
    let in_time = match ttl {
        Ttl::FiveMinutes => gaps.within_5m_ppm,
        Ttl::OneHour => gaps.within_1h_ppm,
    };
    let in_time = in_time.min(ONE_PPM);
    u128::from(in_time) * u128::from(rates.cache_read)
        + u128::from(ONE_PPM - in_time) * u128::from(ttl.write_rate(rates))
}

#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;
