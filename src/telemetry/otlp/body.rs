//! The messages to a collector, in the JSON form of OTLP (opentelemetry-proto, docs/specification.md): ids are hexadecimal,
//! numbers of 64 bits are texts.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Span, What, nanos, tier_word};
use crate::telemetry::{
    UNMATCHED,
    counters::{BOUNDS_US, DurationSums},
    hub::Telemetry,
    record::Outcome,
    routes::Active,
};

/// Totals since the start, not differences (`AGGREGATION_TEMPORALITY_CUMULATIVE`).
const CUMULATIVE: u8 = 2;
/// `SPAN_KIND_SERVER` and `SPAN_KIND_CLIENT`.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn resource(telemetry: &Telemetry) -> Value {
    let facts = telemetry.facts();
    let service = if facts.service.is_empty() { "touchline" } else { &facts.service };
    json!({ "attributes": [
        text("service.name", service),
        text("service.instance.id", &facts.pod),
        text("service.version", facts.version),
    ] })
}

fn scope(telemetry: &Telemetry) -> Value {
    json!({ "name": "touchline", "version": telemetry.facts().version })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The message with some spans.
pub(super) fn spans(telemetry: &Telemetry, spans: &[Span]) -> String {
    let spans: Vec<_> = spans.iter().map(|own| span(telemetry, own)).collect();
    let message = json!({ "resourceSpans": [{
        "resource": resource(telemetry),
        "scopeSpans": [{ "scope": scope(telemetry), "spans": spans }],
    }] });
    message.to_string()
}

fn span(telemetry: &Telemetry, span: &Span) -> Value {
    let (kind, name, ended, total_us, outcome, status) = match &span.what {
        What::Request(route, request) => {
            let method = request.method.as_str();
            let name = match route.template() {
                UNMATCHED => method.to_owned(),
                template => format!("{method} {template}"),
            };
            (SERVER, name, request.ended, request.total_us, request.outcome, request.status)
        }
        What::Call(call) => {
            let ended = call.started + std::time::Duration::from_micros(call.total_us);
            (CLIENT, format!("chat {}", call.model), ended, call.total_us, call.outcome, call.status)
        }
    };
    let end = telemetry.wall(ended);
    let start = end - std::time::Duration::from_micros(total_us);
    // A server's span is in error from 500 on, a client's from 400 on (semantic conventions for HTTP spans).
    let is_error = status >= if kind == SERVER { 500 } else { 400 } || outcome.is_failure();
    let mut value = json!({
        "traceId": span.trace.to_string(),
        "spanId": hex(&span.ids.id),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": nanos(start),
        "endTimeUnixNano": nanos(end),
        "attributes": attributes(&span.what),
        "status": if is_error { json!({ "code": ERROR }) } else { json!({}) },
    });
    if let (Some(parent), Some(members)) = (span.ids.parent, value.as_object_mut()) {
        members.insert("parentSpanId".to_owned(), hex(&parent).into());
    }
    value
}

fn attributes(what: &What) -> Vec<Value> {
    match what {
        What::Request(route, request) => {
            let mut attributes = vec![
                text("http.request.method", request.method.as_str()),
                number("http.response.status_code", u64::from(request.status)),
                text("touchline.cache", request.cache.as_str()),
            ];
            if route.template() != UNMATCHED {
                attributes.push(text("http.route", route.template()));
            }
            if let Some(reason) = request.reason {
                attributes.push(text("touchline.reason", reason.as_str()));
            }
            if let Some(kind) = error_type(request.outcome, request.status) {
                attributes.push(text("error.type", &kind));
            }
            let parts = request.breakdown();
            let parts = parts.parts().filter(|(_, us)| *us > 0);
            attributes.extend(
                parts.map(|(part, us)| number(&format!("touchline.{}_us", part.as_str()), u64::from(us))),
            );
            attributes
        }
        What::Call(call) => {
            let mut attributes = vec![
                text("gen_ai.operation.name", "chat"),
                text("gen_ai.provider.name", "anthropic"),
                text("gen_ai.request.model", &call.requested),
                text("gen_ai.response.model", &call.model),
                number("http.response.status_code", u64::from(call.status)),
                text("touchline.tier", tier_word(call.tier)),
                text("touchline.reason", call.reason.as_str()),
            ];
            if let Some(tokens) = &call.tokens {
                attributes.push(number("gen_ai.usage.input_tokens", tokens.prompt()));
                attributes.push(number("gen_ai.usage.output_tokens", tokens.output));
            }
            if let Some(kind) = error_type(call.outcome, call.status) {
                attributes.push(text("error.type", &kind));
            }
            attributes
        }
    }
}

/// What kind of error it is: the word of how it ended, else its status.
fn error_type(outcome: Outcome, status: u16) -> Option<String> {
    match outcome {
        Outcome::Error(reason) => Some(reason.to_owned()),
        outcome if outcome.is_failure() => Some(outcome.as_str().to_owned()),
        _ if status >= 500 => Some(status.to_string()),
        _ => None,
    }
}

/// The message with all metrics.
pub(super) fn metrics(telemetry: &Telemetry, now: Instant) -> String {
    let times = Times { start: nanos(telemetry.started_at()), now: nanos(telemetry.wall(now)) };
    let mut metrics = vec![json!({
        "name": "http.server.request.duration",
        "unit": "s",
        "description": "Duration of HTTP server requests.",
        "histogram": { "aggregationTemporality": CUMULATIVE, "dataPoints": requests(telemetry, &times) },
    })];
    if let Some(stats) = telemetry.claude() {
        let points: Vec<_> = stats
            .durations()
            .filter(|(_, whole, _)| whole.count() > 0)
            .map(|(tier, whole, _)| {
                let mut sums = DurationSums::default();
                whole.add_to(&mut sums);
                let attributes = vec![
                    text("gen_ai.operation.name", "chat"),
                    text("gen_ai.provider.name", "anthropic"),
                    text("touchline.tier", tier),
                ];
                times.point(&attributes, &sums)
            })
            .collect();
        metrics.push(json!({
            "name": "gen_ai.client.operation.duration",
            "unit": "s",
            "description": "Duration of calls to a model.",
            "histogram": { "aggregationTemporality": CUMULATIVE, "dataPoints": points },
        }));
    }
    let message = json!({ "resourceMetrics": [{
        "resource": resource(telemetry),
        "scopeMetrics": [{ "scope": scope(telemetry), "metrics": metrics }],
    }] });
    message.to_string()
}

/// One point for each method, route and status.
fn requests(telemetry: &Telemetry, times: &Times) -> Vec<Value> {
    let mut points = Vec::new();
    for route in telemetry.active_routes() {
        let mut known: Vec<((&str, u16), DurationSums)> = Vec::new();
        for cell in route.active().into_iter().flat_map(Active::cells) {
            let key = (cell.key.method.as_str(), cell.key.status);
            match known.iter_mut().find(|(known, _)| *known == key) {
                Some((_, sums)) => cell.durations.add_to(sums),
                None => {
                    let mut sums = DurationSums::default();
                    cell.durations.add_to(&mut sums);
                    known.push((key, sums));
                }
            }
        }
        for ((method, status), sums) in &known {
            let attributes = [
                text("http.request.method", method),
                text("http.route", route.template()),
                number("http.response.status_code", u64::from(*status)),
            ];
            points.push(times.point(&attributes, sums));
        }
    }
    points
}

/// The times that all points share.
struct Times {
    start: String,
    now: String,
}

impl Times {
    #[expect(clippy::cast_precision_loss, reason = "sums below 2^53 us")]
    fn point(&self, attributes: &[Value], sums: &DurationSums) -> Value {
        let bounds: Vec<_> = BOUNDS_US.iter().map(|us| f64::from(*us) / 1e6).collect();
        let buckets: Vec<_> = sums.buckets.iter().map(u64::to_string).collect();
        json!({
            "attributes": attributes,
            "startTimeUnixNano": self.start,
            "timeUnixNano": self.now,
            "count": sums.buckets.iter().sum::<u64>().to_string(),
            "sum": sums.sum_us as f64 / 1e6,
            "bucketCounts": buckets,
            "explicitBounds": bounds,
        })
    }
}
