//! The text at `/metrics`: every family, the cap on series, and the cost of recording.

use std::{
    collections::HashSet,
    hint::black_box,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    config,
    telemetry::{
        BreakerState, CacheSizes, CacheSource, CacheStatus, Facts, HitSource, Kind, Listener, Method,
        Operation, Outcome, Reason, Record, RedisStats, RouteStats, Telemetry, Tier,
        alerts::{Post, Posting, Watch},
        claude::{BudgetState, Call, ClaudeStats},
        metrics,
    },
};

fn telemetry(max_series: u32) -> Arc<Telemetry> {
    let config = config::Telemetry { max_series, ..config::Telemetry::default() };
    let facts = Facts { version: "0.1.0", config_hash: "3f9c1ab".to_owned(), ..Facts::default() };
    Telemetry::new(&config, facts, None)
}

fn record(route: &Arc<RouteStats>, status: u16) -> Record {
    Record {
        status,
        bytes_in: 5,
        bytes_out: 100,
        ..Record::new(Arc::clone(route), Method::Get, Instant::now())
    }
}

struct Sizes;

impl CacheSource for Sizes {
    fn sizes(&self) -> CacheSizes {
        CacheSizes { entries: 412, bytes: 1_184_022, ..CacheSizes::default() }
    }
}

fn busy() -> (Arc<Telemetry>, Arc<dyn CacheSource>) {
    let telemetry = telemetry(20_000);
    let sizes: Arc<dyn CacheSource> = Arc::new(Sizes);
    telemetry.watch_cache(Arc::downgrade(&sizes));
    let route = telemetry.route("/users/{id}", Duration::from_secs(2));
    let hit = Record { cache: CacheStatus::Hit, source: Some(HitSource::Memory), ..record(&route, 200) };
    telemetry.finish(hit, 1_000_000, 2_000_000);
    let bypass = Record { reason: Some(Reason::Cookie), would_hits: 4, ..record(&route, 503) };
    telemetry.finish(bypass, 2_000_000, 2_000_001);
    telemetry.finish(Record { kind: Kind::Stream, ..record(&route, 200) }, 100, 200);
    telemetry.cache_operation(Tier::Memory, Operation::Lookup, Instant::now(), 7);
    let backend = telemetry.upstream("backend");
    backend.set_up(true, Some(1.0));
    backend.set_breaker(BreakerState::HalfOpen);
    backend.errors.increment("connect_failed");
    telemetry.listener(Listener::Ingress).refusals.increment("bad_request");
    (telemetry, sizes)
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn would_be_hits_count_as_many_as_they_stand_for_and_not_without_an_answer() {
    let (telemetry, _sizes) = busy();
    let route = telemetry.route("/users/{id}", Duration::from_secs(2));
    telemetry.finish(Record { would_hits: 2, ..record(&route, 200) }, 100, 200);
    telemetry.finish(
        Record { would_hits: 8, outcome: Outcome::ClientAbort, ..record(&route, 200) },
        100,
        200,
    );

    let text = telemetry.metrics_text();

    assert_eq!(value(&text, r#"touchline_cache_would_hits_total{route="/users/{id}"}"#), 6.0);
}

/// One who is never told anything.
struct Nobody;

impl Post for Nobody {
    fn post<'a>(&'a self, _: bytes::Bytes, _: &'a str) -> Posting<'a> {
        Box::pin(std::future::pending())
    }
}

/// Alerts with a receiver that is never told anything.
fn watched(telemetry: &Arc<Telemetry>) -> Option<Watch> {
    let hook = config::Hook { url: config::Secret::new("https://example.com/"), ..config::Hook::default() };
    let receiver = config::Receiver { slack: Some(hook), ..config::Receiver::default() };
    let alerts = config::Alerts { notify: vec![receiver], ..config::Alerts::default() };
    let config = config::Telemetry { alerts, ..config::Telemetry::default() };
    Watch::new(telemetry, &config, vec![Arc::new(Nobody)], None).inspect(Watch::show)
}

#[test]
fn every_declared_family_is_written() {
    let (telemetry, _sizes) = busy();
    telemetry.watch_redis(Arc::new(RedisStats::new("redis://redis")));
    let claude = Arc::new(ClaudeStats::new(true));
    telemetry.watch_claude(Arc::clone(&claude));
    claude.record(&Call::example(), 0);
    claude.set_budget(&Arc::from("day"), BudgetState { limit: 1, ..BudgetState::default() });
    claude.note(|totals| {
        totals.retries.insert("500", 1);
        totals.fallbacks.insert("bad_request", 1);
        totals.response_cache.insert("hit", 1);
        totals.transforms.insert("drop_sampling", 1);
        totals.batch_items.insert("moved", 1);
        totals.shared.insert("found", 1);
    });

    let _watch = watched(&telemetry);
    let _exporter = telemetry.export(&config::Otlp::default(), Arc::new(Nobody), Arc::new(Nobody));

    let text = telemetry.metrics_text();

    let written: HashSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let missing: Vec<_> =
        metrics::all().map(|family| family.name).filter(|name| !written.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
    assert_eq!(written.len(), metrics::all().count());
    if let Some(path) = option_env!("TOUCHLINE_METRICS_OUT") {
        std::fs::write(path, &text).unwrap();
    }
}

#[test]
fn numbers_are_exact() {
    let (telemetry, sizes) = busy();

    let text = telemetry.metrics_text();

    let route = r#"route="/users/{id}",method="GET""#;
    let requests = |status, cache| {
        value(
            &text,
            &format!(r#"touchline_ingress_requests_total{{{route},status="{status}",cache="{cache}"}}"#),
        )
    };
    assert_eq!((requests(200, "hit"), requests(200, "bypass"), requests(503, "bypass")), (1.0, 1.0, 1.0));
    let over_2s = |class, le: &str| {
        let labels = format!(r#"{route},status_class="{class}",kind="plain",le="{le}""#);
        value(&text, &format!("touchline_ingress_request_duration_seconds_bucket{{{labels}}}"))
    };
    assert_eq!((over_2s("2xx", "1.5"), over_2s("2xx", "2")), (0.0, 1.0));
    assert_eq!((over_2s("5xx", "2"), over_2s("5xx", "3"), over_2s("5xx", "+Inf")), (0.0, 1.0, 1.0));
    assert_eq!(value(&text, &format!("touchline_ingress_route_slow_after_seconds{{{route}}}")), 2.0);
    assert_eq!(value(&text, r#"touchline_cache_lookups_total{route="/users/{id}",status="hit"}"#), 1.0);
    assert_eq!(value(&text, r#"touchline_cache_hits_total{route="/users/{id}",source="memory"}"#), 1.0);
    assert_eq!(value(&text, r#"touchline_cache_reasons_total{route="/users/{id}",reason="cookie"}"#), 1.0);
    assert_eq!(value(&text, "touchline_cache_entries"), 412.0);
    assert_eq!(value(&text, r#"touchline_upstream_up{upstream="backend"}"#), 1.0);
    assert_eq!(value(&text, r#"touchline_upstream_breaker_state{upstream="backend"}"#), 1.0);
    assert_eq!(value(&text, r#"touchline_net_refusals_total{listener="ingress",reason="bad_request"}"#), 1.0);
    assert_eq!(value(&text, "touchline_ingress_slow_requests_total"), 1.0);
    assert_eq!(value(&text, r#"touchline_ingress_response_bytes_total{route="/users/{id}"}"#), 300.0);
    assert_eq!(value(&text, r#"touchline_config_info{hash="3f9c1ab"}"#), 1.0);
    drop(sizes);
    assert!(!telemetry.metrics_text().contains("touchline_cache_entries"));
}

#[test]
fn an_upstream_without_a_verdict_is_absent() {
    let telemetry = telemetry(20_000);
    telemetry.upstream("backend");

    assert!(!telemetry.metrics_text().contains("touchline_upstream_up"));
}

#[test]
fn the_cap_folds_what_is_too_much_into_other_and_counts_it() {
    let telemetry = telemetry(500);
    for at in 0..400 {
        let route = telemetry.route(&format!("/scanned/{at}"), Duration::from_secs(2));
        telemetry.finish(record(&route, 500), 10, 20);
    }

    let text = telemetry.metrics_text();

    let requests = text.lines().filter(|line| line.starts_with("touchline_ingress_requests_total{"));
    let total: f64 =
        requests.clone().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert_eq!(total, 400.0, "no request is lost");
    let other =
        r#"touchline_ingress_requests_total{route="other",method="_OTHER",status="5xx",cache="bypass"}"#;
    assert_eq!(value(&text, other), value(&text, "touchline_telemetry_series_dropped_total"));
    let of_routes = text.lines().filter(|line| line.contains("route=")).count();
    assert!(of_routes < 500 + 150, "{of_routes}");
}

#[test]
fn a_backend_that_makes_up_statuses_cannot_make_series_without_bound() {
    let telemetry = telemetry(1_000_000);
    let route = telemetry.route("/a", Duration::from_secs(2));

    (100..1000).for_each(|status| telemetry.finish(record(&route, status), 10, 20));

    let text = telemetry.metrics_text();
    let series = text.lines().filter(|line| line.starts_with("touchline_ingress_requests_total{")).count();
    assert!(series <= 256 + 9, "{series}");
    assert_eq!(value(&text, "touchline_telemetry_series_dropped_total"), 900.0 - 256.0);
}

#[test]
fn two_threads_count_every_request_once() {
    let telemetry = telemetry(20_000);
    let route = telemetry.route("/a", Duration::from_secs(2));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope
                .spawn(|| (0..20_000).for_each(|at| telemetry.finish(record(&route, 200 + at % 40), 10, 20)));
        }
    });

    let text = telemetry.metrics_text();

    let requests = text.lines().filter(|line| line.starts_with("touchline_ingress_requests_total{"));
    let total: f64 = requests.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert_eq!(total, 40_000.0);
    assert_eq!(telemetry.overall(crate::telemetry::Window::OneHour, Instant::now()).count, 40_000);
}

#[test]
fn a_cache_that_is_gone_is_not_asked() {
    let telemetry = telemetry(100);
    telemetry.watch_cache(Weak::<Sizes>::new());

    assert_eq!(telemetry.cache_sizes(), None);
}

/// Run with `cargo test --release -- --ignored --nocapture cost_of_recording`.
#[test]
#[ignore = "a measurement"]
fn cost_of_recording() {
    const RECORDS: u32 = 1_000_000;
    let config = config::Telemetry::default();
    let telemetry = Telemetry::new(&config, Facts::default(), Some(Box::new(std::io::sink())));
    let routes: Vec<_> =
        (0..8).map(|at| telemetry.route(&format!("/route/{at}"), Duration::from_secs(2))).collect();
    let started = Instant::now();
    let run = &|finish: bool| {
        let begun = Instant::now();
        for at in 0..RECORDS {
            let cache = if at % 10 < 7 { CacheStatus::Hit } else { CacheStatus::Miss };
            let route = Arc::clone(&routes[at as usize % routes.len()]);
            let record =
                Record { cache, status: 200, bytes_out: 900, ..Record::new(route, Method::Get, started) };
            if finish {
                telemetry.finish(black_box(record), u64::from(150 + at % 977), u64::from(200 + at % 1499));
            } else {
                drop(black_box(record));
            }
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(RECORDS)
    };
    let mut report = String::new();
    for threads in [1, 2] {
        for round in 0..4 {
            let of_all = |finish: bool| {
                std::thread::scope(|scope| {
                    let running: Vec<_> = (0..threads).map(|_| scope.spawn(move || run(finish))).collect();
                    running.into_iter().map(|thread| thread.join().unwrap()).fold(0.0, f64::max)
                })
            };
            let (with, without) = (of_all(true), of_all(false));
            report +=
                &format!("{threads} threads, round {round}: {with:.0} ns with, {without:.0} ns without\n");
        }
    }
    let begun = Instant::now();
    let size = telemetry.metrics_text().len();
    report += &format!("scrape: {size} bytes in {:?}\n", begun.elapsed());
    std::io::Write::write_all(&mut std::io::stderr(), report.as_bytes()).unwrap();
}

/// Run with `cargo test --release -- --ignored --nocapture memory_of_40_busy_routes`.
#[test]
#[ignore = "a measurement"]
fn memory_of_40_busy_routes() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let telemetry = telemetry(20_000);
    let idle = resident();
    let routes: Vec<_> =
        (0..40).map(|at| telemetry.route(&format!("/route/{at}"), Duration::from_secs(60))).collect();
    let started = Instant::now();
    let mut seed = 7_u64;
    for second in 0..3700_u64 {
        for at in 0..4000_u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let us = if seed >> 60 < 11 { 100 + (seed >> 20) % 400 } else { 8_000 + (seed >> 20) % 200_000 };
            let begun = started + Duration::from_secs(second);
            let route = Arc::clone(&routes[usize::try_from(at).unwrap() % 40]);
            let method = if at % 3 == 0 { Method::Post } else { Method::Get };
            let record = Record { status: 200, ..Record::new(route, method, begun) };
            telemetry.finish(record, us, us);
        }
    }
    let busy = resident();
    let report = format!("before {before} KiB, idle +{} KiB, busy +{} KiB\n", idle - before, busy - before);
    std::io::Write::write_all(&mut std::io::stderr(), report.as_bytes()).unwrap();
}
