//! Limits of alert rules as written: `2s`, `5%`, `14.4x`, `5usd`, `100`, or `off`.
//!
//! Which of them a rule takes follows from what it reads; that is checked where rules are. Numbers are kept in
//! millionths, so that what is written is what is compared.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    error::ValueError,
    units::{format_duration, parse_duration},
    usd::Usd,
};

/// Millionths in one.
const MILLION: u64 = 1_000_000;
/// Digits after the point.
const DIGITS: usize = 6;
/// The largest number. It is exact as a float in millionths of itself.
const LARGEST: u64 = 1_000_000_000;

/// A limit with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Threshold {
    /// None: the level is switched off.
    Off,
    /// A time.
    Time(Duration),
    /// So many millionths of a percent.
    Percent(u64),
    /// So many millionths of a number.
    Number(u64),
    /// So many millionths of a multiple, written with an `x`.
    Factor(u64),
    /// An amount of money.
    Money(Usd),
}

impl Threshold {
    /// So many whole percent.
    #[must_use]
    pub const fn percent(percent: u64) -> Self {
        Self::Percent(percent * MILLION)
    }

    /// The value in the base unit of its kind: seconds, percent, numbers, multiples, dollars; none when it is off.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most 10^15 millionths, which a float holds exactly")]
    pub fn value(self) -> Option<f64> {
        let of_millionths = |number: u64| number as f64 / MILLION as f64;
        match self {
            Self::Off => None,
            Self::Time(time) => Some(time.as_secs_f64()),
            Self::Percent(number) | Self::Number(number) | Self::Factor(number) => {
                Some(of_millionths(number))
            }
            Self::Money(amount) => Some(of_millionths(amount.micros())),
        }
    }

    /// Reads a limit as it is written in the file.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
        match unit.trim_start() {
            _ if number.is_empty() => Err(ValueError::new(format!("`{text}` is not a limit"))
                .hint("write a number with its unit, such as 2s, 5%, 14.4x, 5usd or 100, or `off`")),
            "" => millionths(text, number).map(Self::Number),
            "%" => millionths(text, number).map(Self::Percent),
            "x" => millionths(text, number).map(Self::Factor),
            "usd" => Usd::parse(text).map(Self::Money),
            _ => parse_duration(text).map(Self::Time),
        }
    }
}

fn millionths(text: &str, number: &str) -> Result<u64, ValueError> {
    let fault = || {
        ValueError::new(format!("`{text}` is not a decimal number"))
            .hint(format!("write digits before and after the point, at most {DIGITS} after it"))
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') || fraction.len() > DIGITS {
        return Err(fault());
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= LARGEST).ok_or_else(|| {
        ValueError::new(format!("`{text}` is too large")).hint(format!("the largest number is {LARGEST}"))
    })?;
    let fraction: u64 = format!("{fraction:0<DIGITS$}").parse().map_err(|_| fault())?;
    Ok(whole * MILLION + fraction)
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self {
            Self::Off => return f.write_str("off"),
            Self::Time(time) => return f.write_str(&format_duration(*time)),
            Self::Money(amount) => return fmt::Display::fmt(amount, f),
            Self::Percent(number) => (number, "%"),
            Self::Number(number) => (number, ""),
            Self::Factor(number) => (number, "x"),
        };
        let (whole, fraction) = (number / MILLION, number % MILLION);
        if fraction == 0 {
            return write!(f, "{whole}{unit}");
        }
        let fraction = format!("{fraction:0>DIGITS$}");
        write!(f, "{whole}.{}{unit}", fraction.trim_end_matches('0'))
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for Threshold {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "x-kind": "threshold",
            "pattern": "^(off|[0-9]+([.][0-9]+)? ?(%|x|ms|s|m|h|d|usd)?)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Threshold;

    #[test]
    fn limits_are_read_exactly_and_print_as_written() {
        for (text, value, printed) in [
            ("2s", Some(2.0), "2s"),
            ("1500ms", Some(1.5), "1500ms"),
            ("5%", Some(5.0), "5%"),
            ("0.25 %", Some(0.25), "0.25%"),
            ("150%", Some(150.0), "150%"),
            ("14.4x", Some(14.4), "14.4x"),
            ("100", Some(100.0), "100"),
            ("0.1", Some(0.1), "0.1"),
            ("5usd", Some(5.0), "5usd"),
            ("0.25usd", Some(0.25), "0.25usd"),
            ("off", None, "off"),
        ] {
            let threshold = Threshold::parse(text).unwrap();

            assert_eq!((threshold.value(), threshold.to_string().as_str()), (value, printed), "{text}");
            assert_eq!(Threshold::parse(printed).unwrap(), threshold, "{text}");
        }
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in
            ["", "on", "-5", "5 percent", ".5", "5.", "1.2.3x", "2sec", "5$", "0.1234567", "9999999999"]
        {
            assert!(Threshold::parse(text).is_err(), "{text}");
        }
    }
}
