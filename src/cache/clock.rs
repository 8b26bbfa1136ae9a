//! The two clocks of the cache. Lifetimes in memory are counted in monotonic milliseconds, so that a jump of the wall
//! clock expires nothing early or late; the wall clock is read only to compare with dates that others wrote.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Gives the time as plain numbers.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    wall: Wall,
}

/// Where seconds since 1970 come from.
#[derive(Clone, Copy, Debug)]
enum Wall {
    /// The system.
    System,
    /// This many at the start; then it moves with the monotonic clock.
    From(Duration),
}

impl Clock {
    /// The clocks of the system.
    #[must_use]
    pub fn system() -> Self {
        Self { start: Instant::now(), wall: Wall::System }
    }

    /// A wall clock that stands at `unix_s` now and moves with tokio's clock, which tests can pause.
    #[must_use]
    pub fn starting_at(unix_s: u64) -> Self {
        Self { start: Instant::now(), wall: Wall::From(Duration::from_secs(unix_s)) }
    }

    /// Monotonic milliseconds since the clock was made.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The monotonic milliseconds of a moment that the caller has read already.
    #[must_use]
    pub fn at(&self, moment: Instant) -> u64 {
        to_ms(moment.saturating_duration_since(self.start))
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn wall_s(&self) -> i64 {
        i64::try_from(self.wall().as_secs()).unwrap_or(i64::MAX)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        to_ms(self.wall())
    }

    fn wall(&self) -> Duration {
        match self.wall {
            Wall::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Wall::From(start) => start + self.start.elapsed(),
        }
    }
}

fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::Clock;

    #[tokio::test(start_paused = true)]
    async fn both_clocks_move_with_the_paused_one() {
        let clock = Clock::starting_at(1_000_000);
        let (ms, wall) = (clock.now_ms(), clock.wall_s());

        advance(Duration::from_millis(2_500)).await;

        assert_eq!(clock.now_ms() - ms, 2_500);
        assert_eq!(clock.at(Instant::now()) - ms, 2_500);
        assert_eq!(clock.wall_s() - wall, 2);
    }
}
