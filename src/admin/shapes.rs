//! The JSON pieces that several answers share, with the field order that their readers know.
//!
//! Old fields keep name, type and place. What cannot be known is `null`; what was counted and is none is 0. Planes
//! that do not run leave their old fields in the form that the field's readers know: `{}`, `false`, 0.

use serde::{Serialize, Serializer, ser::SerializeMap};
use time::OffsetDateTime;

use crate::telemetry::{self, Summary, snapshot::Realtime};

/// Times as these paths have always shown them: ISO 8601 in UTC with microseconds and `+00:00`.
pub(crate) fn timestamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}+00:00",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    )
}

/// Three decimals: whole microseconds where the value is in milliseconds.
pub(crate) fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Two decimals, for percentages.
pub(crate) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// `part` of `whole` in percent; 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { hundredths(part as f64 * 100.0 / whole as f64) }
}

/// An object whose members keep the order of the list.
#[derive(Clone, Debug)]
pub(crate) struct Ordered<V>(pub(crate) Vec<(String, V)>);

impl<V: Serialize> Serialize for Ordered<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// `{}`: what a plane that does not run leaves.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Nothing {}

/// The latencies of one route, operation or table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Metric {
    count: u64,
    min: f64,
    max: f64,
    avg: f64,
    percentiles: Percentiles,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    basis: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_5xx: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    few: bool,
}

/// What only the metrics of a route say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteFacts {
    pub(crate) basis: &'static str,
    pub(crate) limit_ms: u64,
    pub(crate) errors_5xx: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl Metric {
    /// How many samples.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The numbers of one series.
    pub(crate) fn new(summary: &Summary, route: Option<RouteFacts>) -> Self {
        Self {
            count: summary.count,
            min: summary.min_ms(),
            max: summary.max_ms(),
            avg: thousandths(summary.avg_ms()),
            percentiles: Percentiles {
                p50: thousandths(summary.p50_ms()),
                p95: thousandths(summary.p95_ms()),
                p99: thousandths(summary.p99_ms()),
            },
            unit: "ms",
            basis: route.map(|route| route.basis),
            limit_ms: route.map(|route| route.limit_ms),
            errors_5xx: route.map(|route| route.errors_5xx),
            few: summary.is_few(),
        }
    }
}

/// The state of Redis. The first eight are those of the layer that was replaced, which left the last four of them out
/// where they were not known; the others are ours.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RedisStats {
    redis_available: bool,
    last_health_check: Option<String>,
    fallback_cache_size: u64,
    redis_url_configured: bool,
    redis_version: Option<String>,
    connected_clients: Option<u64>,
    used_memory_human: Option<String>,
    total_commands_processed: Option<u64>,
    breaker: Option<&'static str>,
    ping_ms: Option<f64>,
    error: Option<String>,
    losses: u64,
    pending_writes: i64,
    pending_purges: i64,
    rejected_values: u64,
    errors: Option<Ordered<u64>>,
}

impl RedisStats {
    /// What telemetry knows, and the entries of the memory tier.
    pub(crate) fn new(stats: Option<&telemetry::RedisStats>, entries: u64) -> Self {
        let words = |stats: &telemetry::RedisStats| {
            let seen = stats.errors().filter(|(_, count)| *count > 0);
            Ordered(seen.map(|(fault, count)| (fault.as_str().to_owned(), count)).collect())
        };
        let info = stats.map(telemetry::RedisStats::info).unwrap_or_default();
        Self {
            redis_available: stats.is_some_and(telemetry::RedisStats::is_up),
            last_health_check: stats.and_then(telemetry::RedisStats::checked).map(|at| timestamp(at.into())),
            fallback_cache_size: entries,
            redis_url_configured: stats.is_some(),
            redis_version: info.version,
            connected_clients: info.clients,
            used_memory_human: info.memory,
            total_commands_processed: info.commands,
            breaker: stats.map(breaker_of),
            ping_ms: stats.and_then(telemetry::RedisStats::ping_ms).map(thousandths),
            error: stats.and_then(telemetry::RedisStats::error),
            losses: stats.map_or(0, telemetry::RedisStats::losses),
            pending_writes: stats.map_or(0, |stats| stats.pending.get()),
            pending_purges: stats.map_or(0, |stats| stats.pending_purges.get()),
            rejected_values: stats.map_or(0, |stats| stats.rejections().map(|(_, count)| count).sum()),
            errors: stats.map(words),
        }
    }
}

/// The word for whether Redis is asked at all.
pub(crate) fn breaker_of(stats: &telemetry::RedisStats) -> &'static str {
    if stats.is_up() { "closed" } else { "open" }
}

/// The last minute, or that there was none.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum RealTime {
    /// Something happened in it.
    Minute(Minute),
    /// Nothing did.
    Silent(Silent),
}

/// `{"status":"no_recent_data"}`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Silent {
    status: &'static str,
}

/// The numbers of the last minute.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Minute {
    timestamp: String,
    requests_per_minute: u64,
    avg_response_time_ms: f64,
    avg_db_time_ms: Option<f64>,
    total_operations: u64,
    p95_response_time_ms: f64,
    operations: Operations,
}

#[derive(Clone, Debug, Serialize)]
struct Operations {
    request: u64,
    cache: u64,
    database: u64,
}

impl RealTime {
    /// What telemetry saw in the minute before `now`.
    pub(crate) fn new(now: OffsetDateTime, seen: Option<Realtime>) -> Self {
        let Some(seen) = seen else { return Self::Silent(Silent { status: "no_recent_data" }) };
        Self::Minute(Minute {
            timestamp: timestamp(now),
            requests_per_minute: seen.requests,
            avg_response_time_ms: thousandths(seen.latency.avg_ms()),
            avg_db_time_ms: None,
            total_operations: seen.requests + seen.cache_operations,
            p95_response_time_ms: thousandths(seen.latency.p95_ms()),
            operations: Operations { request: seen.requests, cache: seen.cache_operations, database: 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime, UtcOffset};

    use super::{percent, timestamp};

    #[test]
    fn timestamps_are_utc_with_microseconds() {
        let at = OffsetDateTime::from_unix_timestamp(1_795_529_153).unwrap() + Duration::microseconds(7);

        assert_eq!(timestamp(at), "2026-11-24T14:05:53.000007+00:00");
        assert_eq!(timestamp(at.to_offset(UtcOffset::from_hms(5, 30, 0).unwrap())), timestamp(at));
    }

    #[test]
    fn percentages_have_two_decimals_and_no_nan() {
        assert_eq!(percent(1620, 1760), 92.05);
        assert_eq!(percent(0, 0), 0.0);
        assert_eq!(percent(1, 3), 33.33);
    }
}
