//! The sums that the answers promise, on records as a plane makes them.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, advance};

use super::{Operation, RouteWindow, Window};
use crate::{
    config,
    telemetry::{
        Basis, CacheStatus, Facts, Fwd, HitSource, Kind, Method, Outcome, Parts, Reason, Record, RouteStats,
        Telemetry, Tier,
    },
};

fn telemetry() -> Arc<Telemetry> {
    Telemetry::new(&config::Telemetry::default(), Facts::default(), None)
}

fn record(route: &Arc<RouteStats>, method: Method, status: u16) -> Record {
    Record { status, ..Record::new(Arc::clone(route), method, Instant::now()) }
}

fn finish(telemetry: &Telemetry, record: Record, ms: u64) {
    telemetry.finish(record, ms * 900, ms * 1000);
}

fn find<'a>(windows: &'a [RouteWindow], key: &str) -> &'a RouteWindow {
    windows.iter().find(|window| window.key == key).unwrap_or_else(|| panic!("no {key}"))
}

#[tokio::test(start_paused = true)]
async fn routes_are_split_by_method_and_unmatched_is_one() {
    let telemetry = telemetry();
    let route = telemetry.route("/users/{id}", Duration::from_millis(50));
    for ms in [10, 20, 100] {
        finish(&telemetry, record(&route, Method::Get, 200), ms);
    }
    finish(&telemetry, record(&route, Method::Post, 503), 7);
    finish(&telemetry, record(&telemetry.unmatched(), Method::Get, 404), 1);
    finish(&telemetry, record(&telemetry.unmatched(), Method::Other, 404), 3);

    let windows = telemetry.route_windows(Window::OneHour, Instant::now());

    assert_eq!(windows.len(), 3);
    let get = find(&windows, "GET /users/{id}");
    assert_eq!((get.summary.count, get.limit_us, get.basis), (3, 50_000, Basis::Whole));
    assert_eq!((get.summary.min_us, get.summary.max_us, get.summary.sum_us), (10_000, 100_000, 130_000));
    assert!((get.summary.avg_ms() - 130.0 / 3.0).abs() < 1e-9 && get.summary.is_few());
    assert_eq!(find(&windows, "POST /users/{id}").errors_5xx, 1);
    assert_eq!(find(&windows, "unmatched").summary.count, 2);
    assert_eq!(telemetry.slow_requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn streams_are_judged_by_their_first_byte_and_stay_out_of_the_whole() {
    let telemetry = telemetry();
    let route = telemetry.route("/chat", Duration::from_secs(2));
    let stream = Record { kind: Kind::Stream, ..record(&route, Method::Post, 200) };
    telemetry.finish(stream, 700_000, 60_000_000);
    finish(&telemetry, record(&route, Method::Post, 200), 900);

    let windows = telemetry.route_windows(Window::OneMinute, Instant::now() + Duration::from_secs(60));

    let stream = find(&windows, "POST /chat");
    assert_eq!(windows.len(), 1, "the plain answer is older than a minute");
    assert_eq!((stream.basis, stream.summary.max_us), (Basis::FirstByte, 700_000));
    let windows = telemetry.route_windows(Window::OneHour, Instant::now());
    assert_eq!(find(&windows, "POST /chat (plain)").basis, Basis::Whole);
    assert!(telemetry.slow_requests().is_empty());
    assert_eq!(telemetry.overall(Window::OneHour, Instant::now()).max_us, 900_000);
}

#[tokio::test(start_paused = true)]
async fn cache_numbers_add_up_by_source_reason_and_route() {
    let telemetry = telemetry();
    let (a, b) =
        (telemetry.route("/a", Duration::from_secs(2)), telemetry.route("/b", Duration::from_secs(2)));
    let events = [
        (&a, CacheStatus::Hit, Some(HitSource::Memory), None),
        (&a, CacheStatus::Hit, Some(HitSource::Collapsed), Some(Fwd::UriMiss)),
        (&a, CacheStatus::Hit, None, None),
        (&b, CacheStatus::Stale, Some(HitSource::Stale), Some(Fwd::Stale)),
        (&b, CacheStatus::Miss, None, Some(Fwd::UriMiss)),
        (&b, CacheStatus::Miss, None, None),
        (&b, CacheStatus::Revalidated, None, Some(Fwd::Stale)),
        (&b, CacheStatus::Bypass, None, Some(Fwd::Bypass)),
    ];
    for (route, cache, source, fwd) in events {
        finish(&telemetry, Record { cache, source, fwd, ..record(route, Method::Get, 200) }, 1);
    }

    let window = telemetry.cache_window(Window::OneHour, Instant::now());

    assert_eq!((window.hits(), window.misses(), window.revalidated, window.bypass), (4, 3, 1, 1));
    let sources: Vec<_> = window.by_source.iter().map(|(source, count)| (source.as_str(), *count)).collect();
    assert_eq!(sources, [("memory", 2), ("redis", 0), ("collapsed", 1), ("stale", 1)]);
    assert_eq!(window.by_fwd, [(Fwd::UriMiss, 1), (Fwd::Miss, 1), (Fwd::Stale, 1)]);
    let of_routes = |read: fn(&super::RouteCache) -> u64| window.by_route.iter().map(read).sum::<u64>();
    assert_eq!(of_routes(|route| route.hits), window.hits());
    assert_eq!(of_routes(|route| route.misses), window.misses());
    assert_eq!(of_routes(|route| route.bypass), window.bypass);
    assert_eq!(window.hit_rate_percent(), Some(400.0 / 7.0));
    assert_eq!(window.by_route[1].hit_rate_percent(), Some(100.0));

    advance(Duration::from_secs(3600)).await;
    let later = telemetry.cache_window(Window::OneHour, Instant::now());
    assert_eq!((later.hits(), later.bypass, later.hit_rate_percent()), (0, 0, None));
}

#[tokio::test(start_paused = true)]
async fn the_last_minute_is_none_without_anything_in_it() {
    let telemetry = telemetry();
    assert_eq!(telemetry.realtime(Instant::now()), None);
    let route = telemetry.route("/a", Duration::from_secs(2));
    finish(&telemetry, record(&route, Method::Get, 200), 30);
    telemetry.cache_operation(Tier::Memory, Operation::Lookup, Instant::now(), 4);
    telemetry.cache_operation(Tier::Memory, Operation::Store, Instant::now(), 9);

    let realtime = telemetry.realtime(Instant::now()).unwrap();

    assert_eq!((realtime.requests, realtime.cache_operations, realtime.latency.max_us), (1, 2, 30_000));
    let operations = telemetry.operation_windows(Window::OneMinute, Instant::now());
    assert_eq!(
        operations.iter().map(|(operation, _)| operation.as_str()).collect::<Vec<_>>(),
        ["lookup", "store"]
    );
    advance(Duration::from_secs(61)).await;
    assert_eq!(telemetry.realtime(Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn the_chart_holds_a_quarter_of_an_hour_by_outcome() {
    let telemetry = telemetry();
    let route = telemetry.route("/a", Duration::from_secs(2));
    assert_eq!(telemetry.chart(Instant::now()).len(), 1);
    finish(&telemetry, Record { cache: CacheStatus::Hit, ..record(&route, Method::Get, 200) }, 1);
    advance(Duration::from_secs(10)).await;
    finish(&telemetry, Record { cache: CacheStatus::Miss, ..record(&route, Method::Get, 200) }, 1);
    finish(&telemetry, Record { outcome: Outcome::Panic, ..record(&route, Method::Get, 200) }, 1);
    finish(&telemetry, record(&route, Method::Get, 404), 1);

    let chart = telemetry.chart(Instant::now());
    let counts: Vec<_> = chart.iter().map(|slot| (slot.hit, slot.miss, slot.bypass, slot.error)).collect();
    assert_eq!(counts, [(1, 0, 0, 0), (0, 1, 1, 1)]);

    advance(Duration::from_secs(900)).await;
    let chart = telemetry.chart(Instant::now());
    assert_eq!(chart.len(), 90);
    assert_eq!(chart.iter().map(|slot| slot.hit + slot.miss + slot.bypass + slot.error).sum::<u32>(), 0);
}

#[tokio::test(start_paused = true)]
async fn minutes_hold_the_totals_of_all_routes() {
    let telemetry = telemetry();
    for template in ["/a", "/b"] {
        let route = telemetry.route(template, Duration::from_secs(2));
        finish(&telemetry, record(&route, Method::Get, 500), 10);
        finish(&telemetry, record(&route, Method::Get, 200), 30);
    }
    advance(Duration::from_secs(120)).await;
    finish(&telemetry, record(&telemetry.unmatched(), Method::Get, 404), 5);

    let minutes = telemetry.minutes(Instant::now());

    let seen: Vec<_> =
        minutes.iter().map(|minute| (minute.ago, minute.requests, minute.errors_5xx)).collect();
    assert_eq!(seen, [(2, 4, 2), (0, 1, 0)]);
    assert!((minutes[0].avg_ms - 20.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn the_same_template_keeps_its_statistics_over_a_reload() {
    let telemetry = telemetry();
    let before = telemetry.route("/a", Duration::from_secs(2));
    finish(&telemetry, record(&before, Method::Get, 200), 30);

    let after = telemetry.route("/a", Duration::from_millis(10));
    after.set_slow_after(Duration::from_millis(10));
    after.set_slow_after_for(Method::Post, Duration::from_secs(8));

    assert!(Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&telemetry.route("unmatched", Duration::from_secs(2)), &telemetry.unmatched()));
    assert_eq!((before.slow_after_us(Method::Get), before.slow_after_us(Method::Post)), (10_000, 8_000_000));
    finish(&telemetry, record(&after, Method::Post, 200), 100);
    assert!(telemetry.slow_requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_miss_that_could_be_no_hit_is_no_lookup() {
    let telemetry = telemetry();
    let (ruled, bare) =
        (telemetry.route("/a", Duration::from_secs(2)), telemetry.route("/b", Duration::from_secs(2)));
    let looked_up = |route, cache, is_cacheable| Record {
        cache,
        fwd: Some(Fwd::UriMiss),
        source: (cache == CacheStatus::Hit).then_some(HitSource::Memory),
        is_cacheable,
        ..record(route, Method::Get, 200)
    };
    for _ in 0..9 {
        finish(&telemetry, looked_up(&ruled, CacheStatus::Hit, true), 1);
        finish(&telemetry, looked_up(&bare, CacheStatus::Miss, false), 1);
    }
    finish(&telemetry, looked_up(&ruled, CacheStatus::Miss, true), 1);
    // Once there was an answer that could be kept there are lookups.
    finish(&telemetry, looked_up(&bare, CacheStatus::Hit, false), 1);

    let now = Instant::now();
    let cache = telemetry.cache_window(Window::OneHour, now);
    assert_eq!((cache.hits(), cache.misses(), cache.bypass), (10, 1, 9));
    assert!((cache.hit_rate_percent().unwrap() - 1000.0 / 11.0).abs() < 1e-9);
    let route = |at: usize| (cache.by_route[at].hits, cache.by_route[at].misses, cache.by_route[at].bypass);
    assert_eq!((route(0), route(1)), ((9, 1, 0), (1, 0, 9)));
    let chart = telemetry.chart(now);
    let slot = chart.last().unwrap();
    assert_eq!((slot.hit, slot.miss, slot.bypass, slot.error), (10, 1, 9, 0));
    let text = telemetry.metrics_text();
    let lookups: Vec<_> =
        text.lines().filter(|line| line.starts_with("touchline_cache_lookups_total")).collect();
    assert_eq!(
        lookups,
        [
            r#"touchline_cache_lookups_total{route="/a",status="hit"} 9"#,
            r#"touchline_cache_lookups_total{route="/a",status="miss"} 1"#,
            r#"touchline_cache_lookups_total{route="/b",status="hit"} 1"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_is_kept_with_parts_that_add_up_and_a_sentence() {
    let telemetry = telemetry();
    let route = telemetry.route("/api/candidates/{id}", Duration::from_secs(2));
    let parts = Parts { queue_us: 20_000, backend_us: 2_240_000, body_us: 9_999_999, ..Parts::default() };
    let reason = Some(Reason::NotListed);

    finish(&telemetry, Record { parts, reason, ..record(&route, Method::Get, 200) }, 2310);
    let stream = Record { parts, kind: Kind::Stream, ..record(&route, Method::Get, 200) };
    telemetry.finish(stream, 2_300_000, 90_000_000);

    let slow = telemetry.slow_requests();
    assert_eq!(slow.len(), 2);
    for request in &slow {
        let sum: u32 = request.breakdown.parts().map(|(_, us)| us).sum();
        assert_eq!(sum, request.breakdown.total_us());
    }
    assert_eq!(
        slow[1].sentence(),
        "GET /api/candidates/{id} took 2310 ms, over its limit of 2000 ms; 96 % of it went into waiting for the \
         backend's first byte"
    );
    assert!(slow[0].sentence().contains("sent its first byte after 2300 ms"));
    assert_eq!(slow[0].breakdown.dominant().0.as_str(), "backend");
}

#[tokio::test(start_paused = true)]
async fn the_slow_ring_keeps_the_last_200() {
    let telemetry = telemetry();
    let route = telemetry.route("/a", Duration::ZERO);

    (0..250).for_each(|at| finish(&telemetry, record(&route, Method::Get, 200 + at), 1));

    let slow = telemetry.slow_requests();
    assert_eq!((slow.len(), slow[0].status, slow[199].status), (200, 449, 250));
}
