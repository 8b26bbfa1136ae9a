//! What is learned of models while the plane runs: their limits, from `GET /v1/models` with a key of the operator's, and
//! what they refuse, from calls that came back after a change.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use serde::Deserialize;

use super::{
    Core,
    books::unix_now,
    catalog::{Correction, Feature},
    fit::Fit,
    rules::Rules,
    send::Ready,
};
use crate::{
    config::Transforms,
    net::{Body, drain::Phase},
    telemetry::claude::RoutingReason,
    upstream::{self, Timing},
};

/// How long reading one page may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first rest after a failure, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Pages that are read, and the largest of them.
const MOST_PAGES: usize = 20;
const PAGE_BYTES: usize = 1 << 20;

/// The version of the API that the list is read with.
const VERSION: &str = "2023-06-01";

/// Why the models could not be read.
#[derive(Debug, thiserror::Error)]
enum LearnError {
    /// There was no answer.
    #[error("the API does not answer")]
    Silent,
    /// It took too long.
    #[error("the API does not answer in time")]
    Late,
    /// The answer was an error.
    #[error("the API answered {0}")]
    Refused(StatusCode),
    /// The answer is no list of models.
    #[error("the answer is no list of models")]
    Unreadable,
    /// The corrected rules could not be put together.
    #[error("the rules could not be compiled again")]
    Rules,
}

/// Reads the models once, on one of the workers, and again after a rest where that fails. It delays nothing: until it is
/// done the shipped table counts, which is also what counts without a key. The keys of clients are never used.
pub(super) fn spawn(core: &Arc<Core>) {
    let claude = &core.claude;
    let key = claude.rules.load().config.capabilities.api_key.as_ref().and_then(|key| {
        let mut value = HeaderValue::from_str(key.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    let Some(key) = key.filter(|_| !claude.is_learning.swap(true, Relaxed)) else { return };
    let (core, mut closing) = (Arc::clone(core), claude.drain.reached(Phase::Closing));
    claude.drain.spawn(async move {
        tokio::select! {
            () = &mut closing => {}
            () = keep_asking(&core, &key) => {}
        }
    });
}

async fn keep_asking(core: &Arc<Core>, key: &HeaderValue) {
    let mut rest = RESTS.0;
    loop {
        match learn(core, key).await {
            Ok(models) => {
                tracing::info!(models, "the limits of models were read from the API");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, again_in = ?rest, "reading the limits of models failed");
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(RESTS.1);
            }
        }
    }
}

async fn learn(core: &Arc<Core>, key: &HeaderValue) -> Result<usize, LearnError> {
    let mut corrections = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let page = tokio::time::timeout(PATIENCE, page(core, key, after.as_deref()));
        let page = page.await.map_err(|_| LearnError::Late)??;
        let last = page.last_id.filter(|last| page.has_more && Some(last) != after.as_ref());
        corrections.extend(page.data.into_iter().map(|model| Correction {
            id: model.id,
            context: model.max_input_tokens,
            max_output: model.max_tokens,
        }));
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    let models = corrections.len();
    let (core, known) = (Arc::clone(core), corrections);
    // Compiling the rules again takes longer than a worker's other calls should wait.
    let swapped = tokio::task::spawn_blocking(move || lay_over(&core, &known)).await;
    swapped.map_err(|_| LearnError::Rules)??;
    Ok(models)
}

/// Puts rules in place whose models have the corrected limits; what refusals have taught stays.
fn lay_over(core: &Core, corrections: &[Correction]) -> Result<(), LearnError> {
    let claude = &core.claude;
    loop {
        let present = claude.rules.load_full();
        let mut rules = Rules::compile(present.config.clone()).map_err(|_| LearnError::Rules)?;
        rules.catalog = present.catalog.corrected(corrections);
        // Rules that were reloaded in the meantime are corrected in their turn.
        let before = claude.rules.compare_and_swap(&present, Arc::new(rules));
        if Arc::ptr_eq(&before, &present) {
            return Ok(());
        }
    }
}

/// A page of models. Members that are not read may be of any kind.
#[derive(Deserialize)]
struct Page {
    data: Vec<Told>,
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    last_id: Option<String>,
}

#[derive(Deserialize)]
struct Told {
    id: String,
    #[serde(default)]
    max_input_tokens: Option<u64>,
    #[serde(default)]
    max_tokens: Option<u64>,
}

async fn page(core: &Core, key: &HeaderValue, after: Option<&str>) -> Result<Page, LearnError> {
    let target = match after {
        // Ids are letters, digits and dashes; one that is not ends the list.
        Some(after) => format!("/v1/models?limit=1000&after_id={after}"),
        None => "/v1/models?limit=1000".to_owned(),
    };
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = target.parse::<Uri>().map_err(|_| LearnError::Unreadable)?;
    let fields = request.headers_mut();
    fields.insert(header::HOST, core.client.upstream().authority().clone());
    fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(header::USER_AGENT, HeaderValue::from_static("touchline"));
    fields.insert("anthropic-version", HeaderValue::from_static(VERSION));
    fields.insert("x-api-key", key.clone());
    let (parts, ()) = request.into_parts();
    let call = upstream::Call {
        body: Body::Empty,
        interim: None,
        first_byte: Some(PATIENCE),
        bulkhead: None,
        is_fresh: false,
    };
    let reply = core.client.call(upstream::Head::of(&parts), call, &mut Timing::default()).await;
    let response = reply.map_err(|_| LearnError::Silent)?.response;
    if response.status() != StatusCode::OK {
        return Err(LearnError::Refused(response.status()));
    }
    let body = response.into_body().collect(PAGE_BYTES).await.map_err(|_| LearnError::Unreadable)?;
    serde_json::from_slice(&body).map_err(|_| LearnError::Unreadable)
}

/// Learns from a call that was refused as changed and answered as it was. `status` is that of the answer.
pub(super) fn from_fallback(ready: &Ready, status: StatusCode, why: &'static str) {
    let Ready { core, rules, asked, plan, books, .. } = ready;
    let requested = rules.index(&asked.message.model);
    books.note(|call| {
        call.fell_back = true;
        call.transforms = Transforms::NONE;
        call.reason = RoutingReason::NoRoute;
        call.model = Arc::clone(rules.label(requested));
        call.tier = rules.tier_of(&asked.message.model);
    });
    books.amend(|turn| {
        turn.used = requested;
        turn.breakpoints = None;
    });
    // Refused with the client's own bytes too, it was no fault of the change; the turn as it was sent last is remembered.
    let was_ours = status != StatusCode::BAD_REQUEST && status != StatusCode::NOT_FOUND;
    if let Some(whole) = asked.conversation.last() {
        core.claude.conversations.amend(*whole, |state| {
            state.no_route |= was_ours;
            state.model = requested.unwrap_or(state.model);
            state.is_hour = None;
        });
    }
    if !was_ours {
        return;
    }
    let target = plan.changes.model.or(requested).and_then(|index| rules.model(index));
    let Some(target) = target else { return };
    // Which change was at fault is not known where there were two.
    let fit = Fit::new(rules, asked, &ready.begun.head, None, 0);
    let moved = if plan.changes.model.is_some() {
        fit.features(plan.changes.transforms)
    } else {
        super::catalog::Features::NONE
    };
    let features = moved.with_if(Feature::Breakpoint, plan.changes.breakpoints.is_some());
    if plan.changes.model.is_some() || plan.changes.breakpoints.is_some() {
        rules.catalog.learned().refuse(&target.id, features, unix_now());
    }
    tracing::warn!(model = %target.id, reason = why, "a call was refused after a change and answered as it was sent");
}

/// Notes that a neighbouring tier has answered in the place of an overloaded model.
pub(super) fn from_neighbour(ready: &Ready) {
    let Ready { core, rules, asked, plan, books, .. } = ready;
    let Some((neighbour, transforms)) = plan.neighbour else { return };
    books.note(|call| {
        call.transforms = transforms;
        call.model = Arc::clone(rules.label(Some(neighbour)));
        call.tier = rules.tier_at(neighbour);
        call.reason = RoutingReason::Overload;
    });
    books.amend(|turn| {
        turn.used = Some(neighbour);
        turn.breakpoints = None;
        turn.is_untouched = false;
    });
    if let Some(whole) = asked.conversation.last() {
        core.claude.conversations.amend(*whole, |state| {
            state.model = neighbour;
            state.moves |= 1;
        });
    }
}
