//! Route templates from the backend's own OpenAPI document, so that requests without a configured route are counted
//! under a template and not all together. They are labels only: no learned route changes what happens to a request.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, header};
use serde::Deserialize;
use tracing::{debug, info};

use super::{Ingress, routes::Learned};
use crate::{
    config,
    net::{
        Body,
        drain::{Drain, Phase},
    },
    upstream::{Call, Client, Timing},
};

/// Bounds on the document and on one try.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_PATHS: usize = 500;
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries begin with this pause and double it up to the second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The document is read again this often, as a backend that restarts may have other routes.
const AGAIN: Duration = Duration::from_secs(300);

/// The part of an OpenAPI document that names routes.
#[derive(Deserialize)]
struct Document {
    paths: serde_json::Map<String, serde_json::Value>,
}

/// Reads the document at `path` once the backend answers, and from time to time after that, until shutdown.
pub fn spawn(ingress: Arc<Ingress>, config: Arc<config::Config>, path: String, drain: &Drain) {
    let mut closing = drain.reached(Phase::Closing);
    drain.spawn(async move {
        let client = Client::new(Arc::clone(&ingress.upstream));
        let mut pause = FIRST_PAUSE;
        loop {
            let next = match read(&client, &path).await {
                Some(templates) => {
                    info!(paths = templates.len(), "learned route templates from the backend");
                    if let Some(section) = &config.ingress {
                        let learned = Learned::compile(&config, section, &ingress.telemetry, &templates);
                        ingress.learned.store(Some(Arc::new(learned)));
                    }
                    pause = FIRST_PAUSE;
                    AGAIN
                }
                None => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause
                }
            };
            tokio::select! {
                () = &mut closing => return,
                () = tokio::time::sleep(next) => {}
            }
        }
    });
}

async fn read(client: &Client, path: &str) -> Option<Vec<(String, Vec<String>)>> {
    let mut request = Request::new(());
    *request.uri_mut() = path.parse().ok()?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    let (parts, ()) = request.into_parts();
    let call = Call { body: Body::Empty, interim: None, first_byte: Some(PATIENCE), bulkhead: None };
    let reply = client.call(&parts, call, &mut Timing::default()).await.ok()?;
    if !reply.response.status().is_success() {
        debug!(status = reply.response.status().as_u16(), "the backend has no OpenAPI document there");
        return None;
    }
    let body =
        tokio::time::timeout(PATIENCE, reply.response.into_body().collect(MAX_BYTES)).await.ok()?.ok()?;
    templates(&body)
}

/// The templates of a document with their methods.
fn templates(document: &[u8]) -> Option<Vec<(String, Vec<String>)>> {
    let document: Document = serde_json::from_slice(document).ok()?;
    let templates = document.paths.into_iter().take(MAX_PATHS).map(|(path, operations)| {
        let methods = operations.as_object().map(|operations| {
            let names = operations.keys().map(|name| name.to_ascii_uppercase());
            names
                .filter(|name| {
                    matches!(name.as_str(), "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "HEAD")
                })
                .collect()
        });
        (path, methods.unwrap_or_default())
    });
    Some(templates.collect())
}

#[cfg(test)]
mod tests {
    use super::templates;

    #[test]
    fn paths_and_methods_are_read_and_the_rest_is_ignored() {
        let document = br#"{"openapi":"3.1.0","paths":{"/a/{id}":{"get":{},"parameters":[]},"/b":{"post":{},"delete":{}}}}"#;

        let found = templates(document).unwrap();

        assert_eq!(
            found,
            [
                ("/a/{id}".to_owned(), vec!["GET".to_owned()]),
                ("/b".to_owned(), vec!["POST".to_owned(), "DELETE".to_owned()])
            ]
        );
        assert!(templates(b"<html>").is_none());
    }
}
