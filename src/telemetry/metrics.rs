//! Every metric, declared once: name, help, labels. The text at `/metrics` and `docs/metrics.md` both come from here.
//!
//! Names are `touchline_<subsystem>_<noun>_<unit>` in base units. Label values come from closed sets, the route
//! templates of the configuration, and hashes and versions of the program's own.

pub(super) mod claude;

use std::fmt::Write as _;

use Type::{Counter, Gauge, Histogram};

use super::counters::BOUNDS_US;

/// The content type of the text at `/metrics`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, with the bounds of every latency histogram.
    Histogram,
}

impl Type {
    /// The word in the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its full name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it measures.
    pub kind: Type,
    /// Its label names.
    pub labels: &'static [&'static str],
}

const fn family(
    name: &'static str,
    kind: Type,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, help, kind, labels }
}

pub(super) const INGRESS_REQUESTS: Family = family(
    "touchline_ingress_requests_total",
    Counter,
    &["route", "method", "status", "cache"],
    "Requests by route template, method, exact status and what the cache did.",
);
pub(super) const INGRESS_DURATION: Family = family(
    "touchline_ingress_request_duration_seconds",
    Histogram,
    &["route", "method", "status_class", "kind"],
    "Time from the first byte of a request to the last byte of its answer.",
);
pub(super) const INGRESS_FIRST_BYTE: Family = family(
    "touchline_ingress_first_byte_seconds",
    Histogram,
    &["route", "method", "kind"],
    "Time from the first byte of a request to the head of its answer.",
);
pub(super) const INGRESS_SLOW_AFTER: Family = family(
    "touchline_ingress_route_slow_after_seconds",
    Gauge,
    &["route", "method"],
    "Time after which a request of the route is slow.",
);
pub(super) const INGRESS_SLOW: Family = family(
    "touchline_ingress_slow_requests_total",
    Counter,
    &[],
    "Requests that took longer than their route allows.",
);
pub(super) const INGRESS_REQUEST_BYTES: Family =
    family("touchline_ingress_request_bytes_total", Counter, &["route"], "Body bytes received from clients.");
pub(super) const INGRESS_RESPONSE_BYTES: Family =
    family("touchline_ingress_response_bytes_total", Counter, &["route"], "Body bytes sent to clients.");
pub(super) const NET_CONNECTIONS: Family =
    family("touchline_net_connections", Gauge, &["listener"], "Connections open now.");
pub(super) const NET_ACCEPTED: Family =
    family("touchline_net_connections_accepted_total", Counter, &["listener"], "Connections accepted.");
pub(super) const NET_TURNED_AWAY: Family = family(
    "touchline_net_connections_turned_away_total",
    Counter,
    &["listener"],
    "Connections closed at once because a limit on connections was reached.",
);
pub(super) const NET_IN_FLIGHT: Family =
    family("touchline_net_requests_in_flight", Gauge, &["listener"], "Requests being served now.");
pub(super) const NET_UPGRADES: Family = family(
    "touchline_net_upgraded_connections",
    Gauge,
    &["listener"],
    "Upgraded connections (tunnels) open now.",
);
pub(super) const NET_REFUSALS: Family = family(
    "touchline_net_refusals_total",
    Counter,
    &["listener", "reason"],
    "Requests answered with an error of the proxy's own, by reason.",
);
pub(super) const NET_UNDERSCORES_DROPPED: Family = family(
    "touchline_net_underscores_dropped_total",
    Counter,
    &["listener"],
    "Header fields dropped because of an underscore in the name.",
);
pub(super) const CACHE_LOOKUPS: Family = family(
    "touchline_cache_lookups_total",
    Counter,
    &["route", "status"],
    "Requests looked up in the cache, by outcome; without those for which neither a rule nor the backend lets an answer be kept.",
);
pub(super) const CACHE_HITS: Family = family(
    "touchline_cache_hits_total",
    Counter,
    &["route", "source"],
    "Requests answered from the cache, by where the answer came from.",
);
pub(super) const CACHE_REASONS: Family = family(
    "touchline_cache_reasons_total",
    Counter,
    &["route", "reason"],
    "Requests that were not plain hits, by the reason: not looked up, not found, not stored, or answered stale.",
);
pub(super) const CACHE_WOULD_HITS: Family = family(
    "touchline_cache_would_hits_total",
    Counter,
    &["route"],
    "Requests that the cache would have answered where it only observes, as the configuration is.",
);
pub(super) const CACHE_ENTRIES: Family =
    family("touchline_cache_entries", Gauge, &[], "Entries of the memory tier.");
pub(super) const CACHE_BYTES: Family =
    family("touchline_cache_bytes", Gauge, &[], "Bytes of the memory tier.");
pub(super) const CACHE_MAX_BYTES: Family =
    family("touchline_cache_max_bytes", Gauge, &[], "The most bytes that the memory tier may hold.");
pub(super) const CACHE_EVICTIONS: Family =
    family("touchline_cache_evictions_total", Counter, &["tier"], "Entries dropped for want of room.");
pub(super) const CACHE_FILLS: Family =
    family("touchline_cache_fills", Gauge, &[], "Answers being copied into the cache now.");
pub(super) const CACHE_WAITERS: Family = family(
    "touchline_cache_flight_waiters",
    Gauge,
    &[],
    "Requests waiting now for another request's fetch of the same answer.",
);
pub(super) const CACHE_OPERATIONS: Family = family(
    "touchline_cache_operation_duration_seconds",
    Histogram,
    &["tier", "operation"],
    "Time of cache operations: lookup, store, purge.",
);
pub(super) const CACHE_REDIS_UP: Family = family(
    "touchline_cache_redis_up",
    Gauge,
    &[],
    "1 while Redis answers, 0 while the cache goes on in memory alone; absent without cache.redis.",
);
pub(super) const CACHE_REDIS_LOSSES: Family =
    family("touchline_cache_redis_losses_total", Counter, &[], "How often Redis was lost.");
pub(super) const CACHE_REDIS_ERRORS: Family = family(
    "touchline_cache_redis_errors_total",
    Counter,
    &["kind"],
    "Operations on Redis that failed, by kind; each was a miss or a write that was not made.",
);
pub(super) const CACHE_VALUES_REJECTED: Family = family(
    "touchline_cache_values_rejected_total",
    Counter,
    &["cause"],
    "Values found in Redis that were not believed and deleted, by cause.",
);
pub(super) const CACHE_REDIS_DROPPED: Family = family(
    "touchline_cache_redis_writes_dropped_total",
    Counter,
    &["cause"],
    "Writes to Redis that were not made because too many waited, or because Redis was down.",
);
pub(super) const CACHE_REDIS_PENDING: Family = family(
    "touchline_cache_redis_pending_writes",
    Gauge,
    &[],
    "Writes to Redis that wait behind the answers.",
);
pub(super) const CACHE_REDIS_PURGES: Family = family(
    "touchline_cache_redis_pending_purges",
    Gauge,
    &[],
    "Purges that other replicas have not heard of, because Redis could not be told yet.",
);
pub(super) const CACHE_REDIS_BYTES: Family = family(
    "touchline_cache_redis_bytes_total",
    Counter,
    &["direction"],
    "Bytes of values read from Redis and written to it.",
);
pub(super) const UPSTREAM_UP: Family = family(
    "touchline_upstream_up",
    Gauge,
    &["upstream"],
    "1 while the upstream answers its probes, 0 while it does not; absent before the first verdict.",
);
pub(super) const UPSTREAM_BREAKER: Family = family(
    "touchline_upstream_breaker_state",
    Gauge,
    &["upstream"],
    "0: closed, requests pass. 1: half open, one is tried. 2: open, requests are refused.",
);
pub(super) const UPSTREAM_BREAKER_OPENED: Family = family(
    "touchline_upstream_breaker_opened_total",
    Counter,
    &["upstream"],
    "How often the breaker opened.",
);
pub(super) const UPSTREAM_CONNECTS: Family =
    family("touchline_upstream_connects_total", Counter, &["upstream"], "Connections made.");
pub(super) const UPSTREAM_REUSED: Family = family(
    "touchline_upstream_reused_total",
    Counter,
    &["upstream"],
    "Requests sent over a pooled connection.",
);
pub(super) const UPSTREAM_ERRORS: Family = family(
    "touchline_upstream_errors_total",
    Counter,
    &["upstream", "reason"],
    "Faults of the upstream, and requests refused for want of a free place, by reason.",
);
pub(super) const UPSTREAM_RETRIES: Family =
    family("touchline_upstream_retries_total", Counter, &["upstream"], "Requests sent a second time.");
pub(super) const UPSTREAM_RETRIES_DENIED: Family = family(
    "touchline_upstream_retries_denied_total",
    Counter,
    &["upstream"],
    "Retries that the retry budget did not allow.",
);
pub(super) const UPSTREAM_INTERIM_DROPPED: Family = family(
    "touchline_upstream_interim_dropped_total",
    Counter,
    &["upstream"],
    "Interim (1xx) answers of the upstream that were not passed on.",
);
pub(super) const UPSTREAM_IN_FLIGHT: Family =
    family("touchline_upstream_requests_in_flight", Gauge, &["upstream"], "Requests at the upstream now.");
pub(super) const UPSTREAM_QUEUED: Family = family(
    "touchline_upstream_requests_queued",
    Gauge,
    &["upstream"],
    "Requests waiting now for a free place at the upstream.",
);
pub(super) const UPSTREAM_IDLE: Family =
    family("touchline_upstream_idle_connections", Gauge, &["upstream"], "Idle connections in the pool now.");
pub(super) const UPSTREAM_CONNECT_TIME: Family =
    family("touchline_upstream_connect_seconds", Histogram, &["upstream"], "Time to make a connection.");
pub(super) const UPSTREAM_QUEUE_WAIT: Family = family(
    "touchline_upstream_queue_wait_seconds",
    Histogram,
    &["upstream"],
    "Time that requests waited for a free place; those that did not wait are not in it.",
);
pub(super) const CONFIG_SUCCESSFUL: Family = family(
    "touchline_config_last_reload_successful",
    Gauge,
    &[],
    "1 while the newest configuration file is in force, 0 while it was rejected and an older one is.",
);
pub(super) const CONFIG_RESTART_PENDING: Family = family(
    "touchline_config_restart_pending",
    Gauge,
    &[],
    "1 while keys of the configuration in force wait for a restart, 0 otherwise.",
);
pub(super) const CONFIG_LOADED: Family = family(
    "touchline_config_last_reload_timestamp_seconds",
    Gauge,
    &[],
    "When the configuration in force was loaded, in seconds since 1970.",
);
pub(super) const CONFIG_RELOADS: Family = family(
    "touchline_config_reloads_total",
    Counter,
    &["outcome"],
    "Reloads of the configuration: accepted or rejected.",
);
pub(super) const CONFIG_INFO: Family =
    family("touchline_config_info", Gauge, &["hash"], "1, with the hash of the configuration in force.");
pub(super) const TELEMETRY_SERIES: Family = family(
    "touchline_telemetry_series",
    Gauge,
    &[],
    "Series of routes that exist, against telemetry.max_series.",
);
pub(super) const TELEMETRY_DROPPED: Family = family(
    "touchline_telemetry_series_dropped_total",
    Counter,
    &[],
    "Records counted under the route `other` because telemetry.max_series was reached.",
);
pub(super) const TELEMETRY_LINES: Family =
    family("touchline_telemetry_access_log_lines_total", Counter, &[], "Lines of the access log.");
pub(super) const TELEMETRY_LINES_DROPPED: Family = family(
    "touchline_telemetry_access_log_dropped_total",
    Counter,
    &[],
    "Lines of the access log dropped because the reader of the log did not follow.",
);
pub(super) const TELEMETRY_SPANS: Family = family(
    "touchline_telemetry_spans_total",
    Counter,
    &["outcome"],
    "Spans for the OpenTelemetry collector: sent, or dropped as it did not take them. Absent without telemetry.otlp.",
);
pub(super) const TELEMETRY_EXPORTS_FAILED: Family = family(
    "touchline_telemetry_exports_failed_total",
    Counter,
    &[],
    "Messages that the OpenTelemetry collector did not take. Absent without telemetry.otlp.",
);
pub(super) const TELEMETRY_ALERTS: Family = family(
    "touchline_telemetry_alerts",
    Gauge,
    &["severity", "state"],
    "Alerts that exist now by severity and state: pending, firing or no_data. Absent while alerts are off.",
);
pub(super) const TELEMETRY_ALERTS_DROPPED: Family = family(
    "touchline_telemetry_alerts_dropped_total",
    Counter,
    &[],
    "Bad readings that made no alert because 1,000 exist already.",
);
pub(super) const TELEMETRY_NOTIFICATIONS: Family = family(
    "touchline_telemetry_notifications_total",
    Counter,
    &["channel", "outcome"],
    "Messages about alerts that were delivered, refused for good or lost for want of room, and tries that are repeated.",
);
pub(super) const TELEMETRY_NOTIFICATIONS_PENDING: Family = family(
    "touchline_telemetry_notifications_pending",
    Gauge,
    &["channel"],
    "Messages about alerts that wait for their receiver.",
);
pub(super) const PROCESS_START: Family = family(
    "touchline_process_start_time_seconds",
    Gauge,
    &[],
    "When the process started, in seconds since 1970.",
);
pub(super) const BUILD_INFO: Family =
    family("touchline_build_info", Gauge, &["version"], "1, with the version of the program.");

/// Every family, in the order of the documentation and of the text at `/metrics`.
pub fn all() -> impl Iterator<Item = &'static Family> {
    BEFORE.into_iter().chain(&claude::ALL).chain(AFTER)
}

const BEFORE: [&Family; 33] = [
    &INGRESS_REQUESTS,
    &INGRESS_DURATION,
    &INGRESS_FIRST_BYTE,
    &INGRESS_SLOW_AFTER,
    &INGRESS_SLOW,
    &INGRESS_REQUEST_BYTES,
    &INGRESS_RESPONSE_BYTES,
    &NET_CONNECTIONS,
    &NET_ACCEPTED,
    &NET_TURNED_AWAY,
    &NET_IN_FLIGHT,
    &NET_UPGRADES,
    &NET_REFUSALS,
    &NET_UNDERSCORES_DROPPED,
    &CACHE_LOOKUPS,
    &CACHE_HITS,
    &CACHE_REASONS,
    &CACHE_WOULD_HITS,
    &CACHE_ENTRIES,
    &CACHE_BYTES,
    &CACHE_MAX_BYTES,
    &CACHE_EVICTIONS,
    &CACHE_FILLS,
    &CACHE_WAITERS,
    &CACHE_OPERATIONS,
    &CACHE_REDIS_UP,
    &CACHE_REDIS_LOSSES,
    &CACHE_REDIS_ERRORS,
    &CACHE_VALUES_REJECTED,
    &CACHE_REDIS_DROPPED,
    &CACHE_REDIS_PENDING,
    &CACHE_REDIS_PURGES,
    &CACHE_REDIS_BYTES,
];

const AFTER: [&Family; 31] = [
    &UPSTREAM_UP,
    &UPSTREAM_BREAKER,
    &UPSTREAM_BREAKER_OPENED,
    &UPSTREAM_CONNECTS,
    &UPSTREAM_REUSED,
    &UPSTREAM_ERRORS,
    &UPSTREAM_RETRIES,
    &UPSTREAM_RETRIES_DENIED,
    &UPSTREAM_INTERIM_DROPPED,
    &UPSTREAM_IN_FLIGHT,
    &UPSTREAM_QUEUED,
    &UPSTREAM_IDLE,
    &UPSTREAM_CONNECT_TIME,
    &UPSTREAM_QUEUE_WAIT,
    &CONFIG_SUCCESSFUL,
    &CONFIG_RESTART_PENDING,
    &CONFIG_LOADED,
    &CONFIG_RELOADS,
    &CONFIG_INFO,
    &TELEMETRY_SERIES,
    &TELEMETRY_DROPPED,
    &TELEMETRY_LINES,
    &TELEMETRY_LINES_DROPPED,
    &TELEMETRY_SPANS,
    &TELEMETRY_EXPORTS_FAILED,
    &TELEMETRY_ALERTS,
    &TELEMETRY_ALERTS_DROPPED,
    &TELEMETRY_NOTIFICATIONS,
    &TELEMETRY_NOTIFICATIONS_PENDING,
    &PROCESS_START,
    &BUILD_INFO,
];

/// The latency bounds in seconds.
pub(super) fn bounds_seconds() -> impl Iterator<Item = f64> {
    BOUNDS_US.into_iter().map(|us| f64::from(us) / 1e6)
}

/// The documentation of every metric, as it stands in `docs/metrics.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    let bounds: Vec<_> = bounds_seconds().map(|bound| bound.to_string()).collect();
    let _ = writeln!(text, "{}.", bounds.join(", "));
    let mut subsystem = "";
    for family in all() {
        if subsystem_of(family) != subsystem {
            subsystem = subsystem_of(family);
            let _ =
                write!(text, "\n## {subsystem}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n");
        }
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let Family { name, help, kind, .. } = family;
        let _ = writeln!(text, "| `{name}` | {} | {} | {help} |", kind.as_str(), labels.join(", "));
    }
    text
}

fn subsystem_of(family: &Family) -> &'static str {
    family.name.trim_start_matches("touchline_").split('_').next().unwrap_or_default()
}

const INTRODUCTION: &str = "\
<!-- Generated from src/telemetry/metrics.rs by `make docs`. Do not edit. -->
# Metrics

`GET /metrics` on the admin listener answers in the Prometheus text format 0.0.4.

Label values come from closed sets, so that no client can make series: `route` is a template of the configuration, or
`unmatched`, or `other` once `telemetry.max_series` is reached (then `method` is `_OTHER` and `status` a class such as
`5xx`); `method` is one of the nine registered ones or `_OTHER`; `status` is exact, `status_class` its first digit;
`cache` is the word of `X-Cache-Status`; `kind` is `plain`, `stream` or `upgrade`. A family or a label value that has
not occurred yet is absent.

Every histogram has these bounds in seconds. One and two seconds are bounds, so \"over 2 s\" is an exact count:
";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Type, all, bounds_seconds};

    #[test]
    fn names_are_distinct_and_follow_the_rules_of_prometheus() {
        let names: HashSet<_> = all().map(|family| family.name).collect();
        assert_eq!(names.len(), all().count());
        for family in all() {
            let name = family.name;
            assert!(name.starts_with("touchline_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == Type::Counter, "{name}");
            assert!(family.kind != Type::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{name}");
        }
    }

    #[test]
    fn one_and_two_seconds_are_bounds() {
        assert!([1.0, 2.0].iter().all(|wanted| bounds_seconds().any(|bound| bound == *wanted)));
    }
}
