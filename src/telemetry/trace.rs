//! Trace context (W3C Trace Context, level 1): `traceparent` read and written, and request ids.
//!
//! The identifiers need to be distinct, not secret: they come from a generator per thread, seeded once from the
//! operating system's randomness.

use std::{
    cell::Cell,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
};

const SAMPLED: u8 = 0x01;
const HEADER_LENGTH: usize = 55;

/// The 16 bytes that name a trace; written as 32 hexadecimal digits. All zero means none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// The digits, without allocating.
    #[must_use]
    pub fn digits(&self) -> Digits<32> {
        Digits::of(&self.0)
    }

    /// True for the absent id.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits().as_str())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case hexadecimal digits, or a `traceparent` made of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digits<const N: usize>([u8; N]);

impl<const N: usize> Digits<N> {
    fn of(bytes: &[u8]) -> Self {
        let mut digits = [b'0'; N];
        write_hex(&mut digits, bytes);
        Self(digits)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As bytes, for header values.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The trace a request belongs to and the span that is its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    span: [u8; 8],
    flags: u8,
}

/// What a span is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanIds {
    /// The span; zero for none yet.
    pub id: [u8; 8],
    /// The span that it is a part of.
    pub parent: Option<[u8; 8]>,
    /// Whether it is wanted.
    pub is_sampled: bool,
}

impl SpanIds {
    /// A span of its own below the one that a `traceparent` names.
    #[must_use]
    pub fn below(trace: &Trace) -> Self {
        Self { id: random().to_be_bytes(), parent: Some(trace.span), is_sampled: trace.flags & SAMPLED != 0 }
    }
}

impl Trace {
    /// The same trace, marked as not sampled.
    #[must_use]
    pub const fn unsampled(self) -> Self {
        Self { flags: 0, ..self }
    }

    /// The ids of the span of this trace, below `parent`.
    #[must_use]
    pub fn span_below(&self, parent: Option<&Self>) -> SpanIds {
        SpanIds {
            id: self.span,
            parent: parent.map(|parent| parent.span),
            is_sampled: self.flags & SAMPLED != 0,
        }
    }

    /// A new trace. Its request id is the same 32 digits: [`TraceId::digits`]. It is marked as sampled, because a
    /// backend that makes its own traces would otherwise record nothing for requests that come through here.
    #[must_use]
    pub fn fresh() -> Self {
        let (high, low) = (random(), random());
        let mut id = [0; 16];
        id.iter_mut()
            .zip(high.to_be_bytes().into_iter().chain(low.to_be_bytes()))
            .for_each(|(to, from)| *to = from);
        Self { id: TraceId(id), span: random().to_be_bytes(), flags: SAMPLED }
    }

    /// Reads a `traceparent`; a malformed one counts as absent (section 3.2.2 of the specification).
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (fixed, rest) = header.split_at_checked(HEADER_LENGTH)?;
        let [v1, v2, b'-', ids @ ..] = fixed else { return None };
        let version = read_hex::<1>(&[*v1, *v2])?;
        let known = version == [0];
        if version == [0xff] || (known && !rest.is_empty()) || !(rest.is_empty() || rest.starts_with(b"-")) {
            return None;
        }
        let mut fields = ids.split(|byte| *byte == b'-');
        let (id, span, flags) = (fields.next()?, fields.next()?, fields.next()?);
        let (id, span, [flags]) = (read_hex::<16>(id)?, read_hex::<8>(span)?, read_hex::<1>(flags)?);
        let valid = fields.next().is_none() && id != [0; 16] && span != [0; 8];
        valid.then_some(Self { id: TraceId(id), span, flags: flags & SAMPLED })
    }

    /// The same trace with a span id of our own, for the next hop.
    #[must_use]
    pub fn next_hop(self) -> Self {
        Self { span: random().to_be_bytes(), ..self }
    }

    /// The `traceparent` header of this trace and span.
    #[must_use]
    pub fn header(&self) -> Digits<HEADER_LENGTH> {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (_, ids) = text.split_at_mut(3);
        write_hex(ids, &self.id.0);
        let (_, span) = text.split_at_mut(36);
        write_hex(span, &self.span);
        let (_, flags) = text.split_at_mut(53);
        write_hex(flags, &[self.flags]);
        Digits(text)
    }
}

fn write_hex(to: &mut [u8], bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    for (pair, byte) in to.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            *high = digit(byte >> 4);
            *low = digit(byte & 15);
        }
    }
}

fn read_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    // Upper-case digits are malformed in a traceparent.
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// A number for identifiers, sampling and other chance, never zero: splitmix64 (Steele, Lea, Flood 2014) over a counter per thread.
pub(crate) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
    }
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Trace;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn keeps_the_trace_and_makes_a_new_span_for_the_next_hop() {
        let trace = Trace::parse(GOOD.as_bytes()).unwrap();

        let next = trace.next_hop();

        assert_eq!(trace.header().as_str(), GOOD);
        assert_eq!(next.id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(next.header().as_str(), GOOD);
        assert_eq!(Trace::parse(next.header().as_bytes()), Some(next));
    }

    #[test]
    fn malformed_headers_count_as_absent() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01extra",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
        ] {
            assert_eq!(Trace::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-comes";

        let trace = Trace::parse(later.as_bytes()).unwrap();

        assert_eq!(trace.header().as_str(), GOOD);
    }

    #[test]
    fn fresh_traces_are_distinct_valid_and_sampled() {
        let traces: Vec<_> = (0..1000).map(|_| Trace::fresh()).collect();

        let distinct: HashSet<_> = traces.iter().map(|trace| trace.id).collect();
        assert_eq!(distinct.len(), 1000);
        assert!(traces.iter().all(|trace| Trace::parse(trace.header().as_bytes()) == Some(*trace)));
        assert!(traces.iter().all(|trace| trace.header().as_str().ends_with("-01")));
    }
}
