//! A reason with its sentences, and the line of the configuration that would change it for the route at hand.

use serde::Serialize;

use crate::{
    config::CacheMode,
    telemetry::{Place, Reason},
};

/// Statuses that a rule may keep.
const KEPT_BY_RULE: [u16; 8] = [200, 203, 204, 300, 301, 308, 404, 410];

/// Largest `max_body` that a route may have.
const LARGEST: u64 = 8 * 1024 * 1024;

/// A reason as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The word in `Cache-Status`.
    pub reason: &'static str,
    /// What was found.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// The line that does it.
    pub line: Option<Line>,
}

/// A line of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The key below which it belongs.
    pub below: String,
    /// The line.
    pub yaml: String,
}

/// What about the route decides where a line belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground<'a> {
    /// The route's place in `ingress.routes`; none for a path without one.
    pub(super) index: Option<usize>,
    /// Whether it has a `cache`, and which mode that says.
    pub(super) rule: Option<Option<CacheMode>>,
    /// Whether the backend's own word counts.
    pub(super) origin: bool,
    /// Whether a rule gives lifetimes.
    pub(super) has_rule: bool,
    /// The statuses that have a lifetime of their own.
    pub(super) named_statuses: &'a [u16],
    /// The path of the request.
    pub(super) path: &'a str,
}

/// What about an answer decides whether a line would help.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) status: u16,
    /// The length of its body, as far as it is known.
    pub(super) length: Option<u64>,
}

impl Why {
    /// Why a request is not looked up.
    pub(super) fn of_request(reason: Reason, ground: &Ground<'_>) -> Self {
        Self::with(reason, ground, written(reason))
    }

    /// Why an answer is not kept. A line is told only where it would have kept this one.
    pub(super) fn of_answer(reason: Reason, ground: &Ground<'_>, found: Found) -> Self {
        let is_kept_by_rule = KEPT_BY_RULE.contains(&found.status);
        let change = match reason {
            // Only a rule that gives this status a life can beat what the answer says.
            Reason::NoStore | Reason::Private | Reason::NoCache | Reason::StaleOnArrival
                if !ground.has_rule || !is_kept_by_rule =>
            {
                None
            }
            Reason::NoFreshness if ground.has_rule && !ground.origin => {
                Some((Place::Cache, "origin: true".to_owned()))
            }
            Reason::Authorization => None,
            Reason::NoFreshness if !is_kept_by_rule => None,
            Reason::Status if is_kept_by_rule => {
                Some((Place::Route, format!("ttl_by_status: {{ {}: 1m }}", found.status)))
            }
            Reason::Status => None,
            Reason::TooLarge if found.length.is_none_or(|length| length > LARGEST) => None,
            _ => written(reason),
        };
        Self::with(reason, ground, change)
    }

    fn with(reason: Reason, ground: &Ground<'_>, change: Option<(Place, String)>) -> Self {
        let advice = reason.advice();
        let line = change.map(|(place, yaml)| ground.line(reason, place, yaml));
        Self { reason: reason.as_str(), meaning: advice.meaning, remedy: advice.remedy, line }
    }
}

impl Ground<'_> {
    /// Where the lifetime is written that a rule gives to a status.
    pub(super) fn lifetime_place(&self, status: u16) -> String {
        let cache =
            self.index.map_or_else(String::new, |index| format!("{}.cache", super::route_place(index)));
        let key = if self.named_statuses.contains(&status) { "ttl_by_status" } else { "ttl" };
        format!("{cache}.{key}")
    }

    fn line(&self, reason: Reason, place: Place, yaml: String) -> Line {
        // The mode is changed where it is said.
        let is_mode = matches!(reason, Reason::Off | Reason::Observe);
        let is_said_by_route = matches!(self.rule, Some(Some(_)));
        if place == Place::Cache || (is_mode && !is_said_by_route) {
            return Line { below: "cache".to_owned(), yaml };
        }
        match (self.index, self.rule) {
            (Some(index), Some(_)) => Line { below: format!("{}.cache", super::route_place(index)), yaml },
            (Some(index), None) => {
                Line { below: super::route_place(index), yaml: format!("cache: {{ {yaml} }}") }
            }
            (None, _) => {
                let path = quoted(self.path);
                Line {
                    below: "ingress.routes".to_owned(),
                    yaml: format!("- {{ path: {path}, cache: {{ {yaml} }} }}"),
                }
            }
        }
    }
}

/// The line of the table.
fn written(reason: Reason) -> Option<(Place, String)> {
    reason.advice().change.map(|change| (change.place, change.line.to_owned()))
}

/// A path as it stands in flow YAML.
fn quoted(path: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~');
    if path.bytes().all(is_plain) {
        return path.to_owned();
    }
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::{Found, Ground, Why};
    use crate::{
        config::{self, CacheMode},
        telemetry::{Reason, When},
    };

    const GROUND: Ground<'_> = Ground {
        index: None,
        rule: None,
        origin: true,
        has_rule: false,
        named_statuses: &[],
        path: "/a/b,c",
    };

    fn line(why: &Why) -> Option<(&str, &str)> {
        why.line.as_ref().map(|line| (line.below.as_str(), line.yaml.as_str()))
    }

    #[test]
    fn a_line_belongs_where_the_route_is() {
        let rule = Ground { index: Some(2), rule: Some(None), ..GROUND };
        let bare = Ground { index: Some(2), ..GROUND };
        let own = Ground { rule: Some(Some(CacheMode::Off)), ..rule };
        let table = [
            (Reason::Authorization, rule, Some(("ingress.routes[2].cache", "public: true"))),
            (Reason::NotListed, bare, Some(("ingress.routes[2]", "cache: { ttl: 1m }"))),
            (
                Reason::NotListed,
                GROUND,
                Some(("ingress.routes", "- { path: \"/a/b,c\", cache: { ttl: 1m } }")),
            ),
            (Reason::Off, own, Some(("ingress.routes[2].cache", "mode: serve"))),
            (Reason::Off, rule, Some(("cache", "mode: serve"))),
            (Reason::Observe, GROUND, Some(("cache", "mode: serve"))),
            (Reason::Path, rule, None),
        ];
        for (reason, ground, expected) in table {
            assert_eq!(line(&Why::of_request(reason, &ground)), expected, "{reason:?}");
        }
    }

    #[test]
    fn a_line_is_told_only_where_it_would_have_helped() {
        let rule = Ground { index: Some(0), rule: Some(None), has_rule: true, ..GROUND };
        let blind = Ground { origin: false, ..rule };
        let found = |status| Found { status, length: Some(9) };
        let cache = "ingress.routes[0].cache";
        let table = [
            (Reason::NoFreshness, rule, found(200), Some((cache, "ttl: 1m"))),
            (Reason::NoFreshness, rule, found(302), None),
            (Reason::NoFreshness, blind, found(200), Some(("cache", "origin: true"))),
            (Reason::Status, rule, found(404), Some((cache, "ttl_by_status: { 404: 1m }"))),
            (Reason::Status, rule, found(500), None),
            (Reason::Authorization, rule, found(200), None),
            (Reason::TooLarge, rule, found(200), Some((cache, "max_body: 8MiB"))),
            (Reason::TooLarge, rule, Found { status: 200, length: Some(9 << 20) }, None),
            (Reason::FillLimit, rule, found(200), Some(("cache", "fill_memory: 64MiB"))),
            (Reason::NoStore, rule, found(200), Some((cache, "override: [no_store]"))),
            (Reason::NoStore, rule, found(503), None),
            (Reason::NoStore, GROUND, found(200), None),
        ];
        for (reason, ground, found, expected) in table {
            assert_eq!(line(&Why::of_answer(reason, &ground, found)), expected, "{reason:?} {found:?}");
        }
    }

    #[test]
    fn every_line_loads_where_it_is_said_to_belong() {
        let found = Found { status: 404, length: Some(2 << 20) };
        for reason in Reason::ALL {
            let why = if reason.when().contains(&When::NotStored) {
                Why::of_answer(reason, &GROUND, found)
            } else {
                Why::of_request(reason, &GROUND)
            };
            let Some((below, yaml)) = line(&why) else { continue };
            let backend = "version: 1\ningress:\n  backend: http://127.0.0.1:8000\n";
            let text = match below {
                "cache" => format!("{backend}cache:\n  {yaml}\n"),
                _ => format!("{backend}  routes:\n    {yaml}\n"),
            };

            let loaded = config::load_str("proxy.yaml", &text, &|_| None);

            assert!(loaded.is_ok(), "{reason:?}: {}\n{text}", loaded.unwrap_err());
        }
    }
}
