//! `touchline run --take-over`: from one process to the next on the same addresses, without a refused or a lost request.
//!
//! The new process binds the addresses beside the old one (`SO_REUSEPORT`) and takes nothing yet. When it is ready it has
//! its sockets listen, so that new connections come to both, and tells the old one over the old one's control listener to
//! leave. That one takes what is queued for its sockets, closes them, asks who is connected to leave, and ends. If the new
//! process does not become ready, it ends and the old one has noticed nothing.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::{
    client::{Call, Client},
    orders,
};
use crate::{
    app::{App, Running, Surroundings},
    config::{Control, Loaded},
    net::signal::Signals,
};

/// How often the new process looks whether it is ready.
const LOOK: Duration = Duration::from_millis(20);

/// How long the old process may take for each answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts in the place of the process that listens on the control address of this configuration, or plainly where there is
/// none. Not to be called within a runtime; `runtime` is the one that hears the signals.
///
/// # Errors
/// When nothing can be taken over; the old process goes on then.
pub(super) fn start(
    loaded: Loaded,
    surroundings: Surroundings,
    patience: Duration,
    (runtime, signals): (&tokio::runtime::Runtime, &mut Signals),
) -> anyhow::Result<Running> {
    let Some(control) = loaded.config.control.on().cloned() else {
        bail!("--take-over needs the control listener, which is switched off (`control: off`)");
    };
    let address = orders::reachable(control.listen);
    if !is_served(address)? {
        info!(control = %address, "there is nothing to take over from; starting as usual");
        return App::start(loaded, surroundings);
    }
    let mut running = App::start_beside(loaded, surroundings)?;
    let taken = runtime.block_on(async {
        tokio::select! {
            signal = signals.next() => Err(anyhow::anyhow!("{signal} came before this process was ready")),
            taken = take(&mut running, &control, address, patience) => taken,
        }
    });
    if let Err(error) = taken {
        // Who has come here meanwhile is served before the end.
        running.give_back();
        running.stop()?;
        return Err(error.context("not taken over; the process that runs goes on"));
    }
    Ok(running)
}

fn is_served(address: SocketAddr) -> anyhow::Result<bool> {
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => {
            Err(error).with_context(|| format!("looking for a process to take over from at {address}"))
        }
    }
}

async fn take(
    running: &mut Running,
    control: &Control,
    address: SocketAddr,
    patience: Duration,
) -> anyhow::Result<()> {
    wait_until_ready(running, patience).await?;
    let mut old = Client::new(address);
    // Before this process listens there too: the connection is certainly to the old one.
    old.connect().await.with_context(|| format!("connecting to the control listener on {address}"))?;
    running.open()?;
    let order = Call::post("/hand-over", String::new());
    let order = match &control.token {
        Some(token) => order.with_bearer(token.expose()),
        None => order,
    };
    let answer = match timeout(PATIENCE, old.send(&order)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if has_ended(error.kind()) => {
            warn!(%error, "the process that was to be taken over from has ended by itself");
            return Ok(());
        }
        Ok(Err(error)) => {
            return Err(error).with_context(|| format!("asking the control listener on {address}"));
        }
        Err(_) => bail!("the control listener on {address} does not answer"),
    };
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status == 404 {
        bail!("the process at {address} is of a version that hands nothing over: restart it");
    }
    if answer.status != 200 {
        let detail = body.get("detail").and_then(serde_json::Value::as_str).unwrap_or("no reason given");
        bail!("the control listener on {address} refuses with {}: {detail}", answer.status);
    }
    info!(control = %address, "taken over: the process that ran before finishes what it has and ends");
    Ok(())
}

/// Returns when clients could come.
async fn wait_until_ready(running: &Running, patience: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + patience;
    loop {
        let Err(why) = running.is_ready() else { return Ok(()) };
        if Instant::now() >= end {
            bail!("not ready within {}: {why}", crate::config::format_duration(patience));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Errors of a peer that is no more.
fn has_ended(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::NotConnected
    )
}
