//! `touchline demo`: a slow coaching backend, touchline in front of it, a little traffic, and a screen that says what
//! to look at. Everything runs in this process and ends with it; nothing is written to disk.
//!
//! The proxy is started like any other, from a configuration (`demo.yaml`) in which only the addresses
//! are filled in. The backend, the traffic and the screen share one runtime of their own beside it.

mod answers;
mod backend;
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
    figures::{Figures, Observed},
    screen::Addresses,
    traffic::USERS,
};
use super::client::{Call, Client};
use crate::{
    app::{App, Running},
    config::{self, Loaded, Problems, Underscores},
    net::{
        drain::{Drain, Phase},
        h1,
        listener::{self, Gate},
        serve::{self, Serving},
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

/// How often the status line is written anew.
const REFRESH: Duration = Duration::from_secs(2);

/// How long the backend and the users may take to end after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows touchline in front of a pretended coaching backend.
#[derive(Debug, clap::Args)]
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
    let socket =
        bind_backend(ports::preferred(BACKEND_PORT)).context("listening for the pretended backend")?;
    let backend = socket.local_addr().context("asking for the address of the pretended backend")?;
    let ingress = match arguments.port {
        Some(port) => ports::demanded(port)?,
        None => ports::preferred(INGRESS_PORT),
    };
    let proxy = start_proxy(ingress, backend)?;
    let addresses = Addresses {
        ingress: bound(proxy.ingress())?,
        backend,
        admin: bound(proxy.admin())?,
        control: bound(proxy.control())?,
    };

    let show = Show { addresses, terminal, users: if arguments.no_traffic { &[] } else { &USERS } };
    let result = show.run(&runtime, socket, out);
    let stopped = proxy.stop().context("stopping the proxy of the demo");
    result.and(stopped)
}

fn bind_backend(address: SocketAddr) -> std::io::Result<TcpListener> {
    let mut sockets = listener::bind(address, 1)?;
    sockets.pop().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
}

/// Starts the proxy from the demo's own configuration.
fn start_proxy(ingress: SocketAddr, backend: SocketAddr) -> anyhow::Result<Running> {
    let (admin, control) = (ports::preferred(ADMIN_PORT), ports::preferred(CONTROL_PORT));
    let loaded = load(ingress, backend, admin, control)
        .map_err(|problems| anyhow!("loading the configuration of the demo: {problems}"))?;
    App::start(loaded, None).context("starting the proxy of the demo")
}

fn load(
    ingress: SocketAddr,
    backend: SocketAddr,
    admin: SocketAddr,
    control: SocketAddr,
) -> Result<Loaded, Problems> {
    let values = |name: &str| {
        let address = match name {
            "INGRESS" => ingress,
            "BACKEND" => backend,
            "ADMIN" => admin,
            "CONTROL" => control,
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
    fn run(&self, runtime: &Runtime, socket: TcpListener, out: &mut dyn Write) -> anyhow::Result<()> {
        let backend = Arc::new(Backend::new(seed()));
        let observed = Arc::new(Observed::default());
        runtime.block_on(async {
            let drain = Drain::new();
            let limits = config::Limits::default();
            let serving = Serving {
                service: Arc::clone(&backend),
                gate: Gate::new(limits.connections, 0, Arc::new(ListenerStats::default())),
                limits: Arc::new(h1::Limits::downstream(&limits, Underscores::Forward)),
                http2: None,
                buffers: Arc::default(),
                drain: drain.clone(),
            };
            serve::spawn(socket, serving).context("serving the pretended backend")?;
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
    use super::{load, ports};

    #[test]
    fn the_configuration_of_the_demo_is_valid_also_when_every_port_is_chosen_by_the_system() {
        let any = "127.0.0.1:0".parse().unwrap();
        let backend = "127.0.0.1:8000".parse().unwrap();

        for (ingress, admin, control) in [(any, any, any), (ports::preferred(1), any, any)] {
            let loaded =
                load(ingress, backend, admin, control).unwrap_or_else(|problems| panic!("{problems}"));

            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
            assert_eq!(loaded.config.ingress.unwrap().backend.to_string(), "http://127.0.0.1:8000");
        }
    }
}
