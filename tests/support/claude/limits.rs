//! What a model refuses: sampling, prefill, thinking, effort, forced tools, speed, sizes.

use serde_json::{Map, Value};

use super::{
    failure::Failure,
    models::{Disabled, Model, Sampling},
    turns,
};

/// The settings of one request after the model's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effective<'a> {
    /// The effort.
    pub(crate) effort: &'a str,
    /// Whether it thinks before it answers.
    pub(crate) thinks: bool,
    /// Whether the text of the thinking is returned.
    pub(crate) shows_thinking: bool,
    /// Whether a tool must be called.
    pub(crate) forces_tool: bool,
}

/// Reads the settings as the model will use them.
pub(crate) fn effective<'a>(body: &'a Map<String, Value>, model: &Model) -> Effective<'a> {
    let effort = body.get("output_config").and_then(|config| config.get("effort")).and_then(Value::as_str);
    let thinking = body.get("thinking");
    let display = thinking.and_then(|thinking| thinking.get("display")).and_then(Value::as_str);
    let forces_tool = matches!(choice(body), "any" | "tool");
    let thinks = match thinking.map(turns::kind) {
        Some("adaptive" | "enabled") => true,
        Some("disabled" | "between_tools") => false,
        _ => model.thinking.by_default,
    };
    Effective {
        effort: effort.unwrap_or(model.default_effort),
        thinks: thinks && !forces_tool,
        shows_thinking: display.map_or(!model.thinking.omitted, |word| word != "omitted"),
        forces_tool,
    }
}

/// Checks everything but sizes.
pub(crate) fn check(body: &Map<String, Value>, model: &Model) -> Result<(), Failure> {
    check_effort(body, model)?;
    check_thinking(body, model)?;
    check_sampling(body, model)?;
    if matches!(choice(body), "any" | "tool") && !model.forced_tools {
        return Err(Failure::invalid(format!(
            "tool_choice forces tool use ('{}'), which is not supported on this model. Use 'auto' or 'none'.",
            choice(body)
        )));
    }
    if body.get("speed").and_then(Value::as_str) == Some("fast") && !model.fast {
        return Err(Failure::invalid(format!("speed: 'fast' is not supported on {}", model.id)));
    }
    let mut tools = body.get("tools").and_then(Value::as_array).into_iter().flatten().map(turns::kind);
    if let Some(kind) = tools.find(|kind| kind.starts_with("computer_") && *kind != model.computer_tool) {
        return Err(Failure::invalid(format!("'{}' does not support tool types: {kind}.", model.id)));
    }
    let messages = body.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if let Some(i) = messages.iter().position(|message| turns::role(Some(message)) == "system")
        && !model.system_turns
    {
        return Err(Failure::invalid(format!("messages.{i}.role: Input should be 'user' or 'assistant'")));
    }
    if turns::role(messages.last()) == "assistant" && !model.prefill {
        return Err(Failure::invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    Ok(())
}

/// Checks `max_tokens` and the window.
pub(crate) fn check_sizes(
    body: &Map<String, Value>,
    model: &Model,
    prompt_tokens: u64,
) -> Result<(), Failure> {
    let asked = body.get("max_tokens").and_then(Value::as_u64).unwrap_or(0);
    if asked > model.max_output {
        return Err(Failure::invalid(format!(
            "max_tokens: {asked} > {}, which is the maximum allowed number of output tokens for {}",
            model.max_output, model.id
        )));
    }
    if prompt_tokens > model.window {
        return Err(Failure::invalid(format!(
            "prompt is too long: {prompt_tokens} tokens > {} maximum",
            model.window
        )));
    }
    if prompt_tokens + asked > model.window {
        return Err(Failure::invalid(format!(
            "input length and `max_tokens` exceed context limit: {prompt_tokens} + {asked} > {}, decrease input \
             length or `max_tokens` and try again",
            model.window
        )));
    }
    Ok(())
}

fn choice(body: &Map<String, Value>) -> &str {
    body.get("tool_choice").map_or("", turns::kind)
}

fn check_effort(body: &Map<String, Value>, model: &Model) -> Result<(), Failure> {
    let effort = body.get("output_config").and_then(|config| config.get("effort")).and_then(Value::as_str);
    match effort {
        Some(_) if model.efforts.is_empty() => {
            Err(Failure::invalid("This model does not support the effort parameter."))
        }
        Some(word) if !model.efforts.contains(&word) => Err(Failure::invalid(format!(
            "output_config.effort: '{word}' is not supported on this model. Supported levels: {}.",
            model.efforts.join(", ")
        ))),
        _ => Ok(()),
    }
}

fn check_thinking(body: &Map<String, Value>, model: &Model) -> Result<(), Failure> {
    let rules = &model.thinking;
    let kind = body.get("thinking").map_or("", turns::kind);
    let is_high = matches!(effective(body, model).effort, "xhigh" | "max");
    match kind {
        "adaptive" if !rules.adaptive => {
            Err(Failure::invalid("adaptive thinking is not supported on this model"))
        }
        "enabled" if !rules.enabled => Err(Failure::invalid(
            "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
             \"output_config.effort\" to control thinking behavior.",
        )),
        "between_tools" if !rules.between_tools => {
            Err(Failure::invalid("\"thinking.type.between_tools\" is not supported for this model."))
        }
        "disabled" if rules.disabled == Disabled::Never => Err(Failure::invalid(
            "\"thinking.type.disabled\" is not supported for this model. Thinking cannot be turned off.",
        )),
        "between_tools" if is_high => Err(too_much_effort(kind)),
        "disabled" if is_high && rules.disabled == Disabled::UpToHigh => Err(too_much_effort(kind)),
        "enabled" => check_classic_thinking(body),
        _ => Ok(()),
    }
}

fn too_much_effort(kind: &str) -> Failure {
    Failure::invalid(format!("\"thinking.type.{kind}\" is supported only at effort \"high\" or lower."))
}

/// The rules of thinking with a budget.
fn check_classic_thinking(body: &Map<String, Value>) -> Result<(), Failure> {
    if body.get("temperature").and_then(Value::as_f64).is_some_and(|value| value < 1.0) {
        return Err(Failure::invalid("`temperature` may only be set to 1 when thinking is enabled."));
    }
    if body.contains_key("top_k") {
        return Err(Failure::invalid("`top_k` must be unset when thinking is enabled."));
    }
    if body.get("top_p").and_then(Value::as_f64).is_some_and(|value| value < 0.95) {
        return Err(Failure::invalid(
            "`top_p` must be greater than or equal to 0.95 when thinking is enabled.",
        ));
    }
    if matches!(choice(body), "any" | "tool") {
        return Err(Failure::invalid("Thinking may not be enabled when tool_choice forces tool use."));
    }
    let messages = body.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let Some(i) = messages.iter().rposition(|message| turns::role(Some(message)) == "assistant") else {
        return Ok(());
    };
    let blocks = messages.get(i).map_or(&[][..], turns::blocks);
    let first = blocks.first().map_or("text", turns::kind);
    let is_in_tool_loop = blocks.iter().any(|block| turns::kind(block) == "tool_use");
    if is_in_tool_loop && !matches!(first, "thinking" | "redacted_thinking") || i + 1 == messages.len() {
        return Err(Failure::invalid(format!(
            "messages.{i}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. When \
             `thinking` is enabled, a final `assistant` message must start with a thinking block."
        )));
    }
    Ok(())
}

fn check_sampling(body: &Map<String, Value>, model: &Model) -> Result<(), Failure> {
    let number = |name: &str| body.get(name).and_then(Value::as_f64);
    let (temperature, top_p) = (number("temperature"), number("top_p"));
    let refused = |name: &str| Err(Failure::invalid(format!("`{name}` is deprecated for this model.")));
    let is = |value: Option<f64>, wanted: f64| value.is_none_or(|value| (value - wanted).abs() < 1e-9);
    if model.sampling != Sampling::Free {
        if !is(temperature, 1.0) {
            return refused("temperature");
        }
        if !is(top_p, 0.99) && (model.sampling == Sampling::OneDefault || !is(top_p, 1.0)) {
            return refused("top_p");
        }
        if body.contains_key("top_k") {
            return refused("top_k");
        }
    }
    if model.sampling != Sampling::Defaults && temperature.is_some() && top_p.is_some() {
        return Err(Failure::invalid(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        ));
    }
    Ok(())
}
