//! Who is asked: the address of an admin listener and the token for it, from arguments, a configuration or the
//! environment.

use std::{fmt, fs, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cli::orders::{admin_listener, reachable};

/// The port where none is named.
const PORT: u16 = 9090;

/// Where the token is, if neither a file nor the configuration has it.
const TOKEN: &str = "TOUCHLINE_ADMIN_TOKEN";

/// Which running touchline is asked.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// The admin listener to ask, such as 127.0.0.1:9090 or coach-api.prod.svc:9090, in place of the one that the
    /// configuration names
    #[arg(long, value_name = "URL", value_parser = Address::parse)]
    admin: Option<Address>,
    /// The configuration of the running touchline, which names its admin listener and token; without it proxy.yaml, and
    /// where there is none 127.0.0.1:9090
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file with the token of the admin listener; without it the configuration's, or that in `TOUCHLINE_ADMIN_TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// An admin listener that can be asked. Not to be printed: it has the token.
pub(super) struct Endpoint {
    pub(super) address: Address,
    pub(super) token: Option<String>,
}

impl Source {
    /// The listener that the arguments, a configuration and the environment come to.
    pub(super) fn endpoint(&self, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Endpoint> {
        let admin = admin_listener(self.config.as_deref(), self.admin.is_some())?;
        let listen = reachable(admin.listen);
        let configured = Address { host: listen.ip().to_string(), port: listen.port() };
        let token = match &self.token_file {
            Some(file) => {
                let shown = file.display();
                Some(fs::read_to_string(file).with_context(|| format!("reading the token from {shown}"))?)
            }
            None => admin.token.map(|token| token.expose().to_owned()).or_else(|| env(TOKEN)),
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            bail!("the token has characters that a header field cannot carry");
        }
        Ok(Endpoint { address: self.admin.clone().unwrap_or(configured), token })
    }
}

impl Address {
    /// Reads `HOST`, `HOST:PORT` or `http://HOST:PORT/`.
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("the admin listener speaks plain HTTP: write http://".to_owned());
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let wrong = || format!("`{rest}` is no host with a port, such as 127.0.0.1:9090");
        if let Ok(ip) = rest.parse::<IpAddr>() {
            return Ok(Self { host: ip.to_string(), port: PORT });
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                let ip: std::net::Ipv6Addr = host.parse().map_err(|_| wrong())?;
                let port =
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) };
                (ip.to_string(), port)
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (rest.to_owned(), None),
            },
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(is_name) {
            return Err(wrong());
        }
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| wrong())?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A value for a query. What needs no coding has none, so that it is read as it was written.
pub(super) fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'*' | b':' | b'@')
        {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Address, Source, encoded};

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let table = [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("http://127.0.0.1:19090/", "127.0.0.1:19090"),
            ("localhost", "localhost:9090"),
            ("coach-api.prod.svc:80", "coach-api.prod.svc:80"),
            ("[::1]:9091", "[::1]:9091"),
            ("::1", "[::1]:9090"),
            ("http://[fd00::1]", "[fd00::1]:9090"),
        ];
        for (text, shown) in table {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for wrong in
            ["", ":9090", "a:b", "a:99999", "[::1", "[::1]9", "http://a/b", "a b", "a\r\nX: y", "https://a"]
        {
            assert!(Address::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_token_comes_from_a_file_or_the_environment_and_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let env = |_: &str| Some("from-env".to_owned());
        let token = |written: Option<&str>| {
            let token_file = written.map(|text| {
                fs::write(&file, text).unwrap();
                file.clone()
            });
            let source = Source { admin: Address::parse("a").ok(), config: None, token_file };
            source.endpoint(&env).map(|endpoint| endpoint.token)
        };

        assert_eq!(token(None).unwrap().as_deref(), Some("from-env"));
        assert_eq!(token(Some("s3cret\n")).unwrap().as_deref(), Some("s3cret"));
        assert_eq!(token(Some("\n")).unwrap(), None);
        assert!(token(Some("a\r\nX-Other: b")).is_err());
    }

    #[test]
    fn values_of_a_query_stay_readable() {
        assert_eq!(encoded("/api/*"), "/api/*");
        assert_eq!(encoded("GET /a/{id}&b=ü"), "GET%20/a/%7Bid%7D%26b%3D%C3%BC");
    }
}
