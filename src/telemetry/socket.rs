//! Why a connection was not made, or broke: a closed set, with a word for logs and messages and the same in plain words for
//! people. Neither has an address, a name or what a peer sent.

use std::io;

use super::labels::labels;

labels! {
    /// Why a connection was not made, or broke.
    pub enum SocketFault {
        /// Nobody listens there.
        Refused = "connection_refused",
        /// The peer, or something on the way, broke it off.
        Reset = "connection_reset",
        /// The peer closed it.
        Closed = "connection_closed",
        /// No way leads to the address.
        NoRoute = "no_route",
        /// The name has no address, or nobody could be asked for it.
        Dns = "dns_failed",
        /// No answer in time.
        TimedOut = "timed_out",
        /// The handshake of TLS failed.
        Tls = "tls_failed",
        /// The peer's certificate leads to no authority that is trusted, is for another name, or is out of date.
        Certificate = "certificate_not_trusted",
        /// There is no such unix socket.
        Missing = "no_such_socket",
        /// We may not connect there.
        Denied = "permission_denied",
        /// Anything else.
        Other = "connect_failed",
    }
}

impl SocketFault {
    /// The fault that an error of the system, of its resolver or of TLS stands for.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        if let Some(inner) = error.get_ref() {
            match inner.downcast_ref::<rustls::Error>() {
                Some(rustls::Error::InvalidCertificate(_)) => return Self::Certificate,
                Some(_) => return Self::Tls,
                None => {}
            }
            // These two have no mark but their text: the resolver's error, and an end in the middle of a handshake.
            let text = inner.to_string();
            if text.starts_with("failed to lookup address") {
                return Self::Dns;
            }
            if text.starts_with("tls handshake") {
                return Self::Tls;
            }
        }
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::ConnectionReset | Kind::ConnectionAborted => Self::Reset,
            Kind::BrokenPipe | Kind::UnexpectedEof | Kind::NotConnected => Self::Closed,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown | Kind::AddrNotAvailable => {
                Self::NoRoute
            }
            Kind::TimedOut | Kind::WouldBlock => Self::TimedOut,
            Kind::NotFound => Self::Missing,
            Kind::PermissionDenied => Self::Denied,
            _ => Self::Other,
        }
    }

    /// In plain words.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Closed => "connection closed",
            Self::NoRoute => "no route",
            Self::Dns => "name not found",
            Self::TimedOut => "timed out",
            Self::Tls => "TLS failed",
            Self::Certificate => "certificate not trusted",
            Self::Missing => "no such socket",
            Self::Denied => "permission denied",
            Self::Other => "connecting failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        io::{self, ErrorKind},
        net::{TcpListener, TcpStream, ToSocketAddrs as _},
    };

    use super::SocketFault;

    #[test]
    fn kinds_of_errors_have_plain_words() {
        let table = [
            (ErrorKind::ConnectionRefused, "connection refused"),
            (ErrorKind::ConnectionReset, "connection reset"),
            (ErrorKind::ConnectionAborted, "connection reset"),
            (ErrorKind::BrokenPipe, "connection closed"),
            (ErrorKind::UnexpectedEof, "connection closed"),
            (ErrorKind::HostUnreachable, "no route"),
            (ErrorKind::NetworkUnreachable, "no route"),
            (ErrorKind::TimedOut, "timed out"),
            (ErrorKind::NotFound, "no such socket"),
            (ErrorKind::PermissionDenied, "permission denied"),
            (ErrorKind::OutOfMemory, "connecting failed"),
        ];
        for (kind, words) in table {
            assert_eq!(SocketFault::of(&kind.into()).in_words(), words);
            assert_eq!(SocketFault::of(&io::Error::new(kind, "10.0.0.7 canary")).in_words(), words, "{kind}");
        }
    }

    #[test]
    fn each_fault_has_words_of_its_own() {
        let count = |words: fn(SocketFault) -> &'static str| {
            SocketFault::ALL.into_iter().map(words).collect::<BTreeSet<_>>().len()
        };

        assert_eq!(count(SocketFault::as_str), SocketFault::COUNT);
        assert_eq!(count(SocketFault::in_words), SocketFault::COUNT);
    }

    #[test]
    fn what_the_system_says_is_understood() {
        // Two dots in a row are in no name, so that nobody outside is asked.
        let unknown = ("no..name", 1).to_socket_addrs().unwrap_err();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let refused = TcpStream::connect(address).unwrap_err();

        assert_eq!(SocketFault::of(&unknown), SocketFault::Dns, "{unknown:?}");
        assert_eq!(SocketFault::of(&refused), SocketFault::Refused, "{refused:?}");
    }

    #[test]
    fn faults_of_tls_are_told_from_those_of_the_network() {
        let tls = |error: rustls::Error| SocketFault::of(&io::Error::new(ErrorKind::InvalidData, error));

        let certificate = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(tls(certificate), SocketFault::Certificate);
        assert_eq!(tls(rustls::Error::HandshakeNotComplete), SocketFault::Tls);
        assert_eq!(
            SocketFault::of(&io::Error::new(ErrorKind::UnexpectedEof, "tls handshake eof")),
            SocketFault::Tls
        );
    }
}
