//! Tests of what purges that wait for Redis mean for what is read from there.

use std::sync::Arc;

use super::{MAX_PENDING, RedisTier};
use crate::{
    cache::{
        clock::Clock,
        key::KeyMaker,
        purge::{Generation, Marks},
        redis::position::MarkId,
        scope::Scope,
    },
    config,
    telemetry::RedisStats,
};

/// An id that no mark has reached.
const NEWEST: MarkId = MarkId { ms: u64::MAX, seq: 0 };

fn tier() -> RedisTier {
    let stats = Arc::new(RedisStats::new("redis://test"));
    RedisTier::new(&config::Redis::default(), None, 1 << 20, Clock::system(), stats).unwrap()
}

fn marks() -> Marks {
    Marks::new(KeyMaker::default(), 1_000_000)
}

fn purge(tier: &RedisTier, marks: &Marks, tag: &str) -> Generation {
    let (announcing, scope) = (tier.announcing(), Scope::tag(tag));
    let generation = marks.purge(&scope, false, 0);
    announcing.add(&scope, false, generation);
    generation
}

#[test]
fn no_purge_is_in_force_before_it_is_pending_however_many_purge_at_once() {
    let (tier, marks) = (tier(), marks());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    purge(&tier, &marks, "a");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..10_000 {
                // Nothing was written to Redis, so nobody who wrote there knows any purge of ours.
                assert_eq!(tier.own(NEWEST, marks.generation()), Some(Generation::default()));
            }
        });
    });

    let pending: Vec<u64> = tier.pending.lock().iter().map(|mark| mark.at.number()).collect();

    assert_eq!(pending, (1..=3000).collect::<Vec<u64>>());
}

#[test]
fn too_many_pending_purges_become_one_of_everything_that_none_of_them_is_hidden_by() {
    let (tier, marks) = (tier(), marks());
    let first = purge(&tier, &marks, "first");
    for _ in 1..MAX_PENDING {
        purge(&tier, &marks, "a");
    }
    assert_eq!(tier.pending.lock().len(), MAX_PENDING);

    let last = purge(&tier, &marks, "last");

    let pending: Vec<_> = tier.pending.lock().iter().map(|mark| (mark.at, mark.scope.clone())).collect();
    assert_eq!(pending, [(first, Scope::All), (last, Scope::All)]);
    assert_eq!(tier.own(NEWEST, marks.generation()), Some(first.before()));
}
