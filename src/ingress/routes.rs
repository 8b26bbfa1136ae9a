//! The route table: path templates compiled to a lookup, and to each route everything its requests need.
//!
//! Exact paths are one hash lookup. Templates are grouped by their number of segments and tried from the most specific
//! to the least: a literal segment beats a parameter, a parameter beats the rest of a path, compared from the left.

use std::{cmp::Ordering, collections::HashMap, sync::Arc, time::Duration};

use http::Method;

use super::{
    CompileError, deny,
    identity::{Identifier, Identifiers, KeyRing},
};
use crate::{
    cache::{KeyRule, NewKeys, TagTemplate, rfc9111::Policy},
    config::{self, PathSegment, PathTemplate},
    telemetry::{RouteStats, Telemetry, record},
    upstream::bulkhead::Bulkhead,
};

/// A compiled route.
pub(super) struct Route {
    /// The statistics of its template.
    pub(super) stats: Arc<RouteStats>,
    /// How its answers are cached.
    pub(super) policy: Policy,
    /// What is in its keys.
    pub(super) key: KeyRule,
    /// How it is told whose its requests are, where every user has answers of their own.
    pub(super) identity: Option<Arc<Identifier>>,
    /// What its entries can be purged by.
    pub(super) tags: Vec<TagTemplate>,
    /// What a successful answer of it ends.
    pub(super) invalidates: Vec<TagTemplate>,
    /// The most octets of a request body.
    pub(super) body: u64,
    /// A limit of its own for the time to the backend's head.
    pub(super) first_byte: Option<Duration>,
    /// A bound of its own on what is in flight.
    pub(super) bulkhead: Option<Arc<Bulkhead>>,
    /// The keys that it has added to the cache of late.
    pub(super) new_keys: NewKeys,
    /// Its name in purges.
    pub(super) name: Arc<str>,
    /// Its place in `ingress.routes`.
    pub(super) index: Option<usize>,
    template: Option<PathTemplate>,
}

/// One way to match, and what is behind it.
pub(super) struct Candidate<T> {
    pub(super) template: PathTemplate,
    methods: Vec<Method>,
    host: Option<String>,
    pub(super) value: T,
}

/// Path templates compiled to a lookup.
pub(super) struct Matcher<T> {
    exact: HashMap<Box<str>, Vec<Candidate<T>>, foldhash::fast::RandomState>,
    by_length: Vec<Vec<Candidate<T>>>,
    with_rest: Vec<Candidate<T>>,
}

/// All routes of the configuration.
pub struct RouteTable {
    routes: Matcher<Arc<Route>>,
    denied: Vec<Candidate<Arc<Route>>>,
    /// The keys that identities are verified with.
    rings: Vec<Arc<KeyRing>>,
    unmatched: Arc<Route>,
}

/// Templates that the backend itself told. They are labels only.
pub(super) type Learned = Matcher<Arc<RouteStats>>;

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), by_length: Vec::new(), with_rest: Vec::new() }
    }
}

impl<T> Matcher<T> {
    fn insert(&mut self, candidate: Candidate<T>) {
        let segments = &candidate.template.segments;
        if matches!(segments.last(), Some(PathSegment::Rest(_))) {
            self.with_rest.push(candidate);
        } else if segments.iter().all(|segment| matches!(segment, PathSegment::Literal(_))) {
            self.exact.entry(candidate.template.to_string().into()).or_default().push(candidate);
        } else {
            let length = segments.len();
            if self.by_length.len() <= length {
                self.by_length.resize_with(length + 1, Vec::new);
            }
            if let Some(group) = self.by_length.get_mut(length) {
                group.push(candidate);
            }
        }
    }

    /// Adds a label for a template; one that does not parse costs only its label.
    pub(super) fn learn(&mut self, path: &str, methods: &[String], value: T) {
        let Ok(template) = PathTemplate::parse(path) else { return };
        let methods =
            methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect();
        self.insert(Candidate { template, methods, host: None, value });
    }

    /// Brings the candidates into the order in which they are tried.
    pub(super) fn sort(&mut self) {
        // Stable: among equals the first one written wins.
        self.by_length.iter_mut().for_each(|group| group.sort_by(Candidate::order));
        self.with_rest.sort_by(Candidate::order);
        self.exact.values_mut().for_each(|group| group.sort_by(Candidate::order));
    }

    /// What is behind the most specific template that a request matches.
    pub(super) fn find(&self, method: &Method, host: &[u8], path: &str) -> Option<&T> {
        let fits = |candidate: &&Candidate<T>| candidate.takes(method, host);
        if let Some(candidate) = self.exact.get(path).and_then(|group| group.iter().find(fits)) {
            return Some(&candidate.value);
        }
        if self.by_length.is_empty() && self.with_rest.is_empty() {
            return None;
        }
        let length = memchr::memchr_iter(b'/', path.as_bytes()).count();
        let of_length = self.by_length.get(length).map(Vec::as_slice).unwrap_or_default();
        let fixed = first_match(of_length, method, host, path);
        let open = first_match(&self.with_rest, method, host, path);
        let found = match (fixed, open) {
            (Some(fixed), Some(open)) if Candidate::order(open, fixed).is_lt() => open,
            (Some(candidate), _) | (None, Some(candidate)) => candidate,
            (None, None) => return None,
        };
        Some(&found.value)
    }
}

fn first_match<'a, T>(
    group: &'a [Candidate<T>],
    method: &Method,
    host: &[u8],
    path: &str,
) -> Option<&'a Candidate<T>> {
    group.iter().find(|candidate| candidate.takes(method, host) && matches(&candidate.template, path))
}

impl RouteTable {
    /// Compiles the routes of the configuration.
    ///
    /// # Errors
    /// When a template, a tag or a header name does not parse; the configuration's own checks find this first.
    pub fn compile(
        config: &config::Config,
        ingress: &config::Ingress,
        telemetry: &Telemetry,
    ) -> Result<Self, CompileError> {
        let unmatched = Route {
            stats: telemetry.unmatched(),
            policy: Policy::from_config(&config.cache, None),
            key: KeyRule::default(),
            identity: None,
            tags: Vec::new(),
            invalidates: Vec::new(),
            body: ingress.limits.body.bytes(),
            first_byte: None,
            bulkhead: None,
            new_keys: NewKeys::new(config.cache.max_new_keys),
            name: Arc::from("unmatched"),
            index: None,
            template: None,
        };
        let mut table = Self {
            routes: Matcher::default(),
            denied: Vec::new(),
            rings: Vec::new(),
            unmatched: Arc::new(unmatched),
        };
        let mut identifiers = Identifiers::default();
        for (index, written) in ingress.routes.iter().enumerate() {
            let fault = |error: &dyn std::error::Error| CompileError::new(&written.path, error);
            let template = PathTemplate::parse(&written.path).map_err(|error| fault(&error))?;
            let methods = written.methods.iter().map(|method| Method::from_bytes(method.as_bytes()));
            let methods = methods.collect::<Result<_, _>>().map_err(|error| fault(&error))?;
            let host = written.host.as_ref().map(|host| host.to_ascii_lowercase());
            let mut route = compile_route(config, ingress, written, &template, telemetry)?;
            let identity = written.cache.as_ref().and_then(|cache| cache.identity.as_ref());
            route.index = Some(index);
            route.identity =
                identity.map(|identity| identifiers.compile(&written.path, identity)).transpose()?;
            let candidate = Candidate { template, methods, host, value: Arc::new(route) };
            if written.deny {
                table.denied.push(candidate);
            } else {
                table.routes.insert(candidate);
            }
        }
        table.routes.sort();
        table.rings = identifiers.into_rings();
        Ok(table)
    }

    /// The keys that identities are verified with, one for each file.
    pub(super) fn rings(&self) -> &[Arc<KeyRing>] {
        &self.rings
    }

    /// The most specific route for a request, or the one of requests that match none.
    pub(super) fn find(&self, method: &Method, host: &[u8], path: &str) -> &Arc<Route> {
        self.routes.find(method, host, path).unwrap_or(&self.unmatched)
    }

    /// All routes, in no order.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &Candidate<Arc<Route>>> {
        let Matcher { exact, by_length, with_rest } = &self.routes;
        let matched = exact.values().chain(by_length).flatten().chain(with_rest);
        matched.chain(&self.denied)
    }

    /// The route that denies a request under any reading of its path that a server might make.
    pub(super) fn denies(&self, method: &Method, host: &[u8], path: &str) -> Option<&Arc<Route>> {
        let mut candidates = self.denied.iter().filter(|candidate| candidate.takes(method, host)).peekable();
        let first = candidates.peek()?;
        if deny::is_unreadable(path) {
            return Some(&first.value);
        }
        let readings = deny::readings(path);
        candidates
            .find(|candidate| readings.iter().any(|reading| deny::matches(&candidate.template, reading)))
            .map(|candidate| &candidate.value)
    }
}

impl Route {
    /// True for the route of requests that match none.
    pub(super) const fn is_unmatched(&self) -> bool {
        self.template.is_none()
    }

    /// The parameters of a path that matched this route's template, by name.
    pub(super) fn parameters<'a>(&'a self, path: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut rest = path.strip_prefix('/').unwrap_or(path);
        let mut found = Vec::new();
        for segment in self.template.iter().flat_map(|template| &template.segments) {
            let (this, after) = rest.split_once('/').unwrap_or((rest, ""));
            match segment {
                PathSegment::Literal(_) => {}
                PathSegment::Parameter(name) => found.push((name.as_str(), this)),
                PathSegment::Rest(name) => found.push((name.as_str(), rest)),
            }
            rest = after;
        }
        found
    }
}

impl<T> Candidate<T> {
    /// The order in which candidates are tried: from the most specific template to the least, and one with a host first.
    pub(super) fn order(a: &Self, b: &Self) -> Ordering {
        specificity(&a.template, &b.template).then(b.host.is_some().cmp(&a.host.is_some()))
    }

    fn takes(&self, method: &Method, host: &[u8]) -> bool {
        self.takes_method(method) && self.takes_host(host)
    }

    pub(super) fn takes_method(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (*method == Method::HEAD && self.methods.contains(&Method::GET))
    }

    pub(super) fn takes_host(&self, host: &[u8]) -> bool {
        self.host.as_ref().is_none_or(|wanted| is_host(host, wanted))
    }
}

/// Compares the name alone: the port in `Host` is not part of a route's host.
pub(super) fn is_host(host: &[u8], wanted: &str) -> bool {
    let name = if host.first() == Some(&b'[') {
        host.iter().position(|byte| *byte == b']').and_then(|end| host.get(..=end)).unwrap_or(host)
    } else {
        host.split(|byte| *byte == b':').next().unwrap_or(host)
    };
    // `example.` is the same host as `example` (RFC 3986 section 3.2.2).
    let name = name.strip_suffix(b".").unwrap_or(name);
    name.eq_ignore_ascii_case(wanted.as_bytes()) || host.eq_ignore_ascii_case(wanted.as_bytes())
}

fn compile_route(
    config: &config::Config,
    ingress: &config::Ingress,
    written: &config::Route,
    template: &PathTemplate,
    telemetry: &Telemetry,
) -> Result<Route, CompileError> {
    let parameters: Vec<&str> = template.parameters().collect();
    let label = written.name.as_deref().unwrap_or(&written.path);
    let slow_after = written.slow_after.unwrap_or(ingress.slow_after);
    let stats = telemetry.route(label, slow_after);
    if written.methods.is_empty() {
        stats.set_slow_after(slow_after);
    }
    for method in &written.methods {
        stats.set_slow_after_for(record::Method::from_name(method), slow_after);
    }
    let rule = written.cache.as_ref();
    let fault = |error: &dyn std::error::Error| CompileError::new(&written.path, error);
    let tags = rule.map(|rule| rule.tags.as_slice()).unwrap_or_default();
    Ok(Route {
        stats,
        policy: Policy::from_config(&config.cache, rule),
        key: rule.map(KeyRule::of_route).transpose().map_err(|error| fault(&error))?.unwrap_or_default(),
        identity: None,
        tags: TagTemplate::compile_all(tags, &parameters).map_err(|error| fault(&error))?,
        invalidates: TagTemplate::compile_all(&written.invalidates, &parameters)
            .map_err(|error| fault(&error))?,
        body: written.body.unwrap_or(ingress.limits.body).bytes(),
        first_byte: written.first_byte,
        bulkhead: written
            .in_flight
            .map(|size| Arc::new(Bulkhead::new(size, ingress.upstream.queue, ingress.upstream.wait))),
        new_keys: NewKeys::new(config.cache.max_new_keys),
        name: Arc::from(label),
        index: None,
        template: Some(template.clone()),
    })
}

/// True when `path` has the shape of `template`. Both begin with a slash.
pub(super) fn matches(template: &PathTemplate, path: &str) -> bool {
    let Some(mut rest) = path.as_bytes().strip_prefix(b"/").map(Some) else { return false };
    for segment in &template.segments {
        if let PathSegment::Rest(_) = segment {
            return rest.is_some();
        }
        let Some(text) = rest else { return false };
        let end = memchr::memchr(b'/', text);
        let this = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        let fits = match segment {
            PathSegment::Literal(literal) => this == literal.as_bytes(),
            PathSegment::Parameter(_) | PathSegment::Rest(_) => !this.is_empty(),
        };
        if !fits {
            return false;
        }
        rest = end.and_then(|end| text.get(end + 1..));
    }
    rest.is_none()
}

/// Orders templates from the most specific to the least.
fn specificity(a: &PathTemplate, b: &PathTemplate) -> Ordering {
    let rank = |segment: &PathSegment| match segment {
        PathSegment::Literal(_) => 0,
        PathSegment::Parameter(_) => 1,
        PathSegment::Rest(_) => 2,
    };
    let by_segment = a
        .segments
        .iter()
        .zip(&b.segments)
        .map(|(a, b)| rank(a).cmp(&rank(b)))
        .find(|ordering| ordering.is_ne())
        .unwrap_or(Ordering::Equal);
    by_segment.then(b.segments.len().cmp(&a.segments.len()))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::RouteTable;
    use crate::{
        config,
        telemetry::{Facts, Telemetry},
    };

    fn table(routes: &[(&str, &[&str], bool)]) -> RouteTable {
        let telemetry = Telemetry::new(&config::Telemetry::default(), Facts::default(), None);
        let ingress = config::Ingress {
            routes: routes
                .iter()
                .map(|(path, methods, deny)| config::Route {
                    path: (*path).to_owned(),
                    methods: methods.iter().map(|method| (*method).to_owned()).collect(),
                    deny: *deny,
                    ..config::Route::default()
                })
                .collect(),
            ..config::Ingress::default()
        };
        RouteTable::compile(&config::Config::default(), &ingress, &telemetry).unwrap()
    }

    #[test]
    fn the_most_specific_template_wins_whatever_the_order() {
        let table = table(&[
            ("/{rest*}", &[], false),
            ("/api/{kind}/{id}", &[], false),
            ("/api/user/{id}", &[], false),
            ("/api/user/me", &[], false),
            ("/api/{rest*}", &[], false),
        ]);
        let found = |path| table.find(&Method::GET, b"x", path).stats.template().to_owned();

        assert_eq!(found("/api/user/me"), "/api/user/me");
        assert_eq!(found("/api/user/7"), "/api/user/{id}");
        assert_eq!(found("/api/team/7"), "/api/{kind}/{id}");
        assert_eq!(found("/api/team/7/x"), "/api/{rest*}");
        assert_eq!(found("/other"), "/{rest*}");
    }

    #[test]
    fn a_literal_on_the_left_beats_a_parameter_even_when_a_rest_follows() {
        let table = table(&[("/{tenant}/{page}", &[], false), ("/api/{rest*}", &[], false)]);
        let found = |path| table.find(&Method::GET, b"x", path).stats.template().to_owned();

        assert_eq!(found("/api/me"), "/api/{rest*}");
        assert_eq!(found("/acme/me"), "/{tenant}/{page}");
    }

    #[test]
    fn a_parameter_is_one_segment_that_is_not_empty() {
        let table = table(&[("/user/{id}", &[], false)]);
        let found = |path| table.find(&Method::GET, b"x", path).stats.template().to_owned();

        assert_eq!(found("/user/7"), "/user/{id}");
        assert_eq!(found("/user/"), "unmatched");
        assert_eq!(found("/user/7/"), "unmatched");
        assert_eq!(found("/user"), "unmatched");
    }

    #[test]
    fn methods_part_routes_with_one_path_and_head_goes_with_get() {
        let table = table(&[("/chat/{id}", &["POST"], false), ("/chat/{all}", &["GET"], false)]);
        let found = |method| table.find(&method, b"x", "/chat/1").stats.template().to_owned();

        assert_eq!(found(Method::POST), "/chat/{id}");
        assert_eq!(found(Method::HEAD), "/chat/{all}");
        assert_eq!(found(Method::DELETE), "unmatched");
    }

    #[test]
    fn a_denied_path_is_denied_under_every_reading() {
        let table = table(&[("/internal/{rest*}", &[], true), ("/admin", &[], true)]);
        let denied = [
            "/internal/x",
            "/internal",
            "/internal/",
            "/%69nternal/x",
            "/%2569nternal/x",
            "//internal/x",
            "/a/../internal/x",
            "/./internal/x",
            "\\internal\\x",
            "/internal;v=1/x",
            "/INTERNAL/x",
            "/internal%2fx",
            "/a/%2e%2e/internal/x",
            "/admin%00.html",
            "/admin/",
            "/admin%20",
            "/Admin",
            "/admin;jsessionid=1",
            "/x/..;/admin",
            "/admin/.",
            "/admin%09",
            "/a/..%2fadmin",
            "/%5cadmin",
            "/x/%252e%252e/admin",
        ];
        for path in denied {
            assert!(table.denies(&Method::GET, b"x", path).is_some(), "{path}");
        }
        assert!(table.denies(&Method::GET, b"x", &format!("/%69nternal/{}", "a".repeat(2100))).is_some());
        for path in ["/internally/x", "/administrator", "/x/admin", "/a/internal/x", "/admin/users"] {
            assert!(table.denies(&Method::GET, b"x", path).is_none(), "{path}");
        }
    }

    #[test]
    fn parameters_are_named_by_the_template() {
        let table = table(&[("/api/{kind}/{rest*}", &[], false)]);
        let route = table.find(&Method::GET, b"x", "/api/user/7/notes");

        assert_eq!(route.parameters("/api/user/7/notes"), [("kind", "user"), ("rest", "7/notes")]);
    }
}
