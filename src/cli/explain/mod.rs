//! `touchline explain`: why is this URL not cached? The configuration says how a request is taken, the backend is asked
//! as the proxy would ask it, and a running touchline says what it has stored. `explain router` is in `router`, and
//! `explain KEY` in `key`.

mod key;
pub(super) mod page;
mod router;
pub(super) mod words;

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use self::{page::Page, words::Store};
use super::{
    file::{REFUSED, USAGE},
    orders,
};
use crate::{
    admin::{EntryAsked, EntryFound},
    app,
    cache::Clock,
    config::{self, Loaded},
    ingress::{Explanation, Question},
};

/// Where the running process is asked.
const ENTRY: &str = "/api/v1/cache/entry";

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// Arguments of `touchline explain`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
#[command(after_help = "Examples:
  touchline explain http://coach.example/api/challenges?difficulty=easy
  touchline explain -H 'Authorization: Bearer x' /api/session/42 --no-fetch
  touchline explain cache.memory.size            what a key does
  touchline explain router 'ok thanks, see you Friday!'

Exit codes: 0, 1 if the configuration has errors, 2 if the question is not understood.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// The configuration to explain by; it also names the control listener of the running touchline
    #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
    config: PathBuf,
    /// The method of the request
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A field of the request, such as 'Cookie: session=1'; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_field)]
    headers: Vec<(String, String)>,
    /// The address that the request comes from; without it the loopback, or a trusted proxy for an https URL
    #[arg(long, value_name = "IP")]
    peer: Option<IpAddr>,
    /// Do not ask the backend
    #[arg(long)]
    no_fetch: bool,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Form::Text)]
    output: Form,
    /// The URL that clients ask for, or a path; or a key of the configuration, such as cache.memory.size
    #[arg(value_name = "URL | KEY", required = true)]
    url: Option<String>,
}

/// What can be explained besides a URL.
#[derive(Debug, Subcommand)]
enum Other {
    /// Say which model would answer a text or a call to Claude, and why
    Router(router::Arguments),
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How a person sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Columns of the terminal.
    pub(crate) columns: usize,
    /// Whether colours are welcome.
    pub(crate) has_colour: bool,
}

impl Look {
    /// The look for a terminal; `env` gives the width where the shell tells it.
    pub(crate) fn of(has_colour: bool, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let columns = env("COLUMNS").and_then(|columns| columns.parse().ok());
        Self { columns: columns.unwrap_or(COLUMNS), has_colour }
    }
}

/// Explains a request.
pub(crate) fn explain(
    arguments: &Arguments,
    look: Look,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    if let Some(Other::Router(arguments)) = &arguments.other {
        return router::run(arguments, look, out, err);
    }
    let url = arguments.url.as_deref().unwrap_or_default();
    if key::is_key(url) {
        return key::explain(url, arguments.output, look, out, err);
    }
    let loaded = match config::load_file(&arguments.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(ExitCode::from(REFUSED));
        }
    };
    let question = match Question::new(&arguments.method, url, &arguments.headers, arguments.peer) {
        Ok(question) => question,
        Err(error) => {
            writeln!(err, "touchline: {error}")?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime of the question")?;
    let told = runtime.block_on(async {
        let explainer = app::explainer(&loaded.config, Clock::system())?;
        anyhow::Ok(explainer.explain(&question, !arguments.no_fetch).await)
    })?;
    let store = ask_store(&loaded, &question, &told);
    match arguments.output {
        Form::Text => out.write_all(text(&told, store.as_ref(), &loaded.hash, look).as_bytes())?,
        Form::Json => write_json(&told, store.as_ref(), &loaded.hash, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a running touchline has stored; none for a request that is refused before it gets to the cache.
fn ask_store(loaded: &Loaded, question: &Question, told: &Explanation) -> Option<Store> {
    told.key.as_ref()?;
    let Some(control) = loaded.config.control.on() else {
        let why = "the configuration switches the control listener off (`control: off`)";
        return Some(Store::Silent(why.to_owned()));
    };
    let asked = EntryAsked {
        method: question.method().to_string(),
        url: question.target().to_owned(),
        headers: question.fields(),
        peer: question.peer(),
    };
    let answer = serde_json::to_string(&asked)
        .map_err(anyhow::Error::from)
        .and_then(|body| orders::ask(control, ENTRY, body))
        .and_then(|answer| Ok(serde_json::from_value::<EntryFound>(answer)?));
    Some(match answer {
        Ok(found) => Store::Found(Box::new(found)),
        Err(error) => Store::Silent(silence(&error, control.listen)),
    })
}

/// Why a running process says nothing; most often there is none.
fn silence(error: &anyhow::Error, listen: SocketAddr) -> String {
    let cause = error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind);
    if cause == Some(io::ErrorKind::ConnectionRefused) {
        return format!("no touchline runs here: nothing listens on {listen} (`control.listen`)");
    }
    format!("{error:#}")
}

fn text(told: &Explanation, store: Option<&Store>, hash: &str, look: Look) -> String {
    let mut page = Page::new(look.columns, look.has_colour);
    words::write(&mut page, told, store, hash);
    page.finish()
}

fn write_json(
    told: &Explanation,
    store: Option<&Store>,
    hash: &str,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(told)?;
    if let Value::Object(members) = &mut value {
        members.insert("config_hash".to_owned(), json!(hash));
        let (found, why) = match store {
            Some(Store::Found(found)) => (serde_json::to_value(found)?, Value::Null),
            Some(Store::Silent(why)) => (Value::Null, json!(why)),
            None => (Value::Null, Value::Null),
        };
        members.insert("stored_now".to_owned(), found);
        members.insert("stored_now_unknown".to_owned(), why);
    }
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out).map_err(io::Error::into)
}

/// `Name: value`, as curl takes it.
pub(super) fn parse_field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a field is written `Name: value`")?;
    if name.trim().is_empty() || name.trim() != name {
        return Err("a field is written `Name: value`, without a space before the colon".to_owned());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests;
