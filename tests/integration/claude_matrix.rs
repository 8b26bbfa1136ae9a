//! Every parameter on every model: a call that the requested model takes is never refused because it was changed.
//!
//! The fake knows the API's table of what each model refuses, and records what it was asked. Its records are what counts
//! here: a refusal that a second call with the client's own bytes has healed is still one that we have caused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::support::{
    claude::{
        Call, ECONOMY, HAIKU, NEW, OLD, OLD_HAIKU, OLD_SONNET, OPUS, PREMIUM, Plane, Recorded, SERIOUS,
        SONNET, STANDARD, Settings, Talk, long_text,
    },
    client::Client,
};

const MODELS: [&str; 7] =
    [HAIKU, SONNET, OPUS, OLD_HAIKU, "claude-haiku-4-5-20251001", OLD_SONNET, "claude-fable-5-2"];

/// Moves are made whatever they cost, so that as many as possible are made.
const EAGER: &str = "gate: { min_saving: 0%, premium_max_extra: 1000usd }";

/// Calls of each model with each text in each version.
const COMBINATIONS: usize = 110;

/// Lists of which a call says one thing each, mostly as members at the top.
fn choices() -> Vec<Vec<Value>> {
    [parameters(), contents()].concat()
}

/// What is asked of the model.
fn parameters() -> Vec<Vec<Value>> {
    let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}});
    let tools = json!([{"name": "look_up", "input_schema": schema}]);
    let strict = json!([{"name": "look_up", "input_schema": schema, "strict": true}]);
    let chosen = |kind: &str| json!({"tools": tools, "tool_choice": {"type": kind}});
    let format = json!({"type": "json_schema", "schema": {"type": "object", "properties": {"score": {"type": "integer"}}}});
    vec![
        vec![
            json!({}),
            json!({"temperature": 1}),
            json!({"temperature": 1.0}),
            json!({"temperature": 0.7}),
            json!({"temperature": 0}),
            json!({"top_p": 0.99}),
            json!({"top_p": 1}),
            json!({"top_p": 0.5}),
            json!({"top_k": 40}),
            json!({"temperature": 1, "top_p": 0.99}),
            json!({"temperature": 0.2, "top_k": 5}),
            json!({"top_p": 0.99, "top_k": 5}),
        ],
        vec![
            json!({}),
            json!({"thinking": {"type": "adaptive"}}),
            json!({"thinking": {"type": "adaptive", "display": "summarized"}}),
            json!({"thinking": {"type": "disabled"}}),
            json!({"thinking": {"type": "between_tools"}}),
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
            json!({"thinking": {"type": "enabled", "budget_tokens": 30_000}}),
            json!({"thinking": null}),
        ],
        ["low", "medium", "high", "xhigh", "max"]
            .map(|effort| json!({"output_config": {"effort": effort}}))
            .into_iter()
            .chain([
                json!({}),
                json!({"output_config": {"format": format}}),
                json!({"output_config": {"format": format, "effort": "high"}}),
            ])
            .collect(),
        vec![
            json!({}),
            json!({"tools": tools}),
            json!({"tools": strict}),
            chosen("auto"),
            chosen("none"),
            chosen("any"),
            json!({"tools": tools, "tool_choice": {"type": "tool", "name": "look_up"}}),
            json!({"tools": [{"type": "computer_toolset_20260801", "name": "computer"}]}),
            json!({"tools": [{"type": "computer_20250124", "name": "computer"}]}),
        ],
    ]
}

/// What stands in the messages, and what goes with a call.
fn contents() -> Vec<Vec<Value>> {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}});
    let document =
        json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}});
    let cited = json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "citations": {"enabled": true}});
    vec![
        vec![json!({}), json!({}), json!({"prefill": "Sure"})],
        [1, 200, 1023, 2048, 32_000, 64_000, 64_001, 128_000].map(|most| json!({"max_tokens": most})).into(),
        vec![
            json!({}),
            json!({"block": image}),
            json!({"block": document}),
            json!({"block": cited}),
            json!({"assistant": document}),
        ],
        vec![
            json!({}),
            json!({"system": "Be kind."}),
            json!({"system": long_text(9000)}),
            json!({"system": [{"type": "text", "text": long_text(6000)}]}),
            json!({"system": [{"type": "text", "text": long_text(9000), "cache_control": {"type": "ephemeral"}}]}),
            json!({"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        ],
        vec![
            json!({}),
            json!({"service_tier": "auto"}),
            json!({"service_tier": "standard_only"}),
            json!({"inference_geo": "us"}),
            json!({"inference_geo": "global"}),
            json!({"speed": "standard"}),
            json!({"speed": "fast"}),
            json!({"metadata": {"user_id": "u"}}),
            json!({"stop_sequences": ["###"]}),
            json!({"stream": true}),
        ],
        vec![
            json!({}),
            json!({"beta": "prompt-caching-2024-07-31"}),
            json!({"beta": "extended-cache-ttl-2025-04-11, token-counting-2024-11-01"}),
            json!({"beta": "context-1m-2025-08-07"}),
            json!({"beta": "context-management-2025-06-27", "context_management": {"edits": []}}),
        ],
    ]
}

/// Small numbers from a seed: the same combinations in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
}

/// Combinations of choices: every other one alone, as the dice will have it, and many of two, three and more.
fn combinations(all: &[Vec<Value>], dice: &mut Dice) -> BTreeSet<Vec<usize>> {
    let none = vec![0; all.len()];
    let mut found = BTreeSet::from([none.clone()]);
    for (place, list) in all.iter().enumerate() {
        for choice in 1..list.len() {
            if dice.below(2) == 0 {
                let mut alone = none.clone();
                alone[place] = choice;
                found.insert(alone);
            }
        }
    }
    while found.len() < COMBINATIONS {
        found.insert(
            all.iter().map(|list| if dice.below(4) == 0 { dice.below(list.len()) } else { 0 }).collect(),
        );
    }
    found
}

/// A call that says all that was chosen.
fn call_of(model: &str, text: &str, chosen: &[&Value]) -> (Value, Option<String>) {
    let mut body = json!({"model": model, "max_tokens": 2048});
    let mut messages = vec![];
    let mut content = json!(text);
    let (mut prefill, mut beta) = (None, None);
    for (name, value) in chosen.iter().flat_map(|choice| choice.as_object().into_iter().flatten()) {
        match name.as_str() {
            "prefill" => prefill = Some(value.clone()),
            "beta" => beta = value.as_str().map(str::to_owned),
            "block" => content = json!([value, {"type": "text", "text": text}]),
            "assistant" => {
                messages.push(json!({"role": "user", "content": "Show me."}));
                messages.push(json!({"role": "assistant", "content": [value]}));
            }
            _ => body[name] = value.clone(),
        }
    }
    messages.push(json!({"role": "user", "content": content}));
    messages.extend(prefill.map(|text| json!({"role": "assistant", "content": text})));
    body["messages"] = messages.into();
    (body, beta)
}

/// What the calls of one run came to, by the fake's records.
#[derive(Default)]
struct Outcome {
    /// By requested and asked model.
    moves: BTreeMap<(String, String), usize>,
    marked: usize,
    /// Calls that were taken after a transform.
    transformed: usize,
    taken: usize,
    refused: usize,
    /// Refusals of changed calls that were taken as they were sent.
    caused: Vec<String>,
}

impl Outcome {
    fn of(requests: &[Recorded], sent: &BTreeMap<String, (String, Vec<u8>)>) -> Self {
        let mut cases: BTreeMap<String, Vec<&Recorded>> = BTreeMap::new();
        for request in requests {
            cases.entry(request.header("x-case").unwrap_or_default().to_owned()).or_default().push(request);
        }
        assert_eq!(cases.len(), sent.len());
        let mut outcome = Self::default();
        for (case, requests) in &cases {
            let (requested, body) = &sent[case];
            let (first, last) = (requests[0], requests[requests.len() - 1]);
            let asked = first.json()["model"].as_str().unwrap().to_owned();
            let is_changed = first.body != *body;
            if last.status == Some(200) {
                outcome.taken += 1;
            } else {
                outcome.refused += 1;
                assert_eq!(last.body, *body, "the last word belongs to the client's own bytes");
            }
            if first.status == Some(200) && is_changed {
                *outcome.moves.entry((requested.clone(), asked.clone())).or_default() += 1;
                outcome.marked += usize::from(asked == *requested);
                let (given, sent): (Value, _) = (serde_json::from_slice(body).unwrap(), first.json());
                let differs = |name: &&str| given[*name] != sent[*name];
                let has_another = ["temperature", "top_p", "top_k", "thinking"].iter().any(differs);
                outcome.transformed += usize::from(has_another);
            }
            if is_changed && first.status != Some(200) && last.status == Some(200) {
                outcome.caused.push(format!("{requested} -> {asked}: {}", String::from_utf8_lossy(body)));
            }
        }
        outcome
    }
}

/// Sends all combinations of one model in one version.
async fn replay(plane: &Plane, model: &str, version: &str, override_by: Option<&str>) -> Outcome {
    let all = choices();
    let mut dice =
        Dice(model.len() as u64 + version.len() as u64 * 31 + override_by.map_or(0, str::len) as u64);
    let mut client = Client::connect(plane.proxy.claude).await;
    let mut sent = BTreeMap::new();
    let texts = if override_by.is_some() { &[STANDARD][..] } else { &[ECONOMY, STANDARD, PREMIUM] };
    for text in texts {
        for (nth, combination) in combinations(&all, &mut dice).into_iter().enumerate() {
            let chosen: Vec<_> = combination.iter().zip(&all).map(|(place, list)| &list[*place]).collect();
            let (body, beta) = call_of(model, text, &chosen);
            let case = format!("{model} {version} {override_by:?} {text} {nth}").replace(' ', "_");
            let mut call = Call::of(&body).version(version).key(&case).field(&format!("x-case: {case}"));
            call = beta.into_iter().fold(call, |call, beta| call.field(&format!("anthropic-beta: {beta}")));
            call = override_by
                .into_iter()
                .fold(call, |call, tier| call.field(&format!("x-touchline-tier: {tier}")));

            client.send(call.bytes()).await;
            client.answer().await;
            sent.insert(case, (model.to_owned(), call.body));
        }
    }
    let requests = plane.seen();
    let ours = requests
        .iter()
        .filter(|request| request.header("x-case").is_some_and(|case| sent.contains_key(case)));
    Outcome::of(&ours.cloned().collect::<Vec<_>>(), &sent)
}

async fn run(keys: &str, version: &str, overrides: &[Option<&str>]) -> Outcome {
    let plane = Plane::with(keys, Settings { keep: usize::MAX, ..Settings::default() }).await;
    let mut sum = Outcome::default();
    for model in MODELS {
        for override_by in overrides {
            let outcome = replay(&plane, model, version, *override_by).await;
            // What was learned from one refusal would hide the next: there must be none at all.
            assert!(
                outcome.caused.is_empty(),
                "{} refused because of us:\n{}",
                outcome.caused.len(),
                outcome.caused.join("\n")
            );
            for (moved, count) in outcome.moves {
                *sum.moves.entry(moved).or_default() += count;
            }
            sum.taken += outcome.taken;
            sum.refused += outcome.refused;
            sum.marked += outcome.marked;
            sum.transformed += outcome.transformed;
            plane.fake.reset();
        }
    }
    sum
}

/// Moves that have to come about for the replay to say anything.
fn covers(outcome: &Outcome, moves: &[(&str, &str)]) {
    for (from, to) in moves {
        let count = outcome.moves.get(&((*from).to_owned(), (*to).to_owned())).copied().unwrap_or(0);
        assert!(count >= 3, "{from} -> {to}: {count} of {:?}", outcome.moves);
    }
    assert!(
        outcome.marked >= 20 && outcome.taken > 800,
        "{} {} {}",
        outcome.marked,
        outcome.taken,
        outcome.refused
    );
}

const ALL_MOVES: [(&str, &str); 8] = [
    (SONNET, HAIKU),
    (SONNET, OPUS),
    (HAIKU, SONNET),
    (HAIKU, OPUS),
    (OPUS, HAIKU),
    (OPUS, SONNET),
    (OLD_SONNET, OLD_HAIKU),
    (OLD_HAIKU, OLD_SONNET),
];

#[tokio::test]
async fn no_parameter_of_the_older_version_is_refused_because_of_us() {
    covers(&run(EAGER, OLD, &[None]).await, &ALL_MOVES);
}

#[tokio::test]
async fn no_parameter_of_the_newer_version_is_refused_because_of_us() {
    covers(&run(EAGER, NEW, &[None]).await, &ALL_MOVES);
}

#[tokio::test]
async fn no_call_is_refused_because_it_was_transformed() {
    let keys = format!("{EAGER}, rewrite: {{ transforms: [drop_sampling, budget_to_effort] }}");
    let overrides = [None, Some("economy"), Some("standard"), Some("premium")];

    let (older, newer) = (run(&keys, OLD, &overrides).await, run(&keys, NEW, &overrides).await);

    covers(&older, &ALL_MOVES);
    covers(&newer, &ALL_MOVES);
    assert!(older.transformed >= 20 && newer.transformed >= 5, "{} {}", older.transformed, newer.transformed);
    assert_eq!(run(EAGER, OLD, &[Some("premium")]).await.transformed, 0);
}

#[tokio::test]
async fn no_call_that_names_its_tier_is_refused_because_of_us() {
    let keys = format!("{EAGER}, prompt_cache: {{ wrap_system: true, ttl: 1h }}");
    for version in [OLD, NEW] {
        run(&keys, version, &[Some("economy"), Some("standard"), Some("premium")]).await;
    }
}

#[tokio::test]
async fn no_turn_of_a_conversation_is_refused_because_of_us() {
    let keys = format!(
        "{EAGER}, prompt_cache: {{ wrap_system: true }}, hold: {{ dearer_turns: 0, moves_per_10_turns: 10 }}"
    );
    for (version, keeps_thinking) in [(OLD, true), (OLD, false), (NEW, true), (NEW, false)] {
        let mut moves = 0;
        for model in MODELS {
            let plane = Plane::start(&keys).await;
            let mut talk = Talk::new(&plane, model, "a");
            talk.fields = vec![format!("x-version: {version}")];
            if model != OPUS {
                talk = talk.with(&json!({"system": [{"type": "text", "text": long_text(9000)}]}));
            }
            for text in [
                STANDARD,
                ECONOMY,
                PREMIUM,
                "And what do I say when she asks why?",
                ECONOMY,
                SERIOUS,
                "thanks",
                PREMIUM,
            ] {
                talk.push(json!({"role": "user", "content": text}));
                let mut call = Call::of(&talk.body).version(version);
                call.fields.extend(talk.fields.iter().cloned());
                let (answer, record) = plane.recorded(&call).await;

                assert_eq!(answer.status, 200, "{model} {version}: {}", answer.text());
                assert_eq!(record["fell_back"], Value::Null, "{model} {version} {record}");
                moves += usize::from(record["model"] != record["requested_model"]);
                let mut content: Map<String, Value> = serde_json::from_slice(&answer.body).unwrap();
                let mut blocks = content.remove("content").unwrap();
                if !keeps_thinking {
                    blocks.as_array_mut().unwrap().retain(|block| block["type"] != "thinking");
                }
                talk.push(json!({"role": "assistant", "content": blocks}));
            }
            let refused: Vec<_> = plane.seen().into_iter().filter(|seen| seen.status != Some(200)).collect();
            assert!(refused.is_empty(), "{model}");
        }
        assert!(moves >= 10, "{version} {keeps_thinking}: {moves}");
    }
}
