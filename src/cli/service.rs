//! What a service manager is told (`sd_notify(3)`): that the process serves, and that it ends.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use tracing::warn;

/// The way to the service manager that started the process, if it wants to hear of it.
pub(super) struct Manager {
    socket: Option<String>,
}

impl Manager {
    /// The manager behind a `NOTIFY_SOCKET`.
    pub(super) const fn new(socket: Option<String>) -> Self {
        Self { socket }
    }

    /// The process serves.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The process ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// A manager that cannot be told goes by the process itself.
    fn tell(&self, state: &str) {
        let Some(name) = &self.socket else { return };
        if let Err(error) = send(name, state) {
            warn!(%error, "the service manager cannot be told");
        }
    }
}

fn send(name: &str, state: &str) -> io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::Manager;

    fn heard(socket: &UnixDatagram) -> String {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    #[test]
    fn a_manager_hears_of_the_beginning_and_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("touchline-test-{}", std::process::id());
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}"),
            ),
        ];

        for (socket, name) in sockets {
            let manager = Manager::new(Some(name));
            manager.ready();
            manager.stopping();

            assert_eq!(heard(&socket), "READY=1\nSTATUS=serving");
            assert_eq!(heard(&socket), "STOPPING=1\nSTATUS=draining");
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_asks_and_a_manager_that_is_gone_is_no_fault() {
        Manager::new(None).ready();
        Manager::new(Some("/nonexistent/notify".to_owned())).stopping();
    }
}
