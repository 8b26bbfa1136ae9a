//! One record per request, whatever happens, and sums that agree.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, answer, ok, text},
    client::{Client, get, get_text, raw, request},
    h2c::H2,
    until, until_async,
};

/// Everything that can happen to a request, in one run.
#[tokio::test]
async fn every_request_leaves_one_record_and_the_sums_agree() {
    let backend = Backend::start(|request| match request.target().split('?').next().unwrap() {
        "/cut" => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()),
            Step::Wait(Duration::from_millis(20)),
            Step::Close,
        ],
        "/hang" => vec![Step::Hang],
        "/garbage" => crate::support::backend::send("nonsense\r\n\r\n"),
        "/500" => answer("500 Internal Server Error", &[], "bad"),
        _ => ok("hi"),
    })
    .await;
    let proxy = Setup::before(&backend)
        .limits("body: 10B, header_timeout: 100ms")
        .upstream("first_byte: 150ms, breaker: { enabled: false }")
        .routes("{ path: \"/cached/{id}\", cache: { ttl: 1m } }, { path: /denied, deny: true }")
        .start();
    let address = proxy.address;

    let mut expected: Vec<(&str, u64, &str)> = Vec::new();
    for (target, status, outcome) in [
        ("/", 200, "done"),
        ("/500", 500, "done"),
        ("/cut", 200, "upstream_abort"),
        ("/hang", 504, "error"),
        ("/garbage", 502, "error"),
        ("/denied", 403, "error"),
        ("/cached/1", 200, "done"),
        ("/cached/1", 200, "done"),
        ("/cached/2", 200, "done"),
    ] {
        get(address, target).await;
        expected.push((target, status, outcome));
    }
    request(address, "POST", "/", "more than ten").await;
    expected.push(("/", 413, "error"));
    for (bytes, status) in [("nonsense\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HT", 408)] {
        raw(address, bytes).await;
        expected.push(("", status, "error"));
    }
    let mut leaving = Client::connect(address).await;
    leaving.ask("/hang").await;
    until("it is at the backend", || {
        backend.requests().iter().filter(|request| request.target() == "/hang").count() == 2
    })
    .await;
    drop(leaving);
    expected.push(("/hang", 499, "client_abort"));
    H2::connect(address).await.get("/h2").await.unwrap();
    expected.push(("/h2", 200, "done"));

    let records = proxy.records_of(expected.len()).await;
    let mut found: Vec<(String, u64, String)> = records.iter().map(summary).collect();
    let mut expected: Vec<(String, u64, String)> = expected
        .iter()
        .map(|(path, status, outcome)| ((*path).to_owned(), *status, (*outcome).to_owned()))
        .collect();
    // A request that was refused while it was read may or may not have a path; its status tells.
    for entry in found
        .iter_mut()
        .chain(&mut expected)
        .filter(|entry| [400, 403, 408, 413, 499, 502, 504].contains(&entry.1))
    {
        entry.0.clear();
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);

    sums_agree(&proxy, &records).await;
}

/// Compares the records with everything that is counted elsewhere.
async fn sums_agree(proxy: &Proxy, records: &[Value]) {
    let total = u64::try_from(records.len()).unwrap();
    let metrics = proxy.json("/performance/metrics").await;
    let requests = &metrics["performance_summary"]["metric_types"]["request"];
    assert_eq!(requests["count"], total);
    let by_route: u64 =
        requests["metrics"].as_object().unwrap().values().map(|route| route["count"].as_u64().unwrap()).sum();
    assert_eq!(by_route, total);
    assert_eq!(metrics["real_time_metrics"]["requests_per_minute"], total);
    let stats = proxy.json("/performance/cache/stats").await;
    let sum = ["cache_hits", "cache_misses", "bypass"]
        .iter()
        .map(|name| stats[name].as_u64().unwrap())
        .sum::<u64>();
    assert_eq!(sum, total, "{stats:#}");
    let of = |is: &dyn Fn(&Value) -> bool| {
        u64::try_from(records.iter().filter(|record| is(record)).count()).unwrap()
    };
    let hits = of(&|record| record["cache"] == "hit");
    let misses = of(&|record| record["cache"] == "miss" && record["http.route"] == "/cached/{id}");
    assert_eq!((stats["cache_hits"].clone(), stats["cache_misses"].clone()), (hits.into(), misses.into()));
    assert_eq!(stats["bypass"], total - hits - misses);
    assert_eq!(
        proxy.metric("touchline_ingress_requests_total", "").await,
        f64::from(u32::try_from(total).unwrap())
    );
    assert_eq!(proxy.metric("touchline_net_requests_in_flight", "ingress").await, 0.0);
    until_async("nothing is left at the backend", || async {
        proxy.metric("touchline_upstream_requests_in_flight", "").await == 0.0
    })
    .await;
}

fn summary(record: &Value) -> (String, u64, String) {
    (
        record["url.path"].as_str().unwrap_or_default().to_owned(),
        record["http.response.status_code"].as_u64().unwrap(),
        record["outcome"].as_str().unwrap_or("done").to_owned(),
    )
}

#[tokio::test]
async fn a_record_names_its_route_and_not_its_query() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).routes("{ path: \"/user/{id}\" }").start();

    get(proxy.address, "/user/7?token=secret").await;

    let record = proxy.record().await;
    assert_eq!((&record["http.route"], &record["url.path"]), (&"/user/{id}".into(), &"/user/7".into()));
    assert!(!record.to_string().contains("secret"));
    assert_eq!(record["bytes_out"], 2);
}

#[tokio::test]
async fn a_slow_request_is_marked_with_where_its_time_went() {
    let backend = Backend::start(|_| {
        vec![Step::Wait(Duration::from_millis(120)), Step::Send(text("200 OK", &[], "hi").into_bytes())]
    })
    .await;
    let proxy = Setup::before(&backend)
        .ingress("server_timing", "true")
        .routes("{ path: /slow, slow_after: 100ms }")
        .start();

    let slow = get(proxy.address, "/slow").await;
    get(proxy.address, "/fine").await;

    let records = proxy.records_of(2).await;
    assert_eq!((&records[0]["slow"], &records[1]["slow"]), (&true.into(), &Value::Null));
    assert!(records[0]["ms"].as_f64().unwrap() >= 120.0);
    assert!(slow.field("server-timing").contains("backend;dur=1"), "{}", slow.field("server-timing"));
    assert_eq!(proxy.metric("touchline_ingress_slow_requests_total", "").await, 1.0);
}

#[tokio::test]
async fn a_hundred_thousand_paths_are_one_route() {
    let backend = Backend::start(|_| ok("hi")).await;
    let proxy = Setup::before(&backend).routes("{ path: \"/user/{id}\" }").start();
    let mut client = Client::connect(proxy.address).await;

    let before = proxy.page("/metrics").await.body.len();
    for batch in 0..20 {
        let texts: String = (0..50)
            .map(|index| {
                get_text(&format!("/user/{batch}-{index}"), &[])
                    + &get_text(&format!("/other/{batch}-{index}"), &[])
            })
            .collect();
        client.send(texts).await;
        for _ in 0..100 {
            client.answer().await;
        }
    }

    let after = proxy.page("/metrics").await.body.len();
    assert!(after < before + 20_000, "{before} bytes became {after}");
    assert_eq!(proxy.metric("touchline_ingress_requests_total", "/user/{id}").await, 1000.0);
    assert_eq!(proxy.metric("touchline_ingress_requests_total", "unmatched").await, 1000.0);
}

/// The statistics of the cache, once they have so many requests in all.
async fn cache_stats(proxy: &Proxy, requests: u64) -> Value {
    let stats = async || proxy.json("/performance/cache/stats").await;
    let sum = |stats: &Value| {
        ["total_cache_operations", "bypass"].iter().map(|name| stats[name].as_u64().unwrap()).sum::<u64>()
    };
    until_async("every request is counted", async || sum(&stats().await) == requests).await;
    stats().await
}

#[tokio::test]
async fn a_path_that_nobody_wants_cached_does_not_lower_the_hit_rate() {
    let backend = Backend::start(|request| match request.target().split('?').next().unwrap() {
        "/fresh" => answer("200 OK", &["Cache-Control: max-age=60"], "hi"),
        "/forbidden" | "/ruled/forbidden" => answer("200 OK", &["Cache-Control: no-store"], "hi"),
        "/broken" => answer("500 Internal Server Error", &[], "bad"),
        _ => ok("hi"),
    })
    .await;
    let proxy = Setup::before(&backend).routes("{ path: \"/ruled/{id}\", cache: { ttl: 1m } }").start();
    let many = async |target: &str, times: usize| {
        for _ in 0..times {
            get(proxy.address, target).await;
        }
    };

    many("/ruled/a", 10).await;
    for target in ["/plain", "/plain?b=1", "/forbidden", "/broken"] {
        many(target, 5).await;
    }
    let stats = cache_stats(&proxy, 30).await;

    assert_eq!(
        (&stats["cache_hits"], &stats["cache_misses"], &stats["bypass"]),
        (&9.into(), &1.into(), &20.into())
    );
    assert_eq!(stats["cache_hit_rate_percent"], 90.0);
    assert_eq!(stats["performance_targets"]["current_status"], "healthy");
    assert_eq!(stats["miss_reasons"], serde_json::json!({"uri-miss": 1}));
    assert_eq!(proxy.metric("touchline_cache_lookups_total", "").await, 10.0);

    // What its rule or the backend wants cached, and is not, counts as before.
    many("/ruled/forbidden", 1).await;
    many("/fresh", 3).await;
    let stats = cache_stats(&proxy, 34).await;

    assert_eq!((&stats["cache_hits"], &stats["cache_misses"]), (&11.into(), &3.into()));
    // The answer itself says what was done for it, as ever.
    let plain = get(proxy.address, "/plain").await;
    assert_eq!(plain.cache(), "miss");
}

#[tokio::test]
async fn a_backend_that_is_gone_makes_no_misses_where_nothing_could_be_kept() {
    let backend = Backend::start(|_| vec![Step::Close]).await;
    let proxy = Setup::before(&backend).routes("{ path: \"/ruled/{id}\", cache: { ttl: 1m } }").start();

    for target in ["/plain", "/ruled/a"] {
        get(proxy.address, target).await;
    }
    let stats = cache_stats(&proxy, 2).await;

    assert_eq!((&stats["cache_misses"], &stats["bypass"]), (&1.into(), &1.into()), "{stats:#}");
}
