//! Rules for routes: no two for one request, and cache rules that can mean something.

use std::collections::BTreeMap;

use super::{Finding, bodies, doubles, identity, rules};
use crate::config::{
    Config, Ingress, PathTemplate, QueryKey, Route, RouteCache, TagPart, TagTemplate, format_duration,
    path::YamlPath,
};

/// Statuses that are never stored on a rule's word: parts, validations, redirects of the moment, refusals.
const NEVER_STORED: &[u16] = &[206, 302, 303, 304, 307, 401, 403, 407, 429];

/// A route under examination.
struct Rule<'a> {
    route: &'a Route,
    path: YamlPath,
    template: Option<PathTemplate>,
}

impl<'a> Rule<'a> {
    fn new(index: usize, route: &'a Route) -> Self {
        let path = YamlPath::at("ingress.routes").index(index);
        Self { route, path, template: PathTemplate::parse(&route.path).ok() }
    }
}

pub(super) fn check(config: &Config, ingress: &Ingress, findings: &mut Vec<Finding>) {
    let rule = |(index, route)| Rule::new(index, route);
    let rules: Vec<Rule<'_>> = ingress.routes.iter().enumerate().map(rule).collect();
    for (index, rule) in rules.iter().enumerate() {
        duplicate(rule, rules.get(..index).unwrap_or_default(), findings);
        matching(rule, ingress, findings);
        limits(rule, ingress, findings);
        if let Some(cache) = &rule.route.cache {
            lifetimes(rule, cache, config, findings);
            key(rule, cache, findings);
            identity::check(&rule.path.key("cache"), cache, ingress, findings);
            compression(rule, cache, findings);
            rules::check(&rule.path.key("cache"), cache, &config.cache, findings);
            tags(rule, &cache.tags, "cache.tags", findings);
            bodies::key(&rule.path, rule.route, cache, findings);
        }
        tags(rule, &rule.route.invalidates, "invalidates", findings);
        bodies::members(&rule.path, rule.route, findings);
    }
    unset_tags(&rules, findings);
}

/// Reports a route that an earlier one leaves nothing of: same paths, and a method and host in common.
fn duplicate(rule: &Rule<'_>, earlier: &[Rule<'_>], findings: &mut Vec<Finding>) {
    let Some(shape) = rule.template.as_ref().map(PathTemplate::shape) else { return };
    let overlaps = |other: &&Rule<'_>| {
        other.template.as_ref().is_some_and(|template| template.shape() == shape)
            && is_same_host(rule.route, other.route)
            && (rule.route.methods.is_empty() == other.route.methods.is_empty())
            && (rule.route.methods.is_empty()
                || rule.route.methods.iter().any(|m| other.route.methods.contains(m)))
    };
    if let Some(other) = earlier.iter().find(overlaps) {
        let message = format!(
            "`{}` matches the same requests as `{}` of {}",
            rule.route.path, other.route.path, other.path
        );
        findings.push(
            Finding::error(rule.path.key("path"), message)
                .hint("merge the two, or tell them apart by `methods` or `host`")
                .reads(other.path.key("path"))
                .reads(rule.path.key("methods"))
                .reads(other.path.key("methods"))
                .reads(rule.path.key("host"))
                .reads(other.path.key("host")),
        );
    }
}

fn is_same_host(a: &Route, b: &Route) -> bool {
    match (&a.host, &b.host) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        (None, None) => true,
        _ => false,
    }
}

fn matching(rule: &Rule<'_>, ingress: &Ingress, findings: &mut Vec<Finding>) {
    let Rule { route, path, .. } = rule;
    doubles(&route.methods, &path.key("methods"), findings);
    if let Some(host) = &route.host
        && !ingress.hosts.is_empty()
        && !ingress.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    {
        findings.push(
            Finding::error(
                path.key("host"),
                format!("host `{host}` is not in `ingress.hosts`, so nothing matches"),
            )
            .reads(YamlPath::at("ingress.hosts")),
        );
    }
    if !route.deny {
        return;
    }
    if route.cache.is_some() {
        findings.push(
            Finding::error(path.key("cache"), "a route with `deny: true` has no answer to cache")
                .hint("remove one of the two")
                .reads(path.key("deny")),
        );
    }
    if !route.invalidates.is_empty() {
        findings.push(
            Finding::error(path.key("invalidates"), "a route with `deny: true` never changes anything")
                .hint("remove one of the two")
                .reads(path.key("deny")),
        );
    }
}

fn limits(rule: &Rule<'_>, ingress: &Ingress, findings: &mut Vec<Finding>) {
    if let Some(in_flight) = rule.route.in_flight
        && in_flight > ingress.upstream.in_flight
    {
        let message =
            format!("{in_flight} is more than the {} of all routes together", ingress.upstream.in_flight);
        findings.push(
            Finding::warning(rule.path.key("in_flight"), message)
                .reads(YamlPath::at("ingress.upstream.in_flight")),
        );
    }
}

fn lifetimes(rule: &Rule<'_>, cache: &RouteCache, config: &Config, findings: &mut Vec<Finding>) {
    let (at, max_ttl) = (rule.path.key("cache"), YamlPath::at("cache.max_ttl"));
    let methods = &rule.route.methods;
    let is_read = |method: &String| method == "GET" || method == "HEAD";
    if !methods.is_empty() && !methods.iter().any(is_read) && !bodies::reads_by_post(rule.route, cache) {
        findings.push(
            Finding::error(at.clone(), format!("answers to {} are never cached", methods.join(", ")))
                .hint(
                    "only GET and HEAD are, and POST with `key: { body: json }`; a route for other methods may have \
                     `invalidates`",
                )
                .reads(rule.path.key("methods"))
                .reads(at.key("key").key("body")),
        );
    }
    if cache.ttl.is_some_and(|ttl| ttl.is_zero()) {
        findings.push(
            Finding::error(at.key("ttl"), "a `ttl` of zero stores nothing")
                .hint("to keep the route out of the cache write `mode: off`"),
        );
    }
    let by_status = cache
        .ttl_by_status
        .iter()
        .map(|(status, ttl)| (at.key("ttl_by_status").key(&status.to_string()), *ttl));
    for (path, ttl) in cache.ttl.map(|ttl| (at.key("ttl"), ttl)).into_iter().chain(by_status) {
        if ttl > config.cache.max_ttl {
            let (ttl, most) = (format_duration(ttl), format_duration(config.cache.max_ttl));
            findings.push(
                Finding::error(
                    path,
                    format!("{ttl} is longer than any entry may live (`cache.max_ttl`: {most})"),
                )
                .hint("lower it, or raise `cache.max_ttl`")
                .reads(max_ttl.clone()),
            );
        }
    }
    for status in cache.ttl_by_status.keys().filter(|status| NEVER_STORED.contains(status) || **status >= 500)
    {
        let path = at.key("ttl_by_status").key(&status.to_string());
        findings.push(
            Finding::error(path, format!("answers with status {status} are never stored by a rule"))
                .hint("only the backend itself can declare them fresh"),
        );
    }
    let has_ttl = cache.ttl.is_some() || !cache.ttl_by_status.is_empty();
    let windows =
        [("stale_while_revalidate", cache.stale_while_revalidate), ("stale_if_error", cache.stale_if_error)];
    for (name, _) in windows.iter().filter(|(_, window)| !has_ttl && !window.is_zero()) {
        findings.push(
            Finding::error(at.key(name), format!("`{name}` begins when a `ttl` ends, and there is none"))
                .hint("add a `ttl`; what the backend declares fresh brings windows of its own")
                .reads(at.key("ttl"))
                .reads(at.key("ttl_by_status")),
        );
    }
    let memory = match config.cache.memory.size {
        size if size.bytes() == 0 => config.cache.fill_memory,
        size => size.min(config.cache.fill_memory),
    };
    if let Some(body) = cache.max_body.filter(|body| *body > memory) {
        findings.push(
            Finding::error(at.key("max_body"), format!("a body of {body} never fits into the cache"))
                .hint("see `cache.memory.size` and `cache.fill_memory`")
                .reads(YamlPath::at("cache.memory.size"))
                .reads(YamlPath::at("cache.fill_memory")),
        );
    }
}

fn key(rule: &Rule<'_>, cache: &RouteCache, findings: &mut Vec<Finding>) {
    let at = rule.path.key("cache").key("key");
    for (index, name) in cache.key.headers.iter().enumerate() {
        let advice = match name.to_ascii_lowercase().as_str() {
            "cookie" => "list single cookies under `key.cookies`",
            "authorization" | "proxy-authorization" | "x-api-key" => {
                "requests with credentials pass by the cache, unless the route is `public` or has `identity`"
            }
            "host" => "the host is always part of the key",
            _ => continue,
        };
        let message = format!("`{name}` cannot be part of the key");
        findings.push(Finding::error(at.key("headers").index(index), message).hint(advice));
    }
    doubles(&cache.key.headers, &at.key("headers"), findings);
    let Some(refresh) = &cache.refresh_on else { return };
    let path = rule.path.key("cache").key("refresh_on");
    if refresh.query.is_empty() {
        findings.push(
            Finding::error(path.clone(), "`refresh_on` names no query parameter")
                .hint("write `refresh_on: { query: { use_cache: \"false\" } }`"),
        );
    }
    if let QueryKey::Only(names) = &cache.key.query {
        for name in refresh.query.keys().filter(|name| names.contains(name)) {
            findings.push(
                Finding::error(
                    path.key("query").key(name),
                    format!("`{name}` is part of the key, so it cannot refresh"),
                )
                .hint("take it out of `key.query.only`")
                .reads(at.key("query")),
            );
        }
    }
}

/// Only what is the same for everyone may be compressed.
fn compression(rule: &Rule<'_>, cache: &RouteCache, findings: &mut Vec<Finding>) {
    if cache.compress && !cache.public {
        let at = rule.path.key("cache");
        findings.push(
            Finding::error(
                at.key("compress"),
                "answers that are not the same for everyone are not compressed",
            )
            .hint("add `public: true` if they are; else the length of an answer may give away a secret in it")
            .reads(at.key("public")),
        );
    }
}

/// Holds tags to their grammar and to the parameters that the path has.
fn tags(rule: &Rule<'_>, tags: &[String], place: &str, findings: &mut Vec<Finding>) {
    let at = place.split('.').fold(rule.path.clone(), |path, key| path.key(key));
    let is_setting = place == "cache.tags";
    for (index, text) in tags.iter().enumerate() {
        let path = at.index(index);
        let tag = match TagTemplate::parse(text) {
            Ok(tag) => tag,
            Err(error) => {
                let hint = error.hint;
                findings.push(Finding { hint, ..Finding::error(path, error.message) });
                continue;
            }
        };
        if is_setting && tag.is_prefix {
            findings.push(
                Finding::error(path.clone(), format!("tag `{text}` ends in `*`"))
                    .hint("a `*` stands for many tags, so only `invalidates` may use it"),
            );
        }
        if is_setting && text.starts_with('/') {
            findings.push(
                Finding::error(path.clone(), format!("tag `{text}` starts with `/`"))
                    .hint("`invalidates` would take it for a URL"),
            );
        }
        let Some(template) = &rule.template else { continue };
        for name in tag.parameters().filter(|name| !template.parameters().any(|known| known == *name)) {
            let known: Vec<String> = template.parameters().map(|name| format!("{{{name}}}")).collect();
            let hint = match known.as_slice() {
                [] => "the path has no parameters".to_owned(),
                known => format!("parameters of the path: {}", known.join(", ")),
            };
            findings.push(
                Finding::error(
                    path.clone(),
                    format!("`{{{name}}}` is not a parameter of `{}`", rule.route.path),
                )
                .hint(hint)
                .reads(rule.path.key("path")),
            );
        }
        if let Some(cache) = rule.route.cache.as_ref().filter(|_| is_setting) {
            keyed(&tag, cache, &path, findings);
        }
    }
}

/// A tag may only depend on query parameters that tell entries apart.
fn keyed(tag: &TagTemplate, cache: &RouteCache, path: &YamlPath, findings: &mut Vec<Finding>) {
    let names = tag.parts.iter().filter_map(|part| match part {
        TagPart::Query(name) => Some(name),
        TagPart::Literal(_) | TagPart::Parameter(_) | TagPart::Body(_) => None,
    });
    for name in names {
        let is_keyed = match &cache.key.query {
            QueryKey::All => true,
            QueryKey::Only(names) => names.contains(name),
            QueryKey::Ignore(names) => !names.contains(name),
        };
        if !is_keyed {
            findings.push(
                Finding::error(
                    path.clone(),
                    format!("the tag uses the query parameter `{name}`, which is not in the key"),
                )
                .hint("requests that differ in it would share an entry and its tag"),
            );
        }
    }
}

/// Warns of invalidations that can end nothing, as no route sets such a tag.
fn unset_tags(rules: &[Rule<'_>], findings: &mut Vec<Finding>) {
    let caches = rules.iter().filter_map(|rule| rule.route.cache.as_ref());
    let set: BTreeMap<&str, TagTemplate> = caches
        .flat_map(|cache| &cache.tags)
        .filter_map(|text| Some((text.as_str(), TagTemplate::parse(text).ok()?)))
        .collect();
    for rule in rules.iter().filter(|rule| !rule.route.deny) {
        for (index, text) in
            rule.route.invalidates.iter().enumerate().filter(|(_, text)| !text.starts_with('/'))
        {
            let Ok(tag) = TagTemplate::parse(text) else { continue };
            let may_meet = |other: &TagTemplate| {
                let (a, b) = (tag.beginning(), other.beginning());
                a.starts_with(b) || b.starts_with(a)
            };
            if !set.values().any(may_meet) {
                findings.push(
                    Finding::warning(
                        rule.path.key("invalidates").index(index),
                        format!("no route sets a tag like `{text}`"),
                    )
                    .hint("the backend may set it (`Surrogate-Key`, `xkey`, `Cache-Tag`); otherwise look for a typo")
                    .reads(YamlPath::at("ingress.routes")),
                );
            }
        }
    }
}
