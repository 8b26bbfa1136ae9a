//! Export to an OpenTelemetry collector: spans of requests and calls, and metrics, as OTLP over HTTP in JSON.
//!
//! A span is offered when a request or call is over: a full queue drops and counts. A task sends what has come together
//! every five seconds, and metrics at their own pace. Names are those of the semantic conventions for HTTP and for
//! generative AI (status: development), which stand here and in the access log alone. What a collector does not take is
//! lost: telemetry fails open.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    Counter, RouteStats, SpanIds, Trace, TraceId,
    alerts::{Post, PostError},
    claude::Call,
    hub::Telemetry,
    record::Record,
    routes::Times,
    tail::Finished,
    trace::random,
};
use crate::config::{ModelTier, Otlp};

mod body;

/// Spans that wait to be sent: a burst of a second at the rate of one message.
const QUEUE: usize = 4096;
/// The most spans of one message.
const BATCH: usize = 1024;
/// How long spans are collected.
const COLLECT: Duration = Duration::from_secs(5);

/// A request or call that is over.
#[derive(Debug)]
pub(super) struct Span {
    trace: TraceId,
    ids: SpanIds,
    what: What,
}

#[derive(Debug)]
enum What {
    Request(Arc<RouteStats>, Finished),
    Call(Box<Call>),
}

impl Span {
    pub(super) fn of_request(record: &Record, times: &Times) -> Self {
        let what = What::Request(Arc::clone(&record.route), Finished::new(record, times));
        Self { trace: record.trace, ids: record.span, what }
    }

    pub(super) fn of_call(call: &Call) -> Self {
        Self { trace: call.trace, ids: call.span, what: What::Call(Box::new(call.clone())) }
    }
}

/// The way of spans to the task that sends them.
#[derive(Debug)]
pub(super) struct Spans {
    tx: Sender<Span>,
    /// Of this many requests without a trace of their own one is sampled, as a share of 2^32.
    sample: u64,
    counts: Arc<Counts>,
}

/// What became of exports.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Spans that a collector took.
    pub(super) sent: Counter,
    /// Spans that were dropped, as the queue was full or the collector did not take them.
    pub(super) dropped: Counter,
    /// Messages that were not taken.
    pub(super) failed: Counter,
}

impl Spans {
    pub(super) fn offer(&self, span: Span) {
        if self.tx.try_send(span).is_err() {
            self.counts.dropped.increment();
        }
    }
}

/// Sends spans and metrics until the process ends.
pub struct Exporter {
    telemetry: Arc<Telemetry>,
    rx: Receiver<Span>,
    counts: Arc<Counts>,
    traces: Option<Arc<dyn Post>>,
    metrics: Option<Arc<dyn Post>>,
    interval: Duration,
    has_failed: bool,
}

impl Telemetry {
    /// A trace for a request that names none: sampled by chance where spans are exported, else always, as a backend that
    /// makes its own traces would otherwise record nothing for requests that come through here.
    #[must_use]
    pub fn fresh_trace(&self) -> Trace {
        let trace = Trace::fresh();
        match self.spans.get() {
            Some(spans) if random() >> 32 >= spans.sample => trace.unsampled(),
            _ => trace,
        }
    }

    /// Begins to export to where `traces` and `metrics` post to. To be called once.
    #[must_use]
    pub fn export(
        self: &Arc<Self>,
        config: &Otlp,
        traces: Arc<dyn Post>,
        metrics: Arc<dyn Post>,
    ) -> Exporter {
        let (tx, rx) = channel(QUEUE);
        let counts = Arc::<Counts>::default();
        // Both are set once, as the process is built once.
        let _ = self.exports.set(Arc::clone(&counts));
        if config.traces {
            let sample = u64::from(config.sample.millionths()) * (1 << 32) / 1_000_000;
            let _ = self.spans.set(Spans { tx, sample, counts: Arc::clone(&counts) });
        }
        Exporter {
            telemetry: Arc::clone(self),
            rx,
            counts,
            traces: config.traces.then_some(traces),
            metrics: config.metrics.then_some(metrics),
            interval: config.interval,
            has_failed: false,
        }
    }
}

impl Exporter {
    /// Runs until `closing`, and sends what is left then.
    pub async fn run(mut self, mut closing: Pin<Box<dyn Future<Output = ()> + Send + Sync>>) {
        let pace = |time| {
            let mut pace = interval(time);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace
        };
        let (mut spans, mut metrics) = (pace(COLLECT), pace(self.interval));
        loop {
            tokio::select! {
                () = &mut closing => break,
                _ = spans.tick() => self.send_spans().await,
                _ = metrics.tick() => self.send_metrics().await,
            }
        }
        self.send_spans().await;
        self.send_metrics().await;
    }

    async fn send_spans(&mut self) {
        let Some(post) = self.traces.clone() else { return };
        loop {
            let mut batch = Vec::new();
            while let (true, Ok(span)) = (batch.len() < BATCH, self.rx.try_recv()) {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            let body = body::spans(&self.telemetry, &batch);
            let result = post.post(body.into(), "").await;
            let counted = if result.is_ok() { &self.counts.sent } else { &self.counts.dropped };
            counted.add(count);
            if !self.note(result) {
                return;
            }
        }
    }

    async fn send_metrics(&mut self) {
        let Some(post) = self.metrics.clone() else { return };
        let body = body::metrics(&self.telemetry, Instant::now());
        let result = post.post(body.into(), "").await;
        self.note(result);
    }

    /// Tells changes in the log, once each; true when it was taken.
    fn note(&mut self, result: Result<(), PostError>) -> bool {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.has_failed) {
                    info!("the OpenTelemetry collector takes exports again");
                }
                true
            }
            Err(error) => {
                self.counts.failed.increment();
                if !std::mem::replace(&mut self.has_failed, true) {
                    warn!(%error, "the OpenTelemetry collector does not take exports; they are dropped");
                }
                false
            }
        }
    }
}

/// Nanoseconds since 1970, as a text: numbers of 64 bits are texts in the JSON of protocol buffers.
fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}

/// The word of a tier.
fn tier_word(tier: Option<ModelTier>) -> &'static str {
    tier.map_or("other", ModelTier::as_str)
}
