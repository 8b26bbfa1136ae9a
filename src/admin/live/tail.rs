//! `GET /api/v1/tail`: requests and calls as they end. And the same lines as the drawer of a route shows them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{
    board::{Place, event, too_many},
    routes::Parts,
    sections::{at, json},
};
use crate::admin::{
    Admin,
    answer::{Kind, Reply},
    query,
    shapes::thousandths,
};
use crate::config::{ModelTier, ShownPaths, parse_duration};
use crate::net::{Body, BodyError, Chunks, drain::Phase};
use crate::telemetry::{
    CacheStatus, CallLine, Filter, Finished, Fwd, HitSource, Kind as Shape, Line, Method, Outcome, Reason,
    RouteStats, Watching, masked,
};

/// The query keys.
pub(in crate::admin) const KEYS: [&str; 7] =
    ["path", "method", "status", "outcome", "slower_than", "cache", "scope"];
/// How often a reader hears something, lines or not: what was left out, or that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A line.
#[derive(Serialize)]
struct Shown<'a> {
    at: String,
    plane: &'static str,
    method: &'static str,
    template: &'a str,
    path: Option<String>,
    status: u16,
    ms: f64,
    cache: Option<&'static str>,
    source: Option<&'static str>,
    fwd: Option<&'static str>,
    reason: Option<&'static str>,
    outcome: &'static str,
    kind: &'static str,
    bytes_out: Option<u64>,
    trace_id: Option<String>,
    parts: Option<Parts>,
    model: Option<&'a str>,
    tier: Option<&'static str>,
    routing_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Dropped {
    count: u64,
}

impl Admin {
    /// Requests and calls as they end, until the reader leaves or the process ends.
    pub(in crate::admin) fn tail(self: &Arc<Self>, query: &str) -> Result<Reply, Reply> {
        query::pod_only(query)?;
        let filter = filter(query)?;
        let place = self.boards.viewers.enter()?;
        let watching = self
            .telemetry
            .watch_tail(filter)
            .ok_or_else(|| too_many("too many readers of the tail: close one of them"))?;
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = self.drain.reached(Phase::Closing);
        let lines = Lines { admin: Arc::clone(self), watching, heartbeat, closing, seq: 0, _place: place };
        Ok(Reply::stream(Kind::Events, Body::of(lines)))
    }

    fn line(&self, line: &Line) -> String {
        match line {
            Line::Request(line) => {
                let path = line.path.as_ref().and_then(|path| self.shown_path(path.path(), &line.route));
                json(&self.request(&line.route, path, &line.request))
            }
            Line::Call(line) => json(&self.call(line)),
        }
    }

    /// A path as far as it may be shown.
    pub(super) fn shown_path(&self, path: &str, route: &RouteStats) -> Option<String> {
        match self.terms().paths {
            ShownPaths::Template => None,
            ShownPaths::Masked => Some(masked(path, Some(route.template()))),
            ShownPaths::Full => Some(path.to_owned()),
        }
    }

    pub(super) fn request<'a>(
        &self,
        route: &'a RouteStats,
        path: Option<String>,
        request: &Finished,
    ) -> impl Serialize + use<'a> {
        Shown {
            at: at(self.telemetry.wall(request.ended)),
            plane: "ingress",
            method: request.method.as_str(),
            template: route.template(),
            path,
            status: request.status,
            ms: milliseconds(request.total_us),
            cache: Some(request.cache.as_str()),
            source: request.source.map(HitSource::as_str),
            fwd: request.fwd.map(Fwd::as_str),
            // What went wrong here tells more than why it was no hit.
            reason: match request.outcome {
                Outcome::Error(refusal) => Some(refusal),
                _ => request.reason.map(Reason::as_str),
            },
            outcome: request.outcome.as_str(),
            kind: request.kind.as_str(),
            bytes_out: Some(request.bytes_out),
            trace_id: trace(request.trace),
            parts: Some(Parts::new(request.breakdown().parts())),
            model: None,
            tier: None,
            routing_reason: None,
        }
    }

    fn call<'a>(&self, line: &'a CallLine) -> impl Serialize + use<'a> {
        Shown {
            at: at(self.telemetry.wall(line.ended)),
            plane: "claude",
            method: "POST",
            template: &line.route,
            path: None,
            status: line.status,
            ms: milliseconds(line.total_us),
            cache: None,
            source: None,
            fwd: None,
            reason: None,
            outcome: line.outcome.as_str(),
            kind: if line.is_stream { Shape::Stream.as_str() } else { Shape::Plain.as_str() },
            bytes_out: None,
            trace_id: trace(line.trace),
            parts: None,
            model: Some(&line.model),
            tier: line.tier.map(ModelTier::as_str),
            routing_reason: Some(line.reason.as_str()),
        }
    }
}

pub(super) fn trace(trace: crate::telemetry::TraceId) -> Option<String> {
    (!trace.is_none()).then(|| trace.to_string())
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53 us")]
fn milliseconds(us: u64) -> f64 {
    thousandths(us as f64 / 1000.0)
}

/// The filter that a query describes.
fn filter(query: &str) -> Result<Filter, Reply> {
    let wrong = |detail: &str| Reply::detail(StatusCode::BAD_REQUEST, detail);
    let value = |key: &str| query::text(query, key);
    let one_of = |key: &str, words: &[&'static str]| -> Result<Option<&'static str>, Reply> {
        let Some(word) = value(key)? else { return Ok(None) };
        let known = words.iter().find(|known| **known == word);
        known.copied().map(Some).ok_or_else(|| wrong(&format!("{key} must be one of {}", words.join(", "))))
    };
    let status = value("status")?.map(|word| {
        status(&word).ok_or_else(|| wrong("status must be a status such as 404, or a class such as 5xx"))
    });
    let slower = value("slower_than")?.map(|word| {
        let time =
            parse_duration(&word).map_err(|_| wrong("slower_than must be a time such as 250ms or 2s"))?;
        Ok(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    });
    let cache = one_of("cache", &CacheStatus::ALL.map(CacheStatus::as_str))?;
    let path = value("path")?.map(|path| path.trim_end_matches('*').to_owned());
    Ok(Filter {
        path: path.filter(|path| !path.is_empty()),
        method: value("method")?.map(|word| Method::from_name(&word.to_ascii_uppercase())),
        status: status.transpose()?,
        outcome: one_of("outcome", &Outcome::WORDS)?,
        cache: CacheStatus::ALL.into_iter().find(|status| Some(status.as_str()) == cache),
        slower_than_us: slower.transpose()?,
    })
}

/// `404` or `5xx` as the lowest and the highest status.
fn status(word: &str) -> Option<(u16, u16)> {
    if let Some(class) = word.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    let status = word.parse().ok().filter(|status| (100..=599).contains(status))?;
    Some((status, status))
}

/// The lines of one reader.
struct Lines {
    admin: Arc<Admin>,
    watching: Watching,
    heartbeat: Interval,
    closing: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    seq: u64,
    _place: Place,
}

impl Chunks for Lines {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(line)) = self.watching.rx.poll_recv(cx) {
            self.seq += 1;
            return Poll::Ready(Some(Ok(event("line", self.seq, &self.admin.line(&line)))));
        }
        std::task::ready!(self.heartbeat.poll_tick(cx));
        let chunk = match self.watching.take_dropped() {
            0 => Bytes::from_static(b": waiting\n\n"),
            count => event("dropped", self.seq, &json(&Dropped { count })),
        };
        Poll::Ready(Some(Ok(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use super::filter;
    use crate::telemetry::{CacheStatus, Filter, Method};

    #[test]
    fn a_query_says_what_is_wanted() {
        assert_eq!(filter("").ok(), Some(Filter::default()));
        let query =
            "path=%2Fapi%2Fuser*&method=get&status=5xx&outcome=client_abort&slower_than=250ms&cache=miss";
        let expected = Filter {
            path: Some("/api/user".to_owned()),
            method: Some(Method::Get),
            status: Some((500, 599)),
            outcome: Some("client_abort"),
            cache: Some(CacheStatus::Miss),
            slower_than_us: Some(250_000),
        };
        assert_eq!(filter(query).ok(), Some(expected));
    }

    #[test]
    fn what_nobody_can_mean_is_refused() {
        for query in [
            "status=6xx",
            "status=abc",
            "status=42",
            "status=",
            "outcome=fine",
            "slower_than=2",
            "slower_than=x",
            "cache=warm",
            "path=%zz",
            "path=%ff",
        ] {
            assert!(filter(query).is_err(), "{query}");
        }
    }
}
