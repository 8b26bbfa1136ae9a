//! The difference between two objects as a strategic merge patch, which kubectl and Kustomize apply.

use serde_json::json;

use super::yaml::{Map, Scalar, Value, same};

/// The lists of these kinds that are merged item by item, with what items are known by. All others are replaced whole.
const KEYS: [(&str, &[&str]); 8] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("volumes", &["name"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("ports", &["containerPort", "port"]),
    ("hostAliases", &["ip"]),
];

/// What makes one object the other, with what it is known by, as Kustomize asks for; `None` if they are the same.
pub(super) fn strategic(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Map(old), Value::Map(new)) = (old, new) else { return None };
    let patch = maps(old, new);
    if patch.0.is_empty() {
        return None;
    }
    let mut made = Map::default();
    for key in ["apiVersion", "kind"] {
        made.set(key, new.get(key)?.clone());
    }
    let mut metadata = Map::default();
    if let Some(name) = new.map("metadata").and_then(|metadata| metadata.get("name")) {
        metadata.set("name", name.clone());
    }
    metadata.0.extend(patch.map("metadata").cloned().unwrap_or_default().0);
    made.set("metadata", Value::Map(metadata));
    made.0.extend(patch.0.into_iter().filter(|(key, _)| key.text != "metadata"));
    Some(Value::Map(made))
}

fn maps(old: &Map, new: &Map) -> Map {
    let mut patch = Map::default();
    for (key, value) in &new.0 {
        match old.get(&key.text) {
            Some(known) if same(known, value) => {}
            Some(Value::Map(known)) if value.as_map().is_some() => {
                let below = value.as_map().map(|value| maps(known, value)).unwrap_or_default();
                patch.0.push((key.clone(), Value::Map(below)));
            }
            Some(Value::List(known)) => {
                let merged = match value {
                    Value::List(items) => lists(&key.text, known, items),
                    Value::Scalar(_) | Value::Map(_) => None,
                };
                patch.0.push((key.clone(), merged.unwrap_or_else(|| value.clone())));
            }
            _ => patch.0.push((key.clone(), value.clone())),
        }
    }
    for (key, _) in old.0.iter().filter(|(key, _)| new.get(&key.text).is_none()) {
        patch.0.push((key.clone(), Value::Scalar(Scalar::plain("null"))));
    }
    patch
}

/// The items that differ, with what they are known by; `None` where items cannot be told apart.
fn lists(name: &str, old: &[Value], new: &[Value]) -> Option<Value> {
    let (_, keys) = KEYS.iter().find(|(known, _)| *known == name)?;
    let is_keyed = |key: &str| {
        let texts: Option<Vec<&str>> = old.iter().map(|item| item.as_map()?.text(key)).collect();
        let others: Option<Vec<&str>> = new.iter().map(|item| item.as_map()?.text(key)).collect();
        let is_unique = |texts: &Vec<&str>| {
            texts
                .iter()
                .enumerate()
                .all(|(index, text)| !texts.iter().skip(index + 1).any(|other| other == text))
        };
        texts.is_some_and(|texts| is_unique(&texts)) && others.is_some_and(|texts| is_unique(&texts))
    };
    let key = keys.iter().copied().find(|key| is_keyed(key))?;
    let find = |items: &[Value], text: &str| {
        items.iter().filter_map(Value::as_map).find(|item| item.text(key) == Some(text)).cloned()
    };
    let mut patch = Vec::new();
    for item in new.iter().filter_map(Value::as_map) {
        let id = item.get(key)?;
        match find(old, item.text(key)?) {
            None => patch.push(Value::Map(item.clone())),
            Some(known) => {
                let mut below = maps(&known, item);
                if !below.0.is_empty() {
                    below.0.insert(0, (Scalar::plain(key), id.clone()));
                    patch.push(Value::Map(below));
                }
            }
        }
    }
    for item in old.iter().filter_map(Value::as_map) {
        if find(new, item.text(key)?).is_none() {
            let mut gone = Map::default();
            gone.set("$patch", json!("delete").into());
            gone.set(key, item.get(key)?.clone());
            patch.push(Value::Map(gone));
        }
    }
    Some(Value::List(patch))
}
