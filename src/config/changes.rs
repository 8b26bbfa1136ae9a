//! What differs between two configurations, key by key. Whether a key waits for a restart is decided in `restart`.
//!
//! Both are compared as they are written out, so that a new key needs no line here. What must not be written out, such
//! as a secret, is compared by a digest that is cut off again before anything is shown.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Budget, Claude, ClaudeRoute, Config, Ingress, OwnRule, Route, RouteCache,
    effective::prune,
    flow::flow_yaml,
    load::secrets,
    path::{Segment, YamlPath},
    restart::{PLANES, needs_restart},
};

/// Characters of a value that are shown.
const LONGEST: usize = 200;

/// What parts a text from the digest of all that it stands for.
const MARK: char = '\0';

/// Where the rules for paths are.
const ROUTES: &str = "ingress.routes";

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its place, such as `cache.memory.size`. Members of lists go by their names: `ingress.routes[/api/a].cache.ttl`.
    /// A plane that comes or goes has the plane's own name.
    pub path: String,
    /// The value before, in one line of at most 200 characters; none where there was none. Secrets are `***`.
    pub old: Option<String>,
    /// The value after.
    pub new: Option<String>,
    /// Whether a running proxy keeps the old value until it is started again.
    pub needs_restart: bool,
}

/// What differs between two configurations, in the order of the file; nothing for equal ones.
///
/// A member that was put into a list is one change, wherever it stands; so is a plane.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    if old == new {
        return Vec::new();
    }
    let mut comparison = Comparison { found: Vec::new() };
    comparison.values("", &tree(old), &tree(new), Some(&plain()));
    comparison.found
}

struct Comparison {
    found: Vec<Change>,
}

impl Comparison {
    /// Compares two values of one place; `plain` is the default of a section.
    fn values(&mut self, place: &str, old: &Value, new: &Value, plain: Option<&Value>) {
        if old == new {
            return;
        }
        match (old, new) {
            (Value::Object(before), Value::Object(after)) => {
                let added = after.iter().filter(|(name, _)| !before.contains_key(*name));
                let kept = before.iter().map(|(name, old)| (name, old, after.get(name)));
                for (name, old, new) in kept.chain(added.map(|(name, new)| (name, &Value::Null, Some(new)))) {
                    let below = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                    let plain = plain.and_then(|plain| plain.get(name));
                    self.values(&below, old, new.unwrap_or(&Value::Null), plain);
                }
            }
            (Value::Array(before), Value::Array(after))
                if before.iter().chain(after).all(Value::is_object) =>
            {
                self.lists(place, before, after, plain.and_then(|plain| plain.get(0)));
            }
            _ => self.add(place, old, new, plain),
        }
    }

    /// Compares two lists of sections.
    fn lists(&mut self, place: &str, old: &[Value], new: &[Value], plain: Option<&Value>) {
        let (before, after) = (labels(place, old), labels(place, new));
        let pairs = pairs(place, (old, &before), (new, &after));
        for (index, (item, label)) in old.iter().zip(&before).enumerate() {
            if !pairs.contains(&Some(index)) {
                self.add(&format!("{place}[{label}]"), item, &Value::Null, plain);
            }
        }
        for ((item, label), pair) in new.iter().zip(&after).zip(&pairs) {
            let place = format!("{place}[{label}]");
            match pair.and_then(|index| old.get(index)) {
                Some(old) => self.values(&place, old, item, plain),
                None => self.add(&place, &Value::Null, item, plain),
            }
        }
        let kept: Vec<usize> = pairs.iter().copied().flatten().collect();
        if !kept.is_sorted() {
            let names = |indices: &[usize]| {
                let names: Vec<&str> =
                    indices.iter().filter_map(|index| before.get(*index)).map(String::as_str).collect();
                Value::String(format!("in the order {}", names.join(", ")))
            };
            let mut sorted = kept.clone();
            sorted.sort_unstable();
            self.add(place, &names(&sorted), &names(&kept), None);
        }
    }

    fn add(&mut self, place: &str, old: &Value, new: &Value, plain: Option<&Value>) {
        self.found.push(Change {
            path: place.to_owned(),
            old: shown(place, old, plain),
            new: shown(place, new, plain),
            needs_restart: needs_restart(place),
        });
    }
}

/// The configuration as it is written out, with a digest behind each text that stands for more than it says.
fn tree(config: &Config) -> Value {
    let mut value = serde_json::to_value(config).unwrap_or_default();
    let mut copy = config.clone();
    for (path, secret) in secrets(&mut copy) {
        mark(&mut value, &path, secret.expose().as_bytes());
    }
    let url = &config.cache.redis.url;
    if url.username().is_some() || url.password().is_some() {
        let user = [url.username().unwrap_or_default(), url.password().unwrap_or_default()].join("\n");
        mark(&mut value, &YamlPath::at("cache.redis.url"), user.as_bytes());
    }
    let routes = config.ingress.iter().flat_map(|ingress| &ingress.routes).enumerate();
    for (index, route) in routes {
        let identity = route.cache.as_ref().and_then(|cache| cache.identity.as_ref());
        let Some(keys) = identity.and_then(|identity| identity.keys.as_ref()) else { continue };
        let path = YamlPath::at(ROUTES).index(index).key("cache").key("identity").key("keys");
        mark(&mut value, &path, keys.content());
    }
    value
}

/// Puts the digest of `content` behind the text at a place.
fn mark(root: &mut Value, path: &YamlPath, content: &[u8]) {
    let mut value = Some(root);
    for segment in path.segments() {
        value = value.and_then(|value| match segment {
            Segment::Key(key) => value.get_mut(key),
            Segment::Index(index) => value.get_mut(*index),
        });
    }
    if let Some(Value::String(text)) = value {
        text.push(MARK);
        text.extend(Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")));
    }
}

/// A configuration with every section that has defaults, so that what is added is shown without them.
fn plain() -> Value {
    let route = Route { cache: Some(RouteCache::default()), ..Route::default() };
    let mut config = Config {
        ingress: Some(Ingress { routes: vec![route], ..Ingress::default() }),
        claude: Some(Claude {
            budgets: vec![Budget::default()],
            routes: vec![ClaudeRoute::default()],
            ..Claude::default()
        }),
        ..Config::default()
    };
    config.telemetry.alerts.own = vec![OwnRule::default()];
    serde_json::to_value(config).unwrap_or_default()
}

/// A value as it is shown: without digests, and a section without what is its default anyway.
fn shown(place: &str, value: &Value, plain: Option<&Value>) -> Option<String> {
    let mut value = value.clone();
    match plain {
        _ if value.is_null() => return None,
        Some(plain) if value.is_object() => prune(&mut value, &without_samples(plain)),
        _ => {}
    }
    clean(&mut value);
    let is_bare = value.as_object().is_some_and(serde_json::Map::is_empty);
    let text = if is_bare && PLANES.contains(&place) { "on".to_owned() } else { flow_yaml(&value) };
    if text.chars().count() <= LONGEST {
        return Some(text);
    }
    Some(text.chars().take(LONGEST - 3).chain("...".chars()).collect())
}

/// Defaults whose lists are empty again, as they are in a file.
fn without_samples(plain: &Value) -> Value {
    match plain {
        Value::Array(items) if items.iter().any(Value::is_object) => Value::Array(Vec::new()),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), without_samples(value))).collect()
        }
        other => other.clone(),
    }
}

/// Takes digests off texts, and members without a value out of sections.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(at) = text.find(MARK) {
                text.truncate(at);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(clean);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What the members of a list are called; no two alike.
fn labels(place: &str, items: &[Value]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let name = if place == ROUTES { Some(route_label(item)) } else { label(item) };
        let name = name.unwrap_or_else(|| index.to_string());
        let alike = |label: &&String| {
            let rest = label.strip_prefix(&name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" #"))
        };
        let count = labels.iter().filter(alike).count();
        labels.push(if count == 0 { name } else { format!("{name} #{}", count + 1) });
    }
    labels
}

/// The name of a member. One that says what it is by its only key, such as a receiver, is named below that.
fn label(item: &Value) -> Option<String> {
    let text =
        |value: &Value| ["name", "path"].iter().find_map(|key| value[*key].as_str().map(str::to_owned));
    let only = || {
        let members = item.as_object()?;
        let (key, value) =
            members.iter().next().filter(|(_, value)| members.len() == 1 && value.is_object())?;
        Some(text(value).unwrap_or_else(|| key.clone()))
    };
    text(item).or_else(only)
}

/// A route as people write it: `GET,POST api.example/a/{id}`.
fn route_label(route: &Value) -> String {
    let methods: Vec<&str> =
        route["methods"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let gap = if methods.is_empty() { "" } else { " " };
    let (host, path) =
        (route["host"].as_str().unwrap_or_default(), route["path"].as_str().unwrap_or_default());
    format!("{}{gap}{host}{path}", methods.join(","))
}

/// For each new member the old one that it was: that of the same label, and for routes else that of the same name or path.
fn pairs(place: &str, old: (&[Value], &[String]), new: (&[Value], &[String])) -> Vec<Option<usize>> {
    let mut pairs: Vec<Option<usize>> =
        new.1.iter().map(|label| old.1.iter().position(|other| other == label)).collect();
    if place != ROUTES {
        return pairs;
    }
    for key in ["name", "path"] {
        // Only where one is left on either side is it certain that they are the same route.
        let is_left = |index: usize, pairs: &[Option<usize>]| !pairs.contains(&Some(index));
        for index in 0..new.0.len() {
            let Some(word) = new.0.get(index).and_then(|item| item[key].as_str()) else { continue };
            let has_word = |item: &Value| item[key].as_str() == Some(word);
            let mut before = (0..old.0.len())
                .filter(|index| is_left(*index, &pairs) && old.0.get(*index).is_some_and(has_word));
            let (first, second) = (before.next(), before.next());
            let after =
                new.0.iter().zip(&pairs).filter(|(item, pair)| pair.is_none() && has_word(item)).count();
            if let (Some(first), None, 1) = (first, second, after)
                && let Some(pair) = pairs.get_mut(index).filter(|pair| pair.is_none())
            {
                *pair = Some(first);
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests;
