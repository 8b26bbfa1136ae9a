//! The settings in force for a route, each with the place where it was said. They are read from the configuration as it
//! is written out, so that a new key needs no line here.

use serde::Serialize;
use serde_json::Value;

use crate::config::{self, flow_yaml};

/// Settings that are shown even where nobody has changed them, as most decisions turn on them.
const ALWAYS: [&str; 8] =
    ["mode", "profile", "origin", "max_ttl", "error_max_ttl", "stale_on_disconnect", "max_body", "targeted"];

/// Settings of the cache as a whole that say nothing about what is stored.
const UNRELATED: [&str; 4] = ["fill_memory", "followers", "follower_wait", "debug"];

/// Settings of a rule that are shown even where nobody has changed them.
const ALWAYS_OF_RULE: [&str; 2] = ["ttl", "public"];

/// Who said a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The route.
    Route,
    /// The section `cache`.
    Cache,
    /// The section `ingress`.
    Ingress,
    /// Nobody.
    Default,
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, as the file would have it.
    pub value: String,
    /// Where it is written, or would be.
    pub place: String,
    /// Who said it.
    pub from: Said,
}

/// The settings in force for a route; without one those of paths that no route names.
pub(super) fn settings(cache: &config::Cache, route: Option<(usize, &config::Route)>) -> Vec<Setting> {
    let (of_cache, untouched) = (value_of(cache), value_of(&config::Cache::default()));
    let rule = route.and_then(|(index, route)| Some((index, route.cache.as_ref()?)));
    let of_rule = rule.map(|(_, rule)| value_of(rule)).unwrap_or_default();
    let plain_rule = value_of(&config::RouteCache::default());
    let rule_place = |name: &str| match rule {
        Some((index, _)) => format!("{}.cache.{name}", super::route_place(index)),
        None => String::new(),
    };
    let mut list = Vec::new();
    for (name, value) in members(&of_cache) {
        let own = of_rule.get(name).filter(|own| !own.is_null() && plain_rule.get(name) != Some(own));
        let is_said = untouched.get(name) != Some(value);
        let (value, place, from) = match own {
            Some(own) => (own, rule_place(name), Said::Route),
            None if is_said => (value, format!("cache.{name}"), Said::Cache),
            None => (value, format!("cache.{name}"), Said::Default),
        };
        // A section of its own, such as `memory`, decides nothing about an answer.
        let is_shown =
            ALWAYS.contains(&name) || (is_said && !value.is_object() && !UNRELATED.contains(&name));
        if is_shown || own.is_some() {
            list.push(Setting { name: name.to_owned(), value: flow_yaml(value), place, from });
        }
    }
    for (name, value) in members(&of_rule).filter(|(name, _)| of_cache.get(name).is_none()) {
        changed(name, value, plain_rule.get(name), &mut |name, value, is_said| {
            let from = if is_said { Said::Route } else { Said::Default };
            list.push(Setting {
                name: name.to_owned(),
                value: flow_yaml(value),
                place: rule_place(name),
                from,
            });
        });
    }
    list
}

/// Calls `add` for a setting that differs from its default, or for those below it.
fn changed(name: &str, value: &Value, default: Option<&Value>, add: &mut dyn FnMut(&str, &Value, bool)) {
    let is_said = default != Some(value);
    match (value, default) {
        (Value::Object(_), Some(Value::Object(below))) if !below.is_empty() => {
            for (key, value) in members(value) {
                changed(&format!("{name}.{key}"), value, below.get(key), add);
            }
        }
        _ if is_said || ALWAYS_OF_RULE.contains(&name) => add(name, value, is_said),
        _ => {}
    }
}

fn value_of(section: &impl Serialize) -> Value {
    serde_json::to_value(section).unwrap_or_default()
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::{Said, Setting, settings};
    use crate::{cache::rfc9111::Policy, config};

    fn of(text: &str) -> (config::Config, Vec<Setting>) {
        let config = config::load_str("proxy.yaml", text, &|_| None).unwrap().config;
        let route = config.ingress.as_ref().and_then(|ingress| ingress.routes.first());
        let list = settings(&config.cache, route.map(|route| (0, route)));
        (config, list)
    }

    fn find<'a>(list: &'a [Setting], name: &str) -> Option<(&'a str, &'a str, Said)> {
        let found = list.iter().find(|setting| setting.name == name)?;
        Some((&found.value, &found.place, found.from))
    }

    #[test]
    fn each_setting_says_who_said_it() {
        let (_, list) = of(
            "version: 1\ningress:\n  backend: http://127.0.0.1:8000\n  routes:\n    - path: /a\n      cache:\n        \
             mode: observe\n        ttl: 30m\n        ttl_by_status: { 404: 5s }\n        tags: [a, \"b:{query.q}\"]\n        \
             key: { query: { only: [q] } }\n        refresh_on: { query: { r: \"false\" } }\n        max_body: 2MiB\ncache:\n  mode: off\n  max_ttl: 1h\n  followers: 7\n  \
             max_variants: 3\n  memory: { size: 8MiB }\n",
        );

        let place = |name: &str| format!("ingress.routes[0].cache.{name}");
        assert_eq!(find(&list, "mode"), Some(("observe", place("mode").as_str(), Said::Route)));
        assert_eq!(find(&list, "max_body"), Some(("2MiB", place("max_body").as_str(), Said::Route)));
        assert_eq!(find(&list, "max_ttl"), Some(("1h", "cache.max_ttl", Said::Cache)));
        assert_eq!(find(&list, "max_variants"), Some(("3", "cache.max_variants", Said::Cache)));
        assert_eq!(find(&list, "profile"), Some(("default", "cache.profile", Said::Default)));
        assert_eq!(find(&list, "ttl"), Some(("30m", place("ttl").as_str(), Said::Route)));
        assert_eq!(find(&list, "public"), Some(("false", place("public").as_str(), Said::Default)));
        assert_eq!(
            find(&list, "key.query"),
            Some(("{ only: [q] }", place("key.query").as_str(), Said::Route))
        );
        assert_eq!(find(&list, "tags"), Some(("[a, b:{query.q}]", place("tags").as_str(), Said::Route)));
        let refresh = find(&list, "refresh_on").map(|found| found.0);
        assert_eq!(refresh, Some("{ query: { r: \"false\" } }"));
        for absent in ["followers", "memory", "key.cookies", "stale_if_error"] {
            assert_eq!(find(&list, absent), None, "{absent}");
        }
    }

    #[test]
    fn without_a_rule_only_the_cache_as_a_whole_speaks() {
        let (config, list) =
            of("version: 1\ningress: { backend: \"http://127.0.0.1:8000\", routes: [{ path: /a }] }\n");

        assert!(list.iter().all(|setting| setting.from == Said::Default), "{list:?}");
        assert_eq!(find(&list, "ttl"), None);
        let policy = Policy::from_config(&config.cache, None);
        assert_eq!(find(&list, "mode").map(|found| found.0), Some(policy.mode.as_str()));
        assert_eq!(find(&list, "profile").map(|found| found.0), Some(policy.profile.as_str()));
    }
}
