//! From a file's name to a checked configuration, or to all that is wrong with it.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Config, Receiver,
    check::{Checked, check},
    path::YamlPath,
    problem::{Found, Mark, Problem, Problems, Severity, Source},
    schema,
    secret::Secret,
    substitute::substitute,
    tree::{self, Node},
    validate,
    watched::Folder,
};

/// Largest file that is read. The largest sensible one has some ten thousand lines.
const MAX_FILE: u64 = 1 << 20;
/// Bytes of the digest that tell configurations apart in metrics and on pages.
const HASH_BYTES: usize = 6;

/// A configuration that may be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration, with defaults in place and secrets read.
    pub config: Config,
    /// What someone should look at, though it is no error.
    pub warnings: Vec<Problem>,
    /// The beginning of the SHA-256 of the file's text, in hex.
    pub hash: String,
    /// The files of secrets and certificates that it names.
    pub files: Vec<PathBuf>,
}

/// Reads and checks a file; variables come from the environment of the process.
pub fn load_file(path: &Path) -> Result<Loaded, Problems> {
    let (name, folder) = (path.display().to_string(), Folder::of(path));
    load(&name, Some(&folder), &read_at(&name, &folder.file(path))?, &variable)
}

/// Reads the text of a file.
pub fn read_file(path: &Path) -> Result<String, Problems> {
    let name = path.display().to_string();
    read_at(&name, &Folder::of(path).file(path))
}

fn read_at(name: &str, path: &Path) -> Result<String, Problems> {
    read(path).map_err(|found| unread(name, found)).and_then(|bytes| text_of(name, bytes))
}

/// Reads the text of what has no path, such as standard input; problems call it by this name.
pub fn read_input(name: &str, input: &mut dyn Read) -> Result<String, Problems> {
    let mut bytes = Vec::new();
    let refuse = |message: String| unread(name, Found::error("", Mark::default(), message));
    match input.take(MAX_FILE + 1).read_to_end(&mut bytes) {
        Ok(length) if length as u64 > MAX_FILE => Err(refuse("it is larger than 1MiB".to_owned())),
        Ok(_) => text_of(name, bytes),
        Err(error) => Err(refuse(format!("reading it failed: {error}"))),
    }
}

/// Checks the text of a file with this name; `env` looks up variables.
pub fn load_str(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    load(name, Some(&Folder::of(Path::new(name))), text, env)
}

/// As [`load_str`], for a file that is to run elsewhere: the files of secrets and keys that it names are not here, and
/// are not read.
pub fn load_for_elsewhere(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    load(name, None, text, env)
}

/// The files that the configuration names are read where its folder is told.
fn load(
    name: &str,
    folder: Option<&Folder>,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let content = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(name, content);
    let draw = |found: Vec<Found>| found.into_iter().map(|found| source.problem(found)).collect::<Vec<_>>();
    let mut root = tree::parse(content, &source).map_err(|found| Problems::new(draw(vec![found])))?;
    let unset = substitute(&mut root, env, &source);
    let Checked { value, mut problems, mut broken } = check(&root, &schema::root());
    // What a missing variable leaves behind is no fault of its own.
    problems.retain(|found| !unset.iter().any(|(path, _)| found.path == path.to_string()));
    for (path, found) in unset {
        problems.push(found);
        broken.push(path);
    }
    let mut files = Vec::new();
    let config = match build(value) {
        Ok(mut config) => {
            if let Some(folder) = folder {
                problems.extend(read_secrets(&mut config, folder, &root, &mut broken, &mut files));
                problems.extend(read_keys(&mut config, name, &root, &mut broken));
            }
            problems.extend(rules(&config, env, &root, &broken));
            config
        }
        Err(found) => {
            problems.push(found);
            Config::default()
        }
    };
    let problems = draw(problems);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Problems::new(problems));
    }
    files.extend(certificates(&config));
    let warnings = Problems::new(problems).iter().cloned().collect();
    Ok(Loaded { config, warnings, hash: hash(text), files })
}

fn read(path: &Path) -> Result<Vec<u8>, Found> {
    let failed = |error: &io::Error| {
        let nowhere = Found::error("", Mark::default(), "");
        match error.kind() {
            io::ErrorKind::NotFound => Found { message: "there is no such file".to_owned(), ..nowhere }
                .hint("name the configuration with -c FILE"),
            io::ErrorKind::PermissionDenied => {
                Found { message: "the file may not be read".to_owned(), ..nowhere }
                    .hint("check its owner and mode, and those of its folder")
            }
            _ => Found { message: format!("reading the file failed: {error}"), ..nowhere },
        }
    };
    let meta = fs::metadata(path).map_err(|error| failed(&error))?;
    if meta.is_dir() {
        return Err(Found::error("", Mark::default(), "this is a folder, not a file")
            .hint("name the file in it, such as proxy.yaml"));
    }
    if meta.len() > MAX_FILE {
        return Err(
            Found::error("", Mark::default(), "the file is larger than 1MiB").hint("is it the right one?")
        );
    }
    fs::read(path).map_err(|error| failed(&error))
}

/// The one place that reads the environment of the process.
#[expect(
    clippy::disallowed_methods,
    reason = "the configuration is where the environment enters the program"
)]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn unread(name: &str, found: Found) -> Problems {
    Problems::new(vec![Source::new(name, "").problem(found)])
}

fn text_of(name: &str, bytes: Vec<u8>) -> Result<String, Problems> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        not_text(name, error.as_bytes(), valid)
    })
}

/// Says where a file stops being UTF-8.
fn not_text(name: &str, bytes: &[u8], valid: usize) -> Problems {
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let found = Found::error("", Mark { line, column, width: 1 }, "the file is not UTF-8 text")
        .hint("save it as UTF-8; a compressed or binary file is not a configuration");
    Problems::new(vec![Source::new(name, &before).problem(found)])
}

fn build(value: Value) -> Result<Config, Found> {
    serde_json::from_value(value).map_err(|error| {
        // The checker accepts only what the structs accept; should they ever differ, the file is refused.
        Found::error("", Mark { line: 1, column: 1, width: 1 }, format!("the file cannot be read: {error}"))
    })
}

fn read_secrets(
    config: &mut Config,
    folder: &Folder,
    root: &Node,
    broken: &mut Vec<YamlPath>,
    files: &mut Vec<PathBuf>,
) -> Vec<Found> {
    let mut problems = Vec::new();
    for (path, secret) in secrets(config) {
        if broken.iter().any(|lost| path.holds(lost)) {
            continue;
        }
        files.extend(secret.file().map(|file| folder.as_written.join(file)));
        if let Err(error) = secret.resolve(folder) {
            let mark = root.locate_key(&path);
            problems.push(Found { hint: error.hint, ..Found::error(&path, mark, error.message) });
            broken.push(path);
        }
    }
    problems
}

/// Every secret that a configuration has, with its place.
pub(super) fn secrets(config: &mut Config) -> Vec<(YamlPath, &mut Secret)> {
    let admin =
        config.admin.on_mut().and_then(|admin| admin.token.as_mut()).map(|token| ("admin.token", token));
    let control = config
        .control
        .on_mut()
        .and_then(|control| control.token.as_mut())
        .map(|token| ("control.token", token));
    let redis = config.cache.redis.password.as_mut().map(|secret| ("cache.redis.password", secret));
    let sentinel =
        config.cache.redis.sentinel_password.as_mut().map(|secret| ("cache.redis.sentinel_password", secret));
    let identity = config.cache.identity_secret.as_mut().map(|secret| ("cache.identity_secret", secret));
    let (api_key, capabilities) = match &mut config.claude {
        Some(claude) => (claude.api_key.as_mut(), claude.capabilities.api_key.as_mut()),
        None => (None, None),
    };
    let api_key = api_key.map(|secret| ("claude.api_key", secret));
    let capabilities = capabilities.map(|secret| ("claude.capabilities.api_key", secret));
    let secrets: [Option<(&str, &mut Secret)>; 7] =
        [admin, control, redis, sentinel, identity, api_key, capabilities];
    let secrets = secrets.into_iter().flatten().map(|(path, secret)| (YamlPath::at(path), secret));
    let receivers = config.telemetry.alerts.notify.iter_mut().enumerate().flat_map(|(index, receiver)| {
        let path = YamlPath::at("telemetry.alerts.notify").index(index);
        let place = move |(kind, key, secret)| (path.key(kind).key(key), secret);
        receiver.secrets().into_iter().map(place)
    });
    let otlp = config.telemetry.otlp.as_mut().and_then(|otlp| otlp.authorization.as_mut());
    let otlp = otlp.map(|secret| (YamlPath::at("telemetry.otlp.authorization"), secret));
    secrets.chain(receivers).chain(otlp).collect()
}

/// The files of certificates that connections to others are made with. That of Redis is read at the start alone.
fn certificates(config: &Config) -> Vec<PathBuf> {
    let claude = config.claude.as_ref().and_then(|claude| claude.ca.as_deref());
    let receivers = config.telemetry.alerts.notify.iter().filter_map(Receiver::view);
    receivers.filter_map(|view| view.ca).chain(claude).map(PathBuf::from).collect()
}

/// Reads the files of keys that identities are verified with.
fn read_keys(config: &mut Config, name: &str, root: &Node, broken: &mut Vec<YamlPath>) -> Vec<Found> {
    let base = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    let routes = config.ingress.iter_mut().flat_map(|ingress| ingress.routes.iter_mut());
    for (index, route) in routes.enumerate() {
        let identity = route.cache.as_mut().and_then(|cache| cache.identity.as_mut());
        let Some(keys) = identity.and_then(|identity| identity.keys.as_mut()) else { continue };
        if let Err(error) = keys.resolve(base) {
            let path = YamlPath::at("ingress.routes").index(index).key("cache").key("identity").key("keys");
            let mark = root.locate_key(&path);
            problems.push(Found { hint: error.hint, ..Found::error(&path, mark, error.message) });
            broken.push(path);
        }
    }
    problems
}

/// The rules across fields, without those that would judge a value that was left out.
fn rules(
    config: &Config,
    env: &dyn Fn(&str) -> Option<String>,
    root: &Node,
    broken: &[YamlPath],
) -> Vec<Found> {
    let is_moot = |finding: &validate::Finding| {
        finding.paths().any(|path| broken.iter().any(|lost| lost.holds(path) || path.holds(lost)))
    };
    let findings = validate::validate(config, env("TOUCHLINE_MEMORY_LIMIT").as_deref());
    findings.into_iter().filter(|finding| !is_moot(finding)).map(|finding| finding.place(root)).collect()
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect()
}
