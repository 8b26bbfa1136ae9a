//! What the admin plane asks of others: small traits that `app.rs` implements over the cache, the backend and the
//! drain, so that this plane imports none of them.

use std::{borrow::Cow, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::admin::entry::EntryView;
use crate::telemetry::observed::Observed;

/// A future behind a pointer, for traits that are used as objects.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a purge is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every entry.
    All,
    /// Entries that carry the tag; a trailing `*` stands for any ending.
    Tag(String),
    /// All variants of one URL: a path with its query, or with scheme and host.
    Url(String),
    /// Every URL whose path begins with this, with or without scheme and host.
    Prefix(String),
    /// Every entry that came by the route with this name or template.
    Route(String),
    /// Every entry that is the own one of this user.
    Identity(String),
}

impl Scope {
    /// The word in the request, the answer and the log.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Tag(_) => "tag",
            Self::Url(_) => "url",
            Self::Prefix(_) => "prefix",
            Self::Route(_) => "route",
            Self::Identity(_) => "identity",
        }
    }
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries of the memory tier that it ended; none if counting them would need a scan.
    pub memory: Option<u64>,
    /// Whether other replicas still have to hear of it.
    pub pending: bool,
}

/// Ends cached answers.
pub trait Purge: Send + Sync + 'static {
    /// Ends what `scope` names; `soft` keeps it as stale. From its return on no purged copy is served here, and unless it
    /// says that it is pending, within a second none by another replica. Once polled it is done even if it is dropped.
    ///
    /// # Errors
    /// Why the scope names nothing that can be purged; nothing happened then.
    fn purge<'a>(&'a self, scope: &'a Scope, soft: bool) -> Boxed<'a, Result<Purged, Cow<'static, str>>>;
}

/// The answers of the probes. Both are asked for often and must cost no I/O: whoever checks the backend does so beside
/// them. The errors say why not, in words that may be shown: no addresses.
pub trait Health: Send + Sync + 'static {
    /// Whether the process works. Never depends on the backend.
    fn live(&self) -> Result<(), Cow<'static, str>>;
    /// Whether traffic should come here.
    fn ready(&self) -> Result<(), Cow<'static, str>>;
}

/// The backend's own answer to its health path.
#[derive(Clone, Debug)]
pub struct BackendAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its content type, kept when the body is passed through.
    pub content_type: Option<HeaderValue>,
    /// Its body. The fetch bounds it.
    pub body: Bytes,
    /// How long it took.
    pub took: Duration,
}

/// Why the backend gave no answer, in words that may be shown: no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendDown(pub Cow<'static, str>);

/// Asks the backend for its health.
pub trait BackendHealth: Send + Sync + 'static {
    /// One GET of the backend's health path with a deadline and a bound on the body. Dropping it is safe.
    fn fetch(&self) -> Boxed<'_, Result<BackendAnswer, BackendDown>>;
}

/// One of the most used entries. Its key is shown as template and cut id, never in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKey {
    /// The key as it may be shown.
    pub key: String,
    /// Hits so far.
    pub hits: u64,
    /// Size of the entry.
    pub bytes: u64,
    /// Seconds of freshness left; negative once it is stale.
    pub ttl_s: i64,
}

/// Looks into the cache, beyond the sizes that telemetry knows.
pub trait CacheView: Send + Sync + 'static {
    /// At most `most` of the most used entries, most used first.
    fn top_keys(&self, most: usize) -> Vec<TopKey>;
}

/// Tells what an observing cache found.
pub trait Advisor: Send + Sync + 'static {
    /// Everything so far.
    fn observed(&self) -> Observed;
}

/// Begins the drain; called again it does nothing.
pub trait Draining: Send + Sync + 'static {
    /// Turns readiness off and has connections closed after their answer. Listeners stay open.
    fn begin(&self);
    /// Leaves the clients to another process that listens on the same addresses: listeners close, connections are asked to
    /// leave, and then the process ends. False if it was leaving already.
    fn hand_over(&self) -> bool;
}

/// What came of a look at the file of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Reloaded {
    /// It is in force.
    Applied {
        /// Its hash.
        hash: String,
        /// The keys that keep their old value until the process starts anew.
        needs_restart: Vec<&'static str>,
    },
    /// It is as it was.
    Unchanged {
        /// The hash of the configuration in force.
        hash: String,
    },
    /// It is refused; the one before stays in force.
    Rejected {
        /// The hash of the configuration in force.
        hash: String,
        /// Why.
        error: String,
    },
}

/// Has the file of the configuration looked at.
pub trait Reloading: Send + Sync + 'static {
    /// Looks, and puts in force what has changed. None where there is no file, or too many ask. Once polled it is done even
    /// if it is dropped.
    fn reload(&self) -> Boxed<'_, Option<Reloaded>>;
}

/// What another replica answered.
#[derive(Clone, Debug)]
pub struct PeerAnswer {
    /// Where it was asked.
    pub pod: String,
    /// The body of its 200, or why there is none, in words for operators. The asking bounds it.
    pub body: Result<Bytes, Cow<'static, str>>,
}

/// Asks the other replicas' admin listeners.
pub trait Peers: Send + Sync + 'static {
    /// One GET of a path and query at each replica that is known, all at once and with one deadline for all. This process
    /// may be among them. Dropping it is safe.
    fn ask<'a>(&'a self, target: &'a str) -> Boxed<'a, Vec<PeerAnswer>>;
}

/// Everything that `app.rs` plugs in.
#[derive(Clone)]
pub struct Sources {
    /// Ends cached answers.
    pub purge: Arc<dyn Purge>,
    /// Answers the probes.
    pub health: Arc<dyn Health>,
    /// Asks the backend; none without an ingress plane.
    pub backend: Option<Arc<dyn BackendHealth>>,
    /// Looks into the cache; none if nobody counts uses by key.
    pub cache: Option<Arc<dyn CacheView>>,
    /// Looks for the entry of one request; none without an ingress plane.
    pub entries: Option<Arc<dyn EntryView>>,
    /// Tells what an observing cache found; none without an ingress plane.
    pub advisor: Option<Arc<dyn Advisor>>,
    /// Begins the drain.
    pub draining: Arc<dyn Draining>,
    /// Has the file of the configuration looked at.
    pub reloading: Arc<dyn Reloading>,
    /// Asks the other replicas; none if none are named.
    pub peers: Option<Arc<dyn Peers>>,
}
