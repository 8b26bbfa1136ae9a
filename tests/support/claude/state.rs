//! What one running fake knows: its settings, the clock, the recorded requests, the scripts, the prompt cache.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Settings,
    cache::{PromptCache, Split},
    models::{self, Model},
    prompt::Unit,
    script::Behaviour,
    text::base64,
};

/// One request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The number of its connection, counted from 0.
    pub(crate) connection: usize,
    /// `HTTP/1.1` or `HTTP/2`.
    pub(crate) protocol: &'static str,
    /// The method.
    pub(crate) method: String,
    /// The target with its query.
    pub(crate) target: String,
    /// The header lines in their order; with HTTP/1.1 their names in the case they were sent in.
    pub(crate) headers: Vec<(String, String)>,
    /// The head byte for byte (HTTP/1.1 only).
    pub(crate) head: Vec<u8>,
    /// The body without its chunk framing.
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) is_complete: bool,
    /// When the head was read, since the start of the fake.
    pub(crate) arrived: Duration,
    /// The status of the answer, once it is decided.
    pub(crate) status: Option<u16>,
    /// When the answer was sent to its end, since the start of the fake.
    pub(crate) finished: Option<Duration>,
    /// When the client was seen to be gone before that, since the start of the fake.
    pub(crate) gone: Option<Duration>,
}

impl Recorded {
    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a header, the first if there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The record for `GET /__requests`.
    fn report(&self) -> Value {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (name, body) = match std::str::from_utf8(&self.body) {
            Ok(text) => ("body", text.to_owned()),
            Err(_) => ("body_base64", base64(&self.body)),
        };
        json!({
            "connection": self.connection,
            "protocol": self.protocol,
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "head": String::from_utf8_lossy(&self.head),
            name: body,
            "is_complete": self.is_complete,
            "arrived_ms": ms(self.arrived),
            "status": self.status,
            "finished_ms": self.finished.map(ms),
            "gone_ms": self.gone.map(ms),
        })
    }
}

/// The record of a request that is still being answered.
pub(crate) type Entry = Arc<Mutex<Recorded>>;

/// Everything that lasts longer than a request.
#[derive(Debug)]
pub(crate) struct State {
    /// How it was started.
    pub(crate) settings: Settings,
    /// The models that exist.
    pub(crate) models: Vec<Model>,
    started: Instant,
    advanced: Mutex<Duration>,
    log: Mutex<VecDeque<Entry>>,
    scripts: Mutex<VecDeque<Behaviour>>,
    cache: Mutex<PromptCache>,
    answered: AtomicU64,
    spent: Mutex<HashMap<&'static str, [u64; 3]>>,
}

impl State {
    /// A fresh fake.
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            models: models::all(),
            started: Instant::now(),
            advanced: Mutex::default(),
            log: Mutex::default(),
            scripts: Mutex::default(),
            cache: Mutex::default(),
            answered: AtomicU64::new(0),
            spent: Mutex::default(),
        }
    }

    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The time of day, moved on by `advance`.
    pub(crate) fn today(&self) -> SystemTime {
        SystemTime::now() + *self.advanced.lock()
    }

    /// Moves the clock of the prompt cache on.
    pub(crate) fn advance(&self, by: Duration) {
        *self.advanced.lock() += by;
    }

    /// Forgets requests, scripts and the cache.
    pub(crate) fn reset(&self) {
        self.log.lock().clear();
        self.scripts.lock().clear();
        *self.cache.lock() = PromptCache::default();
        *self.advanced.lock() = Duration::ZERO;
        self.spent.lock().clear();
    }

    /// Records a request.
    pub(crate) fn record(&self, request: Recorded) -> Entry {
        let entry = Arc::new(Mutex::new(request));
        let mut log = self.log.lock();
        if log.len() >= self.settings.keep {
            log.pop_front();
        }
        log.push_back(Arc::clone(&entry));
        entry
    }

    /// What was recorded, oldest first.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.log.lock().iter().map(|entry| entry.lock().clone()).collect()
    }

    /// What was recorded, as JSON.
    pub(crate) fn report(&self) -> Value {
        self.requests().iter().map(Recorded::report).collect()
    }

    /// Queues a behaviour.
    pub(crate) fn script(&self, behaviour: Behaviour) {
        self.scripts.lock().push_back(behaviour);
    }

    /// The first queued behaviour that fits, used once more.
    pub(crate) fn take_script(&self, path: &str, model: Option<&str>) -> Option<Behaviour> {
        let mut scripts = self.scripts.lock();
        let place = scripts.iter().position(|script| script.applies(path, model))?;
        let script = scripts.get_mut(place)?;
        match script.times.unwrap_or(1) {
            0 => Some(script.clone()),
            1 => scripts.remove(place),
            left => {
                script.times = Some(left - 1);
                Some(script.clone())
            }
        }
    }

    /// The next number of an answer.
    pub(crate) fn next_number(&self) -> u64 {
        self.answered.fetch_add(1, SeqCst)
    }

    /// Serves a prompt from the cache.
    pub(crate) fn serve_cached(&self, account: &str, model: &Model, units: &[Unit]) -> Split {
        let owner = format!("{account} {}", model.family);
        let now = self.elapsed() + *self.advanced.lock();
        self.cache.lock().serve(&owner, units, model.min_cache, now)
    }

    /// Counts a request against the limits of its model and returns requests, input and output tokens so far.
    pub(crate) fn spend(&self, family: &'static str, input: u64, output: u64) -> [u64; 3] {
        let mut spent = self.spent.lock();
        let [requests, inputs, outputs] = spent.entry(family).or_default();
        *requests += 1;
        *inputs += input;
        *outputs += output;
        [*requests, *inputs, *outputs]
    }
}
