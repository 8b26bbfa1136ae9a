//! The backend's answer, fetched as a request would fetch it, and what becomes of it: it goes through the stage that
//! keeps answers, into a cache that is thrown away.

use std::{error::Error as _, time::Duration};

use http::{HeaderMap, HeaderName, Method, header};
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::{
    sent::{short, text},
    why::{Found, Ground, Why},
};
use crate::{
    cache::{
        Entry,
        rfc9111::{RequestHead, ResponseHead, Source, Times, may_store},
    },
    ingress::{
        exchange::Exchange,
        fetch::{self, Plan},
        fill::{self, Fetched},
        outbound::Outbound,
        respond::Ready,
    },
    telemetry::Reason,
    upstream::Error,
};

/// How long the body is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Characters of a field's value that are shown.
const LONGEST: usize = 200;

/// Fields by which caches decide, beside those of `cache.targeted`.
const CACHING: [&str; 22] = [
    "age",
    "access-control-allow-origin",
    "cache-control",
    "cache-group-invalidation",
    "cache-groups",
    "cache-status",
    "cache-tag",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "pragma",
    "set-cookie",
    "surrogate-key",
    "transfer-encoding",
    "vary",
    "xkey",
];

/// What the backend answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The time to the head, in milliseconds.
    pub took_ms: f64,
    /// The fields by which caches decide, with their values; of cookies the names alone.
    pub fields: Vec<(String, String)>,
    /// What of the answer would be kept; none where the request is not looked up.
    pub stored: Option<StoredShown>,
    /// Why it is not kept. For a request that is not looked up: why it could not be kept even if the request were.
    pub not_stored: Option<Why>,
}

/// A copy as it would be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredShown {
    /// Whose word its lifetime is: `origin` or `rule`.
    pub source: &'static str,
    /// Where that word stands.
    pub by: String,
    /// How long it stays fresh, in milliseconds.
    pub fresh_ms: i64,
    /// Its age when it came.
    pub age_ms: i64,
    /// The backend is asked before each use.
    pub validated_each_time: bool,
    /// How long after its end it is served while a fresh one is fetched.
    pub while_revalidate_ms: i64,
    /// How long after its end it is served in place of an error.
    pub if_error_ms: i64,
    /// How long after its end it is served when the backend cannot be reached.
    pub on_disconnect_ms: i64,
    /// Whether the backend can be asked with a condition once it is stale.
    pub has_validator: bool,
    /// Whether the entity tag is one of ours.
    pub own_etag: bool,
    /// The request fields it depends on, with the values of this request.
    pub vary: Vec<(String, Option<String>)>,
    /// The names it can be purged by.
    pub tags: Vec<String>,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Bytes it takes in memory.
    pub bytes: u64,
}

/// Fetches the answer. The error says why there is none.
pub(super) async fn fetch(
    exchange: &mut Exchange,
    outbound: &Outbound,
    plan: Plan,
    ground: &Ground<'_>,
) -> Result<Answered, String> {
    let generation = exchange.ingress().cache.generation();
    let start = Instant::now();
    let fetched = fetch::ask(exchange, outbound, generation).await.map_err(|error| told(&error))?;
    let took_ms = start.elapsed().as_secs_f64() * 1000.0;
    let response = &fetched.reply.response;
    let head = response.headers().clone();
    let mut found = Found { status: response.status().as_u16(), length: response.body().exact_len() };
    let received_ms = i64::try_from(fetched.times.received_ms).unwrap_or(i64::MAX);
    let is_looked_up = plan.lookup.is_some();
    let alone = if is_looked_up { None } else { by_itself(exchange, &fetched) };
    let ready = fill::keep(exchange, outbound, plan, fetched);
    let mut answered = Answered {
        status: found.status,
        took_ms,
        fields: shown(&head, &exchange.route.policy.targeted),
        stored: None,
        not_stored: None,
    };
    if !is_looked_up {
        answered.not_stored = alone.map(|reason| Why::of_answer(reason, ground, found));
        return Ok(answered);
    }
    match kept(exchange, ready, &mut found).await {
        Ok(entry) => answered.stored = Some(StoredShown::of(&entry, outbound, received_ms, ground, found)),
        Err(reason) => answered.not_stored = Some(Why::of_answer(reason, ground, found)),
    }
    Ok(answered)
}

/// Why the answer could not be kept even if nothing about the request stood in the way: asked for a request without any
/// fields. Nothing where the method or the path is what stands in the way, as those are still there.
fn by_itself(exchange: &Exchange, fetched: &Fetched) -> Option<Reason> {
    if exchange.parts.method != Method::GET {
        return None;
    }
    let (response, none) = (&fetched.reply.response, HeaderMap::new());
    let target = exchange.target().as_bytes();
    let request = RequestHead::new(&Method::GET, exchange.host.as_bytes(), target, &none);
    let head = ResponseHead { status: response.status(), headers: response.headers() };
    let clock = exchange.ingress().clock;
    let now_ms = clock.now_ms();
    let times = Times { sent_ms: now_ms, received_ms: now_ms, received_unix: clock.wall_s() };
    let refused = may_store(&request, &head, times, &exchange.route.policy).err();
    refused.filter(|reason| *reason != Reason::Path)
}

/// The copy once the body has come, as the cache has it. The error says why there is none.
async fn kept(exchange: &Exchange, ready: Ready, found: &mut Found) -> Result<std::sync::Arc<Entry>, Reason> {
    if !ready.told.is_stored {
        return Err(ready.told.reason.unwrap_or(Reason::NoFreshness));
    }
    let mut body = ready.response.into_body();
    let most = exchange.route.policy.max_body_bytes;
    let mut length = 0;
    let read = async {
        while let Some(chunk) = body.chunk().await {
            length += chunk.map_err(|_| Reason::Incomplete)?.len() as u64;
            // The copy was given up here, and the rest of the body may be endless.
            if length > most {
                return Err(Reason::TooLarge);
            }
        }
        Ok(())
    };
    let ended = timeout(PATIENCE, read).await.unwrap_or(Err(Reason::Incomplete));
    match ended {
        Ok(()) => found.length = Some(length),
        Err(Reason::TooLarge) => {}
        Err(_) => found.length = None,
    }
    ended?;
    let ingress = exchange.ingress();
    let lookup = ingress.cache.lookup(exchange.key(), &exchange.parts.headers, ingress.clock.now_ms());
    // A copy that was complete and is not there was over one of the bounds of the store.
    lookup.entry.ok_or(Reason::TooLarge)
}

impl StoredShown {
    fn of(entry: &Entry, outbound: &Outbound, received_ms: i64, ground: &Ground<'_>, found: Found) -> Self {
        let meta = entry.meta();
        let value = |name: &HeaderName| {
            let values: Vec<String> = outbound
                .headers
                .get_all(name)
                .iter()
                .map(
                    |value| if tells_nobody(name) { text(value.as_bytes()) } else { short(value.as_bytes()) },
                )
                .collect();
            (!values.is_empty()).then(|| values.join(", "))
        };
        Self {
            source: meta.source.as_str(),
            by: match meta.source {
                Source::Origin => "the answer's own fields".to_owned(),
                Source::Rule => ground.lifetime_place(found.status),
            },
            fresh_ms: meta.expires_ms.saturating_sub(received_ms),
            age_ms: received_ms.saturating_sub(meta.born_ms).max(0),
            validated_each_time: meta.no_cache,
            while_revalidate_ms: meta.swr_ms,
            if_error_ms: meta.sie_ms,
            on_disconnect_ms: meta.disconnect_ms,
            has_validator: meta.validator,
            own_etag: meta.generated_etag,
            vary: entry.selection().names().map(|name| (name.to_string(), value(name))).collect(),
            tags: entry.tags().iter().map(|tag| text(tag.as_str().as_bytes())).collect(),
            body_bytes: entry.body().len() as u64,
            bytes: entry.size() as u64,
        }
    }
}

/// Fields whose values may be shown: what a client accepts, and where a page comes from.
fn tells_nobody(name: &HeaderName) -> bool {
    *name == header::ORIGIN || name.as_str().starts_with("accept")
}

/// The fields by which caches decide.
fn shown(head: &HeaderMap, targeted: &[HeaderName]) -> Vec<(String, String)> {
    let is_caching = |name: &HeaderName| CACHING.contains(&name.as_str()) || targeted.contains(name);
    let mut fields: Vec<(String, String)> = head
        .iter()
        .filter(|(name, _)| is_caching(name))
        .map(|(name, value)| {
            let value = value.as_bytes();
            let value = if *name == header::SET_COOKIE {
                let name = value.split(|byte| *byte == b'=').next().unwrap_or_default();
                format!("{}=…", cut(&text(name)))
            } else {
                cut(&text(value))
            };
            (name.to_string(), value)
        })
        .collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields
}

fn cut(value: &str) -> String {
    if value.chars().count() <= LONGEST {
        return value.to_owned();
    }
    value.chars().take(LONGEST).chain(['…']).collect()
}

/// An error with its causes.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{LONGEST, cut, shown};

    #[test]
    fn only_fields_that_caches_look_at_are_shown_and_cookies_by_name() {
        let mut head = HeaderMap::new();
        for (name, value) in [
            ("x-powered-by", "x"),
            ("vary", "origin"),
            ("set-cookie", "session=secret; Path=/"),
            ("cdn-cache-control", "max-age=1"),
            ("cache-control", "no-store"),
            ("cache-control", "private"),
        ] {
            head.append(name, value.parse().unwrap());
        }

        let shown = shown(&head, &["cdn-cache-control".parse().unwrap()]);

        let expected = [
            ("cache-control", "no-store"),
            ("cache-control", "private"),
            ("cdn-cache-control", "max-age=1"),
            ("set-cookie", "session=…"),
            ("vary", "origin"),
        ];
        assert_eq!(shown, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(cut(&"é".repeat(LONGEST + 1)).chars().count(), LONGEST + 1);
    }
}
