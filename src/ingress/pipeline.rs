//! The way of a request, on one screen.
//!
//! ```text
//! begin -> admit -> taken? -> denied? -> lookup --hit--------------------------------> respond
//!                                          |                                              ^
//!                                          +-- miss, stale, bypass -> fetch -> keep ------+
//! ```

use std::sync::Arc;

use http::{Method, Request, Response};

use super::{
    Core,
    exchange::Exchange,
    fetch, invalidate,
    journal::Journal,
    lookup::{self, Looked},
    respond::{self, Told},
    routes,
};
use crate::{
    net::{Answer, Body, Context, Refusal},
    telemetry,
};

/// Serves one request.
pub(super) async fn serve(core: &Arc<Core>, request: Request<Body>, context: Context) -> Answer<Journal> {
    if let Some(taken) = core.ingress.taken.as_ref().filter(|taken| taken.takes(request.uri().path())) {
        let journal =
            Journal::begin(core, &context, method_of(request.method()), core.ingress.telemetry.unmatched());
        let response = taken.answer(request, context).await;
        return respond::own(journal, response);
    }
    let mut exchange = Exchange::begin(core, request, context);
    if let Err(refusal) = admit(&mut exchange) {
        return respond::refusal(exchange, refusal);
    }
    let (response, told) = match lookup::look(&mut exchange).await {
        Looked::Answer(response, told) => (response, told),
        Looked::Fetch(plan) => match fetch::fetch(&mut exchange, plan).await {
            Ok((response, told)) => {
                invalidate::after(&exchange, response.status(), response.headers());
                (response, told)
            }
            Err(refusal) => return respond::refusal(exchange, refusal),
        },
    };
    respond::answer(exchange, response, told)
}

/// Answers what never became a request.
pub(super) fn refuse(core: &Arc<Core>, refusal: Refusal, context: &Context) -> Answer<Journal> {
    let journal = Journal::begin(core, context, telemetry::Method::Other, core.ingress.telemetry.unmatched());
    respond::refused(journal, refusal, None)
}

/// Host, denied paths and the length of the body: what can be refused on the head alone.
fn admit(exchange: &mut Exchange) -> Result<(), Refusal> {
    let settings = &exchange.core.ingress.settings;
    let host = exchange.host();
    if !settings.hosts.is_empty() && !settings.hosts.iter().any(|known| routes::is_host(host, known)) {
        return Err(Refusal::MisdirectedRequest);
    }
    let denied = {
        let table = exchange.core.ingress.table.load();
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

fn method_of(method: &Method) -> telemetry::Method {
    telemetry::Method::from_name(method.as_str())
}

/// The answer of a stage: a response and what is told about it.
pub(super) type Outcome = (Response<Body>, Told);
