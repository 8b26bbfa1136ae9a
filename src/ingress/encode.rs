//! Coded answers from the store: which representation of an entry a request gets, and making those that are wanted.
//!
//! No request waits for a coding. Who is the first to want one gets the plain body, and behind the answer the coding is
//! made on a thread that serves nobody. The next one gets it.

use std::sync::Arc;

use http::{HeaderValue, Method, header};

use super::exchange::Exchange;
use crate::cache::{
    Entry, Representation, encode,
    rfc9111::{
        Accepted, Coding, Condition, RequestHead, Stored, condition, forbids_transforming, is_encodable,
        is_etag, is_long_enough, known_tag,
    },
};

/// Codings made at once in the whole process. Each takes a core while it lasts, and a few megabytes: with one at a time
/// a flood of new entries leaves the others to those who serve. Who finds no place goes without, and the next request
/// tries again.
pub(super) const AT_ONCE: usize = 1;

/// What of an entry a request is shown.
pub(super) struct Shown<'a> {
    pub(super) representation: Representation<'a>,
    /// The entity tag of a representation that the client has already.
    pub(super) known: Option<HeaderValue>,
    /// False where a range might be put together with one of another representation.
    is_divisible: bool,
}

/// Chooses the representation of an entry by the client's wishes.
pub(super) fn choose<'a>(exchange: &Exchange, head: &RequestHead<'_>, entry: &'a Arc<Entry>) -> Shown<'a> {
    let mut shown = Shown { representation: entry.plain(), known: None, is_divisible: true };
    if !exchange.route.policy.compress || forbids_transforming(head.headers) {
        return shown;
    }
    let accepted = Accepted::of(head.headers);
    let is_coded = Coding::ALL.iter().any(|coding| entry.coded(*coding).is_some());
    if !is_coded && !may_code(entry) {
        return shown;
    }
    let wanted = || accepted.wanted().filter(|coding| !entry.is_useless(*coding));
    if head.has_condition() {
        shown.known = known_tag(head.headers, entry.headers(), wanted());
        if *head.method == Method::GET && head.headers.contains_key(header::RANGE) {
            // Ranges are cut from the plain body. A date does not say of which representation the client has a part.
            let validator = head.headers.get(header::IF_RANGE);
            shown.is_divisible =
                wanted().next().is_none() || validator.is_none_or(|value| is_etag(value.as_bytes()));
            return shown;
        }
    }
    if let Some(coding) = wanted().next().filter(|coding| entry.coded(*coding).is_none()) {
        make(exchange, entry, coding);
    }
    if let Some(coded) = wanted().find_map(|coding| entry.coded(coding)) {
        shown.representation = coded;
    }
    shown
}

impl Shown<'_> {
    /// What of it is sent.
    pub(super) fn condition(&self, head: &RequestHead<'_>, entry: &Entry, now_unix: i64) -> Condition {
        if self.known.is_some() {
            return Condition::NotModified;
        }
        let stored = Stored { headers: self.representation.headers(), ..entry.stored() };
        let length = u64::try_from(self.representation.body().len()).unwrap_or(u64::MAX);
        match condition(head, &stored, length, now_unix) {
            Condition::Range { .. } | Condition::Unsatisfiable if !self.is_divisible => Condition::Full,
            other => other,
        }
    }
}

fn may_code(entry: &Entry) -> bool {
    is_encodable(entry.status(), entry.headers())
        && is_long_enough(u64::try_from(entry.body().len()).unwrap_or(u64::MAX))
}

/// Makes a coding behind the answer, unless somebody does. It is tried once in the life of an entry: what fails would
/// fail again.
fn make(exchange: &Exchange, entry: &Arc<Entry>, coding: Coding) {
    let ingress = exchange.ingress();
    if entry.is_begun(coding) || ingress.drain.is_closing() {
        return;
    }
    let Ok(place) = Arc::clone(&ingress.encoders).try_acquire_owned() else { return };
    if !ingress.cache.holds(entry) || !entry.begin_coding(coding) {
        return;
    }
    let (core, entry) = (Arc::clone(&exchange.core), Arc::clone(entry));
    ingress.drain.spawn(async move {
        let body = entry.body().clone();
        let Ok(coded) = tokio::task::spawn_blocking(move || encode(coding, &body)).await else { return };
        let (from, to) = (entry.body().len(), coded.as_ref().map(bytes::Bytes::len));
        tracing::debug!(route = entry.route(), coding = coding.as_str(), from, to, "coded a stored body");
        core.ingress.cache.add_coding(&entry, coding, coded, core.ingress.clock.now_ms());
        drop(place);
    });
}
