//! Each metric from real records.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, advance};

use super::{Reading, Span, readings};
use crate::{
    config::{self, AlertMetric},
    telemetry::{
        BreakerState, CacheStatus, Facts, HitSource, Kind, Method, Record, RedisStats, Telemetry, Window,
        claude::{BudgetState, Call, ClaudeStats},
    },
};

fn telemetry() -> Arc<Telemetry> {
    Telemetry::new(&config::Telemetry::default(), Facts::default(), None)
}

fn read_span(telemetry: &Telemetry, metric: AlertMetric, span: Span) -> Vec<Reading> {
    readings(telemetry, 0.999, &BTreeSet::from([(metric, span)]), (Instant::now(), 1000))
}

fn read(telemetry: &Telemetry, metric: AlertMetric) -> Vec<Reading> {
    let span = if metric.is_instant() { Span::Now } else { Span::One(Window::FiveMinutes) };
    read_span(telemetry, metric, span)
}

fn record(telemetry: &Telemetry, template: &str) -> Record {
    let route = telemetry.route(template, Duration::from_secs(2));
    Record { status: 200, ..Record::new(route, Method::Get, Instant::now()) }
}

fn finish(telemetry: &Telemetry, count: usize, status: u16, ms: u64) {
    for _ in 0..count {
        telemetry.finish(Record { status, ..record(telemetry, "/a") }, ms * 1000, ms * 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_of_what_is_not_there() {
    let telemetry = telemetry();

    for metric in AlertMetric::ALL {
        let known = match metric {
            AlertMetric::SlowRequests | AlertMetric::ConfigRejected => 1,
            _ => 0,
        };
        assert_eq!(read(&telemetry, metric).len(), known, "{metric:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn routes_are_read_with_labels_samples_and_limit() {
    let telemetry = telemetry();
    finish(&telemetry, 18, 200, 10);
    finish(&telemetry, 2, 500, 3000);
    telemetry.finish(Record { kind: Kind::Upgrade, ..record(&telemetry, "/ws") }, 10, 10);

    let p95 = read(&telemetry, AlertMetric::RouteP95);

    assert_eq!(p95.len(), 1);
    assert_eq!(
        p95[0].labels,
        [("route", "/a".to_owned()), ("method", "GET".to_owned()), ("kind", "plain".to_owned())].into()
    );
    assert!((p95[0].value - 3.0).abs() < 0.05, "{}", p95[0].value);
    assert_eq!((p95[0].samples, p95[0].limit), (20, Some(2.0)));
    assert_eq!(read(&telemetry, AlertMetric::RouteErrors)[0].value, 10.0);
    let errors = read(&telemetry, AlertMetric::Errors);
    assert!((errors[0].value - 2.0 * 100.0 / 21.0).abs() < 1e-9);
    assert_eq!(read(&telemetry, AlertMetric::SlowRequests)[0].value, 2.0);
    assert!(read(&telemetry, AlertMetric::Requests).is_empty(), "half a window has not passed");
    advance(Duration::from_secs(200)).await;
    let rate = read(&telemetry, AlertMetric::Requests)[0].value;
    assert!((rate - 21.0 / 200.0).abs() < 0.01, "{rate}");
}

#[tokio::test(start_paused = true)]
async fn burn_is_the_lower_of_two_windows_and_reaches_back_six_hours() {
    let telemetry = telemetry();
    finish(&telemetry, 980, 200, 1);
    finish(&telemetry, 20, 500, 1);
    let of = |long, short| {
        let found = read_span(&telemetry, AlertMetric::Burn, Span::Both(long, short));
        found.first().map(|reading| ((reading.value * 10.0).round() / 10.0, reading.samples))
    };
    assert_eq!(of(Window::OneHour, Window::FiveMinutes), Some((20.0, 1000)));

    advance(Duration::from_secs(1200)).await;
    assert_eq!(of(Window::OneHour, Window::FiveMinutes), Some((0.0, 1000)), "it has stopped");
    assert_eq!(of(Window::SixHours, Window::HalfHour), Some((20.0, 1000)));
    advance(Duration::from_secs(5 * 3600)).await;
    assert_eq!(of(Window::OneHour, Window::FiveMinutes), None);
    finish(&telemetry, 1000, 200, 1);
    assert_eq!(of(Window::SixHours, Window::HalfHour), Some((0.0, 2000)));
    advance(Duration::from_secs(2 * 3600)).await;
    assert_eq!(telemetry.slo_window(Window::SixHours, Instant::now()).bad, 0);
}

#[tokio::test(start_paused = true)]
async fn the_hit_rate_waits_until_the_cache_is_filled() {
    let telemetry = telemetry();
    let look = |telemetry: &Telemetry, cache| {
        let record = record(telemetry, "/a");
        let source = (cache == CacheStatus::Hit).then_some(HitSource::Memory);
        telemetry.finish(Record { cache, source, ..record }, 10, 10);
    };
    advance(Duration::from_secs(599)).await;
    (0..3).for_each(|_| look(&telemetry, CacheStatus::Hit));
    look(&telemetry, CacheStatus::Miss);
    assert!(read(&telemetry, AlertMetric::CacheHitRate).is_empty());

    advance(Duration::from_secs(1)).await;
    let rate = read(&telemetry, AlertMetric::CacheHitRate);
    assert_eq!((rate[0].value, rate[0].samples), (75.0, 4));
    assert_eq!(read(&telemetry, AlertMetric::RouteHitRate)[0].labels["route"], "/a");

    telemetry.note_purge();
    assert!(read(&telemetry, AlertMetric::CacheHitRate).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_down_after_three_failed_probes_or_with_an_open_breaker() {
    let telemetry = telemetry();
    let stats = telemetry.upstream("backend");
    let down = || {
        let found = read(&telemetry, AlertMetric::BackendDown);
        (found[0].value, found[0].note.clone())
    };
    stats.set_failed_probes(2);
    assert_eq!(down(), (0.0, None));

    stats.set_failed_probes(3);
    assert_eq!(down(), (1.0, Some("it does not answer its probes".to_owned())));

    stats.set_failed_probes(0);
    stats.set_breaker(BreakerState::HalfOpen);
    assert_eq!(down(), (1.0, Some("its breaker is half open".to_owned())));
    stats.set_breaker(BreakerState::Closed);
    assert_eq!(down().0, 0.0);
}

#[tokio::test(start_paused = true)]
async fn redis_and_the_configuration_are_yes_or_no() {
    let telemetry = telemetry();
    let stats = Arc::new(RedisStats::new("redis:6379"));
    telemetry.watch_redis(Arc::clone(&stats));
    stats.set_up(false, Some("connection refused".to_owned()));
    telemetry.config_rejected("no");

    let redis = read(&telemetry, AlertMetric::RedisDown);
    assert_eq!((redis[0].value, redis[0].note.as_deref()), (1.0, Some("connection refused")));
    assert_eq!(read(&telemetry, AlertMetric::ConfigRejected)[0].value, 1.0);

    stats.set_up(true, None);
    telemetry.config_accepted("hash", &[]);
    assert_eq!(read(&telemetry, AlertMetric::RedisDown)[0].value, 0.0);
    assert_eq!(read(&telemetry, AlertMetric::ConfigRejected)[0].value, 0.0);
}

#[tokio::test(start_paused = true)]
async fn calls_to_claude_are_read_from_their_records() {
    let telemetry = telemetry();
    let stats = Arc::new(ClaudeStats::new(true));
    telemetry.watch_claude(Arc::clone(&stats));
    assert!(read(&telemetry, AlertMetric::ClaudeRefused).is_empty());
    for (status, cost) in [(200, Some(2_000_000_000_000)), (200, None), (529, None), (429, None)] {
        telemetry.finish_call(&stats, Call { status, cost, ..Call::example() });
    }
    let budget = BudgetState { spent: 120, limit: 100, refused: 0, ends_s: 1001 };
    stats.set_budget(&Arc::from("day"), budget);
    stats.set_budget(&Arc::from("over"), BudgetState { ends_s: 1000, ..budget });

    let value = |metric| read(&telemetry, metric)[0].value;
    assert_eq!(value(AlertMetric::ClaudeCalls), 4.0);
    assert_eq!(value(AlertMetric::ClaudeRefused), 50.0);
    assert_eq!(value(AlertMetric::ClaudeSpend), 2.0);
    assert_eq!(value(AlertMetric::ClaudeUsage), 1.0);
    let budgets: Vec<_> = read(&telemetry, AlertMetric::ClaudeBudget)
        .into_iter()
        .map(|reading| (reading.labels["budget"].clone(), reading.value))
        .collect();
    assert_eq!(budgets, [("day".to_owned(), 120.0), ("over".to_owned(), 0.0)]);
}
