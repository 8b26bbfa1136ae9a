//! The whole proxy in process, between real sockets: every test has its own instance, backend and ports.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails where its helpers cannot go on"
)]

#[expect(dead_code, reason = "some helpers serve tests/binary.rs alone")]
mod support;

mod admin;
mod admin_merge;
mod alerts;
mod backend_faults;
mod cache;
mod cache_body;
mod cache_encoding;
mod cache_flight;
mod cache_parts;
mod cache_rules;
mod cache_safety;
mod claude;
mod claude_answers;
mod claude_batches;
mod claude_breakpoints;
mod claude_decisions;
mod claude_echo;
mod claude_escalate;
mod claude_extras;
mod claude_fallback;
mod claude_faults;
mod claude_limits;
mod claude_matrix;
mod claude_money;
mod claude_tls;
mod claude_transforms;
mod client_aborts;
mod commands;
mod connections;
mod explain;
mod forwarding;
mod http2;
mod identity;
mod identity_model;
mod interim;
mod learning;
mod limits;
mod memory;
mod observe;
mod otlp;
mod pool;
mod protection;
mod records;
mod reload;
mod service;
mod streaming;
mod upgrade;
mod warming;
mod why;
