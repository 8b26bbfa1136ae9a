//! Entity tags (RFC 9110 section 8.8.3): what one is, and the two ways to compare them.

use http::{HeaderMap, header};

/// Whether the bytes are one well-formed entity tag: `"..."` or `W/"..."`, quoted, the `W` in upper case.
#[must_use]
pub fn is_etag(text: &[u8]) -> bool {
    let inside = opaque_part(text).strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inside.is_some_and(|inside| inside.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)))
}

/// Both are well-formed, neither is weak, and the bytes are equal.
#[must_use]
pub fn strong_match(one: &[u8], other: &[u8]) -> bool {
    one == other && is_etag(one) && !one.starts_with(b"W/")
}

/// Both are well-formed and equal but for weakness.
#[must_use]
pub fn weak_match(one: &[u8], other: &[u8]) -> bool {
    is_etag(one) && is_etag(other) && opaque_part(one) == opaque_part(other)
}

fn opaque_part(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The entity tag of a head, if it has exactly one that is well-formed.
pub(super) fn stored_etag(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(header::ETAG).iter();
    let line = lines.next()?.as_bytes();
    (lines.next().is_none() && is_etag(line)).then_some(line)
}

/// Whether a list such as `If-None-Match` has a tag that weakly matches. An unquoted tag matches nothing;
/// what follows an error is not read.
pub(super) fn list_has(list: &[u8], tag: &[u8]) -> bool {
    members(list).any(|listed| weak_match(listed, tag))
}

/// The tags of a list, up to the first error.
pub(super) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let skipped = rest.iter().take_while(|byte| matches!(byte, b',' | b' ' | b'\t')).count();
        rest = rest.get(skipped..)?;
        let prefix = if rest.starts_with(b"W/\"") { 3 } else { 1 };
        if prefix == 1 && !rest.starts_with(b"\"") {
            return None;
        }
        let length = rest.iter().skip(prefix).position(|byte| *byte == b'"')?;
        let (listed, tail) = rest.split_at_checked(prefix + length + 1)?;
        rest = tail;
        Some(listed)
    })
}

#[cfg(test)]
mod tests {
    use super::{is_etag, list_has, strong_match, weak_match};

    #[test]
    fn only_quoted_tags_are_tags() {
        for tag in ["\"\"", "\"a\"", "W/\"a\"", "\"a,b\"", "\"\u{fc}\""] {
            assert!(is_etag(tag.as_bytes()), "{tag}");
        }
        for tag in
            ["", "a", "\"", "\"a", "a\"", "w/\"a\"", "W\"a\"", "W\\\"a\"", "\"a\"b\"", "\"a b\"", "\"a\" "]
        {
            assert!(!is_etag(tag.as_bytes()), "{tag}");
        }
    }

    #[test]
    fn weakness_counts_only_in_the_strong_comparison() {
        for (one, other, strong, weak) in [
            ("\"a\"", "\"a\"", true, true),
            ("\"a\"", "W/\"a\"", false, true),
            ("W/\"a\"", "W/\"a\"", false, true),
            ("\"a\"", "\"b\"", false, false),
            ("a", "a", false, false),
        ] {
            assert_eq!(strong_match(one.as_bytes(), other.as_bytes()), strong, "{one} {other}");
            assert_eq!(weak_match(one.as_bytes(), other.as_bytes()), weak, "{one} {other}");
        }
    }

    #[test]
    fn a_tag_is_found_anywhere_in_a_list() {
        for list in ["\"a\"", "\"x\", \"a\"", "W/\"a\" ,\"x\"", ", ,\"a\"", "\"x,\",\"a\"", "\"x\"\"a\""] {
            assert!(list_has(list.as_bytes(), b"\"a\""), "{list}");
        }
        for list in ["", "a", "\"x\"", "a, \"a\"", "\"x\", a", "\"a", "w/\"a\""] {
            assert!(!list_has(list.as_bytes(), b"\"a\""), "{list}");
        }
    }
}
