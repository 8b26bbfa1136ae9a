//! Sums that replicas share: what each of them has added, and what all of it comes to.
//!
//! A sum is a hash with a field for each process, which holds the whole of what this process has added so far, and each
//! writes its own field only. So a write may come twice, late or never: after an answer that was not waited for nothing
//! is counted double, and to a Redis that is back, even empty, each brings again what it has added. A number beside it
//! keeps an older write from undoing a newer one.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use redis::RedisResult;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    fault::{fault_of, words_of},
    server::Conn,
    tier::{LATE, RedisTier},
};
use crate::telemetry::RedisFault;

/// How long a request waits for a sum, whatever lookups may take.
const DEADLINE: Duration = Duration::from_millis(20);

/// How long a Redis that is back may take to hear of all sums. What it has not heard of then comes with what is added next.
const BRINGING: Duration = Duration::from_millis(500);

/// So many sums in a row that get no answer from a Redis that is there are told to the log.
const MANY: u32 = 5;

/// Sums that are remembered here.
const MOST: usize = 50_000;

/// Writes the field of a process, unless it holds something newer, and answers with the sum of all fields. The life is set
/// once. In 2^53 pico-dollars is room for 9,000 dollars; beyond it the last digits of a sum of several are rounded.
const ADD: &str = "local was=redis.call('HGET',KEYS[1],ARGV[1]) \
if not was or (tonumber(was:match('^%d+')) or 0)<tonumber(ARGV[2]) then \
redis.call('HSET',KEYS[1],ARGV[1],ARGV[2]..' '..ARGV[3]) end \
if redis.call('PTTL',KEYS[1])<0 then redis.call('PEXPIRE',KEYS[1],ARGV[4]) end \
local sum=0 for _,part in ipairs(redis.call('HVALS',KEYS[1])) do sum=sum+(tonumber(part:match(' (-?%d+)$')) or 0) end \
return string.format('%.0f',sum)";

/// What this process has added.
#[derive(Debug, Default)]
pub(super) struct Sums {
    own: Mutex<HashMap<Box<str>, Own>>,
    fields: AtomicU64,
    /// Sums in a row without an answer.
    unanswered: AtomicU32,
}

/// What this process has added to one sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Own {
    /// Tells fields of this process apart: what was forgotten begins anew, in another field.
    field: u64,
    /// Grows with each write.
    number: u64,
    total: i64,
    ends_ms: u64,
}

impl RedisTier {
    /// Adds to a sum, which ends by itself after `life`, and returns what all replicas have added; `None` at once while
    /// Redis is not there, and when it does not answer in time. Dropping the future is safe: the next one writes it all.
    pub(in crate::cache) async fn add_to_sum(&self, name: &str, amount: i64, life: Duration) -> Option<i64> {
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 48);
        let own = self.sums.add(name, amount, life_ms, self.clock.now_ms());
        let mut connection = self.connection(self.shard_of_name(name))?;
        let script = self.write_of(name, &own, life_ms);
        let answer: Option<RedisResult<String>> =
            timeout(DEADLINE, script.query_async(&mut connection)).await.ok();
        match answer {
            Some(Ok(text)) => {
                let Ok(sum) = text.parse() else {
                    self.sum_failed(RedisFault::Protocol, "its sum is no number");
                    return None;
                };
                if self.sums.unanswered.swap(0, Ordering::Relaxed) >= MANY {
                    info!(address = self.stats.address(), "sums are shared through redis again");
                }
                return Some(sum);
            }
            Some(Err(error)) => self.sum_failed(fault_of(&error), &words_of(&error)),
            None => self.sum_failed(RedisFault::Timeout, LATE),
        }
        None
    }

    /// Brings a Redis that is back what this process has added to sums that have not ended.
    pub(super) async fn bring_sums(&self, connection: &mut Conn) {
        let now_ms = self.clock.now_ms();
        let own: Vec<_> = self.sums.own.lock().iter().map(|(name, own)| (name.clone(), *own)).collect();
        let all = async {
            for (name, own) in own.iter().filter(|(_, own)| own.ends_ms > now_ms) {
                let script = self.write_of(name, own, own.ends_ms - now_ms);
                if let Err(error) = script.query_async::<String>(connection).await {
                    self.stats.failed(fault_of(&error));
                }
            }
        };
        let _ = timeout(BRINGING, all).await;
    }

    fn write_of(&self, name: &str, own: &Own, life_ms: u64) -> redis::Cmd {
        let mut script = redis::cmd("EVAL");
        let field = format!("{}:{}", String::from_utf8_lossy(&self.replica), own.field);
        script.arg(ADD).arg(1).arg(self.names.sum(name));
        script.arg(field).arg(own.number).arg(own.total).arg(life_ms);
        script
    }

    /// Which connection what lies under a name takes.
    pub(super) fn shard_of_name(&self, name: &str) -> usize {
        let hash = std::hash::BuildHasher::hash_one(&FixedState::default(), name);
        usize::try_from(hash % u64::try_from(self.queues.len()).unwrap_or(1).max(1)).unwrap_or(0)
    }

    fn sum_failed(&self, fault: RedisFault, why: &str) {
        // A right that only sums lack, and a deadline that is shorter than that of lookups, say nothing of the tier.
        let is_of_tier = match fault {
            RedisFault::Auth => false,
            RedisFault::Timeout => self.settings.operation <= DEADLINE,
            RedisFault::Connection
            | RedisFault::Oom
            | RedisFault::Readonly
            | RedisFault::Loading
            | RedisFault::Server
            | RedisFault::Protocol => true,
        };
        if is_of_tier {
            self.failed(fault, why);
        } else {
            self.stats.failed(fault);
        }
        // That the tier was lost is told where it is noticed.
        if self.is_up() && self.sums.unanswered.fetch_add(1, Ordering::Relaxed) + 1 == MANY {
            warn!(address = self.stats.address(), why, "redis keeps no sums; this replica counts alone");
        }
    }
}

impl Sums {
    fn add(&self, name: &str, amount: i64, life_ms: u64, now_ms: u64) -> Own {
        let mut all = self.own.lock();
        if all.len() >= MOST && !all.contains_key(name) {
            all.retain(|_, own| own.ends_ms > now_ms);
            // What is forgotten stays counted in Redis; only what Redis has not heard of is lost.
            if all.len() > MOST / 2 {
                all.clear();
            }
        }
        if let Some(own) = all.get_mut(name) {
            own.number += 1;
            own.total = own.total.saturating_add(amount);
            return *own;
        }
        let field = self.fields.fetch_add(1, Ordering::Relaxed);
        let own = Own { field, number: 1, total: amount, ends_ms: now_ms.saturating_add(life_ms) };
        all.insert(name.into(), own);
        own
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{MOST, Sums};
    use crate::{
        cache::{clock::Clock, redis::RedisTier},
        config,
        telemetry::RedisStats,
    };

    #[test]
    fn each_write_holds_all_that_was_added() {
        let sums = Sums::default();
        let first = sums.add("day:1:0", 70, 10, 0);
        let second = sums.add("day:1:0", -20, 10, 0);
        let other = sums.add("day:2:0", 5, 20, 0);

        assert_eq!((first.number, first.total), (1, 70));
        assert_eq!((second.field, second.number, second.total), (first.field, 2, 50));
        assert_ne!(other.field, first.field);
        assert_eq!(sums.add("day:1:0", i64::MAX, 10, 0).total, i64::MAX, "no overflow");
    }

    #[test]
    fn what_is_forgotten_goes_on_in_another_field() {
        let sums = Sums::default();
        let first = sums.add("a", 7, 1000, 0);
        for number in 0..MOST {
            sums.add(&number.to_string(), 1, 1000, 0);
        }
        let again = sums.add("a", 1, 1000, 0);

        assert_ne!(again.field, first.field);
        assert_eq!((again.number, again.total), (1, 1));
        assert!(sums.own.lock().len() <= MOST);
    }

    #[test]
    fn sums_that_have_ended_make_room_first() {
        let sums = Sums::default();
        let kept = sums.add("kept", 7, 5000, 0);
        for number in 1..MOST {
            sums.add(&number.to_string(), 1, 1000, 0);
        }
        sums.add("new", 1, 7000, 2000);

        assert_eq!(sums.add("kept", 1, 5000, 2000).field, kept.field);
        assert_eq!(sums.own.lock().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_redis_that_is_not_there_is_not_waited_for() {
        let stats = Arc::new(RedisStats::new("redis://test"));
        let tier = RedisTier::new(&config::Redis::default(), None, 1 << 20, Clock::system(), stats).unwrap();
        let start = tokio::time::Instant::now();

        assert_eq!(tier.add_to_sum("day:1:0", 5, Duration::from_secs(60)).await, None);

        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(tier.stats().errors().map(|(_, count)| count).sum::<u64>(), 0);
        assert_eq!(tier.sums.add("day:1:0", 1, 0, 0).total, 6, "it is written once redis is there");
    }
}
