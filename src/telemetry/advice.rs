//! What each reason of the cache means to an operator, and what changes it: one table for `touchline explain`, for
//! `docs/reasons.md` and so for the words in `Cache-Status`.

use std::fmt::Write as _;

use super::Reason;

/// What a reason says about a request or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The request was not looked up.
    Bypass,
    /// It was looked up, and nothing stored could answer it.
    Miss,
    /// The answer was not kept.
    NotStored,
    /// A copy past its lifetime was served.
    Stale,
}

/// Where a line of the configuration belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Under `cache` of the route.
    Route,
    /// Under `cache` at the top.
    Cache,
}

/// A line of the configuration that changes what a reason says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it belongs.
    pub place: Place,
    /// The line. `NAME` stands for a name of the reader's own.
    pub line: &'static str,
}

/// What there is to say about a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What was found, as a sentence.
    pub meaning: &'static str,
    /// What to do about it, as a sentence.
    pub remedy: &'static str,
    /// The line that does it, where it is one line.
    pub change: Option<Change>,
}

impl When {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Bypass, Self::Miss, Self::NotStored, Self::Stale];

    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Miss => "miss",
            Self::NotStored => "not_stored",
            Self::Stale => "stale",
        }
    }

    /// The heading and the sentence under it in the documentation.
    const fn heading(self) -> (&'static str, &'static str) {
        match self {
            Self::Bypass => (
                "Not looked up",
                "`X-Cache-Status: bypass`. The request went to the backend as it came and its answer was not kept.",
            ),
            Self::Miss => (
                "Looked up, nothing to serve",
                "`X-Cache-Status: miss`, or `revalidated` when the backend confirmed the copy.",
            ),
            Self::NotStored => (
                "Fetched, not kept",
                "`X-Cache-Status: miss`. The next request for the same URL is fetched again.",
            ),
            Self::Stale => (
                "Served past its lifetime",
                "`X-Cache-Status: stale`. The copy is older than its lifetime, and that was permitted.",
            ),
        }
    }
}

impl Reason {
    /// What it says about a request or its answer; some reasons are found at two moments.
    #[must_use]
    pub const fn when(self) -> &'static [When] {
        match self {
            Self::Off
            | Self::BypassWhen
            | Self::NotListed
            | Self::Observe
            | Self::Refused
            | Self::Identity
            | Self::Conditional
            | Self::Path
            | Self::HitForMiss
            | Self::Upgrade => &[When::Bypass],
            Self::Method | Self::Authorization | Self::Cookie | Self::Credential | Self::Body => {
                &[When::Bypass, When::NotStored]
            }
            Self::Absent | Self::Expired | Self::Vary | Self::ClientNoCache | Self::OnlyIfCached => {
                &[When::Miss]
            }
            Self::Purged | Self::NoCache => &[When::Miss, When::NotStored],
            Self::Range
            | Self::Variants
            | Self::MediaType
            | Self::GraphqlErrors
            | Self::NoStore
            | Self::Private
            | Self::SetCookie
            | Self::VaryStar
            | Self::VaryCredential
            | Self::Status
            | Self::NoFreshness
            | Self::StaleOnArrival
            | Self::MustUnderstand
            | Self::RequestNoStore
            | Self::Cors
            | Self::Streaming
            | Self::TooLarge
            | Self::FillLimit
            | Self::TooManyKeys
            | Self::Incomplete => &[When::NotStored],
            Self::Swr | Self::Sie | Self::Disconnect | Self::MaxStale => &[When::Stale],
        }
    }

    /// What it means and what changes it.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one table, which is to be read as a whole")]
    pub const fn advice(self) -> Advice {
        match self {
            Self::Off => route(
                "The cache is off, for all paths or for this route.",
                "Set `mode: serve` where it says `off`: the route's `cache.mode`, or `cache.mode` at the top.",
                "mode: serve",
            ),
            Self::NotListed => route(
                "No rule covers the path, and `cache.origin: false` leaves the backend's own word out of account.",
                "Give the path a route whose `cache` has a `ttl`.",
                "ttl: 1m",
            ),
            Self::Observe => route(
                "The cache only watches here (`mode: observe`): it decides, and serves nothing.",
                "Set `mode: serve` once what it counts looks right.",
                "mode: serve",
            ),
            Self::Method => plain(
                "The method is not one that the cache answers: only GET and HEAD are looked up, and only the answer \
                 to a GET is kept.",
                "Let clients read with GET. A POST that only reads may have a route with `methods: [POST]` and \
                 `key: { body: json }`.",
            ),
            Self::BypassWhen => plain(
                "The request meets a condition of the route's `bypass_when`.",
                "Nothing to change: the route says so.",
            ),
            Self::Refused => plain(
                "touchline answered in the backend's place: the path is its own, or the request was refused.",
                "The `reason` in the answer's body says which rule or limit it met.",
            ),
            Self::Authorization => route(
                "The request carries `Authorization`, and nobody has said that the answer is the same for all.",
                "Add `identity` (each user gets a copy of their own) or `public: true` (all get the same one) to the \
                 route. Without a rule the backend's answer has to say `Cache-Control: public` or `s-maxage`.",
                "public: true",
            ),
            Self::Cookie => route(
                "The request carries a cookie, and the rule does not say which cookies shape the answer.",
                "Name those that do in `key.cookies` (the others are then kept from the backend), or set \
                 `public: true` if none does.",
                "key: { cookies: [NAME] }",
            ),
            Self::Credential => route(
                "The request carries a credential such as `X-API-Key`, and nobody has said that the answer is the \
                 same for all.",
                "Set `public: true` on the route if it is.",
                "public: true",
            ),
            Self::Identity => plain(
                "Whose answer it is cannot be told: the token is missing, has ended or is not valid.",
                "Send a valid token, or look at the route's `identity`. Without one a request always goes to the \
                 backend.",
            ),
            Self::Body => plain(
                "The request has a body, or one that cannot be part of the key: too long, coded, or not what `key.body` \
                 says.",
                "Ask without a body, or with one of at most 64 KiB that reads in one way only.",
            ),
            Self::Range => plain(
                "The request asks for a part, and what the backend sends for it is not the whole.",
                "Ask for the whole once; parts are answered from it afterwards.",
            ),
            Self::Conditional => plain(
                "The request has `If-Match` or `If-Unmodified-Since`, which only the backend can judge.",
                "Ask without them, or with `If-None-Match`, which is answered from the cache.",
            ),
            Self::Path => plain(
                "The path can be read in more than one way: it has `//`, `;`, a dot segment, an encoded `/` or `\\`, \
                 or an odd `%`.",
                "Let clients send the plain spelling of the path. Under a rule no other one is ever kept.",
            ),
            Self::Variants => cache(
                "The URL has as many variants (`Vary`) as are allowed.",
                "Let the backend vary by fewer fields or values, or raise `max_variants`.",
                "max_variants: 64",
            ),
            Self::HitForMiss => plain(
                "The last answer for this key could not be kept, so for 10 seconds nobody waits for another one.",
                "Find out what keeps that answer from being stored: `touchline explain` fetches it and says so.",
            ),
            Self::Upgrade => plain(
                "The request asks for another protocol, such as WebSocket.",
                "Nothing to change: a conversation cannot be kept.",
            ),
            Self::Absent => route(
                "Nothing is stored under this key.",
                "If the answer is `stored`, the next request is a hit. If it is absent each time, something in the \
                 key changes each time: leave such query parameters out of it.",
                "key: { query: { ignore: [NAME] } }",
            ),
            Self::Expired => route(
                "The copy is past its lifetime, and its windows for stale answers have ended or are none.",
                "Give it a longer `ttl`, or let it be refreshed behind stale answers \
                 (`stale_while_revalidate`).",
                "ttl: 10m",
            ),
            Self::Vary => plain(
                "Copies are stored, but for other values of the fields that the answer's `Vary` names.",
                "Nothing to change if clients differ in what they accept. Else let the backend vary by fewer fields.",
            ),
            Self::ClientNoCache => plain(
                "The request asked for a fresh answer (`Cache-Control: no-cache`, `max-age=0`, or `refresh_on`).",
                "Nothing to change: the client wants it. Under a rule reloads of browsers are ignored unless the \
                 route says `client_reload: allow`.",
            ),
            Self::Purged => plain(
                "A purge or an `invalidates` ended what was stored, or what was being fetched.",
                "Nothing to change: the next answer is kept. If it happens all the time, look at which writes end \
                 this path.",
            ),
            Self::OnlyIfCached => plain(
                "The request wanted a stored answer or none (`only-if-cached`), and there is none.",
                "Ask without `only-if-cached`.",
            ),
            Self::Swr => plain(
                "The copy was served while a fresh one is fetched behind it.",
                "Nothing to change: `stale_while_revalidate` permits it.",
            ),
            Self::Sie => plain(
                "The backend answered with an error, and the copy was served in its place.",
                "Look at the backend. `stale_if_error` permits it.",
            ),
            Self::Disconnect => plain(
                "The backend could not be reached, and the copy was served in its place.",
                "Look at the backend. `cache.stale_on_disconnect` permits it; `0s` switches it off.",
            ),
            Self::MaxStale => plain(
                "The request allows a stale answer (`max-stale`).",
                "Nothing to change: the client asked for it.",
            ),
            Self::NoStore => route(
                "The answer says `no-store`.",
                "Take it off in the backend if the answer may be kept, or let the route's `ttl` beat the word.",
                "override: [no_store]",
            ),
            Self::Private => route(
                "The answer says `private`: it is for one user.",
                "Take it off in the backend if it is the same for all, or let the route's `ttl` beat the word.",
                "override: [private]",
            ),
            Self::NoCache => route(
                "The answer says `no-cache`, and either has no `ETag` or `Last-Modified` to ask with, or is asked \
                 about before every use.",
                "Let the backend send an `ETag`: a 304 is then enough; or let the route's `ttl` beat \
                 the word.",
                "override: [no_cache]",
            ),
            Self::SetCookie => route(
                "The answer sets a cookie, which no second client may get.",
                "Let the backend set cookies on other paths than those that are cached, or keep the answer without it.",
                "set_cookie: strip",
            ),
            Self::VaryStar => plain(
                "The answer says `Vary: *`, or varies by more fields than can be told apart.",
                "Let the backend name the request fields that matter.",
            ),
            Self::VaryCredential => plain(
                "The answer varies by a field that tells users apart, such as `Cookie` or `Authorization`.",
                "Take it out of `Vary` in the backend, or put the cookies that matter in `key.cookies`.",
            ),
            Self::Status => route(
                "The status is not one that is kept.",
                "A rule keeps 200, 203, 204, 300, 301 and 308, and 404 and 410 for 5 s or what `ttl_by_status` says. \
                 Others are kept only if the backend sends `Cache-Control`.",
                "ttl_by_status: { 404: 1m }",
            ),
            Self::NoFreshness => route(
                "Neither the answer nor a rule says how long it may be kept.",
                "Give the route a `ttl`, or let the backend send `Cache-Control: max-age=N`.",
                "ttl: 1m",
            ),
            Self::StaleOnArrival => route(
                "The answer was past its lifetime when it came: `max-age=0`, an `Expires` in the past, or an `Age` \
                 above its lifetime.",
                "Let the backend send a longer `max-age`. A rule speaks only where the answer is silent, unless it says so.",
                "override: [max_age]",
            ),
            Self::MustUnderstand => plain(
                "The answer says `must-understand`, and its status is not one of RFC 9110.",
                "Let the backend use a registered status.",
            ),
            Self::RequestNoStore => plain(
                "The request says `no-store`, so its answer is not kept.",
                "Ask without it. A copy that others brought is served all the same.",
            ),
            Self::Cors => plain(
                "`Access-Control-Allow-Origin` names one origin, and neither the key nor `Vary` tells origins apart.",
                "Let the backend send `Vary: Origin` or `*`; on a route with a `ttl` the origin is in the key.",
            ),
            Self::Streaming => plain(
                "The answer is a stream, such as server-sent events.",
                "Nothing to change: a conversation cannot be kept.",
            ),
            Self::MediaType => plain(
                "The route keeps only some media types (`media_types`), and this is none of them.",
                "Add the type to the route's `media_types`, or leave the list out.",
            ),
            Self::GraphqlErrors => plain(
                "The answer to a GraphQL query has `errors`, or cannot be read to tell.",
                "Look at the errors: an answer without any is kept.",
            ),
            Self::TooLarge => route(
                "Body, head or tags of the answer are over a bound: `max_body`, an eighth of `memory.size`, 32 KiB of \
                 fields, 64 tags.",
                "Raise `max_body`, at most to 8MiB; above it a copy is not worth its memory.",
                "max_body: 8MiB",
            ),
            Self::FillLimit => cache(
                "Too many answers were being copied at once.",
                "Raise `fill_memory`, or look at which route sends large bodies.",
                "fill_memory: 64MiB",
            ),
            Self::TooManyKeys => route(
                "The route made more new keys in a minute than are kept: a query parameter with many values.",
                "Leave out of the key what does not shape the answer.",
                "key: { query: { only: [NAME] } }",
            ),
            Self::Incomplete => plain(
                "The answer ended before its end, or only the close of its connection marks the end.",
                "Let the backend send `Content-Length` or chunks; look at why it was cut.",
            ),
        }
    }
}

const fn plain(meaning: &'static str, remedy: &'static str) -> Advice {
    Advice { meaning, remedy, change: None }
}

const fn route(meaning: &'static str, remedy: &'static str, line: &'static str) -> Advice {
    Advice { meaning, remedy, change: Some(Change { place: Place::Route, line }) }
}

const fn cache(meaning: &'static str, remedy: &'static str, line: &'static str) -> Advice {
    Advice { meaning, remedy, change: Some(Change { place: Place::Cache, line }) }
}

const INTRODUCTION: &str = "# Reasons

<!-- Generated from src/telemetry/advice.rs by `UPDATE_DOCS=1 cargo test --test documents`; edit the table there. -->

Why an answer came from the cache or did not: the word behind `detail=` in `Cache-Status`, `reason` in the access log and
in the metric `touchline_cache_reasons_total`. `touchline explain URL` goes through all of it for one request, with the
configuration and the backend at hand, and says which line to change.
";

/// The reasons with what they mean and what changes them, as Markdown.
#[must_use]
pub fn reasons_markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for when in When::ALL {
        let (heading, about) = when.heading();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## {heading}\n\n{about}\n\n| reason | what it means | what to do | line |\n|---|---|---|---|\n"
        );
        for reason in Reason::ALL.into_iter().filter(|reason| reason.when().contains(&when)) {
            let Advice { meaning, remedy, change } = reason.advice();
            let line = change.map_or_else(String::new, |change| {
                let place = match change.place {
                    Place::Route => "of the route",
                    Place::Cache => "at the top",
                };
                format!("`{}` under `cache` {place}", change.line)
            });
            let _ = writeln!(text, "| `{}` | {meaning} | {remedy} | {line} |", reason.as_str());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Place, Reason, When};
    use crate::config;

    #[test]
    fn every_reason_has_sentences() {
        for reason in Reason::ALL {
            let advice = reason.advice();

            for sentence in [advice.meaning, advice.remedy] {
                assert!(sentence.ends_with('.') && sentence.len() > 20, "{reason:?}: {sentence:?}");
                assert!(!sentence.contains("  "), "{reason:?}: {sentence:?}");
                assert!(sentence.matches('`').count().is_multiple_of(2), "{reason:?}: {sentence:?}");
                assert!(!sentence.contains('|'), "{reason:?} stands in a table: {sentence:?}");
            }
            assert!(!reason.when().is_empty(), "{reason:?}");
        }
    }

    #[test]
    fn every_line_is_one_that_a_configuration_may_have() {
        for reason in Reason::ALL {
            let Some(change) = reason.advice().change else { continue };
            let backend = "backend: http://127.0.0.1:8000";
            let text = match change.place {
                Place::Route => {
                    // What a rule overrules needs a rule.
                    let ttl = if change.line.starts_with("ttl:") { "mode: serve" } else { "ttl: 1m" };
                    format!(
                        "version: 1\ningress:\n  {backend}\n  routes:\n    - path: /a\n      cache:\n        {ttl}\n        {}\n",
                        change.line
                    )
                }
                Place::Cache => format!("version: 1\ningress: {{ {backend} }}\ncache:\n  {}\n", change.line),
            };

            let loaded = config::load_str("proxy.yaml", &text, &|_| None);

            assert!(loaded.is_ok(), "{reason:?}: {}\n{text}", loaded.unwrap_err());
        }
    }

    #[test]
    fn the_groups_are_those_of_the_answer() {
        let table = [
            (Reason::Authorization, &[When::Bypass, When::NotStored][..]),
            (Reason::Expired, &[When::Miss]),
            (Reason::NoStore, &[When::NotStored]),
            (Reason::Sie, &[When::Stale]),
        ];
        for (reason, when) in table {
            assert_eq!(reason.when(), when, "{reason:?}");
        }
    }
}
