//! touchline: a sidecar that caches, times and watches the HTTP backend beside it.
//!
//! The way of a request: [`net`] reads it, [`ingress`] decides and answers, [`cache`] remembers, [`upstream`] asks the
//! backend, [`telemetry`] is told once when it is over, and [`admin`] shows what was told. [`app`] puts them together.

pub mod admin;
pub mod app;
pub mod cache;
pub mod claude;
pub mod cli;
pub mod config;
pub mod ingress;
pub mod inject;
pub mod net;
pub mod telemetry;
pub mod upstream;
