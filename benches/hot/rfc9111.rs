//! The decisions of RFC 9111 that are taken on every request and on every answer that might be kept.

use divan::{Bencher, black_box};
use http::{HeaderValue, header};
use touchline::cache::{
    Entry,
    rfc9111::{Admission, Condition, ResponseHead, Reuse, admit, condition, may_reuse, may_store},
};

use crate::{
    BATCH,
    samples::{
        BROWSER_REQUEST, DECLARED_ANSWER, RECEIVED, SILENT_ANSWER, answer, asked, cache, entry, request,
        ruled, target,
    },
};

/// Every decision of a hit: a browser's request is admitted, the entry is fresh, the whole of it is sent.
#[divan::bench(sample_size = BATCH)]
fn fresh_hit(bencher: Bencher<'_, '_>) {
    decide(bencher, None, Condition::Full);
}

/// The same for a poller that names the entity tag it has: a 304 is sent.
#[divan::bench(sample_size = BATCH)]
fn fresh_hit_not_modified(bencher: Bencher<'_, '_>) {
    decide(bencher, Some("\"33a64df551425fcc55e4d42a148795d9\""), Condition::NotModified);
}

fn decide(bencher: Bencher<'_, '_>, etag: Option<&'static str>, expected: Condition) {
    let (policy, cache) = (ruled(), cache());
    let mut request = request(BROWSER_REQUEST);
    let key = cache.key(&touchline::cache::KeyRule::default(), &target(), &request.headers);
    let entry = Entry::new(entry(key, &request, &answer(DECLARED_ANSWER), &cache));
    if let Some(etag) = etag {
        request.headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(etag));
    }
    let (now_ms, now_unix) = (RECEIVED.received_ms + 1000, RECEIVED.received_unix + 1);
    let decide = || {
        let head = asked(black_box(&request));
        (
            admit(&head, &policy),
            may_reuse(&head, entry.meta(), now_ms, &policy),
            condition(&head, &entry.stored(), entry.body().len() as u64, now_unix),
        )
    };
    assert_eq!(decide(), (Admission::Lookup, Reuse::Fresh, expected));

    bencher.bench_local(decide);
}

/// Judging the answer to a miss that says nothing about caching, on a route with a rule.
#[divan::bench(sample_size = BATCH)]
fn may_store_by_rule(bencher: Bencher<'_, '_>) {
    judge(bencher, SILENT_ANSWER);
}

/// Judging an answer that declares its lifetime, windows, validator and `Vary`.
#[divan::bench(sample_size = BATCH)]
fn may_store_as_declared(bencher: Bencher<'_, '_>) {
    judge(bencher, DECLARED_ANSWER);
}

fn judge(bencher: Bencher<'_, '_>, text: &str) {
    let (policy, request, answer) = (ruled(), request(BROWSER_REQUEST), answer(text));
    let judge = || {
        let response = ResponseHead { status: answer.status, headers: black_box(&answer.headers) };
        may_store(&asked(black_box(&request)), &response, RECEIVED, &policy)
    };
    assert!(judge().is_ok());

    bencher.bench_local(judge);
}
