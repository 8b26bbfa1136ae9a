//! Advice as YAML that loads: entries of `ingress.routes`, what they are based on as comments above each, and comments alone
//! for routes of which nothing good can be said.
//!
//! Texts come from a backend's document or from paths that clients asked for, so each is quoted, and `$` is doubled, as the
//! configuration would take it for a variable.

use std::{collections::HashSet, fmt::Write as _};

use serde_json::{Map, Value};

use super::{percent, seconds, ttl};
use crate::config::{PathTemplate, Route, RouteCache, format_duration};
use crate::telemetry::observed::{AtTtl, Counts, Named, Observed, ObservedRoute, TTLS, Verdict, View};

/// The margin of an entry below `ingress.routes`.
const MARGIN: &str = "    ";

/// The width of comments.
const WIDTH: usize = 118;

/// What stands for the settings of an identity that only the operator knows.
const IDENTITY: &str = "identity: { jwt_claim: sub, keys: /etc/touchline/jwks.json }";

/// The whole text.
pub(super) fn text(observed: &Observed, routes: &[Route], is_observing: bool, not_shown: usize) -> String {
    let mut writer = Writer { text: String::new(), shapes: HashSet::new(), has_entry: false };
    let lifetimes: Vec<String> = TTLS.into_iter().map(format_duration).collect();
    writer.wrapped(
        "",
        &format!(
            "What touchline found in {} of observing. The entries go under `ingress.routes`; that of a configured \
             route takes the place of the old one. A ttl is the longest of {} \
             at which at most 1 % of the would-be hits were wrong; none is longer than the time observed.",
            span(observed.watched),
            lifetimes.join(", ")
        ),
    );
    if !is_observing {
        writer.wrapped("", "Nothing is observed: set `cache.mode: observe`, or `mode: observe` for a route.");
    } else if observed.routes.is_empty() {
        writer.wrapped("", "Nothing has been seen yet.");
    }
    for route in &observed.routes {
        writer.route(route, routes);
    }
    if not_shown > 0 {
        writer.text.push('\n');
        writer.comment(&format!("{not_shown} more routes with few requests"));
    }
    if !writer.has_entry {
        let _ = writeln!(writer.text, "{MARGIN}[]");
    }
    writer.text
}

struct Writer {
    text: String,
    /// The shapes of the paths that have an entry already: two of one shape would not load.
    shapes: HashSet<String>,
    has_entry: bool,
}

impl Writer {
    fn comment(&mut self, text: &str) {
        self.wrapped(MARGIN, text);
    }

    /// A comment in lines of readable length.
    fn wrapped(&mut self, margin: &str, text: &str) {
        let start = margin.len() + 1;
        let _ = write!(self.text, "{margin}#");
        let mut length = start;
        for word in text.split(' ') {
            if length > start && length + 1 + word.len() > WIDTH {
                let _ = write!(self.text, "\n{margin}#");
                length = start;
            }
            let _ = write!(self.text, " {word}");
            length += 1 + word.len();
        }
        self.text.push('\n');
    }

    fn route(&mut self, route: &ObservedRoute, routes: &[Route]) {
        self.text.push('\n');
        let entries = self.entries(route, routes);
        if entries.is_empty() || route.advice.verdict.ttl().is_none() {
            self.comment(&format!("{}: {}", quoted(&route.route), conclusion(route)));
        } else {
            self.comment(&conclusion(route));
        }
        self.facts(route);
        let is_active = matches!(route.advice.verdict, Verdict::Ttl(_));
        for entry in entries {
            self.has_entry |= is_active;
            for line in entry {
                let _ = writeln!(self.text, "{MARGIN}{}{line}", if is_active { "" } else { "# " });
            }
        }
    }

    fn facts(&mut self, route: &ObservedRoute) {
        let view = main_view(route);
        if matches!(route.advice.verdict, Verdict::TooFew) {
            return;
        }
        self.comment(&format!(
            "{} requests, {} keys, in {}; {} % of {} repeats had the same body",
            view.requests,
            view.keys,
            span(route.watched),
            percent(view.same, view.repeats),
            view.repeats
        ));
        if let Some((at, found)) = route.advice.verdict.ttl().and_then(|at| Some((at, view.ttls.get(at)?))) {
            self.comment(&brought(at, found, view));
            if let Some(next) = view.ttls.get(at + 1).filter(|next| next.wrong * 100 > next.hits) {
                self.comment(&format!(
                    "{} would be too long: {} % wrong",
                    ttl(at + 1),
                    percent(next.wrong, next.hits)
                ));
            }
        }
        for line in against(route) {
            self.comment(&format!("against: {line}"));
        }
    }

    /// The entries that are proposed for a route: one for each that is configured under its name, else a new one.
    fn entries(&mut self, route: &ObservedRoute, routes: &[Route]) -> Vec<Vec<String>> {
        let (Verdict::Ttl(at) | Verdict::PerUser(at)) = route.advice.verdict else { return Vec::new() };
        match route.named {
            Named::Configured => routes
                .iter()
                .filter(|written| is_meant(written, &route.route))
                .map(|written| entry(written, route, at))
                .collect(),
            Named::Learned | Named::Guessed => {
                let is_first = PathTemplate::parse(&route.route)
                    .is_ok_and(|template| self.shapes.insert(template.shape()));
                let new =
                    Route { path: route.route.clone(), methods: vec!["GET".to_owned()], ..Route::default() };
                if is_first { vec![entry(&new, route, at)] } else { Vec::new() }
            }
            Named::Unnamed => Vec::new(),
        }
    }
}

/// Whether a configured route is the one that was observed.
fn is_meant(written: &Route, name: &str) -> bool {
    let is_get = written.methods.is_empty() || written.methods.iter().any(|method| method == "GET");
    !written.deny && is_get && written.name.as_deref().unwrap_or(&written.path) == name
}

/// The lines of an entry: a route as it is written, with the lifetime.
fn entry(written: &Route, route: &ObservedRoute, at: usize) -> Vec<String> {
    let mut lines = vec![format!("- path: {}", quoted(&written.path))];
    for (key, value) in told(written, &Route::default()) {
        if key != "path" && key != "cache" {
            lines.push(format!("  {key}: {value}"));
        }
    }
    lines.push("  cache:".to_owned());
    lines.push(format!("    ttl: {}", ttl(at)));
    let cache = written.cache.clone().unwrap_or_default();
    let mut has_identity = false;
    for (key, value) in told(&cache, &RouteCache::default()) {
        let is_barred = key == "public" && route.counts.with_credentials > 0;
        has_identity |= key == "identity";
        if key != "ttl" && key != "mode" && !is_barred {
            lines.push(format!("    {key}: {value}"));
        }
    }
    let wants_identity =
        route.advice.per_user.is_some() || matches!(route.advice.verdict, Verdict::PerUser(_));
    if wants_identity && !has_identity {
        // In a comment as a whole it is a line like any other.
        let mark = if matches!(route.advice.verdict, Verdict::PerUser(_)) { "" } else { "# " };
        lines.push(format!("    {mark}{IDENTITY}"));
    }
    lines
}

/// The settings that are not the defaults, with their values in flow style.
fn told<T: serde::Serialize>(settings: &T, defaults: &T) -> Vec<(String, String)> {
    let object = |settings: &T| match serde_json::to_value(settings) {
        Ok(Value::Object(object)) => object,
        Ok(_) | Err(_) => Map::new(),
    };
    let defaults = object(defaults);
    object(settings)
        .into_iter()
        .filter(|(key, value)| defaults.get(key) != Some(value))
        .map(|(key, value)| (key, flow(&value)))
        .collect()
}

/// A value in flow style. JSON is YAML; the spaces are for people.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            // What a key leaves out is not told either.
            let members = object.iter().filter(|(_, value)| !value.is_null());
            let members: Vec<String> =
                members.map(|(key, value)| format!("{}: {}", plain(key), flow(value))).collect();
            if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
        }
        other => other.to_string(),
    }
}

/// A key: bare where it is a plain word.
fn plain(key: &str) -> String {
    if is_plain(key) || (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit())) {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

/// Whether a text means itself without quotes: a word, or a number with a unit.
fn is_plain(text: &str) -> bool {
    let is_unit = |rest: &str| matches!(rest, "ms" | "s" | "m" | "h" | "d" | "B" | "KiB" | "MiB" | "GiB");
    let number = text.bytes().take_while(u8::is_ascii_digit).count();
    if number > 0 {
        return text.get(number..).is_some_and(is_unit);
    }
    let is_reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        && !is_reserved
}

/// A text in quotes. What would end a line or stand for a variable cannot do so any more.
fn quoted(text: &str) -> String {
    Value::from(text.replace('$', "$$")).to_string()
}

/// The requests that the conclusion is about.
fn main_view(route: &ObservedRoute) -> &View {
    match route.advice.verdict {
        Verdict::Ttl(_) => &route.anonymous,
        Verdict::PerUser(_) => &route.per_user,
        Verdict::SameForAll(_) => &route.shared,
        Verdict::TooFew | Verdict::TooBrief | Verdict::Declared | Verdict::Refused(_) | Verdict::Changes => {
            if route.anonymous.requests >= route.per_user.requests {
                &route.anonymous
            } else {
                &route.per_user
            }
        }
    }
}

/// What follows, in a sentence.
fn conclusion(route: &ObservedRoute) -> String {
    let Counts { requests, declared, with_credentials, .. } = &route.counts;
    match route.advice.verdict {
        Verdict::TooFew => {
            let repeats = route.anonymous.repeats + route.per_user.repeats;
            format!("not enough seen yet: {requests} requests, {repeats} repeats")
        }
        Verdict::TooBrief => format!(
            "not measured yet: observed for {}, and too few repeats came within a ttl of that length",
            span(route.watched)
        ),
        Verdict::Declared => format!(
            "the backend itself says how long, on {declared} of {requests} answers; a ttl would not count"
        ),
        Verdict::Refused(reason) => format!("most answers may not be stored: {}", reason.as_str()),
        Verdict::Changes => {
            let view = main_view(route);
            let first = view.ttls.iter().position(|found| found.wrong > 0).unwrap_or(0);
            let found = view.ttls.get(first).copied().unwrap_or_default();
            let wrong = percent(found.wrong, found.hits);
            format!("changes too often: at {} already {wrong} % of the would-be hits were wrong", ttl(first))
        }
        Verdict::Ttl(at) => format!("{} would do", ttl(at)),
        Verdict::PerUser(at) => format!(
            "{with_credentials} of {requests} requests carry credentials, so a ttl alone caches little; {} would do for \
             entries of each user",
            ttl(at)
        ),
        Verdict::SameForAll(at) => format!(
            "{with_credentials} of {requests} requests carry credentials and pass by the cache. All users got the same, \
             and {} would do; only who wrote the backend knows that it is so by design, and may declare the route public",
            ttl(at)
        ),
    }
}

/// What a lifetime would have brought.
fn brought(at: usize, found: &AtTtl, view: &View) -> String {
    format!(
        "ttl {}: {} % would be hits, {} % of them wrong; {} s of the backend saved",
        ttl(at),
        percent(found.hits, view.requests),
        percent(found.wrong, found.hits),
        seconds(found.saved_us)
    )
}

/// What speaks against caching the route, and what else should be known.
fn against(route: &ObservedRoute) -> Vec<String> {
    let mut lines = Vec::new();
    let Counts { requests, with_credentials, .. } = &route.counts;
    let shared = &route.shared;
    if *with_credentials > 0 {
        lines.push(format!(
            "{with_credentials} of {requests} requests carry credentials (Authorization {}, cookies {}, others {}) and \
             pass by the cache",
            route.counts.authorization, route.counts.cookie, route.counts.credential
        ));
    }
    if shared.differing > 0 {
        lines.push(format!(
            "answers differ between users, in {} of {} pairs of requests",
            shared.differing, shared.compared
        ));
    }
    if route.counts.set_cookie > 0 {
        lines.push(format!("{} answers set a cookie", route.counts.set_cookie));
    }
    if route.counts.declared > 0 {
        lines.push(format!(
            "{} answers state their own lifetime, which counts before a ttl",
            route.counts.declared
        ));
    }
    if !route.refused.is_empty() {
        let reasons = route.refused.iter().map(|(reason, count)| format!("{} {count}", reason.as_str()));
        lines.push(format!("answers that may not be stored: {}", reasons.collect::<Vec<_>>().join(", ")));
    }
    if !route.vary.is_empty() {
        lines.push(format!("answers vary by {}", route.vary.join(", ")));
    }
    if route.statuses.iter().any(|(status, _)| *status != 200) {
        let statuses = route.statuses.iter().map(|(status, count)| format!("{status} {count}"));
        lines.push(format!("statuses: {}", statuses.collect::<Vec<_>>().join(", ")));
    }
    let methods = route.methods.iter().filter(|(name, _)| !matches!(*name, "GET" | "HEAD" | "OPTIONS"));
    let methods: Vec<String> = methods.map(|(name, count)| format!("{name} {count}")).collect();
    if !methods.is_empty() {
        lines.push(format!("the path is also written to: {}", methods.join(", ")));
    }
    if route.counts.incomparable > 0 {
        lines.push(format!("{} answers could not be compared", route.counts.incomparable));
    }
    lines
}

/// A time for people: its two largest units.
fn span(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    let units = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds % 60, "s")];
    let mut shown =
        units.into_iter().skip_while(|(count, _)| *count == 0).take(2).filter(|(count, _)| *count > 0);
    let first = shown.next().map_or_else(|| "0s".to_owned(), |(count, unit)| format!("{count}{unit}"));
    shown.next().map_or_else(|| first.clone(), |(count, unit)| format!("{first} {count}{unit}"))
}
