//! The retry budget: retries may be a share of the calls, never a multiple of them.

use std::sync::atomic::{AtomicI64, Ordering};

/// A retry costs this many units; a call earns as many as the budget's percentage.
const COST: i64 = 100;

/// The budget never holds more than this many retries, so that a long calm does not pay for a storm.
const MOST: i64 = 50;

/// A bucket that calls fill and retries empty.
pub struct Budget {
    units: AtomicI64,
    percent: AtomicI64,
}

impl Budget {
    /// A budget of `percent` retries per hundred calls; it starts with ten retries, for upstreams with few calls.
    #[must_use]
    pub fn new(percent: u8) -> Self {
        let units = AtomicI64::new(if percent == 0 { 0 } else { 10 * COST });
        Self { units, percent: AtomicI64::new(i64::from(percent)) }
    }

    /// Changes the percentage, for the calls to come.
    pub fn set_percent(&self, percent: u8) {
        self.percent.store(i64::from(percent), Ordering::Relaxed);
    }

    /// Counts a call.
    pub fn earn(&self) {
        // A lost race overshoots by a few calls' worth, which is harmless.
        if self.units.load(Ordering::Relaxed) < MOST * COST {
            self.units.fetch_add(self.percent.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Takes the price of one retry; false when the budget is spent.
    pub fn spend(&self) -> bool {
        let spent = self.units.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |units| {
            units.checked_sub(COST).filter(|left| *left >= 0)
        });
        spent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn retries_stay_under_their_share_of_the_calls() {
        let budget = Budget::new(20);
        while budget.spend() {}

        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += u32::from(budget.spend());
        }

        assert_eq!(retries, 200);
    }
}
