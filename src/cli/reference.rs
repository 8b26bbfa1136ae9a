//! `docs/cli.md`, written from the definition of the command line.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::CommandLine;

const INTRODUCTION: &str = "\
# Commands

<!-- Generated from src/cli by `UPDATE_DOCS=1 cargo test --test documents`; edit the doc comments there. -->

Every command says the same with `--help`. `touchline completions SHELL` teaches them to a shell, `touchline man --dir DIR`
to `man`. Commands that ask a running touchline are shown at length in [terminal.md](terminal.md).

- **Exit codes**: 0 if all is well, 1 if something is wrong (a configuration with errors, a request that is refused), 2 if
  the command is not understood. A command that has others says so below.
- Results go to standard output, everything else to standard error.
";

/// The reference of all commands, as Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut command = CommandLine::command().disable_help_subcommand(true);
    command.build();
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n| command | what it does |\n|---|---|\n");
    for (name, below) in all(&command) {
        let about = about(below);
        let anchor: String = name
            .chars()
            .map(|c| if c == ' ' { '-' } else { c })
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        let _ = writeln!(text, "| [`{name}`](#{anchor}) | {about} |");
    }
    for (name, below) in all(&command) {
        section(&mut text, &name, below);
    }
    text
}

/// All commands, each before those below it.
fn all(command: &Command) -> Vec<(String, &Command)> {
    fn walk<'a>(command: &'a Command, name: &str, list: &mut Vec<(String, &'a Command)>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let name = format!("{name} {}", below.get_name());
            list.push((name.clone(), below));
            walk(below, &name, list);
        }
    }
    let mut list = Vec::new();
    walk(command, command.get_name(), &mut list);
    list
}

fn about(command: &Command) -> String {
    cell(&command.get_about().map(ToString::to_string).unwrap_or_default())
}

fn section(text: &mut String, name: &str, command: &Command) {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).trim_end();
    let _ = write!(text, "\n## `{name}`\n\n{}.\n\n```text\n{usage}\n```\n", about(command));
    let arguments: Vec<&Arg> = command.get_arguments().filter(|argument| is_shown(argument)).collect();
    if !arguments.is_empty() {
        text.push_str("\n| argument | default | what it does |\n|---|---|---|\n");
        for argument in arguments {
            let _ =
                writeln!(text, "| {} | {} | {} |", names(argument), defaults(argument), meaning(argument));
        }
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for block in help.split("\n\n").filter(|block| !block.trim().is_empty()) {
        // What is indented, such as examples, keeps its lines.
        let (lead, lines) = block.split_once('\n').unwrap_or((block, ""));
        if lines.lines().any(|line| line.starts_with("  ")) {
            let _ = write!(text, "\n{lead}\n\n```text\n");
            for line in lines.lines() {
                let _ = writeln!(text, "{}", line.strip_prefix("  ").unwrap_or(line).trim_end());
            }
            text.push_str("```\n");
        } else {
            let _ = writeln!(text, "\n{block}");
        }
    }
}

fn is_shown(argument: &Arg) -> bool {
    !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
}

/// How an argument is written.
fn names(argument: &Arg) -> String {
    let value = if argument.get_action().takes_values() {
        argument
            .get_value_names()
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    } else {
        String::new()
    };
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let mut names: Vec<String> = short.into_iter().chain(long).collect();
    match names.last_mut() {
        Some(last) if !value.is_empty() => *last = format!("{last} {value}"),
        Some(_) => {}
        None => names.push(value),
    }
    names.iter().map(|name| format!("`{}`", cell(name))).collect::<Vec<_>>().join(", ")
}

fn defaults(argument: &Arg) -> String {
    if argument.is_hide_default_value_set() || !argument.get_action().takes_values() {
        return String::new();
    }
    let values = argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
    values.collect::<Vec<_>>().join(", ")
}

fn meaning(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if argument.get_action().takes_values() && !argument.is_hide_possible_values_set() {
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() {
            let _ = write!(text, ": {}", values.join(", "));
        }
    }
    cell(&text)
}

/// A text that may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|").replace('<', "&lt;")
}
