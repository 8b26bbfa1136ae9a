//! Tests of the cache as a whole: the order in which the ingress plane uses it.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::{task::JoinSet, time::timeout};

use super::{Cache, Lookup, Settings, Turn};
use crate::{
    cache::{
        entry::{Entry, NewEntry},
        flight::{Landed, Lead, Waiter},
        key::{Key, KeyRule, Scheme, Target},
        samples::{answer, fields, meta, tagged, varied},
        scope::Scope,
    },
    config,
    telemetry::record::Reason,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn cache() -> Cache {
    Cache::new(&Settings::from(&config::Cache::default()))
}

fn key(cache: &Cache, path: &str) -> Key {
    let target = Target { scheme: Scheme::Http, authority: b"a.example", path: path.as_bytes(), query: None };
    cache.key(&KeyRule::default(), &target, &HeaderMap::new())
}

fn look(cache: &Cache, path: &str, request: &HeaderMap) -> Lookup {
    cache.lookup(key(cache, path), request, 0)
}

fn absence(cache: &Cache, path: &str, request: &HeaderMap) -> Reason {
    let lookup = look(cache, path, request);
    assert!(lookup.entry.is_none());
    lookup.absence
}

fn lead(turn: Turn) -> Lead {
    match turn {
        Turn::Lead(lead) => lead,
        other => panic!("expected to lead: {other:?}"),
    }
}

fn follow(turn: Turn) -> Waiter {
    match turn {
        Turn::Follow(waiter) => waiter,
        other => panic!("expected to follow: {other:?}"),
    }
}

/// A fetch that begins now, as the ingress plane stores it.
fn store(cache: &Cache, new: NewEntry) -> Arc<Entry> {
    cache.store(NewEntry { generation: cache.generation(), ..new }, 0).unwrap()
}

#[test]
fn what_is_stored_is_found_until_it_is_good_for_nothing() {
    let (cache, request) = (cache(), fields(&[]));
    assert_eq!(absence(&cache, "/x", &request), Reason::Absent);

    let stored = store(&cache, NewEntry { meta: meta(5_000), ..answer(&key(&cache, "/x"), 3) });

    let found = |now_ms| cache.lookup(key(&cache, "/x"), &request, now_ms).entry;
    assert!(Arc::ptr_eq(&found(4_999).unwrap(), &stored));
    assert!(found(5_000).is_none());
    let stats = cache.stats();
    assert_eq!((stats.absences, stats.stores, stats.entries), (2, 1, 1));
    assert_eq!(stats.bytes, u64::try_from(stored.size()).unwrap());
}

#[test]
fn a_stale_entry_with_a_validator_is_found_so_that_it_can_be_validated() {
    let (cache, request) = (cache(), fields(&[]));
    let validated = crate::cache::rfc9111::Meta { validator: true, ..meta(1_000) };

    store(&cache, NewEntry { meta: validated, ..answer(&key(&cache, "/x"), 3) });

    let found = |now_ms| cache.lookup(key(&cache, "/x"), &request, now_ms).entry;
    assert!(found(1_000 + 3_599_000).is_some());
    assert!(found(1_000 + 3_600_000).is_none());
}

#[test]
fn a_purged_entry_is_not_found_and_a_softly_purged_one_is_stale() {
    let (cache, request) = (cache(), fields(&[]));
    store(&cache, tagged(&key(&cache, "/hard"), &["hard"], None));
    store(&cache, tagged(&key(&cache, "/soft"), &["soft"], None));

    assert_eq!(cache.purge(&Scope::tag("hard"), false, 0).cleared, None);
    cache.purge(&Scope::tag("soft"), true, 0);

    assert_eq!(absence(&cache, "/hard", &request), Reason::Purged);
    assert_eq!(absence(&cache, "/hard", &request), Reason::Absent, "it was taken out");
    let soft = look(&cache, "/soft", &request);
    assert!(soft.is_stale && soft.entry.is_some());
    assert_eq!(cache.stats().purges, 2);
}

#[test]
fn a_purge_of_everything_counts_what_it_took_out_and_ends_what_is_in_flight() {
    let cache = cache();
    for n in 0..7 {
        store(&cache, answer(&key(&cache, &format!("/{n}")), 3));
    }
    let generation = cache.generation();

    let outcome = cache.purge(&Scope::All, false, 0);

    assert_eq!(outcome.cleared, Some(7));
    let late = NewEntry { generation, ..answer(&key(&cache, "/late"), 3) };
    assert_eq!(cache.store(late, 0).unwrap_err(), Reason::Purged);
    store(&cache, answer(&key(&cache, "/new"), 3));
    assert_eq!(cache.stats().entries, 1);
}

#[test]
fn refuses_heads_and_tags_beyond_the_bounds() {
    let cache = cache();
    let key = key(&cache, "/x");
    let big = "v".repeat(33 * 1024);
    let tags: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();

    let with_head = NewEntry { headers: fields(&[("x-big", &big)]), ..answer(&key, 1) };
    assert_eq!(cache.store(with_head, 0).unwrap_err(), Reason::TooLarge);
    assert_eq!(cache.store(tagged(&key, &tags, None), 0).unwrap_err(), Reason::TooLarge);
    assert_eq!(cache.store(answer(&key, 9 << 20), 0).unwrap_err(), Reason::TooLarge);
}

#[tokio::test]
async fn a_follower_gets_the_answer_of_the_leader() {
    let (cache, request) = (cache(), fields(&[]));
    let lookup = look(&cache, "/x", &request);
    let leader = lead(cache.join(&lookup, &request, 0));
    let mut waiter = follow(cache.join(&lookup, &request, 0));

    let stored = store(&cache, answer(lookup.key(), 3));
    leader.publish(Arc::clone(&stored));

    let Landed::Entry(got) = cache.follow(&mut waiter, &request).await else { panic!("it is shared") };
    assert!(Arc::ptr_eq(&got, &stored));
}

#[tokio::test]
async fn a_follower_with_other_selecting_values_goes_itself() {
    let (cache, de, en) = (cache(), fields(&[("x-lang", "de")]), fields(&[("x-lang", "en")]));
    let lookup = look(&cache, "/x", &de);
    let leader = lead(cache.join(&lookup, &de, 0));
    let mut waiter = follow(cache.join(&look(&cache, "/x", &en), &en, 0));

    leader.publish(store(&cache, varied(lookup.key(), &["x-lang"], &de)));

    assert!(matches!(cache.follow(&mut waiter, &en).await, Landed::Go));
}

#[tokio::test]
async fn once_the_selecting_fields_are_known_variants_do_not_wait_for_one_another() {
    let (cache, request) = (cache(), fields(&[("x-lang", "de")]));
    store(&cache, varied(&key(&cache, "/x"), &["x-lang"], &request));
    let (en, fr) = (fields(&[("x-lang", "en")]), fields(&[("x-lang", "fr")]));

    assert_eq!(absence(&cache, "/x", &en), Reason::Vary);
    let _en = lead(cache.join(&look(&cache, "/x", &en), &en, 0));
    let _fr = lead(cache.join(&look(&cache, "/x", &fr), &fr, 0));

    assert!(matches!(cache.join(&look(&cache, "/x", &en), &en, 0), Turn::Follow(_)));
}

#[tokio::test]
async fn an_answer_that_was_purged_on_its_way_is_not_shared() {
    let (cache, request) = (cache(), fields(&[]));
    let lookup = look(&cache, "/x", &request);
    let leader = lead(cache.join(&lookup, &request, 0));
    let mut waiter = follow(cache.join(&lookup, &request, 0));
    let stored = store(&cache, tagged(lookup.key(), &["t"], None));

    cache.purge(&Scope::tag("t"), false, 0);
    leader.publish(stored);

    assert!(matches!(cache.follow(&mut waiter, &request).await, Landed::Go));
}

#[test]
fn who_comes_to_lead_after_the_answer_was_stored_finds_it() {
    let (cache, request) = (cache(), fields(&[]));
    let slow = look(&cache, "/x", &request);
    let leader = lead(cache.join(&slow, &request, 0));
    let stored = store(&cache, answer(slow.key(), 3));
    leader.publish(Arc::clone(&stored));

    let Turn::Found(found) = cache.join(&slow, &request, 0) else { panic!("it is there") };

    assert!(Arc::ptr_eq(&found, &stored));
    assert_eq!(cache.stats().flights, 0);
}

#[test]
fn who_has_seen_the_entry_and_wants_it_validated_leads() {
    let (cache, request) = (cache(), fields(&[]));
    store(&cache, answer(&key(&cache, "/x"), 3));
    let lookup = look(&cache, "/x", &request);

    let leader = lead(cache.join(&lookup, &request, 0));

    assert!(matches!(cache.join(&lookup, &request, 0), Turn::Follow(_)));
    drop(leader);
}

#[test]
fn what_could_not_be_stored_is_not_waited_for_until_something_is_stored() {
    let (cache, request) = (cache(), fields(&[]));
    let lookup = look(&cache, "/x", &request);
    let turn = |now_ms| cache.join(&lookup, &request, now_ms);

    cache.release(lead(turn(0)), 0);
    assert!(matches!(turn(9_999), Turn::Alone(Some(Reason::HitForMiss))));
    assert!(matches!(turn(10_000), Turn::Lead(_)));

    cache.release(lead(turn(10_000)), 10_000);
    let stored = store(&cache, answer(lookup.key(), 3));
    assert!(matches!(turn(10_001), Turn::Found(_)));
    cache.remove(&stored);
    assert!(matches!(turn(10_001), Turn::Lead(_)));
}

#[test]
fn beyond_the_bound_requests_fetch_alone() {
    let mut settings = Settings::from(&config::Cache::default());
    settings.followers = 1;
    let (cache, request) = (Cache::new(&settings), fields(&[]));
    let lookup = look(&cache, "/x", &request);

    let _leader = lead(cache.join(&lookup, &request, 0));
    let _follower = follow(cache.join(&lookup, &request, 0));

    assert!(matches!(cache.join(&lookup, &request, 0), Turn::Alone(None)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_requests_for_one_cold_key_fetch_once() {
    let settings = Settings { followers: 5_000, ..Settings::from(&config::Cache::default()) };
    for _ in 0..10 {
        let cache = Arc::new(Cache::new(&settings));
        let mut tasks = JoinSet::new();
        for _ in 0..2_000 {
            let cache = Arc::clone(&cache);
            tasks.spawn(async move { usize::from(request(&cache).await) });
        }

        let mut fetches = 0;
        while let Some(fetched) = timeout(PATIENCE, tasks.join_next()).await.expect("all requests end") {
            fetches += fetched.unwrap();
        }

        assert_eq!(fetches, 1);
    }
}

/// One request from lookup to answer; true if it fetched.
async fn request(cache: &Cache) -> bool {
    let request = HeaderMap::new();
    let lookup = look(cache, "/cold", &request);
    if lookup.entry.is_some() {
        return false;
    }
    match cache.join(&lookup, &request, 0) {
        Turn::Lead(leader) => {
            let generation = cache.generation();
            tokio::task::yield_now().await;
            let new = NewEntry { generation, ..answer(lookup.key(), 100) };
            leader.publish(cache.store(new, 0).unwrap());
            true
        }
        Turn::Follow(mut waiter) => match cache.follow(&mut waiter, &request).await {
            Landed::Entry(_) => false,
            other => panic!("expected the answer: {other:?}"),
        },
        Turn::Found(_) => false,
        Turn::Alone(reason) => panic!("expected to share: {reason:?}"),
    }
}
