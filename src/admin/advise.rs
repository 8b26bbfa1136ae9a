//! `GET /api/v1/advise`: what an observing cache found, as numbers in JSON or as routes in YAML.

mod yaml;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::admin::{
    Admin,
    answer::{Kind, Reply},
    query,
    shapes::{Ordered, hundredths, percent},
};
use crate::config::format_duration;
use crate::telemetry::observed::{Named, ObservedRoute, TTLS, View};

/// Routes that are shown, those with most requests.
const MAX_ROUTES: usize = 250;

/// A guessed route with fewer requests may be no more than somebody's name in a path.
const MIN_GUESSED: u64 = 50;

/// The answer in JSON.
#[derive(Serialize)]
struct Advise<'a> {
    is_observing: bool,
    watched_s: u64,
    keys: u64,
    keys_max: u64,
    overlooked: u64,
    routes_not_shown: usize,
    routes: Vec<Route<'a>>,
}

#[derive(Serialize)]
struct Route<'a> {
    route: &'a str,
    named_by: &'static str,
    verdict: &'static str,
    reason: Option<&'static str>,
    ttl: Option<String>,
    ttl_per_user: Option<String>,
    watched_s: u64,
    requests: u64,
    would_hits: u64,
    incomparable: u64,
    with_credentials: u64,
    authorization: u64,
    cookie: u64,
    credential: u64,
    declared: u64,
    set_cookie: u64,
    methods: Ordered<u64>,
    statuses: Ordered<u64>,
    refused: Ordered<u64>,
    vary: &'a [String],
    anonymous: Seen,
    per_user: Seen,
    shared: Seen,
}

/// What was found for one sort of requests.
#[derive(Serialize)]
struct Seen {
    requests: u64,
    keys: u64,
    repeats: u64,
    identical_percent: f64,
    users_compared: u64,
    users_differing: u64,
    ttls: Vec<Lifetime>,
}

#[derive(Serialize)]
struct Lifetime {
    ttl: String,
    would_hits: u64,
    would_hit_percent: f64,
    wrong: u64,
    wrong_percent: f64,
    backend_saved_s: f64,
}

impl Admin {
    /// The advice, in the form that the request asks for.
    pub(super) fn advise(&self, headers: &HeaderMap, query: &str) -> Result<Reply, Reply> {
        query::only(query, &["format"])?;
        let is_yaml = query::yaml(query)?.unwrap_or_else(|| accepts_yaml(headers));
        let mut observed =
            self.terms().sources.advisor.as_ref().map(|advisor| advisor.observed()).unwrap_or_default();
        let all = observed.routes.len();
        observed.routes.retain(|route| route.named != Named::Guessed || route.counts.requests >= MIN_GUESSED);
        observed.routes.truncate(MAX_ROUTES);
        let not_shown = all - observed.routes.len();
        if is_yaml {
            let text = yaml::text(&observed, &self.terms().routes, self.terms().is_observing, not_shown);
            return Ok(Reply::new(StatusCode::OK, Kind::Yaml, text));
        }
        let answer = Advise {
            is_observing: self.terms().is_observing,
            watched_s: observed.watched.as_secs(),
            keys: observed.keys,
            keys_max: observed.keys_max,
            overlooked: observed.overlooked,
            routes_not_shown: not_shown,
            routes: observed.routes.iter().map(Route::of).collect(),
        };
        Ok(Reply::json(StatusCode::OK, &answer))
    }
}

impl<'a> Route<'a> {
    fn of(route: &'a ObservedRoute) -> Self {
        let named = |counts: &[(&'static str, u64)]| {
            Ordered(counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
        };
        let refused: Vec<_> = route.refused.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        let verdict = route.advice.verdict;
        let counts = &route.counts;
        Self {
            route: &route.route,
            named_by: route.named.as_str(),
            verdict: verdict.as_str(),
            reason: verdict.reason().map(crate::telemetry::Reason::as_str),
            ttl: verdict.ttl().map(ttl),
            ttl_per_user: route.advice.per_user.map(ttl),
            watched_s: route.watched.as_secs(),
            requests: counts.requests,
            would_hits: counts.would_hits,
            incomparable: counts.incomparable,
            with_credentials: counts.with_credentials,
            authorization: counts.authorization,
            cookie: counts.cookie,
            credential: counts.credential,
            declared: counts.declared,
            set_cookie: counts.set_cookie,
            methods: named(&route.methods),
            statuses: Ordered(
                route.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect(),
            ),
            refused: named(&refused),
            vary: &route.vary,
            anonymous: Seen::of(&route.anonymous),
            per_user: Seen::of(&route.per_user),
            shared: Seen::of(&route.shared),
        }
    }
}

impl Seen {
    fn of(view: &View) -> Self {
        let lifetimes = TTLS.into_iter().zip(&view.ttls).map(|(ttl, at)| Lifetime {
            ttl: format_duration(ttl),
            would_hits: at.hits,
            would_hit_percent: percent(at.hits, view.requests),
            wrong: at.wrong,
            wrong_percent: percent(at.wrong, at.hits),
            backend_saved_s: seconds(at.saved_us),
        });
        Self {
            requests: view.requests,
            keys: view.keys,
            repeats: view.repeats,
            identical_percent: percent(view.same, view.repeats),
            users_compared: view.compared,
            users_differing: view.differing,
            ttls: lifetimes.collect(),
        }
    }
}

/// The name of a lifetime.
fn ttl(at: usize) -> String {
    TTLS.get(at).map_or_else(String::new, |ttl| format_duration(*ttl))
}

fn seconds(us: u64) -> f64 {
    hundredths(std::time::Duration::from_micros(us).as_secs_f64())
}

/// Whether `Accept` names YAML. Who wants several forms gets JSON only if YAML is not among them.
fn accepts_yaml(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes);
    let mut members = lines.flat_map(|line| line.split(|byte| *byte == b','));
    members.any(|member| {
        let essence = member.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        [&b"application/yaml"[..], b"application/x-yaml", b"text/yaml"]
            .iter()
            .any(|yaml| essence.eq_ignore_ascii_case(yaml))
    })
}

#[cfg(test)]
mod tests;
