//! Where the frames of one direction of an HTTP/2 connection begin and end (RFC 9113 section 4.1). What they carry is not
//! looked at, but for the first octets of the few kinds of which the gate wants to know more.

/// Kinds of frames (RFC 9113 section 6).
pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const CONTINUATION: u8 = 0x9;

/// Flags. `ACK` and `END_STREAM` are the same bit of different kinds.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;

/// The octets of a frame's header.
const HEADER: usize = 9;

/// A frame, told as soon as its header and the octets of interest are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) length: u32,
    /// The first octets of the payload, as many as [`of_interest`] says; else zero.
    pub(super) first: [u8; 8],
}

impl Frame {
    /// The first 32 bits of the payload: the code of `RST_STREAM`, the last stream of GOAWAY.
    pub(super) const fn first_word(&self) -> u32 {
        let [w3, w2, w1, w0, ..] = self.first;
        u32::from_be_bytes([w3, w2, w1, w0])
    }

    /// True for DATA that carries no data and ends nothing; padding is no data.
    pub(super) const fn is_empty_data(&self) -> bool {
        let [padding, ..] = self.first;
        let is_empty = self.length == 0 || (self.flags & PADDED != 0 && self.length == padding as u32 + 1);
        self.kind == DATA && self.flags & END_STREAM == 0 && is_empty
    }
}

/// How many octets of a payload are of interest.
const fn of_interest(kind: u8, flags: u8, length: u32) -> usize {
    let wanted = match kind {
        DATA if flags & PADDED != 0 => 1,
        RST_STREAM | GOAWAY => 4,
        PING => 8,
        _ => 0,
    };
    if length < wanted { length as usize } else { wanted as usize }
}

/// Follows the frames of one direction, whatever pieces they come in.
pub(super) struct Frames {
    /// Octets to pass over: the preface at first, then payloads.
    skip: u32,
    /// The header of the frame that has begun, and the octets of interest behind it.
    head: [u8; HEADER + 8],
    have: usize,
    need: usize,
}

impl Frames {
    /// A direction that begins with `preface` octets that are no frame.
    pub(super) const fn new(preface: u32) -> Self {
        Self { skip: preface, head: [0; HEADER + 8], have: 0, need: HEADER }
    }

    /// True when no frame is half passed.
    pub(super) const fn is_at_border(&self) -> bool {
        self.skip == 0 && self.have == 0
    }

    /// Takes bytes from `input` up to and with the next frame's header; `None` when they are used up before.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Option<Frame> {
        let skipped = input.len().min(self.skip as usize);
        *input = input.get(skipped..)?;
        // Cannot be cut short: `skipped` is at most `self.skip`.
        self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
        loop {
            let room = self.head.get_mut(self.have..self.need)?;
            let take = room.len().min(input.len());
            let (taken, rest) = input.split_at_checked(take)?;
            room.get_mut(..take)?.copy_from_slice(taken);
            *input = rest;
            self.have += take;
            if self.have < self.need {
                return None;
            }
            let frame = self.frame();
            let wanted = of_interest(frame.kind, frame.flags, frame.length);
            if self.have == HEADER + wanted {
                self.skip = frame.length.saturating_sub(u32::try_from(wanted).unwrap_or(0));
                (self.have, self.need) = (0, HEADER);
                return Some(frame);
            }
            self.need = HEADER + wanted;
        }
    }

    fn frame(&self) -> Frame {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0, first @ ..] = self.head;
        let mut frame = Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]),
            length: u32::from_be_bytes([0, l2, l1, l0]),
            first,
        };
        // What is behind `have` was left there by an earlier frame.
        for octet in frame.first.iter_mut().skip(self.have - HEADER) {
            *octet = 0;
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Frames};

    fn all(frames: &mut Frames, mut input: &[u8]) -> Vec<Frame> {
        std::iter::from_fn(|| frames.next(&mut input)).collect()
    }

    #[test]
    fn frames_are_told_one_by_one_and_payloads_passed_over() {
        let bytes = [
            &b"preface!"[..],
            &[0, 0, 0, 4, 0, 0, 0, 0, 0],
            &[0, 0, 3, 0, 0, 0, 0, 0, 1, b'a', b'b', b'c'],
            &[0, 0, 4, 3, 0, 0x80, 0, 0, 5, 0, 0, 0, 8],
            &[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 9],
        ]
        .concat();
        let mut frames = Frames::new(8);

        let told = all(&mut frames, &bytes);

        let parts: Vec<_> = told.iter().map(|f| (f.kind, f.stream, f.length, f.first_word())).collect();
        assert_eq!(parts, [(4, 0, 0, 0), (0, 1, 3, 0), (3, 5, 4, 8), (6, 0, 8, 0x0102_0304), (3, 5, 4, 9)]);
        assert_eq!(told[3].first, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(told[4].first, [0, 0, 0, 9, 0, 0, 0, 0]);
        assert!(frames.is_at_border());
    }

    #[test]
    fn a_border_is_only_between_whole_frames() {
        let mut frames = Frames::new(0);
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        for octet in &ping[..16] {
            all(&mut frames, &[*octet]);

            assert!(!frames.is_at_border());
        }
        all(&mut frames, &ping[16..]);

        assert!(frames.is_at_border());
    }

    #[test]
    fn data_is_empty_without_data_of_its_own_unless_it_ends_the_stream() {
        let table: [(&[u8], bool); 7] = [
            (&[0, 0, 0, 0, 0, 0, 0, 0, 1], true),
            (&[0, 0, 0, 0, 1, 0, 0, 0, 1], false),
            (&[0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'], false),
            (&[0, 0, 1, 0, 8, 0, 0, 0, 1, 0], true),
            (&[0, 0, 3, 0, 8, 0, 0, 0, 1, 2, 0, 0], true),
            (&[0, 0, 3, 0, 8, 0, 0, 0, 1, 1, b'x', 0], false),
            (&[0, 0, 0, 6, 0, 0, 0, 0, 0], false),
        ];
        for (bytes, expected) in table {
            let told = all(&mut Frames::new(0), bytes);

            assert_eq!(told.len(), 1, "{bytes:?}");
            assert_eq!(told[0].is_empty_data(), expected, "{bytes:?}");
        }
    }
}
