//! Writes are POSTs from outside of any page, with the token, within limits; and each does what it says.

use std::sync::{Arc, atomic::Ordering};

use http::{Method, Request};

use super::ControlService;
use crate::admin::{
    Admin, Scope,
    fakes::{Fake, admin, ask, ask_endless, seen},
};
use crate::net::{Context, Refusal, Service};

fn control(fake: &Arc<Fake>, token: Option<&str>) -> ControlService {
    ControlService::new(Arc::new(admin(fake, None, token)))
}

fn open() -> (Arc<Fake>, ControlService) {
    let fake = Arc::new(Fake::default());
    let service = control(&fake, None);
    (fake, service)
}

#[tokio::test]
async fn clear_ends_everything_and_says_how_much() {
    let (fake, service) = open();

    let answer = ask(&service, "POST /performance/cache/clear", &[], "").await;

    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text,
        r#"{"success":true,"cleared_keys":412,"message":"Performance caches cleared successfully","memory":412,"redis":null,"pending":false}"#
    );
    assert_eq!(*fake.purges.lock(), [(Scope::All, false)]);
}

#[tokio::test]
async fn a_purge_names_its_scope_and_an_empty_one_purges_nothing() {
    let (fake, service) = open();

    let tag = ask(&service, "POST /cache/purge", &[], r#"{"tag":"reputation:*","soft":true}"#).await;
    let empty = ask(&service, "POST /cache/purge", &[], "").await;
    let unknown = ask(&service, "POST /cache/purge", &[], r#"{"everything":true}"#).await;

    assert_eq!(
        tag.text,
        r#"{"success":true,"scope":"tag","soft":true,"memory":null,"redis":null,"pending":false}"#
    );
    let no_url = ask(&service, "POST /cache/purge", &[], r#"{"url":"http://user@coach.example/"}"#).await;
    assert_eq!((empty.status, unknown.status), (400, 400));
    assert_eq!((no_url.status, no_url.detail().as_str()), (400, "this is no url"));
    assert!(unknown.detail().contains("everything"));
    assert_eq!(*fake.purges.lock(), [(Scope::Tag("reputation:*".to_owned()), true)]);
}

#[tokio::test]
async fn a_purge_that_others_have_yet_to_hear_of_is_202() {
    let (fake, service) = open();
    fake.is_pending.store(true, Ordering::SeqCst);

    let answer = ask(&service, "POST /performance/cache/clear", &[], "").await;

    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["pending"], true);
}

#[tokio::test(start_paused = true)]
async fn ten_purges_pass_in_a_second() {
    let (fake, service) = open();
    for _ in 0..10 {
        assert_eq!(ask(&service, "POST /performance/cache/clear", &[], "").await.status, 200);
    }

    let over = ask(&service, "POST /performance/cache/clear", &[], "").await;
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let later = ask(&service, "POST /performance/cache/clear", &[], "").await;

    assert_eq!((over.status, later.status), (429, 200));
    assert_eq!(over.headers["retry-after"], "1");
    assert_eq!(fake.purges.lock().len(), 11);
}

#[tokio::test]
async fn drain_begins_the_drain_each_time_it_is_asked() {
    let (fake, service) = open();

    let first = ask(&service, "POST /drain", &[], "").await;
    let second = ask(&service, "POST /drain", &[], "").await;

    assert_eq!((first.text.as_str(), second.status), (r#"{"draining":true}"#, 200));
    assert_eq!(fake.drains.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn clients_are_handed_over_once() {
    let (fake, service) = open();

    let first = ask(&service, "POST /hand-over", &[], "").await;
    let second = ask(&service, "POST /hand-over", &[], "").await;

    assert_eq!((first.status, first.text.as_str()), (200, r#"{"handed_over":true}"#));
    assert_eq!((second.status, second.detail().as_str()), (409, "this process is leaving already"));
    assert!(fake.is_handed_over.load(Ordering::SeqCst));
}

#[tokio::test]
async fn nothing_happens_without_a_post() {
    let (fake, service) = open();

    for path in ["/drain", "/hand-over", "/cache/purge", "/performance/cache/clear"] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PURGE", "post"] {
            let answer = ask(&service, &format!("{method} {path}"), &[], "").await;
            assert_eq!(
                (answer.status, answer.headers["allow"].to_str().unwrap()),
                (405, "POST"),
                "{method} {path}"
            );
        }
    }
    for path in ["/", "/metrics", "/livez", "/drain/", "/Drain", "/performance/metrics", "//drain"] {
        let answer = ask(&service, &format!("POST {path}"), &[], "").await;
        assert_eq!((answer.status, answer.text.as_str()), (404, r#"{"detail":"Not Found"}"#), "{path}");
    }
    assert_eq!(fake.drains.load(Ordering::SeqCst), 0);
    assert!(fake.purges.lock().is_empty());
}

#[tokio::test]
async fn pages_and_foreign_hosts_are_refused() {
    let (fake, service) = open();

    let statuses = [
        (("origin", "http://evil.example"), 403),
        (("origin", "null"), 403),
        (("sec-fetch-site", "cross-site"), 403),
        (("host", "evil.example"), 421),
    ];
    for (header, status) in statuses {
        assert_eq!(ask(&service, "POST /drain", &[header], "").await.status, status, "{header:?}");
    }

    assert_eq!(fake.drains.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_token_is_asked_for_when_one_is_set() {
    let fake = Arc::new(Fake::default());
    let service = control(&fake, Some("write-me"));

    let none = ask(&service, "POST /drain", &[], "").await;
    let wrong = ask(&service, "POST /drain", &[("authorization", "Bearer read-me")], "").await;
    let right = ask(&service, "POST /drain", &[("authorization", "Bearer write-me")], "").await;

    assert_eq!((none.status, wrong.status, right.status), (401, 401, 200));
    assert_eq!(none.headers["www-authenticate"], "Bearer");
    assert_eq!(fake.drains.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused() {
    let (fake, service) = open();
    let body = format!(r#"{{"tag":"{}"}}"#, "a".repeat(64 * 1024));

    let purge = ask(&service, "POST /cache/purge", &[], &body).await;
    let clear = ask(&service, "POST /performance/cache/clear", &[], &body).await;

    assert_eq!((purge.status, clear.status), (413, 413));
    assert!(fake.purges.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let (fake, service) = open();

    let answer = ask_endless(&service, "/performance/cache/clear").await;

    assert_eq!(answer.status, 408);
    assert!(fake.purges.lock().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_request_get_the_same_error_shape() {
    let (_, service) = open();

    let answer = seen(service.refuse(Refusal::HeadersTooLarge, Context::internal()).response).await;

    assert_eq!(answer.status, 431);
    assert!(!answer.detail().is_empty());
}

#[tokio::test]
async fn a_request_from_a_unix_socket_has_no_peer_and_is_served() {
    let (_, service) = open();
    let request = Request::builder()
        .method(Method::POST)
        .uri("/drain")
        .header("host", "localhost")
        .body(crate::net::Body::empty())
        .unwrap();

    let answer = seen(service.call(request, Context::internal()).await.response).await;

    assert_eq!(answer.status, 200);
}

#[test]
fn services_can_be_shared_by_listeners() {
    fn is_shareable<T: Service + Clone>() {}
    is_shareable::<ControlService>();
    is_shareable::<crate::admin::AdminService>();
    let _: fn(Arc<Admin>) -> ControlService = ControlService::new;
}
