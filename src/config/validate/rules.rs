//! Rules for what a route says about its answers: nothing without effect, and a warning for every word of the backend that
//! is overruled.

use http::HeaderName;

use super::{Finding, doubles};
use crate::config::{BypassWhen, Cache, Override, RouteCache, SetCookie, format_duration, path::YamlPath};

/// Fields that every request has or that say nothing of whose it is: as credentials they would end all caching.
const NO_CREDENTIALS: &[&str] = &[
    "host",
    "user-agent",
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-length",
    "content-type",
    "referer",
    "origin",
];

/// What is made anew for the backend cannot select its answer.
const NOT_SENT_ON: &str = "what a client says in it does not reach the backend";

/// Most fields of `vary`, and most languages: each of them is compared on every lookup.
const MOST: usize = 16;

/// Longest language tag that is taken; registered ones are shorter (RFC 5646 section 4.4.1).
const LONGEST_LANGUAGE: usize = 35;

/// Checks what one route says; `at` is its `cache`.
pub(super) fn check(at: &YamlPath, rule: &RouteCache, cache: &Cache, findings: &mut Vec<Finding>) {
    overrides(at, rule, findings);
    cookies(at, rule, findings);
    negative(at, rule, findings);
    vary(at, rule, cache, findings);
    keyed(at, rule, cache, findings);
    languages(at, rule, findings);
    media_types(at, rule, findings);
    if let Some(bypass) = &rule.bypass_when {
        bypass_when(&at.key("bypass_when"), bypass, rule, at, findings);
    }
}

/// Checks `cache.credentials`.
pub(super) fn credentials(cache: &Cache, findings: &mut Vec<Finding>) {
    let at = YamlPath::at("cache.credentials");
    for (index, name) in cache.credentials.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let advice = match lower.as_str() {
            "cookie" => "requests with cookies have rules of their own: see `key.cookies` and `public`",
            known if NO_CREDENTIALS.contains(&known) => {
                "with it nearly every request would pass by the cache"
            }
            _ => continue,
        };
        let message = format!("`{name}` is not a credential");
        findings.push(Finding::error(at.index(index), message).hint(advice));
    }
    doubles(&cache.credentials, &at, findings);
}

fn has_ttl(rule: &RouteCache) -> bool {
    rule.ttl.is_some() || !rule.ttl_by_status.is_empty()
}

/// An error for a key that means something only beside a lifetime.
fn needs_ttl(at: &YamlPath, name: &str, rule: &RouteCache, findings: &mut Vec<Finding>) -> bool {
    if !has_ttl(rule) {
        findings.push(
            Finding::error(
                at.key(name),
                format!("`{name}` is about answers that a `ttl` stores, and there is none"),
            )
            .hint("add a `ttl`; what the backend declares fresh is stored by its own word")
            .reads(at.key("ttl"))
            .reads(at.key("ttl_by_status")),
        );
    }
    !has_ttl(rule)
}

fn overrides(at: &YamlPath, rule: &RouteCache, findings: &mut Vec<Finding>) {
    if rule.overrides.is_empty() || needs_ttl(at, "override", rule, findings) {
        return;
    }
    for (index, word) in rule.overrides.iter().enumerate() {
        let path = at.key("override").index(index);
        if rule.overrides.iter().take(index).any(|earlier| earlier == word) {
            findings.push(Finding::error(path, format!("`{}` is listed twice", word.as_str())));
            continue;
        }
        let (message, hint) = match word {
            Override::NoStore => (
                "answers are stored that the backend wants kept nowhere",
                "sure that none holds anything confidential?",
            ),
            Override::Private => (
                "answers that the backend made for one user are given to all who send the same request",
                "sure that they are the same for everyone?",
            ),
            Override::NoCache => (
                "answers that the backend wants to be asked about each time are served without asking",
                "changes are seen only when the `ttl` ends, or after a purge",
            ),
            Override::MaxAge => (
                "answers that the backend declares out of date on arrival are served for the `ttl`",
                "changes are seen only when the `ttl` ends, or after a purge",
            ),
            Override::SetCookie => (
                "answers that set a cookie are shared; the cookie reaches only the client that was first",
                "sure that nobody needs it: no session, no login, no protection against forged requests?",
            ),
        };
        findings.push(Finding::warning(path, message).hint(hint));
    }
}

fn cookies(at: &YamlPath, rule: &RouteCache, findings: &mut Vec<Finding>) {
    let (message, hint) = match rule.set_cookie {
        SetCookie::Refuse => return,
        SetCookie::Strip => (
            "answers that set a cookie are shared; the cookie reaches only the client that was first",
            "sure that nobody needs it: no session, no login, no protection against forged requests?",
        ),
        SetCookie::Store => (
            "the cookie that one client was given is handed to all others",
            "if it is a session, everyone is logged in as that client; `strip` keeps cookies out of the cache",
        ),
    };
    findings.push(Finding::warning(at.key("set_cookie"), message).hint(hint));
}

fn negative(at: &YamlPath, rule: &RouteCache, findings: &mut Vec<Finding>) {
    let Some(ttl) = rule.ttl else { return };
    if rule.negative_ttl > ttl && rule.negative_ttl != RouteCache::default().negative_ttl {
        let (negative, ttl) = (format_duration(rule.negative_ttl), format_duration(ttl));
        findings.push(
            Finding::error(at.key("negative_ttl"), format!("{negative} is longer than the `ttl` of {ttl}"))
                .hint(format!("lower it, or write `ttl_by_status: {{ 404: {negative}, 410: {negative} }}`"))
                .reads(at.key("ttl")),
        );
    }
}

fn vary(at: &YamlPath, rule: &RouteCache, cache: &Cache, findings: &mut Vec<Finding>) {
    let list = at.key("vary");
    for (index, name) in rule.vary.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let is_credential = cache.credentials.iter().any(|known| known.eq_ignore_ascii_case(name));
        let advice = match lower.as_str() {
            "cookie" => "list single cookies under `key.cookies`",
            "user-agent" | "referer" => "nearly every client has a value of its own",
            "host" => "the host is always part of the key",
            "origin" => "the origin is part of the key of every route with a `cache`",
            "range"
            | "if-none-match"
            | "if-modified-since"
            | "if-match"
            | "if-unmodified-since"
            | "if-range" => "it is answered by the cache itself",
            "authorization"
            | "proxy-authorization"
            | "x-api-key"
            | "api-key"
            | "x-auth-token"
            | "x-access-token" => "requests with credentials pass by the cache, unless the route is `public`",
            "forwarded" | "connection" | "te" | "upgrade" | "traceparent" | "x-request-id" | "x-real-ip" => {
                NOT_SENT_ON
            }
            claim if claim.starts_with("x-forwarded-") => NOT_SENT_ON,
            _ if is_credential => "it is one of `cache.credentials`",
            _ => continue,
        };
        let message = format!("`{name}` cannot tell answers apart");
        findings.push(
            Finding::error(list.index(index), message).hint(advice).reads(YamlPath::at("cache.credentials")),
        );
    }
    doubles(&rule.vary, &list, findings);
    if rule.vary.len() > MOST {
        findings
            .push(Finding::error(list, format!("{} fields are too many; at most {MOST}", rule.vary.len())));
    }
}

/// Credentials of the configuration are as little a part of the key as those that every proxy knows.
fn keyed(at: &YamlPath, rule: &RouteCache, cache: &Cache, findings: &mut Vec<Finding>) {
    let list = at.key("key").key("headers");
    for (index, name) in rule.key.headers.iter().enumerate() {
        if cache.credentials.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            findings.push(
                Finding::error(list.index(index), format!("`{name}` cannot be part of the key"))
                    .hint("it is one of `cache.credentials`: requests with it pass by the cache")
                    .reads(YamlPath::at("cache.credentials")),
            );
        }
    }
}

fn languages(at: &YamlPath, rule: &RouteCache, findings: &mut Vec<Finding>) {
    let list = at.key("languages");
    for (index, language) in rule.languages.iter().enumerate() {
        let is_tag = language.len() <= LONGEST_LANGUAGE
            && language
                .split('-')
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        // What could not be read at all was reported already.
        if !is_tag && !language.is_empty() {
            findings.push(
                Finding::error(list.index(index), format!("`{language}` is not a language tag"))
                    .hint("write tags such as en, de or pt-BR"),
            );
        }
    }
    doubles(&rule.languages, &list, findings);
    if rule.languages.len() > MOST {
        let message = format!("{} languages are too many; at most {MOST}", rule.languages.len());
        findings.push(Finding::error(list, message));
    }
}

fn media_types(at: &YamlPath, rule: &RouteCache, findings: &mut Vec<Finding>) {
    if rule.media_types.is_empty() || needs_ttl(at, "media_types", rule, findings) {
        return;
    }
    let list = at.key("media_types");
    for (index, media) in rule.media_types.iter().enumerate() {
        let is_token = |part: &str| HeaderName::from_bytes(part.as_bytes()).is_ok() && !part.contains('*');
        let is_range = media
            .split_once('/')
            .is_some_and(|(kind, subtype)| is_token(kind) && (subtype == "*" || is_token(subtype)));
        if !is_range && !media.is_empty() {
            let finding = Finding::error(list.index(index), format!("`{media}` is not a media type"));
            findings.push(finding.hint(match media.as_str() {
                "*" | "*/*" => "leave `media_types` out to store every type",
                _ => "write types such as application/json or text/*, without parameters",
            }));
        }
    }
    doubles(&rule.media_types, &list, findings);
}

fn bypass_when(
    path: &YamlPath,
    bypass: &BypassWhen,
    rule: &RouteCache,
    at: &YamlPath,
    findings: &mut Vec<Finding>,
) {
    if bypass.query.is_empty() && bypass.headers.is_empty() && bypass.cookies.is_empty() {
        findings.push(
            Finding::error(path.clone(), "`bypass_when` names no condition")
                .hint("write `bypass_when: { query: { use_cache: \"false\" } }`"),
        );
    }
    for name in bypass.headers.keys() {
        let (message, hint) = if HeaderName::from_bytes(name.as_bytes()).is_err() {
            (format!("`{name}` is not a field name"), "write the name alone, such as X-Preview")
        } else if name.eq_ignore_ascii_case("cookie") {
            ("cookies are compared one by one".to_owned(), "list them under `bypass_when.cookies`")
        } else {
            continue;
        };
        findings.push(Finding::error(path.key("headers").key(name), message).hint(hint));
    }
    for (name, value) in &bypass.query {
        let refreshes = rule.refresh_on.iter().flat_map(|refresh| &refresh.query);
        let is_refresh =
            refreshes.into_iter().any(|(known, wanted)| known == name && (wanted == value || value == "*"));
        if is_refresh {
            findings.push(
                Finding::error(
                    path.key("query").key(name),
                    format!("`{name}` both passes by the cache and refreshes it"),
                )
                .hint("keep it in one of the two")
                .reads(at.key("refresh_on").key("query").key(name)),
            );
        }
    }
}
