//! A digest of an answer as its body passes: of what it says, not of how it was sent. Gzip is undone, as its header may
//! carry the time of day; of JSON the members that do not count are left out. Nothing of the body is held.

use std::{
    io::{self, Write},
    sync::Arc,
};

use flate2::write::MultiGzDecoder;
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use super::scan::{Ignored, Scanner};
use crate::cache::rfc9111::ResponseHead;

/// The most bytes that a body may become when its gzip is undone.
const MAX_UNPACKED: u64 = 8 << 20;

/// JSON is scanned in pieces of this size, so that what is left of a piece fits a small buffer.
const PIECE: usize = 4096;

/// The first half of a SHA-256.
pub(super) type Digest = [u8; 16];

/// A digest in the making.
pub(super) struct BodyDigest {
    form: Form,
    left: u64,
}

enum Form {
    Plain(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
}

/// Takes the plain bytes.
struct Sink {
    hash: Sha256,
    scanner: Option<Box<Scanner>>,
    kept: Vec<u8>,
    left: u64,
}

impl BodyDigest {
    /// Begins the digest of an answer: of its status, of where it points, and of a body of at most `limit` bytes.
    pub(super) fn new(response: &ResponseHead<'_>, limit: u64, ignored: &Arc<Ignored>) -> Self {
        let mut hash = Sha256::new();
        hash.update(response.status.as_u16().to_be_bytes());
        for location in response.headers.get_all(header::LOCATION) {
            hash.update(location.as_bytes());
            hash.update([0]);
        }
        let coding = coding(response.headers);
        let is_readable = coding != Coding::Other && is_json(response.headers) && !ignored.is_empty();
        let scanner = is_readable.then(|| Box::new(Scanner::new(Arc::clone(ignored))));
        let sink = Sink { hash, scanner, kept: Vec::new(), left: MAX_UNPACKED };
        let form = match coding {
            Coding::Gzip => Form::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Coding::None | Coding::Other => Form::Plain(sink),
        };
        Self { form, left: limit.min(MAX_UNPACKED) }
    }

    /// Reads on; false when there will be no digest.
    pub(super) fn push(&mut self, data: &[u8]) -> bool {
        let Some(left) = self.left.checked_sub(data.len() as u64) else { return false };
        self.left = left;
        match &mut self.form {
            Form::Plain(sink) => sink.write_all(data).is_ok(),
            Form::Gzip(decoder) => decoder.write_all(data).is_ok(),
        }
    }

    /// The digest of the whole. None where the body is not what its head says.
    pub(super) fn finish(self) -> Option<Digest> {
        let sink = match self.form {
            Form::Plain(sink) => sink,
            Form::Gzip(decoder) => decoder.finish().ok()?,
        };
        if sink.scanner.is_some_and(|scanner| !scanner.is_whole()) {
            return None;
        }
        sink.hash.finalize().first_chunk().copied()
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(data.len() as u64);
        self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        match &mut self.scanner {
            None => self.hash.update(data),
            Some(scanner) => {
                for piece in data.chunks(PIECE) {
                    scanner.feed(piece, &mut self.kept);
                    self.hash.update(&self.kept);
                    self.kept.clear();
                }
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Gzip,
    Other,
}

fn coding(headers: &HeaderMap) -> Coding {
    let mut lines = headers.get_all(header::CONTENT_ENCODING).iter();
    match (lines.next().map(HeaderValue::as_bytes), lines.next()) {
        (None, _) => Coding::None,
        (Some(name), None) if name.eq_ignore_ascii_case(b"identity") => Coding::None,
        (Some(name), None) if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") => {
            Coding::Gzip
        }
        (Some(_), _) => Coding::Other,
    }
}

/// `application/json`, and what ends in `+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let ending = essence.len().checked_sub(5).and_then(|at| essence.get(at..)).unwrap_or_default();
    essence.eq_ignore_ascii_case(b"application/json") || ending.eq_ignore_ascii_case(b"+json")
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use flate2::{Compression, GzBuilder};
    use http::{HeaderMap, HeaderName, StatusCode};

    use super::{BodyDigest, Digest};
    use crate::{
        cache::{observe::scan::Ignored, rfc9111::ResponseHead},
        config::Advise,
    };

    fn digest(fields: &[(&str, &str)], status: u16, body: &[u8]) -> Option<Digest> {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let head = ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: &headers };
        let mut digest = BodyDigest::new(&head, 1 << 20, &Arc::new(Ignored::new(&Advise::default())));
        body.chunks(5).all(|piece| digest.push(piece)).then(|| digest.finish()).flatten()
    }

    fn gzip(body: &[u8], time: u32) -> Vec<u8> {
        let mut encoder = GzBuilder::new().mtime(time).write(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const GZIP: (&str, &str) = ("content-encoding", "gzip");

    #[test]
    fn equal_answers_are_equal_however_they_were_sent() {
        let (one, other) = (&br#"{"timestamp":1,"a":2}"#[..], &br#"{"timestamp":9,"a":2}"#[..]);

        assert_eq!(digest(&[JSON], 200, one), digest(&[JSON], 200, other));
        assert_eq!(digest(&[JSON], 200, one), digest(&[JSON, GZIP], 200, &gzip(other, 77)));
        assert_eq!(digest(&[GZIP], 200, &gzip(one, 1)), digest(&[GZIP], 200, &gzip(one, 2)));
        assert!(digest(&[JSON], 200, one).is_some());
    }

    #[test]
    fn what_differs_to_a_client_differs() {
        let body = &br#"{"timestamp":1}"#[..];
        let all = [
            digest(&[], 200, body),
            digest(&[], 404, body),
            digest(&[], 200, br#"{"timestamp":2}"#),
            digest(&[("location", "/a")], 302, b""),
            digest(&[("location", "/b")], 302, b""),
            digest(&[("content-encoding", "br"), JSON], 200, body),
            digest(&[("content-type", "application/problem+json")], 200, br#"{"a":1}"#),
            digest(&[], 200, b""),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(one.is_some(), "{at}");
            let same = all.iter().filter(|other| *other == one).count();
            // The second body is the same text in another coding, which nobody can read here.
            assert_eq!(same, if at == 0 || at == 5 { 2 } else { 1 }, "{at}");
        }
    }

    #[test]
    fn bodies_that_break_their_word_have_no_digest() {
        let mut cut = gzip(b"some text that was packed", 0);
        cut.truncate(cut.len() - 9);

        assert_eq!(digest(&[GZIP], 200, &cut), None);
        assert_eq!(digest(&[GZIP], 200, b"no gzip at all"), None);
        assert_eq!(digest(&[JSON], 200, b"{\"a\":"), None);
        assert_eq!(digest(&[], 200, &vec![0; (1 << 20) + 1]), None);
        assert_eq!(digest(&[GZIP], 200, &gzip(&vec![0; 9 << 20], 0)), None, "a bomb");
    }
}
