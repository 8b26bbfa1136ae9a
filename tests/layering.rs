//! Holds the source tree to the rules of ARCHITECTURE.md: one-way imports and a module doc in each file.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each module of `src/` and the modules it may import, lowest layer first.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("telemetry", &["config"]),
    ("net", &["config", "telemetry"]),
    ("upstream", &["config", "telemetry", "net"]),
    ("cache", &["config", "telemetry"]),
    ("ingress", &["config", "telemetry", "net", "upstream", "cache"]),
    ("claude", &["config", "telemetry", "net", "upstream"]),
    ("postgrest", &["config", "telemetry", "net", "upstream"]),
    ("postgres", &["config", "telemetry", "net"]),
    ("admin", &["config", "telemetry", "net"]),
    ("inject", &["config"]),
];

/// What puts the modules together may import all of them.
const ABOVE_ALL: &[&str] = &["app", "cli"];

#[test]
fn the_layer_table_has_no_cycle_and_names_every_module() {
    for (i, (module, allowed)) in MAY_IMPORT.iter().enumerate() {
        let lower: Vec<_> = MAY_IMPORT[..i].iter().map(|(m, _)| *m).collect();
        for a in *allowed {
            assert!(lower.contains(a), "{module} may not import {a}: it is not below it");
        }
    }
    for entry in fs::read_dir("src").unwrap().flatten().filter(|e| e.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        if ABOVE_ALL.contains(&name.as_str()) {
            continue;
        }
        assert!(MAY_IMPORT.iter().any(|(m, _)| *m == name), "src/{name} has no layer");
    }
}

#[test]
fn modules_import_only_lower_layers() {
    let mut problems = Vec::new();
    for (module, allowed) in MAY_IMPORT {
        for file in sources(&Path::new("src").join(module)) {
            for used in crate_imports(&fs::read_to_string(&file).unwrap()) {
                if used != *module && !allowed.contains(&used.as_str()) {
                    problems.push(format!("{}: uses crate::{used}", file.display()));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let mut problems = Vec::new();
    for file in sources(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            problems.push(format!("{}: no module doc on its first line", file.display()));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Top-level modules named by `crate::x` or `crate::{x, y}` outside comments.
fn crate_imports(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).flat_map(|l| [l, "\n"]).collect();
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.push(identifier(rest));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in group.chars() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push(identifier(&std::mem::take(&mut item))),
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
        found.push(identifier(&item));
    }
    found.retain(|name| !name.is_empty());
    found
}

fn identifier(text: &str) -> String {
    let is_ident = |c: &char| c.is_alphanumeric() || *c == '_';
    text.trim_start().trim_start_matches(',').trim_start().chars().take_while(is_ident).collect()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    found
}
