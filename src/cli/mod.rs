//! The command line.

mod advise;
mod check;
mod client;
mod demo;
mod diff;
mod explain;
mod file;
mod generate;
mod inject;
mod live;
mod orders;
mod probe;
mod reference;
mod report;
mod routes;
mod run;
mod schema;
mod service;
mod take_over;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config;

pub use reference::reference_markdown;

/// A sidecar that caches, times and watches the HTTP backend beside it.
#[derive(Debug, Parser)]
#[command(name = "touchline", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Examples:
  touchline check proxy.yaml
  touchline run --config proxy.yaml
  touchline explain http://coach.example/api/challenges
  touchline top

Exit codes: 0 if all is well, 1 if something is wrong, 2 if the command is not understood. A command that has others says so.")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as configured, until SIGTERM
    Run(run::Arguments),
    /// Show touchline at work in front of a pretended coaching backend
    Demo(demo::Arguments),
    /// Check a configuration and say everything that is wrong with it
    Check(check::CheckArgs),
    /// Say what differs between two configurations, and what of it needs a restart
    Diff(diff::Arguments),
    /// Say why a URL is cached, or why it is not; what a key does; or which model answers a call to Claude
    Explain(explain::Arguments),
    /// Say what the routes of a configuration make of requests, without a running touchline or a backend
    Routes(routes::Arguments),
    /// Say what a running touchline that observes would cache, for how long, as routes to paste
    Advise(advise::Arguments),
    /// Show what a running touchline sees, on a screen that lives
    Top(live::TopArguments),
    /// Print a line for each request that a running touchline answers
    Tap(live::TapArguments),
    /// Print verdict and routes of a running touchline, once
    Stat(live::StatArguments),
    /// End cached answers of a running touchline
    Purge(orders::PurgeArguments),
    /// Have a running touchline look at its configuration at once
    Reload(orders::ReloadArguments),
    /// Take a running touchline out of service: no longer ready, but still serving
    Drain(orders::DrainArguments),
    /// Put touchline beside the backend in Kubernetes manifests
    Inject(inject::InjectArguments),
    /// Take touchline out of Kubernetes manifests again
    Uninject(inject::UninjectArguments),
    /// Get a URL and say by the exit code whether the answer is 2xx, for probes and hooks
    Probe(probe::Arguments),
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = "Examples:
  touchline schema > proxy.schema.json")]
    Schema,
    /// Print completions for a shell
    Completions(generate::CompletionsArguments),
    /// Print the manual page
    Man(generate::ManArguments),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => {
            // Printing fails only when nobody is there to read it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let result: anyhow::Result<ExitCode> = match command_line.command {
        Command::Run(arguments) => run::run(&arguments, &mut err),
        Command::Demo(arguments) => {
            let terminal = demo::Terminal::of(out.is_terminal(), &config::variable);
            demo::run(&arguments, terminal, &mut out).map(|()| ExitCode::SUCCESS)
        }
        Command::Check(arguments) => {
            check::check(&arguments, &mut io::stdin().lock(), &mut out, &mut err).map_err(Into::into)
        }
        Command::Diff(arguments) => {
            diff::diff(&arguments, &mut io::stdin().lock(), &mut out, &mut err).map_err(Into::into)
        }
        Command::Explain(arguments) => {
            let terminal = demo::Terminal::of(out.is_terminal(), &config::variable);
            let look = explain::Look::of(terminal.colour, &config::variable);
            explain::explain(&arguments, look, &mut out, &mut err)
        }
        Command::Routes(arguments) => {
            let terminal = demo::Terminal::of(out.is_terminal(), &config::variable);
            let look = explain::Look::of(terminal.colour, &config::variable);
            routes::routes(&arguments, look, (&mut io::stdin().lock(), &mut out, &mut err))
        }
        Command::Advise(arguments) => advise::advise(&arguments, &mut out).map(|()| ExitCode::SUCCESS),
        Command::Top(arguments) => {
            let terminal = demo::Terminal::of(out.is_terminal(), &config::variable);
            Ok(live::top(&arguments, terminal, &config::variable, (&mut out, &mut err)))
        }
        Command::Tap(arguments) => {
            let terminal = demo::Terminal::of(out.is_terminal(), &config::variable);
            Ok(live::tap(&arguments, terminal, &config::variable, (&mut out, &mut err)))
        }
        Command::Stat(arguments) => {
            let terminal = demo::Terminal::of(out.is_terminal(), &config::variable);
            Ok(live::stat(&arguments, terminal, &config::variable, (&mut out, &mut err)))
        }
        Command::Purge(arguments) => orders::purge(&arguments, &mut out).map(|()| ExitCode::SUCCESS),
        Command::Reload(arguments) => orders::reload(&arguments, &mut out).map(|()| ExitCode::SUCCESS),
        Command::Drain(arguments) => {
            let is_watched = out.is_terminal();
            orders::drain(&arguments, is_watched, &mut out).map(|()| ExitCode::SUCCESS)
        }
        Command::Inject(arguments) => inject::inject(&arguments, &mut io::stdin(), (&mut out, &mut err)),
        Command::Uninject(arguments) => inject::uninject(&arguments, &mut io::stdin(), (&mut out, &mut err)),
        Command::Probe(arguments) => probe::probe(&arguments, &mut out).map(|()| ExitCode::SUCCESS),
        Command::Schema => schema::schema(&mut out).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Completions(arguments) => {
            let written = generate::completions(&arguments, CommandLine::command(), &mut out);
            written.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Man(arguments) => {
            generate::man(&arguments, CommandLine::command(), &mut out).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(err, "touchline: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests;
