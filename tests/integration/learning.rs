//! Route templates that the backend's own OpenAPI document tells: labels, and nothing else.

use crate::support::{
    app::Setup,
    backend::{Backend, ok},
    client::get,
    until_async,
};

const DOCUMENT: &str = r#"{"openapi":"3.1.0","paths":{"/learned/{id}":{"get":{}},"/only/post":{"post":{}}}}"#;

#[tokio::test]
async fn requests_without_a_route_are_counted_under_the_backends_own_templates() {
    let backend =
        Backend::start(|request| if request.target() == "/openapi.json" { ok(DOCUMENT) } else { ok("hi") })
            .await;
    let proxy = Setup::before(&backend).ingress("openapi", "/openapi.json").start();

    until_async("the template is learned", async || {
        get(proxy.address, "/learned/7").await;
        proxy.page("/metrics").await.text().contains(r#"route="/learned/{id}""#)
    })
    .await;
    get(proxy.address, "/only/post").await;

    let metrics = proxy.page("/metrics").await.text();
    assert!(!metrics.contains(r#"route="/only/post""#), "a GET was counted under a template for POST");
    assert!(metrics.contains(r#"route="unmatched""#));
}
