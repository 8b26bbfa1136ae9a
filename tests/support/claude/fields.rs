//! Top-level fields of the requests: which exist in which version, and their types. The turns are read in `turns`.

use serde_json::{Map, Value};

use super::failure::Failure;

/// Fields of a messages request without any beta.
const KNOWN: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "system",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "container",
    "inference_geo",
    "service_tier",
    "speed",
    "diagnostics",
];

/// Fields that exist only with a beta header.
const BETA: &[&str] = &[
    "context_management",
    "mcp_servers",
    "fallbacks",
    "fallback_credit_token",
    "compaction",
    "thread",
    "billing_policy",
    "output_format",
];

/// Fields of `count_tokens`.
const COUNTED: &[&str] = &[
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "speed",
    "context_management",
    "mcp_servers",
];

const SAMPLING: &[&str] = &["temperature", "top_p", "top_k"];

/// What the headers say about how a body is read.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    /// `anthropic-version: 2026-10-21`.
    pub(crate) is_new: bool,
    /// The values of `anthropic-beta`.
    pub(crate) betas: Vec<String>,
}

/// Checks names and types of the fields of `POST /v1/messages`.
pub(crate) fn check_message(body: &Map<String, Value>, dialect: &Dialect) -> Result<(), Failure> {
    for name in body.keys().map(String::as_str) {
        let known = KNOWN.contains(&name) || BETA.contains(&name) && !dialect.betas.is_empty();
        if !known || dialect.is_new && SAMPLING.contains(&name) {
            return Err(Failure::extra(name));
        }
    }
    check_required(body, &["model", "max_tokens", "messages"])?;
    check_common(body)?;
    match body.get("max_tokens") {
        Some(value) if value.as_i64().is_some_and(|count| count < 1) => {
            return Err(Failure::invalid("max_tokens: Input should be greater than or equal to 1"));
        }
        Some(value) if value.as_u64().is_none() => {
            return Err(Failure::invalid("max_tokens: Input should be a valid integer"));
        }
        _ => {}
    }
    check_numbers(body)?;
    check_stops(body)?;
    if body.get("stream").is_some_and(|value| !value.is_boolean()) {
        return Err(Failure::invalid("stream: Input should be a valid boolean"));
    }
    check_metadata(body)?;
    check_word(body, "service_tier", &["auto", "standard_only"])?;
    check_word(body, "inference_geo", &["us", "global"])
}

/// Checks names and types of the fields of `POST /v1/messages/count_tokens`.
pub(crate) fn check_count(body: &Map<String, Value>) -> Result<(), Failure> {
    if let Some(name) = body.keys().find(|name| !COUNTED.contains(&name.as_str())) {
        return Err(Failure::extra(name));
    }
    check_required(body, &["model", "messages"])?;
    check_common(body)
}

fn check_required(body: &Map<String, Value>, names: &[&str]) -> Result<(), Failure> {
    match names.iter().find(|name| !body.contains_key(**name)) {
        Some(name) => Err(Failure::invalid(format!("{name}: Field required"))),
        None => Ok(()),
    }
}

fn check_common(body: &Map<String, Value>) -> Result<(), Failure> {
    match body.get("model").and_then(Value::as_str) {
        None => return Err(Failure::invalid("model: Input should be a valid string")),
        Some("") => return Err(Failure::invalid("model: String should have at least 1 character")),
        Some(_) => {}
    }
    check_word(body, "speed", &["standard", "fast"])?;
    check_tools(body)?;
    check_tool_choice(body)?;
    check_thinking(body)?;
    check_output_config(body)
}

/// An optional field with a closed set of values; `null` counts as absent.
fn check_word(body: &Map<String, Value>, name: &str, words: &[&str]) -> Result<(), Failure> {
    let value = body.get(name).filter(|value| !value.is_null());
    if value.is_some_and(|value| !value.as_str().is_some_and(|word| words.contains(&word))) {
        return Err(Failure::invalid(format!("{name}: Input should be {}", list(words))));
    }
    Ok(())
}

/// `'a', 'b' or 'c'`
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    match quoted.as_slice() {
        [head @ .., last] if !head.is_empty() => format!("{} or {last}", head.join(", ")),
        _ => quoted.join(""),
    }
}

fn check_numbers(body: &Map<String, Value>) -> Result<(), Failure> {
    for name in ["temperature", "top_p"] {
        let Some(value) = body.get(name) else { continue };
        let Some(number) = value.as_f64() else {
            return Err(Failure::invalid(format!("{name}: Input should be a valid number")));
        };
        if !(0.0..=1.0).contains(&number) {
            return Err(Failure::invalid(format!("{name}: range: 0..1")));
        }
    }
    if body.get("top_k").is_some_and(|value| value.as_u64().is_none()) {
        return Err(Failure::invalid("top_k: Input should be a valid integer"));
    }
    Ok(())
}

fn check_stops(body: &Map<String, Value>) -> Result<(), Failure> {
    let Some(stops) = body.get("stop_sequences").filter(|value| !value.is_null()) else { return Ok(()) };
    let Some(stops) = stops.as_array() else {
        return Err(Failure::invalid("stop_sequences: Input should be a valid array"));
    };
    for (i, stop) in stops.iter().enumerate() {
        match stop.as_str() {
            None => {
                return Err(Failure::invalid(format!("stop_sequences.{i}: Input should be a valid string")));
            }
            Some(text) if text.trim().is_empty() => {
                return Err(Failure::invalid(
                    "stop_sequences: each stop sequence must contain non-whitespace",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn check_metadata(body: &Map<String, Value>) -> Result<(), Failure> {
    let Some(metadata) = body.get("metadata").filter(|value| !value.is_null()) else { return Ok(()) };
    let Some(fields) = metadata.as_object() else {
        return Err(Failure::invalid("metadata: Input should be a valid dictionary"));
    };
    match fields.keys().find(|name| *name != "user_id") {
        Some(name) => Err(Failure::extra(&format!("metadata.{name}"))),
        None => Ok(()),
    }
}

fn check_tools(body: &Map<String, Value>) -> Result<(), Failure> {
    let Some(tools) = body.get("tools").filter(|value| !value.is_null()) else { return Ok(()) };
    let Some(tools) = tools.as_array() else {
        return Err(Failure::invalid("tools: Input should be a valid array"));
    };
    let mut names: Vec<&str> = Vec::new();
    for (i, tool) in tools.iter().enumerate() {
        let is_ours = tool.get("type").is_none_or(|kind| kind == "custom" || kind.is_null());
        let name = tool.get("name").and_then(Value::as_str);
        if is_ours && name.is_none() {
            return Err(Failure::invalid(format!("tools.{i}.custom.name: Field required")));
        }
        if is_ours && !tool.get("input_schema").is_some_and(Value::is_object) {
            return Err(Failure::invalid(format!("tools.{i}.custom.input_schema: Field required")));
        }
        let Some(name) = name else { continue };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 128 || !name.chars().all(is_plain) {
            return Err(Failure::invalid(format!(
                "tools.{i}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            )));
        }
        if names.contains(&name) {
            return Err(Failure::invalid("tools: Tool names must be unique."));
        }
        names.push(name);
    }
    Ok(())
}

fn check_tool_choice(body: &Map<String, Value>) -> Result<(), Failure> {
    let Some(choice) = body.get("tool_choice").filter(|value| !value.is_null()) else { return Ok(()) };
    let kind = choice.get("type").and_then(Value::as_str).unwrap_or_default();
    if !["auto", "any", "tool", "none"].contains(&kind) {
        return Err(Failure::invalid(format!(
            "tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags: \
             'auto', 'any', 'tool', 'none'"
        )));
    }
    let tools = body.get("tools").and_then(Value::as_array).filter(|tools| !tools.is_empty());
    let Some(tools) = tools else {
        return Err(Failure::invalid("tool_choice: may only be specified while providing tools"));
    };
    if kind == "tool" {
        let Some(name) = choice.get("name").and_then(Value::as_str) else {
            return Err(Failure::invalid("tool_choice.tool.name: Field required"));
        };
        if !tools.iter().any(|tool| tool.get("name").and_then(Value::as_str) == Some(name)) {
            return Err(Failure::invalid(format!("Tool '{name}' not found in provided tools")));
        }
    }
    Ok(())
}

fn check_thinking(body: &Map<String, Value>) -> Result<(), Failure> {
    let Some(thinking) = body.get("thinking").filter(|value| !value.is_null()) else { return Ok(()) };
    let kind = thinking.get("type").and_then(Value::as_str).unwrap_or_default();
    let allowed: &[&str] = match kind {
        "adaptive" => &["type", "display", "block_binding"],
        "enabled" => &["type", "display", "block_binding", "budget_tokens"],
        "disabled" | "between_tools" => &["type"],
        _ => {
            return Err(Failure::invalid(format!(
                "thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags: \
                 'adaptive', 'between_tools', 'disabled', 'enabled'"
            )));
        }
    };
    if let Some(fields) = thinking.as_object()
        && let Some(name) = fields.keys().find(|name| !allowed.contains(&name.as_str()))
    {
        return Err(Failure::extra(&format!("thinking.{kind}.{name}")));
    }
    if kind == "enabled" {
        let Some(budget) = thinking.get("budget_tokens").and_then(Value::as_u64) else {
            return Err(Failure::invalid("thinking.enabled.budget_tokens: Field required"));
        };
        if budget < 1024 {
            return Err(Failure::invalid(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
            ));
        }
        if body.get("max_tokens").and_then(Value::as_u64).is_some_and(|max| max <= budget) {
            return Err(Failure::invalid("`max_tokens` must be greater than `thinking.budget_tokens`."));
        }
    }
    Ok(())
}

fn check_output_config(body: &Map<String, Value>) -> Result<(), Failure> {
    let Some(config) = body.get("output_config").filter(|value| !value.is_null()) else { return Ok(()) };
    let Some(fields) = config.as_object() else {
        return Err(Failure::invalid("output_config: Input should be a valid dictionary"));
    };
    if let Some(name) =
        fields.keys().find(|name| !["effort", "format", "task_budget"].contains(&name.as_str()))
    {
        return Err(Failure::extra(&format!("output_config.{name}")));
    }
    let efforts = ["low", "medium", "high", "xhigh", "max"];
    let effort = fields.get("effort").filter(|value| !value.is_null());
    if effort.is_some_and(|value| !value.as_str().is_some_and(|word| efforts.contains(&word))) {
        return Err(Failure::invalid(format!("output_config.effort: Input should be {}", list(&efforts))));
    }
    Ok(())
}
