//! What a call asks for: its head and its body as far as they are read, or why they are not.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, header};
use sha2::{Digest as _, Sha256};

use super::{
    classify::{self, Classifier, Exchange},
    message::{Message, Prefixes, Role, Turn},
};
use crate::{
    config::{Inspect, ModelTier},
    net::{Body, BodyError},
    telemetry::claude::RoutingReason,
};

/// The field by which a client names a tier for one call. It never reaches the API.
pub(super) const OVERRIDE: HeaderName = HeaderName::from_static("x-touchline-tier");

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// What an official SDK says of itself. Such a client repeats failed calls by itself.
const SDK: HeaderName = HeaderName::from_static("x-stainless-lang");

/// Fields that bind a request, or an answer, to the bytes of its body.
pub(super) const SIGNATURES: [&str; 6] =
    ["content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input"];

/// What a path of the API means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A call that is answered by a model.
    Messages,
    /// The tokens that such a call would have.
    CountTokens,
    /// Many calls that are answered later.
    Batches,
    /// Anything else: it passes.
    Other,
}

impl Endpoint {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        match path {
            "/v1/messages" if *method == Method::POST => Self::Messages,
            "/v1/messages/count_tokens" if *method == Method::POST => Self::CountTokens,
            "/v1/messages/batches" if *method == Method::POST => Self::Batches,
            _ => Self::Other,
        }
    }
}

/// A tier that the client names for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Override {
    /// The call keeps its model.
    Off,
    /// The call goes to this tier.
    Tier(ModelTier),
}

/// What the head of a call says.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The version of the API, as it was sent.
    pub(super) version: String,
    /// The betas, in order.
    pub(super) betas: Vec<String>,
    /// The tier that the client names.
    pub(super) tier: Option<Override>,
    /// Whether it named one that does not exist.
    pub(super) has_bad_override: bool,
    /// The keyed hash of the credential.
    pub(super) credential: u64,
    /// Whether the client repeats failed calls by itself.
    pub(super) retries_itself: bool,
    /// Whether the body may not be changed, or not be read.
    unreadable: Option<RoutingReason>,
}

impl Head {
    /// Reads a head, and takes what is ours off it. Hashes are made under `key`.
    pub(super) fn take(headers: &mut HeaderMap, key: &[u8; 32]) -> Self {
        let words = |name: &HeaderName| {
            let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            lines.collect::<Vec<_>>().join(",")
        };
        let written = words(&OVERRIDE);
        let tier = match written.trim() {
            "" => None,
            "off" => Some(Override::Off),
            word => ModelTier::from_word(word).map(Override::Tier),
        };
        let has_bad_override = tier.is_none() && !written.trim().is_empty();
        let betas = words(&BETA);
        let betas = betas.split(',').map(str::trim).filter(|beta| !beta.is_empty()).map(str::to_owned);
        // With both sent, the API takes the key.
        let credential = headers.get(&API_KEY).or_else(|| headers.get(header::AUTHORIZATION));
        let credential = credential.map_or(&[][..], |value| value.as_bytes());
        let is_coded = headers
            .get(header::CONTENT_ENCODING)
            .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let unreadable = if SIGNATURES.iter().any(|name| headers.contains_key(*name)) {
            Some(RoutingReason::Signed)
        } else {
            is_coded.then_some(RoutingReason::Unreadable)
        };
        let head = Self {
            version: words(&VERSION),
            betas: betas.collect(),
            tier,
            has_bad_override,
            credential: hash64(key, &[b"credential", credential]),
            retries_itself: headers.contains_key(&SDK),
            unreadable,
        };
        // Every name of this kind is ours: one that a client sends says nothing to the API.
        let ours: Vec<_> =
            headers.keys().filter(|name| name.as_str().starts_with("x-touchline-")).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
        head
    }
}

/// A body that was read.
pub(super) struct Asked {
    /// Its bytes.
    pub(super) body: Bytes,
    /// What it says.
    pub(super) message: Message,
    /// The hashes of its beginnings, the shortest first; the last is that of the whole conversation.
    pub(super) beginnings: Vec<u128>,
    /// The bytes of each beginning.
    pub(super) lengths: Vec<usize>,
    /// What the conversation is known by, for its owner alone: the hashes of its beginnings that may have been calls. The
    /// last one is this call.
    pub(super) conversation: Vec<u128>,
    /// The hash of the system prompt.
    pub(super) system: u64,
    /// The hash of everything but system prompt and messages.
    pub(super) settings: u64,
    /// The keyed hash of the credential.
    pub(super) credential: u64,
    /// The keyed hash of the user that is named, else of the credential.
    pub(super) identity: u64,
    /// What makes the conversations of one user and credential another's no more: it is mixed into their names.
    pub(super) owner: u128,
}

/// A body, read or not.
pub(super) enum Read {
    /// One that says what is asked for.
    Asked(Box<Asked>),
    /// One that passes as it is, and why.
    Unread(Body, RoutingReason),
}

/// The bytes of a body, or the body that passes as it is, and why.
pub(super) enum Whole {
    Bytes(Bytes),
    Unread(Body, RoutingReason),
}

/// Receives a body, as far as it may be read.
///
/// # Errors
/// The body's own, while it is received.
pub(super) async fn whole(body: Body, head: &Head, inspect: &Inspect) -> Result<Whole, BodyError> {
    if let Some(reason) = head.unreadable {
        return Ok(Whole::Unread(body, reason));
    }
    let limit = inspect.body.as_usize();
    if body.exact_len().is_some_and(|length| length > limit as u64) {
        return Ok(Whole::Unread(body, RoutingReason::TooLarge));
    }
    Ok(match received(body, limit).await? {
        Received::Whole(bytes) => Whole::Bytes(bytes),
        Received::Part(part, rest) => {
            Whole::Unread(Body::of(Rejoined { part: Some(part), rest }), RoutingReason::TooLarge)
        }
    })
}

/// Reads the body of a call, as far as that may be done.
///
/// # Errors
/// The body's own, while it is received.
pub(super) async fn read(
    body: Body,
    head: &Head,
    inspect: &Inspect,
    key: &[u8; 32],
) -> Result<Read, BodyError> {
    let bytes = match whole(body, head, inspect).await? {
        Whole::Bytes(bytes) => bytes,
        Whole::Unread(body, reason) => return Ok(Read::Unread(body, reason)),
    };
    let depth = usize::try_from(inspect.depth).unwrap_or(usize::MAX);
    Ok(match Message::read(&bytes, depth) {
        Ok(message) => Read::Asked(Box::new(Asked::new(bytes, message, head, key))),
        Err(error) => {
            tracing::debug!(%error, "a call passes unread");
            Read::Unread(Body::full(bytes), RoutingReason::Unreadable)
        }
    })
}

impl Asked {
    pub(super) fn new(body: Bytes, mut message: Message, head: &Head, key: &[u8; 32]) -> Self {
        let Prefixes { system, tools_system, turns } = message.prefixes(key);
        message.forget_history();
        let user = message.parameters.user_id(&body).unwrap_or_default();
        let owner = hash128(key, &[b"owner", &head.credential.to_le_bytes(), user.as_bytes()]);
        let identity =
            if user.is_empty() { head.credential } else { hash64(key, &[b"user", user.as_bytes()]) };
        let prefixes = std::iter::once(&tools_system).chain(&turns);
        let (beginnings, lengths): (Vec<_>, _) =
            prefixes.map(|prefix| (u128::from_le_bytes(prefix.hash), prefix.bytes)).unzip();
        let conversation = calls_among(&message.turns, &beginnings).map(|hash| hash ^ owner).collect();
        let settings = settings_of(&body, &message, head, key);
        let system = u64_of(system.as_slice());
        let credential = head.credential;
        Self {
            settings,
            beginnings,
            lengths,
            conversation,
            system,
            credential,
            identity,
            owner,
            message,
            body,
        }
    }

    /// Whether a user turn among those of a range is serious.
    pub(super) fn is_serious_in(&self, classifier: &Classifier, turns: &std::ops::Range<usize>) -> bool {
        let turns = self.message.turns.get(turns.clone()).unwrap_or_default();
        turns.iter().filter(|turn| turn.role == Role::User).any(|turn| {
            let turn = classify::Turn { role: classify::Role::User, text: turn.text.decode(&self.body) };
            classifier.classify(&Exchange { system: None, turns: &[turn] }).bars_economy
        })
    }

    /// What the classifier looks at.
    pub(super) fn classified<T>(&self, classify: impl FnOnce(&Exchange<'_>) -> T) -> T {
        let system = self.message.system.text(&self.body);
        let turns = self.message.turns.iter().filter_map(|turn| {
            let role = match turn.role {
                Role::User => classify::Role::User,
                Role::Assistant => classify::Role::Assistant,
                Role::System | Role::Other => return None,
            };
            let text: Cow<'_, str> = turn.text.decode(&self.body);
            Some(classify::Turn { role, text })
        });
        let turns: Vec<_> = turns.collect();
        classify(&Exchange { system: (!system.is_empty()).then_some(&*system), turns: &turns })
    }
}

/// The beginnings that may have been calls: a call ends with words of the user or results of a tool.
fn calls_among(turns: &[Turn], beginnings: &[u128]) -> impl Iterator<Item = u128> {
    let last = turns.len().saturating_sub(1);
    // The first beginning is that of tools and system, which no conversation is known by.
    let hashes = beginnings.iter().skip(1).enumerate();
    let is_call =
        move |place: usize| place == last || turns.get(place).is_none_or(|turn| turn.role != Role::Assistant);
    hashes.filter(move |(place, _)| is_call(*place)).map(|(_, hash)| *hash)
}

/// What two calls must have in common to be the same turn, besides their conversation: the bytes around system prompt and
/// messages.
fn settings_of(body: &Bytes, message: &Message, head: &Head, key: &[u8; 32]) -> u64 {
    let first = message.turns.first().map_or(body.len(), |turn| turn.span.start);
    let last = message.turns.last().map_or(body.len(), |turn| turn.span.end);
    let (messages, system) = (first..last, message.system.span());
    let (one, other) = if system.start < messages.start { (system, messages) } else { (messages, system) };
    let between = |from: usize, to: usize| body.get(from..to).unwrap_or_default();
    let (before, middle) = (between(0, one.start), between(one.end, other.start));
    let (after, betas) = (between(other.end, body.len()), head.betas.join(","));
    hash64(key, &[b"settings", head.version.as_bytes(), betas.as_bytes(), before, middle, after])
}

/// A body as far as the limit allows.
enum Received {
    Whole(Bytes),
    Part(Bytes, Body),
}

async fn received(mut body: Body, limit: usize) -> Result<Received, BodyError> {
    if let Body::Full(bytes) = body {
        return Ok(Received::Whole(bytes));
    }
    let expected = body.exact_len().and_then(|length| usize::try_from(length).ok()).unwrap_or(4096);
    let mut all = BytesMut::with_capacity(expected.min(limit));
    while let Some(chunk) = body.chunk().await.transpose()? {
        all.extend_from_slice(&chunk);
        if all.len() > limit {
            return Ok(Received::Part(all.freeze(), body));
        }
    }
    Ok(Received::Whole(all.freeze()))
}

/// A body whose beginning was read.
struct Rejoined {
    part: Option<Bytes>,
    rest: Body,
}

impl crate::net::Chunks for Rejoined {
    fn poll_chunk(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, BodyError>>> {
        match self.part.take() {
            Some(part) => std::task::Poll::Ready(Some(Ok(part))),
            None => self.rest.poll_chunk(cx),
        }
    }

    fn exact_len(&self) -> Option<u64> {
        let part = self.part.as_ref().map_or(0, |part| part.len() as u64);
        self.rest.exact_len().map(|rest| rest + part)
    }
}

fn digest(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(key);
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn hash128(key: &[u8; 32], parts: &[&[u8]]) -> u128 {
    let [bytes @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest(key, parts);
    u128::from_le_bytes(bytes)
}

/// A keyed hash that tells parts apart whatever is in them.
pub(super) fn hash64(key: &[u8; 32], parts: &[&[u8]]) -> u64 {
    u64_of(&digest(key, parts))
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::{Asked, Endpoint, Head, Override, Read, read};
    use crate::{
        claude::message::Message,
        config::{ByteSize, Inspect, ModelTier},
        net::Body,
        telemetry::claude::RoutingReason,
    };

    const KEY: [u8; 32] = [7; 32];

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn head(lines: &[(&'static str, &'static str)]) -> Head {
        Head::take(&mut headers(lines), &KEY)
    }

    fn asked(body: &str, lines: &[(&'static str, &'static str)]) -> Asked {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let message = Message::read(&body, 64).unwrap();
        Asked::new(body, message, &head(lines), &KEY)
    }

    #[test]
    fn the_override_is_taken_off() {
        let mut map = headers(&[("x-touchline-tier", "premium"), ("x-api-key", "k")]);

        let head = Head::take(&mut map, &KEY);

        assert_eq!(head.tier, Some(Override::Tier(ModelTier::Premium)));
        assert!(!map.contains_key("x-touchline-tier"));
        assert!(map.contains_key("x-api-key"));
        let bad = Head::take(&mut headers(&[("x-touchline-tier", "gold")]), &KEY);
        assert!(bad.tier.is_none() && bad.has_bad_override);
        assert_eq!(Head::take(&mut headers(&[("x-touchline-tier", "off")]), &KEY).tier, Some(Override::Off));
    }

    #[test]
    fn the_key_is_the_credential_where_both_are_sent() {
        let both = head(&[("x-api-key", "k"), ("authorization", "Bearer t")]);

        assert_eq!(both.credential, head(&[("x-api-key", "k")]).credential);
        assert_ne!(both.credential, head(&[("authorization", "Bearer t")]).credential);
    }

    #[test]
    fn endpoints_are_paths_and_methods() {
        assert_eq!(Endpoint::of(&Method::POST, "/v1/messages"), Endpoint::Messages);
        assert_eq!(Endpoint::of(&Method::POST, "/v1/messages/count_tokens"), Endpoint::CountTokens);
        assert_eq!(Endpoint::of(&Method::POST, "/v1/messages/batches"), Endpoint::Batches);
        for (method, path) in [
            (Method::GET, "/v1/messages"),
            (Method::GET, "/v1/messages/batches"),
            (Method::POST, "/v1/messages/batches/msgbatch_1/cancel"),
            (Method::POST, "/v1/complete"),
            (Method::POST, "/v1/messages/"),
        ] {
            assert_eq!(Endpoint::of(&method, path), Endpoint::Other, "{path}");
        }
    }

    #[tokio::test]
    async fn what_may_not_be_read_passes_whole_and_says_why() {
        let inspect = Inspect { body: ByteSize::new(100), depth: 64 };
        let long = format!(r#"{{"model":"m","x":"{}"}}"#, "a".repeat(200));
        let table = [
            (r#"{"model":"m"}"#.to_owned(), head(&[("content-md5", "x")]), RoutingReason::Signed),
            (r#"{"model":"m"}"#.to_owned(), head(&[("content-encoding", "gzip")]), RoutingReason::Unreadable),
            ("nothing".to_owned(), head(&[]), RoutingReason::Unreadable),
            (r#"{"model":"m","model":"n"}"#.to_owned(), head(&[]), RoutingReason::Unreadable),
            (long, head(&[]), RoutingReason::TooLarge),
        ];
        for (text, head, expected) in table {
            let chunks: Vec<_> =
                text.as_bytes().chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            for body in [Body::full(text.clone()), Body::stream(Chunked(chunks.into_iter()))] {
                let Read::Unread(body, reason) = read(body, &head, &inspect, &KEY).await.unwrap() else {
                    panic!("{text} was read");
                };
                assert_eq!(reason, expected, "{text}");
                assert_eq!(body.collect(1000).await.unwrap(), text.as_bytes());
            }
        }
    }

    struct Chunked(std::vec::IntoIter<Result<Bytes, crate::net::BodyError>>);

    impl futures_core::Stream for Chunked {
        type Item = Result<Bytes, crate::net::BodyError>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(self.0.next())
        }
    }

    #[test]
    fn a_conversation_is_its_owners_alone() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let user = r#"{"model":"m","metadata":{"user_id":"u"},"messages":[{"role":"user","content":"hi"}]}"#;
        let (a, b) = (asked(body, &[("x-api-key", "a")]), asked(body, &[("x-api-key", "b")]));
        let u = asked(user, &[("x-api-key", "a")]);

        assert_eq!(a.beginnings, b.beginnings, "the provider's cache knows only texts");
        assert_ne!(a.conversation, b.conversation);
        assert_ne!(a.conversation, u.conversation);
        assert_ne!(a.identity, u.identity);
        assert_eq!(a.identity, asked(body, &[("x-api-key", "a")]).identity);
    }

    #[test]
    fn the_settings_are_all_but_system_prompt_and_messages() {
        let one = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":5}"#;
        let other = one.replace("hi", "ho");
        let hotter = one.replace(":5", ":6");
        for system in [r#""system":"s","#, r#""system":[{"type":"text","text":"s"}],"#] {
            for place in ["\"messages\"", "\"max_tokens\""] {
                let with = one.replace(place, &format!("{system}{place}"));
                let kinder = with.replace("\"s\"", "\"be kind\"");
                assert_eq!(asked(&with, &[]).settings, asked(&kinder, &[]).settings, "{with}");
                assert_ne!(asked(&with, &[]).beginnings, asked(&kinder, &[]).beginnings, "{with}");
                assert_ne!(
                    asked(&with, &[]).settings,
                    asked(&with.replace(":5", ":6"), &[]).settings,
                    "{with}"
                );
            }
        }

        assert_eq!(asked(one, &[]).settings, asked(&other, &[]).settings);
        assert_ne!(asked(one, &[]).settings, asked(&hotter, &[]).settings);
        assert_ne!(asked(one, &[]).settings, asked(one, &[("anthropic-beta", "b")]).settings);
    }
}
