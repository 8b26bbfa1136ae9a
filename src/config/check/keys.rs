//! Faults of keys: unknown ones with what was meant, doubled, missing and exclusive ones.

use serde_json::Value;

use super::Checker;
use crate::config::{
    path::YamlPath,
    problem::{Found, Mark},
    schema::alternatives,
    tree::Entry,
};

/// Names closer than this (Jaro-Winkler) are taken for a slip of the fingers, beside those that differ by a letter or
/// two. Found with the slips and the foreign words of the test below.
const CLOSE: f64 = 0.88;
/// Keys that are listed when nothing is close.
const LISTED: usize = 16;

impl Checker<'_> {
    pub(super) fn unknown_key(&mut self, entry: &Entry, form: &Value, path: &YamlPath) {
        let known = names(form);
        let meant = closest(&entry.key, &known);
        let found = Found::error(path, entry.mark, format!("unknown key `{}`", entry.key));
        let found = match meant
            .map(|name| format!("did you mean `{name}`?"))
            .or_else(|| self.advice(&entry.key, &known, path))
        {
            Some(hint) => found.hint(hint),
            None => found,
        };
        self.problems.push(found);
        // The value that was meant for the known key is lost with the misspelt one.
        self.broken.extend(meant.map(|name| path.key(name)));
    }

    fn advice(&self, key: &str, known: &[&str], path: &YamlPath) -> Option<String> {
        if key == "<<" {
            return Some(
                "merge keys are not supported; an alias (`*name`) can stand for a whole value".to_owned(),
            );
        }
        if key.contains("${") {
            return Some("variables are filled in in values, not in keys".to_owned());
        }
        let places = self.elsewhere(key, path);
        if places.iter().any(String::is_empty) {
            return Some(format!("`{key}` stands at the left margin, as a section of its own"));
        }
        if !places.is_empty() {
            return Some(format!("`{key}` belongs under {}", places.join(" or ")));
        }
        (!known.is_empty()).then(|| format!("keys here are {}", listed(known)))
    }

    /// Where a key of this name is known, above this place or below it.
    fn elsewhere(&self, key: &str, path: &YamlPath) -> Vec<String> {
        let mut places = Vec::new();
        collect(self.schema, self.schema, "", key, &mut places);
        let here = path.without_positions();
        places.retain(|place| here.starts_with(place.as_str()) || place.starts_with(&here));
        let depth = |place: &String| place.matches('.').count();
        let least = places.iter().map(depth).min().unwrap_or(0);
        places.retain(|place| depth(place) == least);
        places
    }

    pub(super) fn doubled(&mut self, entry: &Entry, first: &Entry, path: &YamlPath) {
        let found = Found::error(path, entry.mark, format!("key `{}` appears twice", entry.key))
            .hint(format!("it is first set on line {}; keep one of them", first.mark.line));
        self.problems.push(found);
    }

    pub(super) fn required(&mut self, entries: &[Entry], form: &Value, path: &YamlPath, anchor: Mark) {
        let required =
            form.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for name in required {
            if entries.iter().any(|entry| entry.key == name) {
                continue;
            }
            // A misspelt key is reported as such; that it is also missing would only repeat it.
            let is_misspelt = |entry: &Entry| closest(&entry.key, &[name]).is_some();
            if !entries.iter().any(is_misspelt) {
                let found = Found::error(path, anchor, format!("key `{name}` is missing"));
                self.problems.push(match example(name) {
                    Some(example) => found.hint(format!("add `{example}`")),
                    None => found,
                });
            }
            self.broken.push(path.key(name));
        }
    }

    /// Holds a map to its greatest number of keys, which only maps of exclusive keys have.
    pub(super) fn exclusive(
        &mut self,
        entries: &[Entry],
        form: &Value,
        path: &YamlPath,
        anchor: Mark,
    ) -> bool {
        let most =
            form.get("maxProperties").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok());
        if most.is_some_and(|most| entries.len() > most) {
            let names: Vec<String> = names(form).iter().map(|name| format!("`{name}`")).collect();
            self.problems.push(
                Found::error(path, anchor, format!("{} exclude each other", names.join(" and ")))
                    .hint("keep one of them"),
            );
            self.broken.push(path.clone());
            return false;
        }
        true
    }
}

fn example(name: &str) -> Option<&'static str> {
    match name {
        "version" => Some("version: 1"),
        "backend" => Some("backend: http://127.0.0.1:8000"),
        "path" => Some("path: /api/challenges"),
        _ => None,
    }
}

fn names(form: &Value) -> Vec<&str> {
    form.get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect()
}

/// The keys of the map that one of the forms describes.
pub(super) fn of(forms: &[&Value]) -> Option<String> {
    let names = forms.iter().map(|form| names(form)).find(|names| !names.is_empty())?;
    Some(listed(&names))
}

fn listed(names: &[&str]) -> String {
    let more = if names.len() > LISTED { ", ..." } else { "" };
    format!("{}{more}", names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", "))
}

/// The known word that was most likely meant.
pub(in crate::config) fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = plain(word);
    let scored = known.iter().map(|name| (likeness(&word, &plain(name)), *name));
    scored.filter(|(score, _)| *score > 0.0).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn plain(text: &str) -> String {
    text.to_ascii_lowercase().replace(['-', ' '], "_")
}

/// How likely one word stands for the other; 0 when they are simply different.
fn likeness(word: &str, name: &str) -> f64 {
    if name.replace('_', "") == word.replace('_', "") {
        return 2.0;
    }
    let allowed = match word.chars().count().max(name.chars().count()) {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let score = strsim::jaro_winkler(word, name);
    let is_close = score >= CLOSE || strsim::damerau_levenshtein(word, name) <= allowed;
    if is_close { score } else { 0.0 }
}

/// Every map of the schema that knows the key, written like `ingress.routes[]`.
fn collect(schema: &Value, root: &Value, place: &str, key: &str, places: &mut Vec<String>) {
    for form in alternatives(schema, root) {
        for (name, property) in form.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if name == key {
                places.push(place.to_owned());
            }
            let below = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
            collect(property, root, &below, key, places);
        }
        if let Some(items) = form.get("items") {
            collect(items, root, &format!("{place}[]"), key, places);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;

    #[test]
    fn slips_are_recognised_and_foreign_words_are_not() {
        let known = |definition: &str| {
            let schema = schema::root();
            let form = schema.pointer(&format!("/$defs/{definition}")).cloned().unwrap();
            names(&form).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        for (definition, word, meant) in [
            ("RouteCache", "tll", Some("ttl")),
            ("RouteCache", "tags_", Some("tags")),
            ("RouteCache", "stale-while-revalidate", Some("stale_while_revalidate")),
            ("RouteCache", "staleIfError", Some("stale_if_error")),
            ("RouteCache", "timeout", None),
            ("Route", "pth", Some("path")),
            ("Route", "method", Some("methods")),
            ("Route", "rate_limit", None),
            ("Ingress", "lisen", Some("listen")),
            ("Ingress", "bakcend", Some("backend")),
            ("Ingress", "route", Some("routes")),
            ("Ingress", "gzip", None),
            ("Ingress", "tls", None),
            ("Limits", "perip", Some("per_ip")),
            ("Upstream", "retrys", Some("retries")),
            ("Cache", "reddis", Some("redis")),
            ("Cache", "nfs", None),
        ] {
            let known = known(definition);
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            assert_eq!(closest(word, &known), meant, "{definition}.{word}");
        }
    }
}
