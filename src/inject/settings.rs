//! What is put beside a backend: image, ports, names and sizes, from flags and from the configuration.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use crate::config::{self, BackendAddress, Config};

/// Keys of `--set`, beside `env.NAME`.
pub const SETTINGS: [&str; 8] = [
    "resources.requests.cpu",
    "resources.requests.memory",
    "resources.limits.cpu",
    "resources.limits.memory",
    "imagePullPolicy",
    "preStop.wait",
    "backend.preStop",
    "backend.shutdown",
];

/// The image that this build was made for, if it was made for one: `TOUCHLINE_IMAGE` at compile time.
pub const IMAGE: Option<&str> = option_env!("TOUCHLINE_IMAGE");

/// How the proxy is kept beside the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A native sidecar: an init container that goes on running. Kubernetes 1.29 and newer.
    #[default]
    Native,
    /// A container like the backend's, for older clusters.
    Container,
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// The image; [`IMAGE`] without it.
    pub image: Option<String>,
    /// How the proxy is kept beside the backend.
    pub mode: Mode,
    /// The container that is the backend's.
    pub container: Option<String>,
    /// The ConfigMap with the configuration; `touchline-config` without it.
    pub config_map: Option<String>,
    /// The Secret with files for the configuration; `touchline-secrets` without it.
    pub secret: Option<String>,
    /// Whether Services are left as they are and get a second one beside them.
    pub proxied_service: bool,
    /// `KEY=VALUE` each.
    pub set: Vec<String>,
    /// Name and text of the configuration.
    pub config: Option<(String, String)>,
}

/// Why flags cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A flag is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
}

/// Everything that decides what is put beside a backend.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) image: String,
    pub(super) mode: Mode,
    pub(super) container: Option<String>,
    pub(super) config_map: String,
    pub(super) secret: String,
    pub(super) proxied_service: bool,
    /// The text of the configuration, if it is to be put into the stream.
    pub(super) config: Option<String>,
    pub(super) planes: Planes,
    pub(super) sizes: Sizes,
    /// What somebody should look at in the configuration, in words.
    warnings: Vec<String>,
}

/// The listeners, as the configuration has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) ingress: Option<u16>,
    pub(super) claude: Option<u16>,
    pub(super) admin: u16,
    pub(super) control: Option<u16>,
    /// The control listener is where `touchline drain` looks by itself.
    pub(super) is_control_usual: bool,
    /// The port of the backend.
    pub(super) backend: Option<u16>,
    pub(super) drain: Duration,
}

/// What `--set` changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) requests: BTreeMap<&'static str, String>,
    pub(super) limits: BTreeMap<&'static str, String>,
    pub(super) pull_policy: Option<String>,
    /// How long our hook waits.
    pub(super) wait: Duration,
    /// How long the backend's hook waits; zero for none.
    pub(super) backend_wait: Duration,
    /// How long the backend takes to end.
    pub(super) backend_shutdown: Duration,
    pub(super) env: BTreeMap<String, String>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            requests: BTreeMap::from([("cpu", "25m".to_owned()), ("memory", "32Mi".to_owned())]),
            limits: BTreeMap::from([("memory", "128Mi".to_owned())]),
            pull_policy: None,
            wait: Duration::from_secs(15),
            backend_wait: Duration::from_secs(20),
            backend_shutdown: Duration::from_secs(10),
            env: BTreeMap::new(),
        }
    }
}

impl Default for Planes {
    fn default() -> Self {
        Self {
            ingress: Some(8080),
            claude: None,
            admin: 9090,
            control: Some(9091),
            is_control_usual: true,
            backend: None,
            drain: config::Drain::default().timeout,
        }
    }
}

impl Settings {
    /// Reads flags, and the configuration among them.
    pub fn new(flags: Flags) -> Result<Self, Refused> {
        let image = flags.image.or_else(|| IMAGE.map(str::to_owned)).ok_or_else(|| {
            Refused::Usage("--image REF is needed: this build names no image of its own".to_owned())
        })?;
        if image.is_empty() || image.contains(char::is_whitespace) {
            return Err(Refused::Usage(format!("--image: `{image}` is not the name of an image")));
        }
        let sizes = Sizes::read(&flags.set).map_err(Refused::Usage)?;
        let mut settings = Self {
            image,
            mode: flags.mode,
            container: flags.container,
            config_map: named("--config-map", flags.config_map, "touchline-config")?,
            secret: named("--secret", flags.secret, "touchline-secrets")?,
            proxied_service: flags.proxied_service,
            config: None,
            planes: Planes::default(),
            sizes,
            warnings: Vec::new(),
        };
        if let Some((name, text)) = flags.config {
            settings.read_config(&name, text).map_err(Refused::Config)?;
        }
        Ok(settings)
    }

    /// What somebody should look at in the configuration.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    /// Reads the configuration as the pod will: with its variables, and without the files that are only there.
    fn read_config(&mut self, name: &str, text: String) -> Result<(), String> {
        let limit = self.sizes.limits.get("memory").and_then(|memory| bytes_of(memory));
        let variable = |asked: &str| match asked {
            "TOUCHLINE_MEMORY_LIMIT" => limit.map(|bytes| bytes.to_string()),
            "POD_NAME" => Some("pod".to_owned()),
            asked => self.sizes.env.get(asked).cloned(),
        };
        let loaded = config::load_for_elsewhere(name, &text, &variable).map_err(|problems| {
            format!("{problems}\nthe proxy's variables are those of --set env.NAME=VALUE, POD_NAME and TOUCHLINE_MEMORY_LIMIT")
        })?;
        self.warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        self.planes = Planes::of(&loaded.config).map_err(|problem| format!("error: {name}: {problem}"))?;
        if self.planes.control.is_none() {
            self.warnings.push(format!(
                "warning: {name}: `control: off` leaves no way to drain: the pod gets no drain hook, and its end costs requests"
            ));
        }
        self.config = Some(text);
        Ok(())
    }
}

impl Planes {
    fn of(config: &Config) -> Result<Self, String> {
        let Some(admin) = config.admin.on() else {
            return Err(
                "`admin: off` leaves no probes, so that Kubernetes could not tell whether the proxy works: \
                        give `admin` a listener"
                    .to_owned(),
            );
        };
        let within_reach = |name: &str, listen: SocketAddr, who: &str| {
            if listen.ip().is_loopback() {
                return Err(format!(
                    "`{name}.listen` is {listen}, where {who} cannot reach it: write 0.0.0.0:{}",
                    listen.port()
                ));
            }
            Ok(listen.port())
        };
        let ingress = config.ingress.as_ref();
        let control = config.control.on();
        let usual = config::Control::default().listen;
        Ok(Self {
            ingress: ingress
                .map(|ingress| within_reach("ingress", ingress.listen, "a Service"))
                .transpose()?,
            claude: config.claude.as_ref().map(|claude| claude.listen.port()),
            admin: within_reach("admin", admin.listen, "the kubelet")?,
            control: control.map(|control| control.listen.port()),
            is_control_usual: control
                .is_none_or(|control| control.listen == usual && control.token.is_none()),
            backend: ingress.and_then(|ingress| match &ingress.backend {
                BackendAddress::Tcp { port, .. } => Some(*port),
                BackendAddress::Unix(_) => None,
            }),
            drain: config.drain.timeout,
        })
    }

    /// The ports that the proxy takes, with the planes that take them.
    pub(super) fn taken(&self) -> impl Iterator<Item = (u16, &'static str)> {
        let planes = [
            (self.ingress, "ingress"),
            (self.claude, "claude"),
            (Some(self.admin), "admin"),
            (self.control, "control"),
        ];
        planes.into_iter().filter_map(|(port, plane)| Some((port?, plane)))
    }
}

impl Sizes {
    fn read(pairs: &[String]) -> Result<Self, String> {
        let mut sizes = Self::default();
        for pair in pairs {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(format!("--set: `{pair}` is not KEY=VALUE"));
            };
            sizes.set(key, value).map_err(|problem| format!("--set {key}: {problem}"))?;
        }
        Ok(sizes)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let quantity = || match bytes_of(value).or_else(|| milli_of(value)) {
            Some(_) => Ok(value.to_owned()),
            None => Err(format!("`{value}` is not a quantity such as 64Mi or 100m")),
        };
        let time = || {
            let time = config::parse_duration(value).map_err(|error| error.to_string())?;
            if time.subsec_nanos() > 0 {
                return Err(format!("`{value}` is not a time in whole seconds"));
            }
            Ok(time)
        };
        match key {
            "resources.requests.cpu" => drop(self.requests.insert("cpu", quantity()?)),
            "resources.requests.memory" => drop(self.requests.insert("memory", quantity()?)),
            "resources.limits.cpu" => drop(self.limits.insert("cpu", quantity()?)),
            "resources.limits.memory" => drop(self.limits.insert("memory", quantity()?)),
            "imagePullPolicy" if matches!(value, "Always" | "IfNotPresent" | "Never") => {
                self.pull_policy = Some(value.to_owned());
            }
            "imagePullPolicy" => return Err(format!("`{value}` is not Always, IfNotPresent or Never")),
            "preStop.wait" => self.wait = time()?,
            "backend.preStop" => self.backend_wait = time()?,
            "backend.shutdown" => self.backend_shutdown = time()?,
            _ => match key.strip_prefix("env.") {
                Some(name) if is_variable(name) => drop(self.env.insert(name.to_owned(), value.to_owned())),
                _ => {
                    return Err(format!(
                        "there is no such setting; there are {} and env.NAME",
                        SETTINGS.join(", ")
                    ));
                }
            },
        }
        Ok(())
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !matches!(name, "POD_NAME" | "TOUCHLINE_MEMORY_LIMIT")
}

/// The name of a ConfigMap or Secret, as Kubernetes allows it.
fn named(flag: &str, given: Option<String>, usual: &str) -> Result<String, Refused> {
    let name = given.unwrap_or_else(|| usual.to_owned());
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_name = name.len() <= 253
        && name.chars().all(is_inner)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
        && !name.is_empty();
    if is_name {
        Ok(name)
    } else {
        Err(Refused::Usage(format!("{flag}: `{name}` is not a name that Kubernetes allows")))
    }
}

/// Bytes of a quantity of memory.
pub(super) fn bytes_of(text: &str) -> Option<u64> {
    let units: [(&str, u64); 9] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("", 1),
    ];
    units.iter().find_map(|(unit, size)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*size))
}

/// Thousandths of a quantity of processors.
fn milli_of(text: &str) -> Option<u64> {
    if let Some(milli) = text.strip_suffix('m') {
        return milli.parse().ok();
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 3 {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[&str]) -> Result<Sizes, String> {
        Sizes::read(&set.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn settings_are_read_or_refused_by_name() {
        let sizes = with(&["resources.limits.cpu=0.5", "preStop.wait=1m", "env.LEVEL=a=b"]).unwrap();
        assert_eq!(sizes.limits.get("cpu").map(String::as_str), Some("0.5"));
        assert_eq!(sizes.wait, Duration::from_secs(60));
        assert_eq!(sizes.env.get("LEVEL").map(String::as_str), Some("a=b"));

        for (pair, said) in [
            ("x", "KEY=VALUE"),
            ("resource.limits.cpu=1", "there is no such setting"),
            ("resources.limits.memory=64 MB", "not a quantity"),
            ("preStop.wait=1500ms", "whole seconds"),
            ("preStop.wait=15", "unit"),
            ("imagePullPolicy=always", "Always"),
            ("env.POD_NAME=x", "there is no such setting"),
        ] {
            let error = with(&[pair]).unwrap_err();
            assert!(error.contains(said), "{pair}: {error}");
        }
    }

    #[test]
    fn quantities_have_bytes() {
        for (text, bytes) in
            [("128Mi", Some(134_217_728)), ("1G", Some(1_000_000_000)), ("5", Some(5)), ("1.5Gi", None)]
        {
            assert_eq!(bytes_of(text), bytes, "{text}");
        }
    }

    #[test]
    fn listeners_come_from_the_configuration() {
        let read = |config: &str| {
            let config = Some(("proxy.yaml".to_owned(), config.to_owned()));
            Settings::new(Flags { image: Some("i".to_owned()), config, ..Flags::default() })
        };
        let token = "{ file: /etc/touchline-secrets/token }";
        let text = format!(
            "version: 1\ningress: {{ listen: 0.0.0.0:80, backend: http://127.0.0.1:3000 }}\nclaude: {{}}\n\
             control: {{ listen: 127.0.0.1:9191, token: {token} }}\n"
        );

        let planes = read(&text).unwrap().planes;

        assert_eq!((planes.ingress, planes.claude, planes.backend), (Some(80), Some(8081), Some(3000)));
        assert_eq!((planes.control, planes.is_control_usual), (Some(9191), false));
        let refused = |text: &str| read(text).unwrap_err().to_string();
        assert!(refused("version: 1\nadmin: off\nclaude: {}\n").contains("`admin: off` leaves no probes"));
        assert!(
            refused("version: 1\nadmin: { listen: 127.0.0.1:1 }\nclaude: {}\n")
                .contains("the kubelet cannot")
        );
        assert!(refused("version: 1\nclaude: { api_key: '${KEY}' }\n").contains("--set env.NAME=VALUE"));
        let off = read("version: 1\ncontrol: off\nclaude: {}\n").unwrap();
        assert!(off.warnings().any(|warning| warning.contains("no drain hook")));
    }
}
