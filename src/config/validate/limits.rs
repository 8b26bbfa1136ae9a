//! Rules for limits and for connections to the backend: no bound that another one makes pointless.

use std::time::Duration;

use super::Finding;
use crate::config::{Ingress, Limits, Upstream, format_duration, path::YamlPath};

/// Idle time after which uvicorn closes a connection unless it is told otherwise.
const UVICORN_KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(super) fn check(ingress: &Ingress, findings: &mut Vec<Finding>) {
    clients(&ingress.limits, findings);
    http2(&ingress.limits, findings);
    upstream(&ingress.upstream, findings);
}

fn clients(limits: &Limits, findings: &mut Vec<Finding>) {
    let at = |name: &str| YamlPath::at("ingress.limits").key(name);
    if limits.per_ip > limits.connections {
        let message =
            format!("one client may have {} connections, all together {}", limits.per_ip, limits.connections);
        findings.push(
            Finding::error(at("per_ip"), message)
                .hint("`per_ip` is at most `connections`; 0 switches it off")
                .reads(at("connections")),
        );
    }
    if limits.header_size > limits.headers_size {
        let message =
            format!("one field may have {}, all together {}", limits.header_size, limits.headers_size);
        findings.push(
            Finding::error(at("header_size"), message)
                .hint("`header_size` is at most `headers_size`")
                .reads(at("headers_size")),
        );
    }
    if limits.method >= limits.request_line {
        let message =
            format!("the method may have {}, the whole request line {}", limits.method, limits.request_line);
        findings.push(Finding::error(at("method"), message).reads(at("request_line")));
    }
}

fn http2(limits: &Limits, findings: &mut Vec<Finding>) {
    let (http2, at) = (&limits.http2, |name: &str| YamlPath::at("ingress.limits.http2").key(name));
    if http2.streams > http2.total {
        let message = format!("{} streams at once, but {} in all", http2.streams, http2.total);
        findings.push(Finding::error(at("streams"), message).reads(at("total")));
    }
    if http2.stream_window > http2.connection_window {
        let message = format!(
            "the window of one stream ({}) is larger than that of its connection ({})",
            http2.stream_window, http2.connection_window
        );
        findings.push(Finding::error(at("stream_window"), message).reads(at("connection_window")));
    }
    let frames = u64::from(http2.continuation).saturating_add(1);
    if frames.saturating_mul(http2.frame.bytes()) < http2.header_list.bytes() {
        let message =
            format!("a head of {} never fits into {frames} frames of {}", http2.header_list, http2.frame);
        findings
            .push(Finding::warning(at("header_list"), message).reads(at("continuation")).reads(at("frame")));
    }
}

fn upstream(upstream: &Upstream, findings: &mut Vec<Finding>) {
    let at = |name: &str| YamlPath::at("ingress.upstream").key(name);
    let idle = format_duration(upstream.idle);
    if upstream.idle >= upstream.lifetime {
        let message =
            format!("a connection may be idle for {idle}, but lives {}", format_duration(upstream.lifetime));
        findings.push(
            Finding::error(at("idle"), message)
                .hint("`idle` is shorter than `lifetime`")
                .reads(at("lifetime")),
        );
    } else if upstream.idle >= UVICORN_KEEP_ALIVE {
        findings.push(
            Finding::warning(
                at("idle"),
                format!("connections are kept {idle}, but uvicorn closes idle ones after 5s"),
            )
            .hint("stay below the backend's keep-alive, or raise that (`uvicorn --timeout-keep-alive`)"),
        );
    }
    if upstream.pool > upstream.in_flight {
        let message = format!(
            "{} idle connections are kept, but {} requests at once never leave more than that",
            upstream.pool, upstream.in_flight
        );
        findings.push(Finding::warning(at("pool"), message).reads(at("in_flight")));
    }
    if upstream.queue > 0 && upstream.wait.is_zero() {
        findings.push(
            Finding::error(at("wait"), format!("{} requests may queue, but none may wait", upstream.queue))
                .hint("give `wait` a time, or set `queue: 0`")
                .reads(at("queue")),
        );
    }
    if upstream.retries > 0 && upstream.retry_budget_percent == 0 {
        findings.push(
            Finding::warning(at("retry_budget_percent"), "nothing is ever repeated with a budget of 0 %")
                .hint("set `retries: 0` to say so")
                .reads(at("retries")),
        );
    }
    let (breaker, at) = (&upstream.breaker, |name: &str| at("breaker").key(name));
    if breaker.open > breaker.open_max {
        let message = format!(
            "the breaker opens for {}, but for {} at most",
            format_duration(breaker.open),
            format_duration(breaker.open_max)
        );
        findings.push(
            Finding::error(at("open"), message).hint("`open` is at most `open_max`").reads(at("open_max")),
        );
    }
}
