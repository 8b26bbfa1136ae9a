//! `touchline top`: a screen that lives. Three things go on beside one another: states come, the open route is asked
//! for, and keys and time change what is shown. A stream that is lost is opened again, for as long as somebody watches.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use crossterm::event::Event as Input;
use serde::Deserialize as _;
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Window, detail, ended,
    endpoint::{Endpoint, Source, encoded},
    figures::Glyphs,
    frame,
    routes::Sort,
    screen::{self, Screen},
    snapshot::{Detail, Snapshot},
    state::{Link, Pressed, View, Wanted},
    stream::{self, Events},
};
use crate::{cli::demo::Terminal, net::signal::Signals};

/// How long the first state may take.
const FIRST: Duration = Duration::from_secs(10);

/// A state comes each second; without one for so long, what is shown is called old.
const STALE: Duration = Duration::from_secs(5);

/// The first and the longest pause before a lost stream is opened again.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// How often the open route is asked for.
const DETAIL: Duration = Duration::from_secs(2);

/// News that may wait while the terminal does not take more.
const MAX_NEWS: usize = 8;

/// Columns where nothing says how many there are.
const COLUMNS: usize = 120;

/// Arguments of `touchline top`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline top                                  the touchline of this host
  kubectl port-forward pod/coach-api-7d9f8 9090  and then, in a second terminal:
  touchline top --admin 127.0.0.1:9090
  touchline top --admin 10.1.2.3:9090 --sort p95 --filter /coach --window 1m
  touchline top | head -20                       one frame, as text

Exit codes: 0, or 2 if it cannot be asked.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// How far back rates and percentiles look
    #[arg(short, long, value_enum, value_name = "TIME", default_value = "5m")]
    window: Window,
    /// All pods as one, where the listener knows the others
    #[arg(long)]
    merged: bool,
    /// What routes are sorted by
    #[arg(short, long, value_enum, value_name = "COLUMN", default_value = "rate")]
    sort: Sort,
    /// Only routes whose method and path have this text in them
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// Print one frame and end, as it does where standard output is no terminal
    #[arg(long)]
    once: bool,
}

/// What has come in.
enum News {
    State(Box<Snapshot>),
    Lost(String),
    Detail(String, detail::State),
}

/// A route that is open, and what of it is wanted.
type Opened = Option<(String, Wanted)>;

/// Shows it until somebody presses `q`.
pub(crate) fn top(
    arguments: &Arguments,
    terminal: Terminal,
    env: &dyn Fn(&str) -> Option<String>,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> ExitCode {
    let is_dumb = env("TERM").is_none_or(|value| value.is_empty() || value == "dumb");
    let result = arguments.source.endpoint(env).and_then(|endpoint| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let wanted = Wanted { window: arguments.window, is_merged: arguments.merged };
        let mut view = View::new(wanted, arguments.sort, Glyphs::of(env));
        view.filter.clone_from(&arguments.filter);
        if terminal.interactive && !is_dumb && !arguments.once {
            runtime.block_on(live(&endpoint, view, terminal.colour))?;
        } else {
            let columns =
                env("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
            let columns = if terminal.interactive { Screen::size().0 } else { columns.unwrap_or(COLUMNS) };
            runtime.block_on(once(&endpoint, view, (columns, terminal.colour), out))?;
        }
        Ok(ExitCode::SUCCESS)
    });
    ended(result, err)
}

async fn once(
    endpoint: &Endpoint,
    mut view: View,
    (columns, has_colour): (usize, bool),
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    view.snapshot = asked(endpoint, view.wanted()).await?.0;
    view.link = Link::Once;
    for line in frame::frame(&view, columns, None) {
        writeln!(out, "{}", line.ansi(has_colour))?;
    }
    Ok(out.flush()?)
}

/// The state of this moment, taken apart and as it came.
pub(super) async fn asked(
    endpoint: &Endpoint,
    wanted: Wanted,
) -> anyhow::Result<(Snapshot, Map<String, Value>)> {
    let (members, _) = stream::object(endpoint, &format!("/api/v1/snapshot?{}", wanted.query())).await?;
    if !Snapshot::is_one(&members) {
        bail!("{} answers, but not as the admin listener of a touchline", endpoint.address);
    }
    Ok((Snapshot::read(&members), members))
}

async fn live(endpoint: &Endpoint, mut view: View, has_colour: bool) -> anyhow::Result<()> {
    // Before the terminal is taken: who cannot be asked is told on a line.
    let mut states = States::open(endpoint, view.wanted()).await?;
    let first = timeout(FIRST, states.next()).await;
    let first =
        first.with_context(|| format!("{} sends no state within {} s", endpoint.address, FIRST.as_secs()))?;
    view.snapshot = first?;
    let mut signals = Signals::listen().context("listening for signals")?;
    let (news_tx, news) = mpsc::channel(MAX_NEWS);
    let (wanted_tx, wanted) = watch::channel(view.wanted());
    let (opened_tx, opened) = watch::channel(None);
    let mut show = Show { view, screen: Screen::enter()?, wanted: wanted_tx, opened: opened_tx, has_colour };
    let inputs = screen::events().context("reading keys")?;
    tokio::select! {
        result = show.run(news, inputs, &mut signals) => result,
        () = follow(endpoint, states, wanted, news_tx.clone()) => Ok(()),
        () = ask_details(endpoint, opened, news_tx) => Ok(()),
    }
}

/// A stream of states.
struct States {
    events: Events,
    members: Map<String, Value>,
}

impl States {
    async fn open(endpoint: &Endpoint, wanted: Wanted) -> anyhow::Result<Self> {
        let events = Events::open(endpoint, &format!("/api/v1/events?{}", wanted.query())).await?;
        Ok(Self { events, members: Map::new() })
    }

    /// The next state. May be dropped at any await.
    async fn next(&mut self) -> anyhow::Result<Snapshot> {
        loop {
            let Some(event) = self.events.next().await? else { bail!("the stream has ended") };
            let Ok(Value::Object(sections)) = serde_json::from_str(&event.data) else { continue };
            match event.name.as_str() {
                "snapshot" => self.members = sections,
                // A change says nothing by itself.
                "change" if !self.members.is_empty() => self.members.extend(sections),
                _ => continue,
            }
            if Snapshot::is_one(&self.members) {
                return Ok(Snapshot::read(&self.members));
            }
        }
    }
}

/// Hands on states, from the stream that is open and from those that follow it.
async fn follow(
    endpoint: &Endpoint,
    states: States,
    mut wanted: watch::Receiver<Wanted>,
    news: mpsc::Sender<News>,
) {
    let mut open = Some(states);
    let mut pause = RETRY;
    wanted.mark_unchanged();
    loop {
        let now = *wanted.borrow_and_update();
        let mut had_any = false;
        let lost = async {
            let mut states = match open.take() {
                Some(states) => states,
                None => States::open(endpoint, now).await?,
            };
            loop {
                let state = states.next().await?;
                had_any = true;
                if news.send(News::State(Box::new(state))).await.is_err() {
                    return anyhow::Ok(());
                }
            }
        };
        let lost = tokio::select! {
            result = lost => result,
            changed = wanted.changed() => if changed.is_ok() { continue } else { return },
        };
        let Err(error) = lost else { return };
        if news.send(News::Lost(format!("{error:#}"))).await.is_err() {
            return;
        }
        pause = if had_any { RETRY } else { (pause * 2).min(LONGEST_RETRY) };
        tokio::select! {
            () = sleep(pause) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Asks for the open route, again and again while it is open.
async fn ask_details(endpoint: &Endpoint, mut opened: watch::Receiver<Opened>, news: mpsc::Sender<News>) {
    loop {
        let now = opened.borrow_and_update().clone();
        let asking = async {
            let Some((key, wanted)) = now else { return std::future::pending().await };
            let target = format!("/api/v1/route?key={}&{}", encoded(&key), wanted.query());
            let state = match stream::object(endpoint, &target).await {
                Ok((members, _)) => match Detail::deserialize(Value::Object(members)) {
                    Ok(detail) => detail::State::Known(Box::new(detail)),
                    Err(_) => detail::State::Failed("the answer cannot be read by this version".to_owned()),
                },
                Err(error) => detail::State::Failed(format!("{error:#}")),
            };
            let _ = news.send(News::Detail(key, state)).await;
            sleep(DETAIL).await;
        };
        tokio::select! {
            () = asking => {}
            changed = opened.changed() => if changed.is_err() { return },
        }
    }
}

/// What is shown, and where.
struct Show {
    view: View,
    screen: Screen,
    wanted: watch::Sender<Wanted>,
    opened: watch::Sender<Opened>,
    has_colour: bool,
}

impl Show {
    async fn run(
        &mut self,
        mut news: mpsc::Receiver<News>,
        mut inputs: mpsc::Receiver<Input>,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            self.draw()?;
            tokio::select! {
                _ = signals.next() => return Ok(()),
                _ = ticks.tick() => {
                    if self.view.link == Link::Live && heard.elapsed() >= STALE {
                        let why = format!("nothing came for {} s", STALE.as_secs());
                        self.view.link = Link::Lost(why);
                    }
                }
                input = inputs.recv() => {
                    // Without a terminal that is read there is nobody to show anything to.
                    let Some(input) = input else { return Ok(()) };
                    if !self.take(&input) {
                        return Ok(());
                    }
                }
                new = news.recv() => match new {
                    None => return Ok(()),
                    Some(News::State(snapshot)) => {
                        heard = Instant::now();
                        (self.view.snapshot, self.view.link) = (*snapshot, Link::Live);
                    }
                    Some(News::Lost(why)) => self.view.link = Link::Lost(why),
                    Some(News::Detail(key, state)) => {
                        if let Some(drawer) = self.view.drawer.as_mut().filter(|drawer| drawer.key == key) {
                            drawer.state = state;
                        }
                    }
                },
            }
        }
    }

    /// Takes a key or a change of the size. Returns whether it goes on.
    fn take(&mut self, input: &Input) -> bool {
        match input {
            Input::Key(key) => {
                let pressed = self.view.press(*key);
                if pressed == Pressed::Wanted {
                    self.wanted.send_replace(self.view.wanted());
                }
                if matches!(pressed, Pressed::Wanted | Pressed::Opened) {
                    let opened = self.view.drawer.as_ref().map(|drawer| drawer.key.clone());
                    self.opened.send_replace(opened.map(|key| (key, self.view.wanted())));
                }
                pressed != Pressed::Quit
            }
            Input::Resize(..) => {
                self.screen.forget();
                true
            }
            _ => true,
        }
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        let size = Screen::size();
        let lines = frame::frame(&self.view, size.0, Some(size.1));
        let lines = lines.iter().map(|line| line.ansi(self.has_colour)).collect();
        Ok(self.screen.draw(lines, size)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::{mpsc, watch};

    use super::{News, States, ask_details, detail, follow};
    use crate::cli::live::{
        Window,
        endpoint::{Address, Endpoint},
        fixtures,
        state::Wanted,
        tests::served::{Server, document, events},
    };

    const WANTED: Wanted = Wanted { window: Window::Five, is_merged: false };

    fn endpoint(server: &Server) -> Endpoint {
        let address = Address { host: server.address.ip().to_string(), port: server.address.port() };
        Endpoint { address, token: None }
    }

    #[tokio::test]
    async fn a_change_replaces_the_sections_that_it_has() {
        let change =
            json!({"seq": 813, "at": "2026-11-23T14:05:54+00:00", "tiles": {"p95_ms": 7.0}, "redis": null});
        let server = Server::start(vec![events(
            &[
                ("change", &change),
                ("snapshot", &fixtures::state("busy")),
                ("later", &json!({})),
                ("change", &change),
            ],
            "...",
        )]);
        let mut states = States::open(&endpoint(&server), WANTED).await.unwrap();

        let first = states.next().await.unwrap();
        let second = states.next().await.unwrap();

        assert!(first.redis.is_some() && second.redis.is_none());
        assert_eq!((first.tiles.p95_ms, second.tiles.p95_ms), (Some(203.1), Some(7.0)));
        assert_eq!(second.at.as_deref(), Some("2026-11-23T14:05:54+00:00"));
        assert_eq!(first.routes.len(), second.routes.len());
    }

    #[tokio::test]
    async fn a_lost_stream_is_opened_again_and_another_window_is_asked_for_at_once() {
        let state = fixtures::state("busy");
        let server = Server::start(vec![
            events(&[("snapshot", &state)], ""),
            document(503, "application/json", r#"{"detail": "starting"}"#),
            events(&[("snapshot", &state)], "..."),
        ]);
        let endpoint = endpoint(&server);
        let states = States::open(&endpoint, WANTED).await.unwrap();
        let (wanted_tx, wanted) = watch::channel(WANTED);
        let (news_tx, mut news) = mpsc::channel(8);
        let watching = async {
            let mut heard = Vec::new();
            for _ in 0..4 {
                heard.push(match news.recv().await.unwrap() {
                    News::State(_) => "state".to_owned(),
                    News::Lost(why) => why,
                    News::Detail(..) => unreachable!(),
                });
            }
            wanted_tx.send_replace(Wanted { window: Window::Hour, is_merged: true });
            assert!(matches!(news.recv().await, Some(News::State(_))));
            heard
        };

        let heard = tokio::select! {
            () = follow(&endpoint, states, wanted, news_tx) => panic!("it gave up"),
            heard = watching => heard,
        };

        let place = server.address;
        assert_eq!(
            heard,
            [
                "state".to_owned(),
                "the connection was closed".into(),
                format!("{place} refuses with 503: starting"),
                "state".into()
            ]
        );
        let last = server.heads().pop().unwrap();
        assert!(last.starts_with("GET /api/v1/events?window=1h&scope=merged HTTP/1.1"), "{last}");
    }

    #[tokio::test]
    async fn the_open_route_is_asked_for_by_its_key() {
        let server = Server::start(vec![
            document(200, "application/json", &fixtures::detail().to_string()),
            document(404, "application/json", r#"{"detail": "no such route"}"#),
        ]);
        let endpoint = endpoint(&server);
        let (opened_tx, opened) = watch::channel(Some(("GET /a/{id}".to_owned(), WANTED)));
        let (news_tx, mut news) = mpsc::channel(8);
        let watching = async {
            let first = news.recv().await;
            opened_tx.send_replace(Some(("unmatched".to_owned(), WANTED)));
            (first, news.recv().await)
        };

        let (first, second) = tokio::select! {
            () = ask_details(&endpoint, opened, news_tx) => panic!("it gave up"),
            both = watching => both,
        };

        assert!(matches!(first, Some(News::Detail(key, detail::State::Known(_))) if key == "GET /a/{id}"));
        assert!(matches!(second, Some(News::Detail(key, detail::State::Failed(_))) if key == "unmatched"));
        let head = &server.heads()[0];
        assert!(
            head.starts_with("GET /api/v1/route?key=GET%20/a/%7Bid%7D&window=5m&scope=pod HTTP/1.1"),
            "{head}"
        );
    }
}
