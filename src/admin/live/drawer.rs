//! `GET /api/v1/route`: one row of the table in detail.

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use crate::admin::{Admin, answer::Reply, query, shapes::thousandths};
use crate::config::{Route, brief_yaml};
use crate::telemetry::{Method, UNMATCHED, Window, snapshot::RouteWindow};

/// The query keys.
const KEYS: [&str; 3] = ["key", "window", "scope"];

#[derive(Serialize)]
struct Details<'a, R: Serialize> {
    key: &'a str,
    method: Option<&'static str>,
    template: &'a str,
    rule: Option<String>,
    histogram: Vec<Bar>,
    statuses: Vec<Status>,
    reasons: Vec<Reason>,
    recent: Vec<R>,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Serialize)]
struct Bar {
    le_ms: f64,
    count: u64,
}

#[derive(Serialize)]
struct Status {
    status: u16,
    count: u64,
}

#[derive(Serialize)]
struct Reason {
    reason: &'static str,
    count: u64,
}

impl Admin {
    /// One route in detail.
    pub(in crate::admin) fn route_details(&self, query: &str) -> Result<Reply, Reply> {
        query::only(query, &KEYS)?;
        query::pod_only(query)?;
        let window = query::window(query, Window::FiveMinutes)?;
        let key = query::text(query, "key")?.ok_or_else(|| {
            Reply::detail(StatusCode::BAD_REQUEST, "key is missing: a `key` of the snapshot's routes")
        })?;
        let now = Instant::now();
        // A route that was silent in the window is known by the hour.
        let find =
            |window| self.telemetry.route_windows(window, now).into_iter().find(|route| route.key == key);
        let Some(route) = find(window).or_else(|| find(Window::OneHour)) else {
            return Err(Reply::detail(
                StatusCode::NOT_FOUND,
                "no route with this key had requests in the last hour",
            ));
        };
        let details = self.telemetry.route_details(&route, window, now);
        let recent = details.recent.iter().map(|request| self.request(&route.route, None, request));
        Ok(Reply::json(
            StatusCode::OK,
            &Details {
                key: &route.key,
                method: route.method.map(Method::as_str),
                template: route.route.template(),
                rule: self.rule(&route),
                histogram: details
                    .histogram
                    .iter()
                    .map(|(us, count)| Bar { le_ms: thousandths(f64::from(*us) / 1000.0), count: *count })
                    .collect(),
                statuses: details
                    .statuses
                    .iter()
                    .map(|(status, count)| Status { status: *status, count: *count })
                    .collect(),
                reasons: details
                    .reasons
                    .iter()
                    .map(|(reason, count)| Reason { reason: reason.as_str(), count: *count })
                    .collect(),
                recent: recent.collect(),
                bytes_in: details.bytes_in,
                bytes_out: details.bytes_out,
            },
        ))
    }

    /// The configured rule of a route as YAML; none for learned routes and what matches none.
    fn rule(&self, route: &RouteWindow) -> Option<String> {
        let template = route.route.template();
        let takes = |rule: &&Route| {
            let methods = &rule.methods;
            rule.path == template
                && (methods.is_empty()
                    || route.method.is_none_or(|own| methods.iter().any(|method| method == own.as_str())))
        };
        if template == UNMATCHED {
            return None;
        }
        self.terms().routes.iter().find(takes).map(brief_yaml)
    }
}
