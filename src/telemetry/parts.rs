//! Where the time of a request went. The measured parts and the rest add up to the total in whole microseconds.

use super::labels::labels;

/// The parts that a plane measured. What is missing to the total is the proxy's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Waiting for a free place at the backend.
    pub queue_us: u32,
    /// In the cache's memory tier.
    pub cache_us: u32,
    /// Waiting for Redis.
    pub redis_us: u32,
    /// Waiting for another request's fetch of the same answer.
    pub collapsed_us: u32,
    /// Making a connection to the backend.
    pub connect_us: u32,
    /// From the request's departure to the first byte of the backend's answer, without calls to Claude.
    pub backend_us: u32,
    /// In calls of the backend to Claude that name the request's trace.
    pub claude_us: u32,
    /// From the head to the last byte of the answer.
    pub body_us: u32,
}

labels! {
    /// The names of a breakdown's parts, in the order in which they happen.
    pub enum Part {
        /// [`Parts::queue_us`].
        Queue = "queue",
        /// [`Parts::cache_us`].
        Cache = "cache",
        /// [`Parts::redis_us`].
        Redis = "redis",
        /// [`Parts::collapsed_us`].
        Collapsed = "collapsed",
        /// [`Parts::connect_us`].
        Connect = "connect",
        /// [`Parts::backend_us`].
        Backend = "backend",
        /// [`Parts::claude_us`].
        Claude = "claude",
        /// [`Parts::body_us`].
        Body = "body",
        /// The rest: the proxy's own time.
        Own = "own",
    }
}

impl Part {
    /// What was happening, for a sentence that begins "97 % of it went into".
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Queue => "waiting for a free place at the backend",
            Self::Cache => "the cache's memory tier",
            Self::Redis => "waiting for Redis",
            Self::Collapsed => "waiting for another request's fetch of the same answer",
            Self::Connect => "connecting to the backend",
            Self::Backend => "waiting for the backend's first byte",
            Self::Claude => "the backend's calls to Claude",
            Self::Body => "sending the body",
            Self::Own => "the proxy itself",
        }
    }
}

/// A total and its nine parts. The parts always add up to the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakdown {
    total_us: u32,
    parts_us: [u32; Part::COUNT],
}

impl Breakdown {
    /// Splits a total. Parts that overlap or were rounded up are cut, the later ones first, as they were measured up
    /// to the same end.
    #[must_use]
    pub fn new(total_us: u32, parts: &Parts) -> Self {
        let Parts { queue_us, cache_us, redis_us, collapsed_us, connect_us, backend_us, claude_us, body_us } =
            *parts;
        let mut rest = total_us;
        let mut cut = |part: u32| {
            let part = part.min(rest);
            rest -= part;
            part
        };
        let [queue, cache, redis, collapsed, connect, backend, claude, body] =
            [queue_us, cache_us, redis_us, collapsed_us, connect_us, backend_us, claude_us, body_us]
                .map(&mut cut);
        Self { total_us, parts_us: [queue, cache, redis, collapsed, connect, backend, claude, body, rest] }
    }

    /// The total.
    #[must_use]
    pub const fn total_us(&self) -> u32 {
        self.total_us
    }

    /// Each part with its time.
    pub fn parts(&self) -> impl Iterator<Item = (Part, u32)> {
        Part::ALL.into_iter().zip(self.parts_us)
    }

    /// The largest part with its share in percent.
    #[must_use]
    pub fn dominant(&self) -> (Part, u32) {
        let (part, us) = self.parts().max_by_key(|(_, us)| *us).unwrap_or((Part::Own, 0));
        let share = u64::from(us) * 100 / u64::from(self.total_us.max(1));
        (part, u32::try_from(share).unwrap_or(100))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Breakdown, Part, Parts};

    #[test]
    fn the_dominant_part_is_named_with_its_share() {
        let parts = Parts { queue_us: 30_000, backend_us: 2_240_000, ..Parts::default() };

        let breakdown = Breakdown::new(2_310_000, &parts);

        assert_eq!(breakdown.dominant(), (Part::Backend, 96));
        assert!(breakdown.parts().any(|part| part == (Part::Own, 40_000)));
        assert_eq!(Breakdown::new(0, &Parts::default()).dominant().1, 0);
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_total(total in any::<u32>(), us in any::<[u32; 8]>(), shift in 0..32_u32) {
            let [queue_us, cache_us, redis_us, collapsed_us, connect_us, backend_us, claude_us, body_us] =
                us.map(|us| us >> shift);
            let parts =
                Parts { queue_us, cache_us, redis_us, collapsed_us, connect_us, backend_us, claude_us, body_us };

            let breakdown = Breakdown::new(total, &parts);

            prop_assert_eq!(breakdown.parts().map(|(_, us)| u64::from(us)).sum::<u64>(), u64::from(total));
            prop_assert!(breakdown.dominant().1 <= 100);
        }
    }
}
