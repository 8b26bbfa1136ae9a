//! Amounts of money as written in the file: a decimal number and `usd`, never a bare number.
//!
//! Both types are whole numbers inside, so that a sum is exact: an amount counts millionths of a dollar, a price
//! per million tokens counts millionths of a millionth of a dollar per token. A number that would have to be rounded
//! is refused. What is calculated with them is in the plane that spends the money.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::error::ValueError;

/// The unit in the file.
const UNIT: &str = "usd";
/// Digits after the point.
const DIGITS: usize = 6;
/// Millionths in one.
const MILLION: u64 = 1_000_000;
/// The largest amount, in dollars. Far above any budget, and a sum of a million of them still fits.
const LARGEST: u64 = 1_000_000_000;
/// The largest price of a million tokens, in dollars. A cost of as many tokens as can be counted then fits `i128`.
const DEAREST: u64 = 1_000_000;

/// An amount of money: `20usd`, `0.25usd`. Exact to a millionth of a dollar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(u64);

impl Usd {
    /// An amount of so many millionths of a dollar.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The amount in millionths of a dollar.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Reads an amount such as `0.25usd`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        millionths(text, "amount", LARGEST).map(Self)
    }
}

/// The price of a million tokens: `2usd`, `0.125usd`. Exact to a millionth of a millionth of a dollar per token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UsdPerMillion(u64);

impl UsdPerMillion {
    /// A price of so many pico-dollars per token.
    #[must_use]
    pub const fn from_picos_per_token(picos: u64) -> Self {
        Self(picos)
    }

    /// The price of one token in pico-dollars: what a million tokens cost in millionths of a dollar is the same number.
    #[must_use]
    pub const fn picos_per_token(self) -> u64 {
        self.0
    }

    /// Reads a price such as `0.125usd`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        millionths(text, "price", DEAREST).map(Self)
    }
}

/// Reads a decimal number of dollars as millionths.
fn millionths(text: &str, what: &str, most: u64) -> Result<u64, ValueError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let example = if what == "price" { "2.50usd" } else { "20usd" };
    if number.is_empty() {
        return Err(ValueError::new(format!("`{text}` is not a {what}"))
            .hint(format!("write a number and the unit, such as {example}")));
    }
    check_unit(text, number, rest, what)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(ValueError::new(format!("`{text}` is not a decimal number of dollars"))
            .hint("write digits before and after the point, such as 0.25usd"));
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > DIGITS {
        return Err(ValueError::new(format!(
            "{what} `{text}` has more than {DIGITS} digits after the point"
        ))
        .hint("it would have to be rounded"));
    }
    let too_large = || {
        ValueError::new(format!("{what} `{text}` is too large"))
            .hint(format!("the largest {what} is {most}{UNIT}"))
    };
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= most).ok_or_else(too_large)?;
    // At most six digits, filled up to six: they always fit.
    let fraction: u64 = format!("{fraction:0<DIGITS$}").parse().unwrap_or(0);
    Some(whole * MILLION + fraction).filter(|amount| *amount <= most * MILLION).ok_or_else(too_large)
}

/// Holds what follows the number to be the unit.
fn check_unit(text: &str, number: &str, rest: &str, what: &str) -> Result<(), ValueError> {
    if rest == UNIT {
        return Ok(());
    }
    let meant = format!("write {number}{UNIT}");
    let unit = rest.trim();
    Err(if unit.is_empty() {
        ValueError::new(format!("{what} `{text}` has no unit")).hint(meant)
    } else if unit == UNIT {
        ValueError::new(format!("{what} `{text}` has a space at its unit")).hint(meant)
    } else if unit.eq_ignore_ascii_case(UNIT) || unit == "$" {
        ValueError::new(format!("{what} `{text}` has an unknown unit `{unit}`"))
            .hint(format!("did you mean {number}{UNIT}?"))
    } else if unit.starts_with([',', '_', '\'']) {
        ValueError::new(format!("`{text}` is not a decimal number of dollars"))
            .hint("digits are not grouped, and the fraction follows a point, such as 0.25usd")
    } else {
        ValueError::new(format!("{what} `{text}` has an unknown unit `{unit}`")).hint("the only unit is usd")
    })
}

/// Prints millionths of a dollar without needless zeros: `0.25usd`, `20usd`.
fn print(millionths: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (whole, fraction) = (millionths / MILLION, millionths % MILLION);
    if fraction == 0 {
        return write!(f, "{whole}{UNIT}");
    }
    let fraction = format!("{fraction:0>DIGITS$}");
    write!(f, "{whole}.{}{UNIT}", fraction.trim_end_matches('0'))
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, f)
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, f)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for Usd {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "usd", "pattern": "^[0-9]+([.][0-9]+)?usd$" })
    }
}

impl fmt::Display for UsdPerMillion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, f)
    }
}

impl fmt::Debug for UsdPerMillion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, f)
    }
}

impl Serialize for UsdPerMillion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UsdPerMillion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for UsdPerMillion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UsdPerMillion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "price", "pattern": "^[0-9]+([.][0-9]+)?usd$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_print_in_canonical_form() {
        for (text, micros, printed) in [
            ("20usd", 20_000_000, "20usd"),
            ("0.25usd", 250_000, "0.25usd"),
            ("0.250000usd", 250_000, "0.25usd"),
            ("0.000001usd", 1, "0.000001usd"),
            ("0usd", 0, "0usd"),
            ("007.10usd", 7_100_000, "7.1usd"),
            ("0.1000000000usd", 100_000, "0.1usd"),
            ("1000000000usd", 1_000_000_000_000_000, "1000000000usd"),
        ] {
            let amount = Usd::parse(text).unwrap();

            assert_eq!(amount.micros(), micros, "{text}");
            assert_eq!(amount.to_string(), printed, "{text}");
            assert_eq!(Usd::parse(printed).unwrap(), amount, "{text}");
        }
    }

    #[test]
    fn a_price_per_million_tokens_is_a_whole_number_of_pico_dollars_per_token() {
        for (text, picos) in [
            ("2usd", 2_000_000),
            ("0.01usd", 10_000),
            ("0.125usd", 125_000),
            ("1000000usd", 1_000_000_000_000),
        ] {
            assert_eq!(UsdPerMillion::parse(text).unwrap().picos_per_token(), picos, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_advice() {
        for (text, advice) in [
            ("", "write a number and the unit, such as 20usd"),
            ("20", "write 20usd"),
            ("20 usd", "write 20usd"),
            ("20usd ", "write 20usd"),
            ("20USD", "did you mean 20usd?"),
            ("20$", "did you mean 20usd?"),
            ("20eur", "the only unit is usd"),
            ("20usd/day", "the only unit is usd"),
            ("$20", "write a number and the unit, such as 20usd"),
            ("-1usd", "write a number and the unit, such as 20usd"),
            ("1e3usd", "the only unit is usd"),
            ("1,5usd", "digits are not grouped, and the fraction follows a point, such as 0.25usd"),
            (".5usd", "write digits before and after the point, such as 0.25usd"),
            ("5.usd", "write digits before and after the point, such as 0.25usd"),
            ("1.2.3usd", "write digits before and after the point, such as 0.25usd"),
            (".usd", "write digits before and after the point, such as 0.25usd"),
            ("0.0000001usd", "it would have to be rounded"),
            ("1000000000.000001usd", "the largest amount is 1000000000usd"),
            ("99999999999999999999999usd", "the largest amount is 1000000000usd"),
        ] {
            assert_eq!(Usd::parse(text).unwrap_err().hint.as_deref(), Some(advice), "{text}");
        }
        let error = UsdPerMillion::parse("1000001usd").unwrap_err();
        assert_eq!(error.message, "price `1000001usd` is too large");
        assert_eq!(UsdPerMillion::parse("2").unwrap_err().message, "price `2` has no unit");
    }

    #[test]
    fn both_are_written_to_json_as_they_are_read() {
        let amount: Usd = serde_json::from_str("\"0.25usd\"").unwrap();
        let price: UsdPerMillion = serde_json::from_str("\"2.50usd\"").unwrap();

        assert_eq!(serde_json::to_string(&amount).unwrap(), "\"0.25usd\"");
        assert_eq!(serde_json::to_string(&price).unwrap(), "\"2.5usd\"");
        assert!(serde_json::from_str::<Usd>("20").is_err());
    }
}
