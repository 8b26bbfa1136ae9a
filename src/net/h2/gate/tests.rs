//! Tests of the gate: each limit at its edge, what is never refused, and that pieces make no difference.

use std::time::Duration;

use proptest::prelude::{Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use tokio::time::Instant;

use super::{Flood, FrameGate, Standing};
use crate::config::Http2Limits;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LIMITS: fn() -> Http2Limits = || Http2Limits {
    total: 50,
    continuation: 3,
    resets: 5,
    control: 7,
    flood_window: Duration::from_secs(10),
    ..Http2Limits::default()
};

/// A frame with a payload of zeros.
fn frame(kind: u8, flags: u8, stream: u32, length: u8) -> Vec<u8> {
    frame_with(kind, flags, stream, &vec![0; usize::from(length)])
}

fn frame_with(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l2, l1, l0] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[l2, l1, l0, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// A gate behind the preface.
fn gate() -> FrameGate {
    let mut gate = FrameGate::new(&LIMITS());
    gate.receive(PREFACE, Instant::now()).unwrap();
    gate
}

/// A `RST_STREAM` of ours.
fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame_with(3, 0, stream, &code.to_be_bytes())
}

#[tokio::test(start_paused = true)]
async fn each_limit_holds_to_its_last_frame() {
    let table: [(&str, Vec<u8>, usize, Flood); 8] = [
        ("continuation", frame(9, 0, 1, 5), 3, Flood::Continuation),
        ("resets", frame(3, 0, 1, 4), 5, Flood::Resets),
        ("pings", frame(6, 0, 0, 8), 7, Flood::Control),
        ("pongs", frame(6, 1, 0, 8), 7, Flood::Control),
        ("settings", frame(4, 0, 0, 6), 7, Flood::Control),
        ("priorities", frame(2, 0, 1, 5), 7, Flood::Control),
        ("empty data", frame(0, 0, 1, 0), 7, Flood::Control),
        ("padding", frame_with(0, 8, 1, &[3, 0, 0, 0]), 7, Flood::Control),
    ];
    for (name, bytes, allowed, flood) in table {
        let mut gate = gate();
        for _ in 0..allowed {
            assert_eq!(gate.receive(&bytes, Instant::now()), Ok(()), "{name}");
        }

        assert_eq!(gate.standing(), Standing::Good, "{name}");
        assert_eq!(gate.receive(&bytes, Instant::now()), Err(flood), "{name}");
        assert_eq!(gate.standing(), Standing::Flooded(flood), "{name}");
        assert_eq!(gate.receive(&[], Instant::now()), Err(flood), "{name}: a flood stays one");
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_of_control_frames_share_a_limit_and_time_forgives() {
    let mut gate = gate();
    let mixed = [frame(6, 0, 0, 8), frame(4, 0, 0, 0), frame(2, 0, 1, 5), frame(0, 0, 1, 0)].concat();
    for _ in 0..20 {
        assert_eq!(gate.receive(&mixed, Instant::now()), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    gate.receive(&mixed, Instant::now()).unwrap();
    tokio::time::advance(Duration::from_millis(9_999)).await;

    assert_eq!(gate.receive(&mixed, Instant::now()), Err(Flood::Control));
}

#[test]
fn a_new_head_may_have_continuations_again() {
    let mut gate = gate();
    for i in 0..20 {
        let head = [frame(1, 0, 2 * i + 1, 9), frame(9, 0, 2 * i + 1, 9).repeat(3)].concat();

        assert_eq!(gate.receive(&head, Instant::now()), Ok(()));
    }
}

#[test]
fn traffic_that_needs_no_answer_is_not_counted() {
    let mut gate = gate();
    let now = Instant::now();
    let bytes = [
        frame(8, 0, 0, 4),    // WINDOW_UPDATE of the connection
        frame(8, 0, 1, 4),    // WINDOW_UPDATE of a stream
        frame(0, 0, 1, 100),  // DATA
        frame(0, 1, 1, 0),    // the end of an upload
        frame(0x10, 0, 0, 9), // PRIORITY_UPDATE (RFC 9218)
        frame(0xb, 0, 1, 20), // an unknown kind, as some clients send to keep servers tolerant
        frame(1, 1, 1, 20),   // HEADERS
    ];
    for _ in 0..10_000 {
        gate.receive(&bytes.concat(), now).unwrap();
        gate.send(&[frame(0, 0, 1, 200), frame(8, 0, 1, 4), frame(6, 1, 0, 8)].concat(), now).unwrap();
    }

    assert_eq!(gate.standing(), Standing::Good);
}

#[test]
fn streams_are_counted_once_and_a_client_that_will_not_leave_is_a_flood() {
    let mut gate = gate();
    let now = Instant::now();
    for i in 0..50 {
        assert_eq!(gate.standing(), Standing::Good, "{i}");
        // The second head holds trailers.
        gate.receive(&[frame(1, 4, 2 * i + 1, 9), frame(1, 5, 2 * i + 1, 9)].concat(), now).unwrap();
    }
    assert_eq!(gate.standing(), Standing::Spent);
    for i in 50..1050 {
        gate.receive(&frame(1, 5, 2 * i + 1, 9), now).unwrap();
    }

    assert_eq!(gate.standing(), Standing::Spent);
    assert_eq!(gate.receive(&frame(1, 5, 2101, 9), now), Err(Flood::Streams));
}

#[test]
fn resets_of_ours_count_when_the_client_provoked_them() {
    let table =
        [(0x0, true), (0x2, true), (0x8, true), (0x1, false), (0x3, false), (0x5, false), (0x6, false)];
    for (code, is_free) in table {
        let mut gate = gate();

        let verdict = gate.send(&reset(1, code).repeat(6), Instant::now());

        assert_eq!(verdict.is_ok(), is_free, "code {code}");
    }
}

#[test]
fn resets_of_both_sides_share_a_limit() {
    let mut gate = gate();
    gate.receive(&frame(3, 0, 1, 4).repeat(3), Instant::now()).unwrap();
    gate.send(&reset(3, 1).repeat(2), Instant::now()).unwrap();

    assert_eq!(gate.send(&reset(3, 1), Instant::now()), Err(Flood::Resets));
}

#[test]
fn streams_over_the_limit_are_forgiven_until_the_client_knows_it() {
    let mut gate = gate();
    let now = Instant::now();
    gate.receive(&frame(1, 5, 41, 9), now).unwrap();
    gate.send(&reset(41, 7).repeat(20), now).unwrap();
    gate.receive(&frame(4, 1, 0, 0), now).unwrap();
    gate.send(&reset(41, 7).repeat(20), now).unwrap();
    assert_eq!(gate.standing(), Standing::Good);

    assert_eq!(gate.send(&reset(43, 7).repeat(6), now), Err(Flood::Resets));
}

#[test]
fn the_last_words_name_the_last_stream_and_keep_to_earlier_promises() {
    let mut gate = gate();
    let now = Instant::now();
    gate.receive(&frame(1, 5, 9, 9), now).unwrap();
    assert_eq!(gate.last_words(), None, "in good order");
    gate.receive(&frame(6, 0, 0, 8).repeat(8), now).unwrap_err();
    assert_eq!(gate.last_words().unwrap(), [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 11]);

    gate.send(&frame_with(7, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]), now).unwrap_err();

    assert_eq!(gate.last_words().unwrap()[9..], [0, 0, 0, 5, 0, 0, 0, 11]);
}

#[test]
fn the_last_words_never_interrupt_a_frame() {
    let now = Instant::now();
    let answer = frame(0, 1, 1, 100);
    for cut in 0..=answer.len() {
        let mut gate = gate();
        gate.receive(&frame(6, 0, 0, 8).repeat(8), now).unwrap_err();

        gate.send(&answer[..cut], now).unwrap_err();

        assert_eq!(gate.last_words().is_some(), cut == 0 || cut == answer.len(), "{cut}");
    }
}

#[test]
fn the_answer_to_the_parting_ping_is_owed_until_it_comes() {
    let now = Instant::now();
    let answer = frame_with(6, 1, 0, &[9; 8]);
    let mut gate = gate();
    gate.send(&frame_with(6, 0, 0, &[1; 8]), now).unwrap();
    assert_eq!(gate.owed_answer(), None, "to a ping that keeps the connection alive");
    gate.send(&[frame(7, 0, 0, 8), frame_with(6, 0, 0, &[9; 8])].concat(), now).unwrap();
    gate.send(&frame_with(6, 0, 0, &[1; 8]), now).unwrap();
    assert_eq!(gate.owed_answer().unwrap(), answer[..]);

    gate.receive(&answer[..3], now).unwrap();
    assert_eq!(gate.owed_answer(), None, "in the middle of a frame");
    gate.receive(&answer[3..], now).unwrap();

    assert_eq!(gate.owed_answer(), None);
}

/// Frames of all kinds, so many of them that some runs are floods and others are not.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![0..10_u8, 0..10_u8, any::<u8>()];
    let frame = (kind, any::<u8>(), 0..40_u32, prop::collection::vec(0..6_u8, 0..12))
        .prop_map(|(kind, flags, stream, payload)| frame_with(kind, flags, stream, &payload));
    let frames = prop::collection::vec(frame, 0..40).prop_map(|frames| frames.concat());
    prop_oneof![4 => frames, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// What can be seen of a gate.
fn seen(gate: &FrameGate) -> (Standing, [Option<[u8; 17]>; 2], u32, u32) {
    (gate.standing(), [gate.last_words(), gate.owed_answer()], gate.streams, gate.last_stream)
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        received in traffic(),
        sent in traffic(),
        sizes in prop::collection::vec(0..24_usize, 1..20),
    ) {
        let now = Instant::now();
        let received = [PREFACE, &received].concat();
        let mut whole = FrameGate::new(&LIMITS());
        let _ = whole.receive(&received, now);
        let _ = whole.send(&sent, now);

        let mut pieces = FrameGate::new(&LIMITS());
        for (bytes, is_received) in [(&received, true), (&sent, false)] {
            let (mut rest, mut sizes) = (&bytes[..], sizes.iter().chain([&1]).cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                let _ = if is_received { pieces.receive(piece, now) } else { pieces.send(piece, now) };
                rest = after;
            }
        }

        prop_assert_eq!(seen(&whole), seen(&pieces));
    }
}
