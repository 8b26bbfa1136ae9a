//! touchline: a sidecar that caches, times and watches the HTTP backend beside it.

pub mod admin;
pub mod cache;
pub mod config;
pub mod net;
pub mod telemetry;
pub mod upstream;
