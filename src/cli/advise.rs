//! `touchline advise`: what a running touchline that observes would cache for how long, as routes to paste.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    client::{Call, Client},
    orders::{admin_listener, reachable},
};

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Arguments of `touchline advise`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline advise                               routes to paste into proxy.yaml
  touchline advise --admin 127.0.0.1:9090 --json")]
pub(crate) struct Arguments {
    /// The configuration of the running touchline, which names its admin listener and token; without it proxy.yaml, and
    /// where there is none 127.0.0.1:9090
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin listener to ask, such as 10.1.2.3:9090, in place of the one that the configuration names
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Print all numbers as JSON instead of routes as YAML
    #[arg(long)]
    json: bool,
}

/// Prints the advice.
pub(crate) fn advise(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let admin = admin_listener(arguments.config.as_deref(), arguments.admin.is_some())?;
    let address = arguments.admin.unwrap_or_else(|| reachable(admin.listen));
    let format = if arguments.json { "json" } else { "yaml" };
    let mut call = Call::get(format!("/api/v1/advise?format={format}"));
    if let Some(token) = &admin.token {
        call = call.with_bearer(token.expose());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reply = runtime.block_on(async { timeout(DEADLINE, Client::new(address).send(&call)).await });
    let reply = reply
        .with_context(|| format!("the admin listener on {address} does not answer"))?
        .with_context(|| format!("asking the admin listener on {address}"))?;
    if reply.status != 200 {
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let detail = answer.get("detail").and_then(Value::as_str).unwrap_or("no reason given");
        bail!("the admin listener on {address} refuses with {}: {detail}", reply.status);
    }
    out.write_all(&reply.body)?;
    if !reply.body.ends_with(b"\n") {
        writeln!(out)?;
    }
    Ok(())
}
