//! Rules for `cache.redis`, and for the memory tier beside it.

use super::Finding;
use crate::config::{ByteSize, Config, RedisEncrypt, RedisMode, RedisNode, path::YamlPath};

/// The smallest memory tier that is on.
const LEAST_MEMORY: ByteSize = ByteSize::new(64 << 10);

/// Names that the original backend uses in its Redis itself.
const OF_THE_BACKEND: &[&str] = &[
    "session:",
    "challenges:",
    "metrics:",
    "metrics_index:",
    "ratelimit:",
    "rate_limit:",
    "reputation:",
    "health_check:",
    "wingman:",
];

pub(super) fn check(config: &Config, findings: &mut Vec<Finding>) {
    identities(config, findings);
    memory(config, findings);
    addresses(config, findings);
    names(config, findings);
}

/// Warns where answers of single users cannot be shared although there is a Redis to share them.
fn identities(config: &Config, findings: &mut Vec<Finding>) {
    let cache = &config.cache;
    let mut routes = config.ingress.iter().flat_map(|ingress| &ingress.routes);
    let has_users = routes.any(|route| route.cache.as_ref().is_some_and(|rule| rule.identity.is_some()));
    if has_users && cache.identity_secret.is_none() && !cache.redis.url.nodes().is_empty() {
        findings.push(
            Finding::warning(
                YamlPath::at("cache.identity_secret"),
                "answers of single users stay in the memory of each replica",
            )
            .hint("set `cache.identity_secret`, the same for all replicas, to share them through Redis")
            .reads(YamlPath::at("cache.redis.url")),
        );
    }
}

/// Whether the memory tier is switched off, which `memory` has judged.
pub(super) fn is_memory_off(config: &Config) -> bool {
    config.cache.memory.size.bytes() == 0
}

fn memory(config: &Config, findings: &mut Vec<Finding>) {
    let (path, size) = (YamlPath::at("cache.memory.size"), config.cache.memory.size);
    if is_memory_off(config) {
        if config.cache.redis.url.nodes().is_empty() {
            findings.push(
                Finding::error(path, "without memory and without Redis nothing is cached")
                    .hint("give `cache.memory.size`, set `cache.redis.url`, or say `cache.mode: off`")
                    .reads(YamlPath::at("cache.redis.url")),
            );
        }
    } else if size < LEAST_MEMORY {
        findings.push(
            Finding::error(path, format!("{size} is out of range"))
                .hint(format!("it must be at least {LEAST_MEMORY}, or 0B for none")),
        );
    }
}

fn addresses(config: &Config, findings: &mut Vec<Finding>) {
    let (redis, at) = (&config.cache.redis, |name: &str| YamlPath::at("cache.redis").key(name));
    let nodes = redis.url.nodes();
    let is_unix = nodes.iter().any(|node| matches!(node, RedisNode::Unix(_)));
    if redis.encrypt == RedisEncrypt::Identity && config.cache.identity_secret.is_none() {
        findings.push(
            Finding::error(at("encrypt"), "there is no secret to seal answers with")
                .hint("set `cache.identity_secret`, the same for all replicas")
                .reads(YamlPath::at("cache.identity_secret")),
        );
    }
    let mut fault = |key: &str, message: &str, hint: &str| {
        findings.push(Finding::error(at(key), message).hint(hint).reads(at("url")).reads(at("mode")));
    };
    match redis.mode {
        RedisMode::Standalone if nodes.len() > 1 => fault(
            "url",
            "several addresses are no standalone server",
            "say `mode: cluster` or `mode: sentinel`, or name one",
        ),
        RedisMode::Sentinel | RedisMode::Cluster if is_unix => {
            fault("url", "Sentinels and clusters are not reached by a unix socket", "name their hosts");
        }
        RedisMode::Cluster if redis.url.db() > 0 => {
            fault("url", "a cluster has only the database 0", "leave the number off");
        }
        RedisMode::Standalone | RedisMode::Sentinel | RedisMode::Cluster => {}
    }
    if redis.cert.is_some() != redis.key.is_some() {
        let missing = if redis.cert.is_some() { "key" } else { "cert" };
        fault(missing, "a certificate of our own needs both `cert` and `key`", "give the other one too");
    }
    if !redis.url.is_tls() && !nodes.is_empty() && (redis.ca.is_some() || redis.cert.is_some()) {
        let key = if redis.ca.is_some() { "ca" } else { "cert" };
        fault(key, "certificates are given for a connection without TLS", "write rediss:// in `url`");
    }
    if redis.username.is_some() && redis.password.is_none() && redis.url.password().is_none() {
        fault("username", "a user without a password cannot log in", "give `password` too");
    }
    if redis.mode != RedisMode::Sentinel
        && (redis.sentinel_username.is_some() || redis.sentinel_password.is_some())
    {
        findings.push(
            Finding::warning(at("mode"), "a login at the Sentinels is given, and no Sentinel is asked")
                .hint("say `mode: sentinel`, or take it out"),
        );
    }
}

fn names(config: &Config, findings: &mut Vec<Finding>) {
    let (redis, path) = (&config.cache.redis, YamlPath::at("cache.redis.prefix"));
    if redis.prefix.is_empty() {
        findings.push(
            Finding::error(path, "names without a beginning would mix with those of others")
                .hint("write a `prefix` such as \"touchline:\""),
        );
    } else if OF_THE_BACKEND.iter().any(|own| redis.prefix.starts_with(own) || own.starts_with(&redis.prefix))
    {
        findings.push(
            Finding::error(path, format!("`{}` is a beginning that the backend uses itself", redis.prefix))
                .hint("keep \"touchline:\", or put a name of your own in front of it"),
        );
    } else if redis.prefix.len() > 64 || redis.prefix.contains(['{', '}']) || !redis.prefix.is_ascii() {
        findings.push(
            Finding::error(path, "the beginning of names is at most 64 ASCII characters without braces")
                .hint("braces choose the node of a cluster, which is the cache's business"),
        );
    }
}
