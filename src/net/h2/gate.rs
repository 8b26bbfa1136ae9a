//! What a client may do to an HTTP/2 connection, judged by its frames alone: hyper bounds what is open at once, this
//! gate bounds how much comes in a time, which is where published floods live (RFC 9113 section 10.5).
//!
//! It is a pure state machine over the bytes of both directions and a clock. It holds no frame and allocates nothing.
//! Windows of time are counted from their first event and then begin anew, so a client that keeps to a limit in every
//! span of `flood_window` is never refused, and one that does not can at most do twice as much before it is.

use std::time::Duration;

use tokio::time::Instant;

use super::frames::{self, Frame, Frames};
use crate::config::Http2Limits;

/// Octets of the connection preface (RFC 9113 section 3.4).
const PREFACE: u32 = 24;

/// A client that goes on opening streams although it was asked to leave may open so many more, or as many again as
/// `total`. In order to leave it needs a round trip, and until then it is in its right.
const LEAVE: u32 = 1000;

/// Codes of `RST_STREAM` and GOAWAY (RFC 9113 section 7) for a peer that asks for too much.
const ENHANCE_YOUR_CALM: u32 = 0xb;
const NO_ERROR: u32 = 0x0;
const INTERNAL_ERROR: u32 = 0x2;
const REFUSED_STREAM: u32 = 0x7;
const CANCEL: u32 = 0x8;

/// The highest stream identifier.
const LAST_STREAM: u32 = u32::MAX >> 1;

/// What a client did too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// CONTINUATION frames of one head (CVE-2024-27316).
    Continuation,
    /// Streams reset by either side (CVE-2023-44487, CVE-2025-8671).
    Resets,
    /// PING, SETTINGS, PRIORITY and empty DATA (CVE-2019-9512, -9513, -9515, -9518).
    Control,
    /// Streams, long after it was asked to leave.
    Streams,
}

impl Flood {
    /// The reason as it stands in the log: the last part of the key whose limit was passed.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Continuation => "http2_continuation",
            Self::Resets => "http2_resets",
            Self::Control => "http2_control",
            Self::Streams => "http2_total",
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In good order.
    Good,
    /// It has had all its streams: the client is to leave.
    Spent,
    /// Over a limit: to be closed.
    Flooded(Flood),
}

/// The judge of one connection.
pub(super) struct FrameGate {
    received: Frames,
    sent: Frames,
    limits: Bounds,
    continuations: u32,
    resets: Tally,
    control: Tally,
    /// How many streams the client opened, and the last of them.
    streams: u32,
    last_stream: u32,
    /// The last stream that was opened in ignorance of our SETTINGS; known once the client has acknowledged them.
    unsettled: Option<u32>,
    /// The last stream that a GOAWAY of ours promised to serve.
    promised: u32,
    parting: Parting,
    flood: Option<Flood>,
}

/// The PING behind the GOAWAY that asks the client to leave. Its answer shows that the client has read the GOAWAY; h2
/// names the last stream only then.
#[derive(Clone, Copy)]
enum Parting {
    Unasked,
    /// The GOAWAY was written.
    Asked,
    /// The PING was written, with this payload.
    Pinged([u8; 8]),
    Answered,
}

struct Bounds {
    continuation: u32,
    resets: u32,
    control: u32,
    total: u32,
    window: Duration,
}

impl FrameGate {
    pub(super) const fn new(limits: &Http2Limits) -> Self {
        Self {
            received: Frames::new(PREFACE),
            sent: Frames::new(0),
            limits: Bounds {
                continuation: limits.continuation,
                resets: limits.resets,
                control: limits.control,
                total: limits.total,
                window: limits.flood_window,
            },
            continuations: 0,
            resets: Tally::new(),
            control: Tally::new(),
            streams: 0,
            last_stream: 0,
            unsettled: None,
            promised: LAST_STREAM,
            parting: Parting::Unasked,
            flood: None,
        }
    }

    /// Judges bytes from the client, beginning with the preface. After a flood nothing more is let through.
    pub(super) fn receive(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while self.flood.is_none()
            && let Some(frame) = self.received.next(&mut bytes)
        {
            self.flood = self.judge_received(&frame, now).err();
        }
        self.flood.map_or(Ok(()), Err)
    }

    /// Judges bytes that were written to the client. They are followed to the last one: the closing words fit in only
    /// between two frames.
    pub(super) fn send(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while let Some(frame) = self.sent.next(&mut bytes) {
            let verdict = self.judge_sent(&frame, now);
            self.flood = self.flood.or(verdict.err());
        }
        self.flood.map_or(Ok(()), Err)
    }

    pub(super) fn standing(&self) -> Standing {
        match self.flood {
            Some(flood) => Standing::Flooded(flood),
            None if self.streams >= self.limits.total => Standing::Spent,
            None => Standing::Good,
        }
    }

    /// The GOAWAY frame (RFC 9113 section 6.8) that tells a flooding client why; `None` in good order, and when one of
    /// our frames is half written.
    pub(super) fn last_words(&self) -> Option<[u8; 17]> {
        if self.flood.is_none() || !self.sent.is_at_border() {
            return None;
        }
        // The number may never grow from one GOAWAY to the next.
        let [s3, s2, s1, s0] = self.last_stream.min(self.promised).to_be_bytes();
        let [c3, c2, c1, c0] = ENHANCE_YOUR_CALM.to_be_bytes();
        Some([0, 0, 8, frames::GOAWAY, 0, 0, 0, 0, 0, s3, s2, s1, s0, c3, c2, c1, c0])
    }

    /// The answer to the PING of a graceful shutdown that the client owes; `None` when it owes none, and in the middle of
    /// a frame of its own.
    pub(super) fn owed_answer(&self) -> Option<[u8; 17]> {
        let Parting::Pinged([p0, p1, p2, p3, p4, p5, p6, p7]) = self.parting else { return None };
        let answer = [0, 0, 8, frames::PING, frames::ACK, 0, 0, 0, 0, p0, p1, p2, p3, p4, p5, p6, p7];
        self.received.is_at_border().then_some(answer)
    }

    fn judge_received(&mut self, frame: &Frame, now: Instant) -> Result<(), Flood> {
        match frame.kind {
            frames::HEADERS => {
                self.continuations = 0;
                // A head with an old number holds trailers.
                if frame.stream > self.last_stream {
                    self.last_stream = frame.stream;
                    self.streams = self.streams.saturating_add(1);
                    let most = self.limits.total.saturating_add(self.limits.total.max(LEAVE));
                    return bound(self.streams <= most, Flood::Streams);
                }
                Ok(())
            }
            frames::CONTINUATION => {
                self.continuations = self.continuations.saturating_add(1);
                bound(self.continuations <= self.limits.continuation, Flood::Continuation)
            }
            frames::RST_STREAM => self.count_reset(now),
            frames::SETTINGS => {
                if frame.flags & frames::ACK != 0 && self.unsettled.is_none() {
                    self.unsettled = Some(self.last_stream);
                }
                self.count_control(now)
            }
            frames::PING if self.is_parting_answer(frame) => {
                self.parting = Parting::Answered;
                Ok(())
            }
            frames::PING | frames::PRIORITY => self.count_control(now),
            frames::DATA if frame.is_empty_data() => self.count_control(now),
            // WINDOW_UPDATE comes with every large download, and costs no answer.
            _ => Ok(()),
        }
    }

    fn judge_sent(&mut self, frame: &Frame, now: Instant) -> Result<(), Flood> {
        match frame.kind {
            frames::RST_STREAM if self.is_provoked(frame) => self.count_reset(now),
            frames::GOAWAY => {
                self.promised = self.promised.min(frame.first_word() & LAST_STREAM);
                if matches!(self.parting, Parting::Unasked) {
                    self.parting = Parting::Asked;
                }
                Ok(())
            }
            frames::PING if frame.flags & frames::ACK == 0 => {
                if matches!(self.parting, Parting::Asked) {
                    self.parting = Parting::Pinged(frame.first);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn is_parting_answer(&self, ping: &Frame) -> bool {
        ping.flags & frames::ACK != 0
            && matches!(self.parting, Parting::Pinged(payload) if payload == ping.first)
    }

    /// True when the client is to blame for a reset of ours. It is not when its upload was answered early (RFC 9113
    /// section 8.1), when the backend broke down, and when it opened too many streams before it could know the limit.
    fn is_provoked(&self, reset: &Frame) -> bool {
        match reset.first_word() {
            NO_ERROR | INTERNAL_ERROR | CANCEL => false,
            REFUSED_STREAM => self.unsettled.is_some_and(|last| reset.stream > last),
            _ => true,
        }
    }

    fn count_reset(&mut self, now: Instant) -> Result<(), Flood> {
        bound(self.resets.count(now, self.limits.window) <= self.limits.resets, Flood::Resets)
    }

    fn count_control(&mut self, now: Instant) -> Result<(), Flood> {
        bound(self.control.count(now, self.limits.window) <= self.limits.control, Flood::Control)
    }
}

fn bound(is_kept: bool, flood: Flood) -> Result<(), Flood> {
    if is_kept { Ok(()) } else { Err(flood) }
}

/// Events in a window of time that begins with the first of them.
struct Tally {
    since: Option<Instant>,
    count: u32,
}

impl Tally {
    const fn new() -> Self {
        Self { since: None, count: 0 }
    }

    /// Counts one event and returns how many there were in the window.
    fn count(&mut self, now: Instant, window: Duration) -> u32 {
        if self.since.is_none_or(|since| now.duration_since(since) >= window) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

#[cfg(test)]
mod tests;
