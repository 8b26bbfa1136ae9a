//! What a successful answer ends in the cache: its own target after an unsafe method (RFC 9111 section 4.4), and what its
//! route says. Done before the head goes out, so that a client that reads its own write reads no old copy.

use http::{HeaderMap, StatusCode};

use super::exchange::Exchange;
use crate::{
    cache::{
        Scope, TagValues,
        rfc9111::{invalidated_targets, invalidates},
    },
    telemetry::{Operation, Tier},
};

/// Ends what an answer with this head makes out of date.
pub(super) fn after(exchange: &Exchange, status: StatusCode, headers: &HeaderMap) {
    let is_success = status.is_success() || status.is_redirection();
    if exchange.is_read() && exchange.route.invalidates.is_empty() {
        return;
    }
    if invalidates(&exchange.parts.method, status) {
        let head = exchange.head();
        purge(exchange, &target_scope(exchange, head.target));
        for target in invalidated_targets(&head, headers) {
            purge(exchange, &target_scope(exchange, &target));
        }
    }
    if is_success && !exchange.route.invalidates.is_empty() {
        let parameters = exchange.route.parameters(exchange.parts.uri.path());
        let query = exchange.parts.uri.query().map(str::as_bytes);
        let values = TagValues { path: &parameters, query, body: &[] };
        for template in &exchange.route.invalidates {
            purge(exchange, &template.scope(&values));
        }
    }
}

fn purge(exchange: &Exchange, scope: &Scope) {
    let ingress = exchange.ingress();
    let start = tokio::time::Instant::now();
    ingress.cache.purge(scope, false, ingress.clock.at(start));
    let ended = tokio::time::Instant::now();
    let took = u64::try_from((ended - start).as_micros()).unwrap_or(u64::MAX);
    ingress.telemetry.cache_operation(Tier::Memory, Operation::Purge, ended, took);
}

/// All variants of one path and query of this host.
fn target_scope(exchange: &Exchange, target: &[u8]) -> Scope {
    Scope::of_target(Some(exchange.host().to_ascii_lowercase()), &String::from_utf8_lossy(target))
}
