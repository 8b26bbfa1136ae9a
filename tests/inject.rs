//! `touchline inject` and `uninject` over `tests/fixtures/manifests`: what changes, what is said, and that it is taken
//! back.
//!
//! `tests/golden/inject/*.txt` has for each manifest what is said and the difference. `UPDATE_GOLDEN=1 cargo test --test
//! inject` rewrites them, which are then read in review. A manifest may begin with its own `# flags:`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails where its helpers cannot go on")]

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use touchline::inject::{Flags, Level, Mode, Note, Outcome, Refused, Settings, Source, inject, uninject};

const MANIFESTS: &str = "tests/fixtures/manifests";
const CONFIGS: &str = "tests/fixtures/inject";
const GOLDEN: &str = "tests/golden/inject";
const IMAGE: &str =
    "registry.example/touchline@sha256:4d80b6a43ed68d75336cb1221de92fd925bc5a61ab08798dae2e77dec2a1794b";

/// Manifests that are changed behind an alias, and therefore come back with their meaning alone.
const WRITTEN_ANEW: [&str; 2] = ["alias-container.yaml", "yaml-1.1-aliased.yaml"];

/// The flags that a manifest asks for in its first line.
fn flags(text: &str) -> Flags {
    let line = text.trim_start_matches('\u{feff}').lines().next().unwrap_or_default();
    let mut words = line.strip_prefix("# flags: ").unwrap_or_default().split_whitespace();
    let mut flags = Flags { image: Some(IMAGE.to_owned()), ..Flags::default() };
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap().to_owned();
        match word {
            "--config" => {
                let name = value();
                let text = fs::read_to_string(Path::new(CONFIGS).join(&name)).unwrap();
                flags.config = Some((name, text));
            }
            "--mode" => flags.mode = if value() == "container" { Mode::Container } else { Mode::Native },
            "--container" => flags.container = Some(value()),
            "--config-map" => flags.config_map = Some(value()),
            "--secret" => flags.secret = Some(value()),
            "--set" => flags.set.push(value()),
            "--proxied-service" => flags.proxied_service = true,
            other => panic!("{other}"),
        }
    }
    flags
}

fn settings(text: &str) -> Settings {
    Settings::new(flags(text)).unwrap()
}

fn source(name: &str, text: &str) -> Vec<Source> {
    vec![Source { name: name.to_owned(), text: text.to_owned() }]
}

/// Every manifest with its name; those that are refused have names that say so.
fn manifests(is_refused: bool) -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(MANIFESTS).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        })
        .filter(|(name, _)| name.starts_with("refused-") == is_refused)
        .collect()
}

fn injected(name: &str, text: &str) -> Outcome {
    inject(&source(name, text), &settings(text)).unwrap_or_else(|notes| panic!("{name}: {}", said(&notes)))
}

fn uninjected(name: &str, text: &str) -> Outcome {
    uninject(&source(name, text)).unwrap_or_else(|notes| panic!("{name}: {}", said(&notes)))
}

fn said(notes: &[Note]) -> String {
    notes.iter().map(|note| format!("{note}\n")).collect()
}

/// The objects of a text, in one order for all forms of them.
fn objects(outcome: &Outcome) -> Vec<Value> {
    let json = outcome.json();
    serde_json::Deserializer::from_str(&json).into_iter().map(Result::unwrap).collect()
}

fn is_golden(name: &str, text: &str, stale: &mut Vec<String>) {
    let path = Path::new(GOLDEN).join(format!("{name}.txt"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(GOLDEN).unwrap();
        fs::write(&path, text).unwrap();
    } else if fs::read_to_string(&path).unwrap_or_default() != text {
        stale.push(format!("{}:\n{text}", path.display()));
    }
}

#[test]
fn every_manifest_changes_and_is_spoken_of_as_reviewed() {
    let manifests = manifests(false);
    assert!(manifests.len() >= 50, "only {} manifests", manifests.len());
    let mut stale = Vec::new();
    for (name, text) in &manifests {
        let settings = settings(text);
        let warnings: String = settings.warnings().map(|warning| format!("{warning}\n")).collect();
        let outcome = injected(name, text);
        let seen = format!("{warnings}{}\n{}", said(&outcome.notes), outcome.diff());
        // A version is no reason for a review.
        let seen = seen.replace(
            &format!("injected-version: \"{}\"", env!("CARGO_PKG_VERSION")),
            "injected-version: \"VERSION\"",
        );
        let seen = seen.replace(
            &format!("injected-version\": \"{}\"", env!("CARGO_PKG_VERSION")),
            "injected-version\": \"VERSION\"",
        );
        is_golden(name, &seen, &mut stale);
    }
    assert!(stale.is_empty(), "run with UPDATE_GOLDEN=1 if these are right:\n{}", stale.join("\n"));
}

#[test]
fn every_refusal_names_object_and_path() {
    let mut stale = Vec::new();
    for (name, text) in manifests(true) {
        let notes = inject(&source(&name, &text), &settings(&text)).map(|_| ()).unwrap_err();
        let problems: Vec<Note> = notes.into_iter().filter(|note| note.level == Level::Problem).collect();
        assert!(!problems.is_empty(), "{name}");
        assert!(
            problems.iter().all(|note| note.about.starts_with(&format!("{name}:"))),
            "{}",
            said(&problems)
        );
        is_golden(&name, &said(&problems), &mut stale);
    }
    assert!(stale.is_empty(), "run with UPDATE_GOLDEN=1 if these are right:\n{}", stale.join("\n"));
}

#[test]
fn a_second_injection_changes_nothing() {
    for (name, text) in manifests(false) {
        let once = injected(&name, &text).yaml();
        let again = inject(&source(&name, &once), &settings(&text))
            .unwrap_or_else(|notes| panic!("{name}: {}", said(&notes)));

        assert!(!again.is_changed(), "{name}:\n{}", again.diff());
        assert_eq!(again.yaml(), once, "{name}");
        assert_eq!(again.patch(), "", "{name}");
    }
}

#[test]
fn uninject_restores_every_manifest() {
    for (name, text) in manifests(false) {
        let before = uninjected(&name, &text);
        assert!(!before.is_changed(), "{name} is not injected");
        let after = injected(&name, &text).yaml();

        let back = uninjected(&name, &after);

        assert_eq!(objects(&back), objects(&before), "{name}");
        if !WRITTEN_ANEW.contains(&name.as_str()) {
            assert!(back.yaml() == text, "{name}:\n{}", uninjected_diff(&text, &back.yaml()));
        }
        assert!(!uninjected(&name, &back.yaml()).is_changed(), "{name}");
    }
}

fn uninjected_diff(expected: &str, found: &str) -> String {
    let pairs = expected.lines().zip(found.lines());
    let first = pairs.clone().position(|(expected, found)| expected != found);
    format!("line {first:?}\n{found}")
}

#[test]
fn only_what_is_said_to_change_changes() {
    for (name, text) in manifests(false) {
        let (before, outcome) = (uninjected(&name, &text), injected(&name, &text));
        let said_of: BTreeSet<&str> = outcome
            .notes
            .iter()
            .filter(|note| note.level == Level::Done)
            .map(|note| note.about.as_str())
            .collect();
        let (before, after) = (objects(&before), objects(&outcome));

        for (old, new) in before.iter().zip(&after).filter(|(old, new)| old != new) {
            let id = format!("{}/", old["kind"].as_str().unwrap());
            assert!(said_of.iter().any(|about| about.starts_with(&id)), "{name}: nothing is said of {new}");
        }
        assert!(after.len() >= before.len(), "{name}");
    }
}

#[test]
fn other_documents_keep_every_byte() {
    let other = |name: &str, from: &str| {
        let text = fs::read_to_string(Path::new(MANIFESTS).join(name)).unwrap();
        let rest = &text[text.find(from).unwrap()..];
        let after = injected(name, &text).yaml();
        assert!(after.contains(rest), "{name}: {after}");
    };
    other("other-documents.yaml", "---\n# Left as it is");
    other("block-scalars.yaml", "---\napiVersion: v1\nkind: ConfigMap");
    for name in ["custom-resources.yaml", "empty.yaml", "only-comments.yaml", "disabled.yaml"] {
        let text = fs::read_to_string(Path::new(MANIFESTS).join(name)).unwrap();
        let outcome = injected(name, &text);
        assert_eq!(outcome.yaml(), text);
        assert!(!outcome.is_changed());
    }
}

#[test]
fn the_pod_is_the_golden_pod() {
    let text = fs::read_to_string(Path::new(MANIFESTS).join("golden-pod.yaml")).unwrap();
    let found = objects(&injected("golden-pod.yaml", &text));
    let golden: Value =
        serde_saphyr::from_str(&fs::read_to_string(Path::new(CONFIGS).join("golden-pod.yaml")).unwrap())
            .unwrap();
    let mut pod = found[0].clone();
    let annotations = pod["spec"]["template"]["metadata"]["annotations"].as_object_mut().unwrap();
    assert!(annotations.remove("touchline/injected").is_some());
    annotations.insert("touchline/injected-version".to_owned(), json!("0.4.0"));

    assert_eq!(pod, golden);
}

#[test]
fn an_upgrade_changes_what_is_new_and_nothing_else() {
    let text = fs::read_to_string(Path::new(MANIFESTS).join("comments-everywhere.yaml")).unwrap();
    let old = injected("m.yaml", &text).yaml();
    let newer =
        Settings::new(Flags { image: Some("registry.example/touchline:9".to_owned()), ..flags(&text) })
            .unwrap();

    let outcome = inject(&source("m.yaml", &old), &newer).unwrap();

    assert_eq!(outcome.yaml(), old.replace(IMAGE, "registry.example/touchline:9"));
    assert_eq!(
        outcome.diff().lines().filter(|line| line.starts_with(['+', '-'])).count(),
        4,
        "{}",
        outcome.diff()
    );
    assert!(said(&outcome.notes).contains("is injected anew"), "{}", said(&outcome.notes));
    let other_mode = Settings::new(Flags { mode: Mode::Container, ..flags(&text) }).unwrap();
    let moved = inject(&source("m.yaml", &old), &other_mode).unwrap().yaml();
    assert_eq!(uninjected("m.yaml", &moved).yaml(), text);
}

#[test]
fn what_somebody_changed_since_is_theirs() {
    let text = fs::read_to_string(Path::new(MANIFESTS).join("deployment.yaml")).unwrap();
    let edited = injected("m.yaml", &text)
        .yaml()
        .replace("terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 90")
        .replace("            seconds: 20", "            seconds: 25")
        .replace("    targetPort: 8080", "    targetPort: 9999")
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: mine\n";

    let outcome = uninjected("m.yaml", &edited);

    let back = outcome.yaml();
    for kept in ["terminationGracePeriodSeconds: 90", "seconds: 25", "targetPort: 9999", "name: mine"] {
        assert!(back.contains(kept), "{kept} in {back}");
    }
    assert!(!back.contains("touchline"), "{back}");
    assert_eq!(said(&outcome.notes).matches("changed since").count(), 3, "{}", said(&outcome.notes));
}

#[test]
fn texts_that_belong_together_may_be_in_several_files() {
    let text = fs::read_to_string(Path::new(MANIFESTS).join("deployment.yaml")).unwrap();
    let (deployment, service) = text.split_once("---\n").unwrap();
    let files = [source("d.yaml", deployment), source("s.yaml", service)].concat();

    let outcome = inject(&files, &settings("")).unwrap();

    assert_eq!(outcome.yaml(), injected("both.yaml", &text).yaml());
    // A Service on its own, which an earlier injection changed, is not changed back by a later one.
    let (_, redirected) =
        outcome.yaml().split_once("---\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(redirected.contains("targetPort: 8080"));
    assert!(!inject(&source("s.yaml", &redirected), &settings("")).unwrap().is_changed());
}

#[test]
fn the_component_of_kustomize_has_the_patches_that_inject_makes() {
    let folder = Path::new("examples/kustomize");
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    let config = Some(("proxy.yaml".to_owned(), read("touchline/proxy.yaml")));
    let settings = Settings::new(Flags {
        image: Some("registry.example/touchline:0.1.0".to_owned()),
        config,
        ..Flags::default()
    })
    .unwrap();
    let files: Vec<Source> = ["base/deployment.yaml", "base/service.yaml"]
        .iter()
        .map(|path| Source { name: (*path).to_owned(), text: read(path) })
        .collect();

    let patch = inject(&files, &settings).unwrap().patch();

    let parts: Vec<&str> = patch.split("---\n").collect();
    assert_eq!(parts.len(), 3, "{patch}");
    assert!(parts[2].contains("# ConfigMap/touchline-config is new"), "{patch}");
    for (part, path) in parts.iter().zip(["touchline/deployment-patch.yaml", "touchline/service-patch.yaml"])
    {
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(folder.join(path), part).unwrap();
        }
        assert!(read(path) == **part, "{path} is stale: run with UPDATE_GOLDEN=1");
    }
}

#[test]
fn flags_that_cannot_be_followed_are_refused() {
    let with = |change: &dyn Fn(&mut Flags)| {
        let mut flags = flags("");
        change(&mut flags);
        Settings::new(flags).map(|_| ()).unwrap_err()
    };
    let usage = |text: &str| Refused::Usage(text.to_owned());
    if touchline::inject::IMAGE.is_none() {
        assert_eq!(
            with(&|flags| flags.image = None),
            usage("--image REF is needed: this build names no image of its own")
        );
    }
    assert_eq!(
        with(&|flags| flags.image = Some("a b".into())),
        usage("--image: `a b` is not the name of an image")
    );
    assert_eq!(
        with(&|flags| flags.secret = Some("A".into())),
        usage("--secret: `A` is not a name that Kubernetes allows")
    );
    assert!(matches!(
        with(&|flags| flags.config = Some(("c".into(), "version: 1\ningres: {}\n".into()))),
        Refused::Config(text) if text.contains("did you mean `ingress`?")
    ));
}

/// Runs the executable.
fn run(arguments: &[&str], given: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_touchline"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that is refused does not read.
    let _ = child.stdin.take().unwrap().write_all(given.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_command_says_by_its_exit_code_what_it_did() {
    let deployment = format!("{MANIFESTS}/deployment.yaml");
    let (code, after, err) = run(&["inject", "--image", IMAGE, "-f", &deployment], "");
    assert_eq!(code, Some(0), "{err}");
    assert!(
        err.contains("Deployment/coach-backend: is injected: touchline beside container backend"),
        "{err}"
    );
    assert_eq!(run(&["inject", "--image", IMAGE, "-"], &after), (Some(0), after.clone(), err_again(&after)));
    assert_eq!(run(&["uninject", "-"], &after).1, fs::read_to_string(&deployment).unwrap());

    for (arguments, given, expected, out) in [
        (&["inject", "--image", IMAGE, "--check", "-f", &deployment][..], "", 3, ""),
        (&["inject", "--image", IMAGE, "--check", "-"], &after, 0, ""),
        (&["uninject", "--check", "-"], &after, 3, ""),
        (&["uninject", "--check", "-f", &deployment], "", 0, ""),
        (&["inject", "--image", IMAGE, "-"], "a: [", 1, ""),
        (&["inject", "--image", IMAGE, "-f", "none.yaml"], "", 1, ""),
        (&["inject", "--image", IMAGE, "--config", "none.yaml", "-"], "", 1, ""),
        (&["inject", "--image", IMAGE], "", 2, ""),
        (&["inject", "--image", IMAGE, "-f", "-", "-"], "", 2, ""),
        (&["inject", "--image", IMAGE, "--set", "x=y", "-"], "", 2, ""),
        (&["inject", "--image", IMAGE, "-o", "table", "-"], "", 2, ""),
        (&["inject", "--image", IMAGE, "file.yaml"], "", 2, ""),
    ] {
        let (code, found, err) = run(arguments, given);
        assert_eq!((code, found.as_str()), (Some(expected), out), "{arguments:?}: {err}");
        assert!(expected == 0 || !err.is_empty(), "{arguments:?}");
    }
    let (_, patch, _) = run(&["inject", "--image", IMAGE, "-o", "patch", "-f", &deployment], "");
    assert!(
        patch.starts_with(
            "# Deployment/coach-backend: kubectl patch deployment coach-backend --patch-file FILE\n"
        ),
        "{patch}"
    );
    let (_, json, _) = run(&["inject", "--image", IMAGE, "-o", "json", "-f", &deployment], "");
    assert_eq!(
        serde_json::Deserializer::from_str(&json).into_iter::<Value>().filter_map(Result::ok).count(),
        2
    );
}

/// What is said of a manifest that has the proxy already.
fn err_again(after: &str) -> String {
    said(&inject(&source("stdin", after), &settings("")).unwrap().notes)
}

/// A part of a manifest, or what may stand around one.
fn line() -> impl Strategy<Value = &'static str> {
    select(vec!["", "# a comment\n", "\n", "\n# two\n\n# more\n"])
}

/// A pod as somebody may write it: indentation, comments, quotes, flow and block, and fields in any order.
fn pod() -> impl Strategy<Value = String> {
    let env = select(vec![
        "",
        "env: []\n",
        "env:\n- name: A\n  value: \"0644\"\n",
        "env: [{name: A, value: 'y'}] # flow\n",
        "env:\n  - name: A\n    value: |\n      x\n\n      y\n",
    ]);
    let lifecycle = select(vec![
        "",
        "lifecycle: {}\n",
        "lifecycle: # hooks\n  postStart: {exec: {command: [a]}}\n",
        "lifecycle:\n  preStop:\n    exec: {command: [sleep, '5']}\n",
    ]);
    let volumes = select(vec![
        "",
        "volumes: []\n",
        "volumes:\n",
        "volumes:\n- name: v\n  secret: {secretName: s, defaultMode: 0644}\n",
        "volumes: [{name: v, emptyDir: {}}]\n",
    ]);
    let init = select(vec!["", "initContainers: []\n", "initContainers:\n  - name: i\n    image: i # i\n"]);
    let grace = select(vec![
        "",
        "terminationGracePeriodSeconds: 5 # short\n",
        "terminationGracePeriodSeconds: 300\n",
        "terminationGracePeriodSeconds:\n",
    ]);
    let annotations = select(vec![
        "",
        "annotations: {}\n",
        "annotations:\n  a: \"yes\" # b\n",
        "annotations: {a: b}\n",
        "annotations:\n",
    ]);
    let ends = (any::<bool>(), any::<bool>(), 1_usize..5, prop::collection::vec(line(), 8));
    (env, lifecycle, volumes, init, grace, annotations, ends).prop_map(
        |(env, lifecycle, volumes, init, grace, annotations, (is_crlf, is_open, step, between))| {
            let indent =
                |text: &str, depth: usize| -> String {
                    text.split_inclusive('\n')
                        .map(|line| {
                            if line == "\n" {
                                line.to_owned()
                            } else {
                                format!("{}{line}", " ".repeat(depth))
                            }
                        })
                        .collect()
                };
            let container =
                format!("name: app\nimage: i # pinned\n{}{env}{}{lifecycle}", between[0], between[1]);
            let item = format!("- {}", indent(&container, 2).trim_start());
            let spec = format!(
                "{}{grace}{init}{}containers:\n{item}{}{volumes}{}",
                between[2], between[3], between[4], between[5]
            );
            let text = format!(
                "{}apiVersion: v1\nkind: Pod\nmetadata:\n{}{}spec:\n{}",
                between[6],
                indent(&format!("name: p\n{annotations}"), step),
                between[7],
                indent(&spec, step)
            );
            let text = if is_open { text.trim_end().to_owned() } else { text };
            if is_crlf { text.replace('\n', "\r\n") } else { text }
        },
    )
}

/// Documents that are not touched.
fn other() -> impl Strategy<Value = String> {
    select(vec![
        "# nothing\n",
        "kind:   ConfigMap\napiVersion: v1\nmetadata: {name:   a}\n",
        "a: |+\n  ---\n\n\n",
        "- a\n-   b\n",
        "\"text\"\n",
        "kind: Rollout\napiVersion: x/v1\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pod_keeps_its_meaning_and_comes_back(pod in pod(), has_config in any::<bool>(), is_container in any::<bool>()) {
        let mut flags = flags(if has_config { "# flags: --config claude.yaml" } else { "" });
        flags.mode = if is_container { Mode::Container } else { Mode::Native };
        let settings = Settings::new(flags).unwrap();
        let before = uninject(&source("m", &pod)).unwrap();

        let outcome = inject(&source("m", &pod), &settings).unwrap();
        let after = outcome.yaml();
        let again = inject(&source("m", &after), &settings).unwrap();
        let back = uninject(&source("m", &after)).unwrap();

        prop_assert!(!again.is_changed(), "{}", again.diff());
        prop_assert_eq!(objects(&back), objects(&before));
        prop_assert_eq!(back.yaml(), pod.clone(), "through {}", after);
        prop_assert!(!said(&outcome.notes).contains("comments are lost"), "{}", after);
        // An independent reader finds the container, and every comment is still there.
        let first = after.split("\n---").next().unwrap();
        let read: Value = serde_saphyr::from_str(first).unwrap();
        let list = if is_container { "containers" } else { "initContainers" };
        prop_assert!(read["spec"][list].as_array().unwrap().iter().any(|item| item["name"] == "touchline"));
        prop_assert_eq!(pod.matches("# ").count(), first.matches("# ").count());
    }

    #[test]
    fn other_documents_pass_byte_for_byte(before in other(), after in other(), pod in pod()) {
        let pod = format!("{}\n", pod.replace("\r\n", "\n").trim_end());
        let text = format!("{before}---\n{pod}---\n{after}");

        let found = inject(&source("m", &text), &settings("")).unwrap().yaml();

        prop_assert!(found.starts_with(&before) && found.ends_with(&format!("---\n{after}")), "{}", found);
        prop_assert_eq!(uninject(&source("m", &found)).unwrap().yaml(), text);
    }
}
