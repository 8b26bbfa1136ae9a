//! Paths that every hop reads alike, and those that two parsers may read differently.

/// Whether matching, keying and forwarding are sure to mean the same path: it is absolute and has no encoded
/// or doubled `/`, no `\`, no `;`, no control byte, no byte beyond ASCII, no dot segment in any spelling, and
/// every `%` is followed by two hex digits.
#[must_use]
pub fn is_plain_path(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else { return false };
    if is_simple(rest) {
        return true;
    }
    let mut rest = rest;
    let mut segment = Segment::default();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match *byte {
            b'/' => {
                if segment.is_special() {
                    return false;
                }
                segment = Segment::default();
            }
            b'%' => {
                let Some((digits, tail)) = rest.split_first_chunk::<2>() else { return false };
                let Some(decoded) = hex_pair(*digits) else { return false };
                if decoded <= 0x1f || matches!(decoded, b'/' | b'\\' | b';' | 0x7f) {
                    return false;
                }
                rest = tail;
                segment.push(decoded);
            }
            b'\\' | b';' | b'?' | b'#' | 0..=0x20 | 0x7f.. => return false,
            plain => segment.push(plain),
        }
    }
    // The last segment may be empty (a trailing slash), but not a dot segment.
    segment.length == 0 || !segment.is_special()
}

/// Nearly every path: letters, digits, `-`, `_` and single slashes. Saves the closer look on the way of every
/// request.
fn is_simple(rest: &[u8]) -> bool {
    let mut before = b'/';
    rest.iter().all(|byte| {
        let is_simple =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (*byte == b'/' && before != b'/');
        before = *byte;
        is_simple
    })
}

/// What has been seen of the current path segment.
#[derive(Default)]
struct Segment {
    length: usize,
    dots: usize,
}

impl Segment {
    fn push(&mut self, byte: u8) {
        self.length += 1;
        self.dots += usize::from(byte == b'.');
    }

    /// Empty, `.` or `..`.
    fn is_special(&self) -> bool {
        self.length == self.dots && self.length <= 2
    }
}

fn hex_pair(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

#[cfg(test)]
mod tests {
    use super::is_plain_path;

    #[test]
    fn ordinary_paths_are_plain() {
        for path in
            ["/", "/a", "/a/", "/api/user/reputation/u-1", "/a.b/..c/...", "/caf%C3%A9/%20x", "/~u/@x:y,z"]
        {
            assert!(is_plain_path(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn paths_that_two_parsers_may_read_differently_are_not_plain() {
        for path in [
            "",
            "*",
            "a",
            "//",
            "/a//b",
            "/a/.",
            "/a/..",
            "/./a",
            "/../a",
            "/a/%2e/b",
            "/a/%2E%2e",
            "/.%2e/a",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/a;b",
            "/a%3Bb",
            "/a%00",
            "/a%0d",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a b",
            "/a\tb",
            "/\u{e9}",
            "/a?b",
            "/a#b",
        ] {
            assert!(!is_plain_path(path.as_bytes()), "{path:?}");
        }
    }
}
