//! Header fields in wire form: lines that are written once and sent often, and lines that are written straight into an
//! outgoing head.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Fields that only the writer of a head may write: they describe one connection, not the message.
pub(crate) fn is_of_connection(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING || *name == header::CONNECTION
}

/// Field lines ready to be sent. A clone costs a reference count.
#[derive(Clone, Debug)]
pub struct Encoded {
    lines: Bytes,
    has_date: bool,
}

impl Encoded {
    /// Encodes the fields of a head, without those that describe a connection.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut lines = BytesMut::new();
        for (name, value) in headers {
            if !is_of_connection(name) {
                lines.line(name.as_str(), value.as_bytes());
            }
        }
        Self { lines: lines.freeze(), has_date: headers.contains_key(header::DATE) }
    }

    /// Takes lines that were encoded before; `has_date` tells whether `Date` is among them.
    #[must_use]
    pub const fn from_lines(lines: Bytes, has_date: bool) -> Self {
        Self { lines, has_date }
    }

    /// The lines, each with its CRLF.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.lines
    }

    /// True when `Date` is among them.
    #[must_use]
    pub const fn has_date(&self) -> bool {
        self.has_date
    }

    /// Adds the fields to a map, for protocols that have no lines.
    pub fn append_to(&self, headers: &mut HeaderMap) {
        for line in self.lines.split(|byte| *byte == b'\n') {
            let mut parts = line.strip_suffix(b"\r").unwrap_or(line).splitn(2, |byte| *byte == b':');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
            let value = HeaderValue::from_bytes(value.trim_ascii());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
                headers.append(name, value);
            }
        }
    }
}

/// Takes single fields on their way into a head. Names are lower case, and neither name nor value holds a line end.
pub trait Lines {
    /// Adds one field.
    fn line(&mut self, name: &str, value: &[u8]);
}

impl Lines for BytesMut {
    fn line(&mut self, name: &str, value: &[u8]) {
        // One check of the capacity instead of four.
        self.reserve(name.len() + value.len() + 4);
        self.put_slice(name.as_bytes());
        self.put_slice(b": ");
        self.put_slice(value);
        self.put_slice(b"\r\n");
    }
}

impl Lines for HeaderMap {
    fn line(&mut self, name: &str, value: &[u8]) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            self.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::Encoded;

    #[test]
    fn what_is_encoded_reads_back_as_the_same_fields_without_those_of_the_connection() {
        let mut headers = HeaderMap::new();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        headers.append(header::VARY, HeaderValue::from_static("Accept: x"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        let encoded = Encoded::of(&headers);

        let mut read = HeaderMap::new();
        encoded.append_to(&mut read);

        headers.remove(header::CONTENT_LENGTH);
        assert_eq!(read, headers);
        assert!(!encoded.has_date());
    }
}
