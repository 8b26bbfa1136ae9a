//! The admin listener, and the part of it that an operator may also put on ingress: which path is answered by what,
//! after which checks. Everything here only reads, but for the clear button, which wants the control token.

use std::{net::IpAddr, sync::Arc};

use http::{Method, Request, Response, StatusCode};

use crate::admin::{
    Admin,
    answer::{Kind, Reply},
    assets::Asset,
    control, guard,
    live::{View, tail},
    page, purge, query,
    sources::Scope,
};
use crate::config::OnIngress;
use crate::net::{Answer, Body, Context, Refusal, Service};
use crate::telemetry::Window;

/// The admin listener's behaviour.
#[derive(Clone)]
pub struct AdminService(Arc<Admin>);

/// What of the admin listener is also answered on ingress.
#[derive(Clone)]
pub struct IngressPart {
    admin: Arc<Admin>,
    performance: bool,
    health: bool,
}

/// The paths of the admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Page,
    Asset(Asset),
    Livez,
    Readyz,
    Metrics,
    Health,
    PerformanceMetrics,
    PerformanceHealth,
    Claude,
    CacheStats,
    CacheClear,
    Advise,
    Snapshot,
    Merge,
    Events,
    Tail,
    Route,
    Config,
}

impl Path {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/dashboard.js" => Self::Asset(Asset::Script),
            "/dashboard.css" => Self::Asset(Asset::Style),
            "/livez" => Self::Livez,
            "/readyz" => Self::Readyz,
            "/metrics" => Self::Metrics,
            "/health" => Self::Health,
            "/performance/metrics" => Self::PerformanceMetrics,
            "/performance/health" => Self::PerformanceHealth,
            "/performance/claude" => Self::Claude,
            "/api/v1/config" => Self::Config,
            "/performance/cache/stats" => Self::CacheStats,
            "/performance/cache/clear" => Self::CacheClear,
            "/api/v1/advise" => Self::Advise,
            "/api/v1/snapshot" => Self::Snapshot,
            "/api/v1/merge" => Self::Merge,
            "/api/v1/events" => Self::Events,
            "/api/v1/tail" => Self::Tail,
            "/api/v1/route" => Self::Route,
            _ => return None,
        })
    }

    /// Probes stay open when a token is set: the kubelet has none.
    const fn is_probe(self) -> bool {
        matches!(self, Self::Livez | Self::Readyz)
    }
}

impl AdminService {
    /// The reading side of `admin`.
    #[must_use]
    pub const fn new(admin: Arc<Admin>) -> Self {
        Self(admin)
    }

    async fn answer(&self, request: Request<Body>, peer: Option<IpAddr>) -> Result<Reply, Reply> {
        self.0.terms().hosts.check(&request)?;
        let Some(path) = Path::of(request.uri().path()) else {
            return Err(Reply::detail(StatusCode::NOT_FOUND, "Not Found"));
        };
        if !path.is_probe() {
            guard::check_site(request.headers(), request.uri().path())?;
        }
        self.0.answer(path, request, peer).await
    }
}

impl Service for AdminService {
    type Done = ();

    async fn call(&self, request: Request<Body>, context: Context) -> Answer<()> {
        control::answered(request, &context, |request, peer| self.answer(request, peer)).await
    }

    fn refuse(&self, refusal: Refusal, _: Context) -> Answer<()> {
        control::refused(refusal, "GET, HEAD")
    }
}

impl IngressPart {
    /// The part of `admin` that `on_ingress` names; none if it names nothing.
    #[must_use]
    pub fn new(admin: Arc<Admin>, on_ingress: &[OnIngress]) -> Option<Self> {
        let performance = on_ingress.contains(&OnIngress::Performance);
        let health = on_ingress.contains(&OnIngress::Health);
        (performance || health).then_some(Self { admin, performance, health })
    }

    /// Whether a part with these words answers a path, where there is no plane to ask.
    #[must_use]
    pub fn would_take(on_ingress: &[OnIngress], path: &str) -> bool {
        let has = |word| on_ingress.contains(&word);
        is_taken(path, has(OnIngress::Performance), has(OnIngress::Health))
    }

    /// Whether a request for `path` is answered here, whatever its method, instead of by a route or the backend.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        is_taken(path, self.performance, self.health)
    }

    /// Answers a request for a path that it takes, else 404. The ingress plane has checked `Host` already; tokens are
    /// checked here, against the address that the ingress plane believes the client has.
    pub async fn answer(&self, request: Request<Body>, client: Option<IpAddr>) -> Response<Body> {
        let method = request.method().clone();
        let reply = match Path::of(request.uri().path()) {
            Some(path) if self.takes(request.uri().path()) => {
                self.admin.answer(path, request, client).await.unwrap_or_else(|refused| refused)
            }
            _ => Reply::detail(StatusCode::NOT_FOUND, "Not Found"),
        };
        reply.into_response(&method)
    }
}

impl Admin {
    async fn answer(
        self: &Arc<Self>,
        path: Path,
        request: Request<Body>,
        peer: Option<IpAddr>,
    ) -> Result<Reply, Reply> {
        if path == Path::CacheClear {
            return self.clear(request, peer).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err(Reply::not_allowed("GET, HEAD"));
        }
        if !request.body().is_empty() {
            return Err(Reply::detail(StatusCode::PAYLOAD_TOO_LARGE, "this path takes no body"));
        }
        if !path.is_probe() {
            self.terms().reads.check(request.headers(), peer)?;
        }
        let query = request.uri().query().unwrap_or_default();
        match path {
            Path::Advise => self.advise(request.headers(), query),
            Path::Asset(asset) => {
                query::only(query, &[])?;
                Ok(self.assets.reply(asset, request.headers()))
            }
            Path::Snapshot | Path::Merge | Path::Events | Path::Tail | Path::Route => {
                self.live(path, query).await
            }
            _ => self.read(path, query).await,
        }
    }

    async fn live(self: &Arc<Self>, path: Path, query: &str) -> Result<Reply, Reply> {
        match path {
            Path::Tail => {
                query::only(query, &tail::KEYS)?;
                self.tail(query)
            }
            Path::Route => self.route_details(query),
            Path::Merge => {
                query::only(query, &["window"])?;
                Ok(self.part(query::window(query, Window::FiveMinutes)?))
            }
            _ => {
                query::only(query, &["window", "scope"])?;
                let is_merged = query::is_merged(query, self.terms().sources.peers.is_some())?;
                let view = View { window: query::window(query, Window::FiveMinutes)?, is_merged };
                if path == Path::Snapshot { Ok(self.snapshot(view).await) } else { self.events(view) }
            }
        }
    }

    async fn read(&self, path: Path, query: &str) -> Result<Reply, Reply> {
        match path {
            Path::Page => {
                query::only(query, &["window", "refresh", "scope"])?;
                // The script asks for the scope; what is written here is of this pod.
                query::is_merged(query, true)?;
                let window = query::window(query, Window::FiveMinutes)?;
                Ok(page::reply(self, window, query::is_refreshing(query)))
            }
            // A probe with a query it need not have must not cost the pod.
            Path::Livez => Ok(probe(self.terms().sources.health.live().err().as_deref())),
            Path::Readyz => Ok(probe(self.terms().sources.health.ready().err().as_deref())),
            Path::Metrics => {
                query::only(query, &[])?;
                Ok(Reply::new(StatusCode::OK, Kind::Prometheus, self.telemetry.metrics_text()))
            }
            Path::Health => Ok(self.health().await),
            Path::PerformanceMetrics => Ok(self.performance_metrics(query::window(query, Window::OneHour)?)),
            Path::PerformanceHealth => Ok(self.performance_health(query::is_strict(query)?)),
            Path::Claude => Ok(self.claude_performance()),
            Path::Config => {
                query::only(query, &[])?;
                Ok(self.config())
            }
            Path::CacheStats => Ok(self.cache_stats(query::window(query, Window::OneHour)?)),
            // All are answered before it comes to this.
            Path::CacheClear
            | Path::Advise
            | Path::Asset(_)
            | Path::Snapshot
            | Path::Merge
            | Path::Events
            | Path::Tail
            | Path::Route => Err(Reply::not_allowed("POST")),
        }
    }

    /// The clear button away from the control listener: it writes, so the read token does not open it, and without
    /// a control token it stays shut.
    async fn clear(&self, request: Request<Body>, peer: Option<IpAddr>) -> Result<Reply, Reply> {
        if request.method() != Method::POST {
            return Err(Reply::not_allowed("POST"));
        }
        guard::check_no_page(request.headers())?;
        let forbidden = || {
            Reply::detail(
                StatusCode::FORBIDDEN,
                "clearing needs the control token here; without one use the control listener",
            )
        };
        if !self.terms().writes.is_set() {
            return Err(forbidden());
        }
        self.terms().writes.check(request.headers(), peer).map_err(|refused| match refused.status() {
            StatusCode::UNAUTHORIZED => forbidden(),
            _ => refused,
        })?;
        control::read(request.into_body()).await?;
        Ok(purge::cleared(self.purge(&Scope::All, false, peer).await?))
    }
}

fn is_taken(path: &str, performance: bool, health: bool) -> bool {
    match Path::of(path) {
        Some(Path::Health) => health,
        Some(
            Path::PerformanceMetrics
            | Path::PerformanceHealth
            | Path::Claude
            | Path::CacheStats
            | Path::CacheClear,
        ) => performance,
        Some(
            Path::Page
            | Path::Asset(_)
            | Path::Livez
            | Path::Readyz
            | Path::Metrics
            | Path::Advise
            | Path::Snapshot
            | Path::Merge
            | Path::Events
            | Path::Tail
            | Path::Route
            | Path::Config,
        )
        | None => false,
    }
}

fn probe(fault: Option<&str>) -> Reply {
    match fault {
        None => Reply::new(StatusCode::OK, Kind::Text, "ok\n"),
        Some(reason) => Reply::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Text, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests;
