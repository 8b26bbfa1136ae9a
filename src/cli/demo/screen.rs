//! What the demo writes: the page at the start, the line that keeps changing, the line at the end. Values in, text out.

use std::{net::SocketAddr, time::Duration};

use super::figures::Figures;

/// Where the text goes and what it may contain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// A person watches: the status line is refreshed in place.
    pub(crate) interactive: bool,
    /// Escape sequences for colours are welcome.
    pub(crate) colour: bool,
}

impl Terminal {
    /// Colours need a terminal that is not dumb, and `NO_COLOR` unset or empty (no-color.org).
    pub(crate) fn of(interactive: bool, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let refused = env("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env("TERM").is_none_or(|value| value == "dumb");
        Self { interactive, colour: interactive && !refused && !dumb }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn soft(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn command(self, text: &str) -> String {
        self.paint("36", text)
    }
}

/// The addresses that the demo really listens on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) ingress: SocketAddr,
    pub(super) backend: SocketAddr,
    pub(super) claude: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) control: SocketAddr,
}

/// The page at the start.
pub(super) fn welcome(addresses: &Addresses, users: usize, terminal: Terminal) -> String {
    let Addresses { ingress, backend, claude, admin, control } = addresses;
    let traffic = match users {
        0 => "Nobody is asking anything yet: the traffic is yours.".to_owned(),
        users => format!("{users} pretended users send about three requests a second."),
    };
    let title = terminal.strong("touchline demo");
    let row = |name: &str, url: String| format!("    {name:<18}{}\n", terminal.strong(&url));
    let addresses = [
        row("through touchline", format!("http://{ingress}")),
        row("the backend alone", format!("http://{backend}")),
        row("calls to Claude", format!("http://{claude}")),
        row("what they cost", format!("http://{admin}/performance/claude")),
        row("see everything", format!("http://{admin}/")),
        row("what it measured", format!("http://{admin}/performance/metrics")),
        row("cache statistics", format!("http://{admin}/performance/cache/stats")),
        row("for Prometheus", format!("http://{admin}/metrics")),
        row("empty the cache", format!("curl -X POST http://{control}/performance/cache/clear")),
    ]
    .concat();
    let tries = [
        attempt(
            terminal,
            &format!("curl -i http://{ingress}/api/user/reputation/you"),
            "twice: X-Cache-Status is miss after 100 to 180 ms, then hit in less than one",
        ),
        attempt(
            terminal,
            &format!("curl -i -H 'Authorization: Bearer me' http://{ingress}/api/session/s1"),
            "X-Cache-Status is bypass, and Cache-Status says why: detail=authorization",
        ),
        attempt(
            terminal,
            &format!("curl -iN http://{ingress}/coach/chat/stream -d '{{\"message\":\"I am nervous\"}}'"),
            "each word comes as the backend writes it; X-Response-Time is the time to the head",
        ),
        attempt(
            terminal,
            &format!("curl http://{ingress}/coach/chat -d '{{\"message\":\"hi!\"}}'"),
            "the backend asks Claude for a Sonnet; `model` says which one was enough for that",
        ),
    ]
    .concat();
    let end = terminal.soft("  Ctrl-C stops everything.");
    format!(
        "\n  {title}\n\n  A coaching backend that takes its time, and touchline in front of it.\n  {traffic}\n\n\
         {addresses}\n  Try in a second terminal:\n\n{tries}{end}\n\n"
    )
}

fn attempt(terminal: Terminal, command: &str, expectation: &str) -> String {
    format!("    {}\n        {}\n\n", terminal.command(command), terminal.soft(expectation))
}

/// The line that keeps changing, below 80 columns so that it does not wrap in an ordinary terminal.
pub(super) fn status(figures: &Figures, terminal: Terminal) -> String {
    let latencies = match (figures.hit_p95, figures.miss_p95) {
        (Some(hit), Some(miss)) => {
            format!("   P95 {} hit, {} miss", terminal.good(&milliseconds(hit)), milliseconds(miss))
        }
        _ => String::new(),
    };
    format!(
        "  {} requests   {} hits{latencies}   {} saved",
        thousands(figures.requests),
        terminal.good(&rate(figures)),
        terminal.good(&span(figures.saved)),
    )
}

/// The line at the end.
pub(super) fn farewell(figures: &Figures) -> String {
    format!(
        "  Stopped after {} requests. {} of the lookups were hits, which saved the backend {} of work.\n",
        thousands(figures.requests),
        rate(figures),
        span(figures.saved),
    )
}

/// Hits of all lookups; a dash while there are none, because nothing is not 0 %.
fn rate(figures: &Figures) -> String {
    let lookups = figures.hits + figures.misses;
    match (figures.hits * 1_000).checked_div(lookups) {
        Some(permille) => format!("{}.{} %", permille / 10, permille % 10),
        None => "-".to_owned(),
    }
}

fn milliseconds(latency: Duration) -> String {
    let milliseconds = latency.as_secs_f64() * 1_000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.2} ms") } else { format!("{milliseconds:.0} ms") }
}

/// In the unit that keeps the number short.
fn span(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 120.0 => format!("{seconds:.1} s"),
        seconds if seconds < 7_200.0 => format!("{:.1} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3_600.0),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Addresses, Figures, Terminal, farewell, rate, span, status, thousands, welcome};

    const PLAIN: Terminal = Terminal { interactive: true, colour: false };

    fn addresses() -> Addresses {
        let address = |port: u16| ([127, 0, 0, 1], port).into();
        Addresses {
            ingress: address(8080),
            backend: address(8000),
            claude: address(8081),
            admin: address(9090),
            control: address(9091),
        }
    }

    fn figures() -> Figures {
        Figures {
            requests: 123_456,
            hits: 113_000,
            misses: 7_000,
            hit_p95: Some(Duration::from_micros(412)),
            miss_p95: Some(Duration::from_millis(176)),
            saved: Duration::from_secs(15_123),
        }
    }

    #[test]
    fn the_page_fits_a_terminal_and_names_every_address() {
        let page = welcome(&addresses(), 6, PLAIN);

        assert!(page.lines().all(|line| line.chars().count() <= 90), "{page}");
        assert!(page.is_ascii());
        for port in ["8080", "8000", "8081", "9090", "9091"] {
            assert!(page.contains(port), "{page}");
        }
        assert_eq!(page.matches("    curl ").count(), 4);
    }

    #[test]
    fn the_status_line_does_not_wrap() {
        let line = status(&figures(), PLAIN);

        assert_eq!(line, "  123,456 requests   94.1 % hits   P95 0.41 ms hit, 176 ms miss   4.2 h saved");
        assert!(line.len() < 80);
        assert_eq!(status(&Figures::default(), PLAIN), "  0 requests   - hits   0.0 s saved");
    }

    #[test]
    fn colours_only_frame_the_same_words() {
        let coloured = Terminal { interactive: true, colour: true };
        let mut text = welcome(&addresses(), 6, coloured) + &status(&figures(), coloured);
        for code in ["0", "1", "2", "32", "36"] {
            text = text.replace(&format!("\x1b[{code}m"), "");
        }

        assert_eq!(text, welcome(&addresses(), 6, PLAIN) + &status(&figures(), PLAIN));
    }

    #[test]
    fn colours_need_a_terminal_that_wants_them() {
        let cases = [
            (true, None, Some("xterm"), true),
            (false, None, Some("xterm"), false),
            (true, Some("1"), Some("xterm"), false),
            (true, Some(""), Some("xterm"), true),
            (true, None, Some("dumb"), false),
            (true, None, None, false),
        ];

        for (interactive, no_color, term, expected) in cases {
            let env = |name: &str| match name {
                "NO_COLOR" => no_color.map(str::to_owned),
                "TERM" => term.map(str::to_owned),
                _ => None,
            };

            assert_eq!(
                Terminal::of(interactive, &env).colour,
                expected,
                "{interactive} {no_color:?} {term:?}"
            );
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(rate(&Figures::default()), "-");
        assert_eq!(span(Duration::from_millis(84_240)), "84.2 s");
        assert_eq!(span(Duration::from_secs(150)), "2.5 min");
        assert!(farewell(&figures()).contains("94.1 %"));
    }
}
