//! Which addresses the demo listens on: the usual ports where they are free, any free port where they are taken.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;

/// The port itself when nobody listens there, else port 0, which lets the system choose.
///
/// The trial socket has no `SO_REUSEPORT`, so it also fails beside a listener that has it: another touchline that
/// runs already must not share its connections with the demo. Another program may still take the port between the
/// trial and the real bind; the demo then stops with an ordinary bind error.
pub(super) fn preferred(port: u16) -> SocketAddr {
    if is_free(port) { loopback(port) } else { loopback(0) }
}

/// The port that was asked for by name: taken is an error, because a silent fallback would surprise.
pub(super) fn demanded(port: u16) -> anyhow::Result<SocketAddr> {
    TcpListener::bind(loopback(port))
        .map(|_| loopback(port))
        .with_context(|| format!("listening on port {port}, as --port asks"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{demanded, preferred};

    #[test]
    fn a_taken_port_falls_back_to_any_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();

        assert_eq!(preferred(port).port(), 0);
    }

    #[test]
    fn a_taken_port_that_was_asked_for_is_an_error_that_names_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();

        let error = demanded(port).unwrap_err();

        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }
}
