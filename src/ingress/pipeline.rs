//! The way of a request, on one screen.
//!
//! ```text
//! begin -> admit -> taken? -> lookup --hit-------------------------------> respond
//!                               |                                             ^
//!                               +-- miss, stale, bypass -> fetch -> keep -----+
//! ```

use std::sync::Arc;

use http::Request;

use super::{
    Core,
    exchange::Exchange,
    fetch,
    invalidate::Invalidation,
    journal::Journal,
    lookup::{self, Looked},
    respond::{self, Asked, Told},
    routes,
};
use crate::{
    net::{Answer, Body, Context, Refusal},
    telemetry,
};

/// Serves one request.
pub(super) async fn serve(core: &Arc<Core>, request: Request<Body>, context: Context) -> Answer<Journal> {
    let mut exchange = Exchange::begin(core, request, context);
    if let Err(refusal) = admit(&mut exchange) {
        return respond::refusal(exchange, refusal);
    }
    if let Some(taken) = core.ingress.taken.as_ref().filter(|taken| taken.takes(exchange.parts.uri.path())) {
        let request = Request::from_parts(exchange.parts, exchange.body);
        return respond::own(exchange.journal, taken.answer(request, exchange.client).await);
    }
    let ready = match lookup::look(&mut exchange).await {
        Looked::Ready(ready) => ready,
        Looked::Refused(refusal) => return respond::refusal(exchange, refusal),
        Looked::Fetch(plan) => {
            let invalidation = Invalidation::begin(&mut exchange);
            match fetch::fetch(&mut exchange, plan).await {
                Ok(ready) => Invalidation::answered(invalidation, ready).await,
                Err(refusal) => {
                    Invalidation::failed(invalidation, refusal);
                    return respond::refusal(exchange, refusal);
                }
            }
        }
    };
    // Taken apart, not handed over: what is left of it need not be moved.
    let Exchange { journal, parts, host, .. } = exchange;
    let asked = Asked { settings: core.ingress.settings(), host: &host, target: parts.uri.path_and_query() };
    respond::answer(journal, &asked, ready)
}

/// Answers what never became a request.
pub(super) fn refuse(core: &Arc<Core>, refusal: Refusal, context: &Context) -> Answer<Journal> {
    let journal = Journal::begin(core, context, telemetry::Method::Other, core.ingress.telemetry.unmatched());
    respond::refused(journal, refusal, Told::refused())
}

/// Host, denied paths and the length of the body: what can be refused on the head alone.
pub(super) fn admit(exchange: &mut Exchange) -> Result<(), Refusal> {
    let settings = exchange.core.ingress.settings();
    let host = exchange.host.as_bytes();
    if !settings.hosts.is_empty() && !settings.hosts.iter().any(|known| routes::is_host(host, known)) {
        return Err(Refusal::MisdirectedRequest);
    }
    let denied = {
        let table = &exchange.core.ingress.table;
        table.denies(&exchange.parts.method, host, exchange.parts.uri.path()).map(Arc::clone)
    };
    if let Some(route) = denied {
        exchange.journal.note(|record| record.route = Arc::clone(&route.stats));
        return Err(Refusal::Denied);
    }
    let limit = exchange.route.body;
    if exchange.body.exact_len().is_some_and(|length| length > limit) {
        return Err(Refusal::BodyTooLarge);
    }
    Ok(())
}
