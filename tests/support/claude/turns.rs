//! The rules for `system` and `messages`: roles, content blocks, tool pairs, breakpoints. No rule here asks for the model.

use serde_json::{Map, Value};

use super::{failure::Failure, fields::Dialect};

/// Known block types and, where the API is strict about them, their fields.
const BLOCKS: &[(&str, &[&str])] = &[
    ("text", &["type", "text", "cache_control", "citations"]),
    ("image", &["type", "source", "cache_control"]),
    ("document", &["type", "source", "cache_control", "title", "context", "citations"]),
    ("tool_use", &["type", "id", "name", "input", "cache_control", "caller"]),
    ("tool_result", &["type", "tool_use_id", "content", "is_error", "cache_control"]),
    ("thinking", &["type", "thinking", "signature"]),
    ("redacted_thinking", &["type", "data"]),
    ("search_result", &[]),
    ("server_tool_use", &[]),
    ("web_search_tool_result", &[]),
    ("web_fetch_tool_result", &[]),
    ("code_execution_tool_result", &[]),
    ("container_upload", &[]),
    ("compaction", &[]),
    ("fallback", &[]),
];

/// Which blocks a role may send.
const USER_BLOCKS: &[&str] =
    &["text", "image", "document", "tool_result", "search_result", "container_upload"];

/// Checks the whole conversation.
pub(crate) fn check(body: &Map<String, Value>, dialect: &Dialect) -> Result<(), Failure> {
    check_system(body.get("system"))?;
    let Some(messages) = body.get("messages").and_then(Value::as_array) else {
        return Err(Failure::invalid("messages: Input should be a valid array"));
    };
    if messages.is_empty() {
        return Err(Failure::invalid("messages: at least one message is required"));
    }
    for (i, message) in messages.iter().enumerate() {
        check_message(i, message, i + 1 == messages.len(), dialect)?;
    }
    if role(messages.first()) != "user" {
        return Err(Failure::invalid("messages: first message must use the \"user\" role"));
    }
    check_tool_pairs(messages)?;
    check_breakpoints(body)
}

/// The role of a message.
pub(crate) fn role(message: Option<&Value>) -> &str {
    message.and_then(|message| message.get("role")).and_then(Value::as_str).unwrap_or_default()
}

/// The blocks of a message; a string has none.
pub(crate) fn blocks(message: &Value) -> &[Value] {
    message.get("content").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The type of a block.
pub(crate) fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn check_system(system: Option<&Value>) -> Result<(), Failure> {
    match system {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(Value::Array(blocks)) => {
            for (i, block) in blocks.iter().enumerate() {
                if kind(block) != "text" {
                    return Err(Failure::invalid(format!("system.{i}.type: Input should be 'text'")));
                }
                check_block(&format!("system.{i}"), block)?;
            }
            Ok(())
        }
        Some(_) => Err(Failure::invalid("system: Input should be a valid string")),
    }
}

fn check_message(i: usize, message: &Value, is_last: bool, dialect: &Dialect) -> Result<(), Failure> {
    let Some(fields) = message.as_object() else {
        return Err(Failure::invalid(format!("messages.{i}: Input should be a valid dictionary")));
    };
    if let Some(name) = fields.keys().find(|name| !["role", "content"].contains(&name.as_str())) {
        return Err(Failure::extra(&format!("messages.{i}.{name}")));
    }
    let role = role(Some(message));
    if !["user", "assistant", "system"].contains(&role) {
        return Err(Failure::invalid(format!("messages.{i}.role: Input should be 'user' or 'assistant'")));
    }
    let is_open_end = is_last && role == "assistant";
    let is_empty = match message.get("content") {
        Some(Value::String(text)) => {
            if is_open_end && text.ends_with(char::is_whitespace) {
                return Err(trailing_space());
            }
            text.is_empty()
        }
        Some(Value::Array(blocks)) => {
            for (j, block) in blocks.iter().enumerate() {
                let path = format!("messages.{i}.content.{j}");
                check_block(&path, block)?;
                check_place(&path, role, block, dialect)?;
            }
            let end = blocks.last().and_then(|block| block.get("text")).and_then(Value::as_str);
            if is_open_end && end.is_some_and(|text| text.ends_with(char::is_whitespace)) {
                return Err(trailing_space());
            }
            blocks.is_empty()
        }
        Some(_) => {
            return Err(Failure::invalid(format!("messages.{i}.content: Input should be a valid array")));
        }
        None => return Err(Failure::invalid(format!("messages.{i}.content: Field required"))),
    };
    if is_empty && !is_open_end {
        return Err(Failure::invalid(format!(
            "messages.{i}: all messages must have non-empty content except for the optional final assistant \
             message"
        )));
    }
    Ok(())
}

fn trailing_space() -> Failure {
    Failure::invalid("messages: final assistant content cannot end with trailing whitespace")
}

fn check_block(path: &str, block: &Value) -> Result<(), Failure> {
    let Some(fields) = block.as_object() else {
        return Err(Failure::invalid(format!("{path}: Input should be a valid dictionary")));
    };
    let kind = kind(block);
    let Some((_, known)) = BLOCKS.iter().find(|(known, _)| *known == kind) else {
        return Err(Failure::invalid(format!(
            "{path}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        )));
    };
    let unknown = fields.keys().find(|name| !known.is_empty() && !known.contains(&name.as_str()));
    if let Some(name) = unknown {
        return Err(Failure::extra(&format!("{path}.{kind}.{name}")));
    }
    let required: &[&str] = match kind {
        "text" => &["text"],
        "image" | "document" => &["source"],
        "tool_use" => &["id", "name", "input"],
        "tool_result" => &["tool_use_id"],
        "thinking" => &["thinking", "signature"],
        "redacted_thinking" => &["data"],
        _ => &[],
    };
    if let Some(name) = required.iter().find(|name| !fields.contains_key(**name)) {
        return Err(Failure::invalid(format!("{path}.{kind}.{name}: Field required")));
    }
    if kind == "text" {
        match fields.get("text").and_then(Value::as_str) {
            None => {
                return Err(Failure::invalid(format!("{path}.text.text: Input should be a valid string")));
            }
            Some("") if fields.contains_key("cache_control") => {
                return Err(Failure::invalid(format!(
                    "{path}: cache_control cannot be set for empty text blocks"
                )));
            }
            Some("") => return Err(Failure::invalid("messages: text content blocks must be non-empty")),
            Some(_) => {}
        }
    }
    if kind == "tool_use" && !fields.get("input").is_some_and(Value::is_object) {
        return Err(Failure::invalid(format!("{path}.tool_use.input: Input should be a valid dictionary")));
    }
    if kind == "tool_result" {
        for (i, inner) in block.get("content").and_then(Value::as_array).into_iter().flatten().enumerate() {
            check_block(&format!("{path}.tool_result.content.{i}"), inner)?;
        }
    }
    Ok(())
}

/// What a role may send, which depends on the version for documents and citations.
fn check_place(path: &str, role: &str, block: &Value, dialect: &Dialect) -> Result<(), Failure> {
    let kind = kind(block);
    let is_allowed = match role {
        "user" => USER_BLOCKS.contains(&kind),
        "assistant" => kind != "tool_result" && kind != "image" && !(dialect.is_new && kind == "document"),
        _ => kind == "text",
    };
    if !is_allowed {
        return Err(Failure::invalid(format!(
            "{path}: `{kind}` blocks are not permitted in `{role}` messages"
        )));
    }
    let citations = block.get("citations").and_then(Value::as_array);
    if dialect.is_new && role == "user" && kind == "text" && citations.is_some_and(|list| !list.is_empty()) {
        return Err(Failure::extra(&format!("{path}.text.citations")));
    }
    Ok(())
}

/// Each `tool_use` is answered in the next message, and nothing else is.
fn check_tool_pairs(messages: &[Value]) -> Result<(), Failure> {
    let mut asked: Vec<&str> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        let next = next_user_blocks(messages, i + 1);
        let is_assistant = role(Some(message)) == "assistant";
        for (j, block) in blocks(message).iter().enumerate() {
            match kind(block) {
                "tool_use" => asked.push(block.get("id").and_then(Value::as_str).unwrap_or_default()),
                "tool_result" => {
                    let id = block.get("tool_use_id").and_then(Value::as_str).unwrap_or_default();
                    let Some(place) = asked.iter().position(|known| *known == id) else {
                        return Err(Failure::invalid(format!(
                            "messages.{i}.content.{j}: unexpected `tool_use_id` found in `tool_result` blocks: \
                             {id}. Each `tool_result` block must have a corresponding `tool_use` block in the \
                             previous message."
                        )));
                    };
                    asked.remove(place);
                }
                _ => {}
            }
        }
        let ends_here = is_assistant && role(messages.get(i + 1)) != "assistant";
        let answers: Vec<_> = next.iter().filter_map(|block| block.get("tool_use_id")?.as_str()).collect();
        let missing: Vec<_> = asked.iter().filter(|id| !answers.contains(id)).copied().collect();
        if ends_here && !missing.is_empty() {
            return Err(Failure::invalid(format!(
                "messages.{i}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. \
                 Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
                missing.join(", ")
            )));
        }
    }
    Ok(())
}

/// Consecutive user turns count as one.
fn next_user_blocks(messages: &[Value], from: usize) -> Vec<&Value> {
    let turn = messages.iter().skip(from).take_while(|message| role(Some(message)) == "user");
    turn.flat_map(|message| blocks(message).iter()).collect()
}

/// Every `cache_control`: its form, its place, the number and the order of lifetimes.
fn check_breakpoints(body: &Map<String, Value>) -> Result<(), Failure> {
    let mut marks: Vec<(String, &Value)> = Vec::new();
    let listed = |name: &str| body.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
    for (i, tool) in listed("tools") {
        marks.extend(tool.get("cache_control").map(|mark| (format!("tools.{i}"), mark)));
    }
    for (i, block) in listed("system") {
        marks.extend(block.get("cache_control").map(|mark| (format!("system.{i}"), mark)));
    }
    for (i, message) in listed("messages") {
        for (j, block) in blocks(message).iter().enumerate() {
            let path = format!("messages.{i}.content.{j}");
            let inner = block.get("content").and_then(Value::as_array).into_iter().flatten();
            for part in inner.chain([block]) {
                marks.extend(part.get("cache_control").map(|mark| (path.clone(), mark)));
            }
        }
    }
    marks.extend(body.get("cache_control").map(|mark| (String::new(), mark)));
    marks.retain(|(_, mark)| !mark.is_null());
    let mut has_short = false;
    for (path, mark) in &marks {
        let path = if path.is_empty() { "cache_control".to_owned() } else { format!("{path}.cache_control") };
        if let Some(name) =
            mark.as_object().and_then(|fields| fields.keys().find(|name| *name != "type" && *name != "ttl"))
        {
            return Err(Failure::extra(&format!("{path}.ephemeral.{name}")));
        }
        if kind(mark) != "ephemeral" {
            return Err(Failure::invalid(format!(
                "{path}: Input tag '{}' does not match 'ephemeral'",
                kind(mark)
            )));
        }
        match mark.get("ttl").map(|ttl| ttl.as_str().unwrap_or_default()) {
            None | Some("5m") => has_short = true,
            Some("1h") if has_short => {
                return Err(Failure::invalid(format!(
                    "{path}.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control \
                     block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
                )));
            }
            Some("1h") => {}
            Some(_) => {
                return Err(Failure::invalid(format!("{path}.ephemeral.ttl: Input should be '5m' or '1h'")));
            }
        }
    }
    if marks.len() > 4 {
        return Err(Failure::invalid(format!(
            "A maximum of 4 blocks with cache_control may be provided. Found {}.",
            marks.len()
        )));
    }
    Ok(())
}
