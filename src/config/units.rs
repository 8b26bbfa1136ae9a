//! Durations and sizes as written in the file: a whole number and a unit, never a bare number.
//!
//! Both print in a canonical form, the largest unit that divides them, so that a value survives being printed and
//! read again. Fractions are refused: `1500ms` says the same as `1.5s` and cannot be rounded.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::error::ValueError;

/// Units of time with their length in milliseconds, smallest first.
const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Units of size in bytes: the binary ones first, as they are preferred when a size is printed.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];
/// Longest time that can be written. It keeps every sum of an instant and a configured time in range.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// Largest size that can be written, so that a size always fits `usize` and sums never overflow.
const LARGEST: u64 = 1 << 40;

/// A number of bytes, written with a unit: `64MiB`, `8KiB`, `512B`, `1MB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// A size of so many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of so many KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// A size of so many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size in bytes, for lengths and capacities in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads a size such as `64MiB`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let size = parse_with(text, "size", SIZE_UNITS, "64MiB")?;
        match size {
            Some(bytes) if bytes <= LARGEST => Ok(Self(bytes)),
            _ => {
                Err(ValueError::new(format!("size `{text}` is too large"))
                    .hint("the largest size is 1024GiB"))
            }
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        let (binary, decimal) = SIZE_UNITS.split_at_checked(4).unwrap_or((SIZE_UNITS, &[]));
        let best = binary.iter().skip(1).rev().chain(decimal.iter().rev()).find(divides);
        match best {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "size", "x-min": "1B", "pattern": "^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)$" })
    }
}

/// The schema of a size that may be `0B`.
pub(crate) struct SizeOrZero;

impl JsonSchema for SizeOrZero {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SizeOrZero".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "size", "pattern": "^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)$" })
    }
}

/// The schema of a time above zero.
pub(crate) struct Time;

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "time", "x-min": "1ms", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

/// The schema of a time that may be `0s`.
pub(crate) struct TimeOrZero;

impl JsonSchema for TimeOrZero {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TimeOrZero".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "time", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

/// Reads a time such as `250ms`, `30m` or `24h`.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let millis = parse_with(text, "time", TIME_UNITS, "30s")?;
    match millis.map(Duration::from_millis) {
        Some(time) if time <= LONGEST => Ok(time),
        _ => Err(ValueError::new(format!("time `{text}` is too long")).hint("the longest time is 366d")),
    }
}

/// Prints a time in the largest unit up to hours that divides it: `90s`, `30m`, `24h`, `0s`.
pub fn format_duration(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let best = TIME_UNITS.iter().rev().skip(1).find(|unit| millis >= unit.1 && millis.is_multiple_of(unit.1));
    match best {
        Some((unit, length)) => format!("{}{unit}", millis / length),
        None => "0s".to_owned(),
    }
}

/// A number times its unit; `None` when that does not fit.
fn parse_with(
    text: &str,
    what: &str,
    units: &[(&str, u64)],
    example: &str,
) -> Result<Option<u64>, ValueError> {
    let names = units.iter().map(|unit| unit.0).collect::<Vec<_>>().join(", ");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits).unwrap_or((text, ""));
    let unit = rest.trim_start();
    if number.is_empty() {
        return Err(ValueError::new(format!("`{text}` is not a {what}"))
            .hint(format!("write a whole number and a unit, such as {example}; units are {names}")));
    }
    if unit.is_empty() {
        return Err(
            ValueError::new(format!("{what} `{text}` has no unit")).hint(missing_unit(number, what, &names))
        );
    }
    if unit.starts_with(['.', ',', '_']) {
        return Err(
            ValueError::new(format!("`{text}` is not a whole number with a unit")).hint(whole_number(what))
        );
    }
    let Some((_, length)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(ValueError::new(format!("{what} `{text}` has an unknown unit `{unit}`"))
            .hint(unknown_unit(number, unit, units, &names)));
    };
    if unit.len() != rest.len() {
        return Err(ValueError::new(format!("{what} `{text}` has a space before its unit"))
            .hint(format!("write {number}{unit}")));
    }
    Ok(number.parse::<u64>().ok().and_then(|n| n.checked_mul(*length)))
}

/// Advice for a fraction.
fn whole_number(what: &str) -> &'static str {
    if what == "time" {
        "use a smaller unit, such as 1500ms for 1.5s"
    } else {
        "use a smaller unit, such as 1536KiB for 1.5MiB"
    }
}

/// Advice for a bare number: the two readings an operator may have meant.
fn missing_unit(number: &str, what: &str, names: &str) -> String {
    if what == "time" {
        format!("did you mean {number}s or {number}ms? units are {names}")
    } else {
        format!("did you mean {number}B or {number}KiB? units are {names}")
    }
}

/// Advice for a unit of another tool: `30sec`, `5min`, `64Mi`, `64mb`, `8k`.
fn unknown_unit(number: &str, unit: &str, units: &[(&str, u64)], names: &str) -> String {
    let lower = unit.to_ascii_lowercase();
    let known = units.iter().map(|unit| unit.0);
    let meant = match lower.as_str() {
        "us" | "µs" | "ns" => None,
        "sec" | "secs" | "second" | "seconds" => Some("s"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "msec" | "millis" | "milliseconds" => Some("ms"),
        "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "day" | "days" => Some("d"),
        "k" | "ki" => Some("KiB"),
        "mi" => Some("MiB"),
        "g" | "gi" => Some("GiB"),
        "byte" | "bytes" => Some("B"),
        "m" => Some("MiB"),
        _ => known.clone().find(|name| name.eq_ignore_ascii_case(unit)),
    };
    match meant.filter(|meant| known.clone().any(|name| name == *meant)) {
        Some(meant) => format!("did you mean {number}{meant}? units are {names}"),
        None => format!("units are {names}"),
    }
}

/// Serde for a [`Duration`] written with its unit.
pub(crate) mod duration {
    use std::{borrow::Cow, time::Duration};

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(D::Error::custom)
    }
}

/// Serde for an optional [`Duration`] written with its unit.
pub(crate) mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Written;

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::duration::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Written>::deserialize(deserializer)?.map(|written| written.0))
    }
}

/// Serde for [`Duration`]s by HTTP status.
pub(crate) mod durations_by_status {
    use std::{collections::BTreeMap, time::Duration};

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Written;

    pub(crate) fn serialize<S: Serializer>(
        times: &BTreeMap<u16, Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            times.iter().map(|(status, time)| (status.to_string(), super::format_duration(*time))),
        )
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u16, Duration>, D::Error> {
        let written = BTreeMap::<u16, Written>::deserialize(deserializer)?;
        Ok(written.into_iter().map(|(status, written)| (status, written.0)).collect())
    }
}

/// One written time, for the containers above.
#[derive(Deserialize)]
struct Written(#[serde(with = "duration")] Duration);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_print_in_canonical_form() {
        for (text, millis, printed) in [
            ("250ms", 250, "250ms"),
            ("1000ms", 1_000, "1s"),
            ("90s", 90_000, "90s"),
            ("60m", 3_600_000, "1h"),
            ("2d", 172_800_000, "48h"),
            ("0s", 0, "0s"),
            ("0ms", 0, "0s"),
        ] {
            let time = parse_duration(text).unwrap();

            assert_eq!(time, Duration::from_millis(millis), "{text}");
            assert_eq!(format_duration(time), printed, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_print_in_canonical_form() {
        for (text, bytes, printed) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1MB", 1_000_000, "1MB"),
            ("1000B", 1_000, "1KB"),
            ("100B", 100, "100B"),
            ("0B", 0, "0B"),
        ] {
            let size = ByteSize::parse(text).unwrap();

            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn a_bare_number_a_foreign_unit_and_a_fraction_are_refused_with_advice() {
        for (text, advice) in [
            ("30", "did you mean 30s or 30ms? units are ms, s, m, h, d"),
            ("30sec", "did you mean 30s? units are ms, s, m, h, d"),
            ("1.5s", "use a smaller unit, such as 1500ms for 1.5s"),
            ("30 s", "write 30s"),
            ("-1s", "write a whole number and a unit, such as 30s; units are ms, s, m, h, d"),
            ("5us", "units are ms, s, m, h, d"),
            ("999999999999d", "the longest time is 366d"),
            ("99999999999999999999999s", "the longest time is 366d"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().hint.as_deref(), Some(advice), "{text}");
        }
        for (text, advice) in [
            ("64Mi", "did you mean 64MiB? units are B, KiB, MiB, GiB, KB, MB, GB"),
            ("8k", "did you mean 8KiB? units are B, KiB, MiB, GiB, KB, MB, GB"),
            ("64mib", "did you mean 64MiB? units are B, KiB, MiB, GiB, KB, MB, GB"),
            ("4096", "did you mean 4096B or 4096KiB? units are B, KiB, MiB, GiB, KB, MB, GB"),
        ] {
            assert_eq!(ByteSize::parse(text).unwrap_err().hint.as_deref(), Some(advice), "{text}");
        }
    }
}
