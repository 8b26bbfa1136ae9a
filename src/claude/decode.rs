//! Undoes the content coding of an answer, piece by piece, for the copy that is read for its usage. What the client gets
//! is never touched; when this fails, the counting ends and nothing else.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use thiserror::Error;

/// The most bytes that an answer may become.
pub const MAX_DECODED: usize = 16 << 20;

/// How many times longer an answer may become. Text shrinks to a tenth; only a bomb shrinks to less than a hundredth.
pub const MAX_RATIO: usize = 100;

/// Bytes that the ratio is not asked of, as short answers repeat themselves.
const RATIO_FREE: usize = 64 << 10;

/// The largest window of a zstd frame, as a power of two: 8 MiB, which is what senders may count on (RFC 8878 section
/// 3.1.1.1.2).
const MAX_WINDOW_LOG: u32 = 23;

/// How an answer is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// `gzip`, `x-gzip`.
    Gzip,
    /// `deflate`: zlib, or raw as some servers send it.
    Deflate,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
    /// One that is not undone here, or several.
    Other,
}

/// Why the rest of an answer is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The coding is not known here.
    #[error("the content coding is not known")]
    Unsupported,
    /// The bytes are not of that coding.
    #[error("the content coding is damaged")]
    Damaged,
    /// There is too much of it.
    #[error("the decoded answer is too large")]
    TooLarge,
}

impl Coding {
    /// The coding that `Content-Encoding` names.
    #[must_use]
    pub fn of(content_encoding: Option<&[u8]>) -> Self {
        let Some(name) = content_encoding else { return Self::Identity };
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Self::Identity,
            b"gzip" | b"x-gzip" => Self::Gzip,
            b"deflate" => Self::Deflate,
            b"br" => Self::Brotli,
            b"zstd" => Self::Zstd,
            _ => Self::Other,
        }
    }
}

/// Decodes one answer.
pub struct Decoder {
    form: Form,
    taken: usize,
    given: usize,
    error: Option<DecodeError>,
}

/// Decoders buffer what comes out of them in a [`Sink`], which is emptied after each piece.
enum Form {
    Identity,
    Gzip(Box<MultiGzDecoder<Sink>>),
    /// Nothing has come, so that it is not known which of the two it is.
    Deflate,
    Zlib(Box<ZlibDecoder<Sink>>),
    Raw(Box<DeflateDecoder<Sink>>),
    Brotli(Box<brotli::DecompressorWriter<Sink>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
    Other,
}

impl Decoder {
    /// A decoder at the start of an answer.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        let form = match coding {
            Coding::Identity => Form::Identity,
            Coding::Gzip => Form::Gzip(Box::new(MultiGzDecoder::new(Sink::default()))),
            Coding::Deflate => Form::Deflate,
            Coding::Brotli => Form::Brotli(Box::new(brotli::DecompressorWriter::new(Sink::default(), 4096))),
            Coding::Zstd => zstd_decoder().map_or(Form::Other, |decoder| Form::Zstd(Box::new(decoder))),
            Coding::Other => Form::Other,
        };
        Self { form, taken: 0, given: 0, error: None }
    }

    /// Takes the next piece and hands what it decodes to to `on_bytes`.
    ///
    /// # Errors
    /// When the coding is unknown or damaged, or the answer too large. The same error comes back from then on.
    pub fn feed(&mut self, piece: &[u8], on_bytes: impl FnOnce(&[u8])) -> Result<(), DecodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.taken = self.taken.saturating_add(piece.len());
        if let (Form::Identity, false) = (&self.form, piece.is_empty()) {
            on_bytes(piece);
            return Ok(());
        }
        let Some(first) = piece.first() else { return Ok(()) };
        if let Form::Deflate = self.form {
            // RFC 1950: the low four bits of the first byte are 8 and its high bit is clear. A raw block that looks so
            // would be a stored one with padding that is not zero, which nobody writes (RFC 1951 section 3.2.4).
            self.form = if first & 0x8f == 8 {
                Form::Zlib(Box::new(ZlibDecoder::new(Sink::default())))
            } else {
                Form::Raw(Box::new(DeflateDecoder::new(Sink::default())))
            };
        }
        let room = self.taken.saturating_mul(MAX_RATIO).clamp(RATIO_FREE, MAX_DECODED);
        match self.form.decode(piece, room.saturating_sub(self.given)) {
            Ok(bytes) => {
                self.given += bytes.len();
                on_bytes(&bytes);
                Ok(())
            }
            Err(error) => {
                self.error = Some(error);
                self.form = Form::Other;
                Err(error)
            }
        }
    }
}

/// A decoder of zstd; none where the library has no memory for one.
fn zstd_decoder() -> Option<zstd::stream::write::Decoder<'static, Sink>> {
    let mut decoder = zstd::stream::write::Decoder::new(Sink::default()).ok()?;
    decoder.window_log_max(MAX_WINDOW_LOG).ok()?;
    Some(decoder)
}

impl Form {
    fn decode(&mut self, piece: &[u8], room: usize) -> Result<Vec<u8>, DecodeError> {
        match self {
            Self::Gzip(decoder) => {
                decoder.get_mut().room = room;
                let result = decoder.write_all(piece).and_then(|()| decoder.flush());
                decoder.get_mut().take(&result)
            }
            Self::Zlib(decoder) => {
                decoder.get_mut().room = room;
                let result = decoder.write_all(piece).and_then(|()| decoder.flush());
                decoder.get_mut().take(&result)
            }
            Self::Raw(decoder) => {
                decoder.get_mut().room = room;
                let result = decoder.write_all(piece).and_then(|()| decoder.flush());
                decoder.get_mut().take(&result)
            }
            Self::Brotli(decoder) => {
                decoder.get_mut().room = room;
                let result = decoder.write_all(piece).and_then(|()| decoder.flush());
                decoder.get_mut().take(&result)
            }
            Self::Zstd(decoder) => {
                decoder.get_mut().room = room;
                let result = decoder.write_all(piece).and_then(|()| decoder.flush());
                decoder.get_mut().take(&result)
            }
            Self::Identity | Self::Deflate | Self::Other => Err(DecodeError::Unsupported),
        }
    }
}

/// Takes decoded bytes while there is room.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    room: usize,
    is_full: bool,
}

impl Sink {
    fn take(&mut self, result: &io::Result<()>) -> Result<Vec<u8>, DecodeError> {
        match result {
            _ if self.is_full => Err(DecodeError::TooLarge),
            Ok(()) => Ok(std::mem::take(&mut self.bytes)),
            Err(_) => Err(DecodeError::Damaged),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.room {
            self.is_full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;

    use super::{Coding, DecodeError, Decoder, MAX_DECODED};

    const TEXT: &str = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n: é\n\n";

    fn coded(text: &[u8]) -> Vec<(Coding, Vec<u8>)> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(text).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(text).unwrap();
        let mut br = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
        br.write_all(text).unwrap();
        vec![
            (Coding::Identity, text.to_vec()),
            (Coding::Gzip, gzip.finish().unwrap()),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Deflate, raw.finish().unwrap()),
            (Coding::Brotli, br.into_inner()),
            (Coding::Zstd, zstd::encode_all(text, 3).unwrap()),
        ]
    }

    fn decode(coding: Coding, bytes: &[u8], step: usize) -> Result<Vec<u8>, DecodeError> {
        let (mut decoder, mut plain) = (Decoder::new(coding), Vec::new());
        for piece in bytes.chunks(step) {
            decoder.feed(piece, |bytes| plain.extend_from_slice(bytes))?;
        }
        Ok(plain)
    }

    #[test]
    fn codings_are_read_off_the_header() {
        let table = [
            (None, Coding::Identity),
            (Some("identity"), Coding::Identity),
            (Some(" GZip"), Coding::Gzip),
            (Some("x-gzip"), Coding::Gzip),
            (Some("deflate"), Coding::Deflate),
            (Some("br"), Coding::Brotli),
            (Some("zstd"), Coding::Zstd),
            (Some("compress"), Coding::Other),
            (Some("gzip, br"), Coding::Other),
        ];
        for (header, expected) in table {
            assert_eq!(Coding::of(header.map(str::as_bytes)), expected, "{header:?}");
        }
    }

    #[test]
    fn every_coding_is_undone_at_every_split() {
        for (coding, bytes) in coded(TEXT.as_bytes()) {
            for step in 1..=bytes.len() {
                assert_eq!(
                    decode(coding, &bytes, step).as_deref(),
                    Ok(TEXT.as_bytes()),
                    "{coding:?} by {step}"
                );
            }
        }
    }

    #[test]
    fn what_has_been_flushed_comes_out_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut decoder = Decoder::new(Coding::Gzip);
        for number in 0..5 {
            let event = format!("data: {number}\n\n");
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let piece = std::mem::take(encoder.get_mut());
            let mut plain = Vec::new();

            decoder.feed(&piece, |bytes| plain.extend_from_slice(bytes)).unwrap();

            assert_eq!(plain, event.as_bytes());
        }
    }

    #[test]
    fn what_zstd_has_flushed_comes_out_at_once_in_one_frame_or_several() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        let mut decoder = Decoder::new(Coding::Zstd);
        for number in 0..5 {
            let event = format!("data: {number}\n\n");
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let mut plain = Vec::new();

            decoder.feed(&std::mem::take(encoder.get_mut()), |bytes| plain.extend_from_slice(bytes)).unwrap();

            assert_eq!(plain, event.as_bytes());
        }
        let frames = [zstd::encode_all(&b"one"[..], 3).unwrap(), zstd::encode_all(&b"two"[..], 19).unwrap()];
        assert_eq!(decode(Coding::Zstd, &frames.concat(), 2).as_deref(), Ok(&b"onetwo"[..]));
    }

    #[test]
    fn a_frame_of_zstd_with_a_window_that_is_too_large_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(super::MAX_WINDOW_LOG + 1).unwrap();
        encoder.write_all(&[7; 1000]).unwrap();

        assert_eq!(decode(Coding::Zstd, &encoder.finish().unwrap(), 64), Err(DecodeError::Damaged));
    }

    #[test]
    fn bombs_and_damage_end_the_counting() {
        let zeros = vec![0; 4 << 20];
        for (coding, bytes) in coded(&zeros).into_iter().skip(1) {
            assert_eq!(decode(coding, &bytes, 512), Err(DecodeError::TooLarge), "{coding:?}");
        }
        let steps =
            std::iter::successors(Some(1_u64), |step| Some(step.wrapping_mul(0x5851_f42d_4c95_7f2d) + 11));
        let noise: Vec<u8> = steps.take(MAX_DECODED / 8 + 10).flat_map(u64::to_le_bytes).collect();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
        gzip.write_all(&noise).unwrap();
        assert_eq!(decode(Coding::Gzip, &gzip.finish().unwrap(), 1 << 16), Err(DecodeError::TooLarge));
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
            assert_eq!(decode(coding, &[0xff; 64], 7), Err(DecodeError::Damaged), "{coding:?}");
        }
        let mut decoder = Decoder::new(Coding::Other);
        assert_eq!(decoder.feed(b"x", |_| {}), Err(DecodeError::Unsupported));
        assert_eq!(decoder.feed(b"x", |_| {}), Err(DecodeError::Unsupported));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd, Coding::Other] {
                let _ = decode(coding, &bytes, step);
            }
        }

        #[test]
        fn any_text_comes_back(text in prop::collection::vec(any::<u8>(), 1..3000), step in 1_usize..500) {
            for (coding, bytes) in coded(&text) {
                let plain = decode(coding, &bytes, step);
                prop_assert_eq!(plain.as_deref(), Ok(text.as_slice()), "{:?}", coding);
            }
        }
    }
}
