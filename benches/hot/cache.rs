//! The memory tier: from a request's head to the entry that fits it.

use divan::{Bencher, black_box};
use touchline::cache::{Cache, KeyRule};

use crate::{
    BATCH,
    samples::{
        BROWSER_REQUEST, DECLARED_ANSWER, RECEIVED, SILENT_ANSWER, accepting, answer, cache, entry, request,
        rule, target,
    },
};

/// Other resources in the cache, so that the one asked for does not lie there alone.
const OTHERS: usize = 1000;

/// Making the key of a route with a rule: host, path and `Origin`.
#[divan::bench(sample_size = BATCH)]
fn key(bencher: Bencher<'_, '_>) {
    let (cache, rule) = (cache(), KeyRule::of_route(&rule()).unwrap());
    let request = request(BROWSER_REQUEST);

    bencher.bench_local(|| cache.key(&rule, black_box(&target()), black_box(&request.headers)));
}

/// Key and lookup of a resource with one entry for everybody: the usual hit, among a thousand other entries.
#[divan::bench(sample_size = BATCH)]
fn key_and_hit(bencher: Bencher<'_, '_>) {
    let (cache, rule) = (full(), KeyRule::of_route(&rule()).unwrap());
    let request = request(BROWSER_REQUEST);
    let key = cache.key(&rule, &target(), &request.headers);
    cache.store(entry(key, &request, &answer(SILENT_ANSWER), &cache), RECEIVED.received_ms).unwrap();

    find(bencher, &cache, &rule, &request.headers);
}

/// Key and lookup of a resource that varies by `Accept-Encoding`: the second of two variants fits.
#[divan::bench(sample_size = BATCH)]
fn key_and_hit_with_vary(bencher: Bencher<'_, '_>) {
    let (cache, rule) = (full(), KeyRule::of_route(&rule()).unwrap());
    for codings in ["identity", "gzip, deflate, br, zstd"] {
        let request =
            touchline::net::h1::head::RequestHead { headers: accepting(codings), ..request(BROWSER_REQUEST) };
        let key = cache.key(&rule, &target(), &request.headers);
        let new = entry(key, &request, &answer(DECLARED_ANSWER), &cache);
        assert!(!new.selection.is_any());
        cache.store(new, RECEIVED.received_ms).unwrap();
    }

    find(bencher, &cache, &rule, &request(BROWSER_REQUEST).headers);
}

fn find(bencher: Bencher<'_, '_>, cache: &Cache, rule: &KeyRule, headers: &http::HeaderMap) {
    let look = || {
        let key = cache.key(rule, black_box(&target()), black_box(headers));
        cache.lookup(key, headers, RECEIVED.received_ms + 1000)
    };
    assert!(look().entry.is_some());

    bencher.bench_local(look);
}

/// A cache that holds other things.
fn full() -> Cache {
    let cache = cache();
    let (request, answer) = (request(BROWSER_REQUEST), answer(SILENT_ANSWER));
    for id in 0..OTHERS {
        let path = format!("/api/session/{id}");
        let target = touchline::cache::Target { path: path.as_bytes(), ..target() };
        let key = cache.key(&KeyRule::default(), &target, &request.headers);
        cache.store(entry(key, &request, &answer, &cache), RECEIVED.received_ms).unwrap();
    }
    cache
}
