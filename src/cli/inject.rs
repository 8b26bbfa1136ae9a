//! `touchline inject` and `touchline uninject`: manifests with the proxy beside the backend, and without it again.

use std::{
    fs::File,
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::inject::{self, Flags, Level, Mode, Note, Outcome, Refused, Settings, Source};

/// The exit code of a command line that cannot be followed.
const USAGE: u8 = 2;
/// The exit code of `--check` when something would change.
const WOULD_CHANGE: u8 = 3;
/// The largest input that is read. A list of ten thousand objects has some 30 MiB.
const MAX_INPUT: u64 = 64 << 20;

const INJECT_EXAMPLES: &str = "\
Examples:
  kubectl get deployment coach-backend -o yaml | touchline inject --image IMAGE --config proxy.yaml - | kubectl apply -f -
  touchline inject --image IMAGE -f deployment.yaml -f service.yaml > injected.yaml
  touchline inject --image IMAGE -f deployment.yaml -o patch     a patch to keep beside the manifest
  touchline inject --image IMAGE -f deployment.yaml -o diff      what would change
  touchline inject --image IMAGE -f deployed.yaml --check        exit 3 unless it is injected just so
  touchline inject --image IMAGE --set resources.limits.memory=256Mi --set preStop.wait=20s -f deployment.yaml

An annotation `touchline/inject: disabled` keeps an object out.
Exit codes: 0 done, 1 something is wrong and nothing was written, 2 wrong usage, 3 --check found a change.";

const UNINJECT_EXAMPLES: &str = "\
Examples:
  kubectl get deployment coach-backend -o yaml | touchline uninject - | kubectl apply -f -
  touchline uninject -f injected.yaml > deployment.yaml

Exit codes: 0 done, 1 something is wrong and nothing was written, 2 wrong usage, 3 --check found a change.";

/// Arguments of `touchline inject`.
#[derive(Debug, Args)]
#[command(after_help = INJECT_EXAMPLES)]
pub(crate) struct InjectArguments {
    #[command(flatten)]
    manifests: Manifests,
    /// The configuration: ports and variables follow it, and a ConfigMap with it is added; without it the usual ports
    /// are taken, and the ConfigMap must be there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting of what is put beside the backend, such as resources.limits.memory=256Mi; an unknown one lists all
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How touchline is kept beside the backend
    #[arg(long, value_enum, default_value_t = Kept::Native)]
    mode: Kept,
    /// The container that is the backend's; without it the one that kubectl.kubernetes.io/default-container names, or
    /// the only one
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// The image of touchline, best with its digest; needed unless this build was made with one
    #[arg(long, value_name = "REF")]
    image: Option<String>,
    /// The ConfigMap with the configuration
    #[arg(long, value_name = "NAME", default_value = "touchline-config")]
    config_map: String,
    /// The Secret whose files the configuration may name, under /etc/touchline-secrets; it may be missing
    #[arg(long, value_name = "NAME", default_value = "touchline-secrets")]
    secret: String,
    /// Leave Services as they are, and add a second one for each, NAME-proxied, that leads to touchline
    #[arg(long)]
    proxied_service: bool,
}

/// Arguments of `touchline uninject`.
#[derive(Debug, Args)]
#[command(after_help = UNINJECT_EXAMPLES)]
pub(crate) struct UninjectArguments {
    #[command(flatten)]
    manifests: Manifests,
}

#[derive(Debug, Args)]
struct Manifests {
    /// A file with manifests, YAML or JSON; `-` is standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read standard input
    #[arg(value_name = "-", value_parser = ["-"])]
    stdin: Option<String>,
    /// What is printed
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    output: Form,
    /// Print no manifests, and exit with 3 if anything would change
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kept {
    /// A native sidecar, for Kubernetes 1.29 and newer
    Native,
    /// A container among the others, for older clusters
    Container,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The manifests, with all that does not change as it was
    Yaml,
    /// The objects as JSON
    Json,
    /// A strategic merge patch for each object that changes
    Patch,
    /// The difference
    Diff,
}

/// Puts the proxy into manifests.
pub(crate) fn inject(
    arguments: &InjectArguments,
    stdin: &mut dyn Read,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<ExitCode> {
    let config = match &arguments.config {
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
            Some((name, text))
        }
        None => None,
    };
    let flags = Flags {
        image: arguments.image.clone(),
        mode: match arguments.mode {
            Kept::Native => Mode::Native,
            Kept::Container => Mode::Container,
        },
        container: arguments.container.clone(),
        config_map: Some(arguments.config_map.clone()),
        secret: Some(arguments.secret.clone()),
        proxied_service: arguments.proxied_service,
        set: arguments.set.clone(),
        config,
    };
    let settings = match Settings::new(flags) {
        Ok(settings) => settings,
        Err(Refused::Usage(problem)) => {
            writeln!(err, "error: {problem}")?;
            return Ok(ExitCode::from(USAGE));
        }
        Err(Refused::Config(problem)) => {
            writeln!(err, "{problem}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    for warning in settings.warnings() {
        writeln!(err, "{warning}")?;
    }
    arguments.manifests.print(stdin, (out, err), |sources| inject::inject(sources, &settings))
}

/// Takes the proxy out of manifests.
pub(crate) fn uninject(
    arguments: &UninjectArguments,
    stdin: &mut dyn Read,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<ExitCode> {
    arguments.manifests.print(stdin, (out, err), inject::uninject)
}

impl Manifests {
    /// Reads the manifests, changes them, and prints what became of them.
    fn print(
        &self,
        stdin: &mut dyn Read,
        (out, err): (&mut dyn Write, &mut dyn Write),
        change: impl FnOnce(&[Source]) -> Result<Outcome, Vec<Note>>,
    ) -> anyhow::Result<ExitCode> {
        let is_stdin = |path: &PathBuf| path.as_os_str() == "-";
        let stdins =
            self.files.iter().filter(|path| is_stdin(path)).count() + usize::from(self.stdin.is_some());
        if self.files.is_empty() && stdins == 0 {
            writeln!(err, "error: say what to read: -f FILE, or - for standard input")?;
            return Ok(ExitCode::from(USAGE));
        }
        if stdins > 1 {
            writeln!(err, "error: standard input can be read once only")?;
            return Ok(ExitCode::from(USAGE));
        }
        let mut sources = Vec::new();
        for path in &self.files {
            sources.push(if is_stdin(path) { read_stdin(stdin)? } else { read_file(path)? });
        }
        if self.stdin.is_some() {
            sources.push(read_stdin(stdin)?);
        }
        let outcome = match change(&sources) {
            Ok(outcome) => outcome,
            Err(notes) => {
                for note in notes.iter().filter(|note| note.level == Level::Problem) {
                    writeln!(err, "{note}")?;
                }
                return Ok(ExitCode::FAILURE);
            }
        };
        for note in &outcome.notes {
            writeln!(err, "{note}")?;
        }
        let printed = match self.output {
            Form::Yaml | Form::Json if self.check => String::new(),
            Form::Yaml => outcome.yaml(),
            Form::Json => outcome.json(),
            Form::Patch => outcome.patch(),
            Form::Diff => outcome.diff(),
        };
        out.write_all(printed.as_bytes())?;
        Ok(if self.check && outcome.is_changed() { ExitCode::from(WOULD_CHANGE) } else { ExitCode::SUCCESS })
    }
}

fn read_stdin(stdin: &mut dyn Read) -> anyhow::Result<Source> {
    Ok(Source { name: "stdin".to_owned(), text: read_text(stdin).context("reading standard input")? })
}

fn read_file(path: &PathBuf) -> anyhow::Result<Source> {
    let name = path.display().to_string();
    let read = || read_text(&mut File::open(path)?);
    Ok(Source { text: read().with_context(|| format!("reading {name}"))?, name })
}

fn read_text(from: &mut dyn Read) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = from.take(MAX_INPUT + 1).read_to_string(&mut text)?;
    anyhow::ensure!(u64::try_from(read).is_ok_and(|read| read <= MAX_INPUT), "more than 64 MiB are not read");
    Ok(text)
}
