//! Rules over written samples: what fires when, and whether that is what was expected. The notation of values is that of
//! `promtool test rules`.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    engine::Engine,
    notice::{Notice, Status},
    reading::{Labels, Reading, Span},
    rules,
};
use crate::config::{self, AlertMetric, AlertSeverity, parse_duration};

/// The most moments of a test.
const MOST: usize = 100_000;
/// The largest file.
const MAX_FILE: usize = 1 << 20;
/// The limit of a route that says none.
const USUAL_LIMIT: Duration = Duration::from_secs(2);

/// Why samples cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// The file is too large.
    #[error("the file is larger than 1MiB")]
    TooLarge,
    /// The file is not YAML of this shape.
    #[error("{0}")]
    Yaml(String),
    /// A test makes no sense.
    #[error("test `{test}`: {message}")]
    Test {
        /// The name of the test.
        test: String,
        /// What is wrong with it.
        message: String,
    },
}

/// What came of all tests.
#[derive(Debug)]
pub struct Report {
    /// What fires when, and what is not as expected.
    pub text: String,
    /// How many expectations failed.
    pub failures: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Samples {
    #[serde(default)]
    interval: Option<Time>,
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    series: Vec<Series>,
    #[serde(default)]
    expect: Vec<Expectation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    metric: AlertMetric,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    limit: Option<Time>,
    #[serde(default)]
    samples: Option<u64>,
    values: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    at: Time,
    firing: Vec<Expected>,
    #[serde(default)]
    pending: Option<Vec<Expected>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    rule: String,
    #[serde(default)]
    severity: Option<AlertSeverity>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A time with its unit.
#[derive(Clone, Copy, Debug)]
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = parse_duration(&text).map_err(|error| {
            D::Error::custom(match error.hint {
                Some(hint) => format!("{}; {hint}", error.message),
                None => error.message,
            })
        });
        time.map(Self)
    }
}

/// A text that may look like a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    Words(String),
    Whole(i64),
    Number(f64),
}

impl Text {
    fn written(&self) -> String {
        match self {
            Self::Words(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Runs all rules of a configuration over the samples of a text.
///
/// # Errors
/// [`SamplesError`], when the samples make no sense.
pub fn try_rules(config: &config::Telemetry, text: &str) -> Result<Report, SamplesError> {
    if text.len() > MAX_FILE {
        return Err(SamplesError::TooLarge);
    }
    let samples: Samples =
        serde_saphyr::from_str(text).map_err(|error| SamplesError::Yaml(in_a_line(&error)))?;
    let interval = samples.interval.map_or(config.alerts.interval, |interval| interval.0);
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut report = Report { text: String::new(), failures: 0 };
    for test in &samples.tests {
        run(config, test, interval_ms, &mut report)
            .map_err(|message| SamplesError::Test { test: test.name.clone(), message })?;
    }
    Ok(report)
}

/// What is wrong and where. The whole text of such an error shows the line, and says everything twice.
fn in_a_line(error: &serde_saphyr::Error) -> String {
    error.without_snippet().to_string()
}

fn run(config: &config::Telemetry, test: &Test, interval_ms: u64, report: &mut Report) -> Result<(), String> {
    let mut engine = Engine::new(rules::compile(config), interval_ms);
    let spans = rules::needs(engine.rules());
    let mut series = Vec::new();
    for written in &test.series {
        let labels = labels_of(written)?;
        series.push((written, labels, values(&written.values.written())?));
    }
    let last_ms = test.expect.iter().map(|expected| ms(expected.at.0)).max().unwrap_or(0);
    let length = series.iter().map(|(.., values)| values.len()).max().unwrap_or(0);
    let steps = length.max(usize::try_from(last_ms / interval_ms).unwrap_or(usize::MAX).saturating_add(1));
    if steps > MOST {
        return Err(format!("{steps} moments are more than the {MOST} that are run"));
    }
    let _ = writeln!(report.text, "{}", test.name);
    let mut expectations: Vec<_> = test.expect.iter().collect();
    expectations.sort_by_key(|expected| expected.at.0);
    let mut expectations = expectations.into_iter().peekable();
    for step in 0..steps {
        let now_ms = u64::try_from(step).unwrap_or(u64::MAX).saturating_mul(interval_ms);
        let known = |metric: AlertMetric| spans.iter().filter(move |(needed, _)| *needed == metric);
        let of = |(written, labels, values): &(&Series, Labels, Vec<Option<f64>>)| {
            let value = values.get(step).copied().flatten();
            let read = |value| {
                known(written.metric).map(|(_, span)| reading(written, labels, *span, value)).collect()
            };
            value.map_or_else(Vec::new, read)
        };
        let readings: Vec<Reading> = series.iter().flat_map(of).collect();
        for change in engine.tick(now_ms, &readings) {
            let word = if change.is_firing { "fires" } else { "is over" };
            let _ = writeln!(report.text, "  {:>7}  {}", time(now_ms), line(&change.notice, word));
        }
        let next_ms = now_ms.saturating_add(interval_ms);
        while let Some(expected) = expectations.next_if(|expected| ms(expected.at.0) < next_ms) {
            check(&engine, expected, report);
        }
    }
    Ok(())
}

fn reading(written: &Series, labels: &Labels, span: Span, value: f64) -> Reading {
    let limit = written.limit.map_or(USUAL_LIMIT, |limit| limit.0);
    Reading {
        metric: written.metric,
        span,
        labels: labels.clone(),
        value,
        samples: written.samples.unwrap_or(u64::MAX),
        limit: Some(limit.as_secs_f64()),
        note: None,
    }
}

fn labels_of(series: &Series) -> Result<Labels, String> {
    let known = series.metric.labels();
    let mut labels = Labels::new();
    for (name, value) in &series.labels {
        let Some(known) = known.iter().find(|known| *known == name) else {
            let metric = series.metric.as_str();
            return Err(match known {
                [] => format!("`{metric}` has no labels"),
                known => format!("`{metric}` has no label `{name}`, but {}", known.join(", ")),
            });
        };
        labels.insert(known, value.clone());
    }
    Ok(labels)
}

/// Reads `1 2x3 1+2x3 _ _x4`. Without a sign the value stays as it is.
fn values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut all = Vec::new();
    for word in text.split_whitespace() {
        let fault = || format!("`{word}` is no value: write 3, 3x4, 1+2x3, 9-2x3, _ or _x4");
        let (value, more) = match word.split_once('x') {
            Some((value, more)) => (value, more.parse::<usize>().map_err(|_| fault())?),
            None => (word, 0),
        };
        if all.len().saturating_add(more) > MOST {
            return Err(format!("there are more than {MOST} values"));
        }
        if value == "_" {
            all.extend(std::iter::repeat_n(None, more + 1));
            continue;
        }
        let at = value.char_indices().skip(1).find(|(_, char)| matches!(char, '+' | '-')).map(|(at, _)| at);
        let (start, step) = value.split_at_checked(at.unwrap_or(value.len())).ok_or_else(fault)?;
        let start: f64 = start.parse().map_err(|_| fault())?;
        let step: f64 = if step.is_empty() { 0.0 } else { step.parse().map_err(|_| fault())? };
        if !start.is_finite() || !step.is_finite() {
            return Err(fault());
        }
        let mut value = start;
        for _ in 0..=more {
            all.push(Some(value));
            value += step;
        }
    }
    Ok(all)
}

fn check(engine: &Engine, expected: &Expectation, report: &mut Report) {
    let notices = engine.notices();
    let of = |states: &[Status]| -> Vec<&Notice> {
        notices.iter().map(AsRef::as_ref).filter(|notice| states.contains(&notice.status)).collect()
    };
    let mut faults = differences("firing", &expected.firing, &of(&[Status::Firing, Status::NoData]));
    if let Some(pending) = &expected.pending {
        faults.extend(differences("pending", pending, &of(&[Status::Pending])));
    }
    let at = time(ms(expected.at.0));
    if faults.is_empty() {
        let _ = writeln!(report.text, "  {at:>7}  as expected");
    }
    for fault in faults {
        report.failures += 1;
        let _ = writeln!(report.text, "  {at:>7}  FAILED: {fault}");
    }
}

/// What is missing and what is too much.
fn differences(state: &str, expected: &[Expected], found: &[&Notice]) -> Vec<String> {
    let mut left: Vec<_> = found.to_vec();
    let mut faults = Vec::new();
    for wanted in expected {
        match left.iter().position(|notice| wanted.is(notice)) {
            Some(at) => {
                left.swap_remove(at);
            }
            None => faults.push(format!("{wanted} is not {state}")),
        }
    }
    faults.extend(left.iter().map(|notice| line(notice, &format!("is {state} and was not expected"))));
    faults
}

impl Expected {
    fn is(&self, notice: &Notice) -> bool {
        let has = |(name, wanted): (&String, &String)| {
            notice.labels.get(name.as_str()).is_some_and(|value| value == wanted)
        };
        *self.rule == *notice.rule
            && self.severity.is_none_or(|severity| severity == notice.severity)
            && self.labels.iter().all(has)
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.rule)?;
        if let Some(severity) = self.severity {
            write!(f, " ({})", severity.as_str())?;
        }
        self.labels.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

fn line(notice: &Notice, word: &str) -> String {
    let Notice { rule, text, value, .. } = notice;
    let reason = notice.reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("{rule} ({}) {word}: {text}; last {value}{reason}", notice.severity.as_str())
}

/// A time as people write it: `2m50s`.
fn time(ms: u64) -> String {
    let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    if rest % 1000 > 0 {
        let _ = write!(text, "{rest}ms");
    } else if rest > 0 || text.is_empty() {
        let _ = write!(text, "{}s", rest / 1000);
    }
    text
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
