//! The way to one receiver: a bounded queue, one message at a time, again and again until it is taken.
//!
//! A message leaves the queue when the receiver has taken it, or says that it never will. Each receiver has a queue and
//! a sender of its own, so that one that hangs holds up no other.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{
    format::{Sender, render},
    notice::Message,
};
use crate::{
    config::{AlertSeverity, ReceiverKind},
    telemetry::{Counter, labels::labels},
};

/// Messages that wait for a receiver.
pub(super) const QUEUE: usize = 256;
/// How long the receiver may take for one.
const DEADLINE: Duration = Duration::from_secs(10);
/// The first and the longest rest after a failure.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long all of it may take at the end of the process.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The future of [`Post::post`], behind a pointer so that the trait can be used as an object.
pub type Posting<'a> = Pin<Box<dyn Future<Output = Result<(), PostError>> + Send + 'a>>;

/// Brings bytes to one receiver.
pub trait Post: Send + Sync + 'static {
    /// Posts a JSON body once. `id` is the same whenever the same message is sent again.
    fn post<'a>(&'a self, body: Bytes, id: &'a str) -> Posting<'a>;
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// There was no answer. The words name neither address nor secret.
    #[error("no answer: {0}")]
    Unreachable(&'static str),
    /// The receiver answered with a status that is not 2xx.
    #[error("the receiver answered {0}")]
    Status(u16),
}

impl PostError {
    /// Whether the same message may be taken later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status(status) => matches!(status, 408 | 425 | 429 | 500..),
        }
    }
}

labels! {
    /// What became of messages and tries.
    pub enum Outcome {
        /// The receiver took a message.
        Delivered = "delivered",
        /// A try failed; the message is sent again.
        Retried = "retried",
        /// The receiver refused a message for good.
        Refused = "refused",
        /// A message was dropped because too many waited.
        Lost = "lost",
    }
}

/// How a receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// Nothing was sent yet.
    Idle,
    /// The last message was taken.
    Ok,
    /// The last try failed.
    Failing,
}

impl ChannelState {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ok => "ok",
            Self::Failing => "failing",
        }
    }
}

/// The way to one receiver.
pub struct Channel {
    name: Arc<str>,
    kind: ReceiverKind,
    way: Mutex<Arc<Way>>,
    /// Set when the receiver is configured no longer.
    is_retired: AtomicBool,
    queue: Mutex<VecDeque<Waiting>>,
    wake: Notify,
    outcomes: [Counter; Outcome::COUNT],
    state: Mutex<State>,
    /// The beginning of the names of messages.
    series: u64,
    unix: Clock,
}

/// Milliseconds since 1970, from a clock that never jumps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_ms: u64::try_from(since.as_millis()).unwrap_or(0) }
    }

    pub(super) fn ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_millis();
        self.start_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// How the receiver is told, by the configuration in force.
struct Way {
    least: AlertSeverity,
    sender: Sender,
    post: Arc<dyn Post>,
}

struct Waiting {
    number: u64,
    message: Message,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    last_success: Option<SystemTime>,
    last_error: Option<String>,
    is_failing: bool,
}

/// What is shown of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Its name.
    pub name: Arc<str>,
    /// What it gets.
    pub kind: ReceiverKind,
    /// How it does.
    pub state: ChannelState,
    /// When it last took a message.
    pub last_success: Option<SystemTime>,
    /// Why the last try failed; none when it did not.
    pub last_error: Option<String>,
    /// Messages that wait.
    pub queued: usize,
    /// Messages that it took.
    pub delivered: u64,
    /// Messages that it will never get.
    pub lost: u64,
}

impl Channel {
    pub(super) fn new(
        (name, kind, least): (&str, ReceiverKind, AlertSeverity),
        sender: Sender,
        post: Arc<dyn Post>,
        unix: Clock,
    ) -> Self {
        Self {
            name: Arc::from(name),
            kind,
            way: Mutex::new(Arc::new(Way { least, sender, post })),
            is_retired: AtomicBool::new(false),
            queue: Mutex::default(),
            wake: Notify::new(),
            outcomes: [const { Counter::new() }; Outcome::COUNT],
            state: Mutex::default(),
            series: crate::telemetry::random(),
            unix,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn kind(&self) -> ReceiverKind {
        self.kind
    }

    pub(super) fn least(&self) -> AlertSeverity {
        self.way().least
    }

    /// Goes on as another one for the same receiver would; what waits is sent that way.
    pub(super) fn renew(&self, other: &Self) {
        let way = other.way();
        *self.way.lock() = way;
        self.wake.notify_one();
    }

    /// Ends [`Self::run`], as the receiver is configured no longer.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Relaxed);
        self.queue.lock().clear();
        self.wake.notify_one();
    }

    fn way(&self) -> Arc<Way> {
        Arc::clone(&self.way.lock())
    }

    /// Messages that wait.
    pub(in crate::telemetry) fn queued(&self) -> usize {
        self.queue.lock().len()
    }

    /// Puts a message at the end of the queue.
    pub(super) fn offer(&self, message: Message) {
        let number = {
            let mut state = self.state.lock();
            state.next += 1;
            state.next
        };
        let mut queue = self.queue.lock();
        if queue.len() >= QUEUE && queue.pop_front().is_some() {
            self.count(Outcome::Lost);
        }
        queue.push_back(Waiting { number, message });
        drop(queue);
        self.wake.notify_one();
    }

    /// Brings messages to the receiver until `closing`, and what waits then within a second. Dropping the future is safe: a
    /// message that was being sent stays in the queue.
    pub async fn run(&self, closing: impl Future<Output = ()>) {
        let mut closing = std::pin::pin!(closing);
        let mut rest = REST.0;
        while !self.is_retired.load(Relaxed) {
            let step = async {
                if self.queued() == 0 {
                    self.wake.notified().await;
                    return;
                }
                if self.send_first().await {
                    rest = REST.0;
                } else {
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(REST.1);
                }
            };
            tokio::select! {
                biased;
                () = &mut closing => break,
                () = step => {}
            }
        }
        let last = async { while self.queued() > 0 && self.send_first().await {} };
        if timeout(LAST_WORDS, last).await.is_err() || self.queued() > 0 {
            let left = self.queued();
            warn!(channel = &*self.name, left, "alert messages were not delivered before the end");
        }
    }

    /// Sends the first message once. False: it has to be sent again.
    async fn send_first(&self) -> bool {
        let Some((number, body)) = self.first() else { return true };
        let id = format!("{:016x}-{number}", self.series);
        let way = self.way();
        let result = timeout(DEADLINE, way.post.post(body, &id)).await;
        let result = result.unwrap_or(Err(PostError::Unreachable("it took longer than 10 s")));
        self.note(&result);
        let is_done = result.as_ref().err().is_none_or(|error| !error.is_retryable());
        if is_done {
            let mut queue = self.queue.lock();
            // It may have been dropped meanwhile, to make room.
            if queue.front().is_some_and(|first| first.number == number) {
                queue.pop_front();
            }
        }
        is_done
    }

    fn first(&self) -> Option<(u64, Bytes)> {
        let queue = self.queue.lock();
        let first = queue.front()?;
        let now_ms = self.unix.ms(Instant::now());
        let body = render(self.kind, &self.name, &first.message, &self.way().sender, now_ms);
        Some((first.number, Bytes::from(body)))
    }

    fn note(&self, result: &Result<(), PostError>) {
        let channel = &*self.name;
        let mut state = self.state.lock();
        let was_failing = state.is_failing;
        match result {
            Ok(()) => {
                state.last_success = Some(SystemTime::now());
                state.last_error = None;
                state.is_failing = false;
                drop(state);
                self.count(Outcome::Delivered);
                if was_failing {
                    info!(channel, "alert messages are delivered again");
                }
            }
            Err(error) => {
                state.last_error = Some(error.to_string());
                state.is_failing = true;
                drop(state);
                if error.is_retryable() {
                    self.count(Outcome::Retried);
                    if !was_failing {
                        warn!(channel, %error, "an alert message was not delivered; it is sent again");
                    }
                } else {
                    self.count(Outcome::Refused);
                    warn!(channel, %error, "an alert message was refused and is dropped");
                }
            }
        }
    }

    fn count(&self, outcome: Outcome) {
        if let Some(counter) = self.outcomes.get(outcome.index()) {
            counter.increment();
        }
    }

    /// What became of messages and tries.
    pub(in crate::telemetry) fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().zip(self.outcomes.iter().map(Counter::get))
    }

    /// What is shown of it.
    pub(super) fn view(&self) -> ChannelView {
        let count = |wanted| self.outcomes().filter(|(outcome, _)| *outcome == wanted).map(|(_, n)| n).sum();
        let (delivered, refused, lost): (u64, u64, u64) =
            (count(Outcome::Delivered), count(Outcome::Refused), count(Outcome::Lost));
        let state = self.state.lock();
        ChannelView {
            name: Arc::clone(&self.name),
            kind: self.kind,
            state: match (state.is_failing, state.last_success) {
                (true, _) => ChannelState::Failing,
                (false, Some(_)) => ChannelState::Ok,
                (false, None) => ChannelState::Idle,
            },
            last_success: state.last_success,
            last_error: state.last_error.clone(),
            queued: self.queued(),
            delivered,
            lost: refused + lost,
        }
    }
}

#[cfg(test)]
mod tests;
