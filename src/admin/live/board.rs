//! `GET /api/v1/snapshot` and `GET /api/v1/events`: what is shown now, once or every second.
//!
//! A board holds the sections of its window. They are made anew when they are asked for and older than a second, so that
//! nothing is done while nobody looks, and once for all who do. Every making has a number; a reader that has the one
//! before gets the sections that changed, any other gets all of them: a slow reader skips, and is never queued for.
//!
//! The boards of merged sections are made by asking other pods. One asks for all readers of a window; they wait for it, and
//! no longer than the deadline of the answers.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::AcqRel},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use tokio::{
    sync,
    task::JoinHandle,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use super::{
    merged,
    sections::{Moment, at},
};
use crate::admin::{
    Admin,
    answer::{Kind, Reply},
};
use crate::net::{Body, BodyError, Chunks, drain::Phase};
use crate::telemetry::Window;

/// How often a reader is told.
const PACE: Duration = Duration::from_secs(1);
/// Below this age the sections are those that another reader has just been told.
const FRESH: Duration = Duration::from_millis(900);
/// The most readers of events and of the tail together.
const VIEWERS: usize = 48;

/// The sections of the three windows, of this pod and of all.
#[derive(Default)]
pub(in crate::admin) struct Boards {
    windows: [Mutex<Board>; 3],
    merged: [Merged; 3],
    pub(super) viewers: Arc<Viewers>,
}

/// The sections of a window as they were made last.
#[derive(Default)]
struct Board {
    seq: u64,
    made: Option<Instant>,
    at: String,
    sections: Vec<(&'static str, String)>,
    /// The event for those who have the making before.
    change: Bytes,
}

/// The sections of a window over all pods, and the right to ask for them.
#[derive(Default)]
struct Merged {
    board: Mutex<Board>,
    asking: sync::Mutex<()>,
}

/// What a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) struct View {
    pub(in crate::admin) window: Window,
    pub(in crate::admin) is_merged: bool,
}

/// Those who follow.
#[derive(Default)]
pub(super) struct Viewers(AtomicUsize);

/// A reader's place.
pub(super) struct Place(Arc<Viewers>);

impl Viewers {
    /// A place; none when there are too many readers.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place, Reply> {
        if self.0.fetch_add(1, AcqRel) >= VIEWERS {
            self.0.fetch_sub(1, AcqRel);
            return Err(too_many("too many viewers: close a page or a terminal that follows this one"));
        }
        Ok(Place(Arc::clone(self)))
    }
}

/// The refusal of one reader too many.
pub(super) fn too_many(detail: &str) -> Reply {
    Reply::detail(StatusCode::SERVICE_UNAVAILABLE, detail)
        .with(header::RETRY_AFTER, HeaderValue::from_static("5"))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, AcqRel);
    }
}

impl Board {
    fn is_fresh(&self) -> bool {
        self.made.is_some_and(|made| made.elapsed() < FRESH)
    }

    /// Makes the sections anew if they are old.
    fn refresh(&mut self, admin: &Admin, window: Window) {
        if !self.is_fresh() {
            self.put(Moment::new(admin, window).sections());
        }
    }

    fn put(&mut self, sections: Vec<(&'static str, String)>) {
        self.seq += 1;
        self.at = at(std::time::SystemTime::now());
        let is_new = |(name, text): &&(&'static str, String)| {
            !self.sections.iter().any(|(known, old)| known == name && old == text)
        };
        let changed: Vec<_> = sections.iter().filter(is_new).collect();
        self.change = event("change", self.seq, &self.object(changed.into_iter()));
        self.sections = sections;
        self.made = Some(Instant::now());
    }

    fn object<'a>(&self, sections: impl Iterator<Item = &'a (&'static str, String)>) -> String {
        let mut text = format!("{{\"seq\":{},\"at\":\"{}\"", self.seq, self.at);
        for (name, section) in sections {
            text.push_str(",\"");
            text.push_str(name);
            text.push_str("\":");
            text.push_str(section);
        }
        text.push('}');
        text
    }

    fn whole(&self) -> String {
        self.object(self.sections.iter())
    }
}

/// One event. The data are one line, as JSON escapes line ends.
pub(super) fn event(name: &str, seq: u64, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\nid: {seq}\ndata: {data}\n\n"))
}

impl Admin {
    /// Everything that is shown, now.
    pub(in crate::admin) async fn snapshot(&self, view: View) -> Reply {
        if view.is_merged {
            self.ask_peers(view.window).await;
        }
        Reply::new(StatusCode::OK, Kind::Json, self.shown(view, Board::whole))
    }

    /// Reads a board. One of this pod is made anew if it is old; those of all pods are when their answers are there.
    fn shown<T>(&self, view: View, read: impl FnOnce(&Board) -> T) -> T {
        if view.is_merged {
            return read(&of(&self.boards.merged, view.window).board.lock());
        }
        let mut board = of(&self.boards.windows, view.window).lock();
        board.refresh(self, view.window);
        read(&board)
    }

    /// Makes the board of all pods anew if it is old. Whoever comes while another asks waits for those answers. Dropping it
    /// is safe: the next one asks again.
    async fn ask_peers(&self, window: Window) {
        let merged = of(&self.boards.merged, window);
        let asking = merged.asking.lock().await;
        if merged.board.lock().is_fresh() {
            return;
        }
        let sections = merged::sections(self, window).await;
        merged.board.lock().put(sections);
        drop(asking);
    }

    /// Everything that is shown, and then what changes of it, once a second until the reader leaves or the process ends.
    pub(in crate::admin) fn events(self: &Arc<Self>, view: View) -> Result<Reply, Reply> {
        let place = self.boards.viewers.enter()?;
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = self.drain.reached(Phase::Closing);
        let admin = Arc::clone(self);
        let events = Events { admin, view, asking: None, seen: 0, pace, closing, _place: place };
        Ok(Reply::stream(Kind::Events, Body::of(events)))
    }
}

/// That of the window.
fn of<T>(windows: &[T; 3], window: Window) -> &T {
    let [one, five, hour] = windows;
    match window {
        Window::OneMinute => one,
        Window::FiveMinutes => five,
        // Queries know no longer ones.
        Window::OneHour | Window::FifteenMinutes | Window::HalfHour | Window::SixHours => hour,
    }
}

/// The events of one reader.
struct Events {
    admin: Arc<Admin>,
    view: View,
    /// The other pods are being asked.
    asking: Option<JoinHandle<()>>,
    /// The number of the making that was sent last; 0 before the first.
    seen: u64,
    pace: Interval,
    closing: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    _place: Place,
}

impl Chunks for Events {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if self.asking.is_none() {
            std::task::ready!(self.pace.poll_tick(cx));
            if self.view.is_merged {
                let (admin, window) = (Arc::clone(&self.admin), self.view.window);
                self.asking = Some(self.admin.drain.spawn(async move { admin.ask_peers(window).await }));
            }
        }
        if let Some(asking) = &mut self.asking {
            // One that failed leaves the board as it is.
            let _ = std::task::ready!(Pin::new(asking).poll(cx));
            self.asking = None;
        }
        let seen = self.seen;
        let (seq, chunk) = self.admin.shown(self.view, |board| {
            let chunk = match board.seq - seen {
                0 => Bytes::from_static(b": nothing new\n\n"),
                1 if seen > 0 => board.change.clone(),
                _ => event("snapshot", board.seq, &board.whole()),
            };
            (board.seq, chunk)
        });
        self.seen = seq;
        Poll::Ready(Some(Ok(chunk)))
    }
}
