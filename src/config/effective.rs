//! The configuration in force, with every default written out and with the place where each value comes from, as YAML
//! that loads again once its secrets are filled in.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use serde_saphyr::SerializerOptions;

use super::{
    Config, Route, RouteCache,
    problem::Source,
    substitute::{substitute, variables},
    tree::{self, Kind, Node},
};

/// Prints a route's rule as YAML, with what differs from the defaults alone.
pub fn brief_yaml(route: &Route) -> String {
    let (Ok(mut rule), Ok(mut plain), Ok(cache)) = (
        serde_json::to_value(route),
        serde_json::to_value(Route::default()),
        serde_json::to_value(RouteCache::default()),
    ) else {
        return String::new();
    };
    if let (Some(plain), true) = (plain.as_object_mut(), route.cache.is_some()) {
        plain.insert("cache".to_owned(), cache);
    }
    prune(&mut rule, &plain);
    serde_saphyr::to_string_with_options(&rule, SerializerOptions::default()).unwrap_or_default()
}

/// Takes out of an object what another has with the same value.
pub(super) fn prune(value: &mut Value, plain: &Value) {
    let (Some(members), Some(plain)) = (value.as_object_mut(), plain.as_object()) else { return };
    members.retain(|name, member| {
        let Some(plain) = plain.get(name) else { return !member.is_null() };
        let differs = member != plain;
        prune(member, plain);
        differs
    });
}

/// What a configuration was read from.
#[derive(Clone, Copy)]
pub struct Written<'a> {
    /// The name of the file.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// The environment that its variables came from.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// Prints every key with its value in force, and behind it where that comes from: `default`, `FILE:LINE` or
/// `environment NAME`. Secrets print as `***`, which no secret may be.
pub fn effective_yaml(config: &Config, written: Written<'_>) -> String {
    let content = written.text.strip_prefix('\u{feff}').unwrap_or(written.text);
    let source = Source::new(written.name, content);
    let mut root = tree::parse(content, &source).ok();
    if let Some(root) = &mut root {
        // What cannot be filled in has been refused before.
        let _ = substitute(root, written.env, &source);
    }
    let mut writer = Writer { written, text: String::new() };
    if let Ok(Value::Object(members)) = serde_json::to_value(config) {
        writer.map(&members, &root.as_ref().map_or(Found::Nowhere, Found::Here), 0, false);
    }
    writer.text
}

/// What the file says at a place.
enum Found<'a> {
    /// A value of the same shape.
    Here(&'a Node),
    /// A value of another shape further above, from which this one was made; and where that is.
    Above(String),
    /// Nothing.
    Nowhere,
}

struct Writer<'a> {
    written: Written<'a>,
    text: String,
}

impl Writer<'_> {
    /// Writes the members of a map; `is_item` puts the dash of a list before the first.
    fn map(&mut self, members: &Map<String, Value>, found: &Found<'_>, indent: usize, is_item: bool) {
        for (index, (name, value)) in members.iter().enumerate() {
            let below = self.member(found, name);
            let margin = if is_item && index == 0 { indent.saturating_sub(2) } else { indent };
            let dash = if is_item && index == 0 { "- " } else { "" };
            let _ = write!(self.text, "{}{dash}{}:", " ".repeat(margin), text_yaml(name));
            self.value(value, &below, indent);
        }
    }

    /// Writes what stands behind a key or a dash.
    fn value(&mut self, value: &Value, found: &Found<'_>, indent: usize) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                self.text.push('\n');
                self.map(members, found, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                self.text.push('\n');
                for (index, item) in items.iter().enumerate() {
                    self.item(item, &self.nth(found, index), indent + 2);
                }
            }
            _ => {
                let origin = self.origin(found);
                let _ = writeln!(self.text, " {}  # {origin}", scalar_yaml(value));
            }
        }
    }

    fn item(&mut self, item: &Value, found: &Found<'_>, indent: usize) {
        match item {
            Value::Object(members) if !members.is_empty() => self.map(members, found, indent + 2, true),
            _ => {
                let origin = self.origin(found);
                let _ = writeln!(self.text, "{}- {}  # {origin}", " ".repeat(indent), scalar_yaml(item));
            }
        }
    }

    fn member<'n>(&self, found: &Found<'n>, name: &str) -> Found<'n> {
        match found {
            Found::Here(Node { kind: Kind::Map(entries), .. }) => entries
                .iter()
                .find(|entry| entry.key == name)
                .map_or(Found::Nowhere, |entry| Found::Here(&entry.value)),
            other => self.beside(other),
        }
    }

    fn nth<'n>(&self, found: &Found<'n>, index: usize) -> Found<'n> {
        match found {
            Found::Here(Node { kind: Kind::List(items), .. }) => {
                items.get(index).map_or(Found::Nowhere, Found::Here)
            }
            other => self.beside(other),
        }
    }

    /// What a value comes from that the file does not write in that shape.
    fn beside<'n>(&self, found: &Found<'n>) -> Found<'n> {
        match found {
            // A section whose keys are all commented out says nothing.
            Found::Here(node) if is_empty(node) => Found::Nowhere,
            Found::Here(_) | Found::Above(_) => Found::Above(self.origin(found)),
            Found::Nowhere => Found::Nowhere,
        }
    }

    fn origin(&self, found: &Found<'_>) -> String {
        let node = match found {
            Found::Here(node) if is_empty(node) => return "default".to_owned(),
            Found::Here(node) => node,
            Found::Above(origin) => return origin.clone(),
            Found::Nowhere => return "default".to_owned(),
        };
        let names = self.variables(node);
        if !names.is_empty() {
            return format!("environment {}", names.join(", "));
        }
        let name: String = self.written.name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        format!("{name}:{}", node.mark.line)
    }

    /// The variables that a value comes from.
    fn variables(&self, node: &Node) -> Vec<String> {
        match &node.kind {
            Kind::Scalar(scalar) => {
                scalar.written.as_ref().map_or_else(Vec::new, |text| variables(text, self.written.env))
            }
            Kind::List(items) => items.iter().flat_map(|item| self.variables(item)).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|entry| self.variables(&entry.value)).collect(),
        }
    }
}

fn is_empty(node: &Node) -> bool {
    let is_absent = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
    node.scalar().is_some_and(|scalar| scalar.is_plain && scalar.written.is_none() && is_absent(&scalar.text))
}

/// A value in one line of YAML.
fn scalar_yaml(value: &Value) -> String {
    match value {
        // A dollar sign would begin a variable when this is loaded.
        Value::String(text) => text_yaml(&text.replace('$', "$$")),
        other => other.to_string(),
    }
}

/// A text as YAML: plain where that is certain to be read as a text, else in double quotes as JSON has them.
fn text_yaml(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
    let is_word = !text.ends_with(':')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        && text.chars().all(is_plain);
    // Other readers go by YAML 1.1, where these are truth values, and `12:30`, `1_000` or `2001-01-01` numbers and dates.
    let is_other = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
        || text.parse::<f64>().is_ok()
        || ["0x", "0o", "0b"].iter().any(|base| text.starts_with(base))
        || (text.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | '.' | ':' | '-'))
            && text.matches('.').count() < 2);
    if is_word && !is_other { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::{Written, brief_yaml, effective_yaml, text_yaml};
    use crate::config::{Config, Route, load_str};

    fn env(name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("hunter2".to_owned()),
            "TTL" => Some("7m".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn printed(text: &str) -> (Config, String) {
        let config = load_str("p.yaml", text, &env).unwrap_or_else(|problems| panic!("{problems}")).config;
        let yaml = effective_yaml(&config, Written { name: "p.yaml", text, env: &env });
        (config, yaml)
    }

    #[test]
    fn a_rule_is_printed_as_it_would_be_written() {
        let written = "path: /api/challenges\ncache:\n  ttl: 30m\n  public: true\n  tags:\n  - challenges\n";
        let route: Route = serde_saphyr::from_str(written).unwrap();

        let printed = brief_yaml(&route);

        assert_eq!(serde_saphyr::from_str::<Route>(&printed).unwrap(), route);
        assert_eq!(printed.lines().count(), written.lines().count(), "{printed}");
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let text = "version: 1\ningress:\n  backend: http://127.0.0.1:8000\n  hosts: [a.example, \"${HOST:-b.example}\"]\n  \
                    routes:\n    - path: /a\n      cache: { ttl: \"${TTL}\", ttl_by_status: { 404: 5s },\n               \
                    key: { query: { only: [q] } } }\n    - { path: /b, slow_after: \"${EMPTY:-}\" }\nadmin:\n  \
                    token: ${TOKEN}\ncontrol: off\ncache:\n  memory:\n    # size: 1GiB\n";

        let (_, yaml) = printed(text);

        for line in [
            "version: 1  # p.yaml:1",
            "runtime:",
            "  workers: null  # default",
            "  listen: 0.0.0.0:8080  # default",
            "  backend: http://127.0.0.1:8000  # p.yaml:3",
            "    - a.example  # p.yaml:4",
            "    - b.example  # p.yaml:4",
            "    - path: /a  # p.yaml:6",
            "        ttl: 7m  # environment TTL",
            "          \"404\": 5s  # p.yaml:7",
            "              - q  # p.yaml:8",
            "      slow_after: null  # default",
            "    size: 64MiB  # default",
            "  token: \"***\"  # environment TOKEN",
            "control: \"off\"  # p.yaml:12",
        ] {
            assert!(yaml.lines().any(|found| found == line), "{line}\n{yaml}");
        }
        assert!(!yaml.contains("hunter2"));
        for line in yaml.lines().filter(|line| !line.ends_with(':')) {
            assert!(line.contains("  # "), "{line}");
        }
    }

    #[test]
    fn what_is_printed_loads_again_as_the_same() {
        let texts = [
            "version: 1\ningress: { backend: unix:/run/app.sock, routes: [{ path: \"/{rest*}\", name: ab, cache: \
             { ttl: 1m, tags: [\"x:{query.q}\", \"true\", \"1\"], bypass_when: { headers: { X-Debug: \"*\" } } } }] }\n",
            "version: 1\nclaude:\n  router: { systems: [{ contains: \"end$${1}: #$\", tier: economy }] }\n  \
             budgets: [{ name: day, limit: 5usd }]\n  models: { claude-haiku-4-5: { betas: [a, \"on\"] } }\n",
            "version: 1\nadmin: off\ncontrol: off\ningress: { backend: \"http://[::1]:1\", routes: [] }\n",
        ];
        for text in texts {
            let (config, yaml) = printed(text);
            let again =
                load_str("again", &yaml, &env).unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
            assert_eq!(again.config, config, "{yaml}");
        }
    }

    #[test]
    fn texts_have_quotes_where_a_reader_would_take_them_for_something_else() {
        for text in ["64MiB", "0.0.0.0:8080", "http://127.0.0.1:8000", "/api/a", "claude-haiku-4-5", "5s"] {
            assert_eq!(text_yaml(text), text);
        }
        for text in [
            "",
            "1",
            "1e3",
            "true",
            "No",
            "off",
            "12:30",
            "1_000",
            "2001-01-01",
            "0x10",
            "010",
            "null",
            "a: b",
            "a:",
            "*",
            "-",
            "#",
            "{x}",
            "a b",
            "ü\n",
            "\"",
            ".5",
            "~",
        ] {
            assert_eq!(text_yaml(text), serde_json::to_string(text).unwrap());
        }
    }
}
