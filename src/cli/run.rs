//! `touchline run`: from a configuration file to a running process, and from SIGTERM to its orderly end.

use std::{
    io::{self, Write},
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tracing::{info, warn};

use super::{file::REFUSED, service::Manager, take_over};
use crate::{
    app::{App, Surroundings},
    config::{self, Reading, Severity, Watched},
    net::signal::{Hangups, Signals},
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
    /// Take over from the touchline that runs on the same addresses, without losing a request, once this one is ready; give
    /// up, and leave it running, after this time. Where none runs, start as usual
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
        value_parser = config::parse_duration)]
    take_over: Option<Duration>,
}

/// Serves until a signal says otherwise. The access log goes to standard output, everything else to standard error.
pub(crate) fn run(arguments: &Arguments, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let file = Watched::new(arguments.config.clone());
    let Reading { fingerprint, loaded, .. } = file.read(Vec::new());
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(ExitCode::from(REFUSED));
        }
    };
    let level = log::init(&loaded.config.telemetry.log).context("starting the log")?;
    for warning in loaded.warnings.iter().filter(|problem| problem.severity == Severity::Warning) {
        warn!(path = warning.path, line = warning.line, "{}", warning.message);
    }
    let surroundings = Surroundings {
        access_log: Some(Box::new(io::stdout()) as Sink),
        level: Some(level),
        file: Some((file, fingerprint)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the signal loop")?;
    // Before the listeners open: a signal that comes early must not kill the process in the middle of its start.
    let (mut signals, mut hangups) = {
        let _guard = runtime.enter();
        let hangups = Hangups::listen().context("listening for signals")?;
        (Signals::listen().context("listening for signals")?, hangups)
    };
    let running = match arguments.take_over {
        None => App::start(loaded, surroundings)?,
        Some(patience) => take_over::start(loaded, surroundings, patience, (&runtime, &mut signals))?,
    };
    let manager = Manager::new(config::notify_socket());
    manager.ready();
    let handed_over = running.handed_over();
    let reload = running.reload();
    let is_told = runtime.block_on(async {
        let mut handed_over = pin!(handed_over);
        loop {
            tokio::select! {
                signal = signals.next() => {
                    info!(signal, "asked to stop");
                    manager.stopping();
                    return true;
                }
                () = hangups.next() => reload(),
                // The service goes on, in another process.
                () = &mut handed_over => return false,
            }
        }
    });
    let hurry = running.hurry();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if !is_told {
                let signal = runtime.block_on(signals.next());
                info!(signal, "asked to stop; leaving already");
            }
            let signal = runtime.block_on(signals.next());
            warn!(signal, "asked again; cutting what is in flight");
            hurry();
        })
        .context("starting the signal thread")?;
    running.stop()?;
    Ok(ExitCode::SUCCESS)
}
