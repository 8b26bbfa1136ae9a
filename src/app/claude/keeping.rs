//! Keeps the counts of calls to Claude in Redis while the process runs, so that the next one in its pod goes on from them.
//!
//! All of it is beside the calls, and fails open: without Redis the process counts as if there were none. Nothing is
//! written before what was left there has been read, and nothing is read twice.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::counts;
use crate::{
    cache::{Cache, HeldNote, OpenedNote},
    config::{self, Config},
    net::drain::{Drain, Phase},
    telemetry::claude::ClaudeStats,
};

/// How often what has changed is written.
const BEAT: Duration = Duration::from_secs(2);

/// How often Redis is looked for at first, and after [`QUICK`].
const SOON: Duration = Duration::from_millis(10);
const LATER: Duration = Duration::from_millis(500);
const QUICK: Duration = Duration::from_secs(5);

/// How often it is written while the last calls end: they may be cut, and nothing is written after that.
const LAST_BEAT: Duration = Duration::from_millis(200);

/// How often the end of the last call is looked for.
const STEP: Duration = Duration::from_millis(10);

/// How long the process of our name that was there before is waited for. It has ended by then, unless there are two.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long counts are kept that nobody goes on from.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What keeps the counts of this process.
struct Keeper {
    cache: Arc<Cache>,
    stats: Arc<ClaudeStats>,
    name: String,
    state: State,
}

enum State {
    /// What was left is not read yet. With it the time at which somebody else was seen to hold our name.
    Closed(Option<Instant>),
    /// Read; what is in Redis now, as far as is known.
    Open(Option<Vec<u8>>),
    /// Another process has our name.
    GivenUp,
}

/// The name that counts are kept under: that of the pod, and the address where calls are taken, as two processes in one
/// network cannot share it. None where the host has no name.
pub(in crate::app) fn note_name(config: &Config) -> Option<String> {
    let host = config::host_name();
    let section = config.claude.as_ref().filter(|_| !host.is_empty())?;
    Some(format!("claude:{host}:{}", section.listen))
}

/// Keeps the counts until all tasks but `others` and this one have ended.
pub(in crate::app) fn spawn(
    cache: &Arc<Cache>,
    stats: Arc<ClaudeStats>,
    name: String,
    others: usize,
    drain: &Drain,
) {
    let mut keeper = Keeper { cache: Arc::clone(cache), stats, name, state: State::Closed(None) };
    let (mut closing, tasks, mut is_closing) = (drain.reached(Phase::Closing), drain.clone(), false);
    drain.spawn(async move {
        let start = Instant::now();
        loop {
            let is_last = is_closing && tasks.tasks() <= others + 1;
            keeper.step().await;
            if is_last {
                keeper.leave().await;
                return;
            }
            let next = Instant::now() + if is_closing { LAST_BEAT } else { keeper.pause(start) };
            while Instant::now() < next && !(is_closing && tasks.tasks() <= others + 1) {
                let rest = next.saturating_duration_since(Instant::now());
                let rest = if is_closing { rest.min(STEP) } else { rest };
                tokio::select! {
                    () = &mut closing, if !is_closing => { is_closing = true; break; }
                    () = tokio::time::sleep(rest) => {}
                }
            }
        }
    });
}

impl Keeper {
    async fn step(&mut self) {
        match &self.state {
            State::Closed(taken) => {
                let taken = *taken;
                self.open(taken).await;
            }
            State::Open(_) => self.save().await,
            State::GivenUp => {}
        }
    }

    fn pause(&self, start: Instant) -> Duration {
        match self.state {
            State::Closed(None) if start.elapsed() < QUICK => SOON,
            State::Closed(_) => LATER,
            State::Open(_) | State::GivenUp => BEAT,
        }
    }

    async fn open(&mut self, taken: Option<Instant>) {
        match self.cache.open_note(&self.name).await {
            None => {}
            Some(OpenedNote::Taken) => {
                let since = taken.unwrap_or_else(Instant::now);
                self.state = State::Closed(Some(since));
                if since.elapsed() >= PATIENCE {
                    self.give_up();
                }
            }
            Some(OpenedNote::Ours(left)) => {
                if let Some(bytes) = &left {
                    self.go_on_from(bytes);
                }
                self.state = State::Open(left);
            }
        }
    }

    fn go_on_from(&self, bytes: &[u8]) {
        match counts::decode(&self.name, bytes) {
            Ok(kept) => {
                // Calls may have ended since the start: nothing of them is lost.
                self.stats.note(|totals| counts::join(totals, &kept));
                info!(calls = kept.all.calls, "counts of calls to claude go on from before the restart");
            }
            Err(error) => {
                warn!(%error, "the counts of calls to claude in redis are ignored; they begin at zero");
            }
        }
    }

    async fn save(&mut self) {
        let is_there = match self.cache.hold_note(&self.name, LIFE).await {
            None => return,
            Some(HeldNote::Taken) => return self.give_up(),
            Some(held) => held == HeldNote::There,
        };
        let bytes = counts::encode(&self.name, &self.stats.totals());
        let State::Open(saved) = &mut self.state else { return };
        if is_there && saved.as_deref() == Some(&bytes) {
            return;
        }
        if self.cache.write_note(&self.name, &bytes, LIFE).await {
            *saved = Some(bytes);
        } else {
            debug!("the counts of calls to claude were not written");
        }
    }

    fn give_up(&mut self) {
        self.state = State::GivenUp;
        warn!(
            name = self.name,
            "another process keeps its counts of calls to claude under this name; ours end with this process"
        );
    }

    async fn leave(&self) {
        if matches!(self.state, State::Open(_)) {
            self.cache.leave_note(&self.name).await;
        }
    }
}
