//! The decision, step by step, on calls that are read like real ones.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{BYTES_PER_KILOTOKEN, Decision, Known, alternatives, decide};
use crate::{
    claude::{
        asked::{Asked, Head},
        classify::Verdict,
        conversation::{Found, ModelIndex, State, Warm},
        message::Message,
        rhythm::Rhythm,
        rules::Rules,
    },
    config::{self, ClaudeRoute, MessageType, ModelTier, Moves, Preference},
    telemetry::claude::RoutingReason as Reason,
};

const KEY: [u8; 32] = [7; 32];

/// What is remembered, once the rules have given models their numbers.
type Remembered = Box<dyn Fn(&Rules) -> Found>;

/// A call, and everything that may be known of it.
struct Case {
    config: config::Claude,
    body: Value,
    headers: Vec<(&'static str, &'static str)>,
    found: Option<Remembered>,
    warm: Vec<(&'static str, u64)>,
    breakpoints: Option<bool>,
    kind: MessageType,
    tier: ModelTier,
    bars_economy: bool,
    is_soft: bool,
    path: &'static str,
}

impl Case {
    /// A call for Sonnet whose content wants a tier.
    fn wanting(kind: MessageType, tier: ModelTier) -> Self {
        Self {
            config: config::Claude::default(),
            body: json!({
                "model": "claude-sonnet-5-5",
                "max_tokens": 2048,
                "messages": [{ "role": "user", "content": "hello there" }],
            }),
            headers: vec![("x-api-key", "k"), ("anthropic-version", "2023-06-01")],
            found: None,
            warm: Vec::new(),
            breakpoints: None,
            kind,
            tier,
            bars_economy: false,
            is_soft: false,
            path: "/v1/messages",
        }
    }

    fn light() -> Self {
        Self::wanting(MessageType::SmallTalk, ModelTier::Economy)
    }

    fn assessment() -> Self {
        Self::wanting(MessageType::Assessment, ModelTier::Premium)
    }

    fn coaching() -> Self {
        Self::wanting(MessageType::Coaching, ModelTier::Standard)
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.body[name] = value;
        self
    }

    fn set(mut self, change: impl FnOnce(&mut config::Claude)) -> Self {
        change(&mut self.config);
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The turn before was answered by a model.
    fn after(mut self, model: &'static str, change: impl Fn(&mut State) + 'static) -> Self {
        self.found = Some(Box::new(move |rules| {
            let mut state = state(rules, model);
            change(&mut state);
            Found::Parent(state)
        }));
        self
    }

    fn known<T>(&self, ask: impl FnOnce(&Known<'_>, Verdict) -> T) -> T {
        let rules = Rules::compile(self.config.clone()).unwrap();
        let line = |(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), HeaderValue::from_static(value))
        };
        let mut headers: HeaderMap = self.headers.iter().map(line).collect();
        let head = Head::take(&mut headers, &KEY);
        let body = Bytes::from(self.body.to_string());
        let message = Message::read(&body, 64).unwrap();
        let asked = Asked::new(body, message, &head, &KEY);
        let now = Instant::now() + Duration::from_secs(3600);
        let warm = |model: ModelIndex| {
            let tokens = self.warm.iter().find(|(name, _)| rules.index(name) == Some(model))?.1;
            Some(Warm { tokens, is_hour: false, at: now - Duration::from_secs(60) })
        };
        let (route, _) = rules.route(self.path);
        let known = Known {
            rules: &rules,
            route: rules.route_at(route),
            head: &head,
            asked: &asked,
            found: self.found.as_ref().map_or(Found::New, |found| found(&rules)),
            rhythm: Rhythm::default(),
            warm: &warm,
            breakpoints: self.breakpoints,
            output: &|_| 60,
            is_soft: &|_| self.is_soft,
            now,
            unix_s: 1_795_000_000,
        };
        // The signals are those of a real verdict; what they say is the case's own.
        let mut verdict = asked.classified(|exchange| rules.classifier.classify(exchange));
        verdict.kind = self.kind;
        verdict.tier = self.tier;
        verdict.bars_economy = self.bars_economy;
        verdict.reason = crate::claude::classify::Reason::Type(self.kind);
        ask(&known, verdict)
    }

    fn decide(&self) -> (Decision, Option<String>) {
        self.known(|known, verdict| {
            let decision = decide(known, || verdict);
            let model = decision.model.map(|model| known.rules.label(Some(model)).to_string());
            (decision, model)
        })
    }

    /// The model that takes the client's place, and the reason.
    fn outcome(&self) -> (Option<String>, Reason) {
        let (decision, model) = self.decide();
        (model, decision.reason)
    }
}

fn state(rules: &Rules, model: &str) -> State {
    State {
        model: rules.index(model).unwrap(),
        requested: rules.index("claude-sonnet-5-5").unwrap(),
        serious_left: 0,
        dearer_left: 0,
        moves: 0,
        no_route: false,
        thinking_by: None,
        settings: 0,
        bytes_per_kilotoken: BYTES_PER_KILOTOKEN,
        cut: None,
        is_hour: None,
        at: Instant::now(),
    }
}

fn to(model: &str, reason: Reason) -> (Option<String>, Reason) {
    (Some(model.to_owned()), reason)
}

const fn stays(reason: Reason) -> (Option<String>, Reason) {
    (None, reason)
}

#[test]
fn the_content_finds_its_tier_and_the_requested_tier_keeps_the_clients_model() {
    assert_eq!(Case::light().outcome(), to("claude-haiku-5-5", Reason::SmallTalk));
    assert_eq!(Case::assessment().outcome(), to("claude-opus-5-5", Reason::Assessment));
    assert_eq!(Case::coaching().outcome(), stays(Reason::Coaching));
    let aliased = Case::coaching().with("model", json!("claude-3-7-sonnet-latest"));
    assert_eq!(aliased.outcome(), stays(Reason::Coaching));
}

#[test]
fn the_client_may_name_a_tier_or_keep_its_model() {
    assert_eq!(
        Case::coaching().header("x-touchline-tier", "premium").outcome(),
        to("claude-opus-5-5", Reason::Override)
    );
    assert_eq!(Case::light().header("x-touchline-tier", "off").outcome(), stays(Reason::Override));
    let mut serious = Case::coaching().header("x-touchline-tier", "economy");
    serious.bars_economy = true;
    assert_eq!(serious.outcome(), stays(Reason::Serious));
}

#[test]
fn models_outside_the_tiers_are_never_routed() {
    for model in ["claude-fable-5-2", "gpt-4", "claude-mythos-1"] {
        assert_eq!(Case::light().with("model", json!(model)).outcome(), stays(Reason::NotOurs), "{model}");
    }
}

#[test]
fn what_binds_a_call_to_its_model_keeps_it() {
    let table = [
        ("fallbacks", json!(["claude-haiku-5-5"]), Reason::Feature),
        ("container", json!("c1"), Reason::Feature),
        ("speed", json!("fast"), Reason::Feature),
        ("thread_id", json!("t1"), Reason::Thread),
    ];
    for (name, value, reason) in table {
        assert_eq!(Case::light().with(name, value).outcome(), stays(reason), "{name}");
    }
}

#[test]
fn serious_content_never_goes_to_economy_whatever_wants_it_there() {
    let mut case = Case::light();
    case.bars_economy = true;
    assert_eq!(case.outcome(), stays(Reason::Serious));

    let later = Case::light().after("claude-sonnet-5-5", |state| state.serious_left = 2);
    assert_eq!(later.outcome(), stays(Reason::Serious));

    let mut ruled = Case::light().set(|config| {
        config.routes = vec![ClaudeRoute {
            path: "/titles".to_owned(),
            tier: Some(ModelTier::Economy),
            ..ClaudeRoute::default()
        }];
    });
    (ruled.bars_economy, ruled.path) = (true, "/titles/v1/messages");
    assert_eq!(ruled.outcome(), stays(Reason::Serious));

    let mut on_economy = Case::coaching().after("claude-haiku-5-5", |state| state.moves = 0b111);
    on_economy.bars_economy = true;
    assert_eq!(on_economy.outcome(), stays(Reason::Coaching), "it does not stay there either");
}

#[test]
fn a_path_of_its_own_has_a_tier_of_its_own() {
    let mut case = Case::coaching().set(|config| {
        config.routes = vec![ClaudeRoute {
            path: "/reports".to_owned(),
            tier: Some(ModelTier::Premium),
            ..ClaudeRoute::default()
        }];
    });
    assert_eq!(case.outcome(), stays(Reason::Coaching));
    case.path = "/reports/v1/messages";
    assert_eq!(case.outcome(), to("claude-opus-5-5", Reason::RouteRule));
}

#[test]
fn preferences_and_directions_bound_the_tier() {
    let user = json!({ "user_id": "u" });
    let prefers = |case: Case, preference| {
        let case = case.with("metadata", user.clone());
        case.set(|config| config.preferences.users = [("u".to_owned(), preference)].into())
    };
    assert_eq!(prefers(Case::light(), Preference::PremiumUser).outcome(), stays(Reason::Preference));
    assert_eq!(prefers(Case::assessment(), Preference::CostConscious).outcome(), stays(Reason::Preference));
    assert_eq!(
        prefers(Case::light(), Preference::CostConscious).outcome(),
        to("claude-haiku-5-5", Reason::SmallTalk)
    );

    assert_eq!(Case::assessment().set(|config| config.moves = Moves::Down).outcome(), stays(Reason::Moves));
    assert_eq!(Case::light().set(|config| config.moves = Moves::Up).outcome(), stays(Reason::Moves));
}

#[test]
fn the_same_turn_and_a_tool_loop_keep_the_model_that_answered() {
    let mut case = Case::coaching();
    case.found = Some(Box::new(|rules| Found::Same(state(rules, "claude-haiku-5-5"))));
    assert_eq!(case.outcome(), to("claude-haiku-5-5", Reason::SameTurn));

    let messages = json!([
        { "role": "user", "content": "weather?" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "w", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": "sunny" }] },
    ]);
    let looping = Case::assessment().with("messages", messages);
    assert_eq!(looping.outcome(), stays(Reason::ToolLoop));
    let moved = looping.after("claude-haiku-5-5", |_| {});
    assert_eq!(moved.outcome(), to("claude-haiku-5-5", Reason::ToolLoop));
}

#[test]
fn a_conversation_that_was_refused_after_a_move_is_left_alone() {
    let case = Case::light().after("claude-sonnet-5-5", |state| state.no_route = true);

    assert_eq!(case.outcome(), stays(Reason::NoRoute));
}

#[test]
fn a_model_that_may_not_take_the_call_is_passed_over_and_the_first_refusal_is_the_reason() {
    let hot = Case::light().with("temperature", json!(0.3));
    let (decision, model) = hot.decide();
    assert_eq!(model.as_deref(), Some("claude-haiku-4-5"), "generation 4 takes what generation 5 refuses");
    assert_eq!(decision.refused.first().map(|(_, reason)| *reason), Some(Reason::Capability));

    let forced = Case::assessment()
        .with("tools", json!([{ "name": "t", "input_schema": { "type": "object" } }]))
        .with("tool_choice", json!({ "type": "any" }));
    assert_eq!(forced.outcome(), stays(Reason::Capability));
    let long = Case::light().with("model", json!("claude-haiku-5-5"));
    assert_eq!(long.outcome(), stays(Reason::SmallTalk));
}

#[test]
fn a_long_warm_conversation_stays_where_its_cache_is() {
    let mut case = Case::light().with("system", json!("Advice. ".repeat(4_000)));
    case.breakpoints = Some(false);
    case.warm = vec![("claude-sonnet-5-5", 10_000)];
    let (decision, model) = case.decide();

    assert_eq!((model, decision.reason, decision.wanted), (None, Reason::Gate, Some(ModelTier::Economy)));
    assert!(!decision.priced[0].1.moves);
}

#[test]
fn a_visit_to_premium_may_cost_only_so_much() {
    let dear = Case::assessment().with("system", json!("Advice. ".repeat(60_000)));
    assert_eq!(dear.outcome(), stays(Reason::Gate));
    let allowed = dear.set(|config| config.gate.premium_max_extra = config::Usd::from_micros(5_000_000));
    assert_eq!(allowed.outcome(), to("claude-opus-5-5", Reason::Assessment));
}

#[test]
fn a_dearer_model_is_held_for_its_turns_unless_coming_back_gains_a_quarter() {
    let held = |warm: Vec<(&'static str, u64)>| {
        let mut case = Case::coaching()
            .with("system", json!("Advice. ".repeat(2_500)))
            .after("claude-opus-5-5", |state| state.dearer_left = 2);
        case.breakpoints = Some(false);
        case.warm = warm;
        case.outcome()
    };

    assert_eq!(held(vec![("claude-opus-5-5", 6_200)]), to("claude-opus-5-5", Reason::Hold));
    assert_eq!(held(Vec::new()), stays(Reason::Coaching), "cold on both, half the price is a gain");
}

#[test]
fn a_conversation_that_moved_three_times_in_ten_turns_stays() {
    let case = Case::light().after("claude-sonnet-5-5", |state| state.moves = 0b10_0101);

    assert_eq!(case.outcome(), stays(Reason::Hold));
}

#[test]
fn a_soft_budget_goes_one_tier_down_but_never_into_economy_without_both_signals() {
    let soft = |mut case: Case| {
        case.is_soft = true;
        case.outcome()
    };
    assert_eq!(soft(Case::assessment()), stays(Reason::Budget));
    assert_eq!(soft(Case::coaching()), stays(Reason::Coaching));
    let mut serious = Case::assessment();
    serious.bars_economy = true;
    assert_eq!(soft(serious), to("claude-opus-5-5", Reason::Assessment));
}

#[test]
fn every_model_of_every_tier_is_among_the_alternatives() {
    let all = Case::light().known(|known, _| {
        let all = alternatives(known, MessageType::SmallTalk);
        all.into_iter().map(|one| (one.tier, one.refused, one.priced.is_some())).collect::<Vec<_>>()
    });

    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|(_, refused, _)| refused.is_none()));
    assert_eq!(all.iter().filter(|(_, _, is_priced)| *is_priced).count(), 4);
}

#[test]
fn an_old_state_says_how_long_tokens_are() {
    let mut case = Case::light().after("claude-sonnet-5-5", |state| state.bytes_per_kilotoken = 1_600);
    let tokens = case.known(|known, _| super::tokens(known));
    case.found = None;

    assert_eq!(case.known(|known, _| super::tokens(known)), tokens / 2);
}
