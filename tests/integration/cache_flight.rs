//! One fetch at a time for one answer, and nobody waits for a leader that is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, answer, text},
    client::{Answer, Client, get},
    spawn, until, until_async,
};

/// A backend that answers when the test lets it.
async fn gated(fields: &'static [&'static str]) -> (Backend, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let backend = Backend::start(move |_| {
        vec![Step::Gate(Arc::clone(&waits)), Step::Send(text("200 OK", fields, "shared").into_bytes())]
    })
    .await;
    (backend, gate)
}

fn ask_all(proxy: &Proxy, count: usize) -> Vec<tokio::task::JoinHandle<Answer>> {
    let address = proxy.address;
    (0..count).map(|_| spawn(async move { get(address, "/cached/a").await })).collect()
}

async fn followers(proxy: &Proxy, count: u32) {
    until_async("all wait for one fetch", || async {
        proxy.metric("touchline_cache_flight_waiters", "").await >= f64::from(count)
    })
    .await;
}

#[tokio::test]
async fn two_hundred_misses_at_once_are_one_fetch() {
    let (backend, gate) = gated(&[]).await;
    let proxy = Setup::before(&backend).top("runtime", "{ workers: 2 }").cached("ttl: 1m").start();

    let all = ask_all(&proxy, 200);
    followers(&proxy, 199).await;
    gate.add_permits(1);

    let (mut misses, mut collapsed) = (0, 0);
    for one in all {
        let answer = one.await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "shared"));
        match (answer.cache(), answer.detail()) {
            ("miss", _) => misses += 1,
            ("hit", "touchline; fwd=uri-miss; collapsed") => collapsed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((misses, collapsed, backend.count()), (1, 199, 1));
    assert_eq!(proxy.metric("touchline_cache_hits_total", "collapsed").await, 199.0);
}

#[tokio::test]
async fn a_leader_that_leaves_frees_its_followers() {
    let (backend, gate) = gated(&[]).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();
    let mut leader = Client::connect(proxy.address).await;
    leader.ask("/cached/a").await;
    until("the leader is at the backend", || backend.count() == 1).await;
    let all = ask_all(&proxy, 20);
    followers(&proxy, 20).await;

    drop(leader);
    until("another leads", || backend.count() == 2).await;
    gate.add_permits(1);

    for one in all {
        assert_eq!(one.await.unwrap().text(), "shared");
    }
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn an_answer_that_cannot_be_shared_lets_all_go_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let count = AtomicUsize::new(0);
    let backend = Backend::start(move |_| {
        let first = if count.fetch_add(1, SeqCst) == 0 {
            Step::Gate(Arc::clone(&waits))
        } else {
            Step::Wait(Duration::from_millis(50))
        };
        vec![first, Step::Send(text("200 OK", &["Cache-Control: no-store"], "mine").into_bytes())]
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m").start();

    let all = ask_all(&proxy, 40);
    until_async("the others wait", || async {
        let waiting = proxy.metric("touchline_cache_flight_waiters", "").await;
        backend.count() == 1 && waiting >= 39.0 || backend.count() > 1
    })
    .await;
    gate.add_permits(1);
    let start = Instant::now();
    for one in all {
        assert_eq!(one.await.unwrap().text(), "mine");
    }

    // One after the other they would take two seconds.
    assert!(start.elapsed() < Duration::from_millis(1500), "a convoy: {:?}", start.elapsed());
    assert_eq!(backend.count(), 40);
    let start = Instant::now();
    for one in ask_all(&proxy, 20) {
        assert_eq!(one.await.unwrap().cache(), "bypass", "what cannot be shared is remembered");
    }
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_fetch_that_fails_does_not_fail_all_who_wait() {
    let count = AtomicUsize::new(0);
    let backend = Backend::start(move |_| match count.fetch_add(1, SeqCst) {
        0 => vec![Step::Wait(Duration::from_millis(200)), Step::Close],
        _ => answer("200 OK", &[], "shared"),
    })
    .await;
    let proxy = Setup::before(&backend).upstream("breaker: { enabled: false }").cached("ttl: 1m").start();

    let all = ask_all(&proxy, 30);
    let mut statuses = Vec::new();
    for one in all {
        statuses.push(one.await.unwrap().status);
    }

    assert!(statuses.iter().filter(|status| **status != 200).count() <= 1, "{statuses:?}");
    assert!(backend.count() <= 3, "{} fetches", backend.count());
}

#[tokio::test]
async fn a_follower_goes_itself_when_the_fetch_takes_too_long() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let count = AtomicUsize::new(0);
    let backend = Backend::start(move |_| {
        let mut script = vec![Step::Send(text("200 OK", &[], "shared").into_bytes())];
        if count.fetch_add(1, SeqCst) == 0 {
            script.insert(0, Step::Gate(Arc::clone(&waits)));
        }
        script
    })
    .await;
    let proxy = Setup::before(&backend).top("cache", "{ follower_wait: 150ms }").cached("ttl: 1m").start();

    let mut leader = Client::connect(proxy.address).await;
    leader.ask("/cached/a").await;
    until("the leader is at the backend", || backend.count() == 1).await;
    let start = Instant::now();
    let follower = get(proxy.address, "/cached/a").await;

    assert_eq!(follower.text(), "shared");
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    gate.add_permits(1);
    assert_eq!(leader.answer().await.text(), "shared");
}

#[tokio::test]
async fn more_followers_than_allowed_go_themselves() {
    let (backend, gate) = gated(&[]).await;
    let proxy = Setup::before(&backend).top("cache", "{ followers: 5 }").cached("ttl: 1m").start();

    let all = ask_all(&proxy, 12);
    until("the surplus is at the backend", || backend.count() == 7).await;
    gate.add_permits(7);

    for one in all {
        assert_eq!(one.await.unwrap().text(), "shared");
    }
}
