//! What an answer takes away from the store: after unsafe methods (RFC 9111 section 4.4), and after a HEAD
//! that contradicts (4.3.5).

use http::{HeaderMap, Method, StatusCode, header};

use super::{
    head::{RequestHead, ResponseHead, Stored},
    target::resolve,
};

/// Whether the stored copies of the request's target must go: an answer that is no error, to any method that
/// is not known to be safe.
#[must_use]
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let is_safe = matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY");
    !is_safe && (status.is_success() || status.is_redirection())
}

/// The further targets that must go with the request's own: `Location` and `Content-Location`, as far as they
/// are of the same authority. Each is a path and query as a request for it would carry them.
#[must_use]
pub fn invalidated_targets(request: &RequestHead<'_>, response: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = [header::LOCATION, header::CONTENT_LOCATION].map(|name| response.get_all(name));
    let mut targets = Vec::new();
    for line in lines.iter().flatten() {
        let Some(target) = resolve(request.authority, request.target, line.as_bytes()) else { continue };
        if target != request.target && !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets
}

/// Whether the answer to a HEAD shows that the stored answer to a GET is out of date, so that it is to be
/// marked with [`super::Meta::expired`].
#[must_use]
pub fn head_contradicts(stored: &Stored<'_>, response: &ResponseHead<'_>) -> bool {
    if response.status != stored.status {
        return false;
    }
    [header::CONTENT_LENGTH, header::ETAG, header::LAST_MODIFIED].iter().any(|name| {
        let is_ours = *name == header::ETAG && stored.meta.generated_etag;
        match (stored.headers.get(name), response.headers.get(name)) {
            (Some(old), Some(new)) => old != new && !is_ours,
            _ => false,
        }
    })
}

/// Whether the answer says that it represents the very URI that was asked (RFC 9110 section 8.7).
pub(super) fn is_own_location(request: &RequestHead<'_>, response: &HeaderMap) -> bool {
    let mut lines = response.get_all(header::CONTENT_LOCATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    resolve(request.authority, request.target, line.as_bytes()).is_some_and(|target| target == request.target)
}

#[cfg(test)]
mod tests;
