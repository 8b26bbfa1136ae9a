//! Chance against stampedes: what was stored together does not end together, and a copy that is used much is fetched anew
//! shortly before its end. Chance comes in as a number, so that every decision can be told beforehand.
//!
//! The early refresh is `XFetch` (Vattani, Chierichetti, Lowenstein: "Optimal Probabilistic Cache Stampede
//! Prevention", VLDB 2015): a request that finds a copy with `left` to live, whose fetch took `d`, refreshes it when
//! `-d * beta * ln(u) >= left` for a uniform `u` in (0, 1]. The more requests there are, the earlier one of them does;
//! with few of them the copy just ends.

use super::{
    meta::{Meta, Source, moment},
    policy::Policy,
};

/// The share of a lifetime that chance may take off: 1 / 20.
const JITTER_SHARE: u128 = 20;

/// Multiples of a fetch's duration before the end that chance can reach: `-ln(u)` of the smallest `u`, 2^-32, is 22.2.
const REACH: i64 = 23;

/// The copy with up to 5 % of what it has left taken off, where its life is a rule's word; never with more than it had.
#[must_use]
pub fn jittered(meta: Meta, now_ms: u64, random: u64, policy: &Policy) -> Meta {
    if meta.source != Source::Rule || policy.is_rfc() {
        return meta;
    }
    let left_ms = u64::try_from(meta.expires_ms.saturating_sub(moment(now_ms))).unwrap_or(0);
    let off = (u128::from(left_ms) * u128::from(random) / JITTER_SHARE) >> 64;
    Meta { expires_ms: meta.expires_ms.saturating_sub(i64::try_from(off).unwrap_or(0)), ..meta }
}

/// Whether a fresh copy is so near its end that chance may have it refreshed: one comparison, as it is made on every hit.
#[must_use]
pub fn is_near_end(meta: &Meta, fetch_ms: u32, now_ms: u64) -> bool {
    meta.expires_ms.saturating_sub(moment(now_ms)) < i64::from(fetch_ms) * REACH
}

/// Whether a request that is answered from a fresh copy refreshes it behind its answer. Only where the life is a rule's
/// word: what the backend declares it knows best itself.
#[must_use]
pub fn is_refresh_due(meta: &Meta, fetch_ms: u32, now_ms: u64, random: u64, policy: &Policy) -> bool {
    if meta.source != Source::Rule || policy.is_rfc() {
        return false;
    }
    let left_ms = u32::try_from(meta.expires_ms.saturating_sub(moment(now_ms)).max(0)).unwrap_or(u32::MAX);
    let high = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    let chance = (f64::from(high) + 1.0) / (f64::from(u32::MAX) + 1.0);
    -f64::from(fetch_ms) * chance.ln() >= f64::from(left_ms)
}

#[cfg(test)]
mod tests;
