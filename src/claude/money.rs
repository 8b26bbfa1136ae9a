//! Amounts of money as whole numbers: pico-dollars while a call is priced, micro-dollars where it is told.
//!
//! A price per million tokens is a whole number of pico-dollars per token, so that a sum over tokens is exact. Only a
//! factor (a discount, a probability) can leave a fraction of a pico-dollar, and it is rounded once, half away from
//! zero, as is the step from pico-dollars to micro-dollars. All arithmetic saturates: a wrong amount at the end of
//! the scale does less harm than a panic. There are no floats. Both types are signed, as savings may be negative.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Neg, Sub},
};

use crate::config::Usd;

/// Pico-dollars in a micro-dollar.
const PICOS_PER_MICRO: i128 = 1_000_000;
/// Pico-dollars in a dollar.
const PICOS_PER_USD: u128 = 1_000_000_000_000;

/// An amount in millionths of a millionth of a dollar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoUsd(i128);

/// An amount in millionths of a dollar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroUsd(i64);

impl PicoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of so many pico-dollars.
    #[must_use]
    pub const fn new(picos: i128) -> Self {
        Self(picos)
    }

    /// The amount in pico-dollars.
    #[must_use]
    pub const fn picos(self) -> i128 {
        self.0
    }

    /// What so many tokens cost at so many pico-dollars each.
    #[must_use]
    pub const fn of_tokens(tokens: u64, picos_per_token: u64) -> Self {
        // The product of two u64 always fits.
        Self((tokens as i128).saturating_mul(picos_per_token as i128))
    }

    /// The amount times a fraction, rounded half away from zero. A divisor of zero counts as one.
    #[must_use]
    pub const fn times(self, numerator: u32, divisor: u32) -> Self {
        let divisor = if divisor == 0 { 1 } else { divisor as i128 };
        Self(divided(self.0.saturating_mul(numerator as i128), divisor))
    }

    /// The amount in micro-dollars, rounded half away from zero.
    #[must_use]
    pub fn to_micros(self) -> MicroUsd {
        let micros = divided(self.0, PICOS_PER_MICRO);
        MicroUsd(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The amount as dollars, as exact as it is.
    fn fmt_dollars(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let picos = self.0.unsigned_abs();
        let fraction = format!("{:012}", picos % PICOS_PER_USD);
        let fraction = fraction.trim_end_matches('0');
        // Cents are always shown.
        write!(f, "{sign}${}.{fraction:0<2}", picos / PICOS_PER_USD)
    }
}

/// A quotient rounded half away from zero.
const fn divided(amount: i128, divisor: i128) -> i128 {
    let half = if amount < 0 { -(divisor / 2) } else { divisor / 2 };
    // With an odd divisor the half is rounded down, which is right: the remainder is then never exactly a half.
    amount.saturating_add(half) / divisor
}

impl MicroUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of so many micro-dollars.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// The amount in micro-dollars.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The amount in pico-dollars.
    #[must_use]
    pub fn to_picos(self) -> PicoUsd {
        PicoUsd(i128::from(self.0) * PICOS_PER_MICRO)
    }
}

impl From<Usd> for MicroUsd {
    fn from(amount: Usd) -> Self {
        Self(i64::try_from(amount.micros()).unwrap_or(i64::MAX))
    }
}

impl From<Usd> for PicoUsd {
    fn from(amount: Usd) -> Self {
        Self(i128::from(amount.micros()) * PICOS_PER_MICRO)
    }
}

impl Add for PicoUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for PicoUsd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for PicoUsd {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for PicoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for PicoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for MicroUsd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for MicroUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_dollars(f)
    }
}

impl fmt::Debug for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_dollars(f)
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_picos().fmt_dollars(f)
    }
}

impl fmt::Debug for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_picos().fmt_dollars(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_away_from_zero_and_once() {
        for (picos, micros) in [
            (0, 0),
            (499_999, 0),
            (500_000, 1),
            (1_499_999, 1),
            (-499_999, 0),
            (-500_000, -1),
            (-1_500_000, -2),
            (i128::MAX, i64::MAX),
            (i128::MIN, i64::MIN),
        ] {
            assert_eq!(PicoUsd::new(picos).to_micros(), MicroUsd::new(micros), "{picos}");
        }
        for (picos, numerator, divisor, rounded) in
            [(5, 1, 2, 3), (-5, 1, 2, -3), (4, 1, 3, 1), (5, 1, 3, 2), (10, 11, 10, 11), (7, 3, 0, 21)]
        {
            assert_eq!(PicoUsd::new(picos).times(numerator, divisor).picos(), rounded);
        }
    }

    #[test]
    fn prints_dollars_with_all_their_digits() {
        for (picos, text) in [
            (0, "$0.00"),
            (678_800_000, "$0.0006788"),
            (-20_500_000_000_000, "-$20.50"),
            (1, "$0.000000000001"),
            (1_000_000_000_000, "$1.00"),
        ] {
            assert_eq!(PicoUsd::new(picos).to_string(), text);
        }
        assert_eq!(MicroUsd::new(-1_250_001).to_string(), "-$1.250001");
        assert_eq!(MicroUsd::from(Usd::from_micros(20_000_000)).to_string(), "$20.00");
    }

    #[test]
    fn no_sum_overflows() {
        let most = PicoUsd::new(i128::MAX);
        let least = PicoUsd::new(i128::MIN);

        assert_eq!([most + most, least - most, -least, most.times(u32::MAX, 1)], [most, least, most, most]);
        assert_eq!([most, most].into_iter().sum::<PicoUsd>(), most);
        assert_eq!(PicoUsd::of_tokens(u64::MAX, u64::MAX).picos(), i128::MAX);
        assert_eq!(MicroUsd::new(i64::MAX) + MicroUsd::new(1), MicroUsd::new(i64::MAX));
        assert_eq!(PicoUsd::from(Usd::from_micros(u64::MAX)).to_micros(), MicroUsd::new(i64::MAX));
    }
}
