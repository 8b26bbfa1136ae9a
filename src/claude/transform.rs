//! Changes that make a call fit for a model that would refuse it as it is: `claude.rewrite.transforms`. Whether one is
//! made is the guard's to say; what it does to the bytes of a body stands here.

use std::ops::Range;

use bytes::Bytes;

use super::message::Message;
use crate::config::{Effort, Transform, Transforms};

/// Budgets of thinking below these are so much effort; larger ones are [`Effort::High`]. No page of the API has a table, so
/// the borders are ours: 1,024 tokens are the least that the API takes, and from 16,384 on clients ask for hard problems.
/// More than `high` is never asked for, as some models refuse it and nobody has asked for that much.
const EFFORTS: [(u64, Effort); 2] = [(4_096, Effort::Low), (16_384, Effort::Medium)];

/// The effort that stands for a budget of thinking tokens.
pub(super) fn effort_of(budget: u64) -> Effort {
    let fitting = EFFORTS.into_iter().find(|(below, _)| budget < *below);
    fitting.map_or(Effort::High, |(_, effort)| effort)
}

/// What the transforms change in a body: places, and what comes there.
pub(super) fn edits(body: &[u8], message: &Message, made: Transforms) -> Vec<(Range<usize>, Bytes)> {
    let mut edits = Vec::new();
    let places = &message.parameters.places;
    if made.has(Transform::DropSampling) {
        let members = places.sampling.iter().flatten().cloned().collect();
        edits.extend(without(body, members).into_iter().map(|cut| (cut, Bytes::new())));
    }
    if made.has(Transform::BudgetToEffort)
        && let (Some(kind), Some(member)) = (&places.thinking_type, &places.budget)
        && let Some(budget) = message.parameters.thinking.as_ref().and_then(|thinking| thinking.budget_tokens)
    {
        edits.push((kind.clone(), Bytes::from_static(br#""adaptive""#)));
        edits.extend(without(body, vec![member.clone()]).into_iter().map(|cut| (cut, Bytes::new())));
        // An effort of the client's own stays.
        if message.parameters.effort.is_none() {
            edits.push(with_effort(body, message, effort_of(budget)));
        }
    }
    edits
}

fn with_effort(body: &[u8], message: &Message, effort: Effort) -> (Range<usize>, Bytes) {
    let effort = effort.as_str();
    let Some(inside) = message.parameters.places.output_config else {
        let at = message.after_open;
        return (at..at, Bytes::from(format!(r#""output_config":{{"effort":"{effort}"}},"#)));
    };
    let is_empty = after_space(body, inside).is_some_and(|(_, byte)| byte == b'}');
    let comma = if is_empty { "" } else { "," };
    (inside..inside, Bytes::from(format!(r#""effort":"{effort}"{comma}"#)))
}

/// The bytes to take out so that these members of one object are gone, each with one comma.
fn without(body: &[u8], mut members: Vec<Range<usize>>) -> Vec<Range<usize>> {
    members.sort_by_key(|member| member.start);
    // Members that stand side by side go together, so that no comma is counted twice.
    let mut runs: Vec<Range<usize>> = Vec::new();
    for member in members {
        match runs.last_mut() {
            Some(run) if next_member(body, run.end) == Some(member.start) => run.end = member.end,
            _ => runs.push(member),
        }
    }
    let cut = |run: Range<usize>| match after_space(body, run.end) {
        Some((comma, b',')) => run.start..comma + 1,
        _ => before_space(body, run.start).unwrap_or(run.start)..run.end,
    };
    runs.into_iter().map(cut).collect()
}

/// Where the member behind a comma begins.
fn next_member(body: &[u8], at: usize) -> Option<usize> {
    let (comma, byte) = after_space(body, at)?;
    if byte != b',' {
        return None;
    }
    after_space(body, comma + 1).map(|(start, _)| start)
}

/// The first byte from a place on that is not white space.
fn after_space(body: &[u8], at: usize) -> Option<(usize, u8)> {
    let mut rest = body.iter().enumerate().skip(at);
    rest.find(|(_, byte)| !byte.is_ascii_whitespace()).map(|(place, byte)| (place, *byte))
}

/// The place of the comma before a place, with nothing but white space in between.
fn before_space(body: &[u8], at: usize) -> Option<usize> {
    let place = body.get(..at)?.iter().rposition(|byte| !byte.is_ascii_whitespace())?;
    (body.get(place) == Some(&b',')).then_some(place)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::effort_of;
    use crate::{
        claude::{
            cost::Ttl,
            message::Message,
            splice::{Edits, join, splice},
        },
        config::{Effort, Transform, Transforms},
    };

    const BOTH: Transforms = Transforms::NONE.with(Transform::DropSampling).with(Transform::BudgetToEffort);

    fn made(body: &str, transforms: Transforms) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let message = Message::read(&body, 64).unwrap();
        let edits = Edits { transforms, ..Edits::default() };
        String::from_utf8(join(&splice(&body, &message, &edits)).to_vec()).unwrap()
    }

    #[test]
    fn sampling_goes_with_one_comma_each_wherever_it_stands() {
        let table = [
            (r#"{"temperature":0.7,"model":"m"}"#, r#"{"model":"m"}"#),
            (r#"{"model":"m","top_k":5}"#, r#"{"model":"m"}"#),
            (r#"{"model":"m" , "temperature" : 0.7 , "top_p":1 }"#, r#"{"model":"m"  }"#),
            (
                "{\n  \"top_p\": 0.9,\n  \"model\": \"m\",\n  \"temperature\": null,\n  \"top_k\": 3\n}",
                "{\n  \n  \"model\": \"m\"\n}",
            ),
            (r#"{"top_k":1,"temperature":1,"model":"m","top_p":1,"x":2}"#, r#"{"model":"m","x":2}"#),
            (r#"{"\u0074emperature":1,"model":"m"}"#, r#"{"model":"m"}"#),
            (
                r#"{"model":"m","metadata":{"temperature":1}}"#,
                r#"{"model":"m","metadata":{"temperature":1}}"#,
            ),
        ];
        for (body, expected) in table {
            assert_eq!(made(body, Transforms::NONE.with(Transform::DropSampling)), expected, "{body}");
            assert_eq!(made(body, Transforms::NONE), body);
        }
    }

    #[test]
    fn a_budget_becomes_an_effort_and_all_else_stays() {
        let table = [
            (
                r#"{"model":"m","thinking":{"type":"enabled","budget_tokens":2000}}"#,
                r#"{"output_config":{"effort":"low"},"model":"m","thinking":{"type":"adaptive"}}"#,
            ),
            (
                r#"{"model":"m","thinking":{ "budget_tokens" : 9000 , "display":"omitted", "type" : "enabled" }}"#,
                r#"{"output_config":{"effort":"medium"},"model":"m","thinking":{  "display":"omitted", "type" : "adaptive" }}"#,
            ),
            (
                r#"{"output_config":{"format":{"type":"json_schema"}},"thinking":{"type":"enabled","budget_tokens":32000},"model":"m"}"#,
                r#"{"output_config":{"effort":"high","format":{"type":"json_schema"}},"thinking":{"type":"adaptive"},"model":"m"}"#,
            ),
            (
                r#"{"model":"m","output_config":{ },"thinking":{"type":"enabled","budget_tokens":1024}}"#,
                r#"{"model":"m","output_config":{"effort":"low" },"thinking":{"type":"adaptive"}}"#,
            ),
            (
                r#"{"model":"m","output_config":{"effort":"max"},"thinking":{"type":"enabled","budget_tokens":1024}}"#,
                r#"{"model":"m","output_config":{"effort":"max"},"thinking":{"type":"adaptive"}}"#,
            ),
            (
                r#"{"model":"m","thinking":{"type":"enabled","budget_tokens":1e4}}"#,
                r#"{"model":"m","thinking":{"type":"enabled","budget_tokens":1e4}}"#,
            ),
        ];
        for (body, expected) in table {
            assert_eq!(made(body, Transforms::NONE.with(Transform::BudgetToEffort)), expected, "{body}");
        }
    }

    #[test]
    fn transforms_and_other_edits_do_not_meet() {
        let body = Bytes::from_static(
            br#"{"temperature":0.5,"thinking":{"type":"enabled","budget_tokens":5000},"model":"m","top_p":0.9}"#,
        );
        let message = Message::read(&body, 64).unwrap();
        let edits =
            Edits { model: Some("n"), mark: Some(Ttl::FiveMinutes), transforms: BOTH, ..Edits::default() };
        let out: Value = serde_json::from_slice(&join(&splice(&body, &message, &edits))).unwrap();

        let expected = json!({
            "cache_control": {"type": "ephemeral"},
            "output_config": {"effort": "medium"},
            "thinking": {"type": "adaptive"},
            "model": "n",
        });
        assert_eq!(out, expected);
    }

    #[test]
    fn more_budget_is_never_less_effort() {
        let efforts = [1_024, 4_095, 4_096, 16_383, 16_384, u64::MAX].map(effort_of);

        assert_eq!(
            efforts,
            [Effort::Low, Effort::Low, Effort::Medium, Effort::Medium, Effort::High, Effort::High]
        );
    }

    proptest! {
        #[test]
        fn what_is_left_is_the_same_request_without_sampling(
            order in Just(vec!["model", "temperature", "top_p", "top_k", "system", "max_tokens"]).prop_shuffle(),
            count in 1_usize..7,
            space in prop::sample::select(vec!["", " ", "\n\t", "\r\n  "]),
        ) {
            let mut names: Vec<_> = order.into_iter().take(count).collect();
            if !names.contains(&"model") {
                names.push("model");
            }
            let value = |name: &str| if name == "model" { json!("m") } else { json!(7) };
            let members = names.iter().map(|name| format!("{space}\"{name}\"{space}:{space}{}{space}", value(name)));
            let body = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
            let left = names.iter().filter(|name| !name.starts_with('t'));
            let expected: Map<_, _> = left.map(|name| ((*name).to_owned(), value(name))).collect();

            let out: Value = serde_json::from_str(&made(&body, BOTH)).unwrap();

            prop_assert_eq!(out, Value::Object(expected));
        }
    }
}
