//! The prompt as the model reads it: tools, system, messages, cut into blocks with their tokens and breakpoints.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::{
    models::Model,
    text::{Digest, digest},
    turns,
};

/// Where a block is: `(message, block)`.
pub(crate) type Place = (usize, usize);

/// The bytes that an image or a document counts as at most, whatever its size.
const MEDIA_BYTES: usize = 5000;

/// Part of the prompt, in the order in which the cache reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// The tools.
    Tools,
    /// The system prompt.
    System,
    /// The turns.
    Messages,
}

/// How long a cache entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// Five minutes.
    Short,
    /// One hour.
    Long,
}

/// One block.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Where it belongs.
    pub(crate) layer: Layer,
    /// Its place in `messages`.
    pub(crate) place: Place,
    /// Its type.
    pub(crate) kind: String,
    /// Its content without `cache_control`.
    pub(crate) canonical: Vec<u8>,
    /// The bytes that count as tokens.
    pub(crate) weight: usize,
    /// Its own breakpoint.
    pub(crate) mark: Option<Ttl>,
}

/// All blocks of a request.
pub(crate) fn parts(body: &Map<String, Value>) -> Vec<Part> {
    let mut parts = Vec::new();
    for (i, tool) in body.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate() {
        parts.push(part(Layer::Tools, (0, i), "", tool));
    }
    content(&mut parts, Layer::System, 0, "system", body.get("system"));
    for (i, message) in body.get("messages").and_then(Value::as_array).into_iter().flatten().enumerate() {
        content(&mut parts, Layer::Messages, i, turns::role(Some(message)), message.get("content"));
    }
    parts
}

fn content(parts: &mut Vec<Part>, layer: Layer, i: usize, role: &str, value: Option<&Value>) {
    match value {
        Some(Value::String(text)) if !text.is_empty() => {
            parts.push(part(layer, (i, 0), role, &json!({"type": "text", "text": text})));
        }
        Some(Value::Array(blocks)) => {
            let numbered = blocks.iter().enumerate();
            parts.extend(numbered.map(|(j, block)| part(layer, (i, j), role, block)));
        }
        _ => {}
    }
}

fn part(layer: Layer, place: Place, role: &str, block: &Value) -> Part {
    let mark = mark_of(block).or_else(|| {
        block.get("content").and_then(Value::as_array).into_iter().flatten().rev().find_map(mark_of)
    });
    let mut plain = block.clone();
    unmark(&mut plain);
    for inner in plain.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
        unmark(inner);
    }
    let kind = turns::kind(block);
    let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
    let json = plain.to_string();
    let (canonical, weight) = match kind {
        "text" if layer != Layer::Tools && !plain.get("citations").is_some_and(Value::is_array) => {
            (format!("{role}\0text\0{}", text("text")), text("text").len())
        }
        "thinking" => (format!("{role}\0{json}"), text("thinking").len()),
        "image" | "document" => (format!("{role}\0{json}"), json.len().min(MEDIA_BYTES)),
        _ => (format!("{role}\0{json}"), json.len()),
    };
    Part { layer, place, kind: kind.to_owned(), canonical: canonical.into_bytes(), weight, mark }
}

fn unmark(block: &mut Value) {
    if let Some(fields) = block.as_object_mut() {
        fields.shift_remove("cache_control");
    }
}

/// The lifetime that a `cache_control` asks for.
pub(crate) fn mark_of(holder: &Value) -> Option<Ttl> {
    let mark = holder.get("cache_control").filter(|mark| mark.is_object())?;
    Some(if mark.get("ttl").and_then(Value::as_str) == Some("1h") { Ttl::Long } else { Ttl::Short })
}

/// The digest of everything before a place in the messages, or of the whole prompt.
pub(crate) fn prefix(parts: &[Part], until: Option<Place>) -> Digest {
    let before = |part: &&Part| until.is_none_or(|end| part.layer != Layer::Messages || part.place < end);
    parts.iter().take_while(before).fold([0; 32], |chain, part| digest(&[&chain, &part.canonical]))
}

/// One block as the prompt cache sees it.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// The digest of the prompt up to and with this block.
    pub(crate) chain: Digest,
    /// Tokens of the prompt up to and with this block.
    pub(crate) upto: u64,
    /// The breakpoint at this block.
    pub(crate) mark: Option<Ttl>,
}

/// The units of a request. Blocks in `dropped` are not part of what the model reads. `declared` is the number of tokens
/// that the whole is said to have: the first block takes up the difference.
pub(crate) fn units(
    body: &Map<String, Value>,
    parts: &[Part],
    model: &Model,
    dropped: &HashSet<Place>,
    declared: Option<u64>,
) -> Vec<Unit> {
    let is_read = |part: &&Part| part.layer != Layer::Messages || !dropped.contains(&part.place);
    let kept: Vec<&Part> = parts.iter().filter(is_read).collect();
    let counted = |part: &Part| model.tokens(part.weight).max(1);
    let sum: u64 = kept.iter().map(|part| counted(part)).sum();
    let extra = declared.map_or(0, |declared| declared.saturating_sub(sum));
    let settings = message_settings(body, &kept);
    let (mut chain, mut upto, mut in_messages) = ([0; 32], extra, false);
    let mut units: Vec<Unit> = Vec::new();
    for part in &kept {
        if part.layer == Layer::Messages && !in_messages {
            in_messages = true;
            chain = digest(&[&chain, settings.as_bytes()]);
        }
        chain = digest(&[&chain, &part.canonical]);
        upto += counted(part);
        units.push(Unit { chain, upto, mark: part.mark });
    }
    if let Some(ttl) =
        body.get("cache_control").is_some().then(|| mark_of(&Value::Object(body.clone()))).flatten()
        && let Some(last) = kept.iter().rposition(|part| !part.kind.ends_with("thinking"))
        && let Some(unit) = units.get_mut(last)
    {
        unit.mark = unit.mark.or(Some(ttl));
    }
    units
}

/// What invalidates the cached messages, though not the system prompt before them, when it changes.
fn message_settings(body: &Map<String, Value>, kept: &[&Part]) -> String {
    let effort = body.get("output_config").and_then(|config| config.get("effort"));
    let has_images = kept.iter().any(|part| part.kind == "image");
    json!([body.get("tool_choice"), body.get("thinking"), effort, has_images]).to_string()
}
