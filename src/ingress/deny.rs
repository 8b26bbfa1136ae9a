//! The readings of a path that some server behind us might make, for routes with `deny: true`.
//!
//! Everywhere else a path is its bytes. A denial that looked only at those would be passed by `/%61dmin`, `//admin` or
//! `/x/..;/admin` at a server that decodes, collapses or cuts; so here every path stands for all that it might mean.

use crate::config::{PathSegment, PathTemplate};

/// Every reading of `path`, in lower case and as segments. A path without anything to read in two ways has one.
pub(super) fn readings(path: &str) -> Vec<Vec<Vec<u8>>> {
    if is_plain(path) {
        return vec![without_empty(&read(path.as_bytes(), false, false, false))];
    }
    let mut texts = vec![path.as_bytes().to_vec()];
    for _ in 0..2 {
        if let Some(decoded) = texts.last().map(|last| decode(last))
            && texts.last() != Some(&decoded)
        {
            texts.push(decoded);
        }
    }
    let mut readings: Vec<Vec<Vec<u8>>> = Vec::new();
    for text in &texts {
        for cuts_parameters in [false, true] {
            for is_windows in [false, true] {
                for cuts_query in [false, true] {
                    let reading = read(text, cuts_parameters, is_windows, cuts_query);
                    for candidate in [resolve(&reading), without_empty(&reading)] {
                        if !readings.contains(&candidate) {
                            readings.push(candidate);
                        }
                    }
                }
            }
        }
    }
    readings
}

/// True for a path that every server reads alike.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~'))
        && !path.contains("/.")
}

/// True when the segments of a reading have the shape of the template; the rest of a path may be empty here.
pub(super) fn matches(template: &PathTemplate, reading: &[Vec<u8>]) -> bool {
    let mut segments = reading.iter();
    for wanted in template.segments.iter().filter(|segment| !is_empty_literal(segment)) {
        match wanted {
            PathSegment::Rest(_) => return true,
            PathSegment::Parameter(_) if segments.next().is_some() => {}
            PathSegment::Literal(text)
                if segments.next().is_some_and(|this| this.eq_ignore_ascii_case(text.as_bytes())) => {}
            PathSegment::Parameter(_) | PathSegment::Literal(_) => return false,
        }
    }
    segments.next().is_none()
}

fn is_empty_literal(segment: &PathSegment) -> bool {
    matches!(segment, PathSegment::Literal(text) if text.is_empty())
}

/// One percent-decoding.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok())
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

fn read(text: &[u8], cuts_parameters: bool, is_windows: bool, cuts_query: bool) -> Vec<Vec<u8>> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_end = |byte: &u8| cuts_query && matches!(byte, b'?' | b'#');
    let text = text.split(is_end).next().unwrap_or_default();
    text.trim_ascii()
        .split(|byte| *byte == b'/' || (is_windows && *byte == b'\\'))
        .map(|segment| {
            let segment = if cuts_parameters {
                segment.split(|byte| *byte == b';').next().unwrap_or_default()
            } else {
                segment
            };
            segment.trim_ascii().to_ascii_lowercase()
        })
        .collect()
}

fn without_empty(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    segments.iter().filter(|segment| !segment.is_empty()).cloned().collect()
}

/// Resolves dot segments and collapses empty ones.
fn resolve(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut resolved: Vec<Vec<u8>> = Vec::new();
    for segment in segments {
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => {
                resolved.pop();
            }
            _ => resolved.push(segment.clone()),
        }
    }
    resolved
}
