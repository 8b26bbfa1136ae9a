//! What is shown live: snapshots of everything, their changes as events, the tail of requests, and one route in detail.

mod alerts;
mod board;
mod drawer;
mod planes;
mod routes;
pub(super) mod sections;
pub(super) mod tail;

pub(super) use board::Boards;
