//! Which keys are applied to a running proxy, and which wait for its restart.

/// The keys that are read once, when the process starts; what is below one of them is too.
///
/// A listener keeps its socket, a plane its threads, and the tiers of the cache keep what they hold.
pub const RESTART_KEYS: [&str; 8] = [
    "runtime",
    "ingress.listen",
    "cache.memory.size",
    "cache.redis",
    "claude.listen",
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

#[cfg(test)]
mod tests {
    use super::needs_restart;

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
