//! What the admin listener answers, to whom, and in which shape: every field of the answers that monitors already
//! parse is there with a compatible type.

use std::sync::{Arc, atomic::Ordering};

use http::{Request, header};
use serde_json::Value;

use super::{AdminService, IngressPart};
use crate::admin::fakes::{Fake, Seen, admin, admin_with_traffic, ask, seen};
use crate::config::OnIngress;
use crate::net::{Body, Context, Refusal, Service};
use crate::telemetry::{RedisInfo, RedisStats};

const READS: [&str; 6] =
    ["/", "/metrics", "/health", "/performance/metrics", "/performance/health", "/performance/cache/stats"];

fn plain() -> (Arc<Fake>, AdminService) {
    let fake = Arc::new(Fake::default());
    let service = AdminService::new(Arc::new(admin(&fake, None, None)));
    (fake, service)
}

fn busy() -> AdminService {
    AdminService::new(Arc::new(admin_with_traffic(&Arc::new(Fake::default()))))
}

async fn get(service: &AdminService, target: &str) -> Seen {
    ask(service, &format!("GET {target}"), &[], "").await
}

/// Every field of `old` that is missing in `new` or has another type there. A number may become null where it cannot
/// be known; what is null in `old` may become anything. Keys below `metrics` are data.
fn misfits(old: &Value, new: &Value, path: &str) -> Vec<String> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) if path.ends_with(".metrics") => {
            let sample = new.values().next();
            old.values()
                .take(1)
                .flat_map(|value| sample.map(|new| misfits(value, new, &format!("{path}.*"))))
                .flatten()
                .collect()
        }
        (Value::Object(old), Value::Object(new)) => {
            let order: Vec<_> = new.keys().filter(|name| old.contains_key(*name)).collect();
            let expected: Vec<_> = old.keys().filter(|name| new.contains_key(*name)).collect();
            let is_free = path.ends_with(".metric_types");
            let moved = (order != expected && !is_free)
                .then(|| format!("{path}: order {order:?} instead of {expected:?}"));
            let below = old.iter().flat_map(|(name, value)| match new.get(name) {
                Some(new) => misfits(value, new, &format!("{path}.{name}")),
                None => vec![format!("{path}.{name}: missing")],
            });
            below.chain(moved).collect()
        }
        (Value::Number(_), Value::Number(_) | Value::Null)
        | (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Array(_), Value::Array(_))
        | (Value::Null, _) => Vec::new(),
        (old, new) => vec![format!("{path}: {new} instead of {old}")],
    }
}

fn fits(old: &str, new: &Seen) {
    let old: Value = serde_json::from_str(old).unwrap();
    assert_eq!(new.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(misfits(&old, &new.json(), "$"), Vec::<String>::new(), "{}", new.text);
}

#[tokio::test]
async fn the_contract_answers_keep_their_fields() {
    let service = busy();

    fits(include_str!("../fixtures/metrics.json"), &get(&service, "/performance/metrics").await);
    fits(include_str!("../fixtures/cache-stats.json"), &get(&service, "/performance/cache/stats").await);
    fits(include_str!("../fixtures/performance-health.json"), &get(&service, "/performance/health").await);
    fits(include_str!("../fixtures/health.json"), &get(&service, "/health").await);
}

#[test]
fn the_shape_check_sees_what_is_wrong() {
    let old = serde_json::json!({"a": 1, "b": {"c": "x"}, "d": null, "e": []});
    let new = serde_json::json!({"b": {"c": 1}, "a": 1, "d": 2});

    let found = misfits(&old, &new, "$");

    assert_eq!(found.len(), 3, "{found:?}");
}

#[tokio::test]
async fn an_idle_pod_answers_in_the_same_shape() {
    let (_, service) = plain();

    let metrics = get(&service, "/performance/metrics").await.json();
    let health = get(&service, "/performance/health").await.json();
    let stats = get(&service, "/performance/cache/stats").await.json();

    assert_eq!(metrics["performance_summary"]["total_metrics"], 0);
    assert_eq!(
        metrics["performance_summary"]["metric_types"]["request"],
        serde_json::json!({"count": 0, "metrics": {}})
    );
    assert_eq!(metrics["real_time_metrics"], serde_json::json!({"status": "no_recent_data"}));
    assert_eq!((&health["healthy"], &health["health_score"]), (&Value::Bool(true), &Value::from(100)));
    assert_eq!(health["alerts"], serde_json::json!([]));
    assert_eq!(stats["performance_targets"]["current_status"], "healthy");
    assert_eq!(stats["cache_hit_rate_percent"], 0.0);
}

#[tokio::test]
async fn planes_that_do_not_run_leave_their_fields() {
    let metrics = get(&busy(), "/performance/metrics").await.json();

    assert_eq!(
        metrics["redis_stats"],
        serde_json::json!({"redis_available": false, "last_health_check": null, "fallback_cache_size": 412,
            "redis_url_configured": false, "redis_version": null, "connected_clients": null,
            "used_memory_human": null, "total_commands_processed": null, "breaker": null, "ping_ms": null, "error": null, "losses": 0,
            "pending_writes": 0, "pending_purges": 0, "rejected_values": 0, "errors": null})
    );
    assert_eq!(metrics["database_stats"], serde_json::json!({}));
    assert_eq!(metrics["model_routing_stats"]["total_requests"], 0);
    assert_eq!(metrics["model_routing_stats"]["cost_usd"], Value::Null);
    assert_eq!(metrics["real_time_metrics"]["avg_db_time_ms"], Value::Null);
    assert_eq!(
        metrics["system_health"],
        serde_json::json!({"redis_available": false, "connection_pooling": false, "metrics_collection": true,
            "cost_optimization": false})
    );
}

#[tokio::test]
async fn a_redis_that_answers_is_shown_with_the_fields_of_before() {
    // As the system that was replaced answered with Redis 7.0.15.
    let before = r#"{"redis_available":true,"last_health_check":"2026-11-23T16:48:17.406044","fallback_cache_size":0,
        "redis_url_configured":true,"redis_version":"7.0.15","connected_clients":2,"used_memory_human":"1.10M",
        "total_commands_processed":102}"#;
    let before: serde_json::Map<String, Value> = serde_json::from_str(before).unwrap();
    let is_one_run = |name: &str| matches!(name, "last_health_check" | "fallback_cache_size");
    let admin = admin(&Arc::new(Fake::default()), None, None);
    let redis = Arc::new(RedisStats::new("redis:6379"));
    admin.telemetry.watch_redis(Arc::clone(&redis));
    let service = AdminService::new(Arc::new(admin));
    redis.set_up(true, None);
    redis.set_ping(410);
    redis.set_info(RedisInfo {
        version: Some("7.0.15".to_owned()),
        clients: Some(2),
        memory: Some("1.10M".to_owned()),
        commands: Some(102),
    });

    for path in ["/performance/cache/stats", "/performance/metrics"] {
        let stats = get(&service, path).await.json()["redis_stats"].clone();
        let of_now: Vec<_> = stats.as_object().unwrap().keys().take(before.len()).collect();
        assert_eq!(of_now, before.keys().collect::<Vec<_>>(), "{path}");
        for (name, was) in &before {
            assert!(is_one_run(name) || stats[name] == *was, "{path} {name}: {}", stats[name]);
        }
    }

    redis.set_up(false, Some("connection refused".to_owned()));
    let stats = get(&service, "/performance/cache/stats").await.json()["redis_stats"].clone();
    for name in ["redis_version", "connected_clients", "used_memory_human", "total_commands_processed"] {
        assert_eq!(stats[name], Value::Null, "{name}");
    }
}

#[tokio::test]
async fn windows_are_words_and_unknown_keys_are_ignored_on_contract_paths() {
    let service = busy();
    let hours = |answer: &Seen| answer.json()["performance_summary"]["time_window_hours"].clone();

    assert_eq!(hours(&get(&service, "/performance/metrics").await), 1);
    assert_eq!(hours(&get(&service, "/performance/metrics?window=1h&x=y").await), 1);
    assert!(hours(&get(&service, "/performance/metrics?window=1m").await).as_f64().unwrap() < 0.02);
    for bad in ["2m", "", "1m%20", "-1h", "60", "1h;x", "%31m"] {
        let answer = get(&service, &format!("/performance/metrics?window={bad}")).await;
        assert_eq!((answer.status, answer.detail().as_str()), (400, "window must be 1m, 5m or 1h"), "{bad}");
    }
    assert_eq!(get(&service, "/performance/health?window=9").await.status, 200);
    assert_eq!(get(&service, "/performance/health?strict=maybe").await.status, 400);
    assert_eq!(get(&service, "/metrics?x=1").await.status, 400);
    assert_eq!(get(&service, "/?windows=1m").await.status, 400);
    // The page writes both into its address, which has to be one that it can be opened by.
    assert_eq!(get(&service, "/?window=1m&scope=merged").await.status, 200);
    assert_eq!(get(&service, "/?scope=all").await.status, 400);
    assert_eq!(get(&service, "/livez?x=1").await.status, 200);
}

#[tokio::test]
async fn a_head_is_a_get_without_its_bytes() {
    let service = busy();

    for path in READS.into_iter().chain(["/livez", "/readyz", "/dashboard.css", "/nope"]) {
        let get = get(&service, path).await;
        let head = ask(&service, &format!("HEAD {path}"), &[], "").await;
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        assert_eq!(get.headers[header::CONTENT_LENGTH], get.text.len().to_string(), "{path}");
        assert!(head.headers.contains_key(header::CONTENT_LENGTH), "{path}");
        assert_eq!(head.headers[header::CONTENT_TYPE], get.headers[header::CONTENT_TYPE], "{path}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let (_, service) = plain();

    for path in READS.into_iter().chain(["/livez", "/nope", "/performance/cache/clear"]) {
        let answer = get(&service, path).await;
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert!(
            answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'")
        );
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{path}");
    }
}

#[tokio::test]
async fn writes_and_strange_paths_are_refused() {
    let (fake, service) = plain();

    for path in READS {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"] {
            let answer = ask(&service, &format!("{method} {path}"), &[], "").await;
            assert_eq!(
                (answer.status, answer.headers["allow"].to_str().unwrap()),
                (405, "GET, HEAD"),
                "{method} {path}"
            );
        }
    }
    for path in
        ["/nope", "/performance", "/performance/metrics/", "/Metrics", "//metrics", "/%6detrics", "/drain"]
    {
        let answer = get(&service, path).await;
        assert_eq!((answer.status, answer.text.as_str()), (404, r#"{"detail":"Not Found"}"#), "{path}");
    }
    let body = ask(&service, "GET /metrics", &[], "x").await;
    assert_eq!(body.status, 413);
    let clear = ask(&service, "GET /performance/cache/clear", &[], "").await;
    assert_eq!((clear.status, clear.headers["allow"].to_str().unwrap()), (405, "POST"));
    assert!(fake.purges.lock().is_empty());
}

#[tokio::test]
async fn a_foreign_host_reads_nothing() {
    let service = busy();

    for path in READS.into_iter().chain(["/readyz", "/nope"]) {
        for host in ["evil.example", "127.0.0.1.evil.example:9090", "metrics", ""] {
            let answer = ask(&service, &format!("GET {path}"), &[("host", host)], "").await;
            assert_eq!(answer.status, 421, "{host:?} {path}");
        }
    }
}

#[tokio::test]
async fn the_read_token_guards_everything_but_the_probes() {
    let fake = Arc::new(Fake::default());
    let service = AdminService::new(Arc::new(admin(&fake, Some("read-me"), Some("write-me"))));

    for path in READS {
        let line = format!("GET {path}");
        assert_eq!(ask(&service, &line, &[], "").await.status, 401, "{path}");
        assert_eq!(
            ask(&service, &line, &[("authorization", "Bearer read-me")], "").await.status,
            200,
            "{path}"
        );
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&service, path).await.status, 200);
    }
}

#[tokio::test]
async fn clearing_here_needs_the_control_token() {
    let fake = Arc::new(Fake::default());
    let without = AdminService::new(Arc::new(admin(&fake, Some("read-me"), None)));
    let with = AdminService::new(Arc::new(admin(&fake, Some("read-me"), Some("write-me"))));
    let clear = "POST /performance/cache/clear";

    let statuses = [
        (&without, "Bearer read-me", 403),
        (&without, "Bearer ", 403),
        (&with, "Bearer read-me", 403),
        (&with, "", 403),
        (&with, "Bearer write-me", 200),
    ];
    for (service, token, status) in statuses {
        assert_eq!(ask(service, clear, &[("authorization", token)], "").await.status, status, "{token}");
    }
    let page = [("authorization", "Bearer write-me"), ("origin", "http://10.0.0.9:9090")];
    assert_eq!(ask(&with, clear, &page, "").await.status, 403);

    assert_eq!(fake.purges.lock().len(), 1);
}

#[tokio::test]
async fn readiness_names_its_reason_and_liveness_stays() {
    let (fake, service) = plain();
    assert_eq!(get(&service, "/readyz").await.text, "ok\n");

    fake.is_unready.store(true, Ordering::SeqCst);

    let ready = get(&service, "/readyz").await;
    assert_eq!((ready.status, ready.text.as_str()), (503, "draining\n"));
    assert_eq!(get(&service, "/livez").await.status, 200);
}

#[tokio::test]
async fn a_dead_backend_shows_in_health() {
    let (fake, service) = plain();
    get(&service, "/health").await;
    fake.is_down.store(true, Ordering::SeqCst);

    let health = get(&service, "/health").await;

    assert_eq!((health.status, health.json()["status"].as_str().unwrap()), (503, "unhealthy"));
    assert_eq!(health.json()["message"], "backend is running");
    assert_eq!(health.json()["checks"]["backend"]["ok"], false);
}

#[tokio::test]
async fn ingress_answers_only_what_it_was_told_to() {
    let admin = Arc::new(admin_with_traffic(&Arc::new(Fake::default())));
    assert!(IngressPart::new(admin.clone(), &[]).is_none());
    let performance = IngressPart::new(admin.clone(), &[OnIngress::Performance]).unwrap();
    let health = IngressPart::new(admin, &[OnIngress::Health]).unwrap();

    for path in [
        "/performance/metrics",
        "/performance/health",
        "/performance/cache/stats",
        "/performance/cache/clear",
    ] {
        assert!(performance.takes(path) && !health.takes(path), "{path}");
    }
    assert!(health.takes("/health") && !performance.takes("/health"));
    for path in
        ["/", "/metrics", "/livez", "/readyz", "/dashboard.css", "/performance", "/performance/x", "/health/"]
    {
        assert!(!performance.takes(path) && !health.takes(path), "{path}");
    }
}

#[tokio::test]
async fn ingress_answers_under_any_host_and_never_clears_without_the_token() {
    let fake = Arc::new(Fake::default());
    let part =
        IngressPart::new(Arc::new(admin(&fake, None, Some("write-me"))), &[OnIngress::Performance]).unwrap();
    let send = async |method: &str, path: &str, token: Option<&str>| {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, "api.coach.example");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        seen(part.answer(request.body(Body::empty()).unwrap(), None).await).await
    };

    assert_eq!(send("GET", "/performance/metrics", None).await.status, 200);
    assert_eq!(send("DELETE", "/performance/metrics", None).await.status, 405);
    assert_eq!(send("GET", "/metrics", None).await.status, 404);
    assert_eq!(send("POST", "/performance/cache/clear", None).await.status, 403);
    assert_eq!(send("POST", "/performance/cache/clear", Some("write-me")).await.status, 200);
    assert_eq!(fake.purges.lock().len(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_request_get_the_same_error_shape() {
    let (_, service) = plain();

    let answer = seen(service.refuse(Refusal::BadRequest, Context::internal()).response).await;

    assert_eq!(answer.status, 400);
    assert!(!answer.detail().is_empty());
}

#[tokio::test]
async fn secrets_never_appear() {
    let fake = Arc::new(Fake::default());
    let admin = Arc::new(admin(&fake, Some("canary-read"), Some("canary-write")));
    let service = AdminService::new(admin);

    for path in READS {
        let answer =
            ask(&service, &format!("GET {path}"), &[("authorization", "Bearer canary-read")], "").await;
        assert!(
            !answer.text.contains("canary") && !format!("{:?}", answer.headers).contains("canary"),
            "{path}"
        );
    }
}
