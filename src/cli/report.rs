//! Problems of a configuration as people read them, as programs read them, and as annotations of a GitHub workflow.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::config::Problem;

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// An array of problems, for programs.
    Json,
    /// Lines that a GitHub workflow shows beside the code.
    Github,
}

#[derive(Serialize)]
struct Told<'a> {
    path: &'a str,
    file: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    severity: &'static str,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<'a> From<&'a Problem> for Told<'a> {
    fn from(problem: &'a Problem) -> Self {
        let is_placed = problem.line > 0;
        Self {
            path: &problem.path,
            file: &problem.file,
            line: is_placed.then_some(problem.line),
            column: is_placed.then_some(problem.column),
            severity: problem.severity.as_str(),
            message: &problem.message,
            hint: problem.hint.as_deref(),
        }
    }
}

/// Writes problems as an array; an empty one where there are none.
pub(super) fn json<'a>(
    problems: impl IntoIterator<Item = &'a Problem>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let told: Vec<Told<'_>> = problems.into_iter().map(Told::from).collect();
    serde_json::to_writer_pretty(&mut *out, &told)?;
    writeln!(out)
}

/// Writes problems as workflow commands.
pub(super) fn github<'a>(
    problems: impl IntoIterator<Item = &'a Problem>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for problem in problems {
        let told = Told::from(problem);
        write!(out, "::{} file={}", told.severity, property(told.file))?;
        if let (Some(line), Some(column)) = (told.line, told.column) {
            write!(out, ",line={line},col={column}")?;
        }
        let place = if told.path.is_empty() { String::new() } else { format!(" ({})", told.path) };
        let hint = told.hint.map_or_else(String::new, |hint| format!("\n{hint}"));
        writeln!(out, "::{}", data(&format!("{}{place}{hint}", told.message)))?;
    }
    Ok(())
}

/// Text behind the second `::`, as GitHub wants it escaped.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::{github, json};
    use crate::config;

    #[test]
    fn a_workflow_command_stays_one_line_and_names_the_place() {
        let text = "version: 1\ningres: {}\ndrain: { delay: 5 }\n";
        let problems = config::load_str("a,b:c.yaml", text, &|_| None).unwrap_err();
        let mut out = Vec::new();

        github(&problems, &mut out).unwrap();

        let said = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines[0],
            "::error file=a%2Cb%3Ac.yaml,line=2,col=1::unknown key `ingres`%0Adid you mean `ingress`?"
        );
        assert!(lines[1].starts_with("::error file=a%2Cb%3Ac.yaml,line=3,col=17::"), "{said}");
        assert!(lines[1].contains("(drain.delay)%0A"), "{said}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn programs_get_every_field() {
        let problems = config::load_file(std::path::Path::new("/nowhere/proxy.yaml")).unwrap_err();
        let mut out = Vec::new();

        json(&problems, &mut out).unwrap();

        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!([{
            "path": "", "file": "/nowhere/proxy.yaml", "line": null, "column": null, "severity": "error",
            "message": "there is no such file", "hint": "name the configuration with -c FILE",
        }]);
        assert_eq!(value, expected);
    }
}
