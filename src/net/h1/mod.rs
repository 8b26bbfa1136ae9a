//! HTTP/1.0 and HTTP/1.1 (RFC 9112), both sides: [`server`] is a client's connection; the parts below it
//! ([`head`], [`framing`], [`chunk`], [`mod@write`]) also carry the connections to upstreams.

pub mod chunk;
pub mod framing;
pub mod head;
pub mod incoming;
mod send;
pub mod server;
pub mod write;

use std::time::Duration;

use memchr::memmem;

use crate::config;

/// The limits of one connection as plain numbers, compiled from `ingress.limits`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Octets of a request line.
    pub request_line: usize,
    /// Octets of a method.
    pub method: usize,
    /// Octets of one header field.
    pub header_size: usize,
    /// Octets of all header fields.
    pub headers_size: usize,
    /// Header fields.
    pub headers: usize,
    /// Octets of all trailer fields.
    pub trailers_size: usize,
    /// Trailer fields.
    pub trailers: usize,
    /// Octets of a chunk's size line with its extensions.
    pub chunk_line: usize,
    /// Octets of chunk framing beyond the size of the data.
    pub chunk_overhead: u64,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// Between two reads of a body.
    pub body_idle: Duration,
    /// Octets a second that a body has to make on average.
    pub body_rate: u64,
    /// How long a body is waited for before its rate is looked at.
    pub body_rate_after: Duration,
    /// How long a write may make no progress.
    pub write_stall: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive: Duration,
    /// Requests of one connection.
    pub requests: u32,
    /// What happens to a field with an underscore in its name.
    pub underscores: config::Underscores,
    /// Interim answers passed on per request.
    pub interim: u32,
    /// How long a tunnel may be idle.
    pub tunnel_idle: Duration,
    /// Octets buffered per direction of a tunnel.
    pub tunnel_buffer: usize,
    /// Finds the end of a head; made once, as making it costs more than one search.
    pub(crate) head_end: memmem::Finder<'static>,
}

impl Limits {
    /// Compiles the limits of a client's connection.
    #[must_use]
    pub fn downstream(limits: &config::Limits, underscores: config::Underscores) -> Self {
        Self {
            request_line: limits.request_line.as_usize(),
            method: limits.method.as_usize(),
            header_size: limits.header_size.as_usize(),
            headers_size: limits.headers_size.as_usize(),
            headers: limits.headers as usize,
            trailers_size: limits.trailers_size.as_usize(),
            trailers: limits.trailers as usize,
            chunk_line: limits.chunk_line.as_usize(),
            chunk_overhead: limits.chunk_overhead.bytes(),
            header_timeout: limits.header_timeout,
            body_idle: limits.body_idle,
            body_rate: limits.body_rate.bytes(),
            body_rate_after: limits.body_rate_after,
            write_stall: limits.write_stall,
            keep_alive: limits.keep_alive,
            requests: limits.requests,
            underscores,
            interim: 16,
            tunnel_idle: limits.upgrade.idle,
            tunnel_buffer: limits.upgrade.buffer.as_usize(),
            head_end: memmem::Finder::new(b"\r\n\r\n"),
        }
    }

    /// Compiles the limits of a connection to an upstream: its answers are held to `upstream.headers*`.
    #[must_use]
    pub fn upstream(limits: &config::Limits, upstream: &config::Upstream) -> Self {
        Self {
            header_size: upstream.headers_size.as_usize(),
            headers_size: upstream.headers_size.as_usize(),
            headers: upstream.headers as usize,
            body_idle: upstream.body_idle,
            interim: upstream.interim,
            ..Self::downstream(limits, config::Underscores::Forward)
        }
    }
}
