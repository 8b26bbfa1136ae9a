//! Making a coding of a body. It takes the time it takes, so never on a thread that serves requests.

use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::{rfc9111::Coding, to_u64};

/// How hard to try. Servers that code while they answer commonly use these: text loses four fifths, and a megabyte takes
/// tens of milliseconds. The next steps up double the time for a few percent.
const BROTLI_QUALITY: i32 = 5;
const GZIP_LEVEL: u32 = 6;

/// The bounds of brotli's window, as powers of two (RFC 7932 section 9.1). It is made to fit the body, since the encoder
/// takes memory by it.
const SMALLEST_WINDOW: u32 = 16;
const LARGEST_WINDOW: u32 = 22;

/// The body in a coding; `None` where that is no smaller. Takes at most the memory of the body for its output.
#[must_use]
pub fn encode(coding: Coding, body: &[u8]) -> Option<Bytes> {
    let mut output = Bounded { bytes: Vec::new(), most: body.len().checked_sub(1)? };
    match coding {
        Coding::Brotli => {
            let length = to_u64(body.len());
            let window = (length.ilog2() + 1).clamp(SMALLEST_WINDOW, LARGEST_WINDOW);
            let params = BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: i32::try_from(window).unwrap_or_default(),
                size_hint: body.len(),
                ..BrotliEncoderParams::default()
            };
            brotli::BrotliCompress(&mut &*body, &mut output, &params).ok()?;
        }
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(&mut output, Compression::new(GZIP_LEVEL));
            encoder.write_all(body).ok()?;
            encoder.finish().ok()?;
        }
    }
    Some(Bytes::from(output.bytes.into_boxed_slice()))
}

/// Takes no more bytes than are of use.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.most.saturating_sub(self.bytes.len()) {
            return Err(io::Error::other("the coded body is no smaller"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest};

    use super::{Coding, encode};

    fn decode(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        match coding {
            Coding::Brotli => brotli::BrotliDecompress(&mut &*coded, &mut body).unwrap(),
            Coding::Gzip => drop(GzDecoder::new(coded).read_to_end(&mut body).unwrap()),
        }
        body
    }

    #[test]
    fn text_becomes_smaller_and_comes_back_the_same() {
        for size in [1_100, 70_000, 1 << 20, 5 << 20] {
            let line = b"{\"challenge\": \"be kind\", \"difficulty\": 3},\n";
            let body: Vec<u8> = line.iter().copied().cycle().take(size).collect();
            for coding in Coding::ALL {
                let coded = encode(coding, &body).unwrap();

                assert!(coded.len() < size / 5, "{coding:?} {size}: {}", coded.len());
                assert_eq!(decode(coding, &coded), body, "{coding:?} {size}");
                assert_eq!(encode(coding, &body).unwrap(), coded, "equal bytes have equal codings");
            }
        }
    }

    #[test]
    fn what_grows_is_given_up() {
        let mut seed = 1_u64;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed.to_be_bytes()[0]
            })
            .collect();
        for coding in Coding::ALL {
            assert_eq!(encode(coding, &noise), None, "{coding:?}");
            assert_eq!(encode(coding, b""), None);
            assert_eq!(encode(coding, b"a"), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_the_same_or_not_at_all(seed in vec(any::<u8>(), 0..300), times in 1_usize..40) {
            let body = seed.repeat(times);
            for coding in Coding::ALL {
                if let Some(coded) = encode(coding, &body) {
                    prop_assert!(coded.len() < body.len());
                    prop_assert_eq!(decode(coding, &coded), body.clone());
                }
            }
        }
    }
}
