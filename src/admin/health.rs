//! `GET /performance/health` and the sidecar's part of `GET /health`: the score, its reasons, and what was checked.

use http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::admin::{
    Admin,
    answer::Reply,
    merge::Sidecar,
    shapes::{Nothing, RealTime, breaker_of, timestamp},
};
use crate::telemetry::{HealthScore, RedisStats};

/// Below this score the answer to `healthy` is no.
const BAR: u8 = 70;

/// The answer to `/performance/health`.
#[derive(Serialize)]
struct PerformanceHealth<'a> {
    healthy: bool,
    health_score: u8,
    status: &'static str,
    alerts: Vec<&'a str>,
    reasons: Vec<Reason<'a>>,
    checks: Checks,
}

#[derive(Serialize)]
struct Reason<'a> {
    code: &'static str,
    points: u8,
    text: &'a str,
    since: String,
}

#[derive(Serialize)]
struct Checks {
    redis: Redis,
    database_pool: Nothing,
    recent_performance: RealTime,
}

#[derive(Serialize)]
struct Redis {
    connected: bool,
    ping_time: Option<String>,
    error: Option<String>,
    breaker: Option<&'static str>,
}

impl Redis {
    fn new(stats: Option<&RedisStats>) -> Self {
        Self {
            connected: stats.is_some_and(RedisStats::is_up),
            ping_time: stats.and_then(RedisStats::ping_ms).map(|ms| format!("{ms:.2}ms")),
            error: stats.and_then(RedisStats::error),
            breaker: stats.map(breaker_of),
        }
    }
}

impl Admin {
    /// The performance layer's health. 200 whatever the score, as monitors read the body; 503 below the bar if the
    /// caller is strict.
    pub(super) fn performance_health(&self, is_strict: bool) -> Reply {
        let now = Instant::now();
        let verdict = self.telemetry.health_score(now);
        let healthy = verdict.score >= BAR;
        let status = if is_strict && !healthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        let answer = PerformanceHealth {
            healthy,
            health_score: verdict.score,
            status: verdict.status().as_str(),
            alerts: verdict.reasons.iter().map(|reason| reason.text.as_str()).collect(),
            reasons: reasons(&verdict),
            checks: Checks {
                redis: Redis::new(self.telemetry.redis().as_deref()),
                database_pool: Nothing {},
                recent_performance: RealTime::new(OffsetDateTime::now_utc(), self.telemetry.realtime(now)),
            },
        };
        Reply::json(status, &answer)
    }

    /// The backend's health with ours added.
    pub(super) async fn health(&self) -> Reply {
        let redis = self.telemetry.redis();
        self.backend
            .answer(self.terms().sources.backend.as_deref(), redis.as_deref(), || self.sidecar())
            .await
    }

    /// The verdict in one sentence, and before it that no traffic comes here if that is so.
    pub(super) fn headline(&self, verdict: &HealthScore) -> String {
        match self.terms().sources.health.ready() {
            Ok(()) => verdict.headline(),
            Err(why) => format!("Not ready, traffic is sent elsewhere: {why}. {}", verdict.headline()),
        }
    }

    fn sidecar(&self) -> Sidecar {
        let now = Instant::now();
        let verdict = self.telemetry.health_score(now);
        Sidecar {
            status: verdict.status(),
            version: self.telemetry.facts().version,
            uptime_s: self.telemetry.uptime(now).as_secs(),
            health_score: verdict.score,
        }
    }
}

fn reasons(verdict: &HealthScore) -> Vec<Reason<'_>> {
    let reason = verdict.reasons.iter().map(|reason| Reason {
        code: reason.code.as_str(),
        points: reason.points,
        text: &reason.text,
        since: timestamp(reason.since.into()),
    });
    reason.collect()
}
