//! What happened, in numbers: one record per request goes in, metrics, windows and log lines come out.
//!
//! A plane keeps the handles it needs ([`Telemetry::route`], [`Telemetry::upstream`], [`Telemetry::listener`]) and
//! hands over one finished [`Record`] per request ([`Telemetry::finish`]), also when it failed or the client left.
//! Recording takes no lock and allocates nothing unless the request is slow, failed or sampled for the access log. Readers
//! (`snapshot`, `scrape`, `health_score`) merge on demand: there is no background job but the thread that writes the
//! access log. Telemetry fails open: it never delays or fails a request.

pub mod alerts;
pub mod claude;
pub mod details;
pub mod log;
pub mod metrics;
pub mod observed;
pub mod otlp;
pub mod record;
pub mod snapshot;

mod access_log;
mod advice;
mod cache_stats;
mod capture;
mod counters;
mod exact;
mod health_score;
mod hub;
mod labels;
mod latency;
mod listener;
mod marks;
mod mask;
mod packed;
mod parts;
mod reason;
mod recent_calls;
mod redis;
mod routes;
mod scrape;
mod slow;
mod socket;
mod tail;
mod tally;
mod trace;
mod upstream;
mod windows;

pub use access_log::Sink;
pub use advice::{Advice, Change, Place, When, reasons_markdown};
pub use cache_stats::{CacheSizes, CacheSource, Operation, Tier};
pub use capture::Capture;
pub use counters::{Counter, Durations, Gauge, ReasonCounters};
pub use exact::Exact;
pub use health_score::{Code, Deduction, HealthScore, Status};
pub use hub::{Facts, Telemetry};
pub use latency::Summary;
pub use listener::{Held, Listener, ListenerStats};
pub use marks::{Mark, MarkKind};
pub use mask::masked;
pub use parts::{Breakdown, Part, Parts};
pub use recent_calls::CallWindow;
pub use record::{Basis, CacheStatus, Fwd, HitSource, Kind, Method, Outcome, Reason, Record};
pub use redis::{RedisDrop, RedisFault, RedisInfo, RedisStats, ValueFault};
pub use routes::{RouteStats, UNMATCHED};
pub use slow::SlowRequest;
pub use socket::SocketFault;
pub use tail::{CallLine, Filter, Finished, Line, RequestLine, Watching};
pub(crate) use trace::random;
pub use trace::{Digits, SpanIds, Trace, TraceId};
pub use upstream::{BreakerState, UpstreamStats};
pub use windows::Window;
