//! `touchline run`: from a configuration file to a running process, and from SIGTERM to its orderly end.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread,
};

use anyhow::Context as _;
use tracing::{info, warn};

use crate::{
    app::{App, Surroundings},
    config::{self, Severity, Watched},
    net::signal::{Hangups, Signals},
    telemetry::{Sink, log},
};

/// The exit code of a configuration that is refused.
const REFUSED: u8 = 2;

/// Arguments of `touchline run`.
#[derive(Debug, clap::Args)]
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
    let level = log::init(&loaded.config.telemetry.log).context("starting the log")?;
    for warning in loaded.warnings.iter().filter(|problem| problem.severity == Severity::Warning) {
        warn!(path = warning.path, line = warning.line, "{}", warning.message);
    }
    let surroundings = Surroundings {
        access_log: Some(Box::new(io::stdout()) as Sink),
        level: Some(level),
        file: Some(Watched::new(arguments.config.clone())),
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
    let running = App::start(loaded, surroundings)?;
    let reload = running.reload();
    let signal = runtime.block_on(async {
        loop {
            tokio::select! {
                signal = signals.next() => return signal,
                () = hangups.next() => reload(),
            }
        }
    });
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
