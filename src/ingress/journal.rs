//! The record of one request in the making. It is handed over once, whatever happens: by [`Done::sent`] when an answer
//! was sent, and on drop when the client left before there was one.

use std::sync::Arc;

use tokio::time::Instant;

use super::Core;
use crate::{
    net::{Context, Done, End, Refusal, Sent},
    telemetry::{Kind, Method, Outcome, Parts, Record, RouteStats},
};

/// Holds a record until the request is over.
pub struct Journal {
    core: Arc<Core>,
    record: Option<Record>,
    head_us: Option<u64>,
}

impl Journal {
    pub(super) fn begin(core: &Arc<Core>, context: &Context, method: Method, route: Arc<RouteStats>) -> Self {
        core.ingress.listener.in_flight.increment();
        Self {
            core: Arc::clone(core),
            record: Some(Record::new(route, method, context.started)),
            head_us: None,
        }
    }

    /// A journal that records nothing: for fetches that no client waits for.
    pub(super) fn silent(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), record: None, head_us: None }
    }

    /// Changes the record.
    pub(super) fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }

    pub(super) fn parts(&mut self) -> Option<&mut Parts> {
        self.record.as_mut().map(|record| &mut record.parts)
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// Notes that the answer is an error of our own.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.core.ingress.listener.refusals.increment(refusal.as_str());
        let outcome =
            if refusal == Refusal::Internal { Outcome::Panic } else { Outcome::Error(refusal.as_str()) };
        self.note(|record| record.outcome = outcome);
    }

    /// Notes that the head of the answer is on its way, and returns how long that took in microseconds.
    pub(super) fn head(&mut self, status: u16, kind: Kind) -> u64 {
        let Some(record) = &mut self.record else { return 0 };
        record.status = status;
        record.kind = kind;
        let head_us = micros_since(record.started);
        self.head_us = Some(head_us);
        head_us
    }

    fn finish(&mut self, change: impl FnOnce(&mut Record)) {
        let Some(mut record) = self.record.take() else { return };
        change(&mut record);
        let total_us = micros_since(record.started);
        let head_us = self.head_us.unwrap_or(total_us);
        if self.head_us.is_some() {
            record.parts.body_us = u32::try_from(total_us.saturating_sub(head_us)).unwrap_or(u32::MAX);
        }
        let ingress = &self.core.ingress;
        ingress.listener.in_flight.decrement();
        ingress.telemetry.finish(record, head_us, total_us);
    }
}

impl Done for Journal {
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
            if self.record.take().is_some() {
                self.core.ingress.listener.in_flight.decrement();
            }
            return;
        }
        self.finish(|record| record.outcome = Outcome::ClientAbort);
    }
}

fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
