//! Generated and shipped documents agree with the code: schema, reference, and every configuration in the repository.
//!
//! `UPDATE_DOCS=1 cargo test --test documents` (or `make docs`) rewrites the generated ones.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use touchline::config::{self, Config, Ingress};

/// Compares a generated document with its file, or rewrites the file.
#[expect(clippy::unwrap_used, reason = "a test fails where its files cannot be written")]
fn is_current(path: &str, text: &str) {
    if env::var_os("UPDATE_DOCS").is_some() || env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, text).unwrap();
        return;
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "{path} is stale: run `UPDATE_DOCS=1 cargo test --test documents`");
}

#[test]
fn the_schema_is_current() {
    is_current("proxy.schema.json", &config::json_schema());
}

#[test]
fn the_reference_of_commands_is_current() {
    is_current("docs/cli.md", &touchline::cli::reference_markdown());
}

#[test]
fn the_reasons_are_current() {
    is_current("docs/reasons.md", &touchline::telemetry::reasons_markdown());
}

#[test]
fn the_configuration_reference_is_current() {
    is_current("docs/configuration.md", &config::reference_markdown());
}

/// Loads a file without problems; secrets that live in files get a folder of their own.
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test fails where its files cannot be read")]
fn load(path: &Path) -> Config {
    let folder = tempfile::tempdir().unwrap();
    for name in ["admin-token", "control-token", "redis-password", "identity-secret"] {
        fs::write(folder.path().join(name), "not-a-secret-at-all").unwrap();
    }
    let secrets = folder.path().display().to_string();
    let environment = |name: &str| (name == "SECRETS").then(|| secrets.clone());
    let text = fs::read_to_string(path).unwrap();
    match config::load_str(&path.display().to_string(), &text, &environment) {
        Ok(loaded) => {
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings[0]);
            loaded.config
        }
        Err(problems) => panic!("{problems}"),
    }
}

#[test]
fn every_shipped_configuration_loads_without_a_warning() {
    let examples = fs::read_dir("examples").unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        examples.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.push(PathBuf::from("proxy.yaml"));
    for file in files {
        load(&file);
    }
}

/// The texts of the fenced YAML blocks of a document, each with the line that it begins in.
#[expect(clippy::unwrap_used, reason = "a test fails where its files cannot be read")]
fn yaml_blocks(path: &str) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let (mut blocks, mut open) = (Vec::new(), None::<(usize, String)>);
    for (index, line) in text.lines().enumerate() {
        match &mut open {
            None if line.trim() == "```yaml" => open = Some((index + 2, String::new())),
            None => {}
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    assert!(open.is_none(), "{path} has a block that does not end");
    blocks
}

/// A block as a whole file: as it is, a list of routes below a backend, or sections beside a backend.
fn whole_file(block: &str) -> String {
    let begins = |word: &str| block.lines().any(|line| line.starts_with(word));
    if begins("version:") {
        return block.to_owned();
    }
    let ingress = "ingress:\n  backend: http://127.0.0.1:8000\n";
    if begins("- ") {
        let routes: String = block.lines().map(|line| format!("    {line}\n")).collect();
        return format!("version: 1\n{ingress}  routes:\n{routes}");
    }
    format!("version: 1\n{}{block}", if begins("ingress:") { "" } else { ingress })
}

#[test]
fn every_yaml_block_of_the_documents_loads() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["redis-password", "identity-secret"] {
        fs::write(folder.path().join(name), "not-a-secret-at-all").unwrap();
    }
    // Paths of a host that runs it; here the files lie elsewhere.
    let places = [
        ("/etc/touchline-secrets", folder.path().to_owned()),
        ("/etc/touchline", env::current_dir().unwrap().join("examples")),
    ];
    for document in ["docs/caching.md", "docs/alerts.md", "README.md"] {
        let blocks = yaml_blocks(document);
        assert!(!blocks.is_empty(), "{document} shows no configuration");
        for (line, block) in blocks {
            let place = format!("{document}:{line}");
            let text = places.iter().fold(whole_file(&block), |text, (there, here)| {
                text.replace(there, &here.display().to_string())
            });

            let loaded = config::load_str(&place, &text, &|_| None)
                .unwrap_or_else(|problems| panic!("the block at {place} does not load\n{problems}\n{text}"));

            // A block that warns says so.
            let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            let says_so = block.contains("check warns");
            assert_eq!(warnings.is_empty(), !says_so, "the block at {place}\n{}", warnings.join("\n"));
        }
    }
}

#[test]
fn the_shipped_file_says_the_defaults() {
    let mut shipped = load(Path::new("proxy.yaml"));

    shipped.ingress.as_mut().unwrap().routes.clear();

    assert_eq!(shipped, Config { ingress: Some(Ingress::default()), ..Config::default() });
}

/// The shipped file with its optional keys (`#key: value`) taken out of their comments.
#[expect(clippy::unwrap_used, reason = "a test fails where its files cannot be read")]
fn uncommented() -> String {
    let text = fs::read_to_string("proxy.yaml").unwrap();
    let line = |line: &str| {
        let rest = line.trim_start();
        let indent = &line[..line.len() - rest.len()];
        match rest.strip_prefix('#').filter(|key| key.starts_with(|c: char| c.is_ascii_lowercase())) {
            Some(key) => format!("{indent}{key}\n"),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[test]
fn the_optional_keys_of_the_shipped_file_are_right_too() {
    let environment = |name: &str| {
        ["_TOKEN", "_SECRET"].iter().any(|end| name.ends_with(end)).then(|| "not-a-secret-at-all".to_owned())
    };

    let loaded = config::load_str("proxy.yaml", &uncommented(), &environment)
        .unwrap_or_else(|error| panic!("{error}"));

    assert!(loaded.config.control.on().unwrap().token.is_some());
}

#[test]
fn the_shipped_file_shows_every_key() {
    let schema: Value = serde_json::from_str(&config::json_schema()).unwrap();
    let text = uncommented();
    let mut missing = Vec::new();

    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for key in definition["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            if !text.contains(&format!(" {key}:")) && !text.contains(&format!("{{ {key}:")) {
                missing.push(format!("{name}.{key}"));
            }
        }
    }

    assert!(missing.is_empty(), "proxy.yaml does not show {missing:?}");
}

#[test]
fn every_key_is_described_with_its_default() {
    let schema: Value = serde_json::from_str(&config::json_schema()).unwrap();
    let mut wrong = Vec::new();

    for (name, definition) in schema["$defs"].as_object().unwrap() {
        let required =
            |key: &str| definition["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            let text = property["description"].as_str().unwrap_or_default();
            let is_section = property.get("$ref").is_some() && property["default"].is_object();
            let said =
                text.rsplit_once("Default: ").map(|(_, said)| said.trim_end_matches('.').trim_matches('`'));
            let is_right = match said {
                _ if required(key) => text.contains("Required."),
                None => is_section,
                Some(said) => said == plain(&property["default"]),
            };
            if text.is_empty() || !is_right {
                wrong.push(format!("{name}.{key}: {text} (default {})", property["default"]));
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A default as a doc comment writes it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members: Vec<_> =
                members.iter().map(|(key, value)| format!("{key}: {}", plain(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}
