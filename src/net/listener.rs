//! Listening sockets and the accept loop: bounds on connections, and patience when the process runs out of descriptors.

use std::{
    hash::Hash,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicIsize, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pingora_limits::inflight::{Guard, Inflight};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{info, warn};

use super::drain::{Drain, Phase};
use crate::telemetry::{Held, ListenerStats};

/// How many connections the kernel may hold for us before accept.
const BACKLOG: i32 = 4096;

/// How long accept rests when it fails for want of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// Opens one listening socket per worker on the same address. With port 0 the first one chooses the port for all.
///
/// The sockets share the address by `SO_REUSEPORT`, which would also let an unrelated process of the same user share it;
/// so the address is first tried without.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let probe = open(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..workers.max(1)).map(|_| open(address, true)).collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Bounds and counts the connections of one listener, over all its workers.
pub struct Gate {
    connections: AtomicUsize,
    per_ip: AtomicIsize,
    open: AtomicUsize,
    clients: Inflight,
    stats: Arc<ListenerStats>,
}

/// A connection's place; dropping it frees the place.
pub struct Place {
    gate: Arc<Gate>,
    _client: Option<Guard>,
    _counted: Option<Held>,
}

impl Gate {
    /// A gate for at most `connections` in all and `per_ip` from one address (0: no bound).
    #[must_use]
    pub fn new(connections: u32, per_ip: u32, stats: Arc<ListenerStats>) -> Arc<Self> {
        let gate = Self {
            connections: AtomicUsize::new(0),
            per_ip: AtomicIsize::new(0),
            open: AtomicUsize::new(0),
            clients: Inflight::new(),
            stats,
        };
        gate.set(connections, per_ip);
        Arc::new(gate)
    }

    /// Changes the bounds, for the connections to come.
    pub fn set(&self, connections: u32, per_ip: u32) {
        self.connections.store(connections as usize, Ordering::Relaxed);
        self.per_ip.store(isize::try_from(per_ip).unwrap_or(isize::MAX), Ordering::Relaxed);
    }

    /// Takes a place for a connection from `peer`; `None` when a bound is reached.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { gate: Arc::clone(self), _client: None, _counted: None };
        let per_ip = self.per_ip.load(Ordering::Relaxed);
        let is_over_client_bound = per_ip > 0 && {
            let (guard, count) = self.clients.incr(client_of(peer), 1);
            place._client = Some(guard);
            count > per_ip
        };
        if open >= self.connections.load(Ordering::Relaxed) || is_over_client_bound {
            self.stats.turned_away.increment();
            return None;
        }
        place._counted = Some(self.stats.connection());
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client is one IPv4 address or one IPv6 network of 64 bits, as a single host can use all of the latter.
fn client_of(address: IpAddr) -> impl Hash {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 | 1 << 127,
    }
}

/// Accepts connections until shutdown stops waiting for new ones; each is handed to `serve`.
pub async fn accept(
    listener: TcpListener,
    gate: Arc<Gate>,
    drain: Drain,
    mut serve: impl FnMut(TcpStream, SocketAddr, Place),
) {
    let mut closing = drain.reached(Phase::Closing);
    let mut is_resting = false;
    loop {
        // What the kernel has accepted for us is served before the socket closes: closing it would reset those clients.
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = &mut closing => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(&mut is_resting) {
                    info!("accepting connections again");
                }
                let Some(place) = gate.enter(peer.ip()) else { continue };
                // Without this, an answer written in two parts waits for the client's delayed acknowledgement.
                if stream.set_nodelay(true).is_ok() {
                    serve(stream, peer, place);
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_resting, true) {
                    warn!(%error, "accepting connections fails; resting between attempts");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Errors of `accept` that tell of a connection that died in the queue, not of the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Gate, bind};
    use crate::telemetry::ListenerStats;

    #[test]
    fn places_are_bounded_in_all_and_per_address() {
        let stats = Arc::new(ListenerStats::default());
        let gate = Gate::new(3, 2, Arc::clone(&stats));
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());

        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert!(gate.enter(one).is_none());
        let _third = gate.enter(two).unwrap();
        assert!(gate.enter(two).is_none());
        drop(first);

        assert!(gate.enter(two).is_some());
        assert_eq!((stats.turned_away.get(), stats.accepted.get()), (2, 4));
    }

    #[test]
    fn workers_share_an_address_that_nobody_else_has() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = sockets[0].local_addr().unwrap();

        assert_eq!(sockets[1].local_addr().unwrap(), address);
        assert!(bind(address, 1).is_err());
    }
}
