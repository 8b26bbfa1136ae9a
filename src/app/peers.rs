//! The other replicas, plugged in: their names become addresses, and each is asked over the client that calls go out through.

use std::{borrow::Cow, collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use parking_lot::Mutex;
use tokio::{
    net::lookup_host,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    admin::{Boxed, PeerAnswer, Peers},
    config::{self, BackendAddress, Config, split_peer},
    net::{Body, BodyError, drain::Drain},
    telemetry::{SocketFault, UpstreamStats},
    upstream::{Call, Client, Error, Head, Timing, Upstream},
};

/// How long all replicas together may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is said of a replica that takes longer.
const LATE: &str = "no answer within 1 s";
/// How long a name may take to be resolved: so that those with known addresses are still asked in time.
const LOOKUP: Duration = Duration::from_millis(400);
/// How long the addresses of a name are good.
const LOOKED_UP: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const ANSWER_BYTES: usize = 4 << 20;
/// The most replicas that are asked.
const REPLICAS: usize = 64;

/// The other replicas.
pub(super) struct Replicas {
    names: Vec<Arc<Name>>,
    token: Option<HeaderValue>,
    drain: Drain,
}

/// A name, and the addresses that it had when it was last looked up.
struct Name {
    text: String,
    place: (String, u16),
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    looked_up: Option<Instant>,
    addresses: Vec<SocketAddr>,
    fault: Option<Cow<'static, str>>,
}

impl Replicas {
    /// The replicas that `config` names; none where it names none.
    pub(super) fn new(config: &Config, drain: &Drain) -> Option<Self> {
        let admin = config.admin.on().filter(|admin| !admin.peers.is_empty())?;
        let name = |text: &String| {
            // Others were refused with the configuration.
            let place = split_peer(text).ok()?;
            Some(Arc::new(Name { text: text.clone(), place, known: Mutex::default() }))
        };
        let token = admin.token.as_ref().and_then(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Some(Self { names: admin.peers.iter().filter_map(name).collect(), token, drain: drain.clone() })
    }

    async fn ask_all(&self, target: &str) -> Vec<PeerAnswer> {
        let deadline = Instant::now() + PATIENCE;
        let looking = self.names.iter().map(|name| {
            let name = Arc::clone(name);
            self.drain.spawn(async move {
                let (found, fault) = name.look_up().await;
                (name.text.clone(), found, fault)
            })
        });
        let mut answers = Vec::new();
        let mut addresses = BTreeSet::new();
        for (pod, found, fault) in all(looking.collect()).await {
            let fault = fault.filter(|_| found.is_empty());
            answers.extend(fault.map(|why| PeerAnswer { pod, body: Err(why) }));
            addresses.extend(found);
        }
        if addresses.len() > REPLICAS {
            let why = format!("{} more are not asked: {REPLICAS} are the most", addresses.len() - REPLICAS);
            answers.push(PeerAnswer { pod: "admin.peers".to_owned(), body: Err(why.into()) });
        }
        let Ok(target) = target.parse::<Uri>() else { return answers };
        let asking = addresses.into_iter().take(REPLICAS).map(|address| {
            let (target, token) = (target.clone(), self.token.clone());
            self.drain.spawn(async move {
                let body = match timeout_at(deadline, ask(address, &target, token)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(LATE.into()),
                };
                PeerAnswer { pod: address.to_string(), body }
            })
        });
        answers.extend(all(asking.collect()).await);
        answers
    }
}

impl Peers for Replicas {
    fn ask<'a>(&'a self, target: &'a str) -> Boxed<'a, Vec<PeerAnswer>> {
        Box::pin(self.ask_all(target))
    }
}

impl Name {
    /// The addresses, looked up anew if that was long ago. While nothing better is known the last ones stay.
    async fn look_up(&self) -> (Vec<SocketAddr>, Option<Cow<'static, str>>) {
        let is_old = self.known.lock().looked_up.is_none_or(|at| at.elapsed() >= LOOKED_UP);
        if is_old {
            let (host, port) = &self.place;
            let found = timeout(LOOKUP, lookup_host((host.as_str(), *port))).await;
            let mut known = self.known.lock();
            known.looked_up = Some(Instant::now());
            known.fault = match found {
                Ok(Ok(found)) => {
                    known.addresses = found.take(REPLICAS + 1).collect();
                    known.addresses.is_empty().then(|| "the name has no addresses".into())
                }
                Ok(Err(error)) => Some(format!("the name cannot be resolved: {error}").into()),
                Err(_) => Some("resolving the name takes too long".into()),
            };
        }
        let known = self.known.lock();
        (known.addresses.clone(), known.fault.clone())
    }
}

/// What the tasks came to, in their order. They run all at once.
async fn all<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut results = Vec::new();
    for task in tasks {
        // One that panicked has nothing to say.
        results.extend(task.await);
    }
    results
}

/// One question. Dropping it closes the connection.
async fn ask(
    address: SocketAddr,
    target: &Uri,
    token: Option<HeaderValue>,
) -> Result<Bytes, Cow<'static, str>> {
    // Nothing here repeats or refuses by itself, as the next question comes in a second.
    let settings = config::Upstream {
        connect: PATIENCE,
        first_byte: PATIENCE,
        retries: 0,
        breaker: config::Breaker { enabled: false, ..config::Breaker::default() },
        ..config::Upstream::default()
    };
    let place = BackendAddress::Tcp { host: address.ip().to_string(), port: address.port() };
    let stats = Arc::new(UpstreamStats::new("peer"));
    let upstream = Upstream::new(place, &settings, &config::Limits::default(), stats);
    let client = Client::new(upstream.named(&address.to_string()));
    let mut request = Request::new(());
    *request.uri_mut() = target.clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, client.upstream().authority().clone());
    if let Some(token) = token {
        headers.insert(header::AUTHORIZATION, token);
    }
    let (parts, ()) = request.into_parts();
    let call =
        Call { body: Body::Empty, interim: None, first_byte: Some(PATIENCE), bulkhead: None, is_fresh: true };
    let reply = client.call(Head::of(&parts), call, &mut Timing::default()).await.map_err(in_words)?;
    match reply.response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => {
            return Err("it has another admin.token".into());
        }
        StatusCode::NOT_FOUND => return Err("it is of a version that gives no parts".into()),
        status => return Err(format!("it answered with status {}", status.as_u16()).into()),
    }
    reply.response.into_body().collect(ANSWER_BYTES).await.map_err(|error| match error {
        BodyError::TooLarge => "its answer is over 4 MiB".into(),
        _ => "its answer broke off".into(),
    })
}

fn in_words(error: Error) -> Cow<'static, str> {
    match error {
        Error::Connect(error) => SocketFault::of(&error).in_words().into(),
        // Whichever of the clocks was first: they all run for as long.
        Error::ConnectTimeout | Error::Timeout => LATE.into(),
        error => error.to_string().into(),
    }
}
