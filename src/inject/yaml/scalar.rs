//! Scalars: what a reader of YAML 1.1 makes of them, and how a text is written so that every reader makes the same.

use std::fmt::Write as _;

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes, so that `true` and `12` are no texts.
    Plain,
    Single,
    Double,
    /// `|` or `>`.
    Block,
}

/// A scalar with the way it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
    /// An explicit tag other than `!!str`, as it is written.
    pub(crate) tag: Option<String>,
}

/// What a scalar means to Kubernetes, which reads YAML 1.1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Meaning<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    /// A text, without quotes where every reader takes it for one.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        let style = if is_plain_text(&text) { Style::Plain } else { quotes(&text) };
        Self { text, style, tag: None }
    }

    /// What is written without quotes: a number, `true`, or nothing at all.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: Style::Plain, tag: None }
    }

    /// What kubectl makes of it.
    pub(crate) fn meaning(&self) -> Meaning<'_> {
        let text = self.text.as_str();
        if self.style != Style::Plain || self.tag.is_some() {
            return Meaning::Text(text);
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                return Meaning::Bool(true);
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
                return Meaning::Bool(false);
            }
            _ => {}
        }
        if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
            return Meaning::Text(text);
        }
        let digits = text.replace('_', "");
        integer(&digits)
            .map(Meaning::Int)
            .or_else(|| float(&digits).map(Meaning::Float))
            .unwrap_or(Meaning::Text(text))
    }

    pub(crate) fn is_null(&self) -> bool {
        self.meaning() == Meaning::Null
    }

    /// Whether every reader makes the same of both.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        if self.tag != other.tag {
            return false;
        }
        if (self.style == Style::Plain) == (other.style == Style::Plain) {
            return self.text == other.text
                || (self.style == Style::Plain && self.is_null() && other.is_null());
        }
        let plain = if self.style == Style::Plain { self } else { other };
        self.text == other.text && !can_be_misread(&plain.text)
    }

    /// The scalar on one line; within `{ }` and `[ ]` more needs quotes.
    pub(crate) fn on_one_line(&self, is_flow: bool) -> String {
        let style = match self.style {
            Style::Plain if is_flow && self.text.contains([',', '[', ']', '{', '}']) => Style::Double,
            Style::Plain if self.text.contains('\n') => Style::Double,
            Style::Single if self.text.contains(is_special) => Style::Double,
            Style::Block => quotes(&self.text),
            style => style,
        };
        let text = match style {
            Style::Plain if is_flow && self.text.is_empty() => "null".to_owned(),
            Style::Plain => self.text.clone(),
            Style::Single => format!("'{}'", self.text.replace('\'', "''")),
            Style::Double | Style::Block => double_quoted(&self.text),
        };
        match &self.tag {
            Some(tag) => format!("{tag} {text}"),
            None => text,
        }
    }

    /// The scalar as JSON has it.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self.meaning() {
            Meaning::Null => serde_json::Value::Null,
            Meaning::Bool(is_true) => is_true.into(),
            Meaning::Int(number) => number.into(),
            Meaning::Float(number) => number.into(),
            Meaning::Text(text) => text.into(),
        }
    }
}

/// An integer as Go reads it with an open base, and so kubectl: `0644` is octal.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixes = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)];
    let prefixed = prefixes.iter().find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)));
    let (digits, radix) = match prefixed {
        Some(found) => found,
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

fn float(text: &str) -> Option<f64> {
    let is_number = text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    if !is_number {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Whether some reader may take the text, without quotes, for something else than a text.
fn can_be_misread(text: &str) -> bool {
    let words = [
        "", "~", "null", "y", "n", "yes", "no", "true", "false", "on", "off", "=", "<<", ".inf", ".nan",
        "-.inf", "+.inf",
    ];
    if words.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return true;
    }
    // Numbers of all bases, 1e3, 1_000, 12:30:45, dates: all begin so, and have no other letters than these.
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && text.contains(|c: char| c.is_ascii_digit())
        && !has_unit(text)
}

/// `15s`, `25m`, `32Mi`: a number with a unit, which no reader takes for a number.
fn has_unit(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len()
        && matches!(unit, "ms" | "s" | "m" | "h" | "Ki" | "Mi" | "Gi" | "KiB" | "MiB" | "GiB")
}

/// Whether the text can stand without quotes, in a block and within braces, and is a text to every reader.
fn is_plain_text(text: &str) -> bool {
    // `-c` and `--config` are texts; `- c` and `-1` are not.
    let bare = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).unwrap_or(text);
    let is_begun = match bare.chars().next() {
        Some(first) if bare.len() < text.len() => first.is_ascii_alphabetic(),
        Some(first) => first.is_ascii_alphanumeric() || matches!(first, '/' | '_'),
        None => false,
    };
    let is_inner =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '@' | '+' | ':' | '=');
    is_begun && text.chars().all(is_inner) && !text.ends_with(':') && !can_be_misread(text)
}

/// The quotes that need the fewest escapes.
fn quotes(text: &str) -> Style {
    if text.contains(['"', '\\']) && !text.contains(is_special) { Style::Single } else { Style::Double }
}

/// What needs an escape, as a reader may take it for the end of a line or refuse it.
fn is_special(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if is_special(c) => {
                // Writing to a text cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
