//! Where one WebSocket frame ends and the next begins (RFC 6455 section 5.2), and the frame that says that we leave. What
//! frames carry is not looked at.

/// A close frame of a server with status 1001, "going away".
pub(super) const GOING_AWAY: &[u8] = &[0x88, 0x02, 0x03, 0xE9];

/// The same from a client. What it says is no secret and nobody else's text, so the mask, which keeps intermediaries from
/// taking chosen bytes for something else, may be zero.
pub(super) const GOING_AWAY_MASKED: &[u8] = &[0x88, 0x82, 0x00, 0x00, 0x00, 0x00, 0x03, 0xE9];

const OPCODE: u8 = 0x0F;
const OPCODE_CLOSE: u8 = 0x08;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const LONGEST_HEAD: usize = 14;

/// Follows the frames of one direction.
#[derive(Default)]
pub(super) struct Frames {
    head: [u8; LONGEST_HEAD],
    /// How much of the next head is known.
    known: usize,
    /// How much of the payload is still to come.
    left: u64,
    end: Ending,
}

/// Whether this direction may still get a frame of ours.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ending {
    /// It may.
    #[default]
    Open,
    /// It has had its close frame, or what it carries are no frames.
    Over,
}

impl Frames {
    /// Reads on, past bytes that are on their way.
    pub(super) fn follow(&mut self, mut data: &[u8]) {
        while !data.is_empty() && self.end == Ending::Open {
            if self.left > 0 {
                let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
                self.left -= skipped as u64;
                data = data.get(skipped..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = data.split_first() else { return };
            if let Some(place) = self.head.get_mut(self.known) {
                *place = *first;
                self.known += 1;
            }
            data = rest;
            if self.known >= 2 && self.known == self.head_size() {
                self.begin();
            }
        }
    }

    /// True between two frames.
    pub(super) const fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0
    }

    /// True while a frame of ours may follow at the next border.
    pub(super) fn may_end(&self) -> bool {
        self.end == Ending::Open
    }

    fn head_size(&self) -> usize {
        let [_, second, ..] = self.head;
        let length = match second & LENGTH {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & MASKED == 0 { 0 } else { 4 }
    }

    /// Takes in a whole head.
    fn begin(&mut self) {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.head;
        self.known = 0;
        self.left = match second & LENGTH {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        match first & OPCODE {
            0..=2 | 9 | 10 => {}
            // Behind a close frame nothing may follow; an unknown kind shows that these are no frames.
            OPCODE_CLOSE | 3..=7 | 11.. => self.end = Ending::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, GOING_AWAY, GOING_AWAY_MASKED};

    fn frame(first: u8, mask: bool, payload: usize) -> Vec<u8> {
        let bit = if mask { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload {
            0..=125 => frame.push(bit | u8::try_from(payload).unwrap()),
            126..=65_535 => {
                frame.push(bit | 126);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        if mask {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(vec![0x88; payload]);
        frame
    }

    #[test]
    fn borders_are_found_however_the_bytes_are_cut() {
        let frames =
            [(0x01, true, 0), (0x80, false, 125), (0xC2, true, 126), (0x89, false, 5), (0x82, true, 70_000)];
        let (mut bytes, mut borders) = (Vec::new(), vec![0]);
        for (first, mask, payload) in frames {
            bytes.extend(frame(first, mask, payload));
            borders.push(bytes.len());
        }

        for step in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut follower = Frames::default();
            let mut at = 0;
            for piece in bytes.chunks(step) {
                assert_eq!(follower.is_between(), borders.contains(&at), "at {at} by {step}");
                follower.follow(piece);
                at += piece.len();
            }
            assert!(follower.is_between() && follower.may_end(), "by {step}");
        }
    }

    #[test]
    fn nothing_follows_a_close_frame_or_what_is_no_frame() {
        for bytes in [GOING_AWAY, GOING_AWAY_MASKED, b"welcome to something else"] {
            let mut follower = Frames::default();

            follower.follow(bytes);

            assert!(!follower.may_end(), "{bytes:?}");
        }
    }
}
