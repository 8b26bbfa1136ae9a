//! `cache.redis`: the tier that replicas share. Its address, how it is reached, and how long it is waited for.

use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    address::is_host_name,
    error::ValueError,
    secret::Secret,
    units::{self, Time},
};

/// The port of a Redis server, and of a Sentinel, when none is written.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The tier that replicas share. Without a `url` there is only memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Where Redis listens: `redis://user:password@host:6379/0`, `rediss://` with TLS, or `redis+unix:///run/redis.sock`.
    /// Several nodes of a cluster, or several Sentinels, are divided by commas: `redis://a:7000,b:7000,c:7000`. Empty
    /// means memory only. Restart. Default: empty.
    pub url: RedisUrl,
    /// What the addresses are: one server, Sentinels that know the server, or nodes of a cluster. Restart.
    /// Default: standalone.
    pub mode: RedisMode,
    /// The name of the server among the Sentinels. Restart. Default: mymaster.
    #[schemars(extend("x-kind" = "name"))]
    pub master: String,
    /// ACL user; beats one in `url`. Restart. Default: none.
    #[schemars(extend("x-kind" = "name"))]
    pub username: Option<String>,
    /// Password; beats one in `url`. Restart. Default: none.
    pub password: Option<Secret>,
    /// ACL user at the Sentinels themselves. Restart. Default: none.
    #[schemars(extend("x-kind" = "name"))]
    pub sentinel_username: Option<String>,
    /// Password at the Sentinels themselves. Restart. Default: none.
    pub sentinel_password: Option<Secret>,
    /// PEM file with the certificates that the server's must lead to. Without it: those of the system. Restart.
    /// Default: none.
    #[schemars(extend("x-kind" = "text"))]
    pub ca: Option<String>,
    /// PEM file with our own certificate, where the server asks for one; needs `key`. Restart. Default: none.
    #[schemars(extend("x-kind" = "text"))]
    pub cert: Option<String>,
    /// PEM file with the private key to `cert`. Restart. Default: none.
    #[schemars(extend("x-kind" = "text"))]
    pub key: Option<String>,
    /// What every name in Redis begins with, so that several applications can share a server. Restart.
    /// Default: `touchline:`.
    #[schemars(extend("x-kind" = "text"))]
    pub prefix: String,
    /// Connections that operations are spread over. Restart. Default: 4.
    #[schemars(range(min = 1, max = 64))]
    pub connections: u8,
    /// How long connecting may take. Restart. Default: 50ms.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub connect: Duration,
    /// How long a request waits for one lookup. What is late is a miss: with the grain of timers some 2 ms more. Restart.
    /// Default: 15ms.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub operation: Duration,
    /// Writes that wait behind the answers; more are dropped and counted. Restart. Default: 1024.
    #[schemars(range(min = 1, max = 65536))]
    pub pending: u32,
    /// How long a miss waits for the fetch of another replica before it fetches itself. Restart. Default: 500ms.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub lease_wait: Duration,
    /// What is sealed with AES-256-GCM before it is stored: nothing, or the answers that belong to one identity. The key
    /// is derived from `cache.identity_secret`. Restart. Default: `off`.
    pub encrypt: RedisEncrypt,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: RedisUrl::default(),
            mode: RedisMode::Standalone,
            master: "mymaster".to_owned(),
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            ca: None,
            cert: None,
            key: None,
            prefix: "touchline:".to_owned(),
            connections: 4,
            connect: Duration::from_millis(50),
            operation: Duration::from_millis(15),
            pending: 1024,
            lease_wait: Duration::from_millis(500),
            encrypt: RedisEncrypt::Off,
        }
    }
}

/// What the addresses of Redis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisMode {
    /// One server.
    Standalone,
    /// Sentinels, which are asked where the server is.
    Sentinel,
    /// Nodes of a cluster, of which one that answers is enough.
    Cluster,
}

impl RedisMode {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// What is sealed before it is stored in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisEncrypt {
    /// Nothing.
    Off,
    /// Answers that belong to one identity.
    Identity,
}

/// One or several addresses of Redis. Prints without its password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisUrl {
    nodes: Vec<RedisNode>,
    is_tls: bool,
    username: Option<String>,
    password: Option<String>,
    db: u32,
}

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisNode {
    /// A TCP port; without one that of its kind of server.
    Tcp {
        /// A host name or an address; IPv6 without its brackets.
        host: String,
        /// The port as written.
        port: Option<u16>,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl RedisNode {
    /// The port of a TCP node for a kind of server.
    #[must_use]
    pub fn port_for(port: Option<u16>, mode: RedisMode) -> u16 {
        port.unwrap_or(if mode == RedisMode::Sentinel { SENTINEL_PORT } else { PORT })
    }
}

impl RedisUrl {
    /// Reads the addresses as they are written. No error shows the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        if let Some(path) = text.strip_prefix("redis+unix://").or_else(|| text.strip_prefix("unix://")) {
            if !path.starts_with('/') || path.contains(['\0', ',']) {
                return Err(ValueError::new("a unix socket needs an absolute path")
                    .hint("write redis+unix:///run/redis.sock"));
            }
            return Ok(Self { nodes: vec![RedisNode::Unix(path.into())], ..Self::default() });
        }
        let (is_tls, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => {
                return Err(ValueError::new("an address of Redis starts with redis:// or rediss://")
                    .hint("write redis://HOST:6379, or leave it empty for memory only"));
            }
        };
        let (username, password, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                (decoded(name)?, decoded(password)?, rest)
            }
            None => (None, None, rest),
        };
        let (hosts, db) = match rest.split_once('/') {
            Some((hosts, "")) => (hosts, 0),
            Some((hosts, number)) => (hosts, database(number)?),
            None => (rest, 0),
        };
        let nodes = hosts.split(',').map(|node| node_of(node.trim())).collect::<Result<_, _>>()?;
        Ok(Self { nodes, is_tls, username, password, db })
    }

    /// The addresses; none means that there is no Redis.
    #[must_use]
    pub fn nodes(&self) -> &[RedisNode] {
        &self.nodes
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The user in the address.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The password in the address. Whoever calls this neither logs it nor puts it into an error.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The number of the database.
    #[must_use]
    pub const fn db(&self) -> u32 {
        self.db
    }
}

impl fmt::Display for RedisUrl {
    /// The addresses without user and password, for log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes.is_empty() {
            return Ok(());
        }
        if let [RedisNode::Unix(path)] = self.nodes.as_slice() {
            return write!(f, "redis+unix://{}", path.display());
        }
        f.write_str(if self.is_tls { "rediss://" } else { "redis://" })?;
        for (index, node) in self.nodes.iter().enumerate() {
            let RedisNode::Tcp { host, port } = node else { continue };
            if index > 0 {
                f.write_str(",")?;
            }
            if host.contains(':') {
                write!(f, "[{host}]")?;
            } else {
                f.write_str(host)?;
            }
            if let Some(port) = port {
                write!(f, ":{port}")?;
            }
        }
        if self.db > 0 {
            write!(f, "/{}", self.db)?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| D::Error::custom(error.message))
    }
}

impl JsonSchema for RedisUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RedisUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "redis" })
    }
}

/// Host and port of one node.
fn node_of(text: &str) -> Result<RedisNode, ValueError> {
    let bad =
        || ValueError::new("an address of Redis has the form HOST:PORT").hint("such as redis://redis:6379");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => {
            host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(bad)?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if !text.starts_with('[') && !is_host_name(host) {
        return Err(bad());
    }
    let port = match port {
        None => None,
        Some(digits) => Some(digits.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad)?),
    };
    Ok(RedisNode::Tcp { host: host.to_owned(), port })
}

fn database(text: &str) -> Result<u32, ValueError> {
    text.parse::<u32>().map_err(|_| {
        ValueError::new("what follows the host is not the number of a database")
            .hint("write redis://HOST:6379/0")
    })
}

/// A part of the user information with its percent escapes decoded; none where it is empty.
fn decoded(text: &str) -> Result<Option<String>, ValueError> {
    let bad = || ValueError::new("user or password in the address has a bad percent escape");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, tail) = after.split_first_chunk::<2>().ok_or_else(bad)?;
            let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_shows_them_without_their_password() {
        let table = [
            ("", ""),
            ("redis://redis", "redis://redis"),
            ("redis://:hunter2@redis:6380/3", "redis://redis:6380/3"),
            ("rediss://coach:hun%40ter@[::1]:6379/0", "rediss://[::1]:6379"),
            ("redis://a:7000, b:7001,c", "redis://a:7000,b:7001,c"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
        ];
        for (text, shown) in table {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown, "{text}");
            assert_eq!(format!("{url:?}"), shown, "{text}");
        }
        let url = RedisUrl::parse("rediss://coach:hun%40ter@redis/2").unwrap();
        assert_eq!((url.username(), url.password(), url.db()), (Some("coach"), Some("hun@ter"), 2));
    }

    #[test]
    fn no_error_repeats_the_text() {
        let bad = [
            "hunter2",
            "http://:hunter2@redis",
            "redis://:hunter2@redis:0",
            "redis://:hunter2@re dis",
            "redis://:hunter2@redis/hunter2",
            "redis://:hunter2%zz@redis",
            "redis+unix://hunter2",
            "redis://a,,b",
            "redis://[::g]:1",
        ];
        for text in bad {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(!error.message.contains("hunter2"), "{text}: {}", error.message);
        }
    }
}
