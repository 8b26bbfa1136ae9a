//! The control listener: purge, clear, reload and drain, and a look at single entries. Everything here writes or reveals keys,
//! so everything is a POST, guarded, and leaves a line in the log.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::Serialize;
use tokio::time::timeout;
use tracing::info;

use crate::admin::{
    Admin,
    answer::Reply,
    guard, purge,
    sources::{Purged, Reloaded, Scope},
};
use crate::net::{Answer, Body, BodyError, Context, Refusal, Service};

/// How long the body of a write may take as a whole.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The control listener's behaviour.
#[derive(Clone)]
pub struct ControlService(Arc<Admin>);

#[derive(Serialize)]
struct DrainBegun {
    draining: bool,
}

#[derive(Serialize)]
struct HandedOver {
    handed_over: bool,
}

/// The paths of the control listener.
#[derive(Clone, Copy)]
enum Action {
    Clear,
    Purge,
    Entry,
    Drain,
    Reload,
    HandOver,
}

impl ControlService {
    /// The control side of `admin`.
    #[must_use]
    pub const fn new(admin: Arc<Admin>) -> Self {
        Self(admin)
    }

    async fn answer(&self, request: Request<Body>, peer: Option<IpAddr>) -> Result<Reply, Reply> {
        self.0.terms().hosts.check(&request)?;
        let action = match request.uri().path() {
            "/performance/cache/clear" => Action::Clear,
            "/cache/purge" => Action::Purge,
            "/api/v1/cache/entry" => Action::Entry,
            "/drain" => Action::Drain,
            "/reload" => Action::Reload,
            "/hand-over" => Action::HandOver,
            _ => return Err(Reply::detail(StatusCode::NOT_FOUND, "Not Found")),
        };
        if request.method() != Method::POST {
            return Err(Reply::not_allowed("POST"));
        }
        guard::check_site(request.headers(), request.uri().path())?;
        guard::check_no_page(request.headers())?;
        self.0.terms().writes.check(request.headers(), peer)?;
        let body = read(request.into_body()).await?;
        match action {
            Action::Clear => Ok(purge::cleared(self.0.purge(&Scope::All, false, peer).await?)),
            Action::Purge => {
                let (scope, soft) = purge::read(&body)?;
                Ok(purge::done(&scope, soft, self.0.purge(&scope, soft, peer).await?))
            }
            Action::Entry => self.0.entry(&body, peer),
            Action::Reload => {
                info!(peer = peer.map(tracing::field::display), "reload asked for on the control listener");
                let reloaded = self.0.terms().sources.reloading.reload().await;
                let unavailable = || {
                    Reply::detail(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "no file is watched here, or too many ask for it",
                    )
                };
                let reloaded = reloaded.ok_or_else(unavailable)?;
                let is_refused = matches!(reloaded, Reloaded::Rejected { .. });
                let status = if is_refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
                Ok(Reply::json(status, &reloaded))
            }
            Action::Drain => {
                info!(peer = peer.map(tracing::field::display), "drain asked for on the control listener");
                self.0.terms().sources.draining.begin();
                Ok(Reply::json(StatusCode::OK, &DrainBegun { draining: true }))
            }
            Action::HandOver if self.0.terms().sources.draining.hand_over() => {
                let peer = peer.map(tracing::field::display);
                info!(peer, "another process has taken over the addresses of this one, which leaves");
                Ok(Reply::json(StatusCode::OK, &HandedOver { handed_over: true }))
            }
            Action::HandOver => Err(Reply::detail(StatusCode::CONFLICT, "this process is leaving already")),
        }
    }
}

impl Service for ControlService {
    type Done = ();

    async fn call(&self, request: Request<Body>, context: Context) -> Answer<()> {
        answered(request, &context, |request, peer| self.answer(request, peer)).await
    }

    fn refuse(&self, refusal: Refusal, _: Context) -> Answer<()> {
        refused(refusal, "POST")
    }
}

/// The answer to a request, by what a listener of this plane makes of it and of the peer's address.
pub(crate) async fn answered(
    request: Request<Body>,
    context: &Context,
    answer: impl AsyncFnOnce(Request<Body>, Option<IpAddr>) -> Result<Reply, Reply>,
) -> Answer<()> {
    let method = request.method().clone();
    let peer = context.peer.map(|peer| peer.ip());
    let reply = answer(request, peer).await.unwrap_or_else(|refused| refused);
    Answer::new(reply.into_response(&method), ())
}

/// The answer to bytes that never became a request, in the error shape of these listeners.
/// Its methods are `allow` (RFC 9110 section 15.5.6).
pub(crate) fn refused(refusal: Refusal, allow: &'static str) -> Answer<()> {
    let reply = Reply::detail(refusal.status(), refusal.detail());
    let reply = match refusal.status() {
        StatusCode::METHOD_NOT_ALLOWED => reply.with(header::ALLOW, HeaderValue::from_static(allow)),
        _ => reply,
    };
    Answer::new(reply.into_response(&Method::GET), ())
}

/// Reads the body of a write.
pub(crate) async fn read(body: Body) -> Result<bytes::Bytes, Reply> {
    let too_slow = || Reply::detail(StatusCode::REQUEST_TIMEOUT, "the body came too slowly");
    match timeout(BODY_TIME, body.collect(purge::BODY_LIMIT)).await {
        Err(_) | Ok(Err(BodyError::TooSlow)) => Err(too_slow()),
        Ok(Err(BodyError::TooLarge)) => {
            Err(Reply::detail(StatusCode::PAYLOAD_TOO_LARGE, "the body is over 64 KiB"))
        }
        Ok(Err(_)) => Err(Reply::detail(StatusCode::BAD_REQUEST, "the body is malformed or was cut short")),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

impl Admin {
    /// Ends cached answers at the pace that is allowed, and says in the log who asked.
    pub(crate) async fn purge(
        &self,
        scope: &Scope,
        soft: bool,
        peer: Option<IpAddr>,
    ) -> Result<Purged, Reply> {
        if !self.pace.take() {
            return Err(Reply::detail(StatusCode::TOO_MANY_REQUESTS, "at most 10 purges a second")
                .with(http::header::RETRY_AFTER, http::HeaderValue::from_static("1")));
        }
        let purged = self
            .terms()
            .sources
            .purge
            .purge(scope, soft)
            .await
            .map_err(|why| Reply::detail(StatusCode::BAD_REQUEST, &why))?;
        info!(
            peer = peer.map(tracing::field::display),
            scope = scope.as_str(),
            what = purge::audited(scope),
            soft,
            entries = purged.memory,
            pending = purged.pending,
            "cache purged"
        );
        Ok(purged)
    }
}

#[cfg(test)]
mod tests;
