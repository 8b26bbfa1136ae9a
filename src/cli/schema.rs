//! `touchline schema`: the JSON Schema of the configuration, for editors.

use std::io::{self, Write};

use crate::config;

/// Prints the schema.
pub(crate) fn schema(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(config::json_schema().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_json_of_the_2020_draft() {
        let mut out = Vec::new();

        schema(&mut out).unwrap();

        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], false);
    }
}
