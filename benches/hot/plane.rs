//! The ingress plane as a whole, without sockets: a parsed request goes in, a written head and a record come out.

use std::{
    io,
    pin::pin,
    sync::Arc,
    task::{Context as Polling, Poll, Waker},
};

use bytes::BytesMut;
use divan::Bencher;
use http::Request;
use touchline::{
    cache::{Clock, KeyRule, observe::Observer},
    config::{self, BackendAddress},
    ingress::{Ingress, Live, Parts, Worker},
    net::{
        Body, Context, Done as _, End, Sent, Service as _,
        drain::Drain,
        h1::{
            framing::Framing,
            write::{ResponseLine, response_end, response_fields},
        },
    },
    telemetry::{Facts, Telemetry},
    upstream::Upstream,
};

use crate::{
    BATCH,
    samples::{self, BROWSER_REQUEST, SILENT_ANSWER, answer, entry, request, target},
};

/// A memory hit from the parsed request to the written head and the finished record. The argument is the number of
/// routes: half of them are exact paths, half templates as long as the one that matches, which is tried last. The route
/// table has no public lookup of its own, so the difference between the two lines is what it costs.
#[divan::bench(args = [1, 40], sample_size = BATCH)]
fn hit(bencher: Bencher<'_, '_>, routes: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let worker = worker(routes);
    let mut out = BytesMut::with_capacity(4096);
    serve(&worker, asked(), &mut out);
    assert!(String::from_utf8_lossy(&out).contains("x-cache-status: hit\r\n"));

    bencher.with_inputs(asked).bench_local_values(|asked| serve(&worker, asked, &mut out));
}

/// What a connection hands over for a browser's request.
fn asked() -> (Request<Body>, Context) {
    let head = request(BROWSER_REQUEST);
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers;
    (request, Context::internal())
}

/// What a connection does with a request, up to handing the body to the socket. Leaves the head in `out`.
fn serve(worker: &Worker, (request, context): (Request<Body>, Context), out: &mut BytesMut) {
    out.clear();
    // A hit waits for nothing, so one poll is all there is.
    let Poll::Ready(mut answer) =
        pin!(worker.call(request, context)).poll(&mut Polling::from_waker(Waker::noop()))
    else {
        panic!("the sample request is no hit: it waits")
    };
    let length = answer.response.body().exact_len().unwrap();
    let line = ResponseLine {
        status: answer.response.status(),
        framing: Framing::Length(length),
        keeps_length: false,
        close: false,
    };
    response_fields(out, line, answer.response.headers(), answer.encoded.as_ref());
    answer.done.fields(out);
    response_end(out, line);
    answer.done.sent(Sent { bytes: length, received: 0, end: End::Complete });
}

/// A plane with so many routes, whose cache holds the answer to the sample request.
fn worker(routes: usize) -> Worker {
    let rule = samples::rule();
    let route = |path: String| config::Route { path, cache: Some(rule.clone()), ..config::Route::default() };
    let mut paths: Vec<String> = (0..routes / 2).map(|id| format!("/api/exact/{id}")).collect();
    paths.extend((1..routes.div_ceil(2)).map(|id| format!("/api/area{id}/detail/{{id}}")));
    paths.push("/api/user/reputation/{user_id}".to_owned());
    assert_eq!(paths.len(), routes);
    let ingress =
        config::Ingress { routes: paths.into_iter().map(route).collect(), ..config::Ingress::default() };
    let config = config::Config::default();
    let telemetry = Telemetry::new(&config.telemetry, Facts::default(), Some(Box::new(io::sink())));
    // Nothing connects: every request is a hit.
    let backend = BackendAddress::Tcp { host: "127.0.0.1".to_owned(), port: 9 };
    let upstream = Upstream::new(backend, &ingress.upstream, &ingress.limits, telemetry.upstream("backend"));
    let (cache, clock) = (Arc::new(samples::cache()), Clock::system());
    let asked = request(BROWSER_REQUEST);
    let key = cache.key(&KeyRule::of_route(&rule).unwrap(), &target(), &asked.headers);
    cache.store(entry(key, &asked, &answer(SILENT_ANSWER), &cache), clock.now_ms()).unwrap();
    let observer = Arc::new(Observer::new(&config.cache));
    let parts =
        Parts { telemetry, cache, observer, clock, upstream, taken: None, drain: Drain::new(), chance: || 0 };
    Worker::new(Live::new(Ingress::new(&config, &ingress, parts).unwrap()))
}
