//! The live tail: what has just happened, line by line, for those who watch. While nobody does, a request pays for one
//! load. Who watches gets the lines that its filter lets through, at most so many a second; the others are counted.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};

use http::uri::PathAndQuery;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Instant,
};

use super::{
    RouteStats, TraceId,
    claude::{Call, RoutingReason},
    parts::{Breakdown, Parts},
    record::{CacheStatus, Fwd, HitSource, Kind, Method, Outcome, Reason, Record},
    routes::Times,
};
use crate::config::ModelTier;

/// Lines that wait for a reader who is slower than they come.
const QUEUE: usize = 256;
/// The most lines a second for one reader: more than anybody reads.
const PER_SECOND: u64 = 50;
/// Requests that a route remembers.
const RECENT: usize = 20;
/// The most readers.
const WATCHERS: usize = 32;

/// One request or call that is over.
#[derive(Clone, Debug)]
pub enum Line {
    /// A request of a client.
    Request(RequestLine),
    /// A call of the backend to Claude.
    Call(Arc<CallLine>),
}

/// A request of a client.
#[derive(Clone, Debug)]
pub struct RequestLine {
    /// Its route.
    pub route: Arc<RouteStats>,
    /// Its target.
    pub path: Option<PathAndQuery>,
    /// How it went.
    pub request: Finished,
}

/// How a request went, without names.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// When it ended.
    pub ended: Instant,
    /// Its method.
    pub method: Method,
    /// The status of its answer.
    pub status: u16,
    /// What it took, first byte read to last byte written.
    pub total_us: u64,
    /// What the cache did.
    pub cache: CacheStatus,
    /// Where a hit came from.
    pub source: Option<HitSource>,
    /// Why it went to the backend.
    pub fwd: Option<Fwd>,
    /// Why it was not a hit, was not stored, or was stale.
    pub reason: Option<Reason>,
    /// How it ended.
    pub outcome: Outcome,
    /// The shape of the exchange.
    pub kind: Kind,
    /// Body bytes sent.
    pub bytes_out: u64,
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Where the time went, as far as it was measured.
    pub parts: Parts,
}

/// A call of the backend to Claude.
#[derive(Clone, Debug)]
pub struct CallLine {
    /// When it ended.
    pub ended: Instant,
    /// The name of its route.
    pub route: Arc<str>,
    /// The status of its answer.
    pub status: u16,
    /// What it took.
    pub total_us: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the answer was a stream.
    pub is_stream: bool,
    /// The model that was asked.
    pub model: Arc<str>,
    /// Its tier.
    pub tier: Option<ModelTier>,
    /// What decided it.
    pub reason: RoutingReason,
    /// The trace it belongs to.
    pub trace: TraceId,
}

/// What a reader wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The beginning of the path or of the template.
    pub path: Option<String>,
    /// The method.
    pub method: Option<Method>,
    /// The lowest and the highest status.
    pub status: Option<(u16, u16)>,
    /// How it ended, as [`Outcome::as_str`] has it.
    pub outcome: Option<&'static str>,
    /// What the cache did.
    pub cache: Option<CacheStatus>,
    /// The least time that it took.
    pub slower_than_us: Option<u64>,
}

impl Filter {
    fn takes(&self, line: &Line) -> bool {
        let (status, outcome, total_us) = match line {
            Line::Request(RequestLine { request, .. }) => (request.status, request.outcome, request.total_us),
            Line::Call(line) => (line.status, line.outcome, line.total_us),
        };
        self.status.is_none_or(|(low, high)| (low..=high).contains(&status))
            && self.outcome.is_none_or(|wanted| wanted == outcome.as_str())
            && self.slower_than_us.is_none_or(|least| total_us >= least)
            && match line {
                Line::Request(line) => self.takes_request(line),
                Line::Call(line) => self.takes_call(line),
            }
    }

    fn takes_request(&self, line: &RequestLine) -> bool {
        let path = line.path.as_ref().map_or("", PathAndQuery::path);
        self.method.is_none_or(|method| method == line.request.method)
            && self.cache.is_none_or(|cache| cache == line.request.cache)
            && self.path.as_ref().is_none_or(|wanted| {
                path.starts_with(wanted.as_str()) || line.route.template().starts_with(wanted)
            })
    }

    /// Of a call only the route has a name, it is always a POST, and no cache is asked.
    fn takes_call(&self, line: &CallLine) -> bool {
        self.method.is_none_or(|method| method == Method::Post)
            && self.cache.is_none()
            && self.path.as_ref().is_none_or(|wanted| line.route.starts_with(wanted.as_str()))
    }
}

impl Finished {
    pub(super) fn new(record: &Record, times: &Times) -> Self {
        Self {
            ended: record.started + Duration::from_micros(times.total_us),
            method: record.method,
            status: record.status,
            total_us: times.total_us,
            cache: record.cache,
            source: record.source,
            fwd: record.fwd,
            reason: record.reason,
            outcome: record.outcome,
            kind: record.kind,
            bytes_out: record.bytes_out,
            trace: record.trace,
            parts: record.parts,
        }
    }

    /// Where the time went.
    #[must_use]
    pub fn breakdown(&self) -> Breakdown {
        Breakdown::new(u32::try_from(self.total_us).unwrap_or(u32::MAX), &self.parts)
    }
}

impl CallLine {
    fn new(call: &Call) -> Self {
        Self {
            ended: call.started + Duration::from_micros(call.total_us),
            route: Arc::clone(&call.route),
            status: call.status,
            total_us: call.total_us,
            outcome: call.outcome,
            is_stream: call.is_stream,
            model: Arc::clone(&call.model),
            tier: call.tier,
            reason: call.reason,
            trace: call.trace,
        }
    }
}

/// The last requests of a route. Who finds it taken goes on without: a request never waits to be remembered.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<Finished>>);

impl Recent {
    pub(super) fn push(&self, record: &Record, times: &Times) {
        let Some(mut all) = self.0.try_lock() else { return };
        if all.len() == RECENT {
            all.pop_front();
        }
        all.push_back(Finished::new(record, times));
    }

    /// The newest first.
    pub(super) fn all(&self) -> Vec<Finished> {
        self.0.lock().iter().rev().copied().collect()
    }
}

/// Those who watch.
#[derive(Debug, Default)]
pub(super) struct Tail(Arc<Watchers>);

#[derive(Debug, Default)]
struct Watchers {
    count: AtomicUsize,
    all: RwLock<Vec<Arc<Watcher>>>,
}

#[derive(Debug)]
struct Watcher {
    filter: Filter,
    tx: Sender<Line>,
    /// The running second, and the lines sent in it: the upper and the lower half.
    sent: AtomicU64,
    dropped: Arc<AtomicU64>,
}

/// A reader's end. Dropping it ends the watching.
#[derive(Debug)]
pub struct Watching {
    /// The lines.
    pub rx: Receiver<Line>,
    dropped: Arc<AtomicU64>,
    watchers: Arc<Watchers>,
    own: Arc<Watcher>,
}

impl Watching {
    /// How many lines the filter let through that were not sent, since it was last asked.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Relaxed)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut all = self.watchers.all.write();
        all.retain(|watcher| !Arc::ptr_eq(watcher, &self.own));
        self.watchers.count.store(all.len(), Relaxed);
    }
}

impl Tail {
    pub(super) fn is_watched(&self) -> bool {
        self.0.count.load(Relaxed) > 0
    }

    /// Begins to watch; none when too many do.
    pub(super) fn watch(&self, filter: Filter) -> Option<Watching> {
        let mut all = self.0.all.write();
        if all.len() >= WATCHERS {
            return None;
        }
        let (tx, rx) = channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let own = Arc::new(Watcher { filter, tx, sent: AtomicU64::new(0), dropped: Arc::clone(&dropped) });
        all.push(Arc::clone(&own));
        self.0.count.store(all.len(), Relaxed);
        Some(Watching { rx, dropped, watchers: Arc::clone(&self.0), own })
    }

    pub(super) fn offer(&self, record: &Record, times: &Times, second: u32) {
        if self.is_watched() {
            let request = Finished::new(record, times);
            let (route, path) = (Arc::clone(&record.route), record.path.clone());
            self.send(&Line::Request(RequestLine { route, path, request }), second);
        }
    }

    pub(super) fn offer_call(&self, call: &Call, second: u32) {
        if self.is_watched() {
            self.send(&Line::Call(Arc::new(CallLine::new(call))), second);
        }
    }

    #[cold]
    fn send(&self, line: &Line, second: u32) {
        for watcher in self.0.all.read().iter().filter(|watcher| watcher.filter.takes(line)) {
            if !watcher.has_room(second) || watcher.tx.try_send(line.clone()).is_err() {
                watcher.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Watcher {
    /// Counts a line of a second; false when that second has had its share.
    fn has_room(&self, second: u32) -> bool {
        let counted = self.sent.fetch_update(AcqRel, Relaxed, |sent| {
            let (running, count) = (sent >> 32, sent & u64::from(u32::MAX));
            let count = if running == u64::from(second) { count } else { 0 };
            (count < PER_SECOND).then(|| u64::from(second) << 32 | (count + 1))
        });
        counted.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::Instant;

    use super::{Filter, Line, Method, PER_SECOND, Record, RouteStats, Tail, Times, WATCHERS};
    use crate::telemetry::record::CacheStatus;

    fn record(template: &str, status: u16) -> Record {
        let route = Arc::new(RouteStats::new(template, Duration::from_secs(2)));
        let path = template.replace("{id}", "7").parse().ok();
        Record { status, path, ..Record::new(route, Method::Get, Instant::now()) }
    }

    fn times(total_us: u64) -> Times {
        Times { tick: 0, head_us: total_us, total_us, basis_us: u32::try_from(total_us).unwrap() }
    }

    fn statuses(tail: &Tail, filter: Filter) -> Vec<u16> {
        let mut watching = tail.watch(filter).unwrap();
        for (template, status, us) in
            [("/a/{id}", 200, 10), ("/a/{id}", 503, 2_000_000), ("/b", 404, 10), ("/b", 200, 500_000)]
        {
            tail.offer(&record(template, status), &times(us), 1);
        }
        let mut seen = Vec::new();
        while let Ok(Line::Request(line)) = watching.rx.try_recv() {
            seen.push(line.request.status);
        }
        seen
    }

    #[test]
    fn a_filter_lets_through_what_it_names() {
        let tail = Tail::default();
        let path = |text: &str| Filter { path: Some(text.to_owned()), ..Filter::default() };

        assert_eq!(statuses(&tail, Filter::default()), [200, 503, 404, 200]);
        assert_eq!(statuses(&tail, path("/a/{id}")), [200, 503]);
        assert_eq!(statuses(&tail, path("/a/7")), [200, 503]);
        assert_eq!(statuses(&tail, Filter { status: Some((400, 599)), ..Filter::default() }), [503, 404]);
        let slow = Filter { slower_than_us: Some(500_000), ..Filter::default() };
        assert_eq!(statuses(&tail, slow), [503, 200]);
        assert!(statuses(&tail, Filter { method: Some(Method::Post), ..Filter::default() }).is_empty());
        let hits = Filter { cache: Some(CacheStatus::Hit), ..Filter::default() };
        assert!(statuses(&tail, hits).is_empty());
        assert!(statuses(&tail, Filter { outcome: Some("panic"), ..Filter::default() }).is_empty());
    }

    #[test]
    fn a_flood_is_thinned_and_what_is_left_out_is_counted() {
        let tail = Tail::default();
        let mut watching = tail.watch(Filter::default()).unwrap();

        for second in [7, 8] {
            for _ in 0..200 {
                tail.offer(&record("/a", 200), &times(1), second);
            }
        }

        let mut lines = 0;
        while watching.rx.try_recv().is_ok() {
            lines += 1;
        }
        assert_eq!((lines, watching.take_dropped()), (2 * PER_SECOND, 400 - 2 * PER_SECOND));
        assert_eq!(watching.take_dropped(), 0);
    }

    #[test]
    fn readers_are_bounded_and_leave_nothing_behind() {
        let tail = Tail::default();
        let all: Vec<_> = (0..WATCHERS).map(|_| tail.watch(Filter::default()).unwrap()).collect();

        assert!(tail.is_watched() && tail.watch(Filter::default()).is_none());
        drop(all);

        assert!(!tail.is_watched() && tail.watch(Filter::default()).is_some());
    }
}
