//! From a record to a message under paused time, alone and as replicas.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Claim, Holding, Post, Releasing, Watch};
use crate::{
    config::{self, load_str},
    telemetry::{
        Facts, MarkKind, Method, Record, RedisStats, Telemetry,
        alerts::{AlertsView, Posting, Status},
    },
};

const CONFIG: &str = "\
version: 1
telemetry:
  alerts:
    notify:
      - webhook: { url: \"${HOOK}\", severity: info }
      - alertmanager: { url: \"http://am:9093\" }
";

/// What receivers got: the time, the receiver's place, and the message.
type Said = Arc<Mutex<Vec<(u64, usize, Value)>>>;

struct Receiver {
    index: usize,
    start: Instant,
    said: Said,
}

impl Post for Receiver {
    fn post<'a>(&'a self, body: Bytes, _: &'a str) -> Posting<'a> {
        let said = (self.start.elapsed().as_secs(), self.index, serde_json::from_slice(&body).unwrap());
        self.said.lock().push(said);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Names that several replicas share.
#[derive(Default)]
struct Names {
    held: Mutex<HashMap<String, (usize, Instant)>>,
}

struct Replica(usize, Arc<Names>);

impl Claim for Replica {
    fn hold<'a>(&'a self, name: &'a str, life: Duration) -> Holding<'a> {
        let mut held = self.1.held.lock();
        let now = Instant::now();
        let is_free = held.get(name).is_none_or(|(by, until)| *by == self.0 || *until <= now);
        if is_free {
            held.insert(name.to_owned(), (self.0, now + life));
        }
        Box::pin(std::future::ready(Some(is_free)))
    }

    fn release<'a>(&'a self, name: &'a str) -> Releasing<'a> {
        let mut held = self.1.held.lock();
        if held.get(name).is_some_and(|(by, _)| *by == self.0) {
            held.remove(name);
        }
        Box::pin(std::future::ready(()))
    }
}

/// A process with a Redis and a watch.
struct Pod {
    telemetry: Arc<Telemetry>,
    redis: Arc<RedisStats>,
    said: Said,
}

fn pod(start: Instant, claim: Option<Arc<dyn Claim>>) -> (Pod, impl Future<Output = ()>) {
    let hook = |name: &str| (name == "HOOK").then(|| "https://example.com/x".to_owned());
    let loaded = load_str("proxy.yaml", CONFIG, &hook).unwrap_or_else(|problems| panic!("{problems}"));
    let config = loaded.config.telemetry;
    let facts = Facts { service: "coach-api".to_owned(), pod: "pod-1".to_owned(), ..Facts::default() };
    let telemetry = Telemetry::new(&config::Telemetry::default(), facts, None);
    let redis = Arc::new(RedisStats::new("redis:6379"));
    redis.set_up(true, None);
    telemetry.watch_redis(Arc::clone(&redis));
    let said = Said::default();
    let posts = (0..2).map(|index| {
        let said = Arc::clone(&said);
        Arc::new(Receiver { index, start, said }) as Arc<dyn Post>
    });
    let mut watch = Watch::new(&telemetry, &config, posts.collect(), claim).unwrap();
    let channels = watch.channels();
    let running = async move {
        let first = channels[0].run(std::future::pending());
        let second = channels[1].run(std::future::pending());
        tokio::join!(watch.run(std::future::pending()), first, second);
    };
    (Pod { telemetry, redis, said }, running)
}

impl Pod {
    fn view(&self) -> AlertsView {
        self.telemetry.alerts_view(Instant::now())
    }

    /// The messages of a receiver: when, and the states by rule.
    fn heard(&self, index: usize) -> Vec<(u64, String)> {
        let word = |alert: &Value| {
            let is_over = alert["status"] == "resolved";
            format!("{}{}", if is_over { "-" } else { "+" }, alert["labels"]["alertname"].as_str().unwrap())
        };
        let said = self.said.lock();
        let mine = said.iter().filter(|(_, at, _)| *at == index);
        mine.map(|(time, _, message)| {
            let alerts = message["alerts"].as_array().or_else(|| message.as_array()).unwrap();
            (*time, alerts.iter().map(word).collect::<Vec<_>>().join(" "))
        })
        .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_route_reaches_a_webhook_within_25_seconds_after_its_time() {
    let (pod, running) = pod(Instant::now(), None);
    let telemetry = Arc::clone(&pod.telemetry);
    let traffic = async move {
        let route = telemetry.route("/slow", Duration::from_secs(2));
        for second in 0..420_u64 {
            let (us, now) = (if second < 200 { 3_000_000 } else { 1000 }, Instant::now());
            let record = Record {
                status: 200,
                ..Record::new(Arc::clone(&route), Method::Get, now - Duration::from_micros(us))
            };
            telemetry.finish(record, us, us);
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! { () = running => {}, () = traffic => {} }

    let heard = pod.heard(0);
    let burst = heard.iter().find(|(_, words)| words == "+slow_burst").unwrap();
    assert!(burst.0 <= 5 + 25, "{heard:?}");
    // Twenty samples after 20 s, then two minutes.
    let slow = heard.iter().find(|(_, words)| words == "+route_p95").unwrap();
    assert!((140..=20 + 120 + 25).contains(&slow.0), "{heard:?}");
    let alertmanager = pod.heard(1);
    assert!(alertmanager[0].0 <= slow.0 && alertmanager[0].1 == "+route_p95", "{alertmanager:?}");
    let view = pod.view();
    assert!(view.enabled && view.burn.burn_1h == Some(0.0), "{view:?}");
    assert_eq!(
        view.channels.iter().map(|channel| &*channel.name).collect::<Vec<_>>(),
        ["webhook", "alertmanager"]
    );
    let item = view.items.iter().find(|item| &*item.rule == "slow_burst").unwrap();
    assert!(item.state == Status::Resolved && item.notified_at.is_some() && item.resolved_at.is_some());
    let marks = pod.telemetry.marks();
    assert!(
        [MarkKind::Alert, MarkKind::Resolved].iter().all(|kind| marks.iter().any(|mark| mark.kind == *kind))
    );
}

#[tokio::test(start_paused = true)]
async fn redis_down_fires_after_half_a_minute_and_resolves() {
    let (pod, running) = pod(Instant::now(), None);
    let redis = Arc::clone(&pod.redis);
    let story = async move {
        sleep(Duration::from_secs(15)).await;
        redis.set_up(false, Some("connection refused".to_owned()));
        sleep(Duration::from_secs(100)).await;
        redis.set_up(true, None);
        sleep(Duration::from_secs(100)).await;
    };
    tokio::select! { () = running => {}, () = story => {} }

    // Bad from 20 s on, firing at 50 s, told 10 s later; good from 120 s on, over at 130 s.
    assert_eq!(pod.heard(0), [(60, "+redis_down".to_owned()), (140, "-redis_down".to_owned())]);
    let heard = pod.heard(1);
    assert_eq!((heard[0].0, heard[1].0, heard.len()), (50, 110, 3), "{heard:?}");
    let said = pod.said.lock();
    let (_, _, message) = said.iter().find(|(_, index, _)| *index == 0).unwrap();
    assert_eq!(message["alerts"][0]["labels"]["pod"], "pod-1");
    assert_eq!(message["commonAnnotations"]["summary"], "Redis does not answer: connection refused");
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_one_speaks_and_the_last_says_that_it_is_over() {
    let (names, start) = (Arc::new(Names::default()), Instant::now());
    let replica = |index| Some(Arc::new(Replica(index, Arc::clone(&names))) as Arc<dyn Claim>);
    let (first, running_first) = pod(start, replica(1));
    let (second, running_second) = pod(start, replica(2));
    let (redis_first, redis_second) = (Arc::clone(&first.redis), Arc::clone(&second.redis));
    let story = async move {
        redis_first.set_up(false, None);
        sleep(Duration::from_secs(3)).await;
        redis_second.set_up(false, None);
        sleep(Duration::from_secs(97)).await;
        redis_first.set_up(true, None);
        sleep(Duration::from_secs(100)).await;
        redis_second.set_up(true, None);
        sleep(Duration::from_secs(100)).await;
    };
    tokio::select! { () = running_first => {}, () = running_second => {}, () = story => {} }

    // Whichever looked first speaks.
    let mut all = [first.heard(0), second.heard(0)].concat();
    all.sort();
    let words: Vec<_> = all.iter().map(|(_, words)| words.as_str()).collect();
    assert_eq!(words, ["+redis_down", "-redis_down"], "{all:?}");
    assert!(all[1].0 >= 210, "{all:?}");
    let said = [&first, &second].map(|pod| pod.said.lock().clone()).concat();
    assert!(said[0].2["alerts"][0]["labels"].get("pod").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_replica_goes_on_for_one_that_died() {
    let (names, start) = (Arc::new(Names::default()), Instant::now());
    let replica = |index| Some(Arc::new(Replica(index, Arc::clone(&names))) as Arc<dyn Claim>);
    let (first, running_first) = pod(start, replica(1));
    let (second, running_second) = pod(start, replica(2));
    for pod in [&first, &second] {
        pod.redis.set_up(false, None);
    }
    let redis = Arc::clone(&second.redis);
    let death = sleep(Duration::from_secs(100));
    let running_first = async {
        tokio::select! { () = running_first => {}, () = death => {} }
    };
    let story = async move {
        sleep(Duration::from_secs(300)).await;
        redis.set_up(true, None);
        sleep(Duration::from_secs(100)).await;
    };
    let running = async { tokio::join!(running_first, running_second) };
    tokio::select! { _ = running => {}, () = story => {} }

    let mut all = [first.heard(0), second.heard(0)].concat();
    all.sort();
    assert_eq!(
        all.iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>(),
        ["+redis_down", "-redis_down"]
    );
    assert_eq!(second.heard(0).last(), all.last());
}

#[tokio::test(start_paused = true)]
async fn alerts_that_are_off_are_watched_by_nobody() {
    let alerts = config::Alerts { enabled: false, ..config::Alerts::default() };
    let config = config::Telemetry { alerts, ..config::Telemetry::default() };
    let telemetry = Telemetry::new(&config, Facts::default(), None);

    assert!(Watch::new(&telemetry, &config, Vec::new(), None).is_none());
    assert_eq!(telemetry.alerts_view(Instant::now()), AlertsView::default());
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_another_configuration_goes_on_where_the_one_before_stands() {
    let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
    let redis = Arc::new(RedisStats::new("redis:6379"));
    telemetry.watch_redis(Arc::clone(&redis));
    redis.set_up(true, None);
    redis.set_up(false, Some("connection refused".to_owned()));
    let (start, said) = (Instant::now(), Said::default());
    let watch = |rules: &str| {
        let text = format!("{CONFIG}    rules: {rules}\n");
        let config = load_str("proxy.yaml", &text, &|_| Some("https://hook.example/x".to_owned()));
        let config = config.unwrap().config.telemetry;
        let posts =
            (0..2).map(|index| Arc::new(Receiver { index, start, said: Arc::clone(&said) }) as Arc<dyn Post>);
        Watch::new(&telemetry, &config, posts.collect(), None).unwrap()
    };
    let heard = |index: usize| said.lock().iter().filter(|(_, at, _)| *at == index).count();
    let fires = || {
        let view = telemetry.alerts_view(Instant::now());
        view.items
            .iter()
            .filter(|item| item.state == Status::Firing)
            .map(|item| item.rule.to_string())
            .collect::<Vec<_>>()
    };
    let mut first = watch("{}");
    let mut tasks = tokio::task::JoinSet::new();
    for channel in first.channels() {
        tasks.spawn(async move { channel.run(std::future::pending()).await });
    }
    first.run(sleep(Duration::from_secs(600))).await;
    assert_eq!(fires(), ["redis_down"]);
    let told = heard(0);
    assert!(told > 0);

    // Another limit of another rule: what fires goes on, and nobody hears of it again.
    let mut second = watch("{ errors_5xx: { critical: 50% } }");
    assert!(second.succeed(first).is_empty(), "the receivers are the ones that were there");
    second.run(sleep(Duration::from_secs(120))).await;
    assert_eq!((fires(), heard(0)), (vec!["redis_down".to_owned()], told));

    // Without its rule it is over, and that is told.
    let mut third = watch("{ redis_down: off }");
    assert!(third.succeed(second).is_empty());
    third.run(sleep(Duration::from_secs(120))).await;
    assert_eq!((fires(), heard(0)), (Vec::new(), told + 1));
    let view = telemetry.alerts_view(Instant::now());
    let over = view.items.iter().find(|item| &*item.rule == "redis_down").unwrap();
    assert_eq!(over.reason, Some("closed as its rule is configured no longer"));

    third.close().await;
    assert!(telemetry.alerts_view(Instant::now()).items.is_empty());
}
