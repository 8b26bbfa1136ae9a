//! Compares the nodes of a file with the schema: unknown and doubled keys, wrong types, bad units, foreign words.
//!
//! What is sound comes out as a JSON value that the structs deserialize from; what is not is left out of it and
//! reported, so that one run finds every fault and the rules across fields still see the rest.

mod keys;
mod scalar;

use serde_json::{Map, Value};

pub(super) use self::keys::closest;

use super::{
    path::YamlPath,
    problem::{Found, Mark, Severity},
    schema::{alternatives, is_type, words},
    tree::{Entry, Kind, Node, Scalar},
};

/// The result of a check.
pub(super) struct Checked {
    /// The sound part of the file.
    pub(super) value: Value,
    /// What was found, errors and warnings.
    pub(super) problems: Vec<Found>,
    /// Places whose value was left out. Rules that read them have nothing to say.
    pub(super) broken: Vec<YamlPath>,
}

/// Checks a whole file.
pub(super) fn check(root: &Node, schema: &Value) -> Checked {
    let mut checker = Checker { schema, problems: Vec::new(), broken: Vec::new() };
    let top = Mark { line: 1, column: 1, width: 1 };
    let value = checker.node(root, schema, &YamlPath::default(), top);
    Checked {
        value: value.unwrap_or_else(|| Value::Object(Map::new())),
        problems: checker.problems,
        broken: checker.broken,
    }
}

struct Checker<'a> {
    schema: &'a Value,
    problems: Vec<Found>,
    broken: Vec<YamlPath>,
}

impl<'a> Checker<'a> {
    /// Checks one value. `anchor` is the key that names it, for faults of the value as a whole.
    fn node(&mut self, node: &Node, schema: &'a Value, path: &YamlPath, anchor: Mark) -> Option<Value> {
        let forms = alternatives(schema, self.schema);
        let has = |name: &str| forms.iter().find(|form| is_type(form, name)).copied();
        match &node.kind {
            Kind::Map(entries) => match has("object") {
                Some(form) => self.map(entries, form, path, anchor),
                None => self.wrong_type(node, &forms, path, anchor),
            },
            Kind::List(items) => match has("array") {
                Some(form) => Some(self.list(items, form, path)),
                None => self.wrong_type(node, &forms, path, anchor),
            },
            Kind::Scalar(scalar) if is_null(scalar) => match (has("object"), has("array")) {
                // A section whose keys are all commented out is an empty section.
                (Some(form), _) if scalar.text.is_empty() => self.map(&[], form, path, anchor),
                (_, Some(_)) if scalar.text.is_empty() => Some(Value::Array(Vec::new())),
                _ if has("null").is_some() && !scalar.text.is_empty() => Some(Value::Null),
                _ => self.no_value(&forms, path, anchor),
            },
            Kind::Scalar(_) => self.scalar(node, &forms, path, anchor),
        }
    }

    fn map(&mut self, entries: &[Entry], form: &'a Value, path: &YamlPath, anchor: Mark) -> Option<Value> {
        let mut value = Map::new();
        let properties = form.get("properties").and_then(Value::as_object);
        let others = form.get("additionalProperties").filter(|others| others.is_object());
        for (index, entry) in entries.iter().enumerate() {
            let place = path.key(&entry.key);
            if let Some(first) = entries.iter().take(index).find(|earlier| earlier.key == entry.key) {
                self.doubled(entry, first, path);
                continue;
            }
            let Some(schema) = properties.and_then(|properties| properties.get(&entry.key)).or(others) else {
                self.unknown_key(entry, form, path);
                continue;
            };
            if let Err(error) = scalar::key(&entry.key, form) {
                self.problems
                    .push(Found { hint: error.hint, ..Found::error(path, entry.mark, error.message) });
                continue;
            }
            if let Some(checked) = self.node(&entry.value, schema, &place, entry.mark) {
                value.insert(entry.key.clone(), checked);
            }
        }
        self.required(entries, form, path, anchor);
        self.exclusive(entries, form, path, anchor).then_some(Value::Object(value))
    }

    fn list(&mut self, items: &[Node], form: &'a Value, path: &YamlPath) -> Value {
        let schema = form.get("items").unwrap_or(&Value::Bool(true));
        let placeholder = placeholder(&alternatives(schema, self.schema));
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let value = self.node(item, schema, &path.index(index), item.mark);
            match value.or_else(|| placeholder.clone()) {
                Some(value) => values.push(value),
                None => self.broken.push(path.clone()),
            }
        }
        Value::Array(values)
    }

    fn scalar(&mut self, node: &Node, forms: &[&'a Value], path: &YamlPath, anchor: Mark) -> Option<Value> {
        let scalar = node.scalar()?;
        let is_scalar = |form: &&&Value| {
            ["string", "integer", "boolean"].iter().any(|name| is_type(form, name)) || words(form).is_some()
        };
        let Some(form) = forms.iter().find(is_scalar) else {
            return self.wrong_type(node, forms, path, anchor);
        };
        let is_secret = scalar::is_secret(form);
        match scalar::read(scalar, form) {
            Ok(value) => {
                if is_secret && scalar.written.is_none() {
                    self.problems.push(Found {
                        severity: Severity::Warning,
                        ..Found::error(path, anchor, "the secret is written in the file itself").hint(
                            "take it from the environment (`${NAME}`) or from a file (`{ file: PATH }`)",
                        )
                    });
                }
                Some(value)
            }
            Err(error) => {
                let mut found = Found::error(path, if is_secret { anchor } else { node.mark }, error.message);
                found.hint = error.hint;
                if let Some(written) = &scalar.written {
                    // The text came from the environment: neither message nor hint may repeat it.
                    found.message = format!("`{written}` does not give {}", scalar::expected(forms));
                    found.hint =
                        Some("the value is not shown here, as it comes from the environment".to_owned());
                }
                self.fail(path.clone(), found)
            }
        }
    }

    fn no_value(&mut self, forms: &[&Value], path: &YamlPath, anchor: Mark) -> Option<Value> {
        let expected = scalar::expected(forms);
        let found = Found::error(path, anchor, format!("{} has no value", last(path)))
            .hint(format!("give it {expected}, or comment the key out to keep its default"));
        self.fail(path.clone(), found)
    }

    fn wrong_type(&mut self, node: &Node, forms: &[&Value], path: &YamlPath, anchor: Mark) -> Option<Value> {
        let (what, mark) = match &node.kind {
            Kind::Map(_) => ("a map", anchor),
            Kind::List(_) => ("a list", anchor),
            Kind::Scalar(_) => ("a single value", node.mark),
        };
        let expected = scalar::expected(forms);
        let mut found = Found::error(path, mark, format!("{} must be {expected}, not {what}", last(path)));
        if let Kind::Scalar(scalar) = &node.kind
            && forms.iter().any(|form| is_type(form, "array"))
        {
            found =
                found.hint(format!("did you mean [{}]?", scalar.written.as_ref().unwrap_or(&scalar.text)));
        } else if let Some(keys) = keys::of(forms) {
            found = found.hint(format!("its keys are {keys}"));
        }
        self.fail(path.clone(), found)
    }

    /// Reports the fault and marks the place as having no value.
    fn fail(&mut self, place: YamlPath, found: Found) -> Option<Value> {
        self.problems.push(found);
        self.broken.push(place);
        None
    }
}

/// What stands in a list for an item that was left out: positions must stay those of the file, as rules name them.
fn placeholder(forms: &[&Value]) -> Option<Value> {
    if forms.iter().any(|form| is_type(form, "object")) {
        return Some(Value::Object(Map::new()));
    }
    forms.iter().any(|form| scalar::is_free_text(form)).then(|| Value::String(String::new()))
}

fn is_null(scalar: &Scalar) -> bool {
    scalar.is_plain
        && scalar.written.is_none()
        && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
}

/// The last step of a path as it is called in a message.
fn last(path: &YamlPath) -> String {
    let full = path.to_string();
    match full.rsplit_once('.') {
        Some((_, last)) => format!("`{last}`"),
        None if full.is_empty() => "the file".to_owned(),
        None => format!("`{full}`"),
    }
}
