//! Addresses as written: the backend, networks in CIDR form, and where a listener listens.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::error::ValueError;

/// Where the backend listens: `http://127.0.0.1:8000` or `unix:/run/app.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BackendAddress {
    /// A TCP port.
    Tcp {
        /// A host name or an address; IPv6 without its brackets.
        host: String,
        /// The port; 80 when none is written.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl BackendAddress {
    /// Reads an address as it is written in the file.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') || path.contains('\0') {
                return Err(
                    ValueError::new("a unix socket needs an absolute path").hint("write unix:/run/app.sock")
                );
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if text.starts_with("https://") {
            return Err(ValueError::new("the backend is reached in plain HTTP, not HTTPS")
                .hint("it stands beside the proxy: write http://127.0.0.1:PORT, or unix:/run/app.sock"));
        }
        let Some(authority) = text.strip_prefix("http://") else {
            return Err(
                ValueError::new("a backend address starts with http:// or unix:").hint(with_scheme(text))
            );
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('@') {
            return Err(ValueError::new("a backend address may not carry a user name or password"));
        }
        if authority.contains(['/', '?', '#']) {
            return Err(ValueError::new(
                "a backend address has no path: requests keep the path the client sent",
            )
            .hint("write only http://HOST:PORT"));
        }
        let (host, port) = split_port(authority)?;
        Ok(Self::Tcp { host, port })
    }
}

fn with_scheme(text: &str) -> String {
    if text.starts_with('/') {
        format!("did you mean unix:{text}?")
    } else if split_port(text).is_ok() {
        format!("did you mean http://{text}?")
    } else {
        "write http://127.0.0.1:8000 or unix:/run/app.sock".to_owned()
    }
}

/// Host and port of `host`, `host:port` or `[v6]:port`.
fn split_port(authority: &str) -> Result<(String, u16), ValueError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return Err(ValueError::new("the address has `[` without `]`"));
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(ValueError::new(format!("`{host}` is not an IPv6 address")));
        }
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').unwrap_or("")) })
    } else if authority.matches(':').count() > 1 {
        return Err(ValueError::new("an IPv6 address stands in brackets").hint("write http://[::1]:8000"));
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if !authority.starts_with('[') && !is_host_name(host) {
        return Err(ValueError::new(format!("`{host}` is not a host name")));
    }
    let port = match port {
        None => 80,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => port,
            _ => {
                return Err(
                    ValueError::new(format!("`{text}` is not a port")).hint("ports go from 1 to 65535")
                );
            }
        },
    };
    Ok((host.to_owned(), port))
}

/// Host and port of another replica: `name:port`, `address:port` or `[v6]:port`.
///
/// # Errors
/// What is wrong with it.
pub fn split_peer(text: &str) -> Result<(String, u16), ValueError> {
    if let Some((_, rest)) = text.split_once("://") {
        return Err(ValueError::new("a replica is named without a scheme").hint(format!("write {rest}")));
    }
    let (host, port) = split_port(text)?;
    if text.ends_with(&format!(":{port}")) {
        return Ok((host, port));
    }
    Err(ValueError::new(format!("`{text}` has no port")).hint(format!("write {text}:9090")))
}

/// Whether the text is a DNS name or an IPv4 address: labels of letters, digits and inner hyphens.
pub(crate) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for BackendAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackendAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for BackendAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "BackendAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "backend", "pattern": "^(http://|unix:/)" })
    }
}

/// A network such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Reads a network or a single address.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let Ok(network) = text.parse::<IpNet>() else {
            return Err(
                ValueError::new(format!("`{text}` is not a network")).hint("write 10.0.0.0/8 or one address")
            );
        };
        if network.trunc() != network {
            return Err(ValueError::new(format!("`{text}` has address bits behind its prefix")).hint(
                format!("write {} for the network, or {} for the one host", network.trunc(), network.addr()),
            ));
        }
        Ok(Self(network))
    }

    /// Whether the address lies in the network. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Its first address, to stand for all of them.
    pub(crate) fn first(&self) -> IpAddr {
        self.0.network()
    }

    /// Whether every address of its family lies in it.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.prefix_len() == 0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for Cidr {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "network" })
    }
}

/// The schema of a listener's address.
pub(crate) struct Listen;

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "listen", "pattern": "^.*:[0-9]+$" })
    }
}

/// Reads a listener's address: an IP address and a port, never a name, so that nothing is resolved at start.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, ValueError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let error = ValueError::new(format!("`{text}` is not an address to listen on"));
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if is_port(text) {
        return Err(error.hint(format!("did you mean 0.0.0.0:{text} (every interface) or 127.0.0.1:{text}?")));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(error.hint("the port is missing: write ADDRESS:PORT, such as 0.0.0.0:8080"));
    }
    match text.rsplit_once(':') {
        Some(("" | "*", port)) if is_port(port) => Err(error.hint(format!("did you mean 0.0.0.0:{port}?"))),
        Some(("localhost", port)) if is_port(port) => {
            Err(error.hint(format!("did you mean 127.0.0.1:{port}?")))
        }
        Some((host, port)) if is_port(port) && is_host_name(host) => {
            Err(error.hint("write an IP address: a listener does not resolve names"))
        }
        Some((_, port)) if port.parse::<u64>().is_ok() && !is_port(port) => {
            Err(error.hint("ports go from 0 to 65535"))
        }
        _ => Err(error.hint("write ADDRESS:PORT, such as 0.0.0.0:8080 or [::]:8080")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_addresses_are_read_and_printed() {
        for (text, printed) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://localhost:8000/", "http://localhost:8000"),
            ("http://coach", "http://coach:80"),
            ("http://[::1]:8000", "http://[::1]:8000"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:///run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(BackendAddress::parse(text).unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn foreign_backend_addresses_are_refused() {
        for text in [
            "",
            "127.0.0.1:8000",
            "https://127.0.0.1:8443",
            "http://",
            "http://user:secret@host:1",
            "http://host/api",
            "http://host:0",
            "http://host:+80",
            "http://host:99999",
            "http://::1:80",
            "http://[::1",
            "http://[zz]:1",
            "http://a b:1",
            "unix:app.sock",
            "tcp://host:1",
        ] {
            assert!(BackendAddress::parse(text).is_err(), "{text}");
        }
        let error = BackendAddress::parse("http://user:secret@host:1").unwrap_err();
        assert!(!format!("{error:?}").contains("secret"));
    }

    #[test]
    fn a_network_holds_its_addresses_and_mapped_ones() {
        let network = Cidr::parse("10.0.0.0/8").unwrap();

        assert!(network.contains("10.1.2.3".parse().unwrap()));
        assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!network.contains("11.0.0.1".parse().unwrap()));
        assert!(Cidr::parse("127.0.0.1").unwrap().contains("127.0.0.1".parse().unwrap()));
        assert!(Cidr::parse("10.0.0.1/8").is_err());
        assert!(Cidr::parse("10.0.0.0/33").is_err());
    }

    #[test]
    fn a_listener_wants_an_address_and_a_port() {
        assert!(parse_listen("0.0.0.0:8080").is_ok());
        assert!(parse_listen("[::]:0").is_ok());
        for (text, advice) in [
            ("8080", "did you mean 0.0.0.0:8080 (every interface) or 127.0.0.1:8080?"),
            (":8080", "did you mean 0.0.0.0:8080?"),
            ("localhost:8080", "did you mean 127.0.0.1:8080?"),
            ("10.0.0.1", "the port is missing: write ADDRESS:PORT, such as 0.0.0.0:8080"),
            ("0.0.0.0:80800", "ports go from 0 to 65535"),
        ] {
            assert_eq!(parse_listen(text).unwrap_err().hint.as_deref(), Some(advice), "{text}");
        }
    }
}
