//! Sums over pods, who is asked how often, and what of the others does not count.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Gathered, PeerAnswer};
use crate::admin::{
    Admin, AdminService, Boxed, Peers,
    fakes::{Fake, admin_over, ask, telemetry},
    live::part::Part,
};
use crate::net::{Body, Context, Service};
use crate::telemetry::{CacheStatus, Fwd, HitSource, Kind, Method, Record, Telemetry, Window};

/// Replicas that answer what they are told to.
#[derive(Default)]
struct Others {
    answers: Vec<PeerAnswer>,
    asked: AtomicUsize,
}

impl Peers for Others {
    fn ask<'a>(&'a self, target: &'a str) -> Boxed<'a, Vec<PeerAnswer>> {
        assert!(target.starts_with("/api/v1/merge?window="));
        self.asked.fetch_add(1, SeqCst);
        let answers = self.answers.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            answers
        })
    }
}

fn answer(pod: &str, body: impl Into<Bytes>) -> PeerAnswer {
    PeerAnswer { pod: pod.to_owned(), body: Ok(body.into()) }
}

fn part_of(admin: &Admin) -> Vec<u8> {
    serde_json::to_vec(&Part::own(admin, Window::OneHour)).unwrap()
}

fn pod() -> Admin {
    admin_over(&Arc::default(), telemetry(), None)
}

/// One request of generated traffic.
type Sent = (u8, u32, u8);

fn send(telemetry: &Telemetry, (what, us, how): Sent) {
    let template = ["/a/{id}", "/b", "/c"][usize::from(what % 3)];
    let method = if what & 8 == 0 { Method::Get } else { Method::Post };
    let route = telemetry.route(template, Duration::from_secs(2));
    let mut record = Record::new(route, method, Instant::now());
    record.status = if how & 1 == 0 { 200 } else { 503 };
    record.kind = if what & 16 == 0 { Kind::Plain } else { Kind::Stream };
    (record.cache, record.source, record.fwd) = match how & 6 {
        0 => (CacheStatus::Hit, Some(HitSource::Redis), None),
        2 => (CacheStatus::Miss, None, Some(Fwd::UriMiss)),
        4 => (CacheStatus::Revalidated, None, Some(Fwd::Stale)),
        _ => (CacheStatus::Bypass, None, None),
    };
    telemetry.finish(record, u64::from(us), u64::from(us));
}

fn merged(own: &Admin, others: &[&Admin]) -> Vec<(&'static str, Value)> {
    let answers = others.iter().map(|other| answer("10.0.0.7:9090", part_of(other))).collect();
    let gathered = Gathered::new(Part::own(own, Window::OneHour), answers);
    let sections = gathered.sections(SystemTime::now());
    sections.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).unwrap())).collect()
}

fn section(sections: &[(&'static str, Value)], wanted: &str) -> Value {
    sections.iter().find(|(name, _)| *name == wanted).unwrap().1.clone()
}

/// Rates depend on when a pod began; all else of a row does not.
fn rows(sections: &[(&'static str, Value)]) -> Value {
    let mut rows = section(sections, "routes");
    for row in rows.as_array_mut().unwrap() {
        row["per_s"] = Value::Null;
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn traffic_that_is_split_over_pods_merges_to_the_traffic_of_one(
        traffic in proptest::collection::vec(((any::<u8>(), 0_u32..9_000_000, any::<u8>()), 0_usize..3), 0..200),
    ) {
        let all: [Arc<Telemetry>; 4] = std::array::from_fn(|_| telemetry());
        for (sent, place) in &traffic {
            send(&all[*place], *sent);
            send(&all[3], *sent);
        }
        let [a, b, c, whole] = all.map(|telemetry| admin_over(&Arc::default(), telemetry, None));

        let sum = merged(&a, &[&b, &c]);
        let one = merged(&whole, &[]);

        prop_assert_eq!(rows(&sum), rows(&one));
        for name in ["errors_5xx_percent", "p95_ms", "without_backend_percent"] {
            prop_assert_eq!(&section(&sum, "tiles")[name], &section(&one, "tiles")[name], "{}", name);
        }
        for name in ["hits", "misses", "bypass", "revalidated", "hit_percent", "by_source"] {
            prop_assert_eq!(&section(&sum, "cache")[name], &section(&one, "cache")[name], "{}", name);
        }
        prop_assert_eq!(&section(&sum, "slow")["total"], &section(&one, "slow")["total"]);
        let counted = |sections: &[(&'static str, Value)]| -> u64 {
            let slots = section(sections, "chart")["slots"].clone();
            let of = |slot: &Value| ["hit", "miss", "bypass", "error"].map(|name| slot[name].as_u64().unwrap());
            slots.as_array().unwrap().iter().flat_map(of).sum()
        };
        prop_assert_eq!((counted(&sum), counted(&one)), (traffic.len() as u64, traffic.len() as u64));
    }
}

#[test]
fn what_one_pod_says_of_itself_is_what_merging_it_alone_says() {
    let admin = crate::admin::fakes::admin_with_traffic(&Arc::default());

    let alone = merged(&admin, &[]);
    let own = super::super::sections::Moment::new(&admin, Window::OneHour).sections();
    let own: Vec<_> =
        own.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).unwrap())).collect();

    assert_eq!(rows(&alone), rows(&own));
    for name in ["health", "cache", "redis", "claude"] {
        assert_eq!(section(&alone, name), section(&own, name), "{name}");
    }
    let names =
        |sections: &[(&'static str, Value)]| sections.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(names(&alone), names(&own));
}

#[test]
fn who_is_not_a_replica_of_this_format_is_named_and_not_added() {
    let (own, other) = (pod(), pod());
    let text = part_of(&other);
    let mut newer: Value = serde_json::from_slice(&text).unwrap();
    newer["format"] = 2.into();
    newer["version"] = "9.9.9".into();
    let mut broken: Value = serde_json::from_slice(&text).unwrap();
    broken["routes"] = "none".into();
    let answers = vec![
        answer("d", newer.to_string()),
        answer("a", part_of(&own)),
        answer("b", text.clone()),
        answer("b again", text),
        answer("e", "<html>"),
        answer("f", broken.to_string()),
        PeerAnswer { pod: "c".to_owned(), body: Err("no answer within 1 s".into()) },
    ];

    let gathered = Gathered::new(Part::own(&own, Window::OneMinute), answers);

    let expected = json!({"asked": 6, "answered": 2, "silent": [
        {"pod": "c", "error": "no answer within 1 s"},
        {"pod": "d", "error": "its version 9.9.9 gives format 2, and this one adds format 1"},
        {"pod": "e", "error": "its answer is not that of a replica"},
        {"pod": "f", "error": "its answer is not that of a replica"}]});
    assert_eq!(serde_json::to_value(&gathered.peers).unwrap(), expected);
}

#[tokio::test]
async fn one_asks_for_all_readers_and_nobody_for_none() {
    let fake = Arc::<Fake>::default();
    let others = Arc::new(Others { answers: vec![answer("b", part_of(&pod()))], ..Others::default() });
    let service = AdminService::new(Arc::new(admin_over(&fake, telemetry(), Some(others.clone()))));
    let get = async |target: &str| ask(&service, &format!("GET {target}"), &[], "").await;

    let own = get("/api/v1/snapshot").await.json();
    get("/api/v1/merge?window=1h").await;
    assert_eq!((others.asked.load(SeqCst), &own["meta"]["can_merge"]), (0, &Value::Bool(true)));

    let merged = "/api/v1/snapshot?scope=merged&window=1m";
    let (a, b, c) = tokio::join!(get(merged), get(merged), get(merged));
    let d = get(merged).await;

    assert_eq!(others.asked.load(SeqCst), 1);
    assert!([&b, &c, &d].iter().all(|seen| seen.text == a.text));
    let meta = &a.json()["meta"];
    assert_eq!((&meta["scope"], &meta["window"]), (&"merged".into(), &"1m".into()));
    assert_eq!(meta["peers"], json!({"asked": 2, "answered": 2, "silent": []}));
}

#[tokio::test]
async fn a_reader_of_events_gets_a_whole_answer_and_then_one_each_second() {
    let others = Arc::new(Others { answers: vec![answer("b", part_of(&pod()))], ..Others::default() });
    let service = AdminService::new(Arc::new(admin_over(&Arc::default(), telemetry(), Some(others.clone()))));
    let request = Request::get("/api/v1/events?scope=merged").header(header::HOST, "localhost");
    let response = service.call(request.body(Body::empty()).unwrap(), Context::internal()).await.response;
    let mut body = response.into_body();

    let first = body.chunk().await.unwrap().unwrap();
    let second = body.chunk().await.unwrap().unwrap();

    let first = String::from_utf8(first.to_vec()).unwrap();
    assert!(
        first.starts_with("event: snapshot\nid: 1\n") && first.contains(r#""scope":"merged""#),
        "{first}"
    );
    assert!(second.starts_with(b"event: change\nid: 2\n"));
    assert_eq!(others.asked.load(SeqCst), 2);
    drop(body);
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(others.asked.load(SeqCst), 2, "nobody looks");
}

#[tokio::test]
async fn without_peers_there_is_nothing_to_merge() {
    let service = AdminService::new(Arc::new(pod()));
    let get = async |target: &str| ask(&service, &format!("GET {target}"), &[], "").await;

    for path in ["snapshot", "events"] {
        let refused = get(&format!("/api/v1/{path}?scope=merged")).await;
        assert_eq!(refused.status, 409);
        assert!(refused.detail().contains("admin.peers"), "{}", refused.text);
    }
    for path in ["tail?scope=merged", "route?key=x&scope=merged", "snapshot?scope=all", "merge?scope=pod"] {
        assert_eq!(get(&format!("/api/v1/{path}")).await.status, 400, "{path}");
    }
    assert_eq!(get("/api/v1/snapshot").await.json()["meta"]["can_merge"], false);
    assert_eq!(get("/api/v1/merge").await.json()["format"], 1);
}
