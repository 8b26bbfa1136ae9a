//! Rules across fields. Every rule is checked on every file; each finding says which values it read.

mod alerts;
mod bodies;
mod claude;
mod identity;
mod limits;
mod listeners;
mod redis;
mod routes;
mod rules;
mod warm;

use super::{
    Advise, Config, VERSION,
    path::YamlPath,
    problem::{Found, Severity},
    tree::Node,
    units::ByteSize,
};

/// What a rule found, before it has a line.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    severity: Severity,
    path: YamlPath,
    /// Other values the rule read; when one of them is broken, the finding is moot.
    related: Vec<YamlPath>,
    message: String,
    hint: Option<String>,
}

impl Finding {
    fn error(path: YamlPath, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path, related: Vec::new(), message: message.into(), hint: None }
    }

    fn warning(path: YamlPath, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message) }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn reads(mut self, path: YamlPath) -> Self {
        self.related.push(path);
        self
    }

    /// All values the rule read.
    pub(super) fn paths(&self) -> impl Iterator<Item = &YamlPath> {
        std::iter::once(&self.path).chain(&self.related)
    }

    /// Gives the finding its line: that of the value, else of another one it read, else of what would hold it.
    pub(super) fn place(self, root: &Node) -> Found {
        let path = self.paths().find(|path| root.has(path)).unwrap_or(&self.path);
        Found {
            severity: self.severity,
            mark: root.locate(path),
            path: path.to_string(),
            message: self.message,
            hint: self.hint,
        }
    }
}

/// Checks all rules. `memory_limit` is the container's limit as the environment gives it.
pub(super) fn validate(config: &Config, memory_limit: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    version(config, &mut findings);
    listeners::check(config, &mut findings);
    cache(config, &mut findings);
    redis::check(config, &mut findings);
    memory(config, memory_limit, &mut findings);
    if let Some(ingress) = &config.ingress {
        limits::check(ingress, &mut findings);
        routes::check(config, ingress, &mut findings);
    }
    if let Some(section) = &config.claude {
        claude::check(section, &mut findings);
        claude::shared(config, section, &mut findings);
    }
    warm::check(config, &mut findings);
    alerts::check(config, &mut findings);
    findings
}

fn version(config: &Config, findings: &mut Vec<Finding>) {
    if config.version != VERSION {
        let message = format!("version {} of the file's layout is not known", config.version);
        findings.push(Finding::error(YamlPath::at("version"), message).hint("this build reads `version: 1`"));
    }
}

fn cache(config: &Config, findings: &mut Vec<Finding>) {
    let (cache, at) = (&config.cache, |name: &str| YamlPath::at("cache").key(name));
    let size = YamlPath::at("cache.memory.size");
    if cache.max_body > cache.memory.size && !redis::is_memory_off(config) {
        let message =
            format!("a body of {} never fits into the memory tier of {}", cache.max_body, cache.memory.size);
        findings.push(
            Finding::error(at("max_body"), message)
                .hint("raise `cache.memory.size` or lower `cache.max_body`")
                .reads(size.clone()),
        );
    }
    if cache.max_body > cache.fill_memory {
        let message =
            format!("a body of {} is never received whole within {}", cache.max_body, cache.fill_memory);
        findings.push(
            Finding::error(at("max_body"), message)
                .hint("raise `cache.fill_memory` or lower `cache.max_body`")
                .reads(at("fill_memory")),
        );
    }
    doubles(&cache.targeted, &at("targeted"), findings);
    identity::secret(cache, findings);
    rules::credentials(cache, findings);
    advise(&cache.advise, findings);
}

/// Holds the names of ignored members to what the comparison of answers can follow.
fn advise(advise: &Advise, findings: &mut Vec<Finding>) {
    let path = YamlPath::at("cache.advise.ignore");
    if advise.ignore.len() > Advise::MAX_IGNORED {
        let message =
            format!("{} members are more than the {} allowed", advise.ignore.len(), Advise::MAX_IGNORED);
        findings.push(Finding::error(path.clone(), message).hint("name those that change on every answer"));
    }
    for (index, name) in advise.ignore.iter().enumerate() {
        if name.split('.').any(str::is_empty) {
            let message = format!("`{name}` has an empty part");
            findings.push(
                Finding::error(path.index(index), message)
                    .hint("name a member (`timestamp`) or one within another (`meta.timestamp`)"),
            );
        } else if name.split('.').count() > Advise::MAX_DEPTH {
            let message = format!("`{name}` lies deeper than {} objects", Advise::MAX_DEPTH);
            findings.push(
                Finding::error(path.index(index), message)
                    .hint("name the member that holds it; all of that member is then ignored"),
            );
        }
        if advise.ignore.iter().take(index).any(|earlier| earlier == name) {
            findings.push(Finding::error(path.index(index), format!("`{name}` is listed twice")));
        }
    }
}

/// Holds the memory tier against the memory limit of the container.
fn memory(config: &Config, limit: Option<&str>, findings: &mut Vec<Finding>) {
    let Some(text) = limit.map(str::trim).filter(|text| !text.is_empty()) else { return };
    let path = YamlPath::at("cache.memory.size");
    // The downward API of Kubernetes gives a plain number of bytes.
    let limit = text.parse::<u64>().ok().map(ByteSize::new).or_else(|| ByteSize::parse(text).ok());
    let Some(limit) = limit.filter(|limit| limit.bytes() > 0) else {
        let message =
            "TOUCHLINE_MEMORY_LIMIT is not a size, so `cache.memory.size` is not checked against it";
        findings
            .push(Finding::warning(path, message).hint("set it to bytes, such as 134217728, or to 128MiB"));
        return;
    };
    let size = config.cache.memory.size;
    let percent = u128::from(size.bytes()) * 100 / u128::from(limit.bytes());
    if percent < 60 || (percent == 60 && u128::from(size.bytes()) * 100 == u128::from(limit.bytes()) * 60) {
        return;
    }
    let message = format!("the memory tier of {size} is {percent} % of the memory limit of {limit}");
    let is_error = u128::from(size.bytes()) * 100 > u128::from(limit.bytes()) * 80;
    let finding = if is_error { Finding::error(path, message) } else { Finding::warning(path, message) };
    let room = ByteSize::new((limit.bytes() / 100 * 60) >> 20 << 20);
    findings.push(finding.hint(format!(
        "at most 60 % ({room}) leaves room for connections and copies in the making; more than 80 % is refused"
    )));
}

/// Reports entries of a list that repeat an earlier one, whatever their case.
fn doubles(items: &[String], path: &YamlPath, findings: &mut Vec<Finding>) {
    for (index, item) in items.iter().enumerate() {
        if items.iter().take(index).any(|earlier| earlier.eq_ignore_ascii_case(item)) {
            findings.push(Finding::error(path.index(index), format!("`{item}` is listed twice")));
        }
    }
}
