//! Alerts and exports, plugged in: their way to receivers over the client that calls go out through, the store that settles
//! which replica speaks, and the tasks.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    cache::Cache,
    config::{self, BackendAddress, Config, ReceiverKind, ReceiverView, Secret, WebUrl},
    net::{
        Body,
        drain::{Drain, Phase},
    },
    telemetry::{
        SocketFault, Telemetry, UpstreamStats,
        alerts::{Channel, Claim, Holding, Post, PostError, Posting, Releasing, Watch},
        otlp::Exporter,
    },
    upstream::{Call, Client, Error, Head, Timing, Tls, Upstream},
};

/// How long a receiver may take to be connected to, and to answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// What is read of an answer. None of it is looked at; read to its end, its connection can be used again.
const ANSWER_BYTES: usize = 64 << 10;
/// Where an Alertmanager takes alerts, below its address.
const ALERTMANAGER_PATH: &str = "/api/v2/alerts";

/// The watch over the rules; none where alerts are off.
///
/// # Errors
/// When TLS to a receiver cannot be set up.
pub(super) fn watch(
    config: &Config,
    telemetry: &Arc<Telemetry>,
    cache: &Arc<Cache>,
) -> anyhow::Result<Option<Watch>> {
    let alerts = &config.telemetry.alerts;
    if !alerts.enabled {
        return Ok(None);
    }
    let receivers = alerts.notify.iter().filter_map(config::Receiver::view);
    let posts = receivers.map(|view| {
        let post = Receiver::of(&view)
            .with_context(|| format!("setting up telemetry.alerts.notify {}", view.name))?;
        Ok(Arc::new(post) as Arc<dyn Post>)
    });
    let posts = posts.collect::<anyhow::Result<Vec<_>>>()?;
    let claim = cache.redis().map(|_| Arc::new(Names(Arc::clone(cache))) as Arc<dyn Claim>);
    Ok(Watch::new(telemetry, &config.telemetry, posts, claim))
}

/// A watch in the place of the present one; none where alerts are off from now on.
pub(super) type Renewal = Option<Box<Watch>>;

/// Spawns the watch and the ways to its receivers, and puts watches of other configurations in its place as they come. They
/// end when the process does.
pub(super) fn spawn(watch: Option<Watch>, mut renewals: UnboundedReceiver<Renewal>, drain: &Drain) {
    let (mut closing, channels_end) = (drain.reached(Phase::Closing), drain.clone());
    drain.spawn(async move {
        let spawn_channels = |channels: Vec<Arc<Channel>>| {
            for channel in channels {
                let closing = channels_end.reached(Phase::Closing);
                channels_end.spawn(async move { channel.run(closing).await });
            }
        };
        let mut watch = watch;
        spawn_channels(watch.iter().flat_map(Watch::channels).collect());
        loop {
            // The watch ends between two looks, never within one.
            let mut renewal = None;
            let until = async {
                tokio::select! {
                    biased;
                    () = &mut closing => {}
                    next = renewals.recv() => renewal = next,
                }
            };
            match &mut watch {
                Some(watch) => watch.run(until).await,
                None => until.await,
            }
            let Some(next) = renewal else { break };
            match (watch.take(), next) {
                (Some(old), Some(mut next)) => {
                    spawn_channels(next.succeed(old));
                    watch = Some(*next);
                }
                (None, Some(next)) => {
                    spawn_channels(next.channels());
                    watch = Some(*next);
                }
                (Some(mut old), None) => old.close().await,
                (None, None) => {}
            }
        }
        if let Some(watch) = &mut watch {
            watch.leave().await;
        }
    });
}

/// The export to an OpenTelemetry collector; none where none is configured.
///
/// # Errors
/// When TLS to the collector cannot be set up.
pub(super) fn exporter(config: &Config, telemetry: &Arc<Telemetry>) -> anyhow::Result<Option<Exporter>> {
    let Some(otlp) = &config.telemetry.otlp else { return Ok(None) };
    let post = |below| {
        let at = (otlp.endpoint.as_str(), below);
        let post = Receiver::new("otlp", at, otlp.ca.as_deref(), otlp.authorization.as_ref());
        Ok::<_, anyhow::Error>(Arc::new(post.context("setting up telemetry.otlp")?) as Arc<dyn Post>)
    };
    Ok(Some(telemetry.export(otlp, post("/v1/traces")?, post("/v1/metrics")?)))
}

/// Spawns the export. It ends when the process does, after the last spans.
pub(super) fn spawn_export(exporter: Exporter, drain: &Drain) {
    let closing = drain.reached(Phase::Closing);
    drain.spawn(exporter.run(closing));
}

/// One receiver.
struct Receiver {
    client: Client,
    target: Uri,
    authorization: Option<HeaderValue>,
}

impl Receiver {
    fn of(view: &ReceiverView<'_>) -> anyhow::Result<Self> {
        let below = match view.kind {
            ReceiverKind::Alertmanager => ALERTMANAGER_PATH,
            ReceiverKind::Slack | ReceiverKind::Webhook => "",
        };
        Self::new(view.name, (view.url, below), view.ca, view.authorization)
    }

    /// One at `url`, and a path `below` it.
    fn new(
        name: &str,
        (url, below): (&str, &str),
        ca: Option<&str>,
        authorization: Option<&Secret>,
    ) -> anyhow::Result<Self> {
        let WebUrl { server, target } = WebUrl::parse(url)?;
        let tls = server.is_tls.then(|| Tls::new(&server.host, ca.map(Path::new)));
        let tls = tls.transpose().context("setting up TLS")?;
        let authority = server.authority();
        let address = BackendAddress::Tcp { host: server.host, port: server.port };
        // The queue repeats, and has its own patience: nothing here repeats or refuses by itself.
        let settings = config::Upstream {
            connect: CONNECT,
            first_byte: ANSWER,
            retries: 0,
            breaker: config::Breaker { enabled: false, ..config::Breaker::default() },
            ..config::Upstream::default()
        };
        let stats = Arc::new(UpstreamStats::new(name));
        let upstream = Upstream::at((address, tls), &settings, &config::Limits::default(), stats);
        let target =
            if below.is_empty() { target } else { format!("{}{below}", target.trim_end_matches('/')) };
        let authorization = authorization.map(|secret| HeaderValue::from_str(secret.expose()));
        let mut authorization = authorization.transpose().context("reading `authorization`")?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        // The address may be a secret: the error does not name it.
        let target = target.parse().ok().context("reading the path of `url`")?;
        Ok(Self { client: Client::new(upstream.named(&authority)), target, authorization })
    }

    async fn send(&self, body: Bytes, id: &str) -> Result<(), PostError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.client.upstream().authority().clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("touchline/", env!("CARGO_PKG_VERSION"))),
        );
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert("idempotency-key", id);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let (parts, ()) = request.into_parts();
        let call = Call {
            body: Body::full(body),
            interim: None,
            first_byte: Some(ANSWER),
            bulkhead: None,
            // Messages are rare: a connection of before is most likely closed, and a message on it could not be sent again
            // without the doubt whether it was taken.
            is_fresh: true,
        };
        let reply = self.client.call(Head::of(&parts), call, &mut Timing::default()).await;
        let reply = reply.map_err(|error| PostError::Unreachable(word_of(&error)))?;
        let status = reply.response.status();
        // What it says is of no interest, nor whether it says it to the end.
        let _ = reply.response.into_body().collect(ANSWER_BYTES).await;
        if status.is_success() { Ok(()) } else { Err(PostError::Status(status.as_u16())) }
    }
}

/// Why a receiver did not answer. A name that is not found, a certificate and a closed port are mended in different places.
fn word_of(error: &Error) -> &'static str {
    match error {
        Error::Connect(error) => SocketFault::of(error).as_str(),
        error => error.refusal().as_str(),
    }
}

impl Post for Receiver {
    fn post<'a>(&'a self, body: Bytes, id: &'a str) -> Posting<'a> {
        Box::pin(self.send(body, id))
    }
}

/// Names of alerts, over the cache's connections to Redis.
struct Names(Arc<Cache>);

impl Claim for Names {
    fn hold<'a>(&'a self, name: &'a str, life: Duration) -> Holding<'a> {
        Box::pin(self.0.hold_name(name, life))
    }

    fn release<'a>(&'a self, name: &'a str) -> Releasing<'a> {
        Box::pin(self.0.leave_note(name))
    }
}
