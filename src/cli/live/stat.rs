//! `touchline stat`: verdict and routes, printed once.

use std::{io::Write, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{
    Window, ended,
    endpoint::Source,
    figures::{self, Glyphs},
    frame,
    line::{self, Line, Paint},
    planes,
    routes::{self, PRINTED, PRINTED_WIDE, Sort},
    snapshot::Snapshot,
    state::Wanted,
    top::asked,
};
use crate::cli::demo::Terminal;

/// The score below which the exit code says so.
const HEALTHY: u64 = 70;

/// The exit code of bad health, where it is asked for.
const UNHEALTHY: u8 = 1;

/// Arguments of `touchline stat`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline stat                                 routes of the last five minutes
  touchline stat -o wide --window 1h
  touchline stat --exit-code >/dev/null || echo unhealthy
  touchline stat -o json | jq -r '.routes[] | select(.over_limit) | .key'
  touchline stat -o json | jq '{score: .health.score, p95: .tiles.p95_ms, hits: .cache.hit_percent}'

Exit codes: 0; with --exit-code 1 if the score is below 70; 2 if it cannot be asked.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// How far back rates and percentiles look
    #[arg(short, long, value_enum, value_name = "TIME", default_value = "5m")]
    window: Window,
    /// All pods as one, where the listener knows the others
    #[arg(long)]
    merged: bool,
    /// What routes are sorted by
    #[arg(short, long, value_enum, value_name = "COLUMN", default_value = "rate")]
    sort: Sort,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "table")]
    output: Form,
    /// End with 1 if the health score is below 70
    #[arg(long)]
    exit_code: bool,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Verdict and routes.
    Table,
    /// With more columns, the other parts and the alerts.
    Wide,
    /// The whole answer, for programs.
    Json,
}

/// Prints it.
pub(crate) fn stat(
    arguments: &Arguments,
    terminal: Terminal,
    env: &dyn Fn(&str) -> Option<String>,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> ExitCode {
    let result = arguments.source.endpoint(env).and_then(|endpoint| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let wanted = Wanted { window: arguments.window, is_merged: arguments.merged };
        let (snapshot, members) = runtime.block_on(asked(&endpoint, wanted))?;
        match arguments.output {
            Form::Json => writeln!(out, "{}", line::harmless_json(&serde_json::to_string_pretty(&members)?))?,
            form => {
                for line in page(&snapshot, form == Form::Wide, (arguments.window, arguments.sort)) {
                    writeln!(out, "{}", line.ansi(terminal.colour))?;
                }
            }
        }
        out.flush()?;
        if !arguments.exit_code {
            return Ok(ExitCode::SUCCESS);
        }
        let score = snapshot.health.and_then(|health| health.score);
        match score.context("the answer has no health score")? {
            HEALTHY.. => Ok(ExitCode::SUCCESS),
            _ => Ok(ExitCode::from(UNHEALTHY)),
        }
    });
    ended(result, err)
}

/// The lines of a table; wide, with everything else that one asks for next.
pub(super) fn page(snapshot: &Snapshot, is_wide: bool, (window, sort): (Window, Sort)) -> Vec<Line> {
    let now = snapshot.at.as_deref();
    let meta = &snapshot.meta;
    let mut title = Line::of(meta.service.as_deref().unwrap_or("touchline"), Paint::Strong);
    if let Some(pod) = &meta.pod {
        title.push(&format!("  {pod}"), Paint::Soft);
    }
    title.push(&format!("  last {} at {} UTC", window.as_str(), figures::clock(now)), Paint::Soft);
    let mut lines = vec![title];
    if let Some(health) = &snapshot.health {
        let score = health.score.map_or_else(|| figures::UNKNOWN.to_owned(), |score| score.to_string());
        let headline = health.headline.as_deref().or(health.status.as_deref()).unwrap_or(figures::UNKNOWN);
        lines.push(Line::of(&format!("{score:>5}  {headline}"), frame::paint_of(health)));
        lines.extend(frame::reasons(health, now));
    }
    lines.extend(frame::silent(snapshot));
    lines.push(frame::tiles(snapshot, window));
    lines.push(Line::default());
    let chosen = routes::chosen(&snapshot.routes, "", sort, false);
    if chosen.is_empty() {
        lines.push(Line::of("  no requests in this window", Paint::Soft));
    } else {
        let columns: &[routes::Column] = if is_wide { &PRINTED_WIDE } else { &PRINTED };
        lines.extend(routes::printed(&chosen, columns, Glyphs::Ascii));
    }
    if is_wide {
        lines.push(Line::default());
        lines.extend(planes::planes(snapshot));
        lines.extend(snapshot.alerts.iter().flat_map(|alerts| planes::alerts(alerts, now)));
    }
    lines
}
