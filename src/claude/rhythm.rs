//! How the turns of a system prompt follow one another, and what became of the breakpoints that its calls were given.
//!
//! The provider's cache lives by gaps: an entry is read if the next turn comes within its life. What is kept per system
//! prompt is a histogram of gaps and a few counts, never a text. Probabilities are estimates and so may be floats; they
//! leave here as whole millionths, and money is never computed with anything else.

use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::config::PromptCacheTtl;

/// One, in millionths.
const WHOLE: u32 = 1_000_000;

/// Upper bounds of the gaps, in seconds. Five minutes and an hour are bounds, as they are the lives of cache entries, and
/// they are closer before them, where a turn that is not renewed is lost.
const BOUNDS: [u32; 13] = [10, 20, 45, 90, 180, 240, 300, 600, 1_200, 1_800, 2_700, 3_600, 7_200];

/// Gaps that must be seen before they are believed.
const ENOUGH: u32 = 20;

/// The gap that is assumed before: that of a chat, in seconds.
const ASSUMED_MEAN: f64 = 120.0;

/// Gaps after which older ones count half, so that a rhythm may change.
const HALVED_AT: u32 = 2_000;

/// System prompts that are told apart.
const SYSTEMS: u64 = 2_000;

/// How long a system prompt is remembered that nobody uses.
const IDLE: Duration = Duration::from_secs(6 * 3600);

/// How long breakpoints stay away from a system prompt that never read what it wrote.
const STOPPED_FOR: Duration = Duration::from_secs(3600);

/// What a turn counts that should have read what the turn before it wrote, and did not.
const DUE: u16 = 10;

/// What any other one counts that reads nothing: the first of a conversation, or one that came late. A few of them follow
/// one another on any busy day; only where nothing else comes is their writing lost.
const NOT_DUE: u16 = 1;

/// What became of a call with breakpoints of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    /// Tokens that were read from the cache.
    pub(super) read: u64,
    /// Tokens that were written to it.
    pub(super) written: u64,
    /// Whether the turn before it was on the same model and so short a while ago that its write should have been read.
    pub(super) is_due: bool,
}

/// What is known of one system prompt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rhythm {
    gaps: [u32; BOUNDS.len() + 1],
    seen: u32,
    /// Turns in a row that wrote to the provider's cache and read nothing, in tenths.
    unread: u16,
    stopped_until: Option<Instant>,
    /// The life that was last chosen.
    is_hour: bool,
}

impl Rhythm {
    /// Counts the gap between two turns.
    pub(super) fn saw(&mut self, gap: Duration) {
        let seconds = u32::try_from(gap.as_secs()).unwrap_or(u32::MAX);
        let place = BOUNDS.iter().filter(|bound| seconds >= **bound).count();
        if let Some(count) = self.gaps.get_mut(place) {
            *count += 1;
        }
        self.seen += 1;
        if self.seen >= HALVED_AT {
            self.gaps.iter_mut().for_each(|count| *count /= 2);
            self.seen = self.gaps.iter().sum();
        }
    }

    /// The probability that a gap is shorter than `life`, in millionths. Between two bounds gaps are taken to be spread
    /// evenly.
    pub(super) fn within(&self, life: Duration) -> u32 {
        let life = life.as_secs_f64();
        let share = if self.seen < ENOUGH { 1.0 - (-life / ASSUMED_MEAN).exp() } else { self.observed(life) };
        millionths(share)
    }

    fn observed(&self, life: f64) -> f64 {
        let mut below = 0.0;
        let mut from = 0.0;
        for (bound, count) in BOUNDS.iter().map(|bound| f64::from(*bound)).zip(self.gaps) {
            if life >= bound {
                below += f64::from(count);
            } else {
                below += f64::from(count) * ((life - from) / (bound - from)).clamp(0.0, 1.0);
                break;
            }
            from = bound;
        }
        below / f64::from(self.seen.max(1))
    }

    /// The probability that an entry of a life ends because one turn, `elapsed` after its last use, does not renew it:
    /// that of being read a gap later, less that of being read after both gaps; in millionths. What was not seen yet may
    /// come all the same: one more gap is added, which may be of any length up to the life.
    pub(super) fn lost_by_skipping(&self, life: Duration, elapsed: Duration) -> u32 {
        let seen = self.within(life).saturating_sub(self.within(life.saturating_sub(elapsed)));
        let unseen = elapsed.as_secs_f64() / life.as_secs_f64() / f64::from(self.seen + 1);
        seen.saturating_add(millionths(unseen)).min(WHOLE)
    }

    /// Whether breakpoints are kept away.
    pub(super) fn is_stopped(&self, now: Instant) -> bool {
        self.stopped_until.is_some_and(|until| now < until)
    }

    /// Counts what became of a call with breakpoints of ours. True when they are stopped by it.
    pub(super) fn met(&mut self, met: Met, stop_after: u8, now: Instant) -> bool {
        if met.read > 0 {
            self.unread = 0;
            return false;
        }
        if met.written == 0 {
            return false;
        }
        self.unread = self.unread.saturating_add(if met.is_due { DUE } else { NOT_DUE });
        if self.unread < u16::from(stop_after) * DUE {
            return false;
        }
        self.unread = 0;
        self.stopped_until = Some(now + STOPPED_FOR);
        true
    }
}

/// What is known of all system prompts.
pub(super) struct Rhythms(Cache<u64, Rhythm>);

impl Rhythms {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(SYSTEMS).time_to_idle(IDLE).build())
    }

    pub(super) fn of(&self, system: u64) -> Rhythm {
        self.0.get(&system).unwrap_or_default()
    }

    /// Changes what is known of a system prompt. Of two changes at the same moment one may be lost: it is statistics.
    pub(super) fn change<T>(&self, system: u64, change: impl FnOnce(&mut Rhythm) -> T) -> T {
        let mut rhythm = self.of(system);
        let result = change(&mut rhythm);
        self.0.insert(system, rhythm);
        result
    }

    /// The life of what a new conversation writes: the one that is asked for, or the cheaper one as `choose` has it from
    /// the probabilities of a next turn within five minutes and within an hour, in millionths.
    pub(super) fn is_hour(
        &self,
        system: u64,
        wanted: PromptCacheTtl,
        choose: impl FnOnce(u32, u32, bool) -> bool,
    ) -> bool {
        match wanted {
            PromptCacheTtl::FiveMinutes => false,
            PromptCacheTtl::OneHour => true,
            PromptCacheTtl::Adaptive => {
                let rhythm = self.of(system);
                if rhythm.seen < ENOUGH {
                    return rhythm.is_hour;
                }
                let (five, sixty) = (rhythm.within(FIVE_MINUTES), rhythm.within(ONE_HOUR));
                let is_hour = choose(five, sixty, rhythm.is_hour);
                // Seldom another one, and a change costs more than all the rest.
                if is_hour != rhythm.is_hour {
                    self.change(system, |rhythm| rhythm.is_hour = is_hour);
                }
                is_hour
            }
        }
    }
}

/// The shorter life of an entry in the provider's cache.
pub(super) const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// The longer one.
pub(super) const ONE_HOUR: Duration = Duration::from_secs(3600);

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held between 0 and a million")]
fn millionths(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(WHOLE)).round() as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{ENOUGH, FIVE_MINUTES, Met, ONE_HOUR, Rhythm, Rhythms};
    use crate::config::PromptCacheTtl;

    fn of(seconds: &[u64]) -> Rhythm {
        let mut rhythm = Rhythm::default();
        for gap in seconds {
            rhythm.saw(Duration::from_secs(*gap));
        }
        rhythm
    }

    #[test]
    fn a_chat_is_assumed_until_enough_gaps_were_seen() {
        let few = of(&[5_000; 5]);
        assert_eq!(few.within(FIVE_MINUTES), 917_915);

        let many = of(&[5_000; 25]);
        assert_eq!((many.within(FIVE_MINUTES), many.within(ONE_HOUR)), (0, 0));
    }

    #[test]
    fn lives_that_are_bounds_are_counted_exactly() {
        let mut gaps = vec![60; 15];
        gaps.extend([400; 10]);
        gaps.extend([8_000; 5]);
        let rhythm = of(&gaps);

        assert_eq!(rhythm.within(FIVE_MINUTES), 500_000);
        assert_eq!(rhythm.within(ONE_HOUR), 833_333);
        assert!(rhythm.within(Duration::from_secs(450)) > 500_000);
    }

    #[test]
    fn skipping_a_turn_costs_the_chance_to_renew() {
        let rhythm = of(&[60; 30]);

        assert!((6_400..6_500).contains(&rhythm.lost_by_skipping(FIVE_MINUTES, Duration::from_secs(60))));
        assert!(of(&[60; 1_000]).lost_by_skipping(FIVE_MINUTES, Duration::from_secs(60)) <= 200);
        assert!(rhythm.lost_by_skipping(FIVE_MINUTES, Duration::from_secs(290)) > 900_000);
    }

    #[test]
    fn breakpoints_stop_after_so_many_unread_writes_and_come_back_after_an_hour() {
        let now = Instant::now();
        let mut rhythm = Rhythm::default();
        let mut met = |read, written| rhythm.met(Met { read, written, is_due: true }, 3, now);

        assert!(!met(0, 100));
        assert!(!met(0, 100));
        assert!(!met(50, 100), "a read begins anew");
        assert!(!met(0, 100));
        assert!(!met(0, 0), "neither written nor read says nothing");
        assert!(!met(0, 100));
        assert!(met(0, 100));
        assert!(rhythm.is_stopped(now));
        assert!(!rhythm.is_stopped(now + Duration::from_secs(3601)));
    }

    #[test]
    fn turns_that_could_read_nothing_stop_breakpoints_only_where_nothing_else_comes() {
        let now = Instant::now();
        let mut rhythm = Rhythm::default();
        let first = Met { read: 0, written: 100, is_due: false };
        for _ in 0..29 {
            assert!(!rhythm.met(first, 3, now));
        }
        let mut read = rhythm;

        assert!(rhythm.met(first, 3, now));
        assert!(!read.met(Met { read: 50, ..first }, 3, now));
        assert!(!read.met(first, 3, now));
    }

    #[test]
    fn the_life_follows_the_choice_once_the_rhythm_is_known() {
        let rhythms = Rhythms::new();
        assert!(!rhythms.is_hour(1, PromptCacheTtl::Adaptive, |_, _, _| true), "too early");
        for _ in 0..ENOUGH {
            rhythms.change(1, |rhythm| rhythm.saw(Duration::from_secs(400)));
        }

        assert!(rhythms.is_hour(1, PromptCacheTtl::Adaptive, |five, sixty, _| five < sixty));
        assert!(rhythms.is_hour(2, PromptCacheTtl::OneHour, |_, _, _| false));
        assert!(!rhythms.is_hour(1, PromptCacheTtl::FiveMinutes, |_, _, _| true));
    }

    #[test]
    fn old_gaps_fade() {
        let mut rhythm = of(&[60; 1_999]);
        for _ in 0..8_000 {
            rhythm.saw(Duration::from_secs(5_000));
        }

        assert!(rhythm.within(ONE_HOUR) < 100_000);
    }
}
