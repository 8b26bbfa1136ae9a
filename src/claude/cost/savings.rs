//! What a call would have cost as it was asked for, and on the premium tier.
//!
//! Both baselines have the client's own breakpoints and caches of their own, so that a client that caches is never
//! compared with list prices. The answer is taken to be as long as it was, and tokens are converted where the
//! tokenizers differ. Savings are signed: a move can cost.

use super::{Mark, Prompt, Simulated, Terms, Tokens, cost};
use crate::claude::{catalog::Model, money::PicoUsd};

/// The caches of both baselines. They are apart, as both may ask the same model for the same prompt.
#[derive(Debug, Clone)]
pub struct Baselines {
    requested: Simulated,
    premium: Simulated,
}

/// A call as the client sent it, and what it used.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The model that the client named.
    pub requested: &'a Model,
    /// The model that answered.
    pub used: &'a Model,
    /// Hash and estimated tokens of each prefix, from the shortest to the whole prompt.
    pub boundaries: &'a [(u128, u64)],
    /// The client's own breakpoints.
    pub marks: &'a [Mark],
    /// What the API says was used.
    pub tokens: Tokens,
    /// What the client sent it with.
    pub terms: Terms,
    /// Nothing was changed in this call or in those of its conversation before it. What it cost is then what was asked
    /// for, and no simulation is better than that.
    pub is_untouched: bool,
}

/// What a call would have cost; nothing where a model has no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savings {
    /// As it was asked for.
    pub requested: Option<PicoUsd>,
    /// On the premium tier.
    pub premium: Option<PicoUsd>,
}

impl Baselines {
    /// Empty caches that hold so many prefixes each.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { requested: Simulated::new(most), premium: Simulated::new(most) }
    }

    /// Prices a call by both baselines, at a time in seconds since 1970.
    pub fn price(&mut self, asked: &Asked<'_>, premium: &Model, now_s: u64) -> Savings {
        let simulated = baseline(&mut self.requested, asked, asked.requested, now_s);
        let is_exact = asked.is_untouched && asked.requested.id == asked.used.id;
        let real = || cost(asked.used.price_at(now_s)?, &asked.tokens, asked.terms);
        Savings {
            requested: if is_exact { real() } else { simulated },
            premium: baseline(&mut self.premium, asked, premium, now_s),
        }
    }
}

impl Savings {
    /// What was saved against what was asked for; negative where the call cost more.
    #[must_use]
    pub fn vs_requested(&self, spent: PicoUsd) -> Option<PicoUsd> {
        self.requested.map(|cost| cost - spent)
    }

    /// What was saved against the premium tier.
    #[must_use]
    pub fn vs_premium(&self, spent: PicoUsd) -> Option<PicoUsd> {
        self.premium.map(|cost| cost - spent)
    }
}

/// What the call would have cost on a model, with a cache of its own.
fn baseline(cache: &mut Simulated, asked: &Asked<'_>, model: &Model, now_s: u64) -> Option<PicoUsd> {
    let prompt = Prompt {
        boundaries: asked.boundaries,
        marks: asked.marks,
        tokens: model.tokens_of(asked.tokens.prompt(), asked.used),
        output: model.tokens_of(asked.tokens.output, asked.used),
    };
    let tokens = cache.charge(model, &prompt, now_s);
    cost(model.price_at(now_s)?, &tokens, asked.terms)
}
