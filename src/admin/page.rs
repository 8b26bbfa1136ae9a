//! `GET /`: the page for people as the server writes it: what is wrong, where, and where to look on. The script of the
//! dashboard takes its place once it has a snapshot; without scripts it is all there is.

use std::fmt::{self, Write};

use http::{HeaderName, HeaderValue, StatusCode};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::admin::{
    Admin,
    answer::{Kind, Reply},
    shapes::percent,
};
use crate::telemetry::{
    Basis, HealthScore, Method, Window,
    snapshot::{CacheWindow, RouteCache, RouteWindow},
};

/// How many slow requests are shown.
const SLOW: usize = 10;
/// How many rows of routes are shown: the busiest, so that an application with many paths has a readable page too.
const ROUTES: usize = 100;
/// The circumference of the score's ring, whose radius is 50.
const RING: f64 = 314.16;

/// What is drawn.
struct View<'a> {
    admin: &'a Admin,
    window: Window,
    is_refreshing: bool,
    verdict: HealthScore,
    routes: Vec<RouteWindow>,
    cache: CacheWindow,
    now: Instant,
}

/// Text of others in HTML: a path, a name, a reason.
struct Escaped<'a>(&'a str);

/// A route template with its parameters marked.
struct Template<'a>(&'a str);

/// A latency in the unit that fits it.
struct Latency(f64);

/// The page over a window.
pub(super) fn reply(admin: &Admin, window: Window, is_refreshing: bool) -> Reply {
    let now = Instant::now();
    let mut routes = admin.telemetry.route_windows(window, now);
    // Stable, so the busiest stay first: what matches no route comes last.
    routes.sort_by_key(|route| route.method.is_none());
    let view = View {
        admin,
        window,
        is_refreshing,
        verdict: admin.telemetry.health_score(now),
        routes,
        cache: admin.telemetry.cache_window(window, now),
        now,
    };
    let reply = Reply::new(StatusCode::OK, Kind::Html, view.to_string());
    if is_refreshing {
        reply.with(HeaderName::from_static("refresh"), HeaderValue::from_static("10"))
    } else {
        reply
    }
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.admin.telemetry.facts();
        let status = self.verdict.status().as_str();
        let service = Escaped(&facts.service);
        write!(
            f,
            "<!doctype html><html lang=en><head><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width, initial-scale=1\">\
             <title>{} · {status} · {service}</title><link rel=icon href=\"data:,\">\
             <link rel=stylesheet href=\"dashboard.css\"><script src=\"dashboard.js\" defer></script></head><body>",
            self.verdict.score
        )?;
        self.header(f)?;
        f.write_str("<main id=app>")?;
        self.verdict(f)?;
        self.routes(f)?;
        self.cache(f)?;
        self.slow(f)?;
        self.links(f)?;
        f.write_str("</main></body></html>\n")
    }
}

impl View<'_> {
    fn header(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.admin.telemetry.facts();
        let at = OffsetDateTime::now_utc();
        write!(
            f,
            "<header><b>{}</b><code>{}</code><small>up {} · config {} · {:02}:{:02}:{:02} UTC</small>\
             <nav aria-label=\"Window\">",
            Escaped(&facts.service),
            Escaped(&facts.pod),
            uptime(self.admin.telemetry.uptime(self.now).as_secs()),
            Escaped(&self.admin.telemetry.config_state().hash),
            at.hour(),
            at.minute(),
            at.second(),
        )?;
        let refresh = if self.is_refreshing { "&amp;refresh=1" } else { "" };
        for window in [Window::OneMinute, Window::FiveMinutes, Window::OneHour] {
            let current = if window == self.window { " aria-current=true" } else { "" };
            let word = window.as_str();
            write!(f, "<a href=\"?window={word}{refresh}\"{current}>{word}</a>")?;
        }
        let (word, target, current) = if self.is_refreshing {
            ("refreshing", "", " aria-current=true")
        } else {
            ("refresh", "&amp;refresh=1", "")
        };
        let window = self.window.as_str();
        write!(f, "<a href=\"?window={window}{target}\"{current}>{word}</a></nav></header>")
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let score = self.verdict.score;
        let status = self.verdict.status();
        write!(
            f,
            "<section class=\"verdict {}\"><svg class=ring viewBox=\"0 0 120 120\" role=img \
             aria-label=\"score {score} of 100\"><circle cx=60 cy=60 r=50 /><circle class=score cx=60 cy=60 r=50 \
             stroke-dasharray=\"{:.1} {RING}\" transform=\"rotate(-90 60 60)\"/><text x=60 y=66>{score}</text>\
             <text class=of x=60 y=84>of 100</text></svg><div><h1>{}</h1><ul>",
            status.as_str(),
            f64::from(score) / 100.0 * RING,
            Escaped(&self.admin.headline(&self.verdict)),
        )?;
        for reason in &self.verdict.reasons {
            write!(f, "<li><b>−{}</b>{} ", reason.points, Escaped(&reason.text))?;
            let since = OffsetDateTime::from(reason.since);
            write!(
                f,
                "<small>since {:02}:{:02}:{:02}</small></li>",
                since.hour(),
                since.minute(),
                since.second()
            )?;
        }
        if self.admin.terms().sources.health.ready().is_ok() {
            f.write_str("<li class=ok><b>ok</b>Ready for traffic</li>")?;
        }
        f.write_str("</ul></div>")?;
        self.tiles(f)?;
        f.write_str("</section>")
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one hour")]
    fn tiles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests: u64 = self.routes.iter().map(|route| route.summary.count).sum();
        let errors: u64 = self.routes.iter().map(|route| route.errors_5xx).sum();
        let seconds = self.admin.telemetry.covered(self.window, self.now).as_secs_f64().max(1.0);
        let plain = self.admin.telemetry.overall(self.window, self.now);
        let hits = self.cache.hits();
        let all = hits + self.cache.misses() + self.cache.bypass;
        let fault = if errors > 0 { " class=fault" } else { "" };
        write!(
            f,
            "<dl class=tiles><div><dt>requests</dt><dd>{:.1} <small>/s</small></dd></div>",
            requests as f64 / seconds
        )?;
        if requests == 0 {
            return f.write_str(
                "<div><dt>5xx</dt><dd>–</dd></div><div><dt>P95, streams excluded</dt><dd>–</dd></div>\
                 <div><dt>without the backend</dt><dd>–</dd></div></dl>",
            );
        }
        write!(f, "<div><dt>5xx</dt><dd{fault}>{:.2}%</dd></div>", percent(errors, requests))?;
        f.write_str("<div><dt>P95, streams excluded</dt><dd>")?;
        match plain.count {
            0 => f.write_str("–")?,
            _ => write!(f, "{}", Latency(plain.p95_ms()))?,
        }
        write!(
            f,
            "</dd></div><div><dt>without the backend</dt><dd>{:.1}%</dd></div></dl>",
            percent(hits, all)
        )
    }

    fn routes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<section><h2>Routes <small>last {}, by rate; a row over its limit is marked</small></h2>",
            self.window.as_str()
        )?;
        if self.routes.is_empty() {
            return f.write_str("<p class=mute>Waiting for the first request in this window.</p></section>");
        }
        f.write_str(
            "<div class=scroll><table><thead><tr><th>Route<th class=n>Requests<th class=n>Rate /s<th class=n>5xx\
             <th class=n>P50<th class=n>P95<th class=n>P99<th class=n>Limit<th>Cache</tr></thead><tbody>",
        )?;
        for route in self.routes.iter().take(ROUTES) {
            self.route(f, route)?;
        }
        f.write_str("</tbody></table></div>")?;
        let more = self.routes.len().saturating_sub(ROUTES);
        if more > 0 {
            write!(
                f,
                "<p class=mute>{more} more in <a href=\"performance/metrics\">/performance/metrics</a></p>"
            )?;
        }
        f.write_str("</section>")
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one hour")]
    fn route(&self, f: &mut fmt::Formatter<'_>, route: &RouteWindow) -> fmt::Result {
        let summary = &route.summary;
        let seconds = self.admin.telemetry.covered(self.window, self.now).as_secs_f64().max(1.0);
        let is_over = summary.p95_us > f64::from(route.limit_us);
        let class = match (is_over, route.method) {
            (true, _) => " class=over",
            (false, None) => " class=rest",
            (false, Some(_)) => "",
        };
        let method = route.method.map_or("–", Method::as_str);
        write!(f, "<tr{class}><td class=route><span class=method>{method}</span>")?;
        write!(f, "<code>{}</code>", Template(route.route.template()))?;
        if route.basis == Basis::FirstByte {
            write!(f, " <small>{}, first byte</small>", route.kind.as_str())?;
        }
        if is_over {
            f.write_str(" <small>over its limit</small>")?;
        }
        write!(
            f,
            "<td class=n data-name=requests>{}<td class=n data-name=\"per s\">{:.2}<td class=\"n{}\" data-name=5xx>{:.2}%",
            summary.count,
            summary.count as f64 / seconds,
            if route.errors_5xx > 0 { " fault" } else { "" },
            percent(route.errors_5xx, summary.count),
        )?;
        // Of fewer than 5 samples only the largest says anything, and of fewer than 20 the P99 is the largest.
        let (p50, p95, p99) = match summary.count {
            0..5 => (None, Some(summary.max_ms()), None),
            5..20 => (Some(summary.p50_ms()), Some(summary.p95_ms()), None),
            _ => (Some(summary.p50_ms()), Some(summary.p95_ms()), Some(summary.p99_ms())),
        };
        for (name, value, class) in [("P50", p50, "n"), ("P95", p95, "n p95"), ("P99", p99, "n")] {
            write!(f, "<td class=\"{class}\" data-name={name}>")?;
            match value {
                Some(ms) => write!(f, "{}", Latency(ms))?,
                None => f.write_str("–")?,
            }
        }
        write!(f, "<td class=n data-name=limit>{}<td>", Latency(f64::from(route.limit_us) / 1000.0))?;
        self.route_cache(f, route)?;
        f.write_str("</tr>")
    }

    /// A bar with the hit rate, or a word why there is none.
    fn route_cache(&self, f: &mut fmt::Formatter<'_>, route: &RouteWindow) -> fmt::Result {
        let known = self.cache.by_route.iter().find(|known| known.route.template() == route.route.template());
        let rate = known.and_then(RouteCache::hit_rate_percent);
        let word = match (route.method, route.basis, rate) {
            (Some(Method::Get | Method::Head), _, Some(rate)) => {
                return write!(
                    f,
                    "<svg class=bar viewBox=\"0 0 100 8\" preserveAspectRatio=none aria-hidden=true>\
                     <rect width=100 height=8 /><rect class=hits width={rate:.1} height=8 /></svg>{rate:.1}%"
                );
            }
            (_, Basis::FirstByte, _) => "stream",
            (Some(Method::Get | Method::Head), _, None) => "not cached",
            (None, _, _) => "no route",
            (Some(_), _, _) => "write",
        };
        write!(f, "<span class=why>{word}</span>")
    }

    fn cache(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(sizes) = self.admin.telemetry.cache_sizes() else { return Ok(()) };
        write!(
            f,
            "<section><h2>Cache <small>last {}, target {}%</small></h2><dl class=facts>",
            self.window.as_str(),
            self.admin.terms().cache_hit_target
        )?;
        match self.cache.hit_rate_percent() {
            Some(rate) => write!(f, "<div><dt>hit rate</dt><dd>{rate:.1}%</dd></div>")?,
            None => f.write_str("<div><dt>hit rate</dt><dd>–</dd></div>")?,
        }
        let mut fact =
            |name: &str, value: &dyn fmt::Display| write!(f, "<div><dt>{name}</dt><dd>{value}</dd></div>");
        fact("hits", &self.cache.hits())?;
        fact("misses", &self.cache.misses())?;
        fact("not looked up", &self.cache.bypass)?;
        fact("entries in memory", &sizes.entries)?;
        fact(
            "MiB of memory used",
            &format_args!("{} of {}", mebibytes(sizes.bytes), mebibytes(sizes.bytes_max)),
        )?;
        fact("evictions since start", &sizes.evictions)?;
        f.write_str("</dl></section>")
    }

    fn slow(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slow = self.admin.telemetry.slow_requests();
        if slow.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "<section><h2>Slow requests <small>the last {} of {} kept</small></h2><div class=scroll><table><thead><tr>\
             <th>Time<th>What<th class=n>Total<th class=n>Status<th>Trace</tr></thead><tbody>",
            slow.len().min(SLOW),
            slow.len()
        )?;
        for request in slow.iter().take(SLOW) {
            let at = OffsetDateTime::from(request.at);
            write!(
                f,
                "<tr><td>{:02}:{:02}:{:02}<td class=route>{}<td class=\"n p95\">{}<td class=n data-name=status>{}\
                 <td data-name=trace><code>{}</code></tr>",
                at.hour(),
                at.minute(),
                at.second(),
                Escaped(&request.sentence()),
                Latency(f64::from(request.breakdown.total_us()) / 1000.0),
                request.status,
                request.trace,
            )?;
        }
        f.write_str("</tbody></table></div></section>")
    }

    fn links(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<footer><span class=mute>More:</span>")?;
        let paths = [
            "performance/metrics",
            "performance/health",
            "performance/cache/stats",
            "health",
            "metrics",
            "livez",
            "readyz",
        ];
        for path in paths {
            write!(f, "<a href=\"{path}\"><code>/{path}</code></a>")?;
        }
        write!(
            f,
            "<span class=mute>touchline {}</span></footer>",
            Escaped(self.admin.telemetry.facts().version)
        )
    }
}

fn uptime(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} m {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} m"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes of memory")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1_048_576.0)
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ if character.is_control() => f.write_char('\u{fffd}')?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Template<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((before, from)) = rest.split_once('{') {
            let (name, after) = from.split_once('}').unwrap_or((from, ""));
            write!(f, "{}<em>{{{}}}</em>", Escaped(before), Escaped(name))?;
            rest = after;
        }
        Escaped(rest).fmt(f)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms >= 1000.0 => write!(f, "{:.2} s", ms / 1000.0),
            ms if ms >= 10.0 => write!(f, "{ms:.0} ms"),
            ms if ms >= 1.0 => write!(f, "{ms:.1} ms"),
            ms => write!(f, "{ms:.2} ms"),
        }
    }
}

#[cfg(test)]
mod tests;
