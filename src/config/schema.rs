//! The JSON Schema of the file: derived from the structs, used by the checker, and published for editors.
//!
//! The binary holds it as text, which is read faster than it is derived, and spares the code that derives it. A test
//! compares the text with the structs.

use serde_json::{Map, Value, json};

/// The schema with the checker's own keywords: `x-kind` names the grammar of a text, `x-items` that of the texts in a list,
/// `x-min` and `x-max` bound times and sizes.
const SCHEMA: &str = include_str!("schema.json");

/// Where the reference starts that an editor accepts in place of any scalar.
const REFERENCE: &str = r"\$\{[^}]+\}";

/// The schema that the checker uses.
pub(super) fn root() -> Value {
    // A test reads it.
    serde_json::from_str(SCHEMA).unwrap_or_default()
}

/// The JSON Schema (draft 2020-12) that editors use, as text. `${NAME}` is accepted wherever a scalar is.
pub fn json_schema() -> String {
    let mut schema = root();
    for_editors(&mut schema);
    for (name, definition) in schema.get_mut("$defs").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(definition) = definition.as_object_mut() {
            definition.insert("title".to_owned(), json!(name));
        }
    }
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Takes the checker's keywords off and lets `${NAME}` stand for numbers, booleans, words and patterned text.
fn for_editors(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, _| !key.starts_with("x-"));
            if let Some(Value::Object(names)) = map.get_mut("propertyNames") {
                names.retain(|key, _| !key.starts_with("x-"));
            }
            // Keys are not substituted, so `propertyNames` stays as strict as it is.
            let below =
                map.iter_mut().filter(|(key, _)| !matches!(key.as_str(), "default" | "propertyNames"));
            below.for_each(|(_, value)| for_editors(value));
            if map.get("properties").is_none_or(|properties| !properties.is_object()) {
                accept_references(map);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(for_editors),
        _ => {}
    }
}

fn accept_references(map: &mut Map<String, Value>) {
    if let Some(Value::String(pattern)) = map.get_mut("pattern") {
        *pattern = format!("{pattern}|{REFERENCE}");
    }
    let scalar = map.get("type").map(|kind| match kind {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    });
    let Some(mut names) = scalar else {
        if let Some(Value::Array(words)) = map.get("oneOf")
            && words.iter().any(|word| word.get("const").is_some())
        {
            let mut words = words.clone();
            words.push(json!({ "type": "string", "pattern": REFERENCE }));
            map.insert("oneOf".to_owned(), Value::Array(words));
        }
        return;
    };
    if names.iter().any(|name| name == "integer" || name == "boolean") {
        names.push("string".to_owned());
        map.insert("type".to_owned(), json!(names));
        map.insert("pattern".to_owned(), json!(REFERENCE));
    }
}

/// A schema, or what it refers to.
pub(super) fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or(schema),
        None => schema,
    }
}

/// The forms a value may take: references followed, `anyOf` spread out.
pub(super) fn alternatives<'a>(schema: &'a Value, root: &'a Value) -> Vec<&'a Value> {
    let schema = resolve(schema, root);
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(forms) => forms.iter().flat_map(|form| alternatives(form, root)).collect(),
        None => vec![schema],
    }
}

/// Whether the form is of the JSON type.
pub(super) fn is_type(form: &Value, name: &str) -> bool {
    match form.get("type") {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    }
}

/// The words a form allows, when it is an enumeration.
pub(super) fn words(form: &Value) -> Option<Vec<&str>> {
    if let Some(words) = form.get("enum").and_then(Value::as_array) {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    let variants = form.get("oneOf").and_then(Value::as_array)?;
    Some(variants.iter().filter_map(|variant| variant.get("const").and_then(Value::as_str)).collect())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use schemars::generate::SchemaSettings;
    use serde_json::Value;

    use super::{SCHEMA, root};
    use crate::config::Config;

    fn derived() -> Value {
        let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
        let mut schema = schema.to_value();
        tidy(&mut schema);
        schema
    }

    /// Moves `x-items` of a list to where the checker looks, joins the lines of doc comments, and takes the default off
    /// keys that have to be written.
    fn tidy(schema: &mut Value) {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(tidy);
        }
        let Value::Object(map) = schema else { return };
        let kind = map.remove("x-items");
        if let (Some(kind), Some(Value::Object(items))) = (kind, map.get_mut("items")) {
            items.insert("x-kind".to_owned(), kind);
        }
        if let Some(Value::String(text)) = map.get_mut("description") {
            *text = text.replace('\n', " ");
        }
        let required = map.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for name in required.iter().filter_map(Value::as_str) {
            let property = map.get_mut("properties").and_then(|properties| properties.get_mut(name));
            if let Some(property) = property.and_then(Value::as_object_mut) {
                property.remove("default");
            }
        }
        map.iter_mut().filter(|(key, _)| *key != "default").for_each(|(_, value)| tidy(value));
    }

    #[test]
    fn the_embedded_schema_is_that_of_the_structs() {
        let mut text = serde_json::to_string(&derived()).unwrap();
        text.push('\n');
        if env::var_os("UPDATE_GOLDEN").is_some() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/schema.json");
            fs::write(path, &text).unwrap();
            return;
        }

        assert!(SCHEMA == text, "stale: UPDATE_GOLDEN=1 cargo test --lib config::schema");
        assert!(root().is_object());
    }
}
