//! `touchline check`: every problem of a file at once, or a summary of what it sets.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{
    file::{self, File, REFUSED, USUAL},
    report::{self, Output},
};
use crate::{
    config::{self, CacheMode, Config, Ingress, Loaded, Route, Written},
    telemetry::alerts::try_rules,
};

/// Arguments of `touchline check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline check                                proxy.yaml of this folder
  touchline check deploy/proxy.yaml --effective
  helm template coach charts/coach --show-only templates/proxy.yaml | touchline check -
  touchline check proxy.yaml --output github     in a workflow, beside the code
  touchline check proxy.yaml --alerts samples.yaml

Exit codes: 0 if it is valid, 1 if it has errors or samples do not fire as expected, 2 if the command is not understood.")]
pub(crate) struct CheckArgs {
    /// The configuration to check; - reads it from standard input [default: proxy.yaml]
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub(crate) file: Option<PathBuf>,
    /// The same, for those who are used to it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the configuration in force as YAML: every value, and behind it whether it is the default or which line or
    /// variable it comes from; secrets print as ***
    #[arg(long)]
    pub(crate) effective: bool,
    /// Run its alert rules over written samples, and exit with 1 when they do not fire as expected
    #[arg(long, value_name = "SAMPLES", conflicts_with = "effective")]
    pub(crate) alerts: Option<PathBuf>,
    /// How to print problems
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Text, conflicts_with_all = ["effective", "alerts"])]
    pub(crate) output: Output,
}

/// Checks a configuration. As text, problems go to `err`, the summary and the configuration in force to `out`; in other
/// forms problems go to `out`, and nothing else does.
pub(crate) fn check(
    args: &CheckArgs,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let path = args.file.as_deref().or(args.config.as_deref()).unwrap_or(Path::new(USUAL));
    let file = match file::open(path, input) {
        Ok(file) => file,
        Err(problems) => {
            match args.output {
                Output::Text => writeln!(err, "{problems}")?,
                Output::Json => report::json(&problems, out)?,
                Output::Github => report::github(&problems, out)?,
            }
            return Ok(ExitCode::from(REFUSED));
        }
    };
    let warnings = &file.loaded.warnings;
    match args.output {
        Output::Text => {
            for warning in warnings {
                writeln!(err, "{warning}\n")?;
            }
        }
        Output::Json => return report::json(warnings, out).map(|()| ExitCode::SUCCESS),
        Output::Github => return report::github(warnings, out).map(|()| ExitCode::SUCCESS),
    }
    match &args.alerts {
        Some(samples) => try_alerts(&file.loaded, samples, out, err),
        None => sum_up(&file, args.effective, out).map(|()| ExitCode::SUCCESS),
    }
}

/// Says that a configuration is valid, and what it comes to.
fn sum_up(file: &File, is_effective: bool, out: &mut dyn Write) -> io::Result<()> {
    // As comments above the YAML the summary leaves the output loadable.
    let margin = if is_effective { "# " } else { "" };
    writeln!(out, "{margin}{} is valid", file.name)?;
    for line in summary(&file.loaded) {
        writeln!(out, "{margin}  {line}")?;
    }
    if is_effective {
        let written = Written { name: &file.name, text: &file.text, env: &config::variable };
        out.write_all(config::effective_yaml(&file.loaded.config, written).as_bytes())?;
    }
    Ok(())
}

/// Runs the alert rules over samples.
fn try_alerts(
    loaded: &Loaded,
    samples: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let report = match std::fs::read_to_string(samples) {
        Ok(text) => try_rules(&loaded.config.telemetry, &text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            writeln!(err, "error: {}: {error}", samples.display())?;
            return Ok(ExitCode::from(REFUSED));
        }
    };
    out.write_all(report.text.as_bytes())?;
    match report.failures {
        0 => Ok(ExitCode::SUCCESS),
        1 => writeln!(err, "1 expectation failed").map(|()| ExitCode::FAILURE),
        count => writeln!(err, "{count} expectations failed").map(|()| ExitCode::FAILURE),
    }
}

/// What the file sets, a line per plane.
fn summary(loaded: &Loaded) -> Vec<String> {
    let config = &loaded.config;
    let mut lines = vec![match &config.ingress {
        Some(ingress) => {
            format!(
                "ingress  {} in front of {}, {}",
                ingress.listen,
                ingress.backend,
                routes(config, ingress)
            )
        }
        None => "ingress  not started".to_owned(),
    }];
    if let Some(claude) = &config.claude {
        let budgets = match claude.budgets.len() {
            0 => String::new(),
            1 => ", 1 budget".to_owned(),
            count => format!(", {count} budgets"),
        };
        let line =
            format!("claude   {} to {}, {}{budgets}", claude.listen, claude.upstream, claude.mode.as_str());
        lines.push(line);
    }
    lines.push(match config.cache.mode {
        CacheMode::Off => "cache    off".to_owned(),
        mode => format!("cache    {}, {} in memory", mode.as_str(), config.cache.memory.size),
    });
    lines.push(match config.admin.on() {
        Some(admin) => format!("admin    {}, {}", admin.listen, token(admin.token.is_some())),
        None => "admin    off".to_owned(),
    });
    lines.push(match config.control.on() {
        Some(control) => format!("control  {}, {}", control.listen, token(control.token.is_some())),
        None => "control  off".to_owned(),
    });
    lines.push(format!("hash     {}", loaded.hash));
    if !loaded.warnings.is_empty() {
        lines.push(format!("warnings {}", loaded.warnings.len()));
    }
    lines
}

fn routes(config: &Config, ingress: &Ingress) -> String {
    let is_cached = |route: &&Route| {
        let mode = |cache: &config::RouteCache| cache.mode.unwrap_or(config.cache.mode) != CacheMode::Off;
        route.cache.as_ref().is_some_and(mode)
    };
    let cached = ingress.routes.iter().filter(is_cached).count();
    let denied = ingress.routes.iter().filter(|route| route.deny).count();
    let noun = if ingress.routes.len() == 1 { "route" } else { "routes" };
    let denied = if denied == 0 { String::new() } else { format!(", {denied} denied") };
    format!("{} {noun} ({cached} cached{denied})", ingress.routes.len())
}

fn token(is_set: bool) -> &'static str {
    if is_set { "with a token" } else { "no token" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(config: PathBuf) -> CheckArgs {
        CheckArgs { file: Some(config), config: None, effective: false, alerts: None, output: Output::Text }
    }

    fn run_with(text: &str, change: impl FnOnce(&mut CheckArgs)) -> (ExitCode, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("proxy.yaml");
        std::fs::write(&config, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut arguments = arguments(config);
        change(&mut arguments);
        let code = check(&arguments, &mut text.as_bytes(), &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn run(text: &str, effective: bool) -> (ExitCode, String, String) {
        run_with(text, |arguments| arguments.effective = effective)
    }

    #[test]
    fn a_good_file_gets_a_summary() {
        let text = "version: 1\ningress:\n  backend: http://127.0.0.1:8000\n  routes: [{ path: /a, cache: { ttl: 1m } }]\n";

        let (code, out, err) = run(text, false);

        assert_eq!(code, ExitCode::SUCCESS);
        assert!(
            out.contains("ingress  0.0.0.0:8080 in front of http://127.0.0.1:8000, 1 route (1 cached)"),
            "{out}"
        );
        assert_eq!(err, "");
    }

    #[test]
    fn the_configuration_in_force_loads_again_and_hides_secrets() {
        let text = "version: 1\nadmin: { token: hunter2 }\ningress: { backend: unix:/run/app.sock }\n";

        let (_, out, _) = run(text, true);

        assert!(!out.contains("hunter2"));
        assert!(out.contains("    first_byte: 30s  # default\n"), "{out}");
        assert!(out.contains("/proxy.yaml:3\n"), "{out}");
        assert!(config::load_str("again", &out.replace("\"***\"", "x"), &|_| None).is_ok(), "{out}");
    }

    #[test]
    fn a_dash_reads_standard_input() {
        let (code, out, _) = run_with("version: 1\n", |arguments| arguments.file = Some("-".into()));
        let (refused, _, err) = run_with("version: 2\n", |arguments| arguments.file = Some("-".into()));

        assert_eq!(code, ExitCode::SUCCESS);
        assert!(out.starts_with("stdin is valid"), "{out}");
        assert_eq!(refused, ExitCode::FAILURE);
        assert!(err.contains("--> stdin:1:10"), "{err}");
        let large = "#".repeat((1 << 20) + 1);
        assert!(
            run_with(&large, |arguments| arguments.file = Some("-".into())).2.contains("larger than 1MiB")
        );
    }

    #[test]
    fn programs_get_problems_and_nothing_else() {
        let (code, out, err) =
            run_with("version: 1\ningres: {}\n", |arguments| arguments.output = Output::Json);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, err.as_str()), (ExitCode::FAILURE, ""));
        assert_eq!((&value[0]["line"], &value[0]["severity"]), (&2.into(), &"error".into()));

        let warned = "version: 1\nadmin: { token: hunter2 }\n";
        let (code, out, err) = run_with(warned, |arguments| arguments.output = Output::Github);
        assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
        assert!(out.starts_with("::warning file=") && !out.contains("hunter2"), "{out}");
        let quiet = "version: 1\ningress: { backend: \"http://127.0.0.1:8000\" }\n";
        assert_eq!(run_with(quiet, |arguments| arguments.output = Output::Json).1, "[]\n");
    }

    #[test]
    fn alert_rules_are_tried_on_samples_and_the_exit_code_says_how_it_went() {
        let folder = tempfile::tempdir().unwrap();
        let (config, samples) = (folder.path().join("proxy.yaml"), folder.path().join("samples.yaml"));
        std::fs::write(&config, "version: 1\ningress: { backend: http://127.0.0.1:8000 }\n").unwrap();
        let series = "tests:\n  - name: redis\n    series: [{ metric: redis_down, values: 1x9 }]\n";
        let try_with = |text: &str| {
            std::fs::write(&samples, text).unwrap();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let args = CheckArgs { alerts: Some(samples.clone()), ..arguments(config.clone()) };
            let code = check(&args, &mut io::empty(), &mut out, &mut err).unwrap();
            (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
        };

        let expected = format!("{series}    expect: [{{ at: 30s, firing: [{{ rule: redis_down }}] }}]\n");
        let (code, out, err) = try_with(&expected);
        assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""), "{out}");
        assert!(out.contains("30s  redis_down (warning) fires: Redis does not answer"), "{out}");

        let (code, out, err) = try_with(&format!("{series}    expect: [{{ at: 30s, firing: [] }}]\n"));
        assert_eq!((code, err.as_str()), (ExitCode::FAILURE, "1 expectation failed\n"), "{out}");

        let (code, out, err) = try_with("tests: [{ name: x, serie: [] }]\n");
        assert_eq!((code, out.as_str()), (ExitCode::from(REFUSED), ""));
        assert!(err.contains("samples.yaml: ") && err.contains("serie"), "{err}");
    }

    #[test]
    fn a_bad_file_is_refused_with_exit_code_1() {
        let (code, out, err) = run("version: 1\ningres: {}\n", false);

        assert_eq!(code, ExitCode::from(1));
        assert_eq!(out, "");
        assert!(err.contains("did you mean `ingress`?"), "{err}");
    }
}
