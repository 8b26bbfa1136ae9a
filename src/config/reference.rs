//! `docs/configuration.md`, written from the schema and so from the doc comments of the structs. Which keys wait for a
//! restart comes from `restart`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    restart::{PLANES, needs_restart},
    schema::{self, alternatives, is_type, resolve, words},
};

const INTRODUCTION: &str = r#"# Configuration

<!-- Generated from src/config by `UPDATE_DOCS=1 cargo test --test documents`; edit the doc comments there. -->

Everything is set in one YAML file, `proxy.yaml`. This page lists every key; the shipped
[`proxy.yaml`](../proxy.yaml) shows them all in place, [`examples/`](../examples) has smaller files. The smallest useful
one names the backend and one route to cache:

```yaml
version: 1
ingress:
  backend: http://127.0.0.1:8000
  routes:
    - path: /api/challenges
      cache: { ttl: 30m, public: true }
```

- `touchline check proxy.yaml` reports every problem of a file at once, with line and column, and exits with 1 if there
  is one. `--effective` prints the configuration in force, with all defaults and where each value comes from.
- `touchline explain cache.memory.size` says what a key does. `touchline diff OLD NEW` says what differs between two files.
- `touchline schema` prints the JSON Schema, also kept in [`proxy.schema.json`](../proxy.schema.json). With the line
  `# yaml-language-server: $schema=./proxy.schema.json` at its top, editors complete and check the file.

## Rules for the whole file

- **Unknown and doubled keys are errors**, as are values of the wrong type. A section without keys keeps its defaults.
- **Times** are a whole number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `250ms` or `30m`. **Sizes** likewise: `B`,
  `KiB`, `MiB`, `GiB` (powers of 1024), `KB`, `MB`, `GB` (powers of 1000). A bare number is an error.
- **Variables** of the environment stand in values: `${NAME}` (an error when it is not set), `${NAME:-default}` (also
  when it is empty), `${NAME:?message}` (an error with that message). `$$` is a dollar sign. A variable fills one value
  and never adds keys; a value that becomes empty counts as not written. Messages never repeat what a variable holds.
- **Secrets** are a text, best as `${NAME}`, or `{ file: PATH }`; a relative path starts at the folder of the
  configuration. Nothing prints them.
- Anchors and aliases (`&name`, `*name`) stand for whole values. Merge keys (`<<`) and tags (`!name`) are refused.
- **When**: the file is read when touchline starts. `touchline check` says beforehand whether it will be taken.
- *Restart* stands behind every key that is read then and never again. All others can be applied to a running touchline.
"#;

/// The reference of all keys, as Markdown.
pub fn reference_markdown() -> String {
    let schema = schema::root();
    let mut writer = Writer::new(&schema);
    writer.text.push_str(INTRODUCTION);
    writer.line("\n## The sections\n");
    writer.table("", &schema);
    writer.sections("", &schema, 2);
    writer.text
}

pub(super) struct Writer<'a> {
    root: &'a Value,
    text: String,
}

impl<'a> Writer<'a> {
    /// A writer for single keys of a schema.
    pub(super) fn new(root: &'a Value) -> Self {
        Self { root, text: String::new() }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The table of the keys of one map.
    fn table(&mut self, place: &str, form: &'a Value) {
        self.line("| key | type | default | what it does |");
        self.line("|---|---|---|---|");
        for (name, property) in properties(form) {
            let description = self.description(property);
            let restart = restart_mark(&join(place, name));
            let (kind, default) = match self.section_of(property) {
                Some((suffix, _)) => {
                    let section = format!("{}{suffix}", join(place, name));
                    (format!("[{}](#{})", self.kind(property), anchor(&section)), "see there".to_owned())
                }
                None => (self.kind(property), default(property)),
            };
            self.line(&format!("| `{name}` | {kind} | {default} | {description}{restart} |"));
        }
    }

    /// A section for each key of the map that has keys of its own.
    fn sections(&mut self, place: &str, form: &'a Value, level: usize) {
        for (name, property) in properties(form) {
            let Some((suffix, below)) = self.section_of(property) else { continue };
            let section = format!("{}{suffix}", join(place, name));
            self.line(&format!("\n{} `{section}`\n", "#".repeat(level.min(4))));
            if let Some(text) = below.get("description").and_then(Value::as_str) {
                self.line(&format!("{text}\n"));
            }
            self.table(&section, below);
            self.sections(&section, below, level + 1);
        }
    }

    /// The map of keys that a property holds, in a list or by itself; `None` for single values.
    pub(super) fn section_of(&self, property: &'a Value) -> Option<(&'static str, &'a Value)> {
        let named = |schema: &'a Value| {
            let candidates = std::iter::once(schema)
                .chain(schema.get("anyOf").and_then(Value::as_array).into_iter().flatten());
            let mut targets = candidates
                .filter(|schema| schema.get("$ref").is_some())
                .map(|schema| resolve(schema, self.root));
            targets.find(|target| target.get("properties").is_some())
        };
        let others = property.get("additionalProperties").filter(|others| others.is_object());
        match (property.get("items"), others) {
            (Some(items), _) => named(items).map(|form| ("[]", form)),
            (None, Some(others)) => named(others).map(|form| (".NAME", form)),
            (None, None) => named(property).map(|form| ("", form)),
        }
    }

    /// The type of a property in a word or two.
    pub(super) fn kind(&self, property: &'a Value) -> String {
        let forms = alternatives(property, self.root);
        let mut parts: Vec<String> = Vec::new();
        for form in forms.iter().filter(|form| !is_only(form, "null")) {
            let part = self.form(form);
            if !part.is_empty() && !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts.join(" or ")
    }

    fn form(&self, form: &'a Value) -> String {
        if let Some(words) = words(form) {
            return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        }
        if let Some(kind) = form.get("x-kind").and_then(Value::as_str) {
            let word = match kind {
                "listen" | "backend" => "address",
                "template" | "path" => "path",
                "field" | "query" => "name",
                kind => kind,
            };
            return word.to_owned();
        }
        if let Some(items) = form.get("items").filter(|_| is_type(form, "array")) {
            return format!("list of {}", plural(&self.kind(items)));
        }
        if let Some(others) = form.get("additionalProperties").filter(|others| others.is_object()) {
            return format!("map to {}", self.kind(others));
        }
        if is_type(form, "object") {
            let inline = form.get("description").is_none();
            let names: Vec<String> =
                properties(form).map(|(name, _)| format!("`{{ {name}: .. }}`")).collect();
            return if inline { names.join(", ") } else { "map".to_owned() };
        }
        let types = [("integer", "number"), ("boolean", "`true`, `false`"), ("string", "text")];
        types
            .iter()
            .find(|(name, _)| is_type(form, name))
            .map_or_else(String::new, |(_, word)| (*word).to_owned())
    }

    /// What a key does, with what each of its words means and between which bounds it lies.
    fn description(&self, property: &'a Value) -> String {
        let mut text = meaning(property).replace("Required.", "**Required.**");
        for (word, meaning) in self.meanings(property) {
            let _ = write!(text, "<br>`{word}`: {meaning}");
        }
        if let Some((low, high)) = bounds(property) {
            let _ = write!(text, " {}", limits(low, high));
        }
        text.replace('|', "\\|")
    }

    /// The words that have a sentence of their own.
    pub(super) fn meanings(&self, property: &'a Value) -> Vec<(&'a str, &'a str)> {
        let items = property.get("items").map(|items| resolve(items, self.root));
        let forms = alternatives(property, self.root).into_iter().chain(items);
        let variants = forms.filter_map(|form| form.get("oneOf").and_then(Value::as_array)).flatten();
        variants
            .filter_map(|variant| Some((variant["const"].as_str()?, variant["description"].as_str()?)))
            .collect()
    }
}

/// What a key does: its doc comment without the default and the note on restarts, which stand elsewhere.
pub(super) fn meaning(property: &Value) -> String {
    let text = property.get("description").and_then(Value::as_str).unwrap_or_default();
    let text = text.rfind("Default: ").and_then(|start| text.get(..start)).unwrap_or(text);
    let text = text.replace(" Restart.", "");
    text.strip_prefix("Restart.").unwrap_or(&text).trim().to_owned()
}

/// The note on a key that waits for a restart, or on a section that may not come or go without one.
fn restart_mark(key: &str) -> &'static str {
    match () {
        () if PLANES.contains(&key) => " *Restart* to add or to remove it.",
        () if needs_restart(key) => " *Restart.*",
        () => "",
    }
}

fn is_only(form: &Value, name: &str) -> bool {
    form.get("type").and_then(Value::as_str) == Some(name)
}

pub(super) fn properties(form: &Value) -> impl Iterator<Item = (&str, &Value)> {
    form.get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.as_str(), schema))
}

fn plural(word: &str) -> String {
    if word == "text" || word.ends_with('`') { word.to_owned() } else { format!("{word}s") }
}

pub(super) fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// The anchor that a heading gets: letters, digits and `_` alone.
fn anchor(heading: &str) -> String {
    heading.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// Bounds that are worth a word: those that are not the type's own.
pub(super) fn bounds(property: &Value) -> Option<(Option<String>, Option<String>)> {
    let text = |name: &str| {
        property
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| *text != "1B" && *text != "1ms")
            .map(str::to_owned)
    };
    let number = |name: &str, width: &[u64]| {
        property
            .get(name)
            .and_then(Value::as_u64)
            .filter(|number| !width.contains(number))
            .map(|number| number.to_string())
    };
    let low = text("x-min").or_else(|| number("minimum", &[0]));
    let high = text("x-max").or_else(|| number("maximum", &[u64::from(u8::MAX), u64::from(u16::MAX)]));
    (low.is_some() || high.is_some()).then_some((low, high))
}

pub(super) fn limits(low: Option<String>, high: Option<String>) -> String {
    match (low, high) {
        (Some(low), Some(high)) => format!("From {low} to {high}."),
        (Some(low), None) => format!("At least {low}."),
        (None, Some(high)) => format!("At most {high}."),
        (None, None) => String::new(),
    }
}

pub(super) fn default(property: &Value) -> String {
    match property.get("default") {
        None => String::new(),
        Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(Value::Array(items)) if items.is_empty() => "`[]`".to_owned(),
        Some(Value::Array(items)) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            format!("`[{}]`", items.join(", "))
        }
        Some(other) => format!("`{other}`"),
    }
}
