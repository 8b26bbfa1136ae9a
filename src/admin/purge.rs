//! The purge requests: what their bodies may say and what is answered. Ending entries is the cache's work, behind
//! [`Purge`](crate::admin::Purge).

use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::admin::{
    answer::Reply,
    sources::{Purged, Scope},
};

/// Bodies over this are refused: a purge names one thing.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;
/// Purges a second, all kinds together: each leaves a mark that every lookup has to look at.
const PER_SECOND: u32 = 10;
/// The longest URL, prefix or tag.
const TEXT_LIMIT: usize = 8 * 1024;

/// The body of `POST /cache/purge`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    all: Option<bool>,
    tag: Option<String>,
    url: Option<String>,
    prefix: Option<String>,
    route: Option<String>,
    identity: Option<String>,
    soft: bool,
}

/// The answer to `POST /performance/cache/clear`.
#[derive(Debug, Serialize)]
struct Cleared {
    success: bool,
    cleared_keys: u64,
    message: &'static str,
    memory: Option<u64>,
    redis: Option<u64>,
    pending: bool,
}

/// The answer to `POST /cache/purge`.
#[derive(Debug, Serialize)]
struct PurgeDone {
    success: bool,
    scope: &'static str,
    soft: bool,
    memory: Option<u64>,
    redis: Option<u64>,
    pending: bool,
}

/// Reads the body of a purge: exactly one of `all`, `tag`, `url`, `prefix`, `route` and `identity`, and `soft`.
pub(crate) fn read(body: &[u8]) -> Result<(Scope, bool), Reply> {
    let bad = |detail: &str| Reply::detail(StatusCode::BAD_REQUEST, detail);
    if body.trim_ascii().is_empty() {
        return Err(bad("say what to purge: all, tag, url, prefix, route or identity"));
    }
    // serde would also read the members from an array, by their place.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad("the body is not a purge: an object is needed"));
    }
    let wanted: Wanted = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(error) => return Err(bad(&format!("the body is not a purge: {error}"))),
    };
    let all = match wanted.all {
        Some(false) => return Err(bad("all can only be true")),
        Some(true) => Some(Scope::All),
        None => None,
    };
    let texts = [
        wanted.tag.map(Scope::Tag),
        wanted.url.map(Scope::Url),
        wanted.prefix.map(Scope::Prefix),
        wanted.route.map(Scope::Route),
        wanted.identity.map(Scope::Identity),
    ];
    let mut scopes = all.into_iter().chain(texts.into_iter().flatten());
    let (Some(scope), None) = (scopes.next(), scopes.next()) else {
        return Err(bad("exactly one of all, tag, url, prefix, route and identity is needed"));
    };
    check(&scope).map_err(bad)?;
    Ok((scope, wanted.soft))
}

fn check(scope: &Scope) -> Result<(), &'static str> {
    let text = match scope {
        Scope::All => return Ok(()),
        Scope::Tag(text)
        | Scope::Url(text)
        | Scope::Prefix(text)
        | Scope::Route(text)
        | Scope::Identity(text) => text,
    };
    if text.is_empty() {
        return Err("an empty text purges nothing; say all to purge everything");
    }
    if text.len() > TEXT_LIMIT {
        return Err("a scope has at most 8192 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("a scope has no control characters");
    }
    let is_target = ["/", "http://", "https://"].iter().any(|beginning| text.starts_with(beginning));
    if matches!(scope, Scope::Url(_) | Scope::Prefix(_)) && !is_target {
        return Err("url and prefix begin with / or http:// or https://");
    }
    Ok(())
}

const fn status(purged: Purged) -> StatusCode {
    if purged.pending { StatusCode::ACCEPTED } else { StatusCode::OK }
}

/// What is answered to a clear of everything.
pub(crate) fn cleared(purged: Purged) -> Reply {
    let answer = Cleared {
        success: true,
        cleared_keys: purged.memory.unwrap_or(0),
        message: "Performance caches cleared successfully",
        memory: purged.memory,
        redis: None,
        pending: purged.pending,
    };
    Reply::json(status(purged), &answer)
}

/// What is answered to a purge.
pub(crate) fn done(scope: &Scope, soft: bool, purged: Purged) -> Reply {
    let answer = PurgeDone {
        success: true,
        scope: scope.as_str(),
        soft,
        memory: purged.memory,
        redis: None,
        pending: purged.pending,
    };
    Reply::json(status(purged), &answer)
}

/// What a scope names, as it may stand in the audit log: a query can hold anything, and an identity is a person.
pub(crate) fn audited(scope: &Scope) -> &str {
    match scope {
        Scope::All => "*",
        Scope::Identity(_) => "***",
        Scope::Tag(text) | Scope::Route(text) => cut(text),
        Scope::Url(text) | Scope::Prefix(text) => audited_text(text),
    }
}

/// A URL as it may stand in the audit log.
pub(crate) fn audited_text(url: &str) -> &str {
    cut(url.split(['?', '#']).next().unwrap_or_default())
}

/// The first kibibyte, so that no log line grows past it.
fn cut(text: &str) -> &str {
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= 1024).last().unwrap_or(0);
    if text.len() <= 1024 { text } else { text.get(..end).unwrap_or_default() }
}

/// Lets ten purges pass in a second.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<(Instant, u32)>);

impl Pace {
    /// A full second's worth.
    pub(crate) fn new() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }

    /// Whether one more may pass now.
    pub(crate) fn take(&self) -> bool {
        let mut pace = self.0.lock();
        let now = Instant::now();
        if now.saturating_duration_since(pace.0) >= Duration::from_secs(1) {
            *pace = (now, 0);
        }
        pace.1 = pace.1.saturating_add(1);
        pace.1 <= PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{audited, cut, read};
    use crate::admin::Scope;

    #[test]
    fn a_purge_names_exactly_one_thing() {
        let good = [
            (r#"{"all":true}"#, Scope::All, false),
            (r#"{"tag":"session:*","soft":true}"#, Scope::Tag("session:*".into()), true),
            (r#"{"url":"/a?b=c"}"#, Scope::Url("/a?b=c".into()), false),
            (r#"{"url":"https://coach.example/a"}"#, Scope::Url("https://coach.example/a".into()), false),
            (r#"{"route":"/a/{id}"}"#, Scope::Route("/a/{id}".into()), false),
            (r#"{"identity":"user@x","soft":true}"#, Scope::Identity("user@x".into()), true),
            (r#" {"prefix":"/api/"} "#, Scope::Prefix("/api/".into()), false),
        ];
        for (body, scope, soft) in good {
            assert_eq!(read(body.as_bytes()).unwrap(), (scope, soft), "{body}");
        }

        let bad = [
            "",
            "  ",
            "{}",
            "[]",
            "[true]",
            "null",
            "true",
            "{",
            r#"{"all":false}"#,
            r#"{"all":1}"#,
            r#"{"soft":true}"#,
            r#"{"all":true,"tag":"a"}"#,
            r#"{"tag":"a","url":"/a"}"#,
            r#"{"tag":"a","tag":"b"}"#,
            r#"{"al":true}"#,
            r#"{"tag":""}"#,
            r#"{"identity":""}"#,
            r#"{"identity":7}"#,
            r#"{"identity":"a","route":"/a"}"#,
            r#"{"tag":["a"]}"#,
            r#"{"tag":"a\nb"}"#,
            r#"{"url":"a"}"#,
            r#"{"url":"ftp://a/"}"#,
            r#"{"prefix":"api"}"#,
            r#"{"prefix":""}"#,
            r#"{"all":true}{"all":true}"#,
        ];
        for body in bad {
            assert_eq!(read(body.as_bytes()).unwrap_err().status(), StatusCode::BAD_REQUEST, "{body}");
        }
    }

    #[test]
    fn the_audit_line_holds_no_query_and_stays_short() {
        assert_eq!(audited(&Scope::Url("/a?secret=1".into())), "/a");
        assert_eq!(audited(&Scope::All), "*");
        assert_eq!(audited(&Scope::Identity("user@x".into())), "***");
        assert_eq!(cut(&"é".repeat(1000)).len(), 1024);
        assert_eq!(cut("abc"), "abc");
    }
}
