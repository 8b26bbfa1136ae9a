//! `touchline check`: every problem of a file at once, or a summary of what it sets.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use crate::{
    config::{self, CacheMode, Config, Ingress, Loaded, Route},
    telemetry::alerts::try_rules,
};

/// The exit code of a configuration that is refused.
const REFUSED: u8 = 2;

/// Arguments of `touchline check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration to check
    #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
    pub(crate) config: PathBuf,
    /// Print the configuration in force as YAML, with every default; secrets print as ***
    #[arg(long)]
    pub(crate) effective: bool,
    /// Run its alert rules over written samples, and exit with 1 when they do not fire as expected
    #[arg(long, value_name = "SAMPLES", conflicts_with = "effective")]
    pub(crate) alerts: Option<PathBuf>,
}

/// Checks the file. Problems go to `err`, the summary and the configuration in force to `out`.
pub(crate) fn check(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let loaded = match config::load_file(&args.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(ExitCode::from(REFUSED));
        }
    };
    for warning in &loaded.warnings {
        writeln!(err, "{warning}\n")?;
    }
    if let Some(samples) = &args.alerts {
        return try_alerts(&loaded, samples, out, err);
    }
    // As comments above the YAML the summary leaves the output loadable.
    let margin = if args.effective { "# " } else { "" };
    writeln!(out, "{margin}{} is valid", args.config.display())?;
    for line in summary(&loaded) {
        writeln!(out, "{margin}  {line}")?;
    }
    if args.effective {
        out.write_all(config::effective_yaml(&loaded.config).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
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

    fn run(text: &str, effective: bool) -> (ExitCode, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("proxy.yaml");
        std::fs::write(&config, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&CheckArgs { config, effective, alerts: None }, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
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
        assert!(out.contains("first_byte: 30s"), "{out}");
        assert!(
            config::load_str("again", &out.replace("'***'", "x").replace("\"***\"", "x"), &|_| None).is_ok(),
            "{out}"
        );
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
            let args = CheckArgs { config: config.clone(), effective: false, alerts: Some(samples.clone()) };
            let code = check(&args, &mut out, &mut err).unwrap();
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
    fn a_bad_file_is_refused_with_exit_code_2() {
        let (code, out, err) = run("version: 1\ningres: {}\n", false);

        assert_eq!(code, ExitCode::from(2));
        assert_eq!(out, "");
        assert!(err.contains("did you mean `ingress`?"), "{err}");
    }
}
