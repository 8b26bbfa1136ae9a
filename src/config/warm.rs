//! Addresses that are fetched before anybody asks: `cache.warm`, as text and as requests.

use super::{Cache, Ingress, address::is_host_name, error::ValueError};

/// One address of `cache.warm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmAddress {
    /// Whether it is for requests that came by https, as a trusted proxy tells.
    pub is_https: bool,
    /// Host, perhaps with a port. Without it: each of `ingress.hosts`.
    pub host: Option<String>,
    /// Path and query.
    pub target: String,
}

impl WarmAddress {
    /// Reads `/path?query` or `http://host/path?query`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            return Err(ValueError::new(format!("address `{text}` contains the character {c:?}"))
                .hint("write it as it is sent, with such characters percent-encoded"));
        }
        if text.starts_with('/') {
            return Ok(Self { is_https: false, host: None, target: text.to_owned() });
        }
        let (is_https, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => {
                return Err(ValueError::new(format!("address `{text}` does not start with `/`"))
                    .hint("write /path?query, or http://host/path?query"));
            }
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let name = host.rsplit_once(':').map_or(
            host,
            |(name, port)| {
                if port.parse::<u16>().is_ok() { name } else { host }
            },
        );
        if !is_host_name(name) {
            return Err(ValueError::new(format!("`{host}` in `{text}` is not a host")));
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { is_https, host: Some(host.to_ascii_lowercase()), target })
    }

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// All addresses with their hosts. Those that cannot be read were refused when the configuration was checked.
    #[must_use]
    pub fn all(cache: &Cache, ingress: &Ingress) -> Vec<Self> {
        let addresses = cache.warm.iter().filter_map(|text| Self::parse(text).ok());
        addresses.flat_map(|address| address.with_hosts(&ingress.hosts)).collect()
    }

    /// The address at each host that it is meant for.
    pub(super) fn with_hosts(self, hosts: &[String]) -> Vec<Self> {
        if self.host.is_some() {
            return vec![self];
        }
        hosts.iter().map(|host| Self { host: Some(host.to_ascii_lowercase()), ..self.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::WarmAddress;
    use crate::config::{Cache, Ingress};

    #[test]
    fn addresses_are_paths_or_urls() {
        let read = |text| {
            let address = WarmAddress::parse(text).unwrap();
            (address.is_https, address.host, address.target)
        };
        let host = |name: &str| Some(name.to_owned());

        assert_eq!(read("/a?b=c"), (false, None, "/a?b=c".to_owned()));
        assert_eq!(read("http://A.example:8080/a"), (false, host("a.example:8080"), "/a".to_owned()));
        assert_eq!(read("https://a.example?x=1"), (true, host("a.example"), "/?x=1".to_owned()));
        assert_eq!(read("https://a.example"), (true, host("a.example"), "/".to_owned()));
        for text in ["", "a", "ftp://a/b", "http://", "http:///a", "http://a b/", "/a#b", "/ä", "http://u@h/"]
        {
            assert!(WarmAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_warmed_for_every_host_that_is_served() {
        let cache = Cache { warm: vec!["/a".to_owned(), "http://c/b".to_owned()], ..Cache::default() };
        let ingress = Ingress { hosts: vec!["A".to_owned(), "b".to_owned()], ..Ingress::default() };

        let all = WarmAddress::all(&cache, &ingress);

        let hosts: Vec<_> =
            all.iter().map(|address| (address.host.as_deref().unwrap(), address.path())).collect();
        assert_eq!(hosts, [("a", "/a"), ("b", "/a"), ("c", "/b")]);
    }
}
