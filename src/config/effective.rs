//! The configuration in force, with every default written out, as YAML that loads again once its secrets are filled in.

use serde_saphyr::SerializerOptions;

use super::Config;

/// Prints one rule or section as YAML, with every default written out.
pub fn yaml_of(part: &impl serde::Serialize) -> String {
    serde_saphyr::to_string_with_options(part, SerializerOptions::default()).unwrap_or_default()
}

/// Prints every key with its value in force. Secrets print as `***`, which no secret may be.
pub fn effective_yaml(config: &Config) -> String {
    serde_saphyr::to_string_with_options(config, SerializerOptions::default()).unwrap_or_default()
}
