//! Why is this not cached? One request is taken through the very stages that serve requests, and what each of them
//! decides is told. Nothing here decides anything itself.
//!
//! `question` brings the request through the door; `near`, `rule`, `sent` and `why` tell of route, settings, key and
//! reasons; `answer` fetches and keeps. [`Explainer`] has a plane of its own, with a cache that is thrown away;
//! [`Ingress::inspect`] looks at what a running one has stored. How all this is printed is not decided here.

mod answer;
mod limits;
mod near;
mod question;
mod rule;
mod sent;
mod why;

use std::sync::Arc;

use http::{HeaderMap, Method};
use serde::Serialize;

use self::{answer::fetch, limits::limits, near::near, question::Received, rule::settings, why::Ground};
use super::{
    CompileError, Core, Ingress, Parts, deny,
    exchange::Exchange,
    fill,
    lookup::{self, Looked},
    outbound::Outbound,
    pipeline,
    routes::Route,
};
use crate::{
    cache::{
        Peek,
        rfc9111::{Admission, admit},
    },
    config::{self, CacheMode},
    net::Refusal,
    telemetry::Reason,
    upstream::Client,
};

pub use self::{
    answer::{Answered, StoredShown},
    near::Near,
    question::Question,
    rule::{Said, Setting},
    sent::{Changed, KeyPart, KeyShown, Sent},
    why::{Line, Why},
};

/// Readings of a denied path that are shown.
const MOST_READINGS: usize = 6;

/// Explains requests by a configuration, beside no running process.
pub struct Explainer {
    core: Arc<Core>,
    config: config::Config,
    section: config::Ingress,
}

/// All that there is to say about a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The request as it is taken.
    pub request: Asked,
    /// The error that it gets in place of an answer, before any route is asked.
    pub refused: Option<Refused>,
    /// The route; none for a request that did not get that far.
    pub route: Option<RouteShown>,
    /// The settings in force.
    pub settings: Vec<Setting>,
    /// The limits that hold.
    pub limits: Vec<Setting>,
    /// The names that its answer can be purged by, as far as the request decides them.
    pub tags: Vec<String>,
    /// The key.
    pub key: Option<KeyShown>,
    /// Whether the cache is asked.
    pub admission: Option<Admitted>,
    /// The request to the backend.
    pub sent: Option<Sent>,
    /// The answer.
    pub answer: Option<Answered>,
    /// Why there is no answer.
    pub no_answer: Option<String>,
}

/// The request as it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Scheme, host, path and query, as the key will have them.
    pub url: String,
    /// The client's address.
    pub client: Option<String>,
    /// What was assumed, as the question did not say it.
    pub assumed: Vec<String>,
}

/// An error of touchline's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The `reason` in the answer.
    pub reason: &'static str,
    /// What the answer says.
    pub detail: &'static str,
    /// The route that denies the path.
    pub denied_by: Option<String>,
    /// The readings of the path that this route denies, at most six; none for a path that is too long to be read in all
    /// ways.
    pub readings: Vec<String>,
}

/// The route that a request takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteShown {
    /// Its template, or `unmatched`.
    pub path: String,
    /// Its name in metrics and purges.
    pub name: String,
    /// Where it is written; none for requests that match no route.
    pub place: Option<String>,
    /// Its methods; none stands for all.
    pub methods: Vec<String>,
    /// Its host; none stands for all.
    pub host: Option<String>,
    /// Routes that nearly matched.
    pub near: Vec<Near>,
}

/// Whether the cache is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admitted {
    /// What `X-Cache-Status` says where nothing is stored: `miss` or `bypass`.
    pub status: &'static str,
    /// Why it is not asked.
    pub why: Option<Why>,
    /// Whether `refresh_on` has it fetched anew, whatever is stored.
    pub refreshes: bool,
}

/// What a running plane has for a request.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The name of the route.
    pub route: String,
    /// The name of the key.
    pub key: String,
    /// Why the cache is not asked at all.
    pub bypass: Option<Reason>,
    /// What is stored.
    pub peek: Peek,
    /// The moment of the look, by the plane's clock.
    pub now_ms: u64,
}

impl Explainer {
    /// A plane that serves nobody. What `parts` has of cache and telemetry must be of its own: it is written to.
    ///
    /// # Errors
    /// When the routes cannot be compiled; the configuration's own checks find this first.
    pub fn new(
        config: &config::Config,
        section: &config::Ingress,
        parts: Parts,
    ) -> Result<Self, CompileError> {
        // What is explained is the rule, and not what chance makes of it.
        let ingress = Ingress::new(config, section, Parts { chance: || 0, ..parts })?;
        Ok(Self { core: core_of(&ingress), config: config.clone(), section: section.clone() })
    }

    /// Takes a request through the stages. With `fetches` the backend is asked, unless the request might change
    /// something there.
    pub async fn explain(&self, question: &Question, fetches: bool) -> Explanation {
        let mut explanation = Explanation {
            request: Asked {
                method: question.method().to_string(),
                url: question.url(),
                client: None,
                assumed: Vec::new(),
            },
            refused: None,
            route: None,
            settings: Vec::new(),
            limits: Vec::new(),
            tags: Vec::new(),
            key: None,
            admission: None,
            sent: None,
            answer: None,
            no_answer: None,
        };
        match question.receive(&self.section) {
            Ok(received) => self.follow(received, fetches, &mut explanation).await,
            Err(refusal) => explanation.refused = Some(Refused::of(refusal, (None, Vec::new()))),
        }
        explanation
    }

    async fn follow(&self, received: Received, fetches: bool, told: &mut Explanation) {
        let Received { request, context, assumed } = received;
        let fields = request.headers().clone();
        let mut exchange = Exchange::silent(&self.core, request, context);
        told.request.url =
            format!("{}://{}{}", exchange.scheme.as_str(), host_of(&exchange), exchange.target());
        told.request.client = exchange.client.map(|client| client.to_string());
        told.request.assumed = assumed;
        told.route = Some(self.route_of(&exchange));
        let index = exchange.route.index;
        let written = index.and_then(|index| Some((index, self.section.routes.get(index)?)));
        told.limits = limits(&self.section, written);
        if let Err(refusal) = pipeline::admit(&mut exchange) {
            told.refused = Some(Refused::of(refusal, denied_by(&exchange)));
            return;
        }
        if self.core.ingress.taken.as_ref().is_some_and(|taken| taken.takes(exchange.parts.uri.path())) {
            told.no_answer = Some(
                "touchline answers this path itself (`admin.on_ingress`); it is never looked up".to_owned(),
            );
            return;
        }
        let path = exchange.parts.uri.path().to_owned();
        let rule = written.and_then(|(_, route)| route.cache.as_ref());
        let named_statuses: Vec<u16> =
            rule.into_iter().flat_map(|rule| rule.ttl_by_status.keys().copied()).collect();
        let ground = Ground {
            index,
            rule: rule.map(|rule| rule.mode),
            named_statuses: &named_statuses,
            origin: exchange.route.policy.origin,
            has_rule: exchange.route.policy.has_rule(),
            path: &path,
        };
        exchange.identify();
        told.settings = settings(&self.config.cache, written);
        told.tags = fill::tags_of(&exchange, &HeaderMap::new())
            .iter()
            .map(|tag| sent::text(tag.as_str().as_bytes()))
            .collect();
        told.key = Some(KeyShown::of(&exchange.key()));
        told.admission = Some(Admitted::of(&exchange, &ground));
        let refrains = refrains(&exchange, fetches);
        // From here on it is the way of every request; the cache is empty, so all that is looked up is fetched.
        let plan = match lookup::look(&mut exchange).await {
            Looked::Fetch(plan) => plan,
            Looked::Refused(refusal) => {
                told.no_answer = Some(format!("the request's body cannot be read: {}", refusal.detail()));
                return;
            }
            Looked::Ready(_) => {
                told.no_answer = Some(
                    "not fetched: the request wants a stored answer or none (`only-if-cached`)".to_owned(),
                );
                return;
            }
        };
        let outbound = Outbound::new(&mut exchange, &plan);
        told.sent = Some(Sent::of(&exchange, &outbound, &fields));
        if let Some(why) = refrains {
            told.no_answer = Some(why.to_owned());
            return;
        }
        match Box::pin(fetch(&mut exchange, &outbound, plan, &ground)).await {
            Ok(answer) => told.answer = Some(answer),
            Err(error) => told.no_answer = Some(format!("no answer from {}: {error}", self.section.backend)),
        }
    }

    fn route_of(&self, exchange: &Exchange) -> RouteShown {
        let route = &exchange.route;
        let written = route.index.and_then(|index| self.section.routes.get(index));
        let path = exchange.parts.uri.path();
        RouteShown {
            path: written.map_or("unmatched", |written| &written.path).to_owned(),
            name: route.name.to_string(),
            place: route.index.map(route_place),
            methods: written.map(|written| written.methods.clone()).unwrap_or_default(),
            host: written.and_then(|written| written.host.clone()),
            near: near(
                &self.core.ingress.table,
                route,
                &exchange.parts.method,
                exchange.host.as_bytes(),
                path,
            ),
        }
    }
}

impl Ingress {
    /// Looks at what is stored for a request. Nothing is counted, and nobody waits for anything.
    ///
    /// # Errors
    /// The refusal that the request would get.
    pub fn inspect(
        self: &Arc<Self>,
        section: &config::Ingress,
        question: &Question,
    ) -> Result<Inspected, Refusal> {
        let Received { request, context, .. } = question.receive(section)?;
        let mut exchange = Exchange::silent(&core_of(self), request, context);
        pipeline::admit(&mut exchange)?;
        let now_ms = self.clock.now_ms();
        let key = exchange.key();
        Ok(Inspected {
            route: exchange.route.name.to_string(),
            key: key.name(),
            bypass: bypass_of(&exchange),
            peek: self.cache.peek(&key, &exchange.parts.headers, now_ms),
            now_ms,
        })
    }
}

impl Refused {
    fn of(refusal: Refusal, (denied_by, readings): (Option<String>, Vec<String>)) -> Self {
        let (status, reason, detail) = (refusal.status().as_u16(), refusal.as_str(), refusal.detail());
        if refusal == Refusal::Denied {
            return Self { status, reason, detail, denied_by, readings };
        }
        Self { status, reason, detail, denied_by: None, readings: Vec::new() }
    }
}

impl Admitted {
    fn of(exchange: &Exchange, ground: &Ground<'_>) -> Self {
        match bypass_of(exchange) {
            Some(reason) => {
                Self { status: "bypass", why: Some(Why::of_request(reason, ground)), refreshes: false }
            }
            None => {
                let query = exchange.parts.uri.query().map(str::as_bytes);
                Self { status: "miss", why: None, refreshes: exchange.route.key.query.is_refresh(query) }
            }
        }
    }
}

/// Why a request is not looked up.
fn bypass_of(exchange: &Exchange) -> Option<Reason> {
    match admit(&exchange.head(), &exchange.route.policy) {
        Admission::Lookup => (exchange.route.policy.mode == CacheMode::Observe).then_some(Reason::Observe),
        Admission::Bypass(reason) => Some(reason),
        Admission::Method => Some(Reason::Method),
    }
}

/// Why the backend is not asked, where it is not.
fn refrains(exchange: &Exchange, fetches: bool) -> Option<&'static str> {
    let head = exchange.head();
    let is_safe = matches!(*head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let has_body = head.headers.keys().any(|name| {
        *name == http::header::TRANSFER_ENCODING
            || (*name == http::header::CONTENT_LENGTH
                && head.headers.get(name).is_some_and(|length| length != "0"))
    });
    match () {
        () if !fetches => Some("not fetched, as `--no-fetch` says"),
        () if !is_safe => Some("not fetched: a request with this method may change something"),
        () if exchange.is_upgrade => Some("not fetched: it would open a tunnel"),
        () if has_body => Some("not fetched: the fields announce a body, and there is none to send"),
        () => None,
    }
}

/// The route that denies a path, and the readings that it denies.
fn denied_by(exchange: &Exchange) -> (Option<String>, Vec<String>) {
    let table = &exchange.ingress().table;
    let path = exchange.parts.uri.path();
    let denying = table.denies(&exchange.parts.method, exchange.host.as_bytes(), path);
    let Some(index) = denying.and_then(|route: &Arc<Route>| route.index) else { return (None, Vec::new()) };
    let template = table.candidates().find(|candidate| candidate.value.index == Some(index));
    let mut readings = template.map_or_else(Vec::new, |denying| deny::matching(&denying.template, path));
    readings.truncate(MOST_READINGS);
    readings.iter_mut().for_each(|reading| *reading = sent::text(reading.as_bytes()));
    (Some(route_place(index)), readings)
}

fn core_of(ingress: &Arc<Ingress>) -> Arc<Core> {
    Arc::new(Core { ingress: Arc::clone(ingress), client: Client::new(Arc::clone(&ingress.upstream)) })
}

fn host_of(exchange: &Exchange) -> String {
    let host = crate::cache::canonical_authority(exchange.scheme, exchange.host.as_bytes());
    sent::text(&host)
}

/// Where a route is written.
fn route_place(index: usize) -> String {
    format!("ingress.routes[{index}]")
}
