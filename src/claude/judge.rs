//! The judge: a cheap model that is asked for the type of a turn where the signals of the classifier disagree.
//!
//! It gets the labelling policy as a cached system prompt and the exchange as one message, with the client's own
//! credential and version, and answers one word. Whatever goes wrong (no answer in time, an error, another word, a
//! budget, too many such calls), the turn is standard. It is never asked about a serious turn, nor where calls are not
//! routed: what a call costs is not changed by `off` and `observe`. A turn's verdict is remembered with its model, so that
//! a repeat of the turn asks nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    books::{Books, unix_now},
    budget::Charged,
    catalog::Model,
    classify::{Economy, Exchange, Reason, Role, Verdict},
    decide::{BYTES_PER_KILOTOKEN, tokens_of},
    error::CallError,
    outgoing,
    pipeline::record,
    plan::{Case, short},
    relay::Relay,
};
use crate::{
    config::{MessageType, ModelTier, Share, ThinkingType},
    net::{Body, headers},
    telemetry::{claude::RoutingReason, record::Outcome},
    upstream::{self, Timing},
};

/// What the types mean.
const POLICY: &str = include_str!("judge/policy.txt");

/// Tokens of one word; of a model that thinks whatever it is told, room for that too.
const WORD_TOKENS: u64 = 16;
const THOUGHT_TOKENS: u64 = 1_500;

/// What is shown of an exchange: turns, and characters of each and of the system prompt.
const TURNS: usize = 12;
const TURN_CHARS: usize = 1_500;
const LAST_CHARS: usize = 4_000;
const SYSTEM_CHARS: usize = 1_500;

/// The longest answer that is read.
const ANSWER_BYTES: usize = 64 << 10;

/// Calls after which the counts of a [`Quota`] are halved, so that a long calm does not pay for a storm.
const MEMORY: u64 = 1_000;

/// Whether the classifier's signals disagree about a turn.
pub(super) const fn is_unsure(verdict: &Verdict) -> bool {
    match verdict.reason {
        Reason::Unknown => true,
        Reason::Type(_) => matches!(verdict.signals.economy, Economy::Unlikely | Economy::RuleObjects),
        Reason::SystemRule | Reason::Serious | Reason::Assessment | Reason::TwoSignals => false,
    }
}

/// Holds the judge's calls to a share of all.
#[derive(Default)]
pub(super) struct Quota {
    calls: AtomicU64,
    asked: AtomicU64,
}

impl Quota {
    /// Counts a call that was decided.
    pub(super) fn count(&self) {
        if self.calls.fetch_add(1, Relaxed) >= MEMORY {
            // Two at the same moment halve twice: the share stays about the same.
            self.calls.fetch_sub(MEMORY / 2, Relaxed);
            let _ = self.asked.fetch_update(Relaxed, Relaxed, |asked| Some(asked / 2));
        }
    }

    /// Takes one question from the share; false when it is used up.
    fn take(&self, share: Share) -> bool {
        let most = share.of(self.calls.load(Relaxed));
        let taken = self.asked.fetch_update(Relaxed, Relaxed, |asked| (asked < most).then_some(asked + 1));
        taken.is_ok()
    }
}

/// What is to be believed of a turn that the classifier is unsure of, and whether the judge has said so.
pub(super) async fn judge(case: &Case<'_>, unsure: &Verdict) -> (Verdict, bool) {
    let settings = &case.rules.config.router.judge;
    let word = if case.core.claude.judged.take(settings.max_share) { ask(case).await } else { None };
    word.map_or_else(|| (standard(unsure), false), |word| (verdict_of(case, word, unsure), true))
}

const fn standard(unsure: &Verdict) -> Verdict {
    if matches!(unsure.tier, ModelTier::Standard) {
        return *unsure;
    }
    Verdict { kind: MessageType::Unknown, tier: ModelTier::Standard, reason: Reason::Unknown, ..*unsure }
}

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Type(MessageType),
    Serious,
}

impl Word {
    fn of(text: &str) -> Option<Self> {
        let word = text.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_ascii_lowercase();
        match word.as_str() {
            "serious" => Some(Self::Serious),
            "other" => Some(Self::Type(MessageType::Unknown)),
            "unknown" => None,
            word => MessageType::from_word(word).map(Self::Type),
        }
    }
}

fn verdict_of(case: &Case<'_>, word: Word, unsure: &Verdict) -> Verdict {
    let types = &case.rules.config.router.types;
    match word {
        Word::Type(kind) => {
            // The judge is the second signal, not a way round the limits of length.
            let is_long = matches!(unsure.signals.economy, Economy::LongTurn | Economy::LongHistory);
            let may_be_light = kind != MessageType::Unknown && !is_long;
            let tier = if may_be_light { types.of(kind) } else { types.of(kind).max(ModelTier::Standard) };
            Verdict { kind, tier, reason: Reason::Type(kind), ..*unsure }
        }
        Word::Serious => {
            let kind = MessageType::EmotionalSupport;
            let tier = types.of(kind).max(ModelTier::Standard);
            Verdict { kind, tier, reason: Reason::Serious, bars_economy: true, ..*unsure }
        }
    }
}

/// Asks, within the deadline and the budgets. The call has a record of its own.
async fn ask(case: &Case<'_>) -> Option<Word> {
    let rules = case.rules;
    let settings = &rules.config.router.judge;
    // Without a version the API refuses the call; the client will be told so by its own.
    let version =
        HeaderValue::from_str(&case.begun.head.version).ok().filter(|version| !version.is_empty())?;
    let index = rules.index(&settings.model);
    let model = index.and_then(|index| rules.model(index));
    let exchange = case.asked.classified(show);
    let body = question(&settings.model, model, &exchange);
    let mut call = record(rules, case.route(), case.begun);
    call.model = Arc::clone(rules.label(index));
    call.requested = Arc::clone(&call.model);
    call.tier = rules.tier_of(&settings.model);
    call.wanted = call.tier;
    call.reason = RoutingReason::Judge;
    call.identity = Some(short(case.asked.identity));
    call.started = Instant::now();
    let charged = Charged {
        identity: case.asked.identity,
        tier: call.tier,
        is_serious: false,
        estimate: outgoing::estimate(
            model,
            tokens_of(body.len() as u64, BYTES_PER_KILOTOKEN),
            WORD_TOKENS,
            None,
            unix_now(),
        ),
    };
    let asking = async {
        let reserved = case.core.claude.budgets.reserve(charged, unix_now()).await.ok()?;
        let books = Books::open(case.core, rules, call);
        books.hold(reserved);
        books.note(|call| call.outcome = Outcome::Error(CallError::TimedOut.reason()));
        let fields = fields(case, version);
        let said = answered(case, (body, fields), settings.deadline, &books).await;
        let outcome = match &said {
            Ok(_) => Outcome::Done,
            Err(reason) => Outcome::Error(reason),
        };
        books.note(|call| call.outcome = outcome);
        said.ok()
    };
    let said = tokio::time::timeout(settings.deadline, asking).await.ok()??;
    Word::of(&said)
}

fn fields(case: &Case<'_>, version: HeaderValue) -> HeaderMap {
    let theirs = &case.begun.parts.headers;
    let mut fields = HeaderMap::new();
    fields.insert(header::HOST, case.core.client.upstream().authority().clone());
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(header::USER_AGENT, HeaderValue::from_static("touchline"));
    fields.insert("anthropic-version", version);
    for name in [header::HeaderName::from_static("x-api-key"), header::AUTHORIZATION] {
        if let Some(value) = theirs.get(&name) {
            fields.insert(name, value.clone());
        }
    }
    fields
}

/// The text of the answer, or why there is none.
async fn answered(
    case: &Case<'_>,
    (body, fields): (Bytes, HeaderMap),
    first_byte: Duration,
    books: &Books,
) -> Result<String, &'static str> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/v1/messages");
    *request.headers_mut() = fields;
    let (parts, ()) = request.into_parts();
    let call = upstream::Call {
        body: Body::full(body),
        interim: None,
        first_byte: Some(first_byte),
        bulkhead: None,
        is_fresh: false,
    };
    let reply = case.core.client.call(upstream::Head::of(&parts), call, &mut Timing::default()).await;
    let response = reply.map_err(|error| CallError::from(&error).reason())?.response;
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    books.note(|call| call.status = parts.status.as_u16());
    let relay = Relay::new(body, &parts.headers, books.clone());
    let body = Body::of(relay).collect(ANSWER_BYTES).await.map_err(|_| "unreadable")?;
    if !parts.status.is_success() {
        return Err("refused");
    }
    let answer: Value = serde_json::from_slice(&body).map_err(|_| "unreadable")?;
    let blocks = answer.get("content").and_then(Value::as_array).into_iter().flatten();
    let text = blocks.filter_map(|block| block.get("text")?.as_str()).next();
    text.map(str::to_owned).ok_or("unreadable")
}

/// The body of the judge's call. No parameter is in it that some model or version refuses.
fn question(name: &str, model: Option<&Model>, exchange: &str) -> Bytes {
    let takes = model.map(|model| &model.takes);
    let thinks = takes.is_some_and(|takes| takes.thinks_by_default);
    let may_disable = takes.is_some_and(|takes| takes.thinking.contains(&ThinkingType::Disabled));
    let max_tokens = if thinks && !may_disable { THOUGHT_TOKENS } else { WORD_TOKENS };
    let mut body = json!({
        "model": name,
        "max_tokens": max_tokens,
        "system": [{"type": "text", "text": POLICY, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": exchange}],
    });
    if thinks && may_disable {
        body["thinking"] = json!({"type": "disabled"});
    }
    Bytes::from(body.to_string())
}

/// An exchange as the judge sees it: its end, and of each text the beginning.
fn show(exchange: &Exchange<'_>) -> String {
    let mut text = String::new();
    if let Some(system) = exchange.system {
        push(&mut text, "system", system, SYSTEM_CHARS);
    }
    let skipped = exchange.turns.len().saturating_sub(TURNS);
    let shown = exchange.turns.get(skipped..).unwrap_or_default();
    for (place, turn) in shown.iter().enumerate() {
        let role = match turn.role {
            Role::User => "user",
            Role::Assistant => "coach",
        };
        let most = if place + 1 == shown.len() { LAST_CHARS } else { TURN_CHARS };
        push(&mut text, role, &turn.text, most);
    }
    text.push_str("What does the next answer have to do? One word.");
    text
}

fn push(text: &mut String, role: &str, words: &str, most: usize) {
    text.push_str(&format!("<{role}>\n"));
    let end = words.char_indices().nth(most).map_or(words.len(), |(at, _)| at);
    text.push_str(words.get(..end).unwrap_or(words));
    if end < words.len() {
        text.push_str(" [...]");
    }
    text.push_str(&format!("\n</{role}>\n"));
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::Value;

    use super::{POLICY, Quota, WORD_TOKENS, Word, question, show};
    use crate::{
        claude::{
            catalog::Catalog,
            classify::{Exchange, Role, Turn},
        },
        config::{MessageType, Models, Share},
    };

    #[test]
    fn one_word_is_read_and_no_other() {
        let table = [
            ("coaching", Some(Word::Type(MessageType::Coaching))),
            (" Small_Talk.\n", Some(Word::Type(MessageType::SmallTalk))),
            ("other", Some(Word::Type(MessageType::Unknown))),
            ("serious", Some(Word::Serious)),
            ("unknown", None),
            ("It is coaching", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(Word::of(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_policy_names_every_word_that_is_read() {
        for kind in MessageType::ALL.into_iter().filter(|kind| *kind != MessageType::Unknown) {
            assert!(POLICY.contains(&format!("\n{} - ", kind.as_str())), "{kind:?}");
        }
        assert!(POLICY.contains("\nother - ") && POLICY.contains("\nserious - "));
    }

    #[test]
    fn the_judge_gets_its_share_and_no_more() {
        let quota = Quota::default();
        let mut asked = 0;
        for _ in 0..10_000 {
            quota.count();
            asked += u32::from(quota.take(Share::percent(20)));
        }
        assert!((1_900..=2_000).contains(&asked), "{asked}");

        let quota = Quota::default();
        quota.count();
        assert!(!quota.take(Share::percent(20)), "one of one is more than a fifth");
        assert!(quota.take(Share::ALL));
    }

    #[test]
    fn a_model_that_thinks_is_told_not_to() {
        let catalog = Catalog::compile(&Models::new()).unwrap();
        let body = |name: &str| -> Value {
            serde_json::from_slice(&question(name, catalog.find(name), "hi")).unwrap()
        };

        assert_eq!(body("claude-haiku-5-5")["thinking"]["type"], "disabled");
        assert_eq!(body("claude-haiku-5-5")["max_tokens"], WORD_TOKENS);
        assert_eq!(body("claude-haiku-4-5")["thinking"], Value::Null);
        assert_eq!(body("claude-haiku-5-5")["system"][0]["cache_control"]["type"], "ephemeral");
    }

    #[test]
    fn the_end_of_an_exchange_is_shown_in_bounded_length() {
        let long = "é".repeat(10_000);
        let turns: Vec<_> = (0..50)
            .map(|place| Turn {
                role: if place % 2 == 0 { Role::Assistant } else { Role::User },
                text: if place == 40 {
                    Cow::Borrowed(long.as_str())
                } else {
                    Cow::Owned(format!("turn {place}"))
                },
            })
            .collect();
        let text = show(&Exchange { system: Some("Be kind."), turns: &turns });

        assert!(text.starts_with("<system>\nBe kind.\n</system>\n<coach>\nturn 38\n</coach>\n"), "{text}");
        assert!(text.contains("<user>\nturn 49\n</user>\n") && !text.contains("turn 37"));
        assert!(text.chars().count() < 3_000);
    }
}
