//! Each code with its points, and the sums.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, advance};

use super::{Code, Deduction, HealthScore, Status};
use crate::{
    config,
    telemetry::{
        BreakerState, Facts, Kind, Method, Record, RouteStats, Telemetry,
        claude::{BudgetState, Call, ClaudeStats},
    },
};

fn telemetry() -> Arc<Telemetry> {
    Telemetry::new(&config::Telemetry::default(), Facts::default(), None)
}

fn finish(telemetry: &Telemetry, route: &Arc<RouteStats>, count: usize, status: u16, ms: u64) {
    for _ in 0..count {
        let record = Record { status, ..Record::new(Arc::clone(route), Method::Get, Instant::now()) };
        telemetry.finish(record, ms * 1000, ms * 1000);
    }
}

fn score(telemetry: &Telemetry) -> HealthScore {
    let health = telemetry.health_score(Instant::now() + Duration::from_secs(5));
    let points: u32 = health.reasons.iter().map(|reason| u32::from(reason.points)).sum();
    assert_eq!(points, 100 - u32::from(health.score));
    health
}

fn codes(health: &HealthScore) -> Vec<(Code, u8)> {
    health.reasons.iter().map(|reason| (reason.code, reason.points)).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_wrong_is_100_and_few_samples_prove_nothing() {
    let telemetry = telemetry();
    let route = telemetry.route("/a", Duration::from_secs(2));
    assert_eq!(score(&telemetry).score, 100);

    finish(&telemetry, &route, 19, 500, 9000);

    let health = score(&telemetry);
    assert_eq!((health.score, health.status()), (100, Status::Healthy));
}

#[tokio::test(start_paused = true)]
async fn a_slow_route_costs_ten_and_keeps_its_since() {
    let telemetry = telemetry();
    finish(&telemetry, &telemetry.route("/slow", Duration::from_millis(500)), 20, 200, 800);
    finish(&telemetry, &telemetry.route("/fine", Duration::from_secs(2)), 200, 200, 3);

    let health = score(&telemetry);

    assert_eq!(codes(&health), [(Code::RouteSlow, 10)]);
    assert!(
        health.reasons[0].text.starts_with("GET /slow P95 8")
            || health.reasons[0].text.starts_with("GET /slow P95 7")
    );
    assert!(health.reasons[0].text.ends_with("ms is over its limit of 500ms"));
    assert_eq!(score(&telemetry).reasons[0].since, health.reasons[0].since);
    advance(Duration::from_secs(400)).await;
    assert_eq!(score(&telemetry).score, 100);
}

#[tokio::test(start_paused = true)]
async fn latency_and_slow_routes_are_not_both_counted() {
    let telemetry = telemetry();
    finish(&telemetry, &telemetry.route("/a", Duration::from_secs(2)), 50, 200, 3000);
    assert_eq!(codes(&score(&telemetry)), [(Code::Latency, 30)]);

    for template in ["/b", "/c", "/d"] {
        finish(&telemetry, &telemetry.route(template, Duration::from_secs(2)), 50, 200, 4000);
    }

    let health = score(&telemetry);
    assert_eq!(codes(&health), [(Code::RouteSlow, 10); 3]);
    assert!(
        health.reasons.iter().all(|reason| !reason.text.contains("GET /a ")),
        "the worst three are named"
    );
}

#[tokio::test(start_paused = true)]
async fn elevated_latency_ignores_streams_and_routes_with_their_own_limit() {
    let telemetry = telemetry();
    finish(&telemetry, &telemetry.route("/model", Duration::from_secs(8)), 50, 200, 5000);
    let stream = telemetry.route("/stream", Duration::from_secs(2));
    for _ in 0..50 {
        let record = Record::new(Arc::clone(&stream), Method::Get, Instant::now());
        telemetry.finish(Record { kind: Kind::Stream, status: 200, ..record }, 1_900_000, 60_000_000);
    }
    assert_eq!(score(&telemetry).score, 100);

    finish(&telemetry, &telemetry.route("/a", Duration::from_secs(2)), 50, 200, 1500);

    let health = score(&telemetry);
    assert_eq!(codes(&health), [(Code::Latency, 15)]);
    assert_eq!(health.reasons[0].text, "Elevated response times: 1500ms");
}

#[tokio::test(start_paused = true)]
async fn error_shares_cost_15_and_30() {
    let telemetry = telemetry();
    let route = telemetry.route("/a", Duration::from_secs(2));
    finish(&telemetry, &route, 94, 200, 1);
    finish(&telemetry, &route, 6, 500, 1);
    let health = score(&telemetry);
    assert_eq!((codes(&health), health.status()), (vec![(Code::Errors, 15)], Status::Degraded));
    assert_eq!(
        health.reasons[0].text,
        "Elevated error rate: 6.0% of requests end in 5xx, most of them on GET /a"
    );

    finish(&telemetry, &route, 10, 503, 1);

    assert_eq!(codes(&score(&telemetry)), [(Code::Errors, 30)]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_backend_and_a_rejected_file_are_named_and_the_score_never_falls_below_0() {
    let telemetry = telemetry();
    let backend = telemetry.upstream("backend");
    backend.set_up(true, Some(1.0));
    assert_eq!(score(&telemetry).score, 100);

    telemetry.config_rejected("no");
    backend.set_breaker(BreakerState::Open);
    let health = score(&telemetry);
    assert_eq!(codes(&health), [(Code::BackendDown, 50), (Code::ConfigRejected, 5)]);
    assert_eq!(health.status(), Status::Unhealthy);
    backend.set_up(false, None);
    finish(&telemetry, &telemetry.route("/a", Duration::from_secs(2)), 50, 502, 3000);

    let health = score(&telemetry);
    assert_eq!(health.score, 0);
    assert_eq!(codes(&health)[0], (Code::BackendDown, 50));
    assert!(health.reasons[0].text.contains("health probes"));
    telemetry.config_accepted("abc", &[]);
    backend.set_up(true, Some(1.0));
    backend.set_breaker(BreakerState::Closed);
    advance(Duration::from_secs(600)).await;
    assert_eq!(score(&telemetry).score, 100);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_claude_and_a_spent_budget_cost_ten_each() {
    let telemetry = telemetry();
    let stats = Arc::new(ClaudeStats::new(true));
    telemetry.watch_claude(Arc::clone(&stats));
    let call = |status, count| {
        (0..count).for_each(|_| telemetry.finish_call(&stats, Call { status, ..Call::example() }));
    };
    call(529, 2);
    call(200, 17);
    assert_eq!(score(&telemetry).score, 100, "few calls prove nothing");

    call(200, 1);
    stats.set_budget(&Arc::from("day"), BudgetState { spent: 5, limit: 5, refused: 0, ends_s: u64::MAX });
    stats.set_budget(&Arc::from("hour"), BudgetState { spent: 9, limit: 5, refused: 0, ends_s: 1 });

    let health = score(&telemetry);
    assert_eq!(codes(&health), [(Code::ClaudeRefused, 10), (Code::ClaudeBudget, 10)]);
    let texts: Vec<_> = health.reasons.iter().map(|reason| reason.text.as_str()).collect();
    assert_eq!(texts, ["Claude refuses 10.0% of calls (429, 529)", "the Claude budget day is spent"]);
    call(200, 40);
    assert_eq!(codes(&score(&telemetry)), [(Code::ClaudeBudget, 10)]);
}

#[test]
fn the_sentence_says_how_bad_it_is_and_why() {
    let verdict = |score, codes: &[Code]| {
        let reason = |code: &Code| Deduction {
            code: *code,
            points: 5,
            text: String::new(),
            since: SystemTime::UNIX_EPOCH,
        };
        HealthScore { score, reasons: codes.iter().map(reason).collect() }.headline()
    };

    assert_eq!(verdict(100, &[]), "Healthy: nothing is wrong.");
    assert_eq!(verdict(95, &[Code::ConfigRejected]), "Healthy, but a new configuration was rejected.");
    assert_eq!(
        verdict(70, &[Code::RouteSlow, Code::RouteSlow, Code::Redis]),
        "Degraded: routes are over their limits and Redis does not answer."
    );
    assert_eq!(
        verdict(0, &[Code::BackendDown, Code::Errors, Code::Latency]),
        "Unhealthy: the backend is down, too many requests fail and responses are slow."
    );
}
