//! Rules for `claude`: known models, budgets that can be kept, rules that decide something, and no circle.

use super::{Finding, doubles};
use crate::config::{
    Budget, BudgetBy, Claude, Config, ModelTier, SystemRule, models::is_shipped, path::YamlPath,
};

pub(super) fn check(claude: &Claude, findings: &mut Vec<Finding>) {
    let at = |name: &str| YamlPath::at("claude").key(name);
    tiers(claude, &at("tiers"), findings);
    if claude.upstream.host == "127.0.0.1" && claude.upstream.port == claude.listen.port() {
        findings.push(
            Finding::error(at("upstream"), "the API is `claude.listen` itself")
                .hint("calls would run in a circle: write https://api.anthropic.com")
                .reads(at("listen")),
        );
    }
    if !claude.upstream.is_tls && !is_local(&claude.upstream.host) {
        findings.push(
            Finding::warning(at("upstream"), "credentials and prompts would cross the network in the clear")
                .hint("write https://"),
        );
    }
    if !claude.listen.ip().is_loopback() {
        findings.push(
            Finding::warning(
                at("listen"),
                "whoever reaches this address can spend money with the keys that pass through it",
            )
            .hint("listen on 127.0.0.1, as the backend is in the same pod"),
        );
    }
    for (index, rule) in claude.router.systems.iter().enumerate() {
        system(rule, &at("router").key("systems").index(index), findings);
    }
    let judge = &claude.router.judge.model;
    if !judge.is_empty() && !is_known(claude, judge) {
        unknown(judge, at("router").key("judge").key("model"), findings);
    }
    budgets(&claude.budgets, &at("budgets"), findings);
    routes(claude, &at("routes"), findings);
    let transforms: Vec<_> = claude.rewrite.transforms.iter().map(|one| one.as_str().to_owned()).collect();
    doubles(&transforms, &at("rewrite").key("transforms"), findings);
    if claude.response_cache.single_flight && !claude.response_cache.enabled {
        let path = at("response_cache").key("single_flight");
        findings.push(
            Finding::warning(path, "calls are not joined while the response cache is off")
                .hint("set `claude.response_cache.enabled: true` too")
                .reads(at("response_cache").key("enabled")),
        );
    }
}

/// Warns where conversations are to be shared and cannot be.
pub(super) fn shared(config: &Config, claude: &Claude, findings: &mut Vec<Finding>) {
    if !claude.conversations.shared {
        return;
    }
    let at = || YamlPath::at("claude.conversations.shared");
    if config.cache.redis.url.nodes().is_empty() {
        findings.push(
            Finding::warning(at(), "there is no Redis to share conversations through")
                .hint("set `cache.redis.url`")
                .reads(YamlPath::at("cache.redis.url")),
        );
    } else if config.cache.identity_secret.is_none() {
        findings.push(
            Finding::warning(at(), "each replica has names of its own for conversations, so none is shared")
                .hint("set `cache.identity_secret`, the same for all replicas")
                .reads(YamlPath::at("cache.identity_secret")),
        );
    }
}

fn tiers(claude: &Claude, path: &YamlPath, findings: &mut Vec<Finding>) {
    for tier in ModelTier::ALL {
        let models = claude.tiers.of(tier);
        let path = path.key(tier.as_str());
        if models.is_empty() {
            findings.push(
                Finding::warning(path.clone(), "no call can go to this tier, as it has no model")
                    .hint("name one, or leave the key out for the default"),
            );
        }
        doubles(models, &path, findings);
        for (index, model) in models.iter().enumerate() {
            if !is_known(claude, model) {
                unknown(model, path.index(index), findings);
            }
        }
    }
}

fn is_known(claude: &Claude, model: &str) -> bool {
    let is_other_id = |also: &Option<Vec<String>>| also.iter().flatten().any(|id| id == model);
    is_shipped(model)
        || claude.models.contains_key(model)
        || claude.models.values().any(|entry| is_other_id(&entry.also))
}

fn unknown(model: &str, path: YamlPath, findings: &mut Vec<Finding>) {
    findings.push(
        Finding::warning(path, format!("`{model}` is in no price table, so no call is moved to it"))
            .hint(format!("add its prices and limits under `claude.models.{model}`")),
    );
}

fn system(rule: &SystemRule, path: &YamlPath, findings: &mut Vec<Finding>) {
    match (&rule.contains, &rule.regex) {
        (Some(_), None) | (None, Some(_)) => {}
        _ => findings.push(
            Finding::error(path.clone(), "a rule has either `contains` or `regex`")
                .hint("write { contains: \"short title\", tier: economy }"),
        ),
    }
    match (rule.tier, rule.kind) {
        (Some(_), None) | (None, Some(_)) => {}
        _ => findings.push(Finding::error(path.clone(), "a rule decides either a `tier` or a `type`")),
    }
    if let Some(pattern) = &rule.regex
        && let Err(error) = regex::Regex::new(pattern)
    {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        findings.push(
            Finding::error(path.key("regex"), format!("the regular expression cannot be read: {last}"))
                .hint("the syntax is that of the Rust crate regex, without look-around and back-references"),
        );
    }
}

fn budgets(budgets: &[Budget], path: &YamlPath, findings: &mut Vec<Finding>) {
    let names: Vec<String> = budgets.iter().map(|budget| budget.name.clone()).collect();
    for (index, budget) in budgets.iter().enumerate() {
        let at = path.index(index);
        if names.iter().take(index).any(|name| *name == budget.name) {
            let message = format!("there are two budgets named `{}`", budget.name);
            findings
                .push(Finding::error(at.key("name"), message).hint("their counts could not be told apart"));
        }
        if budget.limit.micros() == 0 {
            findings.push(
                Finding::error(at.key("limit"), "a budget of nothing turns every call away")
                    .hint("write an amount such as 20usd"),
            );
        }
        if budget.window.as_secs() == 0 {
            findings.push(Finding::error(at.key("window"), "a window is at least one second long"));
        }
        match (budget.by, budget.tier) {
            (BudgetBy::Tier, None) => findings.push(
                Finding::error(at.key("by"), "`by: tier` needs to know which tier")
                    .hint("add `tier: premium`"),
            ),
            (BudgetBy::All | BudgetBy::Identity, Some(_)) => findings.push(
                Finding::error(at.key("tier"), "a tier counts only with `by: tier`").reads(at.key("by")),
            ),
            _ => {}
        }
    }
}

fn routes(claude: &Claude, path: &YamlPath, findings: &mut Vec<Finding>) {
    let names: Vec<String> = claude.routes.iter().map(|route| route.path.clone()).collect();
    for (index, route) in claude.routes.iter().enumerate() {
        let at = path.index(index).key("path");
        let plain = route.path.trim_end_matches('/');
        if plain.is_empty() || plain.starts_with("/v1") {
            findings.push(
                Finding::error(
                    at.clone(),
                    format!("`{}` would take the paths of the API itself", route.path),
                )
                .hint("write a path such as /reports, and ANTHROPIC_BASE_URL=http://127.0.0.1:8081/reports"),
            );
        }
        if names.iter().take(index).any(|name| name.trim_end_matches('/') == plain) {
            findings.push(Finding::error(at, format!("`{}` is listed twice", route.path)));
        }
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::config::{Severity, load_str};

    /// The problems of a `claude` section: severity, path and message.
    fn problems(section: &str) -> Vec<(Severity, String, String)> {
        let text = format!("version: 1\nclaude: {{ {section} }}\n");
        let problems = match load_str("proxy.yaml", &text, &|_| None) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems.iter().cloned().collect(),
        };
        problems.into_iter().map(|problem| (problem.severity, problem.path, problem.message)).collect()
    }

    #[test]
    fn a_section_with_nothing_but_defaults_is_fine() {
        assert_eq!(problems("mode: route"), []);
    }

    #[test]
    fn each_fault_is_named_with_its_place() {
        let table = [
            (
                "tiers: { economy: [claude-mini] }",
                Severity::Warning,
                "claude.tiers.economy[0]",
                "price table",
            ),
            ("tiers: { premium: [] }", Severity::Warning, "claude.tiers.premium", "no model"),
            (
                "router: { judge: { model: x } }",
                Severity::Warning,
                "claude.router.judge.model",
                "price table",
            ),
            (
                "router: { systems: [{ tier: economy }] }",
                Severity::Error,
                "claude.router.systems[0]",
                "contains",
            ),
            ("router: { systems: [{ contains: a }] }", Severity::Error, "claude.router.systems[0]", "tier"),
            (
                "router: { systems: [{ regex: '(', tier: economy }] }",
                Severity::Error,
                "claude.router.systems[0].regex",
                "cannot be read",
            ),
            ("budgets: [{ name: a, limit: 0usd }]", Severity::Error, "claude.budgets[0].limit", "nothing"),
            (
                "budgets: [{ name: a, limit: 1usd, by: tier }]",
                Severity::Error,
                "claude.budgets[0].by",
                "which tier",
            ),
            (
                "budgets: [{ name: a, limit: 1usd, tier: economy }]",
                Severity::Error,
                "claude.budgets[0].tier",
                "by: tier",
            ),
            (
                "budgets: [{ name: a, limit: 1usd }, { name: a, limit: 2usd }]",
                Severity::Error,
                "claude.budgets[1].name",
                "two budgets",
            ),
            ("routes: [{ path: /v1/x }]", Severity::Error, "claude.routes[0].path", "API itself"),
            ("routes: [{ path: /a }, { path: /a/ }]", Severity::Error, "claude.routes[1].path", "twice"),
            ("conversations: { shared: true }", Severity::Warning, "claude.conversations.shared", "no Redis"),
            (
                "rewrite: { transforms: [drop_sampling, budget_to_effort, drop_sampling] }",
                Severity::Error,
                "claude.rewrite.transforms[2]",
                "twice",
            ),
            ("upstream: 'http://127.0.0.1:8081'", Severity::Error, "claude.upstream", "itself"),
            ("upstream: 'http://api.example'", Severity::Warning, "claude.upstream", "clear"),
            ("listen: '0.0.0.0:8081'", Severity::Warning, "claude.listen", "spend money"),
            (
                "response_cache: { single_flight: true }",
                Severity::Warning,
                "claude.response_cache.single_flight",
                "off",
            ),
        ];
        for (section, severity, path, word) in table {
            let found = problems(section);

            let is_it =
                |(s, p, m): &(Severity, String, String)| *s == severity && p == path && m.contains(word);
            assert!(found.iter().any(is_it), "{section}: {found:?}");
            assert_eq!(found.len(), 1, "{section}: {found:?}");
        }
    }

    #[test]
    fn a_model_with_prices_of_its_own_is_known() {
        let section = "tiers: { economy: [claude-mini] }, models: { claude-mini: { generation: 5, context: 1000, \
                       max_output: 100, prices: [{ input: 1usd, output: 2usd, cache_read: 0.1usd }] } }";

        assert_eq!(problems(section), []);
    }
}
