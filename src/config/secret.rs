//! A secret from the environment or a file. It is shown to the one who compares it and printed by nobody.

use std::{borrow::Cow, fmt, fs, path::Path};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{error::ValueError, watched::Folder};

/// Longest secret that is read from a file; a longer file is almost surely the wrong one.
const LONGEST: u64 = 64 << 10;
/// What stands for a secret wherever one is printed.
const HIDDEN: &str = "***";

/// A secret, written as text (best as `${NAME}`) or as `{ file: PATH }`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    source: Source,
    value: String,
}

#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Source {
    Text(String),
    File {
        #[serde(default)]
        file: String,
    },
}

impl Secret {
    /// A secret given as text.
    pub fn new(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { source: Source::Text(value.clone()), value }
    }

    /// The secret itself. Whoever calls this neither logs it nor puts it into an error.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The file that it is read from, as it is written.
    pub(crate) fn file(&self) -> Option<&str> {
        match &self.source {
            Source::Text(_) => None,
            Source::File { file } => Some(file),
        }
    }

    /// Takes the value from its source; a relative path starts at the folder of the configuration file.
    pub(crate) fn resolve(&mut self, folder: &Folder) -> Result<(), ValueError> {
        match &self.source {
            Source::Text(text) => self.value.clone_from(text),
            Source::File { file } => self.value = read(&folder.find(file))?,
        }
        if self.value.is_empty() {
            return Err(ValueError::new("the secret is empty"));
        }
        if self.value == HIDDEN {
            return Err(ValueError::new("`***` is how a secret is printed, not the secret itself")
                .hint("take it from the environment (`${NAME}`) or from a file (`{ file: PATH }`)"));
        }
        if self.value.bytes().any(|b| !(0x20..0x7f).contains(&b)) {
            return Err(ValueError::new("the secret has characters that cannot stand in a header")
                .hint("use printable ASCII in one line"));
        }
        Ok(())
    }
}

/// The content of a secret file without the line end that editors and `echo` add.
fn read(path: &Path) -> Result<String, ValueError> {
    let name = path.display();
    let failed = |error: std::io::Error| ValueError::new(format!("reading the secret file {name}: {error}"));
    if fs::metadata(path).map_err(failed)?.len() > LONGEST {
        return Err(ValueError::new(format!("the secret file {name} is larger than 64KiB")));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(ValueError::new(format!("the secret file {name} is not text")));
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { source: Source::deserialize(deserializer)?, value: String::new() })
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "x-kind": "secret" },
                {
                    "type": "object",
                    "properties": {
                        "file": {
                            "type": "string",
                            "description": "File that holds the secret; a relative path starts at the folder of this configuration."
                        }
                    },
                    "required": ["file"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("hunter2");

        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_secret_file_loses_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hunter2\n").unwrap();
        let mut secret: Secret = serde_json::from_str(r#"{"file": "token"}"#).unwrap();

        secret.resolve(&Folder::of(&folder.path().join("proxy.yaml"))).unwrap();

        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_missing_empty_or_binary_secret_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("empty"), "\n").unwrap();
        fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        fs::write(folder.path().join("lines"), "a\nb").unwrap();

        for name in ["absent", "empty", "binary", "lines"] {
            let mut secret: Secret = serde_json::from_str(&format!(r#"{{"file": "{name}"}}"#)).unwrap();
            assert!(secret.resolve(&Folder::of(&folder.path().join("proxy.yaml"))).is_err(), "{name}");
        }
    }
}
