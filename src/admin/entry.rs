//! `POST /api/v1/cache/entry` on the control listener: what is stored for one request. It reads, but keys and tags may
//! name users, so it stands behind the token of the writes, and the request's fields come in a body that no log has.

use std::{borrow::Cow, net::IpAddr};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::admin::{Admin, answer::Reply, purge};

/// The longest URL.
const URL_LIMIT: usize = 16 * 1024;

/// A request that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryAsked {
    /// The method; GET without one.
    #[serde(default = "get")]
    pub method: String,
    /// A URL, or a path with its query.
    pub url: String,
    /// The fields, as pairs of name and value.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The address that the connection comes from; the loopback without one.
    #[serde(default)]
    pub peer: Option<IpAddr>,
}

/// What is stored for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntryFound {
    /// The configuration that the process runs with.
    pub config_hash: String,
    /// The route that the request takes there.
    pub route: String,
    /// The name of the key.
    pub key: String,
    /// Why the cache is not asked at all.
    pub bypass: Option<String>,
    /// Why nothing is served, where the cache is asked.
    pub absence: Option<String>,
    /// The entry; also one that a purge has ended and nobody has asked for since.
    pub entry: Option<StoredEntry>,
    /// The purge that ended it, or made it stale.
    pub purged: Option<PurgedBy>,
    /// Variants of the URL; 0 where one answer fits every request.
    pub variants: u64,
    /// Whether the last answer could not be stored, so that nobody waits for another.
    pub hit_for_miss: bool,
}

/// An entry in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredEntry {
    /// The status.
    pub status: u16,
    /// Whose word its lifetime is: `origin` or `rule`.
    pub source: String,
    /// Seconds since it was made.
    pub age_s: u64,
    /// Seconds of freshness left; negative once it is stale.
    pub ttl_s: i64,
    /// Milliseconds after its end in which it is served while a fresh one is fetched.
    pub while_revalidate_ms: i64,
    /// Milliseconds after its end in which it is served in place of an error.
    pub if_error_ms: i64,
    /// Milliseconds after its end in which it is served when the backend cannot be reached.
    pub on_disconnect_ms: i64,
    /// Requests answered from it.
    pub hits: u64,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Bytes it takes in memory.
    pub bytes: u64,
    /// How long its fetch took.
    pub fetch_ms: u32,
    /// The purge generation before its fetch.
    pub generation: u64,
    /// The request fields it depends on.
    pub vary: Vec<String>,
    /// The names it can be purged by.
    pub tags: Vec<String>,
}

/// A purge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PurgedBy {
    /// What it named: `all`, `url`, `prefix`, `route` or `tag`.
    pub scope: String,
    /// Whether it only made entries stale.
    pub soft: bool,
    /// Its generation.
    pub generation: u64,
}

/// Looks for an entry.
pub trait EntryView: Send + Sync + 'static {
    /// What is stored for a request.
    ///
    /// # Errors
    /// Why it is no request that could have an entry.
    fn entry(&self, asked: &EntryAsked) -> Result<EntryFound, Cow<'static, str>>;
}

fn get() -> String {
    "GET".to_owned()
}

impl Admin {
    /// Answers what is stored for the request that a body describes.
    pub(super) fn entry(&self, body: &[u8], peer: Option<IpAddr>) -> Result<Reply, Reply> {
        let bad = |detail: &str| Reply::detail(StatusCode::BAD_REQUEST, detail);
        // serde would also read the members from an array, by their place.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(bad("the body is not a question: an object with `url` is needed"));
        }
        let asked: EntryAsked = serde_json::from_slice(body)
            .map_err(|error| bad(&format!("the body is not a question: {error}")))?;
        if asked.url.len() > URL_LIMIT {
            return Err(bad("a url has at most 16384 bytes"));
        }
        let Some(entries) = &self.terms().sources.entries else {
            return Err(Reply::detail(StatusCode::NOT_FOUND, "no ingress plane runs, so nothing is stored"));
        };
        let found = entries.entry(&asked).map_err(|why| bad(&why))?;
        let url = purge::audited_text(&asked.url);
        info!(peer = peer.map(tracing::field::display), url, "an entry of the cache was looked at");
        Ok(Reply::json(StatusCode::OK, &found))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::admin::{
        Admin, ControlService, Sources,
        fakes::{Fake, ask},
    };

    fn control(token: Option<&str>) -> ControlService {
        ControlService::new(Arc::new(crate::admin::fakes::admin(&Arc::new(Fake::default()), None, token)))
    }

    #[tokio::test]
    async fn an_entry_is_told_to_those_who_may_write() {
        let service = control(Some("secret"));
        let body = r#"{"url":"/a?b=c","headers":[["accept","x"]]}"#;

        let without = ask(&service, "POST /api/v1/cache/entry", &[], body).await;
        let with =
            ask(&service, "POST /api/v1/cache/entry", &[("authorization", "Bearer secret")], body).await;
        let get = ask(&service, "GET /api/v1/cache/entry", &[("authorization", "Bearer secret")], "").await;

        assert_eq!((without.status, with.status, get.status), (401, 200, 405));
        assert_eq!(with.json()["route"], "GET /a?b=c accept: x");
    }

    #[tokio::test]
    async fn a_question_is_read_strictly() {
        let service = control(None);
        let long = format!(r#"{{"url":"/{}"}}"#, "a".repeat(17 * 1024));
        let bad = [
            "",
            "[]",
            "{}",
            r#"{"url":1}"#,
            r#"{"url":"/a","uri":"/b"}"#,
            r#"{"url":"/a","headers":{"a":"b"}}"#,
            r#"{"url":"/a","headers":[["a"]]}"#,
            r#"{"url":"/a","peer":"localhost"}"#,
            r#"{"url":"nowhere"}"#,
            &long,
        ];
        for body in bad {
            let answer = ask(&service, "POST /api/v1/cache/entry", &[], body).await;

            assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        }
    }

    #[tokio::test]
    async fn without_an_ingress_plane_nothing_is_stored() {
        let fake = Arc::new(Fake::default());
        let sources = Sources { entries: None, ..fake.sources() };
        let service = ControlService::new(Arc::new(Admin::new(
            &crate::config::Config::default(),
            crate::telemetry::Telemetry::new(
                &crate::config::Telemetry::default(),
                crate::telemetry::Facts::default(),
                None,
            ),
            sources,
            crate::net::drain::Drain::new(),
        )));

        let answer = ask(&service, "POST /api/v1/cache/entry", &[], r#"{"url":"/a"}"#).await;

        assert_eq!(answer.status, 404);
    }
}
