//! What the model "says": thinking, text and tool calls made from the seed and the request, and the usage of it.

use serde_json::{Map, Value, json};

use super::{
    cache::Split,
    limits::Effective,
    models::Model,
    script::Behaviour,
    text::{Dice, Digest},
    thinking, turns,
};

/// How deep a made-up value follows a schema.
const MAX_DEPTH: usize = 8;

/// Tokens that a web search adds to the input.
const SEARCH_TOKENS: u64 = 8003;

/// A content block of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// Thinking, whose text may be withheld.
    Thinking { text: String, signature: String },
    /// Text.
    Text(String),
    /// A call of one of the client's tools.
    ToolUse { id: String, name: String, input: Value },
    /// A block that is sent in one piece.
    Fixed(Value),
}

impl Block {
    /// The block as a whole answer has it.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Thinking { text, signature } => {
                json!({"type": "thinking", "thinking": text, "signature": signature})
            }
            Self::Text(text) => json!({"type": "text", "text": text}),
            Self::ToolUse { id, name, input } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
            Self::Fixed(value) => value.clone(),
        }
    }
}

/// A finished answer.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// `msg_...`
    pub(crate) id: String,
    /// The model that answered.
    pub(crate) model: &'static str,
    /// The content.
    pub(crate) blocks: Vec<Block>,
    /// Why it ended.
    pub(crate) stop_reason: String,
    /// The stop sequence that ended it.
    pub(crate) stop_sequence: Option<String>,
    /// The usage at the start.
    pub(crate) usage_start: Value,
    /// The usage of each `message_delta`; the last is the final one.
    pub(crate) usage_deltas: Vec<Value>,
}

impl Message {
    /// The body of a whole answer: the last non-null value of each usage field.
    pub(crate) fn json(&self) -> Value {
        let mut usage = self.usage_start.clone();
        for delta in &self.usage_deltas {
            merge(&mut usage, delta, false);
        }
        let mut message = self.head();
        merge(
            &mut message,
            &json!({
                "content": self.blocks.iter().map(Block::json).collect::<Vec<_>>(),
                "stop_reason": self.stop_reason,
                "stop_sequence": self.stop_sequence,
                "usage": usage,
            }),
            true,
        );
        if let (Some(details), Some(fields)) = (self.stop_details(), message.as_object_mut()) {
            fields.insert("stop_details".to_owned(), details);
        }
        message
    }

    /// The message as `message_start` has it.
    pub(crate) fn head(&self) -> Value {
        json!({
            "model": self.model, "id": self.id, "type": "message", "role": "assistant", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": self.usage_start,
        })
    }

    /// What a refusal says about itself.
    pub(crate) fn stop_details(&self) -> Option<Value> {
        let details = json!({"type": "refusal", "category": "general_harms", "explanation": null});
        (self.stop_reason == "refusal").then_some(details)
    }
}

/// Everything an answer is made from.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    /// The request.
    pub(crate) body: &'a Map<String, Value>,
    /// The model that answers.
    pub(crate) model: &'a Model,
    /// Its settings.
    pub(crate) settings: Effective<'a>,
    /// How the prompt's tokens divide.
    pub(crate) split: Split,
    /// The digest of the prompt, to which the thinking is bound.
    pub(crate) prompt: Digest,
    /// A digest of the credential.
    pub(crate) account: &'a str,
    /// The script.
    pub(crate) behaviour: &'a Behaviour,
    /// The seed of the instance.
    pub(crate) seed: u64,
    /// The number of this request.
    pub(crate) nth: u64,
}

/// Makes the answer. The words depend on the seed and the prompt, not on the model, its tokens or its breakpoints.
pub(crate) fn make(task: &Task<'_>) -> Message {
    let mut dice = Dice::new(task.seed, &[&task.prompt]);
    let mut ids = Dice::new(task.seed, &[&task.prompt, &task.nth.to_le_bytes()]);
    let script = task.behaviour;
    let max = task.body.get("max_tokens").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let wanted = script.output_tokens.map(|count| count.min(max));
    let refuses = script.stop_reason.as_deref() == Some("refusal");
    let (mut blocks, mut used, mut thought) = (Vec::new(), 0, 0);
    if script.thinking.unwrap_or(task.settings.thinks) && !refuses {
        thought = thinking_tokens(task.settings.effort).min(max).min(wanted.unwrap_or(u64::MAX));
        let shows = script.shows_thinking.unwrap_or(task.settings.shows_thinking);
        let bytes = task.model.bytes(thought).min(240);
        let text = if shows { dice.prose(bytes) } else { String::new() };
        let signature = thinking::sign(task.model, task.account, &text, &task.prompt);
        blocks.push(Block::Thinking { text, signature });
        used += thought;
    }
    let mut stop = ("end_turn".to_owned(), None);
    if !refuses || script.text.is_some() {
        let room = wanted.unwrap_or(max).saturating_sub(used);
        let text = text_of(task, &mut dice, wanted.map(|count| count.saturating_sub(used)));
        let (text, stop_sequence) = cut_at_stop(task.body, text);
        if let Some(sequence) = stop_sequence {
            stop = ("stop_sequence".to_owned(), Some(sequence));
        }
        let limit = task.model.bytes(room);
        let is_cut = text.len() > limit && script.text.is_none() || room == 0;
        let text = if is_cut { truncate(text, limit) } else { text };
        used += task.model.tokens(text.len());
        if !text.is_empty() {
            blocks.push(Block::Text(text));
        }
        if is_cut && wanted.is_none_or(|count| count == max) {
            stop = ("max_tokens".to_owned(), None);
        }
    }
    if script.server_tools {
        blocks.extend(search(&mut ids));
    }
    if stop.0 == "end_turn"
        && let Some(call) = tool_call(task, &mut dice, &mut ids)
    {
        if task.settings.forces_tool {
            blocks.retain(|block| !matches!(block, Block::Text(_)));
            used = 0;
        }
        used += task.model.tokens(call.json().to_string().len());
        blocks.push(call);
        stop.0 = "tool_use".to_owned();
    }
    if let Some(reason) = &script.stop_reason {
        stop.0.clone_from(reason);
    }
    let output = wanted.unwrap_or(used.clamp(1, max.max(1)));
    let (usage_start, usage_deltas) = usage(task, output, thought);
    let (stop_reason, stop_sequence) = stop;
    Message {
        id: ids.id("msg_"),
        model: task.model.id,
        blocks,
        stop_reason,
        stop_sequence,
        usage_start,
        usage_deltas,
    }
}

fn thinking_tokens(effort: &str) -> u64 {
    match effort {
        "low" => 16,
        "medium" => 60,
        "high" => 200,
        "xhigh" => 500,
        _ => 1000,
    }
}

fn text_of(task: &Task<'_>, dice: &mut Dice, tokens: Option<u64>) -> String {
    if let Some(text) = &task.behaviour.text {
        return text.clone();
    }
    if let Some(tokens) = tokens {
        return dice.prose(task.model.bytes(tokens));
    }
    let format = task.body.get("output_config").and_then(|config| config.get("format"));
    match format.and_then(|format| format.get("schema")) {
        Some(schema) => invent(schema, dice, MAX_DEPTH).to_string(),
        None => {
            let bytes = 60 + dice.below(260);
            dice.prose(bytes)
        }
    }
}

fn truncate(mut text: String, mut end: usize) -> String {
    while !text.is_char_boundary(end.min(text.len())) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn cut_at_stop(body: &Map<String, Value>, mut text: String) -> (String, Option<String>) {
    let stops = body.get("stop_sequences").and_then(Value::as_array).into_iter().flatten();
    let found = stops.filter_map(Value::as_str).filter_map(|stop| Some((text.find(stop)?, stop))).min();
    let Some((at, stop)) = found else { return (text, None) };
    text.truncate(at);
    (text, Some(stop.to_owned()))
}

/// A tool is called if the request forces it, the script wants it, or the last user turn names it.
fn tool_call(task: &Task<'_>, dice: &mut Dice, ids: &mut Dice) -> Option<Block> {
    let tools = task.body.get("tools").and_then(Value::as_array)?;
    let named = |tool: &&Value| tool.get("name").is_some_and(Value::is_string);
    let name_of = |tool: &Value| tool.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let choice = task.body.get("tool_choice");
    let wanted = choice.and_then(|choice| choice.get("name")).and_then(Value::as_str);
    let last = task.body.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    let said = last.and_then(|message| message.get("content")).map(Value::to_string).unwrap_or_default();
    let is_answer = last.is_some_and(|message| turns::blocks(message).iter().any(is_result));
    let mentioned = |tool: &&Value| named(tool) && said.contains(&name_of(tool));
    let tool = if let Some(wanted) = wanted {
        tools.iter().find(|tool| name_of(tool) == wanted)
    } else if task.settings.forces_tool || task.behaviour.stop_reason.as_deref() == Some("tool_use") {
        tools.iter().find(|tool| named(tool))
    } else if is_answer || choice.is_some_and(|choice| turns::kind(choice) == "none") {
        None
    } else {
        tools.iter().find(mentioned)
    }?;
    let input = tool.get("input_schema").map_or_else(|| json!({}), |schema| invent(schema, dice, MAX_DEPTH));
    Some(Block::ToolUse { id: ids.id("toolu_"), name: name_of(tool), input })
}

fn is_result(block: &Value) -> bool {
    turns::kind(block) == "tool_result"
}

/// A value that fits a JSON schema.
fn invent(schema: &Value, dice: &mut Dice, depth: usize) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|words| words.first()) {
        return first.clone();
    }
    match turns::kind(schema) {
        "object" if depth > 0 => {
            let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            Value::Object(
                properties.map(|(name, inner)| (name.clone(), invent(inner, dice, depth - 1))).collect(),
            )
        }
        "object" => json!({}),
        "array" => match schema.get("items") {
            Some(items) if depth > 0 => json!([invent(items, dice, depth - 1)]),
            _ => json!([]),
        },
        "integer" => json!(dice.below(10)),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!(dice.prose(14)),
    }
}

fn search(ids: &mut Dice) -> [Block; 2] {
    let id = ids.id("srvtoolu_");
    let call = json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": "café"}});
    let result = json!({"type": "web_search_tool_result", "tool_use_id": id, "content": []});
    [Block::Fixed(call), Block::Fixed(result)]
}

fn usage(task: &Task<'_>, output: u64, thought: u64) -> (Value, Vec<Value>) {
    let split = task.split;
    let mut start = json!({
        "input_tokens": split.input,
        "cache_creation_input_tokens": split.write_5m + split.write_1h,
        "cache_read_input_tokens": split.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": split.write_5m,
            "ephemeral_1h_input_tokens": split.write_1h,
        },
        "output_tokens": 1,
        "service_tier": "standard",
        "inference_geo": task.body.get("inference_geo").cloned().unwrap_or_else(|| json!("global")),
    });
    if let Some(speed) = task.body.get("speed").filter(|speed| !speed.is_null()) {
        merge(&mut start, &json!({"speed": speed}), true);
    }
    if let Some(replaced) = &task.behaviour.usage_start {
        merge(&mut start, replaced, true);
    }
    if !task.behaviour.usage_deltas.is_empty() {
        return (start, task.behaviour.usage_deltas.clone());
    }
    let mut end = json!({
        "input_tokens": split.input,
        "cache_creation_input_tokens": split.write_5m + split.write_1h,
        "cache_read_input_tokens": split.read,
        "output_tokens": output,
    });
    if thought > 0 {
        merge(&mut end, &json!({"output_tokens_details": {"thinking_tokens": thought}}), true);
    }
    if task.behaviour.server_tools {
        let grown = split.input + SEARCH_TOKENS;
        merge(&mut end, &json!({"input_tokens": grown, "server_tool_use": {"web_search_requests": 1}}), true);
    }
    (start, vec![end])
}

/// Puts the fields of `from` into `into`; nulls only if they count.
fn merge(into: &mut Value, from: &Value, nulls_count: bool) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (name, value) in from {
        if nulls_count || !value.is_null() {
            into.insert(name.clone(), value.clone());
        }
    }
}
