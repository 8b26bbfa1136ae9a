//! The listening sockets, bound before any thread runs, so that a taken address is an error of the start. Beside a process
//! that is to be taken over from they are bound, and take nothing before they are opened.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use tokio::sync::watch;

use crate::{config::Config, net::listener};

/// Who else may have the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody.
    Alone,
    /// A process of the same user, which goes on until these sockets are opened.
    Beside,
}

/// The addresses that the listeners were bound to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Addresses {
    pub(super) ingress: Option<SocketAddr>,
    pub(super) claude: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) control: Option<SocketAddr>,
}

/// The sockets of all listeners; those for clients once for each worker.
pub(super) struct Sockets {
    pub(super) ingress: Vec<TcpListener>,
    pub(super) claude: Vec<TcpListener>,
    pub(super) admin: Option<TcpListener>,
    pub(super) control: Option<TcpListener>,
}

/// Opens sockets that were bound beside another process, once.
pub(super) struct Opening {
    /// The same sockets, held until they are open; none of [`Claim::Alone`].
    sockets: Vec<TcpListener>,
    is_open: watch::Sender<bool>,
}

impl Sockets {
    pub(super) fn bind(config: &Config, shares: usize, claim: Claim) -> anyhow::Result<Self> {
        let some = |key: &str, address: SocketAddr, count: usize| {
            let sockets = match claim {
                Claim::Alone => listener::bind(address, count),
                Claim::Beside => listener::bind_beside(address, count),
            };
            sockets.with_context(|| format!("opening {key} on {address}"))
        };
        let one = |key: &str, address| some(key, address, 1).map(|sockets| sockets.into_iter().next());
        let ingress = config.ingress.as_ref().map(|ingress| some("ingress.listen", ingress.listen, shares));
        let claude = config.claude.as_ref().map(|claude| some("claude.listen", claude.listen, shares));
        let admin = config.admin.on().map(|admin| one("admin.listen", admin.listen));
        let control = config.control.on().map(|control| one("control.listen", control.listen));
        Ok(Self {
            ingress: ingress.transpose()?.unwrap_or_default(),
            claude: claude.transpose()?.unwrap_or_default(),
            admin: admin.transpose()?.flatten(),
            control: control.transpose()?.flatten(),
        })
    }

    pub(super) fn addresses(&self) -> anyhow::Result<Addresses> {
        let address = |socket: Option<&TcpListener>| socket.map(TcpListener::local_addr).transpose();
        Ok(Addresses {
            ingress: address(self.ingress.first())?,
            claude: address(self.claude.first())?,
            admin: address(self.admin.as_ref())?,
            control: address(self.control.as_ref())?,
        })
    }
}

impl Opening {
    pub(super) fn new(sockets: &Sockets, claim: Claim) -> anyhow::Result<Self> {
        let all = sockets.ingress.iter().chain(&sockets.claude).chain(&sockets.admin).chain(&sockets.control);
        let waiting = match claim {
            Claim::Alone => Vec::new(),
            Claim::Beside => all.map(TcpListener::try_clone).collect::<Result<_, _>>()?,
        };
        Ok(Self { sockets: waiting, is_open: watch::Sender::new(claim == Claim::Alone) })
    }

    /// Says true when the sockets are open.
    pub(super) fn opened(&self) -> watch::Receiver<bool> {
        self.is_open.subscribe()
    }

    /// True once connections are taken.
    pub(super) fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    /// Has all sockets take connections.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        for socket in self.sockets.drain(..) {
            listener::listen(&socket).context("listening beside the process that is taken over from")?;
        }
        self.is_open.send_replace(true);
        Ok(())
    }
}
