//! Routes that nearly matched: the right path with another method or host, a template that lost to a more specific one,
//! a slash too many, a letter in the wrong case.

use std::{borrow::Cow, sync::Arc};

use http::Method;
use serde::Serialize;

use crate::{
    config::{PathSegment, PathTemplate},
    ingress::routes::{Candidate, Route, RouteTable, matches},
};

/// Routes that are shown at most.
const MOST: usize = 6;

/// A route that nearly matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Near {
    /// Its template.
    pub path: String,
    /// Where it is written.
    pub place: String,
    /// What kept it from matching.
    pub why: &'static str,
}

/// The routes that nearly matched a request, in the order in which they are written.
pub(super) fn near(table: &RouteTable, found: &Route, method: &Method, host: &[u8], path: &str) -> Vec<Near> {
    let winner = table.candidates().find(|candidate| candidate.value.index == found.index);
    let mut list: Vec<(usize, Near)> = Vec::new();
    for candidate in table.candidates() {
        let Some(index) = candidate.value.index.filter(|index| Some(*index) != found.index) else { continue };
        let why = if matches(&candidate.template, path) {
            match (candidate.takes_method(method), candidate.takes_host(host)) {
                (false, _) => "another method",
                (true, false) => "another host",
                (true, true) if winner.is_some_and(|winner| is_as_specific(winner, candidate)) => {
                    "written later, so it never comes to it"
                }
                (true, true) => "less specific",
            }
        } else if matches(&candidate.template, &other_slash(path)) {
            if path.ends_with('/') { "the path ends with a slash" } else { "the path ends without its slash" }
        } else if matches(&lower(&candidate.template), &path.to_ascii_lowercase()) {
            "letters in another case"
        } else {
            continue;
        };
        list.push((
            index,
            Near { path: candidate.template.to_string(), place: super::route_place(index), why },
        ));
    }
    list.sort_by_key(|(index, _)| *index);
    list.into_iter().map(|(_, near)| near).take(MOST).collect()
}

/// Whether only the order in the file decides between two.
fn is_as_specific(winner: &Candidate<Arc<Route>>, other: &Candidate<Arc<Route>>) -> bool {
    !winner.value.is_unmatched() && Candidate::order(winner, other).is_eq()
}

/// The path with the slash at its end taken off or put on.
fn other_slash(path: &str) -> Cow<'_, str> {
    path.strip_suffix('/').map_or_else(|| Cow::Owned(format!("{path}/")), Cow::Borrowed)
}

fn lower(template: &PathTemplate) -> PathTemplate {
    let segment = |segment: &PathSegment| match segment {
        PathSegment::Literal(text) => PathSegment::Literal(text.to_ascii_lowercase()),
        PathSegment::Parameter(_) | PathSegment::Rest(_) => segment.clone(),
    };
    PathTemplate { segments: template.segments.iter().map(segment).collect() }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::near;
    use crate::{
        config,
        ingress::routes::RouteTable,
        telemetry::{Facts, Telemetry},
    };

    #[test]
    fn the_ways_to_miss_a_route_are_told_apart() {
        let route = |path: &str, method: &str, host: Option<&str>| config::Route {
            path: path.to_owned(),
            methods: (!method.is_empty()).then(|| method.to_owned()).into_iter().collect(),
            host: host.map(str::to_owned),
            ..config::Route::default()
        };
        let ingress = config::Ingress {
            routes: vec![
                route("/{rest*}", "", None),
                route("/api/challenges", "POST", None),
                route("/api/challenges", "", Some("other.example")),
                route("/api/{kind}", "", None),
                route("/API/Challenges", "", None),
                route("/api/challenges/", "", None),
                route("/api/other", "", None),
                route("/api/{name}", "GET", None),
            ],
            ..config::Ingress::default()
        };
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        let table = RouteTable::compile(&config::Config::default(), &ingress, &telemetry).unwrap();
        let told = |path: &str| -> Vec<(String, &'static str)> {
            let found = table.find(&Method::GET, b"x", path);
            let list = near(&table, found, &Method::GET, b"x", path);
            list.into_iter().map(|near| (near.place, near.why)).collect()
        };
        let place = |index: usize| format!("ingress.routes[{index}]");

        assert_eq!(
            told("/api/challenges"),
            [
                (place(0), "less specific"),
                (place(1), "another method"),
                (place(2), "another host"),
                (place(4), "letters in another case"),
                (place(5), "the path ends without its slash"),
                (place(7), "written later, so it never comes to it"),
            ]
        );
        let slash = "the path ends with a slash";
        assert_eq!(told("/api/other/"), [(place(3), slash), (place(6), slash), (place(7), slash)]);
        let later = "written later, so it never comes to it";
        assert_eq!(told("/api/else"), [(place(0), "less specific"), (place(7), later)]);
        assert_eq!(told("/elsewhere"), []);
    }
}
