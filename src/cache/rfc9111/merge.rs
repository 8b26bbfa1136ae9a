//! Validation (RFC 9111 section 4.3): the request that asks whether a copy is still good, and what a 304 does
//! to the copy.

use http::{HeaderMap, header};

use super::{
    etag::{stored_etag, weak_match},
    fields::updated_fields,
    freshness::single_date,
    head::{RequestHead, ResponseHead, Stored, Times},
    policy::Policy,
    storable::{Storable, may_store},
};
use crate::telemetry::record::Reason;

/// What a 304 does to the copy that it was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The copy lives anew with this head and these numbers.
    Updated {
        /// The head to store and to answer with.
        head: HeaderMap,
        /// What replaces the copy's numbers and selecting values.
        storable: Box<Storable>,
    },
    /// The copy must go, but answers this one request with this head.
    Drop {
        /// The head to answer with.
        head: HeaderMap,
        /// Why the updated answer may not be stored.
        reason: Reason,
    },
    /// The 304 speaks of another representation: fetch again with [`make_unconditional`].
    Refetch,
}

/// Turns a client's request fields into those of a validating fetch: the client's own conditions and range
/// go, the copy's validators come. The selecting fields stay the client's.
pub fn make_conditional(request: &mut HeaderMap, stored: &Stored<'_>) {
    make_unconditional(request);
    if stored_etag(stored.headers).is_some()
        && !stored.meta.generated_etag
        && let Some(etag) = stored.headers.get(header::ETAG)
    {
        request.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if stored.meta.last_modified.is_some()
        && let Some(date) = stored.headers.get(header::LAST_MODIFIED)
    {
        request.insert(header::IF_MODIFIED_SINCE, date.clone());
    }
}

/// Takes a client's conditions and range off, so that the whole answer comes and can be stored.
pub fn make_unconditional(request: &mut HeaderMap) {
    for name in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::RANGE,
    ] {
        request.remove(name);
    }
}

/// Updates a copy with the 304 that validated it (RFC 9111 sections 3.2 and 4.3.4). `times` are those of the
/// validating fetch.
#[must_use]
pub fn merge(
    request: &RequestHead<'_>,
    stored: &Stored<'_>,
    not_modified: &HeaderMap,
    times: Times,
    policy: &Policy,
) -> Merge {
    if is_foreign(stored, not_modified, times.received_unix) {
        return Merge::Refetch;
    }
    let mut head = updated_fields(stored.headers, not_modified, policy.is_rfc());
    if single_date(not_modified, &header::DATE, times.received_unix).is_none() {
        head.remove(header::DATE);
    }
    if let Some(age) = not_modified.get(header::AGE) {
        head.insert(header::AGE, age.clone());
    }
    let answer = ResponseHead { status: stored.status, headers: &head };
    match may_store(&request.for_whole(), &answer, times, policy) {
        Ok(mut storable) => {
            if stored.meta.generated_etag && !not_modified.contains_key(header::ETAG) {
                storable.meta.generated_etag = true;
                storable.meta.validator = storable.meta.last_modified.is_some();
            }
            Merge::Updated { head: storable.head(&head), storable: Box::new(storable) }
        }
        Err(reason) => {
            head.remove(header::AGE);
            Merge::Drop { head, reason }
        }
    }
}

/// Whether a 304 has a validator that is not the copy's (RFC 9111 section 4.3.4).
fn is_foreign(stored: &Stored<'_>, not_modified: &HeaderMap, now_unix: i64) -> bool {
    if let Some(etag) = stored_etag(not_modified) {
        return !stored_etag(stored.headers).is_some_and(|ours| weak_match(ours, etag));
    }
    let changed = single_date(not_modified, &header::LAST_MODIFIED, now_unix);
    match (changed, stored.meta.last_modified) {
        (Some(changed), Some(ours)) => changed != ours,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
