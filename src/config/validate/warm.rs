//! Rules for `cache.warm`: each address is one that clients can get from the cache, whoever they are.

use std::cmp::Reverse;

use super::{Finding, doubles};
use crate::config::{Config, Ingress, PathSegment, PathTemplate, Route, WarmAddress, path::YamlPath};

/// Addresses that are warmed at most, counted once for each host. At two at a time more would keep a backend busy that
/// has just started.
const MOST: usize = 1000;

pub(super) fn check(config: &Config, findings: &mut Vec<Finding>) {
    let (warm, at) = (&config.cache.warm, YamlPath::at("cache.warm"));
    if warm.is_empty() {
        return;
    }
    let Some(ingress) = &config.ingress else {
        findings.push(
            Finding::error(at, "there is no `ingress`, so nothing can be warmed")
                .reads(YamlPath::at("ingress")),
        );
        return;
    };
    doubles(warm, &at, findings);
    let mut count = 0_usize;
    for (index, text) in warm.iter().enumerate() {
        let path = at.index(index);
        match WarmAddress::parse(text) {
            Ok(parsed) => count += address(text, parsed, ingress, &path, findings),
            Err(error) => {
                let hint = error.hint;
                findings.push(Finding { hint, ..Finding::error(path, error.message) });
            }
        }
    }
    if count > MOST {
        let message = format!("{count} addresses are more than the {MOST} that are warmed at most");
        findings.push(Finding::error(at, message).hint("list those that are asked for most"));
    }
}

/// Checks one address and says for how many hosts it stands.
fn address(
    text: &str,
    address: WarmAddress,
    ingress: &Ingress,
    path: &YamlPath,
    findings: &mut Vec<Finding>,
) -> usize {
    let (hosts, proxies) = (YamlPath::at("ingress.hosts"), YamlPath::at("ingress.trusted_proxies"));
    let has_host = address.host.is_some();
    let routes = YamlPath::at("ingress.routes");
    if !has_host && ingress.hosts.is_empty() {
        let finding = Finding::error(path.clone(), format!("for which host is `{text}` to be fetched?"));
        findings.push(
            finding
                .hint(format!(
                    "list the names by which clients ask in `ingress.hosts`, or write http://NAME{text}"
                ))
                .reads(hosts),
        );
        return 0;
    }
    let all = address.with_hosts(&ingress.hosts);
    for one in &all {
        if let Some(message) = refusal(one, text, ingress) {
            findings.push(
                Finding::error(path.clone(), message)
                    .hint("only paths of a route with `cache: { public: true }` are warmed")
                    .reads(routes),
            );
            return all.len();
        }
    }
    if !has_host && !ingress.trusted_proxies.is_empty() {
        findings.push(
            Finding::warning(path.clone(), format!("`{text}` is fetched as plain http"))
                .hint(format!("where a trusted proxy tells of https, entries have keys of their own: write https://NAME{text}"))
                .reads(proxies),
        );
    }
    all.len()
}

/// Why an address cannot be warmed.
fn refusal(address: &WarmAddress, text: &str, ingress: &Ingress) -> Option<String> {
    let host = address.host.as_deref().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if !ingress.hosts.is_empty() && !ingress.hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Some(format!("host `{name}` is not in `ingress.hosts`"));
    }
    let fits = |route: &&Route| {
        route.host.as_ref().is_none_or(|host| host.eq_ignore_ascii_case(name))
            && (route.methods.is_empty() || route.methods.iter().any(|method| method == "GET"))
    };
    let found = ingress.routes.iter().filter(fits).filter_map(|route| {
        let template = PathTemplate::parse(&route.path).ok()?;
        Some((rank(&template, address.path())?, route))
    });
    let found: Vec<(Vec<u8>, &Route)> = found.collect();
    if found.iter().any(|(_, route)| route.deny) {
        return Some(format!("`{text}` is denied"));
    }
    // The most specific template wins, then the longer one, then one with a host.
    let order =
        |(rank, route): &&(Vec<u8>, &Route)| (rank.clone(), Reverse(rank.len()), route.host.is_none());
    match found.iter().min_by_key(order) {
        None => Some(format!("no route matches `{text}`")),
        Some((_, route)) if route.cache.as_ref().is_some_and(|cache| cache.public) => None,
        Some((_, route)) => Some(format!("route `{}`, which `{text}` takes, is not public", route.path)),
    }
}

/// How specific a template that matches the path is, segment by segment; none where it does not match.
fn rank(template: &PathTemplate, path: &str) -> Option<Vec<u8>> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let mut ranks = Vec::new();
    for segment in &template.segments {
        let part = parts.next()?;
        match segment {
            PathSegment::Literal(text) if text == part => ranks.push(0),
            PathSegment::Parameter(_) if !part.is_empty() => ranks.push(1),
            PathSegment::Rest(_) => {
                ranks.push(2);
                return Some(ranks);
            }
            PathSegment::Literal(_) | PathSegment::Parameter(_) => return None,
        }
    }
    parts.next().is_none().then_some(ranks)
}
