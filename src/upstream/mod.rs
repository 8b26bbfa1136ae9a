//! Calls to a server behind us: pooled connections, deadlines, a bulkhead, one safe retry, a breaker and a probe.
//!
//! [`Upstream`] is what all workers share about one server; a [`Client`] is one worker's pool of connections to it.

pub mod breaker;
pub mod bulkhead;
pub mod client;
pub mod error;
pub mod exchange;
pub mod health;
pub mod pool;
pub mod retry;
pub mod stream;
pub mod tls;

pub use client::{Call, Client, Head, Introduce, Reply, Timing, Upstream};
pub use error::Error;
pub use tls::{Tls, TlsError};
