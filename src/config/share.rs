//! Shares and probabilities as written: `5%` or `0.05`, kept as whole millionths.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::error::ValueError;

/// One, in millionths.
const WHOLE: u32 = 1_000_000;

/// A share between 0 and 1, written as `5%` or as `0.05`, at most four digits behind the point of a percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share(u32);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(WHOLE);

    /// A share of so many percent; more than 100 are 100.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        let millionths = percent.saturating_mul(WHOLE / 100);
        Self(if millionths > WHOLE { WHOLE } else { millionths })
    }

    /// A share of so many millionths; more than the whole are the whole.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Self {
        Self(if millionths > WHOLE { WHOLE } else { millionths })
    }

    /// The share in millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// The share as a number, for probabilities that are floats by nature.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "millionths fit")]
    pub const fn ratio(self) -> f32 {
        self.0 as f32 / 1_000_000.0
    }

    /// The share of a number, rounded down.
    #[must_use]
    pub fn of(self, number: u64) -> u64 {
        let part = u128::from(number) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Reads a share as it is written in the file.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let fault = || ValueError::new(format!("`{text}` is not a share")).hint("write 5% or 0.05");
        let (number, whole) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), WHOLE / 100),
            None => (text, WHOLE),
        };
        let millionths = decimal(number, whole).ok_or_else(fault)?;
        if millionths > WHOLE {
            return Err(ValueError::new(format!("`{text}` is more than the whole"))
                .hint("a share goes from 0% to 100%, or from 0 to 1"));
        }
        Ok(Self(millionths))
    }
}

/// A decimal number times `whole`; `None` where it is none, or finer than a unit of the result.
fn decimal(text: &str, mut whole: u32) -> Option<u32> {
    let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if integer.is_empty() || !is_digits(integer) || !is_digits(fraction) || text.ends_with('.') {
        return None;
    }
    let mut sum = integer.parse::<u32>().ok()?.checked_mul(whole)?;
    for digit in fraction.bytes() {
        let digit = u32::from(digit - b'0');
        whole /= 10;
        if whole == 0 && digit != 0 {
            return None;
        }
        sum = sum.checked_add(digit * whole)?;
    }
    Some(sum)
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, rest) = (self.0 / 10_000, self.0 % 10_000);
        if rest == 0 {
            return write!(f, "{percent}%");
        }
        let digits = format!("{rest:04}");
        write!(f, "{percent}.{}%", digits.trim_end_matches('0'))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "x-kind": "share", "pattern": "^[0-9.]+ ?%?$" })
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn shares_are_read_exactly_and_printed_as_percent() {
        let table = [
            ("5%", 50_000, "5%"),
            ("0.05", 50_000, "5%"),
            ("1.0", 1_000_000, "100%"),
            ("1", 1_000_000, "100%"),
            ("100%", 1_000_000, "100%"),
            ("0", 0, "0%"),
            ("12.5%", 125_000, "12.5%"),
            ("0.6", 600_000, "60%"),
            ("0.0001%", 1, "0.0001%"),
            ("2.40%", 24_000, "2.4%"),
        ];
        for (text, millionths, printed) in table {
            let share = Share::parse(text).unwrap();

            assert_eq!((share.millionths(), share.to_string().as_str()), (millionths, printed), "{text}");
            assert_eq!(Share::parse(printed).unwrap(), share);
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "%", "101%", "1.1", "-5%", "5 percent", ".5", "5.", "1e-2", "0.00001%", "0.0000001"]
        {
            assert!(Share::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_of_a_number_is_rounded_down() {
        assert_eq!(Share::percent(20).of(99), 19);
        assert_eq!(Share::ALL.of(u64::MAX), u64::MAX);
    }
}
