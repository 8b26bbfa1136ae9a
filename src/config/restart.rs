//! Which keys are applied to a running proxy, and which wait for its restart.

use super::{Config, Switch};

/// The keys that are read once, when the process starts; what is below one of them is too.
///
/// A listener keeps its socket, a plane its threads, the tiers of the cache what they hold, and names that are made with a
/// secret their meaning.
pub const RESTART_KEYS: [&str; 22] = [
    "runtime",
    "drain.outlast_backend",
    "ingress.listen",
    "cache.memory.size",
    "cache.redis",
    "cache.blind_ttl",
    "cache.fill_memory",
    "cache.max_variants",
    "cache.followers",
    "cache.identity_secret",
    "cache.advise",
    "claude.listen",
    "claude.models",
    "claude.capabilities",
    "claude.conversations",
    "claude.response_cache.size",
    "claude.response_cache.ttl",
    "telemetry.service",
    "telemetry.log.format",
    "telemetry.otlp",
    "admin.listen",
    "control.listen",
];

/// The sections of which each starts a plane or a listener of its own. To add or to remove one takes a restart.
pub const PLANES: [&str; 4] = ["ingress", "claude", "admin", "control"];

/// True if a change of this key, such as `cache.redis.url`, waits for a restart.
///
/// The name of a section in [`PLANES`] alone stands for its coming or going.
#[must_use]
pub fn needs_restart(path: &str) -> bool {
    let is_below = |key: &&str| {
        path.strip_prefix(*key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    PLANES.contains(&path) || RESTART_KEYS.iter().any(is_below)
}

/// Gives the keys that wait for a restart the values that `running` has, and names those that would have had others.
pub fn keep_restart_keys(running: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    macro_rules! keep {
        ($($name:literal: $old:expr, $new:expr;)*) => {
            $(keep($name, $old, $new, &mut kept);)*
        };
    }
    keep! {
        "runtime": &running.runtime, &mut new.runtime;
        "drain.outlast_backend": &running.drain.outlast_backend, &mut new.drain.outlast_backend;
        "cache.memory.size": &running.cache.memory.size, &mut new.cache.memory.size;
        "cache.redis": &running.cache.redis, &mut new.cache.redis;
        "cache.blind_ttl": &running.cache.blind_ttl, &mut new.cache.blind_ttl;
        "cache.fill_memory": &running.cache.fill_memory, &mut new.cache.fill_memory;
        "cache.max_variants": &running.cache.max_variants, &mut new.cache.max_variants;
        "cache.followers": &running.cache.followers, &mut new.cache.followers;
        "cache.identity_secret": &running.cache.identity_secret, &mut new.cache.identity_secret;
        "cache.advise": &running.cache.advise, &mut new.cache.advise;
        "telemetry.service": &running.telemetry.service, &mut new.telemetry.service;
        "telemetry.log.format": &running.telemetry.log.format, &mut new.telemetry.log.format;
        "telemetry.otlp": &running.telemetry.otlp, &mut new.telemetry.otlp;
    }
    match (&running.ingress, &mut new.ingress) {
        (Some(old), Some(new)) => keep("ingress.listen", &old.listen, &mut new.listen, &mut kept),
        (old, new) => keep("ingress", old, new, &mut kept),
    }
    match (&running.claude, &mut new.claude) {
        (Some(old), Some(new)) => {
            let (old_answers, new_answers) = (&old.response_cache, &mut new.response_cache);
            keep! {
                "claude.listen": &old.listen, &mut new.listen;
                "claude.models": &old.models, &mut new.models;
                "claude.capabilities": &old.capabilities, &mut new.capabilities;
                "claude.conversations": &old.conversations, &mut new.conversations;
                "claude.response_cache.size": &old_answers.size, &mut new_answers.size;
                "claude.response_cache.ttl": &old_answers.ttl, &mut new_answers.ttl;
            }
        }
        (old, new) => keep("claude", old, new, &mut kept),
    }
    match (&running.admin, &mut new.admin) {
        (Switch::On(old), Switch::On(new)) => keep("admin.listen", &old.listen, &mut new.listen, &mut kept),
        (old, new) => keep("admin", old, new, &mut kept),
    }
    match (&running.control, &mut new.control) {
        (Switch::On(old), Switch::On(new)) => keep("control.listen", &old.listen, &mut new.listen, &mut kept),
        (old, new) => keep("control", old, new, &mut kept),
    }
    kept
}

fn keep<T: Clone + PartialEq>(name: &'static str, old: &T, new: &mut T, kept: &mut Vec<&'static str>) {
    if old != new {
        new.clone_from(old);
        kept.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::{PLANES, RESTART_KEYS, keep_restart_keys, needs_restart};
    use crate::config::{Config, load_str};

    fn loaded(text: &str) -> Config {
        load_str("proxy.yaml", text, &|_| None).unwrap().config
    }

    /// Two files that differ in every key that waits for a restart.
    const OLD: &str = "version: 1\ningress: { backend: 'http://127.0.0.1:8000' }\nclaude: {}\n";
    const NEW: &str = "version: 1
runtime: { workers: 3 }
drain: { outlast_backend: true }
ingress: { backend: 'http://127.0.0.1:8001', listen: '127.0.0.1:8090', slow_after: 9s }
cache:
  memory: { size: 9MiB }
  redis: { url: 'redis://127.0.0.1:1' }
  blind_ttl: 9s
  fill_memory: 9MiB
  max_variants: 9
  followers: 9
  identity_secret: a-secret-of-sufficient-length-for-it
  advise: { ignore: [x] }
  max_ttl: 9h
claude:
  listen: '127.0.0.1:8091'
  models: { claude-haiku-5-5: { max_output: 1000 } }
  capabilities: { api_key: key }
  conversations: { max: 900 }
  response_cache: { size: 9MiB, ttl: 9s }
  mode: observe
telemetry: { service: other, log: { format: text, level: debug }, otlp: { endpoint: 'http://127.0.0.1:4318' } }
admin: { listen: '127.0.0.1:9092' }
control: { listen: '127.0.0.1:9093' }
";

    #[test]
    fn each_key_that_waits_keeps_its_value_and_every_other_one_changes() {
        let (old, mut new) = (loaded(OLD), loaded(NEW));

        let mut kept = keep_restart_keys(&old, &mut new);

        let mut all = RESTART_KEYS.to_vec();
        kept.sort_unstable();
        all.sort_unstable();
        assert_eq!(kept, all);
        assert!(kept.iter().all(|key| needs_restart(key)));
        assert_eq!(
            (&new.cache.redis, &new.admin, &new.runtime),
            (&old.cache.redis, &old.admin, &old.runtime)
        );
        let (was, is) = (old.ingress.unwrap(), new.ingress.unwrap());
        assert_eq!(is.listen, was.listen);
        assert_ne!(is.backend, was.backend);
        assert_ne!(is.slow_after, was.slow_after);
        assert_ne!(new.claude.unwrap().mode, old.claude.unwrap().mode);
        assert_ne!(new.telemetry.log.level, old.telemetry.log.level);
        assert_ne!(new.cache.max_ttl, old.cache.max_ttl);
    }

    #[test]
    fn a_plane_neither_comes_nor_goes() {
        let without = "version: 1\nadmin: off\ncontrol: off\n";
        let (one, other) = (loaded(OLD), loaded(without));

        for (old, new) in [(&one, &other), (&other, &one)] {
            let mut merged = new.clone();
            assert_eq!(keep_restart_keys(old, &mut merged), PLANES);
            assert_eq!(merged, *old);
        }
    }

    #[test]
    fn a_key_waits_for_a_restart_with_all_below_it() {
        for path in
            ["runtime", "runtime.workers", "cache.redis.nodes[0]", "ingress", "claude.listen", "admin"]
        {
            assert!(needs_restart(path), "{path}");
        }
        for path in ["cache.redisless", "cache.memory", "ingress.routes", "ingress.listening", "version"] {
            assert!(!needs_restart(path), "{path}");
        }
    }
}
