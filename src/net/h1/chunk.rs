//! The chunked coding (RFC 9112 section 7.1): a strict decoder, and the encoder's one line.
//!
//! Extensions and trailer fields are checked, counted and dropped. They are never relayed, as two readers of them would
//! be one too many.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::{Limits, head::is_token_byte};

/// Decodes one chunked body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Octets of framing that may still come: grows with the data, so that a long body may have many chunks but no
    /// body may be mostly framing (CVE-2023-39326).
    allowance: u64,
    trailers: usize,
    trailers_size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    End,
}

/// What one step of decoding gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Data of a chunk.
    Data(Bytes),
    /// Nothing before more bytes arrive; about this many of them are known to come.
    More(u64),
    /// The body has ended cleanly.
    End,
}

/// The framing is malformed or over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Decoder {
    /// A decoder at the start of a body.
    #[must_use]
    pub const fn new(limits: &Limits) -> Self {
        Self { state: State::Size, allowance: limits.chunk_overhead, trailers: 0, trailers_size: 0 }
    }

    /// Takes what can be decoded off the front of `buffer`.
    ///
    /// # Errors
    /// When the framing is malformed or over a limit: the message cannot be read further.
    pub fn decode(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Decoded, Malformed> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(buffer, limits.chunk_line)? else {
                        return Ok(Decoded::More(0));
                    };
                    self.spend(line.len() as u64 + 2)?;
                    let size = parse_size_line(&line)?;
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Decoded::More(left));
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let data = buffer.split_to(take).freeze();
                    let left = left - take as u64;
                    self.allowance = self.allowance.saturating_add(take as u64);
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Decoded::Data(data));
                }
                State::DataEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::More(0)),
                    _ => return Err(Malformed),
                },
                State::Trailers => {
                    let limit = limits.trailers_size - self.trailers_size;
                    let Some(line) = take_line(buffer, limit)? else { return Ok(Decoded::More(0)) };
                    if line.is_empty() {
                        self.state = State::End;
                    } else {
                        self.trailers += 1;
                        self.trailers_size += line.len();
                        if self.trailers > limits.trailers || !is_field_line(&line) {
                            return Err(Malformed);
                        }
                    }
                }
                State::End => return Ok(Decoded::End),
            }
        }
    }

    fn spend(&mut self, octets: u64) -> Result<(), Malformed> {
        self.allowance = self.allowance.checked_sub(octets).ok_or(Malformed)?;
        Ok(())
    }
}

/// Takes one line without its CRLF; `None` while it is not whole.
fn take_line(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, Malformed> {
    let Some(end) = memchr(b'\n', buffer) else {
        let is_faulty =
            |(at, byte): (usize, &u8)| is_control(*byte) && !(*byte == b'\r' && at + 1 == buffer.len());
        let length = buffer.len() - usize::from(buffer.last() == Some(&b'\r'));
        if length > limit || buffer.iter().enumerate().any(is_faulty) {
            return Err(Malformed);
        }
        return Ok(None);
    };
    let Some(end) = end.checked_sub(1).filter(|end| buffer.get(*end) == Some(&b'\r')) else {
        return Err(Malformed);
    };
    if end > limit {
        return Err(Malformed);
    }
    let line = buffer.split_to(end).freeze();
    buffer.advance(2);
    if line.iter().any(|byte| is_control(*byte)) { Err(Malformed) } else { Ok(Some(line)) }
}

const fn is_control(byte: u8) -> bool {
    matches!(byte, 0..=0x08 | 0x0a..=0x1f | 0x7f)
}

/// One to sixteen hexadecimal digits below 2^63, then nothing or `;` and extensions. Spaces may stand before the `;`.
fn parse_size_line(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (hex, rest) = line.split_at_checked(digits).ok_or(Malformed)?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let extension = rest.iter().position(|byte| !is_blank(byte)).map(|at| rest.get(at).copied());
    if digits == 0 || digits > 16 || !(rest.is_empty() || extension == Some(Some(b';'))) {
        return Err(Malformed);
    }
    let text = std::str::from_utf8(hex).map_err(|_| Malformed)?;
    let size = u64::from_str_radix(text, 16).map_err(|_| Malformed)?;
    if size >= 1 << 63 { Err(Malformed) } else { Ok(size) }
}

fn is_field_line(line: &[u8]) -> bool {
    memchr(b':', line)
        .is_some_and(|colon| colon > 0 && line.iter().take(colon).all(|byte| is_token_byte(*byte)))
}

/// Writes the line that starts a chunk of `size` octets.
pub fn write_size_line(out: &mut BytesMut, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [0; 18];
    let (mut at, mut left) = (16, size);
    line[16..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        line[at] = DIGITS[left & 15];
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(line.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::{Decoded, Decoder, Malformed, write_size_line};
    use crate::{config, net::h1::Limits};

    fn limits() -> Limits {
        Limits::downstream(&config::Limits::default(), config::Underscores::Drop)
    }

    /// Decodes `text`, arriving in pieces of `step` bytes.
    fn decode(text: &[u8], step: usize) -> Result<(Vec<u8>, bool), Malformed> {
        let limits = limits();
        let (mut decoder, mut buffer, mut data) = (Decoder::new(&limits), BytesMut::new(), Vec::new());
        for piece in text.chunks(step) {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer, &limits)? {
                    Decoded::Data(bytes) => data.extend_from_slice(&bytes),
                    Decoded::More(_) => break,
                    Decoded::End => return Ok((data, true)),
                }
            }
        }
        Ok((data, false))
    }

    #[test]
    fn reads_well_formed_bodies_at_every_split() {
        let table: &[(&[u8], &[u8])] = &[
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"005\r\nhello\r\n1\r\n!\r\n000\r\n\r\n", b"hello!"),
            (b"A;name=value;flag\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n", b"0123456789"),
            (b"5 ;x\r\nhello\r\n0;end\r\n\r\n", b"hello"),
        ];
        for (text, expected) in table {
            for step in 1..=text.len() {
                assert_eq!(decode(text, step), Ok((expected.to_vec(), true)), "step {step}");
            }
        }
    }

    #[test]
    fn refuses_framing_that_two_readers_could_read_in_two_ways() {
        let table: &[&[u8]] = &[
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloX0\r\n\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5_0\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"\r\nhello\r\n",
            b"5;a\x00b\r\nhello\r\n",
            b"5;a\rb\r\nhello\r\n",
            b"8000000000000000\r\n",
            b"00000000000000005\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\nbad name : x\r\n\r\n",
            b"0\r\nX: 1\n\r\n",
        ];
        for text in table {
            for step in 1..=text.len() {
                assert_eq!(decode(text, step), Err(Malformed), "{} by {step}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn framing_may_not_outgrow_the_data() {
        let text =
            "1;extension-of-a-hundred-octets-or-so-that-carries-nothing-at-all-but-costs-the-reader\r\nx\r\n"
                .repeat(300);

        assert_eq!(decode(text.as_bytes(), 4096), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_data_or_a_refusal(text in proptest::collection::vec(any::<u8>(), 0..200), step in 1_usize..20) {
            let _ = decode(&text, step);
        }

        #[test]
        fn what_is_encoded_is_decoded(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 0..8), step in 1_usize..40) {
            let mut text = BytesMut::new();
            for part in &parts {
                write_size_line(&mut text, part.len());
                text.extend_from_slice(part);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");

            prop_assert_eq!(decode(&text, step), Ok((parts.concat(), true)));
        }
    }
}
