//! HTTP/2 with prior knowledge (RFC 9113 section 3.3), carried by hyper with every limit set explicitly.
//!
//! hyper reads and writes the frames. Between it and the socket stands a gate (`gate`) that follows the frames of both
//! directions for what hyper has no limit for: streams in the life of a connection, CONTINUATION frames of a head, and
//! resets and control frames in a time. A client over one of them is sent GOAWAY and cut off.

mod body;
mod frames;
mod gate;
mod server;
mod socket;

pub use server::serve;
