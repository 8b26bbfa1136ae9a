//! Spans and metrics end to end: from requests of clients to a collector, also one that refuses or hangs.

use serde_json::Value;

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, answer, ok},
    client::{get, get_with},
    until, until_async,
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn proxy(backend: &Backend, collector: &Backend, more: &str) -> Proxy {
    let address = collector.address;
    let otlp = format!(
        "{{ service: coach, access_log: {{ enabled: false }}, alerts: {{ enabled: false }}, \
         otlp: {{ endpoint: \"http://{address}/otel\", interval: 1s{more} }} }}"
    );
    Setup::before(backend).top("telemetry", &otlp).start()
}

/// The messages that came to a path of the collector.
fn messages(collector: &Backend, path: &str) -> Vec<Value> {
    let requests = collector.requests();
    let own = requests.iter().filter(|request| request.target() == path);
    own.map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

fn spans(collector: &Backend) -> Vec<Value> {
    let spans = |message: &Value| message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned();
    messages(collector, "/otel/v1/traces").iter().filter_map(spans).flatten().collect()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
    span["attributes"]
        .as_array()?
        .iter()
        .find(|attribute| attribute["key"] == key)
        .map(|found| &found["value"])
}

#[tokio::test]
async fn a_span_stands_between_the_clients_and_the_backends() {
    let backend = Backend::start(|_| answer("503 Service Unavailable", &[], "bad")).await;
    let collector = Backend::start(|_| ok("{}")).await;
    let proxy = proxy(&backend, &collector, ", sample: 100%, authorization: Bearer canary");

    get_with(proxy.address, "/a", &[&format!("traceparent: {PARENT}")]).await;
    get(proxy.address, "/b").await;
    until("both spans came", || spans(&collector).len() == 2).await;

    let spans = spans(&collector);
    let span = spans.iter().find(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c").unwrap();
    assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
    assert_eq!((&span["kind"], &span["status"]["code"]), (&2.into(), &2.into()));
    assert_eq!(attribute(span, "http.response.status_code").unwrap()["intValue"], "503");
    assert!(span["startTimeUnixNano"].as_str() < span["endTimeUnixNano"].as_str());
    let id = span["spanId"].as_str().unwrap();
    let told = backend.requests()[0].field("traceparent").map(str::to_owned);
    assert_eq!(told, Some(format!("00-0af7651916cd43dd8448eb211c80319c-{id}-01")));
    let fresh = spans.iter().find(|span| span["traceId"] != "0af7651916cd43dd8448eb211c80319c").unwrap();
    assert!(fresh.get("parentSpanId").is_none());
    assert_eq!(collector.requests()[0].field("Authorization"), Some("Bearer canary"));
}

#[tokio::test]
async fn what_is_not_sampled_leaves_no_span() {
    let backend = Backend::start(|_| ok("good")).await;
    let collector = Backend::start(|_| ok("{}")).await;
    let proxy = proxy(&backend, &collector, ", sample: 0%");

    get_with(proxy.address, "/a", &[&format!("traceparent: {}0", &PARENT[..PARENT.len() - 1])]).await;
    get(proxy.address, "/b").await;
    get_with(proxy.address, "/c", &[&format!("traceparent: {PARENT}")]).await;
    until("the one span came", || !spans(&collector).is_empty()).await;

    assert_eq!(spans(&collector).len(), 1);
    let requests = backend.requests();
    let flags = requests.iter().map(|request| {
        request.field("traceparent").map(|trace| trace[trace.len() - 2..].to_owned()).unwrap_or_default()
    });
    assert_eq!(flags.collect::<Vec<_>>(), ["00", "00", "01"]);
}

#[tokio::test]
async fn metrics_are_totals_by_method_route_and_status() {
    let backend = Backend::start(|_| ok("good")).await;
    let collector = Backend::start(|_| ok("{}")).await;
    let proxy = proxy(&backend, &collector, ", traces: false");

    for _ in 0..3 {
        get(proxy.address, "/a").await;
    }
    let point = || {
        let messages = messages(&collector, "/otel/v1/metrics");
        let metrics = messages.last()?["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].clone();
        metrics[0]["histogram"]["dataPoints"].as_array()?.iter().find(|point| point["count"] == "3").cloned()
    };
    until("the requests are counted", || point().is_some()).await;

    let point = point().unwrap();
    assert_eq!(attribute(&point, "http.request.method").unwrap()["stringValue"], "GET");
    let buckets = point["bucketCounts"].as_array().unwrap();
    let sum: u64 = buckets.iter().map(|count| count.as_str().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!((sum, buckets.len()), (3, point["explicitBounds"].as_array().unwrap().len() + 1));
    assert!(spans(&collector).is_empty());
}

#[tokio::test]
async fn a_collector_that_refuses_costs_spans_and_no_request() {
    let backend = Backend::start(|_| ok("good")).await;
    let collector = Backend::start(|_| answer("503 Service Unavailable", &[], "busy")).await;
    let proxy = proxy(&backend, &collector, ", sample: 100%");

    assert_eq!(get(proxy.address, "/a").await.status, 200);
    until_async("the span is counted as dropped", || async {
        proxy.metric("touchline_telemetry_spans_total", "outcome=\"dropped\"").await >= 1.0
    })
    .await;

    assert!(proxy.metric("touchline_telemetry_exports_failed_total", "").await >= 1.0);
    assert_eq!(get(proxy.address, "/a").await.status, 200);
}
