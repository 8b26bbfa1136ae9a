//! How far this replica has read the purge marks that all replicas share, and what that means in its own counting.
//!
//! Marks lie in a Redis stream, whose ids only grow. A replica counts purges in numbers of its own
//! ([`Generation`]); a step says that with the mark of this id it had come to that number. So an entry of another replica,
//! which says up to which id it knew all marks before its fetch, gets the number from which on a mark ends it here too,
//! and an entry of ours gets an id in the same way.

use std::collections::VecDeque;

use crate::cache::purge::Generation;

/// Steps that are kept. Beyond it the older ones are thinned out.
const MAX_STEPS: usize = 16 * 1024;

/// The id of a mark in the stream: Unix milliseconds of the server and a number within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cache) struct MarkId {
    pub(super) ms: u64,
    pub(super) seq: u64,
}

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Position {
    steps: VecDeque<(MarkId, u64)>,
    /// What knows less than this is dead: the marks that might end it are gone.
    floor: MarkId,
    newest: MarkId,
}

impl MarkId {
    /// Reads the form `ms-seq`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl std::fmt::Display for MarkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl Position {
    /// The newest mark that was read.
    pub(super) const fn newest(&self) -> MarkId {
        self.newest
    }

    /// The number of the last step.
    pub(super) fn last(&self) -> u64 {
        self.steps.back().map_or(0, |(_, number)| *number)
    }

    /// A mark was read; with it the own counting stands at `generation`.
    pub(super) fn step(&mut self, id: MarkId, generation: Generation) {
        self.newest = self.newest.max(id);
        self.steps.push_back((id, generation.number()));
        if self.steps.len() > MAX_STEPS {
            // What knew the marks up to one that goes counts as having known those up to the one before it. The first
            // stays, as nothing is before it.
            let mut index = 0;
            self.steps.retain(|_| {
                index += 1;
                index > MAX_STEPS / 2 || index % 2 == 1
            });
        }
    }

    /// The marks before `id` are gone.
    pub(super) fn raise_floor(&mut self, id: MarkId) {
        self.floor = self.floor.max(id);
    }

    /// Whether the marks around `id` are gone.
    pub(super) fn is_trimmed(&self, id: MarkId) -> bool {
        id < self.floor
    }

    /// Begins anew: the stream is another one.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The own number that stands for having known all marks up to `id`; `now` is the number of now. None: it cannot be
    /// told, and what knew no more counts as dead.
    pub(super) fn own(&self, id: MarkId, now: Generation) -> Option<Generation> {
        if id < self.floor {
            return None;
        }
        let after = self.steps.partition_point(|(step, _)| *step <= id);
        let number = match (after.checked_sub(1).and_then(|at| self.steps.get(at)), self.steps.get(after)) {
            (Some((_, number)), Some(_)) => *number,
            // It knows all that is known here.
            (_, None) => return Some(now),
            (None, Some((_, first))) => first.saturating_sub(1),
        };
        Some(Generation::of_number(number))
    }

    /// The newest mark that was known when the own counting stood at `generation`.
    pub(super) fn shared(&self, generation: Generation) -> MarkId {
        let after = self.steps.partition_point(|(_, number)| *number <= generation.number());
        after.checked_sub(1).and_then(|at| self.steps.get(at)).map_or_else(MarkId::default, |(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_STEPS, MarkId, Position};
    use crate::cache::purge::Generation;

    fn id(ms: u64) -> MarkId {
        MarkId { ms, seq: 0 }
    }

    fn at(number: u64) -> Generation {
        Generation::of_number(number)
    }

    #[test]
    fn ids_are_read_written_and_ordered() {
        assert_eq!(MarkId::parse("1700000000000-3"), Some(MarkId { ms: 1_700_000_000_000, seq: 3 }));
        assert_eq!(MarkId::parse("17"), None);
        assert_eq!(MarkId::parse("a-b"), None);
        assert_eq!(MarkId { ms: 5, seq: 6 }.to_string(), "5-6");
        assert!(MarkId { ms: 5, seq: 6 } < MarkId { ms: 5, seq: 10 });
    }

    #[test]
    fn an_entry_is_ended_by_the_marks_it_did_not_know_and_by_no_other() {
        let mut position = Position::default();
        position.step(id(10), at(3));
        position.step(id(20), at(7));
        let now = at(9);

        assert_eq!(position.own(id(5), now), Some(at(2)), "before all marks");
        assert_eq!(position.own(id(10), now), Some(at(3)));
        assert_eq!(position.own(id(15), now), Some(at(3)));
        assert_eq!(position.own(id(20), now), Some(at(9)), "all that is known here");
        assert_eq!(position.own(id(99), now), Some(at(9)), "more than is known here");
        assert_eq!(position.shared(at(2)), MarkId::default());
        assert_eq!(position.shared(at(6)), id(10));
        assert_eq!(position.shared(at(8)), id(20));
    }

    #[test]
    fn what_is_older_than_the_marks_that_are_left_is_dead() {
        let mut position = Position::default();
        position.raise_floor(id(10));
        position.step(id(10), at(1));

        assert_eq!(position.own(id(9), at(1)), None);
        assert_eq!(position.own(id(10), at(1)), Some(at(1)));
    }

    #[test]
    fn no_entry_gains_knowledge_when_there_are_many_steps() {
        let mut position = Position::default();
        for ms in 10..100_000 {
            position.step(id(ms), at(2 * ms));
        }
        let now = at(300_000);

        assert!(position.steps.len() <= MAX_STEPS);
        assert_eq!(position.own(id(9), now), Some(at(19)), "it knows none of them");
        for ms in 10..99_999 {
            let (own, shared) = (position.own(id(ms), now).unwrap(), position.shared(at(2 * ms)));
            assert!(own <= at(2 * ms) && own >= at(20), "{ms}: {own:?}");
            assert!(shared <= id(ms) && shared >= id(10), "{ms}: {shared}");
        }
        assert_eq!(position.own(id(99_998), now), Some(at(2 * 99_998)), "the newest are exact");
        assert_eq!(position.shared(at(20)), id(10));
    }
}
