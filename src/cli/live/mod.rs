//! What a running touchline sees, in a terminal: `touchline top` is a screen that lives, `touchline tap` a line per
//! request, `touchline stat` a table that is printed once. All three ask the admin listener's `/api/v1` and only read.
//!
//! The way of what is shown: `endpoint` says who is asked, `stream` reads the answer, `snapshot` takes it apart, and
//! `frame`, `routes`, `planes` and `detail` make lines of it, which are pure functions. Only `line` lets text out, and
//! nothing passes it that a terminal would obey: paths, names and messages come from strangers.

mod detail;
mod endpoint;
mod figures;
mod frame;
mod line;
mod planes;
mod routes;
mod screen;
mod snapshot;
mod stat;
mod state;
mod stream;
mod tap;
mod top;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::ValueEnum;

pub(super) use self::{
    stat::Arguments as StatArguments, tap::Arguments as TapArguments, top::Arguments as TopArguments,
};
pub(super) use self::{stat::stat, tap::tap, top::top};

/// The exit code of a question that cannot be asked.
const REFUSED: u8 = 2;

/// How far back rates and percentiles look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Window {
    /// The last minute.
    #[value(name = "1m")]
    Minute,
    /// The last five minutes.
    #[value(name = "5m")]
    Five,
    /// The last hour.
    #[value(name = "1h")]
    Hour,
}

impl Window {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Five => "5m",
            Self::Hour => "1h",
        }
    }

    const fn seconds(self) -> f64 {
        match self {
            Self::Minute => 60.0,
            Self::Five => 300.0,
            Self::Hour => 3600.0,
        }
    }

    /// The next longer one, or the shortest after the longest.
    const fn next(self) -> Self {
        match self {
            Self::Minute => Self::Five,
            Self::Five => Self::Hour,
            Self::Hour => Self::Minute,
        }
    }
}

/// The exit code of a result. Who cannot be asked is told in one sentence; a reader that left, as `head` does, is no
/// failure.
fn ended(result: anyhow::Result<ExitCode>, err: &mut dyn Write) -> ExitCode {
    result.unwrap_or_else(|error| {
        let cause = error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind);
        if cause == Some(io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(err, "touchline: {}", line::harmless(&format!("{error:#}")));
        ExitCode::from(REFUSED)
    })
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
