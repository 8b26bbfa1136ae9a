//! What is written down about requests, and what of it a configuration does not do.

use std::{collections::BTreeMap, fmt::Write as _, fs::File, io::Read as _, net::IpAddr, path::Path};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Asker, decision};
use crate::{
    config::{self, RouteCache, flow_yaml},
    ingress::{Explanation, Question},
};

/// Largest file of expectations that is read.
const MAX_FILE: u64 = 1 << 20;

/// What has to be true of a request. What is not written may be as it likes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    /// Method and URL.
    request: String,
    /// Its fields.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The address that it comes from.
    peer: Option<IpAddr>,
    /// The path of its route in the configuration, or `unmatched`.
    route: Option<String>,
    /// The reason of the error that it gets.
    refused: Option<String>,
    /// What the cache does with it.
    cache: Option<String>,
    /// The lifetime by the rule.
    ttl: Option<String>,
    /// Stale windows of the rule.
    stale_while_revalidate: Option<String>,
    stale_if_error: Option<String>,
    /// The names that its answer can be purged by.
    tags: Option<Vec<String>>,
    /// Parts of its key.
    #[serde(default)]
    key: BTreeMap<String, Value>,
    /// Settings and limits in force, by their names.
    #[serde(default)]
    settings: BTreeMap<String, Value>,
}

/// How the expectations were met.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    requests: usize,
    failed: Vec<Failed>,
}

/// A request of which something is not as expected.
#[derive(Debug, Serialize)]
struct Failed {
    /// Its position in the file, from 1.
    position: usize,
    request: String,
    differs: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct Difference {
    what: String,
    expected: String,
    found: String,
}

/// Holds a configuration to a file of expectations.
pub(super) fn held(file: &Path, asker: &Asker) -> anyhow::Result<Report> {
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .context("reading it")?;
    ensure!(text.len() as u64 <= MAX_FILE, "it is larger than 1MiB");
    let expectations: Vec<Expectation> =
        serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
    ensure!(!expectations.is_empty(), "it expects nothing");
    let mut failed = Vec::new();
    for (index, expectation) in expectations.iter().enumerate() {
        let position = index + 1;
        let question = expectation.question().with_context(|| format!("request {position}"))?;
        let told = asker.ask(&question);
        let mut differs = Vec::new();
        expectation.compare(&told, &mut differs);
        if !differs.is_empty() {
            failed.push(Failed { position, request: expectation.request.clone(), differs });
        }
    }
    Ok(Report { requests: expectations.len(), failed })
}

impl Report {
    /// True when everything is as expected.
    pub(super) fn is_met(&self) -> bool {
        self.failed.is_empty()
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for failed in &self.failed {
            let _ = writeln!(text, "{} (request {})", failed.request, failed.position);
            for Difference { what, expected, found } in &failed.differs {
                let _ = writeln!(text, "  {what}: expected {expected}, found {found}");
            }
        }
        let noun = |count| if count == 1 { "request" } else { "requests" };
        let count = self.requests;
        let _ = match self.failed.len() {
            0 => writeln!(text, "{count} {} as expected", noun(count)),
            1 => writeln!(text, "1 of {count} {} is not as expected", noun(count)),
            failed => writeln!(text, "{failed} of {count} {} are not as expected", noun(count)),
        };
        // Values may come from a request with anything in it.
        text.chars()
            .map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c })
            .collect()
    }
}

impl Expectation {
    fn question(&self) -> anyhow::Result<Question> {
        let Some((method, url)) = self.request.trim().split_once(' ') else {
            bail!("`{}` is no request, such as `GET /api/challenges`", self.request);
        };
        let headers: Vec<(String, String)> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok(Question::new(method, url.trim(), &headers, self.peer)?)
    }

    fn compare(&self, told: &Explanation, differs: &mut Vec<Difference>) {
        let mut check = |what: &str, expected: Option<String>, found: String| {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                differs.push(Difference { what: what.to_owned(), expected, found });
            }
        };
        let route = told.route.as_ref().map_or_else(|| "none".to_owned(), |route| route.path.clone());
        check("route", self.route.clone(), route);
        let refused = told.refused.as_ref().map_or("none", |refused| refused.reason);
        check("refused", self.refused.clone(), refused.to_owned());
        check("cache", self.cache.clone(), decision(told).to_owned());
        let times = [
            ("ttl", &self.ttl),
            ("stale_while_revalidate", &self.stale_while_revalidate),
            ("stale_if_error", &self.stale_if_error),
        ];
        for (name, expected) in times {
            // Another way to write the same time is the same.
            let same = |text: &str| {
                config::parse_duration(text).map_or_else(|_| text.to_owned(), config::format_duration)
            };
            check(name, expected.as_deref().map(same), in_force(told, name));
        }
        let list = |tags: &[String]| flow_yaml(&Value::from(tags.to_vec()));
        check("tags", self.tags.as_deref().map(list), list(&told.tags));
        for (name, expected) in &self.key {
            let part = told.key.iter().flat_map(|key| &key.parts).find(|part| part.name == *name);
            let found = part.and_then(|part| part.value.clone()).unwrap_or_else(|| "none".to_owned());
            check(&format!("key {name}"), Some(plain(expected)), found);
        }
        for (name, expected) in &self.settings {
            check(name, Some(plain(expected)), in_force(told, name));
        }
    }
}

/// A value as the explanation would have it, without the quotes of words that could be something else.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| flow_yaml(value), str::to_owned)
}

/// A setting or a limit in force. One that nobody has set is not told, so it has its default.
fn in_force(told: &Explanation, name: &str) -> String {
    let settings = told.settings.iter().chain(&told.limits);
    if let Some(setting) = settings.into_iter().find(|setting| setting.name == name) {
        return setting.value.clone();
    }
    let default = serde_json::to_value(RouteCache::default()).unwrap_or_default();
    let default = name.split('.').try_fold(&default, |value, key| value.get(key));
    default.map_or_else(|| "none".to_owned(), flow_yaml)
}
