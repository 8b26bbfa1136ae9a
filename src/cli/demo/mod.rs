//! `touchline demo`: a slow coaching backend, touchline in front of it, a little traffic, and a screen that says what
//! to look at. Everything runs in this process and ends with it; nothing is written to disk.
//!
//! The proxy is started like any other, from a configuration (`demo.yaml`) in which only the addresses
//! are filled in. The backend, the traffic and the screen share one runtime of their own beside it.

mod answers;
mod backend;
mod claude;
mod dice;
mod figures;
mod ports;
mod screen;
mod traffic;
mod words;

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow};
use tokio::{
    runtime::Runtime,
    time::{MissedTickBehavior, interval, timeout},
};

use self::{
    backend::Backend,
    claude::Claude,
    figures::{Figures, Observed},
    screen::Addresses,
    traffic::USERS,
};
use super::client::{Call, Client};
use crate::{
    app::{App, Running, Surroundings},
    config::{self, Loaded, Problems, Underscores},
    net::{
        Service,
        drain::{Drain, Phase},
        h1,
        listener::{self, Gate},
        serve::{self, Serving, Terms},
        signal::Signals,
    },
    telemetry::ListenerStats,
};

pub(crate) use self::screen::Terminal;

const CONFIG: &str = include_str!("demo.yaml");

const INGRESS_PORT: u16 = 8080;
const BACKEND_PORT: u16 = 8000;
const ADMIN_PORT: u16 = 9090;
const CONTROL_PORT: u16 = 9091;
const CLAUDE_PORT: u16 = 8081;
/// Where the pretended Claude API listens; nobody but the proxy has to know.
const API_PORT: u16 = 8001;

/// How often the status line is written anew.
const REFRESH: Duration = Duration::from_secs(2);

/// How long the backend and the users may take to end after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows touchline in front of a pretended coaching backend.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  touchline demo
  touchline demo --no-traffic --port 18080       all requests are yours")]
pub(crate) struct Arguments {
    /// Start no pretended users; all requests are yours.
    #[arg(long)]
    no_traffic: bool,
    /// Listen on this port (default: 8080, or any free port when it is taken).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// Runs the demo until Ctrl-C or SIGTERM.
pub(crate) fn run(arguments: &Arguments, terminal: Terminal, out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime of the demo")?;
    let sockets = Sockets {
        backend: bind(ports::preferred(BACKEND_PORT)).context("listening for the pretended backend")?,
        api: bind(ports::preferred(API_PORT)).context("listening for the pretended Claude API")?,
    };
    let backend = sockets.backend.local_addr().context("asking for the address of the pretended backend")?;
    let api = sockets.api.local_addr().context("asking for the address of the pretended Claude API")?;
    let ingress = match arguments.port {
        Some(port) => ports::demanded(port)?,
        None => ports::preferred(INGRESS_PORT),
    };
    let proxy = start_proxy(&Plan {
        ingress,
        backend,
        claude: ports::preferred(CLAUDE_PORT),
        api,
        admin: ports::preferred(ADMIN_PORT),
        control: ports::preferred(CONTROL_PORT),
    })?;
    let addresses = Addresses {
        ingress: bound(proxy.ingress())?,
        backend,
        claude: bound(proxy.claude())?,
        admin: bound(proxy.admin())?,
        control: bound(proxy.control())?,
    };

    let show = Show { addresses, terminal, users: if arguments.no_traffic { &[] } else { &USERS } };
    let result = show.run(&runtime, sockets, out);
    let stopped = proxy.stop().context("stopping the proxy of the demo");
    result.and(stopped)
}

/// The sockets of what the demo pretends.
struct Sockets {
    backend: TcpListener,
    api: TcpListener,
}

/// The addresses that the demo's configuration is filled with.
struct Plan {
    ingress: SocketAddr,
    backend: SocketAddr,
    claude: SocketAddr,
    api: SocketAddr,
    admin: SocketAddr,
    control: SocketAddr,
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let mut sockets = listener::bind(address, 1)?;
    sockets.pop().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
}

/// Starts the proxy from the demo's own configuration.
fn start_proxy(plan: &Plan) -> anyhow::Result<Running> {
    let loaded =
        load(plan).map_err(|problems| anyhow!("loading the configuration of the demo: {problems}"))?;
    App::start(loaded, Surroundings::default()).context("starting the proxy of the demo")
}

fn load(plan: &Plan) -> Result<Loaded, Problems> {
    let values = |name: &str| {
        let address = match name {
            "INGRESS" => plan.ingress,
            "BACKEND" => plan.backend,
            "CLAUDE" => plan.claude,
            "API" => plan.api,
            "ADMIN" => plan.admin,
            "CONTROL" => plan.control,
            _ => return None,
        };
        Some(address.to_string())
    };
    config::load_str("demo.yaml", CONFIG, &values)
}

fn bound(address: Option<SocketAddr>) -> anyhow::Result<SocketAddr> {
    address.context("the demo's configuration starts every listener")
}

/// What runs beside the proxy.
struct Show {
    addresses: Addresses,
    terminal: Terminal,
    users: &'static [&'static str],
}

impl Show {
    fn run(&self, runtime: &Runtime, sockets: Sockets, out: &mut dyn Write) -> anyhow::Result<()> {
        let backend = Arc::new(Backend::new(seed()).asking(self.addresses.claude));
        let claude = Arc::new(Claude::new(seed()));
        let observed = Arc::new(Observed::default());
        runtime.block_on(async {
            let drain = Drain::new();
            pretended(sockets.backend, Arc::clone(&backend), &drain)
                .context("serving the pretended backend")?;
            pretended(sockets.api, claude, &drain).context("serving the pretended Claude API")?;
            for user in self.users {
                let asking = traffic::pretend(user, self.addresses.ingress, Arc::clone(&observed));
                let leaving = drain.reached(Phase::Draining);
                drain.spawn(async move {
                    tokio::select! {
                        () = leaving => {}
                        () = asking => {}
                    }
                });
            }
            let result = self.watch(&backend, &observed, out).await;
            drain.advance(Phase::Closing);
            // Whatever is still alive then ends with the runtime; nothing in the demo is worth more patience.
            let _ = timeout(PATIENCE, drain.finished()).await;
            result
        })
    }

    /// Writes the screen, and the status line if somebody watches, until a signal comes.
    async fn watch(
        &self,
        backend: &Arc<Backend>,
        observed: &Observed,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let mut signals = Signals::listen().context("waiting for Ctrl-C")?;
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut admin = Client::new(self.addresses.admin);
        let mut figures = Figures::default();
        let mut width = 0;

        write!(out, "{}", screen::welcome(&self.addresses, self.users.len(), self.terminal))?;
        out.flush()?;
        loop {
            tokio::select! {
                _ = signals.next() => break,
                _ = refresh.tick() => {}
            }
            figures = read_figures(&mut admin, backend, observed).await.unwrap_or(figures);
            if self.terminal.interactive {
                let line = screen::status(&figures, self.terminal);
                write!(out, "\r{line:<width$}")?;
                out.flush()?;
                width = line.chars().count();
            }
        }
        figures = read_figures(&mut admin, backend, observed).await.unwrap_or(figures);
        if self.terminal.interactive {
            writeln!(out, "\n")?;
        }
        write!(out, "{}", screen::farewell(&figures))?;
        out.flush()?;
        Ok(())
    }
}

/// Serves what the demo pretends, in the runtime beside the proxy.
fn pretended<S: Service>(socket: TcpListener, service: Arc<S>, drain: &Drain) -> std::io::Result<()> {
    let limits = config::Limits::default();
    let serving = Serving {
        service,
        gate: Gate::new(limits.connections, 0, Arc::new(ListenerStats::default())),
        terms: Terms::shared(Arc::new(h1::Limits::downstream(&limits, Underscores::Forward)), None),
        buffers: Arc::default(),
        drain: drain.clone(),
    };
    serve::spawn(socket, serving)
}

/// Asks the proxy for its own statistics. `None` when it does not answer: the last figures then stay.
async fn read_figures(admin: &mut Client, backend: &Arc<Backend>, observed: &Observed) -> Option<Figures> {
    let reply = admin.send(&Call::get("/performance/cache/stats")).await.ok()?;
    if reply.status != 200 {
        return None;
    }
    let statistics = serde_json::from_slice(&reply.body).ok()?;
    Some(figures::combine(&statistics, observed, backend))
}

/// Differs from run to run, so that latencies are not the same each time.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Plan, load, ports};

    #[test]
    fn the_configuration_of_the_demo_is_valid_also_when_every_port_is_chosen_by_the_system() {
        let any = "127.0.0.1:0".parse().unwrap();
        let backend = "127.0.0.1:8000".parse().unwrap();

        for ingress in [any, ports::preferred(1)] {
            let plan = Plan { ingress, backend, claude: any, api: backend, admin: any, control: any };
            let loaded = load(&plan).unwrap_or_else(|problems| panic!("{problems}"));

            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
            assert_eq!(loaded.config.ingress.unwrap().backend.to_string(), "http://127.0.0.1:8000");
        }
    }
}
