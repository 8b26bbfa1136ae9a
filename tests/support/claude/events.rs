//! An answer as server-sent events, in the order and form in which the API sends them.

use serde_json::{Value, json};

use super::{
    answer::{Block, Message},
    failure::Failure,
    script::{Behaviour, LineEnd},
    text::Dice,
};

/// One in so many streams has an event of an unknown type.
const UNKNOWN_EVENT_SHARE: usize = 4;

/// All events of an answer, each with its blank line.
pub(crate) fn events(message: &Message, behaviour: &Behaviour, dice: &mut Dice) -> Vec<String> {
    let mut list =
        vec![event("message_start", &json!({"type": "message_start", "message": message.head()}), dice)];
    let mut has_pinged = false;
    for (index, block) in message.blocks.iter().enumerate() {
        let empty = opened(block);
        let start = json!({"type": "content_block_start", "index": index, "content_block": empty});
        list.push(event("content_block_start", &start, dice));
        if !has_pinged {
            list.push(ping());
            has_pinged = true;
        }
        for delta in deltas(block, dice) {
            let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
            list.push(event("content_block_delta", &delta, dice));
        }
        let stop = json!({"type": "content_block_stop", "index": index});
        list.push(event("content_block_stop", &stop, dice));
    }
    let last = message.usage_deltas.len().saturating_sub(1);
    for (i, usage) in message.usage_deltas.iter().enumerate() {
        let mut delta = json!({"stop_reason": null, "stop_sequence": null});
        if i == last {
            delta = json!({"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence});
            if let (Some(details), Some(fields)) = (message.stop_details(), delta.as_object_mut()) {
                fields.insert("stop_details".to_owned(), details);
            }
        }
        let value = json!({"type": "message_delta", "delta": delta, "usage": usage});
        list.push(event("message_delta", &value, dice));
    }
    list.push(event("message_stop", &json!({"type": "message_stop"}), dice));
    insert_extras(&mut list, behaviour, dice);
    list
}

/// The event that ends a stream that went wrong.
pub(crate) fn error(failure: &Failure, request_id: &str) -> String {
    format!("event: error\ndata: {}\n\n", failure.body(request_id))
}

/// The same event with other line ends.
pub(crate) fn with_line_ends(event: &str, line_end: LineEnd) -> String {
    if line_end == LineEnd::Lf { event.to_owned() } else { event.replace('\n', line_end.as_str()) }
}

/// Pads before the last brace, as the API does to hide how long a text is.
fn event(name: &str, value: &Value, dice: &mut Dice) -> String {
    let json = value.to_string();
    let open = json.strip_suffix('}').unwrap_or(&json);
    let padding = if name == "message_start" { 0 } else { dice.below(12) };
    format!("event: {name}\ndata: {open}{}}}\n\n", " ".repeat(padding))
}

fn ping() -> String {
    "event: ping\ndata: {\"type\": \"ping\"}\n\n".to_owned()
}

/// The block as `content_block_start` has it.
fn opened(block: &Block) -> Value {
    match block {
        Block::Thinking { .. } => json!({"type": "thinking", "thinking": "", "signature": ""}),
        Block::Text(_) => json!({"type": "text", "text": ""}),
        Block::ToolUse { id, name, .. } => json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
        Block::Fixed(value) => value.clone(),
    }
}

fn deltas(block: &Block, dice: &mut Dice) -> Vec<Value> {
    match block {
        Block::Thinking { text, signature } => {
            let parts = split(text, dice).into_iter();
            let mut list: Vec<_> =
                parts.map(|part| json!({"type": "thinking_delta", "thinking": part})).collect();
            list.push(json!({"type": "signature_delta", "signature": signature}));
            list
        }
        Block::Text(text) => {
            split(text, dice).into_iter().map(|part| json!({"type": "text_delta", "text": part})).collect()
        }
        Block::ToolUse { input, .. } => {
            let json = input.to_string();
            let parts = [String::new()].into_iter().chain(split(&json, dice));
            parts.map(|part| json!({"type": "input_json_delta", "partial_json": part})).collect()
        }
        Block::Fixed(_) => Vec::new(),
    }
}

/// Pieces of 4 to 24 bytes, never inside a character.
fn split(text: &str, dice: &mut Dice) -> Vec<String> {
    let (mut pieces, mut piece, mut size) = (Vec::new(), String::new(), 4 + dice.below(20));
    for character in text.chars() {
        piece.push(character);
        if piece.len() >= size {
            pieces.push(std::mem::take(&mut piece));
            size = 4 + dice.below(20);
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

fn insert_extras(list: &mut Vec<String>, behaviour: &Behaviour, dice: &mut Dice) {
    let now_and_then = dice.below(UNKNOWN_EVENT_SHARE) == 0;
    let first_delta = list.iter().position(|event| event.starts_with("event: content_block_delta"));
    let Some(first_delta) = first_delta else { return };
    for _ in 0..behaviour.pings {
        list.insert(first_delta + 1, ping());
    }
    if behaviour.unknown_event.unwrap_or(now_and_then) {
        let value = json!({"type": "content_block_note", "index": 0, "note": {"text": "ünknown"}});
        list.insert(first_delta + 1, event("content_block_note", &value, dice));
    }
}
