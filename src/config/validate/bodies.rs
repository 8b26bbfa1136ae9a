//! Rules for what a route takes from request bodies: keys of POST requests, and values for tags.

use super::Finding;
use crate::config::{Route, RouteCache, TagTemplate, path::YamlPath};

/// Whether a POST of the route only reads, on the operator's word.
pub(super) fn reads_by_post(route: &Route, cache: &RouteCache) -> bool {
    cache.key.body.is_some() && names_post(route)
}

/// Holds `key.body` and the tags that take values from bodies to each other and to the methods.
pub(super) fn key(at: &YamlPath, route: &Route, cache: &RouteCache, findings: &mut Vec<Finding>) {
    let path = at.key("cache").key("key").key("body");
    if cache.key.body.is_some() && !names_post(route) {
        findings.push(
            Finding::error(
                path.clone(),
                "only bodies of POST can be part of the key, and the route does not name it",
            )
            .hint("write `methods: [POST]`, if a POST of this route changes nothing")
            .reads(at.key("methods")),
        );
    }
    if cache.key.body.is_some() {
        return;
    }
    for (index, name) in body_members(&cache.tags) {
        findings.push(
            Finding::error(
                at.key("cache").key("tags").index(index),
                format!("the tag uses `{{body.{name}}}`, and the body is not in the key"),
            )
            .hint(
                "only `invalidates`, and tags of a route with `key: { body: json }`, take values from bodies",
            )
            .reads(path.clone()),
        );
    }
}

/// Warns of values that requests of the route lack: each of them would end more than was meant.
pub(super) fn members(at: &YamlPath, route: &Route, findings: &mut Vec<Finding>) {
    let has_no_body = |method: &&str| matches!(*method, "GET" | "HEAD" | "OPTIONS");
    let methods: Vec<&str> = if route.methods.is_empty() {
        vec!["GET"]
    } else {
        route.methods.iter().map(String::as_str).filter(has_no_body).collect()
    };
    if methods.is_empty() {
        return;
    }
    for (index, name) in body_members(&route.invalidates) {
        findings.push(
            Finding::warning(
                at.key("invalidates").index(index),
                format!("`{{body.{name}}}` is never there in requests by {}", methods.join(" and ")),
            )
            .hint(
                "each of them ends every tag that begins like this one; name the methods that write, as in \
                 `methods: [POST]`",
            )
            .reads(at.key("methods")),
        );
    }
}

fn names_post(route: &Route) -> bool {
    route.methods.iter().any(|method| method == "POST")
}

/// The first member of the body in each tag that uses one, with the tag's place in the list.
fn body_members(tags: &[String]) -> Vec<(usize, String)> {
    let first = |text: &String| TagTemplate::parse(text).ok()?.body_members().next().map(str::to_owned);
    tags.iter().enumerate().filter_map(|(index, text)| Some((index, first(text)?))).collect()
}
