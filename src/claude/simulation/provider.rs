//! The API, simulated: it reads the bytes that it is sent, keeps a cache per model, answers, and bills.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;

use super::talk::tokens_of;
use crate::claude::{
    catalog::Catalog,
    cost::{Mark, Prompt, Simulated, Terms, Tokens, Ttl, cost},
    money::PicoUsd,
};

/// The model that clients ask for.
pub(super) const ASKED: &str = "claude-sonnet-5-5";

/// Tokens that a message has beside its text.
const FRAME: u64 = 5;

/// Marks as the plane writes them.
const MARKS: [(&str, Ttl); 2] = [
    (r#""cache_control":{"type":"ephemeral"},"#, Ttl::FiveMinutes),
    (r#""cache_control":{"type":"ephemeral","ttl":"1h"},"#, Ttl::OneHour),
];

/// A prompt as the provider sees it: hash and tokens of each beginning, the first that of the system prompt.
#[derive(Clone)]
pub(super) struct Seen(Vec<(u128, u64)>);

impl Seen {
    pub(super) fn new(system: &str) -> Self {
        Self(vec![(mixed(0, system), tokens_of(system) + FRAME)])
    }

    pub(super) fn add(&mut self, text: &str) {
        let (hash, tokens) = *self.0.last().unwrap();
        self.0.push((mixed(hash, text), tokens + tokens_of(text) + FRAME));
    }

    pub(super) fn tokens(&self) -> u64 {
        self.0.last().unwrap().1
    }
}

fn mixed(before: u128, text: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, before, text).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// A call as it arrived.
pub(super) struct Arrived<'a> {
    model: &'a str,
    top: Option<Ttl>,
    system: Option<Ttl>,
}

impl<'a> Arrived<'a> {
    /// Reads what the plane has sent. All else must be as the client wrote it.
    pub(super) fn read(sent: &'a str, own: &str) -> Self {
        let (before, rest) = sent.split_once(r#""model":""#).unwrap();
        let (model, after) = rest.split_once('"').unwrap();
        let top = mark(before, 1);
        let system = after.find(r#""system":[{"#).and_then(|at| mark(after, at + r#""system":[{"#.len()));
        let mut restored = String::with_capacity(own.len());
        restored.push_str(r#"{"model":""#);
        restored.push_str(ASKED);
        restored.push('"');
        match system {
            Some(ttl) => restored.push_str(&after.replacen(text_of(ttl), "", 1)),
            None => restored.push_str(after),
        }
        assert!(restored == own, "another byte than those of model and marks was changed");
        Self { model, top, system }
    }

    pub(super) const fn model(&self) -> &'a str {
        self.model
    }
}

fn mark(text: &str, at: usize) -> Option<Ttl> {
    let rest = text.get(at..)?;
    MARKS.into_iter().find(|(mark, _)| rest.starts_with(mark)).map(|(_, ttl)| ttl)
}

fn text_of(ttl: Ttl) -> &'static str {
    MARKS.into_iter().find(|(_, other)| *other == ttl).map(|(mark, _)| mark).unwrap()
}

/// What an answer costs.
pub(super) struct Billed {
    pub(super) cost: PicoUsd,
    /// The body of the answer.
    pub(super) body: Bytes,
}

pub(super) struct Provider {
    catalog: Catalog,
    cache: Simulated,
}

impl Provider {
    pub(super) const fn new(catalog: Catalog) -> Self {
        Self { catalog, cache: Simulated::new(1_000_000) }
    }

    pub(super) fn answer(&mut self, arrived: &Arrived<'_>, seen: &Seen, output: u64, now_s: u64) -> Billed {
        let last = seen.0.len() - 1;
        let marks = [(0, arrived.system), (last, arrived.top)];
        let marks: Vec<_> =
            marks.into_iter().filter_map(|(boundary, ttl)| Some(Mark { boundary, ttl: ttl? })).collect();
        let prompt = Prompt { boundaries: &seen.0, marks: &marks, tokens: seen.tokens(), output };
        let model = self.catalog.find(arrived.model).unwrap();
        let tokens = self.cache.charge(model, &prompt, now_s);
        let Tokens { input, cache_read, cache_write_5m: five, cache_write_1h: hour, .. } = tokens;
        let body = format!(
            r#"{{"type":"message","role":"assistant","model":"{}","content":[{{"type":"text","text":"Yes."}}],"stop_reason":"end_turn","usage":{{"input_tokens":{input},"cache_read_input_tokens":{cache_read},"cache_creation_input_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":{five},"ephemeral_1h_input_tokens":{hour}}},"output_tokens":{output}}}}}"#,
            arrived.model,
            five + hour,
        );
        let cost = cost(model.price_at(now_s).unwrap(), &tokens, Terms::default()).unwrap();
        Billed { cost, body: Bytes::from(body) }
    }

    /// What a call costs without a cache.
    pub(super) fn uncached(&self, model: &str, seen: &Seen, output: u64, now_s: u64) -> PicoUsd {
        let tokens = Tokens { input: seen.tokens(), output, ..Tokens::default() };
        let price = self.catalog.find(model).unwrap().price_at(now_s).unwrap();
        cost(price, &tokens, Terms::default()).unwrap()
    }
}
