//! The tier that replicas share, in Redis behind the one in memory.
//!
//! `value` is what lies there, `mark` and `position` are the purges that all replicas read, `server` is how it is reached.
//! `tier` and `lease` are what a request may ask, always with a deadline; `fault` names what goes wrong; `writer` writes behind the answers; `keeper` connects, reads
//! marks, hears what others replace, and says when the tier is there; `info` is what the server says of itself. `sums` and `notes` are for other planes than the
//! cache: sums that replicas share, and what a process leaves for the next one of its name. Nothing here waits for Redis before it is there, and
//! nothing asks it while it is not: a fault of Redis costs the requests under way one deadline, and the others nothing.
//!
//! Names in Redis, all behind the configured prefix: `e:{HEX}` an answer or the names it varies by, `v:{HEX}:VARY` a
//! variant, `l:{HEX}` the lease of a fetch, `marks` the stream of purges, `events` the channel of news, `s:NAME` a sum,
//! `n:{NAME}` a note and `n:{NAME}:by` the process that holds its name. The braces are real: in a cluster they keep all
//! names of one resource on one node. HEX is the SHA-256 of the key, so that no path or query stands in a name; a NAME is
//! made of what operators have chosen, and of keyed hashes.

mod fault;
mod info;
mod keeper;
mod lease;
mod mark;
mod names;
mod notes;
mod position;
mod server;
mod states;
mod sums;
mod tier;
mod value;
mod writer;

pub(super) use keeper::Kept;
pub(super) use lease::{Lease, Leased};
pub use notes::{HeldNote, OpenedNote};
pub(super) use tier::{Announcing, Asked, RedisTier};
