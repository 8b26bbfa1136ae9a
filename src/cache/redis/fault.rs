//! Errors of Redis: which fault each is, and what may be said of it.

use std::{error::Error, io, sync::Arc};

use redis::{ErrorKind, RedisError};

use crate::telemetry::{RedisFault, SocketFault};

/// What went wrong with an operation.
pub(super) fn fault_of(error: &RedisError) -> RedisFault {
    match code_of(error).as_deref() {
        Some("OOM") => return RedisFault::Oom,
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => return RedisFault::Auth,
        Some("READONLY") => return RedisFault::Readonly,
        Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN") => return RedisFault::Loading,
        Some(_) => return RedisFault::Server,
        None => {}
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => RedisFault::Auth,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType | ErrorKind::RESP3NotSupported => {
            RedisFault::Protocol
        }
        _ if error.is_timeout() => RedisFault::Timeout,
        _ => RedisFault::Connection,
    }
}

/// What may be said of an error: never the detail of an answer, which may hold a name, nor what we sent.
pub(super) fn words_of(error: &RedisError) -> String {
    if let Some(code) = code_of(error) {
        return match fault_of(error) {
            RedisFault::Auth => format!("it refuses us ({code})"),
            RedisFault::Readonly => format!("it takes no writes ({code})"),
            RedisFault::Loading => format!("it is not ready ({code})"),
            _ => format!("it answers with an error ({code})"),
        };
    }
    match io_error(error) {
        Some(io) => SocketFault::of(io).in_words().to_owned(),
        // What comes of a cluster is a text by then.
        None if error.kind() == ErrorKind::Io => "its nodes are not reached".to_owned(),
        None => error.category().to_owned(),
    }
}

/// The error of the system behind an error. The client library keeps it behind a pointer, which is then the source.
fn io_error(error: &RedisError) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let shared = inner.downcast_ref::<Arc<dyn Error + Send + Sync>>();
        let io = shared.map_or_else(|| inner.downcast_ref(), |shared| shared.downcast_ref());
        if io.is_some() {
            return io;
        }
        cause = inner.source();
    }
    None
}

/// The word with which the server began its error; of several operations the first that failed.
fn code_of(error: &RedisError) -> Option<String> {
    let errors = error.clone().into_server_errors()?;
    errors.first().map(|(_, error)| error.code().to_owned())
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use redis::{ErrorKind, RedisError};

    use super::{fault_of, words_of};
    use crate::telemetry::RedisFault;

    #[test]
    fn a_broken_connection_is_told_by_what_broke_it() {
        let table = [
            (io::ErrorKind::ConnectionRefused, RedisFault::Connection, "connection refused"),
            (io::ErrorKind::ConnectionReset, RedisFault::Connection, "connection reset"),
            (io::ErrorKind::BrokenPipe, RedisFault::Connection, "connection closed"),
            (io::ErrorKind::UnexpectedEof, RedisFault::Connection, "connection closed"),
            (io::ErrorKind::HostUnreachable, RedisFault::Connection, "no route"),
            (io::ErrorKind::TimedOut, RedisFault::Timeout, "timed out"),
        ];
        for (kind, fault, words) in table {
            let error = RedisError::from(io::Error::from(kind));
            assert_eq!((fault_of(&error), words_of(&error).as_str()), (fault, words));
        }
        let resolving = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(words_of(&resolving.into()), "name not found");
        let certificate = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let certificate = io::Error::new(io::ErrorKind::InvalidData, certificate);
        assert_eq!(words_of(&certificate.into()), "certificate not trusted");
    }

    #[test]
    fn what_the_client_library_reports_of_a_real_connection_is_understood() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("redis://{}/", listener.local_addr().unwrap());
        drop(listener);
        let client = redis::Client::open(address).unwrap();

        let error = client.get_connection_with_timeout(Duration::from_secs(2)).err().unwrap();

        assert_eq!(words_of(&error), "connection refused", "{error:?}");
    }

    #[test]
    fn no_words_hold_what_was_sent_or_answered() {
        let detail = "canary".to_owned();
        let errors = [
            RedisError::from((ErrorKind::Io, "Failed to create initial connections", detail.clone())),
            RedisError::from((ErrorKind::UnexpectedReturnType, "Response type", detail.clone())),
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "Master name", detail)),
            RedisError::from(io::Error::other("canary")),
        ];

        for error in errors {
            let words = words_of(&error);
            assert!(!words.contains("canary") && !words.is_empty(), "{words}");
            assert_ne!(words, "I/O error", "it says nothing");
        }
    }
}
