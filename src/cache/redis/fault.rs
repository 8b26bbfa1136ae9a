//! Errors of Redis: which fault each is, and what may be said of it.

use redis::{ErrorKind, RedisError};

use crate::telemetry::RedisFault;

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
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return io.to_string();
        }
        cause = inner.source();
    }
    error.category().to_owned()
}

/// The word with which the server began its error; of several operations the first that failed.
fn code_of(error: &RedisError) -> Option<String> {
    let errors = error.clone().into_server_errors()?;
    errors.first().map(|(_, error)| error.code().to_owned())
}
