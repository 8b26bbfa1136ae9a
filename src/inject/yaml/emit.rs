//! Values written as YAML that readers of 1.1 and of 1.2 take for the same, or as JSON where the document is JSON.

use serde::Serialize as _;

use super::{
    layout::Layout,
    lines,
    node::{Document, Node},
    scalar::{Scalar, Style},
    value::Value,
};

/// A new document with this value.
pub(crate) fn manifest(value: &Value) -> String {
    block(value, 0, Layout::default())
}

/// The document written anew. What stands before its first value stays: directives, `---` and comments.
pub(super) fn anew(document: &Document, value: &Value) -> String {
    let text = document.text.as_str();
    let start = document.root.as_ref().map_or(0, |root| root.start);
    let is_alone = lines::is_first(text, start);
    let head = text.get(..if is_alone { lines::start_of(text, start) } else { start }).unwrap_or_default();
    let mut made = head.to_owned();
    if !is_alone {
        // After `---` on the same line.
        made.truncate(made.trim_end().len());
        made.push('\n');
    }
    made.push_str(&block(value, 0, Layout::of(document)));
    if text.lines().any(|line| line == "...") {
        made.push_str("...\n");
    }
    if lines::uses_crlf(text) { made.replace("\r\n", "\n").replace('\n', "\r\n") } else { made }
}

/// A document that is JSON, as a program prints it, printed again.
pub(super) fn json_like(document: &Document, new: &Value) -> Option<String> {
    let text = document.text.trim();
    if !text.starts_with('{') {
        return None;
    }
    let old = document.value()?.json();
    let indent = text.lines().nth(1).map(|line| line.len() - line.trim_start().len());
    if print(&old, indent)? != text {
        return None;
    }
    let (head, tail) = document.text.split_once(text)?;
    Some(format!("{head}{}{tail}", print(&new.json(), indent)?))
}

/// JSON on one line, or with an indent.
fn print(json: &serde_json::Value, indent: Option<usize>) -> Option<String> {
    let Some(indent) = indent else { return Some(json.to_string()) };
    let spaces = " ".repeat(indent);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    let mut printed = Vec::new();
    json.serialize(&mut serde_json::Serializer::with_formatter(&mut printed, formatter)).ok()?;
    String::from_utf8(printed).ok()
}

/// A value on lines of its own, indented by `indent`.
pub(super) fn block(value: &Value, indent: usize, layout: Layout) -> String {
    let mut made = String::new();
    match value {
        Value::Map(map) if !map.0.is_empty() => {
            for (key, value) in &map.0 {
                made.push_str(&entry(key, value, indent, layout));
            }
        }
        Value::List(items) if !items.is_empty() => {
            for value in items {
                made.push_str(&item(value, indent, layout));
            }
        }
        _ => {
            let line = on_one_line(value, false);
            made.push_str(&format!("{}{line}\n", " ".repeat(indent)));
        }
    }
    made
}

/// `key: value` in a column.
pub(super) fn entry(key: &Scalar, value: &Value, column: usize, layout: Layout) -> String {
    let key = key.on_one_line(false);
    format!("{}{key}:{}", " ".repeat(column), after_colon(value, column, layout))
}

/// What follows the colon of a key in this column, to the end of its last line.
pub(super) fn after_colon(value: &Value, column: usize, layout: Layout) -> String {
    match value {
        Value::Map(map) if !map.0.is_empty() => format!("\n{}", block(value, column + layout.step, layout)),
        Value::List(items) if !items.is_empty() => {
            format!("\n{}", block(value, column + layout.dash, layout))
        }
        _ => beside(value, column + layout.step),
    }
}

/// `- value` with the dash in a column.
pub(super) fn item(value: &Value, dash: usize, layout: Layout) -> String {
    let column = dash + layout.gap;
    let (before, gap) = (" ".repeat(dash), " ".repeat(layout.gap - 1));
    match value {
        Value::Map(map) if !map.0.is_empty() => {
            format!("{before}-{gap}{}", block(value, column, layout).trim_start_matches(' '))
        }
        Value::List(items) if !items.is_empty() => format!("{before}-\n{}", block(value, column, layout)),
        _ => format!("{before}-{}", beside(value, column)),
    }
}

/// A scalar or an empty collection behind a colon or a dash; a text of many lines is indented by `indent`.
fn beside(value: &Value, indent: usize) -> String {
    if let Some(lines) = value.as_scalar().and_then(|scalar| literal(scalar, indent)) {
        return format!(" {lines}");
    }
    match on_one_line(value, false) {
        text if text.is_empty() => "\n".to_owned(),
        text => format!(" {text}\n"),
    }
}

/// A text of many lines as a literal block, where it can be one: `|` and its lines.
pub(super) fn literal(scalar: &Scalar, indent: usize) -> Option<String> {
    let text = scalar.text.as_str();
    let is_odd = |line: &str| !line.is_empty() && line.trim().is_empty();
    let cannot = scalar.style == Style::Plain
        || scalar.tag.is_some()
        || !text.contains('\n')
        || text.starts_with(['\n', ' ', '\t'])
        || text.chars().any(|c| {
            (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
        })
        || text.split('\n').any(is_odd);
    if cannot {
        return None;
    }
    let mark = match text {
        text if text.ends_with("\n\n") => "|+",
        text if text.ends_with('\n') => "|",
        _ => "|-",
    };
    let mut made = format!("{mark}\n");
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            made.push_str(&" ".repeat(indent));
            made.push_str(line);
        }
        made.push('\n');
    }
    Some(made)
}

/// A value on one line: in braces and brackets, and with every text in quotes if it is for JSON.
pub(super) fn on_one_line(value: &Value, is_json: bool) -> String {
    if is_json {
        return value.json().to_string();
    }
    match value {
        Value::Scalar(scalar) => scalar.on_one_line(false),
        Value::List(_) | Value::Map(_) => flow(value),
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Scalar(scalar) => scalar.on_one_line(true),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let entries = map.0.iter().map(|(key, value)| flow_entry(key, value, false));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// `key: value` within braces.
pub(super) fn flow_entry(key: &Scalar, value: &Value, is_json: bool) -> String {
    if is_json {
        return format!("{}: {}", serde_json::Value::from(key.text.as_str()), value.json());
    }
    format!("{}: {}", key.on_one_line(true), flow(value))
}

/// A value within braces or brackets.
pub(super) fn flow_item(value: &Value, is_json: bool) -> String {
    if is_json { value.json().to_string() } else { flow(value) }
}

/// Whether the document is JSON, so that what comes in must be.
pub(super) fn is_json(document: &Document) -> bool {
    document.root.as_ref().is_some_and(|root: &Node| root.is_flow)
        && serde_json::from_str::<serde::de::IgnoredAny>(&document.text).is_ok()
}
