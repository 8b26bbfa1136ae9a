//! `touchline diff`: what differs between two configurations, and what of it waits for a restart.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::file::{self, File, REFUSED};
use crate::config::{self, Change};

/// The exit code of a change that a running proxy cannot take.
const RESTART: u8 = 3;

/// Columns that places get, at most.
const WIDEST: usize = 60;

/// Arguments of `touchline diff`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline diff proxy.yaml proxy.new.yaml
  git show main:proxy.yaml | touchline diff - proxy.yaml
  touchline diff old.yaml new.yaml -o json

Exit codes: 0 if nothing differs or all of it is applied live, 3 if something needs a restart, 1 if a file has errors, 2 if
the command is not understood.")]
pub(crate) struct Arguments {
    /// The configuration that runs; - reads it from standard input
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The configuration that shall run
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Text)]
    output: Output,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Compares two configurations.
pub(crate) fn diff(
    arguments: &Arguments,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let (old, new) = match (file::open(&arguments.old, input), file::open(&arguments.new, input)) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            for problems in [old.err(), new.err()].into_iter().flatten() {
                writeln!(err, "{problems}\n")?;
            }
            return Ok(ExitCode::from(REFUSED));
        }
    };
    let changes = config::changes(&old.loaded.config, &new.loaded.config);
    match arguments.output {
        Output::Text => write_text(&changes, out)?,
        Output::Json => write_json(&old, &new, &changes, out)?,
    }
    let is_restart = changes.iter().any(|change| change.needs_restart);
    Ok(if is_restart { ExitCode::from(RESTART) } else { ExitCode::SUCCESS })
}

fn write_text(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "nothing differs");
    }
    let width = changes.iter().map(|change| change.path.chars().count()).max().unwrap_or(0).min(WIDEST);
    for (heading, needs_restart) in [("applied live", false), ("needs a restart", true)] {
        let group: Vec<&Change> =
            changes.iter().filter(|change| change.needs_restart == needs_restart).collect();
        if group.is_empty() {
            continue;
        }
        writeln!(out, "{heading}")?;
        for change in group {
            let (mark, text) = match (&change.old, &change.new) {
                (Some(old), Some(new)) if old == new => ('~', format!("{old}, which has changed")),
                (Some(old), Some(new)) => ('~', format!("{old} -> {new}")),
                (None, Some(new)) => ('+', new.clone()),
                (Some(old), None) => ('-', old.clone()),
                (None, None) => ('~', String::new()),
            };
            writeln!(out, "  {mark} {:width$}  {}", printable(&change.path), printable(&text))?;
        }
    }
    let count = changes.iter().filter(|change| change.needs_restart).count();
    let noun = if changes.len() == 1 { "change" } else { "changes" };
    match count {
        0 => writeln!(out, "{} {noun}, applied live", changes.len()),
        1 => writeln!(out, "{} {noun}, 1 needs a restart", changes.len()),
        count => writeln!(out, "{} {noun}, {count} need a restart", changes.len()),
    }
}

fn write_json(old: &File, new: &File, changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    let side = |file: &File| json!({ "file": file.name, "hash": file.loaded.hash });
    let is_restart = changes.iter().any(|change| change.needs_restart);
    let value =
        json!({ "old": side(old), "new": side(new), "needs_restart": is_restart, "changes": changes });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out)
}

/// The text without characters that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::ExitCode};

    use super::{Arguments, Output, diff};

    fn compare(old: &str, new: &str, output: Output) -> (ExitCode, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("old.yaml"), folder.path().join("new.yaml"));
        fs::write(&path, old).unwrap();
        fs::write(&other, new).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let arguments = Arguments { old: path, new: other, output };
        let code = diff(&arguments, &mut std::io::empty(), &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    const OLD: &str = "version: 1\ningress: { backend: \"http://127.0.0.1:8000\", routes: [{ path: /a, cache: { ttl: 1m } }, { path: /gone, deny: true }] }\nadmin: { token: hunter1 }\n";
    const NEW: &str = "version: 1\ningress: { backend: \"http://127.0.0.1:8000\", routes: [{ path: /new, cache: { ttl: 9s } }, { path: /a, cache: { ttl: 2m } }] }\nadmin: { token: hunter2 }\ncache: { memory: { size: 32MiB } }\n";

    #[test]
    fn changes_are_told_in_two_groups_and_the_exit_code_says_which() {
        let (code, out, err) = compare(OLD, NEW, Output::Text);

        let expected = "\
applied live
  - ingress.routes[/gone]        { path: /gone, deny: true }
  + ingress.routes[/new]         { path: /new, cache: { ttl: 9s } }
  ~ ingress.routes[/a].cache.ttl  1m -> 2m
  ~ admin.token                  ***, which has changed
needs a restart
  ~ cache.memory.size            64MiB -> 32MiB
5 changes, 1 needs a restart
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!((code, err.as_str()), (ExitCode::from(3), ""));
        assert_eq!(squeezed(&out), squeezed(expected));
        let columns: Vec<usize> = ["64MiB ->", "***", "1m ->"]
            .iter()
            .map(|text| out.lines().find_map(|line| line.find(text)).unwrap())
            .collect();
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{out}");
    }

    #[test]
    fn what_is_applied_live_or_does_not_differ_is_no_failure() {
        let live = NEW.replace("cache: { memory: { size: 32MiB } }\n", "");

        assert_eq!(compare(OLD, &live, Output::Text).0, ExitCode::SUCCESS);
        let same = compare(OLD, &format!("# a comment\n{OLD}"), Output::Text);
        assert_eq!((same.0, same.1.as_str()), (ExitCode::SUCCESS, "nothing differs\n"));
    }

    #[test]
    fn a_file_with_errors_is_refused_whichever_it_is() {
        let (code, out, err) = compare("version: 2\n", "version: 3\n", Output::Text);

        assert_eq!((code, out.as_str()), (ExitCode::from(1), ""));
        assert!(err.contains("old.yaml") && err.contains("new.yaml"), "{err}");
    }

    #[test]
    fn programs_get_every_change() {
        let (code, out, _) = compare(OLD, NEW, Output::Json);

        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &value["needs_restart"]), (ExitCode::from(3), &true.into()));
        assert_eq!(value["changes"].as_array().unwrap().len(), 5);
        let added = value["changes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|change| change["path"] == "ingress.routes[/new]");
        assert_eq!(added.unwrap()["old"], serde_json::Value::Null);
        assert!(value["old"]["hash"].as_str().unwrap().len() == 12 && !out.contains("hunter"), "{out}");
    }
}
