//! The backend's health answer keeps its text, is never made to look better, and is fetched once for all.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use super::{SharedFetch, Sidecar};
use crate::admin::{BackendAnswer, BackendDown, BackendHealth, Boxed, answer::Reply};
use crate::telemetry::Status;

/// A backend whose answer is fixed and takes a while.
struct Backend {
    answer: Result<BackendAnswer, BackendDown>,
    takes: Duration,
    fetches: AtomicUsize,
}

impl Backend {
    fn new(status: u16, body: &'static str) -> Self {
        let answer = BackendAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: Some(HeaderValue::from_static("application/json")),
            body: Bytes::from_static(body.as_bytes()),
            took: Duration::from_micros(9300),
        };
        Self { answer: Ok(answer), takes: Duration::ZERO, fetches: AtomicUsize::new(0) }
    }

    fn down() -> Self {
        let answer = Err(BackendDown(Cow::Borrowed("does not accept connections")));
        Self { answer, takes: Duration::ZERO, fetches: AtomicUsize::new(0) }
    }
}

impl BackendHealth for Backend {
    fn fetch(&self) -> Boxed<'_, Result<BackendAnswer, BackendDown>> {
        Box::pin(async {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(self.takes).await;
            self.answer.clone()
        })
    }
}

fn sidecar(level: Status) -> Sidecar {
    Sidecar { status: level, version: "0.1.0", uptime_s: 5, health_score: 80 }
}

async fn text(reply: Reply) -> (StatusCode, String) {
    let response = reply.into_response(&Method::GET);
    let status = response.status();
    let body = response.into_body().collect(1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn ask(shared: &SharedFetch, backend: &Backend, level: Status) -> (StatusCode, String) {
    text(shared.answer(Some(backend), None, || sidecar(level)).await).await
}

#[tokio::test]
async fn the_backends_members_keep_order_and_text_and_ours_follow() {
    let backend = Backend::new(
        200,
        r#"{"status": "healthy","z":1.50,"a":12345678901234567890123,"f":{"b":1,"a":[1, 2]}}"#,
    );

    let (status, body) = ask(&SharedFetch::new(), &backend, Status::Healthy).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body,
        concat!(
            r#"{"status":"healthy","z":1.50,"a":12345678901234567890123,"f":{"b":1,"a":[1, 2]},"#,
            r#""sidecar":{"status":"healthy","version":"0.1.0","uptime_s":5,"health_score":80},"#,
            r#""checks":{"backend":{"ok":true,"ms":9.3},"redis":null,"postgres":null,"claude":null}}"#
        )
    );
}

#[tokio::test]
async fn status_is_lowered_and_never_raised() {
    let cases = [
        (r#"{"status":"healthy"}"#, Status::Degraded, "degraded"),
        (r#"{"status":"healthy"}"#, Status::Unhealthy, "unhealthy"),
        (r#"{"status":"OK"}"#, Status::Unhealthy, "unhealthy"),
        (r#"{"status":"OK"}"#, Status::Healthy, "OK"),
        (r#"{"status":"degraded"}"#, Status::Healthy, "degraded"),
        (r#"{"status":"degraded"}"#, Status::Unhealthy, "unhealthy"),
        (r#"{"status":"unhealthy"}"#, Status::Degraded, "unhealthy"),
        (r#"{"status":"on fire"}"#, Status::Degraded, "on fire"),
    ];

    for (body, level, expected) in cases {
        let (_, answer) = ask(&SharedFetch::new(), &Backend::new(200, body), level).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], expected, "{body}");
    }
    let (_, number) =
        ask(&SharedFetch::new(), &Backend::new(200, r#"{"status":200}"#), Status::Unhealthy).await;
    assert!(number.starts_with(r#"{"status":200,"#));
    let (_, none) = ask(&SharedFetch::new(), &Backend::new(200, "{}"), Status::Unhealthy).await;
    assert!(none.starts_with(r#"{"sidecar":"#));
}

#[tokio::test]
async fn names_that_the_backend_owns_stay_its_own() {
    let backend = Backend::new(200, r#"{"status":"healthy","checks":{"db":"ok"}}"#);

    let (_, body) = ask(&SharedFetch::new(), &backend, Status::Healthy).await;

    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["checks"]["db"], "ok");
    assert_eq!(body["touchline"]["checks"]["backend"]["ok"], true);
    assert_eq!(body["sidecar"]["status"], "healthy");
}

#[tokio::test]
async fn the_backends_status_code_stays() {
    let (status, body) =
        ask(&SharedFetch::new(), &Backend::new(503, r#"{"status":"unhealthy"}"#), Status::Healthy).await;

    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["checks"]["backend"]["ok"], false);
    assert_eq!(body["checks"]["backend"]["error"], "answered 503");
}

#[tokio::test]
async fn what_is_no_object_passes_through() {
    for body in ["OK", "[1,2]", "\"healthy\"", "", r#"{"status":"healthy""#, "{} {}", "null"] {
        let reply = SharedFetch::new()
            .answer(Some(&Backend::new(200, body)), None, || sidecar(Status::Degraded))
            .await;
        let response = reply.into_response(&Method::GET);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.into_body().collect(100).await.unwrap(), body.as_bytes(), "{body}");
    }
}

#[tokio::test]
async fn a_dead_backend_leaves_the_last_values_or_null() {
    let shared = SharedFetch::new();

    let (never, nothing) = ask(&shared, &Backend::down(), Status::Unhealthy).await;
    ask(
        &shared,
        &Backend::new(200, r#"{"status":"healthy","message":"running","extra":1}"#),
        Status::Healthy,
    )
    .await;
    let (after, last) = ask(&shared, &Backend::down(), Status::Unhealthy).await;

    assert_eq!((never, after), (StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE));
    assert!(nothing.starts_with(
        r#"{"status":"unhealthy","timestamp":null,"message":null,"environment":null,"features":null,"sidecar":"#
    ));
    assert!(last.starts_with(r#"{"status":"unhealthy","message":"running","extra":1,"sidecar":"#));
    assert!(last.contains(r#""backend":{"ok":false,"error":"does not accept connections"}"#));
}

#[tokio::test]
async fn an_error_page_is_not_remembered() {
    let shared = SharedFetch::new();
    ask(&shared, &Backend::new(500, r#"{"detail":"boom"}"#), Status::Healthy).await;

    let (_, body) = ask(&shared, &Backend::down(), Status::Healthy).await;

    assert!(body.starts_with(r#"{"status":"unhealthy","timestamp":null,"#));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_never_ends_is_given_up() {
    let backend = Backend { takes: Duration::from_secs(3600), ..Backend::new(200, "{}") };

    let (status, body) = ask(&SharedFetch::new(), &backend, Status::Healthy).await;

    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("did not answer in time"));
}

#[tokio::test]
async fn without_a_backend_ours_stands_alone() {
    let (status, body) = text(SharedFetch::new().answer(None, None, || sidecar(Status::Healthy)).await).await;

    assert_eq!(status, StatusCode::OK);
    assert!(body.starts_with(r#"{"status":"healthy","timestamp":null,"#));
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_share_one_fetch_and_later_ones_do_not() {
    let shared = SharedFetch::new();
    let backend =
        Backend { takes: Duration::from_millis(50), ..Backend::new(200, r#"{"status":"healthy"}"#) };

    tokio::join!(
        ask(&shared, &backend, Status::Healthy),
        ask(&shared, &backend, Status::Healthy),
        ask(&shared, &backend, Status::Healthy),
    );
    let together = backend.fetches.load(Ordering::SeqCst);
    tokio::time::advance(Duration::from_millis(1)).await;
    ask(&shared, &backend, Status::Healthy).await;

    assert_eq!(together, 1);
    assert_eq!(backend.fetches.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_away_frees_its_followers() {
    let shared = SharedFetch::new();
    let backend =
        Backend { takes: Duration::from_millis(50), ..Backend::new(200, r#"{"status":"healthy"}"#) };

    let leader = tokio::time::timeout(Duration::from_millis(10), ask(&shared, &backend, Status::Healthy));
    let (leader, follower) = tokio::join!(leader, ask(&shared, &backend, Status::Healthy));

    assert!(leader.is_err());
    assert_eq!(follower.0, StatusCode::OK);
    assert_eq!(backend.fetches.load(Ordering::SeqCst), 2);
}
