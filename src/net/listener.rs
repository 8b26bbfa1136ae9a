//! Listening sockets and the accept loop: bounds on connections, patience when the process runs out of descriptors, and an
//! end that loses no connection.
//!
//! A listening socket that closes resets what the kernel has accepted for it and nobody has taken. So at the end new
//! attempts are held off first (their clients repeat them after a second, and then meet whoever else listens, or a
//! refusal), what is queued and what is in the middle of its handshake is taken, and only then the socket closes.

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
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tracing::{debug, info, warn};

use super::drain::{Drain, Phase};
use crate::telemetry::{Held, ListenerStats};

/// How many connections the kernel may hold for us before accept.
const BACKLOG: i32 = 4096;

/// How long accept rests when it fails for want of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// How long the end of a listener waits for handshakes that have begun, and how often it looks for them. Long enough for
/// clients in the same network; short, as one that is held off meanwhile waits a whole second: of eight clients that opened
/// connections as fast as they could, every one did at 50 ms.
const SETTLE: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(1);

/// Instructions of a classic socket filter (`linux/bpf_common.h`): load a byte, jump if bits are set, return a constant.
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where the flags of a TCP header are, and the one that begins a connection (RFC 9293 section 3.1).
const TCP_FLAGS: u32 = 13;
const SYN: u32 = 0x02;

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

/// Opens sockets on an address beside another process of the same user that listens there, and takes nothing yet: no
/// connection comes to them before [`listen`].
///
/// # Errors
/// When the address cannot be bound, also because its owner is another user or does not share it.
pub fn bind_beside(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    (0..workers.max(1)).map(|_| Ok(bound(address, true)?.into())).collect()
}

/// Has a socket of [`bind_beside`] take connections.
///
/// # Errors
/// The kernel's own.
pub fn listen(socket: &std::net::TcpListener) -> io::Result<()> {
    SockRef::from(socket).listen(BACKLOG)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = bound(address, shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
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
    let mut shut = drain.reached(Phase::Shut);
    let mut is_resting = false;
    let mut admit = |stream: TcpStream, peer: SocketAddr| {
        let Some(place) = gate.enter(peer.ip()) else { return };
        // Without this, an answer written in two parts waits for the client's delayed acknowledgement.
        if stream.set_nodelay(true).is_ok() {
            serve(stream, peer, place);
        }
    };
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = &mut shut => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(&mut is_resting) {
                    info!("accepting connections again");
                }
                admit(stream, peer);
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
    if let Err(error) = take_the_rest(listener, &drain, admit).await {
        warn!(%error, "a listener closed before all that was queued for it was taken");
    }
}

/// Closes a listener once everything that was on its way to it has been taken.
async fn take_the_rest(
    listener: TcpListener,
    drain: &Drain,
    mut admit: impl FnMut(TcpStream, SocketAddr),
) -> io::Result<()> {
    // Out of the reactor: what the kernel has is asked of the kernel, not of the last event that was heard.
    let listener = listener.into_std()?;
    if let Err(error) = hold_off(&listener) {
        // What comes between the last look and the close may then be reset.
        debug!(%error, "new connections cannot be held off while a listener closes");
    }
    let end = Instant::now() + SETTLE;
    loop {
        take_all(&listener, &mut admit)?;
        if Instant::now() >= end || drain.phase() == Phase::Cutting {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes every connection that is queued.
fn take_all(
    listener: &std::net::TcpListener,
    admit: &mut impl FnMut(TcpStream, SocketAddr),
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                admit(TcpStream::from_std(stream)?, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Has the kernel drop what would begin a new connection to this socket, and nothing else. Its client hears nothing and
/// asks again.
fn hold_off(listener: &std::net::TcpListener) -> io::Result<()> {
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, TCP_FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&filter)
}

/// Errors of `accept` that tell of a connection that died in the queue, not of the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests;
