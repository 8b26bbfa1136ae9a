//! What an operator is told about a bad configuration: each `tests/golden/config/*.yaml` beside its message.
//!
//! `UPDATE_GOLDEN=1 cargo test --test config_errors` rewrites the messages, which are then read in review.

use std::{env, fs, path::Path};

use proptest::{prelude::*, sample::Index};
use touchline::config::{self, Severity, Written};

const FOLDER: &str = "tests/golden/config";

/// The environment of every golden file.
fn environment(name: &str) -> Option<String> {
    match name {
        "EMPTY" => Some(String::new()),
        "TIMEOUT" => Some("canary-1".to_owned()),
        "TOKEN" => Some("canary-2".to_owned()),
        "TOUCHLINE_MEMORY_LIMIT" => Some("134217728".to_owned()),
        _ => None,
    }
}

/// All that `check` prints of a text: the problems, or the warnings.
fn report(name: &str, text: &str) -> String {
    match config::load_str(name, text, &environment) {
        Err(problems) => format!("{problems}\n"),
        Ok(loaded) => loaded.warnings.iter().map(|warning| format!("{warning}\n\n")).collect(),
    }
}

#[test]
fn every_bad_file_gets_its_message() {
    let mut files: Vec<_> = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() >= 24, "only {} files", files.len());

    let mut stale = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let said = report("proxy.yaml", &text);
        assert!(!said.contains("canary"), "a value of the environment in {said}");
        assert!(!said.is_empty(), "{} has no problem", path.display());
        let golden = path.with_extension("txt");
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &said).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != said {
            stale.push(format!("{}:\n{said}", golden.display()));
        }
    }
    assert!(stale.is_empty(), "run with UPDATE_GOLDEN=1 if these are right:\n{}", stale.join("\n"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("binary.yaml"), b"version: 1\n# \xff\xfe\n").unwrap();
    fs::write(path("large.yaml"), vec![b'#'; 2 << 20]).unwrap();
    let said = |path: &Path| config::load_file(path).unwrap_err().to_string();

    assert!(said(&path("none.yaml")).contains("there is no such file"));
    assert!(said(&path("none.yaml")).contains("none.yaml"));
    assert!(said(folder.path()).contains("this is a folder"));
    assert!(said(&path("binary.yaml")).contains("binary.yaml:2:3"));
    assert!(said(&path("large.yaml")).contains("larger than 1MiB"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
    let text = "\u{feff}version: 1\r\ningress:\r\n  backend: http://127.0.0.1:8000\r\n";

    assert_eq!(report("proxy.yaml", text), "");
}

#[test]
fn secrets_come_from_files_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "hunter2\n").unwrap();
    let file = folder.path().join("proxy.yaml");
    fs::write(&file, "version: 1\ningress: { backend: unix:/a }\ncontrol: { listen: 0.0.0.0:9091, token: { file: token } }\n")
        .unwrap();

    let loaded = config::load_file(&file).unwrap();

    let token = loaded.config.control.on().and_then(|control| control.token.as_ref()).unwrap();
    assert_eq!(token.expose(), "hunter2");
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));
    let text = fs::read_to_string(&file).unwrap();
    let written = Written { name: "proxy.yaml", text: &text, env: &|_| None };
    assert!(!config::effective_yaml(&loaded.config, written).contains("hunter2"));
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_effective_configuration_loads_to_itself() {
    for file in ["proxy.yaml", "examples/claude.yaml", "examples/minimal.yaml"] {
        let text = fs::read_to_string(file).unwrap();
        let first = config::load_str(file, &text, &environment).unwrap().config;

        let printed = config::effective_yaml(&first, Written { name: file, text: &text, env: &environment });
        let again = config::load_str("effective", &printed, &environment).unwrap().config;

        assert_eq!(first, again, "{printed}");
    }
}

#[test]
fn the_hash_tells_texts_apart() {
    let hash = |text: &str| config::load_str("proxy.yaml", text, &environment).unwrap().hash;

    assert_eq!(hash("version: 1"), hash("version: 1"));
    assert_ne!(hash("version: 1"), hash("version: 1 "));
    assert_eq!(hash("version: 1").len(), 12);
}

#[test]
fn a_memory_tier_is_held_against_the_memory_limit() {
    for (size, expected) in [
        ("76MiB", None),
        ("77MiB", Some(Severity::Warning)),
        ("102MiB", Some(Severity::Warning)),
        ("103MiB", Some(Severity::Error)),
    ] {
        let text =
            format!("version: 1\ningress: {{ backend: unix:/a }}\ncache: {{ memory: {{ size: {size} }} }}\n");

        let found = match config::load_str("proxy.yaml", &text, &environment) {
            Ok(loaded) => loaded.warnings.first().map(|problem| problem.severity),
            Err(problems) => problems.iter().next().map(|problem| problem.severity),
        };

        assert_eq!(found, expected, "{size}");
    }
}

/// One change to a text: its place, how much of it goes, and what comes in.
#[derive(Debug, Clone)]
struct Change {
    at: Index,
    length: usize,
    text: String,
}

fn change() -> impl Strategy<Value = Change> {
    let pieces = prop_oneof![
        Just(String::new()),
        "[ -~]{1,4}",
        "\\PC{1,3}",
        prop::sample::select(vec![
            "\n",
            "\t",
            "  ",
            ":",
            "- ",
            "{",
            "}",
            "[",
            "]",
            "\"",
            "'",
            "&a ",
            "*a",
            "!",
            "|",
            ">",
            "%",
            "---\n",
            "${",
            "}",
            "${EMPTY}",
            "$$",
            "#",
            "\u{0}",
            "\r",
            "<<: ",
            "? ",
            "null",
            "~",
            "off",
            "-1",
            "99999999999999999999",
            "0x1",
            "1e9",
            "\u{feff}",
            "\u{85}",
            "\u{2028}",
        ])
        .prop_map(str::to_owned),
    ];
    (any::<Index>(), 0_usize..12, pieces).prop_map(|(at, length, text)| Change { at, length, text })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_to_the_shipped_file_makes_it_panic(changes in prop::collection::vec(change(), 1..6)) {
        let mut text: Vec<char> = fs::read_to_string("proxy.yaml").unwrap().chars().collect();
        for Change { at, length, text: piece } in changes {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        let text: String = text.into_iter().collect();

        let said = report("proxy.yaml", &text);

        prop_assert!(!said.contains("canary"));
    }

    #[test]
    fn no_text_at_all_makes_it_panic(text in "\\PC{0,200}") {
        report("proxy.yaml", &text);
    }
}
