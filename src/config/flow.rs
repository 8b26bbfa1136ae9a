//! A value in one line, as flow YAML would have it: for lists of settings and of changes.

use serde_json::Value;

/// A value as flow YAML. Nothing reads it but people, so a text has quotes only where it would be taken for another type.
pub fn flow_yaml(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if is_word_of_another_kind(text) => format!("\"{text}\""),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(flow_yaml).collect::<Vec<_>>().join(", ")),
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let pairs = members.iter().map(|(name, value)| format!("{name}: {}", flow_yaml(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Whether a text would be read as something else where it stands without quotes.
fn is_word_of_another_kind(text: &str) -> bool {
    matches!(text, "" | "true" | "false" | "null" | "~" | "yes" | "no" | "on") || text.parse::<f64>().is_ok()
}
