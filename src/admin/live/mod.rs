//! What is shown live: snapshots of everything, their changes as events, the tail of requests, and one route in detail.

mod alerts;
mod board;
mod drawer;
mod merged;
mod part;
mod planes;
mod routes;
pub(super) mod sections;
pub(super) mod tail;

pub(super) use board::{Boards, View};
