//! Values: what a document says, without where and how it says it.

use super::scalar::{Meaning, Scalar};

/// What a document, or a part of it, says. Aliases and merge keys are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Value>),
    Map(Map),
}

/// Keys with their values, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Map(pub(crate) Vec<(Scalar, Value)>);

impl Map {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known.text == key).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(known, _)| known.text == key).map(|(_, value)| value)
    }

    /// Replaces the value, or adds it at the end.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        match self.get_mut(key) {
            Some(known) => *known = value,
            None => self.0.push((Scalar::text(key), value)),
        }
    }

    /// Replaces the value, or adds it before another key; at the end if that is not there.
    pub(crate) fn set_before(&mut self, next: &str, key: &str, value: Value) {
        if let Some(known) = self.get_mut(key) {
            *known = value;
            return;
        }
        let index = self.0.iter().position(|(known, _)| known.text == next).unwrap_or(self.0.len());
        self.0.insert(index, (Scalar::text(key), value));
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.0.retain(|(known, _)| known.text != key);
    }

    /// The map under a key, if it is one.
    pub(crate) fn map(&self, key: &str) -> Option<&Map> {
        self.get(key).and_then(Value::as_map)
    }

    pub(crate) fn map_mut(&mut self, key: &str) -> Option<&mut Map> {
        self.get_mut(key).and_then(Value::as_map_mut)
    }

    /// The items of the list under a key; none where there is no list.
    pub(crate) fn list(&self, key: &str) -> &[Value] {
        match self.get(key) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    pub(crate) fn list_mut(&mut self, key: &str) -> Option<&mut Vec<Value>> {
        match self.get_mut(key) {
            Some(Value::List(items)) => Some(items),
            _ => None,
        }
    }

    /// The text of a scalar under a key.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_text)
    }
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Scalar(Scalar::text(text))
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            Self::Scalar(_) | Self::List(_) => None,
        }
    }

    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Map(map) => Some(map),
            Self::Scalar(_) | Self::List(_) => None,
        }
    }

    pub(crate) fn as_scalar(&self) -> Option<&Scalar> {
        match self {
            Self::Scalar(scalar) => Some(scalar),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The text of a scalar, whatever it means, but not of nothing.
    pub(crate) fn as_text(&self) -> Option<&str> {
        self.as_scalar().filter(|scalar| !scalar.is_null()).map(|scalar| scalar.text.as_str())
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        match self.as_scalar()?.meaning() {
            Meaning::Int(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.as_scalar().is_some_and(|scalar| scalar.meaning() == Meaning::Bool(true))
    }

    /// Nothing, `[]` or `{}`.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(scalar) => scalar.is_null(),
            Self::List(items) => items.is_empty(),
            Self::Map(map) => map.0.is_empty(),
        }
    }

    /// Values of this subtree, itself included.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Scalar(_) => 1,
            Self::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Self::Map(map) => 1 + map.0.iter().map(|(_, value)| value.size()).sum::<usize>(),
        }
    }

    /// Levels below this value.
    pub(crate) fn height(&self) -> usize {
        let below = match self {
            Self::Scalar(_) => return 0,
            Self::List(items) => items.iter().map(Self::height).max(),
            Self::Map(map) => map.0.iter().map(|(_, value)| value.height()).max(),
        };
        below.map_or(0, |height| height + 1)
    }

    /// The value as JSON, read as kubectl reads it.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Scalar(scalar) => scalar.json(),
            Self::List(items) => items.iter().map(Self::json).collect(),
            Self::Map(map) => {
                let members = map.0.iter().map(|(key, value)| (key.text.clone(), value.json()));
                serde_json::Value::Object(members.collect())
            }
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Scalar(Scalar::plain("null")),
            Json::Bool(is_true) => Self::Scalar(Scalar::plain(is_true.to_string())),
            Json::Number(number) => Self::Scalar(Scalar::plain(number.to_string())),
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Json::Object(members) => {
                let entries = members.into_iter().map(|(key, value)| (Scalar::text(key), Self::from(value)));
                Self::Map(Map(entries.collect()))
            }
        }
    }
}

/// Whether both say the same. The order of keys says nothing.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Scalar(one), Value::Scalar(other)) => one.is_same(other),
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.0.len() == other.0.len()
                && one.0.iter().enumerate().all(|(index, (key, value))| {
                    // Most often both have the same order, which spares a search.
                    let beside = other.0.get(index).filter(|(known, _)| known.text == key.text);
                    let found = beside.map(|(_, value)| value).or_else(|| other.get(&key.text));
                    found.is_some_and(|found| same(value, found))
                })
        }
        _ => false,
    }
}
