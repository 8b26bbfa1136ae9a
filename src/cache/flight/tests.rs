//! Tests of the flights: one fetch for many, and no leader's end that leaves anybody waiting.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Barrier,
    task::{JoinSet, yield_now},
    time::timeout,
};

use super::{Flight, Landed, Lead, Seat, Waiter};
use crate::cache::{
    entry::Entry,
    key::{Key, KeyMaker},
    samples::{answer, key},
};

/// Far above what any of these tests takes, so that a lost wake-up fails and does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

fn some_key() -> Key {
    key(&KeyMaker::default(), "/x")
}

fn entry(key: &Key) -> Arc<Entry> {
    Arc::new(Entry::new(answer(key, 1)))
}

fn lead(flight: &Flight, key: &Key) -> Lead {
    match flight.join(key) {
        Seat::Lead(lead) => lead,
        other => panic!("expected to lead: {other:?}"),
    }
}

fn follow(flight: &Flight, key: &Key) -> Waiter {
    match flight.join(key) {
        Seat::Follow(waiter) => waiter,
        other => panic!("expected to follow: {other:?}"),
    }
}

async fn landed(waiter: &mut Waiter) -> Landed {
    timeout(PATIENCE, waiter.landed()).await.expect("the flight lands")
}

fn assert_idle(flight: &Flight) {
    assert_eq!((flight.flying(), flight.waiting()), (0, 0));
}

#[tokio::test]
async fn followers_get_what_the_leader_brings() {
    let (flight, key) = (Flight::new(10), some_key());
    let lead = lead(&flight, &key);
    let mut early = follow(&flight, &key);
    let mut late = follow(&flight, &key);
    assert_eq!((flight.flying(), flight.waiting()), (1, 2));
    let brought = entry(&key);

    let waiting = tokio::join!(landed(&mut early), async { lead.publish(Arc::clone(&brought)) });

    assert!(matches!(waiting.0, Landed::Entry(got) if Arc::ptr_eq(&got, &brought)));
    assert!(matches!(landed(&mut late).await, Landed::Entry(_)));
    assert_idle(&flight);
}

#[tokio::test]
async fn what_cannot_be_shared_lets_all_go_at_once() {
    let (flight, key) = (Flight::new(10), some_key());
    let lead = lead(&flight, &key);
    let mut waiters = [follow(&flight, &key), follow(&flight, &key)];

    lead.release();

    for waiter in &mut waiters {
        assert!(matches!(landed(waiter).await, Landed::Go));
    }
    assert_idle(&flight);
}

#[tokio::test]
async fn keys_do_not_wait_for_one_another_and_the_bound_holds_per_flight() {
    let maker = KeyMaker::default();
    let (one, two) = (key(&maker, "/1"), key(&maker, "/2"));
    let flight = Flight::new(1);
    let (_lead_one, _lead_two) = (lead(&flight, &one), lead(&flight, &two));

    let waiter = follow(&flight, &one);
    assert!(matches!(flight.join(&one), Seat::Full));
    let _other = follow(&flight, &two);
    drop(waiter);

    let _again = follow(&flight, &one);
}

#[tokio::test]
async fn after_a_dead_leader_one_follower_leads_and_the_others_get_its_answer() {
    let (flight, key) = (Flight::new(10), some_key());
    let first = lead(&flight, &key);
    let mut waiters = [follow(&flight, &key), follow(&flight, &key), follow(&flight, &key)];

    drop(first);
    let Landed::Lead(second) = landed(&mut waiters[1]).await else { panic!("one follower leads") };
    assert_eq!(flight.waiting(), 2);
    assert!(matches!(flight.join(&key), Seat::Follow(_)));
    second.publish(entry(&key));

    assert!(matches!(landed(&mut waiters[0]).await, Landed::Entry(_)));
    assert!(matches!(landed(&mut waiters[2]).await, Landed::Entry(_)));
    assert_idle(&flight);
}

#[tokio::test]
async fn after_two_dead_leaders_all_go() {
    let (flight, key) = (Flight::new(10), some_key());
    let first = lead(&flight, &key);
    let mut waiters = [follow(&flight, &key), follow(&flight, &key), follow(&flight, &key)];

    drop(first);
    let Landed::Lead(second) = landed(&mut waiters[0]).await else { panic!("one follower leads") };
    drop(second);

    assert!(matches!(landed(&mut waiters[1]).await, Landed::Go));
    assert!(matches!(landed(&mut waiters[2]).await, Landed::Go));
    assert_idle(&flight);
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_a_dead_leader() {
    let (flight, key) = (Flight::new(10), some_key());
    let first = lead(&flight, &key);
    let mut waiter = follow(&flight, &key);

    drop(first);
    let second = lead(&flight, &key);
    second.publish(entry(&key));

    assert!(matches!(landed(&mut waiter).await, Landed::Entry(_)));
    assert_idle(&flight);
}

#[tokio::test]
async fn a_dead_leader_without_followers_leaves_nothing_behind() {
    let (flight, key) = (Flight::new(10), some_key());

    drop(lead(&flight, &key));
    assert_idle(&flight);

    let first = lead(&flight, &key);
    let waiter = follow(&flight, &key);
    drop(first);
    drop(waiter);
    assert_idle(&flight);
}

#[tokio::test]
async fn a_panic_of_the_leader_frees_its_followers() {
    let (flight, key) = (Flight::new(10), some_key());
    let first = lead(&flight, &key);
    let mut waiter = follow(&flight, &key);

    let fetch = AssertUnwindSafe(|| {
        let _lead = first;
        panic!("the fetch went wrong");
    });
    assert!(catch_unwind(fetch).is_err());

    assert!(matches!(landed(&mut waiter).await, Landed::Lead(_)));
}

#[tokio::test]
async fn a_wait_that_is_cut_short_can_be_taken_up_again() {
    let (flight, key) = (Flight::new(10), some_key());
    let lead = lead(&flight, &key);
    let mut waiter = follow(&flight, &key);

    assert!(timeout(Duration::from_millis(1), waiter.landed()).await.is_err());
    lead.publish(entry(&key));

    assert!(matches!(landed(&mut waiter).await, Landed::Entry(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_fetch_serves_a_thousand_tasks() {
    const TASKS: usize = 1000;
    for _ in 0..20 {
        let (flight, key) = (Flight::new(TASKS), some_key());
        let (fetches, start) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(TASKS)));
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let (flight, key, fetches, start) =
                (flight.clone(), key.clone(), Arc::clone(&fetches), Arc::clone(&start));
            tasks.spawn(async move {
                // All have their seat before the leader lands, as all miss before the first answer is there.
                let seat = flight.join(&key);
                start.wait().await;
                match seat {
                    Seat::Lead(lead) => {
                        fetches.fetch_add(1, Ordering::Relaxed);
                        yield_now().await;
                        lead.publish(entry(&key));
                    }
                    Seat::Follow(mut waiter) => {
                        assert!(matches!(landed(&mut waiter).await, Landed::Entry(_)));
                    }
                    Seat::Full => panic!("there is room for all"),
                }
            });
        }

        while let Some(task) = timeout(PATIENCE, tasks.join_next()).await.unwrap() {
            task.unwrap();
        }

        assert_eq!(fetches.load(Ordering::Relaxed), 1);
        assert_idle(&flight);
    }
}

/// What a task does with the lead when it gets it.
#[derive(Clone, Copy)]
enum End {
    Publish,
    Release,
    Vanish,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_leaders_and_followers_do_nobody_waits_for_ever() {
    const TASKS: usize = 400;
    let maker = KeyMaker::default();
    for round in 0..50 {
        let flight = Flight::new(100);
        let mut tasks = JoinSet::new();
        for n in 0..TASKS {
            let flight = flight.clone();
            let key = key(&maker, if (n + round) % 5 == 0 { "/rare" } else { "/often" });
            let end =
                [End::Vanish, End::Publish, End::Vanish, End::Release, End::Vanish][(n * 7 + round) % 5];
            let gives_up = n % 11 == 0;
            tasks.spawn(async move {
                let fly = async |lead: Lead| {
                    yield_now().await;
                    match end {
                        End::Publish => lead.publish(entry(&key)),
                        End::Release => lead.release(),
                        End::Vanish => drop(lead),
                    }
                };
                match flight.join(&key) {
                    Seat::Lead(lead) => fly(lead).await,
                    Seat::Follow(waiter) if gives_up => {
                        yield_now().await;
                        drop(waiter);
                    }
                    Seat::Follow(mut waiter) => {
                        if let Landed::Lead(lead) = waiter.landed().await {
                            fly(lead).await;
                        }
                    }
                    Seat::Full => {}
                }
            });
        }

        while let Some(task) = timeout(PATIENCE, tasks.join_next()).await.expect("all tasks end") {
            task.unwrap();
        }
        assert_idle(&flight);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn aborted_tasks_give_their_seats_back() {
    let (flight, key) = (Flight::new(1000), some_key());
    for _ in 0..50 {
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let (flight, key) = (flight.clone(), key.clone());
            tasks.spawn(async move {
                match flight.join(&key) {
                    Seat::Lead(_lead) => std::future::pending().await,
                    Seat::Follow(mut waiter) => {
                        if let Landed::Lead(_lead) = waiter.landed().await {
                            std::future::pending::<()>().await;
                        }
                    }
                    Seat::Full => {}
                }
            });
        }
        yield_now().await;

        timeout(PATIENCE, tasks.shutdown()).await.expect("all tasks end");

        assert_idle(&flight);
    }
}
