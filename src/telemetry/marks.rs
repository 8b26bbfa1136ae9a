//! What changed and when: the marks on the chart, those of alerts among them, since when the score has its reasons, and the Redis tier's answers by
//! minute. Whoever keeps the process's time
//! calls [`Telemetry::look_around`] once a second; changes are found by looking, so that no part has to tell.

use std::{collections::VecDeque, time::SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    hub::Telemetry,
    labels::labels,
    upstream::{BreakerState, UpstreamStats},
};

/// Marks that are kept, of alerts and of all else: more than fit on a chart. An alert that comes and goes pushes out no other
/// change.
const KEPT: usize = 64;
/// Minutes of the Redis tier's answers: those of the chart.
const MINUTES: u32 = 15;

labels! {
    /// What changed.
    pub enum MarkKind {
        /// The process started.
        Start = "start",
        /// A new configuration is in force.
        Reload = "reload",
        /// A new configuration was rejected.
        ReloadRejected = "reload_rejected",
        /// Cached answers were ended.
        Purge = "purge",
        /// A breaker changed.
        Breaker = "breaker",
        /// Redis answers no more.
        RedisLost = "redis_lost",
        /// Redis answers again.
        RedisBack = "redis_back",
        /// The backend answers its checks no more.
        BackendLost = "backend_lost",
        /// The backend answers its checks again.
        BackendBack = "backend_back",
        /// An alert fires.
        Alert = "alert",
        /// An alert is over.
        Resolved = "resolved",
        /// The process is about to end.
        Drain = "drain",
    }
}

impl MarkKind {
    const fn is_of_alert(self) -> bool {
        matches!(self, Self::Alert | Self::Resolved)
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: SystemTime,
    /// What.
    pub kind: MarkKind,
    /// In words.
    pub text: String,
}

/// The marks, and what was seen last.
#[derive(Debug, Default)]
pub(super) struct Marks {
    all: Mutex<VecDeque<Mark>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// How often it was lost when it was last looked at. One that never answered is no loss: the health score tells of it.
    redis_losses: u64,
    is_redis_lost: bool,
    upstreams: Vec<(String, Option<bool>, BreakerState)>,
    is_draining: bool,
    /// The slowest answer of each minute; none where there was not one.
    pings: VecDeque<(u32, Option<f64>)>,
}

impl Telemetry {
    /// Adds a mark.
    pub fn mark(&self, kind: MarkKind, text: impl Into<String>) {
        self.mark_at(SystemTime::now(), kind, text.into());
    }

    /// The marks, oldest first.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let mut marks: Vec<_> = self.marks.all.lock().iter().cloned().collect();
        // Some are noticed a moment after what they tell of.
        marks.sort_by_key(|mark| mark.at);
        marks
    }

    /// How long an empty operation of Redis took at worst, in milliseconds, in each of the last 15 minutes, oldest first;
    /// none for minutes in which Redis did not answer once, or from before the start.
    #[must_use]
    pub fn redis_minutes(&self, now: Instant) -> Vec<Option<f64>> {
        let minute = self.tick(now) / 6;
        let seen = self.marks.seen.lock();
        let of = |wanted: u32| seen.pings.iter().find(|(at, _)| *at == wanted).and_then(|(_, ping)| *ping);
        (0..MINUTES).rev().map(|ago| minute.checked_sub(ago).and_then(of)).collect()
    }

    /// Looks for changes since the last call. To be called once a second.
    pub fn look_around(&self, now: Instant, is_draining: bool) {
        // The score notes since when its reasons hold, whether or not anybody looks at it.
        let _ = self.health_score(now);
        let upstreams: Vec<_> = self.upstreams.read().clone();
        let redis = self.redis();
        let mut marks = Vec::new();
        let mut seen = self.marks.seen.lock();
        for stats in &upstreams {
            seen.look_at(stats, &mut marks);
        }
        if let Some(stats) = redis {
            let (is_up, losses) = (stats.is_up(), stats.losses());
            // Counted, so that what came and went between two looks is told too.
            if losses > seen.redis_losses {
                let why = stats.error().map_or_else(String::new, |error| format!(": {error}"));
                marks.push((MarkKind::RedisLost, stats.changed(), format!("Redis lost{why}")));
                seen.is_redis_lost = true;
            }
            if is_up && seen.is_redis_lost {
                marks.push((MarkKind::RedisBack, stats.changed(), "Redis is back".to_owned()));
                seen.is_redis_lost = false;
            }
            seen.redis_losses = losses;
            seen.ping(self.tick(now) / 6, stats.ping_ms().filter(|_| is_up));
        }
        if is_draining && !seen.is_draining {
            seen.is_draining = true;
            marks.push((MarkKind::Drain, None, "drain began".to_owned()));
        }
        drop(seen);
        for (kind, at, text) in marks {
            self.mark_at(at.unwrap_or_else(SystemTime::now), kind, text);
        }
    }

    pub(in crate::telemetry) fn mark_at(&self, at: SystemTime, kind: MarkKind, text: String) {
        let mut all = self.marks.all.lock();
        let is_alike = |mark: &Mark| mark.kind.is_of_alert() == kind.is_of_alert();
        if all.iter().filter(|mark| is_alike(mark)).count() >= KEPT
            && let Some(oldest) = all.iter().position(is_alike)
        {
            all.remove(oldest);
        }
        all.push_back(Mark { at, kind, text });
    }
}

impl Seen {
    fn look_at(&mut self, stats: &UpstreamStats, marks: &mut Vec<(MarkKind, Option<SystemTime>, String)>) {
        let (name, is_up, breaker) = (stats.name(), stats.is_up(), stats.breaker());
        let known = self.upstreams.iter_mut().find(|(known, ..)| known == name);
        let Some((_, was_up, was)) = known else {
            self.upstreams.push((name.to_owned(), is_up, breaker));
            return;
        };
        match (*was_up, is_up) {
            (Some(true), Some(false)) => {
                marks.push((MarkKind::BackendLost, stats.down_since(), format!("{name} fails its checks")));
            }
            (Some(false), Some(true)) => {
                marks.push((MarkKind::BackendBack, None, format!("{name} answers its checks again")));
            }
            _ => {}
        }
        if *was != breaker {
            let at = stats.breaker_since();
            marks.push((MarkKind::Breaker, at, format!("breaker of {name}: {}", breaker.as_str())));
        }
        (*was_up, *was) = (is_up, breaker);
    }

    fn ping(&mut self, minute: u32, ping: Option<f64>) {
        match self.pings.back_mut() {
            Some((at, worst)) if *at == minute => {
                *worst = worst.take().into_iter().chain(ping).reduce(f64::max);
            }
            _ => self.pings.push_back((minute, ping)),
        }
        while self.pings.len() > MINUTES as usize {
            self.pings.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::Instant;

    use super::MarkKind;
    use crate::{
        config,
        telemetry::{BreakerState, Facts, RedisStats, Telemetry},
    };

    fn kinds(telemetry: &Telemetry) -> Vec<MarkKind> {
        telemetry.marks().iter().map(|mark| mark.kind).collect()
    }

    #[test]
    fn each_change_leaves_one_mark() {
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        let redis = Arc::new(RedisStats::new("redis:6379"));
        telemetry.watch_redis(Arc::clone(&redis));
        let backend = telemetry.upstream("backend");
        let look = |draining| telemetry.look_around(Instant::now(), draining);
        look(false);
        let started = telemetry.marks().len();

        redis.set_up(true, None);
        backend.set_up(true, Some(1.0));
        look(false);
        redis.set_up(false, Some("connection refused".to_owned()));
        backend.set_up(false, None);
        backend.set_breaker(BreakerState::Open);
        look(false);
        look(false);
        redis.set_up(true, None);
        look(true);
        look(true);

        // In the order in which they happened.
        let expected = [
            MarkKind::RedisLost,
            MarkKind::BackendLost,
            MarkKind::Breaker,
            MarkKind::RedisBack,
            MarkKind::Drain,
        ];
        assert_eq!(kinds(&telemetry)[started..], expected);
        assert!(telemetry.marks().iter().any(|mark| mark.text == "Redis lost: connection refused"));
    }

    #[test]
    fn a_redis_that_came_and_went_between_two_looks_leaves_its_marks() {
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        let redis = Arc::new(RedisStats::new("redis:6379"));
        telemetry.watch_redis(Arc::clone(&redis));
        let look = || telemetry.look_around(Instant::now(), false);
        look();
        let started = telemetry.marks().len();

        redis.set_up(true, None);
        redis.set_up(false, Some("connection refused".to_owned()));
        look();
        assert_eq!(kinds(&telemetry)[started..], [MarkKind::RedisLost]);

        redis.set_up(true, None);
        look();
        redis.set_up(false, Some("connection refused".to_owned()));
        redis.set_up(true, None);
        look();
        let (lost, back) = (MarkKind::RedisLost, MarkKind::RedisBack);
        assert_eq!(kinds(&telemetry)[started..], [lost, back, lost, back]);
    }

    #[test]
    fn alerts_have_their_own_room_and_stand_in_order() {
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        telemetry.mark(MarkKind::Purge, "purge of all");
        let start = telemetry.marks()[0].at;
        for second in 0..200 {
            let kind = if second % 2 == 0 { MarkKind::Alert } else { MarkKind::Resolved };
            telemetry.mark_at(start + Duration::from_secs(second), kind, second.to_string());
        }
        telemetry.mark_at(start + Duration::from_secs(190), MarkKind::RedisLost, "Redis lost".to_owned());

        let marks = telemetry.marks();
        assert_eq!(marks.iter().filter(|mark| mark.kind.is_of_alert()).count(), 64);
        assert!(marks.iter().any(|mark| mark.text == "purge of all"), "it is still there");
        assert!(marks.is_sorted_by_key(|mark| mark.at));
        assert_eq!(marks.last().unwrap().text, "199");
        for number in 0..80 {
            telemetry.mark(MarkKind::Reload, number.to_string());
        }
        let marks = telemetry.marks();
        assert_eq!(marks.iter().filter(|mark| mark.kind == MarkKind::Reload).count(), 64);
        assert_eq!(marks.len(), 128);
    }

    #[test]
    fn a_redis_that_never_answered_is_no_loss() {
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        let redis = Arc::new(RedisStats::new("redis:6379"));
        telemetry.watch_redis(Arc::clone(&redis));
        let started = telemetry.marks().len();

        redis.set_up(false, Some("connection refused".to_owned()));
        telemetry.look_around(Instant::now(), false);
        redis.set_up(true, None);
        telemetry.look_around(Instant::now(), false);

        assert_eq!(telemetry.marks().len(), started);
    }

    #[test]
    fn a_minute_keeps_its_slowest_answer_and_is_empty_only_without_any() {
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        let redis = Arc::new(RedisStats::new("redis:6379"));
        telemetry.watch_redis(Arc::clone(&redis));
        redis.set_up(true, None);
        redis.set_ping(500);
        telemetry.look_around(Instant::now(), false);
        redis.set_ping(1500);
        telemetry.look_around(Instant::now(), false);

        let now = Instant::now();
        assert_eq!(telemetry.redis_minutes(now).last(), Some(&Some(1.5)));
        // One that is missing takes away nothing that was seen, and hides nothing that comes.
        redis.set_up(false, None);
        telemetry.look_around(now, false);
        assert_eq!(telemetry.redis_minutes(now).last(), Some(&Some(1.5)));
        redis.set_up(true, None);
        redis.set_ping(2500);
        telemetry.look_around(now, false);
        assert_eq!(telemetry.redis_minutes(now).last(), Some(&Some(2.5)));

        redis.set_up(false, None);
        let later = now + Duration::from_secs(60);
        telemetry.look_around(later, false);
        let minutes = telemetry.redis_minutes(later);
        assert_eq!(minutes[13..], [Some(2.5), None], "nothing answered in the last one");
        assert_eq!(minutes[..13], [None; 13]);
        // An answer after a minute of silence begins the next one.
        redis.set_up(true, None);
        redis.set_ping(700);
        telemetry.look_around(later, false);
        assert_eq!(telemetry.redis_minutes(later).last(), Some(&Some(0.7)));
    }
}
