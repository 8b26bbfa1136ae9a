//! The readings of a path that some server behind us might make, for routes with `deny: true`.
//!
//! Everywhere else a path is its bytes. A denial that looked only at those would be passed by `/%61dmin`, `//admin` or
//! `/x/..;/admin` at a server that decodes, collapses or cuts; so here every path stands for all that it might mean.

use std::collections::HashSet;

use crate::config::{PathSegment, PathTemplate};

/// What a server may do to a path before it looks at it.
#[derive(Clone, Copy, Default)]
struct Habits {
    /// Cuts `;parameters` off segments.
    cuts_parameters: bool,
    /// Takes `\` for `/`.
    is_windows: bool,
    /// Ends the path at a decoded `?` or `#`.
    cuts_query: bool,
    /// Ends the path at NUL.
    cuts_nul: bool,
    /// Takes spaces off segments.
    trims: bool,
}

/// Longer paths are not read in all ways, as each of them costs.
const MOST_READ: usize = 2048;

/// True for a path that is too long to be read in all the ways it could be read in: nothing can be said of it, so it is
/// denied wherever anything is.
pub(super) fn is_unreadable(path: &str) -> bool {
    path.len() > MOST_READ && !is_plain(path)
}

/// Every reading of `path`, in lower case and as segments. A path without anything to read in two ways has one.
pub(super) fn readings(path: &str) -> Vec<Vec<Vec<u8>>> {
    if is_plain(path) {
        return vec![without_empty(&read(path.as_bytes(), Habits::default()))];
    }
    let mut texts = vec![path.as_bytes().to_vec()];
    for _ in 0..2 {
        texts.extend(texts.last().map(|last| decode(last)));
    }
    // Some cut parameters first and decode what is left.
    let cut = read(path.as_bytes(), Habits { cuts_parameters: true, ..Habits::default() }).join(&b'/');
    texts.push(decode(&cut));
    texts.push(cut);
    // `//host/path` and `/\host/path` are a host and a path to those who take targets for references.
    let without_host: Vec<Vec<u8>> = texts.iter().filter_map(|text| after_authority(text)).collect();
    texts.extend(without_host);
    let mut readings = HashSet::new();
    for text in &texts {
        for bits in 0..32_u8 {
            let habits = Habits {
                cuts_parameters: bits & 1 != 0,
                is_windows: bits & 2 != 0,
                cuts_query: bits & 4 != 0,
                cuts_nul: bits & 8 != 0,
                trims: bits & 16 != 0,
            };
            let segments = read(text, habits);
            readings.insert(resolve(&segments, Empty::Collapsed));
            readings.insert(resolve(&segments, Empty::Counts));
            readings.insert(without_empty(&segments));
        }
    }
    readings.into_iter().collect()
}

/// True for a path that every server reads alike.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~'))
        && !path.contains("/.")
        && !path.contains("//")
}

/// The path behind an authority, where a text can be read as one.
fn after_authority(text: &[u8]) -> Option<Vec<u8>> {
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let rest = text.get(2..).filter(|_| text.iter().take(2).all(is_slash))?;
    let end = rest.iter().position(is_slash)?;
    rest.get(end..).map(<[u8]>::to_vec)
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

/// The readings of a path that have the shape of the template, as text; none for a path that cannot be read in all ways.
pub(super) fn matching(template: &PathTemplate, path: &str) -> Vec<String> {
    if is_unreadable(path) {
        return Vec::new();
    }
    let text = |reading: &Vec<Vec<u8>>| {
        let segments = reading.iter().map(|segment| String::from_utf8_lossy(segment));
        segments.fold(String::new(), |text, segment| format!("{text}/{segment}"))
    };
    let mut found: Vec<String> =
        readings(path).iter().filter(|reading| matches(template, reading)).map(text).collect();
    found.sort();
    found
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

fn read(text: &[u8], habits: Habits) -> Vec<Vec<u8>> {
    let until =
        |text: &'_ [u8], is_end: &dyn Fn(&u8) -> bool| text.iter().position(is_end).unwrap_or(text.len());
    let mut end = text.len();
    if habits.cuts_nul {
        end = end.min(until(text, &|byte| *byte == 0));
    }
    if habits.cuts_query {
        end = end.min(until(text, &|byte| matches!(byte, b'?' | b'#')));
    }
    let text = text.get(..end).unwrap_or_default();
    let text = if habits.trims { text.trim_ascii() } else { text };
    text.split(|byte| *byte == b'/' || (habits.is_windows && *byte == b'\\'))
        .map(|segment| {
            let end =
                if habits.cuts_parameters { until(segment, &|byte| *byte == b';') } else { segment.len() };
            let segment = segment.get(..end).unwrap_or_default();
            if habits.trims { segment.trim_ascii() } else { segment }.to_ascii_lowercase()
        })
        .collect()
}

fn without_empty(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    segments.iter().filter(|segment| !segment.is_empty()).cloned().collect()
}

/// What `..` does to an empty segment before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    /// It was collapsed before, so `..` goes one further.
    Collapsed,
    /// It is a segment like any other, and `..` takes it away.
    Counts,
}

/// Resolves dot segments.
fn resolve(segments: &[Vec<u8>], empty: Empty) -> Vec<Vec<u8>> {
    let mut resolved: Vec<Vec<u8>> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        match segment.as_slice() {
            b"." => {}
            b"" if empty == Empty::Collapsed || at == 0 => {}
            b".." => {
                resolved.pop();
            }
            _ => resolved.push(segment.clone()),
        }
    }
    without_empty(&resolved)
}
