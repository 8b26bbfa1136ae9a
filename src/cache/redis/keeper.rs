//! Keeps the tier: connects, reads the purges that others made before anything is read from Redis, listens, and begins
//! again when it is lost. While it is lost nobody asks; trying again costs no request anything.

use std::{collections::HashMap, time::Duration};

use redis::{PushInfo, PushKind};
use tokio::{
    sync::mpsc::{Receiver, channel},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, warn};

use super::{
    fault::{fault_of, words_of},
    mark::Mark,
    position::MarkId,
    server::{Conn, Unreached},
    tier::{Failed, LATE, RedisTier},
};
use crate::{
    cache::{key::KeyMaker, memory::MemoryTier, purge::Marks, scope::Scope},
    telemetry::RedisFault,
};

/// The pause before the next try: at least this, doubling up to the longest, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// How often the purges of others are read even if nobody told of one. With the time to read them it is how late a purge
/// can be where news get lost.
const TICK: Duration = Duration::from_millis(400);

/// How often Sentinels are asked whether another server takes the writes: the old one may answer for a while.
const LOOK: Duration = Duration::from_secs(1);

/// A tier that was there for so long is found again at once; one that comes and goes is left alone for longer each time.
const STEADY: Duration = Duration::from_secs(10);

/// Marks that are read at once, and pending ones that are written at once.
const BATCH: usize = 512;

/// Marks that the stream holds. Redis trims it in whole blocks, so it may hold somewhat more, never less.
const MAX_MARKS: usize = 20_000;

/// News that wait to be read. What is lost beyond it is found at the next tick, or when the entry ends.
const NEWS: usize = 4096;

/// The longest key that is believed in the news.
const MAX_KEY: usize = 64 * 1024;

/// An entry of the stream.
type Line = (String, HashMap<Vec<u8>, Vec<u8>>);

/// What purges and replaced entries are applied to.
#[derive(Clone, Copy)]
pub(in crate::cache) struct Kept<'a> {
    pub(in crate::cache) marks: &'a Marks,
    pub(in crate::cache) memory: &'a MemoryTier,
    pub(in crate::cache) maker: &'a KeyMaker,
    /// How long an entry may live: as long as its marks are of use.
    pub(in crate::cache) life_ms: u64,
}

impl RedisTier {
    /// Keeps the tier for ever. Dropping the future is safe; the tier is then as good as lost.
    pub(in crate::cache) async fn keep(&self, kept: Kept<'_>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.open_all(kept).await {
                Ok((mut listening, mut pushes)) => {
                    let start = Instant::now();
                    let beside = listening.clone();
                    tokio::select! {
                        () = self.attend(kept, &mut listening, &mut pushes) => {}
                        // Never ends by itself.
                        () = self.read_info(beside) => {}
                    }
                    let is_steady = start.elapsed() >= STEADY;
                    pause = if is_steady { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
                }
                Err(Failed) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            sleep(jittered(pause)).await;
        }
    }

    /// Connects, and catches up with the purges of others.
    async fn open_all(&self, kept: Kept<'_>) -> Result<(Conn, Receiver<PushInfo>), Failed> {
        let (news, pushes) = channel(NEWS);
        let mut connections = match self.server.connect(self.queues.len(), news).await {
            Ok(connections) => connections,
            Err(Unreached::Late) => {
                self.unreached(RedisFault::Timeout, LATE);
                return Err(Failed);
            }
            Err(Unreached::Refused(error)) => {
                self.unreached(fault_of(&error), &words_of(&error));
                return Err(Failed);
            }
        };
        let Some(mut listening) = connections.pop() else { return Err(Failed) };
        let subscribed = self.within(self.server.patience(), listening.subscribe(&self.names.events)).await;
        if subscribed.is_err() {
            // Without news purges are still read at every tick, and entries of others when ours end.
            debug!("redis lets nobody subscribe");
        }
        self.check_floor(kept, &mut listening).await?;
        self.catch_up(kept, &mut listening).await?;
        self.flush_over(kept, &mut listening).await?;
        self.try_out(&connections).await?;
        if let Some(mut connection) = connections.first().cloned() {
            self.bring_sums(&mut connection).await;
        }
        self.found(connections);
        Ok((listening, pushes))
    }

    /// Whether each connection answers as fast as requests need it, and whether the server takes writes: a tier that is
    /// lost again at the first request had better not be found.
    async fn try_out(&self, connections: &[Conn]) -> Result<(), Failed> {
        for (index, connection) in connections.iter().enumerate() {
            let mut connection = connection.clone();
            let mut probe = redis::cmd("SET");
            probe.arg(self.names.probe(&self.replica, index)).arg(1).arg("PX").arg(1000);
            let tried =
                tokio::time::timeout(self.settings.operation, probe.query_async::<()>(&mut connection));
            let (fault, why) = match tried.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => (fault_of(&error), words_of(&error)),
                Err(_) => (RedisFault::Timeout, LATE.to_owned()),
            };
            // What there is no room to write can still be read.
            if fault != RedisFault::Oom {
                self.unreached(fault, &why);
                return Err(Failed);
            }
            self.stats.failed(fault);
        }
        Ok(())
    }

    /// A try that failed while the tier was not there: counted, and told once.
    fn unreached(&self, fault: RedisFault, why: &str) {
        self.stats.failed(fault);
        let is_first = self.stats.error().is_none();
        self.stats.set_up(false, Some(why.to_owned()));
        if is_first {
            warn!(address = self.stats.address(), why, "redis is not reached; the cache goes on in memory");
        } else {
            debug!(address = self.stats.address(), why, "redis is still not reached");
        }
    }

    /// Listens until the tier is lost.
    async fn attend(&self, kept: Kept<'_>, listening: &mut Conn, pushes: &mut Receiver<PushInfo>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.lost.notified() => {}
                push = pushes.recv() => match push {
                    Some(push) => self.hear(kept, listening, &push).await,
                    None => self.lose("the connection was closed"),
                },
                _ = look.tick(), if self.server.can_move() => {
                    if self.server.has_moved().await {
                        self.lose("another server takes the writes now");
                    }
                }
                () = self.wanted.notified() => { let _ = self.flush_over(kept, listening).await; }
                _ = tick.tick() => {
                    let start = Instant::now();
                    match self.catch_up(kept, listening).await {
                        Ok(()) => {
                            self.stats.set_ping(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
                        }
                        // Whoever does not hear of purges must not go on as if there were none.
                        Err(Failed) => self.lose("purges cannot be read"),
                    }
                    if !self.pending.lock().is_empty() {
                        let _ = self.flush_over(kept, listening).await;
                    }
                }
            }
            if !self.is_up() {
                return;
            }
        }
    }

    /// Takes a message that Redis pushed.
    async fn hear(&self, kept: Kept<'_>, listening: &mut Conn, push: &PushInfo) {
        match push.kind {
            PushKind::Disconnection => self.lose("the connection was closed"),
            PushKind::Message => {
                let Some(redis::Value::BulkString(news)) = push.data.get(1) else { return };
                match news.split_first() {
                    Some((b'm', by)) if by != self.replica => {
                        let _ = self.catch_up(kept, listening).await;
                    }
                    Some((b'r', rest)) => {
                        let Some((by, parts)) = rest.split_first_chunk::<16>() else { return };
                        if *by != self.replica && parts.len() <= MAX_KEY {
                            kept.memory.forget(&kept.maker.of_parts(parts));
                            // An answer that has come to vary takes the place of the one for all.
                            if let Some(resource) = kept.maker.of_variant(parts) {
                                kept.memory.forget_entry(&resource);
                            }
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Writes the pending purges, and reads what others wrote meanwhile. True when none is pending any more.
    pub(in crate::cache) async fn flush(&self, kept: Kept<'_>) -> bool {
        if self.pending.lock().is_empty() {
            return true;
        }
        let Some(mut connection) = self.connection(0) else { return false };
        let flushed = self.ask(async { Ok(self.flush_over(kept, &mut connection).await) }).await;
        matches!(flushed, Ok(Ok(())))
    }

    async fn flush_over(&self, kept: Kept<'_>, connection: &mut Conn) -> Result<(), Failed> {
        let _turn = self.flushing.lock().await;
        loop {
            let batch: Vec<Mark> = self.pending.lock().iter().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return Ok(());
            }
            let mut commands = redis::pipe();
            for mark in &batch {
                let add = commands
                    .cmd("XADD")
                    .arg(&self.names.marks)
                    .arg("MAXLEN")
                    .arg("~")
                    .arg(MAX_MARKS)
                    .arg("*");
                for (name, value) in mark.fields() {
                    add.arg(name).arg(value);
                }
                add.ignore();
            }
            commands.cmd("PEXPIRE").arg(&self.names.marks).arg(mark_life_ms(kept)).ignore();
            self.within(self.server.patience(), commands.query_async::<()>(connection)).await?;
            // They count as written only once they are read back, in their order among those of others.
            self.catch_up(kept, connection).await?;
            let left = {
                let mut pending = self.pending.lock();
                // If they were too many meanwhile, others stand there for them.
                for mark in &batch {
                    if pending.front() != Some(mark) {
                        break;
                    }
                    pending.pop_front();
                }
                pending.len()
            };
            self.stats.pending_purges.set(i64::try_from(left).unwrap_or(i64::MAX));
            let news = [b"m".as_slice(), &self.replica].concat();
            self.tell(connection, &news).await?;
        }
    }

    /// Tells the other replicas something. Where the server lets nobody publish they hear of purges at their next tick, and
    /// of entries when their own end: no reason to go without the tier.
    pub(super) async fn tell(&self, connection: &mut Conn, news: &[u8]) -> Result<(), Failed> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.names.events).arg(news);
        let told = async {
            match publish.query_async::<()>(connection).await {
                Err(error) if fault_of(&error) == RedisFault::Auth => {
                    self.stats.failed(RedisFault::Auth);
                    Ok(())
                }
                told => told,
            }
        };
        self.within(self.server.patience(), told).await
    }

    /// Reads the marks since the last one that was read.
    async fn catch_up(&self, kept: Kept<'_>, connection: &mut Conn) -> Result<(), Failed> {
        loop {
            let after = self.position.lock().newest();
            let mut commands = redis::pipe();
            let range = |command: &mut redis::Pipeline, from: &str, to: &str, most: usize| {
                command.arg(&self.names.marks).arg(from).arg(to).arg("COUNT").arg(most);
            };
            let at = after.to_string();
            range(commands.cmd("XRANGE"), &format!("({at}"), "+", BATCH);
            range(commands.cmd("XRANGE"), &at, &at, 1);
            range(commands.cmd("XREVRANGE"), "+", "-", 1);
            let asked = commands.query_async::<(Vec<Line>, Vec<Line>, Vec<Line>)>(connection);
            let (lines, same, last) = self.within(self.server.patience(), asked).await?;
            let newest = last.first().and_then(|(id, _)| MarkId::parse(id));
            let is_lost = newest.is_some_and(|newest| newest < after)
                || (same.is_empty() && self.is_missed(after, mark_life_ms(kept)));
            if is_lost {
                // Redis is back with an older state, another server is in its place, or it threw the marks out for room:
                // purges are lost, and what they ended may be there again, or still.
                self.position.lock().reset();
                let announcing = self.announcing();
                let generation = kept.marks.purge(&Scope::All, false, self.clock.now_ms());
                announcing.add(&Scope::All, false, generation);
                continue;
            }
            let is_all = lines.len() < BATCH;
            self.apply(kept, &lines);
            if is_all {
                return Ok(());
            }
        }
    }

    /// Whether a mark that was read and is not there any more should be: it was neither trimmed nor at the end of its life.
    fn is_missed(&self, mark: MarkId, life_ms: u64) -> bool {
        mark != MarkId::default()
            && self.clock.wall_ms() < mark.ms.saturating_add(life_ms)
            && !self.position.lock().is_trimmed(mark)
    }

    /// Applies marks in the order of the stream.
    fn apply(&self, kept: Kept<'_>, lines: &[Line]) {
        let now_ms = self.clock.now_ms();
        let mut position = self.position.lock();
        for (id, fields) in lines {
            let Some(id) = MarkId::parse(id).filter(|id| *id > position.newest()) else { continue };
            let mark = Mark::read(fields);
            // Ours are in force already, unless one of another replica came between, which must not hide them.
            let is_in_force = mark.by == self.replica && mark.at.number() > position.last();
            let generation =
                if is_in_force { mark.at } else { kept.marks.purge(&mark.scope, mark.soft, now_ms) };
            position.step(id, generation);
        }
    }

    /// Finds out whether marks were trimmed that have not been read here.
    async fn check_floor(&self, kept: Kept<'_>, connection: &mut Conn) -> Result<(), Failed> {
        let mut commands = redis::pipe();
        commands
            .cmd("XLEN")
            .arg(&self.names.marks)
            .cmd("XRANGE")
            .arg(&self.names.marks)
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(1);
        let asked = commands.query_async::<(usize, Vec<Line>)>(connection);
        let (length, first) = self.within(self.server.patience(), asked).await?;
        let Some(first) = first.first().and_then(|(id, _)| MarkId::parse(id)) else { return Ok(()) };
        if length >= MAX_MARKS {
            let newest = {
                let mut position = self.position.lock();
                position.raise_floor(first);
                position.newest()
            };
            if newest != MarkId::default() && newest < first {
                kept.marks.purge(&Scope::All, false, self.clock.now_ms());
            }
        }
        Ok(())
    }
}

/// How long the marks are kept after the last of them.
fn mark_life_ms(kept: Kept<'_>) -> u64 {
    kept.life_ms.min(u64::from(u32::MAX))
}

/// A pause, up to half of it longer, so that replicas do not all come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 0 };
    pause + pause * share / 512
}

#[cfg(test)]
mod tests {
    use redis::{Value, from_redis_value};

    use super::Line;

    #[test]
    fn a_mark_whose_fields_are_no_text_is_read_like_any_other() {
        let text = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let fields = vec![text(b"what"), text(b"moon"), text(b"\xff"), text(b"\xfe")];
        let stream = Value::Array(vec![Value::Array(vec![text(b"5-1"), Value::Array(fields)])]);

        let lines: Vec<Line> = from_redis_value(stream).unwrap();

        assert_eq!(lines[0].0, "5-1");
        assert_eq!(lines[0].1[&b"\xff"[..]], b"\xfe");
    }
}
