//! `touchline routes test`: what a configuration makes of a request, from the file alone. The stages that serve requests
//! decide, as for `touchline explain`; nothing is asked over the network. `expect` holds a list of requests to what is
//! written down about them.

mod expect;
mod words;

use std::{
    io::{self, Read, Write},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    explain::{Look, parse_field},
    file::{self, REFUSED, USAGE},
};
use crate::{
    app,
    cache::Clock,
    config::Config,
    ingress::{Explainer, Explanation, Question},
};

/// Arguments of `touchline routes`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
#[command(after_help = "Examples:
  touchline routes test GET /api/challenges
  touchline routes test --expect routes.expected.yaml")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say which route a request takes, whether the cache is asked and why, and which limits hold
    Test(Box<TestArguments>),
}

/// Arguments of `touchline routes test`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline routes test GET '/api/challenges?difficulty=easy'
  touchline routes test GET https://coach.example/api/session/42 -H 'Authorization: Bearer x'
  touchline routes test POST /api/session/42/confirm -c deploy/proxy.yaml -o json
  touchline routes test --expect routes.expected.yaml

A file of expectations is a list of requests, each with what has to be true of it:
  - request: GET /api/challenges?difficulty=easy
    headers: { Accept-Language: de }
    route: /api/challenges        its path in the file, or unmatched
    cache: lookup                 or refresh, the reason of a bypass such as authorization, refused, or own
    ttl: 30m                      also stale_while_revalidate, stale_if_error
    tags: [challenges]
    key: { query: difficulty=easy }
    settings: { public: true, limits.body: 10MiB }
  - { request: GET /internal/keys, refused: denied }

Exit codes: 0, 1 if the configuration has errors or something is not as expected, 2 if the command is not understood.")]
struct TestArguments {
    /// The configuration to ask; - reads it from standard input
    #[arg(short, long, value_name = "FILE", default_value = file::USUAL)]
    config: PathBuf,
    /// A field of the request, such as 'Cookie: session=1'; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_field)]
    headers: Vec<(String, String)>,
    /// The address that the request comes from; without it the loopback, or a trusted proxy for an https URL
    #[arg(long, value_name = "IP")]
    peer: Option<IpAddr>,
    /// A list of requests with what has to be true of each; exits with 1 if something is not
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "url", "headers", "peer"])]
    expect: Option<PathBuf>,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Text)]
    output: Output,
    /// The method of the request
    #[arg(value_name = "METHOD", required_unless_present = "expect")]
    method: Option<String>,
    /// The URL that clients ask for, or a path
    #[arg(value_name = "URL", required_unless_present = "expect")]
    url: Option<String>,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Standard input, output and error.
type Streams<'a> = (&'a mut dyn Read, &'a mut dyn Write, &'a mut dyn Write);

/// Answers questions about the routes of a configuration.
pub(crate) fn routes(arguments: &Arguments, look: Look, streams: Streams<'_>) -> anyhow::Result<ExitCode> {
    let What::Test(arguments) = &arguments.what;
    let (input, out, err) = streams;
    let file = match file::open(&arguments.config, input) {
        Ok(file) => file,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(ExitCode::from(REFUSED));
        }
    };
    let config = &file.loaded.config;
    let asker = Asker::new(config)?;
    if let Some(expectations) = &arguments.expect {
        let report = match expect::held(expectations, &asker) {
            Ok(report) => report,
            Err(error) => {
                writeln!(err, "error: {}: {error:#}", expectations.display())?;
                return Ok(ExitCode::from(REFUSED));
            }
        };
        match arguments.output {
            Output::Text => out.write_all(report.text().as_bytes())?,
            Output::Json => write_json(&serde_json::to_value(&report)?, out)?,
        }
        return Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) });
    }
    let (method, url) =
        (arguments.method.as_deref().unwrap_or_default(), arguments.url.as_deref().unwrap_or_default());
    let question = match Question::new(method, url, &arguments.headers, arguments.peer) {
        Ok(question) => question,
        Err(error) => {
            writeln!(err, "touchline: {error}")?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    let told = asker.ask(&question);
    match arguments.output {
        Output::Text => out.write_all(words::page(&told, look).as_bytes())?,
        Output::Json => write_json(&as_json(&told, &file.loaded.hash)?, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A plane that only decides.
struct Asker {
    explainer: Explainer,
    runtime: tokio::runtime::Runtime,
}

impl Asker {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime of the question")?;
        let guard = runtime.enter();
        let explainer = app::explainer(config, Clock::system())?;
        drop(guard);
        Ok(Self { explainer, runtime })
    }

    /// What the configuration makes of a request. The backend is not asked.
    fn ask(&self, question: &Question) -> Explanation {
        self.runtime.block_on(self.explainer.explain(question, false))
    }
}

/// What the cache does with a request in a word: `lookup` where it is asked, `refresh` where it is only filled, the
/// reason where it is passed by, `refused` where an error is the answer, `own` where touchline answers itself.
fn decision(told: &Explanation) -> &'static str {
    match (&told.refused, &told.admission) {
        (Some(_), _) => "refused",
        (None, None) => "own",
        (None, Some(admitted)) => match &admitted.why {
            Some(why) => why.reason,
            None if admitted.refreshes => "refresh",
            None => "lookup",
        },
    }
}

fn as_json(told: &Explanation, hash: &str) -> anyhow::Result<Value> {
    Ok(json!({
        "request": serde_json::to_value(&told.request)?,
        "cache": decision(told),
        "refused": serde_json::to_value(&told.refused)?,
        "route": serde_json::to_value(&told.route)?,
        "bypass": serde_json::to_value(told.admission.as_ref().and_then(|admitted| admitted.why.as_ref()))?,
        "key": serde_json::to_value(&told.key)?,
        "settings": serde_json::to_value(&told.settings)?,
        "tags": told.tags,
        "limits": serde_json::to_value(&told.limits)?,
        "config_hash": hash,
    }))
}

fn write_json(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
