//! The heads that the benches work on, parsed from their bytes as a connection does it, and entries made of them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use touchline::{
    cache::{
        Cache, Key, NewEntry, Settings, Target,
        rfc9111::{Policy, RequestHead, ResponseHead, Times, may_store},
    },
    config,
    net::h1::{Limits, head},
};

/// The path of every sample request.
pub(crate) const PATH: &str = "/api/user/reputation/4711";

/// The host of every sample request.
pub(crate) const HOST: &[u8] = b"coach.example:8080";

/// The least a client sends: one field.
pub(crate) const SMALL_REQUEST: &str =
    "GET /api/user/reputation/4711 HTTP/1.1\r\nHost: coach.example:8080\r\n\r\n";

/// What a browser sends with a `fetch`: twelve fields.
pub(crate) const BROWSER_REQUEST: &str = "GET /api/user/reputation/4711 HTTP/1.1\r\n\
    Host: coach.example:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://coach.example/challenges\r\n\
    Connection: keep-alive\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Priority: u=4\r\n\
    TE: trailers\r\n\r\n";

/// What FastAPI on uvicorn answers when it says nothing about caching: four fields.
pub(crate) const SILENT_ANSWER: &str = "HTTP/1.1 200 OK\r\n\
    date: Fri, 15 Jan 2027 08:00:00 GMT\r\n\
    server: uvicorn\r\n\
    content-length: 2048\r\n\
    content-type: application/json\r\n\r\n";

/// What a careful backend answers: eight fields, a lifetime and a validator among them.
pub(crate) const DECLARED_ANSWER: &str = "HTTP/1.1 200 OK\r\n\
    date: Fri, 15 Jan 2027 08:00:00 GMT\r\n\
    server: uvicorn\r\n\
    content-length: 2048\r\n\
    content-type: application/json\r\n\
    cache-control: public, max-age=300, stale-while-revalidate=30\r\n\
    etag: \"33a64df551425fcc55e4d42a148795d9\"\r\n\
    vary: Accept-Encoding\r\n\
    x-content-type-options: nosniff\r\n\r\n";

/// The moment at which every sample answer was received, in monotonic milliseconds and in Unix seconds.
pub(crate) const RECEIVED: Times =
    Times { sent_ms: 10_000, received_ms: 10_000, received_unix: 1_800_000_000 };

/// The limits of a client's connection as they are without configuration.
pub(crate) fn client_limits() -> Limits {
    Limits::downstream(&config::Limits::default(), config::Underscores::Drop)
}

/// The limits of a connection to the backend as they are without configuration.
pub(crate) fn backend_limits() -> Limits {
    Limits::upstream(&config::Limits::default(), &config::Upstream::default())
}

/// A request, parsed.
pub(crate) fn request(text: &str) -> head::RequestHead {
    head::take_request(&mut BytesMut::from(text), &client_limits()).unwrap().unwrap()
}

/// An answer, parsed.
pub(crate) fn answer(text: &str) -> head::ResponseHead {
    head::take_response(&mut BytesMut::from(text), &backend_limits()).unwrap().unwrap()
}

/// A request as cache decisions see it.
pub(crate) fn asked(request: &head::RequestHead) -> RequestHead<'_> {
    RequestHead::new(&request.method, HOST, PATH.as_bytes(), &request.headers)
}

/// What a sample request is aimed at.
pub(crate) const fn target() -> Target<'static> {
    Target { scheme: touchline::cache::Scheme::Http, authority: HOST, path: PATH.as_bytes(), query: None }
}

/// The cache settings of a route with a rule of a minute.
pub(crate) fn rule() -> config::RouteCache {
    config::RouteCache { ttl: Some(Duration::from_mins(1)), ..config::RouteCache::default() }
}

/// The policy of that route.
pub(crate) fn ruled() -> Policy {
    Policy::from_config(&config::Cache::default(), Some(&rule()))
}

/// An empty cache of the usual size.
pub(crate) fn cache() -> Cache {
    Cache::new(&Settings::from(&config::Cache::default()))
}

/// An entry for `key`, as if `answer` with 2 KiB of body had come for `request` at [`RECEIVED`].
pub(crate) fn entry(
    key: Key,
    request: &head::RequestHead,
    answer: &head::ResponseHead,
    cache: &Cache,
) -> NewEntry {
    let head = ResponseHead { status: answer.status, headers: &answer.headers };
    let storable = may_store(&asked(request), &head, RECEIVED, &ruled()).unwrap();
    NewEntry {
        key,
        route: None,
        status: answer.status,
        headers: storable.head(&answer.headers),
        body: Bytes::from(vec![b'x'; 2048]),
        meta: storable.meta,
        selection: storable.selection,
        tags: Vec::new(),
        wants_etag: storable.wants_etag,
        generation: cache.generation(),
        fetch_ms: 20,
    }
}

/// The fields of a browser's request, with another list of content codings.
pub(crate) fn accepting(codings: &'static str) -> HeaderMap {
    let mut headers = request(BROWSER_REQUEST).headers;
    headers.insert(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static(codings));
    headers
}
