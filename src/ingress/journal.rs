//! The record of one request in the making, and the fields of its answer that come from it. It is handed over once,
//! whatever happens: by [`Done::sent`] when an answer was sent, and on drop when the client left before there was one.

use std::sync::Arc;

use http::HeaderValue;
use tokio::time::Instant;

use super::{
    Core,
    respond::{self, Told},
};
use crate::{
    net::{Context, Done, End, Lines, Refusal, Sent},
    telemetry::{Kind, Method, Outcome, Parts, Record, RouteStats},
};

/// Holds a record until the request is over. Behind a pointer, as it travels with the answer.
pub struct Journal(Box<Inner>);

pub(super) struct Inner {
    core: Arc<Core>,
    record: Option<Record>,
    head_us: Option<u64>,
    /// What the head says about the answer.
    pub(super) told: Told,
    /// The client's own id for its request; without one it is that of the trace.
    pub(super) request_id: Option<HeaderValue>,
    /// The backend's own measure of its time, for `Server-Timing`.
    pub(super) app_ms: Option<f64>,
    /// The key, for `Cache-Status` in debug mode.
    pub(super) key: Option<String>,
}

impl Journal {
    pub(super) fn begin(core: &Arc<Core>, context: &Context, method: Method, route: Arc<RouteStats>) -> Self {
        core.ingress.listener.in_flight.increment();
        Self::with(core, Some(Record::new(route, method, context.started)))
    }

    /// A journal that records nothing: for fetches that no client waits for.
    pub(super) fn silent(core: &Arc<Core>) -> Self {
        Self::with(core, None)
    }

    fn with(core: &Arc<Core>, record: Option<Record>) -> Self {
        let core = Arc::clone(core);
        let told = Told::refused();
        Self(Box::new(Inner { core, record, head_us: None, told, request_id: None, app_ms: None, key: None }))
    }

    /// Changes the record.
    pub(super) fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.0.record {
            change(record);
        }
    }

    pub(super) fn parts(&mut self) -> Option<&mut Parts> {
        self.0.record.as_mut().map(|record| &mut record.parts)
    }

    pub(super) fn inner(&mut self) -> &mut Inner {
        &mut self.0
    }

    /// Notes that the answer is an error of our own.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.0.core.ingress.listener.refusals.increment(refusal.as_str());
        let outcome =
            if refusal == Refusal::Internal { Outcome::Panic } else { Outcome::Error(refusal.as_str()) };
        self.note(|record| record.outcome = outcome);
    }

    /// Notes what the answer is.
    pub(super) fn answered(&mut self, status: u16, kind: Kind, told: Told) {
        self.0.told = told;
        if kind == Kind::Upgrade {
            self.0.core.ingress.listener.upgrades.increment();
        }
        self.note(|record| {
            record.status = status;
            record.kind = kind;
            record.cache = told.status;
            record.source = told.source;
            record.fwd = told.fwd;
            record.reason = told.reason;
            record.is_cacheable = told.is_cacheable;
        });
    }

    fn finish(&mut self, change: impl FnOnce(&mut Record)) {
        let inner = &mut *self.0;
        let Some(mut record) = inner.record.take() else { return };
        change(&mut record);
        let total_us = micros_since(record.started);
        let head_us = inner.head_us.unwrap_or(total_us);
        if inner.head_us.is_some() {
            record.parts.body_us = u32::try_from(total_us.saturating_sub(head_us)).unwrap_or(u32::MAX);
        }
        let ingress = &inner.core.ingress;
        ingress.listener.in_flight.decrement();
        if record.kind == Kind::Upgrade {
            ingress.listener.upgrades.decrement();
        }
        ingress.telemetry.finish(record, head_us, total_us);
    }
}

impl Done for Journal {
    fn fields(&mut self, lines: &mut dyn Lines) {
        let inner = &mut *self.0;
        let Some(record) = &inner.record else { return };
        let head_us = micros_since(record.started);
        inner.head_us = Some(head_us);
        respond::fields(lines, inner.core.ingress.settings(), record, head_us, inner);
    }

    fn sent(mut self, sent: Sent) {
        self.finish(|record| {
            record.bytes_out = sent.bytes;
            record.bytes_in = sent.received;
            match sent.end {
                End::Complete => {}
                End::Client => record.outcome = Outcome::ClientAbort,
                End::Body => record.outcome = Outcome::UpstreamAbort,
            }
        });
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The connection answers a panic with an error of our own, which has a journal of its own.
            if self.0.record.take().is_some() {
                self.0.core.ingress.listener.in_flight.decrement();
            }
            return;
        }
        self.finish(|record| record.outcome = Outcome::ClientAbort);
    }
}

fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
