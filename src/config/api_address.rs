//! Where the Claude API is.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{address::BackendAddress, error::ValueError};

/// Where the Claude API is: `https://HOST`, with a port where it is not 443, or `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApiAddress {
    /// Whether the connection is TLS.
    pub is_tls: bool,
    /// A host name or an address; IPv6 without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl ApiAddress {
    /// Reads an address as it is written in the file.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let is_tls = text.starts_with("https://");
        let plain = match text.strip_prefix("https://") {
            Some(rest) => format!("http://{rest}"),
            None => text.to_owned(),
        };
        if !plain.starts_with("http://") {
            return Err(ValueError::new(format!("`{text}` is not an address of an API"))
                .hint("write https://api.anthropic.com"));
        }
        let has_port = plain
            .trim_end_matches('/')
            .rsplit(']')
            .next()
            .is_some_and(|rest| rest.strip_prefix("http://").unwrap_or(rest).contains(':'));
        match BackendAddress::parse(&plain)? {
            BackendAddress::Tcp { host, port } => {
                let port = if is_tls && !has_port { 443 } else { port };
                Ok(Self { is_tls, host, port })
            }
            BackendAddress::Unix(_) => Err(ValueError::new("the API is reached over TCP")),
        }
    }

    /// Host and port as they stand in `Host`: the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            _ => format!("{host}:{}", self.port),
        }
    }
}

impl Default for ApiAddress {
    fn default() -> Self {
        Self { is_tls: true, host: "api.anthropic.com".to_owned(), port: 443 }
    }
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }
}

impl Serialize for ApiAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApiAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for ApiAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ApiAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "api", "pattern": "^https?://" })
    }
}
