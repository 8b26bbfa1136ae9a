//! `touchline purge`, `touchline reload` and `touchline drain`: orders to a running touchline, over its control listener.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use super::{
    client::{Call, Client},
    file::USUAL,
};
use crate::config::{self, Admin, Config, Control};

/// Where a container has the file.
const FILE_OF_CONTAINERS: &str = "/etc/touchline/proxy.yaml";

/// How long an order may take. Purges and drains are done at once; what takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(5);

/// How often the count down of a drain is told.
const TICK: Duration = Duration::from_secs(1);

/// Arguments of `touchline purge`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline purge --url /api/challenges
  touchline purge --tag 'session:*' --soft       served as stale while a fresh answer is fetched
  touchline purge --route '/api/session/{session_id}'
  touchline purge --all -c /etc/touchline/proxy.yaml")]
pub(crate) struct PurgeArguments {
    #[command(flatten)]
    scope: Scope,
    /// Keep the entries as stale instead of ending them
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    listener: Listener,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Scope {
    /// All variants of a URL, with or without scheme and host
    #[arg(long)]
    url: Option<String>,
    /// URLs whose path begins so
    #[arg(long)]
    prefix: Option<String>,
    /// Entries with a tag; a trailing * stands for any ending
    #[arg(long)]
    tag: Option<String>,
    /// Entries that came by a route, named by its path in the configuration
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// Entries that are one user's own, named as in the claim or field of `identity`
    #[arg(long, value_name = "SUBJECT")]
    identity: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

/// Arguments of `touchline drain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline drain
  touchline drain --wait 15s                     as the preStop hook of a pod")]
pub(crate) struct DrainArguments {
    /// Return only after this time, such as 15s: load balancers need a moment to notice. As a preStop hook it has the pod
    /// stay that long
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    listener: Listener,
}

/// Arguments of `touchline reload`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline reload
  touchline reload -c /etc/touchline/proxy.yaml")]
pub(crate) struct ReloadArguments {
    #[command(flatten)]
    listener: Listener,
}

#[derive(Debug, Args)]
struct Listener {
    /// The configuration of the running touchline, which names its control listener and token; without it proxy.yaml or
    /// /etc/touchline/proxy.yaml, and where there is none 127.0.0.1:9091
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Ends entries.
pub(crate) fn purge(arguments: &PurgeArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let (kind, text) = arguments.scope.named();
    let mut order = Map::new();
    order.insert(kind.to_owned(), text.map_or(Value::Bool(true), Value::from));
    order.insert("soft".to_owned(), Value::Bool(arguments.soft));
    let answer = arguments.listener.post("/cache/purge", Value::Object(order).to_string())?;

    let what = text.map_or_else(|| "everything".to_owned(), |text| format!("{kind} {text}"));
    let end = if arguments.soft { " (kept as stale)" } else { "" };
    match answer.get("memory").and_then(Value::as_u64) {
        Some(1) => writeln!(out, "purged {what}: 1 entry{end}")?,
        Some(count) => writeln!(out, "purged {what}: {count} entries{end}")?,
        None => writeln!(out, "purged {what}{end}")?,
    }
    if answer.get("pending").and_then(Value::as_bool) == Some(true) {
        writeln!(out, "other replicas hear of it when Redis is back")?;
    }
    Ok(())
}

/// Has the file looked at, and says what came of it.
pub(crate) fn reload(arguments: &ReloadArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let answer = arguments.listener.post_as_it_runs("/reload")?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("outcome") {
        "unchanged" => writeln!(out, "unchanged: {} is in force", text("hash"))?,
        _ => writeln!(out, "{} is in force", text("hash"))?,
    }
    let keys = answer.get("needs_restart").and_then(Value::as_array);
    for key in keys.into_iter().flatten().filter_map(Value::as_str) {
        writeln!(out, "{key} waits for a restart")?;
    }
    Ok(())
}

/// Begins a drain, and returns when the time is over that it was told to wait, counted from its own start. On a terminal it
/// counts down.
pub(crate) fn drain(arguments: &DrainArguments, is_watched: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let start = Instant::now();
    arguments.listener.post_as_it_runs("/drain")?;
    writeln!(out, "draining: no longer ready, still serving until a signal comes")?;
    let Some(time) = arguments.wait else { return Ok(()) };
    if is_watched {
        count_down(start + time, out)?;
    }
    thread::sleep(time.saturating_sub(start.elapsed()));
    Ok(())
}

/// Says each second how much is left, in one line that it takes away again.
fn count_down(end: Instant, out: &mut dyn Write) -> io::Result<()> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let seconds = left.as_millis().div_ceil(1000);
        if seconds == 0 {
            break;
        }
        // To the end of the line is cleared, as the number gets shorter.
        write!(out, "\r{seconds} s left\x1b[K")?;
        out.flush()?;
        thread::sleep(left.min(TICK));
    }
    write!(out, "\r\x1b[K")?;
    out.flush()
}

impl Scope {
    /// The member of the order, and its text; everything has none.
    fn named(&self) -> (&'static str, Option<&str>) {
        let texts = [
            ("url", &self.url),
            ("prefix", &self.prefix),
            ("tag", &self.tag),
            ("route", &self.route),
            ("identity", &self.identity),
        ];
        let named = texts.into_iter().find_map(|(kind, text)| Some((kind, Some(text.as_deref()?))));
        named.unwrap_or(("all", None))
    }
}

impl Listener {
    /// Posts an order and reads the answer to it.
    fn post(&self, target: &str, body: String) -> anyhow::Result<Value> {
        ask(&self.control()?, target, body)
    }

    /// The same to a process whose file may have become unusable while it runs. In a pod its end does not depend on that:
    /// there is one touchline, and it is usually where it is by default. On a host that might be another one.
    fn post_as_it_runs(&self, target: &str) -> anyhow::Result<Value> {
        match self.control() {
            Err(unusable) if config::is_in_kubernetes() => {
                ask(&Control::default(), target, String::new()).map_err(|_| unusable)
            }
            control => ask(&control?, target, String::new()),
        }
    }

    fn control(&self) -> anyhow::Result<Control> {
        let file = match &self.config {
            Some(file) => file.as_path(),
            None => match [USUAL, FILE_OF_CONTAINERS].map(Path::new).into_iter().find(|file| file.exists()) {
                Some(file) => file,
                None => return Ok(Control::default()),
            },
        };
        let control = usable(file)?.control.on().cloned();
        let off = || format!("{} switches the control listener off (`control: off`)", file.display());
        control.with_context(off)
    }
}

/// Posts to a control listener and reads the answer. Not to be called within a runtime: it has one of its own.
pub(super) fn ask(control: &Control, target: &str, body: String) -> anyhow::Result<Value> {
    let address = reachable(control.listen);
    let mut call = Call::post(target, body);
    if let Some(token) = &control.token {
        call = call.with_bearer(token.expose());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reply = runtime.block_on(async { timeout(DEADLINE, Client::new(address).send(&call)).await });
    let reply = reply
        .with_context(|| format!("the control listener on {address} does not answer"))?
        .with_context(|| format!("asking the control listener on {address}"))?;
    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if !(200..300).contains(&reply.status) {
        let detail = answer.get("detail").or_else(|| answer.get("error"));
        let detail = detail.and_then(Value::as_str).unwrap_or("no reason given");
        bail!("the control listener on {address} refuses with {}: {detail}", reply.status);
    }
    Ok(answer)
}

/// The admin listener that a configuration names: that of `file`, else of proxy.yaml. `is_named` says that an address was
/// given, which stands without a file.
///
/// # Errors
/// When the file cannot be used, or switches the listener off.
pub(super) fn admin_listener(file: Option<&Path>, is_named: bool) -> anyhow::Result<Admin> {
    let file = match file {
        Some(file) => file,
        // Who names an address need not have the file; one that happens to lie here may be another's.
        None if !is_named && Path::new(USUAL).exists() => Path::new(USUAL),
        None => return Ok(Admin::default()),
    };
    match usable(file)?.admin.on() {
        Some(admin) => Ok(admin.clone()),
        None if is_named => Ok(Admin::default()),
        None => bail!("{} switches the admin listener off (`admin: off`)", file.display()),
    }
}

/// The configuration in a file that names a listener.
fn usable(file: &Path) -> anyhow::Result<Config> {
    let shown = file.display();
    let loaded = config::load_file(file);
    loaded
        .map(|loaded| loaded.config)
        .map_err(|_| anyhow!("{shown} cannot be used; `touchline check -c {shown}` says why"))
}

/// Where a listener is reached from its own host: one that listens everywhere does so on the loopback too.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{count_down, reachable};

    #[test]
    fn who_watches_sees_the_seconds_go_and_then_an_empty_line() {
        let mut out = Vec::new();
        let end = Instant::now() + Duration::from_millis(1200);

        count_down(end, &mut out).unwrap();

        assert_eq!(String::from_utf8(out).unwrap(), "\r2 s left\x1b[K\r1 s left\x1b[K\r\x1b[K");
        assert!(Instant::now() >= end);
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_the_loopback() {
        let table = [
            ("0.0.0.0:9091", "127.0.0.1:9091"),
            ("[::]:9091", "[::1]:9091"),
            ("10.1.2.3:9091", "10.1.2.3:9091"),
        ];

        for (listen, reached) in table {
            assert_eq!(reachable(listen.parse().unwrap()), reached.parse().unwrap(), "{listen}");
        }
    }
}
