//! States that replicas share: small values of other planes, each written whole, of which the last one counts.
//!
//! States that belong together have a tag in common, so that they are asked for at once and lie on one node of a cluster.

use std::time::Duration;

use redis::RedisResult;
use tokio::time::timeout;

use super::{
    fault::{fault_of, words_of},
    tier::{Failed, LATE, RedisTier},
};
use crate::telemetry::RedisFault;

/// How long a request waits for states, whatever lookups may take.
const DEADLINE: Duration = Duration::from_millis(5);

/// Bytes of the longest state, and states that are asked for at once.
const MAX_STATE: usize = 1024;
const MAX_STATES: usize = 32;

impl RedisTier {
    /// What lies under names, in their order; a missing one is empty. `None` at once while Redis is not there, and when it
    /// does not answer in time.
    pub(in crate::cache) async fn read_states(&self, tag: &str, names: &[String]) -> Option<Vec<Vec<u8>>> {
        let mut connection = self.connection(self.shard_of_name(tag))?;
        let mut pipeline = redis::pipe();
        // A stranger's value may have any length.
        for name in names.iter().take(MAX_STATES) {
            pipeline.cmd("GETRANGE").arg(self.names.state(tag, name)).arg(0).arg(MAX_STATE);
        }
        let answer: Option<RedisResult<Vec<Vec<u8>>>> =
            timeout(DEADLINE, pipeline.query_async(&mut connection)).await.ok();
        match answer {
            Some(Ok(states)) => {
                let bytes = states.iter().map(Vec::len).sum::<usize>();
                self.stats.bytes_read.add(u64::try_from(bytes).unwrap_or(0));
                return Some(states);
            }
            Some(Err(error)) => self.failed(fault_of(&error), &words_of(&error)),
            // A deadline that is shorter than that of lookups says nothing of the tier.
            None if self.settings.operation > DEADLINE => self.stats.failed(RedisFault::Timeout),
            None => self.failed(RedisFault::Timeout, LATE),
        }
        None
    }

    /// Writes a state, which ends by itself after `life`.
    pub(in crate::cache) async fn write_state(
        &self,
        tag: &str,
        name: &str,
        value: &[u8],
        life: Duration,
    ) -> Result<(), Failed> {
        if value.len() > MAX_STATE {
            return Err(Failed);
        }
        let mut connection = self.connection(self.shard_of_name(tag)).ok_or(Failed)?;
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 48);
        let mut set = redis::cmd("SET");
        set.arg(self.names.state(tag, name)).arg(value).arg("PX").arg(life_ms);
        self.stats.bytes_written.add(u64::try_from(value.len()).unwrap_or(0));
        self.within(self.server.patience(), set.query_async::<()>(&mut connection)).await
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use crate::{
        cache::{clock::Clock, redis::RedisTier},
        config,
        telemetry::RedisStats,
    };

    #[tokio::test(start_paused = true)]
    async fn a_redis_that_is_not_there_is_not_waited_for() {
        let stats = Arc::new(RedisStats::new("redis://test"));
        let tier = RedisTier::new(&config::Redis::default(), None, 1 << 20, Clock::system(), stats).unwrap();
        let start = tokio::time::Instant::now();

        assert_eq!(tier.read_states("a", &["b".to_owned()]).await, None);
        assert!(tier.write_state("a", "b", b"c", Duration::from_secs(1)).await.is_err());

        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(tier.stats().errors().map(|(_, count)| count).sum::<u64>(), 0);
    }
}
