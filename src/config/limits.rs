//! `ingress.limits`: what a client may send, and how long it may take.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{self, ByteSize, SizeOrZero, Time};

/// What a client may send, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest request line; beyond it 414. RFC 9112 section 3 asks for 8,000 octets at least. Default: 8KiB.
    pub request_line: ByteSize,
    /// Longest method name; beyond it 400. Default: 32B.
    pub method: ByteSize,
    /// Longest single header field; beyond it 431. Default: 16KiB.
    pub header_size: ByteSize,
    /// All header fields of a request together; beyond it 431. Default: 32KiB.
    pub headers_size: ByteSize,
    /// Number of header fields of a request; beyond it 431. Default: 100.
    #[schemars(range(min = 1, max = 1000))]
    pub headers: u32,
    /// All trailer fields of a request together, which are dropped; beyond it 400. Default: 4KiB.
    pub trailers_size: ByteSize,
    /// Number of trailer fields of a request; beyond it 400. Default: 16.
    pub trailers: u32,
    /// Longest chunk line with its extensions; beyond it 400. Default: 256B.
    pub chunk_line: ByteSize,
    /// Bytes of chunk framing of a request beyond the size of its data; beyond it 400. It stops bodies that are
    /// nearly all framing. Default: 16KiB.
    pub chunk_overhead: ByteSize,
    /// Largest request body; beyond it 413. A route may set its own. Default: 10MiB.
    #[schemars(with = "SizeOrZero")]
    pub body: ByteSize,
    /// How long a request head may take from its first byte; then 408. A new connection that sends nothing is closed
    /// after it. Default: 10s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub header_timeout: Duration,
    /// Longest pause between two parts of a request body; then 408. Default: 30s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub body_idle: Duration,
    /// Slowest mean rate of a request body, in bytes a second; below it 408. `0B` switches it off. Default: 1KiB.
    #[schemars(with = "SizeOrZero")]
    pub body_rate: ByteSize,
    /// How long a request body may run before its rate counts. Default: 10s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub body_rate_after: Duration,
    /// How long a client may take none of the bytes that wait for it; then its connection is reset. Default: 30s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub write_stall: Duration,
    /// How long a connection may wait idle for its next request. Default: 1m.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub keep_alive: Duration,
    /// Requests on one connection; then it is closed. Default: 10000.
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// Open connections of all clients; beyond it they are closed as they are accepted. Default: 10000.
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Open connections of one client: an IPv4 address, or an IPv6 network of 64 bits. `0` switches it off, as is right behind a mesh or a load balancer,
    /// where all clients share an address. Default: 256.
    pub per_ip: u32,
    /// HTTP/2.
    pub http2: Http2Limits,
    /// WebSocket tunnels.
    pub upgrade: UpgradeLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: ByteSize::kib(8),
            method: ByteSize::new(32),
            header_size: ByteSize::kib(16),
            headers_size: ByteSize::kib(32),
            headers: 100,
            trailers_size: ByteSize::kib(4),
            trailers: 16,
            chunk_line: ByteSize::new(256),
            chunk_overhead: ByteSize::kib(16),
            body: ByteSize::mib(10),
            header_timeout: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            body_rate: ByteSize::kib(1),
            body_rate_after: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            requests: 10_000,
            connections: 10_000,
            per_ip: 256,
            http2: Http2Limits::default(),
            upgrade: UpgradeLimits::default(),
        }
    }
}

/// Limits of HTTP/2 connections, most of them against published floods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http2Limits {
    /// Streams at once on a connection; beyond it `REFUSED_STREAM`. Default: 100.
    #[schemars(range(min = 1))]
    pub streams: u32,
    /// Streams in the life of a connection; then GOAWAY without an error. A client that goes on regardless is cut off at
    /// twice as many, or 1,000 more. Default: 10000.
    #[schemars(range(min = 1))]
    pub total: u32,
    /// Flow-control window of a stream. Default: 64KiB.
    #[schemars(extend("x-max" = "2147483647B"))]
    pub stream_window: ByteSize,
    /// Flow-control window of a connection. RFC 9113 section 6.9.2 starts every connection at 65,535 bytes, and it
    /// can only grow. Default: 1MiB.
    #[schemars(extend("x-min" = "65535B", "x-max" = "2147483647B"))]
    pub connection_window: ByteSize,
    /// Largest frame; RFC 9113 section 4.2 allows 16 KiB to 16 MiB less one byte. Default: 16KiB.
    #[schemars(extend("x-min" = "16KiB", "x-max" = "16777215B"))]
    pub frame: ByteSize,
    /// Header fields of a request after decompression; beyond it 431. Default: 32KiB.
    pub header_list: ByteSize,
    /// CONTINUATION frames of one head; beyond it GOAWAY (CVE-2024-27316). The HTTP/2 library's own bound, six frames at
    /// the default sizes, may come first. Default: 8.
    pub continuation: u32,
    /// Streams that were reset and are not yet cleared away; beyond it GOAWAY (CVE-2023-44487). Default: 20.
    #[schemars(range(min = 1))]
    pub resets_pending: u32,
    /// Resets within `flood_window` by the client, or by us where the client provoked them; beyond it GOAWAY
    /// (CVE-2025-8671). Default: 100.
    #[schemars(range(min = 1))]
    pub resets: u32,
    /// PING, SETTINGS, PRIORITY and empty DATA frames within `flood_window`; beyond it GOAWAY (CVE-2019-9512 and
    /// kin). Default: 100.
    #[schemars(range(min = 1))]
    pub control: u32,
    /// The window that `resets` and `control` count in. Default: 10s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub flood_window: Duration,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            total: 10_000,
            stream_window: ByteSize::kib(64),
            connection_window: ByteSize::mib(1),
            frame: ByteSize::kib(16),
            header_list: ByteSize::kib(32),
            continuation: 8,
            resets_pending: 20,
            resets: 100,
            control: 100,
            flood_window: Duration::from_secs(10),
        }
    }
}

/// Limits of WebSocket tunnels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeLimits {
    /// Open tunnels; beyond it 503. `0` refuses every upgrade. Default: 1024.
    pub connections: u32,
    /// A tunnel without a byte in either direction for this long is closed. Default: 5m.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub idle: Duration,
    /// Bytes held for each direction of a tunnel. Default: 64KiB.
    #[schemars(extend("x-min" = "1KiB"))]
    pub buffer: ByteSize,
}

impl Default for UpgradeLimits {
    fn default() -> Self {
        Self { connections: 1024, idle: Duration::from_secs(300), buffer: ByteSize::kib(64) }
    }
}
