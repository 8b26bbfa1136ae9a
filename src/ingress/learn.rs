//! Route templates from the backend's own OpenAPI document, so that requests without a configured route are counted
//! under a template and not all together. They are labels only: no learned route changes what happens to a request.

use std::{sync::Arc, time::Duration};

use http::{Request, header};
use serde::Deserialize;
use tracing::debug;

use super::{Ingress, routes::Learned};
use crate::{
    net::{
        Body,
        drain::{Drain, Phase},
    },
    upstream::{Call, Client, Head, Timing},
};

/// Bounds on the document and on one try.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_PATHS: usize = 500;
const MAX_TEMPLATE: usize = 256;
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
pub fn spawn(ingress: Arc<Ingress>, slow_after: Duration, path: String, drain: &Drain) {
    let mut closing = drain.reached(Phase::Closing);
    drain.spawn(async move {
        let client = Client::new(Arc::clone(&ingress.upstream));
        let mut pause = FIRST_PAUSE;
        loop {
            let next = match read(&client, &path).await {
                Some(templates) => {
                    ingress.learn(&templates, slow_after);
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

impl Ingress {
    /// Takes templates as labels. Of a backend that tells new ones for ever, no more are taken.
    fn learn(&self, templates: &[(String, Vec<String>)], slow_after: Duration) {
        let mut known = self.learned.names.lock();
        let mut learned = Learned::default();
        for (path, methods) in templates {
            if !known.contains(path) {
                if known.len() >= MAX_PATHS {
                    continue;
                }
                debug!(path, "learned a route template from the backend");
                known.insert(path.clone());
            }
            learned.learn(path, methods, self.telemetry.route(path, slow_after));
        }
        learned.sort();
        self.learned.current.store(Some(Arc::new(learned)));
    }
}

async fn read(client: &Client, path: &str) -> Option<Vec<(String, Vec<String>)>> {
    let mut request = Request::new(());
    *request.uri_mut() = path.parse().ok()?;
    request.headers_mut().insert(header::HOST, client.upstream().authority().clone());
    let (parts, ()) = request.into_parts();
    let call = Call {
        body: Body::Empty,
        interim: None,
        first_byte: Some(PATIENCE),
        bulkhead: None,
        is_fresh: false,
    };
    let reply = client.call(Head::of(&parts), call, &mut Timing::default()).await.ok()?;
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
    let templates =
        document.paths.into_iter().filter(|(path, _)| path.len() <= MAX_TEMPLATE).take(MAX_PATHS).map(
            |(path, operations)| {
                let methods = operations.as_object().map(|operations| {
                    let names = operations.keys().map(|name| name.to_ascii_uppercase());
                    names
                        .filter(|name| {
                            matches!(
                                name.as_str(),
                                "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "HEAD"
                            )
                        })
                        .collect()
                });
                (path, methods.unwrap_or_default())
            },
        );
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
