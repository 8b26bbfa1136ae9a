//! From an answer to what goes over the wire and when: codings, cuts, rests, faults. The servers only carry it out.

use std::time::Duration;

use bytes::Bytes;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

use super::{
    events,
    failure::{Failure, kind_of},
    script::{Behaviour, Cut, Place},
};

/// How long a rest keeps two writes apart, so that they arrive apart.
const APART: Duration = Duration::from_millis(2);

/// The pace of a real model, roughly: the first token and each further event.
const REAL_FIRST: Duration = Duration::from_millis(350);
const REAL_EVENT: Duration = Duration::from_millis(25);

/// The content of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// All at once.
    Whole(Vec<u8>),
    /// A stream of events.
    Events(Vec<String>),
}

/// An answer before it is scripted.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The head's fields without those of the framing.
    pub(crate) headers: Vec<(String, String)>,
    /// The content.
    pub(crate) payload: Payload,
}

/// One thing to do after the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Writes and flushes.
    Send(Bytes),
    /// Rests.
    Wait(Duration),
    /// Says nothing more until the client is gone.
    Hang,
    /// Cuts the connection.
    Abort,
}

/// All that a server has to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The status.
    pub(crate) status: u16,
    /// The head's fields without those of the framing.
    pub(crate) headers: Vec<(String, String)>,
    /// The length of a whole answer; streams have none.
    pub(crate) length: Option<usize>,
    /// A rest before the head.
    pub(crate) head_delay: Duration,
    /// After so many bytes of the head the connection is cut.
    pub(crate) head_cut: Option<usize>,
    /// The body.
    pub(crate) steps: Vec<Step>,
    /// Cuts with a reset.
    pub(crate) reset: bool,
    /// Ends the connection after the answer.
    pub(crate) last: bool,
}

/// Carries the script out on an answer. `accepts` is the request's `accept-encoding`.
pub(crate) fn plan(answer: Answer, script: &Behaviour, accepts: &str, is_real: bool) -> Plan {
    let mut headers = answer.headers;
    let coding = match script.encoding.as_deref() {
        Some("auto") => accepts.contains("gzip").then_some("gzip"),
        other => other,
    };
    if let Some(coding) = coding {
        headers.push(("Content-Encoding".to_owned(), coding.to_owned()));
    }
    for (name, value) in &script.headers {
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            headers.push((name.clone(), value.clone()));
        }
    }
    let is_stream = matches!(answer.payload, Payload::Events(_));
    let (pieces, mut end) = pieces(answer.payload, script);
    let pieces = encode(pieces, coding);
    let body = pieces.concat();
    let close_at = script.close_at.and_then(|place| places(&body, place).first().copied());
    let silent_at = script.silence_after.filter(|_| !is_stream);
    let cut_off = script.close_after.or(close_at).or(silent_at);
    let cut_end = if silent_at.is_some() && cut_off == silent_at { Step::Hang } else { Step::Abort };
    let default = if is_real && is_stream { REAL_EVENT } else { Duration::ZERO };
    let pause = script.event_delay_ms.map_or(default, Duration::from_millis);
    let mut steps = Vec::new();
    let mut sent = 0;
    let cuts = offsets(&body, script.cut.as_ref());
    for piece in pieces {
        let room = cut_off.map_or(piece.len(), |limit| limit.saturating_sub(sent).min(piece.len()));
        let is_cut = room < piece.len();
        if !pause.is_zero() && is_stream {
            steps.push(Step::Wait(pause));
        }
        send(&mut steps, piece.get(..room).unwrap_or_default(), sent, &cuts, script);
        sent += piece.len();
        if is_cut {
            break;
        }
    }
    if cut_off.is_some_and(|limit| limit <= body.len()) {
        end = Some(cut_end);
    }
    steps.extend(end);
    let real_first = if is_real { REAL_FIRST } else { Duration::ZERO };
    let head_cut = match (script.close_before_head, script.close_at) {
        (true, _) => Some(0),
        // Behind "HTTP/1.1 200 OK\r\nDa".
        (false, Some(Place::Head)) => Some(19),
        _ => script.close_in_head,
    };
    Plan {
        status: answer.status,
        headers,
        length: (!is_stream).then_some(body.len()),
        head_delay: real_first + Duration::from_millis(script.head_delay_ms),
        head_cut,
        steps,
        reset: script.reset,
        last: script.close_connection,
    }
}

/// The pieces in which a body is written, and how it ends if not in peace.
fn pieces(payload: Payload, script: &Behaviour) -> (Vec<Vec<u8>>, Option<Step>) {
    let mut list = match payload {
        Payload::Whole(bytes) => return (vec![bytes], None),
        Payload::Events(list) => list,
    };
    let mut end = None;
    if let Some(count) = script.error_after {
        list.truncate(count);
        let kind = script.error.clone().unwrap_or_else(|| kind_of(529).to_owned());
        let message = script.message.clone().unwrap_or_else(|| "Overloaded".to_owned());
        let failure =
            Failure { kind, details: script.details.clone().map(Box::new), ..Failure::new(529, message) };
        list.push(events::error(&failure, "req_01fakefakefakefakefakefake"));
    }
    if let Some(count) = script.silence_after {
        list.truncate(count);
        end = Some(Step::Hang);
    }
    if let Some(count) = script.close_after_events {
        list.truncate(count);
        end = Some(Step::Abort);
    }
    let bytes = |event: &String| events::with_line_ends(event, script.line_end).into_bytes();
    (list.iter().map(bytes).collect(), end)
}

/// Writes one piece, cut where the script says.
fn send(steps: &mut Vec<Step>, piece: &[u8], start: usize, cuts: &[usize], script: &Behaviour) {
    let mut from = 0;
    let inside =
        cuts.iter().filter_map(|cut| cut.checked_sub(start)).filter(|cut| (1..piece.len()).contains(cut));
    for to in inside.chain([piece.len()]) {
        let part = piece.get(from..to).unwrap_or_default();
        from = to;
        if let Some(drip) = script.drip {
            for drop in part.chunks(drip.bytes.max(1)) {
                steps.push(Step::Send(Bytes::copy_from_slice(drop)));
                steps.push(Step::Wait(Duration::from_millis(drip.every_ms)));
            }
        } else if !part.is_empty() {
            steps.push(Step::Send(Bytes::copy_from_slice(part)));
            if !cuts.is_empty() {
                steps.push(Step::Wait(APART));
            }
        }
    }
}

fn offsets(body: &[u8], cut: Option<&Cut>) -> Vec<usize> {
    match cut {
        None => Vec::new(),
        Some(Cut::Each(place)) => places(body, *place),
        Some(Cut::Every(size)) => (0..body.len()).step_by((*size).max(1)).skip(1).collect(),
        Some(Cut::At(offsets)) => {
            let mut sorted = offsets.clone();
            sorted.sort_unstable();
            sorted
        }
    }
}

/// All places of a kind in a body.
fn places(body: &[u8], place: Place) -> Vec<usize> {
    let pairs = body.windows(2).enumerate();
    let found = pairs.filter(|(_, pair)| match (place, pair) {
        (Place::Char, [first, second]) => *first >= 0xc0 && *second >= 0x80,
        (Place::LineEnd, [first, second]) => matches!(first, b'\r' | b'\n') && *second == b'\n',
        // Inside the word "event" at the start of each event but the first.
        (Place::Event, [first, second]) => matches!(first, b'\n' | b'\r') && *second == b'e',
        _ => false,
    });
    found.map(|(i, _)| if place == Place::Event { i + 4 } else { i + 1 }).collect()
}

/// Encodes with a flush after each piece, as a server does that streams.
fn encode(pieces: Vec<Vec<u8>>, coding: Option<&str>) -> Vec<Vec<u8>> {
    match coding {
        Some("gzip") => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let mut encoded = flushed(&pieces, &mut encoder, |encoder| std::mem::take(encoder.get_mut()));
            encoded.extend(encoder.finish());
            encoded
        }
        Some("deflate") => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            let mut encoded = flushed(&pieces, &mut encoder, |encoder| std::mem::take(encoder.get_mut()));
            encoded.extend(encoder.finish());
            encoded
        }
        Some("zstd") => {
            let Ok(mut encoder) = zstd::stream::write::Encoder::new(Vec::new(), 3) else { return pieces };
            let mut encoded = flushed(&pieces, &mut encoder, |encoder| std::mem::take(encoder.get_mut()));
            encoded.extend(encoder.finish());
            encoded
        }
        Some("br") => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            let mut encoded = flushed(&pieces, &mut encoder, |encoder| std::mem::take(encoder.get_mut()));
            encoded.push(encoder.into_inner());
            encoded
        }
        _ => pieces,
    }
}

fn flushed<E: std::io::Write>(
    pieces: &[Vec<u8>],
    encoder: &mut E,
    take: impl Fn(&mut E) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut encoded = Vec::with_capacity(pieces.len() + 1);
    for piece in pieces {
        // Writing to a vector cannot fail.
        let _ = encoder.write_all(piece);
        let _ = encoder.flush();
        encoded.push(take(encoder));
    }
    encoded
}
