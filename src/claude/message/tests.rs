//! Tests of reading: what is accepted, what is found in it, and that histories are known again.

mod accepts;
mod finds;
mod knows;

use super::{Message, Unreadable};

/// As `claude.inspect.depth`.
const DEPTH: usize = 512;

fn read(body: &str) -> Message {
    Message::read(body.as_bytes(), DEPTH).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn refusal(body: &[u8]) -> Option<Unreadable> {
    Message::read(body, DEPTH).err()
}
