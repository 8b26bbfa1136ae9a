//! A plane that is on unless the file says `off`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A section of the file, or the word `off` in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch<T> {
    /// The plane runs with these settings.
    On(T),
    /// The plane is not started.
    Off,
}

impl<T> Switch<T> {
    /// The settings, when the plane is on.
    pub fn on(&self) -> Option<&T> {
        match self {
            Self::On(settings) => Some(settings),
            Self::Off => None,
        }
    }

    /// The settings to change, when the plane is on.
    pub(crate) fn on_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::On(settings) => Some(settings),
            Self::Off => None,
        }
    }
}

impl<T: Default> Default for Switch<T> {
    fn default() -> Self {
        Self::On(T::default())
    }
}

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::On(settings) => settings.serialize(serializer),
            Self::Off => serializer.serialize_str("off"),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Word(word) if word == "off" => Ok(Self::Off),
            Written::Word(word) => Err(D::Error::custom(format!("`{word}` is neither settings nor `off`"))),
            Written::Settings(settings) => Ok(Self::On(settings)),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written<T> {
    Word(String),
    Settings(T),
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Switch{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "enum": ["off"] }] })
    }
}
