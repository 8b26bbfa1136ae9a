//! The guards one by one, and the whole matrix of parameters and models against the rules of the API, told again here.

use super::*;
use crate::config::Models;

/// 2026-11-23, in seconds since 1970.
const NOW: u64 = 1_795_392_000;
const HAIKU: &str = "claude-haiku-5-5";
const SONNET: &str = "claude-sonnet-5-5";
const OPUS: &str = "claude-opus-5-5";
const OLD_HAIKU: &str = "claude-haiku-4-5";
const OLD_SONNET: &str = "claude-sonnet-4-6";
const IDS: [&str; 5] = [HAIKU, SONNET, OPUS, OLD_HAIKU, OLD_SONNET];

fn catalog() -> Catalog {
    Catalog::compile(&Models::new()).unwrap()
}

fn plain<'a>() -> Ask<'a> {
    let settings = Settings { min_max_tokens: 1_024, ..Settings::default() };
    Ask { version: WITH_SAMPLING, max_tokens: Some(2_048), prompt_tokens: 1_000, settings, ..Ask::default() }
}

fn verdict(target: &str, requested: &str, ask: &Ask<'_>) -> Result<(), Refusal> {
    transformed(target, requested, ask)
        .map(|made| assert!(made.is_none(), "{requested} to {target}: {made:?}"))
}

fn transformed(target: &str, requested: &str, ask: &Ask<'_>) -> Result<Transforms, Refusal> {
    let catalog = catalog();
    may_take(&catalog, catalog.find(target).unwrap(), catalog.find(requested).unwrap(), ask, NOW)
}

#[test]
fn plain_text_may_be_taken_by_every_model_and_one_s_own_call_always() {
    for target in IDS {
        for requested in IDS {
            assert_eq!(verdict(target, requested, &plain()), Ok(()), "{requested} to {target}");
        }
        let odd = Ask { has_unknown: true, max_tokens: None, version: "", ..plain() };
        assert_eq!(verdict(target, target, &odd), Ok(()));
    }
}

#[test]
fn each_hazard_refuses_with_its_own_word() {
    let content = Content::default();
    let kind = |kind, budget| Thinking::Known(kind, budget);
    for (case, target, ask, refusal) in [
        ("temperature", HAIKU, Ask { temperature: Some("0.7"), ..plain() }, Refusal::Capability),
        ("unknown version", HAIKU, Ask { version: "2027-01-01", ..plain() }, Refusal::Capability),
        ("unknown member", HAIKU, Ask { has_unknown: true, ..plain() }, Refusal::Capability),
        ("prefill", HAIKU, Ask { is_prefilled: true, ..plain() }, Refusal::Capability),
        ("forced tool", OPUS, Ask { tool_choice: ToolChoice::Forced, ..plain() }, Refusal::Capability),
        ("odd choice", HAIKU, Ask { tool_choice: ToolChoice::Other, ..plain() }, Refusal::Capability),
        (
            "effort",
            OLD_HAIKU,
            Ask { effort: AskedEffort::Known(Effort::Low), ..plain() },
            Refusal::Capability,
        ),
        ("odd effort", HAIKU, Ask { effort: AskedEffort::Other, ..plain() }, Refusal::Capability),
        (
            "budget",
            HAIKU,
            Ask { thinking: kind(ThinkingType::Enabled, Some(1_024)), ..plain() },
            Refusal::Capability,
        ),
        ("odd thinking", HAIKU, Ask { thinking: Thinking::Other, ..plain() }, Refusal::Capability),
        ("speed", OPUS, Ask { speed: Some("fast"), ..plain() }, Refusal::Capability),
        ("priority", HAIKU, Ask { service_tier: Some("priority"), ..plain() }, Refusal::Capability),
        ("geo", OLD_HAIKU, Ask { geo: Some("us"), ..plain() }, Refusal::Capability),
        (
            "strict",
            HAIKU,
            Ask { content: Content { has_strict_tools: true, ..content }, ..plain() },
            Refusal::Capability,
        ),
        ("max_tokens", OLD_HAIKU, Ask { max_tokens: Some(64_001), ..plain() }, Refusal::MaxTokens),
        ("no max_tokens", HAIKU, Ask { max_tokens: None, ..plain() }, Refusal::MaxTokens),
        ("window", OLD_HAIKU, Ask { prompt_tokens: 260_000, ..plain() }, Refusal::Context),
        ("beta", HAIKU, Ask { betas: &["context-1m-2025-08-07"], ..plain() }, Refusal::Beta),
        (
            "server tool",
            HAIKU,
            Ask { content: Content { server_tools: &["web_search_20250305"], ..content }, ..plain() },
            Refusal::Beta,
        ),
        (
            "thinking",
            HAIKU,
            Ask { content: Content { thinking_of: &[SONNET], ..content }, ..plain() },
            Refusal::Thinking,
        ),
    ] {
        assert_eq!(verdict(target, SONNET, &ask), Err(refusal), "{case}");
    }
    assert_eq!(
        Refusal::ALL.map(Refusal::as_str),
        ["capability", "max_tokens", "context", "thinking", "beta"]
    );
}

#[test]
fn what_is_on_the_lists_passes() {
    let content =
        Content { has_images: true, has_documents: true, has_structured_output: true, ..Content::default() };
    for ask in [
        Ask { temperature: Some("1.0"), ..plain() },
        Ask { top_p: Some("0.99"), ..plain() },
        Ask { version: WITHOUT_SAMPLING, ..plain() },
        Ask { betas: &["prompt-caching-2024-07-31"], ..plain() },
        Ask { service_tier: Some("standard_only"), geo: Some("us"), ..plain() },
        Ask { tool_choice: ToolChoice::Forced, ..plain() },
        Ask { thinking: Thinking::Known(ThinkingType::Disabled, None), ..plain() },
        Ask { content, ..plain() },
    ] {
        assert_eq!(verdict(HAIKU, SONNET, &ask), Ok(()), "{ask:?}");
    }
}

#[test]
fn a_short_answer_does_not_go_to_a_model_that_would_think_it_away() {
    let short = Ask { max_tokens: Some(1_023), ..plain() };

    assert_eq!(verdict(HAIKU, OLD_SONNET, &short), Err(Refusal::MaxTokens));
    assert_eq!(verdict(HAIKU, SONNET, &short), Ok(()), "both think");
    assert_eq!(verdict(OLD_HAIKU, SONNET, &short), Ok(()), "it does not think");
    assert_eq!(verdict(HAIKU, OLD_SONNET, &plain()), Ok(()), "long enough");
    let forced = Ask { tool_choice: ToolChoice::Forced, ..short };
    assert_eq!(verdict(HAIKU, OLD_SONNET, &forced), Ok(()), "forced to use a tool it does not think");
}

#[test]
fn the_window_is_counted_in_the_target_s_tokens() {
    let ask = |prompt_tokens| Ask { prompt_tokens, max_tokens: Some(100_000), ..plain() };

    // 692,307 tokens of the older tokenizer are 900,000 of the newer one.
    assert_eq!(verdict(HAIKU, OLD_SONNET, &ask(692_307)), Ok(()));
    assert_eq!(verdict(HAIKU, OLD_SONNET, &ask(692_308)), Err(Refusal::Context));
    assert_eq!(verdict(HAIKU, SONNET, &ask(900_000)), Ok(()));
    assert_eq!(verdict(HAIKU, SONNET, &ask(u64::MAX)), Err(Refusal::Context));
}

#[test]
fn thinking_is_lost_only_where_that_is_allowed_and_never_in_a_tool_loop() {
    let ask = |thinking_of, has_foreign_thinking, is_loss_allowed, is_tool_loop| {
        let content = Content { thinking_of, has_foreign_thinking, is_tool_loop, ..Content::default() };
        Ask { content, settings: Settings { is_loss_allowed, ..plain().settings }, ..plain() }
    };

    assert_eq!(verdict(HAIKU, SONNET, &ask(&[HAIKU], false, false, false)), Ok(()));
    assert_eq!(verdict(HAIKU, SONNET, &ask(&[HAIKU, SONNET], false, false, false)), Err(Refusal::Thinking));
    assert_eq!(verdict(HAIKU, SONNET, &ask(&[], true, false, false)), Err(Refusal::Thinking));
    assert_eq!(verdict(HAIKU, SONNET, &ask(&[SONNET], true, true, false)), Ok(()));
    assert_eq!(verdict(HAIKU, SONNET, &ask(&[SONNET], false, true, true)), Err(Refusal::Thinking));
}

#[test]
fn thinking_is_limited_only_up_to_the_effort_that_allows_it() {
    let models = r#"{ "claude-haiku-5-5": { "efforts": ["high", "xhigh"], "effort": "xhigh" } }"#;
    let catalog = Catalog::compile(&serde_json::from_str(models).unwrap()).unwrap();
    let (haiku, sonnet) = (catalog.find(HAIKU).unwrap(), catalog.find(SONNET).unwrap());
    let verdict = |effort| {
        let thinking = Thinking::Known(ThinkingType::Disabled, None);
        may_take(&catalog, haiku, sonnet, &Ask { thinking, effort, ..plain() }, NOW)
    };

    assert_eq!(verdict(AskedEffort::Known(Effort::High)), Ok(Transforms::NONE));
    assert_eq!(verdict(AskedEffort::Known(Effort::Xhigh)), Err(Refusal::Capability));
    assert_eq!(verdict(AskedEffort::Absent), Err(Refusal::Capability), "the default is more than that");
}

#[test]
fn a_refusal_of_the_api_is_remembered_for_calls_with_the_same_features() {
    let catalog = catalog();
    let (haiku, sonnet) = (catalog.find(HAIKU).unwrap(), catalog.find(SONNET).unwrap());
    let images = Ask { content: Content { has_images: true, ..Content::default() }, ..plain() };
    catalog.learned().refuse(HAIKU, images.features(), NOW);

    assert_eq!(may_take(&catalog, haiku, sonnet, &images, NOW + 1), Err(Refusal::Capability));
    assert_eq!(may_take(&catalog, haiku, sonnet, &plain(), NOW + 1), Ok(Transforms::NONE));
    assert_eq!(may_take(&catalog, haiku, sonnet, &images, NOW + 3_600), Ok(Transforms::NONE));
    let beta = Ask { betas: &["prompt-caching-2024-07-31"], ..plain() };
    catalog.learned().refuse(HAIKU, beta.features(), NOW);
    assert_eq!(may_take(&catalog, haiku, sonnet, &beta, NOW), Err(Refusal::Beta));
}

/// Whether the API takes a call, told from the table alone and without the catalog.
fn is_legal(id: &str, ask: &Ask<'_>) -> bool {
    let is_new = matches!(id, HAIKU | SONNET | OPUS);
    let effort = match ask.effort {
        AskedEffort::Absent if id == SONNET || id == OLD_SONNET => "high",
        AskedEffort::Absent => "medium",
        AskedEffort::Known(_) if id == OLD_HAIKU => return false,
        AskedEffort::Known(effort) => effort.as_str(),
        AskedEffort::Other => return false,
    };
    let is_moderate = ["low", "medium", "high"].contains(&effort);
    let Some(max_tokens) = ask.max_tokens else { return false };
    let (type_word, budget) = match ask.thinking {
        Thinking::Absent => ("", None),
        Thinking::Known(kind, budget) => (kind.as_str(), budget),
        Thinking::Other => return false,
    };
    let thinking = match (id, type_word) {
        (_, "") => true,
        (HAIKU | SONNET | OPUS | OLD_SONNET, "adaptive") => budget.is_none(),
        (HAIKU, "disabled") | (SONNET, "between_tools") => is_moderate && budget.is_none(),
        (OLD_HAIKU | OLD_SONNET, "enabled") => {
            budget.is_some_and(|budget| 1_024 <= budget && budget < max_tokens)
        }
        _ => false,
    };
    let sampling = match (ask.temperature, ask.top_p, ask.top_k) {
        (None, None, None) => true,
        _ if ask.version == "2026-10-21" => false,
        (Some("1"), None, None) => true,
        (None, Some("0.99"), None) => id == HAIKU || !is_new,
        // With both, and with thinking, models of generation 4 refuse.
        (Some(_), Some(_), _) => false,
        (temperature, _, top_k) => {
            let is_thinking = !["", "disabled"].contains(&type_word);
            !is_new && (!is_thinking || temperature.is_none() && top_k.is_none())
        }
    };
    let forced = match ask.tool_choice {
        ToolChoice::Free => true,
        ToolChoice::Forced => !matches!(id, SONNET | OPUS) && ["", "disabled"].contains(&type_word),
        ToolChoice::Other => false,
    };
    let (window, longest) = match id {
        OLD_HAIKU => (200_000, 64_000),
        OLD_SONNET => (1_000_000, 64_000),
        _ => (1_000_000, 128_000),
    };
    thinking
        && sampling
        && forced
        && (!ask.is_prefilled || id == OLD_HAIKU)
        && max_tokens <= longest
        && ask.prompt_tokens + max_tokens <= window
        && (ask.speed != Some("fast") || id == OPUS)
        && ask.betas.iter().all(|beta| *beta != "computer-use-2025-11-24" || id == OPUS)
}

/// Every combination of values of one more parameter.
fn each<'a, T: Copy>(asks: &[Ask<'a>], values: &[T], set: impl Fn(&mut Ask<'a>, T)) -> Vec<Ask<'a>> {
    asks.iter()
        .flat_map(|ask| values.iter().map(move |value| (*ask, *value)))
        .map(|(mut ask, value)| {
            set(&mut ask, value);
            ask
        })
        .collect()
}

fn matrix() -> Vec<Ask<'static>> {
    let kind = |kind, budget| Thinking::Known(kind, budget);
    let asks = each(&[plain()], &["2023-06-01", "2026-10-21"], |ask, version| ask.version = version);
    let asks = each(&asks, &[None, Some("1"), Some("0.5")], |ask, value| ask.temperature = value);
    let asks = each(&asks, &[None, Some("0.99"), Some("0.5")], |ask, value| ask.top_p = value);
    let asks = each(&asks, &[None, Some("40")], |ask, value| ask.top_k = value);
    let thinking = [
        Thinking::Absent,
        kind(ThinkingType::Adaptive, None),
        kind(ThinkingType::Adaptive, Some(2_000)),
        kind(ThinkingType::Enabled, Some(4_095)),
        kind(ThinkingType::Enabled, Some(4_096)),
        kind(ThinkingType::Enabled, Some(1_023)),
        kind(ThinkingType::Enabled, None),
        kind(ThinkingType::BetweenTools, None),
        kind(ThinkingType::Disabled, None),
    ];
    let asks = each(&asks, &thinking, |ask, value| ask.thinking = value);
    let efforts = [None, Some(Effort::Low), Some(Effort::High), Some(Effort::Xhigh), Some(Effort::Max)];
    let asks = each(&asks, &efforts, |ask, value| {
        ask.effort = value.map_or(AskedEffort::Absent, AskedEffort::Known);
    });
    let asks = each(&asks, &[ToolChoice::Free, ToolChoice::Forced], |ask, value| ask.tool_choice = value);
    let asks = each(&asks, &[false, true], |ask, value| ask.is_prefilled = value);
    let asks = each(&asks, &[500, 4_096, 64_001, 128_001], |ask, value| ask.max_tokens = Some(value));
    each(&asks, &[1_000, 180_000, 930_000], |ask, value| ask.prompt_tokens = value)
}

#[test]
fn no_legal_call_is_moved_to_a_model_that_refuses_it() {
    let catalog = catalog();
    let pairs: Vec<(&Model, &Model)> = catalog
        .models()
        .flat_map(|target| catalog.models().map(move |requested| (target, requested)))
        .filter(|(target, requested)| target.id != requested.id)
        .collect();
    let (mut taken, mut legal) = (0_u64, 0_u64);
    for ask in matrix() {
        for (target, requested) in &pairs {
            let is_taken = may_take(&catalog, target, requested, &ask, NOW).is_ok();
            // The prompt is estimated as the requested model counts it; the target counts more, or fewer.
            let prompt_tokens = target.tokens_of(ask.prompt_tokens, requested);
            let as_counted = Ask { prompt_tokens, ..ask };
            // Also where the client's own model refuses: then that is the answer that it should see.
            let is_sound = !is_taken || is_legal(&target.id, &as_counted);
            assert!(is_sound, "{} to {}: {ask:?}", requested.id, target.id);
            if is_legal(&requested.id, &ask) {
                legal += 1;
                taken += u64::from(is_taken);
            }
        }
    }
    // Guards that refuse everything would pass too.
    assert!(taken * 10 > legal, "{taken} of {legal}");
}

#[test]
fn no_call_with_a_beta_or_a_speed_of_one_model_is_moved() {
    let asks = each(&[plain()], &[&["computer-use-2025-11-24"][..], &[]], |ask, value| ask.betas = value);
    let asks = each(&asks, &[None, Some("fast"), Some("standard")], |ask, value| ask.speed = value);
    for ask in asks.iter().filter(|ask| !ask.betas.is_empty() || ask.speed.is_some()) {
        for target in IDS.iter().filter(|target| **target != OPUS) {
            assert!(is_legal(OPUS, ask) && verdict(target, OPUS, ask).is_err(), "{target}: {ask:?}");
        }
    }
}
