//! Threads and runtimes: how many, of which kind, and how long they are waited for at the end.

use std::{
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};
use tracing::warn;

use crate::{
    config::{self, RuntimeMode},
    net::drain::{Drain, Phase},
    telemetry::Telemetry,
    upstream::Upstream,
};

/// Workers without a word from the configuration or a CPU quota: enough for a sidecar on a large node.
const DEFAULT_WORKERS: usize = 2;

/// How often a worker shows that its loop turns, and how late that may be before it counts as stuck.
const BEAT: Duration = Duration::from_secs(1);
const STUCK: Duration = Duration::from_secs(10);

/// How often a task that is to end last looks for others, and how long it may take when it is alone.
const STEP: Duration = Duration::from_millis(10);
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long what is cut may take for its last word, at the end of `drain.timeout` and when somebody is in a hurry.
const PARTING: Duration = Duration::from_millis(250);
const HURRIED_PARTING: Duration = Duration::from_millis(30);

/// How often gauges that are read and not counted are brought up to date.
const REFRESH: Duration = Duration::from_secs(1);

/// How often telemetry looks for changes of state: what is shorter leaves no mark.
const LOOK: Duration = Duration::from_secs(1);

/// How many workers serve clients: as configured, else the CPU quota rounded up, else two but never more than cores.
pub(super) fn count(runtime: &config::Runtime) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let chosen = runtime.workers.map(usize::from).or_else(config::cpu_quota);
    chosen.unwrap_or_else(|| cores.min(DEFAULT_WORKERS)).max(1)
}

/// The runtime of one ingress thread: its own loop per core, or one loop with several threads for all.
pub(super) fn ingress_runtime(mode: RuntimeMode, workers: usize) -> io::Result<Runtime> {
    match mode {
        RuntimeMode::PerCore => operator_runtime(),
        RuntimeMode::Shared => {
            Builder::new_multi_thread().worker_threads(workers).thread_name("ingress").enable_all().build()
        }
    }
}

/// The runtime of what is not on a request's way.
pub(super) fn operator_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs a thread: sets up, says so, and stays until nothing is in flight any more or time is up.
pub(super) fn run(
    runtime: io::Result<Runtime>,
    ready: SyncSender<anyhow::Result<()>>,
    pace: &Pace,
    drain: &Drain,
    set_up: impl FnOnce() -> anyhow::Result<()>,
) {
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error.into()));
            return;
        }
    };
    runtime.block_on(async {
        let result = set_up();
        let is_up = result.is_ok();
        // The other end is gone when another thread failed first.
        let _ = ready.send(result);
        drop(ready);
        if !is_up {
            return;
        }
        drain.reached(Phase::Closing).await;
        tokio::select! {
            () = drain.finished() => return,
            () = drain.reached(Phase::Cutting) => {}
            () = tokio::time::sleep_until(pace.deadline()) => if pace.is_first_to_cut() {
                warn!(left = drain.tasks(), "drain.timeout is over; cutting what is still in flight");
            }
        }
        drain.advance(Phase::Cutting);
        // WebSockets are told that we leave; what else is left has nothing to say.
        let _ = tokio::time::timeout(pace.parting(), drain.finished()).await;
    });
    runtime.shutdown_background();
}

/// Keeps the pace of shutdown, for the thread that waits and for those that are waited for.
pub(super) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    begun: Option<Instant>,
    deadline: Instant,
    is_hurried: bool,
    has_cut: bool,
    is_handed_over: bool,
}

impl Default for Pace {
    fn default() -> Self {
        let state = State {
            begun: None,
            deadline: Instant::now(),
            is_hurried: false,
            has_cut: false,
            is_handed_over: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Pace {
    /// Begins the drain, unless it has begun, and returns when it did.
    pub(super) fn begin(&self, drain: &Drain) -> Instant {
        let begun = *self.state.lock().begun.get_or_insert_with(Instant::now);
        drain.advance(Phase::Draining);
        begun
    }

    /// Leaves the clients to another process: listeners close, and open connections are asked to leave. False if this
    /// process was leaving already.
    pub(super) fn hand_over(&self, drain: &Drain, egress: &Drain) -> bool {
        {
            let mut state = self.state.lock();
            if state.is_handed_over || drain.is_closing() {
                return false;
            }
            state.is_handed_over = true;
        }
        self.begin(drain);
        drain.advance(Phase::Shut);
        egress.advance(Phase::Shut);
        true
    }

    /// True once another process has the clients.
    pub(super) fn is_handed_over(&self) -> bool {
        self.state.lock().is_handed_over
    }

    /// Blocks for `time`, or until somebody is in a hurry. False in that case.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.is_hurried {
            self.changed.wait_for(&mut state, time);
        }
        !state.is_hurried
    }

    /// Ends all waiting.
    pub(super) fn hurry(&self, drain: &Drain) {
        // Before the phase, which threads wait for: they then read how long they may take.
        self.state.lock().is_hurried = true;
        drain.advance(Phase::Cutting);
        self.changed.notify_all();
    }

    fn parting(&self) -> Duration {
        if self.state.lock().is_hurried { HURRIED_PARTING } else { PARTING }
    }

    /// True once: one thread tells for all.
    fn is_first_to_cut(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().has_cut, true)
    }

    /// Sets the time at which what is in flight is cut.
    pub(super) fn close(&self, deadline: Instant) {
        self.state.lock().deadline = deadline;
    }

    fn deadline(&self) -> Instant {
        self.state.lock().deadline
    }
}

/// Shows that the workers' loops turn.
pub(super) struct Beats {
    start: Instant,
    last_ms: Vec<AtomicU64>,
}

impl Beats {
    pub(super) fn new(workers: usize) -> Self {
        Self { start: Instant::now(), last_ms: (0..workers).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Beats on the calling runtime until shutdown.
    pub(super) fn spawn(self: &Arc<Self>, index: usize, drain: &Drain) {
        let beats = Arc::clone(self);
        let mut closing = drain.reached(Phase::Closing);
        drain.spawn(async move {
            loop {
                if let Some(last) = beats.last_ms.get(index) {
                    last.store(beats.now_ms().max(1), Ordering::Relaxed);
                }
                tokio::select! {
                    () = &mut closing => return,
                    () = tokio::time::sleep(BEAT) => {}
                }
            }
        });
    }

    /// True while no worker that ever beat has been silent for too long.
    pub(super) fn are_regular(&self) -> bool {
        let now = self.now_ms();
        self.last_ms
            .iter()
            .map(|last| last.load(Ordering::Relaxed))
            .all(|last| last == 0 || u128::from(now.saturating_sub(last)) < STUCK.as_millis())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Runs one of `own` tasks that work for all others until none of those is left, and then until `is_done` or for as long as
/// last words take.
pub(super) fn spawn_until_last(
    drain: &Drain,
    own: usize,
    is_done: impl Fn() -> bool + Send + Sync + 'static,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let (closing, others) = (drain.reached(Phase::Closing), drain.clone());
    drain.spawn(async move {
        let last = async {
            closing.await;
            while others.tasks() > own {
                tokio::time::sleep(STEP).await;
            }
            let done = async {
                while !is_done() {
                    tokio::time::sleep(STEP).await;
                }
            };
            // Those who wait for the process to end wait no longer for a Redis that does not answer.
            let _ = tokio::time::timeout(LAST_WORDS, done).await;
        };
        tokio::select! {
            () = last => {}
            () = task => {}
        }
    });
}

/// Has telemetry look for changes of state until the process ends.
pub(super) fn spawn_looking_around(telemetry: Arc<Telemetry>, drain: &Drain) {
    let (mut closing, looked) = (drain.reached(Phase::Closing), drain.clone());
    drain.spawn(async move {
        loop {
            telemetry.look_around(Instant::now(), looked.is_draining());
            tokio::select! {
                () = &mut closing => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    });
}

/// Brings the gauges of an upstream up to date until shutdown.
pub(super) fn spawn_refreshing(upstream: Arc<Upstream>, drain: &Drain) {
    let mut closing = drain.reached(Phase::Closing);
    drain.spawn(async move {
        loop {
            upstream.refresh_stats();
            tokio::select! {
                () = &mut closing => return,
                () = tokio::time::sleep(REFRESH) => {}
            }
        }
    });
}
