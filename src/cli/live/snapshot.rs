//! What `/api/v1` of the admin listener says, taken apart. Members that are not known are ignored, members that are
//! missing are unknown, and a section that cannot be read is missing: a newer touchline is still worth watching.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Routes that are kept; a configuration has some dozens.
const MAX_ROUTES: usize = 5_000;

/// Everything at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) at: Option<String>,
    pub(super) meta: Meta,
    pub(super) health: Option<Health>,
    pub(super) tiles: Tiles,
    pub(super) chart: Chart,
    pub(super) routes: Vec<Route>,
    pub(super) cache: Option<Cache>,
    pub(super) redis: Option<Redis>,
    pub(super) backend: Option<Backend>,
    pub(super) claude: Option<Claude>,
    pub(super) alerts: Option<Alerts>,
    /// Sections that are there and cannot be read.
    pub(super) unreadable: Vec<&'static str>,
}

/// Of whom it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    pub(super) service: Option<String>,
    pub(super) pod: Option<String>,
    pub(super) version: Option<String>,
    pub(super) config_hash: Option<String>,
    pub(super) uptime_s: Option<f64>,
    pub(super) draining: Option<bool>,
    pub(super) window: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) can_merge: Option<bool>,
    pub(super) peers: Option<Peers>,
}

/// Which pods have answered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Peers {
    pub(super) asked: Option<u64>,
    pub(super) answered: Option<u64>,
    pub(super) silent: Vec<Silent>,
}

/// A pod that has not answered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Silent {
    pub(super) pod: Option<String>,
    pub(super) error: Option<String>,
}

/// The verdict.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Health {
    pub(super) score: Option<u64>,
    pub(super) status: Option<String>,
    pub(super) headline: Option<String>,
    pub(super) reasons: Vec<Reason>,
    pub(super) fine: Vec<String>,
}

/// A deduction from the score.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reason {
    pub(super) code: Option<String>,
    pub(super) points: Option<u64>,
    pub(super) text: Option<String>,
    pub(super) since: Option<String>,
}

/// The four numbers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tiles {
    pub(super) requests_per_s: Option<f64>,
    pub(super) errors_5xx_percent: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) without_backend_percent: Option<f64>,
}

/// Requests by outcome, over time.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chart {
    pub(super) slot_s: Option<f64>,
    pub(super) slots: Vec<Slot>,
    pub(super) marks: Vec<Mark>,
}

/// A slot of the chart.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slot {
    pub(super) hit: f64,
    pub(super) miss: f64,
    pub(super) bypass: f64,
    pub(super) error: f64,
}

/// Something that changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mark {
    pub(super) at: Option<String>,
    pub(super) text: Option<String>,
}

/// A route over the window.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Route {
    pub(super) key: String,
    pub(super) method: Option<String>,
    pub(super) template: Option<String>,
    pub(super) basis: Option<String>,
    pub(super) count: Option<u64>,
    pub(super) per_s: Option<f64>,
    pub(super) errors_5xx: Option<u64>,
    pub(super) error_percent: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) max_ms: Option<f64>,
    pub(super) few: Option<bool>,
    pub(super) limit_ms: Option<f64>,
    pub(super) over_limit: Option<bool>,
    pub(super) p95_minutes: Vec<Option<f64>>,
    pub(super) cache: Option<RouteCache>,
}

/// What the cache did for a route.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RouteCache {
    pub(super) hits: Option<u64>,
    pub(super) misses: Option<u64>,
    pub(super) bypass: Option<u64>,
    pub(super) hit_percent: Option<f64>,
    pub(super) why: Option<String>,
}

/// The cache as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cache {
    pub(super) mode: Option<String>,
    pub(super) hit_percent: Option<f64>,
    pub(super) target_percent: Option<f64>,
    pub(super) entries: Option<u64>,
    pub(super) bytes: Option<f64>,
    pub(super) bytes_max: Option<f64>,
    pub(super) evictions: Option<u64>,
}

/// The tier in Redis.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Redis {
    pub(super) up: Option<bool>,
    pub(super) error: Option<String>,
    pub(super) since: Option<String>,
    pub(super) ping_ms: Option<f64>,
    pub(super) pending_writes: Option<u64>,
    pub(super) pending_purges: Option<u64>,
}

/// The backend.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Backend {
    pub(super) up: Option<bool>,
    pub(super) since: Option<String>,
    pub(super) probe_ms: Option<f64>,
    pub(super) breaker: Option<String>,
    pub(super) breaker_since: Option<String>,
    pub(super) in_flight: Option<u64>,
    pub(super) places: Option<u64>,
    pub(super) queued: Option<u64>,
}

/// Calls to Claude.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Claude {
    pub(super) mode: Option<String>,
    pub(super) since: Option<String>,
    pub(super) calls: Option<u64>,
    pub(super) cost_usd: Option<f64>,
    pub(super) saved_vs_requested_usd: Option<f64>,
    pub(super) would_save_usd: Option<f64>,
    pub(super) first_token_p95_ms: Option<f64>,
    pub(super) refused_429: Option<u64>,
    pub(super) refused_529: Option<u64>,
    pub(super) budgets: Vec<Budget>,
}

/// A budget of calls to Claude.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Budget {
    pub(super) name: Option<String>,
    pub(super) spent_usd: Option<f64>,
    pub(super) limit_usd: Option<f64>,
    pub(super) refused: Option<u64>,
}

/// Alerts and who is told of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Alerts {
    pub(super) enabled: Option<bool>,
    pub(super) firing: Option<u64>,
    pub(super) pending: Option<u64>,
    pub(super) items: Vec<Alert>,
    pub(super) channels: Vec<Channel>,
}

/// An alert.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Alert {
    pub(super) rule: Option<String>,
    pub(super) severity: Option<String>,
    pub(super) state: Option<String>,
    pub(super) text: Option<String>,
    pub(super) value: Option<String>,
    pub(super) since: Option<String>,
}

/// Where messages go.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Channel {
    pub(super) name: Option<String>,
    pub(super) state: Option<String>,
    pub(super) last_error: Option<String>,
}

/// All about a route.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Detail {
    pub(super) rule: Option<String>,
    pub(super) histogram: Vec<Bucket>,
    pub(super) statuses: Vec<StatusCount>,
    pub(super) reasons: Vec<ReasonCount>,
    pub(super) recent: Vec<Tail>,
    pub(super) bytes_in: Option<f64>,
    pub(super) bytes_out: Option<f64>,
}

/// A bucket of a histogram.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Bucket {
    pub(super) le_ms: Option<f64>,
    pub(super) count: u64,
}

/// How often a status was answered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusCount {
    pub(super) status: Option<u64>,
    pub(super) count: Option<u64>,
}

/// How often a reason was given.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReasonCount {
    pub(super) reason: Option<String>,
    pub(super) count: Option<u64>,
}

/// A request or a call that is over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tail {
    pub(super) at: Option<String>,
    pub(super) plane: Option<String>,
    pub(super) method: Option<String>,
    pub(super) template: Option<String>,
    pub(super) path: Option<String>,
    pub(super) status: Option<u64>,
    pub(super) ms: Option<f64>,
    pub(super) cache: Option<String>,
    pub(super) source: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) bytes_out: Option<f64>,
    pub(super) model: Option<String>,
    pub(super) tier: Option<String>,
    pub(super) routing_reason: Option<String>,
}

impl Snapshot {
    /// Takes an answer apart.
    pub(super) fn read(members: &Map<String, Value>) -> Self {
        let mut reader = Reader { members, unreadable: Vec::new() };
        Self {
            at: members.get("at").and_then(Value::as_str).map(str::to_owned),
            meta: reader.section("meta").unwrap_or_default(),
            health: reader.section("health"),
            tiles: reader.section("tiles").unwrap_or_default(),
            chart: reader.section("chart").unwrap_or_default(),
            routes: reader.routes(),
            cache: reader.section("cache"),
            redis: reader.section("redis"),
            backend: reader.section("backend"),
            claude: reader.section("claude"),
            alerts: reader.section("alerts"),
            unreadable: reader.unreadable,
        }
    }

    /// Whether an answer is one of a touchline at all.
    pub(super) fn is_one(members: &Map<String, Value>) -> bool {
        members.get("meta").is_some_and(Value::is_object)
            && members.get("routes").is_some_and(Value::is_array)
    }
}

struct Reader<'a> {
    members: &'a Map<String, Value>,
    unreadable: Vec<&'static str>,
}

impl Reader<'_> {
    fn section<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        let read = T::deserialize(value).ok();
        if read.is_none() {
            self.unreadable.push(name);
        }
        read
    }

    /// Routes are read one by one: one that cannot be read does not hide the others.
    fn routes(&mut self) -> Vec<Route> {
        let values = self.members.get("routes").and_then(Value::as_array);
        let values = values.map(Vec::as_slice).unwrap_or_default();
        let routes: Vec<Route> =
            values.iter().take(MAX_ROUTES).filter_map(|value| Route::deserialize(value).ok()).collect();
        if routes.len() < values.len() {
            self.unreadable.push("routes");
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Snapshot;

    #[test]
    fn what_is_missing_is_unknown_and_what_is_new_is_ignored() {
        let value = json!({
            "at": "2026-11-23T14:05:53+00:00",
            "meta": {"service": "coach", "brand_new": {"a": 1}},
            "tiles": {"p95_ms": null},
            "routes": [{"key": "GET /a", "count": 3}, {"key": 7}, {}],
            "redis": {"up": "perhaps"},
            "claude": null,
            "later": [1, 2]
        });

        let snapshot = Snapshot::read(value.as_object().unwrap());

        assert_eq!(snapshot.meta.service.as_deref(), Some("coach"));
        assert_eq!(snapshot.tiles.p95_ms, None);
        assert_eq!(snapshot.routes.len(), 2);
        assert_eq!(snapshot.routes[0].p95_ms, None);
        assert!(snapshot.redis.is_none() && snapshot.claude.is_none() && snapshot.health.is_none());
        assert_eq!(snapshot.unreadable, ["routes", "redis"]);
    }

    #[test]
    fn an_answer_of_something_else_is_told_apart() {
        assert!(Snapshot::is_one(json!({"meta": {}, "routes": []}).as_object().unwrap()));
        assert!(!Snapshot::is_one(json!({"status": "ok"}).as_object().unwrap()));
    }
}
