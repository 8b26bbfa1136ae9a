//! The Claude plane under test: the proxy before a strict fake of the API, calls in literal bytes, conversations.

#[path = "../../support/claude/mod.rs"]
pub(crate) mod fake;

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) use self::fake::{Fake, Recorded, Settings};
use super::{
    app::{Proxy, Setup},
    client::{Answer, Client, raw},
};

pub(crate) const HAIKU: &str = "claude-haiku-5-5";
pub(crate) const SONNET: &str = "claude-sonnet-5-5";
pub(crate) const OPUS: &str = "claude-opus-5-5";
pub(crate) const OLD_HAIKU: &str = "claude-haiku-4-5";
pub(crate) const OLD_SONNET: &str = "claude-sonnet-4-6";

/// The versions of the API, the older one with sampling parameters.
pub(crate) const OLD: &str = "2023-06-01";
pub(crate) const NEW: &str = "2026-10-21";

/// What surely wants each tier.
pub(crate) const ECONOMY: &str = "hello!";
pub(crate) const STANDARD: &str =
    "How do I ask my colleague out for a coffee without making it weird at work?";
pub(crate) const PREMIUM: &str = "Here are my questionnaire scores: openness 4, warmth 9, initiative 2. Score my \
                                  confidence assessment and interpret the results.";
/// What must never be answered by the economy tier.
pub(crate) const SERIOUS: &str = "I want to die";

/// The proxy before a fake of the API.
pub(crate) struct Plane {
    pub(crate) fake: Fake,
    pub(crate) proxy: Proxy,
    /// Just after the moment from which the fake counts its times.
    pub(crate) started: Instant,
}

impl Plane {
    /// A plane with these keys of `claude`, in YAML's flow style.
    pub(crate) async fn start(keys: &str) -> Self {
        Self::with(keys, Settings::default()).await
    }

    /// A plane before a fake of its own kind.
    pub(crate) async fn with(keys: &str, settings: Settings) -> Self {
        let fake = Fake::start(settings).await.unwrap();
        let started = Instant::now();
        Self { proxy: before(fake.addr, keys), fake, started }
    }

    /// Makes a call on a connection of its own.
    pub(crate) async fn call(&self, call: &Call) -> Answer {
        raw(self.proxy.claude, call.bytes()).await
    }

    /// Makes a call and waits for its record, which has to be the next one.
    pub(crate) async fn recorded(&self, call: &Call) -> (Answer, Value) {
        let before = self.proxy.records().len();
        let answer = self.call(call).await;
        (answer, self.proxy.records_of(before + 1).await.remove(before))
    }

    /// Opens a connection and makes a call on it, without reading the answer.
    pub(crate) async fn open(&self, call: &Call) -> Client {
        let mut client = Client::connect(self.proxy.claude).await;
        client.send(call.bytes()).await;
        client
    }

    /// The requests that came to the API, oldest first.
    pub(crate) fn seen(&self) -> Vec<Recorded> {
        self.fake.requests()
    }

    /// The last request that came to the API.
    pub(crate) fn last(&self) -> Recorded {
        self.seen().pop().expect("a request at the API")
    }

    /// The models that were asked, oldest first.
    pub(crate) fn models(&self) -> Vec<String> {
        self.seen().iter().map(model_of).collect()
    }

    /// `/performance/claude`.
    pub(crate) async fn performance(&self) -> Value {
        self.proxy.json("/performance/claude").await
    }
}

/// A proxy whose Claude plane has these keys and this address for the API.
pub(crate) fn before(api: SocketAddr, keys: &str) -> Proxy {
    let comma = if keys.is_empty() { "" } else { ", " };
    let section = format!("{{ listen: \"127.0.0.1:0\", upstream: \"http://{api}\"{comma}{keys} }}");
    Setup::new("http://127.0.0.1:9").top("claude", &section).start()
}

/// The model that a request names.
pub(crate) fn model_of(request: &Recorded) -> String {
    request.json()["model"].as_str().unwrap_or_default().to_owned()
}

/// A call in literal bytes.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    target: String,
    pub(crate) fields: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    /// A call of `POST /v1/messages` with a key and the new version.
    pub(crate) fn new(body: impl Into<Vec<u8>>) -> Self {
        let fields =
            ["x-api-key: sk-test-1", "anthropic-version: 2026-10-21", "content-type: application/json"];
        Self {
            target: "/v1/messages".to_owned(),
            fields: fields.map(str::to_owned).into(),
            body: body.into(),
        }
    }

    /// A call with a body in the usual form.
    pub(crate) fn of(body: &Value) -> Self {
        Self::new(body.to_string())
    }

    /// A call of a model with one user turn.
    pub(crate) fn said(model: &str, text: &str) -> Self {
        Self::of(&said(model, text))
    }

    /// The same call as a stream.
    pub(crate) fn streamed(model: &str, text: &str) -> Self {
        Self::of(&with(said(model, text), &json!({"stream": true})))
    }

    /// The same with one more field line.
    pub(crate) fn field(mut self, line: &str) -> Self {
        self.fields.push(line.to_owned());
        self
    }

    /// The same by an SDK, which repeats failed calls by itself.
    pub(crate) fn by_sdk(self) -> Self {
        self.field("x-stainless-lang: python")
    }

    /// The same with another key: another account's conversation.
    pub(crate) fn key(self, key: &str) -> Self {
        self.replacing("x-api-key", key)
    }

    /// The same in another version of the API.
    pub(crate) fn version(self, version: &str) -> Self {
        self.replacing("anthropic-version", version)
    }

    fn replacing(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|field| !field.starts_with(&format!("{name}:")));
        self.fields.push(format!("{name}: {value}"));
        self
    }

    /// The same to another target.
    pub(crate) fn to(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// The request.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let lines: String = self.fields.iter().map(|field| format!("{field}\r\n")).collect();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: api.example\r\n{lines}Content-Length: {}\r\n\r\n",
            self.target,
            self.body.len()
        );
        [head.as_bytes(), &self.body].concat()
    }
}

/// The body of a call of a model with one user turn.
pub(crate) fn said(model: &str, text: &str) -> Value {
    json!({"model": model, "max_tokens": 2048, "messages": [{"role": "user", "content": text}]})
}

/// A body with more members, or other ones.
pub(crate) fn with(mut body: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A system prompt of about so many bytes.
pub(crate) fn long_text(bytes: usize) -> String {
    "You are a patient coach who listens first and asks before giving advice. ".repeat(bytes / 73 + 1)
}

/// The text of a whole answer.
pub(crate) fn text_of(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let blocks = body["content"].as_array().cloned().unwrap_or_default();
    blocks.iter().filter_map(|block| block["text"].as_str()).collect()
}

/// A conversation whose client keeps nothing but texts.
pub(crate) struct Talk<'a> {
    plane: &'a Plane,
    key: String,
    pub(crate) body: Value,
    /// Field lines that every turn has.
    pub(crate) fields: Vec<String>,
}

/// What became of a turn.
pub(crate) struct TurnTaken {
    pub(crate) answer: Answer,
    pub(crate) record: Value,
    /// What the API got in the end.
    pub(crate) sent: Recorded,
}

impl<'a> Talk<'a> {
    /// A conversation on a model, of the account with this key.
    pub(crate) fn new(plane: &'a Plane, model: &str, key: &str) -> Self {
        let body = json!({"model": model, "max_tokens": 2048, "messages": []});
        Self { plane, key: key.to_owned(), body, fields: Vec::new() }
    }

    /// The same with more members.
    pub(crate) fn with(mut self, more: &Value) -> Self {
        self.body = with(self.body, more);
        self
    }

    /// Says something and takes the answer up.
    pub(crate) async fn say(&mut self, text: &str) -> TurnTaken {
        self.push(json!({"role": "user", "content": text}));
        let taken = self.send().await;
        self.push(json!({"role": "assistant", "content": text_of(&taken.answer)}));
        taken
    }

    /// Sends what is there.
    pub(crate) async fn send(&self) -> TurnTaken {
        let mut call = Call::of(&self.body).key(&self.key);
        call.fields.extend(self.fields.iter().cloned());
        let (answer, record) = self.plane.recorded(&call).await;
        TurnTaken { answer, record, sent: self.plane.last() }
    }

    pub(crate) fn push(&mut self, turn: Value) {
        self.body["messages"].as_array_mut().unwrap().push(turn);
    }
}

impl TurnTaken {
    /// The model that answered.
    pub(crate) fn model(&self) -> String {
        model_of(&self.sent)
    }

    /// Why.
    pub(crate) fn reason(&self) -> &str {
        self.record["reason"].as_str().unwrap_or_default()
    }
}
