//! `touchline run`: from a configuration file to a running process, and from SIGTERM to its orderly end.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread,
};

use anyhow::Context as _;
use tracing::{info, warn};

use super::file::REFUSED;
use crate::{
    app::App,
    config::{self, Severity},
    net::signal::Signals,
    telemetry::{Sink, log},
};

/// Arguments of `touchline run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  touchline run                                  by proxy.yaml of this folder
  touchline run --config /etc/touchline/proxy.yaml

Exit codes: 0 after a drain, 1 if the configuration has errors or an address is taken, 2 if the command is not understood.")]
pub(crate) struct Arguments {
    /// The configuration to serve by
    #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
    config: PathBuf,
}

/// Serves until a signal says otherwise. The access log goes to standard output, everything else to standard error.
pub(crate) fn run(arguments: &Arguments, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let loaded = match config::load_file(&arguments.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(ExitCode::from(REFUSED));
        }
    };
    log::init(&loaded.config.telemetry.log).context("starting the log")?;
    for warning in loaded.warnings.iter().filter(|problem| problem.severity == Severity::Warning) {
        warn!(path = warning.path, line = warning.line, "{}", warning.message);
    }
    let sink = loaded.config.telemetry.access_log.enabled.then(|| Box::new(io::stdout()) as Sink);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the signal loop")?;
    // Before the listeners open: a signal that comes early must not kill the process in the middle of its start.
    let mut signals = {
        let _guard = runtime.enter();
        Signals::listen().context("listening for signals")?
    };
    let running = App::start(loaded, sink)?;
    let signal = runtime.block_on(signals.next());
    info!(signal, "asked to stop");
    let hurry = running.hurry();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let signal = runtime.block_on(signals.next());
            warn!(signal, "asked again; cutting what is in flight");
            hurry();
        })
        .context("starting the signal thread")?;
    running.stop()?;
    Ok(ExitCode::SUCCESS)
}
