//! Labelled exchanges: how a line of `data/router/*.jsonl` is read, and which of them are held back.

use std::borrow::Cow;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;

use super::error::CompileError;
use super::lexicon::FILES;
use super::{Exchange, Role, Turn};
use crate::config::{MessageType, ModelTier};

/// One labelled exchange. What it lacks of `id`, `system`, `serious` and `lang` is empty; other fields are ignored.
#[derive(Debug, Clone, Deserialize)]
pub struct Item {
    /// Its name; the letters before the number name the author.
    #[serde(default)]
    pub id: String,
    /// The system prompt.
    #[serde(default)]
    pub system: Option<String>,
    /// The turns, the user's last.
    pub messages: Vec<Message>,
    /// What the next answer has to do; `other` is [`MessageType::Unknown`].
    #[serde(rename = "type", deserialize_with = "kind")]
    pub kind: MessageType,
    /// The tier of that answer.
    pub tier: ModelTier,
    /// Distress or danger: never economy.
    #[serde(default)]
    pub serious: bool,
    /// The main language, as in ISO 639-1.
    #[serde(default)]
    pub lang: String,
}

/// One turn of an item.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// The parts of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What may be looked at and trained on: about 80 %.
    Train,
    /// What is held back.
    Dev,
    /// Both.
    All,
}

fn kind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<MessageType, D::Error> {
    let word = String::deserialize(deserializer)?;
    if word == "other" {
        return Ok(MessageType::Unknown);
    }
    MessageType::from_word(&word).ok_or_else(|| serde::de::Error::custom("unknown type"))
}

/// The hash of the data and of the lists of words, which the weights carry: of each file's name and content, by name.
#[must_use]
pub fn data_hash(files: &[(String, String)]) -> [u8; 32] {
    let mut files: Vec<&(String, String)> = files.iter().collect();
    files.sort();
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(Sha256::digest(content.as_bytes()));
    }
    for list in FILES {
        hash.update(Sha256::digest(list.as_bytes()));
    }
    hash.finalize().into()
}

impl Item {
    /// Reads all lines of a file.
    ///
    /// # Errors
    /// When a line is not an item.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, CompileError> {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(at, line)| {
                serde_json::from_str(line)
                    .map_err(|error| CompileError::Item { line: at + 1, problem: error.to_string() })
            })
            .collect()
    }

    /// Who wrote it: the letters before the number of its name.
    #[must_use]
    pub fn author(&self) -> &str {
        self.id.trim_end_matches(|character: char| character.is_ascii_digit())
    }

    /// Whether the item is held back: by the hash of its last message, so that the same message is always on one side.
    #[must_use]
    pub fn is_dev(&self) -> bool {
        let last = self.messages.last().map_or("", |message| message.content.as_str());
        let lower: String = last.nfkc().flat_map(char::to_lowercase).collect();
        let plain = lower.split_whitespace().collect::<Vec<_>>().join(" ");
        Sha256::digest(plain.as_bytes()).first().is_some_and(|byte| byte % 5 == 0)
    }

    /// Whether the item belongs to a part.
    #[must_use]
    pub fn is_in(&self, split: Split) -> bool {
        match split {
            Split::All => true,
            Split::Dev => self.is_dev(),
            Split::Train => !self.is_dev(),
        }
    }

    /// The turns as the classifier takes them.
    #[must_use]
    pub fn turns(&self) -> Vec<Turn<'_>> {
        self.messages
            .iter()
            .map(|message| Turn {
                role: if message.role == "assistant" { Role::Assistant } else { Role::User },
                text: Cow::Borrowed(message.content.as_str()),
            })
            .collect()
    }

    /// Calls with the exchange.
    pub fn with_exchange<T>(&self, call: impl FnOnce(&Exchange<'_>) -> T) -> T {
        call(&Exchange { system: self.system.as_deref(), turns: &self.turns() })
    }
}

#[cfg(test)]
mod tests {
    use super::Item;

    #[test]
    fn reads_items_of_other_makers() {
        let line = r#"{"messages":[{"role":"user","content":"hi","at":1}],"type":"greeting","tier":"economy","source":"x"}"#;

        let items = Item::parse_all(line).unwrap();

        assert_eq!(items[0].system, None);
        assert!(items[0].id.is_empty() && items[0].lang.is_empty() && !items[0].serious);
        assert!(Item::parse_all(r#"{"messages":[],"type":"greeting"}"#).is_err());
    }
}
